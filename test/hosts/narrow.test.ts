/**
 * A captured 32-bit PV guest: the captured PV host, whose guest's image was made one of a 32-bit guest
 * (support/narrowImage.ts). It is updated live, its counts are held against its tables, and against what the 64-bit guest has
 * that it was made of.
 */
import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { PAGE_TYPE, PAGE_TYPE_FLAG } from "../../src/format/enums.ts";
import { pfnOfCr3 } from "../../src/formats/libxc/guestContext32.ts";
import { loadHost } from "../../src/host.ts";
import { Machine, type Operation } from "../../src/machine/live/index.ts";
import { xlu } from "../cli/xlu.ts";
import { heldByTables, plus } from "../support/heldByTables.ts";
import { copies, type EditedHost, refusalOf, update, updatedFixture } from "../support/hosts.ts";
import { imageDifference, updateMachine } from "../support/living.ts";
import { type NarrowOptions, narrowImage, XEN_SLOT } from "../support/narrowImage.ts";
import { checkInvariants, doneAll, pte, references, refused } from "../support/operations.ts";

const GUEST = 1;
const copy = copies();
const narrowHost = (options?: NarrowOptions): EditedHost =>
	copy("pv").image("pv1.xlsave", (image) => narrowImage(image, options));
/** What is not the guest's holds nonsense, as if libxc had left it in: nobody may read it. */
const plain = narrowHost({ noise: true });
const narrow = await update(plain.path);
const wide = await updatedFixture("pv");

const XEN_L2 = PAGE_TYPE.l2 | PAGE_TYPE_FLAG.validated | PAGE_TYPE_FLAG.paeXenL2;

const { owns } = heldByTables(narrow, GUEST);
const types = narrow.octets("FrameTypes");

/** Frames of the guest by their type, as the restored image has it. */
function framesOfType(type: number): number[] {
	return [...types.entries()].flatMap(([mfn, entry]) => (entry === type && owns(mfn) ? [mfn] : []));
}

