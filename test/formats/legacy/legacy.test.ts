import { describe, expect, test } from "vitest";
import { XluError } from "../../../src/errors.ts";
import { Findings } from "../../../src/formats/common/findings.ts";
import { readJson, writeJson } from "../../../src/formats/common/json.ts";
import { StreamReader } from "../../../src/formats/common/reader.ts";
import type { PageContents, StreamItem } from "../../../src/formats/common/record.ts";
import { sourceOf } from "../../../src/formats/common/source.ts";
import { recognise } from "../../../src/formats/index.ts";
import { legacyFormat, readLegacy } from "../../../src/formats/legacy/index.ts";
import { Random } from "../../../src/random.ts";
import { type LegacySpec, legacyImage, legacyVariants, physmap, ulongs } from "../../support/legacy.ts";
import { collect, reading } from "./support.ts";

const hvm = (spec: Partial<LegacySpec> = {}) => legacyImage({ width: 64, guestType: "hvm", ...spec });
const pv = (spec: Partial<LegacySpec> = {}) => legacyImage({ width: 64, guestType: "pv", ...spec });
const named = (items: StreamItem[], name: string) => items.filter((item) => item.name === name);

describe("legacy images", () => {
	test.each(legacyVariants())(
		"$name: items are the image, fields make the octets, every rule holds",
		async ({ spec }) => {
			const image = legacyImage(spec);
			// Chunks that no boundary of the image falls together with.
			const { items, findings } = await collect(image, { pages: "keep", chunkBytes: 4999 });
			expect(findings.errors).toEqual([]);
			expect(items[0]?.fields).toMatchObject({ width: spec.width, guestType: spec.guestType });
			let offset = 0;
			for (const item of items) {
				expect(item.offset).toBe(offset);
				offset += item.octets?.length ?? 0;
				expect(Buffer.compare(legacyFormat.encode(item), item.octets ?? new Uint8Array(0)), item.name).toBe(0);
			}
			expect(offset).toBe(image.length);
			expect(Buffer.compare(Buffer.concat(items.map(({ octets }) => octets ?? new Uint8Array(0))), image)).toBe(0);
		},
	);

	test("the widths and kinds are recognised from the first octets alone", async () => {
		for (const { name, spec } of legacyVariants()) {
			const image = legacyImage(spec);
			expect(await recognise(new StreamReader(sourceOf(image))), name).toBe(legacyFormat);
		}
		const others = ["4c6962786c466d7400000002", "58656e20736176656420646f6d61696e", "ffffffffffffffff58454e4600000003"];
		for (const head of [...others, "00", "", "78656e73746f7265000000020000000000000000"]) {
			const octets = Buffer.concat([Buffer.from(head, "hex"), Buffer.alloc(64)]);
			expect(legacyFormat.detect(octets), head).toBe(false);
		}
		const random = new Random(3);
		let detected = 0;
		for (let i = 0; i < 10_000; i++) {
			const head = Uint8Array.from({ length: 64 }, () => random.below(256));
			if (legacyFormat.detect(head)) detected++;
		}
		expect(detected).toBe(0);
	});

	test("through JSON and back, octet for octet", async () => {
		for (const spec of [
			{ width: 32, guestType: "pv", guestWidth: 32, extv: true, xcnt: 576, tsc: true, unmapped: 3 },
			{ width: 64, guestType: "hvm", toolstack: physmap(64, [[1, 2, 3, "vga.vram"]]), params: [[-3, 5]], xl: "{}" },
		] as LegacySpec[]) {
			const image = Buffer.concat([legacyImage(spec), Buffer.from("behind")]);
			const lines: Buffer[] = [];
			const sink = { length: 0, write: async (octets: Uint8Array) => void lines.push(Buffer.from(octets)) };
			const findings = new Findings();
			await writeJson(legacyFormat, reading(image, { findings, pages: "keep" }), sink);
			const document = Buffer.concat(lines);
			// No item needed its octets beside its fields.
			expect(document.includes('"octets":')).toBe(false);
			const parts: Uint8Array[] = [];
			for await (const item of readJson(new StreamReader(sourceOf(document)))) {
				// From the fields, whatever else stands there.
				parts.push(legacyFormat.encode(item));
			}
			expect(Buffer.compare(Buffer.concat(parts), image)).toBe(0);
		}
	});

	test("contents of pages: counted, hashed or kept", async () => {
		const image = pv({ batches: [[1, 2, 0xf0000003, 0x10000004]] });
		const pages = async (how: PageContents) => named((await collect(image, { pages: how })).items, "PAGES")[0];
		const summary = await pages("summary");
		expect(summary?.octets).toBeUndefined();
		expect(summary?.fields).toMatchObject({ count: 4, types: { NOTAB: 2, XTAB: 1, L1TAB: 1 }, withData: 3 });
		expect(summary?.fields).not.toHaveProperty("contents");
		expect(summary?.length).toBe(4 * 8 + 3 * 4096);
		const hashed = await pages("hash");
		expect(hashed?.fields.sha256).toHaveLength(3);
		const kept = await pages("keep");
		expect(kept?.fields.contents).toHaveLength(2 * 3 * 4096);
		expect(kept?.fields.pages).toEqual([
			{ pfn: 1, type: 0 },
			{ pfn: 2, type: 0 },
			{ pfn: 3, type: 15 },
			{ pfn: 4, type: 1 },
		]);
	});

	test("fields of chunks and tails", async () => {
		const toolstack = physmap(64, [[0x10, 0xf0000000, 0x800000, "vga.vram"]]);
		const spec: Partial<LegacySpec> = { tsc: true, toolstack, params: [[-14, 0xfc00]], online: [0, 2], maxId: 3 };
		const { items } = await collect(hvm(spec), { pages: "summary" });
		const fields = (name: string) => named(items, name)[0]?.fields;
		expect(fields("VCPU_INFO")).toEqual({ maxId: 3, online: [0, 2] });
		expect(fields("TSC_INFO")).toEqual({ mode: 1, nsec: 0x1122334455, khz: 2_400_000, incarnation: 3 });
		expect(fields("HVM_GENERATION_ID_ADDR")).toEqual({ param: 34, value: 0xfc00 });
		expect(fields("TOOLSTACK")?.regions).toEqual([{ offset: 16, start: 0xf0000000, size: 0x800000, name: "vga.vram" }]);
		expect(fields("MAGIC_PFNS")).toEqual({ ioreqPfn: 0xfeffe, bufferedIoreqPfn: 0xfefff, storePfn: 0xfeffc });
		expect(named(items, "HVM_GENERATION_ID_ADDR")[0]?.type).toBe(0xfffffff2);
		const basic = named((await collect(pv(), { pages: "summary" })).items, "VCPU_BASIC");
		expect(basic.map((item) => item.fields.vcpu)).toEqual([0, 1]);
		expect(basic[0]?.fields.registers).toHaveProperty("rip");
	});

	test("xl's configuration is shown as text where it is one", async () => {
		const image = hvm({ xl: '{"c_info":{}}' });
		const { items } = await collect(image, {});
		expect(items[0]?.fields).toEqual({ mandatoryFlags: 1, optionalFlags: 0, configuration: '{"c_info":{}}' });
		// Neither UTF-8, so that its text would be another one, nor with its NUL.
		for (const [at, octet] of [
			[55, 0xff],
			[65, 0x41],
		] as const) {
			const other = Buffer.from(image);
			other[at] = octet;
			const [header] = (await collect(other, {})).items;
			expect(header?.fields).toHaveProperty("optionalData");
			expect(header && Buffer.compare(legacyFormat.encode(header), header.octets ?? image)).toBe(0);
		}
	});

	test("a long list of unmapped PFNs comes in pieces", async () => {
		const { items, findings } = await collect(pv({ p2mSize: 0x40000, unmapped: 70_000 }), { pages: "summary" });
		expect(findings.list).toEqual([]);
		expect(named(items, "UNMAPPED_PFNS")[0]?.fields).toMatchObject({ count: 70_000 });
		expect(named(items, "UNMAPPED_PFNS_CONTINUED")[0]?.fields.pfns).toHaveLength(70_000 - 65_536);
	});

	test("checkpoints are read to the last one; QEMU traditional's and Remus's states as well", async () => {
		const { items, findings } = await collect(pv({ states: 3, lastCheckpoint: true }), { pages: "summary" });
		expect(named(items, "SHARED_INFO")).toHaveLength(3);
		expect(findings.list.map(({ rule }) => rule.code)).toEqual(["XLU-O030", "XLU-O030"]);
		for (const signature of ["QemuDeviceModelRecord", "RemusDeviceModelState"]) {
			const read = await collect(hvm({ qemu: { signature, state: 99 } }), { pages: "summary" });
			expect(read.findings.list).toEqual([]);
			expect(named(read.items, "QEMU")[0]?.fields).toMatchObject({ signature });
		}
	});

	test("width and guest type that are given count more than what the octets say", async () => {
		const findings = new Findings();
		const options = { findings, pages: "summary", width: 32 } as const;
		await expect(async () => {
			for await (const _ of readLegacy(new StreamReader(sourceOf(hvm())), options));
		}).rejects.toMatchObject({ name: "XluError" });
	});

	test("contexts and shared_info are fields by name, as in libxc images; END sums the pages up", async () => {
		for (const guest of [32, 64] as const) {
			const spec = legacyVariants().find(({ name }) => name === `pv 64 guest ${guest} everything`)?.spec;
			if (!spec) throw new Error("no such variant");
			const { items } = await collect(legacyImage(spec), { pages: "summary" });
			const [basic] = named(items, "VCPU_BASIC");
			const ip = guest === 64 ? "rip" : "eip";
			expect(basic?.fields).toMatchObject({
				registers: { [ip]: expect.stringMatching(/^0x/) },
				traps: expect.any(Array),
			});
			expect(named(items, "SHARED_INFO")[0]?.fields).toMatchObject({
				guestWidth: guest / 8,
				vcpuInfo: expect.any(Array),
			});
			expect(named(items, "VCPU_EXTENDED")[0]?.fields).toMatchObject({ context: expect.any(Object) });
			for (const item of items) if (item.octets) expect(Buffer.compare(legacyFormat.encode(item), item.octets)).toBe(0);
		}
		const { items } = await collect(hvm({ batches: [[1, 2, 3], [2, 0xf0000009], [3]] }), { pages: "summary" });
		expect(named(items, "END")[0]?.fields).toMatchObject({
			pages: { records: 3, frames: 6, distinct: 4, sentAgain: 2, withData: 5, byType: { NOTAB: 5, XTAB: 1 } },
		});
	});

	test("encode names the field that makes no item", () => {
		const item = { layer: "legacy", kind: "record", type: null, isLittle: true } as const;
		const encode = (name: string, fields: StreamItem["fields"]) => () => legacyFormat.encode({ ...item, name, fields });
		expect(encode("nonsense", {})).toThrow(XluError);
		expect(encode("PAGES", { width: 64, pages: [], contents: "" })).toThrow(/pages: expected 1 to 1024/);
		expect(encode("PAGES", { width: 32, pages: [{ pfn: 2 ** 28, type: 0 }], contents: "" })).toThrow(
			/pfn: expected at most/,
		);
		expect(encode("PAGES", { width: 32, pages: [{ pfn: 1, type: 0 }], contents: "" })).toThrow(
			/contents: expected 1 pages/,
		);
		expect(encode("header", { width: 32, p2mSize: 2 ** 33 })).toThrow(/p2mSize/);
		expect(encode("QEMU", { signature: "constructor", state: "" })).toThrow(/signature/);
		expect(encode("HVM_CONTEXT", { entries: [], rest: "0g" })).toThrow(/HVM_CONTEXT\.rest: .*hexadecimal/);
		expect(encode("VCPU_INFO", { maxId: 4096, online: [] })).toThrow(/maxId/);
	});

	test("10,000 mutations: a coded refusal or a whole reading, never a crash", async () => {
		const random = new Random(11);
		const small = { context: 40, batches: [[1], [0xf0000002]], qemu: { state: 20 } };
		const bases = legacyVariants().map(({ spec }) => legacyImage({ ...spec, ...small }));
		const codes = new Map<string, number>();
		for (let i = 0; i < 10_000; i++) {
			const image = Buffer.from(bases[random.below(bases.length)] ?? []);
			// Half of them in the first 200 octets, where lengths and counts are.
			const limit = random.chance(0.5) ? 200 : image.length;
			for (let n = random.geometric(2); n > 0; n--)
				image[random.below(limit)] = random.chance(0.3) ? 255 : random.below(256);
			const cut = random.chance(0.2) ? image.subarray(0, random.below(image.length)) : image;
			const findings = new Findings();
			try {
				for await (const item of reading(cut, { findings, pages: "summary" })) void item.fields;
				for (const { rule } of findings.errors) codes.set(rule.code, (codes.get(rule.code) ?? 0) + 1);
			} catch (error) {
				expect(error).toBeInstanceOf(XluError);
				const { rule, expected, got, offset } = error as XluError;
				expect(rule).toMatch(/^XLU-O\d{3}$/);
				expect([typeof expected, typeof got, typeof offset]).toEqual(["string", "string", "number"]);
				codes.set(`${rule}`, (codes.get(`${rule}`) ?? 0) + 1);
			}
		}
		// They reach most of the rules.
		expect(codes.size).toBeGreaterThan(15);
	}, 120_000);

	test("a length that nothing stands behind takes no memory", async () => {
		const claims = [
			Buffer.concat([
				hvm({ batches: [], qemu: undefined, context: 0 }).subarray(0, -4),
				Buffer.from("ffffff03", "hex"),
			]),
			Buffer.concat([ulongs(64, 2 ** 28), pv({ p2mSize: 2 ** 28, batches: [] }).subarray(8, 9000)]),
		];
		for (const image of claims) {
			const before = process.memoryUsage().arrayBuffers;
			await expect(collect(image, { pages: "keep" })).rejects.toMatchObject({ rule: "XLU-O002" });
			expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 << 20);
		}
	});
});
