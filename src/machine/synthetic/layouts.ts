/**
 * Whose frames lie where: each layout deals out the arena, and says in which order a domain's frames make up its memory.
 */
import { alignUp } from "../../format/layout.ts";
import type { Random } from "../../random.ts";
import { FRAMES_1G, FRAMES_2M, type SyntheticFrames } from "./frames.ts";
import type { Layout } from "./spec.ts";

/** A domain's memory, by MFN, in the order of its GFNs. */
export interface DomainFrames {
	/** Frames that are mapped one by one. */
	small: Uint32Array;
	/** First frames of 2 MiB pages, and of 1 GiB pages. */
	blocks: Uint32Array;
	giants: Uint32Array;
}

/** One in a hundred 2 MiB blocks of the superpages is broken, into pieces of this mean length. */
const BROKEN_SHARE = 0.01;
const BROKEN_PIECE_MEAN = 8;
/**
 * Typical: half of the memory in 2 MiB windows of one owner, half in runs, which such windows cut now and then: with runs
 * of 358 frames what the frame table has is runs of about 350. Cut into pieces of 84 besides, the P2M's are of about 64.
 */
const OWNER_RUN_MEAN = 358;
const PIECE_MEAN = 84;
/** Of the arena one frame in 64 stays free. */
const FREE_SHARE = 1 / 64;

/** 1 GiB pages are for memory that they leave something of, as for a guest whose first GiB has holes. */
const wholeGiants = (count: number): number => Math.max(0, Math.floor(count / FRAMES_1G) - 1);

/** How many frames the arena needs for domains of so many frames. */
export function arenaFrames(layout: Layout, counts: readonly number[]): number {
	const sum = counts.reduce((total, count) => total + count, 0);
	// Superpages: each domain begins with a window of its own, and ends in one.
	if (layout === "superpages") return counts.reduce((total, count) => total + alignUp(count, FRAMES_2M), 0);
	return alignUp(sum + Math.ceil(sum * FREE_SHARE), FRAMES_2M) + FRAMES_2M;
}

export function needsGiants(layout: Layout, counts: readonly number[]): boolean {
	return layout === "superpages" && counts.some((count) => wholeGiants(count) > 0);
}

/** Deals out the arena: a DomainFrames for each count. */
export function dealFrames(
	layout: Layout,
	counts: readonly number[],
	frames: SyntheticFrames,
	random: Random,
): DomainFrames[] {
	if (layout === "superpages") return dealSuperpages(counts, frames, random);
	if (layout === "typical") return dealTypical(counts, frames, random);
	const dealt = layout === "fragmented" ? dealFragmented(counts, random) : dealAlternating(counts);
	for (const small of dealt) for (let i = 0; i < small.length; i++) small[i] = frames.arenaMfn(small[i] as number);
	return dealt.map((small) => ({ small, blocks: new Uint32Array(0), giants: new Uint32Array(0) }));
}

/** Cuts a row of frames where it does not go on, and into pieces, and puts the pieces into another order. */
function shufflePieces(row: Uint32Array, mean: number, random: Random): Uint32Array {
	const starts: number[] = [];
	let left = 0;
	for (let i = 0; i < row.length; i++) {
		if (left === 0 || row[i] !== (row[i - 1] as number) + 1) {
			starts.push(i);
			left = random.geometric(mean);
		}
		left--;
	}
	const order = random.shuffle(Uint32Array.from(starts.keys()));
	const shuffled = new Uint32Array(row.length);
	let filled = 0;
	for (const piece of order) {
		const part = row.subarray(starts[piece], starts[piece + 1]);
		shuffled.set(part, filled);
		filled += part.length;
	}
	return shuffled;
}

function dealSuperpages(counts: readonly number[], frames: SyntheticFrames, random: Random): DomainFrames[] {
	let next = 0;
	const takeAt = (count: number): number => {
		const mfn = frames.arenaMfn(next);
		next += count;
		return mfn;
	};
	// What must be aligned to 1 GiB comes first.
	const groups = counts.map((count) => Array.from({ length: wholeGiants(count) }, () => takeAt(FRAMES_1G)));
	return counts.map((count, index) => {
		const giants: number[] = [];
		const blocks: number[] = [];
		for (const group of groups[index] as number[]) {
			if (giants.length === 0 || random.chance(0.5)) giants.push(group);
			else for (let at = 0; at < FRAMES_1G; at += FRAMES_2M) blocks.push(group + at);
		}
		const rest = count - FRAMES_1G * (groups[index] as number[]).length;
		const whole = Math.floor(rest / FRAMES_2M);
		const rows: Uint32Array[] = [];
		const row = (first: number, length: number): Uint32Array => Uint32Array.from({ length }, (_, i) => first + i);
		const mustBreak = whole > 2 ? 1 + random.below(whole - 1) : -1;
		for (let window = 0; window < whole; window++) {
			const first = takeAt(FRAMES_2M);
			if (window === 0) rows.push(row(first, FRAMES_2M));
			else if (window === mustBreak || random.chance(BROKEN_SHARE))
				rows.push(shufflePieces(row(first, FRAMES_2M), BROKEN_PIECE_MEAN, random));
			else blocks.push(first);
		}
		if (rest % FRAMES_2M > 0) rows.push(row(takeAt(FRAMES_2M), rest % FRAMES_2M));
		return { small: concatenate(rows), blocks: Uint32Array.from(blocks), giants: Uint32Array.from(giants) };
	});
}

