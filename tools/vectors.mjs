#!/usr/bin/env node
// The conformance vectors: streams, valid ones and damaged ones, and what a reader must say of them (docs/CONFORMANCE.md).
//
//   node tools/vectors.mjs                 writes test/vectors/manifest.json, streams/ and decoded/
//   node tools/vectors.mjs --check         fails where what is checked in is not what would be written
//   node tools/vectors.mjs --expand DIR    writes every vector as plain files NAME.xlu, NAME.xlu.mem, NAME.json
//
// What must be said of a damaged stream is the core's word; what a valid one holds is the independent reader's. The tests
// of test/vectors hold each against the other. Needs dist/core.wasm.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gunzipSync, gzipSync } from "node:zlib";
import { runnerImport } from "vite";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const load = async (path) => (await runnerImport(join(root, path), { configFile: false })).module;
const { values } = parseArgs({ options: { check: { type: "boolean" }, expand: { type: "string" } } });

const { base: small, second, damagedVectors, heldElsewhere, validVectors } = await load("test/vectors/cases.ts");
const { editsBetween, vectorJson } = await load("test/vectors/patch.ts");
const { refusal } = await load("test/support/core.ts");
const { read } = await load("test/vectors/reader/read.ts");
const { streamJson } = await load("test/vectors/reader/json.ts");
const { ruleId, rules } = await load("src/format/rules.ts");

const folder = join(root, "test/vectors");
const GOLDEN = { tiny: "v1", forms: "v1", pv: "v1", pvh: "v1", hvm: "v1", second: "v2" };
/** More octets of edits than this are a file of their own. */
const LONGEST_EDITS = 3000;

/** Files of the folder, by path: contents as they are before compression. */
const files = new Map([
	["streams/small.xlu", Buffer.from(small.stream)],
	["streams/small.xlu.mem", Buffer.from(small.memory)],
]);

/** Streams, and their memories, of which others are edits. */
const bases = [
	{ stream: small.stream, memory: small.memory, path: "streams/small.xlu" },
	{ stream: second.stream, memory: second.memory, path: `../golden/v2/second.xlu` },
];

/** A file as a base with edits, or as a whole compressed file. */
function fileOf(octets, part, path) {
	const suffix = part === "memory" ? ".mem" : "";
	for (const base of bases) {
		const edits = editsBetween(base[part], octets);
		if (JSON.stringify(edits).length <= LONGEST_EDITS) return { base: `${base.path}${suffix}`, edits };
	}
	files.set(`${path}.gz`, Buffer.from(octets));
	return { base: `${path}.gz`, edits: [] };
}

function describe({ name, what, stream, memory, isPadded }) {
	const released = GOLDEN[name] && `../golden/${GOLDEN[name]}/${name}.xlu`;
	return {
		name,
		what,
		stream: released ? { base: released, edits: [] } : fileOf(stream, "stream", `streams/${name}.xlu`),
		memory:
			memory &&
			(released ? { base: `${released}.mem`, edits: [] } : fileOf(memory, "memory", `streams/${name}.xlu.mem`)),
		...(isPadded ? { padded: true } : {}),
	};
}

/** A number as JSON has it exactly; else as text. */
const exact = (value) =>
	typeof value === "bigint" && value > BigInt(Number.MAX_SAFE_INTEGER) ? String(value) : Number(value);

const exits = { damaged: 3, version: 1, refused: 1 };

function expectedOf({ name, rule, stream, memory }) {
	const result = refusal(stream, memory);
	if (!result || result.fault.ruleId !== rule)
		throw new Error(`${name}: ${result?.fault.ruleId ?? "accepted"}, not ${rule}`);
	const { fault, call } = result;
	return {
		rule,
		exit: exits[rules.find(({ id }) => ruleId(id) === rule).severity],
		call,
		offset: fault.offset,
		section: fault.pass ?? null,
		domid: fault.domid ?? null,
		record: fault.record ?? null,
		field: fault.field ?? null,
		expected: exact(fault.expected),
		got: exact(fault.got),
	};
}

const valid = validVectors();
const damaged = damagedVectors();
const expand = values.expand;
if (expand) mkdirSync(expand, { recursive: true });

const manifest = {
	format: "xlu conformance vectors",
	version: 1,
	streamVersions: [1, 2],
	rules: {},
	valid: [],
	damaged: [],
};
for (const { id } of rules) {
	const rule = ruleId(id);
	const vectors = damaged.filter((vector) => vector.rule === rule).map(({ name }) => name);
	manifest.rules[rule] = heldElsewhere[rule] ?? { vectors, test: "test/vectors/vectors.test.ts" };
}
for (const vector of valid) {
	const { stream, findings } = read(vector.stream, vector);
	if (findings.length > 0) throw new Error(`${vector.name}: ${JSON.stringify(findings[0])}`);
	const refused = refusal(vector.stream, vector.memory, vector.isPadded);
	if (refused) throw new Error(`${vector.name}: ${refused.error.message}`);
	const decoded = `decoded/${vector.name}.json.gz`;
	const text = `${JSON.stringify(streamJson(stream), null, 1)}\n`;
	files.set(decoded, Buffer.from(text));
	manifest.valid.push({ ...describe(vector), decoded });
	if (expand) writeFileSync(join(expand, `${vector.name}.json`), text);
}
for (const vector of damaged) manifest.damaged.push({ ...describe(vector), expected: expectedOf(vector) });
files.set("manifest.json", Buffer.from(vectorJson(manifest)));

if (expand) {
	for (const { name, stream, memory } of [...valid, ...damaged]) {
		writeFileSync(join(expand, `${name}.xlu`), stream);
		if (memory) writeFileSync(join(expand, `${name}.xlu.mem`), memory);
	}
	for (const { name, expected } of manifest.damaged)
		writeFileSync(join(expand, `${name}.json`), `${JSON.stringify(expected, null, 1)}\n`);
	console.log(`${valid.length} valid and ${damaged.length} damaged vectors in ${expand}`);
	process.exit(0);
}

const kept = ["streams", "decoded"].flatMap((name) => {
	const directory = join(folder, name);
	return existsSync(directory) ? readdirSync(directory).map((file) => `${name}/${file}`) : [];
});
const problems = kept.filter((path) => !files.has(path)).map((path) => [path, "is no vector's any more"]);
for (const [path, octets] of files) {
	const file = join(folder, path);
	const now = existsSync(file) ? readFileSync(file) : undefined;
	// A compressed file is what it holds: compressors differ.
	const holds = now && path.endsWith(".gz") ? gunzipSync(now) : now;
	if (!holds || Buffer.compare(holds, octets) !== 0) problems.push([path, "is not what tools/vectors.mjs writes"]);
}
if (values.check) {
	for (const [path, problem] of problems) console.error(`test/vectors/${path} ${problem}`);
	if (problems.length > 0) process.exit(1);
	console.log(`${valid.length} valid and ${damaged.length} damaged vectors are up to date`);
} else {
	for (const [path] of problems) {
		const file = join(folder, path);
		if (!files.has(path)) rmSync(file);
		else {
			mkdirSync(dirname(file), { recursive: true });
			writeFileSync(file, path.endsWith(".gz") ? gzipSync(files.get(path), { level: 9 }) : files.get(path));
		}
		console.log(`${files.has(path) ? "wrote" : "removed"} test/vectors/${path}`);
	}
}
