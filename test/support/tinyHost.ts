/**
 * A host as small as can be that has every record of version 1: dom0, a PV guest with FIFO channels, an HVM guest with
 * an emulator and a version 2 grant table, and a dead domain whose frames dom0 still maps. Tests flip every bit of its
 * stream; the golden streams are made from it.
 */
import {
	BUFIOREQ,
	CAP,
	CONSUMER,
	CREATE,
	DOMID,
	EVTCHN_ABI,
	EVTCHN_STATE,
	FRAME,
	GRANT_MAP,
	IOREQ_FLAG,
	IOREQ_PAGE,
	IOREQ_PAGE_FLAG,
	IOREQ_RANGE,
	KEPT_FORMAT,
	KEPT_PURPOSE,
	KIND,
	LIFE,
	NO_SHUTDOWN_CODE,
	NONE32,
	NONE64,
	P2M_ACCESS,
	P2M_TYPE,
	PAGE_TYPE,
	PAGE_TYPE_FLAG,
	PIRQ_FLAG,
	REGION,
	SHUTDOWN_STATE,
	VCPU_FLAG,
} from "../../src/format/enums.ts";
import type { DomainModel, HostModel, PreservedPages } from "../../src/machine/model.ts";

const FRAMES = 1024;
const owned = BigInt(FRAME.owned | FRAME.allocated);

export function p2mEntry(
	mfn: number,
	type: number = P2M_TYPE.ramRw,
	order = 0,
	access: number = P2M_ACCESS.rwx,
): bigint {
	return (1n << 63n) | (BigInt(order) << 48n) | (BigInt(access) << 44n) | (BigInt(type) << 40n) | BigInt(mfn);
}

const runningVcpu = { flags: VCPU_FLAG.exists | VCPU_FLAG.initialised, runstate: 1, vcpuInfoMfn: NONE64 };

const quietState = {
	creationFinished: 1,
	shutdownState: SHUTDOWN_STATE.none,
	shutdownCode: NO_SHUTDOWN_CODE,
	target: DOMID.INVALID,
	pirqEoiMfn: NONE64,
	ioreqGfnBase: NONE64,
};

function handle(last: number): number[] {
	return [0x4c, 0x41, 0x42, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, last];
}

/** Frames of the PV guest that its L1 tables map read-write. */
const pvWritable = [192, 193, 210, 211, 212, 220, 221];
/** Of dom0 and of the HVM guest, whose frames take no type from others: what the PV guest has mapped by grants. */
const grantedToPv = { dom0: 140, hvm: 516 } as const;

export function pte(mfn: number, writable: boolean): bigint {
	return (BigInt(mfn) << 12n) | (writable ? 0x67n : 0x65n);
}

/**
 * The PV guest's page tables:
 *
 *     L4 200 (kernel), 205 (user), pinned ─ [272] ─> L3 201 ─ [0] ─> L2 202 ─ [0], [511] ─> L1 203 (pinned), 204
 *
 * 200 maps itself, read-only; a slot of Xen's own names a frame of Xen's. 203 maps the guest's own frames and what is
 * nobody's memory; 204 what the guest shares with the hypervisor, and what others have granted.
 */
function pvTables(types: Uint8Array, preserved: PreservedPages): void {
	const table = (mfn: number, type: number, entries: [slot: number, entry: bigint][]): void => {
		types[mfn] = type | PAGE_TYPE_FLAG.validated;
		const page = new Uint8Array(4096);
		for (const [slot, entry] of entries) new DataView(page.buffer).setBigUint64(slot * 8, entry, true);
		preserved.set(mfn, page);
	};
	const { l1, l2, l3, l4 } = PAGE_TYPE;
	const { pinned } = PAGE_TYPE_FLAG;
	table(200, l4 | pinned, [
		[256, pte(64, true)],
		[271, pte(201, true)],
		[272, pte(201, true)],
		[300, pte(200, false)],
	]);
	table(205, l4 | pinned, [[272, pte(201, true)]]);
	table(201, l3, [[0, pte(202, true)]]);
	table(202, l2, [
		[0, pte(203, true)],
		[511, pte(204, true)],
	]);
	table(203, l1 | pinned, [
		...pvWritable.map((mfn, slot): [number, bigint] => [slot, pte(mfn, true)]),
		...[200, 201, 202, 203, 204, 205, 222].map((mfn, i): [number, bigint] => [16 + i, pte(mfn, false)]),
		// Read-only and twice; not present; frames that nobody owns, DOMID_XEN's, beyond the host.
		[32, pte(192, false)],
		[33, pte(192, true)],
		[34, pte(194, true) - 1n],
		[35, pte(900, true)],
		[36, pte(65, false)],
		[37, pte(0xfee00, true)],
	]);
	table(204, l1, [
		[0, pte(302, true)],
		[1, pte(303, true)],
		[510, pte(grantedToPv.dom0, true)],
		// With the bits that are software's and no-execute, which are no part of the frame's number.
		[511, pte(grantedToPv.hvm, true) | 0x8070_0000_0000_0000n],
	]);
}

