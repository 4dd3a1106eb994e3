/**
 * "after" as the schema says it: which pairs there are, whether a section's order keeps to them, random orders that do.
 * An account of its own: the core works with bit masks, this with names.
 */
import { type RecordDef, recordByName, recordByType, records } from "../../src/format/schema.ts";
import type { Restitched, StreamRecord } from "../support/restitch.ts";

export interface Pair {
	/** Stands behind `earlier`. */
	later: RecordDef;
	earlier: RecordDef;
	/** Both are a vCPU's: they depend on each other only where it is the same one. */
	isPerVcpu: boolean;
}

const isPerVcpu = (def: RecordDef): boolean => def.cardinality === "vcpu";

/** Every pair of the "after" column. */
export const pairs: readonly Pair[] = records.flatMap((later) =>
	later.after.map((name) => {
		const earlier = recordByName(name);
		return { later, earlier, isPerVcpu: isPerVcpu(later) && isPerVcpu(earlier) };
	}),
);

export function vcpuOf(record: StreamRecord): number | undefined {
	const def = recordByType(record.type);
	return def && isPerVcpu(def) ? Number(record.get("vcpuId")) : undefined;
}

/** Whether `later` has to stand behind `earlier`, both being in one section. */
export function mustFollow(later: StreamRecord, earlier: StreamRecord): boolean {
	const def = recordByType(later.type);
	if (!def?.after.includes(earlier.name)) return false;
	const [a, b] = [vcpuOf(later), vcpuOf(earlier)];
	return a === undefined || b === undefined || a === b;
}

/** Whether an order of records keeps to "after". */
export function keepsAfter(list: readonly StreamRecord[]): boolean {
	return list.every((record, i) => !list.slice(i + 1).some((behind) => mustFollow(record, behind)));
}

/** A random order that keeps to "after", by keys; slices of one table stay ascending. */
export function shuffle(list: readonly StreamRecord[], keys: readonly number[]): StreamRecord[] {
	const isSlice = (record: StreamRecord) => recordByType(record.type)?.cardinality === "slice";
	const left = list.map((record, i) => ({ record, i, key: keys[i % keys.length] as number }));
	const result: StreamRecord[] = [];
	while (left.length) {
		const ready = left.filter((one) =>
			left.every((other) => {
				if (other === one) return true;
				if (one.record.type === other.record.type) return !isSlice(one.record) || one.i < other.i;
				return !mustFollow(one.record, other.record);
			}),
		);
		const next = ready.sort((a, b) => a.key - b.key)[0];
		if (!next) throw new Error("the schema's order is circular");
		left.splice(left.indexOf(next), 1);
		result.push(next.record);
	}
	return result;
}

/** Entries in a chunk; octets of its head; where its payload's length stands. */
const CHUNK = { entries: 4096, head: 8, payloadAt: 4 } as const;

/** Cuts every slice of a stream into slices of one chunk each, which say the same. */
export function cutSlices(stream: Restitched): Restitched {
	for (const section of stream.sections) {
		section.records = section.records.flatMap((record) =>
			recordByType(record.type)?.cardinality === "slice" ? chunksOf(record) : [record],
		);
	}
	return stream;
}

function chunksOf(record: StreamRecord): StreamRecord[] {
	const def = recordByType(record.type) as RecordDef;
	const headBytes = def.head?.size as number;
	const first = def.head?.fields[0]?.name as string;
	const pieces: StreamRecord[] = [];
	let at = headBytes;
	for (let entry = 0; entry < Number(record.get("entryCount")); entry += CHUNK.entries) {
		const chunkBytes = CHUNK.head + record.view.getUint32(at + CHUNK.payloadAt, true);
		const piece = record.clone();
		piece.body = new Uint8Array(headBytes + chunkBytes);
		piece.body.set(record.body.subarray(0, headBytes));
		piece.body.set(record.body.subarray(at, at + chunkBytes), headBytes);
		piece.set(first, BigInt(record.get(first)) + BigInt(entry));
		piece.set("entryCount", Math.min(CHUNK.entries, Number(record.get("entryCount")) - entry));
		piece.set("chunkBytes", chunkBytes);
		pieces.push(piece);
		at += chunkBytes;
	}
	return pieces;
}
