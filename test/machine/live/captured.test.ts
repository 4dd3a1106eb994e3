/**
 * Captured hosts come to life: the counts of real guests follow from their tables, their operations work, and a live
 * update between any two of them cannot be noticed.
 */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { EVTCHN_STATE, FRAME, KIND, PAGE_TYPE } from "../../../src/format/enums.ts";
import { type Host, loadHost } from "../../../src/host.ts";
import { Machine, type Operation, propose, resultText, runOperation } from "../../../src/machine/live/index.ts";
import { copies, fixtures } from "../../support/hosts.ts";
import { imageDifference, memoryDifference, updateMachine } from "../../support/living.ts";
import { narrowImage } from "../../support/narrowImage.ts";
import { checkInvariants, done, doneAll, drawFor, hex, references, refused } from "../../support/operations.ts";

const SEQUENCES = 2;
const LENGTH = 12;
const DOM0 = 0;

/** The captured ones, and the PV host with its guest made one of 32 bits. */
const hosts = ["pv", "pvh", "hvm", "pv32"] as const;
const copy = copies();
const directoryOf = (name: string): string =>
	name === "pv32" ? copy("pv").image("pv1.xlsave", (image) => narrowImage(image)).path : join(fixtures, name);
const loaded = new Map<string, Host>();
function live(name: string): Machine {
	const host = loaded.get(name) ?? loadHost(directoryOf(name));
	loaded.set(name, host);
	return Machine.fromHost(host);
}
const guestOf = (machine: Machine): number => [...machine.domains.keys()].find((domid) => domid !== DOM0) as number;

/** Ports of a domain in a state, that the guest itself consumes. */
const portsOf = (machine: Machine, domid: number, state: number): number[] =>
	machine.domain(domid).tables.ports.flatMap((row, port) => (row?.state === state && row.consumer === 0 ? [port] : []));

/** Some frames, as a guest names them, that nothing but the guest's own memory is. */
function plainGfns(machine: Machine, domid: number, count: number): number[] {
	const { frames } = machine;
	const { tables, kind } = machine.domain(domid);
	const found: number[] = [];
	const isPlain = (mfn: number): boolean => frames.typeOf(mfn) === PAGE_TYPE.none && !frames.has(mfn, FRAME.xenheap);
	if (kind === KIND.pv) {
		for (let mfn = 0; mfn < frames.count && found.length < count; mfn++) {
			if (frames.ownerOf(mfn) === domid && isPlain(mfn)) found.push(mfn);
		}
		return found;
	}
	tables.p2m?.forEach((entry, gfn) => {
		if (found.length < count && entry !== 0n && isPlain(Number(entry & 0xff_ffff_ffffn))) found.push(gfn);
	});
	return found;
}

/** What a guest and its toolstack may do on any host. */
function usualOperations(machine: Machine): Operation[] {
	const domid = guestOf(machine);
	const [channel] = portsOf(machine, domid, EVTCHN_STATE.interdomain) as [number];
	const [ipi] = portsOf(machine, domid, EVTCHN_STATE.ipi) as [number];
	const [unbound] = portsOf(machine, domid, EVTCHN_STATE.unbound) as [number];
	const [backend] = portsOf(machine, DOM0, EVTCHN_STATE.interdomain).slice(-1) as [number];
	const [a, b, c] = plainGfns(machine, domid, 3) as [number, number, number];
	const now = Number(machine.host.host.systemTimeNs);
	const kernel = machine.domain(domid).isNarrow ? "0xc1001000" : "0xffffffff81001000";
	return [
		{ op: "domain_unpause", domid },
		{ op: "evtchn_send", domid, port: channel },
		{ op: "evtchn_send", domid, port: ipi },
		{ op: "evtchn_send", domid: DOM0, port: backend },
		{ op: "evtchn_bind_interdomain", domid: DOM0, remote: domid, remotePort: unbound },
		{ op: "evtchn_set_priority", domid, port: ipi, priority: 2 },
		{ op: "evtchn_drain", domid, vcpu: 0 },
		{ op: "evtchn_send", domid, port: ipi },
		{ op: "evtchn_close", domid, port: ipi },
		{ op: "evtchn_bind_ipi", domid, vcpu: 1 },
		{ op: "evtchn_drain", domid: DOM0, vcpu: 0 },
		{ op: "vcpu_set_register", domid, vcpu: 0, register: "rip", value: kernel },
		{ op: "vcpu_set_singleshot", domid, vcpu: 0, deadline: now + 5_000_000 },
		{ op: "time_advance", nanoseconds: 10_000_000 },
		{ op: "memory_write", domid, gfn: a, slot: 0, value: "0x1234" },
		{ op: "grant_access", domid, ref: 600, grantee: DOM0, gfn: a },
		{ op: "gnttab_map_grant_ref", domid: DOM0, granter: domid, ref: 600, kind: "device" },
		{ op: "gnttab_map_grant_ref", domid: DOM0, granter: domid, ref: 600, kind: "device", readonly: true },
		{ op: "gnttab_unmap_grant_ref", domid: DOM0, handle: 15 },
		{ op: "grant_access", domid: DOM0, ref: 300, grantee: domid, gfn: plainGfns(machine, DOM0, 1)[0] as number },
		{ op: "gnttab_copy", domid, granter: DOM0, ref: 300, gfn: b },
		{ op: "grant_end_access", domid, ref: 600 },
		{ op: "decrease_reservation", domid, gfn: c },
		{ op: "vcpu_down", domid, vcpu: 1 },
		{ op: "evtchn_drain", domid, vcpu: 1 },
		{ op: "evtchn_drain", domid, vcpu: 0 },
	];
}

