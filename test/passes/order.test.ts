/**
 * P0 to P2, X1: a pass runs when the one before it has ended for every domain, and once. Anything else is refused and
 * changes nothing; so is a window that does not fit.
 */
import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import type { Context, Core, Window } from "../../src/core/load.ts";
import { DOMID } from "../../src/format/enums.ts";
import { imageStructs } from "../../src/format/schema.ts";
import { type Checked, newCore, newInstance, openCheck, type RawExports, rawFault, saveTiny } from "../support/core.ts";

const tiny = saveTiny();
const domids = [0, 1, 2, 5];
const { XEN } = DOMID;

const refused = expect.objectContaining({ code: "XLU_E_PASS", rule: "XLU-R031" });
const notChecked = expect.objectContaining({ code: "XLU_E_PASS", rule: "XLU-R032" });

describe("order of the passes", () => {
	let checked: Checked;
	let core: Core;
	let context: Context;
	let target: Window;

	beforeEach(() => {
		checked = openCheck(tiny.stream, tiny.memory);
		({ core, context } = checked);
		target = core.allocate(checked.imageBytes);
		core.bytes(target).fill(0xa5);
		context.target(target);
	});

	function expectRefused(call: () => void, what = refused): void {
		const before = core.bytes(target).slice();
		const done = ["hostDone", "done0", "done1", "done2", "phase"].map((name) => context.figure(name));
		expect(call).toThrow(what);
		expect(Buffer.compare(core.bytes(target), before)).toBe(0);
		expect(["hostDone", "done0", "done1", "done2", "phase"].map((name) => context.figure(name))).toEqual(done);
	}

	function run(pass: 0 | 1 | 2, which: readonly number[] = domids): void {
		if (pass < 2) context.restore(pass, XEN);
		for (const domid of which) context.restore(pass, domid);
	}

	test("giving the target writes nothing", () => {
		expect(core.bytes(target).every((octet) => octet === 0xa5)).toBe(true);
	});

	test("the first step is the host's pass 0: every other one is refused", () => {
		for (const domid of domids) for (const pass of [0, 1, 2]) expectRefused(() => context.restore(pass, domid));
		for (const pass of [1, 2]) expectRefused(() => context.restore(pass, XEN));
		expectRefused(() => context.finish());
	});

	test("pass 0 repeated, of the host and of a domain", () => {
		context.restore(0, XEN);
		expectRefused(() => context.restore(0, XEN));
		context.restore(0, 1);
		expectRefused(() => context.restore(0, 1));
	});

	test("pass 1 begun while one domain lacks pass 0: of that domain, of another one, of the host", () => {
		run(0, [0, 1, 2]);
		for (const domid of [5, 1, XEN]) expectRefused(() => context.restore(1, domid));
		context.restore(0, 5);
		context.restore(1, XEN);
	});

	test("pass 1 of a domain before the host's (the barrier behind page ownership)", () => {
		run(0);
		for (const domid of domids) expectRefused(() => context.restore(1, domid));
		context.restore(1, XEN);
		expectRefused(() => context.restore(1, XEN));
		expectRefused(() => context.restore(0, 1));
		context.restore(1, 1);
		expectRefused(() => context.restore(1, 1));
	});

	test("pass 2 begun while one domain lacks pass 1: of that domain and of another one", () => {
		run(0);
		run(1, [0, 1, 5]);
		for (const domid of [...domids, XEN]) expectRefused(() => context.restore(2, domid));
		context.restore(1, 2);
		context.restore(2, 0);
		expectRefused(() => context.restore(2, 0));
		expectRefused(() => context.restore(1, 1));
	});

	test("finish while one domain lacks pass 2; after it nothing runs any more", () => {
		run(0);
		run(1);
		run(2, [5, 2, 1]);
		expectRefused(() => context.finish());
		context.restore(2, 0);
		context.finish();
		expectRefused(() => context.finish(), notChecked);
		for (const domid of domids)
			expectRefused(() => context.restore(2, domid), expect.objectContaining({ code: "XLU_E_PASS" }));
		expect(context.compare(core.place(tiny.image), target)).toBeUndefined();
	});

	test("passes and domains that do not exist", () => {
		run(0);
		run(1);
		for (const pass of [3, 4, 255, 0xffff_ffff]) expectRefused(() => context.restore(pass, 1));
		expectRefused(() => context.restore(2, XEN));
		for (const domid of [3, 4, 6, 0x7fef, DOMID.SELF, DOMID.IO, DOMID.INVALID, 0x7fff, 0xffff, 0xffff_ffff]) {
			expectRefused(() => context.restore(2, domid), expect.objectContaining({ rule: "XLU-R041" }));
		}
	});

	test("check or a new target in the middle of a restore", () => {
		context.restore(0, XEN);
		const other = core.allocate(target.length);
		expectRefused(() => context.target(other), notChecked);
		expectRefused(() => context.check(checked.stream, checked.work, checked.memory));
		for (const domid of domids) context.restore(0, domid);
		run(1);
		run(2);
		context.finish();
		expect(context.compare(core.place(tiny.image), target)).toBeUndefined();
	});

	test("any sequence of calls: exactly the ones whose turn it is are done, and the end is identical", () => {
		const steps = [XEN, ...domids].flatMap((domid) => [0, 1, 2].map((pass) => ({ domid, pass })));
		const original = core.place(tiny.image);
		fc.assert(
			fc.property(fc.array(fc.constantFrom(...steps), { minLength: 1, maxLength: 120 }), (calls) => {
				context.open(checked.stream);
				context.plan(checked.stream);
				context.check(checked.stream, checked.work, checked.memory);
				context.target(target);
				core.bytes(target).fill(0xa5);
				const done = new Set<string>();
				const all = (pass: number) => domids.every((domid) => done.has(`${pass}/${domid}`));
				const mayRun = ({ domid, pass }: { domid: number; pass: number }): boolean => {
					if (done.has(`${pass}/${domid}`)) return false;
					if (domid === XEN) return pass === 0 || (pass === 1 && done.has(`0/${XEN}`) && all(0));
					if (pass === 0) return done.has(`0/${XEN}`);
					if (pass === 1) return done.has(`1/${XEN}`);
					return all(1) && done.has(`1/${XEN}`);
				};
				const call = (step: { domid: number; pass: number }) => {
					if (mayRun(step)) {
						context.restore(step.pass, step.domid);
						done.add(`${step.pass}/${step.domid}`);
					} else expectRefused(() => context.restore(step.pass, step.domid));
				};
				for (const step of calls) call(step);
				for (const pass of [0, 1, 2]) {
					for (const domid of [XEN, ...domids])
						if (pass < 2 || domid !== XEN) if (!done.has(`${pass}/${domid}`)) call({ domid, pass });
				}
				context.finish();
				expect(context.compare(original, target)).toBeUndefined();
			}),
			{ seed: 3, numRuns: 60 },
		);
	});
});

