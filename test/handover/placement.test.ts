import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { gatherStream, readBreadcrumb, writeHandOver } from "../../src/handover/breadcrumb.ts";
import { MIN_BOOTMEM_FRAMES, placeXen2, XEN_ALIGNMENT_FRAMES } from "../../src/handover/placement.ts";
import { endOf } from "../../src/handover/regions.ts";
import { machine, bootmem as machineBootmem, xenImage as machineImage, octets, refusalOf } from "./helpers.ts";

const MIB = 1024 * 1024;
const FRAMES_PER_MIB = 256;
/** 64 MiB of bootmem at 16 MiB, then 8 MiB of xen#1's image up to 88 MiB. */
const bootmem = { firstMfn: 16 * FRAMES_PER_MIB, frameCount: 64 * FRAMES_PER_MIB };
const xenImage = { firstMfn: 80 * FRAMES_PER_MIB, frameCount: 8 * FRAMES_PER_MIB };
const place = (xen2Bytes: number) => placeXen2({ bootmem, xenImage, xen2Bytes });

describe("H4: xen#2 is placed at the top of [bootmem + xen#1's image]", () => {
	it.each([
		["exactly as large", 8 * MIB, 80],
		["one octet larger", 8 * MIB + 1, 78],
		["larger", 20 * MIB, 68],
		["one octet smaller than a 2 MiB step", 6 * MIB - 1, 82],
		["smaller", 3 * MIB, 84],
		["one octet", 1, 86],
		["as large as fits with the least bootmem", 70 * MIB, 18],
	])("%s", (_, xen2Bytes, startMib) => {
		expect(place(xen2Bytes)).toEqual({
			xenImage: { firstMfn: startMib * FRAMES_PER_MIB, frameCount: (88 - startMib) * FRAMES_PER_MIB },
			bootmem: { firstMfn: bootmem.firstMfn, frameCount: (startMib - 16) * FRAMES_PER_MIB },
			startAddress: startMib * MIB,
		});
	});

	it("whatever the sizes: aligned, at the top, together what both were, and no place for one more step up", () => {
		const frames = fc.integer({ min: 1, max: 40_000 });
		fc.assert(
			fc.property(frames, frames, frames, fc.integer({ min: 1, max: 200 * MIB }), (first, low, high, xen2Bytes) => {
				const rows = {
					bootmem: { firstMfn: first, frameCount: low },
					xenImage: { firstMfn: first + low, frameCount: high },
				};
				const end = first + low + high;
				const start = Math.floor((end - Math.ceil(xen2Bytes / 4096)) / XEN_ALIGNMENT_FRAMES) * XEN_ALIGNMENT_FRAMES;
				if (start - first < MIN_BOOTMEM_FRAMES) {
					refusalOf(() => placeXen2({ ...rows, xen2Bytes }));
					return;
				}
				const placed = placeXen2({ ...rows, xen2Bytes });
				expect(placed.startAddress % (2 * MIB)).toBe(0);
				expect(placed.startAddress + xen2Bytes).toBeLessThanOrEqual(end * 4096);
				expect(placed.startAddress + 2 * MIB + xen2Bytes).toBeGreaterThan(end * 4096);
				expect(placed.bootmem.firstMfn).toBe(first);
				expect(endOf(placed.bootmem)).toBe(placed.xenImage.firstMfn);
				expect(endOf(placed.xenImage)).toBe(end);
			}),
		);
	});

	it("too large is refused with both sizes", () => {
		expect(refusalOf(() => place(72 * MIB + 1)).message).toBe(
			"placement at machine address 0x1000000: xen#2 does not fit: expected an image that fits, 2 MiB aligned, " +
				"into the 75497472 octets of bootmem and xen#1's image, got 75497473 octets (H4)",
		);
	});

	it("what leaves too little bootmem, and the breadcrumb's frame least of all, is refused", () => {
		expect(refusalOf(() => place(70 * MIB + 1)).message).toBe(
			"placement at machine address 0x1000000: too little bootmem would be left: " +
				"expected at least 512 frames of bootmem below xen#2 (73400321 octets), got 0 (H4)",
		);
		const odd = { firstMfn: bootmem.firstMfn + 1, frameCount: bootmem.frameCount - 1 };
		expect(refusalOf(() => placeXen2({ bootmem: odd, xenImage, xen2Bytes: 70 * MIB })).got).toBe("511");
	});

	it("rows that are not adjacent, the image above, are refused", () => {
		const gap = { ...xenImage, firstMfn: xenImage.firstMfn + 1 };
		expect(refusalOf(() => placeXen2({ bootmem, xenImage: gap, xen2Bytes: MIB })).message).toBe(
			"placement at machine address 0x1000000: bootmem and xen#1's image are not adjacent: expected xen#1's image " +
				"to follow bootmem at frame 0x5000, got bootmem frames 0x1000-0x4fff, image frames 0x5001-0x5800 (H4)",
		);
		for (const wrong of [
			{ bootmem: xenImage, xenImage: bootmem },
			{ bootmem, xenImage: { ...xenImage, firstMfn: xenImage.firstMfn - 1 } },
			{ bootmem, xenImage: { ...xenImage, frameCount: 0 } },
			{ bootmem: { firstMfn: xenImage.firstMfn, frameCount: 0 }, xenImage },
		]) {
			expect(refusalOf(() => placeXen2({ ...wrong, xen2Bytes: MIB })).message).toContain("not adjacent");
		}
	});

	it.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])("a size of %d octets is refused", (xen2Bytes) => {
		expect(refusalOf(() => place(xen2Bytes)).message).toContain("xen#2's size: expected a positive number of octets");
	});

	it("takes rows of the schema, 64-bit words and all", () => {
		const rows = {
			bootmem: { firstMfn: 0x1000n, frameCount: 0x4000n },
			xenImage: { firstMfn: 0x5000n, frameCount: 0x800n },
		};
		expect(placeXen2({ ...rows, xen2Bytes: 8 * MIB })).toEqual(place(8 * MIB));
	});

	it("a rollback to a Xen of the old size gives the old rows again", () => {
		const newer = place(20 * MIB);
		expect(placeXen2({ ...newer, xen2Bytes: 8 * MIB })).toMatchObject({ bootmem, xenImage });
	});

	it("loading xen#2 leaves breadcrumb, array and stream alone", () => {
		const { memory, plan } = machine(40 * 4096);
		const stream = octets(40 * 4096, 3);
		const placement = placeXen2({ bootmem: machineBootmem, xenImage: machineImage, xen2Bytes: 2 * MIB });
		writeHandOver(memory, stream, plan, placement);
		const { firstMfn, frameCount } = placement.xenImage;
		for (let mfn = firstMfn; mfn < firstMfn + frameCount; mfn++) {
			memory.writeFrame(mfn, new Uint8Array(4096).fill(0x90));
		}
		const got = gatherStream(memory, readBreadcrumb(memory, placement.bootmem), placement);
		expect(Buffer.compare(got, stream)).toBe(0);
	});
});
