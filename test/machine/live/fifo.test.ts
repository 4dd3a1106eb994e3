/** The FIFO ABI: queues by priority and link, tails and last queues that Xen remembers, event words that come later. */
import { describe, expect, test } from "vitest";
import { EVTCHN_ABI, EVTCHN_STATE, VCPU_FLAG } from "../../../src/format/enums.ts";
import { controlBlockView, EVENT_WORD, eventWord } from "../../../src/machine/guestPages.ts";
import type { Machine } from "../../../src/machine/live/index.ts";
import type { ControlBlockRow, PortRow } from "../../../src/machine/readImage.ts";
import { baseMachine } from "../../support/living.ts";
import {
	checkInvariants,
	done,
	doneAll,
	drained,
	mfnOf,
	pvLayout,
	references,
	refused,
} from "../../support/operations.ts";

const [DOM0, PV, HVM] = [0, 1, 2];
const CONTROL = [520, 521] as const;
const ARRAY = 522;

const init = (vcpu: number, gfn: number, offset = 0, domid = HVM) => ({
	op: "evtchn_init_control",
	domid,
	vcpu,
	gfn,
	offset,
});
const expand = (gfn: number, domid = HVM) => ({ op: "evtchn_expand_array", domid, gfn });
const ipi = (vcpu = 0) => ({ op: "evtchn_bind_ipi", domid: HVM, vcpu });
const on = (op: string, port: number, rest: object = {}) => ({ op, domid: HVM, port, ...rest });
const send = (port: number) => on("evtchn_send", port);
const priority = (port: number, value: number) => on("evtchn_set_priority", port, { priority: value });
const close = (port: number) => on("evtchn_close", port);
const mask = (port: number) => on("evtchn_mask", port);
const unmask = (port: number) => on("evtchn_unmask", port);

const row = (machine: Machine, port: number) => machine.domain(HVM).tables.ports[port] as PortRow;
const word = (machine: Machine, port: number): number =>
	eventWord(
		machine.memory.look(Number(machine.domain(HVM).tables.eventArrays[Math.floor(port / 1024)]?.mfn)),
		port % 1024,
	);
const blockOf = (machine: Machine, vcpu: number) =>
	machine.domain(HVM).tables.controlBlocks.find(({ vcpuId }) => vcpuId === vcpu) as ControlBlockRow;
const view = (machine: Machine, vcpu = 0) => {
	const { mfn, offset } = blockOf(machine, vcpu);
	return controlBlockView(machine.memory.look(Number(mfn)), offset);
};

/** The HVM guest on the FIFO ABI, control blocks of both vCPUs, event words for 1024 ports, IPIs on ports 1 to 5. */
function fresh(ports = 5) {
	const machine = baseMachine();
	doneAll(machine, init(0, CONTROL[0]), init(1, CONTROL[1], 64), expand(ARRAY));
	for (let port = 1; port <= ports; port++) expect(done(machine, ipi())).toBe(port);
	return machine;
}

/** A port that can move between vCPUs: interdomain, bound to dom0's port 1. */
function movable() {
	const machine = fresh(0);
	doneAll(
		machine,
		{ op: "evtchn_alloc_unbound", domid: DOM0, remote: HVM },
		{ op: "evtchn_bind_interdomain", domid: HVM, remote: DOM0, remotePort: 1 },
	);
	drained(machine, HVM);
	return { machine, notify: { op: "evtchn_send", domid: DOM0, port: 1 } };
}

