/** Stage 10, vCPUs: FORMAT.md, "vCPUs", "PV registers", "HVM_CONTEXT" and "X86_PV_VCPU_XSAVE". */
import { hasVcpu, vcpusOf } from "./checkEvents.ts";
import { checkValues } from "./checkHost.ts";
import { type Domain, type Host, must } from "./host.ts";
import { ALL_ONES, Octets } from "./octets.ts";
import type { StreamRecord } from "./stream.ts";

const FLAG = { exists: 1, initialised: 2, down: 4 };
const SHUT_DOWN = 2;

export function checkVcpus(host: Host, domain: Domain): void {
	const list = domain.one("LU_VCPUS")!;
	const ids = vcpusOf(domain);
	const records = domain.all("LU_VCPU");
	for (const [i, id] of ids.entries()) {
		must(i === 0 || id > ids[i - 1]!, 90, list, `VcpuSlots[${i}].vcpuId`);
		must(id < domain.record.head.maxVcpus, 90, list, `VcpuSlots[${i}].vcpuId`);
		must(
			records.some((r) => r.head.vcpuId === id),
			...([90, domain.rest.record, "", `vCPU ${id}`] as const),
		);
	}
	const words = Math.ceil(host.record.head.cpuCount / 64);
	for (const record of records) {
		const { vcpuId, flags, vcpuInfoMfn, vcpuInfoOffset, runstate, affinityWordCount } = record.head;
		must(hasVcpu(domain, vcpuId), 90, record, "vcpuId");
		checkValues(record, 91);
		must((flags & FLAG.exists) !== 0, 91, record, "flags");
		must(runstate <= 3, 91, record, "runstate");
		must(affinityWordCount === words, 91, record, "affinityWordCount");
		if (vcpuInfoMfn !== ALL_ONES) must(vcpuInfoOffset + 64 <= 4096, 91, record, "vcpuInfoOffset");
	}
}

export function checkContexts(domain: Domain): void {
	const initialised = domain.all("LU_VCPU").filter((r) => r.head.flags & FLAG.initialised);
	const contexts = domain.all("LU_PV_VCPU");
	if (domain.isPv) {
		const has = (list: StreamRecord[], id: number) => list.some((r) => r.head.vcpuId === id);
		for (const record of initialised) must(has(contexts, record.head.vcpuId), 92, record);
		for (const record of contexts) must(has(initialised, record.head.vcpuId), 92, record);
	} else if (domain.isAlive && initialised.length > 0)
		must(domain.one("HVM_CONTEXT") !== undefined, 92, domain.rest.record);
	for (const record of contexts) must(record.head.gdtEntries <= 8192, 91, record, "gdtEntries");
}

export function checkRuns(domain: Domain): void {
	const state = domain.one("LU_DOMAIN_STATE")!.head;
	const records = domain.all("LU_VCPU");
	if (!domain.isAlive || state.shutdownState === SHUT_DOWN || state.creationFinished === 0) return;
	must(
		records.some((r) => !(r.head.flags & FLAG.down)),
		...([91, domain.rest.record, "flags", "every vCPU is down"] as const),
	);
}

export function checkXsave(domain: Domain): void {
	for (const record of domain.all("X86_PV_VCPU_XSAVE")) {
		const octets = new Octets(record.parts.PvXsave);
		must(octets.length >= 16 + 512 + 64, 93, record, "PvXsave");
		const [xcr0, ever, header] = [octets.u64(0), octets.u64(8), octets.u64(16 + 512)];
		must((xcr0 & 1n) === 1n && (xcr0 & ~ever) === 0n, 93, record, "PvXsave");
		must((header & ~ever) === 0n, 93, record, "PvXsave");
	}
}

export function checkHvmContext(domain: Domain): void {
	const record = domain.one("HVM_CONTEXT");
	if (!record) return;
	const octets = new Octets(record.parts.HvmContext);
	const [END, HEADER, CPU] = [0, 1, 2];
	let type = -1;
	for (let at = 0; type !== END; ) {
		must(at + 8 <= octets.length, 94, record, "HvmContext");
		const length = octets.u32(at + 4);
		type = octets.u16(at);
		must(at > 0 || type === HEADER, 94, record, "HvmContext");
		must(at + 8 + length <= octets.length, 94, record, "HvmContext");
		if (type === CPU) must(hasVcpu(domain, octets.u16(at + 2)), 94, record, "HvmContext");
		at += 8 + length;
		if (type === END) must(at === octets.length, 94, record, "HvmContext");
	}
}
