/**
 * Page tables of PV guests: real frames, whose entries Xen validates and counts.
 *
 *     plain frame ─ pin, new cr3, an entry of a table above ─> L1..L4 in use ─ last type reference gone ─> plain frame
 *
 * A table is validated when its type comes into use, entry by entry, all or nothing; from then on only Xen writes it. Each
 * present L1 entry holds a page reference on memory, and one to the type "writable" if it is read-write; each L2, L3 and L4
 * entry holds a page and a type reference on the table below. I/O memory is not counted. A guest may map another's frame by
 * a grant, a privileged one by naming its owner: such entries are legal in a table in use, though not in one that is yet
 * to be validated.
 *
 * Of a 32-bit guest there are three levels (PAE), all of them the guest's own: no L4.
 *
 *     L3, four entries ─ [0] to [2] ─> L2 ─────────────────────────────────> L1
 *                      └ [3] ──────> L2 with Xen's part (paeXenL2) ─ below it ─> L1
 *
 * The fourth entry is there from the first validation on, and stays; its L2 table is named by nothing else, since Xen's linear
 * map of that one L3 stands in it. What stands behind the four is cleared when the table is validated: here only then, so that
 * what is refused has changed nothing, in Xen before.
 *
 * Stricter than Xen in one thing: a linear entry may name its own table, but no other one of its level, though what has that is
 * updated.
 */
import { CAP, DOMID, PAGE_TYPE, PAGE_TYPE_FLAG } from "../../format/enums.ts";
import { firstXenSlot, PAE_L3_ENTRIES, PAE_XEN_SLOT } from "../pae.ts";
import type { Domain } from "./domain.ts";
import { need, refuse } from "./errno.ts";
import type { Machine } from "./machine.ts";
import { ENTRY_BYTES } from "./memory.ts";
import { frameOfGfn } from "./p2m.ts";

const ENTRIES = 512;
const PTE = { present: 1n, writable: 2n } as const;
const FRAME_SHIFT = 12n;
const FRAME_MASK = 0xff_ffff_ffffn;
/**
 * What an entry may not have: superpages (bit 7) and cache attributes, but in the L1 entries of a domain with I/O
 * resources, of which bit 7 is one. Bits 52 to 62 are software's; one of them and the global bit are what Xen itself sets in
 * a 64-bit guest's entries, so that tables that were in use have them.
 */
const PTE_ATTRIBUTES = 0x98n;
/** The processor has no use of these in an L3 entry of PAE either, and faults on some: bit 8, and 52 to 63. */
const PAE_L3_ATTRIBUTES = 0xfff0_0000_0000_0100n;
/** Slots of an L4 table that are Xen's own. */
const XEN_SLOTS = { first: 256, last: 271 } as const;
const XEN_L2 = PAGE_TYPE.l2 | PAGE_TYPE_FLAG.paeXenL2;
const DESCRIPTORS_PER_FRAME = 512;
const MOST_DESCRIPTORS = 14 * DESCRIPTORS_PER_FRAME;
const CR3 = 3;
/** CR1 holds the user's page table. */
const CR1 = 1;

const isPresent = (entry: bigint): boolean => (entry & PTE.present) !== 0n;
const isWritable = (entry: bigint): boolean => (entry & PTE.writable) !== 0n;
const frameOf = (entry: bigint): number => Number((entry >> FRAME_SHIFT) & FRAME_MASK);

/** An entry for a frame: present, user, accessed, dirty. */
export function makeEntry(mfn: number, writable: boolean): bigint {
	return (BigInt(mfn) << FRAME_SHIFT) | 0x65n | (writable ? PTE.writable : 0n);
}

const isTable = (type: number): boolean => type >= PAGE_TYPE.l1 && type <= PAGE_TYPE.l4;

/** Whether an entry is the guest's. @param type of the table, with paeXenL2 where it has that */
function isGuestSlot({ isNarrow, tables }: Domain, type: number, slot: number): boolean {
	if (type === PAGE_TYPE.l4) return slot < XEN_SLOTS.first || slot > XEN_SLOTS.last;
	if (type === PAGE_TYPE.l3 && isNarrow) return slot < PAE_L3_ENTRIES;
	return type !== XEN_L2 || slot < firstXenSlot(Number(tables.pv32?.xenStart));
}

