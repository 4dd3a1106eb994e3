/**
 * All that can be done to a living machine, by name: hypercalls of guests, calls of the toolstack, and what guests do in
 * their own memory. One table says for each operation what it takes, what it means and what runs it; scenarios are
 * validated, documents generated and random sequences printed from it.
 */
import { DOMID, IOREQ_RANGE, KIND, P2M_ORDER } from "../../format/enums.ts";
import { type ContinuationKind, continuationKinds } from "../quiesce.ts";
import * as activity from "./activity.ts";
import { need, Refused } from "./errno.ts";
import * as events from "./events.ts";
import { expandArray, initControl } from "./fifo.ts";
import * as grants from "./grants.ts";
import * as ioreq from "./ioreq.ts";
import * as lifecycle from "./lifecycle.ts";
import type { Machine } from "./machine.ts";
import * as p2m from "./p2m.ts";
import * as pageTables from "./pageTables.ts";
import * as vcpus from "./vcpus.ts";
import { getVnuma, setVnuma } from "./vnuma.ts";

/** A number asked for (port, handle, MFN, count), 0 for done, an errno or GNTST status below zero; or a list of numbers. */
export type Result = number | number[];

export type ParameterType =
	/** A JSON number, a whole one. */
	| "integer"
	/** Up to 64 bits: a JSON number, or a string "0x...". */
	| "word"
	| "boolean"
	/** One of `names`. */
	| "name"
	/** A list of whole numbers. */
	| "integers";

export interface Parameter {
	readonly type: ParameterType;
	readonly doc: string;
	readonly names?: readonly string[];
	/** Whole numbers go from 0 to this: what the hypercall's field holds, not what Xen accepts. */
	readonly max?: number;
	/** What it is if it is left out; without a default it must be there. */
	readonly default?: number | boolean | string;
}

type Values = Readonly<Record<string, number | bigint | boolean | string | readonly number[]>>;

export interface OperationDefinition {
	readonly doc: string;
	readonly parameters: Readonly<Record<string, Parameter>>;
	/** What it returns beside 0 and refusals; undefined for nothing. */
	readonly returns?: string;
	/** It returns a list. */
	readonly isList?: boolean;
	readonly run: (machine: Machine, values: Reader) => Result;
}

/** One operation with its parameters, as JSON has it. Words are hexadecimal strings where a number would lose digits. */
export interface Operation {
	readonly op: string;
	readonly [parameter: string]: number | boolean | string | readonly number[];
}

