/**
 * All that the image of one guest says, as plain facts: a file of `xl save`, or one that begins with libxl's or libxc's header,
 * gzip-compressed or not, that lies in memory. image.ts reads and checks it; here its items become facts.
 *
 * What comes later replaces what came earlier: of a checkpointed image the last checkpoint counts.
 */
import { gunzipSync } from "node:zlib";
import { XluError } from "../errors.ts";
import { Findings, findingError } from "./common/findings.ts";
import { RECORD_HEADER_BYTES } from "./common/framing.ts";
import type { Fields, Json, StreamItem } from "./common/record.ts";
import { outermostLayer, readImageNow } from "./image.ts";
import { vcpuOf } from "./libxc/bodies.ts";
import { LIBXC_RECORD, LIBXC_TYPE_X86_PV } from "./libxc/layout.ts";
import { PAGE_ENTRY_LIMIT, type PageIndex, PageIndexBuilder } from "./libxc/pages.ts";
import { EMULATOR_HEADER_BYTES, LIBXL_RECORD } from "./libxl/layout.ts";
import { XL_FLAG_JSON, XL_MAGIC } from "./xl/layout.ts";

/** The domain's configuration as `xl save` keeps it (libxl_domain_config in JSON). */
export interface GuestConfig {
	/** c_info.name */
	name?: string;
	/** c_info.uuid, lower case. */
	uuid?: string;
	/** c_info.type; only here PVH and HVM can be told apart. */
	type?: "pv" | "pvh" | "hvm";
	/** b_info.max_vcpus */
	maxVcpus?: number;
	/** b_info.max_memkb */
	maxMemKb?: number;
	/** All of it, as parsed. */
	json: Record<string, unknown>;
}

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

/** EMULATOR_XENSTORE_DATA or EMULATOR_CONTEXT. */
export interface EmulatorRecord {
	kind: "xenstore" | "context";
	/** 0 unknown, 1 QEMU traditional, 2 QEMU upstream. */
	emulatorId: number;
	/** Index of this emulator for the domain. */
	index: number;
	/** Key/value pairs, each NUL-terminated, or the emulator's own blob. */
	data: Uint8Array;
	/** Octets from the start of the image to the record. */
	offset: number;
}

/** All that the image of one guest says. */
export interface GuestImage {
	/** Which format the file begins with. */
	outermost: "xl" | "libxl" | "libxc";
	/** undefined without an xl header, or if that one's configuration is no JSON (older tools). */
	config: GuestConfig | undefined;
	/** Version of the libxc image's format, 2 or 3. */
	version: number;
	/** The Xen that saved it; major 0 if a converter wrote the image (libxc-migration-stream 3.2). */
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
	/** Every PFN that PAGE_DATA names; contents are views into the image. */
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
	/** libxl's EMULATOR_* records; of a checkpointed stream, the last checkpoint's that has any. */
	emulators: EmulatorRecord[];
	/** Octets of the unpacked image. */
	lengthBytes: number;
	/** Octets after the last END: a captured live migration ends with xl's own protocol. */
	tailBytes: number;
}

export interface ReadImageOptions {
	/** Name for messages. */
	file?: string;
	/** Upper bound of the unpacked image in octets; default just below 4 GiB, the most that a Buffer holds. */
	maxBytes?: number;
}

const DEFAULT_MAX_BYTES = 2 ** 32 - 4096;
/** Xen 4.17 has 39; later ones may have more. */
const HVM_PARAM_LIMIT = 1024;

const R = LIBXC_RECORD;

function imageError(place: string, offset: number, expected: string, got: string, cause?: unknown): XluError {
	const detail = { record: place, offset, expected, got, cause };
	return new XluError("XLU_E_IMAGE", `${place} at 0x${offset.toString(16)}: expected ${expected}, got ${got}`, detail);
}

/** What keeps an image from being read, whatever rule it is, is XLU_E_IMAGE to whoever wants its facts. */
function asImageError(error: XluError): XluError {
	const { rule, record, offset, field, expected, got } = error;
	return new XluError("XLU_E_IMAGE", error.message, { rule, record, offset, field, expected, got, cause: error });
}

