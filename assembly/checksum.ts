// biome-ignore-all lint/correctness/noPrecisionLoss: AssemblyScript's u64 literals are exact
/**
 * XXH3-64, seed 0, default secret, bit-exact with the reference at every length.
 *
 * It guards against damage in transit, not against forgery: a hostile stream carries a right checksum, so every rule of
 * check() holds without it.
 *
 * The seed is zero throughout, so the terms of the reference that add or subtract it are left out.
 */

const PRIME32_1: u64 = 0x9e3779b1;
const PRIME32_2: u64 = 0x85ebca77;
const PRIME32_3: u64 = 0xc2b2ae3d;
const PRIME64_1: u64 = 0x9e3779b185ebca87;
const PRIME64_2: u64 = 0xc2b2ae3d27d4eb4f;
const PRIME64_3: u64 = 0x165667b19e3779f9;
const PRIME64_4: u64 = 0x85ebca77c2b2ae63;
const PRIME64_5: u64 = 0x27d4eb2f165667c5;
/** Multiplier of the final mix of XXH3; differs from PRIME64_3 in the middle. */
const PRIME_MX1: u64 = 0x165667919e3779f9;
/** Multiplier of the mix of 4 to 8 octets. */
const PRIME_MX2: u64 = 0x9fb21c651e98df25;

const LOW32: u64 = 0xffffffff;

/** Octets taken in at once by the long form: 8 lanes of 8. */
const STRIPE_BYTES: u32 = 64;
/** Where in the secret the long form's last stripe finds its key: 192 - 64 - 7. */
const LAST_STRIPE_KEY: u32 = 121;
/** Where the scramble that ends a block of 16 stripes finds its key: 192 - 64. */
const SCRAMBLE_KEY: u32 = 128;
const MERGE_KEY: u32 = 11;
/** How much further on the next stripe finds its key. */
const STRIPE_KEY_STEP: u32 = 8;

/** The reference's default secret (kSecret), 192 octets. Static data: no start function writes it. */
// biome-ignore format: twelve rows of 16
const SECRET: usize = memory.data<u8>([
	0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
	0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
	0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
	0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
	0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
	0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
	0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
	0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
	0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
	0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
	0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
	0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
]);

/** High half XOR low half of the 128-bit product, from 32-bit halves: WebAssembly has no wide multiply. */
function foldedProduct(a: u64, b: u64): u64 {
	const lowLow = (a & LOW32) * (b & LOW32);
	const highLow = (a >>> 32) * (b & LOW32);
	const lowHigh = (a & LOW32) * (b >>> 32);
	const highHigh = (a >>> 32) * (b >>> 32);
	// Cannot overflow: (2^32-1)^2 + 2 * (2^32-1) is 2^64-1.
	const cross = (lowLow >>> 32) + (highLow & LOW32) + lowHigh;
	const upper = (highLow >>> 32) + (cross >>> 32) + highHigh;
	const lower = (cross << 32) | (lowLow & LOW32);
	return upper ^ lower;
}

function avalanche(hash: u64): u64 {
	hash ^= hash >>> 37;
	hash *= PRIME_MX1;
	return hash ^ (hash >>> 32);
}

/** The final mix of XXH64, which XXH3 keeps for 0 to 3 octets. */
function avalancheXxh64(hash: u64): u64 {
	hash ^= hash >>> 33;
	hash *= PRIME64_2;
	hash ^= hash >>> 29;
	hash *= PRIME64_3;
	return hash ^ (hash >>> 32);
}

function mix16(ptr: usize, key: usize): u64 {
	return foldedProduct(load<u64>(ptr) ^ load<u64>(key), load<u64>(ptr, 8) ^ load<u64>(key, 8));
}

function hash0to16(ptr: usize, len: u32): u64 {
	if (len > 8) {
		const low = load<u64>(ptr) ^ (load<u64>(SECRET, 24) ^ load<u64>(SECRET, 32));
		const high = load<u64>(ptr + len - 8) ^ (load<u64>(SECRET, 40) ^ load<u64>(SECRET, 48));
		return avalanche(<u64>len + bswap<u64>(low) + high + foldedProduct(low, high));
	}
	if (len >= 4) {
		const joined = <u64>load<u32>(ptr + len - 4) + ((<u64>load<u32>(ptr)) << 32);
		let hash = joined ^ (load<u64>(SECRET, 8) ^ load<u64>(SECRET, 16));
		hash ^= rotl<u64>(hash, 49) ^ rotl<u64>(hash, 24);
		hash *= PRIME_MX2;
		hash ^= (hash >>> 35) + <u64>len;
		hash *= PRIME_MX2;
		return hash ^ (hash >>> 28);
	}
	if (len > 0) {
		const first = <u32>load<u8>(ptr);
		const middle = <u32>load<u8>(ptr + (len >>> 1));
		const last = <u32>load<u8>(ptr + len - 1);
		const joined = (first << 16) | (middle << 24) | last | (len << 8);
		return avalancheXxh64(<u64>(joined ^ load<u32>(SECRET) ^ load<u32>(SECRET, 4)));
	}
	return avalancheXxh64(load<u64>(SECRET, 56) ^ load<u64>(SECRET, 64));
}

