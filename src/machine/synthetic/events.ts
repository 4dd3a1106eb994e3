/**
 * Event channels: between each guest and dom0, between neighbours, VIRQs, IPIs, PIRQs of dom0's devices and emulated
 * ones; ports that wait, ports without an event word. Some are pending, some masked, some linked on a FIFO queue.
 */
import { EVTCHN_STATE, NONE32, NONE64, PIRQ_FLAG, VIRQ } from "../../format/enums.ts";
import {
	EVENT_WORD,
	EVENT_WORDS_PER_FRAME,
	writeEventWord,
	writeQueueHead,
	writeTwoLevelPort,
	writeUpcall,
} from "../guestPages.ts";
import type { DomainModel } from "../model.ts";
import type { PortRow, SyntheticDomain } from "./domain.ts";

const FIFO_PRIORITIES = 16;
/** What guests mostly use, and what they give to timers and to what can wait. */
const PRIORITY = { usual: 7, urgent: 0, low: 15 } as const;
const IPIS_PER_VCPU = 4;
/** Where control blocks stand in a frame, several in one. */
const CONTROL_BLOCK_STRIDE = 128;
const CONTROL_BLOCKS_PER_FRAME = 31;
const CONTROL_BLOCK_OCTETS = 72;
/** Below stand the IO-APIC's pins. */
export const FIRST_MSI_IRQ = 24;
/** Global VIRQs that dom0 binds: console, PCPU state. */
const DOM0_VIRQS = [2, 9] as const;
/** A domid that was never given: an unbound port may wait for whom it likes. */
const NOBODY = 0x7000;

/** Connects two domains; returns both ports. */
export function connect(a: SyntheticDomain, b: SyntheticDomain, row: PortRow = {}): { portA: number; portB: number } {
	const end = (own: SyntheticDomain, other: SyntheticDomain): PortRow => ({
		state: EVTCHN_STATE.interdomain,
		remoteDomid: other.domid,
		notifyVcpu: own.random.below(own.onlineVcpus),
	});
	const rowA: PortRow = { ...end(a, b), ...row };
	const rowB = end(b, a);
	const portA = a.bind(rowA);
	const portB = b.bind(rowB);
	rowA.remotePort = portB;
	rowB.remotePort = portA;
	return { portA, portB };
}

/** A domain's own ports: what it binds by itself. */
export function bindOwn(domain: SyntheticDomain): void {
	const { random } = domain;
	for (let vcpu = 0; vcpu < domain.onlineVcpus; vcpu++) {
		domain.bind({ state: EVTCHN_STATE.virq, virq: VIRQ.TIMER, notifyVcpu: vcpu, priority: PRIORITY.urgent });
		domain.bind({ state: EVTCHN_STATE.virq, virq: VIRQ.DEBUG, notifyVcpu: vcpu });
		for (let ipi = 0; ipi < IPIS_PER_VCPU; ipi++) domain.bind({ state: EVTCHN_STATE.ipi, notifyVcpu: vcpu });
	}
	domain.bind({ state: EVTCHN_STATE.unbound, remoteDomid: 0 });
	domain.bind({ state: EVTCHN_STATE.unbound, remoteDomid: NOBODY, notifyVcpu: random.below(domain.onlineVcpus) });
	domain.bind({ state: EVTCHN_STATE.reserved });
}

/** Global VIRQs of dom0, and its devices' interrupts. */
export function bindHardware(dom0: SyntheticDomain, irqs: readonly number[]): void {
	for (const virq of DOM0_VIRQS) dom0.bind({ state: EVTCHN_STATE.virq, virq });
	dom0.model.pirqList = irqs.map((irq) => ({
		pirq: irq,
		irq,
		port: dom0.bind({ state: EVTCHN_STATE.pirq, pirq: irq, notifyVcpu: dom0.random.below(dom0.onlineVcpus) }),
		emuirq: NONE32,
		guestGsi: NONE32,
		flags: irq < FIRST_MSI_IRQ ? PIRQ_FLAG.level : PIRQ_FLAG.msi,
	}));
	const { mfn } = dom0.sharedPage();
	Object.assign(dom0.model.domainState, { pirqEoiMfn: mfn, pirqEoiMode: 2 });
}

/** An HVM guest's PIRQs stand for interrupts of its emulated devices. */
export function bindEmulated(guest: SyntheticDomain, irqs: readonly number[]): void {
	guest.model.pirqList = irqs.map((emuirq, i) => ({
		pirq: 16 + i,
		irq: NONE32,
		port: guest.bind({ state: EVTCHN_STATE.pirq, pirq: 16 + i }),
		emuirq,
		guestGsi: NONE32,
		flags: PIRQ_FLAG.emulated,
	}));
	guest.model.emuIrqs = irqs.map((emuirq, i) => ({ pirq: 16 + i, emuirq }));
}

// --- pending, masked, linked ---

