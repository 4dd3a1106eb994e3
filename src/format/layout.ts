/**
 * From fields to offsets: natural alignment, structs padded to 8 octets, reserved fields zero.
 *
 * This is the only place that turns a list of fields into offsets. The core's views, the C header and the
 * document's tables are all made from what it returns, so nobody types an offset.
 */

/** The scalar types a field may have. All are little-endian unless the image header's options say otherwise. */
export const scalarBytes = { u8: 1, u16: 2, u32: 4, u64: 8 } as const;
export type Scalar = keyof typeof scalarBytes;

/** How a value is shown to people: an enumeration's or flags' name, an address in hexadecimal, a UUID. */
export type Show = "hex" | "uuid" | "signed" | { enum: Record<string, number> } | { flags: Record<string, number> };

/**
 * What smaller things a field is made of: structs one after the other (`isSparse`: most of them zero), numbers of so many
 * octets, named bits from bit 0 on, bits that are known by their number.
 */
export type Inner =
	| { readonly struct: Struct; readonly isSparse: boolean }
	| { readonly numberBytes: number }
	| { readonly bits: readonly (readonly [name: string, width: number])[] }
	| { readonly isBitmap: true };

export interface Field {
	readonly name: string;
	readonly type: Scalar;
	/** Number of elements; 1 unless the field is a small array. */
	readonly length: number;
	readonly doc: string;
	/** Zero in every valid stream; checked. */
	readonly reserved: boolean;
	readonly show?: Show | undefined;
	readonly inner?: Inner | undefined;
}

export interface PlacedField extends Field {
	/** Octets from the start of the struct. */
	readonly offset: number;
}

export interface Struct {
	readonly name: string;
	readonly doc: string;
	readonly fields: readonly PlacedField[];
	/** Octets, a multiple of 8 unless `packed`. */
	readonly size: number;
}

/** Octets that a field's offset is a multiple of. */
function alignmentOf({ type, inner }: Field): number {
	return inner && "struct" in inner ? Math.max(1, ...inner.struct.fields.map(alignmentOf)) : scalarBytes[type];
}

export function alignUp(value: number, alignment: number): number {
	return Math.ceil(value / alignment) * alignment;
}

/**
 * Places fields one after the other. A field that is not naturally aligned, or a struct whose size is no multiple
 * of its largest field, is refused: padding is always a named reserved field.
 */
export function layOut(name: string, doc: string, fields: readonly Field[]): Struct {
	let offset = 0;
	let largest = 1;
	const placed = fields.map((field) => {
		const alignment = alignmentOf(field);
		largest = Math.max(largest, alignment);
		if (offset % alignment !== 0)
			throw new Error(`${name}.${field.name} at ${offset} is not ${alignment}-octet aligned`);
		const at = offset;
		offset += scalarBytes[field.type] * field.length;
		return { ...field, offset: at };
	});
	if (offset % largest !== 0) throw new Error(`${name} has ${offset} octets, no multiple of ${largest}`);
	return { name, doc, fields: placed, size: offset };
}

export type FieldValue = number | bigint | readonly number[] | readonly bigint[];
/** One decoded struct; u64 fields are bigint, others number, small arrays are arrays. */
export type Row = Record<string, FieldValue>;

function readScalar(view: DataView, offset: number, type: Scalar, little: boolean): number | bigint {
	switch (type) {
		case "u8":
			return view.getUint8(offset);
		case "u16":
			return view.getUint16(offset, little);
		case "u32":
			return view.getUint32(offset, little);
		case "u64":
			return view.getBigUint64(offset, little);
	}
}

function writeScalar(view: DataView, offset: number, type: Scalar, value: number | bigint, little: boolean): void {
	switch (type) {
		case "u8":
			view.setUint8(offset, Number(value));
			break;
		case "u16":
			view.setUint16(offset, Number(value), little);
			break;
		case "u32":
			view.setUint32(offset, Number(value), little);
			break;
		case "u64":
			view.setBigUint64(offset, BigInt.asUintN(64, BigInt(value)), little);
			break;
	}
}

/** Reads one field of a struct that stands at `offset`. */
export function readField(field: PlacedField, view: DataView, offset: number, little = true): FieldValue {
	const at = offset + field.offset;
	if (field.length === 1) return readScalar(view, at, field.type, little);
	const width = scalarBytes[field.type];
	return Array.from({ length: field.length }, (_, i) =>
		readScalar(view, at + i * width, field.type, little),
	) as number[];
}

/** Reads one struct at `offset` octets into `view`. */
export function readStruct(struct: Struct, view: DataView, offset: number, little = true): Row {
	const row: Row = {};
	for (const field of struct.fields) {
		if (!field.reserved) row[field.name] = readField(field, view, offset, little);
	}
	return row;
}

/** Writes one struct; fields that `row` lacks become zero. */
export function writeStruct(struct: Struct, view: DataView, offset: number, row: Partial<Row>, little = true): void {
	for (const field of struct.fields) {
		const value = row[field.name] ?? 0;
		const width = scalarBytes[field.type];
		for (let i = 0; i < field.length; i++) {
			const element = typeof value === "object" ? (value[i] ?? 0) : i === 0 ? value : 0;
			writeScalar(view, offset + field.offset + i * width, field.type, element, little);
		}
	}
}
