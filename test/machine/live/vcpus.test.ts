/** vCPUs: up and down, registers, vcpu_info, runstates, timers, blocking and polling. */
import { describe, expect, test } from "vitest";
import { NONE64, SHUTDOWN_STATE, TIME_AREA, VCPU_FLAG, VIRQ } from "../../../src/format/enums.ts";
import { cpuEntries } from "../../../src/machine/live/hvmContext.ts";
import type { Machine } from "../../../src/machine/live/index.ts";
import { RUNSTATE, vcpuInfo } from "../../../src/machine/live/vcpus.ts";
import type { VcpuRow } from "../../../src/machine/readImage.ts";
import { baseMachine } from "../../support/living.ts";
import {
	changeSince,
	checkInvariants,
	done,
	doneAll,
	drained,
	mfnOf,
	pvLayout,
	references,
	refused,
	snapshot,
} from "../../support/operations.ts";

const [DOM0, PV, HVM] = [0, 1, 2];
const on = (op: string, domid: number, vcpu: number, rest: object = {}) => ({ op, domid, vcpu, ...rest });
const row = (machine: Machine, domid: number, vcpu = 0) => machine.domain(domid).tables.vcpu[vcpu] as VcpuRow;
const has = (machine: Machine, domid: number, flag: number, vcpu = 0): boolean =>
	(row(machine, domid, vcpu).flags & flag) !== 0;
const advance = (nanoseconds: number) => ({ op: "time_advance", nanoseconds });
const START = 1_000_000_000n;
const info = (machine: Machine, domid: number, vcpu = 0) =>
	vcpuInfo(machine, machine.domain(domid), vcpu) as NonNullable<ReturnType<typeof vcpuInfo>>;

describe("up and down", () => {
	test("a PV vCPU is initialised with its page table, once, before it is up", () => {
		const machine = baseMachine();
		const { root, l1 } = pvLayout(machine, PV);
		const initialise = (vcpu: number, mfn = root) => on("vcpu_initialise", PV, vcpu, { mfn, rip: "0x1000" });
		refused(machine, on("vcpu_up", PV, 1), "EINVAL");
		refused(machine, initialise(1, l1), "EINVAL");
		refused(machine, initialise(1, pvLayout(machine, DOM0).root), "EINVAL");
		refused(machine, initialise(9), "ENOENT");
		refused(machine, { ...initialise(1), domid: HVM }, "ENOSYS");
		done(machine, initialise(1));
		expect(references(machine, root)).toEqual([5, 3]);
		expect(machine.domain(PV).pvVcpu(1)).toMatchObject({ rip: 0x1000n, vcpuId: 1 });
		refused(machine, initialise(1), "EEXIST");
		refused(machine, initialise(0), "EEXIST");
		expect(has(machine, PV, VCPU_FLAG.down, 1)).toBe(true);
		done(machine, on("vcpu_up", PV, 1));
		expect([has(machine, PV, VCPU_FLAG.down, 1), row(machine, PV, 1).runstate]).toEqual([false, RUNSTATE.runnable]);
		checkInvariants(machine);
		doneAll(machine, on("vcpu_up", PV, 1), on("vcpu_down", PV, 1), on("vcpu_down", PV, 1));
		expect([has(machine, PV, VCPU_FLAG.down, 1), row(machine, PV, 1).runstate]).toEqual([true, RUNSTATE.offline]);
		// Down, it keeps its registers, and they their references.
		expect(references(machine, root)).toEqual([5, 3]);
		refused(machine, on("vcpu_up", PV, 9), "ENOENT");
		refused(machine, on("vcpu_down", PV, 9), "ENOENT");
		refused(machine, on("vcpu_down", 66, 0), "ESRCH");
	});

	test("a vCPU beyond the 32nd has to register its vcpu_info before it is initialised", () => {
		const machine = baseMachine();
		done(machine, { op: "domain_create", domid: 7, kind: "pv", frames: 32, vcpus: 34 });
		const { root, plain } = pvLayout(machine, 7);
		const initialise = on("vcpu_initialise", 7, 33, { mfn: root, rip: 1 });
		refused(machine, initialise, "EINVAL");
		done(machine, on("vcpu_register_info", 7, 33, { gfn: plain[0] }));
		expect([info(machine, 7, 33).mask.get(), info(machine, 7, 33).pending.get()]).toEqual([true, true]);
		doneAll(machine, initialise, on("vcpu_up", 7, 33));
		checkInvariants(machine);
	});

	test("an HVM vCPU has a CPU entry in its context while it is up", () => {
		const machine = baseMachine();
		const entries = () => cpuEntries(machine.domain(HVM));
		expect(entries()).toEqual([0]);
		done(machine, on("vcpu_up", HVM, 1));
		expect(entries()).toEqual([0, 1]);
		expect(has(machine, HVM, VCPU_FLAG.initialised, 1)).toBe(true);
		done(machine, on("vcpu_down", HVM, 0));
		expect(entries()).toEqual([1]);
		done(machine, on("vcpu_up", HVM, 0));
		expect(entries()).toEqual([0, 1]);
	});

	test("the last one down shuts its domain down instead", () => {
		const machine = baseMachine();
		done(machine, on("vcpu_down", PV, 0));
		expect(machine.domain(PV).tables.domainState).toMatchObject({
			shutdownState: SHUTDOWN_STATE.shutDown,
			shutdownCode: 0,
		});
		expect(has(machine, PV, VCPU_FLAG.down)).toBe(false);
	});
});

