/**
 * Tables into chunks; chunk.ts has the layout, lanes.ts the inner loops.
 *
 * Nothing is written beyond a chunk's final octets, so that a chunk needs no scratch and the output no more room than
 * `encodeBound` says. A chunk is read once if it has few runs: where they begin is noted in the room of the payload itself,
 *
 *     | prefix | first u16 of each run ...      -->      | prefix | n values u64 ... | n lengths u16 ... |
 *
 * since the noted 2 octets of a run are less than its 10 of a RUNS payload. Once there are so many that another form could
 * be smaller, runs are only counted, as far as is needed to know, and then the other form is written. Random frames come to
 * that after a few blocks; a table of runs never does.
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
	MFN_BITS,
	PACKED_PREFIX_BYTES,
	PACKED_WIDTH_MAX,
	packedPayloadBytes,
	RUNS_PREFIX_BYTES,
	runsPayloadBytes,
} from "./chunk";
import {
	BLOCK_BYTES,
	BLOCK_ENTRIES,
	blockBreaks,
	countBreaks,
	differences,
	firstBreaks,
	firstOctetBreaks,
	octetBreaks,
	packBlocks,
	skipOctets,
	skipRun,
	successor,
} from "./lanes";

/** Shorter chunks, which only the end of a table can be, are coded entry by entry. */
const FAST_ENTRIES: u32 = 64;
/** After so many more runs it is asked anew whether they come densely: at least one in three entries. */
const DENSE_RUNS: u32 = 48;
const DENSE_ENTRIES: u32 = 3;
/** With so many runs, RUNS is smaller than PACKED of a whole chunk could be with the smallest width, and than LITERAL. */
export const SURELY_RUNS: u32 = (PACKED_PREFIX_BYTES + CHUNK_ENTRIES - RUNS_PREFIX_BYTES) / 10;
/** One in so many blocks is looked at for the width of a PACKED chunk. */
const SAMPLE_BLOCKS: u32 = 16;

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

