/**
 * The byte order of a live-update stream, turned round by the schema: record headers, fields of heads and rows, words of
 * chunks. What is octets in the schema (contexts, XSAVE areas, text, differences of packed chunks, the body of a record that is
 * not known) stays. Nothing changes its place or length, so that turning round twice gives the same octets, whatever is
 * damaged. Checksums stay as they are: whoever turns a stream round makes them anew (stream.ts).
 */
import { placeParts } from "../../format/decode.ts";
import { alignUp, type Scalar, type Struct, scalarBytes } from "../../format/layout.ts";
import { type Part, RECORD_HEADER_BYTES, recordByType, structs } from "../../format/schema.ts";
import { CHUNK_FORM } from "../../inspect/extents.ts";
import { viewOf } from "../common/values.ts";

/** Turns `count` scalars round; what lies beyond the end stays. */
function swapScalars(octets: Uint8Array, at: number, type: Scalar, count: number): void {
	const bytes = scalarBytes[type];
	if (bytes === 1) return;
	for (let i = 0; i < count && at + (i + 1) * bytes <= octets.length; i++) {
		octets.subarray(at + i * bytes, at + (i + 1) * bytes).reverse();
	}
}

function swapStruct(octets: Uint8Array, at: number, struct: Struct): void {
	for (const { offset, type, length } of struct.fields) swapScalars(octets, at + offset, type, length);
}

/** @param toLittle whether `octets` is big-endian now */
function swapChunks(octets: Uint8Array, part: Part, toLittle: boolean): void {
	const entry: Scalar = part.row.size === 8 ? "u64" : "u8";
	const view = viewOf(octets);
	/** Lengths, before or after they were turned round. */
	const turned = (at: number, type: "u16" | "u32"): number => {
		const before = type === "u16" ? view.getUint16(at, !toLittle) : view.getUint32(at, !toLittle);
		swapScalars(octets, at, type, 1);
		return before;
	};
	for (let at = 0; at + 8 <= octets.length; ) {
		const form = view.getUint8(at);
		const entryCount = turned(at + 2, "u16");
		const end = at + 8 + turned(at + 4, "u32");
		const payload = octets.subarray(at + 8, end);
		if (form === CHUNK_FORM.runs && payload.length >= 8) {
			const runs = turned(at + 8, "u32");
			swapScalars(payload, 4, "u32", 1);
			swapScalars(payload, 8 + (entry === "u64" ? 0 : 2 * runs), entry, runs);
			swapScalars(payload, 8 + (entry === "u64" ? 8 * runs : 0), "u16", runs);
		} else if (form === CHUNK_FORM.packed) swapScalars(payload, 0, "u64", 1);
		else if (form === CHUNK_FORM.literal) swapScalars(payload, 0, entry, entryCount);
		at = end;
	}
}

/** Turns a body round where it stands. */
function swapBody(type: number, body: Uint8Array, toLittle: boolean): void {
	const def = recordByType(type);
	if (!def || body.length < (def.head?.size ?? 0)) return;
	// The counts of the head say where the parts are.
	const little = toLittle ? body : body.slice();
	if (def.head) swapStruct(body, 0, def.head);
	for (const { part, offset, length, rowsOffset, rowCount } of placeParts(def, little)) {
		const octets = body.subarray(offset, offset + length);
		if (part.kind === "chunks") swapChunks(octets, part, toLittle);
		else {
			for (let at = offset; at < rowsOffset; at += structs.Run.size) swapStruct(body, at, structs.Run);
			for (let i = 0; i < rowCount; i++) swapStruct(body, rowsOffset + i * part.row.size, part.row);
		}
	}
}

/** A record, header and padding included, in the other byte order. */
export function swappedRecord(octets: Uint8Array, toLittle: boolean): Uint8Array {
	const result = octets.slice();
	const view = viewOf(result);
	swapScalars(result, 0, "u32", 2);
	const [type, length] = [0, 4].map((at) => (toLittle ? view : viewOf(octets)).getUint32(at, true)) as [number, number];
	swapBody(type, result.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + length), toLittle);
	return result;
}

/** Octets of a record from its length. */
export const recordBytes = (lengthBytes: number): number =>
	RECORD_HEADER_BYTES + alignUp(lengthBytes, RECORD_HEADER_BYTES);
