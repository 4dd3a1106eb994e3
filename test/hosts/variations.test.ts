/**
 * Captures that nobody has sent yet: what the formats allow and the three fixtures do not show, each made from a fixture
 * by edits of its text or of its image. Every one is updated live, is identical, and shows the ports and grants of its
 * own dumps.
 */
import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { FRAME, LIFE, PAGE_TYPE, VCPU_FLAG } from "../../src/format/enums.ts";
import { heldByTables, plus } from "../support/heldByTables.ts";
import {
	copies,
	type EditedHost,
	fixtureText,
	savedStream,
	type Updated,
	update,
	updatedFixture,
} from "../support/hosts.ts";
import { contextEntries, contextOf, libxcBody, libxcRecords, libxcStart, withBody } from "../support/libxc.ts";
import { addGuests, addImage, deadOnly, guestOf } from "../support/merge.ts";
import { dumpedDomains, dumpedEvents, dumpedGrants } from "./dumps.ts";

const copy = copies();

/** Updates a host and holds what comes out against its dumps. */
async function updated(host: EditedHost): Promise<Updated> {
	const result = await update(host.path);
	expect(result.report.difference).toBeNull();
	expect(result.report.identical).toBe(true);
	const events = dumpedEvents(host.text("debugkey-e.txt"));
	const grants = dumpedGrants(host.text("debugkey-g.txt"));
	const domains = dumpedDomains(host.text("debugkey-q.txt"));
	expect(result.domids).toEqual(domains.map(({ domid }) => domid).sort((a, b) => a - b));
	expect(result.ports).toEqual(events.ports.sort((a, b) => a.domid - b.domid || a.port - b.port));
	const active = result.domids.flatMap((domid) =>
		result.rows("GrantActive", domid).flatMap((row, ref) => (row.mfn ? [{ domid, ref, ...row }] : [])),
	);
	const expected = grants.map(({ gmfn: _gmfn, last: _last, sharedDomid: _shared, ...grant }) => grant);
	expect(active).toEqual(expected.sort((a, b) => a.domid - b.domid || a.ref - b.ref));
	const handles = result.domids.flatMap((domid) => result.rows("Maptrack", domid).filter(({ flags }) => flags));
	const pins = grants.map((grant) => grant.hostRead + grant.hostWrite + grant.deviceRead + grant.deviceWrite);
	expect(handles.length).toBe(pins.reduce((sum, count) => sum + count, 0));
	for (const domain of domains) {
		expect(result.rows("DomainCounts", domain.domid)[0]).toMatchObject({
			references: domain.refcnt,
			frames: domain.nrPages,
			xenheapFrames: domain.xenheapPages,
		});
	}
	return result;
}

/** Third column of every port of a domain's block (or all) exchanged. */
function columns(text: string, domid: number | undefined, column: (row: string) => string): string {
	let current = -1;
	return text
		.split("\n")
		.map((line) => {
			current = Number(/Event channel information for domain (\d+)/.exec(line)?.[1] ?? current);
			if (domid !== undefined && current !== domid) return line;
			return line.replace(/\[([01])\/([01])\/[^\]]*\]/, (_found, p, m) => `[${p}/${m}/${column(line)}]`);
		})
		.join("\n");
}

/** vCPU 1's ports stand in a word whose selector bit is set, the others' in one without. */
const selector = (row: string): string => (/ n=1 /.test(row) ? "1" : "0");

