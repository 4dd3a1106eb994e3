/** Walking an opened stream: sections by the index, records within a section, a domain's place in the workspace. */
import { context } from "./context";
import { CHUNK_ENTRIES } from "./extent/chunk";
import * as L from "./layout.gen";
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
// | slot of each domid (u32 x 0x8000) | frames of each domid (u32 x 0x8000) | DomainPlan x domains | word of each frame |
// | table links (u32 x frames) | vCPU marks | steps of each block | scratch for a chunk | pins |

export const DOMID_SLOTS: u32 = 0x8000;
/** vCPU numbers are below this in every Xen. */
export const VCPU_LIMIT: u32 = 8192;

const TYPE_SHIFT: u32 = 22;
/** Marks of check's own: a frame of bootmem or kept tables; a xenheap frame in use. */
export const MARK_RESERVED: u64 = 1 << 32;
export const MARK_USED: u64 = 1 << 33;
/** They stand so many bits lower in a frame's word. */
const MARK_SHIFT: u64 = 2;
const MARKS_IN_WORD: u32 = 3 << 30;

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

/** A domain that owns page tables, where its mappings are counted (references.ts). Known from check's page types on. */
export function isWalked(ctx: usize, domid: u32): bool {
	const plan = planOf(ctx, domid);
	return plan != null && plan.tableCount != 0;
}

/**
 * What check knows of each frame, 32 bits, so that of a host with scattered frames as much as possible is in the caches:
 *
 *      31     30         29     25 24     22 21            0
 *     ┌──────┬──────────┬─────────┬─────────┬───────────────┐
 *     │ used │ reserved │    0    │  type   │ LU_FRAMES     │
 *     └──────┴──────────┴─────────┴─────────┴───────────────┘
 *
 * The owner's entry as LU_FRAMES has it; the type in use; check's own marks. And, apart from it, for a page table the next
 * one of its domain: its MFN + 1, 0 after the last. So a domain's tables are found without looking at the frames of others.
 * Links of frames that are no tables are never written or read. check writes all of it; of restore's passes the last one
 * reads the links.
 */
export function ownersAt(ctx: usize): usize {
	return plansAt(ctx) + alignedPlans(ctx);
}

/** Address of a frame's word. */
export function wordAt(ctx: usize, mfn: u64): usize {
	return ownersAt(ctx) + ((<usize>mfn) << 2);
}

function linkAt(ctx: usize, mfn: u64): usize {
	return ownersAt(ctx) + ((<usize>context(ctx).frameCount + <usize>mfn) << 2);
}

/** The owner's entry as in LU_FRAMES, and the marks. */
export function ownerEntry(ctx: usize, mfn: u64): u64 {
	const word = load<u32>(wordAt(ctx, mfn));
	return <u64>(word & L.FRAME_ENTRY_MASK) | ((<u64>(word & MARKS_IN_WORD)) << MARK_SHIFT);
}

export function mark(ctx: usize, mfn: u64, bit: u64): void {
	const word = wordAt(ctx, mfn);
	store<u32>(word, load<u32>(word) | <u32>(bit >> MARK_SHIFT));
}

/** Type in use, PAGE_TYPE_NONE for none. */
export function typeInUse(ctx: usize, mfn: u64): u32 {
	return (load<u32>(wordAt(ctx, mfn)) >> TYPE_SHIFT) & 7;
}

/** A type in use as a frame's word has it, without its flags. check has seen to it that no frame gets two. */
export function typeBits(type: u32): u32 {
	return type << TYPE_SHIFT;
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
