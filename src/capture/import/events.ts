/**
 * Event channels: ports as the dump has them; their pending and masked bits go to where the guest has them, shared_info
 * for the 2-level ABI, event words for FIFO. FIFO's pages are in no capture, so frames of the guest's memory are assigned.
 *
 * Unhappy paths, all XLU_E_CAPTURE: a port outside its ABI's or a vCPU outside the domain's range, links that lead
 * nowhere, no frame in the guest that could be an event page.
 */
import { CONSUMER, EVTCHN_ABI, EVTCHN_STATE, NONE32, PAGE_TYPE, PIRQ_FLAG } from "../../format/enums.ts";
import { alignUp } from "../../format/layout.ts";
import {
	EVENT_WORD,
	EVENT_WORDS_PER_FRAME,
	PAGE_BYTES,
	twoLevelPorts,
	writeEventWord,
	writeQueueHead,
	writeTwoLevelPort,
	writeUpcall,
} from "../../machine/guestPages.ts";
import type { DomainModel, PreservedPages } from "../../machine/model.ts";
import type { CapturedPort } from "../events.ts";
import type { CapturedDomain } from "../read.ts";
import type { MachineFrames } from "./frames.ts";
import { contradiction, hex, type Ledger, plural } from "./ledger.ts";

const FIFO_PORTS = 1 << 17;
const FIFO_PRIORITY_DEFAULT = 7;
const FIFO_QUEUES = 16;
/** The port table is as long as a multiple of this. */
const PORT_STEP = 64;

type PortRow = NonNullable<NonNullable<DomainModel["ports"]>[number]>;

/** Puts a domain's event channels into the model, and the guest's side of them into its pages. */
export function importEvents(
	captured: CapturedDomain,
	model: DomainModel,
	sharedInfo: Uint8Array | undefined,
	spareFrames: Iterable<number>,
	frames: MachineFrames,
	preserved: PreservedPages,
	ledger: Ledger,
): void {
	const { domid, info, events } = captured;
	const highest = events.ports.at(-1)?.port ?? 0;
	const isFifo = events.abi === "fifo";
	const guestWidth = Number(model.domain.guestWidth);
	const limit = isFifo ? FIFO_PORTS : twoLevelPorts(guestWidth);
	if (highest >= limit) {
		throw contradiction(domid, "port", `below ${limit} (${events.abi})`, String(highest), "debugkey-e.txt");
	}
	const ports: (PortRow | undefined)[] = new Array(alignUp(highest + 1, PORT_STEP)).fill(undefined);
	for (const port of events.ports) {
		if (!info.vcpus.some(({ id }) => id === port.notifyVcpu)) {
			const field = `port ${port.port}, vCPU`;
			throw contradiction(domid, field, "a vCPU of the domain", String(port.notifyVcpu), "debugkey-e.txt");
		}
		ports[port.port] = portRow(port, isFifo);
	}
	model.ports = ports;
	model.evtchn = { abi: isFifo ? EVTCHN_ABI.fifo : EVTCHN_ABI.twoLevel };
	if (sharedInfo !== undefined) {
		for (const { id, upcallPending, upcallMask } of info.vcpus) {
			writeUpcall(sharedInfo, id, upcallPending, upcallMask);
		}
	}
	if (isFifo) {
		importFifo(captured, model, ports, spareFrames, frames, preserved, ledger);
	} else if (sharedInfo !== undefined) {
		for (const port of events.ports) {
			writeTwoLevelPort(sharedInfo, port, guestWidth);
		}
	}
	noteEvents(captured, ledger);
	importPirqs(captured, model, ledger);
}

function portRow(port: CapturedPort, isFifo: boolean): PortRow {
	const row: PortRow = { state: port.state };
	if (port.state !== EVTCHN_STATE.reserved) {
		row.notifyVcpu = port.notifyVcpu;
		row.consumer = port.xenConsumer > 0 ? CONSUMER.ioreq : CONSUMER.none;
		row.remoteDomid = port.remoteDomid;
		row.remotePort = port.remotePort;
		row.virq = port.virq;
		row.pirq = port.pirq;
		row.pending = port.noWord === true && port.pending ? 1 : 0;
		if (isFifo) {
			row.priority = FIFO_PRIORITY_DEFAULT;
			row.lastPriority = FIFO_PRIORITY_DEFAULT;
			row.lastVcpu = port.notifyVcpu;
		}
	}
	return row;
}

