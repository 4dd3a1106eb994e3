import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { XluError } from "../../src/errors.ts";
import {
	EVTCHN_ABI,
	EVTCHN_STATE,
	FRAME,
	FRAME_OWNER_MASK,
	GRANT_MAP,
	IOREQ_PAGE_FLAG,
	KIND,
	LIFE,
	P2M_BITS,
	P2M_ORDER,
	P2M_TYPE,
	PAGE_TYPE,
	PAGE_TYPE_FLAG,
	VCPU_FLAG,
} from "../../src/format/enums.ts";
import { type Host, loadHost } from "../../src/host.ts";
import { EVENT_WORD, EVENT_WORDS_PER_FRAME } from "../../src/machine/guestPages.ts";
import { Machine } from "../../src/machine/live/index.ts";
import type { DomainModel } from "../../src/machine/model.ts";
import { countReferences } from "../../src/machine/references.ts";
import {
	isSynthetic,
	layouts,
	parseSynthetic,
	type SyntheticSpec,
	syntheticHost,
	syntheticName,
	widths,
} from "../../src/machine/synthetic/index.ts";
import { liveUpdate } from "../../src/update.ts";
import { xlu } from "../cli/xlu.ts";
import { coreModule, openCheck, restoreAll, saveModel } from "../support/core.ts";
import { imageDifference, updateMachine } from "../support/living.ts";
import { checkInvariants, done } from "../support/operations.ts";

const MIB = 2 ** 20;
const host = (keys: string): Host => syntheticHost(parseSynthetic(`synthetic:${keys}`));

describe("synthetic: spec", () => {
	it("every key has a default", () => {
		const defaults = {
			domains: 8,
			memory: 256 * MIB,
			vcpus: 2,
			layout: "typical",
			ports: 8,
			grants: 16,
			seed: 1,
			width: "64",
		};
		expect(parseSynthetic("synthetic:")).toEqual(defaults);
		expect(parseSynthetic("synthetic:seed=9,layout=fragmented")).toEqual({
			...defaults,
			seed: 9,
			layout: "fragmented",
		});
	});

	it("sizes have suffixes", () => {
		const memory = (text: string) => parseSynthetic(`synthetic:memory=${text}`).memory;
		expect([memory("4194304"), memory("5000K"), memory("64M"), memory("2G")]).toEqual([
			4194304,
			5000 * 1024,
			64 * MIB,
			2048 * MIB,
		]);
	});

	it("its name makes the same spec again", () => {
		for (const text of [
			"",
			"memory=5000K,seed=0",
			"domains=3,memory=2G,vcpus=128,layout=adversarial,ports=0,grants=0",
			"width=mixed",
			"seed=7,width=32",
		]) {
			const spec = parseSynthetic(`synthetic:${text}`);
			expect(parseSynthetic(syntheticName(spec))).toEqual(spec);
		}
		const usual = "synthetic:domains=8,memory=256M,vcpus=2,layout=typical,ports=8,grants=16,seed=1";
		expect(["width=64", "width=32"].map((width) => syntheticName(parseSynthetic(`synthetic:${width}`)))).toEqual([
			usual,
			`${usual},width=32`,
		]);
	});

	it.each([
		["domains=0", "domains", "1 to 512", "0"],
		["domains=513", "domains", "1 to 512", "513"],
		["domains=8K", "domains", "whole number", "8K"],
		["domains=-1", "domains", "whole number", "-1"],
		["vcpus=1.5", "vcpus", "whole number", "1.5"],
		["vcpus=129", "vcpus", "1 to 128", "129"],
		["memory=1M", "memory", "4M to 64G", "1M"],
		["memory=65G", "memory", "4M to 64G", "65G"],
		["memory=64m", "memory", "K, M or G", "64m"],
		["memory=4194305", "memory", "multiple of 4K", "4194305"],
		["domains=128,memory=1G", "memory", "128G in all", "129G"],
		["domains=512,memory=4M,ports=1024", "ports", "120000", "512 domains"],
		["seed=4294967296", "seed", "4294967295", "4294967296"],
		["layout=dense", "layout", "superpages, typical, fragmented, adversarial", "dense"],
		["width=16", "width", "64, 32, mixed", "16"],
		["seed", "seed", "seed=VALUE", "no value"],
		["seed=", "seed", "seed=VALUE", "no value"],
		["seed=1,seed=1", "seed", "one value", "second"],
		["colour=red", "key", "domains, memory", "colour"],
		["domains=2,", "key", "domains, memory", "nothing"],
		["toString=1", "key", "domains, memory", "toString"],
	])("%s is refused: %s, expected %s, got %s", (text, field, expected, got) => {
		let error: unknown;
		try {
			parseSynthetic(`synthetic:${text}`);
		} catch (thrown) {
			error = thrown;
		}
		expect(error).toBeInstanceOf(XluError);
		const { code, message, ...detail } = error as XluError;
		expect([code, detail.field]).toEqual(["XLU_E_USAGE", field]);
		expect([detail.expected, detail.got]).toEqual([expect.stringContaining(expected), expect.stringContaining(got)]);
		expect(message).toContain(detail.expected);
	});

	it("a directory's name is none", () => {
		expect(["synthetic:", "synthetic", "./synthetic:", "SYNTHETIC:"].filter(isSynthetic)).toEqual(["synthetic:"]);
	});
});

