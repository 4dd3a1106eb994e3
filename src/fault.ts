/**
 * Faults to be injected into a live update: each hook is called at its place and may break what it is given. The table
 * says of every fault where it strikes and what must come of it; `xlu run --fault` and the tests hold it to that.
 *
 *     trigger ─ quiesce ─ save ─ check ─ hand-over ─ (jump) ─ open ─ pass 0 ─ pass 1 ─ pass 2
 *     └─ not paused ──┴── xen#1 resumed, unchanged ─┴── refused at boot ───────────────────┘
 *
 * Never a half-restored host that is taken for a good one. A xen#2 of another version is no fault where it knows the stream's.
 */
import { type ErrorCode, type UpdateOutcome, XluError } from "./errors.ts";
import { DOMID, EVTCHN_STATE } from "./format/enums.ts";
import { FORMAT_VERSION } from "./format/schema.ts";
import { BREADCRUMB_MAGIC, BREADCRUMB_OFFSET, type HandOver } from "./handover/breadcrumb.ts";
import type { PhysicalMemory } from "./handover/physical.ts";
import { FRAME_BYTES, type FrameRun } from "./handover/regions.ts";
import type { Host } from "./host.ts";
import { viewImage } from "./machine/image.ts";
import type { Activity } from "./machine/quiesce.ts";
import { Random } from "./random.ts";
import { liveUpdate, type StageName, type UpdateOptions } from "./update.ts";

/** Places at which a live update lets itself be broken. */
export interface FaultHooks {
	/** xen#1's image, while guests run. */
	image?(octets: Uint8Array): void;
	/** What goes on when the host is to be quiesced. */
	activity?(activity: Activity): Activity;
	/** Octets of the window that the stream is saved into. */
	streamWindow?(bytes: number): number;
	/** The stream in xen#1's window, before xen#2's module checks it. */
	saved?(stream: Uint8Array): void;
	/** Free frames of the machine, of which the hand-over takes its own. */
	free?(frames: readonly FrameRun[]): readonly FrameRun[];
	/** Machine memory after the hand-over, before the jump. */
	handedOver?(memory: PhysicalMemory, handOver: HandOver): void;
	/** The preserved memory as xen#2 finds it. */
	preserved?(memory: Uint8Array): void;
	/** The stream as xen#2 has gathered it. */
	received?(stream: Uint8Array): void;
	/** Octets of the target window. */
	targetWindow?(bytes: number): number;
	/** The pass in which a worker is killed. */
	killWorkerIn?: 0 | 1 | 2;
	/** Newest version of the format that xen#2 knows, which xen#1 was not told. */
	xen2Format?: number;
	/** The same, of the xen#2 that boots in place of the one whose check has run. */
	bootedFormat?: number;
}

/** What comes of a live update with a fault: how it ends, or that it is done all the same. */
export type FaultOutcome = UpdateOutcome | "updated";

export interface Fault {
	/** As the command line takes it: kind, and the stage where it strikes. */
	readonly name: string;
	readonly doc: string;
	readonly hooks: FaultHooks;
	/** What must come of it. */
	readonly expected: {
		readonly outcome: FaultOutcome;
		/** Where it was noticed, and as what; nothing where the update is done. */
		readonly stage?: StageName;
		readonly code?: ErrorCode;
		readonly rule?: string;
	};
}

/** One bit of the middle of it, which every checksum covers. */
function flipBit(octets: Uint8Array, seed: number): void {
	const at = Math.floor(octets.length / 4) + new Random(seed).below(Math.max(1, Math.floor(octets.length / 2)));
	octets[at] = (octets[at] as number) ^ 0x10;
}

/** What was written last is not there. */
const tear = (octets: Uint8Array): void => {
	octets.fill(0, Math.ceil(octets.length / 2));
};

/** Machine address of the MFN array's entry. */
const entryAt = ({ arrayAddress }: HandOver, index: number): number => arrayAddress + 8 * index;

