/** digest and compare: what two images must agree in, which is every table, row by row, counts included. */
import { xxh3_64 } from "./checksum";
import { begin, faultOf, OK, REFUSED, refuse } from "./context";
import {
	checkImage,
	domainDirectory,
	domainEntry,
	domainRowBytes,
	entryDomid,
	entryVcpuSlots,
	hostDirectory,
	hostRowBytes,
	rootOf,
	tableAt,
	tableRows,
} from "./image";
import * as L from "./layout.gen";

/** Takes a table into the chain: its number, its rows and their hash. `chain` has 24 octets, the sum in the first 8. */
export function chainTable(chain: usize, table: u32, rows: u32, hash: u64): void {
	store<u32>(chain, table, 8);
	store<u32>(chain, rows, 12);
	store<u64>(chain, hash, 16);
	store<u64>(chain, xxh3_64(chain, 24));
}

/** Takes in whose tables follow. */
export function chainDomain(chain: usize, entry: usize): void {
	store<u32>(chain, entryDomid(entry), 8);
	store<u32>(chain, entryVcpuSlots(entry), 12);
	store<u64>(chain, 0, 16);
	store<u64>(chain, xxh3_64(chain, 24));
}

/** Hashes a directory's tables into `chain`. */
function digestTables(image: usize, directory: usize, tables: u32, host: bool, chain: usize): void {
	for (let t: u32 = 0; t < tables; t++) {
		const rows = tableRows(directory, t);
		const bytes = rows * (host ? hostRowBytes(t) : domainRowBytes(t));
		chainTable(chain, t, rows, xxh3_64(tableAt(image, directory, t), bytes));
	}
}

/**
 * Canonical digest of an image: the same for two images that hold the same tables, wherever these stand. Eight octets at
 * `out`; `out` needs 24 octets of room.
 */
export function digest(ctx: usize, image: usize, bytes: u32, out: usize): u32 {
	begin(ctx);
	if (<u64>image + bytes > (<u64>memory.size()) << 16) return refuse(ctx, L.RULE_WINDOW, 0, bytes);
	if ((out & 7) != 0 || <u64>out + 24 > (<u64>memory.size()) << 16) return refuse(ctx, L.RULE_WINDOW, 24, 0);
	if (!checkImage(ctx, image, bytes)) return REFUSED;
	store<u64>(out, 0);
	digestTables(image, hostDirectory(image), L.HOST_TABLES, true, out);
	const domains = rootOf(image).domainCount;
	for (let i: u32 = 0; i < domains; i++) {
		const entry = domainEntry(image, i);
		chainDomain(out, entry);
		digestTables(image, domainDirectory(entry), L.DOMAIN_TABLES, false, out);
	}
	return OK;
}

/** First octet at which two stretches differ, `bytes` if they do not. */
function firstDifference(a: usize, b: usize, bytes: u32): u32 {
	let i: u32 = 0;
	for (; i + 8 <= bytes; i += 8) if (load<u64>(a + i) != load<u64>(b + i)) break;
	for (; i < bytes; i++) if (load<u8>(a + i) != load<u8>(b + i)) return i;
	return bytes;
}

function differ(ctx: usize, domid: u32, table: u32, row: u32, offset: u32, expected: u64, got: u64): bool {
	const fault = faultOf(ctx);
	fault.status = REFUSED;
	fault.rule = L.RULE_COMPARE;
	fault.domid = domid;
	fault.recordType = table;
	fault.field = row;
	fault.offset = offset;
	fault.expected = expected;
	fault.got = got;
	return false;
}

function compareTables(
	ctx: usize,
	domid: u32,
	a: usize,
	b: usize,
	directoryA: usize,
	directoryB: usize,
	tables: u32,
): bool {
	const host = domid == L.DOMID_XEN;
	for (let t: u32 = 0; t < tables; t++) {
		const rows = tableRows(directoryA, t);
		const other = tableRows(directoryB, t);
		if (rows != other) return differ(ctx, domid, t, L.NONE32, 0, rows, other);
		const rowBytes = host ? hostRowBytes(t) : domainRowBytes(t);
		const bytes = rows * rowBytes;
		const first = firstDifference(tableAt(a, directoryA, t), tableAt(b, directoryB, t), bytes);
		if (first == bytes) continue;
		const expected = load<u8>(tableAt(a, directoryA, t) + first);
		const got = load<u8>(tableAt(b, directoryB, t) + first);
		return differ(ctx, domid, t, first / rowBytes, first % rowBytes, expected, got);
	}
	return true;
}

function compareAll(ctx: usize, a: usize, b: usize): bool {
	const domains = rootOf(a).domainCount;
	if (rootOf(b).domainCount != domains)
		return differ(ctx, L.DOMID_XEN, L.NONE32, L.NONE32, 0, domains, rootOf(b).domainCount);
	if (!compareTables(ctx, L.DOMID_XEN, a, b, hostDirectory(a), hostDirectory(b), L.HOST_TABLES)) return false;
	for (let i: u32 = 0; i < domains; i++) {
		const entryA = domainEntry(a, i);
		const entryB = domainEntry(b, i);
		const domid = entryDomid(entryA);
		if (entryDomid(entryB) != domid) return differ(ctx, domid, L.NONE32, L.NONE32, 0, domid, entryDomid(entryB));
		if (entryVcpuSlots(entryA) != entryVcpuSlots(entryB)) {
			return differ(ctx, domid, L.DT_VCPU, L.NONE32, 0, entryVcpuSlots(entryA), entryVcpuSlots(entryB));
		}
		const directoryA = domainDirectory(entryA);
		const directoryB = domainDirectory(entryB);
		if (!compareTables(ctx, domid, a, b, directoryA, directoryB, L.DOMAIN_TABLES)) return false;
	}
	return true;
}

/**
 * Compares two images. REFUSED with COMPARE at the first difference: domid, table (recordType), row (field, all ones for
 * a table's length), octet in the row (offset), and the octets (or lengths) of both.
 */
export function compare(ctx: usize, a: usize, bytesA: u32, b: usize, bytesB: u32): u32 {
	begin(ctx);
	const end = (<u64>memory.size()) << 16;
	if (<u64>a + bytesA > end || <u64>b + bytesB > end) return refuse(ctx, L.RULE_WINDOW, end, bytesA);
	if (!checkImage(ctx, a, bytesA) || !checkImage(ctx, b, bytesB)) return REFUSED;
	return compareAll(ctx, a, b) ? OK : REFUSED;
}
