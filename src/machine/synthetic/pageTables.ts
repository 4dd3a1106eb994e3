/**
 * Page tables of a synthetic PV domain, small but real: two pinned L4 tables, the kernel's and the user's, that share one
 * tree. Their contents are in preserved memory.
 *
 *     kernel L4, user L4 ─ [272] ─> L3 ─ [0]    ─> L2 ─ [0..n] ─> L1 ... ─ [0..511] ─> frames of the domain
 *                                      └ [1..m] ─> L2 ─ [0..511] ─> L1 ... ─ [0..511] ─> shared_info, frames of others
 *
 * Of a 32-bit guest there are three levels, and one L3 table, pinned, for kernel and user:
 *
 *     L3 ─ [0] ─> L2 ─ [64]  ─> the first L1, once more
 *        │           └ [511] ─> itself, read-only
 *        └ [3] ─> L2 with Xen's part ─ [0..n] ─────────────────> L1 ... ─ [0..511] ─> frames of the domain
 *                                    └ [below Xen's, downwards] ─> L1 ... ─ [0..511] ─> shared_info, frames of others
 *
 * The branch with shared_info has an entry for each grant of another domain that the tables map, and for each page that an
 * emulator has acquired: dom0's are many. Its tables lie beside the domain's memory, which may have fewer frames.
 *
 * What is mapped writable has that type in use, but for frames of PVH and HVM guests; tables and descriptor frames are
 * mapped read-only.
 */
import { PAGE_TYPE, PAGE_TYPE_FLAG } from "../../format/enums.ts";
import { firstXenSlot, PAE_XEN_SLOT } from "../pae.ts";
import type { SyntheticDomain } from "./domain.ts";

const ENTRIES = 512;
/** First slot of the guest's own half, where Linux has its map of all memory. */
const DIRECT_MAP_SLOT = 272;
/** Where a 32-bit program of Linux begins, in an L2 table. */
const USER_SLOT = 64;
const MOST_L1_TABLES = 4;
/** Present, user, accessed, dirty; and writable. */
const PTE_READ = 0x65n;
const PTE_WRITE = 0x67n;
const FRAME_SHIFT = 12n;
/** Of a guest's addresses some have no memory behind them. */
const ABSENT_SHARE = 0.05;

interface Table {
	mfn: number;
	set: (slot: number, mfn: number, bits: bigint) => void;
}
type MakeTable = (type: number, flags?: number, mfn?: number) => Table;

/** Makes tables of a domain: in its own special frames, or where the caller says. */
function tableMaker(domain: SyntheticDomain): MakeTable {
	return (type, flags = 0, mfn = domain.specialFrame().mfn) => {
		domain.setType(mfn, type, PAGE_TYPE_FLAG.validated | flags);
		const page = domain.preserve(mfn);
		const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
		return { mfn, set: (slot, to, bits) => view.setBigUint64(8 * slot, (BigInt(to) << FRAME_SHIFT) | bits, true) };
	};
}

/** L1 tables for the first of a domain's frames: one to four, as far as it has frames for them. */
function lowestTables({ memory, random }: SyntheticDomain, table: MakeTable): Table[] {
	const most = Math.ceil(memory.small.length / ENTRIES);
	return Array.from({ length: Math.min(1 + random.below(MOST_L1_TABLES), most) }, () => table(PAGE_TYPE.l1));
}

/** Fills L1 tables with the domain's memory. @param readonly frames that nobody may map writable */
function mapMemory(domain: SyntheticDomain, l1: readonly Table[], readonly: ReadonlySet<number>): void {
	const { memory, random } = domain;
	l1.forEach((lowest, slot) => {
		for (let entry = 0; entry < ENTRIES; entry++) {
			const mfn = memory.small[slot * ENTRIES + entry];
			if (mfn === undefined || random.chance(ABSENT_SHARE)) continue;
			if (readonly.has(mfn)) lowest.set(entry, mfn, PTE_READ);
			else {
				lowest.set(entry, mfn, PTE_WRITE);
				domain.writable(mfn);
			}
		}
	});
}

/**
 * Maps shared_info and all that the domain has mapped of others.
 * @param lowestTable makes the n-th L1 table for them, and puts it into a table above
 */
