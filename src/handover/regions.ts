/**
 * Rows of machine frames, and which of them xen#2 may use before it has consumed the stream (H3).
 */

import { XluError } from "../errors.ts";
import { REGION } from "../format/enums.ts";

export const FRAME_BYTES = 4096;

/** Frames [firstMfn, firstMfn + frameCount). */
export interface FrameRun {
	readonly firstMfn: number;
	readonly frameCount: number;
}

/** A row of frames as the schema has it (FrameRange, Region): a HostModel's row, or one read from a stream. */
export interface FrameRangeRow {
	readonly firstMfn?: number | bigint | undefined;
	readonly frameCount?: number | bigint | undefined;
}

/** A row of LU_REGIONS; kind is one of REGION. */
export interface RegionRow extends FrameRangeRow {
	readonly kind?: number | bigint | undefined;
}

export function runOf(row: FrameRangeRow): FrameRun {
	return { firstMfn: Number(row.firstMfn ?? 0), frameCount: Number(row.frameCount ?? 0) };
}

/** The first frame behind the run. */
export function endOf(run: FrameRun): number {
	return run.firstMfn + run.frameCount;
}

export function contains(run: FrameRun, mfn: number): boolean {
	return mfn >= run.firstMfn && mfn < endOf(run);
}

/** The same frames in ascending, disjoint runs that do not touch; empty runs are gone. */
export function mergeRuns(runs: Iterable<FrameRun>): FrameRun[] {
	const merged: FrameRun[] = [];
	const sorted = [...runs].filter((run) => run.frameCount > 0).sort((a, b) => a.firstMfn - b.firstMfn);
	for (const run of sorted) {
		const last = merged.at(-1);
		if (last !== undefined && run.firstMfn <= endOf(last)) {
			const end = Math.max(endOf(last), endOf(run));
			merged[merged.length - 1] = { firstMfn: last.firstMfn, frameCount: end - last.firstMfn };
		} else {
			merged.push(run);
		}
	}
	return merged;
}

/** The frames of `runs` that are not in `cut`; `runs` ascending and disjoint, and so is the result. */
export function subtractRuns(runs: readonly FrameRun[], cut: Iterable<FrameRun>): FrameRun[] {
	const cuts = mergeRuns(cut);
	const left: FrameRun[] = [];
	let next = 0;
	for (const run of runs) {
		let mfn = run.firstMfn;
		while (next < cuts.length && endOf(cuts[next]!) <= mfn) {
			next++;
		}
		// A cut may reach into the next run too, so `next` itself stays until a run begins behind the cut.
		for (let i = next; i < cuts.length && cuts[i]!.firstMfn < endOf(run); i++) {
			if (cuts[i]!.firstMfn > mfn) {
				left.push({ firstMfn: mfn, frameCount: cuts[i]!.firstMfn - mfn });
			}
			mfn = Math.max(mfn, endOf(cuts[i]!));
		}
		if (mfn < endOf(run)) {
			left.push({ firstMfn: mfn, frameCount: endOf(run) - mfn });
		}
	}
	return left;
}

/** Membership in a set of runs, by binary search. */
export function frameSet(runs: Iterable<FrameRun>): (mfn: number) => boolean {
	const sorted = mergeRuns(runs);
	return (mfn) => {
		let low = 0;
		let high = sorted.length;
		while (low < high) {
			const middle = (low + high) >>> 1;
			if (endOf(sorted[middle]!) <= mfn) {
				low = middle + 1;
			} else {
				high = middle;
			}
		}
		return low < sorted.length && mfn >= sorted[low]!.firstMfn;
	};
}

/**
 * The one region of a kind that a host has once: bootmem, or the image of the running Xen.
 *
 * @throws XluError XLU_E_HANDOVER if there is none, or more than one.
 */
export function regionOf(regions: readonly RegionRow[], kind: "bootmem" | "xenImage"): FrameRun {
	const found = regions.filter((region) => Number(region.kind) === REGION[kind]);
	if (found.length !== 1) {
		throw new XluError("XLU_E_HANDOVER", `regions: expected one ${kind}, got ${found.length}`, {
			record: "LU_REGIONS",
			field: "kind",
			expected: `one ${kind}`,
			got: String(found.length),
		});
	}
	return runOf(found[0]!);
}

/**
 * What xen#2 may use until the stream is consumed: bootmem and the re-usable regions that the stream lists (H3), not
 * even xen#1's image, though it is in the same list.
 *
 * @param regions LU_REGIONS as the stream has it.
 * @param bootmem xen#2's own bootmem, where its placement (H4) made it another than xen#1's.
 */
export function allowedUntilConsumed(
	regions: readonly RegionRow[],
	bootmem: FrameRun = regionOf(regions, "bootmem"),
): (mfn: number) => boolean {
	const reusable = regions.filter((region) => Number(region.kind) === REGION.reusable).map(runOf);
	return frameSet([bootmem, ...reusable]);
}

export const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

/** A run of frames as messages print it. */
export function describeRun(run: FrameRun): string {
	return `frames ${hex(run.firstMfn)}-${hex(Math.max(run.firstMfn, endOf(run) - 1))}`;
}
