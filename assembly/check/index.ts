/**
 * check: the whole stream is proven restorable before a byte of the target is written (X1). Writes the workspace alone.
 *
 * The order is that of dependence: sections and records, the host, domains, frames and types, P2Ms, grants, events,
 * vCPUs, the rest, and last what needs the preserved memory. The first rule that is broken ends it.
 */
import {
	begin,
	CONTEXT_BLOCK_BYTES,
	context,
	hasWorkers,
	OK,
	PHASE_CHECKED,
	PHASE_PLANNED,
	REFUSED,
	refuse,
} from "../context";
import * as L from "../layout.gen";
import { planAt } from "../sections";
import { checkCounts, checkDomainRest, checkDomains, checkHost, checkRegions, checkState } from "./domains";
import { checkEvents } from "./events";
import { checkOwners, checkTypes } from "./frames";
import { checkGrants, checkSums } from "./grants";
import { checkDevices, checkIrqs } from "./interrupts";
import { checkMemory, checkPreserved } from "./memory";
import { checkKept, checkP2m } from "./p2m";
import { checkSectionRecords, makePlans } from "./sections";
import { checkTables } from "./tables";
import { checkVcpuList, checkVcpus } from "./vcpus";

/** Rules that only the preserved memory lets us check: MEMORY, and what PAGE_TABLE says of entries. */
const MEMORY_RULES: u32 = 2;

function checkRecords(ctx: usize): bool {
	if (!makePlans(ctx) || !checkSectionRecords(ctx, 0, null)) return false;
	for (let i: u32 = 0; i < context(ctx).domainCount; i++) {
		const plan = planAt(ctx, i);
		if (!checkSectionRecords(ctx, plan.section0, plan)) return false;
		if (!checkSectionRecords(ctx, plan.section1, plan)) return false;
		if (!checkSectionRecords(ctx, plan.section2, plan)) return false;
	}
	return checkSectionRecords(ctx, context(ctx).framesSection, null);
}

function checkAll(ctx: usize): bool {
	const c = context(ctx);
	if (!checkRecords(ctx) || !checkHost(ctx)) return false;
	if (!checkDomains(ctx)) return false;
	for (let i: u32 = 0; i < c.domainCount; i++) if (!checkVcpuList(ctx, planAt(ctx, i))) return false;
	if (!checkOwners(ctx) || !checkTypes(ctx) || !checkRegions(ctx)) return false;
	// All kept tables first: no P2M entry may name a frame of them.
	for (let i: u32 = 0; i < c.domainCount; i++) if (!checkKept(ctx, planAt(ctx, i))) return false;
	for (let i: u32 = 0; i < c.domainCount; i++) if (!checkP2m(ctx, planAt(ctx, i))) return false;
	if (!checkGrants(ctx) || !checkSums(ctx) || !checkEvents(ctx)) return false;
	if (!checkIrqs(ctx) || !checkDevices(ctx)) return false;
	for (let i: u32 = 0; i < c.domainCount; i++) {
		const plan = planAt(ctx, i);
		if (!checkState(ctx, plan) || !checkVcpus(ctx, plan) || !checkDomainRest(ctx, plan) || !checkCounts(ctx, plan))
			return false;
	}
	return c.memoryPtr == 0 || (checkMemory(ctx) && checkPreserved(ctx) && checkTables(ctx));
}

function apart(a: u64, aBytes: u64, b: u64, bytes: u64): bool {
	return a + aBytes <= b || b + bytes <= a;
}

/**
 * Checks an opened and planned stream. `work` (8-aligned, planWorkBytes octets) is the call's to write and stays with the
 * context; `memory` is the preserved memory, 0 for none: rules that need it are then counted in notChecked.
 */
export function check(ctx: usize, work: usize, workBytes: u32, memoryPtr: usize, memoryBytes: u32): u32 {
	begin(ctx);
	const c = context(ctx);
	if (c.phase != PHASE_PLANNED && c.phase != PHASE_CHECKED)
		return refuse(ctx, L.RULE_NOT_CHECKED, PHASE_PLANNED, c.phase);
	if (c.hostDone != 0 || hasWorkers(ctx)) return refuse(ctx, L.RULE_PASS_ORDER, 0, c.hostDone);
	const end = (<u64>memory.size()) << 16;
	const inside = <u64>work + workBytes <= end && <u64>memoryPtr + memoryBytes <= end;
	const clear =
		apart(work, workBytes, c.streamPtr, c.streamBytes) &&
		apart(work, workBytes, memoryPtr, memoryBytes) &&
		apart(work, workBytes, ctx, CONTEXT_BLOCK_BYTES);
	const aligned = ((work | memoryPtr) & 7) == 0 && work >= __heap_base;
	if (!aligned || !inside || !clear) return refuse(ctx, L.RULE_WINDOW, 8, work);
	if (workBytes < c.planWorkBytes) return refuse(ctx, L.RULE_WINDOW, c.planWorkBytes, workBytes);
	c.phase = PHASE_PLANNED;
	c.workPtr = <u32>work;
	c.workBytes = workBytes;
	c.memoryPtr = <u32>memoryPtr;
	c.memoryBytes = memoryBytes;
	c.notChecked = memoryPtr == 0 ? MEMORY_RULES : 0;
	if (!checkAll(ctx)) return REFUSED;
	begin(ctx);
	c.phase = PHASE_CHECKED;
	return OK;
}
