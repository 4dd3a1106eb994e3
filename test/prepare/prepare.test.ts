/** prepare: changes how fast things are and nothing else. How fast is bench/prepare.mjs's to say: no test looks at a clock. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Host, loadHost } from "../../src/host.ts";
import { load } from "../../src/library.ts";
import { PAGE_BYTES } from "../../src/machine/preserved.ts";
import { needRoom, warmModule, windowBytes } from "../../src/prepare.ts";
import { liveUpdate } from "../../src/update.ts";
import { onOneThread, onWorkers, startPool } from "../parallel/support.ts";
import { coreModule, newInstance, openCheck, root, saveModel } from "../support/core.ts";

const hvm = loadHost(join(root, "test/fixtures/xen-4.17/hvm"));

describe("prepare", () => {
	test("saves, checks and restores the same after it, with a host and without", async () => {
		const xlu = await load({ module: coreModule });
		const before = xlu.save(hvm);
		for (const host of [undefined, hvm]) {
			await xlu.prepare(host);
			const after = xlu.save(hvm);
			expect(Buffer.compare(after.stream, before.stream)).toBe(0);
			expect(Buffer.compare(after.memory, before.memory)).toBe(0);
			await xlu.prepare(host);
			expect(xlu.check(after.stream, after.memory).ok).toBe(true);
			await xlu.prepare(host);
			expect(xlu.compare(xlu.image(hvm), xlu.restore(after.stream, after.memory).image)).toBe(null);
		}
	});

	test("an update is identical with it and without, and its timeline has the same stages", async () => {
		const reports = [];
		for (const prepare of [true, false]) reports.push(await liveUpdate(hvm, { module: coreModule, prepare }));
		expect(reports.map(({ identical }) => identical)).toEqual([true, true]);
		const [first, second] = reports.map(({ stages }) => stages.map(({ name }) => name));
		expect(first).toEqual(second);
	});

	test("warms workers too, and leaves their core as if new", async () => {
		const pool = await startPool(2);
		try {
			const next = pool.core.allocate(0).pointer;
			pool.core.reset();
			await warmModule(coreModule, pool);
			expect(pool.core.allocate(0).pointer).toBe(next);
			const { stream, memory } = saveModel(hvm.model, hvm.preserved);
			const alone = onOneThread(stream, memory);
			expect((await onWorkers(pool, alone)).digest).toBe(alone.digest);
		} finally {
			await pool.close();
		}
	});
});

describe("touch", () => {
	test("grows the memory, moves no window and spoils none; the next one stands where it would have stood", () => {
		const { core, raw } = newInstance();
		const window = core.place(new Uint8Array(5000).fill(0xa5));
		const before = raw.memory.buffer.byteLength;
		core.touch(1 << 20);
		expect(raw.memory.buffer.byteLength).toBeGreaterThanOrEqual(before + (1 << 20) - 65536);
		expect(core.bytes(window).every((octet) => octet === 0xa5)).toBe(true);
		expect(core.allocate(1).pointer).toBe(Math.ceil((window.pointer + 5000) / 16) * 16);
	});

	test("what an update's windows come to is no less than what they take", () => {
		for (const line of ["pv", "hvm", "synthetic:domains=5,memory=64M,layout=adversarial"]) {
			const host = loadHost(line.startsWith("synthetic") ? line : join(root, "test/fixtures/xen-4.17", line));
			const { stream, memory, image } = saveModel(host.model, host.preserved);
			const { core, raw } = newInstance();
			core.touch(windowBytes(host, image.length, stream.length));
			const touched = raw.memory.buffer.byteLength;
			const { imageBytes } = openCheck(stream, memory, core);
			core.allocate(imageBytes);
			expect(raw.memory.buffer.byteLength, line).toBe(touched);
		}
	});
});

test("needRoom: a host that has no room beside so many workers' sums is XLU_E_SPACE before the pause", () => {
	const host = { ...hvm, model: { ...hvm.model, frameOwners: { length: 2 ** 24 } } } as unknown as Host;
	const image = 17 * 2 ** 24;
	const room = 2 ** 32 - image - hvm.preserved.size * PAGE_BYTES;
	const most = Math.floor(room / (8 * 2 ** 24));
	needRoom(host, image, most);
	expect(() => needRoom(host, image, most + 1)).toThrow(expect.objectContaining({ code: "XLU_E_SPACE" }));
});
