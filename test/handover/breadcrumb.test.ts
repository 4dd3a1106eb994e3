import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import {
	BREADCRUMB_MAGIC,
	consumeBreadcrumb,
	gatherStream,
	type HandOver,
	MAX_STREAM_FRAMES,
	needNotReusable,
	readBreadcrumb,
	readFrameList,
	writeHandOver,
} from "../../src/handover/breadcrumb.ts";
import type { PhysicalMemory } from "../../src/handover/physical.ts";
import { contains } from "../../src/handover/regions.ts";
import { bootmem, FRAMES, machine, octets, refusalOf, regions, reusable, xenImage } from "./helpers.ts";

const START = 0x200000;
const limits = { bootmem, xenImage };
const receive = (memory: PhysicalMemory) => gatherStream(memory, readBreadcrumb(memory, bootmem), limits);

describe("H1: the stream comes back from its scattered frames", () => {
	const roundTrip = (length: number, seed: number) => {
		const { memory, plan } = machine(length, seed);
		const stream = octets(length, seed);
		const handOver = writeHandOver(memory, stream, plan, limits);
		const got = receive(memory);
		expect(got.length).toBe(Math.ceil(length / 4096) * 4096);
		expect(Buffer.compare(got.subarray(0, length), stream)).toBe(0);
		expect(got.subarray(length).every((octet) => octet === 0)).toBe(true);
		return handOver;
	};

	it("at any length from one octet to 5 MiB", () => {
		const length = fc.oneof(
			fc.integer({ min: 1, max: 3 * 4096 }),
			fc.integer({ min: 1, max: 1280 }).map((frames) => frames * 4096),
			fc.integer({ min: 1, max: 5 * 1024 * 1024 }),
		);
		fc.assert(
			fc.property(length, fc.integer(), (bytes, seed) => {
				roundTrip(bytes, seed);
			}),
			{ numRuns: 60 },
		);
	});

	it.each([1, 4095, 4096, 4097, 512 * 4096, 512 * 4096 + 1, 5 * 1024 * 1024])("at %i octets", (length) => {
		const handOver = roundTrip(length, 11);
		expect(handOver).toMatchObject({ streamBytes: length, frameCount: Math.ceil(length / 4096) });
		expect(handOver.frames.some((mfn) => contains(bootmem, mfn) || contains(xenImage, mfn))).toBe(false);
		if (handOver.frameCount > 1) {
			expect(handOver.frames).not.toEqual(handOver.frames.toSorted((a, b) => a - b));
		}
	});

	it("though its frames held something before", () => {
		const { memory, plan } = machine(100);
		memory.writeFrame(plan.frames[0]!, new Uint8Array(4096).fill(0xee));
		memory.writeFrame(plan.array.firstMfn, new Uint8Array(4096).fill(0xee));
		writeHandOver(memory, octets(100, 1), plan);
		expect(
			receive(memory)
				.subarray(100)
				.every((octet) => octet === 0),
		).toBe(true);
	});

	it("the array is u64 little-endian MFNs in stream order, physically contiguous", () => {
		const { memory, plan } = machine(700 * 4096);
		const handOver = writeHandOver(memory, octets(700 * 4096, 1), plan);
		for (let i = 0; i < 700; i++) {
			expect(memory.readU64(handOver.arrayAddress + i * 8)).toBe(BigInt(handOver.frames[i]!));
		}
		expect(readFrameList(memory, handOver, limits)).toEqual(handOver.frames);
	});
});

