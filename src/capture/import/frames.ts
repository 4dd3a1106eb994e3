/**
 * The machine's frames while a captured host is laid out: which are taken, whose they are, what type is in use.
 *
 * Facts are claimed first (`own`), at the MFN that the capture names; two claims of one frame are a contradiction in
 * the capture. What has no known place is then taken from what is left (`takeRun`, `takeRuns`), so that assigned frames
 * never collide with facts. Nothing is ever given back. When the memory that `xl info` tells of is used up, it grows.
 */
import { FRAME, FRAME_OWNER_MASK, PAGE_TYPE, PAGE_TYPE_FLAG } from "../../format/enums.ts";
import { alignUp } from "../../format/layout.ts";
import { contradiction, hex } from "./ledger.ts";

/** Frames of a 2 MiB page. */
export const SUPERPAGE_FRAMES = 512;

/** The flat tables of a host with more than 256 GiB do not fit the core's 32-bit windows. */
const FRAME_LIMIT = 1 << 26;
/** The frame table is a multiple of 128 MiB. */
const FRAME_STEP = 0x8000;

/** Where a PC has no memory, and where therefore nothing is assigned: the first MiB, and from 3 GiB to 4 GiB. */
const UNSUITABLE: readonly (readonly [number, number])[] = [
	[0, 0x100],
	[0xc0000, 0x100000],
];
const HOLE_START = 0xc0000;
const HOLE_FRAMES = 0x40000;

const STATE = { free: 0, taken: 1, unsuitable: 2 } as const;

/** A row of frames. */
export interface FrameRun {
	first: number;
	count: number;
}

export class MachineFrames {
	#size = 0;
	#state = new Uint8Array(0);
	#owners = new BigUint64Array(0);
	#types = new Uint8Array(0);
	/** Where a search for a run may begin: frames are never given back, so what was passed over stays unfit. */
	readonly #searchFrom = new Map<string, number>();

	/** @param totalFrames the machine's memory, if it is known */
	constructor(totalFrames = 0) {
		this.#grow(totalFrames > HOLE_START ? totalFrames + HOLE_FRAMES : totalFrames);
	}

	/** Frames of the machine, taken or not. */
	get size(): number {
		return this.#size;
	}

	/** Frames that could still be taken. */
	get freeCount(): number {
		let free = 0;
		for (let mfn = 0; mfn < this.#size; mfn++) {
			free += this.#state[mfn] === STATE.free ? 1 : 0;
		}
		return free;
	}

	/** One entry per frame, see FRAME. */
	get owners(): BigUint64Array {
		return this.#owners.slice(0, this.#size);
	}

	/** One entry per frame, see PAGE_TYPE. */
	get types(): Uint8Array {
		return this.#types.slice(0, this.#size);
	}

	isFree(mfn: number): boolean {
		return mfn >= 0 && mfn < this.#size && this.#state[mfn] === STATE.free;
	}

	/** The domid that owns a frame; undefined for a frame of nobody. */
	ownerOf(mfn: number): number | undefined {
		const entry = mfn < this.#size ? (this.#owners[mfn] as bigint) : 0n;
		return entry === 0n ? undefined : Number(entry) & FRAME_OWNER_MASK;
	}

	/**
	 * Claims the frame that the capture names.
	 *
	 * @param flags FRAME bits beside `owned`
	 * @param what for messages: as what the capture names it
	 * @throws XluError XLU_E_CAPTURE if somebody has it already, or if no such machine could be described
	 */
	own(mfn: number, domid: number, flags: number, what: string): void {
		this.#claim(mfn, domid, what);
		this.#take(mfn, domid, flags);
	}

	/** Claims a frame that the capture names as the hypervisor's own, kept for a domain: it has no owner. */
	keep(mfn: number, domid: number, what: string): void {
		this.#claim(mfn, domid, what);
		this.#take(mfn, undefined, 0);
	}

