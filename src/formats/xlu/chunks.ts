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

const strideOf = (value: bigint, octets: 1 | 8): bigint => (octets === 8 ? value >> STRIDE_BIT : 0n);

function continues(a: bigint, b: bigint, octets: 1 | 8): boolean {
	return b === a + strideOf(a, octets) && (octets === 1 || a >> MFN_BITS === b >> MFN_BITS);
}

/** Runs of a slice from its first entry to its last; what no run of the document names is zero. */
function* runsOf(table: string, fields: FieldReader, first: bigint, entryCount: number): Generator<ChunkRun> {
	const form = entryForm(table);
	if (!form) throw invalid(fields.at(table), "a bulk table", table);
	let from = 0;
	for (const run of fields.rows(table, entryCount)) {
		run.only([form.slot, "count", "value", ...form.names]);
		const at = Number(run.number(form.slot, 64) - first);
		const length = Number(run.number("count", 32));
		if (at < from) throw invalid(run.at(form.slot), "ascending runs that do not overlap", run.fields[form.slot]);
		if (length === 0 || at + length > entryCount) {
			throw invalid(run.at("count"), `a run of 1 or more within the slice's ${entryCount} entries`, run.fields.count);
		}
		if (at > from) yield { value: 0n, length: at - from };
		yield {
			value: run.fields.value === undefined ? form.write(run) : run.number("value", form.octets === 8 ? 64 : 8),
			length,
		};
		from = at + length;
	}
	if (from < entryCount) yield { value: 0n, length: entryCount - from };
}

/** The same runs cut into chunks; within a chunk each is as long as can be. */
function* chunksOf(runs: Iterable<ChunkRun>, octets: 1 | 8): Generator<ChunkRun[]> {
	let chunk: ChunkRun[] = [];
	let room = CHUNK_ENTRIES;
	for (let { value, length } of runs) {
		const stride = strideOf(value, octets);
		while (length > 0) {
			const taken = Math.min(length, room);
			const last = chunk.at(-1);
			if (last && continues(last.value + BigInt(last.length - 1) * strideOf(last.value, octets), value, octets)) {
				last.length += taken;
			} else chunk.push({ value, length: taken });
			value += BigInt(taken) * stride;
			length -= taken;
			room -= taken;
			if (room > 0) continue;
			yield chunk;
			chunk = [];
			room = CHUNK_ENTRIES;
		}
	}
	if (chunk.length > 0) yield chunk;
}

function entriesOf(runs: readonly ChunkRun[], count: number, octets: 1 | 8): BigUint64Array {
	const entries = new BigUint64Array(count);
	let at = 0;
	for (const { value, length } of runs) {
		const stride = strideOf(value, octets);
		for (let i = 0; i < length; i++) entries[at++] = value + BigInt(i) * stride;
	}
	return entries;
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

function chunkOctets(runs: readonly ChunkRun[], octets: 1 | 8): Uint8Array {
	const count = runs.reduce((sum, { length }) => sum + length, 0);
	const runBytes = alignUp(8 + (octets + 2) * runs.length, 8);
	// Neither of the other forms takes less than an octet for each entry.
	const entries = runBytes <= count ? new BigUint64Array(0) : entriesOf(runs, count, octets);
	const width = octets === 8 && entries.length > 0 ? packedWidth(entries) : 8;
	const sizes = {
		runs: runBytes,
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
	const chunks = [...chunksOf(runsOf(table, fields, first, entryCount), octets)].map((runs) =>
		chunkOctets(runs, octets),
	);
	return Buffer.concat(chunks);
}
