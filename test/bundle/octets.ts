/** A bundle's octets taken apart by their framing alone, changed, and sealed again with a SHA-256 that is right. */
import { createHash } from "node:crypto";

const HEADER_BYTES = 24;
const RECORD_BYTES = 8;
const END_BYTES = 40;
/** Records that announce a stream: LIVE_UPDATE, LIBXC, XENSTORE. */
const STREAMS = new Set([2, 5, 6]);
const aligned = (length: number): number => Math.ceil(length / 8) * 8;

export interface FoundRecord {
	type: number;
	/** Octets from the start of the bundle to the record, its body, the stream behind it, and what follows both. */
	offset: number;
	body: number;
	stream: number;
	end: number;
}

/** Records of a sound bundle. */
export function recordsOf(octets: Uint8Array): FoundRecord[] {
	const view = new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
	const records: FoundRecord[] = [];
	for (let offset = HEADER_BYTES; offset < octets.length; ) {
		const type = view.getUint32(offset, true);
		const body = offset + RECORD_BYTES;
		const stream = body + aligned(view.getUint32(offset + 4, true));
		const end = STREAMS.has(type) ? stream + aligned(Number(view.getBigUint64(body, true))) : stream;
		records.push({ type, offset, body, stream, end });
		offset = end;
	}
	return records;
}

export const INFO = 1;
export const LIVE_UPDATE = 2;
export const PFNS = 3;
export const PAGES = 4;
export const LIBXC = 5;
export const XENSTORE = 6;
export const END = 0;

export function recordOf(octets: Uint8Array, type: number): FoundRecord {
	const found = recordsOf(octets).find((record) => record.type === type);
	if (!found) throw new Error(`no record ${type}`);
	return found;
}

/** END's SHA-256 made anew; in place. */
export function sealed(octets: Uint8Array): Uint8Array {
	const end = octets.length - END_BYTES;
	octets.set(createHash("sha256").update(octets.subarray(0, end)).digest(), end + RECORD_BYTES);
	return octets;
}

/** A copy with one change, sealed. */
export function withOctets(octets: Uint8Array, change: (copy: Uint8Array, view: DataView) => void): Uint8Array {
	const copy = octets.slice();
	change(copy, new DataView(copy.buffer));
	return sealed(copy);
}

/** The header and these pieces, sealed. */
export function joined(octets: Uint8Array, pieces: readonly Uint8Array[]): Uint8Array {
	return sealed(new Uint8Array(Buffer.concat([octets.subarray(0, HEADER_BYTES), ...pieces])));
}

export const pieceOf = (octets: Uint8Array, { offset, end }: FoundRecord): Uint8Array => octets.subarray(offset, end);
