/**
 * 32-bit PV guests: page tables of three levels, with Xen's part in the last entry's L2 table; contexts, event channels and
 * shared_info of their own width; and updates between.
 */
import { describe, expect, test } from "vitest";
import { EVTCHN_STATE, LIFE, PAGE_TYPE, PAGE_TYPE_FLAG } from "../../../src/format/enums.ts";
import { Machine, type Operation, resultText, runOperation } from "../../../src/machine/live/index.ts";
import { updateMachine as liveUpdateMachine } from "../../../src/update.ts";
import { coreModule } from "../../support/core.ts";
import {
	baseMachine,
	imageDifference,
	machineWithNarrow,
	memoryDifference,
	NARROW,
	updateMachine,
} from "../../support/living.ts";
import {
	checkInvariants,
	DIRECT_MAP_SLOT_32,
	done,
	doneAll,
	drained,
	freeFrames,
	hex,
	pte,
	pv32Layout,
	pvLayout,
	references,
	refused,
	XEN_SLOT_32,
} from "../../support/operations.ts";
import { NARROW as SECOND, secondHost } from "../../support/secondHost.ts";

const WIDE = 1;
const XEN_L2 = PAGE_TYPE.l2 | PAGE_TYPE_FLAG.paeXenL2;

function fresh() {
	const machine = machineWithNarrow();
	const layout = pv32Layout(machine, NARROW);
	/** A frame that nothing maps. */
	const extra = (): number => done(machine, { op: "populate_physmap", domid: NARROW });
	const write = (gfn: number, slot: number, value: string): void => {
		done(machine, { op: "memory_write", domid: NARROW, gfn, slot, value });
	};
	/** An L3 table to be, and the L2 table of its last entry. */
	const other = (): [l3: number, l2: number] => {
		const [l3, l2] = [extra(), extra()];
		write(l3, DIRECT_MAP_SLOT_32, pte(l2, "ro"));
		return [l3, l2];
	};
	return { machine, ...layout, extra, write, other, counts: (mfn: number) => references(machine, mfn) };
}

const update = (table: number, slot: number, value: string): Operation => ({
	op: "mmu_update",
	domid: NARROW,
	table,
	slot,
	value,
});
const pin = (mfn: number, level: number): Operation => ({ op: "mmuext_pin_table", domid: NARROW, mfn, level });
const unpin = (mfn: number): Operation => ({ op: "mmuext_unpin_table", domid: NARROW, mfn });
const baseptr = (mfn: number, vcpu = 0, user = false): Operation => ({
	op: "mmuext_new_baseptr",
	domid: NARROW,
	vcpu,
	mfn,
	user,
});
const typeOf = ({ frames }: Machine, mfn: number): number => frames.tableTypeOf(mfn);

