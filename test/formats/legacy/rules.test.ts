import { describe, expect, test } from "vitest";
import { Findings } from "../../../src/formats/common/findings.ts";
import { StreamReader } from "../../../src/formats/common/reader.ts";
import { sourceOf } from "../../../src/formats/common/source.ts";
import { convertLegacy, legacyFormat } from "../../../src/formats/legacy/index.ts";
import { block, type LegacySpec, legacyImage, u32, u64, ulongs, xlHeader } from "../../support/legacy.ts";
import { type Options, reading } from "./support.ts";

const hvm = (spec: Partial<LegacySpec> = {}) => legacyImage({ width: 64, guestType: "hvm", ...spec });
const pv = (spec: Partial<LegacySpec> = {}) => legacyImage({ width: 64, guestType: "pv", ...spec });
const context = Buffer.alloc(5168);

/** A PV image of which the extended info is these octets. */
const withInfo = (info: Uint8Array) => Buffer.concat([ulongs(64, 4), Buffer.alloc(8, 0xff), u32(info.length), info]);

interface RuleCase {
	code: string;
	image: Buffer;
	/** Whether it is an error as it is, only with --strict, or never. */
	as: "error" | "strict" | "warning";
	options?: Options;
	/** The conversion alone refuses it. */
	converting?: "libxc" | "libxl";
}

