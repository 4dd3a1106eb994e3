/** Domains come and go: what they had returns; what others hold of a dead one stays, with the holders' references alone. */
import { describe, expect, test } from "vitest";
import { DOMID, FRAME, LIFE, NO_SHUTDOWN_CODE, PAGE_TYPE, SHUTDOWN_STATE } from "../../../src/format/enums.ts";
import { emptyHost, Machine, runOperation } from "../../../src/machine/live/index.ts";
import { updateMachine as liveUpdateMachine } from "../../../src/update.ts";
import { coreModule } from "../../support/core.ts";
import { baseMachine, FRAMES, updateMachine } from "../../support/living.ts";
import {
	changeSince,
	checkInvariants,
	done,
	doneAll,
	drained,
	freeFrames,
	mfnOf,
	pvLayout,
	references,
	refused,
	snapshot,
} from "../../support/operations.ts";

const [DOM0, PV, HVM, STUB] = [0, 1, 2, 3];
const SLOT = 200;
const destroy = (domid: number) => ({ op: "domain_destroy", domid });
const on = (op: string, domid: number, rest: object = {}) => ({ op, domid, ...rest });
const map = (domid: number, granter: number, ref: number, rest: object) => ({
	op: "gnttab_map_grant_ref",
	domid,
	granter,
	ref,
	kind: "host",
	...rest,
});
const stateOf = (machine: Machine, domid: number) => machine.domain(domid).tables.domainState;

describe("creation and destruction", () => {
	test.each(["pv", "pvh", "hvm"])("of a %s domain leave all frames as they were", (kind) => {
		const machine = baseMachine();
		const [free, before] = [freeFrames(machine), snapshot(machine)];
		expect(done(machine, on("domain_create", 7, { kind, frames: 50, vcpus: 2 }))).toBe(7);
		checkInvariants(machine);
		expect(machine.domain(7).references).toBe(3);
		expect(machine.domain(7).frames).toBe(50);
		expect(machine.domain(7).xenheapFrames).toBe(2);
		expect(done(machine, destroy(7))).toBe(0);
		expect(machine.domains.has(7)).toBe(false);
		expect(freeFrames(machine)).toBe(free);
		// But for the unique id that it used.
		machine.host.host = { ...machine.host.host, nextUniqueId: BigInt(machine.host.host.nextUniqueId ?? 0) - 1n };
		expect(changeSince(before, machine)).toBeUndefined();
	});

	test("of a domain that did a bit of everything leave all frames as they were", () => {
		const machine = baseMachine();
		const free = freeFrames(machine);
		done(machine, on("domain_create", 7, { kind: "hvm", frames: 50, vcpus: 2 }));
		doneAll(
			machine,
			on("populate_on_demand", 7, { gfn: 512, order: 9 }),
			on("memory_touch", 7, { gfn: 600 }),
			on("vcpu_register_info", 7, { vcpu: 0, gfn: 1 }),
			on("evtchn_init_control", 7, { vcpu: 0, gfn: 2 }),
			on("evtchn_expand_array", 7, { gfn: 3 }),
			on("gnttab_setup_table", 7, { frames: 3 }),
			on("grant_set_version", 7, { version: 2 }),
			on("ioreq_create", DOM0, { guest: 7 }),
			on("evtchn_alloc_unbound", 7, { remote: PV }),
			on("domain_set_virq_handler", 7, { virq: 9 }),
			on("grant_access", PV, { ref: 9, grantee: 7, gfn: pvLayout(machine, PV).plain[0] }),
			map(7, PV, 9, { gfn: 1100 }),
		);
		done(
			machine,
			on("ioreq_acquire_page", DOM0, { guest: 7, server: 0, table: pvLayout(machine, DOM0).l1, slot: SLOT }),
		);
		checkInvariants(machine);
		expect(done(machine, destroy(7))).toBe(1);
		checkInvariants(machine);
		done(machine, on("mmu_update", DOM0, { table: pvLayout(machine, DOM0).l1, slot: SLOT, value: 0 }));
		expect(machine.domains.has(7)).toBe(false);
		expect(freeFrames(machine)).toBe(free);
		expect(machine.domain(DOM0).references).toBe(3);
		expect(machine.domain(PV).tables.grantActive.every((row) => row === undefined)).toBe(true);
		checkInvariants(machine);
	});

	test("of all domains, one after the other, leave nothing at all", () => {
		const machine = baseMachine();
		for (const domid of [PV, STUB, HVM, DOM0]) expect(done(machine, destroy(domid))).toBe(0);
		const empty = Machine.fromHost(emptyHost(FRAMES));
		expect(machine.domains.size).toBe(0);
		expect(machine.frames.counts).toEqual(empty.frames.counts);
		expect(machine.frames.owners).toEqual(empty.frames.owners);
		expect(machine.frames.reserved).toEqual(empty.frames.reserved);
	});

	test("a creation that is refused leaves nothing behind", () => {
		const machine = baseMachine();
		const create = (domid: number, rest: object = {}) =>
			on("domain_create", domid, { kind: "pv", frames: 50, ...rest });
		refused(machine, create(PV), "EEXIST");
		refused(machine, create(DOMID.FIRST_RESERVED), "EINVAL");
		refused(machine, create(-1), "EINVAL");
		refused(machine, create(7, { frames: 7 }), "EINVAL");
		refused(machine, create(7, { vcpus: 0 }), "EINVAL");
		refused(machine, create(7, { vcpus: 129 }), "EINVAL");
		refused(machine, create(7, { target: 66 }), "ESRCH");
		for (const kind of ["pv", "pvh", "hvm"]) refused(machine, create(7, { kind, frames: 4000, target: HVM }), "ENOMEM");
		refused(machine, destroy(7), "ESRCH");
		checkInvariants(machine);
	});
});

