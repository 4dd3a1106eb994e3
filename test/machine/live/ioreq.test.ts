/** I/O request servers: ports, pages as their emulators map them, ranges, and what is left when a server goes. */
import { describe, expect, test } from "vitest";
import { BUFIOREQ, FRAME, IOREQ_FLAG, IOREQ_PAGE_FLAG, P2M_TYPE } from "../../../src/format/enums.ts";
import type { Machine } from "../../../src/machine/live/index.ts";
import { baseMachine, updateMachine } from "../../support/living.ts";
import {
	checkInvariants,
	done,
	doneAll,
	freeFrames,
	mfnOf,
	pte,
	pvLayout,
	references,
	refused,
} from "../../support/operations.ts";

const [DOM0, PV, HVM, STUB] = [0, 1, 2, 3];
const SLOT = 200;
const create = (domid = DOM0, buffered = true, guest = HVM) => ({ op: "ioreq_create", domid, guest, buffered });
const on = (op: string, domid: number, rest: object = {}) => ({ op, domid, guest: HVM, server: 0, ...rest });
const acquire = (machine: Machine, role: number, slot = SLOT + role) =>
	on("ioreq_acquire_page", DOM0, { role, table: pvLayout(machine, DOM0).l1, slot });
const acquireByStub = (role: number, gfn = 900 + role) => on("ioreq_acquire_page", STUB, { role, gfn });
const pagesOf = (machine: Machine): number[] => machine.domain(HVM).tables.ioreqPages.map(({ mfn }) => Number(mfn));

describe("a server", () => {
	test("has a port for each vCPU, and one for buffered requests, and holds its emulator", () => {
		const machine = baseMachine();
		expect(doneAll(machine, create(), create(STUB, false))).toEqual([0, 1]);
		const { tables } = machine.domain(HVM);
		expect(tables.ioreqServerList).toEqual([
			{ serverId: 0, emulator: DOM0, bufferedMode: BUFIOREQ.atomic, flags: 0, bufferedPort: 2 },
			{ serverId: 1, emulator: STUB, bufferedMode: BUFIOREQ.off, flags: 0, bufferedPort: 0 },
		]);
		expect(tables.ioreqPorts).toEqual([
			{ serverId: 0, vcpuId: 0, port: 1 },
			{ serverId: 0, vcpuId: 1, port: 3 },
			{ serverId: 1, vcpuId: 0, port: 4 },
			{ serverId: 1, vcpuId: 1, port: 5 },
		]);
		expect([machine.domain(DOM0).references, machine.domain(STUB).references]).toEqual([4, 4]);
		checkInvariants(machine);
	});

	test("gets the lowest identifier of eight, once others are gone", () => {
		const machine = baseMachine();
		for (let id = 0; id < 8; id++) expect(done(machine, create())).toBe(id);
		refused(machine, create(), "ENOSPC");
		done(machine, on("ioreq_destroy", DOM0, { server: 3 }));
		expect(done(machine, create())).toBe(3);
	});

	test("is a privileged domain's or the guest's stub's, of an HVM guest, with ports for all of it", () => {
		const machine = baseMachine();
		refused(machine, create(PV), "EPERM");
		refused(machine, create(DOM0, true, PV), "ENOSYS");
		refused(machine, create(DOM0, true, STUB), "EINVAL");
		refused(machine, create(DOM0, true, 66), "ESRCH");
		refused(machine, create(66), "ESRCH");
		machine.domain(HVM).tables.domain.maxEvtchnPort = 2;
		refused(machine, create(), "ENOSPC");
		expect(machine.domain(HVM).tables.ports.every((row) => row === undefined)).toBe(true);
	});

	test("is its emulator's alone", () => {
		const machine = baseMachine();
		done(machine, create());
		for (const [op, rest] of [
			["ioreq_acquire_page", { gfn: 900 }],
			["ioreq_set_state", {}],
			["ioreq_claim_writes", {}],
			["ioreq_map_range", { type: "port", first: 0, last: 1 }],
			["ioreq_unmap_range", { type: "port", first: 0, last: 1 }],
			["ioreq_destroy", {}],
		] as const) {
			refused(machine, on(op, STUB, rest), "EPERM");
			refused(machine, on(op, PV, rest), "EPERM");
			refused(machine, on(op, DOM0, { ...rest, server: 1 }), "ENOENT");
			refused(machine, on(op, PV, { ...rest, server: 1 }), "EPERM");
			refused(machine, on(op, DOM0, { ...rest, guest: 66 }), "ESRCH");
			refused(machine, on(op, 66, rest), "ESRCH");
		}
	});
});

