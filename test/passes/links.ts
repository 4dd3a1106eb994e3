/**
 * What one domain has of another, each on a host that has little else: the host, the same host without the link, and
 * the figures that the link makes. A figure that both hosts share would prove nothing, so none may.
 */
import {
	CREATE,
	DOMID,
	EVTCHN_ABI,
	EVTCHN_STATE,
	FRAME,
	GRANT_MAP,
	IOREQ_FLAG,
	IOREQ_PAGE,
	IOREQ_PAGE_FLAG,
	KIND,
	LIFE,
	NO_SHUTDOWN_CODE,
	NONE32,
	NONE64,
	P2M_ACCESS,
	P2M_BITS,
	P2M_TYPE,
	PAGE_TYPE,
	PAGE_TYPE_FLAG,
	REGION,
	SHUTDOWN_STATE,
	VCPU_FLAG,
} from "../../src/format/enums.ts";
import type { DomainModel, HostModel } from "../../src/machine/model.ts";
import type { Image, SmallHost } from "./table.ts";

// --- the small host ---

const FRAMES = 128;
/** Where the frames of domain n begin, and which of them are what. */
const FRAMES_PER_DOMAIN = 16;
const PART = { sharedInfo: 12, grantFrame: 13, extra: 14 } as const;
const RAM_FRAMES = 8;
const M2P_MFN = 15;

/** The n-th frame of a domain. */
const frameOf = (domid: number, n: number): number => domid * FRAMES_PER_DOMAIN + n;

interface Making {
	model: HostModel;
	preserved: SmallHost["preserved"];
	domain(domid: number): DomainModel;
	type(mfn: number): void;
}

type Edit = (host: Making) => void;

/** A host of domains 1, 2 ... of these kinds, each with eight frames, shared_info, a grant frame and one vCPU. */
function small(kinds: readonly number[], ...edits: Edit[]): SmallHost {
	const frameOwners = new BigUint64Array(FRAMES);
	const frameTypes = new Uint8Array(FRAMES);
	const preserved: SmallHost["preserved"] = new Map();
	const own = (mfn: number, domid: number, flags: number) => {
		frameOwners[mfn] = BigInt(FRAME.owned | flags) | BigInt(domid);
	};
	const type = (mfn: number) => {
		frameTypes[mfn] = PAGE_TYPE.writable | PAGE_TYPE_FLAG.validated;
	};
	own(M2P_MFN, DOMID.XEN, FRAME.allocated);
	const domains = kinds.map((kind, i) => {
		const domid = i + 1;
		for (let n = 0; n < RAM_FRAMES; n++) own(frameOf(domid, n), domid, FRAME.allocated);
		for (const part of [PART.sharedInfo, PART.grantFrame]) {
			own(frameOf(domid, part), domid, FRAME.allocated | FRAME.xenheap);
			type(frameOf(domid, part));
			preserved.set(frameOf(domid, part), new Uint8Array(4096));
		}
		return domainModel(domid, kind);
	});
	const model: HostModel = {
		version: { xenMajor: 4, xenMinor: 17, moduleVersion: 1 },
		versionText: "Xen 4.17",
		host: { cpuKhz: 2_000_000, nextUniqueId: 9, cpuCount: 1, features: 1 },
		m2pRanges: [{ firstMfn: M2P_MFN, frameCount: 1 }],
		regionList: [
			{ firstMfn: 0, frameCount: 4, kind: REGION.bootmem },
			{ firstMfn: 4, frameCount: 4, kind: REGION.xenImage },
		],
		poolList: [{ poolId: 0, scheduler: 6, granularity: 1 }],
		poolCpus: [{ poolId: 0, cpu: 0 }],
		frameOwners,
		frameTypes,
		domains,
	};
	const making = { model, preserved, type, domain: (domid: number) => domains[domid - 1] as DomainModel };
	for (const edit of edits) edit(making);
	return { model, preserved };
}

