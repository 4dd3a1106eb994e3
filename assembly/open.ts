/**
 * open: header, framing, checksums, index. After it every record lies whole in the stream, has the shape that the
 * schema gives it, and stands in a section whose length, count and hash are right. What the records mean is check's.
 */
import { xxh3_64 } from "./checksum";
import { at, begin, context, fail, OK, PHASE_NONE, PHASE_OPEN, REFUSED, refuse } from "./context";
import { bigEndianBytes, turnBody, turnHeader } from "./endian";
import {
	ABI_VERSION,
	CONTEXT_BYTES,
	DOMID_FIRST_RESERVED,
	DOMID_XEN,
	FORMAT_VERSION,
	IMAGE_HEADER_BYTES,
	INDEX__HASH,
	INDEX__SECTION_COUNT,
	INDEX_BYTES,
	INDEX_ENTRY__DOMID,
	INDEX_ENTRY__HASH,
	INDEX_ENTRY__LENGTH,
	INDEX_ENTRY__OFFSET,
	INDEX_ENTRY__PASS,
	INDEX_ENTRY__RECORD_COUNT,
	INDEX_ENTRY_BYTES,
	IndexEntry,
	MAX_BODY_BYTES,
	NONE32,
	OLDEST_VERSION,
	OPEN_DETACHED,
	OPEN_PADDED,
	OPEN_VERSION_SHIFT,
	PASS_1H,
	PASS_2,
	PASS_H,
	RECORD_COUNT,
	RECORD_HEADER_BYTES,
	RECORD_LU_INDEX,
	RECORD_LU_SECTION,
	RULE_BODY_LENGTH,
	RULE_CHECKSUM,
	RULE_END,
	RULE_INDEX,
	RULE_MARKER,
	RULE_OPTIONS,
	RULE_RESERVED,
	RULE_SECTION_EXPECTED,
	RULE_SECTION_LENGTH,
	RULE_SECTION_ORDER,
	RULE_TRUNCATED,
	RULE_UNKNOWN_RECORD,
	RULE_VERSION,
	RULE_WINDOW,
	RULE_WRONG_SECTION,
	SECTION__DOMID,
	SECTION__HASH,
	SECTION__LENGTH,
	SECTION__PASS,
	SECTION__RECORD_COUNT,
	SECTION_BYTES,
	Section,
	STREAM_ID,
	TYPE_END,
	TYPE_LU_INDEX,
	TYPE_LU_SECTION,
	TYPE_OPTIONAL,
} from "./layout.gen";
import { bodyBytes, bodyOf, checkShape, defSection, defSince, findDef, recordBytes, recordType } from "./record";

/** The image header's options: bit 0, all that follows is big-endian. */
const OPTION_BIG_ENDIAN: u16 = 1;

const OPENING_BYTES: u32 = RECORD_HEADER_BYTES + SECTION_BYTES;

function checkHeader(ctx: usize, newest: u32): bool {
	const stream = context(ctx).streamPtr;
	if (context(ctx).streamBytes < IMAGE_HEADER_BYTES) {
		return fail(ctx, RULE_TRUNCATED, 0, IMAGE_HEADER_BYTES, context(ctx).streamBytes);
	}
	// Header fields are big-endian always (F1).
	if (load<u64>(stream) != u64.MAX_VALUE)
		return fail(ctx, RULE_MARKER, 0, u64.MAX_VALUE, bswap<u64>(load<u64>(stream)));
	const id = bswap<u32>(load<u32>(stream, 8));
	if (id != STREAM_ID) return fail(ctx, RULE_MARKER, 0, STREAM_ID, id);
	const version = bswap<u32>(load<u32>(stream, 12));
	// The newest that the reader knows, or the one before it.
	if (version > newest || version + 1 < newest) return fail(ctx, RULE_VERSION, 0, newest, version);
	if (version > FORMAT_VERSION || version < OLDEST_VERSION) return fail(ctx, RULE_VERSION, 0, FORMAT_VERSION, version);
	context(ctx).formatVersion = version;
	context(ctx).newestVersion = newest;
	const options = bswap<u16>(load<u16>(stream, 16));
	if (options > OPTION_BIG_ENDIAN) return fail(ctx, RULE_OPTIONS, 0, OPTION_BIG_ENDIAN, options);
	const reserved = load<u64>(stream, 16) >>> 16;
	if (reserved != 0) return fail(ctx, RULE_RESERVED, 0, 0, reserved);
	if (options == OPTION_BIG_ENDIAN) {
		context(ctx).isTurned = 1;
		context(ctx).streamHash = xxh3_64(stream, bigEndianBytes(stream, context(ctx).streamBytes));
	}
	return true;
}

/** Comes to a record of a stream or section that ends at `end`: brings its header to little-endian, says where it stands. */
function meet(ctx: usize, pass: u32, domid: u32, record: usize, end: usize): void {
	if (end - record < RECORD_HEADER_BYTES) return;
	if (context(ctx).isTurned != 0) turnHeader(record);
	at(ctx, pass, domid, record);
}

