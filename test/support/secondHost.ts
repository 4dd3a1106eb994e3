/**
 * The tiny host with what version 2 has beyond version 1: a 32-bit PV guest, virtual NUMA, scheduler weights, and a CPU pool
 * of RTDS. Every record of version 2 is in it.
 */
import {
	DOMID,
	EVTCHN_ABI,
	EVTCHN_STATE,
	FRAME,
	GRANT_MAP,
	NO_SHUTDOWN_CODE,
	NONE32,
	NONE64,
	PAGE_TYPE,
	PAGE_TYPE_FLAG,
	RTDS_FLAG,
	SCHEDULER,
	VCPU_FLAG,
} from "../../src/format/enums.ts";
import type { DomainModel, PreservedPages } from "../../src/machine/model.ts";
import { pte, type TinyHost, tinyHost } from "./tinyHost.ts";

/** The 32-bit guest, and where Xen's part of its addresses begins: slot 0x1ac of an L2 table that has it. */
export const NARROW = 6;
const XEN_START = 0xf580_0000;
export const XEN_SLOT = (XEN_START >>> 21) & 511;

/** Frames that its L1 tables map read-write. */
const writable = [850, 851, 852, 853];
/** A frame of dom0's that it has mapped by a grant. */
const granted = 150;

/**
 * Its page tables; user and kernel share one L3:
 *
 *     L3 840 (pinned) ─ [0] ─> L2 841 ─ [0] ─> L1 843 (pinned)
 *                       [3] ─> L2 842, with Xen's part ─ [0] ─> L1 844
 *
 * 841 maps itself, read-only. From Xen's first slot on 842 names frames that are none of the guest's.
 */
function tables(types: Uint8Array, preserved: PreservedPages): void {
	const table = (mfn: number, type: number, entries: [slot: number, entry: bigint][]): void => {
		types[mfn] = type | PAGE_TYPE_FLAG.validated;
		const page = new Uint8Array(4096);
		for (const [slot, entry] of entries) new DataView(page.buffer).setBigUint64(slot * 8, entry, true);
		preserved.set(mfn, page);
	};
	const { l1, l2, l3 } = PAGE_TYPE;
	const { pinned, paeXenL2 } = PAGE_TYPE_FLAG;
	table(840, l3 | pinned, [
		[0, pte(841, false)],
		[3, pte(842, false)],
	]);
	table(841, l2, [
		[0, pte(843, true)],
		[500, pte(841, false)],
	]);
	table(842, l2 | paeXenL2, [
		[0, pte(844, true)],
		[XEN_SLOT, pte(64, true)],
		[511, pte(65, true)],
	]);
	table(843, l1 | pinned, [
		...writable.map((mfn, slot): [number, bigint] => [slot, pte(mfn, true)]),
		...[840, 841, 842, 843, 844, 854].map((mfn, i): [number, bigint] => [16 + i, pte(mfn, false)]),
	]);
	table(844, l1, [
		[0, pte(307, true)],
		[1, pte(308, true)],
		[2, pte(granted, true)],
	]);
}

