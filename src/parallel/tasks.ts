/**
 * What a pass on several CPUs is cut into, and how it is handed out: one list per phase in shared memory, the largest first,
 * from which each worker takes the next until none is left. Between phases is a barrier.
 */

/** What one message to a worker starts: tasks between two barriers, all of one pass. */
export interface Phase {
	pass: number;
	/** Task words, below. */
	tasks: Int32Array;
	/** Milliseconds that each task took, by its place in `tasks`. */
	times: Float64Array;
	/** One word: the next task that nobody has taken. */
	next: Int32Array;
	/** Address of the worker's context block. */
	context: number;
}

/** What a worker says at the end of a phase: nothing more, or which task it could not do. */
export interface PhaseEnd {
	/** Place in `tasks` of a task that was refused or trapped. */
	failed?: number;
	/** What a trap said; absent for a refusal, which the worker's fault record explains. */
	message?: string;
}

/** What a worker starts from. */
export interface WorkerStart {
	module: WebAssembly.Module;
	memory: WebAssembly.Memory;
}

/** A task is one domain, by domid, or one block of frames: its complement, below zero. */
export const domainTask = (domid: number): number => domid;
export const blockTask = (block: number): number => ~block;
export const isBlock = (task: number): boolean => task < 0;
export const blockOf = (task: number): number => ~task;
