/**
 * Records' bodies to fields and back, without loss: what a field says wins, what it leaves out is what a daemon writes.
 *
 * Keys that every record may have, each only where it differs from what a daemon writes:
 *
 *     rest       octets after the last known field, where they are not zeros up to a multiple of 8 ("": none at all)
 *     padding    octets after a body whose `len` leaves its padding out, as the document has it
 *     body       the whole body, where it is too short for its fields or the type is not known
 *     dialect    "draft-2020-04", in the records that the draft lays out otherwise
 *
 * Lengths that their octets tell are left out; `wpathLen`, `valueLen` and so on stand only where they reach past the body.
 */
import type { Fields, Json } from "../common/record.ts";
import type { Dialect } from "./daemons.ts";
import {
	CONN_FIELD_UNIQUE_ID,
	CONN_TYPE_RING,
	CONN_TYPE_SOCKET,
	connectionData,
	connectionLengths,
	DOMID_INVALID,
	domainData,
	draftGlobalData,
	draftNodeData,
	draftNodeLengths,
	draftRingEarly,
	draftRingLate,
	draftSocketEarly,
	draftSocketLate,
	globalData,
	globalQuotaData,
	nodeData,
	PERM_BYTES,
	XENSTORE_RECORD as R,
	ringSpec,
	SPEC_BYTES,
	socketSpec,
	transactionData,
	watchData,
	watchDepth,
} from "./layout.ts";
import { BodyReader, BodyWriter, FieldReader, hexOf, isZero, octetsOfText, textOf } from "./octets.ts";

type MutableFields = { [key: string]: Json | undefined };

interface Codec {
	/** Undefined where the body has no room for what the record begins with. */
	decode(body: BodyReader): MutableFields | undefined;
	encode(fields: FieldReader, out: BodyWriter): void;
}

/** What differs from the usual value, under its key. */
const unless = (usual: Json, key: string, value: Json | undefined): MutableFields =>
	value === usual || value === undefined ? {} : { [key]: value };

const jsonOf = (value: bigint): number | string =>
	value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : String(value);

/** Text with its NUL. `<key>Len` where it reaches past the body, `<key>Nul: false` where the NUL is missing. */
function decodeText(body: BodyReader, key: string, length: number): MutableFields {
	const octets = body.octets(length);
	const isEnded = octets.at(-1) === 0;
	return {
		[key]: textOf(isEnded ? octets.subarray(0, -1) : octets),
		...(isEnded ? {} : { [`${key}Nul`]: false }),
		...(octets.length === length ? {} : { [`${key}Len`]: length }),
	};
}

function encodeText(fields: FieldReader, key: string): { octets: Uint8Array; length: number } {
	const text = octetsOfText(fields.text(key));
	const octets = fields.value(`${key}Nul`) === false ? text : Buffer.concat([text, Buffer.of(0)]);
	return { octets, length: fields.number(`${key}Len`, 16, checkedLength(fields, key, octets.length)) };
}

function checkedLength(fields: FieldReader, key: string, length: number): number {
	if (length > 0xffff) throw fields.error(key, "at most 65,535 octets");
	return length;
}

function decodeOctets(body: BodyReader, key: string, length: number): MutableFields {
	const octets = body.octets(length);
	return { [key]: hexOf(octets), ...(octets.length === length ? {} : { [`${key}Len`]: length }) };
}

/**
 * Permissions as xenstore-ls prints them, `n0`, `r5`; the letter may be any octet. Their flags stand beside them, in
 * `permFlags`, where any is set.
 */
function decodePerms(body: BodyReader, count: number): MutableFields {
	const perms: string[] = [];
	const flags: number[] = [];
	for (let i = 0; i < count; i++) {
		const letter = String.fromCharCode(body.u8());
		flags.push(body.u8());
		perms.push(letter + body.u16());
	}
	return { perms, ...(flags.some((flag) => flag !== 0) ? { permFlags: flags } : {}) };
}

function encodePerms(fields: FieldReader, out: BodyWriter): void {
	const flags = fields.list("permFlags");
	fields.list("perms").forEach((perm, i) => {
		const [, letter, digits] = (typeof perm === "string" && /^([\0-\xff])(\d{1,5})$/.exec(perm)) || [];
		const domid = Number(digits);
		const flag = flags[i] ?? 0;
		if (letter === undefined || domid > 0xffff) throw fields.error("perms", "permissions such as n0 or r5");
		if (typeof flag !== "number" || !(flag >= 0 && flag <= 0xff)) throw fields.error("permFlags", "octets");
		out.octets(Uint8Array.of(letter.charCodeAt(0), flag));
		out.scalar(2, domid);
	});
}

