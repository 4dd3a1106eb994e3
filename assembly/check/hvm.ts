/**
 * The HVM context: a row of entries {type u16, instance u16, length u32, octets}, HEADER first, END last
 * (public/hvm/save.h). Types, lengths and instances are the tables of src/formats/hvm, of which HVM_ENTRIES is made.
 */
import { at, fail } from "../context";
import * as L from "../layout.gen";
import { bodyBytes, bodyOf, partFrom, recordBytes } from "../record";
import { defOf, marksAt, sectionEnd, sectionFirst } from "../sections";
import { vcpuMark } from "./sections";
import { checkXsaveArea } from "./xsave";

const DESCRIPTOR: u32 = 8;
/** hvm_hw_cpu_xsave begins with xfeature_mask, in front of XCR0. */
const FEATURE_MASK: u32 = 8;
/** hvm_msr: count u32, padding u32, then rows. */
const MSR_HEAD: u32 = 8;
/** The first word of HEADER (public/arch-x86/hvm/save.h, HVM_FILE_MAGIC). */
const HVM_MAGIC: u32 = 0x5438_1286;
/** HVM_NR_PARAMS (public/hvm/params.h). */
const HVM_PARAMETERS: u64 = 39;
/** Of a vCPU's marks: it is down; the first of the bits that say which entries it has, by type. Records' bits are below. */
const MARK_DOWN: u32 = 1 << 31;
const MARK_ENTRIES: u32 = 8;

/** Notes which vCPUs are down, wherever their records stand. */
function markDown(ctx: usize, plan: L.DomainPlan): void {
	const end = sectionEnd(ctx, plan.section2);
	for (let record = sectionFirst(ctx, plan.section2); record < end; record += recordBytes(record)) {
		if (defOf(record) != L.RECORD_LU_VCPU) continue;
		const vcpu = changetype<L.Vcpu>(bodyOf(record));
		const mark = marksAt(ctx) + vcpu.vcpuId * 4;
		if ((vcpu.flags & L.VCPU_FLAG_DOWN) != 0) store<u32>(mark, load<u32>(mark) | MARK_DOWN);
	}
}

/** The type is known and has this length; so many rows as a CPU_MSR counts. */
function checkLength(ctx: usize, entry: usize, type: u32, length: u32): bool {
	if (type >= L.HVM_ENTRY_TYPES) return fail(ctx, L.RULE_HVM_ENTRY, entry, L.HVM_ENTRY_TYPES - 1, type);
	const known = L.HVM_ENTRIES + type * L.HVM_ENTRY_STRIDE;
	const tail = load<u32>(known, L.HVM_ENTRY_TAIL_BYTES);
	const least = load<u32>(known, L.HVM_ENTRY_LENGTHS);
	if (tail != 0) {
		if (length < least || (length - least) % tail != 0) return fail(ctx, L.RULE_HVM_ENTRY, entry + 4, least, length);
		if (type != L.HVM_CPU_MSR) return true;
		const count = load<u32>(entry + DESCRIPTOR);
		const rows = (length - MSR_HEAD) / tail;
		return count == rows || fail(ctx, L.RULE_HVM_ENTRY, entry + DESCRIPTOR, rows, count);
	}
	// A length of all ones, which none has, is no form's.
	if (
		length == least ||
		length == load<u32>(known, L.HVM_ENTRY_LENGTH2) ||
		length == load<u32>(known, L.HVM_ENTRY_LENGTH3)
	)
		return true;
	return fail(ctx, L.RULE_HVM_ENTRY, entry + 4, least, length);
}

function checkInstance(ctx: usize, plan: L.DomainPlan, entry: usize, type: u32, instance: u32): bool {
	const instances = load<u32>(L.HVM_ENTRIES + type * L.HVM_ENTRY_STRIDE + L.HVM_ENTRY_INSTANCES);
	if (instances != L.NONE32)
		return instance < instances || fail(ctx, L.RULE_HVM_INSTANCE, entry + 2, instances - 1, instance);
	const mark = instance < plan.vcpuSlots ? vcpuMark(ctx, instance) : 0;
	if ((mark & 1) == 0) {
		const rule: u32 = type == L.HVM_CPU ? L.RULE_HVM_CONTEXT : L.RULE_HVM_INSTANCE;
		return fail(ctx, rule, entry, plan.vcpuSlots, instance);
	}
	return type != L.HVM_CPU || (mark & MARK_DOWN) == 0 || fail(ctx, L.RULE_HVM_INSTANCE, entry + 2, 0, instance);
}

