/**
 * How the stream gets from xen#1 to xen#2 (H1, H2).
 *
 *   bootmem, first frame            MFN array, contiguous        stream frames, anywhere, in any order
 *   +0   0x4c69766555706000         +0   MFN of octets    0..4095      MFN -> 4096 octets
 *   +8   address of MFN array  -->  +8   MFN of octets 4096..8191 -->  MFN -> 4096 octets
 *   +16  stream frames << 12        ...  one u64 per frame             last one zero padded
 *
 * xen#1 writes the stream's frames, the array, and the breadcrumb last, its magic after all else: a hand-over that was
 * torn leaves none to be found. xen#2 reads it, gathers the stream, and clears it, so that no later boot finds a stale
 * one; xen#1 clears it as well when it resumes instead of jumping.
 *
 * Unhappy paths of xen#2, each a refusal at boot (XLU_E_HANDOVER) before an octet of the stream is believed: no
 * breadcrumb or another magic; an array that is unaligned, beyond the memory or in memory that xen#2 itself uses; a
 * count of zero, beyond the limit, or with low bits set; a listed frame that is beyond the memory, in memory that xen#2
 * uses, part of the array, or listed twice. What the frames hold is checked by the stream's own rules.
 */
import { type ErrorDetail, XluError } from "../errors.ts";
import { REGION } from "../format/enums.ts";
import { arrayFrames, type HandOverPlan, MFNS_PER_FRAME, streamFrames } from "./frames.ts";
import type { MachineMemory } from "./physical.ts";
import { contains, describeRun, endOf, FRAME_BYTES, type FrameRun, hex, type RegionRow, runOf } from "./regions.ts";

/** "LiveUp" in ASCII, then 0x6000. */
export const BREADCRUMB_MAGIC = 0x4c69_7665_5570_6000n;
/** The breadcrumb's words, in octets from the start of bootmem. */
export const BREADCRUMB_OFFSET = { magic: 0, arrayAddress: 8, frameCount: 16 } as const;
/** The third word is a number of frames, written as the octets that they hold. */
const FRAME_COUNT_SHIFT = 12n;
const FRAME_COUNT_FRACTION = 0xfffn;
/** The core's linear memory is 4 GiB, and a stream has to fit into it. */
export const MAX_STREAM_FRAMES = 2 ** 32 / FRAME_BYTES;

/** What the breadcrumb says, once it is known to be sane. */
export interface Breadcrumb {
	/** Machine address of the MFN array, a multiple of 4096. */
	readonly arrayAddress: number;
	/** Frames of the stream. */
	readonly frameCount: number;
}

/** Where a hand-over was written. */
export interface HandOver extends HandOverPlan, Breadcrumb {
	/** Machine address of the breadcrumb. */
	readonly breadcrumbAddress: number;
	/** The stream's length before it was padded, in octets. */
	readonly streamBytes: number;
}

/** What xen#2 must not find the stream in, and how much of it it takes. */
export interface GatherLimits {
	/** xen#2's bootmem, which its boot allocator has been using. */
	readonly bootmem: FrameRun;
	/** Where xen#2 stands; a stream frame there would be xen#2's own code. */
	readonly xenImage?: FrameRun | undefined;
	/** Frames of the largest stream that is taken, MAX_STREAM_FRAMES if not given. */
	readonly maxFrames?: number | undefined;
}

// --- xen#1 ---------------------------------------------------------------------------------------------------------

/**
 * Writes the stream into its frames, the MFN array, and the breadcrumb. The plan is held to what xen#2 will demand
 * before anything is written, so that a hand-over which xen#2 would refuse never leads to a jump (X3).
 *
 * @param stream The stream's octets; the last frame is filled with zeros.
 * @param plan See planHandOver.
 * @param xen2 What xen#2 will hold it to: its own bootmem and image as placed (H4), its limit. Without it, xen#1's bootmem.
 * @throws XluError XLU_E_HANDOVER if the plan does not fit the stream, or breaks H1; nothing was written then.
 */
