/** Memory of guests: populated and given up, superpages split and joined, holes populated on demand, I/O and foreign frames. */
import { describe, expect, test } from "vitest";
import { CREATE, FRAME, P2M_BITS, P2M_TYPE } from "../../../src/format/enums.ts";
import { emptyHost, Machine } from "../../../src/machine/live/index.ts";
import { baseMachine, mustRun, updateMachine } from "../../support/living.ts";
import {
	changeSince,
	checkInvariants,
	done,
	doneAll,
	freeFrames,
	mfnOf,
	pvLayout,
	references,
	refused,
	snapshot,
} from "../../support/operations.ts";

const PV = 1;
const HVM = 2;
const STUB = 3;
const IO_FRAME = 0xb8;

const entryOf = (machine: Machine, domid: number, gfn: number) => {
	const entry = machine.domain(domid).tables.p2m?.[gfn] ?? 0n;
	const bits = (at: number, mask: number): number => Number(entry >> BigInt(at)) & mask;
	return { type: bits(P2M_BITS.type, 15), access: bits(P2M_BITS.access, 15), order: bits(P2M_BITS.order, 63) };
};
const orderOf = (machine: Machine, domid: number, gfn: number): number => entryOf(machine, domid, gfn).order;
const typeAt = (machine: Machine, domid: number, gfn: number): number => entryOf(machine, domid, gfn).type;
const keptFrames = (machine: Machine, domid: number): number =>
	machine.domain(domid).tables.keptRanges.reduce((sum, { frameCount }) => sum + Number(frameCount), 0);

const populate = (domid: number, gfn: number, order = 0) => ({ op: "populate_physmap", domid, gfn, order });
const onDemand = (domid: number, gfn: number, order = 0) => ({ op: "populate_on_demand", domid, gfn, order });
const touch = (domid: number, gfn: number) => ({ op: "memory_touch", domid, gfn });
const decrease = (domid: number, gfn: number, order = 0) => ({ op: "decrease_reservation", domid, gfn, order });
const remove = (domid: number, gfn: number) => ({ op: "remove_from_physmap", domid, gfn });

describe("populate_physmap", () => {
	test("gives the lowest free frame, with the reference of being allocated", () => {
		const machine = baseMachine();
		const lowest = machine.frames.findFree() as number;
		const before = machine.domain(HVM).frames;
		expect(done(machine, populate(HVM, 600))).toBe(lowest);
		expect(mfnOf(machine, HVM, 600)).toBe(lowest);
		expect(references(machine, lowest)).toEqual([1, 0]);
		expect(machine.frames.owners[lowest]).toBe((HVM | FRAME.owned | FRAME.allocated) >>> 0);
		expect(machine.domain(HVM).frames).toBe(before + 1);
		expect(entryOf(machine, HVM, 600)).toEqual({ type: P2M_TYPE.ramRw, access: 7, order: 0 });
		checkInvariants(machine);
	});

	test("gives a PV guest frames that no table maps yet", () => {
		const machine = baseMachine();
		const mfn = done(machine, populate(PV, 0));
		expect(references(machine, mfn)).toEqual([1, 0]);
		expect(machine.domain(PV).tables.p2m).toBeUndefined();
	});

	test("is refused off the grid, where something is mapped, beyond max_pages, without free frames, and to the dead", () => {
		const machine = baseMachine();
		refused(machine, populate(HVM, 1, 9), "EINVAL");
		refused(machine, populate(HVM, 1024, 1), "EINVAL");
		refused(machine, populate(HVM, -1), "EINVAL");
		refused(machine, populate(HVM, 2 ** 22), "EINVAL");
		refused(machine, populate(HVM, 0), "EINVAL");
		refused(machine, populate(9, 0), "ESRCH");
		refused(machine, populate(HVM, 1024, 9), "ENOMEM");
		done(machine, { op: "domain_max_mem", domid: HVM, frames: 540 });
		refused(machine, populate(HVM, 600), "ENOMEM");
		done(machine, { op: "domain_max_mem", domid: HVM, frames: 100_000 });
		refused(machine, populate(HVM, 512, 9), "EINVAL");
		refused(machine, populate(HVM, 0x40000, 18), "ENOMEM");
		done(machine, { op: "domain_max_mem", domid: PV, frames: 100_000 });
		while (machine.frames.findFree() !== undefined) done(machine, populate(PV, 0));
		refused(machine, populate(PV, 0), "ENOMEM");
		refused(machine, populate(HVM, 600), "ENOMEM");
	});

	test("a limit below what the domain has takes nothing from it; it is given no more, after an update as before", () => {
		const machine = baseMachine();
		done(machine, { op: "domain_max_mem", domid: HVM, frames: 500 });
		const { frames } = machine.domain(HVM);
		refused(machine, populate(HVM, 600), "ENOMEM");
		const { machine: next } = updateMachine(machine);
		expect([next.domain(HVM).frames, next.domain(HVM).tables.domain.maxPages]).toEqual([frames, 500n]);
		refused(next, populate(HVM, 600), "ENOMEM");
		refused(machine, { op: "domain_max_mem", domid: 9, frames: 539 }, "ESRCH");
	});
});

