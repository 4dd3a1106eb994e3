/**
 * From a hypervisor image back to a host's tables: the inverse of image.ts. Trusts the image, which is the core's or
 * image.ts's own; what a stream may hold was checked before it became one.
 */
import { FRAME_ENTRY_MASK, P2M_ACCESS, VCPU_FLAG } from "../format/enums.ts";
import type { RowOf } from "../format/fields.ts";
import { type Field, readStruct } from "../format/layout.ts";
import { heads as H, structs as S, type TypedStruct } from "../format/schema.ts";
import { type TableView, viewImage } from "./image.ts";
import { affinityWords, type HostModel } from "./model.ts";

type RowsOf<T extends { source: readonly Field[] }> = RowOf<T["source"]>;
export type PortRow = RowsOf<typeof S.EvtchnPort>;
export type ActiveRow = RowsOf<typeof S.GrantActive>;
export type MaptrackRow = RowsOf<typeof S.Maptrack>;
export type VcpuRow = RowsOf<typeof H.Vcpu>;
export type PvVcpuRow = RowsOf<typeof H.PvVcpu>;
export type Pv32VcpuRow = RowsOf<typeof H.Pv32Vcpu>;
export type ControlBlockRow = RowsOf<typeof S.ControlBlock>;
export type PirqRow = RowsOf<typeof S.Pirq>;
export type TrapRow = RowsOf<typeof S.PvTrap>;

/** A domain's tables, complete: the same as DomainModel, but nothing is left out, and all of it may change. */
export interface DomainTables {
	domain: RowsOf<typeof H.Domain>;
	cpuidLeaves: RowsOf<typeof S.CpuidLeaf>[];
	msrPolicy: RowsOf<typeof S.MsrEntry>[];
	p2m: BigUint64Array<ArrayBuffer> | undefined;
	p2mDefaultAccess: number;
	keptFrames: object | undefined;
	keptRoots: RowsOf<typeof S.KeptRoot>[];
	keptRanges: RowsOf<typeof S.FrameRange>[];
	pv32: RowsOf<typeof H.Pv32> | undefined;
	vnumaNodes: RowsOf<typeof S.VnumaNode>[];
	vnumaDistances: RowsOf<typeof S.VnumaDistance>[];
	vnumaVcpus: RowsOf<typeof S.VnumaVcpu>[];
	vnumaRanges: RowsOf<typeof S.VnumaRange>[];
	vcpuIds: number[];
	grantTable: RowsOf<typeof H.GrantTable> | undefined;
	grantFrames: RowsOf<typeof S.GrantFrame>[];
	statusFrames: RowsOf<typeof S.GrantFrame>[];
	grantActive: (ActiveRow | undefined)[];
	domainState: RowsOf<typeof H.DomainState>;
	pollWords: RowsOf<typeof S.Word>[];
	watchdogs: RowsOf<typeof S.Watchdog>[];
	e820: RowsOf<typeof S.E820Entry>[];
	emuIrqs: RowsOf<typeof S.EmuIrq>[];
	pinnedCaches: RowsOf<typeof S.PinnedCache>[];
	g2mPorts: RowsOf<typeof S.G2mPort>[];
	sharedInfo: RowsOf<typeof H.SharedInfo> | undefined;
	evtchn: { abi: number } | undefined;
	controlBlocks: ControlBlockRow[];
	eventArrays: RowsOf<typeof S.Mfn>[];
	ports: (PortRow | undefined)[];
	maptrack: (MaptrackRow | undefined)[];
	foreignMapList: RowsOf<typeof S.ForeignMap>[];
	vcpu: (VcpuRow | undefined)[];
	hardAffinity: bigint[];
	softAffinity: bigint[];
	savedAffinity: bigint[];
	pvVcpu: (PvVcpuRow | undefined)[];
	pv32Vcpu: (Pv32VcpuRow | undefined)[];
	pvFpu: (Uint8Array | undefined)[];
	pvTraps: (TrapRow[] | undefined)[];
	pvExtended: (Uint8Array | undefined)[];
	pvXsave: (Uint8Array | undefined)[];
	pvMsrs: (RowsOf<typeof S.MsrEntry>[] | undefined)[];
	tsc: RowsOf<typeof H.Tsc> | undefined;
	hvmParamList: RowsOf<typeof S.HvmParam>[];
	hvmContext: Uint8Array | undefined;
	pirqList: PirqRow[];
	ioreqServerList: RowsOf<typeof S.IoreqServer>[];
	ioreqPorts: RowsOf<typeof S.IoreqPort>[];
	ioreqPages: RowsOf<typeof S.IoreqPage>[];
	ioreqRanges: RowsOf<typeof S.IoreqRange>[];
	capRanges: RowsOf<typeof S.CapRange>[];
	scheduler: RowsOf<typeof H.Scheduler> | undefined;
	schedulerVcpus: RowsOf<typeof S.SchedulerVcpu>[];
	/** References to the domain. */
	references: number;
}

