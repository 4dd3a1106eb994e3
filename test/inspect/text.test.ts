/** Text of a stream comes from whoever wrote it: a terminal is shown it, and not commanded by it. */
import { expect, test } from "vitest";
import { brief, fieldLines, visible } from "../../src/inspect/text.ts";

const hostile = "\x1b[31mred\x07\n\x00\x9b1A";
const shown = "\\x1b[31mred\\x07\\x0a\\x00\\x9b1A";

test("control characters are shown as their codes, all others as they are", () => {
	expect(visible(hostile)).toBe(shown);
	expect(visible("Xen 4.17, größer →")).toBe("Xen 4.17, größer →");
});

test("fields and summaries have none", () => {
	const lines = [
		...fieldLines({ text: hostile, rows: [{ text: hostile }], words: [hostile, "b"] }),
		brief({ text: hostile }),
	];
	expect(lines.join("")).not.toMatch(/\p{Cc}/u);
	expect(lines[0]).toContain(shown);
});
