/**
 * Byte order on the host's side: a whole stream from one order to the other, by the schema alone. The core turns a stream as
 * it opens it (assembly/endian.ts); this is for those who show one, and for who writes one.
 *
 * Happy path: a copy in which every number of more than an octet is turned. Unhappy: a stream that does not hold together is
 * turned as far as its lengths and counts lead, and nothing throws; who reads it says what is wrong.
 */
import { placeParts } from "./decode.ts";
import { alignUp, type Struct, scalarBytes } from "./layout.ts";
import { heads, IMAGE_HEADER_BYTES, RECORD_HEADER_BYTES, type RecordDef, recordByType, structs } from "./schema.ts";

const OPTIONS_OFFSET = 16;
const recordTypes = { section: 0x4000003e, index: 0x4000003f } as const;
const { Section, Index } = heads;
const { IndexEntry, Run } = structs;

function reverse(octets: Uint8Array, at: number, width: number): void {
	for (let low = at, high = at + width - 1; low < high; low++, high--) {
		const octet = octets[low] as number;
		octets[low] = octets[high] as number;
		octets[high] = octet;
	}
}

/** `count` numbers of `width` octets, one after the other. */
function reverseAll(octets: Uint8Array, at: number, width: number, count: number): void {
	if (width > 1) for (let i = 0; i < count; i++) reverse(octets, at + i * width, width);
}

function turnRows(octets: Uint8Array, struct: Struct, at: number, rows: number): void {
	const numbers = struct.fields.filter(({ type }) => type !== "u8");
	for (let row = 0; row < rows; row++)
		for (const { offset, type, length } of numbers)
			reverseAll(octets, at + row * struct.size + offset, scalarBytes[type], length);
}

/** Reads a number that may still stand in the other order. */
function read(octets: Uint8Array, at: number, width: 2 | 4 | 8, isLittle: boolean): number {
	const view = new DataView(octets.buffer, octets.byteOffset);
	if (width === 2) return view.getUint16(at, isLittle);
	return width === 4 ? view.getUint32(at, isLittle) : Number(view.getBigUint64(at, isLittle));
}

/** Chunks of a bulk table, from `at` to `end`; FORMAT.md, "Chunks". */
function turnChunks(octets: Uint8Array, at: number, end: number, elementBytes: number, isLittle: boolean): void {
	for (let header = at; header + 8 <= end; ) {
		const form = octets[header];
		const payload = header + 8;
		const bytes = Math.min(read(octets, header + 4, 4, isLittle), end - payload);
		reverse(octets, header + 2, 2);
		reverse(octets, header + 4, 4);
		if (form === 3) reverseAll(octets, payload, elementBytes, Math.floor(bytes / elementBytes));
		else if (form === 2 && bytes >= 8) reverse(octets, payload, 8);
		else if (form === 1 && bytes >= 8) {
			const runs = Math.min(read(octets, payload, 4, isLittle), Math.floor((bytes - 8) / (elementBytes + 2)));
			reverse(octets, payload, 4);
			const values = elementBytes === 8 ? 8 * runs : 0;
			reverseAll(octets, payload + 8, elementBytes, values / 8);
			reverseAll(octets, payload + 8 + values, 2, runs);
		}
		header = payload + bytes;
	}
}

/**
 * Turns a record's body where it stands.
 * @param isLittle the order in which it stands now
 */
export function turnBody(def: RecordDef, body: Uint8Array, isLittle: boolean): void {
	if (def.head && body.length < def.head.size) return;
	if (!isLittle && def.head) turnRows(body, def.head, 0, 1);
	// Where the parts stand is the head's to say, in the order that this side reads.
	const parts = placeParts(def, body);
	if (isLittle && def.head) turnRows(body, def.head, 0, 1);
	for (const { part, offset, length, rowsOffset, rowCount } of parts) {
		if (part.kind === "chunks") turnChunks(body, offset, offset + length, part.row.size, isLittle);
		else {
			turnRows(body, Run, offset, (rowsOffset - offset) / Run.size);
			turnRows(body, part.row, rowsOffset, rowCount);
		}
	}
}

/** Turns all records from `octets`'s own order to the other one, in place. Returns where each begins. */
function turnRecords(octets: Uint8Array, isLittle: boolean): { type: number; at: number; length: number }[] {
	const records: { type: number; at: number; length: number }[] = [];
	for (let at = IMAGE_HEADER_BYTES; at + RECORD_HEADER_BYTES <= octets.length; ) {
		const type = read(octets, at, 4, isLittle);
		const length = read(octets, at + 4, 4, isLittle);
		reverse(octets, at, 4);
		reverse(octets, at + 4, 4);
		const body = at + RECORD_HEADER_BYTES;
		if (length > octets.length - body) break;
		const def = recordByType(type);
		if (def) turnBody(def, octets.subarray(body, body + length), isLittle);
		records.push({ type, at, length });
		if (type === 0) break;
		at = body + alignUp(length, 8);
	}
	return records;
}

function orderOf(stream: Uint8Array): "little" | "big" {
	return stream.length > OPTIONS_OFFSET + 1 && ((stream[OPTIONS_OFFSET + 1] as number) & 1) === 1 ? "big" : "little";
}

/** A stream in little-endian order, itself if it is; its checksums stay those of the octets that it came as. */
export function toLittleEndian(stream: Uint8Array): Uint8Array {
	if (orderOf(stream) === "little") return stream;
	const octets = stream.slice();
	octets[OPTIONS_OFFSET + 1] = (octets[OPTIONS_OFFSET + 1] as number) & ~1;
	turnRecords(octets, false);
	return octets;
}

/**
 * A little-endian stream in big-endian order, its checksums made anew.
 * @param hash XXH3-64, of which checksums are made; without it they stay the numbers that they were
 */
export function toBigEndian(stream: Uint8Array, hash?: (octets: Uint8Array) => bigint): Uint8Array<ArrayBuffer> {
	const octets = new Uint8Array(stream);
	octets[OPTIONS_OFFSET + 1] = (octets[OPTIONS_OFFSET + 1] as number) | 1;
	const records = turnRecords(octets, true);
	if (!hash) return octets;
	const view = new DataView(octets.buffer, octets.byteOffset);
	const at = (struct: Struct, name: string) => struct.fields.find((field) => field.name === name)?.offset as number;
	const hashes: bigint[] = [];
	for (const { type, at: record, length } of records) {
		const body = record + RECORD_HEADER_BYTES;
		if (type === recordTypes.section && length >= Section.size) {
			const first = body + alignUp(length, 8);
			const bytes = Number(view.getBigUint64(body + at(Section, "length")));
			hashes.push(hash(octets.subarray(first, Math.min(first + bytes, octets.length))));
			view.setBigUint64(body + at(Section, "hash"), hashes.at(-1) as bigint);
		} else if (type === recordTypes.index && length >= Index.size) {
			const entries = body + Index.size;
			hashes.slice(0, Math.floor((length - Index.size) / IndexEntry.size)).forEach((sum, i) => {
				view.setBigUint64(entries + i * IndexEntry.size + at(IndexEntry, "hash"), sum);
			});
			view.setBigUint64(body + at(Index, "hash"), hash(octets.subarray(entries, body + length)));
		}
	}
	return octets;
}
