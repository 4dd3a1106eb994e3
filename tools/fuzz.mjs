#!/usr/bin/env node
/**
 * Fuzzes the core: the built modules through wasm2c, clang's libFuzzer, and its sanitizers (docs/FUZZING.md).
 *
 *   node tools/fuzz.mjs [--seconds N] [--flavour plain|simd] [--seed N] [--corpus DIR]
 *   node tools/fuzz.mjs --reproduce FILE [--flavour F]       one input once more, with the finding as text
 *   node tools/fuzz.mjs --extract FILE --to PATH             an input as PATH and PATH.mem, for xlu and for a vector
 *   node tools/fuzz.mjs --coverage [--corpus DIR]            which functions of the core the corpus reaches
 *
 * --seconds (120) is shared out among the flavours. Inputs that reach something new are kept in the corpus
 * (build/fuzz/corpus), beside the seeds, which are made of the conformance vectors. A finding is a file in
 * build/fuzz/findings and exit status 1.
 *
 * Needs clang with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer (Debian: clang, libclang-rt-dev), and for the simd flavour
 * libsimde-dev; --coverage needs llvm-profdata and llvm-cov as well (Debian: llvm).
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import { runnerImport } from "vite";
import { flavours, run, translate } from "./build-native.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const load = async (path) => (await runnerImport(join(root, path), { configFile: false })).module;
const native = join(root, "native");
const folder = join(root, "build/fuzz");
const findings = join(folder, "findings");
const seeds = join(folder, "seeds");

/** Longer inputs are not kept: they cost more than they find. */
const MOST_OCTETS = 160 * 1024;
/** Seconds for one input. */
const TIMEOUT = 10;
const RSS_LIMIT_MB = 2048;

/** Flags of the core, whose edges libFuzzer counts; of what drives it, whose edges would only distract; of the whole program. */
const sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
const toFuzz = {
	core: [...sanitizers, "-fsanitize=fuzzer-no-link"],
	driver: sanitizers,
	program: [...sanitizers, "-fsanitize=fuzzer"],
};
const profiled = ["-fprofile-instr-generate", "-fcoverage-mapping"];
const toCover = { core: profiled, driver: [], program: [...profiled, "-fsanitize=fuzzer"] };

// --- the tables of the mutator -------------------------------------------------------------------------------------

const upper = (name) => name.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toUpperCase();

/** Records, parts, structs, fields and their values as the mutator walks them. */
async function tables() {
	const { bulkTables, domainTables, hostTables, records } = await load("src/format/schema.ts");
	const { scalarBytes } = await load("src/format/layout.ts");
	const structs = [];
	const fields = [];
	const values = [];
	const names = new Map();
	const nameOf = (name) => names.get(name) ?? names.set(name, names.size).get(name);
	const structOf = (struct) => {
		const known = structs.findIndex(({ name }) => name === struct.name);
		if (known >= 0) return known;
		const first = fields.length;
		for (const field of struct.fields) {
			const named = typeof field.show === "object" ? Object.values(field.show.enum ?? field.show.flags) : [];
			const kind = field.reserved
				? "XF_RESERVED"
				: field.show?.enum
					? "XF_ENUM"
					: field.show?.flags
						? "XF_FLAGS"
						: "XF_PLAIN";
			fields.push([
				field.offset,
				scalarBytes[field.type],
				kind,
				field.length,
				nameOf(field.name),
				values.length,
				named.length,
			]);
			values.push(...named);
		}
		return structs.push({ name: struct.name, row: [struct.size, first, fields.length - first] }) - 1;
	};
	const kinds = { rows: "XF_ROWS", sparse: "XF_SPARSE", chunks: "XF_CHUNKS", blob: "XF_ROWS" };
	const parts = [];
	const rows = records
		.filter(({ section }) => section !== "-")
		.map((def) => {
			const first = parts.length;
			for (const part of def.parts) {
				const field = def.head?.fields.find(({ name }) => name === part.count);
				const mode = typeof part.count === "number" ? "XF_COUNT_FIXED" : field ? "XF_COUNT_FIELD" : "XF_COUNT_REST";
				parts.push([kinds[part.kind], mode, structOf(part.row), field?.offset ?? (Number(part.count) || 0)]);
			}
			return [def.type, def.head ? structOf(def.head) : -1, first, parts.length - first];
		});
	const table = (type, name, list) => [
		`static const struct ${type} ${name}[] = {`,
		...list.map((row) => `\t{ ${row.join(", ")} },`),
		"};",
	];
	return [
		"/* Made by tools/fuzz.mjs from src/format/schema.ts. */",
		"enum { XF_PLAIN, XF_RESERVED, XF_ENUM, XF_FLAGS };",
		"enum { XF_ROWS, XF_SPARSE, XF_CHUNKS };",
		"enum { XF_COUNT_FIXED, XF_COUNT_FIELD, XF_COUNT_REST };",
		"struct xf_field { uint32_t offset, width, kind, length, name, named_first, named_count; };",
		"struct xf_struct { uint32_t size, field_first, field_count; };",
		"struct xf_part { uint32_t kind, count_mode, row, count; };",
		"struct xf_record { uint32_t type; int32_t head; uint32_t part_first, part_count; };",
		...["domid", "mfn", "chunkBytes"].map((name) => `#define XF_NAME_${upper(name)} ${names.get(name)}u`),
		`static const uint64_t xf_values[] = { ${values.map((value) => `${BigInt.asUintN(64, BigInt(value))}ull`).join(", ")} };`,
		...table("xf_field", "xf_fields", fields),
		...table(
			"xf_struct",
			"xf_structs",
			structs.map(({ row }) => row),
		),
		...table("xf_part", "xf_parts", parts),
		...table("xf_record", "xf_records", rows),
		`#define XF_RECORD_COUNT ${rows.length}u`,
		"struct xf_table { uint32_t row_bytes; bool is_bulk; };",
		...[hostTables, domainTables].flatMap((list, i) => [
			...table(
				"xf_table",
				`xf_${i ? "domain" : "host"}_tables`,
				list.map(({ name, row }) => [row.size, bulkTables.includes(name)]),
			),
			`#define XF_${i ? "DOMAIN" : "HOST"}_TABLE_COUNT ${list.length}u`,
		]),
		"",
	].join("\n");
}

