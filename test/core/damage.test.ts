/**
 * X1, X4: whatever happens to a stream or to its preserved memory, the core refuses by a rule, changes nothing of the
 * target, and never traps or hangs. Every truncation, every single flipped bit, garbage, and hostile fields under
 * checksums that are right.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fieldAt } from "../../src/format/decode.ts";
import { DOMID, NONE32 } from "../../src/format/enums.ts";
import { ruleByNumber } from "../../src/format/rules.ts";
import { imageStructs } from "../../src/format/schema.ts";
import { inspectStream } from "../../src/inspect/stream.ts";
import { hashOf, memoryFor, newInstance, type RawExports, rawFault, saveTiny } from "../support/core.ts";
import { mutate, mutation } from "../support/mutate.ts";
import { parse } from "../support/restitch.ts";
import { tinyHost } from "../support/tinyHost.ts";

const tiny = saveTiny();
const { preserved } = tinyHost();
const MIB = 1 << 20;
/** XLU_FUZZ=20 runs twenty times as many cases from other seeds. */
const fuzzFactor = Number(process.env.XLU_FUZZ ?? 1);

/** An instance with fixed windows; the stream's ends with the memory, so that a read behind it would trap. */
class Bench {
	readonly raw: RawExports;
	readonly ctx: number;
	readonly work: number;
	readonly workBytes: number;
	readonly memory: number;
	readonly target: number;
	readonly targetBytes: number;
	readonly out: number;
	readonly end: number;

	constructor(workBytes = MIB, targetBytes = MIB, streamBytes = MIB) {
		const { core, raw } = newInstance();
		this.raw = raw;
		this.ctx = core.allocate(raw.contextBytes() >>> 0).pointer;
		this.workBytes = workBytes;
		this.targetBytes = targetBytes;
		this.work = core.allocate(workBytes).pointer;
		this.memory = core.allocate(MIB).pointer;
		this.target = core.allocate(targetBytes).pointer;
		this.out = core.allocate(64).pointer;
		core.allocate(streamBytes);
		this.end = raw.memory.buffer.byteLength;
	}

	get bytes(): Uint8Array {
		return new Uint8Array(this.raw.memory.buffer);
	}

	/** Where a stream of that length stands: 8-aligned, as near to the end of the memory as that allows. */
	place(stream: Uint8Array): number {
		const at = (this.end - stream.length) & ~7;
		this.bytes.fill(0xff, at);
		this.bytes.set(stream, at);
		return at;
	}

	placeMemory(memory: Uint8Array): void {
		this.bytes.set(memory, this.memory);
	}

	/** 0 if accepted: open, plan and check with the preserved memory in place, if any. */
	check(stream: number, length: number, memoryBytes: number, flags = 0): number {
		const { raw, ctx } = this;
		return (
			raw.open(ctx, stream, length, flags) ||
			raw.plan(ctx) ||
			raw.check(ctx, this.work, this.workBytes, memoryBytes ? this.memory : 0, memoryBytes)
		);
	}
}

/** A refusal names a rule of the table, a place inside the stream, and a field that can be told. */
function expectNamed(bench: Bench, at: number, length: number, what: string): number {
	const { rule, offset, recordType, field } = rawFault(bench.raw, bench.ctx);
	if (!ruleByNumber(rule)) throw new Error(`${what}: refused without a rule (${rule})`);
	if (offset > length) throw new Error(`${what}: rule ${rule} points at ${offset}, behind the stream`);
	if (field !== NONE32 && fieldAt(bench.bytes.subarray(at, at + length), offset, recordType, field) === "") {
		throw new Error(`${what}: rule ${rule} points at a field without a name`);
	}
	return rule;
}