/** Pairs of 16 octets from both ends inwards; the pairs overlap in the middle. */
function hash17to128(ptr: usize, len: u32): u64 {
	const end = ptr + len;
	let sum = <u64>len * PRIME64_1;
	if (len > 32) {
		if (len > 64) {
			if (len > 96) {
				sum += mix16(ptr + 48, SECRET + 96) + mix16(end - 64, SECRET + 112);
			}
			sum += mix16(ptr + 32, SECRET + 64) + mix16(end - 48, SECRET + 80);
		}
		sum += mix16(ptr + 16, SECRET + 32) + mix16(end - 32, SECRET + 48);
	}
	sum += mix16(ptr, SECRET) + mix16(end - 16, SECRET + 16);
	return avalanche(sum);
}

function hash129to240(ptr: usize, len: u32): u64 {
	let sum = <u64>len * PRIME64_1;
	for (let at: u32 = 0; at < 128; at += 16) {
		sum += mix16(ptr + at, SECRET + at);
	}
	sum = avalanche(sum);
	const whole = len & ~15;
	for (let at: u32 = 128; at < whole; at += 16) {
		sum += mix16(ptr + at, SECRET + at - 125);
	}
	sum += mix16(ptr + len - 16, SECRET + 119);
	return avalanche(sum);
}

function laneProduct(keyed: u64): u64 {
	return (keyed & LOW32) * (keyed >>> 32);
}

function scrambled(lane: u64, key: u64): u64 {
	return (lane ^ (lane >>> 47) ^ key) * PRIME32_1;
}

/** The same for two lanes. */
function scrambledPair(lanes: v128, key: usize): v128 {
	const mixed = v128.xor(v128.xor(lanes, i64x2.shr_u(lanes, 47)), v128.load(key));
	return i64x2.mul(mixed, i64x2.splat(PRIME32_1));
}

/** Each lane of a pair with the input of the other one. */
function crossed(lanes: v128, input: v128): v128 {
	return i64x2.add(lanes, i64x2.shuffle(input, input, 1, 0));
}

function merged(len: u32, l0: u64, l1: u64, l2: u64, l3: u64, l4: u64, l5: u64, l6: u64, l7: u64): u64 {
	const key = SECRET + MERGE_KEY;
	return avalanche(
		<u64>len * PRIME64_1 +
			foldedProduct(l0 ^ load<u64>(key), l1 ^ load<u64>(key, 8)) +
			foldedProduct(l2 ^ load<u64>(key, 16), l3 ^ load<u64>(key, 24)) +
			foldedProduct(l4 ^ load<u64>(key, 32), l5 ^ load<u64>(key, 40)) +
			foldedProduct(l6 ^ load<u64>(key, 48), l7 ^ load<u64>(key, 56)),
	);
}

/**
 * More than 240 octets. Stripes of 64 octets feed 8 lanes; a block is 16 stripes, each with its key 8 octets further on
 * in the secret, and ends with a scramble of the lanes. The last stripe ends with the input, overlapping the one before.
 *
 *     stripe  | x0 | x1 | x2 | x3 | x4 | x5 | x6 | x7 |   lane[i]     += low32(xi ^ ki) * high32(xi ^ ki)
 *     lanes   | l0 | l1 | l2 | l3 | l4 | l5 | l6 | l7 |   lane[i ^ 1] += xi
 */
