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
import { begin, CONTEXT_BLOCK_BYTES, context, countsOf, OK, PHASE_CHECKED, PHASE_FINISHED, refuse } from "./context";
import { decodeChunks } from "./extent/decode";
import {
	DOMAIN_DIRECTORY_BYTES,
	DOMAINS_OFFSET,
	domainDirectory,
	domainEntry,
	hostDirectory,
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
import { defOf, planAt, planSlot, recordVcpu, sectionEnd, sectionFirst } from "./sections";

/** Bits of hostDone. */
const HOST_CREATED: u32 = 1;
const HOST_FRAMES: u32 = 2;

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

/** Pass 0, host: clears the target, lays out every directory, creates the host's tables. */
function createHost(ctx: usize): void {
	const c = context(ctx);
	const image = <usize>c.imagePtr;
	memory.fill(image, 0, c.planImageBytes);
	const root = rootOf(image);
	root.magic = L.IMAGE_MAGIC;
	root.abi = L.ABI_VERSION;
	root.size = c.planImageBytes;
	root.domainCount = c.domainCount;
	root.domainsOffset = DOMAINS_OFFSET;
	const counts = countsOf(ctx);
	countHost(ctx, 0, counts);
	let end: u64 = DOMAINS_OFFSET + <u64>c.domainCount * DOMAIN_DIRECTORY_BYTES;
	end = layOutTables(hostDirectory(image), counts, L.HOST_TABLEDEFS, L.HOST_TABLES, end);
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
		end = layOutTables(domainDirectory(entry), counts, L.DOMAIN_TABLEDEFS, L.DOMAIN_TABLES, end);
	}
	placeSection(ctx, image, hostDirectory(image), 0);
}

/** Pass 1, host: ownership, then types, then where the counts start. */
function restoreFrames(ctx: usize): void {
	const image = <usize>context(ctx).imagePtr;
	placeSection(ctx, image, hostDirectory(image), context(ctx).framesSection);
	startFrames(image);
	startDomains(image);
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

/** Whether this step may run now: its predecessors have ended, and it has not run yet. */
function mayRun(ctx: usize, pass: u32, slot: u32): bool {
	const c = context(ctx);
	if (slot == L.NONE32) {
		if (pass == 0) return c.hostDone == 0;
		return pass == 1 && c.hostDone == HOST_CREATED && c.done0 == c.domainCount;
	}
	const done = planAt(ctx, slot).passDone;
	if (pass == 0) return (c.hostDone & HOST_CREATED) != 0 && done == 0;
	if (pass == 1) return (c.hostDone & HOST_FRAMES) != 0 && done == 1;
	return pass == 2 && c.hostDone == (HOST_CREATED | HOST_FRAMES) && c.done1 == c.domainCount && done == 2;
}

/**
 * Gives the restore its target: `bytes` octets at `image`, 8-aligned, apart from the stream, the workspace and the
 * preserved memory. Nothing is written yet.
 */
export function target(ctx: usize, image: usize, bytes: u32): u32 {
	begin(ctx);
	const c = context(ctx);
	if (c.phase != PHASE_CHECKED || c.hostDone != 0) return refuse(ctx, L.RULE_NOT_CHECKED, PHASE_CHECKED, c.phase);
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

function overlaps(from: u64, to: u64, other: u32, bytes: u32): bool {
	return from < <u64>other + bytes && <u64>other < to;
}

/**
 * One pass (0, 1, 2) of one domain, or of the host (DOMID_XEN, passes 0 and 1). REFUSED with PASS_ORDER and nothing
 * changed if it is not its turn.
 */
export function restore(ctx: usize, pass: u32, domid: u32): u32 {
	begin(ctx);
	const c = context(ctx);
	if (c.phase != PHASE_CHECKED || c.imagePtr == 0) return refuse(ctx, L.RULE_NOT_CHECKED, PHASE_CHECKED, c.phase);
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
		placeSection(ctx, image, directory, plan.section0);
		c.done0++;
	} else if (pass == 1) {
		placeSection(ctx, image, directory, plan.section1);
		c.done1++;
	} else {
		layOutBlobs(ctx, image, directory, plan.section2);
		placeSection(ctx, image, directory, plan.section2);
		addReferences(ctx, entry);
		c.done2++;
	}
	plan.passDone = pass + 1;
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
	if (c.phase != PHASE_CHECKED || c.imagePtr == 0) return refuse(ctx, L.RULE_NOT_CHECKED, PHASE_CHECKED, c.phase);
	if (c.hostDone != (HOST_CREATED | HOST_FRAMES) || c.done2 != c.domainCount) {
		return refuse(ctx, L.RULE_PASS_ORDER, c.domainCount, c.done2);
	}
	rootOf(c.imagePtr).restoredPass = L.NONE32;
	c.phase = PHASE_FINISHED;
	return OK;
}