const cases: [string, RuleCase][] = [
	[
		"neither chunk nor extended info",
		{ code: "O001", as: "error", image: Buffer.concat([u64(9), Buffer.alloc(64, 0x55)]) },
	],
	["cut in a page", { code: "O002", as: "error", image: hvm().subarray(0, 5000) }],
	["cut in the header", { code: "O002", as: "error", image: hvm().subarray(0, 7) }],
	["no octets", { code: "O002", as: "error", image: Buffer.alloc(0) }],
	["xl, other byte order", { code: "O003", as: "error", image: xlHeader("{}", 1, 0x04030201) }],
	["xl, unknown flag", { code: "O003", as: "error", image: xlHeader("{}", 5) }],
	["xl, a libxl stream", { code: "O003", as: "error", image: xlHeader("{}", 3) }],
	["PV, p2m_size 0", { code: "O004", as: "error", image: pv({ p2mSize: 0 }) }],
	[
		"PV, p2m_size above 28 bits",
		{ code: "O004", as: "error", image: Buffer.concat([u64(2 ** 28 + 1), pv().subarray(8)]) },
	],
	["HVM, p2m_size above 28 bits", { code: "O004", as: "error", image: hvm({ p2mSize: 2 ** 28 + 1 }) }],
	["no extended info", { code: "O005", as: "error", image: hvm(), options: { guestType: "pv" } }],
	["block beyond the length", { code: "O006", as: "error", image: withInfo(block("vcpu", context).subarray(0, 5000)) }],
	[
		"half a block's header",
		{ code: "O006", as: "error", image: withInfo(Buffer.concat([block("vcpu", context), u32(0)])) },
	],
	["64 KiB of extended info", { code: "O006", as: "error", image: withInfo(Buffer.alloc(65_537)) }],
	[
		"unknown block",
		{ code: "O007", as: "error", image: withInfo(Buffer.concat([block("vcpu", context), block("abcd", u32(1))])) },
	],
	["context of 100 octets", { code: "O008", as: "error", image: withInfo(block("vcpu", Buffer.alloc(100))) }],
	["no block vcpu", { code: "O008", as: "error", image: withInfo(block("extv", Buffer.alloc(0))) }],
	[
		"vcpu twice",
		{
			code: "O009",
			as: "error",
			image: pv({
				blocks: [
					["vcpu", context],
					["vcpu", context],
				],
			}),
		},
	],
	[
		"extv with data",
		{
			code: "O010",
			as: "strict",
			image: pv({
				blocks: [
					["vcpu", context],
					["extv", u32(0)],
				],
				extv: true,
			}),
		},
	],
	[
		"xcnt of 10",
		{ code: "O011", as: "error", image: withInfo(Buffer.concat([block("vcpu", context), block("xcnt", u32(10))])) },
	],
	[
		"xcnt of 3 octets",
		{
			code: "O011",
			as: "error",
			image: withInfo(Buffer.concat([block("vcpu", context), block("xcnt", Buffer.alloc(3))])),
		},
	],
	[
		"xsave area of another size",
		{
			code: "O011",
			as: "error",
			image: pv({
				blocks: [
					["vcpu", context],
					["xcnt", u32(48)],
				],
				xcnt: 40,
			}),
		},
	],
	["chunk -21", { code: "O012", as: "error", image: hvm({ extra: u32(-21) }) }],
	["1025 pages", { code: "O013", as: "error", image: hvm({ extra: u32(1025) }) }],
	["tmem", { code: "O014", as: "error", image: hvm({ extra: u32(-5, 1) }) }],
	["compression", { code: "O014", as: "error", image: hvm({ extra: u32(-13) }) }],
	["page type 5", { code: "O015", as: "error", image: hvm({ batches: [[1, 0x50000001]] }) }],
	["entry above 32 bits", { code: "O016", as: "error", image: hvm({ entryHigh: 1 }) }],
	["PFN beyond p2m_size", { code: "O017", as: "warning", image: hvm({ p2mSize: 5, batches: [[5]] }) }],
	["vCPU 4096", { code: "O018", as: "error", image: hvm({ online: [0], maxId: 4096 }) }],
	["vCPU above the highest id", { code: "O019", as: "error", image: pv({ online: [0, 1, 5], maxId: 1 }) }],
	["PV without VCPU_INFO", { code: "O020", as: "error", image: pv({ online: undefined }) }],
	["PV without a vCPU", { code: "O020", as: "error", image: pv({ online: [] }) }],
	["HVM parameter in a PV image", { code: "O021", as: "error", image: pv({ params: [[-3, 0]] }) }],
	["VCPU_INFO twice", { code: "O022", as: "strict", image: hvm({ extra: Buffer.concat([u32(-2, 0), u64(1)]) }) }],
	[
		"a parameter twice",
		{
			code: "O022",
			as: "strict",
			image: hvm({
				params: [
					[-3, 1],
					[-3, 2],
				],
			}),
		},
	],
	[
		"padding of a parameter",
		{ code: "O023", as: "strict", image: hvm({ extra: Buffer.concat([u32(-3, 7), u64(1)]) }) },
	],
	["65 MiB of toolstack data", { code: "O024", as: "error", image: hvm({ extra: u32(-18, 65 << 20) }) }],
	["toolstack of version 2", { code: "O025", as: "warning", image: hvm({ toolstack: u32(2, 0) }) }],
	[
		"toolstack of version 2, for libxl",
		{ code: "O025", as: "error", image: hvm({ toolstack: u32(2, 0) }), converting: "libxl" },
	],
	[
		"unknown signature",
		{ code: "O026", as: "error", image: hvm({ qemu: { signature: "DeviceModelRecord0003", state: 1 } }) },
	],
	[
		"Remus, converting",
		{
			code: "O027",
			as: "error",
			image: hvm({ qemu: { signature: "RemusDeviceModelState", state: 1 } }),
			converting: "libxc",
		},
	],
	["no device model", { code: "O028", as: "strict", image: hvm({ qemu: undefined }) }],
	["no device model, converting", { code: "O028", as: "error", image: hvm({ qemu: undefined }), converting: "libxc" }],
	[
		"octets behind the image",
		{ code: "O029", as: "warning", image: Buffer.concat([hvm({ lastCheckpoint: true }), u32(1)]) },
	],
	["two checkpoints", { code: "O030", as: "warning", image: pv({ states: 2 }) }],
	[
		"more unmapped PFNs than PFNs",
		{ code: "O031", as: "error", image: pv({ p2mSize: 8, unmapped: 9, batches: [[1]] }) },
	],
	["I/O server's PFN alone", { code: "O032", as: "strict", image: hvm({ params: [[-19, 5]] }) }],
	["pages for debugging", { code: "O033", as: "warning", image: hvm({ verify: true }) }],
	["no HVM context", { code: "O034", as: "error", image: hvm({ context: 0 }) }],
];

