/**
 * Domains come, are paused, shut down and go.
 *
 *     create ─> paused, being built ─ unpause ─> alive ─ shutdown ─> shut down ─ resume ─> alive
 *     destroy: channels, mappings, servers, page tables, P2M, memory ─> gone, or dead while others map its frames or refer to it
 */

import {
	CAP,
	CREATE,
	DOMID,
	EVTCHN_ABI,
	FRAME,
	KEPT_FORMAT,
	KEPT_PURPOSE,
	KIND,
	LIFE,
	NO_SHUTDOWN_CODE,
	NONE32,
	NONE64,
	SCHEDULER,
	SHUTDOWN_STATE,
	VCPU_FLAG,
} from "../../format/enums.ts";
import { firstXenSlot, PAE_XEN_SLOT, XEN_START_32 } from "../pae.ts";
import type { DomainTables, VcpuRow } from "../readImage.ts";
import { forgetRequests } from "./activity.ts";
import { Domain } from "./domain.ts";
import { need, refuse } from "./errno.ts";
import { closeAll } from "./events.ts";
import { dropTable, makeGrantTable, releaseMappings } from "./grants.ts";
import { emptyHvmContext, placeCpuEntry } from "./hvmContext.ts";
import { dropServers } from "./ioreq.ts";
import type { Machine } from "./machine.ts";
import { dropP2m, makeRoot, populate } from "./p2m.ts";
import { dropAllTables, isUnseen, makeEntry, pinTable, setGdt } from "./pageTables.ts";
import { initialise, now, RUNSTATE } from "./vcpus.ts";

const MOST_VCPUS = 128;
const MOST_FRAMES = 2 ** 20;
/** Frames that a domain may have beyond those that it begins with. */
const ROOM_TO_GROW = 256;
const HAP_POOL_FRAMES = 64;
const MAX_GRANT_FRAMES = 8;
const MAX_MAPTRACK_FRAMES = 4;
const ENTRIES = 512;
/** Where Linux has its map of all memory: a slot of the L4 table, of a 32-bit guest's L3 table. */
const DIRECT_MAP_SLOT = 272;
const KERNEL_ENTRY = 0xffff_ffff_8100_0000n;
const KERNEL_ENTRY_32 = 0xc100_0000n;
const PV_ASSISTS = 0x2d;
const EMULATION_FLAGS: Readonly<Record<number, number>> = { [KIND.pv]: 0, [KIND.pvh]: 1, [KIND.hvm]: 0x3ff };

export interface NewDomain {
	domid: number;
	kind: number;
	/** Frames of memory that it begins with. */
	frames: number;
	vcpus: number;
	/** Bits of its word: 64, or of a PV guest 32. */
	width: number;
	/** dom0: may map others' memory, owns the devices. */
	privileged: boolean;
	/** A stub domain's guest. */
	target?: number;
}

function newVcpu(machine: Machine, vcpuId: number, affinityWordCount: number): VcpuRow {
	return {
		vcpuId,
		flags: VCPU_FLAG.exists | VCPU_FLAG.down,
		vcpuInfoMfn: NONE64,
		runstateAddress: 0n,
		timeAddress: 0n,
		runstateEntryNs: now(machine),
		runstateNs: [0n, 0n, 0n, 0n],
		periodicPeriodNs: 0n,
		periodicLastNs: 0n,
		singleshotNs: 0n,
		pollDeadlineNs: 0n,
		ioBitmapAddress: 0n,
		vcpuInfoOffset: 0,
		controllerPauseCount: 0,
		pollPort: 0,
		runstate: RUNSTATE.offline,
		ioBitmapPorts: 0,
		ioPrivilege: 0,
		runstateArea: 0,
		timeArea: 0,
		upcallVector: 0,
		upcallPending: 0,
		nmiPending: 0,
		mcePending: 0,
		exceptionMask: 0,
		oldExceptionMask: 0,
		affinityWordCount,
	};
}

