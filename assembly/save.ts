/**
 * save: one walk over the image, in stream order, so that each pass of the restore finds its records in one contiguous
 * part. What a record holds is the schema's; this file knows heads, parts and
 * tables.
 *
 * Happy path: planSave says how large the stream can become, save writes it. Unhappy: an image that is not consistent,
 * or a window that is too small, is refused, and what was written of the window means nothing.
 */
import { xxh3_64 } from "./checksum";
import { begin, context, faultOf, OK, REFUSED, refuse } from "./context";
import { encodeBound, encodeTable } from "./extent/encode";
import { encodeP2m } from "./extent/superpages";
import {
	checkImage,
	domainDirectory,
	domainEntry,
	entryDomid,
	entryVcpuSlots,
	hostDirectory,
	rootOf,
	tableAt,
	tableRows,
} from "./image";
import * as L from "./layout.gen";
import {
	bodyOf,
	chunkEntriesField,
	defCardinality,
	defHeadBytes,
	defHeadTable,
	defPartCount,
	defSection,
	defSince,
	partAt,
	partCountField,
	partKind,
	partPerVcpu,
	partRowBytes,
	partTable,
} from "./record";

export const SECTION_RECORD_BYTES: u32 = L.RECORD_HEADER_BYTES + L.SECTION_BYTES;
export const INDEX_RECORD_BYTES: u32 = L.RECORD_HEADER_BYTES + L.INDEX_BYTES;
/** The P2M entry's and the owner entry's bits that travel; the rest would be private to the image's owner. */
const ALL_BITS: u64 = u64.MAX_VALUE;

/** Whose record is written: the image, a directory in it, and the domain's vCPU slots (0 for the host). */
@unmanaged
export class Source {
	image: usize;
	directory: usize;
	vcpuSlots: u32;
	vcpu: u32;
}

export function isZero(from: usize, bytes: u32): bool {
	let p = from;
	const end = from + bytes;
	for (; p + 8 <= end; p += 8) if (load<u64>(p) != 0) return false;
	for (; p < end; p++) if (load<u8>(p) != 0) return false;
	return true;
}

/** Runs and used rows of a sparse table: (runs << 32) | rows. */
function countSparse(table: usize, slots: u32, rowBytes: u32): u64 {
	let runs: u32 = 0;
	let rows: u32 = 0;
	let used = false;
	for (let i: u32 = 0; i < slots; i++) {
		const now = !isZero(table + i * rowBytes, rowBytes);
		if (now) {
			rows++;
			if (!used) runs++;
		}
		used = now;
	}
	return ((<u64>runs) << 32) | rows;
}

/** First row of a part in its table; rows that are indexed by vCPU are as many for each of them. */
function partFirst(s: Source, part: usize): u32 {
	const table = partTable(part);
	if (partKind(part) == L.PART_BLOB) {
		return load<u32>(blobs(s) + (table == L.DT_PV_EXTENDED ? 0 : table == L.DT_PV_XSAVE ? 8 : 16));
	}
	return partPerVcpu(part) ? s.vcpu * partCount(s, part) : 0;
}

function partCount(s: Source, part: usize): u32 {
	const table = partTable(part);
	if (partKind(part) == L.PART_BLOB) {
		return load<u32>(blobs(s) + (table == L.DT_PV_EXTENDED ? 4 : table == L.DT_PV_XSAVE ? 12 : 20));
	}
	const rows = tableRows(s.directory, table);
	return partPerVcpu(part) ? (s.vcpuSlots ? rows / s.vcpuSlots : 0) : rows;
}

function blobs(s: Source): usize {
	return tableAt(s.image, s.directory, L.DT_VCPU_BLOBS) + s.vcpu * L.VCPU_BLOBS_BYTES;
}

