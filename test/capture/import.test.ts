import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, describe, expect, it } from "vitest";
import { describeImport, type ImportedHost, importCapture } from "../../src/capture/import/index.ts";
import { type CapturedDomain, type CapturedHost, readCapture } from "../../src/capture/read.ts";
import {
	FRAME,
	FRAME_OWNER_MASK,
	GRANT_MAP,
	KIND,
	LIFE,
	NONE64,
	PAGE_TYPE,
	PAGE_TYPE_FLAG,
	VCPU_FLAG,
} from "../../src/format/enums.ts";
import type { Struct } from "../../src/format/layout.ts";
import { guestContext64, trapInfo } from "../../src/formats/libxc/guestContext.ts";
import { pvP2m } from "../../src/formats/libxc/p2m.ts";
import { guestPageLayouts } from "../../src/machine/guestPages.ts";
import { buildImage } from "../../src/machine/image.ts";
import type { DomainModel } from "../../src/machine/model.ts";
import { countReferences } from "../../src/machine/references.ts";
import { errorOf, fixtures, fixtureText } from "./helpers.ts";

const scratch = mkdtempSync(join(tmpdir(), "xlu-import-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

let copies = 0;
/** A changed copy of a fixture. */
function changed(host: string, change: (edit: Edit, directory: string) => void): CapturedHost {
	const directory = join(scratch, `${host}-${copies++}`);
	cpSync(join(fixtures, host), directory, { recursive: true });
	change((file, from, to) => {
		const path = join(directory, file);
		const text = readFileSync(path, "utf8");
		const edited = typeof to === "string" ? text.replaceAll(from, to) : text.replaceAll(from, to);
		expect(edited, `${file} unchanged by ${from}`).not.toBe(text);
		writeFileSync(path, edited);
	}, directory);
	return readCapture(directory);
}
type Edit = (file: string, from: string | RegExp, to: string | ((found: string) => string)) => void;

interface Loaded {
	capture: CapturedHost;
	guest: CapturedDomain;
	imported: ImportedHost;
	dom0Model: DomainModel;
	model: DomainModel;
}

function load(capture: CapturedHost): Loaded {
	const imported = importCapture(capture);
	const guest = capture.domains.at(-1) as CapturedDomain;
	const [dom0Model] = imported.model.domains as [DomainModel];
	const model = imported.model.domains.at(-1) as DomainModel;
	return { capture, guest, imported, dom0Model, model };
}

const hosts = new Map<string, Loaded>();
function host(name: string): Loaded {
	const loaded = hosts.get(name) ?? load(readCapture(join(fixtures, name)));
	hosts.set(name, loaded);
	return loaded;
}

const HOSTS = [["pv"], ["pvh"], ["hvm"]];
const entryOf = ({ model }: ImportedHost, mfn: number): number => Number(model.frameOwners[mfn] ?? 0n);
const ownerOf = (imported: ImportedHost, mfn: number): number | undefined => {
	const entry = entryOf(imported, mfn);
	return entry === 0 ? undefined : entry & FRAME_OWNER_MASK;
};
const typeOf = ({ model }: ImportedHost, mfn: number): number => model.frameTypes[mfn] ?? 0;
const pageOf = ({ preserved }: ImportedHost, mfn: number | bigint | undefined): DataView => {
	const page = preserved.get(Number(mfn)) as Uint8Array;
	expect(page).toHaveLength(4096);
	return new DataView(page.buffer, page.byteOffset, page.byteLength);
};
const mfnAt = (model: DomainModel, gfn: number): number => Number((model.p2m?.[gfn] ?? 0n) & 0xff_ffff_ffffn);
const orderAt = (model: DomainModel, gfn: number): number => Number(((model.p2m?.[gfn] ?? 0n) >> 48n) & 0x3fn);

const PRESENT = 1;
const WRITABLE = 2;

/** Present entries of a preserved page table: MFN and flags. */
function* presentEntries(page: Uint8Array): Generator<{ mfn: number; writable: boolean }> {
	const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
	for (let at = 0; at < 4096; at += 8) {
		const entry = view.getBigUint64(at, true);
		if (Number(entry & 0xfffn) & PRESENT) {
			const mfn = Number((entry >> 12n) & 0xff_ffff_ffffn);
			yield { mfn, writable: (Number(entry & 0xfffn) & WRITABLE) !== 0 };
		}
	}
}

/** Registers of xenctx.txt, by vCPU. */
function xenctx(name: string): Map<string, bigint>[] {
	const vcpus: Map<string, bigint>[] = [];
	for (const block of fixtureText(`${name}/xenctx.txt`)
		.split(/^vcpu\d+:$/m)
		.slice(1)) {
		const registers = new Map<string, bigint>();
		const head = block.slice(0, block.indexOf("Code (instr"));
		for (const [, key = "", value = ""] of head.matchAll(/\b([a-z]{1,5}\d{0,2}): ([0-9a-f]{4,16})\b/g)) {
			registers.set(key, BigInt(`0x${value}`));
		}
		const [, kernel, user] = /gs: [0-9a-f]{4} @ ([0-9a-f]{16})\/([0-9a-f]{16})/.exec(head) ?? [];
		registers.set("gsBaseKernel", BigInt(`0x${kernel}`));
		registers.set("gsBaseUser", BigInt(`0x${user}`));
		vcpus.push(registers);
	}
	return vcpus;
}

describe("guest structures are laid out as Xen's public headers say", () => {
	const abi = JSON.parse(readFileSync(join(fixtures, "../guest-abi.json"), "utf8")) as {
		structs: Record<string, { size: number; fields: Record<string, { offset: number }> }>;
	};
	/** Names of ours that are not the header's in camel case. */
	const renamed: Record<string, string> = {
		"grant_entry_v2.flags": "hdr.flags",
		"grant_entry_v2.domid": "hdr.domid",
		"grant_entry_v2.frame": "full_page.frame",
		"vcpu_guest_context.fpu": "fpu_ctxt",
		"vcpu_guest_context.traps": "trap_ctxt",
		"vcpu_guest_context.ldtEntries": "ldt_ents",
		"vcpu_guest_context.gdtEntries": "gdt_ents",
		"vcpu_guest_context.cr": "ctrlreg",
		"vcpu_guest_context.dr": "debugreg",
		"vcpu_guest_context.eventCallback": "event_callback_eip",
		"vcpu_guest_context.failsafeCallback": "failsafe_callback_eip",
		"vcpu_guest_context.syscallCallback": "syscall_callback_eip",
	};
	const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

	it.each([...guestPageLayouts, guestContext64, trapInfo].map((struct): [string, Struct] => [struct.name, struct]))(
		"%s",
		(name, struct) => {
			const known = abi.structs[name];
			expect(known?.size).toBe(struct.size);
			const registers = abi.structs.cpu_user_regs?.fields ?? {};
			const base = known?.fields.user_regs?.offset ?? 0;
			for (const field of struct.fields.filter((candidate) => !candidate.reserved && known?.fields !== undefined)) {
				const header = renamed[`${name}.${field.name}`] ?? snake(field.name);
				const register = registers[header];
				const offset =
					known?.fields[header]?.offset ??
					(register && name === "vcpu_guest_context" ? base + register.offset : undefined);
				if (name !== "grant_status") {
					expect([field.name, field.offset]).toEqual([field.name, offset]);
				}
			}
		},
	);
});

describe.each(HOSTS)("frames of the captured %s host", (name) => {
	it("each domain owns nr_pages frames, its xenheap and its extra pages", () => {
		const { capture, imported } = host(name);
		const counts = new Map<string, number>();
		let unallocated = 0;
		for (const entry of imported.model.frameOwners) {
			const bits = Number(entry);
			if (bits !== 0) {
				const sort = bits & FRAME.xenheap ? "xenheap" : bits & FRAME.extra ? "extra" : "ordinary";
				const key = `${bits & FRAME_OWNER_MASK} ${sort}`;
				counts.set(key, (counts.get(key) ?? 0) + 1);
				unallocated += bits & FRAME.owned && bits & FRAME.allocated ? 0 : 1;
			}
		}
		expect(unallocated).toBe(0);
		for (const { domid, info } of capture.domains) {
			expect(counts.get(`${domid} ordinary`)).toBe(info.nrPages);
			expect(counts.get(`${domid} xenheap`)).toBe(info.xenheapPages);
			expect(counts.get(`${domid} extra`) ?? 0).toBe(info.extraPages.length);
		}
	});

	it("nobody owns bootmem, Xen's image, re-usable memory or kept page tables; the M2P is Xen's and long enough", () => {
		const { imported, model } = host(name);
		const nobodys = [...imported.model.regionList, ...(model.keptRanges ?? [])];
		const seen = new Set<number>();
		for (const { firstMfn, frameCount } of nobodys) {
			for (let mfn = Number(firstMfn); mfn < Number(firstMfn) + Number(frameCount); mfn++) {
				if (ownerOf(imported, mfn) !== undefined || seen.has(mfn)) {
					expect.fail(`MFN ${mfn} is owned or in two ranges`);
				}
				seen.add(mfn);
			}
		}
		let m2p = 0;
		for (const { firstMfn, frameCount } of imported.model.m2pRanges) {
			m2p += Number(frameCount);
			expect(ownerOf(imported, Number(firstMfn))).toBe(0x7ff2);
		}
		expect(m2p * 512).toBeGreaterThanOrEqual(imported.model.frameOwners.length);
		const free = imported.model.frameOwners.reduce((sum, entry) => sum + (entry === 0n ? 1 : 0), 0) - seen.size;
		expect(free).toBeGreaterThan(0x2000);
	});

	it("granted, xenheap and extra frames are where the dumps have them", () => {
		const { guest, imported, model } = host(name);
		for (const { mfn, gmfn } of guest.grants.active) {
			expect(ownerOf(imported, mfn)).toBe(guest.domid);
			if (model.domain.kind !== KIND.pv) {
				expect(mfnAt(model, gmfn)).toBe(mfn);
			}
		}
		for (const [pages, flag] of [
			[guest.info.xenPages, FRAME.xenheap],
			[guest.info.extraPages, FRAME.extra],
		] as const) {
			for (const { mfn } of pages) {
				expect(entryOf(imported, mfn) & (flag | FRAME_OWNER_MASK)).toBe(flag | guest.domid);
				expect(typeOf(imported, mfn)).toBe(PAGE_TYPE.writable | PAGE_TYPE_FLAG.validated);
			}
		}
		expect(model.sharedInfo?.mfn).toBe(guest.info.xenPages[0]?.mfn);
		expect(model.grantFrames?.map(({ mfn }) => mfn)).toEqual(guest.info.xenPages.slice(1).map(({ mfn }) => mfn));
	});

	it("counts that follow are those of the dump: references of domains, of xenheap and of extra pages", () => {
		const { capture, imported } = host(name);
		const references = countReferences(imported.model, imported.preserved);
		for (const { domid, info } of capture.domains) {
			expect(references.domains.get(domid)?.references).toBe(info.refcnt);
			// dom0's own page tables map its pages once more; no dump has them.
			for (const { mfn, caf, taf } of domid === 0 ? [] : [...info.xenPages, ...info.extraPages]) {
				const counts = [...references.frames.slice(2 * mfn, 2 * mfn + 2)];
				expect(counts).toEqual([Number(caf & 0xffffn), Number(taf & 0xffffn)]);
			}
		}
	});

	it("makes an image, and lists what it assigned in words", () => {
		const { imported } = host(name);
		expect(buildImage(imported.model, imported.preserved).length).toBeGreaterThan(0);
		expect(imported.assumptions.every(({ how }) => /assigned|defaulted|derived|debugkey|image/.test(how))).toBe(true);
		const text = describeImport(imported);
		expect(text).toMatch(/bootmem.*assigned: 64 MiB at MFN 0x/);
		expect(text).toMatch(/domain \d+: event-array frames: assigned: MFN 0x/);
		expect(text).not.toMatch(/undefined|NaN/);
	});

	it("channels: every port of the dump, its word in the assigned event array, empty queues", () => {
		const { capture, imported } = host(name);
		for (const [index, { domid, events, grants, info }] of capture.domains.entries()) {
			const model = imported.model.domains[index] as DomainModel;
			const used = model.ports?.flatMap((port, number) => (port === undefined ? [] : [number]));
			expect(used).toEqual(events.ports.map(({ port }) => port));
			expect(model.eventArrays).toHaveLength(1);
			const array = Number(model.eventArrays?.[0]?.mfn);
			const words = pageOf(imported, array);
			for (const port of events.ports) {
				const word = (port.pending ? 2 ** 31 : 0) + (port.masked ? 2 ** 30 : 0);
				expect(words.getUint32(4 * port.port, true)).toBe(word);
				expect(model.ports?.[port.port]).toMatchObject({ state: port.state, notifyVcpu: port.notifyVcpu });
				expect(model.ports?.[port.port]?.remotePort).toBe(port.remotePort);
			}
			expect(model.controlBlocks?.map(({ vcpuId }) => vcpuId)).toEqual(info.vcpus.map(({ id }) => id));
			const frames = [array, ...(model.controlBlocks ?? []).map(({ mfn }) => Number(mfn))];
			expect(new Set(frames).size).toBe(1 + info.vcpus.length);
			for (const mfn of frames) {
				expect(ownerOf(imported, mfn)).toBe(domid);
				expect(grants.active.some((grant) => grant.mfn === mfn)).toBe(false);
				expect(typeOf(imported, mfn)).toBe(PAGE_TYPE.writable | PAGE_TYPE_FLAG.validated);
			}
			for (const { tail, mfn } of model.controlBlocks ?? []) {
				expect(tail).toEqual(new Array(16).fill(0));
				expect(pageOf(imported, mfn).getUint32(0, true)).toBe(0);
			}
		}
	});

	it("dom0's maptrack: 15 handles, one for each host-write pin, ascending", () => {
		const { dom0Model, guest, model, imported } = host(name);
		const handles = (dom0Model.maptrack ?? []).flatMap((handle) => (handle === undefined ? [] : [handle]));
		expect(handles).toHaveLength(15);
		expect(dom0Model.maptrack?.indexOf(undefined)).toBe(15);
		expect(handles.every(({ flags, domid }) => flags === GRANT_MAP.host && domid === guest.domid)).toBe(true);
		const refs = handles.map(({ reference }) => Number(reference));
		expect(refs).toEqual([...refs].sort((a, b) => a - b));
		expect(refs.slice(0, 5)).toEqual([0, 0, 1, 1, 8]);
		expect(model.grantActive).toHaveLength(1024);
		expect(model.grantActive?.[0]).toMatchObject({ grantee: 0, hostWrite: 2, hostRead: 0 });
		const [first, second] = model.grantFrames ?? [];
		const { gmfn } = guest.grants.active[3] ?? { gmfn: -1 };
		expect(pageOf(imported, first?.mfn).getUint16(0, true)).toBe(0x19);
		const at = (0x209 - 512) * 8;
		const page = pageOf(imported, second?.mfn);
		expect([page.getUint16(at, true), page.getUint16(at + 2, true), page.getUint32(at + 4, true)]).toEqual([
			0x19,
			0,
			gmfn,
		]);
	});

	it("dom0: registers of debug key 0, its cr3 among its own frames, permissions by kind", () => {
		const { capture, dom0Model, imported } = host(name);
		const registers = capture.dom0Registers?.[0]?.registers;
		const row = dom0Model.pvVcpu?.[0];
		for (const key of ["rip", "rsp", "rax", "r15", "rflags"] as const) {
			expect(row?.[key]).toBe(registers?.get(key));
		}
		expect(row?.cs).toBe(0xe033n);
		expect(row?.gsBaseKernel).toBe(registers?.get("gsb"));
		const [, , , cr3 = 0n] = row?.cr ?? [];
		expect(cr3).toBe(registers?.get("cr3"));
		expect(ownerOf(imported, Number(BigInt(cr3) >> 12n))).toBe(0);
		expect(dom0Model.capRanges?.map(({ kind }) => kind)).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3]);
		expect(dom0Model.capRanges?.at(-1)).toEqual({ kind: 3, first: 1n, last: 29n });
		expect(dom0Model.pirqList).toHaveLength(13);
		expect(dom0Model.pirqList?.at(-1)).toMatchObject({ pirq: 207, irq: 24, port: 17 });
	});
});

