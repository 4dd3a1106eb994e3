/**
 * Many frames' words at once (sections.ts has their bits), and what they are held against: with SIMD, and without. None of
 * these says which frame is to blame: where one answers no, the caller looks at them one by one.
 */

const STEP_BYTES: usize = 64;

/** Writes `value` into the words of [at, end). */
export function fillWords(at: usize, end: usize, value: u32): void {
	if (ASC_FEATURE_SIMD) {
		const words = i32x4.splat(value);
		for (; at + 16 <= end; at += 16) v128.store(at, words);
	} else {
		const words = ((<u64>value) << 32) | value;
		for (; at + 8 <= end; at += 8) store<u64>(at, words);
	}
	for (; at < end; at += 4) store<u32>(at, value);
}

/** Whether every word of [at, end) has `expected` of the bits of `mask`. */
export function areAll(at: usize, end: usize, mask: u32, expected: u32): bool {
	let different: u32 = 0;
	if (ASC_FEATURE_SIMD) {
		const words = i32x4.splat(expected);
		let d0 = i32x4.splat(0);
		let d1 = i32x4.splat(0);
		for (; at + STEP_BYTES <= end; at += STEP_BYTES) {
			d0 = v128.or(d0, v128.or(v128.xor(v128.load(at), words), v128.xor(v128.load(at, 16), words)));
			d1 = v128.or(d1, v128.or(v128.xor(v128.load(at, 32), words), v128.xor(v128.load(at, 48), words)));
		}
		if (v128.any_true(v128.and(v128.or(d0, d1), i32x4.splat(mask)))) return false;
	}
	for (; at < end; at += 4) different |= load<u32>(at) ^ expected;
	return (different & mask) == 0;
}

/** Adds `bits` to the words of [at, end). Whether all of them had the bits of `mask`. */
export function addBits(at: usize, end: usize, mask: u32, bits: u32): bool {
	let all = mask;
	if (ASC_FEATURE_SIMD) {
		const more = i32x4.splat(bits);
		let common = i32x4.splat(-1);
		for (; at + 16 <= end; at += 16) {
			const words = v128.load(at);
			common = v128.and(common, words);
			v128.store(at, v128.or(words, more));
		}
		if (v128.any_true(v128.andnot(i32x4.splat(mask), common))) return false;
	}
	for (; at < end; at += 4) {
		const word = load<u32>(at);
		all &= word;
		store<u32>(at, word | bits);
	}
	return all == mask;
}

/**
 * Whether each of `count` entries of 64 bits is zero or `usual` in all bits but those of `free`. The zeros among them are
 * counted in the low half of what it returns; a no is u64.MAX_VALUE.
 */
export function areUsual(at: usize, count: u32, usual: u64, free: u64): u64 {
	const end = at + ((<usize>count) << 3);
	let different: u64 = 0;
	let zeros: u64 = 0;
	if (ASC_FEATURE_SIMD) {
		const expected = i64x2.splat(usual);
		const none = i64x2.splat(0);
		let d = none;
		let z = none;
		for (; at + 16 <= end; at += 16) {
			const entries = v128.load(at);
			const isNone = i64x2.eq(entries, none);
			d = v128.or(d, v128.andnot(v128.xor(entries, expected), isNone));
			// All ones in the lane of a zero: it counts down by one.
			z = i64x2.sub(z, isNone);
		}
		different = i64x2.extract_lane(d, 0) | i64x2.extract_lane(d, 1);
		zeros = i64x2.extract_lane(z, 0) + i64x2.extract_lane(z, 1);
	}
	for (; at < end; at += 8) {
		const entry = load<u64>(at);
		zeros += <u64>(entry == 0);
		different |= entry == 0 ? 0 : entry ^ usual;
	}
	return (different & ~free) == 0 ? zeros : u64.MAX_VALUE;
}

/**
 * Whether each of `count` entries has all bits of `first` beside those of the MFN, and an MFN below `frames`: with `frames`
 * at most 2^32, which a host's are by far.
 */
export function areAlike(at: usize, count: u32, first: u64, mfnMask: u64, frames: u64): bool {
	const end = at + ((<usize>count) << 3);
	const alike = first & ~mfnMask;
	// As long as the bits above are alike, an MFN that is too high makes this negative.
	const last = alike + (frames - 1);
	let different: u64 = 0;
	let beyond: u64 = 0;
	if (ASC_FEATURE_SIMD) {
		const expected = i64x2.splat(alike);
		const limit = i64x2.splat(last);
		let d = i64x2.splat(0);
		let b = i64x2.splat(0);
		for (; at + 32 <= end; at += 32) {
			const low = v128.load(at);
			const high = v128.load(at, 16);
			d = v128.or(d, v128.or(v128.xor(low, expected), v128.xor(high, expected)));
			b = v128.or(b, v128.or(i64x2.sub(limit, low), i64x2.sub(limit, high)));
		}
		different = i64x2.extract_lane(d, 0) | i64x2.extract_lane(d, 1);
		beyond = i64x2.extract_lane(b, 0) | i64x2.extract_lane(b, 1);
	}
	for (; at < end; at += 8) {
		const entry = load<u64>(at);
		different |= entry ^ alike;
		beyond |= last - entry;
	}
	return (different & ~mfnMask) == 0 && beyond >>> 63 == 0;
}

/**
 * Whether the words of all frames that `count` entries name have `expected` of the bits of `mask`. The entries' MFNs are
 * below the table's frames. A frame anywhere is a miss: with no branch between them, they overlap.
 */
export function areOwned(words: usize, at: usize, count: u32, mask: u32, expected: u32): bool {
	const end = at + ((<usize>count) << 3);
	let any: u32 = 0;
	let all: u32 = u32.MAX_VALUE;
	for (; at + 32 <= end; at += 32) {
		const a = load<u32>(words + ((<usize>load<u32>(at)) << 2));
		const b = load<u32>(words + ((<usize>load<u32>(at, 8)) << 2));
		const c = load<u32>(words + ((<usize>load<u32>(at, 16)) << 2));
		const d = load<u32>(words + ((<usize>load<u32>(at, 24)) << 2));
		any |= a | b | c | d;
		all &= a & b & c & d;
	}
	for (; at < end; at += 8) {
		const word = load<u32>(words + ((<usize>load<u32>(at)) << 2));
		any |= word;
		all &= word;
	}
	return (any & mask) == expected && (all & mask) == expected;
}

/** The same and areAlike, of entries that may be zero: these are `first` to it. */
export function areOwnedOrZero(
	words: usize,
	at: usize,
	count: u32,
	first: u64,
	mfnMask: u64,
	frames: u64,
	mask: u32,
	expected: u32,
): bool {
	const end = at + ((<usize>count) << 3);
	const alike = first & ~mfnMask;
	let any: u32 = 0;
	let all: u32 = u32.MAX_VALUE;
	let different: u64 = 0;
	for (; at < end; at += 8) {
		let entry = load<u64>(at);
		entry = entry == 0 ? first : entry;
		// What is no MFN below `frames` is seen, and not followed.
		const rest = entry ^ alike;
		const isInside = rest < frames;
		different |= <u64>!isInside;
		const word = load<u32>(words + ((<usize>(isInside ? rest : 0)) << 2));
		any |= word;
		all &= word;
	}
	return different == 0 && (any & mask) == expected && (all & mask) == expected;
}