/** Parameters by name and type; what they are was validated. */
export class Reader {
	readonly #values: Values;
	constructor(values: Values) {
		this.#values = values;
	}
	int(name: string): number {
		return Number(this.#values[name]);
	}
	word(name: string): bigint {
		return BigInt(this.#values[name] as bigint);
	}
	flag(name: string): boolean {
		return this.#values[name] === true;
	}
	text(name: string): string {
		return String(this.#values[name]);
	}
	list(name: string): readonly number[] {
		return this.#values[name] as readonly number[];
	}
}

/** Of whole numbers and of domids, vCPUs, frames: the last is what an entry of a page table or of a P2M has room for. */
const MAX = { integer: 2 ** 32 - 1, domid: 2 ** 16 - 1, vcpu: 8191, frame: 2 ** 40 - 1 } as const;

const integer = (doc: string, value?: number, kind: keyof typeof MAX = "integer"): Parameter => ({
	type: "integer",
	doc,
	max: MAX[kind],
	...(value === undefined ? {} : { default: value }),
});
const domidOf = (doc: string, value?: number): Parameter => integer(doc, value, "domid");
const integers = (doc: string, kind: keyof typeof MAX = "integer"): Parameter => ({
	type: "integers",
	doc,
	max: MAX[kind],
});
const frame = (doc: string, value?: number): Parameter => integer(doc, value, "frame");
const word = (doc: string): Parameter => ({ type: "word", doc });
const boolean = (doc: string, value = false): Parameter => ({ type: "boolean", doc, default: value });
const name = (names: readonly string[], doc: string): Parameter => ({ type: "name", names, doc });

const domid = domidOf("domain that does it, or that it is done to");
const port = integer("event channel of that domain");
const vcpu = integer("vCPU of that domain", undefined, "vcpu");
const gfn = frame("guest frame; of a PV domain the MFN");
const order = integer("0, or of PVH and HVM domains 9 (2 MiB) or 18 (1 GiB)", P2M_ORDER["4K"]);
const table = frame("frame of a page table (PV)", 0);
const slot = integer("entry in it, 0 to 511", 0);
const mapGfn = frame("where it is mapped (PVH, HVM)", 0);
const guest = domidOf("the guest that is served");
const server = integer("I/O server's identifier");
const kinds = Object.keys(KIND);
const ranges = Object.keys(IOREQ_RANGE);
/** A grant mapping's kinds. */
const mapKinds = { host: 2, device: 1, both: 3 } as const;

const continuations = Object.keys(continuationKinds);
const ofDomain = (values: Reader): number | undefined =>
	values.int("domid") === DOMID.INVALID ? undefined : values.int("domid");

const define = (
	doc: string,
	parameters: Readonly<Record<string, Parameter>>,
	run: (machine: Machine, values: Reader) => Result,
	returns?: string,
): OperationDefinition => ({ doc, parameters, run, ...(returns === undefined ? {} : { returns }) });
const listing = (definition: OperationDefinition): OperationDefinition => ({ ...definition, isList: true });

/** Every operation, in groups: domains, memory, page tables, grants, event channels, vCPUs, I/O servers. */
export const operations: Readonly<Record<string, OperationDefinition>> = {
	// --- domains and time ---
	domain_create: define(
		"Create a domain: memory, grant table, vCPU 0; a PV domain's page tables map all of it. Paused until unpaused.",
		{
			domid: domidOf("its number"),
			kind: name(kinds, "kind of guest"),
			frames: integer("frames of memory", 64),
			vcpus: integer("vCPUs, 0 is up", 1),
			width: integer("bits of its word: 64, or of a PV guest 32", 64),
			privileged: boolean("whether it is the dom0, of which there is one"),
			target: domidOf("the guest that it serves as stub domain", DOMID.INVALID),
		},
		(m, v) => {
			// There is one hardware domain.
			need(!v.flag("privileged") || ![...m.domains.values()].some(({ isPrivileged }) => isPrivileged), "EEXIST");
			return lifecycle.create(m, {
				domid: v.int("domid"),
				kind: KIND[v.text("kind") as keyof typeof KIND],
				frames: v.int("frames"),
				vcpus: v.int("vcpus"),
				width: v.int("width"),
				privileged: v.flag("privileged"),
				...(v.int("target") === DOMID.INVALID ? {} : { target: v.int("target") }),
			});
		},
		"the domid",
	),
	domain_pause: define("One more pause by the toolstack.", { domid }, (m, v) => lifecycle.pause(m, v.int("domid"))),
	domain_unpause: define("One pause less.", { domid }, (m, v) => lifecycle.unpause(m, v.int("domid"))),
	domain_resume: define("A domain that was shut down goes on.", { domid }, (m, v) =>
		lifecycle.resume(m, v.int("domid")),
	),
	domain_destroy: define(
		"Destroy a domain.",
		{ domid },
		(m, v) => lifecycle.destroy(m, v.int("domid")),
		"1 if it is dead but not gone: others map its frames or refer to it",
	),
	domain_max_mem: define("Set the limit of frames.", { domid, frames: integer("limit") }, (m, v) =>
		lifecycle.setMaxPages(m, v.int("domid"), v.int("frames")),
	),
	domain_set_weight: define(
		"A domain's share of its CPU pool (credit, credit2).",
		{
			domid,
			weight: integer("1 to 65535, 0 leaves it", 0),
			cap: integer("hundredths of a CPU, 65535 leaves it", 65535),
		},
		(m, v) => lifecycle.setWeight(m, v.int("domid"), v.int("weight"), v.int("cap")),
	),
	domain_get_weight: listing(
		define(
			"What that share is.",
			{ domid },
			(m, v) => lifecycle.getWeight(m, v.int("domid")),
			"the weight and the cap",
		),
	),
	domain_set_vnuma: define(
		"Say what a guest's virtual NUMA is, in place of what there was.",
		{
			domid,
			nodes: integers("of each virtual node the physical one, 4294967295 for none in particular"),
			distances: integers("from node 0 to each, from node 1 to each, and so on; 10 is a node's own"),
			vcpus: integers("virtual node of each vCPU, those that do not exist yet included"),
			ranges: integers("of each stretch of memory its first frame, its frames, its virtual node"),
		},
		(m, v) =>
			setVnuma(m, v.int("domid"), {
				nodes: v.list("nodes"),
				distances: v.list("distances"),
				vcpus: v.list("vcpus"),
				ranges: v.list("ranges"),
			}),
	),
	domain_set_virq_handler: define(
		"A domain handles a global VIRQ.",
		{ domid, virq: integer("3 (DOM_EXC) or 9 (ENOMEM)") },
		(m, v) => lifecycle.setVirqHandler(m, v.int("domid"), v.int("virq")),
	),
	sched_shutdown: define(
		"A domain shuts down.",
		{ domid, reason: integer("0 poweroff, 1 reboot, 2 suspend, 3 crash, 4 watchdog", 0) },
		(m, v) => vcpus.shutdown(m, v.int("domid"), v.int("reason")),
	),
	sched_watchdog: define(
		"Start a watchdog, or stop or restart one.",
		{ domid, index: integer("0 for a new one", 0), seconds: integer("0 stops it") },
		(m, v) => lifecycle.setWatchdog(m, v.int("domid"), v.int("index"), v.int("seconds")),
		"a new one's number",
	),
	sched_block: define("A vCPU blocks until an event comes.", { domid, vcpu }, (m, v) =>
		vcpus.block(m, v.int("domid"), v.int("vcpu")),
	),
	sched_poll: define(
		"A vCPU waits for one port.",
		{ domid, vcpu, port, deadline: word("system time in nanoseconds, 0 for none") },
		(m, v) => vcpus.poll(m, v.int("domid"), v.int("vcpu"), v.int("port"), v.word("deadline")),
	),
	time_advance: define("Time passes: timers ring.", { nanoseconds: word("how much") }, (m, v) =>
		vcpus.advance(m, v.word("nanoseconds")),
	),

	continuation_begin: define(
		"Xen begins what it does piece by piece; a live update is refused until it has ended.",
		{ kind: name(continuations, "what"), domid: domidOf("of which domain; left out, of the host", DOMID.INVALID) },
		(m, v) => activity.beginContinuation(m, v.text("kind") as ContinuationKind, ofDomain(v)),
	),
	continuation_end: define(
		"It has ended.",
		{ kind: name(continuations, "what"), domid: domidOf("of which domain; left out, of the host", DOMID.INVALID) },
		(m, v) => activity.endContinuation(m, v.text("kind") as ContinuationKind, ofDomain(v)),
	),

	// --- memory ---
	populate_physmap: define(
		"Memory for a domain.",
		{ domid, gfn: frame("where; of no meaning for PV", 0), order },
		(m, v) => p2m.populate(m, v.int("domid"), v.int("gfn"), v.int("order")),
		"first MFN",
	),
	populate_on_demand: define(
		"Holes that get a frame when they are touched (PVH, HVM).",
		{ domid, gfn, order },
		(m, v) => p2m.markPopulateOnDemand(m, v.int("domid"), v.int("gfn"), v.int("order")),
	),
	memory_touch: define(
		"A guest touches a frame.",
		{ domid, gfn },
		(m, v) => p2m.touch(m, v.int("domid"), v.int("gfn")),
		"MFN",
	),
	memory_write: define(
		"A guest writes a word of its memory.",
		{ domid, gfn, slot: integer("word, 0 to 511"), value: word("what") },
		(m, v) => pageTables.writeMemory(m, v.int("domid"), v.int("gfn"), v.int("slot"), v.word("value")),
	),
	memory_get_vnuma: listing(
		define(
			"A guest reads its virtual NUMA.",
			{ domid },
			(m, v) => getVnuma(m, v.int("domid")),
			"the distances, the virtual node of each vCPU, and of each stretch of memory its first frame, its frames, its node",
		),
	),
	decrease_reservation: define(
		"A domain gives up memory.",
		{ domid, gfn, order },
		(m, v) => p2m.decreaseReservation(m, v.int("domid"), v.int("gfn"), v.int("order")),
		"frames given up",
	),
	memory_mapping: define(
		"Map or unmap machine memory of a device (PVH, HVM).",
		{
			domid,
			gfn,
			mfn: frame("first machine frame"),
			count: integer("frames", 1),
			add: boolean("or take away", true),
		},
		(m, v) => p2m.mapMmio(m, v.int("domid"), v.int("gfn"), v.int("mfn"), v.int("count"), v.flag("add")),
	),
	map_foreign: define(
		"Map a frame of another domain (PVH, HVM; privileged or its stub domain).",
		{ domid, gfn, foreign: domidOf("the other domain"), foreignGfn: frame("its frame") },
		(m, v) => p2m.mapForeign(m, v.int("domid"), v.int("gfn"), v.int("foreign"), v.int("foreignGfn")),
	),
	remove_from_physmap: define("Remove one entry of a P2M.", { domid, gfn }, (m, v) =>
		p2m.removeFromPhysmap(m, v.int("domid"), v.int("gfn")),
	),
	set_mem_type: define("Type of one entry (HVM).", { domid, gfn, type: name(p2m.memoryTypes, "type") }, (m, v) =>
		p2m.setMemoryType(m, v.int("domid"), v.int("gfn"), v.text("type")),
	),
	set_mem_access: define(
		"Access right of one entry (PVH, HVM).",
		{
			domid,
			gfn,
			access: integer(
				"0 none, 1 r, 2 w, 3 rw, 4 x, 5 rx, 6 wx, 7 rwx, 8 rx2rw, 9 n2rwx, 10 r, written by the processor alone",
			),
		},
		(m, v) => p2m.setAccess(m, v.int("domid"), v.int("gfn"), v.int("access")),
	),

	// --- page tables ---
	mmu_update: define(
		"Write an entry of a page table, or a word of a plain frame (PV).",
		{
			domid,
			table: frame("frame"),
			slot: integer("entry, 0 to 511"),
			value: word("entry"),
			owner: domidOf("whose frame it maps; left out, the caller's own", DOMID.SELF),
		},
		(m, v) => {
			const owner = v.int("owner") === DOMID.SELF ? v.int("domid") : v.int("owner");
			return pageTables.mmuUpdate(m, v.int("domid"), v.int("table"), v.int("slot"), v.word("value"), owner);
		},
	),
	mmuext_pin_table: define(
		"Pin a page table (PV).",
		{ domid, mfn: frame("frame"), level: integer("1 to 4, of a 32-bit guest 3") },
		(m, v) => pageTables.pinTable(m, v.int("domid"), v.int("mfn"), v.int("level")),
	),
	mmuext_unpin_table: define("Unpin a page table (PV).", { domid, mfn: frame("frame") }, (m, v) =>
		pageTables.unpinTable(m, v.int("domid"), v.int("mfn")),
	),
	mmuext_new_baseptr: define(
		"A vCPU gets another page table (PV).",
		{ domid, vcpu, mfn: frame("frame; 0 for no user table"), user: boolean("the user's, of a 64-bit guest") },
		(m, v) => pageTables.newBaseptr(m, v.int("domid"), v.int("vcpu"), v.int("mfn"), v.flag("user")),
	),
	set_gdt: define(
		"A vCPU gets another GDT (PV).",
		{ domid, vcpu, mfns: integers("frames", "frame"), entries: integer("descriptors") },
		(m, v) => pageTables.setGdt(m, v.int("domid"), v.int("vcpu"), v.list("mfns"), v.int("entries")),
	),

	// --- grants ---
	grant_access: define(
		"A guest writes an entry of its grant table.",
		{ domid, ref: integer("reference"), grantee: domidOf("who may map"), gfn, readonly: boolean("only to read") },
		(m, v) => grants.grant(m, v.int("domid"), v.int("ref"), v.int("grantee"), v.int("gfn"), v.flag("readonly")),
	),
	grant_access_part: define(
		"A guest grants a part of a page, to be copied (version 2 of its table).",
		{
			domid,
			ref: integer("reference"),
			grantee: domidOf("who may copy"),
			gfn,
			offset: integer("first octet", 0),
			length: integer("octets", 64),
			readonly: boolean("only to read"),
		},
		(m, v) => {
			const part = { pageOffset: v.int("offset"), length: v.int("length") };
			const [by, ref, grantee] = [v.int("domid"), v.int("ref"), v.int("grantee")];
			return grants.grantPart(m, by, ref, grantee, v.int("gfn"), part, v.flag("readonly"));
		},
	),
	grant_access_transitive: define(
		"A guest passes on what another domain has granted to it, to be copied (version 2 of its table).",
		{
			domid,
			ref: integer("reference"),
			grantee: domidOf("who may copy"),
			sourceDomid: domidOf("the domain whose grant it is"),
			sourceRef: integer("its reference"),
			readonly: boolean("only to read"),
		},
		(m, v) => {
			const source = { sourceDomid: v.int("sourceDomid"), sourceRef: v.int("sourceRef") };
			const [by, ref, grantee] = [v.int("domid"), v.int("ref"), v.int("grantee")];
			return grants.grantPassed(m, by, ref, grantee, source, v.flag("readonly"));
		},
	),
	grant_end_access: define("A guest takes a grant back.", { domid, ref: integer("reference") }, (m, v) =>
		grants.endAccess(m, v.int("domid"), v.int("ref")),
	),
	gnttab_setup_table: define("Grow a grant table.", { domid, frames: integer("at least") }, (m, v) =>
		grants.setupTable(m, v.int("domid"), v.int("frames")),
	),
	grant_set_version: define(
		"Version of a grant table (GNTTABOP_set_version).",
		{ domid, version: integer("1 or 2") },
		(m, v) => grants.setVersion(m, v.int("domid"), v.int("version")),
	),
	gnttab_map_grant_ref: define(
		"Map a grant.",
		{
			domid,
			vcpu: integer("vCPU whose handle it becomes", 0, "vcpu"),
			granter: domidOf("the granting domain"),
			ref: integer("reference"),
			kind: name(Object.keys(mapKinds), "for the host, a device, or both"),
			readonly: boolean("only to read"),
			table,
			slot,
			gfn: mapGfn,
		},
		(m, v) =>
			grants.map(m, {
				domid: v.int("domid"),
				vcpu: v.int("vcpu"),
				granter: v.int("granter"),
				ref: v.int("ref"),
				flags: mapKinds[v.text("kind") as keyof typeof mapKinds] | (v.flag("readonly") ? 4 : 0),
				table: v.int("table"),
				slot: v.int("slot"),
				gfn: v.int("gfn"),
			}),
		"handle",
	),
	gnttab_unmap_grant_ref: define(
		"Unmap a grant.",
		{ domid, handle: integer("handle"), table, slot, gfn: mapGfn },
		(m, v) =>
			grants.unmap(m, {
				domid: v.int("domid"),
				handle: v.int("handle"),
				table: v.int("table"),
				slot: v.int("slot"),
				gfn: v.int("gfn"),
			}),
	),
	gnttab_copy: define(
		"Copy from a grant of another domain into a frame of the caller's, or the other way.",
		{
			domid,
			granter: domidOf("the granting domain"),
			ref: integer("reference"),
			gfn: frame("the caller's own frame"),
			toGrant: boolean("the other way"),
			offset: integer("octets from the start of either page", 0),
			length: integer("octets", 64),
		},
		(m, v) => {
			const offset = v.int("offset");
			const granted = { domid: v.int("granter"), ref: v.int("ref"), offset };
			const own = { domid: v.int("domid"), gfn: v.int("gfn"), offset };
			const [source, target] = v.flag("toGrant") ? [own, granted] : [granted, own];
			return grants.copy(m, v.int("domid"), source, target, v.int("length"));
		},
	),

	// --- event channels ---
	evtchn_alloc_unbound: define(
		"A port that waits for another domain.",
		{ domid, remote: domidOf("the other domain") },
		(m, v) => events.allocUnbound(m, v.int("domid"), v.int("remote")),
		"port",
	),
	evtchn_bind_interdomain: define(
		"The other end of a port that waits.",
		{ domid, remote: domidOf("the other domain"), remotePort: integer("its port") },
		(m, v) => events.bindInterdomain(m, v.int("domid"), v.int("remote"), v.int("remotePort")),
		"port",
	),
	evtchn_bind_virq: define(
		"Bind a VIRQ.",
		{ domid, virq: integer("0 to 23"), vcpu: integer("vCPU; 0 for one of the whole domain", 0, "vcpu") },
		(m, v) => events.bindVirq(m, v.int("domid"), v.int("virq"), v.int("vcpu")),
		"port",
	),
	evtchn_bind_ipi: define(
		"Bind an IPI.",
		{ domid, vcpu },
		(m, v) => events.bindIpi(m, v.int("domid"), v.int("vcpu")),
		"port",
	),
	evtchn_bind_pirq: define(
		"Bind a PIRQ.",
		{ domid, pirq: integer("PIRQ") },
		(m, v) => events.bindPirq(m, v.int("domid"), v.int("pirq")),
		"port",
	),
	evtchn_close: define("Close a port.", { domid, port }, (m, v) => events.close(m, v.int("domid"), v.int("port"))),
	evtchn_reset: define("Close all ports; the ABI is 2-level again.", { domid }, (m, v) =>
		events.reset(m, v.int("domid")),
	),
	evtchn_send: define("Notify.", { domid, port }, (m, v) => events.send(m, v.int("domid"), v.int("port"))),
	evtchn_mask: define("The guest masks a port.", { domid, port }, (m, v) =>
		events.mask(m, v.int("domid"), v.int("port")),
	),
	evtchn_unmask: define("Unmask a port.", { domid, port }, (m, v) => events.unmask(m, v.int("domid"), v.int("port"))),
	evtchn_bind_vcpu: define("Another vCPU is notified.", { domid, port, vcpu }, (m, v) =>
		events.bindVcpu(m, v.int("domid"), v.int("port"), v.int("vcpu")),
	),
	evtchn_set_priority: define(
		"Priority of a FIFO port.",
		{ domid, port, priority: integer("0, highest, to 15") },
		(m, v) => events.setPriority(m, v.int("domid"), v.int("port"), v.int("priority")),
	),
	evtchn_status: define(
		"State of a port.",
		{ domid, port },
		(m, v) => events.status(m, v.int("domid"), v.int("port")),
		"0 free, 1 reserved, 2 unbound, 3 interdomain, 4 PIRQ, 5 VIRQ, 6 IPI",
	),
	evtchn_init_control: define(
		"A vCPU's FIFO control block; the first one switches the domain to the FIFO ABI.",
		{ domid, vcpu, gfn, offset: integer("octets from the start of the frame", 0) },
		(m, v) => initControl(m, v.int("domid"), v.int("vcpu"), v.int("gfn"), v.int("offset")),
	),
	evtchn_expand_array: define("One more frame of event words (FIFO).", { domid, gfn }, (m, v) =>
		expandArray(m, v.int("domid"), v.int("gfn")),
	),
	evtchn_drain: listing(
		define(
			"The guest's handler runs on a vCPU.",
			{ domid, vcpu },
			(m, v) => events.drain(m, v.int("domid"), v.int("vcpu")),
			"the ports that it handled, in its order",
		),
	),
	pirq_map: define(
		"A host interrupt becomes a PIRQ (dom0).",
		{ domid, irq: integer("1 to 255") },
		(m, v) => events.mapPirq(m, v.int("domid"), v.int("irq")),
		"PIRQ",
	),
	pirq_map_emulated: define(
		"An emulated interrupt becomes a PIRQ (HVM).",
		{ domid, pirq: integer("16 to 255"), emuirq: integer("0 to 47") },
		(m, v) => events.mapEmulatedPirq(m, v.int("domid"), v.int("pirq"), v.int("emuirq")),
		"PIRQ",
	),
	pirq_eoi_map: define("A frame in which Xen notes PIRQs that need an end of interrupt (PV).", { domid, gfn }, (m, v) =>
		events.setPirqEoiMap(m, v.int("domid"), v.int("gfn")),
	),
	pirq_unmap: define("A PIRQ is no more.", { domid, pirq: integer("PIRQ") }, (m, v) =>
		events.unmapPirq(m, v.int("domid"), v.int("pirq")),
	),
	pirq_raise: define("A device interrupts.", { domid, pirq: integer("PIRQ") }, (m, v) =>
		events.raisePirq(m, v.int("domid"), v.int("pirq")),
	),

	// --- vCPUs ---
	vcpu_initialise: define(
		"A vCPU's first context (PV).",
		{ domid, vcpu, mfn: frame("its L4 table, in a 32-bit guest its L3 table"), rip: word("where it begins") },
		(m, v) => vcpus.initialise(m, v.int("domid"), v.int("vcpu"), v.int("mfn"), v.word("rip")),
	),
	vcpu_up: define("A vCPU comes up.", { domid, vcpu }, (m, v) => vcpus.up(m, v.int("domid"), v.int("vcpu"))),
	vcpu_down: define("A vCPU goes down; the last one shuts the domain down.", { domid, vcpu }, (m, v) =>
		vcpus.down(m, v.int("domid"), v.int("vcpu")),
	),
	vcpu_set_register: define(
		"A guest runs on: a register changes.",
		{ domid, vcpu, register: name(vcpus.registerNames, "which"), value: word("what") },
		(m, v) => vcpus.setRegister(m, v.int("domid"), v.int("vcpu"), v.text("register"), v.word("value")),
	),
	vcpu_register_info: define(
		"A place for a vCPU's vcpu_info, once.",
		{ domid, vcpu, gfn, offset: integer("octets from the start of the frame", 0) },
		(m, v) => vcpus.registerVcpuInfo(m, v.int("domid"), v.int("vcpu"), v.int("gfn"), v.int("offset")),
	),
	vcpu_register_runstate: define(
		"A place for a vCPU's runstate.",
		{ domid, vcpu, address: word("guest address, 0 for none") },
		(m, v) => vcpus.registerRunstate(m, v.int("domid"), v.int("vcpu"), v.word("address")),
	),
	vcpu_set_singleshot: define(
		"A timer that rings once.",
		{ domid, vcpu, deadline: word("system time, nanoseconds") },
		(m, v) => vcpus.setSingleshot(m, v.int("domid"), v.int("vcpu"), v.word("deadline")),
	),
	vcpu_set_periodic: define(
		"A timer that rings again and again.",
		{ domid, vcpu, period: word("nanoseconds, 0 stops it") },
		(m, v) => vcpus.setPeriodic(m, v.int("domid"), v.int("vcpu"), v.word("period")),
	),
	vcpu_set_affinity: define("CPUs that a vCPU may run on.", { domid, vcpu, cpus: word("one bit each") }, (m, v) =>
		vcpus.setAffinity(m, v.int("domid"), v.int("vcpu"), v.word("cpus")),
	),

	// --- I/O request servers ---
	ioreq_create: define(
		"A domain serves a guest's accesses (HVM).",
		{ domid, guest, buffered: boolean("buffered requests as well", true) },
		(m, v) => ioreq.createServer(m, v.int("guest"), v.int("domid"), v.flag("buffered")),
		"identifier",
	),
	ioreq_acquire_page: define(
		"The emulator maps a page of its server.",
		{ domid, guest, server, role: integer("0 requests, 1 buffered ones", 0), table, slot, gfn: mapGfn },
		(m, v) =>
			ioreq.acquirePage(m, v.int("guest"), v.int("domid"), v.int("server"), v.int("role"), {
				table: v.int("table"),
				slot: v.int("slot"),
				gfn: v.int("gfn"),
			}),
		"MFN",
	),
	ioreq_set_state: define(
		"Enable or disable a server.",
		{ domid, guest, server, enabled: boolean("or not", true) },
		(m, v) => ioreq.setServerState(m, v.int("guest"), v.int("domid"), v.int("server"), v.flag("enabled")),
	),
	ioreq_claim_writes: define(
		"A server gets writes to memory of type ioreq_server.",
		{ domid, guest, server, claim: boolean("or no more", true) },
		(m, v) => ioreq.claimWrites(m, v.int("guest"), v.int("domid"), v.int("server"), v.flag("claim")),
	),
	ioreq_map_range: define(
		"Addresses that a server gets.",
		{ domid, guest, server, type: name(ranges, "kind of address"), first: word("first"), last: word("last, included") },
		(m, v) =>
			ioreq.mapRange(
				m,
				v.int("guest"),
				v.int("domid"),
				v.int("server"),
				IOREQ_RANGE[v.text("type") as keyof typeof IOREQ_RANGE],
				v.word("first"),
				v.word("last"),
			),
	),
	ioreq_unmap_range: define(
		"Addresses that it gets no more.",
		{ domid, guest, server, type: name(ranges, "kind of address"), first: word("first"), last: word("last, included") },
		(m, v) =>
			ioreq.unmapRange(
				m,
				v.int("guest"),
				v.int("domid"),
				v.int("server"),
				IOREQ_RANGE[v.text("type") as keyof typeof IOREQ_RANGE],
				v.word("first"),
				v.word("last"),
			),
	),
	ioreq_send: define(
		"A guest touches what a server claims: its vCPU waits for the emulator. A live update waits for it too.",
		{ domid, vcpu, server, turns: integer("milliseconds that the emulator needs, if it runs", 1) },
		(m, v) => activity.sendRequest(m, v.int("domid"), v.int("vcpu"), v.int("server"), v.int("turns")),
	),
	ioreq_answer: define(
		"The emulator answers what a guest's vCPU waits for.",
		{ domid, guest, vcpu: integer("vCPU of the guest", 0, "vcpu") },
		(m, v) => activity.answerRequest(m, v.int("domid"), v.int("guest"), v.int("vcpu")),
	),
	ioreq_destroy: define("A server is no more.", { domid, guest, server }, (m, v) =>
		ioreq.destroyServer(m, v.int("guest"), v.int("domid"), v.int("server")),
	),
};

/**
 * Does one operation.
 * @param operation of the types and in the ranges that the table says, as a scenario's are (src/scenario/form.ts)
 * @returns what Xen returns; below zero an errno or a GNTST status (errno.ts, resultText)
 */
export function runOperation(machine: Machine, operation: Operation): Result {
	const { op, ...given } = operation;
	const definition = Object.hasOwn(operations, op) ? operations[op] : undefined;
	if (definition === undefined) throw new Error(`no operation ${op}`);
	const values: Record<string, number | bigint | boolean | string | readonly number[]> = {};
	for (const [key, parameter] of Object.entries(definition.parameters)) {
		const value = given[key] ?? parameter.default;
		if (value === undefined) throw new Error(`${op} needs ${key}`);
		values[key] = parameter.type === "word" ? BigInt(value as number | string) : value;
	}
	try {
		return definition.run(machine, new Reader(values));
	} catch (error) {
		if (error instanceof Refused) return error.result;
		throw error;
	}
}
