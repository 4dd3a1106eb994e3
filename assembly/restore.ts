/**
 * restore: three passes over all domains, each a contiguous part of the stream.
 *
 *     pass 0   the host (DOMID_XEN), then each domain: create it, its P2M, its vCPUs
 *     pass 1   the host (DOMID_XEN): page ownership and types; then, behind that barrier, each domain's grant table
 *     pass 2   each domain: everything else, references
 *
 * A pass starts when the one before it has ended for every domain; a call out of order is refused and changes nothing.
 * After a check that passed no pass can fail: what check accepted, these functions can place.
 */
import {
	begin,
	CONTEXT_BLOCK_BYTES,
	context,
	countsOf,
	hasWorkers,
	isRestoring,
	OK,
	overlaps,
	PHASE_CHECKED,
	PHASE_FINISHED,
	refuse,
	rootContext,
} from "./context";
import { chunkBytes, chunkEntries, frameFault } from "./extent/chunk";
import { decodeChunk, decodeChunks } from "./extent/decode";
import {
	DOMAIN_DIRECTORY_BYTES,
	DOMAINS_OFFSET,
	domainDirectory,
	domainEntry,
	domainRowBytes,
	hostDirectory,
	hostRowBytes,
	isDetached,
	layOutTables,
	rootOf,
	tableAt,
	tableRows,
} from "./image";
import * as L from "./layout.gen";
import { countDomain, countHost } from "./plan";
import {
	bodyBytes,
	bodyOf,
	chunkEntriesField,
	defHeadBytes,
	defHeadTable,
	defPartCount,
	partAt,
	partFrom,
	partKind,
	partPerVcpu,
	partRowBytes,
	partRows,
	partTable,
	recordBytes,
	runRow,
	runRowEnd,
	runSlot,
	sparseRowsAt,
	sparseRuns,
	sparseRunsAt,
} from "./record";
import { addReferences, startDomains, startFrames } from "./references";
import { blockStepsAt, defOf, planAt, planSlot, recordVcpu, sectionEnd, sectionFirst } from "./sections";
import { mergeDomains } from "./sums";

/** Bits of hostDone. */
export const HOST_CREATED: u32 = 1;
export const HOST_FRAMES: u32 = 2;
/** Steps of a block of frames (workers.ts) when its sums have been added, the last of them. */
const BLOCK_MERGED: u32 = 3;
/** And when its owners and types are placed. */
const BLOCK_PLACED: u32 = 2;

/** Rows of a sparse part into their slots. */
function placeSparse(body: usize, table: usize, slots: u32, rowBytes: u32): void {
	const runs = sparseRunsAt(body);
	const rows = sparseRowsAt(body);
	for (let i: u32 = 0; i < sparseRuns(body); i++) {
		const first = runRow(runs, i);
		const count = runRowEnd(body, i) - first;
		if (<u64>runSlot(runs, i) + count > slots) return;
		memory.copy(table + runSlot(runs, i) * rowBytes, rows + first * rowBytes, count * rowBytes);
	}
}

/** First row of variable vCPU state, from the VcpuBlobs that the pass laid out. */
function blobFirst(image: usize, directory: usize, table: u32, vcpu: u32): u32 {
	const blobs = tableAt(image, directory, L.DT_VCPU_BLOBS) + vcpu * L.VCPU_BLOBS_BYTES;
	return load<u32>(blobs + (table == L.DT_PV_EXTENDED ? 0 : table == L.DT_PV_XSAVE ? 8 : 16));
}

