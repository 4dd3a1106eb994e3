/**
 * A bundle in itself: are its parts whole, do they agree with each other, would a host with nothing on it but the room take
 * the domain? What can be said is said, not the first fault alone; what needs a part that is damaged is left out.
 */
import type { Core } from "../core/load.ts";
import { XluError } from "../errors.ts";
import { EVTCHN_STATE, FRAME, FRAME_OWNER_MASK, KIND, PAGE_TYPE } from "../format/enums.ts";
import { rules as coreRules, ruleId } from "../format/rules.ts";
import { INFO_FLAG } from "../formats/bundle/layout.ts";
import { LIBXC_HEADERS_BYTES, type LibxcRecord, libxcRecords } from "../formats/bundle/parts.ts";
import type { Bundle, BundleStream } from "../formats/bundle/read.ts";
import { bundleRules as rules } from "../formats/bundle/rules.ts";
import { type Findings, type FormatRule, hex, type Place } from "../formats/common/findings.ts";
import { LIBXC_RECORD, libxcRecordNames } from "../formats/libxc/layout.ts";
import type { Host } from "../host.ts";
import { GRANT_ENTRIES_PER_FRAME, GTF, GTF_PERMIT_ACCESS, readGrantV1, readGrantV2 } from "../machine/guestPages.ts";
import { emptyHost, XEN_FRAMES } from "../machine/live/emptyHost.ts";
import type { DomainModel, PreservedPages, PvLayout } from "../machine/model.ts";
import { openAndCheck, saveHost } from "../steps.ts";
import { libxcImage, p2mFrameCount, pvLayoutOf } from "./libxc.ts";
import { reportImmovable } from "./movable.ts";
import { arrivalPool, freeFrames, hasSameScheduler, neededFrames, receive } from "./receive.ts";
import { infoOf, isNone, isPv, ordinaryFrames, type SoloDomain, soloDomain } from "./solo.ts";
import { type DeviceArea, deviceAreas, homeOf, isBelow, pathsOfDomain, type Store, textOfValue } from "./store.ts";
import { type ReadStore, readStore, type StoreProblem } from "./storeStream.ts";

/** A bundle whose parts can be relied on, decoded. */
export interface CheckedBundle {
	readonly domid: number;
	readonly solo: SoloDomain;
	/** Of a PV guest. */
	readonly layout: PvLayout | undefined;
	/** What relates to the domain; undefined where the bundle's source did not know it. */
	readonly store: Store | undefined;
	/** Where in the xenstore part each thing of the store stands. */
	readonly storeOffsets: ReadonlyMap<object, number>;
	readonly xen: { readonly major: number; readonly minor: number };
	readonly cpuKhz: number;
	/** System time of the pause where it comes from. */
	readonly systemTimeNs: bigint;
	/** Octets from the start of the bundle to each part: where findings about them point. */
	readonly offsets: { readonly stream: number; readonly libxc: number; readonly xenstore: number };
}

/** A rule of the live-update stream, as a finding names it. */
export function coreRule(code: string | undefined): FormatRule {
	const found = coreRules.find(({ id }) => ruleId(id) === code);
	return {
		code: code ?? "XLU-R033",
		severity: found?.severity ?? "refused",
		doc: found?.doc ?? "The core takes the stream.",
		from: "docs/RULES.md",
		advice: "See docs/RULES.md.",
	};
}

/** Reports what the core refuses, by its rule; what is no verdict is thrown on. */
export function reportCore(findings: Findings, error: unknown, place: Place, isError = true): void {
	if (!(error instanceof XluError) || error.code === "XLU_E_INTERNAL") throw error;
	const { domid, field, expected, got, message } = error;
	const where = {
		...place,
		record: error.record ?? place.record,
		offset: place.offset + (error.offset ?? 0),
		...(domid === undefined ? {} : { domid }),
		...(field === undefined ? {} : { field }),
	};
	findings.report(coreRule(error.rule), where, expected ?? "a stream that it takes", got ?? message, isError);
}

