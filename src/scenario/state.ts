/**
 * What a scenario can expect of a machine's state: a domain, a port, a grant, an entry of a P2M, a vCPU, a frame. One table
 * says for each what names it and what can be asked of it; scenarios are validated and documents generated from it.
 */
import {
	EVTCHN_ABI,
	EVTCHN_STATE,
	FRAME,
	KIND,
	LIFE,
	NONE32,
	P2M_ACCESS,
	P2M_ORDER,
	P2M_TYPE,
	PAGE_TYPE,
	SHUTDOWN_STATE,
	VCPU_FLAG,
} from "../format/enums.ts";
import { EVENT_WORD, EVENT_WORDS_PER_FRAME, eventWord, sharedBit } from "../machine/guestPages.ts";
import type { Domain } from "../machine/live/domain.ts";
import { isPortPending } from "../machine/live/events.ts";
import type { Machine } from "../machine/live/machine.ts";
import type { Parameter } from "../machine/live/operations.ts";
import { lookUp } from "../machine/live/p2m.ts";

/** What was read: undefined where there is no such thing. */
export type Read = number | boolean | string | undefined;

export interface Check extends Parameter {
	readonly read: (machine: Machine, of: Target) => Read;
}

/** Numbers that name the subject, by their keys. */
export type Target = Readonly<Record<string, number>>;

export interface Subject {
	readonly doc: string;
	readonly target: Readonly<Record<string, Parameter>>;
	readonly checks: Readonly<Record<string, Check>>;
}

type Reading<T> = (found: T, machine: Machine, of: Target) => Read;
type Finder<T> = (machine: Machine, of: Target) => T | undefined;

/** Checks of one subject: each reads what `find` finds, and nothing where it finds none. */
function checksOf<T>(find: Finder<T>) {
	const through =
		(read: Reading<T>) =>
		(machine: Machine, of: Target): Read => {
			const found = find(machine, of);
			return found === undefined ? undefined : read(found, machine, of);
		};
	return {
		integer: (doc: string, read: Reading<T>): Check => ({ type: "integer", doc, max: MOST, read: through(read) }),
		boolean: (doc: string, read: Reading<T>): Check => ({ type: "boolean", doc, read: through(read) }),
		name: (names: readonly string[], doc: string, read: Reading<T>): Check => ({
			type: "name",
			names,
			doc,
			read: through(read),
		}),
	};
}
const MOST = Number.MAX_SAFE_INTEGER;

/** The name of a number of an enumeration. */
const nameOf = (names: Readonly<Record<string, number>>, value: number): string =>
	Object.keys(names).find((name) => names[name] === value) ?? `${value}`;

const key = (doc: string, max: number): Parameter => ({ type: "integer", doc, max });
const domid = key("the domain", 0xffff);

const shutdownNames = ["none", "poweroff", "reboot", "suspend", "crash", "watchdog", "softReset"];

const domainOf = (machine: Machine, of: Target): Domain | undefined => machine.domains.get(of.domid as number);
const portOf: Finder<NonNullable<Domain["tables"]["ports"][number]>> = (machine, of) =>
	domainOf(machine, of)?.tables.ports[of.port as number];
const vcpuOf: Finder<NonNullable<Domain["tables"]["vcpu"][number]>> = (machine, of) =>
	domainOf(machine, of)?.tables.vcpu[of.vcpu as number];
const grantOf: Finder<{ active: Domain["tables"]["grantActive"][number] }> = (machine, of) => {
	const active = domainOf(machine, of)?.tables.grantActive;
	return active === undefined || (of.grant as number) >= active.length
		? undefined
		: { active: active[of.grant as number] };
};

function isMasked(machine: Machine, { tables, guestWidth }: Domain, port: number): boolean {
	if (tables.evtchn?.abi !== EVTCHN_ABI.fifo) {
		return (
			tables.sharedInfo !== undefined &&
			sharedBit(machine.memory.look(Number(tables.sharedInfo.mfn)), "mask", port, guestWidth)
		);
	}
	const array = tables.eventArrays[Math.floor(port / EVENT_WORDS_PER_FRAME)];
	// Without an event word nobody could unmask it.
	if (array === undefined) return true;
	return (eventWord(machine.memory.look(Number(array.mfn)), port % EVENT_WORDS_PER_FRAME) & EVENT_WORD.masked) !== 0;
}

