/** The rest of a domain: FORMAT.md, "Domain state" to "PV registers", "Sums of frames"; RULES.md, 17. */
import { mustKnow } from "./checkHost.ts";
import { checkHvmContext, checkXsave } from "./checkRegisters.ts";
import { type Domain, type Host, must, ownerOf, SEG_DESC, typeOf, XENHEAP } from "./host.ts";
import { ALL_ONES, type Fields } from "./octets.ts";
import { DOMID_INVALID, type StreamRecord } from "./stream.ts";

const EXISTS = 1;
const INITIALISED = 2;
const DOWN = 4;
const L3 = 3;
const L4 = 4;
const VCPU_INFO_OCTETS = 64;

export function checkState(host: Host, domain: Domain): void {
	const record = domain.one("LU_DOMAIN_STATE")!;
	const { target, pirqEoiMode, pirqEoiMfn } = record.head;
	mustKnow(96, record, "shutdownState");
	for (const field of ["creationFinished", "callbackAsserted", "suspendedS3"])
		must(record.head[field] <= 1, 96, record, field);
	must(pirqEoiMode <= 2, 96, record, "pirqEoiMode");
	must(target === DOMID_INVALID || (host.domains.has(target) && target !== domain.domid), 43, record, "target");
	if (pirqEoiMfn !== ALL_ONES) host.mustBeWritten(domain.domid, pirqEoiMfn, record, "pirqEoiMfn");
	const info = domain.one("LU_SHARED_INFO");
	if (domain.isAlive) {
		must(info !== undefined, 102, record, "", "LU_SHARED_INFO");
		host.takeXenheap(domain.domid, info.head.mfn, info, "mfn");
	} else {
		for (const name of ["LU_EVTCHN_PORTS", "LU_SHARED_INFO", "LU_GRANT_MAPS"])
			must(domain.one(name) === undefined, 45, domain.one(name));
	}
}

const PV_ONLY = ["LU_PV_VCPU", "LU_PV32_VCPU", "X86_PV_VCPU_EXTENDED", "X86_PV_VCPU_XSAVE", "X86_PV_VCPU_MSRS"];
const HVM_ONLY = ["LU_FOREIGN_MAPS", "HVM_PARAMS", "HVM_CONTEXT", "LU_IOREQ_SERVERS"];

export function checkVcpus(host: Host, domain: Domain): void {
	const records = domain.all("LU_VCPU");
	const ids = records.map((r) => r.head.vcpuId);
	const hasEach = domain.vcpus.every((id) => ids.includes(id)) && ids.every((id) => domain.vcpus.includes(id));
	must(hasEach, 90, domain.one("LU_VCPUS"));
	let cpus: number[] = [];
	for (const record of domain.rest.records) {
		must(!(domain.isPv ? HVM_ONLY : PV_ONLY).includes(record.name), 95, record);
		if (domain.isPv) must(record.name !== (domain.isNarrow ? "LU_PV_VCPU" : "LU_PV32_VCPU"), 95, record);
		if (record.name === "LU_VCPU") checkVcpu(host, domain, record);
		if (record.name === "LU_PV_VCPU") checkRegisters(host, domain, record);
		if (record.name === "LU_PV32_VCPU") checkNarrowRegisters(host, domain, record);
		if (record.name === "X86_PV_VCPU_EXTENDED") checkExtended(record);
		if (record.name === "X86_PV_VCPU_XSAVE") checkXsave(domain, record);
		if (record.name === "HVM_PARAMS") checkParams(record);
		if (record.name === "HVM_CONTEXT") cpus = checkHvmContext(domain, record);
	}
	if (!domain.isAlive) return;
	const state = domain.one("LU_DOMAIN_STATE")!;
	const needsContext = !domain.isPv && records.some((r) => r.head.flags & INITIALISED);
	must(!needsContext || domain.one("HVM_CONTEXT") !== undefined, 17, state, "", "HVM_CONTEXT");
	for (const record of domain.isPv ? [] : records) {
		const isUp = (record.head.flags & (INITIALISED | DOWN)) === INITIALISED;
		must(!isUp || cpus.includes(record.head.vcpuId), 92, record, "flags", "no CPU entry");
	}
	const mayRest = state.head.shutdownState !== 0 || state.head.creationFinished === 0;
	must(mayRest || records.some((r) => !(r.head.flags & DOWN)), 91, state, "", "no vCPU that runs");
}

