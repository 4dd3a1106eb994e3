/**
 * The receiving side: would a target take the domain of a bundle? (Requirement F5; Xen, "Non-Cooperative Migration of
 * Guests".) Everything that stands against it is told, then everything that will be different there.
 */
import type { Core } from "../core/load.ts";
import { CONSUMER, CREATE, DOMID, EVTCHN_STATE, KIND, LIFE, NONE32, SCHEDULER } from "../format/enums.ts";
import { bundleRules as rules } from "../formats/bundle/rules.ts";
import { type Findings, type FormatRule, hex, type Place } from "../formats/common/findings.ts";
import type { Host } from "../host.ts";
import type { DomainModel } from "../machine/model.ts";
import { type CheckedBundle, reportResult } from "./check.ts";
import { arrivalPool, freeFrameCount, freeFrames, hasSameScheduler, neededFrames } from "./receive.ts";
import { allCpus, isNarrow } from "./solo.ts";
import { canWatch, deviceAreas, homeOf, parentOf, type Store, type StoreNode, textOfValue } from "./store.ts";

type Say = (rule: FormatRule, field: string, expected: string, got: string) => void;

/** Of something in the store, which stands at its record. */
type SayOfStore = (
	rule: FormatRule,
	record: string,
	thing: object,
	field: string,
	expected: string,
	got: string,
) => void;

/** Rules that could not be looked at, by what is not known. */
export interface OntoResult {
	readonly notCheckable: readonly string[];
}

/**
 * Reports what a target says to a bundle.
 * @param core works in its windows, which are dropped
 */
export function reportOnto(core: Core, target: Host, checked: CheckedBundle, findings: Findings): OntoResult {
	const { domid, solo, offsets } = checked;
	const { domain } = solo;
	const place: Place = { layer: "bundle", record: "LIVE_UPDATE", offset: offsets.stream, domid };
	const say: Say = (rule, field, expected, got) => findings.report(rule, { ...place, field }, expected, got);
	const sayOfStore: SayOfStore = (rule, record, thing, field, expected, got) => {
		const offset = offsets.xenstore + (checked.storeOffsets.get(thing) ?? 0);
		findings.report(rule, { layer: "xenstore", record, offset, field, domid }, expected, got);
	};
	const alive = new Set(
		target.model.domains
			.filter(({ domain: other }) => Number(other.life ?? LIFE.alive) === LIFE.alive)
			.map(({ domain: other }) => other.domid),
	);

	const taken = target.model.domains.find(({ domain: other }) => other.domid === domid);
	if (taken) {
		const dead = Number(taken.domain.life ?? LIFE.alive) === LIFE.dead ? ", dead, whose frames others map" : "";
		say(rules.domidTaken, "domid", `domain ${domid} free`, `a domain ${domid} on ${target.name}${dead}`);
	}
	reportPeers(domain, checked.store, alive, say, sayOfStore);
	const needed = neededFrames(solo);
	const free = freeFrameCount(target.model, domain);
	if (free < needed) say(rules.memory, "frames", freeFrames(needed, domain), `${free}`);
	const notCheckable = [...reportMachine(target, checked, say), ...reportXenStart(target, domain, say)];
	reportPlacement(target, checked, say);
	reportPorts(domain, say);
	if (checked.store) reportStore(checked.store, target.store, { domid, alive }, say, sayOfStore);
	if (findings.errors.length === 0) reportResult(core, target, checked, findings, place);
	return { notCheckable: checked.store && target.store ? notCheckable : [...notCheckable, rules.nodeTaken.code] };
}

// --- other domains ---

const isGuest = (domid: number): boolean => domid < DOMID.FIRST_RESERVED;

/** Why a domain has to be there: what of the guest names it, and the node where it is one of those. */
interface Reason {
	readonly what: string;
	readonly node?: StoreNode | undefined;
}

