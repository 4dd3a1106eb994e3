/**
 * The core and the independent reader on streams that nobody chose: fields and records changed under checksums that are
 * right, and octets changed as they are. Both accept, or both refuse by the same rule at the same place.
 *
 * Where the reader may differ: XLU-R040 at LU_HOST without a field is the core's own limit, an image or workspace of 4 GiB
 * (RULES.md, "The order of checks", 9), which the reader does not have. XLU-R030 is this file's own limit: a frame table that
 * needs more than the workspace here. Neither is compared; both need a host of many gigabytes.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NONE32 } from "../../src/format/enums.ts";
import { ruleId } from "../../src/format/rules.ts";
import { recordByType } from "../../src/format/schema.ts";
import type { PreservedPages } from "../../src/machine/model.ts";
import { memoryFor, newInstance, type RawExports, rawFault, root, saveModel, saveTiny } from "../support/core.ts";
import { mutate, mutation } from "../support/mutate.ts";
import { secondHost } from "../support/secondHost.ts";
import { tinyHost } from "../support/tinyHost.ts";
import { type Read, read } from "./reader/read.ts";

const MIB = 1 << 20;
const tiny = saveTiny();
const { preserved } = tinyHost();
const secondModel = secondHost();
const second = { ...saveModel(secondModel.model, secondModel.preserved), preserved: secondModel.preserved };
/** XLU_FUZZ=20 runs twenty times as many cases from other seeds. */
const fuzzFactor = Number(process.env.XLU_FUZZ ?? 1);

/** The core with windows that stay: a verdict costs no new instance. */
class Verdicts {
	readonly raw: RawExports;
	private readonly ctx: number;
	private readonly work: number;
	private readonly memory: number;
	private readonly stream: number;

	constructor() {
		const { core, raw } = newInstance();
		this.raw = raw;
		this.ctx = core.allocate(raw.contextBytes() >>> 0).pointer;
		this.work = core.allocate(8 * MIB).pointer;
		this.memory = core.allocate(2 * MIB).pointer;
		this.stream = core.allocate(8 * MIB).pointer;
	}

	/** Undefined if accepted. */
	of(stream: Uint8Array, memory: Uint8Array): string | undefined {
		const { raw, ctx } = this;
		const bytes = new Uint8Array(raw.memory.buffer);
		bytes.set(stream, this.stream);
		bytes.set(memory, this.memory);
		const refused =
			raw.open(ctx, this.stream, stream.length, 0) ||
			raw.plan(ctx) ||
			raw.check(ctx, this.work, 8 * MIB, this.memory, memory.length);
		if (!refused) return undefined;
		const { rule, offset, field } = rawFault(raw, ctx);
		return rule === 30 || (rule === 40 && field === NONE32) ? "a limit" : `${ruleId(rule)} at ${offset}`;
	}
}

function firstOf({ findings }: Read): string | undefined {
	return findings[0] && `${findings[0].rule} at ${findings[0].offset}`;
}

const verdicts = new Verdicts();

/** Compares; returns the verdict. */
function agreed(stream: Uint8Array, memory: Uint8Array): string | undefined {
	const core = verdicts.of(stream, memory);
	if (core === "a limit") return core;
	const found = read(stream, { memory });
	const reader = firstOf(found);
	if (core !== reader) throw new Error(`core: ${core}; reader: ${JSON.stringify(found.findings)}`);
	return core;
}

/** A host's stream and what goes with it. */
interface Base {
	stream: Uint8Array;
	preserved: PreservedPages;
}

function fuzz(
	count: number,
	most: number,
	seed: number,
	of: Base = { ...tiny, preserved },
): { accepted: number; rules: Set<string> } {
	let accepted = 0;
	const rules = new Set<string>();
	fc.assert(
		fc.property(fc.array(mutation, { minLength: 1, maxLength: most }), (mutations) => {
			const stream = mutate(of.stream, mutations);
			const verdict = agreed(stream, memoryFor(stream, of.preserved));
			if (verdict === undefined) accepted++;
			else rules.add(verdict.slice(0, 8));
		}),
		{ seed: seed * fuzzFactor, numRuns: count * fuzzFactor },
	);
	return { accepted, rules };
}

