import binaryen from "binaryen";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { builds, compile, compileBinary } from "../support/compile.ts";
import {
	type ElementBytes,
	type Run,
	referenceDecode,
	referenceEncode,
	referenceRuns,
} from "../support/extentReference.ts";

interface Codec {
	memory: WebAssembly.Memory;
	encodeBound(elementBytes: number, count: number): number;
	encodeChunk(elementBytes: number, table: number, count: number, mask: bigint, out: number): number;
	encodeTable(elementBytes: number, table: number, count: number, mask: bigint, out: number): number;
	encodeP2m(table: number, count: number, out: number): number;
	checkChunks(elementBytes: number, ptr: number, len: number, count: number): bigint;
	decodeChunks(elementBytes: number, ptr: number, len: number, count: number, dst: number): void;
	runsOpen(cursor: number, elementBytes: number, ptr: number, len: number, count: number): void;
	runsNext(cursor: number): number;
}

const ALL = 0xffff_ffff_ffff_ffffn;
const PRESENT = 1n << 63n;
const MFN_MASK = (1n << 40n) - 1n;
/** Where results go; what is read ends with the memory instead, so that a read beyond it traps. */
const OUT = 0x20000;
const CURSOR = 0x10000;
const CURSOR_BYTES = 64;
const GUARD_BYTES = 64;
const GUARD = 0xa5;

const status = {
	OK: 0,
	BAD_ELEMENT: 1,
	TRUNCATED: 2,
	BAD_FORM: 3,
	BAD_WIDTH: 4,
	BAD_ENTRY_COUNT: 5,
	BAD_PAYLOAD: 6,
	BAD_RUN_COUNT: 7,
	BAD_RESERVED: 8,
	BAD_RUN_LENGTH: 9,
	BAD_RUN_SUM: 10,
	RUN_CARRIES: 11,
	RUN_NOT_MAXIMAL: 12,
	BAD_BASE: 13,
	WIDTH_NOT_MINIMAL: 14,
	BAD_PADDING: 15,
	TRAILING: 16,
};

/** Numbers that a seed determines: fast-check shrinks shape, size and seed instead of ten thousand entries. */
class Noise {
	private state: number;

	constructor(seed: number) {
		this.state = seed | 0;
	}

	next(bound: number): number {
		this.state = (this.state + 0x6d2b79f5) | 0;
		let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
		t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
		return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * bound);
	}

	bits(count: number): bigint {
		const all = (BigInt(this.next(2 ** 32)) << 32n) | BigInt(this.next(2 ** 32));
		return all & ((1n << BigInt(count)) - 1n);
	}
}

type Shape = (noise: Noise, count: number) => bigint[];

/** Concatenates pieces of noisy length until there are enough entries. */
function pieces(noise: Noise, count: number, longest: number, piece: (length: number) => bigint[]): bigint[] {
	const entries: bigint[] = [];
	while (entries.length < count) {
		entries.push(...piece(1 + noise.next(longest)));
	}
	return entries.slice(0, count);
}

function list(length: number, entry: (index: number) => bigint): bigint[] {
	return Array.from({ length }, (_, index) => entry(index));
}

function framesFrom(first: bigint, length: number): bigint[] {
	return list(length, (i) => PRESENT | ((first + BigInt(i)) & (PRESENT - 1n)));
}

