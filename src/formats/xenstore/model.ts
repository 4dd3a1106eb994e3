/** What a xenstore stream says: nodes, connections, watches, transactions, quotas. */
import { Findings } from "../common/findings.ts";
import type { ReadOptions } from "../common/format.ts";
import { StreamReader } from "../common/reader.ts";
import type { Fields, Json, StreamItem } from "../common/record.ts";
import { sourceOf } from "../common/source.ts";
import type { Dialect } from "./daemons.ts";
import { CONN_TYPE_RING, CONN_TYPE_SOCKET, DEPTH_UNLIMITED, XENSTORE_RECORD as R } from "./layout.ts";
import { readXenstoreItems } from "./read.ts";

export interface XenstoreNode {
	readonly value: Uint8Array;
	/** Such as n0, r5: letter and domid; the first one is the owner's. */
	readonly perms: readonly string[];
	/** Of each permission, where any is set: 1 stale. */
	readonly permFlags?: readonly number[];
}

/** A node as a transaction that is open has it. Without permissions it is deleted there. */
export interface XenstorePendingNode extends XenstoreNode {
	readonly connId: number;
	readonly txId: number;
	readonly path: string;
	/** 1 read, 2 written. */
	readonly access: number;
}

export interface XenstoreConnection {
	readonly connId: number;
	/** `other`: of a type that the document reserves; `spec` holds what it says. */
	readonly type: "ring" | "socket" | "other";
	readonly connType: number;
	/** Of a ring: its domain, the domain that it acts on behalf of (DOMID_INVALID: nobody), the daemon's port. */
	readonly domid?: number;
	readonly tdomid?: number;
	readonly evtchn?: number;
	/** Of a socket: its descriptor in the daemon. */
	readonly socketFd?: number;
	readonly spec?: string;
	/** Requests that were read and not processed; answers that were not written, of the first `outRespLen` octets remain. */
	readonly inData: Uint8Array;
	readonly outData: Uint8Array;
	readonly outRespLen: number;
	/** Version 2, the daemon of 2026: tells a domain from a later one of its domid. */
	readonly uniqueId?: number | string;
}

export interface XenstoreWatch {
	readonly connId: number;
	readonly path: string;
	readonly token: string;
	/** Levels below the path that count; undefined for all. */
	readonly depth?: number;
}

export interface XenstoreTransaction {
	readonly connId: number;
	readonly txId: number;
}

export interface XenstoreQuota {
	readonly name: string;
	readonly value: number;
}

export interface XenstoreDomain {
	readonly domid: number;
	readonly features: number;
	readonly quotas: readonly XenstoreQuota[];
}

export interface XenstoreModel {
	version: number;
	isLittle: boolean;
	dialect: Dialect | undefined;
	/** Of a daemon's stream: descriptors, -1 for none. */
	global: { readonly rwSocketFd: number; readonly evtchnFd: number } | undefined;
	globalQuotas:
		| { readonly domQuotas: readonly XenstoreQuota[]; readonly globQuotas: readonly XenstoreQuota[] }
		| undefined;
	readonly domains: XenstoreDomain[];
	readonly connections: XenstoreConnection[];
	readonly watches: XenstoreWatch[];
	readonly transactions: XenstoreTransaction[];
	/** Committed nodes by path, in the order of the stream; `@releaseDomain` and `@introduceDomain` are permissions. */
	readonly nodes: Map<string, XenstoreNode>;
	readonly pending: XenstorePendingNode[];
	/** What of the stream the model has no place for, such as a draft's second socket. */
	readonly left: Set<string>;
}

export function emptyXenstore(): XenstoreModel {
	return {
		version: 1,
		isLittle: true,
		dialect: undefined,
		global: undefined,
		globalQuotas: undefined,
		domains: [],
		connections: [],
		watches: [],
		transactions: [],
		nodes: new Map(),
		pending: [],
		left: new Set(),
	};
}

const octetsOf = (value: Json | undefined): Uint8Array =>
	new Uint8Array(Buffer.from(typeof value === "string" ? value : "", "hex"));

function quotasOf(list: Json | undefined): XenstoreQuota[] {
	if (!Array.isArray(list)) return [];
	return (list as readonly Fields[]).map(({ name, value }) => ({ name: `${name ?? ""}`, value: Number(value) }));
}

