/**
 * The inner loops of encoder and decoder, each twice: with SIMD, and without for engines that lack it and loaders that may
 * not touch vector registers. Both give the same results, octet for octet; the build takes one of them, the other is not
 * compiled.
 *
 * A block is 8 entries, 64 octets. What a run will hold in the next block is known before it is read, so that one test
 * covers a block:
 *
 *     table       | v0 | v1 |   | v2 | v3 |   | v4 | v5 |   | v6 | v7 |
 *     expected    | l+s|l+2s|   |l+3s l+4s|   |l+5s l+6s|   |l+7s l+8s|    l: the entry before, s: its bit 63, the stride
 *     xor, or     +---------+---+---------+---+---------+---+---------+----> any bit set: the run breaks in this block
 *
 * Nothing here looks after the MFN's carry: the sum would run on beyond bit 39 where a run must not. encode.ts finds out
 * whether that can have happened, and then takes the slow way.
 */
import { PACKED_PREFIX_BYTES } from "./chunk";

/** Entries of a block, and its octets. */
export const BLOCK_ENTRIES: u32 = 8;
export const BLOCK_BYTES: u32 = 64;
/** Times an octet: eight of them. */
const EACH_OCTET: u64 = u64.MAX_VALUE / 255;

/** What the run of `entry` holds next. */
export function successor(entry: u64): u64 {
	return entry + (entry >>> 63);
}

/**
 * Goes on while whole blocks continue the run that has come up to them.
 *
 * @param at first block; the entry before it is read as well
 * @param end behind the last one
 * @returns the block in which the run breaks, `end` if it does not
 */
export function skipRun(at: usize, end: usize): usize {
	if (ASC_FEATURE_SIMD) {
		// In vectors from the first load on: what is expected is known sooner than by way of general registers.
		const last = v128.load64_splat(at - 8);
		const stride = i64x2.shr_u(last, 63);
		const two = i64x2.add(stride, stride);
		const four = i64x2.add(two, two);
		const step = i64x2.add(four, four);
		let e0 = i64x2.add(last, i64x2.shuffle(stride, two, 0, 2));
		let e1 = i64x2.add(e0, two);
		let e2 = i64x2.add(e0, four);
		let e3 = i64x2.add(e1, four);
		for (; at < end; at += BLOCK_BYTES) {
			const d0 = v128.or(v128.xor(v128.load(at), e0), v128.xor(v128.load(at, 16), e1));
			const d1 = v128.or(v128.xor(v128.load(at, 32), e2), v128.xor(v128.load(at, 48), e3));
			if (v128.any_true(v128.or(d0, d1))) break;
			e0 = i64x2.add(e0, step);
			e1 = i64x2.add(e1, step);
			e2 = i64x2.add(e2, step);
			e3 = i64x2.add(e3, step);
		}
	} else {
		let next = load<u64>(at - 8);
		const stride = next >>> 63;
		for (; at < end; at += BLOCK_BYTES) {
			next += stride;
			let different = load<u64>(at) ^ next;
			next += stride;
			different |= load<u64>(at, 8) ^ next;
			next += stride;
			different |= load<u64>(at, 16) ^ next;
			next += stride;
			different |= load<u64>(at, 24) ^ next;
			next += stride;
			different |= load<u64>(at, 32) ^ next;
			next += stride;
			different |= load<u64>(at, 40) ^ next;
			next += stride;
			different |= load<u64>(at, 48) ^ next;
			next += stride;
			different |= load<u64>(at, 56) ^ next;
			if (different != 0) break;
		}
	}
	return at;
}

/** All ones in each lane whose entry continues the run of the entry before it; `at` is the first lane's. */
function continuing(at: usize): v128 {
	const before = v128.load(at - 8);
	return i64x2.eq(v128.load(at), i64x2.add(before, i64x2.shr_u(before, 63)));
}

function breakBit(at: usize): u32 {
	return <u32>(load<u64>(at) != successor(load<u64>(at - 8)));
}

