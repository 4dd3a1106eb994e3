/** Values between octets and JSON: what a body says as fields, and a body made of fields again. */
import { XluError } from "../../errors.ts";
import type { PlacedField, Struct } from "../../format/layout.ts";
import { readStruct, writeStruct } from "../../format/layout.ts";
import type { Fields, Json } from "./record.ts";

export const viewOf = (octets: Uint8Array): DataView =>
	new DataView(octets.buffer, octets.byteOffset, octets.byteLength);

export const hexOf = (octets: Uint8Array): string =>
	Buffer.from(octets.buffer, octets.byteOffset, octets.length).toString("hex");

/** Octets of a string of hexadecimal digits, of any length; undefined if it is none. */
export function octetsOfHex(value: unknown): Uint8Array | undefined {
	if (typeof value !== "string" || value.length % 2 !== 0) return undefined;
	// It ends at the first pair that is no number, so that the length tells.
	const octets = Buffer.from(value, "hex");
	return octets.length === value.length / 2 ? new Uint8Array(octets) : undefined;
}

/** A 64-bit number as JSON holds it: beyond 2^53 a string of digits. */
export const wide = (value: bigint): number | string =>
	value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : `${value}`;

const address = (value: number | bigint): string => `0x${value.toString(16)}`;

function invalid(field: string, expected: string, got: Json | undefined): XluError {
	const shown =
		typeof got === "string" ? JSON.stringify(got.slice(0, 60)) : (JSON.stringify(got)?.slice(0, 60) ?? "nothing");
	return new XluError("XLU_E_USAGE", `${field}: expected ${expected}, got ${shown}.`, { field, expected, got: shown });
}

/** Fields on their way back to octets; every wrong one is XLU_E_USAGE with its name. */
export class FieldReader {
	readonly fields: Fields;
	readonly #where: string;

	constructor(fields: Fields, where: string) {
		this.fields = fields;
		this.#where = where;
	}

	/** A whole number below 2^`bits`: a JSON number, decimal digits, or `0x...`; `otherwise` where there is none. */
	number(name: string, bits: 8 | 16 | 32 | 64, otherwise?: number): bigint {
		return integer(this.fields[name] ?? otherwise, bits, `${this.#where}.${name}`);
	}

	octets(name: string, otherwise?: string): Uint8Array {
		const value = this.fields[name] ?? otherwise;
		const octets = octetsOfHex(value);
		if (!octets) throw invalid(`${this.#where}.${name}`, "octets as pairs of hexadecimal digits", value);
		return octets;
	}

	text(name: string): string {
		const value = this.fields[name];
		if (typeof value !== "string") throw invalid(`${this.#where}.${name}`, "a string", value);
		return value;
	}

	list(name: string): readonly Json[] {
		const value = this.fields[name];
		if (!Array.isArray(value)) throw invalid(`${this.#where}.${name}`, "an array", value);
		return value as readonly Json[];
	}

	/** An element of an array of numbers. */
	element(name: string, index: number, bits: 8 | 16 | 32 | 64): bigint {
		return integer(this.list(name)[index], bits, `${this.#where}.${name}[${index}]`);
	}

	/** The objects of an array. */
	rows(name: string): FieldReader[] {
		return this.list(name).map((value, i) => {
			const where = `${this.#where}.${name}[${i}]`;
			if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid(where, "an object", value);
			return new FieldReader(value as Fields, where);
		});
	}

	row(name: string): FieldReader {
		const value = this.fields[name];
		const where = `${this.#where}.${name}`;
		if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid(where, "an object", value);
		return new FieldReader(value as Fields, where);
	}
}

export function integer(value: Json | undefined, bits: 8 | 16 | 32 | 64, where: string): bigint {
	const isNumber = typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
	const isText = typeof value === "string" && /^(\d{1,20}|0x[0-9a-f]{1,16})$/i.test(value);
	const found = isNumber || isText ? BigInt(value as number | string) : -1n;
	if (found < 0n || found >> BigInt(bits) !== 0n) throw invalid(where, `a whole number of ${bits} bits`, value);
	return found;
}

/** Puts a body together. */
export class OctetWriter {
	readonly #parts: Uint8Array[] = [];
	readonly #isLittle: boolean;

	constructor(isLittle: boolean) {
		this.#isLittle = isLittle;
	}

	number(value: number | bigint, bytes: 1 | 2 | 4 | 8): this {
		const part = Buffer.alloc(8);
		if (this.#isLittle) part.writeBigUInt64LE(BigInt(value));
		else part.writeBigUInt64BE(BigInt(value) << BigInt(64 - 8 * bytes));
		return this.octets(part.subarray(0, bytes));
	}

	octets(part: Uint8Array): this {
		this.#parts.push(part);
		return this;
	}

	done(): Uint8Array {
		return new Uint8Array(Buffer.concat(this.#parts));
	}
}

function fieldJson(field: PlacedField, value: number | bigint): Json {
	if (field.show === "hex") return address(value);
	return typeof value === "bigint" ? wide(value) : value;
}

/** A struct's fields by name. Rows of octets are one string of hexadecimal digits; reserved fields are left out. */
export function structFields(struct: Struct, octets: Uint8Array, offset = 0, isLittle = true): Record<string, Json> {
	const row = readStruct(struct, viewOf(octets), offset, isLittle);
	const fields: Record<string, Json> = {};
	for (const field of struct.fields) {
		const value = row[field.name];
		if (value === undefined) continue;
		if (typeof value !== "object") fields[field.name] = fieldJson(field, value);
		else if (field.type === "u8") fields[field.name] = hexOf(Uint8Array.from(value as readonly number[]));
		else fields[field.name] = Array.from(value, (element: number | bigint) => fieldJson(field, element));
	}
	return fields;
}

/** The struct that `structFields` made such fields of; what is not there is zero. */
export function structOctets(struct: Struct, fields: FieldReader, isLittle = true): Uint8Array {
	const octets = new Uint8Array(struct.size);
	const row: Record<string, bigint | number[] | bigint[]> = {};
	for (const field of struct.fields) {
		if (field.reserved || fields.fields[field.name] === undefined) continue;
		const bits = { u8: 8, u16: 16, u32: 32, u64: 64 }[field.type] as 8 | 16 | 32 | 64;
		if (field.length === 1) row[field.name] = fields.number(field.name, bits);
		else if (field.type === "u8") row[field.name] = [...fields.octets(field.name)];
		else row[field.name] = fields.list(field.name).map((value, i) => integer(value, bits, `${field.name}[${i}]`));
	}
	writeStruct(struct, viewOf(octets), 0, row, isLittle);
	return octets;
}
