/**
 * save in steps, through a small window that the host drains: memory is bounded whatever the host's size, and an image's
 * bulk tables need not be there, but for the rows that a step asks for (steps.ts). The stream is save's, octet for octet.
 *
 *     planSteps     how large the window must be at least, and that of the index
 *     saveStart     begins; ends as a step does, with what it wants
 *     saveStep ...  rows, or nothing after a piece was drained, until nothing is wanted
 *
 * A record is written when it fits the window, whole: its checksum goes on from record to record. Pieces come in the order of
 * the stream but for one kind: an LU_SECTION holds the length and the sum of what follows it, and if it has left the
 * window by then it comes a second time, as a piece of its own that goes to where it stands.
 */
import { hashEnd, hashMore, hashStart } from "./checksum";
import { begin, CONTEXT_BLOCK_BYTES, context, OK, REFUSED, refuse } from "./context";
import { CHUNK_ENTRIES } from "./extent/chunk";
import { encodeBound } from "./extent/encode";
import {
	checkImage,
	domainDirectory,
	domainEntry,
	entryDomid,
	entryVcpuSlots,
	hostDirectory,
	isBulk,
	isDetached,
	rootOf,
	tableAt,
	tableRows,
} from "./image";
import * as L from "./layout.gen";
import { bodyOf, defCardinality, defHeadBytes, defSection, partAt, partRowBytes, partTable } from "./record";
import {
	bodyLength,
	checkSource,
	closeIndex,
	codeSlice,
	fits,
	INDEX_RECORD_BYTES,
	isPresent,
	isZero,
	SECTION_RECORD_BYTES,
	Source,
	sectionCount,
	vcpuRows,
	versionToSave,
	writeImageHeader,
	writeRecord,
	writeSliceHead,
} from "./save";
import {
	hashOf,
	isApart,
	isTurn,
	isWindow,
	openingOf,
	rowsBrought,
	STEPS_NONE,
	STEPS_SAVE,
	Steps,
	sourceOf,
	startSteps,
	steps,
	wantDrain,
	wantNothing,
	wantRows,
} from "./steps";

const STAGE_HEADER: u32 = 0;
const STAGE_OPENING: u32 = 1;
const STAGE_RECORDS: u32 = 2;
const STAGE_CLOSING: u32 = 3;
const STAGE_INDEX: u32 = 4;
const STAGE_DONE: u32 = 5;

/** What part of a step ends with: it goes on, the host is wanted, it is refused. */
const GO: u32 = 0;
const WANTS: u32 = 1;
const FAILED: u32 = 2;

/** Host-wide sections are H and 1h. */
function isHostWide(pass: u32): bool {
	return pass == L.PASS_H || pass == L.PASS_1H;
}

/** Whose records these are. */
function enter(s: Source, image: usize, pass: u32, domain: u32): void {
	s.image = image;
	s.vcpu = 0;
	if (isHostWide(pass)) {
		s.directory = hostDirectory(image);
		s.vcpuSlots = 0;
		return;
	}
	const entry = domainEntry(image, domain);
	s.directory = domainDirectory(entry);
	s.vcpuSlots = entryVcpuSlots(entry);
}

function domidOf(st: Steps): u32 {
	return isHostWide(st.pass) ? L.DOMID_XEN : entryDomid(domainEntry(st.image, st.domain));
}

/** The most that a slice of so many rows can take. */
function sliceBound(def: u32, rows: u32): u32 {
	const rowBytes = partRowBytes(partAt(def, 0));
	return L.RECORD_HEADER_BYTES + defHeadBytes(def) + encodeBound(rowBytes, min<u32>(rows, L.SLICE_FRAMES));
}

/** The longest record of a section, with its header; more than can be for one that no stream could hold. */
function longestRecord(s: Source, pass: u32): u64 {
	let longest: u64 = 0;
	for (let def: u32 = 0; def < L.RECORD_COUNT; def++) {
		if (defSection(def) != pass) continue;
		if (defCardinality(def) == L.CARDINALITY_SLICE) {
			const rows = tableRows(s.directory, partTable(partAt(def, 0)));
			if (rows != 0) longest = max<u64>(longest, sliceBound(def, rows));
			continue;
		}
		const times: u32 = defCardinality(def) == L.CARDINALITY_VCPU ? vcpuRows(s) : 1;
		for (s.vcpu = 0; s.vcpu < times; s.vcpu++) {
			if (isPresent(s, def)) longest = max<u64>(longest, L.RECORD_HEADER_BYTES + ((bodyLength(s, def) + 7) & ~7));
		}
	}
	return longest;
}

