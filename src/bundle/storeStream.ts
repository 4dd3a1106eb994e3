/**
 * A store as a xenstore stream and back: what a daemon dumps for a live update, and what migration sends of one domain
 * (Xen, "Xenstore Migration"). Reading keeps rings alone, since sockets belong to processes of the host.
 */
import { XluError } from "../errors.ts";
import { writeStruct } from "../format/layout.ts";
import type { NestedItem } from "../formats/bundle/parts.ts";
import { xenstoreItems } from "../formats/bundle/storeItems.ts";
import { hex } from "../formats/common/findings.ts";
import type { Fields, Json } from "../formats/common/record.ts";
import { hexOf } from "../formats/common/values.ts";
import {
	CONN_TYPE_RING,
	DEPTH_UNLIMITED,
	DOMID_FIRST_RESERVED,
	DOMID_INVALID,
	XENSTORE_RECORD as R,
	RECORD_HEADER_BYTES,
	recordHeader,
	XENSTORE_HEADER_BYTES,
	XENSTORE_IDENT,
} from "../formats/xenstore/layout.ts";
import { encodeBody } from "../formats/xenstore/records.ts";
import type { DomainModel } from "../machine/model.ts";
import {
	homeOf,
	isNodePath,
	parentOf,
	type Store,
	type StoreConnection,
	type StoreDomain,
	type StoreNode,
	type StoreTransaction,
	type StoreWatch,
	textOfValue,
} from "./store.ts";

/** Something in a stream that a store cannot have; offset into the stream. */
export interface StoreProblem {
	readonly offset: number;
	readonly record: string;
	readonly expected: string;
	readonly got: string;
}

export interface ReadStore {
	readonly store: Store;
	readonly problems: readonly StoreProblem[];
	/** What is a host's alone and no domain's: sockets, file descriptors, global quotas. */
	readonly hostOnly: readonly StoreProblem[];
	/** Where in the stream a node, a connection, a watch, a transaction of the store comes from. */
	readonly offsets: ReadonlyMap<object, number>;
}

const octetsOf = (value: Json | undefined): Uint8Array =>
	new Uint8Array(Buffer.from(typeof value === "string" ? value : "", "hex"));

const PERM = /^[nrwb]\d+$/;

class StoreReader {
	readonly nodes = new Map<string, StoreNode>();
	readonly connections: StoreConnection[] = [];
	readonly watches: StoreWatch[] = [];
	readonly transactions: StoreTransaction[] = [];
	readonly domains: StoreDomain[] = [];
	readonly problems: StoreProblem[] = [];
	readonly hostOnly: StoreProblem[] = [];
	readonly offsets = new Map<object, number>();
	/** Domid of each connection; undefined of a socket. */
	readonly #domids = new Map<number, number | undefined>();
	/** Connection and id of each transaction, sockets' as well. */
	readonly #open = new Set<string>();
	/** Parents that nodes named that came before them. */
	readonly #late = new Set<string>();
	#offset = 0;
	#record = "";

	read({ type, name, offset, fields }: NestedItem): void {
		this.#offset = offset;
		this.#record = name;
		if (fields.body !== undefined && type !== R.END)
			this.#problem("the record's fields", `${fields.body}`.slice(0, 64));
		else if (type === R.CONNECTION_DATA) this.#connection(fields);
		else if (type === R.WATCH_DATA || type === R.WATCH_DATA_EXTENDED) this.#watch(fields);
		else if (type === R.TRANSACTION_DATA) this.#transaction(fields);
		else if (type === R.NODE_DATA) this.#node(fields);
		else if (type === R.DOMAIN_DATA) this.#domain(fields);
		else if (type === R.GLOBAL_DATA || type === R.GLOBAL_QUOTA_DATA) this.#ofHost("records of a domain", name);
	}