/** Places one record's head and parts in the tables of `directory`. */
function placeRecord(image: usize, directory: usize, def: u32, record: usize): void {
	const body = bodyOf(record);
	const end = body + bodyBytes(record);
	const vcpu = recordVcpu(def, record);
	const headBytes = defHeadBytes(def);
	const head = defHeadTable(def);
	if (head != L.NONE32 && vcpu < tableRows(directory, head)) {
		memory.copy(tableAt(image, directory, head) + vcpu * headBytes, body, headBytes);
	}
	const parts = defPartCount(def);
	for (let i: u32 = 0; i < parts; i++) {
		const part = partAt(def, i);
		const kind = partKind(part);
		const rowBytes = partRowBytes(part);
		const table = tableAt(image, directory, partTable(part));
		const slots = tableRows(directory, partTable(part));
		const from = partFrom(def, record, i);
		if (kind == L.PART_SPARSE) {
			placeSparse(body, table, slots, rowBytes);
			continue;
		}
		if (kind == L.PART_CHUNKS) {
			if (isDetached(image)) continue;
			const entries = load<u32>(body + chunkEntriesField(headBytes));
			const first = load<u64>(body);
			if (first + entries <= <u64>slots) {
				decodeChunks(rowBytes, from, <u32>(end - from), entries, table + <usize>first * rowBytes);
			}
			continue;
		}
		const rows = partRows(part, body, from, end);
		const first =
			kind == L.PART_BLOB ? blobFirst(image, directory, partTable(part), vcpu) : partPerVcpu(part) ? vcpu * rows : 0;
		if (<u64>first + rows <= <u64>slots) memory.copy(table + first * rowBytes, from, rows * rowBytes);
	}
	if (def == L.RECORD_LU_P2M && tableRows(directory, L.DT_P2M_INFO) != 0) {
		const info = changetype<L.P2mInfo>(tableAt(image, directory, L.DT_P2M_INFO));
		info.highestGfn = load<u64>(body, L.P2M_SLICE__HIGHEST_GFN);
		info.defaultAccess = load<u32>(body, L.P2M_SLICE__DEFAULT_ACCESS);
	}
}

function placeSection(ctx: usize, image: usize, directory: usize, section: u32): void {
	const end = sectionEnd(ctx, section);
	for (let record = sectionFirst(ctx, section); record < end; record += recordBytes(record)) {
		const def = defOf(record);
		if (def != L.RECORD_COUNT) placeRecord(image, directory, def, record);
	}
}

/** Octets of a table's rows [first, end) are cleared; up to the last row also what pads the table, which no slice covers. */
function clearRows(table: usize, rowBytes: u32, rows: u32, first: u32, end: u32): void {
	const from = <usize>min<u32>(first, end) * rowBytes;
	const to = end == rows ? (<usize>rows * rowBytes + 7) & ~7 : <usize>end * rowBytes;
	memory.fill(table + from, 0, to - from);
}

/**
 * Clears a domain's tables, with what pads them; or the host's. But for those that come in slices: of them clearUncovered
 * clears what no slice writes, since writing them is most of a restore.
 */
function clearTables(image: usize, directory: usize, isHost: bool): void {
	const tables = isHost ? L.HT_FRAME_OWNERS : L.DOMAIN_TABLES;
	for (let t: u32 = 0; t < tables; t++) {
		if (!isHost && t == L.DT_P2M) continue;
		const rows = tableRows(directory, t);
		clearRows(tableAt(image, directory, t), isHost ? hostRowBytes(t) : domainRowBytes(t), rows, 0, rows);
	}
}

/**
 * Clears the rows from `from` to `to` of a table that no slice of its record `def` covers. Slices ascend, check has seen to
 * it; each of them writes all of its rows.
 */
function clearUncovered(
	ctx: usize,
	section: u32,
	def: u32,
	table: usize,
	rowBytes: u32,
	rows: u32,
	from: u32,
	to: u32,
): void {
	const end = sectionEnd(ctx, section);
	let next = from;
	for (let record = sectionFirst(ctx, section); record < end && next < to; record += recordBytes(record)) {
		if (defOf(record) != def) continue;
		const body = bodyOf(record);
		const first = load<u64>(body);
		const last = first + load<u32>(body + chunkEntriesField(defHeadBytes(def)));
		clearRows(table, rowBytes, rows, next, <u32>min<u64>(first, to));
		next = max<u32>(next, <u32>min<u64>(last, to));
	}
	clearRows(table, rowBytes, rows, next, to);
}

