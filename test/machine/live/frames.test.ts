/** The frame table: who gets which frame, how long a frame lives, and when its type ends. */
import { describe, expect, test } from "vitest";
import { FRAME, PAGE_TYPE } from "../../../src/format/enums.ts";
import { Refused } from "../../../src/machine/live/errno.ts";
import { FrameTable } from "../../../src/machine/live/frames.ts";

function table(count: number) {
	const released: number[] = [];
	const frames = new FrameTable(new Uint32Array(count), new Uint8Array(count), new Uint32Array(2 * count), (mfn) =>
		released.push(mfn),
	);
	return { frames, released };
}

describe("free frames", () => {
	test("the lowest one comes first, whatever was freed last", () => {
		const { frames } = table(8);
		for (const mfn of [0, 1, 2]) frames.give(mfn, 1);
		expect(frames.findFree()).toBe(3);
		frames.deallocate(2);
		frames.deallocate(0);
		expect(frames.findFree()).toBe(0);
		frames.setReserved(0, true);
		expect(frames.findFree()).toBe(2);
		frames.setReserved(0, false);
		expect(frames.findFree()).toBe(0);
	});

	test("a run stands at a multiple of its length, and has no hole", () => {
		const { frames } = table(32);
		frames.give(1, 1);
		frames.give(11, 1);
		expect([frames.findFree(0), frames.findFree(1), frames.findFree(2), frames.findFree(3)]).toEqual([0, 2, 4, 16]);
		expect(frames.findFree(5)).toBeUndefined();
	});
});

describe("references", () => {
	test("a frame lives until the last one is dropped, allocated or not", () => {
		const { frames, released } = table(4);
		frames.give(1, 7, FRAME.extra);
		expect([frames.ownerOf(1), frames.references(1), frames.has(1, FRAME.extra)]).toEqual([7, 1, true]);
		frames.get(1, 7);
		expect(frames.deallocate(1)).toBe(true);
		expect(frames.deallocate(1)).toBe(false);
		expect([frames.ownerOf(1), frames.references(1), frames.has(1, FRAME.allocated)]).toEqual([7, 1, false]);
		frames.put(1);
		expect(released).toEqual([1]);
		expect([frames.ownerOf(1), frames.isFree(1)]).toEqual([undefined, true]);
	});

	test("none is taken of a free frame, of another's, of none that exists, or beyond 2^31", () => {
		const { frames } = table(4);
		frames.give(1, 7);
		expect([frames.tryGet(0), frames.tryGet(1, 8), frames.tryGet(4), frames.tryGet(-1)]).toEqual([
			false,
			false,
			false,
			false,
		]);
		frames.counts[2] = 2 ** 31 - 1;
		expect(frames.tryGet(1, 7)).toBe(false);
		expect(() => frames.get(1, 7)).toThrow(Refused);
	});

	test("one put too many is a defect of the machine, never a refusal", () => {
		const { frames } = table(4);
		frames.give(1, 7);
		frames.put(1);
		expect(() => frames.put(1)).toThrow("one put too many");
		frames.give(1, 7);
		frames.startType(1, PAGE_TYPE.writable);
		expect(() => frames.put(1)).toThrow("its type is in use");
		frames.dropType(1);
		expect(() => frames.dropType(1)).toThrow("one type put too many");
	});
});

describe("types", () => {
	test("writable is shared, ends with its last reference, and excludes all others", () => {
		const { frames } = table(4);
		frames.give(1, 7);
		frames.getWritable(1, 7);
		frames.getWritable(1);
		expect([frames.references(1), frames.typeReferences(1), frames.typeOf(1)]).toEqual([3, 2, PAGE_TYPE.writable]);
		frames.putWritable(1);
		frames.putWritable(1);
		expect([frames.references(1), frames.typeReferences(1), frames.typeOf(1)]).toEqual([1, 0, PAGE_TYPE.none]);
		frames.startType(1, PAGE_TYPE.l1);
		expect(() => frames.getWritable(1)).toThrow(Refused);
		expect([frames.references(1), frames.typeReferences(1)]).toEqual([1, 1]);
		frames.counts[3] = 2 ** 31 - 1;
		expect(() => frames.addType(1)).toThrow(Refused);
	});
});
