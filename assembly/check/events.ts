/** Event channels: ABI, ports, both ends of an interdomain channel, VIRQs, FIFO queues, PIRQs. */
import { at, context, fail } from "../context";
import * as L from "../layout.gen";
import {
	bodyOf,
	partFrom,
	runRow,
	runRowEnd,
	runSlot,
	sparseFind,
	sparseRows,
	sparseRowsAt,
	sparseRuns,
	sparseRunsAt,
	sparseSlots,
} from "../record";
import { findRecord, marksAt, planAt, planOf, VCPU_LIMIT } from "../sections";
import { checkWritten } from "./frames";
import { hasVcpu } from "./sections";

const FIFO_PORTS: u32 = 131_072;
const PRIORITIES: u32 = 16;
/** Ports in an event-array frame of 4-octet words. */
const CONTROL_BLOCK_OCTETS: u32 = 72;
const ARRAY_FRAMES: u32 = 128;
const VIRQS: u32 = 24;
/** VIRQs that each vCPU binds for itself. */
export const PER_VCPU: u32 = (1 << L.VIRQ_TIMER) | (1 << L.VIRQ_DEBUG) | (1 << L.VIRQ_XENOPROF) | (1 << L.VIRQ_XENPMU);

function isFifo(plan: L.DomainPlan): bool {
	return plan.evtchnPtr != 0 && load<u32>(bodyOf(plan.evtchnPtr), L.EVTCHN__ABI) == L.EVTCHN_ABI_FIFO;
}

/** LU_EVTCHN: ABI, control blocks one for a vCPU and inside one frame, arrays, tails. */
export function checkAbi(ctx: usize, plan: L.DomainPlan): bool {
	const record = <usize>plan.evtchnPtr;
	if (!record) {
		if (!plan.portsPtr) return true;
		at(ctx, L.PASS_2, plan.domid, plan.portsPtr);
		return fail(ctx, L.RULE_RECORD_MISSING, 0, L.TYPE_LU_EVTCHN, 0);
	}
	at(ctx, L.PASS_2, plan.domid, record);
	const body = bodyOf(record);
	const evtchn = changetype<L.Evtchn>(body);
	if (evtchn.abi > L.EVTCHN_ABI_FIFO)
		return fail(ctx, L.RULE_PORT_FIELD, body + L.EVTCHN__ABI, L.EVTCHN_ABI_FIFO, evtchn.abi);
	const fifo = evtchn.abi == L.EVTCHN_ABI_FIFO;
	if (!fifo && evtchn.arrayFrameCount != 0)
		return fail(ctx, L.RULE_FIFO, body + L.EVTCHN__ARRAY_FRAME_COUNT, 0, evtchn.arrayFrameCount);
	if (!fifo && evtchn.controlBlockCount != 0)
		return fail(ctx, L.RULE_FIFO, body + L.EVTCHN__CONTROL_BLOCK_COUNT, 0, evtchn.controlBlockCount);
	if (evtchn.arrayFrameCount > ARRAY_FRAMES)
		return fail(ctx, L.RULE_FIFO, body + L.EVTCHN__ARRAY_FRAME_COUNT, ARRAY_FRAMES, evtchn.arrayFrameCount);
	const slots = plan.portsPtr ? sparseSlots(bodyOf(plan.portsPtr)) : 0;
	const blocks = partFrom(L.RECORD_LU_EVTCHN, record, 0);
	let next: u32 = 0;
	for (let i: u32 = 0; i < evtchn.controlBlockCount; i++) {
		const row = blocks + i * L.CONTROL_BLOCK_BYTES;
		const block = changetype<L.ControlBlock>(row);
		if (block.vcpuId < next || !hasVcpu(plan, block.vcpuId))
			return fail(ctx, L.RULE_FIFO, row, plan.vcpuSlots, block.vcpuId);
		next = block.vcpuId + 1;
		if ((block.offset & 7) != 0 || block.offset > 4096 - CONTROL_BLOCK_OCTETS)
			return fail(ctx, L.RULE_FIFO, row + L.CONTROL_BLOCK__OFFSET, 4096 - CONTROL_BLOCK_OCTETS, block.offset);
		if (!checkWritten(ctx, row + L.CONTROL_BLOCK__MFN, block.mfn, plan.domid)) return false;
		for (let p: u32 = 0; p < PRIORITIES; p++) {
			const tail = load<u32>(row + L.CONTROL_BLOCK__TAIL + p * 4);
			if (tail != 0 && tail >= slots) return fail(ctx, L.RULE_FIFO, row + L.CONTROL_BLOCK__TAIL + p * 4, slots, tail);
		}
	}
	const arrays = partFrom(L.RECORD_LU_EVTCHN, record, 1);
	for (let i: u32 = 0; i < evtchn.arrayFrameCount; i++) {
		if (!checkWritten(ctx, arrays + i * L.MFN_BYTES, load<u64>(arrays + i * L.MFN_BYTES), plan.domid)) return false;
	}
	return true;
}

