/**
 * Where counts go. Pass 1h and pass 2 only ever add (docs/FORMAT.md, "References that restore rebuilds"): on one CPU to the
 * image itself, on a worker's context (workers.ts) to a window of its own, so that two threads never meet at a count:
 *
 *     | FrameCount x frames | DomainCounts x domains | an octet per granule of frames: whether it has been touched |
 *
 * A granule is cleared when it is first touched: a worker that adds to few frames neither writes nor is merged for the rest.
 */
import { context } from "./context";
import { domainDirectory, domainEntry, hostDirectory, tableAt } from "./image";
import * as L from "./layout.gen";

/** Frames of a granule: a page of counts. */
export const FRAMES_PER_GRANULE: u32 = 512;

function granulesOf(frames: u64): u32 {
	return <u32>((frames + FRAMES_PER_GRANULE - 1) / FRAMES_PER_GRANULE);
}

/** Octets of a window of sums. At most 2^28 frames: no overflow. */
export function sumsBytes(domains: u32, frames: u64): u32 {
	return <u32>frames * L.FRAME_COUNT_BYTES + domains * L.DOMAIN_COUNTS_BYTES + ((granulesOf(frames) + 7) & ~7);
}

function domainSumsAt(ctx: usize): usize {
	return <usize>context(ctx).sumsPtr + <usize>context(ctx).frameCount * L.FRAME_COUNT_BYTES;
}

function granulesAt(ctx: usize): usize {
	return domainSumsAt(ctx) + context(ctx).domainCount * L.DOMAIN_COUNTS_BYTES;
}

/** Empties a window of sums, whatever its octets were. */
export function clearSums(ctx: usize): void {
	const frames = domainSumsAt(ctx);
	memory.fill(frames, 0, <usize>context(ctx).sumsPtr + context(ctx).planSumsBytes - frames);
}

function countsAt(image: usize): usize {
	return tableAt(image, hostDirectory(image), L.HT_FRAME_COUNTS);
}

/** A granule's octets of counts; the last one may be short. */
function granuleBytes(ctx: usize, granule: u32): u32 {
	return (
		min<u32>(FRAMES_PER_GRANULE, <u32>context(ctx).frameCount - granule * FRAMES_PER_GRANULE) * L.FRAME_COUNT_BYTES
	);
}

/** Counts of a frame below `frameCount`. */
export function frameSums(ctx: usize, mfn: u32): L.FrameCount {
	const sums = <usize>context(ctx).sumsPtr;
	if (sums == 0) return changetype<L.FrameCount>(countsAt(context(ctx).imagePtr) + mfn * L.FRAME_COUNT_BYTES);
	const granule = mfn / FRAMES_PER_GRANULE;
	const touched = granulesAt(ctx) + granule;
	if (load<u8>(touched) == 0) {
		store<u8>(touched, 1);
		memory.fill(sums + granule * FRAMES_PER_GRANULE * L.FRAME_COUNT_BYTES, 0, granuleBytes(ctx, granule));
	}
	return changetype<L.FrameCount>(sums + mfn * L.FRAME_COUNT_BYTES);
}

/** Counts of the domain that has this slot, in the plans and in the image alike. */
export function domainSums(ctx: usize, slot: u32): L.DomainCounts {
	if (context(ctx).sumsPtr != 0) return changetype<L.DomainCounts>(domainSumsAt(ctx) + slot * L.DOMAIN_COUNTS_BYTES);
	const image = <usize>context(ctx).imagePtr;
	const directory = domainDirectory(domainEntry(image, slot));
	return changetype<L.DomainCounts>(tableAt(image, directory, L.DT_DOMAIN_COUNTS));
}

/** Adds a worker's counts of frames [first, end) to the image; `first` begins a granule. */
export function mergeFrames(worker: usize, first: u32, end: u32): void {
	const counts = countsAt(context(worker).imagePtr);
	const sums = <usize>context(worker).sumsPtr;
	for (let granule = first / FRAMES_PER_GRANULE; granule * FRAMES_PER_GRANULE < end; granule++) {
		if (load<u8>(granulesAt(worker) + granule) == 0) continue;
		const at = granule * FRAMES_PER_GRANULE * L.FRAME_COUNT_BYTES;
		const bytes = granuleBytes(worker, granule);
		for (let p = at; p < at + bytes; p += 4) store<u32>(counts + p, load<u32>(counts + p) + load<u32>(sums + p));
	}
}

/** Adds a worker's counts of domains to those of `ctx`, and empties them. */
export function mergeDomains(ctx: usize, worker: usize): void {
	for (let slot: u32 = 0; slot < context(ctx).domainCount; slot++) {
		const sums = domainSums(ctx, slot);
		const more = domainSums(worker, slot);
		sums.references += more.references;
		sums.frames += more.frames;
		sums.xenheapFrames += more.xenheapFrames;
		sums.extraFrames += more.extraFrames;
		memory.fill(changetype<usize>(more), 0, L.DOMAIN_COUNTS_BYTES);
	}
}
