/** Every rule of xenstore streams is broken alone, and named. */
import { describe, expect, test } from "vitest";
import { Findings } from "../../../src/formats/common/findings.ts";
import { XenstoreChecks } from "../../../src/formats/xenstore/check.ts";
import type { Daemon, Dialect } from "../../../src/formats/xenstore/daemons.ts";
import { XENSTORE_RECORD as R } from "../../../src/formats/xenstore/layout.ts";
import { xenstoreRuleList } from "../../../src/formats/xenstore/rules.ts";
import {
	end,
	global,
	node,
	type Part,
	reading,
	ring,
	type StreamSpec,
	socket,
	stream,
	transaction,
	watch,
} from "../../support/xenstore.ts";

interface RuleCase {
	/** Without XLU-S. */
	code: number;
	what: string;
	octets: Uint8Array;
	as: "error" | "warning";
	strict?: boolean;
	daemon?: Daemon;
	dialect?: Dialect;
	/** What else is told, where the rule cannot be broken without: as warnings, of a strict reading. */
	besides?: number[];
}

const start = [global(), ring(1, 0)];
const nodes = [node("/"), node("/a", "1")];
const base = [...start, ...nodes];
const made = (parts: readonly Part[], spec?: StreamSpec) => stream([...parts, end], spec);
const request = (bytes: number) =>
	`020000000100000000000000${Buffer.from(Uint32Array.of(bytes).buffer).toString("hex")}`;
/** Records that have no padding at all, for what --strict alone tells. */
const exact = [...start, node("/", "12"), node("/abc", "123456789012345")];
const pending = (more: object) => node("/abc", "123456789012345", { connId: 2, txId: 7, access: 2, ...more });
const quotas = (name: string): Part => [
	R.GLOBAL_QUOTA_DATA,
	{
		domQuotas: [
			{ name: "nodes", value: 1 },
			{ name, value: 2 },
		],
	},
];
const unpadded = (type: number, body: Buffer) => {
	const head = Buffer.alloc(8);
	head.writeUInt32LE(type, 0);
	head.writeUInt32LE(body.length, 4);
	return Buffer.concat([head, body]);
};
/** path /a and this value, without padding. */
const bare = (value: string) =>
	Buffer.concat([
		Buffer.from("0000000000000000", "hex"),
		Buffer.from(Uint16Array.of(3, value.length, 0, 1).buffer),
		Buffer.from("6e0000002f6100", "hex"),
		Buffer.from(value),
	]);

