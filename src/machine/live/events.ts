/**
 * Event channels: ports of every kind, on the 2-level ABI (twoLevel.ts) or the FIFO one (fifo.ts).
 *
 *     free ─ alloc_unbound ─> unbound ─ the other end binds ─> interdomain ─ the other end closes ─> unbound ─ close ─> free
 *     free ─ bind_virq, bind_ipi, bind_pirq ─> bound ─ close ─> free
 *
 * A port that Xen itself consumes (an I/O server's) is not the guest's to close, send or move.
 */
import { CONSUMER, EVTCHN_ABI, EVTCHN_STATE, NONE32, NONE64, VIRQ } from "../../format/enums.ts";
import { twoLevelPorts } from "../guestPages.ts";
import type { PirqRow, PortRow } from "../readImage.ts";
import type { Domain } from "./domain.ts";
import { need, refuse } from "./errno.ts";
import * as fifo from "./fifo.ts";
import type { Machine } from "./machine.ts";
import { getGuestPage } from "./p2m.ts";
import * as twoLevel from "./twoLevel.ts";
import { checkPollers, vcpuInfo } from "./vcpus.ts";

/** Ports come in buckets: the table grows by so many. */
const BUCKET = 64;
const VIRQS = 24;
const PER_VCPU: ReadonlySet<number> = new Set([VIRQ.TIMER, VIRQ.DEBUG, VIRQ.XENOPROF, VIRQ.XENPMU]);

const freePort = (): PortRow => ({
	state: EVTCHN_STATE.free,
	consumer: 0,
	priority: 0,
	lastPriority: 0,
	notifyVcpu: 0,
	lastVcpu: 0,
	remoteDomid: 0,
	virq: 0,
	remotePort: 0,
	pirq: 0,
	pending: 0,
});

const isFree = (row: PortRow | undefined): boolean => row === undefined || row.state === EVTCHN_STATE.free;

/** A port in use. */
function portOf({ tables }: Domain, port: number): PortRow {
	const row = tables.ports[port];
	need(row !== undefined && row.state !== EVTCHN_STATE.free, "EINVAL");
	return row;
}

/** Makes the lowest free port one of `state`. */
function bind(machine: Machine, domain: Domain, state: number, fields: Partial<PortRow>): number {
	const { tables } = domain;
	let port = 1;
	while (port < tables.ports.length && !isFree(tables.ports[port])) port++;
	need(port < (machine.isFifo(domain) ? fifo.FIFO_PORTS : twoLevelPorts(domain.guestWidth)), "ENOSPC");
	need(port <= tables.domain.maxEvtchnPort, "ENOSPC");
	while (tables.ports.length <= port) tables.ports.push(...new Array(BUCKET).fill(undefined));
	// The queue that it was last linked on stays known, though the port was free.
	const { lastVcpu, lastPriority } = tables.ports[port] ?? freePort();
	const priority = machine.isFifo(domain) ? fifo.DEFAULT_PRIORITY : 0;
	tables.ports[port] = { ...freePort(), lastVcpu, lastPriority, priority, state, ...fields };
	return port;
}

function free(machine: Machine, domain: Domain, port: number, row: PortRow): void {
	if (machine.isFifo(domain)) fifo.clearPending(machine, domain, port, row);
	else twoLevel.clearPending(machine, domain, port);
	const { lastVcpu, lastPriority } = row;
	const isRemembered = lastVcpu !== 0 || lastPriority !== 0;
	domain.tables.ports[port] = isRemembered ? { ...freePort(), lastVcpu, lastPriority } : undefined;
}

// --- pending ---

/** A port becomes pending. */
export function raise(machine: Machine, domain: Domain, port: number): void {
	const row = domain.tables.ports[port] as PortRow;
	const wasPending = isPortPending(machine, domain, port);
	if (machine.isFifo(domain)) fifo.setPending(machine, domain, port, row);
	else twoLevel.setPending(machine, domain, port, row.notifyVcpu);
	// An event that has no word yet is nothing that a poller could find.
	if (!wasPending && isPortPending(machine, domain, port)) checkPollers(machine, domain, port);
}

export function isPortPending(machine: Machine, domain: Domain, port: number): boolean {
	return machine.isFifo(domain) ? fifo.isPending(machine, domain, port) : twoLevel.isPending(machine, domain, port);
}