describe("superpages", () => {
	test("are split by a change of one page, which costs a page table", () => {
		const machine = baseMachine();
		const first = mfnOf(machine, HVM, 0) as number;
		expect([orderOf(machine, HVM, 0), orderOf(machine, HVM, 511)]).toEqual([9, 9]);
		const tables = keptFrames(machine, HVM);
		done(machine, decrease(HVM, 7));
		expect(keptFrames(machine, HVM)).toBe(tables + 1);
		expect([6, 7, 8].map((gfn) => orderOf(machine, HVM, gfn))).toEqual([0, 0, 0]);
		expect([6, 7, 8].map((gfn) => mfnOf(machine, HVM, gfn))).toEqual([first + 6, undefined, first + 8]);
		expect(machine.frames.isFree(first + 7)).toBe(true);
		checkInvariants(machine);
	});

	test("are joined by populating 2 MiB after giving up 512 pages, which gives the table back", () => {
		const machine = baseMachine();
		const tables = keptFrames(machine, HVM);
		doneAll(machine, ...Array.from({ length: 512 }, (_, gfn) => decrease(HVM, gfn)));
		expect(machine.domain(HVM).frames).toBe(28);
		const first = done(machine, populate(HVM, 0, 9));
		expect([0, 511].map((gfn) => [mfnOf(machine, HVM, gfn), orderOf(machine, HVM, gfn)])).toEqual([
			[first, 9],
			[first + 511, 9],
		]);
		expect(keptFrames(machine, HVM)).toBe(tables);
		checkInvariants(machine);
	});

	test("are given up whole", () => {
		const machine = baseMachine();
		const before = freeFrames(machine);
		expect(done(machine, decrease(HVM, 0, 9))).toBe(512);
		expect(freeFrames(machine)).toBe(before + 512);
		expect(machine.domain(HVM).frames).toBe(28);
	});

	test("of 1 GiB fall apart step by step, a table for each", () => {
		const machine = Machine.fromHost(emptyHost(2 ** 19 + 4096));
		mustRun(machine, [
			{ op: "domain_create", domid: 0, kind: "pv", frames: 32, privileged: true },
			{ op: "domain_create", domid: HVM, kind: "hvm", frames: 8 },
			{ op: "domain_max_mem", domid: HVM, frames: 2 ** 19 },
		]);
		const base = 2 ** 18;
		done(machine, populate(HVM, base, 18));
		const tables = keptFrames(machine, HVM);
		done(machine, { op: "set_mem_access", domid: HVM, gfn: base + 513, access: 1 });
		expect([base, base + 512, base + 513, base + 1024].map((gfn) => orderOf(machine, HVM, gfn))).toEqual([9, 0, 0, 9]);
		expect(keptFrames(machine, HVM)).toBe(tables + 2);
		expect(done(machine, decrease(HVM, base + 1024))).toBe(1);
		expect(keptFrames(machine, HVM)).toBe(tables + 3);
	});
});

