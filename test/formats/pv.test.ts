/** Registers of PV guests: captured ones against the dumps, records of random octets there and back, 64 and 32 bits. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Fields, StreamItem } from "../../src/formats/common/record.ts";
import { FieldReader } from "../../src/formats/common/values.ts";
import { bodyFields, bodyOctets } from "../../src/formats/libxc/bodies.ts";
import { LIBXC_RECORD as R, VCPU_CONTEXT_BYTES } from "../../src/formats/libxc/layout.ts";
import { sharedInfo, sharedInfo32 } from "../../src/formats/libxc/sharedInfo.ts";
import { Random } from "../../src/random.ts";
import { xenctxRegisters } from "../hosts/dumps.ts";
import { root } from "../support/core.ts";
import { capturedImage, itemsOf } from "../support/images.ts";

type Registers = Record<string, string & string[] & number>;
const dump = (file: string) => readFileSync(join(root, "test/fixtures/xen-4.17/pv", file), "utf8");

let captured: Promise<StreamItem[]> | undefined;
async function recordsOf(name: string): Promise<Fields[]> {
	captured ??= itemsOf(capturedImage("pv"), { pages: "summary" });
	return (await captured).filter((item) => item.name === name).map(({ fields }) => fields);
}

describe("the captured PV guest", () => {
	test("every register that xenctx printed", async () => {
		const contexts = await recordsOf("X86_PV_VCPU_BASIC");
		const printed = xenctxRegisters(dump("xenctx.txt"));
		expect(contexts.length).toBe(printed.length);
		const differing: string[] = [];
		let compared = 0;
		for (const [vcpu, registers] of printed.entries()) {
			const ours = contexts[vcpu]?.registers as unknown as Registers;
			const names: Record<string, string> = {
				flags: "rflags",
				fs_base: "fsBase",
				gs_base: "gsBaseKernel",
				gs_other: "gsBaseUser",
			};
			for (const [name, value] of registers) {
				const numbered = /^([cd]r)(\d)$/.exec(name);
				const found = numbered ? ours[numbered[1] as "cr"]?.[Number(numbered[2])] : ours[names[name] ?? name];
				compared++;
				if (found === undefined || BigInt(found) !== value) differing.push(`vcpu ${vcpu} ${name}`);
			}
		}
		expect(compared).toBeGreaterThan(40);
		// Frame numbers are PFNs in an image: CR3, and vCPU 0's start_info in rdx; its rax is 1 in the dump ("suspend cancelled").
		expect(differing).toEqual(["vcpu 0 rax", "vcpu 0 rdx", "vcpu 0 cr3", "vcpu 1 cr3"]);
	});

	test("entry points, machine checks; FPU state twice, with the rest of AVX behind", async () => {
		const contexts = await recordsOf("X86_PV_VCPU_BASIC");
		const extended = await recordsOf("X86_PV_VCPU_EXTENDED");
		const areas = await recordsOf("X86_PV_VCPU_XSAVE");
		expect([contexts.length, extended.length, areas.length]).toEqual([2, 2, 2]);
		for (const [vcpu, { context, rest }] of extended.entries()) {
			expect(context).toMatchObject({ vcpu, size: 64, syscall32DisablesEvents: 1, vmce: { caps: "0x2" } });
			expect(rest).toBeUndefined();
		}
		for (const [vcpu, fields] of areas.entries()) {
			const { fpu_sse: fpu, ...header } = fields.area as Registers;
			expect(header).toEqual({ xstate_bv: "0x7", xcomp_bv: "0x0" });
			expect(fields).toMatchObject({ vcpu, xcr0: "0x7", xcr0Accum: "0x7", size: 832 });
			expect((fields.extended as string).length).toBe(2 * 256);
			expect((contexts[vcpu] as { registers: Registers }).registers.fpu).toEqual(fpu);
			// The guest had filled its registers with a pattern.
			const { xmm, st } = fpu as unknown as { xmm: string[]; st: string[] };
			expect(xmm[15]).toMatch(/^0xaf(af){14}/);
			expect(BigInt(st[1] as string).toString(16)).toBe("4000c90fdaa22168c235");
			expect((fields.extended as string).startsWith("c0".repeat(16))).toBe(true);
		}
	});

	test("shared_info: as many PFNs as the P2M, a P2M in linear memory, nothing pending in the bitmaps of FIFO ports", async () => {
		const [shared] = await recordsOf("SHARED_INFO");
		const [p2m] = await recordsOf("X86_PV_P2M_FRAMES");
		expect(shared).toMatchObject({ guestWidth: 8, evtchnPending: [], evtchnMask: [] });
		expect(shared?.rest).toBeUndefined();
		const arch = shared?.arch as Registers;
		expect(arch.maxPfn).toBe(`0x${(Number(p2m?.endPfn) + 1).toString(16)}`);
		expect(arch.p2mVaddr).toMatch(/^0xffffc9/);
		expect(arch.nmiReason).toBe("0x0");
		const vcpus = shared?.vcpuInfo as unknown as { slot: number; time: { systemTime: number } }[];
		expect(vcpus.map(({ slot }) => slot).slice(0, 2)).toEqual([0, 1]);
		expect(vcpus[0]?.time.systemTime).toBeGreaterThan(1e9);
	});

	test("policies: leaves by number, MSRs by name", async () => {
		const [cpuid] = await recordsOf("X86_CPUID_POLICY");
		expect((cpuid as { leaves: Fields[] }).leaves[1]).toMatchObject({
			leaf: "0x1",
			subleaf: "0xffffffff",
			eax: "0x60fb1",
		});
		const [msrs] = await recordsOf("X86_MSR_POLICY");
		expect((msrs as { msrs: Fields[] }).msrs.map(({ name }) => name)).toEqual(["PLATFORM_INFO", "ARCH_CAPABILITIES"]);
	});
});

const randomOctets = (length: number, seed: number) => {
	const random = new Random(seed);
	return Uint8Array.from({ length }, () => random.below(256));
};

describe("bodies of random octets become fields and the same octets again", () => {
	/** Octets behind vcpu_id: whole structures, more, and less than one. */
	const lengths: [string, number, number[]][] = [
		["X86_PV_VCPU_BASIC", R.X86_PV_VCPU_BASIC, [VCPU_CONTEXT_BYTES[8], VCPU_CONTEXT_BYTES[4], 100]],
		["X86_PV_VCPU_EXTENDED", R.X86_PV_VCPU_EXTENDED, [64, 128, 20]],
		["X86_PV_VCPU_XSAVE", R.X86_PV_VCPU_XSAVE, [16 + 576, 16 + 832, 16 + 100, 16, 8]],
		["X86_PV_VCPU_MSRS", R.X86_PV_VCPU_MSRS, [16, 64]],
	];
	test.each(lengths)("%s", (name, type, contents) => {
		for (const content of contents) {
			for (const isLittle of [true, false]) {
				const body = randomOctets(8 + content, content);
				const fields = JSON.parse(JSON.stringify(bodyFields(type, body, isLittle, 8)));
				expect(Buffer.from(bodyOctets(type, new FieldReader(fields, name), isLittle))).toEqual(Buffer.from(body));
			}
		}
	});

	test.each([4, 8, undefined] as const)("SHARED_INFO of a guest whose words have %s octets", (width) => {
		for (const length of [4096, 4000, sharedInfo.size, sharedInfo32.size, 17, 0]) {
			for (const body of [randomOctets(length, length), new Uint8Array(length)]) {
				const fields = JSON.parse(JSON.stringify(bodyFields(R.SHARED_INFO, body, true, width)));
				expect(Buffer.from(bodyOctets(R.SHARED_INFO, new FieldReader(fields, ""), true))).toEqual(Buffer.from(body));
			}
		}
	});
});

