/**
 * A domain's frames that are not guest memory: those of Xen's heap that it shares with the domain (shared_info, grant
 * and status frames) and extra ones. The domain dump lists them, though not which is which.
 */
import { FRAME, NONE64, PAGE_TYPE } from "../../format/enums.ts";
import { PAGE_BYTES, statusFrameCount } from "../../machine/guestPages.ts";
import type { DomainModel, PreservedPages } from "../../machine/model.ts";
import type { CapturedPage } from "../domains.ts";
import type { CapturedDomain } from "../read.ts";
import type { MachineFrames } from "./frames.ts";
import { contradiction, hex, type Ledger, plural, refusedByFormat } from "./ledger.ts";

/** Bits of the dump's count and type words, the same in every Xen of interest. */
const CAF_ALLOCATED = 1n << 63n;
const CAF_XENHEAP = 1n << 62n;
const TAF_TYPE_SHIFT = 61n;
const TAF_PINNED = 1n << 59n;
const TAF_VALIDATED = 1n << 58n;
const TAF_PARTIAL = 1n << 56n;
const TAF_COUNT_MASK = (1n << 55n) - 1n;
const CAF_COUNT_MASK = (1n << 54n) - 1n;

/** Which of a domain's xenheap pages is what. */
export interface SpecialPages {
	sharedInfo: number | undefined;
	grantFrames: number[];
	statusFrames: number[];
}

/** Flags of a page's frame-owner entry: a dead domain's frames are owned without being allocated. */
export const allocatedFlag = (page: CapturedPage): number => (page.caf & CAF_ALLOCATED ? FRAME.allocated : 0);

/** References to a page. */
export const referencesOf = ({ caf }: Pick<CapturedPage, "caf">): number => Number(caf & CAF_COUNT_MASK);

/** References to a page by its type. */
export const typeReferencesOf = ({ taf }: Pick<CapturedPage, "taf">): number => Number(taf & TAF_COUNT_MASK);

/** A stale type (count 0) is none; of the types, only `writable` is taken from the dump. */
export function isWritableInUse(page: CapturedPage): boolean {
	return page.taf >> TAF_TYPE_SHIFT === BigInt(PAGE_TYPE.writable) && (page.taf & TAF_COUNT_MASK) > 0n;
}

/**
 * A page that Xen shares with its owner, or that a dead domain left behind, is in use as writable or not at all.
 * @param what the list and its file
 * @throws XLU_E_CAPTURE for another type in use, or a page of Xen's heap that is not of it; XLU_E_VERSION for a type that is
 *   half validated
 */
export function needPlainUse(domid: number, page: CapturedPage, what: string, isXenheap = false): void {
	const { mfn, caf, taf } = page;
	const place = `${what}, MFN ${hex(mfn)}`;
	if (isXenheap && (caf & CAF_XENHEAP) === 0n) {
		throw contradiction(domid, place, "caf= of a page of Xen's heap (bit 62)", hex(caf));
	}
	if (typeReferencesOf(page) === 0) return;
	if ((taf & TAF_PARTIAL) !== 0n || (taf & TAF_VALIDATED) === 0n) {
		throw refusedByFormat(domid, place, "taf= of a type that is validated (bit 58), not in part (bit 56)", hex(taf));
	}
	if (!isWritableInUse(page) || (taf & TAF_PINNED) !== 0n) {
		throw contradiction(
			domid,
			place,
			"taf= of a page in use as writable (bits 61 to 63 set), not pinned (bit 59)",
			hex(taf),
		);
	}
}

/** Claims a domain's xenheap and extra pages where the dump says that they are. */
export function claimSpecialPages({ domid, info }: CapturedDomain, frames: MachineFrames): void {
	for (const [pages, flag, what] of [
		[info.xenPages, FRAME.xenheap, "XenPage of debugkey-q.txt"],
		[info.extraPages, FRAME.extra, "ExtraPage of debugkey-q.txt"],
	] as const) {
		for (const page of pages) {
			needPlainUse(domid, page, what, flag === FRAME.xenheap);
			frames.own(page.mfn, domid, flag | allocatedFlag(page), what);
			if (isWritableInUse(page)) {
				frames.setType(page.mfn, PAGE_TYPE.writable);
			}
		}
	}
}

/** Shared frames of a table of which an old Xen's dump does not say how many they are: what the other pages leave. */
function grantFramesBehind(version: 1 | 2, pages: number): number {
	let frames = pages;
	while (frames > 0 && frames + statusFrameCount(version, frames) > pages) {
		frames--;
	}
	return frames;
}

/**
 * Says which xenheap page is what: the first one shared_info, then the grant frames, then the status frames.
 *
 * @throws XluError XLU_E_CAPTURE unless the domain has one xenheap page for each of these
 */
export function assignSpecialPages({ domid, kind, info, grants }: CapturedDomain, ledger: Ledger): SpecialPages {
	if (kind === "dead") {
		return { sharedInfo: undefined, grantFrames: [], statusFrames: [] };
	}
	const { version } = grants;
	const shared = grants.frames ?? grantFramesBehind(version, info.xenheapPages - 1);
	const status = statusFrameCount(version, shared);
	const expected = 1 + shared + status;
	if (info.xenheapPages !== expected) {
		const parts = `shared_info, ${plural(shared, "grant frame")}, ${plural(status, "status frame")}`;
		throw contradiction(domid, "xenheap_pages", `${expected} (${parts})`, `${info.xenheapPages}`, "debugkey-q.txt");
	}
	const [sharedInfo, ...rest] = info.xenPages.map((page) => page.mfn);
	const list = [sharedInfo, ...rest].map((mfn) => hex(mfn ?? 0)).join(", ");
	ledger.note(
		domid,
		"which xenheap page is what",
		`assigned, in the order of the dump (MFNs ${list}): shared_info, ${plural(shared, "grant frame")}` +
			`${status > 0 ? `, ${plural(status, "status frame")}` : ""}`,
	);
	return { sharedInfo, grantFrames: rest.slice(0, shared), statusFrames: rest.slice(shared) };
}

/**
 * Puts shared_info into the model and its page into preserved memory: what the image holds of it (PV), or zeros.
 * Event bits and upcall flags are written by those who import them.
 */
export function importSharedInfo(
	{ domid, image }: CapturedDomain,
	model: DomainModel,
	pages: SpecialPages,
	preserved: PreservedPages,
	ledger: Ledger,
): Uint8Array | undefined {
	if (pages.sharedInfo === undefined) {
		return undefined;
	}
	const content = image?.sharedInfo === undefined ? new Uint8Array(PAGE_BYTES) : image.sharedInfo.slice();
	preserved.set(pages.sharedInfo, content);
	model.sharedInfo = { mfn: pages.sharedInfo, gfn: NONE64 };
	if (image?.sharedInfo === undefined) {
		ledger.note(
			domid,
			"content of shared_info",
			"defaulted to zeros, but for event bits and upcall flags of the dumps",
		);
	}
	if (image?.guestType === "hvm") {
		ledger.note(domid, "where the guest has shared_info and grant frames mapped", "defaulted to an unknown GFN");
	}
	return content;
}
