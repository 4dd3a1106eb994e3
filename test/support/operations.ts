/**
 * Operations under test: what succeeds, what is refused and then has changed nothing, and an account of a machine's
 * state that is made by other code than the machine's.
 */
import { expect } from "vitest";
import {
	EVTCHN_STATE,
	FRAME,
	FRAME_OWNER_MASK,
	GRANT_MAP,
	P2M_BITS,
	P2M_TYPE,
	PAGE_TYPE,
	PAGE_TYPE_FLAG,
} from "../../src/format/enums.ts";
import { type Machine, type Operation, type Result, resultText, runOperation } from "../../src/machine/live/index.ts";
import { countReferences } from "../../src/machine/references.ts";
import { imageDifference } from "./living.ts";

/** Does an operation that succeeds with a number. */
export function done(machine: Machine, operation: Operation): number {
	const result = runOperation(machine, operation);
	expect([operation, typeof result]).toEqual([operation, "number"]);
	expect([operation, result]).toEqual([operation, expect.toSatisfy((value: number) => value >= 0)]);
	return result as number;
}

/** Does several, all of which succeed. @returns their results */
export const doneAll = (machine: Machine, ...operations: Operation[]): number[] =>
	operations.map((operation) => done(machine, operation));

/** The ports that a guest's handler takes. */
export function drained(machine: Machine, domid: number, vcpu = 0): number[] {
	const result = runOperation(machine, { op: "evtchn_drain", domid, vcpu });
	expect(Array.isArray(result)).toBe(true);
	return result as number[];
}

/** All of a machine's state: its image, its memory, and the frames that nobody may take. */
export interface Snapshot {
	image: Uint8Array;
	pages: Map<number, Uint8Array>;
	reserved: Uint8Array;
}

export const snapshot = (machine: Machine): Snapshot => ({
	image: machine.image(),
	pages: new Map([...machine.memory.pages].map(([mfn, page]) => [mfn, page.slice()])),
	reserved: machine.frames.reserved.slice(),
});

/** What has changed since; undefined for nothing. */
export function changeSince(before: Snapshot, machine: Machine): string | undefined {
	const difference = imageDifference(before.image, machine.image());
	if (difference !== undefined) return `image: ${difference}`;
	for (const mfn of new Set([...before.pages.keys(), ...machine.memory.pages.keys()])) {
		const page = before.pages.get(mfn) ?? new Uint8Array(4096);
		if (Buffer.compare(page, machine.memory.look(mfn)) !== 0) return `memory: frame 0x${mfn.toString(16)}`;
	}
	return Buffer.compare(before.reserved, machine.frames.reserved) === 0 ? undefined : "reserved frames";
}

/** Does an operation that must be refused with that errno or GNTST status, and leave all as it was. */
export function refused(machine: Machine, operation: Operation, name: string): void {
	const before = snapshot(machine);
	const result = runOperation(machine, operation) as number;
	expect([operation, resultText(operation.op, result)]).toEqual([operation, name]);
	expect([operation, changeSince(before, machine)]).toEqual([operation, undefined]);
}

/** A frame's references: page, type. */
export const references = ({ frames }: Machine, mfn: number): [number, number] => [
	frames.references(mfn),
	frames.typeReferences(mfn),
];

export const freeFrames = ({ frames }: Machine): number => {
	let free = 0;
	for (let mfn = 0; mfn < frames.count; mfn++) if (frames.isFree(mfn)) free++;
	return free;
};

/** The MFN that a guest's GFN is mapped to; undefined for a hole. */
export function mfnOf(machine: Machine, domid: number, gfn: number): number | undefined {
	const entry = machine.domain(domid).tables.p2m?.[gfn] ?? 0n;
	return entry >> BigInt(P2M_BITS.present) ? Number(entry & 0xff_ffff_ffffn) : undefined;
}

/** Numbers at random, the same ones for the same seed. */
export function drawFor(seed: number): { below(limit: number): number } {
	let state = seed >>> 0;
	return {
		below: (limit) => {
			state = (state + 0x6d2b79f5) >>> 0;
			let mixed = Math.imul(state ^ (state >>> 15), state | 1);
			mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
			return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
		},
	};
}