describe("queues", () => {
	test("are served by priority, each from the first event that came", () => {
		const machine = fresh();
		doneAll(machine, priority(2, 0), priority(4, 15), priority(5, 0));
		doneAll(machine, send(4), send(3), send(5), send(1), send(2));
		expect([0, 7, 15].map((queue) => view(machine).head(queue))).toEqual([5, 3, 4]);
		expect(view(machine).ready()).toBe((1 << 0) | (1 << 7) | (1 << 15));
		expect([0, 7, 15].map((queue) => blockOf(machine, 0).tail[queue])).toEqual([2, 1, 4]);
		expect(word(machine, 5) & EVENT_WORD.link).toBe(2);
		expect(word(machine, 3) >>> 0).toBe((EVENT_WORD.pending | EVENT_WORD.linked | 1) >>> 0);
		expect(drained(machine, HVM)).toEqual([5, 2, 3, 1, 4]);
		expect([1, 2, 3, 4, 5].map((port) => word(machine, port))).toEqual([0, 0, 0, 0, 0]);
		expect(view(machine).ready()).toBe(0);
	});

	test("hold an event once, however often it is sent", () => {
		const machine = fresh();
		doneAll(machine, send(1), send(2), send(1), send(1));
		expect(drained(machine, HVM)).toEqual([1, 2]);
		done(machine, send(1));
		expect(drained(machine, HVM)).toEqual([1]);
		expect(drained(machine, HVM)).toEqual([]);
	});

	test("a stale tail is no queue: what comes next becomes the head", () => {
		const machine = fresh();
		doneAll(machine, send(1), send(2));
		expect(drained(machine, HVM)).toEqual([1, 2]);
		expect(blockOf(machine, 0).tail[7]).toBe(2);
		done(machine, send(3));
		expect([view(machine).head(7), blockOf(machine, 0).tail[7]]).toEqual([3, 3]);
		expect(word(machine, 2) & EVENT_WORD.link).toBe(0);
		// The same one again that ended the queue: linked behind itself it would never end.
		expect(drained(machine, HVM)).toEqual([3]);
		done(machine, send(3));
		expect(drained(machine, HVM)).toEqual([3]);
	});
});

describe("a port that moves while it is linked", () => {
	test("stays on its old queue, which Xen remembers, until the guest has taken it off", () => {
		const { machine, notify } = movable();
		done(machine, notify);
		doneAll(machine, on("evtchn_bind_vcpu", 1, { vcpu: 1 }), priority(1, 3), notify);
		expect(row(machine, 1)).toMatchObject({ notifyVcpu: 1, priority: 3, lastVcpu: 0, lastPriority: 7 });
		expect([drained(machine, HVM, 1), drained(machine, HVM, 0)]).toEqual([[], [1]]);
		done(machine, notify);
		expect(row(machine, 1)).toMatchObject({ lastVcpu: 1, lastPriority: 3 });
		// Its old queue ended in it: that tail is no more.
		expect([blockOf(machine, 0).tail[7], blockOf(machine, 1).tail[3]]).toEqual([0, 1]);
		expect([drained(machine, HVM, 0), drained(machine, HVM, 1)]).toEqual([[], [1]]);
	});

	test("in priority, behind others", () => {
		const machine = fresh();
		doneAll(machine, send(1), send(2), priority(2, 1), send(3));
		expect(drained(machine, HVM)).toEqual([1, 2, 3]);
		doneAll(machine, send(1), send(2));
		expect(drained(machine, HVM)).toEqual([2, 1]);
		expect(row(machine, 2).lastPriority).toBe(1);
	});
});

describe("masked events", () => {
	test("are pending, linked nowhere, and linked when they are unmasked", () => {
		const machine = fresh();
		doneAll(machine, mask(1), send(1), send(2));
		expect(word(machine, 1) >>> 0).toBe((EVENT_WORD.pending | EVENT_WORD.masked) >>> 0);
		expect(drained(machine, HVM)).toEqual([2]);
		done(machine, unmask(1));
		expect(word(machine, 1) >>> 0).toBe((EVENT_WORD.pending | EVENT_WORD.linked) >>> 0);
		expect(drained(machine, HVM)).toEqual([1]);
	});

	test("masked while linked, are taken off the queue unhandled", () => {
		const machine = fresh();
		doneAll(machine, send(1), send(2), mask(1));
		expect(drained(machine, HVM)).toEqual([2]);
		expect(word(machine, 1) >>> 0).toBe((EVENT_WORD.pending | EVENT_WORD.masked) >>> 0);
		done(machine, unmask(1));
		expect(drained(machine, HVM)).toEqual([1]);
	});
});