const cases: RuleCase[] = [
	{ code: 1, what: "no END", octets: stream(base), as: "error" },
	{ code: 1, what: "cut in a record", octets: made(base).subarray(0, 100), as: "error" },
	{ code: 1, what: "cut in a record's header", octets: made(base).subarray(0, 36), as: "error" },
	{ code: 1, what: "cut in the header", octets: made(base).subarray(0, 11), as: "error" },
	{
		code: 1,
		what: "no END, for the daemon that takes it for the whole",
		octets: stream(base),
		as: "warning",
		daemon: "xenstored-4.17",
	},
	{
		code: 1,
		what: "a last record that reaches far beyond the end, for the daemon that would read there",
		octets: stream([...base, unpadded(R.CONNECTION_DATA, Buffer.alloc(2 ** 20))]).subarray(0, stream(base).length + 40),
		as: "error",
		daemon: "xenstored-4.17",
	},
	{
		code: 2,
		what: "another ident",
		octets: Buffer.concat([Buffer.from("xenstorf"), made(base).subarray(8)]),
		as: "error",
	},
	{ code: 3, what: "version 3", octets: made(base, { version: 3 }), as: "error" },
	{ code: 4, what: "version 2 for 4.17", octets: made(base, { version: 2 }), as: "error", daemon: "xenstored-4.17" },
	{ code: 5, what: "flags 2", octets: made(base, { flags: 2 }), as: "error" },
	{ code: 6, what: "big-endian", octets: made(base, { isLittle: false }), as: "error" },
	{
		code: 7,
		what: "a length of 4 GiB",
		octets: stream([...base, Buffer.from("05000000ffffffff", "hex")]),
		as: "error",
	},
	{ code: 8, what: "type 9", octets: made([...base, [9, { body: "0011223344556677" }]]), as: "warning" },
	{
		code: 9,
		what: "padding behind the length",
		octets: made([
			...base,
			[R.NODE_DATA, { perms: ["n0"], path: "/b", value: "", rest: "", padding: "00" }],
			node("/c"),
		]),
		as: "error",
	},
	{ code: 10, what: "padding in the length", octets: made(base), as: "error", strict: true },
	{
		code: 11,
		what: "padding that is not zero",
		octets: made([...exact, socket(2, 5, { pad: 1 })]),
		as: "error",
		strict: true,
	},
	{
		code: 12,
		what: "a unique id in version 1",
		octets: made([global(), ring(1, 0, { uniqueId: 5 }), ...nodes]),
		as: "warning",
	},
	{ code: 13, what: "octets behind END", octets: Buffer.concat([made(base), Buffer.alloc(24)]), as: "warning" },
	{
		code: 14,
		what: "END with a body",
		octets: stream([...base, Buffer.from("00000000080000000000000000000000", "hex")]),
		as: "warning",
	},
	{
		code: 15,
		what: "a node of 8 octets",
		octets: made([...base, [R.NODE_DATA, { body: "0000000000000000" }]]),
		as: "error",
	},
	{
		code: 16,
		what: "a value into the next record",
		octets: made([...base, node("/b", "1", { valueLen: 20 }), node("/c")]),
		as: "warning",
	},
	{
		code: 16,
		what: "a value out of the stream",
		octets: made([...base, node("/b", "1", { valueLen: 2000 })]),
		as: "error",
	},
	{
		code: 17,
		what: "16 octets behind the value",
		octets: made([...base, node("/b", "1", { rest: "00".repeat(16) })]),
		as: "warning",
	},
	{
		code: 18,
		what: "no padding",
		octets: made([...base, unpadded(R.NODE_DATA, bare("12"))].filter((part) => part !== nodes[1])),
		as: "warning",
	},
	{ code: 20, what: "no GLOBAL_DATA", octets: made([ring(1, 0), ...nodes]), as: "error" },
	{
		code: 20,
		what: "a domain's stream",
		octets: made([ring(1, 5), node("/local/domain/5", "", { perms: ["n5"] })]),
		as: "warning",
	},
	{ code: 21, what: "GLOBAL_DATA behind a connection", octets: made([ring(1, 0), global(), ...nodes]), as: "warning" },
	{ code: 22, what: "GLOBAL_DATA twice", octets: made([...start, global(), ...nodes]), as: "warning" },
	{ code: 23, what: "no ring of domain 0", octets: made([global(), ...nodes]), as: "error" },
	{ code: 23, what: "domain 0 behind nodes", octets: made([global(), ...nodes, ring(1, 0)]), as: "error" },
	{ code: 24, what: "no listening socket", octets: made([global(-1), ring(1, 0), ...nodes]), as: "warning" },
	{ code: 25, what: "a socket that no daemon opens", octets: made([global(77), ring(1, 0), ...nodes]), as: "error" },
	{ code: 25, what: "evtchn-fd 0", octets: made([global(3, 0), ring(1, 0), ...nodes]), as: "error" },
	{
		code: 26,
		what: "a descriptor twice",
		octets: made([...start, socket(2, 5), socket(3, 5), ...nodes]),
		as: "warning",
	},
	{
		code: 26,
		what: "a connection on the listening socket",
		octets: made([...start, socket(2, 3), ...nodes]),
		as: "error",
	},
	{ code: 27, what: "conn-id 0", octets: made([global(), ring(0, 0), ...nodes]), as: "warning" },
	{ code: 28, what: "a conn-id twice", octets: made([...start, socket(1, 5), ...nodes]), as: "warning" },
	{
		code: 29,
		what: "conn-type 7",
		octets: made([...start, [R.CONNECTION_DATA, { connId: 2, connType: 7, spec: "0500000000000000" }], ...nodes]),
		as: "warning",
	},
	{
		code: 30,
		what: "two rings of a domain",
		octets: made([...start, ring(2, 5), ring(3, 5), ...nodes]),
		as: "warning",
	},
	{ code: 31, what: "domid 0x7ff1", octets: made([...start, ring(2, 0x7ff1), ...nodes]), as: "warning" },
	{
		code: 32,
		what: "a request of 5,000 octets",
		octets: made([...start, socket(2, 5, { inData: request(5000) }), ...nodes]),
		as: "warning",
	},
	{
		code: 32,
		what: "a request of 256 MiB",
		octets: made([...start, socket(2, 5, { inData: request(1 << 28) }), ...nodes]),
		as: "error",
	},
	{
		code: 33,
		what: "part of a message",
		octets: made([...start, socket(2, 5, { outData: "3132333435" }), ...nodes]),
		as: "warning",
	},
	{
		code: 33,
		what: "a partial response longer than all",
		octets: made([...start, socket(2, 5, { outData: "31", outRespLen: 2 }), ...nodes]),
		as: "warning",
	},
	{
		code: 33,
		what: "a message out of the stream, for 4.17",
		octets: made([...start, socket(2, 5, { outData: request(9999) }), ...nodes]),
		as: "error",
		daemon: "xenstored-4.17",
	},
	{ code: 34, what: "a watch of nobody", octets: made([...start, watch(9, "/a", "t"), ...nodes]), as: "error" },
	{
		code: 35,
		what: "a watch on a path with a space",
		octets: made([...start, watch(1, "/a b", "t"), ...nodes]),
		as: "warning",
	},
	{
		code: 36,
		what: "a token without NUL",
		octets: made([...start, watch(1, "/a", "t", { tokenNul: false }), ...nodes]),
		as: "warning",
	},
	{ code: 36, what: "a path without NUL", octets: made([...base, node("/b", "1", { pathNul: false })]), as: "error" },
	{
		code: 37,
		what: "a watch twice",
		octets: made([...start, watch(1, "/a", "t"), watch(1, "/a", "t"), ...nodes]),
		as: "warning",
	},
	{
		code: 38,
		what: "an extended watch",
		octets: made([...start, [R.WATCH_DATA_EXTENDED, { connId: 1, wpath: "/a", token: "t", depth: 1 }], ...nodes], {
			version: 2,
		}),
		as: "error",
	},
	{
		code: 39,
		what: "an extended watch in version 1",
		octets: made([...exact, [R.WATCH_DATA_EXTENDED, { connId: 1, wpath: "/a", token: "t", depth: 1 }]]),
		as: "error",
		strict: true,
		besides: [38],
	},
	{
		code: 40,
		what: "a transaction of nobody",
		octets: made([...exact, transaction(9, 7)]),
		as: "error",
		strict: true,
		besides: [41],
	},
	{ code: 41, what: "an open transaction", octets: made([...start, transaction(1, 7), ...nodes]), as: "warning" },
	{
		code: 42,
		what: "a pending node of no transaction",
		octets: made([...exact, pending({})]),
		as: "error",
		strict: true,
		besides: [43],
	},
	{
		code: 43,
		what: "a pending node",
		octets: made([...start, transaction(1, 7), ...nodes, node("/b", "", { connId: 1, txId: 7, access: 2 })]),
		as: "warning",
		besides: [41],
	},
	{ code: 44, what: "an orphan", octets: made([...base, node("/x/y")]), as: "error" },
	{ code: 45, what: "a node twice", octets: made([...base, node("/a", "2")]), as: "warning" },
	{ code: 46, what: "the root behind a child", octets: made([...start, node("/a"), node("/")]), as: "warning" },
	{
		code: 47,
		what: "an owner without a ring",
		octets: made([...base, node("/b", "", { perms: ["n5"] })]),
		as: "error",
	},
	{
		code: 47,
		what: "an owner that others act for",
		octets: made([...start, ring(2, 5, { tdomid: 6 }), ...nodes, node("/b", "", { perms: ["n6"] })]),
		as: "warning",
	},
	{
		code: 48,
		what: "a node without permissions",
		octets: made([...base, node("/b", "1", { perms: [] })]),
		as: "error",
	},
	{ code: 49, what: "permission x", octets: made([...base, node("/b", "1", { perms: ["n0", "x5"] })]), as: "warning" },
	{
		code: 50,
		what: "permission flag 2",
		octets: made([...base, node("/b", "1", { perms: ["n0", "r5"], permFlags: [0, 2] })]),
		as: "warning",
	},
	{ code: 51, what: "a relative path", octets: made([...base, node("rel")]), as: "error" },
	{ code: 51, what: "an empty path", octets: made([...base, node("")]), as: "error" },
	{ code: 51, what: "another @ name", octets: made([...base, node("@foo")]), as: "warning" },
	{ code: 52, what: "a space in a path", octets: made([...base, node("/a b")]), as: "warning" },
	{ code: 52, what: "a NUL in a path", octets: made([...base, node("/b\0c")]), as: "warning" },
	{ code: 52, what: "2,049 octets of path", octets: made([...base, node(`/${"x".repeat(2048)}`)]), as: "warning" },
	{ code: 52, what: "a path that ends in /", octets: made([...base, node("/a/")]), as: "warning" },
	{ code: 53, what: "a value of 4,097 octets", octets: made([...base, node("/b", "v".repeat(4097))]), as: "warning" },
	{
		code: 53,
		what: "4,099 octets of permissions",
		octets: made([
			...base,
			node("/b", "", { perms: ["n00", ...Array(1365).fill("r1")].map((perm) => perm.slice(0, 2)) }),
		]),
		as: "warning",
	},
	{
		code: 54,
		what: "a pending node that nobody touched",
		octets: made([...exact, socket(2, 5), transaction(2, 7), pending({ access: 0 })]),
		as: "error",
		strict: true,
		besides: [41, 43],
	},
	{ code: 55, what: "quotas", octets: made([...start, quotas("watches"), ...nodes]), as: "warning" },
	{
		code: 56,
		what: "quotas twice",
		octets: made([...start, quotas("watches"), quotas("memory"), ...nodes], { version: 2 }),
		as: "warning",
	},
	{
		code: 57,
		what: "a quota's name twice",
		octets: made([...start, quotas("nodes"), ...nodes], { version: 2 }),
		as: "warning",
	},
	{
		code: 58,
		what: "a draft for a daemon",
		octets: made([...nodes.slice(2)], {}),
		as: "error",
		daemon: "xenstored-4.17",
		dialect: "draft-2020-04",
		besides: [20, 23],
	},
];