export function writeHandOver(
	memory: MachineMemory,
	stream: Uint8Array,
	plan: HandOverPlan,
	xen2: GatherLimits = { bootmem: plan.bootmem },
): HandOver {
	const frameCount = streamFrames(stream.byteLength);
	const arrayAddress = plan.array.firstMfn * FRAME_BYTES;
	needBootmem(memory, plan.bootmem);
	if (frameCount === 0 || plan.frames.length !== frameCount) {
		const expected = `one frame per 4096 octets of the stream (${frameCount}), at least one`;
		throw refusal("MFN array", arrayAddress, "wrong number of frames", expected, `${plan.frames.length}`, "H1");
	}
	if (plan.array.frameCount < arrayFrames(frameCount)) {
		const expected = `${arrayFrames(frameCount)} frames for ${frameCount} entries`;
		throw refusal("MFN array", arrayAddress, "too short", expected, `${plan.array.frameCount}`, "H1");
	}
	const entries = plan.frames.map(BigInt);
	for (const limits of [{ bootmem: plan.bootmem }, xen2]) {
		needArray(memory, { arrayAddress, frameCount }, limits);
		needFrames(memory, entries, { arrayAddress, frameCount }, limits);
	}

	const breadcrumbAddress = plan.bootmem.firstMfn * FRAME_BYTES;
	memory.writeU64(breadcrumbAddress + BREADCRUMB_OFFSET.magic, 0n);
	for (const [i, mfn] of plan.frames.entries()) {
		memory.writeFrame(mfn, stream.subarray(i * FRAME_BYTES, (i + 1) * FRAME_BYTES));
	}
	writeArray(memory, plan.array.firstMfn, plan.frames);
	memory.writeU64(breadcrumbAddress + BREADCRUMB_OFFSET.arrayAddress, BigInt(arrayAddress));
	memory.writeU64(breadcrumbAddress + BREADCRUMB_OFFSET.frameCount, BigInt(frameCount) << FRAME_COUNT_SHIFT);
	memory.writeU64(breadcrumbAddress + BREADCRUMB_OFFSET.magic, BREADCRUMB_MAGIC);
	return { ...plan, breadcrumbAddress, arrayAddress, frameCount, streamBytes: stream.byteLength };
}

function writeArray(memory: MachineMemory, firstMfn: number, frames: readonly number[]): void {
	for (let first = 0; first < frames.length; first += MFNS_PER_FRAME) {
		const octets = new Uint8Array(FRAME_BYTES);
		const view = new DataView(octets.buffer);
		for (const [i, mfn] of frames.slice(first, first + MFNS_PER_FRAME).entries()) {
			view.setBigUint64(i * 8, BigInt(mfn), true);
		}
		memory.writeFrame(firstMfn + first / MFNS_PER_FRAME, octets);
	}
}

// --- xen#2 ---------------------------------------------------------------------------------------------------------

/**
 * Finds the hand-over.
 *
 * @param bootmem xen#2's bootmem; it begins where xen#1's did (H4).
 * @throws XluError XLU_E_HANDOVER, see the head of this file; nothing but bootmem was read then.
 */
export function readBreadcrumb(memory: MachineMemory, bootmem: FrameRun): Breadcrumb {
	needBootmem(memory, bootmem);
	const start = bootmem.firstMfn * FRAME_BYTES;

	const magicAt = start + BREADCRUMB_OFFSET.magic;
	const magic = memory.readU64(magicAt);
	if (magic !== BREADCRUMB_MAGIC) {
		// Zero is what consumeBreadcrumb leaves, and what bootmem holds when nobody handed anything over.
		const problem = magic === 0n ? "absent, or consumed before" : "wrong magic";
		throw refusal("breadcrumb", magicAt, problem, hex(BREADCRUMB_MAGIC), hex(magic), "H2");
	}

	const countAt = start + BREADCRUMB_OFFSET.frameCount;
	const countWord = memory.readU64(countAt);
	if ((countWord & FRAME_COUNT_FRACTION) !== 0n) {
		const expected = "the number of frames << 12, low 12 bits zero";
		throw refusal("breadcrumb", countAt, "low bits of the frame count", expected, hex(countWord), "H2");
	}
	const count = countWord >> FRAME_COUNT_SHIFT;
	if (count === 0n) {
		throw refusal("breadcrumb", countAt, "no frames", "at least 1 stream frame", "0", "H2");
	}
	if (count > BigInt(memory.frameCount)) {
		const expected = `at most ${memory.frameCount} stream frames, all that the machine has`;
		throw refusal("breadcrumb", countAt, "more frames than the machine", expected, `${count}`, "H2");
	}

	const addressAt = start + BREADCRUMB_OFFSET.arrayAddress;
	const address = memory.readU64(addressAt);
	if (address % BigInt(FRAME_BYTES) !== 0n) {
		const expected = "an MFN array's address that is a multiple of 0x1000";
		throw refusal("breadcrumb", addressAt, "unaligned address", expected, hex(address), "H2");
	}
	if (address >= BigInt(memory.frameCount) * BigInt(FRAME_BYTES)) {
		const expected = `an MFN array below ${hex(memory.frameCount * FRAME_BYTES)}`;
		throw refusal("breadcrumb", addressAt, "address beyond the memory", expected, hex(address), "H2");
	}
	const breadcrumb = { arrayAddress: Number(address), frameCount: Number(count) };
	needArray(memory, breadcrumb, { bootmem });
	return breadcrumb;
}

