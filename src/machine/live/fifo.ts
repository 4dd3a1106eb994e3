/**
 * The FIFO event-channel ABI: an event word for each port in frames of the guest, and for each vCPU a control block with
 * the heads of 16 queues. The hypervisor keeps each queue's tail to itself, and of each port the queue that it was last
 * linked on, also while the port is free: a guest may not have taken the old event off its queue yet.
 *
 *     control block: head ─> word ─ link ─> word ─ link ─> word <─ tail (the hypervisor's)
 *
 * Links are the guest's to write: whoever follows them counts his steps.
 */
import { EVTCHN_ABI, EVTCHN_STATE } from "../../format/enums.ts";
import {
	CONTROL_BLOCK_BYTES,
	controlBlockView,
	EVENT_WORD,
	EVENT_WORDS_PER_FRAME,
	eventWord,
	PAGE_BYTES,
	writeEventWord,
} from "../guestPages.ts";
import type { ControlBlockRow, PortRow } from "../readImage.ts";
import type { Domain } from "./domain.ts";
import { need } from "./errno.ts";
import type { Machine } from "./machine.ts";
import { getGuestPage } from "./p2m.ts";
import * as twoLevel from "./twoLevel.ts";
import { markEventsPending } from "./vcpus.ts";

export const FIFO_PORTS = 131_072;
export const PRIORITIES = 16;
export const DEFAULT_PRIORITY = 7;
const ARRAY_FRAMES = FIFO_PORTS / EVENT_WORDS_PER_FRAME;

interface Word {
	get(): number;
	set(value: number): void;
}

/** A port's event word; undefined while its array frame is missing. */
function wordOf(machine: Machine, { tables }: Domain, port: number): Word | undefined {
	const array = tables.eventArrays[Math.floor(port / EVENT_WORDS_PER_FRAME)];
	if (array === undefined) return undefined;
	const page = machine.memory.page(Number(array.mfn));
	const index = port % EVENT_WORDS_PER_FRAME;
	return { get: () => eventWord(page, index), set: (value) => writeEventWord(page, index, value >>> 0) };
}

const has = (word: Word, bit: number): boolean => (word.get() & bit) !== 0;
const put = (word: Word, bit: number, value: boolean): boolean => {
	const before = word.get();
	word.set(value ? before | bit : before & ~bit);
	return (before & bit) !== 0;
};

const blockOf = ({ tables }: Domain, vcpu: number): ControlBlockRow | undefined =>
	tables.controlBlocks.find(({ vcpuId }) => vcpuId === vcpu);

const viewOf = (machine: Machine, block: ControlBlockRow) =>
	controlBlockView(machine.memory.page(Number(block.mfn)), block.offset);

function setTail(block: ControlBlockRow, priority: number, port: number): void {
	block.tail = block.tail.map((tail, i) => (i === priority ? port : tail));
}

export function setPending(machine: Machine, domain: Domain, port: number, row: PortRow): void {
	const word = wordOf(machine, domain, port);
	if (word === undefined) {
		row.pending = 1;
		return;
	}
	put(word, EVENT_WORD.pending, true);
	const vcpu = row.notifyVcpu;
	const block = blockOf(domain, vcpu);
	// Without a control block nobody can take it off a queue: the guest may not have unmasked it.
	if (block === undefined || has(word, EVENT_WORD.masked) || put(word, EVENT_WORD.linked, true)) return;
	const last = blockOf(domain, row.lastVcpu);
	// A queue that ended in it is empty, since it was not linked: what comes next must not be linked behind it.
	if (last?.tail[row.lastPriority] === port) setTail(last, row.lastPriority, 0);
	row.lastVcpu = vcpu;
	row.lastPriority = row.priority;
	const view = viewOf(machine, block);
	const tail = block.tail[row.priority] as number;
	const linked = tail !== 0 && link(machine, domain, tail, port);
	if (!linked) view.setHead(row.priority, port);
	setTail(block, row.priority, port);
	if (!linked && !view.setReady(row.priority, true)) markEventsPending(machine, domain, vcpu);
}

/** Puts a port behind the tail of a queue; false if the guest has taken the tail off, and the queue is empty. */
function link(machine: Machine, domain: Domain, tail: number, port: number): boolean {
	const word = wordOf(machine, domain, tail);
	if (word === undefined || !has(word, EVENT_WORD.linked)) return false;
	word.set((word.get() & ~EVENT_WORD.link) | port);
	return true;
}

export function clearPending(machine: Machine, domain: Domain, port: number, row: PortRow): void {
	row.pending = 0;
	const word = wordOf(machine, domain, port);
	if (word) put(word, EVENT_WORD.pending, false);
}

