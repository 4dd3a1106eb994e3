import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { readGuestImage } from "../../src/formats/guestImage.ts";
import { PAGE_TYPE } from "../../src/formats/libxc/layout.ts";
import { pvP2m } from "../../src/formats/libxc/p2m.ts";
import {
	errorOf,
	fixtureImage,
	libxcHeaders,
	libxlHeader,
	octets,
	pageData,
	random,
	record,
	survives,
} from "./helpers.ts";

const images = {
	pv: fixtureImage("pv/pv1.xlsave.gz"),
	pvh: fixtureImage("pvh/pvh1.xlsave.gz"),
	hvm: fixtureImage("hvm/hvm1.xlsave.gz"),
};

/** HEADER and END. */
const context = record(9, octets().u16(1).u16(0).u32(24).bytes(Buffer.alloc(24)).u16(0).u16(0).u32(0).done());
const params = (...pairs: [number, bigint][]): Buffer => {
	const body = octets().u32(pairs.length).u32(0);
	for (const [index, value] of pairs) {
		body.u64(BigInt(index)).u64(value);
	}
	return record(10, body.done());
};
const staticEnd = record(16);
const end = record(0);
const hvm = (...records: Buffer[]): Buffer => Buffer.concat([libxcHeaders(2), ...records]);
const smallHvm = hvm(staticEnd, pageData([[1, 0]]), context, params([1, 5n]), end);

/** A PV image of 512 PFNs of which one, 7, is the P2M's only frame. */
function smallPv(width: 4 | 8, frame: Buffer, endPfn = 511): Buffer {
	const info = Buffer.from([width, width === 8 ? 4 : 3, 0, 0, 0, 0, 0, 0]);
	const pages = octets().u32(1).u32(0).u64(7n).bytes(frame).done();
	const context = Buffer.alloc(8 + (width === 8 ? 5168 : 2800));
	return Buffer.concat([
		libxcHeaders(1),
		record(2, info),
		staticEnd,
		record(3, octets().u32(0).u32(endPfn).u64(7n).done()),
		record(1, pages),
		record(7, Buffer.alloc(4096)),
		record(4, context),
		end,
	]);
}