describe("a synthetic host is repeatable", () => {
	const octets = (keys: string) => {
		const { model, preserved } = host(keys);
		const { stream, memory } = saveModel(model, preserved);
		return [Buffer.from(stream), Buffer.from(memory)] as const;
	};

	it.each(layouts)("%s: the same seed gives the same octets, another one others", (layout) => {
		const keys = `domains=4,memory=8M,layout=${layout}`;
		const [stream, memory] = octets(`${keys},seed=7`);
		const [again, memoryAgain] = octets(`${keys},seed=7`);
		expect(again.equals(stream) && memoryAgain.equals(memory)).toBe(true);
		const [other, otherMemory] = octets(`${keys},seed=8`);
		expect([other.equals(stream), otherMemory.equals(memory)]).toEqual([false, false]);
	});
});

describe("a synthetic host is valid", () => {
	const anySpec = (layout: SyntheticSpec["layout"]) =>
		fc.record({
			domains: fc.integer({ min: 1, max: 9 }),
			memory: fc.constantFrom(4 * MIB, 5000 * 1024, 6 * MIB, 16 * MIB, 33 * MIB),
			vcpus: fc.constantFrom(1, 2, 3, 5, 65, 128),
			layout: fc.constant(layout),
			ports: fc.constantFrom(0, 1, 8, 200, 1024),
			grants: fc.constantFrom(0, 1, 16, 300, 1024),
			seed: fc.nat(2 ** 32 - 1),
			width: fc.constantFrom(...widths),
		});

	it.each(layouts)("%s: checked, restored, identical, counts included", (layout) => {
		const holds = (spec: SyntheticSpec) => {
			const { model, preserved } = syntheticHost(spec);
			const { stream, memory, image } = saveModel(model, preserved);
			const checked = openCheck(stream, memory);
			const target = restoreAll(checked);
			// The image was built with countReferences' counts; the restored one has the core's.
			expect(checked.core.createContext().compare(checked.core.place(image), target)).toBeUndefined();
		};
		fc.assert(fc.property(anySpec(layout), holds), { numRuns: 25, seed: layouts.indexOf(layout) });
	});

	it.each(layouts)("%s: a live update of it is identical", async (layout) => {
		const made = host(`domains=5,memory=8M,layout=${layout}`);
		const report = await liveUpdate(made, { module: coreModule });
		expect([report.identical, report.difference, report.host]).toEqual([true, null, made.name]);
	});

	it("accepted wherever a HOST is: run, save, restore --compare, inspect", () => {
		const spec = "synthetic:domains=3,memory=4M";
		expect(loadHost(spec).model.domains.length).toBe(5);
		const run = xlu(["run", spec, "--json"]);
		expect([run.status, JSON.parse(run.stdout).identical]).toEqual([0, true]);
		const directory = mkdtempSync(join(tmpdir(), "xlu-"));
		try {
			const file = join(directory, "host.xlu");
			expect(xlu(["save", spec, "-o", file]).status).toBe(0);
			const compare = (other: string) => xlu(["restore", file, "--compare", other, "--json"]);
			const restored = compare(spec);
			expect([restored.status, JSON.parse(restored.stdout).identical]).toEqual([0, true]);
			expect(compare(`${spec},seed=2`).status).toBe(1);
		} finally {
			rmSync(directory, { recursive: true });
		}
		const inspected = xlu(["inspect", spec, "--json"]);
		const { domains, assumptions } = JSON.parse(inspected.stdout);
		expect([inspected.status, domains.length, assumptions]).toEqual([0, 5, []]);
		const refused = xlu(["inspect", "synthetic:domains=none"]);
		expect([refused.status, refused.stderr]).toEqual([2, expect.stringContaining("domains: expected a whole number")]);
	});
});

