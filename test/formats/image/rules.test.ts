/** Every rule of libxc, libxl, xl and their framing: a stream that breaks it and nothing else, and what is said of it. */
import { beforeAll, describe, expect, test } from "vitest";
import { XluError } from "../../../src/errors.ts";
import { Findings } from "../../../src/formats/common/findings.ts";
import { imageFormat } from "../../../src/formats/image.ts";
import { Draft, framed, make, type Piece, pageData, pageOf, u16, u32, u32be, u64 } from "../../support/drafts.ts";
import { itemsOf } from "../../support/images.ts";

/** Whether a finding refuses the stream: always, with --strict alone, or never. */
type Weight = "error" | "strict" | "warning";
/** Octets from the start of the stream, or from that of a piece, its number where there are several. */
type At = number | string | readonly [string, number];
/** Where, in which layer and record, which field, what was expected and what found. */
type Said = readonly [at: At, record: string, field: string | undefined, expected: string, got: string | RegExp];

interface RuleCase {
	readonly title: string;
	readonly code: string;
	readonly as: Weight;
	readonly make: () => Draft;
	readonly said: readonly Said[];
}

let pv: Draft;
let hvm: Draft;
/** The HVM image with one layer's headers and records in the other byte order. */
let big: Record<"libxl" | "libxc", Draft>;
beforeAll(async () => {
	pv = await Draft.of("pv");
	hvm = await Draft.of("hvm");
	const items = await itemsOf(hvm.octets);
	const inOrder = (layer: string) =>
		new Draft(
			items.map((item) => {
				const octets = imageFormat.encode({ ...item, isLittle: item.layer !== layer });
				return { layer: item.layer, name: item.name, octets };
			}),
		);
	big = { libxl: inOrder("libxl"), libxc: inOrder("libxc") };
});

const zeros = (length: number) => Buffer.alloc(length);
const ones = (length: number) => Buffer.alloc(length, 0xff);
const xlHeader = (data: Uint8Array, flags = 3, length = data.length): Piece => ({
	layer: "xl",
	name: "header",
	octets: Buffer.concat([
		Buffer.from("Xen saved domain, xl format\n \0 \r", "latin1"),
		u32(0x01020304, flags, 0, length),
		data,
	]),
});
const config = (text: string) => Buffer.concat([u32(text.length), Buffer.from(text, "latin1")]);
const vcpu = (id: number, content: Uint8Array, reserved = 0) => Buffer.concat([u32(id, reserved), content]);
const params = (...list: [number, number][]) => Buffer.concat([u32(list.length, 0), u64(...list.flat())]);
const tsc = (mode: number, reserved = 0) => Buffer.concat([u32(mode, 1_000_000), u64(5), u32(0, reserved)]);
const entry = (type: number, length: number) => Buffer.concat([u16(type, 0), u32(length), zeros(length)]);
const p2m = (start: number, end: number, ...frames: number[]) => Buffer.concat([u32(start, end), u64(...frames)]);
/** The captured PV guest has 10,240 PFNs in 20 frames. */
const frames = Array.from({ length: 20 }, (_, i) => i);
const lastPfn = 10_239;
/** Another checkpoint of the HVM guest, without libxl. */
const again = (...pieces: Piece[]) => hvm.only("libxc").before("libxc END", make.checkpoint(), ...pieces);
const emulator = (data: string, id = 2) => hvm.before("libxl END", make.emulatorStore(id, 0, data));
/** An optional record that nobody knows. */
const optional = (layer: string, length: number): Piece => ({
	layer,
	name: "optional",
	octets: framed(0x80000001, zeros(length)),
});
const pagesOfType = (...types: number[]) => pageData(types.map((type, i) => ({ pfn: i, type, page: pageOf(i) })));

const cases: RuleCase[] = [];
function breaks(code: string, as: Weight, title: string, build: () => Draft, ...said: Said[]): void {
	cases.push({ title: `${code} ${title}`, code: `XLU-${code}`, as, make: build, said });
}

