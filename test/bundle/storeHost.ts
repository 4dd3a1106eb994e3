/**
 * A captured host with a dump of its xenstored, which the captures have none of: the listing's nodes, and connections of a
 * process, of dom0 and of the guest, with watches, open transactions, and nodes that these changed.
 */
import { framesOf } from "../../src/bundle/solo.ts";
import { homeOf, type Store, storeOfDomain } from "../../src/bundle/store.ts";
import { parseStoreDump } from "../../src/bundle/storeStream.ts";
import { EVTCHN_STATE } from "../../src/format/enums.ts";
import { frameRecord } from "../../src/formats/common/framing.ts";
import type { Fields } from "../../src/formats/common/record.ts";
import {
	CONN_TYPE_RING,
	CONN_TYPE_SOCKET,
	DOMID_INVALID,
	XENSTORE_RECORD as R,
	XENSTORE_HEADER_BYTES,
	XENSTORE_IDENT,
} from "../../src/formats/xenstore/layout.ts";
import { encodeBody } from "../../src/formats/xenstore/records.ts";
import type { Host } from "../../src/host.ts";
import { type CaptureName, captured, captures } from "./helpers.ts";

export type StoreRecord = readonly [type: number, fields: Fields];

/** A stream of these records, with END where `isWhole`. */
export function storeStream(records: readonly StoreRecord[], isWhole = true): Uint8Array {
	const header = new Uint8Array(XENSTORE_HEADER_BYTES);
	header.set(XENSTORE_IDENT);
	new DataView(header.buffer).setUint32(8, 2);
	const all = isWhole ? [...records, [R.END, {}] as const] : records;
	return new Uint8Array(
		Buffer.concat([header, ...all.map(([type, fields]) => frameRecord(type, encodeBody(type, fields, true), true))]),
	);
}

export const ring = (connId: number, domid: number, more: Fields = {}): StoreRecord => [
	R.CONNECTION_DATA,
	{ connId, connType: CONN_TYPE_RING, domid, tdomid: DOMID_INVALID, evtchn: 20 + connId, outRespLen: 0, ...more },
];
const socket = (connId: number): StoreRecord => [
	R.CONNECTION_DATA,
	{ connId, connType: CONN_TYPE_SOCKET, socketFd: 9 + connId, outRespLen: 0 },
];
export const watch = (connId: number, wpath: string, token: string, depth?: number): StoreRecord =>
	depth === undefined
		? [R.WATCH_DATA, { connId, wpath, token }]
		: [R.WATCH_DATA_EXTENDED, { connId, wpath, token, depth }];
export const transaction = (connId: number, txId: number): StoreRecord => [R.TRANSACTION_DATA, { connId, txId }];
export const node = (path: string, value: string, perms: readonly string[], more: Fields = {}): StoreRecord => [
	R.NODE_DATA,
	{ connId: 0, txId: 0, access: 0, perms: [...perms], path, value: Buffer.from(value).toString("hex"), ...more },
];

/** Connections of the dump: a process's, dom0's, the guest's. */
const [PROCESS, DOM0, GUEST] = [1, 2, 7];

/** What the guest has in flight: a request that was read by half, an answer that was written by half. */
export const inFlight = { inData: "0b000000aabb", outRespLen: 4, outData: "0200000000000000" } as const;

