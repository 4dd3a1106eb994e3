/**
 * Limits that are this core's own, which other readers need not have, and what depends on how a stream is handed over: no
 * conformance vector can hold these.
 */
import { describe, expect, test } from "vitest";
import { PASS } from "../../src/format/enums.ts";
import { hashOf, memoryFor, newCore, refusal, saveTiny } from "../support/core.ts";
import { faultText } from "../support/faultText.ts";
import { parse, StreamRecord } from "../support/restitch.ts";
import { tinyHost } from "../support/tinyHost.ts";

const tiny = saveTiny();

/** The host with so many frames, none of them in a slice. */
function withFrames(frames: bigint): Uint8Array {
	const parsed = parse(tiny.stream);
	parsed.record("LU_HOST").set("frameCount", frames);
	return parsed.build();
}

describe("HOST_LIMIT: 32-bit windows", () => {
	test("2^28 frames are no more than may be, but their image has more than 4 GiB", () => {
		const { fault } = refusal(withFrames(1n << 28n)) ?? {};
		expect(fault?.ruleId).toBe("XLU-R040");
		// 17 octets for each frame: owner, type, references and types in use.
		expect(fault?.got).toBeGreaterThan(17n << 28n);
		expect(fault).toMatchObject({ record: "LU_HOST", expected: 0xffff_ffffn });
		expect(fault?.field).toBeUndefined();
	});

	test("2^29 frames of a detached target: the workspace has more than 4 GiB", () => {
		const core = newCore();
		const window = core.place(withFrames(1n << 29n));
		const context = core.createContext();
		context.open(window, { detached: true });
		expect(() => context.plan(window)).toThrow(expect.objectContaining({ rule: "XLU-R040" }));
		const fault = context.fault(window);
		expect(fault).toMatchObject({ record: "LU_HOST", expected: 0xffff_ffffn });
		expect(fault?.field).toBeUndefined();
		// 8 octets for each frame.
		expect(fault?.got).toBeGreaterThan(8n << 29n);
	});

	test("one frame more, detached", () => {
		const core = newCore();
		const window = core.place(withFrames((1n << 29n) + 1n));
		const context = core.createContext();
		context.open(window, { detached: true });
		expect(() => context.plan(window)).toThrow(expect.objectContaining({ rule: "XLU-R040" }));
		expect(context.fault(window)).toMatchObject({ field: "frameCount", expected: 1n << 29n });
	});
});

describe("DOMID: no more domains than there are numbers", () => {
	const most = 0x7ff0;

	/** Section H and so many sections 0, of which each is empty. */
	function withDomains(count: number): Uint8Array {
		const parsed = parse(tiny.stream);
		const claims = { hash: hashOf(new Uint8Array(0)) };
		const domains = Array.from({ length: count }, (_, i) => ({
			pass: PASS["0"],
			domid: i % most,
			records: [],
			claims,
		}));
		parsed.sections = [parsed.section("H"), ...domains];
		return parsed.build();
	}

	test("as many: it is something else that they lack", () => {
		const { fault } = refusal(withDomains(most)) ?? {};
		expect(fault && faultText(fault, "SECTION_MISSING")).toBe("0/0 LU_SECTION: 3, not 0");
	});

	test("one more", () => {
		const { fault } = refusal(withDomains(most + 1)) ?? {};
		expect(fault?.ruleId).toBe("XLU-R041");
		expect(fault && faultText(fault, "DOMID")).toBe("stream LU_INDEX.sectionCount: 32752, not 32753");
	});
});

describe("END: what fills a stream's last frame, where it is handed over in frames", () => {
	const filled = (more: number, octet?: number): Uint8Array => {
		const stream = new Uint8Array(tiny.stream.length + more);
		stream.set(tiny.stream);
		if (octet !== undefined) stream[octet] = 1;
		return stream;
	};

	test("zeros, less than a frame", () => {
		for (const more of [8, 4088]) {
			const stream = filled(more);
			expect(refusal(stream, memoryFor(tiny.stream, tinyHost().preserved), true), `${more}`).toBeUndefined();
		}
	});

	test("a whole frame of zeros", () => {
		const { fault } = refusal(filled(4096), undefined, true) ?? {};
		expect(fault && faultText(fault, "END")).toBe("stream END: 0, not 4096");
	});

	test("an octet that is not zero, the first or the last", () => {
		for (const octet of [tiny.stream.length, tiny.stream.length + 15]) {
			const { fault } = refusal(filled(16, octet), undefined, true) ?? {};
			expect(fault && faultText(fault, "END"), `${octet}`).toBe("stream END: 0, not 1");
		}
	});
});

describe("VERSION: what neither the reader's newest version nor this core knows", () => {
	/** A stream of a version, for a reader whose newest is another one. */
	function opened(version: number, newest: number) {
		const stream = tiny.stream.slice();
		new DataView(stream.buffer).setUint32(12, version);
		const core = newCore();
		const window = core.place(stream);
		const context = core.createContext();
		expect(() => context.open(window, { newest })).toThrow(expect.objectContaining({ rule: "XLU-R003" }));
		const { expected, got } = context.fault(window);
		return [Number(expected), Number(got)];
	}

	test("version 3, for a reader that knows it", () => expect(opened(3, 3)).toEqual([2, 3]));
	test("version 0, for a reader that knows version 1", () => expect(opened(0, 1)).toEqual([2, 0]));
	test("version 2, for a reader that knows version 1", () => expect(opened(2, 1)).toEqual([1, 2]));
	test("version 1, for a reader that knows version 3", () => expect(opened(1, 3)).toEqual([3, 1]));
});

test("TRUNCATED: a header that the stream ends within is not read beyond its end", () => {
	const parsed = parse(tiny.stream);
	const record = new StreamRecord(0x8000_0001, new Uint8Array(8));
	parsed.section("H").records.push(record);
	const stream = parsed.build();
	const core = newCore();
	const window = core.place(stream);
	// The octets behind the stream's end claim a body that is longer than any may be.
	core.bytes(window).fill(0xff, stream.length - 4);
	const context = core.createContext();
	const cut = { pointer: window.pointer, length: stream.length - 4 };
	expect(() => context.open(cut)).toThrow(expect.objectContaining({ rule: "XLU-R001" }));
	expect(context.fault(cut)).toMatchObject({ expected: 8n, got: 4n });
});