const ofDomain = checksOf(domainOf);
const ofPort = checksOf(portOf);
const ofGrant = checksOf(grantOf);
const ofVcpu = checksOf(vcpuOf);
const ofP2m = checksOf<{ entry: ReturnType<typeof lookUp> }>((machine, of) => {
	const domain = domainOf(machine, of);
	return domain && { entry: lookUp(domain, of.gfn as number) };
});
const ofFrame = checksOf<number>((machine, of) =>
	machine.frames.exists(of.frame as number) ? (of.frame as number) : undefined,
);
const pins = (counter: "hostWrite" | "hostRead" | "deviceWrite" | "deviceRead", doc: string): Check =>
	ofGrant.integer(doc, ({ active }) => active?.[counter] ?? 0);
const flag = (bit: number, doc: string): Check => ofVcpu.boolean(doc, ({ flags }) => (flags & bit) !== 0);

/** Every subject. Which one is meant follows from the keys: `port` with `domid` is a port, `domid` alone a domain. */
export const subjects: Readonly<Record<string, Subject>> = {
	port: {
		doc: "A port of a domain.",
		target: { domid, port: key("its number", NONE32) },
		checks: {
			state: {
				type: "name",
				names: Object.keys(EVTCHN_STATE),
				doc: "what it is bound to",
				read: (machine, of) => domainOf(machine, of) && nameOf(EVTCHN_STATE, portOf(machine, of)?.state ?? 0),
			},
			pending: ofPort.boolean("an event is pending", (_, machine, of) =>
				isPortPending(machine, domainOf(machine, of) as Domain, of.port as number),
			),
			masked: ofPort.boolean("it is masked", (_, machine, of) =>
				isMasked(machine, domainOf(machine, of) as Domain, of.port as number),
			),
			vcpu: ofPort.integer("vCPU that is notified", ({ notifyVcpu }) => notifyVcpu),
			remote: ofPort.integer("the other domain (unbound, interdomain)", ({ remoteDomid }) => remoteDomid),
			remotePort: ofPort.integer("the other port (interdomain)", ({ remotePort }) => remotePort),
			virq: ofPort.integer("its VIRQ", ({ virq }) => virq),
			pirq: ofPort.integer("its PIRQ", ({ pirq }) => pirq),
			priority: ofPort.integer("its priority (FIFO)", ({ priority }) => priority),
		},
	},
	grant: {
		doc: "An entry of a domain's grant table, as Xen knows it.",
		target: { domid, grant: key("the reference", NONE32) },
		checks: {
			active: ofGrant.boolean("somebody maps it", ({ active }) => active !== undefined),
			pins: ofGrant.integer("how often it is mapped, all kinds together", ({ active }) =>
				active ? active.hostWrite + active.hostRead + active.deviceWrite + active.deviceRead : 0,
			),
			hostWrite: pins("hostWrite", "mappings to read and write by processors"),
			hostRead: pins("hostRead", "mappings to read by processors"),
			deviceWrite: pins("deviceWrite", "mappings to read and write by devices"),
			deviceRead: pins("deviceRead", "mappings to read by devices"),
			grantee: ofGrant.integer("who maps it", ({ active }) => active?.grantee),
			mfn: ofGrant.integer("its frame", ({ active }) => active && Number(active.mfn)),
		},
	},
	gfn: {
		doc: "An entry of a domain's P2M (PVH, HVM).",
		target: { domid, gfn: key("the guest frame", 2 ** 40 - 1) },
		checks: {
			type: ofP2m.name(["hole", ...Object.keys(P2M_TYPE)], "its type", ({ entry }) =>
				entry === undefined ? "hole" : nameOf(P2M_TYPE, entry.type),
			),
			mfn: ofP2m.integer("what it maps", ({ entry }) => entry?.mfn),
			access: ofP2m.name(Object.keys(P2M_ACCESS), "its access right", ({ entry }) =>
				entry === undefined ? undefined : nameOf(P2M_ACCESS, entry.access),
			),
			order: ofP2m.name(Object.keys(P2M_ORDER), "size of the page that it is part of", ({ entry }) =>
				entry === undefined ? undefined : nameOf(P2M_ORDER, entry.order),
			),
		},
	},
	vcpu: {
		doc: "A vCPU of a domain.",
		target: { domid, vcpu: key("its number", 8191) },
		checks: {
			online: ofVcpu.boolean("it is up", ({ flags }) => (flags & VCPU_FLAG.down) === 0),
			initialised: flag(VCPU_FLAG.initialised, "it has a context"),
			blocked: flag(VCPU_FLAG.blocked, "it waits for an event"),
		},
	},
	frame: {
		doc: "A frame of the machine.",
		target: { frame: key("its MFN", 2 ** 40 - 1) },
		checks: {
			free: ofFrame.boolean("nobody owns it", (mfn, { frames }) => frames.isFree(mfn)),
			owner: ofFrame.integer("domain that owns it", (mfn, { frames }) => frames.ownerOf(mfn)),
			allocated: ofFrame.boolean("its owner has not given it up", (mfn, { frames }) =>
				frames.has(mfn, FRAME.allocated),
			),
			type: ofFrame.name(Object.keys(PAGE_TYPE), "page type in use", (mfn, { frames }) =>
				nameOf(PAGE_TYPE, frames.typeOf(mfn)),
			),
			pinned: ofFrame.boolean("its type is pinned", (mfn, { frames }) => frames.isPinned(mfn)),
			references: ofFrame.integer("page references", (mfn, { frames }) => frames.references(mfn)),
			typeReferences: ofFrame.integer("type references", (mfn, { frames }) => frames.typeReferences(mfn)),
		},
	},
	domid: {
		doc: "A domain.",
		target: { domid },
		checks: {
			exists: {
				type: "boolean",
				doc: "it is there, alive or dead",
				read: (machine, of) => machine.domains.has(of.domid as number),
			},
			kind: ofDomain.name(Object.keys(KIND), "kind of guest", ({ kind }) => nameOf(KIND, kind)),
			life: ofDomain.name(Object.keys(LIFE), "dead: destroyed, but others map its frames or refer to it", (domain) =>
				domain.isDead ? "dead" : "alive",
			),
			references: ofDomain.integer("references to it", ({ references }) => references),
			frames: ofDomain.integer("frames of memory (nr_pages)", ({ frames }) => frames),
			xenheapFrames: ofDomain.integer("frames of Xen's that it shares", ({ xenheapFrames }) => xenheapFrames),
			extraFrames: ofDomain.integer("extra frames: pages of I/O servers", ({ extraFrames }) => extraFrames),
			vcpus: ofDomain.integer("vCPUs", ({ tables }) => tables.vcpuIds.length),
			online: ofDomain.integer(
				"vCPUs that are up",
				(domain) => domain.tables.vcpuIds.filter((id) => domain.isOnline(id)).length,
			),
			pauses: ofDomain.integer("pauses by the toolstack", ({ tables }) => tables.domainState.controllerPauseCount),
			shutdown: ofDomain.name(shutdownNames, "why it has shut down", ({ tables: { domainState } }) =>
				domainState.shutdownState === SHUTDOWN_STATE.none
					? "none"
					: (shutdownNames[domainState.shutdownCode + 1] ?? `${domainState.shutdownCode}`),
			),
			abi: ofDomain.name(Object.keys(EVTCHN_ABI), "ABI of its event channels", ({ tables }) =>
				tables.evtchn === undefined ? undefined : nameOf(EVTCHN_ABI, tables.evtchn.abi),
			),
			ports: ofDomain.integer(
				"event channels in use",
				({ tables }) => tables.ports.filter((row) => row !== undefined && row.state >= EVTCHN_STATE.unbound).length,
			),
			grantVersion: ofDomain.integer("version of its grant table", ({ tables }) => tables.grantTable?.version),
			activeGrants: ofDomain.integer(
				"grants of it that others map",
				({ tables }) => tables.grantActive.filter((row) => row !== undefined).length,
			),
			grantMappings: ofDomain.integer(
				"grants of others that it maps",
				({ tables }) => tables.maptrack.filter((row) => row !== undefined).length,
			),
			foreignMappings: ofDomain.integer("frames of others in its P2M", ({ tables }) => tables.foreignMapList.length),
			servers: ofDomain.integer("I/O servers that serve it", ({ tables }) => tables.ioreqServerList.length),
		},
	},
};
