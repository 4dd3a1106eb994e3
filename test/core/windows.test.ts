/**
 * Save, digest and restore in steps: the same octets as in one go, through windows of any size, with the bulk tables in the
 * image or detached from it. What is refused is in turns.test.ts.
 */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Core } from "../../src/core/load.ts";
import {
	digestInSteps,
	gather,
	type RowSource,
	restoreInWindows,
	saveInSteps,
	TablesInMemory,
} from "../../src/core/windows.ts";
import { hostTables, imageStructs, records } from "../../src/format/schema.ts";
import { loadHost } from "../../src/host.ts";
import { buildDetachedImage, buildImage, viewImage } from "../../src/machine/image.ts";
import { countReferences } from "../../src/machine/references.ts";
import { layouts } from "../../src/machine/synthetic/index.ts";
import { coreModule, memoryFor, newCore, root, saveModel } from "../support/core.ts";
import { checkDetached, detach, type Model } from "../support/detached.ts";
import { formsHost } from "../support/formsHost.ts";
import { secondHost } from "../support/secondHost.ts";
import { tinyHost } from "../support/tinyHost.ts";

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
const refused = (what: object) => expect.objectContaining(what);

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
