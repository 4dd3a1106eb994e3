/** vCPUs: up and down, contexts, vcpu_info, timers, runstates, blocking and polling. */
import {
	EVTCHN_STATE,
	KIND,
	NONE64,
	PV_VCPU_FLAG,
	SHUTDOWN_STATE,
	TIME_AREA,
	VCPU_FLAG,
	VIRQ,
} from "../../format/enums.ts";
import { PAGE_BYTES, portsPerWord, sharedVcpuInfo, VCPU_INFO_BYTES, vcpuInfoView } from "../guestPages.ts";
import type { Pv32VcpuRow, PvVcpuRow, VcpuRow } from "../readImage.ts";
import type { Domain } from "./domain.ts";
import { need } from "./errno.ts";
import { isPortPending, raise, virqPort } from "./events.ts";
import { cpuEntries, placeCpuEntry, removeCpuEntry, setCpuRegister } from "./hvmContext.ts";
import type { Machine } from "./machine.ts";
import { getGuestPage } from "./p2m.ts";
import { newBaseptr } from "./pageTables.ts";

export const RUNSTATE = { running: 0, runnable: 1, blocked: 2, offline: 3 } as const;
/** A periodic timer ticks no faster. */
const SHORTEST_PERIOD_NS = 1_000_000n;
const FPU_BYTES = 512;
const TRAP_VECTORS = 256;
/** What a 32-bit guest's registers, and its hypercalls' fields for addresses, have room for. */
const WORD32_LIMIT = 2n ** 32n;
const NANOSECONDS_LIMIT = 2n ** 62n;

export const now = (machine: Machine): bigint => BigInt(machine.host.host.systemTimeNs ?? 0);

/** A vCPU's vcpu_info: where the guest has registered it, or in shared_info; undefined where it has none. */
export function vcpuInfo(machine: Machine, { tables, guestWidth }: Domain, vcpu: number) {
	const row = tables.vcpu[vcpu];
	if (row === undefined) return undefined;
	if (row.vcpuInfoMfn !== NONE64) {
		return vcpuInfoView(machine.memory.page(Number(row.vcpuInfoMfn)), row.vcpuInfoOffset, guestWidth);
	}
	const offset = sharedVcpuInfo(vcpu);
	if (offset === undefined || tables.sharedInfo === undefined) return undefined;
	return vcpuInfoView(machine.memory.page(Number(tables.sharedInfo.mfn)), offset, guestWidth);
}

/** The guest is told that something is pending on a vCPU, which wakes it. */
export function markEventsPending(machine: Machine, domain: Domain, vcpu: number): void {
	const info = vcpuInfo(machine, domain, vcpu);
	if (info?.pending.get()) return;
	info?.pending.set(true);
	wake(machine, domain, vcpu);
}

// --- runstates ---

function setRunstate(machine: Machine, row: VcpuRow, state: number): void {
	if (row.runstate === state) return;
	const time = now(machine);
	const passed = time - row.runstateEntryNs;
	row.runstateNs = row.runstateNs.map((ns, i) => (i === row.runstate ? ns + passed : ns));
	row.runstateEntryNs = time;
	row.runstate = state;
}

function setFlag(row: VcpuRow, flag: number, value: boolean): void {
	row.flags = value ? row.flags | flag : row.flags & ~flag;
}

/** Ends a block or a poll. */
export function wake(machine: Machine, domain: Domain, vcpu: number): void {
	const row = domain.tables.vcpu[vcpu];
	if (row === undefined || !(row.flags & VCPU_FLAG.blocked)) return;
	setFlag(row, VCPU_FLAG.blocked, false);
	endPoll(domain, row);
	if (!(row.flags & VCPU_FLAG.down)) setRunstate(machine, row, RUNSTATE.runnable);
}

function endPoll({ tables }: Domain, row: VcpuRow): void {
	row.pollPort = 0;
	row.pollDeadlineNs = 0n;
	setPollBit(tables, row.vcpuId, false);
}

