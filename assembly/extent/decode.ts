/**
 * Chunks into tables, or into runs; chunk.ts has the layout.
 *
 * `checkChunks` says whether a coding is sound, and where it is not. What comes after it, `decodeChunks` and the run
 * cursor, relies on that for meaning but not for safety: each looks at every chunk's frame again, which costs nothing
 * beside 4096 entries, and clamps the runs. A coding that was not checked gives a partial table, never a stray access.
 */

import {
	CHUNK_BAD_BASE,
	CHUNK_BAD_ELEMENT,
	CHUNK_BAD_PADDING,
	CHUNK_BAD_RESERVED,
	CHUNK_BAD_RUN_LENGTH,
	CHUNK_BAD_RUN_SUM,
	CHUNK_ENTRY_COUNT_OFFSET,
	CHUNK_HEADER_BYTES,
	CHUNK_PAYLOAD_BYTES_OFFSET,
	CHUNK_RUN_CARRIES,
	CHUNK_RUN_NOT_MAXIMAL,
	CHUNK_TRAILING,
	CHUNK_WIDTH_NOT_MINIMAL,
	CHUNK_WIDTH_OFFSET,
	chunkBytes,
	chunkEntries,
	chunkFault,
	continuesRun,
	FORM_PACKED,
	FORM_RUNS,
	frameFault,
	loadPacked,
	MFN_MASK,
	PACKED_PREFIX_BYTES,
	RUNS_PREFIX_BYTES,
} from "./chunk";
import { BLOCK_ENTRIES, fillBlocks, fillEntries, fillOctets, OCTETS_STEP, unpackBlocks } from "./lanes";

/** Checks that the octets from `used` to the payload's end are zero. `offset` is the payload's. */
function paddingFault(ptr: usize, offset: u32, used: u32, payloadBytes: u32): u64 {
	for (let at = offset + used; at < offset + payloadBytes; at++) {
		if (load<u8>(ptr + at) != 0) {
			return chunkFault(CHUNK_BAD_PADDING, at);
		}
	}
	return 0;
}

/** Checks a RUNS payload at `offset`, whose frame is sound. */
function runsFault(elementBytes: u32, ptr: usize, offset: u32, entryCount: u32, payloadBytes: u32): u64 {
	const runCount = load<u32>(ptr + offset);
	if (load<u32>(ptr + offset, 4) != 0) {
		return chunkFault(CHUNK_BAD_RESERVED, offset + 4);
	}
	const arrays = offset + RUNS_PREFIX_BYTES;
	const isWide = elementBytes == 8;
	const values = isWide ? arrays : arrays + (runCount << 1);
	const lengths = isWide ? arrays + (runCount << 3) : arrays;
	let left = entryCount;
	// The last entry of the run before, from which the next must not continue.
	let previous: u64 = 0;
	for (let run: u32 = 0; run < runCount; run++) {
		const lengthOffset = lengths + (run << 1);
		const length = <u32>load<u16>(ptr + lengthOffset);
		if (length == 0 || length > left) {
			return chunkFault(CHUNK_BAD_RUN_LENGTH, lengthOffset);
		}
		left -= length;
		if (isWide) {
			const valueOffset = values + (run << 3);
			const value = load<u64>(ptr + valueOffset);
			const rise = (value >>> 63) * <u64>(length - 1);
			if ((value & MFN_MASK) + rise > MFN_MASK) {
				return chunkFault(CHUNK_RUN_CARRIES, valueOffset);
			}
			if (run > 0 && continuesRun(previous, value)) {
				return chunkFault(CHUNK_RUN_NOT_MAXIMAL, valueOffset);
			}
			previous = value + rise;
		} else {
			const valueOffset = values + run;
			const value = <u64>load<u8>(ptr + valueOffset);
			if (run > 0 && value == previous) {
				return chunkFault(CHUNK_RUN_NOT_MAXIMAL, valueOffset);
			}
			previous = value;
		}
	}
	if (left != 0) {
		return chunkFault(CHUNK_BAD_RUN_SUM, lengths);
	}
	return paddingFault(ptr, offset, RUNS_PREFIX_BYTES + runCount * (elementBytes + 2), payloadBytes);
}

