/** A xenstore stream in another version or byte order, record by record; or made anew for a reader, and held against its rules. */
import { XluError } from "../../errors.ts";
import { Findings, findingError } from "../common/findings.ts";
import type { ReadOptions } from "../common/format.ts";
import { StreamReader } from "../common/reader.ts";
import type { Fields, StreamItem } from "../common/record.ts";
import type { ByteSink } from "../common/sink.ts";
import type { ByteSource } from "../common/source.ts";
import { xenstoreFormat } from "./index.ts";
import { XENSTORE_RECORD as R } from "./layout.ts";
import { readXenstore } from "./model.ts";
import { readXenstoreItems } from "./read.ts";
import { type WrittenXenstore, writeXenstore, type XenstoreDropped, type XenstoreUse } from "./write.ts";

export interface ConvertXenstoreOptions
	extends Partial<Pick<ReadOptions, "dialect" | "daemon" | "descriptors" | "onProgress">> {
	readonly use?: Exclude<XenstoreUse, { kind: "live-update" }>;
}

export interface ConvertedXenstore {
	readonly form: string;
	readonly dropped: readonly XenstoreDropped[];
}

const versions: Readonly<Record<string, number>> = { "xenstore-v1": 1, "xenstore-v2": 2 };

/**
 * Converts a stream.
 * @param form a version (`xenstore-v1`), or a byte order (`little`, `big`); may be left out where a reader is named
 * @throws XLU_E_USAGE where form and reader do not go together; XLU_E_REFUSED, with the rule, where what the stream says
 *   cannot be made into one that the reader takes
 */
export async function convertXenstore(
	reader: StreamReader,
	sink: ByteSink,
	form: string | undefined,
	options: ConvertXenstoreOptions,
): Promise<ConvertedXenstore> {
	const { daemon, use, dialect, onProgress } = options;
	if (daemon && use) {
		throw new XluError("XLU_E_USAGE", "A stream is for a daemon that starts from it, or for another use.", {
			field: "--use",
			expected: "--for alone, or --use alone",
			got: "both",
		});
	}
	const version = versions[form ?? ""];
	const isLittle = form === "little" ? true : form === "big" ? false : undefined;
	const made: XenstoreUse | undefined = daemon ? { kind: "live-update", daemon } : use;
	// A draft's records are other ones: there is nothing to be rewritten in place.
	if (made === undefined && (dialect === undefined || version === undefined)) {
		return rewrite(reader, sink, form ?? "xenstore", options);
	}
	const model = await readXenstore(reader, { ...(dialect ? { dialect } : {}), ...(onProgress ? { onProgress } : {}) });
	const written = writeXenstore(model, {
		use: made ?? { kind: "documented" },
		...(version === undefined ? {} : { version }),
		...(isLittle === undefined ? {} : { isLittle }),
	});
	await writeChecked(written, made, sink, options);
	const whom = daemon ?? (use?.kind === "migration" ? `migration of domain ${use.domid}` : "as documented");
	return { form: `xenstore, version ${written.version}, ${daemon ? `for ${whom}` : whom}`, dropped: written.dropped };
}

/** What is written is read by the rules of its reader on the way: nothing is kept that these refuse. */
async function writeChecked(
	{ octets }: WrittenXenstore,
	use: XenstoreUse | undefined,
	sink: ByteSink,
	{ descriptors }: ConvertXenstoreOptions,
): Promise<void> {
	const findings = new Findings({ strict: use === undefined || use.kind === "documented" });
	const how = use?.kind === "live-update" ? { daemon: use.daemon, ...(descriptors ? { descriptors } : {}) } : {};
	const source = new StreamReader(sourceOfParts(octets));
	for await (const item of readXenstoreItems(source, { findings, pages: "keep", ...how })) {
		await sink.write(item.octets as Uint8Array);
	}
	const [first] = findings.errors;
	if (first) throw findingError(first);
}

const PIECE_BYTES = 1 << 18;

function sourceOfParts(parts: Iterable<Uint8Array>): ByteSource {
	const iterator = parts[Symbol.iterator]();
	return {
		name: "the stream that is written",
		size: undefined,
		async read() {
			const held: Uint8Array[] = [];
			for (let length = 0; length < PIECE_BYTES; ) {
				const { value, done } = iterator.next();
				if (done) break;
				held.push(value);
				length += value.length;
			}
			return held.length === 0 ? undefined : new Uint8Array(Buffer.concat(held));
		},
		async close() {},
	};
}

async function rewrite(
	reader: StreamReader,
	sink: ByteSink,
	form: string,
	options: ConvertXenstoreOptions,
): Promise<ConvertedXenstore> {
	const { dialect, onProgress } = options;
	const version = versions[form];
	const isLittle = form === "little" ? true : form === "big" ? false : undefined;
	const counts = new Map<string, number>();
	const how = { ...(dialect ? { dialect } : {}), ...(onProgress ? { onProgress } : {}) };
	for await (const item of readXenstoreItems(reader, { findings: new Findings(), pages: "keep", ...how })) {
		const inVersion = version === undefined ? item : toVersion(item, version, counts);
		await sink.write(xenstoreFormat.encode({ ...inVersion, isLittle: isLittle ?? item.isLittle }));
	}
	const dropped = [...counts].map(([what, count]) => ({
		what: `${what}${count > 1 ? `, ${count} times` : ""}`,
		why: "it came with version 2",
	}));
	return { form: version === undefined ? `xenstore, ${form}-endian` : `xenstore, version ${version}`, dropped };
}

type Encodable = Pick<StreamItem, "layer" | "kind" | "type" | "name" | "fields">;

function toVersion(item: StreamItem, version: number, counts: Map<string, number>): Encodable {
	const { layer, kind, type, name, fields } = item;
	const drop = (what: string) => counts.set(what, (counts.get(what) ?? 0) + 1);
	const as = (changed: Fields, newType = type): Encodable => ({ layer, kind, type: newType, name, fields: changed });
	if (kind === "header") return as({ ...fields, version });
	if (version !== 1 || fields.body !== undefined) return as(fields);
	if (type === R.WATCH_DATA_EXTENDED) {
		const { depth: _, pad: _pad, rest: _rest, ...rest } = fields;
		drop("depth of a watch, which now counts at any depth");
		return as(rest, R.WATCH_DATA);
	}
	if (type === R.CONNECTION_DATA && (fields.uniqueId !== undefined || fields.fields !== undefined)) {
		const { uniqueId, dataPadding: _, fields: _fields, ...rest } = fields;
		if (uniqueId !== undefined) drop("unique id of a connection");
		return as(rest);
	}
	if (type === R.DOMAIN_DATA && fields.features !== 0) {
		drop("features of a domain");
		return as({ ...fields, features: 0 });
	}
	return as(fields);
}
