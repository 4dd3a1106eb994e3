/** A part of a legacy image as fields, from which write.ts makes its octets again. */
import type { Fields } from "../common/record.ts";
import { hexOf, wide as number } from "../common/values.ts";
import { hvmContextFields } from "../hvm/fields.ts";
import { pageTypeNames, VCPU_CONTEXT_BYTES } from "../libxc/layout.ts";
import { contextFields, extendedFields, sharedInfoFields, xsaveFields } from "../libxc/registers.ts";
import { MAGIC_PFN_NAMES, PFN_MASK, TYPE_SHIFT } from "./layout.ts";
import type { ExtendedBlock, LegacyPart, PagesBody } from "./parts.ts";
import { readToolstack } from "./toolstack.ts";
import { configurationData } from "./write.ts";

const numbers = (values: Iterable<bigint>): (number | string)[] => Array.from(values, number);

const typeName = (type: number): string => pageTypeNames[type] ?? `type ${type}`;

function blockFields({ id, data }: ExtendedBlock): Fields {
	if (id === "xcnt" && data.length === 4) return { id, size: Buffer.from(data).readUInt32LE(0) };
	return { id, data: hexOf(data) };
}

function pagesFields({ width, low, high, dataCount, zeroCount, contents, hashes }: PagesBody): Fields {
	const types: Record<string, number> = {};
	let first = Number.POSITIVE_INFINITY;
	let last = 0;
	for (const entry of low) {
		const name = typeName(entry >>> TYPE_SHIFT);
		types[name] = (types[name] ?? 0) + 1;
		first = Math.min(first, entry & PFN_MASK);
		last = Math.max(last, entry & PFN_MASK);
	}
	const summary = {
		width,
		count: low.length,
		types,
		firstPfn: first,
		lastPfn: last,
		withData: dataCount,
		zero: zeroCount,
	};
	if (!contents && !hashes) return summary;
	const pages = Array.from(low, (entry, i) => {
		const bits = high?.[i] ?? 0;
		return { pfn: entry & PFN_MASK, type: entry >>> TYPE_SHIFT, ...(bits === 0 ? {} : { high: bits }) };
	});
	return {
		...summary,
		pages,
		...(hashes ? { sha256: hashes } : {}),
		...(contents ? { contents: hexOf(contents) } : {}),
	};
}

/** xl's optional data as the text that it is, if that makes the same octets again: u32 length, text, NUL. */
function configurationOf(data: Uint8Array): string | undefined {
	const configuration = Buffer.from(data.subarray(4, -1)).toString("utf8");
	return Buffer.compare(configurationData(configuration), data) === 0 ? configuration : undefined;
}

/** The fields of a part. */
export function fieldsOf({ octets, body }: LegacyPart): Fields {
	switch (body.kind) {
		case "xlHeader": {
			const { mandatory, optional, data } = body;
			const configuration = configurationOf(data);
			const flags = { mandatoryFlags: mandatory, optionalFlags: optional };
			return configuration === undefined ? { ...flags, optionalData: hexOf(data) } : { ...flags, configuration };
		}
		case "header":
			return { width: body.width, guestType: body.guestType, p2mSize: number(body.p2mSize) };
		case "extendedInfo": {
			const guestWidth =
				body.blocks.findLast(({ id }) => id === "vcpu")?.data.length === VCPU_CONTEXT_BYTES[8] ? 64 : 32;
			return { width: body.width, guestWidth, blocks: body.blocks.map(blockFields) };
		}
		case "frames":
			return { width: body.width, frames: numbers(body.frames) };
		case "unmapped":
			return { width: body.width, count: body.count, pfns: numbers(body.frames) };
		case "pages":
			return pagesFields(body);
		case "vcpuInfo":
			return { maxId: body.maxId, online: body.online };
		case "param":
			return { param: body.index, value: number(body.value), ...(body.padding === 0 ? {} : { padding: body.padding }) };
		case "tsc": {
			const { mode, nsec, khz, incarnation } = body;
			return { mode, nsec: number(nsec), khz, incarnation };
		}
		case "toolstack": {
			const regions = readToolstack(body.data, body.width).regions.map(({ offset, start, size, name }) => ({
				offset: number(offset),
				start: number(start),
				size: number(size),
				name: Buffer.from(name).toString("latin1"),
			}));
			return { width: body.width, regions, data: hexOf(body.data) };
		}
		case "magicPfns":
			return Object.fromEntries(MAGIC_PFN_NAMES.map((name, i) => [name, number(body.pfns[i] ?? 0n)]));
		case "hvmContext":
			return hvmContextFields(body.data);
		case "qemu":
			return { signature: body.signature, state: hexOf(body.data) };
		case "vcpuBasic":
			return { vcpu: body.id, ...contextFields(body.data) };
		case "vcpuExtended":
			return { vcpu: body.id, ...extendedFields(body.data) };
		case "vcpuXsave":
			return { vcpu: body.id, mask: number(body.mask), ...xsaveFields(body.data) };
		case "sharedInfo":
			return sharedInfoFields(body.data, body.guestWidth);
		case "tail":
			return { data: hexOf(octets ?? new Uint8Array(0)) };
		case "end":
			return { pages: body.pages };
		case "marker":
		case "checkpoint":
			return {};
	}
}
