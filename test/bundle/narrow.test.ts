/**
 * Bundles of 32-bit PV guests: contexts, page tables of three levels and grants with machine frames of their own, on a host
 * where all of these are others; and of what else version 2 of the live-update stream carries, virtual NUMA and shares.
 */
import { describe, expect, it } from "vitest";
import { auditHost } from "../../src/audit.ts";
import { extractDomain } from "../../src/bundle/extract.ts";
import { DOMID, FRAME, NONE32, PAGE_TYPE, PAGE_TYPE_FLAG, SCHEDULER } from "../../src/format/enums.ts";
import { libxcRecords } from "../../src/formats/bundle/parts.ts";
import type { StreamItem } from "../../src/formats/common/record.ts";
import { LIBXC_RECORD } from "../../src/formats/libxc/layout.ts";
import type { Host } from "../../src/host.ts";
import { receiveBundle, verifyBundle } from "../../src/index.ts";
import { readGrantV1, readGrantV2 } from "../../src/machine/guestPages.ts";
import { emptyHost, Machine, type Operation } from "../../src/machine/live/index.ts";
import type { DomainModel } from "../../src/machine/model.ts";
import { liveUpdate } from "../../src/update.ts";
import { coreModule as module } from "../support/core.ts";
import { baseOperations, machineWithNarrow, mustRun, NARROW } from "../support/living.ts";
import { checkInvariants, done, pte, pv32Layout, pvLayout, refused } from "../support/operations.ts";
import { parse, type StreamRecord } from "../support/restitch.ts";
import { NARROW as SECOND, secondHost, XEN_SLOT } from "../support/secondHost.ts";
import { type Apart, bareHost, captured, changed, codes, core, onto, read, withoutMappings } from "./helpers.ts";
import { LIVE_UPDATE, recordOf } from "./octets.ts";

const GRANT = 8;
const EXTRA_SLOT = 100;

/**
 * A machine whose 32-bit guest has a second L3 table, tables below it, ports of every kind, a grant that dom0 has mapped and
 * one to dom0 that it has not, a second vCPU with a vcpu_info of its own.
 */
function busyMachine(version: 1 | 2) {
	const machine = machineWithNarrow();
	const { l1, l2, plain } = pv32Layout(machine, NARROW);
	const of = (op: string, rest: object): Operation => ({ op, domid: NARROW, ...rest });
	const extra = (): number => done(machine, { op: "populate_physmap", domid: NARROW });
	const [l3b, l2b, l1b, info] = [extra(), extra(), extra(), extra()];
	const dom0 = pvLayout(machine, 0);
	mustRun(machine, [
		of("mmu_update", { table: l1, slot: EXTRA_SLOT, value: pte(info, "rw") }),
		of("memory_write", { gfn: l1b, slot: 7, value: pte(plain[0] as number, "ro") }),
		of("memory_write", { gfn: l2b, slot: 0, value: pte(l1b, "rw") }),
		of("memory_write", { gfn: l3b, slot: 3, value: pte(l2b, "ro") }),
		of("mmuext_pin_table", { mfn: l3b, level: 3 }),
		of("mmu_update", { table: l2, slot: 5, value: pte(l1b, "ro") }),
		of("vcpu_initialise", { vcpu: 1, mfn: l3b, rip: "0xc1234560" }),
		of("vcpu_register_info", { vcpu: 1, gfn: info, offset: 64 }),
		of("vcpu_up", { vcpu: 1 }),
		of("vcpu_set_register", { vcpu: 0, register: "rax", value: "0x1234" }),
		...(version === 2 ? [of("grant_set_version", { version })] : []),
		of("grant_access", { ref: GRANT, grantee: 0, gfn: plain[1] }),
		of("grant_access", { ref: GRANT + 1, grantee: 0, gfn: plain[2], readonly: true }),
		...(version === 2 ? [of("grant_access_part", { ref: GRANT + 2, grantee: 0, gfn: plain[3], offset: 16 })] : []),
		{ op: "gnttab_map_grant_ref", domid: 0, granter: NARROW, ref: GRANT, kind: "host", table: dom0.l1, slot: 400 },
	] as Operation[]);
	const unbound = done(machine, of("evtchn_alloc_unbound", { remote: 0 }));
	done(machine, { op: "evtchn_bind_interdomain", domid: 0, remote: NARROW, remotePort: unbound });
	const timer = done(machine, of("evtchn_bind_virq", { virq: 0, vcpu: 1 }));
	const ipi = done(machine, of("evtchn_bind_ipi", { vcpu: 1 }));
	return { machine, l3b, l2b, l1b, ports: { unbound, timer, ipi } };
}

