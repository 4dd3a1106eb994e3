/** Stage 6, frames: page ownership, page types, regions, and what else names frames of the host. */

import { ALLOCATED, type Domain, EXTRA, type Host, KIND, must, OWNED, SEG_DESC, type Table, XENHEAP } from "./host.ts";
import type { Fields } from "./octets.ts";
import { ALL_ONES } from "./octets.ts";
import { DOMID_IO, DOMID_XEN, type StreamRecord } from "./stream.ts";

const KNOWN_FRAME_BITS = 0x3f_ffffn;
const BROKEN_OFFLINED = 0x30_0000n;
const PINNED = 8n;
const PAE_XEN_L2 = 32n;
const KNOWN_TYPES = [0n, 1n, 2n, 3n, 4n, SEG_DESC, 7n];

/** Slices ascend, do not overlap, and stay within their table. */
export function addSlices(table: Table, records: StreamRecord[], part: string, length: bigint): void {
	let end = 0n;
	for (const record of records) {
		const first: bigint = record.head.firstGfn ?? record.head.firstMfn;
		const field = record.head.firstGfn === undefined ? "firstMfn" : "firstGfn";
		must(first >= end, 21, record, field);
		end = first + BigInt(record.head.entryCount);
		must(end <= length, 21, record, field);
		for (const run of record.parts[part]) table.runs.push({ ...run, record });
	}
}

export function checkOwners(host: Host): void {
	const records = host.frameSection.records.filter((r) => r.name === "LU_FRAMES");
	addSlices(host.owners, records, "FrameOwners", host.frameCount);
	const heap = new Map<number, bigint>();
	const pages = new Map<number, bigint>();
	for (const { entry, count, first, record } of host.owners.runs) {
		const field = `FrameOwners[${first}]`;
		must((entry & ~KNOWN_FRAME_BITS) === 0n, 50, record, field);
		if (!(entry & OWNED)) {
			must((entry & ~BROKEN_OFFLINED) === 0n, 50, record, field);
			continue;
		}
		const owner = Number(entry & 0xffffn);
		must(host.domains.has(owner) || owner === DOMID_XEN || owner === DOMID_IO, 51, record, field);
		if (!host.domains.has(owner)) continue;
		if (entry & XENHEAP) must((entry & ALLOCATED) !== 0n, 50, record, field, "a xenheap frame is allocated");
		if (entry & XENHEAP) heap.set(owner, (heap.get(owner) ?? 0n) + count);
		else if (!(entry & EXTRA)) pages.set(owner, (pages.get(owner) ?? 0n) + count);
	}
	for (const domain of host.domains.values())
		must((pages.get(domain.domid) ?? 0n) <= domain.record.head.maxPages, 54, domain.record, "maxPages");
	for (const domain of host.domains.values()) {
		const expected = BigInt(heapFrames(domain).length);
		if (!domain.isAlive) must((heap.get(domain.domid) ?? 0n) === 0n, 45, domain.record);
		must((heap.get(domain.domid) ?? 0n) === expected, 53, domain.record);
	}
}

export function checkTypes(host: Host): void {
	const records = host.frameSection.records.filter((r) => r.name === "LU_PAGE_TYPES");
	addSlices(host.types, records, "FrameTypes", host.frameCount);
	for (const run of host.types.runs) {
		if (run.entry === 0n) continue;
		const field = `FrameTypes[${run.first}]`;
		const type = run.entry & 7n;
		must(KNOWN_TYPES.includes(type) && run.entry < 64n, 56, run.record, field);
		must((run.entry & PAE_XEN_L2) === 0n, 44, run.record, field);
		must(type !== 0n, 56, run.record, field);
		must(!(run.entry & PINNED) || type <= 4n, 56, run.record, field);
		for (const owner of host.owners.between(run.first, run.count)) {
			must((owner.entry & OWNED) !== 0n, 56, run.record, field, "a free frame");
			const isTable = type <= SEG_DESC;
			const domain = host.domains.get(Number(owner.entry & 0xffffn));
			must(!isTable || domain?.record.head.kind === KIND.pv, 56, run.record, field);
		}
	}
}

interface Range {
	first: bigint;
	count: bigint;
	rule: number;
	record: StreamRecord;
	field: string;
}

