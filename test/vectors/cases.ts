/**
 * The streams of the conformance kit: valid ones, and for every rule damaged ones. tools/vectors.mjs writes them, with what
 * the core and the independent reader say of them, to manifest.json.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { toBigEndian } from "../../src/format/endian.ts";
import {
	CAP,
	CONSUMER,
	DOMID,
	EVTCHN_STATE,
	FRAME,
	GRANT_MAP,
	IOREQ_PAGE,
	IOREQ_RANGE,
	KEPT_FORMAT,
	KEPT_PURPOSE,
	KIND,
	LIFE,
	NONE64,
	P2M_ACCESS,
	P2M_ORDER,
	P2M_TYPE,
	PAGE_TYPE,
	SHUTDOWN_STATE,
	TIME_AREA,
	VCPU_FLAG,
} from "../../src/format/enums.ts";
import { ruleId, rules } from "../../src/format/rules.ts";
import type { DomainModel } from "../../src/machine/model.ts";
import { hashOf, memoryFor, root, saveModel, saveTiny } from "../support/core.ts";
import { hvmContext } from "../support/deviceCases.ts";
import { brokenRefusal, refusalCases } from "../support/refusalCases.ts";
import { concatenate, parse, type Restitched, StreamRecord } from "../support/restitch.ts";
import { brokenStream, type RuleCase, ruleCases } from "../support/ruleCases.ts";
import { brokenSecond, secondCases } from "../support/secondCases.ts";
import { NARROW, secondHost } from "../support/secondHost.ts";
import { p2mEntry, pte, tinyHost } from "../support/tinyHost.ts";

export interface Vector {
	name: string;
	what: string;
	stream: Uint8Array;
	memory?: Uint8Array;
	/** Handed over in frames: zeros follow END. */
	isPadded?: true;
}

const golden = (file: string, version = 1) => new Uint8Array(readFileSync(join(root, `test/golden/v${version}`, file)));

function goldenVector(name: string, what: string): Vector {
	return { name, what, stream: golden(`${name}.xlu`), memory: golden(`${name}.xlu.mem`) };
}

/** What all other vectors are edits of. */
export const base: Vector = {
	name: "small",
	what: "a host of four domains with every record type, page tables of a PV guest among them; damaged ones are edits of it",
	...saveTiny(1),
};

/** What version 2 has; what only it can break are edits of it. */
export const second: Vector = {
	name: "second",
	what: "version 2: a 32-bit PV guest with page tables of three levels, virtual NUMA, shares of two CPU pools",
	stream: golden("second.xlu", 2),
	memory: golden("second.xlu.mem", 2),
};

/** Its stream, changed. */
function changed(name: string, what: string, change: (stream: Restitched) => void): Vector {
	const parsed = parse(base.stream);
	change(parsed);
	const stream = parsed.build();
	return { name, what, stream, memory: memoryFor(stream, tinyHost().preserved) };
}

