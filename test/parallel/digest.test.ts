/** P3, P4: a pass runs on any number of workers, in whatever order they come to their tasks, with the same result. */
import { describe, expect, test } from "vitest";
import type { WorkerPool } from "../../src/parallel/pool.ts";
import { cutSlices } from "../passes/after.ts";
import { memoryFor, saveModel } from "../support/core.ts";
import { parse } from "../support/restitch.ts";
import { tinyHost } from "../support/tinyHost.ts";
import { onOneThread, onWorkers, type Restorable, restorable, restorableHost, startPool, tampered } from "./support.ts";

const layouts = ["superpages", "typical", "fragmented", "adversarial"];
/** Several blocks of frames each, the last of them not full. */
const synthetic = (layout: string) => `synthetic:domains=4,memory=128M,vcpus=3,layout=${layout}`;

function hosts(): [string, Restorable][] {
	const tiny = tinyHost();
	const cut = cutSlices(parse(saveModel(tiny.model, tiny.preserved).stream)).build();
	return [
		["tiny", restorable(tiny)],
		["tiny in slices of one chunk", onOneThread(cut, memoryFor(cut, tiny.preserved))],
		...["pv", "pvh", "hvm"].map((name): [string, Restorable] => [name, restorableHost(name)]),
		...layouts.map((layout): [string, Restorable] => [layout, restorableHost(synthetic(layout))]),
		["many domains", restorableHost("synthetic:domains=150,memory=4M,layout=typical,ports=2,grants=2")],
	];
}

async function holds(pool: WorkerPool, name: string, host: Restorable): Promise<void> {
	const { digest, image } = await onWorkers(pool, host);
	expect(digest, name).toBe(host.digest);
	expect(Buffer.compare(image, host.image), name).toBe(0);
}

describe("the same image, octet for octet, as on one thread", () => {
	// One pool for all hosts: an update leaves nothing behind for the next. Seven workers are more than most hosts' domains.
	test.each([1, 2, 3, 7])("%i workers", async (size) => {
		const pool = await startPool(size);
		try {
			for (const [name, host] of hosts()) await holds(pool, name, host);
		} finally {
			await pool.close();
		}
	});

	test("in whatever order tasks end: each delayed at random", async () => {
		const chosen = hosts().filter(([name]) => ["tiny", "pvh", "typical", "adversarial"].includes(name));
		for (const seed of [1, 2, 3]) {
			const pool = await startPool(3, { script: tampered(`delay=${seed}`) });
			try {
				for (const [name, host] of chosen) await holds(pool, `${name}, seed ${seed}`, host);
			} finally {
				await pool.close();
			}
		}
	});

	test("thirty updates in a row with one pool, large and small in turn", async () => {
		const pool = await startPool(2);
		const chosen = hosts().filter(([name]) => ["tiny", "pv", "fragmented"].includes(name));
		try {
			for (let i = 0; i < 30; i++) await holds(pool, `update ${i}`, chosen[i % chosen.length]?.[1] as Restorable);
		} finally {
			await pool.close();
		}
	});
});
