/**
 * What goes in steps: a save through a small window (saveSteps.ts), a digest (digestSteps.ts). A step runs until it wants
 * something of the host, which the context says (stepWants):
 *
 *     rows    of a bulk table that is detached: wantDomid, wantTable, from wantFirst on, at most wantCount. The next step
 *             brings them in a window, as many as the host likes
 *     drain   a piece of the stream stands at piecePtr, pieceBytes octets, to go to pieceOffset. The next step, which brings
 *             nothing, may write over it
 *     nothing it is done
 *
 * A step that brings what was not asked for is refused and changes nothing. Where the work stands is kept behind the
 * context's scratch:
 *
 *     | Steps | state of the hash | Source | an LU_SECTION | sums of a digest |
 */
import { HASH_STATE_BYTES } from "./checksum";
import { CONTEXT_BLOCK_BYTES, context, overlaps, refuse, stepsOf } from "./context";
import * as L from "./layout.gen";
import { SECTION_RECORD_BYTES, Source } from "./save";

/** What is under way. */
export const STEPS_NONE: u32 = 0;
export const STEPS_SAVE: u32 = 1;
export const STEPS_DIGEST: u32 = 2;

@unmanaged
export class Steps {
	/** Where the window's first octet goes in the stream. */
	base: u64;
	/** Where the section's LU_SECTION goes. */
	opening: u64;
	kind: u32;
	stage: u32;
	image: u32;
	imageBytes: u32;
	out: u32;
	capacity: u32;
	/** Octets of the window that are written. */
	used: u32;
	/** Whether the piece that is to be drained is the window. */
	drainsWindow: u32;
	index: u32;
	indexBytes: u32;
	sections: u32;
	/** Records of the section. */
	records: u32;
	pass: u32;
	/** The domain's place in the image; of a digest one more, 0 for the host. */
	domain: u32;
	/** Record descriptor, vCPU; of a digest the table. */
	def: u32;
	vcpu: u32;
	/** First row of the slice, rows of it that are coded, and their octets; of a digest rows that are hashed. */
	sliceFirst: u32;
	sliceRows: u32;
	sliceBytes: u32;
	/** Whether any of them is not zero. */
	sliceUsed: u32;
}

const HASH_OFFSET: u32 = (offsetof<Steps>() + 7) & ~7;
const SOURCE_OFFSET: u32 = HASH_OFFSET + HASH_STATE_BYTES;
const OPENING_OFFSET: u32 = (SOURCE_OFFSET + offsetof<Source>() + 7) & ~7;
const CHAIN_OFFSET: u32 = OPENING_OFFSET + SECTION_RECORD_BYTES;

export function steps(ctx: usize): Steps {
	return changetype<Steps>(stepsOf(ctx));
}
export function hashOf(ctx: usize): usize {
	return stepsOf(ctx) + HASH_OFFSET;
}
export function sourceOf(ctx: usize): Source {
	return changetype<Source>(stepsOf(ctx) + SOURCE_OFFSET);
}
/** Room for an LU_SECTION, and for the 24 octets of a digest's sums. */
export function openingOf(ctx: usize): usize {
	return stepsOf(ctx) + OPENING_OFFSET;
}
export function chainOf(ctx: usize): usize {
	return stepsOf(ctx) + CHAIN_OFFSET;
}

/** Begins steps on a new context. */
export function startSteps(ctx: usize, kind: u32, image: usize, bytes: u32): Steps {
	memory.fill(stepsOf(ctx), 0, CHAIN_OFFSET + 24);
	const st = steps(ctx);
	st.kind = kind;
	st.image = <u32>image;
	st.imageBytes = bytes;
	context(ctx).abi = L.ABI_VERSION;
	return st;
}

export function wantNothing(ctx: usize): void {
	const c = context(ctx);
	c.stepWants = L.WANTS_NOTHING;
	c.wantCount = 0;
	c.pieceBytes = 0;
}

export function wantRows(ctx: usize, domid: u32, table: u32, first: u32, count: u32): void {
	const c = context(ctx);
	c.stepWants = L.WANTS_ROWS;
	c.wantDomid = domid;
	c.wantTable = table;
	c.wantFirst = first;
	c.wantCount = count;
	c.pieceBytes = 0;
}

export function wantDrain(ctx: usize, piece: usize, bytes: u32, offset: u64): void {
	const c = context(ctx);
	c.stepWants = L.WANTS_DRAIN;
	c.wantCount = 0;
	c.piecePtr = <u32>piece;
	c.pieceBytes = bytes;
	c.pieceOffset = offset;
}

/** Whether steps of this kind are under way, and this one brings rows if they were asked for, and only then. */
export function isTurn(ctx: usize, kind: u32, rows: usize, bytes: u32): bool {
	const c = context(ctx);
	const st = steps(ctx);
	if (c.abi != L.ABI_VERSION || st.kind != kind || c.stepWants == L.WANTS_NOTHING) {
		refuse(ctx, L.RULE_PASS_ORDER, kind, c.abi != L.ABI_VERSION ? 0 : st.kind);
		return false;
	}
	if (c.stepWants != L.WANTS_ROWS && (rows | bytes) != 0) {
		refuse(ctx, L.RULE_PASS_ORDER, 0, bytes);
		return false;
	}
	return true;
}

/** Whether a window lies in memory, above the module's constants, 8-aligned. */
export function isWindow(ctx: usize, from: usize, bytes: u32): bool {
	const end = (<u64>memory.size()) << 16;
	if ((from & 7) != 0) refuse(ctx, L.RULE_WINDOW, 8, from & 7);
	else if (from < __heap_base) refuse(ctx, L.RULE_WINDOW, __heap_base, from);
	else if (<u64>from + bytes > end) refuse(ctx, L.RULE_WINDOW, end, <u64>from + bytes);
	else return true;
	return false;
}

/** Whether a window is clear of another one. */
export function isApart(ctx: usize, from: usize, bytes: u32, other: usize, otherBytes: u32): bool {
	if (!overlaps(from, <u64>from + bytes, <u32>other, otherBytes)) return true;
	refuse(ctx, L.RULE_WINDOW, <u64>other + otherBytes, from);
	return false;
}

/**
 * How many rows a step brings, 0 after a refusal: at least one, at most as many as were asked for, and whole ones; but for
 * the last ones a multiple of `unit`; in a window apart from those of the steps.
 */
export function rowsBrought(ctx: usize, rows: usize, bytes: u32, rowBytes: u32, unit: u32): u32 {
	const st = steps(ctx);
	const most = context(ctx).wantCount;
	const count = bytes / rowBytes;
	if (count == 0 || count > most || count * rowBytes != bytes || (count != most && count % unit != 0)) {
		refuse(ctx, L.RULE_WINDOW, count > most ? <u64>most * rowBytes : <u64>min<u32>(unit, most) * rowBytes, bytes);
		return 0;
	}
	if (!isWindow(ctx, rows, bytes)) return 0;
	if (!isApart(ctx, rows, bytes, st.image, st.imageBytes)) return 0;
	if (!isApart(ctx, rows, bytes, st.out, st.capacity) || !isApart(ctx, rows, bytes, st.index, st.indexBytes)) return 0;
	return isApart(ctx, rows, bytes, ctx, CONTEXT_BLOCK_BYTES) ? count : 0;
}
