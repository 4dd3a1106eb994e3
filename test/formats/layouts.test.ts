/** Layouts of Xen's structures: what a C compiler makes of its public headers, and whether any octets survive being named. */
import { readFileSync } from "node:fs";
import { describe, expect, it, test } from "vitest";
import { readStruct, type Struct, scalarBytes } from "../../src/format/layout.ts";
import { FieldReader, structFields, structOctets } from "../../src/formats/common/values.ts";
import * as hvm from "../../src/formats/hvm/layout.ts";
import { extVcpuContext, guestContext64, trapInfo } from "../../src/formats/libxc/guestContext.ts";
import { guestContext32, trapInfo32 } from "../../src/formats/libxc/guestContext32.ts";
import { hvmParamNames, MSR_ENTRY_BYTES, VCPU_CONTEXT_BYTES } from "../../src/formats/libxc/layout.ts";
import { sharedInfo, sharedInfo32, vcpuInfo, vcpuInfo32, vcpuTimeInfo } from "../../src/formats/libxc/sharedInfo.ts";
import { fxsave, xsaveArea } from "../../src/formats/x86/fpu.ts";
import { msrEntry } from "../../src/formats/x86/msrs.ts";
import { Random } from "../../src/random.ts";

interface AbiStruct {
	size: number;
	fields: Record<string, { offset: number; size: number }>;
}
const abi = JSON.parse(readFileSync(new URL("../fixtures/guest-abi.json", import.meta.url), "utf8")) as {
	structs: Record<string, AbiStruct>;
	hvmSave: Record<string, { code: number; length: number }>;
	bitFields: Record<string, { at: number; bits: number }>;
	constants: Record<string, number>;
};

const isStruct = (value: unknown): value is Struct => typeof value === "object" && value !== null && "fields" in value;
const hvmStructs = Object.values(hvm).filter(isStruct);
const archOf = (struct: Struct): Struct => {
	const inner = struct.fields.find(({ name }) => name === "arch")?.inner;
	if (!inner || !("struct" in inner)) throw new Error(`${struct.name} has no arch`);
	return inner.struct;
};
const pvStructs = [
	trapInfo,
	trapInfo32,
	guestContext64,
	guestContext32,
	extVcpuContext,
	vcpuTimeInfo,
	...[vcpuInfo, vcpuInfo32, sharedInfo, sharedInfo32].flatMap((struct) => [struct, archOf(struct)]),
];
/** Names of ours that are not the header's in camel case. */
const renamed: Record<string, string> = {
	fpu: "fpu_ctxt",
	traps: "trap_ctxt",
	ldtEntries: "ldt_ents",
	gdtEntries: "gdt_ents",
	cr: "ctrlreg",
	dr: "debugreg",
	eventCallback: "event_callback_eip",
	failsafeCallback: "failsafe_callback_eip",
	syscallCallback: "syscall_callback_eip",
};
const headerName = (name: string) => renamed[name] ?? name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** Forms that the headers of 4.17 do not have, and registers that Xen's headers have as octets. */
const OTHERS = new Set(["hvm_hw_lapic_4_20", "hvm_hw_lapic_regs"]);

function random(struct: Struct, seed: number): Uint8Array {
	const source = new Random(seed);
	return Uint8Array.from({ length: struct.size }, () => source.below(256));
}

/** Fields by name, those without a meaning left out. */
const named = (struct: Struct) =>
	struct.fields
		.filter(({ reserved, inner }) => !reserved && !(inner && "bits" in inner))
		.map(({ name, offset, type, length }) => [name, { offset, size: scalarBytes[type] * length }]);

