/** HVM_CONTEXT as fields, entry by entry, and back. */
import type { Fields, Json } from "../common/record.ts";
import { type FieldReader, hexOf, OctetWriter, structFields, structOctets } from "../common/values.ts";
import { HVM_DESCRIPTOR_BYTES, hvmCpu, readHvmContext } from "./context.ts";

/** Entries whole, each with its octets, a CPU's with its registers; what follows the last whole one as `rest`. */
export function hvmContextFields(context: Uint8Array): Fields {
	const entries = readHvmContext(context);
	const last = entries.at(-1);
	const end = last ? last.offset + HVM_DESCRIPTOR_BYTES + last.length : 0;
	const rest = context.length > end ? { rest: hexOf(context.subarray(end)) } : {};
	return {
		entries: entries.map(({ type, name, instance, length, body, cpu }): Json => {
			const common = { type, name, instance, length };
			if (!cpu) return { ...common, body: hexOf(body) };
			const tail = length > hvmCpu.size ? { rest: hexOf(body.subarray(hvmCpu.size)) } : {};
			return { ...common, registers: structFields(hvmCpu, body), ...tail };
		}),
		...rest,
	};
}

export function hvmContextOctets(fields: FieldReader): Uint8Array {
	const writer = new OctetWriter(true);
	for (const entry of fields.rows("entries")) {
		const body =
			entry.fields.registers === undefined
				? entry.octets("body")
				: Buffer.concat([structOctets(hvmCpu, entry.row("registers")), entry.octets("rest", "")]);
		writer
			.number(entry.number("type", 16), 2)
			.number(entry.number("instance", 16), 2)
			.number(body.length, 4)
			.octets(body);
	}
	return writer.octets(fields.octets("rest", "")).done();
}