/** Whether the image has what this record carries. */
export function isPresent(s: Source, def: u32): bool {
	if (defCardinality(def) == L.CARDINALITY_VCPU) {
		const vcpu = changetype<L.Vcpu>(tableAt(s.image, s.directory, L.DT_VCPU) + s.vcpu * L.VCPU_BYTES);
		if ((vcpu.flags & L.VCPU_FLAG_EXISTS) == 0) return false;
		if (def == L.RECORD_LU_VCPU) return true;
		if ((vcpu.flags & L.VCPU_FLAG_INITIALISED) == 0) return false;
		const isWide = tableRows(s.directory, L.DT_PV_VCPU) != 0;
		const isNarrow = tableRows(s.directory, L.DT_PV32_VCPU) != 0;
		if (def == L.RECORD_LU_PV_VCPU) return isWide;
		if (def == L.RECORD_LU_PV32_VCPU) return isNarrow;
		return (isWide || isNarrow) && partCount(s, partAt(def, 0)) != 0;
	}
	const head = defHeadTable(def);
	return tableRows(s.directory, head != L.NONE32 ? head : partTable(partAt(def, 0))) != 0;
}

/** Octets of a record's body as the image's tables make it. 64 bits, so that a huge table is seen and not wrapped. */
export function bodyLength(s: Source, def: u32): u64 {
	let length: u64 = defHeadBytes(def);
	const parts = defPartCount(def);
	for (let i: u32 = 0; i < parts; i++) {
		const part = partAt(def, i);
		const rowBytes = partRowBytes(part);
		const count = partCount(s, part);
		length = (length + 7) & ~7;
		if (partKind(part) == L.PART_SPARSE) {
			const used = countSparse(tableAt(s.image, s.directory, partTable(part)), count, rowBytes);
			length += (used >> 32) * L.RUN_BYTES + (used & 0xffff_ffff) * rowBytes;
		} else {
			length += <u64>count * rowBytes;
		}
	}
	return length;
}

/** Writes the runs and rows of a sparse table; returns the end. */
function writeSparse(body: usize, to: usize, table: usize, slots: u32, rowBytes: u32): usize {
	const used = countSparse(table, slots, rowBytes);
	const runs = <u32>(used >> 32);
	store<u32>(body, slots, L.EVTCHN_PORTS__SLOT_COUNT);
	store<u32>(body, runs, L.EVTCHN_PORTS__RUN_COUNT);
	store<u32>(body, <u32>used, L.EVTCHN_PORTS__ROW_COUNT);
	let run = to;
	let row = to + runs * L.RUN_BYTES;
	let rows: u32 = 0;
	let inside = false;
	for (let i: u32 = 0; i < slots; i++) {
		const slot = table + i * rowBytes;
		const now = !isZero(slot, rowBytes);
		if (now) {
			if (!inside) {
				store<u32>(run, i);
				store<u32>(run, rows, 4);
				run += L.RUN_BYTES;
			}
			memory.copy(row, slot, rowBytes);
			row += rowBytes;
			rows++;
		}
		inside = now;
	}
	return row;
}

/** Writes one record whose length was measured; returns the address behind it. */
export function writeRecord(s: Source, def: u32, to: usize, length: u32): usize {
	const body = bodyOf(to);
	store<u32>(to, load<u32>(L.DEFS + def * L.DEF_STRIDE + L.DEF_TYPE));
	store<u32>(to, length, 4);
	const head = defHeadTable(def);
	const headBytes = defHeadBytes(def);
	if (head != L.NONE32) {
		const row = defCardinality(def) == L.CARDINALITY_VCPU ? s.vcpu : 0;
		memory.copy(body, tableAt(s.image, s.directory, head) + row * headBytes, headBytes);
	} else if (headBytes) {
		// A record of variable vCPU state: its head is the vCPU's number alone.
		memory.fill(body, 0, headBytes);
		store<u32>(body, s.vcpu);
	}
	let from = body + headBytes;
	const parts = defPartCount(def);
	for (let i: u32 = 0; i < parts; i++) {
		const part = partAt(def, i);
		const rowBytes = partRowBytes(part);
		const count = partCount(s, part);
		const table = tableAt(s.image, s.directory, partTable(part));
		const aligned = body + ((from - body + 7) & ~7);
		memory.fill(from, 0, aligned - from);
		from = aligned;
		if (partKind(part) == L.PART_SPARSE) {
			from = writeSparse(body, from, table, count, rowBytes);
		} else {
			const field = partCountField(part);
			if (field != L.NONE32) store<u32>(body + field, count);
			memory.copy(from, table + partFirst(s, part) * rowBytes, count * rowBytes);
			from += count * rowBytes;
		}
	}
	const end = body + ((length + 7) & ~7);
	memory.fill(from, 0, end - from);
	return end;
}

