/**
 * Grant tables. The granting guest writes an entry; whoever it names maps it, which pins the entry and gives a handle.
 *
 *     entry written ─ map ─> active, pinned; handle in the mapper's maptrack ─ unmap ─> entry free again when all are gone
 *
 * References of a mapping: one page reference, and one to the type "writable" for a read-write one, which a host mapping
 * of an external guest's frame does not take unless it is that guest's own, and a device mapping always takes. A PV
 * mapper's host mapping stands in an L1 table of his, a PVH mapper's in his P2M.
 */
import { FRAME, GRANT_MAP, KIND, NONE64, P2M_ACCESS, P2M_TYPE } from "../../format/enums.ts";
import {
	GRANT_ENTRIES_PER_FRAME,
	GTF,
	GTF_PERMIT_ACCESS,
	GTF_TRANSITIVE,
	grantStatusPlace,
	PAGE_BYTES,
	type PartGrant,
	type PassedGrant,
	readGrantPart,
	readGrantPassed,
	readGrantStatus,
	readGrantV1,
	readGrantV2,
	statusFrameCount,
	writeGrantPart,
	writeGrantPassed,
	writeGrantStatusWord,
	writeGrantV1,
	writeGrantV2,
} from "../guestPages.ts";
import type { ActiveRow, MaptrackRow } from "../readImage.ts";
import type { Domain } from "./domain.ts";
import { need, needGrant, Refused, refuseGrant } from "./errno.ts";
import type { Machine } from "./machine.ts";
import { frameOfGfn, lookUp, setEntry } from "./p2m.ts";
import { clearGrantEntry, makeEntry, placeGrantEntry } from "./pageTables.ts";

const FIRST_FREE_REFERENCE = 8;
const MAPTRACK_PER_FRAME = PAGE_BYTES / 16;
/** Each counter of pins has 8 bits, of which the highest is a warning. */
const MOST_PINS = 128;

type Version = 1 | 2;
type Pins = "hostWrite" | "hostRead" | "deviceWrite" | "deviceRead";

const versionOf = ({ tables }: Domain): Version => (tables.grantTable?.version === 2 ? 2 : 1);
const capacityOf = (domain: Domain): number =>
	domain.tables.grantFrames.length * GRANT_ENTRIES_PER_FRAME[versionOf(domain)];

/** A granting domain's page of shared entries, and the entry's place in it. */
function placeOf(machine: Machine, domain: Domain, ref: number): { page: Uint8Array; index: number } {
	const perFrame = GRANT_ENTRIES_PER_FRAME[versionOf(domain)];
	const frame = domain.tables.grantFrames[Math.floor(ref / perFrame)];
	if (frame === undefined) throw new Error(`domain ${domain.domid} has no grant ${ref}`);
	return { page: machine.memory.page(Number(frame.mfn)), index: ref % perFrame };
}

function readShared(machine: Machine, domain: Domain, ref: number) {
	const { page, index } = placeOf(machine, domain, ref);
	return versionOf(domain) === 1 ? readGrantV1(page, index) : readGrantV2(page, index);
}

/** What a guest has written at a reference; undefined outside its table. */
export function sharedEntry(machine: Machine, domain: Domain, ref: number) {
	return ref >= 0 && ref < capacityOf(domain) ? readShared(machine, domain, ref) : undefined;
}

function writeShared(
	machine: Machine,
	domain: Domain,
	ref: number,
	entry: { flags: number; domid: number; frame: number },
): void {
	const { page, index } = placeOf(machine, domain, ref);
	if (versionOf(domain) === 1) writeGrantV1(page, index, entry);
	else writeGrantV2(page, index, entry);
}

/** Where Xen notes for the guest that a grant is mapped: in the entry's flags, of version 2 in the status word. */
function changeStatus(machine: Machine, domain: Domain, ref: number, set: number, clear: number): void {
	// A dead guest has no table to be told in.
	if (domain.tables.grantFrames.length === 0) return;
	if (versionOf(domain) === 1) {
		const entry = readShared(machine, domain, ref);
		writeShared(machine, domain, ref, { ...entry, flags: (entry.flags | set) & ~clear });
		return;
	}
	const { frame, index } = grantStatusPlace(ref);
	const page = machine.memory.page(Number(domain.tables.statusFrames[frame]?.mfn));
	writeGrantStatusWord(page, index, (readGrantStatus(page, index) | set) & ~clear);
}