function noteEvents({ domid, info, events }: CapturedDomain, ledger: Ledger): void {
	ledger.note(domid, "limit of event-channel ports", "defaulted to none");
	if (events.abi === undefined) {
		ledger.note(domid, "event-channel ABI", "defaulted to 2-level: it has no ports");
	} else if (events.abi === "fifo") {
		const how = `defaulted to ${FIFO_PRIORITY_DEFAULT}, last linked on the queue of the vCPU that they notify`;
		ledger.note(domid, "priorities of the FIFO ports", how);
	}
	if (info.ioreqServers.length === 0 && events.ports.some(({ xenConsumer }) => xenConsumer > 0)) {
		ledger.note(domid, "consumer inside Xen of its ports", "defaulted to I/O requests, though it has no server");
	}
}

// --- FIFO ---

/** The first `count` frames that nobody has been granted. */
function takeSpare(
	{ domid, grants, imageFile }: CapturedDomain,
	spareFrames: Iterable<number>,
	count: number,
	what: string,
): number[] {
	const granted = new Set(grants.active.map(({ mfn }) => mfn));
	const taken: number[] = [];
	for (const mfn of count > 0 ? spareFrames : []) {
		if (!granted.has(mfn) && taken.push(mfn) === count) {
			return taken;
		}
	}
	if (count > 0) {
		const expected = `${plural(count, "frame")} of the guest with nothing in them`;
		throw contradiction(domid, what, expected, `${taken.length}`, imageFile);
	}
	return taken;
}

/** Event-array frames that the guest has: up to the first port without a word. */
function arrayCount(domid: number, ports: readonly CapturedPort[]): number {
	const withWord = ports.filter(({ noWord }) => noWord !== true).at(-1)?.port ?? 0;
	const count = Math.floor(withWord / EVENT_WORDS_PER_FRAME) + 1;
	const stray = ports.find(({ port, noWord }) => noWord === true && port < count * EVENT_WORDS_PER_FRAME);
	if (stray !== undefined) {
		const field = `port ${stray.port}`;
		throw contradiction(domid, field, "an event word, as higher ports have one", "none", "debugkey-e.txt");
	}
	return count;
}

function importFifo(
	captured: CapturedDomain,
	model: DomainModel,
	rows: (PortRow | undefined)[],
	spareFrames: Iterable<number>,
	frames: MachineFrames,
	preserved: PreservedPages,
	ledger: Ledger,
): void {
	const { domid, info, events } = captured;
	const arrays = arrayCount(domid, events.ports);
	const mfns = takeSpare(captured, spareFrames, arrays + info.vcpus.length, "FIFO event pages");
	const pages = mfns.map((mfn) => {
		const page = new Uint8Array(PAGE_BYTES);
		preserved.set(mfn, page);
		frames.setType(mfn, PAGE_TYPE.writable);
		return page;
	});
	for (const { port, pending, masked, busy, link, noWord } of events.ports) {
		const page = pages[Math.floor(port / EVENT_WORDS_PER_FRAME)];
		if (noWord !== true && page !== undefined) {
			const word =
				(pending ? EVENT_WORD.pending : 0) +
				(masked ? EVENT_WORD.masked : 0) +
				(link === undefined ? 0 : EVENT_WORD.linked + (link & EVENT_WORD.link)) +
				(busy === true ? EVENT_WORD.busy : 0);
			writeEventWord(page, port % EVENT_WORDS_PER_FRAME, word);
		}
	}
	model.eventArrays = mfns.slice(0, arrays).map((mfn) => ({ mfn }));
	const blocks = new Map(
		info.vcpus.map(({ id }, index) => [
			id,
			{
				mfn: mfns[arrays + index] as number,
				page: pages[arrays + index] as Uint8Array,
				tail: new Array<number>(16).fill(0),
			},
		]),
	);
	for (const queue of queuesOf(captured)) {
		const block = blocks.get(queue.vcpu);
		if (block !== undefined) {
			block.tail[queue.priority] = queue.ports.at(-1) ?? 0;
			writeQueueHead(block.page, queue.priority, queue.ports[0] as number);
		}
		for (const port of queue.ports) {
			const row = rows[port];
			if (row !== undefined) {
				Object.assign(row, { priority: queue.priority, lastPriority: queue.priority, lastVcpu: queue.vcpu });
			}
		}
	}
	model.controlBlocks = [...blocks].map(([vcpuId, { mfn, tail }]) => ({ vcpuId, offset: 0, mfn, tail }));
	const list = (part: readonly number[]): string => part.map(hex).join(", ");
	ledger.note(domid, "event-array frames", `assigned: MFN ${list(mfns.slice(0, arrays))}, with the words of the dump`);
	const where = `MFN ${list(mfns.slice(arrays))}, one per vCPU, offset 0`;
	const linked = events.ports.some(({ link }) => link !== undefined);
	const queues = linked ? "queues derived from the links of the dump" : "all queues empty";
	ledger.note(domid, "FIFO control blocks", `assigned: ${where}; ${queues}`);
}

