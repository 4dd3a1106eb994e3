/**
 * A synthetic host: every kind of state that a live update carries, at any size, repeatable. In stages:
 *
 *   1. frames   the arena is dealt out to dom0, the guests and the dead domain, as the layout says
 *   2. wiring   grants, then channels and I/O servers, which all have two ends
 *   3. domains  vCPUs and page tables, event bits, grant frames; P2Ms last, which map what the wiring brought
 *   4. host     CPU pools and shares of them, regions, M2P, interrupts, devices
 *
 * Guests are PV, PVH and HVM in turn, PV ones of the width that the spec asks for. Domids: 0 is dom0, guests count from 1, the dead domain comes behind them.
 */
import { CAP, EVTCHN_STATE, FEATURE, FRAME, KEPT_FORMAT, KIND, SCHEDULER } from "../../format/enums.ts";
import type { Host } from "../../host.ts";
import { Random } from "../../random.ts";
import { GRANT_ENTRIES_PER_FRAME, PAGE_BYTES } from "../guestPages.ts";
import type { HostModel, PreservedPages } from "../model.ts";
import { type DomainRole, SyntheticDomain } from "./domain.ts";
import { bindEmulated, bindHardware, bindOwn, closeEvents, connect, FIRST_MSI_IRQ } from "./events.ts";
import { FRAMES_1G, FRAMES_2M, SyntheticFrames } from "./frames.ts";
import { closeGrants, grantToDom0, grantToNeighbour } from "./grants.ts";
import { makeServers } from "./ioreq.ts";
import { arenaFrames, dealFrames, needsGiants } from "./layouts.ts";
import { makeP2m, mostTables } from "./p2m.ts";
import { mostMappingTables } from "./pageTables.ts";
import { addShares, reservedPool } from "./shares.ts";
import { type SyntheticSpec, syntheticName } from "./spec.ts";
import { CPU_COUNT, CPU_KHZ, makeVcpus, SYSTEM_TIME_NS } from "./vcpus.ts";

const GUEST_KINDS = [KIND.pv, KIND.pvh, KIND.hvm] as const;
/** Frames that outlive a dead domain: those that dom0 still maps. */
const DEAD_FRAMES = 8;
/** Interrupts of dom0's devices, ascending: of the IO-APIC, then MSIs. */
const DEVICE_IRQS = [9, 16, 24, 25, 26, 27] as const;
const EMULATED_IRQS = [16, 17, 20] as const;
const VIRQ_DOM_EXC = 3;
const IOMMU_TABLES = 4;
/** CPUs of the pool that schedules nothing. */
const CPUS_ALONE = 2;
/** A domain's frames behind the arena, beside its P2M's page tables and its grant frames: shared_info, extra ones. */
const FRAMES_BESIDE = 16;
const STORE_AND_CONSOLE = 2;
/** Of an emulator, which acquires them as a resource. */
const IOREQ_PAGES = 2;

/** What dom0 may use: all ports but those of the interrupt controllers, all memory, all interrupts. */
const DOM0_PERMISSIONS = [
	{ kind: CAP.ioPort, first: 0, last: 0x1f },
	{ kind: CAP.ioPort, first: 0x22, last: 0x3f },
	{ kind: CAP.ioPort, first: 0x44, last: 0xffff },
	{ kind: CAP.ioMemory, first: 0, last: 0xfedff },
	{ kind: CAP.interrupt, first: 1, last: 255 },
] as const;

/**
 * Makes the host of a spec.
 * @returns a Host as `loadHost` gives it; nothing is assumed, since nothing was captured
 */
