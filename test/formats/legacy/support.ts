import { Findings } from "../../../src/formats/common/findings.ts";
import { StreamReader } from "../../../src/formats/common/reader.ts";
import type { StreamItem } from "../../../src/formats/common/record.ts";
import { sourceOf } from "../../../src/formats/common/source.ts";
import { type LegacyReadOptions, readLegacy } from "../../../src/formats/legacy/index.ts";

export type Options = Partial<LegacyReadOptions> & { chunkBytes?: number; strict?: boolean };

export function reading(
	image: Uint8Array,
	options: LegacyReadOptions,
	chunkBytes?: number,
): AsyncGenerator<StreamItem> {
	return readLegacy(new StreamReader(sourceOf(image, "image", chunkBytes)), options);
}

export async function collect(image: Uint8Array, { chunkBytes, strict, ...options }: Options) {
	const findings = new Findings({ strict: strict === true });
	const items: StreamItem[] = [];
	for await (const item of reading(image, { findings, pages: "summary", ...options }, chunkBytes)) items.push(item);
	return { items, findings };
}
