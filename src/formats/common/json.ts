/**
 * A stream as a JSON document, and back without loss. One item a line, so that a stream of any size passes in bounded memory
 * though the document as a whole is one object:
 *
 *     {"format":"libxc","items":[
 *     {"layer":"libxc","kind":"header","type":null,"name":"header","offset":0,"fields":{...}},
 *     ...
 *     ]}
 *
 * An item whose fields do not make its octets again (padding that is not zero, fields that nobody knows) has these beside
 * its fields, as `octets`, and they are what counts on the way back.
 */
import { XluError } from "../../errors.ts";
import type { Format } from "./format.ts";
import type { StreamReader } from "./reader.ts";
import type { EncodableItem, Fields, Layer, StreamItem } from "./record.ts";
import type { ByteSink } from "./sink.ts";
import { octetsOfHex } from "./values.ts";

/** Longest line: libxc's longest record (128 MiB) in hexadecimal, and some. */
const LINE_LIMIT = 300 << 20;

const encoder = new TextEncoder();

function isSame(format: Pick<Format, "encode">, item: StreamItem): boolean {
	try {
		return item.octets !== undefined && Buffer.compare(format.encode(item), item.octets) === 0;
	} catch (error) {
		if (error instanceof XluError) return false;
		throw error;
	}
}

/** Writes a stream's items, read with `pages: "keep"`, as a document. */
export async function writeJson(
	format: Pick<Format, "encode">,
	items: AsyncIterable<StreamItem>,
	sink: ByteSink,
): Promise<void> {
	const line = (text: string) => sink.write(encoder.encode(text));
	let separator = "\n";
	let isFirst = true;
	for await (const item of items) {
		const { layer, kind, type, name, offset, isLittle, fields } = item;
		if (item.octets === undefined) {
			throw new XluError("XLU_E_INTERNAL", `${layer} ${name} at ${offset} was read without its contents`);
		}
		if (isFirst) await line(`{"format":${JSON.stringify(layer)},"items":[`);
		isFirst = false;
		const octets = isSame(format, item) ? undefined : Buffer.from(item.octets).toString("hex");
		const endianness = isLittle ? undefined : "big";
		await line(`${separator}${JSON.stringify({ layer, kind, type, name, offset, endianness, fields, octets })}`);
		separator = ",\n";
	}
	if (!isFirst) await line("\n]}\n");
}

/** An item of a document: encodable, or as octets alone. */
export interface JsonItem extends EncodableItem {
	/** Counts instead of the fields, where it is there. */
	readonly octets?: Uint8Array;
	/** Where it stands in the document: line, and JSON path. */
	readonly line?: number;
	readonly path?: string;
}

function notADocument(line: number, expected: string, got: string, cause?: unknown, path?: string): XluError {
	const where = path === undefined ? `line ${line}` : `line ${line}, ${path}`;
	return new XluError("XLU_E_IMAGE", `This is no stream as JSON: ${where}: expected ${expected}, got ${got}.`, {
		line,
		...(path === undefined ? {} : { field: path }),
		expected,
		got,
		cause,
	});
}

async function* linesOf(reader: StreamReader): AsyncGenerator<string> {
	let parts: Buffer[] = [];
	let length = 0;
	let number = 1;
	const limit = () =>
		notADocument(number, `lines of at most ${LINE_LIMIT} octets, as convert writes them`, "a longer one");
	for (let chunk = await reader.some(1 << 20); chunk; chunk = await reader.some(1 << 20)) {
		let from = 0;
		for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
			parts.push(Buffer.from(chunk.subarray(from, end)));
			yield Buffer.concat(parts).toString("utf8");
			parts = [];
			length = 0;
			number++;
			from = end + 1;
		}
		length += chunk.length - from;
		if (length > LINE_LIMIT) throw limit();
		if (from < chunk.length) parts.push(Buffer.from(chunk.subarray(from)));
	}
	if (length > 0) yield Buffer.concat(parts).toString("utf8");
}

function parse(text: string, line: number): unknown {
	try {
		return JSON.parse(text);
	} catch (cause) {
		throw notADocument(line, "JSON", JSON.stringify(text.slice(0, 40)), cause);
	}
}

function itemOf(value: unknown, line: number, index: number): JsonItem {
	const path = `items[${index}]`;
	const wrong = (expected: string, got: unknown, name?: string) =>
		notADocument(
			line,
			expected,
			JSON.stringify(got)?.slice(0, 60) ?? "nothing",
			undefined,
			name === undefined ? path : `${path}.${name}`,
		);
	if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong("an item", value);
	const { layer, kind, type, name, endianness, fields, octets } = value as Record<string, unknown>;
	if (typeof layer !== "string") throw wrong("a string", layer, "layer");
	if (kind !== "header" && kind !== "record" && kind !== "tail") throw wrong("header, record or tail", kind, "kind");
	const isType = typeof type === "number" && Number.isInteger(type) && type >= 0 && type <= 0xffff_ffff;
	if (type !== null && !isType) throw wrong("a number of 32 bits, or null", type, "type");
	if (typeof name !== "string") throw wrong("a string", name, "name");
	if (endianness !== undefined && endianness !== "big" && endianness !== "little") {
		throw wrong("big or little", endianness, "endianness");
	}
	if (typeof fields !== "object" || fields === null || Array.isArray(fields))
		throw wrong("an object", fields, "fields");
	const item: JsonItem = {
		layer: layer as Layer,
		kind,
		type: type as number | null,
		name,
		isLittle: endianness !== "big",
		fields: fields as Fields,
		line,
		path,
	};
	if (octets === undefined) return item;
	const decoded = octetsOfHex(octets);
	if (!decoded) throw wrong("octets as hexadecimal digits", octets, "octets");
	return { ...item, octets: decoded };
}

/**
 * Reads a document back, an item at a time. A document that was formatted anew (by jq, for instance) is taken as well, up
 * to the length of one line.
 * @throws XLU_E_IMAGE with the line where it is no such document
 */
export async function* readJson(reader: StreamReader): AsyncGenerator<JsonItem, void> {
	const lines = linesOf(reader);
	const first = await lines.next();
	const head = first.done ? "" : first.value;
	if (!/^\{"format":"[a-z]+","items":\[$/.test(head)) {
		yield* readWhole(head, lines);
		return;
	}
	let number = 1;
	let index = 0;
	for await (const text of lines) {
		number++;
		if (text === "]}") {
			for await (const rest of lines) {
				if (rest.trim() !== "") throw notADocument(number + 1, "the end", JSON.stringify(rest.slice(0, 40)));
			}
			return;
		}
		if (text.trim() === "") continue;
		yield itemOf(parse(text.replace(/,\s*$/, ""), number), number, index++);
	}
	throw notADocument(number + 1, "]}", "the end");
}

async function* readWhole(head: string, lines: AsyncGenerator<string>): AsyncGenerator<JsonItem, void> {
	const all = [head];
	let length = head.length;
	for await (const text of lines) {
		length += text.length + 1;
		if (length > LINE_LIMIT) {
			throw notADocument(all.length, `one item a line, or at most ${LINE_LIMIT} octets in all`, "more");
		}
		all.push(text);
	}
	const document = parse(all.join("\n"), 1) as { items?: unknown } | null;
	const items = document?.items;
	if (!Array.isArray(items)) throw notADocument(1, "format and items, as convert writes them", "another object");
	for (const [index, value] of items.entries()) yield itemOf(value, 1, index);
}
