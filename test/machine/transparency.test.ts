/**
 * A live update cannot be noticed: for operations A and B at random, `A; live update; B` and `A; B` give the same results,
 * operation by operation, and end in the same state, counts and contents of memory included.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PAGE_TYPE } from "../../src/format/enums.ts";
import {
	Machine,
	type Operation,
	propose,
	type Result,
	resultText,
	runOperation,
} from "../../src/machine/live/index.ts";
import {
	imageDifference,
	machineWithNarrow,
	memoryDifference,
	streamOf,
	type UpdatedMachine,
	updateMachine,
} from "../support/living.ts";

/** How many sequences: XLU_SEQUENCES for a long run; XLU_SEED for another one. */
const SEQUENCES = Number(process.env.XLU_SEQUENCES ?? 2000);
const SEED = Number(process.env.XLU_SEED ?? 1);
const LENGTH = 50;

/** Numbers for one proposal, drawn one after the other. */
const step = fc.array(fc.nat({ max: 2 ** 31 - 1 }), { minLength: 12, maxLength: 12 });

function drawFrom(numbers: readonly number[]) {
	let next = 0;
	return {
		below: (limit: number): number => {
			const number = numbers[next % numbers.length] as number;
			next++;
			// Numbers are used again where a proposal draws many: mixed, so that they do not repeat.
			return Math.floor((((number * (1 + 2 * Math.floor(next / numbers.length))) % 2 ** 31) / 2 ** 31) * limit);
		},
	};
}

/** The operations that proposals come to on the base machine, one after the other; undefined where there is nothing to do. */
function resolve(steps: readonly (readonly number[])[]): (Operation | undefined)[] {
	const machine = fresh();
	return steps.map((numbers) => {
		const operation = propose(machine, drawFrom(numbers));
		if (operation) runOperation(machine, operation);
		return operation;
	});
}

const line = (operation: Operation, result: Result): string =>
	`${JSON.stringify(operation)}  // ${typeof result === "number" ? resultText(operation.op, result) : JSON.stringify(result)}`;

const base = machineWithNarrow();
const baseImage = base.image();
const fresh = (): Machine => Machine.fromImage("base", baseImage, base.memory);

/** Runs A, an update, and B beside B without one. Returns what differs, with all operations, or undefined. */
function difference(before: readonly Operation[], after: readonly Operation[]): string | undefined {
	const machine = fresh();
	const log = before.map((operation) => line(operation, runOperation(machine, operation)));
	const differs = (what: string): string => `${what}\n${log.join("\n")}\n`;
	log.push("-- live update --");
	let updated: UpdatedMachine;
	try {
		updated = updateMachine(machine);
	} catch (error) {
		return differs(`${error}`);
	}
	const restored = imageDifference(updated.before, updated.after);
	if (restored) return differs(`xen#2 is not what xen#1 was: ${restored}`);
	// A second update straight after gives the same stream.
	if (Buffer.compare(updated.stream, streamOf(updated.machine)) !== 0)
		return differs("a second update gives another stream");
	for (const operation of after) {
		const [expected, got] = [runOperation(machine, operation), runOperation(updated.machine, operation)];
		log.push(line(operation, expected));
		if (JSON.stringify(expected) !== JSON.stringify(got)) {
			return differs(`after the update the last operation gives ${JSON.stringify(got)}`);
		}
	}
	const state = imageDifference(machine.image(), updated.machine.image());
	if (state) return differs(`another state at the end: ${state}`);
	const memory = memoryDifference(machine, updated.machine);
	return memory && differs(`another content of memory at the end: ${memory}`);
}

/**
 * A counterexample without the operations that it does not need: what is left out one by one, again and again, as long as
 * something still differs. Operations are concrete by now, so that each one means the same whatever else is left out.
 */
function shrink(before: readonly Operation[], after: readonly Operation[]): string {
	let [a, b] = [before, after];
	let found = difference(a, b) as string;
	for (let size = Math.ceil((a.length + b.length) / 2); size >= 1; ) {
		let isShorter = false;
		for (let from = a.length + b.length - size; from >= 0; from -= size) {
			const keep = (_: Operation, i: number): boolean => i < from || i >= from + size;
			const [shorterA, shorterB] = [a.filter(keep), b.filter((entry, i) => keep(entry, i + a.length))];
			const still = difference(shorterA, shorterB);
			if (still === undefined) continue;
			[a, b, found, isShorter] = [shorterA, shorterB, still, true];
			from = Math.min(from, a.length + b.length);
		}
		if (!isShorter) size = Math.floor(size / 2);
	}
	return found;
}

