/** Looking up a frame's content in the preserved memory, whose window check has proven. */
import { context } from "./context";
import * as L from "./layout.gen";

export const PAGE: u32 = 4096;

/** Address of a preserved frame, 0 if it is not there. */
export function preserved(ctx: usize, mfn: u64): usize {
	const memoryPtr = <usize>context(ctx).memoryPtr;
	const header = changetype<L.MemoryHeader>(memoryPtr);
	const directory = memoryPtr + L.MEMORY_HEADER_BYTES;
	let low: u32 = 0;
	let high: u32 = header.pageCount;
	while (low < high) {
		const middle = (low + high) >>> 1;
		const found = load<u64>(directory + middle * 8);
		if (found == mfn) return memoryPtr + header.pagesOffset + middle * PAGE;
		if (found < mfn) low = middle + 1;
		else high = middle;
	}
	return 0;
}
