/** PV page tables, as Xen keeps them: validated all or nothing, counted entry by entry, written by Xen alone. */
import { describe, expect, test } from "vitest";
import { PAGE_TYPE, PAGE_TYPE_FLAG } from "../../../src/format/enums.ts";
import { baseMachine } from "../../support/living.ts";
import {
	checkInvariants,
	DIRECT_MAP_SLOT,
	done,
	doneAll,
	hex,
	mfnOf,
	pte,
	pvLayout,
	references,
	refused,
} from "../../support/operations.ts";

const GUEST = 1;
/** A frame of I/O memory, which nobody counts. */
const IO_FRAME = 0xb8;
const IO_FRAME_OF_DOM0 = 0x10;

function fresh() {
	const machine = baseMachine();
	const layout = pvLayout(machine, GUEST);
	/** A frame that nothing maps. */
	const extra = (domid = GUEST): number => done(machine, { op: "populate_physmap", domid });
	const write = (mfn: number, slot: number, value: string): void => {
		done(machine, { op: "memory_write", domid: GUEST, gfn: mfn, slot, value });
	};
	const update = (table: number, slot: number, value: string, owner?: number) => ({
		op: "mmu_update",
		domid: GUEST,
		table,
		slot,
		value,
		...(owner === undefined ? {} : { owner }),
	});
	return { machine, ...layout, extra, write, update, counts: (mfn: number) => references(machine, mfn) };
}

/** An uncached entry, of a guest that has no devices. */
function withAttributes({ machine, l1 }: ReturnType<typeof fresh>): string {
	machine.domain(GUEST).tables.capRanges = [];
	return hex(0x10n | BigInt(pte(l1, "ro")));
}

describe("page tables in use", () => {
	test("a new guest's frames carry what its tables, its pin, cr3 and GDT hold", () => {
		const { machine, root, l3, l2, l1, gdt, plain, counts } = fresh();
		// Allocated, pinned, cr3, read-only L1 entry; pinned and cr3.
		expect(counts(root)).toEqual([4, 2]);
		expect([l3, l2, l1].map(counts)).toEqual([
			[3, 1],
			[3, 1],
			[3, 1],
		]);
		expect(counts(gdt)).toEqual([3, 1]);
		expect(plain.map(counts)).toEqual(plain.map(() => [2, 1]));
		expect([root, l3, l2, l1, gdt, plain[0] as number].map((mfn) => machine.frames.typeOf(mfn))).toEqual([
			PAGE_TYPE.l4,
			PAGE_TYPE.l3,
			PAGE_TYPE.l2,
			PAGE_TYPE.l1,
			PAGE_TYPE.segDesc,
			PAGE_TYPE.writable,
		]);
		expect(machine.frames.types[root]).toBe(PAGE_TYPE.l4 | PAGE_TYPE_FLAG.pinned | PAGE_TYPE_FLAG.validated);
	});

	test("a pin validates a table and counts its entries; an unpin takes all of it back", () => {
		const { machine, extra, write, plain, counts } = fresh();
		const table = extra();
		const [a, b] = plain as [number, number];
		write(table, 0, pte(a, "rw"));
		write(table, 7, pte(a, "ro"));
		write(table, 511, pte(b, "ro"));
		expect(counts(table)).toEqual([1, 0]);
		done(machine, { op: "mmuext_pin_table", domid: GUEST, mfn: table, level: 1 });
		expect([table, a, b].map(counts)).toEqual([
			[2, 1],
			[4, 2],
			[3, 1],
		]);
		expect(machine.frames.isPinned(table)).toBe(true);
		checkInvariants(machine);
		done(machine, { op: "mmuext_unpin_table", domid: GUEST, mfn: table });
		expect([table, a, b].map(counts)).toEqual([
			[1, 0],
			[2, 1],
			[2, 1],
		]);
		expect(machine.frames.types[table]).toBe(PAGE_TYPE.none);
	});

	test("a guest's whole tree loses its types with its last reference, and gets them back", () => {
		const { machine, root, l1, plain, extra, counts } = fresh();
		const other = extra();
		doneAll(
			machine,
			{ op: "mmuext_pin_table", domid: GUEST, mfn: other, level: 4 },
			{ op: "mmuext_new_baseptr", domid: GUEST, vcpu: 0, mfn: other, user: false },
			{ op: "mmuext_unpin_table", domid: GUEST, mfn: root },
		);
		expect([root, l1, plain[0] as number].map(counts)).toEqual([
			[1, 0],
			[1, 0],
			[1, 0],
		]);
		expect(counts(other)).toEqual([3, 2]);
		checkInvariants(machine);
		done(machine, { op: "mmuext_pin_table", domid: GUEST, mfn: root, level: 4 });
		expect([root, l1, plain[0] as number].map(counts)).toEqual([
			[3, 1],
			[3, 1],
			[2, 1],
		]);
	});

	test("a pin is refused twice, of what has none, of no level, of others' frames, and to a guest with a P2M", () => {
		const { machine, root, l1, plain, extra } = fresh();
		const pin = (mfn: number, level: number, domid = GUEST) => ({ op: "mmuext_pin_table", domid, mfn, level });
		refused(machine, pin(root, 4), "EINVAL");
		refused(machine, pin(root, 3), "EINVAL");
		refused(machine, pin(l1, 2), "EINVAL");
		refused(machine, pin(plain[0] as number, 1), "EINVAL");
		refused(machine, pin(extra(), 0), "EINVAL");
		refused(machine, pin(extra(), 5), "EINVAL");
		refused(machine, pin(pvLayout(machine, 0).root, 4), "EINVAL");
		refused(machine, pin(1 << 20, 1), "EINVAL");
		refused(machine, pin(0, 4, 2), "ENOSYS");
		refused(machine, pin(0, 4, 9), "ESRCH");
		refused(machine, { op: "mmuext_unpin_table", domid: GUEST, mfn: l1 }, "EINVAL");
		refused(machine, { op: "mmuext_unpin_table", domid: 0, mfn: root }, "EINVAL");
		// In use, though not pinned: a pin of its own level is one more reference.
		done(machine, pin(l1, 1));
		expect(references(machine, l1)).toEqual([4, 2]);
	});
});