/** The port of a VIRQ: a vCPU's own, or the domain's. */
export function virqPort(domain: Domain | undefined, virq: number, vcpu: number): number | undefined {
	const isOwn = PER_VCPU.has(virq);
	const port = domain?.tables.ports.findIndex(
		(row) => row?.state === EVTCHN_STATE.virq && row.virq === virq && (!isOwn || row.notifyVcpu === vcpu),
	);
	return port === undefined || port < 0 ? undefined : port;
}

// --- binding ---

/** EVTCHNOP_alloc_unbound. @param remote the domain that may bind the other end; it need not exist yet */
export function allocUnbound(machine: Machine, domid: number, remote: number): number {
	return bind(machine, machine.living(domid), EVTCHN_STATE.unbound, { remoteDomid: remote });
}

/** EVTCHNOP_bind_interdomain: the other end of a port that waits for this domain. */
export function bindInterdomain(machine: Machine, domid: number, remote: number, remotePort: number): number {
	const domain = machine.living(domid);
	const other = machine.living(remote);
	const end = portOf(other, remotePort);
	need(end.state === EVTCHN_STATE.unbound && end.remoteDomid === domid, "EINVAL");
	const port = bind(machine, domain, EVTCHN_STATE.interdomain, { remoteDomid: remote, remotePort });
	end.state = EVTCHN_STATE.interdomain;
	end.remoteDomid = domid;
	end.remotePort = port;
	// Notifications that came before the binding are lost: so the new end gets one, needed or not.
	raise(machine, domain, port);
	return port;
}

/** EVTCHNOP_bind_virq. */
export function bindVirq(machine: Machine, domid: number, virq: number, vcpu: number): number {
	const domain = machine.living(domid);
	need(virq >= 0 && virq < VIRQS, "EINVAL");
	need(PER_VCPU.has(virq) || vcpu === 0, "EINVAL");
	domain.vcpu(vcpu);
	need(virqPort(domain, virq, vcpu) === undefined, "EEXIST");
	return bind(machine, domain, EVTCHN_STATE.virq, { virq, notifyVcpu: vcpu });
}

/** EVTCHNOP_bind_ipi. */
export function bindIpi(machine: Machine, domid: number, vcpu: number): number {
	const domain = machine.living(domid);
	domain.vcpu(vcpu);
	return bind(machine, domain, EVTCHN_STATE.ipi, { notifyVcpu: vcpu });
}

/** EVTCHNOP_bind_pirq of a PIRQ that is mapped. */
export function bindPirq(machine: Machine, domid: number, pirq: number): number {
	const domain = machine.living(domid);
	const row = pirqOf(domain, pirq);
	need(row !== undefined, "EINVAL");
	need(row.port === 0, "EEXIST");
	row.port = bind(machine, domain, EVTCHN_STATE.pirq, { pirq });
	return row.port;
}

const pirqOf = ({ tables }: Domain, pirq: number): PirqRow | undefined =>
	tables.pirqList.find((row) => row.pirq === pirq);

/** A port that Xen consumes for a domain, whose other end is to be the emulator's. */
export function allocForXen(machine: Machine, domain: Domain, vcpu: number, remote: number): number {
	return bind(machine, domain, EVTCHN_STATE.unbound, {
		remoteDomid: remote,
		notifyVcpu: vcpu,
		consumer: CONSUMER.ioreq,
	});
}

// --- closing ---

/** Closes a port, whoever consumes it. */
export function closePort(machine: Machine, domain: Domain, port: number): void {
	const row = domain.tables.ports[port];
	if (row === undefined || row.state === EVTCHN_STATE.free) return;
	if (row.state === EVTCHN_STATE.interdomain) {
		const other = machine.domains.get(row.remoteDomid)?.tables.ports[row.remotePort];
		if (other !== undefined && !(row.remoteDomid === domain.domid && row.remotePort === port)) {
			other.state = EVTCHN_STATE.unbound;
			other.remoteDomid = domain.domid;
			other.remotePort = 0;
		}
	}
	if (row.state === EVTCHN_STATE.pirq) {
		const pirq = pirqOf(domain, row.pirq);
		if (pirq) pirq.port = 0;
	}
	free(machine, domain, port, row);
}