describe("a small stream, damaged", () => {
	test("the stream itself is accepted (or the tests below prove nothing)", () => {
		const bench = new Bench();
		bench.placeMemory(tiny.memory);
		expect(bench.check(bench.place(tiny.stream), tiny.stream.length, tiny.memory.length)).toBe(0);
	});

	test("every truncation: refused", () => {
		const bench = new Bench();
		const rules = new Set<number>();
		for (let length = 0; length < tiny.stream.length; length++) {
			const at = bench.place(tiny.stream.subarray(0, length));
			for (const flags of [0, 1]) {
				if (bench.check(at, length, 0, flags) === 0) throw new Error(`${length} octets were accepted`);
				rules.add(expectNamed(bench, at, length, `${length} octets`));
			}
		}
		expect([...rules].map((rule) => ruleByNumber(rule)?.name)).toEqual(["TRUNCATED"]);
	});

	test("every single flipped bit: refused; before check, but for what no checksum covers", () => {
		const bench = new Bench();
		const { raw, ctx } = bench;
		const at = bench.place(tiny.stream);
		const { bytes } = bench;
		const byRule = new Map<string, number>();
		for (let octet = 0; octet < tiny.stream.length; octet++) {
			for (let bit = 0; bit < 8; bit++) {
				bytes[at + octet] = (tiny.stream[octet] as number) ^ (1 << bit);
				if (raw.open(ctx, at, tiny.stream.length, 0) === 0) throw new Error(`octet ${octet} bit ${bit}: opened`);
				const rule = expectNamed(bench, at, tiny.stream.length, `octet ${octet} bit ${bit}`);
				const name = ruleByNumber(rule)?.name as string;
				byRule.set(name, (byRule.get(name) ?? 0) + 1);
			}
			bytes[at + octet] = tiny.stream[octet] as number;
		}
		expect([...byRule.values()].reduce((a, b) => a + b, 0)).toBe(tiny.stream.length * 8);
		// Nearly all of a stream stands under a section's checksum.
		expect(byRule.get("CHECKSUM")).toBeGreaterThan(tiny.stream.length * 8 * 0.9);
		expect(bench.check(at, tiny.stream.length, 0)).toBe(0);
	});

	test("zeros behind it are its last frame's padding or damage: any other octet, and a whole frame, are refused", () => {
		const bench = new Bench();
		const pad = (count: number, at = -1) => {
			const stream = new Uint8Array(tiny.stream.length + count);
			stream.set(tiny.stream);
			if (at >= 0) stream[tiny.stream.length + at] = 1;
			return bench.check(bench.place(stream), stream.length, 0, 1);
		};
		expect(pad(0)).toBe(0);
		expect(pad(4095)).toBe(0);
		expect(pad(4096)).not.toBe(0);
		expect(ruleByNumber(rawFault(bench.raw, bench.ctx).rule)?.name).toBe("END");
		for (const at of [0, 1, 7, 8, 4094]) {
			expect(pad(4095, at), `octet ${at}`).not.toBe(0);
			expect(ruleByNumber(rawFault(bench.raw, bench.ctx).rule)?.name).toBe("END");
		}
		const bare = new Uint8Array(tiny.stream.length + 8);
		bare.set(tiny.stream);
		expect(bench.check(bench.place(bare), bare.length, 0, 0)).not.toBe(0);
	});
});

describe("S3: the preserved memory, damaged", () => {
	const pagesOffset = new DataView(tiny.memory.buffer).getUint32(28, true);

	function eachFlip(octets: Iterable<number>): void {
		const bench = new Bench();
		bench.placeMemory(tiny.memory);
		const at = bench.place(tiny.stream);
		const { raw, ctx, bytes } = bench;
		expect(bench.check(at, tiny.stream.length, tiny.memory.length)).toBe(0);
		const before = bytes.slice(bench.target, bench.target + bench.targetBytes);
		for (const octet of octets) {
			for (let bit = 0; bit < 8; bit++) {
				bytes[bench.memory + octet] = (tiny.memory[octet] as number) ^ (1 << bit);
				const status = raw.check(ctx, bench.work, bench.workBytes, bench.memory, tiny.memory.length);
				const name = status && ruleByNumber(rawFault(raw, ctx).rule)?.name;
				if (name !== "MEMORY") throw new Error(`octet ${octet} bit ${bit}: ${name || "accepted"}`);
				if (raw.target(ctx, bench.target, bench.targetBytes) === 0) throw new Error("a target after a refusal");
			}
			bytes[bench.memory + octet] = tiny.memory[octet] as number;
		}
		expect(Buffer.compare(bytes.subarray(bench.target, bench.target + bench.targetBytes), before)).toBe(0);
		expect(bench.check(at, tiny.stream.length, tiny.memory.length)).toBe(0);
	}

	test("every bit of its header and of its directory: refused with MEMORY, no restore after it", () => {
		expect(pagesOffset).toBe(4096);
		const directory = imageStructs.MemoryHeader.size + 8 * preserved.size;
		eachFlip(Array.from({ length: directory }, (_, octet) => octet));
	});

	test("bits of its padding and pages, sampled: refused with MEMORY", () => {
		const octets: number[] = [pagesOffset - 1, tiny.memory.length - 1];
		for (let octet = 200; octet < tiny.memory.length; octet += 997) octets.push(octet);
		eachFlip(octets);
	});

	test("every truncation to a page, octets short, octets more: refused with MEMORY", () => {
		const bench = new Bench();
		bench.placeMemory(tiny.memory);
		const at = bench.place(tiny.stream);
		const lengths = [1, 8, 31, 32, 33, 4095, tiny.memory.length - 1, tiny.memory.length + 1, tiny.memory.length + 4096];
		for (let length = 4096; length < tiny.memory.length; length += 4096) lengths.push(length);
		for (const length of lengths) {
			expect(bench.check(at, tiny.stream.length, length), `${length} octets`).not.toBe(0);
			expect(ruleByNumber(rawFault(bench.raw, bench.ctx).rule)?.name).toBe("MEMORY");
		}
	});

	test("memory of another stream, sound in itself: refused with MEMORY", () => {
		const bench = new Bench();
		bench.placeMemory(memoryFor(new Uint8Array(8), preserved));
		expect(bench.check(bench.place(tiny.stream), tiny.stream.length, tiny.memory.length)).not.toBe(0);
		expect(ruleByNumber(rawFault(bench.raw, bench.ctx).rule)?.name).toBe("MEMORY");
	});
});

