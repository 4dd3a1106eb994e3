/**
 * Images of guests as a stream: xl's file header, the libxl stream in it, the libxc image in that one, or one that begins
 * with either of the inner layers. Read a record at a time, checked on the way.
 *
 *     xl      header, configuration
 *     libxl   header, LIBXC_CONTEXT, (the libxc image), EMULATOR_*, ..., END
 *     libxc   headers, records, END
 *
 * A checkpointed stream alternates: libxc up to CHECKPOINT, libxl up to CHECKPOINT_END (with COLO up to CHECKPOINT_STATE),
 * libxc again. What follows the outermost END (a live migration ends with xl's own protocol) is a tail.
 */
import { XluError } from "../errors.ts";
import { hex } from "./common/findings.ts";
import type { Format, ReadOptions } from "./common/format.ts";
import { frameRecord, framingRules, type RecordHeader, readRecordBody, readRecordHeader } from "./common/framing.ts";
import { StreamReader } from "./common/reader.ts";
import type { EncodableItem, Fields, Layer, StreamItem } from "./common/record.ts";
import { drive, driveNow, type ItemSteps, look, type Steps, take } from "./common/steps.ts";
import { FieldReader, hexOf, viewOf } from "./common/values.ts";
import { bodyFields, bodyOctets } from "./libxc/bodies.ts";
import { libxcRules as C, LibxcChecks } from "./libxc/check.ts";
import * as libxc from "./libxc/layout.ts";
import { PageTotals, pageDataOctets, readPageData } from "./libxc/pageData.ts";
import { libxlBodyFields, libxlBodyOctets } from "./libxl/bodies.ts";
import { LibxlChecks, libxlRules as X } from "./libxl/check.ts";
import * as libxl from "./libxl/layout.ts";
import { xlRules as H } from "./xl/check.ts";
import * as xl from "./xl/layout.ts";

const text = (octets: Uint8Array) => Buffer.from(octets).toString("latin1");
/** Octets after the last END are handed out in pieces. */
const TAIL_PIECE_BYTES = 1 << 20;
const PROGRESS_BYTES = 1 << 24;

function isLibxc(head: Uint8Array): boolean {
	const start = head.subarray(0, libxc.LIBXC_MARKER_BYTES);
	return start.length === libxc.LIBXC_MARKER_BYTES && start.every((octet) => octet === 0xff);
}
const isLibxl = (head: Uint8Array) => text(head.subarray(0, libxl.LIBXL_IDENT.length)) === libxl.LIBXL_IDENT;
const isXl = (head: Uint8Array) => text(head.subarray(0, xl.XL_MAGIC.length)) === xl.XL_MAGIC;

/** Which layer a stream begins with, from its first octets (as many as xl's magic has); undefined if it is no image. */
export function outermostLayer(head: Uint8Array): "xl" | "libxl" | "libxc" | undefined {
	return isXl(head) ? "xl" : isLibxl(head) ? "libxl" : isLibxc(head) ? "libxc" : undefined;
}

/** An image that lies in memory, read at once: items and findings as `imageFormat.read` has them. */
export function readImageNow(octets: Uint8Array, options: ReadOptions): Generator<StreamItem> {
	const reader = StreamReader.over(octets);
	return driveNow(reader, new ImageReader(reader, options).read(reader.peekNow(xl.XL_MAGIC.length)));
}

async function* readImage(reader: StreamReader, options: ReadOptions): AsyncGenerator<StreamItem> {
	const head = await reader.peek(xl.XL_MAGIC.length);
	yield* drive(reader, new ImageReader(reader, options).read(head));
}

class ImageReader {
	readonly #reader: StreamReader;
	readonly #options: ReadOptions;
	#index = 0;
	/** CHECKPOINT_END has come, and no record of libxc since. */
	#isBetweenCheckpoints = false;
	#told = 0;

	constructor(reader: StreamReader, options: ReadOptions) {
		this.#reader = reader;
		this.#options = options;
	}

	/** @param head as many octets as `outermostLayer` looks at */
	*read(head: Uint8Array): ItemSteps<StreamItem> {
		const layer = outermostLayer(head);
		if (layer === "xl") yield* this.#xl();
		else if (layer === "libxl") yield* this.#libxl();
		else yield* this.#libxcAlone();
		yield* this.#tail();
	}

