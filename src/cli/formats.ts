/** Xen's own streams in the commands inspect and verify: an item at a time, whatever a stream's size. */
import { EXIT, XluError } from "../errors.ts";
import { Findings, type FormatFinding, findingText } from "../formats/common/findings.ts";
import type { Format, ReadOptions } from "../formats/common/format.ts";
import type { StreamReader } from "../formats/common/reader.ts";
import type { Layer, PageContents, StreamItem } from "../formats/common/record.ts";
import type { Daemon, Dialect } from "../formats/xenstore/daemons.ts";
import { xenstoreJson } from "../formats/xenstore/json.ts";
import { addToXenstore, emptyXenstore } from "../formats/xenstore/model.ts";
import { treeLines } from "../formats/xenstore/tree.ts";
import type { OpenStream } from "../inspect/open.ts";
import { streamFinding, verifyStream } from "../inspect/streams.ts";
import { brief, fieldLines, hexLines } from "../inspect/text.ts";
import { lineOutput } from "./lines.ts";
import { colors, print, printJson, progress, progressDone, report } from "./output.ts";
import { progressText } from "./stream.ts";

/** What tells one way of reading a format from another. */
export interface FormatOptions {
	strict?: boolean;
	/** As the option gives it: a string of digits. */
	width?: "32" | "64";
	guestType?: NonNullable<ReadOptions["guestType"]>;
	/** Of xenstore streams. */
	dialect?: Dialect;
	for?: Daemon;
	fds?: ReadonlySet<number>;
}

/** The options that all reading takes, as `read` wants them. */
export function howToRead({ width, guestType, dialect, for: daemon, fds }: FormatOptions) {
	return {
		...(width ? { width: Number(width) as 32 | 64 } : {}),
		...(guestType ? { guestType } : {}),
		...(dialect ? { dialect } : {}),
		...(daemon ? { daemon } : {}),
		...(fds ? { descriptors: fds } : {}),
	};
}

/** Reads with a line of progress; long inputs only show it. */
export function readItems(
	format: Format,
	reader: StreamReader,
	findings: Findings,
	pages: PageContents,
	options: FormatOptions,
): AsyncGenerator<StreamItem> {
	const onProgress = (offset: number) => progress(progressText(reader, offset));
	return format.read(reader, { findings, pages, ...howToRead(options), onProgress });
}

export interface InspectStreamOptions extends FormatOptions {
	json: boolean;
	record?: number;
	hex?: boolean;
	tree?: boolean;
}

const recordJson = ({ index, layer, type, name, offset, length, fields }: StreamItem) =>
	JSON.stringify({ index, layer, type, name, offset, length, fields });

export async function inspectStreamFile(
	path: string,
	{ reader, format }: OpenStream & { format: Format },
	options: InspectStreamOptions,
): Promise<number> {
	const findings = new Findings({ strict: options.strict === true });
	const pages = options.hex || options.record !== undefined ? "keep" : "summary";
	const items = readItems(format, reader, findings, pages, options);
	if (options.record !== undefined) return inspectOne(items, options.record, options);
	return options.json ? inspectJson(items, findings) : inspectText(path, items, findings, options);
}

async function inspectOne(
	items: AsyncGenerator<StreamItem>,
	wanted: number,
	options: InspectStreamOptions,
): Promise<number> {
	let last = -1;
	for await (const item of items) {
		last = item.index;
		if (item.index !== wanted) continue;
		progressDone();
		if (options.json) {
			print(recordJson(item));
			return EXIT.done;
		}
		const output = lineOutput();
		const { layer, name, offset, length } = item;
		await output.line(colors.bold(`record ${wanted}: ${layer} ${name}, offset ${offset}, ${length} octets`));
		if (options.hex) for (const line of hexLines(item.octets ?? new Uint8Array(), offset)) await output.line(line);
		else for (const line of fieldLines(item.fields)) await output.line(line);
		await output.end();
		return EXIT.done;
	}
	progressDone();
	throw new XluError("XLU_E_USAGE", `There is no record ${wanted}.`, { expected: `0 to ${last}`, got: `${wanted}` });
}

