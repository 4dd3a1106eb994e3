/** The HVM context of captured guests, entry by entry, against what xen-hvmctx printed of them. */
import { readFileSync } from "node:fs";
import { describe, expect, it, test } from "vitest";
import { Findings } from "../../src/formats/common/findings.ts";
import type { Fields, StreamItem } from "../../src/formats/common/record.ts";
import { FieldReader, structFields } from "../../src/formats/common/values.ts";
import { hvmContextFields, hvmContextOctets } from "../../src/formats/hvm/fields.ts";
import { hvmCpu, hvmEntryTypes, hvmLapic420 } from "../../src/formats/hvm/layout.ts";
import { imageFormat } from "../../src/formats/image.ts";
import { Random } from "../../src/random.ts";
import { capturedImage, errorsOf, itemsOf } from "../support/images.ts";

type Registers = Record<string, string & number & (string[] & Fields[])>;
interface Entry {
	type: number;
	name: string;
	instance: number;
	length: number;
	registers: Registers;
	msrs?: Fields[];
	extended?: string;
	rest?: string;
	body?: string;
}

async function contextItem(name: "pvh" | "hvm"): Promise<StreamItem> {
	const items = await itemsOf(capturedImage(name), { pages: "summary" });
	return items.find((item) => item.name === "HVM_CONTEXT") as StreamItem;
}
const entriesOf = (fields: Fields) => fields.entries as unknown as Entry[];
const octetsOf = (fields: Fields) =>
	hvmContextOctets(new FieldReader(JSON.parse(JSON.stringify(fields)), "HVM_CONTEXT"));
const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;

const octetList = (hex: string) => [...Buffer.from(hex, "hex")];
const low80 = (value: string) => BigInt(value) & ((1n << 80n) - 1n);