/** No entry of that type and instance before. `seen` has the bits of the entries that are not a vCPU's; returned with this one's, or 0. */
function firstOf(ctx: usize, entry: usize, type: u32, instance: u32, seen: u64): u64 {
	if (load<u32>(L.HVM_ENTRIES + type * L.HVM_ENTRY_STRIDE + L.HVM_ENTRY_INSTANCES) == L.NONE32) {
		const mark = marksAt(ctx) + instance * 4;
		const had = load<u32>(mark);
		const has = had | ((<u32>1) << (MARK_ENTRIES + type));
		store<u32>(mark, has);
		if (has != had) return seen;
	} else {
		const bit = (<u64>1) << (2 * type + instance);
		if ((seen & bit) == 0) return seen | bit;
	}
	fail(ctx, L.RULE_HVM_INSTANCE, entry, 1, 2);
	return 0;
}

/** A CPU_XSAVE's area; XCR0 is within what the host that saved it had. */
function checkExtended(ctx: usize, body: usize, length: u32): bool {
	const mask = load<u64>(body);
	const ever = load<u64>(body, FEATURE_MASK + 8);
	if ((ever & ~mask) != 0) return fail(ctx, L.RULE_XSAVE, body + FEATURE_MASK + 8, mask, ever);
	return checkXsaveArea(ctx, body + FEATURE_MASK, length - FEATURE_MASK);
}

/** HVM_PARAMS: each one that Xen has, once; in libxc's order, which is none. */
export function checkHvmParams(ctx: usize, record: usize): bool {
	const rows = partFrom(L.RECORD_HVM_PARAMS, record, 0);
	const count = load<u32>(bodyOf(record), L.HVM_PARAMS__COUNT);
	let seen: u64 = 0;
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.HVM_PARAM_BYTES;
		const index = load<u64>(row, L.HVM_PARAM__INDEX);
		if (index >= HVM_PARAMETERS) return fail(ctx, L.RULE_HVM_ENTRY, row, HVM_PARAMETERS - 1, index);
		const bit = (<u64>1) << index;
		if ((seen & bit) != 0) return fail(ctx, L.RULE_HVM_INSTANCE, row, 1, 2);
		seen |= bit;
	}
	return true;
}

/** HVM_CONTEXT: every entry whole, as long as its type is, of an instance that there is. */
export function checkHvmContext(ctx: usize, plan: L.DomainPlan, record: usize): bool {
	const body = bodyOf(record);
	const end = body + bodyBytes(record);
	markDown(ctx, plan);
	let entry = body;
	let seen: u64 = 0;
	while (true) {
		if (end - entry < DESCRIPTOR)
			return fail(ctx, L.RULE_HVM_CONTEXT, entry < end ? entry : body, DESCRIPTOR, end - entry);
		const type = <u32>load<u16>(entry);
		const instance = <u32>load<u16>(entry, 2);
		const length = load<u32>(entry, 4);
		if (<u64>length > <u64>(end - entry - DESCRIPTOR))
			return fail(ctx, L.RULE_HVM_CONTEXT, entry, end - entry - DESCRIPTOR, length);
		if (entry == body && type != L.HVM_HEADER) return fail(ctx, L.RULE_HVM_CONTEXT, entry, L.HVM_HEADER, type);
		if (!checkLength(ctx, entry, type, length)) return false;
		if (type == L.HVM_HEADER && load<u32>(entry + DESCRIPTOR) != HVM_MAGIC)
			return fail(ctx, L.RULE_HVM_CONTEXT, entry + DESCRIPTOR, HVM_MAGIC, load<u32>(entry + DESCRIPTOR));
		if (!checkInstance(ctx, plan, entry, type, instance)) return false;
		seen = firstOf(ctx, entry, type, instance, seen);
		if (seen == 0) return false;
		if (type == L.HVM_CPU_XSAVE && !checkExtended(ctx, entry + DESCRIPTOR, length)) return false;
		entry += DESCRIPTOR + length;
		if (type == L.HVM_END) break;
	}
	if (entry != end) return fail(ctx, L.RULE_HVM_CONTEXT, body, end - body, entry - body);
	return true;
}

/** An initialised vCPU that is up has its registers in the context. After checkHvmContext. */
export function checkCpuEntries(ctx: usize, plan: L.DomainPlan): bool {
	const end = sectionEnd(ctx, plan.section2);
	for (let record = sectionFirst(ctx, plan.section2); record < end; record += recordBytes(record)) {
		if (defOf(record) != L.RECORD_LU_VCPU) continue;
		const vcpu = changetype<L.Vcpu>(bodyOf(record));
		const isUp = (vcpu.flags & (L.VCPU_FLAG_INITIALISED | L.VCPU_FLAG_DOWN)) == L.VCPU_FLAG_INITIALISED;
		if (!isUp || (vcpuMark(ctx, vcpu.vcpuId) & ((<u32>1) << (MARK_ENTRIES + L.HVM_CPU))) != 0) continue;
		at(ctx, L.PASS_2, plan.domid, record);
		return fail(ctx, L.RULE_VCPU_CONTEXT, bodyOf(record) + L.VCPU__FLAGS, 1, 0);
	}
	return true;
}