/** Numbers as high, or as low, as they may be: one more is refused. */
function atLimits({ model }: ReturnType<typeof tinyHost>): void {
	const [dom0, pv, hvm, dead] = model.domains as [DomainModel, DomainModel, DomainModel, DomainModel];
	model.virqHandlers = [2, 3, 23].map((virq) => ({ virq, domid: 0 }));
	model.regionList = model.regionList.map((region, i) => (i === 2 ? { ...region, frameCount: 64 } : region));
	model.ioapicPins = [
		...(model.ioapicPins ?? []),
		// Two pins of one interrupt; the lowest vector.
		{ ioapic: 0, pin: 10, irq: 9, vector: 0x30 },
		{ ioapic: 0, pin: 11, irq: 11, vector: 16 },
	];
	model.deviceList = [{ domid: 0 }, { bus: 3, devfn: 8, domid: 0 }, { bus: 3, devfn: 16, domid: 0, phantomStride: 4 }];
	model.msis = [
		...(model.msis ?? []),
		{ bus: 3, devfn: 16, irq: 25, vector: 0x52 },
		{ bus: 3, devfn: 16, irq: 26, vector: 0x53 },
	];
	const unit = { baseAddress: 0xfed91000n, rootMfn: 460, remapMfn: NONE64, unit: 1, format: KEPT_FORMAT.amdIommu };
	model.iommuUnits = [...(model.iommuUnits ?? []), unit];
	model.iommuDomains = [2, 6].map((levels, hardwareId) => ({ rootMfn: 462, unit: 0, hardwareId, domid: 0, levels }));
	model.remapEntries = [{ unit: 0, index: 0, low: 1n, high: 2n }];
	model.identityMaps = [
		...[463n, 464n, (1n << 40n) - 1n].map((firstMfn) => ({ firstMfn, frameCount: 1, domid: 0, writable: 1 })),
		// In a hole of the P2M, and where it names that very frame.
		...[463n, 500n].map((firstMfn) => ({ firstMfn, frameCount: 1, domid: 2, writable: 1 })),
	];

	dom0.domain = { ...dom0.domain, maxGrantFrames: 1 };
	const host = { reference: 8, domid: 1, flags: GRANT_MAP.host, vcpuId: 0 };
	const readonly = GRANT_MAP.host | GRANT_MAP.device | GRANT_MAP.readonly;
	dom0.maptrack = [
		...(dom0.maptrack ?? []),
		...new Array(127).fill(host),
		{ reference: 3, domid: 2, flags: readonly, vcpuId: 0 },
	];
	dom0.ports =
		dom0.ports?.map((port) =>
			port?.state === EVTCHN_STATE.interdomain ? { ...port, consumer: CONSUMER.sharing } : port,
		) ?? [];
	dom0.pirqList = dom0.pirqList?.map((pirq) => ({ ...pirq, flags: 15 })) ?? [];
	dom0.capRanges = [
		...(dom0.capRanges ?? []).slice(0, 2),
		{ kind: CAP.ioPort, first: 0x61, last: 0x61 },
		...(dom0.capRanges ?? []).slice(2),
	];

	// A PV guest may leave more handles behind than a pin counts.
	pv.domain = { ...pv.domain, maxMaptrackFrames: 2 };
	pv.maptrack = [
		...(pv.maptrack ?? []),
		...new Array(508).fill({ reference: 1, domid: 0, flags: GRANT_MAP.host, vcpuId: 0 }),
	];
	pv.grantActive = pv.grantActive?.map((grant) => grant && { ...grant, hostWrite: 128 }) ?? [];
	pv.eventArrays = new Array(128).fill({ mfn: 212 });
	pv.controlBlocks = pv.controlBlocks?.map((block, i) => (i === 1 ? { ...block, offset: 4096 - 72 } : block)) ?? [];
	const areas = { runstate: 3, ioPrivilege: 3, runstateArea: TIME_AREA.frame, timeArea: TIME_AREA.frame };
	pv.vcpu = pv.vcpu.map((vcpu, i) => (i === 0 ? { ...vcpu, ...areas, vcpuInfoOffset: 4096 - 64 } : vcpu));
	pv.pvVcpu =
		pv.pvVcpu?.map((vcpu) => ({ ...vcpu, gdtMfn: new Array(16).fill(222), gdtEntries: 8192, ldtEntries: 8192 })) ?? [];
	pv.pvExtended = [new Uint8Array(32), new Uint8Array(128)];

	hvm.domainState = { ...hvm.domainState, callbackAsserted: 1, suspendedS3: 1, pirqEoiMode: 2, target: 0 };
	hvm.keptRoots = [
		...(hvm.keptRoots ?? []),
		...[3, 5].map((levels) => ({
			rootMfn: 451,
			purpose: KEPT_PURPOSE.iommu,
			format: KEPT_FORMAT.amdIommu,
			levels,
		})),
	];
	const p2m = hvm.p2m as BigUint64Array;
	p2m[302] = p2mEntry(801, P2M_TYPE.ramRw, 0, P2M_ACCESS.rPw);
	p2m[500] = p2mEntry(500, P2M_TYPE.mmioDirect);
	const hvmGrants = [...(hvm.grantActive ?? [])];
	hvmGrants[3] = { ...hvmGrants[3], hostRead: 1, deviceRead: 1 };
	hvm.grantActive = hvmGrants;
	hvm.hvmContext = hvmContext([
		[2, 0, 1032],
		// A local APIC of a vCPU that is down.
		[5, 2, 24],
	]);
	hvm.ioreqServerList = [
		...(hvm.ioreqServerList ?? []),
		...[1, 2, 3, 4, 5, 6, 65535].map((serverId) => ({ serverId, emulator: 0, flags: serverId === 1 ? 3 : 1 })),
	];
	hvm.ioreqRanges = [...(hvm.ioreqRanges ?? []), { serverId: 1, type: IOREQ_RANGE.port, first: 0, last: 0 }];

	dead.domain = { ...dead.domain, maxVcpus: 8192 };
}

