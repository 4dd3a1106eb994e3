/**
 * What the machine can do at the most: memory.copy in one call and in blocks of 32 KiB, a loop that only reads, a loop
 * that only writes, over as many octets as the two big tables of a host have (P2Ms and page ownership). All in one memory.
 */
import { CodecMemory } from "../codecMemory.mjs";
import { alternate, ratios, repeat, scaled, summaries } from "../harness.mjs";

export const name = "limits";
export const title = "Limits of the machine";
export const weight = { quick: 4, full: 2 };

const MIB = 2 ** 20;
const sizes = { tiny: [MIB], quick: [0.125 * MIB, 64 * MIB], full: [0.125 * MIB, 8 * MIB, 64 * MIB, 256 * MIB] };

export async function run({ size, clock, log }) {
	const rows = [];
	for (const [i, bytes] of sizes[size].entries()) {
		log(`${bytes / MIB} MiB`);
		const memory = new CodecMemory();
		const { copyOnce, copyBlocks, readAll, storeAll } = memory.exports;
		const from = memory.allocate(bytes);
		const to = memory.allocate(bytes);
		// Touched, and not zero: pages that were never written all lie in one.
		storeAll(from, bytes, 0x8000_0700_0012_3456n);
		storeAll(to, bytes, 1n);
		// What fits a cache is done so often that the clock's own grain does not count.
		const times = Math.max(1, Math.floor((4 * MIB) / bytes));
		const { samples } = await alternate(
			{
				copy: repeat(times, () => copyOnce(to, from, bytes)),
				copyBlocks: repeat(times, () => copyBlocks(to, from, bytes)),
				read: repeat(times, () => readAll(from, bytes)),
				store: repeat(times, () => storeAll(to, bytes, 1n)),
			},
			{ clock: clock.part(1, sizes[size].length - i), warm: 3, least: 9, most: 101 },
		);
		const medians = summaries(samples);
		rows.push({
			bytes,
			ms: medians,
			gibPerSecond: Object.fromEntries(
				Object.entries(medians).map(([key, { median }]) => [key, bytes / 2 ** 30 / (median / 1000)]),
			),
			/** Of a page of 4 KiB: 8 octets of P2M and 8 of ownership. */
			nsPerPage: Object.fromEntries(
				Object.entries(medians).map(([key, row]) => [key, scaled(row, (1e6 * 16) / bytes)]),
			),
			toCopy: ratios(samples, "copy"),
		});
	}
	return { rows };
}
