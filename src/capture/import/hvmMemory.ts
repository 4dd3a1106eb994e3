/**
 * Memory of an HVM or PVH guest: the image says which GFNs have memory, the grant dump where some of them lie. Those
 * pairs are kept; the others are assigned, in 2 MiB pages wherever a whole aligned block of GFNs is populated.
 *
 * In two steps, so that what one guest's facts suggest is not taken by another's assignment:
 * `placeKnown` puts the facts, and around those that agree on one aligned 2 MiB block the whole block;
 * `placeRest` assigns what is left.
 *
 * Unhappy paths, all XLU_E_CAPTURE: the image and the dump disagree in the number of frames; a frame that the dumps name
 * belongs to somebody else.
 */
import { FRAME, KEPT_FORMAT, KEPT_PURPOSE, P2M_ACCESS, P2M_BITS, P2M_ORDER, P2M_TYPE } from "../../format/enums.ts";
import type { GuestImage } from "../../formats/guestImage.ts";
import { FIRST_TYPE_WITHOUT_DATA, PAGE_TYPE as PFN_TYPE } from "../../formats/libxc/layout.ts";
import type { DomainModel } from "../../machine/model.ts";
import type { CapturedDomain } from "../read.ts";
import { type FrameRun, type MachineFrames, SUPERPAGE_FRAMES } from "./frames.ts";
import { contradiction, hex, type Ledger, plural } from "./ledger.ts";
import { isZero } from "./pvMemory.ts";

/** No GFN of a guest that the core's windows could hold is higher (256 GiB). */
const GFN_LIMIT = 1 << 26;
/** From here up to 4 GiB a guest has its devices and special pages, not ordinary memory. */
const SPECIAL_GFNS = { first: 0xf0000, end: 0x100000 } as const;

const ENTRY_FLAGS =
	(1n << BigInt(P2M_BITS.present)) |
	(BigInt(P2M_ACCESS.rwx) << BigInt(P2M_BITS.access)) |
	(BigInt(P2M_TYPE.ramRw) << BigInt(P2M_BITS.type));
const ORDER_2M = BigInt(P2M_ORDER["2M"]) << BigInt(P2M_BITS.order);
const MFN_MASK = (1n << BigInt(P2M_BITS.type)) - 1n;

/** GFNs of a P2M page table's levels: one L1 table maps 512 frames, and so on. */
const TABLE_GFNS = [2 ** 9, 2 ** 18, 2 ** 27] as const;
const P2M_LEVELS = 4;

/** GFNs that have memory, ascending. */
export function populatedGfns(image: GuestImage): Float64Array {
	const { pages } = image;
	const gfns = new Float64Array(pages.populated);
	let count = 0;
	for (let index = 0; index < pages.count; index++) {
		const type = pages.types[index] as number;
		if (type !== PFN_TYPE.XTAB) {
			gfns[count++] = pages.pfns[index] as number;
		}
	}
	return gfns.subarray(0, count);
}

/** GFN and MFN that the dumps name together. */
type Fact = readonly [gfn: number, mfn: number];

export class HvmMemory {
	readonly #domid: number;
	readonly #image: GuestImage | undefined;
	readonly #frames: MachineFrames;
	readonly #gfns: Float64Array;
	readonly #p2m: BigUint64Array;
	/** By 2 MiB block of GFNs. */
	readonly #facts = new Map<number, Fact[]>();
	/** The domain's frames of which no GFN is known. */
	#homeless: number[] = [];
	#superpages = 0;
	#factCount = 0;
	#guessed = 0;
	#assigned = 0;

