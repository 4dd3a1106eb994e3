/**
 * F2: a reader of version N reads N and N-1; an old type is never changed, a new type is added. What version 2 has is saved,
 * restored, shown; what version 1 cannot hold is refused by name; a core of version 3, made for this test alone, reads 3 and 2.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { Core } from "../../src/core/load.ts";
import { toBigEndian } from "../../src/format/endian.ts";
import { FORMAT_VERSION, records } from "../../src/format/schema.ts";
import { inspectStream, readHeader } from "../../src/inspect/stream.ts";
import { buildImage } from "../../src/machine/image.ts";
import { readImage } from "../../src/machine/readImage.ts";
import { compileBinary } from "../support/compile.ts";
import {
	hashOf,
	memoryFor,
	newCore,
	openCheck,
	refusal,
	restoreAll,
	root,
	saveModel,
	saveTiny,
} from "../support/core.ts";
import { parse, StreamRecord } from "../support/restitch.ts";
import { NARROW, secondHost } from "../support/secondHost.ts";
import { tinyHost } from "../support/tinyHost.ts";

const second = secondHost();
const saved = saveModel(second.model, second.preserved);

/** What a stream restores to. */
function restored(stream: Uint8Array, memory: Uint8Array): Uint8Array {
	const checked = openCheck(stream, memory);
	return checked.core.bytes(restoreAll(checked)).slice();
}

describe("version 2", () => {
	test("the second host has every record of it, and comes back octet for octet, counts included", () => {
		expect(readHeader(saved.stream).version).toBe(2);
		const names = new Set(parse(saved.stream).sections.flatMap((section) => section.records.map(({ name }) => name)));
		expect(records.filter(({ section }) => section !== "-").filter(({ name }) => !names.has(name))).toEqual([]);
		const checked = openCheck(saved.stream, saved.memory);
		const target = restoreAll(checked);
		expect(checked.context.compare(checked.core.place(saved.image), target)).toBeUndefined();
	});

	test("saved again it is the same stream; big-endian it restores to the same", () => {
		const checked = openCheck(saved.stream, saved.memory);
		const target = restoreAll(checked);
		const context = checked.core.createContext();
		const again = context.save(target, checked.core.allocate(context.planSave(target)));
		expect(Buffer.compare(checked.core.bytes(again), saved.stream)).toBe(0);
		const big = toBigEndian(saved.stream, hashOf);
		const twin = restored(big, memoryFor(big, second.preserved));
		expect(Buffer.compare(twin, restored(saved.stream, saved.memory))).toBe(0);
	});

	test("any order of domains within a pass gives the same image", () => {
		const checked = openCheck(saved.stream, saved.memory);
		const target = restoreAll(checked, (pass) => (pass === 1 ? [6, 5, 2, 1, 0] : [6, 0, 5, 1, 2]));
		expect(checked.context.compare(checked.core.place(saved.image), target)).toBeUndefined();
	});

	test("references of a 32-bit guest: three levels, pins, CR3, GDT; Xen's slots hold nothing", () => {
		const { counts } = readImage(restored(saved.stream, saved.memory));
		const of = (mfn: number) => [counts[2 * mfn], counts[2 * mfn + 1]];
		// Allocated; pinned; two vCPUs run on it; its own read-only L1 entry.
		expect(of(840)).toEqual([1 + 1 + 2 + 1, 1 + 2]);
		// Allocated; the L3 table's entry; its L1 entry. Its map of itself holds nothing.
		expect(of(841)).toEqual([3, 1]);
		expect(of(842)).toEqual([3, 1]);
		// Allocated; pinned; an L2 entry; an L1 entry.
		expect(of(843)).toEqual([4, 2]);
		// Two vCPUs' GDT, and an L1 entry.
		expect(of(854)).toEqual([4, 2]);
		// vcpu_info of vCPU 1, and a read-write entry.
		expect(of(853)).toEqual([3, 2]);
		// dom0's frame, granted.
		expect(of(150)).toEqual([2, 1]);
		// Frames of Xen's, which Xen's own slots name.
		expect(of(64)).toEqual([1, 0]);
	});

	test("it is read back as it was described", () => {
		const { domains } = readImage(saved.image);
		const of = (domid: number) => domains.find(({ domain }) => domain.domid === domid);
		expect(of(NARROW)).toMatchObject({
			pv32: { xenStart: 0xf580_0000 },
			vnumaDistances: [{ distance: 10 }, { distance: 20 }, { distance: 21 }, { distance: 10 }],
			vnumaVcpus: [{ node: 0 }, { node: 1 }, { node: 1 }],
			scheduler: { scheduler: 8, weight: 0, cap: 0, vcpuCount: 2 },
			schedulerVcpus: [{ budgetUs: 4000 }, { flags: 1 }],
		});
		expect(of(NARROW)?.pv32Vcpu[1]).toMatchObject({ vcpuId: 1, eip: 0xc100_1001, cr3: 840n << 12n });
		expect(of(0)?.scheduler).toMatchObject({ scheduler: 6, weight: 512 });
		expect(of(1)).toMatchObject({ pv32: undefined, vnumaNodes: [], scheduler: undefined });
	});

	test("inspect shows it by name", () => {
		const { version, records: shown } = inspectStream(saved.stream);
		const fieldsOf = (name: string, domid: number) =>
			shown.find((record) => record.name === name && record.domid === domid)?.fields;
		expect(version).toBe(2);
		expect(fieldsOf("LU_PV32", NARROW)).toEqual({ xenStart: "0xf5800000" });
		expect(fieldsOf("LU_PV32_VCPU", NARROW)).toMatchObject({ vcpuId: 0, cr3: "0x348000", eip: "0xc1001000" });
		expect(fieldsOf("LU_VNUMA", NARROW)).toMatchObject({ nodeCount: 2, VnumaNodes: [{ physicalNode: "0x0" }, {}] });
		expect(fieldsOf("LU_SCHEDULER", NARROW)).toMatchObject({
			scheduler: "rtds",
			SchedulerVcpus: [{ flags: [] }, { flags: ["extraTime"] }],
		});
	});
});