function needAllowed({ isNarrow, tables }: Domain, level: number, entry: bigint): void {
	const hasDevices = tables.capRanges.some(({ kind }) => kind === CAP.ioMemory || kind === CAP.ioPort);
	need((level === PAGE_TYPE.l1 && hasDevices) || (entry & PTE_ATTRIBUTES) === 0n, "EINVAL");
	need(level !== PAGE_TYPE.l3 || !isNarrow || (entry & PAE_L3_ATTRIBUTES) === 0n, "EINVAL");
}

// --- references that entries hold ---

/** Whether the domain may map I/O memory. */
function mayMapIo({ tables }: Domain, mfn: number): boolean {
	return tables.capRanges.some(
		({ kind, first, last }) => kind === CAP.ioMemory && BigInt(mfn) >= first && BigInt(mfn) <= last,
	);
}

/** Takes what an L1 entry holds. `owner` is whose frame the guest says that it is. */
function getLowest(machine: Machine, domain: Domain, entry: bigint, owner: number): void {
	const { frames } = machine;
	const mfn = frameOf(entry);
	if (!frames.exists(mfn) || frames.ownerOf(mfn) === DOMID.IO) {
		need(mayMapIo(domain, mfn), "EPERM");
		return;
	}
	if (!frames.tryGet(mfn, owner)) refuse("EBUSY");
	if (isWritable(entry) && machine.isTypedFor(mfn, domain.domid) && !frames.tryWritable(mfn)) {
		frames.put(mfn);
		refuse("EBUSY");
	}
}

function putLowest(machine: Machine, domid: number, entry: bigint): void {
	const { frames } = machine;
	const mfn = frameOf(entry);
	if (!frames.isMemory(mfn)) return;
	if (isWritable(entry) && machine.isTypedFor(mfn, domid)) frames.putWritable(mfn);
	else frames.put(mfn);
}

function getEntry(machine: Machine, domain: Domain, table: number, level: number, entry: bigint, owner: number): void {
	if (!isPresent(entry)) return;
	needAllowed(domain, level, entry);
	if (level === PAGE_TYPE.l1) {
		getLowest(machine, domain, entry, owner);
		return;
	}
	if (frameOf(entry) !== table) getTable(machine, domain, frameOf(entry), level - 1);
	// No linear map by L3 entries of PAE.
	else need(!isWritable(entry) && !(domain.isNarrow && level === PAGE_TYPE.l3), "EINVAL");
}

/** Takes what the fourth entry of a 32-bit guest's L3 table holds: it must be there, and no other L3 name its table. */
function getXenEntry(machine: Machine, domain: Domain, entry: bigint): void {
	const { frames } = machine;
	need(isPresent(entry), "EINVAL");
	needAllowed(domain, PAGE_TYPE.l3, entry);
	const mfn = frameOf(entry);
	getTable(machine, domain, mfn, XEN_L2);
	if (frames.typeReferences(mfn) === 1) return;
	putTable(machine, mfn);
	refuse("EINVAL");
}

function putEntry(machine: Machine, domid: number, table: number, level: number, entry: bigint): void {
	if (!isPresent(entry)) return;
	if (level === PAGE_TYPE.l1) putLowest(machine, domid, entry);
	else if (frameOf(entry) !== table) putTable(machine, frameOf(entry));
}

/**
 * Takes a page reference and one to the type of a table, which is validated if it was not in use; refused as its first bad
 * entry is.
 * @param type a level, with paeXenL2 where the table is to have that
 */
