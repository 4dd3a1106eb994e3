/**
 * What is wrong with a stream of Xen's own formats: rules with a code that stays, findings that say where, what was expected
 * and what was found. Each format lists its rules beside its check; docs/RULES.md and `xlu explain` are made from these lists.
 */
import { type ErrorCode, XluError } from "../../errors.ts";
import type { Layer } from "./record.ts";

/**
 * `damaged`: the stream breaks its own framing, and nothing after it can be read. `version`: a version or feature that is
 * not known. `refused`: what a receiver refuses or would get wrong. `strict`: the document forbids it, but real programs
 * write or accept it; refused with --strict, else a warning. `warning`: legal, but somebody ought to know. `reader`: by what
 * the program that is to read it does.
 */
export type Severity = "damaged" | "version" | "refused" | "strict" | "warning" | "reader";

export interface FormatRule {
	/** `XLU-` and a letter for the layer (F framing, H xl, L libxl, C libxc, O legacy, S xenstore, B bundle), three digits. */
	readonly code: string;
	readonly severity: Severity;
	/** What must hold, in one sentence. */
	readonly doc: string;
	/** Document and section, or what was observed of which program. */
	readonly from: string;
	/** What a person with such a stream can do. */
	readonly advice: string;
	/** What programs were seen to do with a stream that breaks it, in a few words each. */
	readonly readers?: Readonly<Record<string, string>>;
}

export const formatRule = (
	code: string,
	severity: Severity,
	from: string,
	doc: string,
	advice: string,
): FormatRule => ({ code, severity, doc, from, advice });

export interface FormatFinding {
	readonly rule: FormatRule;
	/** Whether it refuses the stream, given how strictly it is read and for whom. */
	readonly isError: boolean;
	readonly layer: Layer;
	/** Name of the record. */
	readonly record: string;
	/** Octets from the start of the stream: of the field if it is known, else of the record. */
	readonly offset: number;
	readonly field?: string;
	readonly domid?: number;
	readonly expected: string;
	readonly got: string;
}

export interface Place {
	readonly layer: Layer;
	readonly record: string;
	readonly offset: number;
	readonly field?: string;
	readonly domid?: number;
}

export const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

/** One sentence: place, field, expected, got, rule. */
export function findingText({ rule, layer, record, offset, field, expected, got }: FormatFinding): string {
	const what = field === undefined ? "" : ` ${field}:`;
	return `${layer} ${record} at ${hex(offset)}:${what} expected ${expected}, got ${got} (${rule.code})`;
}

const codeOf: Readonly<Record<Severity, ErrorCode>> = {
	damaged: "XLU_E_IMAGE",
	version: "XLU_E_VERSION",
	refused: "XLU_E_REFUSED",
	strict: "XLU_E_REFUSED",
	warning: "XLU_E_REFUSED",
	reader: "XLU_E_REFUSED",
};

/** A finding as an error: what ends the reading of a stream, or a command. */
export function findingError(finding: FormatFinding, cause?: unknown): XluError {
	const { rule, record, layer, offset, field, domid, expected, got } = finding;
	return new XluError(codeOf[rule.severity], findingText(finding), {
		rule: rule.code,
		record: `${layer} ${record}`,
		offset,
		expected,
		got,
		...(field === undefined ? {} : { field }),
		...(domid === undefined ? {} : { domid }),
		cause,
	});
}

/** No stream needs more to be mended; a hostile one has as many as it has octets. */
const FINDING_LIMIT = 1000;

/** Collects findings. A reader reports what it can go on after, and throws what `fatal` returns. */
export class Findings {
	readonly list: FormatFinding[] = [];
	/** Findings beyond the first thousand, which are counted alone. */
	dropped = 0;
	readonly isStrict: boolean;

	constructor(options: { strict?: boolean } = {}) {
		this.isStrict = options.strict === true;
	}

	get errors(): FormatFinding[] {
		return this.list.filter(({ isError }) => isError);
	}

	/**
	 * Notes a finding that does not keep the stream from being read on.
	 * @param isError overrides what the rule's severity says, for rules that depend on who is to read the stream
	 */
	report(rule: FormatRule, place: Place, expected: string, got: string, isError?: boolean): void {
		const bySeverity = rule.severity === "strict" ? this.isStrict : rule.severity !== "warning";
		if (this.list.length >= FINDING_LIMIT) {
			this.dropped++;
			return;
		}
		this.list.push({ rule, isError: isError ?? bySeverity, ...place, expected, got });
	}

	/** The error that ends the reading; the caller throws it, so that the compiler sees where a path ends. */
	fatal(rule: FormatRule, place: Place, expected: string, got: string, cause?: unknown): XluError {
		const finding: FormatFinding = { rule, isError: true, ...place, expected, got };
		this.list.push(finding);
		return findingError(finding, cause);
	}
}
