/** Stage 12, the preserved memory and the page tables in it: FORMAT.md, "Preserved memory", XLU-R034 and XLU-R057. */
import { freeRanges, heapFrames } from "./checkFrames.ts";
import { type Domain, type Host, must, OWNED, Refused, SEG_DESC, WRITABLE } from "./host.ts";
import { type Fields, hash, Octets } from "./octets.ts";
import { DOMID_IO, finding, type StreamRecord } from "./stream.ts";

const FRAME = 4096;
const HEADER = 32;

export type Memory = Map<bigint, Octets>;

/** @throws Refused, XLU-R034 */
export function readMemory(bytes: Uint8Array, stream: Uint8Array, host: Host): Memory {
	const octets = new Octets(bytes);
	const must = (holds: boolean, field: string) => {
		if (!holds) throw new Refused(finding(34, 0, field));
	};
	must(bytes.length >= HEADER, "length");
	must(new TextDecoder("latin1").decode(bytes.subarray(0, 8)) === "XLUMEM01", "magic");
	const pageCount = octets.u32(24);
	const pagesOffset = Math.ceil((HEADER + 8 * pageCount) / FRAME) * FRAME;
	must(octets.u32(28) === pagesOffset, "pagesOffset");
	must(bytes.length === pagesOffset + FRAME * pageCount, "length");
	must(octets.u64(8) === hash(stream.subarray(0, host.stream.length)), "streamHash");
	must(octets.u64(16) === hash(bytes.subarray(HEADER)), "hash");
	const memory: Memory = new Map();
	let last = -1n;
	for (let i = 0; i < pageCount; i++) {
		const mfn = octets.u64(HEADER + 8 * i);
		must(mfn > last && mfn < host.frameCount, `mfn[${i}]`);
		memory.set(mfn, new Octets(bytes.subarray(pagesOffset + i * FRAME, pagesOffset + (i + 1) * FRAME)));
		last = mfn;
	}
	must(octets.firstNonZero(HEADER + 8 * pageCount, pagesOffset) < 0, "padding");
	return memory;
}

const isTable = (type: bigint): boolean => type >= 1n && type <= 4n;

export function checkPresent(host: Host, memory: Memory): void {
	const need = (mfn: bigint, record: StreamRecord, field: string) => must(memory.has(mfn), 34, record, field);
	for (const domain of host.domains.values()) {
		for (const { mfn, record, field } of heapFrames(domain)) need(mfn, record, field);
		const channels = domain.one("LU_EVTCHN");
		channels?.parts.ControlBlocks.forEach((b: Fields, i: number) => {
			need(b.mfn, channels, `ControlBlocks[${i}].mfn`);
		});
		channels?.parts.EventArrays.forEach((b: Fields, i: number) => {
			need(b.mfn, channels, `EventArrays[${i}].mfn`);
		});
	}
	for (const { first, count, entry, record } of host.types.runs)
		if (isTable(entry & 7n)) for (let i = 0n; i < count; i++) need(first + i, record, `FrameTypes[${first + i}]`);
}

const FRAME_OF = (entry: bigint): bigint => (entry >> 12n) & ((1n << 40n) - 1n);
const isXensOwn = (level: bigint, slot: number): boolean => level === 4n && slot >= 256 && slot <= 271;

/** What a domain's registers name. */
export function checkRegisters(host: Host, domain: Domain): void {
	if (!hasL1(host, domain)) return;
	for (const record of domain.all("LU_PV_VCPU")) {
		for (const i of [3, 1]) {
			const mfn = record.head.cr[i] >> 12n;
			if (record.head.cr[i] === 0n) continue;
			const isL4 = host.isOwnedBy(mfn, domain.domid) && (host.types.at(mfn) & 7n) === 4n;
			must(isL4, 57, record, `cr[${i}]`);
		}
		for (let i = 0; i < Math.ceil(record.head.gdtEntries / 512); i++)
			must((host.types.at(record.head.gdtMfn[i]) & 7n) === SEG_DESC, 57, record, `gdtMfn[${i}]`);
	}
}

function tablesOf(host: Host, domain: Domain): { mfn: bigint; level: bigint; record: StreamRecord }[] {
	const tables = [];
	for (const { first, count, entry, record } of host.types.runs)
		if (isTable(entry & 7n))
			for (let mfn = first; mfn < first + count; mfn++)
				if (host.isOwnedBy(mfn, domain.domid)) tables.push({ mfn, level: entry & 7n, record });
	return tables;
}

const hasL1 = (host: Host, domain: Domain): boolean => tablesOf(host, domain).some((t) => t.level === 1n);

export function checkPageTables(host: Host, domain: Domain, memory: Memory): void {
	if (!domain.isPv || !hasL1(host, domain)) return;
	const free = freeRanges(host);
	for (const { mfn, level, record } of tablesOf(host, domain)) {
		const table = memory.get(mfn)!;
		for (let slot = 0; slot < 512; slot++) {
			const entry = table.u64(slot * 8);
			if (!(entry & 1n) || isXensOwn(level, slot)) continue;
			const to = FRAME_OF(entry);
			const field = `FrameTypes[${mfn}], slot ${slot}`;
			const isWritable = (entry & 2n) !== 0n;
			const type = host.types.at(to) & 7n;
			if (level > 1n) {
				const isBelow = host.isOwnedBy(to, domain.domid) && type === level - 1n;
				must(isBelow || (to === mfn && !isWritable), 57, record, field);
				continue;
			}
			must(!free.some((r) => to >= r.first && to < r.first + r.count), 57, record, field);
			const owner = host.owners.at(to);
			if (to >= host.frameCount || !(owner & OWNED) || Number(owner & 0xffffn) === DOMID_IO || !isWritable) continue;
			must(type !== SEG_DESC && !isTable(type), 57, record, field);
			const other = host.domains.get(Number(owner & 0xffffn));
			const takesType = other === undefined || other === domain || other.isPv;
			must(!takesType || type === WRITABLE, 57, record, field);
		}
	}
}
