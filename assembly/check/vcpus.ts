/** vCPUs: which exist, their state, a PV vCPU's registers. */
import { at, context, fail } from "../context";
import * as L from "../layout.gen";
import { affinityWords } from "../plan";
import { bodyBytes, bodyOf, partFrom, recordBytes } from "../record";
import { defOf, guestWidth, sectionEnd, sectionFirst, typeInUse, VCPU_LIMIT } from "../sections";
import { checkOwned, checkWritten } from "./frames";
import { checkCpuEntries, checkHvmContext, checkHvmParams } from "./hvm";
import { checkSectionRecords, vcpuBit, vcpuMark } from "./sections";
import { checkXsaveArea, readXstatePolicy } from "./xsave";

const VCPU_INFO_OCTETS: u32 = 64;
const KNOWN_FLAGS: u32 =
	L.VCPU_FLAG_EXISTS | L.VCPU_FLAG_INITIALISED | L.VCPU_FLAG_DOWN | L.VCPU_FLAG_BLOCKED | L.VCPU_FLAG_POLL_ANY;
/** Descriptors of a PV vCPU's GDT or LDT: 16 frames of 512. */
const GDT_ENTRIES: u32 = 16 * 512;
const LDT_ENTRIES: u32 = GDT_ENTRIES;
/** struct xen_domctl_ext_vcpucontext (public/domctl.h): up to its machine checks, which older Xens do not have; its most. */
const LEAST_EXTENDED: u32 = 32;
const MOST_EXTENDED: u32 = 128;

/** LU_VCPUS: ascending, below the limit. Sets the plan's slots. */
export function checkVcpuList(ctx: usize, plan: L.DomainPlan): bool {
	const record = <usize>plan.vcpusPtr;
	at(ctx, L.PASS_0, plan.domid, record);
	const rows = partFrom(L.RECORD_LU_VCPUS, record, 0);
	const count = load<u32>(bodyOf(record), L.VCPUS__VCPU_COUNT);
	const most = load<u32>(bodyOf(plan.domainPtr), L.DOMAIN__MAX_VCPUS);
	let next: u32 = 0;
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.VCPU_SLOT_BYTES;
		const vcpu = load<u32>(row, L.VCPU_SLOT__VCPU_ID);
		if (vcpu < next || vcpu >= most || vcpu >= VCPU_LIMIT) return fail(ctx, L.RULE_VCPU, row, most, vcpu);
		next = vcpu + 1;
	}
	plan.vcpuSlots = next;
	return true;
}

/** Each vCPU that exists has its LU_VCPU, and no other one has. */
function checkPresence(ctx: usize, plan: L.DomainPlan): bool {
	const rows = partFrom(L.RECORD_LU_VCPUS, plan.vcpusPtr, 0);
	const count = load<u32>(bodyOf(plan.vcpusPtr), L.VCPUS__VCPU_COUNT);
	let listed: u32 = 0;
	for (let vcpu: u32 = 0; vcpu < VCPU_LIMIT; vcpu++) {
		const isListed = listed < count && load<u32>(rows + listed * L.VCPU_SLOT_BYTES, L.VCPU_SLOT__VCPU_ID) == vcpu;
		if (isListed) listed++;
		const mark = vcpuMark(ctx, vcpu);
		if (isListed != ((mark & 1) != 0) || (mark != 0 && !isListed)) {
			at(ctx, L.PASS_0, plan.domid, plan.vcpusPtr);
			return fail(ctx, L.RULE_VCPU, 0, isListed ? 1 : 0, vcpu);
		}
	}
	return true;
}

/** Which record has the registers of a PV domain's vCPUs. */
function contextDef(plan: L.DomainPlan): u32 {
	return guestWidth(plan) == 4 ? L.RECORD_LU_PV32_VCPU : L.RECORD_LU_PV_VCPU;
}

