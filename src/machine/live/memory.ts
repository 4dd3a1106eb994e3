/**
 * What stands in the machine's frames, as far as anybody wrote it: a page that nobody wrote is zeros. It stays in place
 * while the hypervisors change (S3): xen#1 and xen#2 have the same memory.
 */
import { PAGE_BYTES } from "../guestPages.ts";

/** Octets of an entry of a page table, of any level and width. */
export const ENTRY_BYTES = 8;
const ZEROS = new Uint8Array(PAGE_BYTES);

export class MachineMemory {
	readonly pages: Map<number, Uint8Array>;

	constructor(pages: Iterable<readonly [number, Uint8Array]> = []) {
		this.pages = new Map();
		for (const [mfn, page] of pages) this.pages.set(mfn, page.slice());
	}

	/** A page to write to. */
	page(mfn: number): Uint8Array {
		let page = this.pages.get(mfn);
		if (page === undefined) {
			page = new Uint8Array(PAGE_BYTES);
			this.pages.set(mfn, page);
		}
		return page;
	}

	/** A page to look at. */
	look(mfn: number): Uint8Array {
		return this.pages.get(mfn) ?? ZEROS;
	}

	/** One 64-bit word of a page: an entry of a page table. */
	entry(mfn: number, slot: number): bigint {
		const page = this.look(mfn);
		return new DataView(page.buffer, page.byteOffset).getBigUint64(slot * ENTRY_BYTES, true);
	}

	setEntry(mfn: number, slot: number, value: bigint): void {
		const page = this.page(mfn);
		new DataView(page.buffer, page.byteOffset).setBigUint64(slot * ENTRY_BYTES, value, true);
	}

	/** A frame that changes hands is scrubbed. */
	scrub(mfn: number): void {
		this.pages.delete(mfn);
	}
}