/** What is said of each: octets from the start of the image, part, field, expected, got. */
const said: Readonly<Record<string, readonly (readonly [number, string, string | undefined, string, string])[]>> = {
	"neither chunk nor extended info": [
		[
			0,
			"header",
			undefined,
			"extended info (PV) or a chunk (HVM), or --width and --guest-type",
			"neither behind a 64-bit p2m_size: 5555555555555555",
		],
	],
	"cut in a page": [[36, "PAGES", "pages", "12288 octets", "4964 before the end"]],
	"cut in the header": [[0, "header", undefined, "8 octets", "7 before the end"]],
	"no octets": [[0, "header", undefined, "8 octets", "0 before the end"]],
	"xl, other byte order": [[0, "XL_HEADER", "byte order", "0x1020304", "0x4030201"]],
	"xl, unknown flag": [[0, "XL_HEADER", "mandatory flags", "no flag but bit 0", "0x5"]],
	"xl, a libxl stream": [[0, "XL_HEADER", "mandatory flags", "no flag but bit 0", "0x3"]],
	"PV, p2m_size 0": [[0, "header", "p2m_size", "1 to 0x10000000", "0x0"]],
	"PV, p2m_size above 28 bits": [[0, "header", "p2m_size", "1 to 0x10000000", "0x10000001"]],
	"HVM, p2m_size above 28 bits": [[0, "header", "p2m_size", "0 to 0x10000000", "0x10000001"]],
	"no extended info": [[8, "EXTENDED_INFO", "signature", "all ones", "0300000001000000"]],
	"block beyond the length": [[8, "EXTENDED_INFO", "length", "at most 4992 octets in vcpu", "5168"]],
	"half a block's header": [[8, "EXTENDED_INFO", "length", "a block", "4 octets"]],
	"64 KiB of extended info": [[8, "EXTENDED_INFO", "length", "at most 65536 octets", "65537"]],
	"unknown block": [[8, "EXTENDED_INFO", "blocks[1]", "vcpu, extv, xcnt", '"abcd"']],
	"context of 100 octets": [[8, "EXTENDED_INFO", "vcpu", "2800 or 5168 octets", "100"]],
	"no block vcpu": [[8, "EXTENDED_INFO", "vcpu", "2800 or 5168 octets", "no such block"]],
	"vcpu twice": [[8, "EXTENDED_INFO", "vcpu", "one vcpu", "2"]],
	"extv with data": [[8, "EXTENDED_INFO", "extv", "0 octets", "4"]],
	"xcnt of 10": [[8, "EXTENDED_INFO", "xcnt", "0, or 16 to 1048576", "10"]],
	"xcnt of 3 octets": [[8, "EXTENDED_INFO", "xcnt", "4 octets", "3"]],
	"xsave area of another size": [[31000, "VCPU_XSAVE", "size", "32", "40"]],
	"chunk -21": [[20560, "chunk", "type", "a count, 0, or -1 to -20", "-21"]],
	"1025 pages": [[20560, "PAGES", "type", "at most 1024 pages", "1025"]],
	tmem: [[20560, "TMEM", "type", "neither tmem nor compressed pages", "TMEM"]],
	compression: [[20560, "ENABLE_COMPRESSION", "type", "neither tmem nor compressed pages", "ENABLE_COMPRESSION"]],
	"page type 5": [[8, "PAGES", "pfn[1]", "a known page type", "0x5"]],
	"entry above 32 bits": [
		[8, "PAGES", "pfn[0]", "0 in bits 63-32", "0x1"],
		[12324, "PAGES", "pfn[0]", "0 in bits 63-32", "0x1"],
	],
	"PFN beyond p2m_size": [[8, "PAGES", "pfn[0]", "below 0x5", "0x5"]],
	"vCPU 4096": [[20544, "VCPU_INFO", "max_id", "below 4096", "4096"]],
	"vCPU above the highest id": [[25796, "VCPU_INFO", "online", "none above 1", "5"]],
	"PV without VCPU_INFO": [[25796, "END", undefined, "VCPU_INFO with a vCPU online", "no VCPU_INFO"]],
	"PV without a vCPU": [[25812, "END", undefined, "VCPU_INFO with a vCPU online", "no vCPU online"]],
	"HVM parameter in a PV image": [[25812, "HVM_IDENT_PT", undefined, "no HVM parameter in a PV image", "HVM_IDENT_PT"]],
	"VCPU_INFO twice": [[20560, "VCPU_INFO", undefined, "one VCPU_INFO", "a second one"]],
	"a parameter twice": [[20576, "HVM_IDENT_PT", undefined, "one HVM_IDENT_PT", "a second one"]],
	"padding of a parameter": [[20560, "HVM_IDENT_PT", "padding", "0", "0x7"]],
	"65 MiB of toolstack data": [[20560, "TOOLSTACK", "length", "at most 67108864 octets", "68157440"]],
	"toolstack of version 2": [[20560, "TOOLSTACK", undefined, "version 1", "2"]],
	"toolstack of version 2, for libxl": [
		[20560, "TOOLSTACK", undefined, "version 1", "2"],
		[20560, "TOOLSTACK", undefined, "version 1", "2"],
	],
	"unknown signature": [
		[
			21592,
			"QEMU",
			"signature",
			"QemuDeviceModelRecord, DeviceModelRecord0002, RemusDeviceModelState",
			'"DeviceModelRecord0003"',
		],
	],
	"Remus, converting": [[21592, "QEMU", undefined, "DeviceModelRecord0002", "RemusDeviceModelState"]],
	"no device model": [[21592, "QEMU", undefined, "a device model's record", "the end"]],
	"no device model, converting": [[21592, "QEMU", undefined, "a device model's record", "the end"]],
	"octets behind the image": [[21954, "tail", undefined, "the end", "more octets"]],
	"two checkpoints": [[40252, "checkpoint", undefined, "one state", "another checkpoint behind it"]],
	"more unmapped PFNs than PFNs": [[9332, "UNMAPPED_PFNS", "count", "at most 8", "9"]],
	"I/O server's PFN alone": [[20576, "END", undefined, "both or none", "the PFN alone"]],
	"pages for debugging": [[20544, "ENABLE_VERIFY_MODE", undefined, "no debugging pages", "a second row of pages"]],
	"no HVM context": [[20588, "HVM_CONTEXT", "length", "a context", "no octets"]],
};

