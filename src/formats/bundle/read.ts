/**
 * Reads a bundle: its records, and the streams that stand behind some of them, each item under its own layer. What makes up
 * the bundle is gathered on the way, since its parts are checked against each other: a bundle is held in memory, the
 * guest's memory is not in it.
 *
 * Unhappy paths: framing that ends throws (XLU_E_IMAGE, XLU_E_VERSION); everything else is a finding, and reading goes on.
 */
import { createHash, type Hash } from "node:crypto";
import { XluError } from "../../errors.ts";
import { alignUp, type Row, readStruct, type Struct } from "../../format/layout.ts";
import { fieldsOf, namedRow, walkRecords } from "../../inspect/stream.ts";
import { type Findings, hex } from "../common/findings.ts";
import type { ReadOptions } from "../common/format.ts";
import type { StreamReader } from "../common/reader.ts";
import type { Fields, Json, Layer, StreamItem } from "../common/record.ts";
import { viewOf } from "../common/values.ts";
import {
	bundleStructs as B,
	BUNDLE_HEADER_BYTES,
	BUNDLE_ID,
	BUNDLE_MARKER,
	BUNDLE_VERSION,
	type BundleRecordDef,
	bundleRecords,
	MAX_BODY_BYTES,
	MAX_PAGES,
	MAX_PFNS,
	RECORD_ALIGNMENT,
	RECORD_HEADER_BYTES,
	TYPE_OPTIONAL,
} from "./layout.ts";
import { libxcItems, type NestedItem } from "./parts.ts";
import { bundleRules as rules } from "./rules.ts";
import { xenstoreItems } from "./storeItems.ts";

const LAYER = "bundle";
const PAGE_BYTES = 4096;
/** Most octets of a stream within a bundle: what one window of the core can hold beside the image made of it. */
const MAX_STREAM_BYTES = 2 ** 31 - 1;
/** Entries that `fields` shows of a record. */
const SHOWN_ROWS = 16;

/** A stream within the bundle. */
export interface BundleStream {
	/** Octets from the start of the bundle. */
	readonly offset: number;
	readonly octets: Uint8Array;
}

/** What a bundle holds; a part is undefined where the bundle does not have it. */
export interface Bundle {
	info: Row | undefined;
	/** Text of the source's version of Xen. */
	versionText: string;
	stream: BundleStream | undefined;
	pfns: { startPfn: number; mfns: Float64Array } | undefined;
	/** MFN where it comes from -> 4096 octets. */
	readonly pages: Map<number, Uint8Array>;
	libxc: BundleStream | undefined;
	xenstore: BundleStream | undefined;
	/** Octets from the start of the bundle to the first record of each name. */
	readonly offsets: Map<string, number>;
}

export const emptyBundle = (): Bundle => ({
	info: undefined,
	versionText: "",
	stream: undefined,
	pfns: undefined,
	pages: new Map(),
	libxc: undefined,
	xenstore: undefined,
	offsets: new Map(),
});

type Place = Pick<StreamItem, "layer" | "kind" | "type" | "name" | "offset" | "length">;

/** An item whose fields are made when they are asked for. */
export class BundleItem implements StreamItem {
	readonly index: number;
	readonly layer: Layer;
	readonly kind: StreamItem["kind"];
	readonly type: number | null;
	readonly name: string;
	readonly offset: number;
	readonly length: number;
	readonly isLittle = true;
	readonly octets: Uint8Array;
	readonly #decode: () => Fields;
	#fields: Fields | undefined;

	constructor(index: number, place: Place, octets: Uint8Array, decode: () => Fields) {
		this.index = index;
		this.layer = place.layer;
		this.kind = place.kind;
		this.type = place.type;
		this.name = place.name;
		this.offset = place.offset;
		this.length = place.length;
		this.octets = octets;
		this.#decode = decode;
	}

	get fields(): Fields {
		this.#fields ??= this.#decode();
		return this.#fields;
	}
}

const isZero = (octets: Uint8Array): boolean => octets.every((octet) => octet === 0);

/** Whether the struct's reserved fields are zero. */
function reservedIsZero(struct: Struct, octets: Uint8Array): boolean {
	return struct.fields.every(
		({ reserved, offset, length }) => !reserved || isZero(octets.subarray(offset, offset + length)),
	);
}

export function isBundle(head: Uint8Array): boolean {
	if (head.length < 12) return false;
	const view = viewOf(head);
	return view.getBigUint64(0) === BUNDLE_MARKER && view.getUint32(8) === BUNDLE_ID;
}

class BundleReader {
	readonly #reader: StreamReader;
	readonly #options: ReadOptions;
	readonly #findings: Findings;
	readonly bundle = emptyBundle();
	#hash: Hash = createHash("sha256");
	#index = 0;
	/** Number of the record in `bundleRecords` that came last. */
	#last = -1;
	#lastMfn = -1;

