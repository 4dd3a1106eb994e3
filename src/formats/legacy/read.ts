/**
 * Reads a legacy image, part by part, in bounded memory: at most a chunk of 1024 pages is held. What breaks the framing is
 * thrown here; every other rule is looked at in check.ts.
 */
import { createHash } from "node:crypto";
import { type FormatRule, hex } from "../common/findings.ts";
import type { ReadOptions } from "../common/format.ts";
import type { StreamReader } from "../common/reader.ts";
import type { StreamItem } from "../common/record.ts";
import { viewOf } from "../common/values.ts";
import { FIRST_TYPE_WITHOUT_DATA, PAGE_BYTES, VCPU_CONTEXT_BYTES } from "../libxc/layout.ts";
import { PageTotals } from "../libxc/pageData.ts";
import {
	XL_BYTE_ORDER,
	XL_CONFIG_LIMIT_BYTES,
	XL_FLAG_JSON,
	XL_FLAG_STREAM_V2,
	XL_HEADER_BYTES,
	XL_MAGIC,
} from "../xl/layout.ts";
import { LegacyChecks, legacyRules as R } from "./check.ts";
import { fieldsOf } from "./fields.ts";
import {
	BATCH_LIMIT,
	BLOB_LIMIT_BYTES,
	EXTENDED_BLOCKS,
	EXTENDED_INFO_LIMIT_BYTES,
	EXTENDED_VCPU_BYTES,
	LEGACY_CHUNK,
	LEGACY_VCPU_LIMIT,
	type LegacyGuestType,
	type LegacyWidth,
	legacyChunkNames,
	legacyParams,
	MAGIC_PFN_PARAMS,
	PFN_LIMIT,
	PFN_MASK,
	QEMU_SIGNATURE_BYTES,
	qemuSignatures,
	TYPE_SHIFT,
	ulongBytes,
	XSAVE_HEADER_BYTES,
	XSAVE_LIMIT_BYTES,
} from "./layout.ts";
import type { ExtendedBlock, LegacyPart, PartBody } from "./parts.ts";

export interface LegacyReadOptions extends ReadOptions {
	/** Width of the toolstack that saved the image, where the content is not to be asked or does not tell. */
	readonly width?: LegacyWidth;
	readonly guestType?: LegacyGuestType;
	/** Leave alone what follows an HVM guest's context: it is no device model's record. */
	readonly skipQemu?: boolean;
	/** `first`: what follows the first checkpoint is not read, as Xen's converter does. Default `all`. */
	readonly checkpoints?: "all" | "first";
}

/** Octets that tell a legacy image, with xl's header in front or without. */
export const LEGACY_HEAD_BYTES = XL_HEADER_BYTES;

/** Octets after the image are handed out in pieces. */
const TAIL_PIECE_BYTES = 1 << 20;
const ZERO_PAGE = new Uint8Array(PAGE_BYTES);
/** Unmapped PFNs of one item. */
const PFNS_AT_ONCE = 1 << 16;
/** Pages looked at in one go when their contents are not kept. */
const PAGES_AT_ONCE = 16;

const text = (octets: Uint8Array) => Buffer.from(octets).toString("latin1");
const isOnes = (octets: Uint8Array) => octets.every((octet) => octet === 0xff);

const isChunkType = (type: number) =>
	(type > 0 && type <= BATCH_LIMIT) || (type < 0 && legacyChunkNames[type] !== undefined);

/** libxc-migration-stream 6.2: octets 4-7 are zero in a 64-bit image. */
function widthOf(head: Uint8Array): LegacyWidth {
	return head.length >= 8 && viewOf(head).getUint32(4, true) === 0 ? 64 : 32;
}

/** What stands behind p2m_size: the signature of PV's extended info, or the first chunk's type. */
function guestTypeOf(head: Uint8Array, width: LegacyWidth): LegacyGuestType | undefined {
	const ul = ulongBytes(width);
	if (head.length < 2 * ul) return undefined;
	if (isOnes(head.subarray(ul, 2 * ul))) return "pv";
	const type = viewOf(head).getInt32(ul, true);
	return type === 0 || isChunkType(type) ? "hvm" : undefined;
}

