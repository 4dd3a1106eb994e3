/**
 * The xenstore stream: names, numbers and structures of Xen's document "Xenstore Migration", versions 1 and 2, and of its
 * first draft of April 2020. Lengths in octets.
 *
 *     header    ident u64 "xenstore", version u32, flags u32      (big-endian, always)
 *     records   type u32, len u32, body, padding to 8 octets      (byte order: bit 0 of flags)
 *     END
 *
 * The document has `len` count the body alone. The daemons count the padding too: their next record is at here + 8 + len.
 */
import { u16, u32 } from "../../format/fields.ts";
import { layOut } from "../../format/layout.ts";

/** "xenstore" in ASCII. */
export const XENSTORE_IDENT = Uint8Array.from("xenstore", (letter) => letter.charCodeAt(0));
export const XENSTORE_HEADER_BYTES = 16;
export const XENSTORE_VERSIONS: readonly number[] = [1, 2];
/** Bit 0 of flags: the records are big-endian. The others are reserved. */
export const XENSTORE_BIG_ENDIAN = 1;

export const RECORD_HEADER_BYTES = 8;
export const RECORD_ALIGNMENT = 8;

/**
 * No real record comes near: the largest node has 393,222 octets, and what is pending for a connection is limited by a
 * quota. Bounds what a hostile stream can make us hold.
 */
export const RECORD_LIMIT_BYTES = 16 << 20;

export const XENSTORE_RECORD = {
	END: 0,
	GLOBAL_DATA: 1,
	CONNECTION_DATA: 2,
	WATCH_DATA: 3,
	TRANSACTION_DATA: 4,
	NODE_DATA: 5,
	GLOBAL_QUOTA_DATA: 6,
	DOMAIN_DATA: 7,
	WATCH_DATA_EXTENDED: 8,
} as const;

export const xenstoreRecordNames: Readonly<Record<number, string>> = Object.fromEntries(
	Object.entries(XENSTORE_RECORD).map(([name, type]) => [type, name]),
);

export const CONN_TYPE_RING = 0;
export const CONN_TYPE_SOCKET = 1;

/** Bit of CONNECTION_DATA's `fields` in version 2: a unique id follows the data. */
export const CONN_FIELD_UNIQUE_ID = 1;

/** public/xen.h: no domain, here one that acts on nobody's behalf. */
export const DOMID_INVALID = 0x7ff4;
/** public/xen.h: domids from here on name no domain. */
export const DOMID_FIRST_RESERVED = 0x7ff0;

export const PERM_STALE = 1;
export const ACCESS_READ = 1;
export const ACCESS_WRITTEN = 2;

/** WATCH_DATA_EXTENDED: any number of levels below the path, which is what WATCH_DATA means. */
export const DEPTH_UNLIMITED = 0xffff;

export const recordHeader = layOut("record", "What every record begins with.", [
	u32("type", "Record type."),
	u32("len", "Octets of the body; as the daemons write it, with the padding."),
]);

export const globalData = layOut("GLOBAL_DATA", "State of the daemon, for a live update.", [
	u32("rwSocketFd", "File descriptor of the listening socket, -1 for none.", "signed"),
	u32("evtchnFd", "File descriptor of the event channel device, -1 for none.", "signed"),
]);

export const connectionData = layOut("CONNECTION_DATA", "What a connection begins with; its conn-spec follows.", [
	u32("connId", "Identifies the connection within the stream, not 0."),
	u16("connType", "0 shared ring, 1 socket."),
	u16("fields", "Version 2: which optional fields follow the data."),
]);

export const ringSpec = layOut("ring", "conn-spec of a shared ring.", [
	u16("domid", "Domain that owns the shared page."),
	u16("tdomid", "Domain it acts on behalf of (SET_TARGET), or DOMID_INVALID."),
	u32("evtchn", "Port by which the daemon reaches the domain."),
]);

export const socketSpec = layOut("socket", "conn-spec of a socket.", [
	u32("socketFd", "File descriptor of the connected socket.", "signed"),
	u32("pad", "Padding."),
]);

export const SPEC_BYTES = ringSpec.size;

export const connectionLengths = layOut("data", "Lengths of a connection's pending data, which follows.", [
	u16("inDataLen", "Octets read from the connection, not yet processed."),
	u16("outRespLen", "Octets of a partial response, not yet written."),
	u32("outDataLen", "Octets not yet written, the partial response among them."),
]);

export const watchData = layOut("WATCH_DATA", "A watch; path and token follow.", [
	u32("connId", "Connection that set the watch."),
	u16("wpathLen", "Octets of the path with its NUL."),
	u16("tokenLen", "Octets of the token with its NUL."),
]);