describe("the HAP pool", () => {
	test("has no more: ENOMEM, nothing changed, tables given back", () => {
		const machine = baseMachine();
		const { domain } = machine.domain(HVM).tables;
		domain.hapPoolFrames = BigInt(keptFrames(machine, HVM));
		const free = freeFrames(machine);
		// A split, a table further on, and two of them a GiB away.
		refused(machine, decrease(HVM, 7), "ENOMEM");
		refused(machine, populate(HVM, 1024), "ENOMEM");
		refused(machine, populate(HVM, 2 ** 20), "ENOMEM");
		refused(machine, onDemand(HVM, 2 ** 20), "ENOMEM");
		refused(machine, { op: "set_mem_access", domid: HVM, gfn: 0, access: 1 }, "ENOMEM");
		refused(machine, { op: "memory_mapping", domid: HVM, gfn: 1020, mfn: IO_FRAME, count: 8 }, "ENOMEM");
		refused(machine, { op: "map_foreign", domid: 3, gfn: 2 ** 21, foreign: 2, foreignGfn: 10_000 }, "EINVAL");
		domain.hapPoolFrames += 1n;
		// The first half fits the tables there are, the second one needs one of its own: neither is mapped.
		refused(machine, { op: "memory_mapping", domid: HVM, gfn: 2 ** 20 - 4, mfn: IO_FRAME, count: 8 }, "ENOMEM");
		expect(freeFrames(machine)).toBe(free);
		checkInvariants(machine);
	});

	test("a foreign frame for which there is no table keeps its references", () => {
		const machine = baseMachine();
		machine.domain(STUB).tables.domain.hapPoolFrames = BigInt(keptFrames(machine, STUB));
		refused(machine, { op: "map_foreign", domid: STUB, gfn: 2 ** 20, foreign: HVM, foreignGfn: 3 }, "ENOMEM");
		expect(references(machine, mfnOf(machine, HVM, 3) as number)).toEqual([1, 0]);
	});

	test("takes tables from the machine, and gives them back with the last entry below them", () => {
		const machine = baseMachine();
		const [tables, free] = [keptFrames(machine, HVM), freeFrames(machine)];
		const mfn = done(machine, populate(HVM, 2 ** 20));
		// L3, L2 and L1 tables of its own below the same root, and the frame.
		expect(keptFrames(machine, HVM)).toBe(tables + 2);
		expect(freeFrames(machine)).toBe(free - 3);
		done(machine, decrease(HVM, 2 ** 20));
		expect(machine.frames.isFree(mfn)).toBe(true);
		expect([keptFrames(machine, HVM), freeFrames(machine)]).toEqual([tables, free]);
	});
});