describe("a server's pages", () => {
	test("mapped by a PV dom0 have three references and one type, as captured hosts show", () => {
		const machine = baseMachine();
		const l1 = pvLayout(machine, DOM0).l1;
		done(machine, create());
		const first = done(machine, acquire(machine, 0));
		// Both are allocated at once; the other one is not mapped yet.
		expect(pagesOf(machine)).toEqual([first, expect.any(Number)]);
		const second = pagesOf(machine)[1] as number;
		expect([first, second].map((mfn) => references(machine, mfn))).toEqual([
			[3, 1],
			[2, 1],
		]);
		expect(done(machine, acquire(machine, 1))).toBe(second);
		expect(references(machine, second)).toEqual([3, 1]);
		expect(machine.memory.entry(l1, SLOT)).toBe(BigInt(pte(first, "rw")));
		expect(machine.frames.has(first, FRAME.extra)).toBe(true);
		expect([machine.domain(HVM).extraFrames, machine.domain(HVM).frames]).toEqual([2, 540]);
		expect(machine.domain(HVM).tables.ioreqPages[0]).toMatchObject({ role: 0, flags: IOREQ_PAGE_FLAG.resource });
		checkInvariants(machine);
		expect(done(machine, acquire(machine, 0, SLOT + 5))).toBe(first);
		expect(references(machine, first)).toEqual([4, 1]);
	});

	test("of a PV emulator that is destroyed have one mapping less, before an update and after it", () => {
		const machine = baseMachine();
		done(machine, create());
		const page = done(machine, acquire(machine, 0));
		expect(references(machine, page)).toEqual([3, 1]);
		// The server holds it: it is dead, but not gone.
		expect(done(machine, { op: "domain_destroy", domid: DOM0 })).toBe(1);
		expect(references(machine, page)).toEqual([2, 1]);
		checkInvariants(machine);
		const { machine: next } = updateMachine(machine);
		expect(references(next, page)).toEqual([2, 1]);
		for (const domid of [STUB, HVM]) done(next, { op: "domain_destroy", domid });
		expect([next.domains.has(HVM), next.domains.has(DOM0)]).toEqual([false, false]);
	});

	test("mapped by a PVH stub domain stand in its P2M as foreign frames", () => {
		const machine = baseMachine();
		done(machine, create(STUB));
		const first = done(machine, acquireByStub(0));
		done(machine, acquireByStub(1));
		expect(mfnOf(machine, STUB, 900)).toBe(first);
		expect(Number((machine.domain(STUB).tables.p2m?.[900] as bigint) >> 40n) & 15).toBe(P2M_TYPE.foreign);
		expect(pagesOf(machine).map((mfn) => references(machine, mfn))).toEqual([
			[3, 1],
			[3, 1],
		]);
		checkInvariants(machine);
		refused(machine, acquireByStub(0, 3), "EINVAL");
		refused(machine, acquireByStub(2, 950), "EINVAL");
	});

	test("that cannot be mapped are not allocated either", () => {
		const machine = baseMachine();
		doneAll(machine, create(), create(STUB));
		refused(machine, { ...acquire(machine, 0), table: pvLayout(machine, DOM0).root }, "EINVAL");
		refused(machine, { ...acquire(machine, 0), slot: 512 }, "EINVAL");
		refused(machine, { ...acquire(machine, 0), role: 7 }, "EINVAL");
		const { domain, keptRanges } = machine.domain(STUB).tables;
		domain.hapPoolFrames = keptRanges.reduce((sum, { frameCount }) => sum + frameCount, 0n);
		refused(machine, { ...acquireByStub(0, 2 ** 20), server: 1 }, "ENOMEM");
		done(machine, { op: "domain_max_mem", domid: PV, frames: 100_000 });
		while (freeFrames(machine) > 1) done(machine, { op: "populate_physmap", domid: PV });
		refused(machine, acquire(machine, 0), "ENOMEM");
		expect(machine.domain(HVM).extraFrames).toBe(0);
	});

	test("of buffered requests are there only if the server has them", () => {
		const machine = baseMachine();
		done(machine, create(DOM0, false));
		refused(machine, acquire(machine, 1), "ENOENT");
		done(machine, acquire(machine, 0));
		expect(pagesOf(machine).length).toBe(1);
	});

	test("that are mapped when the server goes are the guest's, not allocated, until they are unmapped", () => {
		const machine = baseMachine();
		const l1 = pvLayout(machine, DOM0).l1;
		done(machine, create());
		const first = done(machine, acquire(machine, 0));
		const second = pagesOf(machine)[1] as number;
		done(machine, on("ioreq_destroy", DOM0));
		expect(references(machine, first)).toEqual([1, 0]);
		expect([machine.frames.ownerOf(first), machine.frames.has(first, FRAME.allocated)]).toEqual([HVM, false]);
		expect(machine.frames.isFree(second)).toBe(true);
		const { tables } = machine.domain(HVM);
		expect([tables.ioreqServerList, tables.ioreqPages, tables.ioreqPorts]).toEqual([[], [], []]);
		expect(tables.ports.every((row) => row === undefined)).toBe(true);
		expect(machine.domain(DOM0).references).toBe(3);
		checkInvariants(machine);
		done(machine, { op: "mmu_update", domid: DOM0, table: l1, slot: SLOT, value: 0 });
		expect(machine.frames.isFree(first)).toBe(true);
		expect(machine.domain(HVM).extraFrames).toBe(0);
		checkInvariants(machine);
	});
});

