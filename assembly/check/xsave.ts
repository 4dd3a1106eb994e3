/**
 * XSAVE areas, as X86_PV_VCPU_XSAVE and the HVM context's CPU_XSAVE carry them: in the standard form, never the compacted
 * one (Intel SDM volume 1, chapter 13).
 *
 *     0      8              16             16+512                    16+576
 *     | XCR0 | bits ever set | legacy region | XSAVE header, 64 octets | components by the offsets of CPUID leaf 0xD ... |
 */
import { fail } from "../context";
import * as L from "../layout.gen";
import { bodyBytes, partFrom } from "../record";
import { findRecord, scratchAt } from "../sections";

const PREFIX: u32 = 16;
const LEGACY: u32 = 512;
const HEADER: u32 = 64;
const LEAST: u32 = PREFIX + LEGACY + HEADER;

// XCR0's bits (SDM volume 1, 13.3). Those of a group are set together.
const X87: u64 = 1 << 0;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const MPX: u64 = 3 << 3;
const AVX512: u64 = 7 << 5;
const AMX: u64 = 3 << 17;
/** The first component that has an offset of its own. */
const FIRST_EXTENDED: u32 = 2;
const COMPONENTS: u32 = 64;
const XSTATE_LEAF: u32 = 0xd;
const POLICY_ALLOWED: u32 = 8;
const POLICY_ENDS: u32 = 16;

/** Whether XSETBV takes the value. A union of such values is one as well. */
function isValid(xcr0: u64): bool {
	if ((xcr0 & X87) == 0) return false;
	if ((xcr0 & AVX) != 0 && (xcr0 & SSE) == 0) return false;
	if ((xcr0 & AVX512) != 0 && ((xcr0 & AVX512) != AVX512 || (xcr0 & AVX) == 0)) return false;
	return ((xcr0 & MPX) == 0 || (xcr0 & MPX) == MPX) && ((xcr0 & AMX) == 0 || (xcr0 & AMX) == AMX);
}

/**
 * Reads CPUID leaf 0xD of the domain's policy, once for all of its vCPUs, to the scratch: whether there is one (u64), the
 * components it allows (u64), and of each component where it ends in an area (u64 x 64, 0 for none). The first row of a
 * subleaf counts.
 */
export function readXstatePolicy(ctx: usize, plan: L.DomainPlan): void {
	const policy = scratchAt(ctx);
	memory.fill(policy, 0, POLICY_ENDS + COMPONENTS * 8);
	const record = findRecord(ctx, plan.section0, L.RECORD_X86_CPUID_POLICY);
	if (!record) return;
	const rows = partFrom(L.RECORD_X86_CPUID_POLICY, record, 0);
	const end = rows + bodyBytes(record);
	for (let row = rows; row < end; row += L.CPUID_LEAF_BYTES) {
		const leaf = changetype<L.CpuidLeaf>(row);
		if (leaf.leaf != XSTATE_LEAF || leaf.subleaf >= COMPONENTS) continue;
		if (leaf.subleaf == 0 && load<u64>(policy) == 0) {
			store<u64>(policy, 1);
			store<u64>(policy, ((<u64>leaf.edx) << 32) | leaf.eax, POLICY_ALLOWED);
		} else if (leaf.subleaf >= FIRST_EXTENDED) {
			const place = policy + POLICY_ENDS + leaf.subleaf * 8;
			if (load<u64>(place) == 0) store<u64>(place, <u64>leaf.ebx + leaf.eax);
		}
	}
}

/** The components ever enabled are the policy's, and the area reaches to the end of each. */
function checkPolicy(ctx: usize, at: usize, length: u32, ever: u64): bool {
	const policy = scratchAt(ctx);
	if (load<u64>(policy) == 0) return true;
	const allowed = load<u64>(policy, POLICY_ALLOWED);
	if ((ever & ~allowed) != 0) return fail(ctx, L.RULE_XCR0, at + 8, allowed, ever);
	for (let component = FIRST_EXTENDED; component < COMPONENTS; component++) {
		if (((ever >> component) & 1) == 0) continue;
		const componentEnd = load<u64>(policy + POLICY_ENDS + component * 8);
		if (componentEnd == 0) return fail(ctx, L.RULE_XCR0, at + 8, component, 0);
		if (PREFIX + componentEnd > <u64>length) return fail(ctx, L.RULE_XCR0, at, PREFIX + componentEnd, length);
	}
	return true;
}

/** `length` octets from XCR0 on. The header claims no component that was never enabled, and is of the standard form. */
export function checkXsaveArea(ctx: usize, at: usize, length: u32): bool {
	if (length < LEAST) return fail(ctx, L.RULE_XSAVE, at, LEAST, length);
	const enabled = load<u64>(at);
	const ever = load<u64>(at, 8);
	if ((enabled & ~ever) != 0 || (enabled & X87) == 0) return fail(ctx, L.RULE_XSAVE, at, ever, enabled);
	const header = at + PREFIX + LEGACY;
	const present = load<u64>(header);
	if ((present & ~ever) != 0) return fail(ctx, L.RULE_XSAVE, header, ever, present);
	for (let p = header + 8; p < header + HEADER; p += 8) {
		if (load<u64>(p) != 0) return fail(ctx, L.RULE_XSAVE, p, 0, load<u64>(p));
	}
	if (!isValid(enabled)) return fail(ctx, L.RULE_XCR0, at, X87, enabled);
	if (!isValid(ever)) return fail(ctx, L.RULE_XCR0, at + 8, X87, ever);
	return checkPolicy(ctx, at, length, ever);
}
