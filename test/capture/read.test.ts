import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { readCapture } from "../../src/capture/read.ts";
import { pvP2m } from "../../src/formats/libxc/p2m.ts";
import { errorOf, fixtures } from "./helpers.ts";

const scratch = mkdtempSync(join(tmpdir(), "xlu-capture-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

let copies = 0;
/** A changed copy of a fixture. */
function changed(host: string, change: (directory: string) => void): string {
	const directory = join(scratch, `${host}-${copies++}`);
	cpSync(join(fixtures, host), directory, { recursive: true });
	change(directory);
	return directory;
}

function edit(file: string, from: string | RegExp, to: string): (directory: string) => void {
	return (directory) => {
		const path = join(directory, file);
		writeFileSync(path, readFileSync(path, "utf8").replaceAll(from, to));
	};
}

describe("a captured host", () => {
	it.each([
		["pv", 1, 10240],
		["pvh", 1, 10192],
		["hvm", 4, 12283],
	])("%s: all facts, and an image that agrees with the dumps", (host, domid, pages) => {
		const capture = readCapture(join(fixtures, host));
		expect(capture.name).toBe(host);
		expect(capture.xenVersion).toEqual({ major: 4, minor: 17, extra: ".7" });
		expect(capture).toMatchObject({ cpus: 1, totalFrames: 3071 * 256 });
		expect(capture.domains.map((domain) => [domain.domid, domain.kind])).toEqual([
			[0, "dom0"],
			[domid, "guest"],
		]);
		const [dom0, guest] = capture.domains;
		expect(dom0?.image).toBeUndefined();
		expect(guest?.name).toBe(`${host}1`);
		expect(guest?.imageFile).toBe(`${host}1.xlsave.gz`);
		expect(guest?.config?.get("vcpus")).toBe("2");
		expect(guest?.info.nrPages).toBe(pages);
		// The image names exactly the pages of the domain: extra and xenheap pages are in neither.
		expect(guest?.image?.pages.populated).toBe(pages);
		expect(guest?.tsc?.incarnation).toBe(1);
		expect(guest?.p2mRootMfn === undefined).toBe(host === "pv");
		expect(capture.dom0Registers).toHaveLength(1);
		expect(capture.files.find(({ name }) => name === "xenctx.txt")).toEqual({
			name: "xenctx.txt",
			kind: "other",
			present: true,
			used: false,
		});
		expect(capture.files.filter(({ used }) => used).length).toBe(12);
	});

	it("pv: the grants' MFNs are the guest's own by its P2M", () => {
		const guest = readCapture(join(fixtures, "pv")).domains[1];
		if (guest?.image === undefined) {
			return expect.fail("no image");
		}
		const mfns = new Set(pvP2m(guest.image).mfns);
		expect(guest.grants.active.every(({ mfn }) => mfns.has(mfn))).toBe(true);
	});

	it("a living guest without an image is named", () => {
		const error = errorOf(() => readCapture(join(fixtures, "zombie")));
		expect(error.code).toBe("XLU_E_CAPTURE");
		expect(error.domid).toBe(2);
		expect(error.message).toMatch(/domain 2 with UUID 4c414200-0000-4000-8000-000000000011/);
	});

	it("dead domains need no image", () => {
		const directory = changed("zombie", (path) => {
			edit(
				"debugkey-q.txt",
				"refcnt=3 dying=0 pause_count=0\n(XEN)     nr_pages=10191",
				"refcnt=1 dying=2 pause_count=0\n(XEN)     nr_pages=10191",
			)(path);
		});
		const { domains, xenVersion, totalFrames, cpus } = readCapture(directory);
		expect(domains.map(({ kind }) => kind)).toEqual(["dom0", "dead", "dead", "dead"]);
		expect({ xenVersion, totalFrames, cpus }).toEqual({ xenVersion: undefined, totalFrames: undefined, cpus: 1 });
	});

	it("optional files may be absent", () => {
		const directory = changed("pv", (path) => {
			for (const name of ["debugkey-0.txt", "debugkey-m.txt", "debugkey-s.txt", "debugkey-v.txt", "xl-info.txt"]) {
				rmSync(join(path, name));
			}
			rmSync(join(path, "xl-list-l.json"));
			rmSync(join(path, "pv1.cfg"));
		});
		const capture = readCapture(directory);
		expect(capture.xenVersion).toEqual({ major: 4, minor: 17 });
		expect(capture.dom0Registers).toBeUndefined();
		expect(capture.files.find(({ name }) => name === "debugkey-0.txt")).toMatchObject({ present: false, used: false });
	});

	it.each<[string, string, (directory: string) => void, RegExp]>([
		["debugkey-q.txt is missing", "pv", (path) => rmSync(join(path, "debugkey-q.txt")), /the file debugkey-q\.txt/],
		[
			"e and q differ in their domains",
			"pv",
			edit("debugkey-e.txt", "for domain 1:", "for domain 2:"),
			/\(0, 1\), got 0, 2/,
		],
		["g and q differ in their domains", "pv", edit("debugkey-g.txt", "remote d1 ", "remote d3 "), /debugkey-g/],
		[
			"an image has no domain",
			"pv",
			edit("debugkey-q.txt", "-000000000001", "-0000000000ff"),
			/0000000000ff\), got 4c414200-0000-4000-8000-000000000001/,
		],
		[
			"an image is there twice",
			"pv",
			(path) => cpSync(join(path, "pv1.xlsave.gz"), join(path, "copy.save.gz")),
			/copy/,
		],
		[
			"an image is of another type",
			"pvh",
			edit("debugkey-q.txt", /.*paging assistance: hap ref.*\n/g, ""),
			/x86 pv image/,
		],
		["an image has other vCPUs", "pv", edit("debugkey-q.txt", /VCPU1: .*/g, ""), /1 vCPUs/],
		["the versions differ", "pv", edit("xl-info.txt", /xen_minor .*/g, "xen_minor : 18"), /Xen 4\.18/],
	])("refused: %s", (_name, host, change, message) => {
		const error = errorOf(() => readCapture(changed(host, change)));
		expect(error.code).toBe("XLU_E_CAPTURE");
		expect(error.message).toMatch(message);
	});

	it("a damaged image is refused with its file and place; a missing directory is XLU_E_IO", () => {
		const directory = changed("pv", (path) => {
			const file = join(path, "pv1.xlsave.gz");
			writeFileSync(file, readFileSync(file).subarray(0, 50_000));
		});
		const error = errorOf(() => readCapture(directory));
		expect(error.code).toBe("XLU_E_IMAGE");
		expect(error.message).toMatch(/pv1\.xlsave\.gz/);
		expect(errorOf(() => readCapture(join(scratch, "nowhere"))).code).toBe("XLU_E_IO");
	});
});