// --- the program ---------------------------------------------------------------------------------------------------

/** Compiles a fuzzing program of a module; returns its path. */
async function build(name, wasm, flags) {
	const directory = join(folder, name);
	if (!existsSync(join(root, wasm))) throw new Error(`${wasm}: not found; run npm run build first`);
	rmSync(directory, { recursive: true, force: true });
	mkdirSync(directory, { recursive: true });
	translate(join(root, wasm), directory);
	writeFileSync(join(directory, "xlu_fuzz_tables.h"), await tables());
	const { memoryBase } = JSON.parse(readFileSync(join(root, "asconfig.json"), "utf8")).options;
	const options = ["-std=gnu11", "-O2", "-g", "-fno-strict-aliasing", "-fno-omit-frame-pointer"];
	options.push(`-I${directory}`, `-I${native}`, `-DXLU_MEMORY_BASE=${memoryBase}u`);
	if (name === "simd") options.push("-march=x86-64-v3");
	const objects = [
		// What wasm2c wrote is not ours to keep free of warnings.
		[join(directory, "xlu_module.c"), ["-w", ...flags.core]],
		...["xlu_runtime.c", ...["windows", "steps", "fuzz", "mutate"].map((name) => `fuzz/xlu_${name}.c`)].map((name) => [
			join(native, name),
			["-Wall", "-Wextra", "-Werror", ...flags.driver],
		]),
	].map(([source, own], i) => {
		run("clang", [...options, ...own, "-c", source, "-o", `${i}.o`], directory);
		return `${i}.o`;
	});
	run("clang", [...flags.program, ...objects, "-o", "xlu-fuzz"], directory);
	return join(directory, "xlu-fuzz");
}

// --- the seeds -----------------------------------------------------------------------------------------------------

const PAGE = 4096;
const HEADER = 32;
const up8 = (octets) => Math.ceil(octets / 8) * 8;

