/**
 * General-purpose serializers on the state that the extents core carries: the P2M of one domain, a flat table of u64
 * entries on both sides. What each of them makes of it:
 *
 *     octets    the table as it is, 8 octets an entry, in the format's own field for octets or words: the fastest way in
 *     words     a list of 64-bit numbers
 *     extents   a list of { gfn, count, value }, as one would model a P2M; made from the table and expanded again
 *
 * Each has `encode(table)`, which returns what it made, and `decode(made)`, which returns a table.
 */

import v8 from "node:v8";
import { create, createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Encoder } from "cbor-x";
import { Builder, ByteBuffer } from "flatbuffers";
import { Packr } from "msgpackr";

const WORD_BYTES = 8;

function octetsOf(table) {
	return new Uint8Array(table.buffer, table.byteOffset, table.byteLength);
}

/** A table of its own, as a restore has to have: what was decoded may lie unaligned in the message. */
function tableOf(octets) {
	const table = new BigUint64Array(octets.length / WORD_BYTES);
	octetsOf(table).set(octets);
	return table;
}

/** Runs of a table, from halves: numbers, where bigints would be most of the time. */
export function extentsOf(table) {
	const halves = new Uint32Array(table.buffer, table.byteOffset, table.length * 2);
	const extents = [];
	for (let gfn = 0; gfn < table.length; ) {
		const low = halves[2 * gfn];
		const high = halves[2 * gfn + 1];
		const stride = high >>> 31;
		let end = gfn + 1;
		while (end < table.length && halves[2 * end + 1] === high && halves[2 * end] === low + stride * (end - gfn)) {
			end++;
		}
		extents.push({ gfn, count: end - gfn, value: table[gfn] });
		gfn = end;
	}
	return extents;
}

/** @param toValue how the value's field is read: what comes out of some formats is a number or text */
export function expand(extents, toValue = (value) => value) {
	const last = extents.at(-1);
	const table = new BigUint64Array(last.gfn + last.count);
	const halves = new Uint32Array(table.buffer);
	for (const { gfn, count, value } of extents) {
		table[gfn] = toValue(value);
		const low = halves[2 * gfn];
		const high = halves[2 * gfn + 1];
		const stride = high >>> 31;
		for (let i = 1; i < count; i++) {
			halves[2 * (gfn + i)] = low + stride * i;
			halves[2 * (gfn + i) + 1] = high;
		}
	}
	return table;
}

// --- protobuf-es: descriptors in code, as protoc would have compiled them ---

/** Numbers of FieldDescriptorProto's types and labels. */
const TYPE = { fixed64: 6, message: 11, bytes: 12, uint32: 13 };
const LABEL = { optional: 1, repeated: 3 };

function protobuf() {
	const field = (name, number, type, label = LABEL.optional, typeName = "") => ({
		name,
		number,
		type,
		label,
		typeName,
	});
	const file = create(FileDescriptorProtoSchema, {
		name: "p2m.proto",
		package: "p2m",
		syntax: "proto3",
		messageType: [
			{ name: "Octets", field: [field("table", 1, TYPE.bytes)] },
			{ name: "Words", field: [field("entries", 1, TYPE.fixed64, LABEL.repeated)] },
			{
				name: "Extent",
				field: [field("gfn", 1, TYPE.uint32), field("count", 2, TYPE.uint32), field("value", 3, TYPE.fixed64)],
			},
			{ name: "Extents", field: [field("extents", 1, TYPE.message, LABEL.repeated, ".p2m.Extent")] },
		],
	});
	const registry = createFileRegistry(file, () => undefined);
	const [octets, words, extent, extents] = ["Octets", "Words", "Extent", "Extents"].map((name) =>
		registry.getMessage(`p2m.${name}`),
	);
	return {
		"protobuf-es octets": {
			encode: (table) => toBinary(octets, create(octets, { table: octetsOf(table) })),
			decode: (made) => tableOf(fromBinary(octets, made).table),
		},
		"protobuf-es words": {
			encode: (table) => toBinary(words, create(words, { entries: Array.from(table) })),
			decode: (made) => BigUint64Array.from(fromBinary(words, made).entries),
		},
		"protobuf-es extents": {
			encode: (table) =>
				toBinary(extents, create(extents, { extents: extentsOf(table).map((row) => create(extent, row)) })),
			decode: (made) => expand(fromBinary(extents, made).extents),
		},
	};
}

// --- flatbuffers: what flatc generates, by hand ---

const FIRST_FIELD = 4;

function finished(builder, vector) {
	builder.startObject(1);
	builder.addFieldOffset(0, vector, 0);
	builder.finish(builder.endObject());
	return builder.asUint8Array();
}