/** Values of an entry in the order in which xen-hvmctx prints them. */
const printed: Record<string, (r: Registers) => (string | number | bigint)[]> = {
	HEADER: (r) => [r.magic, r.version, r.changeset, 0, r.cpuid, r.gtsc_khz],
	CPU: (r) => {
		const fpu = r.fpu_regs as unknown as Registers;
		return [
			...["rax", "rbx", "rcx", "rdx", "rbp", "rsi", "rdi", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"],
			...["rip", "rflags", "cr0", "cr2", "cr3", "cr4", "dr0", "dr1", "dr2", "dr3", "dr6", "dr7"],
			...["cs", "es", "ds", "fs", "gs", "ss", "tr", "ldtr"].flatMap((segment) =>
				["sel", "base", "limit", "arbytes"].map((part) => `${segment}_${part}`),
			),
			...["idtr_base", "idtr_limit", "gdtr_base", "gdtr_limit", "sysenter_cs", "sysenter_eip", "sysenter_esp"],
			...["shadow_gs", "msr_efer", "msr_lstar", "msr_cstar", "msr_star", "msr_syscall_mask", "tsc"],
			...["pending_event", "error_code"],
		]
			.map((name): string | bigint => r[name] as string)
			.concat([fpu.fcw, fpu.fsw, fpu.ftw, 0n as never, fpu.fop, fpu.fip, fpu.fdp, fpu.mxcsr, fpu.mxcsrMask] as string[])
			.concat(fpu.st?.flatMap((value) => [low80(value), BigInt(value) >> 80n]) ?? [])
			.concat(fpu.xmm as string[], Array<bigint>(6).fill(0n));
	},
	PIC: (r) =>
		[
			...["irq_base", "irr", "imr", "isr", "init_state", "priority_add", "readsel_isr", "poll", "auto_eoi"],
			...["rotate_on_auto_eoi", "special_fully_nested_mode", "special_mask_mode", "is_master", "elcr", "int_output"],
		].map((name) => r[name] as string),
	IOAPIC: (r) => [
		...([r.base_address, r.ioregsel, r.id] as string[]),
		...(r.redirtbl as string[]).flatMap((entry, pin) => [pin, entry]),
	],
	LAPIC: (r) => [r.apic_base_msr, r.disabled, r.timer_divisor] as string[],
	LAPIC_REGS: (r) => {
		const at = new Map(Object.entries(r).map(([name, value]) => [offsetOf(name), value]));
		return Array.from({ length: 64 }, (_, i) => [16 * i, (at.get(16 * i) as string) ?? 0]).flat();
	},
	PCI_IRQ: (r) => [(BigInt(r.i?.[0] as string) << 64n) | BigInt(r.i?.[1] as string)],
	ISA_IRQ: (r) => [r.i as string],
	PCI_LINK: (r) => r.route as string[],
	PIT: (r) =>
		(r.channels as Fields[])
			.slice(0, 2)
			.flatMap((channel, i) => [
				i,
				...["count", "latched_count", "count_latched", "status", "status_latched", "read_state", "write_state"]
					.concat(["write_latch", "rw_mode", "mode", "bcd", "gate"])
					.map((name) => channel[name] as number),
			]),
	RTC: (r) => [...octetList(r.cmos_data as string), r.cmos_index as string],
	HPET: (r) => [
		...([r.capability, r.config, r.isr, r.mc64] as string[]),
		...(r.timers as Fields[]).flatMap((timer, i) => [timer.config, timer.cmp, r.period?.[i], timer.fsb] as string[]),
	],
	PMTIMER: (r) => [r.tmr_val, r.pm1a_sts, r.pm1a_en] as string[],
	MTRR: (r) => [
		...([r.msr_pat_cr, r.msr_mtrr_cap, r.msr_mtrr_def_type] as string[]),
		...Array.from(
			{ length: 8 },
			(_, i) => [i, r.msr_mtrr_var?.[2 * i], r.msr_mtrr_var?.[2 * i + 1]] as string[],
		).flat(),
		...(r.msr_mtrr_fixed as string[]).flatMap((value, i) => [i, value]),
	],
	VMCE_VCPU: (r) => [r.caps, r.mci_ctl2_bank0, r.mci_ctl2_bank1] as string[],
	TSC_ADJUST: (r) => [r.tsc_adjust as string],
	END: () => [],
};
const offsetOf = (name: string) => hvmEntryTypes[6]?.forms[0]?.fields.find((field) => field.name === name)?.offset;

/** Every number that a block of xen-hvmctx's text has, behind the block's own first line; `off` is none. */
function numbersOf(block: string): string[] {
	const text = block
		.split("\n")
		.slice(1)
		.join("\n")
		.replace(/\bXen changeset|CPUID\[0\]|\bmci_ctl2|\bbank\d|\bPM1a/g, (word) => (word === "CPUID[0]" ? "0" : ""));
	return [...text.matchAll(/(?<![\w.])(?:0x[0-9a-f]+|[0-9a-f]{16}|0[0-9a-f]|\d+)(?!\w)/g)].map(([number]) => number);
}

/** xen-hvmctx leaves 0x out before a zero, and prints some numbers in decimal. */
function isSame(number: string, value: string | number | bigint): boolean {
	const found = BigInt(value);
	return (
		BigInt(number.startsWith("0x") ? number : `0x${number}`) === found ||
		(/^\d+$/.test(number) && BigInt(number) === found)
	);
}

describe.each(["pvh", "hvm"] as const)("the HVM context of the %s guest", (name) => {
	const dump = readFileSync(new URL(`../fixtures/xen-4.17/${name}/xen-hvmctx.txt`, import.meta.url), "utf8");
	const blocks = dump.split(/^Entry \d+: /m).slice(1);

	test("has every number that xen-hvmctx printed, in every entry", async () => {
		const entries = entriesOf((await contextItem(name)).fields);
		const differing: string[] = [];
		let compared = 0;
		for (const [i, block] of blocks.entries()) {
			const { type, instance, length, registers, name: entry } = entries[i] as Entry;
			expect(block.split("\n")[0]).toBe(`type ${type} instance ${instance}, length ${length}`);
			const numbers = numbersOf(block);
			const values = (printed[entry] as (r: Registers) => (string | number | bigint)[])(registers ?? {});
			expect([entry, numbers.length]).toEqual([entry, values.length]);
			for (const [at, number] of numbers.entries()) {
				compared++;
				if (!isSame(number, values[at] as string))
					differing.push(`${entry} ${instance} ${at}: ${number} ${values[at]}`);
			}
		}
		expect(entries.length).toBe(blocks.length);
		expect(compared).toBeGreaterThan(500);
		// vCPU 0's rax is 1 in the dump ("suspend cancelled"); the others are clocks, which went on until it was taken.
		expect(differing.map((text) => text.split(":")[0])).toEqual([
			"CPU 0 0",
			"CPU 0 73",
			"CPU 1 73",
			...(name === "hvm" ? ["HPET 0 3", "HPET 0 5", "PMTIMER 0 0"] : []),
		]);
	});

	test("went on for as long by the HPET as by the TSC, until the dump was taken", async () => {
		const entries = entriesOf((await contextItem(name)).fields);
		const of = (wanted: string) => entries.find((entry) => entry.name === wanted)?.registers as Registers;
		const tscKhz = Number(of("HEADER").gtsc_khz);
		const tscMs = Number(BigInt(/tsc (0x\w+)/.exec(dump)?.[1] as string) - BigInt(of("CPU").tsc as string)) / tscKhz;
		expect(tscMs).toBeGreaterThan(1000);
		if (name !== "hvm") return;
		const hpet = of("HPET");
		const periodFs = Number(BigInt(hpet.capability as string) >> 32n);
		const ticks = Number(BigInt(/counter (0x\w+)/.exec(dump)?.[1] as string) - BigInt(hpet.mc64 as string));
		expect(Math.abs((ticks * periodFs) / 1e12 - tscMs)).toBeLessThan(1);
	});

	test("is written again from its fields, octet for octet, with nothing left as octets", async () => {
		const { fields, octets } = await contextItem(name);
		for (const { body, rest } of entriesOf(fields)) expect([body, rest]).toEqual([undefined, undefined]);
		const context = octetsOf(fields);
		expect(same((octets as Uint8Array).subarray(8, 8 + context.length), context)).toBe(true);
	});
});

/** A context of entries, each {type, instance, body}. */
function context(entries: readonly [type: number, instance: number, body: Uint8Array][]): Uint8Array {
	const parts = entries.map(([type, instance, body]) => {
		const head = Buffer.alloc(8);
		head.writeUInt16LE(type, 0);
		head.writeUInt16LE(instance, 2);
		head.writeUInt32LE(body.length, 4);
		return Buffer.concat([head, body]);
	});
	return new Uint8Array(Buffer.concat(parts));
}
const randomOctets = (length: number, seed: number) => {
	const random = new Random(seed);
	return Uint8Array.from({ length }, () => random.below(256));
};
const END: [number, number, Uint8Array] = [0, 0, new Uint8Array(0)];
/** Lengths in octets that an entry may have: its forms', and of the two without a limit some. */
const lengthsOf = (type: number): number[] => {
	const { forms, tail } = hvmEntryTypes[type] as (typeof hvmEntryTypes)[number];
	const least = forms[0]?.size ?? 0;
	return tail ? [0, 1, 5].map((rows) => least + rows * (tail.row?.size ?? 64)) : forms.map(({ size }) => size);
};

describe("entries", () => {
	const types = Object.entries(hvmEntryTypes).map(([type, { name }]) => [name, Number(type)] as const);

	it.each(types)("%s of random octets and of every length becomes fields and the same octets again", (name, type) => {
		if (name === "END") return;
		for (const length of lengthsOf(type)) {
			for (let seed = 0; seed < 5; seed++) {
				const octets = context([[type, 7, randomOctets(length, seed)], END]);
				const fields = hvmContextFields(octets);
				const [entry] = entriesOf(fields);
				expect([entry?.name, entry?.rest, entry?.body]).toEqual([name, undefined, undefined]);
				expect(same(octetsOf(fields), octets)).toBe(true);
			}
		}
	});

	it.each(types)("%s longer than any that is known keeps what is more; a shorter one is octets", (name, type) => {
		const longest = lengthsOf(type).at(-1) as number;
		const least = lengthsOf(type)[0] as number;
		const open = hvmEntryTypes[type]?.tail;
		if (name === "END") return;
		const longer = context([[type, 0, randomOctets(longest + 4, 1)], END]);
		const [entry] = entriesOf(hvmContextFields(longer));
		if (name !== "CPU_XSAVE") expect(entry?.rest?.length).toBe(8);
		expect(entry?.registers).toBeDefined();
		expect(same(octetsOf(hvmContextFields(longer)), longer)).toBe(true);
		const shorter = context([[type, 0, randomOctets((open ? least : lengthsOf(type)[0]) - 1, 1)], END]);
		expect(entriesOf(hvmContextFields(shorter))[0]).toMatchObject({ name, body: expect.any(String) });
		expect(same(octetsOf(hvmContextFields(shorter)), shorter)).toBe(true);
	});

	it("an older CPU has the TSC where it was then", () => {
		const { forms } = hvmEntryTypes[2] as (typeof hvmEntryTypes)[number];
		expect(forms.map(({ size }) => size)).toEqual([1016, 1024, 1032]);
		const now = randomOctets(hvmCpu.size, 3);
		const { tsc, pending_event, error_code } = structFields(hvmCpu, now);
		const at = hvmCpu.fields.find(({ name }) => name === "msr_tsc_aux")?.offset as number;
		const oldest = Buffer.concat([now.subarray(0, at), now.subarray(at + 8, 1024)]);
		for (const body of [oldest, now.subarray(0, 1024)]) {
			const [entry] = entriesOf(hvmContextFields(context([[2, 0, body], END])));
			expect(entry?.registers).toMatchObject({ tsc, pending_event, error_code });
		}
	});

	it("LAPIC has 24 octets in Xen 4.17 and 32 in 4.20", () => {
		const body = new Uint8Array(hvmLapic420.size);
		body[24] = 6;
		const [entry] = entriesOf(hvmContextFields(context([[5, 1, body], END])));
		expect(entry?.registers).toMatchObject({ apic_base_msr: "0x0", tdt_msr: "0x0", x2apic_id: "0x6" });
		expect(hvmEntryTypes[5]?.length).toBe(24);
	});

	it("MSRs have their names", () => {
		const body = Buffer.alloc(8 + 32);
		body.writeUInt32LE(2, 0);
		body.writeUInt32LE(0x48, 8);
		body.writeUInt32LE(0xc0000103, 24);
		body.writeBigUInt64LE(5n, 32);
		const [entry] = entriesOf(hvmContextFields(context([[20, 0, body], END])));
		expect(entry?.msrs).toEqual([
			{ msr: "0x48", name: "SPEC_CTRL", value: "0x0" },
			{ msr: "0xc0000103", name: "TSC_AUX", value: "0x5" },
		]);
	});

	it("fields that do not fit are refused by name", () => {
		const write = (type: number, registers: Fields) =>
			octetsOf({ entries: [{ type, instance: 0, length: hvmEntryTypes[type]?.length ?? 0, registers }] });
		const wrong: [number, Fields, RegExp][] = [
			[3, { init_state: 16 }, /init_state/],
			[11, { rtc_offset: 1.5 }, /rtc_offset/],
			[4, { redirtbl: Array(49).fill(0) }, /redirtbl/],
			[10, { channels: Array(4).fill({}) }, /channels/],
			[2, { fpu_regs: { xmm: ["0x".padEnd(40, "1")] } }, /xmm/],
			[2, { fpu_regs: { st: [5] } }, /st\[0\]/],
			[11, { cmos_data: "00".repeat(15) }, /cmos_data/],
			[2, { rax: "0x1".padEnd(20, "0") }, /rax/],
		];
		for (const [type, registers, field] of wrong) expect(() => write(type, registers)).toThrow(field);
	});
});

describe("what the check says", () => {
	async function findings(body: (entry: Entry, index: number) => Entry): Promise<string[]> {
		const items = await itemsOf(capturedImage("pvh"));
		const octets = items.map((item) => {
			if (item.name !== "HVM_CONTEXT") return item.octets as Uint8Array;
			const entries = entriesOf(item.fields).map(body);
			return imageFormat.encode({ ...item, fields: { entries } as unknown as Fields });
		});
		const whole = new Uint8Array(Buffer.concat(octets));
		expect(await errorsOf(whole)).toEqual([]);
		const all = new Findings();
		await itemsOf(whole, { pages: "summary", findings: all });
		return all.list.filter(({ rule }) => rule.code === "XLU-C041").map(({ field, got }) => `${field}: ${got}`);
	}

	it("nothing of lengths that are known", async () => {
		expect(await findings((entry) => entry)).toEqual([]);
		const longer = (entry: Entry) => (entry.name === "LAPIC" ? { ...entry, length: hvmLapic420.size } : entry);
		expect(await findings(longer)).toEqual([]);
	});

	it("a warning of a length, and of a type, that is not", async () => {
		const longer = (entry: Entry) => (entry.name === "MTRR" ? { ...entry, rest: "00000000" } : entry);
		expect(await findings(longer)).toEqual(["entry 10 (MTRR): 244", "entry 11 (MTRR): 244"]);
		const unknown = (entry: Entry, i: number) => (i === 5 ? { ...entry, type: 21, body: "0102" } : entry);
		expect(await findings(unknown)).toEqual(["entry 5: type 21, 2 octets"]);
	});
});
