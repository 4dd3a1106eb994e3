/**
 * One case per way to break a rule: the tiny host or its stream changed in one place, checksums made anew. The refusal
 * names the rule, the section and domain, the record, the field, what was expected and what was found (X1).
 */
import { describe, expect, test } from "vitest";
import { ruleByNumber, rules } from "../../src/format/rules.ts";
import { ruleTexts } from "../../src/format/ruleText.ts";
import { records } from "../../src/format/schema.ts";
import { memoryFor, newCore, openCheck, refusal, restoreAll, saveModel, saveTiny } from "../support/core.ts";
import { faultText } from "../support/faultText.ts";
import { brokenRefusal, refusalCases } from "../support/refusalCases.ts";
import { parse, StreamRecord } from "../support/restitch.ts";
import { brokenStream, ruleCases } from "../support/ruleCases.ts";
import { brokenSecond, secondCases } from "../support/secondCases.ts";
import { secondHost } from "../support/secondHost.ts";
import { tinyHost } from "../support/tinyHost.ts";

const tiny = saveTiny();

const severityCodes = { damaged: "XLU_E_DAMAGED", version: "XLU_E_VERSION", refused: "XLU_E_REFUSED" };

/** Every case of the tiny host in version 1; those of what version 2 adds; and what these would not miss. */
const allCases = [
	...ruleCases.map((one) => ({ ...one, broken: () => brokenStream(one) })),
	...secondCases.map((one) => ({ ...one, broken: () => brokenSecond(one) })),
	...refusalCases.map((one) => ({ ...one, broken: () => brokenRefusal(one) })),
];

describe.each([...new Set(allCases.map(({ rule }) => rule))])("%s", (name) => {
	const rule = rules.find((entry) => entry.name === name);
	test.each(allCases.filter((one) => one.rule === name))("$what: refused at $fault", (one) => {
		const { stream, memory } = one.broken();
		const core = newCore();
		const bystander = core.allocate(8192);
		core.bytes(bystander).fill(0xa5);
		const result = refusal(stream, memory, false, core);
		expect(result && ruleByNumber(result.fault.rule)?.name).toBe(name);
		if (!result) return;
		const { fault, error } = result;
		expect(faultText(fault, name)).toBe(one.fault);
		expect(fault.ruleId).toBe(`XLU-R${String(rule?.id).padStart(3, "0")}`);
		const code = name === "MEMORY" ? "XLU_E_MEMORY" : severityCodes[rule?.severity ?? "refused"];
		expect(error).toMatchObject({ code, rule: fault.ruleId, offset: fault.offset });
		const isBound = fault.expected === fault.got;
		expect(error.message).toContain(`expected ${isBound ? "other than " : ""}${fault.expected}`);
		// The offset leads to the record that is named.
		if (fault.record && !fault.record.startsWith("0x")) {
			const def = records.find((entry) => entry.name === fault.record);
			const view = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
			expect(view.getUint32(fault.offset, true)).toBe(def?.type);
		}
		expect(core.bytes(bystander).every((octet) => octet === 0xa5)).toBe(true);
	});
});

test("every text is a rule's, and every rule is told why it is one and what can be done", () => {
	expect(Object.keys(ruleTexts).filter((name) => !rules.some((rule) => rule.name === name))).toEqual([]);
	for (const { name, why, advice } of rules) {
		expect(why.length, name).toBeGreaterThan(40);
		expect(advice.length, name).toBeGreaterThan(40);
	}
});

