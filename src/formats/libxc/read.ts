/**
 * Reads a libxc domain image (libxc-migration-stream, versions 2 and 3) into plain facts. Nothing is interpreted that
 * the specification calls a blob, and page contents stay where they are.
 *
 * The happy path: headers, static records, STATIC_DATA_END, memory, the rest in any order, END. A checkpointed image
 * hands over at each CHECKPOINT to the layer around it and goes on afterwards; what comes later replaces what came
 * earlier. Within one checkpoint every record but PAGE_DATA comes once (per vCPU).
 *
 * Unhappy paths, all of them XLU_E_IMAGE with offset, expected and got: an image cut off anywhere, a wrong marker, a
 * version that is not known, big-endian, a record out of place or twice, a count that its record does not hold, a
 * needed record that never comes.
 */
import { XluError } from "../../errors.ts";
import { hex, ImageCursor, type ImageRecord, type RecordFrame } from "../cursor.ts";
import {
	CPUID_LEAF_BYTES,
	FIRST_TYPE_WITHOUT_DATA,
	HVM_ONLY,
	LIBXC_DOMAIN_HEADER_BYTES,
	LIBXC_HEADER_BYTES,
	LIBXC_ID,
	LIBXC_MARKER_BYTES,
	LIBXC_OPTION_BIG_ENDIAN,
	LIBXC_RECORD,
	LIBXC_TYPE_X86_HVM,
	LIBXC_TYPE_X86_PV,
	LIBXC_VERSIONS,
	libxcRecordNames,
	MAY_BE_EMPTY,
	MSR_ENTRY_BYTES,
	PAGE_BYTES,
	PAGE_SHIFT,
	PV_ONLY,
	pageTypeNames,
	VCPU_CONTEXT_BYTES,
	VCPU_LIMIT,
} from "./layout.ts";
import { PAGE_ENTRY_LIMIT, type PageIndex, PageIndexBuilder } from "./pages.ts";

/** X86_PV_INFO. */
export interface PvInfo {
	/** Octets of a native word of the guest. */
	guestWidth: 4 | 8;
	ptLevels: 3 | 4;
}

/** X86_PV_P2M_FRAMES: where the guest keeps its own P2M table. */
export interface P2mFrames {
	/** First PFN of the table, and the last one (inclusive). */
	startPfn: number;
	endPfn: number;
	/** PFNs of the table's frames, in order. */
	p2mPfns: number[];
}

/** X86_TSC_INFO. */
export interface TscInfo {
	/** TSC_MODE_*: 0 default, 1 always emulate, 2 never emulate. */
	mode: number;
	/** Frequency in kHz. */
	khz: number;
	/** Elapsed time in nanoseconds. */
	nsec: bigint;
	incarnation: number;
}

/** What a libxc image says of a guest. All Uint8Arrays are views into the image. */
export interface LibxcImage {
	/** Version of the image's format, 2 or 3. */
	version: number;
	/** The Xen that saved it; major 0 if a converter wrote the image (section 3.2). */
	xenVersion: { major: number; minor: number };
	/** "hvm" stands for PVH too: the format does not tell them apart. */
	guestType: "pv" | "hvm";
	/** CPUID leaves, 24 octets each (xen_cpuid_leaf_t). */
	cpuidPolicy?: Uint8Array;
	/** MSRs, 16 octets each (xen_msr_entry_t). */
	msrPolicy?: Uint8Array;
	/** PV only. */
	pvInfo?: PvInfo;
	/** PV only. */
	p2m?: P2mFrames;
	/** Every PFN that PAGE_DATA names. */
	pages: PageIndex;
	/** By vCPU: vcpu_guest_context, 5168 octets (64-bit guest) or 2800 (32-bit). PV only, as the three below. */
	vcpuBasic: Map<number, Uint8Array>;
	/** By vCPU: xen_domctl_ext_vcpucontext. */
	vcpuExtended: Map<number, Uint8Array>;
	/** By vCPU: XSAVE area with Xen's header in front. */
	vcpuXsave: Map<number, Uint8Array>;
	/** By vCPU: xen_domctl_vcpu_msr, 16 octets each. */
	vcpuMsrs: Map<number, Uint8Array>;
	/** The shared_info page, 4096 octets. PV only. */
	sharedInfo?: Uint8Array;
	tscInfo?: TscInfo;
	/** HVM_PARAM_* to value. HVM only. */
	hvmParams: Map<number, bigint>;
	/** Xen's own save records (public/hvm/save.h). HVM only. */
	hvmContext?: Uint8Array;
	/** How many CHECKPOINT records the image has. */
	checkpoints: number;
	/** Whether pages were sent a second time after a VERIFY record. */
	verified: boolean;
}

