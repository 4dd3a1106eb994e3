/**
 * Records as such: headers, the schema's descriptors, and the shape of a body (lengths, counts, padding, reserved
 * fields). Nothing here knows what a record means; everything after `checkShape` may trust counts and lengths.
 */
import { fail } from "./context";
import { CHUNK_OK } from "./extent/chunk";
import { checkChunks } from "./extent/decode";
import {
	COUNT_FIELD,
	COUNT_FIXED,
	DEF_CARDINALITY,
	DEF_HEAD_BYTES,
	DEF_HEAD_TABLE,
	DEF_PART_COUNT,
	DEF_PART_FIRST,
	DEF_RESERVED,
	DEF_SECTION,
	DEF_SINCE,
	DEF_STRIDE,
	DEF_TYPE,
	DEFS,
	EVTCHN_PORTS__ROW_COUNT,
	EVTCHN_PORTS__RUN_COUNT,
	EVTCHN_PORTS__SLOT_COUNT,
	FRAME_SLICE__CHUNK_BYTES,
	FRAME_SLICE__ENTRY_COUNT,
	MAX_BODY_BYTES,
	NO_LIST,
	NONE32,
	P2M_SLICE__CHUNK_BYTES,
	P2M_SLICE__ENTRY_COUNT,
	P2M_SLICE_BYTES,
	PART_BLOB,
	PART_CHUNKS,
	PART_ROWS,
	PART_SPARSE,
	PARTDEF_COUNT,
	PARTDEF_COUNT_MODE,
	PARTDEF_KIND,
	PARTDEF_PER_VCPU,
	PARTDEF_RESERVED,
	PARTDEF_ROW_BYTES,
	PARTDEF_STRIDE,
	PARTDEF_TABLE,
	PARTDEFS,
	RECORD_COUNT,
	RECORD_HEADER_BYTES,
	RESERVED_LISTS,
	RULE_BODY_LENGTH,
	RULE_CHUNK,
	RULE_RESERVED,
	RULE_SLICE,
	RULE_SPARSE,
	RUN_BYTES,
	SLICE_FRAMES,
} from "./layout.gen";

export function recordType(record: usize): u32 {
	return load<u32>(record);
}

export function bodyBytes(record: usize): u32 {
	return load<u32>(record, 4);
}

export function bodyOf(record: usize): usize {
	return record + RECORD_HEADER_BYTES;
}

/** Octets from a record's start to the next one's. Bodies are at most 128 MiB, so this never wraps. */
export function recordBytes(record: usize): u32 {
	return RECORD_HEADER_BYTES + ((bodyBytes(record) + 7) & ~7);
}

/** Index of a record type's descriptor, RECORD_COUNT if the type is unknown. */
export function findDef(type: u32): u32 {
	for (let i: u32 = 0; i < RECORD_COUNT; i++) {
		if (load<u32>(DEFS + i * DEF_STRIDE + DEF_TYPE) == type) return i;
	}
	return RECORD_COUNT;
}

export function defAt(def: u32): usize {
	return DEFS + def * DEF_STRIDE;
}

export function defSection(def: u32): u32 {
	return load<u32>(defAt(def), DEF_SECTION);
}

/** First version of the format that has a record. */
export function defSince(def: u32): u32 {
	return load<u32>(defAt(def), DEF_SINCE);
}

export function defCardinality(def: u32): u32 {
	return load<u32>(defAt(def), DEF_CARDINALITY);
}

export function defHeadBytes(def: u32): u32 {
	return load<u32>(defAt(def), DEF_HEAD_BYTES);
}

export function defHeadTable(def: u32): u32 {
	return load<u32>(defAt(def), DEF_HEAD_TABLE);
}

export function defPartCount(def: u32): u32 {
	return load<u32>(defAt(def), DEF_PART_COUNT);
}

export function partAt(def: u32, index: u32): usize {
	return PARTDEFS + (load<u32>(defAt(def), DEF_PART_FIRST) + index) * PARTDEF_STRIDE;
}

export function partKind(part: usize): u32 {
	return load<u32>(part, PARTDEF_KIND);
}

export function partRowBytes(part: usize): u32 {
	return load<u32>(part, PARTDEF_ROW_BYTES);
}

export function partTable(part: usize): u32 {
	return load<u32>(part, PARTDEF_TABLE);
}

export function partPerVcpu(part: usize): bool {
	return load<u32>(part, PARTDEF_PER_VCPU) != 0;
}

/** Offset in the head of the field that counts a part's rows, NONE32 if no field does. */
export function partCountField(part: usize): u32 {
	return load<u32>(part, PARTDEF_COUNT_MODE) == COUNT_FIELD ? load<u32>(part, PARTDEF_COUNT) : NONE32;
}

