import { describe, expect, it } from "vitest";
import { BREADCRUMB_OFFSET, gatherStream, readBreadcrumb, writeHandOver } from "../../src/handover/breadcrumb.ts";
import { PhysicalMemory } from "../../src/handover/physical.ts";
import { allowedUntilConsumed, contains, frameSet } from "../../src/handover/regions.ts";
import { bootmem, machine, octets, refusalOf, regions, reusable, xenImage } from "./helpers.ts";

describe("physical memory", () => {
	it("reads zeros where nothing was written, and takes no room for it", () => {
		const memory = new PhysicalMemory(2 ** 40);
		expect(memory.readU64(2 ** 52 - 8)).toBe(0n);
		expect(memory.readFrame(7)).toEqual(new Uint8Array(4096));
		expect(memory.populatedFrames).toBe(0);
	});

	it("keeps words little-endian within their frame, and pads a short frame with zeros", () => {
		const memory = new PhysicalMemory(4);
		memory.writeFrame(2, new Uint8Array(4096).fill(0xaa));
		memory.writeU64(0x2ff8, 0x0102030405060708n);
		expect([...memory.readFrame(2).subarray(4087)]).toEqual([0xaa, 8, 7, 6, 5, 4, 3, 2, 1]);
		expect(memory.readU64(0x2ff8)).toBe(0x0102030405060708n);
		memory.writeFrame(2, Uint8Array.of(1));
		expect(memory.readFrame(2)).toEqual(Uint8Array.from({ length: 4096 }, (_, i) => (i === 0 ? 1 : 0)));
	});

	it("hands out and takes copies, never its own pages", () => {
		const page = new Uint8Array(4096).fill(1);
		const memory = new PhysicalMemory(4, [[1, page]]);
		page.fill(2);
		memory.readFrame(1).fill(3);
		expect(memory.readFrame(1)).toEqual(new Uint8Array(4096).fill(1));
	});

	it.each([1, 3, 4])("wipes the frames of a range and no other (%i of 4)", (frameCount) => {
		const pages = [0, 1, 2, 3].map((mfn) => [mfn, Uint8Array.of(mfn + 1)] as const);
		const memory = new PhysicalMemory(5, pages.slice(0, 2));
		for (const [mfn, page] of pages) {
			memory.writeFrame(mfn, page);
		}
		memory.wipe(0, frameCount);
		expect([0, 1, 2, 3].map((mfn) => memory.readFrame(mfn)[0])).toEqual(
			[1, 2, 3, 4].map((value, mfn) => (mfn < frameCount ? 0 : value)),
		);
		expect(memory.populatedFrames).toBe(4 - frameCount);
	});

	it("refuses what is unaligned or beyond its end", () => {
		const memory = new PhysicalMemory(4);
		expect(refusalOf(() => memory.readU64(4)).message).toBe(
			"machine address 0x4 is unaligned: expected a multiple of 8 octets, got 0x4",
		);
		expect(refusalOf(() => memory.writeU64(0x4000, 1n)).message).toBe(
			"frame 0x4 at machine address 0x4000 is beyond the memory: expected a frame below 0x4, got 0x4",
		);
		for (const access of [
			() => memory.readU64(-8),
			() => memory.readU64(Number.NaN),
			() => memory.readFrame(4),
			() => memory.writeFrame(-1, new Uint8Array(1)),
			() => memory.writeFrame(1.5, new Uint8Array(1)),
			() => memory.writeFrame(1, new Uint8Array(4097)),
			() => memory.readFrame(1, new Uint8Array(8)),
			() => memory.wipe(3, 2),
		]) {
			refusalOf(access);
		}
		expect(memory.populatedFrames).toBe(0);
		expect(() => new PhysicalMemory(0)).toThrow("expected 1 to 2^40 frames, got 0");
	});
});

