/** The host, and each domain's identity, limits, run state, I/O request servers and permissions. */
import { at, context, fail } from "../context";
import * as L from "../layout.gen";
import { L2_SLOT_SHIFT } from "../pageTable";
import { bodyOf, partFrom } from "../record";
import { findRecord, MARK_USED, mark, marksAt, ownerEntry, planAt, VCPU_LIMIT } from "../sections";
import { isChannel, PER_VCPU } from "./events";
import { checkInHost, checkOwned, checkWritten, reserveRange, reserveRanges, takeXenheap } from "./frames";
import { exists, hasVcpu } from "./sections";

const KNOWN_CREATE: u32 = 127;
const KNOWN_FEATURES: u64 = 31;
const VIRQS: u32 = 24;
const IOREQ_SERVERS: u32 = 8;
/** Of a 32-bit guest's 4 GiB the last; what an L2 entry of its page tables maps. */
const LAST_GIB: u32 = 0xc000_0000;
const L2_ENTRY_OCTETS: u32 = 1 << L2_SLOT_SHIFT;
/** Weights and caps have 16 bits in Xen's interface; RTDS takes periods and budgets of 10 microseconds to 10 seconds. */
const MOST_WEIGHT: u32 = 65535;
const LEAST_US: u32 = 10;
const MOST_PERIOD_US: u32 = 10_000_000;
/** A server needs one page for each 128 vCPUs and a buffered one. */
const VCPUS_OF_PAGE: u32 = 128;
const IOREQ_PAGES: u32 = 65;

/** LU_HOST against the stream, global VIRQ handlers. */
export function checkHost(ctx: usize): bool {
	const record = <usize>context(ctx).hostPtr;
	at(ctx, L.PASS_H, L.DOMID_XEN, record);
	const body = bodyOf(record);
	const host = changetype<L.Host>(body);
	if (host.domainCount != context(ctx).domainCount)
		return fail(ctx, L.RULE_HOST_LIMIT, body + L.HOST__DOMAIN_COUNT, context(ctx).domainCount, host.domainCount);
	if ((host.features & ~KNOWN_FEATURES) != 0)
		return fail(ctx, L.RULE_VERSION1_REFUSES, body + L.HOST__FEATURES, KNOWN_FEATURES, host.features);
	const handlers = partFrom(L.RECORD_LU_HOST, record, 0);
	let next: u32 = 0;
	for (let i: u32 = 0; i < host.virqHandlerCount; i++) {
		const row = handlers + i * L.VIRQ_HANDLER_BYTES;
		const handler = changetype<L.VirqHandler>(row);
		if (handler.virq < next || handler.virq >= VIRQS) return fail(ctx, L.RULE_VIRQ, row, next, handler.virq);
		if ((PER_VCPU & ((<u32>1) << handler.virq)) != 0) return fail(ctx, L.RULE_VIRQ, row, next, handler.virq);
		next = handler.virq + 1;
		if (!exists(ctx, handler.domid))
			return fail(ctx, L.RULE_DOMAIN_REFERENCE, row + L.VIRQ_HANDLER__DOMID, 0, handler.domid);
	}
	return true;
}