describe("the captured PV guest", () => {
	it("registers are those of xenctx: cr3 and cr1 with MFNs, GDT frames too", () => {
		const { model, imported, guest } = host("pv");
		for (const [id, expected] of xenctx("pv").entries()) {
			const row = model.pvVcpu?.[id] as Record<string, bigint> & { cr: bigint[]; dr: bigint[]; gdtMfn: number[] };
			const same = [
				"rip",
				"rsp",
				"rbx",
				"rcx",
				"rsi",
				"rdi",
				"rbp",
				"r8",
				"r9",
				"r10",
				"r11",
				"r12",
				"r13",
				"r14",
				"r15",
			];
			// vCPU 0: the suspend was cancelled (rax), and libxc put a PFN into rdx.
			for (const key of id === 0 ? same : [...same, "rax", "rdx"]) {
				expect([key, row[key]]).toEqual([key, expected.get(key)]);
			}
			expect(row.rflags).toBe(expected.get("flags"));
			expect(row.gsBaseKernel).toBe(expected.get("gsBaseKernel"));
			expect(BigInt(row.cs as unknown as number)).toBe(expected.get("cs"));
			expect([row.cr[0], row.cr[2], row.cr[3], row.cr[4]]).toEqual(
				["cr0", "cr2", "cr3", "cr4"].map((register) => expected.get(register)),
			);
			expect([row.dr[6], row.dr[7]]).toEqual([0xffff0ff0n, 0x400n]);
			expect((row.cr[1] as bigint) & 0xfffn).toBe(1n);
			for (const address of [row.cr[1], row.cr[3]] as bigint[]) {
				expect(typeOf(imported, Number(address >> 12n)) & 7).toBe(PAGE_TYPE.l4);
			}
			expect(row.gdtMfn).toHaveLength(1);
			expect(typeOf(imported, Number(row.gdtMfn[0])) & 7).toBe(PAGE_TYPE.segDesc);
			expect(model.vcpu[id]?.flags).toBe(VCPU_FLAG.exists | VCPU_FLAG.initialised);
			expect(model.pvFpu?.[id]).toEqual(guest.image?.vcpuBasic.get(id)?.slice(0, 512));
			expect(model.pvTraps?.[id]?.filter(({ address }) => address !== 0n)).toHaveLength(32);
			expect(model.pvTraps?.[id]?.[14]).toMatchObject({ vector: 14, cs: 0x13 });
			expect([model.pvExtended?.[id]?.length, model.pvXsave?.[id]?.length]).toEqual([64, 848]);
		}
		expect(model.pvVcpu?.[0]?.cr?.[3]).toBe(0xf456000n);
	});

	it("page types are the image's; tables hold MFNs of its own frames, none writable that is a table", () => {
		const { model, imported, guest } = host("pv");
		const p2m = pvP2m(guest.image as NonNullable<typeof guest.image>);
		const own = new Set(p2m.mfns);
		expect(own.size).toBe(10240);
		const levels = [0, 0, 0, 0, 0];
		let pinned = 0;
		let entries = 0;
		for (const [mfn, page] of imported.preserved) {
			const type = typeOf(imported, mfn);
			const level = type & 7;
			if (!own.has(mfn) || level < 1 || level > 4) {
				continue;
			}
			levels[level] = (levels[level] as number) + 1;
			pinned += type & PAGE_TYPE_FLAG.pinned ? 1 : 0;
			for (const { mfn: target, writable } of presentEntries(page)) {
				expect(own.has(target)).toBe(true);
				const targetType = typeOf(imported, target) & 7;
				if (level > 1) {
					expect(targetType).toBe(level - 1);
				} else {
					entries++;
					if (writable) {
						expect(targetType).toBe(PAGE_TYPE.writable);
					}
				}
			}
		}
		expect(levels).toEqual([0, 50, 19, 81, 13]);
		expect(pinned).toBe(46);
		expect(entries).toBe(13864);
		expect(model.p2m).toBeUndefined();
		expect(model.keptFrames).toBeUndefined();
	});

	it("a frame's PFN gives the frame: every typed PFN's MFN has that type", () => {
		const { imported, guest } = host("pv");
		const image = guest.image as NonNullable<typeof guest.image>;
		const p2m = pvP2m(image);
		for (let index = 0; index < image.pages.count; index++) {
			const type = image.pages.types[index] as number;
			const mfn = p2m.mfns[(image.pages.pfns[index] as number) - p2m.startPfn] as number;
			if (type !== 0) {
				const flags = PAGE_TYPE_FLAG.validated | (type & 8 ? PAGE_TYPE_FLAG.pinned : 0);
				expect(typeOf(imported, mfn)).toBe((type & 7) | flags);
			}
		}
	});

	it("shared_info is the image's, with the vCPUs' upcall masks; policies and TSC follow", () => {
		const { model, imported, guest } = host("pv");
		const page = pageOf(imported, model.sharedInfo?.mfn);
		expect(new Uint8Array(page.buffer, page.byteOffset, 4096)).toEqual(new Uint8Array(guest.image?.sharedInfo ?? []));
		expect([page.getUint8(1), page.getUint8(65)]).toEqual([1, 1]);
		expect(model.cpuidLeaves).toHaveLength(52);
		expect(model.msrPolicy).toHaveLength(2);
		expect(model.tsc).toMatchObject({ khz: 2596118, incarnation: 1 });
		expect(imported.model.host).toMatchObject({ cpuKhz: 2596118, systemTimeNs: 55213897608n });
		expect(Number(imported.model.host.wallclockSec)).toBeGreaterThan(1.5e9);
	});
});