/** Domids, vCPUs and counts beyond these are no domain's; they would only cost memory. */
const MOST_VCPUS = 8192;
const MOST_KEPT_FRAMES = 1 << 24;

const isDamaged = (findings: Findings): boolean =>
	findings.errors.some(({ rule }) => rule.severity === "damaged" || rule.severity === "version");

/**
 * Checks what was read of a bundle.
 * @param core works in its windows, which are dropped
 * @returns what a receiver needs; undefined where a part cannot be relied on
 */
export function checkBundle(core: Core, bundle: Bundle, findings: Findings): CheckedBundle | undefined {
	const { info, stream, libxc, xenstore } = bundle;
	if (isDamaged(findings) || !info || !stream || !libxc || !xenstore) return undefined;
	const solo = openSolo(core, bundle, stream, findings);
	if (!solo) return undefined;
	const { domain } = solo;
	const { domid } = domain.domain;
	const place: Place = { layer: "bundle", record: "LIVE_UPDATE", offset: stream.offset, domid };
	if (!ownsAll(solo, findings, place)) return undefined;
	reportInfo(bundle, solo, findings, domid);
	reportImmovable(solo.model, domain, findings, place);
	reportPages(bundle, solo, findings, domid);
	const layout = checkPfns(bundle, solo, libxc, findings);
	const xen = { major: Number(info.xenMajor), minor: Number(info.xenMinor) };
	reportLibxc({ libxc, solo, layout, xen }, findings, domid);
	const flags = Number(info.flags);
	const read = checkStore(xenstore, solo, flags, findings);
	if (flags & INFO_FLAG.pfnsAssigned) {
		const offset = bundle.offsets.get("PFNS") ?? 0;
		findings.report(rules.pfnsAssigned, { ...place, record: "PFNS", offset }, "the guest's own PFNs", "assigned ones");
	}
	const systemTimeNs = BigInt(info.systemTimeNs as bigint);
	const checked = {
		domid,
		solo,
		layout,
		store: read?.store,
		storeOffsets: read?.offsets ?? new Map(),
		xen,
		cpuKhz: Number(info.cpuKhz),
		systemTimeNs,
		offsets: { stream: stream.offset, libxc: libxc.offset, xenstore: xenstore.offset },
	};
	if (findings.errors.length === 0) reportAlone(core, checked, findings, place);
	return checked;
}

// --- the live-update part ---

function openSolo(core: Core, bundle: Bundle, { offset, octets }: BundleStream, findings: Findings) {
	const place: Place = { layer: "xlu", record: "stream", offset };
	try {
		core.reset();
		const window = core.place(octets);
		const context = core.createContext();
		context.open(window);
		context.plan(window);
	} catch (error) {
		reportCore(findings, error, place);
		return undefined;
	}
	let solo: SoloDomain | undefined;
	try {
		solo = soloDomain(octets, bundle.pages);
	} catch (error) {
		// Chunks that are not whole: the core looks at them when it checks, which needs the domain's peers.
		if (!(error instanceof RangeError) && !(error instanceof XluError)) throw error;
		if (error instanceof XluError && error.rule) {
			reportCore(findings, error, place);
			return undefined;
		}
		findings.report(
			rules.liveUpdate,
			{ ...place, layer: "bundle", record: "LIVE_UPDATE" },
			(error instanceof XluError && error.expected) || "whole tables",
			(error instanceof XluError && error.got) || error.message,
		);
		return undefined;
	}
	if (!solo) {
		findings.report(rules.solo, { ...place, layer: "bundle", record: "LIVE_UPDATE" }, "one domain", "none, or several");
		return undefined;
	}
	return solo;
}