/**
 * The stream's frames in stream order, each known to be one that can hold a part of it.
 *
 * @throws XluError XLU_E_HANDOVER, see the head of this file; nothing but the MFN array was read then.
 */
export function readFrameList(memory: MachineMemory, breadcrumb: Breadcrumb, limits: GatherLimits): number[] {
	const { frameCount } = breadcrumb;
	needArray(memory, breadcrumb, limits);
	const array = arrayOf(breadcrumb);
	const entries: bigint[] = [];
	const octets = new Uint8Array(FRAME_BYTES);
	const view = new DataView(octets.buffer);
	for (let i = 0; i < frameCount; i++) {
		const inFrame = i % MFNS_PER_FRAME;
		if (inFrame === 0) {
			memory.readFrame(array.firstMfn + i / MFNS_PER_FRAME, octets);
		}
		entries.push(view.getBigUint64(inFrame * 8, true));
	}
	return needFrames(memory, entries, breadcrumb, limits);
}

/**
 * The stream, put together from its frames: a multiple of 4096 octets, zeros after its end.
 *
 * @param breadcrumb From readBreadcrumb.
 * @throws XluError XLU_E_HANDOVER, see the head of this file.
 */
export function gatherStream(memory: MachineMemory, breadcrumb: Breadcrumb, limits: GatherLimits): Uint8Array {
	const frames = readFrameList(memory, breadcrumb, limits);
	const stream = new Uint8Array(frames.length * FRAME_BYTES);
	for (const [i, mfn] of frames.entries()) {
		memory.readFrame(mfn, stream.subarray(i * FRAME_BYTES, (i + 1) * FRAME_BYTES));
	}
	return stream;
}

/**
 * Once LU_REGIONS is read: no frame of the hand-over may lie in a region that xen#2 is about to re-use (H3), or it
 * would overwrite the stream while reading it.
 *
 * @throws XluError XLU_E_HANDOVER for the first one that does.
 */
export function needNotReusable(breadcrumb: Breadcrumb, frames: readonly number[], regions: Iterable<RegionRow>): void {
	const array = arrayOf(breadcrumb);
	for (const region of regions) {
		if (Number(region.kind) !== REGION.reusable) {
			continue;
		}
		const run = runOf(region);
		const expected = `no frame of the hand-over in the re-usable region, ${describeRun(run)}`;
		if (overlap(array, run)) {
			throw refusal("MFN array", breadcrumb.arrayAddress, "in a re-usable region", expected, describeRun(array), "H3");
		}
		const index = frames.findIndex((mfn) => contains(run, mfn));
		if (index >= 0) {
			const got = `frame ${hex(frames[index]!)}`;
			throw refusal("MFN array", entryAddress(breadcrumb, index), "frame in a re-usable region", expected, got, "H3");
		}
	}
}

/**
 * Clears the breadcrumb, magic first. Called exactly once: by xen#2 when the stream is read, or by xen#1 when it
 * resumes because the jump was called off. A boot after that finds none.
 */
export function consumeBreadcrumb(memory: MachineMemory, bootmem: FrameRun): void {
	const start = bootmem.firstMfn * FRAME_BYTES;
	for (const offset of Object.values(BREADCRUMB_OFFSET)) {
		memory.writeU64(start + offset, 0n);
	}
}

// --- what both demand ------------------------------------------------------------------------------------------------