export function dumpOf(name: CaptureName): Uint8Array {
	const domid = captures[name];
	const { nodes } = captured(name).store as Store;
	const home = homeOf(domid);
	const vbd = `${home}/device/vbd/51712`;
	return storeStream([
		[R.GLOBAL_DATA, { rwSocketFd: 5, evtchnFd: 6 }],
		[R.GLOBAL_QUOTA_DATA, { domQuotas: [{ name: "nodes", value: 1000 }], globQuotas: [] }],
		socket(PROCESS),
		ring(DOM0, 0),
		ring(GUEST, domid, inFlight),
		watch(PROCESS, home, "a process"),
		watch(DOM0, `${vbd}/state`, "the backend"),
		watch(GUEST, "device", "relative"),
		watch(GUEST, `/local/domain/0/backend/vbd/${domid}/51712/state`, "FFFF888003f0a000"),
		watch(GUEST, "@releaseDomain", "special", 1),
		transaction(PROCESS, 3),
		transaction(DOM0, 11),
		transaction(GUEST, 12),
		transaction(GUEST, 4_000_000_000),
		[R.DOMAIN_DATA, { domid: 0, features: 1, quotas: [] }],
		[R.DOMAIN_DATA, { domid, features: 3, quotas: [{ name: "nodes", value: 4000 }] }],
		...(nodes.has("/") ? [] : [node("/", "", ["n0"])]),
		...[...nodes].map(([path, { value, perms }]) => {
			const isStale = path === `${home}/data` || path === vbd;
			const flags = isStale ? { permFlags: perms.map((_, i) => (i === 0 ? 0 : 1)) } : {};
			return node(path, "", perms, { value: Buffer.from(value).toString("hex"), ...flags });
		}),
		// Not committed: the guest's and dom0's.
		node(`${vbd}/state`, "5", [`n${domid}`], { connId: GUEST, txId: 12, access: 3 }),
		node(`${home}/data/new`, "pending", [`n${domid}`], { connId: GUEST, txId: 4_000_000_000, access: 2 }),
		node(`${vbd}/ring-ref`, "", [], { connId: GUEST, txId: 12, access: 0 }),
		node(`/local/domain/0/backend/vbd/${domid}/51712/state`, "6", ["n0"], { connId: DOM0, txId: 11, access: 2 }),
	]);
}

/** The captured host with what that dump says. */
export function dumpedHost(name: CaptureName): Host {
	return withStore(captured(name), parseStoreDump(dumpOf(name), "xenstore.dump"));
}

export const withStore = (host: Host, store: Store | undefined): Host => ({ ...shallow(host), store });

/** `store` is read when it is asked for: a spread would read it. */
function shallow({ name, model, preserved, assumptions, pvLayouts, capabilities }: Host): Host {
	return {
		name,
		model,
		preserved,
		assumptions,
		...(pvLayouts ? { pvLayouts } : {}),
		...(capabilities ? { capabilities } : {}),
	};
}

/** A host without a domain: its frames are free, and nothing of it is in the store. */
export function withoutDomain(host: Host, domid: number): Host {
	const { model, store } = host;
	const own = store && storeOfDomain(store, domid);
	const isOther = ({ domid: other }: { domid: number }): boolean => other !== domid;
	const { connections = [], watches = [], transactions = [], domains = [] } = store?.daemon ?? {};
	const rest = store && {
		nodes: new Map([...store.nodes].filter(([path]) => !own?.nodes.has(path))),
		daemon: store.daemon && {
			connections: connections.filter(isOther),
			watches: watches.filter(isOther),
			transactions: transactions.filter(isOther),
			domains: domains.filter(isOther),
		},
	};
	const owned = new Set(framesOf(model.frameOwners, domid));
	const frameTypes = model.frameTypes.slice();
	const frameOwners = model.frameOwners.map((entry, mfn) => {
		if (!owned.has(mfn)) return entry;
		frameTypes[mfn] = 0;
		return 0n;
	});
	const preserved = new Map([...host.preserved].filter(([mfn]) => frameOwners[mfn] !== 0n));
	const domains_ = model.domains.filter(({ domain }) => domain.domid !== domid).map((domain) => apart(domain, domid));
	return { ...withStore(host, rest), preserved, model: { ...model, frameOwners, frameTypes, domains: domains_ } };
}

/** A domain whose ends of a peer's ports, and whose mappings of its grants, are gone with that peer. */
function apart<T extends Host["model"]["domains"][number]>(domain: T, gone: number): T {
	return {
		...domain,
		...(domain.ports
			? {
					ports: domain.ports.map((row) =>
						Number(row?.state) === EVTCHN_STATE.interdomain && Number(row?.remoteDomid) === gone ? undefined : row,
					),
				}
			: {}),
		...(domain.maptrack
			? { maptrack: domain.maptrack.map((row) => (Number(row?.domid) === gone && row?.flags ? undefined : row)) }
			: {}),
	};
}
