#!/usr/bin/env node
/**
 * The build: src/ to dist/ (tsc), assembly/ to dist/core.wasm (SIMD), dist/core.plain.wasm (without),
 * and dist/core.shared.wasm (SIMD, over a shared memory that it imports, for passes on several CPUs).
 *
 *   node tools/build.mjs [--force]
 *
 * The steps run side by side. A step is skipped when its outputs exist and its inputs are, octet for octet, those
 * of its last success: a content hash rather than a time, so that changing branches and back rebuilds nothing wrongly.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const force = process.argv.includes("--force");
/** The command, which tsc writes without its executable bit. */
const command = "dist/cli/main.js";

/** The compilers' own versions are inputs as well. */
const common = ["tools/build.mjs", "package.json", "package-lock.json"];

const asc = (target) => ["node_modules/assemblyscript/bin/asc.js", "--config", "asconfig.json", "--target", target];

const steps = [
	{
		name: "typescript",
		inputs: [...common, "tsconfig.json", "src"],
		outputs: ["dist/index.js", "dist/index.d.ts", command],
		run: ["node_modules/typescript/bin/tsc", "-p", "."],
		/** tsc never deletes: what a removed source file left behind would be published. */
		before: () => removeCompiled(join(root, "dist")),
		after: () => chmodSync(join(root, command), 0o755),
	},
	{
		name: "core",
		inputs: [...common, "asconfig.json", "assembly"],
		outputs: ["dist/core.wasm"],
		run: asc("release"),
	},
	{
		name: "core without SIMD",
		inputs: [...common, "asconfig.json", "assembly"],
		outputs: ["dist/core.plain.wasm"],
		run: asc("plain"),
	},
	{
		name: "core over shared memory",
		inputs: [...common, "asconfig.json", "assembly"],
		outputs: ["dist/core.shared.wasm"],
		run: asc("shared"),
	},
];

function removeCompiled(directory) {
	if (!existsSync(directory)) return;
	for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
		if (entry.isFile() && /\.(js|d\.ts)$/.test(entry.name)) rmSync(join(entry.parentPath, entry.name));
	}
}

function filesOf(path) {
	const entries = readdirSync(join(root, path), { recursive: true, withFileTypes: true });
	return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

function hashOf(inputs) {
	const hash = createHash("sha256");
	for (const input of inputs) {
		const path = join(root, input);
		if (!existsSync(path)) continue;
		const files = /\.\w+$/.test(input) ? [path] : filesOf(input).sort();
		for (const file of files) {
			const content = readFileSync(file);
			hash.update(`${file.slice(root.length)}\0${content.length}\0`).update(content);
		}
	}
	return hash.digest("hex");
}

/** Runs a Node program of node_modules to its end; its output goes to standard error. */
function run([program, ...args]) {
	return new Promise((resolve, reject) => {
		const child = spawn(process.execPath, [join(root, program), ...args], { cwd: root, stdio: ["ignore", 2, 2] });
		child.on("error", reject);
		child.on("exit", (code, signal) => resolve(code ?? signal));
	});
}

async function build(step) {
	const stamp = join(root, "build", `${step.name.replaceAll(" ", "-")}.stamp`);
	const hash = hashOf(step.inputs);
	const upToDate =
		!force &&
		step.outputs.every((output) => existsSync(join(root, output))) &&
		existsSync(stamp) &&
		readFileSync(stamp, "utf8") === hash;
	if (upToDate) return true;
	const start = performance.now();
	rmSync(stamp, { force: true });
	step.before?.();
	const result = await run(step.run);
	const missing = step.outputs.filter((output) => !existsSync(join(root, output)));
	if (result !== 0 || missing.length > 0) {
		const reason = result !== 0 ? `the compiler ended with ${result}` : `${missing.join(", ")} was not written`;
		console.error(`build: ${step.name}: failed: ${reason}`);
		return false;
	}
	step.after?.();
	// An input that changed meanwhile makes the next build repeat the step: the hash was taken before it.
	writeFileSync(stamp, hash);
	console.error(`build: ${step.name}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
	return true;
}

for (const directory of ["build", "dist"]) mkdirSync(join(root, directory), { recursive: true });
const results = [];
if (availableParallelism() > 1) results.push(...(await Promise.all(steps.map(build))));
else for (const step of steps) results.push(await build(step));
if (results.includes(false)) process.exitCode = 1;