describe("H3: until the stream is consumed", () => {
	it("a restricted view refuses every access outside, and passes every one inside", () => {
		const memory = new PhysicalMemory(8);
		const view = memory.restrict(
			(mfn) => mfn <= 2,
			(mfn) => mfn === 2,
		);
		view.writeU64(0x2008, 5n);
		expect(memory.readU64(0x2008)).toBe(5n);
		expect(view.readU64(0x2008)).toBe(5n);
		expect(view.readFrame(1)).toEqual(new Uint8Array(4096));
		expect(view.frameCount).toBe(8);
		expect(refusalOf(() => view.readU64(0x3008)).message).toBe(
			"read of machine address 0x3008 outside what this view allows (H3): " +
				"expected a frame that may be read, got frame 0x3",
		);
		expect(refusalOf(() => view.writeU64(0x1010, 1n)).message).toContain("write of machine address 0x1010");
		for (const access of [
			() => view.readFrame(3),
			() => view.writeFrame(1, new Uint8Array(1)),
			() => view.writeFrame(3, new Uint8Array(1)),
			() => view.wipe(2, 2),
			() => view.readU64(0x8000),
			() => view.restrict(() => true).readFrame(3),
			() => view.restrict((mfn) => mfn === 1).readFrame(2),
		]) {
			expect(refusalOf(access).message).toContain("(H3)");
		}
		expect(memory.readU64(0x2008)).toBe(5n);
		view.wipe(2, 1);
		expect(memory.populatedFrames).toBe(0);
	});

	it("xen#2 uses bootmem and the re-usable regions, not xen#1's image", () => {
		const allowed = allowedUntilConsumed(regions);
		for (let mfn = 0; mfn < 0x1000; mfn++) {
			expect(allowed(mfn)).toBe(contains(bootmem, mfn) || contains(reusable, mfn));
		}
	});

	it("xen#2's own bootmem counts where its placement made it another one", () => {
		const allowed = allowedUntilConsumed(regions, { firstMfn: 0x200, frameCount: 0x300 });
		expect([0x1ff, 0x200, 0x4ff, 0x500, 0xeff, 0xf00, 0xfff, 0x1000].map(allowed)).toEqual([
			false,
			true,
			true,
			false,
			false,
			true,
			true,
			false,
		]);
	});

	it("regions without bootmem, or with two, are refused", () => {
		expect(refusalOf(() => allowedUntilConsumed(regions.slice(1))).message).toBe(
			"regions: expected one bootmem, got 0",
		);
		refusalOf(() => allowedUntilConsumed([...regions, regions[0]!]));
	});

	it("xen#2 finds the stream though it may read bootmem and the hand-over's frames alone", () => {
		const { memory, plan } = machine(3 * 4096);
		const stream = octets(3 * 4096, 7);
		const handOver = writeHandOver(memory, stream, plan);
		const leadsTo = frameSet([plan.array, ...handOver.frames.map((firstMfn) => ({ firstMfn, frameCount: 1 }))]);
		const used = allowedUntilConsumed(regions);
		const view = memory.restrict((mfn) => used(mfn) || leadsTo(mfn), used);
		const limits = { bootmem, xenImage };
		expect(gatherStream(view, readBreadcrumb(view, bootmem), limits)).toEqual(stream);

		// The view does hold it to that: an array that leads elsewhere is not followed.
		const stray = [...Array(0x1000).keys()].find((mfn) => mfn > 0 && mfn < 0x200 && !leadsTo(mfn))!;
		memory.writeU64(handOver.arrayAddress + 8, BigInt(stray));
		expect(refusalOf(() => gatherStream(view, readBreadcrumb(view, bootmem), limits)).got).toBe(
			`frame 0x${stray.toString(16)}`,
		);
		memory.writeU64(bootmem.firstMfn * 4096 + BREADCRUMB_OFFSET.arrayAddress, BigInt(stray * 4096));
		refusalOf(() => gatherStream(view, readBreadcrumb(view, bootmem), limits));
	});
});