const wideShapes: Record<string, Shape> = {
	"one hole": (_, count) => list(count, () => 0n),
	"one range": (noise, count) => framesFrom(noise.bits(30), count),
	superpages: (noise, count) => pieces(noise, count, 1, () => framesFrom((9n << 48n) | (noise.bits(20) << 9n), 512)),
	"runs of mean 64": (noise, count) => pieces(noise, count, 128, (length) => framesFrom(noise.bits(24), length)),
	"runs of every mean from 1 to 12": (noise, count) => {
		const longest = 1 + noise.next(23);
		return pieces(noise, count, longest, (length) => framesFrom(noise.bits(26), length));
	},
	"runs that are about as large as PACKED": (noise, count) => {
		// Of the first eight octets that a width of 1 to 4 allows, so many runs that either form may be the smaller.
		const width = 1 + noise.next(4);
		const runCount = Math.max(1, Math.floor((count * width) / 10) + noise.next(5) - 2);
		const base = noise.bits(63) & ~((1n << BigInt(8 * width)) - 1n);
		const starts = new Set([0]);
		while (starts.size < Math.min(runCount, count)) starts.add(noise.next(count));
		let value = 0n;
		return list(count, (i) => {
			if (starts.has(i)) {
				const before = value;
				while (value === before) value = base | noise.bits(8 * width);
			}
			return value;
		});
	},
	"a range, then random frames": (noise, count) => {
		const half = noise.next(count + 1);
		return [...framesFrom(noise.bits(24), half), ...list(count - half, () => PRESENT | noise.bits(28))];
	},
	"random frames, then a range": (noise, count) => {
		const half = noise.next(count + 1);
		return [...list(half, () => PRESENT | noise.bits(28)), ...framesFrom(noise.bits(24), count - half)];
	},
	"a long range across the MFN's last bit": (noise, count) =>
		pieces(noise, count, 6000, (length) => framesFrom(MFN_MASK - noise.bits(13), length)),
	"random frames below the MFN's last bit, some in a row": (noise, count) =>
		pieces(noise, count, 3, (length) => framesFrom(MFN_MASK - noise.bits(4 + noise.next(20)), length)),
	"random frames, a few of them far away": (noise, count) => {
		const far = new Set(list(1 + noise.next(3), () => BigInt(noise.next(count))).map(Number));
		const bits = 16 + noise.next(24);
		return list(count, (i) => PRESENT | noise.bits(far.has(i) ? 40 : bits));
	},
	"pairs and triples, one of them far away": (noise, count) => {
		const far = noise.next(count);
		const entries = pieces(noise, count, 1 + noise.next(6), (length) => framesFrom(noise.bits(20), length));
		return entries.map((entry, i) => (i === far ? PRESENT | (1n << 38n) | noise.bits(30) : entry));
	},
	"ranges and holes": (noise, count) =>
		pieces(noise, count, 40, (length) =>
			noise.next(2) === 0 ? list(length, () => 0n) : framesFrom(noise.bits(30), length),
		),
	"random 4 KiB frames": (noise, count) => list(count, () => PRESENT | noise.bits(26)),
	"every second entry a hole": (noise, count) => list(count, (i) => (i & 1 ? 0n : PRESENT | noise.bits(24))),
	"alternating owners": (_, count) => list(count, (i) => (i & 1 ? 0x7ff0n : 3n)),
	descending: (_, count) => list(count, (i) => PRESENT | BigInt(1_000_000 - i)),
	"one-entry runs of few values": (noise, count) => list(count, () => noise.bits(2)),
	"arbitrary 64 bits": (noise, count) => list(count, () => noise.bits(64)),
	"each packed width": (noise, count) => {
		const base = noise.bits(64);
		const width = 1 + noise.next(8);
		return list(count, () => base ^ noise.bits(8 * width));
	},
	"at the end of the MFN's bits": (noise, count) =>
		pieces(noise, count, 20, (length) => framesFrom((noise.bits(3) << 40n) | (MFN_MASK - noise.bits(3)), length)),
	"at the end of 64 bits": (noise, count) =>
		list(count, () => [ALL, 0n, ALL - 1n, PRESENT, PRESENT - 1n][noise.next(5)]!),
};

const octetShapes: Record<string, Shape> = {
	constant: (noise, count) => {
		const value = noise.bits(8);
		return list(count, () => value);
	},
	"runs of mean 350": (noise, count) =>
		pieces(noise, count, 700, (length) => {
			const value = noise.bits(3);
			return list(length, () => value);
		}),
	"short runs": (noise, count) =>
		pieces(noise, count, 6, (length) => {
			const value = noise.bits(8);
			return list(length, () => value);
		}),
	alternating: (_, count) => list(count, (i) => BigInt(i & 1)),
	"runs that are about as large as LITERAL": (noise, count) => {
		const runCount = Math.max(1, Math.floor((count - 8) / 3) + noise.next(5) - 2);
		const starts = new Set([0]);
		while (starts.size < Math.min(runCount, count)) starts.add(noise.next(count));
		let value = 0n;
		return list(count, (i) => {
			if (starts.has(i)) value = (value + 1n + noise.bits(7)) & 0xffn;
			return value;
		});
	},
	ascending: (_, count) => list(count, (i) => BigInt(i & 255)),
	"arbitrary octets": (noise, count) => list(count, () => noise.bits(8)),
};

interface Sample {
	elementBytes: ElementBytes;
	entries: bigint[];
}

const sizes = [0, 1, 2, 3, 7, 16, 63, 64, 65, 71, 100, 4095, 4096, 4097, 10000];

function samples(sizeList = sizes): fc.Arbitrary<Sample & { name: string }> {
	const shapes = [
		...Object.entries(wideShapes).map(([name, shape]) => ({ name, shape, elementBytes: 8 as ElementBytes })),
		...Object.entries(octetShapes).map(([name, shape]) => ({ name, shape, elementBytes: 1 as ElementBytes })),
	];
	return fc
		.record({
			kind: fc.constantFrom(...shapes),
			size: fc.oneof(fc.constantFrom(...sizeList), fc.nat({ max: Math.max(...sizeList) })),
			seed: fc.integer(),
		})
		.map(({ kind, size, seed }) => ({
			name: kind.name,
			elementBytes: kind.elementBytes,
			entries: kind.shape(new Noise(seed), size),
		}));
}

function tableBytes({ elementBytes, entries }: Sample): Uint8Array {
	return elementBytes === 8
		? new Uint8Array(BigUint64Array.from(entries).buffer)
		: Uint8Array.from(entries, (entry) => Number(entry));
}

function hex(bytes: Uint8Array): string {
	return Buffer.from(bytes).toString("hex");
}

function isAll(bytes: Uint8Array, octet: number): boolean {
	return bytes.every((each) => each === octet);
}

/** One string instead of ten thousand values: a deep comparison of those takes most of the tests' time. */
function entryText(entries: readonly bigint[]): string {
	return entries.join();
}

function runText(runs: readonly Run[]): string {
	return runs.map(({ first, length, value }) => `${first}+${length}:${value}`).join();
}

