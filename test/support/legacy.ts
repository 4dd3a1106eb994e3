/**
 * Legacy libxc images written from the public description of their layout, with nothing of src/formats: what the reader and
 * the converter are held against, here and beside Xen's own converter.
 */
import { Random } from "../../src/random.ts";

export interface LegacySpec {
	width: 32 | 64;
	guestType: "pv" | "hvm";
	/** PV: width of the guest itself. */
	guestWidth?: 32 | 64;
	p2mSize?: number;
	/** Entries (type in bits 31-28, PFN below) of each chunk of pages. */
	batches?: readonly (readonly number[])[];
	/** High 32 bits of every entry of a 64-bit image. */
	entryHigh?: number;
	/** PV: blocks of the extended info other than vcpu, in their order; xcnt is the size of an xsave area. */
	extv?: boolean;
	xcnt?: number;
	/** Replaces the extended info's blocks. */
	blocks?: readonly (readonly [string, Uint8Array])[];
	/** vCPUs online, and the highest id. undefined: no VCPU_INFO. */
	online?: readonly number[] | undefined;
	maxId?: number;
	/** HVM parameters: chunk type and value. */
	params?: readonly (readonly [number, number])[];
	tsc?: boolean;
	toolstack?: Uint8Array;
	/** Markers: -1 with pages sent again behind it, -9. */
	verify?: boolean;
	lastCheckpoint?: boolean;
	/** Chunks put in as they are, before END. */
	extra?: Uint8Array;
	unmapped?: number;
	context?: number;
	/** undefined: no record of a device model. */
	qemu?: { signature?: string; state: number } | undefined;
	/** States of the guest, one behind the other. */
	states?: number;
	/** xl's header in front, with this configuration. */
	xl?: string;
	seed?: number;
}

export const u32 = (...values: number[]): Buffer => words32(values);
function words32(values: readonly number[]): Buffer {
	const octets = Buffer.alloc(4 * values.length);
	for (const [i, value] of values.entries()) octets.writeUInt32LE(value >>> 0, 4 * i);
	return octets;
}
export const u64 = (...values: number[]): Buffer => words64(values);
function words64(values: readonly number[]): Buffer {
	const octets = Buffer.alloc(8 * values.length);
	for (const [i, value] of values.entries()) octets.writeBigUInt64LE(BigInt(value), 8 * i);
	return octets;
}
export const ulongs = (width: 32 | 64, ...values: number[]): Buffer => list(width, values);
const list = (width: 32 | 64, values: readonly number[]): Buffer => (width === 64 ? words64(values) : words32(values));

const row = (count: number, from = 0) => Array.from({ length: count }, (_, i) => from + i);

/** Octets that the seed alone decides. */
export function noise(random: Random, length: number): Buffer {
	const words = new Uint32Array(Math.ceil(length / 4));
	for (let i = 0; i < words.length; i++) words[i] = random.word();
	return Buffer.from(words.buffer, 0, length);
}

export function block(id: string, data: Uint8Array): Buffer {
	return Buffer.concat([Buffer.from(id, "latin1"), u32(data.length), data]);
}

/** libxl's physical map, as a toolstack of that width lays it out. */
export function physmap(width: 32 | 64, regions: readonly (readonly [number, number, number, string])[]): Buffer {
	const parts = regions.map(([offset, start, size, name]) =>
		Buffer.concat([
			u64(offset, start, size),
			u32(name.length + 1),
			Buffer.from(`${name}\0`, "latin1"),
			Buffer.alloc(width === 64 ? 4 : 0),
		]),
	);
	return Buffer.concat([u32(1, regions.length), ...parts]);
}

function pages(spec: LegacySpec, entries: readonly number[], random: Random): Buffer {
	const words = entries.flatMap((entry) => (spec.width === 64 ? [entry, spec.entryHigh ?? 0] : [entry]));
	const withData = entries.filter((entry) => entry >>> 28 < 13);
	// One page in four is zero.
	const contents = withData.map(() => (random.chance(0.25) ? Buffer.alloc(4096) : noise(random, 4096)));
	return Buffer.concat([u32(entries.length), u32(...words), ...contents]);
}

function vcpuInfo(online: readonly number[], maxId: number): Buffer {
	const bitmap = Buffer.alloc((Math.floor(maxId / 64) + 1) * 8);
	for (const id of online) bitmap[id >> 3] = (bitmap[id >> 3] ?? 0) | (1 << (id & 7));
	return Buffer.concat([u32(-2, maxId), bitmap]);
}

