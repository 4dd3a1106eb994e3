/** Event channels on the 2-level ABI, and what holds for both: which port, who is bound to whom, who is told. */
import { describe, expect, test } from "vitest";
import { CONSUMER, EVTCHN_STATE, NONE32, VCPU_FLAG, VIRQ } from "../../../src/format/enums.ts";
import { sharedBit } from "../../../src/machine/guestPages.ts";
import type { Machine } from "../../../src/machine/live/index.ts";
import { vcpuInfo } from "../../../src/machine/live/vcpus.ts";
import type { PortRow } from "../../../src/machine/readImage.ts";
import { baseMachine } from "../../support/living.ts";
import { checkInvariants, done, doneAll, drained, refused } from "../../support/operations.ts";

const [DOM0, PV, HVM, STUB] = [0, 1, 2, 3];
const unbound = (domid: number, remote: number) => ({ op: "evtchn_alloc_unbound", domid, remote });
const interdomain = (domid: number, remote: number, remotePort: number) => ({
	op: "evtchn_bind_interdomain",
	domid,
	remote,
	remotePort,
});
const on = (op: string, domid: number, port: number, rest: object = {}) => ({ op, domid, port, ...rest });
const send = (domid: number, port: number) => on("evtchn_send", domid, port);
const close = (domid: number, port: number) => on("evtchn_close", domid, port);
const virq = (domid: number, number: number, vcpu = 0) => ({ op: "evtchn_bind_virq", domid, virq: number, vcpu });
const ipi = (domid: number, vcpu = 0) => ({ op: "evtchn_bind_ipi", domid, vcpu });

const row = (machine: Machine, domid: number, port: number) => machine.domain(domid).tables.ports[port] as PortRow;
const isPending = (machine: Machine, domid: number, port: number): boolean =>
	sharedBit(machine.memory.look(Number(machine.domain(domid).tables.sharedInfo?.mfn)), "pending", port, 8);
const info = (machine: Machine, domid: number, vcpu = 0) =>
	vcpuInfo(machine, machine.domain(domid), vcpu) as NonNullable<ReturnType<typeof vcpuInfo>>;

/** A port of the PV guest's bound to one of dom0's: 1 and 1, nothing pending. */
function bound() {
	const machine = baseMachine();
	doneAll(machine, unbound(DOM0, PV), interdomain(PV, DOM0, 1));
	drained(machine, PV);
	return machine;
}

describe("ports", () => {
	test("the lowest free one comes first, never 0", () => {
		const machine = baseMachine();
		expect(doneAll(machine, unbound(PV, DOM0), ipi(PV), virq(PV, 3), unbound(PV, 77))).toEqual([1, 2, 3, 4]);
		doneAll(machine, close(PV, 3), close(PV, 1));
		expect(doneAll(machine, ipi(PV), unbound(PV, DOM0), unbound(PV, DOM0))).toEqual([1, 3, 5]);
		refused(machine, close(PV, 0), "EINVAL");
		refused(machine, unbound(66, 0), "ESRCH");
	});

	test("are 4096 on the 2-level ABI, of which the last one works", () => {
		const machine = baseMachine();
		for (let port = 1; port < 4096; port++) expect(done(machine, unbound(PV, PV))).toBe(port);
		refused(machine, unbound(PV, PV), "ENOSPC");
		refused(machine, ipi(PV), "ENOSPC");
		refused(machine, virq(PV, 5), "ENOSPC");
		refused(machine, interdomain(PV, PV, 5), "ENOSPC");
		done(machine, close(PV, 4095));
		expect(done(machine, ipi(PV))).toBe(4095);
		done(machine, send(PV, 4095));
		expect(isPending(machine, PV, 4095)).toBe(true);
		expect(info(machine, PV).selector()).toBe(1n << 63n);
		expect(drained(machine, PV)).toEqual([4095]);
	});

	test("end at the domain's max_evtchn_port", () => {
		const machine = baseMachine();
		machine.domain(PV).tables.domain.maxEvtchnPort = 2;
		expect(doneAll(machine, ipi(PV), ipi(PV))).toEqual([1, 2]);
		refused(machine, ipi(PV), "ENOSPC");
	});
});

