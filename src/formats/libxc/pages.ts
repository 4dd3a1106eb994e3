/**
 * What a libxc image says about each PFN. A PVH guest's image names about a million PFNs, nearly all of them XTAB, so
 * the index is three sorted arrays and contents stay where they are.
 */
import type { PageList } from "../common/record.ts";
import { FIRST_TYPE_WITHOUT_DATA, PAGE_BYTES } from "./layout.ts";

/** 256 GiB of guest at 4 KiB; more entries than that do not fit an image that is read into memory. */
export const PAGE_ENTRY_LIMIT = 1 << 26;

const NO_DATA = -1;
const RADIX = 1 << 16;

/** Indices of `pfns` in ascending order of PFN; equal PFNs keep their order. Linear, whatever the input. */
function sortedOrder(pfns: Float64Array): Uint32Array {
	let highest = 0;
	for (const pfn of pfns) {
		highest = Math.max(highest, pfn);
	}
	let from = new Uint32Array(pfns.length);
	for (let index = 0; index < from.length; index++) {
		from[index] = index;
	}
	let to = new Uint32Array(pfns.length);
	for (let scale = 1; scale <= highest; scale *= RADIX) {
		const starts = new Uint32Array(RADIX + 1);
		for (const pfn of pfns) {
			const digit = Math.floor(pfn / scale) % RADIX;
			starts[digit + 1] = (starts[digit + 1] as number) + 1;
		}
		for (let digit = 1; digit < RADIX; digit++) {
			starts[digit] = (starts[digit] as number) + (starts[digit - 1] as number);
		}
		for (const index of from) {
			const digit = Math.floor((pfns[index] as number) / scale) % RADIX;
			const slot = starts[digit] as number;
			starts[digit] = slot + 1;
			to[slot] = index;
		}
		[from, to] = [to, from];
	}
	return from;
}

/** Type and content of every PFN that an image names, in ascending order of PFN. */
export class PageIndex {
	/** PFNs, ascending, each once. */
	readonly pfns: Float64Array;
	/** 4-bit type (PAGE_TYPE) of each entry of `pfns`: the last one seen in the image. */
	readonly types: Uint8Array;
	readonly #offsets: Float64Array;
	readonly #data: Uint8Array;

	constructor(pfns: Float64Array, types: Uint8Array, offsets: Float64Array, data: Uint8Array) {
		this.pfns = pfns;
		this.types = types;
		this.#offsets = offsets;
		this.#data = data;
	}

	/** How many PFNs the image names. */
	get count(): number {
		return this.pfns.length;
	}

	/** Index of `pfn` in `pfns` and `types`, or -1. */
	find(pfn: number): number {
		let low = 0;
		let high = this.pfns.length - 1;
		while (low <= high) {
			const middle = (low + high) >>> 1;
			const found = this.pfns[middle] as number;
			if (found === pfn) {
				return middle;
			}
			if (found < pfn) {
				low = middle + 1;
			} else {
				high = middle - 1;
			}
		}
		return -1;
	}

	/** The type of a PFN, or undefined if the image does not name it. */
	typeOf(pfn: number): number | undefined {
		const index = this.find(pfn);
		return index < 0 ? undefined : this.types[index];
	}

	/** The 4096 octets of entry `index` (a view into the image), or undefined for BROKEN, XALLOC and XTAB. */
	contentAt(index: number): Uint8Array | undefined {
		const offset = this.#offsets[index];
		return offset === undefined || offset === NO_DATA ? undefined : this.#data.subarray(offset, offset + PAGE_BYTES);
	}

	/** The 4096 octets of a PFN (a view into the image), or undefined if it has none. */
	content(pfn: number): Uint8Array | undefined {
		return this.contentAt(this.find(pfn));
	}

	/** Octets from the start of the image to the content of entry `index`, or -1. */
	offsetAt(index: number): number {
		return this.#offsets[index] ?? NO_DATA;
	}

	/** How many PFNs have each type; index = type. */
	countByType(): number[] {
		const counts = new Array<number>(16).fill(0);
		for (const type of this.types) {
			counts[type] = (counts[type] ?? 0) + 1;
		}
		return counts;
	}

	/** How many PFNs stand for memory that the guest has: all but XTAB. */
	get populated(): number {
		return this.count - (this.countByType()[15] ?? 0);
	}
}

/** Takes lists in the order of the image; a later entry for a PFN replaces an earlier one (live migration). */
export class PageIndexBuilder {
	readonly #lists: PageList[] = [];
	#count = 0;

	/** PFNs so far, each time counted. */
	get count(): number {
		return this.#count;
	}

	add(list: PageList): void {
		this.#lists.push(list);
		this.#count += list.pfns.length;
	}

	/** @param data the image that the lists are of */
	build(data: Uint8Array): PageIndex {
		const count = this.#count;
		const pfns = new Float64Array(count);
		const types = new Uint8Array(count);
		const offsets = new Float64Array(count);
		let isAscending = true;
		let last = -1;
		let at = 0;
		for (const list of this.#lists) {
			pfns.set(list.pfns, at);
			types.set(list.types, at);
			let offset = list.contentsOffset;
			for (let i = 0; i < list.pfns.length; i++, at++) {
				const pfn = list.pfns[i] as number;
				if (pfn <= last) isAscending = false;
				last = pfn;
				const hasData = (list.types[i] as number) < FIRST_TYPE_WITHOUT_DATA;
				offsets[at] = hasData ? offset : NO_DATA;
				if (hasData) offset += PAGE_BYTES;
			}
		}
		if (isAscending) return new PageIndex(pfns, types, offsets, data);
		// Entries of one PFN follow each other in their order: the last one stays.
		const order = sortedOrder(pfns);
		const outPfns = new Float64Array(count);
		const outTypes = new Uint8Array(count);
		const outOffsets = new Float64Array(count);
		let kept = 0;
		for (const index of order) {
			const pfn = pfns[index] as number;
			if (kept > 0 && outPfns[kept - 1] === pfn) kept--;
			outPfns[kept] = pfn;
			outTypes[kept] = types[index] as number;
			outOffsets[kept] = offsets[index] as number;
			kept++;
		}
		return new PageIndex(outPfns.slice(0, kept), outTypes.slice(0, kept), outOffsets.slice(0, kept), data);
	}
}
