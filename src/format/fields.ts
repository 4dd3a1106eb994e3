/** Constructors for the schema's fields, so that a struct reads like a table: type, name, meaning. */
import type { Field, Scalar, Show, Struct } from "./layout.ts";

export interface NamedField<N extends string, T extends Scalar, L extends number> extends Field {
	readonly name: N;
	readonly type: T;
	readonly length: L;
	readonly reserved: false;
}

export interface ReservedField extends Field {
	readonly reserved: true;
}

function maker<T extends Scalar>(type: T) {
	return <N extends string>(name: N, doc: string, show?: Show): NamedField<N, T, 1> => ({
		name,
		type,
		length: 1,
		doc,
		reserved: false,
		show,
	});
}

/** A small array of scalars. */
export function array<N extends string, T extends Scalar, L extends number>(
	length: L,
	field: NamedField<N, T, 1>,
): NamedField<N, T, L> {
	return { ...field, length };
}

export const u8 = maker("u8");
export const u16 = maker("u16");
export const u32 = maker("u32");
export const u64 = maker("u64");

/** `count` structs one after the other; with one alone it is that one. */
export function nested<N extends string>(name: N, struct: Struct, doc: string, count = 1): NamedField<N, "u8", number> {
	return { ...u8(name, doc), length: struct.size * count, inner: { struct, isSparse: false } };
}

/** Slots for `count` structs, most of them empty. */
export function sparse<N extends string>(
	name: N,
	struct: Struct,
	doc: string,
	count: number,
): NamedField<N, "u8", number> {
	return { ...u8(name, doc), length: struct.size * count, inner: { struct, isSparse: true } };
}

/** Words of a bitmap, whose bits are known by their number. */
export function bitmap<F extends Field>(field: F): F {
	return { ...field, inner: { isBitmap: true } };
}

/** `count` numbers that are longer than any scalar, such as a register of 128 bits. */
export function long<N extends string>(
	name: N,
	bytes: number,
	count: number,
	doc: string,
): NamedField<N, "u8", number> {
	return { ...u8(name, doc), length: bytes * count, inner: { numberBytes: bytes } };
}

/** A scalar whose bits have names, from bit 0 on. */
export function bitsOf<F extends Field>(field: F, ...bits: (readonly [name: string, width: number])[]): F {
	return { ...field, inner: { bits } };
}

/** `octets` reserved octets: zero when written, checked when read. */
export function reserved(name: string, octets: number): ReservedField {
	return { name, type: "u8", length: octets, doc: "Reserved, zero.", reserved: true };
}

type ValueOf<F extends Field> = F["length"] extends 1
	? F["type"] extends "u64"
		? bigint
		: number
	: F["type"] extends "u64"
		? readonly bigint[]
		: readonly number[];

/** The decoded form of a list of fields: what `readStruct` returns, typed. */
export type RowOf<F extends readonly Field[]> = {
	[K in F[number] as K extends { reserved: true } ? never : K["name"]]: ValueOf<K>;
};

type InputOf<F extends Field> = F["length"] extends 1 ? number | bigint : readonly (number | bigint)[];

/** What may be written: any field may be left out (zero), numbers and bigints are both taken. */
export type RowInput<F extends readonly Field[]> = {
	[K in F[number] as K extends { reserved: true } ? never : K["name"]]?: InputOf<K> | undefined;
};