const R = LIBXC_RECORD;
const PLACE = "libxc image header";

/** Above it the P2M would describe 2 TiB. Bounds what a hostile image can make us keep. */
const P2M_FRAME_LIMIT = 1 << 20;

/** Xen 4.17 has 39; later ones may have more. */
const HVM_PARAM_LIMIT = 1024;

const PFN_HIGH_MASK = 0xfffff;
const TWO_POW_32 = 0x100000000;

/** Whether a libxc image begins at the position. */
export function isLibxcImage(cursor: ImageCursor): boolean {
	if (cursor.remaining < LIBXC_MARKER_BYTES) {
		return false;
	}
	return cursor.bytes(cursor.offset, LIBXC_MARKER_BYTES).every((octet) => octet === 0xff);
}

/** Reads one libxc image, from checkpoint to checkpoint. Its position is the cursor's. */
export class LibxcReader {
	readonly #cursor: ImageCursor;
	readonly #builder = new PageIndexBuilder();
	readonly #image: Omit<LibxcImage, "pages">;
	/** What came since the last checkpoint, by record and vCPU. */
	readonly #seen = new Set<string>();
	readonly #startOffset: number;
	#staticDataEnded = false;
	#ended = false;

	/** Reads the two headers. */
	constructor(cursor: ImageCursor) {
		this.#cursor = cursor;
		this.#startOffset = cursor.offset;
		const start = cursor.offset;
		cursor.need(LIBXC_HEADER_BYTES + LIBXC_DOMAIN_HEADER_BYTES, PLACE);
		if (!isLibxcImage(cursor)) {
			const got = Buffer.from(cursor.bytes(start, LIBXC_MARKER_BYTES)).toString("hex");
			throw cursor.error(PLACE, start, "marker", "ffffffffffffffff (a legacy image has none)", got);
		}
		const id = cursor.u32be(start + 8);
		if (id !== LIBXC_ID) {
			throw cursor.error(PLACE, start + 8, "id", `${hex(LIBXC_ID)} (XENF)`, hex(id));
		}
		const version = cursor.u32be(start + 12);
		if (!LIBXC_VERSIONS.includes(version)) {
			throw cursor.error(PLACE, start + 12, "version", LIBXC_VERSIONS.join(" or "), String(version));
		}
		const options = cursor.u16be(start + 16);
		if ((options & LIBXC_OPTION_BIG_ENDIAN) !== 0) {
			throw cursor.error(PLACE, start + 16, "options", "little-endian (big-endian is not supported)", hex(options));
		}
		const domain = start + LIBXC_HEADER_BYTES;
		const type = cursor.u32(domain);
		if (type !== LIBXC_TYPE_X86_PV && type !== LIBXC_TYPE_X86_HVM) {
			throw cursor.error("libxc domain header", domain, "type", "1 (x86 PV) or 2 (x86 HVM)", String(type));
		}
		const pageShift = cursor.u16(domain + 4);
		if (pageShift !== PAGE_SHIFT) {
			throw cursor.error("libxc domain header", domain + 4, "page_shift", String(PAGE_SHIFT), String(pageShift));
		}
		this.#image = {
			version,
			xenVersion: { major: cursor.u32(domain + 8), minor: cursor.u32(domain + 12) },
			guestType: type === LIBXC_TYPE_X86_PV ? "pv" : "hvm",
			vcpuBasic: new Map(),
			vcpuExtended: new Map(),
			vcpuXsave: new Map(),
			vcpuMsrs: new Map(),
			hvmParams: new Map(),
			checkpoints: 0,
			verified: false,
		};
		cursor.offset = domain + LIBXC_DOMAIN_HEADER_BYTES;
	}

	/** Reads records up to and with the next CHECKPOINT or END, and says which. */
	run(): "checkpoint" | "end" {
		const cursor = this.#cursor;
		this.#seen.clear();
		for (;;) {
			const record = cursor.readRecord("libxc", libxcRecordNames);
			if (!record.skipped) {
				this.#read(record);
			}
			cursor.offset = record.nextOffset;
			if (record.type === R.CHECKPOINT) {
				this.#image.checkpoints++;
				return "checkpoint";
			}
			if (record.type === R.END) {
				this.#ended = true;
				return "end";
			}
		}
	}

	/** The facts; only after `run` has said "end". */
	finish(): LibxcImage {
		if (!this.#ended) {
			throw new XluError("XLU_E_INTERNAL", "a libxc image was asked for before its END record");
		}
		const image = this.#image;
		const pages = this.#builder.build(this.#cursor.data);
		const missing = this.#missing();
		if (missing !== undefined) {
			throw this.#cursor.error("libxc image", this.#startOffset, "records", `a record ${missing}`, "END without one");
		}
		const endPfn = image.p2m?.endPfn;
		const last = pages.pfns[pages.count - 1];
		if (endPfn !== undefined && last !== undefined && last > endPfn) {
			throw this.#cursor.error(
				"libxc PAGE_DATA",
				this.#startOffset,
				"pfn",
				`at most ${hex(endPfn)}, the end of the P2M`,
				hex(last),
			);
		}
		return { ...image, pages };
	}

	/** Name of a record without which the guest cannot be rebuilt and that the image lacks. */
	#missing(): string | undefined {
		const image = this.#image;
		if (image.version >= 3 && !this.#staticDataEnded) {
			return "STATIC_DATA_END";
		}
		if (this.#builder.count === 0) {
			return "PAGE_DATA";
		}
		if (image.guestType === "hvm") {
			return image.hvmContext === undefined ? "HVM_CONTEXT" : undefined;
		}
		if (image.p2m === undefined) {
			return "X86_PV_P2M_FRAMES";
		}
		if (image.sharedInfo === undefined) {
			return "SHARED_INFO";
		}
		return image.vcpuBasic.size === 0 ? "X86_PV_VCPU_BASIC" : undefined;
	}

	#read(record: RecordFrame): void {
		const image = this.#image;
		const cursor = this.#cursor;
		if (
			(PV_ONLY.has(record.type) && image.guestType !== "pv") ||
			(HVM_ONLY.has(record.type) && image.guestType !== "hvm")
		) {
			throw cursor.recordError(record, "type", `no such record in an x86 ${image.guestType} image`, record.name);
		}
		switch (record.type) {
			case R.END:
			case R.CHECKPOINT:
				cursor.exactLength(record, 0);
				return;
			case R.VERIFY:
				cursor.exactLength(record, 0);
				image.verified = true;
				return;
			case R.PAGE_DATA:
				this.#pageData(record);
				return;
			case R.STATIC_DATA_END:
				this.#staticDataEnd(record);
				return;
			case R.CHECKPOINT_DIRTY_PFN_LIST:
				// It travels from the secondary to the primary only (section 4.13).
				throw cursor.recordError(record, "type", "no record of the back channel", record.name);
			case R.TOOLSTACK:
				// Deprecated and opaque (section 4.10); listed in `records`.
				return;
			default:
				if (record.length === 0 && MAY_BE_EMPTY.has(record.type)) {
					return;
				}
				this.#data(record);
				return;
		}
	}

	#data(record: RecordFrame): void {
		const image = this.#image;
		const cursor = this.#cursor;
		const body = cursor.bytes(record.bodyOffset, record.length);
		switch (record.type) {
			case R.X86_PV_INFO:
				this.#once(record);
				image.pvInfo = this.#pvInfo(record);
				return;
			case R.X86_PV_P2M_FRAMES:
				this.#once(record);
				image.p2m = this.#p2mFrames(record);
				return;
			case R.X86_PV_VCPU_BASIC:
				this.#vcpu(record, image.vcpuBasic);
				return;
			case R.X86_PV_VCPU_EXTENDED:
				this.#vcpu(record, image.vcpuExtended);
				return;
			case R.X86_PV_VCPU_XSAVE:
				this.#vcpu(record, image.vcpuXsave);
				return;
			case R.X86_PV_VCPU_MSRS:
				this.#vcpu(record, image.vcpuMsrs);
				return;
			case R.SHARED_INFO:
				this.#once(record);
				cursor.exactLength(record, PAGE_BYTES);
				image.sharedInfo = body;
				return;
			case R.X86_TSC_INFO:
				this.#once(record);
				image.tscInfo = this.#tscInfo(record);
				return;
			case R.HVM_CONTEXT:
				this.#once(record);
				cursor.minimumLength(record, 8);
				image.hvmContext = body;
				return;
			case R.HVM_PARAMS:
				this.#once(record);
				this.#hvmParams(record);
				return;
			case R.X86_CPUID_POLICY:
				this.#once(record);
				this.#entries(record, CPUID_LEAF_BYTES);
				image.cpuidPolicy = body;
				return;
			case R.X86_MSR_POLICY:
				this.#once(record);
				this.#entries(record, MSR_ENTRY_BYTES);
				image.msrPolicy = body;
				return;
			default:
				throw cursor.recordError(record, "type", "a record that this reader knows", hex(record.type));
		}
	}

	/** Refuses a record that came already since the last checkpoint. */
	#once(record: RecordFrame, vcpu?: number): void {
		const key = vcpu === undefined ? record.name : `${record.name} of vCPU ${vcpu}`;
		if (this.#seen.has(key)) {
			throw this.#cursor.recordError(record, "type", `one ${key}`, "a second one");
		}
		this.#seen.add(key);
	}

	/** Refuses a body that is not a whole number of entries. */
	#entries(record: RecordFrame, entryBytes: number): void {
		if (record.length % entryBytes !== 0) {
			throw this.#cursor.recordError(record, "body_length", `a multiple of ${entryBytes}`, String(record.length));
		}
	}

	#staticDataEnd(record: RecordFrame): void {
		this.#cursor.exactLength(record, 0);
		if (this.#image.version < 3) {
			throw this.#cursor.recordError(record, "type", "no such record in version 2", record.name);
		}
		if (this.#staticDataEnded) {
			throw this.#cursor.recordError(record, "type", `one ${record.name}`, "a second one");
		}
		this.#staticDataEnded = true;
	}

	/** Section 6.1: no memory before STATIC_DATA_END; version 2 infers it here. */
	#memoryBegins(record: RecordFrame): void {
		if (this.#image.version >= 3 && !this.#staticDataEnded) {
			throw this.#cursor.recordError(record, "order", "STATIC_DATA_END before it", "none");
		}
		this.#staticDataEnded = true;
	}

	#pvInfo(record: RecordFrame): PvInfo {
		const cursor = this.#cursor;
		cursor.exactLength(record, 8);
		const guestWidth = cursor.u8(record.bodyOffset);
		const ptLevels = cursor.u8(record.bodyOffset + 1);
		if (guestWidth === 8 && ptLevels === 4) {
			return { guestWidth, ptLevels };
		}
		if (guestWidth === 4 && ptLevels === 3) {
			return { guestWidth, ptLevels };
		}
		throw cursor.recordError(record, "guest_width, pt_levels", "8 and 4, or 4 and 3", `${guestWidth} and ${ptLevels}`);
	}

	/** X86_PV_INFO, which says how wide things are, precedes what depends on it (section 5.1). */
	#requirePvInfo(record: RecordFrame): PvInfo {
		const info = this.#image.pvInfo;
		if (info === undefined) {
			throw this.#cursor.recordError(record, "order", "X86_PV_INFO before it", "none");
		}
		return info;
	}

	#p2mFrames(record: RecordFrame): P2mFrames {
		const cursor = this.#cursor;
		const { guestWidth } = this.#requirePvInfo(record);
		this.#memoryBegins(record);
		cursor.minimumLength(record, 8);
		const startPfn = cursor.u32(record.bodyOffset);
		const endPfn = cursor.u32(record.bodyOffset + 4);
		if (endPfn < startPfn) {
			throw cursor.recordError(record, "p2m_end_pfn", `at least ${hex(startPfn)}`, hex(endPfn));
		}
		const perFrame = PAGE_BYTES / guestWidth;
		const frames = Math.floor(endPfn / perFrame) - Math.floor(startPfn / perFrame) + 1;
		if (frames > P2M_FRAME_LIMIT) {
			throw cursor.recordError(record, "p2m frames", `at most ${P2M_FRAME_LIMIT}`, String(frames));
		}
		cursor.exactLength(record, 8 + 8 * frames);
		const p2mPfns: number[] = [];
		for (let index = 0; index < frames; index++) {
			const pfn = cursor.u64(record.bodyOffset + 8 + 8 * index);
			if (pfn > BigInt(endPfn)) {
				throw cursor.recordError(record, `p2m_pfn[${index}]`, `at most ${hex(endPfn)}`, hex(pfn));
			}
			p2mPfns.push(Number(pfn));
		}
		if (new Set(p2mPfns).size !== frames) {
			throw cursor.recordError(record, "p2m_pfn", "distinct frames", "one twice");
		}
		return { startPfn, endPfn, p2mPfns };
	}

	#pageData(record: RecordFrame): void {
		const cursor = this.#cursor;
		const image = this.#image;
		this.#memoryBegins(record);
		if (image.guestType === "pv" && image.p2m === undefined) {
			throw cursor.recordError(record, "order", "X86_PV_P2M_FRAMES before it", "none");
		}
		cursor.minimumLength(record, 8);
		const count = cursor.u32(record.bodyOffset);
		const held = Math.floor((record.length - 8) / 8);
		if (count === 0 || count > held) {
			throw cursor.recordError(record, "count", `1 to ${held}`, String(count));
		}
		if (this.#builder.count + count > PAGE_ENTRY_LIMIT) {
			throw cursor.recordError(record, "count", `at most ${PAGE_ENTRY_LIMIT} PFNs in all`, "more");
		}
		const entries = record.bodyOffset + 8;
		const end = record.bodyOffset + record.length;
		let content = entries + 8 * count;
		for (let index = 0; index < count; index++) {
			// Two halves: a million bigints per image would be slow.
			const high = cursor.u32(entries + 8 * index + 4);
			const type = high >>> 28;
			const pfn = (high & PFN_HIGH_MASK) * TWO_POW_32 + cursor.u32(entries + 8 * index);
			if (pageTypeNames[type] === undefined) {
				throw cursor.recordError(record, `type of pfn[${index}]`, "a type that section 4.2 knows", hex(type));
			}
			this.#builder.add(pfn, type, content);
			if (type < FIRST_TYPE_WITHOUT_DATA) {
				content += PAGE_BYTES;
				if (content > end) {
					throw cursor.recordError(
						record,
						"page_data",
						`${PAGE_BYTES} octets for pfn ${hex(pfn)}`,
						`the record's end (body_length ${record.length})`,
					);
				}
			}
		}
		if (content !== end) {
			throw cursor.recordError(record, "body_length", String(content - record.bodyOffset), String(record.length));
		}
	}

	#vcpu(record: RecordFrame, into: Map<number, Uint8Array>): void {
		const cursor = this.#cursor;
		const { guestWidth } = this.#requirePvInfo(record);
		cursor.minimumLength(record, 8);
		const vcpu = cursor.u32(record.bodyOffset);
		if (vcpu >= VCPU_LIMIT) {
			throw cursor.recordError(record, "vcpu_id", `less than ${VCPU_LIMIT}`, String(vcpu));
		}
		this.#once(record, vcpu);
		if (record.length === 8 && MAY_BE_EMPTY.has(record.type)) {
			return;
		}
		if (record.type === R.X86_PV_VCPU_BASIC) {
			cursor.exactLength(record, 8 + VCPU_CONTEXT_BYTES[guestWidth]);
		}
		if (record.type === R.X86_PV_VCPU_MSRS) {
			this.#entries({ ...record, length: record.length - 8 }, MSR_ENTRY_BYTES);
		}
		into.set(vcpu, cursor.bytes(record.bodyOffset + 8, record.length - 8));
	}

	#tscInfo(record: RecordFrame): TscInfo {
		const cursor = this.#cursor;
		cursor.exactLength(record, 24);
		const at = record.bodyOffset;
		return {
			mode: cursor.u32(at),
			khz: cursor.u32(at + 4),
			nsec: cursor.u64(at + 8),
			incarnation: cursor.u32(at + 16),
		};
	}

	#hvmParams(record: RecordFrame): void {
		const cursor = this.#cursor;
		cursor.minimumLength(record, 8);
		const count = cursor.u32(record.bodyOffset);
		if (count > HVM_PARAM_LIMIT) {
			throw cursor.recordError(record, "count", `at most ${HVM_PARAM_LIMIT}`, String(count));
		}
		cursor.exactLength(record, 8 + 16 * count);
		const params = new Map<number, bigint>();
		for (let entry = 0; entry < count; entry++) {
			const at = record.bodyOffset + 8 + 16 * entry;
			const index = cursor.u64(at);
			if (index >= BigInt(HVM_PARAM_LIMIT)) {
				throw cursor.recordError(record, `param[${entry}].index`, `less than ${HVM_PARAM_LIMIT}`, hex(index));
			}
			if (params.has(Number(index))) {
				throw cursor.recordError(record, `param[${entry}].index`, "each parameter once", `${index} twice`);
			}
			params.set(Number(index), cursor.u64(at + 8));
		}
		this.#image.hvmParams = params;
	}
}

