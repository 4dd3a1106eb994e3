/**
 * plan: how large the target image and the workspace must be, before anything is written. A table's rows follow from
 * the records alone, so the image's layout does not depend on the order of records or of domains.
 */
import { at, begin, context, countsOf, fail, OK, PHASE_OPEN, PHASE_PLANNED, REFUSED, refuse } from "./context";
import { DOMAIN_DIRECTORY_BYTES, DOMAINS_OFFSET, layOutTables } from "./image";
import * as L from "./layout.gen";
import {
	bodyBytes,
	bodyOf,
	defCardinality,
	defHeadTable,
	defPartCount,
	partAt,
	partFrom,
	partKind,
	partPerVcpu,
	partRows,
	partTable,
	recordBytes,
	sparseRows,
	sparseSlots,
} from "./record";
import {
	blocksOf,
	defOf,
	findRecord,
	findSection,
	indexEntry,
	sectionEnd,
	sectionFirst,
	VCPU_LIMIT,
	workBytes,
} from "./sections";
import { sumsBytes } from "./sums";

function put(counts: usize, table: u32, rows: u32): void {
	store<u32>(counts + table * 4, rows);
}
function get(counts: usize, table: u32): u32 {
	return load<u32>(counts + table * 4);
}

/** 64-bit words of an affinity on this host. */
export function affinityWords(host: usize): u32 {
	return (
		(load<u32>(bodyOf(host), L.HOST__CPU_COUNT) >>> 6) +
		((load<u32>(bodyOf(host), L.HOST__CPU_COUNT) & 63) != 0 ? 1 : 0)
	);
}

/** Adds the rows of one section's records to `counts`. Tables indexed by vCPU are the caller's. */
function countSection(ctx: usize, section: u32, counts: usize): bool {
	const end = sectionEnd(ctx, section);
	const entry = indexEntry(ctx, section);
	for (let record = sectionFirst(ctx, section); record < end; record += recordBytes(record)) {
		const def = defOf(record);
		if (def == L.RECORD_COUNT) continue;
		at(ctx, entry.pass, entry.domid, record);
		const body = bodyOf(record);
		if (defCardinality(def) == L.CARDINALITY_SLICE) {
			if (def != L.RECORD_LU_P2M) continue;
			const highest = load<u64>(body, L.P2M_SLICE__HIGHEST_GFN);
			// An entry is 8 octets: more would not fit the core's windows.
			if (highest != L.NONE64 && highest >= 1 << 29)
				return fail(ctx, L.RULE_P2M_HIGHEST, body + L.P2M_SLICE__HIGHEST_GFN, 1 << 29, highest);
			put(counts, L.DT_P2M, <u32>(highest + 1));
			put(counts, L.DT_P2M_INFO, 1);
			continue;
		}
		if (defHeadTable(def) != L.NONE32 && defCardinality(def) != L.CARDINALITY_VCPU) put(counts, defHeadTable(def), 1);
		const parts = defPartCount(def);
		for (let i: u32 = 0; i < parts; i++) {
			const part = partAt(def, i);
			const kind = partKind(part);
			if (kind == L.PART_SPARSE) {
				put(counts, partTable(part), sparseSlots(body));
			} else if (kind == L.PART_BLOB || !partPerVcpu(part)) {
				const rows = partRows(part, body, partFrom(def, record, i), body + bodyBytes(record));
				const sum = <u64>(kind == L.PART_BLOB ? get(counts, partTable(part)) : 0) + rows;
				if (sum > <u64>u32.MAX_VALUE) return fail(ctx, L.RULE_HOST_LIMIT, 0, u32.MAX_VALUE, sum);
				put(counts, partTable(part), <u32>sum);
			}
		}
	}
	return true;
}

/** The host's tables from section H. */
export function countHost(ctx: usize, section: u32, counts: usize): bool {
	memory.fill(counts, 0, L.HOST_TABLES * 4);
	if (!countSection(ctx, section, counts)) return false;
	put(counts, L.HT_FRAME_OWNERS, <u32>context(ctx).frameCount);
	put(counts, L.HT_FRAME_TYPES, <u32>context(ctx).frameCount);
	put(counts, L.HT_FRAME_COUNTS, <u32>context(ctx).frameCount);
	return true;
}

