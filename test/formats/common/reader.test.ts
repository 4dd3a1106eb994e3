import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { StreamReader } from "../../../src/formats/common/reader.ts";
import { openSource, sourceOf } from "../../../src/formats/common/source.ts";

const scratch = mkdtempSync(join(tmpdir(), "xlu-source-"));
afterAll(() => rmSync(scratch, { recursive: true }));

const octets = Uint8Array.from({ length: 3_000_001 }, (_, i) => (i * 2654435761) >>> 24);

/** Reads a stream with every method in turn, and puts together what it gave. */
async function readAll(reader: StreamReader): Promise<Uint8Array> {
	const parts: Uint8Array[] = [];
	for (let turn = 0; ; turn++) {
		const before = reader.offset;
		const lengthBytes = 1 + ((turn * 7919) % 70_000);
		const peeked = (await reader.peek(lengthBytes)).slice();
		expect(reader.offset).toBe(before);
		const part = ((turn % 3 === 0 && reader.takeNow(lengthBytes)) || (await reader.take(lengthBytes))).slice();
		expect(Buffer.compare(part, peeked)).toBe(0);
		if (part.length === 0) break;
		parts.push(part);
		expect(reader.offset).toBe(before + part.length);
	}
	expect(await reader.isAtEnd()).toBe(true);
	return Buffer.concat(parts);
}

describe("a stream read in chunks", () => {
	test.each([1000, 4096, 65_536, 1 << 20])("chunks of %i octets give the octets", async (chunkBytes) => {
		const got = await readAll(new StreamReader(sourceOf(octets, "memory", chunkBytes)));
		expect(Buffer.compare(got, octets)).toBe(0);
	});

	test.each([
		["plain", octets],
		["gzip", gzipSync(octets)],
	])("a %s file gives the octets", async (name, content) => {
		const path = join(scratch, name);
		writeFileSync(path, content);
		const source = await openSource(path);
		const got = await readAll(new StreamReader(source));
		await source.close();
		expect(Buffer.compare(got, octets)).toBe(0);
	});

	test("a file is passed over without being read, and the octets behind are those that stand there", async () => {
		const file = join(scratch, "passed");
		writeFileSync(file, octets);
		// Within a buffer, to its end, one beyond, into what was read ahead, far beyond both, to the end.
		for (const lengthBytes of [1, 65_536, (1 << 20) - 5, 1 << 20, (1 << 20) + 1, (2 << 20) + 7, octets.length - 5]) {
			const reader = new StreamReader(await openSource(file));
			try {
				await reader.take(5);
				expect(await reader.skip(lengthBytes)).toBe(Math.min(lengthBytes, octets.length - 5));
				expect(reader.offset).toBe(5 + lengthBytes);
				const next = (await reader.take(100)).slice();
				expect(Buffer.compare(next, octets.subarray(5 + lengthBytes, 105 + lengthBytes))).toBe(0);
				expect(await reader.skip(7)).toBe(Math.max(0, Math.min(7, octets.length - 105 - lengthBytes)));
				const rest = await reader.take(octets.length);
				expect(Buffer.compare(rest, octets.subarray(112 + lengthBytes))).toBe(0);
				expect(await reader.skip(1)).toBe(0);
			} finally {
				await reader.close();
			}
		}
		const reader = new StreamReader(await openSource(file));
		expect(await reader.skip(octets.length + 10)).toBe(octets.length);
		expect(await reader.isAtEnd()).toBe(true);
		await reader.close();
	});

	test("skip says how much there was", async () => {
		const reader = new StreamReader(sourceOf(octets, "memory", 4096));
		expect(await reader.skip(10_000)).toBe(10_000);
		expect((await reader.take(1))[0]).toBe(octets[10_000]);
		expect(await reader.skip(octets.length)).toBe(octets.length - 10_001);
		expect(await reader.take(1)).toHaveLength(0);
	});

	test("a gzip file that is cut off is XLU_E_IMAGE, one that is not there XLU_E_IO", async () => {
		const path = join(scratch, "cut");
		writeFileSync(path, gzipSync(octets).subarray(0, 5000));
		const reader = new StreamReader(await openSource(path));
		await expect(reader.skip(octets.length)).rejects.toMatchObject({ code: "XLU_E_IMAGE" });
		await reader.close();
		await expect(openSource(join(scratch, "absent"))).rejects.toMatchObject({ code: "XLU_E_IO" });
		const directory = openSource(scratch);
		await expect(directory).rejects.toMatchObject({ code: "XLU_E_IO" });
	});
});
