/** Values between octets and JSON: what a body says as fields, and a body made of fields again. */
import { XluError } from "../../errors.ts";
import { type Inner, type PlacedField, readField, type Struct, scalarBytes, writeStruct } from "../../format/layout.ts";
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
export const wide = (value: bigint): number | string => {
	const number = Number(value);
	return Number.isSafeInteger(number) ? number : `${value}`;
};

const address = (value: number | bigint): string => `0x${value.toString(16)}`;

export function invalid(field: string, expected: string, got: Json | undefined): XluError {
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

	/** Path of a field, as errors name it. */
	at(name: string): string {
		return `${this.#where}.${name}`;
	}

	/** Nothing but these may be there: a name that is misspelt would be left out in silence. */
	only(names: readonly string[]): this {
		for (const [name, value] of Object.entries(this.fields)) {
			if (value !== undefined && !names.includes(name))
				throw invalid(this.at(name), `one of ${names.join(", ")}`, value);
		}
		return this;
	}

	/** Other fields in the same place. */
	with(fields: Fields): FieldReader {
		return new FieldReader(fields, this.#where);
	}

	/** A whole number below 2^`bits`: a JSON number, decimal digits, or `0x...`; `otherwise` where there is none. */
	number(name: string, bits: 8 | 16 | 32 | 64, otherwise?: number): bigint {
		return integer(this.fields[name] ?? otherwise, bits, `${this.#where}.${name}`);
	}

	/** A name of an enumeration, or the number of one that has no name. */
	oneOf(name: string, names: Names, bits: 8 | 16 | 32 | 64): bigint {
		const value = this.fields[name];
		const code = typeof value === "string" && Object.hasOwn(names, value) ? names[value] : undefined;
		if (code === undefined && (typeof value !== "string" || /^\d/.test(value))) return this.number(name, bits);
		if (code === undefined) throw invalid(this.at(name), `one of ${Object.keys(names).join(", ")}, or a number`, value);
		return BigInt(code);
	}

	/** An array of flags' names, and numbers for bits that have none. */
	flags(name: string, names: Names, bits: 8 | 16 | 32 | 64): bigint {
		return this.list(name, bits).reduce<bigint>((sum, value, i) => {
			const bit = typeof value === "string" && Object.hasOwn(names, value) ? names[value] : undefined;
			if (bit !== undefined) return sum | BigInt(bit);
			if (typeof value === "string" && !/^\d/.test(value)) {
				throw invalid(this.at(`${name}[${i}]`), `one of ${Object.keys(names).join(", ")}, or a number`, value);
			}
			return sum | integer(value, bits, this.at(`${name}[${i}]`));
		}, 0n);
	}

	/** A whole number of `bits` bits that may be negative. */
	signed(name: string, bits: 8 | 16 | 32 | 64): bigint {
		const value = this.fields[name];
		const isNumber = typeof value === "number" && Number.isSafeInteger(value);
		const isText = typeof value === "string" && /^-?\d{1,20}$/.test(value);
		const found = isNumber || isText ? BigInt(value as number | string) : undefined;
		if (found === undefined || BigInt.asIntN(bits, found) !== found) {
			throw invalid(`${this.#where}.${name}`, `a whole number of ${bits} bits with a sign`, value);
		}
		return found;
	}

	/** @param length octets that there may be at most */
	octets(name: string, otherwise?: string, length?: number): Uint8Array {
		const value = this.fields[name] ?? otherwise;
		const octets = octetsOfHex(value);
		if (!octets || (length !== undefined && octets.length > length)) {
			const most = length === undefined ? "octets" : `at most ${length} octets`;
			throw invalid(`${this.#where}.${name}`, `${most} as pairs of hexadecimal digits`, value);
		}
		return octets;
	}

	text(name: string): string {
		const value = this.fields[name];
		if (typeof value !== "string") throw invalid(`${this.#where}.${name}`, "a string", value);
		return value;
	}

	/** @param limit elements that there may be at most */
	list(name: string, limit = Number.POSITIVE_INFINITY): readonly Json[] {
		const value = this.fields[name];
		if (!Array.isArray(value) || value.length > limit) {
			const most = limit === Number.POSITIVE_INFINITY ? "" : ` of at most ${limit} elements`;
			throw invalid(`${this.#where}.${name}`, `an array${most}`, value);
		}
		return value as readonly Json[];
	}

	/** An array of numbers. */
	numbers(name: string, bits: 8 | 16 | 32 | 64, limit?: number): bigint[] {
		return this.list(name, limit).map((value, i) => integer(value, bits, `${this.#where}.${name}[${i}]`));
	}

	/** An element of an array of numbers. */
	element(name: string, index: number, bits: 8 | 16 | 32 | 64): bigint {
		return integer(this.list(name)[index], bits, `${this.#where}.${name}[${index}]`);
	}

	/** The objects of an array. */
	rows(name: string, limit?: number): FieldReader[] {
		return this.list(name, limit).map((value, i) => {
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

const isZero = (octets: Uint8Array): boolean => octets.every((octet) => octet === 0);

/** A number of any length, as `0x...`. */
const longHex = (octets: Uint8Array): string => address(BigInt(`0x${hexOf(octets.slice().reverse()) || "0"}`));

const bitsOfField = ({ type }: PlacedField) => (8 * scalarBytes[type]) as 8 | 16 | 32 | 64;

/** A scalar as JSON has it: an address, a name, names of flags, a number. */
export function fieldJson(field: PlacedField, value: number | bigint): Json {
	const { show } = field;
	if (show === "hex") return address(value);
	if (show === "signed") return wide(BigInt.asIntN(bitsOfField(field), BigInt(value)));
	if (typeof show === "object" && "enum" in show) return enumJson(show.enum, Number(value));
	if (typeof show === "object") return flagsJson(show.flags, BigInt(value));
	return typeof value === "bigint" ? wide(value) : value;
}

type Names = Readonly<Record<string, number>>;

/** Names by their number: millions of entries are looked up. */
const namesByNumber = new WeakMap<Names, ReadonlyMap<number, string>>();

function byNumber(names: Names): ReadonlyMap<number, string> {
	const known = namesByNumber.get(names);
	if (known) return known;
	// Of two names for a number the first one counts.
	const made = new Map(
		Object.entries(names)
			.reverse()
			.map(([name, code]) => [code, name] as const),
	);
	namesByNumber.set(names, made);
	return made;
}

/** An enumeration's name; the number of one that has none. */
export function enumJson(names: Names, value: number): Json {
	return byNumber(names).get(value) ?? value;
}

/** Names of the flags that are set; what has no name is one number at the end. */
export function flagsJson(names: Names, value: bigint): Json[] {
	const found: Json[] = [];
	let rest = value;
	for (const [name, bit] of value === 0n ? [] : Object.entries(names)) {
		if ((value & BigInt(bit)) === 0n) continue;
		found.push(name);
		rest &= ~BigInt(bit);
	}
	return rest === 0n ? found : [...found, address(rest)];
}

export function uuidOf(octets: Uint8Array): string {
	return hexOf(octets).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

function uuidOctets(value: Json | undefined, where: string): Uint8Array {
	const isUuid = typeof value === "string" && /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i.test(value);
	if (!isUuid) throw invalid(where, "a UUID", value);
	return Buffer.from(value.replaceAll("-", ""), "hex");
}

/** The number of a field that `fieldJson` made such a value of. */
function fieldNumber(field: PlacedField, fields: FieldReader): bigint {
	const { name, show } = field;
	const bits = bitsOfField(field);
	if (show === "signed") return fields.signed(name, bits);
	if (typeof show !== "object") return fields.number(name, bits);
	return "enum" in show ? fields.oneOf(name, show.enum, bits) : fields.flags(name, show.flags, bits);
}

/**
 * A struct's fields by name. Rows of octets are one string of hexadecimal digits; reserved fields are there only where they
 * are not zero, as octets.
 */
export function structFields(struct: Struct, octets: Uint8Array, offset = 0, isLittle = true): Record<string, Json> {
	const view = viewOf(octets);
	const fields: Record<string, Json> = {};
	for (const field of struct.fields) {
		const { inner, name } = field;
		const at = offset + field.offset;
		const raw = octets.subarray(at, at + scalarBytes[field.type] * field.length);
		if (field.reserved) {
			if (!isZero(raw)) fields[name] = hexOf(raw);
		} else if (inner && "bits" in inner) {
			Object.assign(fields, bitsFields(name, inner.bits, BigInt(readField(field, view, offset, isLittle) as bigint)));
		} else if (inner) fields[name] = innerJson(inner, raw, isLittle);
		else if (field.show === "uuid") fields[name] = uuidOf(raw);
		else if (field.type === "u8" && field.length > 1) fields[name] = hexOf(raw);
		else {
			const value = readField(field, view, offset, isLittle);
			fields[name] =
				typeof value === "object"
					? Array.from(value, (element: number | bigint) => fieldJson(field, element))
					: fieldJson(field, value);
		}
	}
	return fields;
}

function bitsFields(
	rest: string,
	bits: readonly (readonly [name: string, width: number])[],
	value: bigint,
): Record<string, Json> {
	const fields: Record<string, Json> = {};
	let left = value;
	let at = 0n;
	for (const [name, width] of bits) {
		const mask = (1n << BigInt(width)) - 1n;
		fields[name] = wide((left >> at) & mask);
		left &= ~(mask << at);
		at += BigInt(width);
	}
	// Bits without a name.
	return left === 0n ? fields : { ...fields, [rest]: address(left) };
}

function innerJson(inner: Exclude<Inner, { bits: unknown }>, raw: Uint8Array, isLittle: boolean): Json {
	if ("isBitmap" in inner) return bitRuns(raw);
	const bytes = "struct" in inner ? inner.struct.size : inner.numberBytes;
	const parts = Array.from({ length: raw.length / bytes }, (_, i) => raw.subarray(i * bytes, (i + 1) * bytes));
	if ("struct" in inner && inner.isSparse) {
		return parts.flatMap((part, slot): Json[] =>
			isZero(part) ? [] : [{ slot, ...structFields(inner.struct, part, 0, isLittle) }],
		);
	}
	const values = parts.map(
		(part): Json => ("struct" in inner ? structFields(inner.struct, part, 0, isLittle) : longHex(part)),
	);
	return values.length === 1 ? (values[0] as Json) : values;
}

/**
 * The struct that `structFields` made such fields of; what is not there is zero.
 * @throws XLU_E_USAGE with `field` where a field is not of its kind or does not fit
 */
export function structOctets(struct: Struct, fields: FieldReader, isLittle = true): Uint8Array {
	const octets = new Uint8Array(struct.size);
	const row: Record<string, bigint | bigint[]> = {};
	const raw: [PlacedField, Uint8Array][] = [];
	for (const field of struct.fields) {
		const bits = bitsOfField(field);
		const length = scalarBytes[field.type] * field.length;
		const { inner, name } = field;
		if (inner && "bits" in inner) row[name] = bitsNumber(name, inner.bits, fields, bits);
		else if (fields.fields[name] === undefined) continue;
		else if (inner) raw.push([field, innerOctets(name, inner, length, fields, isLittle)]);
		else if (field.show === "uuid") raw.push([field, uuidOctets(fields.fields[name], fields.at(name))]);
		else if (field.reserved || (field.type === "u8" && field.length > 1))
			raw.push([field, fields.octets(name, undefined, length)]);
		else if (field.length === 1) row[name] = fieldNumber(field, fields);
		else row[name] = fields.numbers(name, bits, field.length);
	}
	writeStruct(struct, viewOf(octets), 0, row, isLittle);
	for (const [field, part] of raw) octets.set(part, field.offset);
	return octets;
}

/** Numbers of the bits that are set, those of a run as `first-last`. */
function bitRuns(octets: Uint8Array): (number | string)[] {
	const isSet = (bit: number) => (((octets[bit >>> 3] ?? 0) >>> (bit & 7)) & 1) === 1;
	const runs: (number | string)[] = [];
	for (let bit = 0; bit < 8 * octets.length; bit++) {
		if (!isSet(bit)) continue;
		const first = bit;
		while (isSet(bit + 1)) bit++;
		runs.push(first === bit ? bit : `${first}-${bit}`);
	}
	return runs;
}

function bitmapOctets(name: string, length: number, fields: FieldReader): Uint8Array {
	const octets = new Uint8Array(length);
	for (const run of fields.list(name, 8 * length)) {
		const [first, last] =
			typeof run === "string" && /^\d{1,9}-\d{1,9}$/.test(run) ? run.split("-").map(Number) : [run, run];
		const isRun =
			Number.isInteger(first) && Number.isInteger(last) && (first as number) >= 0 && (last as number) < 8 * length;
		if (!isRun) throw invalid(fields.at(name), `numbers below ${8 * length}, and runs of them as "first-last"`, run);
		for (let bit = first as number; bit <= (last as number); bit++) {
			octets[bit >>> 3] = (octets[bit >>> 3] as number) | (1 << (bit & 7));
		}
	}
	return octets;
}

function bitsNumber(
	rest: string,
	names: readonly (readonly [string, number])[],
	fields: FieldReader,
	bits: 8 | 16 | 32 | 64,
): bigint {
	let number = fields.number(rest, bits, 0);
	let at = 0n;
	for (const [name, width] of names) {
		const value = fields.number(name, 64, 0);
		if (value >> BigInt(width) !== 0n)
			throw invalid(fields.at(name), `a whole number of ${width} bits`, fields.fields[name]);
		number |= value << at;
		at += BigInt(width);
	}
	return number;
}

function innerOctets(
	name: string,
	inner: Exclude<Inner, { bits: unknown }>,
	length: number,
	fields: FieldReader,
	isLittle: boolean,
): Uint8Array {
	if ("isBitmap" in inner) return bitmapOctets(name, length, fields);
	const octets = new Uint8Array(length);
	if ("struct" in inner) {
		const { struct } = inner;
		if (inner.isSparse) {
			const slots = length / struct.size;
			for (const row of fields.rows(name, slots)) {
				const slot = Number(row.number("slot", 32));
				if (slot >= slots) throw invalid(row.at("slot"), `below ${slots}`, slot);
				octets.set(structOctets(struct, row, isLittle), slot * struct.size);
			}
			return octets;
		}
		const rows = length === struct.size ? [fields.row(name)] : fields.rows(name, length / struct.size);
		for (const [i, row] of rows.entries()) octets.set(structOctets(struct, row, isLittle), i * struct.size);
		return octets;
	}
	const bytes = inner.numberBytes;
	const values = length === bytes ? [fields.fields[name]] : fields.list(name, length / bytes);
	for (const [i, value] of values.entries()) {
		const digits = typeof value === "string" ? /^0x([0-9a-f]+)$/i.exec(value.slice(0, 2 * bytes + 2))?.[1] : undefined;
		if (digits === undefined || (value as string).length > 2 * bytes + 2) {
			throw invalid(fields.at(`${name}[${i}]`), `0x and at most ${2 * bytes} digits`, value);
		}
		octets.set(Buffer.from(digits.padStart(2 * bytes, "0"), "hex").reverse(), i * bytes);
	}
	return octets;
}