function checkVcpu(ctx: usize, plan: L.DomainPlan, record: usize, words: u32): bool {
	const body = bodyOf(record);
	const vcpu = changetype<L.Vcpu>(body);
	if ((vcpu.flags & ~KNOWN_FLAGS) != 0 || (vcpu.flags & L.VCPU_FLAG_EXISTS) == 0)
		return fail(ctx, L.RULE_VCPU_STATE, body + L.VCPU__FLAGS, KNOWN_FLAGS, vcpu.flags);
	if (vcpu.affinityWordCount != words)
		return fail(ctx, L.RULE_VCPU_STATE, body + L.VCPU__AFFINITY_WORD_COUNT, words, vcpu.affinityWordCount);
	if (vcpu.runstate > 3) return fail(ctx, L.RULE_VCPU_STATE, body + L.VCPU__RUNSTATE, 3, vcpu.runstate);
	if (vcpu.ioPrivilege > 3) return fail(ctx, L.RULE_VCPU_STATE, body + L.VCPU__IO_PRIVILEGE, 3, vcpu.ioPrivilege);
	if (<u32>vcpu.runstateArea > L.TIME_AREA_FRAME)
		return fail(ctx, L.RULE_VCPU_STATE, body + L.VCPU__RUNSTATE_AREA, L.TIME_AREA_FRAME, vcpu.runstateArea);
	if (<u32>vcpu.timeArea > L.TIME_AREA_FRAME)
		return fail(ctx, L.RULE_VCPU_STATE, body + L.VCPU__TIME_AREA, L.TIME_AREA_FRAME, vcpu.timeArea);
	if (vcpu.vcpuInfoMfn != L.NONE64) {
		if (vcpu.vcpuInfoOffset > 4096 - VCPU_INFO_OCTETS)
			return fail(
				ctx,
				L.RULE_VCPU_STATE,
				body + L.VCPU__VCPU_INFO_OFFSET,
				4096 - VCPU_INFO_OCTETS,
				vcpu.vcpuInfoOffset,
			);
		if (!checkWritten(ctx, body + L.VCPU__VCPU_INFO_MFN, vcpu.vcpuInfoMfn, plan.domid)) return false;
	} else if (vcpu.vcpuInfoOffset != 0)
		return fail(ctx, L.RULE_VCPU_STATE, body + L.VCPU__VCPU_INFO_OFFSET, 0, vcpu.vcpuInfoOffset);
	const initialised = (vcpu.flags & L.VCPU_FLAG_INITIALISED) != 0;
	const hasContext = (vcpuMark(ctx, vcpu.vcpuId) & vcpuBit(contextDef(plan))) != 0;
	if (plan.kind == L.KIND_PV && initialised != hasContext)
		return fail(ctx, L.RULE_VCPU_CONTEXT, body + L.VCPU__FLAGS, initialised ? 1 : 0, hasContext ? 1 : 0);
	return true;
}

/** A frame on which a vCPU runs has the type that its use holds: PAGE_TABLE, of domains that map memory. */
function checkRootType(ctx: usize, plan: L.DomainPlan, field: usize, mfn: u64, type: u32): bool {
	const found = typeInUse(ctx, mfn);
	return plan.lowestCount == 0 || found == type || fail(ctx, L.RULE_PAGE_TABLE, field, type, found);
}

/** The frames of a vCPU's GDT, whose MFNs stand at `frames`. */
function checkGdt(ctx: usize, plan: L.DomainPlan, frames: usize, entries: u32): bool {
	const count = (entries + 511) >>> 9;
	for (let i: u32 = 0; i < count; i++) {
		const field = frames + i * 8;
		if (!checkOwned(ctx, field, load<u64>(field), plan.domid)) return false;
		if (!checkRootType(ctx, plan, field, load<u64>(field), L.PAGE_TYPE_SEG_DESC)) return false;
	}
	return true;
}

