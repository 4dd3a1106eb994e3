/** P0 to P4: every row of the table, as `rule | arrangement | outcome`. docs/PASSES.md is the same table. */
import { describe, expect, test } from "vitest";
import { pairs } from "./after.ts";
import { cells, groups } from "./arrangements.ts";
import { CoreStage } from "./stage.ts";

for (const group of groups) {
	describe(group.title, () => {
		for (const row of group.rows) {
			test(cells(row).join(" | "), () => {
				const stage = new CoreStage(row);
				row.run(stage);
				stage.settle();
			});
		}
	});
}

describe("the table", () => {
	const rows = groups.flatMap((group) => group.rows);

	test("has no row twice", () => {
		const titles = rows.map((row) => cells(row).join(" | "));
		expect(new Set(titles).size).toBe(titles.length);
	});

	test("has rows of every requirement on passes", () => {
		const rules = new Set(rows.map(({ rule }) => rule));
		for (const rule of ["P0", "P1", "P2", "P3", "P4", "X1", "S3", "F3", "XLU-R015", "XLU-R021"]) {
			expect(rules, rule).toContain(rule);
		}
	});

	test("has a row for each 'after' of the schema", () => {
		for (const { later, earlier } of pairs) {
			const found = rows.filter(
				({ rule, arrangement }) =>
					rule === "XLU-R015" && new RegExp(`^${later.name} stands before .*\\b${earlier.name};`).test(arrangement),
			);
			expect(found.length, `${later.name} after ${earlier.name}`).toBe(1);
		}
		expect(pairs.length).toBeGreaterThan(20);
	});
});
