/**
 * What the receiving host looks like with the domain on it: the target's model with the bundle's domain put in, so that the
 * core's own rules can judge the result before anything moves.
 *
 *     frames         free ones of the target, 2 MiB pages stay 2 MiB pages where aligned runs are free
 *     P2M, tables    the same GFNs and PFNs, the new MFNs; slots of Xen's own are empty, for the target's Xen to fill
 *     32-bit guests  frames that their part of the M2P reaches, L3 tables below 4 GiB
 *     ports          the same numbers; interdomain ends become unbound, for the other side to bind again
 *     grants         the same table and references, of a PV guest with the new MFNs; nobody has them mapped yet, and no
 *                    entry says so
 *     xenstore       the same nodes; transactions that were open cannot be committed
 *     time           deadlines as far ahead as they were
 *     scheduling     weight, cap and reservations where the pool has that scheduler; virtual nodes on no node of the host
 *     emulators      their I/O request servers, pages and ports are made anew by themselves
 *
 * Unhappy paths: a record that names a frame that is not the domain's is told to `problem`; too little memory ends it.
 */
import {
	CONSUMER,
	CREATE,
	DOMID,
	EVTCHN_STATE,
	FEATURE,
	NONE32,
	NONE64,
	P2M_BITS,
	PAGE_TYPE,
} from "../format/enums.ts";
import { hex } from "../formats/common/findings.ts";
import { GDT_ENTRIES_PER_FRAME } from "../formats/libxc/guestContext.ts";
import { freeFrames as freeRuns } from "../handover/frames.ts";
import { mergeRuns } from "../handover/regions.ts";
import type { Host } from "../host.ts";
import {
	GRANT_ENTRIES_PER_FRAME,
	GTF,
	GTF_PERMIT_ACCESS,
	readGrantPart,
	readGrantStatus,
	readGrantV1,
	readGrantV2,
	STATUS_WORDS_PER_FRAME,
	writeGrantPart,
	writeGrantStatusWord,
	writeGrantV1,
	writeGrantV2,
} from "../machine/guestPages.ts";
import type { DomainModel, HostModel, PreservedPages, PvLayout } from "../machine/model.ts";
import { PAGE_BYTES } from "../machine/preserved.ts";
import { pv32Start, xenSlots } from "../machine/references.ts";
import { resourcePages } from "./movable.ts";
import { allCpus, framesOf, isNarrow, isNone, isPv, keptMfns, type SoloDomain } from "./solo.ts";
import { parentOf, type Store, type StoreNode } from "./store.ts";

const SUPERPAGE = 512;
/** Octets of a page table's entry. */
const ENTRY_BYTES = 8;
const PRESENT = 1n << BigInt(P2M_BITS.present);
const MFN_MASK = (1n << BigInt(P2M_BITS.type)) - 1n;
const ORDER_MASK = 63n << BigInt(P2M_BITS.order);
const ORDER_2M = 9n << BigInt(P2M_BITS.order);
const TABLE_PRESENT = 1;
const TWO_POW_20 = 2 ** 20;
/** Where a 32-bit guest's window on the M2P ends (MACH2PHYS_VIRT_END), octets of an entry there. */
const M2P_END_32 = 0xf680_0000;
const M2P_ENTRY_BYTES_32 = 4;
/** VMASST_TYPE_pae_extended_cr3: L3 tables may lie above 4 GiB. */
const PAE_EXTENDED_CR3 = 1 << 3;
const PFN_HIGH_MASK = 0xfffff;
const FRAME_SHIFT = 12n;
const LOW_BITS = 0xfffn;

/** Something that the domain's records say and that cannot be carried over. */
export type Problem = (field: string, expected: string, got: string) => void;

interface Run {
	first: number;
	count: number;
}

/** Frames of the target that nobody has, handed out: aligned blocks, then what is left, in ascending order. */
class FreeFrames {
	#runs: Run[];
	/** No run before it has an aligned block. */
	#blocksFrom = 0;
	#singlesFrom = 0;