/**
 * Where runs break in a block: bit 2i is set if entry i does not continue the run of the entry before it. The entry
 * before the block is read as well.
 *
 *     lanes of 64 bits, two entries each      -1 continues, 0 breaks
 *     narrowed to 32, 16 and 8 bits           two octets for each entry
 *     bitmask                                 two bits for each entry, of which one is kept
 */
export function blockBreaks(at: usize): u32 {
	if (ASC_FEATURE_SIMD) {
		const low = i16x8.narrow_i32x4_s(continuing(at), continuing(at + 16));
		const high = i16x8.narrow_i32x4_s(continuing(at + 32), continuing(at + 48));
		return ~i8x16.bitmask(i8x16.narrow_i16x8_s(low, high)) & 0x5555;
	}
	return (
		breakBit(at) |
		(breakBit(at + 8) << 2) |
		(breakBit(at + 16) << 4) |
		(breakBit(at + 24) << 6) |
		(breakBit(at + 32) << 8) |
		(breakBit(at + 40) << 10) |
		(breakBit(at + 48) << 12) |
		(breakBit(at + 56) << 14)
	);
}

/** The same for a chunk's first block, whose first entry has none before it. */
export function firstBreaks(at: usize): u32 {
	let breaks: u32 = 0;
	for (let i: u32 = 1; i < BLOCK_ENTRIES; i++) breaks |= breakBit(at + (i << 3)) << (i << 1);
	return breaks;
}

/**
 * How many runs the entries from `at` to `end` begin, each held against the one before it. Whole blocks; stops
 * at the first group of blocks with which there are more than `limit`.
 */
export function countBreaks(at: usize, end: usize, limit: u32): u32 {
	let breaks: u32 = 0;
	while (at < end && breaks <= limit) {
		const groupEnd = min<usize>(at + 8 * BLOCK_BYTES, end);
		const entries = <u32>(groupEnd - at) >>> 3;
		if (ASC_FEATURE_SIMD) {
			// Each lane that continues a run counts down by one.
			let sum0 = i64x2.splat(0);
			let sum1 = i64x2.splat(0);
			for (; at < groupEnd; at += BLOCK_BYTES) {
				sum0 = i64x2.add(sum0, i64x2.add(continuing(at), continuing(at + 16)));
				sum1 = i64x2.add(sum1, i64x2.add(continuing(at + 32), continuing(at + 48)));
			}
			const sum = i64x2.add(sum0, sum1);
			breaks += entries + <u32>(i64x2.extract_lane(sum, 0) + i64x2.extract_lane(sum, 1));
		} else {
			for (; at < groupEnd; at += 32) {
				breaks += breakBit(at) + breakBit(at + 8) + breakBit(at + 16) + breakBit(at + 24);
			}
		}
	}
	return breaks;
}

/** Every bit in which an entry of these blocks differs from `base`: of a block in each `step` octets. */
export function differences(at: usize, end: usize, step: u32, base: u64): u64 {
	if (ASC_FEATURE_SIMD) {
		const bases = i64x2.splat(base);
		let d0 = i64x2.splat(0);
		let d1 = i64x2.splat(0);
		for (; at < end; at += step) {
			d0 = v128.or(d0, v128.xor(v128.load(at), bases));
			d1 = v128.or(d1, v128.xor(v128.load(at, 16), bases));
			d0 = v128.or(d0, v128.xor(v128.load(at, 32), bases));
			d1 = v128.or(d1, v128.xor(v128.load(at, 48), bases));
		}
		return eitherLane(v128.or(d0, d1));
	}
	let different: u64 = 0;
	for (; at < end; at += step) {
		different |= (load<u64>(at) ^ base) | (load<u64>(at, 8) ^ base);
		different |= (load<u64>(at, 16) ^ base) | (load<u64>(at, 24) ^ base);
		different |= (load<u64>(at, 32) ^ base) | (load<u64>(at, 40) ^ base);
		different |= (load<u64>(at, 48) ^ base) | (load<u64>(at, 56) ^ base);
	}
	return different;
}