describe("a dead domain", () => {
	/** dom0 maps grants of a domain that dies: two to write, one to read. */
	function zombie(domid: number) {
		const machine = baseMachine();
		const { l1 } = pvLayout(machine, DOM0);
		const frame = domid === PV ? pvLayout(machine, PV).plain : [5, 6, 7];
		const mfns = frame.slice(0, 3).map((gfn) => (domid === PV ? gfn : (mfnOf(machine, domid, gfn) as number)));
		for (let i = 0; i < 3; i++) {
			done(machine, on("grant_access", domid, { ref: 8 + i, grantee: DOM0, gfn: frame[i], readonly: i === 2 }));
			done(machine, map(DOM0, domid, 8 + i, { table: l1, slot: SLOT + i, readonly: i === 2 }));
		}
		done(machine, map(DOM0, domid, 8, { table: l1, slot: SLOT + 3 }));
		return { machine, mfns, l1 };
	}
	const unmap = (handle: number, l1: number) =>
		on("gnttab_unmap_grant_ref", DOM0, { handle, table: l1, slot: SLOT + handle });

	test.each([
		[PV, [2, 1, 0]],
		[HVM, [0, 0, 0]],
	])(
		"%i keeps what dom0 maps: not allocated, the mappings' references alone, writable types of a PV guest's",
		(domid, types) => {
			const { machine, mfns, l1 } = zombie(domid);
			if (domid === HVM) done(machine, destroy(STUB));
			const others = machine.domain(domid).frames;
			expect(done(machine, destroy(domid))).toBe(1);
			const dead = machine.domain(domid);
			expect(others).toBeGreaterThan(3);
			expect([dead.tables.domain.life, dead.references, dead.frames, dead.xenheapFrames]).toEqual([LIFE.dead, 1, 3, 0]);
			expect(mfns.map((mfn) => references(machine, mfn))).toEqual([
				[2, types[0]],
				[1, types[1]],
				[1, types[2]],
			]);
			expect(mfns.some((mfn) => machine.frames.has(mfn, FRAME.allocated))).toBe(false);
			expect(mfns.every((mfn) => machine.frames.ownerOf(mfn) === domid)).toBe(true);
			expect(dead.tables.grantActive.flatMap((row, ref) => (row ? [ref] : []))).toEqual([8, 9, 10]);
			expect(dead.tables.grantFrames).toEqual([]);
			checkInvariants(machine);
			// It is saved and restored, and nobody can do anything with it but let go.
			const updated = updateMachine(machine);
			expect(Buffer.compare(updated.before, updated.after)).toBe(0);
			refused(machine, map(DOM0, domid, 8, { table: l1, slot: 300 }), "GNTST_bad_domain");
			refused(machine, on("populate_physmap", domid), "ESRCH");
			refused(machine, destroy(domid), "ESRCH");
			refused(machine, on("domain_create", domid, { kind: "pv" }), "EEXIST");
			doneAll(machine, unmap(1, l1), unmap(2, l1), unmap(0, l1));
			expect(machine.domain(domid).frames).toBe(1);
			done(machine, unmap(3, l1));
			expect(machine.domains.has(domid)).toBe(false);
			expect(mfns.every((mfn) => machine.frames.isFree(mfn))).toBe(true);
			checkInvariants(machine);
		},
	);

	test("is gone as well when its mapper dies", () => {
		const { machine } = zombie(PV);
		expect(done(machine, destroy(PV))).toBe(1);
		doneAll(machine, destroy(STUB), destroy(HVM));
		expect(done(machine, destroy(DOM0))).toBe(0);
		expect(machine.domains.size).toBe(0);
	});

	test("keeps frames that a privileged domain mapped without a grant", () => {
		const machine = baseMachine();
		const { l1 } = pvLayout(machine, DOM0);
		const mfn = pvLayout(machine, PV).root;
		done(machine, on("mmu_update", DOM0, { table: l1, slot: SLOT, value: mfn * 4096 + 0x65, owner: PV }));
		expect(done(machine, destroy(PV))).toBe(1);
		expect([references(machine, mfn), machine.frames.typeOf(mfn)]).toEqual([[1, 0], PAGE_TYPE.none]);
		checkInvariants(machine);
		done(machine, on("mmu_update", DOM0, { table: l1, slot: SLOT, value: 0 }));
		expect(machine.domains.has(PV)).toBe(false);
	});

	test("lets its peers' ports wait for its domid", () => {
		const machine = baseMachine();
		doneAll(
			machine,
			on("evtchn_alloc_unbound", DOM0, { remote: PV }),
			on("evtchn_bind_interdomain", PV, { remote: DOM0, remotePort: 1 }),
			destroy(PV),
		);
		expect(machine.domain(DOM0).tables.ports[1]).toMatchObject({ state: 2, remoteDomid: PV, remotePort: 0 });
		doneAll(
			machine,
			on("domain_create", PV, { kind: "pv" }),
			on("evtchn_bind_interdomain", PV, { remote: DOM0, remotePort: 1 }),
		);
	});
});