describe("registers", () => {
	const set = (domid: number, vcpu: number, register: string, value = "0xffffffff81234567") =>
		on("vcpu_set_register", domid, vcpu, { register, value });

	test("of a PV vCPU stand in its context, of an HVM one in the domain's", () => {
		const machine = baseMachine();
		const before = machine.domain(HVM).tables.hvmContext?.slice() as Uint8Array;
		doneAll(machine, set(PV, 0, "rip"), set(PV, 0, "rsp", "0x1"), set(HVM, 0, "rax"));
		expect(machine.domain(PV).pvVcpu(0)).toMatchObject({ rip: 0xffff_ffff_8123_4567n, rsp: 1n, rax: 0n });
		const after = machine.domain(HVM).tables.hvmContext as Uint8Array;
		const changed = after.filter((octet, at) => octet !== before[at]);
		expect([...changed]).toEqual([0x67, 0x45, 0x23, 0x81, 0xff, 0xff, 0xff, 0xff]);
	});

	test("are refused of a vCPU that has none, and by other names", () => {
		const machine = baseMachine();
		refused(machine, set(PV, 1, "rip"), "EINVAL");
		refused(machine, set(HVM, 1, "rip"), "EINVAL");
		refused(machine, set(PV, 9, "rip"), "ENOENT");
		refused(machine, set(PV, 0, "cr3"), "EINVAL");
		refused(machine, set(66, 0, "rip"), "ESRCH");
	});
});

describe("vcpu_info", () => {
	const register = (domid: number, vcpu: number, gfn: number, offset = 0) =>
		on("vcpu_register_info", domid, vcpu, { gfn, offset });

	test("moves once, with what is pending in it, into a page that becomes writable", () => {
		const machine = baseMachine();
		const mfn = mfnOf(machine, HVM, 520) as number;
		doneAll(machine, { op: "evtchn_bind_ipi", domid: HVM, vcpu: 0 }, { op: "evtchn_send", domid: HVM, port: 1 });
		info(machine, HVM).mask.set(true);
		done(machine, register(HVM, 0, 520, 128));
		expect(row(machine, HVM)).toMatchObject({ vcpuInfoMfn: BigInt(mfn), vcpuInfoOffset: 128 });
		expect(references(machine, mfn)).toEqual([2, 1]);
		// All words have news: whatever was missed is found.
		expect([info(machine, HVM).pending.get(), info(machine, HVM).mask.get()]).toEqual([true, true]);
		expect(info(machine, HVM).selector()).toBe(2n ** 64n - 1n);
		expect(drained(machine, HVM)).toEqual([1]);
		done(machine, { op: "evtchn_send", domid: HVM, port: 1 });
		expect(machine.memory.look(mfn)[128]).toBe(1);
		refused(machine, register(HVM, 0, 521), "EINVAL");
		done(machine, register(HVM, 1, 520));
		expect(references(machine, mfn)).toEqual([3, 2]);
		checkInvariants(machine);
	});

	test("does not leave its page, stand unaligned, or in memory that is not the guest's to write", () => {
		const machine = baseMachine();
		const { root, l1, gdt } = pvLayout(machine, PV);
		refused(machine, register(HVM, 0, 520, 4096 - 56), "EINVAL");
		refused(machine, register(HVM, 0, 520, 4), "EINVAL");
		refused(machine, register(HVM, 0, 520, -8), "EINVAL");
		refused(machine, register(HVM, 0, 1500), "EINVAL");
		for (const mfn of [root, l1, gdt, pvLayout(machine, DOM0).plain[0] as number])
			refused(machine, register(PV, 0, mfn), "EINVAL");
		refused(machine, register(HVM, 9, 520), "ENOENT");
		refused(machine, register(66, 0, 520), "ESRCH");
		expect(row(machine, PV).vcpuInfoMfn).toBe(NONE64);
	});
});

