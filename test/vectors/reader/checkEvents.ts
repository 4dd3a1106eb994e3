/** Events: FORMAT.md, "Event channels", "Ports", "PIRQs"; RULES.md, 15. */
import { mustKnow, PER_VCPU_VIRQS, VIRQS } from "./checkHost.ts";
import { type Domain, type Host, must } from "./host.ts";
import type { Fields } from "./octets.ts";

const FIFO = 1;
const UNBOUND = 2;
const INTERDOMAIN = 3;
const PIRQ = 4;
const VIRQ = 5;
const PRIORITIES = 16;

/** Whether a port of the domain is bound to another domain, or waits for one. */
export function isChannel(domain: Domain, port: number): boolean {
	const row = domain.ports.find((p) => p.slot === port);
	return row?.state === UNBOUND || row?.state === INTERDOMAIN;
}

export function checkChannels(host: Host, domain: Domain): void {
	const record = domain.one("LU_EVTCHN");
	const ports = domain.one("LU_EVTCHN_PORTS");
	must(record !== undefined || ports === undefined, 17, ports, "", "LU_EVTCHN");
	if (!record) return;
	mustKnow(80, record, "abi");
	const { abi, arrayFrameCount, controlBlockCount } = record.head;
	must(abi === FIFO || arrayFrameCount === 0, 84, record, "arrayFrameCount");
	must(abi === FIFO || controlBlockCount === 0, 84, record, "controlBlockCount");
	must(arrayFrameCount <= 128, 84, record, "arrayFrameCount");
	let last = -1;
	for (const [i, { vcpuId, offset, mfn, tail }] of record.parts.ControlBlocks.entries()) {
		const field = `ControlBlocks[${i}]`;
		must(vcpuId > last && domain.vcpus.includes(vcpuId), 84, record, `${field}.vcpuId`);
		must(offset % 8 === 0 && offset + 72 <= 4096, 84, record, `${field}.offset`);
		host.mustBeWritten(domain.domid, mfn, record, `${field}.mfn`);
		for (const [queue, port] of tail.entries())
			must(port === 0 || port < (ports?.head.slotCount ?? 0), 84, record, `${field}.tail[${queue}]`);
		last = vcpuId;
	}
	for (const [i, { mfn }] of record.parts.EventArrays.entries())
		host.mustBeWritten(domain.domid, mfn, record, `EventArrays[${i}].mfn`);
}

export function checkPorts(host: Host, domain: Domain): void {
	const record = domain.one("LU_EVTCHN_PORTS");
	if (!record) return;
	const { guestWidth, maxEvtchnPort } = domain.record.head;
	const isFifo = domain.one("LU_EVTCHN")?.head.abi === FIFO;
	must(record.head.slotCount <= (isFifo ? 131_072 : guestWidth === 8 ? 4096 : 1024), 81, record, "slotCount");
	const bound = new Set<string>();
	for (const [i, port] of domain.ports.entries()) {
		const field = `Ports[${i}]`;
		must(port.slot !== 0, 80, record, `${field}.state`, "port 0");
		for (const name of ["state", "consumer"]) mustKnow(80, record, name, "Ports", i);
		must(port.consumer === 0 || port.state === UNBOUND || port.state === INTERDOMAIN, 80, record, `${field}.consumer`);
		for (const name of ["priority", "lastPriority"]) must(port[name] < PRIORITIES, 80, record, `${field}.${name}`);
		must(domain.vcpus.includes(port.notifyVcpu), 80, record, `${field}.notifyVcpu`);
		must(port.lastVcpu < domain.vcpuEnd, 80, record, `${field}.lastVcpu`);
		must(port.pending <= 1, 80, record, `${field}.pending`);
		must(port.slot <= maxEvtchnPort, 81, record, `${field}.state`);
		if (port.state === INTERDOMAIN) {
			const end = host.domains.get(port.remoteDomid)?.ports.find((p) => p.slot === port.remotePort);
			const isBack = end?.remoteDomid === domain.domid && end.remotePort === port.slot;
			must(end?.state === INTERDOMAIN && isBack, 82, record, `${field}.remotePort`);
		}
		if (port.state === VIRQ) {
			const key = PER_VCPU_VIRQS.includes(port.virq) ? `${port.virq} ${port.notifyVcpu}` : `${port.virq}`;
			must(port.virq < VIRQS && !bound.has(key), 83, record, `${field}.virq`);
			bound.add(key);
		}
	}
}

export function checkPirqs(domain: Domain): void {
	const record = domain.one("LU_PIRQS");
	const rows: Fields[] = record?.parts.PirqList ?? [];
	let last = -1;
	for (const [i, { pirq, port }] of rows.entries()) {
		must(pirq > last, 85, record, `PirqList[${i}].pirq`);
		mustKnow(85, record!, "flags", "PirqList", i);
		const bound = domain.ports.find((p) => p.slot === port);
		must(port === 0 || (bound?.state === PIRQ && bound.pirq === pirq), 85, record, `PirqList[${i}].port`);
		last = pirq;
	}
	const isNamed = (port: Fields) => rows.some((row) => row.port === port.slot);
	must(
		domain.ports.every((p) => p.state !== PIRQ || isNamed(p)),
		85,
		domain.one("LU_EVTCHN_PORTS"),
	);
}