	constructor({ frameOwners, regionList, m2pRanges, iommuRanges, domains }: HostModel) {
		const kept = [...(iommuRanges ?? []), ...domains.flatMap(({ keptRanges }) => keptRanges ?? [])];
		this.#runs = freeRuns(
			frameOwners,
			regionList as Parameters<typeof freeRuns>[1],
			kept as Parameters<typeof freeRuns>[2],
			m2pRanges as Parameters<typeof freeRuns>[3],
		).map(({ firstMfn, frameCount }) => ({ first: firstMfn, count: frameCount }));
	}

	countBelow(limit: number): number {
		return this.#runs.reduce((sum, { first, count }) => sum + Math.max(0, Math.min(count, limit - first)), 0);
	}

	/** 512 aligned frames; undefined if there are none. */
	block(): number | undefined {
		for (; this.#blocksFrom < this.#runs.length; this.#blocksFrom++) {
			const run = this.#runs[this.#blocksFrom] as Run;
			const first = Math.ceil(run.first / SUPERPAGE) * SUPERPAGE;
			const lead = first - run.first;
			if (run.count < lead + SUPERPAGE) continue;
			const rest = { first: first + SUPERPAGE, count: run.count - lead - SUPERPAGE };
			if (lead === 0) this.#runs[this.#blocksFrom] = rest;
			else this.#runs.splice(this.#blocksFrom++, 1, { first: run.first, count: lead }, rest);
			return first;
		}
		return undefined;
	}

	/** The lowest one; undefined if that is not below `limit`. */
	frame(limit: number): number | undefined {
		for (; this.#singlesFrom < this.#runs.length; this.#singlesFrom++) {
			const run = this.#runs[this.#singlesFrom] as Run;
			if (run.count === 0) continue;
			if (run.first >= limit) return undefined;
			run.count--;
			return run.first++;
		}
		return undefined;
	}
}

/**
 * The MFN that all of a domain's frames must be below. A 32-bit guest finds its PFNs in the M2P, of which it sees what lies
 * between the beginning of Xen's part and a fixed end: an entry of 4 octets a frame.
 */
export function frameLimit(domain: DomainModel): number {
	if (!isNarrow(domain)) return Number.POSITIVE_INFINITY;
	return Math.max(0, (M2P_END_32 - Number(domain.pv32?.xenStart ?? M2P_END_32)) / M2P_ENTRY_BYTES_32);
}

/** So many frames, as a domain can use them. */
export function freeFrames(count: number, domain: DomainModel): string {
	return `${count} free frames${isNarrow(domain) ? ` below ${hex(frameLimit(domain))}` : ""}`;
}

/** How many frames a target has to give to a domain. */
export const freeFrameCount = (model: HostModel, domain: DomainModel): number =>
	new FreeFrames(model).countBelow(frameLimit(domain));

/** How many frames a domain takes: its own, less what its device model makes anew, and its page tables' in Xen. */
export function neededFrames({ model, domain }: SoloDomain): number {
	const own = framesOf(model.frameOwners, domain.domain.domid).length - resourcePages(domain).length;
	return own + keptMfns(domain).length;
}

/** MFN where it comes from -> MFN where it is. */
type Placed = Map<number, number>;

/** 2 MiB pages first, so that they find aligned frames. */
function place(solo: SoloDomain, free: FreeFrames): { placed: Placed; blocks: Set<number> } | undefined {
	const { domain, model } = solo;
	const placed: Placed = new Map();
	/** First GFNs of 2 MiB pages that stay what they are. */
	const blocks = new Set<number>();
	const own = new Set(framesOf(model.frameOwners, domain.domain.domid));
	for (const { mfn } of resourcePages(domain)) own.delete(Number(mfn));
	const p2m = domain.p2m ?? new BigUint64Array(0);
	for (let gfn = 0; gfn + SUPERPAGE <= p2m.length; gfn += SUPERPAGE) {
		const entry = p2m[gfn] as bigint;
		if (!(entry & PRESENT) || (entry & ORDER_MASK) === 0n) continue;
		const base = Number(entry & MFN_MASK);
		const isWhole = Array.from({ length: SUPERPAGE }, (_, i) => i).every(
			(i) => p2m[gfn + i] === entry + BigInt(i) && own.has(base + i) && !placed.has(base + i),
		);
		const first = isWhole ? free.block() : undefined;
		if (first === undefined) continue;
		for (let i = 0; i < SUPERPAGE; i++) placed.set(base + i, first + i);
		blocks.add(gfn);
	}
	const limit = frameLimit(domain);
	const isLow = isNarrow(domain) && (Number(domain.domainState.vmAssist ?? 0) & PAE_EXTENDED_CR3) === 0;
	const low = isLow ? [...own].filter((mfn) => ((model.frameTypes[mfn] ?? 0) & 7) === PAGE_TYPE.l3) : [];
	// Frames come by ascending number: what has to be low comes first.
	for (const [i, mfn] of [...low, ...own, ...keptMfns(domain)].entries()) {
		if (placed.has(mfn)) continue;
		const found = free.frame(i < low.length ? Math.min(limit, TWO_POW_20) : limit);
		if (found === undefined) return undefined;
		placed.set(mfn, found);
	}
	return { placed, blocks };
}

