/**
 * A live update, stage by stage, timed.
 *
 *     describe ─ brown-out ─┬─ quiesce ─ save ─ check ─ hand-over ─ open ─ pass 0 ─ pass 1 ─ pass 2 ─ unpause
 *                           └─ blackout: first pause to last unpause ──────────────────────────────┘
 *
 * xen#1 saves its image, has xen#2's module check the stream (X3), scatters it over free frames and leaves a breadcrumb
 * (H1, H2). xen#2 is a fresh instance of the core that is given bootmem, the preserved memory and the frames to which
 * the breadcrumb leads, nothing else (H3). "Identical" compares every table of the two images, counts included.
 *
 * The brown-out warms what the pause will run: the module, the windows, the workers where several run the passes.
 *
 * Unhappy paths, each an error that says in which `stage` it came and what the `outcome` is:
 *
 *     not paused       xen#1's own state is not fit (X2), Xen has begun what xen#2 could not go on with (T2), a worker
 *                      does not start: guests have noticed nothing
 *     xen#1 resumed    a request stays in flight (T1), the stream does not fit its window, xen#2's module refuses the
 *                      stream (X3), there are no frames for it: everything is as it was, proven by a digest
 *     refused at boot  xen#2 does not find the stream, or not that stream; a worker dies in a pass: nobody takes what it
 *                      has built for a host
 *
 * Any of them can be had on purpose (fault.ts).
 *
 * The times are the serializer's shares, measured in a process: never the pause of real hardware.
 */
import { performance } from "node:perf_hooks";
import { auditImage } from "./audit.ts";
import {
	type Context,
	type Core,
	compileCore,
	type Difference,
	kindNames,
	loadCore,
	type Window,
} from "./core/load.ts";
import { type UpdateOutcome, XluError } from "./errors.ts";
import type { Fault } from "./fault.ts";
import { CREATE, EVTCHN_STATE, LIFE, SHUTDOWN_STATE, VCPU_FLAG } from "./format/enums.ts";
import { readStruct } from "./format/layout.ts";
import { FORMAT_VERSION } from "./format/schema.ts";
import {
	consumeBreadcrumb,
	gatherStream,
	needNotReusable,
	readBreadcrumb,
	readFrameList,
	writeHandOver,
} from "./handover/breadcrumb.ts";
import { freeFrames, planHandOver } from "./handover/frames.ts";
import { PhysicalMemory } from "./handover/physical.ts";
import { placeXen2 } from "./handover/placement.ts";
import { allowedUntilConsumed, contains } from "./handover/regions.ts";
import type { Host } from "./host.ts";
import { buildImage, viewImage } from "./machine/image.ts";
import { Machine } from "./machine/live/machine.ts";
import { PAGE_BYTES } from "./machine/preserved.ts";
import { needNoContinuations, quiesce, type RunningDomain } from "./machine/quiesce.ts";
import { type PoolOptions, WorkerPool } from "./parallel/pool.ts";
import { needRoom, warmModule, windowBytes } from "./prepare.ts";
import { microseconds, openAndCheck, placeMemory, restorePasses } from "./steps.ts";

/** The stages in order; a timeline always names all that ran. */
export const stageNames = [
	"trigger",
	"quiesce",
	"save",
	"check",
	"hand-over",
	"open",
	"pass 0",
	"pass 1",
	"pass 2",
	"unpause",
] as const;
export type StageName = (typeof stageNames)[number];

export interface Stage {
	name: StageName;
	ms: number;
}

export interface DomainReport {
	domid: number;
	kind: string;
	vcpus: number;
	/** nr_pages: frames without xenheap and extra ones. */
	frames: number;
	/** Event channels in use: states 2 (unbound) to 6 (IPI). */
	ports: number;
	/** Maptrack entries: grants of others that it has mapped. */
	grantMappings: number;
	/** Time of its own part of each pass, milliseconds. */
	passMs: [number, number, number];
}

export interface UpdateReport {
	host: string;
	identical: boolean;
	difference: Difference | null;
	blackoutMs: number;
	/** Threads that ran the passes. */
	workers: number;
	streamBytes: number;
	stages: Stage[];
	domains: DomainReport[];
}

