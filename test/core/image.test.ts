/**
 * IMAGE: a hypervisor image that is not consistent is not saved, digested or compared. Each case breaks one thing that walking
 * an image relies on, and nothing else.
 */
import { describe, expect, test } from "vitest";
import { type PlacedField, type Struct, writeStruct } from "../../src/format/layout.ts";
import { domainTables, hostTables, imageStructs, structs } from "../../src/format/schema.ts";
import { newCore, newInstance, rawFault, saveTiny } from "../support/core.ts";

const tiny = saveTiny();
const { ImageRoot, DomainEntry, TableRef } = imageStructs;

const fieldOf = (struct: Struct, name: string): PlacedField =>
	struct.fields.find((field) => field.name === name) as PlacedField;

/** An image whose parts can be set by name. */
class Damaged {
	readonly octets = tiny.image.slice();
	readonly view = new DataView(this.octets.buffer);

	root(field: string, value: number): this {
		this.view.setUint32(fieldOf(ImageRoot, field).offset, value, true);
		return this;
	}

	rootIs(field: string): number {
		return this.view.getUint32(fieldOf(ImageRoot, field).offset, true);
	}

	private entry(domain: number): number {
		const size = DomainEntry.size + domainTables.length * TableRef.size;
		return this.rootIs("domainsOffset") + domain * size;
	}

	/** A field of the n-th domain's entry. */
	domain(n: number, field: string, value: number): this {
		this.view.setUint32(this.entry(n) + fieldOf(DomainEntry, field).offset, value, true);
		return this;
	}

	private ref(domain: number | "host", name: string): number {
		const tables = domain === "host" ? hostTables : domainTables;
		const number = tables.findIndex((table) => table.name === name);
		if (number < 0) throw new Error(`no table ${name}`);
		return (domain === "host" ? ImageRoot.size : this.entry(domain) + DomainEntry.size) + number * TableRef.size;
	}

	offset(domain: number | "host", name: string): number {
		return this.view.getUint32(this.ref(domain, name) + fieldOf(TableRef, "offset").offset, true);
	}

	/** So many rows of a table, which stays where it is or begins at `offset`. */
	table(domain: number | "host", name: string, count: number, offset = this.offset(domain, name)): this {
		writeStruct(TableRef, this.view, this.ref(domain, name), { offset, count });
		return this;
	}

	/** A field of a vCPU's blobs. */
	blob(vcpu: number, field: string, value: number): this {
		const { size } = structs.VcpuBlobs;
		const at = this.offset(PV, "VcpuBlobs") + vcpu * size + fieldOf(structs.VcpuBlobs, field).offset;
		this.view.setUint32(at, value, true);
		return this;
	}
}

/** The domains in the image: dom0, a PV guest of two vCPUs, an HVM guest of three slots, a dead one. */
const PV = 1;
const HVM = 2;
const LAST = 3;

type Case = [what: string, damage: (image: Damaged) => unknown, expected?: number | bigint, got?: number | bigint];

const shape: Case[] = [
	["no image at all", (image) => image.root("magic", 0)],
	["another ABI", (image) => image.root("abi", 2)],
	["larger than its window", (image) => image.root("size", image.octets.length + 8)],
	[
		"more domains than there is room for",
		(image) => image.root("domainCount", 0x0fff_ffff),
		tiny.image.length,
		tiny.image.length,
	],
	["domains elsewhere", (image) => image.root("domainsOffset", image.rootIs("domainsOffset") + 8)],
	["detached tables", (image) => image.root("flags", 1), 0, 1],
	["a host table beyond the image", (image) => image.table("host", "Host", 1, 0xffff_fff8)],
	["a host table longer than the image", (image) => image.table("host", "M2pRanges", 0xffff_ffff)],
	["types of fewer frames", (image) => image.table("host", "FrameTypes", 1000), 1024, 1000],
	["counts of fewer frames", (image) => image.table("host", "FrameCounts", 1000), 1024, 1024],
	["domids that do not ascend", (image) => image.domain(0, "domid", 9), 10, 1],
	["a domid twice", (image) => image.domain(PV, "domid", 0), 1, 0],
	["a domid that Xen reserves", (image) => image.domain(LAST, "domid", 0x7ff0), 3, 0x7ff0],
	["a domain's table beyond the image", (image) => image.table(LAST, "DomainState", 1, 0xffff_fff8)],
	["a domain's table that is misaligned", (image) => image.table(PV, "E820", 1, image.offset(PV, "E820") + 4)],
	["a domain's table in the directories", (image) => image.table(PV, "E820", 1, ImageRoot.size)],
	["two rows of what a domain has once", (image) => image.table(PV, "DomainState", 2)],
	["an empty table beyond the memory", (image) => image.table(LAST, "Ports", 0, 0xffff_fff8)],
];