/** The same of what version 2 has. */
function atLimitsOfSecond({ model }: ReturnType<typeof secondHost>): void {
	const narrow = model.domains.find(({ domain }) => domain.domid === NARROW)!;
	// All of the L2 table that has Xen's part is Xen's.
	narrow.pv32 = { xenStart: 0xc000_0000 };
	narrow.vnumaDistances = [10, 255, 255, 10].map((distance) => ({ distance }));
	narrow.schedulerVcpus = [
		{ vcpuId: 0, periodUs: 10, budgetUs: 10 },
		{ vcpuId: 1, periodUs: 10_000_000, budgetUs: 10 },
	];
	narrow.pv32Vcpu =
		narrow.pv32Vcpu?.map((vcpu) => ({
			...vcpu,
			gdtMfn: new Array(16).fill(854),
			gdtEntries: 8192,
			ldtEntries: 8192,
		})) ?? [];
	narrow.pvTraps = [[{ vector: 3, flags: 3, cs: 0x61, address: 0xffff_ffff }]];
}

/** Domains that have little: no ports, no PIRQs, no registers, none that runs. */
function idle(s: Restitched): void {
	for (const domid of [0, 1, 2]) s.remove("LU_EVTCHN_PORTS", domid);
	for (const domid of [0, 2]) s.remove("LU_PIRQS", domid);
	for (const name of ["LU_IOREQ_SERVERS", "LU_DEVICES", "HVM_CONTEXT"]) s.remove(name);
	s.record("LU_EVTCHN", 1).row("ControlBlocks", 0, "tail", 0, 7);
	// Shut down, with its vCPU down; and created, with none that was ever initialised.
	const flags = Number(s.record("LU_VCPU", 0).get("flags"));
	s.record("LU_VCPU", 0).set("flags", flags | VCPU_FLAG.down);
	s.record("LU_DOMAIN_STATE", 0).set("shutdownState", SHUTDOWN_STATE.shutDown).set("shutdownCode", 0);
	for (const n of [0, 1]) s.record("LU_VCPU", 2, n).set("flags", VCPU_FLAG.exists);
}

/** A stream in the other byte order, and memory that goes with it. */
function bigEndian(stream: Uint8Array): Pick<Vector, "stream" | "memory"> {
	const turned = toBigEndian(stream, hashOf);
	return { stream: turned, memory: memoryFor(turned, tinyHost().preserved) };
}

/** The same host, changed before it is saved. */
function saved(name: string, what: string, change: (host: ReturnType<typeof tinyHost>) => void): Vector {
	const host = tinyHost();
	change(host);
	const { stream, memory } = saveModel(host.model, host.preserved, 1);
	return { name, what, stream, memory };
}

/** The second host in the same way. */
function savedSecond(name: string, what: string, change: (host: ReturnType<typeof secondHost>) => void): Vector {
	const host = secondHost();
	change(host);
	const { stream, memory } = saveModel(host.model, host.preserved);
	return { name, what, stream, memory };
}

function chunk(form: number, width: number, entryCount: number, payload: Uint8Array): Uint8Array {
	const octets = new Uint8Array(8 + Math.ceil(payload.length / 8) * 8);
	const view = new DataView(octets.buffer);
	view.setUint8(0, form);
	view.setUint8(1, width);
	view.setUint16(2, entryCount, true);
	view.setUint32(4, octets.length - 8, true);
	octets.set(payload, 8);
	return octets;
}

/** Differences of `width` octets to an entry, in a PACKED chunk. */
function packed(base: bigint, differences: readonly bigint[], width: number): Uint8Array {
	const payload = new Uint8Array(8 + differences.length * width);
	new DataView(payload.buffer).setBigUint64(0, base, true);
	for (const [i, difference] of differences.entries())
		for (let octet = 0; octet < width; octet++)
			payload[8 + i * width + octet] = Number((difference >> BigInt(8 * octet)) & 255n);
	return chunk(2, width, differences.length, payload);
}

