/** xlu save HOST -o FILE: the stream as FILE, the preserved memory beside it as FILE.mem. */
import { type Core, loadCore } from "../core/load.ts";
import { gather, saveInSteps, TablesInMemory } from "../core/windows.ts";
import { EXIT, XluError } from "../errors.ts";
import { type Host, loadHost } from "../host.ts";
import { buildDetachedImage } from "../machine/image.ts";
import { openAndCheck, placeMemory, type SavedHost, saveHost } from "../steps.ts";
import { isDevice, print, printJson, progress, progressDone, writeFiles } from "./output.ts";

export interface SaveOptions {
	output: string;
	/** Where the preserved memory goes; FILE.mem by default. */
	memory?: string;
	/** Version of the stream's format, by default the newest. */
	format?: number;
	/** Octets of the window that the stream goes through; all at once by default. */
	window?: number;
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
	const isInSteps = options.window !== undefined;
	const { stream, memory } = isInSteps ? await saveThrough(core, host, options) : saveHost(core, host, options.format);
	// A stream that nobody could restore is not written.
	openAndCheck(core, stream, memory, { newest: options.format, detached: isInSteps });
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

/** The same stream through a window, with the bulk tables beside the core's memory: they may be larger than that. */
async function saveThrough(core: Core, host: Host, options: SaveOptions): Promise<Omit<SavedHost, "image">> {
	const { window: windowBytes, format } = options;
	const { image, bulk } = buildDetachedImage(host.model, host.preserved, host.references);
	const pieces = saveInSteps(core, core.place(image), new TablesInMemory(bulk), { windowBytes, format });
	const octets = await gather(pieces);
	core.reset();
	const stream = core.place(octets);
	return { stream, memory: placeMemory(core, host.preserved, stream) };
}