describe("2-level event channels", () => {
	it.each([["pv"], ["pvh"], ["hvm"]])("of the %s guest: bits in its shared_info, no FIFO pages", async (name) => {
		const domid = name === "hvm" ? 4 : 1;
		const host = copy(name).map("debugkey-e.txt", (text) => columns(text, domid, selector));
		const result = await updated(host);
		expect(result.rows("Evtchn", domid)[0]?.abi).toBe(0);
		expect(result.rows("Evtchn", 0)[0]?.abi).toBe(1);
		expect([...result.rows("ControlBlocks", domid), ...result.rows("EventArrays", domid)]).toEqual([]);
		const page = result.preserved(result.rows("SharedInfo", domid)[0]?.mfn as number);
		const { ports } = dumpedEvents(host.text("debugkey-e.txt"));
		const bits = (pick: (port: (typeof ports)[0]) => boolean) =>
			ports
				.filter((port) => port.domid === domid && pick(port))
				.reduce((word, { port }) => word | (1n << BigInt(port)), 0n);
		expect(page.getBigUint64(2048, true)).toBe(bits(({ pending }) => pending));
		expect(page.getBigUint64(2560, true)).toBe(bits(({ masked }) => masked));
		// evtchn_pending_sel of vCPU 0 and 1.
		expect([page.getBigUint64(8, true), page.getBigUint64(72, true)]).toEqual([0n, 1n]);
	});

	it("of dom0 and of the guest", async () => {
		const result = await updated(copy("pv").map("debugkey-e.txt", (text) => columns(text, undefined, selector)));
		expect(result.domids.map((domid) => result.rows("Evtchn", domid)[0]?.abi)).toEqual([0, 0]);
		const references = new Uint32Array(result.octets("FrameCounts").buffer).reduce(
			(sum, count, i) => sum + (i % 2 ? count : 0),
			0,
		);
		// Xenheap pages and writable mappings, but no event pages; what the guest's own tables hold.
		expect(references).toBe(5 + 15 + heldByTables(result, 1).sum.typeReferences);
	});

	it("up to port 4095, the last", async () => {
		const host = copy("pv").map("debugkey-e.txt", (text) =>
			columns(text, 1, selector).replace(/$/, "(XEN)     4095 [1/1/0]: s=2 n=0 x=0 d=0\n"),
		);
		const result = await updated(host);
		const page = result.preserved(result.rows("SharedInfo", 1)[0]?.mfn as number);
		expect([page.getUint8(2048 + 511), page.getUint8(2560 + 511)]).toEqual([0x80, 0x80]);
	});
});

