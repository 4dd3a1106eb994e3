/**
 * Grants. LU_GRANT_ACTIVE is the truth (what the guest's shared entry says does not matter: a hostile guest must not be
 * able to veto an update); maptrack of every other domain is checked against it, and pins must be the sum of mappings.
 */
import { at, context, fail } from "../context";
import * as L from "../layout.gen";
import { TABLE_ENTRIES } from "../pageTable";
import { bodyOf, partFrom, sparseFind, sparseRows, sparseRowsAt, sparseSlots } from "../record";
import { isWalked, ownerEntry, pinsAt, planAt, planOf } from "../sections";
import { checkOwned, checkWritten, takeXenheap } from "./frames";
import { exists } from "./sections";

/** Entries in a 4 KiB grant frame, by version; status words in a status frame; handles in a maptrack frame. */
const V1_ENTRIES: u32 = 512;
const V2_ENTRIES: u32 = 256;
const STATUS_ENTRIES: u32 = 2048;
const MAPTRACK_ENTRIES: u32 = 256;
const PIN_LIMIT: u32 = 128;
/** Of the four counters of pins, the host's two come first. */
const DEVICE_PINS: u32 = 2;

function limit(plan: L.DomainPlan, field: u32): u32 {
	return load<u32>(bodyOf(plan.domainPtr) + field);
}

/** LU_GRANT_TABLE: version, frames within limits, each a xenheap frame of the domain's own. */
export function checkGrantTable(ctx: usize, plan: L.DomainPlan): bool {
	const record = <usize>plan.grantTablePtr;
	if (!record) return true;
	at(ctx, L.PASS_1D, plan.domid, record);
	const body = bodyOf(record);
	const table = changetype<L.GrantTable>(body);
	if (table.version != 1 && table.version != 2)
		return fail(ctx, L.RULE_GRANT_TABLE, body + L.GRANT_TABLE__VERSION, 2, table.version);
	const highest = limit(plan, L.DOMAIN__GRANT_VERSION_LIMIT);
	if (table.version > highest)
		return fail(ctx, L.RULE_GRANT_TABLE, body + L.GRANT_TABLE__VERSION, highest, table.version);
	const most = limit(plan, L.DOMAIN__MAX_GRANT_FRAMES);
	if (table.grantFrameCount > most)
		return fail(ctx, L.RULE_GRANT_TABLE, body + L.GRANT_TABLE__GRANT_FRAME_COUNT, most, table.grantFrameCount);
	const mostTrack = limit(plan, L.DOMAIN__MAX_MAPTRACK_FRAMES);
	if (table.maptrackFrameCount > mostTrack) {
		return fail(
			ctx,
			L.RULE_GRANT_TABLE,
			body + L.GRANT_TABLE__MAPTRACK_FRAME_COUNT,
			mostTrack,
			table.maptrackFrameCount,
		);
	}
	const status =
		table.version == 1 ? 0 : (<u64>table.grantFrameCount * V2_ENTRIES + STATUS_ENTRIES - 1) / STATUS_ENTRIES;
	if (<u64>table.statusFrameCount != status) {
		return fail(ctx, L.RULE_GRANT_TABLE, body + L.GRANT_TABLE__STATUS_FRAME_COUNT, status, table.statusFrameCount);
	}
	if (plan.life == L.LIFE_DEAD && table.grantFrameCount != 0)
		return fail(ctx, L.RULE_DEAD_DOMAIN, body + L.GRANT_TABLE__GRANT_FRAME_COUNT, 0, table.grantFrameCount);
	return (
		checkFrames(ctx, plan, partFrom(L.RECORD_LU_GRANT_TABLE, record, 0), table.grantFrameCount) &&
		checkFrames(ctx, plan, partFrom(L.RECORD_LU_GRANT_TABLE, record, 1), table.statusFrameCount)
	);
}

function checkFrames(ctx: usize, plan: L.DomainPlan, rows: usize, count: u32): bool {
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.GRANT_FRAME_BYTES;
		if (!takeXenheap(ctx, row, changetype<L.GrantFrame>(row).mfn, plan.domid)) return false;
	}
	return true;
}

/** Most grant references that the domain's table can hold. */
function capacity(plan: L.DomainPlan): u64 {
	if (!plan.grantTablePtr) return 0;
	const table = changetype<L.GrantTable>(bodyOf(plan.grantTablePtr));
	const perFrame = table.version == 1 ? V1_ENTRIES : V2_ENTRIES;
	const frames = plan.life == L.LIFE_DEAD ? limit(plan, L.DOMAIN__MAX_GRANT_FRAMES) : table.grantFrameCount;
	return <u64>frames * perFrame;
}

/**
 * Whether the pins themselves hold the frame. The host's mappings of a PV grantee are held at its L1 entries, which it may
 * overwrite without unmapping: the pins then outlive the reference, and the frame may be free or somebody else's by now.
 * Guests can do that at will, so it must not be a reason to refuse.
 */
function holdsFrame(ctx: usize, grant: L.GrantActive): bool {
	if (grant.deviceWrite != 0 || grant.deviceRead != 0) return true;
	return !isWalked(ctx, grant.grantee);
}

