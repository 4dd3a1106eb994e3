/**
 * Pages that a guest and the hypervisor share, as far as this project reads or writes them: Xen's public interface
 * (public/xen.h, arch-x86/xen.h, grant_table.h, event_channel.h), for 64-bit guests unless said otherwise.
 */
import { array, type RowInput, reserved, u16, u32, u64 } from "../format/fields.ts";
import { layOut, type Row, readStruct, type Struct, writeStruct } from "../format/layout.ts";
import {
	archSharedInfo32,
	LEGACY_VCPUS,
	sharedInfo,
	sharedInfo32,
	vcpuInfo,
	vcpuInfo32,
} from "../formats/libxc/sharedInfo.ts";

export const PAGE_BYTES = 4096;

/** Bits of a guest's word: so many words of so many ports each the 2-level ABI has. `guestWidth`: octets of the word. */
export const portsPerWord = (guestWidth: number): number => 8 * guestWidth;
/** Ports of the 2-level ABI: 4096 of a 64-bit guest, 1024 of a 32-bit one. */
export const twoLevelPorts = (guestWidth: number): number => portsPerWord(guestWidth) ** 2;

const grantV1Fields = [u16("flags", "GTF bits."), u16("domid", "Grantee."), u32("frame", "GFN.")] as const;
const grantV1 = layOut("grant_entry_v1", "A grant, version 1.", grantV1Fields);
const grantV2Fields = [
	u16("flags", "GTF bits."),
	u16("domid", "Grantee."),
	reserved("pad", 4),
	u64("frame", "GFN."),
] as const;
const grantV2 = layOut("grant_entry_v2", "A grant of a whole page, version 2.", grantV2Fields);
/** The same 16 octets where a part of the page is granted, and where another domain's grant is passed on. */
const grantPart = layOut("grant_entry_v2.sub_page", "A grant of a part of a page, version 2.", [
	u16("flags", "GTF bits."),
	u16("domid", "Grantee."),
	u16("pageOffset", "First octet."),
	u16("length", "Octets."),
	u64("frame", "GFN."),
]);
const grantPassed = layOut("grant_entry_v2.transitive", "A grant of another domain's, passed on, version 2.", [
	u16("flags", "GTF bits."),
	u16("domid", "Grantee."),
	u16("sourceDomid", "The domain whose grant it is."),
	reserved("pad1", 2),
	u32("sourceRef", "Its reference."),
	reserved("pad2", 4),
]);
const grantStatus = layOut("grant_status", "A grant's status, version 2.", [u16("status", "GTF bits.")]);

const controlBlock = layOut("evtchn_fifo_control_block", "A vCPU's FIFO queues.", [
	u32("ready", "Queues that have events, one bit each."),
	reserved("pad", 4),
	array(16, u32("head", "First port of each queue.")),
]);

/** Every layout used here, for the test that holds them against the public headers. */
export const guestPageLayouts: readonly Struct[] = [vcpuInfo, sharedInfo, grantV1, grantV2, grantStatus, controlBlock];

/** Flags of a grant entry (GTF_): what it is, what a guest allows, what Xen notes of who has it mapped. */
export const GTF = { typeMask: 3, readonly: 1 << 2, reading: 1 << 3, writing: 1 << 4, subPage: 1 << 8 } as const;
/** The type that grants access to a frame; the one that passes another domain's grant on. */
export const GTF_PERMIT_ACCESS = 1;
export const GTF_TRANSITIVE = 3;

export const GRANT_ENTRIES_PER_FRAME: Readonly<Record<1 | 2, number>> = {
	1: PAGE_BYTES / grantV1.size,
	2: PAGE_BYTES / grantV2.size,
};
export const STATUS_WORDS_PER_FRAME = PAGE_BYTES / grantStatus.size;

/** Status frames of a version 2 table with so many shared frames. */
export function statusFrameCount(version: 1 | 2, grantFrames: number): number {
	return version === 1 ? 0 : Math.ceil((grantFrames * GRANT_ENTRIES_PER_FRAME[2]) / STATUS_WORDS_PER_FRAME);
}

