/** Stage 1, framing: FORMAT.md, "Image header" to "Index and END". Headers, sections, checksums, index. */
import { checkBody } from "./body.ts";
import { RECORDS } from "./layout.ts";
import { align8, hash, Octets } from "./octets.ts";
import { Damaged, DOMID_XEN, finding, type Section, type Stream, type StreamRecord } from "./stream.ts";

const END = 0x00000000;
const LU_SECTION = 0x4000003e;
const LU_INDEX = 0x4000003f;
const OPTIONAL = 0x80000000;
const LONGEST_BODY = 2 ** 27;
const FRAME = 4096;

function fail(rule: number, record: StreamRecord | number, field = "", note = ""): never {
	throw new Damaged(finding(rule, record, field, note));
}

function readImageHeader(octets: Octets): void {
	if (octets.length < 24) fail(1, 0, "", "no whole image header");
	if (octets.u64(0) !== 0xffff_ffff_ffff_ffffn) fail(2, 0, "marker");
	if (octets.view.getUint32(8) !== 0x584c5553) fail(2, 0, "id");
	if (octets.view.getUint32(12) !== 1) fail(3, 0, "version");
	if (octets.view.getUint16(16) !== 0) fail(4, 0, "options");
	if (octets.firstNonZero(18, 24) >= 0) fail(5, 0);
}

/** A record's header; the record lies whole before `end`, or rule `beyond` is broken. */
function readRecord(octets: Octets, offset: number, end: number, beyond: number, section?: Section): StreamRecord {
	if (offset + 8 > end) fail(beyond, offset, "", "no whole record header");
	const type = octets.u32(offset);
	const bodyLength = octets.u32(offset + 4);
	const layout = RECORDS.get(type);
	const name = layout?.name ?? "";
	const record: StreamRecord = {
		...{ layout, name, type, offset, bodyOffset: offset + 8, bodyLength, section },
		...{ head: {}, parts: {} },
	};
	if (bodyLength > LONGEST_BODY) fail(6, record);
	if (offset + 8 + align8(bodyLength) > end) fail(beyond, record, "", "the body is not whole");
	return record;
}

function checkPadding(octets: Octets, record: StreamRecord): void {
	const end = record.bodyOffset + record.bodyLength;
	if (octets.firstNonZero(end, align8(end)) >= 0) fail(5, record, "", "padding");
}

const next = (record: StreamRecord): number => record.bodyOffset + align8(record.bodyLength);

function readSection(octets: Octets, record: StreamRecord, before: Section[]): Section {
	checkBody(octets, record);
	const { pass, domid, length } = record.head;
	const last = before.at(-1);
	if (pass > 4) fail(9, record, "pass");
	if (last && pass < last.pass) fail(9, record, "pass");
	if (before.some((s) => s.pass === pass && s.domid === domid)) fail(9, record, "domid", "twice in its pass");
	if ((pass === 0 || pass === 2) !== (domid === DOMID_XEN)) fail(9, record, "domid");
	if (length % 8n !== 0n) fail(10, record, "length");
	const start = next(record);
	if (BigInt(start) + length > BigInt(octets.length)) fail(1, record, "length");
	const end = start + Number(length);
	if (hash(octets.bytes.subarray(start, end)) !== record.head.hash) fail(11, record, "hash");

	const section: Section = { record, pass, domid, records: [] };
	for (let at = start; at < end; ) {
		const inner = readRecord(octets, at, end, 10, section);
		if (inner.layout?.section === "-") fail(8, inner);
		if (!inner.layout && inner.type < OPTIONAL) fail(7, inner);
		if (inner.layout) checkBody(octets, inner);
		checkPadding(octets, inner);
		section.records.push(inner);
		at = next(inner);
	}
	if (section.records.length !== record.head.recordCount) fail(10, record, "recordCount");
	return section;
}

function checkIndex(octets: Octets, index: StreamRecord, sections: Section[]): void {
	checkBody(octets, index);
	const entries = octets.bytes.subarray(index.bodyOffset + 16, index.bodyOffset + index.bodyLength);
	if (hash(entries) !== index.head.hash) fail(11, index, "hash");
	if (index.head.sectionCount !== sections.length) fail(12, index, "sectionCount");
	for (const [i, section] of sections.entries()) {
		const entry = index.parts.Sections[i];
		const expected = { ...section.record.head, offset: BigInt(section.record.offset) } as Record<string, unknown>;
		for (const field of ["pass", "domid", "offset", "length", "hash", "recordCount"])
			if (entry[field] !== expected[field]) fail(12, index, `Sections[${i}].${field}`);
	}
}

/** @throws Damaged at the first broken rule of the framing. */
export function readFraming(bytes: Uint8Array): Stream {
	const octets = new Octets(bytes);
	readImageHeader(octets);
	const sections: Section[] = [];
	let at = 24;
	let record = readRecord(octets, at, octets.length, 1);
	while (record.type === LU_SECTION) {
		const section = readSection(octets, record, sections);
		sections.push(section);
		at = next(record) + Number(record.head.length);
		record = readRecord(octets, at, octets.length, 1);
	}
	if (record.type === END) fail(12, record, "", "END without LU_INDEX");
	if (record.type !== LU_INDEX) fail(8, record);
	const index = record;
	checkIndex(octets, index, sections);
	const end = readRecord(octets, next(index), octets.length, 1);
	if (end.type !== END) fail(13, end);
	if (end.bodyLength !== 0) fail(13, end);
	const length = end.offset + 8;
	if (octets.length > length) {
		if (octets.length % FRAME !== 0 || octets.length - length >= FRAME) fail(13, end);
		if (octets.firstNonZero(length, octets.length) >= 0) fail(13, end);
	}
	return { sections, index, end, length };
}