/** An input of a stream and its preserved memory: native/fuzz/xlu_fuzz.h has the form. */
function inputOf(stream, memory, mode) {
	const items = [];
	const view = memory && new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
	const pages = memory && memory.length >= HEADER ? view.getUint32(24, true) : 0;
	const from = pages ? view.getUint32(28, true) : 0;
	if (from + pages * PAGE > (memory?.length ?? 0)) return undefined;
	for (let i = 0; i < pages; i++) {
		const page = memory.subarray(from + i * PAGE, from + (i + 1) * PAGE);
		const first =
			Math.max(
				0,
				page.findIndex((octet) => octet !== 0),
			) & ~7;
		const end = up8(page.findLastIndex((octet) => octet !== 0) + 1);
		const item = Buffer.alloc(16 + Math.max(0, end - first));
		item.writeBigUInt64LE(view.getBigUint64(HEADER + i * 8, true), 0);
		item.writeUInt32LE(first, 8);
		item.writeUInt32LE(Math.max(0, end - first), 12);
		item.set(page.subarray(first, Math.max(first, end)), 16);
		items.push(item);
	}
	const header = Buffer.alloc(16);
	header.writeUInt32LE(stream.length, 0);
	header.writeUInt32LE(pages, 4);
	header.writeUInt32LE(mode, 12);
	return Buffer.concat([header, stream, Buffer.alloc(up8(stream.length) - stream.length), ...items]);
}

/** Every vector that is not too long; the valid ones in several modes. */
async function makeSeeds() {
	const { applyEdits } = await load("test/vectors/patch.ts");
	const kit = join(root, "test/vectors");
	const manifest = JSON.parse(readFileSync(join(kit, "manifest.json"), "utf8"));
	const bases = new Map();
	const file = ({ base, edits }) => {
		if (!bases.has(base)) {
			const octets = readFileSync(join(kit, base));
			bases.set(base, base.endsWith(".gz") ? gunzipSync(octets) : octets);
		}
		return Buffer.from(applyEdits(bases.get(base), edits));
	};
	rmSync(seeds, { recursive: true, force: true });
	mkdirSync(seeds, { recursive: true });
	let count = 0;
	const PADDED = 1;
	const NO_MEMORY = 2;
	for (const { name, stream, memory, padded } of [...manifest.valid, ...manifest.damaged]) {
		const isValid = manifest.valid.some((vector) => vector.name === name);
		// Check twice, domains in reverse, workers, calls out of turn, steps.
		for (const mode of isValid ? [0, 4 | 8, 16, 16 | 32, 32, 64] : [0]) {
			const how = mode | (padded ? PADDED : 0) | (memory ? 0 : NO_MEMORY);
			const input = inputOf(file(stream), memory && file(memory), how);
			if (!input || input.length > MOST_OCTETS) continue;
			writeFileSync(join(seeds, `${name}-${mode}`), input);
			count++;
		}
	}
	return count;
}

// --- a run ---------------------------------------------------------------------------------------------------------

/** Runs the program to its end; its log goes to a file, what became of it to the caller. */
function fuzz(program, args, log, figures) {
	return new Promise((resolve, reject) => {
		const child = spawn(program, args, {
			cwd: folder,
			env: {
				...process.env,
				XLU_FUZZ_FIGURES: figures,
				ASAN_OPTIONS: "detect_leaks=0:abort_on_error=0",
				UBSAN_OPTIONS: "print_stacktrace=1",
			},
			stdio: ["ignore", "pipe", "pipe"],
		});
		const chunks = [];
		for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => chunks.push(chunk));
		child.on("error", reject);
		child.on("close", (code, signal) => {
			const text = Buffer.concat(chunks).toString("utf8");
			writeFileSync(log, text);
			resolve({ status: code ?? signal, text });
		});
	});
}

/** Guards that hold: an octet beyond each window is noticed. */
function proveGuards(program) {
	const windows = ["context", "stream", "workspace", "memory", "image"];
	for (const window of [...windows, "pieces", "index", "rows brought", "rows made"]) {
		const env = { ...process.env, XLU_FUZZ_BEYOND: window, ASAN_OPTIONS: "detect_leaks=0" };
		const { status, stderr } = spawnSync(program, ["-exact_artifact_path=/dev/null", join(seeds, "small-64")], {
			cwd: folder,
			encoding: "utf8",
			env,
		});
		if (status === 0 || !/AddressSanitizer: use-after-poison/.test(stderr))
			throw new Error(`${program}: an octet beyond the ${window} is not noticed`);
	}
}

const number = (text, pattern) => Number(pattern.exec(text)?.[1] ?? 0);

