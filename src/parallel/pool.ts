/**
 * Passes on several CPUs: worker threads over one shared memory, in which xen#2's core and all its windows are.
 *
 *     load ─ start (brown-out) ─┬─ restore: fork a context per worker
 *                               │    phase ─ barrier ─ phase ─ barrier ...   (assembly/workers.ts has the order)
 *                               └─ close
 *
 * The core has no atomics: the barrier is here, a message from every worker. Which worker does which task, and when, is
 * left to chance; what comes out is the same, octet for octet, as on one thread.
 *
 * Unhappy paths: a worker that exits, throws, has its task refused, or does not answer in time ends the restore in
 * XLU_E_WORKER. The pool is then of no more use, finish is never called, and the image is nobody's.
 */
import { readFile } from "node:fs/promises";
import { Worker } from "node:worker_threads";
import { type Context, Core } from "../core/load.ts";
import { XluError } from "../errors.ts";
import { DOMID } from "../format/enums.ts";
import { blockTask, domainTask, isBlock, type Phase, type PhaseEnd, type WorkerStart } from "./tasks.ts";

export const MAX_WORKERS = 64;
/** A phase takes milliseconds; a machine that is swamped may take its time. */
const TIMEOUT_MS = 30_000;
/** All that 32-bit addresses reach; a shared memory has to say so when it is made, and takes it only as it grows. */
const MAXIMUM_PAGES = 65536;

export interface PoolOptions {
	/** The core's build over shared memory, compiled; by default the one that the package ships. */
	module?: WebAssembly.Module;
	/** The worker's program, for bundlers; by default the one that the package ships. */
	script?: URL;
	/** Milliseconds after which a worker that does not answer is given up: in a pass, and while it starts. */
	timeoutMs?: number;
	startTimeoutMs?: number;
}

export interface PassReports {
	/** Wraps each pass. */
	timed?: (pass: 0 | 1 | 2, run: () => Promise<void>) => Promise<void>;
	/** Hears what each domain's own part of a pass took, after the pass. */
	perDomain?: (pass: 0 | 1 | 2, domid: number, ms: number) => void;
}

interface Waiting {
	resolve(ends: PhaseEnd[]): void;
	reject(error: XluError): void;
}

export class WorkerPool {
	/** xen#2's core. Its memory is shared with the workers. */
	readonly core: Core;
	readonly size: number;
	readonly #start: WorkerStart;
	readonly #script: URL;
	readonly #timeoutMs: number;
	readonly #startTimeoutMs: number;
	#workers: Worker[] = [];
	#ends = new Map<number, PhaseEnd>();
	#waiting: Waiting | undefined;
	#failure: XluError | undefined;

	private constructor(size: number, start: WorkerStart, options: PoolOptions) {
		this.size = size;
		this.#start = start;
		this.#script = options.script ?? new URL("./worker.js", import.meta.url);
		this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
		this.#startTimeoutMs = options.startTimeoutMs ?? TIMEOUT_MS;
		this.core = new Core(new WebAssembly.Instance(start.module, { env: { memory: start.memory } }));
	}

	/**
	 * Loads the core over a shared memory. No thread runs before `start`.
	 * @param size workers, 1 to 64
	 * @throws XLU_E_USAGE for another number, XLU_E_SPACE if the address space has no room for the memory
	 */
	static async load(size: number, options: PoolOptions = {}): Promise<WorkerPool> {
		if (!Number.isInteger(size) || size < 1 || size > MAX_WORKERS) {
			throw new XluError("XLU_E_USAGE", `A pool of ${size} workers cannot be made.`, {
				expected: `1 to ${MAX_WORKERS} workers`,
				got: `${size}`,
			});
		}
		const url = new URL("../core.shared.wasm", import.meta.url);
		const module = options.module ?? (await WebAssembly.compile(await readFile(url)));
		return new WorkerPool(size, { module, memory: sharedMemory() }, options);
	}

	/**
	 * Starts the threads and waits until each has its instance: in the brown-out, so that the pause pays for none of it.
	 * @throws XLU_E_WORKER if one cannot be started
	 */
	async start(): Promise<void> {
		const ready = this.#everyWorker("start", this.#startTimeoutMs);
		try {
			for (let i = 0; i < this.size; i++) this.#workers.push(this.#spawn(i));
		} catch (cause) {
			this.#fail(this.#workers.length, `cannot be started: ${cause instanceof Error ? cause.message : cause}`, cause);
		}
		await ready;
	}