/** Whether the guest can see that a port is pending: without an event word it cannot. */
export function isPending(machine: Machine, domain: Domain, port: number): boolean {
	const word = wordOf(machine, domain, port);
	return word !== undefined && has(word, EVENT_WORD.pending);
}

export function mask(machine: Machine, domain: Domain, port: number): void {
	const word = wordOf(machine, domain, port);
	if (word) put(word, EVENT_WORD.masked, true);
}

export function unmask(machine: Machine, domain: Domain, port: number, row: PortRow): void {
	const word = wordOf(machine, domain, port);
	if (word === undefined) return;
	put(word, EVENT_WORD.masked, false);
	if (has(word, EVENT_WORD.pending)) setPending(machine, domain, port, row);
}

/** The guest's handler: queues by priority, each from its head on. Returns the ports that it handled, in order. */
export function drain(machine: Machine, domain: Domain, vcpu: number, acknowledge: () => void): number[] {
	const block = blockOf(domain, vcpu);
	const handled: number[] = [];
	acknowledge();
	if (block === undefined) return handled;
	const view = viewOf(machine, block);
	let steps = domain.tables.eventArrays.length * EVENT_WORDS_PER_FRAME;
	for (let priority = 0; priority < PRIORITIES; priority++) {
		if (!view.setReady(priority, false)) continue;
		for (let port = view.head(priority); port !== 0 && steps > 0; steps--) {
			const word = wordOf(machine, domain, port);
			if (word === undefined) break;
			const next = word.get() & EVENT_WORD.link;
			word.set(word.get() & ~(EVENT_WORD.linked | EVENT_WORD.link));
			if (has(word, EVENT_WORD.pending) && !has(word, EVENT_WORD.masked)) {
				put(word, EVENT_WORD.pending, false);
				handled.push(port);
			}
			port = next;
		}
	}
	return handled;
}

// --- hypercalls ---

/** EVTCHNOP_init_control: the first control block switches the domain to this ABI. */
export function initControl(machine: Machine, domid: number, vcpu: number, gfn: number, offset: number): number {
	const domain = machine.living(domid);
	domain.vcpu(vcpu);
	const { tables } = domain;
	need(offset >= 0 && offset % 8 === 0 && offset <= PAGE_BYTES - CONTROL_BLOCK_BYTES, "EINVAL");
	need(blockOf(domain, vcpu) === undefined, "EINVAL");
	const mfn = getGuestPage(machine, domain, gfn);
	if (!machine.isFifo(domain)) {
		tables.ports.forEach((row, port) => {
			if (row === undefined || row.state === EVTCHN_STATE.free) return;
			// No port has an event word yet: that it is pending is the hypervisor's to remember.
			row.pending = twoLevel.isPending(machine, domain, port) ? 1 : 0;
			row.priority = DEFAULT_PRIORITY;
		});
		tables.evtchn = { abi: EVTCHN_ABI.fifo };
	}
	const view = controlBlockView(machine.memory.page(mfn), offset);
	for (let priority = 0; priority < PRIORITIES; priority++) view.setHead(priority, 0);
	const tail = new Array(PRIORITIES).fill(0);
	tables.controlBlocks.push({ vcpuId: vcpu, offset, mfn: BigInt(mfn), tail });
	tables.controlBlocks.sort((a, b) => a.vcpuId - b.vcpuId);
	return 0;
}

/** EVTCHNOP_expand_array: the next 1024 ports get their event words. */
export function expandArray(machine: Machine, domid: number, gfn: number): number {
	const domain = machine.living(domid);
	need(machine.isFifo(domain), "EOPNOTSUPP");
	const { tables } = domain;
	need(tables.eventArrays.length < ARRAY_FRAMES, "ENOSPC");
	const first = tables.eventArrays.length * EVENT_WORDS_PER_FRAME;
	tables.eventArrays.push({ mfn: BigInt(getGuestPage(machine, domain, gfn)) });
	for (let port = first; port < first + EVENT_WORDS_PER_FRAME; port++) {
		const row = tables.ports[port];
		if (row?.pending !== 1) continue;
		row.pending = 0;
		setPending(machine, domain, port, row);
	}
	return 0;
}

/** Back to the 2-level ABI: the hypervisor lets go of all frames. */
export function dropFifo(machine: Machine, domain: Domain): void {
	const { tables } = domain;
	for (const { mfn } of [...tables.controlBlocks, ...tables.eventArrays]) machine.frames.putWritable(Number(mfn));
	tables.controlBlocks = [];
	tables.eventArrays = [];
}
