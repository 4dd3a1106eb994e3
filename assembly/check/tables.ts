/**
 * Page tables of PV guests: their content is what references are counted from, so each is in the preserved memory, and
 * what they say agrees with ownership and types (PAGE_TABLE).
 *
 * A domain without an L1 table maps nothing, so that its other tables lead nowhere: they are not judged, here nor where
 * its vCPUs name them. (The golden streams of version 1 have such a domain; no hypervisor has one that runs.)
 *
 * L1 entries are not judged by what the guest may map: grants, foreign frames and I/O memory are legal there. Only what
 * would contradict the types in use, or reach what must stay as it is, is refused.
 */
import { at, context, cursorOf, fail } from "../context";
import { RunCursor, runsNext, runsOpen } from "../extent/decode";
import * as L from "../layout.gen";
import { guestEntry, PAE_L3_SLOTS, pteFrame, pteReadonly, pteWritable, TABLE_ENTRIES, takesType } from "../pageTable";
import { preserved } from "../preserved";
import { bodyBytes, bodyOf, partFrom, recordBytes } from "../record";
import {
	defOf,
	guestSlots,
	guestWidth,
	MARK_NAMED,
	MARK_RESERVED,
	MARK_XEN_L2,
	mark,
	ownerEntry,
	planOf,
	sectionEnd,
	sectionFirst,
	typeInUse,
} from "../sections";

function tableFail(ctx: usize, expected: u64, entry: u64): bool {
	return fail(ctx, L.RULE_PAGE_TABLE, 0, expected, entry);
}

/**
 * An L2, L3 or L4 entry: a table of the same domain, one level lower; or, read-only, one of its own level, itself or another
 * one: a linear map, which L3 tables of a 32-bit guest have not.
 */
function checkUpper(ctx: usize, plan: L.DomainPlan, level: u32, entry: u64): bool {
	const target = pteFrame(entry);
	if (target >= context(ctx).frameCount) return tableFail(ctx, level - 1, entry);
	const isOwn = (<u32>ownerEntry(ctx, target) & L.FRAME_OWNER_MASK) == plan.domid;
	// A frame with a type in use is owned.
	const type = isOwn ? typeInUse(ctx, target) : L.PAGE_TYPE_NONE;
	if (type != level || (level == L.PAGE_TYPE_L3 && guestWidth(plan) == 4))
		return type == level - 1 || tableFail(ctx, level - 1, entry);
	return !pteWritable(entry) || tableFail(ctx, pteReadonly(entry), entry);
}

/** An L1 entry: never to a reserved frame; read-write, only where that agrees with the type in use. */
function checkLowest(ctx: usize, plan: L.DomainPlan, entry: u64): bool {
	const target = pteFrame(entry);
	if (target >= context(ctx).frameCount) return true;
	const frame = ownerEntry(ctx, target);
	if ((frame & MARK_RESERVED) != 0) return tableFail(ctx, 0, entry);
	if ((frame & L.FRAME_OWNED) == 0 || !pteWritable(entry)) return true;
	if (typeInUse(ctx, target) == L.PAGE_TYPE_WRITABLE) return true;
	// Page tables and descriptor frames are PV domains', so that a read-write entry always would take their type.
	const owner = <u32>frame & L.FRAME_OWNER_MASK;
	if (owner == L.DOMID_IO) return true;
	const other = planOf(ctx, owner);
	return !takesType(plan.domid, owner, other ? other.kind : 0) || tableFail(ctx, pteReadonly(entry), entry);
}

/**
 * An L3 table of a 32-bit guest: four entries, and nothing behind them. The last, and it alone, names an L2 table with Xen's
 * part, which no other table names: Xen's own linear map of it stands in it.
 */
function checkPaeL3(ctx: usize, page: usize): bool {
	for (let slot: u32 = PAE_L3_SLOTS; slot < TABLE_ENTRIES; slot++) {
		if (load<u64>(page + slot * 8) != 0) return tableFail(ctx, 0, load<u64>(page + slot * 8));
	}
	for (let slot: u32 = 0; slot < PAE_L3_SLOTS; slot++) {
		const entry = guestEntry(page, L.PAGE_TYPE_L3, slot);
		const isLast = slot + 1 == PAE_L3_SLOTS;
		if (entry == 0) {
			if (isLast) return tableFail(ctx, L.PAGE_TYPE_L2, 0);
			continue;
		}
		const target = pteFrame(entry);
		if (target >= context(ctx).frameCount) return tableFail(ctx, L.PAGE_TYPE_L2, entry);
		const marks = ownerEntry(ctx, target) & (MARK_XEN_L2 | MARK_NAMED);
		if (marks != (isLast ? MARK_XEN_L2 : 0)) return tableFail(ctx, L.PAGE_TYPE_L2, entry);
		if (isLast) mark(ctx, target, MARK_NAMED);
	}
	return true;
}

function checkTable(ctx: usize, plan: L.DomainPlan, mfn: u64, level: u32, page: usize): bool {
	const isPaeL3 = level == L.PAGE_TYPE_L3 && guestWidth(plan) == 4;
	if (isPaeL3 && !checkPaeL3(ctx, page)) return false;
	const slots = guestSlots(plan, level, (ownerEntry(ctx, mfn) & MARK_XEN_L2) != 0);
	for (let slot: u32 = 0; slot < slots; slot++) {
		const entry = guestEntry(page, level, slot);
		if (entry == 0) continue;
		const holds = level == L.PAGE_TYPE_L1 ? checkLowest(ctx, plan, entry) : checkUpper(ctx, plan, level, entry);
		if (!holds) return false;
	}
	return true;
}

/** Every page table, in the order of LU_PAGE_TYPES. */
export function checkTables(ctx: usize): bool {
	const section = context(ctx).framesSection;
	const end = sectionEnd(ctx, section);
	const cursor = changetype<RunCursor>(cursorOf(ctx));
	for (let record = sectionFirst(ctx, section); record < end; record += recordBytes(record)) {
		if (defOf(record) != L.RECORD_LU_PAGE_TYPES) continue;
		const body = bodyOf(record);
		const first = load<u64>(body, L.FRAME_SLICE__FIRST_MFN);
		const chunks = partFrom(L.RECORD_LU_PAGE_TYPES, record, 0);
		const length = <u32>(body + bodyBytes(record) - chunks);
		runsOpen(cursor, 1, chunks, length, load<u32>(body, L.FRAME_SLICE__ENTRY_COUNT));
		while (runsNext(cursor)) {
			const level = <u32>cursor.value & 7;
			if (level == L.PAGE_TYPE_NONE || level > L.PAGE_TYPE_L4) continue;
			for (let i: u32 = 0; i < cursor.length; i++) {
				const mfn = first + cursor.first + i;
				const plan = planOf(ctx, <u32>ownerEntry(ctx, mfn) & L.FRAME_OWNER_MASK);
				at(ctx, L.PASS_1H, plan ? plan.domid : L.DOMID_XEN, record);
				const page = preserved(ctx, mfn);
				if (!page) return fail(ctx, L.RULE_MEMORY, body + L.FRAME_SLICE__FIRST_MFN, 1, mfn);
				if (plan && plan.lowestCount != 0 && !checkTable(ctx, plan, mfn, level, page)) return false;
			}
		}
	}
	return true;
}
