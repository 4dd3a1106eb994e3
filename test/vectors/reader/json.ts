/** The decoded stream as plain JSON: how, is docs/CONFORMANCE.md's. */
import { type EntryRun, PASS_NAMES, type Stream, type StreamRecord } from "./stream.ts";

const hex = (octets: Uint8Array): string => Array.from(octets, (o) => o.toString(16).padStart(2, "0")).join("");

/** u64 as decimal text, u8 arrays as hexadecimal text, all else as it is. */
function plain(value: unknown): unknown {
	if (typeof value === "bigint") return value.toString();
	if (value instanceof Uint8Array) return hex(value);
	if (Array.isArray(value)) return value.map(plain);
	if (typeof value === "object" && value !== null)
		return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, plain(v)]));
	return value;
}

const entryRun = ({ first, count, entry }: EntryRun) => ({
	first: first.toString(),
	count: Number(count),
	entry: `0x${entry.toString(16)}`,
});

function recordJson(record: StreamRecord) {
	const parts: Record<string, unknown> = {};
	for (const part of record.layout?.parts ?? []) {
		const value = record.parts[part.name];
		parts[part.name] = part.kind === "chunks" ? value.map(entryRun) : plain(value);
	}
	const { offset, bodyLength } = record;
	const type = `0x${record.type.toString(16).padStart(8, "0")}`;
	return { type, name: record.name, offset, bodyLength, head: plain(record.head), parts };
}

export function streamJson(stream: Stream) {
	return {
		version: stream.version,
		length: stream.length,
		sections: stream.sections.map((section) => ({
			pass: PASS_NAMES[section.pass],
			domid: section.domid,
			offset: section.record.offset,
			length: Number(section.record.head.length),
			hash: section.record.head.hash.toString(16).padStart(16, "0"),
			records: section.records.map(recordJson),
		})),
	};
}
