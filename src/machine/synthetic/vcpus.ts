/** vCPUs of a synthetic domain: state outside the registers for all, registers by kind, the last one of a guest offline. */
import { KIND, NONE32, NONE64, PAGE_TYPE, PV_VCPU_FLAG, TIME_AREA, VCPU_FLAG } from "../../format/enums.ts";
import { writeStruct } from "../../format/layout.ts";
import { HVM_DESCRIPTOR_BYTES, hvmCpu, hvmEntryTypes } from "../../formats/hvm/context.ts";
import { affinityWords, type DomainModel } from "../model.ts";
import { XEN_START_32 } from "../pae.ts";
import type { SyntheticDomain } from "./domain.ts";
import { makePaeTables, makePageTables } from "./pageTables.ts";

export const CPU_COUNT = 16;
export const CPU_KHZ = 2_596_118;
export const SYSTEM_TIME_NS = 55_213_897_608n;
const RUNSTATE = { running: 0, runnable: 1, blocked: 2, offline: 3 } as const;
const VCPU_INFO_BYTES = 64;
const VCPU_INFOS_PER_FRAME = 64;
const GDT_ENTRIES = 16;
const FPU_BYTES = 512;
const EXTENDED_BYTES = 128;
/** Where a kernel's code stands, its flat segments, and what it has mapped all of its memory at. */
const KERNEL = {
	wide: { text: 0xffff_ffff_8100_0000n, memory: 0xffff_8880_0000_0000n, cs: 0xe033, ss: 0xe02b },
	narrow: { text: 0xc100_0000n, memory: 0xc000_0000n, cs: 0xe019, ss: 0xe021 },
} as const;
/** Vectors that a kernel's trap table has: exceptions, and the old system call. */
const TRAPS = [0, 1, 3, 4, 6, 13, 14, 17, 19, 128] as const;
/** XCR0: x87, SSE, AVX; length of the area without and with AVX. */
const XSAVE = { legacy: 3n, avx: 7n, legacyBytes: 576, avxBytes: 832, prefix: 16, header: 512 } as const;
const MSR_TSC_AUX = 0xc000_0103;
const VENDOR = { ebx: 0x756e_6547, ecx: 0x6c65_746e, edx: 0x4965_6e69 } as const;

/** All that a domain has of vCPUs. */
export function makeVcpus(domain: SyntheticDomain): void {
	const { model, vcpuCount, random } = domain;
	const ids = Array.from({ length: vcpuCount }, (_, id) => id);
	model.vcpuIds = ids;
	// One vCPU in some guests polls a channel.
	const poller = domain.index % 3 === 1 ? domain.onlineVcpus - 1 : -1;
	const infos = vcpuInfos(domain);
	model.vcpu = ids.map((id) => ({ ...vcpuRow(domain, id, id === poller), ...infos[id] }));
	if (poller >= 0) {
		const words = Array.from({ length: affinityWords(vcpuCount) }, () => 0n);
		const word = Math.floor(poller / 64);
		words[word] = (words[word] as bigint) | (1n << BigInt(poller % 64));
		model.pollWords = words.map((value) => ({ value }));
	}
	const all = (1n << BigInt(CPU_COUNT)) - 1n;
	model.hardAffinity = ids.map((id) => (random.chance(0.5) ? all : 1n << BigInt(id % CPU_COUNT)));
	model.softAffinity = ids.map(() => all);
	model.cpuidLeaves = [
		{ leaf: 0, subleaf: NONE32, eax: 0xd, ...VENDOR },
		{ leaf: 1, subleaf: NONE32, eax: 0x306f2, ebx: vcpuCount << 16, ecx: 0xfffa_3203, edx: 0x1789_cb75 },
	];
	model.msrPolicy = [{ index: 0xce, value: 0x8000_0000n }];
	model.tsc = { mode: 0, khz: CPU_KHZ, nsec: SYSTEM_TIME_NS - BigInt(random.below(2 ** 32)), incarnation: 1 };
	if (domain.kind === KIND.pv) makePvRegisters(domain);
	else makeHvmContext(domain);
}

function isInitialised(domain: SyntheticDomain, id: number): boolean {
	// Offline: brought down after it ran, or never brought up.
	return id < domain.onlineVcpus || domain.index % 2 === 0;
}

