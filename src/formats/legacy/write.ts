/** The octets of a legacy image's items from their fields: the other way round of fields.ts. */
import { XluError } from "../../errors.ts";
import type { EncodableItem, Fields, Json } from "../common/record.ts";
import { FIRST_TYPE_WITHOUT_DATA, PAGE_BYTES } from "../libxc/layout.ts";
import { XL_BYTE_ORDER, XL_HEADER_BYTES, XL_MAGIC } from "../xl/layout.ts";
import {
	BATCH_LIMIT,
	LEGACY_CHUNK,
	LEGACY_VCPU_LIMIT,
	type LegacyWidth,
	legacyParams,
	MAGIC_PFN_NAMES,
	PFN_MASK,
	QEMU_SIGNATURE_BYTES,
	qemuSignatures,
	TYPE_SHIFT,
} from "./layout.ts";

/** Reads fields of an item; what does not fit is the caller's mistake, named by its field. */
class FieldReader {
	readonly #name: string;
	readonly #fields: Fields;

	constructor(name: string, fields: Fields) {
		this.#name = name;
		this.#fields = fields;
	}

	fail(field: string, expected: string): XluError {
		const value = this.#fields[field];
		const got = value === undefined ? "nothing" : (JSON.stringify(value)?.slice(0, 60) ?? "nothing");
		return new XluError("XLU_E_USAGE", `legacy ${this.#name}: ${field}: expected ${expected}, got ${got}`, {
			record: `legacy ${this.#name}`,
			field,
			expected,
			got,
		});
	}

	value(field: string): Json | undefined {
		return this.#fields[field];
	}

