/** Page ownership and types, and the frames that nobody may own. */
import { at, context, cursorOf, fail } from "../context";
import { decodeChunks, RunCursor, runsNext, runsOpen } from "../extent/decode";
import * as L from "../layout.gen";
import { bodyBytes, bodyOf, partFrom, recordBytes } from "../record";
import {
	defOf,
	linkTable,
	MARK_RESERVED,
	MARK_USED,
	noteType,
	ownerEntry,
	ownersAt,
	planOf,
	sectionEnd,
	sectionFirst,
} from "../sections";

export function mark(ctx: usize, mfn: u64, bit: u64): void {
	const entry = ownersAt(ctx) + ((<usize>mfn) << 3);
	store<u64>(entry, load<u64>(entry) | bit);
}

/** A frame in the host that belongs to `domid`. `field` is where the record names it. */
export function checkOwned(ctx: usize, field: usize, mfn: u64, domid: u32): bool {
	if (mfn >= context(ctx).frameCount) return fail(ctx, L.RULE_FRAME_NOT_OWNED, field, context(ctx).frameCount, mfn);
	const entry = ownerEntry(ctx, mfn);
	if ((entry & L.FRAME_OWNED) == 0) return fail(ctx, L.RULE_FRAME_NOT_OWNED, field, domid, L.DOMID_INVALID);
	if ((<u32>entry & L.FRAME_OWNER_MASK) != domid)
		return fail(ctx, L.RULE_FRAME_NOT_OWNED, field, domid, <u32>entry & L.FRAME_OWNER_MASK);
	return true;
}

/** A xenheap frame of `domid` that no other record has named. */
export function takeXenheap(ctx: usize, field: usize, mfn: u64, domid: u32): bool {
	if (!checkOwned(ctx, field, mfn, domid)) return false;
	const entry = ownerEntry(ctx, mfn);
	if ((entry & L.FRAME_XENHEAP) == 0 || (entry & MARK_USED) != 0)
		return fail(ctx, L.RULE_XENHEAP_COUNT, field, L.FRAME_XENHEAP, entry);
	mark(ctx, mfn, MARK_USED);
	return true;
}

function checkEntry(ctx: usize, field: usize, entry: u64): bool {
	if (entry == 0) return true;
	if ((entry & ~(<u64>L.FRAME_ENTRY_MASK)) != 0) return fail(ctx, L.RULE_FRAME_ENTRY, field, L.FRAME_ENTRY_MASK, entry);
	if ((entry & L.FRAME_OWNED) == 0) {
		// Nobody's: free, but perhaps not to be used.
		const unusable: u64 = L.FRAME_BROKEN | L.FRAME_OFFLINED;
		return (entry & ~unusable) == 0 || fail(ctx, L.RULE_FRAME_ENTRY, field, unusable, entry);
	}
	const owner = <u32>entry & L.FRAME_OWNER_MASK;
	if (owner == L.DOMID_XEN || owner == L.DOMID_IO) return true;
	const plan = planOf(ctx, owner);
	if (!plan) return fail(ctx, L.RULE_FRAME_OWNER, field, L.DOMID_XEN, owner);
	if ((entry & L.FRAME_XENHEAP) != 0) {
		if ((entry & L.FRAME_ALLOCATED) == 0) return fail(ctx, L.RULE_FRAME_ENTRY, field, L.FRAME_ALLOCATED, entry);
		plan.xenheapFrames++;
	} else if ((entry & L.FRAME_EXTRA) != 0) plan.extraFrames++;
	else plan.frames++;
	return true;
}

/** Decodes ownership into the workspace, slice by slice, and looks at every entry. */
export function checkOwners(ctx: usize): bool {
	const section = context(ctx).framesSection;
	const frames = context(ctx).frameCount;
	const owners = ownersAt(ctx);
	memory.fill(owners, 0, (<usize>frames) << 3);
	const end = sectionEnd(ctx, section);
	let next: u64 = 0;
	for (let record = sectionFirst(ctx, section); record < end; record += recordBytes(record)) {
		if (defOf(record) != L.RECORD_LU_FRAMES) continue;
		at(ctx, L.PASS_1H, L.DOMID_XEN, record);
		const body = bodyOf(record);
		const first = load<u64>(body, L.FRAME_SLICE__FIRST_MFN);
		const count = load<u32>(body, L.FRAME_SLICE__ENTRY_COUNT);
		if (first < next || first >= frames || first + count > frames) return fail(ctx, L.RULE_SLICE, body, next, first);
		const chunks = partFrom(L.RECORD_LU_FRAMES, record, 0);
		decodeChunks(8, chunks, <u32>(body + bodyBytes(record) - chunks), count, owners + ((<usize>first) << 3));
		for (let i: u32 = 0; i < count; i++) {
			if (!checkEntry(ctx, body + L.FRAME_SLICE__FIRST_MFN, load<u64>(owners + ((<usize>(first + i)) << 3))))
				return false;
		}
		next = first + count;
	}
	return true;
}