function setPollBit(tables: Domain["tables"], vcpu: number, value: boolean): void {
	const bit = 1n << BigInt(vcpu % 64);
	const word = tables.pollWords[Math.floor(vcpu / 64)];
	if (word !== undefined) word.value = value ? word.value | bit : word.value & ~bit;
}

/** A polled port has become pending. */
export function checkPollers(machine: Machine, domain: Domain, port: number): void {
	for (const row of domain.tables.vcpu) {
		if (row !== undefined && row.pollPort === port && row.flags & VCPU_FLAG.blocked) wake(machine, domain, row.vcpuId);
	}
}

// --- up and down ---

/** VCPUOP_initialise of a PV vCPU: its first context. */
export function initialise(machine: Machine, domid: number, vcpu: number, root: number, rip: bigint): number {
	const domain = machine.pv(domid);
	const row = domain.vcpu(vcpu);
	// Beyond those that shared_info has room for, a vCPU has to register its place first.
	need(vcpuInfo(machine, domain, vcpu) !== undefined, "EINVAL");
	need(!(row.flags & VCPU_FLAG.initialised), "EEXIST");
	need(!domain.isNarrow || rip < WORD32_LIMIT, "EINVAL");
	const { tables } = domain;
	if (domain.isNarrow) tables.pv32Vcpu[vcpu] = emptyContext32(vcpu, rip);
	else tables.pvVcpu[vcpu] = emptyContext(vcpu, rip);
	try {
		newBaseptr(machine, domid, vcpu, root, false);
	} catch (error) {
		(domain.isNarrow ? tables.pv32Vcpu : tables.pvVcpu)[vcpu] = undefined;
		throw error;
	}
	tables.pvFpu[vcpu] = new Uint8Array(FPU_BYTES);
	tables.pvTraps[vcpu] = Array.from({ length: TRAP_VECTORS }, () => ({ vector: 0, flags: 0, cs: 0, address: 0n }));
	tables.pvMsrs[vcpu] = [];
	setFlag(row, VCPU_FLAG.initialised, true);
	return 0;
}

function emptyContext(vcpuId: number, rip: bigint): PvVcpuRow {
	const zero = 0n;
	return {
		r15: zero,
		r14: zero,
		r13: zero,
		r12: zero,
		rbp: zero,
		rbx: zero,
		r11: zero,
		r10: zero,
		r9: zero,
		r8: zero,
		rax: zero,
		rcx: zero,
		rdx: zero,
		rsi: zero,
		rdi: zero,
		rip,
		rflags: 0x202n,
		rsp: zero,
		fsBase: zero,
		gsBaseKernel: zero,
		gsBaseUser: zero,
		cr: [0x8005_0033n, zero, zero, zero, 0x5_0660n, zero, zero, zero],
		dr: [zero, zero, zero, zero, zero, zero, 0xffff_0ff0n, 0x400n],
		ldtBase: zero,
		gdtMfn: new Array(16).fill(zero),
		kernelSs: 0xe02bn,
		kernelSp: zero,
		eventCallback: zero,
		failsafeCallback: zero,
		syscallCallback: zero,
		vmAssist: zero,
		vcpuId,
		flags: PV_VCPU_FLAG.inKernel | PV_VCPU_FLAG.i387Valid,
		ldtEntries: 0,
		gdtEntries: 0,
		errorCode: 0,
		entryVector: 0,
		cs: 0xe033,
		ss: 0xe02b,
		ds: 0,
		es: 0,
		fs: 0,
		gs: 0,
		savedUpcallMask: 0,
	};
}