/** Highest vCPU + 1 of a LU_VCPUS record, NONE32 after a refusal. */
function vcpuSlots(ctx: usize, record: usize): u32 {
	const rows = partFrom(L.RECORD_LU_VCPUS, record, 0);
	const count = load<u32>(bodyOf(record), L.VCPUS__VCPU_COUNT);
	let slots: u32 = 0;
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.VCPU_SLOT_BYTES;
		const vcpu = load<u32>(row, L.VCPU_SLOT__VCPU_ID);
		if (vcpu >= VCPU_LIMIT) {
			fail(ctx, L.RULE_VCPU, row, VCPU_LIMIT, vcpu);
			return L.NONE32;
		}
		slots = max<u32>(slots, vcpu + 1);
	}
	return slots;
}

/**
 * A domain's tables from its three sections (NONE32 for one that is missing). Returns its vCPU slots, NONE32 after a
 * refusal.
 */
export function countDomain(ctx: usize, host: usize, section0: u32, section1: u32, section2: u32, counts: usize): u32 {
	memory.fill(counts, 0, L.DOMAIN_TABLES * 4);
	if (!countSection(ctx, section0, counts)) return L.NONE32;
	if (section1 != L.NONE32 && !countSection(ctx, section1, counts)) return L.NONE32;
	if (section2 != L.NONE32 && !countSection(ctx, section2, counts)) return L.NONE32;
	put(counts, L.DT_DOMAIN_COUNTS, 1);
	const vcpus = findRecord(ctx, section0, L.RECORD_LU_VCPUS);
	if (!vcpus) return 0;
	at(ctx, L.PASS_0, indexEntry(ctx, section0).domid, vcpus);
	const slots = vcpuSlots(ctx, vcpus);
	if (slots == L.NONE32) return slots;
	const words = affinityWords(host);
	put(counts, L.DT_VCPU, slots);
	put(counts, L.DT_HARD_AFFINITY, slots * words);
	put(counts, L.DT_SOFT_AFFINITY, slots * words);
	put(counts, L.DT_SAVED_AFFINITY, slots * words);
	const domain = findRecord(ctx, section0, L.RECORD_LU_DOMAIN);
	if (domain && load<u8>(bodyOf(domain), L.DOMAIN__KIND) == L.KIND_PV) {
		const isNarrow = load<u32>(bodyOf(domain), L.DOMAIN__GUEST_WIDTH) == 4;
		put(counts, isNarrow ? L.DT_PV32_VCPU : L.DT_PV_VCPU, slots);
		put(counts, L.DT_PV_FPU, slots * 512);
		put(counts, L.DT_PV_TRAPS, slots * 256);
		put(counts, L.DT_VCPU_BLOBS, slots);
	}
	return slots;
}

/** Pinned grants of a section 1d: each needs a counter in the workspace. */
function pinnedRows(ctx: usize, section1: u32): u32 {
	if (section1 == L.NONE32) return 0;
	const active = findRecord(ctx, section1, L.RECORD_LU_GRANT_ACTIVE);
	return active ? sparseRows(bodyOf(active)) : 0;
}

