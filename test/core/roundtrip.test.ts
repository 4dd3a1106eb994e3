/** save -> open -> plan -> check -> restore -> finish, and all the orders in which that may happen. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Core } from "../../src/core/load.ts";
import { DOMID } from "../../src/format/enums.ts";
import { readStruct } from "../../src/format/layout.ts";
import { recordByName, recordByType, records, structs } from "../../src/format/schema.ts";
import { viewImage } from "../../src/machine/image.ts";
import { countReferences } from "../../src/machine/references.ts";
import { memoryFor, newCore, openCheck, restoreAll, root, saveModel, saveTiny } from "../support/core.ts";
import { parse, type Restitched, type StreamRecord } from "../support/restitch.ts";
import { tinyHost } from "../support/tinyHost.ts";

const tiny = saveTiny();
const { model, preserved } = tinyHost();
const domids = model.domains.map(({ domain }) => domain.domid);

function permutations<T>(items: readonly T[]): T[][] {
	if (items.length === 0) return [[]];
	return items.flatMap((item, i) => permutations(items.filter((_, j) => j !== i)).map((rest) => [item, ...rest]));
}

/** Digest of the image that a stream restores to. */
function digestOf(stream: Uint8Array, order?: (pass: 0 | 1 | 2) => readonly number[]): bigint {
	const checked = openCheck(stream, memoryFor(stream, preserved));
	return checked.context.digest(restoreAll(checked, order));
}

const digest = digestOf(tiny.stream);

describe("the tiny host", () => {
	test("has every record of version 1", () => {
		const parsed = parse(tiny.stream);
		const present = new Set(parsed.sections.flatMap((section) => section.records.map((record) => record.name)));
		const missing = records.filter((def) => def.section !== "-" && !present.has(def.name));
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

describe("P3, P4: order does not matter where the format leaves it open", () => {
	test("every order of the domains, the same in all passes", () => {
		for (const order of permutations(domids))
			expect(
				digestOf(tiny.stream, () => order),
				`${order}`,
			).toBe(digest);
	});

	test("other orders in each pass", () => {
		const all = permutations(domids);
		const one = fc.constantFrom(...all);
		fc.assert(
			fc.property(one, one, one, (first, second, third) => {
				expect(digestOf(tiny.stream, (pass) => [first, second, third][pass] as number[])).toBe(digest);
			}),
			{ seed: 42, numRuns: 150 },
		);
	});

	/** A random order of a section's records that keeps to "after"; slices of one kind keep theirs. */
	function shuffle(list: readonly StreamRecord[], keys: readonly number[]): StreamRecord[] {
		const vcpuOf = (record: StreamRecord) => {
			const def = recordByType(record.type);
			return def?.cardinality === "vcpu" ? Number(record.get("vcpuId")) : undefined;
		};
		const dependsOn = (later: StreamRecord, earlier: StreamRecord): boolean => {
			const def = recordByType(later.type);
			if (def?.cardinality === "slice" && later.type === earlier.type) return true;
			if (!def?.after.includes(earlier.name)) return false;
			// A vCPU's record depends on the records of that vCPU.
			const [a, b] = [vcpuOf(later), vcpuOf(earlier)];
			return a === undefined || b === undefined || a === b;
		};
		const left = list.map((record, i) => ({ record, key: keys[i % keys.length] as number, i }));
		const result: StreamRecord[] = [];
		while (left.length) {
			const ready = left.filter((one) =>
				left.every((other) => {
					if (other === one || !dependsOn(one.record, other.record)) return true;
					return one.record.type === other.record.type ? one.i < other.i : false;
				}),
			);
			ready.sort((a, b) => a.key - b.key);
			const next = ready[0];
			if (!next) throw new Error("the schema's order is circular");
			left.splice(left.indexOf(next), 1);
			result.push(next.record);
		}
		return result;
	}

	function shuffled(keys: readonly number[]): Restitched {
		const parsed = parse(tiny.stream);
		for (const section of parsed.sections) section.records = shuffle(section.records, keys);
		return parsed;
	}

	test("records of a section in any order that respects the schema's 'after'", () => {
		let moved = 0;
		fc.assert(
			fc.property(fc.array(fc.nat(1000), { minLength: 24, maxLength: 24 }), (keys) => {
				const stream = shuffled(keys).build();
				if (Buffer.compare(stream, tiny.stream) !== 0) moved++;
				expect(digestOf(stream)).toBe(digest);
			}),
			{ seed: 7, numRuns: 200 },
		);
		expect(moved).toBeGreaterThan(150);
	});

	test("domains' sections in any order within a pass", () => {
		const all = permutations(domids);
		const one = fc.constantFrom(...all);
		fc.assert(
			fc.property(one, one, one, (first, second, third) => {
				const parsed = parse(tiny.stream);
				const rank = (pass: number, domid: number) =>
					pass === 1 ? first.indexOf(domid) : pass === 3 ? second.indexOf(domid) : third.indexOf(domid);
				parsed.sections.sort((a, b) => a.pass - b.pass || rank(a.pass, a.domid) - rank(b.pass, b.domid));
				expect(digestOf(parsed.build())).toBe(digest);
			}),
			{ seed: 11, numRuns: 150 },
		);
	});

	test("every 'after' of the schema is enforced: the pair the other way round is refused", () => {
		const enforced: string[] = [];
		for (const def of records) {
			for (const name of def.after) {
				const parsed = parse(tiny.stream);
				const section = parsed.sections.find(({ records: list }) => {
					const names = list.map((record) => record.name);
					return names.includes(def.name) && names.includes(name);
				});
				if (!section) throw new Error(`${def.name} and ${name} are not in one section of the tiny host`);
				const isVcpu = recordByName(def.name).cardinality === "vcpu" && recordByName(name).cardinality === "vcpu";
				const later = section.records.find((record) => record.name === def.name) as StreamRecord;
				const earlier = section.records.filter(
					(record) => record.name === name && (!isVcpu || record.get("vcpuId") === later.get("vcpuId")),
				);
				section.records = section.records.filter((record) => record !== later);
				section.records.splice(section.records.indexOf(earlier[0] as StreamRecord), 0, later);
				const stream = parsed.build();
				expect(() => openCheck(stream, memoryFor(stream, preserved)), `${def.name} before ${name}`).toThrow(
					expect.objectContaining({ rule: "XLU-R015" }),
				);
				enforced.push(`${def.name} after ${name}`);
			}
		}
		expect(enforced.length).toBeGreaterThan(15);
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
