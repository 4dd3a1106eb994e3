/** P2Ms: FORMAT.md, "P2M", "Foreign mappings"; RULES.md, 13. */
import { mustFollow } from "./checkFrames.ts";
import { mustKnow } from "./checkHost.ts";
import { type Domain, EXTRA, type Host, must, ownerOf, smaller } from "./host.ts";
import { ALL_ONES, type Fields } from "./octets.ts";
import { DOMID_IO, DOMID_XEN, type EntryRun, type StreamRecord } from "./stream.ts";

const MFN = (1n << 40n) - 1n;
const UNKNOWN_BITS = 0x1ffn << 54n;
const INVALID = 1;
const MMIO_DM = 4;
const MMIO_DIRECT = 5;
const POPULATE_ON_DEMAND = 6;
const GRANT_MAPS = [7, 8];
const SHARED_OR_PAGED = [9, 10, 11, 12];
const FOREIGN = 14;
const IOREQ_SERVER = 15;
const RAM = [0, 2, 3, IOREQ_SERVER];
const HIGHEST_ACCESS = 10n;
const ORDERS = [0n, 9n, 18n];

/** Whether an entry of a type that is no RAM may name a frame with this owner entry. */
function mayName(type: number, entry: bigint, domid: number): boolean {
	const owner = ownerOf(entry);
	if (type === MMIO_DIRECT) return owner < 0 || owner === DOMID_IO || (owner === domid && (entry & EXTRA) !== 0n);
	if (GRANT_MAPS.includes(type)) return owner >= 0 && owner !== DOMID_XEN;
	return true;
}

/** Frames that are RAM at a GFN: stretches that ascend and do not touch. */
class Mapped {
	readonly #first: bigint[] = [];
	readonly #end: bigint[] = [];

	/** The first stretch that ends beyond `mfn`. */
	#place(mfn: bigint): number {
		let [low, high] = [0, this.#end.length];
		while (low < high) {
			const middle = (low + high) >> 1;
			if (this.#end[middle]! > mfn) high = middle;
			else low = middle + 1;
		}
		return low;
	}

	/** The first frame of [mfn, end) that is there. */
	firstOf(mfn: bigint, end: bigint): bigint | undefined {
		const first = this.#first[this.#place(mfn)];
		if (first === undefined || first >= end) return undefined;
		return first > mfn ? first : mfn;
	}

	/** Frames that are not there yet. */
	add(mfn: bigint, end: bigint): void {
		const at = this.#place(mfn);
		const before = this.#end[at - 1] === mfn;
		const behind = this.#first[at] === end;
		const first = before ? this.#first[at - 1]! : mfn;
		const last = behind ? this.#end[at]! : end;
		const place = before ? at - 1 : at;
		const joined = Number(before) + Number(behind);
		this.#first.splice(place, joined, first);
		this.#end.splice(place, joined, last);
	}
}

function checkRun(
	host: Host,
	domain: Domain,
	record: StreamRecord,
	run: EntryRun,
	foreign: { n: number },
	mapped: Mapped,
): void {
	const { first: gfn, count, entry } = run;
	const field = "firstGfn";
	const isPresent = entry >> 63n === 1n;
	const mfn = entry & MFN;
	const type = Number((entry >> 40n) & 15n);
	const order = (entry >> 48n) & 63n;
	const pages = 1n << order;
	const hasNoFrame = type === POPULATE_ON_DEMAND || type === MMIO_DM;
	must((entry & UNKNOWN_BITS) === 0n, 60, record, field, "an unknown bit");
	must(((entry >> 44n) & 15n) <= HIGHEST_ACCESS && ORDERS.includes(order), 60, record, field, "access or order");
	must(!SHARED_OR_PAGED.includes(type), 44, record, field);
	must(gfn % pages === 0n && count % pages === 0n, 61, record, field, "GFN or number of entries");
	if (!isPresent) {
		must(mfn === 0n && hasNoFrame, 60, record, field, "an absent entry");
		return;
	}
	must(mfn % pages === 0n, 61, record, field, "MFN");
	must(!hasNoFrame && type !== INVALID, 60, record, field, "a present entry");
	must(order === 0n || (type !== FOREIGN && type !== IOREQ_SERVER), 63, record, field);
	if (RAM.includes(type)) {
		const end = smaller(mfn + count, host.frameCount);
		const strange = [...host.owners.between(mfn, end - mfn)].find(
			({ entry }) => ownerOf(entry) !== domain.domid,
		)?.first;
		const wrong = strange ?? (end < mfn + count ? end : undefined);
		const twice = mapped.firstOf(mfn, mfn + count);
		must(twice === undefined || (wrong !== undefined && wrong <= twice), 65, record, field);
		must(wrong === undefined, 62, record, field);
		mapped.add(mfn, mfn + count);
		return;
	}
	if (type === FOREIGN) {
		for (let i = 0n; i < count; i++) checkForeign(host, domain, record, gfn + i, mfn + i, foreign.n++);
		return;
	}
	const end = smaller(mfn + count, host.frameCount);
	const reserved = host.firstReserved(mfn, end);
	const wrong = [...host.owners.between(mfn, end - mfn)].find((s) => !mayName(type, s.entry, domain.domid))?.first;
	must(reserved === undefined || (wrong !== undefined && wrong < reserved), 52, record, field);
	must(wrong === undefined, 62, record, field);
}

function checkForeign(host: Host, domain: Domain, record: StreamRecord, gfn: bigint, mfn: bigint, n: number): void {
	const row: Fields | undefined = domain.one("LU_FOREIGN_MAPS")?.parts.ForeignMapList[n];
	must(row?.gfn === gfn && row.mfn === mfn, 63, record, "firstGfn");
	const isKnown = host.domains.has(row.owner) || row.owner === DOMID_XEN || row.owner === DOMID_IO;
	must(isKnown, 43, record, "firstGfn");
	host.mustOwn(row.owner, mfn, record, "firstGfn");
}

export function checkP2m(host: Host, domain: Domain): void {
	const records = domain.all("LU_P2M");
	const foreign = { n: 0 };
	const mapped = new Mapped();
	let highest: bigint | undefined;
	for (const [i, record] of records.entries()) {
		must(!domain.isPv, 95, record);
		const { highestGfn, defaultAccess } = record.head;
		must(highestGfn !== ALL_ONES, 64, record, "highestGfn");
		mustFollow(record, records[i - 1], highestGfn + 1n);
		mustKnow(60, record, "defaultAccess");
		must(highestGfn === records[0]!.head.highestGfn, 64, record, "highestGfn");
		must(defaultAccess === records[0]!.head.defaultAccess, 64, record, "defaultAccess");
		for (const run of record.parts.P2m) {
			if (run.entry === 0n) continue;
			checkRun(host, domain, record, run, foreign, mapped);
			highest = run.first + run.count - 1n;
		}
	}
	const last = records.at(-1);
	must(last === undefined || last.head.highestGfn === highest, 64, last, "highestGfn");
	const list = domain.one("LU_FOREIGN_MAPS");
	domain.foreignEntries = foreign.n;
	must(list === undefined || list.head.mapCount === foreign.n, 63, list, "mapCount");
}