/** LU_REGIONS, IOMMU tables, LU_M2P: after the owners are known. All but the M2P, which is Xen's, are nobody's frames. */
export function checkRegions(ctx: usize): bool {
	const record = findRecord(ctx, 0, L.RECORD_LU_REGIONS);
	at(ctx, L.PASS_H, L.DOMID_XEN, record);
	const rows = partFrom(L.RECORD_LU_REGIONS, record, 0);
	const count = load<u32>(bodyOf(record), L.REGIONS__REGION_COUNT);
	let bootmem: u32 = 0;
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.REGION_BYTES;
		const region = changetype<L.Region>(row);
		if (region.kind == 0 || region.kind > L.REGION_REUSABLE)
			return fail(ctx, L.RULE_REGION, row + L.REGION__KIND, L.REGION_REUSABLE, region.kind);
		if (region.frameCount == 0) return fail(ctx, L.RULE_REGION, row + L.REGION__FRAME_COUNT, 1, 0);
		if (region.kind == L.REGION_BOOTMEM) bootmem++;
		if (!reserveRange(ctx, row, region.firstMfn, region.frameCount, L.RULE_REGION)) return false;
	}
	if (bootmem != 1) return fail(ctx, L.RULE_REGION, bodyOf(record), 1, bootmem);
	const devices = findRecord(ctx, 0, L.RECORD_LU_DEVICES);
	if (devices) {
		at(ctx, L.PASS_H, L.DOMID_XEN, devices);
		const kept = partFrom(L.RECORD_LU_DEVICES, devices, 5);
		if (!reserveRanges(ctx, kept, load<u32>(bodyOf(devices), L.DEVICES__RANGE_COUNT))) return false;
	}
	const m2p = findRecord(ctx, 0, L.RECORD_LU_M2P);
	at(ctx, L.PASS_H, L.DOMID_XEN, m2p);
	const ranges = partFrom(L.RECORD_LU_M2P, m2p, 0);
	const rangeCount = load<u32>(bodyOf(m2p), L.M2P__RANGE_COUNT);
	for (let i: u32 = 0; i < rangeCount; i++) {
		const row = ranges + i * L.FRAME_RANGE_BYTES;
		const range = changetype<L.FrameRange>(row);
		if (!checkInHost(ctx, row, range.firstMfn, range.frameCount, L.RULE_FRAME_RESERVED)) return false;
		for (let mfn = range.firstMfn; mfn < range.firstMfn + range.frameCount; mfn++) {
			const entry = ownerEntry(ctx, mfn);
			const owner = <u32>entry & L.FRAME_OWNER_MASK;
			if (owner != L.DOMID_XEN || (entry & MARK_USED) != 0)
				return fail(ctx, L.RULE_FRAME_RESERVED, row, L.DOMID_XEN, owner);
			mark(ctx, mfn, MARK_USED);
		}
	}
	return true;
}

function poolExists(record: usize, id: u32): bool {
	const rows = partFrom(L.RECORD_LU_CPUPOOLS, record, 0);
	const count = load<u32>(bodyOf(record), L.CPUPOOLS__POOL_COUNT);
	for (let i: u32 = 0; i < count; i++) if (load<u32>(rows + i * L.POOL_BYTES, L.POOL__POOL_ID) == id) return true;
	return false;
}

