/** Page ownership, page types, regions and frames that stay: FORMAT.md, the paragraphs of these names; RULES.md, 13. */
import { mustKnow } from "./checkHost.ts";
import {
	ALLOCATED,
	type Domain,
	type Host,
	isTable,
	must,
	ownerOf,
	PAE_XEN_L2,
	type Table,
	typeOf,
	WRITABLE,
	XENHEAP,
} from "./host.ts";
import type { Fields } from "./octets.ts";
import { DOMID_IO, DOMID_XEN, type StreamRecord } from "./stream.ts";

const KNOWN_BITS = 0x3f_ffffn;
const BROKEN_OFFLINED = 0x30_0000n;
const PINNED = 8n;
const L2 = 2;
const L4 = 4;
const UNKNOWN_FLAGS = 0xc0n;
const UNKNOWN_TYPE = 6;

/** Slices ascend, do not overlap, and stay within their table of `length` entries. */
export function mustFollow(record: StreamRecord, before: StreamRecord | undefined, length: bigint): void {
	const firstOf = (r: StreamRecord): bigint => r.head.firstGfn ?? r.head.firstMfn;
	const endOf = (r: StreamRecord): bigint => firstOf(r) + BigInt(r.head.entryCount);
	const field = record.head.firstGfn === undefined ? "firstMfn" : "firstGfn";
	must(firstOf(record) >= (before ? endOf(before) : 0n) && endOf(record) <= length, 21, record, field);
}

function addSlice(
	host: Host,
	table: Table,
	record: StreamRecord,
	before: StreamRecord | undefined,
	part: string,
): void {
	mustFollow(record, before, host.frameCount);
	for (const run of record.parts[part]) table.runs.push({ ...run, record });
}

export function checkOwners(host: Host): void {
	const records = host.frameSection.records.filter((r) => r.name === "LU_FRAMES");
	for (const [i, record] of records.entries()) {
		addSlice(host, host.owners, record, records[i - 1], "FrameOwners");
		for (const { entry } of record.parts.FrameOwners) {
			must((entry & ~KNOWN_BITS) === 0n, 50, record, "firstMfn", "an unknown bit");
			const owner = ownerOf(entry);
			if (owner < 0) must((entry & ~BROKEN_OFFLINED) === 0n, 50, record, "firstMfn", "flags of a free frame");
			if (owner < 0 || owner === DOMID_XEN || owner === DOMID_IO) continue;
			must(host.domains.has(owner), 51, record, "firstMfn");
			must(!(entry & XENHEAP) || (entry & ALLOCATED) !== 0n, 50, record, "firstMfn", "xenheap, not allocated");
		}
	}
}

export function checkTypes(host: Host): void {
	const records = host.frameSection.records.filter((r) => r.name === "LU_PAGE_TYPES");
	for (const [i, record] of records.entries()) {
		addSlice(host, host.types, record, records[i - 1], "FrameTypes");
		for (const { first, count, entry } of record.parts.FrameTypes) {
			if (entry === 0n) continue;
			const type = typeOf(entry);
			must((entry & UNKNOWN_FLAGS) === 0n && type !== 0 && type !== UNKNOWN_TYPE, 56, record, "firstMfn");
			must(!(entry & PINNED) || isTable(type), 56, record, "firstMfn", "pinned");
			const hasXensPart = (entry & PAE_XEN_L2) !== 0n;
			must(!hasXensPart || host.stream.version > 1, 44, record, "firstMfn");
			must(!hasXensPart || (type === L2 && !(entry & PINNED)), 56, record, "firstMfn", "paeXenL2");
			for (const stretch of host.owners.between(first, count)) {
				const owner = ownerOf(stretch.entry);
				must(owner >= 0, 56, record, "firstMfn", "of a free frame");
				const domain = host.domains.get(owner);
				must(type === WRITABLE || domain?.isPv === true, 56, record, "firstMfn", "of no PV domain");
				if (type === L4) must(!domain!.isNarrow, 56, record, "firstMfn", "an L4 table of a 32-bit guest");
				if (hasXensPart) must(domain!.isNarrow, 56, record, "firstMfn", "paeXenL2 of a 64-bit guest");
			}
		}
	}
	host.countTables();
}

function mustLieInHost(host: Host, rule: number, record: StreamRecord, part: string, i: number): void {
	const { firstMfn, frameCount } = record.parts[part][i];
	must(firstMfn < host.frameCount, rule, record, `${part}[${i}].firstMfn`);
	must(frameCount <= host.frameCount - firstMfn, rule, record, `${part}[${i}].frameCount`);
}

/** Frames that nobody owns, in no range before. The first frame that is wrong decides which rule is broken. */
function reserve(host: Host, rule: number, record: StreamRecord, part: string, i: number): void {
	mustLieInHost(host, rule, record, part, i);
	const { firstMfn: first, frameCount } = record.parts[part][i];
	const twice = host.firstReserved(first, first + frameCount);
	const stretches = host.owners.between(first, frameCount);
	const owned = [...stretches].find((s) => s.entry !== 0n)?.first;
	const field = `${part}[${i}].firstMfn`;
	must(twice === undefined || (owned !== undefined && owned < twice), rule, record, field, "reserved twice");
	must(owned === undefined, 52, record, field, "owned");
	host.reserved.push({ first, end: first + frameCount });
}

export function checkRegions(host: Host): void {
	const record = host.one("LU_REGIONS")!;
	const rows: Fields[] = record.parts.RegionList;
	for (const [i, { frameCount }] of rows.entries()) {
		mustKnow(46, record, "kind", "RegionList", i);
		must(frameCount > 0n, 46, record, `RegionList[${i}].frameCount`);
		reserve(host, 46, record, "RegionList", i);
	}
	must(rows.filter((row) => row.kind === 1).length === 1, 46, record, "regionCount", "not one bootmem");
	const devices = host.one("LU_DEVICES");
	for (let i = 0; i < (devices?.head.rangeCount ?? 0); i++) reserve(host, 52, devices!, "IommuRanges", i);
}

export function checkM2p(host: Host): void {
	const record = host.one("LU_M2P")!;
	const ranges: Fields[] = record.parts.M2pRanges;
	for (const [i, { firstMfn: first, frameCount }] of ranges.entries()) {
		mustLieInHost(host, 52, record, "M2pRanges", i);
		for (const { entry } of host.owners.between(first, frameCount))
			must(ownerOf(entry) === DOMID_XEN, 52, record, `M2pRanges[${i}].firstMfn`);
		const meets = (other: Fields) =>
			frameCount > 0n &&
			other.frameCount > 0n &&
			first < other.firstMfn + other.frameCount &&
			other.firstMfn < first + frameCount;
		must(!ranges.slice(0, i).some(meets), 52, record, `M2pRanges[${i}].firstMfn`, "twice");
	}
}

export function checkKept(host: Host, domain: Domain): void {
	const record = domain.one("LU_KEPT_FRAMES");
	if (!record) return;
	for (const [i, { rootMfn, levels }] of record.parts.KeptRoots.entries()) {
		for (const field of ["purpose", "format"]) mustKnow(52, record, field, "KeptRoots", i);
		must(levels >= 3 && levels <= 5, 52, record, `KeptRoots[${i}].levels`);
		must(rootMfn < host.frameCount, 52, record, `KeptRoots[${i}].rootMfn`);
	}
	for (let i = 0; i < record.head.rangeCount; i++) reserve(host, 52, record, "KeptRanges", i);
}
