#!/usr/bin/env node
/**
 * The bench suite. docs/BENCHMARKS.md says how to read it, bench/results/README.md how it measures.
 *
 *   node bench/run.mjs [--quick] [--only SUITE[,SUITE]] [--json FILE] [--write] [--minutes N]
 *
 * The full run stays under 20 minutes, --quick under 3: sizes and numbers of turns follow the clock. --minutes sets
 * another one. --json writes all figures; --write writes results.json, results.md and the plots into bench/results.
 * --tiny takes the smallest sizes that there are: for trying out that everything runs, its figures say nothing.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { root } from "./build.mjs";
import { evaluate } from "./goals.mjs";
import { Clock } from "./harness.mjs";
import { describeMachine, machineText } from "./machine.mjs";
import { markdown } from "./report.mjs";

const suiteNames = ["limits", "hosts", "codecs", "native", "peers", "curves", "workers", "cold"];
/** Minutes, with some to spare for what a clock cannot stop: a host that is being made, a compiler. */
const MINUTES = { tiny: 1, quick: 2.2, full: 17 };

function readOptions() {
	const { values } = parseArgs({
		options: {
			quick: { type: "boolean" },
			tiny: { type: "boolean" },
			only: { type: "string", multiple: true },
			json: { type: "string" },
			write: { type: "boolean" },
			minutes: { type: "string" },
		},
	});
	const only = values.only?.flatMap((list) => list.split(","));
	const unknown = only?.find((name) => !suiteNames.includes(name));
	if (unknown !== undefined) throw new Error(`--only: expected ${suiteNames.join(", ")}, got ${unknown}`);
	const size = values.tiny ? "tiny" : values.quick ? "quick" : "full";
	const minutes = values.minutes === undefined ? MINUTES[size] : Number(values.minutes);
	if (!(minutes > 0)) throw new Error(`--minutes: expected a number above 0, got ${values.minutes}`);
	return { ...values, size, minutes, suites: only ? suiteNames.filter((name) => only.includes(name)) : suiteNames };
}

/** Figures to six digits: the clock has no more to say. */
function rounded(_key, value) {
	return typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value;
}

async function main() {
	const options = readOptions();
	const start = performance.now();
	// So that garbage of one candidate is not collected in another's turn.
	setFlagsFromString("--expose-gc");
	globalThis.gc = runInNewContext("gc");
	const clock = new Clock(options.minutes * 60_000);
	const machine = describeMachine();
	console.error(machineText(machine));
	if (machine.load > 0.5 * machine.cores) {
		console.error(`the machine is busy (load ${machine.load}): spreads will be wide`);
	}
	const modules = await Promise.all(options.suites.map((name) => import(`./suites/${name}.mjs`)));
	const weightOf = ({ weight }) => weight[options.size] ?? weight.quick;
	const suites = {};
	for (const [i, suite] of modules.entries()) {
		const left = modules.slice(i).reduce((sum, other) => sum + weightOf(other), 0);
		const began = performance.now();
		const log = (text) => console.error(`${suite.name}: ${text}`);
		try {
			suites[suite.name] = await suite.run({ size: options.size, clock: clock.part(weightOf(suite), left), log });
		} catch (error) {
			// The others are worth having all the same.
			console.error(`${suite.name}: failed: ${error.stack}`);
			suites[suite.name] = undefined;
			process.exitCode = 1;
		}
		log(`${((performance.now() - began) / 1000).toFixed(1)} s`);
	}
	const counted = JSON.parse(readFileSync(join(root, "bench/instructions.json"), "utf8"));
	suites.instructions = counted.results;
	const results = {
		version: 1,
		date: new Date().toISOString().slice(0, 10),
		mode: options.size,
		seconds: Math.round((performance.now() - start) / 1000),
		machine,
		suites,
		goals: evaluate(suites),
	};
	const json = `${JSON.stringify(results, rounded, "\t")}\n`;
	const exactly = JSON.parse(json);
	console.log(markdown(exactly));
	if (options.json) writeFileSync(options.json, json);
	if (options.write) await writeResults(json, exactly);
	console.error(`${results.seconds} s in all`);
}

async function writeResults(json, results) {
	const directory = join(root, "bench/results");
	mkdirSync(directory, { recursive: true });
	writeFileSync(join(directory, "results.json"), json);
	writeFileSync(join(directory, "results.md"), markdown(results));
	const { plots } = await import("./plots.mjs");
	for (const [name, svg] of Object.entries(plots(results))) writeFileSync(join(directory, `${name}.svg`), svg);
}

try {
	await main();
} catch (error) {
	console.error(`bench: ${error.message}`);
	process.exitCode = 2;
}