class Translation {
	readonly #placed: Placed;
	readonly #problem: Problem;

	constructor(placed: Placed, problem: Problem) {
		this.#placed = placed;
		this.#problem = problem;
	}

	find(mfn: number): number | undefined {
		return this.#placed.get(mfn);
	}

	/** All ones stay all ones. */
	mfn(mfn: number | bigint | undefined, field: string): bigint {
		if (isNone(mfn)) return NONE64;
		const found = this.#placed.get(Number(mfn));
		if (found !== undefined) return BigInt(found);
		this.#problem(field, "a frame of the domain", `MFN 0x${(mfn as bigint | number).toString(16)}`);
		return NONE64;
	}

	/** A control register: zero, or a page table's address with flags below. */
	root(value: bigint, field: string): bigint {
		if (value >> FRAME_SHIFT === 0n) return value;
		return (this.mfn(value >> FRAME_SHIFT, field) << FRAME_SHIFT) | (value & LOW_BITS);
	}
}

/** GFNs stay; a 2 MiB page whose frames are scattered now becomes 4 KiB entries. */
function placeP2m(p2m: BigUint64Array, blocks: ReadonlySet<number>, to: Translation): BigUint64Array {
	return p2m.map((entry, gfn) => {
		if (!(entry & PRESENT)) return entry;
		const mfn = to.find(Number(entry & MFN_MASK));
		// What a device model or the hardware had there is mapped anew.
		if (mfn === undefined) return 0n;
		const isBlock = blocks.has(gfn - (gfn % SUPERPAGE));
		return (entry & ~MFN_MASK & ~ORDER_MASK) | (isBlock ? ORDER_2M : 0n) | BigInt(mfn);
	});
}

/**
 * A page table's content: entries that lead out of the domain become not present, as libxc has them; slots of Xen's own are
 * empty, which the target's Xen fills.
 */
function placeTable(page: Uint8Array, to: Translation, xen: ReturnType<typeof xenSlots>): Uint8Array {
	const table = page.slice();
	const view = new DataView(table.buffer);
	for (let at = 0; at < PAGE_BYTES; at += ENTRY_BYTES) {
		const slot = at / ENTRY_BYTES;
		if (slot >= xen.first && slot < xen.behind) {
			view.setBigUint64(at, 0n, true);
			continue;
		}
		const low = view.getUint32(at, true);
		if ((low & TABLE_PRESENT) === 0) continue;
		const high = view.getUint32(at + 4, true);
		const mfn = to.find((high & PFN_HIGH_MASK) * TWO_POW_20 + (low >>> 12));
		if (mfn === undefined) {
			view.setBigUint64(at, 0n, true);
			continue;
		}
		view.setUint32(at, (((mfn % TWO_POW_20) << 12) | (low & 0xfff)) >>> 0, true);
		view.setUint32(at + 4, ((high & ~PFN_HIGH_MASK) | Math.floor(mfn / TWO_POW_20)) >>> 0, true);
	}
	return table;
}

/** Ports keep their numbers; the other ends are gone until they bind again. */
export function placePorts({ domain, ports }: DomainModel): NonNullable<DomainModel["ports"]> {
	return (ports ?? []).map((row) => {
		if (row === undefined || Number(row.consumer ?? 0) === CONSUMER.none) {
			const isBound = Number(row?.state) === EVTCHN_STATE.interdomain && Number(row?.remoteDomid) !== domain.domid;
			return isBound ? { ...row, state: EVTCHN_STATE.unbound, remotePort: 0 } : row;
		}
		return undefined;
	});
}

