/** xenstore streams: real daemons' dumps read, written again, converted; what is written is in the order that a daemon needs. */
import { describe, expect, test } from "vitest";
import { readJson, writeJson } from "../../../src/formats/common/json.ts";
import { StreamReader } from "../../../src/formats/common/reader.ts";
import { MemorySink } from "../../../src/formats/common/sink.ts";
import { sourceOf } from "../../../src/formats/common/source.ts";
import { recognise } from "../../../src/formats/index.ts";
import { convertXenstore } from "../../../src/formats/xenstore/convert.ts";
import { xenstoreFormat } from "../../../src/formats/xenstore/index.ts";
import { XENSTORE_RECORD as R } from "../../../src/formats/xenstore/layout.ts";
import { readXenstore } from "../../../src/formats/xenstore/model.ts";
import { treeLines } from "../../../src/formats/xenstore/tree.ts";
import { writeXenstore, type XenstoreWriteOptions } from "../../../src/formats/xenstore/write.ts";
import { octetsOf } from "../../../src/inspect/open.ts";
import {
	dumps,
	end,
	fixture,
	global,
	node,
	nodesOf,
	reading,
	ring,
	socket,
	stream,
	transaction,
	watch,
} from "../../support/xenstore.ts";

const readerOf = (octets: Uint8Array) => new StreamReader(sourceOf(octets));

async function written(octets: Uint8Array, options: XenstoreWriteOptions) {
	const { octets: parts, dropped } = writeXenstore(await readXenstore(octets), options);
	return { octets: Buffer.concat([...parts]), dropped: dropped.map(({ what }) => what) };
}

async function converted(octets: Uint8Array, form: string | undefined, options = {}) {
	const sink = new MemorySink();
	const { dropped } = await convertXenstore(readerOf(octets), sink, form, options);
	return { octets: Buffer.from(sink.octets()), dropped };
}

async function jsonOf(octets: Uint8Array): Promise<Buffer> {
	const sink = new MemorySink();
	const { items } = await reading(octets);
	await writeJson(xenstoreFormat, asyncOf(items), sink);
	return Buffer.from(sink.octets());
}

async function* asyncOf<T>(list: Iterable<T>) {
	yield* list;
}

async function fromJson(json: Uint8Array): Promise<Buffer> {
	const parts: Uint8Array[] = [];
	for await (const item of readJson(readerOf(json))) parts.push(octetsOf(item));
	return Buffer.concat(parts);
}

describe.each(dumps)("%s", (name) => {
	const octets = fixture(name);

	test("is recognised, and breaks no rule", async () => {
		expect(await recognise(readerOf(octets))).toBe(xenstoreFormat);
		const { findings, error } = await reading(octets);
		expect([findings, error]).toEqual([[], undefined]);
	});

	test("items put end to end are the dump, in chunks of any size", async () => {
		for (const chunkBytes of [1, 7, 4096]) {
			const { items } = await reading(octets, { chunkBytes });
			expect(Buffer.concat(items.map((item) => item.octets as Uint8Array)).equals(octets)).toBe(true);
			let offset = 0;
			for (const item of items) {
				expect(item.offset).toBe(offset);
				offset += item.octets?.length ?? 0;
			}
		}
	});

	test("every record is made of its fields again", async () => {
		for (const item of (await reading(octets)).items) {
			expect(Buffer.from(xenstoreFormat.encode(item)).equals(item.octets as Uint8Array)).toBe(true);
		}
	});

	test("through JSON and back it is the dump", async () => {
		const json = await jsonOf(octets);
		expect(json.includes('"octets"')).toBe(false);
		expect((await fromJson(json)).equals(octets)).toBe(true);
	});

	test("the model has the nodes that the daemon answered, in their order", async () => {
		const { nodes } = await readXenstore(octets);
		const rows = [...nodes].map(([path, { value, perms }]) => ({
			path,
			value: Buffer.from(value).toString("hex"),
			perms,
		}));
		expect(rows.filter(({ path }) => path.startsWith("/"))).toEqual(nodesOf(name));
	});

	test("big-endian and back it is the dump", async () => {
		const big = (await converted(octets, "big")).octets;
		expect(big.readUInt32BE(12)).toBe(1);
		expect(big.readUInt32BE(16)).toBe(R.GLOBAL_DATA);
		expect((await readXenstore(big)).nodes).toEqual((await readXenstore(octets)).nodes);
		expect((await converted(big, "little")).octets.equals(octets)).toBe(true);
	});

	test("the document's form holds the document's letter, and comes back", async () => {
		const documented = (await converted(octets, undefined, { use: { kind: "documented" } })).octets;
		const { findings } = await reading(documented, { strict: true });
		expect(findings.map(({ rule, isError }) => [rule.code, isError])).toEqual(
			findings.length > 0 ? expect.arrayContaining([["XLU-S009", false]]) : [],
		);
		expect(findings.filter(({ isError }) => isError)).toEqual([]);
		expect((await readXenstore(documented)).nodes).toEqual((await readXenstore(octets)).nodes);
	});

	test.each(["xenstored-4.17", "xenstored-2026"] as const)(
		"made for %s it breaks none of its rules",
		async (daemon) => {
			const { octets: made } = await converted(octets, undefined, { daemon });
			expect((await reading(made, { daemon })).findings).toEqual([]);
			expect(made.readUInt32BE(8)).toBe(daemon === "xenstored-4.17" ? 1 : 2);
			if (daemon === "xenstored-4.17" && name !== "v2/plain.dump") expect(made.equals(octets)).toBe(true);
		},
	);
});

