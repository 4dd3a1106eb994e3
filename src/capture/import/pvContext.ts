/** The contexts of a PV guest's vCPUs, of either width: which frames they stand on, by PFN. */
import type { GuestImage } from "../../formats/guestImage.ts";
import { GDT_ENTRIES_PER_FRAME, type GuestContext, readGuestContext } from "../../formats/libxc/guestContext.ts";
import { type GuestContext32, pfnOfCr3, readGuestContext32 } from "../../formats/libxc/guestContext32.ts";

export type PvContext = { width: 8; registers: GuestContext } | { width: 4; registers: GuestContext32 };

const CR_PRESENT = 1n;
const CR_FRAME_SHIFT = 12n;

/** The contexts of an image, by vCPU. */
export function pvContexts({ pvInfo, vcpuBasic }: GuestImage): Map<number, PvContext> {
	const read = (octets: Uint8Array): PvContext =>
		pvInfo?.guestWidth === 4
			? { width: 4, registers: readGuestContext32(octets) }
			: { width: 8, registers: readGuestContext(octets) };
	return new Map([...vcpuBasic].map(([id, octets]) => [id, read(octets)]));
}

/** PFNs of the tables that a vCPU runs on: CR3; of a 64-bit guest CR1, the user's, where it is one. */
export function rootPfns({ width, registers }: PvContext): number[] {
	if (width === 4) return [pfnOfCr3(registers.cr[3] ?? 0)];
	const [, user = 0n, , kernel = 0n] = registers.cr;
	return [kernel, ...(user & CR_PRESENT ? [user] : [])].map((value) => Number(value >> CR_FRAME_SHIFT));
}

/** PFNs of a vCPU's GDT. */
export function gdtPfns({ registers: { gdtEntries, gdtFrames } }: PvContext): number[] {
	const frames = Math.ceil(Number(gdtEntries) / GDT_ENTRIES_PER_FRAME);
	return [...gdtFrames].slice(0, frames).map(Number);
}
