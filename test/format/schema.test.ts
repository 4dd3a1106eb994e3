/** The one schema: what is generated from it, what the AssemblyScript compiler makes of that, and what locks it. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import asc from "assemblyscript/asc";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as enums from "../../src/format/enums.ts";
import { type Struct, scalarBytes } from "../../src/format/layout.ts";
import * as schema from "../../src/format/schema.ts";
import { VGCF } from "../../src/formats/libxc/guestContext.ts";
import { readTwoLevelPort } from "../../src/machine/guestPages.ts";
import { memoryFor, refusal, root, saveTiny } from "../support/core.ts";
import { parse, type Restitched } from "../support/restitch.ts";
import { tinyHost } from "../support/tinyHost.ts";

const { records, structs, heads, imageStructs, hostTables, domainTables } = schema;
const allStructs: Struct[] = [...Object.values(structs), ...Object.values(heads), ...Object.values(imageStructs)];

describe("offsets that the AssemblyScript compiler uses", () => {
	/** Field names as the generated classes have them: small arrays one by one. */
	const expanded = (struct: Struct) =>
		struct.fields.flatMap((field) =>
			field.length === 1
				? [{ name: field.name, offset: field.offset }]
				: Array.from({ length: field.length }, (_, i) => ({
						name: `${field.name}${i}`,
						offset: field.offset + i * scalarBytes[field.type],
					})),
		);

	/** Compiles a module that writes every offset, and every struct's size, one u32 each. */
	async function compilerOffsets(): Promise<number[]> {
		const lines = allStructs.flatMap((struct) => [
			...expanded(struct).map(({ name }) => `offsetof<L.${struct.name}>("${name}")`),
			`offsetof<L.${struct.name}>()`,
		]);
		// In functions of moderate length: one for a thousand values.
		const parts: string[] = [];
		for (let i = 0; i < lines.length; i += 1000) {
			const body = lines.slice(i, i + 1000).map((line, k) => `\tstore<u32>(at + ${(i + k) * 4}, <u32>${line});`);
			parts.push(`function part${parts.length}(at: usize): void {\n${body.join("\n")}\n}`);
		}
		const calls = parts.map((_, i) => `part${i}(at);`).join(" ");
		const source = [
			'import * as L from "./assembly/layout.gen";',
			...parts,
			`export function offsets(at: usize): u32 { ${calls} return ${lines.length}; }`,
		].join("\n");
		let binary: Uint8Array<ArrayBuffer> | undefined;
		const { error, stderr } = await asc.main(
			["offsets.ts", "--outFile", "out.wasm", "--runtime", "stub", "-O1", "--use", "abort=", "--initialMemory", "4"],
			{
				readFile(name, baseDir) {
					if (name === "offsets.ts") return source;
					if (name.endsWith("asconfig.json")) return null;
					try {
						return readFileSync(join(root, baseDir, name), "utf8");
					} catch {
						return null;
					}
				},
				writeFile(name, contents) {
					if (name.endsWith(".wasm")) binary = Uint8Array.from(contents as Uint8Array);
				},
				listFiles: () => null,
			},
		);
		if (error || !binary) throw new Error(stderr.toString());
		const { instance } = await WebAssembly.instantiate(binary, {});
		const { memory, offsets } = instance.exports as unknown as {
			memory: WebAssembly.Memory;
			offsets(at: number): number;
		};
		const at = 65536;
		const count = offsets(at);
		expect(count).toBe(lines.length);
		return [...new Uint32Array(memory.buffer, at, count)];
	}

	test("equal the schema's, field by field, and so do the sizes", async () => {
		const found = await compilerOffsets();
		const expected = allStructs.flatMap((struct) => [
			...expanded(struct).map(({ name, offset }) => `${struct.name}.${name} ${offset}`),
			`${struct.name} ${struct.size}`,
		]);
		let next = 0;
		const actual = allStructs.flatMap((struct) => [
			...expanded(struct).map(({ name }) => `${struct.name}.${name} ${found[next++]}`),
			`${struct.name} ${found[next++]}`,
		]);
		expect(actual).toEqual(expected);
		expect(expected.length).toBeGreaterThan(600);
	});
});