async function findingsOf({ image, options, converting }: RuleCase, strict: boolean) {
	const findings = new Findings({ strict });
	const read = { ...options, findings, pages: "summary" } as const;
	let thrown: unknown;
	try {
		if (converting) {
			const sink = { length: 0, write: async () => {} };
			const reader = new StreamReader(sourceOf(image));
			await convertLegacy(reader, sink, { ...options, findings, to: "libxc-v3", layers: converting });
		} else for await (const _ of reading(image, read));
	} catch (error) {
		thrown = error;
	}
	return { findings, thrown };
}

describe("rules of legacy images", () => {
	test.each(cases)("%s", async (title, rule) => {
		const code = `XLU-${rule.code}`;
		for (const strict of [false, true]) {
			const { findings, thrown } = await findingsOf(rule, strict);
			expect(
				findings.list.map(({ rule, layer, offset, record, field, expected, got }) => [
					rule.code,
					layer,
					offset,
					record,
					field,
					expected,
					got,
				]),
			).toEqual(said[title]?.map((row) => [code, "legacy", ...row]));
			if (rule.converting) expect(thrown).toMatchObject({ rule: code });
			else {
				for (const { isError } of findings.list) {
					expect(isError).toBe(rule.as === "error" || (rule.as === "strict" && strict));
				}
			}
			if (thrown !== undefined) expect(thrown).toMatchObject({ name: "XluError", rule: code });
		}
	});

	test("every rule has a case, an own code and something to do about it", () => {
		const codes = legacyFormat.rules.map(({ code }) => code);
		expect(codes).toEqual([...new Set(codes)].sort());
		expect([...new Set(cases.map(([, { code }]) => `XLU-${code}`))].sort()).toEqual(codes);
		for (const { code, severity } of legacyFormat.rules) {
			const weights = cases
				.filter(([, rule]) => `XLU-${rule.code}` === code && !rule.converting)
				.map(([, { as }]) => as);
			const weight = severity === "strict" || severity === "warning" ? severity : "error";
			// What the conversion alone refuses has no weight while the image is read.
			expect(
				weights.every((as) => as === weight),
				code,
			).toBe(true);
		}
		for (const { doc, from, advice } of legacyFormat.rules)
			expect([doc, from, advice].every((text) => text.length > 5)).toBe(true);
	});
});