/** Who has to be there, and why. */
export function peersOf(domain: DomainModel, store: Store | undefined): Map<number, Reason[]> {
	const self = domain.domain.domid;
	const peers = new Map<number, Reason[]>();
	const need = (domid: number, what: string, node?: StoreNode): void => {
		if (domid === self || !isGuest(domid)) return;
		const reasons = peers.get(domid);
		if (reasons) reasons.push({ what, node });
		else peers.set(domid, [{ what, node }]);
	};
	(domain.ports ?? []).forEach((row, port) => {
		const state = Number(row?.state ?? EVTCHN_STATE.free);
		if (state === EVTCHN_STATE.unbound || state === EVTCHN_STATE.interdomain) {
			need(Number(row?.remoteDomid), `port ${port}`);
		}
	});
	(domain.grantActive ?? []).forEach((row, reference) => {
		if (row) need(Number(row.grantee), `grant ${reference}`);
	});
	for (const { emulator, serverId } of domain.ioreqServerList ?? []) need(Number(emulator), `I/O server ${serverId}`);
	for (const { frontend, backendId } of store ? deviceAreas(store.nodes, self) : []) {
		need(backendId, frontend, store?.nodes.get(`${frontend}/backend`));
	}
	return peers;
}

function reportPeers(
	domain: DomainModel,
	store: Store | undefined,
	alive: ReadonlySet<number>,
	say: Say,
	sayOfStore: SayOfStore,
): void {
	for (const [domid, reasons] of peersOf(domain, store)) {
		if (alive.has(domid)) continue;
		const names = reasons.slice(0, 4).map(({ what }) => what);
		const list = `${names.join(", ")}${reasons.length > 4 ? ` and ${reasons.length - 4} more` : ""}`;
		const [expected, got] = [`domain ${domid} alive`, "no such domain"];
		const [first] = reasons;
		if (first?.node) sayOfStore(rules.backendDomain, "NODE_DATA", first.node, list, expected, got);
		else say(rules.backendDomain, list, expected, got);
	}
}

// --- the machine ---

/** Bits that a hypervisor shows or hides by itself, by word of the feature set. */
const SYNTHETIC: Readonly<Record<number, number>> = {
	// HTT, SEP, the local APIC.
	0: (1 << 28) | (1 << 11) | (1 << 9),
	// x2APIC, TSC deadline, OSXSAVE, hypervisor.
	1: (1 << 21) | (1 << 24) | (1 << 27) | (1 << 31),
	// AMD repeats bits of word 0 here, of which Xen keeps one copy.
	2: 0x0183f3ff,
	// CMP_LEGACY.
	3: 1 << 1,
	// TSC_ADJUST.
	5: 1 << 1,
};

/** Where each word of Xen's feature set stands in CPUID (public/arch-x86/cpufeatureset.h). */
const FEATURE_WORDS = [
	{ leaf: 0x1, subleaf: undefined, register: "edx" },
	{ leaf: 0x1, subleaf: undefined, register: "ecx" },
	{ leaf: 0x80000001, subleaf: undefined, register: "edx" },
	{ leaf: 0x80000001, subleaf: undefined, register: "ecx" },
	{ leaf: 0xd, subleaf: 1, register: "eax" },
	{ leaf: 0x7, subleaf: 0, register: "ebx" },
	{ leaf: 0x7, subleaf: 0, register: "ecx" },
] as const;

function reportMachine(target: Host, { solo, xen, cpuKhz }: CheckedBundle, say: Say): string[] {
	const { domain } = solo;
	const { model, capabilities } = target;
	const [major, minor] = [Number(model.version.xenMajor ?? 0), Number(model.version.xenMinor ?? 0)];
	if (major !== 0 && (major < xen.major || (major === xen.major && minor < xen.minor))) {
		say(rules.xenVersion, "xenMajor", `Xen ${xen.major}.${xen.minor} or newer`, `Xen ${major}.${minor}`);
	}
	const guestKhz = Number(domain.tsc?.khz ?? cpuKhz);
	const targetKhz = Number(model.host.cpuKhz ?? 0);
	if (guestKhz !== 0 && targetKhz !== 0 && guestKhz !== targetKhz) {
		say(rules.tsc, "khz", `${guestKhz} kHz`, `${targetKhz} kHz`);
	}
	if (!capabilities) return [rules.guestKind.code, rules.cpuFeatures.code];
	const missing = neededCapabilities(domain).filter((name) => !capabilities.virt.includes(name));
	if (missing.length > 0) say(rules.guestKind, "virt_caps", missing.join(", "), capabilities.virt.join(", "));
	const { xen: kinds } = capabilities;
	if (isNarrow(domain) && kinds && !kinds.includes(XEN_CAP_32)) {
		say(rules.guestKind, "xen_caps", XEN_CAP_32, kinds.join(", "));
	}
	for (const [i, { leaf, subleaf, register }] of FEATURE_WORDS.entries()) {
		const row = domain.cpuidLeaves?.find(
			(candidate) =>
				Number(candidate.leaf) === leaf && (subleaf === undefined || Number(candidate.subleaf) === subleaf),
		);
		const word = capabilities.cpu[i];
		if (!row || word === undefined) continue;
		const absent = (Number(row[register] ?? 0) & ~word & ~(SYNTHETIC[i] ?? 0)) >>> 0;
		if (absent === 0) continue;
		const where = `CPUID ${hex(leaf)}${subleaf === undefined ? "" : `.${subleaf}`} ${register}`;
		say(rules.cpuFeatures, where, `bits of ${hex(Number(row[register]))}`, `${hex(word)} without ${hex(absent)}`);
	}
	return isNarrow(domain) && !kinds ? [rules.guestKind.code] : [];
}