/** Whether a port is the guest's to close. */
const isGuests = ({ state, consumer }: PortRow): boolean =>
	state !== EVTCHN_STATE.reserved && consumer === CONSUMER.none;

/** EVTCHNOP_close. */
export function close(machine: Machine, domid: number, port: number): number {
	const domain = machine.living(domid);
	const row = portOf(domain, port);
	need(isGuests(row), "EINVAL");
	closePort(machine, domain, port);
	return 0;
}

/** EVTCHNOP_reset: the guest's ports are closed, and the ABI is the 2-level one again. */
export function reset(machine: Machine, domid: number): number {
	const domain = machine.living(domid);
	domain.tables.ports.forEach((row, port) => {
		if (row !== undefined && isGuests(row)) closePort(machine, domain, port);
	});
	if (!machine.isFifo(domain)) return 0;
	fifo.dropFifo(machine, domain);
	domain.tables.evtchn = { abi: EVTCHN_ABI.twoLevel };
	domain.tables.ports = domain.tables.ports.map((row) => {
		if (isFree(row)) return undefined;
		return { ...(row as PortRow), priority: 0, lastVcpu: 0, lastPriority: 0, pending: 0 };
	});
	return 0;
}

/** A domain dies: every port is closed, Xen's too. */
export function closeAll(machine: Machine, domain: Domain): void {
	domain.tables.ports.forEach((_, port) => {
		closePort(machine, domain, port);
	});
	if (machine.isFifo(domain)) fifo.dropFifo(machine, domain);
	domain.tables.ports = [];
	domain.tables.evtchn = undefined;
}

// --- use ---

/** EVTCHNOP_send. */
export function send(machine: Machine, domid: number, port: number): number {
	const domain = machine.living(domid);
	const row = portOf(domain, port);
	need(row.consumer === CONSUMER.none, "EINVAL");
	if (row.state === EVTCHN_STATE.ipi) raise(machine, domain, port);
	else if (row.state === EVTCHN_STATE.interdomain) {
		const other = machine.domain(row.remoteDomid);
		// What Xen consumes is not the guest's to see.
		if (other.tables.ports[row.remotePort]?.consumer === CONSUMER.none) raise(machine, other, row.remotePort);
	} else if (row.state !== EVTCHN_STATE.unbound) refuse("EINVAL");
	return 0;
}

/** A device's interrupt, of whoever has bound it. */
export function raisePirq(machine: Machine, domid: number, pirq: number): number {
	const domain = machine.living(domid);
	const row = pirqOf(domain, pirq);
	need(row !== undefined && row.port !== 0, "ENOENT");
	raise(machine, domain, row.port);
	return 0;
}

/** The guest masks a port, by itself. */
export function mask(machine: Machine, domid: number, port: number): number {
	const domain = machine.living(domid);
	portOf(domain, port);
	if (machine.isFifo(domain)) fifo.mask(machine, domain, port);
	else twoLevel.mask(machine, domain, port);
	return 0;
}

/** EVTCHNOP_unmask: what is pending is delivered. */
export function unmask(machine: Machine, domid: number, port: number): number {
	const domain = machine.living(domid);
	const row = portOf(domain, port);
	if (machine.isFifo(domain)) fifo.unmask(machine, domain, port, row);
	else twoLevel.unmask(machine, domain, port, row.notifyVcpu);
	return 0;
}

/** EVTCHNOP_bind_vcpu: what comes next is told to another vCPU. */
export function bindVcpu(machine: Machine, domid: number, port: number, vcpu: number): number {
	const domain = machine.living(domid);
	domain.vcpu(vcpu);
	const row = portOf(domain, port);
	need(row.consumer === CONSUMER.none, "EINVAL");
	need(row.state !== EVTCHN_STATE.ipi && row.state !== EVTCHN_STATE.reserved, "EINVAL");
	need(row.state !== EVTCHN_STATE.virq || !PER_VCPU.has(row.virq), "EINVAL");
	row.notifyVcpu = vcpu;
	return 0;
}