/** Pass 0: the frame tables are empty where pass 1 will write nothing, of frames [first, end). */
export function clearFrames(ctx: usize, first: u32, end: u32): void {
	const image = <usize>context(ctx).imagePtr;
	const host = hostDirectory(image);
	const section = context(ctx).framesSection;
	for (let t: u32 = L.HT_FRAME_OWNERS; t <= L.HT_FRAME_COUNTS; t++) {
		const def: u32 = t == L.HT_FRAME_TYPES ? L.RECORD_LU_PAGE_TYPES : L.RECORD_LU_FRAMES;
		const table = tableAt(image, host, t);
		clearUncovered(ctx, section, def, table, hostRowBytes(t), tableRows(host, t), first, end);
	}
}

/**
 * Pass 0, host: lays out every directory, creates the host's tables. Whoever places a table clears what is left of it, so
 * that no octet is written twice.
 */
function createHost(ctx: usize): void {
	const c = context(ctx);
	const image = <usize>c.imagePtr;
	memory.fill(image, 0, DOMAINS_OFFSET + c.domainCount * DOMAIN_DIRECTORY_BYTES);
	const root = rootOf(image);
	root.magic = L.IMAGE_MAGIC;
	root.abi = L.ABI_VERSION;
	root.size = c.planImageBytes;
	root.domainCount = c.domainCount;
	root.domainsOffset = DOMAINS_OFFSET;
	const counts = countsOf(ctx);
	countHost(ctx, 0, counts);
	let end: u64 = DOMAINS_OFFSET + <u64>c.domainCount * DOMAIN_DIRECTORY_BYTES;
	const detached = c.detached != 0;
	root.flags = detached ? L.IMAGE_DETACHED : 0;
	c.p2mRowsLeft = 0;
	end = layOutTables(hostDirectory(image), counts, L.HOST_TABLEDEFS, L.HOST_TABLES, end, detached);
	const host = <usize>c.hostPtr;
	for (let i: u32 = 0; i < c.domainCount; i++) {
		const plan = planAt(ctx, i);
		const entry = domainEntry(image, i);
		plan.directory = <u32>(entry - image);
		store<u32>(entry, plan.domid, L.DOMAIN_ENTRY__DOMID);
		store<u32>(
			entry,
			countDomain(ctx, host, plan.section0, plan.section1, plan.section2, counts),
			L.DOMAIN_ENTRY__VCPU_SLOTS,
		);
		end = layOutTables(domainDirectory(entry), counts, L.DOMAIN_TABLEDEFS, L.DOMAIN_TABLES, end, detached);
		plan.rowsDone = 0;
		if (detached) c.p2mRowsLeft += tableRows(domainDirectory(entry), L.DT_P2M);
	}
	clearTables(image, hostDirectory(image), true);
	// Where there are workers, the blocks do it.
	if (!hasWorkers(ctx) && !detached) clearFrames(ctx, 0, <u32>c.frameCount);
	placeSection(ctx, image, hostDirectory(image), 0);
}

/**
 * Pass 1, host, of the chunks that begin in frames [from, to): ownership and types, and for the frames that have an owner
 * where their counts start. Types are placed without a look at owners: check has held them against each other.
 */
