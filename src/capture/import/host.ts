/**
 * A captured host becomes a machine's state: a HostModel and the content of the frames that matter to the hypervisor.
 *
 * The happy path, in stages over all domains:
 *   1. facts    every frame that a dump or an image names is claimed where it is
 *   2. regions  bootmem with xen#1's image above it, and re-usable memory, in what is left
 *   3. memory   guests' other frames, then P2M page tables, then dom0's frames, then the M2P
 *   4. state    grant tables, event channels, vCPUs, I/O servers; last the maptracks, which need every grant table
 * What no file says is assigned or defaulted, and told in `assumptions`.
 *
 * Unhappy paths: XLU_E_CAPTURE where dumps and images contradict each other, with domain, field, expected and got;
 * XLU_E_VERSION for what the stream refuses by name; XLU_E_IMAGE from an image's own P2M.
 */
import { CREATE, DOMID, FEATURE, FRAME, KIND, LIFE, PAGE_TYPE, REGION, SCHEDULER } from "../../format/enums.ts";
import type { GuestImage } from "../../formats/guestImage.ts";
import { readWallclock } from "../../machine/guestPages.ts";
import type { DomainModel, HostModel, PreservedPages } from "../../machine/model.ts";
import type { CapturedDomain, CapturedHost } from "../read.ts";
import { dumpedReferences } from "./counts.ts";
import { draftDomain, kindOf, refuseUnsupported } from "./domain.ts";
import { importEvents } from "./events.ts";
import { type FrameRun, MachineFrames, SUPERPAGE_FRAMES } from "./frames.ts";
import { importGrantTable, importMaptracks } from "./grants.ts";
import { HvmMemory } from "./hvmMemory.ts";
import { importIoreqServers } from "./ioreq.ts";
import { contradiction, hex, type ImportedHost, Ledger, plural, refusedByFormat } from "./ledger.ts";
import { type PvContext, pvContexts } from "./pvContext.ts";
import { PvMemory } from "./pvMemory.ts";
import {
	allocatedFlag,
	assignSpecialPages,
	claimSpecialPages,
	importSharedInfo,
	isWritableInUse,
	needPlainUse,
} from "./specialPages.ts";
import {
	dom0Roots,
	importDom0Registers,
	importHvmContext,
	importPvContexts,
	importVcpus,
	type VcpuState,
} from "./vcpus.ts";

const FRAMES_PER_MIB = 256;
const BOOTMEM_FRAMES = 64 * FRAMES_PER_MIB;
const XEN_IMAGE_FRAMES = 16 * FRAMES_PER_MIB;
const REUSABLE_FRAMES = 32 * FRAMES_PER_MIB;
/** Frames that stay free for the stream: 32 MiB, and of a large host one in 64. */
const STREAM_FRAMES = 32 * FRAMES_PER_MIB;
const STREAM_SHARE = 64;
const M2P_ENTRIES_PER_FRAME = 512;
const KHZ_PER_MHZ = 1000;

/** A PV domain whose memory no image shows: dom0, and dead domains. */
interface PlainMemory {
	kind: "plain";
	/** Frames that the capture names. */
	known: Set<number>;
	runs: FrameRun[];
}

/** A domain on its way: what was captured, what it becomes, and where its memory is. */
interface Draft {
	captured: CapturedDomain;
	model: DomainModel;
	memory:
		| { kind: "pv"; image: GuestImage; contexts: Map<number, PvContext>; layout: PvMemory }
		| { kind: "hvm"; layout: HvmMemory }
		| PlainMemory;
}

/**
 * Makes a machine's state of a captured host.
 *
 * @throws XluError XLU_E_CAPTURE, XLU_E_VERSION, XLU_E_IMAGE: see above
 */
export function importCapture(host: CapturedHost): ImportedHost {
	const ledger = new Ledger();
	const frames = new MachineFrames(host.totalFrames);
	const preserved: PreservedPages = new Map();
	host.domains.forEach(refuseUnsupported);
	if (host.sharedFrames > 0) {
		throw refusedByFormat(undefined, "Shared frames of debugkey-q.txt", "0", `${host.sharedFrames}: memory is shared`);
	}
	if (host.totalFrames === undefined) {
		ledger.note(undefined, "size of the machine's memory", "assigned: as much as its domains need");
	}

	const drafts = claimFacts(host, frames, ledger);
	for (const { memory } of drafts) {
		if (memory.kind === "hvm") {
			memory.layout.placeKnown();
		}
	}
	const regionList = placeRegions(frames, ledger);
	placeMemory(drafts, frames, ledger);
	const m2pRanges = placeM2p(frames, ledger);

	const models = new Map(drafts.map(({ captured, model }) => [captured.domid, model]));
	for (const draft of drafts) {
		importState(host, draft, frames, preserved, ledger);
	}
	importMaptracks(host.domains, models, ledger);

	const model: HostModel = {
		...hostHead(host, drafts, preserved, ledger),
		m2pRanges,
		regionList,
		...cpuPools(host, ledger),
		frameOwners: frames.owners,
		frameTypes: frames.types,
		domains: [...models.values()],
	};
	ledger.note(undefined, "IO-APIC, MSIs, PCI devices, IOMMUs, global VIRQ handlers", "defaulted to none");
	const pvLayouts = new Map(
		drafts.flatMap(({ captured, memory }) =>
			memory.kind === "pv" ? [[captured.domid, memory.layout.layout] as const] : [],
		),
	);
	const references = dumpedReferences(host.domains, model, preserved);
	return { name: host.name, model, preserved, assumptions: ledger.assumptions, references, pvLayouts };
}