/** Bound once: a per-vCPU VIRQ by each vCPU, another one by the domain. */
function checkVirq(ctx: usize, row: usize, port: L.EvtchnPort): bool {
	if (port.virq >= <u16>VIRQS) return fail(ctx, L.RULE_VIRQ, row + L.EVTCHN_PORT__VIRQ, VIRQS, port.virq);
	const bit = (<u32>1) << port.virq;
	// Domain-wide VIRQs are noted with vCPU 0's, where the hypervisor keeps them; the two sets do not meet.
	const holder: u32 = (bit & PER_VCPU) != 0 ? <u32>port.notifyVcpu : 0;
	const bound = marksAt(ctx) + holder * 4;
	if ((load<u32>(bound) & bit) != 0) return fail(ctx, L.RULE_VIRQ, row + L.EVTCHN_PORT__VIRQ, 1, port.virq);
	store<u32>(bound, load<u32>(bound) | bit);
	return true;
}

/** The other end names this one. */
function checkInterdomain(ctx: usize, row: usize, domid: u32, number: u32, port: L.EvtchnPort): bool {
	const remote = planOf(ctx, port.remoteDomid);
	if (!remote) return fail(ctx, L.RULE_INTERDOMAIN, row + L.EVTCHN_PORT__REMOTE_DOMID, 0, port.remoteDomid);
	if (!remote.portsPtr) return fail(ctx, L.RULE_INTERDOMAIN, row + L.EVTCHN_PORT__REMOTE_PORT, 0, port.remotePort);
	const body = bodyOf(remote.portsPtr);
	const index = sparseFind(body, port.remotePort);
	if (index == L.NONE32) return fail(ctx, L.RULE_INTERDOMAIN, row + L.EVTCHN_PORT__REMOTE_PORT, 0, port.remotePort);
	const other = changetype<L.EvtchnPort>(sparseRowsAt(body) + index * L.EVTCHN_PORT_BYTES);
	if (<u32>other.state != L.EVTCHN_STATE_INTERDOMAIN)
		return fail(ctx, L.RULE_INTERDOMAIN, row + L.EVTCHN_PORT__REMOTE_PORT, L.EVTCHN_STATE_INTERDOMAIN, other.state);
	if (<u32>other.remoteDomid != domid)
		return fail(ctx, L.RULE_INTERDOMAIN, row + L.EVTCHN_PORT__REMOTE_DOMID, domid, other.remoteDomid);
	if (other.remotePort != number) {
		return fail(ctx, L.RULE_INTERDOMAIN, row + L.EVTCHN_PORT__REMOTE_PORT, number, other.remotePort);
	}
	return true;
}

function checkPort(ctx: usize, plan: L.DomainPlan, number: u32, row: usize, most: u32): bool {
	const port = changetype<L.EvtchnPort>(row);
	if (number == 0) return fail(ctx, L.RULE_PORT_FIELD, row, 1, 0);
	if (<u32>port.state > L.EVTCHN_STATE_IPI) return fail(ctx, L.RULE_PORT_FIELD, row, L.EVTCHN_STATE_IPI, port.state);
	if (<u32>port.consumer > L.CONSUMER_SHARING)
		return fail(ctx, L.RULE_PORT_FIELD, row + L.EVTCHN_PORT__CONSUMER, L.CONSUMER_SHARING, port.consumer);
	// Xen's own ports wait for a domain, or are bound to one.
	const isBound = <u32>port.state == L.EVTCHN_STATE_UNBOUND || <u32>port.state == L.EVTCHN_STATE_INTERDOMAIN;
	if (<u32>port.consumer != L.CONSUMER_NONE && !isBound)
		return fail(ctx, L.RULE_PORT_FIELD, row + L.EVTCHN_PORT__CONSUMER, L.CONSUMER_NONE, port.consumer);
	if (<u32>port.priority >= PRIORITIES)
		return fail(ctx, L.RULE_PORT_FIELD, row + L.EVTCHN_PORT__PRIORITY, PRIORITIES - 1, port.priority);
	if (<u32>port.lastPriority >= PRIORITIES)
		return fail(ctx, L.RULE_PORT_FIELD, row + L.EVTCHN_PORT__LAST_PRIORITY, PRIORITIES - 1, port.lastPriority);
	if (!hasVcpu(plan, port.notifyVcpu))
		return fail(ctx, L.RULE_PORT_FIELD, row + L.EVTCHN_PORT__NOTIFY_VCPU, plan.vcpuSlots, port.notifyVcpu);
	if (<u32>port.lastVcpu >= plan.vcpuSlots)
		return fail(ctx, L.RULE_PORT_FIELD, row + L.EVTCHN_PORT__LAST_VCPU, plan.vcpuSlots, port.lastVcpu);
	if (port.pending > 1) return fail(ctx, L.RULE_PORT_FIELD, row + L.EVTCHN_PORT__PENDING, 1, port.pending);
	if (number > most) return fail(ctx, L.RULE_PORT_LIMIT, row, most, number);
	const state = <u32>port.state;
	if (state == L.EVTCHN_STATE_INTERDOMAIN) return checkInterdomain(ctx, row, plan.domid, number, port);
	if (state == L.EVTCHN_STATE_VIRQ) return checkVirq(ctx, row, port);
	return true;
}