export function placeFrames(ctx: usize, from: u32, to: u32): void {
	const image = <usize>context(ctx).imagePtr;
	const directory = hostDirectory(image);
	const end = sectionEnd(ctx, context(ctx).framesSection);
	for (let record = sectionFirst(ctx, context(ctx).framesSection); record < end; record += recordBytes(record)) {
		const def = defOf(record);
		if (def != L.RECORD_LU_FRAMES && def != L.RECORD_LU_PAGE_TYPES) continue;
		const body = bodyOf(record);
		const part = partAt(def, 0);
		const entries = load<u32>(body + chunkEntriesField(defHeadBytes(def)));
		const slice = load<u64>(body);
		if (slice >= to || slice + entries <= from || slice + entries > context(ctx).frameCount) continue;
		const rowBytes = partRowBytes(part);
		const coded = partFrom(def, record, 0);
		const length = <u32>(body + bodyBytes(record) - coded);
		const table = tableAt(image, directory, partTable(part));
		const last = <u32>slice + entries;
		let offset: u32 = 0;
		for (let first = <u32>slice; first < min<u32>(last, to); ) {
			if (frameFault(rowBytes, coded, length, offset, last - first) != 0) break;
			const header = coded + offset;
			const next = first + chunkEntries(header);
			if (first >= from) {
				decodeChunk(rowBytes, header, table + <usize>first * rowBytes);
				// At once, while the chunk's owners are in the first cache.
				if (def == L.RECORD_LU_FRAMES) startFrames(ctx, first, next);
			}
			first = next;
			offset += chunkBytes(header);
		}
	}
}

/** Pass 1, host: ownership, types, where the counts start. Where there are workers, the blocks have placed the frames. */
function restoreFrames(ctx: usize): void {
	if (!hasWorkers(ctx) && context(ctx).detached == 0) placeFrames(ctx, 0, <u32>context(ctx).frameCount);
	startDomains(ctx);
}

/** The workers' sums of the domains, which few as they are need no thread of their own. */
function mergeWorkers(ctx: usize): void {
	for (let w = context(ctx).workerPtr; w != 0; w = context(w).workerPtr) mergeDomains(ctx, w);
}

/** Pass 2: where each vCPU's variable state stands is its place in the row of vCPUs, whatever the records' order. */
function layOutBlobs(ctx: usize, image: usize, directory: usize, section: u32): void {
	const slots = tableRows(directory, L.DT_VCPU_BLOBS);
	if (slots == 0) return;
	const table = tableAt(image, directory, L.DT_VCPU_BLOBS);
	const end = sectionEnd(ctx, section);
	for (let record = sectionFirst(ctx, section); record < end; record += recordBytes(record)) {
		const def = defOf(record);
		if (def == L.RECORD_COUNT || defPartCount(def) == 0 || partKind(partAt(def, 0)) != L.PART_BLOB) continue;
		const vcpu = recordVcpu(def, record);
		if (vcpu >= slots) continue;
		const rows = partRows(partAt(def, 0), bodyOf(record), partFrom(def, record, 0), bodyOf(record) + bodyBytes(record));
		const blob = changetype<L.VcpuBlobs>(table + vcpu * L.VCPU_BLOBS_BYTES);
		if (def == L.RECORD_X86_PV_VCPU_EXTENDED) blob.extendedCount = rows;
		else if (def == L.RECORD_X86_PV_VCPU_XSAVE) blob.xsaveCount = rows;
		else blob.msrCount = rows;
	}
	let extended: u32 = 0;
	let xsave: u32 = 0;
	let msrs: u32 = 0;
	for (let v: u32 = 0; v < slots; v++) {
		const blob = changetype<L.VcpuBlobs>(table + v * L.VCPU_BLOBS_BYTES);
		blob.extendedFirst = extended;
		blob.xsaveFirst = xsave;
		blob.msrFirst = msrs;
		extended += blob.extendedCount;
		xsave += blob.xsaveCount;
		msrs += blob.msrCount;
	}
}

/**
 * Whether every domain has ended a pass. On one CPU the counters say so; where there are workers these would be written by
 * several, so that the domains' own marks are counted, until once all are there.
 */
export function domainsEnded(ctx: usize, pass: u32): bool {
	const c = context(ctx);
	const counter = changetype<usize>(c) + L.CONTEXT__DONE0 + pass * 4;
	if (hasWorkers(ctx) && load<u32>(counter) != c.domainCount) {
		let done: u32 = 0;
		for (let i: u32 = 0; i < c.domainCount; i++) if (planAt(ctx, i).passDone > pass) done++;
		store<u32>(counter, done);
	}
	return load<u32>(counter) == c.domainCount;
}