describe("H2: the breadcrumb", () => {
	let memory: PhysicalMemory;
	let handOver: HandOver;
	beforeEach(() => {
		const { memory: empty, plan } = machine(5 * 4096);
		memory = empty;
		handOver = writeHandOver(memory, octets(5 * 4096, 9), plan);
	});

	it("is three words at the start of bootmem", () => {
		expect(memory.readU64(START)).toBe(0x4c69766555706000n);
		expect(memory.readU64(START + 8)).toBe(BigInt(handOver.arrayAddress));
		expect(memory.readU64(START + 16)).toBe(5n << 12n);
		expect([...memory.readFrame(0x200).subarray(0, 8)]).toEqual([0x00, 0x60, 0x70, 0x55, 0x65, 0x76, 0x69, 0x4c]);
		expect(handOver.breadcrumbAddress).toBe(START);
		expect(readBreadcrumb(memory, bootmem)).toEqual({ arrayAddress: handOver.arrayAddress, frameCount: 5 });
	});

	it("is written last, so that a torn hand-over leaves none", () => {
		for (let writes = 0; ; writes++) {
			const { memory: torn, plan } = machine(3 * 4096);
			let left = writes;
			const dies = torn.restrict(
				() => true,
				() => left-- > 0,
			);
			try {
				writeHandOver(dies, octets(3 * 4096, 1), plan);
				expect(writes).toBe(8); // old magic, 3 frames, 1 array frame, 3 words
				break;
			} catch {
				expect(refusalOf(() => receive(torn)).message).toContain("absent");
			}
		}
	});

	it("is found once: consumed, it is absent", () => {
		receive(memory);
		consumeBreadcrumb(memory, bootmem);
		expect([0, 8, 16].map((offset) => memory.readU64(START + offset))).toEqual([0n, 0n, 0n]);
		expect(refusalOf(() => readBreadcrumb(memory, bootmem)).message).toBe(
			"breadcrumb at machine address 0x200000: absent, or consumed before: " +
				"expected 0x4c69766555706000, got 0x0 (H2)",
		);
	});

	/** Each fault that the three words can have, and its message behind "breadcrumb at machine address ". */
	const wordFaults: [fault: string, offset: number, word: bigint, message: string][] = [
		[
			"another magic",
			0,
			0x4c69766555706001n,
			"0x200000: wrong magic: expected 0x4c69766555706000, got 0x4c69766555706001 (H2)",
		],
		[
			"low bits of the count",
			16,
			0x5001n,
			"0x200010: low bits of the frame count: expected the number of frames << 12, low 12 bits zero, got 0x5001 (H2)",
		],
		["count zero", 16, 0n, "0x200010: no frames: expected at least 1 stream frame, got 0 (H2)"],
		[
			"count beyond the machine",
			16,
			0x1001000n,
			"0x200010: more frames than the machine: expected at most 4096 stream frames, all that the machine has, got 4097 (H2)",
		],
		[
			"all bits of the count",
			16,
			0xfffffffffffff000n,
			"0x200010: more frames than the machine: expected at most 4096 stream frames, all that the machine has, got 4503599627370495 (H2)",
		],
		[
			"an unaligned array",
			8,
			0x10008n,
			"0x200008: unaligned address: expected an MFN array's address that is a multiple of 0x1000, got 0x10008 (H2)",
		],
		[
			"an array beyond the memory",
			8,
			0x1000000n,
			"0x200008: address beyond the memory: expected an MFN array below 0x1000000, got 0x1000000 (H2)",
		],
		[
			"an array at the end of the address space",
			8,
			0xfffffffffffff000n,
			"0x200008: address beyond the memory: expected an MFN array below 0x1000000, got 0xfffffffffffff000 (H2)",
		],
	];
	it.each(wordFaults)("is refused with %s", (_, offset, word, message) => {
		memory.writeU64(START + offset, word);
		expect(refusalOf(() => readBreadcrumb(memory, bootmem)).message).toBe(`breadcrumb at machine address ${message}`);
	});

	it("is refused with an array in bootmem, or reaching into it", () => {
		memory.writeU64(START + 8, 0x201000n);
		expect(refusalOf(() => readBreadcrumb(memory, bootmem)).message).toBe(
			"MFN array at machine address 0x201000: in bootmem: " +
				"expected an array outside bootmem, frames 0x200-0x3ff, got frames 0x201-0x201 (H1)",
		);
		memory.writeU64(START + 8, 0x1ff000n);
		expect(readBreadcrumb(memory, bootmem).arrayAddress).toBe(0x1ff000);
		memory.writeU64(START + 16, 513n << 12n);
		expect(refusalOf(() => readBreadcrumb(memory, bootmem)).got).toBe("frames 0x1ff-0x200");
	});

	it("is refused with an array whose end is beyond the memory", () => {
		memory.writeU64(START + 8, 0xfff000n);
		memory.writeU64(START + 16, 513n << 12n);
		expect(refusalOf(() => readBreadcrumb(memory, bootmem)).message).toBe(
			"MFN array at machine address 0xfff000: beyond the memory: " +
				"expected an array that ends below frame 0x1000, got frames 0xfff-0x1000 (H1)",
		);
	});

	it("needs bootmem to be in", () => {
		refusalOf(() => readBreadcrumb(memory, { firstMfn: 0x200, frameCount: 0 }));
		refusalOf(() => readBreadcrumb(memory, { firstMfn: FRAMES, frameCount: 1 }));
	});

	it("reading it touches bootmem alone", () => {
		const view = memory.restrict(
			(mfn) => mfn === bootmem.firstMfn,
			() => false,
		);
		expect(readBreadcrumb(view, bootmem).frameCount).toBe(5);
	});
});

