/**
 * Operations at random that make sense more often than not: domains, ports, references and handles are mostly those that
 * are there, now and then any number. What comes out depends on the machine's state and on what is drawn alone.
 */
import {
	CONSUMER,
	DOMID,
	EVTCHN_STATE,
	FRAME,
	GRANT_MAP,
	IOREQ_RANGE,
	KIND,
	NONE32,
	PAGE_TYPE,
} from "../../format/enums.ts";
import { GRANT_ENTRIES_PER_FRAME, GTF_PERMIT_ACCESS } from "../guestPages.ts";
import type { Domain } from "./domain.ts";
import { sharedEntry } from "./grants.ts";
import type { Machine } from "./machine.ts";
import type { Operation } from "./operations.ts";
import { lookUp } from "./p2m.ts";
import { makeEntry } from "./pageTables.ts";

/** Draws whole numbers below a limit. */
export interface Draw {
	below(limit: number): number;
}

/** A chance of one in so many for a number that is none of those there. */
const STRAY = 12;
const ENTRIES = 512;
/** GFNs that proposals use: a few superpages. */
const GFNS = 4 * ENTRIES;
const MOST_DOMAINS = 6;
/** Grant references that proposals use. */
const FIRST_REFERENCE = 8;
const MOST_REFERENCES = 12;

type Proposal = (machine: Machine, draw: Draw) => Operation | undefined;

/** Of a 32-bit guest, an address or a register that it can have. */
const wordOf = ({ isNarrow }: Domain, value: bigint): string => hex(isNarrow ? BigInt.asUintN(32, value) : value);
const hex = (value: bigint): string => `0x${value.toString(16)}`;
const chance = (draw: Draw, of: number): boolean => draw.below(of) === 0;

function pick<T>(draw: Draw, list: readonly T[]): T | undefined {
	return list.length === 0 ? undefined : list[draw.below(list.length)];
}

const living = ({ domains }: Machine): Domain[] =>
	[...domains.values()].filter(({ isDead }) => !isDead).sort((a, b) => a.domid - b.domid);
const ofKind = (machine: Machine, ...kinds: number[]): Domain[] =>
	living(machine).filter(({ kind }) => kinds.includes(kind));
const anyDomain = (machine: Machine, draw: Draw): Domain | undefined => pick(draw, living(machine));

function framesOf({ frames }: Machine, domid: number, fits: (mfn: number) => boolean): number[] {
	const found: number[] = [];
	for (let mfn = 0; mfn < frames.count; mfn++) if (frames.ownerOf(mfn) === domid && fits(mfn)) found.push(mfn);
	return found;
}

/** Some frame of the domain's own memory. */
function anyFrame(machine: Machine, domain: Domain, draw: Draw): number {
	if (chance(draw, STRAY)) return draw.below(machine.frames.count);
	const isMemory = (mfn: number): boolean => !machine.frames.has(mfn, FRAME.xenheap | FRAME.extra);
	return pick(draw, framesOf(machine, domain.domid, isMemory)) ?? 0;
}

/** A frame that no table and no part of Xen uses: the guest's own to write to. */
function plainFrame(machine: Machine, domain: Domain, draw: Draw): number | undefined {
	const { frames } = machine;
	const isPlain = (mfn: number): boolean =>
		frames.typeOf(mfn) === PAGE_TYPE.none &&
		!frames.has(mfn, FRAME.xenheap | FRAME.extra) &&
		frames.has(mfn, FRAME.allocated);
	return pick(draw, framesOf(machine, domain.domid, isPlain));
}

/** A frame for Xen to share with a guest: vcpu_info, control block, event array. */
function sharedFrame(machine: Machine, domain: Domain, draw: Draw): number {
	if (domain.isExternal) return anyGfn(machine, domain, draw);
	const { frames } = machine;
	const isOwn = (mfn: number): boolean =>
		(frames.typeOf(mfn) === PAGE_TYPE.none || frames.typeOf(mfn) === PAGE_TYPE.writable) &&
		!frames.has(mfn, FRAME.xenheap | FRAME.extra);
	return pick(draw, framesOf(machine, domain.domid, isOwn)) ?? 0;
}

/** Mostly one that is on the FIFO ABI already, of which there are few. */
const fifoDomain = (machine: Machine, draw: Draw): Domain | undefined =>
	(chance(draw, STRAY)
		? undefined
		: pick(
				draw,
				living(machine).filter((domain) => machine.isFifo(domain)),
			)) ?? anyDomain(machine, draw);

function mappedGfns({ tables }: Domain): number[] {
	const gfns: number[] = [];
	tables.p2m?.forEach((entry, gfn) => {
		if (entry !== 0n) gfns.push(gfn);
	});
	return gfns;
}