function runs8(list: readonly (readonly [entry: bigint, length: number])[]): Uint8Array {
	const payload = new Uint8Array(8 + list.length * 10);
	const view = new DataView(payload.buffer);
	view.setUint32(0, list.length, true);
	for (const [i, [entry, length]] of list.entries()) {
		view.setBigUint64(8 + 8 * i, entry, true);
		view.setUint16(8 + 8 * list.length + 2 * i, length, true);
	}
	return chunk(
		1,
		0,
		list.reduce((sum, [, length]) => sum + length, 0),
		payload,
	);
}

function literal(entries: readonly bigint[]): Uint8Array {
	return chunk(3, 0, entries.length, new Uint8Array(BigUint64Array.from(entries).buffer));
}

const CHUNK = 4096;
/** Device memory far beyond the host's frames. */
const device = (mfn: bigint) => p2mEntry(0, P2M_TYPE.mmioDirect) | mfn;

/** Adds a slice to the HVM guest's P2M. `highest` is the last GFN that is mapped then. */
function addSlice(
	s: Restitched,
	first: number,
	entryCount: number,
	highest: number,
	chunks: readonly Uint8Array[],
): void {
	const { records } = s.section("0", 2);
	const own = s.record("LU_P2M", 2).set("highestGfn", BigInt(highest));
	const octets = concatenate(chunks);
	const slice = new StreamRecord(own.type, concatenate([own.body.slice(0, 32), octets]));
	slice.set("firstGfn", BigInt(first)).set("entryCount", entryCount).set("chunkBytes", octets.length);
	records.splice(records.indexOf(own) + 1, 0, slice);
}

/** One chunk of each width: of 4096 entries few differ, so that the vector is small, and one needs the top octet. */
function widths(s: Restitched): void {
	const chunks: Uint8Array[] = [];
	for (let width = 1; width <= 7; width++) {
		const base = device(0x12_3400_0000n);
		const differences = new Array<bigint>(CHUNK).fill(0n);
		for (let i = 1; i < 16; i++) differences[i] = BigInt(i);
		// Octets 0 to 4 are the MFN's; octet 5 is access and type, octet 6 the order.
		if (width <= 5) differences[17] = 1n << BigInt(8 * width - 1);
		else if (width === 6) differences[17] = BigInt(P2M_ACCESS.rwx ^ P2M_ACCESS.rx) << 44n;
		else for (let i = 512; i < 1024; i++) differences[i] = (9n << 48n) | BigInt(i - 512);
		chunks.push(packed(base, differences, width));
	}
	addSlice(s, 8192, 7 * CHUNK, 8192 + 7 * CHUNK - 1, chunks);
}

/** Every order that P3 allows, as far as one stream can have it. */
function otherOrders(s: Restitched): void {
	for (const pass of [1, 3, 4]) {
		const first = s.sections.findIndex((section) => section.pass === pass);
		const count = s.sections.filter((section) => section.pass === pass).length;
		s.sections.splice(first, count, ...s.sections.slice(first, first + count).reverse());
	}
	const { records } = s.section("2", 1);
	// What nothing of the section depends on goes last; vCPU 1's records come before vCPU 0's.
	const state = s.remove("LU_DOMAIN_STATE", 1);
	const ofVcpu1 = records.filter((r) => r.name.includes("VCPU") && r.get("vcpuId") === 1);
	s.section("2", 1).records = [
		...s.section("2", 1).records.filter((r) => r.name === "LU_SHARED_INFO"),
		...ofVcpu1,
		...s.section("2", 1).records.filter((r) => r.name !== "LU_SHARED_INFO" && !ofVcpu1.includes(r)),
		state,
	];
	const host = s.section("H").records;
	host.unshift(...host.splice(2).reverse());
}

/** A host of no domain and no frame that anybody owns. */
function nobody(s: Restitched): void {
	s.sections = s.sections.filter(({ pass }) => pass === 0 || pass === 2);
	s.section("1h").records = [];
	const host = s.record("LU_HOST");
	host.body = host.body.slice(0, 64);
	host.set("domainCount", 0).set("virqHandlerCount", 0);
	const m2p = s.record("LU_M2P");
	m2p.body = m2p.body.slice(0, 8);
	m2p.set("rangeCount", 0);
	for (const name of ["LU_IRQS", "LU_DEVICES"]) s.remove(name);
}