describe("the core and the reader agree", () => {
	test(
		"one field or record changed, checksums right",
		() => {
			const { accepted, rules } = fuzz(2500, 1, 11);
			expect(accepted).toBeGreaterThan(200);
			expect(rules.size).toBeGreaterThan(25);
		},
		120_000 * fuzzFactor,
	);

	test(
		"several at once: the first of several broken rules is the same one",
		() => {
			const { rules } = fuzz(1000, 5, 12);
			expect(rules.size).toBeGreaterThan(25);
		},
		120_000 * fuzzFactor,
	);

	test(
		"of version 2: one changed, several, and what it adds alone",
		() => {
			const { accepted, rules } = fuzz(1500, 1, 21, second);
			expect(accepted).toBeGreaterThan(100);
			expect(rules.size).toBeGreaterThan(25);
			expect(fuzz(500, 5, 22, second).rules.size).toBeGreaterThan(20);
			const seen = new Set<string | undefined>();
			fc.assert(
				fc.property(fc.array(mutation, { minLength: 1, maxLength: 2 }), (mutations) => {
					const stream = mutate(second.stream, mutations, ({ type }) => recordByType(type)?.since === 2);
					seen.add(agreed(stream, memoryFor(stream, second.preserved))?.slice(0, 8));
				}),
				{ seed: 23 * fuzzFactor, numRuns: 2000 * fuzzFactor },
			);
			for (const rule of ["XLU-R048", "XLU-R092", "XLU-R103", "XLU-R104", undefined]) expect(seen).toContain(rule);
		},
		120_000 * fuzzFactor,
	);

	test(
		"raw octets, and streams that end early",
		() => {
			const change = fc.record({ at: fc.nat(), octet: fc.nat(255) });
			fc.assert(
				fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), fc.option(fc.nat()), (changes, cut) => {
					// Checksums cover nearly all of a stream: the places that they do not are as likely as the others.
					const bare = [0, 24, 56, tiny.stream.length - 8, ...sectionOffsets];
					const stream = tiny.stream.slice(0, cut === null ? undefined : cut % tiny.stream.length);
					for (const { at, octet } of changes) {
						const from = bare[at % bare.length]! + ((at >>> 8) % 40);
						stream[at & 0x40 ? from : at % stream.length] = octet;
					}
					agreed(stream, tiny.memory);
				}),
				{ seed: 13 * fuzzFactor, numRuns: 2000 * fuzzFactor },
			);
		},
		120_000 * fuzzFactor,
	);

	/** Tables of a host, and entries in them: slots at both ends of the guest's parts, and any other. */
	const pageTables = (of: Base, tables: readonly number[], frames: readonly number[], seed: number) => {
		const entry = fc.record({
			table: fc.constantFrom(...tables),
			slot: fc.oneof(fc.nat(511), fc.nat(5), fc.integer({ min: 426, max: 430 })),
			frame: fc.oneof(fc.nat(1100), fc.constantFrom(...frames)),
			flags: fc.nat(7),
		});
		const seen = new Set<string | undefined>();
		fc.assert(
			fc.property(fc.array(entry, { minLength: 1, maxLength: 2 }), (entries) => {
				const pages = new Map([...of.preserved].map(([mfn, page]) => [mfn, page.slice()]));
				for (const { table, slot, frame, flags } of entries)
					new DataView(pages.get(table)!.buffer).setBigUint64(8 * slot, BigInt(frame * 4096 + flags), true);
				seen.add(agreed(of.stream, memoryFor(of.stream, pages))?.slice(0, 8));
			}),
			{ seed: seed * fuzzFactor, numRuns: 500 * fuzzFactor },
		);
		expect([...seen].sort()).toEqual(["XLU-R057", undefined]);
	};

	test(
		"page tables of every kind of entry",
		() => {
			const tables = [200, 201, 202, 203, 204, 205];
			pageTables({ ...tiny, preserved }, tables, tables, 14);
		},
		120_000 * fuzzFactor,
	);

	test(
		"page tables of a 32-bit guest",
		() => {
			const tables = [840, 841, 842, 843, 844];
			pageTables(second, tables, [...tables, 64, 850, 960], 15);
		},
		120_000 * fuzzFactor,
	);
});

const sectionOffsets = read(tiny.stream).stream!.sections.map(({ record }) => record.offset);

test("the streams of the golden hosts: accepted by both", () => {
	for (const name of ["tiny", "pv", "pvh", "hvm"]) {
		const [stream, memory] = ["", ".mem"].map((end) => readFileSync(join(root, `test/golden/v1/${name}.xlu${end}`)));
		expect(agreed(new Uint8Array(stream!), new Uint8Array(memory!)), name).toBeUndefined();
	}
});