function domainModel(domid: number, kind: number): DomainModel {
	return {
		domain: {
			domid,
			kind,
			uniqueId: domid,
			maxPages: 64,
			createFlags: kind === KIND.pv ? 0 : CREATE.hap,
			maxVcpus: 1,
			maxEvtchnPort: NONE32,
			maxGrantFrames: 4,
			maxMaptrackFrames: 4,
			grantVersionLimit: 2,
			guestWidth: 8,
		},
		vcpuIds: [0],
		...(kind === KIND.pv ? {} : { p2m: p2mOf(domid) }),
		grantTable: { version: 1 },
		grantFrames: [{ mfn: frameOf(domid, PART.grantFrame), gfn: NONE64 }],
		domainState: {
			creationFinished: 1,
			shutdownState: SHUTDOWN_STATE.none,
			shutdownCode: NO_SHUTDOWN_CODE,
			target: DOMID.INVALID,
			pirqEoiMfn: NONE64,
			ioreqGfnBase: NONE64,
		},
		sharedInfo: { mfn: frameOf(domid, PART.sharedInfo), gfn: NONE64 },
		// It has never been brought up, so that it has no registers.
		vcpu: [{ flags: VCPU_FLAG.exists, vcpuInfoMfn: NONE64 }],
		hardAffinity: [1n],
		softAffinity: [1n],
	};
}

const entry = (mfn: number, type: number): bigint =>
	(1n << BigInt(P2M_BITS.present)) |
	(BigInt(P2M_ACCESS.rwx) << BigInt(P2M_BITS.access)) |
	(BigInt(type) << BigInt(P2M_BITS.type)) |
	BigInt(mfn);

/** GFNs 0 to 7 are its frames; 8 to 11 are for what it maps of others. */
const FIRST_MAPPED = 8;
function p2mOf(domid: number): BigUint64Array {
	const p2m = new BigUint64Array(FIRST_MAPPED + 4);
	for (let n = 0; n < RAM_FRAMES; n++) p2m[n] = entry(frameOf(domid, n), P2M_TYPE.ramRw);
	return p2m;
}

const COUNTERS = ["hostWrite", "hostRead", "deviceWrite", "deviceRead"] as const;
const REFERENCE = 3;

/** `granter` grants its frame 0 to `grantee`, which has it mapped once for each of `flags`. */
function grant(granter: number, grantee: number, ...flags: number[]): Edit {
	return ({ domain, type }) => {
		const mfn = frameOf(granter, 0);
		const pins: Record<string, number> = {};
		for (const flag of flags) {
			const isReadonly = (flag & GRANT_MAP.readonly) !== 0;
			const add = (counter: (typeof COUNTERS)[number]) => {
				pins[counter] = (pins[counter] ?? 0) + 1;
			};
			if (flag & GRANT_MAP.host) add(isReadonly ? "hostRead" : "hostWrite");
			if (flag & GRANT_MAP.device) add(isReadonly ? "deviceRead" : "deviceWrite");
		}
		const one = domain(granter);
		const isWritten = (pins.hostWrite ?? 0) + (pins.deviceWrite ?? 0) > 0;
		one.grantActive = Object.assign(new Array(512).fill(undefined), { [REFERENCE]: { mfn, grantee, ...pins } });
		if (isWritten && one.domain.kind === KIND.pv) type(mfn);
		const other = domain(grantee);
		other.grantTable = { ...other.grantTable, maptrackFrameCount: 1 };
		other.maptrack = [
			...(other.maptrack ?? []),
			...flags.map((flag) => ({ reference: REFERENCE, domid: granter, flags: flag, vcpuId: 0 })),
		];
		const isReadonly = flags.every((flag) => flag & GRANT_MAP.readonly);
		if (other.p2m) other.p2m[FIRST_MAPPED] = entry(mfn, isReadonly ? P2M_TYPE.grantMapRo : P2M_TYPE.grantMapRw);
	};
}

/** Frame 5 of a PV domain is a pinned L1 table, which maps nothing yet. */
const L1_FRAME = 5;
function l1Table(domid: number): Edit {
	return ({ model, preserved }) => {
		model.frameTypes[frameOf(domid, L1_FRAME)] = PAGE_TYPE.l1 | PAGE_TYPE_FLAG.validated | PAGE_TYPE_FLAG.pinned;
		preserved.set(frameOf(domid, L1_FRAME), new Uint8Array(4096));
	};
}

