/** HVM_CONTEXT as fields, entry by entry, and back. */
import type { Fields, Json } from "../common/record.ts";
import { type FieldReader, hexOf, OctetWriter, structFields, structOctets } from "../common/values.ts";
import { msrFields, msrOctets } from "../x86/msrs.ts";
import { HVM_DESCRIPTOR_BYTES, type HvmEntry, readHvmContext } from "./context.ts";
import { hvmEntryTypes, hvmForm } from "./layout.ts";

/** Entries whole, each with its registers; what follows the last whole one as `rest`. */
export function hvmContextFields(context: Uint8Array): Fields {
	const entries = readHvmContext(context);
	const last = entries.at(-1);
	const end = last ? last.offset + HVM_DESCRIPTOR_BYTES + last.length : 0;
	const rest = context.length > end ? { rest: hexOf(context.subarray(end)) } : {};
	return { entries: entries.map(hvmEntryFields), ...rest };
}

/**
 * An entry's registers by name; octets behind the longest form that is known as `rest`, a type or a length that is not known as
 * `body`.
 */
export function hvmEntryFields({ type, name, instance, length, body }: HvmEntry): Fields {
	const common = { type, name, instance, length };
	const form = hvmForm(type, length);
	if (!form) return { ...common, body: hexOf(body) };
	const behind = body.subarray(form.size);
	const registers: Fields = form.size > 0 ? { registers: structFields(form, body) } : {};
	return { ...common, ...registers, ...tailFields(type, behind) };
}

function tailFields(type: number, octets: Uint8Array): Fields {
	const tail = hvmEntryTypes[type]?.tail;
	if (tail && !tail.row) return octets.length > 0 ? { [tail.name]: hexOf(octets) } : {};
	const rowBytes = tail?.row?.size ?? 1;
	const count = tail ? Math.floor(octets.length / rowBytes) : 0;
	const rows = Array.from({ length: count }, (_, i) => msrFields(octets.subarray(i * rowBytes, (i + 1) * rowBytes)));
	const rest = octets.subarray(count * rowBytes);
	return { ...(tail ? { [tail.name]: rows as Json } : {}), ...(rest.length > 0 ? { rest: hexOf(rest) } : {}) };
}

function entryOctets(entry: FieldReader): Uint8Array {
	const { fields } = entry;
	if (fields.body !== undefined) return entry.octets("body");
	const type = Number(entry.number("type", 16));
	const tail = hvmEntryTypes[type]?.tail;
	const form = hvmForm(type, Number(entry.number("length", 32)));
	// Without a form there is a body, and its absence is what to tell.
	if (!form) return entry.octets("body");
	const parts = [form.size > 0 ? structOctets(form, entry.row("registers")) : new Uint8Array(0)];
	if (tail?.row) parts.push(...entry.rows(tail.name).map((row) => msrOctets(row)));
	else if (tail) parts.push(entry.octets(tail.name, ""));
	return Buffer.concat([...parts, entry.octets("rest", "")]);
}

export function hvmContextOctets(fields: FieldReader): Uint8Array {
	const writer = new OctetWriter(true);
	for (const entry of fields.rows("entries")) {
		const body = entryOctets(entry);
		writer
			.number(entry.number("type", 16), 2)
			.number(entry.number("instance", 16), 2)
			.number(body.length, 4)
			.octets(body);
	}
	return writer.octets(fields.octets("rest", "")).done();
}