/** A GFN as guests and toolstacks name it: of a PV domain the MFN. */
function anyGfn(machine: Machine, domain: Domain, draw: Draw): number {
	if (!domain.isExternal) return anyFrame(machine, domain, draw);
	return chance(draw, STRAY) ? draw.below(GFNS) : (pick(draw, mappedGfns(domain)) ?? 0);
}

function freeGfn(domain: Domain, draw: Draw): number {
	for (let tries = 0; tries < 4; tries++) {
		const gfn = draw.below(GFNS);
		if (lookUp(domain, gfn) === undefined) return gfn;
	}
	return draw.below(GFNS);
}

function anyPort(
	{ tables }: Domain,
	draw: Draw,
	fits: (state: number, consumer: number) => boolean = () => true,
): number {
	const ports: number[] = [];
	tables.ports.forEach((row, port) => {
		if (row !== undefined && row.state !== EVTCHN_STATE.free && fits(row.state, row.consumer)) ports.push(port);
	});
	return chance(draw, STRAY) ? draw.below(80) : (pick(draw, ports) ?? draw.below(8));
}

const anyVcpu = ({ tables }: Domain, draw: Draw): number =>
	chance(draw, STRAY) ? draw.below(4) : (pick(draw, tables.vcpuIds) ?? 0);

function anyReference({ tables }: Domain, draw: Draw): number {
	const perFrame = GRANT_ENTRIES_PER_FRAME[tables.grantTable?.version === 2 ? 2 : 1];
	const capacity = tables.grantFrames.length * perFrame;
	return chance(draw, STRAY) ? draw.below(capacity + 2) : FIRST_REFERENCE + draw.below(MOST_REFERENCES);
}

/** An L1 table of a PV domain, and a slot. */
function anySlot(machine: Machine, domain: Domain, draw: Draw, level: number = PAGE_TYPE.l1) {
	const { frames } = machine;
	const tables = framesOf(machine, domain.domid, (mfn) => frames.typeOf(mfn) === level);
	const table = pick(draw, tables) ?? 0;
	// Mostly slots that are likely to be used again.
	return { table, slot: chance(draw, 3) ? draw.below(ENTRIES) : draw.below(96) };
}

/** Virtual NUMA that holds together: nodes of as much memory each, vCPUs in turn. */
function vnumaOf({ domid, frames, tables }: Domain, draw: Draw): Operation {
	const count = 1 + draw.below(3);
	const nodes = Array.from({ length: count }, (_, node) => node);
	const each = Math.max(1, Math.floor(frames / count));
	return {
		op: "domain_set_vnuma",
		domid,
		nodes: nodes.map(() => (chance(draw, 2) ? NONE32 : 0)),
		distances: nodes.flatMap((from) => nodes.map((to) => (from === to ? 10 : 20 + draw.below(3)))),
		vcpus: Array.from({ length: tables.domain.maxVcpus + (chance(draw, STRAY) ? 1 : 0) }, (_, id) => id % count),
		ranges: nodes.flatMap((node) => [node * each, each, node]),
	};
}

/** Page tables that a PV domain's vCPUs could run on. */
const rootsOf = (machine: Machine, domain: Domain): number[] =>
	framesOf(machine, domain.domid, (mfn) => machine.frames.typeOf(mfn) === domain.rootLevel);

/** The last slot of a 32-bit guest's L3 table; slots of an L2 table on both sides of where Xen's part begins, in one that has it. */
const PAE_XEN_SLOT = 3;
const L2_SLOTS_BY_XEN = [0, 1, 426, 427, 428, 511];

/** One more L3 table of a 32-bit guest: first there are frames that nothing maps, then the entry that it cannot be without is written, then it is pinned. */
function makeOtherL3(machine: Machine, domain: Domain, draw: Draw): Operation {
	const [mfn, below] = [plainFrame(machine, domain, draw), plainFrame(machine, domain, draw)];
	if (mfn === undefined || below === undefined || mfn === below)
		return { op: "populate_physmap", domid: domain.domid, gfn: 0, order: 0 };
	const ready = framesOf(
		machine,
		domain.domid,
		(found) => machine.frames.typeOf(found) === PAGE_TYPE.none && machine.memory.entry(found, PAE_XEN_SLOT) !== 0n,
	);
	const found = pick(draw, ready);
	if (found !== undefined && !chance(draw, 3))
		return { op: "mmuext_pin_table", domid: domain.domid, mfn: found, level: PAGE_TYPE.l3 };
	const value = hex(makeEntry(below, false));
	return { op: "memory_write", domid: domain.domid, gfn: mfn, slot: PAE_XEN_SLOT, value };
}

