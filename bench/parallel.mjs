#!/usr/bin/env node
// The three passes on one thread and on several workers, alternated in one process: medians, and the spread of what each
// round's two came to, as ratios. "machine" is the same ratio for plain arithmetic: what the machine had to give. Times are the serializer's shares in a process; docs/BENCHMARKS.md says how to read them.
//
//   node bench/parallel.mjs [--workers N[,N...]] [--times N] [--memory SIZE] [--domains N] [--json FILE] [HOST ...]
//
// Without a HOST: synthetic hosts of four layouts, of --domains (16) guests with --memory (512M) each.
import { writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { Core, compileCore, loadCore } from "../dist/core/load.js";
import { loadHost } from "../dist/index.js";
import { WorkerPool } from "../dist/parallel/pool.js";
import { warmModule } from "../dist/prepare.js";
import { openAndCheck, restorePasses, saveHost } from "../dist/steps.js";

const { values, positionals } = parseArgs({
	allowPositionals: true,
	options: {
		workers: { type: "string", default: "2" },
		times: { type: "string", default: "21" },
		memory: { type: "string", default: "512M" },
		domains: { type: "string", default: "16" },
		json: { type: "string" },
	},
});
const times = Number(values.times);
const counts = values.workers.split(",").map(Number);
const layouts = ["superpages", "typical", "fragmented", "adversarial"];
const synthetic = layouts.map(
	(layout) => `synthetic:domains=${values.domains},memory=${values.memory},layout=${layout}`,
);
const hosts = positionals.length > 0 ? positionals : synthetic;
const module = await compileCore();
const DOMID_XEN = 0x7ff2;

function at(samples, part) {
	const sorted = [...samples].sort((a, b) => a - b);
	return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
}

/** What the machine has to give: plain arithmetic, the same amount on one thread and shared out to several. */
const STEPS = 6_000_000;
const arithmetic = `
	const { parentPort } = require("node:worker_threads");
	parentPort.on("message", (steps) => {
		let x = 1;
		for (let i = 0; i < steps; i++) x = (Math.imul(x, 31) + i) | 0;
		parentPort.postMessage(x);
	});`;

function machineOf(count) {
	const threads = Array.from({ length: count }, () => new Worker(arithmetic, { eval: true }));
	const run = (thread, steps) =>
		new Promise((resolve) => {
			thread.once("message", resolve);
			thread.postMessage(steps);
		});
	const timed = async (users) => {
		const start = performance.now();
		await Promise.all(users.map((thread) => run(thread, STEPS / users.length)));
		return performance.now() - start;
	};
	return {
		ratio: async () => {
			const one = await timed(threads.slice(0, 1));
			return (await timed(threads)) / one;
		},
		close: () => Promise.all(threads.map((thread) => thread.terminate())),
	};
}

/** CPU time of this process, milliseconds: what other processes take of a busy machine is no part of it. */
function cpuMs() {
	const { user, system } = process.cpuUsage();
	return (user + system) / 1000;
}

/**
 * The work itself, without threads and so without luck: the passes as one thread does them, and cut up for `workers`
 * contexts, taken in turn by one thread. CPU time of the cut-up work in terms of the other's, and the part of it that only
 * one thread can do.
 */
function workOf(octets, domids, workers) {
	const instance = new WebAssembly.Instance(module, {});
	const core = new Core(instance);
	const open = () => {
		core.reset();
		const opened = openAndCheck(core, core.place(octets.stream), core.place(octets.memory));
		opened.context.target(core.allocate(opened.imageBytes));
		return opened.context;
	};
	return () => {
		const alone = open();
		const start = cpuMs();
		restorePasses(alone, domids);
		const one = cpuMs() - start;
		const context = open();
		const sums = context.figure("planSumsBytes");
		const forks = Array.from({ length: workers - 1 }, () => core.createContext());
		const windows = forks.map(() => core.allocate(sums));
		for (const window of windows) core.bytes(window).fill(0);
		const contexts = [context, ...forks];
		const blocks = Array.from({ length: context.figure("blockCount") }, (_, block) => block);
		const { restore, frames } = instance.exports;
		const shared = (call, pass, items) => {
			items.forEach((item, i) => {
				if (call(contexts[i % workers].pointer, pass, item) !== 0) throw new Error("a task was refused");
			});
		};
		const begin = cpuMs();
		for (const [i, fork] of forks.entries()) context.fork(fork, windows[i]);
		context.restore(0, DOMID_XEN);
		const created = cpuMs();
		shared(restore, 0, domids);
		shared(frames, 0, blocks);
		shared(frames, 1, blocks);
		const placed = cpuMs();
		context.restore(1, DOMID_XEN);
		const started = cpuMs();
		shared(restore, 1, domids);
		shared(restore, 2, domids);
		shared(frames, 2, blocks);
		const merged = cpuMs();
		context.finish();
		const end = cpuMs();
		const serial = created - begin + (started - placed) + (end - merged);
		return { work: (end - begin) / one, serial: serial / (end - begin) };
	};
}

/** One side: a core, its windows, and a way to run the passes. Milliseconds of each pass, and of all. */
function side(core, { stream, memory }, passes) {
	return async () => {
		core.reset();
		const opened = openAndCheck(core, core.place(stream), core.place(memory));
		const target = core.allocate(opened.imageBytes);
		opened.context.target(target);
		const ms = [];
		const timed = async (pass, run) => {
			const start = performance.now();
			await run();
			ms[pass] = performance.now() - start;
		};
		await passes(opened.context, timed);
		return { ms: [...ms, ms[0] + ms[1] + ms[2]], digest: core.createContext().digest(target) };
	};
}

async function measure(path) {
	const host = loadHost(path);
	const core = await loadCore({ module });
	const saved = saveHost(core, host);
	const octets = { stream: core.bytes(saved.stream).slice(), memory: core.bytes(saved.memory).slice() };
	const domids = host.model.domains.map(({ domain }) => domain.domid);
	const one = side(await loadCore({ module }), octets, async (context, timed) => {
		// restorePasses is synchronous, so that what `timed` starts has ended when it returns.
		restorePasses(context, domids, timed);
	});
	const results = [];
	for (const workers of counts) {
		const pool = await WorkerPool.load(workers);
		const machine = machineOf(workers);
		const machineRatios = [];
		const work = workOf(octets, domids, workers);
		const works = [];
		try {
			await pool.start();
			await warmModule(module, pool);
			const many = side(pool.core, octets, (context, timed) => pool.restore(context, domids, { timed }));
			const samples = { one: [], many: [] };
			// The first round is not counted: its windows are new.
			for (let i = 0; i <= times; i++) {
				const order = i % 2 === 0 ? ["one", "many"] : ["many", "one"];
				const digests = new Set();
				machineRatios.push(await machine.ratio());
				works.push(work());
				for (const name of order) {
					const { ms, digest } = await (name === "one" ? one : many)();
					digests.add(digest);
					if (i > 0) samples[name].push(ms);
				}
				if (digests.size !== 1) throw new Error(`${path}: ${workers} workers restored something else`);
			}
			const column = (name, pass) => samples[name].map((ms) => ms[pass]);
			const stages = ["pass 0", "pass 1", "pass 2", "passes"].map((name, pass) => {
				const ratios = samples.one.map((ms, i) => samples.many[i][pass] / ms[pass]);
				return {
					name,
					oneMs: at(column("one", pass), 0.5),
					manyMs: at(column("many", pass), 0.5),
					ratio: at(ratios, 0.5),
					low: at(ratios, 0.1),
					high: at(ratios, 0.9),
				};
			});
			const middle = (name) =>
				at(
					works.map((one) => one[name]),
					0.5,
				);
			results.push({
				host: host.name,
				frameTable: host.model.frameOwners.length,
				workers,
				stages,
				machine: at(machineRatios, 0.5),
				work: middle("work"),
				serial: middle("serial"),
			});
		} finally {
			await machine.close();
			await pool.close();
		}
	}
	return results;
}

const all = [];
console.log(
	"| host | workers | work | serial | machine | pass 0 | pass 1 | pass 2 | all passes | one thread ms | workers ms |",
);
console.log("|---|---:|---:|---:|---:|---|---|---|---|---:|---:|");
for (const path of hosts) {
	for (const result of await measure(path)) {
		all.push(result);
		const cells = result.stages.map(
			({ ratio, low, high }) => `${ratio.toFixed(2)} (${low.toFixed(2)} .. ${high.toFixed(2)})`,
		);
		const total = result.stages[3];
		const name = result.host.replace(/^synthetic:/, "").replace(/,vcpus.*layout=/, ",layout=");
		console.log(
			`| ${name.replace(/,ports.*/, "")} | ${result.workers} | ${result.work.toFixed(2)} | ${(100 * result.serial).toFixed(1)} % | ${result.machine.toFixed(2)} | ${cells.join(" | ")} | ${total.oneMs.toFixed(2)} | ${total.manyMs.toFixed(2)} |`,
		);
	}
}
const machine = { node: process.version, cpu: cpus()[0]?.model ?? "unknown", cpus: cpus().length };
console.log(
	`\nTime with workers / time on one thread: median of ${times} pairs, 10 % .. 90 %. ${machine.cpus} x ${machine.cpu}, Node ${machine.node}`,
);
if (values.json) writeFileSync(values.json, `${JSON.stringify({ machine, times, results: all }, null, "\t")}\n`);
