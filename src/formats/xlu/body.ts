/**
 * Bodies of the live-update stream's records as fields, and back, by the schema alone. What follows from the rest (counts of
 * rows, runs of a sparse table, octets of chunks) is no field: it is made anew on the way back.
 */
import { decodeRecord, placeParts } from "../../format/decode.ts";
import { alignUp, type Struct, writeStruct } from "../../format/layout.ts";
import { type Part, type RecordDef, structs, TYPE_LIVE_UPDATE } from "../../format/schema.ts";
import { extentsOf } from "../../inspect/extents.ts";
import type { Fields, Json } from "../common/record.ts";
import { type FieldReader, hexOf, invalid, structFields, structOctets, viewOf } from "../common/values.ts";
import { bodyFields as libxcFields, bodyOctets as libxcOctets } from "../libxc/bodies.ts";
import { sliceOctets } from "./chunks.ts";

/** Fields of a head that say how long its parts are. */
function derivedFields(def: RecordDef): Set<string> {
	const names = def.parts.flatMap(({ kind, count }) => {
		if (kind === "sparse") return ["runCount", "rowCount"];
		if (kind === "chunks") return ["chunkBytes"];
		return typeof count === "string" ? [count] : [];
	});
	return new Set(names);
}

const isOctets = ({ row }: Part) => row.size === 1;

/** libxc's own records whose contents the schema has as octets: contexts and XSAVE areas, which libxc's images name. */
function isLibxcBlob({ type, parts }: RecordDef): boolean {
	return type < TYPE_LIVE_UPDATE && parts.length > 0 && parts.every(isOctets);
}

/** A string where the octets are one. */
const TEXT_TABLE = "VersionText";

/** The body of a record by name; of a type that is not known, or shorter than its head, as octets. */
export function recordFields(def: RecordDef | undefined, body: Uint8Array): Fields {
	if (!def || body.length < (def.head?.size ?? 0)) return { body: hexOf(body) };
	// A live update's guests are 64-bit ones; a 32-bit PV guest's contexts are octets that count.
	if (isLibxcBlob(def)) return libxcFields(def.type, body, true, 8);
	const derived = derivedFields(def);
	const head = def.head ? structFields(def.head, body) : {};
	const fields: Record<string, Json> = Object.fromEntries(Object.entries(head).filter(([name]) => !derived.has(name)));
	const rows = decodeRecord(def, body).parts;
	for (const [i, { part, offset, length, rowsOffset, rowCount }] of placeParts(def, body).entries()) {
		const octets = body.subarray(offset, offset + length);
		if (part.kind === "chunks") {
			const first = Number(fields.firstGfn ?? fields.firstMfn ?? 0);
			fields[part.table] = extentsOf(part.table, octets, first, Number.POSITIVE_INFINITY).rows;
		} else if (isOctets(part)) {
			fields[part.table] = part.table === TEXT_TABLE ? Buffer.from(octets).toString("utf8") : hexOf(octets);
		} else {
			fields[part.table] = Array.from({ length: rowCount }, (_, n) => ({
				...(part.kind === "sparse" ? { slot: Number(rows[i]?.rows[n]?.slot) } : {}),
				...structFields(part.row, body, rowsOffset + n * part.row.size),
			}));
		}
	}
	return fields;
}

/** Names that the fields of a struct may have. */
const namesOf = (struct: Struct | undefined): string[] => struct?.fields.map(({ name }) => name) ?? [];

interface PartOctets {
	readonly octets: Uint8Array;
	/** What the head says of it. */
	readonly counts: Fields;
}

function sparseOctets({ table, row: struct }: Part, fields: FieldReader): PartOctets {
	const rows = fields.rows(table);
	const runs: { firstSlot: number; firstRow: number }[] = [];
	let last = -1;
	const octets = rows.map((row, i) => {
		row.only(["slot", ...namesOf(struct)]);
		const slot = Number(row.number("slot", 32));
		if (slot <= last) throw invalid(row.at("slot"), `above ${last}`, slot);
		if (i === 0 || slot !== last + 1) runs.push({ firstSlot: slot, firstRow: i });
		last = slot;
		return structOctets(struct, row);
	});
	const heads = new Uint8Array(runs.length * structs.Run.size);
	for (const [i, run] of runs.entries()) writeStruct(structs.Run, viewOf(heads), i * structs.Run.size, run);
	return { octets: Buffer.concat([heads, ...octets]), counts: { runCount: runs.length, rowCount: rows.length } };
}

function rowOctets({ table, row: struct, count }: Part, fields: FieldReader): PartOctets {
	const octets =
		table === TEXT_TABLE
			? Buffer.from(fields.text(table), "utf8")
			: struct.size === 1
				? fields.octets(table)
				: Buffer.concat(fields.rows(table).map((row) => structOctets(struct, row.only(namesOf(struct)))));
	const rows = octets.length / struct.size;
	if (typeof count === "number" && rows !== count) throw invalid(fields.at(table), `${count} rows`, rows);
	return { octets, counts: typeof count === "string" && count !== "rest" ? { [count]: rows } : {} };
}

function partOctets(part: Part, fields: FieldReader): PartOctets {
	if (part.kind === "sparse") return sparseOctets(part, fields);
	if (part.kind !== "chunks") return rowOctets(part, fields);
	const first = fields.number(fields.fields.firstGfn === undefined ? "firstMfn" : "firstGfn", 64);
	const octets = sliceOctets(part.table, fields, first, Number(fields.number("entryCount", 32)));
	return { octets, counts: { chunkBytes: octets.length } };
}

/**
 * The body that `recordFields` made such fields of.
 * @throws XLU_E_USAGE with `field` where a field is not of its kind, is not known, or does not fit
 */
export function recordBody(def: RecordDef | undefined, fields: FieldReader): Uint8Array {
	if (!def || fields.fields.body !== undefined) return fields.only(["body"]).octets("body");
	if (isLibxcBlob(def)) return libxcOctets(def.type, fields, true);
	const derived = derivedFields(def);
	fields.only([...namesOf(def.head).filter((name) => !derived.has(name)), ...def.parts.map(({ table }) => table)]);
	const counts: Record<string, Json | undefined> = {};
	const pieces: Uint8Array[] = [];
	let length = def.head?.size ?? 0;
	for (const part of def.parts) {
		const made = partOctets(part, fields);
		for (const [name, count] of Object.entries(made.counts)) {
			// One count may stand for several parts.
			if (counts[name] !== undefined && counts[name] !== count) {
				throw invalid(fields.at(part.table), `${counts[name]} rows, as the part before it`, count);
			}
			counts[name] = count;
		}
		pieces.push(new Uint8Array(alignUp(length, 8) - length), made.octets);
		length = alignUp(length, 8) + made.octets.length;
	}
	const head = def.head ? structOctets(def.head, fields.with({ ...fields.fields, ...counts })) : new Uint8Array(0);
	return new Uint8Array(Buffer.concat([head, ...pieces]));
}
