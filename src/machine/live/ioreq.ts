/**
 * I/O request servers: an emulator's way to serve a guest's trapped accesses. A server has a port for each vCPU of the
 * guest, one more for buffered requests, and pages that it shares with its emulator, which are extra pages of the guest:
 *
 *     create ─> pages allocated when the emulator acquires one ─ its mapping: an L1 entry (PV), a foreign entry (PVH) ─> destroy
 *
 * A page that the emulator still maps when its server goes stays the guest's, not allocated, until that mapping is gone.
 */
import {
	BUFIOREQ,
	FRAME,
	IOREQ_FLAG,
	IOREQ_PAGE,
	IOREQ_PAGE_FLAG,
	IOREQ_RANGE,
	KIND,
	NONE64,
	PAGE_TYPE,
} from "../../format/enums.ts";
import { forgetRequests } from "./activity.ts";
import type { Domain } from "./domain.ts";
import { need, refuse } from "./errno.ts";
import { allocForXen, closePort } from "./events.ts";
import type { Machine } from "./machine.ts";
import { addForeign, lookUp, unmarkMemory } from "./p2m.ts";
import { makeEntry, placeGrantEntry } from "./pageTables.ts";

const MOST_SERVERS = 8;
const MOST_RANGES = 256;

type Server = Domain["tables"]["ioreqServerList"][number];

/** A guest, for a domain that may serve it: a privileged one, or its stub domain. */
function servedBy(machine: Machine, domid: number, emulator: number): Domain {
	const serving = machine.living(emulator);
	const guest = machine.external(domid);
	need(serving.isPrivileged || serving.tables.domainState.target === domid, "EPERM");
	return guest;
}

/** A server of a guest, and the guest. `emulator`: the caller, whose server it must be. */
function serverOf(machine: Machine, domid: number, id: number, emulator: number): { guest: Domain; server: Server } {
	const guest = servedBy(machine, domid, emulator);
	const server = guest.tables.ioreqServerList.find(({ serverId }) => serverId === id);
	need(server !== undefined, "ENOENT");
	need(server.emulator === emulator, "EPERM");
	return { guest, server };
}

/** XEN_DMOP_create_ioreq_server. @returns its identifier */
export function createServer(machine: Machine, domid: number, emulator: number, buffered: boolean): number {
	const guest = servedBy(machine, domid, emulator);
	need(guest.kind === KIND.hvm, "EINVAL");
	const { tables } = guest;
	let serverId = 0;
	while (tables.ioreqServerList.some((row) => row.serverId === serverId)) serverId++;
	need(serverId < MOST_SERVERS, "ENOSPC");
	const ports: number[] = [];
	const hadPorts = tables.ports.length;
	const open = (vcpu: number): number => {
		const port = allocForXen(machine, guest, vcpu, emulator);
		ports.push(port);
		return port;
	};
	let bufferedPort = 0;
	const rows: Domain["tables"]["ioreqPorts"] = [];
	try {
		for (const vcpuId of tables.vcpuIds) {
			rows.push({ serverId, vcpuId, port: open(vcpuId) });
			if (vcpuId === 0 && buffered) bufferedPort = open(vcpuId);
		}
	} catch (error) {
		for (const port of ports) closePort(machine, guest, port);
		tables.ports.splice(hadPorts);
		throw error;
	}
	tables.ioreqServerList.push({
		serverId,
		emulator,
		bufferedMode: buffered ? BUFIOREQ.atomic : BUFIOREQ.off,
		flags: 0,
		bufferedPort,
	});
	tables.ioreqServerList.sort((a, b) => a.serverId - b.serverId);
	tables.ioreqPorts.push(...rows);
	sortByServer(tables.ioreqPorts);
	machine.getDomain(emulator);
	return serverId;
}

function sortByServer<T extends { serverId: number }>(rows: T[]): void {
	rows.sort((a, b) => a.serverId - b.serverId);
}

type Page = Domain["tables"]["ioreqPages"][number];

const pagesOf = ({ tables }: Domain, { serverId }: Server): Page[] =>
	tables.ioreqPages.filter((row) => row.serverId === serverId);

