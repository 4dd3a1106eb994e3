/**
 * PAGE_DATA as it streams by (libxc-migration-stream section 4.2): count u32, reserved u32, PFNs with their types, then the
 * contents. Contents are looked at where they lie, several pages at once; only `pages: "keep"` holds a record whole.
 */
import { createHash } from "node:crypto";
import { type Findings, hex } from "../common/findings.ts";
import {
	framingRules,
	placeOf,
	RECORD_HEADER_BYTES,
	type RecordHeader,
	recordHeaderOctets,
} from "../common/framing.ts";
import type { StreamReader } from "../common/reader.ts";
import type { Fields, PageContents, PageList } from "../common/record.ts";
import { passOver, type Steps, take } from "../common/steps.ts";
import { type FieldReader, hexOf, OctetWriter, viewOf } from "../common/values.ts";
import { libxcRules as C } from "./check.ts";
import { FIRST_TYPE_WITHOUT_DATA, PAGE_BYTES, PAGE_TYPE, pageTypeNames } from "./layout.ts";

const ZERO_PAGE = Buffer.alloc(PAGE_BYTES);
const TWO_POW_32 = 0x100000000;
const PFN_HIGH_MASK = 0xfffff;
/** Bits 52 to 59 of an entry. */
const RESERVED_MASK = 0x0ff00000;
const BITMAP_PFNS = 1 << 18;
const BITMAP_LIMIT = 1 << 12;

/** What all PAGE_DATA of an image together say. */
export class PageTotals {
	records = 0;
	/** PFNs named, each time counted. */
	frames = 0;
	distinct = 0;
	withData = 0;
	zero = 0;
	/** PFNs named behind VERIFY, where memory comes again to be compared. */
	verified = 0;
	/** PFNs too far apart to be told from each other. */
	notFollowed = 0;
	/** Behind VERIFY. */
	isVerifying = false;
	readonly byType = new Uint32Array(16);
	readonly #seen = new Map<number, Uint8Array>();
	/** Neighbours come together: the bitmap that the last PFN was in. */
	#key = -1;
	#bits: Uint8Array | undefined;

	see(pfn: number): void {
		this.frames++;
		if (this.isVerifying) {
			this.verified++;
			return;
		}
		const key = Math.floor(pfn / BITMAP_PFNS);
		if (key !== this.#key) {
			this.#key = key;
			this.#bits = this.#bitmapOf(key);
		}
		const bits = this.#bits;
		if (!bits) {
			this.notFollowed++;
			return;
		}
		const at = pfn - key * BITMAP_PFNS;
		const octet = bits[at >>> 3] as number;
		const bit = 1 << (at & 7);
		if ((octet & bit) === 0) this.distinct++;
		bits[at >>> 3] = octet | bit;
	}

	#bitmapOf(key: number): Uint8Array | undefined {
		const known = this.#seen.get(key);
		// 2^12 of these, 128 MiB, cover 2^30 PFNs, 4 TiB; a hostile list of PFNs far apart is not followed further.
		if (known || this.#seen.size >= BITMAP_LIMIT) return known;
		const bits = new Uint8Array(BITMAP_PFNS / 8);
		this.#seen.set(key, bits);
		return bits;
	}

	fields(): Fields {
		return {
			records: this.records,
			frames: this.frames,
			distinct: this.distinct,
			sentAgain: this.frames - this.distinct - this.verified - this.notFollowed,
			...(this.verified === 0 ? {} : { verified: this.verified }),
			...(this.notFollowed === 0 ? {} : { notFollowed: this.notFollowed }),
			withData: this.withData,
			zero: this.zero,
			byType: countsByName(this.byType),
		};
	}
}

function countsByName(counts: Uint32Array): Record<string, number> {
	const named: Record<string, number> = {};
	for (const [type, count] of counts.entries()) if (count > 0) named[pageTypeNames[type] ?? `type ${type}`] = count;
	return named;
}

