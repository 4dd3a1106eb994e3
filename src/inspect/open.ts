/** A stream of any of the formats, opened: what it is, and where to read it. */
import { XluError } from "../errors.ts";
import type { Format } from "../formats/common/format.ts";
import { type JsonItem, readJson } from "../formats/common/json.ts";
import { StreamReader } from "../formats/common/reader.ts";
import { type ByteSource, openSource } from "../formats/common/source.ts";
import { formats, recognise } from "../formats/index.ts";

export interface OpenStream {
	readonly reader: StreamReader;
	/** Undefined for a live-update stream, which the core reads whole. */
	readonly format: Format | undefined;
	/** Whether it came as JSON; the reader gives the stream all the same. */
	readonly isJson: boolean;
}

/** The octets of an item. */
export function octetsOf(item: JsonItem): Uint8Array {
	if (item.octets) return item.octets;
	const format = formats.find(({ layers }) => layers.includes(item.layer));
	if (!format) {
		throw new XluError("XLU_E_IMAGE", `There is no layer ${item.layer}.`, {
			field: "layer",
			expected: formats.flatMap(({ layers }) => layers).join(", "),
			got: `${item.layer}`,
		});
	}
	return format.encode(item);
}

/** The stream that a JSON document describes. */
function jsonSource(document: StreamReader): ByteSource {
	const items = readJson(document);
	return {
		name: document.source.name,
		size: undefined,
		async read() {
			for (;;) {
				const { value, done } = await items.next();
				if (done) return undefined;
				const octets = octetsOf(value);
				if (octets.length > 0) return octets;
			}
		},
		close: () => document.close(),
	};
}

/**
 * Opens a file, a pipe, or standard input (`-`), and recognises what it is; a stream as JSON, and what gzip packed, become
 * the stream.
 * @param options.orElse what a stream that is not recognised is taken for
 * @throws XLU_E_IO if it cannot be read, XLU_E_IMAGE if it is none of the formats
 */
export async function openStream(path: string, options: { orElse?: "xlu" } = {}): Promise<OpenStream> {
	let reader = new StreamReader(await openSource(path));
	try {
		let format = await recognise(reader);
		const isJson = format === "json";
		if (isJson) {
			reader = new StreamReader(jsonSource(reader));
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
	const names = ["xlu", ...formats.flatMap(({ layers }) => layers)];
	return new XluError("XLU_E_IMAGE", `${reader.source.name} is no stream that is known here.`, {
		record: reader.source.name,
		offset: 0,
		expected: `a stream of ${names.join(", ")}, as it is, packed by gzip, or as JSON`,
		got: head.length === 0 ? "no octets" : Buffer.from(head).toString("hex"),
	});
}
