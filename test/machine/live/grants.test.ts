/** Grants: mapped by PV and PVH domains, of all kinds of guests, for the host and for devices; both versions of the table. */
import { describe, expect, test } from "vitest";
import { GRANT_MAP, P2M_TYPE } from "../../../src/format/enums.ts";
import type { Machine } from "../../../src/machine/live/index.ts";
import { updateMachine } from "../../../src/update.ts";
import { coreModule } from "../../support/core.ts";
import { baseMachine } from "../../support/living.ts";
import {
	checkInvariants,
	done,
	doneAll,
	freeFrames,
	mfnOf,
	pte,
	pvLayout,
	references,
	refused,
} from "../../support/operations.ts";

const [DOM0, PV, HVM, STUB] = [0, 1, 2, 3];
/** GTF_permit_access, _readonly, _reading, _writing. */
const [PERMIT, READONLY, READING, WRITING] = [1, 4, 8, 16];
const SLOT = 200;

const grantOf = (domid: number, ref: number, grantee: number, gfn: number, readonly = false) => ({
	op: "grant_access",
	domid,
	ref,
	grantee,
	gfn,
	readonly,
});
const mapBy = (domid: number, granter: number, ref: number, place: object, kind = "host", readonly = false) => ({
	op: "gnttab_map_grant_ref",
	domid,
	granter,
	ref,
	kind,
	readonly,
	...place,
});
const unmapBy = (domid: number, handle: number, place: object = {}) => ({
	op: "gnttab_unmap_grant_ref",
	domid,
	handle,
	...place,
});
const slotOf = (machine: Machine, slot = SLOT, domid = DOM0) => ({ table: pvLayout(machine, domid).l1, slot });

/** A version 1 entry's flags, of version 2 flags and status. */
function flagsOf(machine: Machine, domid: number, ref: number): number[] {
	const { grantTable, grantFrames, statusFrames } = machine.domain(domid).tables;
	const word = (mfn: bigint | undefined, offset: number): number => {
		const page = machine.memory.look(Number(mfn));
		return new DataView(page.buffer, page.byteOffset).getUint16(offset, true);
	};
	if (grantTable?.version === 1) return [word(grantFrames[0]?.mfn, 8 * ref)];
	return [word(grantFrames[0]?.mfn, 16 * ref), word(statusFrames[0]?.mfn, 2 * ref)];
}
const pinsOf = (machine: Machine, domid: number, ref: number) => {
	const row = machine.domain(domid).tables.grantActive[ref];
	return row && [row.hostWrite, row.hostRead, row.deviceWrite, row.deviceRead];
};

