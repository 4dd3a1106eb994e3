/**
 * An image in the other version, in one pass (libxc-migration-stream section 6.1): version 3 has STATIC_DATA_END in front of
 * memory and registers, and policies before it; version 2 has neither, its readers take the first P2M_FRAMES (PV) or PAGE_DATA
 * (HVM) for the end of the static data. Layers around the image, and all else in it, stay as they are.
 */
import type { Format } from "../common/format.ts";
import { frameRecord } from "../common/framing.ts";
import type { Fields, StreamItem } from "../common/record.ts";
import type { ByteSink } from "../common/sink.ts";
import { LIBXC_RECORD } from "./layout.ts";

const R = LIBXC_RECORD;

/** What a version 2 reader does not know. */
const VERSION_3_ONLY: ReadonlySet<number> = new Set([R.STATIC_DATA_END, R.X86_CPUID_POLICY, R.X86_MSR_POLICY]);
const STATIC: ReadonlySet<number> = new Set([R.X86_PV_INFO, R.X86_CPUID_POLICY, R.X86_MSR_POLICY, R.STATIC_DATA_END]);

export interface ConvertedImage {
	/** Records that the version cannot hold. */
	readonly dropped: { readonly what: string; readonly why: string }[];
	/** Version of the image that was read. */
	readonly from: number;
}

/** @param items of an image format, read with `pages: "keep"` */
export async function convertImage(
	format: Format,
	items: AsyncIterable<StreamItem>,
	version: 2 | 3,
	sink: ByteSink,
): Promise<ConvertedImage> {
	const dropped: { what: string; why: string }[] = [];
	let from: number = version;
	let isStaticEnded = false;
	for await (const item of items) {
		const octets = item.octets ?? format.encode(item);
		if (item.layer !== "libxc") {
			await sink.write(octets);
			continue;
		}
		if (item.kind === "header") {
			from = Number(item.fields.version);
			const fields: Fields = { ...item.fields, version };
			await sink.write(format.encode({ ...itemOf(item), fields }));
			continue;
		}
		const type = item.type as number;
		if (version === 2 && VERSION_3_ONLY.has(type)) {
			if (type !== R.STATIC_DATA_END) {
				const why = "version 2 has no such record: the guest gets the defaults of the host that restores it";
				dropped.push({ what: item.name, why });
			}
			continue;
		}
		// What comes first that is no static data ends these, and an optional record says nothing about it.
		if (version === 3 && !isStaticEnded && type < 0x80000000 && !STATIC.has(type)) {
			isStaticEnded = true;
			await sink.write(frameRecord(R.STATIC_DATA_END, new Uint8Array(0), item.isLittle));
		}
		if (type === R.STATIC_DATA_END) isStaticEnded = true;
		await sink.write(octets);
	}
	return { dropped, from };
}

function itemOf({ layer, kind, type, name, isLittle, fields }: StreamItem) {
	return { layer, kind, type, name, isLittle, fields };
}
