/**
 * References, rebuilt and never streamed (S2; docs/FORMAT.md, "References that restore rebuilds"). Pass 1h sets where a frame
 * starts; pass 2 only adds, so that domains may come in any order; finish has nothing left but to look.
 *
 * A walked domain is one that owns page tables (a PV one, and they are in preserved memory): each of its mappings is
 * counted where its own entry stands. What a domain that is not walked has mapped is counted at the other end. Which domains are walked is
 * in the plans since check, so that either end may come first.
 */
import { context } from "./context";
import {
	domainDirectory,
	domainEntry,
	entryDomid,
	findDomain,
	hostDirectory,
	rootOf,
	tableAt,
	tableRows,
} from "./image";
import * as L from "./layout.gen";
import { guestEntry, pteFrame, pteWritable, TABLE_ENTRIES, takesType } from "./pageTable";
import { preserved } from "./preserved";
import { guestSlots, isWalked, nextTable, ownerEntry, planAt, planOf, planSlot, typeEntry } from "./sections";
import { domainSums, frameSums } from "./sums";

function frameCount(image: usize): u32 {
	return tableRows(hostDirectory(image), L.HT_FRAME_COUNTS);
}

/** A frame's entry. Of a detached target check's account of it is asked, which the workspace has. */
function ownerOf(ctx: usize, image: usize, mfn: u64): u64 {
	if (context(ctx).detached != 0) return ownerEntry(ctx, mfn) & L.FRAME_ENTRY_MASK;
	return load<u64>(tableAt(image, hostDirectory(image), L.HT_FRAME_OWNERS) + ((<usize>mfn) << 3));
}

/**
 * Of a detached target: adds to the counts of a frame whose row is in the window; others come with theirs (restoreRows.ts).
 * In pass 2 there is no window yet: it notes between which frames the domain's are, so that other windows need not ask it.
 */
function addToRow(c: L.Context, mfn: u64, references: u32, types: u32): void {
	if (c.rowsPtr == 0) {
		c.refsLow = min<u32>(c.refsLow, <u32>mfn);
		c.refsHigh = max<u32>(c.refsHigh, <u32>mfn);
		return;
	}
	const row = mfn - c.rowsFirst;
	if (row >= <u64>c.rowsCount) return;
	const counts = changetype<L.FrameCount>(<usize>c.rowsPtr + ((<usize>row) << 3));
	counts.references += references;
	counts.typeReferences += types;
}

/** Adds to a frame's counts. check has proven the frame and the sums; a frame beyond the table is left alone all the same. */
function add(ctx: usize, mfn: u64, references: u32, types: u32): void {
	if (mfn >= <u64>frameCount(context(ctx).imagePtr)) return;
	if (context(ctx).detached != 0) {
		addToRow(context(ctx), mfn, references, types);
		return;
	}
	const counts = frameSums(ctx, <u32>mfn);
	counts.references += references;
	counts.typeReferences += types;
}

function addDomainReference(ctx: usize, domid: u32): void {
	// While a window's rows are made, domains have been counted already: in pass 2.
	if (context(ctx).rowsPtr != 0) return;
	const slot = domid < L.DOMID_FIRST_RESERVED ? planSlot(ctx, domid) : L.NONE32;
	if (slot != L.NONE32) domainSums(ctx, slot).references++;
}

function domainOf(image: usize, entry: usize): L.Domain {
	return changetype<L.Domain>(tableAt(image, domainDirectory(entry), L.DT_DOMAIN));
}

/** An external guest's frames take no writable-type reference from others' host mappings: its kind is not PV. */
function isExternal(image: usize, entry: usize): bool {
	return domainOf(image, entry).kind != <u8>L.KIND_PV;
}

/** Where the bits of an owner's entry go that become a frame's first references. */
const ALLOCATED_SHIFT: u64 = ctz<u32>(L.FRAME_ALLOCATED);
const XENHEAP_SHIFT: u64 = 32 - <u64>ctz<u32>(L.FRAME_XENHEAP);

/** Counts that a frame of this owner starts with, as FrameCount has them: references, then type references. */
export function firstCounts(owner: u64): u64 {
	const isGuest = (owner & L.FRAME_OWNER_MASK) < L.DOMID_FIRST_RESERVED;
	const references = (owner >>> ALLOCATED_SHIFT) & 1;
	return references | (isGuest ? (owner & L.FRAME_XENHEAP) << XENHEAP_SHIFT : 0);
}

