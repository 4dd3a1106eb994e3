import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DOMID, FRAME, REGION } from "../../src/format/enums.ts";
import { arrayFrames, contiguous, countFrames, freeFrames, planHandOver, scatter } from "../../src/handover/frames.ts";
import { contains, endOf, type FrameRun, frameSet, subtractRuns } from "../../src/handover/regions.ts";
import { bootmem, FRAMES, refusalOf, regions, reusable, xenImage } from "./helpers.ts";

const listed = (runs: readonly FrameRun[]) =>
	runs.flatMap((run) => Array.from({ length: run.frameCount }, (_, i) => run.firstMfn + i));

const isAscending = (frames: readonly number[]) => frames.every((mfn, i) => i === 0 || mfn > frames[i - 1]!);

describe("H1: free frames", () => {
	it("are those that nobody owns, outside regions, kept frames and the M2P; never frame 0", () => {
		const owners = new BigUint64Array(FRAMES);
		owners[0x10] = BigInt(FRAME.owned | FRAME.allocated); // domain 0
		owners[0x11] = BigInt(FRAME.owned | DOMID.XEN);
		owners[0x12] = BigInt(FRAME.broken); // no owner, but not to be used
		owners[0x13] = 1n << 63n; // whatever is not zero is not free
		const kept = [
			{ firstMfn: 0x20n, frameCount: 3n },
			{ firstMfn: 0x700, frameCount: 1 },
		];
		const m2p = [{ firstMfn: 0x800n, frameCount: 0x80n }];
		const free = freeFrames(owners, regions, kept, m2p);

		const taken = frameSet([bootmem, xenImage, reusable, { firstMfn: 0x800, frameCount: 0x80 }]);
		const others = [0, 0x10, 0x11, 0x12, 0x13, 0x20, 0x21, 0x22, 0x700];
		const expected = listed([{ firstMfn: 0, frameCount: FRAMES }]).filter(
			(mfn) => !taken(mfn) && !others.includes(mfn),
		);
		expect(listed(free)).toEqual(expected);
		expect(countFrames(free)).toBe(expected.length);
		expect(free.every((run, i) => i === 0 || endOf(free[i - 1]!) < run.firstMfn)).toBe(true);
	});

	it("of a table that is a part of a larger buffer, and of a host that is full", () => {
		const owners = new BigUint64Array(new ArrayBuffer(80), 16, 4).fill(1n);
		expect(freeFrames(owners, [], [], [])).toEqual([]);
		owners[3] = 0n;
		expect(freeFrames(owners, [], [], [])).toEqual([{ firstMfn: 3, frameCount: 1 }]);
	});

	it("subtracting runs equals subtracting frame by frame", () => {
		const run = fc.record({ firstMfn: fc.integer({ min: 0, max: 60 }), frameCount: fc.integer({ min: 0, max: 12 }) });
		fc.assert(
			fc.property(fc.uniqueArray(fc.integer({ min: 0, max: 70 })), fc.array(run, { maxLength: 6 }), (mfns, cut) => {
				const owners = new BigUint64Array(71).fill(1n);
				for (const mfn of mfns) {
					owners[mfn] = 0n;
				}
				const free = freeFrames(owners, [], [], []);
				expect(listed(subtractRuns(free, cut))).toEqual(
					listed(free).filter((mfn) => !cut.some((one) => contains(one, mfn))),
				);
			}),
		);
	});
});

describe("H1: the stream's frames", () => {
	const free = freeFrames(new BigUint64Array(FRAMES), regions, [], []);

	it("are distinct free frames in an order that is not ascending", () => {
		const isFree = frameSet(free);
		fc.assert(
			fc.property(fc.integer({ min: 2, max: 1280 }), fc.integer(), (count, seed) => {
				const frames = scatter(count, free, seed);
				expect(frames).toHaveLength(count);
				expect(new Set(frames).size).toBe(count);
				expect(frames.every(isFree)).toBe(true);
				expect(isAscending(frames)).toBe(false);
			}),
		);
	});

	it("lie all over the free memory, hardly ever next to each other", () => {
		const frames = scatter(512, free, 42);
		const neighbours = frames.filter((mfn, i) => i > 0 && Math.abs(mfn - frames[i - 1]!) === 1).length;
		expect(neighbours).toBeLessThan(8);
		const descents = frames.filter((mfn, i) => i > 0 && mfn < frames[i - 1]!).length;
		expect(descents).toBeGreaterThan(200);
		expect(descents).toBeLessThan(312);
		for (const run of free) {
			const inRun = frames.filter((mfn) => contains(run, mfn)).length;
			expect(inRun / 512).toBeCloseTo(run.frameCount / countFrames(free), 1);
		}
	});

	it("are the same for the same seed and others for another one", () => {
		expect(scatter(100, free, 5)).toEqual(scatter(100, free, 5));
		expect(scatter(100, free, 5)).not.toEqual(scatter(100, free, 6));
	});

	it("may be all that is free, and one more is refused with both numbers", () => {
		const few = [
			{ firstMfn: 3, frameCount: 2 },
			{ firstMfn: 9, frameCount: 1 },
		];
		expect(scatter(3, few, 1).toSorted((a, b) => a - b)).toEqual([3, 4, 9]);
		for (let seed = 0; seed < 20; seed++) {
			expect(scatter(2, [{ firstMfn: 3, frameCount: 2 }], seed)).toEqual([4, 3]);
		}
		expect(refusalOf(() => scatter(4, few, 1)).message).toBe(
			"frames of the stream: needed 4 free frames, there are 3 (H1)",
		);
	});
});

describe("H1: the MFN array", () => {
	it("is a row of frames within one run of free ones, or refused with what there is", () => {
		const few = [
			{ firstMfn: 3, frameCount: 2 },
			{ firstMfn: 9, frameCount: 4 },
		];
		expect(contiguous(2, few)).toEqual({ firstMfn: 3, frameCount: 2 });
		expect(contiguous(3, few)).toEqual({ firstMfn: 9, frameCount: 3 });
		expect(refusalOf(() => contiguous(5, few)).message).toBe(
			"frames of the MFN array: needed 5 contiguous free frames, there are at most 4 in a row, 6 in all (H1)",
		);
		expect(refusalOf(() => contiguous(1, [])).got).toBe("at most 0 in a row, 0 in all");
	});

	it.each([
		[1, 1],
		[512, 1],
		[513, 2],
		[1280, 3],
	])("of %i entries takes %i frames", (frames, expected) => {
		expect(arrayFrames(frames)).toBe(expected);
	});

	it("and the stream share no frame in a plan, even when the plan takes all", () => {
		const all = [{ firstMfn: 0x20, frameCount: 515 }];
		const plan = planHandOver(513 * 4096, all, bootmem, 3);
		expect(plan.array).toEqual({ firstMfn: 0x20, frameCount: 2 });
		expect(plan.frames.toSorted((a, b) => a - b)).toEqual(listed([{ firstMfn: 0x22, frameCount: 513 }]));
		expect(refusalOf(() => planHandOver(513 * 4096 + 1, all, bootmem, 3)).message).toContain(
			"needed 514 free frames, there are 513",
		);
		expect(refusalOf(() => planHandOver(0, all, bootmem, 3)).message).toContain("at least one octet");
	});

	it("a re-usable region is no place for it: xen#2 may write there while it reads", () => {
		const owners = new BigUint64Array(0x40).fill(1n).fill(0n, 0x20);
		const region = { firstMfn: 0x20, frameCount: 0x20, kind: REGION.reusable };
		expect(freeFrames(owners, [region], [], [])).toEqual([]);
	});
});