const domainOf = ({ model }: Host, domid: number) =>
	model.domains.find(({ domain }) => domain.domid === domid) as DomainModel;

/** Frames of a domain that moved, by those that it had, from the bundle's PFNS and the received host's. */
async function placedOf(bundle: Uint8Array, host: Host, domid: number): Promise<Map<number, number>> {
	const from = (await read(bundle)).bundle?.pfns?.mfns as Float64Array;
	const to = host.pvLayouts?.get(domid)?.mfns as Float64Array;
	expect(to).toHaveLength(from.length);
	return new Map([...from].map((mfn, i) => [mfn, to[i] as number]));
}

const FRAME_BITS = 0xf_ffff_ffff_f000n;
const entriesOf = (page: Uint8Array) => {
	const view = new DataView(page.buffer, page.byteOffset);
	return Array.from({ length: 512 }, (_, slot) => view.getBigUint64(slot * 8, true));
};

/** What a table of three levels has to hold where it is received. */
function placedEntry(entry: bigint, placed: ReadonlyMap<number, number>): bigint {
	if ((entry & 1n) === 0n) return entry;
	const mfn = placed.get(Number((entry & FRAME_BITS) >> 12n));
	return mfn === undefined ? 0n : (entry & ~FRAME_BITS) | (BigInt(mfn) << 12n);
}

const streamVersion = (bundle: Uint8Array): number =>
	new DataView(bundle.buffer, bundle.byteOffset).getUint32(recordOf(bundle, LIVE_UPDATE).stream + 12);

const { machine, l3b, l2b, l1b, ports } = busyMachine(1);
const host = machine.toHost();
const { bundle } = extractDomain(core, host, NARROW);

/** Not the frames that it comes from. */
function otherHost(): Host {
	const target = Machine.fromHost(bareHost(8192));
	mustRun(target, [
		{ op: "domain_create", domid: 1, kind: "pv", frames: 77, vcpus: 1 },
		{ op: "domain_create", domid: 2, kind: "pv", width: 32, frames: 33, vcpus: 1 },
	]);
	return target.toHost();
}

