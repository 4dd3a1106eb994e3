/**
 * A live-update stream as a row of items, and a stream of items again. LU_SECTION's lengths, counts and checksums and all of
 * LU_INDEX follow from the records: they are no fields, and are made anew, so that a record can be edited. An item whose
 * octets are given has these, whatever follows from the rest.
 */
import { type Core, loadCore } from "../../core/load.ts";
import { XluError } from "../../errors.ts";
import { writeStruct } from "../../format/layout.ts";
import {
	FORMAT_VERSION,
	heads,
	IMAGE_HEADER_BYTES,
	RECORD_HEADER_BYTES,
	recordByName,
	recordByType,
	STREAM_ID,
	STREAM_MARKER,
	structs,
} from "../../format/schema.ts";
import { readHeader, recordName, walkRecords } from "../../inspect/stream.ts";
import { frameRecord } from "../common/framing.ts";
import type { EncodableItem, Fields, StreamItem } from "../common/record.ts";
import { FieldReader, hexOf, invalid, structFields, structOctets, viewOf } from "../common/values.ts";
import { recordBody, recordFields } from "./body.ts";
import { recordBytes, swappedRecord } from "./order.ts";

const SECTION = recordByName("LU_SECTION").type;
const INDEX = recordByName("LU_INDEX").type;
const END = recordByName("END").type;
/** Fields of LU_SECTION that follow from its records. */
const DERIVED = ["length", "hash", "recordCount"];
/** Offsets in the image header, docs/FORMAT.md. */
const VERSION_AT = 12;
const OPTIONS_AT = 16;

function headerOctets(fields: FieldReader): Uint8Array {
	fields.only(["version", "endianness"]);
	const octets = new Uint8Array(IMAGE_HEADER_BYTES);
	const view = viewOf(octets);
	view.setBigUint64(0, STREAM_MARKER);
	view.setUint32(8, STREAM_ID);
	view.setUint32(VERSION_AT, Number(fields.number("version", 32, FORMAT_VERSION)));
	view.setUint16(OPTIONS_AT, Number(fields.oneOf("endianness", { little: 0, big: 1 }, 16)));
	return octets;
}

const hashOf = (core: Core, octets: Uint8Array): bigint => {
	core.reset();
	return core.hash(core.place(octets));
};

const ordered = (octets: Uint8Array, isLittle: boolean) => (isLittle ? octets : swappedRecord(octets, false));

/** LU_SECTION of records that are known. */
function sectionOctets(core: Core, fields: FieldReader, records: readonly Uint8Array[], isLittle: boolean): Uint8Array {
	fields.only(heads.Section.fields.map(({ name }) => name).filter((name) => !DERIVED.includes(name)));
	const octets = new Uint8Array(Buffer.concat(records));
	const derived = { length: octets.length, recordCount: records.length, hash: `${hashOf(core, octets)}` };
	const body = structOctets(heads.Section, fields.with({ ...fields.fields, ...derived }));
	return ordered(frameRecord(SECTION, body, true), isLittle);
}

/** An entry of the index: what a LU_SECTION says, and where it stands. Undefined where it says too little. */
function indexEntry(section: Uint8Array, offset: number, isLittle: boolean): Uint8Array | undefined {
	const body = (isLittle ? section : swappedRecord(section, true)).subarray(RECORD_HEADER_BYTES);
	if (body.length < heads.Section.size) return undefined;
	const fields = { ...structFields(heads.Section, body), offset };
	return structOctets(structs.IndexEntry, new FieldReader(fields, "LU_INDEX"));
}

function indexOctets(core: Core, entries: readonly Uint8Array[], isLittle: boolean): Uint8Array {
	const withHash = (hash: bigint) => {
		const head = new Uint8Array(heads.Index.size);
		writeStruct(heads.Index, viewOf(head), 0, { hash, sectionCount: entries.length });
		return ordered(frameRecord(INDEX, Buffer.concat([head, ...entries]), true), isLittle);
	};
	// The checksum is of the entries in the stream's byte order.
	return withHash(hashOf(core, withHash(0n).slice(RECORD_HEADER_BYTES + heads.Index.size)));
}

/** Header, record or tail on their own; of LU_SECTION and LU_INDEX undefined, since they follow from others. */
function itemOctets({ kind, type, name, isLittle, fields: values }: EncodableItem): Uint8Array | undefined {
	const fields = new FieldReader(values, name);
	if (kind === "header") return headerOctets(fields);
	if (kind === "tail" || type === null) return fields.only(["octets"]).octets("octets");
	if ((type === SECTION || type === INDEX) && values.body === undefined) return undefined;
	return ordered(frameRecord(type, recordBody(recordByType(type), fields), true), isLittle);
}

