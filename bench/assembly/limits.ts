/**
 * The limits of a machine that every figure is held against, over a memory that the caller brings: the core's own, so
 * that a copy of its tables and a save of them read the same octets.
 */

/** memory.copy as it is called as a rule: once. */
export function copyOnce(to: usize, from: usize, bytes: u32): void {
	memory.copy(to, from, bytes);
}

const BLOCK_BYTES: u32 = 32768;

/** The same in blocks that stay in the first cache, which is faster on large tables. */
export function copyBlocks(to: usize, from: usize, bytes: u32): void {
	for (let at: u32 = 0; at < bytes; at += BLOCK_BYTES) {
		memory.copy(to + at, from + at, min<u32>(bytes - at, BLOCK_BYTES));
	}
}

/** The least that reading can take: whole blocks of 64 octets, each into one value. What is left over is not read. */
export function readAll(from: usize, bytes: u32): u64 {
	const end = from + (bytes & ~63);
	let a = i64x2.splat(0);
	let b = i64x2.splat(0);
	for (; from < end; from += 64) {
		a = v128.or(a, v128.or(v128.load(from), v128.load(from, 16)));
		b = v128.or(b, v128.or(v128.load(from, 32), v128.load(from, 48)));
	}
	a = v128.or(a, b);
	return i64x2.extract_lane(a, 0) | i64x2.extract_lane(a, 1);
}

/** The least that writing can take: whole blocks of 64 octets, plain stores. What is left over is not written. */
export function storeAll(to: usize, bytes: u32, value: u64): void {
	const end = to + (bytes & ~63);
	const entries = i64x2.splat(value);
	for (; to < end; to += 64) {
		v128.store(to, entries);
		v128.store(to, entries, 16);
		v128.store(to, entries, 32);
		v128.store(to, entries, 48);
	}
}