describe("a living 32-bit guest, extracted", () => {
	it("needs version 2 of the live-update stream; a 64-bit guest of the same host does not", () => {
		expect(streamVersion(bundle)).toBe(2);
		expect(streamVersion(extractDomain(core, host, 1).bundle)).toBe(1);
	});

	it("is whole, and its parts agree; it comes out the same again", async () => {
		const { findings, error, checked } = await read(bundle);
		expect([error, findings.errors, checked?.domid]).toEqual([undefined, [], NARROW]);
		expect(codes(findings, false)).toEqual(["XLU-B026", "XLU-B027"]);
		expect(Buffer.compare(await changed(bundle, () => {}), bundle)).toBe(0);
	});

	it("has contexts of 2800 octets, with PFNs, a packed CR3, and VGCF_online", async () => {
		const { bundle: parts } = await read(bundle);
		const records = [...libxcRecords(parts?.libxc?.octets as Uint8Array)];
		const basics = records.filter(({ type }) => type === LIBXC_RECORD.X86_PV_VCPU_BASIC);
		expect(basics.map(({ body }) => body.length)).toEqual([2808, 2808]);
		const pfns = parts?.pfns?.mfns as Float64Array;
		for (const [id, { body }] of basics.entries()) {
			const row = machine.domain(NARROW).pv32Vcpu(id);
			const view = new DataView(body.buffer, body.byteOffset + 8, 2800);
			// By public/arch-x86: the flags stand behind 512 octets of FPU state, EBX to EAX behind them.
			expect(view.getUint32(512, true) & 0x20).toBe(0x20);
			const words = Array.from({ length: 700 }, (_, i) => view.getUint32(4 * i, true));
			expect(words.slice(129, 136)).toEqual([row.ebx, row.ecx, row.edx, row.esi, row.edi, row.ebp, row.eax]);
			const pfn = pfns.indexOf(Number(row.cr3 >> 12n));
			expect(pfn).toBeGreaterThanOrEqual(0);
			const cr0 = words.indexOf(0x8005_0033);
			expect(words.slice(cr0, cr0 + 5)).toEqual([row.cr0, 0, row.cr2, pfn << 12, row.cr4]);
		}
		const info = records.find(({ type }) => type === LIBXC_RECORD.X86_PV_INFO)?.body;
		expect([...(info as Uint8Array).subarray(0, 2)]).toEqual([4, 3]);
	});

	it.each([
		// Bits 20 to 31 of a PFN stand below the others.
		[0xa_bcd0, 0x000],
		[0x12_3450, 0x001],
		[0xfed0_0000, 0xfed],
	])("packs CR3 of PFN %i and above", async (startPfn, low) => {
		const mfns = Float64Array.from((await read(bundle)).bundle?.pfns?.mfns as Float64Array);
		const first = Math.floor(startPfn / 1024);
		const count = Math.floor((startPfn + mfns.length - 1) / 1024) - first + 1;
		const p2mPfns = Array.from({ length: count }, (_, i) => startPfn + i);
		const layout = { guestWidth: 4, ptLevels: 3, startPfn, mfns, p2mPfns };
		const { bundle: moved } = extractDomain(core, { ...host, pvLayouts: new Map([[NARROW, layout]]) }, NARROW);
		const { findings, items } = await read(moved);
		expect(findings.errors).toEqual([]);
		const { fields } = items.find(({ name }) => name === "X86_PV_VCPU_BASIC") as StreamItem;
		const cr3 = Number((fields.registers as { cr: string[] }).cr[3]);
		const mfn = Number(machine.domain(NARROW).pv32Vcpu(0).cr3 >> 12n);
		expect(cr3 & 0xfff).toBe(low);
		expect(((cr3 & 0xfff) * 2 ** 20 + (cr3 >>> 12)) >>> 0).toBe(startPfn + mfns.indexOf(mfn));
	});

	it("is shown by its own width: registers of 32 bits, and its shared_info", async () => {
		const { items } = await read(bundle);
		const fieldsOf = (record: string) => items.find(({ name }) => name === record)?.fields;
		expect(fieldsOf("X86_PV_VCPU_BASIC")?.registers).toMatchObject({ eip: "0xc1000000", eax: "0x1234", cs: "0xe019" });
		expect(fieldsOf("SHARED_INFO")).toMatchObject({ guestWidth: 4 });
		expect(fieldsOf("LU_PV32")).toMatchObject({ xenStart: "0xf5800000" });
	});

	it("is refused by a reader of version 1, by the stream's own rule", () => {
		const { stream, body } = recordOf(bundle, LIVE_UPDATE);
		const length = Number(new DataView(bundle.buffer, bundle.byteOffset).getBigUint64(body, true));
		core.reset();
		const window = core.place(bundle.subarray(stream, stream + length));
		const open = () => core.createContext().open(window, { newest: 1 });
		expect(open).toThrowError(expect.objectContaining({ code: "XLU_E_VERSION", rule: "XLU-R003", got: "2" }));
	});

	it("is refused by name where its stream is of a version that nobody knows", async () => {
		const { findings } = await read(
			await changed(bundle, (apart) => {
				apart.parts = (made) => {
					const stream = made.stream.slice();
					new DataView(stream.buffer).setUint32(12, 3);
					return { ...made, stream };
				};
			}),
		);
		expect(findings.errors).toMatchObject([{ rule: { code: "XLU-R003" }, expected: expect.any(String), got: "3" }]);
	});
});

