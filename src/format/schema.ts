/**
 * THE definition of the live-update stream, versions 1 and 2, and of the hypervisor image that it is saved from and restored
 * into. The core's views and tables (assembly/layout.gen.ts), docs/FORMAT.md and the C header are generated from here
 * by tools/generate.mjs; the host reads and writes rows through the same structs.
 *
 * A record's body is a head (one struct) and then its parts, each padded to 8 octets:
 *   rows    n structs, n a field of the head, or all that is left of the body ("rest"), or a fixed number
 *   sparse  a table with empty stretches: runs {first slot, first row}, then the rows that are not empty
 *   chunks  a slice of a big flat table, as chunks of 4096 entries (runs, packed or literal)
 *   blob    rows of one vCPU whose number differs from vCPU to vCPU
 * In the image every head is a table of one row (per-vCPU records: a row per vCPU) and every part is a table, so that
 * saving, planning, restoring, digesting and comparing walk one list.
 */
import * as E from "./enums.ts";
import { array, reserved, u8, u16, u32, u64 } from "./fields.ts";
import { type Field, layOut, type Struct } from "./layout.ts";

/** What save writes unless it is told otherwise. A reader takes this version and the one before it (F2). */
export const FORMAT_VERSION = 2;
export const OLDEST_VERSION = 1;
/** "XLUS" */
export const STREAM_ID = 0x584c5553;
export const STREAM_MARKER = 0xffff_ffff_ffff_ffffn;
export const IMAGE_HEADER_BYTES = 24;
export const RECORD_HEADER_BYTES = 8;
export const MAX_BODY_BYTES = 128 * 1024 * 1024;
/** Record types: bit 31, a reader may skip it; bit 30, a live-update record; below, libxc's. */
export const TYPE_OPTIONAL = 0x8000_0000;
export const TYPE_LIVE_UPDATE = 0x4000_0000;
/** A slice of the P2M or the frame table covers at most this many frames. */
export const SLICE_FRAMES = 1 << 20;
export const CHUNK_ENTRIES = 4096;

export interface TypedStruct<F extends readonly Field[]> extends Struct {
	readonly source: F;
}

function struct<const F extends readonly Field[]>(name: string, doc: string, fields: F): TypedStruct<F> {
	return { ...layOut(name, doc, fields), source: fields };
}

const flags = (names: Record<string, number>) => ({ flags: names });
const oneOf = (names: Record<string, number>) => ({ enum: names });

// --- rows that parts are made of ---------------------------------------------------------------------------------

