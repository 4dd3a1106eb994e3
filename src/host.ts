/**
 * A HOST as the commands take it: a captured directory, read, turned into a model, listed with what was assumed; or a
 * line that says what to make, `synthetic:domains=8,layout=typical`.
 */
import { type Stats, statSync } from "node:fs";
import type { Assumption } from "./capture/import/index.ts";
import { importCapture } from "./capture/import/index.ts";
import { readCapture } from "./capture/read.ts";
import { XluError } from "./errors.ts";
import type { HostModel, PreservedPages } from "./machine/model.ts";
import type { References } from "./machine/references.ts";
import { isSynthetic, parseSynthetic, syntheticHost } from "./machine/synthetic/index.ts";

export interface Host {
	/** Name for reports: the directory's, or a synthetic host's whole line. */
	readonly name: string;
	readonly model: HostModel;
	/** Frames whose content matters to the hypervisor's state: MFN -> 4096 octets. */
	readonly preserved: PreservedPages;
	/** What a capture does not hold and was assigned or defaulted. */
	readonly assumptions: readonly Assumption[];
	/** References as a living machine's history made them; without them they are counted from the tables. */
	readonly references?: References;
}

/**
 * Reads a captured host, or makes a synthetic one.
 * @param path a directory as docs/CAPTURE.md describes it, or `synthetic:` and what docs/CLI.md lists
 * @throws XLU_E_IO if it is no directory, XLU_E_CAPTURE or XLU_E_IMAGE if a file in it is missing or damaged,
 *   XLU_E_USAGE for a synthetic host that cannot be made
 */
export function loadHost(path: string): Host {
	if (isSynthetic(path)) return syntheticHost(parseSynthetic(path));
	if (!isDirectory(path)) {
		throw new XluError("XLU_E_IO", `${path} is not a captured host.`, {
			record: path,
			expected: "a directory with the dumps and images of a host (docs/CAPTURE.md), or synthetic:",
			got: "no directory of that name",
		});
	}
	const capture = readCapture(path);
	const { model, preserved, assumptions } = importCapture(capture);
	return { name: capture.name, model, preserved, assumptions };
}

/** What is at a path; undefined if nothing is, or nothing that could be: a path below a file, a name too long. */
export function statOf(path: string): Stats | undefined {
	try {
		return statSync(path);
	} catch {
		return undefined;
	}
}

/** Whether a name is a host's and no stream's. */
export function isHost(path: string): boolean {
	return isSynthetic(path) || isDirectory(path);
}

export function isDirectory(path: string): boolean {
	return statOf(path)?.isDirectory() ?? false;
}