describe("a C compiler makes of the public headers", () => {
	it.each(hvmStructs.filter(({ name }) => !OTHERS.has(name)).map((struct) => [struct.name, struct] as const))(
		"%s",
		(name, struct) => {
			const { size, fields } = abi.structs[name] as AbiStruct;
			expect(struct.size).toBe(size);
			const { msr: _, ...known } = fields;
			expect(Object.fromEntries(named(struct))).toEqual(name === "hvm_msr" ? known : fields);
		},
	);

	it.each(pvStructs.map((struct) => [struct.name, struct] as const))("%s", (name, struct) => {
		const { size, fields } = abi.structs[name] as AbiStruct;
		expect(struct.size).toBe(size);
		const { user_regs: registers, ...known } = fields;
		const inner = abi.structs[name.endsWith("_x86_32") ? "cpu_user_regs_x86_32" : "cpu_user_regs"] as AbiStruct;
		// The registers' structure is not a thing of its own here.
		for (const [register, place] of Object.entries(registers ? inner.fields : {})) {
			known[register] = { ...place, offset: place.offset + (registers?.offset ?? 0) };
		}
		const ours = named(struct).map(([field, place]) => [headerName(field as string), place]);
		expect(Object.fromEntries(ours)).toEqual(known);
	});

	it("lengths and counts", () => {
		expect(VCPU_CONTEXT_BYTES).toEqual({ 4: guestContext32.size, 8: guestContext64.size });
		expect(MSR_ENTRY_BYTES).toBe(msrEntry.size);
		// One layout stands for both widths.
		expect(abi.structs.vcpu_time_info_x86_32).toEqual(abi.structs.vcpu_time_info);
	});

	it("HVM parameters, all of them", () => {
		const params = Object.entries(abi.constants)
			.filter(([name]) => name.startsWith("HVM_PARAM_"))
			.map(([name, index]) => [index, name.slice("HVM_PARAM_".length)]);
		expect(Object.fromEntries(params)).toEqual(hvmParamNames);
		expect(Math.max(...Object.keys(hvmParamNames).map(Number)) + 1).toBe(abi.constants.HVM_NR_PARAMS);
	});

	it("the XSAVE area's parts, and rows of MSRs wherever they are", () => {
		expect(xsaveArea.size).toBe(abi.structs.xsave_area?.size);
		expect(Object.fromEntries(named(xsaveArea))).toEqual(abi.structs.xsave_area?.fields);
		expect(fxsave.size).toBe(abi.structs.xsave_area?.fields.fpu_sse?.size);
		const places = msrEntry.fields.filter(({ reserved }) => !reserved).map(({ offset }) => offset);
		for (const [name, fields] of [
			["xen_msr_entry", ["idx", "val"]],
			["xen_domctl_vcpu_msr", ["index", "value"]],
			["hvm_one_msr", ["index", "val"]],
		] as const) {
			expect(abi.structs[name]?.size).toBe(msrEntry.size);
			expect(fields.map((field) => abi.structs[name]?.fields[field]?.offset)).toEqual(places);
		}
	});

	it("bit-fields", () => {
		const bits = hvm.hvmPic.fields.flatMap(({ offset, inner }) => {
			let at = 8 * offset;
			return inner && "bits" in inner
				? inner.bits.map(([name, width]) => {
						at += width;
						return [`struct hvm_hw_vpic.${name}`, { at: at - width, bits: width }];
					})
				: [];
		});
		expect(Object.fromEntries(bits)).toEqual(abi.bitFields);
	});

	it("entry types and lengths", () => {
		for (const [name, { code, length }] of Object.entries(abi.hvmSave)) {
			const known = hvm.hvmEntryTypes[code] as hvm.HvmEntryType;
			expect([known.name, known.length ?? known.forms[0]?.size]).toEqual([name, length]);
		}
		expect(Object.keys(hvm.hvmEntryTypes).length).toBe(Object.keys(abi.hvmSave).length);
	});

	it("a local APIC's registers, 16 octets each", () => {
		expect(hvm.hvmLapicRegs.size).toBe(abi.structs.hvm_hw_lapic_regs?.size);
		for (const { offset } of hvm.hvmLapicRegs.fields.filter(({ reserved }) => !reserved)) expect(offset % 16).toBe(0);
		const of = (name: string) => hvm.hvmLapicRegs.fields.find((field) => field.name === name)?.offset;
		expect([of("id"), of("svr"), of("isr0"), of("irr7"), of("lvt_timer"), of("self_ipi")]).toEqual([
			0x20, 0xf0, 0x100, 0x270, 0x320, 0x3f0,
		]);
	});
});

describe("octets become fields and the same octets again", () => {
	const forms = Object.values(hvm.hvmEntryTypes).flatMap((type) => type.forms.filter(({ size }) => size > 0));
	const structs = new Set([...hvmStructs, ...pvStructs, ...forms, fxsave, xsaveArea, msrEntry]);
	test.each([...structs].map((struct) => [struct.name, struct] as const))("%s", (name, struct) => {
		for (let seed = 0; seed < 20; seed++) {
			const octets = random(struct, seed);
			const fields = JSON.parse(JSON.stringify(structFields(struct, octets)));
			expect(structOctets(struct, new FieldReader(fields, name))).toEqual(octets);
		}
	});

	test.each([...structs].map((struct) => [struct.name, struct] as const))(
		"%s: a field alone changes its octets alone",
		(name, struct) => {
			const row = readStruct(struct, new DataView(random(struct, 1).buffer), 0);
			for (const field of struct.fields) {
				if (field.inner || row[field.name] === undefined || field.length > 1) continue;
				const octets = structOctets(struct, new FieldReader({ [field.name]: 1 }, name));
				const set = [...octets].flatMap((octet, at) => (octet === 0 ? [] : [[at, octet]]));
				expect(set).toEqual([[field.offset, 1]]);
			}
		},
	);
});