function mapOthers(domain: SyntheticDomain, lowestTable: (n: number) => Table): void {
	const mappings = [{ mfn: domain.sharedInfoMfn(), isWritable: true }, ...domain.mapped];
	for (let first = 0; first < mappings.length; first += ENTRIES) {
		const lowest = lowestTable(first / ENTRIES);
		mappings.slice(first, first + ENTRIES).forEach(({ mfn, isWritable }, slot) => {
			lowest.set(slot, mfn, isWritable ? PTE_WRITE : PTE_READ);
		});
	}
}

export interface PvTables {
	/** MFNs for CR3 and CR1. */
	kernelRoot: number;
	userRoot: number;
}

/** Makes the tables of a 64-bit PV domain. @param descriptorFrames its GDT frames, which are never mapped writable */
export function makePageTables(domain: SyntheticDomain, descriptorFrames: readonly number[]): PvTables {
	const table = tableMaker(domain);
	const kernel = table(PAGE_TYPE.l4, PAGE_TYPE_FLAG.pinned);
	const user = table(PAGE_TYPE.l4, PAGE_TYPE_FLAG.pinned);
	const l3 = table(PAGE_TYPE.l3);
	const l2 = table(PAGE_TYPE.l2);
	const l1 = lowestTables(domain, table);
	kernel.set(DIRECT_MAP_SLOT, l3.mfn, PTE_WRITE);
	user.set(DIRECT_MAP_SLOT, l3.mfn, PTE_WRITE);
	l3.set(0, l2.mfn, PTE_WRITE);
	l1.forEach((lowest, slot) => {
		l2.set(slot, lowest.mfn, PTE_WRITE);
	});
	mapMemory(domain, l1, new Set([kernel, user, l3, l2, ...l1].map(({ mfn }) => mfn).concat(descriptorFrames)));
	let mappingL2: Table | undefined;
	mapOthers(domain, (n) => {
		if (n % ENTRIES === 0) {
			mappingL2 = table(PAGE_TYPE.l2, 0, domain.takeTable());
			l3.set(1 + n / ENTRIES, mappingL2.mfn, PTE_WRITE);
		}
		const lowest = table(PAGE_TYPE.l1, 0, domain.takeTable());
		mappingL2?.set(n % ENTRIES, lowest.mfn, PTE_WRITE);
		return lowest;
	});
	return { kernelRoot: kernel.mfn, userRoot: user.mfn };
}

/** The same of a 32-bit one. @returns the MFN of its L3 table, for CR3 */
export function makePaeTables(domain: SyntheticDomain, descriptorFrames: readonly number[], xenStart: number): number {
	const table = tableMaker(domain);
	const l3 = table(PAGE_TYPE.l3, PAGE_TYPE_FLAG.pinned);
	const kernel = table(PAGE_TYPE.l2, PAGE_TYPE_FLAG.paeXenL2);
	const user = table(PAGE_TYPE.l2);
	const l1 = lowestTables(domain, table);
	l3.set(0, user.mfn, PTE_WRITE);
	l3.set(PAE_XEN_SLOT, kernel.mfn, PTE_WRITE);
	l1.forEach((lowest, slot) => {
		kernel.set(slot, lowest.mfn, PTE_WRITE);
	});
	user.set(USER_SLOT, (l1[0] as Table).mfn, PTE_WRITE);
	user.set(ENTRIES - 1, user.mfn, PTE_READ);
	const readonly = new Set([l3, kernel, user, ...l1].map(({ mfn }) => mfn).concat(descriptorFrames));
	mapMemory(domain, l1, readonly);
	const xenSlot = firstXenSlot(xenStart);
	mapOthers(domain, (n) => {
		const lowest = table(PAGE_TYPE.l1, 0, domain.takeTable());
		kernel.set(xenSlot - 1 - n, lowest.mfn, PTE_WRITE);
		return lowest;
	});
	// What is Xen's holds nothing, whatever frame it names.
	for (const slot of [xenSlot, ENTRIES - 1]) kernel.set(slot, domain.memory.small[0] as number, PTE_WRITE);
	return l3.mfn;
}

/** Most tables that so many frames of others need, two levels of them. */
export function mostMappingTables(mappings: number): number {
	const lowest = Math.ceil(mappings / ENTRIES);
	return lowest + Math.ceil(lowest / ENTRIES);
}
