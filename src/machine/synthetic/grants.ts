/**
 * Grants: dom0's backends map what each guest grants them, guests map a grant of their neighbour, and dom0 still maps
 * what a dead domain granted. Pins are the sums of the handles, since each handle adds its own.
 */
import { FRAME, GRANT_MAP, KIND, NONE64 } from "../../format/enums.ts";
import {
	GRANT_ENTRIES_PER_FRAME,
	GTF_PERMIT_ACCESS,
	PAGE_BYTES,
	statusFrameCount,
	writeGrantStatus,
	writeGrantV1,
	writeGrantV2,
} from "../guestPages.ts";
import type { GrantRow, SyntheticDomain } from "./domain.ts";

/** References of the console's and the store's ring; the toolstack keeps the first eight. */
const CONSOLE_REFERENCE = 0;
const STORE_REFERENCE = 1;
const FIRST_REFERENCE = 8;
/** Maptrack entries of a frame: Xen's have 16 octets. */
const MAPTRACK_PER_FRAME = PAGE_BYTES / 16;
/** GTF_reading, GTF_writing: what Xen notes of a mapped grant for its guest. */
const GTF_READING = 1 << 3;
const GTF_WRITING = 1 << 4;
const COUNTERS = ["hostWrite", "hostRead", "deviceWrite", "deviceRead"] as const;

/** Adds a mapping of `flags`: a handle of the grantee, and the pins that it holds. */
function map(granter: SyntheticDomain, reference: number, grantee: SyntheticDomain, flags: number): void {
	const grant = granter.grants[reference] as GrantRow;
	const isReadonly = (flags & GRANT_MAP.readonly) !== 0;
	const add = (counter: (typeof COUNTERS)[number]): void => {
		grant[counter] = Number(grant[counter] ?? 0) + 1;
	};
	if (flags & GRANT_MAP.host) add(isReadonly ? "hostRead" : "hostWrite");
	if (flags & GRANT_MAP.device) add(isReadonly ? "deviceRead" : "deviceWrite");
	if (flags & GRANT_MAP.host) grantee.mapped.push({ mfn: Number(grant.mfn), isWritable: !isReadonly });
	grantee.maps.push({ reference, domid: granter.domid, flags, vcpuId: grantee.random.below(grantee.vcpuCount) });
}

function grantTo(granter: SyntheticDomain, reference: number, grantee: SyntheticDomain): number {
	const { mfn, gfn } = granter.sharedFrame();
	granter.grants[reference] = { mfn, grantee: grantee.domid };
	granter.grantGfns[reference] = gfn;
	return mfn;
}

/** The next reference; now and then one is left out, granted to nobody or not mapped. */
function nextReference(granter: SyntheticDomain): number {
	const next = Math.max(granter.grants.length, FIRST_REFERENCE);
	return granter.random.chance(0.1) ? next + 1 : next;
}

/** How a backend maps a grant: mostly read-write, some read-only, some for a device as well. */
function drawFlags(granter: SyntheticDomain): number {
	const access = granter.random.chance(0.25) ? GRANT_MAP.readonly : 0;
	const device = granter.random.chance(0.15) ? GRANT_MAP.device : 0;
	return GRANT_MAP.host | access | device;
}

/** What a guest grants to dom0, and dom0 has mapped. */
export function grantToDom0(guest: SyntheticDomain, dom0: SyntheticDomain, count: number): void {
	for (const reference of guest.isDead ? [] : [CONSOLE_REFERENCE, STORE_REFERENCE]) {
		grantTo(guest, reference, dom0);
		map(guest, reference, dom0, GRANT_MAP.host);
	}
	for (let i = 0; i < count; i++) {
		const reference = nextReference(guest);
		grantTo(guest, reference, dom0);
		map(guest, reference, dom0, drawFlags(guest));
		if (guest.random.chance(0.2)) map(guest, reference, dom0, GRANT_MAP.host | GRANT_MAP.readonly);
	}
}

/** A grant that another guest has mapped. Returns the frame, which a PVH or HVM grantee has in its P2M. */
export function grantToNeighbour(granter: SyntheticDomain, grantee: SyntheticDomain): number {
	const reference = nextReference(granter);
	const mfn = grantTo(granter, reference, grantee);
	map(granter, reference, grantee, GRANT_MAP.host);
	return mfn;
}

/** Types of granted frames: a device's mapping takes one, the host's tables take none of an external guest's frames. */
function setTypes(domain: SyntheticDomain): void {
	for (const grant of domain.grants) {
		const isTyped = domain.kind === KIND.pv || Number(grant?.grantee) === domain.domid;
		const isWritten = Number(grant?.deviceWrite ?? 0) + (isTyped ? Number(grant?.hostWrite ?? 0) : 0) > 0;
		if (grant && isWritten) domain.writable(Number(grant.mfn));
	}
}

/** The grant table and the maptrack as they stand; the shared entries of the guest's side. */
export function closeGrants(domain: SyntheticDomain): void {
	const { model, grants, maps, grantVersion: version, random } = domain;
	const perFrame = GRANT_ENTRIES_PER_FRAME[version];
	const frameCount = Math.max(1, Math.ceil(grants.length / perFrame));
	setTypes(domain);
	while (grants.length < frameCount * perFrame) grants.push(undefined);
	model.grantActive = grants;
	const maptrackFrameCount = Math.ceil(maps.length / MAPTRACK_PER_FRAME);
	model.grantTable = { version, maptrackFrameCount };
	if (maps.length > 0) {
		// Handles come and go: those in use are anywhere among all.
		const handles = new Array(maptrackFrameCount * MAPTRACK_PER_FRAME).fill(undefined);
		maps.forEach((row, i) => {
			handles[i] = row;
		});
		model.maptrack = random.shuffle(handles);
	}
	if (domain.isDead) return;
	const frame = () => {
		const mfn = domain.takeFrame(FRAME.allocated | FRAME.xenheap);
		domain.writable(mfn);
		return { row: { mfn, gfn: NONE64 }, page: domain.preserve(mfn) };
	};
	const shared = Array.from({ length: frameCount }, frame);
	const status = Array.from({ length: statusFrameCount(version, frameCount) }, frame);
	model.grantFrames = shared.map(({ row }) => row);
	model.statusFrames = status.map(({ row }) => row);
	const statusPages = status.map(({ page }) => page);
	grants.forEach((grant, reference) => {
		if (!grant) return;
		const page = shared[Math.floor(reference / perFrame)]?.page as Uint8Array;
		const index = reference % perFrame;
		const isWritten = Number(grant.hostWrite ?? 0) + Number(grant.deviceWrite ?? 0) > 0;
		const inUse = GTF_READING | (isWritten ? GTF_WRITING : 0);
		const entry = { domid: grant.grantee, frame: domain.grantGfns[reference] };
		if (version === 1) {
			writeGrantV1(page, index, { ...entry, flags: GTF_PERMIT_ACCESS | inUse });
		} else {
			writeGrantV2(page, index, { ...entry, flags: GTF_PERMIT_ACCESS });
			writeGrantStatus(statusPages, reference, inUse);
		}
	});
}
