/** Walking an opened stream: sections by the index, records within a section, a domain's place in the workspace. */
import { context } from "./context";
import { CHUNK_ENTRIES } from "./extent/chunk";
import * as L from "./layout.gen";
import { L2_SLOT_SHIFT, PAE_L3_SLOTS, TABLE_ENTRIES } from "./pageTable";
import { defCardinality, findDef, recordBytes, recordType } from "./record";

const SECTION_RECORD_BYTES: u32 = L.RECORD_HEADER_BYTES + L.SECTION_BYTES;

export function indexEntry(ctx: usize, section: u32): L.IndexEntry {
	return changetype<L.IndexEntry>(<usize>context(ctx).indexPtr + section * L.INDEX_ENTRY_BYTES);
}

/** First record of a section, and the address behind its last one. */
export function sectionFirst(ctx: usize, section: u32): usize {
	return <usize>context(ctx).streamPtr + <u32>indexEntry(ctx, section).offset + SECTION_RECORD_BYTES;
}
export function sectionEnd(ctx: usize, section: u32): usize {
	return sectionFirst(ctx, section) + <u32>indexEntry(ctx, section).length;
}

/** Index of the section (pass, domid), searched from `guess` on and round; NONE32 if there is none. */
export function findSection(ctx: usize, pass: u32, domid: u32, guess: u32): u32 {
	const count = context(ctx).sectionCount;
	let section = guess % count;
	for (let i: u32 = 0; i < count; i++) {
		const entry = indexEntry(ctx, section);
		if (entry.pass == pass && entry.domid == domid) return section;
		section = section + 1 == count ? 0 : section + 1;
	}
	return L.NONE32;
}

/** Number of a record's descriptor; RECORD_COUNT for an unknown optional one, which every walk skips. */
export function defOf(record: usize): u32 {
	return findDef(recordType(record));
}

/** First record of type `def` in a section, 0 if there is none. */
export function findRecord(ctx: usize, section: u32, def: u32): usize {
	const end = sectionEnd(ctx, section);
	for (let record = sectionFirst(ctx, section); record < end; record += recordBytes(record)) {
		if (defOf(record) == def) return record;
	}
	return 0;
}

/** A per-vCPU record's vCPU: the first field of its head, but for LU_PV_VCPU, which begins with registers. */
export function recordVcpu(def: u32, record: usize): u32 {
	return defCardinality(def) == L.CARDINALITY_VCPU ? load<u32>(vcpuField(def, record)) : 0;
}

export function vcpuField(def: u32, record: usize): usize {
	const offset: u32 = def == L.RECORD_LU_PV_VCPU ? L.PV_VCPU__VCPU_ID : 0;
	return record + L.RECORD_HEADER_BYTES + offset;
}

// --- the workspace ---
// | slot of each domid (u32 x 0x8000) | frames of each domid (u32 x 0x8000) | DomainPlan x domains |
// | owners (u16 x frames) | states (u16 x frames) | links of tables (u32 x frames) |
// | vCPU marks | steps of each block | scratch for a chunk | pins |

export const DOMID_SLOTS: u32 = 0x8000;
/** vCPU numbers are below this in every Xen. */
export const VCPU_LIMIT: u32 = 8192;

/** Marks of check's own: a frame of bootmem or kept tables; a xenheap frame in use. */
export const MARK_RESERVED: u64 = 1 << 32;
export const MARK_USED: u64 = 1 << 33;
/** An L2 table of a 32-bit PV guest with Xen's part in it; one that an L3 table has named. */
export const MARK_XEN_L2: u64 = 1 << 34;
export const MARK_NAMED: u64 = 1 << 35;
/** Where marks and the types in use stand in a frame's state. */
const MARK_SHIFT: u64 = 24;
const MARKS_IN_STATE: u32 = 15 << 8;
const TYPE_SHIFT: u32 = 5;
const PINNED_IN_STATE: u32 = 1 << 12;
/** Set in the owner of a frame that has one, in the place of the highest bit, which no domid has. */
export const HAS_OWNER: u32 = 0x8000;
/** A state's flags are an entry's above OWNED. */
export const FLAG_SHIFT: u32 = 17;
const FLAGS_IN_STATE: u32 = L.FRAME_ENTRY_MASK >> FLAG_SHIFT;

export function planSlot(ctx: usize, domid: u32): u32 {
	return load<u32>(<usize>context(ctx).workPtr + domid * 4);
}

