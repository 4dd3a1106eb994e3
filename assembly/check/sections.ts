/**
 * Which sections there are, and within a section which records, in which order. Fills the workspace's domain plans, on
 * which all that follows relies.
 */
import { at, context, fail } from "../context";
import * as L from "../layout.gen";
import { bodyOf, defAt, defCardinality, partFrom, recordBytes } from "../record";
import {
	DOMID_SLOTS,
	defOf,
	findSection,
	guestWidth,
	indexEntry,
	marksAt,
	planAt,
	planSlot,
	recordVcpu,
	sectionEnd,
	sectionFirst,
	VCPU_LIMIT,
	vcpuField,
} from "../sections";

/** Gives every domain of section 0 its plan, by ascending domid. */
export function makePlans(ctx: usize): bool {
	const c = context(ctx);
	const slots = <usize>c.workPtr;
	memory.fill(slots, 0xff, DOMID_SLOTS * 4);
	for (let i: u32 = 0; i < c.sectionCount; i++) {
		const entry = indexEntry(ctx, i);
		if (entry.pass != L.PASS_0) continue;
		at(ctx, entry.pass, entry.domid, sectionFirst(ctx, i) - L.RECORD_HEADER_BYTES - L.SECTION_BYTES);
		if (load<u32>(slots + ((<u32>entry.domid) << 2)) != L.NONE32) return fail(ctx, L.RULE_DOMID, 0, 1, entry.domid);
		store<u32>(slots + ((<u32>entry.domid) << 2), i);
	}
	let slot: u32 = 0;
	for (let domid: u32 = 0; domid < L.DOMID_FIRST_RESERVED; domid++) {
		const section = load<u32>(slots + domid * 4);
		if (section == L.NONE32) continue;
		const plan = planAt(ctx, slot);
		memory.fill(changetype<usize>(plan), 0, L.DOMAIN_PLAN_BYTES);
		plan.domid = domid;
		plan.section0 = section;
		plan.section1 = findSection(ctx, L.PASS_1D, domid, section + c.domainCount + 1);
		plan.section2 = findSection(ctx, L.PASS_2, domid, section + 2 * c.domainCount + 1);
		at(ctx, L.PASS_0, domid, sectionFirst(ctx, section) - L.RECORD_HEADER_BYTES - L.SECTION_BYTES);
		if (plan.section1 == L.NONE32) return fail(ctx, L.RULE_SECTION_MISSING, 0, L.PASS_1D, 0);
		if (plan.section2 == L.NONE32) return fail(ctx, L.RULE_SECTION_MISSING, 0, L.PASS_2, 0);
		store<u32>(slots + domid * 4, slot);
		slot++;
	}
	at(ctx, L.PASS_1H, L.DOMID_XEN, sectionFirst(ctx, 0) - L.RECORD_HEADER_BYTES - L.SECTION_BYTES);
	c.framesSection = findSection(ctx, L.PASS_1H, L.DOMID_XEN, c.domainCount + 1);
	if (c.framesSection == L.NONE32) return fail(ctx, L.RULE_SECTION_MISSING, 0, L.PASS_1H, 0);
	return true;
}

/** Remembers where a domain's records are that others look into. */
function note(plan: L.DomainPlan, def: u32, record: usize): void {
	const at = <u32>record;
	if (def == L.RECORD_LU_DOMAIN) {
		plan.domainPtr = at;
		plan.kind = load<u8>(bodyOf(record), L.DOMAIN__KIND);
		plan.life = load<u8>(bodyOf(record), L.DOMAIN__LIFE);
	} else if (def == L.RECORD_LU_VCPUS) plan.vcpusPtr = at;
	else if (def == L.RECORD_LU_DOMAIN_STATE) plan.statePtr = at;
	else if (def == L.RECORD_LU_SHARED_INFO) plan.sharedInfoPtr = at;
	else if (def == L.RECORD_LU_GRANT_TABLE) plan.grantTablePtr = at;
	else if (def == L.RECORD_LU_GRANT_ACTIVE) plan.activePtr = at;
	else if (def == L.RECORD_LU_GRANT_MAPS) plan.mapsPtr = at;
	else if (def == L.RECORD_LU_FOREIGN_MAPS) plan.foreignPtr = at;
	else if (def == L.RECORD_LU_EVTCHN) plan.evtchnPtr = at;
	else if (def == L.RECORD_LU_EVTCHN_PORTS) plan.portsPtr = at;
	else if (def == L.RECORD_LU_PV32) plan.pv32Ptr = at;
}

/** Bit of a per-vCPU record in a vCPU's mark. */
export function vcpuBit(def: u32): u32 {
	return 1 << (def - L.RECORD_LU_VCPU);
}

/** Bits of all per-vCPU records, and of the two kinds of context among them. */
const VCPU_RECORDS: u32 = (2 << (L.RECORD_X86_PV_VCPU_MSRS - L.RECORD_LU_VCPU)) - 1;
const CONTEXTS: u32 =
	(1 << (L.RECORD_LU_PV_VCPU - L.RECORD_LU_VCPU)) | (1 << (L.RECORD_LU_PV32_VCPU - L.RECORD_LU_VCPU));

/** The mark of each vCPU: which of its records the section has. Valid until the next section is walked. */
export function vcpuMark(ctx: usize, vcpu: u32): u32 {
	return load<u32>(marksAt(ctx) + vcpu * 4);
}