describe("received by another host", async () => {
	const received = await receiveBundle(bundle, otherHost(), { module });
	const placed = await placedOf(bundle, received, NARROW);
	const [source, domain] = [domainOf(host, NARROW), domainOf(received, NARROW)];

	it("has other frames, all its own", () => {
		expect([...placed].every(([from, to]) => from !== to)).toBe(true);
		for (const to of placed.values()) {
			expect(received.model.frameOwners[to]).toBe(BigInt(FRAME.owned | FRAME.allocated | NARROW));
		}
	});

	it("has tables that lead to its new frames, of all three levels, and empty slots where Xen's part is", () => {
		const levels = new Map<number, number>();
		for (const [from, to] of placed) {
			const type = host.model.frameTypes[from] as number;
			expect(received.model.frameTypes[to]).toBe(type);
			const level = type & 7;
			if (level < PAGE_TYPE.l1 || level > PAGE_TYPE.l3) continue;
			levels.set(level, (levels.get(level) ?? 0) + 1);
			const wanted = entriesOf(host.preserved.get(from) as Uint8Array).map((entry) => placedEntry(entry, placed));
			if (type & PAGE_TYPE_FLAG.paeXenL2) wanted.fill(0n, 0x1ac);
			expect(entriesOf(received.preserved.get(to) as Uint8Array)).toEqual(wanted);
		}
		expect([...levels].sort()).toEqual([
			[PAGE_TYPE.l1, 2],
			[PAGE_TYPE.l2, 2],
			[PAGE_TYPE.l3, 2],
		]);
	});

	it("has registers with its new frames, and the others as they were", () => {
		const place = (mfn: bigint | number): bigint => BigInt(placed.get(Number(mfn)) as number);
		for (const id of [0, 1]) {
			const [was, is] = [source.pv32Vcpu?.[id], domain.pv32Vcpu?.[id]];
			expect(BigInt(is?.cr3 as bigint)).toBe(place(BigInt(was?.cr3 as bigint) >> 12n) << 12n);
			const gdtMfn = (was?.gdtMfn ?? []).map((mfn, i) => (i === 0 && mfn !== 0n ? place(mfn) : 0n));
			expect(is?.gdtMfn?.map(BigInt)).toEqual(gdtMfn);
			const { cr3: _c, gdtMfn: _g, ...rest } = was ?? {};
			expect(is).toMatchObject(rest);
		}
		expect(domain.pv32Vcpu?.[0]?.eax).toBe(0x1234);
		expect(domain.pv32).toEqual(source.pv32);
		expect(BigInt(domain.vcpu[1]?.vcpuInfoMfn as bigint)).toBe(place(source.vcpu[1]?.vcpuInfoMfn as bigint));
	});

	it("has a clean audit, and a live update restores all of it", async () => {
		expect(await auditHost(received, core)).toMatchObject({ clean: true, findings: [] });
		expect((await liveUpdate(received, { module, prepare: false })).identical).toBe(true);
	});

	it("goes on: tables, ports, grants and vCPUs do what they did, and an update between changes nothing", async () => {
		const living = Machine.fromHost(received);
		checkInvariants(living);
		const { l3, l2, l1, plain } = pv32Layout(living, NARROW);
		const dom0 = pvLayout(living, 0);
		const [l3n, l2n, l1n] = [l3b, l2b, l1b].map((mfn) => placed.get(mfn) as number) as [number, number, number];
		const of = (op: string, rest: object): Operation => ({ op, domid: NARROW, ...rest });
		// The backend binds and maps again.
		const port = done(living, {
			op: "evtchn_bind_interdomain",
			domid: 0,
			remote: NARROW,
			remotePort: ports.unbound,
		} as Operation);
		mustRun(living, [
			{ op: "gnttab_map_grant_ref", domid: 0, granter: NARROW, ref: GRANT, kind: "host", table: dom0.l1, slot: 401 },
			{ op: "evtchn_send", domid: 0, port },
			of("evtchn_send", { port: ports.unbound }),
			of("evtchn_send", { port: ports.ipi }),
			of("mmu_update", { table: l1, slot: 200, value: pte(plain[3] as number, "rw") }),
			of("mmu_update", { table: l2, slot: 5, value: "0x0" }),
			of("mmu_update", { table: l2n, slot: 1, value: pte(l1n, "rw") }),
			of("mmuext_new_baseptr", { vcpu: 0, mfn: l3n }),
			of("mmuext_new_baseptr", { vcpu: 1, mfn: l3 }),
			of("mmuext_unpin_table", { mfn: l3n }),
			of("evtchn_close", { port: ports.timer }),
			of("vcpu_down", { vcpu: 1 }),
		] as Operation[]);
		// What is Xen's is still Xen's, and a port beyond a 32-bit guest's 1024 is none.
		refused(living, of("mmu_update", { table: l2, slot: XEN_SLOT, value: pte(l1, "rw") }), "EPERM");
		expect(living.frames.ownerOf(Number(living.memory.entry(dom0.l1, 401) >> 12n))).toBe(NARROW);
		expect(Number(living.memory.entry(dom0.l1, 401) >> 12n)).toBe(plain[1]);
		checkInvariants(living);
		const after = living.toHost();
		expect((await liveUpdate(after, { module, prepare: false })).identical).toBe(true);
	});

	it("is extracted there again, with the same state records", async () => {
		const again = await read(extractDomain(core, received, NARROW).bundle);
		expect(again.findings.errors).toEqual([]);
		const first = (await read(bundle)).bundle?.libxc?.octets as Uint8Array;
		expect(Buffer.compare(again.bundle?.libxc?.octets as Uint8Array, first)).toBe(0);
	});
});

