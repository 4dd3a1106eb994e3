#!/usr/bin/env node
/**
 * Switches off each place of the core that refuses, one at a time, and shows whether a conformance vector or a test notices:
 * a check that nobody would miss is not tested. The places are found in the sources (tools/mutants/refusals.mjs).
 *
 *   node tools/check-mutations.mjs [--operator off,call,clause,bound] [--file assembly/check/grants.ts[,...]] [--only N[,N...]]
 *                                  [--sample N --seed S] [--seconds N] [--no-vectors] [--no-tests] [--list]
 *                                  [--json FILE]
 *
 * All mutants stand in one module, of which a global says which one is on: there is one build. Every mutant is run on the
 * vectors, those that none of them notices on the tests (below), each until the first that fails. What is known to pass
 * unnoticed stands in tools/mutants/unnoticed.json, with the reason; any other such mutant makes the command fail.
 * --seconds: begin no mutant after so many.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { compileCore, coreSources, failingTests, root } from "./mutants/core.mjs";
import { mutate, NO_MUTANT, OPERATORS, withMutant } from "./mutants/refusals.mjs";

/** Tests that call what no stream reaches, by the files that they are about; one after the other, the quickest first. */
const calls = ["test/passes/windows.test.ts", "test/parallel/contexts.test.ts", "test/passes/passes.test.ts"];
const images = ["test/core/roundtrip.test.ts", "test/passes/windows.test.ts", "test/core/versions.test.ts"];
const steps = ["test/core/turns.test.ts", "test/core/windows.test.ts"];
const streams = ["test/core/limits.test.ts", "test/core/versions.test.ts"];
const suites = {
	"assembly/check/index.ts": calls,
	"assembly/compare.ts": ["test/core/image.test.ts", ...images.slice(0, 2)],
	"assembly/digestSteps.ts": steps,
	"assembly/image.ts": ["test/core/image.test.ts"],
	"assembly/open.ts": [...calls.slice(0, 1), ...streams],
	"assembly/plan.ts": ["test/core/limits.test.ts", ...calls.slice(2)],
	"assembly/restore.ts": [...calls, ...steps],
	"assembly/restoreRows.ts": steps,
	"assembly/save.ts": ["test/core/image.test.ts", ...images],
	"assembly/saveSteps.ts": [...steps.slice(0, 1), "test/core/image.test.ts", ...steps.slice(1)],
	"assembly/steps.ts": steps,
	"assembly/workers.ts": [...calls.slice(1, 2), ...steps],
};
/** A mutant whose vectors take longer than this loops. */
const HANGS_AFTER_MS = 20_000;
/** And one whose tests of one file take longer than this, on however busy a machine. */
const TESTS_MS = 600_000;

const { values } = parseArgs({
	options: {
		operator: { type: "string", default: Object.keys(OPERATORS).join(",") },
		file: { type: "string" },
		only: { type: "string" },
		sample: { type: "string" },
		seed: { type: "string", default: "1" },
		seconds: { type: "string" },
		"no-vectors": { type: "boolean", default: false },
		"no-tests": { type: "boolean", default: false },
		list: { type: "boolean", default: false },
		json: { type: "string" },
	},
});

/** `count` of a list, the same ones for the same seed, in their order. */
function sampleOf(list, count, seed) {
	let state = seed >>> 0;
	const random = () => {
		state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
		return state;
	};
	const drawn = list.map((item) => ({ item, key: random() })).sort((a, b) => a.key - b.key);
	const taken = new Set(drawn.slice(0, count).map(({ item }) => item));
	return list.filter((item) => taken.has(item));
}

const started = performance.now();
const isOver = () => values.seconds !== undefined && (performance.now() - started) / 1000 > Number(values.seconds);
const nameOf = ({ number, file, line, column, operator, rule, what }) =>
	`${number}. ${file}:${line}:${column} ${rule} ${operator}: ${what}`;

const { changed, mutants } = mutate(coreSources());
const only = values.only?.split(",").map(Number);
let chosen = mutants.filter(
	({ number, file, operator }) =>
		values.operator.split(",").includes(operator) &&
		(!values.file || values.file.split(",").some((path) => file.startsWith(path))) &&
		(!only || only.includes(number)),
);
if (values.sample) chosen = sampleOf(chosen, Number(values.sample), Number(values.seed));
if (values.list) {
	for (const mutant of chosen) console.log(nameOf(mutant));
	process.exit(0);
}