/** A chunk by hand: header fields, then the payload as numbers of given width. */
function chunk(form: number, width: number, entryCount: number, payload: [number | bigint, number][]): number[] {
	const octets = payload.flatMap(([value, size]) =>
		list(size, (i) => (BigInt(value) >> BigInt(8 * i)) & 0xffn).map(Number),
	);
	const length = octets.length;
	return [form, width, entryCount & 255, entryCount >> 8, length & 255, length >> 8, 0, 0, ...octets];
}

describe.each(builds)("extent codec, $name build", ({ simd }) => {
	let codec: Codec;

	beforeAll(async () => {
		codec = await compile<Codec>("assembly/test/codec.ts", { simd });
	});

	function memory(): Uint8Array {
		return new Uint8Array(codec.memory.buffer);
	}

	function placeAtEnd(bytes: Uint8Array): number {
		const ptr = codec.memory.buffer.byteLength - bytes.length;
		memory().set(bytes, ptr);
		return ptr;
	}

	/** Runs `write` on a guarded window at OUT and returns the window's content. */
	function guarded(length: number, write: () => void, filler = 0): Uint8Array {
		const octets = memory();
		octets.fill(GUARD, OUT - GUARD_BYTES, OUT + length + GUARD_BYTES);
		octets.fill(filler, OUT, OUT + length);
		write();
		expect(isAll(octets.subarray(OUT - GUARD_BYTES, OUT), GUARD), "guard before").toBe(true);
		expect(isAll(octets.subarray(OUT + length, OUT + length + GUARD_BYTES), GUARD), "guard after").toBe(true);
		return octets.slice(OUT, OUT + length);
	}

	function encode(sample: Sample, mask = ALL): Uint8Array {
		const table = placeAtEnd(tableBytes(sample));
		const count = sample.entries.length;
		const bound = codec.encodeBound(sample.elementBytes, count) >>> 0;
		let length = 0;
		// A filler that is not zero shows padding that nobody wrote.
		const window = guarded(
			bound,
			() => {
				length = codec.encodeTable(sample.elementBytes, table, count, mask, OUT) >>> 0;
			},
			0x5a,
		);
		expect(length).toBeLessThanOrEqual(bound);
		expect(isAll(window.subarray(length), 0x5a), "nothing written beyond the coding").toBe(true);
		return window.slice(0, length);
	}

	function check(elementBytes: number, bytes: Uint8Array, count: number): { status: number; offset: number } {
		const fault = BigInt.asUintN(64, codec.checkChunks(elementBytes, placeAtEnd(bytes), bytes.length, count));
		return { status: Number(fault >> 32n), offset: Number(fault & 0xffffffffn) };
	}

	function decode(elementBytes: ElementBytes, bytes: Uint8Array, count: number): bigint[] {
		const ptr = placeAtEnd(bytes);
		const window = guarded(count * elementBytes, () => codec.decodeChunks(elementBytes, ptr, bytes.length, count, OUT));
		return elementBytes === 8 ? Array.from(new BigUint64Array(window.buffer)) : Array.from(window, BigInt);
	}

	function walk(elementBytes: number, bytes: Uint8Array, count: number): { runs: Run[]; status: number } {
		const view = new DataView(codec.memory.buffer, CURSOR, CURSOR_BYTES);
		memory().fill(GUARD, CURSOR - GUARD_BYTES, CURSOR + CURSOR_BYTES + GUARD_BYTES);
		codec.runsOpen(CURSOR, elementBytes, placeAtEnd(bytes), bytes.length, count);
		const runs: Run[] = [];
		let next = 0;
		while (codec.runsNext(CURSOR) !== 0) {
			runs.push({
				first: view.getUint32(8, true),
				length: view.getUint32(12, true),
				value: view.getBigUint64(0, true),
			});
			const { first, length } = runs.at(-1)!;
			// Whatever the coding, runs are never empty and follow each other: so the walk ends.
			if (first !== next || length === 0 || length > count - first) {
				expect.fail(`expected a run at ${next} of ${count} entries, got ${length} at ${first}`);
			}
			next += length;
		}
		expect(codec.runsNext(CURSOR), "the end stays the end").toBe(0);
		expect(memory()[CURSOR - 1]).toBe(GUARD);
		expect(memory()[CURSOR + CURSOR_BYTES]).toBe(GUARD);
		return { runs, status: view.getUint32(16, true) };
	}

	describe("sound tables", () => {
		const numRuns = 120;

		test("the coding is the reference's, octet by octet", () => {
			fc.assert(
				fc.property(samples(), (sample) => {
					expect(hex(encode(sample))).toBe(hex(referenceEncode(sample.elementBytes, sample.entries)));
				}),
				{ numRuns },
			);
		});

		test("check accepts it, decode gives the table back", () => {
			fc.assert(
				fc.property(samples(), (sample) => {
					const bytes = encode(sample);
					expect(check(sample.elementBytes, bytes, sample.entries.length)).toEqual({ status: status.OK, offset: 0 });
					expect(entryText(decode(sample.elementBytes, bytes, sample.entries.length))).toBe(entryText(sample.entries));
				}),
				{ numRuns },
			);
		});

		test.each([
			...Object.entries(wideShapes).map(([name, shape]) => ({ name, shape, elementBytes: 8 as ElementBytes })),
			...Object.entries(octetShapes).map(([name, shape]) => ({ name, shape, elementBytes: 1 as ElementBytes })),
		])("$elementBytes-octet entries, $name, at every size", ({ shape, elementBytes }) => {
			for (const size of sizes) {
				const sample = { elementBytes, entries: shape(new Noise(size), size) };
				const bytes = encode(sample);
				expect(hex(bytes)).toBe(hex(referenceEncode(elementBytes, sample.entries)));
				expect(check(elementBytes, bytes, size).status).toBe(status.OK);
				expect(entryText(decode(elementBytes, bytes, size))).toBe(entryText(sample.entries));
			}
		});

		test("the cursor gives the runs of each chunk, whatever its form", () => {
			fc.assert(
				fc.property(samples(), (sample) => {
					const { runs, status: end } = walk(sample.elementBytes, encode(sample), sample.entries.length);
					expect(end).toBe(status.OK);
					expect(runText(runs)).toBe(runText(referenceRuns(sample.entries)));
				}),
				{ numRuns },
			);
		});

		test("the mask keeps private bits out of the coding", () => {
			const mask = PRESENT | ((1n << 54n) - 1n);
			fc.assert(
				fc.property(samples(), fc.integer(), ({ entries }, seed) => {
					const noise = new Noise(seed);
					const dirty = entries.map((entry) => (entry & mask) | (noise.bits(64) & ~mask));
					const clean = entries.map((entry) => entry & mask);
					expect(hex(encode({ elementBytes: 8, entries: dirty }, mask))).toBe(hex(referenceEncode(8, clean)));
				}),
				{ numRuns },
			);
		});

		test("chunks stand alone: a table is its chunks in a row", () => {
			fc.assert(
				fc.property(samples(), ({ elementBytes, entries }) => {
					const whole = encode({ elementBytes, entries });
					const parts: string[] = [];
					for (let first = 0; first < entries.length; first += 4096) {
						const part = { elementBytes, entries: entries.slice(first, first + 4096) };
						const table = placeAtEnd(tableBytes(part));
						const length = codec.encodeChunk(elementBytes, table, part.entries.length, ALL, OUT);
						parts.push(hex(memory().subarray(OUT, OUT + length)));
					}
					expect(parts.join("")).toBe(hex(whole));
				}),
				{ numRuns: 40 },
			);
		});
	});

	describe("choice of form", () => {
		function formOf(elementBytes: ElementBytes, entries: bigint[]): number {
			return encode({ elementBytes, entries })[0]!;
		}

		test("one range is RUNS, near frames are PACKED, arbitrary ones LITERAL", () => {
			expect(formOf(8, wideShapes["one range"]!(new Noise(1), 4096))).toBe(1);
			const packed = encode({ elementBytes: 8, entries: wideShapes["random 4 KiB frames"]!(new Noise(1), 4096) });
			expect([packed[0], packed[1]]).toEqual([2, 4]);
			expect(packed.length).toBe(8 + 8 + 4096 * 4);
			expect(formOf(8, wideShapes["arbitrary 64 bits"]!(new Noise(1), 4096))).toBe(3);
			expect(formOf(1, octetShapes.constant!(new Noise(1), 4096))).toBe(1);
			expect(formOf(1, octetShapes["arbitrary octets"]!(new Noise(1), 4096))).toBe(3);
		});

		test("of equals RUNS comes first, then PACKED", () => {
			// 16 entries in one run: RUNS 8+10 and PACKED 8+16 both pad to 24.
			expect(formOf(8, framesFrom(0n, 16))).toBe(1);
			// Four runs over six entries of all eight octets: RUNS 8+40 and LITERAL 48.
			expect(formOf(8, [1n, 1n, 1n, 2n, 3n, ALL])).toBe(1);
			// Two entries of one octet: PACKED 8+2 pads to 16, LITERAL is 16.
			expect(formOf(8, [5n, 5n])).toBe(2);
			// Octets, one run: RUNS 8+3 pads to 16, as do 9 literals.
			expect(
				formOf(
					1,
					list(9, () => 7n),
				),
			).toBe(1);
			expect(
				formOf(
					1,
					list(8, () => 7n),
				),
			).toBe(3);
		});
	});

	describe("worst cases", () => {
		test("the bound is met by arbitrary entries and is never less", () => {
			for (const size of sizes) {
				const chunks = Math.ceil(size / 4096);
				expect(codec.encodeBound(8, size)).toBe(chunks * 8 + size * 8);
				expect(codec.encodeBound(1, size)).toBe(chunks * 8 + Math.ceil(size / 8) * 8);
			}
			const entries = wideShapes["arbitrary 64 bits"]!(new Noise(3), 10000);
			expect(encode({ elementBytes: 8, entries }).length).toBe(codec.encodeBound(8, 10000));
		});

		test("counts beyond any memory saturate and encode nothing", () => {
			expect(codec.encodeBound(8, 0xffffffff) >>> 0).toBe(0xffffffff);
			expect(codec.encodeBound(8, 0x20000000) >>> 0).toBe(0xffffffff);
			expect(codec.encodeBound(1, 0xffffffff) >>> 0).toBe(0xffffffff);
			expect(codec.encodeTable(8, OUT, 0xffffffff, ALL, OUT)).toBe(0);
		});

		test("other element sizes and chunk sizes are refused", () => {
			expect(codec.encodeBound(4, 100)).toBe(0);
			expect(codec.encodeTable(4, OUT, 100, ALL, OUT)).toBe(0);
			expect(codec.encodeChunk(8, OUT, 0, ALL, OUT)).toBe(0);
			expect(codec.encodeChunk(8, OUT, 4097, ALL, OUT)).toBe(0);
			expect(check(2, new Uint8Array(64), 4).status).toBe(status.BAD_ELEMENT);
			expect(walk(2, new Uint8Array(64), 4)).toEqual({ runs: [], status: status.BAD_ELEMENT });
			guarded(0, () => codec.decodeChunks(2, CURSOR, 64, 4, OUT));
		});
	});

	describe("each fault is named, with its place", () => {
		const run8 = (runs: [bigint, number][], { runCount = runs.length, reserved = 0, padding = 0 } = {}) => {
			const used = 8 + runs.length * 10;
			return [
				[runCount, 4],
				[reserved, 4],
				...runs.map(([value]) => [value, 8]),
				...runs.map(([, length]) => [length, 2]),
				...list((8 - (used % 8)) % 8, (i) => (i === 0 ? BigInt(padding) : 0n)).map((octet) => [octet, 1]),
			] as [number | bigint, number][];
		};
		const literal = (entries: bigint[]) => entries.map((entry) => [entry, 8] as [bigint, number]);
		const full = chunk(1, 0, 4096, run8([[0n, 4096]]));
		const sound = chunk(1, 0, 10, run8([[7n, 10]]));
		// biome-ignore format: one line per case
		const cases: [string, number[], number, number, number][] = [
			["no header", sound.slice(0, 7), 10, status.TRUNCATED, 0],
			["no octets at all", [], 10, status.TRUNCATED, 0],
			["payload cut short", sound.slice(0, -8), 10, status.TRUNCATED, 4],
			["second chunk missing", full, 4097, status.TRUNCATED, full.length],
			["form 0", chunk(0, 0, 10, run8([[7n, 10]])), 10, status.BAD_FORM, 0],
			["form 4", chunk(4, 0, 10, run8([[7n, 10]])), 10, status.BAD_FORM, 0],
			["width in RUNS", chunk(1, 1, 10, run8([[7n, 10]])), 10, status.BAD_WIDTH, 1],
			["width in LITERAL", chunk(3, 8, 1, literal([7n])), 1, status.BAD_WIDTH, 1],
			["width 0 in PACKED", chunk(2, 0, 1, literal([7n, 0n])), 1, status.BAD_WIDTH, 1],
			["width 8 in PACKED", chunk(2, 8, 1, literal([7n, 0n])), 1, status.BAD_WIDTH, 1],
			["fewer entries than the table", sound, 11, status.BAD_ENTRY_COUNT, 2],
			["more entries than the table", sound, 9, status.BAD_ENTRY_COUNT, 2],
			["a short chunk before the last", [...sound, ...sound], 20, status.BAD_ENTRY_COUNT, 2],
			["second chunk's count", [...full, ...sound], 4097, status.BAD_ENTRY_COUNT, full.length + 2],
			["payload longer than its form", chunk(3, 0, 1, literal([7n, 0n])), 1, status.BAD_PAYLOAD, 4],
			["payload not a multiple of 8", chunk(3, 0, 1, [[7n, 7]]), 1, status.BAD_PAYLOAD, 4],
			["RUNS without a payload", chunk(1, 0, 1, []), 1, status.BAD_PAYLOAD, 4],
			["no runs", chunk(1, 0, 10, run8([])), 10, status.BAD_RUN_COUNT, 8],
			["more runs than entries", chunk(1, 0, 10, run8([[7n, 10]], { runCount: 11 })), 10, status.BAD_RUN_COUNT, 8],
			["runs beyond the payload", chunk(1, 0, 10, run8([[7n, 10]], { runCount: 2 })), 10, status.BAD_PAYLOAD, 4],
			["reserved word", chunk(1, 0, 10, run8([[7n, 10]], { reserved: 1 })), 10, status.BAD_RESERVED, 12],
			["empty run", chunk(1, 0, 10, run8([[7n, 0], [8n, 10]])), 10, status.BAD_RUN_LENGTH, 32],
			["run too long", chunk(1, 0, 10, run8([[7n, 9], [8n, 2]])), 10, status.BAD_RUN_LENGTH, 34],
			["runs too short", chunk(1, 0, 10, run8([[7n, 9]])), 10, status.BAD_RUN_SUM, 24],
			["MFN beyond bit 39", chunk(1, 0, 3, run8([[PRESENT | (MFN_MASK - 1n), 3]])), 3, status.RUN_CARRIES, 16],
			["split run", chunk(1, 0, 3, run8([[PRESENT | 5n, 2], [PRESENT | 7n, 1]])), 3, status.RUN_NOT_MAXIMAL, 24],
			["split hole", chunk(1, 0, 3, run8([[0n, 2], [0n, 1]])), 3, status.RUN_NOT_MAXIMAL, 24],
			["base", chunk(2, 1, 8, [[7n, 8], [1n, 1], [0n, 7]]), 8, status.BAD_BASE, 16],
			["width 2 for one octet", chunk(2, 2, 4, [[7n, 8], [0n, 2], [255n, 2], [0n, 4]]), 4, status.WIDTH_NOT_MINIMAL, 1],
			["padding of RUNS", chunk(1, 0, 10, run8([[7n, 10]], { padding: 1 })), 10, status.BAD_PADDING, 26],
			["padding of PACKED", chunk(2, 1, 7, [[7n, 8], [0n, 7], [1n, 1]]), 7, status.BAD_PADDING, 23],
			["octets after the last chunk", [...sound, ...list(8, () => 0n).map(Number)], 10, status.TRAILING, 32],
			["a chunk too many", [...full, ...sound], 4096, status.TRAILING, full.length],
			["octets for an empty table", [0], 0, status.TRAILING, 0],
		];

		test.each(cases)("%s", (_, octets, count, expected, offset) => {
			const bytes = Uint8Array.from(octets);
			expect(check(8, bytes, count)).toEqual({ status: expected, offset });
			expect(() => referenceDecode(8, bytes, count)).toThrow();
			decode(8, bytes, count);
			const { status: end } = walk(8, bytes, count);
			if (expected <= status.BAD_RUN_COUNT || expected === status.BAD_RUN_LENGTH || expected === status.BAD_RUN_SUM) {
				expect(end, "the walk meets the same fault").toBe(expected);
			}
		});

		// biome-ignore format: one line per case
		const octetCases: [string, number[], number, number, number][] = [
			["PACKED octets", chunk(2, 1, 8, [[7n, 8], [0n, 8]]), 8, status.BAD_FORM, 0],
			["split run", chunk(1, 0, 9, [[2, 4], [0, 4], [4, 2], [5, 2], [9, 1], [9, 1], [0, 2]]), 9, status.RUN_NOT_MAXIMAL, 21],
			["run too long", chunk(1, 0, 9, [[2, 4], [0, 4], [4, 2], [6, 2], [9, 1], [8, 1], [0, 2]]), 9, status.BAD_RUN_LENGTH, 18],
			["padding of RUNS", chunk(1, 0, 9, [[1, 4], [0, 4], [9, 2], [9, 1], [0, 4], [1, 1]]), 9, status.BAD_PADDING, 23],
			["padding of LITERAL", chunk(3, 0, 3, [[1, 3], [0, 1], [3, 1], [0, 3]]), 3, status.BAD_PADDING, 12],
		];

		test.each(octetCases)("octets: %s", (_, octets, count, expected, offset) => {
			const bytes = Uint8Array.from(octets);
			expect(check(1, bytes, count)).toEqual({ status: expected, offset });
			expect(() => referenceDecode(1, bytes, count)).toThrow();
			decode(1, bytes, count);
			walk(1, bytes, count);
		});

		test("a run may end with the last MFN", () => {
			const bytes = Uint8Array.from(chunk(1, 0, 3, run8([[PRESENT | (MFN_MASK - 2n), 3]])));
			expect(check(8, bytes, 3).status).toBe(status.OK);
			expect(decode(8, bytes, 3)[2]).toBe(PRESENT | MFN_MASK);
		});

		test("a reader takes a form that the writer would not", () => {
			const bytes = Uint8Array.from(chunk(3, 0, 5, literal([7n, 7n, 7n, 7n, 7n])));
			expect(check(8, bytes, 5).status).toBe(status.OK);
			expect(walk(8, bytes, 5).runs).toEqual([{ first: 0, length: 5, value: 7n }]);
		});
	});

	describe("hostile codings", () => {
		/** Never a trap, never a stray write, and accepted exactly if the reference accepts. */
		function judge(elementBytes: ElementBytes, bytes: Uint8Array, count: number): boolean {
			let expected: bigint[] | undefined;
			try {
				expected = referenceDecode(elementBytes, bytes, count);
			} catch {
				expected = undefined;
			}
			const result = check(elementBytes, bytes, count);
			expect(result.status === status.OK, `status ${result.status} at ${result.offset}`).toBe(expected !== undefined);
			expect(result.offset).toBeLessThanOrEqual(bytes.length);
			const decoded = decode(elementBytes, bytes, count);
			const { runs } = walk(elementBytes, bytes, count);
			if (expected !== undefined) {
				expect(entryText(decoded)).toBe(entryText(expected));
				expect(runText(runs)).toBe(runText(referenceRuns(expected)));
			}
			return expected !== undefined;
		}

		/** Offsets of the chunks' headers in a sound coding. */
		function headers(bytes: Uint8Array): number[] {
			const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
			const offsets: number[] = [];
			for (let at = 0; at < bytes.length; at += 8 + view.getUint32(at + 4, true)) {
				offsets.push(at);
			}
			return offsets;
		}

		const someSizes = [1, 2, 3, 7, 16, 100, 4096, 4100];
		const edges = [0, 1, 2, 3, 4, 7, 8, 127, 128, 254, 255];

		test("any octet of any coding changed", () => {
			let accepted = 0;
			let refused = 0;
			fc.assert(
				fc.property(
					samples(someSizes),
					fc.array(
						fc.record({
							where: fc.nat(),
							octet: fc.oneof(fc.constantFrom(...edges), fc.nat({ max: 255 })),
							head: fc.boolean(),
						}),
						{ minLength: 1, maxLength: 3 },
					),
					({ elementBytes, entries }, changes) => {
						const bytes = encode({ elementBytes, entries });
						const starts = headers(bytes);
						for (const { where, octet, head } of changes) {
							// Half of the changes hit a header or a run count, where they do most harm.
							const start = starts[where % Math.max(1, starts.length)] ?? 0;
							const at = head ? start + (where % 16) : where % Math.max(1, bytes.length);
							if (at < bytes.length) {
								bytes[at] = octet;
							}
						}
						judge(elementBytes, bytes, entries.length) ? accepted++ : refused++;
					},
				),
				{ numRuns: 600 },
			);
			expect(accepted, "changes that leave a sound coding").toBeGreaterThan(10);
			expect(refused, "changes that break it").toBeGreaterThan(10);
		});

		test("any coding cut short or followed by more", () => {
			fc.assert(
				fc.property(
					samples(someSizes),
					fc.nat(),
					fc.uint8Array({ maxLength: 24 }),
					({ elementBytes, entries }, cut, tail) => {
						const bytes = encode({ elementBytes, entries });
						expect(judge(elementBytes, bytes.slice(0, cut % Math.max(1, bytes.length)), entries.length)).toBe(
							bytes.length === 0,
						);
						expect(judge(elementBytes, Uint8Array.from([...bytes, ...tail]), entries.length)).toBe(tail.length === 0);
					},
				),
				{ numRuns: 150 },
			);
		});

		test("every truncation of a coding of several chunks", () => {
			const entries = [...framesFrom(5n, 4096), ...wideShapes["random 4 KiB frames"]!(new Noise(4), 9)];
			const bytes = encode({ elementBytes: 8, entries });
			for (let length = 0; length < bytes.length; length++) {
				expect(judge(8, bytes.slice(0, length), entries.length)).toBe(false);
			}
		});

		test("a coding of another table size or element size", () => {
			fc.assert(
				fc.property(samples(someSizes), fc.integer({ min: -3, max: 3 }), ({ elementBytes, entries }, more) => {
					const bytes = encode({ elementBytes, entries });
					judge(elementBytes, bytes, Math.max(0, entries.length + more));
					judge(elementBytes === 8 ? 1 : 8, bytes, entries.length);
				}),
				{ numRuns: 150 },
			);
		});

		test("arbitrary octets behind a plausible header", () => {
			fc.assert(
				fc.property(
					fc.constantFrom<ElementBytes>(1, 8),
					fc.integer({ min: 1, max: 3 }),
					fc.integer({ min: 0, max: 7 }),
					fc.integer({ min: 1, max: 12 }),
					fc.integer({ min: 0, max: 12 }),
					fc.uint8Array({ minLength: 96, maxLength: 96 }),
					(elementBytes, form, width, count, runCount, noise) => {
						const payloadBytes = {
							1: 8 + runCount * (elementBytes + 2),
							2: 8 + count * width,
							3: count * elementBytes,
						}[form]!;
						const payload = noise.slice(0, Math.min(96, Math.ceil(payloadBytes / 8) * 8));
						if (form === 1) {
							payload.set([runCount, 0, 0, 0, 0, 0, 0, 0]);
						}
						judge(elementBytes, Uint8Array.from([form, width, count, 0, payload.length, 0, 0, 0, ...payload]), count);
					},
				),
				{ numRuns: 1500 },
			);
		});

		test("counts and lengths at the end of 32 bits", () => {
			const entries = framesFrom(5n, 4096);
			const bytes = encode({ elementBytes: 8, entries });
			expect(check(8, bytes, 0xffffffff).status).toBe(status.TRUNCATED);
			const huge = Uint8Array.from(bytes);
			huge.set([0xf8, 0xff, 0xff, 0xff], 4);
			expect(check(8, huge, 4096)).toEqual({ status: status.TRUNCATED, offset: 4 });
			judge(8, huge, 4096);
		});
	});
});

