/** xlu diff A B: what two streams say differently. */
import { EXIT, XluError } from "../errors.ts";
import { Findings } from "../formats/common/findings.ts";
import type { Format } from "../formats/common/format.ts";
import type { Fields } from "../formats/common/record.ts";
import { differences, FactCollector, type Facts, type StreamDifference } from "../inspect/diff.ts";
import { openStream } from "../inspect/open.ts";
import { inspectRecord, walkRecords } from "../inspect/stream.ts";
import { type FormatOptions, readItems } from "./formats.ts";
import { lineOutput } from "./lines.ts";
import { print, progressDone } from "./output.ts";
import { readStream } from "./stream.ts";

export interface DiffOptions extends FormatOptions {
	json: boolean;
}

interface ReadStream {
	kind: string;
	facts: Facts;
}

async function factsOf(path: string, options: DiffOptions): Promise<ReadStream> {
	const { reader, format } = await openStream(path);
	try {
		return format ? await readFacts(format) : { kind: "xlu", facts: liveUpdateFacts(await readStream(reader)) };
	} finally {
		await reader.close();
		progressDone();
	}

	async function readFacts(format: Format): Promise<ReadStream> {
		const collector = new FactCollector();
		for await (const item of readItems(format, reader, new Findings(), "hash", options)) collector.add(item);
		return { kind: format.name, facts: collector.facts };
	}
}

function liveUpdateFacts(stream: Uint8Array): Facts {
	const collector = new FactCollector();
	for (const walked of walkRecords(stream)) {
		const { name, pass, domid, fields } = inspectRecord(walked, Number.POSITIVE_INFINITY);
		// Sections and the index say where things are, not what they are.
		if (name === "LU_SECTION" || name === "LU_INDEX") continue;
		const place = domid === null ? (pass ?? "") : `${pass} d${domid}`;
		collector.addNamed(`xlu ${name} ${place}`.trimEnd(), fields as Fields);
	}
	return collector.facts;
}

export async function diff(a: string, b: string, options: DiffOptions): Promise<number> {
	const left = await factsOf(a, options);
	const right = await factsOf(b, options);
	if (left.kind !== right.kind) {
		throw new XluError("XLU_E_USAGE", `${a} and ${b} are of different formats.`, {
			expected: `two streams of ${left.kind}`,
			got: `${left.kind} and ${right.kind}`,
		});
	}
	const output = lineOutput();
	let count = 0;
	if (options.json) await output.text(`{"format":${JSON.stringify(left.kind)},"differences":[`);
	for (const difference of differences(left.facts, right.facts)) {
		if (options.json) await output.text(`${count === 0 ? "" : ","}${JSON.stringify(difference)}`);
		else await output.line(differenceLine(difference));
		count++;
	}
	if (options.json) await output.line(`],"identical":${count === 0}}`);
	await output.end();
	if (!options.json) print(count === 0 ? "no difference" : `${count} differences`);
	return count === 0 ? EXIT.done : EXIT.refused;
}

function differenceLine({ where, field, a, b }: StreamDifference): string {
	if (field === null) return `${where}: only in ${a === null ? "the second" : "the first"}`;
	const shown = (value: unknown) =>
		value === null ? "nothing" : typeof value === "string" ? value : JSON.stringify(value);
	return `${where}: ${field}: ${shown(a)} -> ${shown(b)}`;
}
