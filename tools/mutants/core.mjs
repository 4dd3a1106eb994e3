/** Mutants of the core: how they are built, and which tests notice them. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

export const root = join(dirname(fileURLToPath(import.meta.url)), "../..");

/** Text of each file of assembly/ that the core is built of, by path from the root. */
export function coreSources() {
	const files = readdirSync(join(root, "assembly"), { recursive: true, withFileTypes: true });
	const paths = files
		.filter((file) => file.isFile() && file.name.endsWith(".ts"))
		.map((file) => relative(root, join(file.parentPath, file.name)))
		.filter((path) => !path.startsWith("assembly/test/"))
		.sort();
	return new Map(paths.map((path) => [path, readFileSync(join(root, path), "utf8")]));
}

/** Compiles the core as asconfig.json has it, with some files in place of the repository's. `target`: release or plain. */
export async function compileCore(changed, target = "release") {
	let binary;
	const { error, stderr } = await asc.main(["--config", "asconfig.json", "--target", target], {
		readFile(name, directory) {
			const path = relative(root, join(root, directory, name));
			if (changed.has(path)) return changed.get(path);
			try {
				return readFileSync(join(root, path), "utf8");
			} catch {
				return null;
			}
		},
		writeFile(name, contents) {
			if (name.endsWith(".wasm")) binary = contents;
		},
		listFiles: () => null,
	});
	if (error || !binary) throw new Error(`does not compile\n${stderr}`);
	return binary;
}

/**
 * Tests that fail with a core, as `file: title`.
 *
 * @param core path of a module
 * @param report path where the results may be written
 * @param bail the first test that fails is enough
 * @param timeout milliseconds, after which a mutant loops: the tests are then threads, which end with their process
 */
export function failingTests(core, report, suites, { bail = false, env = {}, timeout = 0 } = {}) {
	const vitest = join(root, "node_modules/vitest/vitest.mjs");
	const options = ["--reporter=json", `--outputFile.json=${report}`, ...(bail ? ["--bail=1"] : [])];
	if (timeout > 0) options.push("--pool=threads");
	rmSync(report, { force: true });
	const done = spawnSync(process.execPath, [vitest, "run", ...suites, ...options], {
		cwd: root,
		encoding: "utf8",
		timeout,
		killSignal: "SIGKILL",
		env: { ...process.env, ...env, XLU_CORE: core },
	});
	if (done.error?.code === "ETIMEDOUT") return [`${suites.join(", ")}: never ends`];
	let results;
	try {
		results = JSON.parse(readFileSync(report, "utf8")).testResults;
	} catch {
		throw new Error(`the tests did not run: ${done.stderr}`);
	}
	return results.flatMap(({ name, status, assertionResults }) => {
		const file = relative(root, name);
		const failed = assertionResults.filter((test) => test.status === "failed").map((test) => `${file}: ${test.title}`);
		return failed.length === 0 && status === "failed" ? [`${file}: does not load`] : failed;
	});
}