/** LU_GRANT_ACTIVE: in the table, pinned, its frame the domain's, its grantee known. Gives each row its counters. */
export function checkActive(ctx: usize, plan: L.DomainPlan, pins: u32): bool {
	const record = <usize>plan.activePtr;
	if (!record) return true;
	at(ctx, L.PASS_1D, plan.domid, record);
	const body = bodyOf(record);
	if (<u64>sparseSlots(body) > capacity(plan))
		return fail(ctx, L.RULE_GRANT_ACTIVE, body, capacity(plan), sparseSlots(body));
	plan.pinsPtr = pins;
	const rows = sparseRowsAt(body);
	const count = sparseRows(body);
	memory.fill(pins, 0, count * 4);
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.GRANT_ACTIVE_BYTES;
		const grant = changetype<L.GrantActive>(row);
		const pinned = row + L.GRANT_ACTIVE__HOST_WRITE;
		if (load<u32>(pinned) == 0) return fail(ctx, L.RULE_GRANT_ACTIVE, pinned, 1, 0);
		for (let p: u32 = 0; p < 4; p++) {
			const pin = load<u8>(pinned + p);
			if (<u32>pin > PIN_LIMIT) return fail(ctx, L.RULE_GRANT_ACTIVE, pinned + p, PIN_LIMIT, pin);
		}
		if (!exists(ctx, grant.grantee))
			return fail(ctx, L.RULE_DOMAIN_REFERENCE, row + L.GRANT_ACTIVE__GRANTEE, 0, grant.grantee);
		if (!holdsFrame(ctx, grant)) {
			if (grant.mfn < context(ctx).frameCount) continue;
			return fail(ctx, L.RULE_FRAME_NOT_OWNED, row, context(ctx).frameCount, grant.mfn);
		}
		if (grant.mfn < context(ctx).frameCount && (<u32>ownerEntry(ctx, grant.mfn) & L.FRAME_OWNER_MASK) == L.DOMID_IO)
			continue;
		const isWritten = grant.deviceWrite != 0 || (grant.hostWrite != 0 && !isWalked(ctx, grant.grantee));
		const holds = isWritten
			? checkWritten(ctx, row, grant.mfn, plan.domid)
			: checkOwned(ctx, row, grant.mfn, plan.domid);
		if (!holds) return false;
	}
	return true;
}

/**
 * Whether a handle may have outlived what it maps. A PV domain that wrote over its L1 entry without unmapping no longer holds
 * the frame, and so not the granting domain either, which may be gone, or another one by now. As with the pins, that is the
 * guest's doing, and no reason to refuse. A device mapping holds its frame itself.
 */
function mayBeStale(plan: L.DomainPlan, kinds: u32): bool {
	return plan.tableCount != 0 && (kinds & L.GRANT_MAP_DEVICE) == 0;
}

/** Adds one mapping to a pin counter; Xen's order of octets is the record's. */
function addPin(counters: usize, counter: u32): bool {
	const value = load<u8>(counters + counter);
	if (<u32>value == 255) return false;
	store<u8>(counters + counter, value + 1);
	return true;
}

/** LU_GRANT_MAPS of one domain: each handle finds its active grant, and is counted there. */
export function checkMaptrack(ctx: usize, plan: L.DomainPlan): bool {
	const record = <usize>plan.mapsPtr;
	if (!record) return true;
	at(ctx, L.PASS_2, plan.domid, record);
	const body = bodyOf(record);
	const most = <u64>limit(plan, L.DOMAIN__MAX_MAPTRACK_FRAMES) * MAPTRACK_ENTRIES;
	if (<u64>sparseSlots(body) > most) return fail(ctx, L.RULE_MAPTRACK, body, most, sparseSlots(body));
	const rows = sparseRowsAt(body);
	const count = sparseRows(body);
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.MAPTRACK_BYTES;
		const map = changetype<L.Maptrack>(row);
		const kinds = <u32>map.flags & (L.GRANT_MAP_DEVICE | L.GRANT_MAP_HOST);
		if (map.flags > 7 || kinds == 0) return fail(ctx, L.RULE_MAPTRACK, row + L.MAPTRACK__FLAGS, 7, map.flags);
		if (map.vcpuId >= limit(plan, L.DOMAIN__MAX_VCPUS))
			return fail(ctx, L.RULE_MAPTRACK, row + L.MAPTRACK__VCPU_ID, limit(plan, L.DOMAIN__MAX_VCPUS), map.vcpuId);
		const stale = mayBeStale(plan, kinds);
		const granter = planOf(ctx, map.domid);
		if (!granter) {
			if (stale && map.domid < L.DOMID_FIRST_RESERVED) continue;
			return fail(ctx, L.RULE_MAPTRACK_UNMATCHED, row + L.MAPTRACK__DOMID, 0, map.domid);
		}
		const active = granter.activePtr ? bodyOf(granter.activePtr) : 0;
		const index = active ? sparseFind(active, map.reference) : L.NONE32;
		if (index == L.NONE32) {
			if (stale) continue;
			return fail(ctx, L.RULE_MAPTRACK_UNMATCHED, row, 0, map.reference);
		}
		const grant = changetype<L.GrantActive>(sparseRowsAt(active) + index * L.GRANT_ACTIVE_BYTES);
		if (<u32>grant.grantee != plan.domid) {
			if (stale) continue;
			return fail(ctx, L.RULE_MAPTRACK_UNMATCHED, row, grant.grantee, plan.domid);
		}
		const counters = <usize>granter.pinsPtr + index * 4;
		const readonly = (<u32>map.flags & L.GRANT_MAP_READONLY) != 0;
		if ((kinds & L.GRANT_MAP_HOST) != 0 && !addPin(counters, readonly ? 1 : 0) && !stale)
			return fail(ctx, L.RULE_PIN_SUM, row, PIN_LIMIT, 256);
		if ((kinds & L.GRANT_MAP_DEVICE) != 0 && !addPin(counters, readonly ? 3 : 2))
			return fail(ctx, L.RULE_PIN_SUM, row, PIN_LIMIT, 256);
	}
	return true;
}

