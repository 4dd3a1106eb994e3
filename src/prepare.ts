/**
 * prepare: what the first save and the first restore would pay for and the next would not, paid in the brown-out, while
 * guests still run. Two things: the engine compiles what it has seen run often (a module's first calls are several times
 * slower), and the machine backs a window's pages when they are first written.
 *
 * Toy hosts, one of each layout, so that every form of the codecs is met, go through all steps several times, in instances
 * of their own; what the engine learns is the module's, and serves every instance and every thread. bench/prepare.mjs
 * measures what is left.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type Context, Core, MOST_BYTES, type Window } from "./core/load.ts";
import { XluError } from "./errors.ts";
import { DOMID } from "./format/enums.ts";
import type { Host } from "./host.ts";
import { buildImage } from "./machine/image.ts";
import { PAGE_BYTES, packPreserved } from "./machine/preserved.ts";
import { layouts, parseSynthetic, syntheticHost } from "./machine/synthetic/index.ts";
import type { WorkerPool } from "./parallel/pool.ts";

/** From the fourth on a round takes no less time: everything that is called has been compiled for good. */
const ROUNDS = 4;
/** The engine compiles in threads of its own; on a busy machine these need a moment. */
const PAUSE_MS = 2;

interface Toy {
	host: Host;
	image: Uint8Array;
	domids: number[];
}

function toys(): Toy[] {
	return layouts.map((layout) => {
		const line = `synthetic:domains=3,memory=8M,vcpus=2,layout=${layout},ports=8,grants=8,seed=1`;
		const host = syntheticHost(parseSynthetic(line));
		const domids = host.model.domains.map(({ domain }) => domain.domid);
		return { host, image: buildImage(host.model, host.preserved), domids };
	});
}

interface Saved {
	image: Window;
	stream: Window;
	memory: Window;
}

function save(core: Core, { host, image }: Toy): Saved {
	core.reset();
	const window = core.place(image);
	const context = core.createContext();
	const stream = context.save(window, core.allocate(context.planSave(window)));
	const memory = packPreserved(host.preserved, core.hash(stream), (octets) => core.hash(core.place(octets)));
	return { image: window, stream, memory: core.place(memory) };
}

/** Opened and checked, with a target, ready for the passes. */
function open(core: Core, stream: Window, memory: Window): { context: Context; target: Window } {
	const context = core.createContext();
	context.open(stream);
	const { imageBytes, workBytes } = context.plan(stream);
	context.check(stream, core.allocate(workBytes), memory);
	const target = core.allocate(imageBytes);
	context.target(target);
	return { context, target };
}

function restore(core: Core, { image, stream, memory }: Saved, domids: readonly number[]): void {
	const { context, target } = open(core, stream, memory);
	for (const pass of [0, 1, 2] as const) {
		if (pass < 2) context.restore(pass, DOMID.XEN);
		for (const domid of domids) context.restore(pass, domid);
	}
	context.finish();
	core.createContext().compare(image, target);
}

/**
 * Warms a module: instances of it that are made later, and those that there are, run at full speed from their first call.
 * @param module the core's module
 * @param pool workers to be warmed as well, started, their core not yet in use
 * @throws XLU_E_WORKER if a worker fails
 */
export async function warmModule(module: WebAssembly.Module, pool?: WorkerPool): Promise<void> {
	const core = new Core(new WebAssembly.Instance(module, {}));
	const all = toys();
	for (let round = 0; round < ROUNDS; round++) {
		for (const toy of all) {
			const saved = save(core, toy);
			restore(core, saved, toy.domids);
			if (pool) {
				pool.core.reset();
				const octets = (window: Window) => pool.core.place(core.bytes(window));
				const { context } = open(pool.core, octets(saved.stream), octets(saved.memory));
				await pool.restore(context, toy.domids);
			}
		}
		await delay(PAUSE_MS);
	}
	pool?.core.reset();
}

/** Octets of small windows: contexts, slack of alignment, pinned grants' counters. */
const SMALL_WINDOWS = 4 * 1024 * 1024;
const BYTES_PER_FRAME = 8;

/**
 * About how many octets of windows either side of an update needs: xen#1 beside its image, xen#2 in all.
 * @param host as it stands in the brown-out; it may still change a little before the pause
 * @param imageBytes of its image
 * @param streamBytes the most that its stream can take
 * @param workers that restore, each but the first with sums of its own
 */
export function windowBytes(host: Host, imageBytes: number, streamBytes: number, workers = 1): number {
	// Preserved memory twice: the window, and the pages one by one, as they are hashed.
	const preserved = 2 * host.preserved.size * (PAGE_BYTES + BYTES_PER_FRAME);
	const perFrame = host.model.frameOwners.length * BYTES_PER_FRAME * workers;
	return imageBytes + streamBytes + preserved + perFrame + SMALL_WINDOWS;
}

/**
 * Refuses before the pause what could not be restored after it: a host so large that its image has no room beside the sums
 * of so many workers.
 * @throws XLU_E_SPACE
 */
export function needRoom(host: Host, imageBytes: number, workers: number): void {
	const least =
		imageBytes + host.preserved.size * PAGE_BYTES + host.model.frameOwners.length * BYTES_PER_FRAME * workers;
	if (least <= MOST_BYTES) return;
	throw new XluError(
		"XLU_E_SPACE",
		`The core's memory cannot hold this host's image and the sums of ${workers} workers.`,
		{
			expected: "at most 4 GiB in all windows",
			got: `at least ${least} octets`,
		},
	);
}
