/**
 * The entries of an HVM context: their types, and of each the registers (public/arch-x86/hvm/save.h). The one place with these
 * layouts; names are the header's. test/formats/layouts.test.ts holds each against what a C compiler makes of that header.
 *
 * Xen changes an entry by making it longer, so a length stands for a version: an entry has as many forms as lengths are known.
 */
import { array, bitsOf, long, nested, reserved, u8, u16, u32, u64 } from "../../format/fields.ts";
import { type Field, layOut, type Struct } from "../../format/layout.ts";
import { fxsave, xsaveArea } from "../x86/fpu.ts";
import { msrEntry } from "../x86/msrs.ts";

const hex64 = (name: string) => u64(name, `${name}.`, "hex");
const hex32 = (name: string) => u32(name, `${name}.`, "hex");
const hex8 = (name: string) => u8(name, `${name}.`, "hex");
const number8 = (name: string) => u8(name, `${name}.`);

export const hvmDescriptor = layOut("hvm_save_descriptor", "In front of each entry.", [
	u16("typecode", "The entry's type."),
	u16("instance", "Which of several: a vCPU, a PIC."),
	u32("length", "Octets that follow."),
]);

export const hvmHeader = layOut("hvm_save_header", "What saved the context, and on what.", [
	hex32("magic"),
	u32("version", "Of the format: 1."),
	u64("changeset", "Of the Xen that saved it; all ones where it does not know.", "hex"),
	u32("cpuid", "EAX of CPUID leaf 1 of the machine.", "hex"),
	u32("gtsc_khz", "Frequency of the guest's TSC, kHz."),
]);

const segments = ["cs", "ds", "es", "fs", "gs", "ss", "tr", "ldtr"] as const;
const registers = "rax rbx rcx rdx rbp rsi rdi rsp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags".split(" ");
const controls = "cr0 cr2 cr3 cr4 dr0 dr1 dr2 dr3 dr6 dr7".split(" ");

/** Up to `error_code`; the oldest form has no `msr_tsc_aux`. */
const cpuFields = (tscAux: readonly string[]): Field[] => [
	nested("fpu_regs", fxsave, "FXSAVE area."),
	...registers.map(hex64),
	...controls.map(hex64),
	...segments.map((name) => hex32(`${name}_sel`)),
	...[...segments, "idtr", "gdtr"].map((name) => hex32(`${name}_limit`)),
	...[...segments, "idtr", "gdtr"].map((name) => hex64(`${name}_base`)),
	...segments.map((name) => hex32(`${name}_arbytes`)),
	...["sysenter_cs", "sysenter_esp", "sysenter_eip", "shadow_gs"].map(hex64),
	// No longer written.
	reserved("msr_flags", 8),
	...["msr_lstar", "msr_star", "msr_cstar", "msr_syscall_mask", "msr_efer", ...tscAux, "tsc"].map(hex64),
	...["pending_event", "error_code"].map(hex32),
];
/** A vCPU's registers. */
export const hvmCpu = layOut("hvm_hw_cpu", "A vCPU's registers.", [
	...cpuFields(["msr_tsc_aux"]),
	hex32("flags"),
	reserved("pad0", 4),
]);
/** Xen 3.4 to 4.6. */
const hvmCpu46 = layOut("hvm_hw_cpu_4_6", "A vCPU's registers.", cpuFields(["msr_tsc_aux"]));
/** Before Xen 3.4. */
export const hvmCpuCompat = layOut("hvm_hw_cpu_compat", "A vCPU's registers.", cpuFields([]));

export const hvmPic = layOut("hvm_hw_vpic", "An 8259: instance 0 is the master.", [
	...["irr", "imr", "isr", "irq_base"].map(hex8),
	bitsOf(hex8("initialisation"), ["init_state", 4], ["priority_add", 4]),
	bitsOf(
		hex8("modes"),
		["readsel_isr", 1],
		["poll", 1],
		["auto_eoi", 1],
		["rotate_on_auto_eoi", 1],
		["special_fully_nested_mode", 1],
		["special_mask_mode", 1],
		["is_master", 1],
	),
	hex8("elcr"),
	hex8("int_output"),
]);

export const hvmIoapic = layOut("hvm_hw_vioapic", "The I/O APIC.", [
	hex64("base_address"),
	...["ioregsel", "id"].map(hex32),
	array(48, u64("redirtbl", "Redirection entries by pin.", "hex")),
]);

const lapicFields = [hex64("apic_base_msr"), hex32("disabled"), hex32("timer_divisor"), hex64("tdt_msr")] as const;
export const hvmLapic = layOut("hvm_hw_lapic", "A local APIC's hidden state.", lapicFields);
/** Xen 4.20. */
export const hvmLapic420 = layOut("hvm_hw_lapic_4_20", "A local APIC's hidden state.", [
	...lapicFields,
	hex32("x2apic_id"),
	reserved("rsvd_zero", 4),
]);