function concatenate(rows: readonly Uint32Array[]): Uint32Array {
	const all = new Uint32Array(rows.reduce((sum, row) => sum + row.length, 0));
	let at = 0;
	for (const row of rows) {
		all.set(row, at);
		at += row.length;
	}
	return all;
}

/** An index with a chance of its share of what is left, but not `except` while there is another. */
function drawWeighted(left: readonly number[], total: number, except: number, random: Random): number {
	const others = total - (left[except] ?? 0);
	if (others === 0) return except;
	let ticket = random.below(others);
	for (let i = 0; i < left.length; i++) {
		if (i === except) continue;
		ticket -= left[i] as number;
		if (ticket < 0) return i;
	}
	throw new Error("weights that do not add up");
}

function dealTypical(counts: readonly number[], frames: SyntheticFrames, random: Random): DomainFrames[] {
	const blockCounts = counts.map((count) => Math.max(0, Math.floor((count / FRAMES_2M - 1) / 2)));
	const blocks = blockCounts.map((count) => new Uint32Array(count));
	const small = counts.map((count, i) => new Uint32Array(count - FRAMES_2M * (blockCounts[i] as number)));
	const sum = counts.reduce((total, count) => total + count, 0);
	// What is left to be dealt out; the last one is nobody's.
	const blocksLeft = [...blockCounts];
	const smallLeft = [...small.map((row) => row.length), Math.ceil(sum * FREE_SHARE)];
	let blockTotal = blocksLeft.reduce((total, count) => total + count, 0);
	let smallTotal = smallLeft.reduce((total, count) => total + count, 0);
	let owner = -1;
	let run = 0;
	let blockOwner = -1;
	for (let window = 0; blockTotal > 0 || smallTotal > 0; window++) {
		const windowsLeft = blockTotal + Math.ceil(smallTotal / FRAMES_2M);
		if (random.below(windowsLeft) < blockTotal) {
			blockOwner = drawWeighted(blocksLeft, blockTotal, blockOwner, random);
			const row = blocks[blockOwner] as Uint32Array;
			row[row.length - (blocksLeft[blockOwner] as number)] = frames.arenaMfn(window * FRAMES_2M);
			(blocksLeft[blockOwner] as number)--;
			blockTotal--;
			continue;
		}
		for (let at = 0; at < FRAMES_2M && smallTotal > 0; at++) {
			if (run === 0 || smallLeft[owner] === 0) {
				owner = drawWeighted(smallLeft, smallTotal, owner, random);
				run = random.geometric(OWNER_RUN_MEAN);
			}
			const row = small[owner];
			if (row) row[row.length - (smallLeft[owner] as number)] = frames.arenaMfn(window * FRAMES_2M + at);
			(smallLeft[owner] as number)--;
			smallTotal--;
			run--;
		}
	}
	return small.map((row, i) => ({
		small: shufflePieces(row, PIECE_MEAN, random),
		blocks: random.shuffle(blocks[i] as Uint32Array),
		giants: new Uint32Array(0),
	}));
}

/** Places in the arena, each anywhere. */
function dealFragmented(counts: readonly number[], random: Random): Uint32Array[] {
	const all = new Uint32Array(arenaFrames("fragmented", counts));
	for (let i = 0; i < all.length; i++) all[i] = i;
	random.shuffle(all);
	let from = 0;
	return counts.map((count) => {
		from += count;
		return all.slice(from - count, from);
	});
}

/** Places in the arena, a frame for each domain in turn; each domain's from the top down. */
function dealAlternating(counts: readonly number[]): Uint32Array[] {
	const left = [...counts];
	const rows = counts.map((count) => new Uint32Array(count));
	let place = 0;
	while (left.some((count) => count > 0)) {
		for (let i = 0; i < rows.length; i++) {
			if ((left[i] as number) === 0) continue;
			(left[i] as number)--;
			(rows[i] as Uint32Array)[left[i] as number] = place++;
		}
	}
	return rows;
}