export function validVectors(): Vector[] {
	const padded = new Uint8Array(Math.ceil(base.stream.length / 4096) * 4096);
	padded.set(base.stream);
	return [
		base,
		goldenVector(
			"tiny",
			"every record type; 2-level and FIFO ports; both grant versions; an emulator; a dead domain (released with version 1)",
		),
		goldenVector("forms", "every form of chunk in each table, three slices, one of them left out"),
		goldenVector("pv", "a captured host with a PV guest"),
		goldenVector("pvh", "a captured host with a PVH guest"),
		goldenVector("hvm", "a captured host with an HVM guest"),
		{ name: "alone", what: "the same without its preserved memory", stream: base.stream },
		{
			name: "padded",
			what: "the same as it is handed over: zeros up to the end of the last frame",
			stream: padded,
			memory: base.memory,
			isPadded: true,
		},
		second,
		{ name: "big", what: "the same in big-endian order", ...bigEndian(base.stream) },
		changed("nobody", "no domain, no frame that anybody owns, no optional record", nobody),
		changed("optional", "unknown optional records in every section", (s) => {
			for (const [i, { records }] of s.sections.entries()) {
				records.unshift(new StreamRecord(0x8000_0000 + i, new Uint8Array(i).fill(0xee)));
				records.push(new StreamRecord(0xffff_ffff, new Uint8Array(0)));
			}
		}),
		changed("orders", "domains descending within a pass, records in another order that is allowed", otherOrders),
		changed("widths", "PACKED chunks of each width", widths),
		changed("chunk-forms", "a form that the writer would not take: LITERAL and PACKED where RUNS is smallest", (s) => {
			const entries = Array.from({ length: 100 }, (_, i) => device(0x2000n + BigInt(i)));
			const differences = entries.map((entry) => entry ^ entries[0]!);
			addSlice(s, 4096, CHUNK + 100, 4096 + CHUNK + 99, [
				literal(new Array(CHUNK).fill(0n)),
				packed(entries[0]!, differences, 1),
			]);
		}),
		saved("odd", "a number of frames that is no multiple of 8, the last of them with a type", ({ model }) => {
			model.frameOwners = model.frameOwners.slice(0, 1021);
			model.frameTypes = model.frameTypes.slice(0, 1021);
			model.frameOwners[1020] = BigInt(DOMID.XEN | FRAME.owned | FRAME.allocated);
			model.frameTypes[1020] = PAGE_TYPE.writable;
		}),
		saved("stale", "a PV guest's handle of a domain that is gone, and a second one of a grant with one pin", (host) => {
			const guest = host.model.domains.find(({ domain }) => domain.domid === 1)!;
			const maps = (guest.maptrack ?? []) as object[];
			const flags = GRANT_MAP.host | GRANT_MAP.readonly;
			guest.maptrack = [...maps, { reference: 77, domid: 9, flags }, { ...maps.find((map) => map) }] as never;
		}),
		saved(
			"ports",
			"a free port that remembers its queue; a reserved one; unbound ones, also of a domain that is gone",
			(host) => {
				const guest = host.model.domains.find(({ domain }) => domain.domid === 1)!;
				const free = { state: EVTCHN_STATE.free, lastPriority: 7, lastVcpu: 1 };
				const reserved = { state: EVTCHN_STATE.reserved };
				const unbound = { state: EVTCHN_STATE.unbound, remoteDomid: 99 };
				guest.ports = [...(guest.ports ?? []), undefined, free, reserved, undefined, unbound];
			},
		),
		saved("linear", "an L4 table that names another one of its domain read-only: a linear map", ({ preserved }) => {
			view(preserved.get(200) as Uint8Array).setBigUint64(8 * 301, pte(205, false), true);
		}),
		saved("ballooning", "a domain with more frames than its limit, which was lowered", ({ model }) => {
			model.domains.find(({ domain }) => domain.domid === 1)!.domain.maxPages = 8;
		}),
		saved("dead-hvm", "a dead HVM domain, of which nobody asks for HAP any more", ({ model }) => {
			const { domain } = model.domains.find(({ domain }) => domain.life === LIFE.dead)!;
			Object.assign(domain, { kind: KIND.hvm, createFlags: 0 });
		}),
		saved("request-pages", "an I/O server with as many pages as vCPUs can need", ({ model }) => {
			const guest = model.domains.find(({ domain }) => domain.domid === 2)!;
			const [server] = guest.ioreqServerList!;
			const isServers = (row: { serverId?: number | bigint }) => row.serverId === server!.serverId;
			guest.domain.maxVcpus = 8192;
			guest.ioreqServerList = [server!];
			guest.ioreqPorts = guest.ioreqPorts?.filter(isServers) ?? [];
			guest.ioreqRanges = guest.ioreqRanges?.filter(isServers) ?? [];
			guest.ioreqPages = Array.from({ length: 65 }, (_, i) => ({
				serverId: server!.serverId,
				mfn: 700 + i,
				gfn: NONE64,
				role: i === 64 ? IOREQ_PAGE.buffered : IOREQ_PAGE.synchronous,
			})) as never;
		}),
		saved("limits", "numbers at the end of their ranges, where one more is refused", atLimits),
		savedSecond("limits-2", "the same of version 2", atLimitsOfSecond),
		changed("slots", "as many slots as there may be; the last entry of a P2M in a slice of its own", (s) => {
			s.record("LU_EVTCHN_PORTS", 0).set("slotCount", 4096);
			s.record("LU_DOMAIN", 1).set("maxMaptrackFrames", 1);
			s.record("LU_GRANT_MAPS", 1).set("slotCount", 256);
			s.record("LU_P2M", 2).set("defaultAccess", P2M_ACCESS.rPw);
			addSlice(s, 700, 1, 700, [literal([device(0x2000n)])]);
		}),
		changed("gigabyte", "a 1 GiB entry of a P2M", (s) => {
			const mfn = (chunk: number) => device(0x40_0000n + BigInt(chunk * CHUNK)) | (BigInt(P2M_ORDER["1G"]) << 48n);
			const chunks = Array.from({ length: 64 }, (_, i) => runs8([[mfn(i), CHUNK]]));
			addSlice(s, 1 << 18, 1 << 18, (1 << 19) - 1, chunks);
		}),
		changed("idle", "domains without ports, PIRQs and registers, of which none has to run", idle),
	];
}

