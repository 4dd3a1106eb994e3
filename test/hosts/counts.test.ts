/**
 * The counts that reality fixes, on what xen#2 rebuilt: none of them is in the stream, all are in the
 * hypervisor's own dumps.
 */
import { describe, expect, it } from "vitest";
import { FRAME, FRAME_OWNER_MASK, KIND, LIFE, PAGE_TYPE, PAGE_TYPE_FLAG } from "../../src/format/enums.ts";
import type { DomainModel, HostModel } from "../../src/machine/model.ts";
import { countReferences } from "../../src/machine/references.ts";
import { heldByTables, plus } from "../support/heldByTables.ts";
import { fixtureText, updatedFixture } from "../support/hosts.ts";
import { type DumpedPage, dumpedDomains, dumpedGrants } from "./dumps.ts";

const hosts = [
	{ name: "pv", domid: 1 },
	{ name: "pvh", domid: 1 },
	{ name: "hvm", domid: 4 },
] as const;

const countOf = ({ references, typeReferences }: DumpedPage) => ({ references, typeReferences });

describe.each(hosts)("counts that xen#2 rebuilt of the captured $name host", ({ name, domid }) => {
	/** Of dom0 no capture has page tables, and HVM and PVH guests have none that count. */
	const held = async (): Promise<Pick<ReturnType<typeof heldByTables>, "of" | "sum">> => {
		const none = { references: 0, typeReferences: 0 };
		return name === "pv" ? heldByTables(await updatedFixture(name), domid) : { of: () => none, sum: none };
	};
	const domains = dumpedDomains(fixtureText(`${name}/debugkey-q.txt`));
	const grants = dumpedGrants(fixtureText(`${name}/debugkey-g.txt`));

	it("a domain's references are the dump's refcnt: 1 + has pages + has xenheap pages + emulators pointing at it", async () => {
		const updated = await updatedFixture(name);
		expect(domains.map(({ refcnt }) => refcnt)).toEqual([name === "hvm" ? 4 : 3, 3]);
		for (const { domid: id, refcnt } of domains) {
			expect([id, updated.rows("DomainCounts", id)[0]?.references]).toEqual([id, refcnt]);
		}
	});

	it("a domain's frames are the dump's nr_pages, and its xenheap pages shared_info, grant and status frames", async () => {
		const updated = await updatedFixture(name);
		for (const { domid: id, nrPages, xenheapPages, pages } of domains) {
			const extra = pages.filter(({ list }) => list === "ExtraPage").length;
			expect(updated.rows("DomainCounts", id)[0]).toMatchObject({
				frames: nrPages,
				xenheapFrames: xenheapPages,
				extraFrames: extra,
			});
			const shared = [
				...updated.rows("SharedInfo", id),
				...updated.rows("GrantFrames", id),
				...updated.rows("StatusFrames", id),
			].map(({ mfn }) => mfn as number);
			expect(shared.length).toBe(xenheapPages);
			expect(shared.sort()).toEqual(
				pages
					.filter(({ list }) => list === "XenPage")
					.map(({ mfn }) => mfn)
					.sort(),
			);
		}
	});

	it("a guest's xenheap pages carry one reference and one type reference, as in the dump", async () => {
		const updated = await updatedFixture(name);
		const pages =
			domains.find((domain) => domain.domid === domid)?.pages.filter(({ list }) => list === "XenPage") ?? [];
		expect(pages.length).toBe(3);
		for (const page of pages) {
			expect(countOf(page)).toEqual({ references: 1, typeReferences: 1 });
			expect(updated.counts(page.mfn)).toEqual(countOf(page));
		}
	});

	it("dom0's xenheap pages carry 1/1: the dump's 2/2 come from dom0's own page tables, which no capture has", async () => {
		const updated = await updatedFixture(name);
		const pages = domains.find((domain) => domain.domid === 0)?.pages ?? [];
		expect(pages.map(countOf)).toEqual(new Array(2).fill({ references: 2, typeReferences: 2 }));
		for (const { mfn } of pages) expect(updated.counts(mfn)).toEqual({ references: 1, typeReferences: 1 });
	});

	it("13 active grants hold 15 host-write pins, and dom0's maptrack 15 handles", async () => {
		const updated = await updatedFixture(name);
		const active = updated.rows("GrantActive", domid).filter(({ mfn }) => mfn !== 0);
		expect(active.length).toBe(13);
		expect(active.reduce((sum, { hostWrite }) => sum + (hostWrite as number), 0)).toBe(15);
		expect(active.every(({ hostRead, deviceRead, deviceWrite }) => !hostRead && !deviceRead && !deviceWrite)).toBe(
			true,
		);
		expect(updated.rows("Maptrack", 0).filter(({ flags }) => flags).length).toBe(15);
	});

	it(`a granted frame carries 1 + its mappings, and ${name === "pv" ? "as many" : "no"} type references`, async () => {
		const updated = await updatedFixture(name);
		const { of } = await held();
		expect(grants.length).toBe(13);
		for (const { mfn, hostWrite } of grants) {
			const typeReferences = name === "pv" ? hostWrite : 0;
			expect([mfn, updated.counts(mfn)]).toEqual([mfn, plus(of(mfn), 1 + hostWrite, typeReferences)]);
		}
	});

	it("each vCPU's control block and each event array carry one more reference and a writable-type one", async () => {
		const updated = await updatedFixture(name);
		const { of } = await held();
		for (const id of updated.domids) {
			const vcpus = updated.rows("VcpuSlots", id).length;
			const blocks = updated.rows("ControlBlocks", id);
			const arrays = updated.rows("EventArrays", id);
			expect([blocks.length, arrays.length]).toEqual([vcpus, 1]);
			for (const { mfn } of [...blocks, ...arrays]) {
				expect(updated.owner(mfn as number) & FRAME_OWNER_MASK).toBe(id);
				expect(updated.counts(mfn as number)).toEqual(plus(of(mfn as number), 2, 1));
			}
		}
	});

	it("nothing else carries more than it has for being allocated: the sums are right", async () => {
		const updated = await updatedFixture(name);
		const counts = new Uint32Array(updated.octets("FrameCounts").buffer);
		const references = counts.reduce((sum, count, i) => sum + (i % 2 === 0 ? count : 0), 0);
		const typeReferences = counts.reduce((sum, count, i) => sum + (i % 2 === 1 ? count : 0), 0);
		const owners = new BigUint64Array(updated.octets("FrameOwners").buffer);
		const allocated = owners.reduce((sum, entry) => sum + (Number(entry) & FRAME.allocated ? 1 : 0), 0);
		const xenheap = domains.reduce((sum, domain) => sum + domain.xenheapPages, 0);
		const eventPages = 3 + 2;
		const servers = name === "hvm" ? 2 : 0;
		const { sum } = await held();
		// Allocated frames; 15 mappings; event pages; a server's page twice more (the server, its emulator); page tables.
		expect(references).toBe(allocated + 15 + eventPages + 2 * servers + sum.references);
		expect(typeReferences).toBe(xenheap + (name === "pv" ? 15 : 0) + eventPages + servers + sum.typeReferences);
	});
});

