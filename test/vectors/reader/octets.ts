/** Numbers and hashes: FORMAT.md, "Notation". Little-endian, or big-endian where the image header says so. */
import { createXXHash3 } from "hash-wasm";
import type { Field, Structure } from "./layout.ts";

/** A field's value: a number up to 4 octets, a bigint of 8, an array, or the octets of a u8 array. */
export type Value = number | bigint | Value[] | Uint8Array;
// biome-ignore lint/suspicious/noExplicitAny: fields are named by the layout's text, which no type can follow.
export type Fields = Record<string, any>;

export const align8 = (n: number): number => Math.ceil(n / 8) * 8;

/** The greatest number of a u64 and of a u32, where a field says that it means "none". */
export const ALL_ONES = 0xffff_ffff_ffff_ffffn;
export const ALL_ONES_32 = 0xffff_ffff;

const xxh3 = await createXXHash3(0, 0);

/** XXH3-64 with seed 0 and the default secret. Its canonical form is big-endian. */
export function hash(octets: Uint8Array): bigint {
	return BigInt(`0x${xxh3.init().update(octets).digest("hex")}`);
}

export class Octets {
	readonly bytes: Uint8Array;
	readonly view: DataView;
	isLittle: boolean;

	constructor(bytes: Uint8Array, isLittle = true) {
		this.bytes = bytes;
		this.isLittle = isLittle;
		this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
	}

	get length(): number {
		return this.bytes.length;
	}

	number(at: number, size: 1 | 2 | 4 | 8): number | bigint {
		if (size === 1) return this.view.getUint8(at);
		if (size === 2) return this.view.getUint16(at, this.isLittle);
		if (size === 4) return this.view.getUint32(at, this.isLittle);
		return this.view.getBigUint64(at, this.isLittle);
	}

	u8 = (at: number): number => this.view.getUint8(at);
	u16 = (at: number): number => this.view.getUint16(at, this.isLittle);
	u32 = (at: number): number => this.view.getUint32(at, this.isLittle);
	u64 = (at: number): bigint => this.view.getBigUint64(at, this.isLittle);

	field(at: number, field: Field): Value {
		if (field.count === 0) return this.number(at + field.offset, field.size);
		if (field.size === 1) return this.bytes.slice(at + field.offset, at + field.offset + field.count);
		return Array.from({ length: field.count }, (_, i) => this.number(at + field.offset + i * field.size, field.size));
	}

	fields(at: number, structure: Structure): Fields {
		const values: Fields = {};
		for (const field of structure.fields) if (field.name) values[field.name] = this.field(at, field);
		return values;
	}

	/** Offset of the first octet of [at, end) that is not zero; -1 if all are zero. */
	firstNonZero(at: number, end: number): number {
		for (let i = at; i < end; i++) if (this.bytes[i] !== 0) return i;
		return -1;
	}

	/** Whether the reserved fields of a structure are zero. */
	reservedIsZero(at: number, structure: Structure): boolean {
		return structure.fields.every(
			(f) => f.name !== "" || this.firstNonZero(at + f.offset, at + f.offset + f.size * Math.max(1, f.count)) < 0,
		);
	}
}
