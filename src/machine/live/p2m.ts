/**
 * The P2M of PVH and HVM guests, as Xen's calls change it: memory populated and given up, superpages split where a part of
 * them changes and joined where a whole one is populated, holes that are populated on demand, MMIO, foreign frames, types
 * and access rights. Its page tables come out of the domain's HAP pool, one frame for each table that its entries need.
 *
 * A PV guest has no P2M here: what it calls a GFN is the MFN itself.
 */
import { CAP, DOMID, FRAME, KIND, P2M_ACCESS, P2M_BITS, P2M_ORDER, P2M_TYPE } from "../../format/enums.ts";
import type { Domain } from "./domain.ts";
import { need, refuse } from "./errno.ts";
import type { Machine } from "./machine.ts";

const MFN_MASK = 0xff_ffff_ffffn;
const PRESENT = 1n << BigInt(P2M_BITS.present);
/** A guest's physical addresses end here: 16 GiB are enough for any test, and a hostile number must not take our memory. */
const MOST_GFNS = 2 ** 22;
/** Frames of I/O memory that one call maps. */
const MOST_MMIO_FRAMES = 64;
const ORDERS: readonly number[] = Object.values(P2M_ORDER);

/** Kinds of entries whose frame is the domain's own memory. */
const RAM: ReadonlySet<number> = new Set([P2M_TYPE.ramRw, P2M_TYPE.ramRo, P2M_TYPE.ramLogdirty, P2M_TYPE.ioreqServer]);

export interface P2mEntry {
	mfn: number | undefined;
	type: number;
	access: number;
	order: number;
}

function encode({ mfn, type, access, order }: P2mEntry, offset: number): bigint {
	const bits =
		(BigInt(type) << BigInt(P2M_BITS.type)) |
		(BigInt(access) << BigInt(P2M_BITS.access)) |
		(BigInt(order) << BigInt(P2M_BITS.order));
	return mfn === undefined ? bits : bits | PRESENT | BigInt(mfn + offset);
}

function decode(entry: bigint): P2mEntry {
	const bits = (at: number, mask: number): number => Number(entry >> BigInt(at)) & mask;
	return {
		mfn: entry & PRESENT ? Number(entry & MFN_MASK) : undefined,
		type: bits(P2M_BITS.type, 15),
		access: bits(P2M_BITS.access, 15),
		order: bits(P2M_BITS.order, 63),
	};
}

/** A GFN's entry; undefined for a hole. */
export function lookUp({ tables }: Domain, gfn: number): P2mEntry | undefined {
	const entry = tables.p2m?.[gfn] ?? 0n;
	return entry === 0n ? undefined : decode(entry);
}

/**
 * The frame of memory behind a GFN, a PV guest's MFN. A hole that is populated on demand gets a frame.
 * @returns undefined where there is no memory of the domain's own
 */
export function frameOfGfn(machine: Machine, domain: Domain, gfn: number): number | undefined {
	if (!domain.isExternal) return machine.frames.ownerOf(gfn) === domain.domid ? gfn : undefined;
	const entry = lookUp(domain, gfn);
	if (entry?.type === P2M_TYPE.populateOnDemand) return populateOnDemand(machine, domain, gfn);
	return entry?.mfn !== undefined && RAM.has(entry.type) ? entry.mfn : undefined;
}

// --- entries ---

function tableOf(domain: Domain, gfns: number): BigUint64Array<ArrayBuffer> {
	const { tables } = domain;
	need(gfns <= MOST_GFNS, "EINVAL");
	if (tables.p2m === undefined || tables.p2m.length < gfns) {
		const grown = new BigUint64Array(gfns);
		grown.set(tables.p2m ?? []);
		tables.p2m = grown;
	}
	return tables.p2m;
}

type Write = (gfn: number, entry: bigint) => void;

