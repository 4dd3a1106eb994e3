/**
 * What a host's xenstored holds, as far as a capture tells: nodes with values and permissions from `xenstore-ls -fp`;
 * watches and transactions from a dump of the daemon's state alone. And of it what belongs to one domain (Xen,
 * "Non-Cooperative Migration of Guests", section 1.2).
 */
import { XluError } from "../errors.ts";

export interface StoreNode {
	readonly value: Uint8Array;
	/** Such as n0, r1: letter and domid; the first one is the owner's. */
	readonly perms: readonly string[];
	/** Flags of each of them, where any is set: 1 for one of a domain that is gone, which counts no more. */
	readonly permFlags?: readonly number[];
}

export interface StoreWatch {
	readonly domid: number;
	readonly path: string;
	readonly token: string;
	/** Levels below the path that count; undefined for all. */
	readonly depth?: number;
}

export interface StoreConnection {
	readonly domid: number;
	/** The domain that it acts on behalf of; undefined for nobody. */
	readonly target?: number;
	/** Requests that were read and not processed yet; answers that were not written yet. */
	readonly inData: Uint8Array;
	readonly outData: Uint8Array;
	readonly outRespLength: number;
}

/** Open: what it changed is nobody's, and goes when it ends. */
export interface StoreTransaction {
	readonly domid: number;
	readonly txId: number;
	/** Of one that came with its domain from another host: it cannot be committed, whatever it did. */
	readonly endsWith?: "EAGAIN";
}

/** What a daemon keeps of a domain: the features that it showed on the ring page, quotas set for it alone. */
export interface StoreDomain {
	readonly domid: number;
	readonly features: number;
	readonly quotas: readonly { readonly name: string; readonly value: number }[];
}

export interface Store {
	/** By path, in an order in which parents precede their children. */
	readonly nodes: ReadonlyMap<string, StoreNode>;
	/** What a listing does not tell; undefined where only that is known. */
	readonly daemon:
		| {
				readonly connections: readonly StoreConnection[];
				readonly watches: readonly StoreWatch[];
				readonly transactions: readonly StoreTransaction[];
				readonly domains: readonly StoreDomain[];
		  }
		| undefined;
}

const LINE = /^(\S+) = "(.*)" {3}\(([nrwb]\d+(?:,[nrwb]\d+)*)\)$/s;

function listingError(file: string, line: number, expected: string, got: string): XluError {
	return new XluError("XLU_E_CAPTURE", `${file}, line ${line}: expected ${expected}, got ${got}.`, {
		record: file,
		line,
		expected,
		got,
	});
}

const ESCAPES: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, "\\": 92, '"': 34 };

/** xenstore-ls writes what cannot be printed as \n, \r, \t, \\, \xHH or up to three octal digits. */
function octetsOfEscaped(text: string): Uint8Array {
	const octets = text.replace(/\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)/gs, (_all, code: string) => {
		if (code.startsWith("x") && code.length > 1) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
		if (/^[0-7]/.test(code)) return String.fromCharCode(Number.parseInt(code, 8) & 0xff);
		return String.fromCharCode(ESCAPES[code] ?? code.charCodeAt(0));
	});
	return Uint8Array.from(octets, (letter) => letter.charCodeAt(0));
}

/**
 * Reads what `xenstore-ls -fp` printed.
 * @throws XLU_E_CAPTURE with the line where it is something else
 */
export function parseStoreListing(text: string, file: string): Store {
	const nodes = new Map<string, StoreNode>();
	// Octets, not characters: values are no texts.
	const lines = Buffer.from(text, "utf8").toString("latin1").split("\n");
	for (const [i, line] of lines.entries()) {
		if (line === "") continue;
		const match = LINE.exec(line);
		if (!match) throw listingError(file, i + 1, 'path = "value"   (permissions)', JSON.stringify(line.slice(0, 80)));
		const [, path = "", value = "", perms = ""] = match;
		if (nodes.has(path)) throw listingError(file, i + 1, "each path once", path);
		nodes.set(path, { value: octetsOfEscaped(value), perms: perms.split(",") });
	}
	return { nodes, daemon: undefined };
}

export const textOfValue = ({ value }: StoreNode): string => Buffer.from(value).toString("latin1");

export const isBelow = (path: string, top: string): boolean => path === top || path.startsWith(`${top}/`);

export const parentOf = (path: string): string => path.slice(0, path.lastIndexOf("/")) || "/";

export const homeOf = (domid: number): string => `/local/domain/${domid}`;

/** A frontend area and the backend area that it names. */
export interface DeviceArea {
	readonly frontend: string;
	readonly backend: string;
	readonly backendId: number;
}

const ANY_BACKEND = /^\/local\/domain\/(\d+)\//;

