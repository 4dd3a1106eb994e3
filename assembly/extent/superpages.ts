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
	RUNS_PREFIX_BYTES,
	runsPayloadBytes,
} from "./chunk";
import { encodeChunk } from "./encode";

const ORDER_SHIFT: u64 = P2M_BITS_ORDER;
const ORDER_MASK: u64 = 63;
const ORDER_2M: u64 = P2M_ORDER_2_M;
const FRAMES_2M: u32 = 512;
const PAGES: u32 = CHUNK_ENTRIES / FRAMES_2M;

/** What an entry of a superpage has in its last frame: a page does not reach beyond the MFN's bits. */
function lastOf(entry: u64): u64 {
	return entry + (entry >>> 63) * (FRAMES_2M - 1);
}

/** A whole chunk of superpages, of which at most 8 runs come: no other form is smaller. Returns octets. */
function encodeSuperpages(table: usize, out: usize): u32 {
	let runCount: u32 = 1;
	let previous = load<u64>(table);
	for (let page: u32 = 1; page < PAGES; page++) {
		const entry = load<u64>(table + page * FRAMES_2M * 8);
		if (!continuesRun(lastOf(previous), entry)) runCount++;
		previous = entry;
	}
	const payloadBytes = runsPayloadBytes(8, runCount);
	const payload = out + CHUNK_HEADER_BYTES;
	store<u64>(out, <u64>FORM_RUNS | ((<u64>CHUNK_ENTRIES) << 16) | ((<u64>payloadBytes) << 32));
	store<u64>(payload + payloadBytes - 8, 0);
	store<u64>(payload, <u64>runCount);
	let value = payload + RUNS_PREFIX_BYTES;
	let length = value + (runCount << 3);
	let frames: u32 = 0;
	previous = 0;
	for (let page: u32 = 0; page < PAGES; page++) {
		const entry = load<u64>(table + page * FRAMES_2M * 8);
		if (page == 0 || !continuesRun(lastOf(previous), entry)) {
			if (page != 0) {
				store<u16>(length, <u16>frames);
				length += 2;
			}
			store<u64>(value, entry);
			value += 8;
			frames = 0;
		}
		frames += FRAMES_2M;
		previous = entry;
	}
	store<u16>(length, <u16>frames);
	return CHUNK_HEADER_BYTES + payloadBytes;
}

/**
 * As encodeTable of 8-octet entries, for a slice of a P2M that begins at a multiple of 2 MiB.
 *
 * @param count entries, at most a slice's
 * @returns octets written
 */
export function encodeP2m(table: usize, count: u32, out: usize): u32 {
	let at = out;
	for (let first: u32 = 0; first < count; first += CHUNK_ENTRIES) {
		const entries = min<u32>(count - first, CHUNK_ENTRIES);
		const chunk = table + (first << 3);
		// All eight are read before the first branch: their misses overlap.
		let smallest: u64 = ORDER_MASK;
		if (entries == CHUNK_ENTRIES) {
			for (let page: u32 = 0; page < PAGES; page++) {
				const order = (load<u64>(chunk + page * FRAMES_2M * 8) >>> ORDER_SHIFT) & ORDER_MASK;
				smallest = min<u64>(smallest, order);
			}
		} else smallest = 0;
		at += smallest >= ORDER_2M ? encodeSuperpages(chunk, at) : encodeChunk(8, chunk, entries, u64.MAX_VALUE, at);
	}
	return <u32>(at - out);
}
