/**
 * What every record consists of: FORMAT.md, "Record types" and "Rows", in a shorter notation.
 *
 * A record: its type, its name, its section, how often it stands there, and which records it stands behind. Then its head,
 * field by field, and its parts; `since 2` is said of what version 2 has added. `name:u32=1|2` is an enumeration, `name:u32&7` flags, `0:u8[4]` is reserved. A part is
 * rows (a field of the head, a number, or * for "to the end of the body"), octets, a sparse table, or chunks of entries.
 */
const RECORD_TEXT = `
0x40000001 LU_VERSION H once -
  head xenMajor:u32 xenMinor:u32 moduleVersion:u32 textCount:u32
  part VersionText octets textCount
0x40000002 LU_HOST H once LU_VERSION
  head frameCount:u64 systemTimeNs:u64 wallclockSec:u64 nextUniqueId:u64 features:u64&31 wallclockNsec:u32
    cpuKhz:u32 domainCount:u32 cpuCount:u32 virqHandlerCount:u32 0:u8[4]
  part VirqHandlers rows virqHandlerCount VirqHandler
0x40000003 LU_M2P H once -
  head rangeCount:u32 0:u8[4]
  part M2pRanges rows rangeCount FrameRange
0x40000004 LU_REGIONS H once -
  head regionCount:u32 0:u8[4]
  part RegionList rows regionCount Region
0x40000005 LU_CPUPOOLS H once -
  head poolCount:u32 cpuCount:u32
  part PoolList rows poolCount Pool
  part PoolCpus rows cpuCount PoolCpu
0x40000006 LU_IRQS H once? -
  head pinCount:u32 msiCount:u32 ownerCount:u32 0:u8[4]
  part IoapicPins rows pinCount IoapicPin
  part Msis rows msiCount Msi
  part IrqOwners rows ownerCount IrqOwner
0x40000007 LU_DEVICES H once? -
  head deviceCount:u32 unitCount:u32 contextCount:u32 identityCount:u32 remapCount:u32 rangeCount:u32
  part DeviceList rows deviceCount Device
  part IommuUnits rows unitCount IommuUnit
  part IommuDomains rows contextCount IommuDomain
  part IdentityMaps rows identityCount IdentityMap
  part RemapEntries rows remapCount RemapEntry
  part IommuRanges rows rangeCount FrameRange
0x40000010 LU_DOMAIN 0 once -
  head uniqueId:u64 handle:u8[16] maxPages:u64 hapPoolFrames:u64 nodeAffinity:u64 domid:u16 kind:u8=1|2|3
    life:u8=0|1 createFlags:u32&127 maxVcpus:u32 maxEvtchnPort:u32 maxGrantFrames:u32 maxMaptrackFrames:u32
    grantVersionLimit:u32 emulationFlags:u32 ssidref:u32 cpupoolId:u32 addressWidth:u32 guestWidth:u32
0x00000011 X86_CPUID_POLICY 0 once? LU_DOMAIN
  part CpuidLeaves rows * CpuidLeaf
0x00000012 X86_MSR_POLICY 0 once? LU_DOMAIN
  part MsrPolicy rows * MsrEntry
0x40000011 LU_P2M 0 slices LU_DOMAIN
  head firstGfn:u64 highestGfn:u64 entryCount:u32 chunkBytes:u32 defaultAccess:u32=0|1|2|3|4|5|6|7|8|9|10
    0:u8[4]
  part P2m chunks 8
0x40000012 LU_KEPT_FRAMES 0 once? LU_DOMAIN
  head rootCount:u32 rangeCount:u32
  part KeptRoots rows rootCount KeptRoot
  part KeptRanges rows rangeCount FrameRange
0x40000013 LU_VCPUS 0 once LU_DOMAIN,LU_P2M
  head vcpuCount:u32 0:u8[4]
  part VcpuSlots rows vcpuCount VcpuSlot
0x40000014 LU_PV32 0 once? LU_DOMAIN since 2
  head xenStart:u32 0:u8[4]
0x40000015 LU_VNUMA 0 once? LU_DOMAIN since 2
  head nodeCount:u32 distanceCount:u32 vcpuCount:u32 rangeCount:u32
  part VnumaNodes rows nodeCount VnumaNode
  part VnumaDistances rows distanceCount VnumaDistance
  part VnumaVcpus rows vcpuCount VnumaVcpu
  part VnumaRanges rows rangeCount VnumaRange
0x40000018 LU_FRAMES 1h slices -
  head firstMfn:u64 entryCount:u32 chunkBytes:u32
  part FrameOwners chunks 8
0x40000019 LU_PAGE_TYPES 1h slices LU_FRAMES
  head firstMfn:u64 entryCount:u32 chunkBytes:u32
  part FrameTypes chunks 1
0x4000001a LU_GRANT_TABLE 1d once? -
  head version:u32 grantFrameCount:u32 statusFrameCount:u32 maptrackFrameCount:u32
  part GrantFrames rows grantFrameCount GrantFrame
  part StatusFrames rows statusFrameCount GrantFrame
0x4000001b LU_GRANT_ACTIVE 1d once? LU_GRANT_TABLE
  head slotCount:u32 runCount:u32 rowCount:u32 0:u8[4]
  part GrantActive sparse GrantActive
0x40000020 LU_DOMAIN_STATE 2 once -
  head timeOffsetSec:u64 pirqEoiMfn:u64 ioreqGfnBase:u64 ioreqGfnMask:u64 controllerPauseCount:u32
    suspendPort:u32 vmAssist:u32 pirqEoiMode:u32 pciCf8:u32 target:u16 creationFinished:u8
    shutdownState:u8=0|1|2 shutdownCode:u8 cmosIndex:u8 callbackAsserted:u8 suspendedS3:u8 pollWordCount:u32
    watchdogCount:u32 e820Count:u32 emuIrqCount:u32 pinnedCacheCount:u32 g2mPortCount:u32 0:u8[4]
  part PollWords rows pollWordCount Word
  part Watchdogs rows watchdogCount Watchdog
  part E820 rows e820Count E820Entry
  part EmuIrqs rows emuIrqCount EmuIrq
  part PinnedCaches rows pinnedCacheCount PinnedCache
  part G2mPorts rows g2mPortCount G2mPort
0x40000022 LU_SHARED_INFO 2 once? -
  head mfn:u64 gfn:u64
0x40000023 LU_EVTCHN 2 once? LU_SHARED_INFO
  head abi:u32=0|1 controlBlockCount:u32 arrayFrameCount:u32 0:u8[4]
  part ControlBlocks rows controlBlockCount ControlBlock
  part EventArrays rows arrayFrameCount Mfn
0x40000024 LU_EVTCHN_PORTS 2 once? LU_EVTCHN
  head slotCount:u32 runCount:u32 rowCount:u32 0:u8[4]
  part Ports sparse EvtchnPort
0x40000025 LU_GRANT_MAPS 2 once? -
  head slotCount:u32 runCount:u32 rowCount:u32 0:u8[4]
  part Maptrack sparse Maptrack
0x40000026 LU_FOREIGN_MAPS 2 once? -
  head mapCount:u32 0:u8[4]
  part ForeignMapList rows mapCount ForeignMap
0x40000027 LU_VCPU 2 vcpu? LU_SHARED_INFO
  head vcpuId:u32 flags:u32&31 vcpuInfoMfn:u64 runstateAddress:u64 timeAddress:u64 runstateEntryNs:u64
    runstateNs:u64[4] periodicPeriodNs:u64 periodicLastNs:u64 singleshotNs:u64 pollDeadlineNs:u64
    ioBitmapAddress:u64 vcpuInfoOffset:u32 controllerPauseCount:u32 pollPort:u32 runstate:u32 ioBitmapPorts:u32
    ioPrivilege:u32 runstateArea:u8=0|1|2 timeArea:u8=0|1|2 upcallVector:u8 upcallPending:u8 nmiPending:u8
    mcePending:u8 exceptionMask:u8 oldExceptionMask:u8 affinityWordCount:u32 0:u8[4]
  part HardAffinity rows affinityWordCount Word
  part SoftAffinity rows affinityWordCount Word
  part SavedAffinity rows affinityWordCount Word
0x40000028 LU_PV_VCPU 2 vcpu? LU_VCPU
  head r15:u64 r14:u64 r13:u64 r12:u64 rbp:u64 rbx:u64 r11:u64 r10:u64 r9:u64 r8:u64 rax:u64 rcx:u64 rdx:u64
    rsi:u64 rdi:u64 rip:u64 rflags:u64 rsp:u64 fsBase:u64 gsBaseKernel:u64 gsBaseUser:u64 cr:u64[8] dr:u64[8]
    ldtBase:u64 gdtMfn:u64[16] kernelSs:u64 kernelSp:u64 eventCallback:u64 failsafeCallback:u64
    syscallCallback:u64 vmAssist:u64 vcpuId:u32 flags:u32 ldtEntries:u32 gdtEntries:u32 errorCode:u32
    entryVector:u32 cs:u16 ss:u16 ds:u16 es:u16 fs:u16 gs:u16 savedUpcallMask:u8 0:u8[3]
  part PvFpu octets 512
  part PvTraps rows 256 PvTrap
0x4000002c LU_PV32_VCPU 2 vcpu? LU_VCPU since 2
  head vcpuId:u32 flags:u32 cr3:u64 gdtMfn:u64[16] ebx:u32 ecx:u32 edx:u32 esi:u32 edi:u32 ebp:u32 eax:u32 eip:u32
    eflags:u32 esp:u32 cr0:u32 cr2:u32 cr4:u32 dr:u32[8] ldtBase:u32 ldtEntries:u32 gdtEntries:u32 kernelSs:u32
    kernelSp:u32 eventCallbackCs:u32 eventCallbackEip:u32 failsafeCallbackCs:u32 failsafeCallbackEip:u32 vmAssist:u32
    errorCode:u32 entryVector:u32 cs:u16 ss:u16 ds:u16 es:u16 fs:u16 gs:u16 savedUpcallMask:u8 0:u8[7]
  part PvFpu octets 512
  part PvTraps rows 256 PvTrap
0x00000005 X86_PV_VCPU_EXTENDED 2 vcpu? LU_PV_VCPU,LU_PV32_VCPU
  head vcpuId:u32 0:u8[4]
  part PvExtended octets *
0x00000006 X86_PV_VCPU_XSAVE 2 vcpu? LU_PV_VCPU,LU_PV32_VCPU
  head vcpuId:u32 0:u8[4]
  part PvXsave octets *
0x0000000c X86_PV_VCPU_MSRS 2 vcpu? LU_PV_VCPU,LU_PV32_VCPU
  head vcpuId:u32 0:u8[4]
  part PvMsrs rows * MsrEntry
0x00000008 X86_TSC_INFO 2 once? LU_VCPU
  head mode:u32 khz:u32 nsec:u64 incarnation:u32 0:u8[4]
0x0000000a HVM_PARAMS 2 once? X86_TSC_INFO
  head count:u32 0:u8[4]
  part HvmParamList rows count HvmParam
0x00000009 HVM_CONTEXT 2 once? HVM_PARAMS
  part HvmContext octets *
0x40000029 LU_PIRQS 2 once? LU_EVTCHN_PORTS
  head pirqCount:u32 0:u8[4]
  part PirqList rows pirqCount Pirq
0x4000002a LU_IOREQ_SERVERS 2 once? LU_PIRQS
  head serverCount:u32 portCount:u32 pageCount:u32 rangeCount:u32
  part IoreqServerList rows serverCount IoreqServer
  part IoreqPorts rows portCount IoreqPort
  part IoreqPages rows pageCount IoreqPage
  part IoreqRanges rows rangeCount IoreqRange
0x4000002b LU_CAPS 2 once? -
  head rangeCount:u32 0:u8[4]
  part CapRanges rows rangeCount CapRange
0xc000002d LU_SCHEDULER 2 once? - since 2
  head scheduler:u32 weight:u32 cap:u32 vcpuCount:u32
  part SchedulerVcpus rows vcpuCount SchedulerVcpu
0x4000003e LU_SECTION - - -
  head pass:u32=0|1|2|3|4 domid:u16 0:u8[2] length:u64 hash:u64 recordCount:u32 0:u8[4]
0x4000003f LU_INDEX - - -
  head hash:u64 sectionCount:u32 0:u8[4]
  part Sections rows sectionCount IndexEntry
0x00000000 END - - -
`;

