/**
 * Page tables of a synthetic PV domain, small but real: two pinned L4 tables, the kernel's and the user's, that share one
 * tree. Their contents are in preserved memory.
 *
 *     kernel L4, user L4 ─ [272] ─> L3 ─ [0]    ─> L2 ─ [0..n] ─> L1 ... ─ [0..511] ─> frames of the domain
 *                                      └ [1..m] ─> L2 ─ [0..511] ─> L1 ... ─ [0..511] ─> shared_info, frames of others
 *
 * The second branch has an entry for each grant of another domain that the host's tables map, and for each page that an
 * emulator has acquired: dom0's are many. Its tables lie beside the domain's memory, which may have fewer frames.
 *
 * What is mapped writable has that type in use, but for frames of PVH and HVM guests; tables and descriptor frames are
 * mapped read-only.
 */
import { PAGE_TYPE, PAGE_TYPE_FLAG } from "../../format/enums.ts";
import type { SyntheticDomain } from "./domain.ts";

const ENTRIES = 512;
/** First slot of the guest's own half, where Linux has its map of all memory. */
const DIRECT_MAP_SLOT = 272;
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

export interface PvTables {
	/** MFNs for CR3 and CR1. */
	kernelRoot: number;
	userRoot: number;
}

/** Makes the tables of a PV domain. @param descriptorFrames its GDT frames, which are never mapped writable */
export function makePageTables(domain: SyntheticDomain, descriptorFrames: readonly number[]): PvTables {
	const { memory, random } = domain;
	const table = (type: number, flags = 0, mfn = domain.specialFrame().mfn): Table => {
		domain.setType(mfn, type, PAGE_TYPE_FLAG.validated | flags);
		const page = domain.preserve(mfn);
		const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
		return { mfn, set: (slot, to, bits) => view.setBigUint64(8 * slot, (BigInt(to) << FRAME_SHIFT) | bits, true) };
	};
	const kernel = table(PAGE_TYPE.l4, PAGE_TYPE_FLAG.pinned);
	const user = table(PAGE_TYPE.l4, PAGE_TYPE_FLAG.pinned);
	const l3 = table(PAGE_TYPE.l3);
	const l2 = table(PAGE_TYPE.l2);
	const most = Math.ceil(memory.small.length / ENTRIES);
	const l1 = Array.from({ length: Math.min(1 + random.below(MOST_L1_TABLES), most) }, () => table(PAGE_TYPE.l1));
	kernel.set(DIRECT_MAP_SLOT, l3.mfn, PTE_WRITE);
	user.set(DIRECT_MAP_SLOT, l3.mfn, PTE_WRITE);
	l3.set(0, l2.mfn, PTE_WRITE);
	const readonly = new Set([kernel, user, l3, l2, ...l1].map(({ mfn }) => mfn).concat(descriptorFrames));
	l1.forEach((lowest, slot) => {
		l2.set(slot, lowest.mfn, PTE_WRITE);
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
	const mappings = [{ mfn: domain.sharedInfoMfn(), isWritable: true }, ...domain.mapped];
	let mappingL2: Table | undefined;
	let mappingL1: Table | undefined;
	mappings.forEach(({ mfn, isWritable }, i) => {
		const slot = i % ENTRIES;
		const tableNumber = Math.floor(i / ENTRIES);
		if (slot === 0) {
			if (tableNumber % ENTRIES === 0) {
				mappingL2 = table(PAGE_TYPE.l2, 0, domain.takeTable());
				l3.set(1 + tableNumber / ENTRIES, mappingL2.mfn, PTE_WRITE);
			}
			mappingL1 = table(PAGE_TYPE.l1, 0, domain.takeTable());
			mappingL2?.set(tableNumber % ENTRIES, mappingL1.mfn, PTE_WRITE);
		}
		mappingL1?.set(slot, mfn, isWritable ? PTE_WRITE : PTE_READ);
	});
	return { kernelRoot: kernel.mfn, userRoot: user.mfn };
}

/** Most tables that so many frames of others need, two levels of them. */
export function mostMappingTables(mappings: number): number {
	const lowest = Math.ceil(mappings / ENTRIES);
	return lowest + Math.ceil(lowest / ENTRIES);
}