describe("an interdomain channel", () => {
	test("is mutual, notifies its maker once, and then either end", () => {
		const machine = baseMachine();
		doneAll(machine, unbound(DOM0, PV), interdomain(PV, DOM0, 1));
		expect(row(machine, DOM0, 1)).toMatchObject({ state: EVTCHN_STATE.interdomain, remoteDomid: PV, remotePort: 1 });
		expect(row(machine, PV, 1)).toMatchObject({ state: EVTCHN_STATE.interdomain, remoteDomid: DOM0, remotePort: 1 });
		expect([isPending(machine, PV, 1), isPending(machine, DOM0, 1)]).toEqual([true, false]);
		expect(drained(machine, PV)).toEqual([1]);
		done(machine, send(PV, 1));
		expect(isPending(machine, DOM0, 1)).toBe(true);
		expect(info(machine, DOM0).pending.get()).toBe(true);
		expect(drained(machine, DOM0)).toEqual([1]);
		expect(drained(machine, DOM0)).toEqual([]);
		checkInvariants(machine);
	});

	test("closed at one end is unbound at the other, for the same domain to bind again", () => {
		const machine = bound();
		done(machine, close(PV, 1));
		expect(row(machine, DOM0, 1)).toMatchObject({ state: EVTCHN_STATE.unbound, remoteDomid: PV, remotePort: 0 });
		expect(done(machine, on("evtchn_status", PV, 1))).toBe(EVTCHN_STATE.free);
		done(machine, send(DOM0, 1));
		refused(machine, interdomain(STUB, DOM0, 1), "EINVAL");
		expect(done(machine, interdomain(PV, DOM0, 1))).toBe(1);
		checkInvariants(machine);
	});

	test("loops back within a domain", () => {
		const machine = baseMachine();
		expect(doneAll(machine, unbound(PV, PV), interdomain(PV, PV, 1))).toEqual([1, 2]);
		expect(drained(machine, PV)).toEqual([2]);
		done(machine, send(PV, 2));
		expect(drained(machine, PV)).toEqual([1]);
		done(machine, close(PV, 2));
		expect(row(machine, PV, 1)).toMatchObject({ state: EVTCHN_STATE.unbound, remoteDomid: PV });
		checkInvariants(machine);
	});

	test("is refused where no port waits for this domain", () => {
		const machine = bound();
		refused(machine, interdomain(PV, DOM0, 1), "EINVAL");
		refused(machine, interdomain(PV, DOM0, 5000), "EINVAL");
		refused(machine, interdomain(PV, 66, 1), "ESRCH");
		refused(machine, interdomain(66, DOM0, 1), "ESRCH");
		done(machine, ipi(DOM0));
		refused(machine, interdomain(PV, DOM0, 2), "EINVAL");
	});
});

describe("virtual interrupts", () => {
	test("TIMER and its like are each vCPU's own, others the domain's", () => {
		const machine = baseMachine();
		expect(doneAll(machine, virq(PV, VIRQ.TIMER), virq(PV, VIRQ.TIMER, 1), virq(PV, 2))).toEqual([1, 2, 3]);
		expect(row(machine, PV, 2)).toMatchObject({ state: EVTCHN_STATE.virq, virq: VIRQ.TIMER, notifyVcpu: 1 });
		refused(machine, virq(PV, VIRQ.TIMER), "EEXIST");
		refused(machine, virq(PV, VIRQ.TIMER, 1), "EEXIST");
		refused(machine, virq(PV, 2), "EEXIST");
		refused(machine, virq(PV, 3, 1), "EINVAL");
		refused(machine, virq(PV, 24), "EINVAL");
		refused(machine, virq(PV, -1), "EINVAL");
		refused(machine, virq(PV, VIRQ.DEBUG, 9), "ENOENT");
		refused(machine, virq(66, 0), "ESRCH");
		done(machine, close(PV, 1));
		expect(done(machine, virq(PV, VIRQ.TIMER))).toBe(1);
	});

	test("of the domain may be moved to another vCPU, a vCPU's own may not", () => {
		const machine = baseMachine();
		doneAll(machine, virq(PV, VIRQ.TIMER), virq(PV, 2));
		const move = (port: number, vcpu: number) => on("evtchn_bind_vcpu", PV, port, { vcpu });
		done(machine, move(2, 1));
		expect(row(machine, PV, 2).notifyVcpu).toBe(1);
		refused(machine, virq(PV, 2), "EEXIST");
		refused(machine, move(1, 1), "EINVAL");
	});
});

