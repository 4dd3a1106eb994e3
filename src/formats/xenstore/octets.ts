/** Octets of a record's body to fields and back: structures, texts, and the rest that nobody knows. */
import { XluError } from "../../errors.ts";
import { alignUp, readStruct, type Struct, scalarBytes, writeStruct } from "../../format/layout.ts";
import type { Fields, Json } from "../common/record.ts";
import { octetsOfHex } from "../common/values.ts";
import { RECORD_ALIGNMENT } from "./layout.ts";

export const hexOf = (octets: Uint8Array): string =>
	Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength).toString("hex");

export const isZero = (octets: Uint8Array): boolean => octets.every((octet) => octet === 0);

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Paths and tokens are octets. What is UTF-8 becomes text; of anything else each octet above 0x7f becomes a lone surrogate
 * U+DC80 to U+DCFF (as Python's surrogateescape has it), so that JSON holds it and no octet is lost.
 */
export function textOf(octets: Uint8Array): string {
	try {
		return strictUtf8.decode(octets);
	} catch {
		return Array.from(octets, (octet) => String.fromCharCode(octet < 0x80 ? octet : 0xdc00 + octet)).join("");
	}
}

const isEscaped = (unit: number): boolean => unit >= 0xdc80 && unit <= 0xdcff;

export function octetsOfText(text: string): Uint8Array {
	if (!/[\udc80-\udcff]/.test(text)) return Buffer.from(text, "utf8");
	const parts: Buffer[] = [];
	for (const character of text) {
		const unit = character.charCodeAt(0);
		parts.push(character.length === 1 && isEscaped(unit) ? Buffer.of(unit - 0xdc00) : Buffer.from(character, "utf8"));
	}
	return Buffer.concat(parts);
}

/** A position in a body. The caller checks `remaining`; what asks for more gets what there is. */
export class BodyReader {
	readonly body: Uint8Array;
	readonly isLittle: boolean;
	at = 0;
	readonly #view: DataView;

	constructor(body: Uint8Array, isLittle: boolean) {
		this.body = body;
		this.isLittle = isLittle;
		this.#view = new DataView(body.buffer, body.byteOffset, body.byteLength);
	}

	get remaining(): number {
		return this.body.length - this.at;
	}

	/** Fields of a structure that lies within the body; signed where they are shown so. */
	struct(struct: Struct): Record<string, number> {
		const row = readStruct(struct, this.#view, this.at, this.isLittle) as Record<string, number>;
		for (const field of struct.fields) if (field.show === "signed") row[field.name] = row[field.name]! | 0;
		this.at += struct.size;
		return row;
	}

	/** At an offset of the body that the caller has checked; the position stays. */
	peekU16(offset: number): number {
		return this.#view.getUint16(offset, this.isLittle);
	}

	u8(): number {
		return this.#view.getUint8(this.at++);
	}

	u16(): number {
		this.at += scalarBytes.u16;
		return this.#view.getUint16(this.at - scalarBytes.u16, this.isLittle);
	}

	u32(): number {
		this.at += scalarBytes.u32;
		return this.#view.getUint32(this.at - scalarBytes.u32, this.isLittle);
	}

	u64(): bigint {
		this.at += scalarBytes.u64;
		return this.#view.getBigUint64(this.at - scalarBytes.u64, this.isLittle);
	}

	octets(lengthBytes: number): Uint8Array {
		const octets = this.body.subarray(this.at, this.at + lengthBytes);
		this.at += octets.length;
		return octets;
	}

	/**
	 * What is left, hexadecimal; undefined where that is what a daemon writes, zeros up to a multiple of 8. A body that
	 * leaves its padding out has "" here.
	 */
	rest(): string | undefined {
		const rest = this.octets(this.remaining);
		const padding = alignUp(this.at - rest.length, RECORD_ALIGNMENT) - (this.at - rest.length);
		return rest.length === padding && isZero(rest) ? undefined : hexOf(rest);
	}
}

function usage(field: string, expected: string, value: Json | undefined): XluError {
	const got = JSON.stringify(value)?.slice(0, 60) ?? "nothing";
	return new XluError("XLU_E_USAGE", `xenstore ${field}: expected ${expected}, got ${got}`, { field, expected, got });
}

/** Fields that people may have edited: every access says what it expected. */
export class FieldReader {
	readonly #fields: Fields;

	constructor(fields: Fields) {
		this.#fields = fields;
	}

	has(name: string): boolean {
		return this.#fields[name] !== undefined;
	}

	value(name: string): Json | undefined {
		return this.#fields[name];
	}

	/** A whole number of at most `bits` bits; -1 and the like where `isSigned`. */
	number(name: string, bits: number, fallback?: number, isSigned = false): number {
		const value = this.#fields[name] ?? fallback;
		const lowest = isSigned ? -(2 ** (bits - 1)) : 0;
		if (typeof value !== "number" || !Number.isInteger(value) || value < lowest || value >= 2 ** bits) {
			throw usage(name, `a whole number of ${bits} bits`, value);
		}
		return value;
	}

	/** A number, or above 2^53 a string of digits. */
	u64(name: string): bigint {
		const value = this.#fields[name];
		const isDigits = typeof value === "string" && /^\d{1,20}$/.test(value);
		if (!isDigits && !(typeof value === "number" && Number.isSafeInteger(value))) {
			throw usage(name, "a number or a string of digits", value);
		}
		const number = BigInt(value);
		if (number < 0n || number >= 1n << 64n) throw usage(name, "64 bits", value);
		return number;
	}

	octets(name: string, fallback?: string): Uint8Array {
		const value = this.#fields[name] ?? fallback;
		const octets = octetsOfHex(value);
		if (!octets) throw usage(name, "hexadecimal octets", value);
		return octets;
	}

	text(name: string): string {
		const value = this.#fields[name];
		if (typeof value !== "string") throw usage(name, "text", value);
		return value;
	}

	list(name: string): readonly Json[] {
		const value = this.#fields[name] ?? [];
		if (!Array.isArray(value)) throw usage(name, "a list", value);
		return value as readonly Json[];
	}

	error(name: string, expected: string): XluError {
		return usage(name, expected, this.#fields[name]);
	}
}

/** Puts a body together. */
export class BodyWriter {
	readonly isLittle: boolean;
	length = 0;
	readonly #parts: Uint8Array[] = [];

	constructor(isLittle: boolean) {
		this.isLittle = isLittle;
	}

	octets(octets: Uint8Array): void {
		this.#parts.push(octets);
		this.length += octets.length;
	}

	struct(struct: Struct, row: Record<string, number>): void {
		const octets = new Uint8Array(struct.size);
		writeStruct(struct, new DataView(octets.buffer), 0, row, this.isLittle);
		this.octets(octets);
	}

	scalar(width: 2 | 4 | 8, value: number | bigint): void {
		const octets = new Uint8Array(width);
		const view = new DataView(octets.buffer);
		if (width === 2) view.setUint16(0, Number(value), this.isLittle);
		else if (width === 4) view.setUint32(0, Number(value), this.isLittle);
		else view.setBigUint64(0, BigInt(value), this.isLittle);
		this.octets(octets);
	}

	/** Zeros up to a multiple of 8. */
	align(): void {
		this.octets(new Uint8Array(alignUp(this.length, RECORD_ALIGNMENT) - this.length));
	}

	finish(): Uint8Array {
		return Buffer.concat(this.#parts, this.length);
	}
}