describe("a mapping by a PV domain", () => {
	test("stands in an L1 entry, pins the grant, tells the guest, and types the frame of a PV guest", () => {
		const machine = baseMachine();
		const mfn = pvLayout(machine, PV).plain[3] as number;
		const place = slotOf(machine);
		done(machine, grantOf(PV, 8, DOM0, mfn));
		expect(flagsOf(machine, PV, 8)).toEqual([PERMIT]);
		expect(done(machine, mapBy(DOM0, PV, 8, place))).toBe(0);
		expect(machine.memory.entry(place.table, SLOT)).toBe(BigInt(pte(mfn, "rw")));
		expect(references(machine, mfn)).toEqual([3, 2]);
		expect(pinsOf(machine, PV, 8)).toEqual([1, 0, 0, 0]);
		expect(machine.domain(PV).tables.grantActive[8]).toMatchObject({ mfn: BigInt(mfn), grantee: DOM0 });
		expect(machine.domain(DOM0).tables.maptrack[0]).toEqual({
			reference: 8,
			vcpuId: 0,
			domid: PV,
			flags: GRANT_MAP.host,
		});
		expect(flagsOf(machine, PV, 8)).toEqual([PERMIT | READING | WRITING]);
		checkInvariants(machine);
		done(machine, unmapBy(DOM0, 0, place));
		expect(machine.memory.entry(place.table, SLOT)).toBe(0n);
		expect(references(machine, mfn)).toEqual([2, 1]);
		expect(pinsOf(machine, PV, 8)).toBeUndefined();
		expect(machine.domain(DOM0).tables.maptrack[0]).toBeUndefined();
		expect(flagsOf(machine, PV, 8)).toEqual([PERMIT]);
		checkInvariants(machine);
	});

	test("does not type the frame of a guest with a P2M, but a device's mapping does", () => {
		const machine = baseMachine();
		const mfn = mfnOf(machine, HVM, 5) as number;
		done(machine, grantOf(HVM, 8, DOM0, 5));
		done(machine, mapBy(DOM0, HVM, 8, slotOf(machine)));
		expect(references(machine, mfn)).toEqual([2, 0]);
		done(machine, mapBy(DOM0, HVM, 8, {}, "device"));
		expect(references(machine, mfn)).toEqual([3, 1]);
		done(machine, mapBy(DOM0, HVM, 8, slotOf(machine, SLOT + 1), "both"));
		expect(references(machine, mfn)).toEqual([5, 2]);
		expect(pinsOf(machine, HVM, 8)).toEqual([2, 0, 2, 0]);
		done(machine, mapBy(DOM0, HVM, 8, {}, "device", true));
		expect(references(machine, mfn)).toEqual([6, 2]);
		checkInvariants(machine);
		doneAll(machine, unmapBy(DOM0, 2, slotOf(machine, SLOT + 1)), unmapBy(DOM0, 3), unmapBy(DOM0, 0, slotOf(machine)));
		expect(references(machine, mfn)).toEqual([2, 1]);
		expect(flagsOf(machine, HVM, 8)).toEqual([PERMIT | READING | WRITING]);
		done(machine, unmapBy(DOM0, 1));
		expect(references(machine, mfn)).toEqual([1, 0]);
		expect(flagsOf(machine, HVM, 8)).toEqual([PERMIT]);
		checkInvariants(machine);
	});

	test("to read takes no type; the last one to write clears the writing status alone", () => {
		const machine = baseMachine();
		const mfn = done(machine, { op: "populate_physmap", domid: PV });
		doneAll(
			machine,
			grantOf(PV, 8, DOM0, mfn),
			mapBy(DOM0, PV, 8, slotOf(machine), "host", true),
			mapBy(DOM0, PV, 8, slotOf(machine, SLOT + 1)),
		);
		expect(machine.memory.entry(slotOf(machine).table, SLOT)).toBe(BigInt(pte(mfn, "ro")));
		expect(references(machine, mfn)).toEqual([3, 1]);
		expect(pinsOf(machine, PV, 8)).toEqual([1, 1, 0, 0]);
		done(machine, unmapBy(DOM0, 1, slotOf(machine, SLOT + 1)));
		expect(references(machine, mfn)).toEqual([2, 0]);
		expect(flagsOf(machine, PV, 8)).toEqual([PERMIT | READING]);
	});

	test("replaces what the slot held, whose references are dropped", () => {
		const machine = baseMachine();
		const { l1, plain } = pvLayout(machine, DOM0);
		const mfn = pvLayout(machine, PV).plain[0] as number;
		done(machine, grantOf(PV, 8, DOM0, mfn));
		done(machine, mapBy(DOM0, PV, 8, { table: l1, slot: 0 }));
		expect(references(machine, plain[0] as number)).toEqual([1, 0]);
		checkInvariants(machine);
	});

	test("that the guest has overwritten cannot be undone: the pins stay", () => {
		const machine = baseMachine();
		const mfn = pvLayout(machine, PV).plain[3] as number;
		const place = slotOf(machine);
		doneAll(machine, grantOf(PV, 8, DOM0, mfn), mapBy(DOM0, PV, 8, place));
		done(machine, { op: "mmu_update", domid: DOM0, ...place, value: "0x0" });
		expect(references(machine, mfn)).toEqual([2, 1]);
		refused(machine, unmapBy(DOM0, 0, place), "GNTST_general_error");
		expect(pinsOf(machine, PV, 8)).toEqual([1, 0, 0, 0]);
		checkInvariants(machine);
		// Nor where it never was, or as what it is not.
		const other = slotOf(machine, SLOT + 1);
		done(machine, mapBy(DOM0, PV, 8, other, "host", true));
		refused(machine, unmapBy(DOM0, 0, other), "GNTST_general_error");
		refused(machine, unmapBy(DOM0, 1, slotOf(machine, SLOT + 2)), "GNTST_general_error");
		done(machine, unmapBy(DOM0, 1, other));
	});

	test("of its own grant is typed, whoever it is", () => {
		const machine = baseMachine();
		done(machine, grantOf(STUB, 8, STUB, 3));
		done(machine, mapBy(STUB, STUB, 8, { gfn: 900 }));
		expect(references(machine, mfnOf(machine, STUB, 3) as number)).toEqual([2, 1]);
		checkInvariants(machine);
	});
});