describe("X4: no input makes the core trap, loop without bound, or leave its windows", () => {
	const bench = new Bench(4 * MIB, 8 * MIB, 8 * MIB);
	const { raw, ctx } = bench;

	test("garbage: refused", () => {
		let seed = 1;
		const next = () => {
			seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
			return seed >>> 24;
		};
		for (let round = 0; round < 2000; round++) {
			const garbage = Uint8Array.from({ length: 24 + ((round * 37) % 2000) }, next);
			// Half of it behind a sound header, a quarter behind a sound section H.
			if (round % 2) garbage.set(tiny.stream.subarray(0, 24));
			if (round % 4 === 3) garbage.set(tiny.stream.subarray(0, Math.min(garbage.length, 56)));
			const at = bench.place(garbage);
			expect(bench.check(at, garbage.length, 0)).not.toBe(0);
			expectNamed(bench, at, garbage.length, `round ${round}`);
		}
	});

	/** A stream of sections without records, framed and hashed as it should be. */
	function bareSections(list: readonly { pass: number; domid: number }[]): Uint8Array {
		const parsed = parse(tiny.stream);
		const H = parsed.section("H");
		const emptyHash = hashOf(new Uint8Array(0));
		parsed.sections = [H, ...list.map((one) => ({ ...one, records: [], claims: { hash: emptyHash } }))];
		return parsed.build();
	}

	test.each([
		["one domain's section 100,000 times", () => Array.from({ length: 100_000 }, () => ({ pass: 1, domid: 5 }))],
		["more domains than domids", () => Array.from({ length: 40_000 }, (_, i) => ({ pass: 1, domid: i % 0x7ff0 }))],
		[
			"10,000 domains, the other way round in each pass",
			() => {
				const domids = Array.from({ length: 10_000 }, (_, i) => i);
				const back = [...domids].reverse();
				return [
					...domids.map((domid) => ({ pass: 1, domid })),
					{ pass: 2, domid: DOMID.XEN },
					...back.map((domid) => ({ pass: 3, domid })),
					...domids.map((domid) => ({ pass: 4, domid: (domid * 7919) % 10_000 })),
				];
			},
		],
	])("repetitions are refused in little time: %s", (_what, list) => {
		const stream = bareSections(list());
		const { core, raw: own } = newInstance();
		const block = core.allocate(own.contextBytes() >>> 0).pointer;
		const window = core.place(stream);
		const work = core.allocate(16 * MIB);
		const start = performance.now();
		const refused =
			own.open(block, window.pointer, window.length, 0) ||
			own.plan(block) ||
			own.check(block, work.pointer, work.length, 0, 0);
		expect(refused).toBe(1);
		expect(performance.now() - start).toBeLessThan(5000);
	});

	/** What check accepts restores through every pass, and what was restored saves and restores to itself. */
	function expectRestorable(stream: Uint8Array): void {
		const figure = (name: string) => {
			const field = imageStructs.Context.fields.find((entry) => entry.name === name);
			return new DataView(raw.memory.buffer).getUint32(ctx + (field?.offset as number), true);
		};
		const imageBytes = figure("planImageBytes");
		const domids = parse(stream)
			.sections.filter(({ pass }) => pass === 1)
			.map(({ domid }) => domid);
		if (raw.target(ctx, bench.target, bench.targetBytes) !== 0) throw new Error("target refused");
		for (const pass of [0, 1, 2]) {
			if (pass < 2 && raw.restore(ctx, pass, DOMID.XEN) !== 0) throw new Error(`pass ${pass} of the host failed`);
			for (const domid of domids) if (raw.restore(ctx, pass, domid) !== 0) throw new Error(`pass ${pass} of ${domid}`);
		}
		if (raw.finish(ctx) !== 0) throw new Error("finish refused");
		const { target } = bench;
		if (raw.compare(ctx, target, imageBytes, target, imageBytes) !== 0) throw new Error("not equal to itself");
		if (raw.digest(ctx, target, imageBytes, bench.out) !== 0) throw new Error("no digest");
		const digest = new DataView(raw.memory.buffer).getBigUint64(bench.out, true);
		const image = bench.bytes.slice(target, target + imageBytes);
		// Once more through a stream of its own.
		const { core } = newInstance();
		const from = core.place(image);
		const context = core.createContext();
		const saved = context.save(from, core.allocate(context.planSave(from)));
		const again = core.bytes(saved).slice();
		const second = newInstance();
		const window = second.core.place(again);
		const opened = second.core.createContext();
		opened.open(window);
		const sizes = opened.plan(window);
		opened.check(window, second.core.allocate(sizes.workBytes), second.core.place(memoryFor(again, preserved)));
		expect(sizes.imageBytes).toBe(imageBytes);
		const to = second.core.allocate(sizes.imageBytes);
		opened.target(to);
		for (const pass of [0, 1, 2]) {
			if (pass < 2) opened.restore(pass, DOMID.XEN);
			for (const domid of opened.domids()) opened.restore(pass, domid);
		}
		opened.finish();
		if (opened.digest(to) !== digest) {
			const a = second.core.place(image);
			throw new Error(`restored, saved and restored it differs: ${JSON.stringify(opened.compare(a, to))}`);
		}
	}

	function fuzz(count: number, most: number, seed: number): { accepted: number; rules: Map<string, number> } {
		let accepted = 0;
		let seen = 0;
		const rules = new Map<string, number>();
		const guard = bench.bytes.slice(bench.target, bench.target + 4096);
		fc.assert(
			fc.property(fc.array(mutation, { minLength: 1, maxLength: most }), (mutations) => {
				const stream = mutate(tiny.stream, mutations);
				const memory = memoryFor(stream, preserved);
				bench.placeMemory(memory);
				// What shows a stream to people trusts it no more than the core does.
				if (seen++ % 5 === 0) inspectStream(stream);
				const start = performance.now();
				const at = bench.place(stream);
				const refused = bench.check(at, stream.length, memory.length);
				const elapsed = performance.now() - start;
				if (elapsed > 2000) throw new Error(`${elapsed} ms for ${stream.length} octets`);
				if (refused) {
					const rule = expectNamed(bench, at, stream.length, "mutated");
					const name = ruleByNumber(rule)?.name as string;
					rules.set(name, (rules.get(name) ?? 0) + 1);
					if (raw.target(ctx, bench.target, bench.targetBytes) === 0) throw new Error("a target after a refusal");
					return;
				}
				accepted++;
				expectRestorable(stream);
				bench.bytes.set(guard, bench.target);
			}),
			{ seed: seed * fuzzFactor, numRuns: count * fuzzFactor },
		);
		return { accepted, rules };
	}

	test(
		"one hostile field under sound checksums: refused, or restorable through every pass",
		() => {
			const { accepted, rules } = fuzz(4000, 1, 1);
			expect(accepted).toBeGreaterThan(300);
			expect(rules.size).toBeGreaterThan(25);
		},
		120_000 * fuzzFactor,
	);

	test(
		"several at once",
		() => {
			const { rules } = fuzz(1500, 5, 2);
			expect(rules.size).toBeGreaterThan(25);
		},
		120_000 * fuzzFactor,
	);
});
