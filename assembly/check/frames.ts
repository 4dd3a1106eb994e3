/** Page ownership and types, and the frames that nobody may own. */
import { at, context, cursorOf, fail } from "../context";
import {
	chunkBytes,
	chunkEntries,
	codedRunCount,
	codedRunLength,
	codedRunValue,
	FORM_RUNS,
	frameFault,
} from "../extent/chunk";
import { decodeChunk, RunCursor, runsNext, runsOpen } from "../extent/decode";
import * as L from "../layout.gen";
import { bodyBytes, bodyOf, partFrom, recordBytes } from "../record";
import {
	defOf,
	domidCountsAt,
	guestWidth,
	linkTable,
	MARK_RESERVED,
	MARK_USED,
	MARK_XEN_L2,
	mark,
	ownerAt,
	ownerEntry,
	ownerOf,
	planAt,
	planOf,
	scratchAt,
	sectionEnd,
	sectionFirst,
	splitEntry,
	stateAt,
	typeBits,
	typeInUse,
} from "../sections";
import { addBits, areAll, areUsual, fillHalves, splitEntries } from "./bulk";

/** A frame in the host that belongs to `domid`. `field` is where the record names it. */
export function checkOwned(ctx: usize, field: usize, mfn: u64, domid: u32): bool {
	if (mfn >= context(ctx).frameCount) return fail(ctx, L.RULE_FRAME_NOT_OWNED, field, context(ctx).frameCount, mfn);
	const entry = ownerEntry(ctx, mfn);
	if ((entry & L.FRAME_OWNED) == 0) return fail(ctx, L.RULE_FRAME_NOT_OWNED, field, domid, L.DOMID_INVALID);
	if ((<u32>entry & L.FRAME_OWNER_MASK) != domid)
		return fail(ctx, L.RULE_FRAME_NOT_OWNED, field, domid, <u32>entry & L.FRAME_OWNER_MASK);
	return true;
}

/**
 * A frame of `domid` that Xen, a device or another domain writes to, which takes its writable type: it is no page table and no
 * descriptor frame, whatever the guest does.
 */
export function checkWritten(ctx: usize, field: usize, mfn: u64, domid: u32): bool {
	if (!checkOwned(ctx, field, mfn, domid)) return false;
	const type = typeInUse(ctx, mfn);
	const isFree = type == L.PAGE_TYPE_NONE || type == L.PAGE_TYPE_WRITABLE;
	return isFree || fail(ctx, L.RULE_WRITTEN, field, L.PAGE_TYPE_WRITABLE, type);
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

/** `length` frames that have this entry. */
function checkEntry(ctx: usize, field: usize, entry: u64, length: u32): bool {
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
		plan.xenheapFrames += length;
	} else if ((entry & L.FRAME_EXTRA) != 0) plan.extraFrames += length;
	else plan.frames += length;
	return true;
}

/** What nearly every frame is where owners are scattered: free, or owned by a domain and allocated, and nothing else. */
const USUAL: u64 = L.FRAME_OWNED | L.FRAME_ALLOCATED;
const USUAL_FREE: u64 = 0x7fff;
/** So many entries at once: if one of them is unusual, each is looked at. */
const BLOCK_ENTRIES: u32 = 512;

/** Frames [first, end) all have this entry. */
function fillFrames(ctx: usize, first: u64, end: u64, entry: u32): void {
	const split = splitEntry(entry);
	fillHalves(ownerAt(ctx, first), ownerAt(ctx, end), split & 0xffff);
	fillHalves(stateAt(ctx, first), stateAt(ctx, end), split >> 16);
}

/**
 * Counts the owners of entries that are zero or usual, `zeros` of them zero. One that does not exist is counted as well:
 * whoever adds up sees that some are missing.
 */
function countOwners(ctx: usize, from: usize, entries: u32, zeros: u32): void {
	const counts = domidCountsAt(ctx);
	for (const end = from + ((<usize>entries) << 3); from < end; from += 8) {
		const count = counts + ((<usize>load<u32>(from) & <usize>USUAL_FREE) << 2);
		store<u32>(count, load<u32>(count) + 1);
	}
	store<u32>(counts, load<u32>(counts) - zeros);
}

/** Counts of owners whose frames are usual begin anew. */
function clearCounts(ctx: usize): void {
	const counts = domidCountsAt(ctx);
	store<u32>(counts, 0);
	store<u32>(counts + L.DOMID_XEN * 4, 0);
	store<u32>(counts + L.DOMID_IO * 4, 0);
	for (let i: u32 = 0; i < context(ctx).domainCount; i++) store<u32>(counts + planAt(ctx, i).domid * 4, 0);
}

/** Adds them to the domains' figures. Returns how many of the frames have an owner that exists. */
function addCounts(ctx: usize): u32 {
	const counts = domidCountsAt(ctx);
	let sum = load<u32>(counts + L.DOMID_XEN * 4) + load<u32>(counts + L.DOMID_IO * 4);
	for (let i: u32 = 0; i < context(ctx).domainCount; i++) {
		const plan = planAt(ctx, i);
		const count = load<u32>(counts + plan.domid * 4);
		plan.frames += count;
		sum += count;
	}
	return sum;
}

