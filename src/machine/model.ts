/**
 * A host as plain data: what a captured directory, a test or a machine describes, before it becomes a hypervisor image.
 * A property is an image table's name in lower camel case; rows are the schema's, fields left out are zero, and counts
 * that follow from the tables (numbers of rows, references) are not given but made.
 */
import type { RowInput } from "../format/fields.ts";
import type { heads as H, structs as S } from "../format/schema.ts";

type In<T extends { source: readonly import("../format/layout.ts").Field[] }> = RowInput<T["source"]>;
type Rows<T extends { source: readonly import("../format/layout.ts").Field[] }> = readonly In<T>[];
/** A table with empty slots: index is the slot (port, grant reference, handle), its length the table's. */
type Slots<T extends { source: readonly import("../format/layout.ts").Field[] }> = readonly (In<T> | undefined)[];

export interface HostModel {
	version: In<typeof H.Version>;
	versionText: string;
	host: In<typeof H.Host>;
	virqHandlers?: Rows<typeof S.VirqHandler>;
	m2pRanges: Rows<typeof S.FrameRange>;
	regionList: Rows<typeof S.Region>;
	poolList: Rows<typeof S.Pool>;
	poolCpus: Rows<typeof S.PoolCpu>;
	irqs?: In<typeof H.Irqs>;
	ioapicPins?: Rows<typeof S.IoapicPin>;
	msis?: Rows<typeof S.Msi>;
	irqOwners?: Rows<typeof S.IrqOwner>;
	devices?: In<typeof H.Devices>;
	deviceList?: Rows<typeof S.Device>;
	iommuUnits?: Rows<typeof S.IommuUnit>;
	iommuDomains?: Rows<typeof S.IommuDomain>;
	identityMaps?: Rows<typeof S.IdentityMap>;
	remapEntries?: Rows<typeof S.RemapEntry>;
	iommuRanges?: Rows<typeof S.FrameRange>;
	/** One entry per MFN, see FRAME. */
	frameOwners: BigUint64Array;
	/** One entry per MFN, see PAGE_TYPE. */
	frameTypes: Uint8Array;
	domains: DomainModel[];
}

/** One domain. A table that is not given is empty; a head that is not given is absent, and so is its record. */
export interface DomainModel {
	domain: In<typeof H.Domain> & { domid: number; kind: number };
	cpuidLeaves?: Rows<typeof S.CpuidLeaf>;
	msrPolicy?: Rows<typeof S.MsrEntry>;
	/** Entries by GFN up to the highest mapped one (HVM, PVH), see P2M_BITS. */
	p2m?: BigUint64Array;
	p2mDefaultAccess?: number;
	keptFrames?: In<typeof H.KeptFrames>;
	keptRoots?: Rows<typeof S.KeptRoot>;
	keptRanges?: Rows<typeof S.FrameRange>;
	/** Of a 32-bit PV guest: where Xen's part of its address space begins. */
	pv32?: In<typeof H.Pv32>;
	/** Virtual NUMA: nodes, distances from each to each, the node of each vCPU that may be, stretches of memory. */
	vnumaNodes?: Rows<typeof S.VnumaNode>;
	vnumaDistances?: Rows<typeof S.VnumaDistance>;
	vnumaVcpus?: Rows<typeof S.VnumaVcpu>;
	vnumaRanges?: Rows<typeof S.VnumaRange>;
	/** Which vCPUs exist, ascending. */
	vcpuIds: readonly number[];
	grantTable?: In<typeof H.GrantTable>;
	grantFrames?: Rows<typeof S.GrantFrame>;
	statusFrames?: Rows<typeof S.GrantFrame>;
	/** By grant reference. */
	grantActive?: Slots<typeof S.GrantActive>;
	domainState: In<typeof H.DomainState>;
	pollWords?: Rows<typeof S.Word>;
	watchdogs?: Rows<typeof S.Watchdog>;
	e820?: Rows<typeof S.E820Entry>;
	emuIrqs?: Rows<typeof S.EmuIrq>;
	pinnedCaches?: Rows<typeof S.PinnedCache>;
	g2mPorts?: Rows<typeof S.G2mPort>;
	sharedInfo?: In<typeof H.SharedInfo>;
	evtchn?: In<typeof H.Evtchn>;
	controlBlocks?: Rows<typeof S.ControlBlock>;
	eventArrays?: Rows<typeof S.Mfn>;
	/** By port. */
	ports?: Slots<typeof S.EvtchnPort>;
	/** By handle. */
	maptrack?: Slots<typeof S.Maptrack>;
	foreignMapList?: Rows<typeof S.ForeignMap>;
	/** By vCPU. */
	vcpu: Slots<typeof H.Vcpu>;
	/** Affinities by vCPU: a bitmap of CPUs each. */
	hardAffinity?: readonly bigint[];
	softAffinity?: readonly bigint[];
	savedAffinity?: readonly bigint[];
	/** By vCPU: registers of a 64-bit or of a 32-bit guest, 512 octets of FPU state, 256 trap-table entries. PV only. */
	pvVcpu?: Slots<typeof H.PvVcpu>;
	pv32Vcpu?: Slots<typeof H.Pv32Vcpu>;
	pvFpu?: readonly (Uint8Array | undefined)[];
	pvTraps?: readonly (Rows<typeof S.PvTrap> | undefined)[];
	/** By vCPU: extended context, XSAVE area, MSRs. PV only. */
	pvExtended?: readonly (Uint8Array | undefined)[];
	pvXsave?: readonly (Uint8Array | undefined)[];
	pvMsrs?: readonly (Rows<typeof S.MsrEntry> | undefined)[];
	tsc?: In<typeof H.Tsc>;
	hvmParamList?: Rows<typeof S.HvmParam>;
	hvmContext?: Uint8Array;
	pirqList?: Rows<typeof S.Pirq>;
	ioreqServerList?: Rows<typeof S.IoreqServer>;
	ioreqPorts?: Rows<typeof S.IoreqPort>;
	ioreqPages?: Rows<typeof S.IoreqPage>;
	ioreqRanges?: Rows<typeof S.IoreqRange>;
	capRanges?: Rows<typeof S.CapRange>;
	/** Its share of the CPU pool, and with RTDS its vCPUs' reservations. */
	scheduler?: In<typeof H.Scheduler>;
	schedulerVcpus?: Rows<typeof S.SchedulerVcpu>;
}

/** Preserved memory: MFN -> page (4096 octets), for the frames whose content matters to the hypervisor's state. */
export type PreservedPages = Map<number, Uint8Array>;

/** What a PV guest's image says that a live update has no use for: how the guest itself sees its memory. */
export interface PvLayout {
	/** Octets of a native word. */
	readonly guestWidth: number;
	/** Levels of its page tables. */
	readonly ptLevels: number;
	/** First PFN of the guest's P2M table. */
	readonly startPfn: number;
	/** MFN of each PFN from there on; negative for none. */
	readonly mfns: Float64Array;
	/** PFNs of the frames that the table lies in. */
	readonly p2mPfns: readonly number[];
}

/** How many 64-bit words an affinity has on a host with `cpuCount` CPUs. */
export function affinityWords(cpuCount: number): number {
	return Math.ceil(cpuCount / 64);
}