interface ReadList extends Pick<PageList, "pfns" | "types"> {
	withData: number;
	fields: Fields;
}

function readList(
	entries: Uint8Array,
	count: number,
	record: RecordHeader,
	isLittle: boolean,
	endPfn: number | undefined,
	isPv: boolean,
	totals: PageTotals | undefined,
	findings: Findings,
): ReadList {
	const view = viewOf(entries);
	const pfns = new Float64Array(count);
	const types = new Uint8Array(count);
	const byType = new Uint32Array(16);
	const [highAt, lowAt] = isLittle ? [4, 0] : [0, 4];
	let first = Number.POSITIVE_INFINITY;
	let last = 0;
	let isTold = false;
	for (let i = 0; i < count; i++) {
		const high = view.getUint32(8 * i + highAt, isLittle);
		const low = view.getUint32(8 * i + lowAt, isLittle);
		const type = high >>> 28;
		const pfn = (high & PFN_HIGH_MASK) * TWO_POW_32 + low;
		const isWrong = isUnknownType[type] === 1 || (high & RESERVED_MASK) !== 0 || (endPfn !== undefined && pfn > endPfn);
		if (isWrong && !isTold) {
			isTold = true;
			const expected = `a known type, bits 52-59 zero${endPfn === undefined ? "" : `, at most ${hex(endPfn)}`}`;
			findings.report(C.pageType, placeOf(record, `pfn[${i}]`), expected, hex((BigInt(high) << 32n) | BigInt(low)));
		}
		pfns[i] = pfn;
		types[i] = type;
		byType[type] = (byType[type] as number) + 1;
		totals?.see(pfn);
		if (pfn < first) first = pfn;
		if (pfn > last) last = pfn;
	}
	const withData = byType.subarray(0, FIRST_TYPE_WITHOUT_DATA).reduce((sum, found) => sum + found, 0);
	const isTable = (type: number) => type !== PAGE_TYPE.NOTAB && type < FIRST_TYPE_WITHOUT_DATA && !isUnknownType[type];
	const tables = byType.reduce((sum, found, type) => sum + (isTable(type) ? found : 0), 0);
	if (tables > 0 && !isPv) {
		findings.report(C.tables, placeOf(record), "no page-table types in an HVM guest", `${tables} of them`);
	}
	if (totals) {
		totals.records++;
		totals.withData += withData;
		for (const [type, count] of byType.entries()) totals.byType[type] = (totals.byType[type] as number) + count;
	}
	const fields = { count, firstPfn: first, lastPfn: last, types: countsByName(byType), withData };
	return { pfns, types, withData, fields };
}

/** By type: 1 where section 4.2 does not know it. */
const isUnknownType = Uint8Array.from({ length: 16 }, (_, type) => (pageTypeNames[type] === undefined ? 1 : 0));

export interface PageRecord {
	octets: Uint8Array | undefined;
	fields: Fields;
	pages: PageList;
}