describe("IPIs, and the vCPU that is told", () => {
	test("an IPI is its vCPU's alone; other ports move", () => {
		const machine = bound();
		expect(done(machine, ipi(PV, 1))).toBe(2);
		const move = (port: number, vcpu: number) => on("evtchn_bind_vcpu", PV, port, { vcpu });
		refused(machine, move(2, 0), "EINVAL");
		refused(machine, move(1, 9), "ENOENT");
		refused(machine, move(7, 0), "EINVAL");
		refused(machine, ipi(PV, 9), "ENOENT");
		done(machine, send(PV, 2));
		expect([info(machine, PV, 0).pending.get(), info(machine, PV, 1).pending.get()]).toEqual([false, true]);
		done(machine, move(1, 1));
		done(machine, send(DOM0, 1));
		expect([drained(machine, PV, 0), drained(machine, PV, 1)]).toEqual([[], [1, 2]]);
		refused(machine, { op: "evtchn_drain", domid: PV, vcpu: 9 }, "ENOENT");
	});

	test("send is refused by ports that nobody else listens to, and lost on one that waits", () => {
		const machine = baseMachine();
		doneAll(machine, virq(PV, 2), unbound(PV, DOM0));
		refused(machine, send(PV, 1), "EINVAL");
		refused(machine, send(PV, 3), "EINVAL");
		refused(machine, send(66, 1), "ESRCH");
		done(machine, send(PV, 2));
	});
});

describe("masked events", () => {
	test("stay pending, and are told when they are unmasked", () => {
		const machine = bound();
		doneAll(machine, on("evtchn_mask", PV, 1), send(DOM0, 1));
		expect([isPending(machine, PV, 1), info(machine, PV).pending.get(), info(machine, PV).selector()]).toEqual([
			true,
			false,
			0n,
		]);
		expect(drained(machine, PV)).toEqual([]);
		done(machine, on("evtchn_unmask", PV, 1));
		expect(info(machine, PV).pending.get()).toBe(true);
		expect(drained(machine, PV)).toEqual([1]);
		refused(machine, on("evtchn_mask", PV, 9), "EINVAL");
		refused(machine, on("evtchn_unmask", PV, 9), "EINVAL");
	});

	test("are lost when their port is closed", () => {
		const machine = bound();
		doneAll(machine, on("evtchn_mask", PV, 1), send(DOM0, 1), close(PV, 1));
		expect(isPending(machine, PV, 1)).toBe(false);
	});

	test("an event that is pending already is told no second time", () => {
		const machine = bound();
		done(machine, send(DOM0, 1));
		info(machine, PV).pending.set(false);
		done(machine, send(DOM0, 1));
		expect(info(machine, PV).pending.get()).toBe(false);
	});
});

describe("waking", () => {
	test("an event wakes a vCPU that is blocked", () => {
		const machine = bound();
		done(machine, { op: "sched_block", domid: PV, vcpu: 0 });
		done(machine, send(DOM0, 1));
		expect((machine.domain(PV).tables.vcpu[0]?.flags as number) & VCPU_FLAG.blocked).toBe(0);
	});
});

describe("ports that Xen consumes", () => {
	test("are not the guest's to close, send, move, or look at; a reset leaves them", () => {
		const machine = baseMachine();
		done(machine, { op: "ioreq_create", domid: DOM0, guest: HVM });
		expect(row(machine, HVM, 1)).toMatchObject({ state: EVTCHN_STATE.unbound, consumer: CONSUMER.ioreq });
		refused(machine, close(HVM, 1), "EINVAL");
		refused(machine, send(HVM, 1), "EINVAL");
		refused(machine, on("evtchn_bind_vcpu", HVM, 1, { vcpu: 1 }), "EINVAL");
		refused(machine, on("evtchn_status", HVM, 1), "EACCES");
		done(machine, interdomain(DOM0, HVM, 1));
		done(machine, send(DOM0, 1));
		expect(isPending(machine, HVM, 1)).toBe(false);
		doneAll(machine, ipi(HVM), { op: "evtchn_reset", domid: HVM });
		expect(row(machine, HVM, 1).state).toBe(EVTCHN_STATE.interdomain);
		done(machine, close(DOM0, 1));
		expect(row(machine, HVM, 1)).toMatchObject({ state: EVTCHN_STATE.unbound, consumer: CONSUMER.ioreq });
		checkInvariants(machine);
	});
});

