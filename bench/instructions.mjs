#!/usr/bin/env node
/**
 * Instructions per entry of the bulk codecs, counted exactly: both builds of the codecs through wasm2c and gcc, under
 * valgrind's callgrind. No clock is read, so that the same source gives the same numbers on a busy machine, run after run.
 *
 *   node bench/instructions.mjs             prints the table
 *   node bench/instructions.mjs --check     fails if a number is more than 2 % above bench/instructions.json
 *   node bench/instructions.mjs --write     writes bench/instructions.json
 *
 * The layouts are described in bench/instructions.c. Needs gcc, valgrind and Debian's libsimde-dev. Another version of gcc
 * gives other numbers: the file names the one that its numbers are of, and --check says so where it differs. Accesses are
 * not held against the memory's size one by one: engines leave that to guard pages, and so does this build. Where a LITERAL
 * is copied (holes), one instruction of the C library's copy counts for each octet.
 */
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { run, translate } from "../tools/build-native.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const kept = join(root, "bench/instructions.json");

const ENTRIES = 2 ** 20;
const TOLERANCE = 0.02;

const builds = {
	simd: { asc: "--enable simd,bulk-memory", gcc: "-march=x86-64-v3" },
	plain: { asc: "--enable bulk-memory --disable simd", gcc: "-mgeneral-regs-only" },
};
/** The exported function that each operation counts. */
const operations = {
	encode: "w2c_codec_encodeTable",
	decode: "w2c_codec_decodeChunks",
	check: "w2c_codec_checkChunks",
	walk: "w2c_codec_runsNext",
	hash: "w2c_codec_xxh3_64",
	p2m: "w2c_codec_encodeP2m",
};
const layouts = ["superpages", "own", "runs", "random", "alternating", "holes", "descending", "types"];
/** A table of octets is no P2M. */
const isOf = (operation, layout) => operation !== "p2m" || layout !== "types";
/** What the SIMD build is to reach. */
const goals = {
	"simd encode": { superpages: 2.7, own: 2.9, runs: 3.8, random: 5.5 },
	"simd decode": { superpages: 2.6, own: 2.7, runs: 3.1, random: 3.8 },
};

const directoryOf = (build) => join(root, "build/bench", build);

/** As asconfig.json builds the core, but the codecs alone: the release module does not export them. */
function compile(build) {
	const directory = directoryOf(build);
	rmSync(directory, { recursive: true, force: true });
	mkdirSync(directory, { recursive: true });
	const wasm = join(directory, "codec.wasm");
	// No configuration: its entries would put the whole core beside the codecs, and what is there is inlined otherwise.
	const options =
		`--config none --runtime stub -O3 --noAssert --use abort= --memoryBase 1024 ${builds[build].asc}`.split(" ");
	run(process.execPath, [
		join(root, "node_modules/assemblyscript/bin/asc.js"),
		...["assembly/test/codec.ts", "--outFile", wasm, ...options],
	]);
	translate(wasm, directory, "codec");
	run("gcc", [
		...["-std=gnu11", "-O2", builds[build].gcc, "-fno-strict-aliasing", "-DWASM_RT_MEMCHECK_GUARD_PAGES=1", "-w"],
		...["-I", join(root, "native"), "-I", directory, join(root, "bench/instructions.c")],
		...[join(directory, "codec_module.c"), "-o", join(directory, "instructions")],
	]);
}

function spawned(program, args) {
	return new Promise((resolve, reject) => {
		const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
		let output = "";
		let errors = "";
		child.stdout.on("data", (part) => {
			output += part;
		});
		child.stderr.on("data", (part) => {
			errors += part;
		});
		child.on("error", (error) => reject(new Error(`${program}: ${error.message}`)));
		child.on("close", (status) => {
			if (status === 0) resolve({ output, errors });
			else reject(new Error(`${program} ${args.join(" ")} ended with ${status}:\n${errors}`));
		});
	});
}

/** Instructions per entry, and octets of the coding per entry. */
async function count({ build, operation, layout }) {
	const { errors, output } = await spawned("valgrind", [
		...["--tool=callgrind", "--collect-atstart=no", `--toggle-collect=${operations[operation]}`],
		...["--callgrind-out-file=/dev/null", join(directoryOf(build), "instructions"), operation, layout],
	]);
	const instructions = Number(/Collected : (\d+)/.exec(errors)?.[1]);
	if (!instructions) throw new Error(`valgrind counted nothing:\n${errors}`);
	return { instructions: instructions / ENTRIES, octets: Number(output) / ENTRIES };
}

/** `{ "simd encode": { superpages: 2.41, ... }, ..., octets: { ... } }` */
async function measure() {
	const jobs = Object.keys(builds).flatMap((build) =>
		Object.keys(operations).flatMap((operation) =>
			layouts.filter((layout) => isOf(operation, layout)).map((layout) => ({ build, operation, layout })),
		),
	);
	const results = Object.fromEntries(jobs.map(({ build, operation }) => [`${build} ${operation}`, {}]));
	for (const { build, operation, layout } of jobs) results[`${build} ${operation}`][layout] = 0;
	results.octets = Object.fromEntries(layouts.map((layout) => [layout, 0]));
	const worker = async () => {
		for (let job = jobs.shift(); job; job = jobs.shift()) {
			const { instructions, octets } = await count(job);
			results[`${job.build} ${job.operation}`][job.layout] = Number(instructions.toFixed(4));
			results.octets[job.layout] = Number(octets.toFixed(4));
		}
	};
	await Promise.all(Array.from({ length: availableParallelism() }, worker));
	return results;
}

function table(results, before) {
	const cell = (row, layout) => {
		if (results[row][layout] === undefined) return "";
		const goal = goals[row]?.[layout];
		const old = before?.[row]?.[layout];
		const change = old ? ` (${((results[row][layout] / old - 1) * 100).toFixed(1)} %)` : "";
		return `${results[row][layout].toFixed(2)}${change}${goal ? `, goal ${goal}` : ""}`;
	};
	const lines = [`| per entry | ${layouts.join(" | ")} |`, `|---|${layouts.map(() => "---|").join("")}`];
	for (const row of Object.keys(results)) {
		lines.push(`| ${row} | ${layouts.map((layout) => cell(row, layout)).join(" | ")} |`);
	}
	return lines.join("\n");
}

const { values } = parseArgs({ options: { check: { type: "boolean" }, write: { type: "boolean" } } });
try {
	const compiler = run("gcc", ["-dumpfullversion"]).trim();
	const before = values.check ? JSON.parse(readFileSync(kept, "utf8")) : undefined;
	if (before && before.gcc !== compiler)
		console.log(`note: counted with gcc ${compiler}, kept are those of ${before.gcc}`);
	for (const build of Object.keys(builds)) compile(build);
	const results = await measure();
	console.log(table(results, before?.results));
	if (values.write) {
		writeFileSync(kept, `${JSON.stringify({ entries: ENTRIES, gcc: compiler, results }, null, 2)}\n`);
		console.log("wrote bench/instructions.json");
	}
	for (const [row, columns] of Object.entries(before?.results ?? {})) {
		for (const layout of Object.keys(columns)) {
			const allowed = columns[layout] * (1 + TOLERANCE);
			const found = results[row]?.[layout];
			if (found <= allowed) continue;
			console.error(`instructions: ${row}, ${layout}: expected at most ${allowed.toFixed(4)}, got ${found}`);
			process.exitCode = 1;
		}
	}
} catch (error) {
	console.error(`instructions: ${error.message}`);
	process.exitCode = 1;
}