	#integer(value: Json | undefined, limit: bigint, field: string): bigint {
		const isNumber = typeof value === "number" && Number.isSafeInteger(value);
		const isDigits = typeof value === "string" && /^\d{1,20}$/.test(value);
		const integer = isNumber || isDigits ? BigInt(value as number | string) : -1n;
		if (integer < 0n || integer >= limit) throw this.fail(field, `an integer from 0 to ${limit - 1n}`);
		return integer;
	}

	u32(field: string): number {
		return Number(this.#integer(this.#fields[field], 1n << 32n, field));
	}

	/** As `u32`; 0 where it is left out. */
	optionalU32(field: string): number {
		return this.#fields[field] === undefined ? 0 : this.u32(field);
	}

	u64(field: string): bigint {
		return this.#integer(this.#fields[field], 1n << 64n, field);
	}

	width(): LegacyWidth {
		const width = this.#fields.width;
		if (width !== 32 && width !== 64) throw this.fail("width", "32 or 64");
		return width;
	}

	integers(field: string, limit: bigint): bigint[] {
		const values = this.#fields[field];
		if (!Array.isArray(values)) throw this.fail(field, "a list of integers");
		return values.map((value: Json) => this.#integer(value, limit, field));
	}

	objects(field: string): { readonly [key: string]: Json | undefined }[] {
		const values = this.#fields[field];
		const isObject = (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value);
		if (!Array.isArray(values) || !values.every(isObject)) throw this.fail(field, "a list of objects");
		return values as { readonly [key: string]: Json | undefined }[];
	}

	hex(field: string): Buffer {
		const value = this.#fields[field];
		// No pattern with a repeated group: it overflows the stack on a chunk of 1024 pages.
		if (typeof value !== "string" || value.length % 2 !== 0 || /[^0-9a-f]/i.test(value)) {
			throw this.fail(field, "hexadecimal octets");
		}
		return Buffer.from(value, "hex");
	}

	text(field: string): string {
		const value = this.#fields[field];
		if (typeof value !== "string") throw this.fail(field, "a text");
		return value;
	}
}

const u32 = (...values: number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer);
const u64 = (...values: bigint[]): Buffer => Buffer.from(BigUint64Array.from(values).buffer);
const i32 = (value: number): Buffer => Buffer.from(Int32Array.of(value).buffer);
const ulongs = (width: LegacyWidth, values: readonly bigint[]): Buffer =>
	Buffer.from((width === 64 ? BigUint64Array.from(values) : Uint32Array.from(values, Number)).buffer);
const ulongLimit = (width: LegacyWidth): bigint => 1n << BigInt(width);
const counted = (data: Buffer): Buffer[] => [u32(data.length), data];

/** xl's optional data: the length of the configuration with its NUL, the configuration. */
export function configurationData(configuration: string): Buffer {
	return Buffer.concat(counted(Buffer.from(`${configuration}\0`, "utf8")));
}

function xlHeader(fields: FieldReader): Buffer {
	const isText = fields.value("configuration") !== undefined;
	const data = isText ? configurationData(fields.text("configuration")) : fields.hex("optionalData");
	const numbers = u32(XL_BYTE_ORDER, fields.u32("mandatoryFlags"), fields.u32("optionalFlags"), data.length);
	return Buffer.concat([Buffer.from(XL_MAGIC, "latin1"), numbers, data], XL_HEADER_BYTES + data.length);
}

function header(fields: FieldReader): Buffer {
	const width = fields.width();
	const size = fields.u64("p2mSize");
	if (size >= ulongLimit(width)) throw fields.fail("p2mSize", `at most ${width} bits`);
	return ulongs(width, [size]);
}

function extendedInfo(fields: FieldReader): Buffer[] {
	const width = fields.width();
	const blocks = fields.objects("blocks").map((block) => {
		const inner = new FieldReader("EXTENDED_INFO block", block);
		const id = inner.text("id");
		if (!/^[\x20-\x7e]{4}$/.test(id)) throw inner.fail("id", "four characters");
		const data = block.size === undefined ? inner.hex("data") : u32(inner.u32("size"));
		return Buffer.concat([Buffer.from(id, "latin1"), ...counted(data)]);
	});
	return [Buffer.alloc(width / 8, 0xff), ...counted(Buffer.concat(blocks))];
}

function pages(fields: FieldReader): Buffer[] {
	const width = fields.width();
	const list = fields.objects("pages");
	if (list.length === 0 || list.length > BATCH_LIMIT) throw fields.fail("pages", `1 to ${BATCH_LIMIT} pages`);
	let dataCount = 0;
	const entries = list.map((page) => {
		const inner = new FieldReader("PAGES page", page);
		const pfn = inner.u32("pfn");
		const type = inner.u32("type");
		const high = inner.optionalU32("high");
		if (pfn > PFN_MASK) throw inner.fail("pfn", `at most ${PFN_MASK}`);
		if (type > 15) throw inner.fail("type", "0 to 15");
		if (high !== 0 && width === 32) throw inner.fail("high", "0 with a 32-bit toolstack");
		if (type < FIRST_TYPE_WITHOUT_DATA) dataCount++;
		return (BigInt(high) << 32n) | BigInt(((type << TYPE_SHIFT) | pfn) >>> 0);
	});
	const contents = fields.hex("contents");
	if (contents.length !== dataCount * PAGE_BYTES) throw fields.fail("contents", `${dataCount} pages`);
	return [i32(list.length), ulongs(width, entries), contents];
}

function vcpuInfo(fields: FieldReader): Buffer[] {
	const maxId = fields.u32("maxId");
	if (maxId >= LEGACY_VCPU_LIMIT) throw fields.fail("maxId", `below ${LEGACY_VCPU_LIMIT}`);
	const bitmap = Buffer.alloc((Math.floor(maxId / 64) + 1) * 8);
	for (const id of fields.integers("online", BigInt(bitmap.length * 8))) {
		const at = Number(id) >> 3;
		bitmap[at] = (bitmap[at] ?? 0) | (1 << (Number(id) & 7));
	}
	return [u32(maxId), bitmap];
}

function unmapped(fields: FieldReader): Buffer[] {
	const width = fields.width();
	const pfns = ulongs(width, fields.integers("pfns", ulongLimit(width)));
	return fields.value("count") === undefined ? [pfns] : [u32(fields.u32("count")), pfns];
}

function qemu(fields: FieldReader): Buffer[] {
	const signature = fields.text("signature");
	const known = Object.hasOwn(qemuSignatures, signature) ? qemuSignatures[signature] : undefined;
	if (!known || signature.length !== QEMU_SIGNATURE_BYTES) {
		throw fields.fail("signature", Object.keys(qemuSignatures).join(", "));
	}
	const state = fields.hex("state");
	return [Buffer.from(signature, "latin1"), ...(known.hasLength ? counted(state) : [state])];
}

function xsave(fields: FieldReader): Buffer[] {
	const area = fields.hex("area");
	return [u64(fields.u64("mask"), BigInt(area.length)), area];
}

type Writer = (fields: FieldReader) => Buffer | Buffer[];

const chunk =
	(type: number, write: Writer = () => []): Writer =>
	(fields) => [i32(type), ...[write(fields)].flat()];

const param: Writer = (fields) => [u32(fields.optionalU32("padding")), u64(fields.u64("value"))];

const tsc: Writer = (fields) => [
	u32(fields.u32("mode")),
	u64(fields.u64("nsec")),
	u32(fields.u32("khz"), fields.u32("incarnation")),
];

const chunkWriters = Object.entries(LEGACY_CHUNK).flatMap(([name, type]): [string, Writer][] => {
	if (legacyParams.has(type)) return [[name, chunk(type, param)]];
	switch (type) {
		case LEGACY_CHUNK.VCPU_INFO:
			return [[name, chunk(type, vcpuInfo)]];
		case LEGACY_CHUNK.TSC_INFO:
			return [[name, chunk(type, tsc)]];
		case LEGACY_CHUNK.TOOLSTACK:
			return [[name, chunk(type, (fields) => counted(fields.hex("data")))]];
		case LEGACY_CHUNK.ENABLE_VERIFY_MODE:
		case LEGACY_CHUNK.LAST_CHECKPOINT:
			return [[name, chunk(type)]];
		default:
			// Tmem and compressed pages: they are not read, so there is nothing to write.
			return [];
	}
});

const writers: ReadonlyMap<string, Writer> = new Map<string, Writer>([
	["XL_HEADER", xlHeader],
	["header", header],
	["EXTENDED_INFO", extendedInfo],
	["P2M_FRAMES", (fields) => ulongs(fields.width(), fields.integers("frames", ulongLimit(fields.width())))],
	["PAGES", pages],
	["END", chunk(0)],
	...chunkWriters,
	["MAGIC_PFNS", (fields) => u64(...MAGIC_PFN_NAMES.map((name) => fields.u64(name)))],
	["HVM_CONTEXT", (fields) => counted(fields.hex("context"))],
	["QEMU", qemu],
	["UNMAPPED_PFNS", unmapped],
	["UNMAPPED_PFNS_CONTINUED", unmapped],
	["VCPU_BASIC", (fields) => fields.hex("context")],
	["VCPU_EXTENDED", (fields) => fields.hex("context")],
	["VCPU_XSAVE", xsave],
	["SHARED_INFO", (fields) => fields.hex("sharedInfo")],
	["tail", (fields) => fields.hex("data")],
]);

/**
 * The octets of an item of a legacy image.
 * @throws XLU_E_USAGE with `field` where the fields do not make an item
 */
export function encodeLegacy(item: EncodableItem): Uint8Array {
	const fields = new FieldReader(item.name, item.fields);
	const write = writers.get(item.name);
	if (!write) {
		throw new XluError("XLU_E_USAGE", `A legacy image has no item ${JSON.stringify(item.name)}.`, {
			field: "name",
			expected: [...writers.keys()].join(", "),
			got: item.name,
		});
	}
	return new Uint8Array(Buffer.concat([write(fields)].flat()));
}