describe("evtchn_reset", () => {
	test("closes all of the guest's ports, and a reserved one stays", () => {
		const machine = bound();
		const { tables } = machine.domain(PV);
		doneAll(machine, virq(PV, 0), ipi(PV));
		tables.ports[0] = { ...row(machine, PV, 3), state: EVTCHN_STATE.reserved };
		done(machine, { op: "evtchn_reset", domid: PV });
		expect(tables.ports.flatMap((entry, port) => (entry ? [[port, entry.state]] : []))).toEqual([
			[0, EVTCHN_STATE.reserved],
		]);
		expect(row(machine, DOM0, 1).state).toBe(EVTCHN_STATE.unbound);
		expect(done(machine, on("evtchn_status", PV, 0))).toBe(EVTCHN_STATE.reserved);
		refused(machine, close(PV, 0), "EINVAL");
		refused(machine, { op: "evtchn_reset", domid: 66 }, "ESRCH");
		checkInvariants(machine);
	});

	test("the status of a port that the table does not reach is refused", () => {
		const machine = bound();
		refused(machine, on("evtchn_status", PV, 64), "EINVAL");
		expect(done(machine, on("evtchn_status", PV, 1))).toBe(EVTCHN_STATE.interdomain);
	});
});

describe("physical interrupts", () => {
	const map = (irq: number, domid = DOM0) => ({ op: "pirq_map", domid, irq });
	const bind = (pirq: number, domid = DOM0) => ({ op: "evtchn_bind_pirq", domid, pirq });
	const raise = (pirq: number, domid = DOM0) => ({ op: "pirq_raise", domid, pirq });
	const unmap = (pirq: number, domid = DOM0) => ({ op: "pirq_unmap", domid, pirq });

	test("are mapped, bound once, raised, and closed when they are unmapped", () => {
		const machine = baseMachine();
		expect(doneAll(machine, map(20), map(20))).toEqual([20, 20]);
		refused(machine, raise(20), "ENOENT");
		expect(done(machine, bind(20))).toBe(1);
		expect(row(machine, DOM0, 1)).toMatchObject({ state: EVTCHN_STATE.pirq, pirq: 20 });
		refused(machine, bind(20), "EEXIST");
		refused(machine, bind(21), "EINVAL");
		done(machine, raise(20));
		expect(drained(machine, DOM0)).toEqual([1]);
		refused(machine, send(DOM0, 1), "EINVAL");
		done(machine, close(DOM0, 1));
		expect(machine.domain(DOM0).tables.pirqList[0]?.port).toBe(0);
		doneAll(machine, bind(20), unmap(20));
		expect(done(machine, on("evtchn_status", DOM0, 1))).toBe(EVTCHN_STATE.free);
		refused(machine, unmap(20), "EINVAL");
		refused(machine, map(20, PV), "EPERM");
		refused(machine, map(0), "EINVAL");
		refused(machine, map(256), "EINVAL");
	});

	test("of emulated devices are an HVM guest's", () => {
		const machine = baseMachine();
		const emulated = (pirq: number, emuirq: number, domid = HVM) => ({ op: "pirq_map_emulated", domid, pirq, emuirq });
		expect(done(machine, emulated(20, 4))).toBe(20);
		expect(machine.domain(HVM).tables.emuIrqs).toEqual([{ pirq: 20, emuirq: 4 }]);
		expect(machine.domain(HVM).tables.pirqList[0]).toMatchObject({ pirq: 20, irq: NONE32, emuirq: 4 });
		refused(machine, emulated(21, 4), "EEXIST");
		refused(machine, emulated(20, 5), "EEXIST");
		refused(machine, emulated(15, 5), "EINVAL");
		refused(machine, emulated(21, 48), "EINVAL");
		refused(machine, emulated(21, 5, PV), "ENOSYS");
		doneAll(machine, bind(20, HVM), raise(20, HVM));
		expect(drained(machine, HVM)).toEqual([1]);
		done(machine, unmap(20, HVM));
		expect(machine.domain(HVM).tables.emuIrqs).toEqual([]);
	});
});