describe("a mapping by a PVH domain", () => {
	test("stands in its P2M, of the grant's type", () => {
		const machine = baseMachine();
		const mfn = mfnOf(machine, HVM, 5) as number;
		doneAll(machine, grantOf(HVM, 9, STUB, 5), mapBy(STUB, HVM, 9, { gfn: 900 }));
		done(machine, mapBy(STUB, HVM, 9, { gfn: 901 }, "host", true));
		expect([900, 901].map((gfn) => mfnOf(machine, STUB, gfn))).toEqual([mfn, mfn]);
		const types = [900, 901].map((gfn) => Number((machine.domain(STUB).tables.p2m?.[gfn] as bigint) >> 40n) & 15);
		expect(types).toEqual([P2M_TYPE.grantMapRw, P2M_TYPE.grantMapRo]);
		expect(references(machine, mfn)).toEqual([3, 0]);
		checkInvariants(machine);
		refused(machine, unmapBy(STUB, 0, { gfn: 901 }), "GNTST_general_error");
		doneAll(machine, unmapBy(STUB, 0, { gfn: 900 }), unmapBy(STUB, 1, { gfn: 901 }));
		expect(mfnOf(machine, STUB, 900)).toBeUndefined();
		expect(references(machine, mfn)).toEqual([1, 0]);
	});

	test("of a PV guest's frame is typed, and refused while that is a table", () => {
		const machine = baseMachine();
		const { plain, l1 } = pvLayout(machine, PV);
		doneAll(
			machine,
			grantOf(PV, 8, STUB, plain[0] as number),
			grantOf(PV, 9, STUB, l1),
			mapBy(STUB, PV, 8, { gfn: 900 }),
			mapBy(STUB, PV, 9, { gfn: 901 }, "host", true),
		);
		expect(references(machine, plain[0] as number)).toEqual([3, 2]);
		expect(references(machine, l1)).toEqual([4, 1]);
		refused(machine, mapBy(STUB, PV, 9, { gfn: 902 }), "GNTST_general_error");
		checkInvariants(machine);
	});

	test("is no device's, and goes nowhere else than into a hole for which there is a table", () => {
		const machine = baseMachine();
		done(machine, grantOf(HVM, 9, STUB, 5));
		refused(machine, mapBy(STUB, HVM, 9, { gfn: 900 }, "device"), "GNTST_general_error");
		refused(machine, mapBy(STUB, HVM, 9, { gfn: 900 }, "both"), "GNTST_general_error");
		refused(machine, mapBy(STUB, HVM, 9, { gfn: 3 }), "GNTST_general_error");
		refused(machine, mapBy(STUB, HVM, 9, { gfn: 2 ** 22 }), "GNTST_general_error");
		const { domain, keptRanges } = machine.domain(STUB).tables;
		domain.hapPoolFrames = keptRanges.reduce((sum, { frameCount }) => sum + frameCount, 0n);
		refused(machine, mapBy(STUB, HVM, 9, { gfn: 2 ** 20 }), "GNTST_general_error");
	});
});

