/** Stage 2, bodies: FORMAT.md, "Bodies". A body's length, its reserved fields, its head and its parts. */
import { readChunks } from "./chunks.ts";
import type { Part, Structure } from "./layout.ts";
import { align8, type Fields, type Octets } from "./octets.ts";
import { Damaged, finding, type StreamRecord } from "./stream.ts";

function fail(rule: number, record: StreamRecord, field = "", note = ""): never {
	throw new Damaged(finding(rule, record, field, note));
}

/** Octets of a part that begins at `at`, by the counts of the head; undefined for "to the end of the body". */
function partLength(part: Part, head: Fields): number | undefined {
	if (part.kind === "sparse") return head.runCount * 8 + head.rowCount * part.row.length;
	if (part.kind === "chunks") return head.chunkBytes;
	if (part.count === "*") return undefined;
	const count = /^\d+$/.test(part.count) ? Number(part.count) : head[part.count];
	return part.kind === "rows" ? count * part.row.length : count;
}

function readRows(octets: Octets, record: StreamRecord, part: string, at: number, count: number, row: Structure) {
	const rows: Fields[] = [];
	for (let i = 0; i < count; i++, at += row.length) {
		if (!octets.reservedIsZero(at, row)) fail(5, record, `${part}[${i}]`, "reserved");
		rows.push(octets.fields(at, row));
	}
	return rows;
}

/** A sparse table: `slot` is added to each row. */
function readSparse(octets: Octets, record: StreamRecord, part: Part & { kind: "sparse" }, at: number): Fields[] {
	const { slotCount, runCount, rowCount } = record.head as Record<string, number>;
	const rowsAt = at + 8 * runCount!;
	const rows = readRows(octets, record, part.name, rowsAt, rowCount!, part.row);
	if (runCount === 0 && rowCount !== 0) fail(19, record, "rowCount");
	let nextSlot = 0;
	for (let i = 0; i < runCount!; i++) {
		const firstSlot = octets.u32(at + 8 * i);
		const firstRow = octets.u32(at + 8 * i + 4);
		const endRow = i + 1 < runCount! ? octets.u32(at + 8 * i + 12) : rowCount!;
		if (i === 0 && firstRow !== 0) fail(19, record, `Run[${i}].firstRow`, "the first run begins with row 0");
		if (firstRow >= endRow || endRow > rowCount!) fail(19, record, `Run[${i}].firstRow`, "an empty run");
		if (i > 0 && firstSlot <= nextSlot) fail(19, record, `Run[${i}].firstSlot`, "runs touch or do not ascend");
		if (firstSlot + endRow - firstRow > slotCount!) fail(19, record, `Run[${i}].firstSlot`, "beyond slotCount");
		for (let j = firstRow; j < endRow; j++) rows[j]!.slot = firstSlot + j - firstRow;
		nextSlot = firstSlot + endRow - firstRow;
	}
	for (let i = 0; i < rowCount!; i++) {
		const row = rowsAt + i * part.row.length;
		if (octets.firstNonZero(row, row + part.row.length) < 0) fail(19, record, `${part.name}[${i}]`, "all zero");
	}
	return rows;
}

/**
 * Fills in head and parts.
 *
 * @throws Damaged: XLU-R005, -R006, -R019, -R020
 */
export function checkBody(octets: Octets, record: StreamRecord): void {
	const layout = record.layout!;
	if (record.bodyLength < layout.head.length) fail(6, record);
	record.head = octets.fields(record.bodyOffset, layout.head);

	const places: number[] = [];
	let length = layout.head.length;
	for (const part of layout.parts) {
		const at = align8(length);
		places.push(at);
		const rest = record.bodyLength - at;
		const partOctets = partLength(part, record.head) ?? rest;
		if (partOctets < 0) fail(6, record);
		if (part.kind === "rows" && partOctets % part.row.length !== 0) fail(6, record, "", "not a whole number of rows");
		length = at + partOctets;
	}
	if (length !== record.bodyLength) fail(6, record, "", `expected ${length}`);

	if (!octets.reservedIsZero(record.bodyOffset, layout.head)) fail(5, record, "", "reserved");
	for (const [i, part] of layout.parts.entries()) {
		const at = record.bodyOffset + places[i]!;
		const end = record.bodyOffset + (places[i + 1] ?? record.bodyLength);
		const partEnd = at + (partLength(part, record.head) ?? end - at);
		if (octets.firstNonZero(partEnd, end) >= 0) fail(5, record, part.name, "padding");
		if (part.kind === "rows") {
			const count = (partEnd - at) / part.row.length;
			record.parts[part.name] = readRows(octets, record, part.name, at, count, part.row);
		} else if (part.kind === "sparse") {
			record.parts[part.name] = readSparse(octets, record, part, at);
		} else if (part.kind === "chunks") {
			const first = record.head.firstGfn ?? record.head.firstMfn;
			record.parts[part.name] = readChunks(octets, record, at, part.entrySize, first);
		} else {
			record.parts[part.name] = octets.bytes.slice(at, partEnd);
		}
	}
}
