/** What only a stream of version 2 can break: one broken thing per case, of the second host. */
import { NONE32, PAGE_TYPE, PAGE_TYPE_FLAG } from "../../src/format/enums.ts";
import type { DomainModel, HostModel, PreservedPages } from "../../src/machine/model.ts";
import { memoryFor, saveModel } from "./core.ts";
import { parse, type Restitched, type StreamRecord } from "./restitch.ts";
import type { RuleCase } from "./ruleCases.ts";
import { NARROW, secondHost, XEN_SLOT } from "./secondHost.ts";
import { pte } from "./tinyHost.ts";

/** The stream and the preserved memory of a case. */
export function brokenSecond(one: RuleCase): { stream: Uint8Array<ArrayBuffer>; memory: Uint8Array<ArrayBuffer> } {
	const { model, preserved } = secondHost();
	one.model?.(model, preserved);
	let { stream } = saveModel(model, preserved);
	if (one.stream) {
		const parsed = parse(stream);
		one.stream(parsed);
		stream = parsed.build();
	}
	stream = one.octets?.(stream) ?? stream;
	one.memory?.(preserved);
	return { stream, memory: memoryFor(stream, preserved) };
}

const guest = ({ domains }: HostModel, domid = NARROW): DomainModel =>
	domains.find(({ domain }) => domain.domid === domid) as DomainModel;

/** Changes an entry of a page table. */
const entry = (preserved: PreservedPages, mfn: number, slot: number, value: bigint): void =>
	new DataView((preserved.get(mfn) as Uint8Array).buffer).setBigUint64(8 * slot, value, true);

/** Puts a record behind the first one of a name, of which there is one in the domain's section 2. */
function putBehind(stream: Restitched, name: string, domid: number, record: StreamRecord): void {
	const { records } = stream.section("2", domid);
	records.splice(records.indexOf(stream.record(name, domid)) + 1, 0, record);
}