describe("a mapping is refused", () => {
	test("for what is not granted, or to another, or to write what is read-only", () => {
		const machine = baseMachine();
		const place = slotOf(machine);
		const mfn = pvLayout(machine, PV).plain[0] as number;
		doneAll(machine, grantOf(PV, 8, STUB, mfn), grantOf(PV, 9, DOM0, mfn, true), grantOf(PV, 10, DOM0, 3000));
		expect(flagsOf(machine, PV, 9)).toEqual([PERMIT | READONLY]);
		refused(machine, mapBy(DOM0, PV, 11, place), "GNTST_general_error");
		refused(machine, mapBy(DOM0, PV, 8, place), "GNTST_general_error");
		refused(machine, mapBy(DOM0, PV, 9, place), "GNTST_general_error");
		refused(machine, mapBy(DOM0, PV, 10, place), "GNTST_bad_page");
		refused(machine, mapBy(DOM0, PV, 512, place), "GNTST_bad_gntref");
		refused(machine, mapBy(DOM0, PV, -1, place), "GNTST_bad_gntref");
		refused(machine, mapBy(DOM0, 66, 8, place), "GNTST_bad_domain");
		refused(machine, mapBy(66, PV, 8, place), "GNTST_bad_domain");
		done(machine, mapBy(DOM0, PV, 9, place, "host", true));
		refused(machine, mapBy(DOM0, PV, 9, place), "GNTST_general_error");
	});

	test("for a place that is no slot of an L1 table of the mapper's", () => {
		const machine = baseMachine();
		const { root, plain } = pvLayout(machine, DOM0);
		const mfn = done(machine, { op: "populate_physmap", domid: PV });
		done(machine, grantOf(PV, 8, DOM0, mfn));
		for (const place of [
			{ table: root, slot: 5 },
			{ table: plain[0] as number, slot: 5 },
			slotOf(machine, 5, PV),
			slotOf(machine, 512),
		])
			refused(machine, mapBy(DOM0, PV, 8, place), "GNTST_general_error");
		expect(references(machine, mfn)).toEqual([1, 0]);
	});

	test("to another domain while the grant is active, though the guest has given it to that one", () => {
		const machine = baseMachine();
		const mfn = pvLayout(machine, PV).plain[0] as number;
		doneAll(machine, grantOf(PV, 8, DOM0, mfn), mapBy(DOM0, PV, 8, slotOf(machine)), grantOf(PV, 8, STUB, mfn));
		refused(machine, mapBy(STUB, PV, 8, { gfn: 900 }), "GNTST_general_error");
		// One that is pinned already is not read again: what is granted stays granted.
		done(machine, mapBy(DOM0, PV, 8, slotOf(machine, SLOT + 1)));
	});

	test("beyond 128 pins of one kind", () => {
		const machine = baseMachine();
		const mfn = mfnOf(machine, HVM, 5) as number;
		done(machine, grantOf(HVM, 8, DOM0, 5));
		for (let i = 0; i < 128; i++) expect(done(machine, mapBy(DOM0, HVM, 8, {}, "device"))).toBe(i);
		expect(pinsOf(machine, HVM, 8)).toEqual([0, 0, 128, 0]);
		expect(references(machine, mfn)).toEqual([129, 128]);
		refused(machine, mapBy(DOM0, HVM, 8, {}, "device"), "GNTST_general_error");
		refused(machine, mapBy(DOM0, HVM, 8, slotOf(machine)), "GNTST_general_error");
		checkInvariants(machine);
		done(machine, unmapBy(DOM0, 5));
		expect(done(machine, mapBy(DOM0, HVM, 8, slotOf(machine)))).toBe(5);
	});
});

