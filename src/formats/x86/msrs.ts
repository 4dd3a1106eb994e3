/**
 * Rows of MSRs as Xen has them in four places (xen_msr_entry_t, xen_domctl_vcpu_msr, struct hvm_one_msr): index u32, 32 bits
 * that are zero, value u64. Names are those of Intel's SDM (volume 4) and AMD's APM (volume 2, appendix A).
 */
import { reserved, u32, u64 } from "../../format/fields.ts";
import { layOut } from "../../format/layout.ts";
import type { Fields } from "../common/record.ts";
import { type FieldReader, structFields, structOctets } from "../common/values.ts";

export const msrEntry = layOut("msr_entry", "An MSR.", [
	u32("msr", "Its index.", "hex"),
	reserved("flags", 4),
	u64("value", "Its value.", "hex"),
]);

export const msrNames: Readonly<Record<number, string>> = {
	16: "TSC",
	27: "APIC_BASE",
	58: "FEATURE_CONTROL",
	72: "SPEC_CTRL",
	73: "PRED_CMD",
	206: "PLATFORM_INFO",
	207: "CORE_CAPABILITIES",
	225: "UMWAIT_CONTROL",
	266: "ARCH_CAPABILITIES",
	267: "FLUSH_CMD",
	271: "TSX_FORCE_ABORT",
	290: "TSX_CTRL",
	291: "MCU_OPT_CTRL",
	320: "MISC_FEATURES_ENABLES",
	372: "SYSENTER_CS",
	373: "SYSENTER_ESP",
	374: "SYSENTER_EIP",
	416: "MISC_ENABLE",
	473: "DEBUGCTL",
	631: "PAT",
	767: "MTRR_DEF_TYPE",
	1376: "RTIT_OUTPUT_BASE",
	1377: "RTIT_OUTPUT_MASK_PTRS",
	1392: "RTIT_CTL",
	1393: "RTIT_STATUS",
	1394: "RTIT_CR3_MATCH",
	1696: "U_CET",
	1698: "S_CET",
	1700: "PL0_SSP",
	1701: "PL1_SSP",
	1702: "PL2_SSP",
	1703: "PL3_SSP",
	1704: "INTERRUPT_SSP_TABLE_ADDR",
	1760: "TSC_DEADLINE",
	1761: "PKRS",
	3472: "BNDCFGS",
	3488: "XSS",
	3221225600: "EFER",
	3221225601: "STAR",
	3221225602: "LSTAR",
	3221225603: "CSTAR",
	3221225604: "SYSCALL_MASK",
	3221225728: "FS_BASE",
	3221225729: "GS_BASE",
	3221225730: "KERNEL_GS_BASE",
	3221225731: "TSC_AUX",
	3221291039: "NB_CFG",
	3221295129: "DR1_ADDRESS_MASK",
	3221295130: "DR2_ADDRESS_MASK",
	3221295131: "DR3_ADDRESS_MASK",
	3221291295: "VIRT_SPEC_CTRL",
	3221295143: "DR0_ADDRESS_MASK",
};

/** A row; `name` where it is known. */
export function msrFields(octets: Uint8Array, isLittle = true): Fields {
	const { msr, ...rest } = structFields(msrEntry, octets, 0, isLittle);
	const name = msrNames[Number(msr)];
	return { msr, ...(name === undefined ? {} : { name }), ...rest };
}

export const msrOctets = (fields: FieldReader, isLittle = true): Uint8Array => structOctets(msrEntry, fields, isLittle);