/** LU_EVTCHN_PORTS: limits of the ABI and of the domain, every used port. */
export function checkPorts(ctx: usize, plan: L.DomainPlan): bool {
	const record = <usize>plan.portsPtr;
	if (!record) return true;
	at(ctx, L.PASS_2, plan.domid, record);
	const body = bodyOf(record);
	const wide = load<u32>(bodyOf(plan.domainPtr), L.DOMAIN__GUEST_WIDTH) == 8;
	const most: u32 = isFifo(plan) ? FIFO_PORTS : wide ? 4096 : 1024;
	if (sparseSlots(body) > most) return fail(ctx, L.RULE_PORT_LIMIT, body, most, sparseSlots(body));
	const allowed = load<u32>(bodyOf(plan.domainPtr), L.DOMAIN__MAX_EVTCHN_PORT);
	memory.fill(marksAt(ctx), 0, VCPU_LIMIT * 4);
	const rows = sparseRowsAt(body);
	for (let run: u32 = 0; run < sparseRuns(body); run++) {
		const first = runRow(sparseRunsAt(body), run);
		for (let i = first; i < runRowEnd(body, run); i++) {
			const number = runSlot(sparseRunsAt(body), run) + (i - first);
			if (!checkPort(ctx, plan, number, rows + i * L.EVTCHN_PORT_BYTES, allowed)) return false;
		}
	}
	return true;
}

function portRow(plan: L.DomainPlan, number: u32): usize {
	if (!plan.portsPtr) return 0;
	const index = sparseFind(bodyOf(plan.portsPtr), number);
	return index == L.NONE32 ? 0 : sparseRowsAt(bodyOf(plan.portsPtr)) + index * L.EVTCHN_PORT_BYTES;
}

/** A port that a record of the domain names: bound to another domain, or waiting for one. */
export function isChannel(plan: L.DomainPlan, number: u32): bool {
	const row = portRow(plan, number);
	if (!row) return false;
	const state = <u32>changetype<L.EvtchnPort>(row).state;
	return state == L.EVTCHN_STATE_INTERDOMAIN || state == L.EVTCHN_STATE_UNBOUND;
}

/** LU_PIRQS: ascending, and each one's port is bound to it. */
export function checkPirqs(ctx: usize, plan: L.DomainPlan): bool {
	const record = findRecord(ctx, plan.section2, L.RECORD_LU_PIRQS);
	let bound: u32 = 0;
	if (record) {
		at(ctx, L.PASS_2, plan.domid, record);
		const rows = partFrom(L.RECORD_LU_PIRQS, record, 0);
		const count = load<u32>(bodyOf(record), L.PIRQS__PIRQ_COUNT);
		let next: u64 = 0;
		for (let i: u32 = 0; i < count; i++) {
			const row = rows + i * L.PIRQ_BYTES;
			const pirq = changetype<L.Pirq>(row);
			if (<u64>pirq.pirq < next) return fail(ctx, L.RULE_PIRQ, row, next, pirq.pirq);
			next = <u64>pirq.pirq + 1;
			if (pirq.flags > 15) return fail(ctx, L.RULE_PIRQ, row + L.PIRQ__FLAGS, 15, pirq.flags);
			if (pirq.port == 0) continue;
			bound++;
			const port = portRow(plan, pirq.port);
			if (!port) return fail(ctx, L.RULE_PIRQ, row + L.PIRQ__PORT, L.EVTCHN_STATE_PIRQ, 0);
			const view = changetype<L.EvtchnPort>(port);
			if (<u32>view.state != L.EVTCHN_STATE_PIRQ)
				return fail(ctx, L.RULE_PIRQ, row + L.PIRQ__PORT, L.EVTCHN_STATE_PIRQ, view.state);
			if (view.pirq != pirq.pirq) return fail(ctx, L.RULE_PIRQ, row + L.PIRQ__PIRQ, view.pirq, pirq.pirq);
		}
	}
	if (!plan.portsPtr) return true;
	const body = bodyOf(plan.portsPtr);
	let ports: u32 = 0;
	for (let i: u32 = 0; i < sparseRows(body); i++) {
		if (<u32>changetype<L.EvtchnPort>(sparseRowsAt(body) + i * L.EVTCHN_PORT_BYTES).state == L.EVTCHN_STATE_PIRQ)
			ports++;
	}
	if (ports != bound) {
		at(ctx, L.PASS_2, plan.domid, plan.portsPtr);
		return fail(ctx, L.RULE_PIRQ, 0, bound, ports);
	}
	return true;
}

export function checkEvents(ctx: usize): bool {
	for (let i: u32 = 0; i < context(ctx).domainCount; i++) {
		const plan = planAt(ctx, i);
		if (!checkAbi(ctx, plan) || !checkPorts(ctx, plan) || !checkPirqs(ctx, plan)) return false;
	}
	return true;
}
