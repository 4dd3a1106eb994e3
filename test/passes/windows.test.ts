/** Windows, in every call: one that does not fit is refused and nothing is written; a restore writes its own alone. */
import { describe, expect, test } from "vitest";
import type { Window } from "../../src/core/load.ts";
import { DOMID } from "../../src/format/enums.ts";
import { imageStructs } from "../../src/format/schema.ts";
import { newInstance, openCheck, type RawExports, rawFault, saveTiny } from "../support/core.ts";
import { edgesOf, withGaps } from "../support/edges.ts";

const tiny = saveTiny();
const domids = [0, 1, 2, 5];
const { XEN } = DOMID;

/** A number of the last refusal on a raw context. */
function faultNumber(raw: RawExports, ctx: number, name: "expected" | "got"): number {
	const { offset } = imageStructs.Fault.fields.find((field) => field.name === name)!;
	return Number(new DataView(raw.memory.buffer).getBigUint64(ctx + imageStructs.Context.size + offset, true));
}

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
		unchanged(() => raw.target(ctx, 1024, imageBytes), "below the heap");
		expect(faultNumber(raw, ctx, "expected")).toBe(raw.heapBase());
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
			["half of what it takes", out, (tiny.stream.length >>> 4) << 3],
			["one octet too small", out, tiny.stream.length - 1],
			["misaligned", out + 4, tiny.stream.length],
			["on the module's own data", 1024, tiny.stream.length],
			["beyond the memory", end - 8, tiny.stream.length],
			["on the image", image.pointer + image.length - 8, tiny.stream.length],
			["before the image and into it", image.pointer - 8, tiny.stream.length],
		] as [string, number, number][]) {
			core.bytes({ pointer: out, length: 32 }).fill(0xa5);
			expect(save(pointer, bytes), what).toBe(1);
			expect(rawFault(raw, ctx).rule, what).toBe(30);
			expect(Buffer.compare(core.bytes(image), tiny.image), what).toBe(0);
			// Not even the image header, where that has no room.
			if (bytes < 24) expect(new Set(core.bytes({ pointer: out, length: 32 })), what).toEqual(new Set([0xa5]));
		}
		expect(save(1024, tiny.stream.length)).toBe(1);
		expect(faultNumber(raw, ctx, "expected")).toBe(raw.heapBase());
		expect(save(out, tiny.stream.length * 2)).toBe(0);
	});

	test("digest and compare: windows beyond the memory are refused, those that end with it are not", () => {
		const { core, raw } = newInstance();
		const ctx = core.allocate(raw.contextBytes() >>> 0).pointer;
		const image = core.place(tiny.image);
		const out = core.allocate(32).pointer;
		core.allocate(2 * image.length);
		const end = raw.memory.buffer.byteLength;
		const { pointer, length } = image;
		const calls: [string, () => number][] = [
			["the image", () => raw.digest(ctx, end - 8, length, out)],
			["the image, as it is said to be", () => raw.digest(ctx, pointer, end - pointer + 8, out)],
			["the chain", () => raw.digest(ctx, pointer, length, end - 8)],
			["the chain, misaligned", () => raw.digest(ctx, pointer, length, out + 4)],
			["the second image", () => raw.compare(ctx, pointer, length, end - 8, length)],
			["the second image, as it is said to be", () => raw.compare(ctx, pointer, length, pointer, end - pointer + 8)],
			["the first image", () => raw.compare(ctx, end - 8, length, pointer, length)],
			["the first image, as it is said to be", () => raw.compare(ctx, pointer, end - pointer + 8, pointer, length)],
		];
		for (const [what, call] of calls) {
			expect(call(), what).toBe(1);
			expect(rawFault(raw, ctx).rule, what).toBe(30);
		}
		expect(raw.digest(ctx, pointer, length, out)).toBe(0);
		expect(raw.compare(ctx, pointer, length, pointer, length)).toBe(0);
		expect(raw.digest(ctx, pointer, length, end - 24)).toBe(0);
		const last = end - length;
		core.bytes({ pointer: last, length }).set(tiny.image);
		expect(raw.digest(ctx, last, length, out)).toBe(0);
		expect(raw.compare(ctx, last, length, last, length)).toBe(0);
	});

	test("save: an image beyond the memory", () => {
		const { core, raw } = newInstance();
		const ctx = core.allocate(raw.contextBytes() >>> 0).pointer;
		const { pointer, length } = core.place(tiny.image);
		const end = raw.memory.buffer.byteLength;
		for (const [from, bytes] of [
			[end - 8, length],
			[pointer, end - pointer + 8],
		] as const) {
			expect(raw.planSave(ctx, from, bytes)).toBe(1);
			expect(rawFault(raw, ctx).rule).toBe(30);
		}
		expect(raw.planSave(ctx, pointer, end - pointer)).toBe(0);
	});
});