/** EVTCHNOP_set_priority. */
export function setPriority(machine: Machine, domid: number, port: number, priority: number): number {
	const domain = machine.living(domid);
	const row = portOf(domain, port);
	need(machine.isFifo(domain), "ENOSYS");
	need(priority >= 0 && priority < fifo.PRIORITIES, "EINVAL");
	row.priority = priority;
	return 0;
}

/** EVTCHNOP_status. @returns the state's number */
export function status(machine: Machine, domid: number, port: number): number {
	const { tables } = machine.living(domid);
	need(port >= 0 && port < tables.ports.length, "EINVAL");
	need((tables.ports[port]?.consumer ?? CONSUMER.none) === CONSUMER.none, "EACCES");
	return tables.ports[port]?.state ?? EVTCHN_STATE.free;
}

/** The guest's handler on a vCPU. @returns the ports that it handled, in its order */
export function drain(machine: Machine, domid: number, vcpu: number): number[] {
	const domain = machine.living(domid);
	domain.vcpu(vcpu);
	if (!machine.isFifo(domain)) return twoLevel.drain(machine, domain, vcpu);
	return fifo.drain(machine, domain, vcpu, () => vcpuInfo(machine, domain, vcpu)?.pending.set(false));
}

// --- PIRQs ---

/** PHYSDEVOP_map_pirq of a PV domain: a host interrupt that it may use. @returns the PIRQ */
export function mapPirq(machine: Machine, domid: number, irq: number): number {
	const domain = machine.living(domid);
	need(domain.isPrivileged, "EPERM");
	need(irq > 0 && irq < 256, "EINVAL");
	const { tables } = domain;
	const found = tables.pirqList.find((row) => row.irq === irq);
	if (found) return found.pirq;
	const owners = machine.host.irqOwners ?? [];
	need(!owners.some((owner) => Number(owner.irq) === irq && Number(owner.domid) !== domid), "EBUSY");
	insertPirq(domain, { pirq: irq, irq, port: 0, emuirq: NONE32, guestGsi: NONE32, msiData: 0, msiFlags: 0, flags: 2 });
	return irq;
}

function insertPirq({ tables }: Domain, row: PirqRow): void {
	need(!tables.pirqList.some(({ pirq }) => pirq === row.pirq), "EEXIST");
	tables.pirqList.push(row);
	tables.pirqList.sort((a, b) => a.pirq - b.pirq);
}

/** PHYSDEVOP_map_pirq of an HVM guest: an interrupt of an emulated device. */
export function mapEmulatedPirq(machine: Machine, domid: number, pirq: number, emuirq: number): number {
	const domain = machine.external(domid);
	need(pirq >= 16 && pirq < 256 && emuirq >= 0 && emuirq < 48, "EINVAL");
	need(!domain.tables.emuIrqs.some((row) => row.emuirq === emuirq), "EEXIST");
	insertPirq(domain, { pirq, irq: NONE32, port: 0, emuirq, guestGsi: NONE32, msiData: 0, msiFlags: 0, flags: 8 });
	domain.tables.emuIrqs.push({ pirq, emuirq });
	domain.tables.emuIrqs.sort((a, b) => a.pirq - b.pirq);
	return pirq;
}

/** PHYSDEVOP_pirq_eoi_gmfn_v2: a frame in which Xen notes PIRQs that need an end of interrupt. One for a domain. */
export function setPirqEoiMap(machine: Machine, domid: number, gfn: number): number {
	const domain = machine.pv(domid);
	const { domainState } = domain.tables;
	const mfn = getGuestPage(machine, domain, gfn);
	if (domainState.pirqEoiMfn !== NONE64) {
		machine.frames.putWritable(mfn);
		refuse("EBUSY");
	}
	domainState.pirqEoiMfn = BigInt(mfn);
	domainState.pirqEoiMode = 2;
	return 0;
}

/** PHYSDEVOP_unmap_pirq: a bound one is closed first. */
export function unmapPirq(machine: Machine, domid: number, pirq: number): number {
	const domain = machine.living(domid);
	const row = pirqOf(domain, pirq);
	need(row !== undefined, "EINVAL");
	if (row.port !== 0) closePort(machine, domain, row.port);
	domain.tables.pirqList = domain.tables.pirqList.filter((other) => other !== row);
	domain.tables.emuIrqs = domain.tables.emuIrqs.filter((other) => other.pirq !== pirq);
	return 0;
}