/** `mapper`'s L1 table has frame 0 of `owner`, read-write: present, user, accessed, dirty. */
function mapped(mapper: number, owner: number): Edit {
	return ({ preserved, type }) => {
		const page = preserved.get(frameOf(mapper, L1_FRAME)) as Uint8Array;
		new DataView(page.buffer).setBigUint64(8 * 7, (BigInt(frameOf(owner, 0)) << 12n) | 0x67n, true);
		type(frameOf(owner, 0));
	};
}

/** `mapper`'s P2M has the n-th frame of `owner`. */
function foreign(mapper: number, owner: number, n = 0): Edit {
	return ({ domain }) => {
		const one = domain(mapper);
		const gfn = FIRST_MAPPED + 1 + (one.foreignMapList?.length ?? 0);
		const mfn = frameOf(owner, n);
		(one.p2m as BigUint64Array)[gfn] = entry(mfn, P2M_TYPE.foreign);
		one.foreignMapList = [...(one.foreignMapList ?? []), { gfn, mfn, owner }];
	};
}

/** A dead domain: its frames are no longer allocated, and it has nothing left but what others hold of it. */
function die(domid: number): Edit {
	return ({ model, domain }) => {
		const dead = domain(domid);
		dead.domain = { ...dead.domain, life: LIFE.dead };
		dead.domainState = { ...dead.domainState, shutdownState: SHUTDOWN_STATE.shutDown, shutdownCode: 3 };
		Object.assign(dead, { sharedInfo: undefined, grantFrames: undefined, vcpuIds: [], vcpu: [] });
		for (const part of [PART.sharedInfo, PART.grantFrame]) {
			model.frameOwners[frameOf(domid, part)] = 0n;
			model.frameTypes[frameOf(domid, part)] = 0;
		}
		for (let n = 0; n < RAM_FRAMES; n++) {
			model.frameOwners[frameOf(domid, n)] = n === 0 ? BigInt(FRAME.owned) | BigInt(domid) : 0n;
		}
	};
}

/** Ports of two domains that are each other's ends; without `connected` both still wait for the other. */
function channel(a: number, portA: number, b: number, portB: number, connected: boolean): Edit {
	return ({ domain }) => {
		const end = (own: number, ownPort: number, other: number, otherPort: number) => {
			const ports = new Array(64).fill(undefined);
			ports[ownPort] = connected
				? { state: EVTCHN_STATE.interdomain, remoteDomid: other, remotePort: otherPort }
				: { state: EVTCHN_STATE.unbound, remoteDomid: other };
			Object.assign(domain(own), { ports, evtchn: { abi: EVTCHN_ABI.twoLevel } });
		};
		end(a, portA, b, portB);
		end(b, portB, a, portA);
	};
}

/** Two extra frames for the pages of an I/O request server; it is the server that makes them writable pages. */
function pages(guest: number): Edit {
	return ({ model }) => {
		for (const n of [PART.extra, PART.extra + 1]) {
			model.frameOwners[frameOf(guest, n)] = BigInt(FRAME.owned | FRAME.allocated | FRAME.extra) | BigInt(guest);
		}
	};
}

/** An I/O request server: one page acquired as a resource, one that the emulator reaches by GFN. */
function server(guest: number, emulator: number): Edit {
	return ({ domain, type }) => {
		const one = domain(guest);
		for (const n of [PART.extra, PART.extra + 1]) type(frameOf(guest, n));
		const synchronous = { role: IOREQ_PAGE.synchronous, gfn: NONE64, flags: IOREQ_PAGE_FLAG.resource };
		const buffered = { role: IOREQ_PAGE.buffered, gfn: 0x100, flags: 0 };
		one.ioreqServerList = [{ serverId: 0, emulator, flags: IOREQ_FLAG.enabled }];
		one.ioreqPages = [
			{ serverId: 0, mfn: frameOf(guest, PART.extra), ...synchronous },
			{ serverId: 0, mfn: frameOf(guest, PART.extra + 1), ...buffered },
		];
	};
}

function target(domid: number, of: number): Edit {
	return ({ domain }) => {
		domain(domid).domainState = { ...domain(domid).domainState, target: of };
	};
}

