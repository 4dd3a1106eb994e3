/**
 * Non-cooperative migration (requirement F5): one domain of a host as a bundle, and what a host says that is to receive it.
 * docs/BUNDLE.md has the format.
 */
import { type Core, type LoadOptions, loadCore } from "../core/load.ts";
import { XluError } from "../errors.ts";
import { Findings, type FormatFinding } from "../formats/common/findings.ts";
import { StreamReader } from "../formats/common/reader.ts";
import { sourceOf } from "../formats/common/source.ts";
import type { Host } from "../host.ts";
import { type Extracted, extractDomain } from "./extract.ts";
import { readChecked } from "./format.ts";
import { reportOnto } from "./onto.ts";
import { receive } from "./receive.ts";

export type { Extracted } from "./extract.ts";
export type {
	Store,
	StoreConnection,
	StoreDomain,
	StoreNode,
	StoreTransaction,
	StoreWatch,
} from "./store.ts";

export interface BundleVerdict {
	/** No finding refuses it. */
	readonly ok: boolean;
	readonly domid: number | undefined;
	/** Everything that refuses it, and everything that will be different; `isError` tells them apart. */
	readonly findings: readonly FormatFinding[];
	/** Rules of the receiving side that could not be looked at, since the target does not tell enough of itself. */
	readonly notCheckable: readonly string[];
}

/**
 * Makes the bundle of one domain of a host.
 * @param host as `loadHost` gives it; where it has no xenstore, the bundle has no nodes
 * @param domid a living guest's
 * @throws XLU_E_USAGE if there is no such domain; XLU_E_REFUSED, XLU_E_VERSION with the rule that keeps it where it is
 */
export async function extract(host: Host, domid: number, options: LoadOptions = {}): Promise<Extracted> {
	return extractDomain(await loadCore(options), host, domid);
}

async function check(core: Core, bundle: Uint8Array, findings: Findings) {
	const items = readChecked(new StreamReader(sourceOf(bundle)), { findings, pages: "keep" }, core);
	try {
		for (;;) {
			const { value, done } = await items.next();
			if (done) return value;
		}
	} catch (error) {
		// What ends the reading is a finding as well.
		if (!(error instanceof XluError) || findings.errors.length === 0) throw error;
		return undefined;
	}
}

/**
 * Checks a bundle in itself, and, where a target is given, whether that would take it. Never throws for what the bundle
 * holds: that is the result.
 * @param options.onto the receiving host
 */
export async function verifyBundle(
	bundle: Uint8Array,
	{ onto, ...options }: LoadOptions & { readonly onto?: Host } = {},
): Promise<BundleVerdict> {
	const findings = new Findings();
	const core = await loadCore(options);
	const checked = await check(core, bundle, findings);
	const notCheckable = checked && onto ? reportOnto(core, onto, checked, findings).notCheckable : [];
	return { ok: findings.errors.length === 0, domid: checked?.domid, findings: findings.list, notCheckable };
}

/**
 * The receiving host as it would be with the bundle's domain on it: same domid, ports, references and guest frame numbers,
 * other machine frames; event channels to other domains unbound until these bind again.
 * @throws XLU_E_REFUSED with the first rule that stands against it
 */
export async function receiveBundle(bundle: Uint8Array, onto: Host, options: LoadOptions = {}): Promise<Host> {
	const findings = new Findings();
	const core = await loadCore(options);
	const checked = await check(core, bundle, findings);
	if (checked) reportOnto(core, onto, checked, findings);
	const [first] = findings.errors;
	const result = checked && !first ? receive(onto, checked) : undefined;
	if (result) return result;
	throw new XluError("XLU_E_REFUSED", `${onto.name} does not take the bundle.`, {
		...(first ? { rule: first.rule.code, expected: first.expected, got: first.got } : {}),
	});
}
