/**
 * The hypervisor image: root, the host's table directory, then per domain an entry and its directory, then the tables.
 * All references are octets from the image's start, so that an image can be moved or mapped anywhere.
 *
 *     | ImageRoot | host TableRef x HT | (DomainEntry | domain TableRef x DT) x domains | tables, 8-aligned ... |
 */
import { fail, refuse } from "./context";
import {
	ABI_VERSION,
	DOMAIN_ENTRY_BYTES,
	DOMAIN_TABLEDEFS,
	DOMAIN_TABLES,
	DOMID_FIRST_RESERVED,
	DomainEntry,
	DT_P2M,
	HOST_TABLEDEFS,
	HOST_TABLES,
	HT_FRAME_COUNTS,
	HT_FRAME_OWNERS,
	HT_FRAME_TYPES,
	IMAGE_DETACHED,
	IMAGE_MAGIC,
	IMAGE_ROOT_BYTES,
	ImageRoot,
	RULE_IMAGE,
	SHAPE_ONCE,
	TABLE_REF_BYTES,
	TABLEDEF_ROW_BYTES,
	TABLEDEF_SHAPE,
	TABLEDEF_STRIDE,
} from "./layout.gen";

export const HOST_DIRECTORY: u32 = IMAGE_ROOT_BYTES;
export const DOMAINS_OFFSET: u32 = IMAGE_ROOT_BYTES + HOST_TABLES * TABLE_REF_BYTES;
export const DOMAIN_DIRECTORY_BYTES: u32 = DOMAIN_ENTRY_BYTES + DOMAIN_TABLES * TABLE_REF_BYTES;

export function rootOf(image: usize): ImageRoot {
	return changetype<ImageRoot>(image);
}

export function domainEntry(image: usize, index: u32): usize {
	return image + DOMAINS_OFFSET + index * DOMAIN_DIRECTORY_BYTES;
}

export function entryDomid(entry: usize): u32 {
	return changetype<DomainEntry>(entry).domid;
}

export function entryVcpuSlots(entry: usize): u32 {
	return changetype<DomainEntry>(entry).vcpuSlots;
}

/** Directory of the host, or of a domain: an address of TableRefs. */
export function hostDirectory(image: usize): usize {
	return image + HOST_DIRECTORY;
}
export function domainDirectory(entry: usize): usize {
	return entry + DOMAIN_ENTRY_BYTES;
}

export function tableOffset(directory: usize, table: u32): u32 {
	return load<u32>(directory + table * TABLE_REF_BYTES);
}
export function tableRows(directory: usize, table: u32): u32 {
	return load<u32>(directory + table * TABLE_REF_BYTES, 4);
}
export function tableAt(image: usize, directory: usize, table: u32): usize {
	return image + tableOffset(directory, table);
}

export function hostRowBytes(table: u32): u32 {
	return load<u32>(HOST_TABLEDEFS + table * TABLEDEF_STRIDE + TABLEDEF_ROW_BYTES);
}
export function domainRowBytes(table: u32): u32 {
	return load<u32>(DOMAIN_TABLEDEFS + table * TABLEDEF_STRIDE + TABLEDEF_ROW_BYTES);
}
export function domainTableShape(table: u32): u32 {
	return load<u32>(DOMAIN_TABLEDEFS + table * TABLEDEF_STRIDE + TABLEDEF_SHAPE);
}

/** A bulk table: what may be detached, its rows at the host's call (steps.ts, restoreRows.ts), since it grows with memory. */
export function isBulk(isHost: bool, table: u32): bool {
	return isHost ? table - HT_FRAME_OWNERS <= HT_FRAME_COUNTS - HT_FRAME_OWNERS : table == DT_P2M;
}

export function isDetached(image: usize): bool {
	return (rootOf(image).flags & IMAGE_DETACHED) != 0;
}

/** A domain of the image by domid, 0 if there is none. Entries ascend, so this is a binary search. */
export function findDomain(image: usize, domid: u32): usize {
	let low: u32 = 0;
	let high: u32 = rootOf(image).domainCount;
	while (low < high) {
		const middle = (low + high) >>> 1;
		const found = entryDomid(domainEntry(image, middle));
		if (found == domid) return domainEntry(image, middle);
		if (found < domid) low = middle + 1;
		else high = middle;
	}
	return 0;
}

/**
 * Lays out one directory: a table's offset is where the one before it ends. Returns the end as a 64-bit number, so that
 * an image beyond 4 GiB is seen and not wrapped. `directory` 0 only measures. `detached`: bulk tables take no room.
 */