describe("H1: a listed frame that cannot hold the stream", () => {
	let memory: PhysicalMemory;
	let handOver: HandOver;
	beforeEach(() => {
		const { memory: empty, plan } = machine(5 * 4096);
		memory = empty;
		handOver = writeHandOver(memory, octets(5 * 4096, 9), plan);
	});

	const arrayHex = "0x1000";
	const entryFaults: [fault: string, mfn: bigint, message: string][] = [
		[
			"beyond the frame table",
			0x1000n,
			"frame beyond the frame table: expected a frame below 0x1000, got frame 0x1000 (H1)",
		],
		[
			"with bits above any address",
			1n << 63n,
			"frame beyond the frame table: expected a frame below 0x1000, got frame 0x8000000000000000 (H1)",
		],
		[
			"bootmem's first, the breadcrumb itself",
			0x200n,
			"stream frame in bootmem: expected a frame outside bootmem, frames 0x200-0x3ff, got frame 0x200 (H1)",
		],
		[
			"bootmem's last",
			0x3ffn,
			"stream frame in bootmem: expected a frame outside bootmem, frames 0x200-0x3ff, got frame 0x3ff (H1)",
		],
		[
			"in xen#2's image",
			0x400n,
			"stream frame in xen#2's image: expected a frame outside it, frames 0x400-0x5ff, got frame 0x400 (H1)",
		],
		[
			"of the array itself",
			1n,
			"stream frame in the MFN array: expected a frame outside the array, frames 0x1-0x1, got frame 0x1 (H1)",
		],
	];
	it.each(entryFaults)("%s is refused", (_, mfn, message) => {
		expect(handOver.arrayAddress).toBe(0x1000);
		memory.writeU64(handOver.arrayAddress + 3 * 8, mfn);
		const error = refusalOf(() => receive(memory));
		expect(error.message).toBe(`MFN array at machine address 0x1018: ${message}`);
		expect(error).toMatchObject({ record: "MFN array", field: "machine address 0x1018" });
	});

	it("listed twice is refused, with both places", () => {
		memory.writeU64(handOver.arrayAddress + 4 * 8, BigInt(handOver.frames[2]!));
		const mfn = `frame 0x${handOver.frames[2]!.toString(16)}`;
		expect(refusalOf(() => receive(memory)).message).toBe(
			"MFN array at machine address 0x1020: frame listed twice: " +
				`expected a frame that entry 2 at 0x1010 does not list, got ${mfn} (H1)`,
		);
	});

	it("a lost array, which reads as zeros, is refused", () => {
		memory.wipe(handOver.array.firstMfn, 1);
		expect(refusalOf(() => receive(memory)).message).toContain(`entry 0 at ${arrayHex} does not list, got frame 0x0`);
	});

	it("neither may the array be in xen#2's image, nor the stream exceed the limit", () => {
		expect(refusalOf(() => gatherStream(memory, { arrayAddress: 0x5ff000, frameCount: 1 }, limits)).message).toBe(
			"MFN array at machine address 0x5ff000: in xen#2's image: " +
				"expected an array outside it, frames 0x400-0x5ff, got frames 0x5ff-0x5ff (H1)",
		);
		expect(refusalOf(() => gatherStream(memory, handOver, { ...limits, maxFrames: 4 })).message).toBe(
			"MFN array at machine address 0x1000: stream too large: expected at most 4 frames, got 5 (H1)",
		);
		expect(MAX_STREAM_FRAMES).toBe(1 << 20);
	});

	it("no stream frame is read before all of the list is known to be right", () => {
		memory.writeU64(handOver.arrayAddress + 4 * 8, 0x200n);
		const view = memory.restrict((mfn) => contains(bootmem, mfn) || contains(handOver.array, mfn));
		expect(refusalOf(() => gatherStream(view, readBreadcrumb(view, bootmem), limits)).message).toContain(
			"stream frame in bootmem",
		);
	});

	it("whatever word of the hand-over is overwritten, the result is a refusal or a stream of frames that may hold one", () => {
		const word = fc.oneof(fc.bigInt({ min: 0n, max: 0xffffn }), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }));
		const places = [0, 8, 16].map((offset) => START + offset).concat([0, 1, 2, 3, 4].map((i) => 0x1000 + i * 8));
		fc.assert(
			fc.property(fc.constantFrom(...places), word, (place, value) => {
				const before = memory.readU64(place);
				memory.writeU64(place, value);
				try {
					const breadcrumb = readBreadcrumb(memory, bootmem);
					const frames = readFrameList(memory, breadcrumb, limits);
					expect(frames.some((mfn) => mfn >= FRAMES || contains(bootmem, mfn) || contains(xenImage, mfn))).toBe(false);
					expect(new Set(frames).size).toBe(breadcrumb.frameCount);
				} catch (error) {
					expect(error).toMatchObject({ code: "XLU_E_HANDOVER" });
				} finally {
					memory.writeU64(place, before);
				}
			}),
			{ numRuns: 500 },
		);
		expect(memory.readU64(START)).toBe(BREADCRUMB_MAGIC);
	});
});