function checkVcpu(host: Host, domain: Domain, record: StreamRecord): void {
	const { vcpuId, flags, vcpuInfoMfn, vcpuInfoOffset, affinityWordCount } = record.head;
	mustKnow(91, record, "flags");
	must((flags & EXISTS) !== 0, 91, record, "flags");
	must(affinityWordCount === Math.ceil(host.record.head.cpuCount / 64), 91, record, "affinityWordCount");
	for (const field of ["runstate", "ioPrivilege"]) must(record.head[field] <= 3, 91, record, field);
	for (const field of ["runstateArea", "timeArea"]) mustKnow(91, record, field);
	if (vcpuInfoMfn !== ALL_ONES) {
		must(vcpuInfoOffset + VCPU_INFO_OCTETS <= 4096, 91, record, "vcpuInfoOffset");
		host.mustBeWritten(domain.domid, vcpuInfoMfn, record, "vcpuInfoMfn");
	} else must(vcpuInfoOffset === 0, 91, record, "vcpuInfoOffset");
	const hasContext = domain.all(domain.isNarrow ? "LU_PV32_VCPU" : "LU_PV_VCPU").some((r) => r.head.vcpuId === vcpuId);
	must(!domain.isPv || hasContext === ((flags & INITIALISED) !== 0), 92, record, "flags");
}

const HVM_PARAMETERS = 39n;

function checkParams(record: StreamRecord): void {
	const seen = new Set<bigint>();
	for (const [i, { index }] of record.parts.HvmParamList.entries()) {
		must(index < HVM_PARAMETERS, 120, record, `HvmParamList[${i}].index`);
		must(!seen.has(index), 121, record, `HvmParamList[${i}].index`, "twice");
		seen.add(index);
	}
}

function checkExtended(record: StreamRecord): void {
	const { length } = record.parts.PvExtended;
	must(length >= 32 && length <= 128, 92, record);
}

/** A frame that a vCPU runs on, and the type that its use holds. */
function mustRunOn(host: Host, domain: Domain, record: StreamRecord, mfn: bigint, type: number, field: string): void {
	host.mustOwn(domain.domid, mfn, record, field);
	must(!host.hasL1(domain.domid) || typeOf(host.types.at(mfn)) === type, 57, record, field);
}

function checkGdt(host: Host, domain: Domain, record: StreamRecord): void {
	const { gdtEntries, gdtMfn, ldtEntries } = record.head;
	must(gdtEntries <= 8192, 92, record, "gdtEntries");
	must(ldtEntries <= 8192, 92, record, "ldtEntries");
	for (let i = 0; i < Math.ceil(gdtEntries / 512); i++)
		mustRunOn(host, domain, record, gdtMfn[i], SEG_DESC, `gdtMfn[${i}]`);
}

function checkRegisters(host: Host, domain: Domain, record: StreamRecord): void {
	const { cr } = record.head;
	checkGdt(host, domain, record);
	for (const i of [1, 3]) if (cr[i] !== 0n) mustRunOn(host, domain, record, cr[i] >> 12n, L4, `cr[${i}]`);
}

function checkNarrowRegisters(host: Host, domain: Domain, record: StreamRecord): void {
	const { cr3 } = record.head;
	checkGdt(host, domain, record);
	if (cr3 !== 0n) mustRunOn(host, domain, record, cr3 >> 12n, L3, "cr3");
	for (const [i, { address }] of record.parts.PvTraps.entries())
		must(address <= 0xffff_ffffn, 92, record, `PvTraps[${i}].address`);
}

const RTDS = 8;
const WEIGHTED = [5, 6];

export function checkScheduler(host: Host, domain: Domain): void {
	const record = domain.one("LU_SCHEDULER");
	if (!record) return;
	const { scheduler, weight, cap, vcpuCount } = record.head;
	const pools: Fields[] = host.one("LU_CPUPOOLS")!.parts.PoolList;
	const pool = pools.find(({ poolId }) => poolId === domain.record.head.cpupoolId);
	must(scheduler === pool?.scheduler, 104, record, "scheduler");
	const isWeighted = WEIGHTED.includes(scheduler);
	must(isWeighted ? weight >= 1 && weight <= 65535 : weight === 0, 104, record, "weight");
	must(isWeighted ? cap <= 65535 : cap === 0, 104, record, "cap");
	must(vcpuCount === 0 || scheduler === RTDS, 104, record, "vcpuCount");
	let last = -1;
	for (const [i, { vcpuId, periodUs, budgetUs }] of record.parts.SchedulerVcpus.entries()) {
		const field = `SchedulerVcpus[${i}]`;
		must(vcpuId > last && vcpuId < domain.vcpuEnd, 104, record, `${field}.vcpuId`);
		must(periodUs >= 10 && periodUs <= 10_000_000, 104, record, `${field}.periodUs`);
		must(budgetUs >= 10 && budgetUs <= periodUs, 104, record, `${field}.budgetUs`);
		mustKnow(104, record, "flags", "SchedulerVcpus", i);
		last = vcpuId;
	}
}

export function checkCounts(host: Host, domain: Domain): void {
	let heap = 0n;
	for (const { entry, count } of host.owners.runs) {
		if (ownerOf(entry) !== domain.domid) continue;
		if (entry & XENHEAP) heap += count;
	}
	const { grantFrameCount = 0, statusFrameCount = 0 } = domain.one("LU_GRANT_TABLE")?.head ?? {};
	const named = grantFrameCount + statusFrameCount + (domain.one("LU_SHARED_INFO") ? 1 : 0);
	must(heap === BigInt(named), 53, domain.record);
}
