/**
 * Page tables of three levels (PAE), which a 32-bit PV guest has, and what of them is Xen's. The guest shares its 4 GiB with
 * Xen, whose part lies at their end:
 *
 *     L3, four entries of 1 GiB ─ [0] to [2] ─> L2
 *                               └ [3] ──────> L2 with Xen's part (paeXenL2): slots from firstXenSlot on
 */

/** Where Xen's part begins unless the guest's kernel said otherwise (__HYPERVISOR_VIRT_START_PAE of xen-x86_32.h). */
export const XEN_START_32 = 0xf580_0000;
/** What stands behind these four in an L3 table is nothing. */
export const PAE_L3_ENTRIES = 4;
/** The one that leads to Xen's part. */
export const PAE_XEN_SLOT = PAE_L3_ENTRIES - 1;
/** Octets that an L2 entry maps, as a shift. */
const L2_SLOT_SHIFT = 21;
const ENTRIES = 512;

/** First slot of an L2 table with Xen's part in it that is Xen's. @param xenStart the address that its part begins at */
export const firstXenSlot = (xenStart: number): number => (xenStart >>> L2_SLOT_SHIFT) % ENTRIES;
