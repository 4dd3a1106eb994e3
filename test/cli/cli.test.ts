/**
 * The command end to end, as it is built in dist/: what it prints, where, and the status that it ends in. Keys of the JSON
 * objects are those of docs/CLI.md.
 */
import {
	chmodSync,
	existsSync,
	lstatSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { root } from "../support/core.ts";
import { host, shell, xlu } from "./xlu.ts";

const scratch = mkdtempSync(join(tmpdir(), "xlu-cli-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const at = (name: string): string => join(scratch, name);

let directories = 0;
function emptyDirectory(): string {
	const path = at(`directory-${directories++}`);
	mkdirSync(path);
	return path;
}

/** One JSON object of a line, and nothing else. */
function one(stdout: string): Record<string, unknown> {
	expect(stdout.endsWith("\n")).toBe(true);
	expect(stdout.trimEnd().split("\n").length).toBe(1);
	return JSON.parse(stdout);
}

const keysOf = (value: unknown): string[] => Object.keys(value as object);

const DOMAIN_KEYS = ["domid", "kind", "vcpus", "frames", "ports", "grantMappings"];
const RUN_KEYS = ["host", "identical", "difference", "blackoutMs", "workers", "streamBytes", "stages", "domains"];
const FINDING_KEYS = ["rule", "domid", "record", "offset", "field", "expected", "got", "message"];
const STAGES = "trigger,quiesce,save,check,hand-over,open,pass 0,pass 1,pass 2,unpause".split(",");
const PORT_KEYS = "domid,port,state,vcpu,remoteDomid,remotePort,virq,pirq,pending,masked".split(",");
const RECORD_KEYS = "index,type,name,layer,offset,length,domid,pass,fields".split(",");

/** A stream and its memory, for the commands that read. */
const saved = at("pv.xlu");
let stream: Buffer;
let memory: Buffer;
beforeAll(() => {
	const { status } = xlu(["save", host("pv"), "-o", saved]);
	expect(status).toBe(0);
	stream = readFileSync(saved);
	memory = readFileSync(`${saved}.mem`);
});

/** The stream with a change of its octets, under a name of its own, its memory beside it. */
function changed(name: string, change: (octets: Buffer) => Buffer | undefined, withMemory = true): string {
	const octets = Buffer.from(stream);
	writeFileSync(at(name), change(octets) ?? octets);
	if (withMemory) writeFileSync(at(`${name}.mem`), memory);
	return at(name);
}

const ESCAPE = String.fromCharCode(27);

describe("xlu run", () => {
	it("prints the timeline, the domains, blackout, stream size and the verdict", () => {
		const { status, stdout, stderr } = xlu(["run", host("pv")]);
		expect(status).toBe(0);
		expect(stderr).toBe("");
		const lines = stdout.split("\n");
		const places = STAGES.map((name) => lines.findIndex((line) => line.startsWith(`  ${name} `)));
		expect(places.every((place) => place > 0)).toBe(true);
		expect(places).toEqual([...places].sort((a, b) => a - b));
		for (const place of places) expect(lines[place]).toMatch(/ \d+\.\d{3} ms {2}█+$/);
		expect(stdout).toMatch(/^domid +kind +vcpus +frames +ports +grant mappings/m);
		expect(stdout).toMatch(/^ +0 +pv +1 +393216 +30 +15 /m);
		expect(stdout).toMatch(/^ +1 +pv +2 +10240 +22 +0 /m);
		expect(stdout).toMatch(/^blackout +\d+\.\d{3} ms \(the serializer's share, measured in a process/m);
		expect(stdout).toMatch(new RegExp(`^stream size +${stream.length} octets$`, "m"));
		expect(stdout).toMatch(/^identical: every table of xen#1 and xen#2 agrees, counts included$/m);
	});

	it("--json: one object a host, with exactly the documented keys", () => {
		const { status, stdout, stderr } = xlu(["run", "--json", host("pv"), host("pvh"), host("hvm")]);
		expect([status, stderr]).toEqual([0, ""]);
		const reports = stdout
			.trimEnd()
			.split("\n")
			.map((line) => JSON.parse(line));
		expect(reports.map((report) => report.host)).toEqual(["pv", "pvh", "hvm"]);
		for (const report of reports) {
			expect(keysOf(report)).toEqual(RUN_KEYS);
			expect(report).toMatchObject({ identical: true, difference: null });
			expect(report.stages.map(({ name }: { name: string }) => name)).toEqual(STAGES);
			for (const stage of report.stages) {
				expect(keysOf(stage)).toEqual(["name", "ms"]);
				expect(stage.ms).toBeTypeOf("number");
			}
			const blackout = report.stages.slice(1).reduce((sum: number, { ms }: { ms: number }) => sum + ms, 0);
			expect(report.blackoutMs).toBeCloseTo(blackout, 6);
			for (const domain of report.domains) expect(keysOf(domain)).toEqual([...DOMAIN_KEYS, "passMs"]);
		}
		expect(reports[0].streamBytes).toBe(stream.length);
		const domains = reports.map((report) =>
			report.domains.map((domain: Record<string, unknown>) => DOMAIN_KEYS.map((key) => domain[key])),
		);
		expect(domains).toEqual([
			[
				[0, "pv", 1, 393216, 30, 15],
				[1, "pv", 2, 10240, 22, 0],
			],
			[
				[0, "pv", 1, 393216, 30, 15],
				[1, "pvh", 2, 10192, 20, 0],
			],
			[
				[0, "pv", 1, 393216, 33, 15],
				[4, "hvm", 2, 12283, 26, 0],
			],
		]);
	});

	it("the same with other places for the stream's frames and another size of xen#2", () => {
		const { status, stdout } = xlu(["run", "--json", "--seed", "7", "--xen2-size", "20", host("pv")]);
		expect(status).toBe(0);
		expect(one(stdout)).toMatchObject({ identical: true, streamBytes: stream.length });
	});

	it("a xen#2 that bootmem cannot hold: refused with status 1 and the reason", () => {
		const { status, stdout, stderr } = xlu(["run", "--xen2-size", "4096", host("pv")]);
		expect(status).toBe(1);
		expect(stdout).toBe("");
		expect(stderr).toMatch(/^xlu: XLU_E_HANDOVER: /);
	});

	it("several hosts, one of which is not there: the others still run, the worst status is the command's", () => {
		const { status, stdout, stderr } = xlu(["run", "--json", at("nowhere"), host("pv")]);
		expect(status).toBe(2);
		expect(stderr).toMatch(/^xlu: XLU_E_IO: /);
		const [failed, ran] = stdout
			.trimEnd()
			.split("\n")
			.map((line) => JSON.parse(line));
		expect(failed).toMatchObject({ error: { code: "XLU_E_IO" } });
		expect(ran).toMatchObject({ host: "pv", identical: true });
	});

	it.each([
		["no such directory", "nowhere", 2, "XLU_E_IO"],
		["a path below a file", "pv.xlu/x", 2, "XLU_E_IO"],
		["a name too long", "x".repeat(5000), 2, "XLU_E_IO"],
		["a capture without its dumps", ".", 3, "XLU_E_CAPTURE"],
	])("%s: status and reason, on standard error; with --json as an object too", (_what, name, expected, code) => {
		const directory = name === "." ? emptyDirectory() : at(name);
		const text = xlu(["run", directory]);
		expect([text.status, text.stdout]).toEqual([expected, ""]);
		expect(text.stderr).toMatch(new RegExp(`^xlu: ${code}: `));
		const json = xlu(["run", "--json", directory]);
		expect(json.status).toBe(expected);
		expect(one(json.stdout)).toMatchObject({ error: { code, expected: expect.any(String), got: expect.any(String) } });
	});
});

describe("xlu save", () => {
	it("writes FILE and FILE.mem and says how large they are", () => {
		const directory = emptyDirectory();
		const { status, stdout, stderr } = xlu(["save", host("pv"), "-o", "a.xlu"], { cwd: directory });
		expect([status, stderr]).toEqual([0, ""]);
		expect(readdirSync(directory).sort()).toEqual(["a.xlu", "a.xlu.mem"]);
		expect(readFileSync(join(directory, "a.xlu")).equals(stream)).toBe(true);
		expect(readFileSync(join(directory, "a.xlu.mem")).equals(memory)).toBe(true);
		expect(stdout).toBe(`a.xlu: ${stream.length} octets; a.xlu.mem: ${memory.length} octets of preserved memory\n`);
	});

	it("--json: the files and their sizes", () => {
		const directory = emptyDirectory();
		const { stdout } = xlu(["save", "--json", host("pv"), "-o", "a", "--memory", "b"], { cwd: directory });
		expect(one(stdout)).toEqual({ file: "a", memory: "b", streamBytes: stream.length, memoryBytes: memory.length });
		expect(readdirSync(directory).sort()).toEqual(["a", "b"]);
	});

	it("--window: the same stream in steps; a window that is too small, or no size, is refused", () => {
		const directory = emptyDirectory();
		const run = (window: string) => xlu(["save", host("pv"), "-o", "a.xlu", "--window", window], { cwd: directory });
		const small = run("1K");
		expect([small.status, small.stderr]).toEqual([1, expect.stringMatching(/XLU-R030.*expected \d+.*found 1024/s)]);
		for (const wrong of ["0", "1T", "-1", "4G", "M"]) {
			expect(run(wrong).status, wrong).toBe(2);
		}
		expect(readdirSync(directory)).toEqual([]);
		expect(run("16M").status).toBe(0);
		expect(readFileSync(join(directory, "a.xlu")).equals(stream)).toBe(true);
		expect(readFileSync(join(directory, "a.xlu.mem")).equals(memory)).toBe(true);
	});

	it("--format 1: for a xen#2 that knows no other; it verifies, and restores to the same", () => {
		const directory = emptyDirectory();
		const { status, stderr } = xlu(["save", host("pv"), "--format", "1", "-o", "a.xlu"], { cwd: directory });
		expect([status, stderr]).toEqual([0, ""]);
		const older = readFileSync(join(directory, "a.xlu"));
		expect([older.readUInt32BE(12), stream.readUInt32BE(12)]).toEqual([1, 2]);
		expect(older.subarray(16).equals(stream.subarray(16))).toBe(true);
		expect(xlu(["verify", join(directory, "a.xlu")]).status).toBe(0);
		expect(xlu(["restore", join(directory, "a.xlu"), "--compare", host("pv")]).status).toBe(0);
	});

	it.each(["0", "3", "one"])("--format %s: status 2, nothing written", (format) => {
		const directory = emptyDirectory();
		const { status, stderr } = xlu(["save", host("pv"), "--format", format, "-o", "a.xlu"], { cwd: directory });
		expect(status).toBe(2);
		expect(stderr).toMatch(/--format/);
		expect(readdirSync(directory)).toEqual([]);
	});

	it("--window and --format 1 together", () => {
		const directory = emptyDirectory();
		const save = (...options: string[]) =>
			xlu(["save", host("pv"), "--format", "1", ...options], { cwd: directory }).status;
		expect([save("-o", "a.xlu"), save("-o", "b.xlu", "--window", "16M")]).toEqual([0, 0]);
		expect(readFileSync(join(directory, "b.xlu")).equals(readFileSync(join(directory, "a.xlu")))).toBe(true);
	});

	it("-o -: the stream on standard output, octet for octet, and nothing else", () => {
		const directory = emptyDirectory();
		const ended = xlu(["save", host("pv"), "-o", "-"], { cwd: directory });
		expect(ended.status).toBe(0);
		expect(ended.raw.equals(stream)).toBe(true);
		expect(ended.stderr).toMatch(/the preserved memory was not written; give --memory FILE/);
		expect(readdirSync(directory)).toEqual([]);
		const withMemory = xlu(["save", host("pv"), "-o", "-", "--memory", "m"], { cwd: directory });
		expect([withMemory.status, withMemory.stderr]).toEqual([0, ""]);
		expect(readFileSync(join(directory, "m")).equals(memory)).toBe(true);
	});

	it.each([
		["the directory is not there", "nowhere/a.xlu", undefined],
		["FILE is a directory", "sub", undefined],
		["FILE is below a file", "old.xlu/a", undefined],
		["the memory's directory is not there", "old.xlu", "nowhere/m"],
		["the memory is a directory", "old.xlu", "sub"],
		["stream and memory are one file", "old.xlu", "old.xlu"],
	])("where %s: status 2, old files stay, no parts are left", (_what, file, memoryFile) => {
		const directory = emptyDirectory();
		mkdirSync(join(directory, "sub"));
		for (const name of ["old.xlu", "old.xlu.mem"]) writeFileSync(join(directory, name), name);
		const args = ["save", host("pv"), "-o", file, ...(memoryFile ? ["--memory", memoryFile] : [])];
		const { status, stdout, stderr } = xlu(args, { cwd: directory });
		expect([status, stdout]).toEqual([2, ""]);
		expect(stderr).toMatch(/^xlu: XLU_E_IO: .* cannot be written: /);
		expect(readdirSync(directory).sort()).toEqual(["old.xlu", "old.xlu.mem", "sub"]);
		expect(readdirSync(join(directory, "sub"))).toEqual([]);
		for (const name of ["old.xlu", "old.xlu.mem"]) expect(readFileSync(join(directory, name), "utf8")).toBe(name);
	});

	it.runIf(process.getuid?.() !== 0)("where the directory cannot be written: status 2, old files stay", () => {
		const directory = emptyDirectory();
		writeFileSync(join(directory, "old.xlu"), "old");
		chmodSync(directory, 0o555);
		const { status, stderr } = xlu(["save", host("pv"), "-o", join(directory, "old.xlu")]);
		chmodSync(directory, 0o755);
		expect(status).toBe(2);
		expect(stderr).toMatch(/EACCES/);
		expect(readFileSync(join(directory, "old.xlu"), "utf8")).toBe("old");
	});

	it("a host that cannot be saved leaves old files as they are", () => {
		const directory = emptyDirectory();
		writeFileSync(join(directory, "old.xlu"), "old");
		const { status } = xlu(["save", host("zombie"), "-o", join(directory, "old.xlu")]);
		expect(status).toBe(3);
		expect(readdirSync(directory)).toEqual(["old.xlu"]);
		expect(readFileSync(join(directory, "old.xlu"), "utf8")).toBe("old");
	});

	it("a device or a pipe is written to, not replaced; a symbolic link stays one", () => {
		const directory = emptyDirectory();
		const pipe = shell(`mkfifo p && (cat p > got & $XLU save ${host("pv")} -o p; echo $? > status; wait)`, {
			cwd: directory,
		});
		expect(pipe.stderr).toBe("");
		expect(readFileSync(join(directory, "status"), "utf8")).toBe("0\n");
		expect(lstatSync(join(directory, "p")).isFIFO()).toBe(true);
		expect(readFileSync(join(directory, "got")).equals(stream)).toBe(true);
		expect(existsSync(join(directory, "p.mem"))).toBe(false);
		const linked = emptyDirectory();
		writeFileSync(join(linked, "old"), "old");
		symlinkSync("old", join(linked, "link"));
		expect(xlu(["save", host("pv"), "-o", "link"], { cwd: linked }).status).toBe(0);
		expect(lstatSync(join(linked, "link")).isSymbolicLink()).toBe(true);
		expect(readFileSync(join(linked, "old")).equals(stream)).toBe(true);
	});
});

describe("xlu verify", () => {
	it("a stream with its memory: every rule holds", () => {
		const { status, stdout, stderr } = xlu(["verify", saved]);
		expect([status, stdout, stderr]).toEqual([0, `${saved}: every rule holds\n`, ""]);
		const json = one(xlu(["verify", "--json", saved]).stdout);
		expect(json).toEqual({ ok: true, findings: [], notCheckable: [] });
	});

	it("from standard input, with and without its memory", () => {
		const alone = xlu(["verify", "-", "--json"], { input: stream });
		expect(alone.status).toBe(0);
		expect(one(alone.stdout)).toMatchObject({
			ok: true,
			findings: [],
			notCheckable: ["XLU-R034", "XLU-R057"],
		});
		expect(xlu(["verify", "-", "--memory", `${saved}.mem`], { input: stream }).stdout).toBe("-: every rule holds\n");
		expect(xlu(["verify", "-"], { input: new Uint8Array(0) }).status).toBe(3);
	});

	it("a stream alone names the rules that need its memory", () => {
		const file = changed("alone.xlu", () => undefined, false);
		const { status, stdout } = xlu(["verify", file]);
		expect(status).toBe(0);
		expect(stdout).toMatch(/^not checkable without the preserved memory \(.*alone\.xlu\.mem\): XLU-R\d{3}/m);
	});

	it.each<[string, (octets: Buffer) => Buffer | undefined, number, RegExp]>([
		["cut off in its last record", (octets) => octets.subarray(0, -8), 3, /XLU-R\d{3}/],
		["cut off in its middle", (octets) => octets.subarray(0, 10_000), 3, /XLU-R\d{3}/],
		["cut off in its header", (octets) => octets.subarray(0, 23), 3, /XLU-R\d{3}/],
		["empty", () => Buffer.alloc(0), 3, /XLU-R\d{3}/],
		[
			"with a flipped bit in a body",
			(octets) => void octets.writeUInt8((octets[15_000] as number) ^ 1, 15_000),
			3,
			/XLU-R\d{3}/,
		],
		["with a flipped bit in its marker", (octets) => void octets.writeUInt8(0xfe, 0), 3, /XLU-R002/],
		["of version 3", (octets) => void octets.writeUInt32BE(3, 12), 1, /XLU-R003/],
		["with an unknown option", (octets) => void octets.writeUInt16BE(2, 16), 1, /XLU-R004/],
		["that says it is big-endian and is not", (octets) => void octets.writeUInt16BE(1, 16), 3, /XLU-R\d{3}/],
		["that is no stream", () => Buffer.from("This is a letter, and no stream at all.\n"), 3, /XLU-R002/],
	])("a file %s: status and finding", (what, change, expected, message) => {
		const file = changed(`${what.replaceAll(" ", "-")}.xlu`, change);
		const { status, stdout, stderr } = xlu(["verify", "--json", file]);
		expect([status, stderr]).toEqual([expected, ""]);
		const result = one(stdout) as { ok: boolean; findings: Record<string, unknown>[] };
		expect(keysOf(result)).toEqual(["ok", "findings", "notCheckable"]);
		expect(result.ok).toBe(false);
		expect(result.findings.length).toBe(1);
		const [finding] = result.findings;
		expect(keysOf(finding)).toEqual(FINDING_KEYS);
		expect(`${finding?.rule} ${finding?.message}`).toMatch(message);
		expect(finding?.expected).toBeTypeOf("string");
		expect(finding?.got).toBeTypeOf("string");
		const text = xlu(["verify", file]);
		expect([text.status, text.stderr]).toEqual([expected, ""]);
		expect(text.stdout).toContain(`${finding?.message}\n`);
		expect(text.stdout).not.toContain("every rule holds");
	});

	it("a stream with the memory of another: status 1, rule XLU-R035", () => {
		const other = at("other.xlu");
		expect(xlu(["save", host("pvh"), "-o", other]).status).toBe(0);
		const { status, stdout } = xlu(["verify", "--json", saved, "--memory", `${other}.mem`]);
		expect(status).toBe(1);
		const [finding] = one(stdout).findings as Record<string, unknown>[];
		expect(finding?.rule).toMatch(/^XLU-R03\d$/);
		expect(xlu(["restore", saved, "--memory", `${other}.mem`]).status).toBe(1);
	});

	it("a memory that is damaged or none: status 1", () => {
		for (const [name, octets] of [
			["short", memory.subarray(0, memory.length - 1)],
			["text", Buffer.from("no memory")],
			["flipped", Buffer.from(memory).fill(0xff, 9000, 9001)],
		] as const) {
			writeFileSync(at(name), octets);
			const { status, stdout } = xlu(["verify", "--json", saved, "--memory", at(name)]);
			expect([name, status]).toEqual([name, 1]);
			expect(one(stdout).ok).toBe(false);
		}
	});

	it("a file that is not there: status 2", () => {
		const { status, stdout, stderr } = xlu(["verify", at("nothing.xlu")]);
		expect([status, stdout]).toEqual([2, ""]);
		expect(stderr).toMatch(/^xlu: XLU_E_IO: .*nothing\.xlu cannot be read: ENOENT/);
		const json = xlu(["verify", "--json", at("nothing.xlu")]);
		expect(one(json.stdout)).toMatchObject({ error: { code: "XLU_E_IO" } });
		expect(xlu(["verify", saved, "--memory", at("nothing.mem")]).status).toBe(2);
		expect(xlu(["verify", scratch]).status).toBe(2);
	});
});

describe("xlu restore", () => {
	it("restores, and finds the image identical to the host that it was saved from", () => {
		const { status, stdout, stderr } = xlu(["restore", saved, "--compare", host("pv")]);
		expect([status, stderr]).toEqual([0, ""]);
		expect(stdout).toMatch(/^restored 2 domains, image \d+ octets, digest 0x[0-9a-f]{16}$/m);
		expect(stdout).toMatch(/^identical to .*pv$/m);
		const json = one(xlu(["restore", "--json", saved, "--compare", host("pv")]).stdout);
		expect(keysOf(json)).toEqual(["file", "digest", "imageBytes", "domains", "identical", "difference"]);
		expect(json).toMatchObject({ file: saved, identical: true, difference: null });
		for (const domain of json.domains as object[]) expect(keysOf(domain)).toEqual(DOMAIN_KEYS);
	});

	it("another host is different: status 1, and where", () => {
		const { status, stdout } = xlu(["restore", saved, "--compare", host("pvh")]);
		expect(status).toBe(1);
		expect(stdout).toMatch(/^different from .*pvh: (host|domain \d+), table \w+, row \d+, field \w+: octet/m);
		const json = xlu(["restore", "--json", saved, "--compare", host("pvh")]);
		expect(json.status).toBe(1);
		expect(one(json.stdout)).toMatchObject({ identical: false, difference: { table: expect.any(String) } });
	});

	it("without --compare there is no verdict", () => {
		const json = one(xlu(["restore", "--json", saved]).stdout);
		expect(keysOf(json)).toEqual(["file", "digest", "imageBytes", "domains"]);
	});

	it("from standard input with the memory's name", () => {
		const ended = xlu(["restore", "-", "--memory", `${saved}.mem`], { input: stream });
		expect([ended.status, ended.stderr]).toEqual([0, ""]);
	});

	it("a stream alone: status 1, rule XLU-R035, nothing restored", () => {
		const file = changed("lonely.xlu", () => undefined, false);
		const { status, stdout, stderr } = xlu(["restore", file]);
		expect([status, stdout]).toEqual([1, ""]);
		expect(stderr).toMatch(/^xlu: XLU_E_MEMORY: .*lonely\.xlu alone cannot be restored.*XLU-R035/);
		const json = one(xlu(["restore", "--json", file]).stdout);
		expect(json).toMatchObject({ error: { code: "XLU_E_MEMORY", rule: "XLU-R035" } });
	});

	it("a damaged stream: status 3, memory or none", () => {
		for (const withMemory of [true, false]) {
			const file = changed(`broken-${withMemory}.xlu`, (octets) => octets.subarray(0, 20_000), withMemory);
			const { status, stdout, stderr } = xlu(["restore", file]);
			expect([status, stdout]).toEqual([3, ""]);
			expect(stderr).toMatch(/^xlu: XLU_E_DAMAGED: /);
		}
	});
});

describe("xlu inspect", () => {
	it("--json of a stream: exactly the documented keys, records end to end, and ports", () => {
		const { status, stdout, stderr } = xlu(["inspect", "--json", saved]);
		expect([status, stderr]).toEqual([0, ""]);
		const json = one(stdout) as {
			records: { index: number; offset: number; length: number; name: string; pass: string; layer: string }[];
			ports: Record<string, unknown>[];
		};
		expect(keysOf(json)).toEqual(["format", "version", "endianness", "records", "ports"]);
		expect(json).toMatchObject({ format: "xlu", version: 2, endianness: "little" });
		let offset = 24;
		for (const [index, record] of json.records.entries()) {
			expect(keysOf(record)).toEqual(RECORD_KEYS);
			expect([record.index, record.offset, record.layer]).toEqual([index, offset, "xlu"]);
			offset += 8 + Math.ceil(record.length / 8) * 8;
		}
		expect(offset).toBe(stream.length);
		expect(json.records.at(-1)).toMatchObject({ name: "END", type: 0, length: 0, domid: null, pass: null });
		expect(json.ports.length).toBe(52);
		for (const port of json.ports) expect(keysOf(port)).toEqual(PORT_KEYS);
		expect(json.ports.filter(({ pending }) => pending).map(({ domid, port }) => [domid, port])).toEqual([
			[1, 2],
			[1, 21],
		]);
	});

	it("a stream alone: the bits of its ports are not known", () => {
		const file = changed("bits.xlu", () => undefined, false);
		const { ports } = one(xlu(["inspect", "--json", file]).stdout) as { ports: Record<string, unknown>[] };
		expect(ports.length).toBe(52);
		expect(ports.every(({ pending, masked }) => pending === null && masked === null)).toBe(true);
	});

	it("a host: the same stream, and what was assigned or defaulted", () => {
		const json = one(xlu(["inspect", "--json", host("pv")]).stdout);
		const file = one(xlu(["inspect", "--json", saved]).stdout);
		expect(json.records).toEqual(file.records);
		expect(json.ports).toEqual(file.ports);
		expect(keysOf(json)).toEqual([...keysOf(file), "host", "domains", "assumptions"]);
		expect(json.assumptions).toContainEqual(
			expect.objectContaining({ domid: 1, what: "event-array frames", how: expect.stringMatching(/^assigned: MFN/) }),
		);
		const text = xlu(["inspect", host("hvm")]);
		expect(text.status).toBe(0);
		expect(text.stdout).toMatch(/^ *4 +P2M page tables +assigned: /m);
	});

	it("--record: one record, field by field, as text and as JSON", () => {
		const text = xlu(["inspect", saved, "--record", "1"]);
		expect(text.status).toBe(0);
		expect(text.stdout).toMatch(/^record 1: LU_VERSION, offset 64, \d+ octets, section H$/m);
		expect(text.stdout).toMatch(/^ {2}xenMinor +17$/m);
		const json = one(xlu(["inspect", saved, "--record", "1", "--json"]).stdout);
		expect(keysOf(json)).toEqual(RECORD_KEYS);
		expect(json).toMatchObject({ name: "LU_VERSION", fields: { xenMajor: 4, xenMinor: 17 } });
		expect(xlu(["inspect", saved, "--record", "9999"]).status).toBe(2);
		expect(xlu(["inspect", saved, "--record", "-1"]).status).toBe(2);
		expect(xlu(["inspect", saved, "--record", "one"]).status).toBe(2);
	});

	it("a stream that is cut off is shown as far as it goes: status 3", () => {
		const file = changed("short.xlu", (octets) => octets.subarray(0, 20_000));
		const { status, stdout, stderr } = xlu(["inspect", "--json", file]);
		expect(status).toBe(3);
		expect((one(stdout).records as unknown[]).length).toBeGreaterThan(3);
		expect(stderr).toMatch(/^xlu: XLU_E_DAMAGED: The stream ends in a record's body/);
	});

	it("a stream whose checksum is wrong is shown whole: status 3", () => {
		const file = changed("flip.xlu", (octets) => void octets.writeUInt8((octets[90] as number) ^ 1, 90));
		const { status, stdout, stderr } = xlu(["inspect", file]);
		expect(status).toBe(3);
		expect(stdout).toMatch(/ END /);
		expect(stderr).toMatch(/^xlu: XLU_E_DAMAGED: /);
	});

	it.each<[string, (octets: Buffer) => Buffer | undefined, number]>([
		["no stream", () => Buffer.from("no stream at all, but long enough for one"), 3],
		["an empty file", () => Buffer.alloc(0), 3],
		["another version", (octets) => void octets.writeUInt32BE(3, 12), 1],
	])("%s: status", (what, change, expected) => {
		expect(xlu(["inspect", changed(`inspect ${what}`, change)]).status).toBe(expected);
	});
});

describe("the command line", () => {
	it.each([
		["no arguments", []],
		["an unknown command", ["fly"]],
		["an unknown option", ["run", "--fast", "x"]],
		["a missing argument", ["verify"]],
		["a missing option", ["save", "x"]],
		["one argument too many", ["verify", "a", "b"]],
		["a value that is no number", ["run", "--seed", "many", "x"]],
		["the stream and JSON on one output", ["save", host("pv"), "-o", "-", "--json"]],
		["the memory on standard output", ["save", host("pv"), "-o", "x", "--memory", "-"]],
	])("%s: status 2, and why on standard error", (_what, args) => {
		const { status, stdout, stderr } = xlu(args, { cwd: scratch });
		expect([status, stdout]).toEqual([2, ""]);
		expect(stderr).toMatch(args.length === 0 ? /^Usage: xlu/ : /error: |XLU_E_USAGE/);
	});

	it("--help has every command, examples and the exit status; so has each command's", () => {
		const { status, stdout, stderr } = xlu(["--help"]);
		expect([status, stderr]).toEqual([0, ""]);
		for (const name of ["run", "save", "verify", "restore", "inspect"]) {
			expect(stdout).toMatch(new RegExp(`^ {2}${name} `, "m"));
			const help = xlu([name, "--help"]);
			expect([help.status, help.stdout.split("\n")[0]?.startsWith(`Usage: xlu ${name} `)]).toEqual([0, true]);
		}
		const examples = stdout.slice(stdout.indexOf("Examples:"), stdout.indexOf("Exit status:"));
		expect(examples.match(/^ {2}xlu /gm)?.length).toBeGreaterThanOrEqual(5);
		expect(stdout).toMatch(/Exit status: 0 done; 1 .*; 2 usage; 3 damaged/);
	});

	it("the examples of --help run as they stand, in the package's directory", () => {
		const { stdout } = xlu(["--help"]);
		const lines = [...stdout.matchAll(/^ {2}xlu (.*?)(?: {2,}.*)?$/gm)].map(([, line]) => line as string);
		expect(lines.length).toBeGreaterThanOrEqual(5);
		const directory = emptyDirectory();
		for (const line of lines) {
			const args = line.replaceAll("examples/", `${root}/examples/`).split(" ");
			const { status, stderr } = xlu(args, { cwd: directory });
			expect([line, status, stderr]).toEqual([line, 0, ""]);
		}
	});

	it("--version: the tool's, the core's and the format's", () => {
		const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
		for (const option of ["--version", "-V"]) {
			const { status, stdout } = xlu([option]);
			expect(status).toBe(0);
			expect(stdout).toMatch(new RegExp(`^xlu ${version}, core ABI \\d+, stream format 2\\n$`));
		}
	});

	it("runs from any directory, and through a link", () => {
		const directory = emptyDirectory();
		symlinkSync(join(root, "dist/cli/main.js"), join(directory, "xlu"));
		const { status, stdout } = shell("./xlu --version", { cwd: directory });
		expect([status, stdout.startsWith("xlu ")]).toEqual([0, true]);
	});
});

describe("output", () => {
	it("has no escape codes where it is no terminal, whatever CI says; NO_COLOR decides before FORCE_COLOR", () => {
		const colored = (env: Record<string, string>) => {
			const { stdout, stderr } = xlu(["verify", saved], { env });
			return `${stdout}${stderr}`.includes(ESCAPE);
		};
		expect(colored({})).toBe(false);
		expect(colored({ CI: "true" })).toBe(false);
		expect(colored({ FORCE_COLOR: "1" })).toBe(true);
		expect(colored({ FORCE_COLOR: "1", NO_COLOR: "1" })).toBe(false);
		const failed = xlu(["run", at("nowhere")], { env: { CI: "true" } });
		expect(failed.stderr.includes(ESCAPE)).toBe(false);
	});

	const terminal = shell("command -v script").status === 0;

	it.runIf(terminal)(
		"shows progress and colours on a terminal; no progress with --quiet, no colours with NO_COLOR",
		() => {
			const on = (line: string, env: Record<string, string> = {}) =>
				shell(`script -qec "$XLU ${line}" /dev/null`, { env: { TERM: "xterm", ...env } }).stdout;
			const loud = on(`run ${host("pv")}`);
			expect(loud).toContain("pv: reading the host");
			expect(loud).toContain("pv: pass 2");
			expect(loud).toContain(`${ESCAPE}[32midentical`);
			for (const line of [`-q run ${host("pv")}`, `run -q ${host("pv")}`]) {
				expect(on(line)).not.toContain("reading the host");
			}
			expect(on(`run ${host("pv")}`, { NO_COLOR: "1" })).not.toMatch(new RegExp(`${ESCAPE}\\[\\d+m`));
			expect(on(`run ${host("pv")} 2>/dev/null`)).not.toContain("reading the host");
		},
	);

	it.each([
		["inspect of a stream", () => `$XLU inspect ${saved}`],
		["inspect as JSON", () => `$XLU inspect --json ${saved}`],
		["run of two hosts", () => `$XLU run ${host("pv")} ${host("pv")}`],
		["help", () => "$XLU --help"],
		["the stream itself", () => `$XLU save ${host("hvm")} -o - --memory ${at("early.mem")}`],
	])("closed early by its reader is no error: %s", (_what, line) => {
		const { stdout, stderr } = shell(`${line()} | head -c 20 > /dev/null; echo "\${PIPESTATUS[0]}"`);
		expect([stdout, stderr]).toEqual(["0\n", ""]);
	});

	it("goes from save to verify and to restore through a pipe", () => {
		const { stdout, stderr } = shell(
			`$XLU save ${host("hvm")} -o - --memory m | $XLU verify - && $XLU save ${host("hvm")} -o - --memory m |` +
				` $XLU restore - --memory m --compare ${host("hvm")}`,
			{ cwd: emptyDirectory() },
		);
		expect(stderr).toBe("");
		expect(stdout).toMatch(/^-: every rule holds$/m);
		expect(stdout).toMatch(/^identical to /m);
	});

	it("that cannot be written is an error: status 2, and why", () => {
		for (const line of [`inspect ${saved}`, `run --json ${host("pv")}`, `save ${host("pv")} -o - --memory m`]) {
			const { stdout, stderr } = shell(`{ $XLU ${line} > /dev/full; } ; echo $? >&2`, { cwd: emptyDirectory() });
			expect([stdout, stderr.split("\n").at(-2)]).toEqual(["", "2"]);
			expect(stderr).toMatch(/^xlu: XLU_E_IO: Standard output cannot be written: ENOSPC/);
			expect(stderr).not.toMatch(/\n +at /);
		}
	});
});