/** Where the vector of the root table's only field begins, and how many elements it has. */
function rootVector(made) {
	const buffer = new ByteBuffer(made);
	const root = buffer.readInt32(buffer.position()) + buffer.position();
	const field = root + buffer.__offset(root, FIRST_FIELD);
	return { buffer, start: buffer.__vector(field), count: buffer.__vector_len(field) };
}

function flatbuffers() {
	/** struct Extent { gfn: uint32; count: uint32; value: uint64; } */
	const EXTENT_BYTES = 16;
	return {
		"flatbuffers octets": {
			encode: (table) => {
				const builder = new Builder(table.byteLength + 64);
				return finished(builder, builder.createByteVector(octetsOf(table)));
			},
			decode: (made) => {
				const { buffer, start, count } = rootVector(made);
				return tableOf(buffer.bytes().subarray(start, start + count));
			},
		},
		"flatbuffers words": {
			encode: (table) => {
				const builder = new Builder(table.byteLength + 64);
				builder.startVector(WORD_BYTES, table.length, WORD_BYTES);
				for (let i = table.length - 1; i >= 0; i--) builder.addInt64(table[i]);
				return finished(builder, builder.endVector());
			},
			decode: (made) => {
				const { buffer, start, count } = rootVector(made);
				const table = new BigUint64Array(count);
				for (let i = 0; i < count; i++) table[i] = buffer.readUint64(start + i * WORD_BYTES);
				return table;
			},
		},
		"flatbuffers extents": {
			encode: (table) => {
				const extents = extentsOf(table);
				const builder = new Builder(extents.length * EXTENT_BYTES + 64);
				builder.startVector(EXTENT_BYTES, extents.length, WORD_BYTES);
				for (let i = extents.length - 1; i >= 0; i--) {
					const { gfn, count, value } = extents[i];
					builder.prep(WORD_BYTES, EXTENT_BYTES);
					builder.writeInt64(value);
					builder.writeInt32(count);
					builder.writeInt32(gfn);
				}
				return finished(builder, builder.endVector());
			},
			decode: (made) => {
				const { buffer, start, count } = rootVector(made);
				const extents = [];
				for (let i = 0; i < count; i++) {
					const at = start + i * EXTENT_BYTES;
					extents.push({
						gfn: buffer.readUint32(at),
						count: buffer.readUint32(at + 4),
						value: buffer.readUint64(at + 8),
					});
				}
				return expand(extents);
			},
		},
	};
}

// --- formats that describe themselves ---

/** octets, words and extents of a pair of functions that take any value. */
function selfDescribing(name, encode, decode, toValue = BigInt) {
	return {
		[`${name} octets`]: {
			encode: (table) => encode({ table: octetsOf(table) }),
			decode: (made) => tableOf(decode(made).table),
		},
		[`${name} words`]: {
			encode: (table) => encode({ entries: Array.from(table) }),
			decode: (made) => BigUint64Array.from(decode(made).entries, toValue),
		},
		[`${name} extents`]: {
			encode: (table) => encode({ extents: extentsOf(table) }),
			decode: (made) => expand(decode(made).extents, toValue),
		},
	};
}

/** JSON has no octets and no 64-bit numbers: base64, and hexadecimal text. */
function json() {
	const hex = (value) => `0x${value.toString(16)}`;
	return {
		"JSON octets": {
			encode: (table) => JSON.stringify({ table: Buffer.from(octetsOf(table).buffer).toString("base64") }),
			decode: (made) => tableOf(Buffer.from(JSON.parse(made).table, "base64")),
		},
		"JSON words": {
			encode: (table) => JSON.stringify({ entries: Array.from(table, hex) }),
			decode: (made) => BigUint64Array.from(JSON.parse(made).entries, BigInt),
		},
		"JSON extents": {
			encode: (table) =>
				JSON.stringify({ extents: extentsOf(table).map((row) => ({ ...row, value: hex(row.value) })) }),
			decode: (made) => expand(JSON.parse(made).extents, BigInt),
		},
	};
}

/** All peers by name. */
export function serializers() {
	const packr = new Packr({ moreTypes: true, useRecords: true });
	const cbor = new Encoder({ useRecords: true, tagUint8Array: false });
	return {
		...protobuf(),
		...flatbuffers(),
		...selfDescribing(
			"msgpackr",
			(value) => packr.pack(value),
			(made) => packr.unpack(made),
		),
		...selfDescribing(
			"cbor-x",
			(value) => cbor.encode(value),
			(made) => cbor.decode(made),
		),
		...selfDescribing("v8.serialize", v8.serialize, v8.deserialize),
		...selfDescribing("structuredClone", structuredClone, (made) => made),
		...json(),
	};
}
