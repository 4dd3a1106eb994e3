#!/usr/bin/env node
/**
 * Instructions per entry of the bulk codecs, counted exactly: the SIMD build of the codecs through wasm2c and gcc, under
 * valgrind's callgrind. No clock is read, so that the same source gives the same numbers on a busy machine, run after run.
 *
 *   node bench/instructions.mjs             prints the table
 *   node bench/instructions.mjs --check     fails if a number is more than 2 % above bench/instructions.json
 *   node bench/instructions.mjs --write     writes bench/instructions.json
 *
 * Needs gcc, valgrind and Debian's libsimde-dev. Another version of gcc gives other numbers: the file names the one that
 * its numbers are of, and --check says so where it differs. Accesses are not held against the memory's size one by one:
 * engines leave that to guard pages, and so does this build.
 */
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { run, translate } from "../tools/build-native.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const build = join(root, "build/bench");
const kept = join(root, "bench/instructions.json");

const ENTRIES = 2 ** 20;
const TOLERANCE = 0.02;

/** The goals, and the exported function that each operation counts. */
const operations = {
	encode: { function: "w2c_codec_encodeTable", goals: { superpages: 2.7, own: 2.9, runs: 3.8, random: 5.5 } },
	decode: { function: "w2c_codec_decodeChunks", goals: { superpages: 2.6, own: 2.7, runs: 3.1, random: 3.8 } },
	check: { function: "w2c_codec_checkChunks" },
	hash: { function: "w2c_codec_xxh3_64" },
};
const layouts = ["superpages", "own", "runs", "random"];

/** As asconfig.json builds the core, but the codecs alone: the release module does not export them. */
function compile() {
	rmSync(build, { recursive: true, force: true });
	mkdirSync(build, { recursive: true });
	const wasm = join(build, "codec.wasm");
	const options = "--runtime stub -O3 --noAssert --use abort= --enable simd,bulk-memory --memoryBase 1024".split(" ");
	run(process.execPath, [
		join(root, "node_modules/assemblyscript/bin/asc.js"),
		...["assembly/test/codec.ts", "--outFile", wasm, ...options],
	]);
	translate(wasm, build, "codec");
	run("gcc", [
		...["-std=gnu11", "-O2", "-march=x86-64-v3", "-fno-strict-aliasing", "-DWASM_RT_MEMCHECK_GUARD_PAGES=1", "-w"],
		...["-I", join(root, "native"), "-I", build],
		...[join(root, "bench/instructions.c"), join(build, "codec_module.c"), "-o", join(build, "instructions")],
	]);
}

function spawned(program, args) {
	return new Promise((resolve, reject) => {
		const child = spawn(program, args, { cwd: build, stdio: ["ignore", "pipe", "pipe"] });
		let output = "";
		let errors = "";
		child.stdout.on("data", (part) => {
			output += part;
		});
		child.stderr.on("data", (part) => {
			errors += part;
		});
		child.on("error", (error) => reject(new Error(`${program}: ${error.message}`)));
		child.on("exit", (status) => {
			if (status === 0) resolve({ output, errors });
			else reject(new Error(`${program} ${args.join(" ")} ended with ${status}:\n${errors}`));
		});
	});
}

async function count(operation, layout) {
	const { errors, output } = await spawned("valgrind", [
		...["--tool=callgrind", "--collect-atstart=no", `--toggle-collect=${operations[operation].function}`],
		...["--callgrind-out-file=/dev/null", join(build, "instructions"), operation, layout],
	]);
	const instructions = Number(/Collected : (\d+)/.exec(errors)?.[1]);
	if (!instructions) throw new Error(`valgrind counted nothing:\n${errors}`);
	return { perEntry: instructions / ENTRIES, bytesPerEntry: Number(output) / ENTRIES };
}

async function measure() {
	const jobs = Object.keys(operations).flatMap((operation) => layouts.map((layout) => ({ operation, layout })));
	const results = {};
	const worker = async () => {
		for (let job = jobs.shift(); job; job = jobs.shift()) {
			const { operation, layout } = job;
			results[operation] ??= {};
			results[operation][layout] = Number((await count(operation, layout)).perEntry.toFixed(4));
		}
	};
	await Promise.all(Array.from({ length: availableParallelism() }, worker));
	return Object.fromEntries(
		Object.keys(operations).map((operation) => [
			operation,
			Object.fromEntries(layouts.map((layout) => [layout, results[operation][layout]])),
		]),
	);
}

function table(results, before) {
	const cell = (operation, layout) => {
		const goal = operations[operation].goals?.[layout];
		const old = before?.[operation]?.[layout];
		const change = old ? ` (${((results[operation][layout] / old - 1) * 100).toFixed(1)} %)` : "";
		return `${results[operation][layout].toFixed(2)}${change}${goal ? `, goal ${goal}` : ""}`;
	};
	const lines = [`| instructions per entry | ${layouts.join(" | ")} |`, `|---|${layouts.map(() => "---|").join("")}`];
	for (const operation of Object.keys(operations)) {
		lines.push(`| ${operation} | ${layouts.map((layout) => cell(operation, layout)).join(" | ")} |`);
	}
	return lines.join("\n");
}

const { values } = parseArgs({ options: { check: { type: "boolean" }, write: { type: "boolean" } } });
try {
	const compiler = run("gcc", ["-dumpfullversion"]).trim();
	const before = values.check ? JSON.parse(readFileSync(kept, "utf8")) : undefined;
	if (before && before.gcc !== compiler)
		console.log(`note: counted with gcc ${compiler}, kept are those of ${before.gcc}`);
	compile();
	const results = await measure();
	console.log(table(results, before?.results));
	if (values.write) {
		writeFileSync(kept, `${JSON.stringify({ entries: ENTRIES, gcc: compiler, results }, null, 2)}\n`);
		console.log("wrote bench/instructions.json");
	}
	for (const operation of before ? Object.keys(operations) : []) {
		for (const layout of layouts) {
			const allowed = before.results[operation][layout] * (1 + TOLERANCE);
			const found = results[operation][layout];
			if (found <= allowed) continue;
			console.error(`instructions: ${operation}, ${layout}: expected at most ${allowed.toFixed(4)}, got ${found}`);
			process.exitCode = 1;
		}
	}
} catch (error) {
	console.error(`instructions: ${error.message}`);
	process.exitCode = 1;
}