describe("grants of a PV guest", () => {
	it.each([1, 2] as const)("name its new frames, in a table of version %i", async (version) => {
		const { machine: granting } = busyMachine(version);
		const from = granting.toHost();
		const octets = extractDomain(core, from, NARROW).bundle;
		const to = await receiveBundle(octets, otherHost(), { module });
		const placed = await placedOf(octets, to, NARROW);
		const entries = (where: Host) => {
			const page = where.preserved.get(Number(domainOf(where, NARROW).grantFrames?.[0]?.mfn)) as Uint8Array;
			const entry = version === 1 ? readGrantV1 : readGrantV2;
			return [0, 1, ...(version === 2 ? [2] : [])].map((i) => entry(page, GRANT + i));
		};
		const wanted = entries(from).map((row) => ({
			...row,
			frame: placed.get(row.frame) as number,
			flags: row.flags & ~0x18,
		}));
		expect(entries(to)).toEqual(wanted);
		const living = Machine.fromHost(to);
		const { plain } = pv32Layout(living, NARROW);
		const { l1 } = pvLayout(living, 0);
		const map = { op: "gnttab_map_grant_ref", domid: 0, granter: NARROW, ref: GRANT + 1, kind: "host", readonly: true };
		done(living, { ...map, table: l1, slot: 402 } as Operation);
		expect(Number(living.memory.entry(l1, 402) >> 12n)).toBe(plain[2]);
	});
});

// --- a host that was not made by operations ---

/** The second host, where nobody has mapped grants of others. */
const second = withoutMappings(secondHost(), SECOND);
const seconds = extractDomain(core, second, SECOND).bundle;

/** A host with CPU pools of these schedulers, numbered from 0. */
function pooled(...schedulers: number[]): Host {
	const bare = bareHost(4096);
	const poolList = schedulers.map((scheduler, poolId) => ({ poolId, scheduler, granularity: 1 }));
	return { ...bare, model: { ...bare.model, poolList } };
}