	#claim(mfn: number, domid: number, what: string): void {
		if (mfn >= FRAME_LIMIT) {
			throw contradiction(domid, what, `an MFN below ${hex(FRAME_LIMIT)} (256 GiB)`, hex(mfn));
		}
		if (mfn >= this.#size) {
			this.#grow(mfn + 1);
		}
		if (this.#state[mfn] === STATE.taken) {
			const owner = this.ownerOf(mfn);
			const got = owner === undefined ? "one of the hypervisor's own already" : `a frame of domain ${owner} already`;
			throw contradiction(domid, `${what}, MFN ${hex(mfn)}`, "a frame that nothing else names", got);
		}
	}

	/** Like `own`, for a frame that the capture may name several times as the same domain's. */
	ownOnce(mfn: number, domid: number, flags: number, what: string): void {
		if (this.ownerOf(mfn) !== domid) {
			this.own(mfn, domid, flags, what);
		}
	}

	/** Notes the page type in use of a frame; the first one stands, since a frame has but one. */
	setType(mfn: number, type: number, flags: number = PAGE_TYPE_FLAG.validated): void {
		if (type !== PAGE_TYPE.none && this.#types[mfn] === 0) {
			this.#types[mfn] = type | flags;
		}
	}

	/**
	 * Takes the lowest free run of frames.
	 *
	 * @param count frames
	 * @param alignment of the first one, in frames
	 * @param domid whose they become; undefined for nobody's: the hypervisor's own, kept or reserved
	 * @returns the first MFN
	 */
	takeRun(count: number, alignment: number, domid?: number): number {
		const key = `${count}/${alignment}`;
		let first = alignUp(this.#searchFrom.get(key) ?? 0, alignment);
		for (;;) {
			if (first + count > this.#size) {
				this.#grow(first + count);
			}
			// From the end: what is in the way furthest up says how far to go.
			let blocked = first + count - 1;
			while (blocked >= first && this.#state[blocked] === STATE.free) {
				blocked--;
			}
			if (blocked < first) {
				break;
			}
			first = alignUp(blocked + 1, alignment);
		}
		this.#searchFrom.set(key, first + count);
		for (let mfn = first; mfn < first + count; mfn++) {
			this.#take(mfn, domid, FRAME.allocated);
		}
		return first;
	}

	/** Takes `count` frames from the bottom up, whatever stands between them, and says where they are. */
	takeRuns(count: number, domid: number): FrameRun[] {
		const runs: FrameRun[] = [];
		let left = count;
		for (let mfn = 0; left > 0; mfn++) {
			if (mfn >= this.#size) {
				this.#grow(mfn + left);
			}
			if (this.#state[mfn] !== STATE.free) {
				continue;
			}
			const run = { first: mfn, count: 0 };
			while (left > 0 && mfn < this.#size && this.#state[mfn] === STATE.free) {
				this.#take(mfn, domid, FRAME.allocated);
				run.count++;
				left--;
				mfn++;
			}
			mfn--;
			runs.push(run);
		}
		return runs;
	}

	/** Grows until as many frames are free. */
	ensureFree(count: number): void {
		// More than once where what it grows by is the hole below 4 GiB.
		for (let free = this.freeCount; free < count; free = this.freeCount) {
			this.#grow(this.#size + count - free);
		}
	}

	#take(mfn: number, domid: number | undefined, flags: number): void {
		this.#state[mfn] = STATE.taken;
		if (domid !== undefined) {
			this.#owners[mfn] = BigInt(domid | FRAME.owned | flags);
		}
	}

	#grow(atLeast: number): void {
		const size = alignUp(atLeast, FRAME_STEP);
		if (size > FRAME_LIMIT) {
			throw contradiction(undefined, "memory", `at most ${hex(FRAME_LIMIT)} frames (256 GiB)`, hex(size));
		}
		const before = this.#size;
		if (size > this.#state.length) {
			const capacity = Math.min(FRAME_LIMIT, Math.max(size, this.#state.length * 2));
			const state = new Uint8Array(capacity);
			state.set(this.#state);
			this.#state = state;
			const owners = new BigUint64Array(capacity);
			owners.set(this.#owners);
			this.#owners = owners;
			const types = new Uint8Array(capacity);
			types.set(this.#types);
			this.#types = types;
		}
		this.#size = size;
		for (const [first, end] of UNSUITABLE) {
			this.#state.fill(STATE.unsuitable, Math.min(Math.max(first, before), size), Math.min(end, size));
		}
	}
}
