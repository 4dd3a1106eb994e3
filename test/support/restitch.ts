/**
 * A stream taken apart by its framing alone, to be changed and put together again with its lengths, counts, checksums
 * and index right, so that a test breaks the one thing it means to break.
 */
import { placeParts } from "../../src/format/decode.ts";
import { PASS, type PassName } from "../../src/format/enums.ts";
import {
	alignUp,
	type FieldValue,
	type PlacedField,
	readStruct,
	type Struct,
	scalarBytes,
	writeStruct,
} from "../../src/format/layout.ts";
import { heads, IMAGE_HEADER_BYTES, RECORD_HEADER_BYTES, recordByType, structs } from "../../src/format/schema.ts";
import { hashOf } from "./core.ts";

const TYPE_SECTION = 0x4000003e;
const TYPE_INDEX = 0x4000003f;
const { Section, Index } = heads;
const { IndexEntry } = structs;

export class StreamRecord {
	type: number;
	body: Uint8Array;
	/** Octets after the body, zero but where a test says otherwise. */
	padding: Uint8Array | undefined;
	/** What the header says in place of the body's length. */
	claimedLength: number | undefined;

	constructor(type: number, body: Uint8Array) {
		this.type = type;
		this.body = body;
	}

	get name(): string {
		return recordByType(this.type)?.name ?? `0x${this.type.toString(16)}`;
	}

	get view(): DataView {
		return new DataView(this.body.buffer, this.body.byteOffset, this.body.byteLength);
	}

	/** Sets a field of the head. */
	set(field: string, value: FieldValue, element = 0): this {
		const head = recordByType(this.type)?.head;
		if (!head) throw new Error(`${this.name} has no head`);
		put(this.view, 0, head, field, value, element);
		return this;
	}

	get(field: string): number | bigint {
		const head = recordByType(this.type)?.head as Struct;
		const { offset, type } = fieldOf(head, field);
		return type === "u64" ? this.view.getBigUint64(offset, true) : readNumber(this.view, offset, type);
	}

	/** Sets a field of a part's row; for a sparse table the row's number, not its slot. */
	row(table: string, index: number, field: string, value: FieldValue, element = 0): this {
		const { struct, offset } = this.rowAt(table, index);
		put(this.view, offset, struct, field, value, element);
		return this;
	}

	/** Sets a run of a sparse table. */
	run(index: number, firstSlot: number, firstRow: number): this {
		const part = placeParts(recordByType(this.type) as never, this.body)[0];
		if (part?.part.kind !== "sparse") throw new Error(`${this.name} is not sparse`);
		writeStruct(structs.Run, this.view, part.offset + index * structs.Run.size, { firstSlot, firstRow });
		return this;
	}

	/** Octets from the body's start to the part. */
	partOffset(table: string): number {
		return this.part(table).offset;
	}

	private part(table: string) {
		const def = recordByType(this.type);
		const part = def && placeParts(def, this.body).find((placed) => placed.part.table === table);
		if (!part) throw new Error(`${this.name} has no ${table}`);
		return part;
	}

	private rowAt(table: string, index: number): { struct: Struct; offset: number } {
		const part = this.part(table);
		if (index >= part.rowCount) throw new Error(`${table} has ${part.rowCount} rows`);
		return { struct: part.part.row, offset: part.rowsOffset + index * part.part.row.size };
	}

	clone(): StreamRecord {
		const copy = new StreamRecord(this.type, this.body.slice());
		copy.padding = this.padding?.slice();
		return copy;
	}
}

function readNumber(view: DataView, offset: number, type: "u8" | "u16" | "u32"): number {
	if (type === "u8") return view.getUint8(offset);
	return type === "u16" ? view.getUint16(offset, true) : view.getUint32(offset, true);
}

function fieldOf(struct: Struct, name: string): PlacedField {
	const field = struct.fields.find((entry) => entry.name === name);
	if (!field) throw new Error(`${struct.name} has no field ${name}`);
	return field;
}

function put(view: DataView, at: number, struct: Struct, name: string, value: FieldValue, element: number): void {
	const field = fieldOf(struct, name);
	const offset = at + field.offset + element * scalarBytes[field.type];
	if (field.type === "u64") view.setBigUint64(offset, BigInt(value as bigint), true);
	else if (field.type === "u32") view.setUint32(offset, Number(value), true);
	else if (field.type === "u16") view.setUint16(offset, Number(value), true);
	else view.setUint8(offset, Number(value));
}