describe("a 32-bit guest with every record", () => {
	it("has its extended contexts, XSAVE areas and MSRs as libxc has them, octet for octet", async () => {
		const { bundle: parts } = await read(seconds);
		const records = [...libxcRecords(parts?.libxc?.octets as Uint8Array)];
		const bodies = (type: number) =>
			records.filter((record) => record.type === type).map(({ body }) => Buffer.from(body));
		const ofVcpu = (id: number, octets: Uint8Array) => Buffer.concat([Buffer.from([id, 0, 0, 0, 0, 0, 0, 0]), octets]);
		const { pvExtended, pvXsave } = domainOf(second, SECOND);
		const all = (tables: DomainModel["pvXsave"]) =>
			(tables ?? []).flatMap((octets, id) => (octets?.length ? [ofVcpu(id, octets)] : []));
		expect(bodies(LIBXC_RECORD.X86_PV_VCPU_EXTENDED)).toEqual(all(pvExtended));
		expect(all(pvXsave).length).toBeGreaterThan(0);
		expect(bodies(LIBXC_RECORD.X86_PV_VCPU_XSAVE)).toEqual(all(pvXsave));
		const msr = Buffer.alloc(16);
		msr.writeUInt32LE(0xc000_0103, 0);
		msr.writeBigUInt64LE(9n, 8);
		expect(bodies(LIBXC_RECORD.X86_PV_VCPU_MSRS)).toEqual([ofVcpu(0, msr)]);
	});
});

describe("virtual NUMA and shares", () => {
	it("are in the bundle, whose parts agree", async () => {
		const { findings, checked } = await read(seconds);
		expect(findings.errors).toEqual([]);
		const source = domainOf(second, SECOND);
		expect(checked?.solo.domain.vnumaRanges).toHaveLength(2);
		expect(checked?.solo.domain.schedulerVcpus).toHaveLength(2);
		expect(checked?.solo.domain.vnumaNodes?.map(({ physicalNode }) => physicalNode)).toEqual(
			source.vnumaNodes?.map(({ physicalNode }) => physicalNode),
		);
	});

	it("arrive: the topology as the guest knows it, on no node of the host; shares where the pool has their scheduler", async () => {
		const target = pooled(SCHEDULER.credit2, SCHEDULER.rtds);
		expect(codes(await onto(seconds, target), false)).not.toContain("XLU-B061");
		const to = await receiveBundle(seconds, target, { module });
		const [was, is] = [domainOf(second, SECOND), domainOf(to, SECOND)];
		expect(is.vnumaNodes).toEqual([{ physicalNode: NONE32 }, { physicalNode: NONE32 }]);
		expect(is.vnumaDistances).toEqual(was.vnumaDistances);
		expect(is.vnumaVcpus).toEqual(was.vnumaVcpus);
		expect(is.vnumaRanges?.map(({ start, end, node }) => [Number(start), Number(end), Number(node)])).toEqual([
			[0, 0xc000, 0],
			[0xc000, 0x18000, 1],
		]);
		expect(Number(is.domain.cpupoolId)).toBe(1);
		expect(is.scheduler?.scheduler).toBe(SCHEDULER.rtds);
		expect(is.schedulerVcpus).toMatchObject(was.schedulerVcpus as object[]);
		expect((await liveUpdate(to, { module, prepare: false })).identical).toBe(true);
	});

	it("that are of another scheduler stay behind, and that is told", async () => {
		const findings = await onto(seconds, pooled(SCHEDULER.credit));
		expect(findings.errors).toEqual([]);
		expect(findings.list.find(({ rule }) => rule.code === "XLU-B061")).toMatchObject({
			expected: "rtds",
			got: "credit in pool 0: its defaults",
		});
		const to = await receiveBundle(seconds, pooled(SCHEDULER.credit), { module });
		expect([domainOf(to, SECOND).scheduler, domainOf(to, SECOND).schedulerVcpus ?? []]).toEqual([undefined, []]);
		expect((await liveUpdate(to, { module, prepare: false })).identical).toBe(true);
	});

	it("of a domain that version 1 holds go in a stream of version 1: LU_SCHEDULER is optional", async () => {
		const living = Machine.fromHost(emptyHost(4096));
		mustRun(living, [
			...baseOperations.slice(0, 2),
			{ op: "domain_unpause", domid: 1 },
			{ op: "domain_set_weight", domid: 1, weight: 700, cap: 50 },
		]);
		const octets = extractDomain(core, living.toHost(), 1).bundle;
		expect(streamVersion(octets)).toBe(1);
		const to = await receiveBundle(octets, bareHost(4096), { module });
		expect(domainOf(to, 1).scheduler).toMatchObject({ weight: 700, cap: 50 });
	});

	it("that no scheduler knows are refused by the stream's rule", async () => {
		const weight = await changed(seconds, ({ domain }) => {
			Object.assign(domain.scheduler as object, { weight: 7 });
		});
		const { findings } = await read(weight);
		expect(codes(findings)).toEqual(["XLU-R104"]);
		const pool = await changed(seconds, ({ domain }) => {
			Object.assign(domain.scheduler as object, { scheduler: SCHEDULER.credit });
		});
		expect((await read(pool)).findings.errors).toMatchObject([
			{ rule: { code: "XLU-R104" }, record: "LU_SCHEDULER", expected: "scheduler 8", got: "5" },
		]);
	});

	it("that make no topology are refused by the stream's rule", async () => {
		const far = await changed(seconds, ({ domain }) => {
			Object.assign(domain.vnumaVcpus?.[0] as object, { node: 9 });
		});
		expect(codes((await read(far)).findings)).toEqual(["XLU-R103"]);
	});
});

