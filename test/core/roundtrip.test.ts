/** save -> open -> plan -> check -> restore -> finish. The orders in which that may happen are test/passes. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Core } from "../../src/core/load.ts";
import { DOMID, FRAME, NONE32, PAGE_TYPE } from "../../src/format/enums.ts";
import { readStruct } from "../../src/format/layout.ts";
import { records, structs } from "../../src/format/schema.ts";
import { viewImage } from "../../src/machine/image.ts";
import { countReferences } from "../../src/machine/references.ts";
import { memoryFor, newCore, openCheck, restoreAll, root, saveModel, saveTiny } from "../support/core.ts";
import { parse } from "../support/restitch.ts";
import { tinyHost } from "../support/tinyHost.ts";

const tiny = saveTiny();
const { model, preserved } = tinyHost();
const domids = model.domains.map(({ domain }) => domain.domid);

/** Digest of the image that a stream restores to. */
function digestOf(stream: Uint8Array): bigint {
	const checked = openCheck(stream, memoryFor(stream, preserved));
	return checked.context.digest(restoreAll(checked));
}

const digest = digestOf(tiny.stream);

describe("the tiny host", () => {
	test("has every record of version 1", () => {
		const parsed = parse(tiny.stream);
		const present = new Set(parsed.sections.flatMap((section) => section.records.map((record) => record.name)));
		const missing = records.filter((def) => def.since === 1 && def.section !== "-" && !present.has(def.name));
		expect(missing.map((def) => def.name)).toEqual([]);
	});

	test("the test's own framing gives the stream back octet for octet", () => {
		expect(parse(tiny.stream).build()).toEqual(tiny.stream);
	});
});

describe("save, check, restore", () => {
	test("identical: compare finds no difference, and the digests are equal", () => {
		const checked = openCheck(tiny.stream, tiny.memory);
		const target = restoreAll(checked);
		const original = checked.core.place(tiny.image);
		const context = checked.core.createContext();
		expect(context.compare(original, target)).toBeUndefined();
		expect(context.digest(target)).toBe(context.digest(original));
		expect(context.digest(target)).toBe(digest);
	});

	test("the restored image is xen#1's octet for octet", () => {
		const checked = openCheck(tiny.stream, tiny.memory);
		const target = restoreAll(checked);
		expect(Buffer.compare(checked.core.bytes(target), tiny.image)).toBe(0);
	});

	test("what pads a table is cleared, whatever the target held", () => {
		// No multiple of 8: the page types, an octet for each frame, end within a word.
		const { model: odd, preserved: pages } = tinyHost();
		const frames = 1021;
		odd.frameOwners = odd.frameOwners.slice(0, frames);
		odd.frameTypes = odd.frameTypes.slice(0, frames);
		odd.frameOwners[frames - 1] = BigInt(DOMID.XEN | FRAME.owned | FRAME.allocated);
		odd.frameTypes[frames - 1] = PAGE_TYPE.writable;
		const saved = saveModel(odd, pages);
		const checked = openCheck(saved.stream, saved.memory);
		expect(Buffer.compare(checked.core.bytes(restoreAll(checked)), saved.image)).toBe(0);
	});

	test("saving what was restored gives the same stream octet for octet", () => {
		const checked = openCheck(tiny.stream, tiny.memory);
		const target = restoreAll(checked);
		const context = checked.core.createContext();
		const again = context.save(target, checked.core.allocate(context.planSave(target)));
		expect(Buffer.compare(checked.core.bytes(again), tiny.stream)).toBe(0);
	});

	test("planSave is enough and not far off; one octet less than needed is refused with WINDOW", () => {
		const core = newCore();
		const image = core.place(tiny.image);
		const context = core.createContext();
		expect(context.planSave(image)).toBeGreaterThanOrEqual(tiny.stream.length);
		const short = core.allocate(tiny.stream.length - 1);
		expect(() => context.save(image, short)).toThrow(
			expect.objectContaining({ code: "XLU_E_SPACE", rule: "XLU-R030" }),
		);
	});

	test("S2: the references that restore rebuilt are those counted from the model", () => {
		const checked = openCheck(tiny.stream, tiny.memory);
		const image = checked.core.bytes(restoreAll(checked)).slice();
		const { view, host, domains } = viewImage(image);
		const expected = countReferences(model, preserved);
		const table = host.find((entry) => entry.table.name === "FrameCounts");
		expect(table?.count).toBe(model.frameOwners.length);
		const frames = new Uint32Array(image.buffer, table?.offset, model.frameOwners.length * 2);
		expect(frames).toEqual(expected.frames);
		for (const { domid, tables } of domains) {
			const at = tables.find((entry) => entry.table.name === "DomainCounts")?.offset as number;
			expect(readStruct(structs.DomainCounts, view, at), `domain ${domid}`).toEqual({ ...expected.domains.get(domid) });
		}
		expect(domains.map(({ domid }) => domid)).toEqual(domids);
	});

	test("S2: no count is in the stream: other counts in xen#1's image give the same stream", () => {
		const core = newCore();
		const image = tiny.image.slice();
		const { host } = viewImage(image);
		const counts = host.find((entry) => entry.table.name === "FrameCounts");
		image.fill(0x5a, counts?.offset, (counts?.offset as number) + (counts?.count as number) * structs.FrameCount.size);
		const window = core.place(image);
		const context = core.createContext();
		const saved = context.save(window, core.allocate(context.planSave(window)));
		expect(Buffer.compare(core.bytes(saved), tiny.stream)).toBe(0);
	});

	test("compare names the first difference: domain, table, row, field", () => {
		const core = newCore();
		const a = core.place(tiny.image);
		const b = core.place(tiny.image);
		const { domains } = viewImage(tiny.image);
		const ports = domains[1]?.tables.find((entry) => entry.table.name === "Ports");
		const priority = structs.EvtchnPort.fields.find((field) => field.name === "priority")?.offset as number;
		core.bytes(b)[(ports?.offset as number) + 2 * structs.EvtchnPort.size + priority] = 3;
		expect(core.createContext().compare(a, b)).toEqual({
			domid: 1,
			table: "Ports",
			index: 2,
			field: "priority",
			expected: "7",
			got: "3",
		});
		expect(core.createContext().digest(a)).not.toBe(core.createContext().digest(b));
	});
});