/** Devices of a domain: of every area in its home that names a backend. */
export function deviceAreas(nodes: ReadonlyMap<string, StoreNode>, domid: number): DeviceArea[] {
	const home = homeOf(domid);
	const areas: DeviceArea[] = [];
	for (const [path, node] of nodes) {
		if (!path.startsWith(`${home}/`) || !path.endsWith("/backend")) continue;
		const backend = textOfValue(node);
		const frontend = parentOf(path);
		const id = nodes.get(`${frontend}/backend-id`);
		const owner = ANY_BACKEND.exec(backend)?.[1];
		// A node of that name that holds no path, or the domain's own backends, are no frontends.
		if (owner === undefined && id === undefined) continue;
		areas.push({ frontend, backend, backendId: Number(id ? textOfValue(id) : owner) });
	}
	return areas;
}

/**
 * Paths that relate to a domain: its home, its /vm, the backend areas that its frontends name or that name it as their
 * frontend, and the node above such an area where that is the domain's too (backend/vif/5).
 */
export function pathsOfDomain(nodes: ReadonlyMap<string, StoreNode>, domid: number): Set<string> {
	const home = homeOf(domid);
	const tops = new Set([home]);
	const vm = nodes.get(`${home}/vm`);
	if (vm && textOfValue(vm).startsWith("/vm/")) tops.add(textOfValue(vm));
	const backends = new Set(deviceAreas(nodes, domid).map(({ backend }) => backend));
	for (const [path, node] of nodes) {
		if (!path.endsWith("/frontend-id") || textOfValue(node) !== `${domid}`) continue;
		const area = parentOf(path);
		const frontend = nodes.get(`${area}/frontend`);
		// The tool stack's own notes in /libxl name frontends as well.
		if (ANY_BACKEND.test(area) && frontend && isBelow(textOfValue(frontend), home)) backends.add(area);
	}
	const selected = new Set<string>();
	for (const area of backends) {
		tops.add(area);
		const parent = parentOf(area);
		if (parent.endsWith(`/${domid}`) && nodes.has(parent)) selected.add(parent);
	}
	const list = [...tops];
	for (const path of nodes.keys()) {
		if (list.some((top) => isBelow(path, top))) selected.add(path);
	}
	return selected;
}

/** What of a store relates to one domain. */
export function storeOfDomain({ nodes, daemon }: Store, domid: number): Store {
	const paths = pathsOfDomain(nodes, domid);
	const own = <T extends { domid: number }>(list: readonly T[]): T[] => list.filter((row) => row.domid === domid);
	return {
		nodes: new Map([...nodes].filter(([path]) => paths.has(path))),
		daemon: daemon && {
			connections: own(daemon.connections),
			watches: own(daemon.watches),
			transactions: own(daemon.transactions),
			domains: own(daemon.domains),
		},
	};
}

// --- what a daemon takes (Xen, xenstore.txt) ---

/** Letters, digits and a few signs. */
const PATH = /^[A-Za-z0-9\-/_@]+$/;
const MOST_ABSOLUTE = 3072;
const MOST_RELATIVE = 2048;

const isWellFormed = (path: string, most: number): boolean =>
	path.length <= most && PATH.test(path) && !path.includes("//") && !path.endsWith("/");

const SPECIAL = ["@introduceDomain", "@releaseDomain"];

/** Whether a node can have this path; the special ones hold who may watch them. */
export const isNodePath = (path: string): boolean =>
	path === "/" || SPECIAL.includes(path) || (path.startsWith("/") && isWellFormed(path, MOST_ABSOLUTE));

/** Whether a watch can be set there: a node, one relative to the domain's home, or one of the two special ones. */
export function canWatch(path: string): boolean {
	return path.startsWith("/") || path.startsWith("@") ? isNodePath(path) : isWellFormed(path, MOST_RELATIVE);
}

/** What TRANSACTION_END answers: OK, or an error's name. */
export type TransactionEnd = "OK" | "EAGAIN" | "ENOENT";

/**
 * Ends a transaction that came with its domain: to be started again if it was to be committed, gone in any case. No node
 * changes.
 * @param isCommitted true for T, false for F
 * @returns the daemon's answer, and the store from then on; ENOENT where the domain has no such transaction
 */
export function endArrived(
	store: Store,
	domid: number,
	txId: number,
	isCommitted: boolean,
): { answer: TransactionEnd; store: Store } {
	const isIt = (row: StoreTransaction): boolean =>
		row.domid === domid && row.txId === txId && row.endsWith !== undefined;
	const { daemon } = store;
	if (!daemon?.transactions.some(isIt)) return { answer: "ENOENT", store };
	const transactions = daemon.transactions.filter((row) => !isIt(row));
	return { answer: isCommitted ? "EAGAIN" : "OK", store: { ...store, daemon: { ...daemon, transactions } } };
}
