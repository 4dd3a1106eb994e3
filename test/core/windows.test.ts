/**
 * Save, digest and restore in steps: the same octets as in one go, through windows of any size, with the bulk tables in the
 * image or detached from it; and what is refused.
 */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Core, type Wants, type Window } from "../../src/core/load.ts";
import {
	digestInSteps,
	gather,
	type RowSource,
	restoreInWindows,
	saveInSteps,
	TablesInMemory,
} from "../../src/core/windows.ts";
import { DOMID } from "../../src/format/enums.ts";
import { domainTables, hostTables, IMAGE_DETACHED, imageStructs, records } from "../../src/format/schema.ts";
import { loadHost } from "../../src/host.ts";
import { buildDetachedImage, buildImage, viewImage } from "../../src/machine/image.ts";
import type { HostModel, PreservedPages } from "../../src/machine/model.ts";
import { countReferences } from "../../src/machine/references.ts";
import { layouts } from "../../src/machine/synthetic/index.ts";
import { coreModule, memoryFor, newCore, newInstance, root, saveModel } from "../support/core.ts";
import { formsHost } from "../support/formsHost.ts";
import { secondHost } from "../support/secondHost.ts";
import { tinyHost } from "../support/tinyHost.ts";

interface Model {
	model: HostModel;
	preserved: PreservedPages;
}

const synthetic = (layout: string): Model =>
	loadHost(`synthetic:domains=6,memory=24M,vcpus=2,layout=${layout},ports=8,grants=16,seed=5`);

const hosts: [string, Model][] = [
	["tiny", tinyHost()],
	["forms", formsHost()],
	["second", secondHost()],
	["a capture: pv", loadHost(join(root, "examples/pv"))],
	["a capture: hvm", loadHost(join(root, "test/fixtures/xen-4.17/hvm"))],
	...layouts.map((layout): [string, Model] => [layout, synthetic(layout)]),
];

const CHUNK = 4096;
const table = (name: string) => hostTables.findIndex((one) => one.name === name);
const P2M = domainTables.findIndex((one) => one.name === "P2m");
const [OWNERS, TYPES, COUNTS] = [table("FrameOwners"), table("FrameTypes"), table("FrameCounts")];
const space = { code: "XLU_E_SPACE", rule: "XLU-R030" };
const order = { code: "XLU_E_PASS", rule: "XLU-R031" };
const refused = (what: object) => expect.objectContaining(what);

/** A host detached, its image in a core, its tables beside it. */
function detach({ model, preserved }: Model, core = newCore()) {
	const { image, bulk } = buildDetachedImage(model, preserved);
	return { core, image: core.place(image), bulk, tables: new TablesInMemory(bulk) };
}

/** A stream opened and checked for a detached target, which is given. */
function checkDetached(core: Core, stream: Uint8Array, memory: Uint8Array) {
	const window = core.place(stream);
	const preserved = core.place(memory);
	const context = core.createContext();
	context.open(window, { detached: true });
	const { imageBytes, workBytes } = context.plan(window);
	context.check(window, core.allocate(workBytes), preserved);
	const target = core.allocate(imageBytes);
	context.target(target);
	return { context, target };
}

function wholeDigest(image: Uint8Array): bigint {
	const core = newCore();
	return core.createContext().digest(core.place(image));
}

