/**
 * What a xenstore stream is held against: the document's rules, and what the two daemons were seen to need. What was not
 * seen of the daemon of 2026 is taken to be as with 4.17, whose code it continues.
 */
import type { FormatRule, Severity } from "../common/findings.ts";
import { both, type Daemon, daemons, type Effects } from "./daemons.ts";

export interface XenstoreRule extends FormatRule {
	/** Whether the document says so: with --strict that refuses. */
	readonly isDocumented: boolean;
	/** Whether real daemons write such streams, so that only --strict is to hear of it. */
	readonly isUsual: boolean;
	/** What a stream that breaks it does to each daemon, unless the check knows better. */
	readonly effects: Effects;
}

const DOC = "Xen, Xenstore Migration";
const SEEN = "seen: xenstored";

const words = { dies: "dies", mangles: "reads something else", fine: "does not mind" } as const;

interface Details {
	readonly doc: string;
	readonly advice: string;
	/** Section of the document, where it is from there. */
	readonly section?: string;
	readonly effects?: Effects;
	readonly severity?: Severity;
	readonly isUsual?: boolean;
}

function rule(number: number, { doc, advice, section, effects = both("fine"), severity, isUsual }: Details) {
	const isFine = daemons.every((daemon) => effects[daemon] === "fine");
	const made: XenstoreRule = {
		code: `XLU-S${String(number).padStart(3, "0")}`,
		severity: severity ?? (isFine ? "strict" : "reader"),
		from: section === undefined ? SEEN : `${DOC}, ${section}`,
		doc,
		advice,
		isDocumented: section !== undefined,
		isUsual: isUsual ?? false,
		effects,
		readers: Object.fromEntries(daemons.map((daemon): [Daemon, string] => [daemon, words[effects[daemon]]])),
	};
	return made;
}

const only417 = (effects: Effects["xenstored-4.17"], other: Effects["xenstored-2026"]): Effects => ({
	"xenstored-4.17": effects,
	"xenstored-2026": other,
});

const WRITER = "The writer is wrong, or the stream is damaged: dump it again.";
const ORDER = "xlu convert --for DAEMON puts records into the order that a daemon needs.";
const LOST = "xlu convert --for DAEMON leaves out what the daemon would lose, and says what.";
const MEND = "Mend it in the stream as JSON (xlu convert --to json, and back).";

