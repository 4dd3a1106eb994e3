#!/usr/bin/env node
/**
 * The core without a WebAssembly engine: the built modules through wasm2c (npm's wabt) and a C compiler, for a loader.
 *
 *   node tools/build-native.mjs [--cc COMPILER] [--report FILE.json]
 *
 * Writes to build/native/plain and build/native/simd: xlu_module.c and .h (wasm2c's output), libxlu.a (the core and its
 * runtime, which needs xlu_panic and nothing else), and xlu-native, a program that restores a stream with it.
 *
 *     plain   dist/core.plain.wasm, general registers alone (-mgeneral-regs-only), no C library, not even its headers
 *     simd    dist/core.wasm, for x86-64-v3; needs Debian's libsimde-dev to compile, nothing of it to run
 *
 * It fails where the library would need more than it may, where a function of the plain one touches a vector register, or
 * where the stack could not be bounded. --report writes sizes and stack use, which docs/NATIVE.md quotes.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const native = join(root, "native");

/** Name of the wasm2c module: its functions are w2c_xlu_*, its instance is a w2c_xlu. */
const MODULE = "xlu";

/** A loader's own code model, warnings and so on are its own; these are what the core relies on. */
const common = [
	..."-std=gnu11 -O2 -fno-strict-aliasing -ffunction-sections -fdata-sections".split(" "),
	..."-fno-stack-protector -fno-asynchronous-unwind-tables".split(" "),
];

export const flavours = [
	{
		name: "plain",
		wasm: "dist/core.plain.wasm",
		library: [
			...["-ffreestanding", "-nostdinc", "-isystem", join(native, "freestanding"), "-DXLU_FREESTANDING"],
			"-mgeneral-regs-only",
		],
		generalRegistersOnly: true,
	},
	{
		name: "simd",
		wasm: "dist/core.wasm",
		// simde's headers include those of a C library; what is compiled from them needs none.
		library: ["-ffreestanding", "-DXLU_FREESTANDING", "-march=x86-64-v3"],
		generalRegistersOnly: false,
	},
];

export function run(program, args, cwd = root) {
	const { status, error, stdout, stderr } = spawnSync(program, args, {
		cwd,
		encoding: "utf8",
		maxBuffer: 1 << 28,
	});
	if (error) throw new Error(`${program}: ${error.message}`);
	if (status !== 0) throw new Error(`${program} ended with ${status}:\n${stderr || stdout}`);
	return stdout;
}

/**
 * wasm2c's output for a module, compiled from `directory`, with two changes that make it faster:
 *
 * - wasm2c makes every load a read that the compiler may neither drop nor merge into the instruction that uses the value,
 *   so that a load beyond the memory traps even if nobody wants what it reads. The core does not rely on traps.
 * - The instance (where the memory lies) is no part of the memory: said to the compiler, it reads the memory's address once
 *   and not after every store.
 */
