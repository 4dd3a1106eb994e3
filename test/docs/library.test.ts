/** docs/LIBRARY.md: its examples run as they stand and print what it says; every export has its line. CONTRIBUTING.md names the peers. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { root } from "../support/core.ts";

const text = readFileSync(join(root, "docs/LIBRARY.md"), "utf8");
const examples = [...text.matchAll(/```js\n([\s\S]*?)```\n\n```text\n([\s\S]*?)```/g)].map(
	([, code, output]) => [code, output] as [string, string],
);
// Inside the repository, so that the package finds itself by its name.
const folder = mkdtempSync(join(root, "build", "library-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Names that src/index.ts exports, types included. */
function exported(): string[] {
	const index = readFileSync(join(root, "src/index.ts"), "utf8");
	return [...index.matchAll(/^export (?:type )?\{([^}]*)\}/gm)].flatMap(([, list]) =>
		(list as string)
			.split(",")
			.map((name) => name.trim().replace(/^type /, ""))
			.filter((name) => name !== ""),
	);
}

describe("docs/LIBRARY.md", () => {
	test("no example is without its output", () => {
		expect(examples.length).toBeGreaterThan(7);
		expect(text.match(/```js\n/g)).toHaveLength(examples.length);
	});

	test.each(examples.map(([code, output], i) => [i + 1, code, output] as const))("example %i", (i, code, output) => {
		const file = join(folder, `example-${i}.mjs`);
		writeFileSync(file, code);
		expect(execFileSync(process.execPath, [file], { cwd: root, encoding: "utf8" })).toBe(output);
	});

	test("every export is named in its list, once, and nothing else is", () => {
		const [, list = ""] = text.split("## What is exported");
		const named = [...list.matchAll(/^\| (`[^|]*`) \|/gm)].flatMap(([, names]) =>
			[...(names as string).matchAll(/`(\w+)`/g)].map(([, name]) => name as string),
		);
		expect(named.toSorted()).toEqual(exported().toSorted());
	});
});

test("CONTRIBUTING.md names every file of peers/", () => {
	const contributing = readFileSync(join(root, "CONTRIBUTING.md"), "utf8");
	for (const name of readdirSync(join(root, "peers"))) expect(contributing, name).toContain(name);
});
