/** The host and what creates domains: FORMAT.md, "What records demand of each other"; RULES.md, 12. */
import { type Domain, type Host, KIND, must } from "./host.ts";
import type { Fields } from "./octets.ts";
import type { StreamRecord } from "./stream.ts";

export const VIRQS = 24;
export const PER_VCPU_VIRQS = [0, 1, 7, 13];
const HAP = 16;

/** One field holds a value of its enumeration, and no flag that is unknown. The layout says which there are. */
export function mustKnow(rule: number, record: StreamRecord, field: string, part?: string, row = 0): void {
	const layout = record.layout!.parts.find((p) => p.name === part);
	const structure = layout && "row" in layout ? layout.row : record.layout!.head;
	const values: Fields = part ? record.parts[part][row] : record.head;
	const { values: known, flags } = structure.fields.find((f) => f.name === field)!;
	const isKnown = known ? known.includes(values[field]) : (BigInt(values[field]) & ~BigInt(flags!)) === 0n;
	must(isKnown, rule, record, part ? `${part}[${row}].${field}` : field);
}

export function checkHost(host: Host): void {
	const record = host.record;
	must(record.head.domainCount === host.domains.size, 40, record, "domainCount");
	mustKnow(44, record, "features");
	let last = -1;
	for (const [i, { virq, domid }] of record.parts.VirqHandlers.entries()) {
		must(virq > last && virq < VIRQS && !PER_VCPU_VIRQS.includes(virq), 83, record, `VirqHandlers[${i}].virq`);
		must(host.domains.has(domid), 43, record, `VirqHandlers[${i}].domid`);
		last = virq;
	}
	const pools = host.one("LU_CPUPOOLS")!;
	must(pools.head.poolCount <= record.head.cpuCount, 40, pools, "poolCount");
}

export function checkDomain(host: Host, domain: Domain): void {
	const record = domain.record;
	const { domid, kind, createFlags, guestWidth, maxVcpus, grantVersionLimit, cpupoolId } = record.head;
	must(domid === domain.domid, 41, record, "domid");
	for (const field of ["kind", "life", "createFlags"]) mustKnow(42, record, field);
	const isHardware = (other: Domain) => (other.record.head.createFlags & 2) !== 0;
	const hasOther = host.inOrder.some((other) => other.domid < domain.domid && isHardware(other));
	must((createFlags & 2) === 0 || !hasOther, 42, record, "createFlags", "a second hardware domain");
	must(guestWidth === 4 || guestWidth === 8, 42, record, "guestWidth");
	must(kind !== KIND.pv || guestWidth === 8 || host.stream.version > 1, 44, record, "guestWidth");
	must(domain.isPv || !domain.isAlive || (createFlags & HAP) !== 0, 44, record, "createFlags", "shadow paging");
	must(maxVcpus <= 8192, 42, record, "maxVcpus");
	must(grantVersionLimit <= 2, 42, record, "grantVersionLimit");
	const pools: Fields[] = host.one("LU_CPUPOOLS")!.parts.PoolList;
	must(
		pools.some((pool) => pool.poolId === cpupoolId),
		43,
		record,
		"cpupoolId",
	);
	checkPv32(domain);
	checkVnuma(domain);
}

const LAST_GIB = 0xc000_0000;
const MIB_2 = 0x20_0000;

function checkPv32(domain: Domain): void {
	const record = domain.one("LU_PV32");
	must(record !== undefined || !domain.isNarrow || !domain.isAlive, 48, domain.record, "", "LU_PV32");
	if (!record) return;
	must(domain.isNarrow, 48, record);
	const { xenStart } = record.head;
	must(xenStart >= LAST_GIB && xenStart % MIB_2 === 0, 48, record, "xenStart");
}

function checkVnuma(domain: Domain): void {
	const record = domain.one("LU_VNUMA");
	if (!record) return;
	const { nodeCount, distanceCount, vcpuCount } = record.head;
	must(nodeCount >= 1, 103, record, "nodeCount");
	must(BigInt(distanceCount) === BigInt(nodeCount) ** 2n, 103, record, "distanceCount");
	must(vcpuCount === domain.record.head.maxVcpus, 103, record, "vcpuCount");
	for (const [i, { node }] of record.parts.VnumaVcpus.entries())
		must(node < nodeCount, 103, record, `VnumaVcpus[${i}].node`);
	let last = 0n;
	for (const [i, { start, end, node }] of record.parts.VnumaRanges.entries()) {
		must(start >= last, 103, record, `VnumaRanges[${i}].start`);
		must(end > start, 103, record, `VnumaRanges[${i}].end`);
		must(node < nodeCount, 103, record, `VnumaRanges[${i}].node`);
		last = end;
	}
}

export function checkVcpuList(domain: Domain): void {
	const record = domain.one("LU_VCPUS")!;
	let last = -1;
	for (const [i, id] of domain.vcpus.entries()) {
		must(id > last && id < domain.record.head.maxVcpus, 90, record, `VcpuSlots[${i}].vcpuId`);
		last = id;
	}
}
