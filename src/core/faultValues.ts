/**
 * What a fault expected and found, for people: the core gives numbers, and what a number stands for follows from the rule.
 * Each keeps its number in front, so that it can be looked for.
 */
import { recordByType } from "../format/schema.ts";

/** Rules whose numbers are types of records; others have an amount, a number of a vCPU or the like, which may look like one. */
const aboutRecords: Readonly<Record<string, readonly ("expected" | "got")[]>> = {
	UNKNOWN_RECORD: ["got"],
	SECTION_EXPECTED: ["expected", "got"],
	INDEX: ["expected"],
	RECORD_ORDER: ["expected", "got"],
	RECORD_MISSING: ["expected"],
	PV32: ["expected", "got"],
	HVM_ONLY: ["got"],
	SHARED_INFO: ["expected"],
};

/** What is wrong with a chunk, by the core's number for it (assembly/extent/chunk.ts). */
const chunkFaults: readonly string[] = [
	"nothing is wrong",
	"entries of another size",
	"ends beyond its table's octets",
	"unknown form, or PACKED in a table of octets",
	"a width that its form does not have",
	"an entry count that is not what is left",
	"a payload of another length than form and counts make it",
	"no run, or more runs than entries",
	"a reserved word that is not zero",
	"a run that is empty, or goes beyond the entries",
	"runs that are shorter than the chunk",
	"a run whose MFN would count beyond bit 39",
	"a run that continues the one before it",
	"a base that is not the first entry",
	"a width that is not minimal",
	"padding that is not zero",
	"octets behind the last chunk",
];

/** Live-update types are told apart from amounts by their bit 30; libxc's are small numbers, END is 0. */
const looksLikeType = (number: bigint): boolean => number >= 0x40000000n;

function nameOf(number: bigint, rule: string | undefined, side: "expected" | "got"): string | undefined {
	if (rule === "CHUNK") return chunkFaults[Number(number)];
	if (!aboutRecords[rule ?? ""]?.includes(side)) return undefined;
	if (!looksLikeType(number) && (rule !== "RECORD_MISSING" || side !== "expected")) return undefined;
	return recordByType(Number(number))?.name;
}

/** A number as people read it: beyond 9 in hexadecimal as well, and by name where it has one. */
function valueText(number: bigint, name: string | undefined): string {
	const notes = [number > 9n ? `0x${number.toString(16)}` : undefined, name].filter((note) => note !== undefined);
	return notes.length ? `${number} (${notes.join(", ")})` : `${number}`;
}

/**
 * Both values of a fault. Where the core names the bound that a value had to keep clear of, and the value is that very
 * bound, it is said so.
 */
export function faultValues(
	{ expected, got }: { readonly expected: bigint; readonly got: bigint },
	rule: string | undefined,
): { expected: string; got: string } {
	const text = valueText(expected, nameOf(expected, rule, "expected"));
	return {
		expected: expected === got ? `other than ${text}` : text,
		got: valueText(got, nameOf(got, rule, "got")),
	};
}
