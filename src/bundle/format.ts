/** The bundle as the commands see it: recognised, read, checked in itself. */
import { type Core, loadCore } from "../core/load.ts";
import { XluError } from "../errors.ts";
import { BUNDLE_HEADER_BYTES } from "../formats/bundle/layout.ts";
import { isBundle, readBundleItems } from "../formats/bundle/read.ts";
import { bundleRuleList } from "../formats/bundle/rules.ts";
import type { Format, ReadOptions } from "../formats/common/format.ts";
import type { StreamReader } from "../formats/common/reader.ts";
import type { StreamItem } from "../formats/common/record.ts";
import { type CheckedBundle, checkBundle } from "./check.ts";

/**
 * Reads and checks; ends with what a receiver needs, undefined where a part cannot be relied on.
 * @param core by default a new one
 */
export async function* readChecked(
	reader: StreamReader,
	options: ReadOptions,
	core?: Core,
): AsyncGenerator<StreamItem, CheckedBundle | undefined> {
	const bundle = yield* readBundleItems(reader, options);
	return checkBundle(core ?? (await loadCore()), bundle, options.findings);
}

export const bundleFormat: Format = {
	name: "bundle",
	layers: ["bundle", "xlu"],
	rules: bundleRuleList,
	headBytes: BUNDLE_HEADER_BYTES,
	detect: isBundle,
	read: (reader, options) => readChecked(reader, options),
	encode({ name }) {
		// Its parts hang together by checksums: an item alone has no octets but those that it came with.
		throw new XluError("XLU_E_USAGE", `${name} of a bundle is not made from fields.`, {
			field: "octets",
			expected: "the item's octets",
			got: "fields alone",
		});
	},
};