function eitherLane(lanes: v128): u64 {
	return i64x2.extract_lane(lanes, 0) | i64x2.extract_lane(lanes, 1);
}

/** As skipRun, for a table of octets: blocks of 64 octets that are all `value`. */
export function skipOctets(at: usize, end: usize, value: u8): usize {
	if (ASC_FEATURE_SIMD) {
		const expected = i8x16.splat(value);
		for (; at < end; at += BLOCK_BYTES) {
			const d0 = v128.or(v128.xor(v128.load(at), expected), v128.xor(v128.load(at, 16), expected));
			const d1 = v128.or(v128.xor(v128.load(at, 32), expected), v128.xor(v128.load(at, 48), expected));
			if (v128.any_true(v128.or(d0, d1))) break;
		}
	} else {
		const expected = <u64>value * EACH_OCTET;
		for (; at < end; at += BLOCK_BYTES) {
			const d0 = (load<u64>(at) ^ expected) | (load<u64>(at, 8) ^ expected);
			const d1 = (load<u64>(at, 16) ^ expected) | (load<u64>(at, 24) ^ expected);
			const d2 = (load<u64>(at, 32) ^ expected) | (load<u64>(at, 40) ^ expected);
			const d3 = (load<u64>(at, 48) ^ expected) | (load<u64>(at, 56) ^ expected);
			if ((d0 | d1 | d2 | d3) != 0) break;
		}
	}
	return at;
}

/** Eight octets, each zero where it repeats the octet before it; the octet before them is read as well. */
export function octetBreaks(at: usize): u64 {
	return load<u64>(at) ^ load<u64>(at - 1);
}

/** The same for a chunk's first eight, of which the first has none before it. */
export function firstOctetBreaks(at: usize): u64 {
	const octets = load<u64>(at);
	return octets ^ ((octets << 8) | (octets & 0xff));
}

/** Writes entries of a run, as many as `end` leaves room for. */
export function fillEntries(at: usize, end: usize, value: u64): void {
	const stride = value >>> 63;
	for (; at < end; at += 8) {
		store<u64>(at, value);
		value += stride;
	}
}

/**
 * Writes whole blocks of a run, from `at` until they reach `end`: beyond it up to 7 entries more, which belong to whoever
 * comes next and must be the caller's to write.
 */
export function fillBlocks(at: usize, end: usize, value: u64): void {
	const stride = value >>> 63;
	if (ASC_FEATURE_SIMD) {
		const two = i64x2.splat(stride << 1);
		const step = i64x2.splat(stride << 3);
		let e0 = i64x2.replace_lane(i64x2.splat(value), 1, value + stride);
		let e1 = i64x2.add(e0, two);
		let e2 = i64x2.add(e1, two);
		let e3 = i64x2.add(e2, two);
		do {
			v128.store(at, e0);
			v128.store(at, e1, 16);
			v128.store(at, e2, 32);
			v128.store(at, e3, 48);
			e0 = i64x2.add(e0, step);
			e1 = i64x2.add(e1, step);
			e2 = i64x2.add(e2, step);
			e3 = i64x2.add(e3, step);
			at += BLOCK_BYTES;
		} while (at < end);
	} else {
		do {
			store<u64>(at, value);
			value += stride;
			store<u64>(at, value, 8);
			value += stride;
			store<u64>(at, value, 16);
			value += stride;
			store<u64>(at, value, 24);
			value += stride;
			store<u64>(at, value, 32);
			value += stride;
			store<u64>(at, value, 40);
			value += stride;
			store<u64>(at, value, 48);
			value += stride;
			store<u64>(at, value, 56);
			value += stride;
			at += BLOCK_BYTES;
		} while (at < end);
	}
}

/** Octets that fillOctets writes at once. */
export const OCTETS_STEP: u32 = 16;