const ROW_TEXT = `
Run firstSlot:u32 firstRow:u32
VirqHandler virq:u32 domid:u16 0:u8[2]
FrameRange firstMfn:u64 frameCount:u64
Region firstMfn:u64 frameCount:u64 kind:u32=1|2|3 0:u8[4]
Pool poolId:u32 scheduler:u32=4|5|6|7|8|9 granularity:u32 0:u8[4]
PoolCpu poolId:u32 cpu:u32
IoapicPin ioapic:u32 pin:u32 irq:u32 vector:u8 trigger:u8 polarity:u8 masked:u8
Msi segment:u16 bus:u8 devfn:u8 entry:u16 msix:u8 masked:u8 irq:u32 vector:u8 0:u8[3]
IrqOwner irq:u32 domid:u16 shared:u16
Device segment:u16 bus:u8 devfn:u8 domid:u16 phantomStride:u8 0:u8
IommuUnit baseAddress:u64 rootMfn:u64 remapMfn:u64 unit:u32 format:u32=1|2|3|4
IommuDomain rootMfn:u64 unit:u32 hardwareId:u32 domid:u16 levels:u16 0:u8[4]
IdentityMap firstMfn:u64 frameCount:u64 domid:u16 writable:u16 0:u8[4]
RemapEntry unit:u32 index:u32 low:u64 high:u64
CpuidLeaf leaf:u32 subleaf:u32 eax:u32 ebx:u32 ecx:u32 edx:u32
MsrEntry index:u32 flags:u32 value:u64
KeptRoot rootMfn:u64 purpose:u32=1|2 format:u16=1|2|3|4 levels:u16
VcpuSlot vcpuId:u32 0:u8[4]
VnumaNode physicalNode:u32
VnumaDistance distance:u32
VnumaVcpu node:u32
VnumaRange start:u64 end:u64 node:u32 flags:u32
SchedulerVcpu vcpuId:u32 periodUs:u32 budgetUs:u32 flags:u32&1
GrantFrame mfn:u64 gfn:u64
GrantActive mfn:u64 grantee:u16 0:u8[2] hostWrite:u8 hostRead:u8 deviceWrite:u8 deviceRead:u8
Word value:u64
Watchdog index:u32 0:u8[4] expiresNs:u64
E820Entry address:u64 size:u64 type:u32 0:u8[4]
EmuIrq pirq:u32 emuirq:u32
PinnedCache firstGfn:u64 lastGfn:u64 type:u32 0:u8[4]
G2mPort guestPort:u32 machinePort:u32 count:u32 0:u8[4]
ControlBlock vcpuId:u32 offset:u32 mfn:u64 tail:u32[16]
Mfn mfn:u64
EvtchnPort state:u8=0|1|2|3|4|5|6 consumer:u8=0|1|2|3|4 priority:u8 lastPriority:u8 notifyVcpu:u16 lastVcpu:u16
  remoteDomid:u16 virq:u16 remotePort:u32 pirq:u32 pending:u8 0:u8[3]
Maptrack reference:u32 vcpuId:u32 domid:u16 flags:u16&7 0:u8[4]
ForeignMap gfn:u64 mfn:u64 owner:u16 0:u8[6]
PvTrap vector:u8 flags:u8 cs:u16 0:u8[4] address:u64
HvmParam index:u64 value:u64
Pirq pirq:u32 irq:u32 port:u32 emuirq:u32 guestGsi:u32 msiData:u32 msiFlags:u32 flags:u32&15
IoreqServer serverId:u32 emulator:u16 bufferedMode:u8=0|1|2 flags:u8&3 bufferedPort:u32 0:u8[4]
IoreqPort serverId:u32 vcpuId:u32 port:u32 0:u8[4]
IoreqPage mfn:u64 gfn:u64 serverId:u32 role:u16=0|1 flags:u16&1
IoreqRange serverId:u32 type:u32=0|1|2 first:u64 last:u64
CapRange kind:u32=1|2|3 0:u8[4] first:u64 last:u64
IndexEntry pass:u32=0|1|2|3|4 domid:u16 0:u8[2] offset:u64 length:u64 hash:u64 recordCount:u32 0:u8[4]
`;