/** Room for a number for each domid, for those who count by it. Nobody else's, and not cleared. */
export function domidCountsAt(ctx: usize): usize {
	return <usize>context(ctx).workPtr + DOMID_SLOTS * 4;
}

export function planAt(ctx: usize, slot: u32): L.DomainPlan {
	return changetype<L.DomainPlan>(plansAt(ctx) + slot * L.DOMAIN_PLAN_BYTES);
}

function plansAt(ctx: usize): usize {
	return <usize>context(ctx).workPtr + 2 * DOMID_SLOTS * 4;
}

/** A domain's plan by domid, null for a domid that no domain has. */
export function planOf(ctx: usize, domid: u32): L.DomainPlan | null {
	if (domid >= L.DOMID_FIRST_RESERVED) return null;
	const slot = planSlot(ctx, domid);
	return slot == L.NONE32 ? null : planAt(ctx, slot);
}

/** Octets of a domain's word: 4 or 8. Known once its records have been walked. */
export function guestWidth(plan: L.DomainPlan): u32 {
	return load<u32>(<usize>plan.domainPtr + L.RECORD_HEADER_BYTES, L.DOMAIN__GUEST_WIDTH);
}

/** Slots of a page table that are the guest's, from the first on; guestEntry knows Xen's in the middle of an L4 table. */
export function guestSlots(plan: L.DomainPlan, level: u32, isXenL2: bool): u32 {
	if (level == L.PAGE_TYPE_L3 && guestWidth(plan) == 4) return PAE_L3_SLOTS;
	if (!isXenL2 || plan.pv32Ptr == 0) return TABLE_ENTRIES;
	return (load<u32>(<usize>plan.pv32Ptr + L.RECORD_HEADER_BYTES, L.PV32__XEN_START) >>> L2_SLOT_SHIFT) % TABLE_ENTRIES;
}

/** A domain that owns page tables, where its mappings are counted (references.ts). Known from check's page types on. */
export function isWalked(ctx: usize, domid: u32): bool {
	const plan = planOf(ctx, domid);
	return plan != null && plan.tableCount != 0;
}

/**
 * What check knows of each frame: its owner and, apart from it, its state, 16 bits each. Where frames are scattered, looking
 * up owners is most of a check, so that as many of them as possible are to be in the caches.
 *
 *     owner   15 14            0        state   15 13   12    11    10   9      8     7    5 4              0
 *            ┌──┬───────────────┐              ┌─────┬──────┬─────┬─────┬────┬────────┬───────┬────────────────┐
 *            │ 1│ domid         │              │  0  │pinned│named│xenL2│used│reserved│ type  │ LU_FRAMES, 17..│
 *            └──┴───────────────┘              └─────┴──────┴─────┴─────┴────┴────────┴───────┴────────────────┘
 *
 * The owner of a frame that has none is 0, that of one which its domain's P2M maps as RAM is domid + 1: its M2P entry is taken.
 * The state has the flags of LU_FRAMES beside OWNED; the type in use; check's own
 * marks. And, again apart, for a page table the next one of its domain: its MFN + 1, 0 after the last. So a domain's tables
 * are found without looking at the frames of others; links of frames that are no tables are never written or read. check
 * writes all of it; of restore's passes the last one reads the links.
 */
export function ownersAt(ctx: usize): usize {
	return plansAt(ctx) + alignedPlans(ctx);
}

/** Address of a frame's owner, of its state, of its link. */
export function ownerAt(ctx: usize, mfn: u64): usize {
	return ownersAt(ctx) + ((<usize>mfn) << 1);
}
export function stateAt(ctx: usize, mfn: u64): usize {
	return ownersAt(ctx) + ((<usize>context(ctx).frameCount + <usize>mfn) << 1);
}
function linkAt(ctx: usize, mfn: u64): usize {
	return ownersAt(ctx) + ((<usize>context(ctx).frameCount + <usize>mfn) << 2);
}

/** The owner that a frame of `domid` has. */
export function ownerOf(domid: u32): u32 {
	return HAS_OWNER | domid;
}

/** And has when its P2M has mapped it as RAM. */
export function mappedOwnerOf(domid: u32): u32 {
	return domid + 1;
}

/** Owner and state of a frame from its entry, which is sound: the owner in the low 16 bits, the state above them. */
export function splitEntry(entry: u32): u32 {
	const owner = (entry & (HAS_OWNER - 1)) | ((entry & L.FRAME_OWNED) >> 1);
	return owner | ((entry >> FLAG_SHIFT) << 16);
}