describe("transparency", () => {
	test(`A; live update; B is A; B: ${SEQUENCES} sequences of ${LENGTH} operations`, () => {
		fc.assert(
			fc.property(
				fc.array(step, { minLength: LENGTH, maxLength: LENGTH, size: "max" }),
				fc.nat({ max: LENGTH }),
				(steps, cut) => {
					const all = resolve(steps);
					const before = all.slice(0, cut).filter((operation) => operation !== undefined);
					const after = all.slice(cut).filter((operation) => operation !== undefined);
					if (difference(before, after) !== undefined) throw new Error(shrink(before, after));
				},
			),
			// Shrunk by the operations instead, see above.
			{ seed: SEED, numRuns: SEQUENCES, endOnFailure: true },
		);
	});

	test("a hundred updates in a row, with operations between", () => {
		const plain = fresh();
		let updated = fresh();
		const draw = fc.sample(step, { seed: 7, numRuns: 2000 });
		for (let round = 0; round < 100; round++) {
			for (const numbers of draw.slice(round * 20, (round + 1) * 20)) {
				const operation = propose(plain, drawFrom(numbers));
				if (!operation) continue;
				const expected = line(operation, runOperation(plain, operation));
				expect([round, line(operation, runOperation(updated, operation))]).toEqual([round, expected]);
			}
			updated = updateMachine(updated).machine;
			expect([round, imageDifference(plain.image(), updated.image())]).toEqual([round, undefined]);
		}
		expect(memoryDifference(plain, updated)).toBeUndefined();
	});
});