describe("the schema itself", () => {
	test("no two structs, tables or records share a name, no two records a type", () => {
		const repeated = (list: readonly unknown[]) => list.filter((item, i) => list.indexOf(item) !== i);
		expect(repeated(allStructs.map(({ name }) => name))).toEqual([]);
		expect(repeated([...hostTables, ...domainTables].map(({ name }) => name))).toEqual([]);
		expect(repeated(records.map(({ name }) => name))).toEqual([]);
		expect(repeated(records.map(({ type }) => type))).toEqual([]);
	});

	test("a struct's key is its name, and no two of its fields share one", () => {
		for (const group of [structs, heads, imageStructs]) {
			for (const [key, struct] of Object.entries<Struct>(group)) {
				expect(struct.name).toBe(key);
				const names = struct.fields.map(({ name }) => name);
				expect(new Set(names).size, key).toBe(names.length);
			}
		}
	});

	test("every field is aligned to its own size, fields touch and fill their struct", () => {
		for (const { name, fields, size } of allStructs) {
			let end = 0;
			for (const field of fields) {
				expect(field.offset, `${name}.${field.name}`).toBe(end);
				expect(field.offset % scalarBytes[field.type], `${name}.${field.name}`).toBe(0);
				end += scalarBytes[field.type] * field.length;
			}
			expect(end, name).toBe(size);
		}
	});

	test("every part's count is a u32 of the head, a number, or all that is left in a last part", () => {
		for (const def of records) {
			def.parts.forEach((part, i) => {
				const what = `${def.name}.${part.table}`;
				const field = (name: string) => def.head?.fields.find((entry) => entry.name === name)?.type;
				if (part.kind === "sparse") {
					const names = def.head?.fields.slice(0, 3).map(({ name }) => name);
					expect(names, what).toEqual(["slotCount", "runCount", "rowCount"]);
					expect(def.head?.size, what).toBe(16);
					expect(def.parts.length, what).toBe(1);
				} else if (part.kind === "chunks") {
					expect([field("entryCount"), field("chunkBytes")], what).toEqual(["u32", "u32"]);
					expect(def.cardinality, what).toBe("slice");
				} else if (part.count === "rest") {
					expect(i, what).toBe(def.parts.length - 1);
				} else if (typeof part.count === "string") {
					expect(field(part.count), what).toBe("u32");
				} else {
					expect(part.count, what).toBeGreaterThan(0);
				}
			});
		}
	});

	test("P3: 'after' names records of the same section, without a circle, and libxc's types are libxc's", () => {
		const byName = new Map(records.map((def) => [def.name, def]));
		const depth = (name: string, seen: readonly string[] = []): number => {
			if (seen.includes(name)) throw new Error(`circle: ${[...seen, name]}`);
			const after = byName.get(name)?.after ?? [];
			return after.length ? 1 + Math.max(...after.map((other) => depth(other, [...seen, name]))) : 0;
		};
		for (const def of records) {
			for (const name of def.after) expect(byName.get(name)?.section, `${def.name} after ${name}`).toBe(def.section);
			expect(depth(def.name)).toBeLessThan(10);
			if (def.since === 1) expect(def.type & schema.TYPE_OPTIONAL, def.name).toBe(0);
			const ours = (def.type & schema.TYPE_LIVE_UPDATE) !== 0;
			expect(ours, def.name).toBe(def.name.startsWith("LU_"));
		}
		// In the order of the list a writer meets every "after".
		for (const def of records) {
			for (const name of def.after) {
				expect(records.findIndex((other) => other.name === name)).toBeLessThan(records.indexOf(def));
			}
		}
	});

	test("at most 64 record types: the core notes those it has seen in 64 bits", () => {
		expect(records.length).toBeLessThanOrEqual(64);
		expect(hostTables.length + domainTables.length).toBeLessThan(256);
	});
});

