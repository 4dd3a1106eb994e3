#!/usr/bin/env node
/**
 * The bulk codecs against memcpy, in this engine: one table of a 4 GiB domain (2^20 entries, 8 MiB) for each layout, coded,
 * hashed, checked and decoded in turns with a copy of it, all in one process and one memory. What is reported is each
 * operation's time over that of the copy in the same turn, so that a machine that is busy, or slow, is so for both.
 *
 *   node bench/codecs.mjs [--turns N] [--json FILE] [--markdown FILE]
 *
 *     copy     memory.copy in blocks of 32 KiB: faster than all at once
 *     read, fill      the limits: a loop that only reads the table, a loop that only writes it
 *     encode, decode  the codec; check is what precedes a decode
 *     hash     XXH3-64 of the coding, right after it was written
 *
 * Both builds of the codecs; the layouts are those of bench/instructions.c. Never a test: times depend on the machine.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { run } from "../tools/build-native.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const { values } = parseArgs({
	options: {
		turns: { type: "string", default: "41" },
		json: { type: "string" },
		markdown: { type: "string" },
	},
});
const turns = Number(values.turns);

const ENTRIES = 2 ** 20;
const BYTES = ENTRIES * 8;
const BLOCK_BYTES = 32768;
const WARM_UP = 8;
const ALL = 0xffff_ffff_ffff_ffffn;
const PRESENT = 1n << 63n;
const ACCESS_RWX = 7n << 44n;
const ORDER_2M = 9n << 48n;

const builds = {
	simd: "--enable simd,bulk-memory",
	plain: "--enable bulk-memory --disable simd",
};

// --- layouts -----------------------------------------------------------------------------------------------------

let state = 0x9e3779b9;
/** Below `bound`; mulberry32: the same layouts in every run. */
function below(bound) {
	state = (state + 0x6d2b79f5) | 0;
	let t = Math.imul(state ^ (state >>> 15), 1 | state);
	t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
	return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * bound);
}

function geometric(mean) {
	let length = 1;
	while (below(mean) !== 0) length++;
	return length;
}

function shuffled(count) {
	const row = Uint32Array.from({ length: count }, (_, i) => i);
	for (let i = count; i > 1; i--) {
		const other = below(i);
		[row[i - 1], row[other]] = [row[other], row[i - 1]];
	}
	return row;
}

/** Frames 0 to count in pieces of mean length, the pieces in another order. */
function pieces(count, mean) {
	const starts = [];
	for (let at = 0; at < count; at += mean === 1 ? 1 : geometric(mean)) starts.push(at);
	starts.push(count);
	const frames = new Uint32Array(count);
	let filled = 0;
	for (const piece of shuffled(starts.length - 1)) {
		for (let frame = starts[piece]; frame < starts[piece + 1]; frame++) frames[filled++] = frame;
	}
	return frames;
}

const small = PRESENT | ACCESS_RWX;
const layouts = {
	superpages: () => {
		const blocks = shuffled(ENTRIES / 512);
		const table = new BigUint64Array(ENTRIES);
		for (const [i, block] of blocks.entries()) {
			const isBroken = below(100) === 0;
			const frames = isBroken ? pieces(512, 8) : undefined;
			for (let j = 0; j < 512; j++) {
				table[i * 512 + j] = frames
					? small | BigInt(block * 512 + frames[j])
					: small | ORDER_2M | BigInt(block * 512 + j);
			}
		}
		return table;
	},
	own: () => {
		const table = new BigUint64Array(ENTRIES);
		for (let at = 0; at < ENTRIES; ) {
			const end = Math.min(ENTRIES, at + geometric(350));
			const owner = below(41);
			table.fill(owner === 0 ? 0n : BigInt(0x30000 | owner), at, end);
			at = end;
		}
		return table;
	},
	runs: () => BigUint64Array.from(pieces(ENTRIES, 64), (frame) => small | BigInt(frame)),
	random: () => BigUint64Array.from(shuffled(ENTRIES), (frame) => small | BigInt(frame * 256 + below(256))),
	alternating: () => BigUint64Array.from({ length: ENTRIES }, (_, i) => BigInt(0x30001 + (i % 2))),
	holes: () => BigUint64Array.from({ length: ENTRIES }, (_, i) => (i % 2 ? 0n : small | BigInt(below(2 ** 28)))),
	descending: () => BigUint64Array.from({ length: ENTRIES }, (_, i) => small | BigInt(ENTRIES - i)),
};

// --- measuring ---------------------------------------------------------------------------------------------------

