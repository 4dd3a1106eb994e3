/** struct vcpu_guest_context of a 32-bit PV guest (public/arch-x86/xen.h and xen-x86_32.h). */
import { array, nested, reserved, sparse, u8, u16, u32 } from "../../format/fields.ts";
import { layOut } from "../../format/layout.ts";
import { fxsave } from "../x86/fpu.ts";
import { TRAP_COUNT } from "./guestContext.ts";

export const trapInfo32 = layOut("trap_info_x86_32", "One entry of the trap table.", [
	u8("vector", "Vector."),
	u8("flags", "Bits 0-1: privilege level; bit 2: clears the event-enable flag.", "hex"),
	u16("cs", "Code selector.", "hex"),
	u32("address", "Handler.", "hex"),
]);

const hex32 = (name: string) => u32(name, `${name.toUpperCase()}.`, "hex");
const selector = (name: string) => [u16(name, `${name.toUpperCase()}.`, "hex"), reserved(`pad_${name}`, 2)] as const;

export const guestContext32 = layOut("vcpu_guest_context_x86_32", "A 32-bit PV vCPU's context.", [
	nested("fpu", fxsave, "FXSAVE area."),
	u32("flags", "VGCF bits.", "hex"),
	...["ebx", "ecx", "edx", "esi", "edi", "ebp", "eax"].map(hex32),
	u16("errorCode", "Error code of the last exception.", "hex"),
	u16("entryVector", "Vector of the last entry.", "hex"),
	hex32("eip"),
	u16("cs", "CS.", "hex"),
	u8("savedUpcallMask", "Event mask as the last bounce frame saved it."),
	reserved("padMask", 1),
	hex32("eflags"),
	hex32("esp"),
	...["ss", "es", "ds", "fs", "gs"].flatMap(selector),
	sparse("traps", trapInfo32, "Trap table, by vector.", TRAP_COUNT),
	u32("ldtBase", "LDT, guest virtual address.", "hex"),
	u32("ldtEntries", "Entries of it."),
	array(16, u32("gdtFrames", "GDT frames.", "hex")),
	u32("gdtEntries", "GDT entries."),
	u32("kernelSs", "Kernel stack segment.", "hex"),
	u32("kernelSp", "Kernel stack pointer.", "hex"),
	array(8, u32("cr", "Control registers 0 to 7.", "hex")),
	array(8, u32("dr", "Debug registers 0 to 7.", "hex")),
	u32("eventCallbackCs", "Event callback's selector.", "hex"),
	u32("eventCallback", "Event callback.", "hex"),
	u32("failsafeCallbackCs", "Failsafe callback's selector.", "hex"),
	u32("failsafeCallback", "Failsafe callback.", "hex"),
	u32("vmAssist", "VM assists.", "hex"),
]);
