/**
 * The package's worker, tampered with: what its address asks for happens instead of a task, or before it.
 *
 *     ?delay=SEED                              each task waits, for a time of its own, up to 2 ms
 *     ?how=exit&call=restore&pass=1&item=2     in pass 1 of domain 2: exit, throw, trap, hang or refuse
 *     ?start=throw                             it does not come as far as its first task: throw, exit or hang
 *     ?late=exit                               it says that it is there, and ends
 */
import { parentPort, threadId } from "node:worker_threads";

const asked = new URL(import.meta.url).searchParams;
const clock = new Int32Array(new SharedArrayBuffer(4));
const wait = (ms) => Atomics.wait(clock, 0, 0, ms);

const post = parentPort.postMessage.bind(parentPort);
let isSilent = false;
parentPort.postMessage = (message) => isSilent || post(message);

const ends = {
	exit: () => process.exit(3),
	throw: () => {
		// Outside of the task, so that nothing catches it, and before anybody hears that the task has ended.
		isSilent = true;
		setImmediate(() => {
			throw new Error("thrown in a worker");
		});
		return 0;
	},
	trap: () => {
		throw new WebAssembly.RuntimeError("unreachable");
	},
	hang: () => wait(Number.POSITIVE_INFINITY),
	refuse: () => 1,
};

let random = Number(asked.get("delay") ?? 0) * 7919 + threadId;
function delay() {
	random = (Math.imul(random, 1103515245) + 12345) >>> 0;
	wait((random >>> 16) % 3);
}

function tampered(name, call) {
	return (context, pass, item) => {
		if (asked.has("delay")) delay();
		const isMeant =
			name === asked.get("call") && pass === Number(asked.get("pass")) && item === Number(asked.get("item"));
		return isMeant ? ends[asked.get("how")]() : call(context, pass, item);
	};
}

const { Instance } = WebAssembly;
WebAssembly.Instance = function Tampered(module, imports) {
	const { restore, frames } = new Instance(module, imports).exports;
	return { exports: { restore: tampered("restore", restore), frames: tampered("frames", frames) } };
};

if (asked.has("start")) ends[asked.get("start")]();
await import("../../../dist/parallel/worker.js");
if (asked.get("late") === "exit") setTimeout(() => process.exit(3), 20);
