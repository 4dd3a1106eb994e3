/** xlu save HOST -o FILE: the stream as FILE, the preserved memory beside it as FILE.mem. */
import { loadCore } from "../core/load.ts";
import { EXIT, XluError } from "../errors.ts";
import { loadHost } from "../host.ts";
import { openAndCheck, saveHost } from "../steps.ts";
import { isDevice, print, printJson, progress, progressDone, writeFiles } from "./output.ts";

export interface SaveOptions {
	output: string;
	/** Where the preserved memory goes; FILE.mem by default. */
	memory?: string;
	/** Version of the stream's format, by default the newest. */
	format?: number;
	json: boolean;
}

export async function save(path: string, options: SaveOptions): Promise<number> {
	const toPipe = options.output === "-";
	if (toPipe && options.json) {
		throw new XluError("XLU_E_USAGE", "The stream and --json cannot both go to standard output.", {
			expected: "-o FILE with --json",
			got: "-o -",
		});
	}
	if (options.memory === "-") {
		throw new XluError("XLU_E_USAGE", "The preserved memory goes to a file, not to standard output.", {
			expected: "--memory FILE",
			got: "--memory -",
		});
	}
	progress(`${path}: reading the host`);
	const host = loadHost(path);
	const core = await loadCore();
	progress(`${path}: saving`);
	const { stream, memory } = saveHost(core, host, options.format);
	// A stream that nobody could restore is not written.
	openAndCheck(core, stream, memory, false, options.format);
	progressDone();
	const hasNoFile = toPipe || isDevice(options.output);
	const memoryPath = options.memory ?? (hasNoFile ? undefined : `${options.output}.mem`);
	const files = memoryPath ? [{ path: memoryPath, data: core.bytes(memory) }] : [];
	if (toPipe) {
		writeFiles(files);
		await new Promise<void>((resolve, reject) => {
			process.stdout.write(core.bytes(stream), (error) => (error ? reject(error) : resolve()));
		});
		if (!memoryPath) process.stderr.write("xlu: the preserved memory was not written; give --memory FILE to keep it\n");
		return EXIT.done;
	}
	writeFiles([...files, { path: options.output, data: core.bytes(stream) }]);
	if (options.json) {
		printJson({ file: options.output, memory: memoryPath, streamBytes: stream.length, memoryBytes: memory.length });
	} else {
		const where = memoryPath ?? "not written";
		print(`${options.output}: ${stream.length} octets; ${where}: ${memory.length} octets of preserved memory`);
	}
	return EXIT.done;
}
