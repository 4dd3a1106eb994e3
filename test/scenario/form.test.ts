/** What a scenario's file may hold: every mistake is told with its place, what was expected and what is there; rubbish ends in XLU_E_SCENARIO, never in a crash or without an end. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { XluError } from "../../src/errors.ts";
import { type OperationDefinition, operations, type Parameter } from "../../src/machine/live/operations.ts";
import { parseScenario, readScenario, scenarioLimits } from "../../src/scenario/index.ts";

const host = { frames: 4096 };
const withSteps = (...steps: unknown[]) => ({ host, steps });

function refusalOf(run: () => unknown): XluError {
	try {
		run();
	} catch (error) {
		if (error instanceof XluError) return error;
		throw error;
	}
	throw new Error("not refused");
}
const problemsOf = (value: unknown) => refusalOf(() => parseScenario(value)).problems ?? [];

describe("a scenario's form", () => {
	it("takes what is right, with its defaults", () => {
		const scenario = parseScenario(
			withSteps({ op: "evtchn_send", domid: 0, port: "0x10", note: "why" }, { update: {} }),
		);
		expect(scenario).toMatchObject({
			name: "scenario",
			description: "",
			seed: 1,
			host: { frames: 4096, cpus: 4 },
			steps: [
				{ kind: "operation", op: "evtchn_send", parameters: { domid: 0, port: 16 }, note: "why" },
				{ kind: "update" },
			],
		});
	});

	const send = { op: "evtchn_send", domid: 0, port: 1 };
	it.each<[string, unknown, string, RegExp, string]>([
		["no object", [], "the scenario", /an object with host and steps/, "a list of 0"],
		["null", null, "the scenario", /an object/, "null"],
		["no host", { steps: [] }, "host", /captured host/, "nothing"],
		["no steps", { host }, "steps", /a list of steps/, "nothing"],
		["an unknown key", { ...withSteps(), step: [] }, "step", /nearest: "steps"/, '"step"'],
		["a small host", { host: { frames: 1 }, steps: [] }, "host.frames", /2048 to 131072/, "1"],
		["a broken synthetic host", { host: "synthetic:domain=3", steps: [] }, "host", /domains/, '"synthetic:domain=3"'],
		["a step of another type", withSteps(3), "steps[0]", /a step: an object/, "3"],
		["a step that says nothing", withSteps({}), "steps[0]", /a step: an object with op/, "an object"],
		["a step's misspelt key", withSteps({ updat: {} }), "steps[0]", /nearest: "update"/, '"updat"'],
		[
			"an unknown operation",
			withSteps({ op: "evtchn_sent" }),
			"steps[0].op",
			/nearest: "evtchn_send"/,
			'"evtchn_sent"',
		],
		["no operation", withSteps({ op: 7 }), "steps[0].op", /an operation/, "7"],
		["a prototype's operation", withSteps({ op: "constructor" }), "steps[0].op", /an operation/, '"constructor"'],
		["a missing parameter", withSteps({ op: "evtchn_send", domid: 0 }), "steps[0].port", /needs it/, "nothing"],
		[
			"an unknown parameter",
			withSteps({ ...send, prot: 1 }),
			"steps[0].prot",
			/evtchn_send.*nearest: "port"/,
			'"prot"',
		],
		[
			"a prototype's key",
			withSteps(JSON.parse('{"op":"evtchn_send","domid":0,"port":1,"__proto__":{}}')),
			"steps[0].__proto__",
			/a parameter of/,
			'"__proto__"',
		],
		["a number below", withSteps({ ...send, port: -1 }), "steps[0].port", /0 to 4294967295/, "-1"],
		["a number beyond", withSteps({ ...send, domid: 65536 }), "steps[0].domid", /0 to 65535/, "65536"],
		["a broken number", withSteps({ ...send, port: 1.5 }), "steps[0].port", /whole number/, "1.5"],
		["no number", withSteps({ ...send, port: Number.NaN }), "steps[0].port", /whole number/, "null"],
		["a number as text", withSteps({ ...send, port: "1" }), "steps[0].port", /whole number/, '"1"'],
		[
			"a word without its quotes",
			withSteps({ op: "time_advance", nanoseconds: 2 ** 60 }),
			"steps[0].nanoseconds",
			/0x/,
			"1152921504606847000",
		],
		[
			"a word too long",
			withSteps({ op: "time_advance", nanoseconds: "0x10000000000000000" }),
			"steps[0].nanoseconds",
			/64 bits/,
			'"0x10000000000000000"',
		],
		[
			"a flag as text",
			withSteps({ op: "domain_create", domid: 1, kind: "pv", privileged: "yes" }),
			"steps[0].privileged",
			/true or false/,
			'"yes"',
		],
		[
			"an unknown kind",
			withSteps({ op: "domain_create", domid: 1, kind: "pvm" }),
			"steps[0].kind",
			/"pv", "pvh", "hvm"; nearest/,
			'"pvm"',
		],
		["no list", withSteps({ op: "set_gdt", domid: 1, vcpu: 0, mfns: 3, entries: 1 }), "steps[0].mfns", /a list/, "3"],
		[
			"a list too long",
			withSteps({ op: "set_gdt", domid: 1, vcpu: 0, mfns: new Array(17).fill(1), entries: 1 }),
			"steps[0].mfns",
			/at most 16/,
			"a list of 17",
		],
		[
			"a list's entry",
			withSteps({ op: "set_gdt", domid: 1, vcpu: 0, mfns: [1, null], entries: 1 }),
			"steps[0].mfns[1]",
			/whole number/,
			"null",
		],
		["an unknown refusal", withSteps({ ...send, expect: "EBUSI" }), "steps[0].expect", /nearest: "EBUSY"/, '"EBUSI"'],
		[
			"a grant's refusal elsewhere",
			withSteps({ ...send, expect: "GNTST_bad_page" }),
			"steps[0].expect",
			/a number, or one of/,
			'"GNTST_bad_page"',
		],
		[
			"a list where none comes",
			withSteps({ ...send, expect: [1] }),
			"steps[0].expect",
			/returns no list/,
			"a list of 1",
		],
		[
			"a number where a list comes",
			withSteps({ op: "evtchn_drain", domid: 0, vcpu: 0, expect: 1 }),
			"steps[0].expect",
			/a list of numbers/,
			"1",
		],
		["a name for nothing", withSteps({ ...send, as: "x" }), "steps[0].as", /returns nothing/, '"x"'],
		[
			"a name for a list",
			withSteps({ op: "evtchn_drain", domid: 0, vcpu: 0, as: "x" }),
			"steps[0].as",
			/returns a list/,
			'"x"',
		],
		[
			"a name that is none",
			withSteps({ op: "evtchn_bind_ipi", domid: 0, vcpu: 0, as: "a b" }),
			"steps[0].as",
			/letters/,
			'"a b"',
		],
		[
			"a name twice",
			withSteps(
				{ op: "evtchn_bind_ipi", domid: 0, vcpu: 0, as: "a" },
				{ op: "evtchn_bind_ipi", domid: 0, vcpu: 0, as: "a" },
			),
			"steps[1].as",
			/no other step/,
			'"a"',
		],
		["a result before its step", withSteps({ ...send, port: "$port" }), "steps[0].port", /earlier step/, '"$port"'],
		[
			"a misspelt result",
			withSteps({ op: "evtchn_bind_ipi", domid: 0, vcpu: 0, as: "port" }, { ...send, port: "$prot" }),
			"steps[1].port",
			/nearest: "\$port"/,
			'"$prot"',
		],
		[
			"an update's option",
			withSteps({ update: { xen2size: 3 } }),
			"steps[0].update.xen2size",
			/nearest: "xen2Size"/,
			'"xen2size"',
		],
		["an update of another type", withSteps({ update: true }), "steps[0].update", /an object/, "true"],
		[
			"an update's unknown error",
			withSteps({ update: {}, expect: "XLU_E_HANDOFF" }),
			"steps[0].expect",
			/an error code/,
			'"XLU_E_HANDOFF"',
		],
		["nothing to count", withSteps({ random: {} }), "steps[0].random.count", /1 to 100000/, "nothing"],
		[
			"too much at random",
			withSteps({ random: { count: 60_000 } }, { random: { count: 60_000 } }),
			"steps[1].random.count",
			/in all/,
			"120000",
		],
		["nothing to look at", withSteps({ expect: {} }), "steps[0].expect", /something to look at/, "nothing"],
		["a misspelt subject", withSteps({ expect: { domd: 3 } }), "steps[0].expect", /nearest: "domid"/, '"domd"'],
		[
			"half a subject",
			withSteps({ expect: { port: 3, pending: true } }),
			"steps[0].expect.domid",
			/the domain/,
			"nothing",
		],
		[
			"nothing that is expected",
			withSteps({ expect: { domid: 3 } }),
			"steps[0].expect",
			/a property of a domain/,
			"nothing",
		],
		[
			"a misspelt property",
			withSteps({ expect: { domid: 3, port: 1, pendin: true } }),
			"steps[0].expect.pendin",
			/a property of a port.*nearest: "pending"/,
			'"pendin"',
		],
		["a state that nobody remembers", withSteps({ expect: { same: "x" } }), "steps[0].expect.same", /remembers/, '"x"'],
		["a frame that nobody names", withSteps({ find: { domid: 1, type: "l1" } }), "steps[0].as", /a name/, "nothing"],
		[
			"a type of frame",
			withSteps({ find: { domid: 1, type: "l5" }, as: "x" }),
			"steps[0].find.type",
			/nearest: "l1"/,
			'"l5"',
		],
		[
			"too many steps",
			{ host, steps: new Array(scenarioLimits.steps + 1).fill({ update: {} }) },
			"steps",
			/at most 10000/,
			"a list of 10001",
		],
		[
			"too many updates",
			withSteps(...new Array(1001).fill({ update: {} })),
			"steps[1000]",
			/at most 1000/,
			'"one more"',
		],
	])("%s", (_what, value, field, expected, got) => {
		const [problem, ...others] = problemsOf(value);
		expect(others).toEqual([]);
		expect(problem).toEqual({ field, expected: expect.stringMatching(expected), got });
	});

	it("tells of ten problems and counts the others", () => {
		const error = refusalOf(() => parseScenario(withSteps(...new Array(25).fill({ op: "x" })), "many"));
		expect(error.problems?.map(({ field }) => field)).toEqual(Array.from({ length: 10 }, (_, i) => `steps[${i}].op`));
		expect(error).toMatchObject({ code: "XLU_E_SCENARIO", exitStatus: 2, record: "many", field: "steps[0].op" });
		expect(error.message).toMatch(/the first of 25 problems/);
	});
});

describe("rubbish", () => {
	const text = (value: string) => new TextEncoder().encode(value);
	it.each<[string, Uint8Array, RegExp]>([
		["an empty file", text(""), /JSON.*an empty file/],
		["no JSON", text('{\n "host": }'), /JSON/],
		["half a file", text('{"host": {'), /JSON/],
		["a binary file", Uint8Array.from({ length: 5000 }, (_, i) => (i * 167) & 255), /UTF-8/],
		["zeros", new Uint8Array(100), /JSON/],
		["a huge file", new Uint8Array(scenarioLimits.octets + 1).fill(0x20), /octets/],
		["lists without end", text("[".repeat(2_000_000)), /JSON/],
		["a deep list", text(`${"[".repeat(500_000)}${"]".repeat(500_000)}`), /a list of 1/],
		[
			"a deep parameter",
			text(
				`{"host":{},"steps":[{"op":"evtchn_send","domid":0,"port":${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}}]}`,
			),
			/steps\[0\].port.*an object/,
		],
		["a long name", text(JSON.stringify({ host, steps: [{ ["x".repeat(1_000_000)]: 1 }] })), /a step with/],
		["a long operation", text(JSON.stringify({ host, steps: [{ op: "x".repeat(1_000_000) }] })), /an operation/],
	])("%s", (_what, octets, message) => {
		const error = refusalOf(() => readScenario(octets, "rubbish"));
		expect(error).toMatchObject({ code: "XLU_E_SCENARIO", message: expect.stringMatching(message) });
		expect(error.message.length).toBeLessThan(500);
	});

	it("a byte order mark is none", () => {
		expect(readScenario(text(`\ufeff${JSON.stringify(withSteps())}`)).steps).toEqual([]);
	});

	const anything = fc.anything({ withBigInt: true, withNullPrototype: true, maxDepth: 3 });
	it("any value at any place is a scenario or refused", () => {
		const key = fc.constantFrom(
			"op",
			"domid",
			"port",
			"expect",
			"as",
			"update",
			"find",
			"random",
			"remember",
			"__proto__",
		);
		const step = fc.dictionary(key, fc.oneof(anything, fc.constantFrom("evtchn_send", 1, "$x", {})));
		fc.assert(
			fc.property(fc.oneof(anything, fc.constant(host)), fc.oneof(anything, fc.array(step)), (where, steps) => {
				try {
					parseScenario({ host: where, steps });
				} catch (error) {
					expect(error).toMatchObject({ code: "XLU_E_SCENARIO" });
				}
			}),
			{ seed: 5, numRuns: 3000 },
		);
	});
});

/** Values at the ends of what a parameter takes, and beyond. */
function valuesOf(parameter: Parameter): unknown[] {
	const max = parameter.max ?? 2 ** 53 - 1;
	if (parameter.type === "boolean") return [true, false];
	if (parameter.type === "name") return [...(parameter.names ?? [])];
	if (parameter.type === "word") return [0, 1, "0xffffffffffffffff", 2 ** 53 - 1];
	if (parameter.type === "integers") return [[], [0, max], new Array(16).fill(1)];
	return [0, 1, max];
}

describe("every operation", () => {
	it.each(Object.entries<OperationDefinition>(operations))(
		"%s takes what its table says, and no more",
		(op, { parameters }) => {
			const first = Object.fromEntries(Object.entries(parameters).map(([key, entry]) => [key, valuesOf(entry)[0]]));
			for (const [key, parameter] of Object.entries(parameters)) {
				for (const value of valuesOf(parameter)) parseScenario(withSteps({ op, ...first, [key]: value }));
				for (const wrong of [null, -1, 2 ** 60, "x", {}, [[]], "__proto__"]) {
					const [problem] = problemsOf(withSteps({ op, ...first, [key]: wrong }));
					expect(problem?.field.startsWith(`steps[0].${key}`), `${key} ${JSON.stringify(wrong)}`).toBe(true);
				}
			}
		},
	);
});
