/** audit of a captured host: what the domain dump (debug key q) counts is held against what follows from the capture. */
import { describe, expect, test } from "vitest";
import { auditHost } from "../../src/audit.ts";
import { loadHost } from "../../src/host.ts";
import { newCore } from "../support/core.ts";
import { copies, type EditedHost, fixtures } from "../support/hosts.ts";
import { deadOnly } from "../support/merge.ts";

const copy = copies();
const core = newCore();
const EXTRA = "caf=8200000000000003, taf=e400000000000001";
const XEN = "bfc84: caf=c000000000000001, taf=e400000000000001";

/** The HVM fixture, its domain dump edited. */
function edited(from: string, to: string): EditedHost {
	return copy("hvm").replace("debugkey-q.txt", from, to);
}

describe("counts of the dump", () => {
	test.each(["pv", "pvh", "hvm"])("of %s are accounted for", async (name) => {
		expect(await auditHost(loadHost(`${fixtures}/${name}`), core)).toMatchObject({ clean: true, findings: [] });
	});

	test("of dead domains are accounted for, whose frames dom0 may have mapped besides", async () => {
		const host = deadOnly(copy("zombie"));
		expect(await auditHost(loadHost(host.path), core)).toMatchObject({ clean: true });
		// One reference less than the grant that is mapped.
		host.replace("debugkey-q.txt", "f50a: caf=00000004", "f50a: caf=00000000");
		const { findings } = await auditHost(loadHost(host.path), core);
		expect(findings[0]).toMatchObject({ rule: "XLU-R111", mfn: 0xf50a, domid: 1, field: "references", got: "0" });
	});

	test.each([
		[
			"one reference too many to a domain",
			"refcnt=3",
			"refcnt=4",
			{ domid: 4, field: "references", expected: "3", got: "4" },
		],
		["one too few, to an emulator", "refcnt=4", "refcnt=3", { domid: 0, field: "references", expected: "4", got: "3" }],
		[
			"one too many to a server's page",
			EXTRA,
			EXTRA.replace("3,", "4,"),
			{ mfn: 0xbdc28, field: "references", expected: "3", got: "4" },
		],
		["one too few", EXTRA, EXTRA.replace("3,", "2,"), { mfn: 0xbdc28, field: "references", expected: "3", got: "2" }],
		[
			"one type reference too many",
			EXTRA,
			EXTRA.replace(/1$/, "2"),
			{ mfn: 0xbdc28, field: "typeReferences", got: "2" },
		],
		[
			"one too many to a page of Xen's heap",
			XEN,
			XEN.replace("1,", "2,"),
			{ mfn: 0xbfc84, domid: 4, field: "references", got: "2" },
		],
		["none by its type", XEN, XEN.replace(/1$/, "0"), { mfn: 0xbfc84, domid: 4, field: "typeReferences", got: "0" }],
		[
			"too few to a page of dom0's",
			"b8e80: caf=c000000000000002",
			"b8e80: caf=c000000000000000",
			{ mfn: 0xb8e80, domid: 0, got: "0" },
		],
	])("%s is named", async (_what, from, to, finding) => {
		const report = await auditHost(loadHost(edited(from, to).path), core);
		expect(report.clean).toBe(false);
		expect(report.findings).toHaveLength(1);
		expect(report.findings[0]).toMatchObject({ rule: "XLU-R111", ...finding });
	});
});

describe("words of the dump that no update goes on with", () => {
	test.each([
		[
			"a page of another type in use",
			EXTRA,
			EXTRA.replace("taf=e4", "taf=24"),
			"XLU_E_CAPTURE",
			/0xbdc28: expected taf= of a page in use as writable/,
		],
		["a pinned one", EXTRA, EXTRA.replace("taf=e4", "taf=ec"), "XLU_E_CAPTURE", /not pinned/],
		["a type that is not validated", EXTRA, EXTRA.replace("taf=e4", "taf=e0"), "XLU_E_VERSION", /validated \(bit 58\)/],
		["one that is validated in part", EXTRA, EXTRA.replace("taf=e4", "taf=e5"), "XLU_E_VERSION", /in part/],
		["a XenPage that is none", XEN, XEN.replace("caf=c", "caf=8"), "XLU_E_CAPTURE", /Xen's heap/],
		[
			"a migration that is running",
			"hap refcounts translate",
			"hap refcounts log_dirty translate",
			"XLU_E_VERSION",
			/log_dirty/,
		],
		["shared memory", "Shared frames 0 --", "Shared frames 3 --", "XLU_E_VERSION", /Shared frames.*got 3/],
	])("%s is refused", (_what, from, to, code, message) => {
		const load = () => loadHost(edited(from, to).path);
		expect(load).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }));
	});
});

test("a port that is wrong is named by its number, not by its row", async () => {
	const host = copy("hvm").replace("debugkey-e.txt", "s=3 n=0 x=0 d=4 p=2", "s=3 n=0 x=0 d=4 p=3");
	const [first] = (await auditHost(loadHost(host.path), core)).findings;
	expect(first).toMatchObject({ rule: "XLU-R082", domid: 0, field: "Ports[26].remotePort" });
	expect(first?.message).toContain("field Ports[26].remotePort (slot 27), domain 0");
});
