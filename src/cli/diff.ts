/** xlu diff A B: what two streams say differently. */
import { EXIT, XluError } from "../errors.ts";
import { Findings } from "../formats/common/findings.ts";
import type { Format } from "../formats/common/format.ts";
import { differences, FactCollector, type Facts, liveUpdateFacts, type StreamDifference } from "../inspect/diff.ts";
import { openStream } from "../inspect/open.ts";
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