describe("references to a domain", () => {
	test("an emulator that dies is held by its server, which the guest keeps", () => {
		const machine = baseMachine();
		done(machine, on("ioreq_create", STUB, { guest: HVM }));
		expect(machine.domain(STUB).references).toBe(4);
		expect(done(machine, destroy(STUB))).toBe(1);
		expect([machine.domain(STUB).references, machine.domain(STUB).frames]).toEqual([1, 0]);
		expect(machine.domain(HVM).tables.ioreqServerList.length).toBe(1);
		checkInvariants(machine);
		updateMachine(machine);
		refused(machine, on("ioreq_destroy", STUB, { guest: HVM, server: 0 }), "ESRCH");
		expect(done(machine, destroy(HVM))).toBe(0);
		expect(machine.domains.has(STUB)).toBe(false);
		checkInvariants(machine);
	});

	test("a target is held by its stub domain, dead or alive", () => {
		const machine = baseMachine();
		expect(machine.domain(HVM).references).toBe(4);
		expect(done(machine, destroy(HVM))).toBe(1);
		expect(machine.domain(HVM).references).toBe(1);
		checkInvariants(machine);
		expect(done(machine, destroy(STUB))).toBe(0);
		expect(machine.domains.has(HVM)).toBe(false);
	});

	test("a handler of a global VIRQ is held, by the last call that named it", () => {
		const machine = baseMachine();
		const handler = (domid: number, virq = 3) => on("domain_set_virq_handler", domid, { virq });
		done(machine, handler(PV));
		expect(machine.domain(PV).references).toBe(4);
		done(machine, handler(PV));
		expect(machine.domain(PV).references).toBe(4);
		doneAll(machine, handler(PV, 9), handler(HVM));
		expect([machine.domain(PV).references, machine.domain(HVM).references]).toEqual([4, 5]);
		refused(machine, handler(PV, 0), "EINVAL");
		refused(machine, handler(66), "ESRCH");
		expect(done(machine, destroy(PV))).toBe(0);
		expect(machine.host.virqHandlers).toEqual([{ virq: 3, domid: HVM }]);
		checkInvariants(machine);
	});
});