/** Codes entries of a bulk table, whole chunks or up to its end; returns their octets. */
export function codeSlice(def: u32, rowBytes: u32, rows: usize, count: u32, to: usize): u32 {
	return def == L.RECORD_LU_P2M ? encodeP2m(rows, count, to) : encodeTable(rowBytes, rows, count, ALL_BITS, to);
}

/** Writes the head of a slice whose chunks are written; returns the address behind it. */
export function writeSliceHead(s: Source, def: u32, to: usize, first: u32, count: u32, chunkBytes: u32): usize {
	const headBytes = defHeadBytes(def);
	const body = bodyOf(to);
	memory.fill(body, 0, headBytes);
	store<u64>(body, first);
	store<u32>(body + chunkEntriesField(headBytes), count);
	store<u32>(body + chunkEntriesField(headBytes), chunkBytes, 4);
	if (def == L.RECORD_LU_P2M) {
		const info = changetype<L.P2mInfo>(tableAt(s.image, s.directory, L.DT_P2M_INFO));
		store<u64>(body, info.highestGfn, L.P2M_SLICE__HIGHEST_GFN);
		store<u32>(body, info.defaultAccess, L.P2M_SLICE__DEFAULT_ACCESS);
	}
	store<u32>(to, load<u32>(L.DEFS + def * L.DEF_STRIDE + L.DEF_TYPE));
	store<u32>(to, headBytes + chunkBytes, 4);
	return body + headBytes + chunkBytes;
}

/** Writes one slice of a bulk table; returns the address behind it. */
function writeSlice(s: Source, def: u32, to: usize, first: u32, count: u32): usize {
	const part = partAt(def, 0);
	const rowBytes = partRowBytes(part);
	const table = tableAt(s.image, s.directory, partTable(part)) + first * rowBytes;
	const chunkBytes = codeSlice(def, rowBytes, table, count, bodyOf(to) + defHeadBytes(def));
	return writeSliceHead(s, def, to, first, count, chunkBytes);
}

/**
 * Writes the slices of a table, leaving out those that are empty; with `to` 0 it only measures the most that they can
 * take. Returns the address (or the measure) behind them, 0 if the window ends before.
 */
function slices(s: Source, def: u32, to: u64, end: u64, measure: bool, counter: usize): u64 {
	const part = partAt(def, 0);
	const rowBytes = partRowBytes(part);
	const rows = tableRows(s.directory, partTable(part));
	const table = tableAt(s.image, s.directory, partTable(part));
	let at = to;
	for (let first: u32 = 0; first < rows; first += L.SLICE_FRAMES) {
		const count = min<u32>(rows - first, L.SLICE_FRAMES);
		if (isZero(table + first * rowBytes, count * rowBytes)) continue;
		const most = <u64>L.RECORD_HEADER_BYTES + defHeadBytes(def) + encodeBound(rowBytes, count);
		if (measure) {
			at += most;
		} else {
			if (at + most > end) return 0;
			at = writeSlice(s, def, <usize>at, first, count);
			store<u32>(counter, load<u32>(counter) + 1);
		}
	}
	return at;
}

/** The records of one section, after its LU_SECTION. Returns the address (or the measure) behind them, 0 for no room. */
function records(s: Source, pass: u32, to: u64, end: u64, measure: bool, counter: usize): u64 {
	let at = to;
	for (let def: u32 = 0; def < L.RECORD_COUNT; def++) {
		if (defSection(def) != pass) continue;
		if (defCardinality(def) == L.CARDINALITY_SLICE) {
			at = slices(s, def, at, end, measure, counter);
			if (at == 0) return 0;
			continue;
		}
		const times = defCardinality(def) == L.CARDINALITY_VCPU ? vcpuRows(s) : 1;
		for (s.vcpu = 0; s.vcpu < times; s.vcpu++) {
			if (!isPresent(s, def)) continue;
			const length = bodyLength(s, def);
			const whole = L.RECORD_HEADER_BYTES + ((length + 7) & ~7);
			if (length > L.MAX_BODY_BYTES) return 0;
			if (!measure) {
				if (at + whole > end) return 0;
				at = writeRecord(s, def, <usize>at, <u32>length);
				store<u32>(counter, load<u32>(counter) + 1);
			} else {
				at += whole;
			}
		}
	}
	return at;
}