/** Whether the part is of one domain alone, and of a size that a domain can have. */
function ownsAll({ model, domain }: SoloDomain, findings: Findings, place: Place): boolean {
	const { domid } = domain.domain;
	const halves = new Uint32Array(model.frameOwners.buffer);
	let isAll = true;
	for (let mfn = 0; mfn < model.frameOwners.length && isAll; mfn++) {
		const bits = halves[2 * mfn] as number;
		if (bits === 0 || (bits & FRAME.owned && (bits & FRAME_OWNER_MASK) === domid)) continue;
		isAll = false;
		const got = `MFN ${hex(mfn)} of domain ${bits & FRAME_OWNER_MASK}`;
		findings.report(rules.solo, { ...place, field: "FrameOwners" }, `frames of domain ${domid} alone`, got);
	}
	const kept = (domain.keptRanges ?? []).reduce((sum, { frameCount }) => sum + Number(frameCount), 0);
	const highest = Math.max(0, ...domain.vcpuIds, domain.vcpu.length - 1);
	if (kept > MOST_KEPT_FRAMES || highest >= MOST_VCPUS || Object.keys(KIND).length < domain.domain.kind) {
		isAll = false;
		const got = `${kept} page-table frames, vCPU ${highest}, kind ${domain.domain.kind}`;
		findings.report(rules.solo, { ...place, field: "vcpuIds" }, "figures of a domain", got);
	}
	return isAll;
}

function reportInfo({ info, offsets }: Bundle, solo: SoloDomain, findings: Findings, domid: number): void {
	const { domain, model } = solo;
	const place = { layer: "bundle", record: "INFO", offset: offsets.get("INFO") ?? 0, domid } as const;
	for (const [field, value] of Object.entries(infoOf(model, domain, Number(info?.flags)))) {
		const got = `${info?.[field]}`;
		if (got !== `${value}`) findings.report(rules.info, { ...place, field }, `${value}`, got);
	}
}

// --- pages and PFNs ---

function reportPages(
	{ pages, offsets }: Bundle,
	{ domain, model }: SoloDomain,
	findings: Findings,
	domid: number,
): void {
	const place = { layer: "bundle", record: "PAGES", offset: offsets.get("PAGES") ?? 0, domid } as const;
	for (const mfn of pages.keys()) {
		if ((model.frameOwners[mfn] ?? 0n) === 0n) {
			findings.report(rules.pages, place, "frames of the domain", `MFN ${hex(mfn)}`);
		}
	}
	const need = (mfn: number | bigint | undefined, what: string): void => {
		if (isNone(mfn) || pages.has(Number(mfn))) return;
		findings.report(rules.pageMissing, place, `the page of ${what}`, `none of MFN ${hex(mfn as bigint | number)}`);
	};
	need(domain.sharedInfo?.mfn, "shared_info");
	for (const { mfn } of domain.grantFrames ?? []) need(mfn, "a grant frame");
	for (const { mfn } of domain.statusFrames ?? []) need(mfn, "a status frame");
	for (const { mfn } of domain.controlBlocks ?? []) need(mfn, "a FIFO control block");
	for (const { mfn } of domain.eventArrays ?? []) need(mfn, "a FIFO event array");
	if (!isPv(domain)) return;
	for (let mfn = 0; mfn < model.frameTypes.length; mfn++) {
		const level = (model.frameTypes[mfn] as number) & 7;
		if (level >= PAGE_TYPE.l1 && level <= PAGE_TYPE.l4) need(mfn, `an L${level} table`);
	}
}

function checkPfns(bundle: Bundle, solo: SoloDomain, libxc: BundleStream, findings: Findings): PvLayout | undefined {
	const { pfns, offsets } = bundle;
	const place = {
		layer: "bundle",
		record: "PFNS",
		offset: offsets.get("PFNS") ?? 0,
		domid: solo.domain.domain.domid,
	} as const;
	if (!isPv(solo.domain)) {
		if (pfns)
			findings.report(rules.pfns, place, "none of a guest that has a P2M in Xen", `${pfns.mfns.length} entries`);
		return undefined;
	}
	if (!pfns) {
		findings.report(rules.pfns, place, "the frame of each PFN", "none");
		return undefined;
	}
	const own = new Set(ordinaryFrames(solo.model.frameOwners, solo.domain.domain.domid));
	const seen = new Set<number>();
	for (const [i, mfn] of pfns.mfns.entries()) {
		if (mfn < 0) continue;
		const isTwice = seen.has(mfn);
		seen.add(mfn);
		if (own.has(mfn) && !isTwice) continue;
		const field = `PFN ${hex(pfns.startPfn + i)}`;
		const got = `MFN ${hex(mfn)}${isTwice ? " again" : ""}`;
		findings.report(rules.pfns, { ...place, field }, "a frame of the domain, once", got);
	}
	if (seen.size < own.size) findings.report(rules.pfns, place, `${own.size} frames`, `${seen.size}`);
	const layout = pvLayoutOf(libxc.octets, solo.domain, pfns);
	if (layout) reportP2mFrames(layout, libxc, findings, place);
	return layout;
}