describe("an image that xl save wrote", () => {
	it("PV: 10,240 frames, each of its own, with tables, vCPUs and policies", () => {
		const image = readGuestImage(images.pv);
		expect(image.config).toMatchObject({
			name: "pv1",
			type: "pv",
			maxVcpus: 2,
			maxMemKb: 40960,
			uuid: "4c414200-0000-4000-8000-000000000001",
		});
		expect(image).toMatchObject({ outermost: "xl", version: 3, guestType: "pv", tailBytes: 0, checkpoints: 0 });
		expect(image.xenVersion).toEqual({ major: 4, minor: 17 });
		expect(image.pvInfo).toEqual({ guestWidth: 8, ptLevels: 4 });
		expect(image.pages.count).toBe(10240);
		const counts = image.pages.countByType();
		expect(counts[PAGE_TYPE.NOTAB]).toBe(10077);
		expect(counts[PAGE_TYPE.L1TAB]).toBe(18);
		expect(counts[PAGE_TYPE.L2TAB]).toBe(19);
		expect(counts[PAGE_TYPE.L3TAB]).toBe(80);
		expect(counts[PAGE_TYPE.L1TAB_PIN]).toBe(32);
		expect(counts[PAGE_TYPE.L3TAB_PIN]).toBe(1);
		expect(counts[PAGE_TYPE.L4TAB_PIN]).toBe(13);
		expect(image.p2m).toMatchObject({ startPfn: 0, endPfn: 10239 });
		expect(image.p2m?.p2mPfns).toHaveLength(20);
		expect([...image.vcpuBasic.keys()]).toEqual([0, 1]);
		expect(image.vcpuBasic.get(1)?.length).toBe(5168);
		expect(image.vcpuExtended.get(0)?.length).toBe(64);
		expect(image.vcpuXsave.get(0)?.length).toBe(848);
		expect(image.sharedInfo?.length).toBe(4096);
		expect(image.cpuidPolicy?.length).toBe(52 * 24);
		expect(image.msrPolicy?.length).toBe(2 * 16);
		expect(image.tscInfo).toEqual({ mode: 0, khz: 2596118, nsec: 28479465479n, incarnation: 1 });
		const { startPfn, mfns } = pvP2m(image);
		expect(startPfn).toBe(0);
		expect(mfns).toHaveLength(10240);
		expect(new Set(mfns).size).toBe(10240);
		expect(Math.min(...mfns)).toBe(0xd800);
		expect(Math.max(...mfns)).toBe(0xffff);
	});

	it("PVH: 10,192 pages among a million holes", () => {
		const image = readGuestImage(images.pvh);
		expect(image.config?.type).toBe("pvh");
		expect(image.guestType).toBe("hvm");
		expect(image.pages.count).toBe(0xff000);
		expect(image.pages.populated).toBe(10192);
		expect(image.pages.typeOf(0xfefff)).toBe(PAGE_TYPE.NOTAB);
		expect(image.pages.typeOf(0x2800)).toBe(PAGE_TYPE.XTAB);
		expect(image.pages.content(0x2800)).toBeUndefined();
		expect(image.pages.content(0x27ff)?.length).toBe(4096);
		expect(image.hvmContext?.length).toBe(4912);
		expect(Object.fromEntries(image.hvmParams)).toEqual({
			1: 0xfeffcn,
			5: 0xfeffdn,
			6: 0xfeffbn,
			12: 0xfeffe000n,
			17: 0xfefffn,
			27: 0xfeff8n,
			28: 0xfeff9n,
			29: 0xfeffan,
		});
		expect(image.emulators).toEqual([]);
		expect(errorOf(() => pvP2m(image)).code).toBe("XLU_E_IMAGE");
	});

	it("HVM: a device model's record and I/O server pages", () => {
		const image = readGuestImage(images.hvm);
		expect(image.pages.populated).toBe(12283);
		expect(image.emulators).toHaveLength(1);
		expect(image.emulators[0]).toMatchObject({ kind: "context", emulatorId: 2, index: 0 });
		expect(image.emulators[0]?.data.length).toBe(8289);
		expect(image.hvmParams.get(32)).toBe(0xfeff0n);
		expect(image.hvmParams.get(33)).toBe(8n);
		expect(image.hvmParams.get(37)).toBe(0x180fc100280n);
		expect(image.vcpuBasic.size).toBe(0);
	});

	it("compressed, with a tail, from libxl's or libxc's header on", () => {
		const tail = readGuestImage(gzipSync(Buffer.concat([images.pv, Buffer.alloc(44)]), { level: 1 }));
		expect(tail.tailBytes).toBe(44);
		const libxl = images.pv.indexOf("LibxlFmt");
		expect(readGuestImage(images.pv.subarray(libxl))).toMatchObject({ outermost: "libxl", config: undefined });
		const libxc = readGuestImage(images.pv.subarray(libxl + 24));
		expect(libxc).toMatchObject({ outermost: "libxc", guestType: "pv", tailBytes: 8 });
		expect(libxc.pages.count).toBe(10240);
	});

	it("PV: contents are the page's own, wherever PAGE_DATA put it", () => {
		const image = readGuestImage(images.pv);
		const index = image.pages.find(0x27d9);
		const offset = image.pages.offsetAt(index);
		expect(image.pages.content(0x27d9)).toEqual(new Uint8Array(images.pv.subarray(offset, offset + 4096)));
	});
});

