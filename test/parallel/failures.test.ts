/**
 * A worker that dies ends the update with a refusal, never with a hang, and never with a half-restored host that is taken
 * for a good one. Waiting is bounded by the pool's own patience; no test looks at a clock.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { XluError } from "../../src/errors.ts";
import { DOMID } from "../../src/format/enums.ts";
import { readStruct } from "../../src/format/layout.ts";
import { imageStructs } from "../../src/format/schema.ts";
import { type PoolOptions, WorkerPool } from "../../src/parallel/pool.ts";
import { host as captured, xlu } from "../cli/xlu.ts";
import { root, saveModel } from "../support/core.ts";
import { tinyHost } from "../support/tinyHost.ts";
import { onOneThread, onWorkers, openIn, sharedModule, startPool, tampered } from "./support.ts";

const { model, preserved } = tinyHost();
const saved = saveModel(model, preserved);
const tiny = onOneThread(saved.stream, saved.memory);

const restoredPass = imageStructs.ImageRoot.fields.find(({ name }) => name === "restoredPass")?.offset as number;
const COMPLETE = 0xffff_ffff;

async function refusalOf(run: () => Promise<unknown>): Promise<XluError> {
	try {
		await run();
	} catch (error) {
		if (error instanceof XluError) return error;
		throw error;
	}
	throw new Error("nothing was refused");
}

/** How it goes wrong, and what the refusal says. */
const ways: [how: string, says: string | RegExp, options?: PoolOptions][] = [
	["exit", /exited with 3/],
	["throw", /threw: thrown in a worker/],
	["trap", /in pass \d of (domain|block) \d.*: RuntimeError: unreachable/],
	["refuse", /in pass \d of (domain|block) \d.*: refused by/],
	["hang", /did not answer within 400 ms \(pass \d\)/, { timeoutMs: 400 }],
];

/** Every kind of task: each pass of a domain, each step of a block. */
const tasks: [call: "restore" | "frames", pass: number, item: number][] = [
	["restore", 0, 1],
	["restore", 1, 2],
	["restore", 2, 5],
	["frames", 0, 0],
	["frames", 1, 0],
	["frames", 2, 0],
];

describe.each(ways)("a worker that ends in %s", (how, says, options) => {
	test.each(tasks)("in %s of pass %i, item %i", async (call, pass, item) => {
		const pool = await startPool(2, {
			script: tampered(`how=${how}&call=${call}&pass=${pass}&item=${item}`),
			...options,
		});
		try {
			const { context, target } = openIn(pool, tiny);
			const error = await refusalOf(() => pool.restore(context, tiny.domids));
			expect(error.code).toBe("XLU_E_WORKER");
			expect(error.exitStatus).toBe(1);
			expect(error.message).toMatch(says);
			expect(error.expected).toBe("every worker through every pass");
			expect(error.got).toMatch(/^worker \d /);
			// Whoever finds the image sees that it is not whole, and the core does not let it be called that.
			const bytes = pool.core.bytes(target);
			expect(new DataView(bytes.buffer, bytes.byteOffset).getUint32(restoredPass, true)).not.toBe(COMPLETE);
			expect((await refusalOf(async () => context.finish())).code).toBe("XLU_E_PASS");
			// A pool that has failed once does nothing more.
			const again = openIn(pool, tiny);
			expect((await refusalOf(() => pool.restore(again.context, tiny.domids))).code).toBe("XLU_E_WORKER");
		} finally {
			await pool.close();
		}
	});
});

describe("a worker that does not even start", () => {
	test.each([
		["throw", /threw: thrown in a worker/],
		["exit", /exited with 3/],
		["hang", /did not answer within 400 ms \(start\)/],
	])("%s", async (start, says) => {
		const script = tampered(`start=${start}`);
		const error = await refusalOf(() => startPool(3, { script, ...(start === "hang" ? { startTimeoutMs: 400 } : {}) }));
		expect(error.code).toBe("XLU_E_WORKER");
		expect(error.message).toMatch(says);
	});

	test("no thread can be made of it", async () => {
		const error = await refusalOf(() => startPool(2, { script: new URL("https://localhost/worker.mjs") }));
		expect(error.code).toBe("XLU_E_WORKER");
		expect(error.message).toMatch(/cannot be started/);
	});

	test("the program is not there", async () => {
		const script = new URL("./nothing.mjs", import.meta.url);
		expect((await refusalOf(() => startPool(2, { script }))).code).toBe("XLU_E_WORKER");
	});
});