describe("pauses and shutdown", () => {
	test("pauses are counted; creation ends when none is left for the first time", () => {
		const machine = baseMachine();
		done(machine, on("domain_create", 7, { kind: "pvh" }));
		expect(stateOf(machine, 7)).toMatchObject({ controllerPauseCount: 1, creationFinished: 0 });
		doneAll(machine, on("domain_pause", 7), on("domain_unpause", 7));
		expect(stateOf(machine, 7)).toMatchObject({ controllerPauseCount: 1, creationFinished: 0 });
		done(machine, on("domain_unpause", 7));
		expect(stateOf(machine, 7)).toMatchObject({ controllerPauseCount: 0, creationFinished: 1 });
		refused(machine, on("domain_unpause", 7), "EINVAL");
		done(machine, on("domain_pause", 7));
		expect(stateOf(machine, 7)).toMatchObject({ controllerPauseCount: 1, creationFinished: 1 });
		refused(machine, on("domain_pause", 66), "ESRCH");
		refused(machine, on("domain_unpause", 66), "ESRCH");
	});

	test("a shutdown keeps its first reason, and is undone by a resume", () => {
		const machine = baseMachine();
		doneAll(machine, on("sched_shutdown", PV, { reason: 2 }), on("sched_shutdown", PV, { reason: 3 }));
		expect(stateOf(machine, PV)).toMatchObject({ shutdownState: SHUTDOWN_STATE.shutDown, shutdownCode: 2 });
		doneAll(machine, on("domain_resume", PV), on("domain_resume", PV));
		expect(stateOf(machine, PV)).toMatchObject({ shutdownState: SHUTDOWN_STATE.none, shutdownCode: NO_SHUTDOWN_CODE });
		refused(machine, on("sched_shutdown", PV, { reason: 6 }), "EINVAL");
		refused(machine, on("sched_shutdown", 66), "ESRCH");
		refused(machine, on("domain_resume", 66), "ESRCH");
	});

	test("dom0 hears of it, or the domain that handles DOM_EXC", () => {
		const machine = baseMachine();
		doneAll(machine, on("evtchn_bind_virq", DOM0, { virq: 3 }), on("evtchn_bind_virq", STUB, { virq: 3 }));
		done(machine, on("sched_shutdown", PV));
		expect([drained(machine, DOM0), drained(machine, STUB)]).toEqual([[1], []]);
		doneAll(machine, on("domain_set_virq_handler", STUB, { virq: 3 }), on("sched_shutdown", HVM));
		expect([drained(machine, DOM0), drained(machine, STUB)]).toEqual([[], [1]]);
	});
});

describe("weights", () => {
	const share = (weight: number, cap: number) => on("domain_set_weight", PV, { weight, cap });

	test("weight and cap, each of which may stay; 16 bits each", () => {
		const machine = baseMachine();
		expect(machine.domain(PV).tables.scheduler).toBeUndefined();
		doneAll(machine, share(0, 50));
		expect(machine.domain(PV).tables.scheduler).toMatchObject({ scheduler: 6, weight: 256, cap: 50 });
		doneAll(machine, share(1000, 65535));
		expect(machine.domain(PV).tables.scheduler).toMatchObject({ weight: 1000, cap: 50 });
		refused(machine, share(65536, 0), "EINVAL");
		refused(machine, share(1, 65536), "EINVAL");
		refused(machine, { ...share(1, 1), domid: 66 }, "ESRCH");
	});

	test("can be asked for, from before they were set", () => {
		const machine = baseMachine();
		const asked = () => runOperation(machine, on("domain_get_weight", PV));
		expect(asked()).toEqual([256, 0]);
		doneAll(machine, share(1000, 50));
		expect(asked()).toEqual([1000, 50]);
	});

	test("go through an update, to version 1 of the format as well", async () => {
		const machine = baseMachine();
		doneAll(machine, share(700, 150));
		for (const xen2Format of [1, 2, 3]) {
			const { report, machine: next } = await liveUpdateMachine(machine, {
				module: coreModule,
				prepare: false,
				xen2Format,
			});
			expect(report.identical).toBe(true);
			expect(next.domain(PV).tables.scheduler).toMatchObject({ weight: 700, cap: 150 });
		}
	});
});