describe("every rule has a case", () => {
	/** Rules that no change of a stream can break, and what holds them. */
	const elsewhere: Record<string, string> = {
		WINDOW: "test/passes/windows.test.ts",
		PASS_ORDER: "test/passes/rows/order.ts",
		NOT_CHECKED: "test/passes/rows/order.ts",
		NEEDS_MEMORY: "test/passes/rows/order.ts",
		IMAGE: "test/core/image.test.ts: a stream has no image",
		COMPARE: "test/core/roundtrip.test.ts",
		FORMAT: "test/core/versions.test.ts: an image that is saved",
	};

	test("or is held elsewhere", () => {
		const held = new Set([...allCases.map(({ rule }) => rule), ...Object.keys(elsewhere)]);
		expect(rules.map(({ name }) => name).filter((name) => !held.has(name))).toEqual([]);
		for (const name of held)
			expect(
				rules.some((rule) => rule.name === name),
				name,
			).toBe(true);
	});

	test("no two cases are the same", () => {
		const names = allCases.map(({ rule, what }) => `${rule}: ${what}`);
		expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
	});
});

describe("F3: unknown records", () => {
	test("optional ones (bit 31) in every section are skipped: the restored image is the same", () => {
		const parsed = parse(tiny.stream);
		for (const [i, section] of parsed.sections.entries()) {
			for (let n = 0; n < 3; n++) {
				const at = Math.floor((section.records.length * n) / 2);
				const type = [0x8000_0000 + i, 0xc000_0000 + i, 0xffff_ffff][n] as number;
				section.records.splice(at, 0, new StreamRecord(type, new Uint8Array(13 * n).fill(0xee)));
			}
		}
		const stream = parsed.build();
		expect(stream.length).toBeGreaterThan(tiny.stream.length);
		const checked = openCheck(stream, memoryFor(stream, tinyHost().preserved));
		const target = restoreAll(checked);
		expect(checked.context.compare(checked.core.place(tiny.image), target)).toBeUndefined();
	});

	test("an optional record still has to be framed: padding that is not zero is refused", () => {
		const parsed = parse(tiny.stream);
		const record = new StreamRecord(0x8000_0001, new Uint8Array(5));
		record.padding = Uint8Array.of(0, 0, 1);
		parsed.section("2", 2).records.push(record);
		expect(refusal(parsed.build())?.error).toMatchObject({ code: "XLU_E_DAMAGED", rule: "XLU-R005" });
	});

	test("optional outside a section is refused", () => {
		const first = tiny.stream.slice();
		new DataView(first.buffer).setUint32(24, 0x8000_0001, true);
		expect(refusal(first)?.error).toMatchObject({ rule: "XLU-R008" });
	});
});

describe("without the preserved memory", () => {
	test("a stream is checked all the same, and what is not checkable is counted", () => {
		const { context } = openCheck(tiny.stream);
		expect(context.figure("notChecked")).toBe(2);
		expect(openCheck(tiny.stream, tiny.memory).context.figure("notChecked")).toBe(0);
	});

	test("what the stream alone shows is refused: one case of each rule of check", () => {
		for (const one of new Map(ruleCases.filter(({ memory }) => !memory).map((entry) => [entry.rule, entry])).values()) {
			const { stream } = brokenStream(one);
			const result = refusal(stream);
			expect(result && ruleByNumber(result.fault.rule)?.name, one.what).toBe(one.rule);
		}
	});
});

test("the tiny host as it is breaks no rule, nor does the second one", () => {
	expect(refusal(tiny.stream, tiny.memory)).toBeUndefined();
	const { model, preserved } = secondHost();
	const { stream, memory } = saveModel(model, preserved);
	expect(refusal(stream, memory)).toBeUndefined();
});

describe("version 2 says of what version 1 has what version 1 says", () => {
	/** What version 1 alone refuses, and a case whose octets are counted from the newest version's. */
	const ofVersion1 = (one: (typeof ruleCases)[number]) =>
		one.rule === "VERSION" || (one.rule === "VERSION1_REFUSES" && /32-bit|pae/i.test(one.what));

	test.each(ruleCases.filter((one) => !ofVersion1(one)))("$rule, $what: refused at $fault", (one) => {
		const { stream, memory } = brokenStream(one, 2);
		const { fault } = refusal(stream, memory) ?? {};
		expect(fault && ruleByNumber(fault.rule)?.name).toBe(one.rule);
		if (fault) expect(faultText(fault, one.rule)).toBe(one.fault);
	});
});