export const structs = {
	Octet: struct("Octet", "One octet of a byte string.", [u8("value", "Octet.")]),
	Word: struct("Word", "One 64-bit word of a bitmap, least significant bit first.", [u64("value", "Bits.", "hex")]),
	Mfn: struct("Mfn", "One frame.", [u64("mfn", "Machine frame number.", "hex")]),
	Run: struct("Run", "Where a stretch of used slots begins; it ends where the next run's rows begin.", [
		u32("firstSlot", "First slot of the stretch."),
		u32("firstRow", "Index of that slot's row."),
	]),
	FrameRange: struct("FrameRange", "A row of frames.", [
		u64("firstMfn", "First frame.", "hex"),
		u64("frameCount", "Number of frames."),
	]),
	VirqHandler: struct("VirqHandler", "A global VIRQ that another domain than dom0 handles.", [
		u32("virq", "VIRQ number."),
		u16("domid", "The handling domain."),
		reserved("reserved0", 2),
	]),
	Region: struct("Region", "Machine memory that xen#2 may use.", [
		u64("firstMfn", "First frame.", "hex"),
		u64("frameCount", "Number of frames."),
		u32("kind", "What it is.", oneOf(E.REGION)),
		reserved("reserved0", 4),
	]),
	Pool: struct("Pool", "A CPU pool.", [
		u32("poolId", "Identifier."),
		u32("scheduler", "Scheduler, Xen's public number.", oneOf(E.SCHEDULER)),
		u32("granularity", "CPUs that are scheduled together: 1 CPU, 2 core, 3 socket."),
		reserved("reserved0", 4),
	]),
	PoolCpu: struct("PoolCpu", "A CPU's membership.", [u32("poolId", "Pool."), u32("cpu", "CPU number.")]),
	IoapicPin: struct("IoapicPin", "How an IO-APIC pin is programmed.", [
		u32("ioapic", "IO-APIC identifier."),
		u32("pin", "Pin."),
		u32("irq", "Host interrupt."),
		u8("vector", "Vector."),
		u8("trigger", "0 edge, 1 level."),
		u8("polarity", "0 active high, 1 active low."),
		u8("masked", "1 if masked."),
	]),
	Msi: struct("Msi", "One message-signalled interrupt.", [
		u16("segment", "PCI segment."),
		u8("bus", "PCI bus."),
		u8("devfn", "PCI device and function."),
		u16("entry", "Entry of the MSI-X table; 0 for MSI."),
		u8("msix", "0 MSI, 1 MSI-X."),
		u8("masked", "1 if masked."),
		u32("irq", "Host interrupt."),
		u8("vector", "Vector."),
		reserved("reserved0", 3),
	]),
	IrqOwner: struct("IrqOwner", "Which domain a host interrupt is bound to.", [
		u32("irq", "Host interrupt."),
		u16("domid", "Domain."),
		u16("shared", "1 if others may bind it too."),
	]),
	Device: struct("Device", "A PCI device and who has it.", [
		u16("segment", "PCI segment."),
		u8("bus", "PCI bus."),
		u8("devfn", "PCI device and function."),
		u16("domid", "Owner; DOMID_IO if quarantined."),
		u8("phantomStride", "Stride of phantom functions, 0 none."),
		reserved("reserved0", 1),
	]),
	IommuUnit: struct("IommuUnit", "An IOMMU and its root table, kept in place.", [
		u64("baseAddress", "Register base, machine address.", "hex"),
		u64("rootMfn", "Root or device table.", "hex"),
		u64("remapMfn", "Interrupt-remapping table, all ones for none.", "hex"),
		u32("unit", "Index."),
		u32("format", "Table format.", oneOf(E.KEPT_FORMAT)),
	]),
	IommuDomain: struct("IommuDomain", "A domain's context on an IOMMU.", [
		u64("rootMfn", "Root of its I/O page table.", "hex"),
		u32("unit", "IOMMU index."),
		u32("hardwareId", "Domain identifier that the hardware knows."),
		u16("domid", "Domain."),
		u16("levels", "Levels of the I/O page table."),
		reserved("reserved0", 4),
	]),
	IdentityMap: struct("IdentityMap", "Frames mapped one to one for a device (RMRR, unity map).", [
		u64("firstMfn", "First frame.", "hex"),
		u64("frameCount", "Number of frames."),
		u16("domid", "Domain."),
		u16("writable", "1 if writable."),
		reserved("reserved0", 4),
	]),
	RemapEntry: struct("RemapEntry", "One entry of an interrupt-remapping table.", [
		u32("unit", "IOMMU index."),
		u32("index", "Index in the table."),
		u64("low", "Low half.", "hex"),
		u64("high", "High half.", "hex"),
	]),
	CpuidLeaf: struct("CpuidLeaf", "libxc: one CPUID leaf (xen_cpuid_leaf_t).", [
		u32("leaf", "Leaf.", "hex"),
		u32("subleaf", "Subleaf, all ones for none.", "hex"),
		u32("eax", "EAX.", "hex"),
		u32("ebx", "EBX.", "hex"),
		u32("ecx", "ECX.", "hex"),
		u32("edx", "EDX.", "hex"),
	]),
	MsrEntry: struct("MsrEntry", "libxc: one model-specific register (xen_msr_entry_t).", [
		u32("index", "MSR.", "hex"),
		u32("flags", "Zero.", "hex"),
		u64("value", "Value.", "hex"),
	]),
	KeptRoot: struct("KeptRoot", "Root of page tables that stay in place.", [
		u64("rootMfn", "Root table.", "hex"),
		u32("purpose", "What they translate for.", oneOf(E.KEPT_PURPOSE)),
		u16("format", "Their format.", oneOf(E.KEPT_FORMAT)),
		u16("levels", "Levels, 3 to 5."),
	]),
	VcpuSlot: struct("VcpuSlot", "A vCPU that exists.", [u32("vcpuId", "vCPU."), reserved("reserved0", 4)]),
	GrantFrame: struct("GrantFrame", "A grant-table frame: shared or status.", [
		u64("mfn", "Frame.", "hex"),
		u64("gfn", "Where the guest has it mapped; all ones if it has not (always so for PV).", "hex"),
	]),
	GrantActive: struct("GrantActive", "The granting side of a pinned grant.", [
		u64("mfn", "The granted frame.", "hex"),
		u16("grantee", "Who has it mapped."),
		reserved("reserved0", 2),
		u8("hostWrite", "Host mappings, read-write."),
		u8("hostRead", "Host mappings, read-only."),
		u8("deviceWrite", "Device mappings, read-write."),
		u8("deviceRead", "Device mappings, read-only."),
	]),
	Watchdog: struct("Watchdog", "A domain watchdog timer that runs.", [
		u32("index", "Timer, 0 or 1."),
		reserved("reserved0", 4),
		u64("expiresNs", "System time at which it fires, nanoseconds."),
	]),
	E820Entry: struct("E820Entry", "One entry of the memory map.", [
		u64("address", "Start, octets.", "hex"),
		u64("size", "Length, octets.", "hex"),
		u32("type", "E820 type."),
		reserved("reserved0", 4),
	]),
	EmuIrq: struct("EmuIrq", "A PIRQ that stands for an emulated interrupt (HVM).", [
		u32("pirq", "PIRQ."),
		u32("emuirq", "Emulated interrupt; all ones for none, all ones but one for an MSI.", "hex"),
	]),
	PinnedCache: struct("PinnedCache", "Guest frames with a pinned cache attribute.", [
		u64("firstGfn", "First.", "hex"),
		u64("lastGfn", "Last, included.", "hex"),
		u32("type", "Memory type, MTRR encoding."),
		reserved("reserved0", 4),
	]),
	G2mPort: struct("G2mPort", "Guest I/O ports passed through to machine ones.", [
		u32("guestPort", "First guest port.", "hex"),
		u32("machinePort", "First machine port.", "hex"),
		u32("count", "Number of ports."),
		reserved("reserved0", 4),
	]),
	ControlBlock: struct("ControlBlock", "A vCPU's FIFO control block and its queues.", [
		u32("vcpuId", "vCPU."),
		u32("offset", "Octets from the start of the frame, a multiple of 8."),
		u64("mfn", "Frame.", "hex"),
		array(16, u32("tail", "Last port of each priority's queue, 0 for an empty one.")),
	]),
	EvtchnPort: struct(
		"EvtchnPort",
		"One event-channel port. A free one is all zero, but for the FIFO queue that it was last linked on.",
		[
			u8("state", "State.", oneOf(E.EVTCHN_STATE)),
			u8("consumer", "Consumer inside the hypervisor.", oneOf(E.CONSUMER)),
			u8("priority", "FIFO priority, 0 highest."),
			u8("lastPriority", "Priority of the queue that it was last linked on."),
			u16("notifyVcpu", "vCPU that is notified."),
			u16("lastVcpu", "vCPU of the queue that it was last linked on."),
			u16("remoteDomid", "Unbound, interdomain: the other domain."),
			u16("virq", "VIRQ: its number."),
			u32("remotePort", "Interdomain: the other port."),
			u32("pirq", "PIRQ: its number."),
			u8("pending", "1 if pending while the port has no event word yet."),
			reserved("reserved0", 3),
		],
	),
	Maptrack: struct("Maptrack", "What a handle maps. An unused one is all zero.", [
		u32("reference", "Grant reference."),
		u32("vcpuId", "vCPU whose free list the handle returns to."),
		u16("domid", "The granting domain."),
		u16("flags", "Kind of mapping, GNTMAP bits.", flags(E.GRANT_MAP)),
		reserved("reserved0", 4),
	]),
	ForeignMap: struct("ForeignMap", "A P2M entry that maps another domain's frame.", [
		u64("gfn", "Where.", "hex"),
		u64("mfn", "What.", "hex"),
		u16("owner", "Whose."),
		reserved("reserved0", 6),
	]),
	PvTrap: struct("PvTrap", "One entry of a PV vCPU's trap table.", [
		u8("vector", "Vector."),
		u8("flags", "Bits 0-1: privilege level; bit 2: clears the event-enable flag.", "hex"),
		u16("cs", "Code selector.", "hex"),
		reserved("reserved0", 4),
		u64("address", "Handler.", "hex"),
	]),
	HvmParam: struct("HvmParam", "libxc: one HVM parameter.", [
		u64("index", "HVM_PARAM number."),
		u64("value", "Value.", "hex"),
	]),
	Pirq: struct("Pirq", "A guest's PIRQ.", [
		u32("pirq", "PIRQ."),
		u32("irq", "Host interrupt, all ones for none.", "hex"),
		u32("port", "Event channel, 0 for none."),
		u32("emuirq", "Emulated interrupt, all ones for none.", "hex"),
		u32("guestGsi", "Guest interrupt it is passed through to, all ones for none.", "hex"),
		u32("msiData", "Guest's MSI data: vector and delivery.", "hex"),
		u32("msiFlags", "Guest's MSI destination and modes.", "hex"),
		u32("flags", "How it is.", flags(E.PIRQ_FLAG)),
	]),
	IoreqServer: struct("IoreqServer", "An I/O request server.", [
		u32("serverId", "Identifier."),
		u16("emulator", "The domain that serves it."),
		u8("bufferedMode", "Buffered requests.", oneOf(E.BUFIOREQ)),
		u8("flags", "How it is.", flags(E.IOREQ_FLAG)),
		u32("bufferedPort", "Port of the buffered ring, 0 for none."),
		reserved("reserved0", 4),
	]),
	IoreqPort: struct("IoreqPort", "A server's event channel for one vCPU.", [
		u32("serverId", "Server."),
		u32("vcpuId", "vCPU."),
		u32("port", "Port in this domain."),
		reserved("reserved0", 4),
	]),
	IoreqPage: struct("IoreqPage", "A page that a server shares with its emulator.", [
		u64("mfn", "Frame.", "hex"),
		u64("gfn", "Guest frame if reached by one, all ones if acquired as a resource.", "hex"),
		u32("serverId", "Server."),
		u16("role", "Which page.", oneOf(E.IOREQ_PAGE)),
		u16("flags", "How it is reached.", flags(E.IOREQ_PAGE_FLAG)),
	]),
	IoreqRange: struct("IoreqRange", "Addresses that a server claims.", [
		u32("serverId", "Server."),
		u32("type", "Kind of address.", oneOf(E.IOREQ_RANGE)),
		u64("first", "First: port, physical address, or PCI segment, bus, device and function.", "hex"),
		u64("last", "Last, included.", "hex"),
	]),
	CapRange: struct("CapRange", "What a domain may use.", [
		u32("kind", "Kind.", oneOf(E.CAP)),
		reserved("reserved0", 4),
		u64("first", "First: port, frame or interrupt.", "hex"),
		u64("last", "Last, included.", "hex"),
	]),
	VnumaNode: struct("VnumaNode", "A virtual NUMA node.", [
		u32("physicalNode", "Node of the host that its memory is on, all ones for none in particular.", "hex"),
	]),
	VnumaDistance: struct("VnumaDistance", "Distance between two virtual nodes.", [
		u32("distance", "As the configuration has it: by ACPI 10 is a node's own, 255 out of reach."),
	]),
	VnumaVcpu: struct("VnumaVcpu", "Where a vCPU is.", [u32("node", "Virtual node.")]),
	VnumaRange: struct("VnumaRange", "Where a stretch of guest-physical memory is.", [
		u64("start", "First octet.", "hex"),
		u64("end", "Octet behind the last.", "hex"),
		u32("node", "Virtual node."),
		u32("flags", "As the toolstack gave them.", "hex"),
	]),
	SchedulerVcpu: struct("SchedulerVcpu", "A vCPU's reservation (RTDS).", [
		u32("vcpuId", "vCPU."),
		u32("periodUs", "Period, microseconds."),
		u32("budgetUs", "Budget in each period, microseconds."),
		u32("flags", "Whether it may have more.", flags(E.RTDS_FLAG)),
	]),
	IndexEntry: struct("IndexEntry", "One section, as its LU_SECTION says.", [
		u32("pass", "Section.", oneOf(E.PASS)),
		u16("domid", "Domain, DOMID_XEN for a host-wide section."),
		reserved("reserved0", 2),
		u64("offset", "Octets from the start of the stream to its LU_SECTION record."),
		u64("length", "Octets of its records, LU_SECTION not included."),
		u64("hash", "XXH3-64 of those octets.", "hex"),
		u32("recordCount", "Number of its records."),
		reserved("reserved1", 4),
	]),
	// --- tables of the image that no record carries as they are ---
	P2mInfo: struct("P2mInfo", "What a P2M has beside its entries.", [
		u64("highestGfn", "Highest mapped GFN, all ones if nothing is mapped.", "hex"),
		u32("defaultAccess", "Access of new entries.", oneOf(E.P2M_ACCESS)),
		reserved("reserved0", 4),
	]),
	VcpuBlobs: struct("VcpuBlobs", "Where a vCPU's variable state stands in the domain's tables.", [
		u32("extendedFirst", "First octet in PvExtended."),
		u32("extendedCount", "Octets."),
		u32("xsaveFirst", "First octet in PvXsave."),
		u32("xsaveCount", "Octets."),
		u32("msrFirst", "First row in PvMsrs."),
		u32("msrCount", "Rows."),
	]),
	FrameCount: struct("FrameCount", "References to a frame: rebuilt, never streamed (XSA-299).", [
		u32("references", "Page references."),
		u32("typeReferences", "Type references."),
	]),
	FrameOwner: struct("FrameOwner", "Owner and flags of one frame, see FRAME.", [u64("value", "Entry.", "hex")]),
	FrameType: struct("FrameType", "Page type in use of one frame, see PAGE_TYPE.", [u8("value", "Entry.", "hex")]),
	P2mEntry: struct("P2mEntry", "MFN, type, access, order, present: see P2M_BITS.", [u64("value", "Entry.", "hex")]),
	DomainCounts: struct("DomainCounts", "A domain's counts: rebuilt, never streamed.", [
		u32("references", "References to the domain."),
		u32("frames", "Allocated frames, without xenheap and extra ones."),
		u32("xenheapFrames", "Xenheap frames shared with it."),
		u32("extraFrames", "Extra frames."),
	]),
} as const;