describe("a 32-bit guest", () => {
	test("runs on an L3 table, whose last entry leads to an L2 table with Xen's part; an update carries all of it", () => {
		const { machine, l3, l2, l1, gdt, plain, counts } = fresh();
		expect([l3, l2, l1, gdt].map((mfn) => typeOf(machine, mfn))).toEqual([
			PAGE_TYPE.l3,
			XEN_L2,
			PAGE_TYPE.l1,
			PAGE_TYPE.segDesc,
		]);
		// Allocated, pinned, cr3, read-only L1 entry; pinned and cr3. Below: the entry above, an L1 entry.
		expect([l3, l2, l1, gdt].map(counts)).toEqual([
			[4, 2],
			[3, 1],
			[3, 1],
			[3, 1],
		]);
		expect(plain.map(counts)).toEqual(plain.map(() => [2, 1]));
		const { tables } = machine.domain(NARROW);
		expect([tables.domain.guestWidth, tables.pv32, tables.pvVcpu]).toEqual([4, { xenStart: 0xf580_0000 }, []]);
		expect(machine.domain(NARROW).pv32Vcpu(0)).toMatchObject({ eip: 0xc100_0000, cs: 0xe019, gdtEntries: 512 });
		checkInvariants(machine);

		const updated = updateMachine(machine);
		expect(imageDifference(updated.before, updated.after)).toBeUndefined();
		expect(pv32Layout(updated.machine, NARROW)).toEqual({ l3, l2, l1, gdt, plain });
	});

	test("comes and goes, and leaves all frames as they were; one whose frames are mapped stays dead, through an update", () => {
		const machine = baseMachine();
		const free = freeFrames(machine);
		const create = { op: "domain_create", domid: NARROW, kind: "pv", width: 32, frames: 600, vcpus: 3 };
		done(machine, create);
		checkInvariants(machine);
		expect(done(machine, { op: "domain_destroy", domid: NARROW })).toBe(0);
		expect([machine.domains.has(NARROW), freeFrames(machine)]).toEqual([false, free]);

		done(machine, create);
		const { l1 } = pvLayout(machine, 0);
		const [frame] = pv32Layout(machine, NARROW).plain as [number];
		const map = { op: "mmu_update", domid: 0, table: l1, slot: 300, value: pte(frame, "rw"), owner: NARROW };
		done(machine, map);
		expect(done(machine, { op: "domain_destroy", domid: NARROW })).toBe(1);
		const { machine: xen2, before, after } = updateMachine(machine);
		expect(imageDifference(before, after)).toBeUndefined();
		expect(xen2.domain(NARROW).tables).toMatchObject({ domain: { life: LIFE.dead, guestWidth: 4 }, pv32: undefined });
		done(xen2, { op: "mmu_update", domid: 0, table: l1, slot: 300, value: "0x0" });
		expect([xen2.domains.has(NARROW), freeFrames(xen2)]).toEqual([false, free]);
	});

	test("is a PV guest of a width that there is, and no larger than its part of the last GiB", () => {
		const machine = baseMachine();
		const create = (rest: object) => ({ op: "domain_create", domid: 7, kind: "pv", width: 32, ...rest });
		for (const kind of ["pvh", "hvm"]) refused(machine, create({ kind }), "EINVAL");
		for (const width of [0, 4, 16, 33]) refused(machine, create({ width }), "EINVAL");
		refused(machine, create({ frames: XEN_SLOT_32 * 512 + 1 }), "EINVAL");
		refused(machine, create({ frames: XEN_SLOT_32 * 512 }), "ENOMEM");
	});

	test("of a host that was not made by operations is taken as it is: a table of its is changed, before and after an update", () => {
		const { model, preserved } = secondHost();
		const machine = Machine.fromHost({ name: "second", model, preserved, assumptions: [] });
		const of = (op: string, rest: object): Operation => ({ op, domid: SECOND, ...rest });
		const before: Operation[] = [
			of("mmu_update", { table: 840, slot: 1, value: pte(855, "ro") }),
			of("mmu_update", { table: 842, slot: 5, value: pte(843, "rw") }),
		];
		for (const operation of before) done(machine, operation);
		expect([855, 842, 843].map((mfn) => machine.frames.tableTypeOf(mfn))).toEqual([PAGE_TYPE.l2, XEN_L2, PAGE_TYPE.l1]);
		expect(references(machine, 843)).toEqual([5, 3]);
		const updated = updateMachine(machine);
		expect(imageDifference(updated.before, updated.after)).toBeUndefined();
		for (const one of [machine, updated.machine]) {
			refused(one, of("mmu_update", { table: 842, slot: XEN_SLOT_32, value: "0x0" }), "EPERM");
			doneAll(one, of("mmu_update", { table: 842, slot: 5, value: "0x0" }), of("mmuext_unpin_table", { mfn: 843 }));
			expect(references(one, 843)).toEqual([3, 1]);
		}
		expect(imageDifference(machine.image(), updated.machine.image())).toBeUndefined();
	});

	test("has no update to a xen#2 that knows version 1 alone: its guests are not even paused", async () => {
		const options = { module: coreModule, xen2Format: 1 };
		await expect(liveUpdateMachine(machineWithNarrow(), options)).rejects.toMatchObject({
			outcome: "not paused",
			code: "XLU_E_REFUSED",
			rule: "XLU-R047",
			domid: NARROW,
			record: "LU_PV32",
		});
		expect((await liveUpdateMachine(baseMachine(), options)).report.identical).toBe(true);
	});
});