/** LU_DOMAIN's fields; `hasHardware`: a domain before it is the hardware domain, of which there is at most one. */
function checkDomain(ctx: usize, plan: L.DomainPlan, pools: usize, hasHardware: bool): bool {
	at(ctx, L.PASS_0, plan.domid, plan.domainPtr);
	const body = bodyOf(plan.domainPtr);
	const domain = changetype<L.Domain>(body);
	if (<u32>domain.domid != plan.domid) return fail(ctx, L.RULE_DOMID, body + L.DOMAIN__DOMID, plan.domid, domain.domid);
	if (plan.kind < L.KIND_PV || plan.kind > L.KIND_HVM)
		return fail(ctx, L.RULE_DOMAIN_FIELD, body + L.DOMAIN__KIND, L.KIND_HVM, plan.kind);
	if (plan.life > L.LIFE_DEAD) return fail(ctx, L.RULE_DOMAIN_FIELD, body + L.DOMAIN__LIFE, L.LIFE_DEAD, plan.life);
	if ((domain.createFlags & ~KNOWN_CREATE) != 0)
		return fail(ctx, L.RULE_DOMAIN_FIELD, body + L.DOMAIN__CREATE_FLAGS, KNOWN_CREATE, domain.createFlags);
	if ((domain.createFlags & L.CREATE_HARDWARE) != 0 && hasHardware)
		return fail(ctx, L.RULE_DOMAIN_FIELD, body + L.DOMAIN__CREATE_FLAGS, 0, L.CREATE_HARDWARE);
	if (domain.guestWidth != 4 && domain.guestWidth != 8)
		return fail(ctx, L.RULE_DOMAIN_FIELD, body + L.DOMAIN__GUEST_WIDTH, 8, domain.guestWidth);
	const isPv32 = plan.kind == L.KIND_PV && domain.guestWidth == 4;
	if (isPv32 && context(ctx).formatVersion < 2)
		return fail(ctx, L.RULE_VERSION1_REFUSES, body + L.DOMAIN__GUEST_WIDTH, 8, 4);
	const hap = domain.createFlags | L.CREATE_HAP;
	if (plan.kind != L.KIND_PV && plan.life != L.LIFE_DEAD && domain.createFlags != hap)
		return fail(ctx, L.RULE_VERSION1_REFUSES, body + L.DOMAIN__CREATE_FLAGS, hap, domain.createFlags);
	if (domain.maxVcpus > VCPU_LIMIT)
		return fail(ctx, L.RULE_DOMAIN_FIELD, body + L.DOMAIN__MAX_VCPUS, VCPU_LIMIT, domain.maxVcpus);
	if (domain.grantVersionLimit > 2)
		return fail(ctx, L.RULE_DOMAIN_FIELD, body + L.DOMAIN__GRANT_VERSION_LIMIT, 2, domain.grantVersionLimit);
	if (!poolExists(pools, domain.cpupoolId))
		return fail(ctx, L.RULE_DOMAIN_REFERENCE, body + L.DOMAIN__CPUPOOL_ID, 0, domain.cpupoolId);
	return checkPv32(ctx, plan, isPv32) && checkVnuma(ctx, plan, domain.maxVcpus);
}

/** LU_PV32: of 32-bit PV guests alone. A dead one has no address space any more. */
function checkPv32(ctx: usize, plan: L.DomainPlan, isPv32: bool): bool {
	const record = <usize>plan.pv32Ptr;
	if (!record) {
		if (!isPv32 || plan.life == L.LIFE_DEAD) return true;
		return fail(ctx, L.RULE_PV32, 0, L.TYPE_LU_PV32, 0);
	}
	at(ctx, L.PASS_0, plan.domid, record);
	if (!isPv32) return fail(ctx, L.RULE_PV32, 0, 0, L.TYPE_LU_PV32);
	const start = load<u32>(bodyOf(record), L.PV32__XEN_START);
	if (start < LAST_GIB || start % L2_ENTRY_OCTETS != 0)
		return fail(ctx, L.RULE_PV32, bodyOf(record) + L.PV32__XEN_START, LAST_GIB, start);
	return true;
}

/** LU_VNUMA: the toolstack's, so that what does not hold together is refused and never mended. */
function checkVnuma(ctx: usize, plan: L.DomainPlan, maxVcpus: u32): bool {
	const record = findRecord(ctx, plan.section0, L.RECORD_LU_VNUMA);
	if (!record) return true;
	at(ctx, L.PASS_0, plan.domid, record);
	const body = bodyOf(record);
	const head = changetype<L.Vnuma>(body);
	if (head.nodeCount == 0) return fail(ctx, L.RULE_VNUMA, body + L.VNUMA__NODE_COUNT, 1, 0);
	const distances = <u64>head.nodeCount * head.nodeCount;
	if (<u64>head.distanceCount != distances)
		return fail(ctx, L.RULE_VNUMA, body + L.VNUMA__DISTANCE_COUNT, distances, head.distanceCount);
	if (head.vcpuCount != maxVcpus) return fail(ctx, L.RULE_VNUMA, body + L.VNUMA__VCPU_COUNT, maxVcpus, head.vcpuCount);
	// Distances are whatever the guest's configuration says (vdistances): Xen hands them on, and so does this.
	let rows = partFrom(L.RECORD_LU_VNUMA, record, 2);
	for (let i: u32 = 0; i < head.vcpuCount; i++) {
		const node = load<u32>(rows + i * L.VNUMA_VCPU_BYTES);
		if (node >= head.nodeCount) return fail(ctx, L.RULE_VNUMA, rows + i * L.VNUMA_VCPU_BYTES, head.nodeCount - 1, node);
	}
	rows = partFrom(L.RECORD_LU_VNUMA, record, 3);
	let next: u64 = 0;
	for (let i: u32 = 0; i < head.rangeCount; i++) {
		const row = rows + i * L.VNUMA_RANGE_BYTES;
		const range = changetype<L.VnumaRange>(row);
		if (range.start < next) return fail(ctx, L.RULE_VNUMA, row, next, range.start);
		if (range.end <= range.start) return fail(ctx, L.RULE_VNUMA, row + L.VNUMA_RANGE__END, range.start, range.end);
		if (range.node >= head.nodeCount)
			return fail(ctx, L.RULE_VNUMA, row + L.VNUMA_RANGE__NODE, head.nodeCount - 1, range.node);
		next = range.end;
	}
	return true;
}

