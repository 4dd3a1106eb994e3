/**
 * What every reader of Xen's formats yields: a row of items that, put end to end, are the stream. A header, a record, what
 * follows the end. Layers that lie within each other are flattened: `layer` says whose item it is.
 */

/** Formats, from the outside in. A file of `xl save` holds the first three; a bundle holds xlu, libxc and xenstore. */
export type Layer = "xl" | "libxl" | "libxc" | "legacy" | "xenstore" | "bundle" | "xlu";

/** What JSON can hold; 64-bit numbers are numbers up to 2^53 and strings of digits above. Octets are hexadecimal strings. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json | undefined };
export type Fields = { readonly [key: string]: Json | undefined };

export interface StreamItem {
	/** 0, 1, ... in the order of the stream, through all layers. */
	readonly index: number;
	readonly layer: Layer;
	readonly kind: "header" | "record" | "tail";
	/** Record type; null for headers and tails. */
	readonly type: number | null;
	/** The specification's name, `header`, `tail`, or `optional 0x...` for an optional record that is not known. */
	readonly name: string;
	/** Octets from the start of the stream to the item. */
	readonly offset: number;
	/** Octets of the body, without the record's header and padding; of a header or tail all of it. */
	readonly length: number;
	/** Byte order of the item's fields. */
	readonly isLittle: boolean;
	/** The item as it stands: header, body, padding. Undefined where the contents of pages were not to be kept. */
	readonly octets: Uint8Array | undefined;
	/** The body decoded. Made when it is asked for. */
	readonly fields: Fields;
	/** Of PAGE_DATA: what it names. */
	readonly pages?: PageList | undefined;
}

/** PFNs with their types, in the order of their record. */
export interface PageList {
	readonly pfns: Float64Array;
	/** 4-bit types. */
	readonly types: Uint8Array;
	/** Octets from the start of the stream to the contents of those that have any, one after the other. */
	readonly contentsOffset: number;
}

/**
 * What to do with the contents of pages, nearly all of an image: count and drop them, hash each, hand them out, or pass over
 * them without a look.
 */
export type PageContents = "summary" | "hash" | "keep" | "skip";

/** An item as JSON has it, from which `encode` makes its octets again. */
export interface EncodableItem {
	readonly layer: Layer;
	readonly kind: StreamItem["kind"];
	readonly type: number | null;
	readonly name: string;
	readonly isLittle: boolean;
	readonly fields: Fields;
}