export function secondHost(): TinyHost {
	const { model, preserved } = tinyHost();
	const { frameOwners, frameTypes } = model;
	const own = (first: number, count: number, flags = 0): void => {
		const entry = BigInt(FRAME.owned | FRAME.allocated | flags | NARROW);
		for (let mfn = first; mfn < first + count; mfn++) frameOwners[mfn] = entry;
	};
	const typed = PAGE_TYPE.writable | PAGE_TYPE_FLAG.validated;
	own(840, 24);
	for (const mfn of [307, 308]) {
		own(mfn, 1, FRAME.xenheap);
		frameTypes[mfn] = typed;
		preserved.set(mfn, new Uint8Array(4096));
	}
	for (const mfn of [granted, ...writable]) frameTypes[mfn] = typed;
	frameTypes[854] = PAGE_TYPE.segDesc | PAGE_TYPE_FLAG.validated;
	preserved.set(853, new Uint8Array(4096));
	tables(frameTypes, preserved);

	const [dom0, wide, hvm] = model.domains as [DomainModel, DomainModel, DomainModel];
	const running = { flags: VCPU_FLAG.exists | VCPU_FLAG.initialised, runstate: 1, vcpuInfoMfn: NONE64 };
	const narrow: DomainModel = {
		domain: {
			...wide.domain,
			domid: NARROW,
			uniqueId: 6,
			handle: [...Array(15).fill(0), 6],
			cpupoolId: 1,
			maxPages: 24,
			maxVcpus: 3,
			guestWidth: 4,
		},
		pv32: { xenStart: XEN_START },
		vnumaNodes: [{ physicalNode: 0 }, { physicalNode: NONE32 }],
		vnumaDistances: [10, 20, 21, 10].map((distance) => ({ distance })),
		vnumaVcpus: [0, 1, 1].map((node) => ({ node })),
		vnumaRanges: [
			{ start: 0, end: 0xc000, node: 0 },
			{ start: 0xc000, end: 0x18000, node: 1 },
		],
		vcpuIds: [0, 1],
		grantTable: { version: 1, maptrackFrameCount: 1 },
		grantFrames: [{ mfn: 308, gfn: NONE64 }],
		domainState: {
			creationFinished: 1,
			shutdownCode: NO_SHUTDOWN_CODE,
			target: DOMID.INVALID,
			pirqEoiMfn: NONE64,
			ioreqGfnBase: NONE64,
		},
		sharedInfo: { mfn: 307, gfn: NONE64 },
		evtchn: { abi: EVTCHN_ABI.twoLevel },
		ports: [undefined, { state: EVTCHN_STATE.virq, virq: 0 }, { state: EVTCHN_STATE.ipi, notifyVcpu: 1 }],
		maptrack: [{ reference: 2, domid: 0, flags: GRANT_MAP.host, vcpuId: 0 }],
		vcpu: [running, { ...running, vcpuInfoMfn: 853, vcpuInfoOffset: 128 }],
		hardAffinity: [1n, 1n],
		softAffinity: [3n, 3n],
		pv32Vcpu: [0, 1].map((v) => ({
			eip: 0xc100_1000 + v,
			eax: 7,
			esp: 0xc16f_ffc0,
			eflags: 0x246,
			cs: 0x61,
			ss: 0x69,
			ds: 0x7b,
			es: 0x7b,
			cr0: 0x8005_003b,
			cr3: 840 << 12,
			cr4: 0x660,
			gdtMfn: [854],
			gdtEntries: 32,
			kernelSs: 0x69,
			eventCallbackCs: 0x61,
			eventCallbackEip: 0xc100_2000,
			failsafeCallbackCs: 0x61,
			failsafeCallbackEip: 0xc100_2010,
			flags: 5,
		})),
		pvFpu: [new Uint8Array(512).fill(0x31), new Uint8Array(512).fill(0x32)],
		pvTraps: [[{ vector: 3, flags: 3, cs: 0x61, address: 0xc100_3000 }]],
		pvExtended: [new Uint8Array(128).fill(5), new Uint8Array(128).fill(6)],
		pvXsave: wide.pvXsave,
		pvMsrs: [[{ index: 0xc000_0103, value: 9n }], []],
		tsc: { mode: 0, khz: 2_596_118, nsec: 5n, incarnation: 1 },
		scheduler: { scheduler: SCHEDULER.rtds },
		schedulerVcpus: [
			{ vcpuId: 0, periodUs: 10_000, budgetUs: 4000 },
			{ vcpuId: 1, periodUs: 10_000, budgetUs: 10_000, flags: RTDS_FLAG.extraTime },
		],
	};
	const grants = [...(dom0.grantActive ?? [])];
	grants[2] = { mfn: granted, grantee: NARROW, hostWrite: 1 };
	const domains: DomainModel[] = [
		{ ...dom0, grantActive: grants, scheduler: { scheduler: SCHEDULER.credit2, weight: 512 } },
		wide,
		{
			...hvm,
			vnumaNodes: [{ physicalNode: 0 }],
			vnumaDistances: [{ distance: 10 }],
			vnumaVcpus: [0, 0, 0, 0].map((node) => ({ node })),
			scheduler: { scheduler: SCHEDULER.credit2, weight: 256, cap: 150 },
		},
		...model.domains.slice(3),
		narrow,
	];
	const pools = {
		poolList: [...model.poolList, { poolId: 1, scheduler: SCHEDULER.rtds, granularity: 1 }],
		poolCpus: [model.poolCpus[0], { poolId: 1, cpu: 1 }] as typeof model.poolCpus,
	};
	return { model: { ...model, ...pools, domains }, preserved };
}