function at(struct: Struct, name: string): number {
	const field = struct.fields.find((candidate) => candidate.name === name);
	if (field === undefined) {
		throw new Error(`${struct.name} has no ${name}`);
	}
	return field.offset;
}

const viewOf = (page: Uint8Array): DataView => new DataView(page.buffer, page.byteOffset, page.byteLength);

export interface PortBits {
	pending: boolean;
	masked: boolean;
}

function writeBit(view: DataView, offset: number, bit: number, value: boolean): void {
	const octet = offset + (bit >>> 3);
	const mask = 1 << (bit & 7);
	view.setUint8(octet, value ? view.getUint8(octet) | mask : view.getUint8(octet) & ~mask);
}

/** A port's bits in shared_info (2-level). `guestWidth`: octets of the guest's word. */
export function readTwoLevelPort(page: Uint8Array, port: number, guestWidth: number): PortBits {
	const layout = guestWidth === 4 ? sharedInfo32 : sharedInfo;
	const bit = (field: "evtchnPending" | "evtchnMask") =>
		(((page[at(layout, field) + (port >>> 3)] ?? 0) >> (port & 7)) & 1) === 1;
	return { pending: bit("evtchnPending"), masked: bit("evtchnMask") };
}

/** Bitmaps of the 2-level ABI in shared_info. */
export type SharedBitmap = "pending" | "mask";
const bitmapField = { pending: "evtchnPending", mask: "evtchnMask" } as const;

const bitmapAt = (bitmap: SharedBitmap, guestWidth: number): number =>
	at(guestWidth === 4 ? sharedInfo32 : sharedInfo, bitmapField[bitmap]);

/** A port's bit in one of them. `guestWidth`: octets of the guest's word. */
export function sharedBit(page: Uint8Array, bitmap: SharedBitmap, port: number, guestWidth: number): boolean {
	return (((page[bitmapAt(bitmap, guestWidth) + (port >>> 3)] ?? 0) >> (port & 7)) & 1) === 1;
}

/** Sets or clears a port's bit; returns what it was. */
export function setSharedBit(
	page: Uint8Array,
	bitmap: SharedBitmap,
	port: number,
	value: boolean,
	guestWidth: number,
): boolean {
	const before = sharedBit(page, bitmap, port, guestWidth);
	writeBit(viewOf(page), bitmapAt(bitmap, guestWidth), port, value);
	return before;
}

/** Where a vCPU's vcpu_info stands in shared_info, of either width; undefined for one that has no place there. */
export function sharedVcpuInfo(vcpu: number): number | undefined {
	return vcpu < LEGACY_VCPUS ? vcpu * vcpuInfo.size : undefined;
}

export const VCPU_INFO_BYTES = vcpuInfo.size;

/** A vcpu_info at `offset` of a page: flags of the upcall, words of evtchn_pending with news. */
export function vcpuInfoView(page: Uint8Array, offset: number, guestWidth: number) {
	const view = viewOf(page);
	const flag = (name: "evtchnUpcallPending" | "evtchnUpcallMask") => ({
		get: (): boolean => view.getUint8(offset + at(vcpuInfo, name)) !== 0,
		set: (value: boolean): void => view.setUint8(offset + at(vcpuInfo, name), value ? 1 : 0),
	});
	const selector = offset + at(guestWidth === 4 ? vcpuInfo32 : vcpuInfo, "evtchnPendingSel");
	return {
		pending: flag("evtchnUpcallPending"),
		mask: flag("evtchnUpcallMask"),
		selector: (): bigint =>
			guestWidth === 4 ? BigInt(view.getUint32(selector, true)) : view.getBigUint64(selector, true),
		/** Sets or clears a word's bit; returns what it was. */
		setSelector: (word: number, value: boolean): boolean => {
			const before = ((view.getUint8(selector + (word >>> 3)) >> (word & 7)) & 1) === 1;
			writeBit(view, selector, word, value);
			return before;
		},
	};
}

