/**
 * Live-update streams as JSON and back, and in the other byte order: octet for octet whatever a stream holds, and after an
 * edit with lengths, checksums and index made anew, so that the core takes it.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { XluError } from "../../../src/errors.ts";
import { recordByName, records } from "../../../src/format/schema.ts";
import { StreamReader } from "../../../src/formats/common/reader.ts";
import { MemorySink } from "../../../src/formats/common/sink.ts";
import { convertStream, type Form } from "../../../src/inspect/convert.ts";
import { differences, liveUpdateFacts } from "../../../src/inspect/diff.ts";
import { openReader } from "../../../src/inspect/open.ts";
import { load } from "../../../src/library.ts";
import { Random } from "../../../src/random.ts";
import { coreModule, hashOf, newCore, root } from "../../support/core.ts";
import { fixtures, savedStream } from "../../support/hosts.ts";
import { parse, StreamRecord } from "../../support/restitch.ts";
import { applyEdits, type Edit } from "../../vectors/patch.ts";

const folder = join(root, "test/vectors");

function read(path: string): Uint8Array {
	const file = readFileSync(path);
	return new Uint8Array(path.endsWith(".gz") ? gunzipSync(file) : file);
}

const golden = join(root, "test/golden");
const { valid } = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8")) as {
	valid: { stream: { base: string; edits: Edit[] } }[];
};
const files = [
	...readdirSync(golden).flatMap((version) =>
		readdirSync(join(golden, version)).map((name) => join(golden, version, name)),
	),
	...valid.filter(({ stream }) => stream.edits.length === 0).map(({ stream }) => join(folder, stream.base)),
].filter((at, i, all) => /\.xlu(\.gz)?$/.test(at) && all.indexOf(at) === i);
const tiny = read(join(root, "test/golden/v1/tiny.xlu"));
const tinyMemory = read(join(root, "test/golden/v1/tiny.xlu.mem"));

async function convert(octets: Uint8Array, form?: Form): Promise<Uint8Array> {
	const sink = new MemorySink();
	await convertStream(await openReader(StreamReader.over(octets, "in"), { core }), sink, form, { core });
	return sink.octets();
}

const core = newCore();
const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;

interface Item {
	kind: string;
	name: string;
	type: number;
	endianness?: string;
	octets?: string;
	// biome-ignore lint/suspicious/noExplicitAny: a document is edited freely
	fields: Record<string, any>;
}

async function documentOf(stream: Uint8Array): Promise<{ format: string; items: Item[] }> {
	return JSON.parse(Buffer.from(await convert(stream, "json")).toString());
}

const streamOf = (document: object) => convert(Buffer.from(JSON.stringify(document)));

/** Both round trips; returns how many items needed their octets. */
async function holds(stream: Uint8Array): Promise<number> {
	const json = await convert(stream, "json");
	expect(same(await convert(json), stream)).toBe(true);
	return JSON.parse(Buffer.from(json).toString()).items.filter(({ octets }: Item) => octets !== undefined).length;
}

describe("octet for octet", () => {
	test.each(files)("%s", async (path) => {
		const stream = read(path);
		// A chunk of one vector is not of the form that this project's writer takes.
		expect(await holds(stream)).toBe(path.includes("chunk-forms") ? 1 : 0);
	});

	test.each(["pv", "pvh", "hvm"])("the captured %s guest's host", async (name) => {
		expect(await holds(savedStream(join(fixtures, name)))).toBe(0);
	});

	test("every damaged vector, as far as its framing reaches to END", async () => {
		const { damaged } = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
		const framing = /XLU-R00[1-9]|XLU-R01\d/;
		const seen = { same: 0, withOctets: 0, refused: 0 };
		for (const { name, stream, expected } of damaged as {
			name: string;
			stream: { base: string; edits: Edit[] };
			expected: { rule: string };
		}[]) {
			const octets = applyEdits(read(join(folder, stream.base)), stream.edits);
			try {
				if ((await holds(octets)) > 0) seen.withOctets++;
				seen.same++;
			} catch (error) {
				if (!(error instanceof XluError)) throw new Error(name, { cause: error });
				expect([name, error.exitStatus > 0]).toEqual([name, true]);
				expect(expected.rule).toMatch(framing);
				seen.refused++;
			}
		}
		expect(seen.same).toBeGreaterThan(300);
		expect(seen.withOctets).toBeGreaterThan(30);
		expect(seen.refused).toBeLessThan(30);
	});

	test("optional records that nobody knows, wherever they stand", async () => {
		const stream = parse(tiny);
		stream.section("0", 1).records.push(new StreamRecord(0x8000_0123, Uint8Array.of(1, 2, 3)));
		const built = stream.build();
		expect(await holds(built)).toBe(0);
		const { items } = await documentOf(built);
		expect(items.find(({ type }) => type === 0x8000_0123)).toMatchObject({ fields: { body: "010203" } });
	});

	test("zeros behind END, and octets that ought to be zero", async () => {
		const padded = new Uint8Array(Math.ceil(tiny.length / 4096) * 4096);
		padded.set(tiny);
		expect(await holds(padded)).toBe(0);
		const stream = parse(tiny);
		stream.record("LU_VERSION").padding = Uint8Array.of(1);
		expect(await holds(stream.build())).toBe(1);
	});
});

