/** Reads a xenstore stream a record at a time, and holds it against the rules on the way. */
import { readStruct } from "../../format/layout.ts";
import { hex } from "../common/findings.ts";
import type { ReadOptions } from "../common/format.ts";
import type { StreamReader } from "../common/reader.ts";
import type { Fields, StreamItem } from "../common/record.ts";
import { viewOf } from "../common/values.ts";
import { AHEAD_BYTES, XenstoreChecks } from "./check.ts";
import type { Effects } from "./daemons.ts";
import {
	XENSTORE_RECORD as R,
	RECORD_ALIGNMENT,
	RECORD_HEADER_BYTES,
	RECORD_LIMIT_BYTES,
	recordHeader,
	XENSTORE_BIG_ENDIAN,
	XENSTORE_HEADER_BYTES,
	XENSTORE_IDENT,
	XENSTORE_VERSIONS,
	xenstoreRecordNames,
} from "./layout.ts";
import { hexOf, isZero } from "./octets.ts";
import { decodeBody } from "./records.ts";
import { xenstoreRules as S } from "./rules.ts";

const LAYER = "xenstore";
const TAIL_PIECE_BYTES = 1 << 20;
const PROGRESS_BYTES = 1 << 24;

/**
 * 4.17 maps the file: behind its end there are zeros, an END to it, as far as the last page goes. The page behind that was
 * seen to be there as well (probe 018); further on it dies.
 */
const MAPPED_BYTES = 4096;
const isMapped = (next: number, end: number): boolean =>
	next + RECORD_HEADER_BYTES <= (Math.ceil(end / MAPPED_BYTES) + 1) * MAPPED_BYTES;
const NOTHING = new Uint8Array(0);

export const isXenstore = (head: Uint8Array): boolean =>
	head.length >= XENSTORE_IDENT.length && XENSTORE_IDENT.every((octet, i) => head[i] === octet);

interface Head {
	readonly type: number;
	readonly len: number;
}

const headAt = (octets: Uint8Array, at: number, isLittle: boolean): Head =>
	readStruct(recordHeader, viewOf(octets), at, isLittle) as unknown as Head;

/** Whether a record's header may stand there. */
function isHead(octets: Uint8Array, at: number, isLittle: boolean): boolean {
	if (at + RECORD_HEADER_BYTES > octets.length) return false;
	const { type, len } = headAt(octets, at, isLittle);
	return xenstoreRecordNames[type] !== undefined && len <= RECORD_LIMIT_BYTES && (type !== R.END || len === 0);
}

/**
 * Padding that follows a body whose length is no multiple of 8: all of it, as the document has it, or none, where the next
 * record stands there at once. What is zero and followed by a header is padding; else a header decides.
 */
async function paddingAfter(reader: StreamReader, len: number, isLittle: boolean): Promise<number> {
	const padding = -len & (RECORD_ALIGNMENT - 1);
	if (padding === 0) return 0;
	const next = await reader.peek(padding + RECORD_HEADER_BYTES);
	const isPadded = isHead(next, padding, isLittle);
	if (isPadded && isZero(next.subarray(0, padding))) return padding;
	if (isHead(next, 0, isLittle)) return 0;
	return isPadded || next.length >= padding ? padding : 0;
}

/**
 * Reads a stream.
 * @throws XLU_E_IMAGE, XLU_E_VERSION where its framing ends; every other fault is a finding
 */
