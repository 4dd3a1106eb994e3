/** Stage 9, events: FORMAT.md, "Event channels" and "PIRQs". */
import { checkValues, VIRQS } from "./checkHost.ts";
import { type Domain, type Host, must } from "./host.ts";
import { ALL_ONES_32, type Fields } from "./octets.ts";

const FIFO = 1;
const STATE = { unbound: 2, interdomain: 3, pirq: 4, virq: 5 };
const PER_VCPU_VIRQS = [0, 1, 7, 13];

export const portsOf = (domain: Domain): Fields[] => domain.one("LU_EVTCHN_PORTS")?.parts.Ports ?? [];

export function checkChannels(host: Host, domain: Domain): void {
	const channels = domain.one("LU_EVTCHN");
	const ports = domain.one("LU_EVTCHN_PORTS");
	if (ports) must(channels !== undefined, 80, ports);
	if (!channels) return;
	checkValues(channels, 80);
	const isFifo = channels.head.abi === FIFO;
	if (!isFifo) {
		must(channels.head.controlBlockCount === 0, 84, channels, "controlBlockCount");
		must(channels.head.arrayFrameCount === 0, 84, channels, "arrayFrameCount");
	}
	must(channels.head.arrayFrameCount <= 128, 84, channels, "arrayFrameCount");
	let last = -1;
	for (const [i, block] of channels.parts.ControlBlocks.entries()) {
		const field = `ControlBlocks[${i}]`;
		must(block.vcpuId > last, 84, channels, `${field}.vcpuId`);
		must(hasVcpu(domain, block.vcpuId), 84, channels, `${field}.vcpuId`);
		must(block.offset % 8 === 0 && block.offset + 72 <= 4096, 84, channels, `${field}.offset`);
		must(host.isOwnedBy(block.mfn, domain.domid), 55, channels, `${field}.mfn`);
		for (const [q, tail] of block.tail.entries())
			must(tail === 0 || tail < (ports?.head.slotCount ?? 0), 84, channels, `${field}.tail[${q}]`);
		last = block.vcpuId;
	}
	for (const [i, { mfn }] of channels.parts.EventArrays.entries())
		must(host.isOwnedBy(mfn, domain.domid), 55, channels, `EventArrays[${i}].mfn`);
}

export const vcpusOf = (domain: Domain): number[] =>
	domain.one("LU_VCPUS")!.parts.VcpuSlots.map((s: Fields) => s.vcpuId);
export const hasVcpu = (domain: Domain, vcpuId: number): boolean => vcpusOf(domain).includes(vcpuId);

export function checkPorts(host: Host, domain: Domain): void {
	const record = domain.one("LU_EVTCHN_PORTS");
	if (!record) return;
	const { guestWidth, maxEvtchnPort } = domain.record.head;
	const isFifo = domain.one("LU_EVTCHN")?.head.abi === FIFO;
	const most = isFifo ? 131_072 : guestWidth === 4 ? 1024 : 4096;
	must(record.head.slotCount <= most, 81, record, "slotCount");
	checkValues(record, 80, "Ports");
	const highestVcpu = Math.max(0, ...vcpusOf(domain));
	const bound = new Set<string>();
	for (const [i, port] of record.parts.Ports.entries()) {
		const field = `Ports[${i}]`;
		must(port.slot !== 0, 80, record, field);
		must(maxEvtchnPort === ALL_ONES_32 || port.slot <= maxEvtchnPort, 81, record, field);
		must(port.priority < 16, 80, record, `${field}.priority`);
		must(port.lastPriority < 16, 80, record, `${field}.lastPriority`);
		must(port.notifyVcpu <= highestVcpu, 80, record, `${field}.notifyVcpu`);
		must(port.lastVcpu <= highestVcpu, 80, record, `${field}.lastVcpu`);
		must(port.pending <= 1, 80, record, `${field}.pending`);
		if (port.state === STATE.virq) {
			must(port.virq < VIRQS, 83, record, `${field}.virq`);
			const key = PER_VCPU_VIRQS.includes(port.virq) ? `${port.virq} ${port.notifyVcpu}` : `${port.virq}`;
			must(!bound.has(key), 83, record, `${field}.virq`);
			bound.add(key);
		}
		if (port.state === STATE.interdomain) {
			const other = host.domains.get(port.remoteDomid);
			const end = other && portsOf(other).find((p) => p.slot === port.remotePort);
			const names =
				end?.state === STATE.interdomain && end.remoteDomid === domain.domid && end.remotePort === port.slot;
			must(names, 82, record, `${field}.remotePort`);
		}
	}
}

export function checkPirqs(domain: Domain): void {
	const record = domain.one("LU_PIRQS");
	const ports = portsOf(domain);
	let last = -1;
	if (record) checkValues(record, 85, "PirqList");
	for (const [i, pirq] of (record?.parts.PirqList ?? []).entries()) {
		must(pirq.pirq > last, 85, record!, `PirqList[${i}].pirq`);
		last = pirq.pirq;
		if (pirq.port === 0) continue;
		const port = ports.find((p) => p.slot === pirq.port);
		must(port?.state === STATE.pirq && port.pirq === pirq.pirq, 85, record!, `PirqList[${i}].port`);
	}
	for (const [i, port] of ports.entries()) {
		if (port.state !== STATE.pirq) continue;
		const names = record?.parts.PirqList.some((p: Fields) => p.port === port.slot && p.pirq === port.pirq);
		must(names === true, 85, domain.one("LU_EVTCHN_PORTS")!, `Ports[${i}].pirq`);
	}
}
