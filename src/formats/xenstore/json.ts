/** A model as JSON, in pieces: what `xlu inspect --json` says of a store beside its records. */
import { hexOf } from "../common/values.ts";
import type { XenstoreModel, XenstoreNode } from "./model.ts";

const nodeJson = (path: string, { value, perms, permFlags }: XenstoreNode) => ({
	path,
	value: hexOf(value),
	perms,
	...(permFlags ? { permFlags } : {}),
});

function* list<T>(key: string, values: Iterable<T>, json: (value: T) => unknown): Generator<string> {
	let separator = `,"${key}":[`;
	for (const value of values) {
		yield `${separator}${JSON.stringify(json(value))}`;
		separator = ",";
	}
	yield separator === "," ? "]" : `${separator}]`;
}

/** `,"nodes":[...],"watches":[...],"connections":[...],"transactions":[...]`. */
export function* xenstoreJson(model: XenstoreModel): Generator<string> {
	yield* list("nodes", model.nodes, ([path, node]) => nodeJson(path, node));
	yield* list("watches", model.watches, (watch) => watch);
	yield* list("connections", model.connections, ({ inData, outData, ...connection }) => ({
		...connection,
		inData: hexOf(inData),
		outData: hexOf(outData),
	}));
	const pending = new Map<string, unknown[]>();
	for (const node of model.pending) {
		const key = `${node.connId} ${node.txId}`;
		const shown = { ...nodeJson(node.path, node), access: node.access };
		const found = pending.get(key);
		if (found) found.push(shown);
		else pending.set(key, [shown]);
	}
	const known = new Set(model.transactions.map(({ connId, txId }) => `${connId} ${txId}`));
	// Of a transaction that nothing announces there are nodes alone.
	const silent = [...pending.keys()].filter((key) => !known.has(key)).map((key) => key.split(" ").map(Number));
	const all = [...model.transactions, ...silent.map(([connId = 0, txId = 0]) => ({ connId, txId }))];
	yield* list("transactions", all, ({ connId, txId }) => ({
		connId,
		txId,
		nodes: pending.get(`${connId} ${txId}`) ?? [],
	}));
}