	#item(
		layer: Layer,
		kind: StreamItem["kind"],
		name: string,
		place: { type: number | null; offset: number; length: number },
		octets: Uint8Array | undefined,
		isLittle: boolean,
		fields: () => Fields,
	): StreamItem {
		const offset = this.#reader.offset;
		if (offset - this.#told >= PROGRESS_BYTES) {
			this.#told = offset;
			this.#options.onProgress?.(offset);
		}
		let made: Fields | undefined;
		return {
			index: this.#index++,
			layer,
			kind,
			name,
			...place,
			octets,
			isLittle,
			get fields() {
				made ??= fields();
				return made;
			},
		};
	}

	#header(layer: Layer, offset: number, octets: Uint8Array, isLittle: boolean, fields: Fields): StreamItem {
		const place = { type: null, offset, length: octets.length };
		return this.#item(layer, "header", "header", place, octets, isLittle, () => fields);
	}

	/** A header's octets, all of them, copied. */
	*#take(layer: Layer, lengthBytes: number): Steps<{ offset: number; octets: Uint8Array }> {
		const offset = this.#reader.offset;
		const octets = Uint8Array.from(yield* take(this.#reader, lengthBytes));
		if (octets.length < lengthBytes) {
			throw this.#options.findings.fatal(
				framingRules.truncated,
				{ layer, record: "header", offset },
				`${lengthBytes} octets`,
				`${octets.length} before the end`,
			);
		}
		return { offset, octets };
	}

	*#xl(): ItemSteps<StreamItem> {
		const { findings } = this.#options;
		const { offset, octets } = yield* this.#take("xl", xl.XL_HEADER_BYTES);
		const view = viewOf(octets);
		const place = (field: string, at: number) => ({
			layer: "xl" as const,
			record: "header",
			offset: offset + at,
			field,
		});
		const order = view.getUint32(32, true);
		const isLittle = order === xl.XL_BYTE_ORDER;
		if (!isLittle && order !== xl.XL_BYTE_ORDER_SWAPPED) {
			throw findings.fatal(H.byteOrder, place("byte order", 32), hex(xl.XL_BYTE_ORDER), hex(order));
		}
		const [mandatoryFlags, optionalFlags, length] = [36, 40, 44].map((at) => view.getUint32(at, isLittle)) as [
			number,
			number,
			number,
		];
		const known = xl.XL_FLAG_JSON | xl.XL_FLAG_STREAM_V2;
		if ((mandatoryFlags & ~known) !== 0) {
			throw findings.fatal(H.flags, place("mandatory flags", 36), `none but ${hex(known)}`, hex(mandatoryFlags));
		}
		if (length > xl.XL_CONFIG_LIMIT_BYTES) {
			const most = `at most ${xl.XL_CONFIG_LIMIT_BYTES}`;
			throw findings.fatal(H.length, place("optional data length", 44), most, `${length}`);
		}
		const data = (yield* this.#take("xl", length)).octets;
		const whole = new Uint8Array(Buffer.concat([octets, data]));
		const config = this.#config(data, isLittle, mandatoryFlags);
		yield this.#header("xl", offset, whole, isLittle, {
			mandatoryFlags,
			optionalFlags,
			...(config === undefined ? { optionalData: hexOf(data) } : { config }),
		});
		if ((mandatoryFlags & xl.XL_FLAG_STREAM_V2) === 0) {
			const rule = H.legacy;
			throw findings.fatal(rule, place("mandatory flags", 36), "bit 1: a libxl stream follows", hex(mandatoryFlags));
		}
		yield* this.#libxl();
	}

	/** The configuration's text, where the optional data are just that, as `xl save` writes them. */
	#config(data: Uint8Array, isLittle: boolean, flags: number): string | undefined {
		const { findings } = this.#options;
		const place = { layer: "xl" as const, record: "header", offset: xl.XL_HEADER_BYTES, field: "configuration" };
		if (data.length < 4) {
			if (data.length > 0) findings.report(H.length, place, "u32 length and configuration", `${data.length} octets`);
			return undefined;
		}
		const length = viewOf(data).getUint32(0, isLittle);
		if (length !== data.length - 4) {
			findings.report(H.length, place, `a length of ${data.length - 4}`, `${length}`);
			return undefined;
		}
		const inner = data.subarray(4);
		if (inner.at(-1) !== 0 || inner.indexOf(0) !== inner.length - 1) {
			findings.report(H.json, place, "text that ends in a NUL", "another");
			return undefined;
		}
		const config = Buffer.from(inner.subarray(0, -1)).toString("utf8");
		if ((flags & xl.XL_FLAG_JSON) !== 0) {
			try {
				JSON.parse(config);
			} catch (error) {
				findings.report(H.json, place, "JSON", (error as Error).message);
			}
		}
		return Buffer.compare(Buffer.from(config, "utf8"), inner.subarray(0, -1)) === 0 ? config : undefined;
	}

	*#libxl(): ItemSteps<StreamItem> {
		const { findings } = this.#options;
		const { offset, octets } = yield* this.#take("libxl", libxl.LIBXL_HEADER_BYTES);
		const place = (field: string, at: number) => ({
			layer: "libxl" as const,
			record: "header",
			offset: offset + at,
			field,
		});
		if (!isLibxl(octets)) {
			throw findings.fatal(X.ident, place("ident", 0), libxl.LIBXL_IDENT, JSON.stringify(text(octets.subarray(0, 8))));
		}
		const view = viewOf(octets);
		const version = view.getUint32(8);
		const options = view.getUint32(12);
		if (version !== libxl.LIBXL_VERSION) {
			throw findings.fatal(X.version, place("version", 8), `${libxl.LIBXL_VERSION}`, `${version}`);
		}
		const isLittle = (options & libxl.LIBXL_OPTION_BIG_ENDIAN) === 0;
		if (options >>> 2 !== 0) findings.report(X.options, place("options", 12), "bits 0 and 1 alone", hex(options));
		if (!isLittle) findings.report(X.byteOrder, place("options", 12), "bit 0 clear", hex(options));
		yield this.#header("libxl", offset, octets, isLittle, { version, options });
		const checks = new LibxlChecks(findings, options);
		let inner: LibxcLayer | undefined;
		for (;;) {
			const record = yield* readRecordHeader(this.#reader, "libxl", libxl.libxlRecordNames, isLittle, findings);
			const whole = yield* readRecordBody(this.#reader, record, isLittle, findings);
			checks.record(record, whole.body);
			yield this.#record(record, whole.octets, isLittle, () => libxlBodyFields(record.type, whole.body, isLittle));
			if (record.type === libxl.LIBXL_RECORD.END) return;
			if (record.type === libxl.LIBXL_RECORD.LIBXC_CONTEXT && inner === undefined) {
				inner = new LibxcLayer();
				yield* this.#libxcHeader(inner);
				yield* this.#libxcRecords(inner);
				checks.libxc(inner.ended);
			} else if (inner?.ended === "checkpoint" && (yield* this.#isBackInLibxc(record, isLittle))) {
				yield* this.#libxcRecords(inner);
				checks.libxc(inner.ended);
			}
		}
	}

	/** Whether libxc's records go on behind one of libxl's. */
	*#isBackInLibxc({ type }: RecordHeader, isLittle: boolean): Steps<boolean> {
		const { CHECKPOINT_END, CHECKPOINT_STATE } = libxl.LIBXL_RECORD;
		if (type === CHECKPOINT_END) this.#isBetweenCheckpoints = true;
		if (!this.#isBetweenCheckpoints || (type !== CHECKPOINT_END && type !== CHECKPOINT_STATE)) return false;
		const head = viewOf(yield* look(this.#reader, 8));
		const isState =
			head.byteLength === 8 && libxl.isCheckpointState(head.getUint32(0, isLittle), head.getUint32(4, isLittle));
		this.#isBetweenCheckpoints = isState;
		return !isState;
	}

	/** A libxc image without libxl around it: checkpoints follow each other. */
	*#libxcAlone(): ItemSteps<StreamItem> {
		const layer = new LibxcLayer();
		yield* this.#libxcHeader(layer);
		do yield* this.#libxcRecords(layer);
		while (layer.ended === "checkpoint");
	}

	*#libxcHeader(layer: LibxcLayer): ItemSteps<StreamItem> {
		const { findings } = this.#options;
		const { offset, octets } = yield* this.#take("libxc", libxc.LIBXC_HEADER_BYTES + libxc.LIBXC_DOMAIN_HEADER_BYTES);
		const place = (field: string, at: number) => ({
			layer: "libxc" as const,
			record: "header",
			offset: offset + at,
			field,
		});
		const view = viewOf(octets);
		if (!isLibxc(octets) || view.getUint32(8) !== libxc.LIBXC_ID) {
			const expected = "64 one bits and XENF (a legacy image has none)";
			throw findings.fatal(C.marker, place("marker", 0), expected, hexOf(octets.subarray(0, 12)));
		}
		const version = view.getUint32(12);
		if (!libxc.LIBXC_VERSIONS.includes(version)) {
			throw findings.fatal(C.version, place("version", 12), libxc.LIBXC_VERSIONS.join(" or "), `${version}`);
		}
		const options = view.getUint16(16);
		const isLittle = (options & libxc.LIBXC_OPTION_BIG_ENDIAN) === 0;
		if (options >>> 1 !== 0) findings.report(C.options, place("options", 16), "bit 0 alone", hex(options));
		if (octets.subarray(18, libxc.LIBXC_HEADER_BYTES).some((octet) => octet !== 0)) {
			findings.report(C.options, place("reserved", 18), "zeros", hexOf(octets.subarray(18, libxc.LIBXC_HEADER_BYTES)));
		}
		if (!isLittle) findings.report(C.byteOrder, place("options", 16), "bit 0 clear", hex(options));
		const domain = libxc.LIBXC_HEADER_BYTES;
		const type = view.getUint32(domain, isLittle);
		const pageShift = view.getUint16(domain + 4, isLittle);
		const reserved = view.getUint16(domain + 6, isLittle);
		const [xenMajor, xenMinor] = [8, 12].map((at) => view.getUint32(domain + at, isLittle)) as [number, number];
		if (type !== libxc.LIBXC_TYPE_X86_PV && type !== libxc.LIBXC_TYPE_X86_HVM) {
			findings.report(C.domainHeader, place("type", domain), "1 (x86 PV) or 2 (x86 HVM)", `${type}`);
		}
		if (pageShift !== libxc.PAGE_SHIFT) {
			findings.report(C.domainHeader, place("page_shift", domain + 4), `${libxc.PAGE_SHIFT}`, `${pageShift}`);
		}
		if (reserved !== 0) findings.report(C.options, place("reserved", domain + 6), "0", hex(reserved));
		if (xenMajor === 0) findings.report(C.xenVersion, place("xen_major", domain + 8), "a version of Xen", "0");
		yield this.#header("libxc", offset, octets, isLittle, { version, options, type, pageShift, xenMajor, xenMinor });
		layer.isLittle = isLittle;
		layer.isPv = type === libxc.LIBXC_TYPE_X86_PV;
		const guestType = layer.isPv ? "pv" : type === libxc.LIBXC_TYPE_X86_HVM ? "hvm" : undefined;
		layer.checks = new LibxcChecks(findings, version, guestType, isLittle);
	}

	/** Records up to and with the next CHECKPOINT or END. */
	*#libxcRecords(layer: LibxcLayer): ItemSteps<StreamItem> {
		const { findings, pages } = this.#options;
		const { isLittle, isPv, totals } = layer;
		const checks = layer.checks as LibxcChecks;
		for (;;) {
			const record = yield* readRecordHeader(this.#reader, "libxc", libxc.libxcRecordNames, isLittle, findings);
			const { type } = record;
			checks.begin(record);
			if (type === libxc.LIBXC_RECORD.VERIFY) totals.isVerifying = true;
			if (type === libxc.LIBXC_RECORD.PAGE_DATA) {
				const how = { isLittle, isPv, pages, endPfn: checks.endPfn };
				const found = yield* readPageData(this.#reader, record, how, totals, findings);
				const item = this.#record(record, found.octets, isLittle, () => found.fields);
				yield Object.assign(item, { pages: found.pages });
				continue;
			}
			const { octets, body } = yield* readRecordBody(this.#reader, record, isLittle, findings);
			checks.body(record, body);
			const isEnd = type === libxc.LIBXC_RECORD.END;
			const { guestWidth } = checks;
			yield this.#record(record, octets, isLittle, () => {
				const fields = bodyFields(type, body, isLittle, guestWidth);
				return isEnd && totals.records > 0 ? { ...fields, pages: totals.fields() } : fields;
			});
			if (isEnd || type === libxc.LIBXC_RECORD.CHECKPOINT) {
				layer.ended = isEnd ? "end" : "checkpoint";
				totals.isVerifying = false;
				return;
			}
		}
	}

	#record(record: RecordHeader, octets: Uint8Array | undefined, isLittle: boolean, fields: () => Fields): StreamItem {
		const { layer, type, name, offset, length } = record;
		return this.#item(layer, "record", name, { type, offset, length }, octets, isLittle, fields);
	}

	*#tail(): ItemSteps<StreamItem> {
		let isTold = false;
		for (;;) {
			const { offset } = this.#reader;
			const octets = Uint8Array.from(yield* take(this.#reader, TAIL_PIECE_BYTES));
			if (octets.length === 0) return;
			const layer = "xl";
			if (!isTold) {
				const place = { layer, record: "tail", offset } as const;
				this.#options.findings.report(framingRules.trailing, place, "the end of the stream", "octets after END");
			}
			isTold = true;
			const length = octets.length;
			yield this.#item(layer, "tail", "tail", { type: null, offset, length }, octets, true, () => ({
				data: hexOf(octets),
			}));
		}
	}
}