/** Writes a port's bits of the 2-level ABI, and where it asks for that the word's bit in its vCPU's selector in shared_info. */
export function writeTwoLevelPort(
	page: Uint8Array,
	port: { port: number; pending: boolean; masked: boolean; selector?: boolean; notifyVcpu: number },
	guestWidth: number,
): void {
	setSharedBit(page, "pending", port.port, port.pending, guestWidth);
	setSharedBit(page, "mask", port.port, port.masked, guestWidth);
	const info = sharedVcpuInfo(port.notifyVcpu);
	if (port.selector !== true || info === undefined) return;
	vcpuInfoView(page, info, guestWidth).setSelector(Math.floor(port.port / portsPerWord(guestWidth)), true);
}

/** Writes a vCPU's upcall flags, which stand in one place in either width; no effect for a vCPU that has no place in shared_info. */
export function writeUpcall(page: Uint8Array, vcpu: number, pending: boolean, mask: boolean): void {
	if (vcpu < LEGACY_VCPUS) {
		const view = viewOf(page);
		view.setUint8(vcpu * vcpuInfo.size + at(vcpuInfo, "evtchnUpcallPending"), pending ? 1 : 0);
		view.setUint8(vcpu * vcpuInfo.size + at(vcpuInfo, "evtchnUpcallMask"), mask ? 1 : 0);
	}
}

/** Wall clock at system time 0, as the guest was told. `guestWidth`: octets of its word. */
export function readWallclock(page: Uint8Array, guestWidth: number): { seconds: bigint; nanoseconds: number } {
	const view = viewOf(page);
	const layout = guestWidth === 4 ? sharedInfo32 : sharedInfo;
	const high = guestWidth === 4 ? at(layout, "arch") + at(archSharedInfo32, "wcSecHi") : at(layout, "wcSecHi");
	const seconds = (BigInt(view.getUint32(high, true)) << 32n) | BigInt(view.getUint32(at(layout, "wcSec"), true));
	return { seconds, nanoseconds: view.getUint32(at(layout, "wcNsec"), true) };
}

/** Writes a grant's entry; `index` counts from the start of that frame. */
export function writeGrantV1(page: Uint8Array, index: number, entry: RowInput<typeof grantV1Fields>): void {
	writeStruct(grantV1, viewOf(page), index * grantV1.size, entry as Row);
}

export function writeGrantV2(page: Uint8Array, index: number, entry: RowInput<typeof grantV2Fields>): void {
	writeStruct(grantV2, viewOf(page), index * grantV2.size, entry as Row);
}

/** A part of a page, or another domain's grant that is passed on, in a version 2 table. */
export interface PartGrant {
	pageOffset: number;
	length: number;
}
export interface PassedGrant {
	sourceDomid: number;
	sourceRef: number;
}

export function writeGrantPart(
	page: Uint8Array,
	index: number,
	entry: PartGrant & { flags: number; domid: number; frame: number },
): void {
	writeStruct(grantPart, viewOf(page), index * grantPart.size, { ...entry });
}
export function readGrantPart(page: Uint8Array, index: number): PartGrant {
	const row = readStruct(grantPart, viewOf(page), index * grantPart.size);
	return { pageOffset: Number(row.pageOffset), length: Number(row.length) };
}
export function writeGrantPassed(
	page: Uint8Array,
	index: number,
	entry: PassedGrant & { flags: number; domid: number },
): void {
	writeStruct(grantPassed, viewOf(page), index * grantPassed.size, { ...entry });
}
export function readGrantPassed(page: Uint8Array, index: number): PassedGrant {
	const row = readStruct(grantPassed, viewOf(page), index * grantPassed.size);
	return { sourceDomid: Number(row.sourceDomid), sourceRef: Number(row.sourceRef) };
}

/** Writes the status word of a grant, by its reference, into the status frames. */
export function writeGrantStatus(frames: readonly Uint8Array[], ref: number, status: number): void {
	const page = frames[Math.floor(ref / STATUS_WORDS_PER_FRAME)];
	if (page !== undefined) {
		viewOf(page).setUint16((ref % STATUS_WORDS_PER_FRAME) * grantStatus.size, status, true);
	}
}