/** What stands there of a grant: being read, being written. */
function statusOf(machine: Machine, domain: Domain, ref: number): number {
	const noted = GTF.reading | GTF.writing;
	if (versionOf(domain) === 1) return readShared(machine, domain, ref).flags & noted;
	const { frame, index } = grantStatusPlace(ref);
	return readGrantStatus(machine.memory.look(Number(domain.tables.statusFrames[frame]?.mfn)), index) & noted;
}

// --- the table ---

/** Adds frames up to so many, then does what has to follow; all or nothing. */
function growFrames(
	machine: Machine,
	domain: Domain,
	list: Domain["tables"]["grantFrames"],
	count: number,
	then: () => void = () => {},
): void {
	const had = list.length;
	try {
		while (list.length < count) list.push({ mfn: BigInt(machine.allocateShared(domain)), gfn: NONE64 });
		then();
	} catch (error) {
		for (const { mfn } of list.splice(had)) machine.freeShared(Number(mfn));
		throw error;
	}
}

/** Grows a domain's table to so many shared frames. */
function growTable(machine: Machine, domain: Domain, frameCount: number): void {
	const { tables } = domain;
	const version = versionOf(domain);
	growFrames(machine, domain, tables.grantFrames, frameCount, () =>
		growFrames(machine, domain, tables.statusFrames, statusFrameCount(version, frameCount)),
	);
	while (tables.grantActive.length < frameCount * GRANT_ENTRIES_PER_FRAME[version]) tables.grantActive.push(undefined);
}

/** A new domain's table: one frame, version 1. */
export function makeGrantTable(machine: Machine, domain: Domain): void {
	domain.tables.grantTable = { version: 1, grantFrameCount: 0, statusFrameCount: 0, maptrackFrameCount: 0 };
	growTable(machine, domain, 1);
}

/** GNTTABOP_setup_table: at least so many frames. */
export function setupTable(machine: Machine, domid: number, frameCount: number): number {
	const domain = machine.domains.get(domid);
	needGrant(domain !== undefined && !domain.isDead, "bad_domain");
	needGrant(frameCount <= domain.tables.domain.maxGrantFrames, "general_error");
	try {
		growTable(machine, domain, frameCount);
	} catch (error) {
		throw error instanceof Refused ? new Refused("GNTST_no_space", -13) : error;
	}
	return 0;
}

/**
 * GNTTABOP_set_version: not while a grant is active. The entries of the toolstack, 0 to 7, are kept, and may be mapped:
 * the status of those moves between entry and status word.
 */
export function setVersion(machine: Machine, domid: number, version: number): number {
	const domain = machine.living(domid);
	const { tables } = domain;
	need(version === 1 || version === 2, "EINVAL");
	need(version <= tables.domain.grantVersionLimit, "ENOSYS");
	if (version === versionOf(domain)) return 0;
	need(!tables.grantActive.some((row, ref) => row !== undefined && ref >= FIRST_FREE_REFERENCE), "EBUSY");
	const keptActive = tables.grantActive.slice(0, FIRST_FREE_REFERENCE);
	const kept = keptActive.map((_, ref) => ({
		...readShared(machine, domain, ref),
		status: statusOf(machine, domain, ref),
	}));
	// A version 1 entry has 32 bits for its frame, and no parts of pages or passed grants.
	const isWhole = ({ flags }: { flags: number }) => !(flags & GTF.subPage) && (flags & GTF.typeMask) !== GTF_TRANSITIVE;
	need(version === 2 || kept.every(isWhole), "ERANGE");
	need(version === 2 || kept.every(({ frame }) => frame < 2 ** 32), "ERANGE");
	if (version === 2) growFrames(machine, domain, tables.statusFrames, statusFrameCount(2, tables.grantFrames.length));
	else for (const { mfn } of tables.statusFrames.splice(0)) machine.freeShared(Number(mfn));
	for (const { mfn } of tables.grantFrames) machine.memory.page(Number(mfn)).fill(0);
	tables.grantTable = { ...(tables.grantTable as NonNullable<typeof tables.grantTable>), version };
	const slots = tables.grantFrames.length * GRANT_ENTRIES_PER_FRAME[version];
	tables.grantActive = Array.from({ length: slots }, (_, ref) => keptActive[ref]);
	kept.forEach(({ status, ...entry }, ref) => {
		writeShared(machine, domain, ref, { ...entry, flags: entry.flags & (GTF.typeMask | GTF.readonly) });
		changeStatus(machine, domain, ref, status, 0);
	});
	return 0;
}

