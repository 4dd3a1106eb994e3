/**
 * Memory of a PV guest: its own P2M table holds the real MFNs, so nothing is assigned. Page types come from the image,
 * but Xen reports a stale type as well as one in use; in use are tables that are pinned, that a vCPU runs on, or that a
 * table in use points at. From them also follows which frames are mapped writable. A 32-bit guest's tables have three
 * levels; of these a part is Xen's (machine/pae.ts), of which an image says nothing.
 *
 * Unhappy paths, all XLU_E_CAPTURE: the P2M and the dump disagree in the number of frames, the P2M and the image in
 * which PFNs have one, two PFNs share a frame, a page-table entry names a PFN outside the P2M.
 */
import { FRAME, PAGE_TYPE, PAGE_TYPE_FLAG } from "../../format/enums.ts";
import type { GuestImage } from "../../formats/guestImage.ts";
import { FIRST_TYPE_WITHOUT_DATA, PAGE_TYPE as PFN_TYPE } from "../../formats/libxc/layout.ts";
import { pvP2m } from "../../formats/libxc/p2m.ts";
import type { PreservedPages, PvLayout } from "../../machine/model.ts";
import { firstXenSlot, PAE_L3_ENTRIES, PAE_XEN_SLOT, XEN_START_32 } from "../../machine/pae.ts";
import type { CapturedDomain } from "../read.ts";
import type { MachineFrames } from "./frames.ts";
import { contradiction, hex, type Ledger, plural } from "./ledger.ts";
import { gdtPfns, type PvContext, rootPfns } from "./pvContext.ts";

const ENTRIES_PER_TABLE = 512;
const TABLE_BYTES = 4096;
const TWO_POW_20 = 2 ** 20;
/** Page-table entries: bits 0 and 1 of the low half, the frame number in bits 12-51. */
const PTE_PRESENT = 1;
const PTE_WRITABLE = 2;
const FRAME_HIGH_MASK = 0xfffff;
/** XEN_DOMCTL_PFINFO_LPINTAB, among the four bits of a PFN's type; and the level beside it. */
const PINNED_BIT = 8;
const LEVEL_MASK = 7;
const L1 = 1;
const L2 = 2;
const L3 = 3;
const L4 = 4;
const CR_FRAME_SHIFT = 12n;

/** A page-table entry's frame number, of its two halves. */
const frameOf = (low: number, high: number): number => (high & FRAME_HIGH_MASK) * TWO_POW_20 + (low >>> 12);

const viewOf = (page: Uint8Array): DataView => new DataView(page.buffer, page.byteOffset, page.byteLength);

export class PvMemory {
	readonly #domid: number;
	readonly #file: string | undefined;
	readonly #image: GuestImage;
	readonly #startPfn: number;
	readonly #mfns: Float64Array;
	/** A 32-bit guest. */
	readonly #isNarrow: boolean;
	/** PFNs of a 32-bit guest's L2 tables with Xen's part. */
	readonly #xenL2 = new Set<number>();
	/** PFNs of page tables in use, and their levels. */
	readonly #tables = new Map<number, number>();
	readonly #writable = new Set<number>();
	readonly #gdt = new Set<number>();

	constructor({ domid, info, imageFile }: CapturedDomain, image: GuestImage) {
		this.#domid = domid;
		this.#file = imageFile;
		this.#image = image;
		this.#isNarrow = image.pvInfo?.guestWidth === 4;
		const p2m = pvP2m(image);
		this.#startPfn = p2m.startPfn;
		this.#mfns = p2m.mfns;
		const count = this.#mfns.reduce((sum, mfn) => sum + (mfn >= 0 ? 1 : 0), 0);
		if (count !== info.nrPages) {
			const got = `${count} in the guest's P2M table`;
			throw contradiction(domid, "frames", `${info.nrPages}, nr_pages of debugkey-q.txt`, got, imageFile);
		}
		this.#checkPopulated();
	}

	/** What the image says of the guest's own P2M, and what that says of its frames. */
	get layout(): PvLayout {
		const { pvInfo, p2m } = this.#image;
		return {
			guestWidth: pvInfo?.guestWidth ?? 8,
			ptLevels: pvInfo?.ptLevels ?? 4,
			startPfn: this.#startPfn,
			mfns: this.#mfns,
			p2mPfns: p2m?.p2mPfns ?? [],
		};
	}