describe("variants that the specifications allow", () => {
	it("version 2 has no STATIC_DATA_END, and HVM_PARAMS first", () => {
		const image = readGuestImage(
			Buffer.concat([libxcHeaders(2, 2), pageData([[1, 0]]), params([1, 5n]), context, end]),
		);
		expect(image.version).toBe(2);
		expect(image.hvmParams.get(1)).toBe(5n);
	});

	it("zero-length HVM_PARAMS of version 2, and unknown optional records, are ignored", () => {
		const optional = record(0x80000005, Buffer.alloc(3));
		const image = readGuestImage(
			Buffer.concat([libxcHeaders(2, 2), optional, pageData([[1, 0]]), context, record(10), end]),
		);
		expect(image.hvmParams.size).toBe(0);
	});

	it("the last type and content of a PFN count, in any order", () => {
		const first = pageData([
			[9, 0, 1],
			[0x10000, 0, 2],
			[3, 0, 3],
			[5, 0, 4],
		]);
		const again = pageData([
			[9, 0, 5],
			[5, PAGE_TYPE.XTAB],
		]);
		const { pages } = readGuestImage(hvm(staticEnd, first, again, context, end));
		expect([...pages.pfns]).toEqual([3, 5, 9, 0x10000]);
		expect([...pages.types]).toEqual([0, PAGE_TYPE.XTAB, 0, 0]);
		expect(pages.content(9)?.[0]).toBe(5);
		expect(pages.content(5)).toBeUndefined();
		expect(pages.content(0x10000)?.[4095]).toBe(2);
		expect(pages.typeOf(4)).toBeUndefined();
	});

	it("a checkpointed stream: the last checkpoint counts, in both layers", () => {
		const emulator = (fill: number): Buffer => record(3, octets().u32(2).u32(0).bytes(Buffer.alloc(4, fill)).done());
		const stream = Buffer.concat([
			libxlHeader(),
			record(1),
			hvm(staticEnd, pageData([[1, 0, 1]]), context, params([1, 5n]), record(14)),
			emulator(1),
			record(4),
			pageData([[1, 0, 2]]),
			context,
			params([1, 6n]),
			record(14),
			emulator(2),
			record(4),
			record(13),
			end,
			record(0),
		]);
		const image = readGuestImage(stream);
		expect(image.checkpoints).toBe(2);
		expect(image.verified).toBe(true);
		expect(image.hvmParams.get(1)).toBe(6n);
		expect(image.pages.content(1)?.[0]).toBe(2);
		expect(image.emulators.map(({ data }) => data[0])).toEqual([2]);
	});

	it("a 32-bit guest's P2M, holes and marked entries", () => {
		const frame = Buffer.alloc(4096);
		for (let pfn = 0; pfn < 1024; pfn++) {
			frame.writeUInt32LE(0x1000 + pfn, pfn * 4);
		}
		frame.writeUInt32LE(0xffffffff, 4);
		frame.writeUInt32LE(0x40000002, 8);
		const p2m = pvP2m(readGuestImage(smallPv(4, frame, 1000)));
		expect(p2m.mfns).toHaveLength(1001);
		expect([...p2m.mfns.subarray(0, 4)]).toEqual([0x1000, -1, -1, 0x1003]);
	});

	it("an MFN that no machine has is refused", () => {
		const frame = Buffer.alloc(4096);
		frame.writeBigUInt64LE(1n << 50n, 16);
		expect(errorOf(() => pvP2m(readGuestImage(smallPv(8, frame)))).field).toBe("mfn");
	});
});

