/** The commands on streams as functions: items of a stream, what its reader would say, what two streams say differently. */
import type { Core } from "../core/load.ts";
import { EXIT, XluError } from "../errors.ts";
import { Findings, type FormatFinding, findingText } from "../formats/common/findings.ts";
import type { ReadOptions } from "../formats/common/format.ts";
import type { Layer, StreamItem } from "../formats/common/record.ts";
import { xluItems } from "../formats/xlu/stream.ts";
import { type CheckResult, LiveUpdate, load } from "../library.ts";
import { differences, FactCollector, type Facts, liveUpdateFacts, type StreamDifference } from "./diff.ts";
import { type OpenStream, readLiveUpdate, readWhole } from "./open.ts";

export interface ItemOptions extends Partial<ReadOptions> {
	/** Of a live-update stream: what makes its checksums; by default a new core. */
	readonly core?: Core;
}

/**
 * The items of an open stream of any format, in its order: headers, records, what follows the end. Nested layers are flattened.
 * Bounded memory but for a live-update stream, which is read whole.
 * @throws XLU_E_IMAGE, XLU_E_VERSION, XLU_E_DAMAGED where the framing ends; items before it have been given by then
 */
export async function* readItems(
	{ reader, format }: OpenStream,
	{ core, findings = new Findings(), pages = "summary", ...options }: ItemOptions = {},
): AsyncGenerator<StreamItem, void> {
	if (format) yield* format.read(reader, { findings, pages, ...options });
	else yield* xluItems(await readWhole(reader, options.onProgress), core);
}

/** A broken rule. Keys that do not apply are null. */
export interface StreamFinding {
	/** `XLU-...` */
	readonly rule: string | null;
	readonly severity: "damaged" | "refused" | "warning";
	readonly layer: Layer;
	readonly domid: number | null;
	readonly record: string | null;
	/** Octets from the start of the stream to the record. */
	readonly offset: number | null;
	readonly field: string | null;
	readonly expected: string | null;
	readonly got: string | null;
	/** All of it in one sentence. */
	readonly message: string;
}

export interface StreamVerdict {
	/** Whether its reader would take it. */
	readonly ok: boolean;
	/** The outermost layer. */
	readonly format: Layer;
	/** Items that were read. */
	readonly records: number;
	readonly findings: readonly StreamFinding[];
	readonly warnings: readonly StreamFinding[];
	/** Findings beyond those that are kept. */
	readonly notShown: number;
	/** Rules that need what was not given. */
	readonly notCheckable: readonly string[];
	/** What the command ends in: 0, 1 (refused), 3 (damaged). */
	readonly exitStatus: number;
}

export interface VerifyStreamOptions extends Omit<ItemOptions, "pages"> {
	/** The document's letter; by default what real programs accept. Of Xen's own streams. */
	readonly strict?: boolean;
	/** Of a live-update stream: the preserved memory. */
	readonly memory?: Uint8Array;
}

/** A finding of Xen's own formats as a verdict has it. */
export function streamFinding(finding: FormatFinding): StreamFinding {
	const { rule, isError, layer, record, offset, field, domid, expected, got } = finding;
	return {
		rule: rule.code,
		severity: isError ? (rule.severity === "damaged" ? "damaged" : "refused") : "warning",
		layer,
		domid: domid ?? null,
		record,
		offset,
		field: field ?? null,
		expected,
		got,
		message: findingText(finding),
	};
}

/**
 * Holds a stream of any format against all its rules, to its end. What it says is the result; a page's contents are passed
 * over, since no rule is about them.
 * @throws XLU_E_IO where the stream cannot be read
 */
export async function verifyStream(opened: OpenStream, options: VerifyStreamOptions = {}): Promise<StreamVerdict> {
	const { strict = false, memory, findings = new Findings({ strict }), ...how } = options;
	const { reader, format } = opened;
	if (!format) return await verifyLiveUpdate(await readLiveUpdate(reader, options.onProgress), memory, options.core);
	let layer: Layer | undefined;
	let records = 0;
	try {
		for await (const item of readItems(opened, { ...how, findings, pages: "skip" })) {
			layer ??= item.layer;
			records++;
		}
	} catch (error) {
		// What ends the reading is a finding as well; a file that cannot be read is none.
		if (!(error instanceof XluError) || findings.errors.length === 0) throw error;
	}
	const { errors } = findings;
	const isDamaged = errors.some(({ rule }) => rule.severity === "damaged");
	return {
		ok: errors.length === 0,
		format: layer ?? format.name,
		records,
		findings: errors.map(streamFinding),
		warnings: findings.list.filter(({ isError }) => !isError).map(streamFinding),
		notShown: findings.dropped,
		notCheckable: [],
		exitStatus: isDamaged ? EXIT.damaged : errors.length > 0 ? EXIT.refused : EXIT.done,
	};
}

async function verifyLiveUpdate(stream: Uint8Array, memory?: Uint8Array, core?: Core): Promise<StreamVerdict> {
	const result: CheckResult = (core ? new LiveUpdate(core) : await load()).check(stream, memory);
	const severity = result.exitStatus === EXIT.damaged ? "damaged" : "refused";
	let records = 0;
	try {
		for await (const _ of xluItems(stream, core)) records++;
	} catch (error) {
		// The verdict has it.
		if (!(error instanceof XluError)) throw error;
	}
	return {
		ok: result.ok,
		format: "xlu",
		records,
		findings: result.findings.map((finding) => ({ ...finding, severity, layer: "xlu" })),
		warnings: [],
		notShown: 0,
		notCheckable: result.notCheckable,
		exitStatus: result.exitStatus,
	};
}

/** What a stream says, to be compared: pages by PFN and hash, records by what they are about. */
export async function streamFacts(opened: OpenStream, options: Omit<ItemOptions, "pages"> = {}): Promise<Facts> {
	if (!opened.format) return liveUpdateFacts(await readWhole(opened.reader, options.onProgress));
	const collector = new FactCollector();
	for await (const item of readItems(opened, { ...options, pages: "hash" })) collector.add(item);
	return collector.facts;
}

/** The format of an open stream. */
export const formatName = ({ format }: OpenStream): Layer => format?.name ?? "xlu";

/** @throws XLU_E_USAGE where two streams are of different formats */
export function needSameFormat(a: OpenStream, b: OpenStream): void {
	const [left, right] = [formatName(a), formatName(b)];
	if (left === right) return;
	throw new XluError("XLU_E_USAGE", `${a.reader.source.name} and ${b.reader.source.name} are of different formats.`, {
		expected: `two streams of ${left}`,
		got: `${left} and ${right}`,
	});
}

/**
 * What two streams of a format say differently, not octet by octet.
 * @throws XLU_E_USAGE where they are of different formats
 */
export async function* diffStreams(
	a: OpenStream,
	b: OpenStream,
	options: Omit<ItemOptions, "pages"> = {},
): AsyncGenerator<StreamDifference, void> {
	needSameFormat(a, b);
	const facts = await streamFacts(a, options);
	yield* differences(facts, await streamFacts(b, options));
}
