/**
 * What check does to many frames or entries at once: with SIMD, and without. Owners and states are 16 bits of each frame
 * (sections.ts has them). None of these says which frame is to blame: where one answers no, the caller looks one by one.
 */

import { FLAG_SHIFT, HAS_OWNER, splitEntry } from "../sections";

/** 16 bits, four times. */
const EACH_HALF: u64 = u64.MAX_VALUE / 0xffff;

// Ranges of 16 octets and more end with a lane that reaches back into the ones before it: most are runs of a few lines, and a
// loop over what is left would be guessed wrong once for each of them.

/** Writes `value` into each 16 bits of [at, end). */
export function fillHalves(at: usize, end: usize, value: u32): void {
	if (ASC_FEATURE_SIMD && end - at >= 16) {
		const halves = i16x8.splat(<i16>value);
		for (; at + 16 <= end; at += 16) v128.store(at, halves);
		v128.store(end - 16, halves);
		return;
	}
	for (; at + 8 <= end; at += 8) store<u64>(at, <u64>value * EACH_HALF);
	for (; at < end; at += 2) store<u16>(at, <u16>value);
}

/** Whether each 16 bits of [at, end) have `expected` of the bits of `mask`. */
export function areAll(at: usize, end: usize, mask: u32, expected: u32): bool {
	let different: u64 = 0;
	if (ASC_FEATURE_SIMD && end - at >= 16) {
		const halves = i16x8.splat(<i16>expected);
		let d0 = v128.xor(v128.load(end - 16), halves);
		let d1 = v128.xor(v128.load(at), halves);
		for (; at + 32 <= end; at += 32) {
			d0 = v128.or(d0, v128.xor(v128.load(at), halves));
			d1 = v128.or(d1, v128.xor(v128.load(at, 16), halves));
		}
		if (at + 16 <= end) d1 = v128.or(d1, v128.xor(v128.load(at), halves));
		d0 = v128.or(d0, d1);
		different = i64x2.extract_lane(d0, 0) | i64x2.extract_lane(d0, 1);
	} else {
		for (; at + 8 <= end; at += 8) different |= load<u64>(at) ^ (<u64>expected * EACH_HALF);
		for (; at < end; at += 2) different |= <u64>(load<u16>(at) ^ <u16>expected);
	}
	return (different & (<u64>mask * EACH_HALF)) == 0;
}

/** Adds `bits` to each 16 bits of [at, end). */
export function addBits(at: usize, end: usize, bits: u32): void {
	if (ASC_FEATURE_SIMD && end - at >= 16) {
		const more = i16x8.splat(<i16>bits);
		for (; at + 16 <= end; at += 16) v128.store(at, v128.or(v128.load(at), more));
		v128.store(end - 16, v128.or(v128.load(end - 16), more));
		return;
	}
	for (; at + 8 <= end; at += 8) store<u64>(at, load<u64>(at) | (<u64>bits * EACH_HALF));
	for (; at < end; at += 2) store<u16>(at, load<u16>(at) | <u16>bits);
}

/** Owners and states of `count` frames from their entries, which are sound: splitEntry of each. */
export function splitEntries(from: usize, count: u32, owners: usize, states: usize): void {
	const end = from + ((<usize>count) << 3);
	if (ASC_FEATURE_SIMD) {
		const domids = i32x4.splat(HAS_OWNER - 1);
		const highest = i32x4.splat(HAS_OWNER);
		for (; from + 64 <= end; from += 64) {
			// Low halves of four entries each.
			const low = i32x4.shuffle(v128.load(from), v128.load(from, 16), 0, 2, 4, 6);
			const high = i32x4.shuffle(v128.load(from, 32), v128.load(from, 48), 0, 2, 4, 6);
			const a = v128.or(v128.and(low, domids), v128.and(i32x4.shr_u(low, 1), highest));
			const b = v128.or(v128.and(high, domids), v128.and(i32x4.shr_u(high, 1), highest));
			v128.store(owners, i16x8.narrow_i32x4_u(a, b));
			v128.store(states, i16x8.narrow_i32x4_u(i32x4.shr_u(low, FLAG_SHIFT), i32x4.shr_u(high, FLAG_SHIFT)));
			owners += 16;
			states += 16;
		}
	}
	for (; from < end; from += 8) {
		const split = splitEntry(load<u32>(from));
		store<u16>(owners, <u16>split);
		store<u16>(states, <u16>(split >> 16));
		owners += 2;
		states += 2;
	}
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
 * Whether the owners of all frames that `count` entries name are `owner`. The entries' MFNs are below the table's frames. A
 * frame anywhere is a miss: with no branch between them, they overlap.
 */
export function areOwned(owners: usize, at: usize, count: u32, owner: u32): bool {
	const end = at + ((<usize>count) << 3);
	let any: u32 = 0;
	let all: u32 = u32.MAX_VALUE;
	for (; at + 32 <= end; at += 32) {
		const a = <u32>load<u16>(owners + ((<usize>load<u32>(at)) << 1));
		const b = <u32>load<u16>(owners + ((<usize>load<u32>(at, 8)) << 1));
		const c = <u32>load<u16>(owners + ((<usize>load<u32>(at, 16)) << 1));
		const d = <u32>load<u16>(owners + ((<usize>load<u32>(at, 24)) << 1));
		any |= a | b | c | d;
		all &= a & b & c & d;
	}
	for (; at < end; at += 8) {
		const found = <u32>load<u16>(owners + ((<usize>load<u32>(at)) << 1));
		any |= found;
		all &= found;
	}
	return any == owner && all == owner;
}

/**
 * Marks the frames that `count` entries name as mapped, those that are zero left out: `owner` becomes `mapped`. Returns where
 * the first entry stands whose frame was mapped before, 0 for none. The owners are in the cache: somebody has just looked.
 */
export function takeFrames(owners: usize, at: usize, count: u32, owner: u32, mapped: u32): usize {
	for (const end = at + ((<usize>count) << 3); at < end; at += 8) {
		if (load<u64>(at) == 0) continue;
		const place = owners + ((<usize>load<u32>(at)) << 1);
		if (<u32>load<u16>(place) != owner) return at;
		store<u16>(place, <u16>mapped);
	}
	return 0;
}

/** areOwned and areAlike, of entries that may be zero: these are `first` to it. */
export function areOwnedOrZero(
	owners: usize,
	at: usize,
	count: u32,
	first: u64,
	mfnMask: u64,
	frames: u64,
	owner: u32,
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
		const found = <u32>load<u16>(owners + ((<usize>(isInside ? rest : 0)) << 1));
		any |= found;
		all &= found;
	}
	return different == 0 && any == owner && all == owner;
}
