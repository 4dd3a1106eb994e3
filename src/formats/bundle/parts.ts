/** The libxc image that stands within a bundle, as items with offsets from its own start. */
import { alignUp } from "../../format/layout.ts";
import { hex } from "../common/findings.ts";
import { RECORD_ALIGNMENT, RECORD_HEADER_BYTES } from "../common/framing.ts";
import type { Fields, Layer, StreamItem } from "../common/record.ts";
import { viewOf } from "../common/values.ts";
import { bodyFields } from "../libxc/bodies.ts";
import { LIBXC_DOMAIN_HEADER_BYTES, LIBXC_HEADER_BYTES, LIBXC_RECORD, libxcRecordNames } from "../libxc/layout.ts";

/** An item before it has a place in the bundle. */
export type NestedItem = Omit<StreamItem, "index" | "isLittle" | "octets"> & { readonly octets: Uint8Array };

/** The header of a stream within a bundle. */
export function nestedHeader(layer: Layer, octets: Uint8Array, fields: Fields): NestedItem {
	return { layer, kind: "header", type: null, name: "header", offset: 0, length: octets.length, octets, fields };
}

/** A record of a stream within a bundle; its fields are made when they are asked for. */
export function nestedRecord(
	layer: Layer,
	{ type, name, offset, length }: Pick<NestedItem, "type" | "name" | "offset" | "length">,
	octets: Uint8Array,
	decode: (body: Uint8Array) => Fields,
): NestedItem {
	return {
		layer,
		kind: "record",
		type,
		name,
		offset,
		length,
		octets,
		get fields() {
			return decode(octets.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + length));
		},
	};
}

/** Octets of an image's two headers. */
export const LIBXC_HEADERS_BYTES = LIBXC_HEADER_BYTES + LIBXC_DOMAIN_HEADER_BYTES;

/** A record of an image that lies in memory. */
export interface LibxcRecord {
	readonly type: number;
	/** Octets from the start of the image to the record, and to what follows its padding. */
	readonly offset: number;
	readonly end: number;
	readonly body: Uint8Array;
}

/** Records of an image, up to and with END; one that is cut off ends the row. */
export function* libxcRecords(image: Uint8Array): Generator<LibxcRecord> {
	const view = viewOf(image);
	for (let offset = LIBXC_HEADERS_BYTES; offset + RECORD_HEADER_BYTES <= image.length; ) {
		const type = view.getUint32(offset, true);
		const length = view.getUint32(offset + 4, true);
		const start = offset + RECORD_HEADER_BYTES;
		const end = start + alignUp(length, RECORD_ALIGNMENT);
		if (end > image.length) return;
		yield { type, offset, end, body: image.subarray(start, start + length) };
		if (type === LIBXC_RECORD.END) return;
		offset = end;
	}
}

/** Items of an image; what is behind the last whole record is none. */
export function* libxcItems(image: Uint8Array): Generator<NestedItem> {
	if (image.length < LIBXC_HEADERS_BYTES) return;
	const view = viewOf(image);
	yield nestedHeader("libxc", image.subarray(0, LIBXC_HEADERS_BYTES), {
		version: view.getUint32(12),
		type: view.getUint32(LIBXC_HEADER_BYTES, true),
	});
	let guestWidth: 4 | 8 = 8;
	for (const { type, offset, end, body } of libxcRecords(image)) {
		const name = libxcRecordNames[type] ?? `unknown ${hex(type)}`;
		const place = { type, name, offset, length: body.length };
		if (type === LIBXC_RECORD.X86_PV_INFO) guestWidth = body[0] === 4 ? 4 : 8;
		// The one of this record, not of those behind it: fields are made when they are asked for.
		const width = guestWidth;
		yield nestedRecord("libxc", place, image.subarray(offset, end), (octets) => bodyFields(type, octets, true, width));
	}
}