export function getTable(machine: Machine, domain: Domain, mfn: number, type: number): void {
	const { frames, memory } = machine;
	frames.get(mfn, domain.domid);
	if (frames.typeReferences(mfn) > 0) {
		if (frames.tableTypeOf(mfn) !== type) {
			frames.put(mfn);
			refuse("EINVAL");
		}
		frames.addType(mfn);
		return;
	}
	const level = type & ~PAGE_TYPE_FLAG.paeXenL2;
	const isPaeL3 = level === PAGE_TYPE.l3 && domain.isNarrow;
	frames.startType(mfn, type);
	let slot = 0;
	try {
		for (; slot < ENTRIES; slot++) {
			if (!isGuestSlot(domain, type, slot)) continue;
			const entry = memory.entry(mfn, slot);
			if (isPaeL3 && slot === PAE_XEN_SLOT) getXenEntry(machine, domain, entry);
			else getEntry(machine, domain, mfn, level, entry, domain.domid);
		}
	} catch (error) {
		for (let done = 0; done < slot; done++) {
			if (isGuestSlot(domain, type, done)) putEntry(machine, domain.domid, mfn, level, memory.entry(mfn, done));
		}
		frames.dropType(mfn);
		frames.put(mfn);
		throw error;
	}
	// The processor, which runs Xen in 64-bit mode, sees the whole page of an L3 table: Xen clears what the guest need not.
	if (isPaeL3) memory.page(mfn).fill(0, PAE_L3_ENTRIES * ENTRY_BYTES);
}

/** Drops both again; a table in use no more gives up what its entries hold. */
export function putTable(machine: Machine, mfn: number): void {
	const { frames } = machine;
	const [type, level] = [frames.tableTypeOf(mfn), frames.typeOf(mfn)];
	const domain = machine.domain(frames.ownerOf(mfn) as number);
	if (frames.dropType(mfn)) {
		for (let slot = 0; slot < ENTRIES; slot++) {
			if (!isGuestSlot(domain, type, slot)) continue;
			putEntry(machine, domain.domid, mfn, level, machine.memory.entry(mfn, slot));
		}
	}
	frames.put(mfn);
}

// --- hypercalls ---

/**
 * Whether a domain's page tables are unknown: a captured dom0 runs on some that no capture holds, so that nothing can be
 * said of what it changes there.
 */
export function isUnseen({ frames }: Machine, { tables, rootLevel }: Domain): boolean {
	const roots = [...tables.pvVcpu.map((row) => row?.cr[CR3]), ...tables.pv32Vcpu.map((row) => row?.cr3)];
	return roots.some((address = 0n) => address !== 0n && frames.typeOf(frameOf(address)) !== rootLevel);
}

/** A PV domain whose page tables are known; EOPNOTSUPP for a captured dom0. */
function seen(machine: Machine, domid: number): Domain {
	const domain = machine.pv(domid);
	need(!isUnseen(machine, domain), "EOPNOTSUPP");
	return domain;
}

/**
 * mmu_update: one entry of a table, or one word of a plain frame.
 * @param owner whose frame a new L1 entry names; another's only if the caller is privileged, and by GFN if that one has a P2M
 */
export function mmuUpdate(
	machine: Machine,
	domid: number,
	table: number,
	slot: number,
	value: bigint,
	owner = domid,
): number {
	const domain = machine.pv(domid);
	const { frames, memory } = machine;
	need(slot >= 0 && slot < ENTRIES, "EINVAL");
	need(owner === domid || domain.isPrivileged, "EPERM");
	const other = machine.living(owner);
	need(frames.ownerOf(table) === domid, "EINVAL");
	const level = frames.typeOf(table);
	if (!isTable(level)) {
		need(level === PAGE_TYPE.none || level === PAGE_TYPE.writable, "EINVAL");
		memory.setEntry(table, slot, value);
		return 0;
	}
	const type = frames.tableTypeOf(table);
	// Of a 32-bit guest's L3 table the last entry leads to Xen's part, and stays as it was validated.
	need(type !== PAGE_TYPE.l3 || !domain.isNarrow || slot < PAE_XEN_SLOT, "EINVAL");
	need(isGuestSlot(domain, type, slot), type === XEN_L2 ? "EPERM" : "EINVAL");
	let entry = value;
	if (level === PAGE_TYPE.l1 && isPresent(value) && other.isExternal) {
		const mfn = frameOfGfn(machine, other, frameOf(value));
		need(mfn !== undefined, "EINVAL");
		entry = (value & ~(FRAME_MASK << FRAME_SHIFT)) | (BigInt(mfn) << FRAME_SHIFT);
	}
	const old = memory.entry(table, slot);
	const isSame = isPresent(old) && isPresent(entry) && frameOf(old) === frameOf(entry);
	if (isSame && isWritable(old) === isWritable(entry)) {
		needAllowed(domain, level, entry);
		memory.setEntry(table, slot, entry);
		return 0;
	}
	getEntry(machine, domain, table, level, entry, owner);
	memory.setEntry(table, slot, entry);
	putEntry(machine, domid, table, level, old);
	return 0;
}

