/**
 * Choosing the frames of a hand-over: the stream's may lie anywhere outside bootmem, in any order; the MFN array that
 * lists them is physically contiguous (H1).
 */
import { XluError } from "../errors.ts";
import { Random } from "../random.ts";
import {
	endOf,
	FRAME_BYTES,
	type FrameRangeRow,
	type FrameRun,
	mergeRuns,
	type RegionRow,
	runOf,
	subtractRuns,
} from "./regions.ts";

/** Entries of the MFN array in one of its frames. */
export const MFNS_PER_FRAME = FRAME_BYTES / 8;

/** Where everything of a hand-over will stand. */
export interface HandOverPlan {
	/** The breadcrumb is in its first frame (H2). */
	readonly bootmem: FrameRun;
	/** The MFN array's frames, contiguous. */
	readonly array: FrameRun;
	/** The stream's frames in stream order, which is no order of MFNs. */
	readonly frames: readonly number[];
}

/**
 * Frames that a hand-over may take: those that nobody owns, outside all regions and all that is kept in place.
 *
 * Bootmem is xen#2's, and xen#1's image is where xen#2 will stand (H4). A re-usable region is excluded too: xen#2 may
 * use it while it still reads the stream (H3). Frame 0 never is a free one, as in Xen.
 *
 * @param frameOwners One entry per MFN, see FRAME; only zero is a free frame (a broken one has no owner either).
 * @param regions LU_REGIONS: bootmem, xen#1's image, re-usable.
 * @param keptRanges Frames kept in place that have no owner: P2M and IOMMU page tables, of every domain (S3).
 * @param m2pRanges Frames of the M2P.
 * @returns Ascending, disjoint runs.
 */
export function freeFrames(
	frameOwners: BigUint64Array,
	regions: Iterable<RegionRow>,
	keptRanges: Iterable<FrameRangeRow>,
	m2pRanges: Iterable<FrameRangeRow>,
): FrameRun[] {
	// Halves of an entry, since reading a BigInt per frame of the host would take blackout time.
	const halves = new Uint32Array(frameOwners.buffer, frameOwners.byteOffset, frameOwners.length * 2);
	const free: FrameRun[] = [];
	let firstMfn = -1;
	for (let mfn = 1; mfn <= frameOwners.length; mfn++) {
		const isFree = mfn < frameOwners.length && (halves[2 * mfn]! | halves[2 * mfn + 1]!) === 0;
		if (isFree && firstMfn < 0) {
			firstMfn = mfn;
		} else if (!isFree && firstMfn >= 0) {
			free.push({ firstMfn, frameCount: mfn - firstMfn });
			firstMfn = -1;
		}
	}
	return subtractRuns(free, [...regions, ...keptRanges, ...m2pRanges].map(runOf));
}

export function countFrames(runs: Iterable<FrameRun>): number {
	let count = 0;
	for (const run of runs) {
		count += run.frameCount;
	}
	return count;
}

/** Frames that a stream of so many octets takes. */
export function streamFrames(streamBytes: number): number {
	return Math.ceil(streamBytes / FRAME_BYTES);
}

/** Frames of the MFN array that lists so many stream frames. */
export function arrayFrames(frameCount: number): number {
	return Math.ceil(frameCount / MFNS_PER_FRAME);
}

/**
 * `count` distinct frames from all over the free ones, in a pseudo-random order that is never ascending (H1: whoever
 * relies on an order shall fail here and not on a host). The same seed and free frames give the same row again.
 *
 * @param free Ascending, disjoint runs, as freeFrames gives them.
 * @param seed Any integer.
 * @throws XluError XLU_E_HANDOVER if there are too few.
 */
export function scatter(count: number, free: readonly FrameRun[], seed: number): number[] {
	const freeCount = countFrames(free);
	if (count > freeCount) {
		throw tooFew("the stream", `${count} free frames`, String(freeCount));
	}
	const at = frameAt(free);
	const random = new Random(seed);
	// Fisher-Yates over indices; only the places that were swapped are held, not the whole host's free frames.
	const moved = new Map<number, number>();
	const frames: number[] = [];
	for (let i = 0; i < count; i++) {
		const pick = i + random.below(freeCount - i);
		frames.push(at(moved.get(pick) ?? pick));
		moved.set(pick, moved.get(i) ?? i);
	}
	if (count > 1 && frames.every((mfn, i) => i === 0 || mfn > frames[i - 1]!)) {
		frames.reverse();
	}
	return frames;
}

/**
 * The first `count` free frames in a row, for the MFN array.
 *
 * @throws XluError XLU_E_HANDOVER if no run of free frames is that long.
 */
export function contiguous(count: number, free: readonly FrameRun[]): FrameRun {
	const runs = mergeRuns(free);
	const found = runs.find((run) => run.frameCount >= count);
	if (found === undefined) {
		const longest = runs.reduce((most, run) => Math.max(most, run.frameCount), 0);
		throw tooFew(
			"the MFN array",
			`${count} contiguous free frames`,
			`at most ${longest} in a row, ${countFrames(runs)} in all`,
		);
	}
	return { firstMfn: found.firstMfn, frameCount: count };
}

/**
 * Chooses all frames of a hand-over: the MFN array's first, as a run is harder to find, then the stream's among the rest.
 *
 * @param streamBytes The stream's length in octets.
 * @throws XluError XLU_E_HANDOVER if the free frames do not suffice, or the stream is empty.
 */
export function planHandOver(
	streamBytes: number,
	free: readonly FrameRun[],
	bootmem: FrameRun,
	seed: number,
): HandOverPlan {
	if (!(streamBytes > 0)) {
		throw tooFew("the stream", "at least one octet", String(streamBytes));
	}
	const frameCount = streamFrames(streamBytes);
	const array = contiguous(arrayFrames(frameCount), free);
	return { bootmem, array, frames: scatter(frameCount, subtractRuns(mergeRuns(free), [array]), seed) };
}

function tooFew(what: string, expected: string, got: string): XluError {
	return new XluError("XLU_E_HANDOVER", `frames of ${what}: needed ${expected}, there are ${got} (H1)`, {
		record: what === "the stream" ? "stream" : "MFN array",
		expected,
		got,
	});
}

/** The nth free frame. */
function frameAt(runs: readonly FrameRun[]): (index: number) => number {
	/** How many free frames stand before and in each run. */
	const ends: number[] = [];
	let total = 0;
	for (const run of runs) {
		total += run.frameCount;
		ends.push(total);
	}
	return (index) => {
		let low = 0;
		let high = ends.length - 1;
		while (low < high) {
			const middle = (low + high) >>> 1;
			if (ends[middle]! <= index) {
				low = middle + 1;
			} else {
				high = middle;
			}
		}
		return endOf(runs[low]!) - (ends[low]! - index);
	};
}
