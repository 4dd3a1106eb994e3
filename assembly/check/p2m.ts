/** The P2M of HVM and PVH domains, walked by runs; foreign entries against LU_FOREIGN_MAPS; kept page tables. */
import { at, context, cursorOf, fail } from "../context";
import {
	chunkBytes,
	chunkEntries,
	codedRunCount,
	codedRunLength,
	codedRunValue,
	continuesRun,
	FORM_RUNS,
	frameFault,
} from "../extent/chunk";
import { decodeChunk } from "../extent/decode";
import * as L from "../layout.gen";
import { bodyBytes, bodyOf, partFrom, recordBytes } from "../record";
import {
	defOf,
	findRecord,
	indexEntry,
	MARK_RESERVED,
	mappedOwnerOf,
	ownerAt,
	ownerEntry,
	ownerOf,
	ownersAt,
	scratchAt,
	sectionEnd,
	sectionFirst,
} from "../sections";
import { areAlike, areAll, areOwned, areOwnedOrZero, fillHalves, takeFrames } from "./bulk";
import { checkOwned, reserveRanges } from "./frames";
import { exists } from "./sections";

const MFN_MASK: u64 = 0xff_ffff_ffff;
const TYPE_SHIFT: u64 = L.P2M_BITS_TYPE;
const ACCESS_SHIFT: u64 = L.P2M_BITS_ACCESS;
const ORDER_SHIFT: u64 = L.P2M_BITS_ORDER;
const HIGHEST_ACCESS: u32 = L.P2M_ACCESS_R_PW;

/** Types whose frame is the domain's own RAM. */
function isRam(type: u32): bool {
	return (
		type == L.P2M_TYPE_RAM_RW ||
		type == L.P2M_TYPE_RAM_LOGDIRTY ||
		type == L.P2M_TYPE_RAM_RO ||
		type == L.P2M_TYPE_IOREQ_SERVER
	);
}

/** What version 1 refuses by name: sharing and paging. */
function isRefused(type: u32): bool {
	return (
		type == L.P2M_TYPE_PAGING_OUT ||
		type == L.P2M_TYPE_PAGED ||
		type == L.P2M_TYPE_PAGING_IN ||
		type == L.P2M_TYPE_SHARED
	);
}

/** The next LU_FOREIGN_MAPS row that a foreign entry must match. */
function checkForeign(ctx: usize, field: usize, plan: L.DomainPlan, gfn: u64, mfn: u64): bool {
	const index = plan.foreignEntries;
	plan.foreignEntries++;
	const count = plan.foreignPtr ? load<u32>(bodyOf(plan.foreignPtr), L.FOREIGN_MAPS__MAP_COUNT) : 0;
	if (index >= count) return fail(ctx, L.RULE_P2M_FOREIGN, field, count, gfn);
	const row = changetype<L.ForeignMap>(
		partFrom(L.RECORD_LU_FOREIGN_MAPS, plan.foreignPtr, 0) + index * L.FOREIGN_MAP_BYTES,
	);
	if (row.gfn != gfn) return fail(ctx, L.RULE_P2M_FOREIGN, field, row.gfn, gfn);
	if (row.mfn != mfn) return fail(ctx, L.RULE_P2M_FOREIGN, field, row.mfn, mfn);
	const known = exists(ctx, row.owner) || row.owner == <u16>L.DOMID_XEN || row.owner == <u16>L.DOMID_IO;
	if (!known) return fail(ctx, L.RULE_DOMAIN_REFERENCE, field, 0, row.owner);
	return checkOwned(ctx, field, mfn, row.owner);
}

