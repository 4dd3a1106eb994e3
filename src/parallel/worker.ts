/** A worker thread: an instance of the core over the shared memory, which does the tasks of each phase that it is told of. */
import { performance } from "node:perf_hooks";
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { blockOf, isBlock, type Phase, type PhaseEnd, type WorkerStart } from "./tasks.ts";

interface Exports {
	restore(ctx: number, pass: number, domid: number): number;
	frames(ctx: number, pass: number, block: number): number;
}

const port = parentPort as MessagePort;
const { module, memory } = workerData as WorkerStart;
// Instantiating writes the module's constants once more, the same ones: other threads read them all the while, unharmed.
const core = new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Exports;

function run({ pass, tasks, times, next, context }: Phase): PhaseEnd {
	for (;;) {
		const taken = Atomics.add(next, 0, 1);
		const task = tasks[taken];
		if (task === undefined) return {};
		const start = performance.now();
		try {
			const status = isBlock(task) ? core.frames(context, pass, blockOf(task)) : core.restore(context, pass, task);
			if (status !== 0) return { failed: taken };
		} catch (error) {
			return { failed: taken, message: String(error) };
		}
		times[taken] = performance.now() - start;
	}
}

port.on("message", (phase: Phase) => port.postMessage(run(phase)));
port.postMessage({});