const isXl = (head: Uint8Array) => text(head.subarray(0, XL_MAGIC.length)) === XL_MAGIC;

/**
 * Whether a stream that begins like this is a legacy image. It has no magic: a believable p2m_size with a believable
 * extended info or chunk behind it, or xl's header that announces no libxl stream.
 */
export function isLegacyImage(head: Uint8Array): boolean {
	if (isXl(head)) {
		return head.length >= XL_HEADER_BYTES && (viewOf(head).getUint32(36, true) & XL_FLAG_STREAM_V2) === 0;
	}
	const width = widthOf(head);
	const ul = ulongBytes(width);
	if (head.length < 2 * ul + 8) return false;
	const p2mSize = viewOf(head).getUint32(0, true);
	if (p2mSize === 0 || p2mSize > PFN_LIMIT) return false;
	const guestType = guestTypeOf(head, width);
	if (guestType === "hvm") return viewOf(head).getInt32(ul, true) !== 0;
	const id = text(head.subarray(2 * ul + 4, 2 * ul + 8));
	return guestType === "pv" && EXTENDED_BLOCKS.some((known) => known === id);
}

/** One pass over an image. */
class LegacyImageReader {
	readonly #reader: StreamReader;
	readonly #options: LegacyReadOptions;
	#width: LegacyWidth = 64;
	#guestType: LegacyGuestType = "hvm";
	#p2mSize = 0;
	#contextBytes = 0;
	#hasExtended = false;
	#xsaveBytes = 0;
	#online: readonly number[] = [];
	#isLastCheckpoint = false;
	readonly #totals = new PageTotals();
	/** The part being read: where it begins, what it is called, its octets so far. */
	#start = 0;
	#name = "header";
	#held: Uint8Array[] = [];

	constructor(reader: StreamReader, options: LegacyReadOptions) {
		this.#reader = reader;
		this.#options = options;
	}

	async *parts(): AsyncGenerator<LegacyPart> {
		if (isXl(await this.#reader.peek(XL_MAGIC.length))) yield await this.#xlHeader();
		yield await this.#header();
		if (this.#guestType === "pv") {
			yield await this.#extendedInfo();
			yield await this.#frames();
		}
		yield* this.#state();
		while (await this.#goesOn()) {
			this.#begin("checkpoint");
			this.#report(R.checkpoints, "one state", "another checkpoint behind it");
			yield this.#part(null, 0, { kind: "checkpoint" });
			yield* this.#state();
		}
		yield* this.#tail();
	}

	/** One state of the guest: chunks up to the one that ends them, and what follows. */
	async *#state(): AsyncGenerator<LegacyPart> {
		yield* this.#chunks();
		if (this.#guestType === "pv") yield* this.#pvTail();
		else yield* this.#hvmTail();
	}

	// --- framing

	#begin(name: string): void {
		this.#start = this.#reader.offset;
		this.#name = name;
		this.#held = [];
	}

	#place(offset: number, field?: string) {
		const place = { layer: "legacy" as const, record: this.#name, offset };
		return field === undefined ? place : { ...place, field };
	}

	#fatal(rule: FormatRule, expected: string, got: string, field?: string, offset = this.#start) {
		return this.#options.findings.fatal(rule, this.#place(offset, field), expected, got);
	}