/** Scheduler of a CPU pool that exists. */
function schedulerOf(ctx: usize, id: u32): u32 {
	const record = findRecord(ctx, 0, L.RECORD_LU_CPUPOOLS);
	const rows = partFrom(L.RECORD_LU_CPUPOOLS, record, 0);
	const count = load<u32>(bodyOf(record), L.CPUPOOLS__POOL_COUNT);
	for (let i: u32 = 0; i < count; i++) {
		if (load<u32>(rows + i * L.POOL_BYTES, L.POOL__POOL_ID) == id)
			return load<u32>(rows + i * L.POOL_BYTES, L.POOL__SCHEDULER);
	}
	return 0;
}

/** LU_SCHEDULER: numbers of the pool's scheduler, in its ranges. */
function checkScheduler(ctx: usize, plan: L.DomainPlan): bool {
	const record = findRecord(ctx, plan.section2, L.RECORD_LU_SCHEDULER);
	if (!record) return true;
	at(ctx, L.PASS_2, plan.domid, record);
	const body = bodyOf(record);
	const head = changetype<L.Scheduler>(body);
	const scheduler = schedulerOf(ctx, load<u32>(bodyOf(plan.domainPtr), L.DOMAIN__CPUPOOL_ID));
	if (head.scheduler != scheduler) return fail(ctx, L.RULE_SCHEDULER, body, scheduler, head.scheduler);
	const isShared = scheduler == L.SCHEDULER_CREDIT || scheduler == L.SCHEDULER_CREDIT2;
	const mostWeight: u32 = isShared ? MOST_WEIGHT : 0;
	if (head.weight > mostWeight || (isShared && head.weight == 0))
		return fail(ctx, L.RULE_SCHEDULER, body + L.SCHEDULER__WEIGHT, mostWeight, head.weight);
	const mostCap: u32 = isShared ? MOST_WEIGHT : 0;
	if (head.cap > mostCap) return fail(ctx, L.RULE_SCHEDULER, body + L.SCHEDULER__CAP, mostCap, head.cap);
	if (head.vcpuCount != 0 && scheduler != L.SCHEDULER_RTDS)
		return fail(ctx, L.RULE_SCHEDULER, body + L.SCHEDULER__VCPU_COUNT, 0, head.vcpuCount);
	const rows = partFrom(L.RECORD_LU_SCHEDULER, record, 0);
	let next: u32 = 0;
	for (let i: u32 = 0; i < head.vcpuCount; i++) {
		const row = rows + i * L.SCHEDULER_VCPU_BYTES;
		const vcpu = changetype<L.SchedulerVcpu>(row);
		if (vcpu.vcpuId < next || vcpu.vcpuId >= plan.vcpuSlots)
			return fail(ctx, L.RULE_SCHEDULER, row, plan.vcpuSlots, vcpu.vcpuId);
		next = vcpu.vcpuId + 1;
		if (vcpu.periodUs < LEAST_US || vcpu.periodUs > MOST_PERIOD_US)
			return fail(ctx, L.RULE_SCHEDULER, row + L.SCHEDULER_VCPU__PERIOD_US, MOST_PERIOD_US, vcpu.periodUs);
		if (vcpu.budgetUs < LEAST_US || vcpu.budgetUs > vcpu.periodUs)
			return fail(ctx, L.RULE_SCHEDULER, row + L.SCHEDULER_VCPU__BUDGET_US, vcpu.periodUs, vcpu.budgetUs);
		if (vcpu.flags > L.RTDS_FLAG_EXTRA_TIME)
			return fail(ctx, L.RULE_SCHEDULER, row + L.SCHEDULER_VCPU__FLAGS, L.RTDS_FLAG_EXTRA_TIME, vcpu.flags);
	}
	return true;
}