/** The guest's own P2M must lie in frames of the guest, by whose width an entry has 8 octets or 4. */
function reportP2mFrames(layout: PvLayout, { offset }: BundleStream, findings: Findings, place: Place): void {
	const where = { ...place, layer: "libxc", record: "X86_PV_P2M_FRAMES", offset } as const;
	const { p2mPfns, startPfn, mfns } = layout;
	const count = p2mFrameCount(layout);
	if (p2mPfns.length !== count) {
		findings.report(rules.p2mFrames, { ...where, field: "pfns" }, `${count} frames`, `${p2mPfns.length}`);
	}
	const seen = new Set<number>();
	for (const [i, pfn] of p2mPfns.entries()) {
		const isTwice = seen.has(pfn);
		seen.add(pfn);
		if (!isTwice && (mfns[pfn - startPfn] ?? -1) >= 0) continue;
		const got = `PFN ${hex(pfn)}${isTwice ? " again" : ""}`;
		findings.report(rules.p2mFrames, { ...where, field: `pfns[${i}]` }, "a frame of the guest, once", got);
		return;
	}
}

// --- the libxc part ---

interface LibxcCase {
	libxc: BundleStream;
	solo: SoloDomain;
	layout: PvLayout | undefined;
	xen: { major: number; minor: number };
}

function reportLibxc({ libxc, solo, layout, xen }: LibxcCase, findings: Findings, domid: number): void {
	const { domain, preserved } = solo;
	const place = { layer: "libxc", record: "image", offset: libxc.offset, domid } as const;
	const end = framingEnd(libxc.octets);
	if (end !== libxc.octets.length || libxc.octets.length === 0) {
		const expected = "whole records up to one END";
		findings.report(rules.libxc, { ...place, offset: libxc.offset + end }, expected, "something else");
		return;
	}
	if (isPv(domain) && !layout) {
		findings.report(rules.libxc, place, "X86_PV_INFO, X86_PV_P2M_FRAMES and PFNS", "not all of them");
		return;
	}
	let made: Uint8Array;
	try {
		made = libxcImage(domain, layout, preserved, xen);
	} catch (error) {
		if (!(error instanceof XluError) || error.code === "XLU_E_INTERNAL") throw error;
		// A register without its frame, or P2M frames with numbers that no record holds.
		const rule = error.code === "XLU_E_REFUSED" ? rules.state : rules.libxc;
		findings.report(rule, place, error.expected ?? "PFNs", error.got ?? error.message);
		return;
	}
	for (let at = 0; at < LIBXC_HEADERS_BYTES; at++) {
		if (made[at] === libxc.octets[at]) continue;
		const where = { ...place, record: "header", offset: libxc.offset + at };
		findings.report(rules.libxc, where, hex(made[at] as number), hex(libxc.octets[at] ?? 0));
		return;
	}
	reportState([...libxcRecords(made)], [...libxcRecords(libxc.octets)], findings, place);
	if (findings.errors.length === 0 && Buffer.compare(made, libxc.octets) !== 0) {
		findings.report(rules.libxc, place, "records in libxc's order, padded with zeros", "another order or padding");
	}
}