/** One flavour for so many seconds; what came of it. */
async function runFlavour(flavour, seconds, seed, corpus) {
	const program = await build(flavour.name, flavour.wasm, toFuzz);
	proveGuards(program);
	const directory = join(corpus, flavour.name);
	mkdirSync(directory, { recursive: true });
	const log = join(folder, `${flavour.name}.log`);
	const figures = join(folder, `${flavour.name}.json`);
	rmSync(figures, { force: true });
	const before = new Set(readdirSync(findings));
	const { status, text } = await fuzz(
		program,
		[
			...[
				`-max_total_time=${seconds}`,
				`-timeout=${TIMEOUT}`,
				`-rss_limit_mb=${RSS_LIMIT_MB}`,
				`-max_len=${MOST_OCTETS}`,
			],
			...[`-seed=${seed}`, "-len_control=0", "-print_final_stats=1", `-artifact_prefix=${findings}/${flavour.name}-`],
			...[directory, seeds],
		],
		log,
		figures,
	);
	const found = readdirSync(findings).filter((name) => !before.has(name));
	return {
		flavour: flavour.name,
		status,
		found,
		log,
		executions: number(text, /stat::number_of_executed_units:\s+(\d+)/),
		corpus: readdirSync(directory).length,
		edges: Math.max(0, ...[...text.matchAll(/ cov: (\d+)/g)].map(([, edges]) => Number(edges))),
		figures: existsSync(figures) ? JSON.parse(readFileSync(figures, "utf8")) : undefined,
		text,
	};
}

function report(result, seconds) {
	const { flavour, status, found, executions, corpus, edges, figures, log, text } = result;
	const per = Math.round(executions / Math.max(1, seconds));
	console.log(`${flavour}: ${executions} executions, ${per} a second, ${edges} edges, ${corpus} inputs in the corpus`);
	if (figures) {
		const refused = Object.values(figures.refused).reduce((sum, count) => sum + count, 0);
		console.log(
			`${flavour}: ${figures.accepted} accepted and restored, ${figures.savedAgain} saved and restored again, ${figures.inSteps} in steps, ` +
				`${figures.withoutMemory} checked without their memory, ${refused} refused by ${Object.keys(figures.refused).length} rules, ` +
				`${figures.edited} images edited, ${figures.editedSaved} of them saved, ${figures.editedAccepted} of those accepted, ` +
				`${figures.tooLarge} windows too large for the target`,
		);
	}
	if (status === 0 && found.length === 0) return true;
	const lines = text.split("\n");
	const from = lines.findIndex((line) => /xlu-fuzz:|ERROR: |runtime error|SUMMARY/.test(line));
	console.error(lines.slice(Math.max(0, from), Math.max(0, from) + 30).join("\n"));
	for (const name of found)
		console.error(
			`finding: build/fuzz/findings/${name}; node tools/fuzz.mjs --reproduce build/fuzz/findings/${name} --flavour ${flavour}`,
		);
	if (found.length === 0) console.error(`${flavour}: ended with ${status}; ${log} has all that it said`);
	return false;
}

// --- coverage ------------------------------------------------------------------------------------------------------

/**
 * Which functions of the core are reached: the module compiled with names and without inlining (level 1), so that what wasm2c makes of
 * it has a function for each one of assembly/, counted by clang's own instrumentation.
 */
