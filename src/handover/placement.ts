/**
 * Where xen#2 is put (H4), whatever its size:
 *
 *   before   | bootmem                  | xen#1's image        |
 *   larger   | new bootmem     | xen#2's image                 |
 *   smaller  | new bootmem                     | xen#2's image |
 *            ^ breadcrumb      ^ 2 MiB aligned                 ^ the same end
 *
 * Both together keep their place and their size, so that the next live update, a rollback included, starts from the
 * same two adjacent rows of frames.
 */
import { XluError } from "../errors.ts";
import { describeRun, endOf, FRAME_BYTES, type FrameRangeRow, type FrameRun, hex, runOf } from "./regions.ts";

/** Xen maps itself by 2 MiB pages, so its image starts on such a boundary. */
export const XEN_ALIGNMENT_FRAMES = (2 * 1024 * 1024) / FRAME_BYTES;

/**
 * Bootmem that must be left: 2 MiB. Its first frame holds the breadcrumb; before the stream is opened the boot
 * allocator takes the boot CPU's stack and per-CPU area from it, and the page tables that map the MFN array and the
 * scattered stream frames (an L2 table for each GiB that they lie in). It is a floor, not a recommendation: what a
 * large host needs beyond it comes from the re-usable regions (H3).
 */
export const MIN_BOOTMEM_FRAMES = (2 * 1024 * 1024) / FRAME_BYTES;

export interface Xen2Placement {
	/** From the aligned start to the end of what was xen#1's image; the image and at most 2 MiB - 1 behind it. */
	readonly xenImage: FrameRun;
	/** What is left below. Starts where bootmem started, so the breadcrumb stays where it is. */
	readonly bootmem: FrameRun;
	/** Machine address of xen#2's first octet, a multiple of 2 MiB. */
	readonly startAddress: number;
}

/**
 * Places xen#2 at the top of [bootmem + xen#1's image].
 *
 * @param bootmem Live update bootmem, as reserved by xen#1.
 * @param xenImage xen#1's image, adjacent above.
 * @param xen2Bytes Size of xen#2 in memory, BSS included, in octets.
 * @throws XluError XLU_E_HANDOVER if the two are not adjacent in this order, if xen#2 does not fit, or if less than
 *   MIN_BOOTMEM_FRAMES would be left below it. xen#1 is untouched and may resume.
 */
export function placeXen2({
	bootmem: bootmemRow,
	xenImage: imageRow,
	xen2Bytes,
}: {
	bootmem: FrameRangeRow;
	xenImage: FrameRangeRow;
	xen2Bytes: number;
}): Xen2Placement {
	const bootmem = runOf(bootmemRow);
	const xen1Image = runOf(imageRow);
	if (bootmem.frameCount < 1 || xen1Image.frameCount < 1 || endOf(bootmem) !== xen1Image.firstMfn) {
		const expected = `xen#1's image to follow bootmem at frame ${hex(endOf(bootmem))}`;
		const got = `bootmem ${sized(bootmem)}, image ${sized(xen1Image)}`;
		throw refusal("bootmem and xen#1's image are not adjacent", bootmem, expected, got);
	}
	if (!Number.isSafeInteger(xen2Bytes) || xen2Bytes < 1) {
		throw refusal("xen#2's size", bootmem, "a positive number of octets", String(xen2Bytes));
	}

	const end = endOf(xen1Image);
	const highestStart = end - Math.ceil(xen2Bytes / FRAME_BYTES);
	const start = Math.floor(highestStart / XEN_ALIGNMENT_FRAMES) * XEN_ALIGNMENT_FRAMES;
	if (start < bootmem.firstMfn) {
		const room = (end - bootmem.firstMfn) * FRAME_BYTES;
		const expected = `an image that fits, 2 MiB aligned, into the ${room} octets of bootmem and xen#1's image`;
		throw refusal("xen#2 does not fit", bootmem, expected, `${xen2Bytes} octets`);
	}
	const left = start - bootmem.firstMfn;
	if (left < MIN_BOOTMEM_FRAMES) {
		const expected = `at least ${MIN_BOOTMEM_FRAMES} frames of bootmem below xen#2 (${xen2Bytes} octets)`;
		throw refusal("too little bootmem would be left", bootmem, expected, String(left));
	}
	return {
		xenImage: { firstMfn: start, frameCount: end - start },
		bootmem: { firstMfn: bootmem.firstMfn, frameCount: left },
		startAddress: start * FRAME_BYTES,
	};
}

function sized(run: FrameRun): string {
	return run.frameCount < 1 ? "empty" : describeRun(run);
}

function refusal(problem: string, bootmem: FrameRun, expected: string, got: string): XluError {
	const address = hex(bootmem.firstMfn * FRAME_BYTES);
	const message = `placement at machine address ${address}: ${problem}: expected ${expected}, got ${got} (H4)`;
	return new XluError("XLU_E_HANDOVER", message, { record: "placement", expected, got });
}
