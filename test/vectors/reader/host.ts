/** The host that the rules look at: domains, their records, and the bulk tables put together from their slices. */
import type { Fields } from "./octets.ts";
import { type EntryRun, type Finding, finding, type Section, type Stream, type StreamRecord } from "./stream.ts";

export const KIND = { pv: 1, pvh: 2, hvm: 3 };
export const OWNED = 0x10000n;
export const ALLOCATED = 0x20000n;
export const XENHEAP = 0x40000n;
export const EXTRA = 0x80000n;
export const PAE_XEN_L2 = 32n;
export const SEG_DESC = 5;
export const WRITABLE = 7;

/** The owner that a frame's entry names; -1 if nobody owns it. */
export const ownerOf = (entry: bigint): number => (entry & OWNED ? Number(entry & 0xffffn) : -1);
/** The type in a frame's page-type entry; 1 to 4 are page tables of that level. */
export const typeOf = (entry: bigint): number => Number(entry & 7n);
export const isTable = (type: number): boolean => type >= 1 && type <= 4;

/** Ends a check; `report` catches it. */
export class Refused extends Error {
	readonly finding: Finding;

	constructor(what: Finding) {
		super(`${what.rule} at ${what.offset}, ${what.record} ${what.field}: ${what.note}`);
		this.finding = what;
	}
}

/** A rule of the check that must hold. */
export function must(
	holds: boolean,
	rule: number,
	record: StreamRecord | undefined,
	field = "",
	note = "",
): asserts holds {
	if (!holds) throw new Refused(finding(rule, record, field, note));
}

export const smaller = (a: bigint, b: bigint): bigint => (a < b ? a : b);
const larger = (a: bigint, b: bigint): bigint => (a > b ? a : b);

/** A bulk table: the runs of all its slices. What no run covers is zero. */
export class Table {
	readonly runs: (EntryRun & { record: StreamRecord })[] = [];

	/** The run that holds `index`. */
	private find(index: bigint) {
		let low = 0;
		let high = this.runs.length;
		while (low < high) {
			const middle = (low + high) >>> 1;
			if (this.runs[middle]!.first + this.runs[middle]!.count <= index) low = middle + 1;
			else high = middle;
		}
		return low;
	}

	at(index: bigint): bigint {
		const run = this.runs[this.find(index)];
		if (!run || run.first > index) return 0n;
		return run.entry + (run.entry >> 63n) * (index - run.first);
	}

	/** The stretches of [first, first + count) with equal entries, or entries that count up; gaps as zero. */
	*between(first: bigint, count: bigint): Generator<EntryRun> {
		const end = first + count;
		for (let at = first, i = this.find(first); at < end; i++) {
			const run = this.runs[i];
			const from = run && run.first < end ? run.first : end;
			if (from > at) yield { first: at, count: from - at, entry: 0n };
			if (!run || from === end) return;
			const start = larger(from, at);
			const stop = smaller(run.first + run.count, end);
			yield { first: start, count: stop - start, entry: run.entry + (run.entry >> 63n) * (start - run.first) };
			at = stop;
		}
	}
}

export class Domain {
	readonly domid: number;
	readonly create: Section;
	readonly grants: Section;
	readonly rest: Section;
	/** Foreign entries of its P2M, as counted. */
	foreignEntries = 0;

	constructor(domid: number, [create, grants, rest]: [Section, Section, Section]) {
		this.domid = domid;
		this.create = create;
		this.grants = grants;
		this.rest = rest;
	}

	all(name: string): StreamRecord[] {
		return [this.create, this.grants, this.rest].flatMap((s) => s.records.filter((r) => r.name === name));
	}

	one(name: string): StreamRecord | undefined {
		return this.all(name)[0];
	}

	get record(): StreamRecord {
		return this.one("LU_DOMAIN")!;
	}

	/** Which vCPUs exist, ascending. */
	get vcpus(): number[] {
		return this.one("LU_VCPUS")!.parts.VcpuSlots.map((slot: Fields) => slot.vcpuId);
	}

	/** One more than the highest vCPU; 0 without vCPUs. */
	get vcpuEnd(): number {
		return 1 + Math.max(-1, ...this.vcpus);
	}