describe("a whole update, in a process of its own, which ends by itself", () => {
	function update(query: string, timeoutMs = 20_000) {
		const program = join(root, "test/parallel/workers/update.mjs");
		const args = [program, captured("pvh"), String(tampered(query)), String(timeoutMs)];
		// Far more than it takes: a process that hangs is killed by it, and then there is no status.
		const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8", timeout: 120_000 });
		expect(stderr).toBe("");
		expect(status).toBe(0);
		return JSON.parse(stdout);
	}

	test("with nothing wrong it is identical", () => {
		expect(update("none")).toEqual({ identical: true, workers: 2 });
	});

	test.each([
		["before the pause", "start=exit", undefined],
		["in pass 0", "how=exit&call=restore&pass=0&item=0", undefined],
		["in pass 1", "how=throw&call=frames&pass=1&item=0", undefined],
		["in pass 2", "how=hang&call=restore&pass=2&item=0", 400],
	])("dies %s", (_, query, timeoutMs) => {
		expect(update(query, timeoutMs)).toMatchObject({ code: "XLU_E_WORKER", exitStatus: 1 });
	});
});

describe("workers as asked for", () => {
	test("a pool has 1 to 64; other numbers are XLU_E_USAGE", async () => {
		for (const size of [0, -1, 65, 1.5, Number.NaN]) {
			const error = await refusalOf(() => WorkerPool.load(size, { module: sharedModule }));
			expect(error.code).toBe("XLU_E_USAGE");
		}
	});

	test("xlu run --workers: the report says how many, passes and domains are timed as ever", () => {
		const one = JSON.parse(xlu(["run", captured("pvh"), "--json"]).stdout);
		const three = JSON.parse(xlu(["run", captured("pvh"), "--json", "--workers", "3"]).stdout);
		expect(one.workers).toBe(1);
		expect(three.workers).toBe(3);
		expect(three.identical).toBe(true);
		const names = ({ stages }: { stages: { name: string }[] }) => stages.map(({ name }) => name);
		expect(names(three)).toEqual(names(one));
		expect(three.domains.map(({ passMs: _, ...domain }: { passMs: number[] }) => domain)).toEqual(
			one.domains.map(({ passMs: _, ...domain }: { passMs: number[] }) => domain),
		);
		// Shown in microseconds, so that a short pass may be 0; not all of them are.
		const times: number[] = three.domains.flatMap(({ passMs }: { passMs: number[] }) => passMs);
		expect(times.every((ms) => ms >= 0)).toBe(true);
		expect(times.some((ms) => ms > 0)).toBe(true);
		expect(xlu(["run", captured("pvh"), "--workers", "3"]).stdout).toMatch(/^workers +3$/m);
		expect(xlu(["run", captured("pvh")]).stdout).not.toContain("workers");
	});

	test.each(["0", "65", "2.5", "many", ""])("xlu run --workers %j is a usage error", (workers) => {
		const { status, stderr } = xlu(["run", captured("pvh"), "--workers", workers]);
		expect(status).toBe(2);
		expect(stderr).toContain("--workers");
	});
});

test("a worker that dies while nobody asks is noticed before the pause", async () => {
	// On a busy machine one may be gone before the other is there: then there is no pool, for that reason, and it is tried again.
	const start = (): Promise<WorkerPool> =>
		startPool(2, { script: tampered("late=exit") }).catch((error: XluError) => {
			expect(error.code).toBe("XLU_E_WORKER");
			return start();
		});
	const pool = await start();
	try {
		const hasFailed = () => {
			try {
				pool.needAll();
				return false;
			} catch (error) {
				return (error as XluError).code === "XLU_E_WORKER";
			}
		};
		while (!hasFailed()) await new Promise((resolve) => setTimeout(resolve, 10));
	} finally {
		await pool.close();
	}
});

test("an image that was restored says so, and its pool can go on", async () => {
	const pool = await startPool(2);
	try {
		const first = await onWorkers(pool, tiny);
		const root = readStruct(imageStructs.ImageRoot, new DataView(first.image.buffer, first.image.byteOffset), 0);
		expect(root.restoredPass).toBe(COMPLETE);
		const { context } = openIn(pool, tiny);
		await pool.restore(context, tiny.domids);
		expect(() => context.restore(0, DOMID.XEN)).toThrow();
	} finally {
		await pool.close();
	}
});