describe("generated files and the lock", () => {
	let copy: string;

	beforeAll(() => {
		copy = mkdtempSync(join(tmpdir(), "xlu-schema-"));
		// docs/PASSES.md and the table of rules are made from the tests' own tables.
		for (const path of ["src", "tools", "docs", "native", "assembly", "test/passes", "test/vectors", "package.json"]) {
			cpSync(join(root, path), join(copy, path), { recursive: true });
		}
		symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
	});
	afterAll(() => rmSync(copy, { recursive: true, force: true }));

	function check(): { status: number | null; stderr: string } {
		const { status, stderr } = spawnSync(process.execPath, ["tools/generate.mjs", "--check"], {
			cwd: copy,
			encoding: "utf8",
		});
		return { status, stderr };
	}

	function edited(path: string, from: string | RegExp, to: string): { status: number | null; stderr: string } {
		const file = join(copy, path);
		const before = readFileSync(file, "utf8");
		const after = before.replace(from, to);
		if (after === before) throw new Error(`${path} does not hold ${from}`);
		writeFileSync(file, after);
		try {
			return check();
		} finally {
			writeFileSync(file, before);
		}
	}

	test("this tree's are what the schema makes", () => {
		expect(check()).toEqual({ status: 0, stderr: "" });
	});

	const locked: [string, string, string, string][] = [
		[
			"two fields change places",
			'u32("xenMajor", "Xen\'s major version."),\n\t\tu32("xenMinor", "Xen\'s minor version."),',
			'u32("xenMinor", "Xen\'s minor version."),\n\t\tu32("xenMajor", "Xen\'s major version."),',
			"LU_VERSION",
		],
		["a field is renamed", 'u32("suspendPort",', 'u32("suspendChannel",', "LU_DOMAIN_STATE"],
		[
			"a field of a row grows",
			'struct("VcpuSlot", "A vCPU that exists.", [u32("vcpuId", "vCPU."), reserved("reserved0", 4)])',
			'struct("VcpuSlot", "A vCPU that exists.", [u64("vcpuId", "vCPU.")])',
			"LU_VCPUS",
		],
		[
			"a reserved field gets a name",
			'u32("virqHandlerCount", "Global VIRQ handlers."),\n\t\treserved("reserved0", 4),',
			'u32("virqHandlerCount", "Global VIRQ handlers."),\n\t\tu32("more", "More."),',
			"LU_HOST",
		],
		[
			"a record moves to another section",
			'0x40000013, "0", ["LU_DOMAIN", "LU_P2M"]',
			'0x40000013, "2", []',
			"LU_VCPUS",
		],
		["a type changes", "0x4000002b", "0x4000002f", "LU_CAPS"],
	];

	test.each(locked)("a changed layout without a new version fails: %s", (_what, from, to, name) => {
		const { status, stderr } = edited("src/format/schema.ts", from, to);
		expect(status).toBe(1);
		expect(stderr).toContain(`${name}: the layout of format version 1 changed`);
		expect(stderr).toContain(`${name}: the layout of format version 2 changed`);
	});

	test("a record that version 2 added is locked in version 2 alone", () => {
		const { status, stderr } = edited("src/format/schema.ts", 'u32("xenStart",', 'u32("xenBegin",');
		expect(status).toBe(1);
		expect(stderr).toContain("LU_PV32: the layout of format version 2 changed");
		expect(stderr).not.toContain("format version 1 changed");
	});

	test("a record that a released version did not have fails", () => {
		const { status, stderr } = edited(
			"src/format/schema.ts",
			/H\.Pv32,\n\t\t\[\],\n\t\t2,/,
			"H.Pv32,\n\t\t[],\n\t\t1,",
		);
		expect(status).toBe(1);
		expect(stderr).toContain("LU_PV32: the layout of format version 1 changed");
	});

	test("a generated file that was edited fails", () => {
		const { status, stderr } = edited(
			"assembly/layout.gen.ts",
			"export const RECORD_HEADER_BYTES: u32 = 8;",
			"export const RECORD_HEADER_BYTES: u32 = 16;",
		);
		expect(status).toBe(1);
		expect(stderr).toContain("assembly/layout.gen.ts is not what the schema generates");
	});

	test("a row of the pass-ordering suite that changed fails, until docs/PASSES.md is made anew", () => {
		const { status, stderr } = edited("test/passes/rows/order.ts", "Pass 0 of the host is repeated.", "Again.");
		expect(status).toBe(1);
		expect(stderr).toContain("docs/PASSES.md is not what test/passes/arrangements.ts generates");
	});

	test("an 'after' that is added has its row at once", () => {
		const from = 'record("LU_CAPS", 0x4000002b, "2", [],';
		const { status, stderr } = edited("src/format/schema.ts", from, from.replace("[]", '["LU_DOMAIN_STATE"]'));
		expect(status).toBe(1);
		expect(stderr).toContain("docs/PASSES.md is not what test/passes/arrangements.ts generates");
	});
});

