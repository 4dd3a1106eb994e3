import { xxh3_64 } from "./checksum";
import { CONTEXT_BLOCK_BYTES } from "./context";
import { ABI_VERSION } from "./layout.gen";

/** Version of this interface: exports, context block, image layout. */
export function abi(): u32 {
	return ABI_VERSION;
}

/** First octet above the module's own constant data: where the caller's windows may start. */
export function heapBase(): u32 {
	return <u32>__heap_base;
}

/** Octets of a context block, 16-aligned. */
export function contextBytes(): u32 {
	return CONTEXT_BLOCK_BYTES;
}

/** XXH3-64 (seed 0) of `bytes` octets at `pointer`, for whoever packs preserved memory. Zero for a window outside the memory. */
export function hash(pointer: usize, bytes: u32): u64 {
	return <u64>pointer + bytes > (<u64>memory.size()) << 16 ? 0 : xxh3_64(pointer, bytes);
}