/** A record's header and padding lie in the window that ends at `end`; its padding is zero. */
function checkFrame(ctx: usize, record: usize, end: usize, rule: u32): bool {
	const left = <u32>(end - record);
	if (left < RECORD_HEADER_BYTES) return fail(ctx, rule, 0, RECORD_HEADER_BYTES, left);
	const length = bodyBytes(record);
	if (length > MAX_BODY_BYTES) return fail(ctx, RULE_BODY_LENGTH, 0, MAX_BODY_BYTES, length);
	if (recordBytes(record) > left) return fail(ctx, rule, 0, recordBytes(record), left);
	for (let p = bodyOf(record) + length; p < record + recordBytes(record); p++) {
		if (load<u8>(p) != 0) return fail(ctx, RULE_RESERVED, p, 0, load<u8>(p));
	}
	return true;
}

/** The records of one section: known or optional, whole, well shaped, in their place. */
function checkSection(ctx: usize, opening: usize): bool {
	const section = changetype<Section>(bodyOf(opening));
	const first = opening + OPENING_BYTES;
	const end = first + <usize>section.length;
	const hash = xxh3_64(first, <usize>section.length);
	if (hash != section.hash) return fail(ctx, RULE_CHECKSUM, bodyOf(opening) + SECTION__HASH, section.hash, hash);
	let count: u32 = 0;
	for (let record = first; record < end; record += recordBytes(record)) {
		meet(ctx, section.pass, section.domid, record, end);
		if (!checkFrame(ctx, record, end, RULE_SECTION_LENGTH)) return false;
		count++;
		const type = recordType(record);
		const def = findDef(type);
		if (def == RECORD_COUNT || defSince(def) > context(ctx).formatVersion) {
			// An optional one of a later version says what an earlier reader skips.
			if ((type & TYPE_OPTIONAL) == 0) return fail(ctx, RULE_UNKNOWN_RECORD, 0, 0, type);
			if (def == RECORD_COUNT) continue;
		}
		if (defSection(def) != section.pass) return fail(ctx, RULE_WRONG_SECTION, 0, defSection(def), section.pass);
		if (context(ctx).isTurned != 0) turnBody(def, record);
		if (!checkShape(ctx, def, record)) return false;
	}
	at(ctx, section.pass, section.domid, opening);
	if (count != section.recordCount) {
		return fail(ctx, RULE_SECTION_LENGTH, bodyOf(opening) + SECTION__RECORD_COUNT, section.recordCount, count);
	}
	return true;
}

/** LU_SECTION's own fields; `previous` is the pass of the section before. */
function checkOpening(ctx: usize, opening: usize, end: usize, previous: u32): bool {
	const body = bodyOf(opening);
	const section = changetype<Section>(body);
	if (section.pass > PASS_2 || section.pass < previous) {
		return fail(ctx, RULE_SECTION_ORDER, body + SECTION__PASS, previous, section.pass);
	}
	const hostWide = section.pass == PASS_H || section.pass == PASS_1H;
	if (hostWide ? section.domid != DOMID_XEN : section.domid >= DOMID_FIRST_RESERVED) {
		return fail(ctx, RULE_SECTION_ORDER, body + SECTION__DOMID, DOMID_XEN, section.domid);
	}
	const left = <u64>(end - opening) - OPENING_BYTES;
	if (section.length > left) return fail(ctx, RULE_TRUNCATED, body + SECTION__LENGTH, left, section.length);
	if ((section.length & 7) != 0)
		return fail(ctx, RULE_SECTION_LENGTH, body + SECTION__LENGTH, section.length & ~7, section.length);
	return true;
}

/** LU_INDEX, whose entries hash to `hash`, lists exactly the sections that were walked. */
function checkIndex(ctx: usize, index: usize, sections: u32, hash: u64): bool {
	const stream = context(ctx).streamPtr;
	const body = bodyOf(index);
	const count = load<u32>(body, INDEX__SECTION_COUNT);
	if (count != sections) return fail(ctx, RULE_INDEX, body + INDEX__SECTION_COUNT, sections, count);
	const entries = body + INDEX_BYTES;
	if (hash != load<u64>(body, INDEX__HASH))
		return fail(ctx, RULE_CHECKSUM, body + INDEX__HASH, load<u64>(body, INDEX__HASH), hash);
	let opening = stream + IMAGE_HEADER_BYTES;
	for (let i: u32 = 0; i < count; i++) {
		const entry = entries + i * INDEX_ENTRY_BYTES;
		const listed = changetype<IndexEntry>(entry);
		const section = changetype<Section>(bodyOf(opening));
		if (listed.offset != <u64>(opening - stream))
			return fail(ctx, RULE_INDEX, entry + INDEX_ENTRY__OFFSET, opening - stream, listed.offset);
		if (listed.pass != section.pass) return fail(ctx, RULE_INDEX, entry + INDEX_ENTRY__PASS, section.pass, listed.pass);
		if (listed.domid != section.domid)
			return fail(ctx, RULE_INDEX, entry + INDEX_ENTRY__DOMID, section.domid, listed.domid);
		if (listed.length != section.length)
			return fail(ctx, RULE_INDEX, entry + INDEX_ENTRY__LENGTH, section.length, listed.length);
		if (listed.hash != section.hash) return fail(ctx, RULE_INDEX, entry + INDEX_ENTRY__HASH, section.hash, listed.hash);
		if (listed.recordCount != section.recordCount)
			return fail(ctx, RULE_INDEX, entry + INDEX_ENTRY__RECORD_COUNT, section.recordCount, listed.recordCount);
		opening += OPENING_BYTES + <u32>section.length;
	}
	return true;
}