/** Entries that a change of part of a superpage leaves behind: 1 GiB pages fall into 2 MiB ones, those into 4 KiB ones. */
function split(p2m: BigUint64Array, gfn: number, order: number, write: Write): void {
	const entry = p2m[gfn] ?? 0n;
	if (entry === 0n) return;
	const found = decode(entry);
	if (found.order <= order) return;
	const smaller = found.order === P2M_ORDER["1G"] ? P2M_ORDER["2M"] : P2M_ORDER["4K"];
	const first = gfn - (gfn % 2 ** found.order);
	for (let i = 0; i < 2 ** found.order; i++) {
		const old = decode(p2m[first + i] as bigint);
		write(first + i, encode({ ...old, order: smaller }, 0));
	}
	split(p2m, gfn, order, write);
}

/** Sets 2^order entries, or clears them; what they were is the caller's to have dropped. ENOMEM changes nothing. */
export function setEntry(machine: Machine, domain: Domain, gfn: number, entry: P2mEntry | undefined, order = 0): void {
	const count = 2 ** order;
	const p2m = tableOf(domain, gfn + count);
	const { p2mTables } = domain;
	const before: [gfn: number, entry: bigint][] = [];
	const write: Write = (at, value) => {
		const old = p2m[at] as bigint;
		before.push([at, old]);
		p2m[at] = value;
		p2mTables.change(at, old, value);
	};
	split(p2m, gfn, order, write);
	for (let i = 0; i < count; i++) write(gfn + i, entry === undefined ? 0n : encode(entry, i));
	if (keepTables(machine, domain)) return;
	for (const [at, old] of [...before].reverse()) write(at, old);
	keepTables(machine, domain);
	refuse("ENOMEM");
}

/** Takes tables from the machine or gives them back, last taken first; false if the HAP pool or the machine has no more. */
function keepTables(machine: Machine, domain: Domain): boolean {
	const { tables } = domain;
	let have = tables.keptRanges.reduce((sum, { frameCount }) => sum + Number(frameCount), 0);
	const { needed } = domain.p2mTables;
	if (needed > have && BigInt(needed) > tables.domain.hapPoolFrames) return false;
	for (; have < needed; have++) {
		const mfn = machine.frames.findFree();
		if (mfn === undefined) return false;
		machine.frames.setReserved(mfn, true);
		const last = tables.keptRanges.at(-1);
		if (last !== undefined && Number(last.firstMfn + last.frameCount) === mfn) last.frameCount++;
		else tables.keptRanges.push({ firstMfn: BigInt(mfn), frameCount: 1n });
	}
	for (; have > needed; have--) {
		const last = tables.keptRanges.at(-1) as { firstMfn: bigint; frameCount: bigint };
		last.frameCount--;
		machine.frames.setReserved(Number(last.firstMfn + last.frameCount), false);
		if (last.frameCount === 0n) tables.keptRanges.pop();
	}
	return true;
}

/** Gives a P2M its root. */
export function makeRoot(
	machine: Machine,
	domain: Domain,
	root: { purpose: number; format: number; levels: number },
): void {
	need(keepTables(machine, domain), "ENOMEM");
	const rootMfn = domain.tables.keptRanges[0]?.firstMfn as bigint;
	domain.tables.keptRoots = [{ rootMfn, ...root }];
	domain.tables.keptFrames = {};
}

/** A domain dies: its P2M is torn down, foreign entries first. */
export function dropP2m(machine: Machine, domain: Domain): void {
	const { tables } = domain;
	for (const { mfn } of tables.foreignMapList) machine.frames.put(Number(mfn));
	tables.foreignMapList = [];
	tables.p2m = undefined;
	domain.forgetP2m();
	for (const { firstMfn, frameCount } of tables.keptRanges) {
		for (let i = 0; i < Number(frameCount); i++) machine.frames.setReserved(Number(firstMfn) + i, false);
	}
	tables.keptRanges = [];
	tables.keptRoots = [];
	tables.keptFrames = undefined;
}

// --- memory ---