function vcpuRow(domain: SyntheticDomain, id: number, polls: boolean): NonNullable<DomainModel["vcpu"][number]> {
	const { random } = domain;
	const { memory } = KERNEL[domain.isNarrow ? "narrow" : "wide"];
	const isDown = id >= domain.onlineVcpus;
	const isBlocked = polls || (!isDown && random.chance(0.3));
	const running = isBlocked ? RUNSTATE.blocked : random.chance(0.5) ? RUNSTATE.running : RUNSTATE.runnable;
	const port = domain.ports.findIndex((row) => row?.notifyVcpu === id);
	return {
		flags:
			VCPU_FLAG.exists |
			(isInitialised(domain, id) ? VCPU_FLAG.initialised : 0) |
			(isDown ? VCPU_FLAG.down : 0) |
			(isBlocked ? VCPU_FLAG.blocked : 0),
		runstate: isDown ? RUNSTATE.offline : running,
		runstateEntryNs: SYSTEM_TIME_NS - BigInt(random.below(2 ** 30)),
		runstateNs: Array.from({ length: 4 }, () => random.below(2 ** 40)),
		runstateArea: domain.kind === KIND.pv ? TIME_AREA.guestAddress : TIME_AREA.none,
		runstateAddress: domain.kind === KIND.pv ? memory + BigInt(random.below(2 ** 20) * 64) : 0,
		periodicPeriodNs: domain.index % 4 === 3 && !isDown ? 10_000_000 : 0,
		singleshotNs: isDown || random.chance(0.5) ? 0 : SYSTEM_TIME_NS + BigInt(random.below(2 ** 26)),
		pollPort: polls && port > 0 ? port : 0,
		pollDeadlineNs: polls ? SYSTEM_TIME_NS + 1_000_000n : 0,
	};
}

/** Where each vcpu_info stands: most guests have registered a place, the others leave it in shared_info. */
function vcpuInfos(domain: SyntheticDomain): { vcpuInfoMfn: number | bigint; vcpuInfoOffset: number }[] {
	const isShared = domain.index % 4 === 0;
	const frameCount = isShared ? 0 : Math.ceil(domain.vcpuCount / VCPU_INFOS_PER_FRAME);
	const mfns = Array.from({ length: frameCount }, () => domain.sharedPage().mfn);
	return Array.from({ length: domain.vcpuCount }, (_, id) => ({
		vcpuInfoMfn: mfns[Math.floor(id / VCPU_INFOS_PER_FRAME)] ?? NONE64,
		vcpuInfoOffset: isShared ? 0 : VCPU_INFO_BYTES * (id % VCPU_INFOS_PER_FRAME),
	}));
}

// --- PV ---

type Slots<T> = (T | undefined)[];

function makePvRegisters(domain: SyntheticDomain): void {
	const { model, random } = domain;
	const initialised = model.vcpuIds.filter((id) => isInitialised(domain, id));
	const gdts = initialised.map(() => domain.specialFrame().mfn);
	for (const mfn of gdts) domain.setType(mfn, PAGE_TYPE.segDesc);
	const octets = (length: number): Uint8Array => Uint8Array.from({ length }, () => random.below(256));
	const of = <T>(make: (index: number) => T): Slots<T> =>
		model.vcpuIds.map((id) => (initialised.includes(id) ? make(initialised.indexOf(id)) : undefined));
	if (domain.isNarrow) narrowRegisters(domain, gdts, of);
	else wideRegisters(domain, gdts, of);
	const { text, cs } = KERNEL[domain.isNarrow ? "narrow" : "wide"];
	model.pvFpu = of(() => octets(FPU_BYTES));
	model.pvTraps = of(() => TRAPS.map((vector) => ({ vector, cs, address: text + BigInt(random.below(2 ** 24)) })));
	model.pvExtended = of(() => octets(EXTENDED_BYTES));
	model.pvXsave = of((index) => xsaveArea(index % 2 === 0 ? XSAVE.avx : XSAVE.legacy));
	model.pvMsrs = of((index) => (index % 2 === 0 ? [{ index: MSR_TSC_AUX, value: BigInt(index) }] : []));
}

type OfVcpus = <T>(make: (index: number) => T) => Slots<T>;