export const succeeded = (result: Result): boolean => typeof result !== "number" || result >= 0;

// --- invariants ---

/** GFNs that are no holes, with the high half of their entries: most of a P2M is holes. */
function* mappedGfns(p2m = new BigUint64Array()): Generator<{ gfn: number; high: number }> {
	const halves = new Uint32Array(p2m.buffer, p2m.byteOffset, 2 * p2m.length);
	for (let gfn = 0; gfn < p2m.length; gfn++) {
		const high = halves[2 * gfn + 1] as number;
		if (high !== 0 || halves[2 * gfn] !== 0) yield { gfn, high };
	}
}
const typeOfHalf = (high: number): number => (high >>> (P2M_BITS.type - 32)) & 15;
const orderOfHalf = (high: number): number => (high >>> (P2M_BITS.order - 32)) & 63;

/** Page tables that a P2M needs: its root, and each table that an entry stands in or below. */
function tablesOf(p2m: BigUint64Array<ArrayBuffer>): number {
	const tables = new Set(["root"]);
	for (const { gfn, high } of mappedGfns(p2m)) {
		const order = orderOfHalf(high);
		// Once for each superpage.
		if (gfn % 2 ** order !== 0) continue;
		for (const shift of [9, 18, 27]) if (shift > order) tables.add(`${shift}:${Math.floor(gfn / 2 ** shift)}`);
	}
	return tables.size;
}

/** What is wrong with a machine, as text; an empty list if all of it agrees. Counts are made anew from the tables. */
export function faultsOf(machine: Machine, counted = { p2mTables: true }): string[] {
	const faults: string[] = [];
	const { frames } = machine;
	const { model, preserved, references: kept } = machine.toHost();
	const recounted = countReferences(model, preserved);
	const name = (mfn: number): string => `frame 0x${mfn.toString(16)}`;
	const { counts, owners, types: typeEntries, reserved } = frames;
	for (let mfn = 0; mfn < frames.count; mfn++) {
		const [pages, types] = [counts[2 * mfn] as number, counts[2 * mfn + 1] as number];
		const isOwned = ((owners[mfn] as number) & FRAME.owned) !== 0;
		// Most frames: free, and nothing else.
		if (!isOwned && pages + types + (recounted.frames[2 * mfn] as number) === 0 && typeEntries[mfn] === 0) continue;
		const [expectedPages, expectedTypes] = [recounted.frames[2 * mfn], recounted.frames[2 * mfn + 1]];
		if (pages !== expectedPages || types !== expectedTypes)
			faults.push(`${name(mfn)} has ${pages}/${types} references, its tables make ${expectedPages}/${expectedTypes}`);
		if (!isOwned) faults.push(`${name(mfn)} is free, and in use`);
		else if (pages === 0) faults.push(`${name(mfn)} is owned without a reference`);
		if (isOwned && reserved[mfn] !== 0) faults.push(`${name(mfn)} is owned and reserved`);
		if (types > 0 !== (frames.typeOf(mfn) !== PAGE_TYPE.none))
			faults.push(`${name(mfn)} has a type without a count, or the reverse`);
		if (types > pages) faults.push(`${name(mfn)} has more type than page references`);
	}
	for (const [domid, sums] of recounted.domains) {
		const has = kept.domains.get(domid);
		if (JSON.stringify(has) !== JSON.stringify(sums))
			faults.push(`domain ${domid} has ${JSON.stringify(has)}, its tables make ${JSON.stringify(sums)}`);
	}
	faults.push(
		...narrowFaults(machine),
		...grantFaults(machine),
		...portFaults(machine),
		...p2mFaults(machine, counted.p2mTables),
	);
	return faults;
}

