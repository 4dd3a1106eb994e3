/**
 * Passes on several CPUs. Between barriers, which are the host's, threads call on contexts of their own:
 *
 *     fork          makes a worker's context of a checked one that has its target; that one itself serves one CPU more
 *     restore(0, DOMID_XEN), on the first context
 *     ── barrier    any context: restore(0, domid) of every domain; frames(0, block) of every block clears what no slice covers
 *     ── barrier    any context: frames(1, block) of every block: ownership, types, where the counts start
 *     ── barrier    restore(1, DOMID_XEN), on the first context: what is left of that step, the sums of the domains
 *     ── barrier    any context: restore(1, domid) of every domain
 *     ── barrier    any context: restore(2, domid) of every domain, which adds to the context's own sums alone
 *     ── barrier    any context: frames(2, block) of every block: the workers' sums are added to the image
 *     ── barrier    finish, on the first context: the sums of the domains; proves that all of it has run
 *
 * No atomics: each octet that is written between two barriers is written by one thread. A domain's tables and its plan's
 * passDone are those of the thread that has the domain; a block's frames and its step are those of the thread that has the
 * block (a chunk belongs to the block that it begins in); counts go to the context's own window (sums.ts). What was done
 * before a barrier is read off these marks, so that a call out of turn is refused here as it is on one CPU; only that two
 * threads are never given the same domain or block between two barriers is the host's to see to.
 *
 * A worker that dies leaves its step unmarked: later steps and finish are refused, and the image never counts as restored.
 */
import {
	begin,
	CONTEXT_BLOCK_BYTES,
	context,
	isRestoring,
	OK,
	overlaps,
	PHASE_CHECKED,
	refuse,
	rootContext,
} from "./context";
import * as L from "./layout.gen";
import { blocksEnded, clearFrames, domainsEnded, HOST_CREATED, HOST_FRAMES, placeFrames } from "./restore";
import { blockStepsAt, FRAMES_PER_BLOCK } from "./sections";
import { clearSums, mergeFrames } from "./sums";

/** Whether [from, to) is clear of a window. */
function apart(from: u64, to: u64, other: u32, bytes: u32): bool {
	return !overlaps(from, to, other, bytes);
}

/** Whether a new window touches none that the context and its workers have. */
function isFree(ctx: usize, from: u64, to: u64): bool {
	const c = context(ctx);
	if (from < __heap_base || to > (<u64>memory.size()) << 16) return false;
	if (!apart(from, to, <u32>ctx, CONTEXT_BLOCK_BYTES) || !apart(from, to, c.imagePtr, c.planImageBytes)) return false;
	if (!apart(from, to, c.streamPtr, c.streamBytes) || !apart(from, to, c.workPtr, c.planWorkBytes)) return false;
	if (!apart(from, to, c.memoryPtr, c.memoryBytes)) return false;
	for (let w = c.workerPtr; w != 0; w = context(w).workerPtr) {
		if (!apart(from, to, w, CONTEXT_BLOCK_BYTES) || !apart(from, to, context(w).sumsPtr, c.planSumsBytes)) return false;
	}
	return true;
}

/**
 * Makes a context block for one CPU more, at `worker` (16-aligned), with `bytes` octets for its sums at `sums` (8-aligned,
 * planSumsBytes). After target and before the first restore; both windows stay the worker's until finish.
 */
export function fork(ctx: usize, worker: usize, sums: usize, bytes: u32): u32 {
	begin(ctx);
	const c = context(ctx);
	if (!isRestoring(ctx) || c.parentPtr != 0) return refuse(ctx, L.RULE_NOT_CHECKED, PHASE_CHECKED, c.phase);
	if (c.hostDone != 0) return refuse(ctx, L.RULE_PASS_ORDER, 0, c.hostDone);
	// Rows that are made window by window are one context's work.
	if (c.detached != 0) return refuse(ctx, L.RULE_PASS_ORDER, 0, c.detached);
	if ((worker & 15) != 0) return refuse(ctx, L.RULE_WINDOW, 16, worker & 15);
	if ((sums & 7) != 0) return refuse(ctx, L.RULE_WINDOW, 8, sums & 7);
	if (bytes < c.planSumsBytes) return refuse(ctx, L.RULE_WINDOW, c.planSumsBytes, bytes);
	const workerEnd = <u64>worker + CONTEXT_BLOCK_BYTES;
	const sumsEnd = <u64>sums + c.planSumsBytes;
	if (!isFree(ctx, worker, workerEnd)) return refuse(ctx, L.RULE_WINDOW, 0, worker);
	if (!isFree(ctx, sums, sumsEnd) || !apart(worker, workerEnd, <u32>sums, c.planSumsBytes))
		return refuse(ctx, L.RULE_WINDOW, 0, sums);
	if (c.workerPtr == 0) memory.fill(blockStepsAt(ctx), 0, c.blockCount);
	memory.copy(worker, ctx, L.CONTEXT_BYTES);
	begin(worker);
	const w = context(worker);
	w.parentPtr = <u32>ctx;
	w.sumsPtr = <u32>sums;
	clearSums(worker);
	c.workerPtr = <u32>worker;
	return OK;
}

/** Whether a block's step may run: the steps before it have ended for every block and domain, and it has not run yet. */
function mayRunBlock(ctx: usize, pass: u32, step: u32): bool {
	const hostDone = context(rootContext(ctx)).hostDone;
	if (step != pass) return false;
	if (pass == 0) return hostDone == HOST_CREATED;
	if (pass == 1) return hostDone == HOST_CREATED && domainsEnded(ctx, 0) && blocksEnded(ctx, 1);
	return pass == 2 && hostDone == (HOST_CREATED | HOST_FRAMES) && domainsEnded(ctx, 2);
}

/**
 * A block's part of the host-wide steps: 0 clears what no slice covers, 1 places ownership and types and starts the counts, 2 adds
 * the workers' sums. REFUSED with PASS_ORDER and nothing changed if it is not its turn, or if there are no workers.
 */
export function frames(ctx: usize, pass: u32, block: u32): u32 {
	begin(ctx);
	const c = context(ctx);
	const root = rootContext(ctx);
	if (!isRestoring(ctx)) return refuse(ctx, L.RULE_NOT_CHECKED, PHASE_CHECKED, c.phase);
	if (context(root).workerPtr == 0 || block >= c.blockCount)
		return refuse(ctx, L.RULE_PASS_ORDER, context(root).workerPtr == 0 ? 0 : c.blockCount, block);
	const steps = blockStepsAt(ctx) + block;
	if (!mayRunBlock(ctx, pass, load<u8>(steps))) return refuse(ctx, L.RULE_PASS_ORDER, load<u8>(steps), pass);
	const first = block * FRAMES_PER_BLOCK;
	const end = min<u32>(first + FRAMES_PER_BLOCK, <u32>c.frameCount);
	if (pass == 0) clearFrames(ctx, first, end);
	else if (pass == 1) placeFrames(ctx, first, end);
	else for (let w = context(root).workerPtr; w != 0; w = context(w).workerPtr) mergeFrames(w, first, end);
	store<u8>(steps, pass + 1);
	return OK;
}