/** The same for two frames. */
function firstCountsPair(owners: v128): v128 {
	const isGuest = i64x2.lt_s(v128.and(owners, i64x2.splat(L.FRAME_OWNER_MASK)), i64x2.splat(L.DOMID_FIRST_RESERVED));
	const references = v128.and(i64x2.shr_u(owners, <i32>ALLOCATED_SHIFT), i64x2.splat(1));
	const xenheap = v128.and(owners, i64x2.splat(L.FRAME_XENHEAP));
	return v128.or(references, v128.and(i64x2.shl(xenheap, <i32>XENHEAP_SHIFT), isGuest));
}

/**
 * Pass 1h, after the owners of frames [first, end): a frame starts with one reference if allocated, none if not (a dead
 * domain's); a xenheap frame shared with a guest starts at one of each. Frames of nobody are neither, check has seen to it.
 */
export function startFrames(ctx: usize, first: u32, end: u32): void {
	const image = <usize>context(ctx).imagePtr;
	const host = hostDirectory(image);
	// Not the worker's own counts: nobody else has these frames now, and pass 2 has not begun.
	const counts = tableAt(image, host, L.HT_FRAME_COUNTS) + ((<usize>first) << 3);
	let from = tableAt(image, host, L.HT_FRAME_OWNERS) + ((<usize>first) << 3);
	const distance = counts - from;
	const last = from + ((<usize>(end - first)) << 3);
	if (ASC_FEATURE_SIMD) {
		for (; from + 32 <= last; from += 32) {
			const pair = firstCountsPair(v128.load(from));
			const next = firstCountsPair(v128.load(from, 16));
			v128.store(from + distance, pair);
			v128.store(from + distance, next, 16);
		}
	}
	for (; from < last; from += 8) store<u64>(from + distance, firstCounts(load<u64>(from)));
}

/**
 * Pass 1h: how many frames a domain has, check has counted. It starts with one reference while it lives, one if it has
 * frames, extra ones among them, one if it has xenheap frames; each domain that handles a global VIRQ has one more.
 */
export function startDomains(ctx: usize): void {
	const image = <usize>context(ctx).imagePtr;
	const root = rootOf(image);
	for (let i: u32 = 0; i < root.domainCount; i++) {
		const sums = domainSums(ctx, i);
		const plan = planAt(ctx, i);
		sums.frames += plan.frames;
		sums.xenheapFrames += plan.xenheapFrames;
		sums.extraFrames += plan.extraFrames;
		sums.references += domainOf(image, domainEntry(image, i)).life == <u8>L.LIFE_ALIVE ? 1 : 0;
		sums.references += (sums.frames | sums.extraFrames) != 0 ? 1 : 0;
		sums.references += sums.xenheapFrames != 0 ? 1 : 0;
	}
	const host = hostDirectory(image);
	const handlers = tableAt(image, host, L.HT_VIRQ_HANDLERS);
	const count = tableRows(host, L.HT_VIRQ_HANDLERS);
	for (let i: u32 = 0; i < count; i++) {
		addDomainReference(ctx, changetype<L.VirqHandler>(handlers + i * L.VIRQ_HANDLER_BYTES).domid);
	}
}

/**
 * Pass 2, the granting side: per mapping one page reference and, if writable, one writable-type reference. A device
 * mapping takes both whoever granted it; a host mapping of an external guest's frame takes the type only where the guest
 * itself is the grantee. Host mappings of a walked grantee stand in its own L1 tables. I/O memory takes none.
 */
function addGrants(ctx: usize, image: usize, entry: usize): void {
	const directory = domainDirectory(entry);
	const rows = tableRows(directory, L.DT_GRANT_ACTIVE);
	const table = tableAt(image, directory, L.DT_GRANT_ACTIVE);
	const external = isExternal(image, entry);
	for (let i: u32 = 0; i < rows; i++) {
		const grant = changetype<L.GrantActive>(table + i * L.GRANT_ACTIVE_BYTES);
		if (load<u32>(changetype<usize>(grant) + L.GRANT_ACTIVE__HOST_WRITE) == 0) continue;
		if (grant.mfn >= <u64>frameCount(image)) continue;
		if ((<u32>ownerOf(ctx, image, grant.mfn) & L.FRAME_OWNER_MASK) == L.DOMID_IO) continue;
		add(ctx, grant.mfn, <u32>grant.deviceWrite + grant.deviceRead, grant.deviceWrite);
		if (isWalked(ctx, grant.grantee)) continue;
		const typed = !external || grant.grantee == <u16>entryDomid(entry);
		add(ctx, grant.mfn, <u32>grant.hostWrite + grant.hostRead, typed ? grant.hostWrite : 0);
	}
}

