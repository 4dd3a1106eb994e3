/** Parser of Xen's grant table dump (debug key `g`). */
import { type DumpLine, DumpText } from "./lines.ts";

/** An active entry of a grant table: somebody maps or uses the page. */
export interface CapturedGrant {
	ref: number;
	/** The active side: who maps it, which MFN, and how often. */
	granteeDomid: number;
	mfn: number;
	/** Four counters of an octet each, from the top: device reads, device writes, host reads, host writes. */
	pin: number;
	/** The shared side, as the granting guest wrote it. */
	sharedDomid: number;
	/** GFN (for PV, an MFN). */
	gmfn: number;
	/** Version 1: the entry's flags. Version 2: the status word. */
	flags: number;
}

/** The grant table of one domain. */
export interface CapturedGrantTable {
	domid: number;
	version: 1 | 2;
	/** Frames of the shared table, and how many it may grow to; undefined where an old Xen does not say. */
	frames?: number;
	maxFrames?: number;
	/** Frames of the table in which Xen tracks this domain's own mappings. */
	maptrackFrames?: number;
	maxMaptrackFrames?: number;
	/** Active entries, ascending by reference; entries that nobody uses are not dumped. */
	active: CapturedGrant[];
}

const HEADER = /^grant-table for remote (?:d|domain:\s*)(\d+)\b(?:.*\(v(\d)\))?/;
const FRAMES = /^\s+(\d+) frames \((\d+) max\),\s*(\d+) maptrack frames \((\d+) max\)/;
const ROW_START = /^\[(?:0x|[0-9a-f]+\] )/i;
const HEX = "(0x[0-9a-f]{1,16})";
const ROW = new RegExp(String.raw`^\[${HEX}\]\s+(\d+)\s+${HEX}\s+${HEX}\s+(\d+)\s+${HEX}\s+${HEX}\s*$`, "i");
const ROW_SHAPE = "a grant like `[0x008] 0 0x0fac2 0x00000001 0 0x00fac2 0x19`";
const BEGIN = "gnttab_usage_print_all [";
const END = "gnttab_usage_print_all ]";

function parseGrant(dump: DumpText, row: DumpLine, table: CapturedGrantTable): CapturedGrant {
	const match = ROW.exec(row.text);
	if (match === null) {
		throw dump.badRow(row, ROW_SHAPE);
	}
	const u32 = (digits: string | undefined, what: string): number => {
		const value = dump.hexNumber(digits, row, what);
		if (value > 0xffffffff) {
			throw dump.fail(row.line, `${what} of 32 bits`, String(digits));
		}
		return value;
	};
	const ref = u32(match[1], "a grant reference");
	const last = table.active.at(-1)?.ref ?? -1;
	if (ref <= last) {
		throw dump.fail(row.line, `a grant reference above 0x${last.toString(16)}`, String(match[1]));
	}
	return {
		ref,
		granteeDomid: dump.domid(match[2], row),
		mfn: dump.hexNumber(match[3], row, "an MFN"),
		pin: u32(match[4], "pin counters"),
		sharedDomid: dump.domid(match[5], row),
		gmfn: dump.hexNumber(match[6], row, "a GFN"),
		flags: u32(match[7], "flags"),
	};
}

function parseHeader(dump: DumpText, row: DumpLine): CapturedGrantTable {
	const match = HEADER.exec(row.text);
	const version = Number(match?.[2] ?? 1);
	// Version 0 is what Xen keeps until a guest has chosen; it behaves as 1.
	if (match === null || version > 2) {
		throw dump.badRow(row, "`grant-table for remote dN (v1)` or v2");
	}
	return { domid: dump.domid(match[1], row), version: version === 2 ? 2 : 1, active: [] };
}

/**
 * Parses the output of debug key `g`.
 *
 * @returns by domid, in the dump's order
 * @throws XluError XLU_E_CAPTURE with file, line, expected and got: a row that cannot be parsed, references that are
 * not ascending, a domain twice, the closing line missing (the dump was cut off), or no table at all.
 */
export function parseGrantDump(text: string, file = "debugkey-g.txt"): Map<number, CapturedGrantTable> {
	const dump = new DumpText(text, file);
	const tables = new Map<number, CapturedGrantTable>();
	let current: CapturedGrantTable | undefined;
	let open = false;
	for (const row of dump.lines()) {
		if (row.text.startsWith("grant-table for remote")) {
			current = parseHeader(dump, row);
			if (tables.has(current.domid)) {
				throw dump.fail(row.line, `the table of domain ${current.domid} once`, "a second time");
			}
			tables.set(current.domid, current);
		} else if (ROW_START.test(row.text)) {
			if (current === undefined) {
				throw dump.badRow(row, "`grant-table for remote dN` before the first grant");
			}
			current.active.push(parseGrant(dump, row, current));
		} else if (row.text.startsWith(BEGIN)) {
			open = true;
		} else if (row.text.startsWith(END)) {
			open = false;
		} else if (current !== undefined && /^\s+\d+ frames\b/.test(row.text)) {
			const match = FRAMES.exec(row.text);
			if (match === null) {
				throw dump.badRow(row, "`N frames (N max), N maptrack frames (N max)`");
			}
			current.frames = dump.decimal(match[1], row, "frames");
			current.maxFrames = dump.decimal(match[2], row, "max");
			current.maptrackFrames = dump.decimal(match[3], row, "maptrack frames");
			current.maxMaptrackFrames = dump.decimal(match[4], row, "max");
		}
	}
	if (open) {
		throw dump.fail(dump.lastLine, `\`${END} done\``, "the end of the file");
	}
	if (tables.size === 0) {
		throw dump.fail(dump.lastLine, "`grant-table for remote dN`", "none in the file");
	}
	return tables;
}

/** How many mappings of each kind a pin word counts. */
export function pinCounts(pin: number): {
	deviceRead: number;
	deviceWrite: number;
	hostRead: number;
	hostWrite: number;
} {
	return {
		deviceRead: (pin >>> 24) & 0xff,
		deviceWrite: (pin >>> 16) & 0xff,
		hostRead: (pin >>> 8) & 0xff,
		hostWrite: pin & 0xff,
	};
}
