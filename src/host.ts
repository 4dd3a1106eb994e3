/** A HOST as the commands take it: a captured directory, read, turned into a model, listed with what was assumed. */
import { type Stats, statSync } from "node:fs";
import type { Assumption } from "./capture/import/index.ts";
import { importCapture } from "./capture/import/index.ts";
import { readCapture } from "./capture/read.ts";
import { XluError } from "./errors.ts";
import type { HostModel, PreservedPages } from "./machine/model.ts";

export interface Host {
	/** Name for reports: the directory's. */
	readonly name: string;
	readonly model: HostModel;
	/** Frames whose content matters to the hypervisor's state: MFN -> 4096 octets. */
	readonly preserved: PreservedPages;
	/** What a capture does not hold and was assigned or defaulted. */
	readonly assumptions: readonly Assumption[];
}

/**
 * Reads a captured host.
 * @param path a directory as docs/CAPTURE.md describes it
 * @throws XLU_E_IO if it is no directory, XLU_E_CAPTURE or XLU_E_IMAGE if a file in it is missing or damaged
 */
export function loadHost(path: string): Host {
	if (!isDirectory(path)) {
		throw new XluError("XLU_E_IO", `${path} is not a captured host.`, {
			record: path,
			expected: "a directory with the dumps and images of a host (docs/CAPTURE.md)",
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

export function isDirectory(path: string): boolean {
	return statOf(path)?.isDirectory() ?? false;
}
