/**
 * F1: both byte orders are read. A big-endian stream restores to what its little-endian twin restores to, is refused by the
 * same rules at the same places, and no damage makes the core trap.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { toBigEndian, toLittleEndian } from "../../src/format/endian.ts";
import { imageStructs } from "../../src/format/schema.ts";
import { inspectStream, readHeader, walkRecords } from "../../src/inspect/stream.ts";
import { hashOf, memoryFor, newCore, openCheck, refusal, restoreAll, root, saveTiny } from "../support/core.ts";
import { mutate, mutation } from "../support/mutate.ts";
import { parse, StreamRecord } from "../support/restitch.ts";
import { tinyHost } from "../support/tinyHost.ts";

const golden = join(root, "test/golden");
const streams = readdirSync(golden).flatMap((version) =>
	readdirSync(join(golden, version))
		.filter((file) => file.endsWith(".xlu"))
		.map((file) => `${version}/${file}`),
);
const octetsOf = (file: string) => new Uint8Array(readFileSync(join(golden, file)));
const tiny = saveTiny();

/** Preserved memory, bound to another stream. */
function boundTo(stream: Uint8Array, memory: Uint8Array): Uint8Array {
	const { fields } = imageStructs.MemoryHeader;
	const bound = memory.slice();
	const offset = fields.find(({ name }) => name === "streamHash")?.offset as number;
	new DataView(bound.buffer).setBigUint64(offset, hashOf(stream), true);
	return bound;
}

/** Digest of what a stream restores to. */
function digestOf(stream: Uint8Array, memory: Uint8Array): bigint {
	const checked = openCheck(stream, memory);
	return checked.context.digest(restoreAll(checked));
}

describe.each(streams)("%s", (file) => {
	const stream = octetsOf(file);
	const memory = octetsOf(`${file}.mem`);
	const big = toBigEndian(stream, hashOf);

	test("turned, it restores to the same digest", () => {
		expect(readHeader(big).endianness).toBe("big");
		expect(Buffer.compare(big, stream)).not.toBe(0);
		expect(digestOf(big, boundTo(big, memory))).toBe(digestOf(stream, memory));
	});

	test("handed over in frames, it does as well; with the memory of its twin it does not", () => {
		const padded = new Uint8Array(Math.ceil(big.length / 4096) * 4096);
		padded.set(big);
		expect(refusal(padded, boundTo(big, memory), true)).toBeUndefined();
		expect(refusal(big, memory)?.fault.ruleId).toBe("XLU-R034");
	});

	test("it is shown as its twin is, and turned back it is its twin but for checksums", () => {
		const { records, endianness } = inspectStream(big);
		const twin = inspectStream(stream);
		expect(endianness).toBe("big");
		const told = (list: typeof records) =>
			list.filter(({ name }) => name !== "LU_SECTION" && name !== "LU_INDEX").map(({ fields }) => fields);
		expect(told(records)).toEqual(told(twin.records));
		const back = toBigEndian(toLittleEndian(big));
		expect(Buffer.compare(back, big)).toBe(0);
	});
});

test("it is read once: opened again where it was turned, it is refused", () => {
	const core = newCore();
	const window = core.place(toBigEndian(tiny.stream, hashOf));
	core.createContext().open(window);
	expect(() => core.createContext().open(window)).toThrow(/XLU-R/);
});

test("numbers are turned, octets are not; unknown optional records are left as they are", () => {
	const parsed = parse(tiny.stream);
	parsed.section("2", 1).records.push(new StreamRecord(0xc0001234, Uint8Array.of(1, 2, 3, 4, 5)));
	const stream = parsed.build();
	const big = toBigEndian(stream, hashOf);
	expect(refusal(big, memoryFor(big, tinyHost().preserved))).toBeUndefined();
	const bodies = (octets: Uint8Array) => [...walkRecords(octets)].map(({ body }) => Buffer.from(body).toString("hex"));
	const type = (octets: Uint8Array, n: number) => [...walkRecords(octets)][n]?.type;
	const n = bodies(stream).indexOf("0102030405");
	expect([bodies(big)[n], type(big, n)]).toEqual(["0102030405", 0xc0001234]);
	// As they stand: a version's number, and its text.
	const at = [...walkRecords(stream)].find(({ def }) => def?.name === "LU_VERSION")?.offset as number;
	expect(new DataView(big.buffer).getUint32(at)).toBe(0x40000001);
	expect(new DataView(big.buffer).getUint32(at + 8)).toBe(new DataView(stream.buffer).getUint32(at + 8, true));
	expect(big.subarray(at + 24, at + 32)).toEqual(stream.subarray(at + 24, at + 32));
});

describe("X4: hostile big-endian streams", () => {
	const { preserved } = tinyHost();

	test("changes of fields and records: the verdict of the little-endian twin, at the same place", () => {
		const big = newCore();
		const little = newCore();
		fc.assert(
			fc.property(fc.array(mutation, { minLength: 1, maxLength: 3 }), (mutations) => {
				const stream = mutate(tiny.stream, mutations);
				const turned = toBigEndian(stream, hashOf);
				big.reset();
				little.reset();
				const verdicts = [
					refusal(stream, memoryFor(stream, preserved), false, little),
					refusal(turned, memoryFor(turned, preserved), false, big),
				].map((refused) => {
					const { ruleId, offset, record, domid, pass } = refused?.fault ?? {};
					return [refused?.call, refused?.error.code, ruleId, offset, record, domid, pass];
				});
				expect(verdicts[1]).toEqual(verdicts[0]);
			}),
			{ numRuns: 1500, seed: 7 },
		);
	});

	test("any octets changed, no checksum made right: a coded refusal", () => {
		const turned = toBigEndian(tiny.stream, hashOf);
		const core = newCore();
		fc.assert(
			fc.property(
				fc.array(fc.tuple(fc.nat(turned.length - 25), fc.integer({ min: 1, max: 255 })), {
					minLength: 1,
					maxLength: 4,
				}),
				(changes) => {
					const stream = turned.slice();
					for (const [at, bits] of changes) stream[24 + at] = (stream[24 + at] as number) ^ bits;
					if (Buffer.compare(stream, turned) === 0) return;
					core.reset();
					expect(refusal(stream, undefined, false, core)?.error.code).toMatch(/^XLU_E_(DAMAGED|VERSION|REFUSED)$/);
				},
			),
			{ numRuns: 2000, seed: 11 },
		);
	});

	test("cut short anywhere: XLU-R001 or what its last record breaks", () => {
		const turned = toBigEndian(tiny.stream, hashOf);
		const core = newCore();
		for (let length = 18; length < turned.length; length += 97) {
			core.reset();
			const refused = refusal(turned.slice(0, length), undefined, false, core);
			core.reset();
			expect(refused?.fault.ruleId).toBe(refusal(tiny.stream.slice(0, length), undefined, false, core)?.fault.ruleId);
		}
	});
});