/** Allocates a server's pages, of requests and of buffered ones: all of them when the first one is asked for, or none. */
function allocatePages(machine: Machine, guest: Domain, server: Server): void {
	const { tables } = guest;
	const { serverId } = server;
	const roles = server.bufferedMode === BUFIOREQ.off ? [IOREQ_PAGE.synchronous] : Object.values<number>(IOREQ_PAGE);
	try {
		for (const role of roles) {
			if (pagesOf(guest, server).some((row) => row.role === role)) continue;
			const mfn = machine.allocate(guest, FRAME.extra);
			machine.frames.get(mfn);
			machine.frames.startType(mfn, PAGE_TYPE.writable);
			tables.ioreqPages.push({ mfn: BigInt(mfn), gfn: NONE64, serverId, role, flags: IOREQ_PAGE_FLAG.resource });
		}
	} catch (error) {
		freePages(machine, guest, server);
		throw error;
	}
	tables.ioreqPages.sort((a, b) => a.serverId - b.serverId || a.role - b.role);
}

function freePages(machine: Machine, guest: Domain, server: Server): void {
	const { tables } = guest;
	for (const { mfn } of pagesOf(guest, server)) {
		machine.frames.putWritable(Number(mfn));
		machine.frames.deallocate(Number(mfn));
	}
	tables.ioreqPages = tables.ioreqPages.filter((row) => row.serverId !== server.serverId);
}

/**
 * XENMEM_acquire_resource: the emulator maps a server's page, a PV one in an L1 table of his, a PVH one in his P2M.
 * @returns the MFN
 */
export function acquirePage(
	machine: Machine,
	domid: number,
	emulator: number,
	id: number,
	role: number,
	place: { table: number; slot: number; gfn: number },
): number {
	const { guest, server } = serverOf(machine, domid, id, emulator);
	need(role === IOREQ_PAGE.synchronous || role === IOREQ_PAGE.buffered, "EINVAL");
	need(role === IOREQ_PAGE.synchronous || server.bufferedMode !== BUFIOREQ.off, "ENOENT");
	const serving = machine.living(emulator);
	if (serving.isExternal) need(place.gfn >= 0 && lookUp(serving, place.gfn) === undefined, "EINVAL");
	const isFirst = pagesOf(guest, server).length === 0;
	if (isFirst) allocatePages(machine, guest, server);
	try {
		const page = pagesOf(guest, server).find((row) => row.role === role);
		// A page at a GFN of the guest's is reached by that one alone.
		need(page !== undefined && page.gfn === NONE64, "EPERM");
		const mfn = Number(page.mfn);
		if (serving.isExternal) addForeign(machine, serving, place.gfn, mfn, domid);
		else mapPage(machine, serving, mfn, domid, place);
		return mfn;
	} catch (error) {
		if (isFirst) freePages(machine, guest, server);
		throw error;
	}
}

function mapPage(
	machine: Machine,
	serving: Domain,
	mfn: number,
	owner: number,
	{ table, slot }: { table: number; slot: number },
): void {
	machine.frames.get(mfn, owner);
	if (placeGrantEntry(machine, serving, table, slot, makeEntry(mfn, true))) return;
	machine.frames.put(mfn);
	refuse("EINVAL");
}

/** XEN_DMOP_set_ioreq_server_state. */
export function setServerState(
	machine: Machine,
	domid: number,
	emulator: number,
	id: number,
	enabled: boolean,
): number {
	const { server } = serverOf(machine, domid, id, emulator);
	server.flags = enabled ? server.flags | IOREQ_FLAG.enabled : server.flags & ~IOREQ_FLAG.enabled;
	return 0;
}

/**
 * XEN_DMOP_map_mem_type_to_ioreq_server: one server of a guest may claim writes to what it marks, EBUSY while one does.
 * When it does no more, what was marked is plain memory again.
 */
export function claimWrites(machine: Machine, domid: number, emulator: number, id: number, claim: boolean): number {
	const { guest, server } = serverOf(machine, domid, id, emulator);
	const other = guest.tables.ioreqServerList.find(({ flags }) => flags & IOREQ_FLAG.claimsWrites);
	if (claim) {
		need(other === undefined, "EBUSY");
		server.flags |= IOREQ_FLAG.claimsWrites;
		return 0;
	}
	need(other === server, "EINVAL");
	server.flags &= ~IOREQ_FLAG.claimsWrites;
	unmarkMemory(machine, guest);
	return 0;
}