export interface Field {
	/** Empty for a reserved field. */
	name: string;
	offset: number;
	/** Octets of one element. */
	size: 1 | 2 | 4 | 8;
	/** Elements; 0 for a field that is no array. */
	count: number;
	/** The values of an enumeration. */
	values?: number[];
	/** The bits of a set of flags. */
	flags?: number;
}

export interface Structure {
	fields: Field[];
	length: number;
}

export type Part =
	| { name: string; kind: "rows"; count: string; row: Structure }
	| { name: string; kind: "octets"; count: string }
	| { name: string; kind: "sparse"; row: Structure }
	| { name: string; kind: "chunks"; entrySize: 1 | 8 };

export interface RecordLayout {
	type: number;
	name: string;
	/** H, 0, 1h, 1d, 2; "-" for the records of the framing. */
	section: string;
	/** Exactly once, at most once, at most once for each vCPU, or any number of slices. */
	often: "once" | "once?" | "vcpu?" | "slices" | "-";
	after: string[];
	/** First version that has it. */
	since: number;
	head: Structure;
	parts: Part[];
}

function structure(text: string): Structure {
	const fields: Field[] = [];
	let length = 0;
	for (const word of text.split(" ").filter((w) => w !== "")) {
		const [, name, bits, count, values, flags] = /^(\w+):u(\d+)(?:\[(\d+)\])?(?:=([\d|]+))?(?:&(\d+))?$/.exec(word)!;
		const size = (Number(bits) / 8) as Field["size"];
		const field: Field = { name: name === "0" ? "" : name!, offset: length, size, count: Number(count ?? 0) };
		if (values) field.values = values.split("|").map(Number);
		if (flags) field.flags = Number(flags);
		fields.push(field);
		length += size * Math.max(1, field.count);
	}
	return { fields, length };
}

