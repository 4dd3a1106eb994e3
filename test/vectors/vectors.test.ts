/**
 * The conformance vectors as they are checked in, by the manifest alone: the core and the independent reader say of each
 * what the manifest says, and a command's user reads it.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { decodeRecord } from "../../src/format/decode.ts";
import { ruleId, rules } from "../../src/format/rules.ts";
import type { RecordDef } from "../../src/format/schema.ts";
import { sliceRuns } from "../../src/inspect/extents.ts";
import { walkRecords } from "../../src/inspect/stream.ts";
import { LiveUpdate } from "../../src/library.ts";
import { readImage } from "../../src/machine/readImage.ts";
import { xlu } from "../cli/xlu.ts";
import { newCore, openCheck, refusal, restoreAll, root } from "../support/core.ts";
import { applyEdits, type Edit } from "./patch.ts";
import { streamJson } from "./reader/json.ts";
import { RECORDS } from "./reader/layout.ts";
import { read } from "./reader/read.ts";

interface File {
	base: string;
	edits: Edit[];
}

interface ValidVector {
	name: string;
	what: string;
	stream: File;
	memory?: File;
	padded?: true;
	decoded: string;
}

interface Expected {
	rule: string;
	exit: 1 | 3;
	call: "open" | "plan" | "check";
	offset: number;
	section: string | null;
	domid: number | null;
	record: string | null;
	field: string | null;
	expected: number | string;
	got: number | string;
}

interface Manifest {
	rules: Record<string, { vectors?: string[]; why?: string; test: string }>;
	valid: ValidVector[];
	damaged: (Omit<ValidVector, "decoded" | "padded"> & { expected: Expected })[];
}

const folder = join(root, "test/vectors");
const manifest: Manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));

function octetsOf({ base, edits }: File): Uint8Array {
	const file = readFileSync(join(folder, base));
	return applyEdits(new Uint8Array(base.endsWith(".gz") ? gunzipSync(file) : file), edits);
}

const filesOf = ({ stream, memory }: { stream: File; memory?: File }) => ({
	stream: octetsOf(stream),
	memory: memory && octetsOf(memory),
});

test("they are what tools/vectors.mjs writes", () => {
	const { status, stderr } = spawnSync(process.execPath, ["tools/vectors.mjs", "--check"], {
		cwd: root,
		encoding: "utf8",
	});
	expect(stderr).toBe("");
	expect(status).toBe(0);
});

describe("every rule has vectors, or says why no stream breaks it", () => {
	test("every rule of RULES.md, and no other", () => {
		expect(Object.keys(manifest.rules)).toEqual(rules.map(({ id }) => ruleId(id)));
	});

	test.each(Object.entries(manifest.rules))("%s", (rule, { vectors, why, test: file }) => {
		expect(readFileSync(join(root, file), "utf8").length).toBeGreaterThan(0);
		if (why !== undefined) return;
		expect(vectors?.length).toBeGreaterThan(0);
		const named = manifest.damaged.filter(({ expected }) => expected.rule === rule).map(({ name }) => name);
		expect(vectors).toEqual(named);
	});

	test("RULES.md names a vector and a test for each", () => {
		const text = readFileSync(join(root, "docs/RULES.md"), "utf8");
		for (const [rule, { vectors, test: file }] of Object.entries(manifest.rules)) {
			const cells = text
				.split("\n")
				.find((line) => line.startsWith(`| ${rule} |`))
				?.split(" | ");
			expect(cells?.at(-1), rule).toContain(file);
			expect(cells?.at(-2), rule).toContain(vectors?.[0] ?? "none");
		}
	});

	/**
	 * Rules that cannot be broken without another one that comes later and follows from it: what a dead domain must not have
	 * is counted, a grant that is wrong has pins that are. Behind
	 * a region that is wrong no frame is known to stay, and IOMMUs name such.
	 */
	const consequences: Record<string, string[]> = {
		"XLU-R045": ["XLU-R053"],
		"XLU-R046": ["XLU-R128"],
		"XLU-R071": ["XLU-R073", "XLU-R074"],
		"XLU-R072": ["XLU-R074"],
		"XLU-R073": ["XLU-R074"],
		"XLU-R102": ["XLU-R053"],
	};

	test("nothing but this rule, and what follows from it, is broken in at least one vector of each", () => {
		const alone = new Set<string>();
		for (const vector of manifest.damaged) {
			const { stream, memory } = filesOf(vector);
			const { findings } = read(stream, { memory });
			const allowed = [vector.expected.rule, ...(consequences[vector.expected.rule] ?? [])];
			if (findings.every(({ rule }) => allowed.includes(rule ?? ""))) alone.add(vector.expected.rule);
		}
		const withVectors = Object.entries(manifest.rules).filter(([, { vectors }]) => vectors);
		expect(withVectors.map(([rule]) => rule).filter((rule) => !alone.has(rule))).toEqual([]);
	});
});

