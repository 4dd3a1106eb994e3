/**
 * The framing that libxl's and libxc's records share (libxc-migration-stream section 4, libxl-migration-stream section 4):
 *
 *     type u32, body_length u32, body, padding to 8 octets
 */
import { type Findings, formatRule, hex } from "./findings.ts";
import type { StreamReader } from "./reader.ts";
import type { Layer } from "./record.ts";
import { type Steps, take } from "./steps.ts";
import { viewOf } from "./values.ts";

export const RECORD_HEADER_BYTES = 8;
export const RECORD_ALIGNMENT = 8;
/** libxc's readers take no longer one. */
export const BODY_LIMIT_BYTES = 128 << 20;
const OPTIONAL_BIT = 0x80000000;

export const framingRules = {
	truncated: formatRule(
		"XLU-F001",
		"damaged",
		"libxc-migration-stream 3, 4",
		"Every header and record is there whole, up to END.",
		"The stream was cut off: look for a sender that died, a full disk, a transfer that ended early. Nothing can be restored from it.",
	),
	bodyLength: formatRule(
		"XLU-F002",
		"damaged",
		"libxc's readers, seen to refuse more",
		"A record's body has at most 128 MiB.",
		"The length is damaged, or what stands here is no record: compare with the record before it.",
	),
	unknownType: formatRule(
		"XLU-F003",
		"version",
		"libxc-migration-stream 4",
		"A mandatory record (bit 31 clear) is of a known type.",
		"The sender is newer than this tool, or the stream is damaged here.",
	),
	padding: formatRule(
		"XLU-F004",
		"refused",
		"libxc-migration-stream 4",
		"The padding of a record is zero.",
		"verify-stream-v2 refuses it, libxc's reader does not look. A sender that leaks memory, or damage.",
	),
	trailing: formatRule(
		"XLU-F005",
		"warning",
		"seen: xl's own protocol follows the stream of a live migration",
		"Nothing follows the END of the outermost layer.",
		"After a live migration that was captured this is normal. Else the file holds something that no reader looks at.",
	),
} as const;

export interface RecordHeader {
	readonly layer: Layer;
	readonly type: number;
	readonly name: string;
	readonly offset: number;
	readonly length: number;
	/** Octets of padding behind the body. */
	readonly padding: number;
	/** Whether it is an optional one that is not known. */
	readonly isSkipped: boolean;
}

/** Reads a record's header. */
export function* readRecordHeader(
	reader: StreamReader,
	layer: Layer,
	names: Readonly<Record<number, string>>,
	isLittle: boolean,
	findings: Findings,
): Steps<RecordHeader> {
	const offset = reader.offset;
	const head = yield* take(reader, RECORD_HEADER_BYTES);
	const place = { layer, record: "record header", offset };
	if (head.length < RECORD_HEADER_BYTES) {
		throw findings.fatal(framingRules.truncated, place, "8 octets of a record's header, or END", `${head.length}`);
	}
	const view = viewOf(head);
	const type = view.getUint32(0, isLittle);
	const length = view.getUint32(4, isLittle);
	const known = names[type];
	if (known === undefined && type < OPTIONAL_BIT) {
		throw findings.fatal(
			framingRules.unknownType,
			{ layer, record: "record", offset, field: "type" },
			"a known mandatory type",
			hex(type),
		);
	}
	const name = known ?? `optional ${hex(type)}`;
	if (length > BODY_LIMIT_BYTES) {
		throw findings.fatal(
			framingRules.bodyLength,
			{ layer, record: name, offset, field: "body_length" },
			`at most ${BODY_LIMIT_BYTES}`,
			`${length}`,
		);
	}
	const padding = (RECORD_ALIGNMENT - (length % RECORD_ALIGNMENT)) % RECORD_ALIGNMENT;
	return { layer, type, name, offset, length, padding, isSkipped: known === undefined };
}

/** Where a finding about a record is. */
export const placeOf = ({ layer, name, offset }: RecordHeader, field?: string) =>
	field === undefined ? { layer, record: name, offset } : { layer, record: name, offset, field };

/** Reads body and padding; `octets` is the whole record, header included. */
export function* readRecordBody(
	reader: StreamReader,
	header: RecordHeader,
	isLittle: boolean,
	findings: Findings,
): Steps<{ octets: Uint8Array; body: Uint8Array }> {
	const { length, padding } = header;
	const rest = yield* take(reader, length + padding);
	if (rest.length < length + padding) {
		throw findings.fatal(
			framingRules.truncated,
			placeOf(header),
			`${length} octets of body and ${padding} of padding`,
			`${rest.length} before the end`,
		);
	}
	const octets = new Uint8Array(RECORD_HEADER_BYTES + length + padding);
	octets.set(recordHeaderOctets(header.type, length, isLittle));
	octets.set(rest, RECORD_HEADER_BYTES);
	const end = RECORD_HEADER_BYTES + length;
	checkPadding(octets.subarray(end), header, findings);
	return { octets, body: octets.subarray(RECORD_HEADER_BYTES, end) };
}

function checkPadding(padding: Uint8Array, header: RecordHeader, findings: Findings): void {
	if (padding.some((octet) => octet !== 0)) {
		findings.report(framingRules.padding, placeOf(header, "padding"), "zeros", Buffer.from(padding).toString("hex"));
	}
}

export function recordHeaderOctets(type: number, length: number, isLittle: boolean): Uint8Array {
	const head = new Uint8Array(RECORD_HEADER_BYTES);
	viewOf(head).setUint32(0, type, isLittle);
	viewOf(head).setUint32(4, length, isLittle);
	return head;
}

/** A body with its header and padding. */
export function frameRecord(type: number, body: Uint8Array, isLittle: boolean): Uint8Array {
	const octets = new Uint8Array(RECORD_HEADER_BYTES + Math.ceil(body.length / RECORD_ALIGNMENT) * RECORD_ALIGNMENT);
	octets.set(recordHeaderOctets(type, body.length, isLittle));
	octets.set(body, RECORD_HEADER_BYTES);
	return octets;
}