function needRoom({ tables, frames }: Domain, count: number): void {
	need(BigInt(frames + count) <= tables.domain.maxPages, "ENOMEM");
}

/**
 * XENMEM_populate_physmap of one extent: of holes, also of those that are populated on demand. Whoever wants to join 512
 * single frames into one superpage gives them up first. Stricter than Xen, which lets go of what was mapped there.
 * @returns the first MFN
 */
export function populate(machine: Machine, domid: number, gfn: number, order: number): number {
	const domain = machine.living(domid);
	need(ORDERS.includes(order), "EINVAL");
	need(gfn % 2 ** order === 0 && gfn >= 0 && gfn + 2 ** order <= MOST_GFNS, "EINVAL");
	needRoom(domain, 2 ** order);
	if (domain.isExternal) {
		for (let i = 0; i < 2 ** order; i++) {
			const entry = lookUp(domain, gfn + i);
			need(entry === undefined || entry.type === P2M_TYPE.populateOnDemand, "EINVAL");
		}
	}
	const first = machine.allocate(domain, 0, order);
	if (!domain.isExternal) return first;
	try {
		setEntry(machine, domain, gfn, ramAt(domain, first, order), order);
	} catch (error) {
		for (let i = 0; i < 2 ** order; i++) machine.frames.deallocate(first + i);
		throw error;
	}
	return first;
}

const ramAt = ({ tables }: Domain, mfn: number, order: number): P2mEntry => ({
	mfn,
	type: P2M_TYPE.ramRw,
	access: tables.p2mDefaultAccess,
	order,
});

/** Populates with XENMEMF_populate_on_demand: holes that get a frame when they are touched. */
export function markPopulateOnDemand(machine: Machine, domid: number, gfn: number, order: number): number {
	const domain = machine.external(domid);
	need(order === P2M_ORDER["4K"] || order === P2M_ORDER["2M"], "EINVAL");
	need(gfn >= 0 && gfn % 2 ** order === 0 && gfn + 2 ** order <= MOST_GFNS, "EINVAL");
	for (let i = 0; i < 2 ** order; i++) need(lookUp(domain, gfn + i) === undefined, "EBUSY");
	const access = domain.tables.p2mDefaultAccess;
	setEntry(machine, domain, gfn, { mfn: undefined, type: P2M_TYPE.populateOnDemand, access, order }, order);
	return 0;
}

/** A guest touches a hole: it gets a frame of its own, and the superpage around it, if it was one, is split. */
function populateOnDemand(machine: Machine, domain: Domain, gfn: number): number {
	needRoom(domain, 1);
	const mfn = machine.allocate(domain);
	try {
		setEntry(machine, domain, gfn, ramAt(domain, mfn, 0));
	} catch (error) {
		machine.frames.deallocate(mfn);
		throw error;
	}
	return mfn;
}

/** A guest touches a GFN. @returns the MFN; EFAULT where there is no memory */
export function touch(machine: Machine, domid: number, gfn: number): number {
	const mfn = frameOfGfn(machine, machine.living(domid), gfn);
	need(mfn !== undefined, "EFAULT");
	return mfn;
}

/** Removes what one GFN maps, as its type asks. */
function removeGfn(machine: Machine, domain: Domain, gfn: number): void {
	const entry = lookUp(domain, gfn);
	need(entry !== undefined, "EINVAL");
	const { type, mfn } = entry;
	if (type === P2M_TYPE.grantMapRw || type === P2M_TYPE.grantMapRo) refuse("EINVAL");
	setEntry(machine, domain, gfn, undefined);
	if (mfn === undefined || type === P2M_TYPE.mmioDirect) return;
	if (type === P2M_TYPE.foreign) {
		domain.tables.foreignMapList = domain.tables.foreignMapList.filter((map) => Number(map.gfn) !== gfn);
		machine.frames.put(mfn);
	} else machine.frames.deallocate(mfn);
}

/**
 * XENMEM_decrease_reservation of one extent: each frame loses the reference of being allocated, and is free once nobody
 * maps it any more.
 * @returns frames that were given up
 */
