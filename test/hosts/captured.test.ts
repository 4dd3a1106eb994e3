/**
 * The three captured hosts, through the whole of the library: what xen#2 built against what Xen's own dumps say, read
 * by the parsers of dumps.ts.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { beforeAll, describe, expect, it } from "vitest";
import { decodeRecord } from "../../src/format/decode.ts";
import type { Row } from "../../src/format/layout.ts";
import { walkRecords } from "../../src/inspect/stream.ts";
import { fixtures, fixtureText, type Updated, updatedFixture } from "../support/hosts.ts";
import { contextEntries, libxcBody } from "../support/libxc.ts";
import {
	type Binding,
	dom0Registers,
	dumpedDomains,
	dumpedEvents,
	dumpedGrants,
	hvmctxRegisters,
	listedPorts,
	type Registers,
	xenctxRegisters,
} from "./dumps.ts";

interface AbiStruct {
	fields: Record<string, { offset: number; size: number }>;
}

const abi = JSON.parse(fixtureText("../guest-abi.json")) as {
	structs: Record<string, AbiStruct>;
	hvmSave: Record<string, { code: number; length: number }>;
};

const hosts = [
	{ name: "pv", domid: 1 },
	{ name: "pvh", domid: 1 },
	{ name: "hvm", domid: 4 },
] as const;

const bindingOf = ({ port, state, vcpu, remoteDomid, remotePort, virq, pirq }: Binding): Binding => ({
	port,
	state,
	vcpu,
	remoteDomid,
	remotePort,
	virq,
	pirq,
});

describe.each(hosts)("the captured $name host", ({ name, domid }) => {
	let updated: Updated;
	const dump = (key: string) => fixtureText(`${name}/debugkey-${key}.txt`);
	beforeAll(async () => {
		updated = await updatedFixture(name);
	});

	it("is identical after its live update", () => {
		expect(updated.report).toMatchObject({ host: name, identical: true, difference: null });
		expect(updated.report.streamBytes).toBe(updated.stream.length);
		expect(updated.report.domains.map((domain) => domain.domid)).toEqual([0, domid]);
	});

	it("has every port with the binding, vCPU, pending and masked bits of debug key e", () => {
		const { ports } = dumpedEvents(dump("e"));
		expect(ports.length).toBeGreaterThanOrEqual(50);
		expect(ports.filter(({ pending }) => pending).length).toBeGreaterThan(0);
		expect(updated.ports).toEqual(ports);
		for (const { domid: id, ports: count } of updated.report.domains) {
			expect(count).toBe(ports.filter((port) => port.domid === id).length);
		}
	});

	it("has the ports that lsevtchn saw, in the guest and in dom0", () => {
		const { consumed } = dumpedEvents(dump("e"));
		const seen = (id: number) =>
			updated.ports.filter((port) => port.domid === id && !consumed.includes(`${id}:${port.port}`)).map(bindingOf);
		expect(seen(domid)).toEqual(listedPorts(fixtureText(`${name}/lsevtchn.txt`)));
		expect(seen(0)).toEqual(listedPorts(fixtureText(`${name}/lsevtchn-dom0.txt`)));
	});

	it("has a consumer inside Xen on the ports that the dump marks x=1, and on no other", () => {
		const { consumed } = dumpedEvents(dump("e"));
		expect(consumed.length).toBe(name === "hvm" ? 3 : 0);
		const found = updated.domids.flatMap((id) =>
			updated.rows("Ports", id).flatMap(({ consumer, state }, port) => (state && consumer ? [`${id}:${port}`] : [])),
		);
		expect(found).toEqual(consumed);
	});

	it("has the pins of debug key g in the granting domain's active grants", () => {
		const grants = dumpedGrants(dump("g"));
		expect(grants.length).toBe(13);
		const expected = grants.map(({ domid: id, ref, grantee, mfn, ...pins }) => {
			const { hostRead, hostWrite, deviceRead, deviceWrite } = pins;
			return { domid: id, ref, grantee, mfn, hostRead, hostWrite, deviceRead, deviceWrite };
		});
		const found = updated.domids.flatMap((id) =>
			updated.rows("GrantActive", id).flatMap((row, ref) => (row.mfn ? [{ domid: id, ref, ...row }] : [])),
		);
		expect(found).toEqual(expected);
	});

	it("has one handle per pin in the mapping domain's maptrack, ascending", () => {
		const expected = dumpedGrants(dump("g")).flatMap(({ domid: id, ref, hostWrite }) =>
			new Array(hostWrite).fill({ domid: id, reference: ref, flags: 2, vcpuId: 0 }),
		);
		const used = updated.rows("Maptrack", 0).filter(({ flags }) => flags !== 0);
		expect(used).toEqual(expected);
		expect(updated.rows("Maptrack", 0).slice(0, 15)).toEqual(used);
		expect(updated.rows("Maptrack", domid).filter(({ flags }) => flags !== 0)).toEqual([]);
		expect(updated.report.domains.map(({ grantMappings }) => grantMappings)).toEqual([15, 0]);
	});

	it("has the shared side of the grants in the guest's preserved grant frames", () => {
		const frames = updated.rows("GrantFrames", domid);
		const grants = dumpedGrants(dump("g"));
		expect(frames.length).toBe(2);
		for (const { ref, sharedDomid, gmfn, last } of grants) {
			const page = updated.preserved(frames[ref >> 9]?.mfn as number);
			const at = (ref & 511) * 8;
			expect({
				ref,
				flags: page.getUint16(at, true),
				domid: page.getUint16(at + 2, true),
				frame: page.getUint32(at + 4, true),
			}).toEqual({ ref, flags: last, domid: sharedDomid, frame: gmfn });
		}
	});

	it("has the limits, vCPUs and page counts of debug key q", () => {
		for (const dumped of dumpedDomains(dump("q"))) {
			const [row] = updated.rows("Domain", dumped.domid);
			const report = updated.report.domains.find((domain) => domain.domid === dumped.domid);
			expect(row?.maxPages).toBe(dumped.maxPages);
			expect(report?.frames).toBe(dumped.nrPages);
			expect(report?.vcpus).toBe(dumped.domid === 0 ? 1 : 2);
		}
	});

	it("has dom0's registers as debug key 0 printed them", () => {
		const vcpus = dom0Registers(dump("0"));
		expect(vcpus.length).toBe(1);
		const [row] = updated.bigRows("PvVcpu", 0);
		const { fsb, gsb, gss, ...same } = Object.fromEntries(vcpus[0] as Registers);
		expect(Object.keys(same)).toHaveLength(28);
		expect(fsb).not.toBe(0n);
		expect({ fsb: row?.fsBase, gsb: row?.gsBaseKernel, gss: row?.gsBaseUser }).toEqual({ fsb, gsb, gss });
		expect(Object.fromEntries(Object.keys(same).map((register) => [register, pvRegister(row, register)]))).toEqual(
			same,
		);
	});
});

/** A register of LU_PV_VCPU by the name that tools give it. */
function pvRegister(row: Row | undefined, name: string): bigint {
	const number = /^([cd])r(\d)$/.exec(name);
	if (!number) return BigInt(row?.[name] as bigint);
	const list = row?.[`${number[1]}r`] as readonly bigint[] | undefined;
	return list?.[Number(number[2])] as bigint;
}

