/** What FXSAVE and XSAVE write (Intel SDM volume 1, sections 10.5.1 and 13.4); Xen's headers have both as octets. */
import { long, nested, reserved, u8, u16, u32, u64 } from "../../format/fields.ts";
import { layOut } from "../../format/layout.ts";

/** The FXSAVE area in its 64-bit form. */
export const fxsave = layOut("fxsave", "x87 and SSE state.", [
	u16("fcw", "x87 control word.", "hex"),
	u16("fsw", "x87 status word.", "hex"),
	u8("ftw", "x87 tags, abridged: a bit for each register that holds something.", "hex"),
	reserved("reserved0", 1),
	u16("fop", "Last x87 opcode.", "hex"),
	u64("fip", "Instruction that it was.", "hex"),
	u64("fdp", "Its operand.", "hex"),
	u32("mxcsr", "SSE control and status.", "hex"),
	u32("mxcsrMask", "Bits that MXCSR has.", "hex"),
	long("st", 16, 8, "x87 registers ST0 to ST7, the MMX registers in their low 64 bits; 80 bits each."),
	long("xmm", 16, 16, "XMM0 to XMM15."),
	reserved("reserved1", 48),
	// Free for software: Xen notes in the last octet how wide it saved FIP and FDP.
	reserved("available", 48),
]);

/** Octets of FPU state (FXSAVE). */
export const FPU_BYTES = fxsave.size;

/** The legacy region and the header of an XSAVE area; what the header's bits announce follows. */
export const xsaveArea = layOut("xsave_area", "An XSAVE area up to its header.", [
	nested("fpu_sse", fxsave, "x87 and SSE state."),
	u64("xstate_bv", "Components that are there.", "hex"),
	u64("xcomp_bv", "Bit 63: the compacted form; its components.", "hex"),
	reserved("reserved", 48),
]);