/** What an image holds of a host, and of each domain by ascending domid. */
export interface ImageTables {
	host: Omit<HostModel, "frameOwners" | "frameTypes" | "domains">;
	/** Low halves of the frame-owner entries: all their bits stand there. */
	owners: Uint32Array;
	types: Uint8Array;
	/** Per MFN: page references, type references. */
	counts: Uint32Array;
	domains: DomainTables[];
}

/** Tables of one directory, by name. */
class TableReader {
	readonly #view: DataView;
	readonly #tables: ReadonlyMap<string, TableView>;

	constructor(view: DataView, tables: readonly TableView[]) {
		this.#view = view;
		this.#tables = new Map(tables.map((entry) => [entry.table.name, entry]));
	}

	#find(name: string): TableView {
		const found = this.#tables.get(name);
		if (!found) throw new Error(`the image has no table ${name}`);
		return found;
	}

	count(name: string): number {
		return this.#find(name).count;
	}

	#rowAt<F extends readonly Field[]>({ offset, table }: TableView, _struct: TypedStruct<F>, index: number): RowOf<F> {
		return readStruct(table.row, this.#view, offset + index * table.row.size) as RowOf<F>;
	}

	rows<F extends readonly Field[]>(name: string, struct: TypedStruct<F>): RowOf<F>[] {
		const found = this.#find(name);
		return Array.from({ length: found.count }, (_, i) => this.#rowAt(found, struct, i));
	}

	row<F extends readonly Field[]>(name: string, struct: TypedStruct<F>): RowOf<F> | undefined {
		return this.rows(name, struct)[0];
	}

	/** A table with empty slots: those that are all zero. */
	slots<F extends readonly Field[]>(name: string, struct: TypedStruct<F>): (RowOf<F> | undefined)[] {
		const found = this.#find(name);
		const octets = this.octets(name);
		const { size } = found.table.row;
		const words = octets.byteLength % 4 === 0 ? new Uint32Array(octets.buffer) : undefined;
		const isUsed = (i: number): boolean => {
			if (words === undefined) return octets.subarray(i * size, (i + 1) * size).some((octet) => octet !== 0);
			for (let at = (i * size) / 4; at < ((i + 1) * size) / 4; at++) if (words[at] !== 0) return true;
			return false;
		};
		return Array.from({ length: found.count }, (_, i) => (isUsed(i) ? this.#rowAt(found, struct, i) : undefined));
	}

	/** A copy of a table's octets. */
	octets(name: string): Uint8Array<ArrayBuffer> {
		const { offset, count, table } = this.#find(name);
		const from = this.#view.byteOffset + offset;
		return new Uint8Array(this.#view.buffer, from, count * table.row.size).slice();
	}

	words(name: string): BigUint64Array<ArrayBuffer> {
		return new BigUint64Array(this.octets(name).buffer);
	}
}

/** Cuts a table with as many rows for each vCPU into one piece each. */
function affinities(reader: TableReader, name: string, slots: number, words: number): bigint[] {
	const values = reader.words(name);
	return Array.from({ length: slots }, (_, vcpu) => {
		let all = 0n;
		for (let word = words - 1; word >= 0; word--) all = (all << 64n) | (values[vcpu * words + word] as bigint);
		return all;
	});
}

function pvState(reader: TableReader, slots: number, vcpu: readonly (VcpuRow | undefined)[]) {
	const blobs = reader.rows("VcpuBlobs", S.VcpuBlobs);
	if (blobs.length === 0)
		return { pvVcpu: [], pv32Vcpu: [], pvFpu: [], pvTraps: [], pvExtended: [], pvXsave: [], pvMsrs: [] };
	const fpu = reader.octets("PvFpu");
	const traps = reader.rows("PvTraps", S.PvTrap);
	const extended = reader.octets("PvExtended");
	const xsave = reader.octets("PvXsave");
	const msrs = reader.rows("PvMsrs", S.MsrEntry);
	const has = (id: number): boolean => ((vcpu[id]?.flags ?? 0) & VCPU_FLAG.initialised) !== 0;
	const of = <T>(make: (id: number, blob: RowsOf<typeof S.VcpuBlobs>) => T): (T | undefined)[] =>
		Array.from({ length: slots }, (_, id) => {
			const blob = blobs[id];
			return has(id) && blob ? make(id, blob) : undefined;
		});
	const piece = (octets: Uint8Array, first: number, count: number) =>
		count > 0 ? octets.slice(first, first + count) : undefined;
	return {
		pvVcpu: reader.rows("PvVcpu", H.PvVcpu).map((row, id) => (has(id) ? row : undefined)),
		pv32Vcpu: reader.rows("Pv32Vcpu", H.Pv32Vcpu).map((row, id) => (has(id) ? row : undefined)),
		pvFpu: of((id) => fpu.slice(id * 512, (id + 1) * 512)),
		pvTraps: of((id) => traps.slice(id * 256, (id + 1) * 256)),
		pvExtended: of((_, blob) => piece(extended, blob.extendedFirst, blob.extendedCount)),
		pvXsave: of((_, blob) => piece(xsave, blob.xsaveFirst, blob.xsaveCount)),
		pvMsrs: of((_, blob) => msrs.slice(blob.msrFirst, blob.msrFirst + blob.msrCount)),
	};
}

function readDomain(reader: TableReader, slots: number, words: number): DomainTables {
	const vcpu = reader.slots("Vcpu", H.Vcpu);
	return {
		domain: reader.row("Domain", H.Domain) as DomainTables["domain"],
		cpuidLeaves: reader.rows("CpuidLeaves", S.CpuidLeaf),
		msrPolicy: reader.rows("MsrPolicy", S.MsrEntry),
		p2m: reader.count("P2mInfo") > 0 ? reader.words("P2m") : undefined,
		p2mDefaultAccess: reader.row("P2mInfo", S.P2mInfo)?.defaultAccess ?? P2M_ACCESS.rwx,
		keptFrames: reader.count("KeptFrames") > 0 ? {} : undefined,
		keptRoots: reader.rows("KeptRoots", S.KeptRoot),
		keptRanges: reader.rows("KeptRanges", S.FrameRange),
		pv32: reader.row("Pv32", H.Pv32),
		vnumaNodes: reader.rows("VnumaNodes", S.VnumaNode),
		vnumaDistances: reader.rows("VnumaDistances", S.VnumaDistance),
		vnumaVcpus: reader.rows("VnumaVcpus", S.VnumaVcpu),
		vnumaRanges: reader.rows("VnumaRanges", S.VnumaRange),
		vcpuIds: reader.rows("VcpuSlots", S.VcpuSlot).map(({ vcpuId }) => vcpuId),
		grantTable: reader.row("GrantTable", H.GrantTable),
		grantFrames: reader.rows("GrantFrames", S.GrantFrame),
		statusFrames: reader.rows("StatusFrames", S.GrantFrame),
		grantActive: reader.slots("GrantActive", S.GrantActive),
		domainState: reader.row("DomainState", H.DomainState) as DomainTables["domainState"],
		pollWords: reader.rows("PollWords", S.Word),
		watchdogs: reader.rows("Watchdogs", S.Watchdog),
		e820: reader.rows("E820", S.E820Entry),
		emuIrqs: reader.rows("EmuIrqs", S.EmuIrq),
		pinnedCaches: reader.rows("PinnedCaches", S.PinnedCache),
		g2mPorts: reader.rows("G2mPorts", S.G2mPort),
		sharedInfo: reader.row("SharedInfo", H.SharedInfo),
		evtchn: reader.row("Evtchn", H.Evtchn),
		controlBlocks: reader.rows("ControlBlocks", S.ControlBlock),
		eventArrays: reader.rows("EventArrays", S.Mfn),
		ports: reader.slots("Ports", S.EvtchnPort),
		maptrack: reader.slots("Maptrack", S.Maptrack),
		foreignMapList: reader.rows("ForeignMapList", S.ForeignMap),
		vcpu,
		hardAffinity: affinities(reader, "HardAffinity", slots, words),
		softAffinity: affinities(reader, "SoftAffinity", slots, words),
		savedAffinity: affinities(reader, "SavedAffinity", slots, words),
		...pvState(reader, slots, vcpu),
		tsc: reader.row("Tsc", H.Tsc),
		hvmParamList: reader.rows("HvmParamList", S.HvmParam),
		hvmContext: reader.count("HvmContext") > 0 ? reader.octets("HvmContext") : undefined,
		pirqList: reader.rows("PirqList", S.Pirq),
		ioreqServerList: reader.rows("IoreqServerList", S.IoreqServer),
		ioreqPorts: reader.rows("IoreqPorts", S.IoreqPort),
		ioreqPages: reader.rows("IoreqPages", S.IoreqPage),
		ioreqRanges: reader.rows("IoreqRanges", S.IoreqRange),
		capRanges: reader.rows("CapRanges", S.CapRange),
		scheduler: reader.row("Scheduler", H.Scheduler),
		schedulerVcpus: reader.rows("SchedulerVcpus", S.SchedulerVcpu),
		references: reader.row("DomainCounts", S.DomainCounts)?.references ?? 0,
	};
}

/** Reads all tables of an image. @param image a running hypervisor's, or one that a restore has finished */
export function readImage(image: Uint8Array): ImageTables {
	const { view, host, domains } = viewImage(image);
	const reader = new TableReader(view, host);
	const head = reader.row("Host", H.Host) as RowsOf<typeof H.Host>;
	const entries = new Uint32Array(reader.octets("FrameOwners").buffer);
	return {
		host: {
			version: reader.row("Version", H.Version) ?? {},
			versionText: new TextDecoder().decode(reader.octets("VersionText")),
			host: head,
			virqHandlers: reader.rows("VirqHandlers", S.VirqHandler),
			m2pRanges: reader.rows("M2pRanges", S.FrameRange),
			regionList: reader.rows("RegionList", S.Region),
			poolList: reader.rows("PoolList", S.Pool),
			poolCpus: reader.rows("PoolCpus", S.PoolCpu),
			...(reader.count("Irqs") > 0 ? { irqs: {} } : {}),
			ioapicPins: reader.rows("IoapicPins", S.IoapicPin),
			msis: reader.rows("Msis", S.Msi),
			irqOwners: reader.rows("IrqOwners", S.IrqOwner),
			...(reader.count("Devices") > 0 ? { devices: {} } : {}),
			deviceList: reader.rows("DeviceList", S.Device),
			iommuUnits: reader.rows("IommuUnits", S.IommuUnit),
			iommuDomains: reader.rows("IommuDomains", S.IommuDomain),
			identityMaps: reader.rows("IdentityMaps", S.IdentityMap),
			remapEntries: reader.rows("RemapEntries", S.RemapEntry),
			iommuRanges: reader.rows("IommuRanges", S.FrameRange),
		},
		owners: Uint32Array.from(
			{ length: entries.length / 2 },
			(_, mfn) => (entries[2 * mfn] as number) & FRAME_ENTRY_MASK,
		),
		types: reader.octets("FrameTypes"),
		counts: new Uint32Array(reader.octets("FrameCounts").buffer),
		domains: domains.map(({ vcpuSlots, tables }) =>
			readDomain(new TableReader(view, tables), vcpuSlots, affinityWords(head.cpuCount)),
		),
	};
}