describe("handles", () => {
	test("the lowest free one comes first, and a frame of them at a time up to the limit", () => {
		const machine = baseMachine();
		const { tables } = machine.domain(DOM0);
		tables.domain.maxMaptrackFrames = 1;
		for (let ref = 8; ref < 12; ref++) done(machine, grantOf(HVM, ref, DOM0, ref));
		for (let i = 0; i < 256; i++) expect(done(machine, mapBy(DOM0, HVM, 8 + (i % 4), {}, "device"))).toBe(i);
		expect(tables.grantTable?.maptrackFrameCount).toBe(1);
		refused(machine, mapBy(DOM0, HVM, 8, {}, "device"), "GNTST_no_device_space");
		doneAll(machine, unmapBy(DOM0, 77), unmapBy(DOM0, 9));
		expect(done(machine, { ...mapBy(DOM0, HVM, 8, {}, "device"), vcpu: 1 })).toBe(9);
		expect(tables.maptrack[9]?.vcpuId).toBe(1);
		expect(done(machine, mapBy(DOM0, HVM, 8, {}, "device"))).toBe(77);
		tables.domain.maxMaptrackFrames = 2;
		expect(done(machine, mapBy(DOM0, HVM, 9, {}, "device"))).toBe(256);
		expect(tables.grantTable?.maptrackFrameCount).toBe(2);
	});

	test("that map nothing cannot be unmapped", () => {
		const machine = baseMachine();
		refused(machine, unmapBy(DOM0, 0), "GNTST_bad_handle");
		refused(machine, unmapBy(DOM0, 10_000), "GNTST_bad_handle");
		refused(machine, unmapBy(DOM0, -1), "GNTST_bad_handle");
		refused(machine, unmapBy(66, 0), "GNTST_bad_domain");
	});
});

describe("the granting guest", () => {
	test("ends an access when nobody maps it", () => {
		const machine = baseMachine();
		const mfn = pvLayout(machine, PV).plain[0] as number;
		const end = { op: "grant_end_access", domid: PV, ref: 8 };
		doneAll(machine, grantOf(PV, 8, DOM0, mfn), mapBy(DOM0, PV, 8, slotOf(machine)));
		refused(machine, end, "EBUSY");
		doneAll(machine, unmapBy(DOM0, 0, slotOf(machine)), end);
		expect(flagsOf(machine, PV, 8)).toEqual([0]);
		refused(machine, { ...end, ref: 512 }, "EINVAL");
		refused(machine, { ...end, domid: 66 }, "ESRCH");
	});

	test("writes no entry outside its table", () => {
		const machine = baseMachine();
		refused(machine, grantOf(PV, 512, DOM0, 1), "EINVAL");
		refused(machine, grantOf(PV, -1, DOM0, 1), "EINVAL");
		refused(machine, grantOf(PV, 8, DOM0, 2 ** 32), "EINVAL");
		refused(machine, grantOf(66, 8, DOM0, 1), "ESRCH");
		done(machine, { op: "gnttab_setup_table", domid: PV, frames: 2 });
		done(machine, grantOf(PV, 1023, DOM0, 1));
	});
});

describe("setup_table", () => {
	test("adds frames of Xen's heap, of one reference and one type, and never takes one away", () => {
		const machine = baseMachine();
		const { tables } = machine.domain(PV);
		const setup = (frames: number, domid = PV) => ({ op: "gnttab_setup_table", domid, frames });
		const free = freeFrames(machine);
		done(machine, setup(3));
		expect(tables.grantFrames.length).toBe(3);
		expect(freeFrames(machine)).toBe(free - 2);
		for (const { mfn } of tables.grantFrames) expect(references(machine, Number(mfn))).toEqual([1, 1]);
		expect(machine.domain(PV).xenheapFrames).toBe(4);
		done(machine, setup(1));
		expect(tables.grantFrames.length).toBe(3);
		refused(machine, setup(9), "GNTST_general_error");
		refused(machine, setup(2, 66), "GNTST_bad_domain");
		checkInvariants(machine);
	});

	test("without enough free frames is refused, and what it got is free again", () => {
		const machine = baseMachine();
		done(machine, { op: "grant_set_version", domid: PV, version: 2 });
		done(machine, { op: "domain_max_mem", domid: HVM, frames: 100_000 });
		for (let gfn = 1024; freeFrames(machine) > 4; gfn++) done(machine, { op: "populate_physmap", domid: HVM, gfn });
		// Five more are wanted: four shared frames, one of statuses.
		refused(machine, { op: "gnttab_setup_table", domid: PV, frames: 8 }, "GNTST_no_space");
		expect(freeFrames(machine)).toBe(4);
		checkInvariants(machine);
	});
});