// framing
{
	const CUT = "8 octets of a record's header, or END";
	breaks("F001", "error", "xl's header is cut", () => hvm.cut("xl header", 40), [
		0,
		"xl header",
		undefined,
		"48 octets",
		"40 before the end",
	]);
	breaks(
		"F001",
		"error",
		"xl's configuration is cut",
		() => hvm.replace("xl header", xlHeader(config("{}\0"), 3, 700)).cut("libxl header", 0),
		[48, "xl header", undefined, "700 octets", "7 before the end"],
	);
	breaks("F001", "error", "libxl's header is not there", () => hvm.only("libxl").cut("libxl header", 15), [
		0,
		"libxl header",
		undefined,
		"16 octets",
		"15 before the end",
	]);
	breaks("F001", "error", "libxc's header is cut", () => hvm.cut("libxc header", 39), [
		"libxc header",
		"libxc header",
		undefined,
		"40 octets",
		"39 before the end",
	]);
	breaks("F001", "error", "no record of libxc follows", () => hvm.cut("libxc END"), [
		"the end",
		"libxc record header",
		undefined,
		CUT,
		"0",
	]);
	breaks("F001", "error", "half a record's header", () => hvm.cut("libxl END", 7), [
		"libxl END",
		"libxl record header",
		undefined,
		CUT,
		"7",
	]);
	breaks("F001", "error", "half a body", () => hvm.cut("libxc X86_TSC_INFO", 20), [
		"libxc X86_TSC_INFO",
		"libxc X86_TSC_INFO",
		undefined,
		"24 octets of body and 0 of padding",
		"12 before the end",
	]);
	breaks(
		"F001",
		"error",
		"no padding",
		() => hvm.after("libxl header", optional("libxl", 3)).cut("libxl optional", 12),
		["libxl optional", "libxl optional 0x80000001", undefined, "3 octets of body and 5 of padding", "4 before the end"],
	);
	breaks("F001", "error", "PAGE_DATA ends in its count", () => hvm.cut("libxc PAGE_DATA", 12), [
		"libxc PAGE_DATA",
		"libxc PAGE_DATA",
		undefined,
		"8 octets of the body",
		"4 before the end",
	]);
	breaks("F001", "error", "PAGE_DATA ends in its PFNs", () => hvm.cut("libxc PAGE_DATA", 20), [
		"libxc PAGE_DATA",
		"libxc PAGE_DATA",
		undefined,
		/./ as never,
		"4 before the end",
	]);
	breaks(
		"F001",
		"error",
		"PAGE_DATA ends in a page",
		() => hvm.replace("libxc PAGE_DATA", pageData([{ pfn: 1 }, { pfn: 2 }])).cut("libxc PAGE_DATA", 32 + 5000),
		["libxc PAGE_DATA", "libxc PAGE_DATA", undefined, "1 pages more", "904 before the end"],
	);
	breaks("F002", "error", "129 MiB", () => hvm.set("libxc HVM_CONTEXT", 4, u32(129 << 20)), [
		"libxc HVM_CONTEXT",
		"libxc HVM_CONTEXT",
		"body_length",
		"at most 134217728",
		"135266304",
	]);
	breaks("F003", "error", "libxc's record 19", () => hvm.set("libxc X86_TSC_INFO", 0, u32(0x13)), [
		"libxc X86_TSC_INFO",
		"libxc record",
		"type",
		"a known mandatory type",
		"0x13",
	]);
	breaks("F003", "error", "libxl's record 6", () => hvm.set("libxl EMULATOR_CONTEXT", 0, u32(6)), [
		"libxl EMULATOR_CONTEXT",
		"libxl record",
		"type",
		"a known mandatory type",
		"0x6",
	]);
	breaks("F004", "error", "an octet behind a body", () => hvm.set("libxl EMULATOR_CONTEXT", -1, Buffer.of(7)), [
		"libxl EMULATOR_CONTEXT",
		"libxl EMULATOR_CONTEXT",
		"padding",
		"zeros",
		"00000000000007",
	]);
	breaks(
		"F004",
		"error",
		"of libxc",
		() => hvm.after("libxc header", optional("libxc", 7)).set("libxc optional", -1, Buffer.of(1)),
		["libxc optional", "libxc optional 0x80000001", "padding", "zeros", "01"],
	);
	breaks(
		"F005",
		"warning",
		"44 octets of xl's own",
		() => new Draft([...hvm.pieces, { layer: "xl", name: "tail", octets: ones(44) }]),
		["xl tail", "xl tail", undefined, "the end of the stream", "octets after END"],
	);
}

// xl
{
	const at = (field: number) => ["xl header", field] as const;
	breaks("H001", "error", "another order", () => hvm.set("xl header", 32, u32(0x02010403)), [
		at(32),
		"xl header",
		"byte order",
		"0x1020304",
		"0x2010403",
	]);
	breaks("H002", "error", "a third flag", () => hvm.set("xl header", 36, u32(7)), [
		at(36),
		"xl header",
		"mandatory flags",
		"none but 0x3",
		"0x7",
	]);
	breaks("H003", "error", "17 MiB of it", () => hvm.set("xl header", 44, u32(17 << 20)), [
		at(44),
		"xl header",
		"optional data length",
		"at most 16777216",
		"17825792",
	]);
	breaks("H003", "error", "2 octets of it", () => hvm.replace("xl header", xlHeader(zeros(2))), [
		at(48),
		"xl header",
		"configuration",
		"u32 length and configuration",
		"2 octets",
	]);
	breaks(
		"H003",
		"error",
		"a length within that is another",
		() => hvm.replace("xl header", xlHeader(Buffer.concat([u32(4), Buffer.from("{}\0")]))),
		[at(48), "xl header", "configuration", "a length of 3", "4"],
	);
	breaks("H004", "error", "no NUL", () => hvm.replace("xl header", xlHeader(config("{}"))), [
		at(48),
		"xl header",
		"configuration",
		"text that ends in a NUL",
		"another",
	]);
	breaks("H004", "error", "two NULs", () => hvm.replace("xl header", xlHeader(config("{}\0\0"))), [
		at(48),
		"xl header",
		"configuration",
		"text that ends in a NUL",
		"another",
	]);
	breaks("H004", "error", "no JSON", () => hvm.replace("xl header", xlHeader(config("{,}\0"))), [
		at(48),
		"xl header",
		"configuration",
		"JSON",
		/JSON/,
	]);
	breaks("H005", "error", "no libxl stream announced", () => hvm.set("xl header", 36, u32(1)), [
		at(36),
		"xl header",
		"mandatory flags",
		"bit 1: a libxl stream follows",
		"0x1",
	]);
}

