#!/usr/bin/env node
// Golden streams: what a released format version looks like, kept for good. test/format/golden.test.ts holds their hashes
// and reads them with the core of today.
//
//   node tools/golden.mjs [--to DIRECTORY] NAME[=HOST] ...
//
// Writes NAME.xlu, NAME.xlu.mem and their lines in SHA256SUMS to test/golden/vN, N being the format's version. NAME alone
// is `tiny`, `forms` or `second`, hosts of test/support; HOST is a captured host's directory. What exists is never rewritten.
// Needs dist/core.wasm.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { runnerImport } from "vite";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const load = async (path) => (await runnerImport(join(root, path), { configFile: false })).module;

const { values, positionals } = parseArgs({ options: { to: { type: "string" } }, allowPositionals: true });
if (positionals.length === 0) {
	console.error("usage: node tools/golden.mjs [--to DIRECTORY] NAME[=HOST] ...");
	process.exit(2);
}
const { FORMAT_VERSION } = await load("src/format/schema.ts");
const { loadCore } = await load("src/core/load.ts");
const { loadHost } = await load("src/host.ts");
const { openAndCheck, saveHost } = await load("src/steps.ts");
const made = {
	tiny: (await load("test/support/tinyHost.ts")).tinyHost,
	forms: (await load("test/support/formsHost.ts")).formsHost,
	second: (await load("test/support/secondHost.ts")).secondHost,
};
const module = new WebAssembly.Module(readFileSync(join(root, "dist/core.wasm")));
const directory = values.to ?? join(root, `test/golden/v${FORMAT_VERSION}`);
const sums = join(directory, "SHA256SUMS");

for (const argument of positionals) {
	const [name, path] = argument.split("=", 2);
	if (!path && !made[name]) {
		console.error(`${name}: give the captured host's directory: ${name}=HOST`);
		process.exit(2);
	}
	const files = [`${name}.xlu`, `${name}.xlu.mem`];
	const kept = files.filter((file) => existsSync(join(directory, file)));
	if (kept.length > 0) {
		console.log(`${kept.join(", ")}: there already, a golden stream is never rewritten`);
		continue;
	}
	const core = await loadCore({ module });
	const { stream, memory } = saveHost(core, path ? loadHost(path) : { name, assumptions: [], ...made[name]() });
	openAndCheck(core, stream, memory);
	mkdirSync(directory, { recursive: true });
	for (const [file, window] of [
		[files[0], stream],
		[files[1], memory],
	]) {
		const octets = core.bytes(window);
		writeFileSync(join(directory, file), octets, { flag: "wx" });
		const digest = createHash("sha256").update(octets).digest("hex");
		writeFileSync(sums, `${digest}  ${file}\n`, { flag: "a" });
		console.log(`wrote ${join(directory, file)}: ${octets.length} octets`);
	}
}
