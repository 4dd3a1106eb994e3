/**
 * Tables into chunks; chunk.ts has the layout.
 *
 * Each chunk is read twice: once to measure what each form would take, once to write the smallest. Nothing is written
 * that is not final, so a chunk needs no scratch and the output no more room than `encodeBound` says.
 */

import {
	CHUNK_ENTRIES,
	CHUNK_ENTRY_COUNT_OFFSET,
	CHUNK_HEADER_BYTES,
	CHUNK_PAYLOAD_BYTES_OFFSET,
	CHUNK_WIDTH_OFFSET,
	continuesRun,
	FORM_LITERAL,
	FORM_PACKED,
	FORM_RUNS,
	literalPayloadBytes,
	PACKED_PREFIX_BYTES,
	PACKED_WIDTH_MAX,
	packedPayloadBytes,
	RUNS_PREFIX_BYTES,
	runsPayloadBytes,
} from "./chunk";

/**
 * The most octets that `count` entries can take: every chunk a LITERAL, since no other form is taken when it is larger.
 *
 * @param elementBytes 1 or 8
 * @returns octets; 0 for another element size; 0xFFFFFFFF if they would not fit a 32-bit memory
 */
export function encodeBound(elementBytes: u32, count: u32): u32 {
	if (elementBytes != 1 && elementBytes != 8) {
		return 0;
	}
	const chunks = (<u64>count + CHUNK_ENTRIES - 1) / CHUNK_ENTRIES;
	// Padding each chunk to 8 is padding the last: all others are 4096 entries.
	const entryBytes = (<u64>count * elementBytes + 7) & ~7;
	const bytes = chunks * CHUNK_HEADER_BYTES + entryBytes;
	return bytes < u32.MAX_VALUE ? <u32>bytes : u32.MAX_VALUE;
}

function storeHeader(out: usize, form: u32, width: u32, entryCount: u32, payloadBytes: u32): void {
	store<u8>(out, <u8>form);
	store<u8>(out, <u8>width, CHUNK_WIDTH_OFFSET);
	store<u16>(out, <u16>entryCount, CHUNK_ENTRY_COUNT_OFFSET);
	store<u32>(out, payloadBytes, CHUNK_PAYLOAD_BYTES_OFFSET);
	// Padding is less than 8 octets, all of them in the payload's last 8; what is not padding is written over.
	store<u64>(out + CHUNK_HEADER_BYTES + payloadBytes - 8, 0);
}

/** The fewest octets, at least one, that hold `bits`. */
function octetsOf(bits: u64): u32 {
	return max<u32>(1, <u32>((71 - clz<u64>(bits)) >>> 3));
}

function storeWideRuns(table: usize, count: u32, mask: u64, runCount: u32, payload: usize): void {
	store<u64>(payload, <u64>runCount);
	let values = payload + RUNS_PREFIX_BYTES;
	let lengths = values + (runCount << 3);
	let previous = load<u64>(table) & mask;
	let first: u32 = 0;
	store<u64>(values, previous);
	for (let i: u32 = 1; i < count; i++) {
		const entry = load<u64>(table + (i << 3)) & mask;
		if (!continuesRun(previous, entry)) {
			store<u16>(lengths, <u16>(i - first));
			lengths += 2;
			values += 8;
			store<u64>(values, entry);
			first = i;
		}
		previous = entry;
	}
	store<u16>(lengths, <u16>(count - first));
}

/** From the last entry to the first: each store of 8 octets ends with its entry and is mended by those before it. */
function storePacked(table: usize, count: u32, mask: u64, width: u32, payload: usize): void {
	const base = load<u64>(table) & mask;
	const shift = 64 - (width << 3);
	let at = payload + PACKED_PREFIX_BYTES + count * width;
	for (let i = count; i > 0; i--) {
		const entry = load<u64>(table + ((i - 1) << 3)) & mask;
		store<u64>(at - 8, (entry ^ base) << shift);
		at -= width;
	}
	store<u64>(payload, base);
}

function storeWideLiteral(table: usize, count: u32, mask: u64, payload: usize): void {
	if (mask == u64.MAX_VALUE) {
		memory.copy(payload, table, count << 3);
		return;
	}
	for (let i: u32 = 0; i < count; i++) {
		store<u64>(payload + (i << 3), load<u64>(table + (i << 3)) & mask);
	}
}

