/** Octets of a stream's header and of a record around its body. */
import { writeStruct } from "../../format/layout.ts";
import { viewOf } from "../common/values.ts";
import {
	RECORD_HEADER_BYTES,
	recordHeader,
	XENSTORE_BIG_ENDIAN,
	XENSTORE_HEADER_BYTES,
	XENSTORE_IDENT,
} from "./layout.ts";

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