// libxl
{
	const store = "EMULATOR_XENSTORE_DATA";
	const state = (...words: number[]) => hvm.before("libxl END", make.checkpointState(u32(...words)));
	const placed = ["libxl CHECKPOINT_STATE", "libxl CHECKPOINT_STATE"] as const;
	breaks("L001", "error", "another ident", () => hvm.set("libxl header", 0, Buffer.from("LibxlFmu")), [
		"libxl header",
		"libxl header",
		"ident",
		"LibxlFmt",
		'"LibxlFmu"',
	]);
	breaks("L002", "error", "version 1", () => hvm.set("libxl header", 8, u32be(1)), [
		["libxl header", 8],
		"libxl header",
		"version",
		"2",
		"1",
	]);
	breaks("L003", "error", "bit 2", () => hvm.set("libxl header", 12, u32be(4)), [
		["libxl header", 12],
		"libxl header",
		"options",
		"bits 0 and 1 alone",
		"0x4",
	]);
	breaks("L004", "strict", "big-endian", () => big.libxl, [
		["libxl header", 12],
		"libxl header",
		"options",
		"bit 0 clear",
		"0x1",
	]);
	for (const [name, record] of [
		["END", "libxl END"],
		["LIBXC_CONTEXT", "libxl LIBXC_CONTEXT"],
	] as const) {
		breaks("L010", "error", `${name} with a body`, () => hvm.withBody(record, zeros(8)), [
			record,
			`libxl ${name}`,
			"body_length",
			"0",
			"8",
		]);
	}
	breaks("L010", "error", "CHECKPOINT_END with a body", () => remus().withBody("libxl CHECKPOINT_END", zeros(8)), [
		"libxl CHECKPOINT_END",
		"libxl CHECKPOINT_END",
		"body_length",
		"0",
		"8",
	]);
	breaks("L010", "error", "CHECKPOINT_STATE of 4 octets", () => state(0), [...placed, "body_length", "8", "4"]);
	breaks("L010", "error", "4 octets of an emulator", () => hvm.withBody("libxl EMULATOR_CONTEXT", zeros(4)), [
		"libxl EMULATOR_CONTEXT",
		"libxl EMULATOR_CONTEXT",
		"body_length",
		"at least 8",
		"4",
	]);
	breaks("L011", "error", "no LIBXC_CONTEXT", () => hvm.only("xl", "libxl").without("libxl LIBXC_CONTEXT"), [
		"libxl END",
		"libxl END",
		"type",
		"LIBXC_CONTEXT before it",
		"none",
	]);
	breaks("L011", "error", "two of them", () => hvm.before("libxl END", make.libxcContext()), [
		["libxl LIBXC_CONTEXT 1", 0],
		"libxl LIBXC_CONTEXT",
		"type",
		"one LIBXC_CONTEXT",
		"a second one",
	]);
	breaks("L011", "error", "CHECKPOINT_END behind END", () => hvm.before("libxl END", make.checkpointEnd()), [
		"libxl CHECKPOINT_END",
		"libxl CHECKPOINT_END",
		"type",
		"a libxc CHECKPOINT before it",
		"none",
	]);
	breaks(
		"L011",
		"error",
		"END behind CHECKPOINT",
		() => remus().cut("libxl CHECKPOINT_END").after("libxc CHECKPOINT", make.libxlEnd()).cut("libxl EMULATOR_CONTEXT"),
		["libxl END", "libxl END", "type", "CHECKPOINT_END before it", "none"],
	);
	breaks("L012", "error", "emulator 3", () => hvm.set("libxl EMULATOR_CONTEXT", 8, u32(3)), [
		"libxl EMULATOR_CONTEXT",
		"libxl EMULATOR_CONTEXT",
		"emulator_id",
		"0, 1, 2",
		"3",
	]);
	breaks("L012", "error", "one emulator twice", () => hvm.before("libxl END", hvm.piece("libxl EMULATOR_CONTEXT")), [
		"libxl EMULATOR_CONTEXT 1",
		"libxl EMULATOR_CONTEXT",
		"index",
		"once between checkpoints",
		"a second one",
	]);
	breaks("L013", "error", "no NUL at the end", () => emulator("physmap/0/size\x00800"), [
		`libxl ${store}`,
		`libxl ${store}`,
		"data",
		"a NUL at the end",
		"none",
	]);
	breaks("L013", "error", "a key without a value", () => emulator("a\0b\0c\0"), [
		`libxl ${store}`,
		`libxl ${store}`,
		"data",
		"a value for each key",
		"3 strings",
	]);
	breaks(
		"L014",
		"strict",
		"unknown in a stream that is not converted",
		() => hvm.set("libxl EMULATOR_CONTEXT", 8, u32(0)),
		["libxl EMULATOR_CONTEXT", "libxl EMULATOR_CONTEXT", "emulator_id", "1 or 2", "0"],
	);
	for (const [title, key] of Object.entries({
		absolute: "/a",
		empty: "",
		"with two slashes": "a//b",
		"with one at its end": "a/",
		"with a blank": "a b",
		"that is no ASCII": "\xe9",
	})) {
		breaks("L015", "error", `a key ${title}`, () => emulator(`ok\0v\0${key}\0v\0`), [
			`libxl ${store}`,
			`libxl ${store}`,
			"pairs[1].key",
			"a relative path of letters, digits and -/_@",
			JSON.stringify(key),
		]);
	}
	breaks("L016", "warning", "a value with an escape", () => emulator("a\0\x1b[\0"), [
		`libxl ${store}`,
		`libxl ${store}`,
		"pairs[0].value",
		"readable ASCII",
		'"\\u001b["',
	]);
	breaks("L017", "error", "the secondary's words", () => state(2, 0), [...placed, "control_id", "0", "2"]);
	breaks("L017", "error", "padding", () => state(0, 9), [...placed, "padding", "0", "0x9"]);
}