/** Checks a PACKED payload at `offset`, whose frame is sound. */
function packedFault(ptr: usize, offset: u32, entryCount: u32, width: u32, payloadBytes: u32): u64 {
	const entries = offset + PACKED_PREFIX_BYTES;
	if (loadPacked(ptr + entries, width) != 0) {
		return chunkFault(CHUNK_BAD_BASE, entries);
	}
	if (width > 1) {
		// One entry that uses its top octet is enough: in a table that needs the width, it is found soon.
		let index: u32 = 1;
		while (index < entryCount && load<u8>(ptr + entries + (index + 1) * width - 1) == 0) {
			index++;
		}
		if (index >= entryCount) {
			return chunkFault(CHUNK_WIDTH_NOT_MINIMAL, offset - CHUNK_HEADER_BYTES + CHUNK_WIDTH_OFFSET);
		}
	}
	return paddingFault(ptr, offset, PACKED_PREFIX_BYTES + entryCount * width, payloadBytes);
}

/**
 * Checks a coded table, all of it, and writes nothing.
 *
 * @param elementBytes 1 or 8
 * @param ptr start of the coding
 * @param len its octets, all of which it must use
 * @param count entries of the table, 0 upwards: any value, it may come from a stream
 * @returns 0 if sound; else a status of chunk.ts in the high half, the fault's offset from `ptr` in the low half
 */
export function checkChunks(elementBytes: u32, ptr: usize, len: u32, count: u32): u64 {
	if (elementBytes != 1 && elementBytes != 8) {
		return chunkFault(CHUNK_BAD_ELEMENT, 0);
	}
	let offset: u32 = 0;
	let remaining = count;
	while (remaining > 0) {
		let fault = frameFault(elementBytes, ptr, len, offset, remaining);
		if (fault != 0) {
			return fault;
		}
		const form = <u32>load<u8>(ptr + offset);
		const width = <u32>load<u8>(ptr + offset, CHUNK_WIDTH_OFFSET);
		const entryCount = <u32>load<u16>(ptr + offset, CHUNK_ENTRY_COUNT_OFFSET);
		const payloadBytes = load<u32>(ptr + offset, CHUNK_PAYLOAD_BYTES_OFFSET);
		offset += CHUNK_HEADER_BYTES;
		if (form == FORM_RUNS) {
			fault = runsFault(elementBytes, ptr, offset, entryCount, payloadBytes);
		} else if (form == FORM_PACKED) {
			fault = packedFault(ptr, offset, entryCount, width, payloadBytes);
		} else {
			fault = paddingFault(ptr, offset, entryCount * elementBytes, payloadBytes);
		}
		if (fault != 0) {
			return fault;
		}
		offset += payloadBytes;
		remaining -= entryCount;
	}
	return offset == len ? 0 : chunkFault(CHUNK_TRAILING, offset);
}

function decodeWideRuns(payload: usize, entryCount: u32, dst: usize): void {
	const runCount = load<u32>(payload);
	let value = payload + RUNS_PREFIX_BYTES;
	let length = value + (runCount << 3);
	let left = entryCount;
	for (const lengthsEnd = length + (runCount << 1); length < lengthsEnd; length += 2) {
		// The clamp keeps runs that nobody checked inside the chunk.
		const entries = min<u32>(<u32>load<u16>(length), left);
		const runEnd = dst + (entries << 3);
		left -= entries;
		// Whole blocks may end in the runs that follow, which are written later, but not behind the chunk.
		if (left >= BLOCK_ENTRIES) fillBlocks(dst, runEnd, load<u64>(value));
		else fillEntries(dst, runEnd, load<u64>(value));
		dst = runEnd;
		value += 8;
	}
}

/** From so many octets on, a fill pays. */
const LONG_OCTET_RUN: u32 = 512;

function decodeOctetRuns(payload: usize, entryCount: u32, dst: usize): void {
	const runCount = load<u32>(payload);
	const lengths = payload + RUNS_PREFIX_BYTES;
	const values = lengths + (runCount << 1);
	let left = entryCount;
	for (let run: u32 = 0; run < runCount; run++) {
		const length = min<u32>(<u32>load<u16>(lengths + (run << 1)), left);
		const value = load<u8>(values + run);
		left -= length;
		// An engine's fill is a call out of the module: for long runs. Short ones may end in those that follow.
		if (length <= LONG_OCTET_RUN && left >= OCTETS_STEP) fillOctets(dst, dst + length, value);
		else memory.fill(dst, value, length);
		dst += length;
	}
}

