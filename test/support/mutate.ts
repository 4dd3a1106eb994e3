/** Hostile changes of a stream, at the level of fields and records, under checksums that are right: for fast-check. */
import fc from "fast-check";
import { placeParts } from "../../src/format/decode.ts";
import { scalarBytes } from "../../src/format/layout.ts";
import { recordByType, structs } from "../../src/format/schema.ts";
import { parse, type StreamRecord } from "./restitch.ts";

/** Values at which counts, sums and shifts go wrong. */
const corners32 = [
	0, 1, 2, 7, 8, 16, 255, 256, 512, 1023, 1024, 4096, 8192, 65535, 65536, 0x100000, 0x100001, 0x1000_0000, 0x7fff_fff8,
	0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_fffe, 0xffff_ffff,
];
const corners64 = [
	...corners32.map(BigInt),
	1n << 32n,
	(1n << 40n) - 1n,
	1n << 40n,
	1n << 52n,
	1n << 62n,
	1n << 63n,
	(1n << 64n) - 4096n,
	(1n << 64n) - 1n,
];

export interface Mutation {
	section: number;
	record: number;
	/** Which scalar of the record, modulo their number. */
	scalar: number;
	corner: number;
	random: number;
	/** What is done: a corner value, a random value, a small step, or the record itself. */
	kind: "corner" | "random" | "step" | "octet" | "drop" | "double" | "swap" | "cut" | "grow";
}

export const mutation: fc.Arbitrary<Mutation> = fc.record({
	section: fc.nat(100),
	record: fc.nat(100),
	scalar: fc.nat(100_000),
	corner: fc.nat(31),
	random: fc.nat(0xffff_ffff),
	kind: fc.oneof(
		{ weight: 6, arbitrary: fc.constant("corner" as const) },
		{ weight: 4, arbitrary: fc.constant("step" as const) },
		{ weight: 3, arbitrary: fc.constant("random" as const) },
		{ weight: 2, arbitrary: fc.constant("octet" as const) },
		{
			weight: 1,
			arbitrary: fc.constantFrom("drop" as const, "double" as const, "swap" as const, "cut" as const, "grow" as const),
		},
	),
});

interface Place {
	offset: number;
	width: number;
}

/** Scalars of a record: the head's, and those of its first and last rows. */
function scalarsOf(record: StreamRecord): Place[] {
	const def = recordByType(record.type);
	if (!def) return [];
	const list: Place[] = [];
	const add = (
		struct: { fields: readonly { offset: number; type: keyof typeof scalarBytes; length: number }[] },
		at: number,
	) => {
		for (const field of struct.fields) {
			for (let i = 0; i < Math.min(field.length, 4); i++) {
				const width = scalarBytes[field.type];
				list.push({ offset: at + field.offset + i * width, width });
			}
		}
	};
	if (def.head) {
		// Counts are where a reader goes astray: they come up more often than their number.
		for (let i = 0; i < 3; i++) add(def.head, 0);
	}
	for (const { part, offset, rowsOffset, rowCount, length } of placeParts(def, record.body)) {
		if (part.kind === "chunks") {
			for (let at = 0; at + 4 <= Math.min(length, 64); at += 4) list.push({ offset: offset + at, width: 4 });
			continue;
		}
		for (let at = offset; at < rowsOffset; at += structs.Run.size) add(structs.Run, at);
		for (const i of new Set([0, 1, rowCount - 1]))
			if (i >= 0 && i < rowCount) add(part.row, rowsOffset + i * part.row.size);
	}
	return list.filter(({ offset, width }) => offset + width <= record.body.length);
}

/** The stream with these changes, lengths, counts and checksums made anew; of `wanted` records alone where it is given. */
export function mutate(
	stream: Uint8Array,
	mutations: readonly Mutation[],
	wanted?: (record: StreamRecord) => boolean,
): Uint8Array {
	const parsed = parse(stream);
	for (const { section, record, scalar, corner, random, kind } of mutations) {
		const among = wanted ? parsed.sections.filter(({ records }) => records.some(wanted)) : parsed.sections;
		const list = among[section % among.length]?.records ?? [];
		const indices = list.flatMap((entry, i) => (!wanted || wanted(entry) ? [i] : []));
		if (indices.length === 0) continue;
		const index = indices[record % indices.length] as number;
		const one = list[index] as StreamRecord;
		if (kind === "drop") list.splice(index, 1);
		else if (kind === "double") list.splice(index, 0, one.clone());
		else if (kind === "swap") list.push(...list.splice(index, 1));
		else if (kind === "cut") one.body = one.body.slice(0, Math.max(0, one.body.length - 1 - (random % 24)));
		else if (kind === "grow") {
			const body = new Uint8Array(one.body.length + 1 + (random % 24));
			body.set(one.body);
			one.body = body;
		} else {
			const places = scalarsOf(one);
			const place = places[scalar % places.length];
			if (!place) continue;
			setScalar(one.view, place, kind, corner, random);
		}
	}
	return parsed.build();
}

function setScalar(view: DataView, { offset, width }: Place, kind: string, corner: number, random: number): void {
	if (kind === "octet") {
		view.setUint8(offset + (random % width), random >>> 24);
		return;
	}
	const small = 1 + (random % 3);
	if (width === 8) {
		const before = view.getBigUint64(offset, true);
		const value =
			kind === "corner"
				? (corners64[corner % corners64.length] as bigint)
				: kind === "step"
					? before + BigInt(small - 2) * 1n + (small === 2 ? 1n : 0n)
					: BigInt(random) << BigInt(random & 31);
		view.setBigUint64(offset, BigInt.asUintN(64, value), true);
		return;
	}
	const before =
		width === 4 ? view.getUint32(offset, true) : width === 2 ? view.getUint16(offset, true) : view.getUint8(offset);
	const value =
		kind === "corner"
			? (corners32[corner % corners32.length] as number)
			: kind === "step"
				? before + (small === 2 ? -1 : 1)
				: random;
	if (width === 4) view.setUint32(offset, value >>> 0, true);
	else if (width === 2) view.setUint16(offset, value & 0xffff, true);
	else view.setUint8(offset, value & 0xff);
}