// --- records -----------------------------------------------------------------------------------------------------

export type Section = E.PassName | "-";
/** one: exactly one in its section; optional: at most one; vcpu: at most one per vCPU; slice: any number, ascending. */
export type Cardinality = "one" | "optional" | "vcpu" | "slice" | "framing";

export interface Part {
	readonly kind: "rows" | "sparse" | "chunks" | "blob";
	/** The image's table. */
	readonly table: string;
	readonly row: Struct;
	/** rows: a field of the head, "rest", or a fixed number. Unused by the others. */
	readonly count: string | number;
	/** For a domain's tables that are as long for every vCPU: rows per vCPU stand one vCPU after the other. */
	readonly perVcpu: boolean;
}

const rows = (table: string, row: Struct, count: string | number = "rest", perVcpu = false): Part => ({
	kind: "rows",
	table,
	row,
	count,
	perVcpu,
});
const sparse = (table: string, row: Struct): Part => ({
	kind: "sparse",
	table,
	row,
	count: "rowCount",
	perVcpu: false,
});
const chunks = (table: string, row: Struct): Part => ({
	kind: "chunks",
	table,
	row,
	count: "entryCount",
	perVcpu: false,
});
const blob = (table: string, row: Struct): Part => ({ kind: "blob", table, row, count: "rest", perVcpu: true });

export interface RecordDef {
	readonly name: string;
	readonly type: number;
	readonly section: Section;
	/** Records that stand before it in its section where they are present. */
	readonly after: readonly string[];
	readonly cardinality: Cardinality;
	readonly doc: string;
	readonly head: Struct | undefined;
	readonly parts: readonly Part[];
	/** First version of the format that has it. An optional one (bit 31) may stand in a version before it: there it is skipped. */
	readonly since: number;
}

const sparseHead = (what: string) =>
	[
		u32("slotCount", `Slots of the ${what} table.`),
		u32("runCount", "Stretches of used slots."),
		u32("rowCount", "Used slots."),
	] as const;