describe("registers of the captured PV guest", () => {
	it("are those of xenctx, but for vCPU 0's rax (suspend cancelled) and rdx (a PFN)", async () => {
		const updated = await updatedFixture("pv");
		const rows = updated.bigRows("PvVcpu", 1);
		const vcpus = xenctxRegisters(fixtureText("pv/xenctx.txt"));
		expect(vcpus.length).toBe(2);
		const names = "rip rsp rbx rcx rsi rdi rbp r8 r9 r10 r11 r12 r13 r14 r15 cs ss ds es fs gs".split(" ");
		const others = "cr0 cr2 cr3 cr4 dr0 dr1 dr2 dr3 dr6 dr7".split(" ");
		for (const [id, dumped] of vcpus.entries()) {
			const row = rows[id];
			for (const name of [...names, ...others, ...(id === 0 ? [] : ["rax", "rdx"])]) {
				expect([id, name, pvRegister(row, name)]).toEqual([id, name, dumped.get(name)]);
			}
			expect(row?.rflags).toBe(dumped.get("flags"));
			expect([row?.fsBase, row?.gsBaseKernel, row?.gsBaseUser]).toEqual(
				["fs_base", "gs_base", "gs_other"].map((name) => dumped.get(name)),
			);
		}
		expect([rows[0]?.rax, vcpus[0]?.get("rax")]).toEqual([0n, 1n]);
		expect(vcpus[0]?.get("rdx")).toBe(0xe018n);
		// cr3 is a frame that the guest has pinned as L4 table: type 4, pinned, validated.
		for (const dumped of vcpus) expect(updated.type(Number((dumped.get("cr3") as bigint) >> 12n))).toBe(4 | 8 | 16);
	});

	it("have in the stream the FPU state, trap table and contexts that the image has, octet for octet", async () => {
		const updated = await updatedFixture("pv");
		const image = gunzipSync(readFileSync(join(fixtures, "pv/pv1.xlsave.gz")));
		const contexts = [4, 5, 6].map((type) => libxcBody(image, type).subarray(8));
		const [basic, extended, xsave] = contexts as [Buffer, Buffer, Buffer];
		const vcpuContext = abi.structs.vcpu_guest_context as AbiStruct;
		const at = (field: string) => {
			const { offset, size } = vcpuContext.fields[field] as { offset: number; size: number };
			return basic.subarray(offset, offset + size);
		};
		expect(at("fpu_ctxt").some((octet) => octet !== 0)).toBe(true);
		expect(Buffer.from(updated.octets("PvFpu", 1).subarray(0, 512))).toEqual(at("fpu_ctxt"));
		const traps = updated.octets("PvTraps", 1).subarray(0, 256 * 16);
		expect(Buffer.from(traps)).toEqual(at("trap_ctxt"));
		expect(Buffer.from(updated.octets("PvExtended", 1).subarray(0, extended.length))).toEqual(extended);
		expect(Buffer.from(updated.octets("PvXsave", 1).subarray(0, xsave.length))).toEqual(xsave);
	});
});

