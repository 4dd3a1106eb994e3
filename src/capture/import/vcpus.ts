/**
 * vCPUs: what the domain dump says of all of them, and their registers: of PV guests from the image's contexts, with
 * MFNs where libxc put PFNs; of HVM and PVH guests as the HVM context, untouched; of dom0 from debug key `0`.
 */
import { NONE64, VCPU_FLAG } from "../../format/enums.ts";
import type { GuestImage } from "../../formats/guestImage.ts";
import { VGCF } from "../../formats/libxc/guestContext.ts";
import type { DomainModel } from "../../machine/model.ts";
import type { CapturedVcpu } from "../domains.ts";
import type { CapturedRegisters } from "../host.ts";
import type { CapturedDomain } from "../read.ts";
import { contradiction, type Ledger } from "./ledger.ts";
import type { PvContext } from "./pvContext.ts";
import type { PvMemory } from "./pvMemory.ts";
import { msrRows } from "./rows.ts";

/** Whether a vCPU runs, is offline (with registers, or without), or has no state that anybody knows. */
export type VcpuState = "up" | "offline" | "down" | "unknown";

/** Bits of `pause_flags`. */
const PAUSED_BLOCKED = 1;
const PAUSED_DOWN = 2;
const RUNSTATE = { runnable: 1, blocked: 2, offline: 3 } as const;

const bitmap = (members: readonly number[]): bigint =>
	members.reduce((bits, member) => bits | (1n << BigInt(member)), 0n);

/** Puts what all kinds of domains have of their vCPUs into the model. */
export function importVcpus(
	captured: CapturedDomain,
	model: DomainModel,
	states: ReadonlyMap<number, VcpuState>,
	cpuCount: number,
	ledger: Ledger,
): void {
	const { info, events } = captured;
	const polling = new Set(events.pollingVcpus);
	const all = (1n << BigInt(cpuCount)) - 1n;
	const slots = (info.vcpus.at(-1)?.id ?? -1) + 1;
	const vcpu: DomainModel["vcpu"][number][] = new Array(slots).fill(undefined);
	const hard = new Array<bigint>(slots).fill(0n);
	const soft = new Array<bigint>(slots).fill(0n);
	for (const entry of info.vcpus) {
		vcpu[entry.id] = vcpuRow(entry, states.get(entry.id) ?? "unknown", polling.has(entry.id));
		hard[entry.id] = entry.hardAffinity === undefined ? all : bitmap(entry.hardAffinity);
		soft[entry.id] = entry.softAffinity === undefined ? all : bitmap(entry.softAffinity);
	}
	model.vcpuIds = info.vcpus.map(({ id }) => id);
	model.vcpu = vcpu;
	model.hardAffinity = hard;
	model.softAffinity = soft;
	model.savedAffinity = hard;
	const words = Math.ceil(slots / 64);
	const mask = bitmap([...polling]);
	if (mask !== 0n) {
		model.pollWords = Array.from({ length: words }, (_, word) => ({
			value: BigInt.asUintN(64, mask >> BigInt(64 * word)),
		}));
	}
	noteVcpus(captured, states, polling.size > 0, ledger);
}

function vcpuRow(entry: CapturedVcpu, state: VcpuState, polls: boolean): NonNullable<DomainModel["vcpu"][number]> {
	const hasRegisters = state === "up" || state === "offline";
	const isDown = state === "offline" || state === "down" || (state === "up" && (entry.pauseFlags & PAUSED_DOWN) !== 0);
	const isBlocked = state === "up" && ((entry.pauseFlags & PAUSED_BLOCKED) !== 0 || polls);
	let runstate: number = isBlocked ? RUNSTATE.blocked : RUNSTATE.runnable;
	if (isDown || state === "unknown") {
		runstate = RUNSTATE.offline;
	}
	return {
		flags:
			VCPU_FLAG.exists |
			(hasRegisters ? VCPU_FLAG.initialised : 0) |
			(isDown ? VCPU_FLAG.down : 0) |
			(isBlocked ? VCPU_FLAG.blocked : 0) |
			(entry.poll < 0 ? VCPU_FLAG.pollAny : 0),
		vcpuInfoMfn: NONE64,
		controllerPauseCount: entry.pauseCount,
		pollPort: Math.max(entry.poll, 0),
		periodicPeriodNs: entry.periodicTimerNs,
		runstate,
	};
}

