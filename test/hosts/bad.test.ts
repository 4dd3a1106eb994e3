/**
 * Captures that are incomplete, damaged, or not of one host: each is refused with an error that says which file, what was
 * expected and what was found; none crashes the program, and none is updated as if it were whole.
 */
import { cpSync, readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { XluError } from "../../src/errors.ts";
import { copies, type EditedHost, fixtures, fixtureText, refusalOf } from "../support/hosts.ts";
import { libxcBody, libxcRecords, withBody } from "../support/libxc.ts";
import { deadOnly } from "../support/merge.ts";

const copy = copies();

/** An edit of the guest's part of a dump alone. */
const inGuest = (header: RegExp, change: (guest: string) => string) => (text: string) => {
	const at = text.search(header);
	expect(at).toBeGreaterThan(0);
	return text.slice(0, at) + change(text.slice(at));
};
const events = (change: (guest: string) => string) => inGuest(/Event channel information for domain [1-9]/, change);
const grants = (change: (guest: string) => string) => inGuest(/grant-table for remote d[1-9]/, change);
const domains = (change: (guest: string) => string) => inGuest(/General information for domain [1-9]/, change);

/** Takes a file of another host in place of the host's own. */
const foreign = (file: string, from: string) => (host: EditedHost) =>
	void cpSync(join(fixtures, from, file), host.file(file));

type Case = [what: string, host: string, edit: (host: EditedHost) => unknown, code: XluError["code"], message: RegExp];

const missing: Case[] = [
	...["debugkey-e.txt", "debugkey-g.txt", "debugkey-q.txt"].map(
		(file): Case => [
			`${file} missing`,
			"pv",
			(host) => host.remove(file),
			"XLU_E_CAPTURE",
			new RegExp(`^${file}: expected the file ${file} in /.*, got none`),
		],
	),
	...["debugkey-e.txt", "debugkey-g.txt", "debugkey-q.txt"].map(
		(file): Case => [
			`${file} empty`,
			"pv",
			(host) => host.write(file, ""),
			"XLU_E_CAPTURE",
			new RegExp(`^${file}:1: expected .*, got none in the file`),
		],
	),
	[
		"the image missing",
		"pv",
		(host) => host.remove("pv1.xlsave.gz"),
		"XLU_E_CAPTURE",
		/expected an image \(\*\.xlsave, \*\.xlsave\.gz\) of domain 1 with UUID 4c414200-.*, got no image/,
	],
	["the image empty", "pv", (host) => host.write("pv1.xlsave.gz", ""), "XLU_E_IMAGE", /pv1\.xlsave\.gz: .*magic/],
	[
		"one of two images missing",
		"hvm",
		(host) => host.map("debugkey-q.txt", (text) => text.replace(/-000000000003/, "-000000000009")),
		"XLU_E_CAPTURE",
		/hvm1\.xlsave\.gz: expected the UUID of a living guest \(4: 4c.*009\), got 4c.*003/,
	],
];

const mixed: Case[] = [
	[
		"debugkey-q.txt of another host",
		"pv",
		foreign("debugkey-q.txt", "pvh"),
		"XLU_E_CAPTURE",
		/pv1\.xlsave\.gz: expected the UUID of a living guest \(1: 4c.*002\), got 4c.*001/,
	],
	[
		"debugkey-e.txt of another host",
		"pv",
		foreign("debugkey-e.txt", "hvm"),
		"XLU_E_CAPTURE",
		/debugkey-e\.txt: expected the domains of debugkey-q\.txt \(0, 1\), got 0, 4/,
	],
	[
		"debugkey-g.txt of another host",
		"pv",
		foreign("debugkey-g.txt", "pvh"),
		"XLU_E_CAPTURE",
		/debugkey-g\.txt: domain 1: grant 0x0: expected MFN 0x\w+ among the domain's frames, got none/,
	],
	[
		"the image of another host's guest",
		"pv",
		(host) => {
			host.remove("pv1.xlsave.gz");
			cpSync(join(fixtures, "pvh/pvh1.xlsave.gz"), host.file("pvh1.xlsave.gz"));
		},
		"XLU_E_CAPTURE",
		/pvh1\.xlsave\.gz: expected the UUID of a living guest/,
	],
	[
		"another guest's image with this one's UUID",
		"pv",
		(host) => {
			cpSync(join(fixtures, "pvh/pvh1.xlsave.gz"), host.file("pvh1.xlsave.gz"));
			host.remove("pv1.xlsave.gz").image("pvh1.xlsave", (image) => {
				const at = image.indexOf("4c414200-0000-4000-8000-000000000002");
				image.write("4c414200-0000-4000-8000-000000000001", at, "latin1");
			});
		},
		"XLU_E_CAPTURE",
		/pvh1\.xlsave: expected an x86 pv image, as debugkey-q\.txt shows domain 1, got hvm/,
	],
	[
		"an image that no domain has, beside the right one",
		"pv",
		(host) => cpSync(join(fixtures, "hvm/hvm1.xlsave.gz"), host.file("old.xlsave.gz")),
		"XLU_E_CAPTURE",
		/old\.xlsave\.gz: expected the UUID of a living guest \(1: .*\), got 4c.*003/,
	],
	[
		"two images of one domain",
		"pv",
		(host) => cpSync(host.file("pv1.xlsave.gz"), host.file("copy.xlsave.gz")),
		"XLU_E_CAPTURE",
		/expected one image of domain 1 \(4c.*\), got copy\.xlsave\.gz and pv1\.xlsave\.gz/,
	],
	[
		"two domains with one handle",
		"hvm",
		(host) => {
			for (const [file, header] of [
				["debugkey-e.txt", "Event channel information for domain "],
				["debugkey-q.txt", "General information for domain "],
			] as const) {
				host.map(file, (text) => {
					const at = text.indexOf(`(XEN) ${header}4`);
					const end = text.indexOf("(XEN) Notifying");
					const block = text.slice(at, end < 0 ? undefined : end).replaceAll("domain 4:", "domain 5:");
					return end < 0 ? text + block : text.slice(0, end) + block + text.slice(end);
				});
			}
			host.map("debugkey-g.txt", (text) =>
				text.replace(
					"(XEN) gnttab_usage_print_all ]",
					"(XEN) grant-table for remote d5 (v1)\n(XEN) gnttab_usage_print_all ]",
				),
			);
		},
		"XLU_E_CAPTURE",
		/hvm1\.xlsave\.gz: expected one domain with handle 4c.*, got domains 4 and 5/,
	],
	[
		"an image of another Xen than xl info says",
		"pv",
		(host) => host.replace("xl-info.txt", /xen_minor.*/, "xen_minor : 20"),
		"XLU_E_CAPTURE",
		/pv1\.xlsave\.gz: expected Xen 4\.20, as in xl-info\.txt, got Xen 4\.17/,
	],
];

const ports: Case[] = [
	[
		"a port whose peer names another port",
		"pv",
		(host) =>
			host.map(
				"debugkey-e.txt",
				events((guest) => guest.replace("d=0 p=26", "d=0 p=27")),
			),
		"XLU_E_REFUSED",
		/LU_EVTCHN_PORTS/,
	],
	[
		"a port whose peer is not bound",
		"pv",
		(host) => host.replace("debugkey-e.txt", "s=3 n=0 x=0 d=1 p=1\n", "s=2 n=0 x=0 d=1\n"),
		"XLU_E_REFUSED",
		/LU_EVTCHN_PORTS/,
	],
	[
		"a port whose peer's domain does not exist",
		"pv",
		(host) => host.replace("debugkey-e.txt", "s=3 n=0 x=0 d=1 p=1\n", "s=3 n=0 x=0 d=9 p=1\n"),
		"XLU_E_REFUSED",
		/LU_EVTCHN_PORTS/,
	],
	[
		"a port of a vCPU that the domain has not",
		"pv",
		(host) =>
			host.map(
				"debugkey-e.txt",
				events((guest) => guest.replace("s=6 n=0", "s=6 n=7")),
			),
		"XLU_E_CAPTURE",
		/^debugkey-e\.txt: domain 1: port 4, vCPU: expected a vCPU of the domain, got 7/,
	],
	[
		"a 2-level port among FIFO ones",
		"pv",
		(host) =>
			host.map(
				"debugkey-e.txt",
				events((guest) => guest.replace(" 4 [0/0/  -   ]", " 4 [0/0/0]")),
			),
		"XLU_E_CAPTURE",
		/^debugkey-e\.txt:\d+: expected fifo ports, as before in domain 1, got 2-level/,
	],
	[
		"port 4096 of 2-level channels",
		"pv",
		(host) =>
			host.map("debugkey-e.txt", (text) =>
				text.replace(/\[(.)\/(.)\/ {2}- {3}\]/g, "[$1/$2/0]").replace(/$/, "(XEN)     4096 [0/0/0]: s=6 n=0 x=0\n"),
			),
		"XLU_E_CAPTURE",
		/^debugkey-e\.txt: domain 1: port: expected below 4096 \(2-level\), got 4096/,
	],
	[
		"port 131072 of FIFO channels",
		"pv",
		(host) => host.map("debugkey-e.txt", (text) => `${text}(XEN)   131072 [0/0/  -   ]: s=6 n=0 x=0\n`),
		"XLU_E_CAPTURE",
		/^debugkey-e\.txt: domain 1: port: expected below 131072 \(fifo\), got 131072/,
	],
	[
		"two VIRQs of one kind on one vCPU",
		"pv",
		(host) =>
			host.map(
				"debugkey-e.txt",
				events((guest) => guest.replace("s=5 n=1 x=0 v=0", "s=5 n=0 x=0 v=0")),
			),
		"XLU_E_REFUSED",
		/LU_EVTCHN_PORTS/,
	],
	[
		"a queue without an end",
		"pv",
		(host) =>
			host.map(
				"debugkey-e.txt",
				events((guest) =>
					guest.replace(" 4 [0/0/  -   ]", " 4 [1/0/  5   ]").replace(" 5 [0/0/  -   ]", " 5 [1/0/  4   ]"),
				),
			),
		"XLU_E_CAPTURE",
		/^debugkey-e\.txt: domain 1: event queues: expected each of 2 linked ports in one queue, got 0/,
	],
];

/** As many active grants of all pin counters at their highest as the table holds. */
const PINS_WITHOUT_END = Array.from(
	{ length: 1000 },
	(_, ref) => `(XEN) [0x${(ref + 9).toString(16).padStart(3, "0")}]      0 0x0fac2 0xffffffff          0 0x00fac2 0x19`,
).join("\n");

const tables: Case[] = [
	[
		"fewer grant frames than xenheap pages",
		"pv",
		(host) =>
			host.map(
				"debugkey-g.txt",
				grants((guest) => guest.replace("2 frames", "1 frames")),
			),
		"XLU_E_CAPTURE",
		/^debugkey-q\.txt: domain 1: xenheap_pages: expected 2 \(shared_info, 1 grant frame, .*\), got 3/,
	],
	[
		"more grant frames than the table may have",
		"pv",
		(host) =>
			host.map(
				"debugkey-g.txt",
				grants((guest) => guest.replace("2 frames (64 max)", "2 frames (1 max)")),
			),
		"XLU_E_CAPTURE",
		/^debugkey-g\.txt: domain 1: grant frames: expected at most 1, got 2/,
	],
	[
		"grant frames without end, of a dead domain",
		"zombie",
		(host) =>
			deadOnly(host).map(
				"debugkey-g.txt",
				grants((guest) => guest.replace("2 frames (64 max)", "999999999 frames (999999999 max)")),
			),
		"XLU_E_CAPTURE",
		/^debugkey-g\.txt: domain 1: grant frames: expected at most 16384, got 999999999/,
	],
	[
		"maptrack frames without end",
		"pv",
		(host) => host.replace("debugkey-g.txt", "1 maptrack frames (1024 max)", "99999999 maptrack frames (99999999 max)"),
		"XLU_E_CAPTURE",
		/^debugkey-g\.txt: domain 0: maptrack frames: expected at most 16384, got 99999999/,
	],
	[
		"a version 2 table without its status frame",
		"pv",
		(host) =>
			host.map(
				"debugkey-g.txt",
				grants((guest) => guest.replace("(v1)", "(v2)")),
			),
		"XLU_E_CAPTURE",
		/^debugkey-q\.txt: domain 1: xenheap_pages: expected 4 \(.*1 status frame\), got 3/,
	],
	[
		"a reference beyond the table",
		"pv",
		(host) =>
			host.map(
				"debugkey-g.txt",
				grants((guest) => guest.replace("[0x21a]", "[0x400]")),
			),
		"XLU_E_CAPTURE",
		/^debugkey-g\.txt: domain 1: grant: expected a reference below 0x400, the end of the table, got 0x400/,
	],
	[
		"a grantee that does not exist",
		"pv",
		(host) =>
			host.map(
				"debugkey-g.txt",
				grants((guest) => guest.replace("[0x008]      0", "[0x008]      9")),
			),
		"XLU_E_CAPTURE",
		/^debugkey-g\.txt: domain 1: grant 0x8: expected a grantee among the domains of the dumps, got domain 9/,
	],
	[
		"pins without end",
		"pv",
		(host) =>
			host.map(
				"debugkey-g.txt",
				grants((guest) => guest.replace(/(\(XEN\) \[0x008\].*\n)[\s\S]*(?=\(XEN\) gnttab)/, `$1${PINS_WITHOUT_END}\n`)),
			),
		"XLU_E_CAPTURE",
		/^debugkey-g\.txt: domain 0: maptrack frames: expected at most 1024, for one handle per pin, got more/,
	],
	[
		"a grant without pins",
		"pv",
		(host) =>
			host.map(
				"debugkey-g.txt",
				grants((guest) => guest.replace("0x0fac2 0x00000001", "0x0fac2 0x00000000")),
			),
		"XLU_E_REFUSED",
		/LU_GRANT_ACTIVE/,
	],
	[
		"an MFN that no machine has",
		"hvm",
		(host) =>
			host.map(
				"debugkey-g.txt",
				grants((guest) => guest.replace("0xb38af", "0xfffffffffffff")),
			),
		"XLU_E_CAPTURE",
		/granted frame of debugkey-g\.txt: expected an MFN below 0x4000000 \(256 GiB\), got 0xfffffffffffff/,
	],
];

const pages: Case[] = [
	[
		"another number of frames than the image has",
		"pv",
		(host) => host.replace("debugkey-q.txt", "nr_pages=10240", "nr_pages=10241"),
		"XLU_E_CAPTURE",
		/^pv1\.xlsave\.gz: domain 1: frames: expected 10241, nr_pages of debugkey-q\.txt, got 10240/,
	],
	[
		"another number of frames than the HVM image has",
		"hvm",
		(host) => host.replace("debugkey-q.txt", "nr_pages=12283", "nr_pages=12282"),
		"XLU_E_CAPTURE",
		/^hvm1\.xlsave\.gz: domain 4: frames: expected 12282 \(nr_pages of debugkey-q\.txt is 12282\), got 12283/,
	],
	[
		"a XenPage row less than the count says",
		"pv",
		(host) => host.replace("debugkey-q.txt", /.*XenPage 0+9fc0b.*\n/, ""),
		"XLU_E_CAPTURE",
		/^debugkey-q\.txt:\d+: expected 3 XenPage rows of domain 1, got 2/,
	],
	[
		"a xenheap page of two domains",
		"pv",
		(host) => host.replace("debugkey-q.txt", "000000000009fc0b", "00000000000b8e80"),
		"XLU_E_CAPTURE",
		/XenPage of debugkey-q\.txt, MFN 0xb8e80: expected a frame that nothing else names, got a frame of domain 0/,
	],
	[
		"a xenheap page that is a frame of the PV guest",
		"pv",
		(host) => host.replace("debugkey-q.txt", "000000000009fc0b", "000000000000fac2"),
		"XLU_E_CAPTURE",
		/P2M in pv1\.xlsave\.gz, MFN 0xfac2: expected a frame that nothing else names, got a frame of domain 1/,
	],
	[
		"a living domain without vCPUs",
		"pv",
		(host) =>
			host.map(
				"debugkey-q.txt",
				domains((guest) => guest.replace(/\(XEN\) {5}VCPU\d[\s\S]*?(?=\(XEN\) Notifying)/, "")),
			),
		"XLU_E_CAPTURE",
		/pv1\.xlsave\.gz: expected 0 vCPUs, as in debugkey-q\.txt, got 2/,
	],
	[
		"no domain 0",
		"pv",
		(host) => {
			host.map("debugkey-e.txt", (text) =>
				text.replace(/\(XEN\) Event channel information for domain 0[\s\S]*?(?=\(XEN\) Event)/, ""),
			);
			host.map("debugkey-g.txt", (text) => text.replace("remote d0", "remote d2"));
			host.map("debugkey-e.txt", (text) => `${text}(XEN) Event channel information for domain 2:\n`);
			host.map("debugkey-q.txt", (text) => text.replaceAll("domain 0:", "domain 2:"));
		},
		"XLU_E_CAPTURE",
		/debugkey-q\.txt: expected domain 0, got none/,
	],
];

const images: Case[] = [
	[
		"an image that is cut off",
		"pv",
		(host) => truncateSync(host.file("pv1.xlsave.gz"), 50_000),
		"XLU_E_IMAGE",
		/pv1\.xlsave\.gz: .*gzip/,
	],
	[
		"an uncompressed image that is cut off",
		"pv",
		(host) => host.image("pv1.xlsave", (image) => image.subarray(0, 1_000_001)),
		"XLU_E_IMAGE",
		/pv1\.xlsave: .*expected/,
	],
	[
		"a PV image without its P2M frames",
		"pv",
		(host) =>
			host.image("pv1.xlsave", (image) => {
				const body = Buffer.from(libxcBody(image, 3));
				body.writeBigUInt64LE(0x27ffn, 8);
				return withBody(image, 3, body);
			}),
		"XLU_E_CAPTURE",
		/pv1\.xlsave/,
	],
	[
		"an HVM context without an end",
		"hvm",
		(host) => host.image("hvm1.xlsave", (image) => withBody(image, 9, libxcBody(image, 9).subarray(0, -8))),
		"XLU_E_IMAGE",
		/hvm1\.xlsave: libxc HVM_CONTEXT at 0x[\da-f]+: entry 23: expected 8 octets of a descriptor, or END, got 0 left \(XLU-C040\)/,
	],
	[
		"an HVM context of a vCPU that the domain has not",
		"hvm",
		(host) =>
			host.image("hvm1.xlsave", (image) => {
				const context = Buffer.from(libxcBody(image, 9));
				// The second entry is vCPU 0's CPU entry.
				context.writeUInt16LE(5, 32 + 2);
				return withBody(image, 9, context);
			}),
		"XLU_E_CAPTURE",
		/hvm1\.xlsave: domain 4: HVM_CONTEXT: expected CPU entries of the domain's vCPUs, got vCPU 5/,
	],
	[
		"a PV context whose CR3 is no frame of the guest",
		"pv",
		(host) =>
			host.image("pv1.xlsave", (image) => {
				const { offset } = libxcRecords(image).find(({ type }) => type === 4) as { offset: number };
				image.writeBigUInt64LE(0x7ffff000n, offset + 8 + 4984 + 24);
			}),
		"XLU_E_CAPTURE",
		/pv1\.xlsave: domain 1: vCPU 0, cr3: expected a PFN of the guest's P2M table, got 0x7ffff/,
	],
];

/** A figure of a file exchanged for one that would exhaust memory, or wrap around to one that looks right. */
const figure = (file: string, from: RegExp, to: string, message: RegExp): Case => [
	`${file}: ${to}`,
	"pv",
	(host) => host.replace(file, from, to),
	"XLU_E_CAPTURE",
	message,
];
const figures: Case[] = [
	figure("xl-info.txt", /nr_cpus .*/, "nr_cpus : 4294967295", /^xl-info\.txt:\d+: expected nr_cpus, 1 to 16384, got/),
	figure("xl-info.txt", /nr_cpus .*/, "nr_cpus : 0", /^xl-info\.txt:\d+: expected nr_cpus, 1 to 16384, got/),
	figure(
		"xl-info.txt",
		/total_memory .*/,
		"total_memory : 9007199254740991",
		/memory: expected at most 0x4000000 frames/,
	),
	figure("debugkey-q.txt", /nr_pages=393216/, "nr_pages=9007199254740991", /memory: expected at most 0x4000000 frames/),
	figure("debugkey-q.txt", /VCPU1:/, "VCPU99999:", /^debugkey-q\.txt:\d+: expected a vCPU below 8192, got 99999/),
	figure(
		"debugkey-q.txt",
		/dying=0 pause_count=1/,
		"dying=0 pause_count=4294967297",
		/debugkey-q.txt:\d+: expected pause_count, 0 to/,
	),
	figure(
		"debugkey-q.txt",
		/UNIT1 .*/,
		"UNIT1 affinities: hard={0-4294967295} soft={0}",
		/^debugkey-q\.txt:\d+: expected an ascending set/,
	),
	figure(
		"debugkey-q.txt",
		/XenPage 0+9fc0b/,
		"XenPage ffffffffffffffff",
		/^debugkey-q\.txt:\d+: expected an MFN below 2\^53/,
	),
	figure(
		"debugkey-e.txt",
		/d=0 p=26/,
		"d=0 p=4294967322",
		/^debugkey-e\.txt:\d+: expected p= of a port in state 3, 0 to 4294967295/,
	),
	figure(
		"debugkey-e.txt",
		/s=5 n=1 x=0 v=0/,
		"s=5 n=1 x=0 v=-1",
		/^debugkey-e\.txt:\d+: expected v= of a port in state 5, 0 to/,
	),
	figure(
		"debugkey-e.txt",
		/d=0 p=26/,
		"d=32768 p=26",
		/^debugkey-e\.txt:\d+: expected a domid of 0 to 32767, got 32768/,
	),
	figure(
		"debugkey-g.txt",
		/\[0x21a\]/,
		"[0xffffffffff]",
		/^debugkey-g\.txt:\d+: expected a grant reference of 32 bits/,
	),
];

describe.each([
	["figures that no host has", figures],
	["files that are missing", missing],
	["files that are not of one host", mixed],
	["event channels that contradict each other", ports],
	["grants that contradict each other", tables],
	["pages that contradict each other", pages],
	["images that are damaged", images],
] as const)("refused: %s", (_group, cases) => {
	it.each(cases)("%s", async (_what, name, edit, code, message) => {
		const host = copy(name);
		edit(host);
		const error = await refusalOf(host.path);
		expect(error?.message).toMatch(message);
		expect(error?.code).toBe(code);
		expect(error?.expected).toBeTruthy();
		expect(error?.got).toBeTruthy();
		expect(error?.exitStatus).toBe(code === "XLU_E_REFUSED" ? 1 : 3);
	});
});

describe("dumps that end early", () => {
	const codes = ["XLU_E_CAPTURE", "XLU_E_IMAGE", "XLU_E_REFUSED"];

	/** Ends of a dump's lines, and places within them. */
	function places(text: string): number[] {
		const step = Math.ceil(text.length / 24);
		return Array.from({ length: 24 }, (_, i) => (i * step) % text.length);
	}

	it.each([["debugkey-g.txt"], ["debugkey-q.txt"], ["debugkey-e.txt"]])(
		"%s: an error with a code and a place, or what could not be known to be missing",
		async (file) => {
			const text = fixtureText(`pv/${file}`);
			const host = copy("pv");
			const accepted: number[] = [];
			for (const end of places(text)) {
				host.write(file, text.slice(0, end));
				const error = await refusalOf(host.path);
				if (error) {
					expect(codes).toContain(error.code);
					expect(error.message).toContain(error.code === "XLU_E_REFUSED" ? "LU_" : file.slice(0, 10));
				} else {
					accepted.push(end);
				}
			}
			// Debug key g ends with a line of its own; q with lines that nobody reads; e's last ports have no peers.
			const unread = { "debugkey-g.txt": text.length, "debugkey-q.txt": text.indexOf("VCPU1"), "debugkey-e.txt": 2300 };
			for (const end of accepted) expect(end).toBeGreaterThan(unread[file as keyof typeof unread]);
		},
	);

	it("an image that ends early, wherever: XLU_E_IMAGE with the file's name", async () => {
		const whole = readFileSync(join(fixtures, "pv/pv1.xlsave.gz"));
		const host = copy("pv");
		for (const end of [1, 10, 100, 1000, 10_000, whole.length - 9, whole.length - 1]) {
			host.write("pv1.xlsave.gz", whole.subarray(0, end));
			const error = await refusalOf(host.path);
			expect([end, error?.code]).toEqual([end, "XLU_E_IMAGE"]);
			expect(error?.message).toContain("pv1.xlsave.gz");
		}
	});
});