/** Where an image's framing ends: at its length if it is whole. */
function framingEnd(image: Uint8Array): number {
	let end = image.length < LIBXC_HEADERS_BYTES ? 0 : LIBXC_HEADERS_BYTES;
	for (const record of libxcRecords(image)) end = record.end;
	return end;
}

/** Records that belong to one vCPU each. */
const VCPU_RECORDS: ReadonlySet<number> = new Set([
	LIBXC_RECORD.X86_PV_VCPU_BASIC,
	LIBXC_RECORD.X86_PV_VCPU_EXTENDED,
	LIBXC_RECORD.X86_PV_VCPU_XSAVE,
	LIBXC_RECORD.X86_PV_VCPU_MSRS,
]);

function keyOf({ type, body }: LibxcRecord): string {
	const name = libxcRecordNames[type] ?? hex(type);
	return VCPU_RECORDS.has(type) && body.length > 0 ? `${name} of vCPU ${body[0]}` : name;
}

function reportState(
	made: readonly LibxcRecord[],
	found: readonly LibxcRecord[],
	findings: Findings,
	place: Place,
): void {
	const byKey = new Map(found.map((record) => [keyOf(record), record]));
	for (const record of made) {
		const key = keyOf(record);
		const other = byKey.get(key);
		byKey.delete(key);
		if (!other) {
			findings.report(rules.state, { ...place, record: key }, "a record", "none");
			continue;
		}
		const length = Math.min(record.body.length, other.body.length);
		let at = 0;
		while (at < length && record.body[at] === other.body[at]) at++;
		if (at === record.body.length && at === other.body.length) continue;
		const octet = (body: Uint8Array): string => (at < body.length ? hex(body[at] as number) : "its end");
		const where = { ...place, record: key, offset: place.offset + other.offset, field: `octet ${at}` };
		findings.report(rules.state, where, octet(record.body), octet(other.body));
	}
	for (const [key, { offset }] of byKey) {
		findings.report(rules.state, { ...place, record: key, offset: place.offset + offset }, "no such record", "one");
	}
}

// --- the xenstore part ---

function checkStore(part: BundleStream, solo: SoloDomain, flags: number, findings: Findings): ReadStore | undefined {
	const { domid } = solo.domain.domain;
	const place: Place = { layer: "xenstore", record: "stream", offset: part.offset, domid };
	if (!(flags & INFO_FLAG.storeKnown)) {
		findings.report(rules.storeUnknown, place, "the domain's nodes", "none");
		return undefined;
	}
	let read: ReadStore;
	try {
		read = readStore(part.octets);
	} catch (error) {
		// The reader has reported it.
		if (!(error instanceof XluError) || error.code === "XLU_E_INTERNAL") throw error;
		return undefined;
	}
	const { store, problems, hostOnly, offsets } = read;
	const at = (thing: object, record: string): Place => ({
		...place,
		record,
		offset: part.offset + (offsets.get(thing) ?? 0),
	});
	const report = (rule: FormatRule, { offset, record, expected, got }: StoreProblem): void =>
		findings.report(rule, { ...place, record, offset: part.offset + offset }, expected, got);
	for (const problem of problems) report(rules.store, problem);
	for (const problem of hostOnly) report(rules.storeConnection, problem);
	const paths = pathsOfDomain(store.nodes, domid);
	for (const [path, node] of store.nodes) {
		if (paths.has(path)) continue;
		const expected = `nodes that relate to domain ${domid}`;
		findings.report(rules.storeScope, { ...at(node, "NODE_DATA"), field: "path" }, expected, path);
	}
	const { connections = [], domains = [] } = store.daemon ?? {};
	for (const [record, rows] of [
		["CONNECTION_DATA", connections],
		["DOMAIN_DATA", domains],
	] as const) {
		for (const row of rows) {
			if (row.domid === domid) continue;
			findings.report(rules.storeConnection, at(row, record), `domain ${domid}`, `domain ${row.domid}`);
		}
	}
	if (!(flags & INFO_FLAG.watchesKnown)) {
		findings.report(rules.watchesUnknown, place, "watches and open transactions", "not known");
	}
	reportDevices(store, solo, (rule, path, expected, got) => {
		const node = store.nodes.get(path) ?? {};
		findings.report(rule, { ...at(node, "NODE_DATA"), field: path }, expected, got);
	});
	return read;
}