/** Unpacks what begins with gzip's magic; anything else is returned as it is. */
function unpack(data: Uint8Array, maxBytes: number): Uint8Array {
	if (data[0] !== 0x1f || data[1] !== 0x8b) return data;
	try {
		return gunzipSync(data, { maxOutputLength: maxBytes });
	} catch (cause) {
		const code = (cause as { code?: unknown }).code;
		if (code === "ERR_BUFFER_TOO_LARGE") {
			throw imageError("gzip", 0, `at most ${maxBytes} octets unpacked`, "more", cause);
		}
		throw imageError("gzip", 0, "a whole compressed file", cause instanceof Error ? cause.message : "damage", cause);
	}
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
	typeof value === "object" && value !== null && !Array.isArray(value);
const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
const count = (value: unknown): number | undefined =>
	typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;

/** @param json that image.ts has found to be JSON */
function parseConfig(json: string): GuestConfig {
	const parsed: unknown = JSON.parse(json);
	if (!isRecord(parsed)) throw imageError("xl header", 0, "a JSON object as configuration", "another value");
	const create = isRecord(parsed.c_info) ? parsed.c_info : {};
	const build = isRecord(parsed.b_info) ? parsed.b_info : {};
	const type = create.type;
	return {
		name: text(create.name),
		uuid: text(create.uuid)?.toLowerCase(),
		type: type === "pv" || type === "pvh" || type === "hvm" ? type : undefined,
		maxVcpus: count(build.max_vcpus),
		maxMemKb: count(build.max_memkb),
		json: parsed,
	};
}

/** A field that image.ts decoded as a number: beyond 2^53 digits, or 0x... */
const big = (value: Json | undefined): bigint => BigInt(value as number | string);

type Facts = Omit<GuestImage, "pages" | "lengthBytes">;

class FactCollector {
	readonly facts: Facts;
	readonly #pages = new PageIndexBuilder();
	/** Emulators since the last checkpoint, and those of the one before. */
	#emulators: EmulatorRecord[] = [];
	#replaced: EmulatorRecord[] = [];

	constructor(outermost: GuestImage["outermost"]) {
		this.facts = {
			outermost,
			config: undefined,
			version: 0,
			xenVersion: { major: 0, minor: 0 },
			guestType: "hvm",
			vcpuBasic: new Map(),
			vcpuExtended: new Map(),
			vcpuXsave: new Map(),
			vcpuMsrs: new Map(),
			hvmParams: new Map(),
			checkpoints: 0,
			verified: false,
			emulators: [],
			tailBytes: 0,
		};
	}

	add(item: StreamItem): void {
		if (item.kind === "header") this.#header(item);
		else if (item.kind === "tail") this.facts.tailBytes += item.length;
		else if (item.layer === "libxl") this.#libxl(item);
		else this.#libxc(item);
	}

	finish(image: Uint8Array): GuestImage {
		const emulators = this.#emulators.length > 0 ? this.#emulators : this.#replaced;
		return { ...this.facts, emulators, pages: this.#pages.build(image), lengthBytes: image.length };
	}

	#header({ layer, fields }: StreamItem): void {
		if (layer === "xl") {
			const isJson = (Number(fields.mandatoryFlags) & XL_FLAG_JSON) !== 0 && fields.config !== undefined;
			this.facts.config = isJson ? parseConfig(fields.config as string) : undefined;
		}
		if (layer !== "libxc") return;
		this.facts.version = Number(fields.version);
		this.facts.xenVersion = { major: Number(fields.xenMajor), minor: Number(fields.xenMinor) };
		this.facts.guestType = fields.type === LIBXC_TYPE_X86_PV ? "pv" : "hvm";
	}

	#libxl(item: StreamItem): void {
		const { type, fields, offset } = item;
		if (type === LIBXL_RECORD.CHECKPOINT_END) {
			if (this.#emulators.length > 0) this.#replaced = this.#emulators;
			this.#emulators = [];
		}
		if (type !== LIBXL_RECORD.EMULATOR_XENSTORE_DATA && type !== LIBXL_RECORD.EMULATOR_CONTEXT) return;
		this.#emulators.push({
			kind: type === LIBXL_RECORD.EMULATOR_CONTEXT ? "context" : "xenstore",
			emulatorId: Number(fields.emulatorId),
			index: Number(fields.index),
			data: bodyOf(item).subarray(EMULATOR_HEADER_BYTES),
			offset,
		});
	}

	#libxc(item: StreamItem): void {
		const { facts } = this;
		const { type, fields, length, pages } = item;
		if (pages) {
			if (this.#pages.count + pages.pfns.length > PAGE_ENTRY_LIMIT) {
				throw imageError("libxc PAGE_DATA", item.offset, `at most ${PAGE_ENTRY_LIMIT} PFNs in all`, "more");
			}
			this.#pages.add(pages);
			return;
		}
		// Xen 4.6 to 4.8 wrote some records without content: they say nothing.
		if (length === 0 && type !== R.CHECKPOINT && type !== R.VERIFY) return;
		switch (type) {
			case R.X86_PV_INFO:
				facts.pvInfo = { guestWidth: fields.guestWidth, ptLevels: fields.ptLevels } as PvInfo;
				return;
			case R.X86_PV_P2M_FRAMES:
				facts.p2m = {
					startPfn: Number(fields.startPfn),
					endPfn: Number(fields.endPfn),
					p2mPfns: (fields.pfns as readonly Json[]).map(Number),
				};
				return;
			case R.X86_PV_VCPU_BASIC:
				this.#vcpu(facts.vcpuBasic, item);
				return;
			case R.X86_PV_VCPU_EXTENDED:
				this.#vcpu(facts.vcpuExtended, item);
				return;
			case R.X86_PV_VCPU_XSAVE:
				this.#vcpu(facts.vcpuXsave, item);
				return;
			case R.X86_PV_VCPU_MSRS:
				this.#vcpu(facts.vcpuMsrs, item);
				return;
			case R.SHARED_INFO:
				facts.sharedInfo = bodyOf(item);
				return;
			case R.X86_TSC_INFO: {
				const { mode, khz, incarnation, nsec } = fields;
				facts.tscInfo = { mode, khz, nsec: big(nsec), incarnation } as TscInfo;
				return;
			}
			case R.HVM_CONTEXT:
				facts.hvmContext = bodyOf(item);
				return;
			case R.HVM_PARAMS:
				facts.hvmParams = this.#params(item);
				return;
			case R.X86_CPUID_POLICY:
				facts.cpuidPolicy = bodyOf(item);
				return;
			case R.X86_MSR_POLICY:
				facts.msrPolicy = bodyOf(item);
				return;
			case R.CHECKPOINT:
				facts.checkpoints++;
				return;
			case R.VERIFY:
				facts.verified = true;
		}
	}

	#vcpu(into: Map<number, Uint8Array>, item: StreamItem): void {
		const { vcpu, content } = vcpuOf(bodyOf(item), item.isLittle);
		into.set(vcpu, content);
	}

	#params({ offset, fields }: StreamItem): Map<number, bigint> {
		const params = new Map<number, bigint>();
		for (const { param, value } of fields.params as readonly Fields[]) {
			if (big(param) >= BigInt(HVM_PARAM_LIMIT)) {
				throw imageError("libxc HVM_PARAMS", offset, `parameters below ${HVM_PARAM_LIMIT}`, `${param}`);
			}
			params.set(Number(param), big(value));
		}
		return params;
	}
}