const source: Case[] = [
	["vCPU slots that the tables do not have", (image) => image.domain(PV, "vcpuSlots", 3), 3, 2],
	["fewer vCPUs than slots", (image) => image.table(PV, "Vcpu", 1), 2, 1],
	["contexts of both widths", (image) => image.table(PV, "Pv32Vcpu", 1, image.offset(PV, "PvVcpu")), 0, 1],
	["fewer contexts than slots", (image) => image.table(PV, "PvVcpu", 1), 2, 1],
	["a P2M without its figures", (image) => image.table(HVM, "P2mInfo", 0), 1, 0],
	["blobs of fewer vCPUs", (image) => image.table(PV, "VcpuBlobs", 1), 2, 1],
	["no blobs, with contexts", (image) => image.table(PV, "VcpuBlobs", 0), 2, 0],
	[
		"blobs of fewer vCPUs, without contexts",
		(image) => image.table(HVM, "VcpuBlobs", 1, image.offset(HVM, "Vcpu")),
		3,
		1,
	],
	["FPU state of fewer vCPUs", (image) => image.table(PV, "PvFpu", 512), 1024, 512],
	["trap tables of fewer vCPUs", (image) => image.table(PV, "PvTraps", 256), 512, 256],
	["hard affinities of fewer vCPUs", (image) => image.table(PV, "HardAffinity", 1), 2, 1],
	["saved affinities of fewer vCPUs", (image) => image.table(PV, "SavedAffinity", 1), 2, 1],
	["an extended context behind the last octet", (image) => image.blob(1, "extendedCount", 129), 1, 129],
	["an XSAVE area behind the last octet", (image) => image.blob(0, "xsaveCount", 0xffff_ffff), 0, 0xffff_ffff],
	["an MSR behind the last one", (image) => image.blob(1, "msrCount", 1), 1, 1],
];

/** The fault of a refused call. */
function faultOf(image: Damaged, call: "digest" | "save" | "saveInSteps" | "compare" | "compareWith") {
	const core = newCore();
	const sound = core.place(tiny.image);
	const window = core.place(image.octets);
	const out = core.allocate(tiny.stream.length);
	const context = core.createContext();
	const run = {
		digest: () => context.digest(window),
		save: () => context.save(window, out),
		saveInSteps: () => context.planSteps(window),
		compare: () => context.compare(sound, window),
		compareWith: () => context.compare(window, sound),
	};
	expect(run[call]).toThrow(expect.objectContaining({ rule: "XLU-R033" }));
	return context.fault();
}

test("the image as it is can be saved", () => {
	const core = newCore();
	const window = core.place(new Damaged().octets);
	const context = core.createContext();
	expect(context.planSave(window)).toBeGreaterThan(tiny.stream.length);
});

test("slots of a domain that has no vCPU are not in the stream", () => {
	const core = newCore();
	const window = core.place(new Damaged().domain(LAST, "vcpuSlots", 3).octets);
	const context = core.createContext();
	const stream = core.bytes(context.save(window, core.allocate(context.planSave(window))));
	expect(Buffer.compare(stream, tiny.stream)).toBe(0);
});

describe("no image, or one that leaves its window: not saved, digested or compared", () => {
	test.each(shape)("%s", (_what, damage, expected, got) => {
		for (const call of ["digest", "save", "compare", "compareWith"] as const) {
			const image = new Damaged();
			damage(image);
			const fault = faultOf(image, call);
			if (expected !== undefined) expect(fault).toMatchObject({ expected: BigInt(expected), got: BigInt(got ?? 0) });
		}
	});
});

describe("tables that do not fit together: not saved", () => {
	test.each(source)("%s", (_what, damage, expected, got) => {
		const image = new Damaged();
		damage(image);
		for (const call of ["save", "saveInSteps"] as const)
			expect(faultOf(image, call), call).toMatchObject({ expected: BigInt(expected ?? 0), got: BigInt(got ?? 0) });
	});
});

test("an image that is misaligned, or shorter than its root", () => {
	const { core, raw } = newInstance();
	const ctx = core.allocate(raw.contextBytes() >>> 0).pointer;
	const room = core.allocate(tiny.image.length + 8);
	const { octets } = new Damaged();
	for (const [pointer, bytes] of [
		[room.pointer + 4, octets.length],
		[room.pointer, 16],
		[room.pointer, ImageRoot.size + hostTables.length * TableRef.size - 1],
	] as const) {
		core.bytes({ pointer, length: octets.length }).set(octets);
		expect(raw.planSave(ctx, pointer, bytes), `${pointer & 7}, ${bytes}`).toBe(1);
		expect(rawFault(raw, ctx).rule).toBe(33);
		const { offset } = fieldOf(imageStructs.Fault, "expected");
		const fault = new DataView(raw.memory.buffer, ctx + imageStructs.Context.size);
		expect(fault.getBigUint64(offset, true)).toBe(BigInt(new Damaged().rootIs("domainsOffset")));
	}
});