/** The same of a 32-bit guest, whose flat segments are those of ring 1 (FLAT_RING1_CS, FLAT_RING1_DS). */
function emptyContext32(vcpuId: number, eip: bigint): Pv32VcpuRow {
	return {
		vcpuId,
		flags: PV_VCPU_FLAG.inKernel | PV_VCPU_FLAG.i387Valid,
		cr3: 0n,
		gdtMfn: new Array(16).fill(0n),
		ebx: 0,
		ecx: 0,
		edx: 0,
		esi: 0,
		edi: 0,
		ebp: 0,
		eax: 0,
		eip: Number(eip),
		eflags: 0x202,
		esp: 0,
		cr0: 0x8005_0033,
		cr2: 0,
		cr4: 0x660,
		dr: [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400],
		ldtBase: 0,
		ldtEntries: 0,
		gdtEntries: 0,
		kernelSs: 0xe021,
		kernelSp: 0,
		eventCallbackCs: 0,
		eventCallbackEip: 0,
		failsafeCallbackCs: 0,
		failsafeCallbackEip: 0,
		vmAssist: 0,
		errorCode: 0,
		entryVector: 0,
		cs: 0xe019,
		ss: 0xe021,
		ds: 0xe021,
		es: 0xe021,
		fs: 0,
		gs: 0,
		savedUpcallMask: 0,
	};
}

/** VCPUOP_up; of a PVH or HVM guest what INIT and SIPI do. */
export function up(machine: Machine, domid: number, vcpu: number): number {
	const domain = machine.living(domid);
	const row = domain.vcpu(vcpu);
	if (domain.kind === KIND.pv) need(row.flags & VCPU_FLAG.initialised, "EINVAL");
	if (!(row.flags & VCPU_FLAG.down)) return 0;
	if (domain.kind !== KIND.pv) {
		placeCpuEntry(domain, vcpu);
		setFlag(row, VCPU_FLAG.initialised, true);
	}
	setFlag(row, VCPU_FLAG.down, false);
	setRunstate(machine, row, row.flags & VCPU_FLAG.blocked ? RUNSTATE.blocked : RUNSTATE.runnable);
	return 0;
}

/** VCPUOP_down. The last vCPU that is up takes the domain down with it. */
export function down(machine: Machine, domid: number, vcpu: number): number {
	const domain = machine.living(domid);
	const row = domain.vcpu(vcpu);
	if (row.flags & VCPU_FLAG.down) return 0;
	const others = domain.tables.vcpuIds.some((id) => id !== vcpu && domain.isOnline(id));
	if (!others) {
		shutdown(machine, domid, 0);
		return 0;
	}
	setFlag(row, VCPU_FLAG.down, true);
	if (domain.kind !== KIND.pv) removeCpuEntry(domain, vcpu);
	setRunstate(machine, row, RUNSTATE.offline);
	return 0;
}

/** VCPUOP_register_vcpu_info: once for each vCPU. What is pending in the old place moves along. */
export function registerVcpuInfo(machine: Machine, domid: number, vcpu: number, gfn: number, offset: number): number {
	const domain = machine.living(domid);
	const row = domain.vcpu(vcpu);
	need(offset >= 0 && offset % 8 === 0 && offset <= PAGE_BYTES - VCPU_INFO_BYTES, "EINVAL");
	need(row.vcpuInfoMfn === NONE64, "EINVAL");
	const mfn = getGuestPage(machine, domain, gfn);
	const old = sharedVcpuInfo(vcpu);
	const page = machine.memory.page(mfn);
	if (old === undefined || domain.tables.sharedInfo === undefined) page.fill(0, offset, offset + VCPU_INFO_BYTES);
	else page.set(machine.memory.look(Number(domain.tables.sharedInfo.mfn)).subarray(old, old + VCPU_INFO_BYTES), offset);
	row.vcpuInfoMfn = BigInt(mfn);
	row.vcpuInfoOffset = offset;
	// Whatever was missed between the two: every word may have news.
	const info = vcpuInfoView(page, offset, domain.guestWidth);
	if (old === undefined) info.mask.set(true);
	info.pending.set(true);
	for (let word = 0; word < portsPerWord(domain.guestWidth); word++) info.setSelector(word, true);
	wake(machine, domain, vcpu);
	return 0;
}