/*
 * An event word (FIFO):
 *
 *      31      30     29      28    27            17 16                  0
 *   ┌─────────┬──────┬──────┬──────┬────────────────┬─────────────────────┐
 *   │ PENDING │MASKED│LINKED│ BUSY │       0        │ LINK: next port     │
 *   └─────────┴──────┴──────┴──────┴────────────────┴─────────────────────┘
 */
export const EVENT_WORD = { pending: 2 ** 31, masked: 2 ** 30, linked: 2 ** 29, busy: 2 ** 28, link: 0x1ffff } as const;
const EVENT_WORD_BYTES = 4;
export const EVENT_WORDS_PER_FRAME = PAGE_BYTES / EVENT_WORD_BYTES;

export function writeEventWord(page: Uint8Array, index: number, word: number): void {
	viewOf(page).setUint32(index * EVENT_WORD_BYTES, word, true);
}

export function eventWord(page: Uint8Array, index: number): number {
	return viewOf(page).getUint32(index * EVENT_WORD_BYTES, true);
}

/** A port's bits in its event word (FIFO). */
export function readEventWord(page: Uint8Array, index: number): PortBits {
	const word = viewOf(page).getUint32(index * EVENT_WORD_BYTES, true);
	return { pending: (word & EVENT_WORD.pending) !== 0, masked: (word & EVENT_WORD.masked) !== 0 };
}

/** Notes in a control block that the queue of `priority` begins with port `head`. */
export function writeQueueHead(page: Uint8Array, priority: number, head: number): void {
	const view = viewOf(page);
	view.setUint32(at(controlBlock, "ready"), view.getUint32(at(controlBlock, "ready"), true) | (1 << priority), true);
	view.setUint32(at(controlBlock, "head") + 4 * priority, head, true);
}

/** A control block at `offset` of a page: which queues have events, and where each begins. */
export function controlBlockView(page: Uint8Array, offset: number) {
	const view = viewOf(page);
	const ready = offset + at(controlBlock, "ready");
	const heads = offset + at(controlBlock, "head");
	return {
		ready: (): number => view.getUint32(ready, true),
		/** Sets or clears a priority's bit; returns what it was. */
		setReady: (priority: number, value: boolean): boolean => {
			const before = view.getUint32(ready, true);
			const bit = 1 << priority;
			view.setUint32(ready, (value ? before | bit : before & ~bit) >>> 0, true);
			return (before & bit) !== 0;
		},
		head: (priority: number): number => view.getUint32(heads + 4 * priority, true),
		setHead: (priority: number, port: number): void => view.setUint32(heads + 4 * priority, port, true),
	};
}
export const CONTROL_BLOCK_BYTES = controlBlock.size;

/** One entry of a version 1 table; `index` counts from the start of that frame. */
export function readGrantV1(page: Uint8Array, index: number): { flags: number; domid: number; frame: number } {
	const row = readStruct(grantV1, viewOf(page), index * grantV1.size);
	return { flags: Number(row.flags), domid: Number(row.domid), frame: Number(row.frame) };
}

export function readGrantV2(page: Uint8Array, index: number): { flags: number; domid: number; frame: number } {
	const row = readStruct(grantV2, viewOf(page), index * grantV2.size);
	return { flags: Number(row.flags), domid: Number(row.domid), frame: Number(row.frame) };
}

/** Status word of a grant, by its reference in the status frames. */
export function grantStatusPlace(ref: number): { frame: number; index: number } {
	return { frame: Math.floor(ref / STATUS_WORDS_PER_FRAME), index: ref % STATUS_WORDS_PER_FRAME };
}

export function readGrantStatus(page: Uint8Array, index: number): number {
	return viewOf(page).getUint16(index * grantStatus.size, true);
}

export function writeGrantStatusWord(page: Uint8Array, index: number, status: number): void {
	viewOf(page).setUint16(index * grantStatus.size, status, true);
}