export const watchDepth = layOut("WATCH_DATA_EXTENDED", "What a watch of limited depth has besides.", [
	u16("depth", "Levels below the path, 0xffff for any number."),
	u16("pad", "Padding."),
]);

export const transactionData = layOut("TRANSACTION_DATA", "A transaction that is open.", [
	u32("connId", "Connection that started it."),
	u32("txId", "The transaction's id, as the domain knows it."),
]);

export const nodeData = layOut("NODE_DATA", "A node; permissions, path and value follow.", [
	u32("connId", "0 for a committed node; else the connection whose transaction touched it."),
	u32("txId", "That transaction."),
	u16("pathLen", "Octets of the path with its NUL."),
	u16("valueLen", "Octets of the value."),
	u16("access", "What the transaction did: 1 read, 2 written."),
	u16("permCount", "Number of permissions."),
]);

/** perm u8, flags u8, domid u16. */
export const PERM_BYTES = 4;

export const globalQuotaData = layOut("GLOBAL_QUOTA_DATA", "The daemon's quotas; values and names follow.", [
	u16("nDomQuota", "Quotas that apply to each domain."),
	u16("nGlobQuota", "Quotas that apply globally."),
]);

export const domainData = layOut("DOMAIN_DATA", "A domain's quotas and features; values and names follow.", [
	u16("domid", "The domain."),
	u16("nQuota", "Number of quotas."),
	u32("features", "Feature field of the ring page, offset 2064; valid from version 2 on."),
]);

// The draft of April 2020. It came in two layouts: its text has conn-type after the padding, some writers had it before.

export const draftGlobalData = layOut("GLOBAL_DATA", "The draft's: no event channel device, a second socket.", [
	u32("rwSocketFd", "File descriptor of the socket for reading and writing.", "signed"),
	u32("roSocketFd", "File descriptor of the socket for reading only.", "signed"),
]);

/** conn-type at 8, as the draft's text has it. The MFN (u64) and the length of the data (u32) follow. */
export const draftRingLate = layOut("CONNECTION_DATA", "The draft's shared ring, conn-type after the padding.", [
	u32("connId", "Identifies the connection within the stream."),
	u32("pad", "Padding."),
	u16("connType", "0 shared ring."),
	u16("domid", "Domain that owns the shared page."),
	u16("tdomid", "Domain it acts on behalf of (SET_TARGET), or DOMID_INVALID."),
	u16("flags", "1 introduced, 2 released."),
	u32("revtchn", "The domain's port."),
	u32("levtchn", "The daemon's port, -1 for a migration."),
]);

/** conn-type at 4, where the final form has it. */
export const draftRingEarly = layOut("CONNECTION_DATA", "The draft's shared ring, conn-type before the padding.", [
	u32("connId", "Identifies the connection within the stream."),
	u16("connType", "0 shared ring."),
	u16("pad", "Padding."),
	u16("domid", "Domain that owns the shared page."),
	u16("tdomid", "Domain it acts on behalf of (SET_TARGET), or DOMID_INVALID."),
	u16("flags", "1 introduced, 2 released."),
	u16("pad2", "Padding."),
	u32("revtchn", "The domain's port."),
	u32("levtchn", "The daemon's port, -1 for a migration."),
]);

/** The length of the data (u32) follows. */
export const draftSocketLate = layOut("CONNECTION_DATA", "The draft's socket, conn-type after the padding.", [
	u32("connId", "Identifies the connection within the stream."),
	u32("pad", "Padding."),
	u16("connType", "1 socket."),
	u16("flags", "1 read-only."),
	u32("socketFd", "File descriptor of the connected socket.", "signed"),
]);

export const draftSocketEarly = layOut("CONNECTION_DATA", "The draft's socket, conn-type before the padding.", [
	u32("connId", "Identifies the connection within the stream."),
	u16("connType", "1 socket."),
	u16("pad", "Padding."),
	u16("flags", "1 read-only."),
	u16("pad2", "Padding."),
	u32("socketFd", "File descriptor of the connected socket.", "signed"),
]);

export const draftNodeData = layOut("NODE_DATA", "The draft's node: permissions, then lengths, path and value.", [
	u32("connId", "0 for a committed node; else the connection whose transaction touched it."),
	u32("txId", "That transaction."),
	u16("access", "What the transaction did: 1 read, 2 written."),
	u16("permCount", "Number of permissions."),
]);

export const draftNodeLengths = layOut("NODE_DATA", "Lengths of the draft's node, after its permissions.", [
	u16("pathLen", "Octets of the path with its NUL."),
	u16("valueLen", "Octets of the value."),
]);