	#problem(expected: string, got: string): void {
		this.problems.push({ offset: this.#offset, record: this.#record, expected, got });
	}

	#ofHost(expected: string, got: string): void {
		this.hostOnly.push({ offset: this.#offset, record: this.#record, expected, got });
	}

	#note<T extends object>(list: T[], thing: T): void {
		list.push(thing);
		this.offsets.set(thing, this.#offset);
	}

	/** The domain of the connection that a record names; undefined of a socket, and where there is none. */
	#owner(fields: Fields): number | undefined {
		const id = Number(fields.connId);
		if (!this.#domids.has(id)) this.#problem("a connection that came before", `connection ${id}`);
		return this.#domids.get(id);
	}

	#connection(fields: Fields): void {
		const id = Number(fields.connId);
		if (this.#domids.has(id) || id === 0) this.#problem("each connection once, from 1 on", `connection ${id}`);
		const domid = fields.connType === CONN_TYPE_RING ? Number(fields.domid) : undefined;
		this.#domids.set(id, domid);
		if (domid === undefined) this.#ofHost("a domain's shared ring", `connection ${id} of type ${fields.connType}`);
		else if (this.connections.some((other) => other.domid === domid)) {
			this.#problem("one shared ring of a domain", `another one of domain ${domid}`);
		} else this.#note(this.connections, connectionOf(domid, fields));
	}

	#watch(fields: Fields): void {
		const domid = this.#owner(fields);
		if (domid === undefined) return;
		const depth = Number(fields.depth ?? DEPTH_UNLIMITED);
		const limited = depth === DEPTH_UNLIMITED ? {} : { depth };
		this.#note(this.watches, { domid, path: `${fields.wpath}`, token: `${fields.token}`, ...limited });
	}

	#transaction(fields: Fields): void {
		const domid = this.#owner(fields);
		const txId = Number(fields.txId);
		const key = `${fields.connId} ${txId}`;
		if (txId === 0 || this.#open.has(key)) this.#problem("each transaction once, from 1 on", `transaction ${txId}`);
		else if (domid !== undefined) this.#note(this.transactions, { domid, txId });
		this.#open.add(key);
	}

	#node(fields: Fields): void {
		if (Number(fields.connId) !== 0) {
			// What a transaction touched is nobody's before it is committed.
			const isOpen = this.#open.has(`${fields.connId} ${fields.txId}`);
			if (!isOpen) this.#problem("a transaction that came before", `${fields.txId} of connection ${fields.connId}`);
			return;
		}
		const path = `${fields.path}`;
		const perms = (fields.perms as string[] | undefined) ?? [];
		if (!isNodePath(path)) this.#problem("a path from / on", JSON.stringify(path.slice(0, 64)));
		else if (this.nodes.has(path)) this.#problem("each path once", path);
		else if (this.#late.has(path)) this.#problem("parents before their children", path);
		const strange = perms.find((perm) => !PERM.test(perm));
		if (perms.length === 0 || strange !== undefined) {
			this.#problem(
				"permissions n, r, w or b, the owner's first",
				strange === undefined ? "none" : JSON.stringify(strange),
			);
		}
		const parent = parentOf(path);
		if (path !== "/" && !this.nodes.has(parent)) this.#late.add(parent);
		const permFlags = fields.permFlags as number[] | undefined;
		const node = { value: octetsOf(fields.value), perms, ...(permFlags ? { permFlags } : {}) };
		this.nodes.set(path, node);
		this.offsets.set(node, this.#offset);
	}

	#domain(fields: Fields): void {
		const domid = Number(fields.domid);
		if (this.domains.some((other) => other.domid === domid)) this.#problem("each domain once", `domain ${domid}`);
		else if (!Array.isArray(fields.quotas) || fields.names !== undefined) {
			this.#problem("a name for each quota", `${fields.names}`.slice(0, 64));
		} else {
			const quotas = fields.quotas as unknown as StoreDomain["quotas"];
			this.#note(this.domains, { domid, features: Number(fields.features), quotas });
		}
	}
}

/**
 * Reads a stream.
 * @throws XLU_E_IMAGE where its framing ends
 */
export function readStore(stream: Uint8Array): ReadStore {
	const reader = new StoreReader();
	for (const item of xenstoreItems(stream)) reader.read(item);
	const { nodes, connections, watches, transactions, domains, problems, hostOnly, offsets } = reader;
	return { store: { nodes, daemon: { connections, watches, transactions, domains } }, problems, hostOnly, offsets };
}

/**
 * Reads what a daemon wrote for its own live update.
 * @throws XLU_E_CAPTURE with the offset where it is something else
 */
export function parseStoreDump(stream: Uint8Array, file: string): Store {
	const { store, problems } = readStore(stream);
	const [first] = problems;
	if (!first) return store;
	const { record, offset, expected, got } = first;
	const message = `${file}: ${record} at ${hex(offset)}: expected ${expected}, got ${got}.`;
	throw new XluError("XLU_E_CAPTURE", message, { record: file, offset, expected, got });
}