/** VCPUOP_register_runstate_memory_area. @param address guest virtual, 0 for none */
export function registerRunstate(machine: Machine, domid: number, vcpu: number, address: bigint): number {
	const domain = machine.living(domid);
	const row = domain.vcpu(vcpu);
	need(!domain.isNarrow || address < WORD32_LIMIT, "EINVAL");
	row.runstateAddress = address;
	row.runstateArea = address === 0n ? TIME_AREA.none : TIME_AREA.guestAddress;
	return 0;
}

const REGISTERS = ["rip", "rsp", "rax"] as const;
/** What a 32-bit guest has of them. */
const HALVES = { rip: "eip", rsp: "esp", rax: "eax" } as const;

/** A guest runs on: one of its registers changes. */
export function setRegister(machine: Machine, domid: number, vcpu: number, name: string, value: bigint): number {
	const domain = machine.living(domid);
	domain.vcpu(vcpu);
	need((REGISTERS as readonly string[]).includes(name), "EINVAL");
	const register = name as (typeof REGISTERS)[number];
	if (domain.isNarrow) {
		const context = domain.pv32Vcpu(vcpu);
		need(value < WORD32_LIMIT, "EINVAL");
		context[HALVES[register]] = Number(value);
	} else if (domain.kind === KIND.pv) domain.pvVcpu(vcpu)[register] = value;
	else {
		need(cpuEntries(domain).includes(vcpu), "EINVAL");
		setCpuRegister(domain, vcpu, register, value);
	}
	return 0;
}
export const registerNames: readonly string[] = REGISTERS;

/** XEN_DOMCTL_setvcpuaffinity: a bitmap of CPUs, of which the host must have one. */
export function setAffinity(machine: Machine, domid: number, vcpu: number, cpus: bigint): number {
	const domain = machine.living(domid);
	domain.vcpu(vcpu);
	const all = (1n << BigInt(machine.host.host.cpuCount ?? 1)) - 1n;
	need((cpus & all) !== 0n, "EINVAL");
	domain.tables.hardAffinity[vcpu] = cpus & all;
	return 0;
}

// --- timers ---

/** VCPUOP_set_singleshot_timer: a deadline in system time; one that has passed rings at once. */
export function setSingleshot(machine: Machine, domid: number, vcpu: number, deadline: bigint): number {
	const domain = machine.living(domid);
	const row = domain.vcpu(vcpu);
	need(deadline > 0n && deadline < NANOSECONDS_LIMIT, "EINVAL");
	row.singleshotNs = deadline;
	runTimers(machine, domain);
	return 0;
}

/** VCPUOP_set_periodic_timer; a period of 0 stops it. */
export function setPeriodic(machine: Machine, domid: number, vcpu: number, period: bigint): number {
	const row = machine.living(domid).vcpu(vcpu);
	need(period === 0n || (period >= SHORTEST_PERIOD_NS && period < NANOSECONDS_LIMIT), "EINVAL");
	row.periodicPeriodNs = period;
	row.periodicLastNs = period === 0n ? 0n : now(machine);
	return 0;
}

function runTimers(machine: Machine, domain: Domain): void {
	const time = now(machine);
	for (const row of domain.tables.vcpu) {
		if (row === undefined) continue;
		const singleshot = row.singleshotNs !== 0n && row.singleshotNs <= time;
		const periodic = row.periodicPeriodNs !== 0n && row.periodicLastNs + row.periodicPeriodNs <= time;
		if (row.pollDeadlineNs !== 0n && row.pollDeadlineNs <= time) wake(machine, domain, row.vcpuId);
		if (singleshot) row.singleshotNs = 0n;
		// Ticks that nobody could take are one tick.
		if (periodic) row.periodicLastNs += row.periodicPeriodNs * ((time - row.periodicLastNs) / row.periodicPeriodNs);
		if (!singleshot && !periodic) continue;
		const port = virqPort(domain, VIRQ.TIMER, row.vcpuId);
		if (port !== undefined) raise(machine, domain, port);
	}
}