export function translate(wasm, directory, module = MODULE) {
	mkdirSync(directory, { recursive: true });
	const output = join(directory, `${module}_module.c`);
	run(process.execPath, [
		join(root, "node_modules/wabt/bin/wasm2c"),
		...[wasm, "--module-name", module, "--output", output],
	]);
	let text = readFileSync(output, "utf8");
	for (const [what, pattern, by] of [
		["FORCE_READ", /^(#define (?:SIMD_)?FORCE_READ(?:_INT|_FLOAT)?\(var\)).*$/gm, "$1"],
		["instance", new RegExp(`\\bw2c_${module}\\* ?instance\\b`, "g"), `w2c_${module}* restrict instance`],
	]) {
		if (!pattern.test(text)) throw new Error(`wasm2c's output has no ${what}: is this still wabt 1.0.39?`);
		text = text.replace(pattern, by);
	}
	writeFileSync(output, text);
}

/** Where gcc keeps the headers of a freestanding implementation: stddef.h, stdint.h, stdbool.h, stdarg.h, limits.h. */
function compilerHeaders(cc) {
	return run(cc, ["-print-file-name=include"]).trim();
}

/**
 * The deepest stack of each function, from the call graph that gcc writes (-fcallgraph-info=su).
 * @returns {Map<string, number>} octets by function
 * @throws where a function calls itself, over whatever way, or its frame has no fixed size
 */
function stackDepths(graphs) {
	const frames = new Map();
	const calls = new Map();
	for (const graph of graphs) {
		for (const [, title, label] of graph.matchAll(/^node: \{ title: "([^"]*)" label: "([^"]*)"/gm)) {
			const size = /\\n(\d+) bytes \((\w+(?:,\w+)?)\)/.exec(label);
			if (size?.[2] === "dynamic") throw new Error(`${title}: its stack frame has no fixed size`);
			if (size) frames.set(title, Number(size[1]));
		}
		for (const [, from, to] of graph.matchAll(/^edge: \{ sourcename: "([^"]*)" targetname: "([^"]*)"/gm)) {
			calls.set(from, [...(calls.get(from) ?? []), to]);
		}
	}
	const depths = new Map();
	const depth = (name, above) => {
		if (above.includes(name)) throw new Error(`${name}: calls itself through ${above.join(", ")}`);
		if (depths.has(name)) return depths.get(name);
		// What is not in the graph is xlu_panic, which does not return. The call itself takes 8 octets.
		const below = (calls.get(name) ?? []).map((to) => 8 + depth(to, [...above, name]));
		const octets = (frames.get(name) ?? 0) + Math.max(0, ...below);
		depths.set(name, octets);
		return octets;
	};
	for (const name of frames.keys()) depth(name, []);
	return depths;
}

/** Octets of code and of constants in a library, and the symbols that it leaves to others. */
function librarySizes(library) {
	const lines = run("size", ["--totals", library]).trim().split("\n");
	const [text, data, bss] = lines.at(-1).trim().split(/\s+/).map(Number);
	const undefinedSymbols = new Set();
	const defined = new Set();
	for (const line of run("nm", ["--extern-only", library]).split("\n")) {
		const [, kind, name] = / ([A-Za-z]) (\S+)$/.exec(line) ?? [];
		if (kind === "U") undefinedSymbols.add(name);
		else if (kind) defined.add(name);
	}
	return { text, data, bss, needs: [...undefinedSymbols].filter((name) => !defined.has(name)).sort() };
}

function buildFlavour(flavour, cc) {
	const directory = join(root, "build/native", flavour.name);
	const wasm = join(root, flavour.wasm);
	if (!existsSync(wasm)) throw new Error(`${flavour.wasm}: not found; run npm run build first`);
	rmSync(directory, { recursive: true, force: true });
	translate(wasm, directory);
	for (const file of readdirSync(native)) {
		if (/\.[ch]$/.test(file)) copyFileSync(join(native, file), join(directory, file));
	}
	const library = [...common, ...flavour.library];
	if (flavour.library.includes("-nostdinc")) library.push("-isystem", compilerHeaders(cc));
	const objects = ["xlu_module", "xlu_runtime"].map((name) => {
		// Code that wasm2c wrote is not ours to keep free of warnings.
		const warnings = name === "xlu_module" ? ["-w"] : ["-Wall", "-Wextra", "-Werror"];
		run(cc, [...library, ...warnings, "-fcallgraph-info=su", "-c", `${name}.c`, "-o", `${name}.o`], directory);
		return `${name}.o`;
	});
	run("ar", ["rcsD", "libxlu.a", ...objects], directory);
	run(
		cc,
		["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "xlu_native.c", "libxlu.a", "-Wl,--gc-sections"].concat([
			"-o",
			"xlu-native",
		]),
		directory,
	);
	const sizes = librarySizes(join(directory, "libxlu.a"));
	if (sizes.needs.join() !== "xlu_panic") {
		throw new Error(`libxlu.a (${flavour.name}): expected to need xlu_panic alone, needs ${sizes.needs.join(", ")}`);
	}
	if (flavour.generalRegistersOnly) {
		const vector = /%[xyz]mm\d+|%st\b/.exec(run("objdump", ["-d", "--no-show-raw-insn", join(directory, "libxlu.a")]));
		if (vector) throw new Error(`libxlu.a (${flavour.name}): uses ${vector[0]}`);
	}
	const graphs = ["xlu_module.ci", "xlu_runtime.ci"].map((file) => readFileSync(join(directory, file), "utf8"));
	const depths = stackDepths(graphs);
	const exported = Object.keys(JSON.parse(readFileSync(join(root, "tools/exports.json"), "utf8")));
	const stack = Object.fromEntries(
		exported.flatMap((name) => {
			const octets = depths.get(`w2c_${MODULE}_${name}`);
			return octets === undefined || name === "memory" ? [] : [[name, octets]];
		}),
	);
	return { flavour: flavour.name, code: sizes.text, data: sizes.data + sizes.bss, stack };
}

function main() {
	const { values } = parseArgs({ options: { cc: { type: "string", default: "gcc" }, report: { type: "string" } } });
	const reports = flavours.map((flavour) => buildFlavour(flavour, values.cc));
	for (const { flavour, code, data, stack } of reports) {
		const [name, octets] = Object.entries(stack).sort(([, a], [, b]) => b - a)[0];
		console.log(
			`build/native/${flavour}: ${code} octets of code and constants, ${data} of data, deepest stack ${octets} (${name})`,
		);
	}
	if (values.report) writeFileSync(values.report, `${JSON.stringify(reports, null, "\t")}\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
	try {
		main();
	} catch (error) {
		console.error(`build-native: ${error.message}`);
		process.exitCode = 1;
	}
}
