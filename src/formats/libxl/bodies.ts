/** Bodies of libxl's records as fields, and back (libxl-migration-stream section 4). */
import type { Fields } from "../common/record.ts";
import { type FieldReader, hexOf, OctetWriter, viewOf } from "../common/values.ts";
import { EMULATOR_HEADER_BYTES, emulatorNames, LIBXL_RECORD } from "./layout.ts";

const R = LIBXL_RECORD;

/** Keys and values, each ending in a NUL; undefined where the data are not such pairs in UTF-8. */
function pairsOf(data: Uint8Array): { key: string; value: string }[] | undefined {
	const text = Buffer.from(data).toString("utf8");
	if (Buffer.compare(Buffer.from(text, "utf8"), data) !== 0) return undefined;
	const parts = text.split("\0");
	if (parts.pop() !== "" || parts.length % 2 !== 0) return undefined;
	return Array.from({ length: parts.length / 2 }, (_, i) => ({
		key: parts[2 * i] as string,
		value: parts[2 * i + 1] as string,
	}));
}

export function libxlBodyFields(type: number, body: Uint8Array, isLittle: boolean): Fields {
	if (type === R.CHECKPOINT_STATE && body.length === 8) {
		const view = viewOf(body);
		return { controlId: view.getUint32(0, isLittle), reserved: view.getUint32(4, isLittle) };
	}
	if ((type === R.EMULATOR_XENSTORE_DATA || type === R.EMULATOR_CONTEXT) && body.length >= EMULATOR_HEADER_BYTES) {
		const view = viewOf(body);
		const emulatorId = view.getUint32(0, isLittle);
		const head = { emulatorId, emulator: emulatorNames[emulatorId] ?? "unknown", index: view.getUint32(4, isLittle) };
		const data = body.subarray(EMULATOR_HEADER_BYTES);
		const pairs = type === R.EMULATOR_XENSTORE_DATA ? pairsOf(data) : undefined;
		return pairs ? { ...head, pairs } : { ...head, context: hexOf(data) };
	}
	return body.length === 0 ? {} : { data: hexOf(body) };
}

export function libxlBodyOctets(type: number, fields: FieldReader, isLittle: boolean): Uint8Array {
	const writer = new OctetWriter(isLittle);
	if (fields.fields.controlId !== undefined && type === R.CHECKPOINT_STATE) {
		return writer
			.number(fields.number("controlId", 32), 4)
			.number(fields.number("reserved", 32, 0), 4)
			.done();
	}
	if (fields.fields.emulatorId === undefined) return fields.octets("data", "");
	writer.number(fields.number("emulatorId", 32), 4).number(fields.number("index", 32), 4);
	if (fields.fields.pairs === undefined) return writer.octets(fields.octets("context")).done();
	for (const row of fields.rows("pairs")) {
		writer.octets(Buffer.from(`${row.text("key")}\0${row.text("value")}\0`, "utf8"));
	}
	return writer.done();
}