describe("populate on demand", () => {
	test("a touched hole gets a frame, and the superpage around it is split", () => {
		const machine = baseMachine();
		const before = machine.domain(HVM).frames;
		done(machine, onDemand(HVM, 1024, 9));
		expect(machine.domain(HVM).frames).toBe(before);
		expect(entryOf(machine, HVM, 1024)).toEqual({ type: P2M_TYPE.populateOnDemand, access: 7, order: 9 });
		const mfn = done(machine, touch(HVM, 1030));
		expect(references(machine, mfn)).toEqual([1, 0]);
		expect([1029, 1030, 1031].map((gfn) => [mfnOf(machine, HVM, gfn), orderOf(machine, HVM, gfn)])).toEqual([
			[undefined, 0],
			[mfn, 0],
			[undefined, 0],
		]);
		expect(typeAt(machine, HVM, 1029)).toBe(P2M_TYPE.populateOnDemand);
		expect(machine.domain(HVM).frames).toBe(before + 1);
		expect(done(machine, touch(HVM, 1030))).toBe(mfn);
		checkInvariants(machine);
	});

	test("whatever looks for memory touches: writes, grants, foreign maps, event pages", () => {
		const machine = baseMachine();
		doneAll(
			machine,
			...[700, 701, 702, 703, 704].map((gfn) => onDemand(HVM, gfn)),
			{ op: "memory_write", domid: HVM, gfn: 700, slot: 0, value: 5 },
			{ op: "grant_access", domid: HVM, ref: 8, grantee: STUB, gfn: 701 },
			{ op: "gnttab_map_grant_ref", domid: STUB, granter: HVM, ref: 8, kind: "host", gfn: 900 },
			{ op: "map_foreign", domid: STUB, gfn: 901, foreign: HVM, foreignGfn: 702 },
			{ op: "vcpu_register_info", domid: HVM, vcpu: 0, gfn: 703 },
		);
		expect([700, 701, 702, 703, 704].map((gfn) => typeAt(machine, HVM, gfn))).toEqual(
			[0, 0, 0, 0, 6].map((type) => (type === 6 ? P2M_TYPE.populateOnDemand : P2M_TYPE.ramRw)),
		);
		checkInvariants(machine);
	});

	test("holes are populated outright, given up, or refused where something is", () => {
		const machine = baseMachine();
		doneAll(machine, onDemand(HVM, 700), onDemand(HVM, 701), populate(HVM, 700));
		expect(done(machine, decrease(HVM, 701))).toBe(1);
		expect(typeAt(machine, HVM, 701)).toBe(0);
		refused(machine, onDemand(HVM, 0), "EBUSY");
		refused(machine, onDemand(HVM, 512, 9), "EBUSY");
		refused(machine, onDemand(HVM, 1025, 9), "EINVAL");
		refused(machine, onDemand(HVM, 2 ** 18, 18), "EINVAL");
		refused(machine, onDemand(PV, 0), "ENOSYS");
		refused(machine, touch(HVM, 1500), "EFAULT");
		refused(machine, touch(9, 0), "ESRCH");
		done(machine, onDemand(HVM, 702));
		done(machine, { op: "domain_max_mem", domid: HVM, frames: 541 });
		refused(machine, touch(HVM, 702), "ENOMEM");
	});
});

describe("decrease_reservation", () => {
	test("of a frame that is mapped leaves it owned, not allocated, until the last mapping is gone", () => {
		const machine = baseMachine();
		const mfn = mfnOf(machine, HVM, 520) as number;
		done(machine, { op: "map_foreign", domid: STUB, gfn: 900, foreign: HVM, foreignGfn: 520 });
		expect(references(machine, mfn)).toEqual([2, 0]);
		done(machine, decrease(HVM, 520));
		expect(references(machine, mfn)).toEqual([1, 0]);
		expect(machine.frames.has(mfn, FRAME.allocated)).toBe(false);
		expect(machine.frames.ownerOf(mfn)).toBe(HVM);
		expect(machine.domain(HVM).frames).toBe(540);
		checkInvariants(machine);
		done(machine, remove(STUB, 900));
		expect(machine.frames.isFree(mfn)).toBe(true);
		expect(machine.domain(HVM).frames).toBe(539);
		checkInvariants(machine);
	});

	test("of a PV frame that tables map frees it with the last entry", () => {
		const machine = baseMachine();
		const { l1, plain } = pvLayout(machine, PV);
		const mfn = plain[4] as number;
		expect(done(machine, decrease(PV, mfn))).toBe(1);
		expect(references(machine, mfn)).toEqual([1, 1]);
		refused(machine, decrease(PV, mfn), "EINVAL");
		checkInvariants(machine);
		done(machine, { op: "mmu_update", domid: PV, table: l1, slot: 4, value: 0 });
		expect(machine.frames.isFree(mfn)).toBe(true);
		checkInvariants(machine);
	});

	test("stops at the first frame that is not there, and says how far it got", () => {
		const machine = baseMachine();
		done(machine, decrease(HVM, 3));
		expect(done(machine, decrease(HVM, 0, 9))).toBe(3);
		refused(machine, decrease(HVM, 3), "EINVAL");
		refused(machine, decrease(HVM, 1, 9), "EINVAL");
		refused(machine, decrease(HVM, 0, 3), "EINVAL");
		refused(machine, decrease(PV, pvLayout(machine, 0).root), "EINVAL");
		refused(machine, decrease(PV, Number(machine.domain(PV).tables.sharedInfo?.mfn)), "EINVAL");
		refused(machine, decrease(9, 0), "ESRCH");
	});

	test("what a frame held is not there when it is given out again", () => {
		const machine = baseMachine();
		done(machine, { op: "memory_write", domid: HVM, gfn: 520, slot: 1, value: 77 });
		const mfn = mfnOf(machine, HVM, 520) as number;
		done(machine, decrease(HVM, 520));
		expect(machine.memory.entry(mfn, 1)).toBe(0n);
	});
});

