/** Small images of guests, made of the captured ones: everything but most of the pages, so that mutations are many a second. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { XluError } from "../../src/errors.ts";
import { Findings, type FormatFinding } from "../../src/formats/common/findings.ts";
import { StreamReader } from "../../src/formats/common/reader.ts";
import type { PageContents, StreamItem } from "../../src/formats/common/record.ts";
import { sourceOf } from "../../src/formats/common/source.ts";
import { imageFormat } from "../../src/formats/image.ts";
import type { Random } from "../../src/random.ts";
import { root } from "./core.ts";

export const imageNames = ["pv", "pvh", "hvm"] as const;
export type ImageName = (typeof imageNames)[number];

export function capturedImage(name: ImageName): Uint8Array {
	return new Uint8Array(gunzipSync(readFileSync(join(root, `test/fixtures/xen-4.17/${name}/${name}1.xlsave.gz`))));
}

export async function itemsOf(
	octets: Uint8Array,
	options: { pages?: PageContents; findings?: Findings; chunkBytes?: number } = {},
): Promise<StreamItem[]> {
	const { pages = "keep", findings = new Findings(), chunkBytes } = options;
	const reader = new StreamReader(sourceOf(octets, "image", chunkBytes));
	const items: StreamItem[] = [];
	for await (const item of imageFormat.read(reader, { findings, pages })) items.push(item);
	return items;
}

/** What is wrong with an image: findings that refuse it, whether or not they end the reading. */
export async function errorsOf(octets: Uint8Array, options: { strict?: boolean } = {}): Promise<FormatFinding[]> {
	const findings = new Findings(options);
	try {
		await itemsOf(octets, { pages: "summary", findings });
	} catch (error) {
		if (!(error instanceof XluError) || findings.errors.length === 0) throw error;
	}
	return findings.errors;
}

/** The octets of items, one of them changed or left out. */
export function joined(items: readonly StreamItem[]): Uint8Array {
	return new Uint8Array(Buffer.concat(items.map(({ octets }) => octets as Uint8Array)));
}

/** A PAGE_DATA with `kept` of its PFNs that have contents, and as many that have none. */
function fewPages(item: StreamItem, kept: number): StreamItem {
	const { pfns, pageTypes, contents } = item.fields as unknown as {
		pfns: number[];
		pageTypes: number[];
		contents: string;
	};
	let withData = 0;
	let without = 0;
	const chosen = pfns.map((_, i) => i).filter((i) => ((pageTypes[i] as number) < 0xd ? withData++ : without++) < kept);
	const fields = {
		pfns: chosen.map((i) => pfns[i] as number),
		pageTypes: chosen.map((i) => pageTypes[i] as number),
		contents: contents.slice(0, Math.min(withData, kept) * 8192),
	};
	return { ...item, octets: imageFormat.encode({ ...item, fields }), fields };
}

/** A captured image with two PAGE_DATA records of a few pages. */
export const smallImage = (name: ImageName): Promise<StreamItem[]> => smallImageOf(capturedImage(name));

/** The same of any image. */
export async function smallImageOf(octets: Uint8Array): Promise<StreamItem[]> {
	const items = await itemsOf(octets);
	let pages = 0;
	return items.flatMap((item) => (item.name !== "PAGE_DATA" ? [item] : pages++ < 2 ? [fewPages(item, 2)] : []));
}

/** One of the ways in which a stream gets damaged: bits, octets, words, lengths, records lost, doubled, swapped, cut off. */
export function mutate(items: readonly StreamItem[], random: Random): Uint8Array {
	const list = [...items];
	const at = random.below(list.length);
	const item = list[at] as StreamItem;
	const octets = Uint8Array.from(item.octets as Uint8Array);
	const view = new DataView(octets.buffer);
	const place = () => random.below(Math.max(1, octets.length));
	switch (random.below(9)) {
		case 0:
			octets[place()] = (octets[place()] ?? 0) ^ (1 << random.below(8));
			break;
		case 1:
			octets[Math.min(place(), 31)] = random.below(256);
			break;
		case 2:
			if (octets.length >= 8)
				view.setUint32(4, [0, 1, 7, 8, 0xffff_ffff, view.getUint32(4, true) + 8][random.below(6)] ?? 0, true);
			break;
		case 3:
			if (octets.length >= 8) view.setUint32(0, random.below(24), true);
			break;
		case 4:
			list.splice(at, 1);
			return joined(list);
		case 5:
			list.splice(at, 0, item);
			return joined(list);
		case 6: {
			const other = random.below(list.length);
			list[at] = list[other] as StreamItem;
			list[other] = item;
			return joined(list);
		}
		case 7: {
			const whole = joined(list);
			return whole.subarray(0, random.below(whole.length));
		}
		default:
			if (octets.length >= 16) view.setUint32(8 + 4 * random.below(2), random.below(1 << 16), true);
	}
	list[at] = { ...item, octets };
	return joined(list);
}