// --- 1. facts ---

function claimFacts(host: CapturedHost, frames: MachineFrames, ledger: Ledger): Draft[] {
	const drafts = host.domains.map((captured): Draft => {
		const kind = kindOf(captured, ledger);
		return {
			captured,
			model: draftDomain(captured, kind, ledger),
			memory: { kind: "plain", known: new Set(), runs: [] },
		};
	});
	for (const { captured } of drafts) {
		claimSpecialPages(captured, frames);
		if (captured.p2mRootMfn !== undefined && captured.kind !== "dead") {
			frames.keep(captured.p2mRootMfn, captured.domid, "root of the P2M in debugkey-v.txt");
		}
	}
	for (const draft of drafts) {
		const { captured } = draft;
		const { image } = captured;
		if (captured.kind === "dead") {
			claimDead(captured, draft.memory as PlainMemory, frames);
		} else if (draft.model.domain.kind !== KIND.pv) {
			draft.memory = { kind: "hvm", layout: new HvmMemory(captured, frames, ledger) };
		} else if (image === undefined) {
			claimDom0(host, captured, draft.memory as PlainMemory, frames);
		} else {
			const layout = new PvMemory(captured, image);
			layout.claim(frames);
			draft.memory = { kind: "pv", image, contexts: pvContexts(image), layout };
		}
	}
	return drafts;
}

/** A dead domain's frames are all in the dump, with the types that mappings still hold. */
function claimDead({ domid, info }: CapturedDomain, memory: PlainMemory, frames: MachineFrames): void {
	if (info.domPages === undefined) {
		throw contradiction(
			domid,
			"DomPage",
			`a list of the dead domain's ${info.nrPages} frames`,
			"none",
			"debugkey-q.txt",
		);
	}
	for (const page of info.domPages) {
		needPlainUse(domid, page, "DomPage of debugkey-q.txt");
		frames.own(page.mfn, domid, allocatedFlag(page), "DomPage of debugkey-q.txt");
		memory.known.add(page.mfn);
		if (isWritableInUse(page)) {
			frames.setType(page.mfn, PAGE_TYPE.writable);
		}
	}
}

/** Of a PV dom0 the frames are known that it granted and that its vCPUs run on. */
function claimDom0(host: CapturedHost, captured: CapturedDomain, memory: PlainMemory, frames: MachineFrames): void {
	const { domid, info, grants } = captured;
	const named: [number, string][] = [
		...dom0Roots(host.dom0Registers ?? []).map((mfn): [number, string] => [mfn, "page table of cr3 in debugkey-0.txt"]),
		...grants.active.map(({ mfn }): [number, string] => [mfn, "granted frame of debugkey-g.txt"]),
		...(info.domPages ?? []).map(({ mfn }): [number, string] => [mfn, "DomPage of debugkey-q.txt"]),
	];
	for (const [mfn, what] of named) {
		if (frames.ownerOf(mfn) !== domid) {
			frames.own(mfn, domid, FRAME.allocated, what);
			memory.known.add(mfn);
		}
	}
	if (memory.known.size > info.nrPages) {
		const got = `${memory.known.size} that the dumps name`;
		throw contradiction(domid, "frames", `at most nr_pages, ${info.nrPages}`, got, "debugkey-q.txt");
	}
}

// --- 2. regions ---

