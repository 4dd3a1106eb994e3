/**
 * Reading records on the host's side, by the schema alone: what `inspect` shows, and the name of the field that a fault
 * points at. It trusts nothing: a body that ends early gives what there is.
 */
import { alignUp, type Row, readStruct, type Struct, scalarBytes } from "./layout.ts";
import { type Part, RECORD_HEADER_BYTES, type RecordDef, recordByType, structs } from "./schema.ts";

export interface DecodedPart {
	readonly name: string;
	readonly kind: Part["kind"];
	readonly rows: readonly Row[];
	/** Rows in all; more than `rows` holds if the caller set a limit. */
	readonly count: number;
}

export interface DecodedRecord {
	readonly head: Row;
	readonly parts: readonly DecodedPart[];
}

interface PlacedPart {
	readonly part: Part;
	/** Octets from the body's start. */
	readonly offset: number;
	readonly length: number;
	readonly rowsOffset: number;
	readonly rowCount: number;
}

/** Where each part of a body stands. */
export function placeParts(def: RecordDef, body: Uint8Array): PlacedPart[] {
	const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
	const head: Row = def.head && def.head.size <= body.length ? readStruct(def.head, view, 0) : {};
	let offset = def.head?.size ?? 0;
	return def.parts.map((part) => {
		offset = alignUp(offset, 8);
		const left = Math.max(0, body.length - offset);
		const size = part.row.size;
		let length = left;
		let rowsOffset = offset;
		let rowCount = Math.floor(left / size);
		if (part.kind === "sparse") {
			const runs = Math.min(Number(head.runCount ?? 0), Math.floor(left / structs.Run.size)) * structs.Run.size;
			rowsOffset = offset + runs;
			rowCount = Math.min(Number(head.rowCount ?? 0), Math.floor(Math.max(0, left - runs) / size));
			length = Math.min(left, runs + rowCount * size);
		} else if (part.kind === "chunks") {
			rowCount = Number(head.entryCount ?? 0);
		} else if (part.count !== "rest") {
			const count = typeof part.count === "number" ? part.count : Number(head[part.count] ?? 0);
			rowCount = Math.min(count, rowCount);
			length = rowCount * size;
		}
		const placed = { part, offset, length, rowsOffset, rowCount };
		offset += length;
		return placed;
	});
}

/**
 * Decodes a body. A part of chunks is only counted: whoever wants its entries walks its runs (src/inspect/extents.ts).
 * @param limit most rows per part
 */
export function decodeRecord(def: RecordDef, body: Uint8Array, limit = Number.POSITIVE_INFINITY): DecodedRecord {
	const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
	const head = def.head && def.head.size <= body.length ? readStruct(def.head, view, 0) : {};
	const parts = placeParts(def, body).map(({ part, offset, rowsOffset, rowCount }): DecodedPart => {
		if (part.kind === "chunks") return { name: part.table, kind: part.kind, rows: [], count: rowCount };
		const slots = part.kind === "sparse" ? sparseSlots(view, offset, rowsOffset, rowCount) : undefined;
		const rows: Row[] = [];
		for (let i = 0; i < Math.min(rowCount, limit); i++) {
			const row = readStruct(part.row, view, rowsOffset + i * part.row.size);
			rows.push(slots ? { slot: slots[i] ?? 0, ...row } : row);
		}
		return { name: part.table, kind: part.kind, rows, count: rowCount };
	});
	return { head, parts };
}

/** The slot of each row of a sparse part. */
function sparseSlots(view: DataView, runsOffset: number, rowsOffset: number, rowCount: number): number[] {
	const slots: number[] = [];
	for (let at = runsOffset; at + 8 <= rowsOffset; at += 8) {
		const first = view.getUint32(at, true);
		const row = view.getUint32(at + 4, true);
		const end = at + 16 <= rowsOffset ? view.getUint32(at + 12, true) : rowCount;
		for (let i = row; i < Math.min(end, rowCount); i++) slots[i] = first + (i - row);
	}
	return slots;
}

function fieldIn(struct: Struct, offset: number): string | undefined {
	const field = struct.fields.findLast((entry) => entry.offset <= offset);
	if (!field || field.length === 1 || field.reserved) return field?.name;
	return `${field.name}[${Math.floor((offset - field.offset) / scalarBytes[field.type])}]`;
}

/** Of a row of a sparse table that holds the octet `field` of a body: the slot that the row is of, such as a port. */
export function slotAt(stream: Uint8Array, offset: number, type: number, field: number): number | undefined {
	const def = recordByType(type);
	if (!def) return undefined;
	const length = new DataView(stream.buffer, stream.byteOffset + offset).getUint32(4, true);
	const body = stream.subarray(offset + RECORD_HEADER_BYTES, offset + RECORD_HEADER_BYTES + length);
	for (const placed of placeParts(def, body)) {
		if (placed.part.kind !== "sparse" || field < placed.rowsOffset || field >= placed.offset + placed.length) continue;
		const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
		const slots = sparseSlots(view, placed.offset, placed.rowsOffset, placed.rowCount);
		return slots[Math.floor((field - placed.rowsOffset) / placed.part.row.size)];
	}
	return undefined;
}

/**
 * Name of the field that stands `field` octets into the body of the record at `offset`: `maxVcpus`, `Ports[3].state`.
 */
export function fieldAt(stream: Uint8Array, offset: number, type: number, field: number): string {
	const def = recordByType(type);
	const body = stream.subarray(offset + RECORD_HEADER_BYTES);
	if (!def || body.length < field) return `octet ${field}`;
	const length = new DataView(stream.buffer, stream.byteOffset + offset).getUint32(4, true);
	if (def.head && field < def.head.size) return fieldIn(def.head, field) ?? `octet ${field}`;
	for (const placed of placeParts(def, body.subarray(0, length))) {
		if (field < placed.offset || field >= placed.offset + placed.length) continue;
		if (placed.part.kind === "chunks") return `${placed.part.table} chunk at octet ${field - placed.offset}`;
		if (field < placed.rowsOffset) return `runs[${Math.floor((field - placed.offset) / structs.Run.size)}]`;
		const size = placed.part.row.size;
		const row = Math.floor((field - placed.rowsOffset) / size);
		const name = fieldIn(placed.part.row, (field - placed.rowsOffset) % size);
		return `${placed.part.table}[${row}]${size > 1 ? `.${name}` : ""}`;
	}
	return `octet ${field}`;
}