describe("a guest whose tables name what is Xen's", () => {
	it("arrives with these slots empty, and with nothing of others mapped", async () => {
		const to = await receiveBundle(seconds, pooled(SCHEDULER.credit2, SCHEDULER.rtds), { module });
		const placed = await placedOf(seconds, to, SECOND);
		const page = (mfn: number) => entriesOf(to.preserved.get(placed.get(mfn) as number) as Uint8Array);
		expect(entriesOf(second.preserved.get(842) as Uint8Array).filter((entry) => entry !== 0n)).toHaveLength(3);
		expect(page(842).filter((entry) => entry !== 0n)).toEqual([pte32(placed.get(844) as number)]);
		// It maps itself.
		expect(Number(page(841)[500] as bigint) >>> 12).toBe(placed.get(841));
		// dom0's frame, by a grant that nobody has mapped any more.
		expect(page(844)[2]).toBe(0n);
		expect((await auditHost(to, core)).clean).toBe(true);
	});
});

/** As secondHost's tables have it: present, read-write. */
const pte32 = (mfn: number): bigint =>
	placedEntry(entriesOf(second.preserved.get(842) as Uint8Array)[0] as bigint, new Map([[844, mfn]]));

describe("the kind of host", () => {
	it("is one whose Xen runs 32-bit PV guests, where that is known", async () => {
		const virt = ["pv", "hvm"];
		const wide = await onto(bundle, { ...bareHost(4096), capabilities: { virt, cpu: [], xen: ["xen-3.0-x86_64"] } });
		expect(wide.errors).toMatchObject([
			{ rule: { code: "XLU-B043" }, field: "xen_caps", expected: "xen-3.0-x86_32p", got: "xen-3.0-x86_64" },
		]);
		const both = { virt, cpu: [], xen: ["xen-3.0-x86_64", "xen-3.0-x86_32p"] };
		expect((await onto(bundle, { ...bareHost(4096), capabilities: both })).errors).toEqual([]);
		expect(codes(await onto(bundle, captured("hvm")))).toContain("XLU-B043");
	});

	it.each([
		["nothing of itself", bareHost(4096), ["XLU-B043", "XLU-B045", "XLU-B059", "XLU-B051"]],
		[
			"its kinds of guests, and has one",
			{ ...otherHost(), capabilities: { virt: ["pv"], cpu: [], xen: ["xen-3.0-x86_32p"] } },
			["XLU-B051"],
		],
		["no kinds of guests", { ...otherHost(), capabilities: { virt: ["pv"], cpu: [] } }, ["XLU-B043", "XLU-B051"]],
	])("that tells %s leaves the rest unchecked, and that is said", async (_, target, unchecked) => {
		const verdict = await verifyBundle(bundle, { onto: target, module });
		expect(verdict.ok).toBe(true);
		expect(verdict.notCheckable).toEqual(unchecked);
	});
});

