/**
 * A slice of a bulk table as people read it: extents. A run is what the format calls one (docs/FORMAT.md, "Runs of
 * entries"), here joined across chunks; empty stretches are left out. Trusts nothing: a chunk that is not whole ends it.
 */
import {
	FRAME,
	FRAME_OWNER_MASK,
	P2M_ACCESS,
	P2M_BITS,
	P2M_ORDER,
	P2M_TYPE,
	PAGE_TYPE,
	PAGE_TYPE_FLAG,
} from "../format/enums.ts";
import { CHUNK_ENTRIES } from "../format/schema.ts";

/** A row of entries: an entry that is present counts its frame number up, any other one stays. */
export interface Run {
	first: number;
	length: number;
	value: bigint;
}

const FORM = { runs: 1, packed: 2, literal: 3 } as const;
const PRESENT = 1n << BigInt(P2M_BITS.present);
const MFN_MASK = (1n << BigInt(P2M_BITS.type)) - 1n;

/** What a run's entry would be after `length` more; undefined where the MFN's bits are used up. */
function continued({ value, length }: Run): bigint | undefined {
	if ((value & PRESENT) === 0n) return value;
	const mfn = (value & MFN_MASK) + BigInt(length);
	return mfn > MFN_MASK ? undefined : value + BigInt(length);
}

/** Entries of one chunk as (value, count) pairs. */
function* chunkEntries(view: DataView, at: number, octets: 1 | 8): Generator<[bigint, number]> {
	const form = view.getUint8(at);
	const width = view.getUint8(at + 1);
	const entryCount = view.getUint16(at + 2, true);
	const payload = at + 8;
	const entry = (offset: number) => (octets === 8 ? view.getBigUint64(offset, true) : BigInt(view.getUint8(offset)));
	if (form === FORM.runs) {
		const count = view.getUint32(payload, true);
		const values = payload + 8 + (octets === 8 ? 0 : count * 2);
		const lengths = payload + 8 + (octets === 8 ? count * 8 : 0);
		for (let i = 0; i < count; i++) yield [entry(values + i * octets), view.getUint16(lengths + i * 2, true)];
	} else if (form === FORM.packed) {
		const base = view.getBigUint64(payload, true);
		for (let i = 0; i < entryCount; i++) {
			let difference = 0n;
			for (let b = width - 1; b >= 0; b--)
				difference = (difference << 8n) | BigInt(view.getUint8(payload + 8 + i * width + b));
			yield [base ^ difference, 1];
		}
	} else if (form === FORM.literal) {
		for (let i = 0; i < entryCount; i++) yield [entry(payload + i * octets), 1];
	}
}

/** The runs of a slice whose chunks stand in `chunks`, entries counted from `first`. */
export function* sliceRuns(chunks: Uint8Array, first: number, octets: 1 | 8): Generator<Run> {
	const view = new DataView(chunks.buffer, chunks.byteOffset, chunks.byteLength);
	let run: Run | undefined;
	let chunkFirst = first;
	for (let at = 0; at + 8 <= chunks.length; at += 8 + view.getUint32(at + 4, true)) {
		let index = chunkFirst;
		for (const [value, length] of chunkEntries(view, at, octets)) {
			const follows = run && (octets === 8 ? continued(run) : run.value) === value;
			if (run && follows) run.length += length;
			else {
				if (run) yield run;
				run = { first: index, length, value };
			}
			// A run of entries counts on only within its own stride.
			index += length;
		}
		chunkFirst += CHUNK_ENTRIES;
	}
	if (run) yield run;
}

function nameOf(names: Record<string, number>, code: number): string | number {
	return Object.entries(names).find(([, value]) => value === code)?.[0] ?? code;
}

function flagsOf(names: Record<string, number>, bits: number): string[] {
	return Object.entries(names)
		.filter(([, bit]) => bits & bit)
		.map(([name]) => name);
}

const hex = (value: bigint | number) => `0x${value.toString(16)}`;

/** How each bulk table's runs read. */
const readers: Record<string, (run: Run) => Record<string, unknown>> = {
	P2m: ({ first, length, value }) => ({
		gfn: hex(first),
		count: length,
		mfn: value & PRESENT ? hex(value & MFN_MASK) : null,
		type: nameOf(P2M_TYPE, Number((value >> BigInt(P2M_BITS.type)) & 15n)),
		access: nameOf(P2M_ACCESS, Number((value >> BigInt(P2M_BITS.access)) & 15n)),
		order: nameOf(P2M_ORDER, Number((value >> BigInt(P2M_BITS.order)) & 63n)),
	}),
	FrameOwners: ({ first, length, value }) => ({
		mfn: hex(first),
		count: length,
		owner: Number(value) & FRAME_OWNER_MASK,
		flags: flagsOf(FRAME, Number(value)),
	}),
	FrameTypes: ({ first, length, value }) => ({
		mfn: hex(first),
		count: length,
		type: nameOf(PAGE_TYPE, Number(value) & 7),
		flags: flagsOf(PAGE_TYPE_FLAG, Number(value)),
	}),
};

/**
 * Extents of a slice, as JSON objects.
 * @param table P2m, FrameOwners or FrameTypes
 * @param chunks the slice's chunks
 * @param first GFN or MFN of its first entry
 * @param limit most extents
 */
export function extentsOf(
	table: string,
	chunks: Uint8Array,
	first: number,
	limit: number,
): { rows: Record<string, unknown>[]; count: number } {
	const read = readers[table];
	const rows: Record<string, unknown>[] = [];
	let count = 0;
	try {
		for (const run of sliceRuns(chunks, first, table === "FrameTypes" ? 1 : 8)) {
			if (run.value === 0n || !read) continue;
			count++;
			if (rows.length < limit) rows.push(read(run));
		}
	} catch (error) {
		// Past the end of a damaged slice: what came before it stands.
		if (!(error instanceof RangeError)) throw error;
	}
	return { rows, count };
}