describe("a table that is rejected", () => {
	test.each([
		["maps a table read-write", "EBUSY", (f: ReturnType<typeof fresh>) => pte(f.l1, "rw")],
		["maps a descriptor frame read-write", "EBUSY", (f: ReturnType<typeof fresh>) => pte(f.gdt, "rw")],
		["maps itself read-write", "EBUSY", (_: ReturnType<typeof fresh>, table: number) => pte(table, "rw")],
		["maps another domain's frame", "EBUSY", (f: ReturnType<typeof fresh>) => pte(pvLayout(f.machine, 0).root, "ro")],
		["maps a free frame", "EBUSY", (f: ReturnType<typeof fresh>) => pte(f.machine.frames.findFree() as number, "ro")],
		["maps I/O memory that it may not", "EPERM", () => pte(0x10, "rw")],
		["has bits that it may not", "EINVAL", (f: ReturnType<typeof fresh>) => withAttributes(f)],
	])("that %s gives up all that its entries before held", (_, errno, bad) => {
		const f = fresh();
		const table = f.extra();
		for (let slot = 0; slot < 20; slot++) f.write(table, slot, pte(f.plain[slot] as number, slot % 2 ? "rw" : "ro"));
		f.write(table, 511, bad(f, table));
		refused(f.machine, { op: "mmuext_pin_table", domid: GUEST, mfn: table, level: 1 }, errno);
		expect(f.counts(f.plain[1] as number)).toEqual([2, 1]);
		checkInvariants(f.machine);
	});

	test("takes the tables below it with it", () => {
		const { machine, extra, write, plain, counts, l1 } = fresh();
		const [good, bad, above, top] = [extra(), extra(), extra(), extra()];
		write(good, 3, pte(plain[0] as number, "rw"));
		write(bad, 5, pte(plain[1] as number, "rw"));
		write(bad, 6, pte(l1, "rw"));
		write(above, 0, pte(good, "rw"));
		write(above, 1, pte(good, "rw"));
		write(above, 2, pte(bad, "rw"));
		write(top, 0, pte(above, "rw"));
		refused(machine, { op: "mmuext_pin_table", domid: GUEST, mfn: top, level: 3 }, "EBUSY");
		expect([good, bad, above, top, plain[0] as number].map(counts)).toEqual([
			[1, 0],
			[1, 0],
			[1, 0],
			[1, 0],
			[2, 1],
		]);
	});

	test("has superpages, or a table of its own level that is not itself", () => {
		const { machine, extra, write, plain, l2 } = fresh();
		const [big, linear] = [extra(), extra()];
		write(big, 0, hex(BigInt(pte(plain[0] as number, "rw")) | 0x80n));
		refused(machine, { op: "mmuext_pin_table", domid: GUEST, mfn: big, level: 2 }, "EINVAL");
		write(linear, 0, pte(l2, "ro"));
		refused(machine, { op: "mmuext_pin_table", domid: GUEST, mfn: linear, level: 2 }, "EINVAL");
	});
});