export function vcpuRows(s: Source): u32 {
	return tableRows(s.directory, L.DT_VCPU);
}

/** One section with its LU_SECTION. */
function section(s: Source, pass: u32, domid: u32, to: u64, end: u64, measure: bool): u64 {
	if (measure) return records(s, pass, to + SECTION_RECORD_BYTES, 0, true, 0);
	if (to + SECTION_RECORD_BYTES > end) return 0;
	const opening = <usize>to;
	const body = bodyOf(opening);
	memory.fill(opening, 0, SECTION_RECORD_BYTES);
	store<u32>(opening, L.TYPE_LU_SECTION);
	store<u32>(opening, L.SECTION_BYTES, 4);
	const first = opening + SECTION_RECORD_BYTES;
	const last = records(s, pass, first, end, false, body + L.SECTION__RECORD_COUNT);
	if (last == 0) return 0;
	const length = <u32>(last - first);
	const view = changetype<L.Section>(body);
	view.pass = pass;
	view.domid = <u16>domid;
	view.length = length;
	view.hash = xxh3_64(first, length);
	return last;
}

/** All sections, in the order H, 0, 1h, 1d, 2. */
function sections(s: Source, to: u64, end: u64, measure: bool): u64 {
	const domains = rootOf(s.image).domainCount;
	let at = to;
	for (let pass: u32 = L.PASS_H; pass <= L.PASS_2; pass++) {
		if (pass == L.PASS_H || pass == L.PASS_1H) {
			s.directory = hostDirectory(s.image);
			s.vcpuSlots = 0;
			at = section(s, pass, L.DOMID_XEN, at, end, measure);
			if (at == 0) return 0;
			continue;
		}
		for (let i: u32 = 0; i < domains; i++) {
			const entry = domainEntry(s.image, i);
			s.directory = domainDirectory(entry);
			s.vcpuSlots = entryVcpuSlots(entry);
			at = section(s, pass, entryDomid(entry), at, end, measure);
			if (at == 0) return 0;
		}
	}
	return at;
}

export function sectionCount(image: usize): u32 {
	return 2 + 3 * rootOf(image).domainCount;
}

/** The stream's header, big-endian always (F1). */
export function writeImageHeader(out: usize, version: u32): void {
	store<u64>(out, u64.MAX_VALUE);
	store<u32>(out, bswap<u32>(L.STREAM_ID), 8);
	store<u32>(out, bswap<u32>(version), 12);
	store<u64>(out, 0, 16);
}

/** LU_INDEX from the sections just written, and END. */
function writeIndex(stream: usize, to: usize, count: u32): usize {
	const body = bodyOf(to);
	const entries = body + L.INDEX_BYTES;
	memory.fill(entries, 0, count * L.INDEX_ENTRY_BYTES);
	let opening = stream + L.IMAGE_HEADER_BYTES;
	for (let i: u32 = 0; i < count; i++) {
		const section = changetype<L.Section>(bodyOf(opening));
		const entry = changetype<L.IndexEntry>(entries + i * L.INDEX_ENTRY_BYTES);
		entry.pass = section.pass;
		entry.domid = section.domid;
		entry.offset = opening - stream;
		entry.length = section.length;
		entry.hash = section.hash;
		entry.recordCount = section.recordCount;
		opening += SECTION_RECORD_BYTES + <u32>section.length;
	}
	return closeIndex(to, count);
}

/** What of LU_INDEX follows from its entries, and END; returns the address behind them. */
export function closeIndex(to: usize, count: u32): usize {
	const body = bodyOf(to);
	const entries = body + L.INDEX_BYTES;
	store<u32>(to, L.TYPE_LU_INDEX);
	store<u32>(to, L.INDEX_BYTES + count * L.INDEX_ENTRY_BYTES, 4);
	memory.fill(body, 0, L.INDEX_BYTES);
	store<u32>(body, count, L.INDEX__SECTION_COUNT);
	store<u64>(body, xxh3_64(entries, count * L.INDEX_ENTRY_BYTES), L.INDEX__HASH);
	const end = entries + count * L.INDEX_ENTRY_BYTES;
	store<u64>(end, 0);
	return end + L.RECORD_HEADER_BYTES;
}

