/**
 * A HOST as the commands take it: a captured directory, read, turned into a model, listed with what was assumed; or a
 * line that says what to make, `synthetic:domains=8,layout=typical`.
 */
import { readFileSync, type Stats, statSync } from "node:fs";
import { join } from "node:path";
import { parseStoreListing, type Store } from "./bundle/store.ts";
import { parseStoreDump } from "./bundle/storeStream.ts";
import type { XlInfo } from "./capture/host.ts";
import type { Assumption } from "./capture/import/index.ts";
import { importCapture } from "./capture/import/index.ts";
import { readCapture } from "./capture/read.ts";
import { XluError } from "./errors.ts";
import type { HostModel, PreservedPages, PvLayout } from "./machine/model.ts";
import type { Activity } from "./machine/quiesce.ts";
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
	/** References as a living machine's history made them, or a capture's dump counts them; without them they are counted from the tables. */
	readonly references?: References;
	/** What goes on beside the state: what an update waits for, and what it does not begin with. */
	readonly activity?: Activity;
	/** Of PV guests, by domid: how a guest sees its own memory. */
	readonly pvLayouts?: ReadonlyMap<number, PvLayout>;
	/** What the machine offers to guests, where that is known: `xl info`'s virt_caps, xen_caps and the words of hw_caps. */
	readonly capabilities?: Capabilities;
	/** What xenstored holds, where that is known. */
	readonly store?: Store | undefined;
}

export interface Capabilities {
	/** Such as pv, hvm, hap, shadow, gnttab-v2. */
	readonly virt: readonly string[];
	/** Words of the CPU's feature set, in Xen's order. */
	readonly cpu: readonly number[];
	/** Kinds of guests, such as xen-3.0-x86_64, xen-3.0-x86_32p (32-bit PV). */
	readonly xen?: readonly string[];
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
	const { model, preserved, assumptions, references, pvLayouts } = importCapture(capture);
	const capabilities = capabilitiesOf(capture.xlInfo);
	let store: { readonly found: Store | undefined } | undefined;
	return {
		name: capture.name,
		model,
		preserved,
		assumptions,
		references,
		pvLayouts,
		...(capabilities ? { capabilities } : {}),
		// Few ask for it: read when it is asked for.
		get store() {
			store ??= { found: loadStore(capture.directory) };
			return store.found;
		},
	};
}

function capabilitiesOf(info: XlInfo | undefined): Capabilities | undefined {
	if (!info) return undefined;
	const words = (info.fields.get("hw_caps") ?? "").split(":").filter((word) => /^[0-9a-f]{8}$/i.test(word));
	return { virt: info.virtCaps, xen: info.xenCaps, cpu: words.map((word) => Number.parseInt(word, 16)) };
}

/**
 * The store of a capture: a dump of the daemon's state, or else what xenstore-ls printed, which has no watches.
 * @throws XLU_E_CAPTURE if a file is there and cannot be understood, XLU_E_IO if it cannot be read
 */
function loadStore(directory: string): Store | undefined {
	const dump = join(directory, STORE_DUMP);
	const listing = join(directory, STORE_LISTING);
	try {
		if (statOf(dump)?.isFile()) return parseStoreDump(readFileSync(dump), STORE_DUMP);
		if (statOf(listing)?.isFile()) return parseStoreListing(readFileSync(listing, "utf8"), STORE_LISTING);
	} catch (cause) {
		if (cause instanceof XluError && cause.code !== "XLU_E_IMAGE") throw cause;
		const { message, offset, expected, got } = cause as XluError;
		const isDamaged = cause instanceof XluError;
		throw new XluError(isDamaged ? "XLU_E_CAPTURE" : "XLU_E_IO", `${STORE_DUMP}: ${message}`, {
			record: STORE_DUMP,
			...(isDamaged ? { offset, expected, got } : { expected: "a readable file", got: "none" }),
			cause,
		});
	}
	return undefined;
}

const STORE_DUMP = "xenstore.dump";
const STORE_LISTING = "xenstore-ls.txt";

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