	/** The guest's P2M table and the pages of the image must speak of the same PFNs. */
	#checkPopulated(): void {
		const { pages } = this.#image;
		let named = 0;
		for (let index = 0; index < pages.count; index++) {
			if (pages.types[index] === PFN_TYPE.XTAB) {
				continue;
			}
			named++;
			const pfn = pages.pfns[index] as number;
			if (this.mfnOf(pfn) === undefined) {
				const expected = `a frame of PFN ${hex(pfn)}, which the image has as memory`;
				throw contradiction(this.#domid, "P2M", expected, "none in the guest's P2M table", this.#file);
			}
		}
		const count = this.#mfns.reduce((sum, mfn) => sum + (mfn >= 0 ? 1 : 0), 0);
		if (named !== count) {
			const expected = `${count}, as in the guest's P2M table`;
			throw contradiction(this.#domid, "pages of the image", expected, `${named}`, this.#file);
		}
	}

	/** The frame of a PFN; undefined if the guest has none there. */
	mfnOf(pfn: number): number | undefined {
		const mfn = this.#mfns[pfn - this.#startPfn] ?? -1;
		return mfn < 0 ? undefined : mfn;
	}

	/** The frame of a PFN that must have one. */
	#needMfn(pfn: number, what: string): number {
		const mfn = this.mfnOf(pfn);
		if (mfn === undefined) {
			throw contradiction(this.#domid, what, "a PFN of the guest's P2M table", hex(pfn), this.#file);
		}
		return mfn;
	}

	/** Claims every frame of the P2M. */
	claim(frames: MachineFrames): void {
		for (const mfn of this.#mfns) {
			if (mfn >= 0) {
				frames.own(mfn, this.#domid, FRAME.allocated, `P2M in ${this.#file}`);
			}
		}
	}

	/** A control register with a page table's PFN, with its MFN instead; the bits below stay. */
	translateCr(value: bigint, name: string): bigint {
		const mfn = this.#needMfn(Number(value >> CR_FRAME_SHIFT), name);
		return (BigInt(mfn) << CR_FRAME_SHIFT) | (value & 0xfffn);
	}

	/** Machine address of the table in a 32-bit vCPU's CR3. */
	rootAddress(context: PvContext, name: string): bigint {
		return BigInt(this.#needMfn(rootPfns(context)[0] as number, name)) << CR_FRAME_SHIFT;
	}

	/** MFNs of a vCPU's GDT. */
	gdtMfns(context: PvContext): number[] {
		return gdtPfns(context).map((pfn, index) => this.#needMfn(pfn, `gdt_frames[${index}]`));
	}

	/**
	 * Finds the page tables in use and what they map, sets the types, and puts the tables into preserved memory with
	 * MFNs in their entries.
	 */
	importPageTables(
		contexts: Iterable<PvContext>,
		frames: MachineFrames,
		preserved: PreservedPages,
		ledger: Ledger,
	): void {
		const roots: number[] = [];
		for (const context of contexts) {
			roots.push(...rootPfns(context));
			for (const pfn of gdtPfns(context)) {
				this.#gdt.add(pfn);
			}
		}
		const { pages } = this.#image;
		const typed: number[] = [];
		for (let index = 0; index < pages.count; index++) {
			const type = pages.types[index] as number;
			if (type !== PFN_TYPE.NOTAB && type < FIRST_TYPE_WITHOUT_DATA) {
				typed.push(pages.pfns[index] as number);
				if (type & PINNED_BIT) {
					roots.push(pages.pfns[index] as number);
				}
			}
		}
		this.#walk(roots);
		for (const [pfn, level] of this.#tables) {
			const mfn = this.#needMfn(pfn, "page table");
			const pinned = (pages.typeOf(pfn) as number) & PINNED_BIT ? PAGE_TYPE_FLAG.pinned : 0;
			const xenL2 = this.#xenL2.has(pfn) ? PAGE_TYPE_FLAG.paeXenL2 : 0;
			frames.setType(mfn, level, PAGE_TYPE_FLAG.validated | pinned | xenL2);
			preserved.set(mfn, this.#translated(pfn, level));
		}
		for (const pfn of this.#gdt) {
			frames.setType(this.#needMfn(pfn, "GDT"), PAGE_TYPE.segDesc);
		}
		for (const pfn of this.#writable) {
			frames.setType(this.#needMfn(pfn, "L1 entry"), PAGE_TYPE.writable);
		}
		this.#note(typed.length, ledger);
	}

	#note(typed: number, ledger: Ledger): void {
		const stale = typed - this.#tables.size;
		ledger.note(
			this.#domid,
			"page types in use",
			`derived: ${plural(this.#tables.size, "page table")} from the image` +
				`${stale > 0 ? ` (${stale} more are typed, but nothing refers to them: stale, dropped)` : ""}, ` +
				`${plural(this.#gdt.size, "descriptor page")} from the vCPUs' GDTs, ` +
				`${plural(this.#writable.size, "writable page")} from the L1 tables; any other frame has no type in use`,
		);
		ledger.note(
			this.#domid,
			"page-table entries that point at Xen's or another domain's frames",
			`defaulted to not present, and Xen's own slots of ${this.#isNarrow ? "an L2 with its part" : "each L4"} to zero: ` +
				"libxc leaves both out of an image. What the guest has mapped by them (grants of others among it) holds no reference",
		);
	}

	/** Marks the tables that `roots` reach, and what their L1 entries map writable. */
	#walk(roots: number[]): void {
		const { pages } = this.#image;
		const highest = this.#isNarrow ? L3 : L4;
		if (this.#isNarrow) this.#markXenL2(roots);
		const left = [...roots];
		for (let pfn = left.pop(); pfn !== undefined; pfn = left.pop()) {
			const level = this.#levelOf(pfn);
			const content = pages.content(pfn);
			if (this.#tables.has(pfn) || content === undefined || level < L1 || level > highest) {
				continue;
			}
			this.#tables.set(pfn, level);
			const view = viewOf(content);
			for (let entry = 0; entry < this.#guestSlots(pfn, level); entry++) {
				const low = view.getUint32(8 * entry, true);
				if ((low & PTE_PRESENT) === 0) {
					continue;
				}
				const target = frameOf(low, view.getUint32(8 * entry + 4, true));
				if (level > L1) {
					left.push(target);
				} else if (low & PTE_WRITABLE) {
					this.#writable.add(target);
				}
			}
		}
	}

	#levelOf(pfn: number): number {
		return (this.#image.pages.typeOf(pfn) ?? 0) & LEVEL_MASK;
	}

	/** The last entry of a 32-bit guest's L3 table leads to Xen's part. An L3 table is one that a vCPU runs on, or pinned. */
	#markXenL2(roots: readonly number[]): void {
		for (const pfn of roots) {
			const content = this.#image.pages.content(pfn);
			if (content === undefined || this.#levelOf(pfn) !== L3) {
				continue;
			}
			const view = viewOf(content);
			const low = view.getUint32(8 * PAE_XEN_SLOT, true);
			const target = frameOf(low, view.getUint32(8 * PAE_XEN_SLOT + 4, true));
			if (low & PTE_PRESENT && this.#levelOf(target) === L2) {
				this.#xenL2.add(target);
			}
		}
	}

	/** Slots of a table that are the guest's, from the first on; of those behind them an image has nothing to say. */
	#guestSlots(pfn: number, level: number): number {
		if (this.#isNarrow && level === L3) {
			return PAE_L3_ENTRIES;
		}
		return this.#xenL2.has(pfn) ? firstXenSlot(XEN_START_32) : ENTRIES_PER_TABLE;
	}

	/** A table's content with MFNs where libxc put PFNs: in its present entries. */
	#translated(pfn: number, level: number): Uint8Array {
		const slots = this.#guestSlots(pfn, level);
		const page = new Uint8Array(TABLE_BYTES);
		page.set((this.#image.pages.content(pfn) as Uint8Array).subarray(0, 8 * slots));
		const view = viewOf(page);
		for (let entry = 0; entry < slots; entry++) {
			const low = view.getUint32(8 * entry, true);
			if ((low & PTE_PRESENT) === 0) {
				continue;
			}
			const high = view.getUint32(8 * entry + 4, true);
			const mfn = this.#needMfn(frameOf(low, high), `L${level} table PFN ${hex(pfn)}, entry ${entry}`);
			view.setUint32(8 * entry, (((mfn % TWO_POW_20) << 12) | (low & 0xfff)) >>> 0, true);
			view.setUint32(8 * entry + 4, ((high & ~FRAME_HIGH_MASK) | Math.floor(mfn / TWO_POW_20)) >>> 0, true);
		}
		return page;
	}

	/**
	 * Frames that could be anything: untyped, not of the P2M table nor a GDT; from the top down, empty ones first. A
	 * capture with all contents may have no others.
	 */
	*spareFrames(): Generator<number> {
		const { pages, p2m } = this.#image;
		const reservedPfns = new Set([...(p2m?.p2mPfns ?? []), ...this.#gdt]);
		for (const wantEmpty of [true, false]) {
			for (let index = pages.count - 1; index >= 0; index--) {
				const pfn = pages.pfns[index] as number;
				const mfn = this.mfnOf(pfn);
				const ordinary = pages.types[index] === PFN_TYPE.NOTAB && !reservedPfns.has(pfn);
				if (ordinary && mfn !== undefined && isZero(pages.contentAt(index)) === wantEmpty) {
					yield mfn;
				}
			}
		}
	}
}

/** Whether a page is known and holds nothing. */
export function isZero(page: Uint8Array | undefined): boolean {
	return page?.every((octet) => octet === 0) ?? false;
}