/** A run of P2M entries: `value` is the first one's, `length` entries count on from it. */
function checkRun(ctx: usize, field: usize, plan: L.DomainPlan, gfn: u64, length: u64, value: u64): bool {
	const mfn = value & MFN_MASK;
	const type = <u32>(value >> TYPE_SHIFT) & 15;
	const access = <u32>(value >> ACCESS_SHIFT) & 15;
	const order = <u32>(value >> ORDER_SHIFT) & 63;
	const present = value >> 63 != 0;
	if ((value >> 54) & 0x1ff) return fail(ctx, L.RULE_P2M_ENTRY, field, 0, value);
	if (access > HIGHEST_ACCESS) return fail(ctx, L.RULE_P2M_ENTRY, field, HIGHEST_ACCESS, value);
	if (order != L.P2M_ORDER_4_K && order != L.P2M_ORDER_2_M && order != L.P2M_ORDER_1_G)
		return fail(ctx, L.RULE_P2M_ENTRY, field, L.P2M_ORDER_1_G, value);
	if (isRefused(type)) return fail(ctx, L.RULE_VERSION1_REFUSES, field, L.P2M_TYPE_RAM_RW, value);
	const pages = (<u64>1) << order;
	if (((gfn | length) & (pages - 1)) != 0) return fail(ctx, L.RULE_P2M_SUPERPAGE, field, pages, gfn);
	if (!present) {
		if (mfn != 0) return fail(ctx, L.RULE_P2M_ENTRY, field, 0, value);
		const hasNoFrame = type == L.P2M_TYPE_POPULATE_ON_DEMAND || type == L.P2M_TYPE_MMIO_DM;
		return hasNoFrame || fail(ctx, L.RULE_P2M_ENTRY, field, L.P2M_TYPE_POPULATE_ON_DEMAND, value);
	}
	if ((mfn & (pages - 1)) != 0) return fail(ctx, L.RULE_P2M_SUPERPAGE, field, pages, mfn);
	if (type == L.P2M_TYPE_POPULATE_ON_DEMAND || type == L.P2M_TYPE_MMIO_DM || type == L.P2M_TYPE_INVALID) {
		return fail(ctx, L.RULE_P2M_ENTRY, field, 0, value);
	}
	if ((type == L.P2M_TYPE_FOREIGN || type == L.P2M_TYPE_IOREQ_SERVER) && order != 0)
		return fail(ctx, L.RULE_P2M_FOREIGN, field, 0, value);
	if (isRam(type)) {
		if (mfn + length <= context(ctx).frameCount) {
			const from = ownerAt(ctx, mfn);
			const end = ownerAt(ctx, mfn + length);
			if (areAll(from, end, 0xffff, ownerOf(plan.domid))) {
				fillHalves(from, end, mappedOwnerOf(plan.domid));
				return true;
			}
		}
		for (let i: u64 = 0; i < length; i++) {
			const frame = mfn + i;
			if (frame >= context(ctx).frameCount) return fail(ctx, L.RULE_P2M_FRAME, field, context(ctx).frameCount, frame);
			const entry = ownerEntry(ctx, frame);
			if ((entry & L.FRAME_OWNED) == 0 || (<u32>entry & L.FRAME_OWNER_MASK) != plan.domid) {
				return fail(ctx, L.RULE_P2M_FRAME, field, plan.domid, frame);
			}
			if (<u32>load<u16>(ownerAt(ctx, frame)) != ownerOf(plan.domid))
				return fail(ctx, L.RULE_P2M_TWICE, field, 0, frame);
		}
		return true;
	}
	if (type == L.P2M_TYPE_FOREIGN) {
		for (let i: u64 = 0; i < length; i++) if (!checkForeign(ctx, field, plan, gfn + i, mfn + i)) return false;
		return true;
	}
	// Broken frames, MMIO and grant mappings never name a frame that must stay as it is.
	for (let i: u64 = 0; i < length && mfn + i < context(ctx).frameCount; i++) {
		const entry = ownerEntry(ctx, mfn + i);
		if ((entry & MARK_RESERVED) != 0) return fail(ctx, L.RULE_FRAME_RESERVED, field, 0, mfn + i);
		if (!mayReach(type, entry, plan.domid)) return fail(ctx, L.RULE_P2M_FRAME, field, plan.domid, mfn + i);
	}
	return true;
}

/** Whether an entry that is no RAM of the domain's own may name a frame of the frame table. */
function mayReach(type: u32, entry: u64, domid: u32): bool {
	const owner = <u32>entry & L.FRAME_OWNER_MASK;
	const isOwned = (entry & L.FRAME_OWNED) != 0;
	// MMIO is nobody's memory, DOMID_IO's, or an extra frame that Xen gave the domain (the APIC access page).
	if (type == L.P2M_TYPE_MMIO_DIRECT) {
		return !isOwned || owner == L.DOMID_IO || (owner == domid && (entry & L.FRAME_EXTRA) != 0);
	}
	// A grant is some guest's frame, or I/O memory. A broken frame may be anyone's.
	if (type == L.P2M_TYPE_GRANT_MAP_RW || type == L.P2M_TYPE_GRANT_MAP_RO) {
		return isOwned && (owner < L.DOMID_FIRST_RESERVED || owner == L.DOMID_IO);
	}
	return true;
}