export const secondCases: readonly RuleCase[] = [
	{
		rule: "VCPU_CONTEXT",
		what: "an LDT of more entries than there can be",
		fault: "2/6 LU_PV32_VCPU.ldtEntries: 8192, not 8193",
		stream: (s) => s.record("LU_PV32_VCPU", NARROW).set("ldtEntries", 8193),
	},
	{
		rule: "UNKNOWN_RECORD",
		what: "a mandatory record of version 2 in a stream of version 1",
		fault: "0/2 LU_VNUMA: 0, not 1073741845",
		octets: (s) => {
			new DataView(s.buffer).setUint32(12, 1);
			return s;
		},
	},
	{
		rule: "PV32",
		what: "a 32-bit PV guest without LU_PV32",
		fault: "0/6 LU_DOMAIN: 1073741844, not 0",
		stream: (s) => void s.remove("LU_PV32"),
	},
	{
		rule: "PV32",
		what: "LU_PV32 of a 64-bit guest",
		fault: "0/1 LU_PV32: 0, not 1073741844",
		stream: (s) => void s.section("0", 1).records.push(s.record("LU_PV32").clone()),
	},
	{
		rule: "PV32",
		what: "Xen's part that begins before the last GiB",
		fault: "0/6 LU_PV32.xenStart: 3221225472, not 3219128320",
		stream: (s) => s.record("LU_PV32").set("xenStart", 0xbfe0_0000),
	},
	{
		rule: "PV32",
		what: "Xen's part that begins within an L2 entry",
		fault: "0/6 LU_PV32.xenStart: 3221225472, not 4118810624",
		stream: (s) => s.record("LU_PV32").set("xenStart", 0xf580_1000),
	},
	{
		rule: "PAGE_TYPE",
		what: "an L4 table of a 32-bit guest",
		fault: "1h/host LU_PAGE_TYPES.firstMfn: 8, not 845",
		model: ({ frameTypes }) => {
			frameTypes[845] = PAGE_TYPE.l4;
		},
	},
	{
		rule: "PAGE_TYPE",
		what: "paeXenL2 in a 64-bit guest",
		fault: "1h/host LU_PAGE_TYPES.firstMfn: 4, not 202",
		model: ({ frameTypes }) => {
			frameTypes[202] = PAGE_TYPE.l2 | PAGE_TYPE_FLAG.paeXenL2;
		},
	},
	{
		rule: "PAGE_TYPE",
		what: "paeXenL2 of an L1 table",
		fault: "1h/host LU_PAGE_TYPES.firstMfn: 2, not 33",
		model: ({ frameTypes }) => {
			frameTypes[844] = PAGE_TYPE.l1 | PAGE_TYPE_FLAG.paeXenL2;
		},
	},
	{
		rule: "PAGE_TYPE",
		what: "paeXenL2 of a pinned table",
		fault: "1h/host LU_PAGE_TYPES.firstMfn: 2, not 58",
		model: ({ frameTypes }) => {
			frameTypes[842] = (frameTypes[842] as number) | PAGE_TYPE_FLAG.pinned;
		},
	},
	{
		rule: "PAGE_TABLE",
		what: "an L3 table of a 32-bit guest with a fifth entry",
		fault: "1h/6 LU_PAGE_TYPES: 0, not 3444837",
		memory: (preserved) => entry(preserved, 840, 4, pte(841, false)),
	},
	{
		rule: "PAGE_TABLE",
		what: "an L3 table of a 32-bit guest without its last entry",
		fault: "1h/6 LU_PAGE_TYPES: 2, not 0",
		memory: (preserved) => entry(preserved, 840, 3, 0n),
	},
	{
		rule: "PAGE_TABLE",
		what: "a last entry that names an L2 table without Xen's part",
		fault: "1h/6 LU_PAGE_TYPES: 2, not 3444837",
		memory: (preserved) => entry(preserved, 840, 3, pte(841, false)),
	},
	{
		rule: "PAGE_TABLE",
		what: "an entry before the last that names an L2 table with Xen's part",
		fault: "1h/6 LU_PAGE_TYPES: 2, not 3448933",
		memory: (preserved) => entry(preserved, 840, 1, pte(842, false)),
	},
	{
		rule: "PAGE_TABLE",
		what: "two L3 tables that name one L2 table with Xen's part",
		fault: "1h/6 LU_PAGE_TYPES: 2, not 3448933",
		model: ({ frameTypes }, preserved) => {
			frameTypes[845] = PAGE_TYPE.l3;
			preserved.set(845, (preserved.get(840) as Uint8Array).slice());
		},
	},
	{
		rule: "PAGE_TABLE",
		what: "an L3 entry beyond the host",
		fault: "1h/6 LU_PAGE_TYPES: 2, not 20480101",
		memory: (preserved) => entry(preserved, 840, 0, pte(5000, false)),
	},
	{
		rule: "PAGE_TABLE",
		what: "the last of the guest's own L2 entries beside Xen's part names a frame of Xen's",
		fault: "1h/6 LU_PAGE_TYPES: 1, not 262247",
		memory: (preserved) => entry(preserved, 842, XEN_SLOT - 1, pte(64, true)),
	},
	{
		rule: "PAGE_TABLE",
		what: "a 32-bit vCPU's CR3 names an L2 table",
		fault: "2/6 LU_PV32_VCPU.cr3: 3, not 2",
		stream: (s) => s.record("LU_PV32_VCPU").set("cr3", 841n << 12n),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a 32-bit vCPU's CR3 names another domain's frame",
		fault: "2/6 LU_PV32_VCPU.cr3: 6, not 1",
		stream: (s) => s.record("LU_PV32_VCPU").set("cr3", 200n << 12n),
	},
	{
		rule: "PAGE_TABLE",
		what: "a 32-bit vCPU's GDT frame of another type",
		fault: "2/6 LU_PV32_VCPU.gdtMfn[0]: 5, not 7",
		stream: (s) => s.record("LU_PV32_VCPU").set("gdtMfn", 850n),
	},
	{
		rule: "VCPU_CONTEXT",
		what: "a 32-bit vCPU without its context",
		fault: "2/6 LU_VCPU.flags: 1, not 0",
		model: (m) => {
			guest(m).vcpu = [guest(m).vcpu[0], { ...guest(m).vcpu[1], flags: 1 }];
		},
		stream: (s) => s.record("LU_VCPU", NARROW, 1).set("flags", 3),
	},
	{
		rule: "VCPU_CONTEXT",
		what: "a 32-bit vCPU with a GDT of more than 16 frames",
		fault: "2/6 LU_PV32_VCPU.gdtEntries: 8192, not 8193",
		stream: (s) => s.record("LU_PV32_VCPU").set("gdtEntries", 8193),
	},
	{
		rule: "VCPU_CONTEXT",
		what: "a 32-bit guest's trap handler beyond 4 GiB",
		fault: "2/6 LU_PV32_VCPU.PvTraps[0].address: 4294967295, not 4294967296",
		stream: (s) => s.record("LU_PV32_VCPU").row("PvTraps", 0, "address", 1n << 32n),
	},
	{
		rule: "HVM_ONLY",
		what: "a 32-bit context in a 64-bit guest",
		fault: "2/1 LU_PV32_VCPU: 1, not 1073741868",
		stream: (s) => putBehind(s, "LU_PV_VCPU", 1, s.record("LU_PV32_VCPU").clone()),
	},
	{
		rule: "HVM_ONLY",
		what: "a 64-bit context in a 32-bit guest",
		fault: "2/6 LU_PV_VCPU: 1, not 1073741864",
		stream: (s) => putBehind(s, "LU_PV32_VCPU", NARROW, s.record("LU_PV_VCPU", 1).clone()),
	},
	{
		rule: "RECORD_TWICE",
		what: "a 32-bit context twice",
		fault: "2/6 LU_PV32_VCPU.vcpuId: 1, not 2",
		stream: (s) => void s.section("2", NARROW).records.push(s.record("LU_PV32_VCPU").clone()),
	},
	{
		rule: "VNUMA",
		what: "no node",
		fault: "0/2 LU_VNUMA.nodeCount: 1, not 0",
		stream: (s) => s.record("LU_VNUMA", 2).set("nodeCount", 0),
		model: (m) => {
			guest(m, 2).vnumaNodes = [];
			guest(m, 2).vnumaDistances = [];
		},
	},
	{
		rule: "VNUMA",
		what: "fewer distances than pairs",
		fault: "0/6 LU_VNUMA.distanceCount: 4, not 3",
		model: (m) => {
			guest(m).vnumaDistances = guest(m).vnumaDistances?.slice(1) ?? [];
		},
	},
	{
		rule: "VNUMA",
		what: "so many nodes that their square has more than 32 bits",
		fault: "0/6 LU_VNUMA.distanceCount: 4294967296, not 0",
		model: (m) => {
			guest(m).vnumaNodes = new Array(65536).fill({});
			guest(m).vnumaDistances = [];
		},
	},
	{
		rule: "VNUMA",
		what: "a node for fewer vCPUs than may be",
		fault: "0/6 LU_VNUMA.vcpuCount: 3, not 2",
		model: (m) => {
			guest(m).vnumaVcpus = guest(m).vnumaVcpus?.slice(1) ?? [];
		},
	},
	{
		rule: "VNUMA",
		what: "a vCPU on a node that does not exist",
		fault: "0/6 LU_VNUMA.VnumaVcpus[2].node: 1, not 2",
		stream: (s) => s.record("LU_VNUMA", NARROW).row("VnumaVcpus", 2, "node", 2),
	},
	{
		rule: "VNUMA",
		what: "memory that overlaps",
		fault: "0/6 LU_VNUMA.VnumaRanges[1].start: 49152, not 49151",
		stream: (s) => s.record("LU_VNUMA", NARROW).row("VnumaRanges", 1, "start", 0xbfffn),
	},
	{
		rule: "VNUMA",
		what: "memory that ends where it begins",
		fault: "0/6 LU_VNUMA.VnumaRanges[1].end: 49152, not 49152",
		stream: (s) => s.record("LU_VNUMA", NARROW).row("VnumaRanges", 1, "end", 0xc000n),
	},
	{
		rule: "VNUMA",
		what: "memory on a node that does not exist",
		fault: "0/6 LU_VNUMA.VnumaRanges[1].node: 1, not 4294967295",
		stream: (s) => s.record("LU_VNUMA", NARROW).row("VnumaRanges", 1, "node", NONE32),
	},
	{
		rule: "SCHEDULER",
		what: "another scheduler than the pool's",
		fault: "2/0 LU_SCHEDULER.scheduler: 6, not 5",
		stream: (s) => s.record("LU_SCHEDULER", 0).set("scheduler", 5),
	},
	{
		rule: "SCHEDULER",
		what: "a weight of zero",
		fault: "2/0 LU_SCHEDULER.weight: 65535, not 0",
		stream: (s) => s.record("LU_SCHEDULER", 0).set("weight", 0),
	},
	{
		rule: "SCHEDULER",
		what: "a weight of more than 16 bits",
		fault: "2/0 LU_SCHEDULER.weight: 65535, not 65536",
		stream: (s) => s.record("LU_SCHEDULER", 0).set("weight", 65536),
	},
	{
		rule: "SCHEDULER",
		what: "a cap of more than 16 bits",
		fault: "2/2 LU_SCHEDULER.cap: 65535, not 65536",
		stream: (s) => s.record("LU_SCHEDULER", 2).set("cap", 65536),
	},
	{
		rule: "SCHEDULER",
		what: "a weight where the scheduler has none",
		fault: "2/6 LU_SCHEDULER.weight: 0, not 1",
		stream: (s) => s.record("LU_SCHEDULER", NARROW).set("weight", 1),
	},
	{
		rule: "SCHEDULER",
		what: "reservations where the scheduler has none",
		fault: "2/0 LU_SCHEDULER.vcpuCount: 0, not 1",
		model: (m) => {
			guest(m, 0).schedulerVcpus = [{ vcpuId: 0, periodUs: 100, budgetUs: 50 }];
		},
	},
	{
		rule: "SCHEDULER",
		what: "a reservation of a vCPU that does not exist",
		fault: "2/6 LU_SCHEDULER.SchedulerVcpus[1].vcpuId: 2, not 2",
		stream: (s) => s.record("LU_SCHEDULER", NARROW).row("SchedulerVcpus", 1, "vcpuId", 2),
	},
	{
		rule: "SCHEDULER",
		what: "two reservations of one vCPU",
		fault: "2/6 LU_SCHEDULER.SchedulerVcpus[1].vcpuId: 2, not 0",
		stream: (s) => s.record("LU_SCHEDULER", NARROW).row("SchedulerVcpus", 1, "vcpuId", 0),
	},
	{
		rule: "SCHEDULER",
		what: "a period of more than ten seconds",
		fault: "2/6 LU_SCHEDULER.SchedulerVcpus[1].periodUs: 10000000, not 10000001",
		stream: (s) => s.record("LU_SCHEDULER", NARROW).row("SchedulerVcpus", 1, "periodUs", 10_000_001),
	},
	{
		rule: "SCHEDULER",
		what: "a budget beyond its period",
		fault: "2/6 LU_SCHEDULER.SchedulerVcpus[0].budgetUs: 10000, not 10001",
		stream: (s) => s.record("LU_SCHEDULER", NARROW).row("SchedulerVcpus", 0, "budgetUs", 10_001),
	},
	{
		rule: "SCHEDULER",
		what: "an unknown flag",
		fault: "2/6 LU_SCHEDULER.SchedulerVcpus[0].flags: 1, not 2",
		stream: (s) => s.record("LU_SCHEDULER", NARROW).row("SchedulerVcpus", 0, "flags", 2),
	},
	{
		rule: "BODY_LENGTH",
		what: "half a register set of a 32-bit vCPU",
		fault: "2/6 LU_PV32_VCPU: 296, not 100",
		stream: (s) => {
			const record = s.record("LU_PV32_VCPU");
			record.body = record.body.slice(0, 100);
		},
	},
	{
		rule: "WRONG_SECTION",
		what: "LU_SCHEDULER in section 0",
		fault: "0/0 LU_SCHEDULER: 4, not 1",
		stream: (s) => {
			const record = s.remove("LU_SCHEDULER", 0);
			s.section("0", 0).records.push(record);
		},
	},
	{
		rule: "RESERVED",
		what: "a reserved field of LU_PV32",
		fault: "0/6 LU_PV32.reserved0: 0, not 1",
		stream: (s) => s.record("LU_PV32").body.set([1], 4),
	},
];