/** An entry of an L3 or L2 table of a 32-bit guest. */
function changeNarrowTable(machine: Machine, domain: Domain, draw: Draw): Operation {
	const level = chance(draw, 2) ? PAGE_TYPE.l3 : PAGE_TYPE.l2;
	const below = framesOf(machine, domain.domid, (found) => machine.frames.typeOf(found) === level - 1);
	const mfn = (chance(draw, 2) ? plainFrame(machine, domain, draw) : undefined) ?? pick(draw, below) ?? 0;
	const slot = level === PAGE_TYPE.l3 ? draw.below(5) : pick(draw, L2_SLOTS_BY_XEN);
	const { table } = anySlot(machine, domain, draw, level);
	const value = hex(chance(draw, 4) ? 0n : makeEntry(mfn, chance(draw, 2)));
	return { op: "mmu_update", domid: domain.domid, table, slot: slot ?? 0, value };
}

/** Somewhere a grant can be mapped. */
const anyPlace = (machine: Machine, domain: Domain, draw: Draw) =>
	domain.isExternal ? { gfn: freeGfn(domain, draw) } : anySlot(machine, domain, draw);

/** Where a handle's mapping is: what a guest's driver would know. */
function placeOfHandle(machine: Machine, domain: Domain, handle: number, draw: Draw) {
	const row = domain.tables.maptrack[handle];
	const mfn = Number(machine.domains.get(row?.domid ?? -1)?.tables.grantActive[row?.reference ?? -1]?.mfn ?? -1);
	if (domain.isExternal) {
		const gfn = mappedGfns(domain).find((candidate) => lookUp(domain, candidate)?.mfn === mfn);
		return { gfn: gfn ?? freeGfn(domain, draw) };
	}
	const entry = makeEntry(mfn, ((row?.flags ?? 0) & GRANT_MAP.readonly) === 0);
	for (const table of framesOf(machine, domain.domid, (found) => machine.frames.typeOf(found) === PAGE_TYPE.l1)) {
		for (let slot = 0; slot < ENTRIES; slot++) if (machine.memory.entry(table, slot) === entry) return { table, slot };
	}
	return anySlot(machine, domain, draw);
}

function anyServer(machine: Machine, draw: Draw) {
	const guests = ofKind(machine, KIND.hvm).filter(({ tables }) => tables.ioreqServerList.length > 0);
	const guest = pick(draw, guests);
	const server = guest && pick(draw, guest.tables.ioreqServerList);
	if (guest === undefined || server === undefined) return undefined;
	return { domid: server.emulator, guest: guest.domid, server: server.serverId };
}

/** Entries of grant tables that permit an access, and whose grantee lives. */
function livingGrants(machine: Machine): { granter: Domain; ref: number; grantee: number }[] {
	return living(machine).flatMap((granter) =>
		Array.from({ length: MOST_REFERENCES }, (_, i) => FIRST_REFERENCE + i).flatMap((ref) => {
			const entry = sharedEntry(machine, granter, ref);
			const grantee = entry && (entry.flags & 3) === GTF_PERMIT_ACCESS ? machine.domains.get(entry.domid) : undefined;
			return grantee && !grantee.isDead ? [{ granter, ref, grantee: grantee.domid }] : [];
		}),
	);
}

const kindNames = Object.keys(KIND);
const rangeNames = Object.keys(IOREQ_RANGE);

/** For one domain, drawn from those that fit. */
const forDomain =
	(make: (machine: Machine, domain: Domain, draw: Draw) => Operation | undefined, ...kinds: number[]): Proposal =>
	(machine, draw) => {
		const domain = pick(draw, kinds.length > 0 ? ofKind(machine, ...kinds) : living(machine));
		return domain && make(machine, domain, draw);
	};

