/**
 * The core's calls in the order that they ask for: image to stream, stream to a checked context, the three passes. What an
 * update, an audit and the library have in common; each sets its own clocks and stages around them.
 */
import { performance } from "node:perf_hooks";
import type { Context, Core, OpenOptions, Window } from "./core/load.ts";
import { DOMID } from "./format/enums.ts";
import type { Host } from "./host.ts";
import { buildImage } from "./machine/image.ts";
import type { PreservedPages } from "./machine/model.ts";
import { packPreserved } from "./machine/preserved.ts";

/** Milliseconds to the microsecond: the clock has no more to say. */
export function microseconds(ms: number): number {
	return Math.round(ms * 1000) / 1000;
}

/** A host's image, its stream and its preserved memory, in windows of one core. */
export interface SavedHost {
	image: Window;
	stream: Window;
	memory: Window;
}

/**
 * Saves a host: image, stream, and the preserved memory that goes with the stream.
 * @param format version of the stream's format, 0 for the newest
 */
export function saveHost(core: Core, host: Host, format = 0): SavedHost {
	const image = core.place(buildImage(host.model, host.preserved, host.references));
	const context = core.createContext();
	context.saveAs(format);
	const stream = context.save(image, core.allocate(context.planSave(image)));
	return { image, stream, memory: placeMemory(core, host.preserved, stream) };
}

/** The preserved memory that goes with a stream, packed, in a window of its own. */
export function placeMemory(core: Core, preserved: PreservedPages, stream: Window): Window {
	return core.place(
		packPreserved(preserved, core.hash(stream), (octets) => {
			const scratch = core.place(octets);
			return core.hash(scratch);
		}),
	);
}

/** Opens and checks a stream; `memory` where there is one. Returns the context, ready for a restore. */
export function openAndCheck(core: Core, stream: Window, memory: Window | undefined, options: OpenOptions = {}) {
	const context = core.createContext();
	context.open(stream, options);
	const sizes = context.plan(stream);
	context.check(stream, core.allocate(sizes.workBytes), memory);
	return { context, ...sizes };
}

/** The three passes over all domains. `timed` wraps each pass, `perDomain` hears what each domain took. */
export function restorePasses(
	context: Context,
	domids: readonly number[],
	timed: (pass: 0 | 1 | 2, run: () => void) => void = (_pass, run) => run(),
	perDomain: (pass: 0 | 1 | 2, domid: number, ms: number) => void = () => {},
): void {
	for (const pass of [0, 1, 2] as const) {
		timed(pass, () => {
			if (pass < 2) context.restore(pass, DOMID.XEN);
			for (const domid of domids) {
				const start = performance.now();
				context.restore(pass, domid);
				perDomain(pass, domid, microseconds(performance.now() - start));
			}
		});
	}
	context.finish();
}