type StreamCase = Pick<RuleCase, "rule" | "what" | "stream" | "octets">;

/** Chunks that are not well formed: one for each way that FORMAT.md names. */
function chunkCase(
	what: string,
	chunks: (chunks: Uint8Array[]) => Uint8Array[] | undefined,
	entries = CHUNK + 100,
): StreamCase {
	return {
		rule: "CHUNK",
		what,
		stream: (s) => {
			const values = Array.from({ length: 100 }, (_, i) => device(0x2000n + BigInt(i)));
			const differences = values.map((value) => value ^ values[0]!);
			const sound = [runs8([[0n, CHUNK]]), packed(values[0]!, differences, 1)];
			addSlice(s, 4096, entries, 4096 + CHUNK + 99, chunks(sound) ?? sound);
		},
	};
}

const view = (octets: Uint8Array) => new DataView(octets.buffer, octets.byteOffset, octets.byteLength);

const chunkCases: StreamCase[] = [
	chunkCase("no whole header", ([a, b]) => [a!, b!.slice(0, 4)]),
	chunkCase("a width where the form has none", ([a]) => void view(a!).setUint8(1, 1)),
	chunkCase("PACKED of width 8", ([, b]) => void view(b!).setUint8(1, 8)),
	chunkCase("PACKED of width 0", ([, b]) => void view(b!).setUint8(1, 0)),
	chunkCase("a first chunk of fewer entries than 4096", ([, b]) => [runs8([[0n, 4095]]), b!]),
	chunkCase("a last chunk of more entries than are left", () => undefined, CHUNK + 99),
	chunkCase("a payload that is longer than its form makes it", ([a, b]) => {
		view(b!).setUint32(4, view(b!).getUint32(4, true) + 8, true);
		return [a!, b!, new Uint8Array(8)];
	}),
	chunkCase("a payload beyond the chunks", ([, b]) => void view(b!).setUint32(4, 0xffff_fff8, true)),
	chunkCase("octets behind the last chunk", ([a, b]) => [a!, b!, new Uint8Array(8)]),
	chunkCase("RUNS without a run", ([a]) => void view(a!).setUint32(8, 0, true)),
	chunkCase("RUNS of more runs than entries", ([a]) => void view(a!).setUint32(8, 4097, true)),
	chunkCase("RUNS with a reserved word that is not zero", ([a]) => void view(a!).setUint32(12, 1, true)),
	chunkCase("an empty run", ([, b]) => [
		runs8([
			[0n, 0],
			[device(0x9000n), CHUNK],
		]),
		b!,
	]),
	chunkCase("lengths that do not add up", ([a]) => void view(a!).setUint16(24, CHUNK - 1, true)),
	chunkCase("a run beyond the entries", ([a]) => void view(a!).setUint16(24, CHUNK + 1, true)),
	chunkCase("a run that continues the one before it", ([, b]) => [
		runs8([
			[device(0x9000n), 96],
			[device(0x9060n), 4000],
		]),
		b!,
	]),
	chunkCase("a run whose MFN would count beyond bit 39", ([, b]) => [
		runs8([[device((1n << 40n) - 4095n), CHUNK]]),
		b!,
	]),
	chunkCase("PACKED whose base is not the first entry", ([, b]) => void view(b!).setUint8(16, 1)),
	chunkCase("PACKED of a width that is not minimal", ([a, b]) => {
		const differences = Array.from({ length: 100 }, (_, i) => BigInt(b![16 + i]!));
		return [a!, packed(view(b!).getBigUint64(8, true), differences, 2)];
	}),
	chunkCase("padding that is not zero", ([, b]) => void b!.set([1], b!.length - 1)),
	{
		rule: "CHUNK",
		what: "PACKED in a table of octets",
		stream: (s) => {
			const record = s.record("LU_PAGE_TYPES");
			record.body[record.partOffset("FrameTypes")] = 2;
		},
	},
];