export function layOutTables(
	directory: usize,
	counts: usize,
	defs: usize,
	tables: u32,
	from: u64,
	detached: bool,
): u64 {
	let end = from;
	for (let i: u32 = 0; i < tables; i++) {
		const count = load<u32>(counts + i * 4);
		if (detached && isBulk(defs == HOST_TABLEDEFS, i)) {
			if (directory) store<u64>(directory + i * TABLE_REF_BYTES, (<u64>count) << 32);
			continue;
		}
		if (directory) {
			store<u32>(directory + i * TABLE_REF_BYTES, count ? <u32>end : 0);
			store<u32>(directory + i * TABLE_REF_BYTES, count, 4);
		}
		end += (<u64>count * load<u32>(defs + i * TABLEDEF_STRIDE + TABLEDEF_ROW_BYTES) + 7) & ~7;
	}
	return end;
}

function checkDirectory(directory: usize, defs: usize, tables: u32, size: u32, lowest: u32, detached: bool): bool {
	for (let i: u32 = 0; i < tables; i++) {
		const offset = tableOffset(directory, i);
		const rows = tableRows(directory, i);
		// Copying nothing from beyond the memory is a trap as well.
		if (rows == 0 && offset <= size) continue;
		const shape = load<u32>(defs + i * TABLEDEF_STRIDE + TABLEDEF_SHAPE);
		if (shape == SHAPE_ONCE && rows > 1) return false;
		if (detached && isBulk(defs == HOST_TABLEDEFS, i)) {
			if (offset != 0 || rows > MOST_DETACHED_ROWS) return false;
			continue;
		}
		if ((offset & 7) != 0 || offset < lowest) return false;
		const end = <u64>offset + <u64>rows * load<u32>(defs + i * TABLEDEF_STRIDE + TABLEDEF_ROW_BYTES);
		if (end > <u64>size) return false;
	}
	return true;
}

/** Rows of a detached table: 8 octets of each are counted in 32 bits. */
const MOST_DETACHED_ROWS: u32 = 1 << 29;

/**
 * Proves that walking an image stays inside its window: magic, size, directories, domids ascending. A detached one is
 * refused but to those who ask for its bulk tables' rows.
 */
export function checkImage(ctx: usize, image: usize, bytes: u32, mayBeDetached: bool = false): bool {
	if ((image & 7) != 0 || bytes < DOMAINS_OFFSET) {
		refuse(ctx, RULE_IMAGE, DOMAINS_OFFSET, bytes);
		return false;
	}
	const root = rootOf(image);
	if (root.magic != IMAGE_MAGIC || root.abi != ABI_VERSION) return fail(ctx, RULE_IMAGE, 0, IMAGE_MAGIC, root.magic);
	const directories = <u64>root.domainCount * DOMAIN_DIRECTORY_BYTES + DOMAINS_OFFSET;
	if (root.size > bytes || directories > <u64>root.size) return fail(ctx, RULE_IMAGE, 0, bytes, root.size);
	if (root.domainsOffset != DOMAINS_OFFSET) return fail(ctx, RULE_IMAGE, 0, DOMAINS_OFFSET, root.domainsOffset);
	const most: u32 = mayBeDetached ? IMAGE_DETACHED : 0;
	if (root.flags > most) return fail(ctx, RULE_IMAGE, 0, most, root.flags);
	const detached = isDetached(image);
	const lowest = <u32>directories;
	const host = hostDirectory(image);
	if (!checkDirectory(host, HOST_TABLEDEFS, HOST_TABLES, root.size, lowest, detached))
		return fail(ctx, RULE_IMAGE, 0, root.size, 0);
	const frames = tableRows(host, HT_FRAME_OWNERS);
	if (tableRows(host, HT_FRAME_TYPES) != frames || tableRows(host, HT_FRAME_COUNTS) != frames) {
		return fail(ctx, RULE_IMAGE, 0, frames, tableRows(host, HT_FRAME_TYPES));
	}
	let previous: i64 = -1;
	for (let i: u32 = 0; i < root.domainCount; i++) {
		const entry = domainEntry(image, i);
		const domid = entryDomid(entry);
		if (<i64>domid <= previous || domid >= DOMID_FIRST_RESERVED)
			return fail(ctx, RULE_IMAGE, 0, <u64>(previous + 1), domid);
		previous = domid;
		if (!checkDirectory(domainDirectory(entry), DOMAIN_TABLEDEFS, DOMAIN_TABLES, root.size, lowest, detached)) {
			return fail(ctx, RULE_IMAGE, 0, root.size, domid);
		}
	}
	return true;
}
