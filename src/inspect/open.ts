/** A stream of any of the formats, opened: what it is, and where to read it. */
import type { Core } from "../core/load.ts";
import { XluError } from "../errors.ts";
import { IMAGE_HEADER_BYTES } from "../format/schema.ts";
import type { Format } from "../formats/common/format.ts";
import { type JsonItem, readJson } from "../formats/common/json.ts";
import { StreamReader } from "../formats/common/reader.ts";
import { type ByteSource, openSource } from "../formats/common/source.ts";
import { formats, recognise } from "../formats/index.ts";
import { streamOfItems } from "../formats/xlu/stream.ts";

export interface OpenStream {
	readonly reader: StreamReader;
	/** Undefined for a live-update stream, which the core reads whole. */
	readonly format: Format | undefined;
	/** Whether it came as JSON; the reader gives the stream all the same. */
	readonly isJson: boolean;
}

/**
 * The octets of an item.
 * @throws XLU_E_USAGE with the JSON path as `field` where its fields do not make it
 */
export function octetsOf(item: JsonItem): Uint8Array {
	if (item.octets) return item.octets;
	const format = formats.find(({ layers }) => layers.includes(item.layer));
	if (!format) {
		throw new XluError("XLU_E_IMAGE", `There is no layer ${item.layer}.`, {
			field: item.path === undefined ? "layer" : `${item.path}.layer`,
			expected: [...new Set(formats.flatMap(({ layers }) => layers))].join(", "),
			got: `${item.layer}`,
		});
	}
	return withPath(item, () => format.encode(item));
}

/** What one is asked for of an item; an error's field becomes a path in the document. */
function withPath<T>(item: JsonItem, make: () => T): T {
	try {
		return make();
	} catch (error) {
		throw inDocument(item, error);
	}
}

function inDocument({ path, line, name }: JsonItem, error: unknown): unknown {
	if (!(error instanceof XluError) || error.field === undefined || path === undefined) return error;
	const { code, expected, got } = error;
	const inner = error.field.startsWith(`${name}.`) ? error.field.slice(name.length + 1) : error.field;
	const field = `${path}.fields.${inner}`;
	const where = line === undefined ? "" : ` (line ${line})`;
	return new XluError(code, `${name}${where}: ${field}: expected ${expected}, got ${got}.`, {
		...(line === undefined ? {} : { line }),
		field,
		expected: `${expected}`,
		got: `${got}`,
		cause: error,
	});
}

async function* streamOf(items: AsyncGenerator<JsonItem, void>, core?: Core): AsyncGenerator<Uint8Array, void> {
	const first = await items.next();
	if (first.done) return;
	async function* all(): AsyncGenerator<JsonItem, void> {
		yield first.value as JsonItem;
		yield* items;
	}
	// A live-update stream's framing follows from its records; of the others an item is all that it takes.
	if (first.value.layer === "xlu") {
		yield* streamOfItems(all(), inDocument, core);
		return;
	}
	for await (const item of all()) yield octetsOf(item);
}

/** The stream that a JSON document describes. */
function jsonSource(document: StreamReader, core?: Core): ByteSource {
	const stream = streamOf(readJson(document), core);
	return {
		name: document.source.name,
		size: undefined,
		async read() {
			for (;;) {
				const { value, done } = await stream.next();
				if (done) return undefined;
				if (value.length > 0) return value;
			}
		},
		close: () => document.close(),
	};
}

/** Most octets of a live-update stream: the core's memory has not more. */
const STREAM_LIMIT_BYTES = 2 ** 32;

/**
 * All that is left of what `reader` reads: a live-update stream is looked at as a whole.
 * @param onProgress called now and then with the octets read so far
 * @throws XLU_E_SPACE if it is longer than the core's memory
 */
export async function readWhole(reader: StreamReader, onProgress?: (offset: number) => void): Promise<Uint8Array> {
	let whole = new Uint8Array(Math.min(Math.max(reader.source.size ?? 0, 1 << 16), STREAM_LIMIT_BYTES));
	let length = 0;
	for (let part = await reader.some(1 << 24); part; part = await reader.some(1 << 24)) {
		if (length + part.length > STREAM_LIMIT_BYTES) {
			throw new XluError("XLU_E_SPACE", `${reader.source.name} is longer than any stream that the core can read.`, {
				record: reader.source.name,
				expected: `at most ${STREAM_LIMIT_BYTES} octets`,
				got: "more",
			});
		}
		if (length + part.length > whole.length) {
			const larger = new Uint8Array(Math.max(2 * whole.length, length + part.length));
			larger.set(whole.subarray(0, length));
			whole = larger;
		}
		whole.set(part, length);
		length += part.length;
		onProgress?.(length);
	}
	return whole.subarray(0, length);
}

/**
 * A live-update stream, whole. Of what is none its first octets, which are all that its reader looks at: it may never end.
 * @throws XLU_E_SPACE, see `readWhole`
 */
export async function readLiveUpdate(reader: StreamReader, onProgress?: (offset: number) => void): Promise<Uint8Array> {
	const isKnown = (await recognise(reader)) === "xlu";
	return isKnown ? await readWhole(reader, onProgress) : (await reader.peek(IMAGE_HEADER_BYTES)).slice();
}

export interface OpenOptions {
	/** What a stream that is not recognised is taken for. */
	readonly orElse?: "xlu";
	/** What makes the checksums of a live-update stream that comes as JSON; by default a new core. */
	readonly core?: Core;
}

/**
 * Opens a file, a pipe, or standard input (`-`), and recognises what it is; a stream as JSON, and what gzip packed, become
 * the stream.
 * @throws XLU_E_IO if it cannot be read, XLU_E_IMAGE if it is none of the formats
 */
export async function openStream(path: string, options: OpenOptions = {}): Promise<OpenStream> {
	return await openReader(new StreamReader(await openSource(path)), options);
}

/**
 * As `openStream`, of what a reader reads; where it is nothing that is known the reader is closed.
 * @throws XLU_E_IMAGE if it is none of the formats
 */
export async function openReader(from: StreamReader, options: OpenOptions = {}): Promise<OpenStream> {
	let reader = from;
	try {
		let format = await recognise(reader);
		const isJson = format === "json";
		if (isJson) {
			reader = new StreamReader(jsonSource(reader, options.core));
			format = await recognise(reader);
		}
		if (format === "xlu") return { reader, format: undefined, isJson };
		if (format !== undefined && format !== "json") return { reader, format, isJson };
		if (options.orElse === "xlu") return { reader, format: undefined, isJson };
		throw await unknown(reader);
	} catch (error) {
		await reader.close();
		throw error;
	}
}

async function unknown(reader: StreamReader): Promise<XluError> {
	const head = await reader.peek(16);
	const names = [...new Set(["xlu", ...formats.flatMap(({ layers }) => layers)])];
	return new XluError("XLU_E_IMAGE", `${reader.source.name} is no stream that is known here.`, {
		record: reader.source.name,
		offset: 0,
		expected: `a stream of ${names.join(", ")}, as it is, packed by gzip, or as JSON`,
		got: head.length === 0 ? "no octets" : Buffer.from(head).toString("hex"),
	});
}