const CONNECTED = "4";
const PORT_NODE = /(?:^|\/)event-channel(?:-[rt]x)?$/;
const GRANT_NODE = /(?:^|\/)(?:(?:[rt]x-)?ring-ref\d*|page-gref)$/;

type SayOfNode = (rule: FormatRule, path: string, expected: string, got: string) => void;

/** What a domain's nodes say of its ports, its grants and the other ends of its devices. */
class DeviceChecks {
	readonly #nodes: Store["nodes"];
	readonly #domain: DomainModel;
	readonly #pages: PreservedPages;
	readonly #say: SayOfNode;

	constructor({ nodes }: Store, { domain, preserved }: SoloDomain, say: SayOfNode) {
		this.#nodes = nodes;
		this.#domain = domain;
		this.#pages = preserved;
		this.#say = say;
	}

	#text(path: string): string | undefined {
		const node = this.#nodes.get(path);
		return node && textOfValue(node);
	}

	/** An open port; towards `remote` where that is known. */
	port(path: string, remote?: number): void {
		const text = this.#text(path);
		if (text === undefined || text === "") return;
		const row = /^\d+$/.test(text) ? this.#domain.ports?.[Number(text)] : undefined;
		const state = Number(row?.state ?? EVTCHN_STATE.free);
		const isOpen = state === EVTCHN_STATE.unbound || state === EVTCHN_STATE.interdomain;
		if (isOpen && (remote === undefined || Number(row?.remoteDomid) === remote)) return;
		const expected = remote === undefined ? "an open port" : `an open port towards domain ${remote}`;
		const got = `port ${text}: ${isOpen ? `towards domain ${row?.remoteDomid}` : `state ${state}`}`;
		this.#say(rules.devicePorts, path, expected, got);
	}

	/** A reference to an entry by which the domain grants `remote` access. */
	grant(path: string, remote: number): void {
		const text = this.#text(path) ?? "";
		const { grantTable, grantFrames } = this.#domain;
		const version = Number(grantTable?.version ?? 1) === 2 ? 2 : 1;
		const perFrame = GRANT_ENTRIES_PER_FRAME[version];
		const references = (grantFrames?.length ?? 0) * perFrame;
		if (!/^\d+$/.test(text) || Number(text) >= references) {
			this.#say(rules.deviceGrants, path, `a reference below ${references}`, text);
			return;
		}
		const page = this.#pages.get(Number(grantFrames?.[Math.floor(Number(text) / perFrame)]?.mfn));
		// A page that is not there has been told of.
		if (!page) return;
		const entry = (version === 2 ? readGrantV2 : readGrantV1)(page, Number(text) % perFrame);
		const isGranted = (entry.flags & GTF.typeMask) === GTF_PERMIT_ACCESS;
		if (isGranted && entry.domid === remote) return;
		const got = isGranted ? `a grant to domain ${entry.domid}` : `an entry with flags ${hex(entry.flags)}`;
		this.#say(rules.deviceGrants, path, `a grant to domain ${remote}`, got);
	}

	/** A frontend and the backend that it names: each says where the other is. */
	pair({ frontend, backend, backendId }: DeviceArea): void {
		const home = homeOf(backendId);
		if (!isBelow(backend, home)) {
			this.#say(rules.devicePairs, `${frontend}/backend`, `an area in ${home}`, backend);
			return;
		}
		const expected = { frontend, "frontend-id": `${this.#domain.domain.domid}` };
		for (const [name, value] of Object.entries(expected)) {
			const path = `${backend}/${name}`;
			const got = this.#text(path);
			if (got !== value) this.#say(rules.devicePairs, path, value, got ?? "no such node");
		}
	}

	/** A backend connects again where its own state says that it is connected. */
	backendState({ backend }: DeviceArea): void {
		const path = `${backend}/state`;
		const state = this.#text(path);
		if (state !== CONNECTED) this.#say(rules.backendState, path, CONNECTED, state ?? "no such node");
	}

	/** Ports and references that a connected frontend names. */
	connected(area: DeviceArea): void {
		this.backendState(area);
		for (const path of this.#nodes.keys()) {
			if (!path.startsWith(`${area.frontend}/`)) continue;
			if (PORT_NODE.test(path)) this.port(path, area.backendId);
			if (GRANT_NODE.test(path)) this.grant(path, area.backendId);
		}
	}
}

