/** F5, the receiving side: domid free, backends there, ports and references kept, areas with their values unchanged. */
import { describe, expect, it } from "vitest";
import { checkBundle } from "../../src/bundle/check.ts";
import { extractDomain } from "../../src/bundle/extract.ts";
import { receive } from "../../src/bundle/receive.ts";
import { CONSUMER, EVTCHN_STATE } from "../../src/format/enums.ts";
import type { Host } from "../../src/host.ts";
import { receiveBundle, verifyBundle } from "../../src/index.ts";
import { readGrantV1 } from "../../src/machine/guestPages.ts";
import { emptyHost, Machine } from "../../src/machine/live/index.ts";
import type { DomainModel } from "../../src/machine/model.ts";
import { liveUpdate } from "../../src/update.ts";
import { coreModule as module } from "../support/core.ts";
import { baseOperations, mustRun } from "../support/living.ts";
import { bareHost, type CaptureName, captured, capturedBundle, captures, codes, core, onto, read } from "./helpers.ts";

const names = Object.keys(captures) as CaptureName[];
/** A captured host without that domid. */
const other = { pv: "hvm", pvh: "hvm", hvm: "pv" } as const;

/** Entries of a grant table of version 1 that say something, by their references. */
function grantEntries(host: Host, domain: DomainModel | undefined) {
	return new Map(
		(domain?.grantFrames ?? []).flatMap(({ mfn }, frame) => {
			const page = host.preserved.get(Number(mfn)) as Uint8Array;
			return Array.from({ length: 512 }, (_, i) => [frame * 512 + i, readGrantV1(page, i)] as const);
		}),
	);
}

/**
 * The same where they are received: none in use (GTF_reading and GTF_writing are what Xen notes of mappings, which do not
 * move), and a PV guest's with its new machine frames.
 */
function arrived(
	entries: ReturnType<typeof grantEntries>,
	from: Float64Array | undefined,
	to: Float64Array | undefined,
) {
	const placed = new Map([...(from ?? [])].map((mfn, i) => [mfn, to?.[i] as number]));
	return new Map(
		[...entries].map(([ref, entry]) => {
			const frame = (entry.flags & 3) === 1 ? (placed.get(entry.frame) ?? entry.frame) : entry.frame;
			return [ref, { ...entry, frame, flags: entry.flags & ~0x18 }];
		}),
	);
}

async function received(name: CaptureName): Promise<{ host: Host; again: Uint8Array }> {
	const host = await receiveBundle(capturedBundle(name), captured(other[name]), { module });
	return { host, again: extractDomain(core, host, captures[name]).bundle };
}

describe.each(names)("the guest of the captured %s host", (name) => {
	const domid = captures[name];
	const source = captured(name).model.domains.find(({ domain }) => domain.domid === domid);

	it("is refused by the host that it comes from, whose domid is taken", async () => {
		expect(codes(await onto(capturedBundle(name), captured(name)))).toEqual(["XLU-B040"]);
	});

	it("is taken by another captured host, and what will be different is told", async () => {
		const findings = await onto(capturedBundle(name), captured(other[name]));
		expect(findings.errors).toEqual([]);
		const warnings = ["XLU-B025", "XLU-B047", "XLU-B048", ...(name === "hvm" ? ["XLU-B049"] : [])];
		expect(codes(findings, false)).toEqual(expect.arrayContaining(warnings));
	});

	it("keeps ports, grant table, vCPUs and timers where it is received", async () => {
		const { host } = await received(name);
		const domain = host.model.domains.find((model) => model.domain.domid === domid);
		expect(domain?.ports).toHaveLength(source?.ports?.length as number);
		source?.ports?.forEach((row, port) => {
			const found = domain?.ports?.[port];
			if (!row || Number(row.consumer ?? 0) !== CONSUMER.none) {
				expect(found).toBeUndefined();
				return;
			}
			const isElsewhere = Number(row.state) === EVTCHN_STATE.interdomain && Number(row.remoteDomid) !== domid;
			expect(Number(found?.state)).toBe(isElsewhere ? EVTCHN_STATE.unbound : Number(row.state));
			for (const field of ["remoteDomid", "virq", "pirq", "notifyVcpu", "priority"] as const) {
				expect(Number(found?.[field] ?? 0)).toBe(Number(row[field] ?? 0));
			}
		});
		// The pages of the grant table, of shared_info and of the event channels, octet for octet.
		const pages = (of: Host, rows: readonly { mfn?: number | bigint | undefined }[] | undefined) =>
			(rows ?? []).map(({ mfn }) => of.preserved.get(Number(mfn)));
		for (const table of ["statusFrames", "controlBlocks", "eventArrays"] as const) {
			expect(pages(host, domain?.[table])).toEqual(pages(captured(name), source?.[table]));
		}
		const layouts = [captured(name), host].map(({ pvLayouts }) => pvLayouts?.get(domid)?.mfns);
		const [from, to] = layouts;
		expect(grantEntries(host, domain)).toEqual(arrived(grantEntries(captured(name), source), from, to));
		if (name === "pv") expect(from).not.toEqual(to);
		expect(domain?.vcpuIds).toEqual(source?.vcpuIds);
		expect(domain?.domain.handle?.map(Number)).toEqual(source?.domain.handle?.map(Number));
	});

	it("owns the frames that it had as many of, and nobody else lost one", async () => {
		const target = captured(other[name]);
		const { host } = await received(name);
		const owners = host.model.frameOwners;
		let taken = 0;
		let lost = 0;
		target.model.frameOwners.forEach((entry, mfn) => {
			if (entry !== 0n && owners[mfn] !== entry) lost++;
			if (entry === 0n && owners[mfn] !== 0n) taken++;
		});
		expect(lost).toBe(0);
		const own = captured(name).model.frameOwners.filter((entry) => Number(entry & 0xffffn) === domid && entry !== 0n);
		const made = source?.ioreqPages?.length ?? 0;
		expect(taken).toBe(own.length - made);
	});

	it("goes on from there: a live update of the receiving host restores all of it", async () => {
		const { host } = await received(name);
		expect((await liveUpdate(host, { module, prepare: false })).identical).toBe(true);
	});

	it("is extracted there again with the same state records, nodes and ports", async () => {
		const first = (await read(capturedBundle(name))).bundle;
		const { again } = await received(name);
		const second = await read(again);
		expect(second.findings.errors).toEqual([]);
		const nodes = (octets: Uint8Array | undefined) => Buffer.from(octets as Uint8Array).toString("latin1");
		expect(Buffer.compare(second.bundle?.libxc?.octets as Uint8Array, first?.libxc?.octets as Uint8Array)).toBe(0);
		// All but the daemon's port, which is made anew.
		expect(nodes(second.bundle?.xenstore?.octets).slice(48)).toBe(nodes(first?.xenstore?.octets).slice(48));
	});
});

