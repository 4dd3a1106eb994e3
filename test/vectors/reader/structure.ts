/** Which sections and records there are: FORMAT.md, "Sections" and "Order within a section"; RULES.md, 8 to 11. */
import { must } from "./host.ts";
import { RECORDS } from "./layout.ts";
import type { Fields } from "./octets.ts";
import { PASS_NAMES, type Section, type Stream, type StreamRecord } from "./stream.ts";

const VCPUS = 8192;
const DOMIDS = 0x7ff0;
const MOST_FRAMES = 2n ** 28n;
const MOST_GFNS = 2n ** 29n;

export function checkSizes(stream: Stream): void {
	const { sections, index } = stream;
	const first = sections[0];
	must(first?.pass === 0, 18, undefined, "", "section H");
	const host = first.records.find((r) => r.name === "LU_HOST");
	must(host !== undefined, 17, first.record, "", "LU_HOST");
	must(host.head.frameCount <= MOST_FRAMES, 40, host, "frameCount");
	must(host.head.cpuCount >= 1 && host.head.cpuCount <= VCPUS, 40, host, "cpuCount");
	const domains = sections.filter((s) => s.pass === 1);
	must(domains.length <= DOMIDS, 41, index, "sectionCount");
	must(sections.length <= 2 + 3 * domains.length, 9, index, "sectionCount");
	for (const { records } of domains) {
		for (const record of records)
			if (record.name === "LU_P2M") {
				const highest: bigint = record.head.highestGfn;
				must(highest < MOST_GFNS || highest === 2n ** 64n - 1n, 64, record, "highestGfn");
			}
		const list = records.find((r) => r.name === "LU_VCPUS");
		list?.parts.VcpuSlots.forEach(({ vcpuId }: Fields, i: number) => {
			must(vcpuId < VCPUS, 90, list, `VcpuSlots[${i}].vcpuId`);
		});
	}
}

export function checkSections(stream: Stream): void {
	const find = (pass: number, domid?: number) =>
		stream.sections.find((s) => s.pass === pass && (domid === undefined || s.domid === domid));
	const domains = stream.sections.filter((s) => s.pass === 1);
	for (const section of domains) must(find(1, section.domid) === section, 41, section.record);
	for (const section of [...domains].sort((a, b) => a.domid - b.domid))
		for (const pass of [3, 4]) must(find(pass, section.domid) !== undefined, 18, section.record, "", PASS_NAMES[pass]);
	must(find(2) !== undefined, 18, stream.sections[0]?.record, "", "section 1h");
}

const isPerVcpu = (record: StreamRecord): boolean => record.layout?.often === "vcpu?";
const isOfSameVcpu = (a: StreamRecord, b: StreamRecord): boolean => a.head.vcpuId === b.head.vcpuId;

/** Whether `record` stands behind `other` where both are in a section. */
function dependsOn(record: StreamRecord, other: StreamRecord): boolean {
	if (isPerVcpu(record) && isPerVcpu(other) && !isOfSameVcpu(record, other)) return false;
	return record.layout!.after.includes(other.name);
}

const CONTEXTS = ["LU_PV_VCPU", "LU_PV32_VCPU"];

/** What stands before a vCPU's record, of the same vCPU: of each list one. */
function neededBy(name: string): string[][] {
	if (name === "LU_VCPU") return [];
	return CONTEXTS.includes(name) ? [["LU_VCPU"]] : [["LU_VCPU"], CONTEXTS];
}

export function checkRecords(section: Section): void {
	const records = section.records.filter((r) => r.layout);
	for (const [i, record] of records.entries()) {
		const before = records.slice(0, i);
		const ofVcpu = before.filter((r) => isPerVcpu(r) && isOfSameVcpu(r, record));
		if (isPerVcpu(record)) must(record.head.vcpuId < VCPUS, 90, record, "vcpuId");
		const others = isPerVcpu(record) ? ofVcpu : before;
		if (record.layout!.often !== "slices") must(!others.some((r) => r.type === record.type), 16, record);
		must(!before.some((r) => dependsOn(r, record)), 15, record);
		if (isPerVcpu(record))
			for (const names of neededBy(record.name))
				must(
					ofVcpu.some((r) => names.includes(r.name)),
					15,
					record,
					"",
					names.join(" or "),
				);
	}
	for (const { section: name, often, type, name: missing } of RECORDS.values())
		if (name === PASS_NAMES[section.pass] && often === "once")
			must(
				records.some((r) => r.type === type),
				17,
				section.record,
				"",
				missing,
			);
}
