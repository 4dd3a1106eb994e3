/**
 * A model as a stream, for one of three readers: a daemon that starts from it, a daemon that takes a domain in, whoever reads
 * the document.
 */
import { pathsOfDomain } from "../../bundle/store.ts";
import { XluError } from "../../errors.ts";
import { alignUp } from "../../format/layout.ts";
import type { Fields } from "../common/record.ts";
import { hexOf } from "../common/values.ts";
import { isSpecial, parentOf } from "./check.ts";
import { type Daemon, versionsOf } from "./daemons.ts";
import { frame, headerOctets } from "./frame.ts";
import { DOMID_INVALID, XENSTORE_RECORD as R, RECORD_ALIGNMENT } from "./layout.ts";
import type { XenstoreConnection, XenstoreModel, XenstoreNode } from "./model.ts";
import { encodeBody } from "./records.ts";

export type XenstoreUse =
	| { readonly kind: "live-update"; readonly daemon: Daemon }
	| { readonly kind: "migration"; readonly domid: number }
	| { readonly kind: "documented" };

export interface XenstoreWriteOptions {
	readonly use: XenstoreUse;
	/** By default what the daemon is written in, else the model's. */
	readonly version?: number;
	/** Byte order of the records; by default little-endian for a daemon, else the model's. */
	readonly isLittle?: boolean;
}

export interface XenstoreDropped {
	readonly what: string;
	readonly why: string;
}

export interface WrittenXenstore {
	readonly version: number;
	/** The stream, a record at a time. */
	readonly octets: Iterable<Uint8Array>;
	/** What the stream does not hold of the model. */
	readonly dropped: readonly XenstoreDropped[];
}

interface Record_ {
	readonly type: number;
	readonly fields: Fields;
}

/** Counts what is left out, by what and why. */
class DroppedList {
	readonly #counts = new Map<string, { what: string; why: string; count: number; first: string }>();

	add(what: string, why: string, which = ""): void {
		const key = `${what}\0${why}`;
		const found = this.#counts.get(key);
		if (found) found.count++;
		else this.#counts.set(key, { what, why, count: 1, first: which });
	}

	list(): XenstoreDropped[] {
		return [...this.#counts.values()].map(({ what, why, count, first }) => {
			const which = first === "" ? "" : count === 1 ? ` (${first})` : ` (${first} and ${count - 1} more)`;
			return { what: `${what}${which}`, why };
		});
	}
}

function usage(message: string, field: string, expected: string, got: string): XluError {
	return new XluError("XLU_E_USAGE", message, { field, expected, got });
}

/**
 * Writes a model. What a reader would refuse of the model itself (an owner without a ring, a missing parent) is written as
 * it is: read the result with findings for that reader, as `xlu convert` does.
 * @throws XLU_E_USAGE where version or byte order do not suit the reader, or the domain has no connection
 */
export function writeXenstore(model: XenstoreModel, options: XenstoreWriteOptions): WrittenXenstore {
	const { use } = options;
	const daemon = use.kind === "live-update" ? use.daemon : undefined;
	const version = options.version ?? (daemon ? (versionsOf[daemon].at(-1) as number) : model.version);
	const isLittle = options.isLittle ?? (daemon ? true : model.isLittle);
	if (daemon && !versionsOf[daemon].includes(version)) {
		const expected = `version ${versionsOf[daemon].join(" or ")}`;
		throw usage(`${daemon} does not read version ${version}.`, "--to", expected, `${version}`);
	}
	if (daemon && !isLittle) throw usage(`${daemon} reads little-endian streams alone.`, "--to", "little", "big");
	const dropped = new DroppedList();
	const records = [...recordsOf(use.kind === "migration" ? ofDomain(model, use.domid) : model, use, version, dropped)];
	const isExact = use.kind === "documented";
	function* octets(): Generator<Uint8Array> {
		yield headerOctets(version, 0, isLittle);
		for (const make of records) {
			const { type, fields } = make();
			const body = encodeBody(type, isExact ? { ...fields, rest: "" } : fields, isLittle);
			const padding = isExact ? alignUp(body.length, RECORD_ALIGNMENT) - body.length : 0;
			yield frame(type, body, isLittle, new Uint8Array(padding));
		}
	}
	return { version, octets: octets(), dropped: dropped.list() };
}

