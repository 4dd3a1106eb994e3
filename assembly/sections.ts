/** Walking an opened stream: sections by the index, records within a section, a domain's place in the workspace. */
import { context } from "./context";
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

// --- the workspace: | slot of each domid (u32 x 0x8000) | DomainPlan x domains | owner of each frame | vCPU marks | pins |

export const DOMID_SLOTS: u32 = 0x8000;
/** vCPU numbers are below this in every Xen. */
export const VCPU_LIMIT: u32 = 8192;

export function planSlot(ctx: usize, domid: u32): u32 {
	return load<u32>(<usize>context(ctx).workPtr + domid * 4);
}

export function planAt(ctx: usize, slot: u32): L.DomainPlan {
	return changetype<L.DomainPlan>(<usize>context(ctx).workPtr + DOMID_SLOTS * 4 + slot * L.DOMAIN_PLAN_BYTES);
}

/** A domain's plan by domid, null for a domid that no domain has. */
export function planOf(ctx: usize, domid: u32): L.DomainPlan | null {
	if (domid >= L.DOMID_FIRST_RESERVED) return null;
	const slot = planSlot(ctx, domid);
	return slot == L.NONE32 ? null : planAt(ctx, slot);
}

/** Owner and flags of each frame, as check decoded them. */
export function ownersAt(ctx: usize): usize {
	return <usize>context(ctx).workPtr + DOMID_SLOTS * 4 + alignedPlans(ctx);
}

function alignedPlans(ctx: usize): u32 {
	return (context(ctx).domainCount * L.DOMAIN_PLAN_BYTES + 7) & ~7;
}

/** 32 bits per vCPU: which of its records were seen, or which VIRQs it has bound. */
export function marksAt(ctx: usize): usize {
	return ownersAt(ctx) + <usize>context(ctx).frameCount * 8;
}

export function pinsAt(ctx: usize): usize {
	return marksAt(ctx) + VCPU_LIMIT * 4;
}

/** Octets of workspace before the pins, for `domains` domains and `frames` frames. */
export function workBytes(domains: u32, frames: u64): u64 {
	return <u64>DOMID_SLOTS * 4 + ((<u64>domains * L.DOMAIN_PLAN_BYTES + 7) & ~7) + frames * 8 + VCPU_LIMIT * 4;
}