	#report(rule: FormatRule, expected: string, got: string, field?: string): void {
		this.#options.findings.report(rule, this.#place(this.#start, field), expected, got);
	}

	/** The next octets, copied and kept for the part; a stream that ends before is damaged. */
	async #take(lengthBytes: number, field: string): Promise<Uint8Array> {
		const at = this.#reader.offset;
		const octets = Uint8Array.from(await this.#reader.take(lengthBytes));
		if (octets.length < lengthBytes) {
			throw this.#fatal(R.whole, `${lengthBytes} octets`, `${octets.length} before the end`, field, at);
		}
		this.#held.push(octets);
		return octets;
	}

	async #u32(field: string): Promise<number> {
		return viewOf(await this.#take(4, field)).getUint32(0, true);
	}

	async #u64(field: string): Promise<bigint> {
		return viewOf(await this.#take(8, field)).getBigUint64(0, true);
	}

	/** `count` unsigned longs. */
	async #ulongs(count: number, field: string): Promise<BigUint64Array> {
		const view = viewOf(await this.#take(count * ulongBytes(this.#width), field));
		const values = new BigUint64Array(count);
		for (let i = 0; i < count; i++) {
			values[i] = this.#width === 64 ? view.getBigUint64(i * 8, true) : BigInt(view.getUint32(i * 4, true));
		}
		return values;
	}

	async #blob(field: string): Promise<Uint8Array> {
		const length = await this.#u32(field);
		if (length > BLOB_LIMIT_BYTES) {
			throw this.#fatal(R.blobLimit, `at most ${BLOB_LIMIT_BYTES} octets`, `${length}`, field);
		}
		return this.#take(length, field);
	}

	/** The part that began last, with all octets taken since. */
	#part(type: number | null, headerBytes: number, body: PartBody): LegacyPart {
		const octets = this.#held.length === 1 ? this.#held[0] : new Uint8Array(Buffer.concat(this.#held));
		const length = this.#reader.offset - this.#start - headerBytes;
		const kind = body.kind === "header" || body.kind === "xlHeader" ? "header" : "record";
		return { kind, name: this.#name, type, offset: this.#start, length, octets, body };
	}

	// --- headers

	async #xlHeader(): Promise<LegacyPart> {
		this.#begin("XL_HEADER");
		const view = viewOf(await this.#take(XL_HEADER_BYTES, "header"));
		const order = view.getUint32(32, true);
		if (order !== XL_BYTE_ORDER) throw this.#fatal(R.xlHeader, hex(XL_BYTE_ORDER), hex(order), "byte order");
		const mandatory = view.getUint32(36, true);
		if ((mandatory & ~XL_FLAG_JSON) !== 0) {
			throw this.#fatal(R.xlHeader, "no flag but bit 0", hex(mandatory), "mandatory flags");
		}
		const length = view.getUint32(44, true);
		if (length > XL_CONFIG_LIMIT_BYTES) {
			throw this.#fatal(R.xlHeader, `at most ${XL_CONFIG_LIMIT_BYTES} octets`, `${length}`, "optional data length");
		}
		const data = await this.#take(length, "optional data");
		return this.#part(null, 0, { kind: "xlHeader", mandatory, optional: view.getUint32(40, true), data });
	}

	async #header(): Promise<LegacyPart> {
		this.#begin("header");
		const head = await this.#reader.peek(16);
		this.#width = this.#options.width ?? widthOf(head);
		const guestType = this.#options.guestType ?? guestTypeOf(head, this.#width);
		if (guestType === undefined) {
			const ul = ulongBytes(this.#width);
			if (head.length < 2 * ul) throw this.#fatal(R.whole, `${2 * ul} octets`, `${head.length} before the end`);
			const got = `neither behind a ${this.#width}-bit p2m_size: ${Buffer.from(head.subarray(ul, 2 * ul)).toString("hex")}`;
			throw this.#fatal(R.told, "extended info (PV) or a chunk (HVM), or --width and --guest-type", got);
		}
		this.#guestType = guestType;
		const p2mSize = (await this.#ulongs(1, "p2m_size"))[0] ?? 0n;
		this.#p2mSize = Number(p2mSize);
		if (this.#p2mSize > PFN_LIMIT || (guestType === "pv" && p2mSize === 0n)) {
			const expected = `${guestType === "pv" ? "1" : "0"} to ${hex(PFN_LIMIT)}`;
			// PV: the number of frames that follow depends on it.
			if (guestType === "pv") throw this.#fatal(R.p2mSize, expected, hex(p2mSize), "p2m_size");
			this.#report(R.p2mSize, expected, hex(p2mSize), "p2m_size");
		}
		return this.#part(null, 0, { kind: "header", width: this.#width, guestType, p2mSize });
	}

	async #extendedInfo(): Promise<LegacyPart> {
		this.#begin("EXTENDED_INFO");
		const signature = await this.#take(ulongBytes(this.#width), "signature");
		if (!isOnes(signature)) {
			throw this.#fatal(R.extendedInfo, "all ones", Buffer.from(signature).toString("hex"), "signature");
		}
		const length = await this.#u32("length");
		if (length > EXTENDED_INFO_LIMIT_BYTES) {
			throw this.#fatal(R.blocks, `at most ${EXTENDED_INFO_LIMIT_BYTES} octets`, `${length}`, "length");
		}
		const blocks = this.#blocks(await this.#take(length, "blocks"));
		const find = (id: string) => blocks.findLast((block) => block.id === id)?.data;
		const contextBytes = find("vcpu")?.length;
		if (!Object.values(VCPU_CONTEXT_BYTES).some((known) => known === contextBytes)) {
			throw this.#fatal(R.vcpuBlock, "2800 or 5168 octets", `${contextBytes ?? "no such block"}`, "vcpu");
		}
		this.#contextBytes = contextBytes as number;
		this.#hasExtended = find("extv") !== undefined;
		this.#xsaveBytes = this.#xsaveSize(find("xcnt"));
		return this.#part(null, 0, { kind: "extendedInfo", width: this.#width, blocks });
	}

	#blocks(octets: Uint8Array): ExtendedBlock[] {
		const view = viewOf(octets);
		const blocks: ExtendedBlock[] = [];
		for (let at = 0; at < octets.length; ) {
			if (octets.length - at < 8) throw this.#fatal(R.blocks, "a block", `${octets.length - at} octets`, "length");
			const id = text(octets.subarray(at, at + 4));
			if (!EXTENDED_BLOCKS.some((known) => known === id)) {
				throw this.#fatal(R.blockKnown, EXTENDED_BLOCKS.join(", "), JSON.stringify(id), `blocks[${blocks.length}]`);
			}
			const size = view.getUint32(at + 4, true);
			at += 8;
			if (size > octets.length - at) {
				throw this.#fatal(R.blocks, `at most ${octets.length - at} octets in ${id}`, `${size}`, "length");
			}
			blocks.push({ id, data: octets.subarray(at, at + size) });
			at += size;
		}
		return blocks;
	}

	/** Octets of a vCPU's xsave area with its header; 0 for none. */
	#xsaveSize(data: Uint8Array | undefined): number {
		if (data === undefined) return 0;
		if (data.length < 4) throw this.#fatal(R.xsaveLength, "4 octets", `${data.length}`, "xcnt");
		const size = viewOf(data).getUint32(0, true);
		if ((size !== 0 && size < XSAVE_HEADER_BYTES) || size > XSAVE_LIMIT_BYTES) {
			throw this.#fatal(R.xsaveLength, `0, or 16 to ${XSAVE_LIMIT_BYTES}`, `${size}`, "xcnt");
		}
		return size;
	}

	async #frames(): Promise<LegacyPart> {
		this.#begin("P2M_FRAMES");
		// The guest's own P2M: its entries are as wide as the guest is, whatever the toolstack was.
		const entriesPerFrame = PAGE_BYTES / (this.#contextBytes === VCPU_CONTEXT_BYTES[8] ? 8 : 4);
		const frames = await this.#ulongs(Math.ceil(this.#p2mSize / entriesPerFrame), "frames");
		return this.#part(null, 0, { kind: "frames", width: this.#width, frames });
	}

	// --- chunks

	async *#chunks(): AsyncGenerator<LegacyPart> {
		for (;;) {
			this.#begin("chunk");
			const type = (await this.#u32("type")) | 0;
			this.#name = type === 0 ? "END" : type > 0 ? "PAGES" : (legacyChunkNames[type] ?? "chunk");
			if (this.#name === "chunk") throw this.#fatal(R.chunkKnown, "a count, 0, or -1 to -20", `${type}`, "type");
			const body = await this.#chunkBody(type);
			// Pages whose contents were not kept have no octets.
			const part = this.#part(type >>> 0, 4, body);
			yield body.kind === "pages" && !body.contents ? { ...part, octets: undefined } : part;
			this.#options.onProgress?.(this.#reader.offset);
			if (type === 0) return;
		}
	}

	async #chunkBody(type: number): Promise<PartBody> {
		if (type === 0) return { kind: "end", pages: this.#totals.fields() };
		if (type > 0) return this.#pages(type);
		const index = legacyParams.get(type);
		if (index !== undefined) {
			return { kind: "param", index, padding: await this.#u32("padding"), value: await this.#u64("value") };
		}
		switch (type) {
			case LEGACY_CHUNK.VCPU_INFO:
				return this.#vcpuInfo();
			case LEGACY_CHUNK.TSC_INFO: {
				const mode = await this.#u32("mode");
				const nsec = await this.#u64("nsec");
				return { kind: "tsc", mode, nsec, khz: await this.#u32("khz"), incarnation: await this.#u32("incarnation") };
			}
			case LEGACY_CHUNK.TOOLSTACK:
				return { kind: "toolstack", width: this.#width, data: await this.#blob("length") };
			case LEGACY_CHUNK.LAST_CHECKPOINT:
				this.#isLastCheckpoint = true;
				return { kind: "marker" };
			case LEGACY_CHUNK.ENABLE_VERIFY_MODE:
				this.#totals.isVerifying = true;
				return { kind: "marker" };
			default:
				throw this.#fatal(R.supported, "neither tmem nor compressed pages", this.#name, "type");
		}
	}

	async #pages(count: number): Promise<PartBody> {
		if (count > BATCH_LIMIT) throw this.#fatal(R.batch, `at most ${BATCH_LIMIT} pages`, `${count}`, "type");
		const ul = ulongBytes(this.#width);
		const view = viewOf(await this.#take(count * ul, "entries"));
		const low = new Uint32Array(count);
		const high = this.#width === 64 ? new Uint32Array(count) : undefined;
		let dataCount = 0;
		for (let i = 0; i < count; i++) {
			const entry = view.getUint32(i * ul, true);
			low[i] = entry;
			if (high) high[i] = view.getUint32(i * ul + 4, true);
			const type = entry >>> TYPE_SHIFT;
			if (type < FIRST_TYPE_WITHOUT_DATA) dataCount++;
			this.#totals.see(entry & PFN_MASK);
			this.#totals.byType[type] = (this.#totals.byType[type] as number) + 1;
		}
		const isKept = this.#options.pages === "keep";
		const contents = isKept ? await this.#take(dataCount * PAGE_BYTES, "pages") : undefined;
		const hashes: string[] | undefined = this.#options.pages === "hash" ? [] : undefined;
		let zeroCount = 0;
		const look = (octets: Uint8Array) => {
			for (let at = 0; at < octets.length; at += PAGE_BYTES) {
				const page = octets.subarray(at, at + PAGE_BYTES);
				if (Buffer.compare(page, ZERO_PAGE) === 0) zeroCount++;
				hashes?.push(createHash("sha256").update(page).digest("hex"));
			}
		};
		if (contents) look(contents);
		const isSkipped = this.#options.pages === "skip";
		if (isSkipped) {
			const at = this.#reader.offset;
			const passed = await this.#reader.skip(dataCount * PAGE_BYTES);
			if (passed < dataCount * PAGE_BYTES) {
				throw this.#fatal(R.whole, `${dataCount * PAGE_BYTES} octets`, `${passed} before the end`, "pages", at);
			}
		}
		for (let left = contents || isSkipped ? 0 : dataCount; left > 0; left -= PAGES_AT_ONCE) {
			const at = this.#reader.offset;
			const wanted = Math.min(left, PAGES_AT_ONCE) * PAGE_BYTES;
			const octets = await this.#reader.take(wanted);
			if (octets.length < wanted) {
				throw this.#fatal(R.whole, `${wanted} octets`, `${octets.length} before the end`, "pages", at);
			}
			look(octets);
		}
		this.#totals.records++;
		this.#totals.withData += dataCount;
		this.#totals.zero += zeroCount;
		return { kind: "pages", width: this.#width, low, high, dataCount, zeroCount, contents, hashes };
	}

	async #vcpuInfo(): Promise<PartBody> {
		const maxId = await this.#u32("max_id");
		if (maxId >= LEGACY_VCPU_LIMIT) {
			throw this.#fatal(R.vcpuLimit, `below ${LEGACY_VCPU_LIMIT}`, `${maxId}`, "max_id");
		}
		const words = Math.floor(maxId / 64) + 1;
		const octets = await this.#take(words * 8, "online");
		const bitmap = new BigUint64Array(words);
		for (let word = 0; word < words; word++) bitmap[word] = viewOf(octets).getBigUint64(word * 8, true);
		const online: number[] = [];
		for (let id = 0; id < words * 64; id++) {
			if (((octets[id >> 3] ?? 0) >> (id & 7)) & 1) online.push(id);
		}
		this.#online = online;
		return { kind: "vcpuInfo", maxId, bitmap, online };
	}

	// --- what follows the chunks

	async *#hvmTail(): AsyncGenerator<LegacyPart> {
		this.#begin("MAGIC_PFNS");
		const pfns: bigint[] = [];
		for (const _ of MAGIC_PFN_PARAMS) pfns.push(await this.#u64(`pfn[${pfns.length}]`));
		yield this.#part(null, 0, { kind: "magicPfns", pfns });
		this.#begin("HVM_CONTEXT");
		const data = await this.#blob("length");
		yield this.#part(null, 4, { kind: "hvmContext", data });
		if (this.#options.skipQemu) return;
		this.#begin("QEMU");
		if (await this.#reader.isAtEnd()) {
			this.#report(R.qemuThere, "a device model's record", "the end");
			return;
		}
		const signature = text(await this.#take(QEMU_SIGNATURE_BYTES, "signature"));
		const known = Object.hasOwn(qemuSignatures, signature) ? qemuSignatures[signature] : undefined;
		if (!known) {
			throw this.#fatal(R.qemuKnown, Object.keys(qemuSignatures).join(", "), JSON.stringify(signature), "signature");
		}
		const state = known.hasLength ? await this.#blob("length") : await this.#untilEnd();
		yield this.#part(null, QEMU_SIGNATURE_BYTES, { kind: "qemu", signature, data: state });
	}

	async #untilEnd(): Promise<Uint8Array> {
		const octets = Uint8Array.from(await this.#reader.take(BLOB_LIMIT_BYTES));
		if (!(await this.#reader.isAtEnd())) {
			throw this.#fatal(R.blobLimit, `at most ${BLOB_LIMIT_BYTES} octets`, "more", "state");
		}
		this.#held.push(octets);
		return octets;
	}

	async *#pvTail(): AsyncGenerator<LegacyPart> {
		this.#begin("UNMAPPED_PFNS");
		const count = await this.#u32("count");
		if (count > this.#p2mSize) throw this.#fatal(R.unmapped, `at most ${this.#p2mSize}`, `${count}`, "count");
		for (let done = 0; done === 0 || done < count; done += PFNS_AT_ONCE) {
			if (done > 0) this.#begin("UNMAPPED_PFNS_CONTINUED");
			const frames = await this.#ulongs(Math.min(count - done, PFNS_AT_ONCE), "pfns");
			const body = { kind: "unmapped", width: this.#width, count: done === 0 ? count : undefined, frames } as const;
			yield this.#part(null, 0, body);
		}
		for (const id of this.#online) {
			this.#begin("VCPU_BASIC");
			yield this.#part(null, 0, { kind: "vcpuBasic", id, data: await this.#take(this.#contextBytes, "context") });
			if (this.#hasExtended) {
				this.#begin("VCPU_EXTENDED");
				yield this.#part(null, 0, { kind: "vcpuExtended", id, data: await this.#take(EXTENDED_VCPU_BYTES, "context") });
			}
			if (this.#xsaveBytes === 0) continue;
			this.#begin("VCPU_XSAVE");
			const mask = await this.#u64("mask");
			const size = await this.#u64("size");
			const expected = this.#xsaveBytes - XSAVE_HEADER_BYTES;
			if (size !== BigInt(expected)) throw this.#fatal(R.xsaveLength, `${expected}`, `${size}`, "size");
			yield this.#part(null, 0, { kind: "vcpuXsave", id, mask, data: await this.#take(expected, "area") });
		}
		this.#begin("SHARED_INFO");
		const guestWidth = this.#contextBytes === VCPU_CONTEXT_BYTES[8] ? 8 : 4;
		const data = await this.#take(PAGE_BYTES, "shared_info");
		yield this.#part(null, 0, { kind: "sharedInfo", guestWidth, data });
	}

	/** Whether another checkpoint follows. */
	async #goesOn(): Promise<boolean> {
		if (this.#isLastCheckpoint || this.#options.checkpoints === "first" || this.#options.skipQemu) return false;
		const next = await this.#reader.peek(4);
		return next.length === 4 && isChunkType(viewOf(next).getInt32(0, true));
	}

	async *#tail(): AsyncGenerator<LegacyPart> {
		this.#begin("tail");
		if (await this.#reader.isAtEnd()) return;
		this.#report(R.trailing, "the end", "more octets");
		for (;;) {
			this.#begin("tail");
			const octets = await this.#reader.some(TAIL_PIECE_BYTES);
			if (!octets) return;
			this.#held = [Uint8Array.from(octets)];
			yield { ...this.#part(null, 0, { kind: "tail" }), kind: "tail" };
			this.#options.onProgress?.(this.#reader.offset);
		}
	}
}

/** The image's parts in their order, looked at by the rules on the way. */
export async function* readLegacyParts(reader: StreamReader, options: LegacyReadOptions): AsyncGenerator<LegacyPart> {
	const checks = new LegacyChecks(options.findings);
	for await (const part of new LegacyImageReader(reader, options).parts()) {
		checks.see(part);
		yield part;
	}
}

class LegacyItem implements StreamItem {
	readonly index: number;
	readonly layer = "legacy";
	readonly isLittle = true;
	readonly #part: LegacyPart;
	#fields: StreamItem["fields"] | undefined;

	constructor(index: number, part: LegacyPart) {
		this.index = index;
		this.#part = part;
	}

	get kind() {
		return this.#part.kind;
	}
	get type() {
		return this.#part.type;
	}
	get name() {
		return this.#part.name;
	}
	get offset() {
		return this.#part.offset;
	}
	get length() {
		return this.#part.length;
	}
	get octets() {
		return this.#part.octets;
	}
	get fields() {
		this.#fields ??= fieldsOf(this.#part);
		return this.#fields;
	}
}

/** Reads a legacy image as items that, put end to end, are the image. */
export async function* readLegacy(reader: StreamReader, options: LegacyReadOptions): AsyncGenerator<StreamItem> {
	let index = 0;
	for await (const part of readLegacyParts(reader, options)) {
		if (part.body.kind !== "checkpoint") yield new LegacyItem(index++, part);
	}
}
