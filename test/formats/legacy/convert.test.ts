import { describe, expect, test } from "vitest";
import { StreamReader } from "../../../src/formats/common/reader.ts";
import { sourceOf } from "../../../src/formats/common/source.ts";
import { type ConvertLegacyOptions, convertLegacy } from "../../../src/formats/legacy/index.ts";
import { type LegacySpec, legacyImage, legacyVariants, physmap, u32 } from "../../support/legacy.ts";

async function convert(spec: LegacySpec, options: ConvertLegacyOptions) {
	const parts: Buffer[] = [];
	const sink = { length: 0, write: async (octets: Uint8Array) => void parts.push(Buffer.from(octets)) };
	const result = await convertLegacy(new StreamReader(sourceOf(legacyImage(spec), "image", 4999)), sink, options);
	return { octets: Buffer.concat(parts), result };
}

/** Records by their framing alone, from an offset up to END. */
function recordsFrom(octets: Buffer, from: number) {
	const records: { type: number; body: Buffer }[] = [];
	for (let at = from; ; ) {
		const length = octets.readUInt32LE(at + 4);
		const type = octets.readUInt32LE(at);
		records.push({ type, body: octets.subarray(at + 8, at + 8 + length) });
		at += 8 + Math.ceil(length / 8) * 8;
		if (type === 0) return { records, next: at };
	}
}
const types = (octets: Buffer, from = 40) => recordsFrom(octets, from).records.map(({ type }) => type);

