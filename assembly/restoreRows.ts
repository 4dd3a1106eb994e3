/**
 * Rows of a detached target's bulk tables, window by window: what the passes write to tables that the image has, is made here
 * at the host's call, and the host takes it to where its tables are. Rows of a table come in order, each once:
 *
 *     restore(0, DOMID_XEN), restore(0, domid)   directories, the tables that the image has
 *     restoreRows(domid, P2m)                    of each domain whose pass 0 has run
 *     restoreRows(DOMID_XEN, FrameOwners, FrameTypes)   once all of that is done
 *     restore(1, DOMID_XEN), restore(1, domid), restore(2, domid)
 *     restoreRows(DOMID_XEN, FrameCounts)        once all of that is done: where they start, and all that is added to them
 *     finish
 *
 * Counts are no sum over passes here: a window's are made in one go, from the owners, which the stream has, and from all
 * domains' references to its frames. So memory is bounded; where domains' frames lie apart each is walked twice, once in
 * pass 2 to know where they lie, and where they are mixed once for each window more.
 */
import { begin, CONTEXT_BLOCK_BYTES, context, isRestoring, OK, PHASE_CHECKED, REFUSED, refuse } from "./context";
import { chunkBytes, chunkEntries, frameFault } from "./extent/chunk";
import { decodeChunk } from "./extent/decode";
import { domainDirectory, domainEntry, domainRowBytes, hostRowBytes, isBulk, tableRows } from "./image";
import * as L from "./layout.gen";
import { bodyBytes, bodyOf, chunkEntriesField, defHeadBytes, partFrom, recordBytes } from "./record";
import { addReferences, firstCounts } from "./references";
import { domainsEnded, HOST_CREATED, HOST_FRAMES } from "./restore";
import { defOf, planAt, planSlot, scratchAt, sectionEnd, sectionFirst } from "./sections";
import { isApart, isWindow } from "./steps";

/** Decodes rows [first, end) of the slices of record `def` in a section to `out`; rows that no slice has are zero. */
function decodeRows(ctx: usize, section: u32, def: u32, rowBytes: u32, first: u32, end: u32, out: usize): void {
	const sectionTo = sectionEnd(ctx, section);
	let next = first;
	for (let record = sectionFirst(ctx, section); record < sectionTo && next < end; record += recordBytes(record)) {
		if (defOf(record) != def) continue;
		const body = bodyOf(record);
		const slice = load<u64>(body);
		const entries = load<u32>(body + chunkEntriesField(defHeadBytes(def)));
		if (slice + entries <= <u64>first) continue;
		if (slice >= <u64>end) break;
		if (slice > <u64>next) {
			memory.fill(out + (next - first) * rowBytes, 0, (<u32>slice - next) * rowBytes);
			next = <u32>slice;
		}
		const coded = partFrom(def, record, 0);
		const length = <u32>(body + bodyBytes(record) - coded);
		const last = <u32>slice + entries;
		let offset: u32 = 0;
		for (let at = <u32>slice; at < min<u32>(last, end); ) {
			if (frameFault(rowBytes, coded, length, offset, last - at) != 0) break;
			const header = coded + offset;
			const behind = at + chunkEntries(header);
			if (behind > first) {
				if (at >= first && behind <= end) {
					decodeChunk(rowBytes, header, out + (at - first) * rowBytes);
				} else {
					// A window's edge: what is beyond it is left out.
					const scratch = scratchAt(ctx);
					const from = max<u32>(at, first);
					decodeChunk(rowBytes, header, scratch);
					memory.copy(
						out + (from - first) * rowBytes,
						scratch + (from - at) * rowBytes,
						(min<u32>(behind, end) - from) * rowBytes,
					);
				}
				next = min<u32>(behind, end);
			}
			at = behind;
			offset += chunkBytes(header);
		}
	}
	memory.fill(out + (next - first) * rowBytes, 0, (end - next) * rowBytes);
}

/** Counts of frames [first, end), whose owners stand at `out`: in their place. */
function makeCounts(ctx: usize, first: u32, end: u32, out: usize): void {
	const c = context(ctx);
	const last = out + ((<usize>(end - first)) << 3);
	for (let row = out; row < last; row += 8) store<u64>(row, firstCounts(load<u64>(row)));
	c.rowsPtr = <u32>out;
	c.rowsFirst = first;
	c.rowsCount = end - first;
	for (let i: u32 = 0; i < c.domainCount; i++) {
		const plan = planAt(ctx, i);
		// The more often, the smaller the windows: a domain whose frames are elsewhere is left alone.
		if (plan.refsLow < end && plan.refsHigh >= first) addReferences(ctx, domainEntry(c.imagePtr, i));
	}
	c.rowsPtr = 0;
	c.rowsCount = 0;
}