/** After every domain's maptrack: pins equal the sum of mappings. */
export function checkPins(ctx: usize, plan: L.DomainPlan): bool {
	const record = <usize>plan.activePtr;
	if (!record) return true;
	at(ctx, L.PASS_1D, plan.domid, record);
	const rows = sparseRowsAt(bodyOf(record));
	const count = sparseRows(bodyOf(record));
	for (let i: u32 = 0; i < count; i++) {
		const pins = rows + i * L.GRANT_ACTIVE_BYTES + L.GRANT_ACTIVE__HOST_WRITE;
		const counted = <usize>plan.pinsPtr + i * 4;
		const grantee = changetype<L.GrantActive>(rows + i * L.GRANT_ACTIVE_BYTES).grantee;
		for (let p: u32 = 0; p < 4; p++) {
			const pin = load<u8>(pins + p);
			const sum = load<u8>(counted + p);
			// Handles that outlived an earlier domain of that number may count here as well.
			const fits = p < DEVICE_PINS && isWalked(ctx, grantee) ? pin <= sum : pin == sum;
			if (!fits) return fail(ctx, L.RULE_PIN_SUM, pins + p, sum, pin);
		}
	}
	return true;
}

/**
 * All references that a restore will add stay below 2^31, so that no frame's and no domain's count can overflow, whatever
 * the order: pass 2 only adds.
 */
export function checkSums(ctx: usize): bool {
	const most: u64 = 1 << 31;
	let sum: u64 = 0;
	for (let i: u32 = 0; i < context(ctx).domainCount; i++) {
		const plan = planAt(ctx, i);
		at(ctx, L.PASS_0, plan.domid, plan.domainPtr);
		// Starts, foreign maps, vcpu_info and control blocks, event arrays, I/O servers and their pages: a few per row.
		sum += <u64>plan.foreignEntries + 4 * <u64>plan.vcpuSlots + 2048;
		// Of page tables each entry and a pin; of a vCPU CR3, the user's, and a full GDT.
		if (plan.tableCount != 0) sum += (TABLE_ENTRIES + 1) * <u64>plan.tableCount + (2 + 16) * <u64>plan.vcpuSlots;
		if (sum > most) return fail(ctx, L.RULE_COUNT_OVERFLOW, 0, most, sum);
		if (!plan.activePtr) continue;
		at(ctx, L.PASS_1D, plan.domid, plan.activePtr);
		const rows = sparseRowsAt(bodyOf(plan.activePtr));
		for (let r: u32 = 0; r < sparseRows(bodyOf(plan.activePtr)); r++) {
			const grant = changetype<L.GrantActive>(rows + r * L.GRANT_ACTIVE_BYTES);
			sum += <u64>grant.hostWrite + grant.hostRead + grant.deviceWrite + grant.deviceRead;
		}
		if (sum > most) return fail(ctx, L.RULE_COUNT_OVERFLOW, 0, most, sum);
	}
	return true;
}

/** Where the counters of the next domain begin. */
export function pinsEnd(plan: L.DomainPlan, pins: u32): u32 {
	return plan.activePtr ? pins + sparseRows(bodyOf(plan.activePtr)) * 4 : pins;
}

/** Runs over all domains, in the order that the cross-checks need. */
export function checkGrants(ctx: usize): bool {
	const domains = context(ctx).domainCount;
	let pins = <u32>pinsAt(ctx);
	for (let i: u32 = 0; i < domains; i++) {
		const plan = planAt(ctx, i);
		if (!checkGrantTable(ctx, plan) || !checkActive(ctx, plan, pins)) return false;
		pins = pinsEnd(plan, pins);
	}
	for (let i: u32 = 0; i < domains; i++) if (!checkMaptrack(ctx, planAt(ctx, i))) return false;
	for (let i: u32 = 0; i < domains; i++) if (!checkPins(ctx, planAt(ctx, i))) return false;
	return true;
}