// libxc's headers
{
	const at = (field: number) => ["libxc header", field] as const;
	breaks("C001", "error", "a zero bit in the marker", () => hvm.set("libxc header", 7, Buffer.of(0xfe)), [
		at(0),
		"libxc header",
		"marker",
		"64 one bits and XENF (a legacy image has none)",
		"fffffffffffffffe58454e46",
	]);
	breaks("C001", "error", "another id", () => hvm.set("libxc header", 8, Buffer.from("XENG")), [
		at(0),
		"libxc header",
		"marker",
		"64 one bits and XENF (a legacy image has none)",
		"ffffffffffffffff58454e47",
	]);
	breaks("C002", "error", "version 4", () => hvm.set("libxc header", 12, u32be(4)), [
		at(12),
		"libxc header",
		"version",
		"2 or 3",
		"4",
	]);
	breaks("C003", "error", "option bit 1", () => hvm.set("libxc header", 17, Buffer.of(2)), [
		at(16),
		"libxc header",
		"options",
		"bit 0 alone",
		"0x2",
	]);
	breaks("C003", "error", "reserved octets", () => hvm.set("libxc header", 23, Buffer.of(1)), [
		at(18),
		"libxc header",
		"reserved",
		"zeros",
		"000000000001",
	]);
	breaks("C003", "error", "the domain header's", () => hvm.set("libxc header", 30, u16(0x100)), [
		at(30),
		"libxc header",
		"reserved",
		"0",
		"0x100",
	]);
	breaks("C004", "error", "type 3", () => hvm.set("libxc header", 24, u32(3)), [
		at(24),
		"libxc header",
		"type",
		"1 (x86 PV) or 2 (x86 HVM)",
		"3",
	]);
	breaks("C004", "error", "pages of 8 KiB", () => hvm.set("libxc header", 28, u16(13)), [
		at(28),
		"libxc header",
		"page_shift",
		"12",
		"13",
	]);
	breaks("C005", "warning", "as a converter writes it", () => hvm.set("libxc header", 32, u32(0)), [
		at(32),
		"libxc header",
		"xen_major",
		"a version of Xen",
		"0",
	]);
	breaks("C006", "strict", "big-endian", () => big.libxc, [at(16), "libxc header", "options", "bit 0 clear", "0x1"]);
}

