/**
 * Golden streams of every released format version: their octets never change, and the core of today opens, checks and
 * restores them (F2). tools/golden.mjs writes one that does not exist yet, and no other.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FORMAT_VERSION } from "../../src/format/schema.ts";
import { readHeader, walkRecords } from "../../src/inspect/stream.ts";
import { openCheck, restoreAll, root } from "../support/core.ts";

const golden = join(root, "test/golden");

function sha256(octets: Uint8Array): string {
	return createHash("sha256").update(octets).digest("hex");
}

/** File -> hash. */
function sums(directory: string): Map<string, string> {
	const lines = readFileSync(join(directory, "SHA256SUMS"), "utf8").trimEnd().split("\n");
	return new Map(lines.map((line) => line.split("  ").reverse() as [string, string]));
}

const versions = readdirSync(golden).sort();

/** SHA-256 of each released version's SHA256SUMS: nobody changes a stream and its line together. */
const released: Readonly<Record<string, string>> = {
	v1: "e71cb444d20f4e3a5fe1a89d324d192b32bad680483ec761d25dd30c1cf18dc3",
	v2: "bfe0d061dcd5b9c7e49c56551fa6bd1d415fd2e6de305b4e7fec8a36079c0c61",
};

test("there is a directory for every version up to this one", () => {
	expect(versions).toEqual(Array.from({ length: FORMAT_VERSION }, (_, i) => `v${i + 1}`));
});

describe.each(versions)("%s", (version) => {
	const directory = join(golden, version);
	const listed = sums(directory);
	const streams = [...listed.keys()].filter((file) => file.endsWith(".xlu"));

	test("its list is the one of its release", () => {
		expect(sha256(readFileSync(join(directory, "SHA256SUMS")))).toBe(released[version]);
	});

	test("SHA256SUMS lists exactly what is there, and every stream has its memory", () => {
		expect(readdirSync(directory).sort()).toEqual(["SHA256SUMS", ...listed.keys()].sort());
		expect([...listed.keys()].sort()).toEqual(streams.flatMap((file) => [file, `${file}.mem`]).sort());
		expect(streams).toContain("tiny.xlu");
	});

	test.each([...listed])("%s has the octets of its release", (file, digest) => {
		expect(sha256(readFileSync(join(directory, file)))).toBe(digest);
	});

	test.each(streams)("%s is opened, checked and restored; saving what was restored gives the same octets", (file) => {
		const stream = new Uint8Array(readFileSync(join(directory, file)));
		const memory = new Uint8Array(readFileSync(join(directory, `${file}.mem`)));
		expect(`v${readHeader(stream).version}`).toBe(version);
		const checked = openCheck(stream, memory);
		const target = restoreAll(checked);
		const context = checked.core.createContext();
		context.saveAs(Number(version.slice(1)));
		const again = context.save(target, checked.core.allocate(context.planSave(target)));
		expect(Buffer.compare(checked.core.bytes(again), stream)).toBe(0);
	});
});

test("v1's forms.xlu has every form of chunk, and leaves an empty slice out", () => {
	const seen = new Set<string>();
	const slices: number[] = [];
	for (const { def, body } of walkRecords(new Uint8Array(readFileSync(join(golden, "v1/forms.xlu"))))) {
		if (def?.cardinality !== "slice" || !def.head) continue;
		const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
		if (def.name === "LU_P2M") slices.push(Number(view.getBigUint64(0, true)));
		for (let at = def.head.size; at < body.length; at += 8 + view.getUint32(at + 4, true)) {
			seen.add(`${def.name} ${["", "RUNS", "PACKED", "LITERAL"][view.getUint8(at)]}`);
		}
	}
	const ofP2m = ["LU_P2M LITERAL", "LU_P2M PACKED", "LU_P2M RUNS"];
	const ofFrames = ["LU_FRAMES PACKED", "LU_FRAMES RUNS", "LU_PAGE_TYPES LITERAL", "LU_PAGE_TYPES RUNS"];
	expect([...seen].sort()).toEqual([...ofFrames, ...ofP2m].sort());
	expect(slices).toEqual([0, 2 << 20]);
});

describe("tools/golden.mjs", () => {
	let directory: string;
	beforeAll(() => {
		directory = mkdtempSync(join(tmpdir(), "xlu-golden-"));
	});
	afterAll(() => rmSync(directory, { recursive: true, force: true }));

	const run = (...args: string[]) =>
		spawnSync(process.execPath, ["tools/golden.mjs", ...args], { cwd: root, encoding: "utf8" });

	test("writes what does not exist, lists it, and never rewrites it", () => {
		expect(run("--to", directory, "tiny").status).toBe(0);
		const listed = sums(directory);
		expect([...listed.keys()]).toEqual(["tiny.xlu", "tiny.xlu.mem"]);
		for (const [file, digest] of listed) expect(sha256(readFileSync(join(directory, file)))).toBe(digest);
		writeFileSync(join(directory, "tiny.xlu"), "released");
		const { status, stdout } = run("--to", directory, "tiny");
		expect(status).toBe(0);
		expect(stdout).toContain("never rewritten");
		expect(readFileSync(join(directory, "tiny.xlu"), "utf8")).toBe("released");
		expect(sums(directory)).toEqual(listed);
	});

	test("usage: no name, a name without its host", () => {
		expect(run().status).toBe(2);
		expect(run("--to", directory, "pv").status).toBe(2);
	});
});