describe("calls before their turn", () => {
	test("plan before open, check before plan, target before check, restore before target: refused", () => {
		const core = newCore();
		const stream = core.place(tiny.stream);
		const work = core.allocate(1 << 20);
		const target = core.allocate(1 << 20);
		const context = core.createContext();
		const all = [
			() => context.plan(stream),
			() => context.check(stream, work),
			() => context.target(target),
			() => context.restore(0, XEN),
			() => context.finish(),
		];
		for (const call of all) expect(call).toThrow(notChecked);
		context.open(stream);
		for (const call of all.slice(1)) expect(call).toThrow(notChecked);
		context.plan(stream);
		for (const call of all.slice(2)) expect(call).toThrow(notChecked);
		context.check(stream, work, core.place(tiny.memory));
		for (const call of all.slice(3)) expect(call).toThrow(notChecked);
		context.target(target);
		context.restore(0, XEN);
	});

	test("S3: restore without the preserved memory is refused with NEEDS_MEMORY, nothing written", () => {
		const { core, context, imageBytes } = openCheck(tiny.stream);
		const target = core.allocate(imageBytes);
		core.bytes(target).fill(0xa5);
		expect(() => context.target(target)).toThrow(expect.objectContaining({ code: "XLU_E_MEMORY", rule: "XLU-R035" }));
		expect(() => context.restore(0, XEN)).toThrow(notChecked);
		expect(core.bytes(target).every((octet) => octet === 0xa5)).toBe(true);
	});

	test("X1: after a check that refused, no restore: not even with the check that passed before it", () => {
		const { core, context, stream, work, memory, imageBytes } = openCheck(tiny.stream, tiny.memory);
		const target = core.allocate(imageBytes);
		core.bytes(memory as Window)[5000] = 1;
		expect(() => context.check(stream, work, memory)).toThrow(expect.objectContaining({ rule: "XLU-R034" }));
		expect(() => context.target(target)).toThrow(notChecked);
		expect(() => context.restore(0, XEN)).toThrow(notChecked);
		core.bytes(memory as Window)[5000] = tiny.memory[5000] as number;
		context.check(stream, work, memory);
		context.target(target);
	});

	test("one core serves two restores at once: contexts never meet", () => {
		const core = newCore();
		const a = openCheck(tiny.stream, tiny.memory, core);
		const b = openCheck(tiny.stream, tiny.memory, core);
		const [first, second] = [core.allocate(a.imageBytes), core.allocate(b.imageBytes)];
		a.context.target(first);
		b.context.target(second);
		for (const pass of [0, 1, 2] as const) {
			for (const domid of pass < 2 ? [XEN, ...domids] : domids) {
				a.context.restore(pass, domid);
				b.context.restore(pass, domid);
			}
		}
		a.context.finish();
		expect(() => a.context.restore(0, XEN)).toThrow(notChecked);
		b.context.finish();
		expect(core.createContext().compare(first, second)).toBeUndefined();
	});
});