describe("a damaged image is an XLU_E_IMAGE with the place", () => {
	const page = pageData([[1, 0]]);
	const cases: [string, Buffer, RegExp][] = [
		["empty", Buffer.alloc(0), /magic/],
		["other file", Buffer.from("not an image at all, just text"), /magic/],
		["big-endian libxc", Buffer.concat([libxcHeaders(2, 3, 1), end]), /little-endian/],
		["big-endian libxl", Buffer.concat([libxlHeader(2, 1), record(0)]), /little-endian/],
		["version", Buffer.concat([libxcHeaders(2, 4), end]), /version.*2 or 3/],
		["no END", hvm(staticEnd, page, context), /record header/],
		["no memory", hvm(staticEnd, context, end), /PAGE_DATA/],
		["no context", hvm(staticEnd, page, end), /HVM_CONTEXT/],
		["memory before STATIC_DATA_END", hvm(page, staticEnd, context, end), /STATIC_DATA_END before it/],
		["STATIC_DATA_END twice", hvm(staticEnd, staticEnd, page, context, end), /a second one/],
		["HVM_CONTEXT twice", hvm(staticEnd, page, context, context, end), /a second one/],
		["unknown mandatory record", hvm(record(0x13), staticEnd, end), /known mandatory/],
		["PV record in HVM", hvm(record(7, Buffer.alloc(4096)), end), /no such record/],
		["back channel", hvm(record(15), end), /back channel/],
		["count 0", hvm(staticEnd, record(1, Buffer.alloc(8)), end), /count/],
		["count too high", hvm(staticEnd, record(1, octets().u32(9).u32(0).u64(1n).done()), end), /count.*1 to 1, got 9/],
		[
			"page without data",
			hvm(staticEnd, record(1, octets().u32(1).u32(0).u64(1n).done()), end),
			/PAGE_DATA.*body_length: expected 4112, got 16/,
		],
		[
			"reserved type",
			hvm(
				staticEnd,
				record(
					1,
					octets()
						.u32(1)
						.u32(0)
						.u64(5n << 60n)
						.done(),
				),
				end,
			),
			/0x5/,
		],
		[
			"param twice",
			hvm(staticEnd, page, context, params([1, 1n], [1, 2n]), end),
			/one HVM parameter STORE_PFN, got a second one/,
		],
		["params' count", hvm(staticEnd, page, record(10, octets().u32(4).u32(0).done()), end), /body_length.*72, got 8/],
		["TSC length", hvm(record(8, Buffer.alloc(20)), end), /24, got 20/],
		["TOOLSTACK", hvm(record(11, Buffer.alloc(5)), staticEnd, page, context, end), /no TOOLSTACK/],
		["context without END", hvm(staticEnd, page, record(9, Buffer.alloc(16)), end), /HEADER \(type 1\), got type 0/],
		["parameter that nobody has", hvm(staticEnd, page, context, params([1024, 1n]), end), /below 1024, got 1024/],
		["policy length", hvm(record(17, Buffer.alloc(25)), end), /multiple of 24/],
		["libxl without libxc", Buffer.concat([libxlHeader(), record(0)]), /LIBXC_CONTEXT before it/],
		["libxc twice", Buffer.concat([libxlHeader(), record(1), smallHvm, record(1)]), /one LIBXC_CONTEXT/],
		["CHECKPOINT_END alone", Buffer.concat([libxlHeader(), record(1), smallHvm, record(4)]), /CHECKPOINT before it/],
	];
	it.each(cases)("%s", (_name, data, message) => {
		const error = errorOf(() => readGuestImage(data));
		expect(error.code).toBe("XLU_E_IMAGE");
		expect(error.message).toMatch(message);
		expect(error.offset).toBeTypeOf("number");
		expect(error.expected).toBeTypeOf("string");
		expect(error.got).toBeTypeOf("string");
	});

	it("a compressed file that is cut off, or larger than allowed", () => {
		const packed = gzipSync(smallHvm);
		expect(errorOf(() => readGuestImage(packed.subarray(0, 40))).message).toMatch(/gzip/);
		expect(errorOf(() => readGuestImage(packed, { maxBytes: 1000 })).message).toMatch(/at most 1000/);
	});

	it("xl header: flags, lengths and the configuration", () => {
		const damage = (write: (data: Buffer) => void): string => {
			const data = Buffer.from(images.pv.subarray(0, 4096));
			write(data);
			return errorOf(() => readGuestImage(data)).message;
		};
		expect(damage((data) => data.subarray(32, 48).swap32())).toMatch(/little-endian image, got a big-endian one/);
		expect(damage((data) => data.writeUInt32LE(0x04030201, 32))).toMatch(/mandatory flags/);
		expect(damage((data) => data.writeUInt32LE(7, 36))).toMatch(/mandatory flags/);
		expect(damage((data) => data.writeUInt32LE(1, 36))).toMatch(/bit 1: a libxl stream follows, got 0x1/);
		expect(damage((data) => data.writeUInt32LE(0xffffffff, 44))).toMatch(
			/optional data length: expected at most \d+, got 4294967295/,
		);
		expect(damage((data) => data.writeUInt32LE(0xffffffff, 48))).toMatch(
			/configuration: expected a length of \d+, got 4294967295/,
		);
		expect(damage((data) => data.write("]", 52))).toMatch(/JSON/);
	});

	it("every truncation of a small image", () => {
		const whole = Buffer.concat([libxlHeader(), record(1), smallHvm, record(0)]);
		for (let length = 0; length < whole.length; length++) {
			expect(errorOf(() => readGuestImage(whole.subarray(0, length))).code).toBe("XLU_E_IMAGE");
		}
		expect(readGuestImage(whole).tailBytes).toBe(0);
	});

	it("truncations of a real image", () => {
		const next = random(1);
		for (let round = 0; round < 20; round++) {
			const length = next(images.pv.length);
			expect(errorOf(() => readGuestImage(images.pv.subarray(0, length))).code).toBe("XLU_E_IMAGE");
		}
	});

	it("mutations of all structure octets of small images: read or refused, never anything else", () => {
		const next = random(2);
		const pv = Buffer.concat([libxlHeader(), record(1), smallPv(8, Buffer.alloc(4096)), record(0)]);
		for (const original of [Buffer.concat([libxlHeader(), record(1), smallHvm, record(0)]), pv]) {
			let refused = 0;
			for (let round = 0; round < 4000; round++) {
				const data = Buffer.from(original);
				for (let flips = 1 + next(3); flips > 0; flips--) {
					data[next(round % 2 === 0 ? 200 : data.length)] = next(256);
				}
				refused += survives(() => readGuestImage(data), "XLU_E_IMAGE") ? 0 : 1;
			}
			expect(refused).toBeGreaterThan(500);
		}
	});
});