function nodeOf({ value, perms, permFlags }: Fields): XenstoreNode {
	return {
		value: octetsOf(value),
		perms: (perms ?? []) as readonly string[],
		...(permFlags === undefined ? {} : { permFlags: permFlags as readonly number[] }),
	};
}

function connectionOf(fields: Fields): XenstoreConnection {
	const connType = Number(fields.connType);
	const type = connType === CONN_TYPE_RING ? "ring" : connType === CONN_TYPE_SOCKET ? "socket" : "other";
	// The draft names both ends of the channel; the daemon's is the one that stayed.
	const evtchn = fields.dialect === undefined ? fields.evtchn : fields.levtchn === 0xffff_ffff ? 0 : fields.levtchn;
	return {
		connId: Number(fields.connId),
		type,
		connType,
		...(type === "ring" ? { domid: Number(fields.domid), tdomid: Number(fields.tdomid), evtchn: Number(evtchn) } : {}),
		...(type === "socket" ? { socketFd: Number(fields.socketFd) } : {}),
		...(type === "other" ? { spec: `${fields.spec}` } : {}),
		inData: octetsOf(fields.inData),
		outData: octetsOf(fields.outData),
		outRespLen: Number(fields.outRespLen ?? 0),
		...(fields.uniqueId === undefined ? {} : { uniqueId: fields.uniqueId as number | string }),
	};
}

/** Takes a stream's items, in their order, into a model. */
export function addToXenstore(model: XenstoreModel, { kind, type, isLittle, fields }: StreamItem): void {
	if (kind === "header") {
		model.version = Number(fields.version);
		model.isLittle = isLittle;
	}
	if (kind !== "record" || (fields.body !== undefined && type !== R.END)) return;
	if (fields.dialect !== undefined) {
		model.dialect = fields.dialect as Dialect;
		for (const name of ["roSocketFd", "mfn", "revtchn", "flags"]) if (fields[name] !== undefined) model.left.add(name);
	}
	switch (type) {
		case R.GLOBAL_DATA:
			model.global = { rwSocketFd: Number(fields.rwSocketFd), evtchnFd: Number(fields.evtchnFd ?? -1) };
			break;
		case R.CONNECTION_DATA:
			model.connections.push(connectionOf(fields));
			break;
		case R.WATCH_DATA:
		case R.WATCH_DATA_EXTENDED: {
			const depth = Number(fields.depth ?? DEPTH_UNLIMITED);
			model.watches.push({
				connId: Number(fields.connId),
				path: `${fields.wpath}`,
				token: `${fields.token}`,
				...(depth === DEPTH_UNLIMITED ? {} : { depth }),
			});
			break;
		}
		case R.TRANSACTION_DATA:
			model.transactions.push({ connId: Number(fields.connId), txId: Number(fields.txId) });
			break;
		case R.NODE_DATA: {
			const path = `${fields.path}`;
			const connId = Number(fields.connId);
			if (connId === 0) model.nodes.set(path, nodeOf(fields));
			else {
				const access = Number(fields.access);
				model.pending.push({ connId, txId: Number(fields.txId), path, access, ...nodeOf(fields) });
			}
			break;
		}
		case R.GLOBAL_QUOTA_DATA:
			model.globalQuotas = { domQuotas: quotasOf(fields.domQuotas), globQuotas: quotasOf(fields.globQuotas) };
			break;
		case R.DOMAIN_DATA: {
			const { domid, features, quotas } = fields;
			model.domains.push({ domid: Number(domid), features: Number(features), quotas: quotasOf(quotas) });
			break;
		}
	}
}

export type XenstoreReadOptions = Partial<
	Pick<ReadOptions, "findings" | "dialect" | "daemon" | "descriptors" | "onProgress">
>;

/**
 * Reads a stream into a model, at most 4,194,304 nodes and other entries.
 * @param options.findings where faults go that the framing survives; by default nowhere
 * @param options.daemon the daemon that is to read it: what kills it is an error then
 * @throws XLU_E_IMAGE, XLU_E_VERSION where the framing ends, with rule and offset
 */
export async function readXenstore(
	stream: Uint8Array | StreamReader,
	options: XenstoreReadOptions = {},
): Promise<XenstoreModel> {
	const reader = stream instanceof StreamReader ? stream : new StreamReader(sourceOf(stream));
	const model = emptyXenstore();
	const items = readXenstoreItems(reader, { findings: new Findings(), pages: "keep", ...options });
	for await (const item of items) addToXenstore(model, item);
	return model;
}