export function decreaseReservation(machine: Machine, domid: number, gfn: number, order: number): number {
	const domain = machine.living(domid);
	const { frames } = machine;
	need(ORDERS.includes(order) && gfn >= 0 && gfn % 2 ** order === 0, "EINVAL");
	for (let i = 0; i < 2 ** order; i++) {
		const entry = domain.isExternal ? lookUp(domain, gfn + i) : undefined;
		if (domain.isExternal) {
			const mayGo = entry !== undefined && (RAM.has(entry.type) || entry.type === P2M_TYPE.populateOnDemand);
			if (!mayGo) return i === 0 ? refuse("EINVAL") : i;
			// Pages that Xen itself has mapped stay (vcpu_info, event pages): they keep their references.
			removeGfn(machine, domain, gfn + i);
			continue;
		}
		const mfn = gfn + i;
		const isOwn = frames.ownerOf(mfn) === domid && !frames.has(mfn, FRAME.xenheap);
		if (!isOwn || !frames.deallocate(mfn)) return i === 0 ? refuse("EINVAL") : i;
	}
	return 2 ** order;
}

/** XEN_DOMCTL_memory_mapping: machine memory of devices, one to one with the frames named. */
export function mapMmio(
	machine: Machine,
	domid: number,
	gfn: number,
	mfn: number,
	count: number,
	add: boolean,
): number {
	const domain = machine.external(domid);
	const before = domain.tables.p2m?.slice();
	const allowed = domain.tables.capRanges.some(
		({ kind, first, last }) => kind === CAP.ioMemory && BigInt(mfn) >= first && BigInt(mfn + count - 1) <= last,
	);
	need(count > 0 && gfn >= 0 && gfn + count <= MOST_GFNS && mfn >= 0, "EINVAL");
	need(count <= MOST_MMIO_FRAMES, "E2BIG");
	need(allowed, "EPERM");
	for (let i = 0; i < count; i++) {
		const entry = lookUp(domain, gfn + i);
		need(add ? entry === undefined : entry?.type === P2M_TYPE.mmioDirect && entry.mfn === mfn + i, "EINVAL");
		if (add) need(!machine.frames.exists(mfn + i) || machine.frames.ownerOf(mfn + i) === DOMID.IO, "EINVAL");
	}
	let i = 0;
	try {
		for (; i < count; i++) {
			const entry = { mfn: mfn + i, type: P2M_TYPE.mmioDirect, access: P2M_ACCESS.rw, order: 0 };
			setEntry(machine, domain, gfn + i, add ? entry : undefined);
		}
	} catch (error) {
		while (i-- > 0) setEntry(machine, domain, gfn + i, undefined);
		domain.tables.p2m = before;
		throw error;
	}
	return 0;
}

/** XENMEM_add_to_physmap of another domain's frame. @param foreign the other domain @param foreignGfn its GFN, or MFN if it is PV */
export function mapForeign(machine: Machine, domid: number, gfn: number, foreign: number, foreignGfn: number): number {
	const domain = machine.external(domid);
	need(gfn >= 0 && gfn < MOST_GFNS, "EINVAL");
	need(foreign !== domid, "EINVAL");
	const other = machine.living(foreign);
	need(domain.isPrivileged || domain.tables.domainState.target === foreign, "EPERM");
	const mfn = frameOfGfn(machine, other, foreignGfn);
	need(mfn !== undefined && !machine.frames.has(mfn, FRAME.xenheap), "EINVAL");
	need(lookUp(domain, gfn) === undefined, "EINVAL");
	addForeign(machine, domain, gfn, mfn, foreign);
	return 0;
}