describe.each([
	["pvh", 10192, 18, 0xfefff],
	["hvm", 12283, 23, 0xfefff],
] as const)("the captured %s guest", (name, pages, superpages, highest) => {
	it("P2M: every populated GFN once, its own frames, whole 2 MiB pages aligned, no other GFN", () => {
		const { model, imported, guest } = host(name);
		const image = guest.image as NonNullable<typeof guest.image>;
		expect(model.p2m).toHaveLength(highest + 1);
		const seen = new Set<number>();
		let large = 0;
		model.p2m?.forEach((entry, gfn) => {
			const type = image.pages.typeOf(gfn) ?? 15;
			if (entry === 0n || type !== 0) {
				// A hole of both, or a disagreement; expect() is too slow for a million of them.
				if (entry !== 0n || type !== 15) {
					expect.fail(`GFN ${gfn} has type ${type}`);
				}
				return;
			}
			expect(entry >> 63n).toBe(1n);
			expect((entry >> 40n) & 0xffn).toBe(0x70n);
			const mfn = mfnAt(model, gfn);
			expect(ownerOf(imported, mfn)).toBe(guest.domid);
			expect(entryOf(imported, mfn) & (FRAME.xenheap | FRAME.extra)).toBe(0);
			seen.add(mfn);
			if (orderAt(model, gfn) === 9 && gfn % 512 === 0) {
				large++;
				expect(mfn % 512).toBe(0);
				expect(mfnAt(model, gfn + 511)).toBe(mfn + 511);
				expect(orderAt(model, gfn + 511)).toBe(9);
			}
		});
		expect(seen.size).toBe(pages);
		expect(large).toBe(superpages);
	});

	it("P2M page tables: the captured root and as many tables as the P2M needs", () => {
		const { model, imported, guest } = host(name);
		expect(model.keptRoots).toEqual([{ rootMfn: guest.p2mRootMfn, purpose: 1, format: 1, levels: 4 }]);
		const frames = (model.keptRanges ?? []).reduce((sum, range) => sum + Number(range.frameCount), 0);
		expect(frames).toBe(model.domain.hapPoolFrames);
		// One L4, one L3 table, L2 tables for the first and the fourth GiB, L1 tables for each split block.
		const split = new Set<number>();
		model.p2m?.forEach((entry, gfn) => {
			if (entry !== 0n && orderAt(model, gfn) === 0) split.add(gfn >> 9);
		});
		expect(frames).toBe(1 + 1 + 2 + split.size);
		expect(ownerOf(imported, guest.p2mRootMfn as number)).toBeUndefined();
	});

	it("vCPUs: the HVM context as it is, parameters that are not zero, both vCPUs up", () => {
		const { model, guest, imported } = host(name);
		expect(model.hvmContext).toEqual(new Uint8Array(guest.image?.hvmContext ?? []));
		expect(model.hvmParamList?.every(({ value }) => value !== 0n)).toBe(true);
		expect(model.hvmParamList).toContainEqual({ index: 17, value: 0xfefffn });
		expect(model.vcpu.map((vcpu) => vcpu?.flags)).toEqual([3, 3]);
		expect(model.pvVcpu).toBeUndefined();
		const page = pageOf(imported, model.sharedInfo?.mfn);
		expect(new Uint8Array(page.buffer, page.byteOffset, 4096).every((octet) => octet === 0)).toBe(true);
	});
});