export const xenstoreRules = {
	truncated: rule(1, {
		doc: "Header and records are there whole, up to END.",
		section: "Records, END",
		severity: "damaged",
		effects: only417("mangles", "dies"),
		advice:
			"The stream was cut off: look for a daemon that died, a full disk. 4.17 takes such a part for the whole, or dies.",
	}),
	ident: rule(2, {
		doc: 'A stream begins with "xenstore".',
		section: "Header",
		severity: "damaged",
		effects: both("dies"),
		advice: "It is no xenstore stream.",
	}),
	version: rule(3, {
		doc: "The version is 1 or 2.",
		section: "Header",
		severity: "version",
		effects: both("dies"),
		advice: "The writer is newer than this tool, or the header is damaged.",
	}),
	readerVersion: rule(4, {
		doc: "The version is one that the daemon reads: 4.17 reads 1, the one of 2026 reads 1 and 2.",
		effects: only417("dies", "fine"),
		advice: "xlu convert --to xenstore-v1, which says what it drops.",
	}),
	flags: rule(5, {
		doc: "Bits 1 to 31 of flags are zero.",
		section: "Header",
		effects: both("dies"),
		advice: WRITER,
	}),
	byteOrder: rule(6, {
		doc: "The records are little-endian, as the daemons read them.",
		effects: both("dies"),
		advice: "xlu convert --to little.",
	}),
	bodyLength: rule(7, {
		doc: "A record has at most 16 MiB.",
		severity: "damaged",
		effects: both("dies"),
		advice: "The length is damaged, or what stands here is no record: compare with the record before it.",
	}),
	type: rule(8, {
		doc: "A record's type is one that the document has.",
		section: "Records",
		effects: both("mangles"),
		advice: "The writer is newer than this tool, or the stream is damaged here. The daemons pass over it.",
	}),
	padded: rule(9, {
		doc: "A record's length counts its padding, so that the next record is at here + 8 + len.",
		effects: both("dies"),
		advice: "The stream is in the form of the document, which the daemons do not read: xlu convert --for DAEMON.",
	}),
	exact: rule(10, {
		doc: "A record's length does not count its padding.",
		section: "Records",
		isUsual: true,
		advice: "So both daemons write it, and so they need it. xlu convert --use documented makes the document's form.",
	}),
	zeros: rule(11, {
		doc: "Padding is zero.",
		section: "Records",
		isUsual: true,
		advice: "The daemon of 2026 leaves stray octets there, and puts a field into padding (CONNECTION_DATA fields).",
	}),
	laterField: rule(12, {
		doc: "What came with version 2 is zero in a stream of version 1.",
		section: "Header",
		advice: "Readers of version 1 ignore it.",
	}),
	trailing: rule(13, {
		doc: "END is the final record.",
		section: "END",
		advice: "Nobody reads what follows. Was a longer file written over?",
	}),
	endBody: rule(14, { doc: "END has no body.", section: "END", advice: WRITER }),
	fields: rule(15, {
		doc: "A body has room for the record's fields.",
		section: "Records",
		effects: both("dies"),
		advice: WRITER,
	}),
	within: rule(16, {
		doc: "The lengths and counts of a body stay within it.",
		section: "Records",
		effects: both("dies"),
		advice: `${WRITER} A daemon reads on in the next record, and dies where that leads out of the stream.`,
	}),
	surplus: rule(17, {
		doc: "Nothing follows the last field of a body but padding.",
		section: "Records",
		advice: "Nobody reads it. Is the stream of another dialect (--dialect)?",
	}),
	aligned: rule(18, {
		doc: "Records begin at multiples of 8.",
		section: "Records",
		advice: "Both daemons read it all the same, since they take the length as it is.",
	}),
	limits: rule(19, {
		doc: "A stream has at most 4,194,304 nodes, watches, connections and transactions, and 512 MiB of their names.",
		severity: "version",
		effects: both("dies"),
		advice: "No store comes near. Is the stream hostile?",
	}),
	global: rule(20, {
		doc: "There is a GLOBAL_DATA record.",
		effects: both("dies"),
		advice: "A stream without it is a domain's, for migration: no daemon starts from it.",
	}),
	globalFirst: rule(21, {
		doc: "GLOBAL_DATA precedes connections.",
		effects: only417("fine", "dies"),
		advice: ORDER,
	}),
	globalOnce: rule(22, {
		doc: "GLOBAL_DATA is there once.",
		effects: both("fine"),
		severity: "reader",
		advice: "Leave out all but one. Where they differ, the last one counts, and the first one's socket is lost.",
	}),
	dom0: rule(23, {
		doc: "The shared ring of domain 0 precedes all nodes.",
		effects: both("dies"),
		advice: ORDER,
	}),
	listening: rule(24, {
		doc: "rw-socket-fd is a descriptor of 3 or more.",
		effects: both("mangles"),
		advice: "A daemon in a domain of its own has no sockets; on any other host nobody reaches the daemon.",
	}),
	descriptors: rule(25, {
		doc: "The socket and the event channel device are descriptors that the daemon has: named with --fds, or such as it opens first.",
		effects: both("dies"),
		advice: "The daemon polls its listening socket at once. --fds says which descriptors it will find open.",
	}),
	descriptorOnce: rule(26, {
		doc: "No descriptor is named twice.",
		effects: both("mangles"),
		advice: WRITER,
	}),
	connId: rule(27, { doc: "conn-id is not 0.", section: "CONNECTION_DATA", advice: MEND }),
	connOnce: rule(28, {
		doc: "A conn-id belongs to one connection.",
		section: "CONNECTION_DATA",
		effects: both("mangles"),
		advice: "Watches behind it are given to one of the two.",
	}),
	connType: rule(29, {
		doc: "conn-type is 0, a shared ring, or 1, a socket.",
		section: "CONNECTION_DATA",
		advice: "The daemons take it for a ring.",
	}),
	ringOnce: rule(30, {
		doc: "A domain has one shared ring.",
		effects: both("mangles"),
		advice: "One of the two is lost, with its watches.",
	}),
	ringDomain: rule(31, {
		doc: "A ring's domid, and tdomid unless it is DOMID_INVALID, are below 0x7ff0.",
		section: "CONNECTION_DATA",
		advice: MEND,
	}),
	requests: rule(32, {
		doc: "The requests in in-data have at most 4,096 octets.",
		effects: both("mangles"),
		advice: "A daemon closes the connection of a client that sends more, and dies of 256 MiB.",
	}),
	responses: rule(33, {
		doc: "out-data is a partial response of out-resp-len octets, then whole messages.",
		section: "CONNECTION_DATA",
		advice: "4.17 reads a message's length there, and dies where that leads out of the stream.",
	}),
	watcher: rule(34, {
		doc: "A watch follows its connection.",
		section: "WATCH_DATA",
		effects: both("dies"),
		advice: ORDER,
	}),
	watchPath: rule(35, {
		doc: "A watch is on a legal path, absolute or relative, or on a name that begins with @.",
		effects: both("mangles"),
		advice: "It never fires: leave it out.",
	}),
	ended: rule(36, {
		doc: "Paths and tokens end in NUL.",
		section: "WATCH_DATA, NODE_DATA",
		effects: both("dies"),
		advice: "A daemon reads on into what follows.",
	}),
	watchOnce: rule(37, {
		doc: "A connection watches a path with a token once.",
		effects: both("mangles"),
		advice: "The client gets each event twice.",
	}),
	extended: rule(38, {
		doc: "There is no WATCH_DATA_EXTENDED: 4.17 passes over it, the daemon of 2026 does not read the document's layout.",
		effects: only417("mangles", "dies"),
		advice: "xlu convert --for DAEMON makes WATCH_DATA of it, without its depth.",
	}),
	extendedVersion: rule(39, {
		doc: "WATCH_DATA_EXTENDED stands in streams of version 2 alone.",
		section: "WATCH_DATA_EXTENDED",
		advice: "xlu convert --to xenstore-v2, or xenstore-v1, which makes WATCH_DATA of it.",
	}),
	transactionConn: rule(40, {
		doc: "A transaction follows its connection.",
		section: "TRANSACTION_DATA",
		advice: MEND,
	}),
	transactions: rule(41, {
		doc: "There is no open transaction: the daemons ignore it.",
		effects: both("mangles"),
		advice: "The client's next request in it fails, and it starts again. xlu convert --for DAEMON leaves it out.",
	}),
	pendingTransaction: rule(42, {
		doc: "A pending node follows its transaction.",
		section: "NODE_DATA",
		advice: MEND,
	}),
	pending: rule(43, {
		doc: "There is no pending node: the daemons read it as committed.",
		effects: both("mangles"),
		advice: `What nobody committed becomes visible to all. ${LOST}`,
	}),
	parent: rule(44, {
		doc: "A node follows its parent.",
		section: "NODE_DATA",
		effects: both("dies"),
		advice: ORDER,
	}),
	once: rule(45, {
		doc: "A node is there once.",
		section: "NODE_DATA",
		effects: both("mangles"),
		advice: "The daemons list it twice among its parent's children.",
	}),
	rootFirst: rule(46, {
		doc: "The root, where it is there, precedes its children.",
		effects: both("mangles"),
		advice: `The daemons lose the nodes before it. ${ORDER}`,
	}),
	owner: rule(47, {
		doc: "A node follows the shared ring of the domain that owns it.",
		effects: both("dies"),
		advice: `${ORDER} A domain without a ring owns nothing.`,
	}),
	perms: rule(48, {
		doc: "A committed node has a permission, its owner's.",
		section: "NODE_DATA",
		effects: both("dies"),
		advice: MEND,
	}),
	permLetter: rule(49, {
		doc: "A permission is n, r, w or b.",
		section: "NODE_DATA",
		effects: both("mangles"),
		advice: "The daemons take any other letter for n.",
	}),
	permFlags: rule(50, {
		doc: "A permission's flags are 0 or 1 (stale).",
		section: "NODE_DATA",
		advice: MEND,
	}),
	absolute: rule(51, {
		doc: "A node's path begins with /, or is @releaseDomain or @introduceDomain.",
		section: "NODE_DATA",
		effects: both("dies"),
		advice: MEND,
	}),
	path: rule(52, {
		doc: "A path is of letters, digits and -/_@, without an empty name in it, at most 2,048 octets.",
		effects: both("mangles"),
		advice: "Nobody can ask for such a node. Leave it out.",
	}),
	fits: rule(53, {
		doc: "A node's value, and its permissions as text, have at most 4,096 octets.",
		effects: both("mangles"),
		advice: "No reply holds more: nobody can read it.",
	}),
	access: rule(54, {
		doc: "A pending node's access is 1, 2 or 3; 0 with a value of 0 octets and no permission where it is deleted.",
		section: "NODE_DATA",
		advice: MEND,
	}),
	quotas: rule(55, {
		doc: "There is neither GLOBAL_QUOTA_DATA nor DOMAIN_DATA, which 4.17 passes over.",
		effects: only417("mangles", "fine"),
		advice: `Quotas are then those of the daemon's command line. ${LOST}`,
	}),
	quotasOnce: rule(56, {
		doc: "GLOBAL_QUOTA_DATA is there once, DOMAIN_DATA once for each domain.",
		section: "DOMAIN_DATA",
		advice: MEND,
	}),
	quotaNames: rule(57, {
		doc: "Each quota has a name of its own.",
		section: "GLOBAL_QUOTA_DATA, DOMAIN_DATA",
		effects: only417("fine", "mangles"),
		advice: MEND,
	}),
	dialect: rule(58, {
		doc: "The stream is in its final form, not in that of a draft.",
		effects: both("dies"),
		advice: "xlu convert --dialect draft-2020-04 --for DAEMON.",
	}),
} as const;

export const xenstoreRuleList: readonly XenstoreRule[] = Object.values(xenstoreRules);