describe("Xen's public interface, where the format and the core speak of it", () => {
	const abi = JSON.parse(readFileSync(join(root, "test/fixtures/guest-abi.json"), "utf8")) as {
		structs: Record<string, { size: number; fields: Record<string, { offset: number; size: number }> }>;
		constants: Record<string, number>;
	};
	const { constants } = abi;
	const xen = (name: string) => abi.structs[name] as NonNullable<(typeof abi.structs)[string]>;

	test("reserved domids", () => {
		for (const [name, value] of Object.entries(enums.DOMID)) expect(value, name).toBe(constants[`DOMID_${name}`]);
	});

	test("VIRQs, grant-map flags, guest-context flags", () => {
		for (const [name, value] of Object.entries(enums.VIRQ)) expect(value, name).toBe(constants[`VIRQ_${name}`]);
		expect(enums.GRANT_MAP).toEqual({
			device: constants.GNTMAP_device_map,
			host: constants.GNTMAP_host_map,
			readonly: constants.GNTMAP_readonly,
		});
		const { online, ...kept } = VGCF;
		expect({ ...kept, online }).toEqual({
			i387Valid: constants.VGCF_i387_valid,
			inKernel: constants.VGCF_in_kernel,
			failsafeDisablesEvents: constants.VGCF_failsafe_disables_events,
			syscallDisablesEvents: constants.VGCF_syscall_disables_events,
			online: constants.VGCF_online,
		});
		expect(enums.PV_VCPU_FLAG).toEqual(kept);
	});

	test("libxc's rows are Xen's structs", () => {
		const places = (struct: Struct) => struct.fields.filter(({ reserved }) => !reserved).map(({ offset }) => offset);
		for (const [ours, theirs] of [
			[structs.CpuidLeaf, "xen_cpuid_leaf"],
			[structs.MsrEntry, "xen_msr_entry"],
			[structs.PvTrap, "trap_info"],
		] as const) {
			expect(ours.size, theirs).toBe(xen(theirs).size);
			expect(places(ours), theirs).toEqual(Object.values(xen(theirs).fields).map(({ offset }) => offset));
		}
	});

	test("evtchn_pending and evtchn_mask in shared_info", () => {
		const { evtchn_pending, evtchn_mask } = xen("shared_info").fields;
		const page = new Uint8Array(4096);
		page[(evtchn_pending?.offset as number) + 3] = 1 << 5;
		expect(readTwoLevelPort(page, 29, 8)).toEqual({ pending: true, masked: false });
		page[(evtchn_mask?.offset as number) + 3] = 1 << 5;
		expect(readTwoLevelPort(page, 29, 8)).toEqual({ pending: true, masked: true });
		expect(readTwoLevelPort(page, 28, 8)).toEqual({ pending: false, masked: false });
		// 32 words of 4 octets each, behind as many vcpu_info of 64.
		expect(readTwoLevelPort(new Uint8Array(4096).fill(0x80, 2048, 2176), 1023, 4)).toEqual({
			pending: true,
			masked: false,
		});
		expect(readTwoLevelPort(new Uint8Array(4096).fill(0x01, 2176, 2304), 0, 4)).toEqual({
			pending: false,
			masked: true,
		});
	});

	/** Whether check accepts the tiny host with that change. */
	function accepts(change: (stream: Restitched) => void): boolean {
		const parsed = parse(saveTiny().stream);
		change(parsed);
		const stream = parsed.build();
		return refusal(stream, memoryFor(stream, tinyHost().preserved)) === undefined;
	}

	test("the core's limits: what still fits is accepted, one more is refused", () => {
		const info = 4096 - xen("vcpu_info").size;
		const block = 4096 - xen("evtchn_fifo_control_block").size;
		const fifo = constants.EVTCHN_FIFO_NR_CHANNELS as number;
		const twoLevel = constants.EVTCHN_2L_NR_CHANNELS as number;
		const virqs = constants.NR_VIRQS as number;
		const cases: [number, number, (value: number) => (stream: Restitched) => void][] = [
			[info, 1, (value) => (s) => s.record("LU_VCPU", 1).set("vcpuInfoOffset", value)],
			[block, 8, (value) => (s) => s.record("LU_EVTCHN", 1).row("ControlBlocks", 0, "offset", value)],
			[fifo, 1, (value) => (s) => s.record("LU_EVTCHN_PORTS", 1).set("slotCount", value)],
			[twoLevel, 1, (value) => (s) => s.record("LU_EVTCHN_PORTS", 0).set("slotCount", value)],
			[virqs - 1, 1, (value) => (s) => s.record("LU_EVTCHN_PORTS", 1).row("Ports", 2, "virq", value)],
			[
				constants.EVTCHN_FIFO_PRIORITY_MIN as number,
				1,
				(v) => (s) => s.record("LU_EVTCHN_PORTS", 1).row("Ports", 2, "priority", v),
			],
			[4096 / xen("grant_entry_v1").size, 1, (v) => (s) => s.record("LU_GRANT_ACTIVE", 1).set("slotCount", v)],
			[4096 / xen("grant_entry_v2").size, 1, (v) => (s) => s.record("LU_GRANT_ACTIVE", 2).set("slotCount", v)],
		];
		cases.forEach(([most, step, change], i) => {
			expect(accepts(change(most)), `case ${i}: ${most}`).toBe(true);
			expect(accepts(change(most + step)), `case ${i}: ${most + step}`).toBe(false);
		});
	});
});

test("diagrams: 8 octets a line, in offsets that ascend, wherever an array begins", () => {
	for (const document of ["FORMAT", "BUNDLE"]) {
		const blocks = readFileSync(join(root, `docs/${document}.md`), "utf8")
			.split("```")
			.filter((_, i) => i % 2 === 1);
		let lines = 0;
		for (const block of blocks.filter((text) => text.includes("+-----+"))) {
			let last = -1;
			for (const [line, offset] of block.matchAll(/^ *(\d+) \|.*$/gm)) {
				expect(line.slice(line.indexOf("|")).length, line).toBeLessThanOrEqual(49);
				expect(Number(offset), line).toBeGreaterThan(last);
				last = Number(offset);
				lines++;
			}
		}
		expect(lines).toBeGreaterThan(5);
	}
});