describe("conversion of legacy images", () => {
	test("PV: records, their order and contents", async () => {
		const spec: LegacySpec = {
			width: 32,
			guestType: "pv",
			guestWidth: 32,
			p2mSize: 0x801,
			extv: true,
			xcnt: 64,
			tsc: true,
		};
		const { octets, result } = await convert(spec, { to: "libxc-v3" });
		expect(octets.subarray(0, 40).toString("hex")).toBe(
			"ffffffffffffffff58454e46000000030000000000000000010000000c0000000000000001000000",
		);
		const { records, next } = recordsFrom(octets, 40);
		expect(records.map(({ type }) => type)).toEqual([2, 0x10, 3, 1, 1, 8, 4, 5, 6, 4, 5, 6, 7, 0]);
		expect(next).toBe(octets.length);
		expect(records[0]?.body.toString("hex")).toBe("0403000000000000");
		expect(records[2]?.body.subarray(0, 8).toString("hex")).toBe("0000000000080000");
		// Three frames of 1024 entries, 64 bits each now.
		expect(records[2]?.body.length).toBe(8 + 3 * 8);
		expect(records[4]?.body.readBigUInt64LE(8)).toBe(0x1000000000000004n);
		expect(records[7]?.body.length).toBe(8 + 128);
		expect(records[8]?.body.length).toBe(8 + 64);
		expect(records[9]?.body.readUInt32LE(0)).toBe(1);
		expect(result).toMatchObject({ width: 32, guestType: "pv", layers: "libxc", records: 14, checkpoints: 1 });
		expect(result.dropped.map(({ what }) => what)).toEqual(["masks of the xsave areas"]);
	});

	test("HVM: parameters together, magic PFNs, context, device model's record behind END", async () => {
		const spec: LegacySpec = {
			width: 64,
			guestType: "hvm",
			params: [
				[-8, 17],
				[-3, 18],
			],
			qemu: { state: 21 },
		};
		const { octets } = await convert(spec, { to: "libxc-v3" });
		const { records, next } = recordsFrom(octets, 40);
		expect(records.map(({ type }) => type)).toEqual([0x10, 1, 1, 10, 10, 9, 0]);
		const numbers = (body: Buffer) =>
			Array.from({ length: body.length / 8 }, (_, i) => Number(body.readBigUInt64LE(i * 8)));
		expect(numbers(records[3]?.body ?? Buffer.alloc(0))).toEqual([2, 17, 17, 12, 18]);
		expect(numbers(records[4]?.body ?? Buffer.alloc(0))).toEqual([3, 5, 0xfeffe, 6, 0xfefff, 1, 0xfeffc]);
		expect(octets.subarray(next, next + 25).toString("latin1")).toBe(
			`DeviceModelRecord0002${u32(21).toString("latin1")}`,
		);
		expect(octets.length).toBe(next + 25 + 21);
	});

	test("version 2 is version 3 without STATIC_DATA_END", async () => {
		for (const { spec } of legacyVariants()) {
			const [v2, v3] = [await convert(spec, { to: "libxc-v2" }), await convert(spec, { to: "libxc-v3" })];
			expect(v2.octets.readUInt32BE(12)).toBe(2);
			expect(types(v2.octets)).toEqual(types(v3.octets).filter((type) => type !== 0x10));
			expect(v2.octets.length).toBe(v3.octets.length - 8);
		}
	});

	test("a libxl stream: header, context, physical map as keys, device model's state", async () => {
		const toolstack = physmap(32, [[0x1000, 0xf0000000, 0x800000, "vga.vram"]]);
		const { octets } = await convert(
			{ width: 32, guestType: "hvm", toolstack, qemu: { state: 5 } },
			{ to: "libxc-v3", layers: "libxl" },
		);
		expect(octets.subarray(0, 16).toString("hex")).toBe("4c6962786c466d740000000200000002");
		expect(octets.subarray(16, 24)).toEqual(u32(1, 0));
		const { next } = recordsFrom(octets, 24 + 40);
		const { records, next: end } = recordsFrom(octets, next);
		expect(records.map(({ type }) => type)).toEqual([2, 3, 0]);
		expect(records[0]?.body.subarray(8).toString()).toBe(
			"physmap/1000/start_addr\0f0000000\0physmap/1000/size\x00800000\0physmap/1000/name\0vga.vram\0",
		);
		expect(records[1]?.body.length).toBe(8 + 5);
		expect(end).toBe(octets.length);
	});

	test("behind xl's header: the header with the flag of a libxl stream", async () => {
		const { octets, result } = await convert({ width: 64, guestType: "pv", xl: '{"a":1}' }, { to: "libxc-v3" });
		expect(octets.readUInt32LE(36)).toBe(3);
		expect(octets.subarray(52, 60).toString()).toBe('{"a":1}\0');
		expect(octets.subarray(60, 68).toString()).toBe("LibxlFmt");
		expect(result.layers).toBe("xl");
		const bare = await convert({ width: 64, guestType: "pv", xl: "{}" }, { to: "libxc-v3", layers: "libxc" });
		expect(bare.octets.readUInt32BE(8)).toBe(0x58454e46);
		expect(bare.result.dropped).toHaveLength(1);
		await expect(convert({ width: 64, guestType: "pv" }, { to: "libxc-v3", layers: "xl" })).rejects.toMatchObject({
			rule: "XLU-O003",
		});
	});

	test("of several checkpoints: the pages of all, the state of the last", async () => {
		const spec: LegacySpec = { width: 64, guestType: "pv", states: 3, lastCheckpoint: true, batches: [[1]] };
		const all = await convert(spec, { to: "libxc-v3" });
		expect(types(all.octets)).toEqual([2, 0x10, 3, 1, 1, 1, 4, 4, 7, 0]);
		expect(all.result.checkpoints).toBe(3);
		const image = legacyImage(spec);
		const shared = recordsFrom(all.octets, 40).records.find(({ type }) => type === 7);
		expect(shared?.body.equals(image.subarray(-4096))).toBe(true);
		const first = await convert(spec, { to: "libxc-v3", checkpoints: "first" });
		expect(types(first.octets)).toEqual([2, 0x10, 3, 1, 4, 4, 7, 0]);
	});

	test("skipQemu leaves out what follows the context", async () => {
		const spec: LegacySpec = { width: 64, guestType: "hvm", qemu: { signature: "RemusDeviceModelState", state: 9 } };
		const { octets, result } = await convert(spec, { to: "libxc-v3", skipQemu: true });
		expect(recordsFrom(octets, 40).next).toBe(octets.length);
		expect(result.dropped.map(({ what }) => what)).toEqual(["octets behind the image"]);
	});

	test("memory does not grow with the image: 512 MiB from a pipe's chunks", async () => {
		const batch = Buffer.concat([u32(256, ...Array.from({ length: 256 }, (_, i) => i)), Buffer.alloc(256 * 4096, 3)]);
		const whole = legacyImage({ width: 32, guestType: "hvm", batches: [] });
		const pieces = [whole.subarray(0, 4), ...Array<Buffer>(512).fill(batch), whole.subarray(4)];
		let turn = 0;
		let peak = 0;
		const source = { name: "pipe", size: undefined, read: async () => pieces[turn++], close: async () => {} };
		const before = process.memoryUsage().arrayBuffers;
		let length = 0;
		const sink = {
			length: 0,
			write: async (octets: Uint8Array) => {
				length += octets.length;
				peak = Math.max(peak, process.memoryUsage().arrayBuffers - before);
			},
		};
		await convertLegacy(new StreamReader(source), sink, { to: "libxc-v3", width: 32, guestType: "hvm" });
		expect(length).toBeGreaterThan(512 << 20);
		expect(peak).toBeLessThan(192 << 20);
	}, 60_000);
});
