/** The host that the rules look at: domains, their records, and the bulk tables put together from their slices. */
import { type EntryRun, type Finding, finding, type Section, type Stream, type StreamRecord } from "./stream.ts";

export const KIND = { pv: 1, pvh: 2, hvm: 3 };
export const OWNED = 0x10000n;
export const ALLOCATED = 0x20000n;
export const XENHEAP = 0x40000n;
export const EXTRA = 0x80000n;
export const SEG_DESC = 5n;
export const WRITABLE = 7n;

/** Ends a check; `report` catches it. */
export class Refused extends Error {
	readonly finding: Finding;

	constructor(what: Finding) {
		super(`${what.rule} at ${what.offset}, ${what.record} ${what.field}: ${what.note}`);
		this.finding = what;
	}
}

/** A rule of the check that must hold. */
export function must(holds: boolean, rule: number, record: StreamRecord, field = "", note = ""): asserts holds {
	if (!holds) throw new Refused(finding(rule, record, field, note));
}

const smaller = (a: bigint, b: bigint): bigint => (a < b ? a : b);
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
	readonly p2m = new Table();

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

	get isPv(): boolean {
		return this.record.head.kind === KIND.pv;
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

	one(name: string): StreamRecord | undefined {
		return this.hostSection.records.find((r) => r.name === name);
	}

	get record(): StreamRecord {
		return this.one("LU_HOST")!;
	}

	get frameCount(): bigint {
		return this.record.head.frameCount;
	}

	/** Whether a domain has page tables, whose entries are counted one by one. */
	isWalked(domid: number): boolean {
		return this.walked.has(domid);
	}

	private walkedDomains: Set<number> | undefined;

	private get walked(): Set<number> {
		if (!this.walkedDomains) {
			this.walkedDomains = new Set();
			for (const run of this.types.runs) {
				if ((run.entry & 7n) === 0n || (run.entry & 7n) > 4n) continue;
				for (const owner of this.owners.between(run.first, run.count)) {
					const domid = Number(owner.entry & 0xffffn);
					if (owner.entry & OWNED && this.domains.get(domid)?.isPv) this.walkedDomains.add(domid);
				}
			}
		}
		return this.walkedDomains;
	}

	isOwnedBy(mfn: bigint, domid: number): boolean {
		const entry = this.owners.at(mfn);
		return mfn < this.frameCount && (entry & OWNED) !== 0n && Number(entry & 0xffffn) === domid;
	}
}
