/**
 * What a stream holds, record by record, for people and for programs. It walks by the framing alone, so that a stream
 * that check refuses, or one that is damaged somewhere, still shows what it has up to there.
 */
import { XluError } from "../errors.ts";
import { type DecodedPart, decodeRecord } from "../format/decode.ts";
import { toLittleEndian } from "../format/endian.ts";
import { EVTCHN_ABI, EVTCHN_STATE, PASS } from "../format/enums.ts";
import type { FieldValue, PlacedField, Row, Struct } from "../format/layout.ts";
import {
	heads,
	IMAGE_HEADER_BYTES,
	RECORD_HEADER_BYTES,
	type RecordDef,
	recordByType,
	STREAM_ID,
	STREAM_MARKER,
	TYPE_OPTIONAL,
} from "../format/schema.ts";
import { fieldJson, uuidOf } from "../formats/common/values.ts";
import { readHvmContext } from "../formats/hvm/context.ts";
import { hvmEntryFields } from "../formats/hvm/fields.ts";
import { EVENT_WORDS_PER_FRAME, readEventWord, readTwoLevelPort } from "../machine/guestPages.ts";
import { extentsOf } from "./extents.ts";

export interface InspectedRecord {
	index: number;
	type: number;
	name: string;
	layer: "xlu";
	/** Octets from the stream's start to the record's header. */
	offset: number;
	/** Octets of the body. */
	length: number;
	/** Domain of the section, null for a host-wide one and for framing. */
	domid: number | null;
	/** Section: "H", "0", "1h", "1d", "2"; null for framing. */
	pass: string | null;
	/** Head and parts by name, see `fieldsOf`. */
	fields: Record<string, unknown>;
}

export interface InspectedPort {
	domid: number;
	port: number;
	/** Xen's event-channel state: 2 unbound, 3 interdomain, 4 PIRQ, 5 VIRQ, 6 IPI. */
	state: number;
	vcpu: number;
	remoteDomid: number | null;
	remotePort: number | null;
	virq: number | null;
	pirq: number | null;
	/** null where the preserved memory that holds the bit is not at hand. */
	pending: boolean | null;
	masked: boolean | null;
}

export interface InspectedStream {
	format: "xlu";
	version: number;
	endianness: "little" | "big";
	records: InspectedRecord[];
	ports: InspectedPort[];
}

const SECTION_TYPE = 0x4000003e;
/** Names of sections by their code. */
export const passNames = Object.fromEntries(Object.entries(PASS).map(([name, code]) => [code, name])) as Record<
	number,
	string
>;

function named(value: FieldValue, field: PlacedField): unknown {
	if (typeof value !== "object") return fieldJson(field, value);
	if (field.show === "uuid") return uuidOf(Uint8Array.from(value as readonly number[]));
	return [...value].map((element) => fieldJson(field, element));
}

/**
 * A struct as JSON: numbers as numbers, what is read in hexadecimal as "0x..." strings, enumerations by name, flags as
 * lists of names. 64-bit numbers beyond 2^53 are decimal strings.
 */
export function namedRow(struct: Struct, row: Row): Record<string, unknown> {
	const result: Record<string, unknown> = {};
	if (row.slot !== undefined) result.slot = row.slot;
	for (const field of struct.fields) {
		const value = row[field.name];
		if (value !== undefined) result[field.name] = named(value, field);
	}
	return result;
}

/** Fields of a record: the head's by name, each part's rows under the part's name (at most `limit` of them). */
export function fieldsOf(def: RecordDef, body: Uint8Array, limit: number): Record<string, unknown> {
	const decoded = decodeRecord(def, body, limit);
	const fields: Record<string, unknown> = def.head ? namedRow(def.head, decoded.head) : {};
	def.parts.forEach((part, i) => {
		if (part.kind === "chunks") {
			const first = Number(decoded.head.firstGfn ?? decoded.head.firstMfn ?? 0);
			const extents = extentsOf(part.table, body.subarray(def.head?.size ?? 0), first, limit);
			fields[part.table] = extents.rows;
			if (extents.count > extents.rows.length) fields[`${part.table}Count`] = extents.count;
			return;
		}
		const { rows, count } = decoded.parts[i] as DecodedPart;
		if (part.row.size === 1) {
			const octets = rows.map((row) => Number(row.value).toString(16).padStart(2, "0")).join("");
			fields[part.table] = part.table === "VersionText" ? Buffer.from(octets, "hex").toString("utf8") : octets;
		} else {
			fields[part.table] = rows.map((row) => namedRow(part.row, row));
		}
		if (count > rows.length) fields[`${part.table}Count`] = count;
	});
	if (def.name === "HVM_CONTEXT") {
		const entries = readHvmContext(body);
		fields.entries = entries.map((entry) => ({ ...hvmEntryFields(entry), offset: entry.offset }));
	}
	return fields;
}

