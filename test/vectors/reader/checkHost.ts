/** Stage 5, the host and what creates domains: FORMAT.md, "What records demand of each other": Host to Dead domains. */
import { type Domain, type Host, KIND, must } from "./host.ts";
import type { Fields } from "./octets.ts";
import { DOMID_FIRST_RESERVED, DOMID_INVALID, type StreamRecord } from "./stream.ts";

export const VIRQS = 24;

/** Values of enumerations and bits of flags, as the layout has them. */
export function checkValues(record: StreamRecord, rule: number, part?: string): void {
	const layout = part ? record.layout!.parts.find((p) => p.name === part) : undefined;
	const structure = layout && "row" in layout ? layout.row : record.layout!.head;
	const rows: Fields[] = part ? record.parts[part] : [record.head];
	for (const [i, row] of rows.entries())
		for (const field of structure.fields) {
			const name = part ? `${part}[${i}].${field.name}` : field.name;
			const value = Number(row[field.name]);
			if (field.values) must(field.values.includes(value), rule, record, name);
			if (field.flags !== undefined) must((BigInt(row[field.name]) & ~BigInt(field.flags)) === 0n, rule, record, name);
		}
}

export function checkHost(host: Host): void {
	const record = host.record;
	const { frameCount, cpuCount, domainCount } = record.head;
	must(frameCount <= 2n ** 28n, 40, record, "frameCount");
	must(cpuCount >= 1 && cpuCount <= 8192, 40, record, "cpuCount");
	must(domainCount === host.domains.size, 40, record, "domainCount");
	checkValues(record, 44);
	let last = -1;
	for (const [i, handler] of record.parts.VirqHandlers.entries()) {
		must(handler.virq < VIRQS, 83, record, `VirqHandlers[${i}].virq`);
		must(handler.virq > last, 83, record, `VirqHandlers[${i}].virq`);
		must(host.domains.has(handler.domid), 43, record, `VirqHandlers[${i}].domid`);
		last = handler.virq;
	}
	const pools = host.one("LU_CPUPOOLS")!;
	must(pools.head.poolCount <= cpuCount, 40, pools, "poolCount");
}

export function checkDomains(host: Host): void {
	let hardware = 0;
	for (const domain of host.domains.values()) {
		const record = domain.record;
		const { domid, kind, createFlags, guestWidth, maxVcpus, cpupoolId } = record.head;
		must(domid < DOMID_FIRST_RESERVED && domid === domain.domid, 41, record, "domid");
		checkValues(record, 42);
		if (createFlags & 2) must(++hardware === 1, 42, record, "createFlags", "a second hardware domain");
		must(guestWidth === 4 || guestWidth === 8, 42, record, "guestWidth");
		must(kind !== KIND.pv || guestWidth === 8, 44, record, "guestWidth");
		must(maxVcpus <= 8192, 40, record, "maxVcpus");
		const isPool = (p: Fields) => p.poolId === cpupoolId;
		must(host.one("LU_CPUPOOLS")!.parts.PoolList.some(isPool), 43, record, "cpupoolId");
	}
}

const DEAD_HAVE_NO = ["LU_SHARED_INFO", "LU_EVTCHN_PORTS", "LU_GRANT_MAPS"];
const PV_ONLY = ["LU_PV_VCPU", "X86_PV_VCPU_EXTENDED", "X86_PV_VCPU_XSAVE", "X86_PV_VCPU_MSRS"];
const HVM_ONLY = ["LU_P2M", "LU_FOREIGN_MAPS", "HVM_PARAMS", "HVM_CONTEXT", "LU_IOREQ_SERVERS"];

export function checkKind(domain: Domain): void {
	for (const name of domain.isPv ? HVM_ONLY : PV_ONLY) for (const record of domain.all(name)) must(false, 95, record);
}

export function checkLife(domain: Domain): void {
	if (domain.isAlive) {
		must(domain.one("LU_SHARED_INFO") !== undefined, 102, domain.rest.record);
		return;
	}
	for (const name of DEAD_HAVE_NO) for (const record of domain.all(name)) must(false, 45, record);
	const table = domain.one("LU_GRANT_TABLE");
	if (table) must(table.head.grantFrameCount === 0 && table.head.statusFrameCount === 0, 45, table);
}

export function checkTarget(host: Host, domain: Domain): void {
	const record = domain.one("LU_DOMAIN_STATE")!;
	const { target, creationFinished, pirqEoiMode, callbackAsserted, suspendedS3 } = record.head;
	checkValues(record, 96);
	must(creationFinished <= 1, 96, record, "creationFinished");
	must(pirqEoiMode <= 2, 96, record, "pirqEoiMode");
	must(callbackAsserted <= 1, 96, record, "callbackAsserted");
	must(suspendedS3 <= 1, 96, record, "suspendedS3");
	must(target === DOMID_INVALID || host.domains.has(target), 43, record, "target");
}
