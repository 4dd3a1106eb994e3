/**
 * The P2M of a synthetic PVH or HVM guest:
 *
 *     | first 2 MiB: 4 KiB entries | 2 MiB pages and broken blocks, mixed | rest | devices | ... | 1 GiB pages |
 *
 * The first block has entries of special types, and an HVM guest's a hole where VGA's memory is. Among the devices stand
 * populate-on-demand holes, MMIO, foreign and grant mappings: right above the memory, so that the P2M is no longer than
 * it must be. Adversarial memory has every second GFN a hole.
 */
import {
	FRAME,
	KEPT_FORMAT,
	KEPT_PURPOSE,
	KIND,
	P2M_ACCESS,
	P2M_BITS,
	P2M_ORDER,
	P2M_TYPE,
} from "../../format/enums.ts";
import { alignUp } from "../../format/layout.ts";
import type { DomainModel } from "../model.ts";
import { type SyntheticDomain, VGA_HOLE } from "./domain.ts";
import { DEVICE_HOLE, FRAMES_1G, FRAMES_2M } from "./frames.ts";

/** Places of the first small frames with special types: read-only memory, and writes that an emulator claims. */
const READ_ONLY = { first: 0x20, count: 8 } as const;
const CLAIMED = { first: 0x30, count: 2 } as const;
/** Blocks of devices: one of populate-on-demand, one for all else. */
const DEVICE_FRAMES = 2 * FRAMES_2M;
const LOOSE_HOLES = 8;
const MMIO_FRAMES = 16;
const P2M_LEVELS = 4;
/** GFNs of a page table's levels below the root: one L1 table maps 512 frames, and so on. */
const TABLE_GFNS = [2 ** 9, 2 ** 18, 2 ** 27] as const;

/** High half of an entry: everything but the MFN, which has fewer than 32 bits here. */
function high(type: number, order: number, access: number = P2M_ACCESS.rwx, isPresent = true): number {
	const bits = (type << (P2M_BITS.type - 32)) | (access << (P2M_BITS.access - 32)) | (order << (P2M_BITS.order - 32));
	return (bits | (isPresent ? 1 << (P2M_BITS.present - 32) : 0)) >>> 0;
}

/** What a domain's P2M has beside its own memory. */
export interface Mappings {
	/** Frames of others: whose they are. */
	foreign: readonly { mfn: number; owner: number }[];
	/** Frames that others have granted. */
	granted: readonly number[];
	/** Whether an I/O server has claimed writes. */
	hasClaim: boolean;
}

/** How many GFNs a domain's memory takes, up to the devices. */
export function memoryGfns(frames: number, kind: number, stride: number): number {
	return alignUp(stride * frames + (kind === KIND.hvm ? VGA_HOLE.count : 0), FRAMES_2M);
}

/** First GFN for I/O request pages of the old way, behind everything else among the devices. */
export function ioreqGfn(domain: SyntheticDomain): number {
	const { small, blocks } = domain.memory;
	const frames = small.length + FRAMES_2M * blocks.length;
	return memoryGfns(frames, domain.kind, domain.stride) + DEVICE_FRAMES - 8;
}