describe("FIFO event channels", () => {
	it("with ports linked in a queue: words, head and tail as the links say", async () => {
		const host = copy("pv").map("debugkey-e.txt", (text) => {
			const at = text.indexOf("for domain 1:");
			const guest = text
				.slice(at)
				.replace(" 5 [0/0/  -   ]", " 5 [1/0/  7   ]")
				.replace(" 7 [0/0/  -   ]", " 7 [1/0/  4   ]")
				.replace(" 4 [0/0/  -   ]", " 4 [1/0/  0   ]")
				.replace("10 [0/0/  -   ]", "10 [1/0/B 0   ]");
			return text.slice(0, at) + guest;
		});
		const result = await updated(host);
		const array = result.preserved(result.rows("EventArrays", 1)[0]?.mfn as number);
		const word = (port: number) => array.getUint32(port * 4, true).toString(16);
		expect([word(5), word(7), word(4), word(10)]).toEqual(["a0000007", "a0000004", "a0000000", "b0000000"]);
		const blocks = result.bigRows("ControlBlocks", 1);
		expect(blocks.map(({ tail }) => (tail as number[])[7])).toEqual([4, 10]);
		const heads = blocks.map(({ mfn }) => result.preserved(Number(mfn)));
		expect(heads.map((page) => [page.getUint32(0, true), page.getUint32(8 + 28, true)])).toEqual([
			[1 << 7, 5],
			[1 << 7, 10],
		]);
	});

	it("with a port that is BUSY and not linked", async () => {
		const host = copy("pv").replace("debugkey-e.txt", " 2 [1/1/  -   ]", " 2 [1/1/B -   ]");
		const result = await updated(host);
		const array = result.preserved(result.rows("EventArrays", 1)[0]?.mfn as number);
		expect(array.getUint32(8, true)).toBe(0xd0000000);
	});

	it("with port 2000: two event-array frames, each with its references", async () => {
		const host = copy("pv").map("debugkey-e.txt", (text) =>
			text.replace(/$/, "(XEN)     2000 [1/1/  -   ]: s=2 n=1 x=0 d=0\n"),
		);
		const result = await updated(host);
		const arrays = result.rows("EventArrays", 1);
		expect(arrays.length).toBe(2);
		const mfn = arrays[1]?.mfn as number;
		expect(result.preserved(mfn).getUint32((2000 - 1024) * 4, true)).toBe(0xc0000000);
		expect(result.counts(mfn)).toEqual(plus(heldByTables(result, 1).of(mfn), 2, 1));
	});

	it("with port 131071, the last", async () => {
		const row = "(XEN)   131071 [0/1/  -   ]: s=2 n=1 x=0 d=0\n";
		const result = await updated(copy("pv").map("debugkey-e.txt", (text) => text.replace(/$/, row)));
		expect(result.rows("EventArrays", 1).length).toBe(128);
	});

	it("with a port whose event word the guest has not mapped: masked, and not pending", async () => {
		const row = "(XEN)     2000 [0/1/  ?   ]: s=2 n=1 x=0 d=0\n";
		const result = await updated(copy("pv").map("debugkey-e.txt", (text) => text.replace(/$/, row)));
		expect(result.rows("EventArrays", 1).length).toBe(1);
		expect(result.ports.at(-1)).toMatchObject({ port: 2000, pending: false, masked: true });
	});

	it("with a vCPU that polls a port", async () => {
		const host = copy("pv")
			.map("debugkey-e.txt", (text) => text.replace(/(domain 1:\n.*Polling vCPUs: \{)/, "$11"))
			.replace("debugkey-q.txt", /(VCPU1: .*poll=)0 (.*\n.*pause_flags=)0/, "$115 $21");
		const result = await updated(host);
		expect(result.bigRows("PollWords", 1)).toEqual([{ value: 2n }]);
		expect(result.rows("Vcpu", 1)[1]).toMatchObject({
			pollPort: 15,
			flags: VCPU_FLAG.exists | VCPU_FLAG.initialised | VCPU_FLAG.blocked,
		});
	});
});

/** The pv fixture's grant table as one of version 2: 3 grant frames hold as many references as 2 of version 1. */
function versionTwo(host: EditedHost, domid: number): EditedHost {
	const pages = ["b7001", "b7002"].map(
		(mfn) => `(XEN)     XenPage 00000000000${mfn}: caf=c000000000000001, taf=e400000000000001`,
	);
	return host
		.map("debugkey-g.txt", (text) =>
			text
				.replace(`remote d${domid} (v1)\n(XEN)   2 frames`, `remote d${domid} (v2)\n(XEN)   3 frames`)
				.replace(/0x19$/gm, "0x18"),
		)
		.map("debugkey-q.txt", (text) => {
			const at = text.indexOf(`General information for domain ${domid}:`);
			const guest = text
				.slice(at)
				.replace("xenheap_pages=3", "xenheap_pages=5")
				.replace(/(?<=XenPage.*\n)(?!.*XenPage)/, `${pages.join("\n")}\n`);
			return text.slice(0, at) + guest;
		});
}

describe("grant tables of version 2", () => {
	it.each([
		["pv", 1],
		["hvm", 4],
	])("of the %s guest: entries and status words in its pages, 5 xenheap pages", async (name, domid) => {
		const host = versionTwo(copy(name), domid);
		const result = await updated(host);
		expect(result.rows("GrantTable", domid)[0]).toMatchObject({
			version: 2,
			grantFrameCount: 3,
			statusFrameCount: 1,
		});
		const frames = result.rows("GrantFrames", domid);
		const [status] = result.rows("StatusFrames", domid);
		const words = result.preserved(status?.mfn as number);
		const grants = dumpedGrants(host.text("debugkey-g.txt"));
		expect(grants.length).toBe(13);
		for (const { ref, last, gmfn, sharedDomid } of grants) {
			expect(last).toBe(0x18);
			expect(words.getUint16(ref * 2, true)).toBe(last);
			const page = result.preserved(frames[ref >> 8]?.mfn as number);
			const at = (ref & 255) * 16;
			expect([page.getUint16(at, true), page.getUint16(at + 2, true)]).toEqual([1, sharedDomid]);
			expect(page.getBigUint64(at + 8, true)).toBe(BigInt(gmfn));
		}
		for (const { mfn } of [...frames, status]) {
			expect(result.counts(mfn as number)).toEqual({ references: 1, typeReferences: 1 });
		}
	});
});

describe("several guests on a host", () => {
	it("two: PV and HVM", async () => {
		const host = copy("hvm");
		addGuests(host, [guestOf("pv", 1)]);
		addImage(host, "pv");
		const result = await updated(host);
		expect(result.report.domains.map(({ domid, kind, ports }) => [domid, kind, ports])).toEqual([
			[0, "pv", 38],
			[1, "pv", 22],
			[4, "hvm", 26],
		]);
		expect(result.rows("Maptrack", 0).filter(({ flags }) => flags).length).toBe(30);
	});

	it("three: PV, PVH and HVM, one of them with 2-level channels and one with grants of version 2", async () => {
		const host = copy("hvm");
		addGuests(host, [guestOf("pv", 1), guestOf("pvh", 1, 7)]);
		addImage(host, "pv");
		addImage(host, "pvh");
		versionTwo(host, 4).map("debugkey-e.txt", (text) => columns(text, 7, selector));
		// versionTwo gave every grant a status word; those of version 1 have flags again.
		host.map("debugkey-g.txt", (text) => {
			let version = "";
			return text
				.split("\n")
				.map((line) => {
					version = /\((v\d)\)/.exec(line)?.[1] ?? version;
					return version === "v1" ? line.replace(/0x18$/, "0x19") : line;
				})
				.join("\n");
		});
		const result = await updated(host);
		expect(result.report.domains.map(({ domid, kind, grantMappings }) => [domid, kind, grantMappings])).toEqual([
			[0, "pv", 45],
			[1, "pv", 0],
			[4, "hvm", 0],
			[7, "pvh", 0],
		]);
		expect(result.domids.map((domid) => result.rows("Evtchn", domid)[0]?.abi)).toEqual([1, 1, 1, 0]);
		expect(result.domids.map((domid) => result.rows("GrantTable", domid)[0]?.version)).toEqual([1, 1, 2, 1]);
	});

	it("that map each other's frames and talk to each other", async () => {
		const host = copy("hvm");
		addGuests(host, [guestOf("pv", 1)]);
		addImage(host, "pv");
		host
			.map("debugkey-g.txt", (text) =>
				text
					.replace("1 0x0fac2 0x00000001          0", "1 0x0fac2 0x00000001          4")
					.replace("[0x008]      0 0x0fac2 0x00000001          0", "[0x008]      4 0x0fac2 0x00000102          4")
					.replace("[0x20b]      0 0xbda33 0x00000001          0", "[0x20b]      1 0xbda33 0x01000001          1"),
			)
			.map("debugkey-e.txt", (text) => {
				const at = text.indexOf("for domain 4:");
				return (
					text.slice(0, at).replace(/(16 \[0\/1\/ {2}- {3}\]: )s=2 n=0 x=0 d=0/, "$1s=3 n=0 x=0 d=4 p=20") +
					text.slice(at).replace(/(20 \[0\/1\/ {2}- {3}\]: )s=2 n=1 x=0 d=0/, "$1s=3 n=1 x=0 d=1 p=16")
				);
			});
		const result = await updated(host);
		expect(result.rows("Maptrack", 4).filter(({ flags }) => flags)).toEqual([
			{ domid: 1, reference: 8, flags: 2, vcpuId: 0 },
			{ domid: 1, reference: 8, flags: 2, vcpuId: 0 },
			{ domid: 1, reference: 8, flags: 2 | 4, vcpuId: 0 },
		]);
		expect(result.rows("Maptrack", 1).filter(({ flags }) => flags)).toEqual([
			{ domid: 4, reference: 0x20b, flags: 2, vcpuId: 0 },
			{ domid: 4, reference: 0x20b, flags: 1 | 4, vcpuId: 0 },
		]);
		// The PV guest's frame: allocated, three mappings, two of them writable; its own mapping besides.
		const { of } = heldByTables(result, 1);
		expect(of(0xfac2)).toEqual({ references: 1, typeReferences: 1 });
		expect(result.counts(0xfac2)).toEqual({ references: 5, typeReferences: 3 });
		// The HVM guest's: allocated, a device's mapping. The PV guest's host mapping would be counted at its L1 entry, of
		// which an image has none; no types.
		expect(result.counts(0xbda33)).toEqual({ references: 2, typeReferences: 0 });
		expect(result.ports).toContainEqual(
			expect.objectContaining({ domid: 1, port: 16, remoteDomid: 4, remotePort: 20 }),
		);
	});
});

describe("captures with fewer files, and other lines", () => {
	it("an uncompressed image without configuration, xl's output or optional dumps", async () => {
		const host = copy("pvh").image("pvh1.xlsave", () => undefined);
		host.remove("pvh1.cfg", "xl-info.txt", "xl-list-l.json", "xl-list.txt", "xl-vcpu-list.txt", "xenctx.txt");
		host.remove(...["0", "m", "s", "t", "v"].map((key) => `debugkey-${key}.txt`));
		expect(existsSync(host.file("pvh1.xlsave.gz"))).toBe(false);
		const result = await updated(host);
		expect(result.report.domains[1]).toMatchObject({ kind: "pvh", vcpus: 2, frames: 10192 });
		expect(result.host.assumptions.map(({ what }) => what)).toContain("registers of its vCPUs");
	});

	it.each<[string, (text: string) => string]>([
		["no (XEN) prefix", (text) => text.replace(/^\(XEN\) /gm, "")],
		["dates", (text) => text.replace(/^\(XEN\) /gm, "(XEN) [2026-11-21 01:02:03] ")],
		["dates with milliseconds", (text) => text.replace(/^\(XEN\) /gm, "(XEN) [2026-11-21 01:02:03.456] ")],
		["seconds since boot", (text) => text.replace(/^\(XEN\) /gm, "(XEN) [   12.345678] ")],
		["raw timestamps", (text) => text.replace(/^\(XEN\) /gm, "(XEN) [0000000123456789] ")],
		["CRLF", (text) => text.replaceAll("\n", "\r\n")],
		["CRLF and no prefix", (text) => text.replaceAll("\n", "\r\n").replace(/^\(XEN\) /gm, "")],
	])("lines with %s, which give the very stream of those without", async (_name, change) => {
		const host = copy("hvm");
		for (const key of ["e", "g", "q", "m", "0", "s", "v"]) host.map(`debugkey-${key}.txt`, change);
		const { report, stream } = await updatedFixture("hvm");
		expect(report.identical).toBe(true);
		expect(Buffer.from(savedStream(host.path)).equals(stream)).toBe(true);
	});
});

describe("dead domains", () => {
	it("a PV guest that is dead, beside a living one: its frames carry the mappers' references alone", async () => {
		const host = copy("pv");
		const dead = guestOf("zombie", 1, 5);
		// Domain 2, which maps one of the frames, is not there: dom0 does.
		dead.g = dead.g.replace("2 0x0f493 0x00000100          2", "0 0x0f493 0x00000100          0");
		// Frames where the living guest has none.
		const moved = {
			...dead,
			g: dead.g.replace(/0x(0+)([ef][0-9a-f]{3})\b/g, (_, zeros, mfn) => `0x${zeros.slice(1)}a${mfn}`),
			q: dead.q.replace(/0{12}([ef][0-9a-f]{3}):/g, "00000000000a$1:"),
		};
		addGuests(host, [moved]);
		const pages = dumpedDomains(moved.q).flatMap((domain) => domain.pages);
		expect(pages.length).toBe(13);
		const result = await updated(host);
		expect(result.rows("Domain", 5)[0]?.life).toBe(LIFE.dead);
		const explained = dumpedGrants(moved.g).map(({ mfn }) => mfn);
		expect(explained.length).toBe(4);
		for (const { mfn, references, typeReferences } of pages) {
			expect(result.owner(mfn)).toBe(5 | FRAME.owned);
			if (!explained.includes(mfn)) continue;
			expect([mfn, result.counts(mfn)]).toEqual([mfn, { references, typeReferences }]);
		}
		expect(result.rows("Maptrack", 0).filter(({ domid }) => domid === 5).length).toBe(9);
	});

	it("two, one of them PVH, on a host without a living guest", async () => {
		const host = deadOnly(copy("zombie"));
		const result = await updated(host);
		for (const { domid, pages } of dumpedDomains(host.text("debugkey-q.txt")).slice(1)) {
			expect(result.rows("Domain", domid)[0]?.life).toBe(LIFE.dead);
			for (const { ref, mfn } of dumpedGrants(host.text("debugkey-g.txt")).filter((grant) => grant.domid === domid)) {
				const { references, typeReferences } = pages.find((page) => page.mfn === mfn) as (typeof pages)[0];
				expect([domid, ref, result.counts(mfn)]).toEqual([domid, ref, { references, typeReferences }]);
				expect(result.type(mfn) & 7).toBe(typeReferences > 0 ? PAGE_TYPE.writable : PAGE_TYPE.none);
			}
		}
	});
});

describe("vCPUs", () => {
	/** Offset of `flags` in the context of a vCPU: after the record's own header of 8 octets. */
	const FLAGS = 8 + 512;
	const ONLINE = 32;

	it("one that is offline, with a context: down, and its registers kept", async () => {
		const host = copy("pv").image("pv1.xlsave", (image) => {
			const contexts = libxcRecords(image).filter(({ type }) => type === 4);
			const { offset } = contexts[1] as { offset: number };
			expect([image.readUInt32LE(offset), image.readUInt32LE(offset + FLAGS) & ONLINE]).toEqual([1, ONLINE]);
			image.writeUInt32LE(image.readUInt32LE(offset + FLAGS) & ~ONLINE, offset + FLAGS);
		});
		const result = await updated(host);
		expect(
			result.rows("Vcpu", 1).map(({ flags }) => (flags as number) & (VCPU_FLAG.initialised | VCPU_FLAG.down)),
		).toEqual([VCPU_FLAG.initialised, VCPU_FLAG.initialised | VCPU_FLAG.down]);
		expect(result.bigRows("PvVcpu", 1)[1]?.rip).toBe(0xffffffff8109b7a5n);
	});

	it.each([
		["pv", 1],
		["hvm", 4],
	])("%s: four, of which two have a context: the others exist and are down", async (name, domid) => {
		const row = (id: number) =>
			`(XEN)   UNIT${id} affinities: hard={0} soft={0}\n` +
			`(XEN)     VCPU${id}: CPU0 [has=F] poll=0 upcall_pend=00 upcall_mask=01 \n` +
			"(XEN)     pause_count=0 pause_flags=2\n(XEN) No periodic timer\n";
		const host = copy(name)
			.image(`${name}1.xlsave`, (image) => {
				const at = image.indexOf('"max_vcpus": 2');
				image.write('"max_vcpus": 4', at, "latin1");
			})
			.map("debugkey-q.txt", (text) => text.replace("(XEN) Notifying", `${row(2)}${row(3)}(XEN) Notifying`));
		const result = await updated(host);
		expect(result.rows("VcpuSlots", domid).map(({ vcpuId }) => vcpuId)).toEqual([0, 1, 2, 3]);
		const { exists, initialised, down } = VCPU_FLAG;
		const [first, , third, fourth] = result.rows("Vcpu", domid).map(({ flags }) => flags);
		expect([first, third, fourth]).toEqual([exists | initialised, exists | down, exists | down]);
	});

	it("one with a periodic timer, another with affinities of its own, on a host with 8 CPUs", async () => {
		const host = copy("pv")
			.replace("xl-info.txt", /nr_cpus.*/, "nr_cpus : 8")
			.map("debugkey-q.txt", (text) => {
				const at = text.indexOf("domain 1:");
				const guest = text
					.slice(at)
					.replace("No periodic timer", "periodic timer (period 10 ms)")
					.replace("UNIT1 affinities: hard={0} soft={0}", "UNIT1 affinities: hard={2-3,5} soft={0-7}");
				return text.slice(0, at) + guest;
			});
		const result = await updated(host);
		expect(result.rows("Vcpu", 1).map(({ periodicPeriodNs }) => periodicPeriodNs)).toEqual([10_000_000, 0]);
		expect(result.rows("HardAffinity", 1).map(({ value }) => value)).toEqual([1, 0b101100]);
		expect(result.rows("SoftAffinity", 1).map(({ value }) => value)).toEqual([1, 0xff]);
	});
});

describe("another Xen", () => {
	it("4.20, with LAPIC entries of 32 octets in the HVM context: kept as they are", async () => {
		let longer = Buffer.alloc(0);
		const host = copy("hvm")
			.replace("xl-info.txt", /xen_minor.*/, "xen_minor : 20")
			.image("hvm1.xlsave", (image) => {
				image.writeUInt32LE(20, libxcStart(image) + 24 + 12);
				const entries = contextEntries(libxcBody(image, 9)).map((entry) =>
					entry.type === 5 ? { ...entry, body: Buffer.concat([entry.body, Buffer.from("LAPIC+8+")]) } : entry,
				);
				expect(entries.filter(({ type }) => type === 5).map(({ body }) => body.length)).toEqual([32, 32]);
				longer = contextOf(entries);
				return withBody(image, 9, longer);
			});
		const result = await updated(host);
		expect(result.host.model.version).toMatchObject({ xenMajor: 4, xenMinor: 20 });
		expect(Buffer.from(result.octets("HvmContext", 4))).toEqual(longer);
	});

	it("4.20 with a PV guest whose image alone says so", async () => {
		const host = copy("pv")
			.remove("xl-info.txt")
			.image("pv1.xlsave", (image) => {
				image.writeUInt32LE(20, libxcStart(image) + 24 + 12);
			});
		const result = await updated(host);
		expect(result.host.model.version).toMatchObject({ xenMajor: 4, xenMinor: 20 });
	});
});

describe("domains", () => {
	it("without a limit of pages, paused several times, with assists above bit 31", async () => {
		const host = copy("pv").map("debugkey-q.txt", (text) => {
			const at = text.indexOf("for domain 1:");
			const guest = text
				.slice(at)
				.replace("max_pages=10496", "max_pages=4294967295")
				.replace("pause_count=1", "pause_count=3")
				.replace("vm_assist=0000002d", "vm_assist=10000002d");
			return text.slice(0, at) + guest;
		});
		const result = await updated(host);
		expect(result.rows("Domain", 1)[0]?.maxPages).toBe(0xffff_ffff);
		expect(result.rows("DomainState", 1)[0]).toMatchObject({ controllerPauseCount: 3, vmAssist: 0x2d });
		expect(result.host.assumptions).toContainEqual(
			expect.objectContaining({ domid: 1, how: expect.stringMatching(/^dropped: 0x10000002d/) }),
		);
	});

	it("with permissions for hardware", async () => {
		const host = copy("pv").map("debugkey-q.txt", (text) => {
			const at = text.indexOf("for domain 1:");
			const guest = text
				.slice(at)
				.replace("Interrupts { }", "Interrupts { 24, 30-31 }")
				.replace("I/O Memory { }", "I/O Memory { f0000-f00ff }")
				.replace("I/O Ports  { }", "I/O Ports  { 3f8-3ff }");
			return text.slice(0, at) + guest;
		});
		const result = await updated(host);
		expect(result.rows("CapRanges", 1).map(({ kind, first, last }) => [kind, first, last])).toEqual([
			[1, 0x3f8, 0x3ff],
			[2, 0xf0000, 0xf00ff],
			[3, 24, 24],
			[3, 30, 31],
		]);
	});

	it("none but dom0", async () => {
		const host = copy("pv").remove("pv1.xlsave.gz", "pv1.cfg");
		host
			.map("debugkey-e.txt", (text) =>
				text.replace(/\(XEN\) Event channel information for domain 1:[\s\S]*/, "").replace(/.* d=1 p=.*\n/g, ""),
			)
			.map("debugkey-g.txt", (text) => text.replace(/\(XEN\) grant-table for remote d1[\s\S]*(?=\(XEN\) gnttab_u)/, ""))
			.map("debugkey-q.txt", (text) =>
				text.replace(/\(XEN\) General information for domain 1:[\s\S]*?(?=\(XEN\) Notifying)/, ""),
			);
		const result = await updated(host);
		expect(result.report.domains.map(({ domid, ports, grantMappings }) => [domid, ports, grantMappings])).toEqual([
			[0, 25, 0],
		]);
	});

	it("an HVM guest whose second I/O request server has ports and pages of its own", async () => {
		expect(fixtureText("hvm/debugkey-q.txt")).toContain("ioreq_server 0 port");
		const host = copy("hvm")
			.map("debugkey-q.txt", (text) =>
				text
					.replace(
						/(\(XEN\) {5}ioreq_server 0 port .*\n)/,
						"$1(XEN)     ioreq_server 1 pci { 18 }\n(XEN)     ioreq_server 1 memory { fe000000-fe000fff }\n" +
							"(XEN)     ioreq_server 1 port { e000-e0ff }\n",
					)
					.replace(
						/(\(XEN\) {5}ExtraPage .*bdc27.*\n)/,
						"$1(XEN)     ExtraPage 00000000000bdc26: caf=8200000000000003, taf=e400000000000001\n" +
							"(XEN)     ExtraPage 00000000000bdc25: caf=8200000000000003, taf=e400000000000001\n",
					)
					.replace("refcnt=4", "refcnt=5"),
			)
			.map("debugkey-e.txt", (text) => {
				const at = text.indexOf("(XEN) Event channel information for domain 4");
				const dom0 =
					"34 [0/0/  -   ]: s=3 n=0 x=0 d=4 p=27|35 [0/0/  -   ]: s=3 n=0 x=0 d=4 p=28|36 [0/0/  -   ]: s=3 n=0 x=0 d=4 p=29";
				const guest =
					"27 [0/1/  -   ]: s=3 n=0 x=1 d=0 p=34|28 [0/1/  -   ]: s=3 n=0 x=1 d=0 p=35|29 [0/1/  -   ]: s=3 n=1 x=1 d=0 p=36";
				const rows = (list: string) =>
					list
						.split("|")
						.map((row) => `(XEN)       ${row}\n`)
						.join("");
				return text.slice(0, at) + rows(dom0) + text.slice(at) + rows(guest);
			});
		const result = await updated(host);
		expect(result.rows("IoreqServerList", 4).map(({ serverId }) => serverId)).toEqual([0, 1]);
		const pages = result.rows("IoreqPages", 4);
		expect(pages.map(({ serverId, mfn }) => [serverId, mfn])).toEqual([
			[0, 0xbdc28],
			[0, 0xbdc27],
			[1, 0xbdc26],
			[1, 0xbdc25],
		]);
		for (const { mfn } of pages) expect(result.counts(mfn as number)).toEqual({ references: 3, typeReferences: 1 });
		expect(result.rows("IoreqPorts", 4).map(({ serverId, vcpuId, port }) => [serverId, vcpuId, port])).toEqual([
			[0, 0, 3],
			[0, 1, 5],
			[1, 0, 27],
			[1, 1, 29],
		]);
		expect(result.rows("IoreqServerList", 4).map(({ bufferedPort }) => bufferedPort)).toEqual([4, 28]);
	});
});
