/** What a code means, as `xlu explain` tells it: rules of the live-update stream, rules of Xen's formats, error codes. */
import { errorCodes, XluError } from "../errors.ts";
import { ruleId, rules } from "../format/rules.ts";
import type { Severity } from "../formats/common/findings.ts";
import { formatRules } from "../formats/index.ts";

export interface Explanation {
	readonly code: string;
	/** Name of a live-update rule. */
	readonly name?: string;
	/** What must hold; of an error code, what happened. */
	readonly doc: string;
	/** Where that comes from: a document's section, or which program was seen to do so. */
	readonly from?: string;
	/** Of a live-update rule: the public fact or the invariant of Xen that it stems from. */
	readonly why?: string;
	/** What follows when it does not hold. */
	readonly outcome: string;
	/** What can be done. */
	readonly advice?: string;
	/** What programs were seen to do. */
	readonly readers?: Readonly<Record<string, string>>;
}

const outcomes: Readonly<Record<Severity, string>> = {
	damaged: "damaged: reading ends there (exit status 3)",
	version: "not supported (exit status 1)",
	refused: "refused (exit status 1)",
	strict: "refused with --strict (exit status 1), else a warning: the document forbids what real programs do",
	warning: "a warning: no reason to refuse",
	reader: "refused where it kills its reader, or every one that reads this version (exit status 1), else a warning",
};

/** Everything that can be explained, in the order of the codes. */
export function explanations(): Explanation[] {
	const live = rules.map(
		({ id, name, doc, from, why, advice, severity }): Explanation => ({
			code: ruleId(id),
			name,
			doc,
			from,
			why,
			outcome: outcomes[severity],
			advice,
		}),
	);
	const xen = formatRules().map(
		({ code, doc, from, severity, advice, readers }): Explanation => ({
			code,
			doc,
			from,
			outcome: outcomes[severity],
			advice,
			...(readers ? { readers } : {}),
		}),
	);
	const errors = Object.entries(errorCodes).map(
		([code, { doc, exit }]): Explanation => ({ code, doc, outcome: `exit status ${exit}` }),
	);
	return [...live, ...xen, ...errors];
}

/**
 * Explains a code, in any spelling of its letters.
 * @throws XLU_E_USAGE if there is no such code
 */
export function explain(code: string): Explanation {
	const all = explanations();
	const found = all.find((entry) => entry.code === code.toUpperCase());
	if (found) return found;
	const near = all.filter((entry) => entry.code.startsWith(code.toUpperCase().slice(0, 5))).slice(0, 8);
	throw new XluError("XLU_E_USAGE", `There is no code ${code}.`, {
		expected:
			near.length > 0 ? near.map((entry) => entry.code).join(", ") : "a rule (XLU-R001) or an error code (XLU_E_IO)",
		got: code,
	});
}
