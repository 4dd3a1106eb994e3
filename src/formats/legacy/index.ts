/** Images of libxc of Xen 4.5 and older as one of the formats that the commands know. */
import type { Format } from "../common/format.ts";
import { legacyRules } from "./check.ts";
import { isLegacyImage, LEGACY_HEAD_BYTES, readLegacy } from "./read.ts";
import { encodeLegacy } from "./write.ts";

export { type ConvertLegacyOptions, type ConvertLegacyResult, convertLegacy } from "./convert.ts";
export { type LegacyReadOptions, readLegacy } from "./read.ts";

export const legacyFormat: Format = {
	name: "legacy",
	layers: ["legacy"],
	rules: Object.values(legacyRules),
	headBytes: LEGACY_HEAD_BYTES,
	detect: isLegacyImage,
	read: readLegacy,
	encode: encodeLegacy,
};