/** The same of a 32-bit one: CR3 names an L3 table, and its trap handlers' addresses have 32 bits. */
function checkPv32Vcpu(ctx: usize, plan: L.DomainPlan, record: usize): bool {
	const body = bodyOf(record);
	const vcpu = changetype<L.Pv32Vcpu>(body);
	if (vcpu.gdtEntries > GDT_ENTRIES)
		return fail(ctx, L.RULE_VCPU_CONTEXT, body + L.PV32_VCPU__GDT_ENTRIES, GDT_ENTRIES, vcpu.gdtEntries);
	if (vcpu.ldtEntries > LDT_ENTRIES)
		return fail(ctx, L.RULE_VCPU_CONTEXT, body + L.PV32_VCPU__LDT_ENTRIES, LDT_ENTRIES, vcpu.ldtEntries);
	if (!checkGdt(ctx, plan, body + L.PV32_VCPU__GDT_MFN, vcpu.gdtEntries)) return false;
	if (vcpu.cr3 != 0) {
		const field = body + L.PV32_VCPU__CR3;
		if (!checkOwned(ctx, field, vcpu.cr3 >> 12, plan.domid)) return false;
		if (!checkRootType(ctx, plan, field, vcpu.cr3 >> 12, L.PAGE_TYPE_L3)) return false;
	}
	const traps = partFrom(L.RECORD_LU_PV32_VCPU, record, 1);
	for (let i: u32 = 0; i < 256; i++) {
		const field = traps + i * L.PV_TRAP_BYTES + L.PV_TRAP__ADDRESS;
		const address = load<u64>(field);
		if (address > <u64>u32.MAX_VALUE) return fail(ctx, L.RULE_VCPU_CONTEXT, field, u32.MAX_VALUE, address);
	}
	return true;
}

/** A PV vCPU's page-table and GDT frames are the domain's own, and of their type. */
function checkPvVcpu(ctx: usize, plan: L.DomainPlan, record: usize): bool {
	const body = bodyOf(record);
	const vcpu = changetype<L.PvVcpu>(body);
	if (vcpu.gdtEntries > GDT_ENTRIES)
		return fail(ctx, L.RULE_VCPU_CONTEXT, body + L.PV_VCPU__GDT_ENTRIES, GDT_ENTRIES, vcpu.gdtEntries);
	if (vcpu.ldtEntries > LDT_ENTRIES)
		return fail(ctx, L.RULE_VCPU_CONTEXT, body + L.PV_VCPU__LDT_ENTRIES, LDT_ENTRIES, vcpu.ldtEntries);
	if (!checkGdt(ctx, plan, body + L.PV_VCPU__GDT_MFN, vcpu.gdtEntries)) return false;
	// cr3, and cr1 which holds the user's: machine addresses, zero for none.
	for (let i: u32 = 1; i <= 3; i += 2) {
		const field = body + L.PV_VCPU__CR + i * 8;
		const address = load<u64>(field);
		if (address == 0) continue;
		if (!checkOwned(ctx, field, address >> 12, plan.domid)) return false;
		if (!checkRootType(ctx, plan, field, address >> 12, L.PAGE_TYPE_L4)) return false;
	}
	return true;
}

/** X86_PV_VCPU_EXTENDED: as long as some Xen makes it. */
function checkExtendedContext(ctx: usize, record: usize): bool {
	const length = bodyBytes(record) - L.VCPU_EXTENDED_BYTES;
	if (length < LEAST_EXTENDED) return fail(ctx, L.RULE_VCPU_CONTEXT, 0, LEAST_EXTENDED, length);
	return length <= MOST_EXTENDED || fail(ctx, L.RULE_VCPU_CONTEXT, 0, MOST_EXTENDED, length);
}

/** X86_PV_VCPU_XSAVE: nothing, or XCR0, the XCR0 bits ever set, and the area. */
function checkXsave(ctx: usize, record: usize): bool {
	const length = bodyBytes(record) - L.VCPU_XSAVE_BYTES;
	return length == 0 || checkXsaveArea(ctx, bodyOf(record) + L.VCPU_XSAVE_BYTES, length);
}