/** Runs both, one with a live update at `cut`: the same results, the same state, the same memory. */
function expectTransparent(name: string, list: readonly Operation[], cut: number): string[] {
	const plain = live(name);
	let updated = live(name);
	const results: string[] = [];
	list.forEach((operation, i) => {
		if (i === cut) {
			const update = updateMachine(updated);
			expect(imageDifference(update.before, update.after)).toBeUndefined();
			updated = update.machine;
		}
		const [expected, got] = [runOperation(plain, operation), runOperation(updated, operation)];
		expect([operation, got]).toEqual([operation, expected]);
		results.push(typeof expected === "number" ? resultText(operation.op, expected) : "list");
	});
	expect(imageDifference(plain.image(), updated.image())).toBeUndefined();
	expect(memoryDifference(plain, updated)).toBeUndefined();
	checkInvariants(plain);
	return results;
}

describe.each(hosts)("the captured %s host", (name) => {
	test("agrees with itself, down to the page tables of its P2M", () => {
		checkInvariants(live(name));
	});

	test("takes its guest's operations, with a live update before one of them", () => {
		const list = usualOperations(live(name));
		const results = expectTransparent(name, list, 0);
		// All of them are done but one: a guest cannot take back what a device maps yet.
		const refusals = list.flatMap(({ op }, i) => (/^[A-Z]/.test(results[i] as string) ? [[op, results[i]]] : []));
		// A split of a superpage needs a table, for which a captured HAP pool, known only as far as it is used, has no room.
		expect(refusals).toEqual([["grant_end_access", "EBUSY"]]);
		expectTransparent(name, list, 17);
	});

	test(`and ${SEQUENCES} sequences of operations at random`, () => {
		for (let seed = 1; seed <= SEQUENCES; seed++) {
			const draw = drawFor(seed);
			const machine = live(name);
			const list: Operation[] = [];
			while (list.length < LENGTH) {
				const operation = propose(machine, draw);
				if (operation === undefined || operation.op === "domain_destroy" || operation.op === "ioreq_destroy") continue;
				runOperation(machine, operation);
				list.push(operation);
			}
			expectTransparent(name, list, draw.below(LENGTH));
		}
	}, 60_000);

	test("has a dom0 whose page tables nobody knows, and leaves them alone", () => {
		const machine = live(name);
		const [mfn] = plainGfns(machine, DOM0, 1) as [number];
		refused(machine, { op: "mmuext_pin_table", domid: DOM0, mfn, level: 1 }, "EOPNOTSUPP");
		refused(machine, { op: "mmuext_new_baseptr", domid: DOM0, vcpu: 0, mfn, user: false }, "EOPNOTSUPP");
		refused(machine, { op: "set_gdt", domid: DOM0, vcpu: 0, mfns: [], entries: 0 }, "EOPNOTSUPP");
		refused(machine, { op: "domain_destroy", domid: DOM0 }, "EOPNOTSUPP");
		// Its mappings stand in page tables: a handle of one cannot be given back here.
		refused(machine, { op: "gnttab_unmap_grant_ref", domid: DOM0, handle: 0 }, "GNTST_general_error");
	});
});