async function instantiate(build) {
	const directory = join(root, "build/bench", build);
	mkdirSync(directory, { recursive: true });
	const file = join(directory, "bench.wasm");
	const options = `--runtime stub -O3 --noAssert --use abort= --memoryBase 1024 ${builds[build]}`.split(" ");
	run(process.execPath, [
		join(root, "node_modules/assemblyscript/bin/asc.js"),
		...["assembly/test/bench.ts", "--outFile", file, ...options],
	]);
	const { instance } = await WebAssembly.instantiate(readFileSync(file), {});
	return instance.exports;
}

/** Windows of the one memory: the table, room for its coding, and where tables are written. */
const TABLE = 2 ** 20;
const CODED = TABLE + BYTES + 2 ** 20;
const TARGET = CODED + BYTES + 2 ** 20;
const MEMORY_BYTES = TARGET + BYTES + 2 ** 20;

function summary(samples) {
	const sorted = [...samples].sort((a, b) => a - b);
	const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
	return { median: at(0.5), low: at(0.1), high: at(0.9) };
}

function measure(core, table) {
	const memory = new BigUint64Array(core.memory.buffer);
	memory.set(table, TABLE / 8);
	const bytes = core.encodeTable(8, TABLE, ENTRIES, ALL, CODED) >>> 0;
	if (core.checkChunks(8, CODED, bytes, ENTRIES) !== 0n) throw new Error("the coding was refused");
	memory.fill(1n, TARGET / 8, (TARGET + BYTES) / 8);
	core.decodeChunks(8, CODED, bytes, ENTRIES, TARGET);
	const decoded = Buffer.from(core.memory.buffer, TARGET, BYTES);
	if (decoded.compare(Buffer.from(table.buffer)) !== 0) throw new Error("the table that came out is another one");
	const operations = {
		copy: () => core.copy(TARGET, TABLE, BYTES, BLOCK_BYTES),
		read: () => core.read(TABLE, BYTES),
		fill: () => core.fill(TARGET, BYTES, 0n),
		encode: () => core.encodeTable(8, TABLE, ENTRIES, ALL, CODED),
		"encode, hash": () => core.xxh3_64(CODED, core.encodeTable(8, TABLE, ENTRIES, ALL, CODED)),
		check: () => core.checkChunks(8, CODED, bytes, ENTRIES),
		decode: () => core.decodeChunks(8, CODED, bytes, ENTRIES, TARGET),
	};
	const ratios = Object.fromEntries(Object.keys(operations).map((name) => [name, []]));
	for (let turn = -WARM_UP; turn < turns; turn++) {
		let copied = 0;
		for (const [name, operation] of Object.entries(operations)) {
			const start = performance.now();
			operation();
			const ms = performance.now() - start;
			if (name === "copy") copied = ms;
			if (turn >= 0) ratios[name].push(name === "copy" ? ms : ms / copied);
		}
	}
	const { copy, ...others } = Object.fromEntries(Object.entries(ratios).map(([name, list]) => [name, summary(list)]));
	return { octetsPerEntry: bytes / ENTRIES, copyMs: copy, ratios: others };
}

const results = {};
for (const build of Object.keys(builds)) {
	const core = await instantiate(build);
	core.memory.grow(Math.ceil(MEMORY_BYTES / 65536) - core.memory.buffer.byteLength / 65536);
	results[build] = {};
	for (const [name, make] of Object.entries(layouts)) {
		state = 0x9e3779b9;
		results[build][name] = measure(core, make());
	}
}

const machine = { node: process.version, cpu: cpus()[0]?.model ?? "unknown", cpus: cpus().length };
const lines = [
	`Time over that of a copy of the table (8 MiB, 2^20 entries): median of ${turns} turns, 10 % to 90 % of them in brackets.`,
	`${machine.cpus} x ${machine.cpu}, Node ${machine.node}.`,
];
for (const [build, rows] of Object.entries(results)) {
	const columns = Object.keys(Object.values(rows)[0].ratios);
	lines.push("", `**${build}**`, "", `| layout | octets per entry | ${columns.join(" | ")} |`);
	lines.push(`|---|---|${columns.map(() => "---|").join("")}`);
	for (const [name, { octetsPerEntry, ratios }] of Object.entries(rows)) {
		const cells = columns.map((column) => {
			const { median, low, high } = ratios[column];
			return `${median.toFixed(2)} (${low.toFixed(2)}-${high.toFixed(2)})`;
		});
		lines.push(`| ${name} | ${octetsPerEntry.toFixed(3)} | ${cells.join(" | ")} |`);
	}
}
console.log(lines.join("\n"));
if (values.json) writeFileSync(values.json, `${JSON.stringify({ machine, turns, results }, null, "\t")}\n`);
if (values.markdown) writeFileSync(values.markdown, `${lines.join("\n")}\n`);