describe("X3: xen#1 refuses to write what xen#2 would refuse to read", () => {
	const stream = octets(2 * 4096, 1);
	const array = { firstMfn: 0x10, frameCount: 1 };
	const badPlans: [problem: string, plan: { array?: typeof array; frames?: number[] }, message: string][] = [
		["a stream frame in bootmem", { frames: [0x20, 0x201] }, "stream frame in bootmem"],
		["a stream frame where xen#2 will be", { frames: [0x20, 0x401] }, "stream frame in xen#2's image"],
		["a frame twice", { frames: [0x20, 0x20] }, "frame listed twice"],
		["a frame beyond the memory", { frames: [0x20, 0x1000] }, "frame beyond the frame table"],
		["a negative frame", { frames: [0x20, -1] }, "frame beyond the frame table"],
		["a frame of the array", { frames: [0x20, 0x10] }, "stream frame in the MFN array"],
		["an array in bootmem", { array: { firstMfn: 0x3ff, frameCount: 1 } }, "in bootmem"],
		["an array beyond the memory", { array: { firstMfn: 0x1000, frameCount: 1 } }, "beyond the memory"],
		["an array without frames", { array: { firstMfn: 0x10, frameCount: 0 } }, "too short: expected 1 frames"],
		["a frame too few", { frames: [0x20] }, "wrong number of frames"],
	];
	it.each(badPlans)("%s", (_, bad, message) => {
		const { memory } = machine(1);
		const plan = { bootmem, array, frames: [0x20, 0x21], ...bad };
		expect(refusalOf(() => writeHandOver(memory, stream, plan, limits)).message).toContain(message);
		expect(memory.populatedFrames).toBe(0);
	});

	it("an empty stream, or one beyond xen#2's limit", () => {
		const { memory } = machine(1);
		const plan = { bootmem, array, frames: [0x20, 0x21] };
		refusalOf(() => writeHandOver(memory, new Uint8Array(0), { ...plan, frames: [] }));
		expect(refusalOf(() => writeHandOver(memory, stream, plan, { ...limits, maxFrames: 1 })).got).toBe("2");
		expect(memory.populatedFrames).toBe(0);
		expect(writeHandOver(memory, stream, plan, limits).frames).toEqual([0x20, 0x21]);
	});
});

describe("H3: no frame of the hand-over is in a region that xen#2 re-uses", () => {
	it("as planned there is none; one that is, is named", () => {
		const { plan } = machine(600 * 4096);
		const breadcrumb = { arrayAddress: plan.array.firstMfn * 4096, frameCount: 600 };
		needNotReusable(breadcrumb, plan.frames, regions);
		expect(refusalOf(() => needNotReusable(breadcrumb, plan.frames.with(7, 0xf00), regions)).message).toBe(
			"MFN array at machine address 0x1038: frame in a re-usable region: " +
				"expected no frame of the hand-over in the re-usable region, frames 0xf00-0xfff, got frame 0xf00 (H3)",
		);
		const arrayThere = { arrayAddress: reusable.firstMfn * 4096, frameCount: 600 };
		expect(refusalOf(() => needNotReusable(arrayThere, plan.frames, regions)).got).toBe("frames 0xf00-0xf01");
	});
});
