/** Quiesce: who stops when (T1), and what a live update does not begin with (T2). */
import { describe, expect, test } from "vitest";
import { type Continuation, continuationKinds, needNoContinuations, quiesce } from "../../src/machine/quiesce.ts";
import { updateMachine } from "../../src/update.ts";
import { coreModule } from "../support/core.ts";
import { baseMachine, mustRun } from "../support/living.ts";

const running = { isStopped: false, isPrivileged: false };
const domains = [
	{ ...running, domid: 0, vcpus: [0, 1], isPrivileged: true },
	{ ...running, domid: 1, vcpus: [0] },
	{ ...running, domid: 2, vcpus: [0, 1] },
	{ ...running, domid: 3, vcpus: [0] },
];
const request = (domid: number, vcpu: number, emulator: number, turns: number) => ({
	domid,
	vcpu,
	server: 1,
	emulator,
	turns,
});
const order = (stops: ReturnType<typeof quiesce>) => stops.map(({ domid, vcpu, turn }) => `${domid}.${vcpu}@${turn}`);

describe("T1: requests in flight", () => {
	test("without any, all stop at once", () => {
		expect(order(quiesce(domains, []))).toEqual(["0.0@0", "0.1@0", "1.0@0", "2.0@0", "2.1@0", "3.0@0"]);
	});

	test("a vCPU stops as soon as its own has ended, its emulator last", () => {
		const stops = quiesce(domains, [request(2, 0, 0, 5), request(1, 0, 0, 2)]);
		expect(order(stops)).toEqual(["2.1@0", "3.0@0", "1.0@2", "2.0@5", "0.0@5", "0.1@5"]);
	});

	test("a stub domain stops before dom0, which serves it", () => {
		const stops = order(quiesce(domains, [request(2, 1, 3, 1), request(1, 0, 0, 9)]));
		expect(stops.at(-3)).toBe("3.0@9");
		expect(stops.slice(-2)).toEqual(["0.0@9", "0.1@9"]);
	});

	test("an emulator that waits itself serves once it has its answer", () => {
		const stops = order(quiesce(domains, [request(2, 0, 3, 2), request(3, 0, 0, 4)]));
		expect(stops).toContain("2.0@6");
	});

	test("each request that is not answered in time is named, and nobody stays paused", () => {
		const stuck = [request(2, 0, 3, 3), request(2, 1, 3, 50)];
		expect(() => quiesce(domains, stuck, 10)).toThrow(
			expect.objectContaining({
				code: "XLU_E_QUIESCE",
				field: "domain 2, vCPU 1",
				expected: "an answer of I/O server 1 (domain 3) within 10 ms",
			}),
		);
		expect(stuck[0]?.turns).toBe(3);
	});

	test("an emulator that does not run answers nothing; two that wait for each other neither", () => {
		const stopped = domains.map((domain) => (domain.domid === 3 ? { ...domain, isStopped: true } : domain));
		expect(() => quiesce(stopped, [request(2, 0, 3, 1)], 5)).toThrow(/domain 3 does not run/);
		expect(() => quiesce(domains, [request(1, 0, 3, 1), request(3, 0, 1, 1)], 5)).toThrow(/and 1 more/);
	});
});

describe("T2: what Xen has begun", () => {
	test.each(Object.entries(continuationKinds))("%s is refused by its name", (kind, text) => {
		const one = { kind, domid: 4 } as Continuation;
		expect(() => needNoContinuations({ requests: [], continuations: [one] })).toThrow(
			expect.objectContaining({ code: "XLU_E_QUIESCE", field: "domain 4", got: `${kind}: ${text}` }),
		);
	});
});

describe("a living machine", () => {
	const options = { module: coreModule, prepare: false };
	const withServer = () => {
		const machine = baseMachine();
		const [server] = mustRun(machine, [{ op: "ioreq_create", domid: 0, guest: 2 }]);
		mustRun(machine, [{ op: "ioreq_set_state", domid: 0, guest: 2, server: server as number, enabled: true }]);
		return { machine, server: server as number };
	};

	test("waits for its requests; afterwards there are none", async () => {
		const { machine, server } = withServer();
		mustRun(machine, [{ op: "ioreq_send", domid: 2, vcpu: 0, server, turns: 20 }]);
		const { report, machine: next } = await updateMachine(machine, options);
		expect(report.identical).toBe(true);
		expect(next.requests).toEqual([]);
	});

	test("goes on where they take too long: a later update is done", async () => {
		const { machine, server } = withServer();
		mustRun(machine, [{ op: "ioreq_send", domid: 2, vcpu: 0, server, turns: 20 }]);
		const before = machine.image();
		await expect(updateMachine(machine, { ...options, quiesceMs: 10 })).rejects.toMatchObject({
			code: "XLU_E_QUIESCE",
			outcome: "xen#1 resumed",
			stage: "quiesce",
		});
		expect(Buffer.compare(machine.image(), before)).toBe(0);
		mustRun(machine, [{ op: "ioreq_answer", domid: 0, guest: 2, vcpu: 0 }]);
		expect((await updateMachine(machine, { ...options, quiesceMs: 10 })).report.identical).toBe(true);
	});

	test("is not paused while a continuation is outstanding", async () => {
		const { machine } = withServer();
		mustRun(machine, [{ op: "continuation_begin", kind: "evtchn-reset", domid: 2 }]);
		await expect(updateMachine(machine, options)).rejects.toMatchObject({ outcome: "not paused", field: "domain 2" });
		mustRun(machine, [{ op: "continuation_end", kind: "evtchn-reset", domid: 2 }]);
		expect((await updateMachine(machine, options)).report.identical).toBe(true);
	});

	test("a server that goes takes its requests with it", () => {
		const { machine, server } = withServer();
		mustRun(machine, [{ op: "ioreq_send", domid: 2, vcpu: 0, server }]);
		mustRun(machine, [{ op: "ioreq_destroy", domid: 0, guest: 2, server }]);
		expect(machine.requests).toEqual([]);
	});
});
