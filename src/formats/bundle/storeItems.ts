/** The xenstore stream that stands within a bundle, as items with offsets from its own start. */
import { XluError } from "../../errors.ts";
import { alignUp, readStruct } from "../../format/layout.ts";
import { hex } from "../common/findings.ts";
import {
	RECORD_ALIGNMENT,
	RECORD_HEADER_BYTES,
	RECORD_LIMIT_BYTES,
	recordHeader,
	XENSTORE_BIG_ENDIAN,
	XENSTORE_HEADER_BYTES,
	XENSTORE_IDENT,
	XENSTORE_RECORD,
	XENSTORE_VERSIONS,
	xenstoreRecordNames,
} from "../xenstore/layout.ts";
import { decodeBody } from "../xenstore/records.ts";
import { type NestedItem, nestedHeader, nestedRecord } from "./parts.ts";

function damaged(offset: number, field: string, expected: string, got: string): XluError {
	return new XluError("XLU_E_IMAGE", `xenstore at ${hex(offset)}: ${field}: expected ${expected}, got ${got}.`, {
		record: "xenstore",
		offset,
		field,
		expected,
		got,
	});
}

/**
 * Items of a stream.
 * @throws XLU_E_IMAGE with an offset into the stream where its framing ends; the items before it have been given by then
 */
export function* xenstoreItems(stream: Uint8Array): Generator<NestedItem> {
	const view = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
	if (stream.length < XENSTORE_HEADER_BYTES || !XENSTORE_IDENT.every((octet, i) => stream[i] === octet)) {
		const got = Buffer.from(stream.subarray(0, XENSTORE_IDENT.length)).toString("hex");
		throw damaged(0, "ident", '"xenstore" and 8 octets more', got);
	}
	const version = view.getUint32(8);
	const flags = view.getUint32(12);
	if (!XENSTORE_VERSIONS.includes(version)) throw damaged(8, "version", XENSTORE_VERSIONS.join(" or "), `${version}`);
	if ((flags & ~XENSTORE_BIG_ENDIAN) !== 0) throw damaged(12, "flags", "0 or 1", hex(flags));
	const isLittle = (flags & XENSTORE_BIG_ENDIAN) === 0;
	yield nestedHeader("xenstore", stream.subarray(0, XENSTORE_HEADER_BYTES), {
		version,
		flags,
		byteOrder: isLittle ? "little" : "big",
	});
	for (let at = XENSTORE_HEADER_BYTES; ; ) {
		if (at + RECORD_HEADER_BYTES > stream.length) throw damaged(at, "record", "END", `${stream.length - at} octets`);
		const { type, len } = readStruct(recordHeader, view, at, isLittle) as { type: number; len: number };
		const name = xenstoreRecordNames[type];
		if (name === undefined) throw damaged(at, "type", "a known record", hex(type));
		const end = at + RECORD_HEADER_BYTES + alignUp(len, RECORD_ALIGNMENT);
		if (len > RECORD_LIMIT_BYTES || end > stream.length) {
			throw damaged(at, "len", `at most ${stream.length - at - RECORD_HEADER_BYTES}`, `${len}`);
		}
		const place = { type, name, offset: at, length: len };
		yield nestedRecord("xenstore", place, stream.subarray(at, end), (body) => decodeBody(type, body, isLittle));
		if (type === XENSTORE_RECORD.END) {
			if (end !== stream.length) throw damaged(end, "record", "nothing after END", `${stream.length - end} octets`);
			return;
		}
		at = end;
	}
}
