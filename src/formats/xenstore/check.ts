/**
 * Holds a stream against the rules, record by record in its order. Holds names: of nodes, watches, connections and
 * transactions, each once in a set, so that no stream makes it work out of proportion.
 */
import { type Findings, type FormatFinding, findingError, hex } from "../common/findings.ts";
import type { Fields, Json } from "../common/record.ts";
import { type Daemon, type Dialect, daemons, type Effects, versionsOf } from "./daemons.ts";
import {
	ACCESS_READ,
	ACCESS_WRITTEN,
	CONN_FIELD_UNIQUE_ID,
	CONN_TYPE_SOCKET,
	connectionData,
	connectionLengths,
	DOMID_FIRST_RESERVED,
	DOMID_INVALID,
	PERM_STALE,
	XENSTORE_RECORD as R,
	RECORD_HEADER_BYTES,
	SPEC_BYTES,
} from "./layout.ts";
import { xenstoreRules as S, type XenstoreRule } from "./rules.ts";

/** A record as the reader has it. */
export interface SeenRecord {
	readonly type: number;
	readonly name: string;
	readonly offset: number;
	readonly fields: Fields;
	/** The whole of it: header, body, padding. */
	readonly octets: Uint8Array;
}

/** xenstore_lib.h's XENSTORE_PAYLOAD_MAX: what a request or a reply holds. */
export const PAYLOAD_LIMIT_BYTES = 4096;
/** Paths of more octets are refused by both daemons, seen. */
export const PATH_LIMIT_BYTES = 2048;
/** type, req_id, tx_id, len: what every message of the wire begins with. */
const MESSAGE_HEADER_BYTES = 16;
/** talloc allocates no more at once; the daemon ends then. */
const TALLOC_LIMIT_BYTES = 1 << 28;

const ENTRY_LIMIT = 1 << 22;
const HELD_LIMIT_BYTES = 512 << 20;
/** As many findings are ever shown. */
const DEFERRED_LIMIT = 1000;
/** Octets behind a record that a daemon which reads out of it is followed through. */
export const AHEAD_BYTES = 1 << 17;
/** Standard streams, log, event channel device, grant device, hypervisor, reopened log: what else a daemon has open. */
const OTHER_DESCRIPTORS = 16;

const SPECIAL = new Set(["@releaseDomain", "@introduceDomain"]);
export const isSpecial = (path: string): boolean => SPECIAL.has(path);

/** Letters, digits and -/_@, no empty name but of the root. */
export function isLegalPath(path: string): boolean {
	if (path.length > PATH_LIMIT_BYTES || !/^[-/_@A-Za-z0-9]+$/.test(path) || path.includes("//")) return false;
	return path === "/" || !path.endsWith("/");
}

/** The daemons' way: what is before the last `/`; undefined where there is none. */
export function parentOf(path: string): string | undefined {
	const at = path.lastIndexOf("/");
	return at < 0 ? undefined : at === 0 ? "/" : path.slice(0, at);
}

const length = (value: Json | undefined): number => (typeof value === "string" ? value.length / 2 : 0);

export interface CheckOptions {
	readonly findings: Findings;
	readonly daemon?: Daemon | undefined;
	readonly dialect?: Dialect | undefined;
	readonly descriptors?: ReadonlySet<number> | undefined;
}

interface Adjusted {
	readonly effects?: Effects;
	/** Not by the document, this time. */
	readonly isDocumented?: boolean;
	/** Concerns what a daemon starts from, and not a domain's stream. */
	readonly isLiveUpdate?: boolean;
	readonly field?: string;
}