/**
 * Measures what saving `image` in steps takes: planWindowBytes, the least window, and planIndexBytes. The image may be
 * detached. REFUSED if it is not consistent, or has a record that no stream can hold.
 */
export function planSteps(ctx: usize, image: usize, bytes: u32): u32 {
	const version = context(ctx).saveVersion;
	memory.fill(ctx, 0, L.CONTEXT_BYTES);
	context(ctx).saveVersion = version;
	begin(ctx);
	if (!isWindow(ctx, image, bytes)) return REFUSED;
	if (!checkImage(ctx, image, bytes, true) || !checkSource(ctx, image)) return REFUSED;
	startSteps(ctx, STEPS_NONE, image, bytes);
	const s = sourceOf(ctx);
	s.image = image;
	if (!fits(ctx, s, versionToSave(ctx))) return REFUSED;
	let longest: u64 = SECTION_RECORD_BYTES;
	for (let pass: u32 = L.PASS_H; pass <= L.PASS_2; pass++) {
		const times: u32 = isHostWide(pass) ? 1 : rootOf(image).domainCount;
		for (let domain: u32 = 0; domain < times; domain++) {
			enter(s, image, pass, domain);
			longest = max<u64>(longest, longestRecord(s, pass));
		}
	}
	const most: u64 = L.RECORD_HEADER_BYTES + L.MAX_BODY_BYTES;
	if (longest > most) return refuse(ctx, L.RULE_BODY_LENGTH, most, longest);
	context(ctx).planWindowBytes = <u32>longest;
	context(ctx).planIndexBytes = INDEX_RECORD_BYTES + sectionCount(image) * L.INDEX_ENTRY_BYTES + L.RECORD_HEADER_BYTES;
	return OK;
}

/**
 * Begins to save `image` through `out` (8-aligned, at least planWindowBytes), with `index` (planIndexBytes) for the sections'
 * list. All of it, and the image, stays the steps' until the last one. Ends with what the next step is to bring.
 */
export function saveStart(
	ctx: usize,
	image: usize,
	bytes: u32,
	out: usize,
	capacity: u32,
	index: usize,
	indexBytes: u32,
): u32 {
	if (planSteps(ctx, image, bytes) != OK) return REFUSED;
	const c = context(ctx);
	if (capacity < c.planWindowBytes) return refuse(ctx, L.RULE_WINDOW, c.planWindowBytes, capacity);
	if (indexBytes < c.planIndexBytes) return refuse(ctx, L.RULE_WINDOW, c.planIndexBytes, indexBytes);
	if (!isWindow(ctx, out, capacity) || !isWindow(ctx, index, indexBytes)) return REFUSED;
	if (!isApart(ctx, out, capacity, image, bytes) || !isApart(ctx, index, indexBytes, image, bytes)) return REFUSED;
	if (!isApart(ctx, out, capacity, index, indexBytes)) return REFUSED;
	if (!isApart(ctx, out, capacity, ctx, CONTEXT_BLOCK_BYTES)) return REFUSED;
	if (!isApart(ctx, index, indexBytes, ctx, CONTEXT_BLOCK_BYTES)) return REFUSED;
	const st = startSteps(ctx, STEPS_SAVE, image, bytes);
	st.out = <u32>out;
	st.capacity = capacity;
	st.index = <u32>index;
	st.indexBytes = indexBytes;
	return run(ctx, st);
}

/**
 * The next step. `rows`, `bytes`: the rows that were asked for, or as many of them as the host brings, a multiple of 4096 but
 * for the last; 0, 0 after a piece was drained. REFUSED and nothing changed if it is not that step's turn.
 */
export function saveStep(ctx: usize, rows: usize, bytes: u32): u32 {
	begin(ctx);
	if (!isTurn(ctx, STEPS_SAVE, rows, bytes)) return REFUSED;
	const st = steps(ctx);
	if (context(ctx).stepWants == L.WANTS_ROWS) {
		const count = rowsBrought(ctx, rows, bytes, partRowBytes(partAt(st.def, 0)), CHUNK_ENTRIES);
		if (count == 0) return REFUSED;
		takeRows(ctx, st, rows, count);
	} else if (st.drainsWindow != 0) {
		st.base += st.used;
		st.used = 0;
		st.drainsWindow = 0;
	}
	return run(ctx, st);
}

