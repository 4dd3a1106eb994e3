/** XSAVE areas and the HVM context: FORMAT.md, the paragraphs of these names; RULES.md, 17. */
import { type Domain, must } from "./host.ts";
import { type Fields, Octets } from "./octets.ts";
import type { StreamRecord } from "./stream.ts";

const DOWN = 4;
const HVM_MAGIC = 0x5438_1286;
const [END, HEADER, CPU, CPU_XSAVE, CPU_MSR] = [0, 1, 2, 16, 20];

/** By type: lengths, or the least and what it grows by; instances, 0 for one of each vCPU. */
const entryTypes: readonly { lengths: number[]; grows?: number; instances: number }[] = [
	{ lengths: [0], instances: 1 },
	{ lengths: [24], instances: 1 },
	{ lengths: [1016, 1024, 1032], instances: 0 },
	{ lengths: [8], instances: 2 },
	{ lengths: [400], instances: 1 },
	{ lengths: [24, 32], instances: 0 },
	{ lengths: [1024], instances: 0 },
	{ lengths: [16], instances: 1 },
	{ lengths: [8], instances: 1 },
	{ lengths: [8], instances: 1 },
	{ lengths: [56], instances: 1 },
	{ lengths: [24], instances: 1 },
	{ lengths: [1048], instances: 1 },
	{ lengths: [8], instances: 1 },
	{ lengths: [240], instances: 0 },
	{ lengths: [32], instances: 1 },
	{ lengths: [600], grows: 1, instances: 0 },
	{ lengths: [216], instances: 0 },
	{ lengths: [32], instances: 0 },
	{ lengths: [8], instances: 0 },
	{ lengths: [8], grows: 16, instances: 0 },
];

/** Bits of XCR0 that are set together, and what they need. */
const groups: readonly { bits: bigint; needs: bigint }[] = [
	{ bits: 1n << 2n, needs: 1n << 1n },
	{ bits: 3n << 3n, needs: 0n },
	{ bits: 7n << 5n, needs: 1n << 2n },
	{ bits: 3n << 17n, needs: 0n },
];

function isXcr0(value: bigint): boolean {
	const holds = ({ bits, needs }: { bits: bigint; needs: bigint }) =>
		(value & bits) === 0n || ((value & bits) === bits && (value & needs) === needs);
	return (value & 1n) === 1n && groups.every(holds);
}

/** An area from XCR0 on, at `from` of the part. */
function checkArea(domain: Domain, record: StreamRecord, part: string, from: number, length: number): void {
	const octets = new Octets(record.parts[part]);
	const place = (offset: number) => `${part}[${from + offset}]`;
	must(length >= 16 + 512 + 64, 93, record, place(0));
	const [xcr0, ever] = [octets.u64(from), octets.u64(from + 8)];
	must((xcr0 & 1n) === 1n && (xcr0 & ~ever) === 0n, 93, record, place(0));
	must((octets.u64(from + 528) & ~ever) === 0n, 93, record, place(528));
	for (let at = 536; at < 592; at += 8) must(octets.u64(from + at) === 0n, 93, record, place(at));
	must(isXcr0(xcr0), 122, record, place(0));
	must(isXcr0(ever), 122, record, place(8));
	const leaves: Fields[] = domain.one("X86_CPUID_POLICY")?.parts.CpuidLeaves ?? [];
	const subleaf = (n: number) => leaves.find((row) => row.leaf === 0xd && row.subleaf === n);
	const main = subleaf(0);
	if (!main) return;
	must((ever & ~((BigInt(main.edx) << 32n) | BigInt(main.eax))) === 0n, 122, record, place(8));
	for (let component = 2; component < 64; component++) {
		if (!((ever >> BigInt(component)) & 1n)) continue;
		const sized = leaves.find((row) => row.leaf === 0xd && row.subleaf === component && row.eax + row.ebx > 0);
		must(sized !== undefined, 122, record, place(8));
		must(16 + sized.ebx + sized.eax <= length, 122, record, place(0));
	}
}

export function checkXsave(domain: Domain, record: StreamRecord): void {
	const { length } = new Octets(record.parts.PvXsave);
	if (length > 0) checkArea(domain, record, "PvXsave", 0, length);
}

/** Checks the context, and returns the vCPUs that have a CPU entry. */
export function checkHvmContext(domain: Domain, record: StreamRecord): number[] {
	const cpus: number[] = [];
	const seen = new Set<string>();
	const octets = new Octets(record.parts.HvmContext);
	const down = domain.all("LU_VCPU").filter((vcpu) => vcpu.head.flags & DOWN);
	const isDown = (id: number) => down.some((vcpu) => vcpu.head.vcpuId === id);
	for (let at = 0; ; ) {
		const field = (offset: number) => `HvmContext[${at + offset}]`;
		must(at + 8 <= octets.length, 94, record, field(0), "no END");
		const [type, instance, length] = [octets.u16(at), octets.u16(at + 2), octets.u32(at + 4)];
		must(at + 8 + length <= octets.length, 94, record, field(0), "not whole");
		must(at > 0 || type === HEADER, 94, record, field(0), "no HEADER");
		const known = entryTypes[type];
		must(known !== undefined, 120, record, field(0), "unknown");
		const { lengths, grows, instances } = known;
		const least = lengths[0]!;
		const fits = grows ? length >= least && (length - least) % grows === 0 : lengths.includes(length);
		must(fits, 120, record, field(4));
		must(type !== CPU_MSR || octets.u32(at + 8) === (length - least) / 16, 120, record, field(8));
		must(type !== HEADER || octets.u32(at + 8) === HVM_MAGIC, 94, record, field(8), "magic");
		if (instances > 0) must(instance < instances, 121, record, field(2));
		else must(domain.vcpus.includes(instance), type === CPU ? 94 : 121, record, field(0), "no such vCPU");
		must(type !== CPU || !isDown(instance), 121, record, field(2));
		must(!seen.has(`${type}/${instance}`), 121, record, field(0), "twice");
		seen.add(`${type}/${instance}`);
		if (type === CPU) cpus.push(instance);
		if (type === CPU_XSAVE) {
			const [mask, ever] = [octets.u64(at + 8), octets.u64(at + 24)];
			must((ever & ~mask) === 0n, 93, record, field(24));
			checkArea(domain, record, "HvmContext", at + 16, length - 8);
		}
		at += 8 + length;
		if (type !== END) continue;
		must(at === octets.length, 94, record, "HvmContext[0]", "octets behind END");
		return cpus;
	}
}
