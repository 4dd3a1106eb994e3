/**
 * The libxc domain image: names and numbers of libxc-migration-stream (revision 3). Lengths in octets.
 *
 *     image header   marker u64, id u32, version u32, options u16, reserved[6]     (big-endian, always)
 *     domain header  type u32, page_shift u16, reserved u16, xen_major u32, xen_minor u32
 *     records ... END
 */

/** Section 3.1: all ones, where a legacy image has a zero bit. */
export const LIBXC_MARKER_BYTES = 8;
/** "XENF". */
export const LIBXC_ID = 0x58454e46;
export const LIBXC_HEADER_BYTES = 24;
export const LIBXC_DOMAIN_HEADER_BYTES = 16;
/** Version 2 infers STATIC_DATA_END from the first P2M_FRAMES or PAGE_DATA; version 3 demands it (section 6.1). */
export const LIBXC_VERSIONS: readonly number[] = [2, 3];
/** Section 3.1, bit 0 of options. */
export const LIBXC_OPTION_BIG_ENDIAN = 1;

export const LIBXC_TYPE_X86_PV = 1;
export const LIBXC_TYPE_X86_HVM = 2;

/** x86 has no other page size. */
export const PAGE_SHIFT = 12;
export const PAGE_BYTES = 4096;

/** Record types, section 4. */
export const LIBXC_RECORD = {
	END: 0x0,
	PAGE_DATA: 0x1,
	X86_PV_INFO: 0x2,
	X86_PV_P2M_FRAMES: 0x3,
	X86_PV_VCPU_BASIC: 0x4,
	X86_PV_VCPU_EXTENDED: 0x5,
	X86_PV_VCPU_XSAVE: 0x6,
	SHARED_INFO: 0x7,
	X86_TSC_INFO: 0x8,
	HVM_CONTEXT: 0x9,
	HVM_PARAMS: 0xa,
	TOOLSTACK: 0xb,
	X86_PV_VCPU_MSRS: 0xc,
	VERIFY: 0xd,
	CHECKPOINT: 0xe,
	CHECKPOINT_DIRTY_PFN_LIST: 0xf,
	STATIC_DATA_END: 0x10,
	X86_CPUID_POLICY: 0x11,
	X86_MSR_POLICY: 0x12,
} as const;

/** Records of PV guests alone, and of HVM guests alone (section 5). */
export const PV_ONLY: ReadonlySet<number> = new Set([
	LIBXC_RECORD.X86_PV_INFO,
	LIBXC_RECORD.X86_PV_P2M_FRAMES,
	LIBXC_RECORD.X86_PV_VCPU_BASIC,
	LIBXC_RECORD.X86_PV_VCPU_EXTENDED,
	LIBXC_RECORD.X86_PV_VCPU_XSAVE,
	LIBXC_RECORD.X86_PV_VCPU_MSRS,
	LIBXC_RECORD.SHARED_INFO,
]);
export const HVM_ONLY: ReadonlySet<number> = new Set([LIBXC_RECORD.HVM_CONTEXT, LIBXC_RECORD.HVM_PARAMS]);

/** Section 8: Xen 4.6 to 4.8 wrote these with no content. */
export const MAY_BE_EMPTY: ReadonlySet<number> = new Set([
	LIBXC_RECORD.HVM_PARAMS,
	LIBXC_RECORD.X86_PV_VCPU_EXTENDED,
	LIBXC_RECORD.X86_PV_VCPU_XSAVE,
	LIBXC_RECORD.X86_PV_VCPU_MSRS,
]);

export const libxcRecordNames: Readonly<Record<number, string>> = Object.fromEntries(
	Object.entries(LIBXC_RECORD).map(([name, type]) => [type, name]),
);

/** Page types, bits 63-60 of a PAGE_DATA entry (section 4.2; XEN_DOMCTL_PFINFO_* of public/domctl.h). */
export const PAGE_TYPE = {
	NOTAB: 0x0,
	L1TAB: 0x1,
	L2TAB: 0x2,
	L3TAB: 0x3,
	L4TAB: 0x4,
	L1TAB_PIN: 0x9,
	L2TAB_PIN: 0xa,
	L3TAB_PIN: 0xb,
	L4TAB_PIN: 0xc,
	BROKEN: 0xd,
	XALLOC: 0xe,
	XTAB: 0xf,
} as const;

export const pageTypeNames: Readonly<Record<number, string>> = Object.fromEntries(
	Object.entries(PAGE_TYPE).map(([name, type]) => [type, name]),
);

/** From here on (BROKEN, XALLOC, XTAB) a PFN has no page_data. */
export const FIRST_TYPE_WITHOUT_DATA = PAGE_TYPE.BROKEN;

/** vcpu_id u32 and a reserved word, in front of what a vCPU's record holds. */
export const VCPU_HEADER_BYTES = 8;
/** Octets of one xen_cpuid_leaf_t: leaf, subleaf, a, b, c, d. */
export const CPUID_LEAF_BYTES = 24;
/** Octets of one xen_msr_entry_t: idx, flags, val; and of one xen_domctl_vcpu_msr_t. */
export const MSR_ENTRY_BYTES = 16;
/** sizeof(vcpu_guest_context) by guest width (public/arch-x86/xen.h). */
export const VCPU_CONTEXT_BYTES: Readonly<Record<4 | 8, number>> = { 4: 2800, 8: 5168 };
/** No x86 guest has more vCPUs: MAX_VIRT_CPUS of Xen. Bounds what a hostile image can make us keep. */
export const VCPU_LIMIT = 8192;

/** HVM parameters, public/hvm/params.h of Xen 4.17; HVM_PARAM_ left out. */
export const hvmParamNames: Readonly<Record<number, string>> = {
	0: "CALLBACK_IRQ",
	1: "STORE_PFN",
	2: "STORE_EVTCHN",
	4: "PAE_ENABLED",
	5: "IOREQ_PFN",
	6: "BUFIOREQ_PFN",
	9: "VIRIDIAN",
	10: "TIMER_MODE",
	11: "HPET_ENABLED",
	12: "IDENT_PT",
	13: "DM_DOMAIN",
	14: "ACPI_S_STATE",
	15: "VM86_TSS",
	16: "VPT_ALIGN",
	17: "CONSOLE_PFN",
	18: "CONSOLE_EVTCHN",
	19: "ACPI_IOPORTS_LOCATION",
	20: "MEMORY_EVENT_CR0",
	21: "MEMORY_EVENT_CR3",
	22: "MEMORY_EVENT_CR4",
	23: "MEMORY_EVENT_INT3",
	24: "NESTEDHVM",
	25: "MEMORY_EVENT_SINGLE_STEP",
	26: "BUFIOREQ_EVTCHN",
	27: "PAGING_RING_PFN",
	28: "MONITOR_RING_PFN",
	29: "SHARING_RING_PFN",
	30: "MEMORY_EVENT_MSR",
	31: "TRIPLE_FAULT_REASON",
	32: "IOREQ_SERVER_PFN",
	33: "NR_IOREQ_SERVER_PAGES",
	34: "VM_GENERATION_ID_ADDR",
	35: "ALTP2M",
	36: "X87_FIP_WIDTH",
	37: "VM86_TSS_SIZED",
	38: "MCA_CAP",
};