function chunks(spec: LegacySpec, random: Random, isLast: boolean): Buffer[] {
	const batches = spec.batches ?? [
		[1, 2, 3],
		[0x10000004, 0xf0000005, 6],
	];
	const parts: Buffer[] = batches.map((entries) => pages(spec, entries, random));
	const online = "online" in spec ? spec.online : [0, 1];
	if (spec.verify) parts.push(u32(-1), ...batches.map((entries) => pages(spec, entries, random)));
	if (online) parts.push(vcpuInfo(online, spec.maxId ?? Math.max(0, ...online)));
	for (const [type, value] of spec.params ?? []) parts.push(u32(type, 0), u64(value));
	if (spec.tsc) parts.push(u32(-7, 1), u64(0x1122334455), u32(2_400_000, 3));
	if (spec.toolstack) parts.push(u32(-18, spec.toolstack.length), Buffer.from(spec.toolstack));
	if (spec.extra) parts.push(Buffer.from(spec.extra));
	if (spec.lastCheckpoint && isLast) parts.push(u32(-9));
	parts.push(u32(0));
	return parts;
}

function pvTail(spec: LegacySpec, random: Random): Buffer[] {
	const unmapped = spec.unmapped ?? 0;
	const parts = [u32(unmapped), list(spec.width, row(unmapped, 7))];
	const contextBytes = spec.guestWidth === 32 ? 2800 : 5168;
	for (const _ of ("online" in spec ? spec.online : [0, 1]) ?? []) {
		parts.push(noise(random, contextBytes));
		if (spec.extv) parts.push(noise(random, 128));
		if (spec.xcnt !== undefined) parts.push(u64(7, spec.xcnt), noise(random, spec.xcnt));
	}
	parts.push(noise(random, 4096));
	return parts;
}

function hvmTail(spec: LegacySpec, random: Random): Buffer[] {
	const context = noise(random, spec.context ?? 1000);
	const parts = [u64(0xfeffe, 0xfefff, 0xfeffc), u32(context.length), context];
	const qemu = "qemu" in spec ? spec.qemu : { state: 333 };
	if (!qemu) return parts;
	const signature = qemu.signature ?? "DeviceModelRecord0002";
	parts.push(Buffer.from(signature, "latin1"));
	if (signature !== "QemuDeviceModelRecord") parts.push(u32(qemu.state));
	parts.push(noise(random, qemu.state));
	return parts;
}

/** xl's header of a file whose image is legacy. */
export function xlHeader(config: string, mandatory = 1, byteOrder = 0x01020304): Buffer {
	const json = Buffer.from(`${config}\0`);
	const magic = Buffer.from("Xen saved domain, xl format\n \0 \r", "latin1");
	return Buffer.concat([magic, u32(byteOrder, mandatory, 0, json.length + 4, json.length), json]);
}

/** The image that a specification describes. */
export function legacyImage(spec: LegacySpec): Buffer {
	const { width } = spec;
	const random = new Random(spec.seed ?? 1);
	const p2mSize = spec.p2mSize ?? 0x1000;
	const parts: Buffer[] = spec.xl === undefined ? [] : [xlHeader(spec.xl)];
	parts.push(ulongs(width, p2mSize));
	if (spec.guestType === "pv") {
		const blocks = spec.blocks ?? [
			["vcpu", noise(random, spec.guestWidth === 32 ? 2800 : 5168)],
			...(spec.extv ? [["extv", Buffer.alloc(0)] as const] : []),
			...(spec.xcnt === undefined ? [] : [["xcnt", u32(spec.xcnt + 16)] as const]),
		];
		const info = Buffer.concat(blocks.map(([id, data]) => block(id, data)));
		parts.push(Buffer.alloc(width / 8, 0xff), u32(info.length), info);
		const frames = Math.ceil(p2mSize / (spec.guestWidth === 32 ? 1024 : 512));
		parts.push(list(width, row(frames, 0x100)));
	}
	const states = spec.states ?? 1;
	for (let state = 1; state <= states; state++) {
		parts.push(...chunks(spec, random, state === states));
		parts.push(...(spec.guestType === "pv" ? pvTail(spec, random) : hvmTail(spec, random)));
	}
	return Buffer.concat(parts);
}