/** What ruleCases do not have. */
const moreCases: StreamCase[] = [
	{
		rule: "WRONG_SECTION",
		what: "LU_SECTION in a section",
		stream: (s) => void s.section("2", 1).records.push(new StreamRecord(0x4000003e, new Uint8Array(32))),
	},
	{
		rule: "INDEX",
		what: "END without LU_INDEX",
		octets: (stream) => {
			const at = indexAt(stream);
			return concatenate([stream.slice(0, at), stream.slice(stream.length - 8)]);
		},
	},
	{
		rule: "INDEX",
		what: "an entry with another offset, its hash made anew",
		octets: (stream) => {
			const body = indexAt(stream) + 8;
			const data = view(stream);
			data.setBigUint64(body + 16 + 8, 32n, true);
			const count = data.getUint32(body + 8, true);
			data.setBigUint64(body, hashOf(stream.slice(body + 16, body + 16 + 40 * count)), true);
			return stream;
		},
	},
];

/** The same mistakes in a big-endian stream. */
const bigCases: StreamCase[] = [
	{
		rule: "CHECKSUM",
		what: "big-endian, its checksums those of the little-endian octets",
		octets: (stream) => toBigEndian(stream),
	},
	{
		rule: "CHUNK",
		what: "big-endian, a run whose length is not of the form's order",
		octets: (stream) => {
			const s = parse(stream);
			const record = s.record("LU_PAGE_TYPES");
			const length = record.partOffset("FrameTypes") + 16;
			new DataView(record.body.buffer).setUint16(length, new DataView(record.body.buffer).getUint16(length, true));
			return toBigEndian(s.build(), hashOf);
		},
	},
	{
		rule: "PORT_FIELD",
		what: "big-endian, a priority that no queue has",
		octets: (stream) => {
			const s = parse(stream);
			s.record("LU_EVTCHN_PORTS", 1).row("Ports", 0, "priority", 16);
			return toBigEndian(s.build(), hashOf);
		},
	},
];

/** Page types in chunks that a case makes of them. */
const typesCase = (what: string, chunks: Uint8Array): StreamCase => ({
	rule: "CHUNK",
	what,
	stream: (s) => {
		const types = s.record("LU_PAGE_TYPES");
		types.body = concatenate([types.body.slice(0, types.partOffset("FrameTypes")), chunks]);
		types.set("chunkBytes", chunks.length);
	},
});