function newTables(machine: Machine, spec: NewDomain): DomainTables {
	const { domid, kind, frames, vcpus, width, privileged, target = DOMID.INVALID } = spec;
	const isNarrow = width === 32;
	const uniqueId = BigInt(machine.host.host.nextUniqueId ?? 1);
	machine.host.host = { ...machine.host.host, nextUniqueId: uniqueId + 1n };
	const cpus = Number(machine.host.host.cpuCount ?? 1);
	const all = (1n << BigInt(cpus)) - 1n;
	const ids = Array.from({ length: vcpus }, (_, id) => id);
	return {
		domain: {
			uniqueId,
			handle: Array.from({ length: 16 }, (_, i) => (i < 8 ? 0 : Number((uniqueId >> BigInt(8 * (15 - i))) & 0xffn))),
			maxPages: BigInt(frames + ROOM_TO_GROW),
			hapPoolFrames: BigInt(kind === KIND.pv ? 0 : HAP_POOL_FRAMES + Math.ceil(frames / ENTRIES)),
			nodeAffinity: 1n,
			domid,
			kind,
			life: LIFE.alive,
			createFlags:
				(privileged ? CREATE.privileged | CREATE.hardware | CREATE.console : 0) | (kind === KIND.pv ? 0 : CREATE.hap),
			maxVcpus: vcpus,
			maxEvtchnPort: NONE32,
			maxGrantFrames: MAX_GRANT_FRAMES,
			maxMaptrackFrames: MAX_MAPTRACK_FRAMES,
			grantVersionLimit: 2,
			emulationFlags: EMULATION_FLAGS[kind] ?? 0,
			ssidref: 0,
			cpupoolId: Number(machine.host.poolList[0]?.poolId ?? 0),
			addressWidth: 0,
			guestWidth: width / 8,
		},
		cpuidLeaves: [],
		msrPolicy: [],
		p2m: undefined,
		p2mDefaultAccess: 7,
		keptFrames: undefined,
		keptRoots: [],
		keptRanges: [],
		pv32: isNarrow ? { xenStart: XEN_START_32 } : undefined,
		vnumaNodes: [],
		vnumaDistances: [],
		vnumaVcpus: [],
		vnumaRanges: [],
		vcpuIds: ids,
		grantTable: undefined,
		grantFrames: [],
		statusFrames: [],
		grantActive: [],
		domainState: {
			timeOffsetSec: 0n,
			pirqEoiMfn: NONE64,
			ioreqGfnBase: NONE64,
			ioreqGfnMask: 0n,
			controllerPauseCount: 1,
			suspendPort: 0,
			vmAssist: kind === KIND.pv ? PV_ASSISTS : 0,
			pirqEoiMode: 0,
			pciCf8: 0,
			target,
			creationFinished: 0,
			shutdownState: SHUTDOWN_STATE.none,
			shutdownCode: NO_SHUTDOWN_CODE,
			cmosIndex: 0,
			callbackAsserted: 0,
			suspendedS3: 0,
			pollWordCount: 0,
			watchdogCount: 0,
			e820Count: 0,
			emuIrqCount: 0,
			pinnedCacheCount: 0,
			g2mPortCount: 0,
		},
		pollWords: [],
		watchdogs: [],
		e820: [],
		emuIrqs: [],
		pinnedCaches: [],
		g2mPorts: [],
		sharedInfo: undefined,
		evtchn: { abi: EVTCHN_ABI.twoLevel },
		controlBlocks: [],
		eventArrays: [],
		ports: [],
		maptrack: [],
		foreignMapList: [],
		vcpu: ids.map((id) => newVcpu(machine, id, Math.ceil(cpus / 64))),
		hardAffinity: ids.map(() => all),
		softAffinity: ids.map(() => all),
		savedAffinity: ids.map(() => all),
		pvVcpu: kind === KIND.pv && !isNarrow ? ids.map(() => undefined) : [],
		pv32Vcpu: isNarrow ? ids.map(() => undefined) : [],
		pvFpu: kind === KIND.pv ? ids.map(() => undefined) : [],
		pvTraps: kind === KIND.pv ? ids.map(() => undefined) : [],
		pvExtended: kind === KIND.pv ? ids.map(() => undefined) : [],
		pvXsave: kind === KIND.pv ? ids.map(() => undefined) : [],
		pvMsrs: kind === KIND.pv ? ids.map(() => undefined) : [],
		tsc: { mode: 0, khz: Number(machine.host.host.cpuKhz ?? 0), nsec: 0n, incarnation: 1 },
		hvmParamList: [],
		hvmContext: kind === KIND.pv ? undefined : emptyHvmContext(),
		pirqList: [],
		ioreqServerList: [],
		ioreqPorts: [],
		ioreqPages: [],
		ioreqRanges: [],
		capRanges: privileged
			? [
					{ kind: CAP.ioPort, first: 0n, last: 0xffffn },
					{ kind: CAP.ioMemory, first: 0n, last: 0xf_ffffn },
					{ kind: CAP.interrupt, first: 1n, last: 255n },
				]
			: [{ kind: CAP.ioMemory, first: 0xb8n, last: 0xbfn }],
		scheduler: undefined,
		schedulerVcpus: [],
		references: 1,
	};
}

