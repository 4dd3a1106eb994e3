/**
 * A slice of a bulk table as people read it: extents. A run is what the format calls one (docs/FORMAT.md, "Runs of
 * entries"), here joined across chunks; empty stretches are left out. Trusts nothing: a chunk that is not whole ends it.
 */
import {
	FRAME,
	FRAME_ENTRY_MASK,
	FRAME_OWNER_MASK,
	P2M_ACCESS,
	P2M_BITS,
	P2M_ORDER,
	P2M_TYPE,
	PAGE_TYPE,
	PAGE_TYPE_FLAG,
} from "../format/enums.ts";
import { CHUNK_ENTRIES } from "../format/schema.ts";
import type { Fields } from "../formats/common/record.ts";
import { enumJson, type FieldReader, flagsJson, invalid } from "../formats/common/values.ts";

/** A row of entries: an entry that is present counts its frame number up, any other one stays. */
export interface Run {
	first: number;
	length: number;
	value: bigint;
}

/** Forms of a chunk, docs/FORMAT.md. */
export const CHUNK_FORM = { runs: 1, packed: 2, literal: 3 } as const;
const PRESENT = 1n << BigInt(P2M_BITS.present);
const MFN_MASK = (1n << BigInt(P2M_BITS.type)) - 1n;

/** Bits of a P2M entry that fields have, the MFN's apart. */
const P2M_KNOWN = PRESENT | (((1n << 14n) - 1n) << BigInt(P2M_BITS.type));

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
	if (form === CHUNK_FORM.runs) {
		const count = view.getUint32(payload, true);
		const values = payload + 8 + (octets === 8 ? 0 : count * 2);
		const lengths = payload + 8 + (octets === 8 ? count * 8 : 0);
		for (let i = 0; i < count; i++) yield [entry(values + i * octets), view.getUint16(lengths + i * 2, true)];
	} else if (form === CHUNK_FORM.packed) {
		const base = view.getBigUint64(payload, true);
		for (let i = 0; i < entryCount; i++) {
			let difference = 0n;
			for (let b = width - 1; b >= 0; b--)
				difference = (difference << 8n) | BigInt(view.getUint8(payload + 8 + i * width + b));
			yield [base ^ difference, 1];
		}
	} else if (form === CHUNK_FORM.literal) {
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

const hex = (value: bigint | number) => `0x${value.toString(16)}`;

/** What an entry's bits say, and back. Bits that no field has are not looked at. */
interface EntryForm {
	/** What the table is counted in. */
	readonly slot: "gfn" | "mfn";
	/** The octets of an entry. */
	readonly octets: 1 | 8;
	readonly names: readonly string[];
	/** Whether the fields say all of an entry. */
	isWhole(value: bigint): boolean;
	read(value: bigint): Fields;
	write(fields: FieldReader): bigint;
}

/** How each bulk table's entries read. */
const entryForms: Readonly<Record<string, EntryForm>> = {
	P2m: {
		slot: "gfn",
		octets: 8,
		names: ["mfn", "type", "access", "order"],
		// An entry without a frame has no MFN to show.
		isWhole: (value) => (value & ~(value & PRESENT ? P2M_KNOWN | MFN_MASK : P2M_KNOWN)) === 0n,
		read: (value) => ({
			mfn: value & PRESENT ? hex(value & MFN_MASK) : null,
			type: enumJson(P2M_TYPE, Number((value >> BigInt(P2M_BITS.type)) & 15n)),
			access: enumJson(P2M_ACCESS, Number((value >> BigInt(P2M_BITS.access)) & 15n)),
			order: enumJson(P2M_ORDER, Number((value >> BigInt(P2M_BITS.order)) & 63n)),
		}),
		write(fields) {
			const part = (name: "type" | "access" | "order", names: Record<string, number>, bits: number) => {
				const number = fields.oneOf(name, names, 8);
				if (number >> BigInt(bits) !== 0n) throw invalid(fields.at(name), `below ${1 << bits}`, fields.fields[name]);
				return number << BigInt(P2M_BITS[name]);
			};
			const rest = part("type", P2M_TYPE, 4) | part("access", P2M_ACCESS, 4) | part("order", P2M_ORDER, 6);
			if (fields.fields.mfn === null) return rest;
			const mfn = fields.number("mfn", 64);
			if (mfn > MFN_MASK) throw invalid(fields.at("mfn"), `at most ${hex(MFN_MASK)}, or null`, fields.fields.mfn);
			return PRESENT | rest | mfn;
		},
	},
	FrameOwners: {
		slot: "mfn",
		octets: 8,
		names: ["owner", "flags"],
		isWhole: (value) => value <= BigInt(FRAME_ENTRY_MASK),
		read: (value) => ({
			owner: Number(value) & FRAME_OWNER_MASK,
			flags: flagsJson(FRAME, value & BigInt(FRAME_ENTRY_MASK & ~FRAME_OWNER_MASK)),
		}),
		write: (fields) => fields.number("owner", 16) | fields.flags("flags", FRAME, 32),
	},
	FrameTypes: {
		slot: "mfn",
		octets: 1,
		names: ["type", "flags"],
		isWhole: (value) => value < 0x40n,
		read: (value) => ({
			type: enumJson(PAGE_TYPE, Number(value) & 7),
			flags: flagsJson(PAGE_TYPE_FLAG, value & 0x38n),
		}),
		write(fields) {
			const type = fields.oneOf("type", PAGE_TYPE, 8);
			if (type > 7n) throw invalid(fields.at("type"), "below 8", fields.fields.type);
			return type | fields.flags("flags", PAGE_TYPE_FLAG, 8);
		},
	},
};

/** A run as people read it. Entries with bits that no field has are `value` as well, which then counts. */
function runFields({ first, length, value }: Run, form: EntryForm): Fields {
	const fields = { [form.slot]: hex(first), count: length, ...form.read(value) };
	return form.isWhole(value) ? fields : { ...fields, value: hex(value) };
}

/** How a bulk table's entries read; undefined if it is none. */
export function entryForm(table: string): EntryForm | undefined {
	return entryForms[table];
}

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
): { rows: Fields[]; count: number } {
	const form = entryForms[table];
	const rows: Fields[] = [];
	let count = 0;
	try {
		for (const run of sliceRuns(chunks, first, form?.octets ?? 8)) {
			if (run.value === 0n || !form) continue;
			count++;
			if (rows.length < limit) rows.push(runFields(run, form));
		}
	} catch (error) {
		// Past the end of a damaged slice: what came before it stands.
		if (!(error instanceof RangeError)) throw error;
	}
	return { rows, count };
}