/** Whether every block of frames has ended `step` steps. Without workers there are no blocks. */
export function blocksEnded(ctx: usize, step: u32): bool {
	const c = context(ctx);
	if (!hasWorkers(ctx) || c.blocksDone >= step) return true;
	let lowest: u32 = BLOCK_MERGED;
	for (let i: u32 = 0; i < c.blockCount; i++) lowest = min<u32>(lowest, load<u8>(blockStepsAt(ctx) + i));
	c.blocksDone = lowest;
	return lowest >= step;
}

/** Whether restoreRows has made all rows of a detached target's P2Ms, and of its frame tables up to this one. */
export function rowsEnded(c: L.Context, last: u32): bool {
	if (c.p2mRowsLeft != 0) return false;
	const done = changetype<usize>(c) + L.CONTEXT__OWNERS_DONE;
	for (let t: u32 = L.HT_FRAME_OWNERS; t <= last; t++) {
		if (<u64>load<u32>(done + (t - L.HT_FRAME_OWNERS) * 4) != c.frameCount) return false;
	}
	return true;
}

/** Whether this step may run now: its predecessors have ended, and it has not run yet. The host's are the first context's. */
function mayRun(ctx: usize, pass: u32, slot: u32): bool {
	const c = context(ctx);
	if (slot == L.NONE32) {
		if (c.parentPtr != 0) return false;
		if (pass == 0) return c.hostDone == 0;
		if (pass != 1 || c.hostDone != HOST_CREATED || !domainsEnded(ctx, 0)) return false;
		return c.detached != 0 ? rowsEnded(c, L.HT_FRAME_TYPES) : blocksEnded(ctx, BLOCK_PLACED);
	}
	const hostDone = context(rootContext(ctx)).hostDone;
	const done = planAt(ctx, slot).passDone;
	if (pass == 0) return (hostDone & HOST_CREATED) != 0 && done == 0;
	if (pass == 1) return (hostDone & HOST_FRAMES) != 0 && done == 1;
	return pass == 2 && hostDone == (HOST_CREATED | HOST_FRAMES) && done == 2 && domainsEnded(ctx, 1);
}

/**
 * Gives the restore its target: `bytes` octets at `image`, 8-aligned, apart from the stream, the workspace and the
 * preserved memory. Nothing is written yet.
 */
export function target(ctx: usize, image: usize, bytes: u32): u32 {
	begin(ctx);
	const c = context(ctx);
	if (c.phase != PHASE_CHECKED || c.hostDone != 0) return refuse(ctx, L.RULE_NOT_CHECKED, PHASE_CHECKED, c.phase);
	if (hasWorkers(ctx)) return refuse(ctx, L.RULE_PASS_ORDER, 0, c.hostDone);
	if (c.memoryPtr == 0) return refuse(ctx, L.RULE_NEEDS_MEMORY, 1, 0);
	if ((image & 7) != 0) return refuse(ctx, L.RULE_WINDOW, 8, image & 7);
	if (image < __heap_base) return refuse(ctx, L.RULE_WINDOW, __heap_base, image);
	if (<u64>image + bytes > (<u64>memory.size()) << 16)
		return refuse(ctx, L.RULE_WINDOW, (<u64>memory.size()) << 16, <u64>image + bytes);
	if (bytes < c.planImageBytes) return refuse(ctx, L.RULE_WINDOW, c.planImageBytes, bytes);
	const end = <u64>image + c.planImageBytes;
	if (
		overlaps(image, end, c.streamPtr, c.streamBytes) ||
		overlaps(image, end, c.workPtr, c.planWorkBytes) ||
		overlaps(image, end, c.memoryPtr, c.memoryBytes) ||
		overlaps(image, end, <u32>ctx, CONTEXT_BLOCK_BYTES)
	) {
		return refuse(ctx, L.RULE_WINDOW, 0, image);
	}
	c.imagePtr = <u32>image;
	c.imageBytes = bytes;
	return OK;
}

/**
 * One pass (0, 1, 2) of one domain, or of the host (DOMID_XEN, passes 0 and 1). REFUSED with PASS_ORDER and nothing
 * changed if it is not its turn.
 */