function decodePacked(payload: usize, entryCount: u32, width: u32, dst: usize): void {
	const base = load<u64>(payload);
	const whole = entryCount & ~(BLOCK_ENTRIES - 1);
	unpackBlocks(payload, whole, width, base, dst);
	for (let i = whole; i < entryCount; i++) {
		store<u64>(dst + (i << 3), base ^ loadPacked(payload + PACKED_PREFIX_BYTES + i * width, width));
	}
}

/**
 * Writes one chunk's entries, for whoever goes over a coding chunk by chunk and has more to do with each.
 *
 * @param header address of a chunk that `frameFault` has just passed
 * @param dst room for its entries, apart from the coding
 */
export function decodeChunk(elementBytes: u32, header: usize, dst: usize): void {
	const form = <u32>load<u8>(header);
	const entryCount = chunkEntries(header);
	const payload = header + CHUNK_HEADER_BYTES;
	if (form == FORM_RUNS) {
		if (elementBytes == 8) decodeWideRuns(payload, entryCount, dst);
		else decodeOctetRuns(payload, entryCount, dst);
	} else if (form == FORM_PACKED) {
		decodePacked(payload, entryCount, <u32>load<u8>(header, CHUNK_WIDTH_OFFSET), dst);
	} else {
		memory.copy(dst, payload, entryCount * elementBytes);
	}
}

/**
 * Writes the table of a coding that `checkChunks` passed. With one that it did not pass, stops at the first chunk whose
 * frame is unsound; never reads beyond the coding nor writes beyond the table.
 *
 * @param elementBytes, ptr, len, count as for `checkChunks`
 * @param dst room for `count` entries, apart from the coding
 */
export function decodeChunks(elementBytes: u32, ptr: usize, len: u32, count: u32, dst: usize): void {
	if (elementBytes != 1 && elementBytes != 8) {
		return;
	}
	let offset: u32 = 0;
	let remaining = count;
	while (remaining > 0 && frameFault(elementBytes, ptr, len, offset, remaining) == 0) {
		const header = ptr + offset;
		const entryCount = chunkEntries(header);
		decodeChunk(elementBytes, header, dst);
		dst += entryCount * elementBytes;
		offset += chunkBytes(header);
		remaining -= entryCount;
	}
}

/**
 * A walk over a coded table by runs, without the table. Lives in the caller's scratch memory, 8-aligned.
 *
 *      0 | value                             | first entry of the run
 *      8 | first           | length          | its index in the table; its entries
 *     16 | status          | ptr             | why the walk ended: CHUNK_OK is the table's end
 *     24 | len             | count           |
 *     32 | offset          | payload         | next chunk's header from ptr; this chunk's payload (address)
 *     40 | chunkFirst      | chunkEntries    | this chunk in the table
 *     48 | position        | run             | next entry, next run, both in this chunk
 *     56 | runCount        |form |width|elem |
 */
@unmanaged
export class RunCursor {
	value: u64;
	first: u32;
	length: u32;
	status: u32;
	ptr: usize;
	len: u32;
	count: u32;
	offset: u32;
	payload: usize;
	chunkFirst: u32;
	chunkEntries: u32;
	position: u32;
	run: u32;
	runCount: u32;
	form: u8;
	width: u8;
	elementBytes: u16;
}

export const RUN_CURSOR_BYTES: u32 = 64;

/**
 * Puts a cursor before the first run of a coding that `checkChunks` passed. One that it did not pass ends the walk at the
 * first chunk or run that is unsound, with `status` set.
 *
 * @param cursor RUN_CURSOR_BYTES of the caller's memory
 * @param elementBytes, ptr, len, count as for `checkChunks`
 */
export function runsOpen(cursor: RunCursor, elementBytes: u32, ptr: usize, len: u32, count: u32): void {
	memory.fill(changetype<usize>(cursor), 0, RUN_CURSOR_BYTES);
	cursor.ptr = ptr;
	cursor.len = len;
	cursor.count = count;
	cursor.elementBytes = <u16>elementBytes;
	if (elementBytes != 1 && elementBytes != 8) {
		cursor.elementBytes = 0;
		runsEnd(cursor, CHUNK_BAD_ELEMENT);
	}
}

/** Ends the walk for good: no chunk is left to open. */
function runsEnd(cursor: RunCursor, status: u32): bool {
	cursor.status = status;
	cursor.position = 0;
	cursor.chunkEntries = 0;
	cursor.chunkFirst = cursor.count;
	return false;
}

