/** xlu inspect HOST|FILE: sections and records, one record field by field, event channels, what a capture assumed. */
import { loadCore } from "../core/load.ts";
import { EXIT, XluError } from "../errors.ts";
import { alignUp } from "../format/layout.ts";
import { RECORD_HEADER_BYTES } from "../format/schema.ts";
import { littleStream } from "../formats/xlu/stream.ts";
import { isHost, loadHost } from "../host.ts";
import { openStream } from "../inspect/open.ts";
import {
	type InspectedPort,
	type InspectedRecord,
	inspectRecord,
	portsOf,
	readHeader,
	recordName,
	type WalkedRecord,
	walkRecords,
} from "../inspect/stream.ts";
import { hexLines, visible } from "../inspect/text.ts";
import { saveHost } from "../steps.ts";
import { describeDomains } from "../update.ts";
import { type InspectStreamOptions, inspectStreamFile } from "./formats.ts";
import { colors, print, printJson, progress, progressDone, report, table } from "./output.ts";
import { pagesOf, readMemory, readStream } from "./stream.ts";

export interface InspectOptions extends InspectStreamOptions {
	memory?: string;
}

export async function inspect(path: string, options: InspectOptions): Promise<number> {
	return path !== "-" && isHost(path) ? inspectHost(path, options) : inspectFile(path, options);
}

/** A host: what it is, what was assumed, and the stream that it would be saved as. */
async function inspectHost(path: string, options: InspectOptions): Promise<number> {
	progress(`${path}: reading the host`);
	const host = loadHost(path);
	const core = await loadCore();
	const { stream, image } = saveHost(core, host);
	progressDone();
	const bytes = core.bytes(stream).slice();
	const domains = describeDomains(core.bytes(image)).map(({ passMs: _, ...domain }) => domain);
	const extra = { host: host.name, domains, assumptions: host.assumptions };
	const status = show(path, bytes, (mfn) => host.preserved.get(mfn), options, extra);
	if (options.json || options.record !== undefined) return status;
	print(colors.bold("domains"));
	print(
		table(
			["domid", "kind", "vcpus", "frames", "ports", "grant mappings"],
			domains.map((d) => [d.domid, d.kind, d.vcpus, d.frames, d.ports, d.grantMappings]),
		),
	);
	if (host.assumptions.length === 0) return status;
	print(`\n${colors.bold("assigned or defaulted, because a capture does not hold it")}`);
	print(
		table(
			["domid", "what", "how"],
			host.assumptions.map(({ domid, what, how }) => [domid ?? "host", what, how]),
		),
	);
	return status;
}

/** A stream: shown as far as it goes; a live-update stream's framing is then judged by the core. */
async function inspectFile(path: string, options: InspectOptions): Promise<number> {
	const opened = await openStream(path);
	const { reader, format } = opened;
	try {
		if (format) return await inspectStreamFile(path, { ...opened, format }, options);
		return await inspectLiveUpdate(path, await readStream(reader), options);
	} finally {
		await reader.close();
	}
}

async function inspectLiveUpdate(path: string, stream: Uint8Array, options: InspectOptions): Promise<number> {
	const { memory } = await readMemory(path, options.memory);
	const status = show(path, stream, pagesOf(memory), options, {});
	if (status !== EXIT.done) return status;
	const core = await loadCore();
	const context = core.createContext();
	try {
		context.open(core.place(stream));
	} catch (error) {
		return report(error, false);
	}
	return EXIT.done;
}