describe("WINDOW: a window that does not fit is refused and nothing is written", () => {
	interface Windows {
		raw: RawExports;
		ctx: number;
		stream: number;
		work: number;
		workBytes: number;
		memory: number;
		target: number;
		imageBytes: number;
	}

	/** Checked, no target yet; all memory behind the context block, for comparison. */
	function setUp(): Windows & { unchanged(call: () => number, what: string): void } {
		const { core, raw } = newInstance();
		const ctx = core.allocate(raw.contextBytes() >>> 0).pointer;
		const stream = core.place(tiny.stream).pointer;
		const memory = core.place(tiny.memory).pointer;
		const figure = (name: string) => {
			const field = imageStructs.Context.fields.find((entry) => entry.name === name);
			return new DataView(raw.memory.buffer).getUint32(ctx + (field?.offset as number), true);
		};
		expect(raw.open(ctx, stream, tiny.stream.length, 0)).toBe(0);
		expect(raw.plan(ctx)).toBe(0);
		const workBytes = figure("planWorkBytes");
		const imageBytes = figure("planImageBytes");
		const work = core.allocate(workBytes).pointer;
		const target = core.allocate(imageBytes).pointer;
		core.bytes({ pointer: target, length: imageBytes }).fill(0xa5);
		const fault = ctx + imageStructs.Context.size;
		const unchanged = (call: () => number, what: string) => {
			const before = new Uint8Array(raw.memory.buffer).slice();
			expect(call() >>> 0, what).toBe(1);
			expect(rawFault(raw, ctx).rule, what).toBe(30);
			const after = new Uint8Array(raw.memory.buffer);
			// The fault record is what a refusal writes.
			before.set(after.subarray(fault, fault + imageStructs.Fault.size), fault);
			expect(Buffer.compare(after, before), what).toBe(0);
		};
		return { raw, ctx, stream, work, workBytes, memory, target, imageBytes, unchanged };
	}

	test("target: too small, misaligned, below the heap, beyond the memory, on another window", () => {
		const { raw, ctx, stream, work, workBytes, memory, target, imageBytes, unchanged } = setUp();
		expect(raw.check(ctx, work, workBytes, memory, tiny.memory.length)).toBe(0);
		const end = raw.memory.buffer.byteLength;
		const cases: [string, number, number][] = [
			["one octet too small", target, imageBytes - 1],
			["empty", target, 0],
			["misaligned", target + 4, imageBytes],
			["at 0", 0, imageBytes],
			["on the module's own data", 1024, imageBytes],
			["half out of the memory", end - 8, imageBytes],
			["behind the memory", end, imageBytes],
			["so long that its end wraps", target, 0xffff_fff8],
			["on the stream", stream, imageBytes],
			["on the stream's last octets", stream + tiny.stream.length - 8, imageBytes],
			["on the workspace", work + 8, imageBytes],
			["on the preserved memory", memory + 4096, imageBytes],
			["on the context block", ctx, imageBytes],
			["on the context block's scratch", ctx + (raw.contextBytes() >>> 0) - 16, imageBytes],
		];
		for (const [what, pointer, bytes] of cases) unchanged(() => raw.target(ctx, pointer, bytes), what);
		expect(raw.target(ctx, target, imageBytes)).toBe(0);
	});

	test("workspace: too small, misaligned, below the heap, beyond the memory, on another window", () => {
		const { raw, ctx, stream, work, workBytes, memory, unchanged } = setUp();
		const end = raw.memory.buffer.byteLength;
		const check = (pointer: number, bytes: number, memoryAt = memory, memoryBytes = tiny.memory.length) =>
			raw.check(ctx, pointer, bytes, memoryAt, memoryBytes);
		const cases: [string, () => number][] = [
			["one octet too small", () => check(work, workBytes - 1)],
			["misaligned", () => check(work + 4, workBytes)],
			["at 0", () => check(0, workBytes)],
			["on the module's own data", () => check(1024, workBytes)],
			["half out of the memory", () => check(end - 8, workBytes)],
			["so long that its end wraps", () => check(work, 0xffff_fff8)],
			["on the stream", () => check(stream, workBytes)],
			["on the preserved memory", () => check(memory + 8, workBytes)],
			["on the context block", () => check(ctx, workBytes)],
			["on the context block's scratch", () => check(ctx + (raw.contextBytes() >>> 0) - 16, workBytes)],
			["preserved memory misaligned", () => check(work, workBytes, memory + 4)],
			["preserved memory beyond the memory", () => check(work, workBytes, end - 4096)],
		];
		for (const [what, call] of cases) unchanged(call, what);
		expect(check(work, workBytes)).toBe(0);
	});

	test("stream: misaligned, beyond the memory", () => {
		const { raw, ctx, stream } = setUp();
		const end = raw.memory.buffer.byteLength;
		for (const [pointer, bytes] of [
			[stream + 4, tiny.stream.length],
			[end - 8, tiny.stream.length],
			[stream, 0xffff_ffff],
		] as const) {
			expect(raw.open(ctx, pointer, bytes, 0)).toBe(1);
			expect(rawFault(raw, ctx).rule).toBe(30);
		}
		expect(raw.open(ctx, stream, tiny.stream.length, 0)).toBe(0);
	});

	test("save: an output too small, misaligned, below the heap, beyond the memory, on the image", () => {
		const { core, raw } = newInstance();
		const ctx = core.allocate(raw.contextBytes() >>> 0).pointer;
		const image = core.place(tiny.image);
		const out = core.allocate(tiny.stream.length * 2).pointer;
		const end = raw.memory.buffer.byteLength;
		const save = (pointer: number, bytes: number) => raw.save(ctx, image.pointer, image.length, pointer, bytes);
		for (const [what, pointer, bytes] of [
			["empty", out, 0],
			["smaller than a header", out, 16],
			["one octet too small", out, tiny.stream.length - 1],
			["misaligned", out + 4, tiny.stream.length],
			["on the module's own data", 1024, tiny.stream.length],
			["beyond the memory", end - 8, tiny.stream.length],
			["on the image", image.pointer + image.length - 8, tiny.stream.length],
			["before the image and into it", image.pointer - 8, tiny.stream.length],
		] as [string, number, number][]) {
			expect(save(pointer, bytes), what).toBe(1);
			expect(rawFault(raw, ctx).rule, what).toBe(30);
			expect(Buffer.compare(core.bytes(image), tiny.image), what).toBe(0);
		}
		expect(save(out, tiny.stream.length * 2)).toBe(0);
	});

	test("digest and compare: windows beyond the memory", () => {
		const { core, raw } = newInstance();
		const ctx = core.allocate(raw.contextBytes() >>> 0).pointer;
		const image = core.place(tiny.image);
		const out = core.allocate(32).pointer;
		const end = raw.memory.buffer.byteLength;
		const { pointer, length } = image;
		for (const status of [
			raw.digest(ctx, end - 8, length, out),
			raw.digest(ctx, pointer, length, end - 8),
			raw.digest(ctx, pointer, length, out + 4),
			raw.compare(ctx, pointer, length, end - 8, length),
			raw.compare(ctx, end - 8, length, pointer, length),
		]) {
			expect(status).toBe(1);
		}
		expect(raw.digest(ctx, pointer, length, out)).toBe(0);
		expect(raw.compare(ctx, pointer, length, pointer, length)).toBe(0);
	});
});

test("S3: restore writes its target, its workspace and its context block, nothing else of the memory", () => {
	const checked = openCheck(tiny.stream, tiny.memory);
	const { core, context, work, imageBytes } = checked;
	core.allocate(4096);
	const target = core.allocate(imageBytes);
	core.allocate(4096);
	const all = { pointer: 0, length: target.pointer + imageBytes + 4096 };
	const before = core.bytes(all).slice();
	context.target(target);
	for (const pass of [0, 1, 2]) {
		for (const domid of pass < 2 ? [XEN, ...domids] : domids) context.restore(pass, domid);
	}
	context.finish();
	const after = core.bytes(all);
	const blockBytes = work.pointer - (checked.memory as Window).pointer - tiny.memory.length;
	const block = { pointer: work.pointer - blockBytes, length: blockBytes };
	for (const { pointer, length } of [target, work, block])
		before.set(after.subarray(pointer, pointer + length), pointer);
	expect(Buffer.compare(after, before)).toBe(0);
});