it("hvm: the I/O request server with its ports, pages and ranges; emulated interrupts", () => {
	const { model, guest } = host("hvm");
	expect(model.domain.kind).toBe(KIND.hvm);
	expect(model.ioreqServerList).toEqual([{ serverId: 0, emulator: 0, bufferedMode: 2, flags: 1, bufferedPort: 4 }]);
	expect(model.ioreqPorts).toEqual([
		{ serverId: 0, vcpuId: 0, port: 3 },
		{ serverId: 0, vcpuId: 1, port: 5 },
	]);
	expect(model.ioreqPages?.map(({ mfn, role }) => [mfn, role])).toEqual(
		guest.info.extraPages.map(({ mfn }, role) => [mfn, role]),
	);
	expect(model.ioreqRanges?.filter(({ type }) => type === 2)).toContainEqual({
		serverId: 0,
		type: 2,
		first: 8n,
		last: 9n,
	});
	expect([3, 4, 5].map((port) => model.ports?.[port]?.consumer)).toEqual([1, 1, 1]);
	expect(model.pirqList?.map(({ pirq, port }) => [pirq, port])).toEqual([
		[16, 14],
		[18, 16],
		[19, 17],
	]);
	expect(host("pvh").model.domain.kind).toBe(KIND.pvh);
	expect(host("pvh").model.ioreqServerList).toBeUndefined();
});

