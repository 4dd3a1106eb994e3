/** A store's nodes as a tree, the way `xenstore-ls -p` has it; what a stream says besides below it. */

import { parentOf } from "./check.ts";
import { DOMID_INVALID, PERM_STALE } from "./layout.ts";
import type { XenstoreConnection, XenstoreModel, XenstoreNode } from "./model.ts";
import { octetsOfText } from "./octets.ts";

const ESCAPES: Readonly<Record<number, string>> = { 9: "\\t", 10: "\\n", 13: "\\r", 92: "\\\\" };

/** Octets as xenstore-ls prints them: what is no ASCII text as octal numbers. */
export function printable(octets: Uint8Array): string {
	let text = "";
	for (const [i, octet] of octets.entries()) {
		const escaped = ESCAPES[octet];
		if (escaped !== undefined) text += escaped;
		else if (octet >= 0x20 && octet < 0x7f) text += String.fromCharCode(octet);
		else {
			// Three digits where a digit follows that would else be taken for one of it.
			const next = octets[i + 1] ?? 0;
			const digits = octet.toString(8);
			text += `\\${next >= 0x30 && next <= 0x37 ? digits.padStart(3, "0") : digits}`;
		}
	}
	return text;
}

/** `(n0,r5)`; a stale permission has an asterisk. */
export const permsText = ({ perms, permFlags }: XenstoreNode): string =>
	`(${perms.map((perm, i) => ((permFlags?.[i] ?? 0) & PERM_STALE ? `${perm}*` : perm)).join(",")})`;

const line = (name: string, node: XenstoreNode) => `${name} = "${printable(node.value)}"   ${permsText(node)}`;
const nameOf = (path: string) => printable(octetsOfText(path.slice(path.lastIndexOf("/") + 1)));

/** What a connection is called: by its domain or its descriptor, since conn-ids are a stream's own. */
export function connectionName({ type, domid, socketFd, connId }: XenstoreConnection): string {
	if (type === "ring") return `domain ${domid}`;
	return type === "socket" ? `socket ${socketFd}` : `connection ${connId}`;
}

/** Nodes in their order among their siblings; those without a parent in the stream at the left. */
export function* treeLines(model: XenstoreModel): Generator<string> {
	const { nodes } = model;
	const children = new Map<string, string[]>();
	const tops: string[] = [];
	for (const path of nodes.keys()) {
		const parent = path === "/" || path.startsWith("@") ? undefined : parentOf(path);
		// The root is there without being named.
		if (parent === undefined || (parent !== "/" && !nodes.has(parent))) {
			if (path !== "/") tops.push(path);
			continue;
		}
		const list = children.get(parent);
		if (list) list.push(path);
		else children.set(parent, [path]);
	}
	const root = nodes.get("/");
	if (root) yield line("/", root);
	else if (children.has("/")) yield "/";
	const stack = (children.get("/") ?? []).map((path) => ({ path, depth: 1 })).reverse();
	const known = new Set<string>();
	function* below(): Generator<string> {
		for (let next = stack.pop(); next; next = stack.pop()) {
			const { path, depth } = next;
			if (known.has(path)) continue;
			known.add(path);
			yield `${"  ".repeat(depth)}${line(nameOf(path) || path, nodes.get(path) as XenstoreNode)}`;
			const list = children.get(path) ?? [];
			for (let i = list.length - 1; i >= 0; i--) stack.push({ path: list[i] as string, depth: depth + 1 });
		}
	}
	yield* below();
	for (const path of tops) {
		yield line(printable(octetsOfText(path)), nodes.get(path) as XenstoreNode);
		for (const child of (children.get(path) ?? []).toReversed()) stack.push({ path: child, depth: 1 });
		yield* below();
	}
	yield* besides(model);
}

function* besides({ connections, watches, transactions, pending }: XenstoreModel): Generator<string> {
	const namesById = new Map(connections.map((connection) => [connection.connId, connectionName(connection)]));
	const whose = (connId: number) => namesById.get(connId) ?? `connection ${connId}`;
	for (const node of pending) {
		const what = node.perms.length === 0 ? "deleted" : line("", node).slice(1);
		yield `pending ${printable(octetsOfText(node.path))} ${what}, transaction ${node.txId} of ${whose(node.connId)}`;
	}
	for (const connection of connections) {
		const { tdomid = DOMID_INVALID, evtchn, inData, outData } = connection;
		const words = [
			...(evtchn === undefined ? [] : [`port ${evtchn}`]),
			...(tdomid === DOMID_INVALID ? [] : [`on behalf of domain ${tdomid}`]),
			...(inData.length > 0 ? [`${inData.length} octets read`] : []),
			...(outData.length > 0 ? [`${outData.length} octets to write`] : []),
		];
		yield `connection of ${connectionName(connection)}${words.length > 0 ? `: ${words.join(", ")}` : ""}`;
	}
	for (const { connId, path, token, depth } of watches) {
		const levels = depth === undefined ? "" : `, ${depth} levels`;
		yield `watch of ${whose(connId)}: ${printable(octetsOfText(path))} token ${printable(octetsOfText(token))}${levels}`;
	}
	for (const { connId, txId } of transactions) yield `transaction ${txId} of ${whose(connId)}`;
}
