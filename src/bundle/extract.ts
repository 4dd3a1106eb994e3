/**
 * From a host and a domid to the domain's bundle (requirement F5).
 *
 * The whole host is saved and checked first, so that what the live-update stream refuses is refused here by the same rule.
 * Then the domain is cut out, saved alone, and its state is written once more as libxc has it.
 *
 * Unhappy paths: no such domain (XLU_E_USAGE); a rule of the stream that the host breaks (XLU-R...); a domain that cannot
 * move (XLU-B022 to XLU-B024); a register that names no frame of the guest's P2M (XLU-B016).
 */
import type { Assumption } from "../capture/import/index.ts";
import type { Core } from "../core/load.ts";
import { XluError } from "../errors.ts";
import { FORMAT_VERSION, OLDEST_VERSION } from "../format/schema.ts";
import { INFO_FLAG } from "../formats/bundle/layout.ts";
import { writeBundle } from "../formats/bundle/write.ts";
import { Findings, findingError } from "../formats/common/findings.ts";
import type { Host } from "../host.ts";
import { buildImage } from "../machine/image.ts";
import type { DomainModel, HostModel, PvLayout } from "../machine/model.ts";
import { openAndCheck, saveHost } from "../steps.ts";
import { libxcImage, PT_LEVELS, p2mFrameCount } from "./libxc.ts";
import { reportImmovable } from "./movable.ts";
import { cutOut, infoOf, isPv, ordinaryFrames, type SoloDomain } from "./solo.ts";
import { storeOfDomain } from "./store.ts";
import { writeStore } from "./storeStream.ts";

/** A domain's bundle, and what it does not hold. */
export interface Extracted {
	/** The bundle's octets. */
	readonly bundle: Uint8Array;
	/** What the host did not tell of the domain, and what was put in its place. */
	readonly assumptions: readonly Assumption[];
}

function noSuchDomain(host: Host, domid: number): XluError {
	const domids = host.model.domains.map(({ domain }) => domain.domid).sort((a, b) => a - b);
	return new XluError("XLU_E_USAGE", `${host.name} has no domain ${domid}.`, {
		field: "domid",
		domid,
		expected: domids.join(", "),
		got: `${domid}`,
	});
}

/** PFNs for a guest whose own are not known: by its frames, ascending. */
function assignedLayout(model: HostModel, domain: DomainModel): PvLayout {
	const mfns = Float64Array.from(ordinaryFrames(model.frameOwners, domain.domain.domid));
	const guestWidth = Number(domain.domain.guestWidth ?? 8);
	const layout = { guestWidth, ptLevels: PT_LEVELS[guestWidth] ?? 0, startPfn: 0, mfns, p2mPfns: [] };
	return { ...layout, p2mPfns: Array.from({ length: p2mFrameCount(layout) }, (_, i) => i) };
}

function savedAs(core: Core, { model, preserved }: SoloDomain, format: number): Uint8Array {
	core.reset();
	const image = core.place(buildImage(model, preserved));
	const context = core.createContext();
	context.saveAs(format);
	const stream = context.save(image, core.allocate(context.planSave(image)));
	return core.bytes(stream).slice();
}

/**
 * The live-update stream of the domain alone, of the oldest version that holds it. A live update writes the newest one, so
 * that what xen#2 must know does not depend on the guests of the day. A bundle has one guest, and may go to any host of a
 * fleet whose versions differ: what a host must know is to depend on that guest alone. Both versions are read.
 */
export function soloStream(core: Core, solo: SoloDomain): Uint8Array {
	try {
		return savedAs(core, solo, OLDEST_VERSION);
	} catch (error) {
		if (!(error instanceof XluError) || error.code !== "XLU_E_VERSION") throw error;
		return savedAs(core, solo, FORMAT_VERSION);
	}
}

/**
 * Makes the bundle of one domain.
 * @param core works in its windows, which are dropped
 * @throws XLU_E_USAGE if the host has no such domain; XLU_E_REFUSED, XLU_E_VERSION with the rule that stands against it
 */
export function extractDomain(core: Core, host: Host, domid: number): Extracted {
	const domain = host.model.domains.find((candidate) => candidate.domain.domid === domid);
	if (!domain) throw noSuchDomain(host, domid);
	const findings = new Findings();
	reportImmovable(host.model, domain, findings, { layer: "bundle", record: "domain", offset: 0, domid });
	const [first] = findings.errors;
	if (first) throw findingError(first);
	core.reset();
	const saved = saveHost(core, host);
	openAndCheck(core, saved.stream, saved.memory);

	const assumptions: Assumption[] = host.assumptions.filter((assumption) => assumption.domid === domid);
	const note = (what: string, how: string): void => {
		assumptions.push({ domid, what, how });
	};
	const layout = isPv(domain) ? (host.pvLayouts?.get(domid) ?? assignedLayout(host.model, domain)) : undefined;
	const isAssigned = isPv(domain) && !host.pvLayouts?.has(domid);
	if (isAssigned)
		note("PFNs, and where the guest's P2M table lies", "assigned by MFN: the host has no image of the guest");
	if (!host.store) note("xenstore nodes", "unknown: the bundle's xenstore part has none");
	else if (!host.store.daemon) {
		note(
			"xenstore watches and open transactions",
			"unknown: the capture has no dump of xenstored's state (xenstore.dump)",
		);
	}
	const solo = cutOut(host.model, host.preserved, domain);
	const flags =
		(host.store ? INFO_FLAG.storeKnown : 0) |
		(host.store?.daemon ? INFO_FLAG.watchesKnown : 0) |
		(isAssigned ? INFO_FLAG.pfnsAssigned : 0);
	const xen = { major: Number(host.model.version.xenMajor ?? 0), minor: Number(host.model.version.xenMinor ?? 0) };
	const bundle = writeBundle({
		info: infoOf(host.model, domain, flags),
		versionText: host.model.versionText,
		stream: soloStream(core, solo),
		pfns: layout,
		pages: solo.preserved,
		libxc: libxcImage(domain, layout, solo.preserved, xen),
		xenstore: writeStore(host.store && storeOfDomain(host.store, domid), domain),
	});
	return { bundle, assumptions };
}