describe("a captured 32-bit PV guest", () => {
	it("is updated live: identical, counts included; a stream of version 1 cannot hold it", () => {
		expect([narrow.report.identical, narrow.report.difference]).toEqual([true, null]);
		expect(narrow.rows("Domain", GUEST)[0]).toMatchObject({ kind: 1, guestWidth: 4 });
		expect(narrow.rows("Pv32", GUEST)).toEqual([{ xenStart: 0xf580_0000 }]);
		expect(narrow.rows("PvVcpu", GUEST)).toEqual([]);
		const file = plain.file("host.xlu");
		expect(xlu(["save", plain.path, "--format", "1", "-o", file])).toMatchObject({
			status: 1,
			stderr: expect.stringMatching(/XLU-R047.*LU_PV32, domain 1/),
		});
		expect(existsSync(file)).toBe(false);
		expect(xlu(["audit", plain.path])).toMatchObject({ status: 0, stdout: expect.stringContaining("clean") });
	});

	it("says what is assumed of it", () => {
		const { stdout } = xlu(["inspect", plain.path]);
		expect(stdout).toMatch(/1 +where Xen's part of its address space begins +defaulted to 0xf5800000/);
		expect(stdout).toContain("Xen's own slots of an L2 with its part to zero");
		expect(stdout).toContain("vCPU 0's edx");
	});

	it("has in its registers the low halves of those that it was made of, CR3 and GDT with MFNs", () => {
		const rows = narrow.bigRows("Pv32Vcpu", GUEST);
		const low = (value: unknown) => Number(BigInt.asUintN(32, value as bigint));
		expect(rows.length).toBe(2);
		for (const [id, from] of wide.bigRows("PvVcpu", GUEST).entries()) {
			const row = rows[id] as Record<string, unknown>;
			const names = ["ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip", "flags"];
			expect(names.map((name) => [name, row[`e${name}`]])).toEqual(names.map((name) => [name, low(from[`r${name}`])]));
			const [cr, dr] = [from.cr as bigint[], from.dr as bigint[]];
			expect([row.cr0, row.cr2, row.cr4]).toEqual([cr[0], cr[2], cr[4]].map(low));
			// The frame is the same, which then was an L4 table.
			expect(row.cr3).toBe(cr[3]);
			expect(row.dr).toEqual(dr.map(low));
			expect([row.gdtMfn, row.gdtEntries]).toEqual([from.gdtMfn, from.gdtEntries]);
			expect([row.cs, row.ss, row.kernelSs]).toEqual([0xe019, 0xe021, 0xe021]);
			expect([row.eventCallbackCs, row.eventCallbackEip]).toEqual([0xe019, low(from.eventCallback)]);
			expect([row.failsafeCallbackCs, row.failsafeCallbackEip]).toEqual([0xe019, low(from.failsafeCallback)]);
			expect(row.flags).toBe(from.flags);
		}
		expect(narrow.octets("PvFpu", GUEST)).toEqual(wide.octets("PvFpu", GUEST));
		expect(narrow.octets("PvXsave", GUEST)).toEqual(wide.octets("PvXsave", GUEST));
		const traps = narrow.rows("PvTraps", GUEST);
		expect(traps.filter(({ address }) => address)).toHaveLength(64);
		expect(traps[14]).toMatchObject({ vector: 14, cs: 0xe019 });
	});

	it("has tables of three levels: 13 L3, each with an L2 of its own with Xen's part; L1 and other L2 as before", () => {
		const { l1, l2, l3 } = PAGE_TYPE;
		const { pinned, validated } = PAGE_TYPE_FLAG;
		const count = (type: number) => framesOfType(type).length;
		expect([count(l3 | validated | pinned), count(XEN_L2), count(l2 | validated)]).toEqual([13, 13, 19]);
		expect(count(l1 | validated) + count(l1 | validated | pinned)).toBe(50);
		for (const type of [l3 | validated, PAGE_TYPE.l4 | validated, PAGE_TYPE.l4 | validated | pinned]) {
			expect(count(type)).toBe(0);
		}
		for (const mfn of framesOfType(l3 | validated | pinned)) {
			const page = narrow.preserved(mfn);
			const targets = Array.from({ length: 512 }, (_, slot) =>
				Number((page.getBigUint64(8 * slot, true) >> 12n) & 0xff_ffff_ffffn),
			);
			expect(targets.slice(0, 4).map((target) => narrow.type(target))).toEqual([
				...Array(3).fill(l2 | validated),
				XEN_L2,
			]);
			expect(targets.slice(4).every((target) => target === 0)).toBe(true);
		}
		for (const mfn of framesOfType(XEN_L2)) {
			const page = narrow.preserved(mfn);
			const rest = new Uint8Array(page.buffer, page.byteOffset + 8 * XEN_SLOT, 4096 - 8 * XEN_SLOT);
			expect(rest.every((octet) => octet === 0)).toBe(true);
			expect(narrow.counts(mfn).typeReferences).toBe(1);
		}
	});

	it("has the counts that its tables, pins and vCPUs make, frame by frame", () => {
		const held = heldByTables(narrow, GUEST);
		const pins = new Map<number, number>();
		for (const { mfn = 0, hostWrite = 0 } of narrow.rows("GrantActive", GUEST)) {
			if (hostWrite > 0) pins.set(mfn, (pins.get(mfn) ?? 0) + hostWrite);
		}
		const events = new Set([
			...narrow.rows("EventArrays", GUEST).map(({ mfn }) => mfn),
			...narrow.rows("ControlBlocks", GUEST).map(({ mfn }) => mfn),
		]);
		let tables = 0;
		for (const [mfn, type] of types.entries()) {
			if (!owns(mfn) || narrow.owner(mfn) & (1 << 18)) continue;
			// Allocated; dom0's mappings of grants, whose tables nobody knows; event pages.
			const more = (pins.get(mfn) ?? 0) + (events.has(mfn) ? 1 : 0);
			expect([mfn, narrow.counts(mfn)]).toEqual([mfn, plus(held.of(mfn), 1 + more, more)]);
			tables += type & 7 ? 1 : 0;
		}
		expect(tables).toBeGreaterThan(5000);
		// What L1 tables map did not change.
		const lowest = (of: ReturnType<typeof heldByTables>) => of.entries.filter(({ level }) => level === 1);
		expect(lowest(held)).toEqual(lowest(heldByTables(wide, GUEST)));
	});

	it("has shared_info of words of 32 bits, and the wall clock where such a guest has it", async () => {
		const page = narrow.preserved(narrow.rows("SharedInfo", GUEST)[0]?.mfn as number);
		const host = (updated: typeof narrow) => updated.bigRows("Host")[0];
		expect(host(narrow)?.wallclockSec).toBe(host(wide)?.wallclockSec);
		expect(host(narrow)?.wallclockNsec).toBe(host(wide)?.wallclockNsec);
		expect(BigInt(page.getUint32(2308, true))).toBe(host(wide)?.wallclockSec);
		// arch.max_pfn; the upcall masks of both vCPUs.
		expect([page.getUint32(2316, true), page.getUint8(1), page.getUint8(65)]).toEqual([
			wide.preserved(wide.rows("SharedInfo", GUEST)[0]?.mfn as number).getUint32(3088, true),
			1,
			1,
		]);
		// The high half of the seconds stands behind x86's part.
		const later = await update(narrowHost({ seconds: 3 }).path);
		expect(host(later)?.wallclockSec).toBe((3n << 32n) + (host(wide)?.wallclockSec as bigint));
	});

	it("has 2-level channels in words of 32 ports, up to port 1023", async () => {
		const twoLevel = (last: number) =>
			narrowHost().map("debugkey-e.txt", (text) =>
				text.replace(/for domain 1:.*/s, (rest) =>
					rest
						.replaceAll(/\[(.)\/(.)\/ {2}- {3}\](.* n=1 )/g, "[$1/$2/1]$3")
						.replaceAll(/\/ {2}- {3}\]/g, "/0]")
						.replace(/$/, `(XEN)     ${last} [1/1/1]: s=2 n=1 x=0 d=0\n`),
				),
			);
		const updated = await update(twoLevel(1023).path);
		expect(updated.report.identical).toBe(true);
		expect(updated.rows("Evtchn", GUEST)[0]?.abi).toBe(0);
		const page = updated.preserved(updated.rows("SharedInfo", GUEST)[0]?.mfn as number);
		const ports = updated.ports.filter(({ domid }) => domid === GUEST);
		expect(ports.filter(({ port }) => port < 1023).length).toBeGreaterThan(10);
		for (let port = 0; port < 1024; port++) {
			const bit = (at: number) => ((page.getUint8(at + (port >> 3)) >> (port & 7)) & 1) === 1;
			const found = ports.find((one) => one.port === port);
			expect([port, bit(2048), bit(2176)]).toEqual([port, found?.pending ?? false, found?.masked ?? false]);
		}
		// vCPU 1's evtchn_pending_sel: its ports' word, and that of port 1023.
		expect(page.getUint32(64 + 4, true)).toBe(0x8000_0001);
		expect(await refusalOf(twoLevel(1024).path)).toMatchObject({
			code: "XLU_E_CAPTURE",
			message: expect.stringContaining("expected below 1024 (2-level), got 1024"),
		});
	});

	it("has a CR3 that names frames beyond 4 GiB", () => {
		expect([0x1000, 0xffff_f000, 0x0000_2001, 0xffff_ffff].map(pfnOfCr3)).toEqual([
			1, 0xf_ffff, 0x10_0002, 0xffff_ffff,
		]);
	});

	it("lives on: its tables change by operations, an update in between", () => {
		const machine = Machine.fromHost(loadHost(plain.path));
		checkInvariants(machine);
		const [root] = framesOfType(PAGE_TYPE.l3 | PAGE_TYPE_FLAG.validated | PAGE_TYPE_FLAG.pinned) as [number];
		const entry = (slot: number) => Number((machine.memory.entry(root, slot) >> 12n) & 0xff_ffff_ffffn);
		const [l2, xenL2] = [entry(0), entry(3)];
		const lowest = Number((machine.memory.entry(xenL2, 0) >> 12n) & 0xff_ffff_ffffn);
		const change = (table: number, slot: number, value: string): Operation => ({
			op: "mmu_update",
			domid: GUEST,
			table,
			slot,
			value,
		});
		const before = references(machine, lowest);
		doneAll(machine, change(xenL2, XEN_SLOT - 1, pte(lowest, "rw")), change(root, 0, "0x0"));
		refused(machine, change(xenL2, XEN_SLOT, pte(lowest, "rw")), "EPERM");
		refused(machine, change(root, 3, "0x0"), "EINVAL");
		const updated = updateMachine(machine);
		expect(imageDifference(updated.before, updated.after)).toBeUndefined();
		expect(references(updated.machine, lowest)).toEqual(before.map((count) => count + 1));
		doneAll(updated.machine, change(root, 0, pte(l2, "rw")), change(xenL2, XEN_SLOT - 1, "0x0"));
		expect(references(updated.machine, lowest)).toEqual(before);
		checkInvariants(updated.machine);
	});
});