/** Writes an L1 entry that a grant mapping makes; the references are the grant's to take. Returns false for no L1 table in use. */
export function placeGrantEntry(machine: Machine, domain: Domain, table: number, slot: number, entry: bigint): boolean {
	const { frames, memory } = machine;
	const fits = frames.ownerOf(table) === domain.domid && frames.typeOf(table) === PAGE_TYPE.l1;
	if (!fits || slot < 0 || slot >= ENTRIES) return false;
	const old = memory.entry(table, slot);
	memory.setEntry(table, slot, entry);
	putEntry(machine, domain.domid, table, PAGE_TYPE.l1, old);
	return true;
}

/** Clears an L1 entry that maps `mfn`, without dropping what it holds; false if the guest has changed it. */
export function clearGrantEntry(
	machine: Machine,
	domain: Domain,
	table: number,
	slot: number,
	mfn: number,
	writable: boolean,
): boolean {
	const { frames, memory } = machine;
	const fits = frames.ownerOf(table) === domain.domid && frames.typeOf(table) === PAGE_TYPE.l1;
	if (!fits || slot < 0 || slot >= ENTRIES) return false;
	const entry = memory.entry(table, slot);
	if (!isPresent(entry) || frameOf(entry) !== mfn || isWritable(entry) !== writable) return false;
	memory.setEntry(table, slot, 0n);
	return true;
}

/** MMUEXT_PIN_L1_TABLE to PIN_L4_TABLE: up to the level that the guest's vCPUs run on. */
export function pinTable(machine: Machine, domid: number, mfn: number, level: number): number {
	const domain = seen(machine, domid);
	const { frames } = machine;
	need(isTable(level) && level <= domain.rootLevel, "EINVAL");
	getTable(machine, domain, mfn, level);
	if (frames.isPinned(mfn)) {
		putTable(machine, mfn);
		refuse("EINVAL");
	}
	frames.types[mfn] = (frames.types[mfn] as number) | PAGE_TYPE_FLAG.pinned;
	return 0;
}

/** Drops a pin; false if there is none. */
export function dropPin(machine: Machine, mfn: number): boolean {
	const { frames } = machine;
	if (!frames.isPinned(mfn)) return false;
	frames.types[mfn] = (frames.types[mfn] as number) & ~PAGE_TYPE_FLAG.pinned;
	putTable(machine, mfn);
	return true;
}

/** MMUEXT_UNPIN_TABLE. */
export function unpinTable(machine: Machine, domid: number, mfn: number): number {
	machine.pv(domid);
	need(machine.frames.ownerOf(mfn) === domid && dropPin(machine, mfn), "EINVAL");
	return 0;
}

/** Puts a page table into one of a vCPU's registers; the reference to the old one is dropped. */
function setRoot(machine: Machine, domain: Domain, vcpu: number, register: number, mfn: number | undefined): void {
	const row = domain.context(vcpu);
	const old = frameOf("cr3" in row ? row.cr3 : (row.cr[register] as bigint));
	if (mfn === old) return;
	if (mfn !== undefined) getTable(machine, domain, mfn, domain.rootLevel);
	const address = BigInt(mfn ?? 0) << FRAME_SHIFT;
	if ("cr3" in row) row.cr3 = address;
	else row.cr = row.cr.map((value, i) => (i === register ? address : value));
	// A captured dom0's tables are not known: nothing was counted of them, so nothing is given back.
	if (old !== 0 && isTable(machine.frames.typeOf(old))) putTable(machine, old);
}