describe("what a document says", () => {
	test("every record's fields by the schema's names; what follows from the rest is not there", async () => {
		const names = new Set<string>();
		for (const path of files) {
			for (const { kind, name, fields } of (await documentOf(read(path))).items) {
				if (kind !== "record") continue;
				names.add(name);
				const { head, parts } = recordByName(name);
				if (parts.length > 0 && parts.every(({ row }) => row.size === 1) && !name.startsWith("LU_")) continue;
				const known = [...(head?.fields.map((field) => field.name) ?? []), ...parts.map(({ table }) => table)];
				expect(Object.keys(fields).filter((field) => !known.includes(field))).toEqual([]);
				expect(Object.keys(fields)).not.toContain("rowCount");
			}
		}
		expect(records.filter(({ name }) => !names.has(name)).map(({ name }) => name)).toEqual([]);
	});

	test("enumerations, flags, UUIDs, tables by slot, bulk tables as runs", async () => {
		const { items } = await documentOf(tiny);
		const domain = items.find(({ name }) => name === "LU_DOMAIN")?.fields;
		expect(domain).toMatchObject({ kind: "pv", life: "alive", handle: expect.stringMatching(/^[\da-f]{8}-/) });
		const frames = items.find(({ name }) => name === "LU_FRAMES")?.fields;
		expect(frames?.FrameOwners[0]).toMatchObject({ mfn: expect.stringMatching(/^0x/), count: expect.any(Number) });
		const ports = items.find(({ name }) => name === "LU_EVTCHN_PORTS")?.fields;
		expect(ports?.Ports[0]).toMatchObject({ slot: expect.any(Number), state: expect.any(String) });
	});
});

describe("an edit comes back as a stream that holds", () => {
	const verdict = async (stream: Uint8Array, memory?: Uint8Array) =>
		(await load({ module: coreModule })).check(stream, memory);

	/** The memory belongs to a stream by its checksum. */
	function memoryFor(stream: Uint8Array): Uint8Array {
		const memory = tinyMemory.slice();
		new DataView(memory.buffer).setBigUint64(8, hashOf(stream), true);
		return memory;
	}

	test("a value", async () => {
		const document = await documentOf(tiny);
		const host = document.items.find(({ name }) => name === "LU_HOST") as Item;
		host.fields.wallclockSec += 1;
		const edited = await streamOf(document);
		expect(edited.length).toBe(tiny.length);
		expect(await verdict(edited, memoryFor(edited))).toMatchObject({ ok: true, findings: [] });
		expect([...differences(liveUpdateFacts(tiny), liveUpdateFacts(edited))]).toEqual([
			{
				where: "xlu LU_HOST section H",
				field: "wallclockSec",
				a: host.fields.wallclockSec - 1,
				b: host.fields.wallclockSec,
			},
		]);
	});

	test("text of another length, a row more, a record that goes", async () => {
		const document = await documentOf(tiny);
		const item = (name: string) => document.items.find((one) => one.name === name) as Item;
		item("LU_VERSION").fields.VersionText = "edited by hand, and longer than it was before";
		item("LU_CAPS").fields.CapRanges.push({ kind: "interrupt", first: "0xfff0", last: "0xfff1" });
		document.items.splice(document.items.indexOf(item("LU_IRQS")), 1);
		const edited = await streamOf(document);
		expect(await verdict(edited, memoryFor(edited))).toMatchObject({ ok: true, findings: [] });
		expect(Buffer.from(edited).includes("edited by hand")).toBe(true);
	});

	test("a run of a bulk table that is cut in two, and joined again", async () => {
		const document = await documentOf(tiny);
		const frames = document.items.find(({ name }) => name === "LU_FRAMES")?.fields.FrameOwners;
		const at = frames.findIndex(({ count }: { count: number }) => count > 2);
		const run = frames[at];
		frames.splice(
			at,
			1,
			{ ...run, count: 1 },
			{ ...run, mfn: `0x${(Number(run.mfn) + 1).toString(16)}`, count: run.count - 1 },
		);
		expect(same(await streamOf(document), tiny)).toBe(true);
	});

	test("a chunk in another form comes back in its writer's, once its octets are gone", async () => {
		const stream = read(join(folder, "streams/chunk-forms.xlu.gz"));
		const document = await documentOf(stream);
		for (const item of document.items) delete item.octets;
		const edited = await streamOf(document);
		expect(edited.length).toBeLessThanOrEqual(stream.length);
		expect([...differences(liveUpdateFacts(stream), liveUpdateFacts(edited))]).toEqual([]);
	});
});