/** An L1 table's entries: frames that nobody owns are I/O memory, as DOMID_IO's are, and take nothing. */
function addL1(ctx: usize, image: usize, domid: u32, page: usize): void {
	for (let slot: u32 = 0; slot < TABLE_ENTRIES; slot++) {
		const pte = guestEntry(page, L.PAGE_TYPE_L1, slot);
		if (pte == 0 || pteFrame(pte) >= <u64>frameCount(image)) continue;
		const target = ownerOf(ctx, image, pteFrame(pte));
		const owner = <u32>target & L.FRAME_OWNER_MASK;
		if ((target & L.FRAME_OWNED) == 0 || owner == L.DOMID_IO) continue;
		let types: u32 = 0;
		if (pteWritable(pte)) {
			const other = findDomain(image, owner);
			types = takesType(domid, owner, other ? domainOf(image, other).kind : 0) ? 1 : 0;
		}
		add(ctx, pteFrame(pte), 1, types);
	}
}

/** What a walked domain's page tables hold, and what holds them: entries, pins. */
function addTables(ctx: usize, image: usize, domid: u32): void {
	const plan = planOf(ctx, domid);
	if (!plan) return;
	const detached = context(ctx).detached != 0;
	const types = tableAt(image, hostDirectory(image), L.HT_FRAME_TYPES);
	let next = plan.firstTable;
	for (let i: u32 = 0; i < plan.tableCount && next != 0; i++) {
		const mfn = <u64>next - 1;
		if (mfn >= <u64>frameCount(image)) return;
		next = nextTable(ctx, mfn);
		const type = detached ? typeEntry(ctx, mfn) : <u32>load<u8>(types + <usize>mfn);
		const level = type & 7;
		if ((type & L.PAGE_TYPE_FLAG_PINNED) != 0) add(ctx, mfn, 1, 1);
		const page = preserved(ctx, mfn);
		if (!page) continue;
		if (level == L.PAGE_TYPE_L1) {
			addL1(ctx, image, domid, page);
			continue;
		}
		const slots = guestSlots(plan, level, (type & L.PAGE_TYPE_FLAG_PAE_XEN_L2) != 0);
		for (let slot: u32 = 0; slot < slots; slot++) {
			const pte = guestEntry(page, level, slot);
			// A linear map of the table by itself holds nothing: it would keep itself alive.
			if (pte != 0 && pteFrame(pte) != mfn) add(ctx, pteFrame(pte), 1, 1);
		}
	}
}

/** What the vCPUs of a walked domain run on: CR3, a 64-bit user's in CR1, GDT frames; of vCPUs that are down as well. */
function addRoots(ctx: usize, image: usize, domid: u32, directory: usize): void {
	if (!isWalked(ctx, domid)) return;
	const vcpuTable = tableAt(image, directory, L.DT_VCPU);
	const contexts = tableAt(image, directory, L.DT_PV_VCPU);
	const rows = min<u32>(tableRows(directory, L.DT_PV_VCPU), tableRows(directory, L.DT_VCPU));
	for (let v: u32 = 0; v < rows; v++) {
		const flags = changetype<L.Vcpu>(vcpuTable + v * L.VCPU_BYTES).flags;
		if ((flags & L.VCPU_FLAG_INITIALISED) == 0) continue;
		const row = contexts + v * L.PV_VCPU_BYTES;
		for (let i: u32 = 1; i <= 3; i += 2) {
			const root = load<u64>(row + L.PV_VCPU__CR + i * 8);
			if (root != 0) add(ctx, root >> 12, 1, 1);
		}
		addGdt(ctx, row + L.PV_VCPU__GDT_MFN, changetype<L.PvVcpu>(row).gdtEntries);
	}
	const narrow = tableAt(image, directory, L.DT_PV32_VCPU);
	const narrowRows = min<u32>(tableRows(directory, L.DT_PV32_VCPU), tableRows(directory, L.DT_VCPU));
	for (let v: u32 = 0; v < narrowRows; v++) {
		const flags = changetype<L.Vcpu>(vcpuTable + v * L.VCPU_BYTES).flags;
		if ((flags & L.VCPU_FLAG_INITIALISED) == 0) continue;
		const vcpu = changetype<L.Pv32Vcpu>(narrow + v * L.PV32_VCPU_BYTES);
		if (vcpu.cr3 != 0) add(ctx, vcpu.cr3 >> 12, 1, 1);
		addGdt(ctx, changetype<usize>(vcpu) + L.PV32_VCPU__GDT_MFN, vcpu.gdtEntries);
	}
}

/** The frames of a vCPU's GDT, whose MFNs stand at `frames`. */
function addGdt(ctx: usize, frames: usize, entries: u32): void {
	const count = min<u32>((entries + 511) >>> 9, 16);
	for (let i: u32 = 0; i < count; i++) add(ctx, load<u64>(frames + i * 8), 1, 1);
}