// --- the granting guest ---

/** A guest writes an entry: `grantee` may map its frame. EINVAL outside its table. */
export function grant(
	machine: Machine,
	domid: number,
	ref: number,
	grantee: number,
	gfn: number,
	readonly: boolean,
): number {
	const domain = machine.living(domid);
	need(ref >= 0 && ref < capacityOf(domain), "EINVAL");
	need(gfn >= 0 && gfn < 2 ** 32, "EINVAL");
	const flags = GTF_PERMIT_ACCESS | (readonly ? GTF.readonly : 0);
	// A guest that writes over an entry in use keeps what Xen noted there, as a compare-and-exchange would.
	const old = readShared(machine, domain, ref).flags & (GTF.reading | GTF.writing);
	writeShared(machine, domain, ref, { flags: flags | old, domid: grantee, frame: gfn });
	return 0;
}

/** A guest grants a part of its frame (version 2): to be copied, never mapped. EINVAL outside its table or the page. */
export function grantPart(
	machine: Machine,
	domid: number,
	ref: number,
	grantee: number,
	gfn: number,
	{ pageOffset, length }: PartGrant,
	readonly: boolean,
): number {
	const domain = machine.living(domid);
	need(ref >= 0 && ref < capacityOf(domain) && versionOf(domain) === 2, "EINVAL");
	need(gfn >= 0 && gfn < 2 ** 32 && pageOffset + length <= PAGE_BYTES, "EINVAL");
	const flags = GTF_PERMIT_ACCESS | GTF.subPage | (readonly ? GTF.readonly : 0);
	const { page, index } = placeOf(machine, domain, ref);
	writeGrantPart(page, index, { flags, domid: grantee, frame: gfn, pageOffset, length });
	return 0;
}

/** A guest passes on what another domain has granted to it (version 2): to be copied, never mapped. EINVAL outside its table. */
export function grantPassed(
	machine: Machine,
	domid: number,
	ref: number,
	grantee: number,
	source: PassedGrant,
	readonly: boolean,
): number {
	const domain = machine.living(domid);
	need(ref >= 0 && ref < capacityOf(domain) && versionOf(domain) === 2, "EINVAL");
	const flags = GTF_TRANSITIVE | (readonly ? GTF.readonly : 0);
	const { page, index } = placeOf(machine, domain, ref);
	writeGrantPassed(page, index, { flags, domid: grantee, ...source });
	return 0;
}

/** A guest ends an access: EBUSY while the grant is mapped, as the status tells it. */
export function endAccess(machine: Machine, domid: number, ref: number): number {
	const domain = machine.living(domid);
	need(ref >= 0 && ref < capacityOf(domain), "EINVAL");
	need(statusOf(machine, domain, ref) === 0, "EBUSY");
	writeShared(machine, domain, ref, { flags: 0, domid: 0, frame: 0 });
	return 0;
}

// --- mapping ---

export interface MapRequest {
	/** The mapping domain, and a vCPU of it whose free list the handle comes from. */
	domid: number;
	vcpu: number;
	granter: number;
	ref: number;
	/** GRANT_MAP bits. */
	flags: number;
	/** Where a host mapping goes: a PV domain's L1 table and slot, a PVH domain's GFN. */
	table: number;
	slot: number;
	gfn: number;
}