describe("byte orders", () => {
	test.each(files)("%s: there and back", async (path) => {
		const stream = read(path);
		const own = stream[17] === 1 ? "big" : "little";
		const big = await convert(stream, "big");
		expect(big.length).toBe(stream.length);
		expect(big[17]).toBe(1);
		expect(same(await convert(big, own), stream)).toBe(true);
		expect(same(await convert(big, "big"), big)).toBe(true);
		expect(same(await convert(await convert(big, "json")), big)).toBe(true);
		expect([...differences(liveUpdateFacts(stream), liveUpdateFacts(big))]).toEqual([]);
	});

	test("numbers are turned round, checksums are of the octets as they stand, octets of contexts stay", async () => {
		const big = Buffer.from(await convert(tiny, "big"));
		let at = 24;
		let sections = 0;
		while (big.readUInt32BE(at) !== 0) {
			const [type, length] = [big.readUInt32BE(at), big.readUInt32BE(at + 4)];
			const next = at + 8 + Math.ceil(length / 8) * 8;
			if (type === 0x4000003e) {
				const bytes = Number(big.readBigUInt64BE(at + 16));
				expect(big.readBigUInt64BE(at + 24)).toBe(hashOf(big.subarray(next, next + bytes)));
				sections++;
			}
			if (type === 0x4000003f) {
				expect(big.readUInt32BE(at + 16)).toBe(sections);
				expect(big.readBigUInt64BE(at + 8)).toBe(hashOf(big.subarray(at + 24, next)));
			}
			at = next;
		}
		expect(sections).toBeGreaterThan(4);
		const fpu = parse(tiny).record("LU_PV_VCPU");
		expect(big.includes(fpu.body.subarray(fpu.partOffset("PvFpu"), fpu.partOffset("PvFpu") + 512))).toBe(true);
	});

	test("a damaged section does not come out sound", async () => {
		const damaged = tiny.slice();
		damaged[24 + 48 + 20] = (damaged[24 + 48 + 20] ?? 0) ^ 1;
		await expect(convert(damaged, "big")).rejects.toMatchObject({ code: "XLU_E_DAMAGED", record: "LU_SECTION" });
		expect(await holds(damaged)).toBeGreaterThan(0);
	});
});