/** Values and their NUL-terminated names; the names as they are where they are not one for each value. */
function decodeQuotas(body: BodyReader, counts: readonly { key: string; count: number }[]): MutableFields {
	const values = counts.map(({ count }) => Array.from({ length: count }, () => body.u32()));
	const start = body.at;
	const names: string[] = [];
	const wanted = counts.reduce((sum, { count }) => sum + count, 0);
	for (let i = 0; i < wanted; i++) {
		const end = body.body.indexOf(0, body.at);
		if (end < 0) {
			body.at = start;
			return {
				...Object.fromEntries(counts.map(({ key }, group) => [key, values[group]!.map((value) => ({ value }))])),
				names: hexOf(body.octets(body.remaining)),
			};
		}
		names.push(textOf(body.octets(end - body.at)));
		body.at++;
	}
	let at = 0;
	return Object.fromEntries(
		counts.map(({ key }, group) => [key, values[group]!.map((value) => ({ name: names[at++]!, value }))]),
	);
}

function quotasOf(fields: FieldReader, key: string): { name: string; value: number }[] {
	return fields.list(key).map((quota) => {
		if (quota === null || typeof quota !== "object" || Array.isArray(quota))
			throw fields.error(key, "names and values");
		const entry = new FieldReader(quota as Fields);
		return { name: entry.has("name") ? entry.text("name") : "", value: entry.number("value", 32) };
	});
}

function encodeQuotas(fields: FieldReader, out: BodyWriter, quotas: readonly { name: string; value: number }[]): void {
	for (const { value } of quotas) out.scalar(4, value);
	if (fields.has("names")) out.octets(fields.octets("names"));
	else for (const { name } of quotas) out.octets(Buffer.concat([octetsOfText(name), Buffer.of(0)]));
}

function rowOf(fields: FieldReader, struct: typeof nodeData, only?: readonly string[]): Record<string, number> {
	const row: Record<string, number> = {};
	for (const { name, type, show } of struct.fields) {
		if (only && !only.includes(name)) continue;
		const isPad = name.startsWith("pad");
		row[name] = fields.number(name, type === "u16" ? 16 : 32, isPad ? 0 : undefined, show === "signed");
	}
	return row;
}

/** A record that is one structure. */
function plain(struct: typeof nodeData, isDraft = false): Codec {
	return {
		decode: (body) =>
			body.remaining < struct.size ? undefined : { ...body.struct(struct), ...(isDraft ? { dialect: DRAFT } : {}) },
		encode: (fields, out) => out.struct(struct, rowOf(fields, struct)),
	};
}

const DRAFT: Dialect = "draft-2020-04";

const connection: Codec = {
	decode(body) {
		if (body.remaining < connectionData.size + SPEC_BYTES + connectionLengths.size) return undefined;
		const { connId, connType, fields } = body.struct(connectionData);
		const spec =
			connType === CONN_TYPE_RING
				? body.struct(ringSpec)
				: connType === CONN_TYPE_SOCKET
					? body.struct(socketSpec)
					: { spec: hexOf(body.octets(SPEC_BYTES)) };
		const { pad, ...known } = spec as MutableFields;
		const lengths = body.struct(connectionLengths);
		const decoded: MutableFields = {
			connId,
			connType,
			...unless(0, "fields", fields),
			...known,
			...unless(0, "pad", pad),
			...decodeOctets(body, "inData", lengths.inDataLen!),
			outRespLen: lengths.outRespLen!,
			...decodeOctets(body, "outData", lengths.outDataLen!),
		};
		const padding = -body.at & 7;
		if ((fields! & CONN_FIELD_UNIQUE_ID) !== 0 && body.remaining >= padding + 8) {
			// The daemon of August 2026 leaves four stray octets here.
			const stray = body.octets(padding);
			if (!isZero(stray)) decoded.dataPadding = hexOf(stray);
			decoded.uniqueId = jsonOf(body.u64());
		}
		return decoded;
	},
	encode(fields, out) {
		const inData = fields.octets("inData", "");
		const outData = fields.octets("outData", "");
		const connType = fields.number("connType", 16);
		const hasId = fields.has("uniqueId");
		out.struct(connectionData, {
			connId: fields.number("connId", 32),
			connType,
			fields: fields.number("fields", 16, hasId ? CONN_FIELD_UNIQUE_ID : 0),
		});
		if (connType === CONN_TYPE_RING) out.struct(ringSpec, rowOf(fields, ringSpec));
		else if (connType === CONN_TYPE_SOCKET) out.struct(socketSpec, rowOf(fields, socketSpec));
		else {
			const spec = fields.octets("spec");
			if (spec.length !== SPEC_BYTES) throw fields.error("spec", `${SPEC_BYTES} octets`);
			out.octets(spec);
		}
		out.struct(connectionLengths, {
			inDataLen: fields.number("inDataLen", 16, checkedLength(fields, "inData", inData.length)),
			outRespLen: fields.number("outRespLen", 16, 0),
			outDataLen: fields.number("outDataLen", 32, outData.length),
		});
		out.octets(inData);
		out.octets(outData);
		if (hasId) {
			if (fields.has("dataPadding")) out.octets(fields.octets("dataPadding"));
			else out.align();
			out.scalar(8, fields.u64("uniqueId"));
		}
	},
};

