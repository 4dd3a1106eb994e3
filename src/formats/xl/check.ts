/** Rules of the header that `xl save` writes; no document has them. */
import { formatRule } from "../common/findings.ts";

const SEEN = "seen: files of xl save, Xen 4.17 and 4.20";

export const xlRules = {
	byteOrder: formatRule(
		"XLU-H001",
		"damaged",
		SEEN,
		"The byte-order word is 0x01020304 in one of the two orders.",
		"The header is damaged; what stands behind it may be whole.",
	),
	flags: formatRule(
		"XLU-H002",
		"version",
		SEEN,
		"Mandatory flags are those that are known: JSON, libxl stream.",
		"A sender newer than this tool, or damage.",
	),
	length: formatRule(
		"XLU-H003",
		"damaged",
		SEEN,
		"The optional data are a length and as many octets, at most 16 MiB.",
		"The header is damaged; what stands behind it may be whole.",
	),
	json: formatRule(
		"XLU-H004",
		"refused",
		SEEN,
		"The configuration is a text that ends in a NUL, and JSON where the flag says so.",
		"xl cannot create the domain from it: restore with a configuration file of your own, xl restore CONFIG FILE.",
	),
	legacy: formatRule(
		"XLU-H005",
		"version",
		SEEN,
		"A libxl stream follows the header.",
		"Without the flag a legacy image follows: xlu convert --to libxc-v3.",
	),
} as const;
