import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { hvmCpu, hvmEntryTypes, readHvmContext } from "../../src/formats/hvm/context.ts";
import { readGuestImage } from "../../src/formats/xl/read.ts";

const fixture = (path: string) => new URL(`../fixtures/${path}`, import.meta.url);
const abi = JSON.parse(readFileSync(fixture("guest-abi.json"), "utf8"));

describe("HVM context", () => {
	it("has the layout that a C compiler makes of the public header", () => {
		expect(hvmCpu.size).toBe(abi.structs.hvm_hw_cpu.size);
		const named = hvmCpu.fields.filter(({ reserved }) => !reserved);
		expect(named.length).toBe(Object.keys(abi.structs.hvm_hw_cpu.fields).length);
		for (const { name, offset } of named)
			expect([name, offset]).toEqual([name, abi.structs.hvm_hw_cpu.fields[name].offset]);
	});

	it("has the entry types and lengths of the public header", () => {
		for (const [name, { code, length }] of Object.entries<{ code: number; length: number }>(abi.hvmSave)) {
			expect(hvmEntryTypes[code]?.name).toBe(name);
			expect([name, hvmEntryTypes[code]?.length ?? length]).toEqual([name, length]);
		}
	});

	it.each([
		["pvh", "pvh1"],
		["hvm", "hvm1"],
	])("shows the registers that xen-hvmctx printed of the %s guest", (host, name) => {
		const image = readGuestImage(readFileSync(fixture(`xen-4.17/${host}/${name}.xlsave.gz`)));
		const printed = readFileSync(fixture(`xen-4.17/${host}/xen-hvmctx.txt`), "utf8");
		const entries = readHvmContext(image.hvmContext as Uint8Array);
		expect(entries.at(-1)?.name).toBe("END");
		const cpus = printed.split(/Entry \d+: type 2 /).slice(1);
		expect(entries.filter(({ cpu }) => cpu).length).toBe(cpus.length);
		cpus.forEach((text, instance) => {
			const { cpu } = entries.find((entry) => entry.name === "CPU" && entry.instance === instance) as { cpu: object };
			const registers =
				text.split("Entry ")[0]?.matchAll(/\b(r[a-z0-9]{1,2}|rip|rflags|cr[0-4])\s+0x([0-9a-f]{16})/g) ?? [];
			let compared = 0;
			for (const [, register, value] of registers) {
				// The one known difference: vCPU 0's rax, 1 in the dump ("suspend cancelled").
				if (instance === 0 && register === "rax") continue;
				expect([register, (cpu as Record<string, bigint>)[register as string]]).toEqual([
					register,
					BigInt(`0x${value}`),
				]);
				compared++;
			}
			expect(compared).toBeGreaterThan(20);
		});
	});
});
