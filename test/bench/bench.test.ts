/**
 * The bench measures what it says that it measures: its statistics, that peers write the core's stream before they are
 * timed, that a run writes figures. No test asserts a time.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildCodecPeer, codecPeers, root } from "../../bench/build.mjs";
import { CodecMemory, codingRoom } from "../../bench/codecMemory.mjs";
import { alternate, apart, Clock, line, quantile, ratio, standing, summary, took } from "../../bench/harness.mjs";
import { makeTable, tableLayouts } from "../../bench/layouts.mjs";
import { PeerProcess } from "../../bench/peerProcess.mjs";
import { quoted } from "../../bench/quote.mjs";
import { comparison, digits, withSpread } from "../../bench/report.mjs";
import { serializers } from "../../bench/serializers.mjs";
import { removeTableFile, writeTableFile } from "../../bench/tableFile.mjs";

interface Figure {
	n: number;
	median: number;
	low: number;
	high: number;
}

describe("statistics", () => {
	it("takes medians and percentiles between samples, whatever their order", () => {
		expect(quantile([1, 2, 3, 4], 0.5)).toBe(2.5);
		expect(quantile([7], 0.9)).toBe(7);
		const samples = [11, 1, 9, 3, 7, 5, 2, 10, 4, 8, 6];
		expect(summary(samples)).toEqual({ n: 11, median: 6, low: 2, high: 10 });
		expect(samples[0]).toBe(11);
		expect(() => summary([])).toThrow("no samples");
	});

	it("forms ratios within a turn, so that a slow machine is slow for both", () => {
		// The second turn was four times as slow; the ratio of medians of different turns would be another one.
		expect(ratio([2, 8, 2], [1, 4, 1])).toEqual({ n: 3, median: 2, low: 2, high: 2, differs: true });
		expect(() => ratio([1], [1, 2])).toThrow("different turns");
	});

	it("says that there is no difference where the spread holds 1, or after one turn alone", () => {
		expect(ratio([1, 2, 3], [2, 2, 2]).differs).toBe(false);
		expect(ratio([3, 4, 5], [2, 2, 2]).differs).toBe(true);
		expect(ratio([1, 1.2, 1.4], [2, 2, 2]).differs).toBe(true);
		expect(ratio([9], [1]).differs).toBe(false);
		expect(comparison(ratio([1, 2, 3], [2, 2, 2]))).toBe("1.00 (0.600-1.40), no difference");
		expect(comparison(ratio([4, 4], [2, 2]))).toBe("2.00");
	});

	it("widens the spread of what was not measured in the same turns", () => {
		const figure = (median: number, low: number, high: number) => ({ n: 5, median, low, high });
		expect(apart(figure(6, 4, 8), figure(3, 2, 4))).toEqual({ n: 5, median: 2, low: 1, high: 4, differs: false });
	});

	it("holds a figure against a goal, and says where its spread holds the goal", () => {
		const figure = { n: 9, median: 0.8, low: 0.7, high: 0.9 };
		expect(standing(figure, 1)).toBe("met");
		expect(standing(figure, 0.85)).toBe("met, within the spread");
		expect(standing(figure, 0.75)).toBe("missed, within the spread");
		expect(standing(figure, 0.5)).toBe("missed");
		expect(standing(figure, 0.5, true)).toBe("met");
		expect(standing({ ...figure, n: 1 }, 1)).toBe("met, within the spread");
	});

	it("finds what one more costs", () => {
		const { slope, intercept } = line([
			[1, 5],
			[2, 7],
			[4, 11],
		]);
		expect(slope).toBeCloseTo(2);
		expect(intercept).toBeCloseTo(3);
		expect(line([[3, 9]])).toEqual({ slope: 0, intercept: 9 });
	});

	it("writes three digits", () => {
		expect([0, 0.012345, 0.98765, 1.2345, 12.345, 123.45, 123456].map(digits)).toEqual([
			"0",
			"0.0123",
			"0.988",
			"1.23",
			"12.3",
			"123",
			"123456",
		]);
		expect(withSpread({ n: 1, median: 2, low: 2, high: 2 })).toBe("2.00 (one turn)");
	});
});

describe("turns", () => {
	it("begin with another candidate each, and count as many samples for each", async () => {
		const calls: string[] = [];
		const { samples, turns } = await alternate(
			{
				a: () => {
					calls.push("a");
				},
				// What a candidate returns is not its time, unless it says so.
				b: () => {
					calls.push("b");
					return 1e9;
				},
				c: async () => {
					calls.push("c");
					return took({ "c, one": 3, "c, two": 4 });
				},
				d: () => took(5),
			},
			{ clock: new Clock(60_000), least: 2, most: 3, warm: 1 },
		);
		expect(turns).toBe(3);
		expect(calls.slice(0, 3)).toEqual(["a", "b", "c"]);
		expect(calls.slice(6, 9)).toEqual(["b", "c", "a"]);
		expect(calls).toHaveLength(12);
		expect(Object.keys(samples).sort()).toEqual(["a", "b", "c, one", "c, two", "d"]);
		expect(samples["c, two"]).toEqual([4, 4, 4]);
		expect(samples.d).toEqual([5, 5, 5]);
		expect(Math.max(...samples.b)).toBeLessThan(1e9);
	});

	it("end with the clock, but for the first", async () => {
		const { turns } = await alternate({ a: () => {} }, { clock: new Clock(0), least: 5, warm: 0 });
		expect(turns).toBe(1);
	});

	it("share out what is left of a clock", () => {
		const clock = new Clock(1000);
		expect(clock.part(1, 4).leftMs).toBeLessThanOrEqual(250);
		expect(new Clock(0).part(1, 2).leftMs).toBe(0);
	});
});

describe("peers", () => {
	/** Tables whose ends, forms and widths differ, of both element sizes. */
	function smallTables() {
		const wide = [
			...tableLayouts.flatMap((layout) => [5000, 4096, 63, 1].map((count) => makeTable(layout, count))),
			// Every width of PACKED, and LITERAL.
			...Array.from({ length: 8 }, (_, i) =>
				BigUint64Array.from(
					{ length: 4100 },
					(_unused, k) => (BigInt(k) * 0x9e37_79b9_7f4a_7c15n) & ((1n << BigInt(8 * i + 8)) - 1n),
				),
			),
			// A run that would count its MFN out of 40 bits.
			BigUint64Array.from({ length: 300 }, (_, i) => (1n << 63n) | (0xff_ffff_ffffn - 150n + BigInt(i))),
			// Runs about as large as PACKED.
			BigUint64Array.from({ length: 4096 }, (_, i) => (1n << 63n) | BigInt((i >> 1) * 7)),
		];
		const octets = [
			Uint8Array.from({ length: 9001 }, (_, i) => (i >> 8) & 7),
			Uint8Array.from({ length: 4097 }, (_, i) => i & 1),
			Uint8Array.from({ length: 4096 }, (_, i) => (i >> 1) & 1),
			Uint8Array.from({ length: 70 }, (_, i) => (i < 69 ? 3 : 4)),
		];
		return [...wide, ...octets];
	}

	let file: string;
	let damaged: string;

	beforeAll(() => {
		const tables = smallTables().map((entries) => {
			const elementBytes = entries.BYTES_PER_ELEMENT;
			const memory = new CodecMemory();
			const at = memory.place(entries);
			const out = memory.allocate(codingRoom(entries.length));
			const bytes = memory.encode(at, entries.length, out, elementBytes);
			const table = new Uint8Array(entries.buffer);
			return { elementBytes, table, coding: memory.bytes(out, bytes).slice() };
		});
		file = writeTableFile("test", tables);
		const [{ coding, ...first }, ...others] = tables as [(typeof tables)[number], ...typeof tables];
		const changed = coding.slice();
		changed[changed.length - 1] = (changed.at(-1) as number) ^ 1;
		damaged = writeTableFile("test-damaged", [{ ...first, coding: changed }, ...others]);
	});

	afterAll(() => {
		removeTableFile(file);
		removeTableFile(damaged);
	});

	it.each(Object.keys(codecPeers))("%s writes the core's octets and reads them", async (name) => {
		const { program, reason } = buildCodecPeer(name);
		if (!program) {
			console.log(`${name} was not tried: ${reason}`);
			return;
		}
		const peer = await PeerProcess.start(program, [file]);
		for (const command of ["encode", "decode", "copy"]) expect(await peer.run(command, 2)).toBeGreaterThan(0);
		await peer.stop();
		// It would not have been timed otherwise.
		await expect(PeerProcess.start(program, [damaged])).rejects.toThrow("another");
	});

	it("reads superpages by one entry and writes the same stream", () => {
		for (const count of [2 ** 16, 2 ** 16 + 700]) {
			const memory = new CodecMemory();
			const table = memory.place(makeTable("superpages", count));
			const [core, trusting] = [codingRoom(count), codingRoom(count)].map((room) => memory.allocate(room));
			const bytes = memory.encode(table, count, core);
			expect((memory.exports.encodeP2m as CallableFunction)(table, count, trusting) >>> 0).toBe(bytes);
			expect(memory.isSame(core, trusting, bytes)).toBe(true);
		}
	});

	it.each(Object.entries(serializers()))("%s gives the table back", (_name, { encode, decode }) => {
		for (const layout of tableLayouts) {
			const table = makeTable(layout, 700);
			expect(decode(encode(table))).toEqual(table);
		}
	});
});

