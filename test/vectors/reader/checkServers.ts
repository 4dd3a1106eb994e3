/** I/O request servers and permissions: FORMAT.md, the paragraphs of these names; RULES.md, 16. */
import { isChannel } from "./checkEvents.ts";
import { mustKnow } from "./checkHost.ts";
import { type Domain, type Host, must } from "./host.ts";
import type { Fields } from "./octets.ts";
import type { StreamRecord } from "./stream.ts";

const MOST_SERVERS = 8;
const MOST_PAGES = 65;
const CLAIMS_WRITES = 2;
const BUFFERED = 1;

/** Ranges are not empty, ascend by the fields of `keys`, and those with equal keys do not overlap. */
function mustAscend(rule: number, record: StreamRecord, part: string, i: number, keys: string[]): void {
	const range: Fields = record.parts[part][i];
	const before: Fields | undefined = record.parts[part][i - 1];
	const field = (name: string) => `${part}[${i}].${name}`;
	must(range.first <= range.last, rule, record, field("last"));
	if (!before) return;
	for (const key of keys) {
		must(range[key] >= before[key], rule, record, field(key));
		if (range[key] > before[key]) return;
	}
	must(range.first > before.last, rule, record, field("first"));
}

export function checkServers(host: Host, domain: Domain): void {
	const record = domain.one("LU_IOREQ_SERVERS");
	if (!record) return;
	const { IoreqServerList: servers, IoreqPorts: ports, IoreqPages: pages, IoreqRanges: ranges } = record.parts;
	const namesServer = (part: string, i: number) =>
		must(
			servers.some((s: Fields) => s.serverId === record.parts[part][i].serverId),
			100,
			record,
			`${part}[${i}].serverId`,
		);
	must(servers.length <= MOST_SERVERS, 100, record, "serverCount");
	let last = -1;
	for (const [i, { serverId, emulator, bufferedPort }] of servers.entries()) {
		const field = `IoreqServerList[${i}]`;
		must(serverId > last && serverId < 65536, 100, record, `${field}.serverId`);
		must(host.domains.has(emulator) && emulator !== domain.domid, 43, record, `${field}.emulator`);
		for (const name of ["bufferedMode", "flags"]) mustKnow(100, record, name, "IoreqServerList", i);
		const claims = (server: Fields) => (server.flags & CLAIMS_WRITES) !== 0;
		must(!claims(servers[i]) || !servers.slice(0, i).some(claims), 100, record, `${field}.flags`, "two claim writes");
		must(bufferedPort === 0 || isChannel(domain, bufferedPort), 100, record, `${field}.bufferedPort`);
		last = serverId;
	}
	for (const [i, { serverId, vcpuId, port }] of ports.entries()) {
		namesServer("IoreqPorts", i);
		must(domain.vcpus.includes(vcpuId), 100, record, `IoreqPorts[${i}].vcpuId`);
		must(isChannel(domain, port), 100, record, `IoreqPorts[${i}].port`);
		const isOf = (other: Fields) => other.serverId === serverId && other.vcpuId === vcpuId;
		must(!ports.slice(0, i).some(isOf), 100, record, `IoreqPorts[${i}].vcpuId`, "twice");
	}
	must(pages.length <= MOST_PAGES * servers.length, 100, record, "pageCount");
	for (const [i, { mfn, serverId, role }] of pages.entries()) {
		namesServer("IoreqPages", i);
		for (const name of ["role", "flags"]) mustKnow(100, record, name, "IoreqPages", i);
		host.mustOwn(domain.domid, mfn, record, `IoreqPages[${i}].mfn`);
		const before: Fields[] = pages.slice(0, i);
		must(!before.some((other) => other.mfn === mfn), 100, record, `IoreqPages[${i}].mfn`, "twice");
		const like = before.filter((other) => other.serverId === serverId && other.role === role);
		const most = role === BUFFERED ? 1 : Math.ceil(domain.record.head.maxVcpus / 128);
		must(like.length < most, 100, record, `IoreqPages[${i}].role`, "too many");
	}
	for (let i = 0; i < ranges.length; i++) {
		namesServer("IoreqRanges", i);
		mustKnow(100, record, "type", "IoreqRanges", i);
		mustAscend(100, record, "IoreqRanges", i, ["serverId", "type"]);
	}
}

export function checkCaps(domain: Domain): void {
	const record = domain.one("LU_CAPS");
	for (let i = 0; i < (record?.head.rangeCount ?? 0); i++) {
		mustKnow(101, record!, "kind", "CapRanges", i);
		mustAscend(101, record!, "CapRanges", i, ["kind"]);
	}
}