describe("writing for a daemon", () => {
	const mixed = stream([
		global(),
		socket(7, 5),
		ring(3, 5),
		watch(7, "/a", "t"),
		ring(1, 0),
		transaction(7, 1),
		node("/b/c", "", { perms: ["n5"] }),
		node("/b/d"),
		node("/a"),
		node("/b"),
		node("/"),
		node("/p", "x", { connId: 7, txId: 1, access: 2 }),
		end,
	]);

	test("domain 0 first, watches behind their connection, parents before children, siblings in their order", async () => {
		const made = await written(mixed, { use: { kind: "live-update", daemon: "xenstored-4.17" } });
		const { items } = await reading(made.octets);
		const told = items.map(({ name, fields }) =>
			`${name} ${fields.path ?? fields.domid ?? fields.socketFd ?? ""}`.trim(),
		);
		expect(told).toEqual([
			"header",
			"GLOBAL_DATA",
			"CONNECTION_DATA 0",
			"CONNECTION_DATA 5",
			"WATCH_DATA",
			"CONNECTION_DATA 5",
			"NODE_DATA /",
			"NODE_DATA /a",
			"NODE_DATA /b",
			"NODE_DATA /b/c",
			"NODE_DATA /b/d",
			"END",
		]);
		expect(made.dropped).toEqual(["transaction (1 of connection 7)", "pending node (/p)"]);
		expect((await reading(made.octets, { daemon: "xenstored-4.17" })).findings).toEqual([]);
	});

	test("what cannot be mended is refused with its rule", async () => {
		const orphan = stream([global(), ring(1, 0), node("/x/y"), end]);
		await expect(converted(orphan, undefined, { daemon: "xenstored-4.17" })).rejects.toMatchObject({
			code: "XLU_E_REFUSED",
			rule: "XLU-S044",
		});
		await expect(converted(mixed, "xenstore-v2", { daemon: "xenstored-4.17" })).rejects.toMatchObject({
			code: "XLU_E_USAGE",
		});
		await expect(converted(mixed, "big", { daemon: "xenstored-4.17" })).rejects.toMatchObject({ code: "XLU_E_USAGE" });
	});

	test("migration takes one domain's ring, watches, transactions and nodes", async () => {
		const moved = await readXenstore(
			(await converted(fixture("busy.dump"), undefined, { use: { kind: "migration", domid: 5 } })).octets,
		);
		expect(moved.global).toBeUndefined();
		expect(moved.connections.map(({ domid }) => domid)).toEqual([5]);
		expect(moved.watches.map(({ token }) => token)).toEqual(["guest relative", "guest absolute", "guest rel"]);
		const paths = [...moved.nodes.keys()];
		expect(paths).toContain("/local/domain/5/device/vif/0/state");
		expect(paths).toContain("/local/domain/0/backend/vif/5/0/state");
		expect(paths.filter((path) => path.startsWith("/test") || path.startsWith("/local/domain/6"))).toEqual([]);
		await expect(converted(mixed, undefined, { use: { kind: "migration", domid: 9 } })).rejects.toMatchObject({
			code: "XLU_E_USAGE",
			expected: "one of the domains 5, 0",
		});
	});
});

describe("versions", () => {
	const limited: [number, object] = [R.WATCH_DATA_EXTENDED, { connId: 1, wpath: "/a", token: "t", depth: 1 }];
	const second = stream(
		[
			global(),
			ring(1, 0, { uniqueId: "18446744073709551615" }),
			limited,
			node("/"),
			[R.DOMAIN_DATA, { domid: 5, features: 14, quotas: [{ name: "nodes", value: 7 }] }],
			end,
		],
		{ version: 2 },
	);

	test("2 to 1 says what it drops", async () => {
		const { octets, dropped } = await converted(second, "xenstore-v1");
		expect(dropped.map(({ what }) => what)).toEqual([
			"unique id of a connection",
			"depth of a watch, which now counts at any depth",
			"features of a domain",
		]);
		const { items, findings } = await reading(octets);
		expect(octets.readUInt32BE(8)).toBe(1);
		expect(items.map(({ name }) => name)).toEqual([
			"header",
			"GLOBAL_DATA",
			"CONNECTION_DATA",
			"WATCH_DATA",
			"NODE_DATA",
			"DOMAIN_DATA",
			"END",
		]);
		expect(items[2]?.fields.uniqueId).toBeUndefined();
		expect(items[5]?.fields).toMatchObject({ features: 0, quotas: [{ name: "nodes", value: 7 }] });
		expect(findings.map(({ rule }) => rule.code)).toEqual(["XLU-S055"]);
	});

	test("1 to 2 drops nothing", async () => {
		const { octets, dropped } = await converted(fixture("plain.dump"), "xenstore-v2");
		expect(dropped).toEqual([]);
		expect(octets.subarray(16).equals(fixture("plain.dump").subarray(16))).toBe(true);
		expect((await reading(octets, { daemon: "xenstored-2026" })).findings).toEqual([]);
	});
});