describe.each(hosts)("%s", (_name, host) => {
	const whole = saveModel(host.model, host.preserved);
	const expected = Buffer.from(whole.stream);

	test("save in steps of an image that has its tables: the same stream, from the least window up", async () => {
		const core = newCore();
		const image = core.place(whole.image);
		const { windowBytes } = core.createContext().planSteps(image);
		for (const bytes of [windowBytes, windowBytes + 8, 2 * windowBytes + 1024, whole.stream.length + windowBytes]) {
			const stream = await gather(saveInSteps(core, image, undefined, { windowBytes: bytes }));
			expect(expected.equals(stream), `a window of ${bytes} octets`).toBe(true);
		}
	});

	test("the same of a detached one, with rows from one chunk at a time up", async () => {
		for (const rowsBytes of [CHUNK * 8, CHUNK * 24 + 8, 1 << 24]) {
			const { core, image, tables } = detach(host);
			const stream = await gather(saveInSteps(core, image, tables, { rowsBytes }));
			expect(expected.equals(stream), `${rowsBytes} octets of rows`).toBe(true);
		}
	});

	test("pieces come in order, cover the stream, and only an LU_SECTION comes twice", async () => {
		const { core, image, tables } = detach(host);
		let end = 0;
		const again: number[] = [];
		for await (const { offset, bytes } of saveInSteps(core, image, tables)) {
			if (offset === end) end += bytes.length;
			else {
				expect(offset + bytes.length).toBeLessThanOrEqual(end);
				expect(new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true)).toBe(
					records.find(({ name }) => name === "LU_SECTION")?.type,
				);
				again.push(offset);
			}
		}
		expect(end).toBe(whole.stream.length);
		expect(new Set(again).size).toBe(again.length);
		expect(again.length).toBeGreaterThan(0);
	});

	test("digest in steps: that of the whole image, with the tables in it or detached", async () => {
		const digest = wholeDigest(whole.image);
		const core = newCore();
		expect(await digestInSteps(core, core.place(whole.image))).toBe(digest);
		for (const rowsBytes of [1000, 1 << 20]) {
			const { core: other, image, tables } = detach(host);
			expect(await digestInSteps(other, image, tables, { rowsBytes }), `${rowsBytes} octets`).toBe(digest);
		}
	});

	test("restore in windows: digest and tables are xen#1's, and what was restored saves to the same stream", async () => {
		// Windows that end in the middle of chunks, in the middle of slices, and behind everything.
		for (const rowsBytes of [CHUNK * 8 + 8 * 1001, 1 << 20, 1 << 25]) {
			const core = newCore();
			const { context, target } = checkDetached(core, whole.stream, whole.memory);
			const tables = new TablesInMemory();
			await restoreInWindows(core, context, target, tables, { rowsBytes });
			const digest = await digestInSteps(core, target, tables);
			expect(digest, `${rowsBytes} octets`).toBe(wholeDigest(whole.image));
			for (const {
				domid,
				table: { name },
				bytes,
			} of detach(host).bulk) {
				expect(Buffer.compare(tables.table(domid, name), bytes), `${domid} ${name}`).toBe(0);
			}
			const stream = await gather(saveInSteps(core, target, tables));
			expect(expected.equals(stream), `${rowsBytes} octets`).toBe(true);
		}
	});

	test("the detached image is the whole one but for the bulk tables: the same small tables", () => {
		const { image } = buildDetachedImage(host.model, host.preserved);
		const [small, large] = [viewImage(image), viewImage(whole.image)];
		expect(small.domains.map(({ domid }) => domid)).toEqual(large.domains.map(({ domid }) => domid));
		const rows = large.domains.flatMap(({ tables }) => tables.filter(({ table: { name } }) => name === "P2m"));
		const p2ms = rows.reduce((sum, { count }) => sum + count * 8, 0);
		expect(whole.image.length - image.length).toBe(p2ms + alignedFrames(host.model.frameOwners.length));
		small.domains.forEach(({ tables }, i) => {
			expect(tables.map(({ count }) => count)).toEqual(large.domains[i]?.tables.map(({ count }) => count));
		});
	});
});

/** Owners and counts of 8 octets, types of 1, padded to 8. */
const alignedFrames = (frames: number) => frames * 16 + Math.ceil(frames / 8) * 8;