function placeRegions(frames: MachineFrames, ledger: Ledger): HostModel["regionList"] {
	const bootmem = frames.takeRun(BOOTMEM_FRAMES + XEN_IMAGE_FRAMES, SUPERPAGE_FRAMES);
	const image = bootmem + BOOTMEM_FRAMES;
	const reusable = frames.takeRun(REUSABLE_FRAMES, SUPERPAGE_FRAMES);
	ledger.note(
		undefined,
		"live update bootmem and xen#1's image",
		`assigned: 64 MiB at MFN ${hex(bootmem)}, 16 MiB above it at MFN ${hex(image)}`,
	);
	ledger.note(undefined, "re-usable memory", `assigned: 32 MiB at MFN ${hex(reusable)}`);
	return [
		{ firstMfn: bootmem, frameCount: BOOTMEM_FRAMES, kind: REGION.bootmem },
		{ firstMfn: image, frameCount: XEN_IMAGE_FRAMES, kind: REGION.xenImage },
		{ firstMfn: reusable, frameCount: REUSABLE_FRAMES, kind: REGION.reusable },
	].sort((a, b) => a.firstMfn - b.firstMfn);
}

// --- 3. memory ---

function placeMemory(drafts: readonly Draft[], frames: MachineFrames, ledger: Ledger): void {
	for (const { captured, memory } of drafts) {
		if (memory.kind === "hvm") {
			memory.layout.placeRest();
			memory.layout.placeCache(captured);
		}
	}
	for (const { captured, memory, model } of drafts) {
		if (memory.kind === "hvm") {
			memory.layout.importInto(model, captured, ledger);
		}
	}
	for (const { captured, memory } of drafts) {
		if (memory.kind !== "plain" || captured.kind === "dead") {
			continue;
		}
		const { domid, info } = captured;
		memory.runs = frames.takeRuns(info.nrPages - memory.known.size, domid);
		const runs = plural(memory.runs.length, "run");
		const rest = info.nrPages - memory.known.size;
		ledger.note(domid, "machine frames", `assigned: ${rest} of ${info.nrPages}, in ${runs}`);
		ledger.note(
			domid,
			"page types and page tables",
			"defaulted to none: no dump has dom0's, so what they map, of other domains too, is not counted",
		);
	}
}

/** Room for the stream first, so that the M2P, which grows with the machine, comes last. */
function placeM2p(frames: MachineFrames, ledger: Ledger): HostModel["m2pRanges"] {
	const needed = (): number => Math.ceil(frames.size / M2P_ENTRIES_PER_FRAME);
	frames.ensureFree(Math.max(STREAM_FRAMES, Math.ceil(frames.size / STREAM_SHARE)) + needed());
	const ranges: { firstMfn: number; frameCount: number }[] = [];
	for (let count = 0; count < needed(); ) {
		const more = needed() - count;
		ranges.push({ firstMfn: frames.takeRun(more, SUPERPAGE_FRAMES, DOMID.XEN), frameCount: more });
		count += more;
	}
	const list = ranges.map(({ firstMfn }) => hex(firstMfn)).join(", ");
	ledger.note(undefined, "M2P", `assigned: ${plural(needed(), "frame")} at MFN ${list}`);
	return ranges.sort((a, b) => a.firstMfn - b.firstMfn);
}

// --- 4. state ---

function importState(
	host: CapturedHost,
	draft: Draft,
	frames: MachineFrames,
	preserved: PreservedPages,
	ledger: Ledger,
): void {
	const { captured, model, memory } = draft;
	const pages = assignSpecialPages(captured, ledger);
	const sharedInfo = importSharedInfo(captured, model, pages, preserved, ledger);
	importGrantTable(captured, model, pages, frames, preserved, ledger);
	if (captured.kind === "dead") {
		return;
	}
	if (memory.kind === "pv") {
		memory.layout.importPageTables(memory.contexts.values(), frames, preserved, ledger);
	}
	typeWritableGrants(model, frames);
	importEvents(captured, model, sharedInfo, spareFrames(draft), frames, preserved, ledger);
	importVcpus(captured, model, importRegisters(host, draft, ledger), host.cpus, ledger);
	importIoreqServers(captured, model, ledger);
}

/** A frame that a PV domain has granted, and that is mapped writable, is in use as writable. */
function typeWritableGrants(model: DomainModel, frames: MachineFrames): void {
	if (model.domain.kind !== KIND.pv) {
		return;
	}
	for (const grant of model.grantActive ?? []) {
		if (grant !== undefined && Number(grant.hostWrite) + Number(grant.deviceWrite) > 0) {
			frames.setType(Number(grant.mfn), PAGE_TYPE.writable);
		}
	}
}

function importRegisters(host: CapturedHost, draft: Draft, ledger: Ledger): Map<number, VcpuState> {
	const { captured, model, memory } = draft;
	if (memory.kind === "pv") {
		return importPvContexts(captured, memory.image, memory.contexts, memory.layout, model, ledger);
	}
	if (captured.image !== undefined) {
		return importHvmContext(captured, captured.image, model, ledger);
	}
	if (memory.kind === "plain") {
		return importDom0Registers(captured, host.dom0Registers ?? [], model, ledger);
	}
	// A PVH dom0: no dump has an HVM context.
	return new Map();
}