/**
 * The run that a walk over a slice has come to. A superpage may span chunks, so that runs which go on are joined before they
 * are looked at. In the context's scratch.
 */
@unmanaged
class JoinedRun {
	value: u64;
	/** GFN of its first entry, and its entries: 0 for no run. */
	gfn: u64;
	length: u64;
	/** What touchFrames has seen: of no meaning. */
	touched: u32;
	/** Last GFN of the slice so far whose entry is not zero, NONE64 for none. */
	last: u64;
}

/** Looks at the run as it has become, and begins without one. */
function endRun(ctx: usize, field: usize, plan: L.DomainPlan, run: JoinedRun): bool {
	const length = run.length;
	run.length = 0;
	if (length == 0 || run.value == 0) return true;
	run.last = run.gfn + length - 1;
	return checkRun(ctx, field, plan, run.gfn, length, run.value);
}

function addRun(ctx: usize, field: usize, plan: L.DomainPlan, run: JoinedRun, gfn: u64, length: u32, value: u64): bool {
	// As within a chunk: what carries out of the MFN's bits is another type, and no continuation.
	if (run.length != 0 && value != 0 && continuesRun(run.value + (run.value >> 63) * (run.length - 1), value)) {
		run.length += length;
		return true;
	}
	if (!endRun(ctx, field, plan, run)) return false;
	run.gfn = gfn;
	run.length = length;
	run.value = value;
	return true;
}

/** Whether a frame of its own would be right at this entry: present, 4 KiB, RAM, and else as it must be. */
function isSmallRam(value: u64): bool {
	const above = value >> ORDER_SHIFT;
	return (
		above == (<u64>1) << (63 - ORDER_SHIFT) &&
		isRam(<u32>(value >> TYPE_SHIFT) & 15) &&
		(<u32>(value >> ACCESS_SHIFT) & 15) <= HIGHEST_ACCESS
	);
}

/** Whether all of these entries are 4 KiB of RAM, alike but for their frames, which the domain owns; or holes among such. */
function areOwnFrames(ctx: usize, plan: L.DomainPlan, from: usize, entries: u32): bool {
	let first = load<u64>(from);
	if (first == 0 && entries > 1) first = load<u64>(from, 8);
	if (!isSmallRam(first)) return false;
	const frames = context(ctx).frameCount;
	const owner = ownerOf(plan.domid);
	const owners = ownersAt(ctx);
	if (areAlike(from, entries, first, MFN_MASK, frames)) return areOwned(owners, from, entries, owner);
	// The first one's frame stands in for those that holes do not have.
	return (first & MFN_MASK) < frames && areOwnedOrZero(owners, from, entries, first, MFN_MASK, frames, owner);
}

/** Entries looked at together. Where they are not all the domain's own frames, by runs. */
const BLOCK_ENTRIES: u32 = 512;

/** A chunk's entries in the scratch, of which few continue the one before. */
function checkEntries(
	ctx: usize,
	field: usize,
	plan: L.DomainPlan,
	run: JoinedRun,
	gfn: u64,
	from: usize,
	entries: u32,
): bool {
	const end = from + ((<usize>entries) << 3);
	while (from < end) {
		const block = min<u32>(BLOCK_ENTRIES, <u32>(end - from) >>> 3);
		const blockEnd = from + ((<usize>block) << 3);
		if (areOwnFrames(ctx, plan, from, block)) {
			// A run that goes on into these entries is one of single frames as well: it may end here as anywhere.
			if (!endRun(ctx, field, plan, run)) return false;
			const twice = takeFrames(ownersAt(ctx), from, block, ownerOf(plan.domid), mappedOwnerOf(plan.domid));
			if (twice != 0) return fail(ctx, L.RULE_P2M_TWICE, field, 0, load<u64>(twice) & MFN_MASK);
			let last = block - 1;
			while (load<u64>(from + (last << 3)) == 0) last--;
			run.last = gfn + last;
			from = blockEnd;
			gfn += block;
			continue;
		}
		while (from < blockEnd) {
			const value = load<u64>(from);
			let length: u32 = 1;
			let previous = value;
			for (from += 8; from < blockEnd; from += 8) {
				const next = load<u64>(from);
				if (!continuesRun(previous, next)) break;
				previous = next;
				length++;
			}
			if (!addRun(ctx, field, plan, run, gfn, length, value)) return false;
			gfn += length;
		}
	}
	return true;
}