describe("WINDOW: beside the edges of memory and of other windows, and over one edge alone", () => {
	const blockBytes = newInstance().raw.contextBytes() >>> 0;
	const { imageBytes, work } = openCheck(tiny.stream, tiny.memory);
	/** A workspace's size is a multiple of 4. */
	const workBytes = Math.ceil(work.length / 8) * 8;

	/** Opened and planned, each window with gaps. */
	function spread() {
		const { core, raw } = newInstance();
		const windows = withGaps(core, Math.max(imageBytes, workBytes) + 16, {
			"context block": blockBytes,
			stream: tiny.stream.length,
			memory: tiny.memory.length,
			workspace: workBytes,
		});
		core.bytes(windows.stream).set(tiny.stream);
		core.bytes(windows.memory).set(tiny.memory);
		const ctx = windows["context block"].pointer;
		expect(raw.open(ctx, windows.stream.pointer, tiny.stream.length, 0)).toBe(0);
		expect(raw.plan(ctx)).toBe(0);
		return { core, raw, ctx, windows, heapBase: raw.heapBase() >>> 0 };
	}

	test("workspace and target", () => {
		const { core, raw, ctx, windows, heapBase } = spread();
		const { workspace, memory, ...others } = windows;
		const check = (pointer: number) => raw.check(ctx, pointer, workspace.length, memory.pointer, memory.length) >>> 0;
		const target = (pointer: number) => raw.target(ctx, pointer, imageBytes) >>> 0;
		for (const [call, bytes, all] of [
			[check, workspace.length, { ...others, memory }],
			[target, imageBytes, windows],
		] as const) {
			const { sound, wrong } = edgesOf(core, heapBase, bytes, all);
			for (const [what, pointer] of wrong) {
				expect(call(pointer), what).toBe(1);
				expect(rawFault(raw, ctx).rule, what).toBe(30);
			}
			for (const [what, pointer] of sound) expect(call(pointer), what).toBe(0);
			expect(check(workspace.pointer)).toBe(0);
		}
	});

	test("stream, which may end with the memory", () => {
		const { core, raw, ctx, windows } = spread();
		const { length } = windows.stream;
		const pointer = core.memoryBytes - length;
		core.bytes({ pointer, length }).set(tiny.stream);
		expect(raw.open(ctx, pointer, length, 0)).toBe(0);
	});

	test("output of a save, of just the stream's length", () => {
		const { core, raw } = newInstance();
		const { length } = tiny.stream;
		core.allocate(length);
		const ctx = core.allocate(blockBytes).pointer;
		const { image } = withGaps(core, length + 16, { image: tiny.image.length });
		core.bytes(image).set(tiny.image);
		const { sound, wrong } = edgesOf(core, raw.heapBase() >>> 0, length, { image });
		const save = (pointer: number) => raw.save(ctx, image.pointer, image.length, pointer, length) >>> 0;
		for (const [what, pointer] of wrong) {
			expect(save(pointer), what).toBe(1);
			expect(rawFault(raw, ctx).rule, what).toBe(30);
			expect(Buffer.compare(core.bytes(image), tiny.image), what).toBe(0);
		}
		for (const [what, pointer] of sound) {
			expect(save(pointer), what).toBe(0);
			expect(Buffer.compare(core.bytes({ pointer, length }), tiny.stream), what).toBe(0);
		}
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
