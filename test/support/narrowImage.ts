/**
 * The image of a 32-bit PV guest, made of the captured 64-bit one: no capture of such a guest is at hand. What the guest is made
 * of stays: its frames, L1 and ordinary L2 tables, GDTs, registers' low halves, events. What a 32-bit one has otherwise is
 * rewritten, by the public headers' numbers, which stand here once more:
 *
 *     X86_PV_INFO        4 octets, 3 levels
 *     X86_PV_P2M_FRAMES  a table of 4 octets an entry, in half of the frames
 *     L4 tables          become L3 tables, pinned: three entries lead to ordinary L2 tables in turn, the fourth to an L2 table
 *                        with Xen's part, a copy of the kernel's map of memory; each has one of its own, as with Linux
 *     L3 tables          become those copies, or ordinary empty pages
 *     contexts           2800 octets; CR3 with a frame's high bits in the low ones
 *     SHARED_INFO        words of 32 bits
 */
import { writeStruct } from "../../src/format/layout.ts";
import { readGuestContext } from "../../src/formats/libxc/guestContext.ts";
import { guestContext32, trapInfo32 } from "../../src/formats/libxc/guestContext32.ts";
import { libxcRecords } from "./libxc.ts";

const TYPE = { pageData: 1, pvInfo: 2, p2mFrames: 3, vcpuBasic: 4, sharedInfo: 7 } as const;
const PAGE = 4096;
const TAB = { none: 0, l1: 1, l2: 2, l3: 3, l4: 4, pinned: 8, firstWithoutData: 0xd } as const;
/** Present, read-write, accessed: as entries of the captured tables are. */
const ENTRY = 0x27n;
/** An L2 table of the captured guest that maps its memory from the first slot on; Xen's part begins behind slot 0x1ab. */
const KERNEL_L2 = 6668;
export const XEN_SLOT = 0x1ac;
/** Slots that no reader has anything to read in: beyond the four of an L3, and those that are Xen's. */
const NOISE = 0xdead_beef_f00d_dead_beefn & 0xffff_ffff_ffff_ffffn;

export interface NarrowOptions {
	/** Whether what is not the guest's holds nonsense rather than zeros. */
	noise?: boolean;
	/** High half of the wall clock's seconds. */
	seconds?: number;
	/** Whether contexts stay those of a 64-bit guest. */
	wideContexts?: boolean;
	/** A last change of pages, by PFN, whose contents may be written to. */
	edit?: (page: (pfn: number) => Buffer, tables: NarrowTables) => void;
}

/** PFNs of what the guest has. */
export interface NarrowTables {
	l3: number[];
	/** Of each of these, in the same order. */
	xenL2: number[];
	l2: number[];
	l1: number[];
}

interface Page {
	type: number;
	content: Buffer | undefined;
}

export function narrowImage(
	image: Uint8Array,
	{ noise = false, seconds, wideContexts = false, edit }: NarrowOptions = {},
): Buffer {
	const octets = Buffer.from(image);
	const records = libxcRecords(octets);
	const bodies = records.map(({ type, offset, length }) => ({ type, body: octets.subarray(offset, offset + length) }));
	const pages = new Map<number, Page>();
	for (const { type, body } of bodies) if (type === TYPE.pageData) collect(body, pages);
	const p2m = bodies.find(({ type }) => type === TYPE.p2mFrames)?.body as Buffer;
	const p2mFrames = narrowP2m(p2m, pages);
	const tables = narrowTables(pages, noise);
	edit?.((pfn) => pages.get(pfn)?.content as Buffer, tables);
	const changed = bodies.map(({ type, body }) => {
		if (type === TYPE.pvInfo) return record(type, Buffer.from([4, 3, 0, 0, 0, 0, 0, 0]));
		if (type === TYPE.p2mFrames) return record(type, p2mFrames);
		if (type === TYPE.pageData) return record(type, pageData(body, pages));
		if (type === TYPE.vcpuBasic && !wideContexts)
			return record(type, Buffer.concat([body.subarray(0, 8), narrowContext(body.subarray(8))]));
		if (type === TYPE.sharedInfo) return record(type, narrowSharedInfo(body, seconds));
		return record(type, body);
	});
	const [first, last] = [records[0], records.at(-1)];
	if (first === undefined || last === undefined) throw new Error("an image without records");
	return Buffer.concat([octets.subarray(0, first.offset - 8), ...changed, octets.subarray(last.offset)]);
}

