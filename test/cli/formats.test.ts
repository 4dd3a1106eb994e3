/** Xen's own streams on the command line: recognised, shown, judged, compared, converted; rubbish is refused by name. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { root } from "../support/core.ts";
import { joined, smallImage } from "../support/images.ts";
import { legacyImage, legacyVariants } from "../support/legacy.ts";
import { host, shell, xlu } from "./xlu.ts";

const scratch = mkdtempSync(join(tmpdir(), "xlu-formats-"));
const at = (name: string) => join(scratch, name);
afterAll(() => rmSync(scratch, { recursive: true }));

beforeAll(async () => {
	for (const name of ["pv", "hvm"] as const) writeFileSync(at(name), joined(await smallImage(name)));
	writeFileSync(at("pv.gz"), gzipSync(readFileSync(at("pv"))));
});

describe("xlu inspect", () => {
	test.each(["pv", "pv.gz"])("%s: layers flattened, offsets of the unpacked stream, fields", (name) => {
		const { status, stdout, stderr } = xlu(["inspect", at(name), "--json"]);
		expect([status, stderr]).toEqual([0, ""]);
		const { format, records, findings } = JSON.parse(stdout);
		expect(format).toBe("xl");
		expect(findings).toEqual([]);
		expect(
			records.slice(0, 4).map((record: { layer: string; name: string }) => `${record.layer} ${record.name}`),
		).toEqual(["xl header", "libxl header", "libxl LIBXC_CONTEXT", "libxc header"]);
		const octets = readFileSync(at("pv"));
		for (const { offset, type } of records.slice(4)) expect(octets.readUInt32LE(offset)).toBe(type);
		expect(records[4]).toMatchObject({ name: "X86_PV_INFO", fields: { guestWidth: 8, ptLevels: 4 } });
	});

	test("one record, its octets, the tree", () => {
		expect(xlu(["inspect", at("pv"), "--record", "4"]).stdout).toContain("guestWidth             8");
		expect(xlu(["inspect", at("pv"), "--record", "4", "--hex"]).stdout).toContain("02 00 00 00 08 00 00 00  08 04");
		expect(xlu(["inspect", at("pv"), "--tree"]).stdout).toMatch(/^xl header.*\n {2}libxl header/m);
		const { status, stderr } = xlu(["inspect", at("pv"), "--record", "1000"]);
		expect([status, stderr]).toEqual([2, expect.stringMatching(/^xlu: XLU_E_USAGE: There is no record 1000/)]);
	});

	test("an HVM context's registers by name, as text and as JSON", () => {
		const { records } = JSON.parse(xlu(["inspect", at("hvm"), "--json"]).stdout);
		const { index, fields } = records.find(({ name }: { name: string }) => name === "HVM_CONTEXT");
		const lapic = fields.entries.find(({ name }: { name: string }) => name === "LAPIC");
		expect(lapic.registers).toMatchObject({ apic_base_msr: "0xfee00d00", timer_divisor: "0x2" });
		const { stdout } = xlu(["inspect", at("hvm"), "--record", `${index}`]);
		expect(stdout).toMatch(/name +RTC\n(?:.*\n){3} +cmos_data +41001000000006211126260210/);
		expect(stdout).toMatch(/0: count 65536, latched_count 0/);
	});

	test("what is cut off is shown as far as it goes, and ends in 3", () => {
		writeFileSync(at("cut"), readFileSync(at("pv")).subarray(0, 9000));
		const { status, stdout, stderr } = xlu(["inspect", at("cut")]);
		expect(status).toBe(3);
		expect(stdout).toContain("X86_PV_INFO");
		expect(stderr).toContain("XLU-F001");
	});
});

describe("xlu verify", () => {
	test("a whole image ends in 0, from a pipe too; strictly, in 1", () => {
		expect(xlu(["verify", at("hvm")]).status).toBe(0);
		expect(shell(`cat ${at("hvm")} | $XLU verify - --json`).stdout).toContain('"ok":true');
		const strict = xlu(["verify", at("hvm"), "--strict", "--json"]);
		expect(strict.status).toBe(1);
		expect(JSON.parse(strict.stdout).findings.map(({ rule }: { rule: string }) => rule)).toEqual(["XLU-C015"]);
	});

	test("every broken rule is named, with place, expected and got", () => {
		const octets = readFileSync(at("pv"));
		const info = octets.indexOf(Buffer.from("0200000008000000080400", "hex"));
		octets[info + 8] = 7;
		octets[info + 10] = 1;
		writeFileSync(at("bad"), octets);
		const { status, stdout } = xlu(["verify", at("bad"), "--json"]);
		expect(status).toBe(1);
		const { ok, format, findings } = JSON.parse(stdout);
		expect([ok, format]).toEqual([false, "xl"]);
		expect(findings).toEqual(
			expect.arrayContaining([
				expect.objectContaining({ rule: "XLU-C010", record: "X86_PV_INFO", offset: info, got: "7 and 4" }),
				expect.objectContaining({ rule: "XLU-C011", record: "X86_PV_INFO", offset: info, expected: "0" }),
			]),
		);
		expect(xlu(["verify", at("bad")]).stdout).toContain("xlu explain XLU-C010 says why");
	});
});

describe("xlu diff", () => {
	test("the same twice: 0; another register: 1, named", () => {
		expect(xlu(["diff", at("pv"), at("pv.gz")])).toMatchObject({ status: 0, stdout: "no difference\n" });
		const document = xlu(["convert", at("pv"), "-o", "-", "--to", "json"]).stdout;
		writeFileSync(at("pv.json"), document.replace(/"rip":"0x[0-9a-f]+"/, '"rip":"0x1234"'));
		const { status, stdout } = xlu(["diff", at("pv"), at("pv.json"), "--json"]);
		expect(status).toBe(1);
		expect(JSON.parse(stdout)).toMatchObject({
			identical: false,
			differences: [{ where: "libxc X86_PV_VCPU_BASIC vcpu 0", field: "registers.rip", b: "0x1234" }],
		});
	});

	test("registers of an HVM context are named by entry and field", () => {
		const document = xlu(["convert", at("hvm"), "-o", "-", "--to", "json"]).stdout;
		const changed = document
			.replace('"mxcsr":"0x1f80"', '"mxcsr":"0x1f00"')
			.replace(/"tmr_val":"0x[0-9a-f]+"/, '"tmr_val":"0x5"');
		writeFileSync(at("hvm.json"), changed);
		const { differences } = JSON.parse(xlu(["diff", at("hvm"), at("hvm.json"), "--json"]).stdout);
		expect(differences.map(({ where, field }: { where: string; field: string }) => `${where} ${field}`)).toEqual([
			"libxc HVM_CONTEXT entries[CPU 2 0].registers.fpu_regs.mxcsr",
			"libxc HVM_CONTEXT entries[PMTIMER 13 0].registers.tmr_val",
		]);
	});

	test("streams of different formats are no pair", () => {
		const other = join(root, "test/golden/v1/tiny.xlu");
		expect(xlu(["diff", at("pv"), other])).toMatchObject({ status: 2, stdout: "" });
		expect(xlu(["diff", other, other])).toMatchObject({ status: 0, stdout: "no difference\n" });
	});
});

describe("xlu convert", () => {
	test("JSON and back, octet for octet", () => {
		expect(xlu(["convert", at("hvm"), "-o", at("h.json"), "--to", "json"]).status).toBe(0);
		expect(xlu(["convert", at("h.json"), "-o", at("h.back")]).status).toBe(0);
		expect(readFileSync(at("h.back")).equals(readFileSync(at("hvm")))).toBe(true);
		JSON.parse(readFileSync(at("h.json"), "utf8"));
	});

	test("version 2 says what it leaves out", () => {
		const { status, stdout } = xlu(["convert", at("pv"), "-o", at("pv.v2"), "--to", "libxc-v2", "--json"]);
		expect(status).toBe(0);
		expect(JSON.parse(stdout).dropped.map(({ what }: { what: string }) => what)).toEqual([
			"X86_CPUID_POLICY",
			"X86_MSR_POLICY",
		]);
		expect(xlu(["verify", at("pv.v2")]).status).toBe(0);
	});

	test("a live-update stream as JSON, edited, and back; turned round and back", () => {
		const golden = join(root, "test/golden/v1/tiny.xlu");
		expect(xlu(["convert", golden, "-o", at("t.json"), "--to", "json"]).status).toBe(0);
		const { stdout, status, stderr } = xlu(["convert", at("t.json"), "-o", at("t.xlu"), "--json"]);
		expect([status, stderr]).toEqual([0, ""]);
		expect(JSON.parse(stdout)).toMatchObject({ form: "xlu" });
		expect(readFileSync(at("t.xlu")).equals(readFileSync(golden))).toBe(true);
		// Formatted anew, as jq does, from a pipe.
		const pretty = JSON.stringify(JSON.parse(readFileSync(at("t.json"), "utf8")), null, "\t");
		expect(xlu(["convert", "-", "-o", "-"], { input: Buffer.from(pretty) }).raw.equals(readFileSync(golden))).toBe(
			true,
		);
		const edited = readFileSync(at("t.json"), "utf8").replace(/"cpuKhz":(\d+)/, '"cpuKhz":1000001');
		writeFileSync(at("e.json"), edited);
		const verdict = JSON.parse(xlu(["verify", at("e.json"), "--json"]).stdout);
		expect(verdict).toMatchObject({ ok: true, findings: [] });
		const differs = xlu(["diff", golden, at("e.json")]);
		expect([differs.status, differs.stdout]).toEqual([
			1,
			expect.stringMatching(/^xlu LU_HOST section H: cpuKhz: \d+ -> 1000001\n1 differences\n$/),
		]);
		expect(xlu(["convert", golden, "-o", at("t.big"), "--to", "big"]).status).toBe(0);
		expect(xlu(["diff", golden, at("t.big")]).stdout).toBe("no difference\n");
		expect(xlu(["verify", at("t.big")]).status).toBe(0);
		const shown = xlu(["inspect", at("t.big"), "--json"]);
		expect([shown.status, shown.stderr]).toEqual([0, ""]);
		const little = JSON.parse(xlu(["inspect", golden, "--json"]).stdout);
		const domains = ({ records }: typeof little) =>
			records.filter(({ name }: { name: string }) => name === "LU_DOMAIN");
		expect(domains(JSON.parse(shown.stdout))).toEqual(domains(little));
		expect(xlu(["convert", at("t.big"), "-o", "-", "--to", "little"]).raw.equals(readFileSync(golden))).toBe(true);
		writeFileSync(at("e.json"), edited.replace('"cpuKhz":', '"cpuKHz":'));
		const bad = xlu(["convert", at("e.json"), "-o", at("never")]);
		expect([bad.status, bad.stderr]).toEqual([2, expect.stringMatching(/XLU_E_USAGE.*items\[\d+\]\.fields\.cpuKHz/)]);
		expect(readdirSync(scratch).filter((name) => /never|part/.test(name))).toEqual([]);
	});

	test("what fails leaves no file, and the one that was there as it was", () => {
		writeFileSync(at("kept"), "before");
		for (const target of ["kept", "fresh"]) {
			const { status, stderr } = xlu(["convert", at("cut"), "-o", at(target), "--to", "json"]);
			expect([status, stderr]).toEqual([3, expect.stringContaining("XLU-F001")]);
		}
		expect(readFileSync(at("kept"), "utf8")).toBe("before");
		expect(readdirSync(scratch).filter((name) => /fresh|part/.test(name))).toEqual([]);
	});

	test("a legacy image and a bundle have one byte order: another one is refused, and nothing written", () => {
		const [variant] = legacyVariants();
		if (!variant) throw new Error("no legacy image is made");
		writeFileSync(at("legacy"), legacyImage(variant.spec));
		expect(xlu(["extract", host("pvh"), "--domain", "1", "-o", at("bundle")]).status).toBe(0);
		for (const name of ["legacy", "bundle"]) {
			const { status, stderr } = xlu(["convert", at(name), "-o", at("swapped"), "--to", "big"]);
			expect([status, stderr]).toEqual([2, expect.stringContaining("XLU_E_USAGE")]);
		}
		expect(readdirSync(scratch)).not.toContain("swapped");
		expect(xlu(["convert", at("legacy"), "-o", at("modern"), "--to", "libxc-v3"]).status).toBe(0);
		// The context in it is made of random octets, so verify has its doubts; the image is one of version 3.
		const { records } = JSON.parse(xlu(["inspect", at("modern"), "--json"]).stdout);
		expect(records[0]).toMatchObject({ layer: "libxc", fields: { version: 3 } });
	});

	test("rubbish, and forms that do not suit, are refused by name", () => {
		writeFileSync(at("rubbish"), "neither this nor that, but long enough to be looked at as a legacy image, or so\n");
		writeFileSync(at("object"), '{"format":"libxc","items":[\n{"layer":"libxc"}\n]}\n');
		const golden = join(root, "test/golden/v1/tiny.xlu");
		expect(xlu(["convert", at("rubbish"), "-o", at("x"), "--to", "json"]).status).toBe(3);
		const object = xlu(["verify", at("object")]);
		expect([object.status, object.stderr]).toEqual([
			3,
			expect.stringContaining("line 2, items[0].kind: expected header"),
		]);
		expect(xlu(["convert", golden, "-o", at("x"), "--to", "libxc-v3"]).stderr).toContain("XLU_E_USAGE");
		expect(xlu(["convert", at("pv"), "-o", at("x")]).stderr).toContain("XLU_E_USAGE");
		expect(xlu(["convert", at("pv"), "-o", at("x"), "--to", "nothing"]).status).toBe(2);
		expect(xlu(["convert", at("absent"), "-o", at("x"), "--to", "json"]).stderr).toContain("XLU_E_IO");
		expect(xlu(["convert", at("pv"), "-o", scratch, "--to", "json"]).stderr).toContain("EISDIR");
	});
});

describe("xlu explain", () => {
	test("rules of both kinds, error codes, and what is none", () => {
		expect(xlu(["explain", "xlu-r031"]).stdout).toMatch(/^XLU-R031, PASS_ORDER\n/);
		const { stdout } = xlu(["explain", "XLU-R057"]);
		expect(stdout).toContain("XSA-182");
		expect(stdout).toContain("Treat the domain as compromised");
		expect(xlu(["explain", "XLU-C015"]).stdout).toContain("Real Xen writes the opposite");
		expect(JSON.parse(xlu(["explain", "XLU_E_IO", "--json"]).stdout)).toMatchObject({ outcome: "exit status 2" });
		expect(xlu(["explain", "XLU-Q001"]).status).toBe(2);
		expect(xlu(["explain"]).stdout.split("\n").length).toBeGreaterThan(100);
	});
});