describe("a synthetic host has", () => {
	const { model, preserved } = host("domains=8,memory=16M,vcpus=3,seed=3");
	const references = countReferences(model, preserved);
	const living = model.domains.filter(({ domain }) => domain.life === LIFE.alive);
	const guests = living.filter(({ domain }) => domain.domid !== 0);
	const [dom0] = model.domains as [DomainModel];
	const ownerOf = (mfn: number) => Number(model.frameOwners[mfn]) & FRAME_OWNER_MASK;
	const viewOf = (mfn: number) => {
		const page = preserved.get(mfn) as Uint8Array;
		return new DataView(page.buffer, page.byteOffset, page.byteLength);
	};
	const entries = (domain: DomainModel) =>
		[...(domain.p2m ?? [])].map((entry, gfn) => ({
			gfn,
			entry,
			mfn: Number(BigInt.asUintN(40, entry)),
			type: Number(entry >> BigInt(P2M_BITS.type)) & 15,
			order: Number(entry >> BigInt(P2M_BITS.order)) & 63,
			isPresent: entry >> 63n === 1n,
		}));

	it("PV, PVH and HVM guests in turn, and both event ABIs with each kind", () => {
		expect(guests.map(({ domain }) => domain.kind)).toEqual([1, 2, 3, 1, 2, 3, 1, 2]);
		const pairs = new Set(guests.map((guest) => `${guest.domain.kind} ${guest.evtchn?.abi}`));
		expect([...pairs].sort()).toEqual(["1 0", "1 1", "2 0", "2 1", "3 0", "3 1"]);
		expect([dom0.domain.kind, dom0.evtchn?.abi]).toEqual([KIND.pv, EVTCHN_ABI.fifo]);
	});

	it("a dead domain, whose frames are owned, not allocated, and mapped by dom0", () => {
		const dead = model.domains.find(({ domain }) => domain.life === LIFE.dead) as DomainModel;
		const { domid } = dead.domain;
		const frames = [...model.frameOwners.keys()].filter(
			(mfn) => Number(model.frameOwners[mfn]) & FRAME.owned && ownerOf(mfn) === domid,
		);
		expect(frames.length).toBe(8);
		for (const mfn of frames) {
			expect(Number(model.frameOwners[mfn]) & FRAME.allocated).toBe(0);
			// One reference per mapping, none for "allocated".
			expect(references.frames[2 * mfn]).toBeGreaterThan(0);
		}
		const granted = new Set(dead.grantActive?.flatMap((grant) => (grant ? [Number(grant.mfn)] : [])));
		expect([...granted].sort((a, b) => a - b)).toEqual(frames);
		expect(dom0.maptrack?.some((map) => map?.domid === domid)).toBe(true);
	});

	it("grant tables of both versions, with grants that dom0 and neighbours have mapped", () => {
		const versions = new Set(guests.map(({ grantTable }) => grantTable?.version));
		expect([...versions].sort()).toEqual([1, 2]);
		for (const guest of guests) {
			const { domid } = guest.domain;
			expect([guest.statusFrames?.length, domid]).toEqual([guest.grantTable?.version === 2 ? 1 : 0, domid]);
			expect(dom0.maptrack?.filter((map) => map?.domid === domid).length).toBeGreaterThanOrEqual(16);
			const previous = guest.maptrack?.filter((map) => map !== undefined).map((map) => map?.domid);
			expect(previous).toEqual([domid - 1]);
		}
		const pins = (name: "hostWrite" | "hostRead" | "deviceWrite" | "deviceRead") =>
			guests.some((guest) => guest.grantActive?.some((grant) => Number(grant?.[name] ?? 0) > 0));
		expect([pins("hostWrite"), pins("hostRead"), pins("deviceWrite"), pins("deviceRead")]).toEqual(Array(4).fill(true));
	});

	it("an offline vCPU in every guest, initialised in some", () => {
		const last = guests.map((guest) => Number(guest.vcpu[2]?.flags));
		expect(last.every((flags) => flags & VCPU_FLAG.down)).toBe(true);
		expect(new Set(last.map((flags) => flags & VCPU_FLAG.initialised)).size).toBe(2);
		expect(guests.every((guest) => (Number(guest.vcpu[0]?.flags) & VCPU_FLAG.down) === 0)).toBe(true);
	});

	it("channels to dom0 and between guests, VIRQs, IPIs, PIRQs in dom0 and emulated ones", () => {
		const rows = (domain: DomainModel) => (domain.ports ?? []).filter((row) => row !== undefined);
		for (const guest of guests) {
			const to = rows(guest).filter(({ state }) => state === EVTCHN_STATE.interdomain);
			expect(to.filter(({ remoteDomid }) => remoteDomid === 0).length).toBeGreaterThanOrEqual(10);
			expect(to.some(({ remoteDomid }) => Number(remoteDomid) > 0)).toBe(true);
			const states = new Set(rows(guest).map(({ state }) => Number(state)));
			for (const state of [EVTCHN_STATE.virq, EVTCHN_STATE.ipi, EVTCHN_STATE.unbound, EVTCHN_STATE.reserved]) {
				expect(states).toContain(state);
			}
			expect(states.has(EVTCHN_STATE.pirq)).toBe(guest.domain.kind === KIND.hvm);
		}
		expect(rows(dom0).filter(({ state }) => state === EVTCHN_STATE.pirq).length).toBe(dom0.pirqList?.length);
		expect(model.virqHandlers?.length).toBe(1);
		const withoutWord = guests.flatMap((guest) => rows(guest)).filter(({ pending }) => pending === 1);
		expect(withoutWord.length).toBeGreaterThan(0);
	});

	it("FIFO queues whose links lead from head to tail, over pending ports that are not masked", () => {
		let queued = 0;
		for (const domain of living.filter(({ evtchn }) => evtchn?.abi === EVTCHN_ABI.fifo)) {
			const wordOf = (port: number) => {
				const array = domain.eventArrays?.[Math.floor(port / EVENT_WORDS_PER_FRAME)];
				return viewOf(Number(array?.mfn)).getUint32(4 * (port % EVENT_WORDS_PER_FRAME), true);
			};
			const reached = new Set<number>();
			for (const block of domain.controlBlocks ?? []) {
				const view = viewOf(Number(block.mfn));
				const offset = Number(block.offset);
				for (let priority = 0; priority < 16; priority++) {
					let port = view.getUint32(offset + 8 + 4 * priority, true);
					expect((view.getUint32(offset, true) >>> priority) & 1).toBe(port > 0 ? 1 : 0);
					let last = 0;
					for (; port !== 0; port = wordOf(port) & EVENT_WORD.link) {
						expect(wordOf(port) >>> 29).toBe(0b101);
						expect([domain.ports?.[port]?.lastVcpu, domain.ports?.[port]?.lastPriority]).toEqual([
							block.vcpuId,
							priority,
						]);
						reached.add(port);
						last = port;
					}
					expect(block.tail?.[priority]).toBe(last);
				}
			}
			const words = (domain.eventArrays?.length ?? 0) * EVENT_WORDS_PER_FRAME;
			const linked = Array.from({ length: words }, (_, port) => port).filter(
				(port) => wordOf(port) & EVENT_WORD.linked,
			);
			expect(linked).toEqual([...reached].sort((a, b) => a - b));
			queued += linked.length;
		}
		expect(queued).toBeGreaterThan(20);
	});

	it("I/O request servers of dom0 and of a stub domain, which has foreign entries of the guest's frames", () => {
		const hvm = guests.filter(({ domain }) => domain.kind === KIND.hvm);
		expect(hvm.map(({ ioreqServerList }) => ioreqServerList?.map(({ emulator }) => emulator))).toEqual([[0, 2], [0]]);
		const [first] = hvm as [DomainModel];
		const [, stub] = guests as [DomainModel, DomainModel];
		expect([stub.domain.kind, stub.domainState.target]).toEqual([KIND.pvh, first.domain.domid]);
		const foreign = entries(stub).filter(({ type, isPresent }) => isPresent && type === P2M_TYPE.foreign);
		expect(foreign.length).toBe(8);
		expect(foreign.every(({ mfn }) => ownerOf(mfn) === first.domain.domid)).toBe(true);
		// A server's page: allocated, the server, the emulator's mapping; one type reference (machine.md).
		for (const page of first.ioreqPages ?? []) {
			expect([references.frames[2 * Number(page.mfn)], references.frames[2 * Number(page.mfn) + 1]]).toEqual([3, 1]);
		}
		const resources = first.ioreqPages?.filter(({ flags }) => flags === IOREQ_PAGE_FLAG.resource) ?? [];
		expect(resources.length).toBe(2);
		for (const { mfn } of resources) expect(Number(model.frameOwners[Number(mfn)]) & FRAME.extra).not.toBe(0);
		expect(entries(first).some(({ type, isPresent }) => isPresent && type === P2M_TYPE.ioreqServer)).toBe(true);
	});

	it("populate-on-demand holes of both sizes, MMIO, read-only memory, grant mappings, superpages and broken blocks", () => {
		for (const guest of guests.filter(({ p2m }) => p2m)) {
			const all = entries(guest);
			const count = (type: number, isPresent: boolean, order?: number) =>
				all.filter(
					(e) => e.entry !== 0n && e.type === type && e.isPresent === isPresent && e.order === (order ?? e.order),
				).length;
			expect(count(P2M_TYPE.populateOnDemand, false, P2M_ORDER["2M"])).toBe(512);
			expect(count(P2M_TYPE.populateOnDemand, false, P2M_ORDER["4K"])).toBe(8);
			expect(count(P2M_TYPE.mmioDm, false)).toBe(1);
			expect(count(P2M_TYPE.mmioDirect, true)).toBe(guest.domain.kind === KIND.hvm ? 17 : 16);
			expect(count(P2M_TYPE.ramRo, true)).toBe(8);
			expect(count(P2M_TYPE.grantMapRw, true)).toBe(1);
			expect(count(P2M_TYPE.ramRw, true, P2M_ORDER["2M"])).toBeGreaterThan(0);
			expect(count(P2M_TYPE.ramRw, true, P2M_ORDER["4K"])).toBeGreaterThan(512);
			expect(guest.keptRanges?.[0]?.firstMfn).toBe(guest.keptRoots?.[0]?.rootMfn);
		}
	});

	const typeOf = (mfn: number) => (model.frameTypes[mfn] as number) & 7;
	const external = new Set(guests.filter(({ domain }) => domain.kind !== KIND.pv).map(({ domain }) => domain.domid));

	/** Tables by MFN with their level, and what the L1 tables map, entry by entry, as the hardware would walk them. */
	const walkTables = (domain: DomainModel) => {
		const { domid } = domain.domain;
		const tables = new Map<number, number>();
		const mapped: { mfn: number; isWritable: boolean }[] = [];
		const walk = (mfn: number, level: number): void => {
			expect([ownerOf(mfn), typeOf(mfn)]).toEqual([domid, level]);
			if (tables.has(mfn)) return;
			tables.set(mfn, level);
			const view = viewOf(mfn);
			for (let slot = 0; slot < 512; slot++) {
				const entry = view.getBigUint64(8 * slot, true);
				if ((entry & 1n) === 0n) continue;
				const to = Number((entry >> 12n) & 0xff_ffff_ffffn);
				if (level > 1) walk(to, level - 1);
				else mapped.push({ mfn: to, isWritable: (entry & 2n) !== 0n });
			}
		};
		const roots = [3, 1].map((register) => Number(domain.pvVcpu?.[0]?.cr?.[register]) / 4096);
		for (const root of roots) {
			walk(root, PAGE_TYPE.l4);
			expect((model.frameTypes[root] as number) & PAGE_TYPE_FLAG.pinned).not.toBe(0);
		}
		return { tables, mapped };
	};
	const pvDomains = living.filter(({ domain: { kind } }) => kind === KIND.pv);

	it("PV page tables, pinned, that map the domain's own frames and no table writable", () => {
		for (const domain of pvDomains) {
			const { tables, mapped } = walkTables(domain);
			expect(new Set(tables.values())).toEqual(new Set([1, 2, 3, 4]));
			const own = mapped.filter(({ mfn }) => ownerOf(mfn) === domain.domain.domid);
			expect(own.length).toBeGreaterThan(400);
			for (const { mfn, isWritable } of mapped) {
				if (isWritable && !external.has(ownerOf(mfn))) expect(typeOf(mfn)).toBe(PAGE_TYPE.writable);
			}
			const writable = new Set(mapped.filter(({ isWritable }) => isWritable).map(({ mfn }) => mfn));
			const descriptors = domain.pvVcpu?.flatMap((vcpu) => (vcpu?.gdtMfn ?? []).map(Number)) ?? [];
			for (const mfn of descriptors) expect([typeOf(mfn), writable.has(mfn)]).toEqual([PAGE_TYPE.segDesc, false]);
		}
	});

	it("an L1 entry of PV domains for every grant that the host's tables map for them, and for an emulator's pages", () => {
		const sorted = (list: { mfn: number; isWritable: boolean }[]) =>
			list.map(({ mfn, isWritable }) => 2 * mfn + (isWritable ? 1 : 0)).sort((a, b) => a - b);
		for (const domain of pvDomains) {
			const { domid } = domain.domain;
			const expected = (domain.maptrack ?? []).flatMap((map) => {
				const flags = Number(map?.flags ?? 0);
				if (!(flags & GRANT_MAP.host)) return [];
				const granter = model.domains.find((one) => one.domain.domid === map?.domid);
				const mfn = Number(granter?.grantActive?.[Number(map?.reference)]?.mfn);
				return [{ mfn, isWritable: !(flags & GRANT_MAP.readonly) }];
			});
			for (const guest of guests) {
				for (const page of guest.ioreqPages ?? []) {
					const server = guest.ioreqServerList?.find(({ serverId }) => serverId === page.serverId);
					if (server?.emulator === domid && page.flags === IOREQ_PAGE_FLAG.resource) {
						expected.push({ mfn: Number(page.mfn), isWritable: true });
					}
				}
			}
			const others = walkTables(domain).mapped.filter(({ mfn }) => ownerOf(mfn) !== domid);
			expect([domid, others.length > 0]).toEqual([domid, true]);
			expect(sorted(others)).toEqual(sorted(expected));
		}
	});

	it("a shared_info that carries 2/2 in PV domains, which map it themselves, as in the dumps of dom0; else 1/1", () => {
		for (const { sharedInfo, domain } of living) {
			const mfn = Number(sharedInfo?.mfn);
			const both = domain.kind === KIND.pv ? 2 : 1;
			expect([...references.frames.subarray(2 * mfn, 2 * mfn + 2)]).toEqual([both, both]);
		}
	});

	it("a type in use wherever a count says so, and nowhere else: tables, descriptors, writable frames", () => {
		const seen = new Map<number, number>();
		for (const [mfn, entry] of model.frameTypes.entries()) {
			const type = entry & 7;
			expect([mfn, type > 0]).toEqual([mfn, (references.frames[2 * mfn + 1] as number) > 0]);
			if (type === 0) continue;
			seen.set(type, (seen.get(type) ?? 0) + 1);
			if (external.has(ownerOf(mfn))) expect(entry).toBe(PAGE_TYPE.writable | PAGE_TYPE_FLAG.validated);
		}
		expect([...seen.keys()].sort()).toEqual([1, 2, 3, 4, PAGE_TYPE.segDesc, PAGE_TYPE.writable]);
		expect(seen.get(PAGE_TYPE.writable)).toBeGreaterThan(80);
	});

	it("frames of PVH and HVM guests that dom0 has mapped writable: typed by a device's mapping, not by the host's", () => {
		let typed = 0;
		let untyped = 0;
		for (const guest of guests.filter(({ domain }) => external.has(domain.domid))) {
			for (const grant of guest.grantActive ?? []) {
				if (!grant || Number(grant.grantee) !== 0 || !grant.hostWrite) continue;
				const mfn = Number(grant.mfn);
				expect(typeOf(mfn)).toBe(grant.deviceWrite ? PAGE_TYPE.writable : PAGE_TYPE.none);
				expect(references.frames[2 * mfn + 1]).toBe(grant.deviceWrite ?? 0);
				if (grant.deviceWrite) typed++;
				else untyped++;
			}
		}
		expect([typed > 0, untyped > 10]).toEqual([true, true]);
	});

	it("mapping tables beside dom0's memory where that has fewer frames than others have granted to it", () => {
		const { model: large, preserved: pages } = host("domains=40,memory=4M,vcpus=1,ports=0,grants=1024");
		const [first] = large.domains as [DomainModel];
		const handles = first.maptrack?.filter((map) => map).length ?? 0;
		expect(handles).toBeGreaterThan(40_000);
		const owned = [...large.frameTypes.keys()].filter(
			(mfn) => (Number(large.frameOwners[mfn]) & FRAME_OWNER_MASK) === 0 && (large.frameOwners[mfn] as bigint) > 0n,
		);
		const lowest = owned.filter((mfn) => ((large.frameTypes[mfn] as number) & 7) === PAGE_TYPE.l1);
		expect(lowest.length).toBeGreaterThan(handles / 512);
		expect(owned.length).toBeLessThanOrEqual(Number(first.domain.maxPages));
		const { stream, memory, image } = saveModel(large, pages);
		const checked = openCheck(stream, memory);
		const restored = restoreAll(checked);
		expect(checked.core.createContext().compare(checked.core.place(image), restored)).toBeUndefined();
	});
});

