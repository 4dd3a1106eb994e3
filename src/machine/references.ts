/**
 * References as history would have made them, counted from a host's model: an account of its own, made by other code
 * than the core's, so that comparing the two means something. Rules: docs/FORMAT.md, "References that restore rebuilds".
 */
import {
	DOMID,
	FRAME,
	FRAME_OWNER_MASK,
	IOREQ_PAGE_FLAG,
	KIND,
	LIFE,
	NONE64,
	PAGE_TYPE,
	PAGE_TYPE_FLAG,
	VCPU_FLAG,
} from "../format/enums.ts";
import { PAGE_BYTES } from "./guestPages.ts";
import type { DomainModel, HostModel, PreservedPages } from "./model.ts";
import { firstXenSlot, PAE_L3_ENTRIES } from "./pae.ts";

export interface DomainSums {
	references: number;
	/** nr_pages: frames without xenheap and extra ones. */
	frames: number;
	xenheapFrames: number;
	extraFrames: number;
}

export interface References {
	/** Per MFN: page references, then type references. */
	readonly frames: Uint32Array;
	/** By domid. */
	readonly domains: ReadonlyMap<number, DomainSums>;
}

const big = (value: number | bigint | undefined): bigint => BigInt(value ?? 0);

/**
 * Counts a host's references.
 *
 * @param model the host as it stands
 * @param preserved its page tables' contents, among others; a table that is missing holds nothing
 */
export function countReferences(model: HostModel, preserved: PreservedPages): References {
	const counts = new Uint32Array(model.frameOwners.length * 2);
	const domains = new Map<number, DomainSums>();
	for (const { domain } of model.domains) {
		domains.set(domain.domid, { references: 0, frames: 0, xenheapFrames: 0, extraFrames: 0 });
	}
	const add = (mfn: number | bigint | undefined, pages: number, types: number): void => {
		const index = big(mfn);
		if (index >= BigInt(model.frameOwners.length)) return;
		const at = Number(index) * 2;
		counts[at] = (counts[at] ?? 0) + pages;
		counts[at + 1] = (counts[at + 1] ?? 0) + types;
	};
	// Low halves alone, which hold all of an entry: a BigInt for each frame of a large host takes seconds.
	const { frameOwners } = model;
	const halves = new Uint32Array(frameOwners.buffer, frameOwners.byteOffset, 2 * frameOwners.length);
	for (let mfn = 0; mfn < frameOwners.length; mfn++) {
		const bits = halves[2 * mfn] as number;
		if (!(bits & FRAME.owned)) continue;
		const owner = bits & FRAME_OWNER_MASK;
		const isGuest = owner < DOMID.FIRST_RESERVED;
		const isXenheap = (bits & FRAME.xenheap) !== 0;
		counts[2 * mfn] = bits & FRAME.allocated ? 1 : 0;
		counts[2 * mfn + 1] = isXenheap && isGuest ? 1 : 0;
		const sums = domains.get(owner);
		if (!sums) continue;
		if (isXenheap) sums.xenheapFrames++;
		else if (bits & FRAME.extra) sums.extraFrames++;
		else sums.frames++;
	}
	const point = (domid: number | bigint | undefined): void => {
		const sums = domains.get(Number(domid ?? DOMID.INVALID));
		if (sums) sums.references++;
	};
	const tables = tablesOf(model, halves);
	const kinds = new Map(model.domains.map(({ domain }) => [domain.domid, domain.kind]));
	const dead = new Set(model.domains.flatMap(({ domain }) => (domain.life === LIFE.dead ? [domain.domid] : [])));
	/** How a domain's own mappings of others' frames are counted. */
	const mapper = (domid: number): Mapper => {
		if (tables.has(domid)) return "by its L1 entries";
		return kinds.get(domid) === KIND.pv ? "unseen" : "by its P2M";
	};
	for (const domain of model.domains) {
		const sums = domains.get(domain.domain.domid) as DomainSums;
		sums.references += (domain.domain.life ?? LIFE.alive) === LIFE.alive ? 1 : 0;
		sums.references += (sums.frames + sums.extraFrames > 0 ? 1 : 0) + (sums.xenheapFrames > 0 ? 1 : 0);
		countGrants(model, domain, mapper, add);
		for (const map of domain.foreignMapList ?? []) add(map.mfn, 1, 0);
		for (const id of domain.vcpuIds) {
			const vcpu = domain.vcpu[id];
			if (Number(vcpu?.flags ?? 0) & VCPU_FLAG.exists) add(vcpu?.vcpuInfoMfn ?? NONE64, 1, 1);
		}
		for (const block of domain.controlBlocks ?? []) add(block.mfn, 1, 1);
		for (const array of domain.eventArrays ?? []) add(array.mfn, 1, 1);
		add(domain.domainState.pirqEoiMfn ?? NONE64, 1, 1);
		for (const page of domain.ioreqPages ?? []) {
			add(page.mfn, 1, 1);
			if (!(Number(page.flags ?? 0) & IOREQ_PAGE_FLAG.resource)) continue;
			const server = domain.ioreqServerList?.find(({ serverId }) => Number(serverId) === Number(page.serverId));
			// Of an emulator whose mapping stands in its tables, or is a foreign entry, that is what counts; a dead one has none.
			const emulator = Number(server?.emulator);
			if (!dead.has(emulator) && mapper(emulator) === "unseen") add(page.mfn, 1, 0);
		}
		for (const server of domain.ioreqServerList ?? []) point(server.emulator);
		point(domain.domainState.target);
	}
	const mapped = { counts, halves, kinds, types: model.frameTypes };
	for (const [domid, mfns] of tables) {
		const domain = model.domains.find(({ domain: one }) => one.domid === domid) as DomainModel;
		for (const mfn of mfns) countTable(mapped, domid, mfn, preserved.get(mfn), pv32Start(domain));
		countVcpus(domain, add);
	}
	for (const handler of model.virqHandlers ?? []) point(handler.domid);
	return { frames: counts, domains };
}

