/**
 * Workers' contexts as the core sees them, on one thread and in any order: what threads do at once must come to the same
 * one after the other, and nothing may run before its turn, or be left out, unnoticed.
 */
import { describe, expect, test } from "vitest";
import type { Context, Core } from "../../src/core/load.ts";
import { DOMID, PASS } from "../../src/format/enums.ts";
import { imageStructs } from "../../src/format/schema.ts";
import { loadHost } from "../../src/host.ts";
import { viewImage } from "../../src/machine/image.ts";
import { Random } from "../../src/random.ts";
import {
	memoryFor,
	newInstance,
	openCheck,
	type RawExports,
	rawFault,
	restoreAll,
	saveModel,
} from "../support/core.ts";
import { referenceDecode, referenceEncode } from "../support/extentReference.ts";
import { parse, type StreamRecord } from "../support/restitch.ts";
import { tinyHost } from "../support/tinyHost.ts";
import { onOneThread, type Restorable, restorable, restorableHost } from "./support.ts";

interface Workers extends RawExports {
	fork(ctx: number, worker: number, sums: number, bytes: number): number;
	frames(ctx: number, pass: number, block: number): number;
}

const { XEN } = DOMID;
const PASS_ORDER = 31;
const NOT_CHECKED = 32;
const WINDOW = 30;

const tiny = restorable(tinyHost());

/** A call: on which context it may run is the test's to choose, but for those of the first context. */
interface Call {
	what: "restore" | "frames";
	pass: number;
	item: number;
}

/** All calls of a restore, barrier by barrier. */
function phases(domids: readonly number[], blocks: number): Call[][] {
	const every = (what: Call["what"], pass: number, items: readonly number[]) =>
		items.map((item): Call => ({ what, pass, item }));
	const all = Array.from({ length: blocks }, (_, block) => block);
	return [
		every("restore", 0, [XEN]),
		[...every("restore", 0, domids), ...every("frames", 0, all)],
		every("frames", 1, all),
		every("restore", 1, [XEN]),
		every("restore", 1, domids),
		every("restore", 2, domids),
		every("frames", 2, all),
	];
}

class Restore {
	readonly core: Core;
	readonly raw: Workers;
	readonly contexts: Context[];
	readonly phases: Call[][];
	readonly target: { pointer: number; length: number };
	/** What a call that is refused must leave alone: workspace, sums, target. */
	readonly #guarded: { pointer: number; length: number }[];

	constructor(host: Restorable, forks: number) {
		const { core, raw } = newInstance();
		// No window is clean when it is handed over: an earlier restore has left its marks.
		const octets = host.stream.length + host.memory.length + 2 * host.image.length;
		core.bytes(core.allocate(octets)).fill(0x01);
		core.reset();
		const checked = openCheck(host.stream, host.memory, core);
		this.core = core;
		this.raw = raw as Workers;
		this.target = core.allocate(checked.imageBytes);
		const workers = Array.from({ length: forks }, () => core.createContext());
		const sums = workers.map(() => core.allocate(checked.context.figure("planSumsBytes")));
		for (const window of [this.target, ...sums]) core.bytes(window).fill(0xa5);
		checked.context.target(this.target);
		for (const [i, worker] of workers.entries()) checked.context.fork(worker, sums[i] as (typeof sums)[number]);
		this.contexts = [checked.context, ...workers];
		this.phases = phases(host.domids, checked.context.figure("blockCount"));
		this.#guarded = [this.target, checked.work, ...sums];
	}

	get first(): Context {
		return this.contexts[0] as Context;
	}

	/** Status of a call. */
	call({ what, pass, item }: Call, context: Context): number {
		return (what === "restore" ? this.raw.restore : this.raw.frames)(context.pointer, pass, item) >>> 0;
	}

	finish(context = this.first): number {
		return this.raw.finish(context.pointer) >>> 0;
	}

	rule(context: Context): number {
		return rawFault(this.raw, context.pointer).rule;
	}

	octets(): Uint8Array {
		return this.core.bytes(this.target).slice();
	}