export interface TinyHost {
	model: HostModel;
	preserved: PreservedPages;
}

export function tinyHost(): TinyHost {
	const frameOwners = new BigUint64Array(FRAMES);
	const frameTypes = new Uint8Array(FRAMES);
	const preserved: PreservedPages = new Map();
	const own = (domid: number, first: number, count: number, flags = 0): void => {
		for (let mfn = first; mfn < first + count; mfn++) frameOwners[mfn] = owned | BigInt(flags) | BigInt(domid);
	};
	const xenheap = (domid: number, ...mfns: number[]): void => {
		for (const mfn of mfns) {
			own(domid, mfn, 1, FRAME.xenheap);
			frameTypes[mfn] = PAGE_TYPE.writable | PAGE_TYPE_FLAG.validated;
			preserved.set(mfn, new Uint8Array(4096));
		}
	};
	const page = (...mfns: number[]): void => {
		for (const mfn of mfns) preserved.set(mfn, new Uint8Array(4096).fill(mfn & 0xff));
	};

	own(DOMID.XEN, 64, 2);
	own(0, 128, 64);
	own(1, 192, 48);
	own(2, 512, 300);
	own(2, 820, 2, FRAME.extra);
	xenheap(0, 300, 301);
	xenheap(1, 302, 303);
	xenheap(2, 304, 305, 306);
	// The dead domain: owned, no longer allocated; one frame is mapped writable.
	for (const mfn of [400, 401]) frameOwners[mfn] = BigInt(FRAME.owned) | 5n;
	// Mapped writable by whom it may be, the hypervisor among them.
	for (const mfn of [140, ...pvWritable, 400, 515, 820, 821]) {
		frameTypes[mfn] = PAGE_TYPE.writable | PAGE_TYPE_FLAG.validated;
	}
	frameTypes[222] = PAGE_TYPE.segDesc | PAGE_TYPE_FLAG.validated;
	page(210, 211, 212);
	pvTables(frameTypes, preserved);

	const dom0: DomainModel = {
		domain: {
			domid: 0,
			kind: KIND.pv,
			uniqueId: 1,
			maxPages: 64,
			nodeAffinity: 1,
			createFlags: CREATE.privileged | CREATE.hardware | CREATE.console,
			maxVcpus: 1,
			maxEvtchnPort: NONE32,
			maxGrantFrames: 64,
			maxMaptrackFrames: 1024,
			grantVersionLimit: 2,
			guestWidth: 8,
		},
		vcpuIds: [0],
		grantTable: { version: 1, maptrackFrameCount: 1 },
		grantFrames: [{ mfn: 301, gfn: NONE64 }],
		grantActive: Object.assign(new Array(512).fill(undefined), {
			1: { mfn: grantedToPv.dom0, grantee: 1, hostWrite: 1, deviceRead: 1 },
		}),
		domainState: { ...quietState, vmAssist: 0x2d },
		watchdogs: [{ index: 1, expiresNs: 5_000_000_000 }],
		sharedInfo: { mfn: 300, gfn: NONE64 },
		evtchn: { abi: EVTCHN_ABI.twoLevel },
		ports: [
			undefined,
			{ state: EVTCHN_STATE.virq, virq: 0 },
			{ state: EVTCHN_STATE.interdomain, remoteDomid: 1, remotePort: 1 },
			{ state: EVTCHN_STATE.interdomain, remoteDomid: 2, remotePort: 2 },
			undefined,
			{ state: EVTCHN_STATE.pirq, pirq: 9 },
			{ state: EVTCHN_STATE.virq, virq: 2 },
		],
		maptrack: [
			{ reference: 8, domid: 1, flags: GRANT_MAP.host, vcpuId: 0 },
			{ reference: 8, domid: 1, flags: GRANT_MAP.host | GRANT_MAP.readonly, vcpuId: 0 },
			undefined,
			{ reference: 3, domid: 2, flags: GRANT_MAP.host | GRANT_MAP.device, vcpuId: 0 },
			{ reference: 1, domid: 5, flags: GRANT_MAP.host, vcpuId: 0 },
		],
		vcpu: [runningVcpu],
		hardAffinity: [3n],
		softAffinity: [3n],
		pvVcpu: [
			{ rip: 0xffffffff81a442b5n, rflags: 0x246, cs: 0xe033, ss: 0xe02b, cr: [0x80050033n, 0, 0, 130 << 12, 0x150660] },
		],
		pirqList: [{ pirq: 9, irq: 9, port: 5, emuirq: NONE32, guestGsi: NONE32, flags: PIRQ_FLAG.level }],
		capRanges: [
			{ kind: CAP.ioPort, first: 0, last: 0x1f },
			{ kind: CAP.ioPort, first: 0x22, last: 0x3f },
			{ kind: CAP.ioMemory, first: 0, last: 0xfedff },
			{ kind: CAP.interrupt, first: 1, last: 29 },
		],
	};

	const pv: DomainModel = {
		domain: {
			...dom0.domain,
			domid: 1,
			uniqueId: 2,
			handle: handle(1),
			createFlags: 0,
			maxPages: 48,
			maxVcpus: 2,
		},
		cpuidLeaves: [{ leaf: 0, subleaf: NONE32, eax: 0xd, ebx: 0x68747541, ecx: 0x444d4163, edx: 0x69746e65 }],
		msrPolicy: [{ index: 0xce, value: 0x80000000n }],
		vcpuIds: [0, 1],
		grantTable: { version: 1, maptrackFrameCount: 1 },
		grantFrames: [{ mfn: 303, gfn: NONE64 }],
		grantActive: Object.assign(new Array(512).fill(undefined), {
			8: { mfn: 220, grantee: 0, hostWrite: 1, hostRead: 1 },
		}),
		domainState: { ...quietState, controllerPauseCount: 1 },
		pollWords: [{ value: 2n }],
		e820: [{ address: 0, size: 0x2800000n, type: 1 }],
		sharedInfo: { mfn: 302, gfn: NONE64 },
		evtchn: { abi: EVTCHN_ABI.fifo },
		controlBlocks: [
			{ vcpuId: 0, offset: 0, mfn: 210, tail: [0, 0, 0, 0, 0, 0, 0, 1] },
			{ vcpuId: 1, offset: 128, mfn: 211 },
		],
		eventArrays: [{ mfn: 212 }],
		ports: [
			undefined,
			{
				state: EVTCHN_STATE.interdomain,
				remoteDomid: 0,
				remotePort: 2,
				priority: 7,
				lastPriority: 7,
				notifyVcpu: 1,
				lastVcpu: 1,
			},
			{ state: EVTCHN_STATE.ipi, notifyVcpu: 1, priority: 7, lastPriority: 7, lastVcpu: 1 },
			{ state: EVTCHN_STATE.virq, virq: 0, priority: 7, lastPriority: 7 },
			{ state: EVTCHN_STATE.unbound, remoteDomid: 0, priority: 7, lastPriority: 7, pending: 1 },
		],
		maptrack: [
			undefined,
			{ reference: 1, domid: 0, flags: GRANT_MAP.host, vcpuId: 0 },
			{ reference: 1, domid: 0, flags: GRANT_MAP.device | GRANT_MAP.readonly, vcpuId: 0 },
			{ reference: 4, domid: 2, flags: GRANT_MAP.host, vcpuId: 0 },
		],
		vcpu: [
			{ ...runningVcpu, vcpuInfoMfn: 221, vcpuInfoOffset: 64, periodicPeriodNs: 10_000_000 },
			{ ...runningVcpu, flags: VCPU_FLAG.exists | VCPU_FLAG.initialised | VCPU_FLAG.down, runstateNs: [1, 2, 3, 4] },
		],
		hardAffinity: [1n, 2n],
		softAffinity: [3n, 3n],
		pvVcpu: [0, 1].map((v) => ({
			rip: 0xffffffff812f8385n + BigInt(v),
			rax: 1,
			cs: 0xe033,
			ss: 0xe02b,
			cr: [0x80050033n, v === 0 ? 205 << 12 : 0, 0x5794a9n, 200 << 12, 0x50660],
			gdtMfn: [222],
			gdtEntries: 16,
			flags: 5,
		})),
		pvFpu: [new Uint8Array(512).fill(0x11), new Uint8Array(512).fill(0x22)],
		pvTraps: [
			[
				{ vector: 0, cs: 0xe033, address: 0xffffffff81400000n },
				{ vector: 3, flags: 3, cs: 0xe033, address: 0xffffffff81400100n },
			],
		],
		pvExtended: [new Uint8Array(128).fill(3), new Uint8Array(128).fill(4)],
		pvXsave: [xsaveArea(576), xsaveArea(832)],
		pvMsrs: [[{ index: 0xc0000103, value: 5n }], []],
		tsc: { mode: 0, khz: 2_596_118, nsec: 0x50b1490c9n, incarnation: 1 },
	};

	const p2m = new BigUint64Array(600);
	for (let gfn = 0; gfn < 256; gfn++) p2m[gfn] = p2mEntry(512 + gfn);
	p2m[300] = p2mEntry(800, P2M_TYPE.ramRo, 0, P2M_ACCESS.rx);
	p2m[301] = (BigInt(P2M_TYPE.populateOnDemand) << 40n) | (BigInt(P2M_ACCESS.rwx) << 44n);
	p2m[400] = p2mEntry(190, P2M_TYPE.foreign);
	p2m[599] = p2mEntry(0xfee00, P2M_TYPE.mmioDirect);
	const hvm: DomainModel = {
		domain: {
			...dom0.domain,
			domid: 2,
			kind: KIND.hvm,
			uniqueId: 3,
			handle: handle(2),
			createFlags: CREATE.hap,
			maxPages: 400,
			maxVcpus: 4,
			hapPoolFrames: 4,
			emulationFlags: 0x7ff,
		},
		cpuidLeaves: [{ leaf: 1, subleaf: NONE32, eax: 0x60fb1 }],
		p2m,
		keptRoots: [{ rootMfn: 450, purpose: KEPT_PURPOSE.p2m, format: KEPT_FORMAT.npt, levels: 4 }],
		keptRanges: [{ firstMfn: 450, frameCount: 4 }],
		vcpuIds: [0, 2],
		grantTable: { version: 2, maptrackFrameCount: 0 },
		grantFrames: [{ mfn: 305, gfn: 0x1f000 }],
		statusFrames: [{ mfn: 306, gfn: NONE64 }],
		grantActive: Object.assign(new Array(256).fill(undefined), {
			3: { mfn: 515, grantee: 0, hostWrite: 1, deviceWrite: 1 },
			4: { mfn: grantedToPv.hvm, grantee: 1, hostWrite: 1 },
		}),
		domainState: { ...quietState, pciCf8: 0x80000000, cmosIndex: 15, timeOffsetSec: -3600n },
		emuIrqs: [{ pirq: 16, emuirq: 16 }],
		pinnedCaches: [{ firstGfn: 0xf0000, lastGfn: 0xf0fff, type: 1 }],
		g2mPorts: [{ guestPort: 0x300, machinePort: 0x400, count: 8 }],
		sharedInfo: { mfn: 304, gfn: 0xfeffe },
		evtchn: { abi: EVTCHN_ABI.twoLevel },
		ports: [
			undefined,
			{ state: EVTCHN_STATE.pirq, pirq: 16, notifyVcpu: 2 },
			{ state: EVTCHN_STATE.interdomain, remoteDomid: 0, remotePort: 3, consumer: CONSUMER.ioreq },
		],
		foreignMapList: [{ gfn: 400, mfn: 190, owner: 0 }],
		vcpu: [runningVcpu, undefined, { ...runningVcpu, flags: VCPU_FLAG.exists | VCPU_FLAG.down }],
		hardAffinity: [3n, 0n, 3n],
		softAffinity: [3n, 0n, 3n],
		tsc: { mode: 0, khz: 2_596_119, nsec: 1n, incarnation: 1 },
		hvmParamList: [
			{ index: 1, value: 0xfeffcn },
			{ index: 17, value: 0xfefffn },
		],
		hvmContext: hvmContext(),
		pirqList: [{ pirq: 16, irq: NONE32, port: 1, emuirq: 16, guestGsi: NONE32, flags: PIRQ_FLAG.emulated }],
		ioreqServerList: [
			{ serverId: 0, emulator: 0, bufferedMode: BUFIOREQ.atomic, flags: IOREQ_FLAG.enabled, bufferedPort: 2 },
		],
		ioreqPorts: [{ serverId: 0, vcpuId: 0, port: 2 }],
		ioreqPages: [
			{ serverId: 0, mfn: 820, gfn: NONE64, role: IOREQ_PAGE.synchronous, flags: IOREQ_PAGE_FLAG.resource },
			{ serverId: 0, mfn: 821, gfn: NONE64, role: IOREQ_PAGE.buffered, flags: IOREQ_PAGE_FLAG.resource },
		],
		ioreqRanges: [
			{ serverId: 0, type: IOREQ_RANGE.port, first: 0, last: 0x1f },
			{ serverId: 0, type: IOREQ_RANGE.memory, first: 0xf0000000n, last: 0xf0ffffffn },
			{ serverId: 0, type: IOREQ_RANGE.pci, first: 8, last: 9 },
		],
	};

	const dead: DomainModel = {
		domain: { ...dom0.domain, domid: 5, uniqueId: 4, handle: handle(5), createFlags: 0, life: LIFE.dead, maxVcpus: 0 },
		vcpuIds: [],
		grantTable: { version: 1 },
		grantActive: [undefined, { mfn: 400, grantee: 0, hostWrite: 1 }],
		domainState: { ...quietState, shutdownState: SHUTDOWN_STATE.shutDown, shutdownCode: 3 },
		vcpu: [],
	};

	const model: HostModel = {
		version: { xenMajor: 4, xenMinor: 17, moduleVersion: 1 },
		versionText: "Xen 4.17.7",
		host: { systemTimeNs: 55_213_897_608n, cpuKhz: 2_596_118, nextUniqueId: 5, cpuCount: 2, features: 1 },
		virqHandlers: [{ virq: 3, domid: 0 }],
		m2pRanges: [{ firstMfn: 64, frameCount: 2 }],
		regionList: [
			{ firstMfn: 0, frameCount: 16, kind: REGION.bootmem },
			{ firstMfn: 16, frameCount: 16, kind: REGION.xenImage },
			{ firstMfn: 960, frameCount: 32, kind: REGION.reusable },
		],
		poolList: [{ poolId: 0, scheduler: 6, granularity: 1 }],
		poolCpus: [
			{ poolId: 0, cpu: 0 },
			{ poolId: 0, cpu: 1 },
		],
		ioapicPins: [{ ioapic: 0, pin: 9, irq: 9, vector: 0x30, trigger: 1, polarity: 1 }],
		msis: [{ bus: 3, devfn: 8, irq: 24, vector: 0x51, msix: 1 }],
		irqOwners: [{ irq: 9, domid: 0 }],
		deviceList: [{ bus: 3, devfn: 8, domid: 0 }],
		iommuUnits: [{ baseAddress: 0xfed90000n, rootMfn: 460, remapMfn: 461, unit: 0, format: KEPT_FORMAT.vtd }],
		iommuDomains: [{ rootMfn: 462, unit: 0, hardwareId: 1, domid: 0, levels: 4 }],
		identityMaps: [{ firstMfn: 463, frameCount: 1, domid: 0, writable: 1 }],
		remapEntries: [{ unit: 0, index: 3, low: 0x1234n, high: 0x5678n }],
		iommuRanges: [{ firstMfn: 460, frameCount: 4 }],
		frameOwners,
		frameTypes,
		domains: [dom0, pv, hvm, dead],
	};
	return { model, preserved };
}

function xsaveArea(length: number): Uint8Array {
	const area = new Uint8Array(16 + length);
	const view = new DataView(area.buffer);
	view.setBigUint64(0, 3n, true);
	view.setBigUint64(8, 3n, true);
	view.setBigUint64(16 + 512, 3n, true);
	return area;
}

/** HEADER, one CPU entry, END. */
function hvmContext(): Uint8Array {
	const context = new Uint8Array(8 + 24 + 8 + 1032 + 8);
	const view = new DataView(context.buffer);
	view.setUint16(0, 1, true);
	view.setUint32(4, 24, true);
	view.setUint32(8, 0x54381286, true);
	view.setUint16(32, 2, true);
	view.setUint32(36, 1032, true);
	return context;
}