describe("version 2", () => {
	const setVersion = (version: number, domid = PV) => ({ op: "grant_set_version", domid, version });

	test("has its status apart from the entry, in frames that come and go with it", () => {
		const machine = baseMachine();
		const { tables } = machine.domain(PV);
		const mfn = pvLayout(machine, PV).plain[0] as number;
		const free = freeFrames(machine);
		doneAll(machine, setVersion(2), grantOf(PV, 8, DOM0, mfn), mapBy(DOM0, PV, 8, slotOf(machine)));
		expect(tables.statusFrames.length).toBe(1);
		expect(tables.grantActive.length).toBe(256);
		expect(references(machine, Number(tables.statusFrames[0]?.mfn))).toEqual([1, 1]);
		expect(flagsOf(machine, PV, 8)).toEqual([PERMIT, READING | WRITING]);
		expect(references(machine, mfn)).toEqual([3, 2]);
		refused(machine, { op: "grant_end_access", domid: PV, ref: 8 }, "EBUSY");
		refused(machine, mapBy(DOM0, PV, 256, slotOf(machine)), "GNTST_bad_gntref");
		checkInvariants(machine);
		done(machine, unmapBy(DOM0, 0, slotOf(machine)));
		expect(flagsOf(machine, PV, 8)).toEqual([PERMIT, 0]);
		done(machine, setVersion(1));
		expect([tables.statusFrames.length, tables.grantActive.length]).toEqual([0, 512]);
		expect(flagsOf(machine, PV, 8)).toEqual([0]);
		expect(freeFrames(machine)).toBe(free);
	});

	const part = (ref: number, grantee: number, gfn: number, offset: number, length: number, readonly = false) => ({
		...{ op: "grant_access_part", domid: PV, ref, grantee, gfn, offset, length, readonly },
	});
	const passed = (domid: number, ref: number, grantee: number, sourceDomid: number, sourceRef: number) => ({
		...{ op: "grant_access_transitive", domid, ref, grantee, sourceDomid, sourceRef },
	});
	const copyBy = (domid: number, granter: number, ref: number, gfn: number, offset: number, toGrant = false) => ({
		...{ op: "gnttab_copy", domid, granter, ref, gfn, offset, length: 64, toGrant },
	});

	/** A part of the PV guest's page for dom0; and dom0's frame. */
	function withPart(): { machine: Machine; mfn: number; own: number } {
		const machine = baseMachine();
		const mfn = pvLayout(machine, PV).plain[0] as number;
		const own = pvLayout(machine, DOM0).plain[0] as number;
		machine.memory.page(mfn).fill(0x5a);
		doneAll(machine, setVersion(2), part(9, DOM0, mfn, 256, 128));
		return { machine, mfn, own };
	}

	test("a part of a page is copied within its bounds, and never mapped", () => {
		const { machine, mfn, own } = withPart();
		doneAll(machine, copyBy(DOM0, PV, 9, own, 256), copyBy(DOM0, PV, 9, own, 320));
		expect([...machine.memory.look(own).subarray(250, 260)]).toEqual([0, 0, 0, 0, 0, 0, 0x5a, 0x5a, 0x5a, 0x5a]);
		for (const offset of [255, 321, 0]) refused(machine, copyBy(DOM0, PV, 9, own, offset), "GNTST_bad_copy_arg");
		refused(machine, mapBy(DOM0, PV, 9, slotOf(machine)), "GNTST_general_error");
		done(machine, part(9, DOM0, mfn, 256, 128, true));
		refused(machine, copyBy(DOM0, PV, 9, own, 256, true), "GNTST_general_error");
		refused(machine, part(9, DOM0, mfn, 4000, 97), "EINVAL");
		checkInvariants(machine);
	});

	test("a grant is passed on once, for copies; who it was not granted to has no use of it", () => {
		const { machine } = withPart();
		const target = 3;
		doneAll(machine, setVersion(2, DOM0), passed(DOM0, 10, HVM, PV, 9));
		done(machine, copyBy(HVM, DOM0, 10, target, 256));
		expect(machine.memory.look(mfnOf(machine, HVM, target) as number)[256]).toBe(0x5a);
		refused(machine, copyBy(HVM, DOM0, 10, target, 0), "GNTST_bad_copy_arg");
		refused(machine, copyBy(HVM, PV, 9, target, 256), "GNTST_general_error");
		refused(machine, copyBy(STUB, DOM0, 10, target, 256), "GNTST_general_error");
		refused(machine, mapBy(DOM0, DOM0, 10, slotOf(machine)), "GNTST_general_error");
		// Not twice, and not of a grant to somebody else.
		doneAll(machine, setVersion(2, HVM), passed(HVM, 11, STUB, DOM0, 10), passed(DOM0, 12, HVM, PV, 8));
		refused(machine, copyBy(STUB, HVM, 11, 1, 256), "GNTST_general_error");
		refused(machine, copyBy(HVM, DOM0, 12, target, 256), "GNTST_general_error");
		checkInvariants(machine);
	});

	test("both are the guests' own pages: an update of either version of the format keeps them, and no pin stands for them", async () => {
		for (const xen2Format of [1, 2]) {
			const { machine, own } = withPart();
			doneAll(machine, setVersion(2, DOM0), passed(DOM0, 10, HVM, PV, 9), copyBy(DOM0, PV, 9, own, 256));
			expect(machine.domain(PV).tables.grantActive[9]).toBeUndefined();
			const updated = await updateMachine(machine, { module: coreModule, prepare: false, xen2Format });
			expect(updated.report.identical).toBe(true);
			const next = updated.machine;
			done(next, copyBy(HVM, DOM0, 10, 3, 256));
			expect(next.memory.look(mfnOf(next, HVM, 3) as number)[256]).toBe(0x5a);
			refused(next, copyBy(DOM0, PV, 9, own, 0), "GNTST_bad_copy_arg");
		}
	});

	test("with a part of a page or a passed grant among the toolstack's entries there is no way back to version 1", () => {
		const machine = baseMachine();
		const mfn = pvLayout(machine, PV).plain[0] as number;
		doneAll(machine, setVersion(2), part(3, DOM0, mfn, 0, 8));
		refused(machine, setVersion(1), "ERANGE");
		done(machine, passed(PV, 3, DOM0, DOM0, 1));
		refused(machine, setVersion(1), "ERANGE");
		done(machine, { op: "grant_end_access", domid: PV, ref: 3 });
		done(machine, setVersion(1));
	});

	test("cannot be set while a grant is mapped, nor beyond the limit", () => {
		const machine = baseMachine();
		const mfn = pvLayout(machine, PV).plain[0] as number;
		doneAll(machine, grantOf(PV, 8, DOM0, mfn), mapBy(DOM0, PV, 8, slotOf(machine)));
		refused(machine, setVersion(2), "EBUSY");
		done(machine, setVersion(1));
		refused(machine, setVersion(3), "EINVAL");
		refused(machine, setVersion(0), "EINVAL");
		refused(machine, setVersion(2, 66), "ESRCH");
		machine.domain(HVM).tables.domain.grantVersionLimit = 1;
		refused(machine, setVersion(2, HVM), "ENOSYS");
	});

	test("keeps the toolstack's entries, mapped or not, with their status", () => {
		const machine = baseMachine();
		const [a, b] = pvLayout(machine, PV).plain as [number, number];
		doneAll(machine, grantOf(PV, 1, DOM0, a), grantOf(PV, 7, DOM0, b, true), grantOf(PV, 8, DOM0, b));
		done(machine, mapBy(DOM0, PV, 1, slotOf(machine)));
		done(machine, setVersion(2));
		expect([1, 7, 8].map((ref) => flagsOf(machine, PV, ref))).toEqual([
			[PERMIT, READING | WRITING],
			[PERMIT | READONLY, 0],
			[0, 0],
		]);
		expect(pinsOf(machine, PV, 1)).toEqual([1, 0, 0, 0]);
		checkInvariants(machine);
		done(machine, setVersion(1));
		expect(flagsOf(machine, PV, 1)).toEqual([PERMIT | READING | WRITING]);
		done(machine, unmapBy(DOM0, 0, slotOf(machine)));
		expect(flagsOf(machine, PV, 1)).toEqual([PERMIT]);
		checkInvariants(machine);
	});

	test("goes back to version 1 only with frames that have 32 bits; and comes with free frames alone", () => {
		const machine = baseMachine();
		done(machine, setVersion(2));
		const page = machine.memory.page(Number(machine.domain(PV).tables.grantFrames[0]?.mfn));
		const view = new DataView(page.buffer, page.byteOffset);
		view.setUint16(16, PERMIT, true);
		view.setBigUint64(24, 1n << 32n, true);
		refused(machine, setVersion(1), "ERANGE");
		done(machine, { op: "domain_max_mem", domid: PV, frames: 100_000 });
		while (freeFrames(machine) > 0) done(machine, { op: "populate_physmap", domid: PV });
		done(machine, grantOf(HVM, 3, DOM0, 5));
		refused(machine, setVersion(2, HVM), "ENOMEM");
	});
});