const shifted = (deadline: bigint | number | undefined, delta: bigint): bigint => {
	const value = BigInt(deadline ?? 0);
	if (value === 0n) return 0n;
	return value + delta > 0n ? value + delta : 1n;
};

/** The target's CPUs of an affinity; all of them if none is left. */
const onCpus = (affinity: readonly bigint[] | undefined, cpus: bigint): bigint[] =>
	(affinity ?? []).map((bits) => bits & cpus || cpus);

/** Runs of frames, ascending. */
function rangesOf(mfns: readonly number[]): { firstMfn: number; frameCount: number }[] {
	return mergeRuns([...mfns].sort((a, b) => a - b).map((firstMfn) => ({ firstMfn, frameCount: 1 })));
}

function placeDomain(
	{ domain }: SoloDomain,
	target: HostModel,
	placed: { to: Translation; blocks: ReadonlySet<number> },
	deltaNs: bigint,
): DomainModel {
	const { to, blocks } = placed;
	const cpus = allCpus(Number(target.host.cpuCount ?? 1));
	const pool = arrivalPool(target, domain);
	const { ioreqServerList: _s, ioreqPorts: _p, ioreqPages: _q, ioreqRanges: _r, p2m, ...others } = domain;
	const { scheduler, schedulerVcpus, ...rest } = others;
	const self = domain.domain.domid;
	return {
		...rest,
		domain: {
			...domain.domain,
			uniqueId: BigInt(target.host.nextUniqueId ?? 1),
			cpupoolId: Number(pool?.poolId ?? 0),
		},
		vnumaNodes: (domain.vnumaNodes ?? []).map(() => ({ physicalNode: NONE32 })),
		...(hasSameScheduler(pool, domain) ? { scheduler, schedulerVcpus } : {}),
		...(p2m ? { p2m: placeP2m(p2m, blocks, to) } : {}),
		keptRoots: (domain.keptRoots ?? []).map((row) => ({ ...row, rootMfn: to.mfn(row.rootMfn, "KeptRoots") })),
		keptRanges: rangesOf(
			keptMfns(domain)
				.map((mfn) => to.find(mfn))
				.filter((mfn) => mfn !== undefined),
		),
		grantFrames: (domain.grantFrames ?? []).map((row) => ({ ...row, mfn: to.mfn(row.mfn, "GrantFrames") })),
		statusFrames: (domain.statusFrames ?? []).map((row) => ({ ...row, mfn: to.mfn(row.mfn, "StatusFrames") })),
		grantActive: (domain.grantActive ?? []).map((row) =>
			row && Number(row.grantee) === self ? { ...row, mfn: to.mfn(row.mfn, "GrantActive") } : undefined,
		),
		domainState: {
			...domain.domainState,
			target: DOMID.INVALID,
			pirqEoiMfn: to.mfn(domain.domainState.pirqEoiMfn, "pirqEoiMfn"),
		},
		watchdogs: (domain.watchdogs ?? []).map((row) => ({ ...row, expiresNs: shifted(row.expiresNs, deltaNs) })),
		...(domain.sharedInfo
			? { sharedInfo: { ...domain.sharedInfo, mfn: to.mfn(domain.sharedInfo.mfn, "SharedInfo") } }
			: {}),
		controlBlocks: (domain.controlBlocks ?? []).map((row) => ({ ...row, mfn: to.mfn(row.mfn, "ControlBlocks") })),
		eventArrays: (domain.eventArrays ?? []).map((row) => ({ mfn: to.mfn(row.mfn, "EventArrays") })),
		// What a machine lets a domain touch is that machine's own.
		capRanges: [],
		ports: placePorts(domain),
		vcpu: domain.vcpu.map(
			(row) =>
				row && {
					...row,
					vcpuInfoMfn: to.mfn(row.vcpuInfoMfn, "vcpuInfoMfn"),
					runstateEntryNs: shifted(row.runstateEntryNs, deltaNs),
					periodicLastNs: shifted(row.periodicLastNs, deltaNs),
					singleshotNs: shifted(row.singleshotNs, deltaNs),
					pollDeadlineNs: shifted(row.pollDeadlineNs, deltaNs),
				},
		),
		hardAffinity: onCpus(domain.hardAffinity, cpus),
		softAffinity: onCpus(domain.softAffinity, cpus),
		savedAffinity: onCpus(domain.savedAffinity ?? domain.hardAffinity, cpus),
		pvVcpu: (domain.pvVcpu ?? []).map(
			(row, id) =>
				row && {
					...row,
					...placeGdt(row, id, to),
					cr: (row.cr ?? []).map((value, i) =>
						i === 3 || i === 1 ? to.root(BigInt(value), `vCPU ${id}, cr${i}`) : BigInt(value),
					),
				},
		),
		pv32Vcpu: (domain.pv32Vcpu ?? []).map(
			(row, id) => row && { ...row, ...placeGdt(row, id, to), cr3: to.root(BigInt(row.cr3 ?? 0), `vCPU ${id}, cr3`) },
		),
	};
}