const heads = {
	Version: struct("Version", "Who wrote the stream.", [
		u32("xenMajor", "Xen's major version."),
		u32("xenMinor", "Xen's minor version."),
		u32("moduleVersion", "The core's ABI version."),
		u32("textCount", "Octets of text."),
	]),
	Host: struct("Host", "The host as a whole.", [
		u64("frameCount", "Frames of the frame table: MFNs below it."),
		u64("systemTimeNs", "System time at the pause, nanoseconds."),
		u64("wallclockSec", "Wall clock at system time 0, seconds."),
		u64("nextUniqueId", "Next unique domain identifier."),
		u64("features", "Features in use.", flags(E.FEATURE)),
		u32("wallclockNsec", "Wall clock, nanoseconds."),
		u32("cpuKhz", "TSC frequency, kHz; xen#2 adopts it."),
		u32("domainCount", "Domains."),
		u32("cpuCount", "CPUs."),
		u32("virqHandlerCount", "Global VIRQ handlers."),
		reserved("reserved0", 4),
	]),
	M2p: struct("M2p", "The M2P stays in place.", [u32("rangeCount", "Ranges."), reserved("reserved0", 4)]),
	Regions: struct("Regions", "What xen#2 may use.", [u32("regionCount", "Regions."), reserved("reserved0", 4)]),
	Cpupools: struct("Cpupools", "CPU pools.", [u32("poolCount", "Pools."), u32("cpuCount", "Members.")]),
	Irqs: struct("Irqs", "Interrupts.", [
		u32("pinCount", "IO-APIC pins."),
		u32("msiCount", "MSIs."),
		u32("ownerCount", "Bound interrupts."),
		reserved("reserved0", 4),
	]),
	Devices: struct("Devices", "PCI devices and IOMMUs.", [
		u32("deviceCount", "Devices."),
		u32("unitCount", "IOMMUs."),
		u32("contextCount", "Domain contexts."),
		u32("identityCount", "Identity maps."),
		u32("remapCount", "Interrupt-remapping entries."),
		u32("rangeCount", "Frames kept for IOMMUs."),
	]),
	Domain: struct("Domain", "What creates a domain.", [
		u64("uniqueId", "Unique identifier."),
		array(16, u8("handle", "Handle (UUID).", "uuid")),
		u64("maxPages", "Limit of frames."),
		u64("hapPoolFrames", "Frames of the HAP pool."),
		u64("nodeAffinity", "NUMA nodes, one bit each.", "hex"),
		u16("domid", "Domain."),
		u8("kind", "Kind of guest.", oneOf(E.KIND)),
		u8("life", "Alive, or dead with frames that others still map.", oneOf(E.LIFE)),
		u32("createFlags", "How it was created.", flags(E.CREATE)),
		u32("maxVcpus", "Limit of vCPUs."),
		u32("maxEvtchnPort", "Highest port allowed, all ones for no limit."),
		u32("maxGrantFrames", "Limit of grant frames."),
		u32("maxMaptrackFrames", "Limit of maptrack frames."),
		u32("grantVersionLimit", "Highest grant-table version allowed."),
		u32("emulationFlags", "Emulated devices, XEN_X86_EMU bits.", "hex"),
		u32("ssidref", "Security identifier."),
		u32("cpupoolId", "CPU pool."),
		u32("addressWidth", "Limit of physical addresses in bits, 0 for none."),
		u32("guestWidth", "Octets of the guest's word: 4 or 8."),
	]),
	P2mSlice: struct("P2mSlice", "A slice of the P2M.", [
		u64("firstGfn", "GFN of the first entry.", "hex"),
		u64("highestGfn", "Highest mapped GFN of the domain, all ones if nothing is mapped.", "hex"),
		u32("entryCount", "Entries, at most 2^20."),
		u32("chunkBytes", "Octets of the chunks."),
		u32("defaultAccess", "Access of new entries.", oneOf(E.P2M_ACCESS)),
		reserved("reserved0", 4),
	]),
	KeptFrames: struct("KeptFrames", "Page tables that stay in place.", [
		u32("rootCount", "Roots."),
		u32("rangeCount", "Ranges."),
	]),
	Vcpus: struct("Vcpus", "Which vCPUs exist.", [u32("vcpuCount", "vCPUs."), reserved("reserved0", 4)]),
	FrameSlice: struct("FrameSlice", "A slice of a frame-table column.", [
		u64("firstMfn", "MFN of the first entry.", "hex"),
		u32("entryCount", "Entries, at most 2^20."),
		u32("chunkBytes", "Octets of the chunks."),
	]),
	GrantTable: struct("GrantTable", "A grant table.", [
		u32("version", "1 or 2."),
		u32("grantFrameCount", "Shared frames."),
		u32("statusFrameCount", "Status frames (version 2)."),
		u32("maptrackFrameCount", "Maptrack frames in use."),
	]),
	GrantActives: struct("GrantActives", "Pinned grants.", [...sparseHead("grant"), reserved("reserved0", 4)]),
	DomainState: struct("DomainState", "A domain's run state.", [
		u64("timeOffsetSec", "Wall clock offset, seconds.", "signed"),
		u64("pirqEoiMfn", "Frame of the PIRQ EOI map, all ones for none.", "hex"),
		u64("ioreqGfnBase", "First GFN of the legacy I/O request pages, all ones for none.", "hex"),
		u64("ioreqGfnMask", "Those of them that are free, one bit each.", "hex"),
		u32("controllerPauseCount", "Pauses by the toolstack."),
		u32("suspendPort", "Event channel of the suspend request, 0 for none."),
		u32("vmAssist", "VM assists.", "hex"),
		u32("pirqEoiMode", "0 none, 1 version 1, 2 version 2 (auto-unmask)."),
		u32("pciCf8", "Last write to port 0xCF8 (HVM).", "hex"),
		u16("target", "The domain it serves as stub domain; DOMID_INVALID for none."),
		u8("creationFinished", "1 once the toolstack has unpaused it."),
		u8("shutdownState", "State.", oneOf(E.SHUTDOWN_STATE)),
		u8("shutdownCode", "Reason, 255 for none."),
		u8("cmosIndex", "Last index written to the CMOS port (HVM)."),
		u8("callbackAsserted", "1 while the callback line is asserted (HVM)."),
		u8("suspendedS3", "1 in ACPI S3 (HVM)."),
		u32("pollWordCount", "64-bit words of the poll mask, one bit per vCPU."),
		u32("watchdogCount", "Watchdogs."),
		u32("e820Count", "Memory-map entries."),
		u32("emuIrqCount", "PIRQs that stand for emulated interrupts."),
		u32("pinnedCacheCount", "Pinned cache attributes."),
		u32("g2mPortCount", "Passed-through I/O ports."),
		reserved("reserved0", 4),
	]),
	SharedInfo: struct("SharedInfo", "Where shared_info is.", [
		u64("mfn", "Frame.", "hex"),
		u64("gfn", "Guest frame, all ones where none is known.", "hex"),
	]),
	Evtchn: struct("Evtchn", "Event-channel ABI.", [
		u32("abi", "ABI.", oneOf(E.EVTCHN_ABI)),
		u32("controlBlockCount", "FIFO control blocks."),
		u32("arrayFrameCount", "FIFO event-array frames."),
		reserved("reserved0", 4),
	]),
	EvtchnPorts: struct("EvtchnPorts", "Event-channel ports.", [...sparseHead("port"), reserved("reserved0", 4)]),
	GrantMaps: struct("GrantMaps", "Grant mappings held.", [...sparseHead("handle"), reserved("reserved0", 4)]),
	ForeignMaps: struct("ForeignMaps", "Foreign mappings held.", [u32("mapCount", "Entries."), reserved("reserved0", 4)]),
	Vcpu: struct("Vcpu", "A vCPU's state outside its registers.", [
		u32("vcpuId", "vCPU."),
		u32("flags", "How it is.", flags(E.VCPU_FLAG)),
		u64("vcpuInfoMfn", "Frame of vcpu_info, all ones while it stands in shared_info.", "hex"),
		u64("runstateAddress", "Runstate area, 0 for none.", "hex"),
		u64("timeAddress", "Time area, 0 for none.", "hex"),
		u64("runstateEntryNs", "System time of the last runstate change, nanoseconds."),
		array(4, u64("runstateNs", "Time running, runnable, blocked, offline, nanoseconds.")),
		u64("periodicPeriodNs", "Period of the periodic timer, 0 for none."),
		u64("periodicLastNs", "System time of its last event."),
		u64("singleshotNs", "Deadline of the single-shot timer, 0 for none."),
		u64("pollDeadlineNs", "Deadline of a poll, 0 for none."),
		u64("ioBitmapAddress", "I/O permission bitmap in the guest, 0 for none.", "hex"),
		u32("vcpuInfoOffset", "Octets from the start of that frame."),
		u32("controllerPauseCount", "Pauses by the toolstack."),
		u32("pollPort", "Port that is polled, 0 for none."),
		u32("runstate", "0 running, 1 runnable, 2 blocked, 3 offline."),
		u32("ioBitmapPorts", "Ports of the I/O bitmap."),
		u32("ioPrivilege", "I/O privilege level (PV)."),
		u8("runstateArea", "How the runstate area is named.", oneOf(E.TIME_AREA)),
		u8("timeArea", "How the time area is named.", oneOf(E.TIME_AREA)),
		u8("upcallVector", "Vector of the vCPU's own upcall (HVM), 0 for none."),
		u8("upcallPending", "1 if an upcall is being delivered."),
		u8("nmiPending", "1 if an NMI is pending."),
		u8("mcePending", "1 if a machine check is pending."),
		u8("exceptionMask", "Exceptions in delivery: bit 0 NMI, bit 1 machine check."),
		u8("oldExceptionMask", "The same before them."),
		u32("affinityWordCount", "64-bit words of each affinity: CPUs rounded up."),
		reserved("reserved0", 4),
	]),
	PvVcpu: struct("PvVcpu", "A 64-bit PV vCPU's registers.", [
		u64("r15", "R15.", "hex"),
		u64("r14", "R14.", "hex"),
		u64("r13", "R13.", "hex"),
		u64("r12", "R12.", "hex"),
		u64("rbp", "RBP.", "hex"),
		u64("rbx", "RBX.", "hex"),
		u64("r11", "R11.", "hex"),
		u64("r10", "R10.", "hex"),
		u64("r9", "R9.", "hex"),
		u64("r8", "R8.", "hex"),
		u64("rax", "RAX.", "hex"),
		u64("rcx", "RCX.", "hex"),
		u64("rdx", "RDX.", "hex"),
		u64("rsi", "RSI.", "hex"),
		u64("rdi", "RDI.", "hex"),
		u64("rip", "RIP.", "hex"),
		u64("rflags", "RFLAGS.", "hex"),
		u64("rsp", "RSP.", "hex"),
		u64("fsBase", "FS base.", "hex"),
		u64("gsBaseKernel", "GS base of the kernel.", "hex"),
		u64("gsBaseUser", "GS base of the user.", "hex"),
		array(8, u64("cr", "Control registers 0 to 7: CR3 and CR1 (user CR3) hold machine addresses.", "hex")),
		array(8, u64("dr", "Debug registers 0 to 7.", "hex")),
		u64("ldtBase", "LDT, guest virtual address.", "hex"),
		array(16, u64("gdtMfn", "GDT frames.", "hex")),
		u64("kernelSs", "Kernel stack segment.", "hex"),
		u64("kernelSp", "Kernel stack pointer.", "hex"),
		u64("eventCallback", "Event callback.", "hex"),
		u64("failsafeCallback", "Failsafe callback.", "hex"),
		u64("syscallCallback", "System-call callback.", "hex"),
		u64("vmAssist", "VM assists as the context carries them.", "hex"),
		u32("vcpuId", "vCPU."),
		u32("flags", "Context flags, VGCF bits.", "hex"),
		u32("ldtEntries", "LDT entries."),
		u32("gdtEntries", "GDT entries."),
		u32("errorCode", "Error code of the last exception.", "hex"),
		u32("entryVector", "Vector of the last entry.", "hex"),
		u16("cs", "CS.", "hex"),
		u16("ss", "SS.", "hex"),
		u16("ds", "DS.", "hex"),
		u16("es", "ES.", "hex"),
		u16("fs", "FS.", "hex"),
		u16("gs", "GS.", "hex"),
		u8("savedUpcallMask", "Event mask as the last bounce frame saved it."),
		reserved("reserved0", 3),
	]),
	Pv32: struct("Pv32", "What a 32-bit PV guest has beside what others have.", [
		u32("xenStart", "First guest virtual address that is Xen's: a multiple of 2 MiB in the last GiB.", "hex"),
		reserved("reserved0", 4),
	]),
	Vnuma: struct("Vnuma", "A domain's virtual NUMA topology.", [
		u32("nodeCount", "Virtual nodes."),
		u32("distanceCount", "Distances: nodeCount squared, from node 0 to each, from node 1 to each, and so on."),
		u32("vcpuCount", "vCPUs, those that do not exist yet included: LU_DOMAIN's maxVcpus."),
		u32("rangeCount", "Stretches of memory."),
	]),
	Pv32Vcpu: struct("Pv32Vcpu", "A 32-bit PV vCPU's registers.", [
		u32("vcpuId", "vCPU."),
		u32("flags", "Context flags, VGCF bits.", "hex"),
		u64("cr3", "Machine address of the L3 table, zero for none.", "hex"),
		array(16, u64("gdtMfn", "GDT frames.", "hex")),
		u32("ebx", "EBX.", "hex"),
		u32("ecx", "ECX.", "hex"),
		u32("edx", "EDX.", "hex"),
		u32("esi", "ESI.", "hex"),
		u32("edi", "EDI.", "hex"),
		u32("ebp", "EBP.", "hex"),
		u32("eax", "EAX.", "hex"),
		u32("eip", "EIP.", "hex"),
		u32("eflags", "EFLAGS.", "hex"),
		u32("esp", "ESP.", "hex"),
		u32("cr0", "CR0.", "hex"),
		u32("cr2", "CR2.", "hex"),
		u32("cr4", "CR4.", "hex"),
		array(8, u32("dr", "Debug registers 0 to 7.", "hex")),
		u32("ldtBase", "LDT, guest virtual address.", "hex"),
		u32("ldtEntries", "LDT entries."),
		u32("gdtEntries", "GDT entries."),
		u32("kernelSs", "Kernel stack segment.", "hex"),
		u32("kernelSp", "Kernel stack pointer.", "hex"),
		u32("eventCallbackCs", "Code selector of the event callback.", "hex"),
		u32("eventCallbackEip", "Event callback.", "hex"),
		u32("failsafeCallbackCs", "Code selector of the failsafe callback.", "hex"),
		u32("failsafeCallbackEip", "Failsafe callback.", "hex"),
		u32("vmAssist", "VM assists as the context carries them.", "hex"),
		u32("errorCode", "Error code of the last exception.", "hex"),
		u32("entryVector", "Vector of the last entry.", "hex"),
		u16("cs", "CS.", "hex"),
		u16("ss", "SS.", "hex"),
		u16("ds", "DS.", "hex"),
		u16("es", "ES.", "hex"),
		u16("fs", "FS.", "hex"),
		u16("gs", "GS.", "hex"),
		u8("savedUpcallMask", "Event mask as the last bounce frame saved it."),
		reserved("reserved0", 7),
	]),
	Scheduler: struct("Scheduler", "A domain's share of its CPU pool.", [
		u32("scheduler", "Scheduler that the numbers are of: the pool's.", oneOf(E.SCHEDULER)),
		u32("weight", "Weight (credit, credit2), 1 to 65535; zero elsewhere."),
		u32("cap", "Most of a CPU, in hundredths, 0 for no limit (credit, credit2)."),
		u32("vcpuCount", "vCPUs with a reservation (RTDS)."),
	]),
	VcpuExtended: struct("VcpuExtended", "libxc: header of a vCPU's extended context.", [
		u32("vcpuId", "vCPU."),
		reserved("reserved0", 4),
	]),
	VcpuXsave: struct("VcpuXsave", "libxc: header of a vCPU's XSAVE area.", [
		u32("vcpuId", "vCPU."),
		reserved("reserved0", 4),
	]),
	VcpuMsrs: struct("VcpuMsrs", "libxc: header of a vCPU's MSRs.", [u32("vcpuId", "vCPU."), reserved("reserved0", 4)]),
	Tsc: struct("Tsc", "libxc: TSC information.", [
		u32("mode", "TSC mode."),
		u32("khz", "Frequency the guest sees, kHz."),
		u64("nsec", "Elapsed time, nanoseconds."),
		u32("incarnation", "Incarnation."),
		reserved("reserved0", 4),
	]),
	HvmParams: struct("HvmParams", "libxc: HVM parameters that are not zero.", [
		u32("count", "Parameters."),
		reserved("reserved0", 4),
	]),
	Pirqs: struct("Pirqs", "PIRQs.", [u32("pirqCount", "PIRQs."), reserved("reserved0", 4)]),
	IoreqServers: struct("IoreqServers", "I/O request servers.", [
		u32("serverCount", "Servers."),
		u32("portCount", "Ports."),
		u32("pageCount", "Pages."),
		u32("rangeCount", "Ranges."),
	]),
	Caps: struct("Caps", "What a domain may use.", [u32("rangeCount", "Ranges."), reserved("reserved0", 4)]),
	Section: struct("Section", "Opens a section.", [
		u32("pass", "Section.", oneOf(E.PASS)),
		u16("domid", "Domain, DOMID_XEN for a host-wide section."),
		reserved("reserved0", 2),
		u64("length", "Octets of the section's records, this one not included."),
		u64("hash", "XXH3-64 (seed 0) of those octets.", "hex"),
		u32("recordCount", "Records of the section, this one not included."),
		reserved("reserved1", 4),
	]),
	Index: struct("Index", "Lists the sections.", [
		u64("hash", "XXH3-64 (seed 0) of the entries.", "hex"),
		u32("sectionCount", "Sections."),
		reserved("reserved0", 4),
	]),
} as const;