/** Time passes: timers ring, polls end, watchdogs bark. */
export function advance(machine: Machine, nanoseconds: bigint): number {
	need(nanoseconds >= 0n && nanoseconds < 2n ** 40n, "EINVAL");
	machine.host.host = { ...machine.host.host, systemTimeNs: now(machine) + nanoseconds };
	const time = now(machine);
	for (const domain of [...machine.domains.values()].sort((a, b) => a.domid - b.domid)) {
		if (domain.isDead) continue;
		runTimers(machine, domain);
		if (domain.tables.watchdogs.some(({ expiresNs }) => expiresNs <= time)) shutdown(machine, domain.domid, 4);
	}
	return 0;
}

// --- blocking ---

/** SCHEDOP_block: until an event comes, unless one is there already. */
export function block(machine: Machine, domid: number, vcpu: number): number {
	const domain = machine.living(domid);
	const row = domain.vcpu(vcpu);
	need(domain.isOnline(vcpu), "EINVAL");
	const info = vcpuInfo(machine, domain, vcpu);
	info?.mask.set(false);
	if (info?.pending.get()) return 0;
	setFlag(row, VCPU_FLAG.blocked, true);
	setRunstate(machine, row, RUNSTATE.blocked);
	return 0;
}

/** SCHEDOP_poll of one port, with a deadline or without (0). */
export function poll(machine: Machine, domid: number, vcpu: number, port: number, deadline: bigint): number {
	const domain = machine.living(domid);
	const row = domain.vcpu(vcpu);
	need(domain.isOnline(vcpu) && !(row.flags & VCPU_FLAG.blocked), "EINVAL");
	const found = domain.tables.ports[port];
	need(found !== undefined && found.state > EVTCHN_STATE.reserved, "EINVAL");
	need(deadline >= 0n && deadline < NANOSECONDS_LIMIT, "EINVAL");
	const info = vcpuInfo(machine, domain, vcpu);
	if (info?.pending.get() && !info.mask.get()) return 0;
	if (isPortPending(machine, domain, port)) return 0;
	if (deadline !== 0n && deadline <= now(machine)) return 0;
	row.pollPort = port;
	row.pollDeadlineNs = deadline;
	while (domain.tables.pollWords.length <= Math.floor(vcpu / 64)) domain.tables.pollWords.push({ value: 0n });
	setPollBit(domain.tables, vcpu, true);
	setFlag(row, VCPU_FLAG.blocked, true);
	setRunstate(machine, row, RUNSTATE.blocked);
	return 0;
}

// --- the domain as a whole ---

/** SCHEDOP_shutdown. @param reason SHUTDOWN_poweroff 0, reboot 1, suspend 2, crash 3, watchdog 4 */
export function shutdown(machine: Machine, domid: number, reason: number): number {
	const { tables } = machine.living(domid);
	need(reason >= 0 && reason <= 5, "EINVAL");
	if (tables.domainState.shutdownState !== SHUTDOWN_STATE.none) return 0;
	tables.domainState.shutdownState = SHUTDOWN_STATE.shutDown;
	tables.domainState.shutdownCode = reason;
	const port = virqPort(machine.domains.get(0), VIRQ_DOM_EXC, 0);
	const handler = machine.host.virqHandlers?.find(({ virq }) => virq === VIRQ_DOM_EXC);
	if (handler === undefined && port !== undefined) raise(machine, machine.domain(0), port);
	else if (handler !== undefined) raiseGlobal(machine, Number(handler.domid));
	return 0;
}
const VIRQ_DOM_EXC = 3;

function raiseGlobal(machine: Machine, domid: number): void {
	const domain = machine.domains.get(domid);
	const port = virqPort(domain, VIRQ_DOM_EXC, 0);
	if (domain !== undefined && port !== undefined) raise(machine, domain, port);
}
