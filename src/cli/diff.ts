/** xlu diff A B: what two streams say differently. */
import { EXIT } from "../errors.ts";
import { differences, type Facts, type StreamDifference } from "../inspect/diff.ts";
import { type OpenStream, openStream } from "../inspect/open.ts";
import { formatName, needSameFormat, streamFacts } from "../inspect/streams.ts";
import { type FormatOptions, howToRead } from "./formats.ts";
import { lineOutput } from "./lines.ts";
import { print, progress, progressDone } from "./output.ts";
import { progressText } from "./stream.ts";

export interface DiffOptions extends FormatOptions {
	json: boolean;
}

/** A stream that is closed once it is read. */
async function factsOf(opened: OpenStream, options: DiffOptions, other?: OpenStream): Promise<Facts> {
	const { reader } = opened;
	try {
		if (other) needSameFormat(other, opened);
		const onProgress = (offset: number) => progress(progressText(reader, offset));
		return await streamFacts(opened, { ...howToRead(options), onProgress });
	} finally {
		await reader.close();
		progressDone();
	}
}

export async function diff(a: string, b: string, options: DiffOptions): Promise<number> {
	const first = await openStream(a);
	const left = await factsOf(first, options);
	const second = await openStream(b);
	const right = await factsOf(second, options, first);
	const kind = formatName(first);
	const output = lineOutput();
	let count = 0;
	if (options.json) await output.text(`{"format":${JSON.stringify(kind)},"differences":[`);
	for (const difference of differences(left, right)) {
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
		value === null ? "nothing" : typeof value === "string" && !/\s/.test(value) ? value : JSON.stringify(value);
	return `${where}: ${field}: ${shown(a)} -> ${shown(b)}`;
}