export class XenstoreChecks {
	readonly #options: CheckOptions;
	#readers: readonly Daemon[] = daemons;
	#version = 1;
	readonly #told = new Set<XenstoreRule>();
	readonly #deferred: (() => void)[] = [];
	#entries = 0;
	#heldBytes = 0;
	#global: { at: Pick<SeenRecord, "name" | "offset">; socket: number; evtchn: number } | undefined;
	readonly #connections = new Set<number>();
	readonly #sockets = new Set<number>();
	readonly #rings = new Set<number>();
	readonly #targets = new Set<number>();
	readonly #watches = new Set<string>();
	readonly #transactions = new Set<string>();
	readonly #paths = new Set<string>(["/"]);
	/** What the daemons take for nodes besides. */
	readonly #pending = new Set<string>();
	readonly #quotas = new Set<number>();
	#hasRoot = false;
	#hasNodes = false;

	constructor(options: CheckOptions) {
		this.#options = options;
	}

	/** Whether it counts for the daemon that is to read it, for every one that would, or with --strict. */
	#judge(rule: XenstoreRule, { effects = rule.effects, isDocumented = rule.isDocumented }: Adjusted) {
		const { daemon, findings } = this.#options;
		const { isStrict } = findings;
		if (rule.isUsual && !isStrict) return undefined;
		if (isStrict && isDocumented) return true;
		if (daemon) return effects[daemon] === "fine" ? undefined : effects[daemon] === "dies";
		// What only a daemon minds that does not read this version is nobody's concern.
		const isConcern = daemons.some((name) => effects[name] !== "fine");
		if (isConcern && !isDocumented && this.#readers.every((name) => effects[name] === "fine")) return undefined;
		return !isStrict && this.#readers.every((reader) => effects[reader] === "dies");
	}