export interface UpdateOptions {
	/** Called when a stage begins. */
	onStage?: (name: StageName) => void;
	/** Octets of xen#2, for its placement (H4); by default as large as xen#1. */
	xen2Bytes?: number;
	/** Newest version of the format that xen#2 knows; by default xen#1's. An older one is written to: a rollback. */
	xen2Format?: number;
	/** Seed of the stream frames' places. */
	seed?: number;
	/** The core's module; by default the one that the package ships. */
	module?: WebAssembly.Module;
	/** Whether the brown-out warms module and windows, so that the pause does not pay for it. By default it does. */
	prepare?: boolean;
	/** Threads that run the passes, 1 to 64; by default 1, which is this one. */
	workers?: number;
	/** Of more than one worker: module, program, patience. */
	pool?: PoolOptions;
	/** Whether the brown-out audits xen#1's state (X2). By default it does; it takes the image's size three times over. */
	audit?: boolean;
	/** How long guests' requests are waited for, milliseconds. */
	quiesceMs?: number;
	/** What is to go wrong. */
	fault?: Fault;
}

/**
 * Runs a live update of one host.
 * @throws with `stage` and `outcome`: XLU_E_REFUSED, XLU_E_VERSION if audit or check refuse; XLU_E_QUIESCE if the host cannot
 *   be stopped; XLU_E_HANDOVER if xen#2 cannot find the stream; XLU_E_WORKER if a worker fails
 */
export async function liveUpdate(host: Host, options: UpdateOptions = {}): Promise<UpdateReport> {
	return (await updateWith(host, options)).report;
}

/**
 * A live update of a living machine, which stays as it is: xen#2's machine is made of the restored image and of the memory
 * that stayed in place, nothing else. "Identical" compares the counts that history made with those that the restore rebuilt.
 * @throws as liveUpdate
 */
export async function updateMachine(
	machine: Machine,
	options: UpdateOptions = {},
): Promise<{ report: UpdateReport; machine: Machine }> {
	const { report, restored } = await updateWith(machine.toHost(), options);
	return { report, machine: Machine.fromImage(machine.name, restored, machine.memory) };
}

interface Updated {
	report: UpdateReport;
	/** The image that xen#2 built. */
	restored: Uint8Array<ArrayBuffer>;
}

/** With as many threads as the options ask for, which end with the update. */
async function updateWith(host: Host, options: UpdateOptions): Promise<Updated> {
	// A fault of workers wants some.
	const least = options.fault?.hooks.killWorkerIn === undefined ? 1 : 2;
	const workers = Math.max(options.workers ?? 1, least);
	const pool = workers === 1 ? undefined : await WorkerPool.load(workers, options.pool);
	try {
		return await updateHost(host, options, pool);
	} finally {
		await pool?.close();
	}
}

/** Digest of an image, in a context of its own: what a live update that was called off must leave as it was. */
const digestOf = (core: Core, image: Window): bigint => core.createContext().digest(image);

