/** xenstore streams as one of the formats that the commands know. */
import { XluError } from "../../errors.ts";
import type { Format } from "../common/format.ts";
import type { EncodableItem } from "../common/record.ts";
import { FieldReader } from "../common/values.ts";
import { frame, headerOctets } from "./frame.ts";
import { XENSTORE_HEADER_BYTES } from "./layout.ts";
import { isXenstore, readXenstoreItems } from "./read.ts";
import { encodeBody } from "./records.ts";
import { xenstoreRuleList } from "./rules.ts";

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
