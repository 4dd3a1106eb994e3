/**
 * What a synthetic host is asked for, in one line:
 *
 *     synthetic:domains=8,memory=256M,vcpus=2,layout=typical,ports=8,grants=16,seed=1
 *
 * Every key may be left out, and stand in any order. Unhappy paths, all XLU_E_USAGE with the key as the field: a key that
 * is unknown, given twice or without a value; a number that is none or out of range; a host too large for the core.
 */
import { XluError } from "../../errors.ts";

export const SYNTHETIC_PREFIX = "synthetic:";

/**
 * How guests' memory lies in the machine.
 * - superpages: 1 GiB and 2 MiB pages, one 2 MiB block in a hundred broken into 4 KiB entries
 * - typical: half 2 MiB pages, half runs of 4 KiB entries of geometric length, mean 64; runs of one owner, mean 350
 * - fragmented: every frame anywhere
 * - adversarial: alternating owners, every second P2M entry a hole, descending MFNs: runs of one entry
 */
export const layouts = ["superpages", "typical", "fragmented", "adversarial"] as const;
export type Layout = (typeof layouts)[number];

/**
 * Bits of PV guests' words; dom0 has 64.
 * - 64: of all
 * - 32: of all, which only version 2 of the stream has; with them come virtual NUMA and shares of the CPU pools
 * - mixed: one of 64 bits, two of 32, two of 64, and so on: of each width some with either ABI of event channels
 */
export const widths = ["64", "32", "mixed"] as const;
export type Width = (typeof widths)[number];

export interface SyntheticSpec {
	/** Guests that live: PV, PVH, HVM in turn. dom0 and a dead domain come on top. */
	domains: number;
	/** Memory of each of them and of dom0, octets, a multiple of 4096. */
	memory: number;
	/** vCPUs of each and of dom0; of two or more a guest has its last one offline. */
	vcpus: number;
	layout: Layout;
	/** Event channels between each guest and dom0, beside those of the console, the store and the emulators. */
	ports: number;
	/** Grants of each guest to dom0's backends. */
	grants: number;
	/** The same spec gives the same host again; another seed, another one. */
	seed: number;
	width: Width;
}

export const syntheticDefaults: Readonly<SyntheticSpec> = {
	domains: 8,
	memory: 256 * 2 ** 20,
	vcpus: 2,
	layout: "typical",
	ports: 8,
	grants: 16,
	seed: 1,
	width: "64",
};

const SUFFIXES: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };
const PAGE = 4096;

type NumberKey = Exclude<keyof SyntheticSpec, "layout" | "width">;

/** Least and greatest value of each number. 128 vCPUs share one page of I/O requests. */
export const syntheticLimits: Readonly<Record<NumberKey, readonly [number, number]>> = {
	domains: [1, 512],
	memory: [4 * 2 ** 20, 64 * 2 ** 30],
	vcpus: [1, 128],
	ports: [0, 1024],
	grants: [0, 1024],
	seed: [0, 2 ** 32 - 1],
};
/** dom0's channels, with some to spare: those of every guest, of the emulators, its own. FIFO has 131,072. */
const DOM0_PORT_LIMIT = 120_000;
/** All of a host's tables have to fit the core's 4 GiB of windows. */
const ALL_MEMORY_LIMIT = 128 * 2 ** 30;

/** Whether a HOST is a synthetic one and no directory. */
export function isSynthetic(host: string): boolean {
	return host.startsWith(SYNTHETIC_PREFIX);
}

function refuse(field: string, expected: string, got: string): XluError {
	return new XluError("XLU_E_USAGE", `synthetic host: ${field}: expected ${expected}, got ${got}.`, {
		record: "synthetic host",
		field,
		expected,
		got,
	});
}

function isKey(key: string): key is keyof SyntheticSpec {
	return Object.hasOwn(syntheticDefaults, key);
}

/** Octets, or a count with a unit, as people write it: 256M. */
function sizeText(octets: number): string {
	const unit = ["G", "M", "K"].find((suffix) => octets % (SUFFIXES[suffix] as number) === 0) ?? "";
	return `${octets / (SUFFIXES[unit] as number)}${unit}`;
}

function parseNumber(key: NumberKey, text: string): number {
	const [least, most] = syntheticLimits[key];
	const show = key === "memory" ? sizeText : String;
	const kind = key === "memory" ? "a size such as 256M (K, M or G), a multiple of 4K," : "a whole number";
	const expected = `${kind} from ${show(least)} to ${show(most)}`;
	const match = (key === "memory" ? /^(\d+)([KMG]?)$/ : /^(\d+)()$/).exec(text);
	const value = match ? Number(match[1]) * (SUFFIXES[match[2] as string] as number) : Number.NaN;
	const fits = value >= least && value <= most && (key !== "memory" || value % PAGE === 0);
	if (!fits) throw refuse(key, expected, text);
	return value;
}

function parseName<T extends string>(key: string, names: readonly T[], text: string): T {
	const found = names.find((name) => name === text);
	if (found === undefined) throw refuse(key, `one of ${names.join(", ")}`, text);
	return found;
}

/**
 * Reads a spec.
 * @param text `synthetic:` and any of its keys
 * @throws XLU_E_USAGE
 */
export function parseSynthetic(text: string): SyntheticSpec {
	if (!isSynthetic(text)) throw refuse("prefix", `a host that starts with ${SYNTHETIC_PREFIX}`, text);
	const spec: SyntheticSpec = { ...syntheticDefaults };
	const seen = new Set<string>();
	const pairs = text.slice(SYNTHETIC_PREFIX.length);
	for (const pair of pairs === "" ? [] : pairs.split(",")) {
		const equals = pair.indexOf("=");
		const key = equals < 0 ? pair : pair.slice(0, equals);
		const value = equals < 0 ? "" : pair.slice(equals + 1);
		if (!isKey(key)) throw refuse("key", `one of ${Object.keys(syntheticDefaults).join(", ")}`, key || "nothing");
		if (value === "") throw refuse(key, `${key}=VALUE`, "no value");
		if (seen.has(key)) throw refuse(key, "one value", "a second one");
		seen.add(key);
		if (key === "layout") spec.layout = parseName(key, layouts, value);
		else if (key === "width") spec.width = parseName(key, widths, value);
		else spec[key] = parseNumber(key, value);
	}
	const all = (spec.domains + 1) * spec.memory;
	if (all > ALL_MEMORY_LIMIT) {
		const expected = `at most ${sizeText(ALL_MEMORY_LIMIT)} in all`;
		throw refuse("memory", expected, `${spec.domains} domains and dom0 of ${sizeText(spec.memory)}: ${sizeText(all)}`);
	}
	const channels = spec.domains * (spec.ports + spec.vcpus + 8);
	if (channels > DOM0_PORT_LIMIT) {
		const expected = `at most ${DOM0_PORT_LIMIT} channels to dom0 in all`;
		throw refuse("ports", expected, `${spec.domains} domains with ${spec.ports}, and others: ${channels}`);
	}
	return spec;
}

/**
 * A spec with all its keys: what a report names, and what makes the same host again. A width that is the default is left out:
 * so the host has the name that it had when there was no other.
 */
export function syntheticName(spec: SyntheticSpec): string {
	const keys = (Object.keys(syntheticDefaults) as (keyof SyntheticSpec)[]).filter(
		(key) => key !== "width" || spec.width !== syntheticDefaults.width,
	);
	return `${SYNTHETIC_PREFIX}${keys
		.map((key) => `${key}=${key === "memory" ? sizeText(spec.memory) : spec[key]}`)
		.join(",")}`;
}