describe("shared_info", () => {
	const page = (width: 4 | 8, fields: Fields) =>
		bodyOctets(
			R.SHARED_INFO,
			new FieldReader({ guestWidth: width, arch: {}, vcpuInfo: [], ...fields }, "SHARED_INFO"),
			true,
		);

	test("ports as a list, those of a run as one", () => {
		const list = [0, "5-7", 64, "100-4095"];
		const octets = page(8, { evtchnPending: list, evtchnMask: [1] });
		const view = new DataView(octets.buffer, octets.byteOffset);
		const pending = 32 * 64;
		expect(view.getBigUint64(pending, true)).toBe(0xe1n);
		expect(view.getBigUint64(pending + 8, true)).toBe(0xffff_fff0_0000_0001n);
		expect(view.getBigUint64(pending + 512, true)).toBe(2n);
		expect(bodyFields(R.SHARED_INFO, octets, true, 8)).toMatchObject({ evtchnPending: list, evtchnMask: [1] });
	});

	test("a 32-bit guest has 1024 ports, and the high half of its wall clock in arch", () => {
		const octets = page(4, { evtchnPending: [1023], wcSec: 7, arch: { wcSecHi: 1, maxPfn: 9 } });
		expect(octets.length).toBe(4096);
		expect(octets[32 * 64 + 127]).toBe(0x80);
		const view = new DataView(octets.buffer, octets.byteOffset);
		expect(view.getUint32(sharedInfo32.size - 4, true)).toBe(1);
		expect(() => page(4, { evtchnPending: [1024] })).toThrow(/evtchnPending/);
		expect(() => page(8, { evtchnPending: ["7-4096"] })).toThrow(/evtchnPending/);
		expect(() => page(8, { evtchnMask: [-1] })).toThrow(/evtchnMask/);
		expect(() => page(8, { vcpuInfo: [{ slot: 32 }] })).toThrow(/slot/);
	});
});

test("a trap's slot lies within the table", () => {
	const fields = { vcpu: 0, registers: { rip: 1 }, traps: [{ slot: 256, vector: 1 }] };
	expect(() => bodyOctets(R.X86_PV_VCPU_BASIC, new FieldReader(fields, "X86_PV_VCPU_BASIC"), true)).toThrow(/slot/);
});