describe("damaged documents end in coded errors with the path", () => {
	const cases: [what: string, edit: (items: Item[]) => void, field: RegExp, got?: string][] = [];
	const item = (items: Item[], name: string) => items.find((one) => one.name === name) as Item;
	const wrong = (what: string, edit: (items: Item[]) => void, field: RegExp) => cases.push([what, edit, field]);
	wrong(
		"a name that is none",
		(items) => void Object.assign(item(items, "LU_HOST").fields, { cpuKHz: 1 }),
		/^items\[\d+\]\.fields\.cpuKHz$/,
	);
	wrong(
		"a number that does not fit",
		(items) => void Object.assign(item(items, "LU_HOST").fields, { cpuKhz: 2 ** 32 }),
		/\.cpuKhz$/,
	);
	wrong("an enumeration", (items) => void Object.assign(item(items, "LU_DOMAIN").fields, { kind: "vm" }), /\.kind$/);
	wrong(
		"a flag",
		(items) => void Object.assign(item(items, "LU_HOST").fields, { features: ["hap", "x"] }),
		/\.features\[1\]$/,
	);
	wrong("a UUID", (items) => void Object.assign(item(items, "LU_DOMAIN").fields, { handle: "1" }), /\.handle$/);
	wrong(
		"a row's field",
		(items) => void Object.assign(item(items, "LU_REGIONS").fields.RegionList[0], { firstMfn: -1 }),
		/RegionList\[0\]\.firstMfn$/,
	);
	wrong("a part that is missing", (items) => void delete item(items, "LU_REGIONS").fields.RegionList, /\.RegionList$/);
	wrong(
		"slots that descend",
		(items) => void item(items, "LU_EVTCHN_PORTS").fields.Ports.reverse(),
		/Ports\[1\]\.slot$/,
	);
	wrong(
		"runs that overlap",
		(items) => {
			const runs = item(items, "LU_FRAMES").fields.FrameOwners;
			runs.splice(1, 0, runs[0]);
		},
		/FrameOwners\[1\]\.mfn$/,
	);
	wrong(
		"a run beyond the slice",
		(items) => void Object.assign(item(items, "LU_FRAMES").fields.FrameOwners.at(-1), { count: 2 ** 31 }),
		/\.count$/,
	);
	wrong("rows of a fixed number", (items) => void item(items, "LU_PV_VCPU").fields.PvTraps.pop(), /\.PvTraps$/);
	wrong(
		"counts that differ",
		(items) => void item(items, "LU_VCPU").fields.SoftAffinity.push({ value: "0x1" }),
		/\.SoftAffinity$/,
	);
	wrong("a section's pass", (items) => void Object.assign(item(items, "LU_SECTION").fields, { pass: "9h" }), /\.pass$/);
	wrong(
		"a checksum that is given",
		(items) => void Object.assign(item(items, "LU_SECTION").fields, { hash: "0x1" }),
		/\.hash$/,
	);
	wrong(
		"fields of the index",
		(items) => void Object.assign(item(items, "LU_INDEX").fields, { sectionCount: 1 }),
		/\.sectionCount$/,
	);
	wrong("a kind", (items) => void Object.assign(item(items, "LU_HOST"), { kind: "file" }), /^items\[\d+\]\.kind$/);
	wrong("octets", (items) => void Object.assign(item(items, "LU_HOST"), { octets: "0" }), /^items\[\d+\]\.octets$/);
	wrong(
		"a byte order",
		(items) => void Object.assign(item(items, "LU_HOST"), { endianness: "middle" }),
		/^items\[\d+\]\.endianness$/,
	);

	test.each(cases)("%s", async (_what, edit, field) => {
		const document = await documentOf(tiny);
		edit(document.items);
		const error = await streamOf(document).then(
			() => undefined,
			(reason) => reason,
		);
		expect(error).toBeInstanceOf(XluError);
		expect(error.field).toMatch(field);
		expect(error.message).toContain(error.field);
		expect(error.exitStatus).toBeGreaterThan(0);
	});
});

describe("mutations", () => {
	const random = new Random(7);

	test("of streams: the same octets again, or a coded error", async () => {
		const seen = { same: 0, refused: 0 };
		for (let i = 0; i < 300; i++) {
			const octets = tiny.slice();
			for (let n = random.geometric(2); n > 0; n--) octets[24 + random.below(octets.length - 24)] = random.below(256);
			const big = i % 2 === 1;
			if (big) octets[17] = 1;
			try {
				await holds(octets);
				seen.same++;
			} catch (error) {
				if (!(error instanceof XluError)) throw error;
				expect(error.code).toBe("XLU_E_DAMAGED");
				seen.refused++;
			}
		}
		expect(seen.same).toBeGreaterThan(100);
	});

	test("of documents: a stream, or a coded error", async () => {
		const text = Buffer.from(await convert(tiny, "json"));
		const codes = new Map<string, number>();
		for (let i = 0; i < 300; i++) {
			const changed = Buffer.from(text);
			const bytes = [...'0123456789abcdefx{}[]",:-', "\n"].map((digit) => digit.charCodeAt(0));
			// Behind the document's own first line, and not in its lines' ends alone.
			for (let n = random.geometric(2); n > 0; n--) {
				changed[30 + random.below(changed.length - 30)] = bytes[random.below(bytes.length)] ?? 0;
			}
			try {
				await convert(changed);
				codes.set("done", (codes.get("done") ?? 0) + 1);
			} catch (error) {
				if (!(error instanceof XluError)) throw error;
				expect(error.code).not.toBe("XLU_E_INTERNAL");
				codes.set(error.code, (codes.get(error.code) ?? 0) + 1);
			}
		}
		expect(codes.get("done")).toBeGreaterThan(20);
		expect(codes.get("XLU_E_IMAGE")).toBeGreaterThan(20);
	});
});