export { heads };

const S = structs;
const H = heads;

function record(
	name: string,
	type: number,
	section: Section,
	after: readonly string[],
	cardinality: Cardinality,
	doc: string,
	head: Struct | undefined,
	parts: readonly Part[] = [],
	since = 1,
): RecordDef {
	return { name, type: type >>> 0, section, after, cardinality, doc, head, parts, since };
}

/** All record types, in the order in which save writes them within a section. */
export const records: readonly RecordDef[] = [
	record(
		"LU_VERSION",
		0x40000001,
		"H",
		[],
		"one",
		"Who wrote the stream: Xen's version, the module's, a text.",
		H.Version,
		[rows("VersionText", S.Octet, "textCount")],
	),
	record("LU_HOST", 0x40000002, "H", ["LU_VERSION"], "one", "Frames, domains, time, features in use.", H.Host, [
		rows("VirqHandlers", S.VirqHandler, "virqHandlerCount"),
	]),
	record("LU_M2P", 0x40000003, "H", [], "one", "Frames of the M2P, kept in place.", H.M2p, [
		rows("M2pRanges", S.FrameRange, "rangeCount"),
	]),
	record("LU_REGIONS", 0x40000004, "H", [], "one", "Bootmem and re-usable extents.", H.Regions, [
		rows("RegionList", S.Region, "regionCount"),
	]),
	record("LU_CPUPOOLS", 0x40000005, "H", [], "one", "CPU pools: scheduler and CPUs.", H.Cpupools, [
		rows("PoolList", S.Pool, "poolCount"),
		rows("PoolCpus", S.PoolCpu, "cpuCount"),
	]),
	record("LU_IRQS", 0x40000006, "H", [], "optional", "IO-APIC pins, MSIs and who owns the interrupts.", H.Irqs, [
		rows("IoapicPins", S.IoapicPin, "pinCount"),
		rows("Msis", S.Msi, "msiCount"),
		rows("IrqOwners", S.IrqOwner, "ownerCount"),
	]),
	record(
		"LU_DEVICES",
		0x40000007,
		"H",
		[],
		"optional",
		"PCI devices with owners; IOMMUs and what they keep.",
		H.Devices,
		[
			rows("DeviceList", S.Device, "deviceCount"),
			rows("IommuUnits", S.IommuUnit, "unitCount"),
			rows("IommuDomains", S.IommuDomain, "contextCount"),
			rows("IdentityMaps", S.IdentityMap, "identityCount"),
			rows("RemapEntries", S.RemapEntry, "remapCount"),
			rows("IommuRanges", S.FrameRange, "rangeCount"),
		],
	),
	record("LU_DOMAIN", 0x40000010, "0", [], "one", "What creates the domain: identity, kind, limits.", H.Domain),
	record("X86_CPUID_POLICY", 0x11, "0", ["LU_DOMAIN"], "optional", "libxc: the CPUID policy.", undefined, [
		rows("CpuidLeaves", S.CpuidLeaf),
	]),
	record("X86_MSR_POLICY", 0x12, "0", ["LU_DOMAIN"], "optional", "libxc: the MSR policy.", undefined, [
		rows("MsrPolicy", S.MsrEntry),
	]),
	record(
		"LU_P2M",
		0x40000011,
		"0",
		["LU_DOMAIN"],
		"slice",
		"A slice of the P2M (HVM, PVH). Takes no references.",
		H.P2mSlice,
		[chunks("P2m", S.P2mEntry)],
	),
	record(
		"LU_KEPT_FRAMES",
		0x40000012,
		"0",
		["LU_DOMAIN"],
		"optional",
		"Page tables kept in place: roots and frames.",
		H.KeptFrames,
		[rows("KeptRoots", S.KeptRoot, "rootCount"), rows("KeptRanges", S.FrameRange, "rangeCount")],
	),
	record("LU_VCPUS", 0x40000013, "0", ["LU_DOMAIN", "LU_P2M"], "one", "Which vCPUs exist.", H.Vcpus, [
		rows("VcpuSlots", S.VcpuSlot, "vcpuCount"),
	]),
	record(
		"LU_PV32",
		0x40000014,
		"0",
		["LU_DOMAIN"],
		"optional",
		"Of a 32-bit PV guest: where Xen's part of its address space begins.",
		H.Pv32,
		[],
		2,
	),
	record(
		"LU_VNUMA",
		0x40000015,
		"0",
		["LU_DOMAIN"],
		"optional",
		"Virtual NUMA: nodes, distances, where vCPUs and memory are.",
		H.Vnuma,
		[
			rows("VnumaNodes", S.VnumaNode, "nodeCount"),
			rows("VnumaDistances", S.VnumaDistance, "distanceCount"),
			rows("VnumaVcpus", S.VnumaVcpu, "vcpuCount"),
			rows("VnumaRanges", S.VnumaRange, "rangeCount"),
		],
		2,
	),
	record("LU_FRAMES", 0x40000018, "1h", [], "slice", "A slice of page ownership, in MFN order.", H.FrameSlice, [
		chunks("FrameOwners", S.FrameOwner),
	]),
	record(
		"LU_PAGE_TYPES",
		0x40000019,
		"1h",
		["LU_FRAMES"],
		"slice",
		"A slice of the page types in use, in MFN order.",
		H.FrameSlice,
		[chunks("FrameTypes", S.FrameType)],
	),
	record("LU_GRANT_TABLE", 0x4000001a, "1d", [], "optional", "The grant table's frames.", H.GrantTable, [
		rows("GrantFrames", S.GrantFrame, "grantFrameCount"),
		rows("StatusFrames", S.GrantFrame, "statusFrameCount"),
	]),
	record(
		"LU_GRANT_ACTIVE",
		0x4000001b,
		"1d",
		["LU_GRANT_TABLE"],
		"optional",
		"The granting side of each pinned grant.",
		H.GrantActives,
		[sparse("GrantActive", S.GrantActive)],
	),
	record("LU_DOMAIN_STATE", 0x40000020, "2", [], "one", "The domain's run state and HVM odds.", H.DomainState, [
		rows("PollWords", S.Word, "pollWordCount"),
		rows("Watchdogs", S.Watchdog, "watchdogCount"),
		rows("E820", S.E820Entry, "e820Count"),
		rows("EmuIrqs", S.EmuIrq, "emuIrqCount"),
		rows("PinnedCaches", S.PinnedCache, "pinnedCacheCount"),
		rows("G2mPorts", S.G2mPort, "g2mPortCount"),
	]),
	record("LU_SHARED_INFO", 0x40000022, "2", [], "optional", "Where shared_info is.", H.SharedInfo),
	record(
		"LU_EVTCHN",
		0x40000023,
		"2",
		["LU_SHARED_INFO"],
		"optional",
		"Event-channel ABI; FIFO blocks, arrays, queues.",
		H.Evtchn,
		[rows("ControlBlocks", S.ControlBlock, "controlBlockCount"), rows("EventArrays", S.Mfn, "arrayFrameCount")],
	),
	record("LU_EVTCHN_PORTS", 0x40000024, "2", ["LU_EVTCHN"], "optional", "The ports.", H.EvtchnPorts, [
		sparse("Ports", S.EvtchnPort),
	]),
	record(
		"LU_GRANT_MAPS",
		0x40000025,
		"2",
		[],
		"optional",
		"Maptrack: the grant mappings that the domain holds.",
		H.GrantMaps,
		[sparse("Maptrack", S.Maptrack)],
	),
	record("LU_FOREIGN_MAPS", 0x40000026, "2", [], "optional", "Owner of each foreign P2M entry.", H.ForeignMaps, [
		rows("ForeignMapList", S.ForeignMap, "mapCount"),
	]),
	record("LU_VCPU", 0x40000027, "2", ["LU_SHARED_INFO"], "vcpu", "A vCPU's state outside its registers.", H.Vcpu, [
		rows("HardAffinity", S.Word, "affinityWordCount", true),
		rows("SoftAffinity", S.Word, "affinityWordCount", true),
		rows("SavedAffinity", S.Word, "affinityWordCount", true),
	]),
	record("LU_PV_VCPU", 0x40000028, "2", ["LU_VCPU"], "vcpu", "A PV vCPU's registers, with MFNs.", H.PvVcpu, [
		rows("PvFpu", S.Octet, 512, true),
		rows("PvTraps", S.PvTrap, 256, true),
	]),
	record(
		"LU_PV32_VCPU",
		0x4000002c,
		"2",
		["LU_VCPU"],
		"vcpu",
		"A 32-bit PV vCPU's registers, with MFNs.",
		H.Pv32Vcpu,
		[rows("PvFpu", S.Octet, 512, true), rows("PvTraps", S.PvTrap, 256, true)],
		2,
	),
	record(
		"X86_PV_VCPU_EXTENDED",
		0x5,
		"2",
		["LU_PV_VCPU", "LU_PV32_VCPU"],
		"vcpu",
		"libxc: a PV vCPU's extended context.",
		H.VcpuExtended,
		[blob("PvExtended", S.Octet)],
	),
	record(
		"X86_PV_VCPU_XSAVE",
		0x6,
		"2",
		["LU_PV_VCPU", "LU_PV32_VCPU"],
		"vcpu",
		"libxc: a PV vCPU's XSAVE area.",
		H.VcpuXsave,
		[blob("PvXsave", S.Octet)],
	),
	record("X86_PV_VCPU_MSRS", 0xc, "2", ["LU_PV_VCPU", "LU_PV32_VCPU"], "vcpu", "libxc: a PV vCPU's MSRs.", H.VcpuMsrs, [
		blob("PvMsrs", S.MsrEntry),
	]),
	record("X86_TSC_INFO", 0x8, "2", ["LU_VCPU"], "optional", "libxc: TSC information.", H.Tsc),
	record("HVM_PARAMS", 0xa, "2", ["X86_TSC_INFO"], "optional", "libxc: HVM parameters.", H.HvmParams, [
		rows("HvmParamList", S.HvmParam, "count"),
	]),
	record(
		"HVM_CONTEXT",
		0x9,
		"2",
		["HVM_PARAMS"],
		"optional",
		"libxc: the HVM context, vCPU registers included.",
		undefined,
		[rows("HvmContext", S.Octet)],
	),
	record(
		"LU_PIRQS",
		0x40000029,
		"2",
		["LU_EVTCHN_PORTS"],
		"optional",
		"PIRQs and MSIs, emulated ones included.",
		H.Pirqs,
		[rows("PirqList", S.Pirq, "pirqCount")],
	),
	record("LU_IOREQ_SERVERS", 0x4000002a, "2", ["LU_PIRQS"], "optional", "I/O request servers.", H.IoreqServers, [
		rows("IoreqServerList", S.IoreqServer, "serverCount"),
		rows("IoreqPorts", S.IoreqPort, "portCount"),
		rows("IoreqPages", S.IoreqPage, "pageCount"),
		rows("IoreqRanges", S.IoreqRange, "rangeCount"),
	]),
	record("LU_CAPS", 0x4000002b, "2", [], "optional", "Permitted I/O ports, I/O memory, interrupts.", H.Caps, [
		rows("CapRanges", S.CapRange, "rangeCount"),
	]),
	record(
		"LU_SCHEDULER",
		0xc000002d,
		"2",
		[],
		"optional",
		"Weight, cap, reservations. A reader that skips it leaves the scheduler's defaults.",
		H.Scheduler,
		[rows("SchedulerVcpus", S.SchedulerVcpu, "vcpuCount")],
		2,
	),
	record("LU_SECTION", 0x4000003e, "-", [], "framing", "Opens a section.", H.Section),
	record("LU_INDEX", 0x4000003f, "-", [], "framing", "Lists the sections, after the last of them.", H.Index, [
		rows("Sections", S.IndexEntry, "sectionCount"),
	]),
	record("END", 0x0, "-", [], "framing", "The last record, with an empty body.", undefined),
];