describe("gnttab_copy", () => {
	const copy = (domid: number, granter: number, ref: number, gfn: number, rest: object = {}) => ({
		op: "gnttab_copy",
		domid,
		granter,
		ref,
		gfn,
		toGrant: false,
		...rest,
	});

	test("moves octets either way, and leaves no reference", () => {
		const machine = baseMachine();
		const own = pvLayout(machine, DOM0).plain[0] as number;
		const mfn = mfnOf(machine, HVM, 5) as number;
		machine.memory.page(mfn).fill(7);
		done(machine, grantOf(HVM, 8, DOM0, 5));
		done(machine, copy(DOM0, HVM, 8, own, { offset: 100, length: 50 }));
		expect([99, 100, 149, 150].map((at) => machine.memory.look(own)[at])).toEqual([0, 7, 7, 0]);
		machine.memory.page(own).fill(9, 200, 210);
		done(machine, copy(DOM0, HVM, 8, own, { toGrant: true, offset: 200, length: 10 }));
		expect([199, 200, 209, 210].map((at) => machine.memory.look(mfn)[at])).toEqual([7, 9, 9, 7]);
		expect([references(machine, mfn), references(machine, own)]).toEqual([
			[1, 0],
			[2, 1],
		]);
		expect(flagsOf(machine, HVM, 8)).toEqual([PERMIT]);
	});

	test("is refused as a mapping would be, and for lengths beyond a page", () => {
		const machine = baseMachine();
		const { plain, root } = pvLayout(machine, DOM0);
		const [own] = plain as [number];
		doneAll(machine, grantOf(HVM, 8, DOM0, 5, true), grantOf(HVM, 9, STUB, 5), grantOf(HVM, 10, DOM0, 1500));
		refused(machine, copy(DOM0, HVM, 8, own, { toGrant: true }), "GNTST_general_error");
		refused(machine, copy(DOM0, HVM, 9, own), "GNTST_general_error");
		refused(machine, copy(DOM0, HVM, 10, own), "GNTST_bad_page");
		refused(machine, copy(DOM0, HVM, 512, own), "GNTST_bad_gntref");
		refused(machine, copy(DOM0, HVM, 8, root), "GNTST_general_error");
		refused(machine, copy(DOM0, HVM, 8, 3000), "GNTST_bad_page");
		refused(machine, copy(DOM0, 66, 8, own), "GNTST_bad_domain");
		refused(machine, copy(66, HVM, 8, own), "GNTST_bad_domain");
		refused(machine, copy(DOM0, HVM, 8, own, { offset: 4000, length: 97 }), "GNTST_bad_copy_arg");
	});
});