/** XEN_DMOP_map_io_range_to_ioreq_server. EEXIST for addresses that it has already. */
export function mapRange(
	machine: Machine,
	domid: number,
	emulator: number,
	id: number,
	type: number,
	first: bigint,
	last: bigint,
): number {
	const { guest, server } = serverOf(machine, domid, id, emulator);
	need(Object.values<number>(IOREQ_RANGE).includes(type) && first >= 0n && first <= last, "EINVAL");
	const { tables } = guest;
	const own = tables.ioreqRanges.filter((row) => row.serverId === server.serverId && row.type === type);
	need(!own.some((row) => first <= row.last && row.first <= last), "EEXIST");
	// Ranges that touch are one.
	const below = own.find((row) => row.last + 1n === first);
	const above = own.find((row) => row.first === last + 1n);
	need(below !== undefined || above !== undefined || own.length < MOST_RANGES, "ENOMEM");
	replaceRanges(guest, [below, above], [{ ...server, type, first: below?.first ?? first, last: above?.last ?? last }]);
	return 0;
}

type Range = Domain["tables"]["ioreqRanges"][number];

function replaceRanges({ tables }: Domain, gone: readonly (Range | undefined)[], made: readonly Range[]): void {
	const added = made.map(({ serverId, type, first, last }) => ({ serverId, type, first, last }));
	tables.ioreqRanges = [...tables.ioreqRanges.filter((row) => !gone.includes(row)), ...added];
	tables.ioreqRanges.sort((a, b) => a.serverId - b.serverId || a.type - b.type || (a.first < b.first ? -1 : 1));
}

/** XEN_DMOP_unmap_io_range_from_ioreq_server: a range or a part of one. ENOENT for what it has not all of. */
export function unmapRange(
	machine: Machine,
	domid: number,
	emulator: number,
	id: number,
	type: number,
	first: bigint,
	last: bigint,
): number {
	const { guest, server } = serverOf(machine, domid, id, emulator);
	need(first <= last, "EINVAL");
	const own = guest.tables.ioreqRanges.filter((row) => row.serverId === server.serverId && row.type === type);
	const whole = own.find((row) => row.first <= first && last <= row.last);
	need(whole !== undefined, "ENOENT");
	const rest = [
		{ ...whole, last: first - 1n },
		{ ...whole, first: last + 1n },
	].filter((row) => row.first <= row.last);
	need(rest.length < 2 || own.length < MOST_RANGES, "ENOMEM");
	replaceRanges(guest, [whole], rest);
	return 0;
}

function dropServer(machine: Machine, guest: Domain, server: Server): void {
	const { tables } = guest;
	const isIts = ({ serverId }: { serverId: number }): boolean => serverId === server.serverId;
	for (const { port } of tables.ioreqPorts.filter(isIts)) closePort(machine, guest, port);
	if (server.bufferedPort !== 0) closePort(machine, guest, server.bufferedPort);
	freePages(machine, guest, server);
	forgetRequests(machine, ({ domid, server: id }) => domid === guest.domid && id === server.serverId);
	tables.ioreqPorts = tables.ioreqPorts.filter((row) => !isIts(row));
	tables.ioreqRanges = tables.ioreqRanges.filter((row) => !isIts(row));
	tables.ioreqServerList = tables.ioreqServerList.filter((row) => row !== server);
	machine.putDomain(server.emulator);
}

/** XEN_DMOP_destroy_ioreq_server. */
export function destroyServer(machine: Machine, domid: number, emulator: number, id: number): number {
	const { guest, server } = serverOf(machine, domid, id, emulator);
	dropServer(machine, guest, server);
	return 0;
}

/** A guest dies: so do its servers. */
export function dropServers(machine: Machine, guest: Domain): void {
	for (const server of [...guest.tables.ioreqServerList]) dropServer(machine, guest, server);
}