/** LU_DOMAIN_STATE's fields, and what a dead domain must not have. */
export function checkState(ctx: usize, plan: L.DomainPlan): bool {
	at(ctx, L.PASS_2, plan.domid, plan.statePtr);
	const body = bodyOf(plan.statePtr);
	const state = changetype<L.DomainState>(body);
	if (<u32>state.shutdownState > L.SHUTDOWN_STATE_SHUT_DOWN)
		return fail(
			ctx,
			L.RULE_DOMAIN_STATE,
			body + L.DOMAIN_STATE__SHUTDOWN_STATE,
			L.SHUTDOWN_STATE_SHUT_DOWN,
			state.shutdownState,
		);
	if (state.creationFinished > 1)
		return fail(ctx, L.RULE_DOMAIN_STATE, body + L.DOMAIN_STATE__CREATION_FINISHED, 1, state.creationFinished);
	if (state.callbackAsserted > 1)
		return fail(ctx, L.RULE_DOMAIN_STATE, body + L.DOMAIN_STATE__CALLBACK_ASSERTED, 1, state.callbackAsserted);
	if (state.suspendedS3 > 1)
		return fail(ctx, L.RULE_DOMAIN_STATE, body + L.DOMAIN_STATE__SUSPENDED_S3, 1, state.suspendedS3);
	if (state.pirqEoiMode > 2)
		return fail(ctx, L.RULE_DOMAIN_STATE, body + L.DOMAIN_STATE__PIRQ_EOI_MODE, 2, state.pirqEoiMode);
	const isTarget = exists(ctx, state.target) && <u32>state.target != plan.domid;
	if (<u32>state.target != L.DOMID_INVALID && !isTarget)
		return fail(ctx, L.RULE_DOMAIN_REFERENCE, body + L.DOMAIN_STATE__TARGET, L.DOMID_INVALID, state.target);
	if (
		state.pirqEoiMfn != L.NONE64 &&
		!checkWritten(ctx, body + L.DOMAIN_STATE__PIRQ_EOI_MFN, state.pirqEoiMfn, plan.domid)
	)
		return false;
	if (plan.life == L.LIFE_DEAD) {
		const running = plan.portsPtr ? plan.portsPtr : plan.sharedInfoPtr ? plan.sharedInfoPtr : plan.mapsPtr;
		if (running != 0) {
			at(ctx, L.PASS_2, plan.domid, running);
			return fail(ctx, L.RULE_DEAD_DOMAIN, 0, 0, 1);
		}
		return true;
	}
	if (!plan.sharedInfoPtr) return fail(ctx, L.RULE_SHARED_INFO, 0, L.TYPE_LU_SHARED_INFO, 0);
	at(ctx, L.PASS_2, plan.domid, plan.sharedInfoPtr);
	return takeXenheap(
		ctx,
		bodyOf(plan.sharedInfoPtr),
		load<u64>(bodyOf(plan.sharedInfoPtr), L.SHARED_INFO__MFN),
		plan.domid,
	);
}