describe("the two builds against each other", () => {
	let codecs: Codec[];

	beforeAll(async () => {
		codecs = await Promise.all(
			builds.map(({ simd }) => compile<Codec>("assembly/test/codec.ts", { simd, optimize: "-O3" })),
		);
	});

	/** Codes and decodes with each build; the same octets and the same table both times. */
	function agree({ elementBytes, entries }: Sample): void {
		const table = tableBytes({ elementBytes, entries });
		const results = codecs.map((codec) => {
			const octets = new Uint8Array(codec.memory.buffer);
			const from = octets.length - table.length;
			octets.set(table, from);
			const length = codec.encodeTable(elementBytes, from, entries.length, ALL, OUT) >>> 0;
			const coded = octets.slice(OUT, OUT + length);
			const ptr = octets.length - length;
			octets.set(coded, ptr);
			codec.decodeChunks(elementBytes, ptr, length, entries.length, OUT);
			return { coded, decoded: octets.slice(OUT, OUT + table.length) };
		});
		expect(Buffer.compare(results[0]!.coded, results[1]!.coded), "the same coding").toBe(0);
		for (const { decoded } of results) expect(Buffer.compare(decoded, table), "the table again").toBe(0);
	}

	test("any table, of many chunks", () => {
		fc.assert(fc.property(samples([20000]), agree), { numRuns: 200 });
	});

	test.each(Object.entries(wideShapes))("%s, many times", (_, shape) => {
		for (let seed = 0; seed < 25; seed++) agree({ elementBytes: 8, entries: shape(new Noise(seed), 8192 + seed) });
	});

	test("every number of runs in every short chunk, the last of them among the last entries", () => {
		for (const [elementBytes, shape] of [
			[8, (value: number) => BigInt(value & 0xff)],
			[8, (value: number) => PRESENT | BigInt(2 * value)],
			[1, (value: number) => BigInt(value & 0xff)],
		] as const) {
			for (let count = 60; count <= 90; count++) {
				for (let runCount = 1; runCount <= 30; runCount++) {
					// One range, then one-entry runs up to the end.
					const entries = list(count, (i) => shape(Math.max(0, i - (count - runCount))));
					agree({ elementBytes, entries });
					const from = codecs[0]!.memory.buffer.byteLength - count * elementBytes;
					new Uint8Array(codecs[0]!.memory.buffer).set(tableBytes({ elementBytes, entries }), from);
					const length = codecs[0]!.encodeTable(elementBytes, from, count, ALL, OUT);
					const coded = new Uint8Array(codecs[0]!.memory.buffer).slice(OUT, OUT + length);
					if (Buffer.compare(coded, referenceEncode(elementBytes, entries)) !== 0) {
						expect.fail(`${count} entries of ${elementBytes} octets in ${runCount} runs: not the reference's coding`);
					}
				}
			}
		}
	});

	test.each(Object.entries(octetShapes))("octets, %s, many times", (_, shape) => {
		for (let seed = 0; seed < 25; seed++) agree({ elementBytes: 1, entries: shape(new Noise(seed), 8192 + seed) });
	});
});