	#spawn(i: number): Worker {
		const worker = new Worker(this.#script, { workerData: this.#start, name: `xlu restore ${i}` });
		worker.on("message", (end: PhaseEnd) => this.#hear(i, end));
		worker.on("error", (cause) => this.#fail(i, `threw: ${cause instanceof Error ? cause.message : cause}`, cause));
		worker.on("messageerror", (cause) => this.#fail(i, "sent what cannot be read", cause));
		worker.on("exit", (code) => this.#fail(i, `exited with ${code}`));
		return worker;
	}

	/**
	 * The three passes over all domains, and finish.
	 * @param context checked, with its target, in this pool's core
	 * @param domids of all its domains
	 * @throws XLU_E_WORKER if a worker fails: the image is not restored, and the pool can do nothing more
	 */
	async restore(context: Context, domids: readonly number[], reports: PassReports = {}): Promise<void> {
		const { timed = (_pass, run) => run(), perDomain } = reports;
		let contexts: Context[] = [];
		const blocks = Array.from({ length: context.figure("blockCount") }, (_, block) => blockTask(block));
		let domains: number[][] = [];
		const phase = async (pass: 0 | 1 | 2, tasks: readonly number[]) => {
			const times = await this.#phase(contexts, pass, tasks);
			tasks.forEach((task, i) => {
				if (!isBlock(task)) perDomain?.(pass, task, times[i] as number);
			});
		};
		await timed(0, async () => {
			contexts = this.#contexts(context);
			context.restore(0, DOMID.XEN);
			domains = context.bySize(domids).map((pass) => pass.map(domainTask));
			await phase(0, [...(domains[0] as number[]), ...blocks]);
		});
		await timed(1, async () => {
			await phase(1, blocks);
			context.restore(1, DOMID.XEN);
			await phase(1, domains[1] as number[]);
		});
		await timed(2, async () => {
			await phase(2, domains[2] as number[]);
			await phase(2, blocks);
		});
		context.finish();
	}

	/**
	 * Whether all workers are there still: to be asked before the pause, since one that has died will not come back.
	 * @throws XLU_E_WORKER
	 */
	needAll(): void {
		if (this.#failure) throw this.#failure;
	}

	/** Ends one thread, as a fault would: whoever waits for it hears of it. */
	async kill(worker: number): Promise<void> {
		await this.#workers[worker]?.terminate();
	}

	/** Ends all threads, whatever they are doing. */
	async close(): Promise<void> {
		// Listeners stay: an error that a worker throws while it ends would else be the process's.
		await Promise.all(this.#workers.map((worker) => worker.terminate()));
	}

	/** A context for each worker: the first has the one that was checked, which adds to the image itself. */
	#contexts(context: Context): Context[] {
		const sums = context.figure("planSumsBytes");
		const forks = Array.from({ length: Math.max(1, this.size - 1) }, () => this.core.createContext());
		// All windows first: the memory may grow, and no thread runs.
		const windows = forks.map(() => this.core.allocate(sums));
		for (const [i, fork] of forks.entries()) context.fork(fork, windows[i] as (typeof windows)[number]);
		return [context, ...forks];
	}

	/** Tasks between two barriers. Returns what each took, milliseconds. */
	async #phase(contexts: readonly Context[], pass: number, tasks: readonly number[]): Promise<Float64Array> {
		const shared = {
			pass,
			tasks: new Int32Array(new SharedArrayBuffer(4 * tasks.length)),
			times: new Float64Array(new SharedArrayBuffer(8 * tasks.length)),
			next: new Int32Array(new SharedArrayBuffer(4)),
		};
		shared.tasks.set(tasks);
		const ended = this.#everyWorker(`pass ${pass}`, this.#timeoutMs);
		this.#workers.forEach((worker, i) => {
			const phase: Phase = { ...shared, context: (contexts[i] as Context).pointer };
			worker.postMessage(phase);
		});
		const ends = await ended;
		const failed = ends.findIndex((end) => end.failed !== undefined);
		if (failed >= 0) throw this.#taskError(failed, ends[failed] as PhaseEnd, contexts[failed] as Context, shared);
		return shared.times;
	}

	#taskError(worker: number, end: PhaseEnd, context: Context, phase: { pass: number; tasks: Int32Array }): XluError {
		const task = phase.tasks[end.failed as number] as number;
		const what = isBlock(task) ? `block ${~task} of frames` : `domain ${task}`;
		const fault = context.fault();
		const detail = end.message ?? `refused by ${fault.ruleId}: expected ${fault.expected}, got ${fault.got}`;
		return this.#broken(worker, `failed in pass ${phase.pass} of ${what}: ${detail}`, {
			...(end.message === undefined ? { rule: fault.ruleId } : {}),
			...(isBlock(task) ? {} : { domid: task }),
		});
	}

	/** The barrier: resolves when every worker has said that it is done, rejects when one fails or is not heard of in time. */
	#everyWorker(what: string, timeoutMs: number): Promise<PhaseEnd[]> {
		this.#ends.clear();
		return new Promise<PhaseEnd[]>((resolve, reject) => {
			if (this.#failure) {
				reject(this.#failure);
				return;
			}
			const timer = setTimeout(() => {
				const silent = Array.from({ length: this.size }, (_, i) => i).find((i) => !this.#ends.has(i)) ?? 0;
				this.#fail(silent, `did not answer within ${timeoutMs} ms (${what})`);
			}, timeoutMs);
			this.#waiting = {
				resolve: (ends) => {
					clearTimeout(timer);
					resolve(ends);
				},
				reject: (error) => {
					clearTimeout(timer);
					reject(error);
				},
			};
		});
	}

	#hear(worker: number, end: PhaseEnd): void {
		this.#ends.set(worker, end);
		if (this.#ends.size < this.size) return;
		const waiting = this.#waiting;
		this.#waiting = undefined;
		waiting?.resolve(Array.from({ length: this.size }, (_, i) => this.#ends.get(i) as PhaseEnd));
	}

	#fail(worker: number, what: string, cause?: unknown): void {
		const error = this.#broken(worker, what, { cause });
		this.#waiting?.reject(error);
		this.#waiting = undefined;
	}

	/** The first failure is the one that counts: others follow from it. */
	#broken(worker: number, what: string, detail: { rule?: string; domid?: number; cause?: unknown }): XluError {
		this.#failure ??= new XluError("XLU_E_WORKER", `Worker ${worker} of ${this.size} ${what}. Nothing is restored.`, {
			expected: "every worker through every pass",
			got: `worker ${worker} ${what}`,
			...detail,
		});
		return this.#failure;
	}
}

function sharedMemory(): WebAssembly.Memory {
	try {
		return new WebAssembly.Memory({ initial: 1, maximum: MAXIMUM_PAGES, shared: true });
	} catch (cause) {
		throw new XluError("XLU_E_SPACE", "There is no room for the core's shared memory.", {
			expected: "4 GiB of address space",
			got: cause instanceof Error ? cause.message : String(cause),
			cause,
		});
	}
}
