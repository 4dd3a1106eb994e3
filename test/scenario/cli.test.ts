/** xlu run SCENARIO as people run it: what it prints, and the status that it ends in. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { host, shell, xlu } from "../cli/xlu.ts";
import { root } from "../support/core.ts";

const scratch = mkdtempSync(join(tmpdir(), "xlu-scenario-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function file(name: string, content: unknown): string {
	const path = join(scratch, name);
	writeFileSync(path, typeof content === "string" || content instanceof Uint8Array ? content : JSON.stringify(content));
	return path;
}

const create = { op: "domain_create", domid: 1, kind: "pv" };
const good = {
	description: "one guest, one update",
	host: { frames: 4096 },
	steps: [
		{ ...create, note: "a guest" },
		{ op: "evtchn_bind_ipi", domid: 1, vcpu: 0, as: "port" },
		{ update: {} },
		{ random: { count: 20 } },
		{ op: "evtchn_close", domid: 99, port: 1, expect: "ESRCH" },
	],
};
const failing = { host: { frames: 4096 }, steps: [create, { expect: { domid: 1, kind: "hvm" } }] };

describe("xlu run SCENARIO", () => {
	it("prints each step with its result, each update's timeline, and the verdict", () => {
		const { status, stdout, stderr } = xlu(["run", file("good.json", good)]);
		expect([status, stderr]).toEqual([0, ""]);
		expect(stdout).toMatch(
			/^scenario good: one guest, one update\n {5}# a guest\n {3}0 domain_create domid=1 kind=pv -> 1$/m,
		);
		expect(stdout).toMatch(/^ {3}2 live update -> identical, \d+ octets$/m);
		expect(stdout).toMatch(/^ {2}hand-over +\d+\.\d{3} ms {2}█+$/m);
		expect(stdout).toMatch(/^ {3}3 20 random operations, seed 4 -> \d+ done, \d+ refused/m);
		expect(stdout).toMatch(/^ {3}4 evtchn_close domid=99 port=1 -> ESRCH$/m);
		expect(stdout).toMatch(/^5 steps, 1 update: nothing could be noticed, every result and the final state/m);
	});

	it("--quiet: the verdict alone", () => {
		const { status, stdout } = xlu(["run", "-q", file("good.json", good)]);
		expect(status).toBe(0);
		expect(stdout.trimEnd().split("\n")).toEqual([
			"scenario good: one guest, one update",
			expect.stringMatching(/^5 steps, 1 update: nothing could be noticed/),
		]);
	});

	it("--workers, --no-audit, --quiesce-timeout are each update's; --fault is a host's alone", () => {
		const path = file("good.json", good);
		const { status, stdout } = xlu(["run", path, "--json", "--workers", "2", "--no-audit"]);
		expect([status, JSON.parse(stdout).updates[0].workers]).toEqual([0, 2]);
		const waiting = file("waiting.json", {
			host: { frames: 4096 },
			steps: [
				{ ...create, domid: 0, privileged: true },
				{ ...create, domid: 2, kind: "hvm" },
				{ op: "ioreq_create", domid: 0, guest: 2 },
				{ op: "ioreq_set_state", domid: 0, guest: 2, server: 0, enabled: true },
				{ op: "domain_unpause", domid: 2 },
				{ op: "ioreq_send", domid: 2, vcpu: 0, server: 0, turns: 700 },
				{ update: {} },
			],
		});
		const run = (...options: string[]) => xlu(["run", "-q", waiting, ...options]);
		expect(run().stdout).toMatch(/nothing could be noticed/);
		const hasty = run("--quiesce-timeout", "3");
		expect([hasty.status, hasty.stdout]).toEqual([1, expect.stringMatching(/XLU_E_QUIESCE/)]);
		const fault = xlu(["run", path, "--fault", "all"]);
		expect([fault.status, fault.stderr]).toEqual([
			2,
			expect.stringMatching(/field --fault; expected a HOST; got .*good.json/),
		]);
	});

	it("--json: one object with exactly the documented keys", () => {
		const { status, stdout, stderr } = xlu(["run", "--json", file("good.json", good)]);
		expect([status, stderr]).toEqual([0, ""]);
		const report = JSON.parse(stdout);
		expect(Object.keys(report)).toEqual([
			"scenario",
			"description",
			"steps",
			"updates",
			"identical",
			"transparent",
			"failures",
		]);
		expect(report).toMatchObject({ scenario: "good", identical: true, transparent: true, failures: [] });
		expect(Object.keys(report.steps[0])).toEqual(["index", "step", "text", "note", "ok", "result", "resultText"]);
		expect(report.updates[0]).toMatchObject({ identical: true, difference: null });
	});

	it("what does not come as expected: status 1 with the step, what was expected and what came", () => {
		const path = file("failing.json", failing);
		const { status, stdout } = xlu(["run", path]);
		expect(status).toBe(1);
		expect(stdout).toContain("step 1: kind of domid=1: expected hvm, got pv\n");
		expect(stdout).toMatch(/nothing could be noticed, but not all came as expected/);
		const { failures } = JSON.parse(xlu(["run", "--json", path]).stdout);
		expect(failures).toEqual([{ step: 1, what: "kind of domid=1", expected: "hvm", got: "pv" }]);
	});

	it("hosts and scenarios in one list, each with its own verdict; the worst status is the command's", () => {
		const { status, stdout } = xlu([
			"run",
			"-q",
			"--json",
			host("pv"),
			file("good.json", good),
			file("failing.json", failing),
		]);
		expect(status).toBe(1);
		const reports = stdout
			.trimEnd()
			.split("\n")
			.map((line) => JSON.parse(line));
		expect(reports.map(({ host: name, scenario }) => name ?? scenario)).toEqual(["pv", "good", "failing"]);
	});

	it("a mistake in the file: status 2, every problem with its place", () => {
		const path = file("mistakes.json", {
			host: { frames: 4096 },
			steps: [{ op: "evtchn_sned" }, { update: { size: 1 } }],
		});
		const text = xlu(["run", path]);
		expect([text.status, text.stdout]).toEqual([2, ""]);
		expect(text.stderr).toMatch(/^xlu: XLU_E_SCENARIO: .*steps\[0\]\.op: .*nearest: "evtchn_send"/);
		expect(text.stderr).toMatch(/^ {5}steps\[1\]\.update\.size: expected an option of an update/m);
		const json = xlu(["run", "--json", path]);
		expect(json.status).toBe(2);
		const { error } = JSON.parse(json.stdout);
		expect(error.problems.map(({ field }: { field: string }) => field)).toEqual([
			"steps[0].op",
			"steps[1].update.size",
		]);
	});

	it.each<[string, string | Uint8Array, string]>([
		["an empty file", "", "XLU_E_SCENARIO"],
		["no JSON", "host: pv", "XLU_E_SCENARIO"],
		["a list", "[]", "XLU_E_SCENARIO"],
		["octets", new Uint8Array(3000).fill(0xfe), "XLU_E_SCENARIO"],
		["a huge file", new Uint8Array(17 * 2 ** 20).fill(0x20), "XLU_E_SCENARIO"],
		["lists without end", "[".repeat(1_000_000), "XLU_E_SCENARIO"],
		["a host that is not there", '{"host":"nowhere","steps":[]}', "XLU_E_IO"],
		["a host too large", '{"host":"synthetic:domains=1,memory=20G","steps":[]}', "XLU_E_SCENARIO"],
	])("%s: status 2", (_what, content, code) => {
		const { status, stderr } = xlu(["run", "-q", file("rubbish.json", content)]);
		expect(status).toBe(2);
		expect(stderr).toMatch(new RegExp(`^xlu: ${code}: `));
		expect(stderr.length).toBeLessThan(1000);
	});

	it("a file that is not there, and one that never ends", () => {
		expect(xlu(["run", join(scratch, "none.json")])).toMatchObject({
			status: 2,
			stderr: expect.stringContaining("XLU_E_IO"),
		});
		const endless = shell(`ln -sf /dev/zero ${scratch}/zero.json && $XLU run ${scratch}/zero.json`);
		expect(endless.status).toBe(2);
	});

	it("a scenario under another name is known by its content, a directory that ends in .json is a host", () => {
		expect(xlu(["run", "-q", file("scenario.txt", good)]).status).toBe(0);
		expect(xlu(["run", file("other.txt", "no scenario")]).stderr).toMatch(/XLU_E_IO/);
		mkdirSync(join(scratch, "host.json"));
		expect(xlu(["run", join(scratch, "host.json")]).stderr).toMatch(/XLU_E_CAPTURE/);
	});

	it("--seed and --xen2-size are taken where the scenario says nothing", () => {
		expect(xlu(["run", "--seed", "40", file("good.json", good)]).stdout).toMatch(/random operations, seed 43/);
		const { status, stdout } = xlu(["run", "--xen2-size", "64", file("good.json", good)]);
		expect(status).toBe(1);
		expect(stdout).toMatch(/step 2: live update: expected an update, got XLU_E_HANDOVER/);
	});

	it("--xen2-format is of all its updates: one of a 32-bit PV guest is refused where xen#2 knows version 1 alone", () => {
		const steps = [{ op: "domain_create", domid: 1, kind: "pv", width: 32 }, { update: {} }];
		const narrow = file("narrow.json", JSON.stringify({ host: { frames: 4096 }, steps }));
		expect(xlu(["run", narrow]).status).toBe(0);
		const { status, stdout } = xlu(["run", "--xen2-format", "1", narrow]);
		expect(status).toBe(1);
		expect(stdout).toMatch(/step 1: live update: expected an update, got XLU_E_REFUSED/);
	});

	it("runs the shipped ones", () => {
		const { status, stdout } = shell("$XLU run -q examples/scenarios/*.json", { cwd: root });
		expect(status).toBe(0);
		expect(stdout.match(/nothing could be noticed, every result/g)?.length).toBe(4);
	});
});