/** Image consistency that saving relies on beyond checkImage: tables indexed by vCPU and by its blobs. */
export function checkSource(ctx: usize, image: usize): bool {
	const domains = rootOf(image).domainCount;
	for (let i: u32 = 0; i < domains; i++) {
		const entry = domainEntry(image, i);
		const directory = domainDirectory(entry);
		const slots = entryVcpuSlots(entry);
		const vcpus = tableRows(directory, L.DT_VCPU);
		const narrow = tableRows(directory, L.DT_PV32_VCPU);
		if (narrow != 0 && tableRows(directory, L.DT_PV_VCPU) != 0) return bad(ctx, 0, narrow);
		const contexts = narrow + tableRows(directory, L.DT_PV_VCPU);
		if (vcpus != 0 && vcpus != slots) return bad(ctx, slots, vcpus);
		if (contexts != 0 && contexts != slots) return bad(ctx, slots, contexts);
		if (tableRows(directory, L.DT_P2M) != 0 && tableRows(directory, L.DT_P2M_INFO) == 0) return bad(ctx, 1, 0);
		if (slots == 0) continue;
		const blobRows = tableRows(directory, L.DT_VCPU_BLOBS);
		if (blobRows != slots && (contexts != 0 || blobRows != 0)) return bad(ctx, slots, blobRows);
		const fpu = tableRows(directory, L.DT_PV_FPU);
		if (fpu != contexts * 512) return bad(ctx, contexts * 512, fpu);
		const traps = tableRows(directory, L.DT_PV_TRAPS);
		if (traps != contexts * 256) return bad(ctx, contexts * 256, traps);
		for (let table = L.DT_HARD_AFFINITY; table <= L.DT_SAVED_AFFINITY; table++) {
			if (tableRows(directory, table) % slots != 0) return bad(ctx, slots, tableRows(directory, table));
		}
		const base = tableAt(image, directory, L.DT_VCPU_BLOBS);
		for (let v: u32 = 0; v < blobRows; v++) {
			const blob = changetype<L.VcpuBlobs>(base + v * L.VCPU_BLOBS_BYTES);
			if (<u64>blob.extendedFirst + blob.extendedCount > tableRows(directory, L.DT_PV_EXTENDED))
				return bad(ctx, v, blob.extendedCount);
			if (<u64>blob.xsaveFirst + blob.xsaveCount > tableRows(directory, L.DT_PV_XSAVE))
				return bad(ctx, v, blob.xsaveCount);
			if (<u64>blob.msrFirst + blob.msrCount > tableRows(directory, L.DT_PV_MSRS)) return bad(ctx, v, blob.msrCount);
		}
	}
	return true;
}

function bad(ctx: usize, expected: u64, got: u64): bool {
	refuse(ctx, L.RULE_IMAGE, expected, got);
	return false;
}

/**
 * FORMAT: nothing of the image needs a record that the version to be written does not have. Optional records stand in any.
 */
export function fits(ctx: usize, s: Source, version: u32): bool {
	const domains = rootOf(s.image).domainCount;
	for (let i: u32 = 0; i <= domains; i++) {
		const isHost = i == domains;
		const entry: usize = isHost ? 0 : domainEntry(s.image, i);
		s.directory = isHost ? hostDirectory(s.image) : domainDirectory(entry);
		s.vcpuSlots = isHost ? 0 : entryVcpuSlots(entry);
		for (let def: u32 = 0; def < L.RECORD_COUNT; def++) {
			if (defSince(def) <= version || isHost != (defSection(def) == L.PASS_H || defSection(def) == L.PASS_1H)) continue;
			const type = load<u32>(L.DEFS + def * L.DEF_STRIDE + L.DEF_TYPE);
			const times = defCardinality(def) == L.CARDINALITY_VCPU ? vcpuRows(s) : 1;
			for (s.vcpu = 0; s.vcpu < times && (type & L.TYPE_OPTIONAL) == 0; s.vcpu++) {
				if (!isPresent(s, def)) continue;
				const fault = faultOf(ctx);
				fault.domid = isHost ? L.DOMID_XEN : entryDomid(entry);
				fault.pass = defSection(def);
				fault.recordType = type;
				refuse(ctx, L.RULE_FORMAT, defSince(def), version);
				return false;
			}
		}
	}
	return true;
}