// libxc's bodies
{
	/** A body in the place of a record's of the PV image, or in the HVM one. */
	const form = (
		code: string,
		title: string,
		base: () => Draft,
		name: string,
		body: Uint8Array,
		field: string,
		expected: string,
		got: string,
		nth = "",
	) =>
		breaks(code, "error", `${name} ${title}`, () => base().withBody(`libxc ${name}${nth}`, body), [
			`libxc ${name}${nth}`,
			`libxc ${name}`,
			field,
			expected,
			got,
		]);
	const ofPv = (name: string, title: string, body: Uint8Array, field: string, expected: string, got: string) =>
		form("C010", title, () => pv, name, body, field, expected, got);
	const ofHvm = (name: string, title: string, body: Uint8Array, field: string, expected: string, got: string) =>
		form("C010", title, () => hvm, name, body, field, expected, got);

	ofPv("END", "with a body", zeros(8), "body_length", "0", "8");
	ofPv("STATIC_DATA_END", "with a body", zeros(1), "body_length", "0", "1");
	form(
		"C010",
		"with a body",
		() => pv.after("libxc PAGE_DATA", make.verify()),
		"VERIFY",
		zeros(8),
		"body_length",
		"0",
		"8",
	);
	form("C010", "with a body", () => again(), "CHECKPOINT", zeros(16), "body_length", "0", "16");
	ofPv("X86_PV_INFO", "of 9 octets", zeros(9), "body_length", "8", "9");
	ofPv(
		"X86_PV_INFO",
		"of width 8 and 3 levels",
		Buffer.of(8, 3, 0, 0, 0, 0, 0, 0),
		"guest_width, pt_levels",
		"8 and 4, or 4 and 3",
		"8 and 3",
	);
	ofPv("X86_PV_P2M_FRAMES", "of 9 octets", zeros(9), "body_length", "a multiple of 8, at least 8", "9");
	ofPv("X86_PV_P2M_FRAMES", "of none", zeros(0), "body_length", "a multiple of 8, at least 8", "0");
	ofPv("X86_PV_P2M_FRAMES", "backwards", p2m(lastPfn + 1, lastPfn), "p2m_end_pfn", "at least 0x2800", "0x27ff");
	ofPv("X86_PV_P2M_FRAMES", "that lacks a frame", p2m(0, lastPfn, ...frames.slice(1)), "body_length", "168", "160");
	ofPv(
		"X86_PV_P2M_FRAMES",
		"with a frame twice",
		p2m(0, lastPfn, ...frames.with(7, 3)),
		"p2m_pfn[7]",
		"a PFN of its own, at most 0x27ff",
		"0x3",
	);
	ofPv(
		"X86_PV_P2M_FRAMES",
		"with one beyond",
		p2m(0, lastPfn, ...frames.with(7, lastPfn + 1)),
		"p2m_pfn[7]",
		"a PFN of its own, at most 0x27ff",
		"0x2800",
	);
	ofPv("SHARED_INFO", "that lacks an octet", zeros(4095), "body_length", "4096", "4095");
	ofPv("X86_TSC_INFO", "of 16 octets", zeros(16), "body_length", "24", "16");
	ofPv("X86_TSC_INFO", "in mode 4", tsc(4), "mode", "0 to 3", "4");
	ofPv("X86_PV_VCPU_BASIC", "of 4 octets", zeros(4), "body_length", "more than 8", "4");
	ofPv("X86_PV_VCPU_BASIC", "without content", zeros(8), "body_length", "more than 8", "8");
	ofPv("X86_PV_VCPU_BASIC", "of a 32-bit guest", vcpu(0, zeros(2800)), "context", "5168 octets", "2800");
	ofPv("X86_PV_VCPU_EXTENDED", "of 0 octets", zeros(0), "body_length", "more than 8", "0");
	ofPv("X86_PV_VCPU_XSAVE", "of vCPU 8192", vcpu(8192, zeros(32)), "vcpu_id", "below 8192", "8192");
	ofPv("X86_PV_VCPU_XSAVE", "without xcr0_accum", vcpu(0, zeros(8)), "context", "at least 16 octets", "8");
	form(
		"C010",
		"of one and a half",
		() => pv.before("libxc END", make.vcpuMsrs()),
		"X86_PV_VCPU_MSRS",
		vcpu(0, zeros(24)),
		"context",
		"a multiple of 16 octets",
		"24",
	);
	ofHvm("HVM_PARAMS", "of 0 octets", zeros(0), "body_length", "at least 8", "0");
	ofHvm(
		"HVM_PARAMS",
		"with a count of 2 and one of them",
		Buffer.concat([u32(2, 0), u64(1, 1)]),
		"body_length",
		"40",
		"24",
	);
	ofHvm("X86_CPUID_POLICY", "of one and an octet", zeros(25), "body_length", "a multiple of 24, not 0", "25");
	ofHvm("X86_MSR_POLICY", "of none", zeros(0), "body_length", "a multiple of 16, not 0", "0");

	form("C011", "reserved", () => pv, "X86_PV_INFO", Buffer.of(8, 4, 0, 0, 0, 0, 0, 1), "reserved", "0", "000000000001");
	form("C011", "reserved", () => pv, "X86_TSC_INFO", tsc(0, 2), "reserved", "0", "0x2");
	form("C011", "reserved", () => pv, "X86_PV_VCPU_EXTENDED", vcpu(0, zeros(128), 3), "reserved", "0", "0x3");
	form(
		"C011",
		"reserved",
		() => hvm,
		"HVM_PARAMS",
		u32(0, 1, 0, 0, 0, 0).fill(0, 8).subarray(0, 24).fill(1, 0, 1),
		"reserved",
		"0",
		"0x1",
	);
	breaks("C011", "error", "PAGE_DATA reserved", () => hvm.set("libxc PAGE_DATA", 12, u32(5)), [
		"libxc PAGE_DATA",
		"libxc PAGE_DATA",
		"reserved",
		"0",
		"0x5",
	]);

	for (const [name, body] of [["HVM_PARAMS", zeros(8)]] as const) {
		breaks("C019", "strict", `${name} without content`, () => hvm.withBody(`libxc ${name}`, body), [
			`libxc ${name}`,
			`libxc ${name}`,
			"body_length",
			"content",
			"none",
		]);
	}
	for (const name of ["X86_PV_VCPU_EXTENDED", "X86_PV_VCPU_XSAVE"]) {
		breaks("C019", "strict", `${name} without content`, () => pv.withBody(`libxc ${name} 1`, vcpu(1, zeros(0))), [
			`libxc ${name} 1`,
			`libxc ${name}`,
			"body_length",
			"content",
			"none",
		]);
	}
	breaks(
		"C019",
		"strict",
		"X86_PV_VCPU_MSRS without content, version 2",
		() => pv.version2().before("libxc END", make.vcpuMsrs(vcpu(1, zeros(0)))),
		["libxc X86_PV_VCPU_MSRS", "libxc X86_PV_VCPU_MSRS", "body_length", "content", "none"],
	);

	const context = (title: string, field: string, expected: string, got: string, ...entries: Uint8Array[]) =>
		breaks("C040", "error", title, () => hvm.withBody("libxc HVM_CONTEXT", Buffer.concat(entries)), [
			"libxc HVM_CONTEXT",
			"libxc HVM_CONTEXT",
			field,
			expected,
			got,
		]);
	context("no octets", "entry 0", "8 octets of a descriptor, or END", "0 left");
	context("HEADER is not the first", "entry 0", "HEADER (type 1)", "type 19", entry(19, 8), entry(1, 24), entry(0, 0));
	context("no END", "entry 1", "8 octets of a descriptor, or END", "0 left", entry(1, 24));
	context("half a descriptor", "entry 1", "8 octets of a descriptor, or END", "4 left", entry(1, 24), zeros(4));
	context("an entry beyond the body", "entry 1", "at most 8 octets", "9", entry(1, 24), entry(2, 9).subarray(0, 16));
	context("END with content", "entry 1", "an END without content", "8 octets", entry(1, 24), entry(0, 8));
	context("octets behind END", "entry 1", "END last", "3 octets more", entry(1, 24), entry(0, 0), zeros(3));

	const strange = (title: string, field: string, expected: string, got: string, ...entries: Uint8Array[]) =>
		breaks("C041", "warning", title, () => hvm.withBody("libxc HVM_CONTEXT", Buffer.concat(entries)), [
			"libxc HVM_CONTEXT",
			"libxc HVM_CONTEXT",
			field,
			expected,
			got,
		]);
	strange(
		"a type that no Xen has",
		"entry 1",
		"a known type",
		"type 77, 16 octets",
		entry(1, 24),
		entry(77, 16),
		entry(0, 0),
	);
	strange("a LAPIC of 40 octets", "entry 1 (LAPIC)", "24, 32 octets", "40", entry(1, 24), entry(5, 40), entry(0, 0));
}

