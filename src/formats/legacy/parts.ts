/** The parts that a legacy image is made of, as read: what its items show, its rules look at and its conversion takes. */
import type { Fields, StreamItem } from "../common/record.ts";
import type { LegacyGuestType, LegacyWidth } from "./layout.ts";

export interface ExtendedBlock {
	readonly id: string;
	readonly data: Uint8Array;
}

export type PartBody =
	| { readonly kind: "xlHeader"; readonly mandatory: number; readonly optional: number; readonly data: Uint8Array }
	| {
			readonly kind: "header";
			readonly width: LegacyWidth;
			readonly guestType: LegacyGuestType;
			readonly p2mSize: bigint;
	  }
	| { readonly kind: "extendedInfo"; readonly width: LegacyWidth; readonly blocks: readonly ExtendedBlock[] }
	| { readonly kind: "frames"; readonly width: LegacyWidth; readonly frames: BigUint64Array }
	/** A long list comes in pieces, of which the first one has the count of all. */
	| {
			readonly kind: "unmapped";
			readonly width: LegacyWidth;
			readonly count: number | undefined;
			readonly frames: BigUint64Array;
	  }
	| PagesBody
	| {
			readonly kind: "vcpuInfo";
			readonly maxId: number;
			readonly bitmap: BigUint64Array;
			/** Ids of the bits that are set, ascending. */
			readonly online: readonly number[];
	  }
	/** One HVM parameter; `index` is its number in HVM_PARAMS. */
	| { readonly kind: "param"; readonly index: number; readonly padding: number; readonly value: bigint }
	| {
			readonly kind: "tsc";
			readonly mode: number;
			readonly nsec: bigint;
			readonly khz: number;
			readonly incarnation: number;
	  }
	| { readonly kind: "toolstack"; readonly width: LegacyWidth; readonly data: Uint8Array }
	/** A chunk that is its type alone. */
	| { readonly kind: "marker" }
	/** What all PAGES so far together say. */
	| { readonly kind: "end"; readonly pages: Fields }
	| { readonly kind: "magicPfns"; readonly pfns: readonly bigint[] }
	| { readonly kind: "hvmContext"; readonly data: Uint8Array }
	| { readonly kind: "qemu"; readonly signature: string; readonly data: Uint8Array }
	| { readonly kind: "vcpuBasic" | "vcpuExtended"; readonly id: number; readonly data: Uint8Array }
	| { readonly kind: "vcpuXsave"; readonly id: number; readonly mask: bigint; readonly data: Uint8Array }
	| { readonly kind: "sharedInfo"; readonly guestWidth: 4 | 8; readonly data: Uint8Array }
	/** Another checkpoint begins: no octets of its own, no item. */
	| { readonly kind: "checkpoint" }
	| { readonly kind: "tail" };

export interface PagesBody {
	readonly kind: "pages";
	readonly width: LegacyWidth;
	/** Each page's entry, its low 32 bits: type and PFN. */
	readonly low: Uint32Array;
	/** The high ones, of a 64-bit image; zero in every valid one. */
	readonly high: Uint32Array | undefined;
	/** Pages that have contents. */
	readonly dataCount: number;
	/** Those of them that are all zero. */
	readonly zeroCount: number;
	/** The contents, if they were to be kept. */
	readonly contents: Uint8Array | undefined;
	/** SHA-256 of each, if they were to be hashed. */
	readonly hashes: readonly string[] | undefined;
}

export interface LegacyPart extends Pick<StreamItem, "kind" | "name" | "type" | "offset" | "length" | "octets"> {
	readonly body: PartBody;
}
