/**
 * A slice of a bulk table from its runs as JSON has them: the chunks that the writer of this project makes of it
 * (docs/FORMAT.md, "Which form"): of each 4096 entries the smallest of RUNS, PACKED, LITERAL.
 */
import { alignUp } from "../../format/layout.ts";
import { CHUNK_ENTRIES, SLICE_FRAMES } from "../../format/schema.ts";
import { CHUNK_FORM, entryForm } from "../../inspect/extents.ts";
import { type FieldReader, invalid, viewOf } from "../common/values.ts";

const CHUNK_HEADER_BYTES = 8;
/** Where the run's stride stands in an entry; above the MFN nothing counts. */
const STRIDE_BIT = 63n;
const MFN_BITS = 40n;

interface ChunkRun {
	value: bigint;
	length: number;
}

/** Entries of a slice, those that no run names zero. */
function entriesOf(table: string, fields: FieldReader, first: bigint, entryCount: number): BigUint64Array {
	const form = entryForm(table);
	if (!form) throw invalid(fields.at(table), "a bulk table", table);
	const entries = new BigUint64Array(entryCount);
	let from = 0;
	for (const run of fields.rows(table, entryCount)) {
		run.only([form.slot, "count", "value", ...form.names]);
		const at = Number(run.number(form.slot, 64) - first);
		const count = Number(run.number("count", 32));
		if (at < from) throw invalid(run.at(form.slot), "ascending runs that do not overlap", run.fields[form.slot]);
		if (count === 0 || at + count > entryCount) {
			throw invalid(run.at("count"), `a run of 1 or more within the slice's ${entryCount} entries`, run.fields.count);
		}
		const value = run.fields.value === undefined ? form.write(run) : run.number("value", form.octets === 8 ? 64 : 8);
		const stride = form.octets === 8 ? value >> STRIDE_BIT : 0n;
		for (let i = 0; i < count; i++) entries[at + i] = value + BigInt(i) * stride;
		from = at + count;
	}
	return entries;
}

function continues(a: bigint, b: bigint, octets: 1 | 8): boolean {
	if (octets === 1) return a === b;
	return b === a + (a >> STRIDE_BIT) && a >> MFN_BITS === b >> MFN_BITS;
}

function runsOf(entries: BigUint64Array, octets: 1 | 8): ChunkRun[] {
	const runs: ChunkRun[] = [];
	let last: bigint | undefined;
	for (const value of entries) {
		const run = runs.at(-1);
		if (run && last !== undefined && continues(last, value, octets)) run.length++;
		else runs.push({ value, length: 1 });
		last = value;
	}
	return runs;
}

/** Octets of the longest difference from the first entry. */
function packedWidth(entries: BigUint64Array): number {
	const base = entries[0] ?? 0n;
	let bits = 0n;
	for (const value of entries) bits |= value ^ base;
	let width = 1;
	while (bits >> BigInt(8 * width) !== 0n) width++;
	return width;
}

function chunkOctets(entries: BigUint64Array, octets: 1 | 8): Uint8Array {
	const count = entries.length;
	const runs = runsOf(entries, octets);
	const width = octets === 8 ? packedWidth(entries) : 8;
	const sizes = {
		runs: alignUp(8 + (octets + 2) * runs.length, 8),
		packed: width < 8 ? alignUp(8 + width * count, 8) : Number.POSITIVE_INFINITY,
		literal: alignUp(octets * count, 8),
	};
	const least = Math.min(sizes.runs, sizes.packed, sizes.literal);
	const chunk = new Uint8Array(CHUNK_HEADER_BYTES + least);
	const view = viewOf(chunk);
	const form = sizes.runs === least ? "runs" : sizes.packed === least ? "packed" : "literal";
	view.setUint8(0, CHUNK_FORM[form]);
	view.setUint8(1, form === "packed" ? width : 0);
	view.setUint16(2, count, true);
	view.setUint32(4, least, true);
	const payload = CHUNK_HEADER_BYTES;
	const put = (at: number, value: bigint) => {
		if (octets === 8) view.setBigUint64(at, value, true);
		else view.setUint8(at, Number(value));
	};
	if (form === "runs") {
		view.setUint32(payload, runs.length, true);
		const values = payload + 8 + (octets === 8 ? 0 : 2 * runs.length);
		const lengths = payload + 8 + (octets === 8 ? 8 * runs.length : 0);
		for (const [i, { value, length }] of runs.entries()) {
			put(values + octets * i, value);
			view.setUint16(lengths + 2 * i, length, true);
		}
	} else if (form === "packed") {
		const base = entries[0] ?? 0n;
		view.setBigUint64(payload, base, true);
		const difference = new DataView(new ArrayBuffer(8));
		for (const [i, value] of entries.entries()) {
			difference.setBigUint64(0, value ^ base, true);
			chunk.set(new Uint8Array(difference.buffer, 0, width), payload + 8 + width * i);
		}
	} else {
		for (const [i, value] of entries.entries()) put(payload + octets * i, value);
	}
	return chunk;
}

/**
 * The chunks of a slice.
 * @param fields the record's, with the runs under the table's name
 * @param first GFN or MFN of the slice's first entry
 * @throws XLU_E_USAGE with `field` where runs overlap, descend or leave the slice, or an entry does not fit
 */
export function sliceOctets(table: string, fields: FieldReader, first: bigint, entryCount: number): Uint8Array {
	if (entryCount > SLICE_FRAMES) {
		throw invalid(fields.at("entryCount"), `at most ${SLICE_FRAMES}`, entryCount);
	}
	const octets = entryForm(table)?.octets ?? 8;
	const entries = entriesOf(table, fields, first, entryCount);
	const chunks: Uint8Array[] = [];
	for (let at = 0; at < entryCount; at += CHUNK_ENTRIES) {
		chunks.push(chunkOctets(entries.subarray(at, at + CHUNK_ENTRIES), octets));
	}
	return Buffer.concat(chunks);
}
