/** xlu restore FILE: the three passes into a fresh image, its digest, and on request a comparison with a host. */
import { loadCore } from "../core/load.ts";
import { EXIT } from "../errors.ts";
import { loadHost } from "../host.ts";
import { buildImage } from "../machine/image.ts";
import { openAndCheck, restorePasses } from "../steps.ts";
import { describeDomains } from "../update.ts";
import { colors, print, printJson, table } from "./output.ts";
import { differenceText } from "./run.ts";
import { needMemory, readStreamFile } from "./stream.ts";

function imageOf(host: string): Uint8Array {
	const { model, preserved } = loadHost(host);
	return buildImage(model, preserved);
}

export async function restore(
	path: string,
	options: { memory?: string; compare?: string; json: boolean },
): Promise<number> {
	const file = await readStreamFile(path, options.memory);
	const core = await loadCore();
	const stream = core.place(file.stream);
	// Damage is said before what is missing beside the stream.
	if (!file.memory) openAndCheck(core, stream, undefined);
	const memory = core.place(needMemory(file, path));
	const { context, imageBytes } = openAndCheck(core, stream, memory);
	const target = core.allocate(imageBytes);
	context.target(target);
	restorePasses(context, context.domids());
	const digest = `0x${core.createContext().digest(target).toString(16).padStart(16, "0")}`;
	const difference = options.compare
		? (core.createContext().compare(core.place(imageOf(options.compare)), target) ?? null)
		: undefined;
	const domains = describeDomains(core.bytes(target)).map(({ passMs: _, ...domain }) => domain);
	if (options.json) {
		printJson({
			file: path,
			digest,
			imageBytes,
			domains,
			...(difference === undefined ? {} : { identical: difference === null, difference }),
		});
	} else {
		const rows = domains.map(({ domid, kind, vcpus, frames, ports, grantMappings }) => [
			domid,
			kind,
			vcpus,
			frames,
			ports,
			grantMappings,
		]);
		print(table(["domid", "kind", "vcpus", "frames", "ports", "grant mappings"], rows));
		print(`restored ${domains.length} domains, image ${imageBytes} octets, digest ${digest}`);
		if (difference) print(colors.red(`different from ${options.compare}: ${differenceText(difference)}`));
		else if (difference === null) print(colors.green(`identical to ${options.compare}`));
	}
	return difference ? EXIT.refused : EXIT.done;
}
