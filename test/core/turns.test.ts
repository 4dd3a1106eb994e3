/**
 * Save, digest and restore in steps: what is out of turn, and windows that are not where they may be, are refused, and the
 * steps go on all the same.
 */
import { describe, expect, test } from "vitest";
import type { Context, Wants, Window } from "../../src/core/load.ts";
import { DOMID } from "../../src/format/enums.ts";
import { domainTables, hostTables, IMAGE_DETACHED, imageStructs } from "../../src/format/schema.ts";
import { buildDetachedImage, viewImage } from "../../src/machine/image.ts";
import { newCore, newInstance, saveModel } from "../support/core.ts";
import { checkDetached, detach, type Model } from "../support/detached.ts";
import { type Edges, edgesOf, withGaps } from "../support/edges.ts";
import { formsHost } from "../support/formsHost.ts";
import { tinyHost } from "../support/tinyHost.ts";

const CHUNK = 4096;
const table = (name: string) => hostTables.findIndex((one) => one.name === name);
const P2M = domainTables.findIndex((one) => one.name === "P2m");
const [OWNERS, TYPES, COUNTS] = [table("FrameOwners"), table("FrameTypes"), table("FrameCounts")];
const space = { code: "XLU_E_SPACE", rule: "XLU-R030" };
const order = { code: "XLU_E_PASS", rule: "XLU-R031" };
const refused = (what: object) => expect.objectContaining(what);

const tiny = tinyHost();
const whole = saveModel(tiny.model, tiny.preserved);