describe("living guests", () => {
	const machine = Machine.fromHost(emptyHost(4096));
	mustRun(machine, [
		...baseOperations.slice(0, 3),
		{ op: "domain_unpause", domid: 1 },
		{ op: "domain_unpause", domid: 2 },
	]);

	it.each([1, 2])("domain %i is taken by a host with dom0 alone, and lives on in a live update", async (domid) => {
		const { bundle } = extractDomain(core, machine.toHost(), domid);
		const target = bareHost(4096);
		const { ok, findings } = await verifyBundle(bundle, { onto: target, module });
		expect(findings.filter(({ isError }) => isError)).toEqual([]);
		expect(ok).toBe(true);
		const host = await receiveBundle(bundle, target, { module });
		expect((await liveUpdate(host, { module, prepare: false })).identical).toBe(true);
	});

	it("keeps 2 MiB pages whole where aligned frames are free, and breaks them where not", async () => {
		const { bundle } = extractDomain(core, machine.toHost(), 2);
		const { checked } = await read(bundle);
		const superpages = (host: Host | undefined) =>
			host?.model.domains.at(-1)?.p2m?.filter((entry) => ((entry >> 48n) & 63n) === 9n).length;
		const before = superpages({
			...bareHost(4096),
			model: { ...bareHost(4096).model, domains: [checked!.solo.domain] },
		});
		expect(before).toBeGreaterThan(0);
		expect(superpages(receive(bareHost(4096), checked!))).toBe(before);
		const tight = bareHost(4096);
		// One frame taken of each 2 MiB.
		for (let mfn = 2047; mfn < 4096; mfn += 512) tight.model.frameOwners[mfn] ||= BigInt(0x7ff2 | (3 << 16));
		const scattered = receive(tight, checked!);
		expect(superpages(scattered)).toBe(0);
		expect((await liveUpdate(scattered as Host, { module, prepare: false })).identical).toBe(true);
	});
});

describe("what is not whole", () => {
	it("is not received", async () => {
		const damaged = capturedBundle("pvh").slice();
		damaged[200] = (damaged[200] as number) ^ 1;
		const { ok, findings } = await verifyBundle(damaged, { onto: bareHost(), module });
		expect(ok).toBe(false);
		expect(findings.map(({ rule }) => rule.code)).toContain("XLU-B007");
		await expect(receiveBundle(damaged, bareHost(), { module })).rejects.toMatchObject({
			code: "XLU_E_REFUSED",
			rule: "XLU-B007",
		});
	});

	it("has parts that are checked against each other", async () => {
		const { bundle, findings } = await read(capturedBundle("pv"));
		const swapped = { ...bundle!, libxc: (await read(capturedBundle("pvh"))).bundle?.libxc };
		checkBundle(core, swapped, findings);
		expect(codes(findings)).toContain("XLU-B015");
	});
});
