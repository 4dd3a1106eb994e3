/**
 * Grant tables and maptracks. The dump has the active entries, granting side; what the guest wrote for them goes into
 * the preserved grant frames, and the mapping side follows from the pins: one handle per pin unit.
 *
 * Unhappy paths, all XLU_E_CAPTURE: a reference outside the table, a grantee that is no domain of the host, a granted
 * frame that is not the granting domain's, an entry that a version 1 table cannot hold.
 */
import { GRANT_MAP, NONE64 } from "../../format/enums.ts";
import {
	GRANT_ENTRIES_PER_FRAME,
	GTF_PERMIT_ACCESS,
	PAGE_BYTES,
	writeGrantStatus,
	writeGrantV1,
	writeGrantV2,
} from "../../machine/guestPages.ts";
import type { DomainModel, PreservedPages } from "../../machine/model.ts";
import { type CapturedGrant, pinCounts } from "../grants.ts";
import type { CapturedDomain } from "../read.ts";
import type { MachineFrames } from "./frames.ts";
import { contradiction, hex, type Ledger, plural } from "./ledger.ts";
import type { SpecialPages } from "./specialPages.ts";

/** Maptrack entries of a frame: Xen's have 16 octets. */
const MAPTRACK_PER_FRAME = PAGE_BYTES / 16;
const V1_FRAME_LIMIT = 2 ** 32;
/** Xen's defaults, for an old dump that does not say. */
const DEFAULT_MAX_GRANT_FRAMES = 64;
const DEFAULT_MAX_MAPTRACK_FRAMES = 1024;

/** No table or maptrack has more frames; what a dump says beyond would only exhaust our memory. */
const FRAME_LIMIT = 1 << 14;

/** Refuses a table that is larger than it may be, before anything is made as large. */
function checkFrames({ domid, grants }: CapturedDomain): void {
	for (const [what, count, max] of [
		["grant frames", grants.frames, grants.maxFrames],
		["maptrack frames", grants.maptrackFrames, grants.maxMaptrackFrames],
	] as const) {
		const most = Math.min(max ?? FRAME_LIMIT, FRAME_LIMIT);
		if (count !== undefined && (count < 0 || count > most)) {
			throw contradiction(domid, what, `at most ${most}`, `${count}`, "debugkey-g.txt");
		}
	}
}

/** Frames of a table whose dump does not say how many: as the references need. */
function tableFrames({ grants }: CapturedDomain, pages: SpecialPages): number {
	const perFrame = GRANT_ENTRIES_PER_FRAME[grants.version];
	const highest = grants.active.at(-1)?.ref ?? -1;
	return grants.frames ?? Math.max(pages.grantFrames.length, Math.ceil((highest + 1) / perFrame));
}

/** Puts a domain's grant table into the model and what is known of its shared entries into preserved memory. */
export function importGrantTable(
	captured: CapturedDomain,
	model: DomainModel,
	pages: SpecialPages,
	frames: MachineFrames,
	preserved: PreservedPages,
	ledger: Ledger,
): void {
	const { domid, grants } = captured;
	checkFrames(captured);
	const slots = tableFrames(captured, pages) * GRANT_ENTRIES_PER_FRAME[grants.version];
	const active: NonNullable<DomainModel["grantActive"]>[number][] = new Array(slots).fill(undefined);
	for (const grant of grants.active) {
		if (grant.ref >= slots) {
			const expected = `a reference below ${hex(slots)}, the end of the table`;
			throw contradiction(domid, "grant", expected, hex(grant.ref), "debugkey-g.txt");
		}
		if (frames.ownerOf(grant.mfn) !== domid) {
			const expected = `MFN ${hex(grant.mfn)} among the domain's frames`;
			throw contradiction(domid, `grant ${hex(grant.ref)}`, expected, "none of them", "debugkey-g.txt");
		}
		const { deviceRead, deviceWrite, hostRead, hostWrite } = pinCounts(grant.pin);
		active[grant.ref] = { mfn: grant.mfn, grantee: grant.granteeDomid, hostWrite, hostRead, deviceWrite, deviceRead };
	}
	const gfn = NONE64;
	model.grantTable = { version: grants.version, maptrackFrameCount: grants.maptrackFrames ?? 0 };
	model.grantFrames = pages.grantFrames.map((mfn) => ({ mfn, gfn }));
	model.statusFrames = pages.statusFrames.map((mfn) => ({ mfn, gfn }));
	model.grantActive = active;
	model.domain.maxGrantFrames = grants.maxFrames ?? DEFAULT_MAX_GRANT_FRAMES;
	model.domain.maxMaptrackFrames = grants.maxMaptrackFrames ?? DEFAULT_MAX_MAPTRACK_FRAMES;
	writeSharedEntries(captured, pages, preserved);
	noteGrants(captured, ledger);
}

function noteGrants({ domid, kind, grants }: CapturedDomain, ledger: Ledger): void {
	if (grants.maxFrames === undefined) {
		const limits = `${DEFAULT_MAX_GRANT_FRAMES} grant and ${DEFAULT_MAX_MAPTRACK_FRAMES} maptrack frames`;
		ledger.note(domid, "limits of the grant table", `defaulted to ${limits}`);
	}
	if (kind === "dead") {
		return;
	}
	ledger.note(domid, "grant entries that nobody has mapped", "defaulted to zero: the dump lists the active ones only");
	if (grants.version === 2 && grants.active.length > 0) {
		ledger.note(
			domid,
			"flags of the version 2 grant entries",
			"defaulted to `permit access`: the dump has the status word",
		);
	}
}