describe("N-1 to N: a stream of version 1", () => {
	test("of what version 1 can hold, both versions restore to the same image, and differ in the header alone", () => {
		const { model, preserved } = tinyHost();
		const [one, two] = [saveTiny(1), saveTiny()];
		expect([readHeader(one.stream).version, readHeader(two.stream).version]).toEqual([1, 2]);
		expect(Buffer.compare(one.stream.subarray(16), two.stream.subarray(16))).toBe(0);
		expect(Buffer.compare(restored(one.stream, one.memory), restored(two.stream, two.memory))).toBe(0);
		expect(Buffer.compare(buildImage(model, preserved), one.image)).toBe(0);
	});

	test("an optional record of version 2 in it is read, as a reader of version 1 would skip it", () => {
		const { stream: later } = saved;
		const parsed = parse(saveTiny(1).stream);
		parsed.section("2", 0).records.push(parse(later).record("LU_SCHEDULER", 0).clone());
		const stream = parsed.build();
		const image = readImage(restored(stream, memoryFor(stream, tinyHost().preserved)));
		expect(image.domains[0]?.scheduler).toMatchObject({ weight: 512 });
		// And what is wrong in it is refused: nothing is read that was not checked.
		parsed.record("LU_SCHEDULER", 0).set("weight", 0);
		expect(refusal(parsed.build())?.fault.ruleId).toBe("XLU-R104");
	});

	test.each(
		records.filter(({ since, type }) => since > 1 && type < 0x8000_0000).map((def) => [def.name, def] as const),
	)("%s, which it does not have, is refused by name", (name, def) => {
		const parsed = parse(saveTiny(1).stream);
		const section = parsed.section(def.section as "0" | "2", 1);
		section.records.push(new StreamRecord(def.type, new Uint8Array(def.head?.size ?? 0)));
		expect(refusal(parsed.build())?.fault).toMatchObject({ ruleId: "XLU-R007", record: name, domid: 1 });
	});
});

