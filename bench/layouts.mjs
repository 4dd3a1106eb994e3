/**
 * Tables of one kind each, for the codecs and their peers: those of bench/instructions.c, made in the same way from
 * another generator. Entries are u64; see assembly/extent/chunk.ts for their bits.
 */
import { Random } from "../dist/random.js";

const FRAMES_2M = 512;
const OWNERS = 41;
/** High halves: present, read-write-execute; with the order of a 2 MiB page. */
const SMALL = 0x8000_0700;
const SUPERPAGE = 0x8009_0700;

/** Cuts [first, first + count) into pieces of a mean length and puts them into another order. */
function pieces(halves, at, count, mean, first, random) {
	const starts = [];
	for (let frame = 0; frame < count; frame += mean === 1 ? 1 : random.geometric(mean)) starts.push(frame);
	starts.push(count);
	const order = random.shuffle(Uint32Array.from({ length: starts.length - 1 }, (_, i) => i));
	for (const piece of order) {
		for (let frame = starts[piece]; frame < starts[piece + 1]; frame++, at++) {
			halves[2 * at] = first + frame;
			halves[2 * at + 1] = SMALL;
		}
	}
}

const makers = {
	/** (a): 2 MiB pages anywhere, one in a hundred blocks broken into 4 KiB entries, pieces of mean length 8. */
	superpages(halves, count, random) {
		const blocks = random.shuffle(Uint32Array.from({ length: Math.ceil(count / FRAMES_2M) }, (_, i) => i));
		blocks.forEach((block, i) => {
			const at = i * FRAMES_2M;
			const length = Math.min(FRAMES_2M, count - at);
			if (length < FRAMES_2M || random.chance(0.01)) pieces(halves, at, length, 8, block * FRAMES_2M, random);
			else {
				for (let frame = 0; frame < FRAMES_2M; frame++) {
					halves[2 * (at + frame)] = block * FRAMES_2M + frame;
					halves[2 * (at + frame) + 1] = SUPERPAGE;
				}
			}
		});
	},
	/** Page ownership: runs of one owner of geometric length, mean 350; free frames are zero. */
	own(halves, count, random) {
		for (let at = 0; at < count; ) {
			const end = at + random.geometric(350);
			const owner = random.below(OWNERS);
			for (; at < end && at < count; at++) halves[2 * at] = owner === 0 ? 0 : 0x30000 | owner;
		}
	},
	/** (c): 4 KiB entries in runs of geometric length, mean 64, anywhere. */
	runs(halves, count, random) {
		pieces(halves, 0, count, 64, 0, random);
	},
	/** (b): every frame anywhere in 1 TiB. */
	random(halves, count, random) {
		pieces(halves, 0, count, 1, 0, random);
		const spread = Math.max(1, Math.floor(2 ** 28 / count));
		for (let i = 0; i < count; i++) halves[2 * i] = halves[2 * i] * spread + random.below(spread);
	},
	/** Another owner with every frame. */
	alternating(halves, count) {
		for (let i = 0; i < count; i++) halves[2 * i] = 0x30001 + (i % 2);
	},
	/** Every second entry a hole, the others anywhere. */
	holes(halves, count, random) {
		for (let i = 0; i < count; i += 2) {
			halves[2 * i] = random.below(2 ** 28);
			halves[2 * i + 1] = SMALL;
		}
	},
	/** Each frame below the one before it. */
	descending(halves, count) {
		for (let i = 0; i < count; i++) {
			halves[2 * i] = count - i;
			halves[2 * i + 1] = SMALL;
		}
	},
};

export const tableLayouts = Object.keys(makers);
export const adversarialLayouts = ["alternating", "holes", "descending"];

/** The table of a layout: the same one every time. */
export function makeTable(layout, count) {
	const entries = new BigUint64Array(count);
	makers[layout](new Uint32Array(entries.buffer), count, new Random(tableLayouts.indexOf(layout) + 1));
	return entries;
}