/** GNTTABOP_map_grant_ref. @returns the handle */
export function map(machine: Machine, request: MapRequest): number {
	const { domid, granter, ref, flags } = request;
	const domain = machine.domains.get(domid);
	needGrant(domain !== undefined && !domain.isDead, "bad_domain");
	needGrant((flags & (GRANT_MAP.host | GRANT_MAP.device)) !== 0 && flags <= 7, "bad_gntref");
	needGrant(!domain.isExternal || !(flags & GRANT_MAP.device), "general_error");
	const other = machine.domains.get(granter);
	needGrant(other !== undefined && !other.isDead, "bad_domain");
	needGrant(ref >= 0 && ref < capacityOf(other), "bad_gntref");
	const isReadonly = (flags & GRANT_MAP.readonly) !== 0;
	const handle = freeHandle(domain);
	const old = other.tables.grantActive[ref];
	if (old) {
		needGrant(old.grantee === domid, "general_error");
		const counters: Pins[] = ["hostWrite", "hostRead", "deviceWrite", "deviceRead"];
		needGrant(!counters.some((counter) => old[counter] >= MOST_PINS), "general_error");
	}
	const isWritten = (old?.hostWrite ?? 0) + (old?.deviceWrite ?? 0) > 0;
	if (!old || (!isReadonly && !isWritten)) {
		const entry = readShared(machine, other, ref);
		// Parts of pages and passed grants are for copies alone.
		const isPermitted = (entry.flags & (GTF.typeMask | subPageOf(other))) === GTF_PERMIT_ACCESS;
		needGrant(isPermitted && entry.domid === domid, "general_error");
		needGrant(isReadonly || !(entry.flags & GTF.readonly), "general_error");
	}
	const mfn = old ? Number(old.mfn) : frameOfGrant(machine, other, readShared(machine, other, ref).frame);
	takeReferences(machine, domain, mfn, flags);
	try {
		if (flags & GRANT_MAP.host) placeMapping(machine, domain, request, mfn, isReadonly);
	} catch (error) {
		dropReferences(machine, domain.domid, mfn, flags);
		throw error;
	}
	const active = old ?? { mfn: BigInt(mfn), grantee: domid, hostWrite: 0, hostRead: 0, deviceWrite: 0, deviceRead: 0 };
	changePins(active, flags, 1);
	other.tables.grantActive[ref] = active;
	changeStatus(machine, other, ref, GTF.reading | (isReadonly ? 0 : GTF.writing), 0);
	placeHandle(domain, handle, { reference: ref, vcpuId: request.vcpu, domid: granter, flags });
	return handle;
}

/** The granted frame: memory of the granting domain. */
function frameOfGrant(machine: Machine, domain: Domain, gfn: number): number {
	let mfn: number | undefined;
	try {
		mfn = frameOfGfn(machine, domain, gfn);
	} catch (error) {
		if (!(error instanceof Refused)) throw error;
	}
	needGrant(mfn !== undefined && machine.frames.references(mfn) > 0, "bad_page");
	return mfn;
}

/** What both kinds of mapping hold together: a page reference for each, a type for each that is typed. */
function takeReferences(machine: Machine, domain: Domain, mfn: number, flags: number): void {
	const { frames } = machine;
	const taken: (() => void)[] = [];
	const take = (typed: boolean): void => {
		const isTaken = typed ? tryGetWritable(machine, mfn) : frames.tryGet(mfn);
		if (isTaken) {
			taken.push(() => (typed ? frames.putWritable(mfn) : frames.put(mfn)));
			return;
		}
		for (const undo of taken) undo();
		refuseGrant("general_error");
	};
	const isWritable = !(flags & GRANT_MAP.readonly);
	if (flags & GRANT_MAP.device) take(isWritable);
	if (flags & GRANT_MAP.host) take(isWritable && machine.isTypedFor(mfn, domain.domid));
}

function tryGetWritable({ frames }: Machine, mfn: number): boolean {
	if (!frames.tryGet(mfn)) return false;
	if (frames.tryWritable(mfn)) return true;
	frames.put(mfn);
	return false;
}

function dropReferences(machine: Machine, mapper: number, mfn: number, flags: number): void {
	const { frames } = machine;
	const isWritable = !(flags & GRANT_MAP.readonly);
	const isTyped = isWritable && machine.isTypedFor(mfn, mapper);
	const drop = (typed: boolean): void => (typed ? frames.putWritable(mfn) : frames.put(mfn));
	if (flags & GRANT_MAP.host) drop(isTyped);
	if (flags & GRANT_MAP.device) drop(isWritable);
}

function changePins(active: ActiveRow, flags: number, step: 1 | -1): void {
	const isReadonly = (flags & GRANT_MAP.readonly) !== 0;
	// Never below none: a handle that outlived its grant may find a later one of the same number.
	const change = (counter: Pins): void => {
		active[counter] = Math.max(0, active[counter] + step);
	};
	if (flags & GRANT_MAP.host) change(isReadonly ? "hostRead" : "hostWrite");
	if (flags & GRANT_MAP.device) change(isReadonly ? "deviceRead" : "deviceWrite");
}

