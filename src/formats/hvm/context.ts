/**
 * The HVM context: a row of entries {type u16, instance u16, length u32, body}, HEADER first, END last. Types, lengths
 * and the CPU entry's layout are Xen's public ones (public/arch-x86/hvm/save.h); a test compares them with what a C
 * compiler makes of that header.
 */
import { array, reserved, u8, u32, u64 } from "../../format/fields.ts";
import { layOut, type Row, readStruct } from "../../format/layout.ts";

export const HVM_DESCRIPTOR_BYTES = 8;

/** Entry types and their length in Xen 4.17, octets; undefined where it depends on the host. */
export const hvmEntryTypes: Readonly<Record<number, { name: string; length: number | undefined }>> = {
	0: { name: "END", length: 0 },
	1: { name: "HEADER", length: 24 },
	2: { name: "CPU", length: 1032 },
	3: { name: "PIC", length: 8 },
	4: { name: "IOAPIC", length: 400 },
	5: { name: "LAPIC", length: 24 },
	6: { name: "LAPIC_REGS", length: 1024 },
	7: { name: "PCI_IRQ", length: 16 },
	8: { name: "ISA_IRQ", length: 8 },
	9: { name: "PCI_LINK", length: 8 },
	10: { name: "PIT", length: 56 },
	11: { name: "RTC", length: 24 },
	12: { name: "HPET", length: 1048 },
	13: { name: "PMTIMER", length: 8 },
	14: { name: "MTRR", length: 240 },
	15: { name: "VIRIDIAN_DOMAIN", length: 32 },
	16: { name: "CPU_XSAVE", length: undefined },
	17: { name: "VIRIDIAN_VCPU", length: 216 },
	18: { name: "VMCE_VCPU", length: 32 },
	19: { name: "TSC_ADJUST", length: 8 },
	20: { name: "CPU_MSR", length: undefined },
};

const segments = ["cs", "ds", "es", "fs", "gs", "ss", "tr", "ldtr"] as const;
const registers = "rax rbx rcx rdx rbp rsi rdi rsp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags".split(" ");
const controls = "cr0 cr2 cr3 cr4 dr0 dr1 dr2 dr3 dr6 dr7".split(" ");
const hex64 = (name: string) => u64(name, `${name}.`, "hex");
const hex32 = (name: string) => u32(name, `${name}.`, "hex");

/** struct hvm_hw_cpu: one vCPU's registers. */
export const hvmCpu = layOut("hvm_hw_cpu", "A vCPU's registers.", [
	array(512, u8("fpu_regs", "FXSAVE area.")),
	...registers.map(hex64),
	...controls.map(hex64),
	...segments.map((name) => hex32(`${name}_sel`)),
	...[...segments, "idtr", "gdtr"].map((name) => hex32(`${name}_limit`)),
	...[...segments, "idtr", "gdtr"].map((name) => hex64(`${name}_base`)),
	...segments.map((name) => hex32(`${name}_arbytes`)),
	...["sysenter_cs", "sysenter_esp", "sysenter_eip", "shadow_gs"].map(hex64),
	// Once msr_flags; no longer written.
	reserved("obsolete", 8),
	...["msr_lstar", "msr_star", "msr_cstar", "msr_syscall_mask", "msr_efer", "msr_tsc_aux", "tsc"].map(hex64),
	...["pending_event", "error_code", "flags"].map(hex32),
	reserved("padding", 4),
]);

export interface HvmEntry {
	type: number;
	name: string;
	instance: number;
	/** Octets from the context's start to the entry's descriptor. */
	offset: number;
	/** Octets of the body. */
	length: number;
	body: Uint8Array;
	/** Registers of a CPU entry. */
	cpu?: Row;
}

/** The entries, as far as they are whole: what is damaged the check says, this shows what is there. */
export function readHvmContext(context: Uint8Array): HvmEntry[] {
	const view = new DataView(context.buffer, context.byteOffset, context.byteLength);
	const entries: HvmEntry[] = [];
	for (let offset = 0; offset + HVM_DESCRIPTOR_BYTES <= context.length; ) {
		const type = view.getUint16(offset, true);
		const length = view.getUint32(offset + 4, true);
		const from = offset + HVM_DESCRIPTOR_BYTES;
		if (length > context.length - from) break;
		const body = context.subarray(from, from + length);
		const name = hvmEntryTypes[type]?.name ?? `type ${type}`;
		const entry: HvmEntry = { type, name, instance: view.getUint16(offset + 2, true), offset, length, body };
		if (name === "CPU" && length >= hvmCpu.size) entry.cpu = readStruct(hvmCpu, view, from);
		entries.push(entry);
		if (type === 0) break;
		offset = from + length;
	}
	return entries;
}