function encodeWideChunk(table: usize, count: u32, mask: u64, out: usize): u32 {
	const base = load<u64>(table) & mask;
	let previous = base;
	let different: u64 = 0;
	let runCount: u32 = 1;
	for (let i: u32 = 1; i < count; i++) {
		const entry = load<u64>(table + (i << 3)) & mask;
		different |= entry ^ base;
		if (!continuesRun(previous, entry)) {
			runCount++;
		}
		previous = entry;
	}
	const width = octetsOf(different);
	const runsBytes = runsPayloadBytes(8, runCount);
	const packedBytes = width <= PACKED_WIDTH_MAX ? packedPayloadBytes(count, width) : u32.MAX_VALUE;
	const literalBytes = literalPayloadBytes(8, count);
	const payload = out + CHUNK_HEADER_BYTES;
	if (runsBytes <= packedBytes && runsBytes <= literalBytes) {
		storeHeader(out, FORM_RUNS, 0, count, runsBytes);
		storeWideRuns(table, count, mask, runCount, payload);
		return CHUNK_HEADER_BYTES + runsBytes;
	}
	if (packedBytes <= literalBytes) {
		storeHeader(out, FORM_PACKED, width, count, packedBytes);
		storePacked(table, count, mask, width, payload);
		return CHUNK_HEADER_BYTES + packedBytes;
	}
	storeHeader(out, FORM_LITERAL, 0, count, literalBytes);
	storeWideLiteral(table, count, mask, payload);
	return CHUNK_HEADER_BYTES + literalBytes;
}

function storeOctetRuns(table: usize, count: u32, runCount: u32, payload: usize): void {
	store<u64>(payload, <u64>runCount);
	let lengths = payload + RUNS_PREFIX_BYTES;
	let values = lengths + (runCount << 1);
	let previous = load<u8>(table);
	let first: u32 = 0;
	store<u8>(values, previous);
	for (let i: u32 = 1; i < count; i++) {
		const entry = load<u8>(table + i);
		if (entry != previous) {
			store<u16>(lengths, <u16>(i - first));
			lengths += 2;
			values += 1;
			store<u8>(values, entry);
			first = i;
		}
		previous = entry;
	}
	store<u16>(lengths, <u16>(count - first));
}

function encodeOctetChunk(table: usize, count: u32, out: usize): u32 {
	let previous = load<u8>(table);
	let runCount: u32 = 1;
	for (let i: u32 = 1; i < count; i++) {
		const entry = load<u8>(table + i);
		if (entry != previous) {
			runCount++;
		}
		previous = entry;
	}
	const runsBytes = runsPayloadBytes(1, runCount);
	const literalBytes = literalPayloadBytes(1, count);
	const payload = out + CHUNK_HEADER_BYTES;
	if (runsBytes <= literalBytes) {
		storeHeader(out, FORM_RUNS, 0, count, runsBytes);
		storeOctetRuns(table, count, runCount, payload);
		return CHUNK_HEADER_BYTES + runsBytes;
	}
	storeHeader(out, FORM_LITERAL, 0, count, literalBytes);
	memory.copy(payload, table, count);
	return CHUNK_HEADER_BYTES + literalBytes;
}

/**
 * Codes one chunk.
 *
 * @param elementBytes 1 or 8
 * @param table address of the chunk's first entry
 * @param count entries, 1 to 4096
 * @param mask of the bits of each u64 entry that go into the stream; a table of octets has none and ignores it
 * @param out room for `encodeBound(elementBytes, count)` octets, apart from the table
 * @returns octets written; 0, and nothing written, for another element size or count
 */
export function encodeChunk(elementBytes: u32, table: usize, count: u32, mask: u64, out: usize): u32 {
	if (count == 0 || count > CHUNK_ENTRIES) {
		return 0;
	}
	if (elementBytes == 8) {
		return encodeWideChunk(table, count, mask, out);
	}
	if (elementBytes == 1) {
		return encodeOctetChunk(table, count, out);
	}
	return 0;
}

/**
 * Codes a whole table, chunk after chunk; parameters as for `encodeChunk`.
 *
 * @param count entries, 0 upwards
 * @returns octets written; 0, and nothing written, for an empty table, another element size, or a count that no 32-bit
 *   memory can hold
 */
export function encodeTable(elementBytes: u32, table: usize, count: u32, mask: u64, out: usize): u32 {
	if (encodeBound(elementBytes, count) == u32.MAX_VALUE) {
		return 0;
	}
	let at = out;
	for (let first: u32 = 0; first < count; first += CHUNK_ENTRIES) {
		const entries = min<u32>(count - first, CHUNK_ENTRIES);
		const bytes = encodeChunk(elementBytes, table + first * elementBytes, entries, mask, at);
		if (bytes == 0) {
			return 0;
		}
		at += bytes;
	}
	return <u32>(at - out);
}