describe("page tables of three levels", () => {
	test("a second L3 table, pinned and run on; the first one gives up what it held", () => {
		const { machine, l3, l2, l1, plain, other, counts } = fresh();
		const [second, xenL2] = other();
		done(machine, pin(second, 3));
		expect([second, xenL2].map(counts)).toEqual([
			[2, 1],
			[2, 1],
		]);
		expect(typeOf(machine, xenL2)).toBe(XEN_L2);
		doneAll(machine, baseptr(second), unpin(l3));
		expect([l3, l2, l1, plain[0] as number, second].map(counts)).toEqual([
			[1, 0],
			[1, 0],
			[1, 0],
			[1, 0],
			[3, 2],
		]);
		expect([l3, l2].map((mfn) => machine.frames.types[mfn])).toEqual([PAGE_TYPE.none, PAGE_TYPE.none]);
		checkInvariants(machine);
		doneAll(machine, pin(l3, 3), baseptr(l3), unpin(second));
		expect([l3, l2, xenL2].map(counts)).toEqual([
			[4, 2],
			[3, 1],
			[1, 0],
		]);
		checkInvariants(machine);
	});

	test("the first three entries name ordinary L2 tables, which may be shared; an update stands between", () => {
		const { machine, l3, l1, extra, other, counts } = fresh();
		const [l2, second] = [extra(), other()[0]];
		doneAll(machine, update(l3, 0, pte(l2, "ro")), update(l3, 2, pte(l2, "ro")), update(l2, 511, pte(l1, "rw")));
		expect([typeOf(machine, l2), counts(l2), counts(l1)]).toEqual([PAGE_TYPE.l2, [3, 2], [4, 2]]);
		const { machine: xen2, before, after } = updateMachine(machine);
		expect(imageDifference(before, after)).toBeUndefined();
		const later: Operation[] = [
			{ op: "memory_write", domid: NARROW, gfn: second, slot: 1, value: pte(l2, "ro") },
			pin(second, 3),
			update(l2, 7, pte(l2, "ro")),
			update(l3, 0, "0x0"),
			update(l3, 2, "0x0"),
			baseptr(second),
			unpin(l3),
		];
		for (const operation of later) expect(done(xen2, operation)).toBe(done(machine, operation));
		expect(imageDifference(machine.image(), xen2.image())).toBeUndefined();
		expect(memoryDifference(machine, xen2)).toBeUndefined();
		// The second L3 table's, and of its own linear entry nothing; its L1 table is in use by it alone, and maps itself read-only.
		expect([l2, l1].map((mfn) => references(xen2, mfn))).toEqual([
			[2, 1],
			[3, 1],
		]);
		checkInvariants(xen2);
	});

	test("an L3 table needs its last entry, with an L2 table of its own", () => {
		const { machine, l3, l2, extra, write, other, counts } = fresh();
		const [third, plainL2] = [extra(), extra()];
		refused(machine, pin(third, 3), "EINVAL");
		write(third, DIRECT_MAP_SLOT_32, pte(l2, "ro"));
		refused(machine, pin(third, 3), "EINVAL");
		done(machine, update(l3, 0, pte(plainL2, "ro")));
		write(third, DIRECT_MAP_SLOT_32, pte(plainL2, "ro"));
		refused(machine, pin(third, 3), "EINVAL");
		// What has Xen's part has no other place, and no pin.
		refused(machine, update(l3, 1, pte(l2, "ro")), "EINVAL");
		refused(machine, pin(l2, 2), "EINVAL");
		// A table before it is given up with the rest.
		const [fourth, xenL2] = other();
		write(fourth, 0, pte(plainL2, "ro"));
		write(fourth, 1, pte(xenL2, "ro"));
		refused(machine, pin(fourth, 3), "EINVAL");
		expect([plainL2, xenL2, fourth].map(counts)).toEqual([
			[2, 1],
			[1, 0],
			[1, 0],
		]);
		checkInvariants(machine);
	});

	test("the last entry stays, those behind it are none, and what the guest left there is cleared", () => {
		const { machine, l3, l2, extra, write, other } = fresh();
		for (const value of ["0x0", pte(l2, "rw"), pte(extra(), "ro")]) refused(machine, update(l3, 3, value), "EINVAL");
		for (const slot of [4, 511]) refused(machine, update(l3, slot, pte(extra(), "ro")), "EINVAL");
		const [second] = other();
		write(second, 4, "0xffffffffffffffff");
		write(second, 511, "0x1");
		done(machine, pin(second, 3));
		expect([4, 511].map((slot) => machine.memory.entry(second, slot))).toEqual([0n, 0n]);
		expect(machine.memory.entry(second, 3)).not.toBe(0n);
	});

	test("Xen's slots of the L2 table are Xen's, in that one alone", () => {
		const { machine, l3, l2, l1, extra, other, write, counts } = fresh();
		const table = extra();
		doneAll(machine, update(l3, 0, pte(table, "ro")), update(table, XEN_SLOT_32, pte(l1, "rw")));
		expect(counts(l1)).toEqual([4, 2]);
		for (const slot of [XEN_SLOT_32, 511])
			for (const value of ["0x0", pte(l1, "rw")]) refused(machine, update(l2, slot, value), "EPERM");
		done(machine, update(l2, XEN_SLOT_32 - 1, pte(l1, "rw")));
		expect(counts(l1)).toEqual([5, 3]);
		// What stands there when it is validated holds nothing.
		const [second, xenL2] = other();
		write(xenL2, XEN_SLOT_32, pte(1, "rw"));
		write(xenL2, XEN_SLOT_32 - 1, pte(l1, "rw"));
		done(machine, pin(second, 3));
		expect(counts(l1)).toEqual([6, 4]);
		checkInvariants(machine);
		expect(updateMachine(machine).machine.frames.typeReferences(l1)).toBe(4);
		done(machine, unpin(second));
		expect(counts(l1)).toEqual([5, 3]);
	});

	test("has no L4, no user's table, no linear L3, and no bits that an L3 entry of PAE may not have", () => {
		const { machine, l3, l1, extra } = fresh();
		const [table, wide] = [extra(), pvLayout(machine, WIDE)];
		refused(machine, pin(table, 4), "EINVAL");
		refused(machine, pin(l3, 4), "EINVAL");
		refused(machine, baseptr(0), "EINVAL");
		for (const mfn of [table, l1, wide.root, wide.l3]) refused(machine, baseptr(mfn), "EINVAL");
		for (const mfn of [0, l3]) refused(machine, baseptr(mfn, 0, true), "EINVAL");
		refused(machine, baseptr(l3, 1), "EINVAL");
		for (const access of ["ro", "rw"] as const) refused(machine, update(l3, 0, pte(l3, access)), "EINVAL");
		for (const bit of [3n, 4n, 7n, 8n, 52n, 63n])
			refused(machine, update(l3, 0, hex((1n << bit) | BigInt(pte(table, "ro")))), "EINVAL");
		done(machine, update(l3, 0, pte(table, "ro")));
		// Of a 64-bit guest the same entries are nobody's special ones.
		done(machine, { op: "mmu_update", domid: WIDE, table: wide.l3, slot: 3, value: pte(wide.l2, "rw") });
		refused(machine, { ...update(l1, 0, pte(l3, "rw")), domid: WIDE }, "EINVAL");
		refused(machine, update(l1, 0, pte(l3, "rw")), "EBUSY");
	});

	test("contexts have 32 bits: registers, entry points, addresses; a second vCPU holds its table and GDT", () => {
		const { machine, l3, gdt, extra, counts } = fresh();
		const on = (op: string, rest: object): Operation => ({ op, domid: NARROW, vcpu: 1, ...rest });
		refused(machine, on("vcpu_initialise", { mfn: l3, rip: "0x100000000" }), "EINVAL");
		refused(machine, on("vcpu_initialise", { mfn: gdt, rip: "0xc0001000" }), "EINVAL");
		refused(machine, on("vcpu_set_register", { register: "rip", value: 1 }), "EINVAL");
		const other = extra();
		doneAll(
			machine,
			on("vcpu_initialise", { mfn: l3, rip: "0xc0001000" }),
			on("set_gdt", { mfns: [gdt, other], entries: 600 }),
			on("vcpu_up", {}),
			on("vcpu_set_register", { register: "rsp", value: "0xffffffff" }),
			on("vcpu_register_runstate", { address: "0xc0002000" }),
		);
		refused(machine, on("vcpu_set_register", { register: "rax", value: "0x100000000" }), "EINVAL");
		refused(machine, on("vcpu_register_runstate", { address: "0x100000000" }), "EINVAL");
		expect([l3, gdt, other].map(counts)).toEqual([
			[5, 3],
			[4, 2],
			[2, 1],
		]);
		const { machine: xen2 } = updateMachine(machine);
		expect(xen2.domain(NARROW).pv32Vcpu(1)).toMatchObject({
			eip: 0xc000_1000,
			esp: 0xffff_ffff,
			cr3: BigInt(l3) << 12n,
			gdtEntries: 600,
		});
		checkInvariants(xen2);
		done(xen2, on("set_gdt", { mfns: [], entries: 0 }));
		expect(references(xen2, other)).toEqual([1, 0]);
	});
});