/** What tools/check-mutations.mjs found that no case above would miss, of chunks. */
const laterCases: StreamCase[] = [
	chunkCase("form 0", ([a]) => void view(a!).setUint8(0, 0)),
	chunkCase("a chunk's header and nothing behind it", ([a, b]) => [a!, b!.slice(0, 8)]),
	chunkCase("RUNS with an empty payload", ([, b]) => {
		const empty = chunk(1, 0, CHUNK, new Uint8Array(0));
		return [empty, new Uint8Array(8), b!];
	}),
	chunkCase("RUNS of a prefix alone, which counts no run", ([, b]) => [chunk(1, 0, CHUNK, new Uint8Array(8)), b!]),
	typesCase(
		"a run of page types that continues the one before it",
		// Two runs of 512 frames without a type: lengths, then values.
		chunk(1, 0, 1024, Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2, 0, 0)),
	),
	{
		rule: "FRAME_ENTRY",
		what: "an unknown flag in a chunk of entries as they are",
		stream: (s) => {
			const { frameOwners } = tinyHost().model;
			const entries = [...frameOwners];
			entries[600] = frameOwners[600]! | (1n << 40n);
			const frames = s.record("LU_FRAMES");
			const octets = literal(entries);
			frames.body = concatenate([frames.body.slice(0, frames.partOffset("FrameOwners")), octets]);
			frames.set("chunkBytes", octets.length);
		},
	},
];

function indexAt(stream: Uint8Array): number {
	const sections = view(stream);
	let at = 24;
	while (sections.getUint32(at, true) === 0x4000003e) at += 40 + Number(sections.getBigUint64(at + 16, true));
	return at;
}

/** Preserved memory that is not whole, or not this stream's. */
const memoryCases: [
	what: string,
	change: (memory: Uint8Array<ArrayBuffer>) => Uint8Array | undefined,
	isHashed: boolean,
][] = [
	["no whole header", (m) => m.slice(0, 31), false],
	["another magic", (m) => void m.set([0x32], 7), false],
	["pages elsewhere", (m) => void view(m).setUint32(28, 8192, true), false],
	["half a page", (m) => m.slice(0, m.length - 2048), false],
	["an octet of a page", (m) => void m.set([1], 4096), false],
	["another stream's", (m) => void view(m).setBigUint64(8, 1n, true), false],
	["octets in front of the pages", (m) => void m.set([1], 4095), true],
	["one page twice", (m) => void view(m).setBigUint64(40, view(m).getBigUint64(32, true), true), true],
	["pages that do not ascend", (m) => void view(m).setBigUint64(32, 1023n, true), true],
	["a header alone", (m) => m.slice(0, 32), false],
];

export interface DamagedVector extends Vector {
	rule: string;
}

export function damagedVectors(): DamagedVector[] {
	const cases: { rule: string; what: string; stream: Uint8Array; memory: Uint8Array }[] = [];
	for (const one of [...ruleCases, ...chunkCases, ...moreCases, ...bigCases]) {
		cases.push({ rule: one.rule, what: one.what, ...brokenStream({ fault: "", ...one }) });
	}
	for (const one of secondCases) cases.push({ rule: one.rule, what: one.what, ...brokenSecond(one) });
	for (const [what, change, isHashed] of memoryCases) {
		const memory = new Uint8Array(base.memory!);
		const other = change(memory) ?? memory;
		if (isHashed) view(other).setBigUint64(16, hashOf(other.slice(32)), true);
		cases.push({ rule: "MEMORY", what, stream: base.stream, memory: other });
	}
	// Later ones at the end: a vector's number stays its own.
	for (const one of refusalCases) cases.push({ rule: one.rule, what: one.what, ...brokenRefusal(one) });
	for (const one of laterCases) cases.push({ rule: one.rule, what: one.what, ...brokenStream({ fault: "", ...one }) });
	return rules.flatMap(({ id, name }) =>
		cases
			.filter((one) => one.rule === name)
			.map((one, i) => ({ ...one, name: `${ruleId(id).slice(4)}-${i + 1}`, rule: ruleId(id) })),
	);
}

/** Rules that no stream breaks, and what holds them. */
export const heldElsewhere: Readonly<Record<string, { why: string; test: string }>> = {
	"XLU-R030": { why: "a window of the caller", test: "test/passes/windows.test.ts" },
	"XLU-R031": { why: "the order of calls", test: "test/passes/passes.test.ts" },
	"XLU-R032": { why: "the order of calls", test: "test/passes/passes.test.ts" },
	"XLU-R033": { why: "a hypervisor image, which is saved", test: "test/core/image.test.ts" },
	"XLU-R035": { why: "a restore without the preserved memory", test: "test/passes/passes.test.ts" },
	"XLU-R047": { why: "a hypervisor image, which is saved in an older version", test: "test/core/versions.test.ts" },
	"XLU-R111": { why: "two images that are compared", test: "test/core/roundtrip.test.ts" },
};