describe("a real PV guest's page tables", () => {
	const GUEST = 1;

	test.each([
		["pv", PAGE_TYPE.l4],
		["pv32", PAGE_TYPE.l3],
	])(
		"%s: give up all references when no vCPU runs on them and no pin holds them, and take them back",
		(name, level) => {
			const machine = live(name);
			const { frames } = machine;
			const before = { counts: frames.counts.slice(), types: frames.types.slice() };
			const roots = new Set<number>();
			const pinned: { mfn: number; level: number }[] = [];
			frames.types.forEach((type, mfn) => {
				if (frames.ownerOf(mfn) === GUEST && frames.isPinned(mfn)) pinned.push({ mfn, level: type & 7 });
			});
			const { pvVcpu, pv32Vcpu } = machine.domain(GUEST).tables;
			for (const row of pvVcpu) for (const register of [3, 1]) roots.add(Number((row?.cr[register] ?? 0n) >> 12n));
			for (const row of pv32Vcpu) roots.add(Number((row?.cr3 ?? 0n) >> 12n));
			expect(pinned.length).toBeGreaterThan(10);
			// Unpinned, those that vCPUs run on stay in use, and with them what they hold.
			for (const { mfn } of pinned) done(machine, { op: "mmuext_unpin_table", domid: GUEST, mfn });
			for (const mfn of roots) if (mfn !== 0) expect(frames.typeOf(mfn)).toBe(level);
			const inUse = frames.types.filter(
				(type, mfn) => frames.ownerOf(mfn) === GUEST && (type & 7) === PAGE_TYPE.l1,
			).length;
			expect(inUse).toBeGreaterThan(0);
			checkInvariants(machine);
			for (const { mfn, level: pin } of [...pinned].reverse()) {
				done(machine, { op: "mmuext_pin_table", domid: GUEST, mfn, level: pin });
			}
			// Compared as octets: these tables have 1.6 million numbers.
			expect(Buffer.compare(new Uint8Array(frames.counts.buffer), new Uint8Array(before.counts.buffer))).toBe(0);
			expect(Buffer.compare(frames.types, before.types)).toBe(0);
		},
	);

	test("change entry by entry", () => {
		const machine = live("pv");
		const { frames, memory } = machine;
		// Some L1 entry that is the only one to map its frame, read-write.
		for (let table = 0; table < frames.count; table++) {
			if (frames.ownerOf(table) !== GUEST || frames.typeOf(table) !== PAGE_TYPE.l1) continue;
			const slot = Array.from({ length: 512 }, (_, i) => i).find((i) => {
				const mfn = Number((memory.entry(table, i) >> 12n) & 0xff_ffff_ffffn);
				return (memory.entry(table, i) & 3n) === 3n && String(references(machine, mfn)) === "2,1";
			});
			if (slot === undefined) continue;
			const entry = memory.entry(table, slot);
			const mfn = Number((entry >> 12n) & 0xff_ffff_ffffn);
			const update = (value: bigint) => ({ op: "mmu_update", domid: GUEST, table, slot, value: hex(value) });
			done(machine, update(entry & ~2n));
			expect(references(machine, mfn)).toEqual([2, 0]);
			done(machine, update(0n));
			expect(references(machine, mfn)).toEqual([1, 0]);
			doneAll(machine, update(entry));
			expect(references(machine, mfn)).toEqual([2, 1]);
			refused(machine, update(BigInt(table) * 4096n + 0x67n), "EBUSY");
			checkInvariants(machine);
			return;
		}
		throw new Error("no such entry");
	});

	test("a live update between an unpin and a pin of the root cannot be noticed", () => {
		const root = Number((live("pv").domain(GUEST).pvVcpu(0).cr[3] as bigint) >> 12n);
		const list: Operation[] = [
			{ op: "mmuext_unpin_table", domid: GUEST, mfn: root },
			{ op: "mmuext_new_baseptr", domid: GUEST, vcpu: 1, mfn: root, user: false },
			{ op: "mmuext_pin_table", domid: GUEST, mfn: root, level: 4 },
			{ op: "mmuext_pin_table", domid: GUEST, mfn: root, level: 4 },
		];
		expect(expectTransparent("pv", list, 2)).toEqual(["0", "0", "0", "EINVAL"]);
	});
});