/** The store and the console have ports, but frames for references; the store's other end is wherever its daemon runs. */
function reportDevices(store: Store, solo: SoloDomain, say: SayOfNode): void {
	const { domid } = solo.domain.domain;
	const home = homeOf(domid);
	const checks = new DeviceChecks(store, solo, say);
	checks.port(`${home}/store/port`);
	for (const area of deviceAreas(store.nodes, domid)) {
		checks.pair(area);
		if (area.frontend === `${home}/console`) checks.port(`${home}/console/port`, area.backendId);
		const state = store.nodes.get(`${area.frontend}/state`);
		if (isBelow(area.frontend, `${home}/device`) && state && textOfValue(state) === CONNECTED) checks.connected(area);
	}
}

// --- alone on a host ---

/** Frames beyond the domain's: Xen's own, the M2P's, room for alignment. */
const SPARE_FRAMES = XEN_FRAMES + 2048;
const M2P_SHARE = 500;

/** A host with nothing on it but room for the domain: what refuses it there is the bundle's own fault. */
function reportAlone(core: Core, checked: CheckedBundle, findings: Findings, place: Place): void {
	const needed = neededFrames(checked.solo) + SPARE_FRAMES;
	const frames = needed + Math.ceil(needed / M2P_SHARE);
	const cpus = Number(checked.solo.model.host.cpuCount ?? 1);
	const empty = emptyHost(frames, Math.max(1, Math.min(cpus, MOST_VCPUS)));
	const { domain, model } = checked.solo;
	const pool = arrivalPool(model, domain);
	if (!hasSameScheduler(pool, domain)) {
		const [expected, got] = [`scheduler ${pool?.scheduler ?? 0}`, `${domain.scheduler?.scheduler ?? 0}`];
		findings.report(
			coreRule("XLU-R104"),
			{ ...place, record: "LU_SCHEDULER", field: "scheduler" },
			expected,
			got,
			true,
		);
		return;
	}
	// With its pool's scheduler, so that its figures are looked at.
	const poolList = empty.model.poolList.map((row) => ({ ...row, scheduler: pool?.scheduler ?? row.scheduler }));
	reportResult(core, { ...empty, model: { ...empty.model, poolList } }, checked, findings, place);
}

/** Puts the domain on a target and lets the core judge the result. */
export function reportResult(core: Core, target: Host, checked: CheckedBundle, findings: Findings, place: Place): void {
	const { solo } = checked;
	const result = receive(target, checked, (field, expected, got) => {
		findings.report(rules.solo, { ...place, field }, expected, got);
	});
	if (!result) {
		findings.report(rules.memory, place, freeFrames(neededFrames(solo), solo.domain), "fewer");
		return;
	}
	if (findings.errors.length > 0) return;
	try {
		core.reset();
		const saved = saveHost(core, result);
		openAndCheck(core, saved.stream, saved.memory);
	} catch (error) {
		// Offsets in a stream that was made for this check say nothing to people.
		if (error instanceof XluError) {
			const { rule, domid, field, expected, got, message, record } = error;
			const where = {
				...place,
				record: record ?? place.record,
				...(field ? { field } : {}),
				...(domid ? { domid } : {}),
			};
			if (error.code === "XLU_E_INTERNAL") throw error;
			findings.report(coreRule(rule), where, expected ?? "a host that it takes", got ?? message, true);
			return;
		}
		throw error;
	}
}