/** L3 tables of 32-bit guests: four entries, the last of which names an L2 table with Xen's part that nothing else names. */
function narrowFaults({ frames, memory, domains }: Machine): string[] {
	const faults: string[] = [];
	const named = new Set<number>();
	frames.types.forEach((entry, mfn) => {
		if ((entry & PAGE_TYPE_FLAG.paeXenL2) !== 0 && frames.typeReferences(mfn) !== 1)
			faults.push(`frame 0x${mfn.toString(16)} has Xen's part, and ${frames.typeReferences(mfn)} type references`);
		const owner = domains.get(frames.ownerOf(mfn) ?? -1)?.tables;
		if ((entry & 7) !== PAGE_TYPE.l3 || owner?.pv32 === undefined) return;
		for (let slot = 0; slot < 512; slot++) {
			const value = memory.entry(mfn, slot);
			const target = Number((value >> 12n) & 0xff_ffff_ffffn);
			const hasXen = (value & 1n) === 1n && ((frames.types[target] ?? 0) & PAGE_TYPE_FLAG.paeXenL2) !== 0;
			if (hasXen && named.has(target)) faults.push(`frame 0x${target.toString(16)} has Xen's part for two L3 tables`);
			if (hasXen) named.add(target);
			if (hasXen !== (slot === 3) || (slot > 3 && value !== 0n))
				faults.push(`entry ${slot} of the L3 table 0x${mfn.toString(16)} is 0x${value.toString(16)}`);
		}
	});
	return faults;
}

function grantFaults(machine: Machine): string[] {
	const pins = new Map<string, number[]>();
	const at = (granter: number, ref: number): number[] => {
		const key = `${granter}:${ref}`;
		const found = pins.get(key) ?? [0, 0, 0, 0];
		pins.set(key, found);
		return found;
	};
	for (const { tables } of machine.domains.values()) {
		for (const row of tables.maptrack) {
			if (row === undefined) continue;
			const counters = at(row.domid, row.reference);
			const readonly = row.flags & GRANT_MAP.readonly ? 1 : 0;
			if (row.flags & GRANT_MAP.host) counters[readonly] = (counters[readonly] as number) + 1;
			if (row.flags & GRANT_MAP.device) counters[2 + readonly] = (counters[2 + readonly] as number) + 1;
		}
	}
	const faults: string[] = [];
	for (const { domid, tables } of machine.domains.values()) {
		tables.grantActive.forEach((row, ref) => {
			if (row === undefined) return;
			const own = [row.hostWrite, row.hostRead, row.deviceWrite, row.deviceRead];
			if (String(own) !== String(at(domid, ref))) faults.push(`grant ${domid}:${ref} has pins ${own}`);
			pins.delete(`${domid}:${ref}`);
		});
	}
	for (const [key, counters] of pins)
		if (counters.some((count) => count > 0)) faults.push(`grant ${key} is not active`);
	return faults;
}

function portFaults(machine: Machine): string[] {
	const faults: string[] = [];
	for (const { domid, tables } of machine.domains.values()) {
		tables.ports.forEach((row, port) => {
			if (row?.state !== EVTCHN_STATE.interdomain) return;
			const end = machine.domains.get(row.remoteDomid)?.tables.ports[row.remotePort];
			const isMutual = end?.state === row.state && end.remoteDomid === domid && end.remotePort === port;
			if (!isMutual) faults.push(`port ${domid}:${port} is bound to one that is not bound to it`);
		});
	}
	return faults;
}

