/**
 * A store as a xenstore stream and back: what a daemon dumps for a live update, and what migration sends of one domain
 * (Xen, "Xenstore Migration"). Reading keeps rings alone, since sockets belong to processes of the host.
 */
import { XluError } from "../errors.ts";
import { writeStruct } from "../format/layout.ts";
import { xenstoreItems } from "../formats/bundle/storeItems.ts";
import type { Fields, Json } from "../formats/common/record.ts";
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
import { homeOf, type Store, type StoreConnection, type StoreNode, type StoreWatch, textOfValue } from "./store.ts";

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
}

const octetsOf = (value: Json | undefined): Uint8Array =>
	new Uint8Array(Buffer.from(typeof value === "string" ? value : "", "hex"));

/**
 * Reads a stream.
 * @throws XLU_E_IMAGE where its framing ends
 */
export function readStore(stream: Uint8Array): ReadStore {
	const nodes = new Map<string, StoreNode>();
	const connections: StoreConnection[] = [];
	const watches: StoreWatch[] = [];
	const transactions: { domid: number; txId: number }[] = [];
	const problems: StoreProblem[] = [];
	/** Domid of each connection; undefined of a socket. */
	const domids = new Map<number, number | undefined>();
	for (const { type, name, offset, fields } of xenstoreItems(stream)) {
		const problem = (expected: string, got: string): void => {
			problems.push({ offset, record: name, expected, got });
		};
		const known = (): number | undefined => {
			const id = Number(fields.connId);
			if (!domids.has(id)) problem("a connection that came before", `connection ${id}`);
			return domids.get(id);
		};
		if (fields.body !== undefined && type !== R.END) {
			problem("the record's fields", `${fields.body}`.slice(0, 64));
			continue;
		}
		switch (type) {
			case R.CONNECTION_DATA: {
				const isRing = fields.connType === CONN_TYPE_RING;
				const domid = isRing ? Number(fields.domid) : undefined;
				if (domids.has(Number(fields.connId))) problem("each connection once", `connection ${fields.connId}`);
				domids.set(Number(fields.connId), domid);
				if (domid !== undefined) connections.push(connectionOf(domid, fields));
				break;
			}
			case R.WATCH_DATA:
			case R.WATCH_DATA_EXTENDED: {
				const domid = known();
				if (domid === undefined) break;
				const depth = Number(fields.depth ?? DEPTH_UNLIMITED);
				const limited = depth === DEPTH_UNLIMITED ? {} : { depth };
				watches.push({ domid, path: `${fields.wpath}`, token: `${fields.token}`, ...limited });
				break;
			}
			case R.TRANSACTION_DATA: {
				const domid = known();
				if (domid !== undefined) transactions.push({ domid, txId: Number(fields.txId) });
				break;
			}
			case R.NODE_DATA: {
				// What a transaction touched is nobody's before it is committed.
				if (Number(fields.connId) !== 0) break;
				const path = `${fields.path}`;
				if (nodes.has(path)) problem("each path once", path);
				nodes.set(path, { value: octetsOf(fields.value), perms: (fields.perms as string[] | undefined) ?? [] });
				break;
			}
		}
	}
	return { store: { nodes, daemon: { connections, watches, transactions } }, problems };
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

const hexOf = (octets: Uint8Array): string => Buffer.from(octets).toString("hex");

const CONN_ID = 1;

/**
 * What migration sends of a domain: its connection, watches, open transactions, then its nodes, parents first.
 * @param store what relates to the domain; undefined where nothing is known of it
 * @throws XLU_E_CAPTURE for a value that no record can hold
 */
export function writeStore(store: Store | undefined, domain: DomainModel): Uint8Array {
	const { domid } = domain.domain;
	const isExtended = store?.daemon?.watches.some(({ depth }) => depth !== undefined) ?? false;
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
	for (const { path, token, depth } of daemon?.watches ?? []) {
		const fields = { connId: CONN_ID, wpath: path, token };
		yield depth === undefined ? record(R.WATCH_DATA, fields) : record(R.WATCH_DATA_EXTENDED, { ...fields, depth });
	}
	for (const { txId } of daemon?.transactions ?? []) yield record(R.TRANSACTION_DATA, { connId: CONN_ID, txId });
	for (const [path, { value, perms }] of nodes) {
		yield record(R.NODE_DATA, { connId: 0, txId: 0, access: 0, perms: [...perms], path, value: hexOf(value) });
	}
}