/** What xl info's xen_caps has of a Xen that runs 32-bit PV guests. */
const XEN_CAP_32 = "xen-3.0-x86_32p";

/** A host tells where Xen's part of a 32-bit guest's addresses begins by its guests alone. */
function reportXenStart(target: Host, domain: DomainModel, say: Say): string[] {
	if (!isNarrow(domain)) return [];
	const start = Number(domain.pv32?.xenStart ?? 0);
	const starts = target.model.domains
		.filter(isNarrow)
		.flatMap(({ pv32 }) => (pv32 ? [Number(pv32.xenStart ?? 0)] : []));
	const other = starts.find((candidate) => candidate !== start);
	if (other !== undefined) say(rules.xenStart, "xenStart", hex(start), hex(other));
	return starts.length === 0 ? [rules.xenStart.code] : [];
}

const schedulerName = (value: number | bigint | undefined): string =>
	Object.entries(SCHEDULER).find(([, number]) => number === Number(value ?? 0))?.[0] ?? `${value ?? 0}`;

/** Where on the target the domain runs, and what of its shares and its virtual nodes goes there. */
function reportPlacement({ model }: Host, { solo }: CheckedBundle, say: Say): void {
	const { domain } = solo;
	const id = Number(domain.domain.cpupoolId ?? 0);
	const pool = arrivalPool(model, domain);
	if (Number(pool?.poolId ?? -1) !== id) say(rules.placement, "cpupoolId", `CPU pool ${id}`, "no such pool");
	const cpus = allCpus(Number(model.host.cpuCount ?? 1));
	const all = allCpus(Number(solo.model.host.cpuCount ?? 1));
	(domain.hardAffinity ?? []).forEach((bits, vcpu) => {
		// All CPUs of the source means any CPU.
		if (bits !== all && (bits & ~cpus) !== 0n) {
			say(rules.placement, `hard affinity of vCPU ${vcpu}`, `CPUs of ${hex(cpus)}`, hex(bits));
		}
	});
	if (!hasSameScheduler(pool, domain)) {
		const [expected, got] = [schedulerName(domain.scheduler?.scheduler), schedulerName(pool?.scheduler)];
		say(rules.scheduler, "scheduler", expected, `${got} in pool ${Number(pool?.poolId ?? 0)}: its defaults`);
	}
	const placed = (domain.vnumaNodes ?? []).filter(({ physicalNode }) => Number(physicalNode ?? 0) !== NONE32);
	if (placed.length > 0) {
		const nodes = [...new Set(placed.map(({ physicalNode }) => Number(physicalNode ?? 0)))];
		say(rules.virtualNodes, "VnumaNodes", "on no node in particular", `${placed.length} on nodes ${listOf(nodes)}`);
	}
}

function neededCapabilities({ domain, grantTable }: DomainModel): string[] {
	return [
		domain.kind === KIND.pv ? "pv" : "hvm",
		...(Number(domain.createFlags ?? 0) & CREATE.hap ? ["hap"] : []),
		...(Number(grantTable?.version ?? 1) === 2 ? ["gnttab-v2"] : []),
	];
}

// --- ports and grants ---

const listOf = (numbers: readonly number[]): string =>
	`${numbers.slice(0, 8).join(", ")}${numbers.length > 8 ? ` and ${numbers.length - 8} more` : ""}`;

