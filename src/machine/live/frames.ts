/**
 * The frame table of a living machine: owner, type and references of each frame, as history makes them.
 *
 *     free ─ give ─> allocated (1 reference) ─ get, put ─> ... ─ deallocate ─> owned, not allocated ─ last put ─> free
 *
 * A frame lives as long as it has references. "Allocated" is one of them; a frame that lost it, since its domain gave it
 * up or died, stays its domain's until the last mapping is gone. A type is in use while it has a count; what a type means
 * for the frame's content (a page table's entries hold references) is the caller's: see pageTables.ts.
 */
import { DOMID, FRAME, FRAME_OWNER_MASK, PAGE_TYPE, PAGE_TYPE_FLAG } from "../../format/enums.ts";
import { refuse } from "./errno.ts";

const TYPE_MASK = 7;
/** A count never comes near 2^31: what would overflow is refused, as Xen does. */
const MOST_REFERENCES = 2 ** 31 - 1;

export class FrameTable {
	/** Low halves of the frame-owner entries, which have nothing above. */
	readonly owners: Uint32Array;
	/** Page-type entries. */
	readonly types: Uint8Array;
	/** Per MFN: page references, then type references. */
	readonly counts: Uint32Array;
	/** 1 for what nobody owns and nobody may take: bootmem, xen#1's image, re-usable memory, tables kept in place. */
	readonly reserved: Uint8Array;
	/** Called when a frame has lost its last reference, before it is free. */
	readonly #onRelease: (mfn: number, entry: number) => void;
	/** No frame below is free. */
	#lowest = 0;

	constructor(
		owners: Uint32Array,
		types: Uint8Array,
		counts: Uint32Array,
		onRelease: (mfn: number, entry: number) => void,
	) {
		this.owners = owners;
		this.types = types;
		this.counts = counts;
		this.reserved = new Uint8Array(owners.length);
		this.#onRelease = onRelease;
	}

	get count(): number {
		return this.owners.length;
	}

	exists(mfn: number): boolean {
		return mfn >= 0 && mfn < this.owners.length;
	}

	/** Whose a frame is; undefined for nobody's. */
	ownerOf(mfn: number): number | undefined {
		const entry = this.owners[mfn] ?? 0;
		return entry & FRAME.owned ? entry & FRAME_OWNER_MASK : undefined;
	}

	has(mfn: number, flag: number): boolean {
		return ((this.owners[mfn] ?? 0) & flag) !== 0;
	}

	isFree(mfn: number): boolean {
		return this.owners[mfn] === 0 && this.reserved[mfn] === 0;
	}

	references(mfn: number): number {
		return this.counts[2 * mfn] ?? 0;
	}

	typeReferences(mfn: number): number {
		return this.counts[2 * mfn + 1] ?? 0;
	}

	/** Type in use, PAGE_TYPE.none for none. */
	typeOf(mfn: number): number {
		return (this.types[mfn] ?? 0) & TYPE_MASK;
	}

	/** The same, and of an L2 table whether it has Xen's part of a 32-bit guest's addresses in it. */
	tableTypeOf(mfn: number): number {
		return (this.types[mfn] ?? 0) & (TYPE_MASK | PAGE_TYPE_FLAG.paeXenL2);
	}

	isPinned(mfn: number): boolean {
		return ((this.types[mfn] ?? 0) & PAGE_TYPE_FLAG.pinned) !== 0;
	}

