/**
 * P2Ms, superpage-aware: of a 2 MiB page one entry is read instead of 512. A superpage is one entry of the hypervisor's own
 * P2M, which the flat table repeats for each of its frames, so that the first one says it all; and check accepts whole and
 * aligned ones alone, so that what was restored is of that kind as well. The coding is encodeTable's, octet for octet.
 */

import { P2M_BITS_ORDER, P2M_ORDER_2_M } from "../layout.gen";
import {
	CHUNK_ENTRIES,
	CHUNK_HEADER_BYTES,
	continuesRun,
	FORM_RUNS,
	MFN_BITS,
	RUNS_PREFIX_BYTES,
	runsPayloadBytes,
} from "./chunk";
import { encodeChunk, nearCarry, noteRuns, SURELY_RUNS } from "./encode";

const ORDER_SHIFT: u64 = P2M_BITS_ORDER;
const ORDER_MASK: u64 = 63;
const ORDER_2M: u64 = P2M_ORDER_2_M;
const FRAMES_2M: u32 = 512;
const PAGES: u32 = CHUNK_ENTRIES / FRAMES_2M;
const PAGE_BYTES: u32 = FRAMES_2M * 8;

function orderOf(entry: u64): u64 {
	return (entry >>> ORDER_SHIFT) & ORDER_MASK;
}

/** What an entry of a superpage has in its last frame: a page does not reach beyond the MFN's bits. */
function lastOf(entry: u64): u64 {
	return entry + (entry >>> 63) * (FRAMES_2M - 1);
}

/** Notes where the runs of a whole chunk begin. Of its pages those that are broken are read in full, and they alone. */
function notePages(table: usize, starts: usize, limit: usize): usize {
	let next = starts;
	let previous: u64 = 0;
	for (let page: u32 = 0; page < PAGES; page++) {
		const at = table + page * PAGE_BYTES;
		const entry = load<u64>(at);
		if (page == 0 || !continuesRun(previous, entry)) {
			store<u16>(next, <u16>(page * FRAMES_2M));
			next += 2;
		}
		if (orderOf(entry) >= ORDER_2M) {
			previous = lastOf(entry);
			continue;
		}
		next = noteRuns(table, at, at + PAGE_BYTES, starts, next, limit, SURELY_RUNS);
		if (next == 0) return 0;
		previous = load<u64>(at + PAGE_BYTES - 8);
	}
	return next > limit ? 0 : next;
}

/**
 * A whole chunk with superpages, as encode.ts writes one: first where its runs begin, then from the last to the first the
 * runs, each over starts that are done.
 *
 * @returns octets, or 0 if another form may be smaller, or a run may carry out of the MFN's bits
 */
function encodePages(table: usize, out: usize): u32 {
	const payload = out + CHUNK_HEADER_BYTES;
	const values = payload + RUNS_PREFIX_BYTES;
	const behind = notePages(table, values, values + (SURELY_RUNS << 1));
	if (behind == 0) return 0;
	const runCount = <u32>(behind - values) >>> 1;
	const payloadBytes = runsPayloadBytes(8, runCount);
	const lengths = values + (runCount << 3);
	store<u64>(payload + payloadBytes - 8, 0);
	let end = CHUNK_ENTRIES;
	let carries: u64 = 0;
	for (let run = runCount; run > 0; ) {
		run--;
		const first = <u32>load<u16>(values + (run << 1));
		const value = load<u64>(table + (first << 3));
		store<u16>(lengths + (run << 1), <u16>(end - first));
		store<u64>(values + (run << 3), value);
		carries |= nearCarry(value);
		end = first;
	}
	store<u64>(payload, <u64>runCount);
	store<u64>(out, <u64>FORM_RUNS | ((<u64>CHUNK_ENTRIES) << 16) | ((<u64>payloadBytes) << 32));
	return carries >>> MFN_BITS == 0 ? CHUNK_HEADER_BYTES + payloadBytes : 0;
}

/** The highest order of a whole chunk's pages; 0 where fewer entries are left. Read without a branch: the misses overlap. */
function highestOrder(chunk: usize, left: u32): u64 {
	let highest: u64 = 0;
	if (left < CHUNK_ENTRIES) return 0;
	for (let page: u32 = 0; page < PAGES; page++) {
		highest = max<u64>(highest, orderOf(load<u64>(chunk + page * PAGE_BYTES)));
	}
	return highest;
}

/**
 * As encodeTable of 8-octet entries, for a slice of a P2M that begins at a multiple of 2 MiB.
 *
 * @param count entries, at most a slice's
 * @returns octets written
 */
export function encodeP2m(table: usize, count: u32, out: usize): u32 {
	let at = out;
	let next = highestOrder(table, count);
	for (let first: u32 = 0; first < count; first += CHUNK_ENTRIES) {
		const entries = min<u32>(count - first, CHUNK_ENTRIES);
		const chunk = table + (first << 3);
		const highest = next;
		// Before this chunk is written, so that the misses of the next one overlap with that as well.
		next = highestOrder(chunk + CHUNK_ENTRIES * 8, count - first - entries);
		const bytes = highest >= ORDER_2M ? encodePages(chunk, at) : 0;
		at += bytes != 0 ? bytes : encodeChunk(8, chunk, entries, u64.MAX_VALUE, at);
	}
	return <u32>(at - out);
}