/** Stages, one after the other, until the host is wanted. */
function run(ctx: usize, st: Steps): u32 {
	let outcome = GO;
	while (outcome == GO) {
		if (st.stage == STAGE_HEADER) outcome = putHeader(ctx, st);
		else if (st.stage == STAGE_OPENING) outcome = openSection(ctx, st);
		else if (st.stage == STAGE_RECORDS) outcome = nextRecords(ctx, st);
		else if (st.stage == STAGE_CLOSING) outcome = closeSection(ctx, st);
		else if (st.stage == STAGE_INDEX) outcome = putIndex(ctx, st);
		else {
			wantNothing(ctx);
			st.kind = STEPS_NONE;
			return OK;
		}
	}
	if (outcome == FAILED) st.kind = STEPS_NONE;
	return outcome == FAILED ? REFUSED : OK;
}

/** Where the window goes on. */
function writeAt(st: Steps): usize {
	return <usize>st.out + st.used;
}

/** Whether there is room for so many octets; else the window is to be drained. */
function room(ctx: usize, st: Steps, bytes: u64): u32 {
	if (bytes <= <u64>(st.capacity - st.used)) return GO;
	if (st.used == 0) {
		// The image has changed since it was measured.
		refuse(ctx, L.RULE_WINDOW, bytes, st.capacity);
		return FAILED;
	}
	st.drainsWindow = 1;
	wantDrain(ctx, st.out, st.used, st.base);
	return WANTS;
}

function putHeader(ctx: usize, st: Steps): u32 {
	const outcome = room(ctx, st, L.IMAGE_HEADER_BYTES);
	if (outcome != GO) return outcome;
	writeImageHeader(writeAt(st), versionToSave(ctx));
	st.used += L.IMAGE_HEADER_BYTES;
	st.pass = L.PASS_H;
	st.stage = STAGE_OPENING;
	return GO;
}

/** Room for LU_SECTION, which is written when the section has ended. */
function openSection(ctx: usize, st: Steps): u32 {
	const outcome = room(ctx, st, SECTION_RECORD_BYTES);
	if (outcome != GO) return outcome;
	memory.fill(writeAt(st), 0, SECTION_RECORD_BYTES);
	st.opening = st.base + st.used;
	st.used += SECTION_RECORD_BYTES;
	st.records = 0;
	st.def = 0;
	st.vcpu = 0;
	st.sliceFirst = 0;
	st.sliceRows = 0;
	hashStart(hashOf(ctx));
	enter(sourceOf(ctx), st.image, st.pass, st.domain);
	st.stage = STAGE_RECORDS;
	return GO;
}

/** A record has been written where the window goes on. */
function noteRecord(ctx: usize, st: Steps, bytes: u32): void {
	hashMore(hashOf(ctx), writeAt(st), bytes);
	st.used += bytes;
	st.records++;
}

/** Records of the section, from where the last step has left them. */
function nextRecords(ctx: usize, st: Steps): u32 {
	const s = sourceOf(ctx);
	for (; st.def < L.RECORD_COUNT; st.def++) {
		const def = st.def;
		if (defSection(def) != st.pass) continue;
		if (defCardinality(def) == L.CARDINALITY_SLICE) {
			const outcome = nextSlices(ctx, st, s);
			if (outcome != GO) return outcome;
			continue;
		}
		const times: u32 = defCardinality(def) == L.CARDINALITY_VCPU ? vcpuRows(s) : 1;
		for (; st.vcpu < times; st.vcpu++) {
			s.vcpu = st.vcpu;
			if (!isPresent(s, def)) continue;
			const length = bodyLength(s, def);
			const outcome = room(ctx, st, L.RECORD_HEADER_BYTES + ((length + 7) & ~7));
			if (outcome != GO) return outcome;
			const to = writeAt(st);
			noteRecord(ctx, st, <u32>(writeRecord(s, def, to, <u32>length) - to));
		}
		st.vcpu = 0;
	}
	st.stage = STAGE_CLOSING;
	return GO;
}

