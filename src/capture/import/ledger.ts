/**
 * The account of an import: whatever no dump and no image says and was therefore assigned, defaulted or derived.
 * `xlu inspect HOST` prints it, so it is written for operators.
 */
import { XluError } from "../../errors.ts";
import type { HostModel, PreservedPages, PvLayout } from "../../machine/model.ts";
import type { References } from "../../machine/references.ts";

/** One thing that the capture does not say. */
export interface Assumption {
	/** Of which domain; undefined for the host. */
	domid?: number;
	/** What it is about, such as "event-array frames". */
	what: string;
	/** "assigned", "defaulted" or "derived", and to what or from what. */
	how: string;
}

/** A captured host as a machine's state. */
export interface ImportedHost {
	/** The capture's name. */
	name: string;
	model: HostModel;
	/** Frames whose content matters to the hypervisor's state: MFN -> 4096 octets. */
	preserved: PreservedPages;
	assumptions: Assumption[];
	/** Counts as the dump has them. */
	references: References;
	/** Of each PV guest that has an image: how it sees its own memory. */
	pvLayouts: ReadonlyMap<number, PvLayout>;
}

/** Collects assumptions, in the order in which the import makes them. */
export class Ledger {
	readonly assumptions: Assumption[] = [];

	/** @param domid undefined for the host */
	note(domid: number | undefined, what: string, how: string): void {
		this.assumptions.push(domid === undefined ? { what, how } : { domid, what, how });
	}
}

export const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

/** "1 frame", "2 frames". */
export const plural = (count: number, word: string): string => `${count} ${word}${count === 1 ? "" : "s"}`;

/** An XLU_E_CAPTURE error about a domain (or the host) and the file that says so; not thrown here, so that the compiler sees the `throw`. */
export function contradiction(
	domid: number | undefined,
	field: string,
	expected: string,
	got: string,
	record?: string,
): XluError {
	const file = record === undefined ? "" : `${record}: `;
	const place = domid === undefined ? "captured host" : `domain ${domid}`;
	return new XluError("XLU_E_CAPTURE", `${file}${place}: ${field}: expected ${expected}, got ${got}`, {
		domid,
		field,
		expected,
		got,
		record,
	});
}

/** What the format refuses by name, or what a capture does not tell enough of. */
export function refusedByFormat(domid: number | undefined, field: string, expected: string, got: string): XluError {
	const place = domid === undefined ? "captured host" : `domain ${domid}`;
	return new XluError("XLU_E_VERSION", `${place}: ${field}: expected ${expected}, got ${got}`, {
		rule: "XLU-R044",
		domid,
		field,
		expected,
		got,
	});
}