/** Writes the shared side of the active entries. */
function writeSharedEntries({ domid, grants }: CapturedDomain, pages: SpecialPages, preserved: PreservedPages): void {
	const page = (mfn: number): Uint8Array => {
		const content = new Uint8Array(PAGE_BYTES);
		preserved.set(mfn, content);
		return content;
	};
	const shared = pages.grantFrames.map(page);
	const status = pages.statusFrames.map(page);
	const perFrame = GRANT_ENTRIES_PER_FRAME[grants.version];
	for (const grant of grants.active) {
		const frame = shared[Math.floor(grant.ref / perFrame)];
		if (frame === undefined) {
			continue; // A dead domain's table has no frames any more.
		}
		const index = grant.ref % perFrame;
		const { sharedDomid: grantee, gmfn } = grant;
		if (grants.version === 2) {
			writeGrantV2(frame, index, { flags: GTF_PERMIT_ACCESS, domid: grantee, frame: gmfn });
			writeGrantStatus(status, grant.ref, grant.flags);
			continue;
		}
		if (gmfn >= V1_FRAME_LIMIT || grant.flags > 0xffff) {
			const expected = "a frame of 32 bits and flags of 16 in a version 1 table";
			const got = `${hex(gmfn)}, ${hex(grant.flags)}`;
			throw contradiction(domid, `grant ${hex(grant.ref)}`, expected, got, "debugkey-g.txt");
		}
		writeGrantV1(frame, index, { flags: grant.flags, domid: grantee, frame: gmfn });
	}
}

/** What each pin counter maps with. */
const PIN_UNITS = [
	["hostWrite", GRANT_MAP.host],
	["hostRead", GRANT_MAP.host | GRANT_MAP.readonly],
	["deviceWrite", GRANT_MAP.device],
	["deviceRead", GRANT_MAP.device | GRANT_MAP.readonly],
] as const;

const isBoth = ({ pin }: CapturedGrant): boolean => {
	const counts = pinCounts(pin);
	return counts.hostRead + counts.hostWrite > 0 && counts.deviceRead + counts.deviceWrite > 0;
};

/**
 * Gives every domain that maps others' grants its maptrack: a handle per pin unit, ascending by granting domain,
 * reference and kind of mapping.
 */
export function importMaptracks(
	captured: readonly CapturedDomain[],
	models: ReadonlyMap<number, DomainModel>,
	ledger: Ledger,
): void {
	const maptracks = new Map<number, NonNullable<DomainModel["maptrack"]>[number][]>();
	const limits = new Map(
		captured.map(({ domid, grants }) => [domid, grants.maxMaptrackFrames ?? DEFAULT_MAX_MAPTRACK_FRAMES]),
	);
	for (const { domid, grants } of captured) {
		for (const grant of grants.active) {
			if (!models.has(grant.granteeDomid)) {
				const expected = "a grantee among the domains of the dumps";
				const got = `domain ${grant.granteeDomid}`;
				throw contradiction(domid, `grant ${hex(grant.ref)}`, expected, got, "debugkey-g.txt");
			}
			const handles = maptracks.get(grant.granteeDomid) ?? [];
			maptracks.set(grant.granteeDomid, handles);
			const counts = pinCounts(grant.pin);
			const most = Math.min(limits.get(grant.granteeDomid) ?? 0, FRAME_LIMIT);
			if (handles.length > most * MAPTRACK_PER_FRAME) {
				const expected = `at most ${most}, for one handle per pin`;
				throw contradiction(grant.granteeDomid, "maptrack frames", expected, "more", "debugkey-g.txt");
			}
			for (const [counter, flags] of PIN_UNITS) {
				for (let unit = 0; unit < counts[counter]; unit++) {
					handles.push({ reference: grant.ref, vcpuId: 0, domid, flags });
				}
			}
			if (isBoth(grant)) {
				const what = `handles of grant ${hex(grant.ref)} of domain ${domid}`;
				const how = "derived: one per host and one per device mapping, though one handle may have made both";
				ledger.note(grant.granteeDomid, what, how);
			}
		}
	}
	for (const { domid, kind, grants } of captured) {
		const handles = maptracks.get(domid) ?? [];
		const frames = Math.max(grants.maptrackFrames ?? 0, Math.ceil(handles.length / MAPTRACK_PER_FRAME));
		// A dead domain may have frames of a maptrack yet, but it maps nothing.
		if (frames === 0 || (kind === "dead" && handles.length === 0)) {
			continue;
		}
		const model = models.get(domid) as DomainModel;
		model.grantTable = { ...model.grantTable, maptrackFrameCount: frames };
		model.maptrack = [...handles, ...new Array(frames * MAPTRACK_PER_FRAME - handles.length).fill(undefined)];
		if (handles.length > 0) {
			const how = `assigned: ${plural(handles.length, "handle")} from 0 up, one per pin, all of vCPU 0's`;
			ledger.note(domid, "grant handles (maptrack)", how);
		}
	}
}