/** Frames of a domain that could be its event pages. */
function spareFrames({ memory }: Draft): Iterable<number> {
	return memory.kind === "plain" ? fromTheTop(memory.runs) : memory.layout.spareFrames();
}

function* fromTheTop(runs: readonly FrameRun[]): Generator<number> {
	for (const { first, count } of [...runs].reverse()) {
		for (let mfn = first + count - 1; mfn >= first; mfn--) {
			yield mfn;
		}
	}
}

// --- the host itself ---

function hostHead(
	host: CapturedHost,
	drafts: readonly Draft[],
	preserved: PreservedPages,
	ledger: Ledger,
): Pick<HostModel, "version" | "versionText" | "host"> {
	const { major = 0, minor = 0, extra = "" } = host.xenVersion ?? {};
	if (host.xenVersion === undefined) {
		ledger.note(undefined, "version of Xen", "defaulted to 0.0: neither xl info nor an image says");
	}
	const wallclock = wallclockOf(drafts, preserved, ledger);
	const nextUniqueId = Math.max(...host.domains.map(({ domid }) => domid)) + 2;
	ledger.note(undefined, "next unique domain identifier", `assigned: ${nextUniqueId}`);
	return {
		version: { xenMajor: major, xenMinor: minor, moduleVersion: 1 },
		versionText: host.xenVersion === undefined ? "Xen of unknown version" : `Xen ${major}.${minor}${extra}`,
		host: {
			systemTimeNs: host.systemTimeNs,
			...wallclock,
			nextUniqueId,
			features: features(drafts),
			cpuKhz: cpuKhz(host, ledger),
			domainCount: host.domains.length,
			cpuCount: host.cpus,
		},
	};
}

/** A PV guest was told the host's wall clock, in its shared_info. */
function wallclockOf(drafts: readonly Draft[], preserved: PreservedPages, ledger: Ledger): object {
	const guest = drafts.find(({ captured }) => captured.image?.sharedInfo !== undefined);
	const page = preserved.get(Number(guest?.model.sharedInfo?.mfn ?? -1));
	if (guest === undefined || page === undefined) {
		ledger.note(undefined, "wall clock", "defaulted to 0");
		return {};
	}
	const { seconds, nanoseconds } = readWallclock(page, Number(guest.model.domain.guestWidth));
	ledger.note(undefined, "wall clock", `derived from the shared_info of domain ${guest.captured.domid}`);
	return { wallclockSec: seconds, wallclockNsec: nanoseconds };
}

function features(drafts: readonly Draft[]): number {
	const alive = drafts.map(({ model }) => model).filter(({ domain }) => domain.life === LIFE.alive);
	return (
		(alive.some(({ domain }) => Number(domain.createFlags) & CREATE.hap) ? FEATURE.hap : 0) |
		(alive.some(({ pvXsave }) => pvXsave?.some((area) => area !== undefined)) ? FEATURE.xsave : 0) |
		(alive.some(({ ioreqServerList }) => (ioreqServerList?.length ?? 0) > 0) ? FEATURE.ioreqServers : 0)
	);
}

function cpuKhz(host: CapturedHost, ledger: Ledger): number {
	const { cpuMhz } = host.xlInfo ?? {};
	if (cpuMhz !== undefined) {
		return Math.round(cpuMhz * KHZ_PER_MHZ);
	}
	const khz = host.domains
		.map(({ tsc, image }) => tsc?.khz ?? image?.tscInfo?.khz)
		.find((value) => value !== undefined);
	ledger.note(undefined, "CPU frequency", khz === undefined ? "defaulted to 0" : "derived from a domain's TSC");
	return khz ?? 0;
}

function cpuPools(host: CapturedHost, ledger: Ledger): Pick<HostModel, "poolList" | "poolCpus"> {
	const name = host.xlInfo?.fields.get("xen_scheduler") ?? "";
	const isKnown = (candidate: string): candidate is keyof typeof SCHEDULER => candidate in SCHEDULER;
	const scheduler = isKnown(name) ? SCHEDULER[name] : SCHEDULER.credit2;
	const which = isKnown(name) ? name : "credit2 (the default)";
	ledger.note(undefined, "CPU pools", `defaulted to one, Pool-0, with ${plural(host.cpus, "CPU")}, ${which}`);
	return {
		poolList: [{ poolId: 0, scheduler, granularity: 1 }],
		poolCpus: Array.from({ length: host.cpus }, (_, cpu) => ({ poolId: 0, cpu })),
	};
}