/**
 * Xenheap frames are those that records name. After every record has taken its own. A domain may have more other frames than
 * its limit, which the toolstack may lower at any time: it is given no more of them, and gives back what it likes.
 */
export function checkCounts(ctx: usize, plan: L.DomainPlan): bool {
	at(ctx, L.PASS_0, plan.domid, plan.domainPtr);
	let named: u32 = plan.sharedInfoPtr ? 1 : 0;
	if (plan.grantTablePtr) {
		const table = changetype<L.GrantTable>(bodyOf(plan.grantTablePtr));
		named += table.grantFrameCount + table.statusFrameCount;
	}
	return plan.xenheapFrames == named || fail(ctx, L.RULE_XENHEAP_COUNT, 0, named, plan.xenheapFrames);
}

function serverAt(record: usize, id: u32): usize {
	const rows = partFrom(L.RECORD_LU_IOREQ_SERVERS, record, 0);
	const count = load<u32>(bodyOf(record), L.IOREQ_SERVERS__SERVER_COUNT);
	for (let i: u32 = 0; i < count; i++)
		if (load<u32>(rows + i * L.IOREQ_SERVER_BYTES) == id) return rows + i * L.IOREQ_SERVER_BYTES;
	return 0;
}

/** LU_IOREQ_SERVERS: servers ascend; what belongs to one names it; ranges ascend within one server and kind. */
function checkServers(ctx: usize, plan: L.DomainPlan): bool {
	const record = findRecord(ctx, plan.section2, L.RECORD_LU_IOREQ_SERVERS);
	if (!record) return true;
	at(ctx, L.PASS_2, plan.domid, record);
	const head = changetype<L.IoreqServers>(bodyOf(record));
	if (head.serverCount > IOREQ_SERVERS) return fail(ctx, L.RULE_IOREQ, bodyOf(record), IOREQ_SERVERS, head.serverCount);
	const servers = partFrom(L.RECORD_LU_IOREQ_SERVERS, record, 0);
	let next: u32 = 0;
	let isClaimed = false;
	for (let i: u32 = 0; i < head.serverCount; i++) {
		const row = servers + i * L.IOREQ_SERVER_BYTES;
		const server = changetype<L.IoreqServer>(row);
		if (server.serverId < next || server.serverId >= 65536) return fail(ctx, L.RULE_IOREQ, row, next, server.serverId);
		next = server.serverId + 1;
		if (!exists(ctx, server.emulator) || <u32>server.emulator == plan.domid)
			return fail(ctx, L.RULE_DOMAIN_REFERENCE, row + L.IOREQ_SERVER__EMULATOR, 0, server.emulator);
		if (<u32>server.bufferedMode > L.BUFIOREQ_ATOMIC)
			return fail(ctx, L.RULE_IOREQ, row + L.IOREQ_SERVER__BUFFERED_MODE, L.BUFIOREQ_ATOMIC, server.bufferedMode);
		if (server.flags > 3) return fail(ctx, L.RULE_IOREQ, row + L.IOREQ_SERVER__FLAGS, 3, server.flags);
		const claims = (server.flags & L.IOREQ_FLAG_CLAIMS_WRITES) != 0;
		if (claims && isClaimed)
			return fail(ctx, L.RULE_IOREQ, row + L.IOREQ_SERVER__FLAGS, L.IOREQ_FLAG_ENABLED, server.flags);
		if (claims) isClaimed = true;
		if (server.bufferedPort != 0 && !isChannel(plan, server.bufferedPort))
			return fail(
				ctx,
				L.RULE_IOREQ,
				row + L.IOREQ_SERVER__BUFFERED_PORT,
				L.EVTCHN_STATE_INTERDOMAIN,
				server.bufferedPort,
			);
	}
	const ports = partFrom(L.RECORD_LU_IOREQ_SERVERS, record, 1);
	memory.fill(marksAt(ctx), 0, plan.vcpuSlots * 4);
	for (let i: u32 = 0; i < head.portCount; i++) {
		const row = ports + i * L.IOREQ_PORT_BYTES;
		const port = changetype<L.IoreqPort>(row);
		const server = serverAt(record, port.serverId);
		if (!server) return fail(ctx, L.RULE_IOREQ, row, 0, port.serverId);
		if (!hasVcpu(plan, port.vcpuId))
			return fail(ctx, L.RULE_IOREQ, row + L.IOREQ_PORT__VCPU_ID, plan.vcpuSlots, port.vcpuId);
		if (!isChannel(plan, port.port))
			return fail(ctx, L.RULE_IOREQ, row + L.IOREQ_PORT__PORT, L.EVTCHN_STATE_INTERDOMAIN, port.port);
		// A vCPU's mark has a bit for each server.
		const served = marksAt(ctx) + port.vcpuId * 4;
		const bit = (<u32>1) << (<u32>((server - servers) / L.IOREQ_SERVER_BYTES));
		if ((load<u32>(served) & bit) != 0) return fail(ctx, L.RULE_IOREQ, row + L.IOREQ_PORT__VCPU_ID, 1, 2);
		store<u32>(served, load<u32>(served) | bit);
	}
	if (head.pageCount > head.serverCount * IOREQ_PAGES)
		return fail(
			ctx,
			L.RULE_IOREQ,
			bodyOf(record) + L.IOREQ_SERVERS__PAGE_COUNT,
			head.serverCount * IOREQ_PAGES,
			head.pageCount,
		);
	const pages = partFrom(L.RECORD_LU_IOREQ_SERVERS, record, 2);
	for (let i: u32 = 0; i < head.pageCount; i++) {
		const row = pages + i * L.IOREQ_PAGE_BYTES;
		const page = changetype<L.IoreqPage>(row);
		if (!serverAt(record, page.serverId))
			return fail(ctx, L.RULE_IOREQ, row + L.IOREQ_PAGE__SERVER_ID, 0, page.serverId);
		if (<u32>page.role > L.IOREQ_PAGE_BUFFERED)
			return fail(ctx, L.RULE_IOREQ, row + L.IOREQ_PAGE__ROLE, L.IOREQ_PAGE_BUFFERED, page.role);
		if (page.flags > 1) return fail(ctx, L.RULE_IOREQ, row + L.IOREQ_PAGE__FLAGS, 1, page.flags);
		if (!checkOwned(ctx, row, page.mfn, plan.domid) || !checkPage(ctx, plan, pages, i)) return false;
	}
	return checkRanges(ctx, record, head.rangeCount);
}