/** RAM of a P2M is its domain's, each frame at one GFN; foreign entries are those listed; superpages are whole. */
function p2mFaults(machine: Machine, isTablesCounted: boolean): string[] {
	const faults: string[] = [];
	for (const { domid, isDead, isExternal, tables } of machine.domains.values()) {
		if (!isExternal || isDead) continue;
		const p2m = tables.p2m ?? new BigUint64Array();
		const keptFrames = tables.keptRanges.reduce((sum, { frameCount }) => sum + Number(frameCount), 0);
		if (isTablesCounted && keptFrames !== tablesOf(p2m))
			faults.push(`P2M of domain ${domid} keeps ${keptFrames} frames, not ${tablesOf(p2m)}`);
		const seen = new Set<number>();
		let foreign = 0;
		for (const { gfn, high } of mappedGfns(p2m)) {
			const entry = p2m[gfn] as bigint;
			const type = typeOfHalf(high);
			const mfn = high >>> 31 ? Number(entry & 0xff_ffff_ffffn) : undefined;
			if (type === P2M_TYPE.foreign) foreign++;
			const order = orderOfHalf(high);
			const first = p2m[gfn - (gfn % 2 ** order)] as bigint;
			if (order > 0 && mfn !== undefined && first + BigInt(gfn % 2 ** order) !== entry)
				faults.push(`GFN 0x${gfn.toString(16)} of domain ${domid} is part of no superpage`);
			const isRam = type === P2M_TYPE.ramRw || type === P2M_TYPE.ramRo || type === P2M_TYPE.ioreqServer;
			if (!isRam || mfn === undefined) continue;
			const { owners } = machine.frames;
			const owner = owners[mfn] as number;
			if ((owner & FRAME_OWNER_MASK) !== domid || !(owner & FRAME.allocated))
				faults.push(`GFN 0x${gfn.toString(16)} of domain ${domid} is RAM that is not its own`);
			if (seen.has(mfn)) faults.push(`frame 0x${mfn.toString(16)} of domain ${domid} has two GFNs`);
			seen.add(mfn);
		}
		if (foreign !== tables.foreignMapList.length) faults.push(`domain ${domid} lists other foreign maps than it has`);
	}
	return faults;
}

/** Fails a test if a machine does not agree with itself. */
export function checkInvariants(machine: Machine, what: unknown = machine.name): void {
	const faults = faultsOf(machine);
	if (faults.length > 0) throw new Error(`${JSON.stringify(what)}\n${faults.join("\n")}`);
}

/** Holes that are populated on demand: a refused call that looked into one has populated it, as in Xen. */
export function holesOf(machine: Machine): number {
	let holes = 0;
	for (const { tables } of machine.domains.values()) {
		for (const { gfn, high } of mappedGfns(tables.p2m)) {
			if (gfn >= 0 && typeOfHalf(high) === P2M_TYPE.populateOnDemand) holes++;
		}
	}
	return holes;
}

const FRAME_SHIFT = 12n;
export const hex = (value: bigint): string => `0x${value.toString(16)}`;

/** A page-table entry: present, user, accessed, dirty. */
export const pte = (mfn: number, access: "rw" | "ro"): string =>
	hex((BigInt(mfn) << FRAME_SHIFT) | (access === "rw" ? 0x67n : 0x65n));

/** Slot of a new PV domain's L4 table below which all of its memory stands. */
export const DIRECT_MAP_SLOT = 272;

/** Slot of a new 32-bit domain's L3 table below which all of its memory stands; its L2 table has Xen's part from 428 on. */
export const DIRECT_MAP_SLOT_32 = 3;
export const XEN_SLOT_32 = 428;

/** A new 32-bit PV domain's page tables, its GDT, and its plain frames, slot by slot of the L1 table. */
export function pv32Layout(machine: Machine, domid: number) {
	const row = machine.domain(domid).pv32Vcpu(0);
	const l3 = Number(row.cr3 >> FRAME_SHIFT);
	return { l3, ...belowL3(machine, l3, DIRECT_MAP_SLOT_32), gdt: Number(row.gdtMfn[0]) };
}

function belowL3({ memory }: Machine, l3: number, slot: number) {
	const below = (table: number, at: number): number => Number(memory.entry(table, at) >> FRAME_SHIFT);
	const l2 = below(l3, slot);
	const l1 = below(l2, 0);
	const plain: number[] = [];
	for (let at = 0; at < 512 && memory.entry(l1, at) & 2n; at++) plain.push(below(l1, at));
	return { l2, l1, plain };
}

/** A new PV domain's page tables, its GDT, and its plain frames, slot by slot of the L1 table. */
export function pvLayout(machine: Machine, domid: number) {
	const row = machine.domain(domid).pvVcpu(0);
	const root = Number((row.cr[3] as bigint) >> FRAME_SHIFT);
	const l3 = Number(machine.memory.entry(root, DIRECT_MAP_SLOT) >> FRAME_SHIFT);
	return { root, l3, ...belowL3(machine, l3, 0), gdt: Number(row.gdtMfn[0]) };
}
