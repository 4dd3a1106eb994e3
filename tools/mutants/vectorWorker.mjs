/**
 * A worker that runs the conformance vectors on mutants, in one module that has them all: tools/check-mutations.mjs. A mutant may
 * loop forever, so that the worker beats a count, and is ended by its parent where that stands still.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { gunzipSync } from "node:zlib";
import { runnerImport } from "vite";
import { root } from "./core.mjs";

const { core: path, beats, mutants, unmutated } = workerData;
process.env.XLU_CORE = path;

const load = async (path) => (await runnerImport(join(root, path), { configFile: false })).module;
const { newInstance, refusal } = await load("test/support/core.ts");
const { applyEdits } = await load("test/vectors/patch.ts");
const { rules, ruleId } = await load("src/format/rules.ts");

const folder = join(root, "test/vectors");
const files = new Map();
function octetsOf({ base, edits }) {
	if (!files.has(base)) {
		const file = readFileSync(join(folder, base));
		files.set(base, new Uint8Array(base.endsWith(".gz") ? gunzipSync(file) : file));
	}
	return applyEdits(files.get(base), edits);
}

const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
const vectors = [...manifest.valid, ...manifest.damaged].map(({ name, stream, memory, padded, expected }) => ({
	name,
	stream: octetsOf(stream),
	memory: memory && octetsOf(memory),
	isPadded: padded === true,
	expected,
}));

/** What the manifest has of a refusal. */
function foundOf({ fault, call }) {
	return {
		rule: fault.ruleId,
		call,
		offset: fault.offset,
		section: fault.pass ?? null,
		domid: fault.domid ?? null,
		record: fault.record ?? null,
		field: fault.field ?? null,
		expected: String(fault.expected),
		got: String(fault.got),
	};
}

/** How a vector notices a mutant; undefined if it does not. */
function noticed(vector, instance) {
	Atomics.add(beats, 0, 1);
	let result;
	try {
		result = refusal(vector.stream, vector.memory, vector.isPadded, instance.core);
	} catch (error) {
		return error instanceof WebAssembly.RuntimeError ? "it traps" : `it fails: ${error.message}`;
	}
	if (!vector.expected) return result && `it is refused by ${result.fault.ruleId}`;
	if (!result) return "it is accepted";
	const found = foundOf(result);
	const expected = { ...vector.expected, expected: String(vector.expected.expected), got: String(vector.expected.got) };
	const other = Object.keys(found).find((key) => found[key] !== expected[key]);
	return other && `${other} is ${found[other]}, not ${expected[other]}`;
}

function instanceOf(number) {
	const instance = newInstance();
	instance.raw.mutant.value = number;
	return instance;
}

/** The first vector that notices a mutant, those of its rule before all others. */
function firstToNotice(number, rule) {
	const id = rules.find(({ name }) => name === rule)?.id;
	const ofRule = (vector) => id !== undefined && vector.expected?.rule === ruleId(id);
	const instance = instanceOf(number);
	for (const vector of [...vectors.filter(ofRule), ...vectors.filter((one) => !ofRule(one))]) {
		instance.core.reset();
		// A mutant that wrote where it should not might be noticed in another's memory alone.
		const how = noticed(vector, instance) && noticed(vector, instanceOf(number));
		if (how) return { vector: vector.name, how };
	}
	return undefined;
}

const wrong = firstToNotice(unmutated, undefined);
if (wrong) throw new Error(`with no mutant, ${wrong.vector}: ${wrong.how}`);
for (const { number, rule } of mutants) {
	parentPort.postMessage({ begins: number });
	parentPort.postMessage({ number, by: firstToNotice(number, rule) });
}