/**
 * Creates a domain as a toolstack and its builder do: memory, shared_info, a grant table, vCPU 0 ready to run; a PV
 * domain's page tables map all of its memory. It is paused until `unpause`.
 * @returns the domid
 */
export function create(machine: Machine, spec: NewDomain): number {
	const { domid, kind, frames, vcpus, width, target } = spec;
	need(domid >= 0 && domid < DOMID.FIRST_RESERVED, "EINVAL");
	need(!machine.domains.has(domid), "EEXIST");
	need(vcpus >= 1 && vcpus <= MOST_VCPUS && frames >= 8 && frames <= MOST_FRAMES, "EINVAL");
	need(width === 64 || (width === 32 && kind === KIND.pv), "EINVAL");
	if (target !== undefined) machine.living(target);
	const { nextUniqueId } = machine.host.host;
	const domain = new Domain(newTables(machine, spec));
	machine.domains.set(domid, domain);
	if (target !== undefined) machine.getDomain(target);
	try {
		domain.tables.sharedInfo = { mfn: BigInt(machine.allocateShared(domain)), gfn: NONE64 };
		makeGrantTable(machine, domain);
		if (kind === KIND.pv) buildPv(machine, domain, frames);
		else buildExternal(machine, domain, frames);
	} catch (error) {
		destroy(machine, domid);
		machine.host.host = { ...machine.host.host, nextUniqueId: nextUniqueId as bigint };
		throw error;
	}
	return domid;
}

function buildExternal(machine: Machine, domain: Domain, count: number): void {
	makeRoot(machine, domain, { purpose: KEPT_PURPOSE.p2m, format: KEPT_FORMAT.ept, levels: 4 });
	let gfn = 0;
	// Superpages as far as the machine has them, as a builder tries.
	while (gfn < count) {
		const isWhole = gfn % ENTRIES === 0 && count - gfn >= ENTRIES && machine.frames.findFree(9) !== undefined;
		populate(machine, domain.domid, gfn, isWhole ? 9 : 0);
		gfn += isWhole ? ENTRIES : 1;
	}
	placeCpuEntry(domain, 0);
	bringUp(domain, 0);
}

function bringUp({ tables }: Domain, vcpu: number): void {
	const row = tables.vcpu[vcpu] as VcpuRow;
	row.flags = VCPU_FLAG.exists | VCPU_FLAG.initialised;
	row.runstate = RUNSTATE.runnable;
}

/**
 * Page tables as a builder makes them: one tree below L4 slot 272, of a 32-bit guest below the last slot of its L3, all memory
 * writable but tables and descriptors.
 */
function buildPv(machine: Machine, domain: Domain, count: number): void {
	const { domid, isNarrow } = domain;
	const lowest = Math.ceil(count / ENTRIES);
	// Of a 32-bit guest's last GiB a part is Xen's.
	need(count >= lowest + 4 && lowest <= (isNarrow ? firstXenSlot(XEN_START_32) : ENTRIES), "EINVAL");
	const mfns = Array.from({ length: count }, () => populate(machine, domid, 0, 0));
	const take = (): number => mfns[--left] as number;
	let left = count;
	const l4 = isNarrow ? undefined : take();
	const [l3, l2, gdt] = [take(), take(), take()];
	const l1 = Array.from({ length: lowest }, take);
	const root = l4 ?? l3;
	const special = new Set([root, l3, l2, gdt, ...l1]);
	const { memory } = machine;
	mfns.forEach((mfn, i) => {
		memory.setEntry(l1[Math.floor(i / ENTRIES)] as number, i % ENTRIES, makeEntry(mfn, !special.has(mfn)));
	});
	l1.forEach((mfn, i) => {
		memory.setEntry(l2, i, makeEntry(mfn, true));
	});
	memory.setEntry(l3, isNarrow ? PAE_XEN_SLOT : 0, makeEntry(l2, true));
	if (l4 !== undefined) memory.setEntry(l4, DIRECT_MAP_SLOT, makeEntry(l3, true));
	pinTable(machine, domid, root, domain.rootLevel);
	initialise(machine, domid, 0, root, isNarrow ? KERNEL_ENTRY_32 : KERNEL_ENTRY);
	setGdt(machine, domid, 0, [gdt], ENTRIES);
	bringUp(domain, 0);
}

