/**
 * The bulk codecs of the core, layout by layout, against memory.copy of the table; the adversarial layouts against random
 * frames; what integrity adds; what reading one entry of a superpage gains. One process, one memory.
 */
import { CodecMemory, codingRoom } from "../codecMemory.mjs";
import { alternate, ratio, ratios, repeat, scaled, summaries } from "../harness.mjs";
import { adversarialLayouts, makeTable, tableLayouts } from "../layouts.mjs";

export const name = "codecs";
export const title = "Codecs";
export const weight = { quick: 14, full: 10 };

/** Entries: beyond the last cache, and within the second. */
const sizes = {
	tiny: { large: 2 ** 13 },
	quick: { large: 2 ** 21, cached: 2 ** 13 },
	full: { large: 2 ** 22, cached: 2 ** 13 },
};

export async function run({ size, clock, log }) {
	const rows = [];
	const jobs = Object.entries(sizes[size]).flatMap(([place, entries]) =>
		tableLayouts.map((layout) => ({ place, entries, layout })),
	);
	for (const [i, job] of jobs.entries()) {
		log(`${job.layout}, ${job.place}`);
		rows.push(await measure(job, clock.part(1, jobs.length - i + 2)));
	}
	return { rows, againstRandom: await againstRandom(sizes[size].large, clock) };
}

/** Windows of one layout in a memory of its own. */
function prepare(memory, layout, entries) {
	const table = memory.place(makeTable(layout, entries));
	const out = memory.allocate(codingRoom(entries));
	const target = memory.allocate(entries * 8);
	const coded = memory.encode(table, entries, out);
	const coding = memory.place(memory.bytes(out, coded).slice());
	memory.decode(coding, coded, entries, target);
	if (!memory.isSame(table, target, entries * 8)) throw new Error(`${layout}: another table came out`);
	return { table, out, target, coded, coding };
}

async function measure({ place, entries, layout }, clock) {
	const memory = new CodecMemory();
	const { copyOnce, copyBlocks, storeAll, checkChunks, xxh3_64, encodeP2m } = memory.exports;
	const { table, out, target, coded, coding } = prepare(memory, layout, entries);
	const bytes = entries * 8;
	const times = Math.max(1, Math.floor(2 ** 18 / entries));
	const candidates = {
		copy: repeat(times, () => copyOnce(target, table, bytes)),
		copyBlocks: repeat(times, () => copyBlocks(target, table, bytes)),
		store: repeat(times, () => storeAll(target, bytes, 1n)),
		encode: repeat(times, () => memory.encode(table, entries, out)),
		hash: repeat(times, () => xxh3_64(out, coded)),
		check: repeat(times, () => checkChunks(8, coding, coded, entries)),
		decode: repeat(times, () => memory.decode(coding, coded, entries, target)),
	};
	if (layout === "superpages") {
		if (encodeP2m(table, entries, out) >>> 0 !== coded || !memory.isSame(out, coding, coded)) {
			throw new Error("superpage-aware reading wrote another stream");
		}
		candidates.encodeP2m = repeat(times, () => encodeP2m(table, entries, out));
	}
	const { samples } = await alternate(candidates, { clock, warm: 3, least: 7, most: 61 });
	const ms = summaries(samples);
	const result = {
		place,
		layout,
		entries,
		octetsPerEntry: coded / entries,
		ms,
		nsPerEntry: Object.fromEntries(Object.entries(ms).map(([key, row]) => [key, scaled(row, 1e6 / entries)])),
		toCopy: ratios(samples, "copy"),
		decodeToStore: ratio(samples.decode, samples.store),
		checkToDecode: ratio(samples.check, samples.decode),
		/** What the checksum adds to the encoding. */
		integrity: ratio(samples.hash, samples.encode),
	};
	if (samples.encodeP2m) result.copyToTrusted = ratio(samples.copy, samples.encodeP2m);
	return result;
}

/** Each adversarial layout over random frames, in the same turns. */
async function againstRandom(entries, clock) {
	const memory = new CodecMemory();
	const windows = Object.fromEntries(
		["random", ...adversarialLayouts].map((layout) => [layout, prepare(memory, layout, entries)]),
	);
	const candidates = {};
	for (const [layout, { table, out, target, coded, coding }] of Object.entries(windows)) {
		candidates[`${layout} encode`] = () => memory.encode(table, entries, out);
		candidates[`${layout} decode`] = () => memory.decode(coding, coded, entries, target);
	}
	const { samples } = await alternate(candidates, { clock, warm: 1, least: 5, most: 41 });
	return adversarialLayouts.map((layout) => ({
		layout,
		encode: ratio(samples[`${layout} encode`], samples["random encode"]),
		decode: ratio(samples[`${layout} decode`], samples["random decode"]),
	}));
}
