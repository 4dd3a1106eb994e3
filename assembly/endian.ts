/**
 * Byte order (F1). A big-endian stream is brought to little-endian in place, record by record as open comes to them, by the
 * schema's own tables; everything behind it reads one order. A little-endian stream pays for none of this.
 *
 * A record is turned before its shape is checked, as far as its counts reach into it: what does not fit is left as it is,
 * and the shape check refuses it by the same rules as in the other order. Octets are octets in both: texts, UUIDs, FPU
 * states, XSAVE areas, HVM contexts, and the differences of a PACKED chunk.
 */
import {
	CHUNK_ENTRY_COUNT_OFFSET,
	CHUNK_HEADER_BYTES,
	CHUNK_PAYLOAD_BYTES_OFFSET,
	FORM_LITERAL,
	FORM_PACKED,
	FORM_RUNS,
	RUNS_PREFIX_BYTES,
} from "./extent/chunk";
import * as L from "./layout.gen";
import {
	bodyBytes,
	bodyOf,
	chunkBytesField,
	defAt,
	defHeadBytes,
	defPartCount,
	partAt,
	partKind,
	partRowBytes,
	sparseRows,
	sparseRuns,
} from "./record";

function turn16(at: usize): void {
	store<u16>(at, bswap<u16>(load<u16>(at)));
}
function turn32(at: usize): void {
	store<u32>(at, bswap<u32>(load<u32>(at)));
}
function turn64(at: usize): void {
	store<u64>(at, bswap<u64>(load<u64>(at)));
}

/** `count` numbers of `width` octets each, one after the other. */
function turnNumbers(at: usize, width: u32, count: u32): void {
	const end = at + <usize>count * width;
	if (width == 8) for (; at < end; at += 8) turn64(at);
	else if (width == 4) for (; at < end; at += 4) turn32(at);
	else for (; at < end; at += 2) turn16(at);
}

/** The numbers of `rows` structures: where they are and how long is the schema's. */
function turnRows(list: u32, at: usize, rowBytes: u32, rows: u32): void {
	if (list == L.NO_LIST) return;
	const entries = load<u32>(L.NUMBER_LISTS + list * 4);
	for (let row: u32 = 0; row < rows; row++, at += rowBytes) {
		for (let i: u32 = 0; i < entries; i++) {
			const entry = L.NUMBER_LISTS + (list + 1 + i * 3) * 4;
			turnNumbers(at + load<u32>(entry), load<u32>(entry, 4), load<u32>(entry, 8));
		}
	}
}

/** Numbers of a chunk's header and payload; `left` octets are there from the header on. Returns what the chunk takes. */
function turnChunk(header: usize, elementBytes: u32, left: u32): u32 {
	turn16(header + CHUNK_ENTRY_COUNT_OFFSET);
	turn32(header + CHUNK_PAYLOAD_BYTES_OFFSET);
	const form = <u32>load<u8>(header);
	const payload = header + CHUNK_HEADER_BYTES;
	const bytes = min<u32>(load<u32>(header, CHUNK_PAYLOAD_BYTES_OFFSET), left - CHUNK_HEADER_BYTES);
	if (form == FORM_LITERAL) {
		if (elementBytes == 8) turnNumbers(payload, 8, bytes >>> 3);
	} else if (form == FORM_PACKED) {
		if (bytes >= 8) turn64(payload);
	} else if (form == FORM_RUNS && bytes >= RUNS_PREFIX_BYTES) {
		turn32(payload);
		const runs = min<u32>(load<u32>(payload), (bytes - RUNS_PREFIX_BYTES) / (elementBytes + 2));
		const arrays = payload + RUNS_PREFIX_BYTES;
		if (elementBytes == 8) turnNumbers(arrays, 8, runs);
		turnNumbers(elementBytes == 8 ? arrays + (runs << 3) : arrays, 2, runs);
	}
	return CHUNK_HEADER_BYTES + bytes;
}

function turnChunks(at: usize, elementBytes: u32, bytes: u32): void {
	const end = at + bytes;
	while (end - at >= CHUNK_HEADER_BYTES) at += turnChunk(at, elementBytes, <u32>(end - at));
}

/** Type and body length of a record, of which the header is there. */
export function turnHeader(record: usize): void {
	turn32(record);
	turn32(record + 4);
}

/** The body of a record that lies whole in the stream, its header turned. */
export function turnBody(def: u32, record: usize): void {
	const body = bodyOf(record);
	const end = body + bodyBytes(record);
	const head = defHeadBytes(def);
	if (bodyBytes(record) < head) return;
	turnRows(load<u32>(defAt(def), L.DEF_NUMBERS), body, head, 1);
	let from = body + head;
	for (let i: u32 = 0; i < defPartCount(def) && from < end; i++) {
		const part = partAt(def, i);
		const rowBytes = partRowBytes(part);
		const list = load<u32>(part, L.PARTDEF_NUMBERS);
		let left = <u32>(end - from);
		if (partKind(part) == L.PART_CHUNKS) {
			turnChunks(from, rowBytes, min<u32>(left, load<u32>(body + chunkBytesField(head))));
			return;
		}
		let rows: u32 = left / rowBytes;
		if (partKind(part) == L.PART_SPARSE) {
			const runs = min<u32>(sparseRuns(body), left / L.RUN_BYTES);
			turnNumbers(from, 4, runs * (L.RUN_BYTES / 4));
			from += runs * L.RUN_BYTES;
			left -= runs * L.RUN_BYTES;
			rows = min<u32>(sparseRows(body), left / rowBytes);
		} else {
			const mode = load<u32>(part, L.PARTDEF_COUNT_MODE);
			const count = load<u32>(part, L.PARTDEF_COUNT);
			if (mode == L.COUNT_FIXED) rows = min<u32>(rows, count);
			else if (mode == L.COUNT_FIELD) rows = min<u32>(rows, load<u32>(body + count));
		}
		turnRows(list, from, rowBytes, rows);
		from += rows * rowBytes;
		from = body + ((from - body + 7) & ~7);
	}
}

/**
 * Octets of a big-endian stream up to the end of END, by its lengths alone; all of the window where these lead nowhere. For
 * its hash, which is of the octets as they came.
 */
export function bigEndianBytes(stream: usize, bytes: u32): u32 {
	let at: u64 = L.IMAGE_HEADER_BYTES;
	while (at + L.RECORD_HEADER_BYTES <= <u64>bytes) {
		const record = stream + <usize>at;
		const type = bswap<u32>(load<u32>(record));
		const length = bswap<u32>(load<u32>(record, 4));
		at += L.RECORD_HEADER_BYTES + ((<u64>length + 7) & ~7);
		if (type == L.TYPE_END) return <u32>min<u64>(at, bytes);
		if (type != L.TYPE_LU_SECTION || at > <u64>bytes || length < L.SECTION_BYTES) continue;
		const section = bswap<u64>(load<u64>(bodyOf(record), L.SECTION__LENGTH));
		if (section > <u64>bytes) return bytes;
		at += section;
	}
	return bytes;
}