/** The rows that parts consist of, by name. */
export const ROWS = new Map<string, Structure>();
for (const line of ROW_TEXT.trim().replaceAll(/\n\s+/g, " ").split("\n")) {
	const [name, ...fields] = line.split(" ");
	ROWS.set(name!, structure(fields.join(" ")));
}

function part(text: string): Part {
	const [name, kind, a, b] = text.split(" ") as [string, string, string, string];
	if (kind === "rows") return { name, kind, count: a, row: ROWS.get(b)! };
	if (kind === "sparse") return { name, kind, row: ROWS.get(a)! };
	if (kind === "chunks") return { name, kind, entrySize: Number(a) as 1 | 8 };
	return { name, kind: "octets", count: a };
}

/** The records, by type. */
export const RECORDS = new Map<number, RecordLayout>();
for (const block of RECORD_TEXT.trim().split(/\n(?=\S)/)) {
	const [title, ...rest] = block.replaceAll(/\n {3,}/g, " ").split("\n");
	const [type, name, section, often, after, , since] = title!.split(" ") as [string, string, string, never, string];
	const lines = rest.map((l) => l.trim());
	RECORDS.set(Number(type), {
		type: Number(type),
		name,
		section,
		often,
		after: after === "-" ? [] : after.split(","),
		since: Number(since ?? 1),
		head: structure(lines.find((l) => l.startsWith("head "))?.slice(5) ?? ""),
		parts: lines.filter((l) => l.startsWith("part ")).map((l) => part(l.slice(5))),
	});
}