describe.each(builds)("superpages, $name build", (build) => {
	let codec: Codec;
	beforeAll(async () => {
		codec = await compile<Codec>("assembly/test/codec.ts", build);
	});

	/** Blocks of 512 entries: 2 MiB pages that go on or do not, populate-on-demand ones, broken and empty ones. */
	function p2m(random: Noise, blocks: number, tail: number): bigint[] {
		const order = 9n << 48n;
		const entries: bigint[] = [];
		let next = 512n * BigInt(random.next(1 << 20));
		for (let block = 0; block < blocks; block++) {
			const kind = random.next(10);
			if (random.next(3) === 0) next = 512n * BigInt(random.next(1 << 20));
			for (let i = 0n; i < 512n; i++) {
				if (kind === 0) entries.push(PRESENT | (7n << 44n) | BigInt(random.next(1 << 24)));
				else if (kind === 1) entries.push(order | (6n << 40n));
				else if (kind === 2) entries.push(0n);
				else if (kind === 3) entries.push(PRESENT | (7n << 44n) | (next + (i ^ (i < 256n ? 16n : 0n))));
				else entries.push(PRESENT | order | (7n << 44n) | (next + i));
			}
			next += 512n;
		}
		for (let i = 0; i < tail; i++) entries.push(PRESENT | BigInt(i));
		return entries;
	}

	function runsOf(entries: bigint[], first: number, count: number): number {
		let runs = 1;
		for (let i = first + 1; i < first + count; i++) {
			const before = entries[i - 1] as bigint;
			if (entries[i] !== before + (before >> 63n)) runs++;
		}
		return runs;
	}

	test("of each one entry is read, and the coding is that of the whole table", () => {
		for (let seed = 0; seed < 60; seed++) {
			const random = new Noise(seed);
			const entries = p2m(random, 1 + random.next(40), seed % 3 === 0 ? random.next(600) : 0);
			const coded = new Uint8Array(entries.length * 8 + 4096);
			const from = codec.memory.buffer.byteLength - entries.length * 8;
			const table = new BigUint64Array(codec.memory.buffer, from, entries.length);
			table.set(entries);
			const length = codec.encodeTable(8, from, entries.length, ALL, OUT) >>> 0;
			coded.set(new Uint8Array(codec.memory.buffer, OUT, length));
			// What a superpage's first entry says is not read again, unless its chunk has so many runs that it may take
			// another form: in all others the rest of a superpage may be anything.
			for (let chunk = 0; chunk + 4096 <= entries.length; chunk += 4096) {
				const pages = [0, 1, 2, 3, 4, 5, 6, 7].map((page) => chunk + 512 * page);
				const superpages = pages.filter((page) => (Number((entries[page] as bigint) >> 48n) & 63) >= 9);
				if (superpages.length === 0 || runsOf(entries, chunk, 4096) > 410) continue;
				for (const page of superpages) table.fill(0xdead_beefn, page + 1, page + 512);
			}
			expect([seed, codec.encodeP2m(from, entries.length, OUT) >>> 0]).toEqual([seed, length]);
			const again = new Uint8Array(codec.memory.buffer, OUT, length);
			expect([seed, Buffer.compare(again, coded.subarray(0, length))]).toEqual([seed, 0]);
		}
	});
});

test.each(builds)("the $name build imports nothing, starts nothing and keeps no state", async ({ simd }) => {
	const binary = await compileBinary("assembly/test/codec.ts", { simd });
	const module = await WebAssembly.compile(binary);
	expect(WebAssembly.Module.imports(module)).toEqual([]);
	expect(WebAssembly.Module.exports(module).map(({ name }) => name)).toEqual(
		expect.arrayContaining(["memory", "xxh3_64", "encodeTable", "checkChunks", "decodeChunks", "runsNext"]),
	);
	const parsed = binaryen.readBinary(binary);
	expect(parsed.getStart()).toBe(0);
	expect(parsed.getNumGlobals()).toBe(0);
	expect(parsed.emitText()).not.toContain("memory.grow");
	parsed.dispose();
});
