/** Hosts restored on one thread, which is what several have to come to, and pools of the built worker. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll } from "vitest";
import type { Context, Window } from "../../src/core/load.ts";
import { loadHost } from "../../src/host.ts";
import type { HostModel, PreservedPages } from "../../src/machine/model.ts";
import { type PoolOptions, WorkerPool } from "../../src/parallel/pool.ts";
import { openCheck, restoreAll, root, saveModel } from "../support/core.ts";

export const sharedModule = new WebAssembly.Module(readFileSync(join(root, "dist/core.shared.wasm")));
const workers = join(root, "test/parallel/workers");
export const builtWorker = pathToFileURL(join(root, "dist/parallel/worker.js"));

const scratch = mkdtempSync(join(tmpdir(), "xlu-workers-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
let programs = 0;

/** The worker that does what `query` asks for; see workers/tampered.mjs. A thread's own program loses its query. */
export function tampered(query: string): URL {
	const path = join(scratch, `worker-${programs++}.mjs`);
	writeFileSync(path, `import "${new URL(`?${query}`, pathToFileURL(join(workers, "tampered.mjs")))}";\n`);
	return pathToFileURL(path);
}

export interface Restorable {
	stream: Uint8Array<ArrayBuffer>;
	memory: Uint8Array<ArrayBuffer>;
	domids: number[];
	/** The image that one thread restores, and its digest. */
	image: Uint8Array<ArrayBuffer>;
	digest: bigint;
}

/** A stream and its memory, restored on one thread. */
export function onOneThread(stream: Uint8Array<ArrayBuffer>, memory: Uint8Array<ArrayBuffer>): Restorable {
	const checked = openCheck(stream, memory);
	const target = restoreAll(checked);
	const { core, context } = checked;
	const digest = core.createContext().digest(target);
	return { stream, memory, domids: context.domids(), image: core.bytes(target).slice(), digest };
}

export function restorable(host: { model: HostModel; preserved: PreservedPages }): Restorable {
	const { stream, memory } = saveModel(host.model, host.preserved);
	return onOneThread(stream, memory);
}

const known = new Map<string, Restorable>();

/** A captured or a synthetic host. */
export function restorableHost(name: string): Restorable {
	const path = name.startsWith("synthetic:") ? name : join(root, "test/fixtures/xen-4.17", name);
	const found = known.get(name) ?? restorable(loadHost(path));
	known.set(name, found);
	return found;
}

export async function startPool(size: number, options: PoolOptions = {}): Promise<WorkerPool> {
	const pool = await WorkerPool.load(size, { module: sharedModule, script: builtWorker, ...options });
	try {
		await pool.start();
	} catch (error) {
		await pool.close();
		throw error;
	}
	return pool;
}

/** Opened and checked in a pool's core, with a target full of what must not stay. */
export function openIn(pool: WorkerPool, { stream, memory }: Restorable): { context: Context; target: Window } {
	const { core } = pool;
	core.reset();
	const window = core.place(stream);
	const context = core.createContext();
	context.open(window);
	const { imageBytes, workBytes } = context.plan(window);
	context.check(window, core.allocate(workBytes), core.place(memory));
	const target = core.allocate(imageBytes);
	core.bytes(target).fill(0xa5);
	context.target(target);
	return { context, target };
}

/** What a pool restores: digest and octets. */
export async function onWorkers(pool: WorkerPool, host: Restorable): Promise<{ digest: bigint; image: Uint8Array }> {
	const { context, target } = openIn(pool, host);
	await pool.restore(context, host.domids);
	return { digest: pool.core.createContext().digest(target), image: pool.core.bytes(target).slice() };
}