	guarded(): Buffer {
		return Buffer.concat(this.#guarded.map((window) => this.core.bytes(window).slice()));
	}
}

/** Does every call of a restore, in random order between barriers, each on a random context. */
function run(restore: Restore, random: Random): void {
	for (const phase of restore.phases) {
		const left = [...phase];
		while (left.length > 0) {
			const [call] = left.splice(random.below(left.length), 1) as [Call];
			const context = call.item === XEN ? restore.first : restore.contexts[random.below(restore.contexts.length)];
			expect(restore.call(call, context as Context), JSON.stringify(call)).toBe(0);
		}
	}
}

const several = () => restorableHost("synthetic:domains=4,memory=128M,layout=adversarial,seed=3");

describe("calls on several contexts come to the same image", () => {
	test.each([
		["tiny", () => tiny, 40],
		["several blocks", several, 6],
	] as const)("%s: in random order, on random contexts", (_, host, times) => {
		for (let seed = 1; seed <= times; seed++) {
			const random = new Random(seed);
			const restore = new Restore(host(), 1 + random.below(4));
			run(restore, random);
			expect(restore.finish(), `seed ${seed}`).toBe(0);
			expect(Buffer.compare(restore.octets(), host().image), `seed ${seed}`).toBe(0);
		}
	});

	test("one context alone, with a worker that does nothing", () => {
		const restore = new Restore(several(), 1);
		for (const phase of restore.phases) for (const call of phase) expect(restore.call(call, restore.first)).toBe(0);
		expect(restore.finish()).toBe(0);
		expect(Buffer.compare(restore.octets(), several().image)).toBe(0);
	});

	test("slices and chunks that begin and end anywhere: a chunk belongs to the block that it begins in", () => {
		const host = loadHost("synthetic:domains=4,memory=128M,layout=adversarial,seed=3");
		const stream = parse(saveModel(host.model, host.preserved).stream);
		for (const section of stream.sections) section.records = section.records.flatMap((record) => recut(record));
		const octets = stream.build();
		const cut = onOneThread(octets, memoryFor(octets, host.preserved));
		expect(Buffer.compare(cut.image, several().image)).toBe(0);
		for (const seed of [1, 2, 3]) {
			const restore = new Restore(cut, 2);
			run(restore, new Random(seed));
			expect(restore.finish()).toBe(0);
			expect(Buffer.compare(restore.octets(), cut.image)).toBe(0);
		}
	});

	test.each([
		["tiny", () => tinyHost(), tiny],
		["several blocks", () => loadHost("synthetic:domains=4,memory=128M,layout=adversarial,seed=3"), several()],
	] as const)("%s: what no slice covers is zero, whatever the target held", (_, load, whole) => {
		const { model, preserved } = load();
		const stream = parse(saveModel(model, preserved).stream);
		let covered = 0;
		for (const section of stream.sections) {
			section.records = section.records.flatMap((record) => {
				const slices = withoutZeros(record);
				covered += slices.length;
				return slices;
			});
		}
		expect(covered).toBeGreaterThan(parse(whole.stream).sections.flatMap(({ records }) => records).length);
		const octets = stream.build();
		const memory = memoryFor(octets, preserved);
		const { core } = newInstance();
		core.bytes(core.allocate(4 * whole.image.length + octets.length + memory.length)).fill(0xa5);
		core.reset();
		const target = restoreAll(openCheck(octets, memory, core));
		expect(Buffer.compare(core.bytes(target), whole.image)).toBe(0);
		for (const seed of [1, 2, 3]) {
			const restore = new Restore({ ...whole, stream: octets, memory }, 2);
			run(restore, new Random(seed));
			expect(restore.finish()).toBe(0);
			expect(Buffer.compare(restore.octets(), whole.image)).toBe(0);
		}
	});
});

/** Ends of slices, beside the borders of blocks at 65536 and 131072; what follows is a slice of its own. */
const cuts = [1, 61_540, 65_535, 70_001, 131_071, 131_073];

/** LU_FRAMES and LU_PAGE_TYPES in slices that fit no block. */
function recut(record: StreamRecord): StreamRecord[] {
	if (record.name !== "LU_FRAMES" && record.name !== "LU_PAGE_TYPES") return [record];
	const elementBytes = record.name === "LU_FRAMES" ? 8 : 1;
	const count = Number(record.get("entryCount"));
	const headBytes = record.body.length - Number(record.get("chunkBytes"));
	const entries = referenceDecode(elementBytes, record.body.subarray(headBytes), count);
	const ends = [...cuts.filter((end) => end < count), count];
	return ends.map((end, i) => {
		const start = i === 0 ? 0 : (ends[i - 1] as number);
		const coded = referenceEncode(elementBytes, entries.slice(start, end));
		const piece = record.clone();
		piece.body = Buffer.concat([record.body.subarray(0, headBytes), coded]);
		piece.set("firstMfn", BigInt(record.get("firstMfn")) + BigInt(start));
		piece.set("entryCount", end - start);
		piece.set("chunkBytes", coded.length);
		return piece;
	});
}

/** A stretch of so many entries that are zero is left out. */
const LEAST_ZEROS = 16;

/** The slices of a table that has stretches of zeros, each of them left out. */
function withoutZeros(record: StreamRecord): StreamRecord[] {
	const first = record.name === "LU_P2M" ? "firstGfn" : "firstMfn";
	if (first === "firstMfn" && record.name !== "LU_FRAMES" && record.name !== "LU_PAGE_TYPES") return [record];
	const elementBytes = record.name === "LU_PAGE_TYPES" ? 1 : 8;
	const count = Number(record.get("entryCount"));
	const headBytes = record.body.length - Number(record.get("chunkBytes"));
	const entries = referenceDecode(elementBytes, record.body.subarray(headBytes), count);
	const slices: StreamRecord[] = [];
	for (let start = 0; start < count; ) {
		let zeros = start;
		while (zeros < count && entries[zeros] === 0n) zeros++;
		if (zeros > start) start = zeros;
		let end = start;
		let run = 0;
		for (; end < count && run < LEAST_ZEROS; end++) run = entries[end] === 0n ? run + 1 : 0;
		end -= run;
		if (end > start) {
			const coded = referenceEncode(elementBytes, entries.slice(start, end));
			const slice = record.clone();
			slice.body = Buffer.concat([record.body.subarray(0, headBytes), coded]);
			slice.set(first, BigInt(record.get(first)) + BigInt(start));
			slice.set("entryCount", end - start);
			slice.set("chunkBytes", coded.length);
			slices.push(slice);
		}
		start = end;
	}
	return slices;
}

describe("nothing runs before its turn, twice, or not at all", () => {
	test("in every state every other call, on every context, is refused with PASS_ORDER and writes nothing", () => {
		const restore = new Restore(tiny, 2);
		const all = restore.phases.flat();
		for (const [i, phase] of restore.phases.entries()) {
			for (const [j, call] of phase.entries()) {
				const legal = new Set(phase.slice(j));
				const before = restore.guarded();
				for (const other of all) {
					for (const context of restore.contexts) {
						if (legal.has(other) && (other.item !== XEN || context === restore.first)) continue;
						expect(restore.call(other, context), `${i}: ${JSON.stringify(other)}`).toBe(1);
						expect(restore.rule(context)).toBe(PASS_ORDER);
					}
				}
				for (const context of restore.contexts) expect(restore.finish(context)).toBe(1);
				expect(Buffer.compare(restore.guarded(), before), `state ${i}, ${j}`).toBe(0);
				expect(restore.call(call, restore.contexts[j % (call.item === XEN ? 1 : 3)] as Context)).toBe(0);
			}
		}
		for (const context of restore.contexts.slice(1)) expect(restore.finish(context)).toBe(1);
		expect(restore.finish()).toBe(0);
		expect(Buffer.compare(restore.octets(), tiny.image)).toBe(0);
		// The workers' contexts have ended with the first.
		for (const context of restore.contexts) {
			expect(restore.call({ what: "restore", pass: 2, item: 0 }, context)).toBe(1);
			expect(restore.rule(context)).toBe(NOT_CHECKED);
		}
	});

	test("whichever one call is left out, a later one and finish are refused", () => {
		const count = new Restore(tiny, 1).phases.flat().length;
		for (let left = 0; left < count; left++) {
			const restore = new Restore(tiny, 1);
			const skipped = restore.phases.flat()[left] as Call;
			for (const call of restore.phases.flat()) {
				if (call !== skipped) restore.call(call, call.item === XEN ? restore.first : (restore.contexts[1] as Context));
			}
			expect(restore.finish(), JSON.stringify(skipped)).toBe(1);
			expect(restore.rule(restore.first)).toBe(PASS_ORDER);
			const done = restore.core.bytes(restore.target);
			const at = imageStructs.ImageRoot.fields.find(({ name }) => name === "restoredPass")?.offset as number;
			expect(new DataView(done.buffer, done.byteOffset).getUint32(at, true)).not.toBe(0xffff_ffff);
		}
	});

	test("one block behind the others holds up all of them: its chunks may reach into the next", () => {
		const restore = new Restore(several(), 1);
		const [create, clear, place, count, ...rest] = restore.phases as [Call[], Call[], Call[], Call[], ...Call[][]];
		const refused = (calls: Call[]) => {
			for (const call of calls) {
				expect(restore.call(call, restore.first), JSON.stringify(call)).toBe(1);
				expect(restore.rule(restore.first)).toBe(PASS_ORDER);
			}
		};
		const done = (calls: Call[]) => {
			for (const call of calls) expect(restore.call(call, restore.first), JSON.stringify(call)).toBe(0);
		};
		done(create);
		expect(place.length).toBeGreaterThan(2);
		done(clear.slice(0, -1));
		refused(place);
		done(clear.slice(-1));
		done(place.slice(1));
		refused(count);
		done(place.slice(0, 1));
		for (const phase of [count, ...rest]) done(phase);
		expect(restore.finish()).toBe(0);
		expect(Buffer.compare(restore.octets(), several().image)).toBe(0);
	});

	test("a block beyond the host, a pass that there is not, blocks without workers", () => {
		const restore = new Restore(tiny, 1);
		restore.call({ what: "restore", pass: 0, item: XEN }, restore.first);
		for (const [pass, item] of [
			[0, 1],
			[0, 0xffff_ffff],
			[3, 0],
			[0xffff_ffff, 0],
		] as const) {
			expect(restore.call({ what: "frames", pass, item }, restore.first)).toBe(1);
			expect(restore.rule(restore.first)).toBe(PASS_ORDER);
			// A block, or whose turn it is: the pass that is next.
			const what = item === 0 ? { expected: 0n, got: BigInt(pass) } : { expected: 1n, got: BigInt(item) };
			expect(restore.first.fault()).toMatchObject(what);
		}
		const { core, raw } = newInstance();
		const { context, imageBytes } = openCheck(tiny.stream, tiny.memory, core);
		const frames = (block = 0) => (raw as Workers).frames(context.pointer, 0, block) >>> 0;
		expect(frames()).toBe(1);
		expect(rawFault(raw, context.pointer).rule).toBe(NOT_CHECKED);
		context.target(core.allocate(imageBytes));
		context.restore(0, XEN);
		for (const block of [0, 7]) {
			expect(frames(block)).toBe(1);
			expect(rawFault(raw, context.pointer).rule).toBe(PASS_ORDER);
			expect(context.fault()).toMatchObject({ expected: 0n, got: BigInt(block) });
		}
	});
});

test("domains with the most work come first: the P2M in pass 0, the section in the others", () => {
	const restore = new Restore(tiny, 1);
	expect(restore.call({ what: "restore", pass: 0, item: XEN }, restore.first)).toBe(0);
	const sizes = [0, 1, 2].map(() => new Map<number, number>());
	const stream = parse(tiny.stream);
	for (const { pass, domid, records } of stream.sections) {
		const of = sizes[[PASS["0"], PASS["1d"], PASS["2"]].indexOf(pass as 1)];
		of?.set(
			domid,
			records.reduce((sum, { body }) => sum + 8 + Math.ceil(body.length / 8) * 8, 0),
		);
	}
	for (const { domid, tables } of viewImage(tiny.image).domains) {
		const rows = tables.find(({ table }) => table.name === "P2m")?.count ?? 0;
		sizes[0]?.set(domid, (sizes[0].get(domid) ?? 0) + 8 * rows);
	}
	const expected = sizes.map((of) => [...of].sort(([a, x], [b, y]) => y - x || a - b).map(([domid]) => domid));
	expect(restore.first.bySize(tiny.domids)).toEqual(expected);
	expect(new Set(expected.map(String)).size).toBeGreaterThan(1);
});

describe("fork", () => {
	function checked() {
		const { core, raw } = newInstance();
		const opened = openCheck(tiny.stream, tiny.memory, core);
		const target = core.allocate(opened.imageBytes);
		const sumsBytes = opened.context.figure("planSumsBytes");
		// With room behind it: a block that is misaligned is nobody else's.
		const block = core.allocate((raw.contextBytes() >>> 0) + 16);
		const sums = core.allocate(sumsBytes);
		return { core, raw: raw as Workers, ...opened, target, block, sums, sumsBytes };
	}

	test("WINDOW: one that does not fit, or is somebody's, is refused and nothing is written", () => {
		const { core, raw, context, target, block, sums, sumsBytes, stream, work, memory } = checked();
		context.target(target);
		const end = core.bytes({ pointer: 0, length: 0 }).buffer.byteLength;
		const ctx = context.pointer;
		const blockBytes = raw.contextBytes() >>> 0;
		const other = core.createContext();
		const otherSums = core.allocate(sumsBytes);
		context.fork(other, otherSums);
		const inTheWay = [1024, ctx, stream.pointer, work.pointer, memory?.pointer as number, target.pointer];
		inTheWay.push(other.pointer, otherSums.pointer);
		const cases: [what: string, worker: number, sums: number, bytes: number][] = [
			["block misaligned", block.pointer + 8, sums.pointer, sumsBytes],
			["sums misaligned", block.pointer, sums.pointer + 4, sumsBytes],
			["sums one octet too small", block.pointer, sums.pointer, sumsBytes - 1],
			["block half out of the memory", end - 16, sums.pointer, sumsBytes],
			["sums half out of the memory", block.pointer, end - 8, sumsBytes],
			["sums on the block", block.pointer, block.pointer + blockBytes - 16, sumsBytes],
			...inTheWay.map((at): (typeof cases)[number] => [`block on ${at}`, at & ~15, sums.pointer, sumsBytes]),
			...inTheWay.map((at): (typeof cases)[number] => [`sums on ${at}`, block.pointer, at & ~7, sumsBytes]),
		];
		const fault = ctx + imageStructs.Context.size;
		for (const [what, worker, at, bytes] of cases) {
			const before = new Uint8Array(raw.memory.buffer).slice();
			expect(raw.fork(ctx, worker, at, bytes) >>> 0, what).toBe(1);
			expect(rawFault(raw, ctx).rule, what).toBe(WINDOW);
			const after = new Uint8Array(raw.memory.buffer);
			before.set(after.subarray(fault, fault + imageStructs.Fault.size), fault);
			expect(Buffer.compare(after, before), what).toBe(0);
		}
		expect(raw.fork(ctx, block.pointer, sums.pointer, sumsBytes)).toBe(0);
	});

	test("needs a target; not after the first pass has begun; not of a worker", () => {
		const { core, raw, context, target, block, sums, sumsBytes } = checked();
		const fork = (ctx = context.pointer) => raw.fork(ctx, block.pointer, sums.pointer, sumsBytes) >>> 0;
		expect(fork()).toBe(1);
		expect(rawFault(raw, context.pointer).rule).toBe(NOT_CHECKED);
		context.target(target);
		const worker = core.createContext();
		context.fork(worker, core.allocate(sumsBytes));
		expect(fork(worker.pointer)).toBe(1);
		context.restore(0, XEN);
		expect(fork()).toBe(1);
		expect(rawFault(raw, context.pointer).rule).toBe(PASS_ORDER);
	});

	test("once there are workers, check and target are over, on any context", () => {
		const { core, raw, context, target, work, memory, sumsBytes } = checked();
		context.target(target);
		const worker = core.createContext();
		context.fork(worker, core.allocate(sumsBytes));
		for (const { pointer } of [context, worker]) {
			expect(raw.check(pointer, work.pointer, work.length, memory?.pointer ?? 0, memory?.length ?? 0) >>> 0).toBe(1);
			expect(rawFault(raw, pointer).rule).toBe(PASS_ORDER);
			expect(raw.target(pointer, target.pointer, target.length) >>> 0).toBe(1);
			expect(rawFault(raw, pointer).rule).toBe(PASS_ORDER);
		}
	});
});