describe("events without an event word", () => {
	test("are remembered by Xen, and linked when the array is expanded", () => {
		const machine = baseMachine();
		doneAll(machine, init(0, CONTROL[0]), ipi(), ipi(), send(2));
		expect(row(machine, 2).pending).toBe(1);
		expect(drained(machine, HVM)).toEqual([]);
		// Nothing that a poll could see.
		done(machine, { op: "sched_poll", domid: HVM, vcpu: 0, port: 2, deadline: 0 });
		done(machine, send(2));
		expect((machine.domain(HVM).tables.vcpu[0]?.flags as number) & VCPU_FLAG.blocked).not.toBe(0);
		done(machine, expand(ARRAY));
		expect(row(machine, 2).pending).toBe(0);
		expect((machine.domain(HVM).tables.vcpu[0]?.flags as number) & VCPU_FLAG.blocked).toBe(0);
		expect(drained(machine, HVM)).toEqual([2]);
	});

	test("and pending on the 2-level ABI, come along when a guest changes over", () => {
		const machine = baseMachine();
		doneAll(machine, ipi(), ipi(), send(2), init(0, CONTROL[0]));
		expect([row(machine, 1).pending, row(machine, 2).pending]).toEqual([0, 1]);
		expect([row(machine, 1).priority, row(machine, 2).priority]).toEqual([7, 7]);
		done(machine, expand(ARRAY));
		expect(drained(machine, HVM)).toEqual([2]);
	});

	test("or without a control block, are pending and linked nowhere", () => {
		const machine = baseMachine();
		doneAll(machine, init(0, CONTROL[0]), expand(ARRAY), ipi(1), send(1));
		expect(word(machine, 1) >>> 0).toBe(EVENT_WORD.pending);
		done(machine, init(1, CONTROL[1]));
		expect(drained(machine, HVM, 1)).toEqual([]);
		doneAll(machine, mask(1), unmask(1));
		expect(drained(machine, HVM, 1)).toEqual([1]);
	});
});

describe("a port that is closed while it is linked", () => {
	test("leaves its word on the queue, and its next user behind the stale link", () => {
		const machine = fresh();
		doneAll(machine, priority(2, 3), send(1), send(2), close(2));
		expect(word(machine, 2) >>> 0).toBe(EVENT_WORD.linked);
		expect(row(machine, 2)).toMatchObject({ state: EVTCHN_STATE.free, lastVcpu: 0, lastPriority: 3 });
		expect(done(machine, ipi(1))).toBe(2);
		expect(row(machine, 2)).toMatchObject({ notifyVcpu: 1, priority: 7, lastVcpu: 0, lastPriority: 3 });
		// It is linked yet: on the old queue of vCPU 0, where it is handled for the new one.
		done(machine, send(2));
		expect([drained(machine, HVM, 1), drained(machine, HVM, 0)]).toEqual([[], [2, 1]]);
		done(machine, send(2));
		expect(row(machine, 2)).toMatchObject({ lastVcpu: 1, lastPriority: 7 });
		expect(blockOf(machine, 0).tail[3]).toBe(0);
		expect(drained(machine, HVM, 1)).toEqual([2]);
	});

	test("is free as any other one: the lowest comes first", () => {
		const machine = fresh();
		doneAll(machine, send(3), close(3), close(4));
		expect(doneAll(machine, ipi(), ipi(), ipi())).toEqual([3, 4, 6]);
	});
});