export function restore(ctx: usize, pass: u32, domid: u32): u32 {
	begin(ctx);
	const c = context(ctx);
	if (!isRestoring(ctx)) return refuse(ctx, L.RULE_NOT_CHECKED, PHASE_CHECKED, c.phase);
	const slot = domid < L.DOMID_FIRST_RESERVED ? planSlot(ctx, domid) : L.NONE32;
	if (slot == L.NONE32 && domid != L.DOMID_XEN) return refuse(ctx, L.RULE_DOMID, c.domainCount, domid);
	if (!mayRun(ctx, pass, slot))
		return refuse(ctx, L.RULE_PASS_ORDER, slot == L.NONE32 ? c.hostDone : planAt(ctx, slot).passDone, pass);
	const image = <usize>c.imagePtr;
	if (slot == L.NONE32) {
		if (pass == 0) createHost(ctx);
		else restoreFrames(ctx);
		c.hostDone |= pass == 0 ? HOST_CREATED : HOST_FRAMES;
		noteProgress(c);
		return OK;
	}
	const plan = planAt(ctx, slot);
	const entry = image + plan.directory;
	const directory = domainDirectory(entry);
	if (pass == 0) {
		clearTables(image, directory, false);
		const gfns = tableRows(directory, L.DT_P2M);
		const p2m = tableAt(image, directory, L.DT_P2M);
		if (c.detached == 0)
			clearUncovered(ctx, plan.section0, L.RECORD_LU_P2M, p2m, domainRowBytes(L.DT_P2M), gfns, 0, gfns);
		placeSection(ctx, image, directory, plan.section0);
	} else if (pass == 1) {
		placeSection(ctx, image, directory, plan.section1);
	} else {
		layOutBlobs(ctx, image, directory, plan.section2);
		placeSection(ctx, image, directory, plan.section2);
		c.refsLow = L.NONE32;
		c.refsHigh = 0;
		addReferences(ctx, entry);
		plan.refsLow = c.refsLow;
		plan.refsHigh = c.refsHigh;
	}
	plan.passDone = pass + 1;
	// What follows is of all domains, and so no worker's to write.
	if (hasWorkers(ctx)) return OK;
	if (pass == 0) c.done0++;
	else if (pass == 1) c.done1++;
	else c.done2++;
	noteProgress(c);
	return OK;
}

/** The image itself says how far it has come, to whoever finds it half built. */
function noteProgress(c: L.Context): void {
	const done0 = c.hostDone != 0 && c.done0 == c.domainCount;
	const done1 = done0 && (c.hostDone & HOST_FRAMES) != 0 && c.done1 == c.domainCount;
	rootOf(c.imagePtr).restoredPass = done1 && c.done2 == c.domainCount ? 3 : done1 ? 2 : done0 ? 1 : 0;
}

/** Ends the restore: every pass of every domain has run. The image is then a running hypervisor's. */
export function finish(ctx: usize): u32 {
	begin(ctx);
	const c = context(ctx);
	if (!isRestoring(ctx)) return refuse(ctx, L.RULE_NOT_CHECKED, PHASE_CHECKED, c.phase);
	if (c.hostDone != (HOST_CREATED | HOST_FRAMES) || !domainsEnded(ctx, 2)) {
		return refuse(ctx, L.RULE_PASS_ORDER, c.domainCount, c.done2);
	}
	if (c.detached != 0 && !rowsEnded(c, L.HT_FRAME_COUNTS))
		return refuse(ctx, L.RULE_PASS_ORDER, c.frameCount, c.countsDone);
	if (!blocksEnded(ctx, BLOCK_MERGED)) return refuse(ctx, L.RULE_PASS_ORDER, BLOCK_MERGED, c.blocksDone);
	mergeWorkers(ctx);
	rootOf(c.imagePtr).restoredPass = L.NONE32;
	c.phase = PHASE_FINISHED;
	return OK;
}
