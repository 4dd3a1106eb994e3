/** The P2M that a PV guest keeps in its own memory, as an image has it. */
import { XluError } from "../../errors.ts";
import { hex } from "../common/findings.ts";
import type { GuestImage } from "../guestImage.ts";
import { PAGE_BYTES } from "./layout.ts";

const TWO_POW_32 = 0x100000000;

/** A PV guest's own P2M table. */
export interface PvP2m {
	/** The PFN that `mfns[0]` belongs to. */
	startPfn: number;
	/** The captured host's MFN of each PFN from `startPfn` on; -1 where the guest has no frame of its own. */
	mfns: Float64Array;
}

/** 52-bit physical addresses leave 40 bits for an MFN. */
const MFN_LIMIT = 2 ** 40;

/**
 * The P2M table that a PV guest keeps: the real MFNs of the host it was captured on, because libxc rewrites frame
 * numbers in page tables but not in these frames (observed in images of Xen 4.17). All-ones entries are holes, and the
 * top two bits of a word are the guest kernel's own marks for foreign and identity-mapped frames: those are -1 too.
 *
 * @throws XluError XLU_E_IMAGE if the image is no PV image, a P2M frame has no content, or an MFN is impossible.
 */
export function pvP2m(image: Pick<GuestImage, "p2m" | "pvInfo" | "pages">): PvP2m {
	const { p2m, pvInfo, pages } = image;
	if (p2m === undefined || pvInfo === undefined) {
		throw new XluError("XLU_E_IMAGE", "X86_PV_P2M_FRAMES: expected a PV image, got none of a PV guest's records", {
			record: "X86_PV_P2M_FRAMES",
			expected: "a PV image",
			got: "none of a PV guest's records",
		});
	}
	const { guestWidth } = pvInfo;
	const perFrame = PAGE_BYTES / guestWidth;
	const firstOfTable = Math.floor(p2m.startPfn / perFrame) * perFrame;
	const mfns = new Float64Array(p2m.p2mPfns.length * perFrame).fill(-1);
	for (const [frame, pfn] of p2m.p2mPfns.entries()) {
		const content = pages.content(pfn);
		if (content === undefined) {
			throw p2mError(pfn, undefined, "page_data", "the content of a P2M frame", "none");
		}
		const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
		for (let entry = 0; entry < perFrame; entry++) {
			const low = view.getUint32(entry * guestWidth, true);
			const top = guestWidth === 8 ? view.getUint32(entry * guestWidth + 4, true) : low;
			if (top >>> 30 !== 0) {
				continue;
			}
			const mfn = guestWidth === 8 ? top * TWO_POW_32 + low : low;
			const at = firstOfTable + frame * perFrame + entry;
			const used = at >= p2m.startPfn && at <= p2m.endPfn;
			if (used && mfn >= MFN_LIMIT) {
				throw p2mError(pfn, entry, "mfn", `less than ${hex(MFN_LIMIT)}`, hex(mfn));
			}
			mfns[frame * perFrame + entry] = mfn;
		}
	}
	const skip = p2m.startPfn - firstOfTable;
	return { startPfn: p2m.startPfn, mfns: mfns.slice(skip, skip + p2m.endPfn - p2m.startPfn + 1) };
}

function p2mError(pfn: number, entry: number | undefined, field: string, expected: string, got: string): XluError {
	const place = entry === undefined ? `P2M frame ${hex(pfn)}` : `P2M frame ${hex(pfn)}, entry ${entry}`;
	return new XluError("XLU_E_IMAGE", `${place}: ${field}: expected ${expected}, got ${got}`, {
		record: "X86_PV_P2M_FRAMES",
		field,
		expected,
		got,
	});
}
