/**
 * Rubbish for every command that reads a stream: a coded error and its exit status in bounded time and memory, nothing half
 * written, what was there as it was.
 */
import {
	chmodSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	truncateSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { root } from "../support/core.ts";
import { joined, smallImage } from "../support/images.ts";
import { shell, xlu } from "./xlu.ts";

const scratch = mkdtempSync(join(tmpdir(), "xlu-rubbish-"));
const at = (name: string) => join(scratch, name);
const golden = join(root, "test/golden/v1/tiny.xlu");
const store = join(root, "test/fixtures/xenstore/plain.dump");
/** Root may write and read everything. */
const isRoot = process.getuid?.() === 0;

beforeAll(async () => {
	writeFileSync(at("image"), joined(await smallImage("pv")));
	writeFileSync(at("empty"), "");
	writeFileSync(at("cut.gz"), readFileSync(join(root, "test/fixtures/xen-4.17/pv/pv1.xlsave.gz")).subarray(0, 5000));
	writeFileSync(at("sparse"), "");
	truncateSync(at("sparse"), 2 ** 30);
	mkdirSync(at("folder"));
	mkdirSync(at("locked"));
	chmodSync(at("locked"), 0o555);
	writeFileSync(at("unreadable"), readFileSync(golden));
	chmodSync(at("unreadable"), 0);
});
afterAll(() => {
	chmodSync(at("locked"), 0o755);
	rmSync(scratch, { recursive: true });
});

let before: string[];
beforeEach(() => {
	before = readdirSync(scratch);
});
const nothingNew = () => expect(readdirSync(scratch).filter((name) => !before.includes(name))).toEqual([]);

/** How each command takes a file. */
const commands: Record<string, (file: string) => string[]> = {
	inspect: (file) => ["inspect", file],
	"inspect --json": (file) => ["inspect", file, "--json"],
	"inspect --tree": (file) => ["inspect", file, "--tree"],
	verify: (file) => ["verify", file],
	convert: (file) => ["convert", file, "-o", at("never"), "--to", "json"],
	diff: (file) => ["diff", golden, file],
	"diff, the first one": (file) => ["diff", file, golden],
	restore: (file) => ["restore", file],
};

/** Exit status by file; a directory is a host's capture for inspect alone. */
const rubbish: [file: string, status: number, code: RegExp][] = [
	["empty", 3, /XLU_E_IMAGE|XLU-R001/],
	["folder", 2, /XLU_E_IO.*EISDIR/s],
	["cut.gz", 3, /XLU_E_IMAGE|XLU-R002|XLU_E_USAGE/],
	["sparse", 3, /XLU_E_IMAGE|XLU-R002/],
	["missing", 2, /XLU_E_IO.*ENOENT/s],
	...(isRoot ? [] : [["unreadable", 2, /XLU_E_IO.*EACCES/s] as [string, number, RegExp]]),
];

describe.each(Object.entries(commands))("xlu %s", (name, args) => {
	test.each(rubbish)("%s", (file, expected, code) => {
		const started = Date.now();
		const { status, stdout, stderr } = xlu(args(at(file)));
		const isHost = file === "folder" && name.startsWith("inspect");
		// The two are not of one format, which shows before the end does.
		const isPair = file === "cut.gz" && name === "diff";
		expect([status, `${stdout}${stderr}`]).toEqual([
			isHost ? 3 : isPair ? 2 : expected,
			expect.stringMatching(isHost ? /XLU_E_CAPTURE/ : code),
		]);
		expect(stderr).not.toMatch(/XLU_E_INTERNAL|\bat .*\.js:\d+/);
		expect(Date.now() - started).toBeLessThan(20_000);
		nothingNew();
	});

	test("zeros that never end", () => {
		const line = args("-").map((word) => `'${word}'`);
		const { status, stdout, stderr } = shell(`ulimit -v 60000000; head -c 64G /dev/zero | $XLU ${line.join(" ")}`);
		expect([status, `${stdout}${stderr}`]).toEqual([3, expect.stringMatching(/XLU_E_IMAGE|XLU-R002/)]);
		nothingNew();
	});
});

describe("outputs of xlu convert", () => {
	const json = (output: string, input = at("image")) => xlu(["convert", input, "-o", output, "--to", "json"]);

	test.each([
		["in a directory that is not there", () => at("nowhere/x"), /ENOENT/],
		["below a file", () => at("image/x"), /ENOTDIR/],
		["that is a directory", () => at("folder"), /EISDIR/],
		["that is full", () => "/dev/full", /ENOSPC/],
		...(isRoot ? [] : [["in a directory that is not to be written to", () => at("locked/x"), /EACCES/] as const]),
	] as const)("%s", (_what, output, code) => {
		const { status, stderr } = json(output());
		expect([status, stderr]).toEqual([2, expect.stringMatching(/^xlu: XLU_E_IO: /)]);
		expect(stderr).toMatch(code);
		nothingNew();
	});

	test("over the input, and over a file that is there: the whole of the new one", () => {
		writeFileSync(at("same"), readFileSync(golden));
		expect(json(at("same"), at("same")).status).toBe(0);
		expect(JSON.parse(readFileSync(at("same"), "utf8")).format).toBe("xlu");
		expect(xlu(["convert", at("same"), "-o", at("same")]).status).toBe(0);
		expect(readFileSync(at("same")).equals(readFileSync(golden))).toBe(true);
		expect(readdirSync(scratch).filter((name) => name.includes("part"))).toEqual([]);
	});

	test("what cannot be converted leaves the file that is there alone", () => {
		writeFileSync(at("kept"), "before");
		const made = statSync(at("kept")).ino;
		for (const input of ["empty", "cut.gz", "missing"]) expect(json(at("kept"), at(input)).status).toBeGreaterThan(0);
		expect(readFileSync(at("kept"), "utf8")).toBe("before");
		expect(statSync(at("kept")).ino).toBe(made);
	});
});

describe("records and pipes", () => {
	test.each([
		["an image", at("image")],
		["a live-update stream", golden],
		["a xenstore stream", store],
	])("--record beyond the last one of %s", (_what, file) => {
		for (const more of [[], ["--json"], ["--hex"]]) {
			const { status, stdout, stderr } = xlu(["inspect", file, "--record", "99999", ...more]);
			expect([status, stdout]).toEqual([2, ""]);
			expect(stderr).toMatch(/^xlu: XLU_E_USAGE: There is no record 99999\.\n.*expected 0 to \d+/);
		}
		expect(xlu(["inspect", file, "--record", "-1"]).status).toBe(2);
	});

	test.each([
		"inspect IMAGE --json",
		"inspect GOLDEN --json",
		"inspect STORE --tree",
		"verify IMAGE",
		"diff GOLDEN STORE_",
		"convert IMAGE -o - --to json",
		"convert GOLDEN -o - --to json",
		"explain",
	])("%s: a reader that goes away is no error, an output that is full is one", (line) => {
		const command = line
			.replace("IMAGE", at("image"))
			.replace("GOLDEN", golden)
			.replace("STORE_", join(root, "test/golden/v1/pv.xlu"))
			.replace("STORE", store);
		const gone = shell(`set -o pipefail; $XLU ${command} | head -c 1 > ${at("octet")}; exit \${PIPESTATUS[0]}`);
		expect([gone.status === 0 || gone.status === 1, gone.stderr]).toEqual([true, ""]);
		const full = shell(`$XLU ${command} > /dev/full`);
		expect([full.status, full.stderr]).toEqual([2, expect.stringMatching(/XLU_E_IO: .*ENOSPC/)]);
	});

	test("a memory that never ends, or is another file's, is refused", () => {
		for (const memory of ["/dev/zero", at("sparse"), at("empty")]) {
			const { status, stderr } = xlu(["restore", golden, "--memory", memory]);
			expect([status, stderr]).toEqual([1, expect.stringMatching(/^xlu: XLU_E_MEMORY/)]);
		}
	});
});
