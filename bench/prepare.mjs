#!/usr/bin/env node
// What the first save, check and restore of a process take, in terms of the same ones later on: as it comes, and after
// prepare(). Each sample is a process of its own; medians of the ratios over several, and their spread. The goal for save and
// restore after prepare() is 1.2. Times are the process's CPU time, what the engine's own threads compile meanwhile and what
// the kernel does for pages included: other processes of a busy machine are no part of it.
//
//   node bench/prepare.mjs [--times N] [--json FILE] [HOST ...]
//
// Without a HOST: synthetic hosts of four layouts, of 4 guests with 1 GiB each.
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { compileCore, loadCore } from "../dist/core/load.js";
import { buildImage, loadHost, packPreserved } from "../dist/index.js";
import { warmModule, windowBytes } from "../dist/prepare.js";
import { openAndCheck, restorePasses } from "../dist/steps.js";

const { values, positionals } = parseArgs({
	allowPositionals: true,
	options: {
		times: { type: "string", default: "9" },
		json: { type: "string" },
		/** For the processes that this one starts. */
		sample: { type: "string" },
	},
});
const steps = ["save", "check", "restore"];
/** Later ones: so many that the engine has no more to learn, and as many again that count. */
const SETTLING = 12;
const COUNTED = 15;

/** CPU time of this process, milliseconds. */
function cpuMs() {
	const { user, system } = process.cpuUsage();
	return (user + system) / 1000;
}

function median(samples) {
	return [...samples].sort((a, b) => a - b)[samples.length >> 1];
}

/** First and later times of one process, milliseconds. */
async function sample(path, isPrepared) {
	const host = loadHost(path);
	const domids = host.model.domains.map(({ domain }) => domain.domid);
	const module = await compileCore();
	const core = await loadCore({ module });
	const image = core.place(buildImage(host.model, host.preserved));
	const saving = core.createContext();
	const out = core.allocate(saving.planSave(image));
	if (isPrepared) {
		await warmModule(module);
		for (let at = 0; at < out.length; at += 4096) core.bytes(out)[at] = 0;
		core.touch(windowBytes(host, image.length, 0));
	}
	let memory;
	const once = () => {
		const ms = {};
		const timed = (name, run) => {
			const start = cpuMs();
			const result = run();
			ms[name] = cpuMs() - start;
			return result;
		};
		const stream = timed("save", () => saving.save(image, out));
		memory ??= packPreserved(host.preserved, core.hash(stream), (octets) => scratch(octets));
		const next = core.allocate(0).pointer;
		const kept = core.place(memory);
		const opened = timed("check", () => openAndCheck(core, stream, kept));
		opened.context.target(core.allocate(opened.imageBytes));
		timed("restore", () => restorePasses(opened.context, domids));
		// The same windows for the next: what is behind them is given back.
		core.reset();
		core.allocate(next - core.allocate(0).pointer);
		return ms;
	};
	const other = await loadCore({ module });
	const scratch = (octets) => {
		other.reset();
		return other.hash(other.place(octets));
	};
	const first = once();
	for (let i = 0; i < SETTLING; i++) once();
	const later = Array.from({ length: COUNTED }, once);
	return Object.fromEntries(steps.map((name) => [name, first[name] / median(later.map((ms) => ms[name]))]));
}

if (values.sample) {
	console.log(JSON.stringify(await sample(positionals[0], values.sample === "prepared")));
	process.exit();
}

const layouts = ["superpages", "typical", "fragmented", "adversarial"];
const synthetic = layouts.map((layout) => `synthetic:domains=4,memory=1G,layout=${layout}`);
const results = [];
console.log("| host | | first save | first check | first restore |");
console.log("|---|---|---|---|---|");
for (const host of positionals.length > 0 ? positionals : synthetic) {
	for (const kind of ["cold", "prepared"]) {
		const ratios = Array.from({ length: Number(values.times) }, () => {
			const args = [fileURLToPath(import.meta.url), "--sample", kind, host];
			const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
			if (status !== 0) throw new Error(`${host}, ${kind}: ${stderr}`);
			return JSON.parse(stdout);
		});
		const row = steps.map((name) => {
			const sorted = ratios.map((ratio) => ratio[name]).sort((a, b) => a - b);
			return { name, median: median(sorted), low: sorted[0], high: sorted.at(-1) };
		});
		results.push({ host, kind, steps: row });
		const cells = row.map(
			({ median: mid, low, high }) => `${mid.toFixed(2)} (${low.toFixed(2)} .. ${high.toFixed(2)})`,
		);
		console.log(`| ${host.replace(/^synthetic:/, "")} | ${kind} | ${cells.join(" | ")} |`);
	}
}
const machine = { node: process.version, cpu: cpus()[0]?.model ?? "unknown", cpus: cpus().length };
console.log(
	`\nFirst / warm, median of ${values.times} processes, lowest .. highest. ${machine.cpus} x ${machine.cpu}, Node ${machine.node}`,
);
if (values.json) writeFileSync(values.json, `${JSON.stringify({ machine, results }, null, "\t")}\n`);