/**
 * MMUEXT_NEW_BASEPTR, and of the user's tables MMUEXT_NEW_USER_BASEPTR, which takes 0 for none. A 32-bit guest's user and
 * kernel share theirs.
 */
export function newBaseptr(machine: Machine, domid: number, vcpu: number, mfn: number, user: boolean): number {
	const domain = seen(machine, domid);
	need(user ? !domain.isNarrow : mfn !== 0, "EINVAL");
	setRoot(machine, domain, vcpu, user ? CR1 : CR3, mfn === 0 ? undefined : mfn);
	return 0;
}

function getDescriptors(machine: Machine, domain: Domain, mfn: number): void {
	const { frames } = machine;
	frames.get(mfn, domain.domid);
	if (frames.typeReferences(mfn) === 0) frames.startType(mfn, PAGE_TYPE.segDesc);
	else if (frames.typeOf(mfn) === PAGE_TYPE.segDesc) frames.addType(mfn);
	else {
		frames.put(mfn);
		refuse("EINVAL");
	}
}

function putDescriptors(machine: Machine, mfn: number): void {
	machine.frames.dropType(mfn);
	machine.frames.put(mfn);
}

/** set_gdt: frames of descriptors, which nobody may map writable. */
export function setGdt(
	machine: Machine,
	domid: number,
	vcpu: number,
	mfns: readonly number[],
	entries: number,
): number {
	const domain = seen(machine, domid);
	const row = domain.context(vcpu);
	const count = Math.ceil(entries / DESCRIPTORS_PER_FRAME);
	need(entries <= MOST_DESCRIPTORS && mfns.length >= count, "EINVAL");
	const taken: number[] = [];
	try {
		for (const mfn of mfns.slice(0, count)) {
			getDescriptors(machine, domain, mfn);
			taken.push(mfn);
		}
	} catch (error) {
		for (const mfn of taken) putDescriptors(machine, mfn);
		throw error;
	}
	dropGdt(machine, domain, vcpu);
	row.gdtMfn = row.gdtMfn.map((_, i) => BigInt(taken[i] ?? 0));
	row.gdtEntries = entries;
	return 0;
}

function dropGdt(machine: Machine, domain: Domain, vcpu: number): void {
	const row = domain.context(vcpu);
	const count = Math.ceil(row.gdtEntries / DESCRIPTORS_PER_FRAME);
	for (const mfn of row.gdtMfn.slice(0, count).map(Number)) {
		// As with its tables: a captured dom0's descriptors are not known.
		if (machine.frames.typeOf(mfn) === PAGE_TYPE.segDesc) putDescriptors(machine, mfn);
	}
	row.gdtMfn = row.gdtMfn.map(() => 0n);
	row.gdtEntries = 0;
}

/** A domain dies: its vCPUs' page tables and descriptors, then its pins. */
export function dropAllTables(machine: Machine, domain: Domain): void {
	const { pvVcpu, pv32Vcpu } = domain.tables;
	(domain.isNarrow ? pv32Vcpu : pvVcpu).forEach((row, vcpu) => {
		if (row === undefined) return;
		if (!domain.isNarrow) setRoot(machine, domain, vcpu, CR1, undefined);
		setRoot(machine, domain, vcpu, CR3, undefined);
		dropGdt(machine, domain, vcpu);
	});
	const { frames } = machine;
	for (let mfn = 0; mfn < frames.count; mfn++) {
		if (frames.ownerOf(mfn) === domain.domid) dropPin(machine, mfn);
	}
}

/** What a guest writes into memory that it has for itself: EFAULT on what it cannot map writable. */
export function writeMemory(machine: Machine, domid: number, gfn: number, slot: number, value: bigint): number {
	const domain = machine.living(domid);
	need(slot >= 0 && slot < ENTRIES, "EINVAL");
	const mfn = frameOfGfn(machine, domain, gfn);
	need(mfn !== undefined && machine.frames.ownerOf(mfn) === domid, "EFAULT");
	const type = machine.frames.typeOf(mfn);
	need(!isTable(type) && type !== PAGE_TYPE.segDesc, "EFAULT");
	machine.memory.setEntry(mfn, slot, value);
	return 0;
}