describe("more than the memory holds", () => {
	const host = loadHost("synthetic:domains=3,memory=512M,vcpus=1,layout=superpages,ports=4,grants=4,seed=8");
	const whole = saveModel(host.model, host.preserved);
	const rowsBytes = 1 << 18;
	const CAP = 10 << 20;

	test("a host whose tables are larger than the core's memory may be is saved, checked and restored", async () => {
		const saving = new Core(new WebAssembly.Instance(coreModule, {}), CAP);
		expect(whole.image.length).toBeGreaterThan(CAP);
		expect(() => saving.place(whole.image)).toThrow(refused({ code: "XLU_E_SPACE" }));
		const source = detach(host, saving);
		const stream = await gather(saveInSteps(saving, source.image, source.tables, { rowsBytes }));
		expect(Buffer.compare(stream, whole.stream)).toBe(0);
		expect(saving.memoryBytes).toBeLessThanOrEqual(CAP);

		const restoring = new Core(new WebAssembly.Instance(coreModule, {}), CAP);
		const { context, target } = checkDetached(restoring, stream, memoryFor(stream, host.preserved));
		const tables = new TablesInMemory();
		await restoreInWindows(restoring, context, target, tables, { rowsBytes });
		expect(await digestInSteps(restoring, target, tables, { rowsBytes })).toBe(wholeDigest(whole.image));
		expect(restoring.memoryBytes).toBeLessThanOrEqual(CAP);
	});

	test("a host of 2^28 frames and more, of which the most are nobody's: numbers beyond what a whole image can have", async () => {
		const frames = 2 ** 28 + 12_345;
		const tiny = tinyHost();
		const { image, bulk } = buildDetachedImage(tiny.model, tiny.preserved);
		const view = new DataView(image.buffer);
		for (const { table: one } of bulk) {
			const number = hostTables.indexOf(one);
			if (number < 0) continue;
			view.setUint32(imageStructs.ImageRoot.size + number * imageStructs.TableRef.size + 4, frames, true);
		}
		const { host: tables } = viewImage(image);
		const head = tables.find(({ table: { name } }) => name === "Host");
		const field = head?.table.row.fields.find(({ name }) => name === "frameCount")?.offset as number;
		view.setBigUint64((head?.offset as number) + field, BigInt(frames), true);
		const known = new TablesInMemory(bulk);
		const source: RowSource = {
			read(one, first, rows) {
				rows.fill(0);
				known.read(one, first, rows);
			},
		};
		const core = newCore();
		const window = core.place(image);
		const stream = await gather(saveInSteps(core, window, source));
		const opened = core.createContext();
		const place = core.place(stream);
		opened.open(place);
		expect(() => opened.plan(place)).toThrow(refused({ rule: "XLU-R040" }));
		opened.open(place, { detached: true });
		const { imageBytes, workBytes } = opened.plan(place);
		expect(imageBytes).toBe(image.length);
		expect(workBytes).toBeGreaterThan(8 * frames);
		expect(opened.figure("frameCount")).toBe(frames);
	});
});

describe("out of turn, and windows that are not", () => {
	const tiny = tinyHost();
	const whole = saveModel(tiny.model, tiny.preserved);

	/** A save that wants rows for the first time, with what it has: a slice of a P2M, which is many chunks. */
	function atRows(host: Model) {
		const { core, image, tables } = detach(host);
		const context = core.createContext();
		const { windowBytes, indexBytes } = context.planSteps(image);
		const out = core.allocate(windowBytes);
		const index = core.allocate(indexBytes);
		const rows = core.allocate(1 << 23);
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

	test("version 1 in steps: the stream that save writes of it; what it cannot hold is refused by name", async () => {
		const { model, preserved } = synthetic("typical");
		const older = saveModel(model, preserved, 1);
		const core = newCore();
		const stream = await gather(saveInSteps(core, core.place(older.image), undefined, { format: 1 }));
		expect(Buffer.compare(stream, older.stream)).toBe(0);
		const second = secondHost();
		const what = { rule: "XLU-R047", code: "XLU_E_VERSION", record: "LU_VNUMA", domid: 2, expected: "2", got: "1" };
		const whole = core.place(saveModel(second.model, second.preserved).image);
		await expect(gather(saveInSteps(core, whole, undefined, { format: 1 }))).rejects.toThrow(refused(what));
		const { core: other, image, tables } = detach(second);
		await expect(gather(saveInSteps(other, image, tables, { format: 1 }))).rejects.toThrow(refused(what));
	});

	test("S2: counts that windows make are those counted from the model, whatever the windows", async () => {
		const host = synthetic("typical");
		const expected = countReferences(host.model, host.preserved);
		const saved = saveModel(host.model, host.preserved);
		const core = newCore();
		const { context, target } = checkDetached(core, saved.stream, saved.memory);
		const tables = new TablesInMemory();
		await restoreInWindows(core, context, target, tables, { rowsBytes: 40_000 });
		const counts = tables.table(undefined, "FrameCounts");
		expect(new Uint32Array(counts.buffer, counts.byteOffset, counts.length / 4)).toEqual(expected.frames);
		expect(buildImage(host.model, host.preserved).length).toBe(saved.image.length);
	});
});