describe("counts that one kind of guest alone has", () => {
	it("an I/O request server's two extra pages carry 3 references and 1 type reference, as in the dump", async () => {
		const updated = await updatedFixture("hvm");
		const extra = dumpedDomains(fixtureText("hvm/debugkey-q.txt"))
			.flatMap(({ pages }) => pages)
			.filter(({ list }) => list === "ExtraPage");
		expect(extra.map(countOf)).toEqual(new Array(2).fill({ references: 3, typeReferences: 1 }));
		for (const page of extra) {
			expect(updated.counts(page.mfn)).toEqual(countOf(page));
			expect(updated.owner(page.mfn)).toBe(4 | FRAME.owned | FRAME.allocated | FRAME.extra);
		}
		expect(updated.rows("IoreqPages", 4).map(({ mfn }) => mfn)).toEqual(extra.map(({ mfn }) => mfn));
	});

	it("a PV guest's 13,864 present L1 entries lie inside its 10,240 frames, and no read-write one points at a table", async () => {
		const updated = await updatedFixture("pv");
		const { entries, owns } = heldByTables(updated, 1);
		const types = updated.octets("FrameTypes").map((entry) => entry & 7);
		const lowest = entries.filter(({ level }) => level === PAGE_TYPE.l1);
		expect([lowest.length, updated.rows("DomainCounts", 1)[0]?.frames]).toEqual([13_864, 10_240]);
		expect(lowest.filter(({ target }) => !owns(target))).toEqual([]);
		const writable = lowest.filter((entry) => entry.writable);
		expect(writable.length).toBeGreaterThan(5000);
		expect(writable.filter(({ target }) => types[target] !== PAGE_TYPE.writable)).toEqual([]);
	});

	it("a PV guest's tables hold each other: every entry above L1 names a table one level lower", async () => {
		const updated = await updatedFixture("pv");
		const { entries, of } = heldByTables(updated, 1);
		const types = updated.octets("FrameTypes");
		const level = (mfn: number) => (types[mfn] as number) & 7;
		const upper = entries.filter((entry) => entry.level > 1);
		expect(upper.length).toBeGreaterThan(30);
		for (const entry of upper) expect(level(entry.target)).toBe(entry.level - 1);
		// A table that nothing holds would not be in use.
		for (const mfn of types.keys()) {
			if (level(mfn) < 1 || level(mfn) > 4) continue;
			expect(of(mfn).typeReferences).toBeGreaterThan(0);
			expect(updated.counts(mfn)).toEqual(plus(of(mfn), 1, 0));
		}
	});

	it("a PV guest's roots carry a reference for their pin, one for each CR3 and CR1, and its GDT frames theirs", async () => {
		const updated = await updatedFixture("pv");
		const registers = updated.bigRows("PvVcpu", 1) as unknown as { cr: bigint[]; gdtMfn: bigint[] }[];
		expect(registers.length).toBe(2);
		const roots = registers.flatMap(({ cr }) => [cr[3], cr[1]] as bigint[]).filter((root) => root > 0n);
		const types = updated.octets("FrameTypes");
		for (const mfn of new Set(roots.map((root) => Number(root >> 12n)))) {
			const uses = roots.filter((root) => Number(root >> 12n) === mfn).length;
			const pin = (types[mfn] as number) & PAGE_TYPE_FLAG.pinned ? 1 : 0;
			expect((types[mfn] as number) & 7).toBe(PAGE_TYPE.l4);
			expect(updated.counts(mfn).typeReferences).toBe(pin + uses);
		}
		for (const { gdtMfn } of registers) {
			const mfn = Number(gdtMfn[0]);
			expect([updated.type(mfn) & 7, updated.counts(mfn).typeReferences]).toEqual([PAGE_TYPE.segDesc, 1]);
		}
	});

	it("frame by frame, a PV host's counts are what its records and page contents hold, and nothing else", async () => {
		const updated = await updatedFixture("pv");
		const { of } = heldByTables(updated, 1);
		const owners = new BigUint64Array(updated.octets("FrameOwners").buffer);
		const expected = new Uint32Array(2 * owners.length);
		const add = (mfn: number, references: number, typeReferences: number) => {
			expected[2 * mfn] = (expected[2 * mfn] as number) + references;
			expected[2 * mfn + 1] = (expected[2 * mfn + 1] as number) + typeReferences;
		};
		for (let mfn = 0; mfn < owners.length; mfn++) {
			const entry = Number(owners[mfn]);
			if (entry & FRAME.owned) add(mfn, entry & FRAME.allocated ? 1 : 0, 0);
			if (entry & FRAME.xenheap && (entry & FRAME_OWNER_MASK) < 0x7ff0) add(mfn, 0, 1);
			add(mfn, of(mfn).references, of(mfn).typeReferences);
		}
		for (const { mfn, hostWrite } of dumpedGrants(fixtureText("pv/debugkey-g.txt"))) add(mfn, hostWrite, hostWrite);
		for (const id of updated.domids) {
			for (const { mfn } of updated.rows("ControlBlocks", id)) add(mfn as number, 1, 1);
			for (const { mfn } of updated.rows("EventArrays", id)) add(mfn as number, 1, 1);
		}
		expect(Buffer.compare(updated.octets("FrameCounts"), Buffer.from(expected.buffer))).toBe(0);
		// A type is in use wherever a count says so, and none is in use elsewhere.
		const types = updated.octets("FrameTypes");
		const odd = [...types.keys()].filter(
			(mfn) => (((types[mfn] as number) & 7) === 0) !== ((expected[2 * mfn + 1] as number) === 0),
		);
		expect(odd).toEqual([]);
	});
});

