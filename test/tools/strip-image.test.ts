import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";

const script = fileURLToPath(new URL("../../tools/strip-image.py", import.meta.url));
const example = new URL("../../examples/pv/pv1.xlsave.gz", import.meta.url);
const hasPython = spawnSync("python3", ["--version"]).status === 0;

const PAGE = 4096;
const NOTAB = 0;
const L1TAB = 1;
const L4TAB_PINNED = 0xc;
const XTAB = 0xf;

function strip(image: Buffer) {
	const { status, stdout, stderr } = spawnSync("python3", [script], { input: image, maxBuffer: 1 << 28 });
	return { status, output: stdout as Buffer, message: stderr.toString() };
}

/** Builds small images in either byte order. */
class Builder {
	readonly little: boolean;

	constructor(little: boolean) {
		this.little = little;
	}

	u16(value: number): Buffer {
		const buffer = Buffer.alloc(2);
		this.little ? buffer.writeUInt16LE(value) : buffer.writeUInt16BE(value);
		return buffer;
	}

	u32(value: number): Buffer {
		const buffer = Buffer.alloc(4);
		this.little ? buffer.writeUInt32LE(value) : buffer.writeUInt32BE(value);
		return buffer;
	}

	u64(value: bigint): Buffer {
		const buffer = Buffer.alloc(8);
		this.little ? buffer.writeBigUInt64LE(value) : buffer.writeBigUInt64BE(value);
		return buffer;
	}

	record(type: number, ...body: Buffer[]): Buffer {
		const content = Buffer.concat(body);
		const padding = Buffer.alloc(-content.length & 7);
		return Buffer.concat([this.u32(type), this.u32(content.length), content, padding]);
	}

	pageData(pages: [type: number, pfn: number, content: Buffer | undefined][]): Buffer {
		const pfns = pages.map(([type, pfn]) => this.u64((BigInt(type) << 60n) | BigInt(pfn)));
		const contents = pages.map(([, , content]) => content ?? Buffer.alloc(0));
		return this.record(1, this.u32(pages.length), this.u32(0), ...pfns, ...contents);
	}

	image(...records: Buffer[]): Buffer {
		const options = this.little ? 0 : 1;
		const json = Buffer.from('{"a":1}\0');
		const xl = Buffer.concat([
			Buffer.from("Xen saved domain, xl format\n \0 \r", "latin1"),
			...[0x01020304, 3, 0, 4 + json.length].map((value) => this.u32(value)),
			this.u32(json.length),
			json,
		]);
		const libxl = Buffer.concat([Buffer.from("LibxlFmt"), Buffer.from([0, 0, 0, 2, 0, 0, 0, options])]);
		const libxc = Buffer.concat([
			Buffer.alloc(8, 0xff),
			Buffer.from([0x58, 0x45, 0x4e, 0x46, 0, 0, 0, 3, 0, options, 0, 0, 0, 0, 0, 0]),
			...[this.u32(1), this.u16(12), this.u16(0), this.u32(4), this.u32(17)],
		]);
		const tail = Buffer.concat([this.record(2, Buffer.from("some octets")), this.record(0), Buffer.from("rest")]);
		return Buffer.concat([xl, libxl, this.record(1), libxc, ...records, this.record(0), tail]);
	}
}

const filled = (value: number) => Buffer.alloc(PAGE, value);

describe.skipIf(!hasPython)("tools/strip-image.py", () => {
	for (const little of [true, false]) {
		it(`zeroes ordinary pages alone and keeps every other octet (${little ? "little" : "big"}-endian)`, () => {
			const build = new Builder(little);
			const image = (ordinary: number) =>
				build.image(
					build.record(0x10),
					build.record(3, build.u32(0), build.u32(511), build.u64(7n)),
					build.record(6, Buffer.from("odd length: 13")),
					build.pageData([
						[NOTAB, 5, filled(ordinary)],
						[L1TAB, 6, filled(2)],
						[NOTAB, 7, filled(3)],
						[XTAB, 8, undefined],
						[L4TAB_PINNED, 9, filled(4)],
					]),
					build.pageData([[NOTAB, 10, filled(ordinary)]]),
				);
			const { status, output, message } = strip(image(0xaa));
			expect(message).toContain("2 pages set to zero");
			expect(status).toBe(0);
			expect(output.equals(image(0))).toBe(true);
		});
	}

	it("gives a captured guest's image back octet for octet when it was stripped already, and zeroes a page filled anew", () => {
		const original = gunzipSync(readFileSync(example));
		expect(strip(original).output.equals(original)).toBe(true);

		const modified = Buffer.from(original);
		const pages = ordinaryPages(original);
		expect(pages.length).toBeGreaterThan(1000);
		modified.fill(0x5a, pages[500], (pages[500] as number) + PAGE);
		const { output, message } = strip(modified);
		expect(message).toContain("1 pages set to zero");
		expect(output.equals(original)).toBe(true);
	});

	it("refuses damage with the place, status 3", () => {
		const build = new Builder(true);
		const image = build.image(build.pageData([[NOTAB, 5, filled(1)]]));
		expect(strip(image.subarray(0, image.length - 5000))).toMatchObject({ status: 3 });
		expect(strip(Buffer.from("no image at all")).message).toContain("offset 0: expected an xl, libxl or libxc header");
		const short = build.image(build.record(1, build.u32(1), build.u32(0), build.u64(5n), Buffer.alloc(8)));
		expect(strip(short).message).toContain("PAGE_DATA: expected 4112 octets for its pages, got 24");
		const checkpointed = build.image(build.record(0xe));
		expect(strip(checkpointed).message).toContain("a checkpointed stream");
	});
});

/** Offsets of the NOTAB pages of a little-endian PV image that X86_PV_P2M_FRAMES does not name. */
function ordinaryPages(image: Buffer): number[] {
	const p2mFrames = new Set<bigint>();
	const offsets: number[] = [];
	let offset = image.indexOf(Buffer.from("ffffffffffffffff58454e46", "hex")) + 24 + 16;
	for (;;) {
		const type = image.readUInt32LE(offset);
		const length = image.readUInt32LE(offset + 4);
		const body = offset + 8;
		if (type === 0) return offsets;
		if (type === 3) for (let at = 8; at < length; at += 8) p2mFrames.add(image.readBigUInt64LE(body + at));
		if (type === 1) {
			const count = image.readUInt32LE(body);
			let page = body + 8 + 8 * count;
			for (let index = 0; index < count; index++) {
				const pfn = image.readBigUInt64LE(body + 8 + 8 * index);
				if (pfn >> 60n >= 0xdn) continue;
				if (pfn >> 60n === 0n && !p2mFrames.has(pfn)) offsets.push(page);
				page += PAGE;
			}
		}
		offset = body + length + (-length & 7);
	}
}
