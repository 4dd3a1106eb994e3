#!/usr/bin/env node
// Stages of a live update on captured hosts: medians and spread over several updates in one process, and what they come
// to per frame. Times are the serializer's shares in a process, never the pause of real hardware.
//
//   node bench/update.mjs [--times N] [--json FILE] [HOST ...]      default: the captured hosts of the tests
import { writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { liveUpdate, loadHost } from "../dist/index.js";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const { values, positionals } = parseArgs({
	allowPositionals: true,
	options: { times: { type: "string", default: "15" }, json: { type: "string" } },
});
const times = Number(values.times);
const hosts = positionals.length
	? positionals
	: ["pv", "pvh", "hvm"].map((name) => join(root, "test/fixtures/xen-4.17", name));

function summary(samples) {
	const sorted = [...samples].sort((a, b) => a - b);
	const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
	return { median: at(0.5), low: at(0.1), high: at(0.9) };
}

const results = [];
for (const path of hosts) {
	const host = loadHost(path);
	const samples = new Map();
	const frames = host.model.frameOwners.length;
	for (let i = 0; i < times; i++) {
		const report = await liveUpdate(host);
		if (!report.identical) throw new Error(`${path}: the update was not identical`);
		for (const { name, ms } of [...report.stages, { name: "blackout", ms: report.blackoutMs }]) {
			samples.set(name, [...(samples.get(name) ?? []), ms]);
		}
	}
	const stages = Object.fromEntries([...samples].map(([name, list]) => [name, summary(list)]));
	results.push({ host: host.name, frames, times, stages });
	console.log(`\n${host.name}: ${frames} frames in the frame table, ${times} updates`);
	console.log("stage        median ms   10 % .. 90 %          ns/frame");
	for (const [name, { median, low, high }] of Object.entries(stages)) {
		const spread = `${low.toFixed(3)} .. ${high.toFixed(3)}`;
		console.log(
			`${name.padEnd(10)} ${median.toFixed(3).padStart(11)}   ${spread.padEnd(20)} ${((median * 1e6) / frames).toFixed(2).padStart(9)}`,
		);
	}
}
const machine = { node: process.version, cpu: cpus()[0]?.model ?? "unknown", cpus: cpus().length };
console.log(`\n${machine.cpus} x ${machine.cpu}, Node ${machine.node}`);
if (values.json) writeFileSync(values.json, `${JSON.stringify({ machine, results }, null, "\t")}\n`);