describe("N to N-1: saved for a rollback", () => {
	test("what version 1 cannot hold is refused by name: rule, domain, record, both versions", () => {
		const core = newCore();
		const context = core.createContext();
		context.saveAs(1);
		const image = core.place(saved.image);
		const refused = { rule: "XLU-R047", code: "XLU_E_VERSION", record: "LU_VNUMA", domid: 2, expected: "2", got: "1" };
		expect(() => context.planSave(image)).toThrow(expect.objectContaining(refused));
		expect(() => context.save(image, core.allocate(1 << 20))).toThrow(expect.objectContaining(refused));
	});

	test("each thing in turn: 32-bit guests, virtual NUMA", () => {
		const strip = (names: readonly string[]) => {
			const { model, preserved } = secondHost();
			for (const domain of model.domains) for (const name of names) Object.assign(domain, { [name]: undefined });
			try {
				saveModel(model, preserved, 1);
			} catch (error) {
				return (error as { record?: string }).record;
			}
			return undefined;
		};
		const numa = ["vnumaNodes", "vnumaDistances", "vnumaVcpus", "vnumaRanges"];
		expect(strip(numa)).toBe("LU_PV32");
		expect(strip([...numa, "pv32"])).toBe("LU_PV32_VCPU");
	});

	test("optional records stand in any version: weights survive where the reader knows them", () => {
		const { model, preserved } = tinyHost();
		Object.assign(model.domains[0] as object, { scheduler: { scheduler: 6, weight: 300, cap: 50 } });
		const { stream, memory, image } = saveModel(model, preserved, 1);
		expect(readHeader(stream).version).toBe(1);
		const checked = openCheck(stream, memory);
		expect(checked.context.compare(checked.core.place(image), restoreAll(checked))).toBeUndefined();
	});

	test("a version that the core does not write is refused", () => {
		const context = newCore().createContext();
		expect(() => context.saveAs(FORMAT_VERSION + 1)).toThrow(expect.objectContaining({ rule: "XLU-R003" }));
		context.saveAs(0);
	});
});

describe("as the reader of another version", () => {
	const verdict = (stream: Uint8Array, newest: number) => {
		const core = newCore();
		const context = core.createContext();
		try {
			context.open(core.place(stream), { newest });
			return "read";
		} catch (error) {
			return (error as { rule: string }).rule;
		}
	};
	const [one, two] = [saveTiny(1).stream, saveTiny(2).stream];

	test.each([
		[1, "read", "XLU-R003"],
		[2, "read", "read"],
		[3, "XLU-R003", "read"],
		[4, "XLU-R003", "XLU-R003"],
		[255, "XLU-R003", "XLU-R003"],
	])("whose newest is %i: version 1 %s, version 2 %s", (newest, ofOne, ofTwo) => {
		expect([verdict(one, newest), verdict(two, newest)]).toEqual([ofOne, ofTwo]);
	});
});

describe("a core of version 3, made for this test alone", () => {
	let third: Core;
	beforeAll(async () => {
		const layout = readFileSync(join(root, "assembly/layout.gen.ts"), "utf8");
		const later = layout
			.replace("export const FORMAT_VERSION: u32 = 2;", "export const FORMAT_VERSION: u32 = 3;")
			.replace("export const OLDEST_VERSION: u32 = 1;", "export const OLDEST_VERSION: u32 = 2;");
		expect(later).not.toBe(layout);
		const binary = await compileBinary("assembly/index.ts", {
			simd: false,
			changed: { "assembly/layout.gen.ts": later },
		});
		third = new Core(new WebAssembly.Instance(new WebAssembly.Module(binary), {}));
	}, 120_000);

	const opens = (stream: Uint8Array) => {
		third.reset();
		third.createContext().open(third.place(stream));
	};

	test("N-1: it reads version 2", () => {
		expect(() => opens(saved.stream)).not.toThrow();
	});

	test("N-2: it refuses version 1, and says what it reads", () => {
		const refused = { code: "XLU_E_VERSION", rule: "XLU-R003", expected: "3", got: "1" };
		expect(() => opens(saveTiny(1).stream)).toThrow(expect.objectContaining(refused));
	});

	test("what it writes is refused by this core, by name", () => {
		third.reset();
		const image = third.place(saved.image);
		const context = third.createContext();
		const stream = third.bytes(context.save(image, third.allocate(context.planSave(image)))).slice();
		expect(readHeader(stream).version).toBe(3);
		const { error, fault } = refusal(stream) ?? {};
		expect(error).toMatchObject({ code: "XLU_E_VERSION", rule: "XLU-R003", expected: "2", got: "3" });
		expect(fault?.offset).toBe(0);
	});
});