/** Sparse parts keep their figures in the first three fields of the head, the same in all of them. */
export function sparseSlots(body: usize): u32 {
	return load<u32>(body, EVTCHN_PORTS__SLOT_COUNT);
}
export function sparseRuns(body: usize): u32 {
	return load<u32>(body, EVTCHN_PORTS__RUN_COUNT);
}
export function sparseRows(body: usize): u32 {
	return load<u32>(body, EVTCHN_PORTS__ROW_COUNT);
}
export const SPARSE_HEAD_BYTES: u32 = 16;

export function sparseRunsAt(body: usize): usize {
	return body + SPARSE_HEAD_BYTES;
}
export function sparseRowsAt(body: usize): usize {
	return body + SPARSE_HEAD_BYTES + sparseRuns(body) * RUN_BYTES;
}
export function runSlot(runs: usize, run: u32): u32 {
	return load<u32>(runs + run * RUN_BYTES);
}
export function runRow(runs: usize, run: u32): u32 {
	return load<u32>(runs + run * RUN_BYTES, 4);
}
export function runRowEnd(body: usize, run: u32): u32 {
	return run + 1 < sparseRuns(body) ? runRow(sparseRunsAt(body), run + 1) : sparseRows(body);
}

/** Row index of a slot, NONE32 if the slot is not used: binary search over the runs. */
export function sparseFind(body: usize, slot: u32): u32 {
	const runs = sparseRunsAt(body);
	let low: u32 = 0;
	let high: u32 = sparseRuns(body);
	while (low < high) {
		const middle = (low + high) >>> 1;
		if (runSlot(runs, middle) <= slot) low = middle + 1;
		else high = middle;
	}
	if (low == 0) return NONE32;
	const row = runRow(runs, low - 1) + (slot - runSlot(runs, low - 1));
	return row < runRowEnd(body, low - 1) ? row : NONE32;
}

/** Rows of a `rows` or `blob` part whose octets begin at `from`, in a body whose shape was checked. */
export function partRows(part: usize, body: usize, from: usize, bodyEnd: usize): u32 {
	const mode = load<u32>(part, PARTDEF_COUNT_MODE);
	if (mode == COUNT_FIXED) return load<u32>(part, PARTDEF_COUNT);
	if (mode == COUNT_FIELD) return load<u32>(body + load<u32>(part, PARTDEF_COUNT));
	return <u32>(bodyEnd - from) / partRowBytes(part);
}

/** Octets of a part in a body whose shape was checked. */
export function partBytes(part: usize, body: usize, from: usize, bodyEnd: usize): u32 {
	const kind = partKind(part);
	if (kind == PART_CHUNKS) return <u32>(bodyEnd - from);
	if (kind == PART_SPARSE) return sparseRuns(body) * RUN_BYTES + sparseRows(body) * partRowBytes(part);
	return partRows(part, body, from, bodyEnd) * partRowBytes(part);
}

/** Address of part `index` in a body whose shape was checked. */
export function partFrom(def: u32, record: usize, index: u32): usize {
	const body = bodyOf(record);
	const end = body + bodyBytes(record);
	let from = body + defHeadBytes(def);
	for (let i: u32 = 0; i < index; i++) {
		from = alignPart(body, from + partBytes(partAt(def, i), body, from, end));
	}
	return from;
}

/** Parts but the last are padded to 8 octets of the body. */
function alignPart(body: usize, end: usize): usize {
	return body + ((end - body + 7) & ~7);
}

function zeros(from: usize, to: usize): usize {
	for (let p = from; p < to; p++) if (load<u8>(p) != 0) return p;
	return 0;
}

function checkReserved(ctx: usize, list: u32, struct: usize): bool {
	if (list == NO_LIST) return true;
	const entries = load<u32>(RESERVED_LISTS + list * 4);
	for (let i: u32 = 0; i < entries; i++) {
		const entry = RESERVED_LISTS + (list + 1 + i * 2) * 4;
		const from = struct + load<u32>(entry);
		const found = zeros(from, from + load<u32>(entry, 4));
		if (found) return fail(ctx, RULE_RESERVED, found, 0, load<u8>(found));
	}
	return true;
}