	#report(
		rule: XenstoreRule,
		at: Pick<SeenRecord, "name" | "offset">,
		expected: string,
		got: string,
		how: Adjusted = {},
	) {
		const { findings, daemon } = this.#options;
		const isError = this.#judge(rule, how);
		if (isError === undefined) return;
		const { name, offset } = at;
		const place = { layer: "xenstore" as const, record: name, offset, ...(how.field ? { field: how.field } : {}) };
		if (how.isLiveUpdate && !daemon && !this.#global) {
			if (this.#deferred.length < DEFERRED_LIMIT) {
				this.#deferred.push(() => findings.report(rule, place, expected, got, isError));
			}
			return;
		}
		findings.report(rule, place, expected, got, isError);
	}

	/** Traits of the whole stream are told of where they are first seen. */
	once(rule: XenstoreRule, at: Pick<SeenRecord, "name" | "offset">, expected: string, got: string, how: Adjusted = {}) {
		if (this.#told.has(rule)) return;
		this.#told.add(rule);
		this.#report(rule, at, expected, got, how);
	}

	/**
	 * What ends the reading, as an error to throw; undefined where the daemon that is to read the stream goes on.
	 * @param effects what each daemon makes of it
	 */
	fatal(
		rule: XenstoreRule,
		at: Pick<SeenRecord, "name" | "offset">,
		expected: string,
		got: string,
		effects = rule.effects,
	) {
		const { daemon, findings } = this.#options;
		if (daemon && !findings.isStrict && effects[daemon] !== "dies") {
			this.#report(rule, at, expected, got, { effects });
			return undefined;
		}
		return findings.fatal(rule, { layer: "xenstore", record: at.name, offset: at.offset }, expected, got);
	}

	header(version: number, flags: number): void {
		const { daemon, dialect } = this.#options;
		const at = { name: "header", offset: 0 };
		this.#version = version;
		if (!dialect) this.#readers = daemons.filter((name) => versionsOf[name].includes(version));
		if (daemon && !versionsOf[daemon].includes(version)) {
			const effects: Effects = { ...S.readerVersion.effects, [daemon]: "dies" };
			this.#report(S.readerVersion, at, versionsOf[daemon].join(" or "), `${version}`, { effects, field: "version" });
		}
		if (flags >>> 1 !== 0) this.#report(S.flags, at, "0 or 1", hex(flags), { field: "flags" });
		if ((flags & 1) !== 0) this.#report(S.byteOrder, at, "0", "1: big-endian", { field: "flags" });
		if (dialect && daemon) this.#report(S.dialect, at, "the final form", dialect);
	}

	/** A type that nobody has told of. */
	unknown(at: Pick<SeenRecord, "name" | "offset">, type: number): void {
		this.#report(S.type, at, "a known type", hex(type), { field: "type" });
	}

	endBody(at: Pick<SeenRecord, "name" | "offset">, len: number): void {
		this.#report(S.endBody, at, "0", `${len}`, { field: "len" });
	}

	/** Whether the record reaches, or may make a daemon reach, into what follows. */
	wantsAhead({ type, fields }: Pick<SeenRecord, "type" | "fields">): boolean {
		if (type === R.CONNECTION_DATA) return fields.outData !== "";
		return fields.valueLen !== undefined || fields.wpathLen !== undefined || fields.tokenLen !== undefined;
	}

	/** @param ahead what follows in the stream, up to 128 KiB of it, where it was wanted */
	record(record: SeenRecord, ahead: Uint8Array): void {
		const { type, fields } = record;
		this.#form(record, ahead);
		if (fields.body !== undefined) return;
		switch (type) {
			case R.GLOBAL_DATA:
				this.#globalData(record);
				break;
			case R.CONNECTION_DATA:
				this.#connection(record, ahead);
				break;
			case R.WATCH_DATA:
			case R.WATCH_DATA_EXTENDED:
				this.#watch(record);
				break;
			case R.TRANSACTION_DATA:
				this.#transaction(record);
				break;
			case R.NODE_DATA:
				this.#node(record);
				break;
			case R.GLOBAL_QUOTA_DATA:
			case R.DOMAIN_DATA:
				this.#quota(record);
				break;
		}
	}

	/** Padding, surplus octets, lengths that lead out of the body. */
	#form(record: SeenRecord, ahead: Uint8Array): void {
		const { type, fields, octets } = record;
		const { rest, padding, pad, pad2, dataPadding } = fields;
		if (fields.body !== undefined) {
			if (type in names && !record.name.startsWith("unknown"))
				this.#report(S.fields, record, "the record's fields", `${length(fields.body)} octets`);
			return;
		}
		if (typeof rest === "string" && rest !== "" && type !== R.END) {
			if (rest.length > 14) this.#report(S.surplus, record, "at most 7 octets of padding", `${rest.length / 2}`);
			else if (/[^0]/.test(rest)) this.#report(S.zeros, record, "zeros", rest, { field: "padding" });
		}
		if (typeof padding === "string" && /[^0]/.test(padding)) {
			this.#report(S.zeros, record, "zeros", padding, { field: "padding" });
		}
		if ((pad ?? 0) !== 0 || (pad2 ?? 0) !== 0 || dataPadding !== undefined) {
			this.#report(S.zeros, record, "zeros", `${pad || pad2 || dataPadding}`, { field: "padding" });
		}
		// A body of whole eights whose fields end before it counts its padding.
		if (type !== R.END && padding === undefined && rest === undefined && this.#padded(type, fields, octets)) {
			this.once(S.exact, record, "the length without padding", `${octets.length - RECORD_HEADER_BYTES}`);
		}
		this.#within(record, ahead);
	}

	/** Whether padding is part of the body: its last field ends before its last octet. */
	#padded(type: number, fields: Fields, octets: Uint8Array): boolean {
		if (!this.#options.findings.isStrict) return false;
		const bytes = (value: Json | undefined) => (typeof value === "string" ? Buffer.byteLength(value) + 1 : 0);
		const perms = Array.isArray(fields.perms) ? fields.perms.length : 0;
		let used = 0;
		if (type === R.NODE_DATA) used = 16 + 4 * perms + bytes(fields.path) + length(fields.value);
		else if (type === R.WATCH_DATA) used = 8 + bytes(fields.wpath) + bytes(fields.token);
		else if (type === R.CONNECTION_DATA && fields.uniqueId === undefined) {
			used = 24 + length(fields.inData) + length(fields.outData);
		} else return false;
		const surplus = octets.length - RECORD_HEADER_BYTES - used;
		return surplus > 0 && surplus < 8;
	}

	#within(record: SeenRecord, ahead: Uint8Array): void {
		const { fields } = record;
		for (const key of ["path", "value", "wpath", "token", "inData", "outData"]) {
			const claimed = fields[`${key}Len`];
			if (typeof claimed !== "number") continue;
			const isText = key === "path" || key === "wpath" || key === "token";
			const value = `${fields[key]}`;
			const there = isText ? Buffer.byteLength(value) + (fields[`${key}Nul`] === false ? 0 : 1) : value.length / 2;
			// Of a value, or of a watch's texts, the daemons take the next record's octets, where there are as many.
			const isHarmless = key === "value" || key === "wpath" || key === "token";
			const effects: Effects =
				isHarmless && claimed - there <= ahead.length
					? { "xenstored-4.17": "mangles", "xenstored-2026": "mangles" }
					: S.within.effects;
			this.#report(S.within, record, `at most ${there} octets`, `${claimed}`, { effects, field: `${key}Len` });
		}
	}

	#globalData(record: SeenRecord): void {
		const { fields } = record;
		const socket = Number(fields.rwSocketFd);
		const evtchn = Number(fields.evtchnFd ?? -1);
		if (this.#global) {
			const isSame = this.#global.socket === socket && this.#global.evtchn === evtchn;
			const effect = isSame ? "fine" : "mangles";
			const effects: Effects = { "xenstored-4.17": effect, "xenstored-2026": effect };
			this.#report(S.globalOnce, record, "one GLOBAL_DATA", "a second one", { effects });
			return;
		}
		this.#global = { at: record, socket, evtchn };
		this.#flush();
		if (this.#connections.size > 0) this.#report(S.globalFirst, record, "no connection before it", "one");
		if (socket < 3) this.#report(S.listening, record, "3 or more", `${socket}`, { field: "rwSocketFd" });
		else if (socket === evtchn) {
			const dies: Effects = { "xenstored-4.17": "dies", "xenstored-2026": "dies" };
			this.#report(S.descriptorOnce, record, "two descriptors", `${socket} twice`, { effects: dies });
		}
		if (evtchn >= 0 && evtchn < 3) {
			this.#report(S.descriptors, record, "-1, or 3 or more", `${evtchn}`, { field: "evtchnFd" });
		}
	}

	#flush(): void {
		for (const report of this.#deferred.splice(0)) report();
	}

	#hold(record: SeenRecord, bytes: number): void {
		this.#entries++;
		this.#heldBytes += bytes;
		if (this.#entries <= ENTRY_LIMIT && this.#heldBytes <= HELD_LIMIT_BYTES) return;
		const expected = `at most ${ENTRY_LIMIT} nodes, watches and the like, ${HELD_LIMIT_BYTES} octets of names`;
		const place = { layer: "xenstore" as const, record: record.name, offset: record.offset };
		throw this.#options.findings.fatal(S.limits, place, expected, "more");
	}

	#connection(record: SeenRecord, ahead: Uint8Array): void {
		const { fields } = record;
		this.#hold(record, 0);
		const connId = Number(fields.connId);
		const connType = Number(fields.connType);
		if (connId === 0) this.#report(S.connId, record, "another than 0", "0", { field: "connId" });
		if (this.#connections.has(connId)) {
			this.#report(S.connOnce, record, "a connection of its own", `connection ${connId} again`, { field: "connId" });
		}
		this.#connections.add(connId);
		if (connType > CONN_TYPE_SOCKET) {
			this.#report(S.connType, record, "0 or 1", `${connType}`, { field: "connType" });
		} else if (connType === CONN_TYPE_SOCKET) this.#socket(record, Number(fields.socketFd));
		if (connType !== CONN_TYPE_SOCKET) this.#ring(record);
		const optional = Number(fields.fields ?? 0);
		if (optional !== 0) {
			if (this.#version === 1) this.#report(S.laterField, record, "0", `${optional}`, { field: "fields" });
			else if (optional === CONN_FIELD_UNIQUE_ID) this.#report(S.zeros, record, "0", "1", { field: "fields" });
			else this.#report(S.surplus, record, "0 or 1", `${optional}`, { field: "fields" });
		}
		if (this.#options.dialect) return;
		this.#requests(record);
		this.#responses(record, ahead);
	}

	#socket(record: SeenRecord, descriptor: number): void {
		const isListening = this.#global?.socket === descriptor;
		if (isListening || this.#global?.evtchn === descriptor || this.#sockets.has(descriptor)) {
			const effect = isListening ? "dies" : "mangles";
			const effects: Effects = { "xenstored-4.17": effect, "xenstored-2026": effect };
			this.#report(S.descriptorOnce, record, "a descriptor of its own", `${descriptor} again`, { effects });
		} else if (descriptor < 3) {
			const effects = S.descriptorOnce.effects;
			this.#report(S.descriptorOnce, record, "3 or more", `${descriptor}`, { effects, field: "socketFd" });
		}
		this.#sockets.add(descriptor);
	}

	#ring(record: SeenRecord): void {
		const { fields } = record;
		// A type that nobody knows is taken for a ring.
		const spec = typeof fields.spec === "string" ? Buffer.from(fields.spec, "hex") : undefined;
		const domid = spec ? spec.readUInt16LE(0) : Number(fields.domid);
		const tdomid = spec ? spec.readUInt16LE(2) : Number(fields.tdomid);
		if (!spec && this.#rings.has(domid)) {
			this.#report(S.ringOnce, record, "a domain of its own", `domain ${domid} again`, { field: "domid" });
		}
		if (!spec && domid >= DOMID_FIRST_RESERVED) {
			this.#report(S.ringDomain, record, `below ${DOMID_FIRST_RESERVED}`, `${domid}`, { field: "domid" });
		} else if (!spec && tdomid >= DOMID_FIRST_RESERVED && tdomid !== DOMID_INVALID) {
			this.#report(S.ringDomain, record, "a domain, or DOMID_INVALID", `${tdomid}`, { field: "tdomid" });
		}
		this.#rings.add(domid);
		if (tdomid < DOMID_FIRST_RESERVED) this.#targets.add(tdomid);
	}

	#requests(record: SeenRecord): void {
		if (record.fields.inData === "" || typeof record.fields.inData !== "string") return;
		const data = Buffer.from(record.fields.inData, "hex");
		for (let at = 0; at + MESSAGE_HEADER_BYTES <= data.length; ) {
			const bytes = data.readUInt32LE(at + 12);
			if (bytes > PAYLOAD_LIMIT_BYTES) {
				const effect = bytes >= TALLOC_LIMIT_BYTES ? "dies" : "mangles";
				const effects: Effects = { "xenstored-4.17": effect, "xenstored-2026": effect };
				const expected = `requests of at most ${PAYLOAD_LIMIT_BYTES} octets`;
				this.#report(S.requests, record, expected, `one of ${bytes}`, { effects, field: "inData" });
				return;
			}
			at += MESSAGE_HEADER_BYTES + bytes;
		}
	}

	/** 4.17 goes from message to message by their lengths, be they in the record or not. */
	#responses(record: SeenRecord, ahead: Uint8Array): void {
		const { fields, octets } = record;
		const out = length(fields.outData);
		const partial = Number(fields.outRespLen);
		if (partial > out) {
			this.#report(S.responses, record, `at most ${out}`, `${partial}`, { field: "outRespLen" });
			return;
		}
		if (out === partial) return;
		const start =
			RECORD_HEADER_BYTES + connectionData.size + SPEC_BYTES + connectionLengths.size + length(fields.inData);
		const rest = Buffer.concat([octets.subarray(start), ahead]);
		let at = partial;
		while (at < out) {
			const isHere = at + MESSAGE_HEADER_BYTES <= rest.length;
			at += MESSAGE_HEADER_BYTES + (isHere ? rest.readUInt32LE(at + 12) : 0);
			if (at <= rest.length) continue;
			const effects: Effects = { "xenstored-4.17": "dies", "xenstored-2026": "fine" };
			const got = "one that leads out of the stream";
			this.#report(S.responses, record, "whole messages", got, { effects, field: "outData" });
			return;
		}
		if (at > out) {
			this.#report(S.responses, record, "whole messages", `${at - out} octets too few`, { field: "outData" });
		}
	}

	#watch(record: SeenRecord): void {
		const { fields, type } = record;
		const path = `${fields.wpath}`;
		const key = `${fields.connId} ${path}\0${fields.token}`;
		this.#hold(record, key.length);
		if (type === R.WATCH_DATA_EXTENDED) {
			this.#report(S.extended, record, "WATCH_DATA", record.name);
			if (this.#version === 1) this.#report(S.extendedVersion, record, "version 2", "1");
		}
		if (!this.#connections.has(Number(fields.connId))) {
			const expected = "a connection that came before";
			this.#report(S.watcher, record, expected, `connection ${fields.connId}`, { field: "connId" });
		}
		if (fields.wpathNul === false && fields.wpathLen === undefined) this.#unended(record, "wpath", "mangles");
		if (fields.tokenNul === false && fields.tokenLen === undefined) this.#unended(record, "token", "mangles");
		if (path.startsWith("@") ? path.includes("\0") : !isLegalPath(path)) {
			this.#report(S.watchPath, record, "a legal path", shown(path), { field: "wpath" });
		}
		if (this.#watches.has(key)) this.#report(S.watchOnce, record, "another path or token", shown(path));
		this.#watches.add(key);
	}

	#unended(record: SeenRecord, field: string, effect: "dies" | "mangles"): void {
		const effects: Effects = { "xenstored-4.17": effect, "xenstored-2026": effect };
		this.#report(S.ended, record, "a NUL at its end", "none", { effects, field });
	}

	#transaction(record: SeenRecord): void {
		const { connId, txId } = record.fields;
		this.#hold(record, 16);
		this.#transactions.add(`${connId} ${txId}`);
		if (!this.#connections.has(Number(connId))) {
			const expected = "a connection that came before";
			this.#report(S.transactionConn, record, expected, `connection ${connId}`, { field: "connId" });
		}
		this.#report(S.transactions, record, "none that is open", `transaction ${txId} of connection ${connId}`);
	}

	#node(record: SeenRecord): void {
		const { fields } = record;
		const whole = `${fields.path}`;
		// The daemons' texts end at the first NUL.
		const nul = whole.indexOf("\0");
		const path = nul < 0 ? whole : whole.slice(0, nul);
		const isPending = Number(fields.connId) !== 0;
		this.#hold(record, whole.length);
		if (!this.#rings.has(0)) this.#noDom0(record);
		this.#hasNodes = true;
		if (fields.pathNul === false && fields.pathLen === undefined) this.#unended(record, "path", "dies");
		if (isPending) this.#pendingNode(record, path);
		this.#permissions(record, isPending);
		if (length(fields.value) > PAYLOAD_LIMIT_BYTES) {
			const expected = `at most ${PAYLOAD_LIMIT_BYTES} octets`;
			this.#report(S.fits, record, expected, `${length(fields.value)}`, { field: "value" });
		}
		if (isSpecial(path)) return;
		if (path.startsWith("@")) {
			const effects: Effects = { "xenstored-4.17": "mangles", "xenstored-2026": "mangles" };
			this.#report(S.absolute, record, "an absolute path", shown(path), { effects, field: "path" });
			return;
		}
		if (!path.startsWith("/")) {
			this.#report(S.absolute, record, "an absolute path", shown(path), { field: "path" });
			return;
		}
		if (!isLegalPath(whole)) this.#report(S.path, record, "a legal path", shown(whole), { field: "path" });
		this.#place(record, path, isPending);
	}

	#pendingNode(record: SeenRecord, path: string): void {
		const { connId, txId, access, value, perms } = record.fields;
		this.#report(S.pending, record, "none that is pending", shown(path), { field: "connId" });
		if (!this.#transactions.has(`${connId} ${txId}`)) {
			const expected = "a transaction that came before";
			this.#report(S.pendingTransaction, record, expected, `${txId} of connection ${connId}`, { field: "txId" });
		}
		const isDeleted = Array.isArray(perms) && perms.length === 0;
		const isRight = isDeleted
			? access === 0 && value === ""
			: Number(access) > 0 && Number(access) <= (ACCESS_READ | ACCESS_WRITTEN);
		if (!isRight) {
			const expected = isDeleted ? "0, and no value" : "1, 2 or 3";
			this.#report(S.access, record, expected, `${access}`, { field: "access" });
		}
	}

	#permissions(record: SeenRecord, isPending: boolean): void {
		const { fields } = record;
		const perms = (fields.perms ?? []) as readonly string[];
		const flags = (fields.permFlags ?? []) as readonly number[];
		const [first] = perms;
		if (first === undefined) {
			// One that is pending is gone then; without a value the daemons outlive it.
			if (!isPending) this.#report(S.perms, record, "one at least", "none", { field: "perms" });
			else if (fields.value !== "") {
				this.#report(S.perms, record, "one at least", "none", { field: "perms", isDocumented: false });
			}
			return;
		}
		const owner = Number(first.slice(1));
		if (owner !== 0 && !this.#rings.has(owner)) {
			const effect = this.#targets.has(owner) ? "mangles" : "dies";
			const effects: Effects = { "xenstored-4.17": effect, "xenstored-2026": effect };
			const got = `domain ${owner}`;
			this.#report(S.owner, record, "a domain whose ring came before", got, {
				effects,
				isLiveUpdate: true,
				field: "perms",
			});
		}
		const letter = perms.find((perm) => !/^[nrwb]/.test(perm));
		if (letter !== undefined) this.#report(S.permLetter, record, "n, r, w or b", shown(letter), { field: "perms" });
		const flag = flags.find((value) => value > PERM_STALE);
		if (flag !== undefined) this.#report(S.permFlags, record, "0 or 1", `${flag}`, { field: "permFlags" });
		const bytes = perms.reduce((sum, perm) => sum + perm.length + 1, 0);
		if (bytes > PAYLOAD_LIMIT_BYTES) {
			const got = `${perms.length} of ${bytes} octets`;
			this.#report(S.fits, record, `permissions of at most ${PAYLOAD_LIMIT_BYTES} octets`, got, { field: "perms" });
		}
	}

	#place(record: SeenRecord, path: string, isPending: boolean): void {
		const parent = parentOf(path) as string;
		if (path === "/") {
			if (isPending) return;
			if (this.#hasRoot) this.#report(S.once, record, "each path once", "/ again", { field: "path" });
			else if (this.#paths.size > 1) this.#report(S.rootFirst, record, "no node before it", "one", { field: "path" });
			this.#hasRoot = true;
			return;
		}
		if (!this.#paths.has(parent)) {
			const isThere = this.#pending.has(parent);
			const how = {
				field: "path",
				isLiveUpdate: true,
				...(isPending ? { isDocumented: false } : {}),
				...(isThere ? { effects: { "xenstored-4.17": "fine", "xenstored-2026": "fine" } as const } : {}),
			};
			if (!isPending || !isThere) this.#report(S.parent, record, `${shown(parent)} before it`, "none", how);
		}
		if (isPending) {
			this.#pending.add(path);
			return;
		}
		if (this.#paths.has(path))
			this.#report(S.once, record, "each path once", `${shown(path)} again`, { field: "path" });
		this.#paths.add(path);
	}

	#noDom0(at: Pick<SeenRecord, "name" | "offset">): void {
		// With no socket to be reached by, and nothing to hold, 4.17 lives on.
		const isIdle = !this.#global && !this.#hasNodes && this.#rings.size === 0 && at.name === "END";
		const effects: Effects = isIdle ? { ...S.dom0.effects, "xenstored-4.17": "mangles" } : S.dom0.effects;
		this.once(S.dom0, at, "domain 0's ring before it", "none", { effects, isLiveUpdate: true });
	}

	#quota(record: SeenRecord): void {
		const { type, name, fields } = record;
		this.#hold(record, 0);
		const key = type === R.DOMAIN_DATA ? Number(fields.domid) : -1;
		this.#report(S.quotas, record, "none", name);
		if (this.#quotas.has(key)) this.#report(S.quotasOnce, record, "one", "another one");
		this.#quotas.add(key);
		if (type === R.DOMAIN_DATA && this.#version === 1 && fields.features !== 0) {
			this.#report(S.laterField, record, "0", hex(Number(fields.features)), { field: "features" });
		}
		const quotas = [fields.quotas, fields.domQuotas, fields.globQuotas].flatMap((list) => list ?? []);
		const given = quotas.map((quota) => `${(quota as Fields).name ?? ""}`);
		if (fields.names !== undefined || new Set(given).size < given.length || given.includes("")) {
			this.#report(S.quotaNames, record, "a name for each value, none twice", `${given.length} values`);
		}
	}

	/** At END, or where a stream ends without it. */
	end(at: Pick<SeenRecord, "name" | "offset">): void {
		const { descriptors, daemon } = this.#options;
		const isDomains = this.#connections.size <= 1 && this.#sockets.size === 0 && !this.#rings.has(0);
		if (!this.#rings.has(0)) this.#noDom0(at);
		if (!this.#global) {
			const isIdle = !this.#hasNodes && this.#rings.size === 0;
			const effects: Effects = isIdle ? { ...S.global.effects, "xenstored-4.17": "mangles" } : S.global.effects;
			// A domain's stream is for a daemon that runs.
			const harmless: Effects = { "xenstored-4.17": "mangles", "xenstored-2026": "mangles" };
			if (!isDomains || daemon) this.#flush();
			this.#report(S.global, at, "GLOBAL_DATA", "none", { effects: isDomains && !daemon ? harmless : effects });
			return;
		}
		const { socket } = this.#global;
		if (socket < 3) return;
		const named = this.#sockets.size + 2;
		const isOpen = descriptors ? descriptors.has(socket) : socket < named + OTHER_DESCRIPTORS;
		if (!isOpen) {
			const expected = descriptors ? "a descriptor that is open" : `below ${named + OTHER_DESCRIPTORS}`;
			this.#report(S.descriptors, this.#global.at, expected, `${socket}`, { field: "rwSocketFd" });
		}
	}
}

const names: Readonly<Record<number, true>> = Object.fromEntries(Object.values(R).map((type) => [type, true]));

function shown(text: string): string {
	const line = JSON.stringify(text);
	return line.length > 80 ? `${line.slice(0, 76)}..."` : line;
}

/** The first of the findings that refuse a stream, as an error; undefined where there is none. */
export function firstError(findings: readonly FormatFinding[]): Error | undefined {
	const found = findings.find(({ isError }) => isError);
	return found && findingError(found);
}
