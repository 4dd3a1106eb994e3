/** F5: from a host and a domid, one domain's bundle. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { extractDomain } from "../../src/bundle/extract.ts";
import { deviceAreas, parseStoreListing, storeOfDomain } from "../../src/bundle/store.ts";
import { readStore } from "../../src/bundle/storeStream.ts";
import { readCapture } from "../../src/capture/read.ts";
import { XluError } from "../../src/errors.ts";
import { libxcRecords } from "../../src/formats/bundle/parts.ts";
import type { StreamItem } from "../../src/formats/common/record.ts";
import { LIBXC_RECORD } from "../../src/formats/libxc/layout.ts";
import { emptyHost, Machine } from "../../src/machine/live/index.ts";
import { parseSynthetic, syntheticHost } from "../../src/machine/synthetic/index.ts";
import { baseOperations, mustRun } from "../support/living.ts";
import {
	type CaptureName,
	captured,
	capturedBundle,
	capturePath,
	captures,
	changed,
	codes,
	core,
	read,
} from "./helpers.ts";

const names = Object.keys(captures) as CaptureName[];

function refusal(run: () => unknown): XluError {
	try {
		run();
	} catch (error) {
		if (error instanceof XluError) return error;
		throw error;
	}
	throw new Error("it was not refused");
}

describe.each(names)("the guest of the captured %s host", (name) => {
	const domid = captures[name];
	const image = readCapture(capturePath(name)).domains.find((domain) => domain.domid === domid)?.image;

	it("is whole, and its parts agree", async () => {
		const { findings, checked, error } = await read(capturedBundle(name));
		expect(error).toBeUndefined();
		expect(findings.errors).toEqual([]);
		expect(checked?.domid).toBe(domid);
		// A listing has no watches.
		expect(codes(findings, false)).toEqual(["XLU-B025"]);
	});

	it("has the state records that xl save wrote, octet for octet", async () => {
		const { bundle } = await read(capturedBundle(name));
		const records = [...libxcRecords(bundle?.libxc?.octets as Uint8Array)];
		const body = (type: number) =>
			records.filter((record) => record.type === type).map((record) => Buffer.from(record.body));
		const perVcpu = (map: ReadonlyMap<number, Uint8Array> | undefined) =>
			[...(map ?? [])].map(([id, octets]) => Buffer.concat([Buffer.from([id, 0, 0, 0, 0, 0, 0, 0]), octets]));
		const one = (octets: Uint8Array | undefined) => (octets ? [Buffer.from(octets)] : []);
		expect(body(LIBXC_RECORD.X86_PV_VCPU_BASIC)).toEqual(perVcpu(image?.vcpuBasic));
		expect(body(LIBXC_RECORD.X86_PV_VCPU_EXTENDED)).toEqual(perVcpu(image?.vcpuExtended));
		expect(body(LIBXC_RECORD.X86_PV_VCPU_XSAVE)).toEqual(perVcpu(image?.vcpuXsave));
		expect(body(LIBXC_RECORD.X86_PV_VCPU_MSRS)).toEqual(perVcpu(image?.vcpuMsrs));
		expect(body(LIBXC_RECORD.SHARED_INFO)).toEqual(one(image?.sharedInfo));
		expect(body(LIBXC_RECORD.X86_CPUID_POLICY)).toEqual(one(image?.cpuidPolicy));
		expect(body(LIBXC_RECORD.X86_MSR_POLICY)).toEqual(one(image?.msrPolicy));
		expect(body(LIBXC_RECORD.HVM_CONTEXT)).toEqual(one(image?.hvmContext));
		if (name === "pv") expect(body(LIBXC_RECORD.X86_PV_VCPU_BASIC)).toHaveLength(2);
	});

	it("has the nodes of its home and of its backend areas, as the listing has them", async () => {
		const { bundle } = await read(capturedBundle(name));
		const { store, problems } = readStore(bundle?.xenstore?.octets as Uint8Array);
		expect(problems).toEqual([]);
		const listing = readFileSync(join(capturePath(name), "xenstore-ls.txt"), "utf8");
		const all = parseStoreListing(listing, "xenstore-ls.txt");
		expect(store.nodes).toEqual(storeOfDomain(all, domid).nodes);
		// Counted without the code under test: home, /vm, and whatever stands in a backend area.
		const home = new RegExp(`^/local/domain/${domid}(/| )`);
		const backend = new RegExp(`^/local/domain/0/backend/[a-z]+/${domid}(/| )`);
		const wanted = listing
			.split("\n")
			.filter((line) => home.test(line) || backend.test(line) || line.startsWith("/vm/"));
		expect([...store.nodes.keys()].sort()).toEqual(wanted.map((line) => line.split(" ")[0]).sort());
		expect(deviceAreas(store.nodes, domid).map(({ backendId }) => backendId)).toContain(0);
	});

	it("is shown with its parts and the records within them", async () => {
		const octets = capturedBundle(name);
		const { items } = await read(octets, 1000);
		expect(items.map(({ index }) => index)).toEqual(items.map((_, i) => i));
		expect([...new Set(items.map(({ layer }) => layer))]).toEqual(["bundle", "xlu", "libxc", "xenstore"]);
		for (const { offset, octets: found } of items) {
			expect(Buffer.compare(found as Uint8Array, octets.subarray(offset, offset + (found as Uint8Array).length))).toBe(
				0,
			);
		}
		expect(items.find(({ name: record }) => record === "LU_DOMAIN")?.fields).toMatchObject({ domid, kind: name });
	});

	it("comes out the same again", async () => {
		expect(Buffer.compare(await changed(capturedBundle(name), () => {}), capturedBundle(name))).toBe(0);
	});
});

describe("living and synthetic guests", () => {
	const machine = Machine.fromHost(emptyHost(4096));
	mustRun(machine, baseOperations);

	it("extracts a guest that nobody captured, with assigned PFNs and no nodes", async () => {
		const { bundle, assumptions } = extractDomain(core, machine.toHost(), 1);
		const { findings } = await read(bundle);
		expect(findings.errors).toEqual([]);
		expect(codes(findings, false)).toEqual(["XLU-B026", "XLU-B027"]);
		expect(assumptions.map(({ what }) => what)).toEqual([
			"PFNs, and where the guest's P2M table lies",
			"xenstore nodes",
		]);
	});

	it.each([
		[0, "XLU-B022"],
		// The HVM guest's stub domain.
		[3, "XLU-B023"],
	])("refuses domain %i by %s", (domid, rule) => {
		expect(refusal(() => extractDomain(core, machine.toHost(), domid))).toMatchObject({
			code: "XLU_E_REFUSED",
			rule,
			domid,
		});
	});

	it("refuses a domain that has grants of others mapped, and one that is dead", () => {
		const host = syntheticHost(parseSynthetic("synthetic:domains=3,memory=8M"));
		const dead = host.model.domains.find(({ domain }) => domain.life === 1)?.domain.domid as number;
		expect(refusal(() => extractDomain(core, host, 1))).toMatchObject({ rule: "XLU-B023", field: "Maptrack" });
		expect(refusal(() => extractDomain(core, host, dead))).toMatchObject({ rule: "XLU-B022", field: "life" });
	});

	it("says which domains there are", () => {
		expect(refusal(() => extractDomain(core, captured("pv"), 7))).toMatchObject({
			code: "XLU_E_USAGE",
			expected: "0, 1",
			got: "7",
		});
	});

	it("refuses by the rule of the live-update stream what that refuses", () => {
		const host = captured("pv");
		const domains = host.model.domains.map((model) =>
			model.domain.domid === 1 ? { ...model, domain: { ...model.domain, guestWidth: 4 } } : model,
		);
		const error = refusal(() => extractDomain(core, { ...host, model: { ...host.model, domains } }, 1));
		expect(error.rule).toMatch(/^XLU-R\d{3}$/);
		expect(error.domid).toBe(1);
	});

	it("has what a stream of version 1 cannot hold in one of version 2", async () => {
		const host = captured("pv");
		const numa = { vnumaNodes: [{}], vnumaDistances: [{ distance: 10 }] };
		const domains = host.model.domains.map((model) => {
			if (model.domain.domid !== 1) return model;
			const vnumaVcpus = Array.from({ length: Number(model.domain.maxVcpus) }, () => ({}));
			return { ...model, ...numa, vnumaVcpus };
		});
		const { bundle } = extractDomain(core, { ...host, model: { ...host.model, domains } }, 1);
		const versionOf = (items: readonly StreamItem[]) =>
			items.find(({ layer, kind }) => layer === "xlu" && kind === "header")?.fields.version;
		const { items, findings } = await read(bundle);
		expect(findings.errors).toEqual([]);
		expect([versionOf(items), versionOf((await read(capturedBundle("pv"))).items)]).toEqual([2, 1]);
		expect(items.find(({ name }) => name === "LU_VNUMA")?.fields).toMatchObject({ nodeCount: 1 });
	});
});