/** Whether an item ends the section before it. */
const isFraming = ({ kind, type }: EncodableItem): boolean =>
	kind !== "record" || type === SECTION || type === INDEX || type === END;

/**
 * The octets of a row of items, a section at a time.
 * @param explain what becomes of an error that an item ends in
 * @param given the core that makes checksums; by default a new one
 * @throws XLU_E_USAGE with `field` where an item's fields do not make it
 */
export async function* streamOfItems<T extends EncodableItem & { readonly octets?: Uint8Array | undefined }>(
	items: AsyncIterable<T>,
	explain: (item: T, error: unknown) => unknown = (_, error) => error,
	given?: Core,
): AsyncGenerator<Uint8Array, void> {
	const core = given ?? (await loadCore());
	const entries: Uint8Array[] = [];
	let offset = 0;
	let open: T | undefined;
	let held: Uint8Array[] = [];
	const making = <R>(item: T, make: (fields: FieldReader) => R): R => {
		try {
			return make(new FieldReader(item.fields, item.name));
		} catch (error) {
			throw explain(item, error);
		}
	};
	function* put(octets: Uint8Array): Generator<Uint8Array> {
		offset += octets.length;
		if (octets.length > 0) yield octets;
	}
	function* putSection(octets: Uint8Array, isLittle: boolean): Generator<Uint8Array> {
		const entry = indexEntry(octets, offset, isLittle);
		if (entry) entries.push(entry);
		yield* put(octets);
	}
	function* closeSection(): Generator<Uint8Array> {
		if (!open) return;
		const { isLittle } = open;
		const section = making(open, (fields) => sectionOctets(core, fields, held, isLittle));
		yield* putSection(section, isLittle);
		for (const octets of held) yield* put(octets);
		open = undefined;
		held = [];
	}
	for await (const item of items) {
		if (isFraming(item)) yield* closeSection();
		const octets = item.octets ?? making(item, () => itemOctets(item));
		if (octets && open) held.push(octets);
		else if (octets && item.type === SECTION) yield* putSection(octets, item.isLittle);
		else if (octets) yield* put(octets);
		else if (item.type === SECTION) open = item;
		else {
			making(item, (fields) => fields.only([]));
			yield* put(indexOctets(core, entries, item.isLittle));
		}
	}
	yield* closeSection();
}

/** A stream whose records are little-endian, and otherwise the same. */
export function littleStream(stream: Uint8Array): Uint8Array {
	if (readHeader(stream).endianness === "little") return stream;
	const little = stream.slice();
	viewOf(little).setUint16(OPTIONS_AT, viewOf(little).getUint16(OPTIONS_AT) & ~1);
	let isEnded = false;
	for (let at = IMAGE_HEADER_BYTES; !isEnded && at + RECORD_HEADER_BYTES <= stream.length; ) {
		const end = at + recordBytes(viewOf(stream).getUint32(at + 4));
		isEnded = viewOf(stream).getUint32(at) === END;
		little.set(swappedRecord(stream.subarray(at, Math.min(end, stream.length)), true), at);
		at = end;
	}
	return little;
}

/** An item, and the octets that it comes back as: of its fields, and of what surrounds it. */
export interface XluItem extends StreamItem {
	readonly octets: Uint8Array;
	readonly made: Uint8Array | undefined;
}

/** What fields make; undefined where they make nothing, since they are damaged. */
function madeOf(item: EncodableItem): Uint8Array | undefined {
	try {
		return itemOctets(item);
	} catch (error) {
		if (error instanceof XluError) return undefined;
		throw error;
	}
}

function fieldsOf(type: number, body: Uint8Array): Fields {
	const fields = recordFields(recordByType(type), body);
	if (fields.body !== undefined) return fields;
	if (type === INDEX) return {};
	if (type !== SECTION) return fields;
	return Object.fromEntries(Object.entries(fields).filter(([name]) => !DERIVED.includes(name)));
}

const isSame = (a: Uint8Array | undefined, b: Uint8Array): boolean => a !== undefined && Buffer.compare(a, b) === 0;

/**
 * A stream of either byte order as items. Fields are made when they are asked for.
 * @throws XLU_E_DAMAGED where the framing ends; the items before it have been given by then
 */