function record(type: number, body: Buffer): Buffer {
	const header = Buffer.alloc(8);
	header.writeUInt32LE(type, 0);
	header.writeUInt32LE(body.length, 4);
	return Buffer.concat([header, body, Buffer.alloc(-body.length & 7)]);
}

// --- pages ---

const pfnsOf = (body: Buffer): bigint[] =>
	Array.from({ length: body.readUInt32LE(0) }, (_, i) => body.readBigUInt64LE(8 + 8 * i));
const pfnOf = (entry: bigint): number => Number(entry & 0xf_ffff_ffff_ffffn);

function collect(body: Buffer, pages: Map<number, Page>): void {
	const entries = pfnsOf(body);
	let at = 8 + 8 * entries.length;
	for (const entry of entries) {
		const type = Number(entry >> 60n);
		const hasContent = type < TAB.firstWithoutData;
		pages.set(pfnOf(entry), { type, content: hasContent ? Buffer.from(body.subarray(at, at + PAGE)) : undefined });
		at += hasContent ? PAGE : 0;
	}
}

function pageData(body: Buffer, pages: ReadonlyMap<number, Page>): Buffer {
	const head = Buffer.from(body.subarray(0, 8));
	const pfns = pfnsOf(body).map(pfnOf);
	const list = Buffer.alloc(8 * pfns.length);
	const contents = pfns.map((pfn, i) => {
		const { type, content } = pages.get(pfn) as Page;
		list.writeBigUInt64LE((BigInt(type) << 60n) | BigInt(pfn), 8 * i);
		return content ?? Buffer.alloc(0);
	});
	return Buffer.concat([head, list, ...contents]);
}

/** Entries of 8 octets become such of 4, marks in the two highest bits included. Returns the record's body. */
function narrowP2m(body: Buffer, pages: ReadonlyMap<number, Page>): Buffer {
	const frames = Array.from({ length: (body.length - 8) / 8 }, (_, i) => Number(body.readBigUInt64LE(8 + 8 * i)));
	const wide = Buffer.concat(frames.map((pfn) => pages.get(pfn)?.content as Buffer));
	const narrow = Buffer.alloc(wide.length / 2);
	for (let i = 0; i < wide.length / 8; i++) {
		const entry = wide.readBigUInt64LE(8 * i);
		narrow.writeUInt32LE(Number(((entry >> 62n) << 30n) | (entry & 0x3fff_ffffn)), 4 * i);
	}
	const kept = frames.slice(0, Math.ceil(frames.length / 2));
	frames.forEach((pfn, i) => {
		const page = pages.get(pfn)?.content as Buffer;
		page.fill(0);
		if (i < kept.length) narrow.copy(page, 0, i * PAGE, (i + 1) * PAGE);
	});
	const result = Buffer.from(body.subarray(0, 8 + 8 * kept.length));
	for (const [i, pfn] of kept.entries()) result.writeBigUInt64LE(BigInt(pfn), 8 + 8 * i);
	return result;
}

function narrowTables(pages: Map<number, Page>, noise: boolean): NarrowTables {
	const of = (level: number): number[] =>
		[...pages].flatMap(([pfn, { type }]) => (type < TAB.firstWithoutData && (type & 7) === level ? [pfn] : []));
	const [l1, l2, freed, l3] = [of(TAB.l1), of(TAB.l2), of(TAB.l3), of(TAB.l4)];
	const kernel = Buffer.from(pages.get(KERNEL_L2)?.content as Buffer);
	for (let slot = XEN_SLOT; slot < 512; slot++) kernel.writeBigUInt64LE(noise ? NOISE : 0n, 8 * slot);
	const xenL2 = freed.splice(0, l3.length);
	for (const pfn of xenL2) pages.set(pfn, { type: TAB.l2, content: Buffer.from(kernel) });
	for (const pfn of freed) pages.set(pfn, { type: TAB.none, content: Buffer.alloc(PAGE) });
	l3.forEach((pfn, i) => {
		const content = Buffer.alloc(PAGE);
		for (let slot = 0; slot < 3; slot++) {
			content.writeBigUInt64LE((BigInt(l2[(3 * i + slot) % l2.length] as number) << 12n) | ENTRY, 8 * slot);
		}
		content.writeBigUInt64LE((BigInt(xenL2[i] as number) << 12n) | ENTRY, 24);
		for (let slot = 4; noise && slot < 512; slot++) content.writeBigUInt64LE(NOISE, 8 * slot);
		pages.set(pfn, { type: TAB.l3 | TAB.pinned, content });
	});
	return { l3, xenL2, l2, l1 };
}