/** Reads a libxc image that stands alone: with nobody around it, records simply go on after a CHECKPOINT. */
export function readLibxc(cursor: ImageCursor): LibxcImage {
	const reader = new LibxcReader(cursor);
	while (reader.run() === "checkpoint") {
		// The next checkpoint's records replace this one's.
	}
	return reader.finish();
}

/** Reads a libxc image from its first octet; whatever follows its END is ignored. */
export function parseLibxcImage(data: Uint8Array): LibxcImage & { records: ImageRecord[] } {
	const cursor = new ImageCursor(data);
	return { ...readLibxc(cursor), records: cursor.records };
}

/** A PV guest's own P2M table. */
export interface PvP2m {
	/** The PFN that `mfns[0]` belongs to. */
	startPfn: number;
	/** The captured host's MFN of each PFN from `startPfn` on; -1 where the guest has no frame of its own. */
	mfns: Float64Array;
}

/** 52-bit physical addresses leave 40 bits for an MFN. */
const MFN_LIMIT = 2 ** 40;

/**
 * The P2M table that a PV guest keeps: the real MFNs of the host it was captured on, because libxc rewrites frame
 * numbers in page tables but not in these frames (observed in images of Xen 4.17). All-ones entries are holes, and the
 * top two bits of a word are the guest kernel's own marks for foreign and identity-mapped frames: those are -1 too.
 *
 * @throws XluError XLU_E_IMAGE if the image is no PV image, a P2M frame has no content, or an MFN is impossible.
 */
