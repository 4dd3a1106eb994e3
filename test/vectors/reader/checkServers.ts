/** Stage 11, I/O request servers and permissions: FORMAT.md, "I/O request servers" and "Permissions". */
import { hasVcpu, portsOf } from "./checkEvents.ts";
import { checkValues } from "./checkHost.ts";
import { type Domain, type Host, must } from "./host.ts";
import type { Fields } from "./octets.ts";

const MOST_SERVERS = 8;
const BOUND = [2, 3];

export function checkServers(host: Host, domain: Domain): void {
	const record = domain.one("LU_IOREQ_SERVERS");
	if (!record) return;
	const { IoreqServerList: servers, IoreqPorts: ports, IoreqPages: pages, IoreqRanges: ranges } = record.parts;
	const isServer = (id: number) => servers.some((s: Fields) => s.serverId === id);
	const isPort = (port: number) => portsOf(domain).some((p) => p.slot === port && BOUND.includes(p.state));
	must(servers.length <= MOST_SERVERS, 100, record, "serverCount");
	for (const part of ["IoreqServerList", "IoreqPages", "IoreqRanges"]) checkValues(record, 100, part);
	for (const [i, server] of servers.entries()) {
		const field = `IoreqServerList[${i}]`;
		must(server.serverId < 65536, 100, record, `${field}.serverId`);
		must(i === 0 || server.serverId > servers[i - 1].serverId, 100, record, `${field}.serverId`);
		must(host.domains.has(server.emulator), 43, record, `${field}.emulator`);
		must(server.bufferedPort === 0 || isPort(server.bufferedPort), 100, record, `${field}.bufferedPort`);
	}
	for (const [i, port] of ports.entries()) {
		must(isServer(port.serverId), 100, record, `IoreqPorts[${i}].serverId`);
		must(hasVcpu(domain, port.vcpuId), 100, record, `IoreqPorts[${i}].vcpuId`);
		must(isPort(port.port), 100, record, `IoreqPorts[${i}].port`);
	}
	for (const [i, page] of pages.entries()) {
		must(isServer(page.serverId), 100, record, `IoreqPages[${i}].serverId`);
		must(host.isOwnedBy(page.mfn, domain.domid), 55, record, `IoreqPages[${i}].mfn`);
	}
	for (const [i, range] of ranges.entries()) {
		const field = `IoreqRanges[${i}]`;
		must(isServer(range.serverId), 100, record, `${field}.serverId`);
		must(range.first <= range.last, 100, record, `${field}.last`);
		if (i === 0) continue;
		const before = ranges[i - 1];
		const order = range.serverId - before.serverId || range.type - before.type;
		must(order >= 0 && (order > 0 || range.first > before.last), 100, record, `${field}.first`);
	}
}

export function checkCaps(domain: Domain): void {
	const record = domain.one("LU_CAPS");
	if (!record) return;
	checkValues(record, 101, "CapRanges");
	for (const [i, range] of record.parts.CapRanges.entries()) {
		const field = `CapRanges[${i}]`;
		must(range.first <= range.last, 101, record, `${field}.last`);
		if (i === 0) continue;
		const before = record.parts.CapRanges[i - 1];
		must(range.kind >= before.kind, 101, record, `${field}.kind`);
		must(range.kind > before.kind || range.first > before.last, 101, record, `${field}.first`);
	}
}