describe("memory_mapping", () => {
	const map = (gfn: number, mfn: number, count: number, add = true, domid = HVM) => ({
		op: "memory_mapping",
		domid,
		gfn,
		mfn,
		count,
		add,
	});

	test("maps I/O memory that the domain may use, without references, and takes it away", () => {
		const machine = baseMachine();
		const before = snapshot(machine);
		done(machine, map(800, IO_FRAME, 8));
		expect(changeSince(before, machine)).toBeDefined();
		expect([800, 807].map((gfn) => [mfnOf(machine, HVM, gfn), typeAt(machine, HVM, gfn)])).toEqual([
			[IO_FRAME, P2M_TYPE.mmioDirect],
			[IO_FRAME + 7, P2M_TYPE.mmioDirect],
		]);
		expect(references(machine, IO_FRAME)).toEqual([1, 0]);
		checkInvariants(machine);
		done(machine, map(800, IO_FRAME, 8, false));
		expect(changeSince(before, machine)).toBeUndefined();
		expect(mfnOf(machine, HVM, 800)).toBeUndefined();
	});

	test("is refused without permission, over memory, of memory, and of other frames than are mapped", () => {
		const machine = baseMachine();
		refused(machine, map(800, 0x10, 1), "EPERM");
		refused(machine, map(800, IO_FRAME, 9), "EPERM");
		refused(machine, map(800, IO_FRAME, 65), "E2BIG");
		refused(machine, map(800, IO_FRAME, 0), "EINVAL");
		refused(machine, map(538, IO_FRAME, 4), "EINVAL");
		refused(machine, map(800, IO_FRAME, 1, false), "EINVAL");
		done(machine, map(800, IO_FRAME, 2));
		refused(machine, map(801, IO_FRAME, 1), "EINVAL");
		refused(machine, map(800, IO_FRAME + 1, 1, false), "EINVAL");
		refused(machine, map(0, IO_FRAME, 1, true, PV), "ENOSYS");
		refused(machine, remove(HVM, 800), "ENOENT");
		refused(machine, decrease(HVM, 800), "EINVAL");
	});
});

describe("foreign frames", () => {
	const map = (gfn: number, foreign: number, foreignGfn: number, domid = STUB) => ({
		op: "map_foreign",
		domid,
		gfn,
		foreign,
		foreignGfn,
	});

	test("take one page reference and no type, and are listed", () => {
		const machine = baseMachine();
		const mfn = mfnOf(machine, HVM, 10) as number;
		expect(done(machine, map(900, HVM, 10))).toBe(0);
		done(machine, map(850, HVM, 10));
		expect(references(machine, mfn)).toEqual([3, 0]);
		expect(machine.domain(STUB).tables.foreignMapList).toEqual([
			{ gfn: 850n, mfn: BigInt(mfn), owner: HVM },
			{ gfn: 900n, mfn: BigInt(mfn), owner: HVM },
		]);
		doneAll(machine, remove(STUB, 850), remove(STUB, 900));
		expect(references(machine, mfn)).toEqual([1, 0]);
		expect(machine.domain(STUB).tables.foreignMapList).toEqual([]);
		checkInvariants(machine);
	});

	test("are its target's for a stub domain, anybody's for a privileged one, and nobody's else", () => {
		const machine = baseMachine();
		mustRun(machine, [{ op: "domain_create", domid: 5, kind: "pvh", frames: 16 }]);
		// Beside dom0, which is the hardware domain as well.
		machine.domain(5).tables.domain.createFlags |= CREATE.privileged;
		const { plain } = pvLayout(machine, PV);
		const [mfn] = plain as [number];
		done(machine, map(100, PV, mfn, 5));
		expect(references(machine, mfn)).toEqual([3, 1]);
		checkInvariants(machine);
		refused(machine, map(900, PV, mfn), "EPERM");
		refused(machine, map(900, STUB, 3, HVM), "EPERM");
		refused(machine, map(900, STUB, 3), "EINVAL");
		refused(machine, map(900, HVM, 1500), "EINVAL");
		refused(machine, map(3, HVM, 3), "EINVAL");
		refused(machine, map(100, PV, mfn, PV), "ENOSYS");
		refused(machine, map(900, 44, 3), "ESRCH");
		refused(machine, map(101, PV, Number(machine.domain(PV).tables.sharedInfo?.mfn), 5), "EINVAL");
		refused(machine, map(101, HVM, 0, 44), "ESRCH");
	});
});