function planAll(ctx: usize): bool {
	const c = context(ctx);
	const host = findRecord(ctx, 0, L.RECORD_LU_HOST);
	at(ctx, L.PASS_H, L.DOMID_XEN, sectionFirst(ctx, 0) - L.RECORD_HEADER_BYTES - L.SECTION_BYTES);
	if (!host) return fail(ctx, L.RULE_RECORD_MISSING, 0, L.TYPE_LU_HOST, 0);
	at(ctx, L.PASS_H, L.DOMID_XEN, host);
	const frames = load<u64>(bodyOf(host), L.HOST__FRAME_COUNT);
	// 2^28 frames are 1 TiB; the windows' own limit, in octets, is seen below. Of a detached target the workspace's alone.
	const most: u64 = c.detached != 0 ? 1 << 29 : 1 << 28;
	if (frames > most) return fail(ctx, L.RULE_HOST_LIMIT, bodyOf(host) + L.HOST__FRAME_COUNT, most, frames);
	const cpus = load<u32>(bodyOf(host), L.HOST__CPU_COUNT);
	if (cpus == 0 || cpus > VCPU_LIMIT)
		return fail(ctx, L.RULE_HOST_LIMIT, bodyOf(host) + L.HOST__CPU_COUNT, VCPU_LIMIT, cpus);
	c.frameCount = frames;
	c.blockCount = blocksOf(frames);
	c.hostPtr = <u32>host;
	let domains: u32 = 0;
	for (let i: u32 = 0; i < c.sectionCount; i++) if (indexEntry(ctx, i).pass == L.PASS_0) domains++;
	c.domainCount = domains;
	// Bounded before anything is searched per domain: a stream of repetitions must not take forever to refuse.
	const index = <usize>c.indexPtr - L.INDEX_BYTES;
	at(ctx, L.NONE32, L.NONE32, index - L.RECORD_HEADER_BYTES);
	const field = index + L.INDEX__SECTION_COUNT;
	if (domains > L.DOMID_FIRST_RESERVED) return fail(ctx, L.RULE_DOMID, field, L.DOMID_FIRST_RESERVED, domains);
	// One section more than the host's two and each domain's three is a repetition or a stranger.
	const mostSections: u32 = 2 + 3 * domains;
	if (c.sectionCount > mostSections) return fail(ctx, L.RULE_SECTION_ORDER, field, mostSections, c.sectionCount);
	const counts = countsOf(ctx);
	if (!countHost(ctx, 0, counts)) return false;
	let image: u64 = DOMAINS_OFFSET + <u64>domains * DOMAIN_DIRECTORY_BYTES;
	const detached = c.detached != 0;
	image = layOutTables(0, counts, L.HOST_TABLEDEFS, L.HOST_TABLES, image, detached);
	let pins: u64 = 0;
	for (let i: u32 = 0; i < c.sectionCount; i++) {
		if (indexEntry(ctx, i).pass != L.PASS_0) continue;
		const domid = indexEntry(ctx, i).domid;
		// Where a stream lists its domains in the same order in each pass, the guess is right.
		const section1 = findSection(ctx, L.PASS_1D, domid, i + domains + 1);
		const section2 = findSection(ctx, L.PASS_2, domid, i + 2 * domains + 1);
		const slots = countDomain(ctx, host, i, section1, section2, counts);
		if (slots == L.NONE32) return false;
		image = layOutTables(0, counts, L.DOMAIN_TABLEDEFS, L.DOMAIN_TABLES, image, detached);
		pins += pinnedRows(ctx, section1);
	}
	const work = workBytes(domains, frames) + pins * 4;
	at(ctx, L.PASS_H, L.DOMID_XEN, host);
	if (image > <u64>u32.MAX_VALUE) return fail(ctx, L.RULE_HOST_LIMIT, 0, u32.MAX_VALUE, image);
	if (work > <u64>u32.MAX_VALUE) return fail(ctx, L.RULE_HOST_LIMIT, 0, u32.MAX_VALUE, work);
	c.planImageBytes = <u32>image;
	c.planWorkBytes = <u32>work;
	c.planSumsBytes = detached ? 0 : sumsBytes(domains, frames);
	return true;
}

/** Sizes that check and restore need: planImageBytes and planWorkBytes of the context. After open. */
export function plan(ctx: usize): u32 {
	begin(ctx);
	const c = context(ctx);
	if (c.phase < PHASE_OPEN) return refuse(ctx, L.RULE_NOT_CHECKED, PHASE_OPEN, c.phase);
	if (c.sectionCount == 0 || indexEntry(ctx, 0).pass != L.PASS_H)
		return refuse(ctx, L.RULE_SECTION_MISSING, L.PASS_H, c.sectionCount);
	if (!planAll(ctx)) return REFUSED;
	begin(ctx);
	if (c.phase < PHASE_PLANNED) c.phase = PHASE_PLANNED;
	return OK;
}