export interface LegacyVariant {
	readonly name: string;
	readonly spec: LegacySpec;
}

const ALL_PARAMS: [number, number][] = [-3, -4, -8, -10, -11, -14, -15, -16, -17, -19, -20].map((type) => [
	type,
	0x1000 - type,
]);

const REGIONS: [number, number, number, string][] = [
	[0x10000000, 0xf0000000, 0x800000, "vga.vram"],
	[0x10800000, 0xf1000000, 0x10000, "/rom@genroms/kvmvapic.bin"],
];

/** Specifications of whole images: all kinds and widths, each with and without every optional chunk. */
export function legacyVariants(): LegacyVariant[] {
	const variants: LegacyVariant[] = [];
	const both = [32, 64] as const;
	const add = (name: string, spec: LegacySpec) => variants.push({ name, spec: { seed: variants.length + 1, ...spec } });
	for (const width of both) {
		const hvm = (name: string, spec: Partial<LegacySpec>) =>
			add(`hvm ${width} ${name}`, { width, guestType: "hvm", ...spec });
		hvm("plain", {});
		hvm("last checkpoint", { lastCheckpoint: true });
		hvm("without VCPU_INFO", { online: undefined });
		hvm("vCPU 70", { online: [0, 63, 64, 70], maxId: 127 });
		hvm("all parameters", { params: ALL_PARAMS });
		hvm("parameters upside down", { params: [...ALL_PARAMS].reverse() });
		for (const param of ALL_PARAMS) hvm(`parameter ${param[0]}`, { params: [param] });
		hvm("parameter 0", { params: [[-3, 0]] });
		hvm("TSC", { tsc: true });
		hvm("toolstack", { toolstack: physmap(width, REGIONS) });
		hvm("toolstack, empty", { toolstack: physmap(width, []) });
		hvm("toolstack, no octets", { toolstack: new Uint8Array(0) });
		hvm("verify mode", { verify: true, lastCheckpoint: true });
		hvm("a chunk of 1024", { p2mSize: 0x2000, batches: [row(1024, 1), [0xf0000bff]] });
		hvm("no data", { batches: [[0xd0000001, 0xe0000002, 0xf0000003]] });
		hvm("no pages", { batches: [], online: [0] });
		hvm("a small context, no state", { context: 1, qemu: { state: 0 } });
		hvm("a large state", { context: 70_001, qemu: { state: 200_001 } });
		hvm("everything", {
			params: ALL_PARAMS,
			tsc: true,
			toolstack: physmap(width, REGIONS),
			verify: true,
			lastCheckpoint: true,
			batches: [row(100), row(100, 50), [0xf0000001]],
		});
		for (const guestWidth of both) {
			const pv = (name: string, spec: Partial<LegacySpec>) =>
				add(`pv ${width} guest ${guestWidth} ${name}`, { width, guestType: "pv", guestWidth, ...spec });
			pv("plain", {});
			pv("last checkpoint", { lastCheckpoint: true });
			pv("extended contexts", { extv: true });
			pv("xsave", { extv: true, xcnt: 576 });
			pv("xsave alone", { xcnt: 832 });
			pv("xsave, no octets", { xcnt: 0 });
			pv("odd p2m", { p2mSize: 0x1001 });
			pv("one frame", { p2mSize: 7, batches: [[0, 1, 2, 6]] });
			pv("vCPU 70", { online: [0, 63, 64, 70], maxId: 127, extv: true });
			pv("TSC", { tsc: true });
			pv("unmapped PFNs", { unmapped: 9 });
			pv("page tables", {
				batches: [[0x10000001, 0x20000002, 0x30000003, 0x40000004, 0x9000000a, 0xa000000b, 0xb000000c, 0xc000000d]],
			});
			pv("without data", { batches: [[1], [0xd0000001, 0xe0000002, 0xf0000003]] });
			pv("verify mode", { verify: true });
			pv("toolstack", { toolstack: physmap(width, REGIONS) });
			pv("everything", {
				extv: true,
				xcnt: 1088,
				tsc: true,
				unmapped: 3,
				verify: true,
				lastCheckpoint: true,
				toolstack: physmap(width, []),
				batches: [row(200), row(200, 100), [0xf0000001]],
			});
		}
	}
	return variants;
}