/** A foreign entry: one page reference, no type. */
export function addForeign(machine: Machine, domain: Domain, gfn: number, mfn: number, owner: number): void {
	machine.frames.get(mfn, owner);
	try {
		setEntry(machine, domain, gfn, { mfn, type: P2M_TYPE.foreign, access: P2M_ACCESS.rw, order: 0 });
	} catch (error) {
		machine.frames.put(mfn);
		throw error;
	}
	domain.tables.foreignMapList.push({ gfn: BigInt(gfn), mfn: BigInt(mfn), owner });
	domain.tables.foreignMapList.sort((a, b) => Number(a.gfn - b.gfn));
}

/**
 * XENMEM_remove_from_physmap: foreign entries and memory alike. A frame of memory stays the domain's, allocated, though
 * at no GFN; a foreign one loses a reference. ENOENT where there is neither.
 */
export function removeFromPhysmap(machine: Machine, domid: number, gfn: number): number {
	const domain = machine.external(domid);
	const entry = lookUp(domain, gfn);
	need(entry !== undefined, "ENOENT");
	if (RAM.has(entry.type)) {
		setEntry(machine, domain, gfn, undefined);
		return 0;
	}
	// A grant's mapping goes with its handle.
	need(entry.type !== P2M_TYPE.grantMapRw && entry.type !== P2M_TYPE.grantMapRo, "EINVAL");
	need(entry.type === P2M_TYPE.foreign, "ENOENT");
	removeGfn(machine, domain, gfn);
	return 0;
}

const MEMORY_TYPES = { rw: P2M_TYPE.ramRw, ro: P2M_TYPE.ramRo, ioreq_server: P2M_TYPE.ioreqServer } as const;
export const memoryTypes = Object.keys(MEMORY_TYPES);

/** XEN_DMOP_set_mem_type of one GFN: read-write, read-only, or writes claimed by an I/O server. */
export function setMemoryType(machine: Machine, domid: number, gfn: number, name: string): number {
	const domain = machine.external(domid);
	need(domain.kind === KIND.hvm, "EINVAL");
	const type = MEMORY_TYPES[name as keyof typeof MEMORY_TYPES];
	const entry = lookUp(domain, gfn);
	need(type !== undefined && entry?.mfn !== undefined, "EINVAL");
	const isRw = entry.type === P2M_TYPE.ramRw;
	// Between read-only and claimed there is no way but through read-write.
	need(RAM.has(entry.type) && (isRw || type === P2M_TYPE.ramRw || type === entry.type), "EINVAL");
	const claims = domain.tables.ioreqServerList.some(({ flags }) => flags & 2);
	need(type !== P2M_TYPE.ioreqServer || claims, "EINVAL");
	setEntry(machine, domain, gfn, { ...entry, type, order: 0 });
	return 0;
}

/** What was marked for an I/O server that claims writes no more is plain memory again. */
export function unmarkMemory(machine: Machine, domain: Domain): void {
	domain.tables.p2m?.forEach((_, gfn) => {
		const entry = lookUp(domain, gfn);
		if (entry?.type === P2M_TYPE.ioreqServer) setEntry(machine, domain, gfn, { ...entry, type: P2M_TYPE.ramRw });
	});
}

/** XENMEM_access_op_set_access of one GFN. */
export function setAccess(machine: Machine, domid: number, gfn: number, access: number): number {
	const domain = machine.external(domid);
	need(access >= P2M_ACCESS.n && access <= P2M_ACCESS.rPw, "EINVAL");
	const entry = lookUp(domain, gfn);
	need(entry !== undefined, "ESRCH");
	need(entry.mfn !== undefined && RAM.has(entry.type), "EINVAL");
	setEntry(machine, domain, gfn, { ...entry, access, order: 0 });
	return 0;
}

/** A frame that Xen maps for itself, writable: vcpu_info, event pages. EINVAL for what cannot be. */
export function getGuestPage(machine: Machine, domain: Domain, gfn: number): number {
	const mfn = frameOfGfn(machine, domain, gfn);
	need(mfn !== undefined && !machine.frames.has(mfn, FRAME.xenheap), "EINVAL");
	machine.frames.getWritable(mfn, domain.domid);
	return mfn;
}