	/**
	 * The lowest free run of 2^order frames, aligned to itself: which frames come next is a matter of which are free, and
	 * of nothing else, so that xen#2 hands out those that xen#1 would have.
	 */
	findFree(order = 0): number | undefined {
		const count = 2 ** order;
		while (this.#lowest < this.count && !this.isFree(this.#lowest)) this.#lowest++;
		for (let first = Math.ceil(this.#lowest / count) * count; first + count <= this.count; first += count) {
			let mfn = first;
			while (mfn < first + count && this.isFree(mfn)) mfn++;
			if (mfn === first + count) return first;
		}
		return undefined;
	}

	/** Gives a free frame to a domain, with the reference of being allocated. */
	give(mfn: number, domid: number, flags = 0): void {
		this.owners[mfn] = domid | FRAME.owned | FRAME.allocated | flags;
		this.counts[2 * mfn] = 1;
		this.counts[2 * mfn + 1] = 0;
		this.types[mfn] = PAGE_TYPE.none;
	}

	/** Reserves a free frame, or frees a reserved one: page tables of a P2M have no owner. */
	setReserved(mfn: number, isReserved: boolean): void {
		this.reserved[mfn] = isReserved ? 1 : 0;
		if (!isReserved) this.#lowest = Math.min(this.#lowest, mfn);
	}

	/** Takes a page reference, of a frame of `domid` where one is given; false where there is none to take. */
	tryGet(mfn: number, domid?: number): boolean {
		if (!this.exists(mfn) || this.references(mfn) === 0) return false;
		if (domid !== undefined && this.ownerOf(mfn) !== domid) return false;
		if (this.references(mfn) >= MOST_REFERENCES) return false;
		(this.counts[2 * mfn] as number)++;
		return true;
	}

	get(mfn: number, domid?: number): void {
		if (!this.tryGet(mfn, domid)) refuse("EINVAL");
	}

	/** Drops a page reference; the last one frees the frame. */
	put(mfn: number): void {
		const left = --(this.counts[2 * mfn] as number);
		if (left < 0) throw new Error(`frame 0x${mfn.toString(16)}: one put too many`);
		if (left > 0) return;
		if (this.typeReferences(mfn) > 0) throw new Error(`frame 0x${mfn.toString(16)} is freed while its type is in use`);
		const entry = this.owners[mfn] as number;
		this.owners[mfn] = 0;
		this.types[mfn] = 0;
		this.#lowest = Math.min(this.#lowest, mfn);
		this.#onRelease(mfn, entry);
	}

	/** Drops the reference of being allocated; false if it is gone already. */
	deallocate(mfn: number): boolean {
		if (!this.has(mfn, FRAME.allocated)) return false;
		this.owners[mfn] = (this.owners[mfn] as number) & ~FRAME.allocated;
		this.put(mfn);
		return true;
	}

	/** Takes one more reference to the type in use. The first one of a type is `startType`'s. */
	addType(mfn: number): void {
		if (this.typeReferences(mfn) >= MOST_REFERENCES) refuse("EINVAL");
		(this.counts[2 * mfn + 1] as number)++;
	}

	/** @param type with paeXenL2 where it has that */
	startType(mfn: number, type: number): void {
		this.types[mfn] = type | PAGE_TYPE_FLAG.validated;
		this.counts[2 * mfn + 1] = 1;
	}

	/** Drops a type reference; true if it was the last one, and the type is in use no more. */
	dropType(mfn: number): boolean {
		const left = --(this.counts[2 * mfn + 1] as number);
		if (left < 0) throw new Error(`frame 0x${mfn.toString(16)}: one type put too many`);
		if (left > 0) return false;
		this.types[mfn] = PAGE_TYPE.none;
		return true;
	}

	/** Takes a page reference and one to the type "writable"; refuses with EINVAL what is in use as something else. */
	getWritable(mfn: number, domid?: number): void {
		this.get(mfn, domid);
		if (this.tryWritable(mfn)) return;
		this.put(mfn);
		refuse("EINVAL");
	}

	tryWritable(mfn: number): boolean {
		if (this.typeReferences(mfn) === 0) this.startType(mfn, PAGE_TYPE.writable);
		else if (this.typeOf(mfn) === PAGE_TYPE.writable) this.addType(mfn);
		else return false;
		return true;
	}

	putWritable(mfn: number): void {
		this.dropType(mfn);
		this.put(mfn);
	}

	/** Memory that counts: owned, and no device's. */
	isMemory(mfn: number): boolean {
		const owner = this.exists(mfn) ? this.ownerOf(mfn) : undefined;
		return owner !== undefined && owner !== DOMID.IO;
	}
}