/** Whether rows of this table may be made now. */
function mayMake(ctx: usize, table: u32, slot: u32): bool {
	const c = context(ctx);
	if (slot != L.NONE32) return (c.hostDone & HOST_CREATED) != 0 && planAt(ctx, slot).passDone == 1;
	if (table == L.HT_FRAME_COUNTS) return c.hostDone == (HOST_CREATED | HOST_FRAMES) && domainsEnded(ctx, 2);
	return c.hostDone == HOST_CREATED && domainsEnded(ctx, 0) && c.p2mRowsLeft == 0;
}

/** Whether a window for rows touches none that the restore has. */
function isFree(ctx: usize, out: usize, bytes: u32): bool {
	const c = context(ctx);
	if (!isWindow(ctx, out, bytes) || !isApart(ctx, out, bytes, ctx, CONTEXT_BLOCK_BYTES)) return false;
	if (!isApart(ctx, out, bytes, c.imagePtr, c.planImageBytes)) return false;
	if (!isApart(ctx, out, bytes, c.streamPtr, c.streamBytes)) return false;
	return isApart(ctx, out, bytes, c.workPtr, c.planWorkBytes) && isApart(ctx, out, bytes, c.memoryPtr, c.memoryBytes);
}

/**
 * Makes rows [first, first + count) of a domain's P2M, or with DOMID_XEN of a frame table, in `out` (8-aligned, `capacity`
 * octets, apart from all other windows). REFUSED and nothing changed if it is not their turn.
 */
export function restoreRows(
	ctx: usize,
	domid: u32,
	table: u32,
	first: u32,
	count: u32,
	out: usize,
	capacity: u32,
): u32 {
	begin(ctx);
	const c = context(ctx);
	if (!isRestoring(ctx) || c.detached == 0) return refuse(ctx, L.RULE_NOT_CHECKED, PHASE_CHECKED, c.phase);
	const isHost = domid == L.DOMID_XEN;
	const slot = domid < L.DOMID_FIRST_RESERVED ? planSlot(ctx, domid) : L.NONE32;
	if (slot == L.NONE32 && !isHost) return refuse(ctx, L.RULE_DOMID, c.domainCount, domid);
	if (!isBulk(isHost, table)) return refuse(ctx, L.RULE_PASS_ORDER, isHost ? L.HT_FRAME_OWNERS : L.DT_P2M, table);
	if (!mayMake(ctx, table, slot)) return refuse(ctx, L.RULE_PASS_ORDER, c.hostDone, table);
	const rows = isHost
		? <u32>c.frameCount
		: tableRows(domainDirectory(<usize>c.imagePtr + planAt(ctx, slot).directory), L.DT_P2M);
	const done = isHost
		? changetype<usize>(c) + L.CONTEXT__OWNERS_DONE + (table - L.HT_FRAME_OWNERS) * 4
		: changetype<usize>(planAt(ctx, slot)) + L.DOMAIN_PLAN__ROWS_DONE;
	if (first != load<u32>(done)) return refuse(ctx, L.RULE_PASS_ORDER, load<u32>(done), first);
	if (count == 0 || count > rows - first) return refuse(ctx, L.RULE_PASS_ORDER, rows - first, count);
	const rowBytes = isHost ? hostRowBytes(table) : domainRowBytes(table);
	if (<u64>count * rowBytes > <u64>capacity) return refuse(ctx, L.RULE_WINDOW, <u64>count * rowBytes, capacity);
	if (!isFree(ctx, out, capacity)) return REFUSED;
	const end = first + count;
	if (!isHost) {
		decodeRows(ctx, planAt(ctx, slot).section0, L.RECORD_LU_P2M, rowBytes, first, end, out);
		c.p2mRowsLeft -= count;
	} else {
		const def: u32 = table == L.HT_FRAME_TYPES ? L.RECORD_LU_PAGE_TYPES : L.RECORD_LU_FRAMES;
		decodeRows(ctx, c.framesSection, def, rowBytes, first, end, out);
		if (table == L.HT_FRAME_COUNTS) makeCounts(ctx, first, end, out);
	}
	store<u32>(done, end);
	return OK;
}