/** What is known of the libxc image while libxl's records come in between. */
class LibxcLayer {
	isLittle = true;
	isPv = false;
	checks: LibxcChecks | undefined;
	ended: "checkpoint" | "end" | undefined;
	readonly totals = new PageTotals();
}

// --- back to octets -------------------------------------------------------------------------------------------------

function headerOctets({ layer, isLittle }: EncodableItem, fields: FieldReader): Uint8Array {
	switch (layer) {
		case "xl":
			return xlHeaderOctets(fields, isLittle);
		case "libxl": {
			const octets = new Uint8Array(libxl.LIBXL_HEADER_BYTES);
			octets.set(Buffer.from(libxl.LIBXL_IDENT, "latin1"));
			const view = viewOf(octets);
			view.setUint32(8, Number(fields.number("version", 32)));
			view.setUint32(12, withOrder(Number(fields.number("options", 32)), isLittle));
			return octets;
		}
		default: {
			const octets = new Uint8Array(libxc.LIBXC_HEADER_BYTES + libxc.LIBXC_DOMAIN_HEADER_BYTES);
			octets.fill(0xff, 0, libxc.LIBXC_MARKER_BYTES);
			const view = viewOf(octets);
			view.setUint32(8, libxc.LIBXC_ID);
			view.setUint32(12, Number(fields.number("version", 32)));
			view.setUint16(16, withOrder(Number(fields.number("options", 16)), isLittle));
			const domain = libxc.LIBXC_HEADER_BYTES;
			view.setUint32(domain, Number(fields.number("type", 32)), isLittle);
			view.setUint16(domain + 4, Number(fields.number("pageShift", 16)), isLittle);
			view.setUint32(domain + 8, Number(fields.number("xenMajor", 32)), isLittle);
			view.setUint32(domain + 12, Number(fields.number("xenMinor", 32)), isLittle);
			return octets;
		}
	}
}