describe("a captured 32-bit PV guest is refused", () => {
	const entry = (pfn: number): bigint => (BigInt(pfn) << 12n) | 0x27n;
	const cases: [string, NarrowOptions, object][] = [
		[
			"with an L1 entry of a PFN that it does not have",
			{ edit: (page, { l1 }) => page(l1[0] as number).writeBigUInt64LE(entry(0x9_9999), 0) },
			{ code: "XLU_E_CAPTURE", got: "0x99999" },
		],
		[
			"with an L3 table whose last entry is not present",
			{ edit: (page, { l3 }) => page(l3[0] as number).writeBigUInt64LE(0n, 24) },
			{ code: "XLU_E_REFUSED", rule: "XLU-R057", domid: GUEST },
		],
		[
			"with an L3 table whose last entry names an L1 table",
			{ edit: (page, { l3, l1 }) => page(l3[0] as number).writeBigUInt64LE(entry(l1[0] as number), 24) },
			{ code: "XLU_E_REFUSED", rule: "XLU-R057", domid: GUEST },
		],
		[
			"with two L3 tables that have one L2 with Xen's part",
			{ edit: (page, { l3, xenL2 }) => page(l3[1] as number).writeBigUInt64LE(entry(xenL2[0] as number), 24) },
			{ code: "XLU_E_REFUSED", rule: "XLU-R057", domid: GUEST },
		],
		[
			"with an entry before the last that names an L2 with Xen's part",
			{ edit: (page, { l3, xenL2 }) => page(l3[1] as number).writeBigUInt64LE(entry(xenL2[0] as number), 0) },
			{ code: "XLU_E_REFUSED", rule: "XLU-R057", domid: GUEST },
		],
	];
	it.each(cases)("%s", async (_, options, expected) => {
		expect(await refusalOf(narrowHost(options).path)).toMatchObject(expected);
	});

	it("with a P2M table that has fewer frames than the dump", async () => {
		const host = narrowHost().replace("debugkey-q.txt", "nr_pages=10240", "nr_pages=10239");
		expect(await refusalOf(host.path)).toMatchObject({
			code: "XLU_E_CAPTURE",
			got: "10240 in the guest's P2M table",
		});
	});

	it("with contexts of 64 bits: the image contradicts itself", async () => {
		const host = copy("pv").image("pv1.xlsave", (image) => narrowImage(image, { wideContexts: true }));
		expect(await refusalOf(host.path)).toMatchObject({ code: "XLU_E_IMAGE", expected: "2800 octets", got: "5168" });
	});
});