describe("virtual NUMA", () => {
	const two = { nodes: [0, 2 ** 32 - 1], distances: [10, 21, 21, 10], vcpus: [0, 1], ranges: [0, 32, 0, 40, 8, 1] };
	const set = (changed: object = {}) => on("domain_set_vnuma", PV, { ...two, ...changed });
	const read = [10, 21, 21, 10, 0, 1, 0, 32, 0, 40, 8, 1];

	test("a guest reads what the toolstack has said last", () => {
		const machine = baseMachine();
		refused(machine, on("memory_get_vnuma", PV), "EOPNOTSUPP");
		doneAll(machine, set());
		expect(runOperation(machine, on("memory_get_vnuma", PV))).toEqual(read);
		doneAll(machine, set({ nodes: [0], distances: [10], vcpus: [0, 0], ranges: [] }));
		expect(runOperation(machine, on("memory_get_vnuma", PV))).toEqual([10, 0, 0]);
	});

	test("what does not fit together is refused", () => {
		const machine = baseMachine();
		refused(machine, set({ nodes: [], distances: [] }), "EINVAL");
		refused(machine, set({ distances: [10, 21, 21] }), "EINVAL");
		refused(machine, set({ vcpus: [0] }), "EINVAL");
		refused(machine, set({ vcpus: [0, 2] }), "EINVAL");
		refused(machine, set({ ranges: [0, 32] }), "EINVAL");
		refused(machine, set({ ranges: [0, 32, 2] }), "EINVAL");
		refused(machine, set({ ranges: [0, 0, 0] }), "EINVAL");
		refused(machine, set({ ranges: [8, 8, 0, 15, 8, 1] }), "EINVAL");
		refused(machine, { ...set(), domid: 66 }, "ESRCH");
		refused(machine, on("memory_get_vnuma", 66), "ESRCH");
	});

	test("goes through an update; version 1 of the format refuses it by name, and the guest goes on", async () => {
		const machine = baseMachine();
		doneAll(machine, set());
		const { report, machine: next } = await liveUpdateMachine(machine, { module: coreModule, prepare: false });
		expect(report.identical).toBe(true);
		expect(runOperation(next, on("memory_get_vnuma", PV))).toEqual(read);
		await expect(liveUpdateMachine(next, { module: coreModule, prepare: false, xen2Format: 1 })).rejects.toMatchObject({
			code: "XLU_E_REFUSED",
			rule: "XLU-R047",
			domid: PV,
			record: "LU_VNUMA",
		});
		expect(runOperation(next, on("memory_get_vnuma", PV))).toEqual(read);
	});
});

describe("watchdogs", () => {
	const watchdog = (index: number, seconds: number) => on("sched_watchdog", PV, { index, seconds });

	test("are two, started, restarted and stopped by number", () => {
		const machine = baseMachine();
		expect(doneAll(machine, watchdog(0, 10), watchdog(0, 20))).toEqual([1, 2]);
		refused(machine, watchdog(0, 10), "ENOSPC");
		expect(doneAll(machine, watchdog(1, 30), watchdog(2, 0))).toEqual([0, 0]);
		expect(machine.domain(PV).tables.watchdogs).toEqual([{ index: 0, expiresNs: 31_000_000_000n }]);
		refused(machine, watchdog(2, 5), "EINVAL");
		refused(machine, watchdog(3, 5), "EINVAL");
		refused(machine, { ...watchdog(0, 5), domid: 66 }, "ESRCH");
		expect(done(machine, watchdog(0, 10))).toBe(2);
	});

	test("shut their domain down when they are not restarted in time", () => {
		const machine = baseMachine();
		doneAll(machine, watchdog(0, 10), { op: "time_advance", nanoseconds: 9_999_999_999 });
		expect(stateOf(machine, PV).shutdownState).toBe(SHUTDOWN_STATE.none);
		doneAll(machine, watchdog(1, 10), { op: "time_advance", nanoseconds: 9_999_999_999 });
		expect(stateOf(machine, PV).shutdownState).toBe(SHUTDOWN_STATE.none);
		done(machine, { op: "time_advance", nanoseconds: 1 });
		expect(stateOf(machine, PV)).toMatchObject({ shutdownState: SHUTDOWN_STATE.shutDown, shutdownCode: 4 });
	});
});

test("a name that is no operation, or one without a parameter that it needs, is a defect of the caller", () => {
	const machine = baseMachine();
	expect(() => runOperation(machine, { op: "no_such" })).toThrow("no operation no_such");
	expect(() => runOperation(machine, { op: "domain_pause" })).toThrow("domain_pause needs domid");
});