function hashLong(ptr: usize, len: u32): u64 {
	let l0 = PRIME32_3;
	let l1 = PRIME64_1;
	let l2 = PRIME64_2;
	let l3 = PRIME64_3;
	let l4 = PRIME64_4;
	let l5 = PRIME32_2;
	let l6 = PRIME64_5;
	let l7 = PRIME32_1;
	let at = ptr;
	let key = SECRET;
	// A length that is a multiple of 64 leaves its last 64 octets to the last stripe: hence len - 1.
	for (let left = (len - 1) / STRIPE_BYTES + 1; left > 0; left--) {
		if (left == 1) {
			at = ptr + len - STRIPE_BYTES;
			key = SECRET + LAST_STRIPE_KEY;
		}
		const x0 = load<u64>(at);
		const x1 = load<u64>(at, 8);
		const x2 = load<u64>(at, 16);
		const x3 = load<u64>(at, 24);
		const x4 = load<u64>(at, 32);
		const x5 = load<u64>(at, 40);
		const x6 = load<u64>(at, 48);
		const x7 = load<u64>(at, 56);
		l0 += x1 + laneProduct(x0 ^ load<u64>(key));
		l1 += x0 + laneProduct(x1 ^ load<u64>(key, 8));
		l2 += x3 + laneProduct(x2 ^ load<u64>(key, 16));
		l3 += x2 + laneProduct(x3 ^ load<u64>(key, 24));
		l4 += x5 + laneProduct(x4 ^ load<u64>(key, 32));
		l5 += x4 + laneProduct(x5 ^ load<u64>(key, 40));
		l6 += x7 + laneProduct(x6 ^ load<u64>(key, 48));
		l7 += x6 + laneProduct(x7 ^ load<u64>(key, 56));
		at += STRIPE_BYTES;
		key += STRIPE_KEY_STEP;
		// The last stripe's key never ends here.
		if (key == SECRET + SCRAMBLE_KEY) {
			l0 = scrambled(l0, load<u64>(key));
			l1 = scrambled(l1, load<u64>(key, 8));
			l2 = scrambled(l2, load<u64>(key, 16));
			l3 = scrambled(l3, load<u64>(key, 24));
			l4 = scrambled(l4, load<u64>(key, 32));
			l5 = scrambled(l5, load<u64>(key, 40));
			l6 = scrambled(l6, load<u64>(key, 48));
			l7 = scrambled(l7, load<u64>(key, 56));
			key = SECRET;
		}
	}
	return merged(len, l0, l1, l2, l3, l4, l5, l6, l7);
}

/**
 * hashLong with SIMD: a pair of lanes in each of four vectors. The products of two pairs come from one vector of low
 * halves and one of high halves:
 *
 *     keyed a, b    | a0 low | a0 high | a1 low | a1 high |   | b0 low | b0 high | b1 low | b1 high |
 *     shuffled      | a0 low | a1 low  | b0 low | b1 low  |   | a0 high| a1 high | b0 high| b1 high |
 *     extmul_low    |     a0      |      a1     |    extmul_high   |     b0      |      b1     |
 */
function hashLongPairs(ptr: usize, len: u32): u64 {
	let a = i64x2(PRIME32_3, PRIME64_1);
	let b = i64x2(PRIME64_2, PRIME64_3);
	let c = i64x2(PRIME64_4, PRIME32_2);
	let d = i64x2(PRIME64_5, PRIME32_1);
	let at = ptr;
	let key = SECRET;
	for (let left = (len - 1) / STRIPE_BYTES + 1; left > 0; left--) {
		if (left == 1) {
			at = ptr + len - STRIPE_BYTES;
			key = SECRET + LAST_STRIPE_KEY;
		}
		const xa = v128.load(at);
		const xb = v128.load(at, 16);
		const xc = v128.load(at, 32);
		const xd = v128.load(at, 48);
		const ka = v128.xor(xa, v128.load(key));
		const kb = v128.xor(xb, v128.load(key, 16));
		const kc = v128.xor(xc, v128.load(key, 32));
		const kd = v128.xor(xd, v128.load(key, 48));
		const lowAB = i32x4.shuffle(ka, kb, 0, 2, 4, 6);
		const highAB = i32x4.shuffle(ka, kb, 1, 3, 5, 7);
		const lowCD = i32x4.shuffle(kc, kd, 0, 2, 4, 6);
		const highCD = i32x4.shuffle(kc, kd, 1, 3, 5, 7);
		a = i64x2.add(crossed(a, xa), i64x2.extmul_low_i32x4_u(lowAB, highAB));
		b = i64x2.add(crossed(b, xb), i64x2.extmul_high_i32x4_u(lowAB, highAB));
		c = i64x2.add(crossed(c, xc), i64x2.extmul_low_i32x4_u(lowCD, highCD));
		d = i64x2.add(crossed(d, xd), i64x2.extmul_high_i32x4_u(lowCD, highCD));
		at += STRIPE_BYTES;
		key += STRIPE_KEY_STEP;
		if (key == SECRET + SCRAMBLE_KEY) {
			a = scrambledPair(a, key);
			b = scrambledPair(b, key + 16);
			c = scrambledPair(c, key + 32);
			d = scrambledPair(d, key + 48);
			key = SECRET;
		}
	}
	return merged(
		len,
		i64x2.extract_lane(a, 0),
		i64x2.extract_lane(a, 1),
		i64x2.extract_lane(b, 0),
		i64x2.extract_lane(b, 1),
		i64x2.extract_lane(c, 0),
		i64x2.extract_lane(c, 1),
		i64x2.extract_lane(d, 0),
		i64x2.extract_lane(d, 1),
	);
}