	constructor(reader: StreamReader, options: ReadOptions) {
		this.#reader = reader;
		this.#options = options;
		this.#findings = options.findings;
	}

	/** Octets that must be there, hashed. */
	async #take(lengthBytes: number, record: string, offset: number): Promise<Uint8Array> {
		const octets = (await this.#reader.take(lengthBytes)).slice();
		if (octets.length < lengthBytes) {
			const expected = `${lengthBytes} octets`;
			throw this.#findings.fatal(
				offset === 0 && record === "header" ? rules.header : rules.framing,
				{ layer: LAYER, record, offset },
				expected,
				`${octets.length} before the end`,
			);
		}
		return octets;
	}

	async *items(): AsyncGenerator<StreamItem, Bundle> {
		yield await this.#header();
		for (;;) {
			const offset = this.#reader.offset;
			if (await this.#reader.isAtEnd()) {
				throw this.#findings.fatal(
					rules.framing,
					{ layer: LAYER, record: "END", offset },
					"END",
					"the end of the bundle",
				);
			}
			const head = await this.#take(RECORD_HEADER_BYTES, "record header", offset);
			const { type, length } = readStruct(B.Record, viewOf(head), 0) as { type: number; length: number };
			const def = bundleRecords.find((candidate) => candidate.type === type);
			const name = def?.name ?? (type >= TYPE_OPTIONAL ? `optional ${hex(type)}` : `unknown ${hex(type)}`);
			const place: Place = { layer: LAYER, kind: "record", type, name, offset, length };
			if (!def && type < TYPE_OPTIONAL) {
				throw this.#findings.fatal(rules.unknown, { layer: LAYER, record: name, offset }, "a known record", hex(type));
			}
			if (length > MAX_BODY_BYTES) {
				const field = "length";
				throw this.#findings.fatal(
					rules.body,
					{ layer: LAYER, record: name, offset, field },
					`at most ${MAX_BODY_BYTES}`,
					`${length}`,
				);
			}
			const padded = await this.#take(alignUp(length, RECORD_ALIGNMENT), name, offset);
			const body = padded.subarray(0, length);
			this.#needZero(padded.subarray(length), name, offset);
			const octets = new Uint8Array(Buffer.concat([head, padded]));
			if (name === "END") this.#digest(body, offset);
			this.#hash.update(octets);
			if (!def) {
				yield new BundleItem(this.#index++, place, octets, () => ({ body: Buffer.from(body).toString("hex") }));
				continue;
			}
			this.#order(def, offset);
			const isWhole = this.#body(def, body, offset);
			yield new BundleItem(this.#index++, place, octets, () => bodyFields(def, body));
			if (def.stream && isWhole) yield* this.#stream(def, Number(readStruct(def.head, viewOf(body), 0).length));
			this.#options.onProgress?.(this.#reader.offset);
			if (name === "END") break;
		}
		yield* this.#tail();
		for (const { name, cardinality } of bundleRecords) {
			if (cardinality === "one" && !this.bundle.offsets.has(name)) {
				this.#findings.report(rules.order, { layer: LAYER, record: name, offset: 0 }, "one", "none");
			}
		}
		return this.bundle;
	}

	async #header(): Promise<StreamItem> {
		const octets = await this.#take(BUNDLE_HEADER_BYTES, "header", 0);
		const place = { layer: LAYER, record: "header", offset: 0 } as const;
		if (!isBundle(octets)) {
			const got = Buffer.from(octets.subarray(0, 12)).toString("hex");
			throw this.#findings.fatal(rules.header, place, "64 one bits and XLUB", got);
		}
		const row = readStruct(B.Header, viewOf(octets), 0, false);
		if (row.version !== BUNDLE_VERSION) {
			throw this.#findings.fatal(rules.version, { ...place, field: "version" }, `${BUNDLE_VERSION}`, `${row.version}`);
		}
		if (row.options !== 0 || !reservedIsZero(B.Header, octets)) {
			const got = Buffer.from(octets.subarray(16)).toString("hex");
			throw this.#findings.fatal(rules.version, { ...place, field: "options" }, "zeros", got);
		}
		this.#hash.update(octets);
		const item: Place = { layer: LAYER, kind: "header", type: null, name: "header", offset: 0, length: octets.length };
		return new BundleItem(this.#index++, item, octets, () => ({ version: Number(row.version), endianness: "little" }));
	}

	#needZero(padding: Uint8Array, record: string, offset: number): void {
		if (isZero(padding)) return;
		const got = Buffer.from(padding).toString("hex");
		this.#findings.report(rules.framing, { layer: LAYER, record, offset, field: "padding" }, "zeros", got);
	}

	#digest(body: Uint8Array, offset: number): void {
		const found = this.#hash.digest("hex");
		this.#hash = createHash("sha256");
		const written = Buffer.from(body).toString("hex");
		if (found === written || body.length !== B.End.size) return;
		this.#findings.report(rules.digest, { layer: LAYER, record: "END", offset, field: "sha256" }, written, found);
	}

	#order(def: BundleRecordDef, offset: number): void {
		const at = bundleRecords.indexOf(def);
		const isAgain = at === this.#last && def.cardinality === "some";
		if (at < this.#last || (at === this.#last && !isAgain)) {
			const expected = `nothing of what stands before ${bundleRecords[this.#last]?.name}, or that is there already`;
			this.#findings.report(rules.order, { layer: LAYER, record: def.name, offset }, expected, def.name);
		}
		this.#last = Math.max(at, this.#last);
		if (!this.bundle.offsets.has(def.name)) this.bundle.offsets.set(def.name, offset);
	}

	/** What a body says goes into the bundle. Returns whether its head is there. */
	#body(def: BundleRecordDef, body: Uint8Array, offset: number): boolean {
		const wrong = (field: string, expected: string, got: string): void =>
			this.#findings.report(rules.body, { layer: LAYER, record: def.name, offset, field }, expected, got);
		if (body.length < def.head.size) {
			wrong("length", `at least ${def.head.size}`, `${body.length}`);
			return false;
		}
		if (!reservedIsZero(def.head, body)) wrong("reserved", "zeros", "other octets");
		const head = readStruct(def.head, viewOf(body), 0);
		const count = Number(head.count ?? 0);
		const rest = body.subarray(def.head.size);
		if (def.name === "INFO") {
			this.bundle.info ??= head;
			this.bundle.versionText = Buffer.from(rest).toString("utf8");
			return true;
		}
		const entryBytes = def.name === "PFNS" ? B.Mfn.size : def.name === "PAGES" ? B.Mfn.size + PAGE_BYTES : 0;
		const most = def.name === "PFNS" ? MAX_PFNS : MAX_PAGES;
		if (count > most) wrong("count", `at most ${most}`, `${count}`);
		else if (rest.length !== count * entryBytes) {
			wrong("length", `${def.head.size + count * entryBytes}`, `${body.length}`);
		} else if (def.name === "PFNS") this.#pfns(Number(head.firstPfn), count, rest, offset);
		else if (def.name === "PAGES") this.#pages(count, rest, offset);
		return true;
	}

	#pfns(first: number, count: number, rest: Uint8Array, offset: number): void {
		const view = viewOf(rest);
		const mfns = Float64Array.from({ length: count }, (_, i) => {
			const mfn = view.getBigUint64(8 * i, true);
			return mfn >= 1n << 52n ? -1 : Number(mfn);
		});
		const known = this.bundle.pfns;
		const place = { layer: LAYER, record: "PFNS", offset, field: "firstPfn" } as const;
		if (count === 0 || first + count > 2 ** 32) {
			this.#findings.report(rules.pfns, place, "one PFN at least, all below 2^32", `${count} from ${hex(first)} on`);
			return;
		}
		if (!known) {
			this.bundle.pfns = { startPfn: first, mfns };
			return;
		}
		const next = known.startPfn + known.mfns.length;
		if (first !== next) {
			this.#findings.report(rules.pfns, place, hex(next), hex(first));
			return;
		}
		const all = new Float64Array(known.mfns.length + count);
		all.set(known.mfns);
		all.set(mfns, known.mfns.length);
		this.bundle.pfns = { startPfn: known.startPfn, mfns: all };
	}

	#pages(count: number, rest: Uint8Array, offset: number): void {
		const view = viewOf(rest);
		const pages = count * B.Mfn.size;
		for (let i = 0; i < count; i++) {
			const mfn = Number(view.getBigUint64(8 * i, true));
			if (mfn <= this.#lastMfn) {
				const place = { layer: LAYER, record: "PAGES", offset, field: `mfn[${i}]` } as const;
				this.#findings.report(rules.pages, place, `above ${hex(this.#lastMfn)}`, hex(mfn));
			}
			this.#lastMfn = mfn;
			this.bundle.pages.set(mfn, rest.subarray(pages + i * PAGE_BYTES, pages + (i + 1) * PAGE_BYTES));
		}
	}

	/** The stream that stands behind a record. */
	async *#stream(def: BundleRecordDef, length: number): AsyncGenerator<StreamItem> {
		const offset = this.#reader.offset;
		if (length > MAX_STREAM_BYTES) {
			const place = { layer: LAYER, record: def.name, offset, field: "length" } as const;
			throw this.#findings.fatal(rules.body, place, `at most ${MAX_STREAM_BYTES}`, `${length}`);
		}
		const padded = await this.#take(alignUp(length, RECORD_ALIGNMENT), def.name, offset);
		this.#hash.update(padded);
		this.#needZero(padded.subarray(length), def.name, offset);
		const octets = padded.subarray(0, length);
		const found = { offset, octets };
		if (def.stream === "xlu") {
			this.bundle.stream ??= found;
			yield* this.#xlu(found);
		} else if (def.stream === "libxc") {
			this.bundle.libxc ??= found;
			yield* this.#nested(libxcItems(octets), offset);
		} else {
			this.bundle.xenstore ??= found;
			yield* this.#xenstore(found);
		}
	}

	*#nested(items: Iterable<NestedItem>, offset: number): Generator<StreamItem> {
		for (const item of items) {
			yield new BundleItem(
				this.#index++,
				{ ...placeOf(item), offset: offset + item.offset },
				item.octets,
				() => item.fields,
			);
		}
	}

	/** The framing's end is found by whoever opens the stream; what comes before it is shown. */
	*#xlu({ offset, octets }: BundleStream): Generator<StreamItem> {
		if (octets.length < BUNDLE_HEADER_BYTES) return;
		const place = { layer: "xlu", kind: "header", type: null, name: "header", offset, length: 24 } as const;
		yield new BundleItem(this.#index++, place, octets.subarray(0, 24), () => ({
			version: viewOf(octets).getUint32(12),
			endianness: octets[17] === 1 ? "big" : "little",
		}));
		try {
			for (const { type, def, offset: at, body, domid, pass } of walkRecords(octets)) {
				const name = def?.name ?? `unknown ${hex(type)}`;
				const item = { layer: "xlu", kind: "record", type, name, offset: offset + at, length: body.length } as const;
				const end = at + RECORD_HEADER_BYTES + alignUp(body.length, RECORD_ALIGNMENT);
				yield new BundleItem(this.#index++, item, octets.subarray(at, end), () => ({
					...(pass === undefined ? {} : { section: pass, domid: domid ?? null }),
					...((def ? fieldsOf(def, body, SHOWN_ROWS) : {}) as Fields),
				}));
			}
		} catch (error) {
			if (!(error instanceof XluError)) throw error;
		}
	}

	*#xenstore(part: BundleStream): Generator<StreamItem> {
		try {
			yield* this.#nested(xenstoreItems(part.octets), part.offset);
		} catch (error) {
			if (!(error instanceof XluError) || error.code === "XLU_E_INTERNAL") throw error;
			const place = { layer: LAYER, record: "XENSTORE", offset: part.offset + (error.offset ?? 0) } as const;
			this.#findings.report(rules.store, place, error.expected ?? "a stream", error.got ?? error.message);
		}
	}

	async *#tail(): AsyncGenerator<StreamItem> {
		const offset = this.#reader.offset;
		let length = 0;
		for (let more = await this.#reader.some(1 << 16); more; more = await this.#reader.some(1 << 16)) {
			length += more.length;
			const octets = more.slice();
			const place = { layer: LAYER, kind: "tail", type: null, name: "tail", length: octets.length } as const;
			yield new BundleItem(this.#index++, { ...place, offset: this.#reader.offset - octets.length }, octets, () => ({
				octets: Buffer.from(octets).toString("hex"),
			}));
		}
		if (length > 0) {
			this.#findings.report(rules.trailing, { layer: LAYER, record: "tail", offset }, "the end", `${length} octets`);
		}
	}
}

const placeOf = ({ layer, kind, type, name, offset, length }: NestedItem): Place => ({
	layer,
	kind,
	type,
	name,
	offset,
	length,
});

function bodyFields(def: BundleRecordDef, body: Uint8Array): Fields {
	if (body.length < def.head.size) return { body: Buffer.from(body).toString("hex") };
	const head = namedRow(def.head, readStruct(def.head, viewOf(body), 0)) as Record<string, Json>;
	if (def.name === "INFO") return { ...head, version: Buffer.from(body.subarray(def.head.size)).toString("utf8") };
	if (def.name === "END") return { sha256: Buffer.from(body).toString("hex") };
	if (def.name !== "PFNS" && def.name !== "PAGES") return head;
	const count = Math.min(Number(head.count), SHOWN_ROWS, Math.floor((body.length - def.head.size) / B.Mfn.size));
	const view = viewOf(body);
	const mfns = Array.from({ length: count }, (_, i) => hex(view.getBigUint64(def.head.size + 8 * i, true)));
	return { ...head, mfns };
}

/** Reads a bundle; its items, and in the end all of it. */
export function readBundleItems(reader: StreamReader, options: ReadOptions): AsyncGenerator<StreamItem, Bundle> {
	return new BundleReader(reader, options).items();
}