function openChunk(cursor: RunCursor): bool {
	const first = cursor.chunkFirst + cursor.chunkEntries;
	const remaining = cursor.count - first;
	if (remaining == 0) {
		return runsEnd(cursor, cursor.status);
	}
	const fault = frameFault(<u32>cursor.elementBytes, cursor.ptr, cursor.len, cursor.offset, remaining);
	if (fault != 0) {
		return runsEnd(cursor, <u32>(fault >>> 32));
	}
	const header = cursor.ptr + cursor.offset;
	cursor.form = load<u8>(header);
	cursor.width = load<u8>(header, CHUNK_WIDTH_OFFSET);
	cursor.chunkFirst = first;
	cursor.chunkEntries = <u32>load<u16>(header, CHUNK_ENTRY_COUNT_OFFSET);
	cursor.payload = header + CHUNK_HEADER_BYTES;
	cursor.offset += CHUNK_HEADER_BYTES + load<u32>(header, CHUNK_PAYLOAD_BYTES_OFFSET);
	cursor.position = 0;
	cursor.run = 0;
	cursor.runCount = <u32>cursor.form == FORM_RUNS ? load<u32>(cursor.payload) : 0;
	return true;
}

function nextCodedRun(cursor: RunCursor): bool {
	const run = cursor.run;
	const arrays = cursor.payload + RUNS_PREFIX_BYTES;
	if (run >= cursor.runCount) {
		return runsEnd(cursor, CHUNK_BAD_RUN_SUM);
	}
	let length: u32;
	if (cursor.elementBytes == 8) {
		cursor.value = load<u64>(arrays + (run << 3));
		length = <u32>load<u16>(arrays + (cursor.runCount << 3) + (run << 1));
	} else {
		cursor.value = <u64>load<u8>(arrays + (cursor.runCount << 1) + run);
		length = <u32>load<u16>(arrays + (run << 1));
	}
	if (length == 0 || length > cursor.chunkEntries - cursor.position) {
		return runsEnd(cursor, CHUNK_BAD_RUN_LENGTH);
	}
	cursor.length = length;
	cursor.run = run + 1;
	return true;
}

/** A run of a PACKED chunk: of the entry at `index`, and of those that continue it. */
function foundInPacked(cursor: RunCursor, index: u32, entries: u32): void {
	const payload = cursor.payload;
	const width = <u32>cursor.width;
	const base = load<u64>(payload);
	let at = payload + PACKED_PREFIX_BYTES + index * width;
	let previous = base ^ loadPacked(at, width);
	cursor.value = previous;
	let end = index + 1;
	for (; end < entries; end++) {
		at += width;
		const entry = base ^ loadPacked(at, width);
		if (!continuesRun(previous, entry)) break;
		previous = entry;
	}
	cursor.length = end - index;
}

/** The same in a LITERAL chunk of 8-octet entries. */
function foundInEntries(cursor: RunCursor, index: u32, entries: u32): void {
	let at = cursor.payload + (index << 3);
	let previous = load<u64>(at);
	cursor.value = previous;
	let end = index + 1;
	for (; end < entries; end++) {
		at += 8;
		const entry = load<u64>(at);
		if (!continuesRun(previous, entry)) break;
		previous = entry;
	}
	cursor.length = end - index;
}

/** The same in a LITERAL chunk of octets. */
function foundInOctets(cursor: RunCursor, index: u32, entries: u32): void {
	let at = cursor.payload + index;
	const value = load<u8>(at);
	cursor.value = <u64>value;
	let end = index + 1;
	for (; end < entries; end++) {
		if (load<u8>(++at) != value) break;
	}
	cursor.length = end - index;
}

/**
 * Moves to the next run: `first`, `length` and `value` of the cursor. A run ends with its chunk even if the next chunk
 * continues it.
 *
 * @returns false at the end, and then `status` says why
 */
export function runsNext(cursor: RunCursor): bool {
	if (cursor.position == cursor.chunkEntries && !openChunk(cursor)) {
		return false;
	}
	const start = cursor.position;
	if (<u32>cursor.form == FORM_RUNS) {
		if (!nextCodedRun(cursor)) {
			return false;
		}
	} else if (<u32>cursor.form == FORM_PACKED) {
		foundInPacked(cursor, start, cursor.chunkEntries);
	} else if (cursor.elementBytes == 8) {
		foundInEntries(cursor, start, cursor.chunkEntries);
	} else {
		foundInOctets(cursor, start, cursor.chunkEntries);
	}
	cursor.first = cursor.chunkFirst + start;
	cursor.position = start + cursor.length;
	return true;
}