const codeOf = (code: number) => `XLU-S${String(code).padStart(3, "0")}`;

describe("the streams that the cases are made from break no rule", () => {
	test.each([made(base), made(base, { version: 2 })])("stream %#", async (octets) => {
		for (const daemon of [undefined, "xenstored-2026"] as const) {
			const { findings, error } = await reading(octets, daemon ? { daemon } : {});
			expect([findings, error]).toEqual([[], undefined]);
		}
	});

	test("without padding, strictly", async () => {
		expect((await reading(made(exact), { strict: true })).findings).toEqual([]);
	});
});

describe("rules", () => {
	test.each(cases.map((one) => [`${codeOf(one.code)}: ${one.what}`, one] as const))("%s", async (_name, one) => {
		const { octets, strict = false, daemon, dialect, as, code, besides = [] } = one;
		const how = { strict, ...(daemon ? { daemon } : {}), ...(dialect ? { dialect } : {}) };
		const { findings, error } = await reading(octets, how);
		const told = findings.map(({ rule, isError }) => `${rule.code} ${isError ? "error" : "warning"}`);
		const [main] = findings.filter(({ rule }) => rule.code === codeOf(code));
		expect(told).toContain(`${codeOf(code)} ${as}`);
		const others = findings.filter(({ rule }) => rule.code !== codeOf(code));
		expect(others.map(({ rule }) => rule.code).sort()).toEqual(besides.map(codeOf).sort());
		if (!dialect) expect(others.filter(({ isError }) => isError)).toEqual([]);
		expect(main).toMatchObject({ expected: expect.stringMatching(/./), got: expect.stringMatching(/./) });
		expect(main?.offset).toBeLessThanOrEqual(octets.length);
		if (error) expect(error).toMatchObject({ rule: codeOf(code), offset: main?.offset });
	});

	test("XLU-S019: more entries than are held", () => {
		const checks = new XenstoreChecks({ findings: new Findings() });
		checks.header(1, 0);
		const octets = new Uint8Array(24);
		const record = { type: R.TRANSACTION_DATA, name: "", offset: 16, fields: { connId: 1, txId: 1 }, octets };
		expect(() => {
			for (let i = 0; i < 5e6; i++) checks.record(record, octets);
		}).toThrow(expect.objectContaining({ rule: "XLU-S019", code: "XLU_E_VERSION" }));
	});

	test("every rule has a case", () => {
		const held = new Set([codeOf(19), ...cases.map(({ code }) => codeOf(code))]);
		expect(xenstoreRuleList.map(({ code }) => code).filter((code) => !held.has(code))).toEqual([]);
		expect(new Set(xenstoreRuleList.map(({ code }) => code)).size).toBe(xenstoreRuleList.length);
	});
});
