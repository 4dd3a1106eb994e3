/** xenstore streams as one of the formats that the commands know. */
import { XluError } from "../../errors.ts";
import { writeStruct } from "../../format/layout.ts";
import type { Format } from "../common/format.ts";
import type { EncodableItem } from "../common/record.ts";
import { FieldReader, viewOf } from "../common/values.ts";
import {
	RECORD_HEADER_BYTES,
	recordHeader,
	XENSTORE_BIG_ENDIAN,
	XENSTORE_HEADER_BYTES,
	XENSTORE_IDENT,
} from "./layout.ts";
import { isXenstore, readXenstoreItems } from "./read.ts";
import { encodeBody } from "./records.ts";
import { xenstoreRuleList } from "./rules.ts";

/** A stream's header, which is big-endian in any case; bit 0 of its flags says the records' order. */
export function headerOctets(version: number, flags: number, isLittle: boolean): Uint8Array {
	const octets = new Uint8Array(XENSTORE_HEADER_BYTES);
	octets.set(XENSTORE_IDENT);
	viewOf(octets).setUint32(8, version);
	viewOf(octets).setUint32(12, isLittle ? flags & ~XENSTORE_BIG_ENDIAN : flags | XENSTORE_BIG_ENDIAN);
	return octets;
}

/** A body with its header; `padding` are octets that its length does not count. */
export function frame(
	type: number,
	body: Uint8Array,
	isLittle: boolean,
	padding: Uint8Array = new Uint8Array(0),
): Uint8Array {
	const octets = new Uint8Array(RECORD_HEADER_BYTES + body.length + padding.length);
	writeStruct(recordHeader, viewOf(octets), 0, { type, len: body.length }, isLittle);
	octets.set(body, RECORD_HEADER_BYTES);
	octets.set(padding, RECORD_HEADER_BYTES + body.length);
	return octets;
}

function encode({ kind, type, name, isLittle, fields }: EncodableItem): Uint8Array {
	const reader = new FieldReader(fields, name);
	if (kind === "header") {
		return headerOctets(Number(reader.number("version", 32)), Number(reader.number("flags", 32, 0)), isLittle);
	}
	if (kind === "tail") return reader.octets("data");
	if (type === null) {
		throw new XluError("XLU_E_USAGE", `${name} has no type.`, { field: "type", expected: "a number", got: "null" });
	}
	return frame(type, encodeBody(type, fields, isLittle), isLittle, reader.octets("padding", ""));
}

export const xenstoreFormat: Format = {
	name: "xenstore",
	layers: ["xenstore"],
	rules: xenstoreRuleList,
	headBytes: XENSTORE_HEADER_BYTES,
	detect: isXenstore,
	read: readXenstoreItems,
	encode,
};
