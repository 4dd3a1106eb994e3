import { expect } from "vitest";
import { XluError } from "../../src/errors.ts";
import { REGION } from "../../src/format/enums.ts";
import { freeFrames, type HandOverPlan, planHandOver } from "../../src/handover/frames.ts";
import { PhysicalMemory } from "../../src/handover/physical.ts";
import type { FrameRun } from "../../src/handover/regions.ts";

/** The XLU_E_HANDOVER that `run` throws; it always says what was expected and what was found. */
export function refusalOf(run: () => unknown): XluError {
	try {
		run();
	} catch (error) {
		if (error instanceof XluError) {
			expect(error.code).toBe("XLU_E_HANDOVER");
			expect(error.expected).toMatch(/./);
			expect(error.got).toMatch(/./);
			expect(error.message).toContain(error.expected);
			expect(error.message).toContain(error.got);
			return error;
		}
		throw error;
	}
	return expect.fail("expected an XluError, nothing was thrown");
}

/** A machine of 16 MiB: 2 MiB bootmem at frame 0x200, xen#1's image above it, a re-usable row at the end. */
export const FRAMES = 0x1000;
export const bootmem: FrameRun = { firstMfn: 0x200, frameCount: 0x200 };
export const xenImage: FrameRun = { firstMfn: 0x400, frameCount: 0x200 };
export const reusable: FrameRun = { firstMfn: 0xf00, frameCount: 0x100 };
export const regions = [
	{ ...bootmem, kind: REGION.bootmem },
	{ ...xenImage, kind: REGION.xenImage },
	{ ...reusable, kind: REGION.reusable },
];

/** Octets that depend on the seed and on their place, so that no two frames are the same. */
export function octets(length: number, seed: number): Uint8Array {
	const bytes = new Uint8Array(length);
	let state = seed | 1;
	for (let i = 0; i < length; i++) {
		state = Math.imul(state, 0x19660d) + 0x3c6ef35f;
		bytes[i] = state >>> 24;
	}
	return bytes;
}

/** The machine's memory with nothing in it, and a plan for a stream of so many octets. */
export function machine(streamBytes: number, seed = 1): { memory: PhysicalMemory; plan: HandOverPlan } {
	const free = freeFrames(new BigUint64Array(FRAMES), regions, [], []);
	return { memory: new PhysicalMemory(FRAMES), plan: planHandOver(streamBytes, free, bootmem, seed) };
}