/** Runs ascend, do not touch, and their rows cover the part exactly; no row is empty, or it would not be in use. */
function checkSparse(ctx: usize, body: usize, rowBytes: u32): bool {
	const runs = sparseRuns(body);
	const rows = sparseRows(body);
	const table = sparseRunsAt(body);
	let nextSlot: u64 = 0;
	for (let i: u32 = 0; i < runs; i++) {
		const entry = table + i * RUN_BYTES;
		const slot = runSlot(table, i);
		const row = runRow(table, i);
		const end = runRowEnd(body, i);
		if (i == 0 && row != 0) return fail(ctx, RULE_SPARSE, entry + 4, 0, row);
		if (end <= row || end > rows) return fail(ctx, RULE_SPARSE, entry + 4, rows, end);
		// A run that touches the one before it would be the same run.
		if (<u64>slot < nextSlot) return fail(ctx, RULE_SPARSE, entry, nextSlot, slot);
		nextSlot = <u64>slot + (end - row) + 1;
		if (nextSlot - 1 > sparseSlots(body)) return fail(ctx, RULE_SPARSE, entry, sparseSlots(body), nextSlot - 1);
	}
	if (runs == 0 && rows != 0) return fail(ctx, RULE_SPARSE, body + EVTCHN_PORTS__ROW_COUNT, 0, rows);
	for (let i: u32 = 0; i < rows; i++) {
		const row = sparseRowsAt(body) + i * rowBytes;
		if (!zeros(row, row + rowBytes)) return fail(ctx, RULE_SPARSE, row, 1, 0);
	}
	return true;
}

/**
 * A body has exactly the length that its head and counts make, its padding and reserved fields are zero, its runs and
 * chunks are well formed. The record lies whole in the stream (the caller has seen to that).
 */
export function checkShape(ctx: usize, def: u32, record: usize): bool {
	const body = bodyOf(record);
	const length = bodyBytes(record);
	const head = defHeadBytes(def);
	if (length > MAX_BODY_BYTES) return fail(ctx, RULE_BODY_LENGTH, 0, MAX_BODY_BYTES, length);
	if (length < head) return fail(ctx, RULE_BODY_LENGTH, 0, head, length);
	if (!checkReserved(ctx, load<u32>(defAt(def), DEF_RESERVED), body)) return false;
	const end = body + length;
	let from = body + head;
	const parts = defPartCount(def);
	for (let i: u32 = 0; i < parts; i++) {
		const part = partAt(def, i);
		const kind = partKind(part);
		const rowBytes = partRowBytes(part);
		// In 64 bits: hostile counts must not wrap.
		let need: u64 = 0;
		if (kind == PART_ROWS || kind == PART_BLOB) {
			if (load<u32>(part, PARTDEF_COUNT_MODE) == COUNT_FIELD || load<u32>(part, PARTDEF_COUNT_MODE) == COUNT_FIXED) {
				need = <u64>partRows(part, body, from, end) * rowBytes;
			} else {
				need = end - from;
				if (need % rowBytes != 0)
					return fail(ctx, RULE_BODY_LENGTH, 0, (need / rowBytes) * rowBytes + (from - body), length);
			}
		} else if (kind == PART_SPARSE) {
			need = <u64>sparseRuns(body) * RUN_BYTES + <u64>sparseRows(body) * rowBytes;
		} else {
			need = load<u32>(body + chunkBytesField(head));
		}
		if (need > <u64>(end - from)) return fail(ctx, RULE_BODY_LENGTH, 0, <u64>(from - body) + need, length);
		const partEnd = from + <usize>need;
		if (kind == PART_SPARSE) {
			if (!checkSparse(ctx, body, rowBytes)) return false;
		} else if (kind == PART_CHUNKS) {
			const entries = load<u32>(body + chunkEntriesField(head));
			if (entries == 0 || entries > SLICE_FRAMES)
				return fail(ctx, RULE_SLICE, body + chunkEntriesField(head), SLICE_FRAMES, entries);
			const result = checkChunks(rowBytes, from, <u32>need, entries);
			const status = <u32>(result >> 32);
			if (status != CHUNK_OK) return fail(ctx, RULE_CHUNK, from + <u32>result, 0, status);
		}
		const list = load<u32>(part, PARTDEF_RESERVED);
		if (list != NO_LIST) {
			const first = kind == PART_SPARSE ? sparseRowsAt(body) : from;
			for (let row = first; row < partEnd; row += rowBytes) {
				if (!checkReserved(ctx, list, row)) return false;
			}
		}
		if (i + 1 < parts) {
			from = alignPart(body, partEnd);
			if (from > end) return fail(ctx, RULE_BODY_LENGTH, 0, from - body, length);
			const found = zeros(partEnd, from);
			if (found) return fail(ctx, RULE_RESERVED, found, 0, load<u8>(found));
		} else {
			from = partEnd;
		}
	}
	if (from != end) return fail(ctx, RULE_BODY_LENGTH, 0, from - body, length);
	return true;
}

/** The two kinds of slice heads differ in length and in where they keep their figures. */
export function chunkEntriesField(head: u32): u32 {
	return head == P2M_SLICE_BYTES ? P2M_SLICE__ENTRY_COUNT : FRAME_SLICE__ENTRY_COUNT;
}
export function chunkBytesField(head: u32): u32 {
	return head == P2M_SLICE_BYTES ? P2M_SLICE__CHUNK_BYTES : FRAME_SLICE__CHUNK_BYTES;
}
