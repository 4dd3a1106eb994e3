/**
 * The context block: what lives across calls, in the caller's memory. It is the Context struct, the Fault struct, and
 * scratch for the calls' own tables; the module itself has no mutable state.
 */
import { CONTEXT_BYTES, Context, DOMAIN_TABLES, FAULT_BYTES, Fault, HOST_TABLES, NONE32 } from "./layout.gen";

/** A call's status: done, or refused with the fault record filled. Nothing else ever comes back. */
export const OK: u32 = 0;
export const REFUSED: u32 = 1;

/** Phases of a context; each call asks for the one before it. */
export const PHASE_NONE: u32 = 0;
export const PHASE_OPEN: u32 = 1;
export const PHASE_PLANNED: u32 = 2;
export const PHASE_CHECKED: u32 = 3;
export const PHASE_FINISHED: u32 = 4;

const SCRATCH_OFFSET: u32 = CONTEXT_BYTES + FAULT_BYTES;
/** Row counts of one domain's tables, or of the host's, while a directory is laid out. */
const COUNTS_BYTES: u32 = (DOMAIN_TABLES > HOST_TABLES ? DOMAIN_TABLES : HOST_TABLES) * 4;
/** A run cursor and other small scratch. */
const CURSOR_BYTES: u32 = 256;
/** Where a save or a digest in steps stands (steps.ts). */
const STEPS_OFFSET: u32 = ((SCRATCH_OFFSET + COUNTS_BYTES + 7) & ~7) + CURSOR_BYTES;
const STEPS_BYTES: u32 = 640;
export const CONTEXT_BLOCK_BYTES: u32 = (STEPS_OFFSET + STEPS_BYTES + 15) & ~15;

export function context(ctx: usize): Context {
	return changetype<Context>(ctx);
}

export function faultOf(ctx: usize): Fault {
	return changetype<Fault>(ctx + CONTEXT_BYTES);
}

export function countsOf(ctx: usize): usize {
	return ctx + SCRATCH_OFFSET;
}

export function cursorOf(ctx: usize): usize {
	return ctx + ((SCRATCH_OFFSET + COUNTS_BYTES + 7) & ~7);
}

export function stepsOf(ctx: usize): usize {
	return ctx + STEPS_OFFSET;
}

/** The context that a worker's was made from; any other is its own. */
export function rootContext(ctx: usize): usize {
	const parent = <usize>context(ctx).parentPtr;
	return parent != 0 ? parent : ctx;
}

/** Whether threads restore on several contexts: this one is a worker's, or has workers. */
export function hasWorkers(ctx: usize): bool {
	return (context(ctx).parentPtr | context(ctx).workerPtr) != 0;
}

/** Whether passes may run: checked, and with a target. A worker's context ends with the one that it was made from. */
export function isRestoring(ctx: usize): bool {
	const c = context(ctx);
	const root = context(rootContext(ctx));
	return c.phase == PHASE_CHECKED && c.imagePtr != 0 && root.phase == PHASE_CHECKED && root.imagePtr == c.imagePtr;
}

/** Whether [from, to) meets a window. */
export function overlaps(from: u64, to: u64, other: u32, bytes: u32): bool {
	return from < <u64>other + bytes && <u64>other < to;
}

/** Clears the fault record; every export begins with it. */
export function begin(ctx: usize): void {
	memory.fill(ctx + CONTEXT_BYTES, 0, FAULT_BYTES);
	faultOf(ctx).field = NONE32;
	faultOf(ctx).pass = NONE32;
	faultOf(ctx).domid = NONE32;
	faultOf(ctx).recordType = NONE32;
}

/** Says where the walk stands, so that a refusal needs to name only the rule and the field. */
export function at(ctx: usize, pass: u32, domid: u32, record: usize): void {
	const fault = faultOf(ctx);
	fault.pass = pass;
	fault.domid = domid;
	fault.offset = record - context(ctx).streamPtr;
	fault.recordType = load<u32>(record);
}

/**
 * Refuses: always false, so that checks read `return fail(...)`. `field` is the address of the offending field in the
 * record where `at` stands, 0 for none.
 */
export function fail(ctx: usize, rule: u32, field: usize, expected: u64, got: u64): bool {
	const fault = faultOf(ctx);
	fault.status = REFUSED;
	fault.rule = rule;
	fault.expected = expected;
	fault.got = got;
	const body = context(ctx).streamPtr + <u32>fault.offset + 8;
	fault.field = field >= body ? <u32>(field - body) : NONE32;
	return false;
}

/** Refuses a call: nothing of the stream is to blame. */
export function refuse(ctx: usize, rule: u32, expected: u64, got: u64): u32 {
	const fault = faultOf(ctx);
	fault.status = REFUSED;
	fault.rule = rule;
	fault.expected = expected;
	fault.got = got;
	return REFUSED;
}