/** Regions, kept page tables, and frames kept for IOMMUs: in the host, free, none in two of them. */
export function freeRanges(host: Host): Range[] {
	const ranges: Range[] = [];
	const add = (record: StreamRecord | undefined, part: string, rule: number) =>
		record?.parts[part].forEach((row: Fields, i: number) => {
			const [first, count] = [row.firstMfn, row.frameCount];
			ranges.push({ first, count, rule, record, field: `${part}[${i}].firstMfn` });
		});
	add(host.one("LU_REGIONS"), "RegionList", 46);
	add(host.one("LU_DEVICES"), "IommuRanges", 52);
	for (const domain of host.domains.values()) add(domain.one("LU_KEPT_FRAMES"), "KeptRanges", 52);
	return ranges;
}

export function checkRegions(host: Host): void {
	const regions = host.one("LU_REGIONS")!;
	const kinds = regions.parts.RegionList.map((r: Fields) => r.kind);
	for (const [i, kind] of kinds.entries()) must([1, 2, 3].includes(kind), 46, regions, `RegionList[${i}].kind`);
	must(kinds.filter((k: number) => k === 1).length === 1, 46, regions);
	const ranges = freeRanges(host);
	for (const { first, count, record, field } of ranges)
		must(first + count <= host.frameCount && first + count >= first, 46, record, field);
	for (const { first, count, record, field } of ranges)
		for (const { entry } of host.owners.between(first, count)) must(entry === 0n, 52, record, field);
	for (const [i, a] of ranges.entries())
		for (const b of ranges.slice(0, i))
			must(a.first + a.count <= b.first || b.first + b.count <= a.first, 46, a.record, a.field, "overlaps");
}

export function checkM2p(host: Host): void {
	const m2p = host.one("LU_M2P")!;
	const ranges: Fields[] = m2p.parts.M2pRanges;
	for (const [i, a] of ranges.entries()) {
		const field = `M2pRanges[${i}].firstMfn`;
		must(a.firstMfn + a.frameCount <= host.frameCount, 55, m2p, field);
		for (const { entry } of host.owners.between(a.firstMfn, a.frameCount))
			must((entry & OWNED) !== 0n && Number(entry & 0xffffn) === DOMID_XEN, 55, m2p, field);
		for (const b of ranges.slice(0, i))
			must(a.firstMfn + a.frameCount <= b.firstMfn || b.firstMfn + b.frameCount <= a.firstMfn, 55, m2p, field);
	}
}

/** The xenheap frames that a domain's records take: shared_info, grant and status frames. */
export function heapFrames(domain: Domain): { mfn: bigint; record: StreamRecord; field: string }[] {
	const frames: { mfn: bigint; record: StreamRecord; field: string }[] = [];
	const info = domain.one("LU_SHARED_INFO");
	if (info) frames.push({ mfn: info.head.mfn, record: info, field: "mfn" });
	const table = domain.one("LU_GRANT_TABLE");
	for (const part of ["GrantFrames", "StatusFrames"])
		table?.parts[part].forEach((row: Fields, i: number) => {
			frames.push({ mfn: row.mfn, record: table, field: `${part}[${i}].mfn` });
		});
	return frames;
}

export function checkHeapFrames(host: Host, domain: Domain): void {
	const seen = new Set<bigint>();
	for (const { mfn, record, field } of heapFrames(domain)) {
		const rule = record.name === "LU_SHARED_INFO" ? 102 : 55;
		must(host.isOwnedBy(mfn, domain.domid) && (host.owners.at(mfn) & XENHEAP) !== 0n, rule, record, field);
		must(!seen.has(mfn), 53, record, field, "taken twice");
		seen.add(mfn);
	}
}

/** Other frames that a domain's records name. */
export function checkNamedFrames(host: Host, domain: Domain): void {
	const own = (mfn: bigint, record: StreamRecord, field: string) =>
		must(host.isOwnedBy(mfn, domain.domid), 55, record, field);
	const state = domain.one("LU_DOMAIN_STATE")!;
	if (state.head.pirqEoiMfn !== ALL_ONES) own(state.head.pirqEoiMfn, state, "pirqEoiMfn");
	for (const record of domain.all("LU_VCPU"))
		if (record.head.vcpuInfoMfn !== ALL_ONES) own(record.head.vcpuInfoMfn, record, "vcpuInfoMfn");
	for (const record of domain.all("LU_PV_VCPU"))
		for (let i = 0; i < Math.ceil(record.head.gdtEntries / 512); i++)
			own(record.head.gdtMfn[i], record, `gdtMfn[${i}]`);
}