/** Records that must come before this one have not been seen after it: P3, the format's "after" column. */
function checkOrder(ctx: usize, def: u32, record: usize, seen: u64, plan: L.DomainPlan | null): bool {
	const later = <u64>load<u32>(defAt(def), L.DEF_BEFORE_LOW) | ((<u64>load<u32>(defAt(def), L.DEF_BEFORE_HIGH)) << 32);
	let offending = seen & later;
	if (defCardinality(def) == L.CARDINALITY_VCPU) {
		const vcpu = recordVcpu(def, record);
		if (vcpu >= VCPU_LIMIT) return fail(ctx, L.RULE_VCPU, vcpuField(def, record), VCPU_LIMIT, vcpu);
		const mark = vcpuMark(ctx, vcpu);
		if ((mark & vcpuBit(def)) != 0) return fail(ctx, L.RULE_RECORD_TWICE, vcpuField(def, record), 1, 2);
		// A vCPU's records depend on that vCPU's own alone.
		const ofVcpu: u64 = (<u64>VCPU_RECORDS) << L.RECORD_LU_VCPU;
		offending = (offending & ~ofVcpu) | (((<u64>mark) << L.RECORD_LU_VCPU) & later & ofVcpu);
		// LU_VCPU, its context, then the rest: what comes later never stands without what it extends.
		const isContext = def == L.RECORD_LU_PV_VCPU || def == L.RECORD_LU_PV32_VCPU;
		const hasVcpu = def == L.RECORD_LU_VCPU || (mark & 1) != 0;
		const hasContext = def == L.RECORD_LU_VCPU || isContext || (mark & CONTEXTS) != 0;
		if (offending == 0 && (!hasVcpu || !hasContext)) {
			const isNarrow = plan != null && guestWidth(plan) == 4;
			const missing = !hasVcpu ? L.TYPE_LU_VCPU : isNarrow ? L.TYPE_LU_PV32_VCPU : L.TYPE_LU_PV_VCPU;
			return fail(ctx, L.RULE_RECORD_ORDER, 0, missing, vcpu);
		}
		store<u32>(marksAt(ctx) + vcpu * 4, mark | vcpuBit(def));
	}
	if (offending != 0) {
		const other = <u32>ctz(offending);
		return fail(ctx, L.RULE_RECORD_ORDER, 0, load<u32>(defAt(def), L.DEF_TYPE), load<u32>(defAt(other), L.DEF_TYPE));
	}
	return true;
}

/** Walks one section: order, repetition, presence. `plan` is null for a host-wide section. */
export function checkSectionRecords(ctx: usize, section: u32, plan: L.DomainPlan | null): bool {
	const entry = indexEntry(ctx, section);
	const end = sectionEnd(ctx, section);
	let seen: u64 = 0;
	if (entry.pass == L.PASS_2) memory.fill(marksAt(ctx), 0, VCPU_LIMIT * 4);
	for (let record = sectionFirst(ctx, section); record < end; record += recordBytes(record)) {
		const def = defOf(record);
		if (def == L.RECORD_COUNT) continue;
		at(ctx, entry.pass, entry.domid, record);
		const bit = (<u64>1) << def;
		const cardinality = defCardinality(def);
		if ((cardinality == L.CARDINALITY_ONE || cardinality == L.CARDINALITY_OPTIONAL) && (seen & bit) != 0) {
			return fail(ctx, L.RULE_RECORD_TWICE, 0, 1, 2);
		}
		if (!checkOrder(ctx, def, record, seen, plan)) return false;
		seen |= bit;
		if (plan) note(plan, def, record);
	}
	at(ctx, entry.pass, entry.domid, sectionFirst(ctx, section) - L.RECORD_HEADER_BYTES - L.SECTION_BYTES);
	for (let def: u32 = 0; def < L.RECORD_COUNT; def++) {
		if (load<u32>(defAt(def), L.DEF_SECTION) != entry.pass || defCardinality(def) != L.CARDINALITY_ONE) continue;
		if ((seen & ((<u64>1) << def)) == 0)
			return fail(ctx, L.RULE_RECORD_MISSING, 0, load<u32>(defAt(def), L.DEF_TYPE), 0);
	}
	return true;
}

/** Whether a domain has a vCPU of that number: whether LU_VCPUS, which ascends, lists it. */
export function hasVcpu(plan: L.DomainPlan, vcpu: u32): bool {
	const rows = partFrom(L.RECORD_LU_VCPUS, plan.vcpusPtr, 0);
	let low: u32 = 0;
	let high = load<u32>(bodyOf(plan.vcpusPtr), L.VCPUS__VCPU_COUNT);
	// Without a gap below the last one the numbers say it.
	if (high == plan.vcpuSlots) return vcpu < high;
	while (low < high) {
		const middle = (low + high) >>> 1;
		const found = load<u32>(rows + middle * L.VCPU_SLOT_BYTES, L.VCPU_SLOT__VCPU_ID);
		if (found == vcpu) return true;
		if (found < vcpu) low = middle + 1;
		else high = middle;
	}
	return false;
}

/** Whether a domain of that number is in the stream. */
export function exists(ctx: usize, domid: u32): bool {
	return domid < L.DOMID_FIRST_RESERVED && planSlot(ctx, domid) != L.NONE32;
}
