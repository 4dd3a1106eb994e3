/**
 * References as the dump counts them: what xen#1 itself says, to be held against what follows from its state (X2). Without
 * them a capture's counts would be made of its tables, and an audit would compare the tables with themselves.
 *
 * The dump has every domain's count, and those of the pages that it lists. No dump has dom0's page tables: what they map is
 * counted there and cannot be accounted for here. So of dom0's own pages, and of dead domains' which dom0 may have mapped
 * without a grant, more than is accounted for is no fault, and less is one.
 */
import type { HostModel, PreservedPages } from "../../machine/model.ts";
import { countReferences, type References } from "../../machine/references.ts";
import type { CapturedPage } from "../domains.ts";
import type { CapturedDomain } from "../read.ts";
import { referencesOf, typeReferencesOf } from "./specialPages.ts";

/** Counts that follow from the state, with the dump's in their place wherever it has them. */
export function dumpedReferences(
	captured: readonly CapturedDomain[],
	model: HostModel,
	preserved: PreservedPages,
): References {
	const { frames, domains } = countReferences(model, preserved);
	const take = ({ mfn, ...words }: CapturedPage, isExact: boolean): void => {
		for (const [at, dumped] of [
			[2 * mfn, referencesOf(words)],
			[2 * mfn + 1, typeReferencesOf(words)],
		] as const) {
			frames[at] = isExact ? dumped : Math.min(dumped, frames[at] ?? 0);
		}
	};
	for (const { domid, kind, info } of captured) {
		const sums = domains.get(domid);
		if (sums) sums.references = info.refcnt;
		for (const page of [...info.xenPages, ...info.extraPages]) take(page, kind !== "dom0");
		for (const page of info.domPages ?? []) take(page, false);
	}
	return { frames, domains };
}