describe("mmu_update", () => {
	test("moves references from what an L1 entry mapped to what it maps", () => {
		const { machine, l1, plain, update, counts } = fresh();
		const [a, b] = plain as [number, number];
		done(machine, update(l1, 0, pte(b, "rw")));
		expect([a, b].map(counts)).toEqual([
			[1, 0],
			[3, 2],
		]);
		expect(machine.frames.typeOf(a)).toBe(PAGE_TYPE.none);
		done(machine, update(l1, 0, pte(b, "ro")));
		expect(counts(b)).toEqual([3, 1]);
		done(machine, update(l1, 0, "0x0"));
		expect(counts(b)).toEqual([2, 1]);
		done(machine, update(l1, 0, pte(a, "rw")));
		expect(counts(a)).toEqual([2, 1]);
		expect(machine.memory.entry(l1, 0)).toBe(BigInt(pte(a, "rw")));
		checkInvariants(machine);
	});

	test("of a table above takes and drops the type of the table below", () => {
		const { machine, l2, extra, update, counts } = fresh();
		const table = extra();
		done(machine, update(l2, 9, pte(table, "rw")));
		expect(counts(table)).toEqual([2, 1]);
		expect(machine.frames.typeOf(table)).toBe(PAGE_TYPE.l1);
		done(machine, update(l2, 10, pte(table, "rw")));
		expect(counts(table)).toEqual([3, 2]);
		doneAll(machine, update(l2, 9, "0x0"), update(l2, 10, "0x0"));
		expect(counts(table)).toEqual([1, 0]);
	});

	test("changes flags of an entry whose frame stays, within what an entry may have", () => {
		const { machine, l1, l2, plain, update, counts } = fresh();
		const entry = BigInt(pte(plain[0] as number, "rw"));
		done(machine, update(l1, 0, hex(entry | (1n << 63n))));
		expect(machine.memory.entry(l1, 0)).toBe(entry | (1n << 63n));
		expect(counts(plain[0] as number)).toEqual([2, 1]);
		// Bits 52 to 62 are software's; cache attributes are for those who have devices.
		done(machine, update(l1, 0, hex(entry | 0x10n)));
		machine.domain(GUEST).tables.capRanges = [];
		refused(machine, update(l1, 0, hex(entry | 0x10n)), "EINVAL");
		done(machine, update(l1, 0, hex(entry | (1n << 52n))));
		refused(machine, update(l2, 0, hex(BigInt(pte(l1, "rw")) | 0x80n)), "EINVAL");
	});

	test("writes a word of a plain frame, which counts nothing", () => {
		const { machine, extra, plain, update, counts } = fresh();
		const frame = extra();
		done(machine, update(frame, 3, pte(plain[0] as number, "rw")));
		expect(machine.memory.entry(frame, 3)).toBe(BigInt(pte(plain[0] as number, "rw")));
		expect([frame, plain[0] as number].map(counts)).toEqual([
			[1, 0],
			[2, 1],
		]);
	});

	test("is refused for what may not stand in a table", () => {
		const { machine, root, l1, l2, l3, gdt, plain, update } = fresh();
		const [a] = plain as [number];
		refused(machine, update(l1, 512, "0x0"), "EINVAL");
		refused(machine, update(l1, 0, pte(root, "rw")), "EBUSY");
		refused(machine, update(l1, 0, pte(gdt, "rw")), "EBUSY");
		refused(machine, update(l1, 60, pte(pvLayout(machine, 0).l1, "ro")), "EBUSY");
		refused(machine, update(l2, 5, pte(a, "rw")), "EINVAL");
		refused(machine, update(l3, 5, pte(l1, "rw")), "EINVAL");
		refused(machine, update(gdt, 0, "0x0"), "EINVAL");
		refused(machine, update(pvLayout(machine, 0).l1, 0, "0x0"), "EINVAL");
		refused(machine, { ...update(l1, 0, "0x0"), domid: 2 }, "ENOSYS");
		refused(machine, { ...update(l1, 0, "0x0"), domid: 77 }, "ESRCH");
	});

	test("leaves Xen's slots of an L4 table alone, which no count follows", () => {
		const { machine, root, extra, write, update, counts, l3 } = fresh();
		refused(machine, update(root, 256, pte(l3, "rw")), "EINVAL");
		refused(machine, update(root, 271, "0x0"), "EINVAL");
		done(machine, update(root, 255, pte(l3, "rw")));
		done(machine, update(root, DIRECT_MAP_SLOT + 1, pte(l3, "rw")));
		expect(counts(l3)).toEqual([5, 3]);
		const other = extra();
		write(other, 260, pte(1, "rw"));
		done(machine, { op: "mmuext_pin_table", domid: GUEST, mfn: other, level: 4 });
		expect(counts(other)).toEqual([2, 1]);
		checkInvariants(machine);
	});

	test("lets a table map itself, read-only, without a reference", () => {
		const { machine, root, update, counts } = fresh();
		const before = counts(root);
		done(machine, update(root, 300, pte(root, "ro")));
		expect(counts(root)).toEqual(before);
		refused(machine, update(root, 301, pte(root, "rw")), "EINVAL");
		refused(machine, update(root, 300, pte(root, "rw")), "EINVAL");
		checkInvariants(machine);
		done(machine, update(root, 300, "0x0"));
		expect(counts(root)).toEqual(before);
	});

	test("does not count I/O memory, which needs permission", () => {
		const { machine, l1, update, counts } = fresh();
		done(machine, update(l1, 100, pte(IO_FRAME, "rw")));
		expect(counts(IO_FRAME)).toEqual([1, 0]);
		refused(machine, update(l1, 100, pte(IO_FRAME_OF_DOM0, "rw")), "EPERM");
		const dom0 = pvLayout(machine, 0).l1;
		done(machine, { op: "mmu_update", domid: 0, table: dom0, slot: 200, value: pte(IO_FRAME_OF_DOM0, "rw") });
		expect(counts(IO_FRAME_OF_DOM0)).toEqual([1, 0]);
		// Beyond the machine's memory stands I/O memory as well.
		done(machine, { op: "mmu_update", domid: 0, table: dom0, slot: 201, value: pte(machine.frames.count + 8, "rw") });
		checkInvariants(machine);
	});
});

