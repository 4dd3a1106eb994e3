/** Chunks: FORMAT.md, "Chunks". The entries of a slice, as maximal runs. */
import { align8, type Octets } from "./octets.ts";
import { Damaged, type EntryRun, finding, type StreamRecord } from "./stream.ts";

const ENTRIES = 4096;
const RUNS = 1;
const PACKED = 2;
const LITERAL = 3;
const LONGEST_SLICE = 2 ** 20;
const MFN_MASK = (1n << 40n) - 1n;

/** How much an entry counts up by from one to the next in its run. */
const stride = (entry: bigint): bigint => entry >> 63n;

/** Whether `b` continues the run of `a`. */
export const continues = (a: bigint, b: bigint): boolean => b === a + stride(a) && a >> 40n === b >> 40n;

/** Adds a run; one that continues the last one makes that longer. */
function append(runs: EntryRun[], first: bigint, count: bigint, entry: bigint): void {
	const last = runs.at(-1);
	if (last && continues(last.entry + stride(last.entry) * (last.count - 1n), entry)) last.count += count;
	else runs.push({ first, count, entry });
}

/**
 * @param first number of the slice's first entry in its table
 * @throws Damaged: XLU-R020, -R021
 */
export function readChunks(octets: Octets, record: StreamRecord, at: number, size: 1 | 8, first: bigint): EntryRun[] {
	const { entryCount, chunkBytes } = record.head as Record<string, number>;
	const end = at + chunkBytes!;
	const runs: EntryRun[] = [];
	let left = entryCount!;
	let chunk = 0;

	const must = (holds: boolean, note: string): void => {
		if (!holds) throw new Damaged(finding(20, record, `chunk ${chunk}`, note));
	};
	if (left < 1 || left > LONGEST_SLICE) throw new Damaged(finding(21, record, "entryCount"));

	for (; left > 0; chunk++) {
		must(at + 8 <= end, "no whole chunk header");
		const form = octets.u8(at);
		const width = octets.u8(at + 1);
		const count = octets.u16(at + 2);
		const payloadBytes = octets.u32(at + 4);
		const payload = at + 8;
		must(form === RUNS || form === LITERAL || (form === PACKED && size === 8), "form");
		must(form === PACKED ? width >= 1 && width <= 7 : width === 0, "width");
		must(count === Math.min(ENTRIES, left), "entryCount");
		must(payload + payloadBytes <= end, "beyond chunkBytes");
		const entryAt = (place: number): bigint => BigInt(octets.number(place, size));
		let used = 0;

		if (form === RUNS) {
			must(payloadBytes >= 8, "payloadBytes");
			const n = octets.u32(payload);
			must(octets.u32(payload + 4) === 0, "reserved word");
			must(n >= 1 && n <= count, "runCount");
			used = 8 + n * (size + 2);
			must(payloadBytes === align8(used), "payloadBytes");
			const values = size === 8 ? payload + 8 : payload + 8 + 2 * n;
			const lengths = size === 8 ? payload + 8 + 8 * n : payload + 8;
			let previous: bigint | undefined;
			let covered = 0;
			for (let i = 0; i < n; i++) {
				const entry = entryAt(values + i * size);
				const length = octets.u16(lengths + 2 * i);
				must(length >= 1 && covered + length <= count, "length of a run");
				must(previous === undefined || !continues(previous, entry), "a run that is not maximal");
				previous = entry + stride(entry) * BigInt(length - 1);
				must((entry & MFN_MASK) + stride(entry) * BigInt(length - 1) <= MFN_MASK, "MFN beyond bit 39");
				append(runs, first + BigInt(covered), BigInt(length), entry);
				covered += length;
			}
			must(covered === count, "lengths do not add up");
		} else if (form === PACKED) {
			used = 8 + width * count;
			must(payloadBytes === align8(used), "payloadBytes");
			const base = octets.u64(payload);
			let greatest = 0n;
			for (let i = 0; i < count; i++) {
				let difference = 0n;
				for (let octet = width - 1; octet >= 0; octet--)
					difference = (difference << 8n) | BigInt(octets.u8(payload + 8 + i * width + octet));
				must(i > 0 || difference === 0n, "base is not the first entry");
				if (difference > greatest) greatest = difference;
				append(runs, first + BigInt(i), 1n, base ^ difference);
			}
			must(width === 1 || greatest >> BigInt(8 * (width - 1)) !== 0n, "width is not minimal");
		} else {
			used = size * count;
			must(payloadBytes === align8(used), "payloadBytes");
			for (let i = 0; i < count; i++) append(runs, first + BigInt(i), 1n, entryAt(payload + i * size));
		}
		must(octets.firstNonZero(payload + used, payload + payloadBytes) < 0, "padding");
		at = payload + payloadBytes;
		first += BigInt(count);
		left -= count;
	}
	must(at === end, "octets behind the last chunk");
	return runs;
}