export function syntheticHost(spec: SyntheticSpec): Host {
	const random = new Random(spec.seed);
	const preserved: PreservedPages = new Map();
	const roles = rolesOf(spec);
	const counts = roles.map(({ index }) => (index === -2 ? DEAD_FRAMES : spec.memory / PAGE_BYTES));
	const frames = new SyntheticFrames(
		arenaFrames(spec.layout, counts),
		tableFrames(spec, counts),
		needsGiants(spec.layout, counts),
	);
	const memory = dealFrames(spec.layout, counts, frames, random.fork());
	const domains = roles.map((role, i) => {
		const own = memory[i] as (typeof memory)[number];
		for (const mfn of own.small) frames.own(mfn, role.domid, role.index === -2 ? 0 : FRAME.allocated);
		for (const first of own.blocks) frames.ownRun(first, FRAMES_2M, role.domid);
		for (const first of own.giants) frames.ownRun(first, FRAMES_1G, role.domid);
		return new SyntheticDomain(role, spec, own, frames, preserved, random.fork());
	});
	(domains[0] as SyntheticDomain).model.capRanges = DOM0_PERMISSIONS;
	const mappings = wire(domains, spec);
	for (const domain of domains) {
		if (!domain.isDead) {
			makeVcpus(domain);
			closeEvents(domain);
		}
		closeGrants(domain);
		const own = mappings.get(domain.domid);
		if (own) makeP2m(domain, own);
	}
	const hasNarrow = domains.some(({ isNarrow }) => isNarrow);
	const pools = cpuPools(hasNarrow);
	if (hasNarrow) addShares(domains, spec, pools.poolList);
	const model: HostModel = {
		...hostHead(domains),
		...pools,
		...hardware(frames),
		m2pRanges: frames.takeM2p(),
		regionList: frames.regions,
		frameOwners: frames.owners,
		frameTypes: frames.types,
		domains: domains.map((domain) => domain.model),
	};
	return { name: syntheticName(spec), model, preserved, assumptions: [] };
}

// --- 1. frames ---

function rolesOf(spec: SyntheticSpec): DomainRole[] {
	return [
		{ domid: 0, kind: KIND.pv, index: -1 },
		...Array.from({ length: spec.domains }, (_, index) => ({
			domid: index + 1,
			kind: GUEST_KINDS[index % GUEST_KINDS.length] as number,
			index,
		})),
		{ domid: spec.domains + 1, kind: KIND.pv, index: -2 },
	];
}

/** Most frames that are needed behind the arena, the M2P's not included. */
function tableFrames(spec: SyntheticSpec, counts: readonly number[]): number {
	const stride = spec.layout === "adversarial" ? 2 : 1;
	// One reference in ten is left out at the most often, as a rule; half as many again is more than that ever comes to.
	const references = 32 + 2 * spec.grants;
	const grantFrames = 2 + 2 * Math.ceil(references / GRANT_ENTRIES_PER_FRAME[2]);
	// dom0 maps each grant at most twice, and the pages of its emulator.
	const mappings = 1 + spec.domains * (2 * (references + IOREQ_PAGES)) + 2 * DEAD_FRAMES;
	return counts.reduce(
		(sum, count) => sum + FRAMES_BESIDE + grantFrames + mostTables(count, stride),
		IOMMU_TABLES + FRAMES_BESIDE + mostMappingTables(mappings),
	);
}

// --- 2. wiring ---

interface Wiring {
	foreign: { mfn: number; owner: number }[];
	granted: number[];
	hasClaim: boolean;
}

/** Everything with two ends. Returns what the P2M of each PVH and HVM guest maps of others. */
function wire(domains: readonly SyntheticDomain[], spec: SyntheticSpec): Map<number, Wiring> {
	const [dom0, ...others] = domains as [SyntheticDomain, ...SyntheticDomain[]];
	const dead = others.pop() as SyntheticDomain;
	const mappings = new Map<number, Wiring>();
	for (const guest of others) {
		if (guest.kind !== KIND.pv) mappings.set(guest.domid, { foreign: [], granted: [], hasClaim: false });
	}
	bindOwn(dom0);
	bindHardware(dom0, DEVICE_IRQS);
	others.forEach((guest, i) => {
		for (let port = 0; port < STORE_AND_CONSOLE + spec.ports; port++) connect(guest, dom0);
		bindOwn(guest);
		grantToDom0(guest, dom0, spec.grants);
		const neighbour = i === 0 ? dom0 : (others[i - 1] as SyntheticDomain);
		if (neighbour !== dom0) connect(neighbour, guest);
		const granted = grantToNeighbour(neighbour, guest);
		mappings.get(guest.domid)?.granted.push(granted);
		if (guest.kind === KIND.hvm) {
			// Every second HVM guest has the PVH guest before it as a stub domain.
			const stub = i % 6 === 2 ? neighbour : undefined;
			const foreign = makeServers(guest, dom0, stub);
			bindEmulated(guest, EMULATED_IRQS);
			if (stub) {
				mappings.get(stub.domid)?.foreign.push(...foreign);
				(mappings.get(guest.domid) as Wiring).hasClaim = true;
			}
		}
	});
	// It handles a global VIRQ, as a store domain does.
	const handler = others[0] as SyntheticDomain;
	handler.bind({ state: EVTCHN_STATE.virq, virq: VIRQ_DOM_EXC });
	grantToDom0(dead, dom0, DEAD_FRAMES);
	return mappings;
}