describe("compare: images of another shape", () => {
	const original = saveTiny();

	/** The first difference from the tiny host's image. */
	function difference(change: (host: ReturnType<typeof tinyHost>["model"]) => void) {
		const host = tinyHost();
		change(host.model);
		const core = newCore();
		const [a, b] = [original, saveModel(host.model, host.preserved)].map(({ image }) => core.place(image));
		return core.createContext().compare(a!, b!);
	}

	test("a domain less", () => {
		const found = difference((host) => void host.domains.pop());
		expect(found).toMatchObject({ domid: undefined, table: "domains", expected: "4", got: "3" });
	});

	test("a domain of another number", () => {
		const found = difference(({ domains }) => {
			domains[3]!.domain = { ...domains[3]!.domain, domid: 6 };
		});
		expect(found).toMatchObject({ domid: 5, table: "domains", expected: "5", got: "6" });
	});

	test("a domain of another number of vCPUs' slots", () => {
		const found = difference(({ domains }) => {
			const [, , hvm] = domains;
			hvm!.vcpuIds = [0];
			hvm!.vcpu = hvm!.vcpu.slice(0, 1);
			hvm!.hardAffinity = [3n];
			hvm!.softAffinity = [3n];
		});
		expect(found).toMatchObject({ domid: 2, expected: "3", got: "1" });
	});

	test("a row of the host's", () => {
		const found = difference((host) => {
			host.regionList = host.regionList.map((region, i) => (i === 1 ? { ...region, frameCount: 15 } : region));
		});
		expect(found).toMatchObject({ domid: undefined, table: "RegionList", index: 1, field: "frameCount" });
	});

	test("a table of another length, whose rows are the same as far as they go", () => {
		const found = difference(({ domains }) => {
			const guest = domains[1]!;
			guest.cpuidLeaves = [...(guest.cpuidLeaves ?? []), { leaf: 1, subleaf: NONE32 }];
		});
		expect(found).toMatchObject({ domid: 1, table: "CpuidLeaves", index: undefined, expected: "1", got: "2" });
	});
});

test("a host-wide pass is called with DOMID_XEN", () => {
	const checked = openCheck(tiny.stream, tiny.memory);
	checked.context.target(checked.core.allocate(checked.imageBytes));
	checked.context.restore(0, DOMID.XEN);
	expect(() => checked.context.restore(0, DOMID.IO)).toThrow(expect.objectContaining({ rule: "XLU-R041" }));
});

test("a model saved twice gives the same octets", () => {
	const again = saveModel(tinyHost().model, preserved);
	expect(Buffer.compare(again.stream, tiny.stream)).toBe(0);
	expect(Buffer.compare(again.memory, tiny.memory)).toBe(0);
});

test("the build without SIMD writes the same octets and restores to the same digest", () => {
	const plain = new WebAssembly.Module(readFileSync(join(root, "dist/core.plain.wasm")));
	const core = new Core(new WebAssembly.Instance(plain, {}));
	const image = core.place(tiny.image);
	const saving = core.createContext();
	const saved = saving.save(image, core.allocate(saving.planSave(image)));
	expect(Buffer.compare(core.bytes(saved), tiny.stream)).toBe(0);
	const checked = openCheck(tiny.stream, tiny.memory, core);
	expect(checked.context.digest(restoreAll(checked))).toBe(digest);
});
