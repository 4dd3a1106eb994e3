/** What a xenstore stream's records say, each under a name that two streams have in common: conn-ids are a stream's own. */
import type { Fields, StreamItem } from "../common/record.ts";
import { CONN_TYPE_RING, CONN_TYPE_SOCKET, XENSTORE_RECORD as R } from "./layout.ts";
import { octetsOfText } from "./octets.ts";
import { printable } from "./tree.ts";

export class XenstoreFacts {
	readonly #connections = new Map<number, string>();

	/** Undefined of what is no fact: END, padding, what follows the end. */
	fact({ kind, type, name, fields }: StreamItem): { where: string; fields: Fields } | undefined {
		if (kind !== "record") {
			return kind === "header" ? { where: "xenstore header", fields: { version: fields.version } } : undefined;
		}
		const { rest: _, padding: _padding, pad: _pad, pad2: _pad2, dataPadding: _data, connId, ...said } = fields;
		const id = Number(connId);
		const whose = () => this.#connections.get(id) ?? `connection ${id}`;
		if (fields.body !== undefined && type !== R.END) return { where: `xenstore ${name}`, fields };
		switch (type) {
			case R.END:
				return undefined;
			case R.CONNECTION_DATA: {
				const { connType, domid, socketFd, ...more } = said;
				const known = connType === CONN_TYPE_RING ? `domain ${domid}` : `socket ${socketFd}`;
				const label = Number(connType) <= CONN_TYPE_SOCKET ? known : `connection ${id} of type ${connType}`;
				this.#connections.set(id, label);
				return { where: `connection of ${label}`, fields: more };
			}
			case R.WATCH_DATA:
			case R.WATCH_DATA_EXTENDED: {
				const { wpath, token, ...more } = said;
				return { where: `watch of ${whose()}: ${shown(wpath)} token ${shown(token)}`, fields: more };
			}
			case R.TRANSACTION_DATA:
				return { where: `transaction ${fields.txId} of ${whose()}`, fields: {} };
			case R.NODE_DATA: {
				const { path, txId, access, value, ...more } = said;
				const node = { value: printable(Buffer.from(`${value}`, "hex")), ...more };
				if (id === 0) return { where: `node ${shown(path)}`, fields: node };
				return { where: `node ${shown(path)} in transaction ${txId} of ${whose()}`, fields: { ...node, access } };
			}
			case R.DOMAIN_DATA: {
				const { domid, ...more } = said;
				return { where: `quotas of domain ${domid}`, fields: more };
			}
			default:
				return { where: `xenstore ${name}`, fields: said };
		}
	}
}

const shown = (text: unknown): string => printable(octetsOfText(`${text}`));