function noteVcpus(
	{ domid, info }: CapturedDomain,
	states: ReadonlyMap<number, VcpuState>,
	polls: boolean,
	ledger: Ledger,
): void {
	ledger.note(domid, "place of each vcpu_info", "defaulted to shared_info");
	ledger.note(
		domid,
		"runstate, time and runstate areas of its vCPUs",
		"defaulted: runnable since time 0 (offline if down), no areas registered",
	);
	ledger.note(
		domid,
		"single-shot timers, poll deadlines, pending exceptions, I/O bitmap and I/O privilege of its vCPUs",
		"defaulted to none",
	);
	if (polls) {
		ledger.note(domid, "polling vCPUs", "derived: blocked, on the port of the dump, without a deadline");
	}
	const unknown = info.vcpus.filter(({ id }) => (states.get(id) ?? "unknown") === "unknown").map(({ id }) => id);
	if (unknown.length > 0) {
		ledger.note(
			domid,
			`vCPU ${unknown.join(", ")}`,
			"defaulted to existing but not initialised: no registers captured",
		);
	}
	const down = info.vcpus.filter(({ id }) => states.get(id) === "down").map(({ id }) => id);
	if (down.length > 0) {
		ledger.note(domid, `vCPU ${down.join(", ")}`, "derived: not online, since the image has no context of it");
	}
	if (info.vcpus.some(({ hardAffinity }) => hardAffinity === undefined)) {
		ledger.note(domid, "CPU affinity", "defaulted to all CPUs");
	}
}

// --- PV ---

/** Puts a PV guest's registers into the model. */
export function importPvContexts(
	{ domid, info }: CapturedDomain,
	image: GuestImage,
	contexts: ReadonlyMap<number, PvContext>,
	memory: PvMemory,
	model: DomainModel,
	ledger: Ledger,
): Map<number, VcpuState> {
	const states = new Map<number, VcpuState>();
	const pvVcpu: NonNullable<DomainModel["pvVcpu"]>[number][] = [];
	const pv32Vcpu: NonNullable<DomainModel["pv32Vcpu"]>[number][] = [];
	const pvFpu: (Uint8Array | undefined)[] = [];
	const pvTraps: NonNullable<DomainModel["pvTraps"]>[number][] = [];
	const pvExtended: (Uint8Array | undefined)[] = [];
	const pvXsave: (Uint8Array | undefined)[] = [];
	const pvMsrs: NonNullable<DomainModel["pvMsrs"]>[number][] = [];
	for (const { id } of info.vcpus) {
		const context = contexts.get(id);
		if (context === undefined) {
			states.set(id, "down");
			continue;
		}
		const { fpu, traps, flags } = context.registers;
		states.set(id, (Number(flags) & VGCF.online) === 0 ? "offline" : "up");
		if (context.width === 4) {
			pv32Vcpu[id] = narrowRow(id, context, memory);
		} else {
			pvVcpu[id] = wideRow(id, context, memory);
		}
		pvFpu[id] = fpu;
		pvTraps[id] = traps;
		pvExtended[id] = image.vcpuExtended.get(id);
		pvXsave[id] = image.vcpuXsave.get(id);
		const msrs = image.vcpuMsrs.get(id);
		pvMsrs[id] = msrs === undefined ? undefined : msrRows(msrs);
	}
	const isNarrow = image.pvInfo?.guestWidth === 4;
	Object.assign(model, isNarrow ? { pv32Vcpu } : { pvVcpu }, { pvFpu, pvTraps, pvExtended, pvXsave, pvMsrs });
	const register = isNarrow ? "edx" : "rdx";
	ledger.note(domid, `vCPU 0's ${register}`, "taken as the image has it: libxc put start_info's PFN where its MFN was");
	return states;
}

type Of<Width> = PvContext & { width: Width };

function wideRow(vcpuId: number, context: Of<8>, memory: PvMemory): NonNullable<DomainModel["pvVcpu"]>[number] {
	const {
		fpu: _fpu,
		traps: _traps,
		cr,
		gdtFrames: _pfns,
		flags,
		ldtEntries,
		gdtEntries,
		...registers
	} = context.registers;
	return {
		...registers,
		cr: cr.map((value, index) =>
			index === 3 || (index === 1 && value & 1n) ? memory.translateCr(value, `vCPU ${vcpuId}, cr${index}`) : value,
		),
		gdtMfn: memory.gdtMfns(context),
		vcpuId,
		flags,
		ldtEntries,
		gdtEntries,
	};
}

/** Of its control registers a 32-bit vCPU has use of these four; its callbacks have code selectors. */
function narrowRow(vcpuId: number, context: Of<4>, memory: PvMemory): NonNullable<DomainModel["pv32Vcpu"]>[number] {
	const {
		fpu: _fpu,
		traps: _traps,
		cr,
		gdtFrames: _pfns,
		eventCallback: eventCallbackEip,
		failsafeCallback: failsafeCallbackEip,
		...registers
	} = context.registers;
	const [cr0 = 0, , cr2 = 0, , cr4 = 0] = cr;
	return {
		...registers,
		cr0,
		cr2,
		cr3: memory.rootAddress(context, `vCPU ${vcpuId}, cr3`),
		cr4,
		gdtMfn: memory.gdtMfns(context),
		vcpuId,
		eventCallbackEip,
		failsafeCallbackEip,
	};
}

// --- HVM and PVH ---

/** One entry of the HVM context: type and instance u16, length u32, then its octets. */
const ENTRY_BYTES = 8;
const ENTRY_END = 0;
const ENTRY_CPU = 2;