describe.each([hosts[1], hosts[2]])("registers of the captured $name guest", ({ name, domid }) => {
	/** Fields of struct hvm_hw_cpu by the names that xen-hvmctx prints. */
	const renamed: Record<string, string> = {
		lstar: "msr_lstar",
		star: "msr_star",
		cstar: "msr_cstar",
		sfmask: "msr_syscall_mask",
		efer: "msr_efer",
	};
	const cpu = abi.structs.hvm_hw_cpu as AbiStruct;
	const read = (entry: Uint8Array, register: string): bigint | undefined => {
		const field = cpu.fields[renamed[register] ?? register];
		if (!field) return undefined;
		const octets = Buffer.from(entry.subarray(field.offset, field.offset + field.size)).reverse();
		return BigInt(`0x${octets.toString("hex")}`);
	};

	it("are those of xen-hvmctx and xenctx, but for vCPU 0's rax (suspend cancelled)", async () => {
		const updated = await updatedFixture(name);
		const entries = contextEntries(updated.octets("HvmContext", domid)).filter(
			({ type }) => type === abi.hvmSave.CPU?.code,
		);
		const dumped = hvmctxRegisters(fixtureText(`${name}/xen-hvmctx.txt`));
		const seen = xenctxRegisters(fixtureText(`${name}/xenctx.txt`));
		expect(dumped.length).toBe(2);
		expect(entries.map(({ instance }) => instance)).toEqual([0, 1]);
		for (const [id, registers] of dumped.entries()) {
			const body = entries[id]?.body as Uint8Array;
			let compared = 0;
			for (const [register, value] of registers) {
				const xmm = /^xmm(\d\d)$/.exec(register)?.[1];
				const found = xmm === undefined ? read(body, register) : xmmOf(body, Number(xmm));
				// The TSC runs on: the dump was taken some seconds later.
				if (register === "tsc") expect(value > (found as bigint)).toBe(true);
				if (found === undefined || register === "tsc" || (id === 0 && register === "rax")) continue;
				expect([id, register, found]).toEqual([id, register, value]);
				compared++;
			}
			expect(compared).toBeGreaterThan(70);
			for (const [register, value] of seen[id] as Registers) {
				const found = read(body, register === "flags" ? "rflags" : (hidden[register] ?? register));
				if (found === undefined || (id === 0 && register === "rax")) continue;
				expect([id, register, found]).toEqual([id, register, value]);
			}
		}
		expect([read(entries[0]?.body as Uint8Array, "rax"), dumped[0]?.get("rax")]).toEqual([0n, 1n]);
	});

	it("have in the stream the HVM context of the image, octet for octet, and its parameters that are not 0", async () => {
		const updated = await updatedFixture(name);
		const image = gunzipSync(readFileSync(join(fixtures, name, `${name}1.xlsave.gz`)));
		const context = libxcBody(image, 9);
		expect(context.length).toBeGreaterThan(4000);
		expect(Buffer.from(updated.octets("HvmContext", domid))).toEqual(context);
		const record = [...walkRecords(updated.stream)].find(({ type, domid: id }) => type === 9 && id === domid);
		expect(Buffer.from(record?.body as Uint8Array)).toEqual(context);
		const params = libxcBody(image, 10);
		const expected = Array.from({ length: params.readUInt32LE(0) }, (_, i) => ({
			index: params.readBigUInt64LE(8 + i * 16),
			value: params.readBigUInt64LE(16 + i * 16),
		}))
			.filter(({ value }) => value !== 0n)
			.sort((a, b) => Number(a.index - b.index));
		expect(expected.length).toBeGreaterThan(6);
		const list = [...walkRecords(updated.stream)].find(({ type, domid: id }) => type === 10 && id === domid);
		expect(list?.def && decodeRecord(list.def, list.body).parts[0]?.rows).toEqual(expected);
	});
});

/** Selectors and bases by xenctx's names. */
const hidden: Record<string, string> = {
	...Object.fromEntries(["cs", "ss", "ds", "es", "fs", "gs"].map((name) => [name, `${name}_sel`])),
	gs_other: "shadow_gs",
};

/** XMM registers stand in the FXSAVE area at octet 160. */
function xmmOf(body: Uint8Array, number: number): bigint {
	const at = 160 + number * 16;
	return BigInt(
		`0x${Buffer.from(body.subarray(at, at + 16))
			.reverse()
			.toString("hex")}`,
	);
}