describe("ranges", () => {
	const range = (op: "map" | "unmap", first: number, last: number, type = "port") =>
		on(`ioreq_${op}_range`, DOM0, { type, first, last });
	const ranges = (machine: Machine) =>
		machine.domain(HVM).tables.ioreqRanges.map(({ type, first, last }) => [type, Number(first), Number(last)]);

	test("are sets: what touches is one, what overlaps is refused, parts may go", () => {
		const machine = baseMachine();
		done(machine, create());
		doneAll(machine, range("map", 0x10, 0x1f), range("map", 0x30, 0x3f), range("map", 0x10, 0x1f, "memory"));
		refused(machine, range("map", 0x1f, 0x2f), "EEXIST");
		refused(machine, range("map", 0x14, 0x15), "EEXIST");
		refused(machine, range("map", 0x50, 0x4f), "EINVAL");
		expect(ranges(machine)).toEqual([
			[0, 0x10, 0x1f],
			[0, 0x30, 0x3f],
			[1, 0x10, 0x1f],
		]);
		done(machine, range("map", 0x20, 0x2f));
		expect(ranges(machine)[0]).toEqual([0, 0x10, 0x3f]);
		done(machine, range("unmap", 0x18, 0x27));
		expect(ranges(machine)).toEqual([
			[0, 0x10, 0x17],
			[0, 0x28, 0x3f],
			[1, 0x10, 0x1f],
		]);
		refused(machine, range("unmap", 0x10, 0x28), "ENOENT");
		refused(machine, range("unmap", 0x17, 0x10), "EINVAL");
		refused(machine, range("unmap", 0x10, 0x17, "pci"), "ENOENT");
		doneAll(machine, range("unmap", 0x10, 0x17), range("unmap", 0x28, 0x3f), range("unmap", 0x10, 0x1f, "memory"));
		expect(ranges(machine)).toEqual([]);
	});

	test("are at most 256 of a kind", () => {
		const machine = baseMachine();
		done(machine, create());
		for (let i = 0; i < 256; i++) done(machine, range("map", 16 * i, 16 * i + 4));
		refused(machine, range("map", 16 * 256, 16 * 256 + 4), "ENOMEM");
		refused(machine, range("unmap", 1, 2), "ENOMEM");
		done(machine, range("map", 5, 15));
		done(machine, range("map", 16 * 256, 16 * 256 + 4));
	});
});

describe("states", () => {
	test("enabled and not", () => {
		const machine = baseMachine();
		done(machine, create());
		const flags = () => machine.domain(HVM).tables.ioreqServerList[0]?.flags;
		done(machine, on("ioreq_set_state", DOM0, { enabled: true }));
		expect(flags()).toBe(IOREQ_FLAG.enabled);
		done(machine, on("ioreq_set_state", DOM0, { enabled: false }));
		expect(flags()).toBe(0);
	});

	test("one server claims writes; when it does no more, marked memory is plain again", () => {
		const machine = baseMachine();
		doneAll(machine, create(), create(), on("ioreq_claim_writes", DOM0));
		refused(machine, on("ioreq_claim_writes", DOM0), "EBUSY");
		refused(machine, on("ioreq_claim_writes", DOM0, { server: 1 }), "EBUSY");
		refused(machine, on("ioreq_claim_writes", DOM0, { server: 1, claim: false }), "EINVAL");
		done(machine, { op: "set_mem_type", domid: HVM, gfn: 530, type: "ioreq_server" });
		done(machine, on("ioreq_claim_writes", DOM0, { claim: false }));
		expect(Number((machine.domain(HVM).tables.p2m?.[530] as bigint) >> 40n) & 15).toBe(P2M_TYPE.ramRw);
		refused(machine, on("ioreq_claim_writes", DOM0, { claim: false }), "EINVAL");
		done(machine, on("ioreq_claim_writes", DOM0, { server: 1 }));
	});
});
