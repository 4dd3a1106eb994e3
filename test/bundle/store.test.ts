/** F5, the store: watches, transactions and areas of a domain from its host's daemon to the receiving one's. */
import { mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { extractDomain } from "../../src/bundle/extract.ts";
import { canWatch, endArrived, homeOf, pathsOfDomain, type Store } from "../../src/bundle/store.ts";
import { parseStoreDump, readStore, writeStore } from "../../src/bundle/storeStream.ts";
import { XluError } from "../../src/errors.ts";
import { XENSTORE_RECORD as R } from "../../src/formats/xenstore/layout.ts";
import { loadHost } from "../../src/host.ts";
import { receiveBundle } from "../../src/index.ts";
import { coreModule as module } from "../support/core.ts";
import { type CaptureName, captured, capturePath, captures, codes, core, onto, read } from "./helpers.ts";
import {
	dumpedHost,
	dumpOf,
	inFlight,
	node,
	ring,
	type StoreRecord,
	storeStream,
	transaction,
	watch,
	withoutDomain,
} from "./storeHost.ts";

const names = Object.keys(captures) as CaptureName[];
const bundleOf = (name: CaptureName): Uint8Array => extractDomain(core, dumpedHost(name), captures[name]).bundle;
const daemonOf = (store: Store | undefined) => store?.daemon as NonNullable<Store["daemon"]>;

describe.each(names)("the guest of the captured %s host, whose daemon's state was dumped", (name) => {
	const domid = captures[name];

	it("has its watches, its transactions and what is in flight in its bundle, and nobody else's", async () => {
		const { bundle, checked, findings } = await read(bundleOf(name));
		expect(findings.list).toEqual([]);
		const { store, problems, hostOnly } = readStore(bundle?.xenstore?.octets as Uint8Array);
		expect([...problems, ...hostOnly]).toEqual([]);
		expect(store).toEqual(checked?.store);
		expect(daemonOf(store)).toEqual({
			connections: [
				{
					domid,
					inData: new Uint8Array(Buffer.from(inFlight.inData, "hex")),
					outData: new Uint8Array(Buffer.from(inFlight.outData, "hex")),
					outRespLength: inFlight.outRespLen,
				},
			],
			watches: [
				{ domid, path: "device", token: "relative" },
				{ domid, path: `/local/domain/0/backend/vbd/${domid}/51712/state`, token: "FFFF888003f0a000" },
				{ domid, path: "@releaseDomain", token: "special", depth: 1 },
			],
			transactions: [
				{ domid, txId: 12 },
				{ domid, txId: 4_000_000_000 },
			],
			domains: [{ domid, features: 3, quotas: [{ name: "nodes", value: 4000 }] }],
		});
	});

	it("has the nodes that are committed, with stale permissions as such", async () => {
		const { checked } = await read(bundleOf(name));
		const nodes = checked?.store?.nodes as Store["nodes"];
		const listed = captured(name).store as Store;
		const paths = pathsOfDomain(listed.nodes, domid);
		expect(new Set(nodes.keys())).toEqual(paths);
		for (const path of paths) {
			expect(nodes.get(path)?.value, path).toEqual(listed.nodes.get(path)?.value);
			expect(nodes.get(path)?.perms, path).toEqual(listed.nodes.get(path)?.perms);
		}
		const home = homeOf(domid);
		expect(nodes.get(`${home}/device/vbd/51712`)?.permFlags).toEqual([0, 1]);
		expect(nodes.has(`${home}/data/new`)).toBe(false);
	});

	it("finds all of it where it is received, and every transaction that was open ends with EAGAIN", async () => {
		const target = withoutDomain(dumpedHost(name), domid);
		const bundle = bundleOf(name);
		const findings = await onto(bundle, target);
		expect(findings.errors).toEqual([]);
		const ended = findings.list.filter(({ rule }) => rule.code === "XLU-B050");
		expect(ended.map(({ field }) => field)).toEqual(["transaction 12", "transaction 4000000000"]);

		let { store } = await receiveBundle(bundle, target, { module });
		const { checked } = await read(bundle);
		const own = checked?.store as Store;
		for (const [path, found] of own.nodes) expect(store?.nodes.get(path), path).toEqual(found);
		for (const [path, found] of target.store?.nodes ?? []) expect(store?.nodes.get(path), path).toEqual(found);
		expect(daemonOf(store).watches).toEqual([...daemonOf(target.store).watches, ...daemonOf(own).watches]);
		expect(daemonOf(store).connections).toEqual([...daemonOf(target.store).connections, ...daemonOf(own).connections]);
		expect(daemonOf(store).domains).toContainEqual(daemonOf(own).domains[0]);

		const before = store?.nodes;
		const end = (txId: number, isCommitted: boolean): string => {
			const result = endArrived(store as Store, domid, txId, isCommitted);
			({ store } = result);
			return result.answer;
		};
		expect(end(12, true)).toBe("EAGAIN");
		// It is gone.
		expect(end(12, true)).toBe("ENOENT");
		expect(end(4_000_000_000, false)).toBe("OK");
		// dom0's is the target's own, and nobody's of the guest.
		expect(end(11, true)).toBe("ENOENT");
		expect(store?.nodes).toBe(before);
		expect(daemonOf(store).transactions).toEqual([{ domid: 0, txId: 11 }]);
	});

	it("moves on with the same: extracted there again it is the same stream but for the daemon's port", async () => {
		const first = (await read(bundleOf(name))).bundle?.xenstore?.octets as Uint8Array;
		const target = withoutDomain(dumpedHost(name), domid);
		const host = await receiveBundle(bundleOf(name), target, { module });
		const again = extractDomain(core, host, domid).bundle;
		const second = (await read(again)).bundle?.xenstore?.octets as Uint8Array;
		// The port stands in the first record's conn-spec.
		const isPort = (at: number): boolean => at >= 36 && at < 40;
		expect(second.map((octet, at) => (isPort(at) ? 0 : octet))).toEqual(
			first.map((octet, at) => (isPort(at) ? 0 : octet)),
		);
	});
});

describe("a capture's dump", () => {
	const withDump = <T>(dump: Uint8Array, run: (path: string) => T): T => {
		const directory = mkdtempSync(join(tmpdir(), "xlu-store-"));
		try {
			const from = capturePath("pvh");
			for (const file of readdirSync(from)) symlinkSync(join(from, file), join(directory, file));
			writeFileSync(join(directory, "xenstore.dump"), dump);
			return run(directory);
		} finally {
			rmSync(directory, { recursive: true });
		}
	};

	it("is read instead of the listing", () => {
		const store = withDump(dumpOf("pvh"), (path) => loadHost(path).store);
		expect(store).toEqual(dumpedHost("pvh").store);
		expect(daemonOf(store).transactions).toHaveLength(3);
	});

	it("is refused as a whole where a record cannot be relied on", () => {
		const failed = (): unknown =>
			withDump(storeStream([transaction(9, 1)]), (path) => {
				try {
					return loadHost(path).store;
				} catch (error) {
					return error;
				}
			});
		expect(failed()).toMatchObject({
			code: "XLU_E_CAPTURE",
			record: "xenstore.dump",
			offset: 16,
			expected: "a connection that came before",
			got: "connection 9",
		});
	});
});

describe("a store's stream", () => {
	const home = node("/local/domain/5", "", ["n0"]);

	it.each<[string, StoreRecord[], string, string]>([
		["a watch of nobody", [watch(3, "device", "t")], "a connection that came before", "connection 3"],
		["a connection twice", [ring(1, 5), ring(1, 6)], "each connection once, from 1 on", "connection 1"],
		["a domain with two rings", [ring(1, 5), ring(2, 5)], "one shared ring of a domain", "another one of domain 5"],
		["transaction 0", [ring(1, 5), transaction(1, 0)], "each transaction once, from 1 on", "transaction 0"],
		[
			"a transaction twice",
			[ring(1, 5), transaction(1, 2), transaction(1, 2)],
			"each transaction once, from 1 on",
			"transaction 2",
		],
		[
			"a change of no transaction",
			[ring(1, 5), node("/a", "", ["n5"], { connId: 1, txId: 2 })],
			"a transaction that came before",
			"2 of connection 1",
		],
		["a node twice", [home, home], "each path once", "/local/domain/5"],
		[
			"a node before its parent",
			[node("/a/b", "", ["n0"]), node("/a", "", ["n0"])],
			"parents before their children",
			"/a",
		],
		["a relative node", [node("a", "", ["n0"])], "a path from / on", '"a"'],
		["a node that nobody owns", [node("/a", "", [])], "permissions n, r, w or b, the owner's first", "none"],
		["a strange permission", [node("/a", "", ["x0"])], "permissions n, r, w or b, the owner's first", '"x0"'],
		[
			"a domain's quotas twice",
			[
				[R.DOMAIN_DATA, { domid: 5, features: 0, quotas: [] }],
				[R.DOMAIN_DATA, { domid: 5, features: 0, quotas: [] }],
			],
			"each domain once",
			"domain 5",
		],
		["a record that is too short", [[R.WATCH_DATA, { body: "00" }]], "the record's fields", "00"],
	])("has no %s", (_what, records, expected, got) => {
		const { problems } = readStore(storeStream(records));
		expect(problems).toMatchObject([{ expected, got }]);
		const stream = storeStream(records);
		const last = problems[0]?.offset as number;
		// It is the last record of these that is wrong.
		expect(last).toBe(storeStream(records.slice(0, -1), false).length);
		expect(() => parseStoreDump(stream, "xenstore.dump")).toThrow(XluError);
	});

	it("takes nodes that say who may set special watches", () => {
		const special = node("@releaseDomain", "", ["n0", "r5"]);
		expect(readStore(storeStream([special])).problems).toEqual([]);
	});

	it("is version 1 unless a depth or features need version 2", () => {
		const domain = captured("pvh").model.domains.find(({ domain: { domid } }) => domid === 1)!;
		const daemon = { connections: [], watches: [], transactions: [], domains: [] };
		const connection = { domid: 1, inData: new Uint8Array(0), outData: new Uint8Array(0), outRespLength: 0 };
		const versionOf = (more: Partial<NonNullable<Store["daemon"]>>): number =>
			writeStore({ nodes: new Map(), daemon: { ...daemon, ...more } }, domain)[11] as number;
		expect(versionOf({})).toBe(1);
		expect(versionOf({ connections: [connection], watches: [{ domid: 1, path: "a", token: "b" }] })).toBe(1);
		expect(versionOf({ connections: [connection], watches: [{ domid: 1, path: "a", token: "b", depth: 2 }] })).toBe(2);
		expect(versionOf({ domains: [{ domid: 1, features: 0, quotas: [] }] })).toBe(1);
		expect(versionOf({ domains: [{ domid: 1, features: 1, quotas: [] }] })).toBe(2);
	});
});

describe("paths of watches", () => {
	it.each([
		"/",
		"device",
		"@introduceDomain",
		"@releaseDomain",
		"/a_b-c@d/1",
		`/${"a".repeat(3071)}`,
		"a".repeat(2048),
	])("takes %.40s", (path) => expect(canWatch(path)).toBe(true));

	it.each(["", "a/", "/a//b", "@other", "/a b", "/ä", `/${"a".repeat(3072)}`, "a".repeat(2049)])(
		"refuses %.40s",
		(path) => expect(canWatch(path)).toBe(false),
	);
});

it("a bundle without the listing's dump says that watches are not known", async () => {
	const { bundle } = extractDomain(core, captured("pv"), 1);
	expect(codes((await read(bundle)).findings, false)).toContain("XLU-B025");
});