/** Writes `value` from `at` until `end` is reached: beyond it up to 15 octets more, as fillBlocks. */
export function fillOctets(at: usize, end: usize, value: u8): void {
	if (ASC_FEATURE_SIMD) {
		const octets = i8x16.splat(value);
		for (; at < end; at += OCTETS_STEP) v128.store(at, octets);
	} else {
		const octets = <u64>value * EACH_OCTET;
		for (; at < end; at += OCTETS_STEP) {
			store<u64>(at, octets);
			store<u64>(at, octets, 8);
		}
	}
}

/**
 * Which octet of two entries goes where, by width; 128 gives zero. A pair stands at the END of 16 octets:
 *
 *     entries     | a0 a1 a2 a3 a4 a5 a6 a7 | b0 b1 b2 b3 b4 b5 b6 b7 |
 *     width 3     | 0  0  0  0  0  0  0  0    0  0  a0 a1 a2 b0 b1 b2 |
 *
 * so that a store on the way down is mended by those that follow, and a load never leaves the payload: the 16 octets that
 * end with the first pair begin in the chunk's header.
 */
// biome-ignore format: a row for each width
const PACK_LANES: usize = memory.data<u8>([
	128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 0, 8,
	128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 0, 1, 8, 9,
	128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 0, 1, 2, 8, 9, 10,
	128, 128, 128, 128, 128, 128, 128, 128, 0, 1, 2, 3, 8, 9, 10, 11,
	128, 128, 128, 128, 128, 128, 0, 1, 2, 3, 4, 8, 9, 10, 11, 12,
	128, 128, 128, 128, 0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13,
	128, 128, 0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14,
]);
// biome-ignore format: a row for each width
const UNPACK_LANES: usize = memory.data<u8>([
	14, 128, 128, 128, 128, 128, 128, 128, 15, 128, 128, 128, 128, 128, 128, 128,
	12, 13, 128, 128, 128, 128, 128, 128, 14, 15, 128, 128, 128, 128, 128, 128,
	10, 11, 12, 128, 128, 128, 128, 128, 13, 14, 15, 128, 128, 128, 128, 128,
	8, 9, 10, 11, 128, 128, 128, 128, 12, 13, 14, 15, 128, 128, 128, 128,
	6, 7, 8, 9, 10, 128, 128, 128, 11, 12, 13, 14, 15, 128, 128, 128,
	4, 5, 6, 7, 8, 9, 128, 128, 10, 11, 12, 13, 14, 15, 128, 128,
	2, 3, 4, 5, 6, 7, 8, 128, 9, 10, 11, 12, 13, 14, 15, 128,
]);

/**
 * Writes the entries of a PACKED payload, whole blocks. From the last pair to the first: what a store puts before its pair
 * is mended by the next one, and before the first pair by the caller, who writes header and base afterwards.
 *
 * @returns every bit in which an entry differs from `base`: of those that the width does not hold, too
 */