describe("out of turn, and windows that are not", () => {
	/** A save that wants rows for the first time, with what it has: a slice of a P2M, which is many chunks. */
	function atRows(host: Model) {
		const { core, image, tables } = detach(host);
		const context = core.createContext();
		const { windowBytes, indexBytes } = context.planSteps(image);
		const out = core.allocate(windowBytes);
		const index = core.allocate(indexBytes);
		// All that are wanted, and a chunk more.
		const rows = core.allocate((1 << 23) + CHUNK * 8);
		const pieces: { offset: number; bytes: Uint8Array }[] = [];
		const drain = (wants: Wants): Wants => {
			let now = wants;
			while (now.kind === "drain") {
				pieces.push({ offset: now.offset, bytes: core.bytes(now.piece).slice() });
				now = context.saveStep();
			}
			return now;
		};
		const wants = drain(context.saveStart(image, out, index));
		if (wants.kind !== "rows") throw new Error("a detached image has to want rows");
		const bring = (asked: Extract<Wants, { kind: "rows" }>): Wants => {
			const of = (asked.domid === DOMID.XEN ? hostTables : domainTables)[asked.table];
			const rowBytes = of?.row.size as number;
			const window = { pointer: rows.pointer, length: asked.count * rowBytes };
			const domid = asked.domid === DOMID.XEN ? undefined : asked.domid;
			tables.read({ domid, name: of?.name as string, rowBytes }, asked.first, core.bytes(window));
			return context.saveStep(window);
		};
		/** Whatever was refused: the save goes on, and is the same. */
		const end = (): Uint8Array => {
			let now: Wants = wants;
			while (now.kind === "rows") now = drain(bring(now));
			const stream = new Uint8Array(Math.max(...pieces.map(({ offset, bytes }) => offset + bytes.length)));
			for (const { offset, bytes } of pieces) stream.set(bytes, offset);
			return stream;
		};
		return { core, image, context, out, index, rows, wants, end };
	}

	test("windows of a save: too small, misplaced, over each other, are refused", () => {
		const { core, image } = detach(tiny);
		const context = core.createContext();
		const { windowBytes, indexBytes } = context.planSteps(image);
		const out = core.allocate(windowBytes);
		const index = core.allocate(indexBytes);
		const start = (one: Window, other: Window) => () => context.saveStart(image, one, other);
		expect(start({ ...out, length: windowBytes - 1 }, index)).toThrow(refused(space));
		expect(start(out, { ...index, length: indexBytes - 1 })).toThrow(refused(space));
		expect(start({ ...out, pointer: out.pointer + 4 }, index)).toThrow(refused(space));
		expect(start({ ...out, pointer: 0 }, index)).toThrow(refused(space));
		expect(start({ ...out, pointer: core.memoryBytes - 8 }, index)).toThrow(refused(space));
		expect(start({ ...out, pointer: image.pointer }, index)).toThrow(refused(space));
		expect(start(out, { ...index, pointer: out.pointer + 8 })).toThrow(refused(space));
		expect(start({ ...out, pointer: context.pointer }, index)).toThrow(refused(space));
		// None of them has begun anything.
		expect(() => context.saveStep()).toThrow(refused(order));
		expect(start(out, index)()).toMatchObject({ kind: "rows" });
	});

	test("rows: none, too few, too many, half a row, misplaced, over other windows; the save goes on all the same", () => {
		const forms = formsHost();
		const { core, image, context, out, index, rows, wants, end } = atRows(forms);
		const { count } = wants;
		expect(count).toBe(1 << 20);
		const step = (pointer: number, length: number) => () => context.saveStep({ pointer, length });
		for (const length of [0, 8, CHUNK * 8 - 8, CHUNK * 8 + 8, CHUNK * 8 + 1, count * 8 - 8, count * 8 + CHUNK * 8]) {
			expect(step(rows.pointer, length), `${length} octets`).toThrow(refused(space));
			const most = length > count * 8 ? count * 8 : CHUNK * 8;
			expect(context.fault(), `${length} octets`).toMatchObject({ expected: BigInt(most), got: BigInt(length) });
		}
		for (const pointer of [rows.pointer + 4, 0, image.pointer, out.pointer, index.pointer, context.pointer]) {
			expect(step(pointer, CHUNK * 8), `at ${pointer}`).toThrow(refused(space));
		}
		expect(step(core.memoryBytes - 8, CHUNK * 8)).toThrow(refused(space));
		expect(() => context.digestStep({ pointer: rows.pointer, length: CHUNK * 8 })).toThrow(refused(order));
		expect(Buffer.compare(end(), saveModel(forms.model, forms.preserved).stream)).toBe(0);
		// And when it is done no step follows.
		expect(() => context.saveStep()).toThrow(refused(order));
	});

	test("rows that were not asked for are refused; so are steps before a start, and of the other kind", () => {
		const { core, image } = detach(tiny);
		const context = core.createContext();
		expect(() => context.saveStep()).toThrow(refused(order));
		expect(() => context.digestStep(image)).toThrow(refused(order));
		const full = core.place(whole.image);
		const { windowBytes, indexBytes } = context.planSteps(full);
		expect(() => context.saveStep()).toThrow(refused(order));
		const rows = core.allocate(CHUNK * 8);
		expect(context.saveStart(full, core.allocate(windowBytes), core.allocate(indexBytes)).kind).toBe("drain");
		expect(() => context.saveStep(rows)).toThrow(refused(order));
		expect(context.digestStart(image).kind).toBe("rows");
		expect(() => context.saveStep(rows)).toThrow(refused(order));
	});

	test("a detached image is refused by those who need its tables; so are flags and offsets that mean nothing", () => {
		const { core, image } = detach(tiny);
		const other = core.place(whole.image);
		const unsound = refused({ rule: "XLU-R033" });
		expect(() => core.createContext().planSave(image)).toThrow(unsound);
		expect(() => core.createContext().digest(image)).toThrow(unsound);
		expect(() => core.createContext().compare(image, other)).toThrow(unsound);
		const flags = imageStructs.ImageRoot.fields.find(({ name }) => name === "flags")?.offset as number;
		core.bytes(image)[flags] = IMAGE_DETACHED + 1;
		expect(() => core.createContext().planSteps(image)).toThrow(unsound);
		core.bytes(image)[flags] = IMAGE_DETACHED;
		core.bytes(image)[imageStructs.ImageRoot.size + OWNERS * imageStructs.TableRef.size] = 8;
		expect(() => core.createContext().digestStart(image)).toThrow(unsound);
		// A whole image that says it is detached has tables where none may be.
		core.bytes(other)[flags] = IMAGE_DETACHED;
		expect(() => core.createContext().planSteps(other)).toThrow(unsound);
	});

	test("hostile calls on the raw exports: a status each time, never a trap", () => {
		const { core, raw } = newInstance();
		const context = core.createContext().pointer;
		const image = core.place(buildDetachedImage(tiny.model, tiny.preserved).image);
		const odd = [0, 8, 4095, image.pointer, 0x7fff_fff8, 0xffff_fff8, 0xffff_ffff];
		for (const a of odd) {
			for (const b of odd) {
				expect(raw.saveStep(context, a, b)).toBe(1);
				expect(raw.digestStep(context, a, b)).toBe(1);
				expect(raw.restoreRows(context, DOMID.XEN, OWNERS, 0, 1, a, b)).toBe(1);
				if (a !== image.pointer) expect(raw.planSteps(context, a, b)).toBe(1);
				expect(raw.saveStart(context, image.pointer, image.length, a, b, b, a)).toBe(1);
				expect(raw.digestStart(context, a, 64)).toBe(1);
			}
		}
	});

	/** A restore into a detached target that has not begun. */
	function restoring() {
		const core = newCore();
		const { context, target } = checkDetached(core, whole.stream, whole.memory);
		const window = core.allocate(1 << 20);
		const rows = (domid: number, number: number, first: number, count: number, out = window) =>
			context.restoreRows(domid, number, first, count, out);
		return { core, context, target, window, rows, domids: context.domids() };
	}

	test("restoreRows: each table in its turn, rows in order, each once; a pass waits for the rows before it", () => {
		const { core, context, target, rows, domids } = restoring();
		const late = refused(order);
		const frames = tiny.model.frameOwners.length;
		const hvm = 2;
		expect(() => rows(hvm, P2M, 0, 1)).toThrow(late);
		context.restore(0, DOMID.XEN);
		expect(() => rows(hvm, P2M, 0, 1)).toThrow(late);
		for (const domid of domids) context.restore(0, domid);
		const counts = new Map(
			viewImage(core.bytes(target)).domains.map(({ domid, tables }) => [domid, tables[P2M]?.count as number]),
		);
		const gfns = counts.get(hvm) as number;
		expect(gfns).toBeGreaterThan(2);
		expect(() => rows(hvm, P2M, 1, 1)).toThrow(late);
		expect(() => rows(hvm, P2M, 0, 0)).toThrow(late);
		expect(() => rows(hvm, P2M, 0, gfns + 1)).toThrow(late);
		expect(() => rows(hvm, P2M + 1, 0, 1)).toThrow(late);
		expect(() => rows(77, P2M, 0, 1)).toThrow(refused({ rule: "XLU-R041" }));
		rows(hvm, P2M, 0, 1);
		expect(() => rows(hvm, P2M, 0, 1)).toThrow(late);
		expect(() => rows(DOMID.XEN, OWNERS, 0, 1)).toThrow(late);
		expect(() => context.restore(1, DOMID.XEN)).toThrow(late);
		rows(hvm, P2M, 1, gfns - 1);
		for (const [domid, count] of counts) if (domid !== hvm && count) rows(domid, P2M, 0, count);
		expect(() => rows(DOMID.XEN, COUNTS, 0, frames)).toThrow(late);
		rows(DOMID.XEN, OWNERS, 0, frames);
		expect(() => context.restore(1, DOMID.XEN)).toThrow(late);
		rows(DOMID.XEN, TYPES, 0, frames);
		context.restore(1, DOMID.XEN);
		expect(() => rows(DOMID.XEN, TYPES, 0, frames)).toThrow(late);
		for (const domid of domids) context.restore(1, domid);
		for (const domid of domids.slice(1)) context.restore(2, domid);
		expect(() => rows(DOMID.XEN, COUNTS, 0, frames)).toThrow(late);
		context.restore(2, domids[0] as number);
		expect(() => context.finish()).toThrow(late);
		rows(DOMID.XEN, COUNTS, 0, frames);
		context.finish();
		expect(() => rows(DOMID.XEN, COUNTS, 0, frames)).toThrow(refused({ rule: "XLU-R032" }));
	});

	test("restoreRows: a window that is too small, misplaced or another's is refused", () => {
		const { core, context, target, window, rows, domids } = restoring();
		context.restore(0, DOMID.XEN);
		for (const domid of domids) context.restore(0, domid);
		const into = (pointer: number, length: number) => () => rows(2, P2M, 0, 2, { pointer, length });
		expect(into(window.pointer, 15)).toThrow(refused(space));
		expect(into(window.pointer + 4, 16)).toThrow(refused(space));
		expect(into(0, 16)).toThrow(refused(space));
		expect(into(core.memoryBytes - 8, 16)).toThrow(refused(space));
		for (const pointer of [target.pointer, context.pointer, context.figure("streamPtr"), context.figure("workPtr")]) {
			expect(into(pointer, 16), `at ${pointer}`).toThrow(refused(space));
		}
		expect(into(context.figure("memoryPtr"), 16)).toThrow(refused(space));
		into(window.pointer, 16)();
	});

	test("workers and rows do not go together; a target that has its tables makes no rows", () => {
		const { core, context } = restoring();
		expect(() => context.fork(core.createContext(), core.allocate(1 << 20))).toThrow(refused(order));
		const other = core.createContext();
		const stream = core.place(whole.stream);
		other.open(stream);
		const { imageBytes, workBytes } = other.plan(stream);
		other.check(stream, core.allocate(workBytes), core.place(whole.memory));
		other.target(core.allocate(imageBytes));
		other.restore(0, DOMID.XEN);
		const rows = core.allocate(64);
		expect(() => other.restoreRows(DOMID.XEN, OWNERS, 0, 1, rows)).toThrow(refused({ rule: "XLU-R032" }));
	});
});

