/** What the stages hand to each other, and how a stage says that a rule is broken. */
import type { RecordLayout } from "./layout.ts";
import type { Fields } from "./octets.ts";

export const DOMID_FIRST_RESERVED = 0x7ff0;
export const DOMID_IO = 0x7ff1;
export const DOMID_XEN = 0x7ff2;
export const DOMID_INVALID = 0x7ff4;

export const PASS_NAMES = ["H", "0", "1h", "1d", "2"];

/** A run of entries of a bulk table: entry j of it is `entry + j * (entry >> 63)`. Numbers of the whole table. */
export interface EntryRun {
	first: bigint;
	count: bigint;
	entry: bigint;
}

export interface StreamRecord {
	/** Undefined for an optional record that is not known. */
	layout: RecordLayout | undefined;
	name: string;
	type: number;
	/** Of its header, from the start of the stream. */
	offset: number;
	bodyOffset: number;
	bodyLength: number;
	/** The one that it stands in, or that it opens. */
	section: Section | undefined;
	head: Fields;
	/** Rows, rows with their `slot` (sparse table), runs of entries (chunks), or octets, by the part's name. */
	// biome-ignore lint/suspicious/noExplicitAny: parts are named by the layout's text, which no type can follow.
	parts: Record<string, any>;
}

export interface Section {
	/** LU_SECTION itself. */
	record: StreamRecord;
	pass: number;
	domid: number;
	records: StreamRecord[];
}

export interface Stream {
	version: number;
	sections: Section[];
	index: StreamRecord;
	end: StreamRecord;
	/** Octets from the first one to the end of END. */
	length: number;
}

/** A broken rule, and where. */
export interface Finding {
	rule: string;
	/** Of the record's header; 0 without a record. */
	offset: number;
	record: string;
	domid: number | null;
	/** Of the head, or `Part[row].field`; empty where the rule is about the record as a whole. */
	field: string;
	/** What the reader saw, for people. */
	note: string;
}

/** Thrown by the stages of the framing, behind which nothing can be read. */
export class Damaged extends Error {
	readonly finding: Finding;

	constructor(finding: Finding) {
		super(`${finding.rule} at ${finding.offset}, ${finding.record} ${finding.field}: ${finding.note}`);
		this.finding = finding;
	}
}

export function finding(rule: number, record: StreamRecord | undefined, field = "", note = ""): Finding {
	const { offset = 0, name = "", section } = record ?? {};
	return {
		rule: `XLU-R${String(rule).padStart(3, "0")}`,
		offset,
		record: name,
		domid: section?.domid ?? null,
		field,
		note,
	};
}
