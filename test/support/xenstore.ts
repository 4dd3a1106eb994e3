/** xenstore streams made record by record, and read as the tests want to see them. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { XluError } from "../../src/errors.ts";
import { Findings, type FormatFinding } from "../../src/formats/common/findings.ts";
import type { ReadOptions } from "../../src/formats/common/format.ts";
import { StreamReader } from "../../src/formats/common/reader.ts";
import type { Fields, StreamItem } from "../../src/formats/common/record.ts";
import { sourceOf } from "../../src/formats/common/source.ts";
import { frame, headerOctets } from "../../src/formats/xenstore/frame.ts";
import { DOMID_INVALID, XENSTORE_RECORD as R } from "../../src/formats/xenstore/layout.ts";
import { readXenstoreItems } from "../../src/formats/xenstore/read.ts";
import { encodeBody } from "../../src/formats/xenstore/records.ts";
import { root } from "./core.ts";

export const fixture = (name: string): Buffer => readFileSync(join(root, "test/fixtures/xenstore", name));
export const dumps = ["plain.dump", "large.dump", "busy.dump", "v2/plain.dump"] as const;

export interface NodeRow {
	path: string;
	value: string;
	perms: string[];
}

export const nodesOf = (dump: string): NodeRow[] =>
	JSON.parse(fixture(dump.replace(".dump", ".nodes.json")).toString("utf8"));

export type Part = readonly [type: number, fields: Fields] | Uint8Array;

export interface StreamSpec {
	version?: number;
	flags?: number;
	isLittle?: boolean;
}

export function stream(parts: readonly Part[], { version = 1, flags = 0, isLittle = true }: StreamSpec = {}): Buffer {
	const records = parts.map((part) => {
		if (part instanceof Uint8Array) return part;
		const [type, fields] = part;
		const padding = Buffer.from(`${fields.padding ?? ""}`, "hex");
		return frame(type, encodeBody(type, fields, isLittle), isLittle, padding);
	});
	return Buffer.concat([headerOctets(version, flags, isLittle), ...records]);
}

export const global = (rwSocketFd = 3, evtchnFd = 4): Part => [R.GLOBAL_DATA, { rwSocketFd, evtchnFd }];
export const ring = (connId: number, domid: number, more: Fields = {}): Part => [
	R.CONNECTION_DATA,
	{ connId, connType: 0, domid, tdomid: DOMID_INVALID, evtchn: 9 + domid, ...more },
];
export const socket = (connId: number, socketFd: number, more: Fields = {}): Part => [
	R.CONNECTION_DATA,
	{ connId, connType: 1, socketFd, ...more },
];
export const watch = (connId: number, wpath: string, token: string, more: Fields = {}): Part => [
	R.WATCH_DATA,
	{ connId, wpath, token, ...more },
];
export const node = (path: string, value = "", more: Fields = {}): Part => [
	R.NODE_DATA,
	{ perms: ["n0"], path, value: Buffer.from(value, "latin1").toString("hex"), ...more },
];
export const transaction = (connId: number, txId: number): Part => [R.TRANSACTION_DATA, { connId, txId }];
export const end: Part = [R.END, {}];

export interface Reading {
	items: StreamItem[];
	findings: readonly FormatFinding[];
	error: XluError | undefined;
}

/** Reads to the end, or to what ends the reading. What is no XluError is a failure of the test. */
export async function reading(
	octets: Uint8Array,
	{ strict = false, chunkBytes, ...options }: Partial<ReadOptions> & { strict?: boolean; chunkBytes?: number } = {},
): Promise<Reading> {
	const findings = new Findings({ strict });
	const items: StreamItem[] = [];
	try {
		const reader = new StreamReader(sourceOf(octets, "stream", chunkBytes));
		for await (const item of readXenstoreItems(reader, { findings, pages: "keep", ...options })) items.push(item);
	} catch (error) {
		if (!(error instanceof XluError) || error.code === "XLU_E_INTERNAL") throw error;
		return { items, findings: findings.list, error };
	}
	return { items, findings: findings.list, error: undefined };
}

export type Verdict = "accept" | "warn" | "refuse";

export function verdictOf({ findings }: Reading): Verdict {
	if (findings.some(({ isError }) => isError)) return "refuse";
	return findings.length > 0 ? "warn" : "accept";
}