/** Reads the body of a PAGE_DATA whose header has been read; its length, a multiple of 8, leaves no padding. */
export function* readPageData(
	reader: StreamReader,
	record: RecordHeader,
	options: { isLittle: boolean; endPfn: number | undefined; isPv: boolean; pages: PageContents },
	totals: PageTotals,
	findings: Findings,
): Steps<PageRecord> {
	const { isLittle, endPfn, isPv, pages } = options;
	const { length } = record;
	const cut = (expected: string, got: number) =>
		findings.fatal(framingRules.truncated, placeOf(record), expected, `${got} before the end`);
	if (length < 8) throw findings.fatal(C.pageLength, placeOf(record, "body_length"), "at least 8", `${length}`);
	const head = (yield* take(reader, 8)).slice();
	if (head.length < 8) throw cut("8 octets of the body", head.length);
	const count = viewOf(head).getUint32(0, isLittle);
	const reserved = viewOf(head).getUint32(4, isLittle);
	if (reserved !== 0) findings.report(C.reserved, placeOf(record, "reserved"), "0", hex(reserved));
	const held = Math.floor((length - 8) / 8);
	if (count === 0 || count > held) {
		throw findings.fatal(C.pageLength, placeOf(record, "count"), `1 to ${held}`, `${count}`);
	}
	const entries = (yield* take(reader, 8 * count)).slice();
	if (entries.length < 8 * count) throw cut(`${8 * count} octets of PFNs`, entries.length);
	const list = readList(
		entries,
		count,
		record,
		isLittle,
		endPfn,
		isPv,
		pages === "skip" ? undefined : totals,
		findings,
	);
	const expected = 8 + 8 * count + list.withData * PAGE_BYTES;
	if (length !== expected) {
		throw findings.fatal(C.pageLength, placeOf(record, "body_length"), `${expected}`, `${length}`);
	}
	const named = { pfns: list.pfns, types: list.types, contentsOffset: reader.offset };
	const hashes: string[] = [];
	const kept: Uint8Array[] = [];
	let zero = 0;
	let left = list.withData;
	if (pages === "skip") {
		const passed = yield* passOver(reader, left * PAGE_BYTES);
		left -= Math.floor(passed / PAGE_BYTES);
		if (left > 0) throw cut(`${left} pages more`, passed % PAGE_BYTES);
	}
	while (left > 0) {
		const several = Math.min(left, Math.max(1, Math.floor(reader.available / PAGE_BYTES)));
		const octets = reader.takeNow(several * PAGE_BYTES) ?? (yield PAGE_BYTES);
		if (octets.length < PAGE_BYTES) throw cut(`${left} pages more`, octets.length);
		const chunk = Buffer.from(octets.buffer, octets.byteOffset, octets.length);
		for (let at = 0; at < chunk.length; at += PAGE_BYTES) {
			// Nearly every page that holds something says so in its first words.
			if (chunk[at] === 0 && chunk[at + 1024] === 0 && ZERO_PAGE.compare(chunk, at, at + PAGE_BYTES) === 0) zero++;
			if (pages === "hash")
				hashes.push(
					createHash("sha1")
						.update(chunk.subarray(at, at + PAGE_BYTES))
						.digest("hex"),
				);
		}
		if (pages === "keep") kept.push(Uint8Array.from(chunk));
		left -= chunk.length / PAGE_BYTES;
	}
	totals.zero += zero;
	if (pages === "skip") return { octets: undefined, fields: list.fields, pages: named };
	const summary = { ...list.fields, zero };
	if (pages === "summary") return { octets: undefined, fields: summary, pages: named };
	const pfns = { pfns: Array.from(list.pfns), pageTypes: Array.from(list.types) };
	if (pages === "hash") return { octets: undefined, fields: { ...summary, ...pfns, hashes }, pages: named };
	const header = recordHeaderOctets(record.type, length, isLittle);
	const octets = new Uint8Array(Buffer.concat([header, head, entries, ...kept]));
	const contents = octets.subarray(RECORD_HEADER_BYTES + 8 + 8 * count);
	return {
		octets,
		pages: named,
		get fields() {
			return { ...summary, ...(reserved === 0 ? {} : { reserved }), ...pfns, contents: hexOf(contents) };
		},
	};
}

/** The body that `pages: "keep"` made such fields of. */
export function pageDataOctets(fields: FieldReader, isLittle: boolean): Uint8Array {
	const pfns = fields.list("pfns");
	const writer = new OctetWriter(isLittle).number(pfns.length, 4).number(fields.number("reserved", 32, 0), 4);
	for (let i = 0; i < pfns.length; i++) {
		const type = fields.element("pageTypes", i, 8);
		writer.number((type << 60n) | (fields.element("pfns", i, 64) & ((1n << 52n) - 1n)), 8);
	}
	return writer.octets(fields.octets("contents")).done();
}
