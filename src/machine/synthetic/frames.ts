/**
 * The machine's frames of a synthetic host, from the bottom up:
 *
 *     | 1 MiB, DOMID_IO's | bootmem | xen#1's image | re-usable | arena: domains' memory | tables of Xen, room for a stream |
 *
 * The arena is a row of windows of 2 MiB; it steps over the hole below 4 GiB, where a PC has its devices (DOMID_IO's too).
 */
import { DOMID, FRAME, P2M_ORDER, PAGE_TYPE_FLAG, REGION } from "../../format/enums.ts";
import { alignUp } from "../../format/layout.ts";
import type { HostModel } from "../model.ts";

/** Frames of a superpage. */
export const FRAMES_2M = 2 ** P2M_ORDER["2M"];
export const FRAMES_1G = 2 ** P2M_ORDER["1G"];

const FRAMES_PER_MIB = 256;
const LOW_FRAMES = FRAMES_PER_MIB;
const BOOTMEM_FRAMES = 64 * FRAMES_PER_MIB;
const IMAGE_FRAMES = 16 * FRAMES_PER_MIB;
const REUSABLE_FRAMES = 32 * FRAMES_PER_MIB;
/** Contiguous, beside what the arena leaves free. */
const STREAM_FRAMES = 16 * FRAMES_PER_MIB;
const M2P_ENTRIES_PER_FRAME = 512;
/** From 3 GiB to 4 GiB. */
export const DEVICE_HOLE = { first: 0xc0000, count: FRAMES_1G } as const;

export class SyntheticFrames {
	readonly owners: BigUint64Array;
	readonly types: Uint8Array;
	readonly regions: HostModel["regionList"];
	/** Low halves of the owners' entries, which have nothing in the high ones. */
	readonly #words: Uint32Array;
	readonly #arena: number;
	#next: number;

	/**
	 * @param arenaFrames frames of the arena, a multiple of 512
	 * @param tableFrames most frames that `take` will be asked for
	 * @param hasGiants whether the arena must begin at a multiple of 1 GiB
	 */
	constructor(arenaFrames: number, tableFrames: number, hasGiants: boolean) {
		const bootmem = alignUp(LOW_FRAMES, FRAMES_2M);
		const image = bootmem + BOOTMEM_FRAMES;
		const reusable = image + IMAGE_FRAMES;
		this.#arena = alignUp(reusable + REUSABLE_FRAMES, hasGiants ? FRAMES_1G : FRAMES_2M);
		const behind = this.#stepOver(this.#arena + arenaFrames);
		// One M2P frame for 512 frames, the M2P's own included.
		const needed = tableFrames + STREAM_FRAMES;
		const m2pBound = Math.ceil((behind + DEVICE_HOLE.count + needed) / (M2P_ENTRIES_PER_FRAME - 1)) + 1;
		const straddles = behind < DEVICE_HOLE.first && behind + needed + m2pBound > DEVICE_HOLE.first;
		this.#next = straddles ? DEVICE_HOLE.first + DEVICE_HOLE.count : behind;
		const frameCount = alignUp(this.#next + needed + m2pBound, FRAMES_2M);
		this.owners = new BigUint64Array(frameCount);
		this.types = new Uint8Array(frameCount);
		this.#words = new Uint32Array(this.owners.buffer);
		this.regions = [
			{ firstMfn: bootmem, frameCount: BOOTMEM_FRAMES, kind: REGION.bootmem },
			{ firstMfn: image, frameCount: IMAGE_FRAMES, kind: REGION.xenImage },
			{ firstMfn: reusable, frameCount: REUSABLE_FRAMES, kind: REGION.reusable },
		];
		const io = FRAME.allocated | FRAME.xenheap;
		this.ownRun(0, LOW_FRAMES, DOMID.IO, io);
		if (frameCount > DEVICE_HOLE.first) this.ownRun(DEVICE_HOLE.first, DEVICE_HOLE.count, DOMID.IO, io);
	}

	get frameCount(): number {
		return this.owners.length;
	}

	#stepOver(mfn: number): number {
		return mfn >= DEVICE_HOLE.first ? mfn + DEVICE_HOLE.count : mfn;
	}

	/** MFN of a frame of the arena; a window of 2 MiB, and a group of 512 windows, are aligned and contiguous. */
	arenaMfn(index: number): number {
		return this.#stepOver(this.#arena + index);
	}

	own(mfn: number, domid: number, flags: number = FRAME.allocated): void {
		this.#words[2 * mfn] = domid | FRAME.owned | flags;
	}

	ownRun(first: number, count: number, domid: number, flags: number = FRAME.allocated): void {
		for (let mfn = first; mfn < first + count; mfn++) this.own(mfn, domid, flags);
	}

	/** Takes frames behind the arena: `domid`'s, or nobody's if they are page tables that stay in place. */
	take(count: number, domid?: number, flags: number = FRAME.allocated): number {
		const first = this.#next;
		this.#next += count;
		if (this.#next > this.frameCount) throw new Error(`no room for ${count} frames behind the arena`);
		if (domid !== undefined) this.ownRun(first, count, domid, flags);
		return first;
	}

	/** Takes the frames of the M2P. */
	takeM2p(): HostModel["m2pRanges"] {
		const frameCount = Math.ceil(this.frameCount / M2P_ENTRIES_PER_FRAME);
		return [{ firstMfn: this.take(frameCount, DOMID.XEN), frameCount }];
	}

	/** Notes the type in use of a frame; it has but one. */
	setType(mfn: number, type: number, flags: number = PAGE_TYPE_FLAG.validated): void {
		this.types[mfn] = type | flags;
	}
}