function watch(isExtended: boolean): Codec {
	return {
		decode(body) {
			if (body.remaining < watchData.size + (isExtended ? watchDepth.size : 0)) return undefined;
			const { connId, wpathLen, tokenLen } = body.struct(watchData);
			const { depth, pad } = isExtended ? body.struct(watchDepth) : {};
			return {
				connId,
				...(isExtended ? { depth, ...unless(0, "pad", pad) } : {}),
				...decodeText(body, "wpath", wpathLen!),
				...decodeText(body, "token", tokenLen!),
			};
		},
		encode(fields, out) {
			const wpath = encodeText(fields, "wpath");
			const token = encodeText(fields, "token");
			out.struct(watchData, { connId: fields.number("connId", 32), wpathLen: wpath.length, tokenLen: token.length });
			if (isExtended) out.struct(watchDepth, rowOf(fields, watchDepth));
			out.octets(wpath.octets);
			out.octets(token.octets);
		},
	};
}

const node: Codec = {
	decode(body) {
		if (body.remaining < nodeData.size) return undefined;
		const { connId, txId, pathLen, valueLen, access, permCount } = body.struct(nodeData);
		if (body.remaining < permCount! * PERM_BYTES) return undefined;
		return {
			connId,
			txId,
			access,
			...decodePerms(body, permCount!),
			...decodeText(body, "path", pathLen!),
			...decodeOctets(body, "value", valueLen!),
		};
	},
	encode(fields, out) {
		const path = encodeText(fields, "path");
		const value = fields.octets("value", "");
		out.struct(nodeData, {
			connId: fields.number("connId", 32, 0),
			txId: fields.number("txId", 32, 0),
			pathLen: path.length,
			valueLen: fields.number("valueLen", 16, checkedLength(fields, "value", value.length)),
			access: fields.number("access", 16, 0),
			permCount: checkedLength(fields, "perms", fields.list("perms").length),
		});
		encodePerms(fields, out);
		out.octets(path.octets);
		out.octets(value);
	},
};

const globalQuota: Codec = {
	decode(body) {
		if (body.remaining < globalQuotaData.size) return undefined;
		const { nDomQuota, nGlobQuota } = body.struct(globalQuotaData);
		if (body.remaining < (nDomQuota! + nGlobQuota!) * 4) return undefined;
		return decodeQuotas(body, [
			{ key: "domQuotas", count: nDomQuota! },
			{ key: "globQuotas", count: nGlobQuota! },
		]);
	},
	encode(fields, out) {
		const domQuotas = quotasOf(fields, "domQuotas");
		const globQuotas = quotasOf(fields, "globQuotas");
		out.struct(globalQuotaData, {
			nDomQuota: checkedLength(fields, "domQuotas", domQuotas.length),
			nGlobQuota: checkedLength(fields, "globQuotas", globQuotas.length),
		});
		encodeQuotas(fields, out, [...domQuotas, ...globQuotas]);
	},
};

const domain: Codec = {
	decode(body) {
		if (body.remaining < domainData.size) return undefined;
		const { domid, nQuota, features } = body.struct(domainData);
		if (body.remaining < nQuota! * 4) return undefined;
		return { domid, features, ...decodeQuotas(body, [{ key: "quotas", count: nQuota! }]) };
	},
	encode(fields, out) {
		const quotas = quotasOf(fields, "quotas");
		out.struct(domainData, {
			domid: fields.number("domid", 16),
			nQuota: checkedLength(fields, "quotas", quotas.length),
			features: fields.number("features", 32, 0),
		});
		encodeQuotas(fields, out, quotas);
	},
};

/**
 * Whether a draft's connection has its type at 4, not at 8. With the type at 4 (and padding behind it) domid, tdomid and
 * flags follow at 8, so a number there that is no type settles it. 0 at 8 may be dom0's domid: then nobody's target, which
 * is no domid, follows. 1 at 8 may be domain 1's: then what follows is no socket's flags.
 */
function isTypeEarly(body: BodyReader): boolean {
	const [connType, pad, domid, tdomid] = [body.peekU16(4), body.peekU16(6), body.peekU16(8), body.peekU16(10)];
	if (connType !== CONN_TYPE_RING || pad !== 0) return true;
	if (domid === CONN_TYPE_RING) return tdomid === DOMID_INVALID;
	if (domid === CONN_TYPE_SOCKET) return tdomid > DRAFT_SOCKET_READ_ONLY;
	return true;
}

/** The only flag of the draft's socket. */
const DRAFT_SOCKET_READ_ONLY = 1;