/** A chunk's entries in the scratch, from frame `mfn` on. Returns how many were only counted; NONE32 after a refusal. */
function checkEntries(ctx: usize, field: usize, mfn: u64, entries: u32, isExact: bool): u32 {
	const scratch = scratchAt(ctx);
	let counted: u32 = 0;
	for (let first: u32 = 0; first < entries; first += BLOCK_ENTRIES) {
		const block = min<u32>(BLOCK_ENTRIES, entries - first);
		const from = scratch + ((<usize>first) << 3);
		const zeros = isExact ? u64.MAX_VALUE : areUsual(from, block, USUAL, USUAL_FREE);
		if (zeros != u64.MAX_VALUE) {
			countOwners(ctx, from, block, <u32>zeros);
			counted += block - <u32>zeros;
		} else {
			for (let i: u32 = 0; i < block; i++) {
				if (!checkEntry(ctx, field, load<u64>(from + (i << 3)), 1)) return L.NONE32;
			}
		}
		splitEntries(from, block, ownerAt(ctx, mfn + first), stateAt(ctx, mfn + first));
	}
	return counted;
}

/**
 * The owners of one slice, chunk by chunk, into the workspace: a run once and all of its frames at once. `isExact`: every
 * entry of the other chunks is looked at, so that the first that is wrong is found.
 */
function checkSlice(ctx: usize, record: usize, first: u64, count: u32, isExact: bool): bool {
	const field = bodyOf(record) + L.FRAME_SLICE__FIRST_MFN;
	const chunks = partFrom(L.RECORD_LU_FRAMES, record, 0);
	const length = <u32>(bodyOf(record) + bodyBytes(record) - chunks);
	let offset: u32 = 0;
	let counted: u32 = 0;
	clearCounts(ctx);
	for (let done: u32 = 0; done < count; ) {
		if (frameFault(8, chunks, length, offset, count - done) != 0) break;
		const header = chunks + offset;
		const entries = chunkEntries(header);
		if (<u32>load<u8>(header) == FORM_RUNS) {
			const runCount = codedRunCount(header);
			let mfn = first + done;
			const end = mfn + entries;
			for (let run: u32 = 0; run < runCount; run++) {
				const value = codedRunValue(header, run);
				const frames = min<u32>(codedRunLength(header, runCount, run), <u32>(end - mfn));
				if (!checkEntry(ctx, field, value, frames)) return false;
				fillFrames(ctx, mfn, mfn + frames, <u32>value);
				mfn += frames;
			}
		} else {
			decodeChunk(8, header, scratchAt(ctx));
			const more = checkEntries(ctx, field, first + done, entries, isExact);
			if (more == L.NONE32) return false;
			counted += more;
		}
		done += entries;
		offset += chunkBytes(header);
	}
	return addCounts(ctx) == counted;
}

/** Page ownership: writes every frame's owner and state, and counts each domain's frames. */
export function checkOwners(ctx: usize): bool {
	const section = context(ctx).framesSection;
	const frames = context(ctx).frameCount;
	const end = sectionEnd(ctx, section);
	let next: u64 = 0;
	for (let record = sectionFirst(ctx, section); record < end; record += recordBytes(record)) {
		if (defOf(record) != L.RECORD_LU_FRAMES) continue;
		at(ctx, L.PASS_1H, L.DOMID_XEN, record);
		const body = bodyOf(record);
		const first = load<u64>(body, L.FRAME_SLICE__FIRST_MFN);
		const count = load<u32>(body, L.FRAME_SLICE__ENTRY_COUNT);
		if (first < next || first >= frames || first + count > frames) return fail(ctx, L.RULE_SLICE, body, next, first);
		fillFrames(ctx, next, first, 0);
		// What was counted of a slice that is refused is of no interest any more: its first fault is.
		if (!checkSlice(ctx, record, first, count, false)) return checkSlice(ctx, record, first, count, true);
		next = first + count;
	}
	fillFrames(ctx, next, frames, 0);
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
	const isXenL2 = (value & L.PAGE_TYPE_FLAG_PAE_XEN_L2) != 0;
	if (isXenL2 && context(ctx).formatVersion < 2) return fail(ctx, L.RULE_VERSION1_REFUSES, field, 0, value);
	if (isXenL2 && (type != L.PAGE_TYPE_L2 || (value & L.PAGE_TYPE_FLAG_PINNED) != 0))
		return fail(ctx, L.RULE_PAGE_TYPE, field, L.PAGE_TYPE_L2, value);
	addBits(stateAt(ctx, first), stateAt(ctx, first + length), typeBits(value));
	const areAllOwned = areAll(ownerAt(ctx, first), ownerAt(ctx, first + length), ownerOf(0), ownerOf(0));
	if (areAllOwned && type == L.PAGE_TYPE_WRITABLE) return true;
	for (let mfn = first; mfn < first + length; mfn++) {
		const entry = ownerEntry(ctx, mfn);
		if ((entry & L.FRAME_OWNED) == 0) return fail(ctx, L.RULE_PAGE_TYPE, field, L.FRAME_OWNED, mfn);
		if (type == L.PAGE_TYPE_WRITABLE) continue;
		const plan = planOf(ctx, <u32>entry & L.FRAME_OWNER_MASK);
		if (!plan || plan.kind != L.KIND_PV) return fail(ctx, L.RULE_PAGE_TYPE, field, L.KIND_PV, mfn);
		if (!isTable) continue;
		// A 32-bit guest's L4 tables are Xen's own.
		if ((type == L.PAGE_TYPE_L4 || isXenL2) && (guestWidth(plan) == 4) != isXenL2)
			return fail(ctx, L.RULE_PAGE_TYPE, field, isXenL2 ? 4 : 8, mfn);
		if (isXenL2) mark(ctx, mfn, MARK_XEN_L2);
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