// libxc's order
{
	const at = (record: string) => [record, record.split(" ").slice(0, 2).join(" ")] as const;
	const foreign = (base: () => Draft, type: string, piece: () => Piece, before = "libxc END") =>
		breaks("C012", "error", `${piece().name} of another guest`, () => base().before(before, piece()), [
			`libxc ${piece().name}`,
			`libxc ${piece().name}`,
			"type",
			`no such record of an x86 ${type} guest`,
			piece().name,
		]);
	foreign(
		() => hvm,
		"hvm",
		() => make.pvInfo(Buffer.of(8, 4, 0, 0, 0, 0, 0, 0)),
		"libxc STATIC_DATA_END",
	);
	foreign(
		() => hvm,
		"hvm",
		() => make.p2mFrames(p2m(0, 0xffffff, ...Array.from({ length: 0x8000 }, (_, i) => i))),
		"libxc X86_TSC_INFO",
	);
	foreign(
		() => hvm,
		"hvm",
		() => make.sharedInfo(zeros(4096)),
	);
	foreign(
		() => hvm,
		"hvm",
		() => make.vcpuBasic(vcpu(0, zeros(5168))),
	);
	foreign(
		() => hvm,
		"hvm",
		() => make.vcpuExtended(vcpu(0, zeros(128))),
	);
	foreign(
		() => hvm,
		"hvm",
		() => make.vcpuXsave(vcpu(0, zeros(576))),
	);
	foreign(
		() => hvm,
		"hvm",
		() => make.vcpuMsrs(vcpu(0, zeros(16))),
	);
	foreign(
		() => pv,
		"pv",
		() => make.hvmContext(Buffer.concat([entry(1, 24), entry(0, 0)])),
	);
	foreign(
		() => pv,
		"pv",
		() => make.hvmParams(params([1, 1])),
	);

	breaks("C013", "error", "none in version 3", () => hvm.without("libxc STATIC_DATA_END"), [
		...at("libxc PAGE_DATA"),
		"type",
		"STATIC_DATA_END before it",
		"PAGE_DATA",
	]);
	breaks("C013", "error", "behind P2M_FRAMES", () => pv.move("libxc STATIC_DATA_END", "libxc PAGE_DATA"), [
		...at("libxc X86_PV_P2M_FRAMES"),
		"type",
		"STATIC_DATA_END before it",
		"X86_PV_P2M_FRAMES",
	]);
	breaks("C013", "error", "a policy behind it", () => hvm.move("libxc X86_MSR_POLICY", "libxc PAGE_DATA"), [
		...at("libxc X86_MSR_POLICY"),
		"type",
		"policies before STATIC_DATA_END",
		"X86_MSR_POLICY",
	]);
	breaks("C013", "error", "one in version 2", () => hvm.version2().before("libxc PAGE_DATA", make.staticDataEnd()), [
		...at("libxc STATIC_DATA_END"),
		"type",
		"no such record in version 2",
		"STATIC_DATA_END",
	]);
	breaks(
		"C014",
		"error",
		"X86_PV_INFO behind P2M_FRAMES",
		() => pv.version2().move("libxc X86_PV_INFO", "libxc PAGE_DATA"),
		[...at("libxc X86_PV_P2M_FRAMES"), "type", "X86_PV_INFO before it", "X86_PV_P2M_FRAMES"],
	);
	breaks(
		"C014",
		"error",
		"P2M_FRAMES behind PAGE_DATA",
		() => pv.move("libxc X86_PV_P2M_FRAMES", "libxc PAGE_DATA 1"),
		[...at("libxc PAGE_DATA"), "type", "X86_PV_P2M_FRAMES before it", "PAGE_DATA"],
	);
	breaks("C014", "error", "VERIFY before memory", () => hvm.before("libxc PAGE_DATA", make.verify()), [
		...at("libxc VERIFY"),
		"type",
		"PAGE_DATA before it",
		"VERIFY",
	]);
	breaks("C015", "strict", "as Xen writes them", () => hvm.move("libxc HVM_PARAMS", "libxc END"), [
		...at("libxc HVM_PARAMS"),
		"type",
		"HVM_PARAMS before HVM_CONTEXT",
		"HVM_CONTEXT first",
	]);
	breaks("C016", "error", "TSC_INFO twice", () => hvm.before("libxc END", make.tscInfo(tsc(0))), [
		...at("libxc X86_TSC_INFO 1"),
		"type",
		"one X86_TSC_INFO",
		"a second one",
	]);
	breaks("C016", "error", "a vCPU twice", () => pv.set("libxc X86_PV_VCPU_BASIC 1", 8, u32(0)), [
		...at("libxc X86_PV_VCPU_BASIC 1"),
		"type",
		"one X86_PV_VCPU_BASIC of vCPU 0",
		"a second one",
	]);
	breaks(
		"C016",
		"error",
		"a parameter twice in a record",
		() => hvm.withBody("libxc HVM_PARAMS", params([1, 1], [5, 2], [1, 1])),
		[...at("libxc HVM_PARAMS"), "param[2].index", "one HVM parameter STORE_PFN", "a second one"],
	);
	breaks(
		"C016",
		"error",
		"a parameter in two records",
		() =>
			hvm
				.withBody("libxc HVM_PARAMS", params([200, 1]))
				.after("libxc HVM_PARAMS", make.hvmParams(params([5, 1], [200, 2]))),
		[...at("libxc HVM_PARAMS 1"), "param[1].index", "one HVM parameter 200", "a second one"],
	);
	breaks(
		"C016",
		"error",
		"static data twice",
		() => hvm.after("libxc X86_MSR_POLICY", hvm.piece("libxc X86_MSR_POLICY")),
		[...at("libxc X86_MSR_POLICY 1"), "type", "one X86_MSR_POLICY", "a second one"],
	);
	breaks("C016", "error", "static data again with a checkpoint", () => again(make.staticDataEnd()), [
		...at("libxc STATIC_DATA_END 1"),
		"type",
		"one STATIC_DATA_END",
		"a second one",
	]);
	for (const [base, name] of [
		[() => hvm, "PAGE_DATA"],
		[() => hvm, "HVM_CONTEXT"],
		[() => pv, "PAGE_DATA"],
		[() => pv, "SHARED_INFO"],
		[() => pv, "X86_PV_VCPU_BASIC"],
	] as const) {
		breaks("C017", "error", `no ${name}`, () => new Draft(base().pieces.filter((piece) => piece.name !== name)), [
			...at("libxc END"),
			undefined,
			`a ${name} before it`,
			"none",
		]);
	}
	breaks(
		"C017",
		"error",
		"not there at the first checkpoint",
		() => hvm.only("libxc").before("libxc HVM_CONTEXT", make.checkpoint()),
		[...at("libxc CHECKPOINT"), undefined, "a HVM_CONTEXT before it", "none"],
	);
	breaks("C018", "error", "in an image", () => hvm.before("libxc END", make.dirtyPfns(u64(1, 2))), [
		...at("libxc CHECKPOINT_DIRTY_PFN_LIST"),
		"type",
		"no record of the back channel",
		"CHECKPOINT_DIRTY_PFN_LIST",
	]);
	breaks("C020", "error", "one", () => hvm.before("libxc END", make.toolstack(zeros(8))), [
		...at("libxc TOOLSTACK"),
		"type",
		"no TOOLSTACK",
		"TOOLSTACK",
	]);
	breaks("C021", "strict", "in front of memory", () => pv.move("libxc X86_PV_VCPU_BASIC", "libxc PAGE_DATA"), [
		...at("libxc PAGE_DATA"),
		"type",
		"PAGE_DATA before the vCPUs",
		"a vCPU's record first",
	]);
	breaks(
		"C021",
		"strict",
		"in front of the frames",
		() => pv.move("libxc X86_PV_VCPU_XSAVE", "libxc X86_PV_P2M_FRAMES").set("libxc X86_PV_VCPU_XSAVE", 8, u32(0)),
		[...at("libxc X86_PV_P2M_FRAMES"), "type", "X86_PV_P2M_FRAMES before the vCPUs", "a vCPU's record first"],
		[...at("libxc PAGE_DATA"), "type", "PAGE_DATA before the vCPUs", "a vCPU's record first"],
	);
	breaks("C022", "strict", "nothing behind it", () => hvm.before("libxc X86_TSC_INFO", make.verify()), [
		...at("libxc VERIFY"),
		undefined,
		"PAGE_DATA behind it",
		"END",
	]);
	breaks("C023", "strict", "behind STATIC_DATA_END", () => pv.move("libxc X86_PV_INFO", "libxc X86_PV_P2M_FRAMES"), [
		...at("libxc X86_PV_INFO"),
		"type",
		"X86_PV_INFO before STATIC_DATA_END",
		"STATIC_DATA_END first",
	]);
	breaks("C024", "error", "memory alone, HVM", () => again(pagesOfType(0)), [
		...at("libxc END"),
		undefined,
		"a HVM_CONTEXT with the memory",
		"none",
	]);
	breaks(
		"C024",
		"error",
		"memory and vCPUs alone, PV",
		() => pv.only("libxc").before("libxc END", make.checkpoint(), pagesOfType(0), pv.piece("libxc X86_PV_VCPU_BASIC")),
		[...at("libxc END"), undefined, "a SHARED_INFO with the memory", "none"],
	);
}