// --- registers, shared_info ---

/** Flat segments of ring 1, where a 32-bit kernel runs. */
const RING1 = { cs: 0xe019, ss: 0xe021 } as const;
const low = (value: bigint | number): number => Number(BigInt.asUintN(32, BigInt(value)));

function narrowContext(octets: Buffer): Buffer {
	const wide = readGuestContext(octets);
	const traps = Buffer.alloc(256 * trapInfo32.size);
	const trapView = new DataView(traps.buffer, traps.byteOffset, traps.length);
	wide.traps.forEach(({ address, cs, ...trap }, i) => {
		writeStruct(trapInfo32, trapView, i * trapInfo32.size, {
			...trap,
			cs: address === 0n ? cs : RING1.cs,
			address: low(address),
		});
	});
	const halves = Object.fromEntries(
		["ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip", "flags"].map((name) => [
			`e${name}`,
			low(wide[`r${name}` as "rax"]),
		]),
	);
	const pfn = low((wide.cr[3] as bigint) >> 12n);
	const cr = wide.cr.map((value, i) => (i === 3 ? ((pfn << 12) | (pfn >>> 20)) >>> 0 : i === 1 ? 0 : low(value)));
	const narrow = Buffer.alloc(guestContext32.size);
	writeStruct(guestContext32, new DataView(narrow.buffer, narrow.byteOffset, narrow.length), 0, {
		...halves,
		...RING1,
		fpu: [...wide.fpu],
		traps: [...traps],
		flags: low(wide.flags),
		errorCode: wide.errorCode & 0xffff,
		entryVector: wide.entryVector & 0xffff,
		savedUpcallMask: wide.savedUpcallMask,
		ds: RING1.ss,
		es: RING1.ss,
		fs: wide.fs,
		gs: wide.gs,
		ldtBase: low(wide.ldtBase),
		ldtEntries: low(wide.ldtEntries),
		gdtFrames: wide.gdtFrames.map(low),
		gdtEntries: low(wide.gdtEntries),
		kernelSs: RING1.ss,
		kernelSp: low(wide.kernelSp),
		cr,
		dr: wide.dr.map(low),
		eventCallbackCs: RING1.cs,
		eventCallback: low(wide.eventCallback),
		failsafeCallbackCs: RING1.cs,
		failsafeCallback: low(wide.failsafeCallback),
		vmAssist: low(wide.vmAssist),
	});
	return narrow;
}

const VCPUS = 32;
const VCPU_INFO = 64;

function narrowSharedInfo(wide: Buffer, seconds?: number): Buffer {
	const narrow = Buffer.alloc(PAGE);
	for (let vcpu = 0; vcpu < VCPUS; vcpu++) {
		const at = vcpu * VCPU_INFO;
		// Pending and mask; the selector's and cr2's low halves; time.
		wide.copy(narrow, at, at, at + 2);
		wide.copy(narrow, at + 4, at + 8, at + 12);
		wide.copy(narrow, at + 8, at + 16, at + 20);
		wide.copy(narrow, at + 32, at + 32, at + 64);
	}
	// The first 1024 of 4096 pending and mask bits, the wall clock, six words of x86's, the seconds' high half.
	wide.copy(narrow, 2048, 2048, 2176);
	wide.copy(narrow, 2176, 2560, 2688);
	wide.copy(narrow, 2304, 3072, 3084);
	for (let word = 0; word < 6; word++) wide.copy(narrow, 2316 + 4 * word, 3088 + 8 * word, 3092 + 8 * word);
	wide.copy(narrow, 2340, 3084, 3088);
	if (seconds !== undefined) narrow.writeUInt32LE(seconds, 2340);
	return narrow;
}