describe("runstates", () => {
	test("add up, by state", () => {
		const machine = baseMachine();
		doneAll(machine, advance(1000), on("sched_block", PV, 0), advance(500));
		expect(row(machine, PV)).toMatchObject({ runstate: RUNSTATE.blocked, runstateEntryNs: START + 1000n });
		expect(row(machine, PV).runstateNs).toEqual([0n, 1000n, 0n, 0n]);
		doneAll(machine, { op: "evtchn_bind_ipi", domid: PV, vcpu: 0 }, { op: "evtchn_send", domid: PV, port: 1 });
		expect(row(machine, PV)).toMatchObject({ runstate: RUNSTATE.runnable, runstateEntryNs: START + 1500n });
		expect(row(machine, PV).runstateNs).toEqual([0n, 1000n, 500n, 0n]);
	});

	test("are told where the guest has registered it", () => {
		const machine = baseMachine();
		const register = (address: number | string) => on("vcpu_register_runstate", PV, 0, { address });
		done(machine, register("0xffff888000001000"));
		expect(row(machine, PV)).toMatchObject({
			runstateAddress: 0xffff_8880_0000_1000n,
			runstateArea: TIME_AREA.guestAddress,
		});
		done(machine, register(0));
		expect(row(machine, PV).runstateArea).toBe(TIME_AREA.none);
		refused(machine, { ...register(0), vcpu: 9 }, "ENOENT");
		refused(machine, { ...register(0), domid: 66 }, "ESRCH");
	});
});

describe("timers", () => {
	const singleshot = (deadline: bigint, domid = PV, vcpu = 0) =>
		on("vcpu_set_singleshot", domid, vcpu, { deadline: Number(deadline) });
	const periodic = (period: number, domid = PV, vcpu = 0) => on("vcpu_set_periodic", domid, vcpu, { period });
	function withTimer() {
		const machine = baseMachine();
		done(machine, { op: "evtchn_bind_virq", domid: PV, virq: VIRQ.TIMER, vcpu: 0 });
		return machine;
	}

	test("that ring once do so at their deadline, or at once if it has passed", () => {
		const machine = withTimer();
		doneAll(machine, singleshot(START + 1000n), advance(999));
		expect([drained(machine, PV), row(machine, PV).singleshotNs]).toEqual([[], START + 1000n]);
		done(machine, advance(1));
		expect([drained(machine, PV), row(machine, PV).singleshotNs]).toEqual([[1], 0n]);
		done(machine, advance(5000));
		expect(drained(machine, PV)).toEqual([]);
		done(machine, singleshot(START));
		expect([drained(machine, PV), row(machine, PV).singleshotNs]).toEqual([[1], 0n]);
		refused(machine, singleshot(0n), "EINVAL");
		refused(machine, singleshot(2n ** 62n), "EINVAL");
		refused(machine, singleshot(1n, PV, 9), "ENOENT");
		refused(machine, singleshot(1n, 66), "ESRCH");
	});

	test("that are periodic ring once for all ticks that were missed, and keep their phase", () => {
		const machine = withTimer();
		doneAll(machine, periodic(1_000_000), advance(3_500_000));
		expect(drained(machine, PV)).toEqual([1]);
		expect(row(machine, PV).periodicLastNs).toBe(START + 3_000_000n);
		done(machine, advance(499_999));
		expect(drained(machine, PV)).toEqual([]);
		done(machine, advance(1));
		expect(drained(machine, PV)).toEqual([1]);
		doneAll(machine, periodic(0), advance(10_000_000));
		expect(drained(machine, PV)).toEqual([]);
		expect(row(machine, PV)).toMatchObject({ periodicPeriodNs: 0n, periodicLastNs: 0n });
		refused(machine, periodic(999_999), "EINVAL");
		refused(machine, periodic(1_000_000, PV, 9), "ENOENT");
		refused(machine, periodic(1_000_000, 66), "ESRCH");
	});

	test("whose interrupt nobody has bound ring unheard", () => {
		const machine = baseMachine();
		doneAll(machine, singleshot(START + 1n, HVM), advance(1));
		expect(row(machine, HVM).singleshotNs).toBe(0n);
		refused(machine, advance(-1), "EINVAL");
	});
});

