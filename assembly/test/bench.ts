// What bench/codecs.mjs links: the codecs, and what they are held against.
export { xxh3_64 } from "../checksum";
export { checkChunks, decodeChunks } from "../extent/decode";
export { encodeBound, encodeTable } from "../extent/encode";

/** memcpy as an engine does it best: in blocks that stay in the first cache. */
export function copy(to: usize, from: usize, bytes: u32, blockBytes: u32): void {
	for (let at: u32 = 0; at < bytes; at += blockBytes) memory.copy(to + at, from + at, min<u32>(blockBytes, bytes - at));
}

/** The least that writing a table can take: plain stores, 64 octets each turn. */
export function fill(to: usize, bytes: u32, value: u64): void {
	for (const end = to + bytes; to < end; to += 64) {
		if (ASC_FEATURE_SIMD) {
			const entries = i64x2.splat(value);
			v128.store(to, entries);
			v128.store(to, entries, 16);
			v128.store(to, entries, 32);
			v128.store(to, entries, 48);
		} else {
			for (let i: usize = 0; i < 64; i += 8) store<u64>(to + i, value);
		}
	}
}

/** The least that reading a table can take: every entry into one value. */
export function read(from: usize, bytes: u32): u64 {
	let all: u64 = 0;
	if (ASC_FEATURE_SIMD) {
		let a = i64x2.splat(0);
		let b = i64x2.splat(0);
		for (const end = from + bytes; from < end; from += 64) {
			a = v128.or(a, v128.or(v128.load(from), v128.load(from, 16)));
			b = v128.or(b, v128.or(v128.load(from, 32), v128.load(from, 48)));
		}
		a = v128.or(a, b);
		all = i64x2.extract_lane(a, 0) | i64x2.extract_lane(a, 1);
	} else {
		for (const end = from + bytes; from < end; from += 8) all |= load<u64>(from);
	}
	return all;
}
