import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const readme = readFileSync(join(root, "README.md"), "utf8");

describe("the README", () => {
	it("has a quick start that runs as it stands", () => {
		const [, code] = /```js\n([\s\S]*?)```/.exec(readme) ?? [];
		expect(code?.trim().split("\n").length).toBeLessThanOrEqual(10);
		// Inside the repository, so that the package finds itself by its name.
		const folder = mkdtempSync(join(root, "build", "readme-"));
		try {
			writeFileSync(join(folder, "quickstart.mjs"), code as string);
			const output = execFileSync(process.execPath, [join(folder, "quickstart.mjs")], { cwd: root, encoding: "utf8" });
			expect(output).toBe("2 domains identical\n");
		} finally {
			rmSync(folder, { recursive: true });
		}
	});

	it("shows the transcript of npm start as it is, but for the times", () => {
		const [, shown] = /```\n(live update of pv[\s\S]*?)```/.exec(readme) ?? [];
		const args = [join(root, "dist/cli/main.js"), "run", "examples/pv"];
		const output = execFileSync(process.execPath, args, {
			cwd: root,
			encoding: "utf8",
			env: { ...process.env, NO_COLOR: "1" },
		});
		const timeless = (text: string) =>
			text
				.replace(/\d+\.\d{3}/g, "T")
				.replace(/█+/g, "")
				.replace(/ +/g, " ")
				.replace(/ $/gm, "")
				.trim();
		expect(timeless(shown as string)).toBe(timeless(output));
	});

	it("links to nothing that is not there", () => {
		const links = [...readme.matchAll(/\]\(([^)]+)\)/g)].map(([, link]) => link as string);
		expect(links.length).toBeGreaterThan(5);
		for (const link of links) expect(existsSync(join(root, link)), link).toBe(true);
	});
});