async function updateHost(host: Host, options: UpdateOptions, pool: WorkerPool | undefined): Promise<Updated> {
	const module = options.module ?? (await compileCore());
	const hooks = options.fault?.hooks ?? {};
	const xen1 = await loadCore({ module });
	const xen2 = pool?.core ?? (await loadCore({ module }));
	const stages: Stage[] = [];
	let current: StageName = "trigger";
	const longStage = async <T>(name: StageName, run: () => T | Promise<T>): Promise<T> => {
		current = name;
		options.onStage?.(name);
		const start = performance.now();
		const result = await run();
		stages.push({ name, ms: microseconds(performance.now() - start) });
		return result;
	};
	const stage = <T>(name: StageName, run: () => T): T => {
		current = name;
		options.onStage?.(name);
		const start = performance.now();
		const result = run();
		stages.push({ name, ms: microseconds(performance.now() - start) });
		return result;
	};
	/** What an error means for the host, by how far the update has come. */
	const ended = (error: unknown, outcome: UpdateOutcome): unknown =>
		error instanceof XluError ? Object.assign(error, { stage: current, outcome }) : error;
	const domids = host.model.domains.map(({ domain }) => domain.domid).sort((a, b) => a - b);
	const passMs = new Map(domids.map((domid) => [domid, [0, 0, 0] as [number, number, number]]));

	// Brown-out: what can be done while guests run.
	const octets = buildImage(host.model, host.preserved, host.references);
	hooks.image?.(octets);
	const going = host.activity ?? { requests: [], continuations: [] };
	const activity = hooks.activity?.(going) ?? going;
	const image = xen1.place(octets);
	const saving = xen1.createContext();
	const xen2Format = options.xen2Format ?? FORMAT_VERSION;
	const format = Math.min(xen2Format, FORMAT_VERSION);
	saving.saveAs(format);
	const { out, machine, bootmem, placement, free } = await longStage("trigger", async () => {
		needNoContinuations(activity);
		if (options.audit ?? true) needFit(xen2, host, octets, format);
		const result = trigger(xen1, saving, image, host, options);
		if (pool) needRoom(host, image.length, pool.size);
		await pool?.start();
		if (options.prepare ?? true) {
			await warmModule(module, pool);
			for (let at = 0; at < result.out.length; at += PAGE_BYTES) xen1.bytes(result.out)[at] = 0;
			xen1.touch(windowBytes(host, 0, 0));
			xen2.touch(windowBytes(host, image.length, result.out.length, pool?.size));
		}
		pool?.needAll();
		return result;
	}).catch((error) => {
		throw ended(error, "not paused");
	});

	const before = digestOf(xen1, image);
	const { memory, stream } = (() => {
		try {
			stage("quiesce", () => quiesce(runningDomains(host), activity.requests, options.quiesceMs));
			const window = { pointer: out.pointer, length: hooks.streamWindow?.(out.length) ?? out.length };
			const saved = stage("save", () => saving.save(image, window));
			hooks.saved?.(xen1.bytes(saved));
			const kept = placeMemory(xen1, host.preserved, saved);
			stage("check", () => openAndCheck(xen1, saved, kept, { newest: hooks.xen2Format ?? xen2Format }));
			stage("hand-over", () => {
				const plan = planHandOver(saved.length, hooks.free?.(free) ?? free, bootmem, options.seed ?? 1);
				const handOver = writeHandOver(machine, xen1.bytes(saved), plan, placement);
				hooks.handedOver?.(machine, handOver);
			});
			return { memory: kept, stream: saved };
		} catch (error) {
			// Guests go on as if nothing had been: whatever could lead a later boot to this stream is gone.
			consumeBreadcrumb(machine, bootmem);
			if (digestOf(xen1, image) !== before) {
				throw new XluError("XLU_E_INTERNAL", "xen#1 resumes, but its state is another one.", { cause: error });
			}
			throw ended(error, "xen#1 resumed");
		}
	})();

	// From here on xen#2: another instance, which sees only what it is entitled to.
	try {
		const regions = host.model.regionList;
		const mfns = new Set(host.preserved.keys());
		const listed = new Set<number>();
		const early = allowedUntilConsumed(regions, placement.bootmem);
		const view = machine.restrict(
			(mfn) => contains(placement.bootmem, mfn) || early(mfn) || mfns.has(mfn) || listed.has(mfn),
		);
		// The array's frames become readable when the breadcrumb names them, the stream's when the array does.
		const opened = stage("open", () => {
			const breadcrumb = readBreadcrumb(view, placement.bootmem);
			const arrayFrames = Math.ceil((breadcrumb.frameCount * 8) / PAGE_BYTES);
			for (let i = 0; i < arrayFrames; i++) listed.add(breadcrumb.arrayAddress / PAGE_BYTES + i);
			const frames = readFrameList(view, breadcrumb, placement);
			for (const mfn of frames) listed.add(mfn);
			const received = xen2.place(gatherStream(view, breadcrumb, placement));
			hooks.received?.(xen2.bytes(received));
			const kept = xen2.place(xen1.bytes(memory));
			hooks.preserved?.(xen2.bytes(kept));
			const result = openAndCheck(xen2, received, kept, {
				padded: true,
				newest: hooks.bootedFormat ?? hooks.xen2Format ?? xen2Format,
			});
			needNotReusable(breadcrumb, frames, regions);
			const target = xen2.allocate(result.imageBytes);
			const length = hooks.targetWindow?.(target.length) ?? target.length;
			result.context.target({ pointer: target.pointer, length });
			return { context: result.context, target };
		});
		const { target } = opened;
		const perDomain = (pass: 0 | 1 | 2, domid: number, ms: number) => {
			(passMs.get(domid) as [number, number, number])[pass] = microseconds(ms);
		};
		if (pool) {
			const timed = (pass: 0 | 1 | 2, run: () => Promise<void>) =>
				longStage(`pass ${pass}`, async () => {
					if (hooks.killWorkerIn === pass) await pool.kill(pool.size - 1);
					await run();
				});
			await pool.restore(opened.context, domids, { timed, perDomain });
		} else restorePasses(opened.context, domids, (pass, run) => stage(`pass ${pass}`, run), perDomain);
		consumeBreadcrumb(view, placement.bootmem);
		stage("unpause", () => {});

		const blackout = stages.slice(stages.findIndex(({ name }) => name === "quiesce"));
		const original = xen2.place(xen1.bytes(image));
		const difference = xen2.createContext().compare(original, target) ?? null;
		const report = {
			host: host.name,
			identical: difference === null,
			difference,
			blackoutMs: microseconds(blackout.reduce((sum, { ms }) => sum + ms, 0)),
			workers: pool?.size ?? 1,
			streamBytes: stream.length,
			stages,
			domains: describeDomains(xen2.bytes(target), passMs),
		};
		return { report, restored: xen2.bytes(target).slice() };
	} catch (error) {
		throw ended(error, "refused at boot");
	}
}