	/**
	 * Claims the frames that the dumps name.
	 *
	 * @param gfns that have memory, ascending; of a PVH dom0, whose memory no image shows, undefined
	 */
	constructor(captured: CapturedDomain, frames: MachineFrames, ledger: Ledger) {
		const { domid, image, imageFile, info } = captured;
		this.#domid = domid;
		this.#image = image;
		this.#frames = frames;
		const inP2m = info.nrPages - (info.pod?.cacheSize ?? 0);
		this.#gfns = image === undefined ? assignedGfns(captured, inP2m) : populatedGfns(image);
		if (this.#gfns.length !== inP2m) {
			const cache = inP2m === info.nrPages ? "" : `, less a populate-on-demand cache of ${info.pod?.cacheSize}`;
			const expected = `${inP2m} (nr_pages of debugkey-q.txt is ${info.nrPages}${cache})`;
			throw contradiction(domid, "frames", expected, `${this.#gfns.length} in the image`, imageFile);
		}
		const highest = this.#gfns.at(-1) ?? -1;
		if (highest >= GFN_LIMIT) {
			throw contradiction(domid, "GFN", `below ${hex(GFN_LIMIT)} (256 GiB)`, hex(highest), imageFile);
		}
		this.#p2m = new BigUint64Array(highest + 1);
		this.#claimFacts(captured, ledger);
		if ((info.pod?.entries ?? 0) > 0) {
			const what = `${info.pod?.entries} populate-on-demand entries of the P2M`;
			ledger.note(domid, what, "defaulted to holes: no dump tells where they are");
		}
	}

	/** Grants name frames with their GFNs, but the GFN is what the guest's entry says now, which it may have changed. */
	#claimFacts({ grants, info }: CapturedDomain, ledger: Ledger): void {
		const populated = new Set(this.#gfns);
		const homes = new Map<number, number>();
		const homeless = new Set<number>();
		const named = [...grants.active, ...(info.domPages ?? []).map(({ mfn }) => ({ mfn, gmfn: -1 }))];
		for (const { gmfn, mfn } of named) {
			if (this.#frames.ownerOf(mfn) !== this.#domid) {
				this.#frames.own(mfn, this.#domid, FRAME.allocated, "granted frame of debugkey-g.txt");
				homeless.add(mfn);
			}
			// What it had before is an extra or a xenheap page: no P2M has it as memory.
			if (homeless.has(mfn) && populated.has(gmfn) && !homes.has(gmfn)) {
				homes.set(gmfn, mfn);
				homeless.delete(mfn);
			}
		}
		for (const [gfn, mfn] of homes) {
			const block = Math.floor(gfn / SUPERPAGE_FRAMES);
			this.#facts.set(block, [...(this.#facts.get(block) ?? []), [gfn, mfn]]);
		}
		this.#factCount = homes.size;
		this.#homeless = [...homeless];
		if (homeless.size > 0) {
			const mfns = this.#homeless.slice(0, 4).map(hex).join(", ");
			ledger.note(this.#domid, "GFNs of known frames", `assigned for ${plural(homeless.size, "frame")}: ${mfns}`);
		}
	}

	/** Puts the facts, and where those of a 2 MiB block agree on one aligned block of frames, the block around them. */
	placeKnown(): void {
		const populations = this.#populations();
		for (const [block, facts] of this.#facts) {
			const start = block * SUPERPAGE_FRAMES;
			const bases = new Set(facts.map(([gfn, mfn]) => mfn - (gfn - start)));
			const [base = -1] = bases;
			const agreed = bases.size === 1 && base >= 0 && base % SUPERPAGE_FRAMES === 0;
			const own = new Set(facts.map(([, mfn]) => mfn));
			const usable = (mfn: number): boolean => own.has(mfn) || this.#frames.isFree(mfn);
			for (const [gfn, mfn] of facts) {
				this.#map(gfn, mfn);
			}
			if (!agreed) {
				continue;
			}
			const all = Array.from({ length: SUPERPAGE_FRAMES }, (_, index) => base + index);
			const whole = populations.get(block) === SUPERPAGE_FRAMES && all.every(usable);
			for (const mfn of all) {
				const gfn = start + mfn - base;
				if (!own.has(mfn) && this.#isEmpty(gfn) && this.#frames.isFree(mfn)) {
					this.#frames.own(mfn, this.#domid, FRAME.allocated, "2 MiB page");
					this.#map(gfn, mfn);
					this.#guessed++;
				}
			}
			if (whole) {
				this.#join(start);
			}
		}
	}

	/** Assigns frames to all other GFNs: 2 MiB pages first, then runs. */
	placeRest(): void {
		for (const [block, population] of this.#populations()) {
			const start = block * SUPERPAGE_FRAMES;
			if (population === SUPERPAGE_FRAMES && !this.#facts.has(block)) {
				this.#assign(start, SUPERPAGE_FRAMES, SUPERPAGE_FRAMES);
				this.#join(start);
			}
		}
		const left = this.#gfns.filter((gfn) => this.#isEmpty(gfn));
		if (this.#homeless.length > left.length) {
			const expected = `at most ${plural(left.length, "frame")} of unknown GFN`;
			throw contradiction(this.#domid, "grants", expected, `${this.#homeless.length}`, "debugkey-g.txt");
		}
		for (const [index, mfn] of this.#homeless.entries()) {
			this.#map(left[index] as number, mfn);
		}
		for (let index = this.#homeless.length; index < left.length; ) {
			const first = left[index] as number;
			let count = 1;
			while (left[index + count] === first + count) {
				count++;
			}
			this.#assign(first, count, 1);
			index += count;
		}
	}

	#assign(gfn: number, count: number, alignment: number): void {
		const mfn = this.#frames.takeRun(count, alignment, this.#domid);
		for (let index = 0; index < count; index++) {
			this.#map(gfn + index, mfn + index);
		}
		this.#assigned += count;
	}

	#map(gfn: number, mfn: number): void {
		this.#p2m[gfn] = ENTRY_FLAGS | BigInt(mfn);
	}