const VIRQ_DOM_EXC = 3;
function handler(domid: number): Edit {
	return ({ model }) => {
		model.virqHandlers = [{ virq: VIRQ_DOM_EXC, domid }];
	};
}

/** vcpu_info in the domain's own frame 0. */
function vcpuInfo(domid: number): Edit {
	return ({ domain, type }) => {
		domain(domid).vcpu = [{ ...domain(domid).vcpu[0], vcpuInfoMfn: frameOf(domid, 0) }];
		type(frameOf(domid, 0));
	};
}

// --- the links ---

export interface Figure {
	readonly what: string;
	readonly read: (image: Image) => number;
	/** In the host without the link, and in the one with it. */
	readonly without: number;
	readonly linked: number;
}

export interface Link {
	readonly name: string;
	/** What each domain is, in the order of the domids from 1. */
	readonly roles: readonly string[];
	readonly without: () => SmallHost;
	readonly linked: () => SmallHost;
	readonly figures: readonly Figure[];
}

const hex = (mfn: number) => `0x${mfn.toString(16)}`;
const pageReferences = (domid: number, n: number, without: number, linked: number): Figure => ({
	what: `frame ${hex(frameOf(domid, n))} of domain ${domid}: page references`,
	read: (image) => image.frame(frameOf(domid, n)).references,
	without,
	linked,
});
const typeReferences = (domid: number, n: number, without: number, linked: number): Figure => ({
	what: `frame ${hex(frameOf(domid, n))} of domain ${domid}: type references`,
	read: (image) => image.frame(frameOf(domid, n)).typeReferences,
	without,
	linked,
});
/** One for being alive, one for its frames, one for its xenheap frames; and what points at it. */
const domainReferences = (domid: number, without: number, linked: number): Figure => ({
	what: `domain ${domid}: references`,
	read: (image) => image.row(domid, "DomainCounts", 0).references as number,
	without,
	linked,
});
const port = (domid: number, number: number, field: string, without: number, linked: number): Figure => ({
	what: `domain ${domid}, port ${number}: ${field}`,
	read: (image) => image.row(domid, "Ports", number)[field] as number,
	without,
	linked,
});

const { pv, pvh, hvm } = KIND;
const { host, readonly: readOnly, device } = GRANT_MAP;

function link(
	name: string,
	roles: readonly string[],
	kinds: readonly number[],
	base: readonly Edit[],
	added: readonly Edit[],
	figures: readonly Figure[],
): Link {
	return {
		name,
		roles,
		without: () => small(kinds, ...base),
		linked: () => small(kinds, ...base, ...added),
		figures,
	};
}