	get ports(): Fields[] {
		return this.one("LU_EVTCHN_PORTS")?.parts.Ports ?? [];
	}

	get isPv(): boolean {
		return this.record.head.kind === KIND.pv;
	}

	/** A 32-bit PV guest. */
	get isNarrow(): boolean {
		return this.isPv && this.record.head.guestWidth === 4;
	}

	get isAlive(): boolean {
		return this.record.head.life === 0;
	}
}

export class Host {
	readonly stream: Stream;
	readonly hostSection: Section;
	readonly frameSection: Section;
	readonly domains = new Map<number, Domain>();
	readonly owners = new Table();
	readonly types = new Table();

	/** @param stream has passed the checks of structure.ts */
	constructor(stream: Stream) {
		this.stream = stream;
		const of = (pass: number) => stream.sections.filter((s) => s.pass === pass);
		this.hostSection = of(0)[0]!;
		this.frameSection = of(2)[0]!;
		for (const create of of(1)) {
			const [grants, rest] = [of(3), of(4)].map((sections) => sections.find((s) => s.domid === create.domid)!);
			this.domains.set(create.domid, new Domain(create.domid, [create, grants!, rest!]));
		}
	}

	/** Ascending. */
	get inOrder(): Domain[] {
		return [...this.domains.values()].sort((a, b) => a.domid - b.domid);
	}

	one(name: string): StreamRecord | undefined {
		return this.hostSection.records.find((r) => r.name === name);
	}

	get record(): StreamRecord {
		return this.one("LU_HOST")!;
	}

	get frameCount(): bigint {
		return this.record.head.frameCount;
	}

	/** Page tables of a domain, and those of them that are L1 tables. */
	readonly tables = new Map<number, { all: bigint; l1: bigint }>();

	/** Counts the page tables; after the checks of page ownership and page types. */
	countTables(): void {
		this.tables.clear();
		for (const { first, count, entry } of this.types.runs) {
			const level = typeOf(entry);
			if (!isTable(level)) continue;
			for (const stretch of this.owners.between(first, count)) {
				const sum = this.tables.get(ownerOf(stretch.entry)) ?? { all: 0n, l1: 0n };
				sum.all += stretch.count;
				if (level === 1) sum.l1 += stretch.count;
				this.tables.set(ownerOf(stretch.entry), sum);
			}
		}
	}

	/** Whether a domain has page tables, whose entries are counted one by one. */
	isWalked(domid: number): boolean {
		return this.tables.has(domid);
	}

	hasL1(domid: number): boolean {
		return (this.tables.get(domid)?.l1 ?? 0n) > 0n;
	}

	/** Ranges of frames that nobody may own or name: regions, and page tables that stay in place. */
	readonly reserved: { first: bigint; end: bigint }[] = [];

	/** The first frame of [first, end) that is reserved. */
	firstReserved(first: bigint, end: bigint): bigint | undefined {
		const inside = this.reserved.filter((r) => r.first < end && first < r.end).map((r) => larger(r.first, first));
		return inside.length === 0 ? undefined : inside.reduce(smaller);
	}

	/** Xenheap frames that a record has taken. */
	readonly taken = new Set<bigint>();

	isOwnedBy(mfn: bigint, domid: number): boolean {
		return mfn < this.frameCount && ownerOf(this.owners.at(mfn)) === domid;
	}

	mustOwn(domid: number, mfn: bigint, record: StreamRecord, field: string): void {
		must(this.isOwnedBy(mfn, domid), 55, record, field);
	}

	/** A frame of the domain that is written: its type is none or writable. */
	mustBeWritten(domid: number, mfn: bigint, record: StreamRecord, field: string): void {
		this.mustOwn(domid, mfn, record, field);
		must([0, WRITABLE].includes(typeOf(this.types.at(mfn))), 58, record, field);
	}

	/** A record names a xenheap frame of the domain, which no other one names. */
	takeXenheap(domid: number, mfn: bigint, record: StreamRecord, field: string): void {
		this.mustOwn(domid, mfn, record, field);
		must((this.owners.at(mfn) & XENHEAP) !== 0n && !this.taken.has(mfn), 53, record, field);
		this.taken.add(mfn);
	}
}
