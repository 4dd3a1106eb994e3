#!/usr/bin/env node
// Stages of a live update: medians and spread over several updates in one process, and what save, check and each pass come
// to per page of guests' memory, layout by layout. Times are the serializer's shares in a process, never the pause of real
// hardware. docs/BENCHMARKS.md says how to read them.
//
//   node bench/update.mjs [--times N] [--memory SIZE] [--domains N] [--json FILE] [HOST ...]
//
// Without a HOST: synthetic hosts of three layouts, of --domains (4) guests with --memory (256M) each, and the captured ones.
import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { liveUpdate, loadHost } from "../dist/index.js";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const { values, positionals } = parseArgs({
	allowPositionals: true,
	options: {
		times: { type: "string", default: "11" },
		memory: { type: "string", default: "256M" },
		domains: { type: "string", default: "4" },
		json: { type: "string" },
	},
});
const times = Number(values.times);
const synthetic = ["superpages", "typical", "fragmented"].map(
	(layout) => `synthetic:domains=${values.domains},memory=${values.memory},layout=${layout}`,
);
const captured = ["pv", "pvh", "hvm"].map((name) => join(root, "test/fixtures/xen-4.17", name));
const hosts = positionals.length > 0 ? positionals : [...synthetic, ...captured];

function summary(samples) {
	const sorted = [...samples].sort((a, b) => a - b);
	const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
	return { median: at(0.5), low: at(0.1), high: at(0.9) };
}

// Compiled once: what V8 has learnt of the module serves every instance, as prepare() in the brown-out would have it.
const module = await WebAssembly.compile(readFileSync(join(root, "dist/core.wasm")));

async function measure(path) {
	const host = loadHost(path);
	const samples = new Map();
	let pages = 0;
	// The first update is not counted: it warms the module.
	for (let i = 0; i <= times; i++) {
		const report = await liveUpdate(host, { module });
		if (!report.identical) throw new Error(`${path}: the update was not identical`);
		if (i === 0) {
			pages = report.domains.reduce((sum, { frames }) => sum + frames, 0);
			continue;
		}
		for (const { name, ms } of [...report.stages, { name: "blackout", ms: report.blackoutMs }]) {
			samples.set(name, [...(samples.get(name) ?? []), ms]);
		}
	}
	const stages = Object.fromEntries([...samples].map(([name, list]) => [name, summary(list)]));
	const nsPerPage = Object.fromEntries(
		Object.entries(stages).map(([name, { median }]) => [name, (median * 1e6) / pages]),
	);
	return { host: host.name, frameTable: host.model.frameOwners.length, pages, times, stages, nsPerPage };
}

const results = [];
for (const path of hosts) {
	const result = await measure(path);
	results.push(result);
	console.log(`\n${result.host}: ${result.pages} pages of domains, ${result.frameTable} frames in the frame table`);
	console.log("stage        median ms   10 % .. 90 %           ns/page");
	for (const [name, { median, low, high }] of Object.entries(result.stages)) {
		const spread = `${low.toFixed(3)} .. ${high.toFixed(3)}`;
		const perPage = result.nsPerPage[name].toFixed(2).padStart(9);
		console.log(`${name.padEnd(10)} ${median.toFixed(3).padStart(11)}   ${spread.padEnd(20)} ${perPage}`);
	}
}

const shown = ["save", "check", "open", "pass 0", "pass 1", "pass 2", "blackout"];
console.log("\nns per page of domains' memory (medians)\n");
console.log(`| host | ${shown.join(" | ")} |`);
console.log(`|---|${shown.map(() => "---:").join("|")}|`);
for (const { host, nsPerPage } of results) {
	console.log(
		`| ${host.replace(/^synthetic:/, "")} | ${shown.map((name) => nsPerPage[name].toFixed(2)).join(" | ")} |`,
	);
}
const machine = { node: process.version, cpu: cpus()[0]?.model ?? "unknown", cpus: cpus().length };
console.log(
	`\n${machine.cpus} x ${machine.cpu}, Node ${machine.node}, ${times} updates each, the first one not counted`,
);
if (values.json) writeFileSync(values.json, `${JSON.stringify({ machine, results }, null, "\t")}\n`);
