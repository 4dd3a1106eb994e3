/**
 * Fault injection: each fault of src/fault.ts, on hosts of several kinds, ends as its table says: refused before the jump
 * with xen#1 as it was, or refused at boot. Never a restored host.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { XluError } from "../../src/errors.ts";
import { faults, inject } from "../../src/fault.ts";
import { FORMAT_VERSION } from "../../src/format/schema.ts";
import { loadHost } from "../../src/host.ts";
import { runOperation } from "../../src/machine/live/index.ts";
import { liveUpdate, updateMachine } from "../../src/update.ts";
import { builtWorker, sharedModule } from "../parallel/support.ts";
import { coreModule, root } from "../support/core.ts";
import { fixtures } from "../support/hosts.ts";
import { baseMachine, mustRun } from "../support/living.ts";

/** The brown-out's warming is no part of what is tested here. */
const options = { module: coreModule, prepare: false };
const hosts = [
	join(fixtures, "pv"),
	join(fixtures, "hvm"),
	"synthetic:domains=3,memory=16M,vcpus=2,layout=fragmented,seed=5",
];

describe.each(hosts.map((path) => [path.split("/").at(-1) as string, loadHost(path)] as const))("%s", (_name, host) => {
	test.each(
		faults.filter(({ hooks }) => hooks.killWorkerIn === undefined).map((fault) => [fault.name, fault] as const),
	)("%s: refused as the table says", async (_fault, fault) => {
		// A host without interdomain ports has no pair to break.
		if (fault.name === "half-pair@trigger" && host.name.startsWith("synthetic")) {
			expect(host.model.domains.some(({ ports }) => ports?.some((port) => Number(port?.state) === 3))).toBe(true);
		}
		const result = await inject(host, fault, options);
		expect(result).toMatchObject({ ...fault.expected, ok: true });
		expect(result.message.length).toBeGreaterThan(20);
	});

	test("and the same host, without any, is restored", async () => {
		expect((await liveUpdate(host, options)).identical).toBe(true);
	});
});

describe("a xen#2 of another version that xen#1 was told of", () => {
	const host = loadHost(hosts[0] as string);

	test.each([FORMAT_VERSION - 1, FORMAT_VERSION, FORMAT_VERSION + 1])(
		"format %i: the update is done",
		async (xen2Format) => {
			expect((await liveUpdate(host, { ...options, xen2Format })).identical).toBe(true);
		},
	);

	test("what the older version cannot hold keeps guests from being paused, and goes to one that can", async () => {
		const domains = host.model.domains.map((one) => {
			const vnumaVcpus = Array.from({ length: Number(one.domain.maxVcpus) }, () => ({ node: 0 }));
			const numa = { vnumaNodes: [{ physicalNode: 0 }], vnumaDistances: [{ distance: 10 }], vnumaVcpus };
			return one.domain.domid === 0 ? one : { ...one, ...numa };
		});
		const changed = { ...host, model: { ...host.model, domains } };
		await expect(liveUpdate(changed, { ...options, xen2Format: 1 })).rejects.toMatchObject({
			outcome: "not paused",
			code: "XLU_E_REFUSED",
			rule: "XLU-R047",
			record: "LU_VNUMA",
		});
		expect((await liveUpdate(changed, { ...options, xen2Format: 2 })).identical).toBe(true);
	});

	test.each([FORMAT_VERSION + 2, 255])("format %i: no version that both know", async (xen2Format) => {
		const update = liveUpdate(host, { ...options, xen2Format });
		await expect(update).rejects.toMatchObject({
			outcome: "xen#1 resumed",
			stage: "check",
			code: "XLU_E_VERSION",
			rule: "XLU-R003",
		});
	});
});

test.each([0, 1, 2])("a worker that dies in pass %i: refused at boot, no hang", async (pass) => {
	const fault = faults.find(({ hooks }) => hooks.killWorkerIn === pass);
	const result = await inject(loadHost(hosts[0] as string), fault as (typeof faults)[number], {
		...options,
		pool: { module: sharedModule, script: builtWorker },
	});
	expect(result).toMatchObject({ ...fault?.expected, ok: true });
});

describe("xen#1 resumes with nothing changed", () => {
	const early = faults.filter(({ expected }) => ["not paused", "xen#1 resumed"].includes(expected.outcome));

	test.each(early.map((fault) => [fault.name, fault] as const))("%s", async (_name, fault) => {
		const machine = baseMachine();
		const twin = baseMachine();
		// A pair for the fault that breaks one.
		for (const each of [machine, twin]) {
			const port = mustRun(each, [{ op: "evtchn_alloc_unbound", domid: 1, remote: 0 }])[0] as number;
			mustRun(each, [{ op: "evtchn_bind_interdomain", domid: 0, remote: 1, remotePort: port }]);
		}
		const before = machine.image();
		await expect(updateMachine(machine, { ...options, fault })).rejects.toMatchObject(fault.expected);
		expect(Buffer.compare(machine.image(), before)).toBe(0);
		// Guests run on: what they do has the results that it would have had.
		const rest = [
			{ op: "evtchn_alloc_unbound", domid: 1, remote: 0 },
			{ op: "populate_physmap", domid: 1 },
			{ op: "domain_create", domid: 7, kind: "pv" },
			{ op: "domain_destroy", domid: 7 },
			{ op: "sched_shutdown", domid: 2, reason: 2 },
		] as const;
		expect(mustRun(machine, rest)).toEqual(mustRun(twin, rest));
		expect(Buffer.compare(machine.image(), twin.image())).toBe(0);
		// And an update without a fault is done then.
		const { report } = await updateMachine(machine, options);
		expect(report.identical).toBe(true);
	});

	test("a fault that the host cannot have is a defect and no verdict", async () => {
		const broken = {
			...(faults[0] as (typeof faults)[number]),
			hooks: { image: () => runOperation(null as never, { op: "x" }) },
		};
		await expect(inject(loadHost(hosts[2] as string), broken as never, options)).rejects.not.toBeInstanceOf(XluError);
	});
});

test("docs/FAULTS.md has each fault with its outcome", () => {
	const text = readFileSync(join(root, "docs/FAULTS.md"), "utf8");
	for (const { name, expected } of faults) {
		expect(text).toContain(`| ${name} |`);
		expect(text.split("\n").find((line) => line.startsWith(`| ${name} |`))).toContain(
			`${expected.outcome} | ${expected.stage ?? ""} | ${expected.code ?? ""}`,
		);
	}
});