/** XEN_DOMCTL_pausedomain. */
export function pause(machine: Machine, domid: number): number {
	machine.living(domid).tables.domainState.controllerPauseCount++;
	return 0;
}

/** XEN_DOMCTL_unpausedomain; the first time that no pause is left, the domain's creation has ended. */
export function unpause(machine: Machine, domid: number): number {
	const { domainState } = machine.living(domid).tables;
	need(domainState.controllerPauseCount > 0, "EINVAL");
	domainState.controllerPauseCount--;
	if (domainState.controllerPauseCount === 0) domainState.creationFinished = 1;
	return 0;
}

/** XEN_DOMCTL_resumedomain: a domain that shut down goes on; a vCPU that was blocked is so still. */
export function resume(machine: Machine, domid: number): number {
	const { domainState } = machine.living(domid).tables;
	if (domainState.shutdownState === SHUTDOWN_STATE.none) return 0;
	domainState.shutdownState = SHUTDOWN_STATE.none;
	domainState.shutdownCode = NO_SHUTDOWN_CODE;
	return 0;
}

/** A domain's share until the toolstack says otherwise. */
const DEFAULT_WEIGHT = 256;
/** Of a weight and of a cap: leave it as it is. */
const SAME_WEIGHT = 0;
const SAME_CAP = 0xffff;

/** Scheduler of the domain's CPU pool, which has weights and caps: credit or credit2. */
function weighing(machine: Machine, { tables }: Domain): number {
	const pool = machine.host.poolList.find(({ poolId }) => Number(poolId) === tables.domain.cpupoolId);
	const scheduler = Number(pool?.scheduler);
	need(scheduler === SCHEDULER.credit || scheduler === SCHEDULER.credit2, "EINVAL");
	return scheduler;
}

/** XEN_DOMCTL_SCHEDOP_getinfo. @returns weight and cap */
export function getWeight(machine: Machine, domid: number): number[] {
	const domain = machine.living(domid);
	weighing(machine, domain);
	const { weight = DEFAULT_WEIGHT, cap = 0 } = domain.tables.scheduler ?? {};
	return [weight, cap];
}

/** XEN_DOMCTL_SCHEDOP_putinfo: weight and cap, 16 bits each. */
export function setWeight(machine: Machine, domid: number, weight: number, cap: number): number {
	const domain = machine.living(domid);
	const { tables } = domain;
	const scheduler = weighing(machine, domain);
	need(weight <= SAME_CAP && cap <= SAME_CAP, "EINVAL");
	const { weight: before = DEFAULT_WEIGHT, cap: limit = 0 } = tables.scheduler ?? {};
	tables.scheduler = {
		scheduler,
		weight: weight === SAME_WEIGHT ? before : weight,
		cap: cap === SAME_CAP ? limit : cap,
		vcpuCount: 0,
	};
	return 0;
}

/** XEN_DOMCTL_max_mem: below what the domain has as well, which then is given no more. */
export function setMaxPages(machine: Machine, domid: number, frames: number): number {
	machine.living(domid).tables.domain.maxPages = BigInt(frames);
	return 0;
}

/** XEN_DOMCTL_set_virq_handler: another domain than dom0 is told of a global VIRQ. */
export function setVirqHandler(machine: Machine, domid: number, virq: number): number {
	machine.living(domid);
	need(virq === 3 || virq === 9, "EINVAL");
	const others = (machine.host.virqHandlers ?? []).filter((row) => Number(row.virq) !== virq);
	const old = machine.host.virqHandlers?.find((row) => Number(row.virq) === virq);
	machine.getDomain(domid);
	machine.host.virqHandlers = [...others, { virq, domid }].sort((a, b) => Number(a.virq) - Number(b.virq));
	if (old) machine.putDomain(Number(old.domid));
	return 0;
}