// --- 4. host ---

function hostHead(
	domains: readonly SyntheticDomain[],
): Pick<HostModel, "version" | "versionText" | "host" | "virqHandlers"> {
	return {
		version: { xenMajor: 4, xenMinor: 17, moduleVersion: 1 },
		versionText: "Xen 4.17, synthetic host",
		host: {
			systemTimeNs: SYSTEM_TIME_NS,
			wallclockSec: 1_700_000_000n,
			cpuKhz: CPU_KHZ,
			nextUniqueId: domains.length + 1,
			cpuCount: CPU_COUNT,
			features: Object.values(FEATURE).reduce((all, feature) => all | feature, 0),
		},
		virqHandlers: [{ virq: VIRQ_DOM_EXC, domid: 1 }],
	};
}

/** The last CPUs are those of a pool without a scheduler; with 32-bit guests, those before them of a pool of reservations. */
function cpuPools(hasNarrow: boolean): Pick<HostModel, "poolList" | "poolCpus"> {
	const alone = CPU_COUNT - CPUS_ALONE;
	const reserved = hasNarrow ? alone - reservedPool.cpus : alone;
	const poolOf = (cpu: number): number => {
		if (cpu < reserved) return 0;
		return cpu < alone ? reservedPool.row.poolId : 1;
	};
	return {
		poolList: [
			{ poolId: 0, scheduler: SCHEDULER.credit2, granularity: 1 },
			{ poolId: 1, scheduler: SCHEDULER.null, granularity: 1 },
			...(hasNarrow ? [reservedPool.row] : []),
		],
		poolCpus: Array.from({ length: CPU_COUNT }, (_, cpu) => ({ poolId: poolOf(cpu), cpu })),
	};
}

/** Interrupts and devices, all dom0's; an IOMMU whose tables stay in place. */
function hardware(frames: SyntheticFrames): Partial<HostModel> {
	const msis = DEVICE_IRQS.filter((irq) => irq >= FIRST_MSI_IRQ);
	const tables = frames.take(IOMMU_TABLES);
	return {
		ioapicPins: DEVICE_IRQS.filter((irq) => irq < FIRST_MSI_IRQ).map((irq) => ({
			ioapic: 0,
			pin: irq,
			irq,
			vector: 0x30 + irq,
			trigger: 1,
			polarity: 1,
		})),
		msis: msis.map((irq, entry) => ({ bus: 3, devfn: 8, entry, irq, vector: 0x50 + irq, msix: 1 })),
		irqOwners: DEVICE_IRQS.map((irq) => ({ irq, domid: 0 })),
		deviceList: [
			{ bus: 0, devfn: 0xf8, domid: 0 },
			{ bus: 3, devfn: 8, domid: 0 },
		],
		iommuUnits: [
			{ baseAddress: 0xfed9_0000n, rootMfn: tables, remapMfn: tables + 1, unit: 0, format: KEPT_FORMAT.vtd },
		],
		iommuDomains: [{ rootMfn: tables + 2, unit: 0, hardwareId: 1, domid: 0, levels: 4 }],
		remapEntries: msis.map((irq, index) => ({ unit: 0, index, low: BigInt(irq), high: BigInt(0x308 + index) })),
		iommuRanges: [{ firstMfn: tables, frameCount: IOMMU_TABLES }],
	};
}