describe("foreign mappings", () => {
	const DOM0_SLOT = 300;

	test("are a privileged domain's: typed of a PV guest's frame, not of a guest's with a P2M", () => {
		const { machine, plain, counts } = fresh();
		const { l1 } = pvLayout(machine, 0);
		const foreign = (value: string, owner: number, slot = DOM0_SLOT) => ({
			op: "mmu_update",
			domid: 0,
			table: l1,
			slot,
			value,
			owner,
		});
		const [a] = plain as [number];
		done(machine, foreign(pte(a, "rw"), GUEST));
		expect(counts(a)).toEqual([3, 2]);
		const mfn = mfnOf(machine, 2, 5) as number;
		done(machine, foreign(pte(5, "rw"), 2, DOM0_SLOT + 1));
		expect(counts(mfn)).toEqual([2, 0]);
		expect(machine.memory.entry(l1, DOM0_SLOT + 1)).toBe(BigInt(pte(mfn, "rw")));
		checkInvariants(machine);
		refused(machine, foreign(pte(pvLayout(machine, GUEST).l1, "rw"), GUEST, DOM0_SLOT + 2), "EBUSY");
		refused(machine, foreign(pte(a, "ro"), 0, DOM0_SLOT + 2), "EBUSY");
		refused(machine, foreign(pte(1000, "ro"), 2, DOM0_SLOT + 2), "EINVAL");
		refused(machine, foreign(pte(a, "ro"), 55, DOM0_SLOT + 2), "ESRCH");
		refused(machine, { ...foreign(pte(a, "ro"), 0), domid: GUEST, table: pvLayout(machine, GUEST).l1 }, "EPERM");
		doneAll(machine, foreign("0x0", 0), foreign("0x0", 0, DOM0_SLOT + 1));
		expect([a, mfn].map(counts)).toEqual([
			[2, 1],
			[1, 0],
		]);
	});

	test("keep a table from being validated again, since it names another's frame", () => {
		const { machine, plain } = fresh();
		const { l1, l2 } = pvLayout(machine, 0);
		const update = { op: "mmu_update", domid: 0, table: l1, slot: DOM0_SLOT };
		done(machine, { ...update, value: pte(plain[0] as number, "ro"), owner: GUEST });
		done(machine, { op: "mmu_update", domid: 0, table: l2, slot: 0, value: "0x0" });
		refused(machine, { op: "mmuext_pin_table", domid: 0, mfn: l1, level: 1 }, "EBUSY");
	});
});

