/**
 * Reads the image of a guest that lies in memory: a file of `xl save` (xl header, libxl stream, libxc image), or
 * one that begins with either of the inner formats, gzip-compressed or not.
 */
import { gunzipSync } from "node:zlib";
import { XluError } from "../../errors.ts";
import { hex, ImageCursor, type ImageRecord } from "../cursor.ts";
import { isLibxcImage, type LibxcImage, readLibxc } from "../libxc/read.ts";
import { type EmulatorRecord, isLibxlImage, readLibxl } from "../libxl/read.ts";
import {
	XL_BYTE_ORDER,
	XL_BYTE_ORDER_SWAPPED,
	XL_CONFIG_LIMIT_BYTES,
	XL_FLAG_JSON,
	XL_FLAG_STREAM_V2,
	XL_HEADER_BYTES,
	XL_MAGIC,
} from "./layout.ts";

/** The domain's configuration as `xl save` keeps it (libxl_domain_config in JSON). */
export interface GuestConfig {
	/** c_info.name */
	name?: string;
	/** c_info.uuid, lower case. */
	uuid?: string;
	/** c_info.type; only here PVH and HVM can be told apart. */
	type?: "pv" | "pvh" | "hvm";
	/** b_info.max_vcpus */
	maxVcpus?: number;
	/** b_info.max_memkb */
	maxMemKb?: number;
	/** All of it, as parsed. */
	json: Record<string, unknown>;
}

/** All that the image of one guest says, as plain facts. Uint8Arrays are views into the image, nothing is copied. */
export interface GuestImage extends LibxcImage {
	/** Which format the file begins with. */
	outermost: "xl" | "libxl" | "libxc";
	/** undefined without an xl header, or if that one's configuration is no JSON (older tools). */
	config: GuestConfig | undefined;
	/** Every header-and-records layer's records in the order of the image; the xl header is one. */
	records: ImageRecord[];
	/** libxl's EMULATOR_* records. */
	emulators: EmulatorRecord[];
	/** Octets of the unpacked image. */
	lengthBytes: number;
	/** Octets after the last END: a captured live migration ends with xl's own protocol. */
	tailBytes: number;
}

export interface ReadImageOptions {
	/** Name for messages. */
	file?: string;
	/** Upper bound of the unpacked image in octets; default just below 4 GiB, the most that a Buffer holds. */
	maxBytes?: number;
}

const DEFAULT_MAX_BYTES = 2 ** 32 - 4096;
const PLACE = "xl header";

function imageError(message: string, expected: string, got: string, cause?: unknown): XluError {
	return new XluError("XLU_E_IMAGE", `${message}: expected ${expected}, got ${got}`, {
		offset: 0,
		expected,
		got,
		cause,
	});
}