// libxc's pages
{
	const memory = "libxc PAGE_DATA";
	const at = [memory, memory] as const;
	breaks("C030", "error", "type 5", () => hvm.replace(memory, pagesOfType(0, 5)), [
		...at,
		"pfn[1]",
		"a known type, bits 52-59 zero",
		"0x5000000000000001",
	]);
	breaks("C030", "error", "bit 52", () => hvm.set(memory, 22, Buffer.of(0x10)), [
		...at,
		"pfn[0]",
		"a known type, bits 52-59 zero",
		/^0x10000000[0-9a-f]{6}$/,
	]);
	breaks(
		"C030",
		"error",
		"beyond the P2M",
		() => pv.replace(memory, pageData([{ pfn: lastPfn }, { pfn: lastPfn + 1 }])),
		[...at, "pfn[1]", "a known type, bits 52-59 zero, at most 0x27ff", "0x2800"],
	);
	breaks("C031", "error", "half a head", () => hvm.withBody(memory, zeros(4)).cut("libxc PAGE_DATA 1"), [
		...at,
		"body_length",
		"at least 8",
		"4",
	]);
	breaks("C031", "error", "no page", () => hvm.withBody(memory, zeros(8)), [...at, "count", "1 to 0", "0"]);
	breaks("C031", "error", "more PFNs than the body holds", () => hvm.set(memory, 8, u32(0xffff_ffff)), [
		...at,
		"count",
		/^1 to \d+$/ as never,
		"4294967295",
	]);
	breaks(
		"C031",
		"error",
		"a page too few",
		() => hvm.withBody(memory, pageData([{ pfn: 1 }, { pfn: 2 }]).octets.subarray(8, 8 + 24 + 4096)),
		[...at, "body_length", "8216", "4120"],
	);
	breaks(
		"C031",
		"error",
		"a page for a PFN without contents",
		() => hvm.withBody(memory, Buffer.concat([u32(1, 0), u64(0xf000_0000_0000_0001n), zeros(4096)])),
		[...at, "body_length", "16", "4112"],
	);
	breaks("C032", "warning", "L1 in an HVM guest", () => hvm.replace(memory, pagesOfType(0, 1, 9, 15)), [
		...at,
		undefined,
		"no page-table types in an HVM guest",
		"2 of them",
	]);
}