export interface StreamSection {
	pass: number;
	domid: number;
	records: StreamRecord[];
	/** What LU_SECTION and the index say of it where a test wants them wrong. */
	claims?: { length?: number; recordCount?: number; hash?: bigint };
}

export class Restitched {
	readonly header: Uint8Array;
	sections: StreamSection[];

	constructor(header: Uint8Array, sections: StreamSection[]) {
		this.header = header;
		this.sections = sections;
	}

	section(pass: PassName, domid?: number): StreamSection {
		const found = this.sections.find((s) => s.pass === PASS[pass] && (domid === undefined || s.domid === domid));
		if (!found) throw new Error(`no section ${pass} of ${domid}`);
		return found;
	}

	/** The record of that name, in the domain's section where one is given, the n-th of them. */
	record(name: string, domid?: number, n = 0): StreamRecord {
		const all = this.sections
			.filter((section) => domid === undefined || section.domid === domid)
			.flatMap((section) => section.records)
			.filter((record) => record.name === name);
		const found = all[n];
		if (!found) throw new Error(`no ${name} of ${domid}`);
		return found;
	}

	/** Takes a record out and gives it back. */
	remove(name: string, domid?: number, n = 0): StreamRecord {
		const found = this.record(name, domid, n);
		for (const section of this.sections) section.records = section.records.filter((record) => record !== found);
		return found;
	}

	/** The stream, all framing made anew. */
	build(): Uint8Array<ArrayBuffer> {
		const pieces: Uint8Array[] = [this.header];
		const entries: object[] = [];
		let offset = IMAGE_HEADER_BYTES;
		for (const section of this.sections) {
			const records = concatenate(section.records.map(frameOf));
			const says = {
				pass: section.pass,
				domid: section.domid,
				length: BigInt(section.claims?.length ?? records.length),
				hash: section.claims?.hash ?? hashOf(records),
				recordCount: section.claims?.recordCount ?? section.records.length,
			};
			const opening = frame(TYPE_SECTION, encode(Section, says));
			entries.push({ ...says, offset: BigInt(offset) });
			pieces.push(opening, records);
			offset += opening.length + records.length;
		}
		const list = concatenate(entries.map((entry) => encode(IndexEntry, entry)));
		const head = encode(Index, { hash: hashOf(list), sectionCount: entries.length });
		pieces.push(frame(TYPE_INDEX, concatenate([head, list])), frame(0, new Uint8Array(0)));
		return concatenate(pieces);
	}
}

function encode(struct: Struct, row: object): Uint8Array {
	const bytes = new Uint8Array(struct.size);
	writeStruct(struct, new DataView(bytes.buffer), 0, row);
	return bytes;
}

function frameOf(record: StreamRecord): Uint8Array {
	const octets = frame(record.type, record.body, record.padding);
	if (record.claimedLength !== undefined) new DataView(octets.buffer).setUint32(4, record.claimedLength, true);
	return octets;
}

/** A record's octets: header, body, padding. */
export function frame(type: number, body: Uint8Array, padding?: Uint8Array): Uint8Array {
	const bytes = new Uint8Array(RECORD_HEADER_BYTES + alignUp(body.length, 8));
	const view = new DataView(bytes.buffer);
	view.setUint32(0, type, true);
	view.setUint32(4, body.length, true);
	bytes.set(body, RECORD_HEADER_BYTES);
	if (padding) bytes.set(padding, RECORD_HEADER_BYTES + body.length);
	return bytes;
}

export function concatenate(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
	const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
	let at = 0;
	for (const piece of pieces) {
		bytes.set(piece, at);
		at += piece.length;
	}
	return bytes;
}

/** Takes a sound stream apart. Bodies are copies. */
export function parse(stream: Uint8Array): Restitched {
	const view = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
	const sections: StreamSection[] = [];
	let at = IMAGE_HEADER_BYTES;
	const next = () => {
		const type = view.getUint32(at, true);
		const length = view.getUint32(at + 4, true);
		const record = new StreamRecord(type, stream.slice(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + length));
		at += RECORD_HEADER_BYTES + alignUp(length, 8);
		return record;
	};
	while (view.getUint32(at, true) === TYPE_SECTION) {
		const opening = readStruct(Section, next().view, 0);
		const end = at + Number(opening.length);
		const records: StreamRecord[] = [];
		while (at < end) records.push(next());
		sections.push({ pass: Number(opening.pass), domid: Number(opening.domid), records });
	}
	return new Restitched(stream.slice(0, IMAGE_HEADER_BYTES), sections);
}