export async function* readXenstoreItems(reader: StreamReader, options: ReadOptions): AsyncGenerator<StreamItem> {
	const { findings, dialect, daemon, descriptors, onProgress } = options;
	const checks = new XenstoreChecks({ findings, dialect, daemon, descriptors });
	let index = 0;
	let told = 0;
	const head = Uint8Array.from(await reader.take(XENSTORE_HEADER_BYTES));
	const start = { name: "header", offset: 0 };
	const isCut = head.length < XENSTORE_HEADER_BYTES;
	if (!isCut && !isXenstore(head)) {
		throw checks.fatal(S.ident, start, '"xenstore"', hexOf(head.subarray(0, XENSTORE_IDENT.length)));
	}
	if (isCut) {
		const dies: Effects = S.ident.effects;
		throw checks.fatal(S.truncated, start, `${XENSTORE_HEADER_BYTES} octets`, `${head.length}`, dies);
	}
	const version = viewOf(head).getUint32(8);
	const flags = viewOf(head).getUint32(12);
	if (!XENSTORE_VERSIONS.includes(version)) throw checks.fatal(S.version, start, "1 or 2", `${version}`);
	const isLittle = (flags & XENSTORE_BIG_ENDIAN) === 0;
	checks.header(version, flags);
	yield {
		index: index++,
		layer: LAYER,
		kind: "header",
		type: null,
		name: "header",
		offset: 0,
		length: head.length,
		isLittle,
		octets: head,
		fields: { version, flags },
	};
	for (;;) {
		const offset = reader.offset;
		if (offset - told >= PROGRESS_BYTES) {
			told = offset;
			onProgress?.(offset);
		}
		const begin = reader.takeNow(RECORD_HEADER_BYTES) ?? (await reader.take(RECORD_HEADER_BYTES));
		if (begin.length < RECORD_HEADER_BYTES) {
			const at = { name: "record header", offset };
			const isTaken = begin.length === 0 && isMapped(offset, offset);
			const effects = isTaken ? S.truncated.effects : S.ident.effects;
			const error = checks.fatal(S.truncated, at, "8 octets of a record's header, or END", `${begin.length}`, effects);
			if (error) throw error;
			checks.end(at);
			return;
		}
		const { type, len } = headAt(begin, 0, isLittle);
		const known = dialect && type > R.NODE_DATA ? undefined : xenstoreRecordNames[type];
		const at = { name: known ?? `unknown ${hex(type)}`, offset };
		if (len > RECORD_LIMIT_BYTES) throw checks.fatal(S.bodyLength, at, `at most ${RECORD_LIMIT_BYTES}`, `${len}`);
		const header = Uint8Array.from(begin);
		const there = reader.takeNow(len) ?? (await reader.take(len));
		const body = Uint8Array.from(there);
		const isWhole = body.length === len;
		const padding = isWhole ? await paddingAfter(reader, len, isLittle) : 0;
		const behind = padding > 0 ? Uint8Array.from(await reader.take(padding)) : NOTHING;
		const octets = new Uint8Array(RECORD_HEADER_BYTES + body.length + behind.length);
		octets.set(header);
		octets.set(body, RECORD_HEADER_BYTES);
		octets.set(behind, RECORD_HEADER_BYTES + body.length);
		const fields = fieldsOf(type, known !== undefined, body, isLittle, options);
		const shownFields: Fields = behind.length > 0 ? { ...fields, padding: hexOf(behind) } : fields;
		const item = { type, name: at.name, offset, fields: shownFields, octets };
		const isPartial = !isWhole || behind.length < padding;
		if (isPartial) {
			const end = offset + RECORD_HEADER_BYTES + body.length + behind.length;
			const isTaken =
				isMapped(offset + RECORD_HEADER_BYTES + len, end) &&
				(isWhole ||
					(fields.body === undefined &&
						!Object.keys(fields).some((key) => key.endsWith("Len") && key !== "outRespLen")));
			const effects = isTaken ? S.truncated.effects : S.ident.effects;
			const expected = `${len} octets of body${padding ? `, ${padding} of padding` : ""}`;
			const error = checks.fatal(S.truncated, at, expected, `${body.length + behind.length} before the end`, effects);
			if (error) throw error;
		}
		if (known === undefined) checks.unknown(at, type);
		if (type !== R.END && isWhole && len % RECORD_ALIGNMENT !== 0) {
			if (padding > 0) checks.once(S.padded, at, "a multiple of 8", `${len}`, { field: "len" });
			else checks.once(S.aligned, at, "a multiple of 8 octets", `${len}`, { field: "len" });
		}
		if (type === R.END && len > 0) checks.endBody(at, len);
		checks.record(item, checks.wantsAhead(item) ? await reader.peek(AHEAD_BYTES) : NOTHING);
		yield {
			index: index++,
			layer: LAYER,
			kind: "record",
			type,
			name: at.name,
			offset,
			length: len,
			isLittle,
			octets,
			fields: shownFields,
		};
		if (type === R.END || isPartial) {
			checks.end(at);
			if (isPartial) return;
			break;
		}
	}
	for (let isTold = false; ; isTold = true) {
		const offset = reader.offset;
		const part = await reader.some(TAIL_PIECE_BYTES);
		if (!part) return;
		if (!isTold) checks.once(S.trailing, { name: "tail", offset }, "the end of the stream", "octets after END");
		const octets = Uint8Array.from(part);
		yield {
			index: index++,
			layer: LAYER,
			kind: "tail",
			type: null,
			name: "tail",
			offset,
			length: octets.length,
			isLittle,
			octets,
			fields: { data: hexOf(octets) },
		};
	}
}

function fieldsOf(
	type: number,
	isKnown: boolean,
	body: Uint8Array,
	isLittle: boolean,
	{ dialect }: ReadOptions,
): Fields {
	return isKnown ? decodeBody(type, body, isLittle, dialect) : { body: hexOf(body) };
}
