/** Stage 4, structure: FORMAT.md, "Sections" and "Order within a section". Which records stand where. */
import { must } from "./host.ts";
import { RECORDS } from "./layout.ts";
import { PASS_NAMES, type Section, type Stream, type StreamRecord } from "./stream.ts";

const isPerVcpu = (record: StreamRecord): boolean => record.layout?.often === "vcpu?";

/** Whether `record` may not stand before `other`. */
function dependsOn(record: StreamRecord, other: StreamRecord): boolean {
	if (isPerVcpu(record) && isPerVcpu(other)) {
		if (record.head.vcpuId !== other.head.vcpuId) return false;
		if (other.name === "LU_VCPU" && record.name !== "LU_VCPU") return true;
	}
	return record.layout!.after.includes(other.name);
}

export function checkSection(section: Section): void {
	const records = section.records.filter((r) => r.layout);
	for (const record of records) must(record.layout!.section === PASS_NAMES[section.pass], 14, record);
	for (const [i, record] of records.entries()) {
		if (record.layout!.often !== "slices") {
			const same = (r: StreamRecord) =>
				r.type === record.type && (!isPerVcpu(record) || r.head.vcpuId === record.head.vcpuId);
			must(!records.slice(0, i).some(same), 16, record);
		}
		must(!records.slice(i + 1).some((later) => dependsOn(record, later)), 15, record);
		if (isPerVcpu(record) && record.name !== "LU_VCPU") {
			const own = (r: StreamRecord) => r.name === "LU_VCPU" && r.head.vcpuId === record.head.vcpuId;
			must(records.slice(0, i).some(own), 15, record, "", "without its LU_VCPU");
		}
	}
	for (const layout of RECORDS.values())
		if (layout.section === PASS_NAMES[section.pass] && layout.often === "once")
			must(
				records.some((r) => r.type === layout.type),
				...([17, section.record, "", layout.name] as const),
			);
}

export function checkSections(stream: Stream): void {
	const of = (pass: number) => stream.sections.filter((s) => s.pass === pass);
	for (const pass of [0, 2]) must(of(pass).length === 1, 18, stream.index, "", PASS_NAMES[pass]);
	const domids = new Set(stream.sections.filter((s) => s.pass % 2 === 1 || s.pass === 4).map((s) => s.domid));
	for (const domid of domids)
		for (const pass of [1, 3, 4])
			must(
				of(pass).some((s) => s.domid === domid),
				...([18, stream.index, "", `${domid}: ${PASS_NAMES[pass]}`] as const),
			);
}