/** A host mapping: an L1 entry of a PV domain, a P2M entry of a PVH one. */
function placeMapping(machine: Machine, domain: Domain, request: MapRequest, mfn: number, readonly: boolean): void {
	if (!domain.isExternal) {
		const entry = makeEntry(mfn, !readonly);
		needGrant(placeGrantEntry(machine, domain, request.table, request.slot, entry), "general_error");
		return;
	}
	const { gfn } = request;
	needGrant(gfn >= 0 && gfn < 2 ** 22 && lookUp(domain, gfn) === undefined, "general_error");
	const type = readonly ? P2M_TYPE.grantMapRo : P2M_TYPE.grantMapRw;
	const access = readonly ? P2M_ACCESS.r : P2M_ACCESS.rw;
	try {
		setEntry(machine, domain, gfn, { mfn, type, access, order: 0 });
	} catch (error) {
		throw error instanceof Refused ? new Refused("GNTST_general_error", -1) : error;
	}
}

// --- handles ---

/** The lowest handle that is free; GNTST_no_device_space where the maptrack may not grow. */
function freeHandle({ tables }: Domain): number {
	const free = tables.maptrack.indexOf(undefined);
	if (free >= 0) return free;
	const frames = tables.maptrack.length / MAPTRACK_PER_FRAME;
	needGrant(frames < tables.domain.maxMaptrackFrames, "no_device_space");
	return tables.maptrack.length;
}

function placeHandle({ tables }: Domain, handle: number, row: MaptrackRow): void {
	if (handle >= tables.maptrack.length) {
		tables.maptrack.push(...new Array(MAPTRACK_PER_FRAME).fill(undefined));
		const table = tables.grantTable as NonNullable<typeof tables.grantTable>;
		table.maptrackFrameCount = tables.maptrack.length / MAPTRACK_PER_FRAME;
	}
	tables.maptrack[handle] = row;
}

export interface UnmapRequest {
	domid: number;
	handle: number;
	/** Where the host mapping is. */
	table: number;
	slot: number;
	gfn: number;
}

/** GNTTABOP_unmap_grant_ref: all that the handle maps. */
export function unmap(machine: Machine, request: UnmapRequest): number {
	const domain = machine.domains.get(request.domid);
	needGrant(domain !== undefined && !domain.isDead, "bad_domain");
	const row = domain.tables.maptrack[request.handle];
	needGrant(row !== undefined, "bad_handle");
	const granter = machine.domains.get(row.domid);
	const active = granter?.tables.grantActive[row.reference];
	// A mapping that the guest wrote over held nothing: the granting domain may be gone, or another one by now.
	needGrant(granter !== undefined, "bad_domain");
	needGrant(active !== undefined && active.grantee === request.domid, "general_error");
	const mfn = Number(active.mfn);
	const isReadonly = (row.flags & GRANT_MAP.readonly) !== 0;
	if (row.flags & GRANT_MAP.host) {
		if (!domain.isExternal) {
			const { table, slot } = request;
			needGrant(clearGrantEntry(machine, domain, table, slot, mfn, !isReadonly), "general_error");
		} else {
			const entry = lookUp(domain, request.gfn);
			const type = isReadonly ? P2M_TYPE.grantMapRo : P2M_TYPE.grantMapRw;
			needGrant(entry?.type === type && entry.mfn === mfn, "general_error");
			setEntry(machine, domain, request.gfn, undefined);
		}
	}
	domain.tables.maptrack[request.handle] = undefined;
	release(machine, granter, row, active);
	dropReferences(machine, domain.domid, mfn, row.flags);
	return 0;
}

/** Takes a handle's pins off its grant; one that is pinned no more is active no more. */
function release(machine: Machine, granter: Domain, row: MaptrackRow, active: ActiveRow): void {
	changePins(active, row.flags, -1);
	const isWritten = active.hostWrite + active.deviceWrite > 0;
	const isMapped = isWritten || active.hostRead + active.deviceRead > 0;
	const clear = (isWritten ? 0 : GTF.writing) | (isMapped ? 0 : GTF.reading);
	changeStatus(machine, granter, row.reference, 0, clear);
	if (!isMapped) granter.tables.grantActive[row.reference] = undefined;
}

/**
 * A domain dies: its handles are given back. What a PV domain's L1 entries hold goes with its page tables; of an external
 * one the P2M's mappings are dropped here.
 */
export function releaseMappings(machine: Machine, domain: Domain): void {
	domain.tables.maptrack.forEach((row) => {
		if (row === undefined) return;
		const granter = machine.domains.get(row.domid);
		const active = granter?.tables.grantActive[row.reference];
		// A mapping that was written over may have outlived its grant.
		if (granter === undefined || active?.grantee !== domain.domid) return;
		release(machine, granter, row, active);
		const held = domain.kind === KIND.pv ? row.flags & ~GRANT_MAP.host : row.flags;
		dropReferences(machine, domain.domid, Number(active.mfn), held);
	});
	domain.tables.maptrack = [];
}