describe("a dead domain's frames, from the dumps of a host with two (fixtures, zombie)", () => {
	const dumped = dumpedDomains(fixtureText("zombie/debugkey-q.txt"));
	const grants = dumpedGrants(fixtureText("zombie/debugkey-g.txt"));
	const kinds = new Map([
		[0, KIND.pv],
		[1, KIND.pv],
		[2, KIND.pvh],
		[3, KIND.pvh],
	]);

	/** A model of no more than what counts: owners and grants. */
	function zombieHost(): HostModel {
		const frameOwners = new BigUint64Array(0xc0000);
		for (const { domid, pages } of dumped) {
			for (const { mfn, list, isAllocated } of pages) {
				const flags = FRAME.owned | (isAllocated ? FRAME.allocated : 0) | (list === "XenPage" ? FRAME.xenheap : 0);
				frameOwners[mfn] = BigInt(domid | flags);
			}
		}
		const domains = dumped.map(({ domid, dying }): DomainModel => {
			const own = grants.filter((grant) => grant.domid === domid);
			return {
				domain: { domid, kind: kinds.get(domid) as number, life: dying === 2 ? LIFE.dead : LIFE.alive },
				vcpuIds: [],
				vcpu: [],
				domainState: { pirqEoiMfn: (1n << 64n) - 1n, target: 0x7ff4 },
				grantActive: own.map(({ mfn, grantee, ...pins }) => ({
					mfn,
					grantee,
					hostRead: pins.hostRead,
					hostWrite: pins.hostWrite,
					deviceRead: pins.deviceRead,
					deviceWrite: pins.deviceWrite,
				})),
			};
		});
		return {
			version: {},
			versionText: "",
			host: {},
			m2pRanges: [],
			regionList: [],
			poolList: [],
			poolCpus: [],
			frameOwners,
			frameTypes: new Uint8Array(frameOwners.length),
			domains,
		};
	}

	it.each([
		[1, 0xf493, 1, 0],
		[1, 0xf50a, 4, 2],
		[1, 0xf58b, 2, 0],
		[1, 0xf5a5, 2, 2],
		[3, 0xa29c, 2, 0],
		[3, 0xa2a7, 2, 0],
	])(
		"domain %i, frame %x: one reference per mapping and none for allocated; writable types of a PV guest alone",
		(domid, mfn, references, typeReferences) => {
			const page = dumped.find((domain) => domain.domid === domid)?.pages.find((row) => row.mfn === mfn);
			// What the hypervisor printed, and what the rules make of the grants.
			expect(page && { ...countOf(page), isAllocated: page.isAllocated }).toEqual({
				references,
				typeReferences,
				isAllocated: false,
			});
			const { frames } = countReferences(zombieHost(), new Map());
			expect({ references: frames[mfn * 2], typeReferences: frames[mfn * 2 + 1] }).toEqual({
				references,
				typeReferences,
			});
		},
	);

	it("a dead domain has one reference, for its frames, and the living ones theirs, as in the dump", () => {
		const { domains } = countReferences(zombieHost(), new Map());
		for (const { domid, refcnt, pages, nrPages, xenheapPages } of dumped) {
			const sums = domains.get(domid);
			// Of domains 0 and 2 the dump lists xenheap pages alone.
			const unlisted = pages.some(({ list }) => list === "DomPage") ? 0 : 1;
			expect([domid, (sums?.references ?? 0) + unlisted]).toEqual([domid, refcnt]);
			expect(sums?.xenheapFrames).toBe(xenheapPages);
			if (!unlisted) expect(sums?.frames).toBe(nrPages);
		}
		expect(dumped.filter(({ dying }) => dying === 2).map(({ refcnt }) => refcnt)).toEqual([1, 1]);
	});
});