test("the least image: no domain, and no row of any table", () => {
	const image = new Damaged();
	for (const { name } of hostTables) image.table("host", name, 0, 0);
	const bytes = image.rootIs("domainsOffset");
	image.root("domainCount", 0).root("size", bytes);
	const core = newCore();
	expect(core.createContext().digest(core.place(image.octets.slice(0, bytes)))).toBeTypeOf("bigint");
});

test("WINDOW: a record that has become longer since a save in steps was begun", () => {
	const room = 1 << 20;
	const core = newCore();
	const image = new Damaged();
	const at = image.octets.length;
	image.root("size", at + room).table(HVM, "HvmContext", 8, at);
	const window = core.allocate(at + room);
	core.bytes(window).set(image.octets);
	const context = core.createContext();
	const { windowBytes, indexBytes } = context.planSteps(window);
	let wants = context.saveStart(window, core.allocate(windowBytes), core.allocate(indexBytes));
	core.bytes(window).set(image.table(HVM, "HvmContext", room, at).octets);
	const toTheEnd = () => {
		// As many steps as the whole image takes, and more: a record that has no room must not be tried forever.
		for (let step = 0; step < 10_000 && wants.kind !== "nothing"; step++) wants = context.saveStep();
	};
	expect(toTheEnd).toThrow(expect.objectContaining({ rule: "XLU-R030" }));
	const { expected, got } = context.fault();
	expect(Number(expected)).toBeGreaterThan(room);
	expect(Number(got)).toBe(windowBytes);
});

describe("images whose streams would be too large", () => {
	const MIB = 1 << 20;
	/** Tables that a record each is made of, by the record's length alone. */
	const tables = [
		"HvmContext",
		"CpuidLeaves",
		"MsrPolicy",
		"HvmParamList",
		"CapRanges",
		"PirqList",
		"ForeignMapList",
		"KeptRanges",
		"IoreqRanges",
	];

	/** The image with so many octets behind it, in which tables may begin. */
	function withRoom(bytes: number, fill: (image: Damaged, at: number) => void) {
		const core = newCore();
		const image = new Damaged();
		const at = image.octets.length;
		image.root("size", at + bytes);
		fill(image, at);
		const window = core.allocate(at + bytes);
		core.bytes(window).set(image.octets);
		return { context: core.createContext(), window };
	}

	test("BODY_LENGTH: a record of more than 2^27 octets", () => {
		const bytes = 2 ** 27 + 8;
		const { context, window } = withRoom(bytes, (image, at) => image.table(HVM, "HvmContext", bytes, at));
		expect(() => context.planSave(window)).toThrow(expect.objectContaining({ rule: "XLU-R006" }));
		expect(() => context.planSteps(window)).toThrow(expect.objectContaining({ rule: "XLU-R006" }));
	});

	test("BODY_LENGTH: a record of just 2^27 octets is measured, in steps too", () => {
		const measure = (bytes: number) => {
			const { context, window } = withRoom(bytes, (image, at) => image.table(HVM, "HvmContext", bytes, at));
			expect(context.planSave(window)).toBeGreaterThan(bytes);
			return context.planSteps(window).windowBytes;
		};
		const room = 2 ** 20;
		const around = measure(room) - room;
		const most = 8 + 2 ** 27;
		expect(measure(most - around)).toBe(most);
	});

	test("HOST_LIMIT: a stream of 4 GiB and more, of tables that all lie in one place", () => {
		const bytes = 120 * MIB;
		const { context, window } = withRoom(bytes, (image, at) => {
			for (let domain = 0; domain <= LAST; domain++)
				for (const { name, shape, row } of domainTables) {
					// Each record stands if its head does.
					if (shape === "once") image.table(domain, name, 1, at);
					if (tables.includes(name)) image.table(domain, name, Math.floor(bytes / row.size), at);
				}
		});
		expect(() => context.planSave(window)).toThrow(expect.objectContaining({ rule: "XLU-R040" }));
		const { expected, got } = context.fault();
		expect(expected).toBe(0xffff_ffffn);
		expect(got).toBeGreaterThan(2n ** 32n);
	});
});