// --- the image ---------------------------------------------------------------------------------------------------

export interface Table {
	readonly name: string;
	readonly scope: "host" | "domain";
	readonly row: Struct;
	/** "once": 0 or 1 rows; "vcpu": rows per vCPU slot, in vCPU order; "free": any number. */
	readonly shape: "once" | "vcpu" | "free";
	readonly doc: string;
}

/** Tables that no record carries as they stand; name, scope, row, shape. */
const imageOnly: readonly Table[] = [
	{ name: "FrameCounts", scope: "host", row: S.FrameCount, shape: "free", doc: "References, by MFN." },
	{ name: "P2mInfo", scope: "domain", row: S.P2mInfo, shape: "once", doc: "What the P2M has beside its entries." },
	{ name: "VcpuBlobs", scope: "domain", row: S.VcpuBlobs, shape: "vcpu", doc: "A vCPU's variable state." },
	{ name: "DomainCounts", scope: "domain", row: S.DomainCounts, shape: "once", doc: "The domain's counts." },
];

function tablesOf(def: RecordDef): Table[] {
	const scope = def.section === "H" || def.section === "1h" ? "host" : "domain";
	const shape = def.cardinality === "vcpu" ? "vcpu" : "once";
	const list: Table[] = [];
	const keepsHead = def.head && def.cardinality !== "slice" && def.cardinality !== "framing";
	const onlyVcpuId = def.parts[0]?.kind === "blob";
	if (def.head && keepsHead && !onlyVcpuId) {
		list.push({ name: def.head.name, scope, row: def.head, shape, doc: def.head.doc });
	}
	if (def.cardinality !== "framing") {
		for (const part of def.parts) {
			const partShape = part.kind === "rows" && part.perVcpu ? "vcpu" : "free";
			list.push({ name: part.table, scope, row: part.row, shape: partShape, doc: part.row.doc });
		}
	}
	return list;
}