/** Registers of a local APIC by their offset (Intel SDM volume 3, table 12-1), each 32 bits in 16 octets. */
const lapicRegisters: Readonly<Record<number, string>> = {
	32: "id",
	48: "version",
	128: "tpr",
	144: "apr",
	160: "ppr",
	176: "eoi",
	192: "rrd",
	208: "ldr",
	224: "dfr",
	240: "svr",
	...Object.fromEntries(
		["isr", "tmr", "irr"].flatMap((name, row) =>
			Array.from({ length: 8 }, (_, i) => [0x100 + 0x80 * row + 0x10 * i, name + i]),
		),
	),
	640: "esr",
	752: "lvt_cmci",
	768: "icr",
	784: "icr2",
	800: "lvt_timer",
	816: "lvt_thermal",
	832: "lvt_pc",
	848: "lvt_lint0",
	864: "lvt_lint1",
	880: "lvt_error",
	896: "timer_icr",
	912: "timer_ccr",
	992: "timer_dcr",
	1008: "self_ipi",
};
export const hvmLapicRegs = layOut(
	"hvm_hw_lapic_regs",
	"A local APIC's registers.",
	Array.from({ length: 64 }, (_, i): Field[] => {
		const offset = 16 * i;
		const at = `0x${offset.toString(16).padStart(3, "0")}`;
		const name = lapicRegisters[offset];
		if (name === undefined) return [reserved(`at_${at}`, 16)];
		return [u32(name, `At ${at}.`, "hex"), reserved(`behind_${name}`, 12)];
	}).flat(),
);

export const hvmPciIrqs = layOut("hvm_hw_pci_irqs", "Interrupt wires of the PCI bus, bit 4 x device + INTx.", [
	array(2, hex64("i")),
]);
export const hvmIsaIrqs = layOut("hvm_hw_isa_irqs", "Interrupt wires of ISA devices, a bit for each IRQ.", [
	hex64("i"),
]);
export const hvmPciLink = layOut("hvm_hw_pci_link", "Which ISA IRQ each PCI link is routed to.", [
	long("route", 1, 4, "By link."),
	reserved("pad0", 4),
]);

export const hvmPitChannel = layOut("hvm_hw_pit_channel", "A counter of the 8254.", [
	u32("count", "Its period, up to 65536."),
	u16("latched_count", "As latched."),
	...[
		"count_latched",
		"status_latched",
		"status",
		"read_state",
		"write_state",
		"write_latch",
		"rw_mode",
		"mode",
		"bcd",
	].map(number8),
	number8("gate"),
]);
export const hvmPit = layOut("hvm_hw_pit", "The 8254.", [
	nested("channels", hvmPitChannel, "Its counters.", 3),
	u32("speaker_data_on", "Whether the speaker is on."),
	reserved("pad0", 4),
]);

export const hvmRtc = layOut("hvm_hw_rtc", "The clock.", [
	array(14, u8("cmos_data", "Its registers.")),
	hex8("cmos_index"),
	reserved("pad0", 1),
	u64("rtc_offset", "Seconds that it is ahead of the host's time.", "signed"),
]);

export const hvmHpetTimer = layOut("hvm_hw_hpet_timer", "A timer of the HPET.", [
	...["config", "cmp", "fsb"].map(hex64),
	reserved("res4", 8),
]);
export const hvmHpet = layOut("hvm_hw_hpet", "The HPET.", [
	hex64("capability"),
	reserved("res0", 8),
	hex64("config"),
	reserved("res1", 8),
	hex64("isr"),
	reserved("res2", 200),
	hex64("mc64"),
	reserved("res3", 8),
	nested("timers", hvmHpetTimer, "Its timers.", 3),
	reserved("res5", 672),
	array(3, u64("period", "What was written to each comparator last.", "hex")),
]);

export const hvmPmtimer = layOut("hvm_hw_pmtimer", "The ACPI timer.", [
	hex32("tmr_val"),
	u16("pm1a_sts", "Status register.", "hex"),
	u16("pm1a_en", "Enable register.", "hex"),
]);

export const hvmMtrr = layOut("hvm_hw_mtrr", "A vCPU's memory types.", [
	hex64("msr_pat_cr"),
	array(16, u64("msr_mtrr_var", "Base and mask of each variable range.", "hex")),
	array(11, u64("msr_mtrr_fixed", "The fixed ranges.", "hex")),
	...["msr_mtrr_cap", "msr_mtrr_def_type"].map(hex64),
]);