describe("damaged", () => {
	test.each(manifest.damaged)("$name, $what: $expected.rule", (vector) => {
		const { expected } = vector;
		const { stream, memory } = filesOf(vector);
		const [first] = read(stream, { memory }).findings;
		expect(first).toMatchObject({ rule: expected.rule, offset: expected.offset, domid: expected.domid });
		expect(first?.record || null).toBe(expected.record);

		const core = newCore();
		const refused = refusal(stream, memory, false, core);
		expect(refused?.call).toBe(expected.call);
		const { fault } = refused!;
		expect({ section: fault.pass ?? null, field: fault.field ?? null }).toEqual({
			section: expected.section,
			field: expected.field,
		});

		// What `xlu verify` prints, as text and with --json.
		const result = new LiveUpdate(core).check(stream, memory);
		expect(result).toMatchObject({ ok: false, exitStatus: expected.exit });
		expect(result.findings).toHaveLength(1);
		const { message, ...finding } = result.findings[0]!;
		const { rule, offset, domid, record, field } = expected;
		expect(finding).toMatchObject({ rule, offset, record, field, domid });
		// People are told large numbers in hexadecimal as well, and what a number stands for.
		const numbers = [finding.expected, finding.got].map((text) =>
			String(text)
				.replace(/ \(.+\)$/, "")
				.replace(/^other than /, ""),
		);
		expect(finding.expected).not.toBe(finding.got);
		expect(numbers).toEqual([expected.expected, expected.got].map(String));
		const doc = rules.find(({ id }) => ruleId(id) === rule)!.doc;
		expect(message).toContain(`refused by ${rule}: ${doc}`);
		expect(message).toMatch(/^\S.*: expected .+, found .+\.$/);
		if (record) expect(message).toContain(`At ${record}`);
		expect(message.split("\n")).toHaveLength(1);
	});
});

/** u64 as text, u8 arrays as hexadecimal text, as docs/CONFORMANCE.md has it. */
function plain(value: unknown): unknown {
	if (typeof value === "bigint") return String(value);
	if (!Array.isArray(value)) return value;
	return value.map(plain);
}

const hex = (octets: Iterable<number>) => Buffer.from([...octets]).toString("hex");

/** A record as the library decodes it, by the schema. */
function decoded(def: RecordDef, body: Uint8Array) {
	const { head, parts } = decodeRecord(def, body);
	const fieldsOf = (row: Record<string, unknown>) => {
		const named = Object.entries(row).filter(([name]) => !/^reserved\d*$/.test(name));
		return Object.fromEntries(
			named.map(([name, value]) => [name, name === "handle" ? hex(value as number[]) : plain(value)]),
		);
	};
	const list = parts.map(({ name, kind, rows }) => {
		if (kind === "chunks") {
			const size = name === "FrameTypes" ? 1 : 8;
			const first = Number(head.firstGfn ?? head.firstMfn);
			const runs = [...sliceRuns(body.subarray(def.head!.size), first, size)];
			const json = runs.map((run) => ({
				first: String(run.first),
				count: run.length,
				entry: `0x${run.value.toString(16)}`,
			}));
			return [name, json];
		}
		const octets = def.parts.find((part) => part.table === name)?.row.size === 1;
		if (octets) return [name, hex(rows.map((row) => Number(Object.values(row)[0])))];
		return [name, rows.map(fieldsOf)];
	});
	return { head: fieldsOf(head), parts: Object.fromEntries(list) };
}

/** A table of an image, from runs; what no run covers is zero. */
function expanded(runs: { first: string; count: number; entry: string }[], length: number): BigUint64Array {
	const table = new BigUint64Array(length);
	for (const { first, count, entry } of runs)
		for (let j = 0; j < count; j++) table[Number(first) + j] = BigInt(entry) + BigInt(j) * (BigInt(entry) >> 63n);
	return table;
}