/**
 * Refuses what would not survive (X2): xen#1's state is audited while it can still be mended.
 * @throws XLU_E_REFUSED and the other verdicts, for the first thing that is wrong
 */
function needFit(core: Core, host: Host, image: Uint8Array, format: number): void {
	const [first] = auditImage(core, host.name, image, host.preserved, format).findings;
	core.reset();
	if (!first) return;
	const { message, mfn: _, ...place } = first;
	const detail = Object.fromEntries(Object.entries(place).filter(([, value]) => value !== null));
	throw new XluError("XLU_E_REFUSED", `xen#1 is not fit for a live update. ${message}`, detail);
}

/** What quiesce has to know of each domain. */
function runningDomains(host: Host): RunningDomain[] {
	return host.model.domains.map(({ domain, domainState, vcpuIds, vcpu }) => ({
		domid: domain.domid,
		vcpus: vcpuIds.filter((id) => (Number(vcpu[id]?.flags ?? 0) & VCPU_FLAG.down) === 0),
		isStopped:
			Number(domain.life ?? 0) === LIFE.dead ||
			Number(domainState.controllerPauseCount ?? 0) > 0 ||
			Number(domainState.shutdownState ?? 0) !== SHUTDOWN_STATE.none,
		isPrivileged: (Number(domain.createFlags ?? 0) & CREATE.privileged) !== 0,
	}));
}

/** Before the pause: windows, machine memory, where xen#2 will stand (H4), frames that the stream may take (H1). */
function trigger(core: Core, saving: Context, image: Window, host: Host, options: UpdateOptions) {
	const { regionList, frameOwners, m2pRanges, iommuRanges, domains } = host.model;
	const row = (kind: number) => {
		const found = regionList.find((region) => Number(region.kind) === kind);
		if (found) return found;
		throw new XluError("XLU_E_HANDOVER", "The host has no such region.", {
			expected: `a region of kind ${kind}`,
			got: "none",
		});
	};
	const xenImage = row(2);
	const xen2Bytes = options.xen2Bytes ?? Number(xenImage.frameCount) * PAGE_BYTES;
	const placement = placeXen2({ bootmem: row(1), xenImage, xen2Bytes });
	const kept = [...domains.flatMap((domain) => domain.keptRanges ?? []), ...(iommuRanges ?? [])];
	return {
		out: core.allocate(saving.planSave(image)),
		machine: new PhysicalMemory(frameOwners.length, host.preserved),
		bootmem: placement.bootmem,
		placement,
		free: freeFrames(frameOwners, regionList, kept, m2pRanges),
	};
}

/** What the restored image says of each domain. */
export function describeDomains(
	image: Uint8Array,
	passMs?: ReadonlyMap<number, [number, number, number]>,
): DomainReport[] {
	const { view, domains } = viewImage(image);
	return domains.map(({ domid, tables }) => {
		const rows = (name: string) => {
			const found = tables.find(({ table }) => table.name === name);
			if (!found) return [];
			const { table, offset, count } = found;
			return Array.from({ length: count }, (_, i) => readStruct(table.row, view, offset + i * table.row.size));
		};
		return {
			domid,
			kind: kindNames[Number(rows("Domain")[0]?.kind)] ?? "unknown",
			vcpus: rows("VcpuSlots").length,
			frames: Number(rows("DomainCounts")[0]?.frames ?? 0),
			ports: rows("Ports").filter(({ state }) => Number(state) >= EVTCHN_STATE.unbound).length,
			grantMappings: rows("Maptrack").filter(({ flags }) => flags !== 0).length,
			passMs: passMs?.get(domid) ?? [0, 0, 0],
		};
	});
}