describe("a vCPU's registers", () => {
	test("cr3 holds a reference, moved by new_baseptr; the user's may be none", () => {
		const { machine, root, l1, extra, counts } = fresh();
		const other = extra();
		const baseptr = (mfn: number, user = false) => ({ op: "mmuext_new_baseptr", domid: GUEST, vcpu: 0, mfn, user });
		done(machine, baseptr(root));
		expect(counts(root)).toEqual([4, 2]);
		done(machine, baseptr(other));
		expect([root, other].map(counts)).toEqual([
			[3, 1],
			[2, 1],
		]);
		done(machine, baseptr(root, true));
		expect(counts(root)).toEqual([4, 2]);
		expect(machine.domain(GUEST).pvVcpu(0).cr[1]).toBe(BigInt(root) << 12n);
		done(machine, baseptr(0, true));
		expect(counts(root)).toEqual([3, 1]);
		done(machine, baseptr(root));
		expect(counts(other)).toEqual([1, 0]);
		refused(machine, baseptr(0), "EINVAL");
		refused(machine, baseptr(l1), "EINVAL");
		refused(machine, { ...baseptr(root), vcpu: 1 }, "EINVAL");
		refused(machine, { ...baseptr(root), vcpu: 7 }, "ENOENT");
		checkInvariants(machine);
	});

	test("GDT frames are typed, so that nobody maps them writable, and given back for new ones", () => {
		const { machine, l1, gdt, plain, extra, update, counts } = fresh();
		const [a, b] = [extra(), extra()];
		const gdtOf = (mfns: number[], entries: number) => ({ op: "set_gdt", domid: GUEST, vcpu: 0, mfns, entries });
		done(machine, gdtOf([a, b, a], 513));
		expect([a, b, gdt].map(counts)).toEqual([
			[2, 1],
			[2, 1],
			[2, 0],
		]);
		expect(machine.domain(GUEST).pvVcpu(0).gdtMfn.slice(0, 3)).toEqual([BigInt(a), BigInt(b), 0n]);
		refused(machine, update(l1, 90, pte(a, "rw")), "EBUSY");
		done(machine, update(l1, 90, pte(a, "ro")));
		refused(machine, gdtOf([gdt, plain[0] as number], 600), "EINVAL");
		refused(machine, gdtOf([a], 513), "EINVAL");
		refused(machine, gdtOf(new Array(16).fill(a), 14 * 512 + 1), "EINVAL");
		refused(machine, { ...gdtOf([a], 1), vcpu: 1 }, "EINVAL");
		done(machine, gdtOf(new Array(14).fill(a), 14 * 512));
		expect(counts(a)).toEqual([16, 14]);
		done(machine, gdtOf([], 0));
		expect([a, b].map(counts)).toEqual([
			[2, 0],
			[1, 0],
		]);
		checkInvariants(machine);
	});
});

describe("a guest's own writes", () => {
	test("reach plain memory, and no table, descriptors or others' frames", () => {
		const { machine, root, gdt, plain } = fresh();
		const write = (gfn: number, slot = 0) => ({ op: "memory_write", domid: GUEST, gfn, slot, value: "0x1234" });
		done(machine, write(plain[0] as number, 511));
		expect(machine.memory.entry(plain[0] as number, 511)).toBe(0x1234n);
		refused(machine, write(root), "EFAULT");
		refused(machine, write(gdt), "EFAULT");
		refused(machine, write(pvLayout(machine, 0).plain[0] as number), "EFAULT");
		refused(machine, write(plain[0] as number, 512), "EINVAL");
		refused(machine, { ...write(1000), domid: 2 }, "EFAULT");
	});
});