/**
 * The checksum of a window.
 *
 * @param ptr start of the window, any alignment
 * @param len octets in the window, 0 upwards; the caller has made sure that all of them lie in memory
 */
export function xxh3_64(ptr: usize, len: usize): u64 {
	const bytes = <u32>len;
	if (bytes <= 16) {
		return hash0to16(ptr, bytes);
	}
	if (bytes <= 128) {
		return hash17to128(ptr, bytes);
	}
	if (bytes <= 240) {
		return hash129to240(ptr, bytes);
	}
	return ASC_FEATURE_SIMD ? hashLongPairs(ptr, bytes) : hashLong(ptr, bytes);
}

// --- piece by piece ---
//
// The same value of octets that come in pieces, as of all of them in a row.
//
// Up to 240 octets the value depends on all of them at once, and the long form treats its last 64 octets apart: so the last
// octets are held back in a buffer, and go into the lanes only when more follow. The state lies in the caller's memory:
//
//     0        64                320            384      392        396
//     | lanes  | held back, 256  | last stripe  | octets | held     | key |
//       8 u64                      64             u64      u32        u32
//
// Behind what is held back stand the octets before it, so that the last stripe is there even where it began in what has been
// taken in: pieces are taken in 256 octets at a time, and of these the last 64 are kept at the buffer's end.

const BUFFER_AT: u32 = 64;
const BUFFER_BYTES: u32 = 256;
const LAST_AT: u32 = BUFFER_AT + BUFFER_BYTES;
const OCTETS_AT: u32 = LAST_AT + STRIPE_BYTES;
const HELD_AT: u32 = OCTETS_AT + 8;
/** Octets from the secret's start to the next stripe's key. */
const KEY_AT: u32 = HELD_AT + 4;
/** Octets of a state, 8-aligned. */
export const HASH_STATE_BYTES: u32 = KEY_AT + 4;

/** The most octets that have a form of their own. */
const SHORT_BYTES: u64 = 240;

/** Begins a hash. */
export function hashStart(state: usize): void {
	store<u64>(state, PRIME32_3);
	store<u64>(state, PRIME64_1, 8);
	store<u64>(state, PRIME64_2, 16);
	store<u64>(state, PRIME64_3, 24);
	store<u64>(state, PRIME64_4, 32);
	store<u64>(state, PRIME32_2, 40);
	store<u64>(state, PRIME64_5, 48);
	store<u64>(state, PRIME32_1, 56);
	store<u64>(state + OCTETS_AT, 0);
	store<u32>(state + HELD_AT, 0);
	store<u32>(state + KEY_AT, 0);
}

/** Whole stripes into the lanes. `isLast`: the input's last one, which has a key of its own and is followed by no scramble. */
function stripesSlowly(state: usize, at: usize, count: u32, isLast: bool): void {
	let key = SECRET + (isLast ? LAST_STRIPE_KEY : load<u32>(state + KEY_AT));
	for (let left = count; left > 0; left--) {
		for (let lane: u32 = 0; lane < 64; lane += 8) {
			const input = load<u64>(at + lane);
			const other = state + (lane ^ 8);
			store<u64>(other, load<u64>(other) + input);
			store<u64>(state + lane, load<u64>(state + lane) + laneProduct(input ^ load<u64>(key + lane)));
		}
		at += STRIPE_BYTES;
		key += STRIPE_KEY_STEP;
		if (key == SECRET + SCRAMBLE_KEY) {
			for (let lane: u32 = 0; lane < 64; lane += 8) {
				store<u64>(state + lane, scrambled(load<u64>(state + lane), load<u64>(key + lane)));
			}
			key = SECRET;
		}
	}
	if (!isLast) store<u32>(state + KEY_AT, <u32>(key - SECRET));
}

