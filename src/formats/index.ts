/** Every format that is recognised by its content, Xen's own and this project's. */
import { bundleFormat } from "../bundle/format.ts";
import type { FormatRule } from "./common/findings.ts";
import type { Format } from "./common/format.ts";
import type { StreamReader } from "./common/reader.ts";
import { imageFormat } from "./image.ts";
import { legacyFormat } from "./legacy/index.ts";
import { xenstoreFormat } from "./xenstore/index.ts";

/** In the order in which a stream is held against them: legacy images have no magic, so theirs comes last. */
export const formats: readonly Format[] = [bundleFormat, imageFormat, xenstoreFormat, legacyFormat];

/** Octets of a stream that recognise any of the formats. */
const HEAD_BYTES = Math.max(64, ...formats.map(({ headBytes }) => headBytes));

/** "XLUS" behind libxc's marker. */
const LIVE_UPDATE = Buffer.from("ffffffffffffffff584c5553", "hex");

/**
 * What a stream is, from its first octets: a format, the live-update stream, a stream as JSON; undefined if none of them.
 * The position stays.
 */
export async function recognise(reader: StreamReader): Promise<Format | "xlu" | "json" | undefined> {
	const head = await reader.peek(HEAD_BYTES);
	if (Buffer.compare(head.subarray(0, LIVE_UPDATE.length), LIVE_UPDATE) === 0) return "xlu";
	if (/^\s*\{/.test(Buffer.from(head).toString("latin1"))) return "json";
	return formats.find((format) => format.detect(head));
}

/** Every rule of every format once, in the order of the codes. */
export function formatRules(): FormatRule[] {
	const byCode = new Map(formats.flatMap(({ rules }) => rules.map((rule) => [rule.code, rule] as const)));
	return [...byCode.values()].sort((a, b) => a.code.localeCompare(b.code));
}