describe("layouts of a synthetic host", () => {
	/** Mean run of frames with the same owner, and of P2M entries that go on, among 4 KiB entries of memory. */
	const runsOf = ({ model }: Host) => {
		let owned = 0;
		let owners = 0;
		for (let mfn = 1; mfn < model.frameOwners.length; mfn++) {
			const entry = model.frameOwners[mfn] as bigint;
			const isGuest = (Number(entry) & FRAME_OWNER_MASK) < model.domains.length && Number(entry) & FRAME.allocated;
			if (!isGuest || Number(entry) & (FRAME.xenheap | FRAME.extra)) continue;
			owned++;
			if (entry !== model.frameOwners[mfn - 1]) owners++;
		}
		const orders = { 0: 0, 9: 0, 18: 0 } as Record<number, number>;
		let runs = 0;
		for (const { p2m } of model.domains) {
			p2m?.forEach((entry, gfn) => {
				const order = Number(entry >> BigInt(P2M_BITS.order)) & 63;
				const isMemory = entry >> 63n === 1n && (Number(entry >> BigInt(P2M_BITS.type)) & 15) === P2M_TYPE.ramRw;
				if (!isMemory) return;
				orders[order] = (orders[order] as number) + 1;
				if (order === 0 && entry !== (p2m[gfn - 1] ?? 0n) + 1n) runs++;
			});
		}
		const memory = Object.values(orders).reduce((sum, count) => sum + count, 0);
		return {
			ownerRun: owned / owners,
			smallRun: (orders[0] as number) / runs,
			share: (order: number) => (orders[order] as number) / memory,
		};
	};

	it("superpages: nearly all of the memory in 2 MiB pages, about one block in a hundred broken", () => {
		const { share, ownerRun } = runsOf(host("domains=3,memory=512M,layout=superpages"));
		expect(share(9)).toBeGreaterThan(0.96);
		expect(share(9)).toBeLessThan(0.995);
		expect(ownerRun).toBeGreaterThan(10_000);
	});

	it("superpages: 1 GiB pages where there is memory for them", () => {
		const { share } = runsOf(host("domains=2,memory=2G,layout=superpages"));
		expect(share(18)).toBeCloseTo(0.5, 3);
		expect(share(9)).toBeGreaterThan(0.47);
	});

	it("typical: half superpages, P2M runs of 64, owner runs of 350", () => {
		const { share, ownerRun, smallRun } = runsOf(host("domains=8,memory=128M,layout=typical"));
		expect(share(9)).toBeGreaterThan(0.45);
		expect(share(9)).toBeLessThan(0.55);
		expect(Math.abs(ownerRun - 350)).toBeLessThan(40);
		expect(Math.abs(smallRun - 64)).toBeLessThan(8);
	});

	it("fragmented: every frame anywhere", () => {
		const { share, ownerRun, smallRun } = runsOf(host("domains=8,memory=32M,layout=fragmented"));
		expect([share(0), ownerRun < 1.3, smallRun < 1.01]).toEqual([1, true, true]);
	});

	it("adversarial: alternating owners, every second entry a hole, descending MFNs", () => {
		const made = host("domains=8,memory=8M,layout=adversarial");
		const { ownerRun, smallRun } = runsOf(made);
		expect([ownerRun < 1.01, smallRun]).toEqual([true, 1]);
		for (const { p2m, domain } of made.model.domains) {
			if (!p2m) continue;
			const mfns = [...p2m.subarray(0, 4096)].map((entry) => Number(BigInt.asUintN(40, entry)));
			expect(mfns.filter((_, gfn) => gfn % 2 === 1).every((mfn) => mfn === 0)).toBe(true);
			const memory = mfns.filter((_, gfn) => gfn % 2 === 0);
			expect([domain.domid, memory.every((mfn, i) => i === 0 || mfn < (memory[i - 1] as number))]).toEqual([
				domain.domid,
				true,
			]);
		}
	});
});