describe("windows beside each other's edges, and over one edge alone", () => {
	const contextField = (name: string) =>
		imageStructs.Context.fields.find((field) => field.name === name)?.offset as number;
	const detached = buildDetachedImage(tiny.model, tiny.preserved).image;

	/** Each wrong place is refused with WINDOW, in these words. */
	function refuseAll(context: Context, { wrong }: Edges, call: (pointer: number) => unknown) {
		for (const [what, pointer, fault] of wrong) {
			expect(() => call(pointer), what).toThrow(refused(space));
			expect(context.fault(), what).toMatchObject(fault);
		}
	}

	/** A detached image and the windows of its save, with gaps. */
	function spread() {
		const { core, raw } = newInstance();
		const measuring = newCore();
		const { windowBytes, indexBytes } = measuring.createContext().planSteps(measuring.place(detached));
		const gap = Math.max(windowBytes, indexBytes, CHUNK * 8) + 16;
		core.allocate(gap);
		const context = core.createContext();
		const { image, out, index } = withGaps(core, gap, { image: detached.length, out: windowBytes, index: indexBytes });
		core.bytes(image).set(detached);
		const block = { pointer: context.pointer, length: raw.contextBytes() >>> 0 };
		return { core, raw, heapBase: raw.heapBase() >>> 0, context, block, image, out, index };
	}

	test("the stream's window of a save, and the index's", () => {
		const { core, heapBase, context, block, image, out, index } = spread();
		const apart = { image, "context block": block };
		const start = (one: Window, other: Window) => context.saveStart(image, one, other);
		const outs = edgesOf(core, heapBase, out.length, { ...apart, index });
		refuseAll(context, outs, (pointer) => start({ ...out, pointer }, index));
		for (const [what, pointer] of outs.sound) expect(start({ ...out, pointer }, index).kind, what).toBe("rows");
		// That the two of them meet is said of the first.
		const indexes = edgesOf(core, heapBase, index.length, apart);
		refuseAll(context, indexes, (pointer) => start(out, { ...index, pointer }));
		for (const [what, pointer] of indexes.sound) expect(start(out, { ...index, pointer }).kind, what).toBe("rows");
	});

	test("the image of a save and of a digest", () => {
		const { core, raw } = newInstance();
		core.allocate(detached.length);
		const context = core.createContext();
		core.allocate(2 * detached.length);
		const edges = edgesOf(core, raw.heapBase() >>> 0, detached.length, {});
		const begins = [(image: Window) => context.planSteps(image), (image: Window) => context.digestStart(image)];
		for (const begin of begins) {
			refuseAll(context, edges, (pointer) => begin({ pointer, length: detached.length }));
			for (const [what, pointer] of edges.sound) {
				const image = { pointer, length: detached.length };
				core.bytes(image).set(detached);
				expect(() => begin(image), what).not.toThrow();
			}
		}
	});

	test("rows that a save wants, and a digest", () => {
		const { core, heapBase, context, block, image, out, index } = spread();
		const wants = context.saveStart(image, out, index);
		expect(wants).toMatchObject({ kind: "rows" });
		const length = (wants as Extract<Wants, { kind: "rows" }>).count * 8;
		const all = { image, "stream's window": out, index, "context block": block };
		refuseAll(context, edgesOf(core, heapBase, length, all), (pointer) => context.saveStep({ pointer, length }));
		expect(context.digestStart(image).kind).toBe("rows");
		const own = edgesOf(core, heapBase, 8, { image, "context block": block });
		refuseAll(context, own, (pointer) => context.digestStep({ pointer, length: 8 }));
		for (const [what, pointer] of own.sound) {
			expect(context.digestStep({ pointer, length: 8 }).kind, what).toBe("rows");
		}
	});

	test("rows that a restore makes", () => {
		const { core, raw } = newInstance();
		core.allocate(64);
		const { context, target } = checkDetached(core, whole.stream, whole.memory);
		core.allocate(64);
		const rows = (first: number, count: number, pointer: number, length = count * 8) =>
			context.restoreRows(2, P2M, first, count, { pointer, length });
		context.restore(0, DOMID.XEN);
		for (const domid of context.domids()) context.restore(0, domid);
		const of = (name: string, bytes: string) => ({ pointer: context.figure(name), length: context.figure(bytes) });
		const windows = {
			target,
			stream: of("streamPtr", "streamBytes"),
			workspace: of("workPtr", "planWorkBytes"),
			memory: of("memoryPtr", "memoryBytes"),
			"context block": { pointer: context.pointer, length: raw.contextBytes() >>> 0 },
		};
		refuseAll(context, edgesOf(core, raw.heapBase() >>> 0, 8, windows), (pointer) => rows(0, 1, pointer));
		rows(0, 1, raw.heapBase() >>> 0);
		rows(1, 1, core.memoryBytes - 8);
	});

	test("steps of a context that something else has begun on since, or that another core's is", () => {
		const { core, context, image, out, index } = spread();
		const stream = core.place(whole.stream);
		const view = () => new DataView(core.bytes({ pointer: context.pointer, length: imageStructs.Context.size }).buffer);
		expect(context.saveStart(image, out, index).kind).toBe("rows");
		const rows = core.allocate(CHUNK * 8);
		const abi = context.pointer + contextField("abi");
		const known = view().getUint32(abi, true);
		view().setUint32(abi, known + 1, true);
		expect(() => context.saveStep(rows)).toThrow(refused(order));
		expect(context.fault()).toMatchObject({ got: 0n });
		view().setUint32(abi, known, true);
		context.open(stream);
		expect(() => context.saveStep()).toThrow(refused(order));
		expect(context.figure("sectionCount")).toBeGreaterThan(0);
	});
});