/** A FrameRange, or what begins like one, lies in the host. `rule` is the refusal's. */
export function checkInHost(ctx: usize, row: usize, first: u64, count: u64, rule: u32): bool {
	const frames = context(ctx).frameCount;
	if (first >= frames) return fail(ctx, rule, row + L.FRAME_RANGE__FIRST_MFN, frames, first);
	return count <= frames - first || fail(ctx, rule, row + L.FRAME_RANGE__FRAME_COUNT, frames - first, count);
}

/**
 * Frames that stay as they are and belong to nobody: each is free in the frame table, or FRAME_RESERVED refuses, and
 * named once, or `rule` does.
 */
export function reserveRange(ctx: usize, row: usize, first: u64, count: u64, rule: u32): bool {
	if (!checkInHost(ctx, row, first, count, rule)) return false;
	for (let mfn = first; mfn < first + count; mfn++) {
		const entry = ownerEntry(ctx, mfn);
		if ((entry & MARK_RESERVED) != 0) return fail(ctx, rule, row, 0, mfn);
		if (entry != 0) return fail(ctx, L.RULE_FRAME_RESERVED, row, 0, entry);
		mark(ctx, mfn, MARK_RESERVED);
	}
	return true;
}

/** `count` rows of FrameRange: page tables that stay in place. */
export function reserveRanges(ctx: usize, rows: usize, count: u32): bool {
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.FRAME_RANGE_BYTES;
		const range = changetype<L.FrameRange>(row);
		if (!reserveRange(ctx, row, range.firstMfn, range.frameCount, L.RULE_FRAME_RESERVED)) return false;
	}
	return true;
}

/** A run of equal page-type entries. */
function checkTypeRun(ctx: usize, field: usize, first: u64, length: u32, value: u32): bool {
	const type = value & 7;
	if (value >> 6 != 0 || type == 0 || type == 6) return fail(ctx, L.RULE_PAGE_TYPE, field, 7, value);
	const isTable = type <= L.PAGE_TYPE_L4;
	if ((value & L.PAGE_TYPE_FLAG_PINNED) != 0 && !isTable)
		return fail(ctx, L.RULE_PAGE_TYPE, field, L.PAGE_TYPE_L4, value);
	if ((value & L.PAGE_TYPE_FLAG_PAE_XEN_L2) != 0) return fail(ctx, L.RULE_VERSION1_REFUSES, field, 0, value);
	for (let mfn = first; mfn < first + length; mfn++) {
		const entry = ownerEntry(ctx, mfn);
		if ((entry & L.FRAME_OWNED) == 0) return fail(ctx, L.RULE_PAGE_TYPE, field, L.FRAME_OWNED, mfn);
		noteType(ctx, mfn, type);
		if (type == L.PAGE_TYPE_WRITABLE) continue;
		const plan = planOf(ctx, <u32>entry & L.FRAME_OWNER_MASK);
		if (!plan || plan.kind != L.KIND_PV) return fail(ctx, L.RULE_PAGE_TYPE, field, L.KIND_PV, mfn);
		if (!isTable) continue;
		linkTable(ctx, plan, mfn);
		if (type == L.PAGE_TYPE_L1) plan.lowestCount++;
	}
	return true;
}

/** Types: known, in place, and noted for what looks at single frames later. Links each domain's tables. */
export function checkTypes(ctx: usize): bool {
	const section = context(ctx).framesSection;
	const frames = context(ctx).frameCount;
	const end = sectionEnd(ctx, section);
	const cursor = changetype<RunCursor>(cursorOf(ctx));
	let next: u64 = 0;
	for (let record = sectionFirst(ctx, section); record < end; record += recordBytes(record)) {
		if (defOf(record) != L.RECORD_LU_PAGE_TYPES) continue;
		at(ctx, L.PASS_1H, L.DOMID_XEN, record);
		const body = bodyOf(record);
		const first = load<u64>(body, L.FRAME_SLICE__FIRST_MFN);
		const count = load<u32>(body, L.FRAME_SLICE__ENTRY_COUNT);
		if (first < next || first >= frames || first + count > frames) return fail(ctx, L.RULE_SLICE, body, next, first);
		const chunks = partFrom(L.RECORD_LU_PAGE_TYPES, record, 0);
		runsOpen(cursor, 1, chunks, <u32>(body + bodyBytes(record) - chunks), count);
		while (runsNext(cursor)) {
			if (cursor.value == 0) continue;
			if (!checkTypeRun(ctx, body + L.FRAME_SLICE__FIRST_MFN, first + cursor.first, cursor.length, <u32>cursor.value))
				return false;
		}
		next = first + count;
	}
	return true;
}