/** Puts a domain's P2M and the page tables that Xen keeps for it into the model. */
export function makeP2m(domain: SyntheticDomain, { foreign, granted, hasClaim }: Mappings): void {
	const { memory, kind, stride, random, model } = domain;
	const { small, blocks, giants } = memory;
	const devices = memoryGfns(small.length + FRAMES_2M * blocks.length, kind, stride);
	const behind = devices + DEVICE_FRAMES;
	const length = giants.length > 0 ? alignUp(behind, FRAMES_1G) + FRAMES_1G * giants.length : behind;
	const p2m = new BigUint64Array(length);
	const halves = new Uint32Array(p2m.buffer);
	const set = (gfn: number, mfn: number, bits: number): void => {
		halves[2 * gfn] = mfn;
		halves[2 * gfn + 1] = bits;
	};
	const superpage = (gfn: number, mfn: number, order: number): void => {
		const bits = high(P2M_TYPE.ramRw, order);
		for (let i = 0; i < 2 ** order; i++) set(gfn + i, mfn + i, bits);
	};
	const ram = high(P2M_TYPE.ramRw, P2M_ORDER["4K"]);
	const readOnly = high(P2M_TYPE.ramRo, P2M_ORDER["4K"], P2M_ACCESS.rx);
	const claimed = high(P2M_TYPE.ioreqServer, P2M_ORDER["4K"]);
	const within = (part: { first: number; count: number }, place: number): boolean =>
		place >= part.first && place < part.first + part.count;

	let gfn = 0;
	let place = 0;
	const mapSmall = (count: number): void => {
		for (let i = 0; i < count && place < small.length; i++, place++, gfn += stride) {
			if (kind === KIND.hvm && stride === 1 && gfn === VGA_HOLE.first) gfn += VGA_HOLE.count;
			let bits = ram;
			if (within(READ_ONLY, place)) bits = readOnly;
			else if (hasClaim && within(CLAIMED, place)) bits = claimed;
			set(gfn, small[place] as number, bits);
		}
	};
	const hole = kind === KIND.hvm && stride === 1 ? VGA_HOLE.count : 0;
	mapSmall(FRAMES_2M - hole);
	const wholeSmall = stride === 1 ? Math.floor((small.length - place) / FRAMES_2M) : 0;
	const order = random.shuffle(Uint32Array.from({ length: blocks.length + wholeSmall }, (_, i) => i));
	for (const item of order) {
		const block = blocks[item];
		if (block === undefined) mapSmall(FRAMES_2M);
		else {
			superpage(gfn, block, P2M_ORDER["2M"]);
			gfn += FRAMES_2M;
		}
	}
	mapSmall(small.length);

	// Populate-on-demand: an aligned block in one entry, and loose ones.
	const unpopulated = (entryOrder: number) => high(P2M_TYPE.populateOnDemand, entryOrder, P2M_ACCESS.rwx, false);
	for (let i = 0; i < FRAMES_2M; i++) set(devices + i, 0, unpopulated(P2M_ORDER["2M"]));
	let next = devices + FRAMES_2M;
	for (let i = 0; i < LOOSE_HOLES; i++) set(next++, 0, unpopulated(P2M_ORDER["4K"]));
	set(next++, 0, high(P2M_TYPE.mmioDm, P2M_ORDER["4K"], P2M_ACCESS.rwx, false));
	if (kind === KIND.hvm) {
		const page = domain.takeFrame(FRAME.allocated | FRAME.extra);
		set(next++, page, high(P2M_TYPE.mmioDirect, P2M_ORDER["4K"]));
	}
	const bar = DEVICE_HOLE.first + 0x2_0000 + domain.index * MMIO_FRAMES;
	for (let i = 0; i < MMIO_FRAMES; i++) set(next++, bar + i, high(P2M_TYPE.mmioDirect, P2M_ORDER["4K"], P2M_ACCESS.rw));
	for (const mfn of granted) set(next++, mfn, high(P2M_TYPE.grantMapRw, P2M_ORDER["4K"], P2M_ACCESS.rw));
	const maps: NonNullable<DomainModel["foreignMapList"]>[number][] = [];
	for (const { mfn, owner } of foreign) {
		maps.push({ gfn: next, mfn, owner });
		set(next++, mfn, high(P2M_TYPE.foreign, P2M_ORDER["4K"], P2M_ACCESS.rw));
	}
	giants.forEach((mfn, i) => {
		superpage(alignUp(behind, FRAMES_1G) + FRAMES_1G * i, mfn, P2M_ORDER["1G"]);
	});
	model.p2m = p2m;
	model.p2mDefaultAccess = P2M_ACCESS.rwx;
	if (maps.length > 0) model.foreignMapList = maps;
	keepTables(domain, halves);
}

/** Page tables of the P2M: as many as its entries need. Nobody owns them. */
function keepTables(domain: SyntheticDomain, halves: Uint32Array): void {
	const orderShift = P2M_BITS.order - 32;
	const tables = [0, 0, 0];
	const last = [-1, -1, -1];
	for (let gfn = 0; gfn < halves.length / 2; ) {
		const bits = halves[2 * gfn + 1] as number;
		const order = (bits >>> orderShift) & 63;
		TABLE_GFNS.forEach((span, level) => {
			const table = Math.floor(gfn / span);
			// A superpage is an entry of the level above.
			if (bits === 0 || 2 ** order >= span || last[level] === table) return;
			last[level] = table;
			(tables[level] as number)++;
		});
		gfn += order === 0 ? 1 : 2 ** order;
	}
	const count = 1 + tables.reduce((sum, some) => sum + some, 0);
	const rootMfn = domain.takeTables(count);
	const { model } = domain;
	model.keptFrames = {};
	model.keptRoots = [{ rootMfn, purpose: KEPT_PURPOSE.p2m, format: KEPT_FORMAT.ept, levels: P2M_LEVELS }];
	model.keptRanges = [{ firstMfn: rootMfn, frameCount: count }];
	model.domain.hapPoolFrames = count;
}

/** Most page tables that a P2M over so many frames can need. */
export function mostTables(frames: number, stride: number): number {
	const gfns = stride * frames + DEVICE_FRAMES + 2 * FRAMES_2M;
	return Math.ceil(gfns / FRAMES_2M) + Math.ceil(gfns / FRAMES_1G) + 8;
}
