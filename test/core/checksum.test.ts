import { createXXHash3 } from "hash-wasm";
import { beforeAll, describe, expect, test } from "vitest";
import { builds, compile } from "../support/compile.ts";

interface Codec {
	memory: WebAssembly.Memory;
	xxh3_64(ptr: number, len: number): bigint;
}

interface Pieces {
	memory: WebAssembly.Memory;
	hashStateBytes(): number;
	hashStart(state: number): void;
	hashMore(state: number, ptr: number, bytes: number): void;
	hashEnd(state: number): bigint;
}

/** Octets that differ everywhere and are the same in every run. */
function noise(length: number, seed: number): Uint8Array {
	const bytes = new Uint8Array(length);
	let state = seed | 1;
	for (let i = 0; i < length; i++) {
		state = (Math.imul(state, 1664525) + 1013904223) | 0;
		bytes[i] = state >>> 24;
	}
	return bytes;
}

describe.each(builds)("XXH3-64, $name build", ({ simd }) => {
	let codec: Codec;
	let hasher: Awaited<ReturnType<typeof createXXHash3>>;

	beforeAll(async () => {
		codec = await compile<Codec>("assembly/test/codec.ts", { simd });
		hasher = await createXXHash3(0, 0);
	});

	function reference(bytes: Uint8Array): bigint {
		return BigInt(`0x${hasher.init().update(bytes).digest("hex")}`);
	}

	/** Ends with the memory: a read beyond the window would trap. */
	function ours(bytes: Uint8Array): bigint {
		const ptr = codec.memory.buffer.byteLength - bytes.length;
		new Uint8Array(codec.memory.buffer).set(bytes, ptr);
		return BigInt.asUintN(64, codec.xxh3_64(ptr, bytes.length));
	}

	test("published value of the empty input", () => {
		expect(ours(new Uint8Array(0))).toBe(0x2d06800538d394c2n);
	});

	test("every length from 0 to 3200, across all short forms and three blocks", () => {
		for (let length = 0; length <= 3200; length++) {
			const bytes = noise(length, length * 7919);
			expect(ours(bytes), `length ${length}`).toBe(reference(bytes));
		}
	});

	test.each([4095, 4096, 4097, 65535, 65536, 65537, 1_000_003])("%i octets", (length) => {
		const bytes = noise(length, length);
		expect(ours(bytes)).toBe(reference(bytes));
	});

	test.each([0x00, 0xff])("constant octets %i", (octet) => {
		for (const length of [1, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 1024, 1025, 2048, 5000]) {
			const bytes = new Uint8Array(length).fill(octet);
			expect(ours(bytes), `length ${length}`).toBe(reference(bytes));
		}
	});

	test("the octets count, not their address", () => {
		const bytes = noise(777, 5);
		const memory = new Uint8Array(codec.memory.buffer);
		for (let shift = 0; shift < 16; shift++) {
			memory.set(bytes, 70_000 + shift);
			expect(BigInt.asUintN(64, codec.xxh3_64(70_000 + shift, bytes.length))).toBe(reference(bytes));
		}
	});

	test("a change of any one bit changes it", () => {
		for (const length of [1, 5, 12, 100, 200, 300, 1100]) {
			const bytes = noise(length, 99);
			const before = ours(bytes);
			for (let bit = 0; bit < length * 8; bit++) {
				bytes[bit >>> 3]! ^= 1 << (bit & 7);
				expect(ours(bytes)).not.toBe(before);
				bytes[bit >>> 3]! ^= 1 << (bit & 7);
			}
		}
	});

	describe("piece by piece", () => {
		const STATE = 65_536;
		const INPUT = 131_072;
		let pieces: Pieces;

		/** Takes the octets in as pieces of these lengths, the last one repeated; each piece ends with the memory's end or not. */
		function inPieces(bytes: Uint8Array, lengths: readonly number[]): bigint {
			const memory = new Uint8Array(pieces.memory.buffer);
			const stateBytes = pieces.hashStateBytes();
			memory.fill(0xa5, STATE, STATE + stateBytes + 64);
			pieces.hashStart(STATE);
			for (let at = 0, i = 0; at < bytes.length; i++) {
				const length = Math.min(bytes.length - at, lengths[Math.min(i, lengths.length - 1)] as number);
				memory.set(bytes.subarray(at, at + length), INPUT);
				pieces.hashMore(STATE, INPUT, length);
				memory.fill(0x5a, INPUT, INPUT + length);
				at += length;
			}
			const sum = BigInt.asUintN(64, pieces.hashEnd(STATE));
			const behind = memory.subarray(STATE + stateBytes, STATE + stateBytes + 64);
			expect(behind.every((octet) => octet === 0xa5)).toBe(true);
			return sum;
		}

		beforeAll(async () => {
			pieces = await compile<Pieces>("assembly/test/hashSteps.ts", { simd });
			pieces.memory.grow(Math.max(0, 4 - pieces.memory.buffer.byteLength / 65_536));
		});

		test("every length from 0 to 1400, octets one by one, and in pieces of 7, 64, 255, 256, 257", () => {
			for (let length = 0; length <= 1400; length += length < 700 ? 1 : 7) {
				const bytes = noise(length, length * 31);
				const expected = reference(bytes);
				for (const piece of [1, 7, 64, 255, 256, 257, 5000]) {
					expect(inPieces(bytes, [piece]), `${length} octets by ${piece}`).toBe(expected);
				}
			}
		});

		test("pieces of any lengths, empty ones among them", () => {
			let state = 1;
			const next = (most: number) => {
				state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
				return (state >>> 8) % most;
			};
			for (let turn = 0; turn < 300; turn++) {
				const bytes = noise(next(40_000), turn);
				const lengths = Array.from({ length: 50 }, () => next(turn % 3 === 0 ? 4 : 3000));
				expect(inPieces(bytes, [...lengths, 1 + next(5000)]), `turn ${turn}`).toBe(reference(bytes));
			}
		});
	});
});