/** Unpacks what begins with gzip's magic; anything else is returned as it is. */
function unpack(data: Uint8Array, maxBytes: number): Uint8Array {
	if (data[0] !== 0x1f || data[1] !== 0x8b) {
		return data;
	}
	try {
		return gunzipSync(data, { maxOutputLength: maxBytes });
	} catch (cause) {
		const code = (cause as { code?: unknown }).code;
		if (code === "ERR_BUFFER_TOO_LARGE") {
			throw imageError("gzip", `at most ${maxBytes} octets unpacked`, "more", cause);
		}
		throw imageError("gzip", "a whole compressed file", cause instanceof Error ? cause.message : "damage", cause);
	}
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
	typeof value === "object" && value !== null && !Array.isArray(value);

const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
const count = (value: unknown): number | undefined =>
	typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;

function parseConfig(json: string, fail: (expected: string, got: string, cause?: unknown) => XluError): GuestConfig {
	let parsed: unknown;
	try {
		parsed = JSON.parse(json);
	} catch (cause) {
		throw fail("JSON", cause instanceof Error ? cause.message : "something else", cause);
	}
	if (!isRecord(parsed)) {
		throw fail("a JSON object", "another value");
	}
	const create = isRecord(parsed.c_info) ? parsed.c_info : {};
	const build = isRecord(parsed.b_info) ? parsed.b_info : {};
	const type = create.type;
	return {
		name: text(create.name),
		uuid: text(create.uuid)?.toLowerCase(),
		type: type === "pv" || type === "pvh" || type === "hvm" ? type : undefined,
		maxVcpus: count(build.max_vcpus),
		maxMemKb: count(build.max_memkb),
		json: parsed,
	};
}

function magicAt(cursor: ImageCursor): string {
	return Buffer.from(cursor.bytes(cursor.offset, XL_MAGIC.length)).toString("latin1");
}

/** Reads the xl header and moves the cursor behind the optional data. */
function readXlHeader(cursor: ImageCursor): GuestConfig | undefined {
	cursor.need(XL_HEADER_BYTES, PLACE);
	const byteOrder = cursor.u32(32);
	if (byteOrder !== XL_BYTE_ORDER) {
		const got = byteOrder === XL_BYTE_ORDER_SWAPPED ? "big-endian, which is not supported" : hex(byteOrder);
		throw cursor.error(PLACE, 32, "byte order", hex(XL_BYTE_ORDER), got);
	}
	const mandatory = cursor.u32(36);
	if ((mandatory & ~(XL_FLAG_JSON | XL_FLAG_STREAM_V2)) !== 0) {
		throw cursor.error(PLACE, 36, "mandatory flags", "none but bits 0 and 1", hex(mandatory));
	}
	if ((mandatory & XL_FLAG_STREAM_V2) === 0) {
		throw cursor.error(PLACE, 36, "mandatory flags", "bit 1, a libxl stream (no legacy image)", hex(mandatory));
	}
	const optionalBytes = cursor.u32(44);
	cursor.note({ layer: "xl", type: 0, name: "header", offset: 0, length: XL_HEADER_BYTES - 8 + optionalBytes });
	cursor.offset = XL_HEADER_BYTES;
	cursor.need(optionalBytes, "xl optional data");
	cursor.offset = XL_HEADER_BYTES + optionalBytes;
	if (optionalBytes === 0) {
		return undefined;
	}
	if (optionalBytes < 4) {
		throw cursor.error(PLACE, 44, "optional data length", "0 or at least 4", String(optionalBytes));
	}
	const configBytes = cursor.u32(XL_HEADER_BYTES);
	const held = Math.min(optionalBytes - 4, XL_CONFIG_LIMIT_BYTES);
	if (configBytes > held) {
		throw cursor.error(PLACE, XL_HEADER_BYTES, "configuration length", `at most ${held}`, String(configBytes));
	}
	if ((mandatory & XL_FLAG_JSON) === 0) {
		return undefined;
	}
	const octets = cursor.bytes(XL_HEADER_BYTES + 4, configBytes);
	const end = octets.indexOf(0);
	const json = Buffer.from(end < 0 ? octets : octets.subarray(0, end)).toString("utf8");
	return parseConfig(json, (expected, got, cause) =>
		cursor.error(PLACE, XL_HEADER_BYTES + 4, "configuration", expected, got, cause),
	);
}

/**
 * Reads the image of a guest.
 *
 * @param data the file's octets, possibly gzip-compressed
 * @throws XluError XLU_E_IMAGE with offset, expected and got for every fault of the framing: the file is cut off, no
 * known magic, a length that the file does not hold, a record twice or out of place or missing, big-endian.
 */
export function readGuestImage(data: Uint8Array, options: ReadImageOptions = {}): GuestImage {
	const cursor = new ImageCursor(unpack(data, options.maxBytes ?? DEFAULT_MAX_BYTES));
	let config: GuestConfig | undefined;
	let outermost: GuestImage["outermost"] = "libxl";
	let libxc: LibxcImage;
	let emulators: EmulatorRecord[] = [];
	if (magicAt(cursor) === XL_MAGIC) {
		outermost = "xl";
		config = readXlHeader(cursor);
		({ libxc, emulators } = readLibxl(cursor));
	} else if (isLibxlImage(cursor)) {
		({ libxc, emulators } = readLibxl(cursor));
	} else if (isLibxcImage(cursor)) {
		outermost = "libxc";
		libxc = readLibxc(cursor);
	} else {
		const start = Buffer.from(cursor.bytes(0, 8)).toString("hex");
		const expected = "the magic of an xl, libxl or libxc image";
		throw cursor.error(options.file ?? "image", 0, "magic", expected, start === "" ? "an empty file" : start);
	}
	return {
		...libxc,
		outermost,
		config,
		emulators,
		records: cursor.records,
		lengthBytes: cursor.data.byteLength,
		tailBytes: cursor.remaining,
	};
}