/** One object on one line, written as the stream is read. */
async function inspectJson(items: AsyncGenerator<StreamItem>, findings: Findings): Promise<number> {
	const output = lineOutput();
	let failure: unknown;
	let layer: Layer | undefined;
	const store = emptyXenstore();
	try {
		for await (const item of items) {
			if (item.layer === "xenstore" && (layer ?? item.layer) === "xenstore") addToXenstore(store, item);
			await output.text(layer === undefined ? `{"format":${JSON.stringify(item.layer)},"records":[` : ",");
			layer ??= item.layer;
			await output.text(recordJson(item));
		}
	} catch (error) {
		if (!(error instanceof XluError)) throw error;
		failure = error;
	}
	progressDone();
	if (layer !== undefined) {
		await output.text("]");
		if (layer === "xenstore") for (const piece of xenstoreJson(store)) await output.text(piece);
		await output.line(`,"findings":${JSON.stringify(findings.list.map(streamFinding))}}`);
		await output.end();
	}
	return failure === undefined ? EXIT.done : report(failure, layer === undefined);
}

/** Deeper layers stand further to the right. */
const depths: Readonly<Record<Layer, number>> = {
	bundle: 0,
	xl: 0,
	libxl: 1,
	xlu: 1,
	libxc: 2,
	legacy: 2,
	xenstore: 1,
};

async function inspectText(
	path: string,
	items: AsyncGenerator<StreamItem>,
	findings: Findings,
	options: InspectStreamOptions,
): Promise<number> {
	const output = lineOutput();
	let failure: unknown;
	let outermost = 0;
	const store = emptyXenstore();
	let isStore = false;
	try {
		for await (const item of items) {
			const { index, layer, name, offset, length, fields } = item;
			if (index === 0) {
				progressDone();
				outermost = depths[layer];
				await output.line(colors.bold(`${path}: ${layer} stream`));
				if (!options.tree)
					await output.line("record  layer     name                        offset       length  fields");
				isStore = options.tree === true && layer === "xenstore";
			}
			if (isStore) {
				addToXenstore(store, item);
				continue;
			}
			if (options.tree) {
				const indent = "  ".repeat(depths[layer] - outermost + (item.kind === "record" ? 1 : 0));
				await output.line(`${indent}${item.kind === "header" ? `${layer} ` : ""}${name}  ${brief(fields)}`.trimEnd());
				continue;
			}
			const row = [
				`${index}`.padStart(6),
				layer.padEnd(8),
				name.padEnd(26),
				`0x${offset.toString(16)}`.padStart(12),
				`${length}`.padStart(9),
				brief(fields),
			];
			await output.line(row.join("  ").trimEnd());
			if (options.hex) {
				for (const line of hexLines(item.octets ?? new Uint8Array(), offset)) await output.line(`        ${line}`);
			}
		}
	} catch (error) {
		if (!(error instanceof XluError)) throw error;
		failure = error;
	}
	progressDone();
	if (isStore) for (const line of treeLines(store)) await output.line(line);
	const shown = findings.list.filter(({ isError }) => failure === undefined || !isError);
	if (shown.length > 0) {
		await output.line(`\n${colors.bold("what xlu verify says")}`);
		for (const finding of shown) await output.line(findingLine(finding));
	}
	await output.end();
	return failure === undefined ? EXIT.done : report(failure, false);
}

export function findingLine(finding: FormatFinding): string {
	return `${finding.isError ? "" : "warning: "}${findingText(finding)}`;
}

/** The verdict: every rule that the stream breaks, and what it ends in. */
export async function verifyStreamFile(
	path: string,
	opened: OpenStream & { format: Format },
	options: FormatOptions & { json: boolean },
): Promise<number> {
	const findings = new Findings({ strict: options.strict === true });
	const onProgress = (offset: number) => progress(progressText(opened.reader, offset));
	const verdict = await verifyStream(opened, { findings, ...howToRead(options), onProgress });
	progressDone();
	const { exitStatus, ok, format, ...rest } = verdict;
	if (options.json) {
		printJson({ ok, format, ...(options.for ? { for: options.for } : {}), ...rest });
		return exitStatus;
	}
	for (const finding of findings.list) print(findingLine(finding));
	if (findings.dropped > 0) print(`and ${findings.dropped} more`);
	if (ok) {
		const warned = rest.warnings.length > 0 ? `, ${rest.warnings.length} warnings` : "";
		print(colors.green(`${path}: ${format} stream, ${rest.records} records, every rule holds${warned}`));
	} else {
		print(`${path}: refused; xlu explain ${findings.errors[0]?.rule.code} says why`);
	}
	return exitStatus;
}