function needBootmem(memory: MachineMemory, bootmem: FrameRun): void {
	if (bootmem.frameCount < 1 || bootmem.firstMfn < 0 || endOf(bootmem) > memory.frameCount) {
		const expected = `at least one frame below ${hex(memory.frameCount)}`;
		const got = `${bootmem.frameCount} from frame ${hex(bootmem.firstMfn)}`;
		throw refusal("breadcrumb", bootmem.firstMfn * FRAME_BYTES, "no bootmem to hold it", expected, got, "H2");
	}
}

/** The array lies in the machine's memory, clear of bootmem and xen#2, and is no longer than the limit. */
function needArray(memory: MachineMemory, breadcrumb: Breadcrumb, limits: GatherLimits): void {
	const array = arrayOf(breadcrumb);
	const refuse = (problem: string, expected: string, got = describeRun(array)) =>
		refusal("MFN array", breadcrumb.arrayAddress, problem, expected, got, "H1");
	if (array.firstMfn < 0 || endOf(array) > memory.frameCount) {
		throw refuse("beyond the memory", `an array that ends below frame ${hex(memory.frameCount)}`);
	}
	if (overlap(array, limits.bootmem)) {
		throw refuse("in bootmem", `an array outside bootmem, ${describeRun(limits.bootmem)}`);
	}
	if (limits.xenImage !== undefined && overlap(array, limits.xenImage)) {
		throw refuse("in xen#2's image", `an array outside it, ${describeRun(limits.xenImage)}`);
	}
	const maxFrames = limits.maxFrames ?? MAX_STREAM_FRAMES;
	if (breadcrumb.frameCount > maxFrames) {
		throw refuse("stream too large", `at most ${maxFrames} frames`, `${breadcrumb.frameCount}`);
	}
}

/** Each listed frame is one that the stream may stand in; returns them as numbers. */
function needFrames(
	memory: MachineMemory,
	entries: readonly bigint[],
	breadcrumb: Breadcrumb,
	limits: GatherLimits,
): number[] {
	const array = arrayOf(breadcrumb);
	const seen = new Map<number, number>();
	for (const [index, entry] of entries.entries()) {
		const refuse = (problem: string, expected: string) =>
			refusal("MFN array", entryAddress(breadcrumb, index), problem, expected, `frame ${hex(entry)}`, "H1");
		if (entry < 0n || entry >= BigInt(memory.frameCount)) {
			throw refuse("frame beyond the frame table", `a frame below ${hex(memory.frameCount)}`);
		}
		const mfn = Number(entry);
		if (contains(limits.bootmem, mfn)) {
			throw refuse("stream frame in bootmem", `a frame outside bootmem, ${describeRun(limits.bootmem)}`);
		}
		if (limits.xenImage !== undefined && contains(limits.xenImage, mfn)) {
			throw refuse("stream frame in xen#2's image", `a frame outside it, ${describeRun(limits.xenImage)}`);
		}
		if (contains(array, mfn)) {
			throw refuse("stream frame in the MFN array", `a frame outside the array, ${describeRun(array)}`);
		}
		const before = seen.get(mfn);
		if (before !== undefined) {
			const where = `${before} at ${hex(entryAddress(breadcrumb, before))}`;
			throw refuse("frame listed twice", `a frame that entry ${where} does not list`);
		}
		seen.set(mfn, index);
	}
	return [...seen.keys()];
}

function arrayOf({ arrayAddress, frameCount }: Breadcrumb): FrameRun {
	return { firstMfn: arrayAddress / FRAME_BYTES, frameCount: arrayFrames(frameCount) };
}

function entryAddress(breadcrumb: Breadcrumb, index: number): number {
	return breadcrumb.arrayAddress + index * 8;
}

function overlap(a: FrameRun, b: FrameRun): boolean {
	return a.firstMfn < endOf(b) && b.firstMfn < endOf(a);
}

function refusal(
	record: "breadcrumb" | "MFN array",
	address: number,
	problem: string,
	expected: string,
	got: string,
	requirement: string,
): XluError {
	const where = `machine address ${hex(address)}`;
	const detail: ErrorDetail = { record, field: where, expected, got };
	const message = `${record} at ${where}: ${problem}: expected ${expected}, got ${got} (${requirement})`;
	return new XluError("XLU_E_HANDOVER", message, detail);
}