/** SCHEDOP_watchdog. @param index 0 for a new one @param seconds 0 stops it @returns a new one's number, from 1; else 0 */
export function setWatchdog(machine: Machine, domid: number, index: number, seconds: number): number {
	const { tables } = machine.living(domid);
	need(index >= 0 && index <= 2 && seconds >= 0 && seconds <= 86_400, "EINVAL");
	need(index !== 0 || seconds > 0, "EINVAL");
	const used = new Set(tables.watchdogs.map((row) => row.index));
	const slot = index === 0 ? [0, 1].find((free) => !used.has(free)) : index - 1;
	if (slot === undefined) refuse("ENOSPC");
	need(index === 0 || used.has(slot), "EINVAL");
	tables.watchdogs = tables.watchdogs.filter((row) => row.index !== slot);
	if (seconds > 0) {
		tables.watchdogs.push({ index: slot, expiresNs: now(machine) + BigInt(seconds) * 1_000_000_000n });
		tables.watchdogs.sort((a, b) => a.index - b.index);
	}
	return index === 0 ? slot + 1 : 0;
}

/** XEN_DOMCTL_destroydomain. @returns 1 if the domain is dead but not gone: others map its frames, or refer to it */
export function destroy(machine: Machine, domid: number): number {
	const domain = machine.living(domid);
	// What a captured dom0 maps is known in part: it could not all be taken back.
	need(!isUnseen(machine, domain), "EOPNOTSUPP");
	const { tables } = domain;
	const { frames } = machine;
	closeAll(machine, domain);
	releaseMappings(machine, domain);
	dropServers(machine, domain);
	forgetRequests(machine, (request) => request.domid === domid || request.emulator === domid);
	const handlers = machine.host.virqHandlers ?? [];
	machine.host.virqHandlers = handlers.filter((row) => Number(row.domid) !== domid);
	for (const row of handlers) if (Number(row.domid) === domid) machine.putDomain(domid);
	for (const row of tables.vcpu) {
		if (row === undefined || row.vcpuInfoMfn === NONE64) continue;
		frames.putWritable(Number(row.vcpuInfoMfn));
	}
	if (tables.domainState.pirqEoiMfn !== NONE64) frames.putWritable(Number(tables.domainState.pirqEoiMfn));
	if (!domain.isExternal) dropAllTables(machine, domain);
	dropP2m(machine, domain);
	dropTable(machine, domain);
	if (tables.sharedInfo) machine.freeShared(Number(tables.sharedInfo.mfn));
	clear(domain);
	for (let mfn = 0; mfn < frames.count; mfn++) {
		if (frames.ownerOf(mfn) === domid && frames.has(mfn, FRAME.allocated)) frames.deallocate(mfn);
	}
	tables.domain.life = LIFE.dead;
	machine.putDomain(domid);
	return machine.domains.has(domid) ? 1 : 0;
}

/** What a dead domain has no more: all but its identity, its state, and grants that others hold. */
function clear({ tables }: Domain): void {
	Object.assign(tables, {
		sharedInfo: undefined,
		vcpuIds: [],
		vcpu: [],
		hardAffinity: [],
		softAffinity: [],
		savedAffinity: [],
		pv32: undefined,
		vnumaNodes: [],
		vnumaDistances: [],
		vnumaVcpus: [],
		vnumaRanges: [],
		scheduler: undefined,
		schedulerVcpus: [],
		pvVcpu: [],
		pv32Vcpu: [],
		pvFpu: [],
		pvTraps: [],
		pvExtended: [],
		pvXsave: [],
		pvMsrs: [],
		tsc: undefined,
		hvmParamList: [],
		hvmContext: undefined,
		pirqList: [],
		emuIrqs: [],
		pollWords: [],
		watchdogs: [],
		capRanges: [],
		cpuidLeaves: [],
		msrPolicy: [],
	} satisfies Partial<DomainTables>);
	Object.assign(tables.domainState, {
		shutdownState: SHUTDOWN_STATE.shutDown,
		pirqEoiMfn: NONE64,
		pirqEoiMode: 0,
		suspendPort: 0,
		controllerPauseCount: tables.domainState.controllerPauseCount + 1,
	});
}