/** Slices of a bulk table: at once where the image has it, else the host is asked for rows. */
function nextSlices(ctx: usize, st: Steps, s: Source): u32 {
	const part = partAt(st.def, 0);
	const table = partTable(part);
	const rows = tableRows(s.directory, table);
	const isHost = isHostWide(st.pass);
	while (st.sliceFirst < rows) {
		const count = sliceCount(st, rows);
		if (st.sliceRows == 0) {
			const outcome = room(ctx, st, sliceBound(st.def, count));
			if (outcome != GO) return outcome;
			st.sliceBytes = 0;
			st.sliceUsed = 0;
		}
		if (isDetached(s.image) && isBulk(isHost, table)) {
			wantRows(ctx, domidOf(st), table, st.sliceFirst + st.sliceRows, count - st.sliceRows);
			return WANTS;
		}
		takeRows(ctx, st, tableAt(s.image, s.directory, table) + st.sliceFirst * partRowBytes(part), count);
	}
	st.sliceFirst = 0;
	return GO;
}

function sliceCount(st: Steps, rows: u32): u32 {
	return min<u32>(rows - st.sliceFirst, L.SLICE_FRAMES);
}

/** Codes the slice's next rows; with its last ones the record is written, unless all of them are zero. */
function takeRows(ctx: usize, st: Steps, rows: usize, count: u32): void {
	const s = sourceOf(ctx);
	const part = partAt(st.def, 0);
	const rowBytes = partRowBytes(part);
	const whole = sliceCount(st, tableRows(s.directory, partTable(part)));
	if (st.sliceUsed == 0) st.sliceUsed = isZero(rows, count * rowBytes) ? 0 : 1;
	const to = writeAt(st);
	// An empty slice that comes in one piece need not be coded to be left out.
	if (st.sliceUsed != 0 || count != whole) {
		const chunks = bodyOf(to) + defHeadBytes(st.def) + st.sliceBytes;
		st.sliceBytes += codeSlice(st.def, rowBytes, rows, count, chunks);
	}
	st.sliceRows += count;
	if (st.sliceRows < whole) return;
	if (st.sliceUsed != 0) {
		const end = writeSliceHead(s, st.def, to, st.sliceFirst, whole, st.sliceBytes);
		noteRecord(ctx, st, <u32>(end - to));
	}
	st.sliceFirst += whole;
	st.sliceRows = 0;
}

/** The section's LU_SECTION and its entry in the index; then the section after it. */
function closeSection(ctx: usize, st: Steps): u32 {
	const opening = openingOf(ctx);
	const domid = domidOf(st);
	memory.fill(opening, 0, SECTION_RECORD_BYTES);
	store<u32>(opening, L.TYPE_LU_SECTION);
	store<u32>(opening, L.SECTION_BYTES, 4);
	const view = changetype<L.Section>(bodyOf(opening));
	view.pass = st.pass;
	view.domid = <u16>domid;
	view.length = st.base + st.used - st.opening - SECTION_RECORD_BYTES;
	view.hash = hashEnd(hashOf(ctx));
	view.recordCount = st.records;
	const at = <usize>st.index + INDEX_RECORD_BYTES + st.sections * L.INDEX_ENTRY_BYTES;
	memory.fill(at, 0, L.INDEX_ENTRY_BYTES);
	const entry = changetype<L.IndexEntry>(at);
	entry.pass = view.pass;
	entry.domid = view.domid;
	entry.offset = st.opening;
	entry.length = view.length;
	entry.hash = view.hash;
	entry.recordCount = view.recordCount;
	st.sections++;
	nextSection(st);
	if (st.opening >= st.base) {
		memory.copy(<usize>st.out + <u32>(st.opening - st.base), opening, SECTION_RECORD_BYTES);
		return GO;
	}
	wantDrain(ctx, opening, SECTION_RECORD_BYTES, st.opening);
	return WANTS;
}

/** Sections come in the order H, 0, 1h, 1d, 2, and in each the domains in the image's. */
function nextSection(st: Steps): void {
	const domains = rootOf(st.image).domainCount;
	st.domain++;
	if (isHostWide(st.pass) || st.domain >= domains) {
		st.domain = 0;
		st.pass++;
		while (domains == 0 && st.pass <= L.PASS_2 && !isHostWide(st.pass)) st.pass++;
	}
	st.stage = st.pass <= L.PASS_2 ? STAGE_OPENING : STAGE_INDEX;
}

/** What is left of the window, then LU_INDEX and END, a piece of their own. */
function putIndex(ctx: usize, st: Steps): u32 {
	if (st.used != 0) {
		st.drainsWindow = 1;
		wantDrain(ctx, st.out, st.used, st.base);
		return WANTS;
	}
	const bytes = <u32>(closeIndex(st.index, st.sections) - st.index);
	wantDrain(ctx, st.index, bytes, st.base);
	context(ctx).streamOctets = st.base + bytes;
	st.stage = STAGE_DONE;
	return WANTS;
}