/** What of a model is a domain's: its ring, its watches and transactions, its nodes and those of its devices. */
function ofDomain(model: XenstoreModel, domid: number): XenstoreModel {
	const connections = model.connections.filter(({ type, domid: owner }) => type === "ring" && owner === domid);
	const [connection] = connections;
	if (!connection) {
		const rings = model.connections.flatMap(({ type, domid: owner }) => (type === "ring" ? [`${owner}`] : []));
		const expected = rings.length > 0 ? `one of the domains ${rings.join(", ")}` : "a stream with a shared ring";
		throw usage(`The stream has no shared ring of domain ${domid}.`, "--use", expected, `${domid}`);
	}
	const isOurs = ({ connId }: { connId: number }) => connId === connection.connId;
	const paths = pathsOfDomain(model.nodes, domid);
	return {
		...model,
		global: undefined,
		globalQuotas: undefined,
		connections: [connection],
		watches: model.watches.filter(isOurs),
		transactions: model.transactions.filter(isOurs),
		pending: model.pending.filter(isOurs),
		nodes: new Map([...model.nodes].filter(([path]) => paths.has(path))),
		domains: model.domains.filter((domain) => domain.domid === domid),
	};
}

/** Records as thunks, so that bodies are made one at a time. */
function* recordsOf(
	model: XenstoreModel,
	use: XenstoreUse,
	version: number,
	dropped: DroppedList,
): Generator<() => Record_> {
	const daemon = use.kind === "live-update" ? use.daemon : undefined;
	const holdsQuotas = daemon !== "xenstored-4.17";
	for (const name of model.left) dropped.add(`${name} of ${model.dialect}`, "the final form has no such field");
	const { global, globalQuotas } = model;
	if (global) yield () => ({ type: R.GLOBAL_DATA, fields: { ...global } });
	if (globalQuotas && holdsQuotas) {
		const rows = (list: typeof globalQuotas.domQuotas) => list.map(({ name, value }) => ({ name, value }));
		const fields = { domQuotas: rows(globalQuotas.domQuotas), globQuotas: rows(globalQuotas.globQuotas) };
		yield () => ({ type: R.GLOBAL_QUOTA_DATA, fields });
	} else if (globalQuotas) dropped.add("GLOBAL_QUOTA_DATA", `${daemon} does not read it`);
	yield* connectionRecords(model, use, version, dropped);
	for (const [path, node] of inOrder(model.nodes)) {
		yield () => ({ type: R.NODE_DATA, fields: { connId: 0, txId: 0, access: 0, ...nodeFields(path, node) } });
	}
	for (const node of model.pending) {
		const { connId, txId, access, path } = node;
		if (daemon) dropped.add("pending node", `${daemon} would read it as committed`, path);
		else yield () => ({ type: R.NODE_DATA, fields: { connId, txId, access, ...nodeFields(path, node) } });
	}
	for (const { domid, features, quotas } of model.domains) {
		if (!holdsQuotas) {
			dropped.add("DOMAIN_DATA", `${daemon} does not read it`, `domain ${domid}`);
			continue;
		}
		if (version === 1 && features !== 0) dropped.add("features", "they came with version 2", `domain ${domid}`);
		const rows = quotas.map(({ name, value }) => ({ name, value }));
		yield () => ({ type: R.DOMAIN_DATA, fields: { domid, features: version === 1 ? 0 : features, quotas: rows } });
	}
	yield () => ({ type: R.END, fields: {} });
}

function nodeFields(path: string, { value, perms, permFlags }: XenstoreNode): Fields {
	return { perms: [...perms], ...(permFlags ? { permFlags: [...permFlags] } : {}), path, value: hexOf(value) };
}