function connectionOf(domid: number, fields: Fields): StoreConnection {
	const target = Number(fields.tdomid ?? DOMID_INVALID);
	return {
		domid,
		...(target < DOMID_FIRST_RESERVED ? { target } : {}),
		inData: octetsOf(fields.inData),
		outData: octetsOf(fields.outData),
		outRespLength: Number(fields.outRespLen ?? 0),
	};
}

const STORE_EVTCHN = 2;

/** The port by which xenstored reaches a domain, where it comes from; 0 if nothing tells. */
function daemonPort(store: Store, domain: DomainModel): number {
	const param = domain.hvmParamList?.find(({ index }) => Number(index) === STORE_EVTCHN)?.value;
	const node = store.nodes.get(`${homeOf(domain.domain.domid)}/store/port`);
	const local = Number(param ?? (node ? textOfValue(node) : 0));
	return Number(domain.ports?.[local]?.remotePort ?? 0);
}

function record(type: number, fields: Fields): Uint8Array {
	const body = encodeBody(type, fields, true);
	const head = new Uint8Array(RECORD_HEADER_BYTES);
	// As the daemons have it, the length counts the padding.
	writeStruct(recordHeader, new DataView(head.buffer), 0, { type, len: body.length }, true);
	return Buffer.concat([head, body]);
}

const CONN_ID = 1;

/**
 * What migration sends of a domain: its connection, watches, open transactions, then its nodes, parents first.
 * @param store what relates to the domain; undefined where nothing is known of it
 * @throws XLU_E_CAPTURE for a value that no record can hold
 */
export function writeStore(store: Store | undefined, domain: DomainModel): Uint8Array {
	const { domid } = domain.domain;
	const isExtended =
		(store?.daemon?.watches.some(({ depth }) => depth !== undefined) ||
			store?.daemon?.domains.some(({ features }) => features !== 0)) ??
		false;
	const header = new Uint8Array(XENSTORE_HEADER_BYTES);
	header.set(XENSTORE_IDENT);
	new DataView(header.buffer).setUint32(8, isExtended ? 2 : 1);
	const parts: Uint8Array[] = [header];
	try {
		if (store) parts.push(...recordsOf(store, domid, daemonPort(store, domain)));
	} catch (cause) {
		if (!(cause instanceof XluError)) throw cause;
		const { message, field, expected, got } = cause;
		throw new XluError("XLU_E_CAPTURE", `xenstore of domain ${domid}: ${message}`, {
			domid,
			field,
			expected,
			got,
			cause,
		});
	}
	return new Uint8Array(Buffer.concat([...parts, record(R.END, {})]));
}

function* recordsOf(store: Store, domid: number, evtchn: number): Generator<Uint8Array> {
	const { daemon, nodes } = store;
	const [connection] = daemon?.connections ?? [];
	// A listing tells nothing of connections; every guest that runs has one.
	if (!daemon || connection) {
		yield record(R.CONNECTION_DATA, {
			connId: CONN_ID,
			connType: CONN_TYPE_RING,
			domid,
			tdomid: connection?.target ?? DOMID_INVALID,
			evtchn,
			inData: hexOf(connection?.inData ?? new Uint8Array(0)),
			outRespLen: connection?.outRespLength ?? 0,
			outData: hexOf(connection?.outData ?? new Uint8Array(0)),
		});
	}
	for (const { path, token, depth } of daemon?.watches ?? []) {
		const fields = { connId: CONN_ID, wpath: path, token };
		yield depth === undefined ? record(R.WATCH_DATA, fields) : record(R.WATCH_DATA_EXTENDED, { ...fields, depth });
	}
	for (const { txId } of daemon?.transactions ?? []) yield record(R.TRANSACTION_DATA, { connId: CONN_ID, txId });
	for (const domain of daemon?.domains ?? []) yield record(R.DOMAIN_DATA, { ...domain });
	for (const [path, node] of nodes) yield record(R.NODE_DATA, nodeFields(path, node));
}

const nodeFields = (path: string, { value, perms, permFlags }: StoreNode): Fields => ({
	connId: 0,
	txId: 0,
	access: 0,
	perms: [...perms],
	...(permFlags ? { permFlags: [...permFlags] } : {}),
	path,
	value: hexOf(value),
});