describe("valid", () => {
	test.each(manifest.valid)("$name: $what", (vector) => {
		const { stream, memory } = filesOf(vector);
		const isPadded = vector.padded === true;
		expect(refusal(stream, memory, isPadded)).toBeUndefined();
		const found = read(stream, { memory, isPadded });
		expect(found.findings).toEqual([]);
		const json = JSON.parse(JSON.stringify(streamJson(found.stream!)));
		expect(json).toEqual(JSON.parse(gunzipSync(readFileSync(join(folder, vector.decoded))).toString("utf8")));

		// The library's decoder says the same of each record.
		const records = json.sections.flatMap((section: { records: object[] }) => section.records);
		const walked = [...walkRecords(stream)].filter(({ type }) => ![0x4000003e, 0x4000003f, 0].includes(type));
		expect(walked.map(({ offset }) => offset)).toEqual(records.map(({ offset }: { offset: number }) => offset));
		for (const [i, { def, body }] of walked.entries())
			if (def) expect(decoded(def, body), def.name).toEqual({ head: records[i].head, parts: records[i].parts });
	});

	test.each(manifest.valid.filter(({ memory, padded }) => memory && !padded))(
		"$name: the core restores the bulk tables that the reader reads",
		(vector) => {
			const { stream, memory } = filesOf(vector);
			const checked = openCheck(stream, memory);
			const image = readImage(checked.core.bytes(restoreAll(checked)));
			const { sections } = JSON.parse(gunzipSync(readFileSync(join(folder, vector.decoded))).toString("utf8"));
			const runsOf = (pass: string, part: string, domid?: number) =>
				sections
					.filter((s: { pass: string; domid: number }) => s.pass === pass && (domid === undefined || s.domid === domid))
					.flatMap((s: { records: { parts: Record<string, never[]> }[] }) => s.records)
					.flatMap((r: { parts: Record<string, never[]> }) => r.parts[part] ?? []);
			const same = (table: ArrayLike<number | bigint>, runs: never[], what: string) => {
				const wanted = expanded(runs, table.length);
				for (let i = 0; i < table.length; i++)
					if (BigInt(table[i]!) !== wanted[i]) throw new Error(`${what} ${i}: ${table[i]}, not ${wanted[i]}`);
			};
			same(image.owners, runsOf("1h", "FrameOwners"), "owner of");
			same(image.types, runsOf("1h", "FrameTypes"), "type of");
			for (const { domain, p2m } of image.domains)
				if (p2m) same(p2m, runsOf("0", "P2m", domain.domid), `P2M of ${domain.domid},`);
		},
	);

	test("together they have every record type, every chunk form and width, and what the kit promises", () => {
		const seen = new Set<string>();
		for (const vector of manifest.valid) {
			const { stream, memory } = filesOf(vector);
			const { sections } = read(stream, { memory, isPadded: vector.padded === true }).stream!;
			for (const record of sections.flatMap(({ records }) => records)) {
				seen.add(record.name);
				const { version, abi, life, kind } = record.head;
				if (record.name === "LU_GRANT_TABLE") seen.add(`grant version ${version}`);
				if (record.name === "LU_EVTCHN") seen.add(`abi ${abi}`);
				if (record.name === "LU_DOMAIN") seen.add(`life ${life}`).add(`kind ${kind}`);
				// What follows reads chunks of the other byte order.
				if (record.layout?.often !== "slices" || vector.name === "big") continue;
				const end = record.bodyOffset + record.bodyLength;
				const view = new DataView(stream.buffer, stream.byteOffset);
				for (let at = record.bodyOffset + record.layout.head.length; at < end; at += 8 + view.getUint32(at + 4, true))
					seen.add(`${record.name} form ${stream[at]} width ${stream[at + 1]}`);
			}
		}
		const names = [...RECORDS.values()].filter(({ section }) => section !== "-").map(({ name }) => name);
		const widths = [1, 2, 3, 4, 5, 6, 7].map((width) => `LU_P2M form 2 width ${width}`);
		const forms = ["LU_P2M", "LU_FRAMES", "LU_PAGE_TYPES"].map((name) => `${name} form 1 width 0`);
		const rest = ["LU_P2M form 3 width 0", "LU_PAGE_TYPES form 3 width 0"];
		const kinds = [
			"grant version 1",
			"grant version 2",
			"abi 0",
			"abi 1",
			"life 0",
			"life 1",
			"kind 1",
			"kind 2",
			"kind 3",
		];
		for (const wanted of [...names, ...widths, ...forms, ...rest, ...kinds]) expect(seen, wanted).toContain(wanted);
	});
});

describe("as people run it", () => {
	let directory: string;
	beforeAll(() => {
		directory = mkdtempSync(join(tmpdir(), "xlu-vectors-"));
	});
	afterAll(() => rmSync(directory, { recursive: true, force: true }));

	const handful = [
		"R001-1",
		"R002-2",
		"R011-1",
		"R020-7",
		"R034-5",
		"R034-8",
		"R034-9",
		"R034-11",
		"R044-1",
		"R057-1",
		"R100-1",
	];

	test.each(handful)(
		"xlu verify %s: status, rule, one line; the same with --json",
		(name) => {
			const vector = manifest.damaged.find((one) => one.name === name)!;
			const { stream, memory } = filesOf(vector);
			const path = join(directory, `${name}.xlu`);
			writeFileSync(path, stream);
			writeFileSync(`${path}.mem`, memory!);
			const { expected } = vector;
			const text = xlu(["verify", path]);
			expect(text.status).toBe(expected.exit);
			expect(text.stdout).toContain(expected.rule);
			expect(text.stdout.trim().split("\n")).toHaveLength(1);
			const json = xlu(["verify", "--json", path]);
			expect(json.status).toBe(expected.exit);
			expect(JSON.parse(json.stdout).findings[0].rule).toBe(expected.rule);
		},
		60_000,
	);

	test("tools/vectors.mjs --expand writes plain files of every vector", () => {
		const { status } = spawnSync(process.execPath, ["tools/vectors.mjs", "--expand", directory], { cwd: root });
		expect(status).toBe(0);
		const files = readdirSync(directory);
		for (const vector of [...manifest.valid, ...manifest.damaged]) {
			const { stream, memory } = filesOf(vector);
			expect(Buffer.compare(readFileSync(join(directory, `${vector.name}.xlu`)), stream), vector.name).toBe(0);
			if (memory)
				expect(Buffer.compare(readFileSync(join(directory, `${vector.name}.xlu.mem`)), memory), vector.name).toBe(0);
			expect(files).toContain(`${vector.name}.json`);
		}
	}, 180_000);
});