describe("frames for a 32-bit guest", () => {
	const withFree = (first: number, count: number, frames: number): Host => {
		const target = bareHost(4096);
		const frameOwners = new BigUint64Array(frames).fill(BigInt(DOMID.XEN | FRAME.owned | FRAME.allocated));
		frameOwners.set(
			target.model.frameOwners.map((entry) => entry || BigInt(DOMID.XEN | FRAME.owned | FRAME.allocated)),
		);
		frameOwners.fill(0n, first, first + count);
		const { regionList } = target.model;
		for (const { firstMfn, frameCount } of regionList) {
			frameOwners.fill(0n, Number(firstMfn), Number(firstMfn) + Number(frameCount));
		}
		const frameTypes = new Uint8Array(frames);
		frameTypes.set(target.model.frameTypes);
		return { ...target, model: { ...target.model, frameOwners, frameTypes } };
	};

	it("are below what its part of the M2P reaches", async () => {
		const high = withFree(0x40_0000, 200, 0x40_0000 + 200);
		const findings = await onto(bundle, high);
		expect(findings.errors).toMatchObject([
			{ rule: { code: "XLU-B042" }, expected: expect.stringMatching(/^\d+ free frames below 0x400000$/), got: "0" },
		]);
	});

	it("are below 4 GiB for its L3 tables, unless it has the VM assist for others", async () => {
		const high = withFree(0x10_0000, 200, 0x10_0000 + 200);
		expect((await onto(bundle, high)).errors).toEqual([]);
		const plain = await changed(bundle, ({ domain }) => {
			const { vmAssist } = domain.domainState;
			Object.assign(domain.domainState, { vmAssist: Number(vmAssist) & ~8 });
		});
		expect(codes(await onto(plain, high))).toEqual(["XLU-B042"]);
		const both = withFree(0x0f_fffe, 202, 0x10_0000 + 200);
		const to = await receiveBundle(plain, both, { module });
		const l3 = (domainOf(to, NARROW).pv32Vcpu ?? []).map((row) => Number(BigInt(row?.cr3 as bigint) >> 12n));
		expect([...new Set(l3)].sort()).toEqual([0x0f_fffe, 0x0f_ffff]);
	});
});

/** Takes records out of the live-update part. */
const withoutRecords =
	(isIt: (record: StreamRecord) => boolean) =>
	(apart: Apart): void => {
		apart.parts = (made) => {
			const stream = parse(made.stream);
			for (const section of stream.sections) section.records = section.records.filter((record) => !isIt(record));
			return { ...made, stream: stream.build() };
		};
	};

describe("what is missing", () => {
	it.each([
		["where Xen's part begins", ({ domain }: Apart) => delete domain.pv32, "XLU-B042"],
		[
			"Xen's part of an L2 table",
			({ solo }: Apart) =>
				solo.model.frameTypes.forEach((type, mfn, types) => {
					if (type & PAGE_TYPE_FLAG.paeXenL2) types[mfn] = type & ~PAGE_TYPE_FLAG.paeXenL2;
				}),
			"XLU-R057",
		],
		["a page table's page", ({ solo }: Apart) => solo.preserved.delete(l2b), "XLU-B013"],
		[
			"the context of a vCPU",
			withoutRecords((record) => record.name === "LU_PV32_VCPU" && record.get("vcpuId") === 1),
			"XLU-B016",
		],
		["a record that every domain has", withoutRecords(({ name }) => name === "LU_DOMAIN"), "XLU-R017"],
		["a record that every host has", withoutRecords(({ name }) => name === "LU_CPUPOOLS"), "XLU-R017"],
	] as const)("%s is refused by name", async (_, change, code) => {
		const { findings } = await read(await changed(bundle, change as (apart: Apart) => void));
		expect(codes(findings)).toEqual([code]);
	});
});