describe("control blocks", () => {
	test("are one for each vCPU, 8-aligned within a page that becomes writable, and empty", () => {
		const machine = baseMachine();
		const mfn = mfnOf(machine, HVM, CONTROL[0]) as number;
		machine.memory.page(mfn).fill(0xff, 0, 512);
		done(machine, init(0, CONTROL[0], 8));
		expect(machine.domain(HVM).tables.evtchn?.abi).toBe(EVTCHN_ABI.fifo);
		expect(references(machine, mfn)).toEqual([2, 1]);
		expect(Array.from({ length: 16 }, (_, queue) => view(machine).head(queue))).toEqual(new Array(16).fill(0));
		refused(machine, init(0, CONTROL[1]), "EINVAL");
		refused(machine, init(1, CONTROL[1], 4), "EINVAL");
		refused(machine, init(1, CONTROL[1], 4096 - 64), "EINVAL");
		refused(machine, init(1, CONTROL[1], -8), "EINVAL");
		refused(machine, init(1, 1500), "EINVAL");
		refused(machine, init(9, CONTROL[1]), "ENOENT");
		refused(machine, init(0, 0, 0, 66), "ESRCH");
		done(machine, init(1, CONTROL[0], 4096 - 72));
		expect(references(machine, mfn)).toEqual([3, 2]);
		checkInvariants(machine);
	});

	test("that cannot be leave a guest on the 2-level ABI", () => {
		const machine = baseMachine();
		const { root, plain } = pvLayout(machine, PV);
		refused(machine, init(0, root, 0, PV), "EINVAL");
		refused(machine, init(0, Number(machine.domain(PV).tables.sharedInfo?.mfn), 0, PV), "EINVAL");
		refused(machine, init(0, pvLayout(machine, DOM0).plain[0] as number, 0, PV), "EINVAL");
		done(machine, init(0, plain[0] as number, 0, PV));
		expect(references(machine, plain[0] as number)).toEqual([3, 2]);
	});
});

describe("the event array", () => {
	test("has at most 128 frames, 131,072 ports, of which the last one works", () => {
		const machine = baseMachine();
		refused(machine, expand(ARRAY), "EOPNOTSUPP");
		refused(machine, expand(ARRAY, 66), "ESRCH");
		done(machine, init(0, CONTROL[0]));
		refused(machine, expand(1500), "EINVAL");
		for (let i = 0; i < 128; i++) done(machine, expand(i));
		refused(machine, expand(200), "ENOSPC");
		expect(references(machine, mfnOf(machine, HVM, 127) as number)).toEqual([2, 1]);
		const { ports } = machine.domain(HVM).tables;
		done(machine, ipi());
		// Bound one by one they would take minutes: each looks for the lowest free port.
		const template = row(machine, 1);
		for (let port = ports.length; port < 131_072 - 64; port++) ports.push({ ...template });
		for (let port = 2; port < 131_072 - 64; port++) ports[port] ??= { ...template };
		for (let port = 131_072 - 64; port < 131_071; port++) expect(done(machine, ipi())).toBe(port);
		expect(done(machine, ipi())).toBe(131_071);
		refused(machine, ipi(), "ENOSPC");
		doneAll(machine, send(131_071), send(1));
		expect(drained(machine, HVM)).toEqual([131_071, 1]);
		expect(row(machine, 131_071).state).toBe(EVTCHN_STATE.ipi);
	}, 60_000);

	test("priorities go from 0 to 15, and are the FIFO ABI's alone", () => {
		const machine = fresh();
		refused(machine, priority(1, 16), "EINVAL");
		refused(machine, priority(1, -1), "EINVAL");
		refused(machine, priority(9, 1), "EINVAL");
		const other = baseMachine();
		done(other, ipi());
		refused(other, priority(1, 3), "ENOSYS");
	});
});

describe("evtchn_reset", () => {
	test("gives all frames back, and the 2-level ABI, and forgets the queues", () => {
		const machine = fresh();
		const mfns = [...CONTROL, ARRAY].map((gfn) => mfnOf(machine, HVM, gfn) as number);
		doneAll(machine, priority(2, 3), send(2), { op: "evtchn_reset", domid: HVM });
		expect(mfns.map((mfn) => references(machine, mfn))).toEqual([
			[1, 0],
			[1, 0],
			[1, 0],
		]);
		const { tables } = machine.domain(HVM);
		expect([tables.evtchn, tables.controlBlocks, tables.eventArrays]).toEqual([{ abi: EVTCHN_ABI.twoLevel }, [], []]);
		expect(tables.ports.every((entry) => entry === undefined)).toBe(true);
		checkInvariants(machine);
		expect(done(machine, ipi())).toBe(1);
		expect(row(machine, 1)).toMatchObject({ priority: 0, lastPriority: 0 });
		done(machine, send(1));
		expect(drained(machine, HVM)).toEqual([1]);
	});
});