function wideRegisters(domain: SyntheticDomain, gdts: readonly number[], of: OfVcpus): void {
	const { model, random } = domain;
	const { kernelRoot, userRoot } = makePageTables(domain, gdts);
	const { cs, ss } = KERNEL.wide;
	const text = (): bigint => KERNEL.wide.text + BigInt(random.below(2 ** 24));
	model.pvVcpu = of((index) => ({
		rip: text(),
		rsp: random.word64(),
		rax: random.word64(),
		rbx: random.word64(),
		rflags: 0x246,
		cs,
		ss,
		cr: [0x8005_0033n, userRoot * 4096, 0, kernelRoot * 4096, 0x5_0660],
		gdtMfn: [gdts[index] as number],
		gdtEntries: GDT_ENTRIES,
		kernelSs: ss,
		eventCallback: text(),
		failsafeCallback: text(),
		syscallCallback: text(),
		flags: PV_VCPU_FLAG.i387Valid | PV_VCPU_FLAG.inKernel,
	}));
}

function narrowRegisters(domain: SyntheticDomain, gdts: readonly number[], of: OfVcpus): void {
	const { model, random } = domain;
	const root = makePaeTables(domain, gdts, XEN_START_32);
	const { cs, ss } = KERNEL.narrow;
	const text = (): number => Number(KERNEL.narrow.text) + random.below(2 ** 24);
	const word = (): number => random.below(2 ** 32);
	model.pv32 = { xenStart: XEN_START_32 };
	model.pv32Vcpu = of((index) => ({
		eip: text(),
		esp: word(),
		eax: word(),
		ebx: word(),
		eflags: 0x246,
		cs,
		ss,
		ds: ss,
		es: ss,
		cr0: 0x8005_0033,
		cr3: root * 4096,
		cr4: 0x660,
		gdtMfn: [gdts[index] as number],
		gdtEntries: GDT_ENTRIES,
		kernelSs: ss,
		eventCallbackCs: cs,
		eventCallbackEip: text(),
		failsafeCallbackCs: cs,
		failsafeCallbackEip: text(),
		flags: PV_VCPU_FLAG.i387Valid | PV_VCPU_FLAG.inKernel,
	}));
}

function xsaveArea(features: bigint): Uint8Array {
	const area = new Uint8Array(XSAVE.prefix + (features === XSAVE.avx ? XSAVE.avxBytes : XSAVE.legacyBytes));
	const view = new DataView(area.buffer);
	view.setBigUint64(0, features, true);
	view.setBigUint64(8, features, true);
	view.setBigUint64(XSAVE.prefix + XSAVE.header, features, true);
	return area;
}

// --- HVM and PVH ---

const entryType = (name: string): { type: number; length: number } => {
	const found = Object.entries(hvmEntryTypes).find(([, entry]) => entry.name === name);
	return { type: Number(found?.[0]), length: found?.[1].length ?? 0 };
};
const HVM_MAGIC = 0x5438_1286;

/** HEADER, a CPU and its local APIC for each vCPU that is up, END. */
function makeHvmContext(domain: SyntheticDomain): void {
	const { model, random } = domain;
	const entries = [
		{ name: "HEADER", instance: 0 },
		...Array.from({ length: domain.onlineVcpus }, (_, instance) => [
			{ name: "CPU", instance },
			{ name: "LAPIC", instance },
			{ name: "LAPIC_REGS", instance },
		]).flat(),
		...(domain.kind === KIND.hvm
			? [
					{ name: "PIC", instance: 0 },
					{ name: "IOAPIC", instance: 0 },
				]
			: []),
		{ name: "END", instance: 0 },
	].map((entry) => ({ ...entry, ...entryType(entry.name) }));
	const context = new Uint8Array(entries.reduce((sum, { length }) => sum + HVM_DESCRIPTOR_BYTES + length, 0));
	const view = new DataView(context.buffer);
	let at = 0;
	for (const { name, type, instance, length } of entries) {
		view.setUint16(at, type, true);
		view.setUint16(at + 2, instance, true);
		view.setUint32(at + 4, length, true);
		at += HVM_DESCRIPTOR_BYTES;
		if (name === "HEADER") view.setUint32(at, HVM_MAGIC, true);
		if (name === "CPU") {
			const rip = KERNEL.wide.text + BigInt(random.below(2 ** 24));
			const cr3 = BigInt(random.below(0x100) * 4096);
			writeStruct(hvmCpu, view, at, {
				rip,
				rsp: random.word64(),
				rflags: 2,
				cr0: 0x8005_0033,
				cr3,
				tsc: random.word64(),
			});
		}
		at += length;
	}
	model.hvmContext = context;
	// Ports of the store and the console, where the guest finds them; the callback's vector.
	model.hvmParamList = [
		{ index: 0, value: (2n << 56n) | 0xf3n },
		{ index: 2, value: 1 },
		{ index: 18, value: 2 },
	];
}