type Registers = NonNullable<NonNullable<DomainModel["pvVcpu"]>[number]>;

function placeGdt({ gdtEntries, gdtMfn }: Pick<Registers, "gdtEntries" | "gdtMfn">, id: number, to: Translation) {
	const count = Math.ceil(Number(gdtEntries ?? 0) / GDT_ENTRIES_PER_FRAME);
	return { gdtMfn: (gdtMfn ?? []).map((mfn, i) => (i < count ? to.mfn(mfn, `vCPU ${id}, GDT frame ${i}`) : 0n)) };
}

type Pool = HostModel["poolList"][number];

/** The target's pool that a domain comes into: its own, or pool 0 where there is none of that number. */
export function arrivalPool({ poolList }: HostModel, { domain }: DomainModel): Pool | undefined {
	const find = (id: number) => poolList.find(({ poolId }) => Number(poolId ?? 0) === id);
	return find(Number(domain.cpupoolId ?? 0)) ?? find(0);
}

/** Whether a pool's scheduler is that which a domain's figures are of; true for a domain without any. */
export const hasSameScheduler = (pool: Pool | undefined, { scheduler }: DomainModel): boolean =>
	scheduler === undefined || Number(scheduler.scheduler ?? 0) === Number(pool?.scheduler ?? 0);

/** What of a bundle is received. */
export interface Arriving {
	readonly solo: SoloDomain;
	/** Of a PV guest. */
	readonly layout: PvLayout | undefined;
	readonly store: Store | undefined;
	/** System time at the pause where the domain comes from. */
	readonly systemTimeNs: bigint;
}

/** Parents that nobody has are made as a daemon makes them: empty, with the permissions of the one above. */
function* madeParents(nodes: ReadonlyMap<string, StoreNode>, path: string): Generator<[string, StoreNode]> {
	const missing: string[] = [];
	let up = parentOf(path);
	for (; up !== "/" && !nodes.has(up); up = parentOf(up)) missing.push(up);
	const perms = nodes.get(up)?.perms ?? ["n0"];
	for (const made of missing.reverse()) yield [made, { value: new Uint8Array(0), perms }];
}

/** The target's nodes, then the domain's; its connection, watches and transactions, the latter to end with EAGAIN. */
function placeStore(target: Store | undefined, store: Store | undefined): Store | undefined {
	if (!target || !store) return target ?? store;
	const nodes = new Map(target.nodes);
	for (const [path, node] of store.nodes) {
		for (const [made, parent] of madeParents(nodes, path)) nodes.set(made, parent);
		nodes.set(path, node);
	}
	if (!target.daemon || !store.daemon) return { nodes, daemon: undefined };
	const { connections, watches, transactions, domains } = target.daemon;
	const arrived = store.daemon.transactions.map((row) => ({ ...row, endsWith: "EAGAIN" as const }));
	return {
		nodes,
		daemon: {
			connections: [...connections, ...store.daemon.connections],
			watches: [...watches, ...store.daemon.watches],
			transactions: [...transactions, ...arrived],
			domains: [...domains, ...store.daemon.domains],
		},
	};
}

const IN_USE = GTF.reading | GTF.writing;