function reportPorts(domain: DomainModel, say: Say): void {
	const self = domain.domain.domid;
	const bound: number[] = [];
	const emulators: number[] = [];
	(domain.ports ?? []).forEach((row, port) => {
		if (!row) return;
		if (Number(row.consumer ?? 0) !== CONSUMER.none) emulators.push(port);
		else if (Number(row.state) === EVTCHN_STATE.interdomain && Number(row.remoteDomid) !== self) bound.push(port);
	});
	if (bound.length > 0) say(rules.ports, `ports ${listOf(bound)}`, "the other ends bind again", "unbound until then");
	const mapped: number[] = [];
	(domain.grantActive ?? []).forEach((row, reference) => {
		if (row && Number(row.grantee) !== self) mapped.push(reference);
	});
	if (mapped.length > 0) {
		say(rules.grants, `references ${listOf(mapped)}`, "backends map them again", "not mapped until then");
	}
	const permitted = domain.capRanges?.length ?? 0;
	if (permitted > 0) say(rules.permissions, "CapRanges", "given anew by the tool stack", `${permitted} ranges`);
	const servers = domain.ioreqServerList?.length ?? 0;
	if (servers + emulators.length > 0) {
		const what = emulators.length > 0 ? `ports ${listOf(emulators)}` : "I/O servers";
		say(rules.emulators, what, "made anew by the device model", `${servers} I/O servers`);
	}
}

// --- the store ---

interface Receiver {
	domid: number;
	alive: ReadonlySet<number>;
}

function reportStore(
	store: Store,
	target: Store | undefined,
	{ domid, alive }: Receiver,
	say: Say,
	sayOfStore: SayOfStore,
): void {
	for (const transaction of store.daemon?.transactions ?? []) {
		const what = `transaction ${transaction.txId}`;
		sayOfStore(rules.transaction, "TRANSACTION_DATA", transaction, what, "committed", "EAGAIN when it ends");
	}
	for (const watch of store.daemon?.watches ?? []) {
		if (canWatch(watch.path)) continue;
		const what = `watch ${JSON.stringify(watch.token)}`;
		sayOfStore(rules.watch, "WATCH_DATA", watch, what, "a path that can be watched", watch.path);
	}
	const absent = new Set<number>();
	for (const [path, node] of store.nodes) {
		for (const perm of node.perms) {
			const other = Number(perm.slice(1));
			if (other === domid || !isGuest(other) || alive.has(other) || absent.has(other)) continue;
			absent.add(other);
			sayOfStore(rules.permission, "NODE_DATA", node, path, `domain ${other}`, "no such domain");
		}
	}
	if (target) reportNodes(store, target, domid, sayOfStore);
	else say(rules.targetStore, "xenstore", "the target's nodes", "not known");
}

const shown = (node: StoreNode): string => JSON.stringify(textOfValue(node)).slice(0, 64);

function reportNodes(store: Store, target: Store, domid: number, say: SayOfStore): void {
	const made = new Map<string, StoreNode>();
	for (const [path, node] of store.nodes) {
		const other = target.nodes.get(path);
		const [perms, otherPerms] = [node.perms.join(), other?.perms.join()];
		if (other && Buffer.compare(other.value, node.value) !== 0) {
			say(rules.nodeTaken, "NODE_DATA", node, path, shown(node), shown(other));
		} else if (other && perms !== otherPerms) {
			say(rules.nodeTaken, "NODE_DATA", node, path, `permissions ${perms}`, `${otherPerms}`);
		}
		for (let up = parentOf(path); up !== "/"; up = parentOf(up)) {
			if (store.nodes.has(up) || target.nodes.has(up)) break;
			made.set(up, node);
		}
	}
	for (const [path, node] of made) {
		say(rules.nodeParent, "NODE_DATA", node, path, "a node on the target", "none: it is made");
	}
	const home = homeOf(domid);
	const left = [...target.nodes.keys()].filter((path) => path.startsWith(`${home}/`) && !store.nodes.has(path));
	if (left.length === 0) return;
	const what = `nothing of a former domain ${domid}`;
	say(rules.nodeTaken, "NODE_DATA", store.nodes.get(home) ?? {}, left[0] as string, what, `${left.length} nodes`);
}