function damaged(message: string, offset: number, expected: string, got: string): XluError {
	return new XluError("XLU_E_DAMAGED", `${message} At offset ${offset}: expected ${expected}, found ${got}.`, {
		offset,
		expected,
		got,
	});
}

export interface WalkedRecord {
	index: number;
	type: number;
	def: RecordDef | undefined;
	offset: number;
	body: Uint8Array;
	pass: number | undefined;
	domid: number | undefined;
}

/** Header of a stream; only its own 24 octets are looked at. */
export function readHeader(stream: Uint8Array): { version: number; endianness: "little" | "big" } {
	if (stream.length < IMAGE_HEADER_BYTES) {
		throw damaged("The stream ends in its header.", 0, `${IMAGE_HEADER_BYTES} octets`, `${stream.length}`);
	}
	const view = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
	if (view.getBigUint64(0) !== STREAM_MARKER || view.getUint32(8) !== STREAM_ID) {
		throw damaged(
			"This is no live-update stream.",
			0,
			"64 one bits and XLUS",
			`0x${Buffer.from(stream.subarray(0, 12)).toString("hex")}`,
		);
	}
	return { version: view.getUint32(12), endianness: view.getUint16(16) & 1 ? "big" : "little" };
}

/**
 * Walks the records of a stream; of a big-endian one as if it were little-endian.
 * @throws XLU_E_DAMAGED where a record does not fit the stream; the records before it have been given by then
 */
export function* walkRecords(octets: Uint8Array): Generator<WalkedRecord> {
	readHeader(octets);
	const stream = toLittleEndian(octets);
	const view = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
	let offset = IMAGE_HEADER_BYTES;
	let sectionEnd = 0;
	let pass: number | undefined;
	let domid: number | undefined;
	for (let index = 0; offset < stream.length; index++) {
		if (offset + RECORD_HEADER_BYTES > stream.length) {
			throw damaged("The stream ends in a record's header.", offset, "8 octets", `${stream.length - offset}`);
		}
		const type = view.getUint32(offset, true);
		const length = view.getUint32(offset + 4, true);
		if (length > stream.length - offset - RECORD_HEADER_BYTES) {
			throw damaged(
				"The stream ends in a record's body.",
				offset,
				`${length} octets`,
				`${stream.length - offset - RECORD_HEADER_BYTES}`,
			);
		}
		const body = stream.subarray(offset + RECORD_HEADER_BYTES, offset + RECORD_HEADER_BYTES + length);
		const next = offset + RECORD_HEADER_BYTES + Math.ceil(length / 8) * 8;
		if (offset >= sectionEnd) {
			pass = undefined;
			domid = undefined;
			if (type === SECTION_TYPE && length >= heads.Section.size) {
				pass = view.getUint32(offset + 8, true);
				domid = view.getUint16(offset + 12, true);
				sectionEnd = next + Number(view.getBigUint64(offset + 16, true));
			}
		}
		yield { index, type, def: recordByType(type), offset, body, pass, domid };
		if (type === 0) return;
		offset = next;
	}
	throw damaged("The stream ends without END.", offset, "END", "the end of the stream");
}

export function recordName(type: number): string {
	return (
		recordByType(type)?.name ??
		`unknown ${type & TYPE_OPTIONAL ? "optional " : ""}record 0x${type.toString(16).padStart(8, "0")}`
	);
}

/** Event bits of a domain's ports: in shared_info (2-level) or in its event arrays (FIFO). */
type PageOf = (mfn: number) => Uint8Array | undefined;