describe("the draft of April 2020", () => {
	const draft = { dialect: "draft-2020-04" };
	const parts = stream([
		[R.GLOBAL_DATA, { ...draft, rwSocketFd: 3, roSocketFd: 4 }],
		[
			R.CONNECTION_DATA,
			{
				...draft,
				connId: 1,
				connTypeAt: 8,
				connType: 0,
				domid: 0,
				tdomid: 0x7ff4,
				flags: 0,
				revtchn: 1,
				levtchn: 9,
				mfn: 18,
			},
		],
		[
			R.CONNECTION_DATA,
			{
				...draft,
				connId: 2,
				connTypeAt: 4,
				connType: 0,
				domid: 5,
				tdomid: 0x7ff4,
				flags: 1,
				revtchn: 1,
				levtchn: 21,
				mfn: 19,
				outData: "",
			},
		],
		[R.NODE_DATA, { ...draft, path: "/", value: "", perms: ["n0"] }],
		[R.NODE_DATA, { ...draft, path: "/a", value: "31", perms: ["n5", "r0"] }],
		end,
	]);

	test("is read where it is named, and comes back octet for octet", async () => {
		const { items, findings } = await reading(parts, { dialect: "draft-2020-04" });
		expect(findings).toEqual([]);
		for (const item of items)
			expect(Buffer.from(xenstoreFormat.encode(item)).equals(item.octets as Uint8Array)).toBe(true);
		const model = await readXenstore(parts, { dialect: "draft-2020-04" });
		expect([...model.nodes.keys()]).toEqual(["/", "/a"]);
		expect(model.connections.map(({ domid, evtchn }) => [domid, evtchn])).toEqual([
			[0, 9],
			[5, 21],
		]);
	});

	test("becomes a stream that 4.17 starts from", async () => {
		const { octets, dropped } = await converted(parts, undefined, {
			dialect: "draft-2020-04",
			daemon: "xenstored-4.17",
		});
		expect((await reading(octets, { daemon: "xenstored-4.17" })).findings).toEqual([]);
		expect(dropped.map(({ what }) => what)).toEqual(
			["roSocketFd", "mfn", "revtchn", "flags"].map((name) => `${name} of draft-2020-04`),
		);
	});

	test("is not taken for the final form, nor the other way round", async () => {
		expect((await reading(parts)).findings.length).toBeGreaterThan(0);
		expect((await reading(fixture("plain.dump"), { dialect: "draft-2020-04" })).findings.length).toBeGreaterThan(0);
	});
});

test("the tree has nodes below their parents, and what else there is below it", async () => {
	const lines = [...treeLines(await readXenstore(fixture("busy.dump")))];
	expect(lines[0]).toBe('/ = ""   (n0)');
	expect(lines).toContain('    stale = "y"   (n0,r8*,w0)');
	expect(lines).toContain('@releaseDomain = ""   (n0,r5)');
	expect(lines).toContain("connection of domain 6: port 22, on behalf of domain 5, 37 octets read");
	expect(lines).toContain("watch of domain 5: device/vif/0/state token guest relative");
});

describe("size", () => {
	async function* many(count: number, pathOf: (i: number) => string) {
		yield stream([global(), ring(1, 0), node("/")]);
		for (let i = 0; i < count; i++) yield stream([node(pathOf(i), "1")]).subarray(16);
		yield stream([end]).subarray(16);
	}
	async function check(count: number, pathOf: (i: number) => string) {
		const parts = many(count, pathOf);
		const source = {
			name: "many",
			size: undefined,
			read: async () => (await parts.next()).value as Uint8Array | undefined,
			close: async () => {},
		};
		let nodes = 0;
		const { findings } = await (async () => {
			const { Findings } = await import("../../../src/formats/common/findings.ts");
			const found = new Findings();
			for await (const item of xenstoreFormat.read(new StreamReader(source), { findings: found, pages: "summary" })) {
				if (item.type === R.NODE_DATA) nodes++;
			}
			return { findings: found };
		})();
		return { nodes, findings };
	}

	test("100,000 nodes beside each other", async () => {
		const { nodes, findings } = await check(100_000, (i) => `/n${i}`);
		expect([nodes, findings.list]).toEqual([100_001, []]);
	});

	test("a path of 1,000 levels, and 100,000 times the same node", async () => {
		let path = "";
		const deep = await check(1000, () => (path += "/a"));
		expect([deep.nodes, deep.findings.list]).toEqual([1001, []]);
		const same = await check(100_000, () => "/a");
		expect(same.findings.list.length + same.findings.dropped).toBe(99_999);
	});
});
