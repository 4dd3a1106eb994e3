/** Bodies: FORMAT.md, "Bodies"; RULES.md, "The order of checks", 6. */
import { readChunks } from "./chunks.ts";
import type { Part, Structure } from "./layout.ts";
import { align8, type Fields, type Octets } from "./octets.ts";
import { Damaged, finding, type StreamRecord } from "./stream.ts";

function fail(rule: number, record: StreamRecord, field = "", note = ""): never {
	throw new Damaged(finding(rule, record, field, note));
}

/** Octets of a part by the counts of the head; undefined for "to the end of the body". */
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
	const slots: number[] = [];
	for (let i = 0; i < runCount!; i++) {
		const firstSlot = octets.u32(at + 8 * i);
		const firstRow = octets.u32(at + 8 * i + 4);
		const endRow = i + 1 < runCount! ? octets.u32(at + 8 * i + 12) : rowCount!;
		const endSlot = firstSlot + endRow - firstRow;
		if (i === 0 && firstRow !== 0) fail(19, record, `runs[${i}]`, "the first run begins with row 0");
		if (firstRow >= endRow || endRow > rowCount!) fail(19, record, `runs[${i}]`, "an empty run");
		if (i > 0 && firstSlot <= slots.at(-1)! + 1) fail(19, record, `runs[${i}]`, "runs touch or do not ascend");
		if (endSlot > slotCount!) fail(19, record, `runs[${i}]`, "beyond slotCount");
		for (let slot = firstSlot; slot < endSlot; slot++) slots.push(slot);
	}
	if (slots.length !== rowCount) fail(19, record, "rowCount", "rows without a run");
	for (let i = 0; i < rowCount!; i++) {
		const row = rowsAt + i * part.row.length;
		if (octets.firstNonZero(row, row + part.row.length) < 0) fail(19, record, `${part.name}[${i}]`, "all zero");
	}
	const rows = readRows(octets, record, part.name, rowsAt, rowCount!, part.row);
	return rows.map((row, i) => ({ slot: slots[i], ...row }));
}

function readPart(octets: Octets, record: StreamRecord, part: Part, at: number, end: number): unknown {
	if (part.kind === "rows") return readRows(octets, record, part.name, at, (end - at) / part.row.length, part.row);
	if (part.kind === "sparse") return readSparse(octets, record, part, at);
	if (part.kind === "octets") return octets.bytes.slice(at, end);
	return readChunks(octets, record, at, part.entrySize, record.head.firstGfn ?? record.head.firstMfn);
}

/**
 * Fills in head and parts of a record that is known and lies whole in the stream.
 *
 * @throws Damaged: XLU-R005, -R006, -R019, -R020, -R021
 */
export function readBody(octets: Octets, record: StreamRecord): void {
	const { head, parts } = record.layout!;
	const start = record.bodyOffset;
	const end = start + record.bodyLength;
	if (record.bodyLength < head.length) fail(6, record, "", "shorter than its head");
	if (!octets.reservedIsZero(start, head)) fail(5, record, "", "reserved");
	record.head = octets.fields(start, head);

	let at = start + head.length;
	for (const [i, part] of parts.entries()) {
		const length = partLength(part, record.head) ?? end - at;
		if (part.kind === "rows" && length % part.row.length !== 0) fail(6, record, "", "not a whole number of rows");
		if (at + length > end) fail(6, record, "", `${part.name} is not whole`);
		record.parts[part.name] = readPart(octets, record, part, at, at + length);
		at += length;
		if (i + 1 === parts.length) break;
		const nextPart = start + align8(at - start);
		if (nextPart > end) fail(6, record, "", "no whole padding");
		if (octets.firstNonZero(at, nextPart) >= 0) fail(5, record, "", `padding of ${part.name}`);
		at = nextPart;
	}
	if (at !== end) fail(6, record, "", "octets behind the last part");
}