const middle = (list: readonly unknown[]): number => Math.floor(list.length / 2);

/** Turns a frame of the stream into another one. */
function changeFrame(memory: PhysicalMemory, mfn: number, change: (octets: Uint8Array) => void): void {
	const octets = memory.readFrame(mfn);
	change(octets);
	memory.writeFrame(mfn, octets);
}

/** A free frame that neither the stream nor its array takes. */
function strangeFrame({ frames, array }: HandOver, memory: PhysicalMemory): number {
	const taken = new Set(frames);
	let mfn = memory.frameCount - 1;
	while (taken.has(mfn) || (mfn >= array.firstMfn && mfn < array.firstMfn + array.frameCount)) mfn--;
	return mfn;
}

const define = (
	name: string,
	doc: string,
	hooks: FaultHooks,
	outcome: UpdateOutcome,
	stage: StageName,
	code: ErrorCode,
	rule?: string,
): Fault => ({ name, doc, hooks, expected: { outcome, stage, code, ...(rule === undefined ? {} : { rule }) } });

/** Versions of the format that a xen#2 may know beside xen#1's own. */
const older = FORMAT_VERSION - 1;
const newer = FORMAT_VERSION + 1;
const tooNew = FORMAT_VERSION + 2;

/** Every fault, in the order of the stages. */
export const faults: readonly Fault[] = [
	define(
		"reference@trigger",
		"xen#1 counts a reference to a frame that nothing holds",
		{
			image(octets) {
				const { view, host } = viewImage(octets);
				const counts = host.find(({ table }) => table.name === "FrameCounts");
				if (counts) view.setUint32(counts.offset, view.getUint32(counts.offset, true) + 1, true);
			},
		},
		"not paused",
		"trigger",
		"XLU_E_REFUSED",
		"XLU-R111",
	),
	define(
		"half-pair@trigger",
		"an interdomain port of xen#1 whose other end is not bound to it",
		{
			image(octets) {
				const { view, domains } = viewImage(octets);
				for (const { tables } of domains) {
					const ports = tables.find(({ table }) => table.name === "Ports");
					if (!ports) continue;
					const { size, fields } = ports.table.row;
					const remote = fields.find(({ name }) => name === "remotePort")?.offset ?? 0;
					for (let port = 0; port < ports.count; port++) {
						const row = ports.offset + port * size;
						if (view.getUint8(row) !== EVTCHN_STATE.interdomain) continue;
						view.setUint32(row + remote, view.getUint32(row + remote, true) + 1, true);
						return;
					}
				}
			},
		},
		"not paused",
		"trigger",
		"XLU_E_REFUSED",
	),
	define(
		"continuation@trigger",
		"a reset of event channels is half done",
		{
			activity: ({ requests }) => ({ requests, continuations: [{ kind: "evtchn-reset", domid: 0 }] }),
		},
		"not paused",
		"trigger",
		"XLU_E_QUIESCE",
	),
	define(
		"request@quiesce",
		"an I/O request that its emulator never answers",
		{
			activity: ({ continuations }) => ({
				requests: [{ domid: 0, vcpu: 0, server: 0, emulator: DOMID.INVALID, turns: 1 }],
				continuations,
			}),
		},
		"xen#1 resumed",
		"quiesce",
		"XLU_E_QUIESCE",
	),
	define(
		"window-short@save",
		"the window of the stream is too small for its first records",
		{ streamWindow: () => 64 },
		"xen#1 resumed",
		"save",
		"XLU_E_SPACE",
		"XLU-R030",
	),
	define(
		"torn-stream@save",
		"the second half of the stream was never written",
		{ saved: tear },
		"xen#1 resumed",
		"check",
		"XLU_E_DAMAGED",
	),
	define(
		"bit-flip@save",
		"one bit of the stream is another one",
		{ saved: (stream) => flipBit(stream, 1) },
		"xen#1 resumed",
		"check",
		"XLU_E_DAMAGED",
	),
	define(
		"xen2-older@save",
		`xen#2 is older: it knows version ${older} of the format and none after it, and xen#1 was not told`,
		{ xen2Format: older },
		"xen#1 resumed",
		"check",
		"XLU_E_VERSION",
		"XLU-R003",
	),
	{
		name: "xen2-newer@save",
		doc: `xen#2 is newer: it knows version ${newer} of the format, and so version ${FORMAT_VERSION}`,
		hooks: { xen2Format: newer },
		expected: { outcome: "updated" },
	},
	define(
		"xen2-too-new@save",
		`xen#2 is too new: it knows versions ${newer} and ${tooNew} of the format`,
		{ xen2Format: tooNew },
		"xen#1 resumed",
		"check",
		"XLU_E_VERSION",
		"XLU-R003",
	),
	define(
		"no-frames@hand-over",
		"no free frames for the stream",
		{ free: () => [] },
		"xen#1 resumed",
		"hand-over",
		"XLU_E_HANDOVER",
	),
	define(
		"no-breadcrumb@hand-over",
		"the breadcrumb was never written",
		{
			handedOver(memory, { breadcrumbAddress }) {
				for (const offset of Object.values(BREADCRUMB_OFFSET)) memory.writeU64(breadcrumbAddress + offset, 0n);
			},
		},
		"refused at boot",
		"open",
		"XLU_E_HANDOVER",
	),
	define(
		"foreign-breadcrumb@hand-over",
		"a breadcrumb of somebody else's: another magic",
		{
			handedOver: (memory, { breadcrumbAddress }) =>
				memory.writeU64(breadcrumbAddress + BREADCRUMB_OFFSET.magic, BREADCRUMB_MAGIC ^ 0x1000n),
		},
		"refused at boot",
		"open",
		"XLU_E_HANDOVER",
	),
	define(
		"stale-breadcrumb@hand-over",
		"a breadcrumb of an earlier update, whose MFN array is no more",
		{ handedOver: (memory, { array }) => memory.wipe(array.firstMfn, array.frameCount) },
		"refused at boot",
		"open",
		"XLU_E_HANDOVER",
	),
	define(
		"torn-stream@hand-over",
		"the second half of the stream's frames was never written",
		{
			handedOver: (memory, { frames }) => {
				for (const mfn of frames.slice(middle(frames))) memory.wipe(mfn, 1);
			},
		},
		"refused at boot",
		"open",
		"XLU_E_DAMAGED",
	),
	define(
		"bit-flip@hand-over",
		"one bit of a stream frame is another one",
		{
			handedOver: (memory, { frames }) =>
				changeFrame(memory, frames[middle(frames)] as number, (octets) => flipBit(octets, 2)),
		},
		"refused at boot",
		"open",
		"XLU_E_DAMAGED",
	),
	define(
		"lost-frame@hand-over",
		"the MFN array names a frame that is not the stream's",
		{
			handedOver(memory, handOver) {
				const mfn = strangeFrame(handOver, memory);
				memory.writeFrame(mfn, new Uint8Array(FRAME_BYTES).fill(0xa5));
				memory.writeU64(entryAt(handOver, middle(handOver.frames)), BigInt(mfn));
			},
		},
		"refused at boot",
		"open",
		"XLU_E_DAMAGED",
	),
	define(
		"duplicate-frame@hand-over",
		"the MFN array names a frame twice",
		{
			handedOver: (memory, handOver) =>
				memory.writeU64(entryAt(handOver, handOver.frames.length - 1), BigInt(handOver.frames[0] as number)),
		},
		"refused at boot",
		"open",
		"XLU_E_HANDOVER",
	),
	define(
		"swapped-frames@hand-over",
		"two entries of the MFN array have changed places",
		{
			handedOver(memory, handOver) {
				const { frames } = handOver;
				memory.writeU64(entryAt(handOver, 0), BigInt(frames[frames.length - 1] as number));
				memory.writeU64(entryAt(handOver, frames.length - 1), BigInt(frames[0] as number));
			},
		},
		"refused at boot",
		"open",
		"XLU_E_DAMAGED",
	),
	define(
		"frame-in-bootmem@hand-over",
		"a stream frame lies in bootmem, which xen#2's boot allocator uses",
		{
			handedOver: (memory, handOver) => memory.writeU64(entryAt(handOver, 0), BigInt(handOver.bootmem.firstMfn)),
		},
		"refused at boot",
		"open",
		"XLU_E_HANDOVER",
	),
	define(
		"preserved-flip@hand-over",
		"one bit of the preserved memory is another one",
		{ preserved: (memory) => flipBit(memory, 3) },
		"refused at boot",
		"open",
		"XLU_E_MEMORY",
		"XLU-R034",
	),
	define(
		"xen2-older@hand-over",
		`another xen#2 boots than the one whose check has run: it knows version ${older} of the format and none after it`,
		{ bootedFormat: older },
		"refused at boot",
		"open",
		"XLU_E_VERSION",
		"XLU-R003",
	),
	define(
		"xen2-too-new@hand-over",
		`another xen#2 boots than the one whose check has run: it knows versions ${newer} and ${tooNew} of the format`,
		{ bootedFormat: tooNew },
		"refused at boot",
		"open",
		"XLU_E_VERSION",
		"XLU-R003",
	),
	define(
		"bit-flip@open",
		"one bit changes while xen#2 gathers the stream",
		{ received: (stream) => flipBit(stream, 4) },
		"refused at boot",
		"open",
		"XLU_E_DAMAGED",
	),
	define(
		"target-short@open",
		"the window of xen#2's image is an octet too short",
		{ targetWindow: (bytes) => bytes - 1 },
		"refused at boot",
		"open",
		"XLU_E_SPACE",
		"XLU-R030",
	),
	...([0, 1, 2] as const).map((pass) =>
		define(
			`worker-dies@pass-${pass}`,
			`a worker dies as pass ${pass} begins`,
			{ killWorkerIn: pass },
			"refused at boot",
			`pass ${pass}`,
			"XLU_E_WORKER",
		),
	),
];