export const hvmViridianDomain = layOut(
	"hvm_viridian_domain_context",
	"Hyper-V interfaces of the domain.",
	["hypercall_gpa", "guest_os_id", "time_ref_count", "reference_tsc"].map(hex64),
);
export const hvmViridianVcpu = layOut("hvm_viridian_vcpu_context", "Hyper-V interfaces of a vCPU.", [
	hex64("vp_assist_msr"),
	number8("apic_assist_pending"),
	reserved("_pad", 7),
	hex64("simp_msr"),
	array(16, hex64("sint_msr")),
	array(4, hex64("stimer_config_msr")),
	array(4, hex64("stimer_count_msr")),
]);

export const hvmVmce = layOut(
	"hvm_vmce_vcpu",
	"A vCPU's machine checks.",
	["caps", "mci_ctl2_bank0", "mci_ctl2_bank1", "mcg_ext_ctl"].map(hex64),
);
export const hvmTscAdjust = layOut("hvm_tsc_adjust", "TSC_ADJUST of a vCPU.", [hex64("tsc_adjust")]);

export const hvmXsave = layOut("hvm_hw_cpu_xsave", "A vCPU's extended state.", [
	...["xfeature_mask", "xcr0", "xcr0_accum"].map(hex64),
	nested("save_area", xsaveArea, "The XSAVE area up to its header."),
]);

export const hvmMsr = layOut("hvm_msr", "A vCPU's MSRs.", [u32("count", "How many follow."), reserved("padding", 4)]);

const end = layOut("hvm_save_end", "Nothing.", []);

export interface HvmEntryType {
	readonly name: string;
	/** Octets in Xen 4.17; undefined where it depends on the host. */
	readonly length: number | undefined;
	/** By length, ascending. */
	readonly forms: readonly Struct[];
	/** What follows where there is no upper limit: rows of a struct, or octets. */
	readonly tail?: { readonly name: string; readonly row?: Struct };
	/** How many there are: of each vCPU one, or so many in the domain. */
	readonly instances: "vcpu" | number;
}

const entry = (name: string, current: Struct, ...others: Struct[]): HvmEntryType => ({
	name,
	length: current.size,
	forms: [current, ...others].sort((a, b) => a.size - b.size),
	instances: 1,
});
const ofVcpu = (name: string, current: Struct, ...others: Struct[]): HvmEntryType => ({
	...entry(name, current, ...others),
	instances: "vcpu",
});
const open = (name: string, head: Struct, tail: NonNullable<HvmEntryType["tail"]>): HvmEntryType => ({
	...ofVcpu(name, head),
	length: undefined,
	tail,
});

/** Entry types, HVM_SAVE_CODE of the header. */
export const hvmEntryTypes: Readonly<Record<number, HvmEntryType>> = {
	0: entry("END", end),
	1: entry("HEADER", hvmHeader),
	2: ofVcpu("CPU", hvmCpu, hvmCpu46, hvmCpuCompat),
	// Master and slave.
	3: { ...entry("PIC", hvmPic), instances: 2 },
	4: entry("IOAPIC", hvmIoapic),
	5: ofVcpu("LAPIC", hvmLapic, hvmLapic420),
	6: ofVcpu("LAPIC_REGS", hvmLapicRegs),
	7: entry("PCI_IRQ", hvmPciIrqs),
	8: entry("ISA_IRQ", hvmIsaIrqs),
	9: entry("PCI_LINK", hvmPciLink),
	10: entry("PIT", hvmPit),
	11: entry("RTC", hvmRtc),
	12: entry("HPET", hvmHpet),
	13: entry("PMTIMER", hvmPmtimer),
	14: ofVcpu("MTRR", hvmMtrr),
	15: entry("VIRIDIAN_DOMAIN", hvmViridianDomain),
	16: open("CPU_XSAVE", hvmXsave, { name: "extended" }),
	17: ofVcpu("VIRIDIAN_VCPU", hvmViridianVcpu),
	18: ofVcpu("VMCE_VCPU", hvmVmce),
	19: ofVcpu("TSC_ADJUST", hvmTscAdjust),
	20: open("CPU_MSR", hvmMsr, { name: "msrs", row: msrEntry }),
};

/** The form that a body of this length has: the longest one that fits; undefined for types and lengths that are not known. */
export function hvmForm(type: number, length: number): Struct | undefined {
	return hvmEntryTypes[type]?.forms.findLast(({ size }) => size <= length);
}

/** What lengths an entry may have, and whether this is one of them; undefined for a type that is not known. */
export function hvmLength(type: number, length: number): { expected: string; isKnown: boolean } | undefined {
	const known = hvmEntryTypes[type];
	if (!known) return undefined;
	const { forms, tail } = known;
	const sizes = forms.map(({ size }) => size);
	const least = sizes[0] ?? 0;
	if (!tail) return { expected: `${sizes.join(", ")} octets`, isKnown: sizes.includes(length) };
	const rowBytes = tail.row?.size ?? 1;
	const rows = tail.row ? `${least} octets and rows of ${rowBytes}` : `at least ${least} octets`;
	return { expected: rows, isKnown: length >= least && (length - least) % rowBytes === 0 };
}