/** A page is in one place, and a server has a buffered one and as many others as its vCPUs need. */
function checkPage(ctx: usize, plan: L.DomainPlan, pages: usize, index: u32): bool {
	const row = pages + index * L.IOREQ_PAGE_BYTES;
	const page = changetype<L.IoreqPage>(row);
	const vcpus = load<u32>(bodyOf(plan.domainPtr), L.DOMAIN__MAX_VCPUS);
	const most: u32 = <u32>page.role == L.IOREQ_PAGE_BUFFERED ? 1 : (vcpus + VCPUS_OF_PAGE - 1) / VCPUS_OF_PAGE;
	let count: u32 = 1;
	for (let before = pages; before < row; before += L.IOREQ_PAGE_BYTES) {
		const other = changetype<L.IoreqPage>(before);
		if (other.mfn == page.mfn) return fail(ctx, L.RULE_IOREQ, row, 1, 2);
		if (other.serverId == page.serverId && other.role == page.role) count++;
	}
	return count <= most || fail(ctx, L.RULE_IOREQ, row + L.IOREQ_PAGE__ROLE, most, count);
}

function checkRanges(ctx: usize, record: usize, count: u32): bool {
	const rows = partFrom(L.RECORD_LU_IOREQ_SERVERS, record, 3);
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.IOREQ_RANGE_BYTES;
		const range = changetype<L.IoreqRange>(row);
		if (!serverAt(record, range.serverId)) return fail(ctx, L.RULE_IOREQ, row, 0, range.serverId);
		if (range.type > L.IOREQ_RANGE_PCI)
			return fail(ctx, L.RULE_IOREQ, row + L.IOREQ_RANGE__TYPE, L.IOREQ_RANGE_PCI, range.type);
		if (range.first > range.last) return fail(ctx, L.RULE_IOREQ, row + L.IOREQ_RANGE__LAST, range.first, range.last);
		if (i == 0) continue;
		const before = changetype<L.IoreqRange>(row - L.IOREQ_RANGE_BYTES);
		if (before.serverId != range.serverId || before.type != range.type) {
			if (range.serverId < before.serverId) return fail(ctx, L.RULE_IOREQ, row, before.serverId, range.serverId);
			if (range.serverId == before.serverId && before.type > range.type)
				return fail(ctx, L.RULE_IOREQ, row + L.IOREQ_RANGE__TYPE, before.type, range.type);
		} else if (range.first <= before.last)
			return fail(ctx, L.RULE_IOREQ, row + L.IOREQ_RANGE__FIRST, before.last + 1, range.first);
	}
	return true;
}

