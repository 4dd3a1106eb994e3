import { readFileSync } from "node:fs";
import binaryen from "binaryen";
import { describe, expect, it } from "vitest";
import { builtModules, checkModule, listExports, sharedModule } from "../../tools/check-module.mjs";

const exportsList = JSON.parse(readFileSync(new URL("../../tools/exports.json", import.meta.url), "utf8"));

/** A module in text form, as octets. */
function assemble(...fields: string[]): Uint8Array {
	const module = binaryen.parseText(`(module ${fields.join("\n")})`);
	const features = binaryen.Features;
	const references = features.ReferenceTypes | features.BulkMemory | features.MutableGlobals;
	module.setFeatures(references | features.SIMD128 | features.Atomics);
	try {
		return module.emitBinary();
	} finally {
		module.dispose();
	}
}

const memory = '(memory $m 1) (export "memory" (memory $m))';
const abi = '(func $abi (export "abi") (param i32 i64) (result i32) (i32.const 1))';

describe("the built core keeps its promises", () => {
	for (const path of builtModules) {
		it(`${path.replace(/.*\//, "")}: no import, start, growth, mutable global or managed object; exports as listed`, () => {
			const bytes = readFileSync(path);
			expect(checkModule(bytes, exportsList)).toEqual([]);
			expect(Object.keys(exportsList).length).toBeGreaterThan(1);
		});
	}

	it("core.shared.wasm: imports a shared memory and nothing else, and keeps every other promise, atomics among them", () => {
		const bytes = readFileSync(sharedModule);
		expect(checkModule(bytes, exportsList, { shared: true })).toEqual([]);
		expect(WebAssembly.Module.imports(new WebAssembly.Module(bytes))).toEqual([
			{ module: "env", name: "memory", kind: "memory" },
		]);
		// Neither build passes for the other.
		expect(checkModule(bytes, exportsList)).toEqual([
			'import: memory "env"."memory"',
			"memory: shared",
			expect.any(String),
		]);
		expect(checkModule(readFileSync(builtModules[0] as string), exportsList, { shared: true })).toHaveLength(2);
	});

	it("core.shared.wasm: an instance more changes nothing in a memory that is in use", async () => {
		const bytes = readFileSync(sharedModule);
		const shared = new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: true });
		const { instance } = await WebAssembly.instantiate(bytes, { env: { memory: shared } });
		const heapBase = (instance.exports.heapBase as () => number)();
		new Uint8Array(shared.buffer).fill(0xa5, heapBase);
		const before = new Uint8Array(shared.buffer).slice();
		await WebAssembly.instantiate(bytes, { env: { memory: shared } });
		expect(Buffer.compare(new Uint8Array(shared.buffer).slice(), before)).toBe(0);
	});

	it("needs nothing to be instantiated, and its memory can be grown by the host", async () => {
		for (const path of builtModules) {
			const { instance } = await WebAssembly.instantiate(readFileSync(path), {});
			const exported = instance.exports.memory as WebAssembly.Memory;
			const before = exported.buffer.byteLength;
			exported.grow(1);
			expect(exported.buffer.byteLength).toBe(before + 65536);
		}
	});
});