/** Puts the HVM context into the model; a vCPU is up if the context has a CPU entry of it. */
export function importHvmContext(
	{ domid, info, imageFile }: CapturedDomain,
	image: GuestImage,
	model: DomainModel,
	ledger: Ledger,
): Map<number, VcpuState> {
	const states = new Map<number, VcpuState>(info.vcpus.map(({ id }) => [id, "down"]));
	const context = image.hvmContext;
	if (context === undefined) {
		throw contradiction(domid, "HVM_CONTEXT", "one in the image", "none", imageFile);
	}
	const view = new DataView(context.buffer, context.byteOffset, context.byteLength);
	let at = 0;
	for (;;) {
		const fits = at + ENTRY_BYTES <= context.byteLength;
		const length = fits ? view.getUint32(at + 4, true) : 0;
		if (!fits || length > context.byteLength - at - ENTRY_BYTES) {
			const got = `${context.byteLength} octets`;
			throw contradiction(domid, `HVM_CONTEXT at ${at}`, "whole entries up to END", got, imageFile);
		}
		const type = view.getUint16(at, true);
		if (type === ENTRY_END) {
			break;
		}
		const instance = view.getUint16(at + 2, true);
		if (type === ENTRY_CPU) {
			if (!states.has(instance)) {
				const expected = "CPU entries of the domain's vCPUs";
				throw contradiction(domid, "HVM_CONTEXT", expected, `vCPU ${instance}`, imageFile);
			}
			states.set(instance, "up");
		}
		at += ENTRY_BYTES + length;
	}
	model.hvmContext = context.slice(0, at + ENTRY_BYTES);
	model.hvmParamList = [...image.hvmParams]
		.filter(([, value]) => value !== 0n)
		.sort(([a], [b]) => a - b)
		.map(([index, value]) => ({ index, value }));
	ledger.note(
		domid,
		"upcall vectors of its vCPUs, callback line, CMOS index, pci_cf8, cache attributes",
		"defaulted to 0",
	);
	return states;
}

// --- dom0 ---

const CR_COUNT = 8;

/** Puts dom0's registers into the model, as far as the dump has them; the rest is zero. */
export function importDom0Registers(
	{ domid, info }: CapturedDomain,
	dumped: readonly CapturedRegisters[],
	model: DomainModel,
	ledger: Ledger,
): Map<number, VcpuState> {
	const states = new Map<number, VcpuState>();
	const pvVcpu: NonNullable<DomainModel["pvVcpu"]>[number][] = [];
	const pvFpu: Uint8Array[] = [];
	const known = info.vcpus.filter(({ id }) => dumped.some(({ vcpu }) => vcpu === id)).map(({ id }) => id);
	if (known.length === 0) {
		// A living domain has a vCPU that runs.
		ledger.note(domid, "registers of its vCPUs", "defaulted to zero: debugkey-0.txt is not in the capture");
	} else {
		ledger.note(
			domid,
			`registers of vCPU ${known.join(", ")}`,
			"debugkey-0's; debug registers, trap table, GDT, LDT, callbacks, kernel stack and FPU state defaulted to zero",
		);
	}
	for (const { id } of info.vcpus) {
		if (known.length > 0 && !known.includes(id)) {
			states.set(id, "unknown");
			continue;
		}
		states.set(id, "up");
		pvVcpu[id] = dom0Row(id, dumped.find(({ vcpu }) => vcpu === id)?.registers ?? new Map());
		pvFpu[id] = new Uint8Array(512);
	}
	model.pvVcpu = pvVcpu;
	model.pvFpu = pvFpu;
	return states;
}

function dom0Row(
	vcpuId: number,
	registers: ReadonlyMap<string, bigint>,
): NonNullable<NonNullable<DomainModel["pvVcpu"]>[0]> {
	const get = (name: string): bigint => registers.get(name) ?? 0n;
	const row: Record<string, unknown> = { vcpuId, flags: VGCF.inKernel | VGCF.online };
	for (const name of ["rbp", "rbx", "rax", "rcx", "rdx", "rsi", "rdi", "rip", "rflags", "rsp"]) {
		row[name] = get(name);
	}
	for (let number = 8; number <= 15; number++) {
		row[`r${number}`] = get(`r${number}`);
	}
	for (const name of ["cs", "ss", "ds", "es", "fs", "gs"]) {
		row[name] = get(name);
	}
	row.fsBase = get("fsb");
	row.gsBaseKernel = get("gsb");
	row.gsBaseUser = get("gss");
	row.cr = Array.from({ length: CR_COUNT }, (_, number) => get(`cr${number}`));
	return row;
}

/** Frames that dom0's vCPUs run on: CR3 of a PV dom0 is a machine address. */
export function dom0Roots(dumped: readonly CapturedRegisters[]): number[] {
	return dumped.map(({ registers }) => Number((registers.get("cr3") ?? 0n) >> 12n)).filter((mfn) => mfn > 0);
}
