/** Each probe is judged as the real daemons did: what dies is refused, what they read otherwise is warned of. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { daemons } from "../../../src/formats/xenstore/daemons.ts";
import { root } from "../../support/core.ts";
import { judge, probes, verdictTable } from "../../support/xenstoreVerdicts.ts";

describe.each(daemons)("--for %s", (daemon) => {
	test.each(probes.map((probe) => [probe.file, probe] as const))("%s", async (_file, probe) => {
		const { verdict, did } = await judge(probe, daemon);
		expect(verdict).toBe(did);
	});
});

test("docs/XENSTORE.md has every probe with what the daemons did and what is said here", async () => {
	expect(probes.length).toBe(52);
	expect(readFileSync(join(root, "docs/XENSTORE.md"), "utf8")).toContain(await verdictTable());
});
