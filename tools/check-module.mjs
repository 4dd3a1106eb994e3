#!/usr/bin/env node
/**
 * Proves what the core promises, from the built module alone, with binaryen's reader and the engine's own.
 *
 *   node tools/check-module.mjs [--update] [FILE.wasm ...]      default: the builds of dist/
 *
 * The promises: no import of any kind; one memory, exported as "memory", not shared and without a maximum; no start
 * function; no memory.grow, no table that changes; no mutable global; no atomic operation, since barriers are the host's;
 * no managed object of AssemblyScript's runtime, neither made at run time (that needs a mutable global) nor placed in the
 * data (strings, array literals); all data below heapBase(), at constant addresses; the exports and their types as in
 * tools/exports.json.
 *
 * A build over shared memory (*.shared.wasm) keeps the same promises but for one: it imports its memory, "env"."memory",
 * shared, of up to 4 GiB, and nothing else. Each thread's instance writes the module's data to that memory anew: the same
 * constants at the same addresses, below all that callers may use.
 *
 * --update writes tools/exports.json from the first file instead of comparing with it.
 */
import { existsSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import binaryen from "binaryen";

const tools = dirname(fileURLToPath(import.meta.url));
const exportsPath = join(tools, "exports.json");
export const builtModules = ["dist/core.wasm", "dist/core.plain.wasm"].map((path) => join(tools, "..", path));
export const sharedModule = join(tools, "../dist/core.shared.wasm");

/** All that 32-bit addresses reach, in pages. */
const MAXIMUM_PAGES = 65536;

/** What AssemblyScript's runtime exports where managed objects may cross the border. */
const runtimeExports = ["__new", "__pin", "__unpin", "__collect", "__rtti_base", "__alloc", "__free", "__renew"];

/** Octets of the header that AssemblyScript puts before a managed object: mmInfo, gcInfo, gcInfo2, rtId, rtSize. */
const OBJECT_HEADER = 20;

const typeNames = new Map(
	Object.entries({ i32: "i32", i64: "i64", f32: "f32", f64: "f64", v128: "v128" }).map(([key, name]) => [
		binaryen[key],
		name,
	]),
);

function typesOf(type) {
	return binaryen.expandType(type).map((part) => typeNames.get(part) ?? "reference");
}

/**
 * Exported names with their types, sorted by name: `{ "memory": "memory", "abi": "() -> i32" }`.
 * @param {Uint8Array} bytes a module
 * @returns {Record<string, string>}
 */
export function listExports(bytes) {
	return withModule(bytes, exportsOf);
}

function exportsOf(module) {
	const list = {};
	for (let index = 0; index < module.getNumExports(); index++) {
		const { kind, name, value } = binaryen.getExportInfo(module.getExportByIndex(index));
		if (kind === binaryen.ExternalFunction) {
			const { params, results } = binaryen.getFunctionInfo(module.getFunction(value));
			list[name] = `(${typesOf(params).join(", ")}) -> ${typesOf(results).join(", ") || "none"}`;
		} else if (kind === binaryen.ExternalGlobal) {
			const { type, mutable } = binaryen.getGlobalInfo(module.getGlobal(value));
			list[name] = `${mutable ? "mutable " : ""}global ${typesOf(type).join(", ")}`;
		} else {
			list[name] = kind === binaryen.ExternalMemory ? "memory" : kind === binaryen.ExternalTable ? "table" : "tag";
		}
	}
	return Object.fromEntries(Object.entries(list).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function withModule(bytes, use) {
	const module = binaryen.readBinary(bytes, binaryen.Features.All);
	try {
		return use(module);
	} finally {
		module.dispose();
	}
}

/** One finding per line that the expected and the actual list do not share. */
function differences(expected, actual) {
	const names = [...new Set([...Object.keys(expected), ...Object.keys(actual)])].sort();
	return names.flatMap((name) => {
		if (expected[name] === actual[name]) return [];
		if (actual[name] === undefined) return [`export: - ${name}: ${expected[name]} (expected, not found)`];
		if (expected[name] === undefined) return [`export: + ${name}: ${actual[name]} (found, not expected)`];
		return [`export: ~ ${name}: expected ${expected[name]}, got ${actual[name]}`];
	});
}

/**
 * Managed objects in the data: AssemblyScript aligns the payload to 16 and places five words before it: mmInfo (the
 * block's size, a multiple of 16, less its own 4 octets), two zero words, the class id and the payload's size. Segments
 * are joined first, since the optimizer splits them at zeros. An object without payload looks like a table of numbers
 * and is not searched for.
 */
function staticObjects(module) {
	const segments = [];
	for (let index = 0; index < module.getNumDataSegments(); index++) {
		const { offset, data, passive } = module.getDataSegmentInfo(module.getDataSegmentByIndex(index));
		if (passive) return ["data: a passive segment, whose place cannot be proven"];
		if (typeof offset !== "number") return ["data: a segment at an address that is not a constant"];
		segments.push({ offset, data: new Uint8Array(data) });
	}
	if (segments.length === 0) return [];
	const end = Math.max(...segments.map(({ offset, data }) => offset + data.length));
	const start = Math.min(...segments.map(({ offset }) => offset)) & ~15;
	// Zeros at the end are left out of the segments: room for a header that has some.
	const image = new DataView(new ArrayBuffer(end - start + OBJECT_HEADER + 16));
	for (const { offset, data } of segments) new Uint8Array(image.buffer).set(data, offset - start);
	const problems = [];
	for (let at = 16 - 4; at + OBJECT_HEADER <= image.byteLength; at += 16) {
		const [mmInfo, gcInfo, gcInfo2, classId, size] = [0, 4, 8, 12, 16].map((step) => image.getUint32(at + step, true));
		const blockBytes = Math.ceil((size + OBJECT_HEADER) / 16) * 16;
		if (mmInfo === blockBytes - 4 && gcInfo === 0 && gcInfo2 === 0 && classId < 1024 && size > 0) {
			problems.push(`data: a managed object (class id ${classId}, ${size} octets) at ${start + at + OBJECT_HEADER}`);
		}
	}
	return problems;
}

/**
 * Checks one module.
 * @param {Uint8Array} bytes the module's octets
 * @param {Record<string, string>} [expectedExports] names and types; left out, exports are not compared with a list
 * @param {{ shared?: boolean }} [build] whether it is the build over shared memory
 * @returns {string[]} the problems, each naming what it is about; empty when every promise holds
 */
export function checkModule(bytes, expectedExports, { shared = false } = {}) {
	let compiled;
	try {
		compiled = new WebAssembly.Module(bytes);
	} catch (error) {
		return [`module: not valid: ${error.message}`];
	}
	const imports = WebAssembly.Module.imports(compiled).map(({ module, name, kind }) => `${kind} "${module}"."${name}"`);
	const allowed = shared ? ['memory "env"."memory"'] : [];
	const problems = imports.filter((one) => !allowed.includes(one)).map((one) => `import: ${one}`);
	for (const one of allowed) if (!imports.includes(one)) problems.push(`import: ${one} is not there`);
	return problems.concat(withModule(bytes, (module) => problemsOf(module, expectedExports, shared)));
}

/** What the module's heapBase() returns: a function that is one constant. Undefined if it is not there. */
function heapBaseOf(module) {
	for (let index = 0; index < module.getNumExports(); index++) {
		const { kind, name, value } = binaryen.getExportInfo(module.getExportByIndex(index));
		if (kind !== binaryen.ExternalFunction || name !== "heapBase") continue;
		const body = binaryen.getExpressionInfo(binaryen.getFunctionInfo(module.getFunction(value)).body);
		if (body.id === binaryen.ConstId) return body.value;
	}
	return undefined;
}

/** Data that reaches into the caller's windows would overwrite them with each instance. */
function dataProblems(module) {
	const heapBase = heapBaseOf(module);
	const problems = [];
	for (let index = 0; heapBase !== undefined && index < module.getNumDataSegments(); index++) {
		const { offset, data } = module.getDataSegmentInfo(module.getDataSegmentByIndex(index));
		const end = offset + data.byteLength;
		if (typeof offset === "number" && end > heapBase)
			problems.push(`data: up to ${end}, beyond heapBase() ${heapBase}`);
	}
	return problems;
}

function memoryProblems(module, mustBeShared) {
	const problems = [];
	const { shared, is64, max } = module.getMemoryInfo();
	if (is64) problems.push("memory: 64-bit addresses");
	if (shared && !mustBeShared) problems.push("memory: shared");
	if (mustBeShared && !shared) problems.push("memory: not shared");
	// A shared memory has to name a maximum.
	if (max !== undefined && !(mustBeShared && max === MAXIMUM_PAGES))
		problems.push(`memory: its maximum of ${max} pages limits the host that grows it`);
	return problems;
}

function problemsOf(module, expectedExports, shared) {
	const problems = [];
	const exports = exportsOf(module);

	if (exports.memory !== "memory") problems.push('memory: none is exported as "memory"');
	if (module.hasMemory()) problems.push(...memoryProblems(module, shared));

	if (module.getStart() !== 0) problems.push("start: the module has a start function");

	for (let index = 0; index < module.getNumGlobals(); index++) {
		const { name, mutable } = binaryen.getGlobalInfo(module.getGlobalByIndex(index));
		if (mutable) problems.push(`global: ${name} is mutable`);
	}

	// Data and names may read like an instruction: every string is emptied first.
	const text = module.emitText().replace(/"(?:[^"\\]|\\.)*"/g, '""');
	for (const instruction of ["memory.grow", "table.grow", "table.set", "table.fill", "table.copy", "table.init"]) {
		const count = text.split(new RegExp(`\\(${instruction.replace(".", "\\.")}[\\s)]`)).length - 1;
		if (count > 0) problems.push(`instruction: ${instruction}, ${count} time(s)`);
	}

	const atomics = text.match(/\((?:i32|i64|memory)\.atomic\.|\(atomic\.fence/g)?.length ?? 0;
	if (atomics > 0) problems.push(`instruction: atomic, ${atomics} time(s)`);

	for (const name of runtimeExports) {
		if (name in exports) problems.push(`runtime: ${name} is exported`);
	}
	// Names survive in builds with debug information only; the release build is held by the globals and the data.
	for (const [, name] of text.matchAll(/\(func \$(~lib\/rt\/[^\s)]+)/g)) problems.push(`runtime: ${name} is linked`);
	problems.push(...staticObjects(module), ...dataProblems(module));

	if (expectedExports) problems.push(...differences(expectedExports, exports));
	return problems;
}

function main(args) {
	const update = args.includes("--update");
	const named = args.filter((argument) => !argument.startsWith("--"));
	const files = named.length > 0 ? named : [...builtModules, sharedModule];
	if (update) {
		const list = listExports(readFileSync(files[0]));
		writeFileSync(exportsPath, `${JSON.stringify(list, null, 2)}\n`);
		console.log(`tools/exports.json: ${Object.keys(list).length} exports`);
	}
	const expected = JSON.parse(readFileSync(exportsPath, "utf8"));
	let failed = false;
	for (const file of files) {
		if (!existsSync(file)) {
			console.error(`${file}: not found; run npm run build first`);
			failed = true;
			continue;
		}
		const bytes = readFileSync(file);
		const problems = checkModule(bytes, expected, { shared: file.endsWith(".shared.wasm") });
		for (const problem of problems) console.error(`${file}: ${problem}`);
		if (problems.length > 0) failed = true;
		else console.log(`${file}: ${bytes.length} octets, ${Object.keys(expected).length} exports, every promise holds`);
		// Not a promise broken by itself: the optimizer closes endless loops and exhausted switches with it.
		const traps = withModule(bytes, (module) => module.emitText().split("(unreachable)").length - 1);
		if (traps > 0) console.log(`${file}: note: ${traps} place(s) that would trap if reached`);
	}
	if (failed) console.error("An export changed on purpose? node tools/check-module.mjs --update");
	return failed ? 1 : 0;
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
	process.exitCode = main(process.argv.slice(2));
}