describe("remove_from_physmap", () => {
	test("leaves memory allocated, at no GFN", () => {
		const machine = baseMachine();
		const mfn = mfnOf(machine, HVM, 530) as number;
		done(machine, remove(HVM, 530));
		expect(references(machine, mfn)).toEqual([1, 0]);
		expect(machine.frames.has(mfn, FRAME.allocated)).toBe(true);
		expect(machine.domain(HVM).frames).toBe(540);
		checkInvariants(machine);
	});

	test("is refused for holes, for a grant's mapping, and to PV guests", () => {
		const machine = baseMachine();
		doneAll(
			machine,
			onDemand(STUB, 800),
			{ op: "grant_access", domid: HVM, ref: 8, grantee: STUB, gfn: 5 },
			{ op: "gnttab_map_grant_ref", domid: STUB, granter: HVM, ref: 8, kind: "host", gfn: 900 },
		);
		refused(machine, remove(STUB, 901), "ENOENT");
		refused(machine, remove(STUB, 800), "ENOENT");
		refused(machine, remove(STUB, 900), "EINVAL");
		refused(machine, remove(PV, 0), "ENOSYS");
		refused(machine, decrease(STUB, 900), "EINVAL");
	});
});

describe("types and access rights", () => {
	test("of one page, which leaves its superpage; between read-only and claimed only through read-write", () => {
		const machine = baseMachine();
		const type = (gfn: number, name: string, domid = HVM) => ({ op: "set_mem_type", domid, gfn, type: name });
		refused(machine, type(5, "ioreq_server"), "EINVAL");
		doneAll(
			machine,
			{ op: "ioreq_create", domid: 0, guest: HVM },
			{ op: "ioreq_claim_writes", domid: 0, guest: HVM, server: 0 },
			type(5, "ioreq_server"),
			type(6, "ro"),
		);
		expect([4, 5, 6].map((gfn) => entryOf(machine, HVM, gfn))).toEqual([
			{ type: P2M_TYPE.ramRw, access: 7, order: 0 },
			{ type: P2M_TYPE.ioreqServer, access: 7, order: 0 },
			{ type: P2M_TYPE.ramRo, access: 7, order: 0 },
		]);
		checkInvariants(machine);
		refused(machine, type(5, "ro"), "EINVAL");
		refused(machine, type(6, "ioreq_server"), "EINVAL");
		doneAll(machine, type(5, "rw"), type(5, "ro"), type(6, "rw"));
		refused(machine, type(1500, "ro"), "EINVAL");
		refused(machine, type(5, "ro", STUB), "EINVAL");
		refused(machine, type(5, "ro", PV), "ENOSYS");
	});

	test("access changes one page", () => {
		const machine = baseMachine();
		const access = (gfn: number, value: number, domid = HVM) => ({ op: "set_mem_access", domid, gfn, access: value });
		done(machine, access(5, 1));
		expect([4, 5].map((gfn) => entryOf(machine, HVM, gfn))).toEqual([
			{ type: P2M_TYPE.ramRw, access: 7, order: 0 },
			{ type: P2M_TYPE.ramRw, access: 1, order: 0 },
		]);
		refused(machine, access(5, 11), "EINVAL");
		refused(machine, access(5, -1), "EINVAL");
		refused(machine, access(1500, 1), "ESRCH");
		done(machine, onDemand(HVM, 700));
		refused(machine, access(700, 1), "EINVAL");
		refused(machine, access(0, 1, PV), "ENOSYS");
	});
});