export function packBlocks(table: usize, count: u32, width: u32, base: u64, payload: usize): u64 {
	const entries = payload + PACKED_PREFIX_BYTES;
	let from = table + (count << 3);
	let to = entries + count * width;
	if (ASC_FEATURE_SIMD) {
		const bases = i64x2.splat(base);
		let d0 = i64x2.splat(0);
		let d1 = i64x2.splat(0);
		if (width == 4) {
			// The low halves of four entries are 16 octets: nothing to mend, and no need to go down.
			to = entries;
			for (let at = table; at < from; at += BLOCK_BYTES) {
				const a = v128.xor(v128.load(at), bases);
				const b = v128.xor(v128.load(at, 16), bases);
				const c = v128.xor(v128.load(at, 32), bases);
				const d = v128.xor(v128.load(at, 48), bases);
				v128.store(to, i32x4.shuffle(a, b, 0, 2, 4, 6));
				v128.store(to, i32x4.shuffle(c, d, 0, 2, 4, 6), 16);
				d0 = v128.or(d0, v128.or(a, b));
				d1 = v128.or(d1, v128.or(c, d));
				to += 32;
			}
			return eitherLane(v128.or(d0, d1));
		}
		const lanes = v128.load(PACK_LANES + ((width - 1) << 4));
		const pair = width << 1;
		while (from > table) {
			from -= BLOCK_BYTES;
			const a = v128.xor(v128.load(from), bases);
			const b = v128.xor(v128.load(from, 16), bases);
			const c = v128.xor(v128.load(from, 32), bases);
			const d = v128.xor(v128.load(from, 48), bases);
			v128.store(to - 16, i8x16.swizzle(d, lanes));
			to -= pair;
			v128.store(to - 16, i8x16.swizzle(c, lanes));
			to -= pair;
			v128.store(to - 16, i8x16.swizzle(b, lanes));
			to -= pair;
			v128.store(to - 16, i8x16.swizzle(a, lanes));
			to -= pair;
			d0 = v128.or(d0, v128.or(a, b));
			d1 = v128.or(d1, v128.or(c, d));
		}
		return eitherLane(v128.or(d0, d1));
	}
	const shift = 64 - (width << 3);
	let different: u64 = 0;
	while (from > table) {
		from -= 32;
		const a = load<u64>(from) ^ base;
		const b = load<u64>(from, 8) ^ base;
		const c = load<u64>(from, 16) ^ base;
		const d = load<u64>(from, 24) ^ base;
		store<u64>(to - 8, d << shift);
		to -= width;
		store<u64>(to - 8, c << shift);
		to -= width;
		store<u64>(to - 8, b << shift);
		to -= width;
		store<u64>(to - 8, a << shift);
		to -= width;
		different |= a | b | c | d;
	}
	return different;
}

/** Reads whole blocks of a PACKED payload's entries. */
export function unpackBlocks(payload: usize, count: u32, width: u32, base: u64, dst: usize): void {
	let from = payload + PACKED_PREFIX_BYTES;
	const end = dst + (count << 3);
	if (ASC_FEATURE_SIMD) {
		const bases = i64x2.splat(base);
		if (width == 4) {
			const zero = i64x2.splat(0);
			for (; dst < end; dst += BLOCK_BYTES) {
				const low = v128.load(from);
				const high = v128.load(from, 16);
				v128.store(dst, v128.xor(i32x4.shuffle(low, zero, 0, 4, 1, 5), bases));
				v128.store(dst, v128.xor(i32x4.shuffle(low, zero, 2, 6, 3, 7), bases), 16);
				v128.store(dst, v128.xor(i32x4.shuffle(high, zero, 0, 4, 1, 5), bases), 32);
				v128.store(dst, v128.xor(i32x4.shuffle(high, zero, 2, 6, 3, 7), bases), 48);
				from += 32;
			}
			return;
		}
		const lanes = v128.load(UNPACK_LANES + ((width - 1) << 4));
		const pair = width << 1;
		from += pair - 16;
		for (; dst < end; dst += BLOCK_BYTES) {
			v128.store(dst, v128.xor(i8x16.swizzle(v128.load(from), lanes), bases));
			from += pair;
			v128.store(dst, v128.xor(i8x16.swizzle(v128.load(from), lanes), bases), 16);
			from += pair;
			v128.store(dst, v128.xor(i8x16.swizzle(v128.load(from), lanes), bases), 32);
			from += pair;
			v128.store(dst, v128.xor(i8x16.swizzle(v128.load(from), lanes), bases), 48);
			from += pair;
		}
	} else {
		const shift = 64 - (width << 3);
		from += width - 8;
		for (; dst < end; dst += 32) {
			store<u64>(dst, base ^ (load<u64>(from) >>> shift));
			from += width;
			store<u64>(dst, base ^ (load<u64>(from) >>> shift), 8);
			from += width;
			store<u64>(dst, base ^ (load<u64>(from) >>> shift), 16);
			from += width;
			store<u64>(dst, base ^ (load<u64>(from) >>> shift), 24);
			from += width;
		}
	}
}
