/** xenstore streams on the command line. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { root } from "../support/core.ts";
import { fixture, nodesOf } from "../support/xenstore.ts";
import { xlu } from "./xlu.ts";

const scratch = mkdtempSync(join(tmpdir(), "xlu-xenstore-"));
const at = (name: string) => join(scratch, name);
const given = (name: string) => join(root, "test/fixtures/xenstore", name);
afterAll(() => rmSync(scratch, { recursive: true }));

describe("xlu inspect", () => {
	test("--json has records, nodes, watches, connections, transactions", () => {
		const { status, stdout } = xlu(["inspect", given("plain.dump"), "--json"]);
		expect(status).toBe(0);
		const { format, records, nodes, watches, connections, transactions, findings } = JSON.parse(stdout);
		expect([format, transactions, findings]).toEqual(["xenstore", [], []]);
		expect(nodes.filter(({ path }: { path: string }) => path.startsWith("/"))).toEqual(nodesOf("plain.dump"));
		expect(records[1]).toMatchObject({ layer: "xenstore", name: "GLOBAL_DATA", offset: 16, fields: { rwSocketFd: 3 } });
		expect(watches[0]).toEqual({ connId: 5, path: "/local/domain/5/device/vif/0/state", token: "fe-state" });
		expect(connections.map(({ type }: { type: string }) => type).join()).toBe(
			"ring,socket,ring,ring,socket,socket,socket",
		);
	});

	test("pending nodes stand below their transaction", () => {
		const probe = given("probes/102-pending-node-conn-id-2-without-transaction-data.bin");
		const { transactions } = JSON.parse(xlu(["inspect", probe, "--json"]).stdout);
		const nodes = [{ path: "/p", value: "78", perms: ["n0"], access: 2 }];
		expect(transactions).toEqual([{ connId: 2, txId: 1, nodes }]);
	});

	test("--tree, --record, --hex", () => {
		const tree = xlu(["inspect", given("plain.dump"), "--tree"]).stdout;
		expect(tree).toContain('\n    domain = ""   (n0)\n      0 = ""   (n0)\n        name = "Domain-0"   (n0)\n');
		expect(xlu(["inspect", given("plain.dump"), "--record", "2"]).stdout).toContain("tdomid                 32756");
		expect(xlu(["inspect", given("plain.dump"), "--record", "0", "--hex"]).stdout).toContain("78 65 6e 73 74 6f 72 65");
	});
});

describe("xlu verify", () => {
	test("exit status by reader", () => {
		const v2 = given("v2/plain.dump");
		expect(xlu(["verify", v2]).status).toBe(0);
		expect(xlu(["verify", v2, "--for", "xenstored-2026"]).status).toBe(0);
		const { status, stdout } = xlu(["verify", v2, "--for", "xenstored-4.17", "--json"]);
		expect(status).toBe(1);
		expect(JSON.parse(stdout)).toMatchObject({ ok: false, for: "xenstored-4.17", findings: [{ rule: "XLU-S004" }] });
		expect(xlu(["verify", v2, "--strict"]).status).toBe(1);
		expect(xlu(["verify", v2, "--for", "xenstored-9"]).status).toBe(2);
	});

	test("damage ends in 3; another ident too, where a daemon is named", () => {
		writeFileSync(at("cut"), fixture("plain.dump").subarray(0, 5000));
		const { status, stdout } = xlu(["verify", at("cut"), "--json"]);
		expect(status).toBe(3);
		expect(JSON.parse(stdout).findings).toMatchObject([{ rule: "XLU-S001", severity: "damaged" }]);
		expect(xlu(["verify", given("probes/002-bad-ident.bin"), "--for", "xenstored-4.17"]).status).toBe(3);
	});

	test("--fds decides what is open", () => {
		const probe = given("probes/030-global-socket-invalid-fd-77.bin");
		expect(xlu(["verify", probe]).status).toBe(1);
		expect(xlu(["verify", probe, "--for", "xenstored-4.17", "--fds", "3-5,77"]).status).toBe(0);
		expect(xlu(["verify", given("plain.dump"), "--fds", "4-9"]).status).toBe(1);
		expect(xlu(["verify", probe, "--fds", "x"]).status).toBe(2);
	});

	test("explain tells what daemons do", () => {
		const { stdout } = xlu(["explain", "XLU-S038"]);
		expect(stdout).toContain("xenstored-4.17: reads something else\nxenstored-2026: dies");
	});
});

describe("xlu diff and convert", () => {
	test("for a daemon, and what is left out is said", () => {
		const { status, stdout } = xlu([
			"convert",
			given("v2/plain.dump"),
			"-o",
			at("v1"),
			"--for",
			"xenstored-4.17",
			"--json",
		]);
		expect(status).toBe(0);
		const { dropped } = JSON.parse(stdout);
		expect(dropped.map(({ what }: { what: string }) => what)).toEqual([
			"GLOBAL_QUOTA_DATA",
			"unique id (connection 1 and 2 more)",
			"DOMAIN_DATA (domain 6 and 2 more)",
		]);
		const { differences } = JSON.parse(xlu(["diff", given("plain.dump"), at("v1"), "--json"]).stdout);
		expect(differences).toEqual([
			{ where: "node @releaseDomain", field: "perms[1]", a: null, b: expect.stringMatching(/^r/) },
		]);
	});

	test("diff names nodes, watches, connections", () => {
		const document = JSON.parse(xlu(["convert", given("plain.dump"), "-o", "-", "--to", "json"]).stdout);
		for (const item of document.items) {
			if (item.fields.path === "/local/domain/0/name") item.fields.value = "78";
			if (item.fields.token === "be") item.fields.token = "bf";
			if (item.fields.domid === 6) item.fields.evtchn = 99;
		}
		writeFileSync(at("changed.json"), JSON.stringify(document));
		const { status, stdout } = xlu(["diff", given("plain.dump"), at("changed.json")]);
		expect(status).toBe(1);
		expect(stdout.trimEnd().split("\n")).toEqual([
			"connection of domain 6: evtchn: 22 -> 99",
			"watch of socket 8: /local/domain/0/backend token be: only in the first",
			"node /local/domain/0/name: value: Domain-0 -> x",
			"watch of socket 8: /local/domain/0/backend token bf: only in the second",
			"4 differences",
		]);
	});

	test("JSON and back, migration, the document's form; what is refused leaves no file", () => {
		expect(xlu(["convert", given("busy.dump"), "-o", at("busy.json"), "--to", "json"]).status).toBe(0);
		expect(xlu(["convert", at("busy.json"), "-o", at("busy")]).status).toBe(0);
		expect(readFileSync(at("busy")).equals(fixture("busy.dump"))).toBe(true);
		expect(xlu(["convert", at("busy.json"), "-o", at("moved"), "--use", "migration:5"]).status).toBe(0);
		expect(xlu(["verify", at("moved")]).status).toBe(0);
		expect(xlu(["convert", given("busy.dump"), "-o", at("documented"), "--use", "documented"]).status).toBe(0);
		expect(xlu(["verify", at("documented"), "--strict"]).status).toBe(0);
		expect(xlu(["verify", at("documented"), "--for", "xenstored-4.17"]).status).toBe(1);
		const refused = xlu(["convert", at("moved"), "-o", at("none"), "--for", "xenstored-4.17"]);
		expect([refused.status, refused.stderr]).toEqual([1, expect.stringContaining("XLU-S0")]);
		expect(() => readFileSync(at("none"))).toThrow("ENOENT");
		const wrong = xlu(["convert", given("plain.dump"), "-o", at("none"), "--to", "libxc-v3"]);
		expect(wrong.status).toBe(2);
		expect(xlu(["convert", given("plain.dump"), "-o", at("none"), "--use", "migration:x"]).status).toBe(2);
	});
});