/** Any chunk, entry by entry: it is read once to measure what each form would take, once to write the smallest. */
function encodeSlowly(table: usize, count: u32, mask: u64, out: usize): u32 {
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

/**
 * Writes a PACKED chunk of this width, or with a width of 8 a LITERAL one.
 *
 * @returns octets, or 0 if an entry needs more octets than the width
 */
function storeDense(table: usize, count: u32, width: u32, out: usize): u32 {
	const payload = out + CHUNK_HEADER_BYTES;
	if (width > PACKED_WIDTH_MAX) {
		const literalBytes = literalPayloadBytes(8, count);
		storeHeader(out, FORM_LITERAL, 0, count, literalBytes);
		memory.copy(payload, table, count << 3);
		return CHUNK_HEADER_BYTES + literalBytes;
	}
	const base = load<u64>(table);
	const packedBytes = packedPayloadBytes(count, width);
	const whole = count & ~(BLOCK_ENTRIES - 1);
	let different: u64 = 0;
	// Padding first, then from the last entry to the first, then what stands before them.
	store<u64>(payload + packedBytes - 8, 0);
	for (let i = count; i > whole; i--) {
		const at = payload + PACKED_PREFIX_BYTES + i * width;
		const bits = load<u64>(table + ((i - 1) << 3)) ^ base;
		store<u64>(at - 8, bits << (64 - (width << 3)));
		different |= bits;
	}
	different |= packBlocks(table, whole, width, base, payload);
	store<u64>(payload, base);
	store<u64>(out, <u64>FORM_PACKED | ((<u64>width) << 8) | ((<u64>count) << 16) | ((<u64>packedBytes) << 32));
	return octetsOf(different) > width ? 0 : CHUNK_HEADER_BYTES + packedBytes;
}

/** Whether one of the entries that begin runs stands so near the end of the MFN's bits that its run could reach it. */
export function nearCarry(first: u64): u64 {
	return first ^ (first + CHUNK_ENTRIES);
}

/**
 * Writes a RUNS chunk from the starts of its runs, u16 each, which stand where the values go. From the last run to the
 * first: the value of run i is written over the starts of runs 4i to 4i + 3, all of them done.
 *
 * @returns octets, or 0 if a run may carry out of the MFN's bits
 */
function storeNotedRuns(table: usize, count: u32, runCount: u32, out: usize): u32 {
	const payload = out + CHUNK_HEADER_BYTES;
	const runsBytes = runsPayloadBytes(8, runCount);
	storeHeader(out, FORM_RUNS, 0, count, runsBytes);
	const values = payload + RUNS_PREFIX_BYTES;
	const lengths = values + (runCount << 3);
	let end = count;
	let carries: u64 = 0;
	for (let i = runCount; i > 0; ) {
		i--;
		const first = <u32>load<u16>(values + (i << 1));
		const value = load<u64>(table + (first << 3));
		store<u16>(lengths + (i << 1), <u16>(end - first));
		store<u64>(values + (i << 3), value);
		carries |= nearCarry(value);
		end = first;
	}
	store<u64>(payload, <u64>runCount);
	return carries >>> MFN_BITS == 0 ? CHUNK_HEADER_BYTES + runsBytes : 0;
}

/** The fewest octets that hold what every `step`th block has in which it differs from the first entry. */
function widthOf(table: usize, count: u32, step: u32): u32 {
	const base = load<u64>(table);
	const end = table + (count << 3);
	const blocksEnd = table + ((count & ~(BLOCK_ENTRIES - 1)) << 3);
	let different = differences(table, blocksEnd, step * BLOCK_BYTES, base);
	for (let at = blocksEnd; at < end; at += 8) different |= load<u64>(at) ^ base;
	return octetsOf(different);
}

/** Whether the chunk has so many runs that RUNS is larger than PACKED of this width, or with a width of 8 than LITERAL. */
function hasTooManyRuns(table: usize, count: u32, width: u32): bool {
	const end = table + (count << 3);
	const blocksEnd = table + ((count & ~(BLOCK_ENTRIES - 1)) << 3);
	const otherBytes = width <= PACKED_WIDTH_MAX ? packedPayloadBytes(count, width) : literalPayloadBytes(8, count);
	// At most so many runs take no more octets: payloads are multiples of 8.
	const limit = (otherBytes - RUNS_PREFIX_BYTES) / 10;
	let runCount: u32 = 1;
	for (let breaks = firstBreaks(table); breaks != 0; breaks &= breaks - 1) runCount++;
	runCount += countBreaks(table + BLOCK_BYTES, blocksEnd, limit);
	for (let at = blocksEnd; at < end; at += 8) runCount += <u32>(load<u64>(at) != successor(load<u64>(at - 8)));
	// A carry out of the MFN's bits hides a run, it never makes one: too many are too many.
	return runCount > limit;
}

/**
 * Notes where runs begin in the blocks from `at` to `end`, of which there is at least one; but for the first entry, which is
 * not held against what stands before it.
 *
 * @param starts of the chunk at `table`, the first of them; `next` the next one
 * @param surely so many runs may be noted; they are asked first at `limit` whether they come densely, surely at the latest
 * @returns where the next start goes, or 0 if there are too many, or if they come densely
 */
export function noteRuns(
	table: usize,
	at: usize,
	end: usize,
	starts: usize,
	next: usize,
	limit: usize,
	surely: u32,
): usize {
	let breaks = firstBreaks(at);
	for (;;) {
		const first = <u32>(at - table) >>> 3;
		const isScattered = (breaks & (breaks - 1)) != 0;
		for (; breaks != 0; breaks &= breaks - 1) {
			store<u16>(next, <u16>(first + (<u32>ctz<u32>(breaks) >>> 1)));
			next += 2;
		}
		at += BLOCK_BYTES;
		if (next > limit) {
			const runCount = <u32>(next - starts) >>> 1;
			if (runCount > surely || runCount * DENSE_ENTRIES >= first) return 0;
			limit = starts + (min<u32>(surely, runCount + DENSE_RUNS) << 1);
		}
		// Behind several breaks there is likely another one: no run to skip.
		if (!isScattered) at = skipRun(at, end);
		if (at == end) break;
		breaks = blockBreaks(at);
	}
	return next;
}

/**
 * Writes a RUNS chunk.
 *
 * @param isSmallest whether it is known that no other form is smaller
 * @returns octets, or 0 if another form may be smaller; what was written is then no more octets than the smallest form has
 */
function encodeRuns(table: usize, count: u32, isSmallest: bool, out: usize): u32 {
	const starts = out + CHUNK_HEADER_BYTES + RUNS_PREFIX_BYTES;
	// With so many runs, RUNS is smaller than PACKED could be with the smallest width, and than LITERAL.
	const surely = isSmallest ? count : (packedPayloadBytes(count, 1) - RUNS_PREFIX_BYTES) / 10;
	const limit = starts + ((isSmallest ? count : min<u32>(surely, DENSE_RUNS)) << 1);
	store<u16>(starts, 0);
	let at = table + ((count & ~(BLOCK_ENTRIES - 1)) << 3);
	let next = noteRuns(table, table, at, starts, starts + 2, limit, surely);
	if (next == 0) return 0;
	const end = table + (count << 3);
	for (; at < end; at += 8) {
		if (load<u64>(at) != successor(load<u64>(at - 8))) {
			store<u16>(next, <u16>((at - table) >>> 3));
			next += 2;
		}
	}
	const runCount = <u32>(next - starts) >>> 1;
	if (runCount > surely) return 0;
	const bytes = storeNotedRuns(table, count, runCount, out);
	return bytes != 0 ? bytes : encodeSlowly(table, count, u64.MAX_VALUE, out);
}

function encodeWideChunk(table: usize, count: u32, mask: u64, out: usize): u32 {
	if (mask != u64.MAX_VALUE || count < FAST_ENTRIES) return encodeSlowly(table, count, mask, out);
	let bytes = encodeRuns(table, count, false, out);
	if (bytes != 0) return bytes;
	// Of many entries a few show how many octets all of them need. Whether it is true is seen when they are packed.
	let width = widthOf(table, count, SAMPLE_BLOCKS);
	if (hasTooManyRuns(table, count, width)) {
		bytes = storeDense(table, count, width, out);
		if (bytes != 0) return bytes;
		width = widthOf(table, count, 1);
		if (hasTooManyRuns(table, count, width)) return storeDense(table, count, width, out);
	}
	return encodeRuns(table, count, true, out);
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

function encodeOctetsSlowly(table: usize, count: u32, out: usize): u32 {
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
 * Writes a RUNS chunk of octets from the starts of its runs, which stand where the lengths go, and are made lengths from
 * the last to the first.
 */
function storeNotedOctetRuns(table: usize, count: u32, runCount: u32, out: usize): u32 {
	const payload = out + CHUNK_HEADER_BYTES;
	const runsBytes = runsPayloadBytes(1, runCount);
	const lengths = payload + RUNS_PREFIX_BYTES;
	const values = lengths + (runCount << 1);
	// The padding alone: storeHeader's 8 octets could reach into the starts.
	for (let at = values + runCount; at < payload + runsBytes; at++) store<u8>(at, 0);
	let end = count;
	for (let i = runCount; i > 0; ) {
		i--;
		const first = <u32>load<u16>(lengths + (i << 1));
		store<u16>(lengths + (i << 1), <u16>(end - first));
		store<u8>(values + i, load<u8>(table + first));
		end = first;
	}
	store<u64>(payload, <u64>runCount);
	store<u64>(out, <u64>FORM_RUNS | ((<u64>count) << 16) | ((<u64>runsBytes) << 32));
	return CHUNK_HEADER_BYTES + runsBytes;
}

function storeOctetLiteral(table: usize, count: u32, out: usize): u32 {
	const literalBytes = literalPayloadBytes(1, count);
	storeHeader(out, FORM_LITERAL, 0, count, literalBytes);
	memory.copy(out + CHUNK_HEADER_BYTES, table, count);
	return CHUNK_HEADER_BYTES + literalBytes;
}

function encodeOctetChunk(table: usize, count: u32, out: usize): u32 {
	if (count < FAST_ENTRIES) return encodeOctetsSlowly(table, count, out);
	const starts = out + CHUNK_HEADER_BYTES + RUNS_PREFIX_BYTES;
	const end = table + count;
	const blocksEnd = table + (count & ~(BLOCK_BYTES - 1));
	// At most so many runs take no more octets than LITERAL.
	const limit = starts + (((literalPayloadBytes(1, count) - RUNS_PREFIX_BYTES) / 3) << 1);
	let next = starts + 2;
	store<u16>(starts, 0);
	let at = table;
	let expected = load<u8>(table);
	for (;;) {
		at = skipOctets(at, blocksEnd, expected);
		if (at == blocksEnd) break;
		for (const blockEnd = at + BLOCK_BYTES; at < blockEnd; at += 8) {
			let different = at == table ? firstOctetBreaks(at) : octetBreaks(at);
			while (different != 0) {
				const place = <u32>ctz<u64>(different) & ~7;
				store<u16>(next, <u16>(<u32>(at - table) + (place >>> 3)));
				next += 2;
				different &= ~((<u64>0xff) << place);
			}
			if (next > limit) return storeOctetLiteral(table, count, out);
		}
		expected = load<u8>(at - 1);
	}
	for (; at < end; at++) {
		if (load<u8>(at) != load<u8>(at - 1)) {
			store<u16>(next, <u16>(at - table));
			next += 2;
		}
	}
	if (next > limit) return storeOctetLiteral(table, count, out);
	return storeNotedOctetRuns(table, count, <u32>(next - starts) >>> 1, out);
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