/** Of two domains each. */
export const links: readonly Link[] = [
	link(
		"a grant that a PV domain has mapped in its L1 table, where alone it is counted",
		["the granter", "the mapper"],
		[pv, pv],
		[l1Table(2)],
		[grant(1, 2, host), mapped(2, 1)],
		[pageReferences(1, 0, 1, 2), typeReferences(1, 0, 0, 1)],
	),
	link(
		"a PV domain's grant, mapped read-write",
		["the granter", "the mapper"],
		[pv, pvh],
		[],
		[grant(1, 2, host)],
		[pageReferences(1, 0, 1, 2), typeReferences(1, 0, 0, 1)],
	),
	link(
		"a PV domain's grant, mapped read-only",
		["the granter", "the mapper"],
		[pv, pvh],
		[],
		[grant(1, 2, host | readOnly)],
		[pageReferences(1, 0, 1, 2)],
	),
	link(
		"a PV domain's grant, mapped twice read-only and once for a device as well",
		["the granter", "the mapper"],
		[pv, pvh],
		[],
		[grant(1, 2, host | readOnly, host | readOnly, host | device)],
		[pageReferences(1, 0, 1, 5), typeReferences(1, 0, 0, 2)],
	),
	link(
		"a PVH domain's grant, mapped read-write by a domain of a lower domid",
		["the mapper", "the granter"],
		[pvh, pvh],
		[],
		[grant(2, 1, host)],
		[pageReferences(2, 0, 1, 2)],
	),
	link(
		"two domains that have a grant of each other mapped",
		["the lower domid", "the higher one"],
		[pvh, pvh],
		[],
		[grant(1, 2, host), grant(2, 1, host, host | readOnly)],
		[pageReferences(1, 0, 1, 2), pageReferences(2, 0, 1, 3)],
	),
	link(
		"a dead domain's grant, which alone keeps its frame",
		["the dead granter", "the mapper"],
		[pv, pvh],
		[die(1)],
		[grant(1, 2, host)],
		[pageReferences(1, 0, 0, 1), typeReferences(1, 0, 0, 1)],
	),
	link(
		"a foreign entry of a P2M",
		["the owner", "the mapper"],
		[pv, pvh],
		[],
		[foreign(2, 1, 1)],
		[pageReferences(1, 1, 1, 2)],
	),
	link(
		"two foreign entries, of a domain of a higher domid",
		["the mapper", "the owner"],
		[pvh, pvh],
		[],
		[foreign(1, 2, 1), foreign(1, 2, 1)],
		[pageReferences(2, 1, 1, 3)],
	),
	link(
		"an interdomain channel",
		["the one end", "the other end"],
		[pv, pvh],
		[channel(1, 5, 2, 9, false)],
		[channel(1, 5, 2, 9, true)],
		[
			port(1, 5, "state", EVTCHN_STATE.unbound, EVTCHN_STATE.interdomain),
			port(1, 5, "remotePort", 0, 9),
			port(2, 9, "state", EVTCHN_STATE.unbound, EVTCHN_STATE.interdomain),
			port(2, 9, "remotePort", 0, 5),
		],
	),
	link(
		"an emulator and its guest",
		["the emulator", "the guest"],
		[pv, hvm],
		[pages(2)],
		[server(2, 1)],
		[
			domainReferences(1, 3, 4),
			pageReferences(2, PART.extra, 1, 3),
			typeReferences(2, PART.extra, 0, 1),
			pageReferences(2, PART.extra + 1, 1, 2),
			typeReferences(2, PART.extra + 1, 0, 1),
		],
	),
	link(
		"a stub domain and its target",
		["the stub domain", "the target"],
		[pvh, hvm],
		[],
		[target(1, 2)],
		[domainReferences(2, 3, 4)],
	),
	link(
		"a stub domain that emulates its target and maps its memory",
		["the target", "the stub domain"],
		[hvm, pvh],
		[pages(1)],
		[server(1, 2), target(2, 1), foreign(2, 1, 3), foreign(2, 1, PART.extra + 1)],
		[
			domainReferences(1, 3, 4),
			domainReferences(2, 3, 4),
			pageReferences(1, 3, 1, 2),
			pageReferences(1, PART.extra + 1, 1, 3),
			typeReferences(1, PART.extra + 1, 0, 1),
		],
	),
	link(
		"a global VIRQ that another domain than dom0 handles",
		["the handler", "another domain"],
		[pv, pv],
		[],
		[handler(1)],
		[domainReferences(1, 3, 4)],
	),
];

/** One frame that four records hold, in three domains: what each adds, in every order, comes to the same sum. */
export const sum: Link = link(
	"one frame that is granted, foreign-mapped and holds vcpu_info",
	["the owner", "the mapper of the grant", "the mapper of the P2M entry"],
	[pv, pvh, pvh],
	[],
	[vcpuInfo(1), grant(1, 2, host, host | readOnly), foreign(3, 1)],
	[pageReferences(1, 0, 1, 5), typeReferences(1, 0, 0, 2)],
);

/** An HVM guest whose section 2 lacks LU_PIRQS, X86_TSC_INFO and HVM_PARAMS, with what stands on both sides of them. */
export function isolated(): SmallHost {
	return small([pv, hvm], channel(1, 5, 2, 9, true), pages(2), server(2, 1), ({ domain }) => {
		domain(2).hvmContext = hvmContext();
	});
}

/** HEADER, which is 24 octets and begins with its magic, and END. */
function hvmContext(): Uint8Array {
	const context = new Uint8Array(8 + 24 + 8);
	const view = new DataView(context.buffer);
	view.setUint16(0, 1, true);
	view.setUint32(4, 24, true);
	view.setUint32(8, 0x5438_1286, true);
	return context;
}