/** What the property found, each kept as the shortest sequence that shows it. */
describe("found by it", () => {
	const { frames } = base;
	const tablesOf = (domid: number, level: number): number[] =>
		[...frames.types.keys()].filter((mfn) => frames.ownerOf(mfn) === domid && frames.typeOf(mfn) === level);
	const [lowest] = tablesOf(0, PAGE_TYPE.l1) as [number];
	const [l2] = tablesOf(0, PAGE_TYPE.l2) as [number];
	const ordinary = (domid: number): number =>
		[...frames.types.keys()].findLast(
			(mfn) =>
				frames.ownerOf(mfn) === domid && frames.typeOf(mfn) === PAGE_TYPE.writable && frames.references(mfn) === 2,
		) as number;
	const clear = (domid: number, table: number, slot: number): Operation => ({
		op: "mmu_update",
		domid,
		table,
		slot,
		value: "0x0",
	});
	const slotOf = (table: number, mfn: number): number => {
		let slot = 0;
		while (Number((base.memory.entry(table, slot) >> 12n) & 0xff_ffffn) !== mfn) slot++;
		return slot;
	};

	test("a PV domain without an L1 table yet has vCPUs, pins and upper tables that hold what they hold", () => {
		expect(difference([clear(0, l2, 0)], [])).toBeUndefined();
		expect(difference([clear(0, l2, 0)], [{ op: "domain_destroy", domid: 1 }])).toBeUndefined();
	});

	test("a dead guest's extra frames hold it: its I/O server's page, which the emulator still maps", () => {
		const acquire: Operation[] = [
			{ op: "ioreq_create", domid: 0, guest: 2 },
			{ op: "ioreq_acquire_page", domid: 0, guest: 2, server: 0, table: lowest, slot: 500 },
			{ op: "domain_destroy", domid: 3 },
			{ op: "domain_destroy", domid: 2 },
		];
		expect(difference(acquire, [clear(0, lowest, 500)])).toBeUndefined();
		const machine = fresh();
		const results = acquire.map((operation) => runOperation(machine, operation));
		const dead = machine.domains.get(2);
		expect([results.at(-1), dead?.isDead, dead?.references, dead?.frames, dead?.extraFrames]).toEqual([
			1,
			true,
			1,
			0,
			1,
		]);
		runOperation(machine, clear(0, lowest, 500));
		expect(machine.domains.has(2)).toBe(false);
	});

	test("pins outlive the reference of a PV mapping that its guest wrote over, and the frame has a new owner", () => {
		const granted = ordinary(1);
		const [table] = tablesOf(1, PAGE_TYPE.l1) as [number];
		const before: Operation[] = [
			{ op: "grant_access", domid: 1, ref: 9, grantee: 0, gfn: granted },
			{ op: "gnttab_map_grant_ref", domid: 0, granter: 1, ref: 9, kind: "host", table: lowest, slot: 501 },
			clear(0, lowest, 501),
			clear(1, table, slotOf(table, granted)),
			{ op: "decrease_reservation", domid: 1, gfn: granted },
			{ op: "populate_physmap", domid: 2, gfn: 600 },
		];
		const machine = fresh();
		expect(before.map((operation) => runOperation(machine, operation))).toEqual([0, 0, 0, 0, 1, granted]);
		expect([machine.frames.ownerOf(granted), machine.domains.get(1)?.tables.grantActive[9]?.hostWrite]).toEqual([2, 1]);
		const unmap: Operation = { op: "gnttab_unmap_grant_ref", domid: 0, handle: 0, table: lowest, slot: 501 };
		expect(difference(before, [unmap, { op: "domain_destroy", domid: 0 }])).toBeUndefined();
	});

	test("a handle outlives the granting domain, if its guest wrote over the mapping, and its successor", () => {
		const before: Operation[] = [
			{ op: "grant_access", domid: 3, ref: 8, grantee: 0, gfn: 0 },
			{ op: "gnttab_map_grant_ref", domid: 0, granter: 3, ref: 8, kind: "host", table: lowest, slot: 502 },
			clear(0, lowest, 502),
			{ op: "domain_destroy", domid: 3 },
		];
		const unmap: Operation = { op: "gnttab_unmap_grant_ref", domid: 0, handle: 0, table: lowest, slot: 502 };
		const machine = fresh();
		expect([...before, unmap].map((operation) => runOperation(machine, operation))).toEqual([0, 0, 0, 0, -2]);
		expect([machine.domains.has(3), machine.domains.get(0)?.tables.maptrack[0]?.domid]).toEqual([false, 3]);
		expect(difference(before, [unmap, { op: "domain_destroy", domid: 0 }])).toBeUndefined();
		// Another domain of that number grants the same reference anew: two handles for one pin.
		const again: Operation[] = [
			{ op: "domain_create", domid: 3, kind: "pvh", frames: 40 },
			{ op: "grant_access", domid: 3, ref: 8, grantee: 0, gfn: 1 },
			{ op: "gnttab_map_grant_ref", domid: 0, granter: 3, ref: 8, kind: "host", table: lowest, slot: 503 },
		];
		expect(difference([...before, ...again], [{ op: "domain_destroy", domid: 0 }])).toBeUndefined();
		expect(difference([...before, ...again.slice(0, 1)], [unmap, ...again.slice(1)])).toBeUndefined();
	});

	test("a free port remembers the queue that it was last linked on", () => {
		const [block, words] = [ordinary(1), ordinary(1) - 1];
		const before: Operation[] = [
			{ op: "evtchn_init_control", domid: 1, vcpu: 0, gfn: block },
			{ op: "evtchn_expand_array", domid: 1, gfn: words },
			{ op: "evtchn_bind_ipi", domid: 1, vcpu: 0 },
			{ op: "evtchn_bind_ipi", domid: 1, vcpu: 0 },
			{ op: "evtchn_set_priority", domid: 1, port: 1, priority: 3 },
			{ op: "evtchn_send", domid: 1, port: 1 },
			{ op: "evtchn_drain", domid: 1, vcpu: 0 },
			{ op: "evtchn_close", domid: 1, port: 1 },
		];
		// The port moves to another queue; what comes on the old one must not be linked behind it.
		const after: Operation[] = [
			{ op: "evtchn_bind_ipi", domid: 1, vcpu: 0 },
			{ op: "evtchn_send", domid: 1, port: 1 },
			{ op: "evtchn_set_priority", domid: 1, port: 2, priority: 3 },
			{ op: "evtchn_send", domid: 1, port: 2 },
			{ op: "evtchn_drain", domid: 1, vcpu: 0 },
		];
		expect(difference(before, after)).toBeUndefined();
		const machine = fresh();
		const results = [...before, ...after].map((operation) => runOperation(machine, operation));
		expect([results[6], results.at(-1)]).toEqual([[1], [2, 1]]);
	});
});