export function pvP2m(image: Pick<LibxcImage, "p2m" | "pvInfo" | "pages">): PvP2m {
	const { p2m, pvInfo, pages } = image;
	if (p2m === undefined || pvInfo === undefined) {
		throw new XluError("XLU_E_IMAGE", "X86_PV_P2M_FRAMES: expected a PV image, got none of a PV guest's records", {
			record: "X86_PV_P2M_FRAMES",
			expected: "a PV image",
			got: "none of a PV guest's records",
		});
	}
	const { guestWidth } = pvInfo;
	const perFrame = PAGE_BYTES / guestWidth;
	const firstOfTable = Math.floor(p2m.startPfn / perFrame) * perFrame;
	const mfns = new Float64Array(p2m.p2mPfns.length * perFrame).fill(-1);
	for (const [frame, pfn] of p2m.p2mPfns.entries()) {
		const content = pages.content(pfn);
		if (content === undefined) {
			throw p2mError(pfn, undefined, "page_data", "the content of a P2M frame", "none");
		}
		const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
		for (let entry = 0; entry < perFrame; entry++) {
			const low = view.getUint32(entry * guestWidth, true);
			const top = guestWidth === 8 ? view.getUint32(entry * guestWidth + 4, true) : low;
			if (top >>> 30 !== 0) {
				continue;
			}
			const mfn = guestWidth === 8 ? top * TWO_POW_32 + low : low;
			const at = firstOfTable + frame * perFrame + entry;
			const used = at >= p2m.startPfn && at <= p2m.endPfn;
			if (used && mfn >= MFN_LIMIT) {
				throw p2mError(pfn, entry, "mfn", `less than ${hex(MFN_LIMIT)}`, hex(mfn));
			}
			mfns[frame * perFrame + entry] = mfn;
		}
	}
	const skip = p2m.startPfn - firstOfTable;
	return { startPfn: p2m.startPfn, mfns: mfns.slice(skip, skip + p2m.endPfn - p2m.startPfn + 1) };
}

function p2mError(pfn: number, entry: number | undefined, field: string, expected: string, got: string): XluError {
	const place = entry === undefined ? `P2M frame ${hex(pfn)}` : `P2M frame ${hex(pfn)}, entry ${entry}`;
	return new XluError("XLU_E_IMAGE", `${place}: ${field}: expected ${expected}, got ${got}`, {
		record: "X86_PV_P2M_FRAMES",
		field,
		expected,
		got,
	});
}
