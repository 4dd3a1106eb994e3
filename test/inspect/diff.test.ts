import { describe, expect, test } from "vitest";
import type { Fields, StreamItem } from "../../src/formats/common/record.ts";
import { differences, FactCollector } from "../../src/inspect/diff.ts";

function item(name: string, fields: Fields): StreamItem {
	const place = { index: 0, layer: "libxc", kind: "record", type: 1, offset: 0, length: 0 } as const;
	return { ...place, name, isLittle: true, octets: undefined, fields };
}

function facts(...items: StreamItem[]) {
	const collector = new FactCollector();
	for (const each of items) collector.add(each);
	return collector.facts;
}

describe("what two streams say differently", () => {
	test("records are matched by what they are about, wherever they stand", () => {
		const first = item("BASIC", { vcpu: 0, rip: "0x1" });
		const second = item("BASIC", { vcpu: 1, rip: "0x2" });
		expect([...differences(facts(first, second), facts(second, first))]).toEqual([]);
	});

	test("a field that differs is named, in objects and in arrays of them by their keys", () => {
		const a = item("HVM", {
			entries: [
				{ name: "CPU", instance: 0, rip: 1 },
				{ name: "PIT", instance: 0, rip: 2 },
			],
		});
		const b = item("HVM", {
			entries: [
				{ name: "PIT", instance: 0, rip: 3 },
				{ name: "CPU", instance: 0, rip: 1 },
			],
		});
		expect([...differences(facts(a), facts(b))]).toEqual([
			{ where: "libxc HVM", field: "entries[PIT 0].rip", a: 2, b: 3 },
		]);
	});

	test("what is on one side only is told, of repeated records the one that is too many", () => {
		const one = item("MARK", {});
		expect([...differences(facts(one), facts(one, one))]).toEqual([
			{ where: "libxc MARK (2)", field: null, a: null, b: "present" },
		]);
		expect([...differences(facts(one), facts())]).toEqual([
			{ where: "libxc MARK", field: null, a: "present", b: null },
		]);
		expect([...differences(facts(item("X", { a: 1 })), facts(item("X", { b: [1] })))]).toEqual([
			{ where: "libxc X", field: "a", a: 1, b: null },
			{ where: "libxc X", field: "b", a: null, b: [1] },
		]);
	});
});
