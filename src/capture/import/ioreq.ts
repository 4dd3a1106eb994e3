/**
 * I/O request servers of an HVM guest. The domain dump has their ranges and the pages that they share with their
 * emulators, the event dump the ports that Xen consumes; which belongs to which is told by Xen's order of creation:
 * a port for vCPU 0, if requests are buffered one for them, then a port for each further vCPU.
 */
import { BUFIOREQ, DOMID, IOREQ_FLAG, IOREQ_PAGE, IOREQ_PAGE_FLAG, IOREQ_RANGE, NONE64 } from "../../format/enums.ts";
import type { DomainModel } from "../../machine/model.ts";
import type { CapturedIoreqServer, CapturedPage } from "../domains.ts";
import type { CapturedPort } from "../events.ts";
import type { CapturedDomain } from "../read.ts";
import { contradiction, type Ledger, plural } from "./ledger.ts";
import { referencesOf } from "./specialPages.ts";

/** A server's page is allocated, and mapped by the server and by its emulator. */
const SERVER_PAGE_REFERENCES = 3;
const PAGES_PER_SERVER = 2;

function rangesOf(server: CapturedIoreqServer): NonNullable<DomainModel["ioreqRanges"]>[number][] {
	return (
		[
			[IOREQ_RANGE.port, server.ports],
			[IOREQ_RANGE.memory, server.memory],
			[IOREQ_RANGE.pci, server.pci],
		] as const
	).flatMap(([type, ranges]) =>
		ranges.map(({ start, end }) => ({ serverId: server.id, type, first: start, last: end })),
	);
}

/** Ports that Xen consumes, by vCPU. */
function consumedPorts({ events }: CapturedDomain): Map<number, CapturedPort[]> {
	const byVcpu = new Map<number, CapturedPort[]>();
	for (const port of events.ports) {
		if (port.xenConsumer > 0) {
			byVcpu.set(port.notifyVcpu, [...(byVcpu.get(port.notifyVcpu) ?? []), port]);
		}
	}
	return byVcpu;
}

/** Puts a domain's I/O request servers into the model; none, and nothing is done. */
export function importIoreqServers(captured: CapturedDomain, model: DomainModel, ledger: Ledger): void {
	const { domid, info } = captured;
	const servers = [...info.ioreqServers].sort((a, b) => a.id - b.id);
	if (servers.length === 0) {
		return;
	}
	const consumed = consumedPorts(captured);
	const onFirst = consumed.get(0) ?? [];
	const isBuffered = onFirst.length >= 2 * servers.length;
	const pages = [...info.extraPages].sort((a, b) => Number(isServerPage(b)) - Number(isServerPage(a)));
	const list: NonNullable<DomainModel["ioreqServerList"]>[number][] = [];
	const ports: NonNullable<DomainModel["ioreqPorts"]>[number][] = [];
	const shared: NonNullable<DomainModel["ioreqPages"]>[number][] = [];
	for (const [index, server] of servers.entries()) {
		const buffered = isBuffered ? onFirst[2 * index + 1] : undefined;
		let emulator: number | undefined;
		for (const [vcpuId, candidates] of [...consumed].sort(([a], [b]) => a - b)) {
			const port = candidates[vcpuId === 0 && isBuffered ? 2 * index : index];
			if (port !== undefined) {
				emulator ??= port.remoteDomid;
				ports.push({ serverId: server.id, vcpuId, port: port.port });
			}
		}
		if (emulator !== undefined && emulator >= DOMID.FIRST_RESERVED) {
			throw contradiction(domid, `I/O server ${server.id}`, "an emulator's domid", String(emulator), "debugkey-e.txt");
		}
		list.push({
			serverId: server.id,
			emulator: emulator ?? 0,
			bufferedMode: buffered === undefined ? BUFIOREQ.off : BUFIOREQ.atomic,
			flags: IOREQ_FLAG.enabled,
			bufferedPort: buffered?.port ?? 0,
		});
		const own = pages.slice(index * PAGES_PER_SERVER, (index + 1) * PAGES_PER_SERVER);
		for (const [page, role] of [
			[own[0], IOREQ_PAGE.synchronous],
			[own[1], IOREQ_PAGE.buffered],
		] as const) {
			if (page !== undefined) {
				shared.push({ mfn: page.mfn, gfn: NONE64, serverId: server.id, role, flags: IOREQ_PAGE_FLAG.resource });
			}
		}
		if (emulator === undefined) {
			ledger.note(domid, `emulator of I/O server ${server.id}`, "defaulted to domain 0: it has no ports");
		}
	}
	model.ioreqServerList = list;
	model.ioreqPorts = ports;
	model.ioreqPages = shared;
	model.ioreqRanges = servers.flatMap(rangesOf);
	ledger.note(
		domid,
		`pages and ports of its ${plural(servers.length, "I/O server")}`,
		"assigned in the order of the dumps: page of requests, page of buffered ones; each vCPU's port, buffered port second",
	);
	ledger.note(
		domid,
		`state of its ${plural(servers.length, "I/O server")}`,
		`defaulted to enabled, buffered requests ${isBuffered ? "atomic" : "off"}, pages acquired as resources`,
	);
}

const isServerPage = (page: CapturedPage): boolean => referencesOf(page) >= SERVER_PAGE_REFERENCES;