/** Nobody has a grant mapped but the domain its own: no other entry says that it is in use. */
function releaseGrants(
	{ grantTable, statusFrames, grantFrames, grantActive }: DomainModel,
	pages: PreservedPages,
): void {
	const isV2 = Number(grantTable?.version ?? 1) === 2;
	const perFrame = isV2 ? STATUS_WORDS_PER_FRAME : GRANT_ENTRIES_PER_FRAME[1];
	for (const [frame, { mfn }] of ((isV2 ? statusFrames : grantFrames) ?? []).entries()) {
		const page = pages.get(Number(mfn));
		for (let i = 0; page && i < perFrame; i++) {
			if (grantActive?.[frame * perFrame + i]) continue;
			if (isV2) writeGrantStatusWord(page, i, readGrantStatus(page, i) & ~IN_USE);
			else {
				const entry = readGrantV1(page, i);
				if (entry.flags & IN_USE) writeGrantV1(page, i, { ...entry, flags: entry.flags & ~IN_USE });
			}
		}
	}
}

/** Frames in a PV guest's grants are machine frames; one that is not the guest's stays, and is refused to whoever maps it. */
function placeGrantedFrames({ grantTable, grantFrames }: DomainModel, pages: PreservedPages, to: Translation): void {
	const version = Number(grantTable?.version ?? 1) === 2 ? 2 : 1;
	for (const { mfn } of grantFrames ?? []) {
		const page = pages.get(Number(mfn));
		for (let i = 0; page && i < GRANT_ENTRIES_PER_FRAME[version]; i++) {
			const entry = (version === 2 ? readGrantV2 : readGrantV1)(page, i);
			const frame = (entry.flags & GTF.typeMask) === GTF_PERMIT_ACCESS ? to.find(entry.frame) : undefined;
			if (frame === undefined) continue;
			if (version === 1) writeGrantV1(page, i, { ...entry, frame });
			else if (entry.flags & GTF.subPage) writeGrantPart(page, i, { ...entry, ...readGrantPart(page, i), frame });
			else writeGrantV2(page, i, { ...entry, frame });
		}
	}
}

/**
 * The target with the domain on it. The target itself stays as it is.
 * @param problem hears of records that name frames of others
 * @returns undefined if the target has too few free frames
 */
export function receive(
	target: Host,
	{ solo, layout, store, systemTimeNs }: Arriving,
	problem: Problem = () => {},
): Host | undefined {
	const { model } = target;
	const found = place(solo, new FreeFrames(model));
	if (!found) return undefined;
	const to = new Translation(found.placed, problem);
	const frameOwners = model.frameOwners.slice();
	const frameTypes = model.frameTypes.slice();
	const preserved: PreservedPages = new Map(target.preserved);
	for (const [from, mfn] of found.placed) {
		const entry = solo.model.frameOwners[from] ?? 0n;
		frameOwners[mfn] = entry;
		const type = solo.model.frameTypes[from] ?? 0;
		frameTypes[mfn] = type;
		const page = solo.preserved.get(from);
		if (!page || entry === 0n) continue;
		const level = type & 7;
		const isTable = level >= PAGE_TYPE.l1 && level <= PAGE_TYPE.l4;
		preserved.set(mfn, isTable ? placeTable(page, to, xenSlots(type, pv32Start(solo.domain))) : page.slice());
	}
	const deltaNs = BigInt(model.host.systemTimeNs ?? 0) - systemTimeNs;
	const domain = placeDomain(solo, model, { to, blocks: found.blocks }, deltaNs);
	const hasXsave = domain.pvXsave?.some((area) => area !== undefined) ?? false;
	const needed =
		(Number(domain.domain.createFlags ?? 0) & CREATE.hap ? FEATURE.hap : 0) | (hasXsave ? FEATURE.xsave : 0);
	releaseGrants(domain, preserved);
	if (isPv(domain)) placeGrantedFrames(domain, preserved, to);
	const { domid } = domain.domain;
	const placedLayout = layout && { ...layout, mfns: layout.mfns.map((mfn) => to.find(mfn) ?? -1) };
	return {
		name: `${target.name} with domain ${domid}`,
		assumptions: target.assumptions,
		...(target.capabilities ? { capabilities: target.capabilities } : {}),
		pvLayouts: new Map([...(target.pvLayouts ?? []), ...(placedLayout ? [[domid, placedLayout] as const] : [])]),
		store: placeStore(target.store, store),
		model: {
			...model,
			host: {
				...model.host,
				nextUniqueId: BigInt(model.host.nextUniqueId ?? 1) + 1n,
				features: BigInt(model.host.features ?? 0) | BigInt(needed),
			},
			frameOwners,
			frameTypes,
			domains: [...model.domains, domain],
		},
		preserved,
	};
}