/** Whether a record belongs to another kind of guest. */
function isForOtherKind(plan: L.DomainPlan, def: u32): bool {
	const isContext = def == L.RECORD_LU_PV_VCPU || def == L.RECORD_LU_PV32_VCPU;
	if (isContext && plan.kind == L.KIND_PV) return def != contextDef(plan);
	const pvOnly =
		isContext ||
		def == L.RECORD_X86_PV_VCPU_EXTENDED ||
		def == L.RECORD_X86_PV_VCPU_XSAVE ||
		def == L.RECORD_X86_PV_VCPU_MSRS;
	const hvmOnly =
		def == L.RECORD_HVM_PARAMS ||
		def == L.RECORD_HVM_CONTEXT ||
		def == L.RECORD_LU_IOREQ_SERVERS ||
		def == L.RECORD_LU_FOREIGN_MAPS;
	return plan.kind == L.KIND_PV ? hvmOnly : pvOnly;
}

/** Section 2 once more, for all that concerns vCPUs. Leaves the vCPU marks of the section behind. */
export function checkVcpus(ctx: usize, plan: L.DomainPlan): bool {
	if (!checkSectionRecords(ctx, plan.section2, plan)) return false;
	if (!checkPresence(ctx, plan)) return false;
	readXstatePolicy(ctx, plan);
	const words = affinityWords(context(ctx).hostPtr);
	const end = sectionEnd(ctx, plan.section2);
	let running = false;
	let initialised = false;
	let hvmContext = false;
	for (let record = sectionFirst(ctx, plan.section2); record < end; record += recordBytes(record)) {
		const def = defOf(record);
		at(ctx, L.PASS_2, plan.domid, record);
		if (isForOtherKind(plan, def)) return fail(ctx, L.RULE_HVM_ONLY, 0, plan.kind, load<u32>(record));
		if (def == L.RECORD_LU_VCPU) {
			if (!checkVcpu(ctx, plan, record, words)) return false;
			const flags = changetype<L.Vcpu>(bodyOf(record)).flags;
			if ((flags & L.VCPU_FLAG_INITIALISED) != 0) initialised = true;
			if ((flags & L.VCPU_FLAG_DOWN) == 0) running = true;
		} else if (def == L.RECORD_LU_PV_VCPU) {
			if (!checkPvVcpu(ctx, plan, record)) return false;
		} else if (def == L.RECORD_LU_PV32_VCPU) {
			if (!checkPv32Vcpu(ctx, plan, record)) return false;
		} else if (def == L.RECORD_X86_PV_VCPU_EXTENDED) {
			if (!checkExtendedContext(ctx, record)) return false;
		} else if (def == L.RECORD_X86_PV_VCPU_XSAVE) {
			if (!checkXsave(ctx, record)) return false;
		} else if (def == L.RECORD_HVM_PARAMS) {
			if (!checkHvmParams(ctx, record)) return false;
		} else if (def == L.RECORD_HVM_CONTEXT) {
			if (!checkHvmContext(ctx, plan, record)) return false;
			hvmContext = true;
		}
	}
	at(ctx, L.PASS_2, plan.domid, plan.statePtr);
	if (plan.life == L.LIFE_DEAD) return true;
	if (plan.kind != L.KIND_PV && initialised && !hvmContext)
		return fail(ctx, L.RULE_RECORD_MISSING, 0, L.TYPE_HVM_CONTEXT, 0);
	if (plan.kind != L.KIND_PV && !checkCpuEntries(ctx, plan)) return false;
	at(ctx, L.PASS_2, plan.domid, plan.statePtr);
	const state = changetype<L.DomainState>(bodyOf(plan.statePtr));
	const mayRest = <u32>state.shutdownState != L.SHUTDOWN_STATE_NONE || state.creationFinished == 0;
	if (!running && !mayRest) return fail(ctx, L.RULE_VCPU_STATE, 0, 1, 0);
	return true;
}
