/**
 * The byte order of single records of a live-update stream (src/format/endian.ts turns whole ones): nothing changes its place
 * or length, so that turning round twice gives the same octets, whatever is damaged. Checksums stay as they are: whoever
 * turns a stream round makes them anew (stream.ts).
 */
import { turnBody } from "../../format/endian.ts";
import { alignUp } from "../../format/layout.ts";
import { RECORD_HEADER_BYTES, recordByType } from "../../format/schema.ts";
import { viewOf } from "../common/values.ts";

/** A record, header and padding included, in the other byte order. */
export function swappedRecord(octets: Uint8Array, toLittle: boolean): Uint8Array {
	const result = octets.slice();
	const view = viewOf(result);
	const [type, length] = [view.getUint32(0, !toLittle), view.getUint32(4, !toLittle)];
	view.setUint32(0, type, toLittle);
	view.setUint32(4, length, toLittle);
	const def = recordByType(type);
	if (def) turnBody(def, result.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + length), !toLittle);
	return result;
}

/** Octets of a record from its length. */
export const recordBytes = (lengthBytes: number): number =>
	RECORD_HEADER_BYTES + alignUp(lengthBytes, RECORD_HEADER_BYTES);
