import { describe, expect, it } from "vitest";
import { extentsOf } from "../../src/inspect/extents.ts";
import { referenceEncode } from "../support/extentReference.ts";

const PRESENT = 1n << 63n;
const entry = (mfn: number, type = 0, order = 0) =>
	PRESENT | (BigInt(order) << 48n) | (7n << 44n) | (BigInt(type) << 40n) | BigInt(mfn);

describe("extents as inspect shows them", () => {
	it("joins a run across chunks, leaves holes out, and counts slices from their first entry", () => {
		const table = Array.from({ length: 10000 }, (_, i) => (i >= 3 && i < 9000 ? entry(0x5000 + i) : 0n));
		const { rows, count } = extentsOf("P2m", referenceEncode(8, table), 0x100000, 10);
		expect(count).toBe(1);
		expect(rows).toEqual([{ gfn: "0x100003", count: 8997, mfn: "0x5003", type: "ramRw", access: "rwx", order: "4K" }]);
	});

	it("gives one extent for each entry of a packed or literal chunk that nothing joins", () => {
		const scattered = Array.from({ length: 300 }, (_, i) => entry((i * 7919) % 100003));
		const holes = scattered.map((value, i) => (i % 2 ? 0n : value));
		expect(new Uint8Array(referenceEncode(8, scattered))[0]).toBe(2);
		expect(new Uint8Array(referenceEncode(8, holes))[0]).toBe(3);
		const packed = extentsOf("P2m", referenceEncode(8, scattered), 0, 1000);
		expect(packed.rows.map(({ mfn }) => mfn)).toEqual(
			scattered.map((_, i) => `0x${((i * 7919) % 100003).toString(16)}`),
		);
		expect(extentsOf("P2m", referenceEncode(8, holes), 0, 1000).count).toBe(150);
		expect(extentsOf("P2m", referenceEncode(8, scattered), 0, 5)).toMatchObject({ count: 300, rows: { length: 5 } });
	});

	it("reads ownership and types", () => {
		const owner = (1n << 16n) | (1n << 17n) | 3n;
		expect(extentsOf("FrameOwners", referenceEncode(8, [0n, owner, owner]), 0, 9).rows).toEqual([
			{ mfn: "0x1", count: 2, owner: 3, flags: ["owned", "allocated"] },
		]);
		expect(extentsOf("FrameTypes", referenceEncode(1, [0n, 0x1cn, 0x1cn, 0x17n]), 16, 9).rows).toEqual([
			{ mfn: "0x11", count: 2, type: "l4", flags: ["pinned", "validated"] },
			{ mfn: "0x13", count: 1, type: "writable", flags: ["validated"] },
		]);
	});

	it("gives what comes before the damage", () => {
		const coded = referenceEncode(
			8,
			Array.from({ length: 5000 }, (_, i) => entry((i * 7919) % 100003)),
		);
		expect(extentsOf("P2m", coded.subarray(0, 400), 0, 1e6).count).toBeGreaterThan(50);
	});
});