/** @returns the fault of a name; undefined if there is none */
export function faultOf(name: string): Fault | undefined {
	return faults.find((fault) => fault.name === name);
}

/** What came of a fault. Without an outcome the host that came of the update is another one, which none may. */
export interface FaultResult {
	fault: string;
	outcome: FaultOutcome | null;
	stage: string | null;
	code: ErrorCode | null;
	rule: string | null;
	/** In a sentence. */
	message: string;
	/** It is what the table says. */
	ok: boolean;
}

/** A live update of the host with each fault in turn. The host stays as it is. */
export async function injectAll(host: Host, options: UpdateOptions = {}): Promise<FaultResult[]> {
	const results: FaultResult[] = [];
	for (const fault of faults) results.push(await inject(host, fault, options));
	return results;
}

/**
 * A live update with a fault.
 * @throws what is no XluError: a defect
 */
export async function inject(host: Host, fault: Fault, options: UpdateOptions = {}): Promise<FaultResult> {
	const nothing = { fault: fault.name, outcome: null, stage: null, code: null, rule: null };
	try {
		const { identical } = await liveUpdate(host, { ...options, fault });
		const outcome = identical ? ("updated" as const) : null;
		const ok = outcome === fault.expected.outcome;
		return { ...nothing, outcome, message: "the update ended as if nothing had been", ok };
	} catch (error) {
		if (!(error instanceof XluError)) throw error;
		const { outcome = null, stage = null, code, rule = null, message } = error;
		const { expected } = fault;
		const ok =
			outcome === expected.outcome &&
			stage === expected.stage &&
			code === expected.code &&
			(expected.rule === undefined || rule === expected.rule);
		return { fault: fault.name, outcome, stage, code, rule, message, ok };
	}
}
