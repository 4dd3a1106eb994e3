/** Bundles for tests: of captured and living guests, taken apart, changed, and put together again. */
import { join } from "node:path";
import { type CheckedBundle, checkBundle } from "../../src/bundle/check.ts";
import { extractDomain, soloStream } from "../../src/bundle/extract.ts";
import { libxcImage } from "../../src/bundle/libxc.ts";
import { reportOnto } from "../../src/bundle/onto.ts";
import { infoOf, type SoloDomain, soloDomain } from "../../src/bundle/solo.ts";
import type { Store } from "../../src/bundle/store.ts";
import { readStore, writeStore } from "../../src/bundle/storeStream.ts";
import { XluError } from "../../src/errors.ts";
import { INFO_FLAG } from "../../src/formats/bundle/layout.ts";
import { type Bundle, readBundleItems } from "../../src/formats/bundle/read.ts";
import { type BundleParts, writeBundle } from "../../src/formats/bundle/write.ts";
import { Findings } from "../../src/formats/common/findings.ts";
import { StreamReader } from "../../src/formats/common/reader.ts";
import type { StreamItem } from "../../src/formats/common/record.ts";
import { sourceOf } from "../../src/formats/common/source.ts";
import { type Host, loadHost } from "../../src/host.ts";
import { emptyHost, Machine, type Operation } from "../../src/machine/live/index.ts";
import type { DomainModel, PvLayout } from "../../src/machine/model.ts";
import { newCore, root } from "../support/core.ts";
import { mustRun } from "../support/living.ts";
import type { TinyHost } from "../support/tinyHost.ts";

export const core = newCore();

export const captures = { pv: 1, pvh: 1, hvm: 4 } as const;
export type CaptureName = keyof typeof captures;

export const capturePath = (name: string): string => join(root, "test/fixtures/xen-4.17", name);

const hosts = new Map<string, Host>();
/** A captured host, read once; tests do not change it. */
export function captured(name: CaptureName): Host {
	const host = hosts.get(name) ?? loadHost(capturePath(name));
	hosts.set(name, host);
	return host;
}

const bundles = new Map<string, Uint8Array>();
export function capturedBundle(name: CaptureName): Uint8Array {
	const bundle = bundles.get(name) ?? extractDomain(core, captured(name), captures[name]).bundle;
	bundles.set(name, bundle);
	return bundle;
}

/** dom0 alone, on a machine of its own. */
export function bareHost(frames = 32768, cpus = 4): Host {
	const machine = Machine.fromHost(emptyHost(frames, cpus));
	const dom0: Operation = { op: "domain_create", domid: 0, kind: "pv", frames: 120, vcpus: 2, privileged: true };
	mustRun(machine, [dom0, { op: "domain_unpause", domid: 0 }]);
	return machine.toHost();
}

export interface Read {
	items: StreamItem[];
	bundle: Bundle | undefined;
	checked: CheckedBundle | undefined;
	findings: Findings;
	/** What ended the reading. */
	error: XluError | undefined;
}

/** Reads and checks; fields are decoded, so that a decoder that fails is seen. */
export async function read(octets: Uint8Array, chunkBytes?: number): Promise<Read> {
	const findings = new Findings();
	const items: StreamItem[] = [];
	let bundle: Bundle | undefined;
	let error: XluError | undefined;
	try {
		const reader = new StreamReader(sourceOf(octets, "bundle", chunkBytes));
		const all = readBundleItems(reader, { findings, pages: "keep" });
		let step = await all.next();
		for (; !step.done; step = await all.next()) {
			void step.value.fields;
			items.push(step.value);
		}
		bundle = step.value;
	} catch (caught) {
		if (!(caught instanceof XluError)) throw caught;
		error = caught;
	}
	const checked = bundle && checkBundle(core, bundle, findings);
	return { items, bundle, checked, findings, error };
}

/** Codes of what refuses, and of what is a warning. */
export const codes = (findings: Findings, isError = true): string[] => [
	...new Set(findings.list.filter((finding) => finding.isError === isError).map(({ rule }) => rule.code)),
];

export async function onto(octets: Uint8Array, target: Host): Promise<Findings> {
	const { checked, findings } = await read(octets);
	if (checked) reportOnto(core, target, checked, findings);
	return findings;
}

/** A bundle taken apart far enough to change anything in it. */
export interface Apart {
	solo: SoloDomain;
	domain: DomainModel;
	layout: PvLayout | undefined;
	store: Store;
	xen: { major: number; minor: number };
	flags: number;
	/** Replaces parts after they have been made of the above. */
	parts: (made: BundleParts) => BundleParts;
}

/** Takes a bundle apart, lets `change` at it, and writes it again, all parts made anew. */
export async function changed(octets: Uint8Array, change: (apart: Apart) => void): Promise<Uint8Array> {
	const { bundle, checked } = await read(octets);
	if (!bundle?.stream || !bundle.xenstore || !checked) throw new Error("the bundle is not whole");
	const solo = soloDomain(bundle.stream.octets, new Map(bundle.pages)) as SoloDomain;
	const apart: Apart = {
		solo,
		domain: solo.domain,
		layout: checked.layout,
		store: readStore(bundle.xenstore.octets).store,
		xen: checked.xen,
		flags: Number(bundle.info?.flags),
		parts: (made) => made,
	};
	change(apart);
	const { domain } = apart;
	return writeBundle(
		apart.parts({
			info: infoOf(solo.model, domain, apart.flags),
			versionText: bundle.versionText,
			stream: soloStream(core, solo),
			pfns: apart.layout,
			pages: solo.preserved,
			libxc: libxcImage(domain, apart.layout, solo.preserved, apart.xen),
			xenstore: writeStore(apart.flags & INFO_FLAG.storeKnown ? apart.store : undefined, domain),
		}),
	);
}

/** The store of a bundle may change: its nodes as a map. */
export const nodesOf = (store: Store) => store.nodes as Map<string, { value: Uint8Array; perms: readonly string[] }>;

/** A host in which a domain has no grants of others mapped, so that it may move. */
export function withoutMappings({ model, preserved }: TinyHost, domid: number): Host {
	const domains = model.domains.map((domain) => {
		const isIt = domain.domain.domid === domid;
		const grantActive = domain.grantActive?.map((row) => (Number(row?.grantee) === domid ? undefined : row));
		return { ...domain, ...(grantActive ? { grantActive } : {}), ...(isIt ? { maptrack: [] } : {}) };
	});
	return { name: "second", model: { ...model, domains }, preserved, assumptions: [] };
}