/** Mutants known to pass unnoticed: by file, operator and text, of which a line number says nothing. */
const unnoticed = JSON.parse(readFileSync(join(root, "tools/mutants/unnoticed.json"), "utf8"));
const isKnown = (known, mutant) =>
	known.file === mutant.file &&
	known.operator === mutant.operator &&
	known.what === mutant.what &&
	(known.rule === undefined || known.rule === mutant.rule);

const directory = mkdtempSync(join(tmpdir(), "xlu-mutants-"));
const results = new Map();

/** Runs vectors on mutants in a worker, which ends with a mutant that hangs. Returns how many of them have a result. */
function runVectors(list, core) {
	const beats = new Int32Array(new SharedArrayBuffer(4));
	return new Promise((resolve, reject) => {
		const workerData = { core, beats, mutants: list, unmutated: NO_MUTANT };
		const worker = new Worker(new URL("./mutants/vectorWorker.mjs", import.meta.url), { workerData });
		let running;
		let done = 0;
		let beat = -1;
		let since = performance.now();
		const end = async () => {
			clearInterval(timer);
			await worker.terminate();
			resolve(done);
		};
		const timer = setInterval(() => {
			const now = Atomics.load(beats, 0);
			if (now !== beat) since = performance.now();
			beat = now;
			if (running === undefined || performance.now() - since < HANGS_AFTER_MS) return;
			results.set(running, { vector: "some vector", how: "it never ends" });
			done++;
			end();
		}, 1000);
		worker.on("message", ({ begins, number, by }) => {
			running = begins;
			if (begins !== undefined) {
				if (isOver()) end();
				return;
			}
			results.set(number, by);
			if (++done === list.length) end();
		});
		worker.on("error", (error) => {
			clearInterval(timer);
			reject(error);
		});
	});
}

try {
	const core = join(directory, "core.wasm");
	const octets = await compileCore(changed, "plain");
	writeFileSync(core, octets);
	console.log(`${chosen.length} mutants of ${mutants.length} in one build, ${seconds()}`);
	if (values["no-vectors"]) for (const { number } of chosen) results.set(number, undefined);
	for (let left = values["no-vectors"] ? [] : chosen; left.length > 0 && !isOver(); )
		left = left.slice(await runVectors(left, core));
	const passed = chosen.filter(({ number }) => results.has(number) && !results.get(number));
	console.log(`the vectors notice ${results.size - passed.length} of ${results.size}, ${seconds()}`);

	/** Suites that were seen to pass without a mutant. */
	const sound = new Set();
	const failing = (suite, number) => {
		writeFileSync(core, withMutant(octets, number));
		return failingTests(core, join(directory, "report.json"), [suite], { bail: true, timeout: TESTS_MS })[0];
	};
	for (const mutant of values["no-tests"] ? [] : passed) {
		if (isOver()) break;
		if (unnoticed.some((one) => isKnown(one, mutant))) continue;
		let test;
		for (const suite of suites[mutant.file] ?? ["test/core/rules.test.ts"]) {
			const wrong = sound.has(suite) ? undefined : failing(suite, NO_MUTANT);
			if (wrong) throw new Error(`with no mutant, ${wrong} fails`);
			sound.add(suite);
			test = failing(suite, mutant.number);
			if (test) break;
		}
		if (test) results.set(mutant.number, { test });
		console.log(`${nameOf(mutant)}: ${test ?? "NO TEST FAILS"}`);
	}
} finally {
	rmSync(directory, { recursive: true, force: true });
}

function seconds() {
	return `${Math.round((performance.now() - started) / 1000)} s`;
}

for (const operator of Object.keys(OPERATORS)) {
	const all = chosen.filter((mutant) => mutant.operator === operator);
	const ran = all.filter(({ number }) => results.has(number));
	const by = (kind) => ran.filter(({ number }) => results.get(number)?.[kind]).length;
	if (all.length > 0)
		console.log(
			`${operator}: ${all.length}, run ${ran.length}, noticed by vectors ${by("vector")}, by tests ${by("test")}, unnoticed ` +
				`${ran.length - by("vector") - by("test")}`,
		);
}
for (const mutant of chosen.filter(({ number }) => results.has(number) && !results.get(number))) {
	const known = unnoticed.find((one) => isKnown(one, mutant));
	console.log(`${known ? "" : "UNNOTICED: "}${nameOf(mutant)}${known ? `: ${known.why}` : ""}`);
	if (!known && !values["no-tests"]) process.exitCode = 1;
}
if (values.json)
	writeFileSync(
		values.json,
		`${JSON.stringify(
			chosen.map((mutant) => ({ ...mutant, run: results.has(mutant.number), ...results.get(mutant.number) })),
			null,
			"\t",
		)}\n`,
	);