/** Proposals with their weights. */
const proposals: readonly (readonly [number, Proposal])[] = [
	[
		2,
		(machine, draw) => {
			if (machine.domains.size >= MOST_DOMAINS) return undefined;
			const kind = kindNames[draw.below(kindNames.length)] as string;
			const external = pick(draw, ofKind(machine, KIND.hvm));
			const target = kind === "pvh" && external && chance(draw, 2) ? external.domid : DOMID.INVALID;
			return {
				op: "domain_create",
				domid: 1 + draw.below(8),
				kind,
				frames: 16 + draw.below(64),
				vcpus: 1 + draw.below(3),
				width: kind === "pv" && chance(draw, 3) ? 32 : 64,
				target,
			};
		},
	],
	[1, forDomain((_, { domid }) => (domid === 0 ? undefined : { op: "domain_destroy", domid }))],
	[2, forDomain((_, { domid }) => ({ op: "domain_pause", domid }))],
	[3, forDomain((_, { domid }) => ({ op: "domain_unpause", domid }))],
	[1, forDomain((_, { domid }, draw) => ({ op: "sched_shutdown", domid, reason: draw.below(6) }))],
	[2, forDomain((_, { domid }) => ({ op: "domain_resume", domid }))],
	[
		1,
		forDomain((_, { domid, frames }, draw) => ({ op: "domain_max_mem", domid, frames: frames + draw.below(200) - 20 })),
	],
	[
		1,
		forDomain((_, { domid }, draw) => ({
			op: "domain_set_weight",
			domid,
			weight: draw.below(1024),
			cap: draw.below(400),
		})),
	],
	[1, forDomain((_, { domid }) => ({ op: "domain_get_weight", domid }))],
	[2, forDomain((_, domain, draw) => vnumaOf(domain, draw))],
	[
		2,
		(machine, draw) => {
			const told = living(machine).filter(({ tables }) => tables.vnumaNodes.length > 0);
			const { domid } = (chance(draw, STRAY) ? undefined : pick(draw, told)) ?? anyDomain(machine, draw) ?? {};
			return domid === undefined ? undefined : { op: "memory_get_vnuma", domid };
		},
	],
	[1, forDomain((_, { domid }, draw) => ({ op: "domain_set_virq_handler", domid, virq: draw.below(2) === 0 ? 3 : 9 }))],
	[
		1,
		forDomain((_, { domid }, draw) => ({ op: "sched_watchdog", domid, index: draw.below(3), seconds: draw.below(30) })),
	],
	[2, forDomain((_, domain, draw) => ({ op: "sched_block", domid: domain.domid, vcpu: anyVcpu(domain, draw) }))],
	[
		1,
		forDomain((machine, domain, draw) => ({
			op: "sched_poll",
			domid: domain.domid,
			vcpu: anyVcpu(domain, draw),
			port: anyPort(domain, draw),
			deadline: chance(draw, 2) ? 0 : Number(machine.host.host.systemTimeNs) + draw.below(20_000_000),
		})),
	],
	[3, (_, draw) => ({ op: "time_advance", nanoseconds: draw.below(30_000_000) })],

	[
		4,
		forDomain((_, domain, draw) => {
			const order = domain.isExternal && chance(draw, 3) ? 9 : 0;
			const gfn = freeGfn(domain, draw);
			return { op: "populate_physmap", domid: domain.domid, gfn: gfn - (gfn % 2 ** order), order };
		}),
	],
	[
		3,
		forDomain(
			(_, domain, draw) => {
				const order = chance(draw, 3) ? 9 : 0;
				const gfn = freeGfn(domain, draw);
				return { op: "populate_on_demand", domid: domain.domid, gfn: gfn - (gfn % 2 ** order), order };
			},
			KIND.pvh,
			KIND.hvm,
		),
	],
	[
		3,
		forDomain((machine, domain, draw) => ({
			op: "memory_touch",
			domid: domain.domid,
			gfn: anyGfn(machine, domain, draw),
		})),
	],
	[
		4,
		forDomain((machine, domain, draw) => {
			// PV: an entry of a page table to be, of the domain's own frames.
			const frame = domain.isExternal ? anyGfn(machine, domain, draw) : plainFrame(machine, domain, draw);
			if (frame === undefined) return undefined;
			if (domain.isExternal && machine.frames.typeOf(lookUp(domain, frame)?.mfn ?? 0) !== PAGE_TYPE.none)
				return undefined;
			const value = makeEntry(anyFrame(machine, domain, draw), chance(draw, 2));
			return { op: "memory_write", domid: domain.domid, gfn: frame, slot: draw.below(24), value: hex(value) };
		}),
	],
	[
		4,
		forDomain((machine, domain, draw) => {
			const order = domain.isExternal && chance(draw, 6) ? 9 : 0;
			const gfn = anyGfn(machine, domain, draw);
			return { op: "decrease_reservation", domid: domain.domid, gfn: gfn - (gfn % 2 ** order), order };
		}),
	],
	[
		1,
		forDomain(
			(_, domain, draw) => {
				const count = 1 + draw.below(4);
				return {
					op: "memory_mapping",
					domid: domain.domid,
					gfn: freeGfn(domain, draw),
					mfn: 0xb8 + draw.below(6),
					count,
					add: !chance(draw, 4),
				};
			},
			KIND.pvh,
			KIND.hvm,
		),
	],
	[
		3,
		(machine, draw) => {
			const stub = pick(
				draw,
				ofKind(machine, KIND.pvh).filter(({ tables }) => machine.domains.has(tables.domainState.target)),
			);
			const foreign = stub && machine.domains.get(stub.tables.domainState.target);
			if (stub === undefined || foreign === undefined) return undefined;
			return {
				op: "map_foreign",
				domid: stub.domid,
				gfn: freeGfn(stub, draw),
				foreign: foreign.domid,
				foreignGfn: anyGfn(machine, foreign, draw),
			};
		},
	],
	[
		2,
		forDomain(
			(machine, domain, draw) => ({
				op: "remove_from_physmap",
				domid: domain.domid,
				gfn: anyGfn(machine, domain, draw),
			}),
			KIND.pvh,
			KIND.hvm,
		),
	],
	[
		1,
		forDomain((machine, domain, draw) => {
			const type = ["rw", "ro", "ioreq_server"][draw.below(3)] as string;
			return { op: "set_mem_type", domid: domain.domid, gfn: anyGfn(machine, domain, draw), type };
		}, KIND.hvm),
	],
	[
		1,
		forDomain(
			(machine, domain, draw) => ({
				op: "set_mem_access",
				domid: domain.domid,
				gfn: anyGfn(machine, domain, draw),
				access: draw.below(12),
			}),
			KIND.pvh,
			KIND.hvm,
		),
	],

	[
		8,
		forDomain((machine, domain, draw) => {
			const mfn = chance(draw, 6) ? 0xb8 + draw.below(8) : anyFrame(machine, domain, draw);
			const value = chance(draw, 4) ? 0n : makeEntry(mfn, !chance(draw, 3));
			return { op: "mmu_update", domid: domain.domid, ...anySlot(machine, domain, draw), value: hex(value) };
		}, KIND.pv),
	],
	[
		3,
		forDomain((machine, domain, draw) => {
			const level = 2 + draw.below(3);
			const value = chance(draw, 4) ? 0n : makeEntry(anyFrame(machine, domain, draw), !chance(draw, 3));
			const { table } = anySlot(machine, domain, draw, level);
			const slot = level === 4 ? pick(draw, [0, 1, 255, 256, 272, 273, 511]) : draw.below(12);
			const self = chance(draw, 5) ? makeEntry(table, false) : value;
			return { op: "mmu_update", domid: domain.domid, table, slot: slot ?? 0, value: hex(self) };
		}, KIND.pv),
	],
	[
		3,
		(machine, draw) => {
			// A privileged domain maps another's memory.
			const domain = pick(
				draw,
				ofKind(machine, KIND.pv).filter(({ isPrivileged }) => isPrivileged),
			);
			const other = anyDomain(machine, draw);
			if (domain === undefined || other === undefined) return undefined;
			const value = makeEntry(anyGfn(machine, other, draw), !chance(draw, 3));
			return {
				op: "mmu_update",
				domid: domain.domid,
				...anySlot(machine, domain, draw),
				value: hex(value),
				owner: other.domid,
			};
		},
	],
	[
		3,
		forDomain((machine, domain, draw) => {
			return {
				op: "mmuext_pin_table",
				domid: domain.domid,
				mfn: (chance(draw, 3) ? undefined : plainFrame(machine, domain, draw)) ?? anyFrame(machine, domain, draw),
				level: 1 + draw.below(4),
			};
		}, KIND.pv),
	],
	[
		3,
		(machine, draw) => {
			const domain = pick(
				draw,
				ofKind(machine, KIND.pv).filter(({ isNarrow }) => isNarrow),
			);
			if (domain === undefined) return undefined;
			return chance(draw, 2) ? makeOtherL3(machine, domain, draw) : changeNarrowTable(machine, domain, draw);
		},
	],
	[
		2,
		forDomain((machine, domain, draw) => {
			const pinned = framesOf(machine, domain.domid, (mfn) => machine.frames.isPinned(mfn));
			return { op: "mmuext_unpin_table", domid: domain.domid, mfn: pick(draw, pinned) ?? 0 };
		}, KIND.pv),
	],
	[
		2,
		forDomain((machine, domain, draw) => {
			const roots = rootsOf(machine, domain);
			const user = !domain.isNarrow && chance(draw, 2);
			const mfn =
				user && chance(draw, 3) ? 0 : chance(draw, 3) ? anyFrame(machine, domain, draw) : (pick(draw, roots) ?? 0);
			return { op: "mmuext_new_baseptr", domid: domain.domid, vcpu: anyVcpu(domain, draw), mfn, user };
		}, KIND.pv),
	],
	[
		1,
		forDomain((machine, domain, draw) => {
			const mfns = Array.from({ length: 1 + draw.below(2) }, () => plainFrame(machine, domain, draw) ?? 0);
			return {
				op: "set_gdt",
				domid: domain.domid,
				vcpu: anyVcpu(domain, draw),
				mfns,
				entries: draw.below(512 * mfns.length + 1),
			};
		}, KIND.pv),
	],

	[
		6,
		forDomain((machine, domain, draw) => {
			const grantee = anyDomain(machine, draw)?.domid ?? 0;
			return {
				op: "grant_access",
				domid: domain.domid,
				ref: anyReference(domain, draw),
				grantee,
				gfn: anyGfn(machine, domain, draw),
				readonly: chance(draw, 4),
			};
		}),
	],
	[
		2,
		forDomain((machine, domain, draw): Operation => {
			// Only a table of version 2 has such entries.
			if (domain.tables.grantTable?.version !== 2) return { op: "grant_set_version", domid: domain.domid, version: 2 };
			return {
				op: "grant_access_part",
				domid: domain.domid,
				ref: anyReference(domain, draw),
				grantee: anyDomain(machine, draw)?.domid ?? 0,
				gfn: anyGfn(machine, domain, draw),
				offset: draw.below(64),
				length: draw.below(256),
				readonly: chance(draw, 4),
			};
		}),
	],
	[
		3,
		forDomain((machine, domain, draw): Operation => {
			if (domain.tables.grantTable?.version !== 2) return { op: "grant_set_version", domid: domain.domid, version: 2 };
			const source = anyDomain(machine, draw) ?? domain;
			return {
				op: "grant_access_transitive",
				domid: domain.domid,
				ref: anyReference(domain, draw),
				grantee: anyDomain(machine, draw)?.domid ?? 0,
				sourceDomid: source.domid,
				sourceRef: anyReference(source, draw),
				readonly: chance(draw, 4),
			};
		}),
	],
	[
		2,
		forDomain((_, domain, draw) => ({ op: "grant_end_access", domid: domain.domid, ref: anyReference(domain, draw) })),
	],
	[1, forDomain((_, { domid }, draw) => ({ op: "gnttab_setup_table", domid, frames: draw.below(4) }))],
	[1, forDomain((_, { domid }, draw) => ({ op: "grant_set_version", domid, version: 1 + draw.below(2) }))],
	[
		10,
		(machine, draw) => {
			const found = pick(draw, livingGrants(machine));
			const granter = found?.granter ?? anyDomain(machine, draw);
			if (granter === undefined) return undefined;
			const ref = found && !chance(draw, STRAY) ? found.ref : anyReference(granter, draw);
			const grantee = machine.domains.get(found?.grantee ?? -1);
			const mapper = (grantee && !chance(draw, STRAY) ? grantee : anyDomain(machine, draw)) ?? granter;
			const kind =
				mapper.isExternal && !chance(draw, STRAY)
					? "host"
					: (["host", "host", "both", "device"][draw.below(4)] as string);
			return {
				op: "gnttab_map_grant_ref",
				domid: mapper.domid,
				vcpu: pick(draw, mapper.tables.vcpuIds) ?? 0,
				granter: granter.domid,
				ref,
				kind,
				readonly: chance(draw, 3),
				...anyPlace(machine, mapper, draw),
			};
		},
	],
	[
		6,
		(machine, draw) => {
			const held = living(machine).flatMap((domain) =>
				domain.tables.maptrack.flatMap((row, handle) => (row ? [{ domain, handle }] : [])),
			);
			const found = chance(draw, STRAY) ? undefined : pick(draw, held);
			const domain = found?.domain ?? anyDomain(machine, draw);
			if (domain === undefined) return undefined;
			const handle = found?.handle ?? draw.below(300);
			const place = placeOfHandle(machine, domain, handle, draw);
			return { op: "gnttab_unmap_grant_ref", domid: domain.domid, handle, ...place };
		},
	],
	[
		2,
		forDomain((machine, domain, draw) => {
			const found = pick(
				draw,
				livingGrants(machine).filter(({ grantee }) => grantee === domain.domid),
			);
			const granter = found?.granter ?? domain;
			return {
				op: "gnttab_copy",
				domid: domain.domid,
				granter: granter.domid,
				ref: found?.ref ?? anyReference(granter, draw),
				gfn: (domain.isExternal ? anyGfn(machine, domain, draw) : plainFrame(machine, domain, draw)) ?? 0,
				toGrant: false,
				offset: draw.below(8) * 512,
				length: draw.below(600),
			};
		}),
	],

	[
		4,
		forDomain((machine, domain, draw) => ({
			op: "evtchn_alloc_unbound",
			domid: domain.domid,
			remote: anyDomain(machine, draw)?.domid ?? 0,
		})),
	],
	[
		6,
		(machine, draw) => {
			// Some port that waits, and the domain that it waits for.
			const waiting = living(machine).flatMap(({ domid, tables }) =>
				tables.ports.flatMap((row, port) =>
					row?.state === EVTCHN_STATE.unbound ? [{ remote: domid, remotePort: port, domid: row.remoteDomid }] : [],
				),
			);
			const found = pick(draw, waiting);
			return found && { op: "evtchn_bind_interdomain", ...found };
		},
	],
	[
		2,
		forDomain((_, domain, draw) => ({
			op: "evtchn_bind_virq",
			domid: domain.domid,
			virq: pick(draw, [0, 1, 2, 3, 7, 9, 13, 24]) ?? 0,
			vcpu: chance(draw, 2) ? 0 : anyVcpu(domain, draw),
		})),
	],
	[2, forDomain((_, domain, draw) => ({ op: "evtchn_bind_ipi", domid: domain.domid, vcpu: anyVcpu(domain, draw) }))],
	[
		4,
		(machine, draw) => {
			const mapped = living(machine).flatMap(({ domid, tables }) =>
				tables.pirqList.map(({ pirq }) => ({ domid, pirq })),
			);
			const found = chance(draw, STRAY) ? undefined : pick(draw, mapped);
			return { op: "evtchn_bind_pirq", ...(found ?? { domid: 0, pirq: 16 + draw.below(4) }) };
		},
	],
	[3, forDomain((_, domain, draw) => ({ op: "evtchn_close", domid: domain.domid, port: anyPort(domain, draw) }))],
	[1, forDomain((_, { domid }, draw) => (chance(draw, 3) ? { op: "evtchn_reset", domid } : undefined))],
	[
		12,
		(machine, draw) => {
			const fits = (state: number, consumer: number) =>
				consumer === CONSUMER.none && (state === EVTCHN_STATE.interdomain || state === EVTCHN_STATE.ipi);
			const ready = living(machine).filter(({ tables }) =>
				tables.ports.some((row) => row && fits(row.state, row.consumer)),
			);
			const domain = pick(draw, ready) ?? anyDomain(machine, draw);
			return domain && { op: "evtchn_send", domid: domain.domid, port: anyPort(domain, draw, fits) };
		},
	],
	[3, forDomain((_, domain, draw) => ({ op: "evtchn_mask", domid: domain.domid, port: anyPort(domain, draw) }))],
	[3, forDomain((_, domain, draw) => ({ op: "evtchn_unmask", domid: domain.domid, port: anyPort(domain, draw) }))],
	[
		3,
		forDomain((_, domain, draw) => ({
			op: "evtchn_bind_vcpu",
			domid: domain.domid,
			port: anyPort(domain, draw),
			vcpu: anyVcpu(domain, draw),
		})),
	],
	[
		3,
		(machine, draw) => {
			const domain = fifoDomain(machine, draw);
			return (
				domain && {
					op: "evtchn_set_priority",
					domid: domain.domid,
					port: anyPort(domain, draw),
					priority: draw.below(17),
				}
			);
		},
	],
	[1, forDomain((_, domain, draw) => ({ op: "evtchn_status", domid: domain.domid, port: anyPort(domain, draw) }))],
	[
		3,
		forDomain((machine, domain, draw) => ({
			op: "evtchn_init_control",
			domid: domain.domid,
			vcpu: anyVcpu(domain, draw),
			gfn: sharedFrame(machine, domain, draw),
			offset: 8 * draw.below(500),
		})),
	],
	[
		3,
		(machine, draw) => {
			const domain = fifoDomain(machine, draw);
			return domain && { op: "evtchn_expand_array", domid: domain.domid, gfn: sharedFrame(machine, domain, draw) };
		},
	],
	[6, forDomain((_, domain, draw) => ({ op: "evtchn_drain", domid: domain.domid, vcpu: anyVcpu(domain, draw) }))],
	[
		1,
		forDomain((machine, domain, draw) => {
			return { op: "pirq_eoi_map", domid: domain.domid, gfn: plainFrame(machine, domain, draw) ?? 0 };
		}, KIND.pv),
	],
	[
		2,
		(machine, draw) => {
			// Mostly who may.
			const pv = ofKind(machine, KIND.pv);
			const domain = pick(draw, chance(draw, STRAY) ? pv : pv.filter(({ isPrivileged }) => isPrivileged));
			return domain && { op: "pirq_map", domid: domain.domid, irq: 16 + draw.below(6) };
		},
	],
	[
		1,
		forDomain(
			(_, { domid }, draw) => ({ op: "pirq_map_emulated", domid, pirq: 16 + draw.below(6), emuirq: draw.below(50) }),
			KIND.hvm,
		),
	],
	[
		1,
		(machine, draw) => {
			const mapped = living(machine).flatMap(({ domid, tables }) =>
				tables.pirqList.map(({ pirq }) => ({ domid, pirq })),
			);
			const found = pick(draw, mapped) ?? { domid: 0, pirq: 16 };
			return { op: "pirq_unmap", ...found, pirq: chance(draw, STRAY) ? 16 + draw.below(6) : found.pirq };
		},
	],
	[
		4,
		(machine, draw) => {
			const bound = living(machine).flatMap(({ domid, tables }) =>
				tables.pirqList.flatMap(({ pirq, port }) => (port === 0 ? [] : [{ domid, pirq }])),
			);
			const found = chance(draw, STRAY) ? undefined : pick(draw, bound);
			return { op: "pirq_raise", ...(found ?? { domid: 0, pirq: 16 }) };
		},
	],

	[
		2,
		forDomain((machine, domain, draw) => {
			const roots = rootsOf(machine, domain);
			return {
				op: "vcpu_initialise",
				domid: domain.domid,
				vcpu: anyVcpu(domain, draw),
				mfn: pick(draw, roots) ?? 0,
				rip: wordOf(domain, 0xffff_ffff_8100_0000n + BigInt(draw.below(4096))),
			};
		}, KIND.pv),
	],
	[2, forDomain((_, domain, draw) => ({ op: "vcpu_up", domid: domain.domid, vcpu: anyVcpu(domain, draw) }))],
	[1, forDomain((_, domain, draw) => ({ op: "vcpu_down", domid: domain.domid, vcpu: anyVcpu(domain, draw) }))],
	[
		2,
		forDomain((_, domain, draw) => ({
			op: "vcpu_set_register",
			domid: domain.domid,
			vcpu: anyVcpu(domain, draw),
			register: pick(draw, ["rip", "rsp", "rax"]) ?? "rip",
			value: wordOf(domain, BigInt(draw.below(2 ** 31)) << 16n),
		})),
	],
	[
		2,
		forDomain((machine, domain, draw) => ({
			op: "vcpu_register_info",
			domid: domain.domid,
			vcpu: anyVcpu(domain, draw),
			gfn: sharedFrame(machine, domain, draw),
			offset: 64 * draw.below(66),
		})),
	],
	[
		1,
		forDomain((_, domain, draw) => ({
			op: "vcpu_register_runstate",
			domid: domain.domid,
			vcpu: anyVcpu(domain, draw),
			address: wordOf(domain, 0xffff_8880_0000_0000n + BigInt(draw.below(4096) * 64)),
		})),
	],
	[
		2,
		forDomain((machine, domain, draw) => ({
			op: "vcpu_set_singleshot",
			domid: domain.domid,
			vcpu: anyVcpu(domain, draw),
			deadline: Number(machine.host.host.systemTimeNs) + draw.below(40_000_000) - 2_000_000,
		})),
	],
	[
		1,
		forDomain((_, domain, draw) => ({
			op: "vcpu_set_periodic",
			domid: domain.domid,
			vcpu: anyVcpu(domain, draw),
			period: chance(draw, 3) ? 0 : draw.below(20_000_000),
		})),
	],
	[
		1,
		forDomain((_, domain, draw) => ({
			op: "vcpu_set_affinity",
			domid: domain.domid,
			vcpu: anyVcpu(domain, draw),
			cpus: draw.below(16),
		})),
	],

	[
		4,
		(machine, draw) => {
			const guest = pick(draw, ofKind(machine, KIND.hvm));
			if (guest === undefined) return undefined;
			const stub = living(machine).find(({ tables }) => tables.domainState.target === guest.domid);
			const domid = stub && chance(draw, 2) ? stub.domid : 0;
			return { op: "ioreq_create", domid, guest: guest.domid, buffered: !chance(draw, 3) };
		},
	],
	[
		3,
		(machine, draw) => {
			const found = anyServer(machine, draw);
			const emulator = found && machine.domains.get(found.domid);
			if (found === undefined || emulator === undefined || emulator.isDead) return undefined;
			return { op: "ioreq_acquire_page", ...found, role: draw.below(2), ...anyPlace(machine, emulator, draw) };
		},
	],
	[
		1,
		(machine, draw) => {
			const found = anyServer(machine, draw);
			return found && { op: "ioreq_set_state", ...found, enabled: chance(draw, 2) };
		},
	],
	[
		1,
		(machine, draw) => {
			const found = anyServer(machine, draw);
			return found && { op: "ioreq_claim_writes", ...found, claim: !chance(draw, 3) };
		},
	],
	[
		3,
		(machine, draw) => {
			const found = anyServer(machine, draw);
			const first = draw.below(16) * 16;
			return (
				found && {
					op: "ioreq_map_range",
					...found,
					type: pick(draw, rangeNames) ?? "port",
					first,
					last: first + draw.below(20),
				}
			);
		},
	],
	[
		3,
		(machine, draw) => {
			const guests = ofKind(machine, KIND.hvm).filter(({ tables }) => tables.ioreqRanges.length > 0);
			const guest = pick(draw, guests);
			const row = guest && pick(draw, guest.tables.ioreqRanges);
			const server = guest?.tables.ioreqServerList.find(({ serverId }) => serverId === row?.serverId);
			if (guest === undefined || row === undefined || server === undefined) return undefined;
			return {
				op: "ioreq_unmap_range",
				domid: server.emulator,
				guest: guest.domid,
				server: server.serverId,
				type: rangeNames[row.type] ?? "port",
				first: Number(row.first),
				last: Number(row.last),
			};
		},
	],
	[
		1,
		(machine, draw) => {
			const found = anyServer(machine, draw);
			return found && { op: "ioreq_destroy", ...found };
		},
	],
];

const totalWeight = proposals.reduce((sum, [weight]) => sum + weight, 0);

/** Proposes the next operation; undefined where the one that was drawn has nothing to work on. */
export function propose(machine: Machine, draw: Draw): Operation | undefined {
	let ticket = draw.below(totalWeight);
	for (const [weight, proposal] of proposals) {
		ticket -= weight;
		if (ticket < 0) return proposal(machine, draw);
	}
	return undefined;
}