/** Bit 0 of both layers' options says the byte order. */
const withOrder = (options: number, isLittle: boolean) => (isLittle ? options & ~1 : options | 1) >>> 0;

function xlHeaderOctets(fields: FieldReader, isLittle: boolean): Uint8Array {
	let data: Uint8Array;
	if (fields.fields.config === undefined) data = fields.octets("optionalData", "");
	else {
		const config = Buffer.from(`${fields.text("config")}\0`, "utf8");
		data = new Uint8Array(4 + config.length);
		viewOf(data).setUint32(0, config.length, isLittle);
		data.set(config, 4);
	}
	const octets = new Uint8Array(xl.XL_HEADER_BYTES + data.length);
	octets.set(Buffer.from(xl.XL_MAGIC, "latin1"));
	const view = viewOf(octets);
	view.setUint32(32, xl.XL_BYTE_ORDER, isLittle);
	view.setUint32(36, Number(fields.number("mandatoryFlags", 32)), isLittle);
	view.setUint32(40, Number(fields.number("optionalFlags", 32)), isLittle);
	view.setUint32(44, data.length, isLittle);
	octets.set(data, xl.XL_HEADER_BYTES);
	return octets;
}

function encode(item: EncodableItem): Uint8Array {
	const { layer, kind, type, name, isLittle } = item;
	const fields = new FieldReader(item.fields, name);
	if (kind === "header") return headerOctets(item, fields);
	if (kind === "tail") return fields.octets("data");
	if (type === null) {
		throw new XluError("XLU_E_USAGE", `${name} has no type.`, { field: "type", expected: "a number", got: "null" });
	}
	const body =
		layer === "libxl"
			? libxlBodyOctets(type, fields, isLittle)
			: type === libxc.LIBXC_RECORD.PAGE_DATA && item.fields.pfns !== undefined
				? pageDataOctets(fields, isLittle)
				: bodyOctets(type, fields, isLittle);
	return frameRecord(type, body, isLittle);
}

/** xl, libxl and libxc, one within the other. */
export const imageFormat: Format = {
	name: "xl",
	layers: ["xl", "libxl", "libxc"],
	rules: [framingRules, H, X, C].flatMap((rules) => Object.values(rules)),
	headBytes: xl.XL_HEADER_BYTES,
	// An xl file without a libxl stream holds a legacy image.
	detect: (head) =>
		isLibxl(head) ||
		(isLibxc(head) && (head.length < 12 || text(head.subarray(8, 12)) === "XENF")) ||
		(isXl(head) &&
			(head.length < xl.XL_HEADER_BYTES || ((head[36] ?? 0) | (head[39] ?? 0)) & xl.XL_FLAG_STREAM_V2) !== 0),
	read: readImage,
	encode,
};