interface Queue {
	vcpu: number;
	priority: number;
	/** From head to tail. */
	ports: number[];
}

/**
 * The queues that the links of the dump make: each begins with a linked port that no other one names. It is the queue
 * of the vCPU that its first port notifies, with the default priority; a vCPU's further queues get the next ones.
 */
function queuesOf({ domid, events }: CapturedDomain): Queue[] {
	const linked = new Map(events.ports.filter(({ link }) => link !== undefined).map((port) => [port.port, port]));
	const named = new Set([...linked.values()].map(({ link }) => link));
	const perVcpu = new Map<number, number>();
	const queues: Queue[] = [];
	let reached = 0;
	for (const [port, { notifyVcpu: vcpu }] of linked) {
		if (named.has(port)) {
			continue;
		}
		const index = perVcpu.get(vcpu) ?? 0;
		perVcpu.set(vcpu, index + 1);
		const ports: number[] = [];
		let next: number | undefined = port;
		while (next !== undefined && next !== 0) {
			const here = linked.get(next);
			// A link is the guest's to write; a walk is no longer than there are ports.
			if (here === undefined || ports.length >= linked.size) {
				const got = here === undefined ? `${next}, which is not` : "a queue without an end";
				throw contradiction(domid, `queue of port ${port}`, "links to linked ports", got, "debugkey-e.txt");
			}
			ports.push(next);
			next = here.link;
		}
		reached += ports.length;
		queues.push({ vcpu, priority: (FIFO_PRIORITY_DEFAULT + index) % FIFO_QUEUES, ports });
	}
	if (reached !== linked.size) {
		const expected = `each of ${linked.size} linked ports in one queue`;
		throw contradiction(domid, "event queues", expected, `${reached}`, "debugkey-e.txt");
	}
	return queues;
}

// --- PIRQs ---

/** PIRQs bound to ports. In an HVM guest an interrupt of 0 stands for an emulated one. */
function importPirqs({ domid, image, events }: CapturedDomain, model: DomainModel, ledger: Ledger): void {
	const bound = events.ports.filter(({ state }) => state === EVTCHN_STATE.pirq);
	if (bound.length === 0) {
		return;
	}
	const isEmulated = ({ irq = -1 }: CapturedPort): boolean => image?.guestType === "hvm" && irq === 0;
	model.pirqList = bound
		.map((port) => {
			const { pirq = 0, irq = -1 } = port;
			const row = { pirq, port: port.port, guestGsi: NONE32 };
			return isEmulated(port)
				? { ...row, irq: NONE32, emuirq: pirq, flags: PIRQ_FLAG.emulated }
				: { ...row, irq: irq < 0 ? NONE32 : irq, emuirq: NONE32, flags: 0 };
		})
		.sort((a, b) => a.pirq - b.pirq);
	const emulated = bound.filter(isEmulated).map(({ pirq = 0 }) => ({ pirq, emuirq: pirq }));
	if (emulated.length > 0) {
		model.emuIrqs = emulated.sort((a, b) => a.pirq - b.pirq);
		ledger.note(domid, "emulated interrupts of its PIRQs", "defaulted to the PIRQ's own number");
	}
	if (emulated.length < bound.length) {
		ledger.note(domid, "trigger, mask and MSI state of its PIRQs", "defaulted to edge, not masked, no MSI");
	}
}