describe("captures of other kinds", () => {
	it("2-level channels: bits and selector in shared_info; no FIFO pages", () => {
		const capture = changed("pv", (edit) => {
			edit("debugkey-e.txt", /for domain 1:.*/gs, (rest) =>
				rest.replaceAll("[1/1/  -   ]", "[1/1/1]").replaceAll(/\/ {2}- {3}\]/g, "/0]"),
			);
		});
		const { model, imported } = load(capture);
		expect(model.evtchn).toEqual({ abi: 0 });
		expect(model.eventArrays).toBeUndefined();
		const page = pageOf(imported, model.sharedInfo?.mfn);
		expect(page.getBigUint64(2048, true)).toBe((1n << 2n) | (1n << 21n));
		const masked = [1, 2, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22].reduce(
			(bits, port) => bits | (1n << BigInt(port)),
			0n,
		);
		expect(page.getBigUint64(2560, true)).toBe(masked);
		// Port 2 notifies vCPU 0, port 21 vCPU 1.
		expect([page.getBigUint64(8, true), page.getBigUint64(64 + 8, true)]).toEqual([1n, 1n]);
		expect(model.ports?.[21]).toMatchObject({ state: 3, remotePort: 22 });
		expect(Number(model.ports?.[21]?.priority ?? 0)).toBe(0);
	});

	it("grant tables of version 2: status frames, status words, 16-octet entries", () => {
		const capture = changed("pv", (edit) => {
			edit("debugkey-g.txt", /remote d1 \(v1\)\n\(XEN\) {3}2 frames/g, "remote d1 (v2)\n(XEN)   3 frames");
			edit("debugkey-g.txt", " 0x19", " 0x18");
			edit("debugkey-q.txt", "nr_pages=10240 xenheap_pages=3", "nr_pages=10240 xenheap_pages=5");
			const row = "(XEN)     XenPage 000000000009fc0b: caf=c000000000000001, taf=e400000000000001\n";
			edit("debugkey-q.txt", row, row + row.replace("9fc0b", "9fc0c") + row.replace("9fc0b", "9fc0d"));
		});
		const { model, imported, guest } = load(capture);
		expect(model.grantTable).toMatchObject({ version: 2 });
		expect(model.grantFrames).toHaveLength(3);
		expect(model.statusFrames).toEqual([{ mfn: 0x9fc0d, gfn: NONE64 }]);
		expect(model.grantActive).toHaveLength(3 * 256);
		const entries = pageOf(imported, model.grantFrames?.[2]?.mfn);
		const at = (0x21a - 512) * 16;
		expect(entries.getUint16(at, true)).toBe(1);
		expect(entries.getBigUint64(at + 8, true)).toBe(BigInt(guest.grants.active.at(-1)?.gmfn ?? 0));
		expect(pageOf(imported, 0x9fc0d).getUint16(0x21a * 2, true)).toBe(0x18);
	});

	it("linked FIFO ports: words with LINK, tail and head of the queue", () => {
		const capture = changed("pv", (edit) => {
			edit("debugkey-e.txt", "2 [1/1/  -   ]: s=3 n=0", "2 [1/0/    20]: s=3 n=0");
			edit("debugkey-e.txt", "20 [0/1/  -   ]: s=3 n=0", "20 [1/0/B    0]: s=3 n=0");
		});
		const { model, imported } = load(capture);
		const words = pageOf(imported, model.eventArrays?.[0]?.mfn);
		expect(words.getUint32(2 * 4, true)).toBe(2 ** 31 + 2 ** 29 + 20);
		expect(words.getUint32(20 * 4, true)).toBe(2 ** 31 + 2 ** 29 + 2 ** 28);
		const [first, second] = model.controlBlocks ?? [];
		expect(first?.tail?.[7]).toBe(20);
		expect(second?.tail?.[7]).toBe(0);
		const block = pageOf(imported, first?.mfn);
		expect([block.getUint32(0, true), block.getUint32(8 + 7 * 4, true)]).toEqual([1 << 7, 2]);
	});

	it("a port without an event word keeps its pending bit in the port", () => {
		const capture = changed("pv", (edit) => {
			edit("debugkey-e.txt", /\(XEN\) +22 \[0\/1.*\n/g, (row) => `${row}(XEN)     1500 [1/0/  ?   ]: s=6 n=1 x=0\n`);
		});
		const { model } = load(capture);
		expect(model.ports).toHaveLength(1536);
		expect(model.ports?.[1500]).toMatchObject({ pending: 1, state: 6 });
		expect(model.eventArrays).toHaveLength(1);
	});

	it("dead domains: the frames that are mapped, not allocated; no xenheap, ports or vCPUs; several guests at once", () => {
		const capture = changed("zombie", (edit, directory) => {
			// Domain 2 has no image there: the PVH fixture's, under its UUID.
			const image = gunzipSync(readFileSync(join(fixtures, "pvh/pvh1.xlsave.gz")));
			const uuid = Buffer.from("4c414200-0000-4000-8000-000000000002");
			Buffer.from("4c414200-0000-4000-8000-000000000011").copy(image, image.indexOf(uuid));
			writeFileSync(join(directory, "guest.save"), image);
			edit("debugkey-q.txt", "nr_pages=10191", "nr_pages=10192");
		});
		const { imported } = load(capture);
		const [dom0, pv, guest, pvh] = imported.model.domains as [DomainModel, DomainModel, DomainModel, DomainModel];
		expect([pv, pvh].map(({ domain }) => [domain.life, domain.kind])).toEqual([
			[LIFE.dead, KIND.pv],
			[LIFE.dead, KIND.pvh],
		]);
		for (const dead of [pv, pvh]) {
			expect(dead.vcpuIds).toEqual([]);
			expect([dead.ports, dead.sharedInfo, dead.evtchn, dead.maptrack, dead.keptFrames]).toEqual(
				new Array(5).fill(undefined),
			);
			expect(dead.grantFrames).toEqual([]);
			expect(dead.grantTable).toMatchObject({ version: 1 });
		}
		const owned = imported.model.frameOwners.reduce((sum, entry) => sum + ((Number(entry) & 0xffff) === 1 ? 1 : 0), 0);
		expect(owned).toBe(13);
		expect(entryOf(imported, 0xf50a)).toBe(FRAME.owned | 1);
		expect([0xf50a, 0xf5a5, 0xf240, 0xf58b, 0xfe11, 0xe411].map((mfn) => typeOf(imported, mfn))).toEqual([
			...new Array(3).fill(PAGE_TYPE.writable | PAGE_TYPE_FLAG.validated),
			...new Array(3).fill(0),
		]);
		expect(pv.grantActive?.[0x213]).toMatchObject({ mfn: 0xf50a, grantee: 0, hostWrite: 2, hostRead: 2 });
		// dom0: 2 + 2 + 4 pins of domain 1, 7 of domain 2, 4 of domain 3; domain 2 maps one of domain 1's, read-only.
		const handles = dom0.maptrack?.filter((handle) => handle !== undefined) ?? [];
		expect(handles).toHaveLength(2 + 2 + 4 + 8 + 4);
		expect(handles.map((handle) => handle?.domid)).toEqual([...handles.map((handle) => Number(handle?.domid))].sort());
		expect(guest.maptrack?.[0]).toMatchObject({
			reference: 0x20c,
			domid: 1,
			flags: GRANT_MAP.host | GRANT_MAP.readonly,
		});
		const references = countReferences(imported.model, imported.preserved);
		expect(capture.domains.map(({ domid }) => references.domains.get(domid)?.references)).toEqual([3, 1, 3, 1]);
		expect([...references.frames.slice(2 * 0xf50a, 2 * 0xf50a + 2)]).toEqual([4, 2]);
		expect(imported.assumptions.some(({ what }) => /size of the machine's memory/.test(what))).toBe(true);
		expect(buildImage(imported.model, imported.preserved).length).toBeGreaterThan(0);
	});

	it("no optional files, no grants: everything is defaulted and said so", () => {
		const capture = changed("pv", (edit, directory) => {
			for (const file of ["debugkey-0.txt", "debugkey-m.txt", "debugkey-s.txt", "debugkey-v.txt", "xl-info.txt"]) {
				rmSync(join(directory, file));
			}
			edit("debugkey-g.txt", /\(XEN\) \[0x[^\n]*\n/g, "");
			edit("debugkey-q.txt", "UNIT1 affinities: hard={0} soft={0}", "UNIT1 affinities: hard={1-2} soft={0-65}");
		});
		const { imported, dom0Model, model } = load(capture);
		expect(dom0Model.maptrack?.every((handle) => handle === undefined)).toBe(true);
		expect(dom0Model.vcpu[0]?.flags).toBe(VCPU_FLAG.exists | VCPU_FLAG.initialised);
		expect(model.hardAffinity).toEqual([1n, 6n]);
		expect(model.softAffinity?.[1]).toBe((1n << 66n) - 1n);
		expect(imported.model.version).toMatchObject({ xenMajor: 4, xenMinor: 17 });
		expect(imported.model.host.cpuKhz).toBe(2596118);
		const text = describeImport(imported);
		expect(text).toMatch(/size of the machine's memory: assigned/);
		expect(text).toMatch(/domain 0: registers of its vCPUs: defaulted to zero/);
	});

	it("hvm: facts that contradict each other in a 2 MiB block are kept, the block in 4 KiB pages", () => {
		const capture = changed("hvm", (edit) => edit("debugkey-g.txt", "0xb38b8 0x00000001", "0xa38b8 0x00000001"));
		const { model, imported } = load(capture);
		expect([mfnAt(model, 0x6af), mfnAt(model, 0x6b7), mfnAt(model, 0x6b8)]).toEqual([0xb38af, 0xb38b7, 0xa38b8]);
		expect(orderAt(model, 0x6b7)).toBe(0);
		expect(new Set(Array.from({ length: 512 }, (_, index) => mfnAt(model, 0x600 + index))).size).toBe(512);
		expect(ownerOf(imported, 0xa38b8)).toBe(4);
	});

	it("hvm: a grant whose GFN the guest has rewritten still names a frame of the guest", () => {
		const capture = changed("hvm", (edit) =>
			edit("debugkey-g.txt", "0xb38b8 0x00000001          0 0x0006b8", "0xb38b8 0x00000001          0 0x0fffff"),
		);
		const { model, imported } = load(capture);
		expect(ownerOf(imported, 0xb38b8)).toBe(4);
		expect(model.p2m?.some((_entry, gfn) => mfnAt(model, gfn) === 0xb38b8)).toBe(true);
		expect(imported.assumptions.some(({ what }) => what === "GFNs of known frames")).toBe(true);
		const frames = imported.model.frameOwners.filter((entry) => Number(entry) === (FRAME.owned | FRAME.allocated | 4));
		expect(frames).toHaveLength(12283);
	});

	it("a PVH dom0: a P2M of assigned frames, no registers", () => {
		const capture = changed("pvh", (edit) => {
			const handle = "handle=00000000-0000-0000-0000-000000000000 vm_assist=0000002d\n";
			edit("debugkey-q.txt", handle, `${handle}(XEN)     paging assistance: hap refcounts translate external \n`);
		});
		const { dom0Model, imported } = load(capture);
		expect(dom0Model.domain.kind).toBe(KIND.pvh);
		expect(dom0Model.p2m).toHaveLength(393216);
		expect(orderAt(dom0Model, 0)).toBe(9);
		expect(dom0Model.pvVcpu).toBeUndefined();
		expect(ownerOf(imported, mfnAt(dom0Model, 393215))).toBe(0);
	});
});

describe("refused captures name domain, expected and got", () => {
	it.each<[string, string, (edit: Edit) => void, RegExp, string?]>([
		[
			"another number of PV frames",
			"pv",
			(edit) => edit("debugkey-q.txt", "nr_pages=10240", "nr_pages=10239"),
			/domain 1: frames: expected 10239.*got 10240/,
		],
		[
			"another number of PVH frames",
			"pvh",
			(edit) => edit("debugkey-q.txt", "nr_pages=10192", "nr_pages=10191"),
			/domain 1: frames: expected 10191.*got 10192/,
		],
		[
			"xenheap pages that are not shared_info, grant and status frames",
			"pv",
			(edit) => edit("debugkey-g.txt", "2 frames (64", "3 frames (64"),
			/xenheap_pages: expected 4 .*got 3/,
		],
		[
			"a granted frame that is not the guest's",
			"pv",
			(edit) => edit("debugkey-g.txt", "0x0fac2 0x00000001", "0x12345 0x00000001"),
			/domain 1: grant 0x8: expected MFN 0x12345/,
		],
		[
			"a frame of two domains",
			"hvm",
			(edit) => edit("debugkey-g.txt", "0xb38af 0x00000001", "0xb8e80 0x00000001"),
			/domain 4: granted frame of debugkey-g.txt, MFN 0xb8e80: .*domain 0 already/,
		],
		[
			"a grantee that does not exist",
			"pv",
			(edit) => edit("debugkey-g.txt", "[0x008]      0", "[0x008]      9"),
			/domain 9/,
		],
		[
			"a reference outside the table",
			"pv",
			(edit) => edit("debugkey-g.txt", "[0x21a]", "[0x400]"),
			/reference below 0x400.*got 0x400/,
		],
		[
			"a port of a vCPU that does not exist",
			"pv",
			(edit) => edit("debugkey-e.txt", "22 [0/1/  -   ]: s=3 n=0", "22 [0/1/  -   ]: s=3 n=2"),
			/domain 1: port 22, vCPU/,
		],
		[
			"links in a circle",
			"pv",
			(edit) => edit("debugkey-e.txt", "22 [0/1/  -   ]: s=3 n=0", "22 [0/1/    22]: s=3 n=0"),
			/domain 1: event queues/,
		],
		[
			"an absurd MFN",
			"hvm",
			(edit) => edit("debugkey-q.txt", "ExtraPage 00000000000bdc28", "ExtraPage 000000ff000bdc28"),
			/256 GiB/,
		],
		[
			"a domain half torn down",
			"pv",
			(edit) => edit("debugkey-q.txt", "refcnt=3 dying=0 pause_count=1", "refcnt=3 dying=1 pause_count=1"),
			/teardown/,
			"XLU_E_VERSION",
		],
	])("%s", (_name, fixture, change, message, code = "XLU_E_CAPTURE") => {
		const capture = changed(fixture, change);
		const error = errorOf(() => importCapture(capture));
		expect(error.code).toBe(code);
		expect(error.message).toMatch(message);
		expect(error.expected).toBeTruthy();
		expect(error.got).toBeTruthy();
	});
});