/** END and nothing after it, or the zeros that fill its last frame, as a hand-over leaves it (H2). */
function checkEnd(ctx: usize, record: usize, flags: u32): bool {
	const end = <usize>context(ctx).streamPtr + context(ctx).streamBytes;
	if (bodyBytes(record) != 0) return fail(ctx, RULE_END, 0, 0, bodyBytes(record));
	const after = record + RECORD_HEADER_BYTES;
	context(ctx).streamUsed = <u32>(after - context(ctx).streamPtr);
	if (after == end) return true;
	if ((flags & OPEN_PADDED) == 0 || <u32>(end - after) >= 4096) {
		return fail(ctx, RULE_END, 0, 0, <u64>(end - after));
	}
	for (let p = after; p < end; p++) if (load<u8>(p) != 0) return fail(ctx, RULE_END, 0, 0, load<u8>(p));
	return true;
}

function walk(ctx: usize, flags: u32): bool {
	const stream = context(ctx).streamPtr;
	const end = stream + context(ctx).streamBytes;
	let record = stream + IMAGE_HEADER_BYTES;
	let previous: u32 = 0;
	let sections: u32 = 0;
	let index: usize = 0;
	const isTurned = context(ctx).isTurned != 0;
	while (record < end) {
		meet(ctx, NONE32, NONE32, record, end);
		if (!checkFrame(ctx, record, end, RULE_TRUNCATED)) return false;
		const type = recordType(record);
		if (type == TYPE_END) {
			if (!index) return fail(ctx, RULE_INDEX, 0, TYPE_LU_INDEX, type);
			return checkEnd(ctx, record, flags);
		}
		if (index) return fail(ctx, RULE_END, 0, TYPE_END, type);
		if (type == TYPE_LU_INDEX) {
			// Of the octets as they stand in the stream.
			const hash = xxh3_64(bodyOf(record) + INDEX_BYTES, max<u32>(bodyBytes(record), INDEX_BYTES) - INDEX_BYTES);
			if (isTurned) turnBody(RECORD_LU_INDEX, record);
			if (!checkShape(ctx, RECORD_LU_INDEX, record) || !checkIndex(ctx, record, sections, hash)) return false;
			index = record;
			context(ctx).indexPtr = <u32>(bodyOf(record) + INDEX_BYTES);
			context(ctx).sectionCount = sections;
			record += recordBytes(record);
			continue;
		}
		if (type != TYPE_LU_SECTION) return fail(ctx, RULE_SECTION_EXPECTED, 0, TYPE_LU_SECTION, type);
		if (isTurned) turnBody(RECORD_LU_SECTION, record);
		if (!checkShape(ctx, RECORD_LU_SECTION, record) || !checkOpening(ctx, record, end, previous)) return false;
		const section = changetype<Section>(bodyOf(record));
		at(ctx, section.pass, section.domid, record);
		if (!checkSection(ctx, record)) return false;
		previous = section.pass;
		sections++;
		record += OPENING_BYTES + <u32>section.length;
	}
	return fail(ctx, RULE_TRUNCATED, 0, RECORD_HEADER_BYTES, 0);
}

/**
 * Opens a stream: `bytes` octets at `stream`, 8-aligned, which the caller leaves alone until the restore has ended. A
 * big-endian one is brought to little-endian there, as far as it was read, and can be opened once. Initialises the context
 * block. Status REFUSED with the fault record filled, else OK. `flags`: OPEN_PADDED, where zeros may follow; OPEN_DETACHED,
 * where the target's bulk tables will be made window by window (restoreRows.ts); the reader's version above.
 */
export function openStream(ctx: usize, stream: usize, bytes: u32, flags: u32): u32 {
	memory.fill(ctx, 0, CONTEXT_BYTES);
	begin(ctx);
	const c = context(ctx);
	c.abi = ABI_VERSION;
	c.phase = PHASE_NONE;
	if ((stream & 7) != 0 || <u64>stream + bytes > (<u64>memory.size()) << 16)
		return refuse(ctx, RULE_WINDOW, 8, stream & 7);
	c.streamPtr = <u32>stream;
	c.streamBytes = bytes;
	c.detached = (flags & OPEN_DETACHED) != 0 ? 1 : 0;
	const newest = (flags >>> OPEN_VERSION_SHIFT) & 0xff;
	if (!checkHeader(ctx, newest != 0 ? newest : FORMAT_VERSION) || !walk(ctx, flags)) return REFUSED;
	begin(ctx);
	c.phase = PHASE_OPEN;
	return OK;
}
