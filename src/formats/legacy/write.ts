/** The octets of a legacy image's items from their fields: the other way round of fields.ts. */
import { XluError } from "../../errors.ts";
import type { EncodableItem, Json } from "../common/record.ts";
import { FieldReader, invalid } from "../common/values.ts";
import { hvmContextOctets } from "../hvm/fields.ts";
import { FIRST_TYPE_WITHOUT_DATA, PAGE_BYTES } from "../libxc/layout.ts";
import { contextOctets, extendedOctets, sharedInfoOctets, xsaveOctets } from "../libxc/registers.ts";
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

/** Fields of an item; what does not fit is the caller's mistake, named by its field. */
class LegacyFields extends FieldReader {
	fail(field: string, expected: string): XluError {
		return invalid(this.at(field), expected, this.fields[field]);
	}

	value(field: string): Json | undefined {
		return this.fields[field];
	}

	u32(field: string): number {
		return Number(this.number(field, 32));
	}

	/** As `u32`; 0 where it is left out. */
	optionalU32(field: string): number {
		return Number(this.number(field, 32, 0));
	}

	u64(field: string): bigint {
		return this.number(field, 64);
	}

	width(): LegacyWidth {
		const { width } = this.fields;
		if (width !== 32 && width !== 64) throw this.fail("width", "32 or 64");
		return width;
	}

	/** A list of integers below `limit`. */
	integers(field: string, limit: bigint): bigint[] {
		return this.numbers(field, 64).map((value, i) => {
			if (value < limit) return value;
			throw invalid(this.at(`${field}[${i}]`), `an integer from 0 to ${limit - 1n}`, `${value}`);
		});
	}

	objects(field: string): LegacyFields[] {
		return this.rows(field).map((row, i) => new LegacyFields(row.fields, this.at(`${field}[${i}]`)));
	}

	hex(field: string): Buffer {
		return Buffer.from(this.octets(field));
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

function xlHeader(fields: LegacyFields): Buffer {
	const isText = fields.value("configuration") !== undefined;
	const data = isText ? configurationData(fields.text("configuration")) : fields.hex("optionalData");
	const numbers = u32(XL_BYTE_ORDER, fields.u32("mandatoryFlags"), fields.u32("optionalFlags"), data.length);
	return Buffer.concat([Buffer.from(XL_MAGIC, "latin1"), numbers, data], XL_HEADER_BYTES + data.length);
}

function header(fields: LegacyFields): Buffer {
	const width = fields.width();
	const size = fields.u64("p2mSize");
	if (size >= ulongLimit(width)) throw fields.fail("p2mSize", `at most ${width} bits`);
	return ulongs(width, [size]);
}

function extendedInfo(fields: LegacyFields): Buffer[] {
	const width = fields.width();
	const blocks = fields.objects("blocks").map((inner) => {
		const id = inner.text("id");
		if (!/^[\x20-\x7e]{4}$/.test(id)) throw inner.fail("id", "four characters");
		const data = inner.value("size") === undefined ? inner.hex("data") : u32(inner.u32("size"));
		return Buffer.concat([Buffer.from(id, "latin1"), ...counted(data)]);
	});
	return [Buffer.alloc(width / 8, 0xff), ...counted(Buffer.concat(blocks))];
}

function pages(fields: LegacyFields): Buffer[] {
	const width = fields.width();
	const list = fields.objects("pages");
	if (list.length === 0 || list.length > BATCH_LIMIT) throw fields.fail("pages", `1 to ${BATCH_LIMIT} pages`);
	let dataCount = 0;
	const entries = list.map((inner) => {
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

function vcpuInfo(fields: LegacyFields): Buffer[] {
	const maxId = fields.u32("maxId");
	if (maxId >= LEGACY_VCPU_LIMIT) throw fields.fail("maxId", `below ${LEGACY_VCPU_LIMIT}`);
	const bitmap = Buffer.alloc((Math.floor(maxId / 64) + 1) * 8);
	for (const id of fields.integers("online", BigInt(bitmap.length * 8))) {
		const at = Number(id) >> 3;
		bitmap[at] = (bitmap[at] ?? 0) | (1 << (Number(id) & 7));
	}
	return [u32(maxId), bitmap];
}

function unmapped(fields: LegacyFields): Buffer[] {
	const width = fields.width();
	const pfns = ulongs(width, fields.integers("pfns", ulongLimit(width)));
	return fields.value("count") === undefined ? [pfns] : [u32(fields.u32("count")), pfns];
}

function qemu(fields: LegacyFields): Buffer[] {
	const signature = fields.text("signature");
	const known = Object.hasOwn(qemuSignatures, signature) ? qemuSignatures[signature] : undefined;
	if (!known || signature.length !== QEMU_SIGNATURE_BYTES) {
		throw fields.fail("signature", Object.keys(qemuSignatures).join(", "));
	}
	const state = fields.hex("state");
	return [Buffer.from(signature, "latin1"), ...(known.hasLength ? counted(state) : [state])];
}

function xsave(fields: LegacyFields): Buffer[] {
	const area = Buffer.from(xsaveOctets(fields));
	return [u64(fields.u64("mask"), BigInt(area.length)), area];
}

type Writer = (fields: LegacyFields) => Buffer | Buffer[];

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
	["HVM_CONTEXT", (fields) => counted(Buffer.from(hvmContextOctets(fields)))],
	["QEMU", qemu],
	["UNMAPPED_PFNS", unmapped],
	["UNMAPPED_PFNS_CONTINUED", unmapped],
	["VCPU_BASIC", (fields) => Buffer.from(contextOctets(fields))],
	["VCPU_EXTENDED", (fields) => Buffer.from(extendedOctets(fields))],
	["VCPU_XSAVE", xsave],
	["SHARED_INFO", (fields) => Buffer.from(sharedInfoOctets(fields))],
	["tail", (fields) => fields.hex("data")],
]);

/**
 * The octets of an item of a legacy image.
 * @throws XLU_E_USAGE with `field` where the fields do not make an item
 */
export function encodeLegacy(item: EncodableItem): Uint8Array {
	const fields = new LegacyFields(item.fields, item.name);
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