/** shared_info; then pending and masked bits where the ABI has them; upcalls. */
export function closeEvents(domain: SyntheticDomain): void {
	const mfn = domain.sharedInfoMfn();
	domain.writable(mfn);
	const page = domain.preserve(mfn);
	domain.model.sharedInfo = { mfn, gfn: NONE64 };
	const arrays = Math.ceil(domain.ports.length / EVENT_WORDS_PER_FRAME);
	if (domain.isFifo && domain.index % 6 === 0) {
		// The guest has not given it a word yet: Xen remembers by itself that it is pending.
		while (domain.ports.length < arrays * EVENT_WORDS_PER_FRAME + 1) domain.ports.push(undefined);
		domain.ports.push({ state: EVTCHN_STATE.unbound, remoteDomid: 0, pending: 1 });
	}
	domain.closePorts();
	if (domain.isFifo) closeFifo(domain, arrays);
	else closeTwoLevel(domain, page);
	for (let vcpu = 0; vcpu < domain.vcpuCount; vcpu++) {
		writeUpcall(page, vcpu, domain.random.chance(0.3), vcpu >= domain.onlineVcpus);
	}
}

const isBound = (row: PortRow | undefined): row is PortRow =>
	row !== undefined && Number(row.state) > EVTCHN_STATE.reserved;

function closeTwoLevel(domain: SyntheticDomain, page: Uint8Array): void {
	domain.ports.forEach((row, port) => {
		if (!isBound(row)) return;
		const pending = domain.random.chance(0.2);
		const masked = domain.random.chance(0.2);
		const notifyVcpu = Number(row.notifyVcpu ?? 0);
		const selector = pending && !masked;
		writeTwoLevelPort(page, { port, pending, masked, selector, notifyVcpu }, domain.guestWidth);
	});
}

function closeFifo(domain: SyntheticDomain, arrayCount: number): void {
	const { model, ports, random } = domain;
	const arrays = Array.from({ length: arrayCount }, () => domain.sharedPage());
	model.eventArrays = arrays.map(({ mfn }) => ({ mfn }));
	/** By vCPU and priority: ports from head to tail. */
	const queues = new Map<number, number[]>();
	const words = new Map<number, number>();
	ports.forEach((row, port) => {
		if (!isBound(row) || port >= arrayCount * EVENT_WORDS_PER_FRAME) return;
		const vcpu = Number(row.notifyVcpu ?? 0);
		const priority = row.priority ?? (random.chance(0.1) ? PRIORITY.low : PRIORITY.usual);
		const isPending = random.chance(0.2);
		const isMasked = random.chance(0.2);
		// A port that was moved keeps the queue that it was last linked on.
		const lastVcpu = isPending ? vcpu : random.below(domain.onlineVcpus);
		Object.assign(row, { priority, lastPriority: priority, lastVcpu });
		words.set(port, (isPending ? EVENT_WORD.pending : 0) + (isMasked ? EVENT_WORD.masked : 0));
		if (!isPending || isMasked) return;
		const queue = vcpu * FIFO_PRIORITIES + Number(priority);
		queues.set(queue, [...(queues.get(queue) ?? []), port]);
	});
	for (const queue of queues.values()) {
		queue.forEach((port, i) => {
			words.set(port, (words.get(port) as number) + EVENT_WORD.linked + (queue[i + 1] ?? 0));
		});
	}
	for (const [port, word] of words) {
		const { page } = arrays[Math.floor(port / EVENT_WORDS_PER_FRAME)] as { page: Uint8Array };
		writeEventWord(page, port % EVENT_WORDS_PER_FRAME, word);
	}
	model.controlBlocks = controlBlocks(domain, queues);
}

function controlBlocks(
	domain: SyntheticDomain,
	queues: ReadonlyMap<number, readonly number[]>,
): NonNullable<DomainModel["controlBlocks"]> {
	const frames = Array.from({ length: Math.ceil(domain.onlineVcpus / CONTROL_BLOCKS_PER_FRAME) }, () =>
		domain.sharedPage(),
	);
	return Array.from({ length: domain.onlineVcpus }, (_, vcpuId) => {
		const { mfn, page } = frames[Math.floor(vcpuId / CONTROL_BLOCKS_PER_FRAME)] as { mfn: number; page: Uint8Array };
		const offset = CONTROL_BLOCK_STRIDE * (vcpuId % CONTROL_BLOCKS_PER_FRAME);
		const block = page.subarray(offset, offset + CONTROL_BLOCK_OCTETS);
		const tail = Array.from({ length: FIFO_PRIORITIES }, (_unused, priority) => {
			const queue = queues.get(vcpuId * FIFO_PRIORITIES + priority) ?? [];
			if (queue.length > 0) writeQueueHead(block, priority, queue[0] as number);
			return queue.at(-1) ?? 0;
		});
		return { vcpuId, offset, mfn, tail };
	});
}
