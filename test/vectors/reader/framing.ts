/** The framing: FORMAT.md, "Image header" to "Index and END"; RULES.md, "The order of checks", 1 to 5 and 7. */
import { readBody } from "./body.ts";
import { RECORDS } from "./layout.ts";
import { align8, hash, Octets } from "./octets.ts";
import {
	Damaged,
	DOMID_FIRST_RESERVED,
	DOMID_XEN,
	finding,
	type Section,
	type Stream,
	type StreamRecord,
} from "./stream.ts";

const END = 0x00000000;
const LU_SECTION = 0x4000003e;
const LU_INDEX = 0x4000003f;
const OPTIONAL = 0x80000000;
const LONGEST_BODY = 2 ** 27;
const HIGHEST_PASS = 4;

function fail(rule: number, record?: StreamRecord, field = "", note = ""): never {
	throw new Damaged(finding(rule, record, field, note));
}

function readImageHeader(octets: Octets): number {
	if (octets.length < 24) fail(1);
	if (octets.view.getBigUint64(0) !== 0xffff_ffff_ffff_ffffn) fail(2, undefined, "marker");
	if (octets.view.getUint32(8) !== 0x584c5553) fail(2, undefined, "id");
	const version = octets.view.getUint32(12);
	if (version < 1 || version > 2) fail(3, undefined, "version");
	const options = octets.view.getUint16(16);
	if (options > 1) fail(4, undefined, "options");
	if (octets.firstNonZero(18, 24) >= 0) fail(5);
	octets.isLittle = options === 0;
	return version;
}

/** What a record lies in, and which rule is broken if it does not lie whole in it. */
interface Frame {
	end: number;
	rule: number;
	section?: Section;
	/** The record before. */
	before?: StreamRecord;
}

function readRecord(octets: Octets, offset: number, frame: Frame): StreamRecord {
	if (offset + 8 > frame.end) fail(frame.rule, frame.before, "", "no whole record header");
	const type = octets.u32(offset);
	const layout = RECORDS.get(type);
	const record: StreamRecord = {
		layout,
		name: layout?.name ?? `0x${type.toString(16).padStart(8, "0")}`,
		type,
		offset,
		bodyOffset: offset + 8,
		bodyLength: octets.u32(offset + 4),
		section: frame.section,
		head: {},
		parts: {},
	};
	if (record.bodyLength > LONGEST_BODY) fail(6, record);
	if (next(record) > frame.end) fail(frame.rule, record, "", "the body is not whole");
	if (octets.firstNonZero(record.bodyOffset + record.bodyLength, next(record)) >= 0) fail(5, record, "", "padding");
	return record;
}

const next = (record: StreamRecord): number => record.bodyOffset + align8(record.bodyLength);

function readSection(octets: Octets, version: number, record: StreamRecord, lastPass: number): Section {
	readBody(octets, record);
	const { pass, domid, length } = record.head;
	if (pass > HIGHEST_PASS || pass < lastPass) fail(9, record, "pass");
	const isHostWide = pass === 0 || pass === 2;
	if (isHostWide ? domid !== DOMID_XEN : domid >= DOMID_FIRST_RESERVED) fail(9, record, "domid");
	const start = next(record);
	if (BigInt(start) + length > BigInt(octets.length)) fail(1, record, "length");
	if (length % 8n !== 0n) fail(10, record, "length");
	const end = start + Number(length);

	const section: Section = { record, pass, domid, records: [] };
	record.section = section;
	if (hash(octets.bytes.subarray(start, end)) !== record.head.hash) fail(11, record, "hash");
	for (let at = start; at < end; ) {
		const inner = readRecord(octets, at, { end, rule: 10, section, before: section.records.at(-1) ?? record });
		if (inner.type < OPTIONAL && !(inner.layout && inner.layout.since <= version)) fail(7, inner);
		if (inner.layout && inner.layout.section !== ["H", "0", "1h", "1d", "2"][pass]) fail(14, inner);
		if (inner.layout) readBody(octets, inner);
		section.records.push(inner);
		at = next(inner);
	}
	if (section.records.length !== record.head.recordCount) fail(10, record, "recordCount");
	return section;
}

function readIndex(octets: Octets, index: StreamRecord, sections: Section[]): void {
	readBody(octets, index);
	if (index.head.sectionCount !== sections.length) fail(12, index, "sectionCount");
	const entries = octets.bytes.subarray(index.bodyOffset + 16, index.bodyOffset + index.bodyLength);
	if (hash(entries) !== index.head.hash) fail(11, index, "hash");
	for (const [i, section] of sections.entries()) {
		const listed = index.parts.Sections[i];
		const expected = { ...section.record.head, offset: BigInt(section.record.offset) } as Record<string, unknown>;
		for (const field of ["offset", "pass", "domid", "length", "hash", "recordCount"])
			if (listed[field] !== expected[field]) fail(12, index, `Sections[${i}].${field}`);
	}
}

/**
 * @param isPadded handed over in frames: zeros follow END up to the end of the last one
 * @throws Damaged at the first broken rule of the framing
 */
export function readFraming(bytes: Uint8Array, isPadded = false): Stream {
	const octets = new Octets(bytes);
	const version = readImageHeader(octets);
	const sections: Section[] = [];
	let index: StreamRecord | undefined;
	let before: StreamRecord | undefined;
	for (let at = 24; ; ) {
		const record = readRecord(octets, at, { end: octets.length, rule: 1, before });
		if (record.type === END) {
			if (!index) fail(12, record, "", "END without LU_INDEX");
			if (record.bodyLength !== 0) fail(13, record);
			const length = next(record);
			const after = octets.length - length;
			if (after > 0 && (!isPadded || after >= 4096)) fail(13, record, "", "octets behind END");
			if (octets.firstNonZero(length, octets.length) >= 0) fail(13, record, "", "octets behind END");
			return { version, sections, index, end: record, length };
		}
		if (index) fail(13, record, "", "a record behind LU_INDEX");
		before = record;
		if (record.type === LU_INDEX) {
			readIndex(octets, record, sections);
			index = record;
			at = next(record);
		} else if (record.type === LU_SECTION) {
			sections.push(readSection(octets, version, record, sections.at(-1)?.pass ?? 0));
			at = next(record) + Number(record.head.length);
		} else fail(8, record);
	}
}
