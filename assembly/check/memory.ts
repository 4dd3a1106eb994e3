/**
 * Preserved memory: one window, a sorted directory of MFNs and then their pages. Whole, bound to its stream, and with
 * every frame whose content the restored hypervisor will look at.
 */
import { xxh3_64 } from "../checksum";
import { at, context, fail } from "../context";
import * as L from "../layout.gen";
import { PAGE, preserved } from "../preserved";
import { bodyOf, partFrom } from "../record";
import { planAt } from "../sections";

function memoryFail(ctx: usize, expected: u64, got: u64): bool {
	at(ctx, L.NONE32, L.NONE32, context(ctx).streamPtr);
	return fail(ctx, L.RULE_MEMORY, 0, expected, got);
}

/** The window itself. */
export function checkMemory(ctx: usize): bool {
	const c = context(ctx);
	const memoryPtr = <usize>c.memoryPtr;
	if (c.memoryBytes < L.MEMORY_HEADER_BYTES) return memoryFail(ctx, L.MEMORY_HEADER_BYTES, c.memoryBytes);
	const header = changetype<L.MemoryHeader>(memoryPtr);
	if (header.magic != L.MEMORY_MAGIC) return memoryFail(ctx, L.MEMORY_MAGIC, header.magic);
	const directory = <u64>L.MEMORY_HEADER_BYTES + <u64>header.pageCount * 8;
	const pages = (directory + PAGE - 1) & ~(<u64>(PAGE - 1));
	if (<u64>header.pagesOffset != pages) return memoryFail(ctx, pages, header.pagesOffset);
	const whole = pages + <u64>header.pageCount * PAGE;
	if (whole != <u64>c.memoryBytes) return memoryFail(ctx, whole, c.memoryBytes);
	const hash = xxh3_64(memoryPtr + L.MEMORY_HEADER_BYTES, c.memoryBytes - L.MEMORY_HEADER_BYTES);
	if (hash != header.hash) return memoryFail(ctx, header.hash, hash);
	// Of the stream as it came: a big-endian one stands there no more.
	const stream = c.isTurned != 0 ? c.streamHash : xxh3_64(c.streamPtr, c.streamUsed);
	if (stream != header.streamHash) return memoryFail(ctx, stream, header.streamHash);
	for (let p = memoryPtr + <usize>directory; p < memoryPtr + <usize>pages; p++) {
		if (load<u8>(p) != 0) return memoryFail(ctx, 0, load<u8>(p));
	}
	let next: u64 = 0;
	for (let i: u32 = 0; i < header.pageCount; i++) {
		const mfn = load<u64>(memoryPtr + L.MEMORY_HEADER_BYTES + i * 8);
		if (mfn < next || mfn >= c.frameCount) return memoryFail(ctx, next, mfn);
		next = mfn + 1;
	}
	return true;
}

function need(ctx: usize, field: usize, mfn: u64): bool {
	return preserved(ctx, mfn) != 0 || fail(ctx, L.RULE_MEMORY, field, 1, mfn);
}

/** Grant and status frames, shared_info, control blocks, event arrays: each is in the preserved memory. */
export function checkPreserved(ctx: usize): bool {
	for (let i: u32 = 0; i < context(ctx).domainCount; i++) {
		const plan = planAt(ctx, i);
		if (plan.grantTablePtr) {
			at(ctx, L.PASS_1D, plan.domid, plan.grantTablePtr);
			const table = changetype<L.GrantTable>(bodyOf(plan.grantTablePtr));
			for (let part: u32 = 0; part < 2; part++) {
				const rows = partFrom(L.RECORD_LU_GRANT_TABLE, plan.grantTablePtr, part);
				const count = part == 0 ? table.grantFrameCount : table.statusFrameCount;
				for (let f: u32 = 0; f < count; f++) {
					const row = rows + f * L.GRANT_FRAME_BYTES;
					if (!need(ctx, row, changetype<L.GrantFrame>(row).mfn)) return false;
				}
			}
		}
		if (plan.sharedInfoPtr) {
			at(ctx, L.PASS_2, plan.domid, plan.sharedInfoPtr);
			if (!need(ctx, bodyOf(plan.sharedInfoPtr), load<u64>(bodyOf(plan.sharedInfoPtr), L.SHARED_INFO__MFN)))
				return false;
		}
		if (!plan.evtchnPtr) continue;
		at(ctx, L.PASS_2, plan.domid, plan.evtchnPtr);
		const evtchn = changetype<L.Evtchn>(bodyOf(plan.evtchnPtr));
		const blocks = partFrom(L.RECORD_LU_EVTCHN, plan.evtchnPtr, 0);
		for (let b: u32 = 0; b < evtchn.controlBlockCount; b++) {
			const row = blocks + b * L.CONTROL_BLOCK_BYTES;
			if (!need(ctx, row + L.CONTROL_BLOCK__MFN, changetype<L.ControlBlock>(row).mfn)) return false;
		}
		const arrays = partFrom(L.RECORD_LU_EVTCHN, plan.evtchnPtr, 1);
		for (let a: u32 = 0; a < evtchn.arrayFrameCount; a++) {
			if (!need(ctx, arrays + a * L.MFN_BYTES, load<u64>(arrays + a * L.MFN_BYTES))) return false;
		}
	}
	return true;
}