/** An HVM image of two checkpoints, libxl around it. */
function remus(): Draft {
	const device = hvm.piece("libxl EMULATOR_CONTEXT");
	return hvm.replace(
		"libxc END",
		make.checkpoint(),
		device,
		make.checkpointEnd(),
		hvm.piece("libxc PAGE_DATA"),
		hvm.piece("libxc HVM_CONTEXT"),
		make.libxcEnd(),
	);
}

async function findingsOf(octets: Uint8Array, strict: boolean) {
	const findings = new Findings({ strict });
	let thrown: unknown;
	try {
		await itemsOf(octets, { pages: "summary", findings });
	} catch (error) {
		thrown = error;
	}
	return { findings: findings.list, thrown };
}

describe("the rules of images", () => {
	test.each(["pv", "hvm"] as const)("what they are broken in breaks none: %s", async (name) => {
		const draft = name === "pv" ? pv : hvm;
		for (const whole of [
			draft,
			draft.only("libxl", "libxc"),
			draft.only("libxc"),
			draft.version2(),
			...(name === "hvm" ? [remus()] : []),
		]) {
			expect(await findingsOf(whole.octets, true)).toEqual({ findings: [], thrown: undefined });
		}
	});

	test.each(cases)("$title", async ({ code, as, make: build, said }) => {
		const draft = build();
		for (const strict of [false, true]) {
			const { findings, thrown } = await findingsOf(draft.octets, strict);
			expect(
				findings.map(({ rule, layer, record, offset, field, expected, got }) => [
					rule.code,
					offset,
					`${layer} ${record}`,
					field,
					expected,
					got,
				]),
			).toEqual(
				said.map(([at, record, field, expected, got]) => {
					const [piece, delta] = typeof at === "object" ? at : [at, 0];
					const offset =
						typeof piece === "number" ? piece : piece === "the end" ? draft.octets.length : draft.offset(piece) + delta;
					const text = (value: string | RegExp) => (typeof value === "string" ? value : expect.stringMatching(value));
					return [code, offset, record, field, text(expected), text(got)];
				}),
			);
			for (const { isError } of findings) expect(isError).toBe(as === "error" || (as === "strict" && strict));
			if (thrown === undefined) continue;
			expect(thrown).toBeInstanceOf(XluError);
			const [{ offset, expected, got } = {}] = findings;
			expect(thrown).toMatchObject({ rule: code, offset, expected, got });
		}
	});

	test("every rule has a case, the weight of its severity, an own code and something to do about it", () => {
		const codes = imageFormat.rules.map(({ code }) => code);
		expect(new Set(codes).size).toBe(codes.length);
		expect([...new Set(cases.map(({ code }) => code))].sort()).toEqual([...codes].sort());
		for (const { code, severity, doc, from, advice } of imageFormat.rules) {
			const weight = severity === "strict" || severity === "warning" ? severity : "error";
			expect([...new Set(cases.filter((entry) => entry.code === code).map(({ as }) => as))], code).toEqual([weight]);
			expect([doc, from, advice].every((text) => text.length > 5)).toBe(true);
		}
	});
});