/** A domain dies: its own table goes, but for the entries that others have mapped yet. */
export function dropTable(machine: Machine, domain: Domain): void {
	const { tables } = domain;
	for (const { mfn } of [...tables.grantFrames, ...tables.statusFrames]) machine.freeShared(Number(mfn));
	tables.grantFrames = [];
	tables.statusFrames = [];
	if (tables.grantTable) tables.grantTable = { ...tables.grantTable, maptrackFrameCount: 0 };
	if (!tables.grantActive.some((row) => row !== undefined)) tables.grantActive = [];
}

// --- copying ---

/** One end of a copy: a grant of another domain, or a frame of the caller's own. */
export interface CopyEnd {
	domid: number;
	ref?: number;
	gfn?: number;
	offset: number;
}

/** GNTTABOP_copy: octets from one page to another; either end, or both, by grant. */
export function copy(machine: Machine, domid: number, source: CopyEnd, target: CopyEnd, length: number): number {
	const caller = machine.domains.get(domid);
	needGrant(caller !== undefined && !caller.isDead, "bad_domain");
	for (const { offset } of [source, target]) {
		needGrant(offset >= 0 && length >= 0 && offset + length <= PAGE_BYTES, "bad_copy_arg");
	}
	const from = endOf(machine, caller, source, length, false);
	const to = endOf(machine, caller, target, length, true);
	const octets = machine.memory.look(from).slice(source.offset, source.offset + length);
	machine.memory.page(to).set(octets, target.offset);
	return 0;
}

/** The bit of a version 2 entry that says "a part of the page"; a version 1 entry has none. */
const subPageOf = (domain: Domain): number => (versionOf(domain) === 2 ? GTF.subPage : 0);

/**
 * The frame that a grant gives for a copy, `length` octets from `offset` on. `mayPass`: it may be another domain's grant that is
 * passed on, which holds as if it had been given to the domain that passes it on; only once.
 */
function frameForCopy(
	machine: Machine,
	grantee: number,
	{ domid, ref = 0, offset }: CopyEnd,
	length: number,
	writable: boolean,
	mayPass: boolean,
): number {
	const granter = machine.domains.get(domid);
	needGrant(granter !== undefined && !granter.isDead, "bad_domain");
	needGrant(ref >= 0 && ref < capacityOf(granter), "bad_gntref");
	const active = granter.tables.grantActive[ref];
	needGrant(active === undefined || active.grantee === grantee, "general_error");
	const entry = readShared(machine, granter, ref);
	const type = entry.flags & GTF.typeMask;
	needGrant(entry.domid === grantee && !(writable && entry.flags & GTF.readonly), "general_error");
	const { page, index } = placeOf(machine, granter, ref);
	if (type === GTF_TRANSITIVE && versionOf(granter) === 2) {
		const { sourceDomid, sourceRef } = readGrantPassed(page, index);
		needGrant(mayPass && sourceDomid !== domid, "general_error");
		return frameForCopy(machine, domid, { domid: sourceDomid, ref: sourceRef, offset }, length, writable, false);
	}
	needGrant(type === GTF_PERMIT_ACCESS, "general_error");
	if (entry.flags & subPageOf(granter)) {
		const part = readGrantPart(page, index);
		const isInside = offset >= part.pageOffset && offset + length <= part.pageOffset + part.length;
		needGrant(isInside, "bad_copy_arg");
	}
	return active ? Number(active.mfn) : frameOfGrant(machine, granter, entry.frame);
}

/** The frame of one end; a writable one must be writable memory, as a mapping would find it. */
function endOf(machine: Machine, caller: Domain, end: CopyEnd, length: number, writable: boolean): number {
	let mfn: number;
	if (end.ref === undefined) {
		needGrant(end.domid === caller.domid, "permission_denied");
		mfn = frameOfGrant(machine, caller, end.gfn ?? -1);
	} else mfn = frameForCopy(machine, caller.domid, end, length, writable, true);
	if (!writable) return mfn;
	// Taken for the time of the copy, to see that it can be.
	if (!tryGetWritable(machine, mfn)) refuseGrant("general_error");
	machine.frames.putWritable(mfn);
	needGrant(!machine.frames.has(mfn, FRAME.xenheap), "bad_page");
	return mfn;
}