/** Octets of a cache's line, and how many lines of a run are touched: of a longer one the processor fetches the rest. */
const LINE_BYTES: usize = 64;
const TOUCHED_BYTES: usize = 16 * LINE_BYTES;

/**
 * Reads an owner of each line that the runs' frames have. Runs lie anywhere, so that each begins with a miss: here they
 * overlap, while between the looks that checkRun takes there are too many branches.
 */
function touchFrames(ctx: usize, run: JoinedRun, header: usize, runCount: u32): void {
	const frames = context(ctx).frameCount;
	const owners = ownersAt(ctx);
	let touched: u32 = 0;
	for (let i: u32 = 0; i < runCount; i++) {
		const mfn = codedRunValue(header, i) & MFN_MASK;
		const length = codedRunLength(header, runCount, i);
		if (mfn + length > frames) continue;
		const from = owners + ((<usize>mfn) << 1);
		const bytes = min<usize>((<usize>length) << 1, TOUCHED_BYTES);
		for (let line: usize = 0; line < bytes; line += LINE_BYTES) touched |= <u32>load<u16>(from + line);
		touched |= <u32>load<u16>(from + bytes - 2);
	}
	run.touched = touched;
}

/** Runs of fewer entries, in the mean of a chunk, are looked at as entries. */
const SHORT_RUN: u32 = 8;

/** One slice. Returns its last GFN whose entry is not zero, NONE64 if it has none; FAILED after a refusal. */
function checkSlice(ctx: usize, record: usize, plan: L.DomainPlan): u64 {
	const body = bodyOf(record);
	const field = body + L.P2M_SLICE__FIRST_GFN;
	const chunks = partFrom(L.RECORD_LU_P2M, record, 0);
	const length = <u32>(body + bodyBytes(record) - chunks);
	const count = load<u32>(body, L.P2M_SLICE__ENTRY_COUNT);
	const run = changetype<JoinedRun>(cursorOf(ctx));
	run.length = 0;
	run.last = L.NONE64;
	let gfn = load<u64>(body, L.P2M_SLICE__FIRST_GFN);
	let offset: u32 = 0;
	for (let done: u32 = 0; done < count; ) {
		if (frameFault(8, chunks, length, offset, count - done) != 0) break;
		const header = chunks + offset;
		const entries = chunkEntries(header);
		const runCount = <u32>load<u8>(header) == FORM_RUNS ? codedRunCount(header) : entries;
		if (runCount * SHORT_RUN > entries) {
			decodeChunk(8, header, scratchAt(ctx));
			if (!checkEntries(ctx, field, plan, run, gfn, scratchAt(ctx), entries)) return FAILED;
		} else {
			touchFrames(ctx, run, header, runCount);
			let at = gfn;
			for (let i: u32 = 0; i < runCount; i++) {
				const frames = codedRunLength(header, runCount, i);
				if (!addRun(ctx, field, plan, run, at, frames, codedRunValue(header, i))) return FAILED;
				at += frames;
			}
		}
		gfn += entries;
		done += entries;
		offset += chunkBytes(header);
	}
	return endRun(ctx, field, plan, run) ? run.last : FAILED;
}
const FAILED: u64 = u64.MAX_VALUE - 1;

