/** libxc, libxl and xl images: the captured ones read, checked, written again; damage is always a coded error. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { XluError } from "../../../src/errors.ts";
import { Findings } from "../../../src/formats/common/findings.ts";
import { readJson, writeJson } from "../../../src/formats/common/json.ts";
import { StreamReader } from "../../../src/formats/common/reader.ts";
import type { Fields, StreamItem } from "../../../src/formats/common/record.ts";
import { MemorySink } from "../../../src/formats/common/sink.ts";
import { sourceOf } from "../../../src/formats/common/source.ts";
import { imageFormat } from "../../../src/formats/image.ts";
import { convertImage } from "../../../src/formats/libxc/convert.ts";
import { octetsOf } from "../../../src/inspect/open.ts";
import { Random } from "../../../src/random.ts";
import { root } from "../../support/core.ts";
import { capturedImage, errorsOf, imageNames, itemsOf, joined, mutate, smallImage } from "../../support/images.ts";

const dump = (name: string, file: string) => readFileSync(join(root, "test/fixtures/xen-4.17", name, file), "utf8");

async function* each<T>(list: readonly T[]): AsyncGenerator<T> {
	yield* list;
}

const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;

describe.each(imageNames)("the captured %s image", (name) => {
	test("is read in chunks of any size, and put together again from its items", async () => {
		const octets = capturedImage(name);
		for (const chunkBytes of [65_536, 1_000_003]) {
			const items = await itemsOf(octets, { chunkBytes });
			expect(same(joined(items), octets)).toBe(true);
		}
	});

	test("breaks no rule; that HVM_CONTEXT comes first is strict", async () => {
		const octets = capturedImage(name);
		expect(await errorsOf(octets)).toEqual([]);
		const strict = (await errorsOf(octets, { strict: true })).map(({ rule }) => rule.code);
		expect(strict).toEqual(name === "pv" ? [] : ["XLU-C015"]);
	});

	test("is written again from the fields of each item, octet for octet", async () => {
		for (const item of await itemsOf(capturedImage(name))) {
			expect(same(imageFormat.encode(item), item.octets as Uint8Array), `${item.index} ${item.name}`).toBe(true);
		}
	});

	test("as JSON and back it is the same, octet for octet; so it is in the other byte order and back", async () => {
		const items = await smallImage(name);
		const whole = joined(items);
		const sink = new MemorySink();
		await writeJson(imageFormat, each(items), sink);
		// The fields alone say all of it.
		expect(Buffer.from(sink.octets()).includes('"octets":')).toBe(false);
		const back: Uint8Array[] = [];
		for await (const item of readJson(new StreamReader(sourceOf(sink.octets())))) back.push(octetsOf(item));
		expect(same(Buffer.concat(back), whole)).toBe(true);
		const big = Buffer.concat(items.map((item) => imageFormat.encode({ ...item, isLittle: false })));
		expect(await errorsOf(big)).toEqual([]);
		const bigItems = await itemsOf(big);
		expect(bigItems.every((item) => !item.isLittle)).toBe(true);
		const little = Buffer.concat(bigItems.map((item) => imageFormat.encode({ ...item, isLittle: true })));
		expect(same(little, whole)).toBe(true);
	});

	test("version 2 has neither STATIC_DATA_END nor policies and says so; back in version 3 it is whole but for these", async () => {
		const items = await smallImage(name);
		const second = new MemorySink();
		const { dropped, from } = await convertImage(imageFormat, each(items), 2, second);
		expect(from).toBe(3);
		expect(dropped.map(({ what }) => what)).toEqual(["X86_CPUID_POLICY", "X86_MSR_POLICY"]);
		expect(await errorsOf(second.octets())).toEqual([]);
		const third = new MemorySink();
		await convertImage(imageFormat, each(await itemsOf(second.octets())), 3, third);
		expect(await errorsOf(third.octets())).toEqual([]);
		const without = items.filter(({ name: record }) => !/POLICY$/.test(record));
		expect((await itemsOf(third.octets())).map((item) => item.name)).toEqual(without.map((item) => item.name));
		const again = new MemorySink();
		await convertImage(imageFormat, each(items), 3, again);
		expect(same(again.octets(), joined(items))).toBe(true);
	});
});

const fieldsOf = (items: readonly StreamItem[], name: string): Fields[] =>
	items.filter((item) => item.name === name).map(({ fields }) => fields);

describe("what the dumps say", () => {
	test("PV registers are those of xenctx", async () => {
		const items = await itemsOf(capturedImage("pv"), { pages: "summary" });
		const [first] = fieldsOf(items, "X86_PV_VCPU_BASIC") as { registers: Record<string, string> }[];
		const text = dump("pv", "xenctx.txt");
		const of = (register: string) => BigInt(`0x${new RegExp(`^${register}: ([0-9a-f]+)`, "m").exec(text)?.[1]}`);
		for (const register of ["rip", "rsp"]) expect(BigInt(first?.registers[register] ?? 0)).toBe(of(register));
	});

	test.each(["pvh", "hvm"] as const)("%s: the HVM context's CPUs are those of xen-hvmctx", async (name) => {
		const items = await itemsOf(capturedImage(name), { pages: "summary" });
		const [context] = fieldsOf(items, "HVM_CONTEXT") as unknown as { entries: Record<string, unknown>[] }[];
		const cpus = (context?.entries ?? []).filter((entry) => entry.name === "CPU");
		const text = dump(name, "xen-hvmctx.txt");
		const values = (register: string) =>
			[...text.matchAll(new RegExp(`\\b${register} 0x([0-9a-f]+)`, "g"))].map(([, digits]) => BigInt(`0x${digits}`));
		expect(cpus.length).toBe(2);
		for (const register of ["rip", "rsp", "cr3"]) {
			const got = cpus.map(({ registers }) => BigInt((registers as Record<string, string>)[register] ?? 0));
			expect(values(register)).toEqual(got);
		}
		const counted = [...text.matchAll(/Entry \d+: type (\d+) instance (\d+), length (\d+)/g)];
		expect(context?.entries.map(({ type, instance, length }) => [type, instance, length])).toEqual(
			counted.map((match) => match.slice(1, 4).map(Number)),
		);
	});

	test("page totals stand at END: types, distinct frames, sent again, zero pages", async () => {
		const items = await itemsOf(capturedImage("pv"), { pages: "summary" });
		const end = items.findLast(({ layer, name }) => layer === "libxc" && name === "END");
		const pages = end?.fields.pages as Record<string, number | object>;
		expect(pages).toMatchObject({ records: 10, frames: 10_240, distinct: 10_240, sentAgain: 0, withData: 10_240 });
		expect(pages.zero).toBeGreaterThan(9000);
		const types = Object.values(pages.byType as Record<string, number>);
		expect(types.reduce((sum, count) => sum + count, 0)).toBe(10_240);
	});
});

describe("damage", () => {
	test("10,000 mutations: never anything but findings and coded errors", async () => {
		const bases = await Promise.all(imageNames.map(smallImage));
		let refused = 0;
		for (let seed = 0; seed < 10_000; seed++) {
			const random = new Random(seed);
			const octets = mutate(bases[seed % bases.length] as StreamItem[], random);
			const findings = new Findings();
			try {
				for (const { fields } of await itemsOf(octets, { pages: seed % 7 === 0 ? "keep" : "summary", findings })) {
					expect(typeof fields).toBe("object");
				}
			} catch (error) {
				if (!(error instanceof XluError) || error.code === "XLU_E_INTERNAL") throw error;
				expect(error.rule).toMatch(/^XLU-[FHLC]\d{3}$/);
			}
			if (findings.errors.length > 0) refused++;
		}
		expect(refused).toBeGreaterThan(5000);
	}, 300_000);
});