/** Two records may fill one table, such as the FPU states of 64-bit and 32-bit PV guests: it is listed once. */
const allTables = [...records.flatMap(tablesOf), ...imageOnly].filter(
	({ name }, i, all) => all.findIndex((table) => table.name === name) === i,
);
/** The host's tables, in the order of the image's directory. */
export const hostTables = allTables.filter((table) => table.scope === "host");
/** Each domain's tables, in the order of its directory. */
export const domainTables = allTables.filter((table) => table.scope === "domain");

/** Tables that grow with the host's memory, and may be detached from its image: rows by MFN, by GFN. */
export const bulkTables: readonly string[] = ["FrameOwners", "FrameTypes", "FrameCounts", "P2m"];

/** Structs of the image itself and of the core's interface; the directories' lengths follow from the lists above. */
export const imageStructs = {
	TableRef: struct("TableRef", "Where a table stands.", [
		u32("offset", "Octets from the image's start, a multiple of 8."),
		u32("count", "Rows."),
	]),
	ImageRoot: struct("ImageRoot", "Start of a hypervisor image; the host's table directory follows.", [
		u64("magic", "XLUIMAGE.", "hex"),
		u32("abi", "ABI version of the core."),
		u32("size", "Octets of the image."),
		u32("domainCount", "Domains."),
		u32("domainsOffset", "Octets to the first DomainEntry, by ascending domid; one directory each."),
		u32("restoredPass", "Passes that have ended for every domain, all ones for a running hypervisor's image."),
		u32("flags", "1: detached, the bulk tables' rows are not in the image, which has their numbers alone."),
	]),
	DomainEntry: struct("DomainEntry", "Start of a domain's table directory, which follows it.", [
		u32("domid", "Domain."),
		u32("vcpuSlots", "Rows of the tables that are indexed by vCPU: highest vCPU + 1."),
	]),
	MemoryHeader: struct("MemoryHeader", "Start of the preserved memory; MFNs (u64, ascending), then the pages.", [
		u64("magic", "XLUMEM01.", "hex"),
		u64("streamHash", "XXH3-64 of the stream it belongs to.", "hex"),
		u64("hash", "XXH3-64 of all that follows this header.", "hex"),
		u32("pageCount", "Pages."),
		u32("pagesOffset", "Octets to the first page, a multiple of 4096."),
	]),
	Fault: struct("Fault", "What a call refused, and where.", [
		u64("offset", "Octets from the start of the stream (or image) to the record."),
		u64("expected", "Expected value or limit."),
		u64("got", "Value found."),
		u32("status", "Status of the call."),
		u32("rule", "Rule number."),
		u32("pass", "Section code."),
		u32("domid", "Domain."),
		u32("recordType", "Record type, or table number for a comparison."),
		u32("field", "Octets from the record's body to the field, all ones for none; for a comparison the row."),
	]),
	Context: struct("Context", "State that lives across calls, in the caller's memory.", [
		u32("abi", "ABI version, set by open."),
		u32("phase", "How far the calls have come."),
		u32("streamPtr", "Stream window."),
		u32("streamBytes", "Its length."),
		u32("workPtr", "Workspace."),
		u32("workBytes", "Its length."),
		u32("memoryPtr", "Preserved memory, 0 for none."),
		u32("memoryBytes", "Its length."),
		u32("imagePtr", "Target image."),
		u32("imageBytes", "Its length."),
		u32("indexPtr", "First IndexEntry in the stream."),
		u32("sectionCount", "Sections."),
		u32("domainCount", "Domains."),
		u32("planImageBytes", "Size of the target image."),
		u32("planWorkBytes", "Size of the workspace."),
		u32("planStreamBytes", "Most octets that the stream of an image can take."),
		u32("streamUsed", "Octets up to the end of END."),
		u32("notChecked", "Rules that need the preserved memory and were not checked."),
		u32("hostDone", "Host-wide steps done, one bit each."),
		u32("framesSection", "Index entry of section 1h."),
		u32("done0", "Domains that have ended pass 0."),
		u32("done1", "Domains that have ended pass 1."),
		u32("done2", "Domains that have ended pass 2."),
		u32("hostPtr", "LU_HOST's record."),
		u32("blockCount", "Blocks of frames: what one call of `frames` works on."),
		u32("planSumsBytes", "Size of a worker's window of sums."),
		u32("parentPtr", "Of a worker: the context that it was made from."),
		u32("workerPtr", "The worker that was made last; of a worker, the one made before it; 0 for none."),
		u32("sumsPtr", "Of a worker: its window of sums."),
		u32("blocksDone", "Steps that every block of frames is known to have ended."),
		u32("isTurned", "1 if the stream came big-endian and was brought to little-endian in its window."),
		u32("formatVersion", "Version of the stream that was opened."),
		u32("newestVersion", "Newest version that the reader of that stream knows."),
		u32("saveVersion", "Version that save writes, 0 for the newest."),
		u64("frameCount", "Frames of the host."),
		u64("streamHash", "Of a stream that came big-endian: XXH3-64 of its octets as they came."),
		u64("pieceOffset", "Where the piece of a step goes in the stream."),
		u64("streamOctets", "Length of a stream that was saved in steps, once it is done."),
		u64("digest", "Digest that was taken in steps, once it is done."),
		u64("p2mRowsLeft", "Rows of detached P2Ms that restoreRows has not made yet."),
		u32("stepWants", "What the next step needs: 0 nothing, it is done; 1 rows; 2 that the piece has been taken."),
		u32("wantDomid", "Whose rows: a domain's, or the host's (DOMID_XEN)."),
		u32("wantTable", "Of which table, by its number in the directory."),
		u32("wantFirst", "From this one on."),
		u32("wantCount", "So many at the most."),
		u32("piecePtr", "Piece of the stream that a step has written."),
		u32("pieceBytes", "Its length."),
		u32("planWindowBytes", "Least window that a stream can be saved through."),
		u32("planIndexBytes", "Size of the window of its index."),
		u32("detached", "Whether the target's bulk tables are detached: rows are made by restoreRows."),
		u32("ownersDone", "Rows of detached frame tables that are made: owners,"),
		u32("typesDone", "types,"),
		u32("countsDone", "counts."),
		u32("rowsPtr", "Window of counts that are being made, 0 for none."),
		u32("rowsFirst", "Frame of its first row."),
		u32("rowsCount", "Its rows."),
		u32(
			"refsLow",
			"While a domain's pass 2 into a detached target runs: the lowest frame that it holds a reference of,",
		),
		u32("refsHigh", "the highest."),
	]),
	/** One per domain, in the workspace: what plan found and how far the passes have come. */
	DomainPlan: struct("DomainPlan", "A domain's sections, tables and progress.", [
		u32("domid", "Domain."),
		u32("section0", "Index entry of its section 0."),
		u32("section1", "Index entry of its section 1d."),
		u32("section2", "Index entry of its section 2."),
		u32("directory", "Octets from the image's start to its DomainEntry."),
		u32("vcpuSlots", "Highest vCPU + 1."),
		u32("passDone", "Passes that it has ended."),
		u32("kind", "Kind of guest."),
		u32("life", "Alive or dead."),
		u32("domainPtr", "Its LU_DOMAIN record."),
		u32("vcpusPtr", "LU_VCPUS."),
		u32("statePtr", "LU_DOMAIN_STATE."),
		u32("sharedInfoPtr", "LU_SHARED_INFO, 0 for none, like those that follow."),
		u32("grantTablePtr", "LU_GRANT_TABLE."),
		u32("activePtr", "LU_GRANT_ACTIVE."),
		u32("mapsPtr", "LU_GRANT_MAPS."),
		u32("foreignPtr", "LU_FOREIGN_MAPS."),
		u32("evtchnPtr", "LU_EVTCHN."),
		u32("portsPtr", "LU_EVTCHN_PORTS."),
		u32("pinsPtr", "Pins counted by check, 4 octets per active row."),
		u32("frames", "Frames it owns, without xenheap and extra ones."),
		u32("xenheapFrames", "Xenheap frames it owns."),
		u32("extraFrames", "Extra frames it owns."),
		u32("foreignEntries", "Foreign entries in its P2M."),
		u32("firstTable", "MFN + 1 of the first of its page tables, which are linked in the owners' entries; 0 for none."),
		u32("tableCount", "Page tables that it owns: a PV domain that has any is walked."),
		u32("lowestCount", "L1 tables among them."),
		u32("pv32Ptr", "LU_PV32, 0 for none."),
		u32("rowsDone", "Rows of its detached P2M that are made."),
		u32("refsLow", "Detached: the lowest frame that it holds a reference of, all ones for none,"),
		u32("refsHigh", "the highest."),
	]),
} as const;

export const IMAGE_MAGIC = 0x4547414d49554c58n; // "XLUIMAGE"
export const MEMORY_MAGIC = 0x31304d454d554c58n; // "XLUMEM01"
export const ABI_VERSION = 1;
/** Bit of ImageRoot.flags. */
export const IMAGE_DETACHED = 1;
/** Bits of open's flags: zeros may follow the stream in its last frame; the target's bulk tables are detached. */
export const OPEN_FLAG = { padded: 1, detached: 2 } as const;
/** Bits 8 to 15 of them: the newest version that the reader knows, where that is another hypervisor's; 0 for the core's own. */
export const OPEN_VERSION_SHIFT = 8;
/** What a step wants before the next one: Context.stepWants. */
export const WANTS = { nothing: 0, rows: 1, drain: 2 } as const;

const byType = new Map(records.map((def) => [def.type, def]));
const byName = new Map(records.map((def) => [def.name, def]));

export function recordByType(type: number): RecordDef | undefined {
	return byType.get(type);
}

export function recordByName(name: string): RecordDef {
	const def = byName.get(name);
	if (!def) throw new Error(`no record ${name}`);
	return def;
}