describe("a run", () => {
	const scratch = mkdtempSync(join(tmpdir(), "xlu-bench-"));
	afterAll(() => rmSync(scratch, { recursive: true, force: true }));

	it("writes all its figures as JSON, and its tables", () => {
		const json = join(scratch, "figures.json");
		const suites = ["limits", "hosts", "peers", "curves", "workers"];
		const args = ["bench/run.mjs", "--quick", "--tiny", "--only", suites.join(), "--json", json];
		const output = execFileSync(process.execPath, args, {
			cwd: root,
			encoding: "utf8",
			stdio: ["ignore", "pipe", "pipe"],
		});
		const results = JSON.parse(readFileSync(json, "utf8"));
		expect(Object.keys(results.suites).sort()).toEqual([...suites, "instructions"].sort());
		expect(results.machine).not.toHaveProperty("name");
		const figures: Figure[] = [];
		JSON.stringify(results, (_key, value) => {
			if (typeof value?.median === "number" || value?.median === null) figures.push(value);
			return value;
		});
		expect(figures.length).toBeGreaterThan(100);
		for (const figure of figures) {
			expect(figure.n).toBeGreaterThanOrEqual(1);
			expect(figure.low).toBeLessThanOrEqual(figure.median);
			expect(figure.high).toBeGreaterThanOrEqual(figure.median);
		}
		expect(results.suites.hosts.rows.map(({ layout }: { layout: string }) => layout)).toEqual([
			"superpages",
			"typical",
			"fragmented",
			"adversarial",
		]);
		for (const goal of results.goals) {
			expect(goal.standing).toMatch(/^(met|missed)(, within the spread)?$|^not measured$/);
			expect(goal.why === null).toBe(!goal.standing.startsWith("missed"));
		}
		for (const title of ["To reach", "Whole hosts", "Serializers", "Curves"]) expect(output).toContain(`## ${title}\n`);
		expect(output).not.toMatch(/NaN|undefined|Infinity/);
	});

	it("refuses a suite that there is not", () => {
		const run = () =>
			execFileSync(process.execPath, ["bench/run.mjs", "--only", "all"], {
				cwd: root,
				encoding: "utf8",
				stdio: "pipe",
			});
		expect(run).toThrow("expected limits, hosts");
	});

	it("is quoted as its figures are", () => {
		execFileSync(process.execPath, ["bench/quote.mjs", "--check"], { cwd: root, stdio: "pipe" });
		const text = "a\n<!-- bench:figures -->\nold\n<!-- /bench:figures -->\nb\n";
		expect(quoted(text, "new $1")).toBe("a\n<!-- bench:figures -->\n\nnew $1\n\n<!-- /bench:figures -->\nb\n");
		expect(() => quoted("a", "new")).toThrow("no place for figures");
	});
});
