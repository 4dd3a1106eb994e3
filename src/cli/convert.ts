/** xlu convert IN -o OUT --to FORM: the output appears whole or not at all. */
import { EXIT } from "../errors.ts";
import { FileSink } from "../formats/common/sink.ts";
import { type ConvertOptions, convertStream, type Form } from "../inspect/convert.ts";
import { openStream } from "../inspect/open.ts";
import { type FormatOptions, howToRead } from "./formats.ts";
import { print, printJson, progress, progressDone } from "./output.ts";
import { progressText } from "./stream.ts";

export interface ConvertCommandOptions extends FormatOptions {
	output: string;
	use?: NonNullable<ConvertOptions["use"]>;
	to?: Form;
	json: boolean;
}

export async function convert(path: string, options: ConvertCommandOptions): Promise<number> {
	const opened = await openStream(path);
	const sink = new FileSink(options.output);
	// A signal ends the process without unwinding: the unfinished file goes as well.
	const discard = () => {
		sink.discard();
		process.exit(130);
	};
	process.once("SIGINT", discard);
	process.once("SIGTERM", discard);
	try {
		const result = await convertStream(opened, sink, options.to, {
			...howToRead(options),
			...(options.use ? { use: options.use } : {}),
			onProgress: (offset) => progress(progressText(opened.reader, offset)),
		});
		await sink.commit();
		progressDone();
		if (options.output === "-") return EXIT.done;
		if (options.json) {
			printJson({ file: options.output, bytes: sink.length, ...result });
			return EXIT.done;
		}
		for (const { what, why } of result.dropped) print(`left out: ${what}: ${why}`);
		print(`${options.output}: ${result.form}, ${sink.length} octets`);
		return EXIT.done;
	} finally {
		progressDone();
		await sink.abort();
		await opened.reader.close();
		process.off("SIGINT", discard);
		process.off("SIGTERM", discard);
	}
}