async function coverage(corpus) {
	mkdirSync(join(folder, "coverage"), { recursive: true });
	const asc = ["node_modules/assemblyscript/bin/asc.js", "--config", "asconfig.json", "--target", "plain", "--debug"];
	const wasm = "build/fuzz/core.names.wasm";
	run(process.execPath, [
		...asc,
		...["--optimizeLevel", "1", "--outFile", wasm, "--textFile", "build/fuzz/core.names.wat"],
	]);
	const program = await build("coverage", wasm, toCover);
	const directory = join(folder, "coverage");
	const raw = join(directory, "raw");
	const profile = join(directory, "profile");
	const inputs = [seeds, ...flavours.map(({ name }) => join(corpus, name))].filter(existsSync);
	const { status, error, stderr } = spawnSync(program, ["-runs=0", `-max_len=${MOST_OCTETS}`, ...inputs], {
		encoding: "utf8",
		maxBuffer: 1 << 28,
		env: { ...process.env, LLVM_PROFILE_FILE: raw },
	});
	if (error || status !== 0) throw new Error(`the corpus does not run: ${error?.message ?? stderr.slice(-2000)}`);
	run("llvm-profdata", ["merge", "-sparse", raw, "-o", profile]);
	const { data } = JSON.parse(
		run("llvm-cov", [
			"export",
			"--skip-expansions",
			`--instr-profile=${profile}`,
			program,
			join(directory, "xlu_module.c"),
		]),
	);
	const files = new Map();
	const missing = [];
	for (const { name, count, regions } of data[0].functions) {
		const path = nameOf(name);
		if (!path) continue;
		// Code regions of the function itself; macros of wasm2c's output are files of their own there.
		const own = regions.filter(([, , , , , file, , kind]) => kind === 0 && file === 0);
		const file = path.slice(0, path.lastIndexOf("/"));
		const sum = files.get(file) ?? { functions: 0, reached: 0, regions: 0, regionsReached: 0 };
		sum.functions++;
		sum.reached += count > 0 ? 1 : 0;
		sum.regions += own.length;
		sum.regionsReached += own.filter(([, , , , executed]) => executed > 0).length;
		files.set(file, sum);
		if (count === 0) missing.push(path);
	}
	const total = { functions: 0, reached: 0, regions: 0, regionsReached: 0 };
	console.log("| file | functions | reached | regions | reached |\n|---|---:|---:|---:|---:|");
	const line = (name, s) => {
		const share = s.regions ? `${((100 * s.regionsReached) / s.regions).toFixed(1)} %` : "";
		console.log(`| ${name} | ${s.functions} | ${s.reached} | ${s.regions} | ${share} |`);
	};
	for (const [name, sum] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
		for (const key of Object.keys(total)) total[key] += sum[key];
		line(name, sum);
	}
	line("all", total);
	console.log(missing.length ? `\nnot reached: ${missing.join(", ")}` : "\nevery function is reached");
}

/** `assembly/check/grants/checkGrants` of the name that wasm2c gives it: other characters than letters and digits as 0xHH. */
function nameOf(symbol) {
	const name = symbol.replace(/^.*:/, "");
	if (!name.startsWith("w2c_xlu_")) return undefined;
	const path = name
		.slice("w2c_xlu_".length)
		.replace(/0x([0-9A-F]{2})/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)));
	return path.startsWith("assembly/") ? path : undefined;
}

// --- the command ---------------------------------------------------------------------------------------------------

async function main() {
	const { values } = parseArgs({
		options: {
			seconds: { type: "string", default: "120" },
			flavour: { type: "string" },
			seed: { type: "string", default: "1" },
			corpus: { type: "string", default: join(folder, "corpus") },
			reproduce: { type: "string" },
			extract: { type: "string" },
			to: { type: "string" },
			coverage: { type: "boolean", default: false },
		},
	});
	const chosen = flavours.filter(({ name }) => !values.flavour || name === values.flavour);
	if (chosen.length === 0) throw new Error(`--flavour: ${flavours.map(({ name }) => name).join(" or ")}`);
	const seconds = Number(values.seconds);
	if (!(seconds > 0)) throw new Error("--seconds: a number above 0");
	mkdirSync(findings, { recursive: true });
	const input = values.reproduce ?? values.extract;
	if (input) {
		const program = await build(chosen[0].name, chosen[0].wasm, toFuzz);
		const env = { ...process.env, ASAN_OPTIONS: "detect_leaks=0", UBSAN_OPTIONS: "print_stacktrace=1" };
		if (values.extract) env.XLU_FUZZ_EXTRACT = values.to ?? `${input}.xlu`;
		const { status } = spawnSync(program, [input], { stdio: "inherit", env });
		// What is extracted may be a finding: that it was written is what counts.
		return values.extract ? existsSync(env.XLU_FUZZ_EXTRACT) : status === 0;
	}
	const corpus = resolve(values.corpus);
	const count = await makeSeeds();
	if (values.coverage) {
		await coverage(corpus);
		return true;
	}
	console.log(`${count} seeds of test/vectors, ${seconds} s, ${availableParallelism()} CPUs`);
	let clean = true;
	for (const flavour of chosen) {
		const share = Math.ceil(seconds / chosen.length);
		clean = report(await runFlavour(flavour, share, values.seed, corpus), share) && clean;
	}
	console.log(clean ? "no finding" : "FINDINGS");
	return clean;
}

try {
	if (!(await main())) process.exitCode = 1;
} catch (error) {
	console.error(`fuzz: ${error.message}`);
	process.exitCode = 1;
}