describe("checkModule", () => {
	it("passes a module that keeps every promise", () => {
		const data = '(data (i32.const 1024) "\\2a\\00\\00\\00 a table of constants")';
		const global = '(global $base (export "base") i32 (i32.const 1048))';
		expect(checkModule(assemble(memory, abi, data, global))).toEqual([]);
	});

	it.each([
		["an imported function", '(import "env" "abort" (func (param i32)))', 'import: function "env"."abort"'],
		["an imported global", '(import "env" "g" (global i32))', 'import: global "env"."g"'],
		["an imported table", '(import "env" "t" (table 1 funcref))', 'import: table "env"."t"'],
		["a start function", "(func $start) (start $start)", "start: the module has a start function"],
		["a mutable global", "(global $heap (mut i32) (i32.const 0))", "is mutable"],
		["memory.grow", "(func (drop (memory.grow (i32.const 1))))", "instruction: memory.grow, 1 time(s)"],
		[
			"table.grow",
			"(table $t 1 funcref) (func (drop (table.grow $t (ref.null func) (i32.const 1))))",
			"instruction: table.grow, 1 time(s)",
		],
		[
			"an atomic operation",
			"(func (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1))))",
			"instruction: atomic, 1 time(s)",
		],
		["a fence", "(func (atomic.fence))", "instruction: atomic, 1 time(s)"],
		[
			"data in the caller's windows",
			'(data (i32.const 1020) "in the way") (func (export "heapBase") (result i32) (i32.const 1024))',
			"data: up to 1030, beyond heapBase() 1024",
		],
		["an exported allocator", '(func (export "__new"))', "runtime: __new is exported"],
		[
			"exported type information",
			'(global (export "__rtti_base") i32 (i32.const 8))',
			"runtime: __rtti_base is exported",
		],
		[
			"a string in the data",
			'(data (i32.const 1036) "\\1c\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\02\\00\\00\\00\\04\\00\\00\\00a\\00b\\00")',
			"data: a managed object (class id 2, 4 octets) at 1056",
		],
		[
			"a string whose header the optimizer split at its zeros",
			'(data (i32.const 1036) "\\1c") (data (i32.const 1048) "\\02\\00\\00\\00\\04\\00\\00\\00a\\00b")',
			"data: a managed object (class id 2, 4 octets) at 1056",
		],
		["a passive segment", '(data "x")', "data: a passive segment, whose place cannot be proven"],
	])("finds %s", (_, field, problem) => {
		// Imports come first in a module's text.
		const problems = checkModule(field.startsWith("(import") ? assemble(field, memory) : assemble(memory, field));
		expect(problems).toHaveLength(1);
		expect(problems[0]).toContain(problem);
	});

	it("finds an imported memory, also when it is exported again", () => {
		const bytes = assemble('(import "env" "memory" (memory $m 1))', '(export "memory" (memory $m))');
		expect(checkModule(bytes)).toEqual(['import: memory "env"."memory"']);
	});

	it("finds a memory that is not exported, has another name or cannot be grown freely", () => {
		const missing = 'memory: none is exported as "memory"';
		expect(checkModule(assemble("(memory 1)", abi))).toEqual([missing]);
		expect(checkModule(assemble('(memory (export "ram") 1)'))).toEqual([missing]);
		expect(checkModule(assemble('(memory (export "memory") 1 2)'))[0]).toContain("its maximum of 2 pages");
		expect(checkModule(assemble('(memory (export "memory") 1 2 shared)'))).toContain("memory: shared");
	});

	it("finds a memory over which threads could not share, or that more than the memory is imported", () => {
		const check = (...fields: string[]) => checkModule(assemble(...fields), undefined, { shared: true });
		const imported = (limits: string) => `(import "env" "memory" (memory $m ${limits})) (export "memory" (memory $m))`;
		expect(check(imported("1 65536 shared"))).toEqual([]);
		expect(check(imported("1 65536"))).toEqual(["memory: not shared"]);
		expect(check(imported("1 100 shared"))[0]).toContain("its maximum of 100 pages");
		expect(check('(import "env" "wait" (func))', imported("1 65536 shared"))).toEqual([
			'import: function "env"."wait"',
		]);
		expect(check('(memory (export "memory") 1 65536 shared)')).toEqual(['import: memory "env"."memory" is not there']);
	});

	it("does not take a name or a string for an instruction", () => {
		const named = '(func $memory.grow (export "memory.grow")) (data (i32.const 8) "(memory.grow )")';
		expect(checkModule(assemble(memory, named))).toEqual([]);
	});

	it("compares exports with the list, by name and type", () => {
		const bytes = assemble(memory, abi);
		expect(listExports(bytes)).toEqual({ abi: "(i32, i64) -> i32", memory: "memory" });
		expect(checkModule(bytes, { abi: "(i32, i64) -> i32", memory: "memory" })).toEqual([]);
		expect(checkModule(bytes, { abi: "() -> i32", gone: "() -> none" })).toEqual([
			"export: ~ abi: expected () -> i32, got (i32, i64) -> i32",
			"export: - gone: () -> none (expected, not found)",
			"export: + memory: memory (found, not expected)",
		]);
	});

	it("reports octets that are no module instead of throwing", () => {
		expect(checkModule(Uint8Array.of(0, 1, 2))[0]).toMatch(/^module: not valid: /);
	});
});