interface TableEntry {
	slot: number;
	mfn: number;
	isWritable: boolean;
}

describe("a synthetic host with 32-bit PV guests", () => {
	const made = host("domains=10,memory=16M,vcpus=3,ports=60,seed=5,width=mixed");
	const { model, preserved } = made;
	const narrow = model.domains.filter(({ domain }) => domain.guestWidth === 4);
	const references = countReferences(model, preserved);
	const countsOf = (mfn: number) => [references.frames[2 * mfn], references.frames[2 * mfn + 1]];
	const typeOf = (mfn: number) => model.frameTypes[mfn] as number;
	const viewOf = (mfn: number) => {
		const page = preserved.get(mfn) as Uint8Array;
		return new DataView(page.buffer, page.byteOffset, page.byteLength);
	};
	const entriesOf = (mfn: number): TableEntry[] =>
		Array.from({ length: 512 }, (_, slot) => ({ slot, entry: viewOf(mfn).getBigUint64(8 * slot, true) }))
			.filter(({ entry }) => (entry & 1n) === 1n)
			.map(({ slot, entry }) => ({
				slot,
				mfn: Number((entry >> 12n) & 0xff_ffff_ffffn),
				isWritable: (entry & 2n) !== 0n,
			}));

	it("of PV guests first one of 64 bits, then two of 32, of which one has 2-level and one FIFO channels", () => {
		const kinds = model.domains.map(({ domain }) => [domain.kind, domain.guestWidth]);
		const [pv, pvh, hvm] = [KIND.pv, KIND.pvh, KIND.hvm];
		const others = [
			[pvh, 8],
			[hvm, 8],
		];
		// dom0; the guests; the dead one.
		expect(kinds).toEqual([[pv, 8], [pv, 8], ...others, [pv, 4], ...others, [pv, 4], ...others, [pv, 8], [pv, 8]]);
		expect(narrow.map(({ evtchn }) => evtchn?.abi)).toEqual([EVTCHN_ABI.twoLevel, EVTCHN_ABI.fifo]);
		const all = host("domains=4,memory=4M,width=32").model.domains;
		expect(all.map(({ domain }) => domain.guestWidth)).toEqual([8, 4, 8, 8, 4, 8]);
	});

	it("tables of three levels: one L3 of two entries, pinned, whose last leads to the L2 with Xen's part", () => {
		for (const { domain, pv32, pv32Vcpu, pvVcpu } of narrow) {
			expect([domain.domid, pv32?.xenStart, pvVcpu]).toEqual([domain.domid, 0xf580_0000, undefined]);
			const roots = new Set(pv32Vcpu?.flatMap((row) => (row ? [Number(row.cr3) / 4096] : [])));
			expect(roots.size).toBe(1);
			const [root] = roots as unknown as [number];
			const { pinned, validated, paeXenL2 } = PAGE_TYPE_FLAG;
			expect(typeOf(root)).toBe(PAGE_TYPE.l3 | validated | pinned);
			const [user, kernel] = entriesOf(root) as [TableEntry, TableEntry];
			expect([entriesOf(root).length, user.slot, kernel.slot]).toEqual([2, 0, 3]);
			expect([user, kernel].map(({ mfn }) => typeOf(mfn))).toEqual([
				PAGE_TYPE.l2 | validated,
				PAGE_TYPE.l2 | validated | paeXenL2,
			]);
			// Slot 0x1ac is where 0xf5800000 lies in the last GiB.
			const slots = entriesOf(kernel.mfn).filter(({ slot }) => slot < 0x1ac);
			expect(entriesOf(kernel.mfn).length).toBe(slots.length + 2);
			expect(slots.length).toBeGreaterThanOrEqual(2);
			for (const { mfn } of slots) expect(typeOf(mfn)).toBe(PAGE_TYPE.l1 | validated);
			const first = slots.find(({ slot }) => slot === 0)?.mfn as number;
			expect(entriesOf(user.mfn).map(({ slot, mfn }) => [slot, mfn])).toEqual([
				[64, first],
				[511, user.mfn],
			]);
			// Allocated, its own entry in an L1, and: pinned and run on by each vCPU; the entry above; two entries above.
			const vcpus = pv32Vcpu?.filter((row) => row).length as number;
			const mapped = (mfn: number) =>
				slots.flatMap((slot) => entriesOf(slot.mfn)).filter((entry) => entry.mfn === mfn).length;
			const counts = (mfn: number, types: number) => expect(countsOf(mfn)).toEqual([1 + mapped(mfn) + types, types]);
			counts(root, 1 + vcpus);
			counts(user.mfn, 1);
			counts(kernel.mfn, 1);
			counts(first, 2);
		}
	});

	it("contexts of 32 bits, that run within the guest's part of the addresses", () => {
		for (const { pv32Vcpu, vcpu, pvTraps } of narrow) {
			const rows = pv32Vcpu?.filter((row) => row) ?? [];
			expect(rows.length).toBe(vcpu.filter((row) => Number(row?.flags) & VCPU_FLAG.initialised).length);
			for (const row of rows) expect([row?.cs, Number(row?.eip) >>> 24]).toEqual([0xe019, 0xc1]);
			for (const { address } of pvTraps?.[0] ?? []) expect(Number(address)).toBeLessThan(0xf580_0000);
			for (const row of vcpu) expect(Number(row?.runstateAddress)).toBeLessThan(2 ** 32);
		}
	});

	it("2-level bits in words of 32, behind 32 vcpu_info; a guest with more channels than they have room for has FIFO", () => {
		const [guest] = narrow as [DomainModel];
		const page = viewOf(Number(guest.sharedInfo?.mfn));
		const bit = (at: number, port: number) => (page.getUint8(at + (port >>> 3)) >> (port & 7)) & 1;
		const ports =
			guest.ports?.flatMap((row, port) => (Number(row?.state ?? 0) > EVTCHN_STATE.reserved ? [port] : [])) ?? [];
		const pending = ports.filter((port) => bit(2048, port) === 1);
		expect(pending.length).toBeGreaterThan(0);
		const told = pending.filter((port) => bit(2048 + 128, port) === 0);
		expect(told.some((port) => port >= 32)).toBe(true);
		// Whose vcpu_info has the word's bit: evtchn_pending_sel stands at octet 4.
		for (const port of told) {
			expect(bit(64 * Number(guest.ports?.[port]?.notifyVcpu ?? 0) + 4, Math.floor(port / 32))).toBe(1);
		}
		const many = host("domains=4,memory=4M,ports=1000,width=mixed").model.domains.filter(
			({ domain }) => domain.guestWidth === 4,
		);
		expect(many.map(({ evtchn, ports }) => [evtchn?.abi, Number(ports?.length) > 1024])).toEqual([
			[EVTCHN_ABI.fifo, true],
		]);
	});

	it("virtual NUMA of these guests, and shares of every living domain, of a pool with reservations too", () => {
		expect(narrow.map(({ vnumaNodes, vnumaVcpus }) => [vnumaNodes?.length, vnumaVcpus?.length])).toEqual([
			[2, 3],
			[2, 3],
		]);
		const living = model.domains.filter(({ domain }) => domain.life === LIFE.alive);
		const pools = new Map(model.poolList.map(({ poolId, scheduler }) => [poolId, scheduler]));
		for (const { domain, scheduler } of living) expect(scheduler?.scheduler).toBe(pools.get(Number(domain.cpupoolId)));
		expect(narrow.map(({ schedulerVcpus }) => schedulerVcpus?.length)).toEqual([undefined, 3]);
	});

	it("the core restores it with the same counts; saved for a xen#2 that knows version 1, it is refused by name", async () => {
		const report = await liveUpdate(made, { module: coreModule });
		expect([report.identical, report.difference, report.host]).toEqual([true, null, made.name]);
		const spec = "synthetic:domains=4,memory=4M,width=mixed";
		expect(xlu(["audit", spec])).toMatchObject({ status: 0, stdout: expect.stringContaining("clean") });
		const directory = mkdtempSync(join(tmpdir(), "xlu-"));
		try {
			const file = join(directory, "host.xlu");
			expect(xlu(["save", spec, "--format", "1", "-o", file])).toMatchObject({
				status: 1,
				stderr: expect.stringMatching(/XLU-R047.*LU_PV32, domain 4/),
			});
			expect(readdirSync(directory)).toEqual([]);
			expect(xlu(["save", spec, "-o", file]).status).toBe(0);
			const inspected = xlu(["inspect", file]).stdout;
			for (const name of ["LU_PV32 ", "LU_PV32_VCPU", "LU_VNUMA", "LU_SCHEDULER"]) expect(inspected).toContain(name);
		} finally {
			rmSync(directory, { recursive: true });
		}
	});

	it("lives on: a machine made of it takes operations on its tables, and an update between them", () => {
		const machine = Machine.fromHost(made);
		checkInvariants(machine);
		const [guest] = narrow as [DomainModel];
		const { domid } = guest.domain;
		const root = Number(guest.pv32Vcpu?.[0]?.cr3) / 4096;
		const { mfn: user } = entriesOf(root)[0] as { mfn: number };
		const { mfn: lowest } = entriesOf(user)[0] as { mfn: number };
		const remove = { op: "mmu_update", domid, table: user, slot: 64, value: "0x0" };
		const before = machine.frames.typeReferences(lowest);
		done(machine, remove);
		const { machine: updated, before: image, after } = updateMachine(machine);
		expect(imageDifference(image, after)).toBeUndefined();
		expect(updated.frames.typeReferences(lowest)).toBe(before - 1);
		checkInvariants(updated);
	});
});
