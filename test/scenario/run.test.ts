/** Scenarios run: results, names, states, updates that are refused; and what a broken live update looks like. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type OperationDefinition, operations, type Parameter } from "../../src/machine/live/operations.ts";
import { parseScenario, readScenario, runScenario, type ScenarioOptions } from "../../src/scenario/index.ts";
import { updateMachine } from "../../src/update.ts";
import { coreModule, root } from "../support/core.ts";
import { accepts } from "./jsonSchema.ts";

const base = [
	{ op: "domain_create", domid: 0, kind: "pv", frames: 120, vcpus: 2, privileged: true },
	{ op: "domain_create", domid: 1, kind: "pv", frames: 60, vcpus: 2 },
	{ op: "domain_create", domid: 2, kind: "hvm", frames: 540, vcpus: 2 },
	{ op: "domain_create", domid: 3, kind: "pvh", frames: 40, vcpus: 2, target: 2 },
];
const played = (steps: unknown[], options: ScenarioOptions = {}) =>
	runScenario(parseScenario({ host: { frames: 4096 }, steps: [...base, ...steps] }), {
		module: coreModule,
		...options,
	});

const directory = join(root, "examples/scenarios");
const examples = readdirSync(directory).filter((name) => name.endsWith(".json"));

describe("the examples", () => {
	it("are there", () => expect(examples.length).toBeGreaterThanOrEqual(3));

	it.each(examples)("%s comes as expected, and nothing can be noticed", async (name) => {
		const octets = readFileSync(join(directory, name));
		const report = await runScenario(readScenario(octets, name, directory), { module: coreModule });
		expect(report.failures).toEqual([]);
		expect(report).toMatchObject({ identical: true, transparent: true });
		expect(report.updates.length).toBeGreaterThan(0);
	});

	const schema = JSON.parse(readFileSync(join(root, "docs/scenario.schema.json"), "utf8"));
	it.each(examples)("%s is what the JSON Schema says", (name) => {
		const value = JSON.parse(readFileSync(join(directory, name), "utf8"));
		expect(accepts(schema, value)).toBe(true);
		expect(accepts(schema, { ...value, steps: [...value.steps, { op: "evtchn_send", domid: 0, prot: 1 }] })).toBe(
			false,
		);
	});
});

describe("steps", () => {
	it("names go on through an update", async () => {
		const { failures, steps, updates } = await played([
			{ op: "evtchn_alloc_unbound", domid: 1, remote: 0, as: "front" },
			{ update: { seed: 3 } },
			{ op: "evtchn_bind_interdomain", domid: 0, remote: 1, remotePort: "$front", as: "back" },
			{ expect: { domid: 1, port: "$front", state: "interdomain", remote: 0, remotePort: "$back" } },
			{ find: { domid: 1, type: "writable", index: 2 }, as: "page" },
			{ expect: { frame: "$page", owner: 1 } },
			{ op: "evtchn_drain", domid: 0, vcpu: 0, expect: ["$back"] },
			{ op: "evtchn_bind_interdomain", domid: 0, remote: 1, remotePort: "$front", expect: "refused" },
			{ op: "domain_destroy", domid: 9, expect: "any" },
		]);
		expect(failures).toEqual([]);
		expect(updates.length).toBe(1);
		expect(steps.map(({ step }) => step).slice(4)).toEqual([
			"op",
			"update",
			"op",
			"expect",
			"find",
			"expect",
			"op",
			"op",
			"op",
		]);
		expect(steps.at(-2)).toMatchObject({ index: 11, ok: true, result: -22, resultText: "EINVAL", note: null });
	});

	it.each<[string, unknown, string, string]>([
		["a refusal that nobody expects", { op: "evtchn_send", domid: 1, port: 9 }, "no refusal", "EINVAL"],
		["another refusal", { op: "evtchn_send", domid: 1, port: 9, expect: "EBUSY" }, "EBUSY", "EINVAL"],
		["no refusal", { op: "domain_pause", domid: 1, expect: "refused" }, "refused", "0"],
		["another number", { op: "evtchn_bind_ipi", domid: 1, vcpu: 0, expect: 7 }, "7", "1"],
		["other ports", { op: "evtchn_drain", domid: 1, vcpu: 0, expect: [4] }, "[4]", "[]"],
		[
			"a name for a refusal",
			{ op: "evtchn_bind_ipi", domid: 9, vcpu: 0, expect: "any", as: "x" },
			"a result to be called x",
			"ESRCH",
		],
		[
			"a grant's refusal",
			{ op: "gnttab_unmap_grant_ref", domid: 0, handle: 3, expect: "GNTST_eagain" },
			"GNTST_eagain",
			"GNTST_bad_handle",
		],
		["another state", { expect: { domid: 1, kind: "hvm" } }, "hvm", "pv"],
		["what is not there", { expect: { domid: 9, frames: 3 } }, "3", "none"],
		["no such frame", { find: { domid: 3, type: "l4" }, as: "x" }, "a frame", "none"],
		["an update that is refused", { update: { xen2Size: 64 } }, "an update", "XLU_E_HANDOVER"],
		[
			"an update that is not refused",
			{ update: {}, expect: "XLU_E_REFUSED" },
			"XLU_E_REFUSED",
			"an update that was not refused",
		],
		[
			"another refusal of an update",
			{ update: { xen2Size: 64 }, expect: "XLU_E_REFUSED" },
			"XLU_E_REFUSED",
			"XLU_E_HANDOVER",
		],
	])("%s ends the scenario", async (_what, step, expected, got) => {
		const { failures, steps, transparent } = await played([step, { update: {} }]);
		expect(failures).toEqual([{ step: 4, what: expect.any(String), expected, got: expect.stringContaining(got) }]);
		expect(steps.map(({ ok }) => ok)).toEqual([true, true, true, true, false]);
		expect(transparent).toBe(true);
	});

	it("one state may differ in several ways", async () => {
		const { failures } = await played([{ expect: { domid: 1, kind: "pv", frames: 1, vcpus: 9 } }]);
		expect(failures.map(({ what }) => what)).toEqual(["frames of domid=1", "vcpus of domid=1"]);
	});

	it("the state is remembered", async () => {
		const same = [{ remember: "a" }, { update: {} }, { expect: { same: "a" } }];
		expect((await played(same)).failures).toEqual([]);
		const { failures } = await played([...same, { op: "domain_pause", domid: 1 }, { expect: { same: "a" } }]);
		expect(failures).toMatchObject([
			{ step: 8, expected: "no difference", got: expect.stringMatching(/^domain 1, table DomainState/) },
		]);
	});

	it("after an update that was refused xen#1 goes on", async () => {
		const { failures, updates } = await played([
			{ update: { xen2Size: 64 }, expect: "XLU_E_HANDOVER" },
			{ op: "domain_pause", domid: 1 },
			{ update: {} },
			{ expect: { domid: 1, pauses: 2 } },
		]);
		expect(failures).toEqual([]);
		expect(updates.length).toBe(1);
	});

	it("random operations are the same again by their seed", async () => {
		const steps = [{ random: { count: 150 } }, { update: {} }, { random: { count: 150, seed: 4 } }];
		const [a, b, other] = await Promise.all([played(steps), played(steps), played(steps, { seed: 99 })]);
		expect(a.failures).toEqual([]);
		expect(a.steps).toEqual(b.steps);
		expect(a.steps.at(-1)?.resultText).toMatch(/^\d+ done, \d+ refused/);
		expect(other.steps[4]?.text).not.toBe(a.steps[4]?.text);
	});
});

describe("a live update that breaks something is noticed", () => {
	const port = [
		{ op: "evtchn_bind_ipi", domid: 1, vcpu: 0, as: "port" },
		{ op: "evtchn_send", domid: 1, port: "$port" },
		{ update: {} },
	];
	const breaking =
		(change: (machine: Awaited<ReturnType<typeof updateMachine>>["machine"]) => void): typeof updateMachine =>
		async (machine, options) => {
			const updated = await updateMachine(machine, options);
			change(updated.machine);
			return updated;
		};

	it("by a result", async () => {
		const update = breaking((machine) => {
			machine.domains.get(1)?.tables.ports.fill(undefined);
		});
		const { failures, transparent } = await played([...port, { op: "evtchn_send", domid: 1, port: "$port" }], {
			update,
		});
		expect(transparent).toBe(false);
		expect(failures).toEqual([
			{ step: 7, what: "evtchn_send domid=1 port=1", expected: "0, as without updates", got: "EINVAL" },
		]);
	});

	it("by the state at the end", async () => {
		const update = breaking((machine) => {
			(machine.domains.get(1) as { references: number }).references++;
		});
		const { failures, transparent, identical } = await played(port, { update });
		expect([transparent, identical]).toEqual([false, true]);
		expect(failures).toMatchObject([{ step: null, got: expect.stringMatching(/^domain 1, table DomainCounts/) }]);
	});

	it("by memory alone", async () => {
		const update = breaking((machine) => machine.memory.setEntry(3000, 5, 7n));
		const { failures, transparent } = await played(port, { update });
		expect(transparent).toBe(false);
		expect(failures).toMatchObject([{ step: null, got: "frame 0xbb8, octet 40: 0 without updates, 7 with them" }]);
	});

	it("by the update's own comparison", async () => {
		const update: typeof updateMachine = async (machine, options) => {
			const { report, ...rest } = await updateMachine(machine, options);
			const difference = { domid: 1, table: "Ports", index: 1, field: "state", expected: "6", got: "0" };
			return { ...rest, report: { ...report, identical: false, difference } };
		};
		const { failures, identical, transparent } = await played(port, { update });
		expect([identical, transparent]).toEqual([false, false]);
		expect(failures[0]).toMatchObject({ step: 6, got: "domain 1, table Ports, row 1, field state: 6 became 0" });
	});
});

describe("wild parameters", () => {
	function anyValue(parameter: Parameter): fc.Arbitrary<unknown> {
		const max = parameter.max ?? 2 ** 53 - 1;
		const number = fc.oneof(
			fc.nat({ max: 12 }),
			fc.nat({ max: 2 ** 12 }),
			fc.constant(max),
			fc.maxSafeNat().map((n) => n % (max + 1)),
		);
		// Mostly domains that are there.
		if (max === 0xffff) return fc.oneof({ arbitrary: fc.nat({ max: 3 }), weight: 9 }, number);
		if (parameter.type === "boolean") return fc.boolean();
		if (parameter.type === "name") return fc.constantFrom(...(parameter.names ?? []));
		if (parameter.type === "integers") return fc.array(number, { maxLength: 16 });
		if (parameter.type === "integer") return number;
		return fc.oneof(
			number,
			fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((n) => `0x${n.toString(16)}`),
		);
	}
	// Not those that an update waits for, or does not begin with: they are there to make it fail (quiesce.test.ts).
	const passing = Object.entries<OperationDefinition>(operations).filter(
		([op]) => op !== "continuation_begin" && op !== "ioreq_send",
	);
	const step = fc.constantFrom(...passing).chain(([op, { parameters }]) =>
		fc.record({
			op: fc.constant(op),
			expect: fc.constant("any"),
			...Object.fromEntries(Object.entries(parameters).map(([key, entry]) => [key, anyValue(entry)])),
		}),
	);

	it("are done or refused, and the update after them is the same as none", async () => {
		await fc.assert(
			fc.asyncProperty(fc.array(step, { minLength: 150, maxLength: 150 }), async (steps) => {
				const { failures } = await played([...steps, { update: {} }, ...steps]);
				expect(failures).toEqual([]);
			}),
			{ seed: Number(process.env.XLU_SEED ?? 1), numRuns: Number(process.env.XLU_RUNS ?? 20), endOnFailure: true },
		);
	});
});
