/**
 * What X86_PV_VCPU_BASIC holds of a 32-bit guest: struct vcpu_guest_context of Xen's public interface (public/arch-x86/xen.h and
 * xen-x86_32.h). The one place with these offsets. Frame numbers are PFNs, as in a 64-bit guest's.
 */
import { array, nested, type RowOf, reserved, sparse, u8, u16, u32 } from "../../format/fields.ts";
import { layOut } from "../../format/layout.ts";
import { fxsave } from "../x86/fpu.ts";
import { type ContextOf, readContext, TRAP_COUNT } from "./guestContext.ts";

const trapFields = [
	u8("vector", "Vector."),
	u8("flags", "Bits 0-1: privilege level; bit 2: clears the event-enable flag.", "hex"),
	u16("cs", "Code selector.", "hex"),
	u32("address", "Handler.", "hex"),
] as const;
export const trapInfo32 = layOut("trap_info_x86_32", "One entry of the trap table.", trapFields);

const contextFields = [
	nested("fpu", fxsave, "FXSAVE area."),
	u32("flags", "VGCF bits.", "hex"),
	u32("ebx", "EBX.", "hex"),
	u32("ecx", "ECX.", "hex"),
	u32("edx", "EDX.", "hex"),
	u32("esi", "ESI.", "hex"),
	u32("edi", "EDI.", "hex"),
	u32("ebp", "EBP.", "hex"),
	u32("eax", "EAX.", "hex"),
	u16("errorCode", "Error code of the last exception.", "hex"),
	u16("entryVector", "Vector of the last entry.", "hex"),
	u32("eip", "EIP.", "hex"),
	u16("cs", "CS.", "hex"),
	u8("savedUpcallMask", "Event mask as the last bounce frame saved it."),
	reserved("padMask", 1),
	u32("eflags", "EFLAGS.", "hex"),
	u32("esp", "ESP.", "hex"),
	u16("ss", "SS.", "hex"),
	reserved("padSs", 2),
	u16("es", "ES.", "hex"),
	reserved("padEs", 2),
	u16("ds", "DS.", "hex"),
	reserved("padDs", 2),
	u16("fs", "FS.", "hex"),
	reserved("padFs", 2),
	u16("gs", "GS.", "hex"),
	reserved("padGs", 2),
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
] as const;
export const guestContext32 = layOut("vcpu_guest_context_x86_32", "A 32-bit PV vCPU's context.", contextFields);

export type TrapInfo32 = RowOf<typeof trapFields>;
export type GuestContext32 = ContextOf<RowOf<typeof contextFields>, TrapInfo32>;

/**
 * Reads the context of a 32-bit PV vCPU.
 *
 * @param octets 2800 octets, as the reader of the image guarantees
 */
export function readGuestContext32(octets: Uint8Array): GuestContext32 {
	return readContext<RowOf<typeof contextFields>, TrapInfo32>(guestContext32, trapInfo32, octets);
}

/** The frame that a 32-bit guest's CR3 names, which has its high bits in the low ones (xen_cr3_to_pfn of xen-x86_32.h). */
export const pfnOfCr3 = (cr3: number): number => ((cr3 >>> 12) | (cr3 << 20)) >>> 0;

/** The way back (xen_pfn_to_cr3). */
export const cr3OfPfn = (pfn: number): number => ((pfn << 12) | (pfn >>> 20)) >>> 0;
