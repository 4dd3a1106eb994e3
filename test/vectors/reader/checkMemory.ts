/** The preserved memory and the page tables in it: FORMAT.md, "Preserved memory", "References"; RULES.md, 17. */
import { type Domain, type Host, isTable, must, ownerOf, PAE_XEN_L2, typeOf, WRITABLE } from "./host.ts";
import { hash, Octets } from "./octets.ts";
import { DOMID_IO, type StreamRecord } from "./stream.ts";

const FRAME = 4096;
const HEADER = 32;

/** Contents of preserved frames. */
export type Memory = Map<bigint, Octets>;

export function readMemory(bytes: Uint8Array, stream: Uint8Array, host: Host): Memory {
	const octets = new Octets(bytes);
	const hold = (holds: boolean, field: string) => must(holds, 34, undefined, field);
	hold(bytes.length >= HEADER, "length");
	hold(new TextDecoder("latin1").decode(bytes.subarray(0, 8)) === "XLUMEM01", "magic");
	const pageCount = octets.u32(24);
	const directoryEnd = HEADER + 8 * pageCount;
	const pagesOffset = Math.ceil(directoryEnd / FRAME) * FRAME;
	hold(octets.u32(28) === pagesOffset, "pagesOffset");
	hold(bytes.length === pagesOffset + FRAME * pageCount, "length");
	hold(octets.u64(16) === hash(bytes.subarray(HEADER)), "hash");
	hold(octets.u64(8) === hash(stream.subarray(0, host.stream.length)), "streamHash");
	hold(octets.firstNonZero(directoryEnd, pagesOffset) < 0, "zero octets");
	const memory: Memory = new Map();
	let last = -1n;
	for (let i = 0; i < pageCount; i++) {
		const mfn = octets.u64(HEADER + 8 * i);
		hold(mfn > last && mfn < host.frameCount, `mfn[${i}]`);
		memory.set(mfn, new Octets(bytes.subarray(pagesOffset + i * FRAME, pagesOffset + (i + 1) * FRAME)));
		last = mfn;
	}
	return memory;
}

export function checkPresent(host: Host, memory: Memory): void {
	const need = (record: StreamRecord | undefined, part: string) => {
		for (const [i, { mfn }] of (record?.parts[part] ?? []).entries())
			must(memory.has(mfn), 34, record, `${part}[${i}].mfn`);
	};
	for (const domain of host.inOrder) {
		need(domain.one("LU_GRANT_TABLE"), "GrantFrames");
		need(domain.one("LU_GRANT_TABLE"), "StatusFrames");
		const info = domain.one("LU_SHARED_INFO");
		must(info === undefined || memory.has(info.head.mfn), 34, info, "mfn");
		need(domain.one("LU_EVTCHN"), "ControlBlocks");
		need(domain.one("LU_EVTCHN"), "EventArrays");
	}
}

/** The frame that an entry of a page table names: bits 12 to 51. */
const frameOf = (entry: bigint): bigint => (entry >> 12n) & ((1n << 40n) - 1n);
const isReadWrite = (entry: bigint): boolean => (entry & 2n) !== 0n;
const isXensOwn = (level: number, slot: number): boolean => level === 4 && slot >= 256 && slot <= 271;

const SLOTS = 512;
const PAE_L3_SLOTS = 4;

/** Slots of a table that are the guest's, but for Xen's in the middle of an L4 table. */
function slotsOf(domain: Domain | undefined, type: bigint): number {
	if (!domain?.isNarrow) return SLOTS;
	if (typeOf(type) === 3) return PAE_L3_SLOTS;
	const xenStart: number = domain.one("LU_PV32")?.head.xenStart ?? 0;
	return type & PAE_XEN_L2 ? (xenStart >>> 21) % SLOTS : SLOTS;
}

/** The four entries of a 32-bit guest's L3 table. @param named L2 tables that one has named as its last */
function isPaeL3Sound(host: Host, table: Octets, named: Set<bigint>): boolean {
	if (table.firstNonZero(8 * PAE_L3_SLOTS, FRAME) >= 0) return false;
	for (let slot = 0; slot < PAE_L3_SLOTS; slot++) {
		const entry = table.u64(8 * slot);
		const isLast = slot === PAE_L3_SLOTS - 1;
		if ((entry & 1n) === 0n) {
			if (isLast) return false;
			continue;
		}
		const to = frameOf(entry);
		if (to >= host.frameCount || named.has(to)) return false;
		if (((host.types.at(to) & PAE_XEN_L2) !== 0n) !== isLast) return false;
		if (isLast) named.add(to);
	}
	return true;
}

/** An entry of an L2, L3 or L4 table: the domain's table one level lower, or read-only one of the same level. */
function isUpperSound(host: Host, owner: number, hasLinear: boolean, level: number, entry: bigint): boolean {
	const to = frameOf(entry);
	if (!host.isOwnedBy(to, owner)) return false;
	const type = typeOf(host.types.at(to));
	return type === level - 1 || (hasLinear && type === level && !isReadWrite(entry));
}

/** An entry of an L1 table: no reserved frame; read-write only what that does not contradict. */
function isLowestSound(host: Host, owner: number, entry: bigint): boolean {
	const to = frameOf(entry);
	if (to >= host.frameCount) return true;
	if (host.firstReserved(to, to + 1n) !== undefined) return false;
	const toOwner = ownerOf(host.owners.at(to));
	if (toOwner < 0 || toOwner === DOMID_IO || !isReadWrite(entry)) return true;
	const other = host.domains.get(toOwner);
	const takesType = toOwner === owner || other === undefined || other.isPv;
	return !takesType || typeOf(host.types.at(to)) === WRITABLE;
}

export function checkPageTables(host: Host, memory: Memory): void {
	const named = new Set<bigint>();
	for (const { first, count, entry: type, record } of host.types.runs) {
		const level = typeOf(type);
		if (!isTable(level)) continue;
		for (let mfn = first; mfn < first + count; mfn++) {
			const owner = ownerOf(host.owners.at(mfn));
			// The place is the record, the domain that of the table.
			const place = { ...record, section: { ...record.section!, domid: owner } };
			const table = memory.get(mfn);
			must(table !== undefined, 34, place, "firstMfn", `${mfn}`);
			if (!host.hasL1(owner)) continue;
			const domain = host.domains.get(owner);
			const isPaeL3 = level === 3 && domain?.isNarrow === true;
			must(!isPaeL3 || isPaeL3Sound(host, table, named), 57, place, "", `L3 table ${mfn} of a 32-bit guest`);
			for (let slot = 0; slot < slotsOf(domain, type); slot++) {
				const entry = table.u64(slot * 8);
				if ((entry & 1n) === 0n || isXensOwn(level, slot)) continue;
				const isSound =
					level === 1 ? isLowestSound(host, owner, entry) : isUpperSound(host, owner, !isPaeL3, level, entry);
				must(isSound, 57, place, "", `table ${mfn}, slot ${slot}`);
			}
		}
	}
}