const bodyOf = ({ octets, length }: StreamItem): Uint8Array =>
	(octets as Uint8Array).subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + length);

/**
 * Reads the image of a guest.
 *
 * @param data the file's octets, possibly gzip-compressed
 * @throws XluError XLU_E_IMAGE with offset, expected and got if `data` is no image, a rule of its layers refuses it (`rule` says
 * which), or it is big-endian
 */
export function readGuestImage(data: Uint8Array, options: ReadImageOptions = {}): GuestImage {
	const unpacked = unpack(data, options.maxBytes ?? DEFAULT_MAX_BYTES);
	// Not a Buffer, whose slice() and JSON form differ: what is handed out are plain Uint8Arrays.
	const image = new Uint8Array(unpacked.buffer, unpacked.byteOffset, unpacked.byteLength);
	const outermost = outermostLayer(image.subarray(0, XL_MAGIC.length));
	if (outermost === undefined) {
		const start = Buffer.from(image.subarray(0, 8)).toString("hex");
		const expected = "the magic of an xl, libxl or libxc image";
		throw imageError(options.file ?? "image", 0, expected, start === "" ? "an empty file" : start);
	}
	const collector = new FactCollector(outermost);
	const findings = new Findings();
	const refuse = () => {
		const [first] = findings.errors;
		if (first) throw asImageError(findingError(first));
	};
	try {
		for (const item of readImageNow(image, { findings, pages: "skip" })) {
			const { kind, layer, offset, isLittle } = item;
			// A captured host is an x86: its policies and the like are taken as they stand.
			if (kind === "header" && !isLittle) {
				throw imageError(`${layer} header`, offset, "a little-endian image", "a big-endian one, which no x86 saves");
			}
			refuse();
			collector.add(item);
		}
	} catch (error) {
		// What ends the reading is a finding too, the last one: the first one counts.
		if (error instanceof XluError && error.rule !== undefined) refuse();
		throw error;
	}
	refuse();
	return collector.finish(image);
}