/** All slices of a domain's P2M, then what LU_FOREIGN_MAPS lists beyond them. */
export function checkP2m(ctx: usize, plan: L.DomainPlan): bool {
	const end = sectionEnd(ctx, plan.section0);
	let next: u64 = 0;
	let last: u64 = L.NONE64;
	let highest: u64 = L.NONE64;
	let access: u32 = 0;
	let slices: u32 = 0;
	let field: usize = 0;
	for (let record = sectionFirst(ctx, plan.section0); record < end; record += recordBytes(record)) {
		if (defOf(record) != L.RECORD_LU_P2M) continue;
		at(ctx, indexEntry(ctx, plan.section0).pass, plan.domid, record);
		const body = bodyOf(record);
		if (plan.kind == L.KIND_PV) return fail(ctx, L.RULE_HVM_ONLY, 0, L.KIND_PVH, plan.kind);
		const first = load<u64>(body, L.P2M_SLICE__FIRST_GFN);
		const count = load<u32>(body, L.P2M_SLICE__ENTRY_COUNT);
		const claimed = load<u64>(body, L.P2M_SLICE__HIGHEST_GFN);
		if (claimed == L.NONE64) return fail(ctx, L.RULE_P2M_HIGHEST, body + L.P2M_SLICE__HIGHEST_GFN, first, claimed);
		if (first < next || first > claimed || first + count > claimed + 1)
			return fail(ctx, L.RULE_SLICE, body, next, first);
		const defaultAccess = load<u32>(body, L.P2M_SLICE__DEFAULT_ACCESS);
		if (defaultAccess > HIGHEST_ACCESS)
			return fail(ctx, L.RULE_P2M_ENTRY, body + L.P2M_SLICE__DEFAULT_ACCESS, HIGHEST_ACCESS, defaultAccess);
		if (slices != 0 && claimed != highest)
			return fail(ctx, L.RULE_P2M_HIGHEST, body + L.P2M_SLICE__HIGHEST_GFN, highest, claimed);
		if (slices != 0 && defaultAccess != access)
			return fail(ctx, L.RULE_P2M_HIGHEST, body + L.P2M_SLICE__DEFAULT_ACCESS, access, defaultAccess);
		highest = claimed;
		access = defaultAccess;
		slices++;
		const found = checkSlice(ctx, record, plan);
		if (found == FAILED) return false;
		if (found != L.NONE64) last = found;
		next = first + count;
		field = body + L.P2M_SLICE__HIGHEST_GFN;
	}
	if (slices != 0 && last != highest) return fail(ctx, L.RULE_P2M_HIGHEST, field, last, highest);
	if (plan.foreignPtr) {
		at(ctx, L.PASS_2, plan.domid, plan.foreignPtr);
		const count = load<u32>(bodyOf(plan.foreignPtr), L.FOREIGN_MAPS__MAP_COUNT);
		if (count != plan.foreignEntries)
			return fail(ctx, L.RULE_P2M_FOREIGN, bodyOf(plan.foreignPtr), plan.foreignEntries, count);
	}
	return true;
}

/** LU_KEPT_FRAMES: roots of a known kind inside the kept ranges' host, ranges that nobody owns. */
export function checkKept(ctx: usize, plan: L.DomainPlan): bool {
	const record = findRecord(ctx, plan.section0, L.RECORD_LU_KEPT_FRAMES);
	if (!record) return true;
	at(ctx, L.PASS_0, plan.domid, record);
	const body = bodyOf(record);
	const roots = load<u32>(body, L.KEPT_FRAMES__ROOT_COUNT);
	const first = partFrom(L.RECORD_LU_KEPT_FRAMES, record, 0);
	for (let i: u32 = 0; i < roots; i++) {
		const row = first + i * L.KEPT_ROOT_BYTES;
		const root = changetype<L.KeptRoot>(row);
		if (root.purpose == 0 || root.purpose > L.KEPT_PURPOSE_IOMMU)
			return fail(ctx, L.RULE_FRAME_RESERVED, row + L.KEPT_ROOT__PURPOSE, L.KEPT_PURPOSE_IOMMU, root.purpose);
		if (root.format == 0 || root.format > <u16>L.KEPT_FORMAT_AMD_IOMMU)
			return fail(ctx, L.RULE_FRAME_RESERVED, row + L.KEPT_ROOT__FORMAT, L.KEPT_FORMAT_AMD_IOMMU, root.format);
		if (root.levels < 3 || root.levels > 5)
			return fail(ctx, L.RULE_FRAME_RESERVED, row + L.KEPT_ROOT__LEVELS, 5, root.levels);
		if (root.rootMfn >= context(ctx).frameCount)
			return fail(ctx, L.RULE_FRAME_RESERVED, row, context(ctx).frameCount, root.rootMfn);
	}
	const ranges = partFrom(L.RECORD_LU_KEPT_FRAMES, record, 1);
	return reserveRanges(ctx, ranges, load<u32>(body, L.KEPT_FRAMES__RANGE_COUNT));
}
