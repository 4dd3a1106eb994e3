/**
 * Entries of a PV guest's page tables, of 64-bit ones and of 32-bit ones (PAE):
 *
 *      63      52 51                          12 11         2   1     0
 *     ┌──────────┬──────────────────────────────┬────────────┬────┬───────┐
 *     │  (other) │ MFN                          │  (other)   │ RW │present│
 *     └──────────┴──────────────────────────────┴────────────┴────┴───────┘
 */
import * as L from "./layout.gen";

/** Entries of a table of any level. */
export const TABLE_ENTRIES: u32 = 512;
/** Entries of a 32-bit guest's L3 table; what is behind them is zero. Octets that an L2 entry maps, as a shift. */
export const PAE_L3_SLOTS: u32 = 4;
export const L2_SLOT_SHIFT: u32 = 21;
const PTE_PRESENT: u64 = 1;
const PTE_RW: u64 = 2;
const PTE_FRAME_SHIFT: u64 = 12;
const PTE_FRAME_MASK: u64 = 0xff_ffff_ffff;
/** Slots of an L4 table that are Xen's own: what they name is no reference of the guest's. */
const XEN_FIRST_SLOT: u32 = 256;
const XEN_SLOTS: u32 = 16;

/** Entry `slot` of the level-`level` table at `page`, 0 if it is not present or not the guest's. */
export function guestEntry(page: usize, level: u32, slot: u32): u64 {
	if (level == L.PAGE_TYPE_L4 && slot - XEN_FIRST_SLOT < XEN_SLOTS) return 0;
	const entry = load<u64>(page + slot * 8);
	return (entry & PTE_PRESENT) != 0 ? entry : 0;
}

export function pteFrame(entry: u64): u64 {
	return (entry >> PTE_FRAME_SHIFT) & PTE_FRAME_MASK;
}

export function pteWritable(entry: u64): bool {
	return (entry & PTE_RW) != 0;
}

/** The same entry, read-only. */
export function pteReadonly(entry: u64): u64 {
	return entry & ~PTE_RW;
}

/**
 * Whether a read-write L1 entry of `mapper` holds a writable-type reference on a frame of `owner`: not on another
 * external (PVH, HVM) guest's, whose types Xen does not track for those who map it. `ownerKind` is 0 for no guest.
 */
export function takesType(mapper: u32, owner: u32, ownerKind: u32): bool {
	return owner == mapper || ownerKind == 0 || ownerKind == L.KIND_PV;
}