function addForeignMaps(ctx: usize, image: usize, directory: usize): void {
	const rows = tableRows(directory, L.DT_FOREIGN_MAP_LIST);
	const table = tableAt(image, directory, L.DT_FOREIGN_MAP_LIST);
	for (let i: u32 = 0; i < rows; i++) add(ctx, changetype<L.ForeignMap>(table + i * L.FOREIGN_MAP_BYTES).mfn, 1, 0);
}

/** Guest frames that the hypervisor itself has mapped: one page and one writable-type reference each. */
function addGuestFrames(ctx: usize, image: usize, directory: usize): void {
	const vcpus = tableRows(directory, L.DT_VCPU);
	const vcpuTable = tableAt(image, directory, L.DT_VCPU);
	for (let v: u32 = 0; v < vcpus; v++) {
		const vcpu = changetype<L.Vcpu>(vcpuTable + v * L.VCPU_BYTES);
		if ((vcpu.flags & L.VCPU_FLAG_EXISTS) != 0) add(ctx, vcpu.vcpuInfoMfn, 1, 1);
	}
	const blocks = tableRows(directory, L.DT_CONTROL_BLOCKS);
	const blockTable = tableAt(image, directory, L.DT_CONTROL_BLOCKS);
	for (let i: u32 = 0; i < blocks; i++) {
		add(ctx, changetype<L.ControlBlock>(blockTable + i * L.CONTROL_BLOCK_BYTES).mfn, 1, 1);
	}
	const arrays = tableRows(directory, L.DT_EVENT_ARRAYS);
	const arrayTable = tableAt(image, directory, L.DT_EVENT_ARRAYS);
	for (let i: u32 = 0; i < arrays; i++) add(ctx, load<u64>(arrayTable + i * L.MFN_BYTES), 1, 1);
	if (tableRows(directory, L.DT_DOMAIN_STATE) == 0) return;
	add(ctx, changetype<L.DomainState>(tableAt(image, directory, L.DT_DOMAIN_STATE)).pirqEoiMfn, 1, 1);
}

/** Whether a server's emulator has its pages mapped without an entry that is counted: a living PV domain that is not walked. */
function emulatorIsUncounted(ctx: usize, image: usize, directory: usize, serverId: u32): bool {
	const rows = tableRows(directory, L.DT_IOREQ_SERVER_LIST);
	const table = tableAt(image, directory, L.DT_IOREQ_SERVER_LIST);
	for (let i: u32 = 0; i < rows; i++) {
		const server = changetype<L.IoreqServer>(table + i * L.IOREQ_SERVER_BYTES);
		if (server.serverId != serverId) continue;
		const emulator = findDomain(image, server.emulator);
		if (emulator == 0 || domainOf(image, emulator).life == <u8>L.LIFE_DEAD) return false;
		return !isExternal(image, emulator) && !isWalked(ctx, server.emulator);
	}
	return false;
}

/**
 * An I/O request server's page: one reference for the server, which maps it writable. An emulator that has acquired it as
 * a resource has one more: in its L1 table, or as a foreign entry of its P2M, and only else counted here.
 */
function addIoreqServers(ctx: usize, image: usize, directory: usize): void {
	const pages = tableRows(directory, L.DT_IOREQ_PAGES);
	const pageTable = tableAt(image, directory, L.DT_IOREQ_PAGES);
	for (let i: u32 = 0; i < pages; i++) {
		const page = changetype<L.IoreqPage>(pageTable + i * L.IOREQ_PAGE_BYTES);
		const acquired = (page.flags & <u16>L.IOREQ_PAGE_FLAG_RESOURCE) != 0;
		add(ctx, page.mfn, acquired && emulatorIsUncounted(ctx, image, directory, page.serverId) ? 2 : 1, 1);
	}
	const servers = tableRows(directory, L.DT_IOREQ_SERVER_LIST);
	const serverTable = tableAt(image, directory, L.DT_IOREQ_SERVER_LIST);
	for (let i: u32 = 0; i < servers; i++) {
		addDomainReference(ctx, changetype<L.IoreqServer>(serverTable + i * L.IOREQ_SERVER_BYTES).emulator);
	}
}

/** Pass 2 of one domain: all that its tables hold of frames and of other domains. */
export function addReferences(ctx: usize, entry: usize): void {
	const image = <usize>context(ctx).imagePtr;
	const directory = domainDirectory(entry);
	addGrants(ctx, image, entry);
	addForeignMaps(ctx, image, directory);
	addGuestFrames(ctx, image, directory);
	addTables(ctx, image, entryDomid(entry));
	addRoots(ctx, image, entryDomid(entry), directory);
	addIoreqServers(ctx, image, directory);
	if (tableRows(directory, L.DT_DOMAIN_STATE) == 0) return;
	addDomainReference(ctx, changetype<L.DomainState>(tableAt(image, directory, L.DT_DOMAIN_STATE)).target);
}