/** The same with SIMD. Its loop is hashLongPairs's, which has no memory to keep its sums in, and so cannot call it. */
function stripesPaired(state: usize, at: usize, count: u32, isLast: bool): void {
	let a = v128.load(state);
	let b = v128.load(state, 16);
	let c = v128.load(state, 32);
	let d = v128.load(state, 48);
	let key = SECRET + (isLast ? LAST_STRIPE_KEY : load<u32>(state + KEY_AT));
	for (let left = count; left > 0; left--) {
		const xa = v128.load(at);
		const xb = v128.load(at, 16);
		const xc = v128.load(at, 32);
		const xd = v128.load(at, 48);
		const ka = v128.xor(xa, v128.load(key));
		const kb = v128.xor(xb, v128.load(key, 16));
		const kc = v128.xor(xc, v128.load(key, 32));
		const kd = v128.xor(xd, v128.load(key, 48));
		const lowAB = i32x4.shuffle(ka, kb, 0, 2, 4, 6);
		const highAB = i32x4.shuffle(ka, kb, 1, 3, 5, 7);
		const lowCD = i32x4.shuffle(kc, kd, 0, 2, 4, 6);
		const highCD = i32x4.shuffle(kc, kd, 1, 3, 5, 7);
		a = i64x2.add(crossed(a, xa), i64x2.extmul_low_i32x4_u(lowAB, highAB));
		b = i64x2.add(crossed(b, xb), i64x2.extmul_high_i32x4_u(lowAB, highAB));
		c = i64x2.add(crossed(c, xc), i64x2.extmul_low_i32x4_u(lowCD, highCD));
		d = i64x2.add(crossed(d, xd), i64x2.extmul_high_i32x4_u(lowCD, highCD));
		at += STRIPE_BYTES;
		key += STRIPE_KEY_STEP;
		if (key == SECRET + SCRAMBLE_KEY) {
			a = scrambledPair(a, key);
			b = scrambledPair(b, key + 16);
			c = scrambledPair(c, key + 32);
			d = scrambledPair(d, key + 48);
			key = SECRET;
		}
	}
	v128.store(state, a);
	v128.store(state, b, 16);
	v128.store(state, c, 32);
	v128.store(state, d, 48);
	if (!isLast) store<u32>(state + KEY_AT, <u32>(key - SECRET));
}

function stripes(state: usize, at: usize, count: u32, isLast: bool): void {
	if (ASC_FEATURE_SIMD) stripesPaired(state, at, count, isLast);
	else stripesSlowly(state, at, count, isLast);
}

/** Takes in `bytes` octets at `at`, any alignment; the caller has made sure that they lie in memory. */
export function hashMore(state: usize, at: usize, bytes: u32): void {
	const buffer = state + BUFFER_AT;
	store<u64>(state + OCTETS_AT, load<u64>(state + OCTETS_AT) + bytes);
	let held = load<u32>(state + HELD_AT);
	if (bytes <= BUFFER_BYTES - held) {
		memory.copy(buffer + held, at, bytes);
		store<u32>(state + HELD_AT, held + bytes);
		return;
	}
	if (held != 0) {
		memory.copy(buffer + held, at, BUFFER_BYTES - held);
		at += BUFFER_BYTES - held;
		bytes -= BUFFER_BYTES - held;
		stripes(state, buffer, BUFFER_BYTES / STRIPE_BYTES, false);
	}
	// At least one octet is left, and is held back.
	const whole = (bytes - 1) & ~(BUFFER_BYTES - 1);
	if (whole != 0) {
		stripes(state, at, whole / STRIPE_BYTES, false);
		memory.copy(buffer + BUFFER_BYTES - STRIPE_BYTES, at + whole - STRIPE_BYTES, STRIPE_BYTES);
	}
	held = bytes - whole;
	memory.copy(buffer, at + whole, held);
	store<u32>(state + HELD_AT, held);
}

/** The hash of all that was taken in. The state is then spent. */
export function hashEnd(state: usize): u64 {
	const octets = load<u64>(state + OCTETS_AT);
	const held = load<u32>(state + HELD_AT);
	const buffer = state + BUFFER_AT;
	if (octets <= SHORT_BYTES) return xxh3_64(buffer, <usize>octets);
	// The last stripe may overlap what goes before it: it ends with the input.
	let last = buffer + held - STRIPE_BYTES;
	if (held < STRIPE_BYTES) {
		last = state + LAST_AT;
		memory.copy(last, buffer + BUFFER_BYTES - (STRIPE_BYTES - held), STRIPE_BYTES - held);
		memory.copy(last + STRIPE_BYTES - held, buffer, held);
	} else {
		stripes(state, buffer, (held - 1) / STRIPE_BYTES, false);
	}
	stripes(state, last, 1, true);
	// As merged, for lengths beyond 32 bits.
	let sum = octets * PRIME64_1;
	for (let lane: u32 = 0; lane < 64; lane += 16) {
		const key = SECRET + MERGE_KEY + lane;
		const low = load<u64>(state + lane) ^ load<u64>(key);
		sum += foldedProduct(low, load<u64>(state + lane, 8) ^ load<u64>(key, 8));
	}
	return avalanche(sum);
}