	/** Makes one 2 MiB page of a block whose frames are contiguous and aligned. */
	#join(start: number): void {
		for (let gfn = start; gfn < start + SUPERPAGE_FRAMES; gfn++) {
			this.#p2m[gfn] = (this.#p2m[gfn] as bigint) | ORDER_2M;
		}
		this.#superpages++;
	}

	#isEmpty(gfn: number): boolean {
		return this.#p2m[gfn] === 0n && this.#hasMemory(gfn);
	}

	#hasMemory(gfn: number): boolean {
		let low = 0;
		let high = this.#gfns.length - 1;
		while (low < high) {
			const middle = (low + high) >>> 1;
			if ((this.#gfns[middle] as number) < gfn) {
				low = middle + 1;
			} else {
				high = middle;
			}
		}
		return this.#gfns[low] === gfn;
	}

	/** How many GFNs of each 2 MiB block have memory. */
	#populations(): Map<number, number> {
		const populations = new Map<number, number>();
		for (const gfn of this.#gfns) {
			const block = Math.floor(gfn / SUPERPAGE_FRAMES);
			populations.set(block, (populations.get(block) ?? 0) + 1);
		}
		return populations;
	}

	/** Frames that the domain has beside its P2M: the populate-on-demand cache. */
	placeCache({ info }: CapturedDomain): void {
		if ((info.pod?.cacheSize ?? 0) > 0) {
			this.#frames.takeRuns(info.pod?.cacheSize ?? 0, this.#domid);
		}
	}

	/** Puts the P2M into the model, with the page tables that Xen keeps it in. */
	importInto(model: DomainModel, captured: CapturedDomain, ledger: Ledger): void {
		model.p2m = this.#p2m;
		model.p2mDefaultAccess = P2M_ACCESS.rwx;
		ledger.note(
			this.#domid,
			"machine frames",
			`assigned: ${this.#assigned} of ${this.#gfns.length}, around the ${this.#factCount} that the dumps name; ` +
				`derived: ${this.#guessed} beside those in the same 2 MiB page`,
		);
		ledger.note(
			this.#domid,
			"page sizes of the P2M",
			`assigned: ${plural(this.#superpages, "2 MiB page")}, the rest 4 KiB; every entry ordinary memory, rwx`,
		);
		if (this.#image === undefined) {
			ledger.note(this.#domid, "GFNs of its memory", "assigned: from 0 up, and those that the grant dump names");
		}
		this.#importKept(model, captured, ledger);
	}

	/** P2M page tables: the root where the dump has it, the others assigned. They have no owner. */
	#importKept(model: DomainModel, { domid, p2mRootMfn }: CapturedDomain, ledger: Ledger): void {
		const tables = [new Set<number>(), new Set<number>(), new Set<number>()];
		for (const gfn of this.#gfns) {
			const isSuperpage = ((this.#p2m[gfn] as bigint) & ORDER_2M) !== 0n;
			TABLE_GFNS.forEach((span, level) => {
				if (level > 0 || !isSuperpage) {
					tables[level]?.add(Math.floor(gfn / span));
				}
			});
		}
		const below = tables.reduce((sum, set) => sum + set.size, 0);
		const root = p2mRootMfn ?? this.#frames.takeRun(1, 1);
		const first = below > 0 ? this.#frames.takeRun(below, 1) : 0;
		const runs: FrameRun[] = [{ first: root, count: 1 }, ...(below > 0 ? [{ first, count: below }] : [])];
		runs.sort((a, b) => a.first - b.first);
		const { format, known } = this.#tableFormat(model);
		model.keptFrames = {};
		model.keptRoots = [{ rootMfn: root, purpose: KEPT_PURPOSE.p2m, format, levels: P2M_LEVELS }];
		model.keptRanges = runs.map((run) => ({ firstMfn: run.first, frameCount: run.count }));
		model.domain.hapPoolFrames = 1 + below;
		ledger.note(
			domid,
			"P2M page tables",
			`assigned: ${plural(below, "frame")} at MFN ${hex(first)} below the root ` +
				`${p2mRootMfn === undefined ? `(assigned: MFN ${hex(root)})` : `of the dump (MFN ${hex(root)})`}, ` +
				"as many as the P2M needs; the HAP pool is as large",
		);
		ledger.note(domid, "format of the P2M page tables", `${known ? "derived from the CPU's vendor" : "defaulted"}`);
	}

	/** AMD's nested page tables or Intel's: by the vendor in the guest's CPUID policy. */
	#tableFormat(model: DomainModel): { format: number; known: boolean } {
		const vendor = model.cpuidLeaves?.find((leaf) => Number(leaf.leaf) === 0)?.ebx;
		const isIntel = vendor === 0x756e6547 || vendor === 0x746e6543 || vendor === 0x68532020;
		const isAmd = vendor === 0x68747541 || vendor === 0x6f677948;
		return { format: isIntel ? KEPT_FORMAT.ept : KEPT_FORMAT.npt, known: isIntel || isAmd };
	}

	/** The frame of a GFN; undefined where there is none. */
	mfnOf(gfn: number): number | undefined {
		const entry = this.#p2m[gfn] ?? 0n;
		return entry === 0n ? undefined : Number(entry & MFN_MASK);
	}

	/** Frames of ordinary memory that could be anything: from the top down, empty ones first, not among special pages. */
	*spareFrames(): Generator<number> {
		for (const wantEmpty of [true, false]) {
			for (let index = this.#gfns.length - 1; index >= 0; index--) {
				const gfn = this.#gfns[index] as number;
				const isSpecial = gfn >= SPECIAL_GFNS.first && gfn < SPECIAL_GFNS.end;
				const content = this.#image?.pages.content(gfn);
				const isEmpty = this.#image === undefined || isZero(content) || this.#lacksContent(gfn);
				const mfn = this.mfnOf(gfn);
				if (!isSpecial && isEmpty === wantEmpty && mfn !== undefined) {
					yield mfn;
				}
			}
		}
	}

	#lacksContent(gfn: number): boolean {
		return (this.#image?.pages.typeOf(gfn) ?? 0) >= FIRST_TYPE_WITHOUT_DATA;
	}
}

/** GFNs for a domain whose memory no image shows: those that its grants name, and the lowest others. */
function assignedGfns({ grants }: CapturedDomain, count: number): Float64Array {
	const gfns = new Set(grants.active.slice(0, count).map(({ gmfn }) => gmfn));
	for (let gfn = 0; gfns.size < count; gfn++) {
		gfns.add(gfn);
	}
	return Float64Array.from(gfns).sort();
}