describe("event channels of a 32-bit guest", () => {
	const ipi: Operation = { op: "evtchn_bind_ipi", domid: NARROW, vcpu: 0 };
	const on = (op: string, port: number): Operation => ({ op, domid: NARROW, port });
	const octet = (machine: Machine, at: number): number =>
		machine.memory.look(Number(machine.domain(NARROW).tables.sharedInfo?.mfn))[at] as number;
	/** shared_info of 32-bit guests (public/xen.h): after 32 vcpu_info of 64 octets, 128 octets of pending bits, then masks. */
	const [SELECTOR, PENDING, MASK] = [4, 2048, 2176];

	test("stand in words of 32 bits, in an update as well", () => {
		const { machine } = fresh();
		for (let port = 1; port <= 40; port++) expect(done(machine, ipi)).toBe(port);
		doneAll(machine, on("evtchn_mask", 39), ...[3, 31, 32, 39, 40].map((port) => on("evtchn_send", port)));
		expect([3, 4, 5].map((at) => octet(machine, PENDING + at))).toEqual([0x80, 0x81, 1]);
		expect([octet(machine, MASK + 4), octet(machine, SELECTOR)]).toEqual([0x80, 3]);
		const { machine: xen2 } = updateMachine(machine);
		expect(drained(xen2, NARROW)).toEqual([3, 31, 32, 40]);
		done(xen2, on("evtchn_unmask", 39));
		expect(drained(xen2, NARROW)).toEqual([39]);
		expect(octet(xen2, SELECTOR)).toBe(0);
	});

	test("are 1023 at most, where those of a 64-bit guest are 4095", () => {
		const machine = machineWithNarrow();
		for (let port = 1; port < 1024; port++) done(machine, ipi);
		refused(machine, ipi, "ENOSPC");
		expect(machine.domain(NARROW).tables.ports).toHaveLength(1024);
		done(machine, on("evtchn_send", 1023));
		expect(octet(machine, PENDING + 127)).toBe(0x80);
		const { machine: xen2, before, after } = updateMachine(machine);
		expect(imageDifference(before, after)).toBeUndefined();
		expect(resultText("evtchn_bind_ipi", runOperation(xen2, ipi) as number)).toBe("ENOSPC");
		expect(drained(xen2, NARROW)).toEqual([1023]);
		expect(xen2.domain(NARROW).tables.ports[1023]?.state).toBe(EVTCHN_STATE.ipi);
		for (let port = 1; port <= 1024; port++) done(machine, { ...ipi, domid: WIDE });
	});

	test("a registered vcpu_info has a selector of one word, all of whose bits are set at first", () => {
		const { machine, plain } = fresh();
		const [frame] = plain as [number];
		machine.memory.page(frame).fill(0xee, 256, 384);
		done(machine, { op: "vcpu_register_info", domid: NARROW, vcpu: 0, gfn: frame, offset: 256 });
		const page = machine.memory.look(frame);
		expect([...page.subarray(256 + SELECTOR, 256 + 12)]).toEqual([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
		expect([page[256], page[255], page[320]]).toEqual([1, 0, 0xee]);
		checkInvariants(machine);
	});
});