export async function* xluItems(stream: Uint8Array, given?: Core): AsyncGenerator<XluItem, void> {
	const { version, endianness } = readHeader(stream);
	const isLittle = endianness === "little";
	const core = given ?? (await loadCore());
	let index = 0;
	const itemOf = (
		place: Pick<StreamItem, "kind" | "type" | "name" | "offset" | "length">,
		octets: Uint8Array,
		decode: () => Fields,
		made: (item: EncodableItem) => Uint8Array | undefined = madeOf,
	): XluItem => {
		let fields: Fields | undefined;
		return {
			index: index++,
			layer: "xlu",
			...place,
			isLittle,
			octets,
			get fields() {
				fields ??= decode();
				return fields;
			},
			get made() {
				return made(this);
			},
		};
	};
	const header = { kind: "header", type: null, name: "header", offset: 0, length: IMAGE_HEADER_BYTES } as const;
	yield itemOf(header, stream.subarray(0, IMAGE_HEADER_BYTES), () => ({ version, endianness }));

	const entries: Uint8Array[] = [];
	let section: XluItem | undefined;
	let held: XluItem[] = [];
	let end = IMAGE_HEADER_BYTES;
	function* closeSection(): Generator<XluItem> {
		if (!section) return;
		yield section;
		yield* held;
		section = undefined;
		held = [];
	}
	for (const { type, offset, body } of walkRecords(littleStream(stream))) {
		const name = recordName(type);
		const length = body.length;
		end = offset + recordBytes(length);
		const octets = stream.subarray(offset, end);
		const place = { kind: "record", type, name, offset, length } as const;
		if (type === SECTION || type === INDEX || type === END) yield* closeSection();
		if (type === SECTION) {
			const records = held;
			const made = (item: EncodableItem) => {
				if (item.fields.body !== undefined) return madeOf(item);
				const parts = records.map((record) => record.octets);
				return sectionOctets(core, new FieldReader(item.fields, name), parts, isLittle);
			};
			section = itemOf(place, octets, () => fieldsOf(type, body), made);
			const entry = indexEntry(octets, offset, isLittle);
			if (entry) entries.push(entry);
		} else if (type === INDEX) {
			yield itemOf(
				place,
				octets,
				() => fieldsOf(type, body),
				() => indexOctets(core, entries, isLittle),
			);
		} else {
			const item = itemOf(place, octets, () => fieldsOf(type, body));
			if (section) held.push(item);
			else yield item;
		}
	}
	if (end < stream.length) {
		const tail = stream.subarray(end);
		const place = { kind: "tail", type: null, name: "tail", offset: end, length: tail.length } as const;
		yield itemOf(place, tail, () => ({ octets: hexOf(tail) }));
	}
}

/** Of LU_SECTION and LU_INDEX what the rest makes of them, of other items what their fields make. */
export const xluEncoder = {
	encode(item: EncodableItem): Uint8Array {
		const made = (item as XluItem).made;
		if (made) return made;
		throw invalid(item.name, "fields that make it", item.fields);
	},
};

/**
 * The same stream in the given byte order, checksums made anew.
 * @throws XLU_E_DAMAGED where a section or the index is not what its records make it: what is damaged must not look sound
 */
export async function* streamInOrder(
	stream: Uint8Array,
	isLittle: boolean,
	core?: Core,
): AsyncGenerator<Uint8Array, void> {
	async function* items(): AsyncGenerator<EncodableItem & { octets?: Uint8Array }> {
		for await (const read of xluItems(stream, core)) {
			// Fields are made when they are asked for, and few are.
			const { layer, kind, type, name, offset, octets, isLittle: wasLittle } = read;
			const item = { layer, kind, type, name, isLittle };
			const isDerived = type === SECTION || type === INDEX;
			if (kind === "header") {
				yield { ...item, fields: { ...read.fields, endianness: isLittle ? "little" : "big" } };
			} else if (kind === "tail") yield { ...item, fields: {}, octets };
			else if (!isDerived) {
				yield { ...item, fields: {}, octets: isLittle === wasLittle ? octets : swappedRecord(octets, isLittle) };
			} else {
				const { made, fields } = read;
				if (!isSame(made, octets)) {
					throw new XluError("XLU_E_DAMAGED", `${name} at offset ${offset} is not what its records make it.`, {
						record: name,
						offset,
						expected: `0x${made ? hexOf(made) : ""}`,
						got: `0x${hexOf(octets)}`,
					});
				}
				yield { ...item, fields };
			}
		}
	}
	yield* streamOfItems(items(), undefined, core);
}