type Add = (mfn: number | bigint | undefined, pages: number, types: number) => void;
type Mapper = "by its L1 entries" | "by its P2M" | "unseen";

/**
 * A dead PV domain's frames carry a writable-type reference per writable mapping, a dead PVH domain's none. That is of
 * mappings by the host's page tables; a device's mapping takes the type of whosever frame.
 */
function countGrants(model: HostModel, domain: DomainModel, mapper: (domid: number) => Mapper, add: Add): void {
	for (const grant of domain.grantActive ?? []) {
		if (!grant) continue;
		const owner = Number(model.frameOwners[Number(grant.mfn ?? 0)] ?? 0n) & FRAME_OWNER_MASK;
		if (owner === DOMID.IO) continue;
		const [hostWrite, hostRead, deviceWrite, deviceRead] = [
			grant.hostWrite,
			grant.hostRead,
			grant.deviceWrite,
			grant.deviceRead,
		].map((pins) => Number(pins ?? 0)) as [number, number, number, number];
		add(grant.mfn, deviceWrite + deviceRead, deviceWrite);
		const grantee = Number(grant.grantee ?? 0);
		if (mapper(grantee) === "by its L1 entries") continue;
		const isTyped = domain.domain.kind === KIND.pv || grantee === domain.domain.domid;
		add(grant.mfn, hostWrite + hostRead, isTyped ? hostWrite : 0);
	}
}

// --- page tables ---

const ENTRIES = PAGE_BYTES / 8;
const DESCRIPTORS_PER_FRAME = PAGE_BYTES / 8;
/** Slots of an L4 table that are Xen's. */
const XEN_SLOTS = { first: 256, behind: 272 } as const;
const PRESENT = 1;
const WRITABLE = 2;
const PFN_LOW = 2 ** 20;
const PFN_HIGH_MASK = 0xf_ffff;

/**
 * Page tables of each PV domain that has any. Of one that has none nothing can be counted from them: a capture has no
 * tables of dom0.
 */
function tablesOf(model: HostModel, halves: Uint32Array): Map<number, number[]> {
	const tables = new Map<number, number[]>();
	for (const { domain } of model.domains) if (domain.kind === KIND.pv) tables.set(domain.domid, []);
	const { frameTypes } = model;
	for (let mfn = 0; mfn < frameTypes.length; mfn++) {
		const level = (frameTypes[mfn] as number) & 7;
		if (level === PAGE_TYPE.none || level > PAGE_TYPE.l4) continue;
		tables.get((halves[2 * mfn] as number) & FRAME_OWNER_MASK)?.push(mfn);
	}
	for (const [domid, mfns] of tables) if (mfns.length === 0) tables.delete(domid);
	return tables;
}

