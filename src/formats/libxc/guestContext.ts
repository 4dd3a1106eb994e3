/**
 * What X86_PV_VCPU_BASIC holds of a 64-bit guest: struct vcpu_guest_context of Xen's public interface (public/arch-x86/
 * xen.h and xen-x86_64.h), which has no document of its own. The one place with these offsets.
 *
 * In an image frame numbers in it are PFNs (libxc-migration-stream, section 4.5): CR3, CR1 (the user's CR3, where its
 * bit 0 is set), GDT frames, and vCPU 0's RDX, in which a suspending guest passes its start_info.
 */
import { array, nested, type RowOf, reserved, sparse, u8, u16, u32, u64 } from "../../format/fields.ts";
import { layOut, readStruct, type Struct } from "../../format/layout.ts";
import { hvmVmce } from "../hvm/layout.ts";
import { fxsave } from "../x86/fpu.ts";

/** Entries of the trap table. */
export const TRAP_COUNT = 256;
/** GDT entries of one GDT frame. */
export const GDT_ENTRIES_PER_FRAME = 512;

/** Bits of `flags`. */
export const VGCF = {
	i387Valid: 1,
	inKernel: 4,
	failsafeDisablesEvents: 8,
	syscallDisablesEvents: 16,
	online: 32,
} as const;

const trapFields = [
	u8("vector", "Vector."),
	u8("flags", "Bits 0-1: privilege level; bit 2: clears the event-enable flag.", "hex"),
	u16("cs", "Code selector.", "hex"),
	reserved("reserved0", 4),
	u64("address", "Handler.", "hex"),
] as const;
export const trapInfo = layOut("trap_info", "One entry of the trap table.", trapFields);

const contextFields = [
	nested("fpu", fxsave, "FXSAVE area."),
	u64("flags", "VGCF bits.", "hex"),
	u64("r15", "R15.", "hex"),
	u64("r14", "R14.", "hex"),
	u64("r13", "R13.", "hex"),
	u64("r12", "R12.", "hex"),
	u64("rbp", "RBP.", "hex"),
	u64("rbx", "RBX.", "hex"),
	u64("r11", "R11.", "hex"),
	u64("r10", "R10.", "hex"),
	u64("r9", "R9.", "hex"),
	u64("r8", "R8.", "hex"),
	u64("rax", "RAX.", "hex"),
	u64("rcx", "RCX.", "hex"),
	u64("rdx", "RDX.", "hex"),
	u64("rsi", "RSI.", "hex"),
	u64("rdi", "RDI.", "hex"),
	u32("errorCode", "Error code of the last exception.", "hex"),
	u32("entryVector", "Vector of the last entry.", "hex"),
	u64("rip", "RIP.", "hex"),
	u16("cs", "CS.", "hex"),
	reserved("padCs", 2),
	u8("savedUpcallMask", "Event mask as the last bounce frame saved it."),
	reserved("padMask", 3),
	u64("rflags", "RFLAGS.", "hex"),
	u64("rsp", "RSP.", "hex"),
	u16("ss", "SS.", "hex"),
	reserved("padSs", 6),
	u16("es", "ES.", "hex"),
	reserved("padEs", 6),
	u16("ds", "DS.", "hex"),
	reserved("padDs", 6),
	u16("fs", "FS.", "hex"),
	reserved("padFs", 6),
	u16("gs", "GS.", "hex"),
	reserved("padGs", 6),
	sparse("traps", trapInfo, "Trap table, by vector.", TRAP_COUNT),
	u64("ldtBase", "LDT, guest virtual address.", "hex"),
	u64("ldtEntries", "Entries of it."),
	array(16, u64("gdtFrames", "GDT frames.", "hex")),
	u64("gdtEntries", "GDT entries."),
	u64("kernelSs", "Kernel stack segment.", "hex"),
	u64("kernelSp", "Kernel stack pointer.", "hex"),
	array(8, u64("cr", "Control registers 0 to 7.", "hex")),
	array(8, u64("dr", "Debug registers 0 to 7.", "hex")),
	u64("eventCallback", "Event callback.", "hex"),
	u64("failsafeCallback", "Failsafe callback.", "hex"),
	u64("syscallCallback", "System-call callback.", "hex"),
	u64("vmAssist", "VM assists.", "hex"),
	u64("fsBase", "FS base.", "hex"),
	u64("gsBaseKernel", "GS base of the kernel.", "hex"),
	u64("gsBaseUser", "GS base of the user.", "hex"),
] as const;
export const guestContext64 = layOut("vcpu_guest_context", "A 64-bit PV vCPU's context.", contextFields);

/** What X86_PV_VCPU_EXTENDED begins with: struct xen_domctl_ext_vcpucontext (public/domctl.h). */
export const extVcpuContext = layOut(
	"xen_domctl_ext_vcpucontext",
	"A PV vCPU's 32-bit entry points and machine checks.",
	[
		u32("vcpu", "The vCPU once more."),
		u32("size", "Octets that Xen wrote."),
		u64("syscall32CallbackEip", "SYSCALL from 32-bit mode.", "hex"),
		u64("sysenterCallbackEip", "SYSENTER.", "hex"),
		u16("syscall32CallbackCs", "Its selector.", "hex"),
		u16("sysenterCallbackCs", "Its selector.", "hex"),
		u8("syscall32DisablesEvents", "Whether it masks events."),
		u8("sysenterDisablesEvents", "Whether it masks events."),
		reserved("pad", 2),
		nested("vmce", hvmVmce, "Machine checks."),
	],
);

export type TrapInfo = RowOf<typeof trapFields>;
/** A vCPU's context as the image has it; frame numbers are PFNs. */
export type ContextOf<Row, Trap> = Omit<Row, "traps" | "fpu"> & {
	/** FXSAVE area, 512 octets. */
	fpu: Uint8Array;
	/** 256 entries, by vector. */
	traps: Trap[];
};
export type GuestContext = ContextOf<RowOf<typeof contextFields>, TrapInfo>;

/** Reads a context of either width, with its trap handlers one by one. */
export function readContext<Row extends { traps: Iterable<number>; fpu: Iterable<number> }, Trap>(
	context: Struct,
	trap: Struct,
	octets: Uint8Array,
): ContextOf<Row, Trap> {
	const row = readStruct(
		context,
		new DataView(octets.buffer, octets.byteOffset, octets.byteLength),
		0,
	) as unknown as Row;
	const view = new DataView(Uint8Array.from(row.traps).buffer);
	const traps = Array.from(
		{ length: TRAP_COUNT },
		(_, vector) => readStruct(trap, view, vector * trap.size) as unknown as Trap,
	);
	return { ...row, fpu: Uint8Array.from(row.fpu), traps };
}

/**
 * Reads the context of a 64-bit PV vCPU.
 *
 * @param octets 5168 octets, as the reader of the image guarantees
 */
export function readGuestContext(octets: Uint8Array): GuestContext {
	return readContext<RowOf<typeof contextFields>, TrapInfo>(guestContext64, trapInfo, octets);
}