/** The owner's entry as in LU_FRAMES, and the marks. */
export function ownerEntry(ctx: usize, mfn: u64): u64 {
	const found = <u32>load<u16>(ownerAt(ctx, mfn));
	const owner = found == 0 || (found & HAS_OWNER) != 0 ? found : ownerOf(found - 1);
	const state = <u32>load<u16>(stateAt(ctx, mfn));
	const entry = (owner & (HAS_OWNER - 1)) | ((owner & HAS_OWNER) << 1) | ((state & FLAGS_IN_STATE) << FLAG_SHIFT);
	return <u64>entry | ((<u64>(state & MARKS_IN_STATE)) << MARK_SHIFT);
}

export function mark(ctx: usize, mfn: u64, bit: u64): void {
	const state = stateAt(ctx, mfn);
	store<u16>(state, load<u16>(state) | <u16>(bit >> MARK_SHIFT));
}

/** Type in use, PAGE_TYPE_NONE for none. */
export function typeInUse(ctx: usize, mfn: u64): u32 {
	return (<u32>load<u16>(stateAt(ctx, mfn)) >> TYPE_SHIFT) & 7;
}

/** A type entry as a frame's state has it: the type in use, and whether it is pinned. check has seen to it that no frame gets two. */
export function typeBits(entry: u32): u32 {
	return ((entry & 7) << TYPE_SHIFT) | ((entry & L.PAGE_TYPE_FLAG_PINNED) != 0 ? PINNED_IN_STATE : 0);
}

/** And back: the entry of a frame that check has seen. */
export function typeEntry(ctx: usize, mfn: u64): u32 {
	const state = <u32>load<u16>(stateAt(ctx, mfn));
	const isPinned = (state & PINNED_IN_STATE) != 0;
	const isXenL2 = (state & <u32>(MARK_XEN_L2 >> MARK_SHIFT)) != 0;
	return typeInUse(ctx, mfn) | (isPinned ? L.PAGE_TYPE_FLAG_PINNED : 0) | (isXenL2 ? L.PAGE_TYPE_FLAG_PAE_XEN_L2 : 0);
}

/** Puts a page table at the head of its domain's list. */
export function linkTable(ctx: usize, plan: L.DomainPlan, mfn: u64): void {
	store<u32>(linkAt(ctx, mfn), plan.firstTable);
	plan.firstTable = <u32>mfn + 1;
	plan.tableCount++;
}

/** MFN + 1 of the table behind this one, 0 after the last. */
export function nextTable(ctx: usize, mfn: u64): u32 {
	return load<u32>(linkAt(ctx, mfn));
}

function alignedPlans(ctx: usize): u32 {
	return (context(ctx).domainCount * L.DOMAIN_PLAN_BYTES + 7) & ~7;
}

/** 32 bits per vCPU: which of its records were seen, or which VIRQs it has bound. */
export function marksAt(ctx: usize): usize {
	return ownersAt(ctx) + <usize>context(ctx).frameCount * 8;
}

/** Frames of one block. Large enough that a call is worth making, small enough that a host has several for each CPU. */
export const FRAMES_PER_BLOCK: u32 = 65536;

export function blocksOf(frames: u64): u32 {
	return <u32>((frames + FRAMES_PER_BLOCK - 1) / FRAMES_PER_BLOCK);
}

/** An octet per block of frames: steps that it has ended, where workers restore (workers.ts). */
export function blockStepsAt(ctx: usize): usize {
	return marksAt(ctx) + VCPU_LIMIT * 4;
}

/** Room for the entries of one chunk of a table, while check looks at them. */
export function scratchAt(ctx: usize): usize {
	return blockStepsAt(ctx) + ((context(ctx).blockCount + 7) & ~7);
}
const SCRATCH_BYTES: u32 = CHUNK_ENTRIES * 8;

export function pinsAt(ctx: usize): usize {
	return scratchAt(ctx) + SCRATCH_BYTES;
}

/** Octets of workspace before the pins, for `domains` domains and `frames` frames. */
export function workBytes(domains: u32, frames: u64): u64 {
	const plans = (<u64>domains * L.DOMAIN_PLAN_BYTES + 7) & ~7;
	const steps = (<u64>blocksOf(frames) + 7) & ~7;
	return 2 * <u64>DOMID_SLOTS * 4 + plans + frames * 8 + VCPU_LIMIT * 4 + steps + SCRATCH_BYTES;
}