interface DomainEvents {
	abi: number;
	sharedInfoMfn: number | undefined;
	arrays: number[];
	guestWidth: number;
}

function eventBits(
	events: DomainEvents,
	port: number,
	isPending: boolean,
	pageOf: PageOf,
): { pending: boolean | null; masked: boolean | null } {
	const unknown = { pending: null, masked: null };
	if (events.abi === EVTCHN_ABI.fifo) {
		const array = events.arrays[Math.floor(port / EVENT_WORDS_PER_FRAME)];
		// A port without an event word keeps the pending bit in its row, and counts as masked.
		if (array === undefined) return { pending: isPending, masked: true };
		const page = pageOf(array);
		return page ? readEventWord(page, port % EVENT_WORDS_PER_FRAME) : unknown;
	}
	const page = pageOf(events.sharedInfoMfn ?? -1);
	return page ? readTwoLevelPort(page, port, events.guestWidth) : unknown;
}

/** All event channels in use, with their pending and mask bits where the preserved memory holds them. */
export function portsOf(records: Iterable<WalkedRecord>, pageOf: PageOf): InspectedPort[] {
	const ports: InspectedPort[] = [];
	const domains = new Map<number, DomainEvents>();
	const rows: { domid: number; row: Row }[] = [];
	for (const { def, body, domid } of records) {
		if (!def || domid === undefined) continue;
		const events = domains.get(domid) ?? { abi: 0, sharedInfoMfn: undefined, arrays: [], guestWidth: 8 };
		domains.set(domid, events);
		if (def.name === "LU_DOMAIN") events.guestWidth = Number(decodeRecord(def, body).head.guestWidth);
		if (def.name === "LU_SHARED_INFO") events.sharedInfoMfn = Number(decodeRecord(def, body).head.mfn);
		if (def.name === "LU_EVTCHN") {
			const { head, parts } = decodeRecord(def, body);
			events.abi = Number(head.abi);
			events.arrays = (parts[1]?.rows ?? []).map(({ mfn }) => Number(mfn));
		}
		if (def.name === "LU_EVTCHN_PORTS") {
			for (const row of decodeRecord(def, body).parts[0]?.rows ?? []) rows.push({ domid, row });
		}
	}
	for (const { domid, row } of rows) {
		const state = Number(row.state);
		if (state < EVTCHN_STATE.unbound) continue;
		const port = Number(row.slot);
		const isRemote = state === EVTCHN_STATE.unbound || state === EVTCHN_STATE.interdomain;
		ports.push({
			domid,
			port,
			state,
			vcpu: Number(row.notifyVcpu),
			remoteDomid: isRemote ? Number(row.remoteDomid) : null,
			remotePort: state === EVTCHN_STATE.interdomain ? Number(row.remotePort) : null,
			virq: state === EVTCHN_STATE.virq ? Number(row.virq) : null,
			pirq: state === EVTCHN_STATE.pirq ? Number(row.pirq) : null,
			...eventBits(domains.get(domid) as DomainEvents, port, row.pending === 1, pageOf),
		});
	}
	return ports.sort((a, b) => a.domid - b.domid || a.port - b.port);
}

function hostWide(domid: number | undefined): boolean {
	return domid === undefined || domid >= 0x7ff0;
}

/** One walked record as it is shown. */
export function inspectRecord(record: WalkedRecord, limit: number): InspectedRecord {
	const { index, type, def, offset, body, pass, domid } = record;
	return {
		index,
		type,
		name: recordName(type),
		layer: "xlu",
		offset,
		length: body.length,
		domid: hostWide(domid) ? null : (domid as number),
		pass: pass === undefined ? null : (passNames[pass] ?? `${pass}`),
		fields: def ? fieldsOf(def, body, limit) : {},
	};
}

/**
 * Everything in a stream.
 * @param pageOf content of a preserved frame, undefined where there is none
 * @param limit most rows per part of a record
 */
export function inspectStream(stream: Uint8Array, pageOf: PageOf = () => undefined, limit = 16): InspectedStream {
	const records = [...walkRecords(stream)];
	return {
		format: "xlu",
		...readHeader(stream),
		records: records.map((record) => inspectRecord(record, limit)),
		ports: portsOf(records, pageOf),
	};
}