/** Which version is written on this context. */
export function versionToSave(ctx: usize): u32 {
	const version = context(ctx).saveVersion;
	return version != 0 ? version : L.FORMAT_VERSION;
}

/**
 * Which version of the format planSave and save write on this context from now on: OLDEST_VERSION to FORMAT_VERSION, 0 for
 * the newest. What the image holds beyond an older one is refused by name (FORMAT).
 */
export function saveAs(ctx: usize, version: u32): u32 {
	begin(ctx);
	if (version > L.FORMAT_VERSION) return refuse(ctx, L.RULE_VERSION, L.FORMAT_VERSION, version);
	context(ctx).saveVersion = version;
	return OK;
}

/** The Source lives in the context's scratch: no state outlives the call. */
function source(ctx: usize, image: usize): Source {
	const s = changetype<Source>(ctx + SOURCE_OFFSET);
	s.image = image;
	return s;
}
const SOURCE_OFFSET: u32 = L.CONTEXT_BYTES + L.FAULT_BYTES;

/**
 * Measures the stream that `image` (`bytes` octets, 8-aligned) can become: an upper bound, in planStreamBytes of the
 * context. REFUSED if the image is not consistent or the stream would not fit 32 bits.
 */
export function planSave(ctx: usize, image: usize, bytes: u32): u32 {
	const version = context(ctx).saveVersion;
	memory.fill(ctx, 0, L.CONTEXT_BYTES);
	context(ctx).saveVersion = version;
	begin(ctx);
	if (<u64>image + bytes > (<u64>memory.size()) << 16)
		return refuse(ctx, L.RULE_WINDOW, (<u64>memory.size()) << 16, <u64>image + bytes);
	if (!checkImage(ctx, image, bytes) || !checkSource(ctx, image)) return REFUSED;
	if (!fits(ctx, source(ctx, image), versionToSave(ctx))) return REFUSED;
	const measured = sections(source(ctx, image), L.IMAGE_HEADER_BYTES, 0, true);
	if (measured == 0) return refuse(ctx, L.RULE_BODY_LENGTH, L.MAX_BODY_BYTES, <u64>L.MAX_BODY_BYTES + 1);
	const most = measured + INDEX_RECORD_BYTES + <u64>sectionCount(image) * L.INDEX_ENTRY_BYTES + L.RECORD_HEADER_BYTES;
	if (most > <u64>u32.MAX_VALUE || most < L.IMAGE_HEADER_BYTES)
		return refuse(ctx, L.RULE_HOST_LIMIT, u32.MAX_VALUE, most);
	context(ctx).planStreamBytes = <u32>most;
	return OK;
}

/**
 * Writes the stream of `image` into `out` (8-aligned, `capacity` octets; planStreamBytes always suffice). Its length is
 * streamUsed of the context. REFUSED with WINDOW if the window is too small.
 */
export function save(ctx: usize, image: usize, bytes: u32, out: usize, capacity: u32): u32 {
	const planned = planSave(ctx, image, bytes);
	if (planned != OK) return planned;
	if ((out & 7) != 0 || <u64>out + capacity > (<u64>memory.size()) << 16) return refuse(ctx, L.RULE_WINDOW, 8, out & 7);
	if (out < __heap_base) return refuse(ctx, L.RULE_WINDOW, __heap_base, out);
	// A record is measured and then written: the image must not change meanwhile.
	if (<u64>out < <u64>image + bytes && <u64>image < <u64>out + capacity)
		return refuse(ctx, L.RULE_WINDOW, <u64>image + bytes, out);
	if (capacity < L.IMAGE_HEADER_BYTES) return refuse(ctx, L.RULE_WINDOW, context(ctx).planStreamBytes, capacity);
	writeImageHeader(out, versionToSave(ctx));
	const end = <u64>out + capacity;
	const last = sections(source(ctx, image), <u64>out + L.IMAGE_HEADER_BYTES, end, false);
	const count = sectionCount(image);
	const closing = <u64>INDEX_RECORD_BYTES + <u64>count * L.INDEX_ENTRY_BYTES + L.RECORD_HEADER_BYTES;
	if (last == 0 || last + closing > end) return refuse(ctx, L.RULE_WINDOW, context(ctx).planStreamBytes, capacity);
	context(ctx).streamUsed = <u32>(writeIndex(out, <usize>last, count) - out);
	return OK;
}