/** LU_CAPS: by kind, ascending, not overlapping. */
function checkCaps(ctx: usize, plan: L.DomainPlan): bool {
	const record = findRecord(ctx, plan.section2, L.RECORD_LU_CAPS);
	if (!record) return true;
	at(ctx, L.PASS_2, plan.domid, record);
	const rows = partFrom(L.RECORD_LU_CAPS, record, 0);
	const count = load<u32>(bodyOf(record), L.CAPS__RANGE_COUNT);
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.CAP_RANGE_BYTES;
		const range = changetype<L.CapRange>(row);
		if (range.kind < L.CAP_IO_PORT || range.kind > L.CAP_INTERRUPT)
			return fail(ctx, L.RULE_CAPS, row, L.CAP_INTERRUPT, range.kind);
		if (range.first > range.last) return fail(ctx, L.RULE_CAPS, row + L.CAP_RANGE__LAST, range.first, range.last);
		if (i == 0) continue;
		const before = changetype<L.CapRange>(row - L.CAP_RANGE_BYTES);
		if (range.kind < before.kind) return fail(ctx, L.RULE_CAPS, row, before.kind, range.kind);
		if (range.kind == before.kind && range.first <= before.last)
			return fail(ctx, L.RULE_CAPS, row + L.CAP_RANGE__FIRST, before.last + 1, range.first);
	}
	return true;
}

/** What concerns one domain alone and comes last: servers, permissions. */
export function checkDomainRest(ctx: usize, plan: L.DomainPlan): bool {
	return checkServers(ctx, plan) && checkCaps(ctx, plan) && checkScheduler(ctx, plan);
}

/** Every domain's identity and limits. */
export function checkDomains(ctx: usize): bool {
	const pools = findRecord(ctx, 0, L.RECORD_LU_CPUPOOLS);
	const host = changetype<L.Host>(bodyOf(context(ctx).hostPtr));
	const count = load<u32>(bodyOf(pools), L.CPUPOOLS__POOL_COUNT);
	at(ctx, L.PASS_H, L.DOMID_XEN, pools);
	if (count > host.cpuCount) return fail(ctx, L.RULE_HOST_LIMIT, bodyOf(pools), host.cpuCount, count);
	let hasHardware = false;
	for (let i: u32 = 0; i < context(ctx).domainCount; i++) {
		const plan = planAt(ctx, i);
		if (!checkDomain(ctx, plan, pools, hasHardware)) return false;
		if ((load<u32>(bodyOf(plan.domainPtr), L.DOMAIN__CREATE_FLAGS) & L.CREATE_HARDWARE) != 0) hasHardware = true;
	}
	return true;
}
