/** xlu extract HOST --domain N -o BUNDLE: what one domain needs to move without its co-operation. */
import { extractDomain } from "../bundle/extract.ts";
import { loadCore } from "../core/load.ts";
import { EXIT, XluError } from "../errors.ts";
import { loadHost } from "../host.ts";
import { print, printJson, progress, progressDone, writeFiles } from "./output.ts";

export interface ExtractOptions {
	domain: number;
	output: string;
	json: boolean;
}

export async function extract(path: string, options: ExtractOptions): Promise<number> {
	const { domain: domid, output } = options;
	if (output === "-" && options.json) {
		throw new XluError("XLU_E_USAGE", "The bundle and --json cannot both go to standard output.", {
			expected: "-o FILE with --json",
			got: "-o -",
		});
	}
	progress(`${path}: reading the host`);
	const host = loadHost(path);
	progress(`${path}: extracting domain ${domid}`);
	const { bundle, assumptions } = extractDomain(await loadCore(), host, domid);
	progressDone();
	if (output === "-") {
		await new Promise<void>((resolve, reject) => {
			process.stdout.write(bundle, (error) => (error ? reject(error) : resolve()));
		});
		return EXIT.done;
	}
	writeFiles([{ path: output, data: bundle }]);
	if (options.json) {
		printJson({ file: output, domid, bundleBytes: bundle.length, assumptions });
		return EXIT.done;
	}
	print(`${output}: domain ${domid} of ${host.name}, ${bundle.length} octets`);
	for (const { what, how } of assumptions) print(`  ${what}: ${how}`);
	return EXIT.done;
}