describe("blocking and polling", () => {
	const block = on("sched_block", PV, 0);
	const poll = (port: number, deadline = 0, vcpu = 0) => on("sched_poll", PV, vcpu, { port, deadline });
	const send = { op: "evtchn_send", domid: PV, port: 1 };
	const mask = { op: "evtchn_mask", domid: PV, port: 1 };
	function withPort() {
		const machine = baseMachine();
		done(machine, { op: "evtchn_bind_ipi", domid: PV, vcpu: 0 });
		return machine;
	}
	const isBlocked = (machine: Machine): boolean => has(machine, PV, VCPU_FLAG.blocked);

	test("a block unmasks upcalls, and ends at once if one is due", () => {
		const machine = withPort();
		info(machine, PV).mask.set(true);
		doneAll(machine, send, block);
		expect([isBlocked(machine), info(machine, PV).mask.get()]).toEqual([false, false]);
		drained(machine, PV);
		done(machine, block);
		expect(isBlocked(machine)).toBe(true);
		done(machine, send);
		expect(isBlocked(machine)).toBe(false);
		refused(machine, on("sched_block", PV, 1), "EINVAL");
		refused(machine, on("sched_block", PV, 9), "ENOENT");
		refused(machine, on("sched_block", 66, 0), "ESRCH");
	});

	test("a poll ends with its port's event, though that is masked", () => {
		const machine = withPort();
		doneAll(machine, mask, poll(1));
		expect([isBlocked(machine), row(machine, PV).pollPort]).toEqual([true, 1]);
		expect(machine.domain(PV).tables.pollWords).toEqual([{ value: 1n }]);
		done(machine, send);
		expect([isBlocked(machine), row(machine, PV).pollPort]).toEqual([false, 0]);
		expect(machine.domain(PV).tables.pollWords).toEqual([{ value: 0n }]);
	});

	test("a poll ends with its deadline, or does not begin: the port is pending, the deadline past, an upcall due", () => {
		const machine = withPort();
		const deadline = Number(START) + 1000;
		doneAll(machine, mask, poll(1, deadline), advance(999));
		expect(isBlocked(machine)).toBe(true);
		done(machine, advance(1));
		expect([isBlocked(machine), row(machine, PV).pollDeadlineNs]).toEqual([false, 0n]);
		const before = snapshot(machine);
		done(machine, poll(1, deadline));
		expect(changeSince(before, machine)).toBeUndefined();
		doneAll(machine, send, poll(1));
		expect(isBlocked(machine)).toBe(false);
		doneAll(machine, { op: "evtchn_bind_ipi", domid: PV, vcpu: 0 }, { op: "evtchn_send", domid: PV, port: 2 });
		doneAll(machine, { op: "evtchn_bind_ipi", domid: PV, vcpu: 0 }, poll(3));
		expect(isBlocked(machine)).toBe(false);
		info(machine, PV).mask.set(true);
		done(machine, poll(3));
		expect(isBlocked(machine)).toBe(true);
	});

	test("is refused to a vCPU that does not run, and of no port", () => {
		const machine = withPort();
		refused(machine, poll(9), "EINVAL");
		refused(machine, poll(1, -1), "EINVAL");
		refused(machine, poll(1, 0, 1), "EINVAL");
		refused(machine, poll(1, 0, 9), "ENOENT");
		refused(machine, { ...poll(1), domid: 66 }, "ESRCH");
		done(machine, poll(1));
		refused(machine, poll(1), "EINVAL");
	});

	test("a domain that resumes does not end its vCPUs' blocks", () => {
		const machine = withPort();
		doneAll(machine, block, { op: "sched_shutdown", domid: PV, reason: 2 }, { op: "domain_resume", domid: PV });
		expect(isBlocked(machine)).toBe(true);
	});
});

describe("affinity", () => {
	test("is of CPUs that the host has", () => {
		const machine = baseMachine();
		const affinity = (cpus: number, vcpu = 0) => on("vcpu_set_affinity", PV, vcpu, { cpus });
		done(machine, affinity(0b1_0110));
		expect(machine.domain(PV).tables.hardAffinity[0]).toBe(0b0110n);
		expect(machine.domain(PV).tables.softAffinity[0]).toBe(0b1111n);
		refused(machine, affinity(0), "EINVAL");
		refused(machine, affinity(0b1_0000), "EINVAL");
		refused(machine, affinity(1, 9), "ENOENT");
		refused(machine, { ...affinity(1), domid: 66 }, "ESRCH");
	});
});
