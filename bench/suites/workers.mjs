/**
 * A live update with one and with two workers, in turns, where the package has that option; and in the same turns the same
 * arithmetic by one thread and shared by two: what the machine had to give. Where that is near 1, no worker helps.
 */
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { root } from "../build.mjs";
import { alternate, ratio, summaries, took } from "../harness.mjs";
import { liveUpdate, loadHost } from "../package.mjs";

export const name = "workers";
export const title = "Workers";
export const weight = { quick: 6, full: 6 };

const hosts = {
	tiny: ["domains=1,memory=4M,layout=typical"],
	quick: ["domains=8,memory=256M,layout=typical"],
	full: ["superpages", "typical", "fragmented"].map((layout) => `domains=10,memory=1G,layout=${layout}`),
};

export async function run({ size, clock, log }) {
	const { stdout } = spawnSync(process.execPath, [join(root, "dist/cli/main.js"), "run", "--help"], {
		encoding: "utf8",
	});
	if (!stdout.includes("--workers")) {
		const reason = "xlu run has no --workers yet";
		log(`left out, ${reason}`);
		return { rows: [], skipped: [{ peer: "workers", reason }] };
	}
	const rows = [];
	for (const [i, host] of hosts[size].entries()) {
		log(host);
		rows.push(await measure(`synthetic:${host}`, clock.part(1, hosts[size].length - i)));
	}
	return { cpus: availableParallelism(), rows, skipped: [] };
}

const SPINS = 2e8;

/** Arithmetic shared by so many threads; the time from the start of the work to the end of the last thread. */
async function spin(threads) {
	const script = `
		const { parentPort, workerData } = require("node:worker_threads");
		parentPort.once("message", () => {
			let x = 1;
			for (let i = 0; i < workerData; i++) x = Math.imul(x, 0x2c1b3c6d) ^ (x >>> 15);
			parentPort.postMessage(x);
		});
		parentPort.postMessage("ready");
	`;
	const workers = Array.from(
		{ length: threads },
		() => new Worker(script, { eval: true, workerData: Math.floor(SPINS / threads) }),
	);
	const heard = () => Promise.all(workers.map((worker) => once(worker, "message")));
	await heard();
	const start = performance.now();
	const ended = heard();
	for (const worker of workers) worker.postMessage("go");
	await ended;
	const ms = performance.now() - start;
	await Promise.all(workers.map((worker) => worker.terminate()));
	return took(ms);
}

async function measure(line, clock) {
	const host = loadHost(line);
	const update = (workers) => async () => {
		const report = await liveUpdate(host, { workers });
		if (!report.identical) throw new Error(`${line}: the update was not identical`);
		const stages = Object.fromEntries(report.stages.map(({ name: stage, ms }) => [`${workers} ${stage}`, ms]));
		const restore = ["pass 0", "pass 1", "pass 2"].reduce((sum, pass) => sum + stages[`${workers} ${pass}`], 0);
		return took({ ...stages, [`${workers} restore`]: restore, [`${workers} blackout`]: report.blackoutMs });
	};
	const candidates = { one: update(1), two: update(2), "1 arithmetic": () => spin(1), "2 arithmetic": () => spin(2) };
	const { samples } = await alternate(candidates, { clock, warm: 1, least: 3, most: 21 });
	const stages = Object.keys(samples)
		.filter((row) => row.startsWith("1 "))
		.map((row) => row.slice(2));
	const isThere = (stage) => samples[`1 ${stage}`].every((ms) => ms > 0) && samples[`2 ${stage}`].every((ms) => ms > 0);
	return {
		host: line.slice("synthetic:".length),
		ms: summaries(samples),
		twoToOne: Object.fromEntries(
			stages.filter(isThere).map((stage) => [stage, ratio(samples[`2 ${stage}`], samples[`1 ${stage}`])]),
		),
	};
}