function show(
	path: string,
	stream: Uint8Array,
	pageOf: (mfn: number) => Uint8Array | undefined,
	options: InspectOptions,
	extra: object,
): number {
	const header = readHeader(stream);
	const walked: WalkedRecord[] = [];
	let failure: unknown;
	try {
		for (const record of walkRecords(littleStream(stream))) walked.push(record);
	} catch (error) {
		failure = error;
	}
	if (options.record !== undefined) {
		const record = walked[options.record];
		if (!record) {
			throw new XluError("XLU_E_USAGE", `There is no record ${options.record}.`, {
				expected: `0 to ${walked.length - 1}`,
				got: `${options.record}`,
			});
		}
		const one = inspectRecord(record, Number.POSITIVE_INFINITY);
		if (options.json) printJson(one);
		else if (options.hex) print([...hexLines(octetsOf(stream, record), record.offset)].join("\n"));
		else showRecord(one);
		return EXIT.done;
	}
	// On a terminal the list shows no rows; --record shows one record whole.
	const records = walked.map((record) => inspectRecord(record, options.json ? Number.POSITIVE_INFINITY : 0));
	const ports = portsOf(walked, pageOf);
	if (options.json) printJson({ format: "xlu", ...header, records, ports, ...extra });
	else if (options.tree) showTree(path, records);
	else if (options.hex) showOctets(path, stream, walked);
	else showStream(path, header, records, ports);
	return failure ? report(failure, false) : EXIT.done;
}

/** A record with its header and padding. */
function octetsOf(stream: Uint8Array, { offset, body }: WalkedRecord): Uint8Array {
	return stream.subarray(offset, offset + RECORD_HEADER_BYTES + alignUp(body.length, RECORD_HEADER_BYTES));
}

/** Sections, and below each its records. */
function showTree(path: string, records: readonly InspectedRecord[]): void {
	print(colors.bold(path));
	for (const { name, pass, domid, index, length } of records) {
		const whose = domid === null ? "the host" : `domain ${domid}`;
		if (name === "LU_SECTION") print(`  section ${pass}, ${whose}`);
		else print(`${pass === null ? "  " : "    "}${index}  ${name}, ${length} octets`);
	}
}

function showOctets(path: string, stream: Uint8Array, walked: readonly WalkedRecord[]): void {
	print(colors.bold(path));
	for (const record of walked) {
		print(`${record.index}  ${recordName(record.type)}`);
		for (const line of hexLines(octetsOf(stream, record), record.offset)) print(`        ${line}`);
	}
}

function showStream(
	path: string,
	header: { version: number; endianness: string },
	records: readonly InspectedRecord[],
	ports: readonly InspectedPort[],
): void {
	print(colors.bold(`${path}: live-update stream, version ${header.version}, ${header.endianness}-endian`));
	const rows = records.map(({ index, pass, domid, name, offset, length }) => [
		index,
		pass ?? "",
		domid ?? "",
		name,
		offset,
		length,
	]);
	print(table(["record", "section", "domid", "name", "offset", "length"], rows));
	if (ports.length === 0) return;
	print(`\n${colors.bold("event channels")}`);
	const bit = (value: boolean | null) => (value === null ? "?" : value ? "1" : "0");
	const states = ["free", "reserved", "unbound", "interdomain", "PIRQ", "VIRQ", "IPI"];
	const portRows = ports.map((port) => [
		port.domid,
		port.port,
		states[port.state] ?? port.state,
		port.vcpu,
		port.remoteDomid === null
			? ""
			: `d${port.remoteDomid}${port.remotePort === null ? "" : ` port ${port.remotePort}`}`,
		port.virq ?? port.pirq ?? "",
		bit(port.pending),
		bit(port.masked),
	]);
	print(table(["domid", "port", "state", "vcpu", "remote", "virq/pirq", "pending", "masked"], portRows));
	print("");
}

function showRecord(record: InspectedRecord): void {
	const { index, name, offset, length, pass, domid, fields } = record;
	print(
		colors.bold(
			`record ${index}: ${name}, offset ${offset}, ${length} octets${pass ? `, section ${pass}` : ""}${domid === null ? "" : `, domain ${domid}`}`,
		),
	);
	for (const [field, value] of Object.entries(fields)) {
		if (!Array.isArray(value) || value.length === 0 || typeof value[0] !== "object") {
			print(`  ${field.padEnd(22)} ${visible(Array.isArray(value) ? value.join(" ") : `${value}`)}`);
			continue;
		}
		print(`  ${field} (${value.length})`);
		const names = [...new Set(value.flatMap((row: object) => Object.keys(row)))];
		const cells = value.map((row: Record<string, unknown>) => names.map((key) => `${row[key] ?? ""}`));
		print(table(names, cells).replace(/^/gm, "    "));
	}
}