/** Domain 0's ring first, each connection's watches behind it, as the daemons have them. */
function* connectionRecords(
	model: XenstoreModel,
	use: XenstoreUse,
	version: number,
	dropped: DroppedList,
): Generator<() => Record_> {
	const daemon = use.kind === "live-update" ? use.daemon : undefined;
	const isDom0 = ({ type, domid }: XenstoreConnection) => type === "ring" && domid === 0;
	const { connections } = model;
	const watches = byConnection(model.watches);
	const transactions = byConnection(model.transactions);
	for (const connection of [...connections.filter(isDom0), ...connections.filter((one) => !isDom0(one))]) {
		const { connId } = connection;
		const holdsId = version >= 2 && use.kind !== "documented";
		if (connection.uniqueId !== undefined && !holdsId) {
			const why = version === 1 ? "it came with version 2" : "the document does not have it";
			dropped.add("unique id", why, `connection ${connId}`);
		}
		yield () => ({ type: R.CONNECTION_DATA, fields: connectionFields(connection, holdsId) });
		// Two connections of one id have all their watches behind the first.
		for (const { path, token, depth } of take(watches, connId)) {
			const fields = { connId, wpath: path, token };
			if (depth === undefined) yield () => ({ type: R.WATCH_DATA, fields });
			else if (daemon || version === 1) {
				const why = daemon ? `${daemon} does not read WATCH_DATA_EXTENDED` : "it came with version 2";
				dropped.add("depth of a watch, which now counts at any depth", why, path);
				yield () => ({ type: R.WATCH_DATA, fields });
			} else yield () => ({ type: R.WATCH_DATA_EXTENDED, fields: { ...fields, depth } });
		}
		for (const { txId } of take(transactions, connId)) {
			if (daemon) dropped.add("transaction", `${daemon} ignores it`, `${txId} of connection ${connId}`);
			else yield () => ({ type: R.TRANSACTION_DATA, fields: { connId, txId } });
		}
	}
	for (const { path, connId } of [...watches.values()].flat()) {
		dropped.add("watch", `its connection is not in the stream`, `${path} of connection ${connId}`);
	}
	for (const { txId, connId } of [...transactions.values()].flat()) {
		dropped.add("transaction", `its connection is not in the stream`, `${txId} of connection ${connId}`);
	}
}

function byConnection<T extends { readonly connId: number }>(list: readonly T[]): Map<number, T[]> {
	const groups = new Map<number, T[]>();
	for (const one of list) {
		const group = groups.get(one.connId);
		if (group) group.push(one);
		else groups.set(one.connId, [one]);
	}
	return groups;
}

function take<T>(groups: Map<number, T[]>, key: number): T[] {
	const list = groups.get(key) ?? [];
	groups.delete(key);
	return list;
}

function connectionFields(connection: XenstoreConnection, holdsId: boolean): Fields {
	const { connId, connType, type, inData, outData, outRespLen, uniqueId } = connection;
	const { domid = 0, tdomid = DOMID_INVALID, evtchn = 0, socketFd = -1, spec = "" } = connection;
	return {
		connId,
		connType,
		...(type === "ring" ? { domid, tdomid, evtchn } : type === "socket" ? { socketFd } : { spec }),
		inData: hexOf(inData),
		outRespLen,
		outData: hexOf(outData),
		...(holdsId && uniqueId !== undefined ? { uniqueId } : {}),
	};
}

/**
 * Nodes in the model's order, but each behind its parent: one that comes too early waits for it. What has no parent at all
 * comes last.
 */
function* inOrder(nodes: ReadonlyMap<string, XenstoreNode>): Generator<[string, XenstoreNode]> {
	const done = new Set<string>(nodes.has("/") ? [] : ["/"]);
	const waiting = new Map<string, [string, XenstoreNode][]>();
	for (const entry of nodes) {
		const [path] = entry;
		const parent = isSpecial(path) || path === "/" ? undefined : parentOf(path);
		if (parent !== undefined && !done.has(parent)) {
			const list = waiting.get(parent);
			if (list) list.push(entry);
			else waiting.set(parent, [entry]);
			continue;
		}
		const ready = [entry];
		for (let next = ready.pop(); next; next = ready.pop()) {
			yield next;
			done.add(next[0]);
			const list = waiting.get(next[0]);
			if (!list) continue;
			waiting.delete(next[0]);
			for (let i = list.length - 1; i >= 0; i--) ready.push(list[i] as [string, XenstoreNode]);
		}
	}
	for (const list of waiting.values()) yield* list;
}