interface Mapped {
	counts: Uint32Array;
	halves: Uint32Array;
	kinds: ReadonlyMap<number, number>;
	types: Uint8Array;
}

/** Of a 32-bit PV guest, where Xen's part of its 4 GiB begins. */
export function pv32Start({ domain, pv32 }: DomainModel): number | undefined {
	return Number(domain.guestWidth) === 4 ? Number(pv32?.xenStart ?? 2 ** 32) : undefined;
}

/** Slots of a table that are Xen's own, if any. `xenStart` is a 32-bit guest's. */
export function xenSlots(type: number, xenStart: number | undefined): { first: number; behind: number } {
	if ((type & 7) === PAGE_TYPE.l4) return XEN_SLOTS;
	const isShared = (type & PAGE_TYPE_FLAG.paeXenL2) !== 0 && xenStart !== undefined;
	return { first: isShared ? firstXenSlot(xenStart) : ENTRIES, behind: ENTRIES };
}

/** One table of a domain: its pin, and what its entries hold. `xenStart` is a 32-bit guest's. */
function countTable(
	host: Mapped,
	domid: number,
	table: number,
	page: Uint8Array | undefined,
	xenStart: number | undefined,
): void {
	const { counts, halves, kinds, types } = host;
	const hold = (mfn: number, isTyped: boolean): void => {
		counts[2 * mfn] = (counts[2 * mfn] as number) + 1;
		if (isTyped) counts[2 * mfn + 1] = (counts[2 * mfn + 1] as number) + 1;
	};
	const type = types[table] as number;
	if (type & PAGE_TYPE_FLAG.pinned) hold(table, true);
	if (!page) return;
	const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
	const level = type & 7;
	const entries = level === PAGE_TYPE.l3 && xenStart !== undefined ? PAE_L3_ENTRIES : ENTRIES;
	const { first, behind } = xenSlots(type, xenStart);
	for (let slot = 0; slot < entries; slot++) {
		if (slot >= first && slot < behind) continue;
		const low = view.getUint32(8 * slot, true);
		if (!(low & PRESENT)) continue;
		const mfn = (view.getUint32(8 * slot + 4, true) & PFN_HIGH_MASK) * PFN_LOW + (low >>> 12);
		if (mfn >= types.length) continue;
		if (level !== PAGE_TYPE.l1) {
			if (mfn !== table) hold(mfn, true);
			continue;
		}
		const bits = halves[2 * mfn] as number;
		const owner = bits & FRAME_OWNER_MASK;
		if (!(bits & FRAME.owned) || owner === DOMID.IO) continue;
		// Frames of other PVH and HVM guests have no types that a mapping holds.
		const isTracked = owner === domid || (kinds.get(owner) ?? KIND.pv) === KIND.pv;
		hold(mfn, isTracked && (low & WRITABLE) !== 0);
	}
}

/** Page tables and descriptor frames that a domain's vCPUs run on, or would if they were brought up again. */
function countVcpus(domain: DomainModel, add: Add): void {
	domain.pvVcpu?.forEach((registers, id) => {
		if (!registers || !(Number(domain.vcpu[id]?.flags ?? 0) & VCPU_FLAG.initialised)) return;
		for (const root of [registers.cr?.[3], registers.cr?.[1]]) {
			if (big(root) !== 0n) add(big(root) / BigInt(PAGE_BYTES), 1, 1);
		}
		countGdt(registers, add);
	});
	domain.pv32Vcpu?.forEach((registers, id) => {
		if (!registers || !(Number(domain.vcpu[id]?.flags ?? 0) & VCPU_FLAG.initialised)) return;
		if (big(registers.cr3) !== 0n) add(big(registers.cr3) / BigInt(PAGE_BYTES), 1, 1);
		countGdt(registers, add);
	});
}

interface Gdt {
	gdtEntries?: number | bigint | undefined;
	gdtMfn?: readonly (number | bigint)[] | undefined;
}

function countGdt({ gdtEntries, gdtMfn }: Gdt, add: Add): void {
	const frames = Math.ceil(Number(gdtEntries ?? 0) / DESCRIPTORS_PER_FRAME);
	for (let i = 0; i < frames; i++) add(gdtMfn?.[i] ?? 0, 1, 1);
}