const draftConnection: Codec = {
	decode(body) {
		if (body.remaining < draftSocketLate.size) return undefined;
		const isEarly = isTypeEarly(body);
		const isRing = body.peekU16(isEarly ? 4 : 8) === CONN_TYPE_RING;
		const struct = isRing ? (isEarly ? draftRingEarly : draftRingLate) : isEarly ? draftSocketEarly : draftSocketLate;
		if (body.remaining < struct.size + (isRing ? 12 : 4)) return undefined;
		const { pad, pad2, ...known } = body.struct(struct);
		return {
			dialect: DRAFT,
			connTypeAt: isEarly ? 4 : 8,
			...known,
			...unless(0, "pad", pad),
			...unless(0, "pad2", pad2),
			...(isRing ? { mfn: jsonOf(body.u64()) } : {}),
			...decodeOctets(body, "outData", body.u32()),
		};
	},
	encode(fields, out) {
		const isEarly = fields.number("connTypeAt", 8) === 4;
		const isRing = fields.number("connType", 16) === CONN_TYPE_RING;
		const struct = isRing ? (isEarly ? draftRingEarly : draftRingLate) : isEarly ? draftSocketEarly : draftSocketLate;
		const outData = fields.octets("outData", "");
		out.struct(struct, rowOf(fields, struct));
		if (isRing) out.scalar(8, fields.u64("mfn"));
		out.scalar(4, fields.number("outDataLen", 32, outData.length));
		out.octets(outData);
	},
};

const draftNode: Codec = {
	decode(body) {
		if (body.remaining < draftNodeData.size) return undefined;
		const { connId, txId, access, permCount } = body.struct(draftNodeData);
		if (body.remaining < permCount! * PERM_BYTES + draftNodeLengths.size) return undefined;
		const perms = decodePerms(body, permCount!);
		const { pathLen, valueLen } = body.struct(draftNodeLengths);
		return {
			dialect: DRAFT,
			connId,
			txId,
			access,
			...perms,
			...decodeText(body, "path", pathLen!),
			...decodeOctets(body, "value", valueLen!),
		};
	},
	encode(fields, out) {
		const path = encodeText(fields, "path");
		const value = fields.octets("value", "");
		out.struct(draftNodeData, {
			connId: fields.number("connId", 32, 0),
			txId: fields.number("txId", 32, 0),
			access: fields.number("access", 16, 0),
			permCount: checkedLength(fields, "perms", fields.list("perms").length),
		});
		encodePerms(fields, out);
		out.struct(draftNodeLengths, {
			pathLen: path.length,
			valueLen: fields.number("valueLen", 16, checkedLength(fields, "value", value.length)),
		});
		out.octets(path.octets);
		out.octets(value);
	},
};

const end: Codec = { decode: () => ({}), encode: () => {} };

const codecs: Readonly<Record<number, Codec>> = {
	[R.END]: end,
	[R.GLOBAL_DATA]: plain(globalData),
	[R.CONNECTION_DATA]: connection,
	[R.WATCH_DATA]: watch(false),
	[R.TRANSACTION_DATA]: plain(transactionData),
	[R.NODE_DATA]: node,
	[R.GLOBAL_QUOTA_DATA]: globalQuota,
	[R.DOMAIN_DATA]: domain,
	[R.WATCH_DATA_EXTENDED]: watch(true),
};

const draftCodecs: Readonly<Record<number, Codec>> = {
	[R.END]: end,
	[R.GLOBAL_DATA]: plain(draftGlobalData, true),
	[R.CONNECTION_DATA]: draftConnection,
	[R.WATCH_DATA]: watch(false),
	[R.TRANSACTION_DATA]: plain(transactionData),
	[R.NODE_DATA]: draftNode,
};

/** The fields of a body: all of `body`, be it longer than what is known or too short for it. */
export function decodeBody(type: number, body: Uint8Array, isLittle: boolean, dialect?: Dialect): Fields {
	const reader = new BodyReader(body, isLittle);
	const fields = (dialect ? draftCodecs : codecs)[type]?.decode(reader);
	if (!fields) return { body: hexOf(body) };
	const rest = reader.rest();
	return rest === undefined ? fields : { ...fields, rest };
}

/**
 * The body that `fields` say, its padding included where a daemon would.
 * @throws XLU_E_USAGE with `field` where they say none
 */
export function encodeBody(type: number, values: Fields, isLittle: boolean): Uint8Array {
	const fields = new FieldReader(values);
	const codec = (fields.value("dialect") === DRAFT ? draftCodecs : codecs)[type];
	if (fields.has("body") || !codec) return fields.octets("body");
	const out = new BodyWriter(isLittle);
	codec.encode(fields, out);
	if (fields.has("rest")) out.octets(fields.octets("rest"));
	else out.align();
	return out.finish();
}
