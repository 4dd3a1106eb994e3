/**
 * Conversions of streams, of Xen's own each in one pass and bounded memory:
 *
 *     json             every field by name, and back without loss (from JSON: leave the form out)
 *     little, big      the same stream in the other byte order
 *     libxc-v2, -v3    a libxc image, or a libxl or xl one with one inside, in that version; a legacy image as well
 *     xenstore-v1, -v2 a xenstore stream in that version
 *
 * A xenstore stream that is made for a reader is made from the whole of it, and held against that reader's rules.
 */
import type { Core } from "../core/load.ts";
import { XluError } from "../errors.ts";
import { Findings } from "../formats/common/findings.ts";
import type { ReadOptions } from "../formats/common/format.ts";
import { writeJson } from "../formats/common/json.ts";
import type { StreamReader } from "../formats/common/reader.ts";
import type { StreamItem } from "../formats/common/record.ts";
import type { ByteSink } from "../formats/common/sink.ts";
import { convertLegacy } from "../formats/legacy/index.ts";
import { convertImage } from "../formats/libxc/convert.ts";
import { convertXenstore } from "../formats/xenstore/convert.ts";
import { xenstoreFormat } from "../formats/xenstore/index.ts";
import type { XenstoreUse } from "../formats/xenstore/write.ts";
import { streamInOrder, xluEncoder, xluItems } from "../formats/xlu/stream.ts";
import { type OpenStream, readWhole } from "./open.ts";

export const forms = ["json", "little", "big", "libxc-v2", "libxc-v3", "xenstore-v1", "xenstore-v2"] as const;
export type Form = (typeof forms)[number];

export interface ConvertOptions
	extends Pick<ReadOptions, "width" | "guestType" | "dialect" | "daemon" | "descriptors" | "onProgress"> {
	/** Of a xenstore stream: whom it is for, where that is no daemon that starts from it. */
	readonly use?: Exclude<XenstoreUse, { kind: "live-update" }>;
	/** Of a live-update stream: what makes its checksums; by default a new core. */
	readonly core?: Core;
}

export interface Dropped {
	readonly what: string;
	readonly why: string;
}

export interface Converted {
	/** What was written. */
	readonly form: string;
	/** What the form cannot hold. */
	readonly dropped: readonly Dropped[];
}

export function cannot(stream: string, form: string, expected: string): XluError {
	return new XluError("XLU_E_USAGE", `A ${stream} stream cannot be converted to ${form}.`, {
		field: "--to",
		expected,
		got: form,
	});
}

/**
 * Converts an open stream.
 * @param form undefined: a stream as JSON becomes the stream again
 * @throws XLU_E_USAGE where the form does not suit the stream; what reading and writing throw
 */
export async function convertStream(
	{ reader, format, isJson }: OpenStream,
	sink: ByteSink,
	form?: Form,
	options: ConvertOptions = {},
): Promise<Converted> {
	const isMade = options.daemon !== undefined || options.use !== undefined;
	if (isMade && format !== xenstoreFormat) throw cannot(format?.name ?? "live-update", "xenstore", "a xenstore stream");
	if (form === undefined && isJson && !isMade) {
		for (let part = await reader.some(1 << 20); part; part = await reader.some(1 << 20)) await sink.write(part);
		return { form: format?.name ?? "xlu", dropped: [] };
	}
	if (format === xenstoreFormat && form !== "libxc-v2" && form !== "libxc-v3" && (form !== undefined || isMade)) {
		if (form !== "json") return await convertXenstore(reader, sink, form, options);
		if (isMade) throw cannot("xenstore", "json for a reader", "another form, then json");
	}
	if (form === undefined) throw cannot(format?.name ?? "xlu", "itself", forms.join(", "));
	if (!format) return await convertLiveUpdate(reader, sink, form, options);
	if (format.name === "legacy" && (form === "libxc-v2" || form === "libxc-v3")) {
		const { dropped, layers } = await convertLegacy(reader, sink, { ...options, to: form });
		return { form: `${layers}, ${form}`, dropped };
	}
	const items = format.read(reader, {
		findings: new Findings(),
		pages: "keep",
		...options,
	});
	// Neither a legacy image nor a bundle says its byte order, so that there is one alone.
	if (form !== "json" && !format.layers.includes("libxc")) throw cannot(format.name, form, "an image of a guest");
	if (form === "libxc-v2" || form === "libxc-v3") {
		const { dropped } = await convertImage(format, items, form === "libxc-v2" ? 2 : 3, sink);
		return { form, dropped };
	}
	if (form === "json") {
		await writeJson(format, items, sink);
		return { form, dropped: [] };
	}
	for await (const item of items) await sink.write(format.encode(inOrder(item, form === "little")));
	return { form: `${format.name}, ${form}-endian`, dropped: [] };
}

async function convertLiveUpdate(
	reader: StreamReader,
	sink: ByteSink,
	form: Form,
	{ onProgress, core }: ConvertOptions,
): Promise<Converted> {
	if (form !== "json" && form !== "little" && form !== "big") throw cannot("live-update", form, "json, little, big");
	const stream = await readWhole(reader, onProgress);
	if (form === "json") await writeJson(xluEncoder, xluItems(stream, core), sink);
	else for await (const octets of streamInOrder(stream, form === "little", core)) await sink.write(octets);
	return { form: form === "json" ? form : `xlu, ${form}-endian`, dropped: [] };
}

function inOrder(item: StreamItem, isLittle: boolean) {
	const { layer, kind, type, name, fields } = item;
	return { layer, kind, type, name, fields, isLittle };
}
