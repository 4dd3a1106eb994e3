/**
 * A legacy image as a libxc image of version 2 or 3, alone or in a libxl stream, in one pass. What goes where is what Xen's
 * own converter was seen to do with streams that hold each chunk:
 *
 *     p2m_size, extended info   image header, domain header, X86_PV_INFO, STATIC_DATA_END (version 3)
 *     P2M frames                X86_PV_P2M_FRAMES
 *     pages                     PAGE_DATA, a record for each chunk
 *     TSC_INFO                  X86_TSC_INFO, where it stood
 *     HVM parameters            HVM_PARAMS with all of them where the chunks end; another one with the magic PFNs
 *     context, vCPUs, shared    HVM_CONTEXT, X86_PV_VCPU_BASIC, _EXTENDED, _XSAVE, SHARED_INFO
 *     VCPU_INFO, unmapped PFNs  nothing: they say how much follows, or what a receiver finds out by itself
 *     TOOLSTACK                 libxl: EMULATOR_XENSTORE_DATA
 *     device model              libxl: EMULATOR_CONTEXT; libxc: the record as it stands, behind END
 *
 * Of a row of checkpoints, where Xen's converter stops after the first one, the last one's state is written behind the pages
 * of all: a receiver that restores from a file takes no CHECKPOINT.
 */
import { Findings, findingError } from "../common/findings.ts";
import type { StreamReader } from "../common/reader.ts";
import type { ByteSink } from "../common/sink.ts";
import {
	LIBXC_ID,
	LIBXC_MARKER_BYTES,
	LIBXC_RECORD,
	LIBXC_TYPE_X86_HVM,
	LIBXC_TYPE_X86_PV,
	PAGE_SHIFT,
	VCPU_CONTEXT_BYTES,
} from "../libxc/layout.ts";
import { LIBXL_IDENT, LIBXL_OPTION_LEGACY, LIBXL_RECORD, LIBXL_VERSION } from "../libxl/layout.ts";
import { XL_FLAG_STREAM_V2 } from "../xl/layout.ts";
import { legacyRules } from "./check.ts";
import { MAGIC_PFN_PARAMS, PFN_MASK, TYPE_SHIFT } from "./layout.ts";
import type { LegacyPart, PagesBody, PartBody } from "./parts.ts";
import { type LegacyReadOptions, readLegacyParts } from "./read.ts";
import { type PhysmapRegion, readToolstack } from "./toolstack.ts";
import { encodeLegacy } from "./write.ts";

export interface ConvertLegacyOptions
	extends Pick<LegacyReadOptions, "width" | "guestType" | "skipQemu" | "checkpoints" | "onProgress"> {
	readonly to: "libxc-v2" | "libxc-v3";
	/**
	 * What to wrap the libxc image in: nothing, a libxl stream, or that with the image's own xl header in front. Default: xl
	 * where the image has such a header, else libxc.
	 */
	readonly layers?: "libxc" | "libxl" | "xl";
	/** Findings that refuse nothing are collected here. */
	readonly findings?: Findings;
}

export interface ConvertLegacyResult {
	readonly width: 32 | 64;
	readonly guestType: "pv" | "hvm";
	readonly layers: "libxc" | "libxl" | "xl";
	readonly records: number;
	/** States of the guest that the image holds. */
	readonly checkpoints: number;
	/** What the image has and the output has not. */
	readonly dropped: readonly { readonly what: string; readonly why: string }[];
}

const C = LIBXC_RECORD;
const X = LIBXL_RECORD;
/** libxl-migration-stream section 4.1: the emulator of a legacy stream is not known, its index 0. */
const EMULATOR_HEADER = Buffer.alloc(8);
/** Xen's converter says that Xen 0.1 wrote the image: the legacy format does not tell which version did. */
const XEN_MAJOR = 0;
const XEN_MINOR = 1;

const u32 = (...values: number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer);
const u64 = (...values: bigint[]): Buffer => Buffer.from(BigUint64Array.from(values).buffer);

function imageHeader(version: number): Buffer {
	const octets = Buffer.alloc(24);
	octets.fill(0xff, 0, LIBXC_MARKER_BYTES);
	octets.writeUInt32BE(LIBXC_ID, 8);
	octets.writeUInt32BE(version, 12);
	return octets;
}

function libxlHeader(): Buffer {
	const octets = Buffer.alloc(16);
	octets.write(LIBXL_IDENT, "latin1");
	octets.writeUInt32BE(LIBXL_VERSION, 8);
	octets.writeUInt32BE(LIBXL_OPTION_LEGACY, 12);
	return octets;
}

const params = (list: readonly (readonly [number, bigint])[]): Buffer =>
	Buffer.concat([u32(list.length, 0), ...list.map(([index, value]) => u64(BigInt(index), value))]);

/** Each region's keys below the device model's tree, as pairs of NUL-terminated texts. */
function physmapKeys(regions: readonly PhysmapRegion[]): Buffer {
	const pair = (key: string, value: Uint8Array) => [Buffer.from(`${key}\0`, "latin1"), value, Buffer.alloc(1)];
	return Buffer.concat(
		regions.flatMap(({ offset, start, size, name }) => {
			const key = `physmap/${offset.toString(16)}`;
			return [
				...pair(`${key}/start_addr`, Buffer.from(start.toString(16), "latin1")),
				...pair(`${key}/size`, Buffer.from(size.toString(16), "latin1")),
				...pair(`${key}/name`, name),
			];
		}),
	);
}

class Converter {
	readonly #sink: ByteSink;
	readonly #isV3: boolean;
	#layers: ConvertLegacyOptions["layers"];
	#width: 32 | 64 = 64;
	#guestType: "pv" | "hvm" = "hvm";
	#p2mSize = 0;
	#params: [number, bigint][] = [];
	#regions: Buffer | undefined;
	/** What follows the chunks of pages. */
	#state: { type: number; body: readonly Uint8Array[] }[] = [];
	/** The device model's record, which comes behind END. */
	#qemu: { part: LegacyPart; state: Uint8Array } | undefined;
	#records = 0;
	#checkpoints = 1;
	#isEnded = false;
	readonly #dropped = new Map<string, string>();

	constructor(sink: ByteSink, options: ConvertLegacyOptions) {
		this.#sink = sink;
		this.#isV3 = options.to === "libxc-v3";
		this.#layers = options.layers;
	}

	async #record(type: number, ...body: readonly Uint8Array[]): Promise<void> {
		const length = body.reduce((sum, octets) => sum + octets.length, 0);
		await this.#sink.write(u32(type, length));
		for (const octets of body) await this.#sink.write(octets);
		if (length % 8 !== 0) await this.#sink.write(new Uint8Array(8 - (length % 8)));
		this.#records++;
	}

	/** A record that waits until it is known whether another checkpoint replaces it. */
	#hold(type: number, ...body: readonly Uint8Array[]): void {
		this.#state.push({ type, body });
	}

	async take(part: LegacyPart): Promise<void> {
		const { body } = part;
		switch (body.kind) {
			case "xlHeader":
				return this.#xlHeader(part, body);
			case "header":
				return this.#header(body);
			case "extendedInfo": {
				const contextBytes = body.blocks.findLast(({ id }) => id === "vcpu")?.data.length;
				const is64 = contextBytes === VCPU_CONTEXT_BYTES[8];
				await this.#record(C.X86_PV_INFO, Uint8Array.of(is64 ? 8 : 4, is64 ? 4 : 3, 0, 0, 0, 0, 0, 0));
				if (this.#isV3) await this.#record(C.STATIC_DATA_END);
				return;
			}
			case "frames": {
				const { buffer, byteOffset, byteLength } = body.frames;
				const frames = new Uint8Array(buffer, byteOffset, byteLength);
				return this.#record(C.X86_PV_P2M_FRAMES, u32(0, this.#p2mSize - 1), frames);
			}
			case "pages":
				return this.#pages(body);
			case "tsc":
				return this.#record(C.X86_TSC_INFO, u32(body.mode, body.khz), u64(body.nsec), u32(body.incarnation, 0));
			case "param":
				// The same one again is set again: the last one counts for a receiver as well.
				this.#params.push([body.index, body.value]);
				return;
			case "toolstack":
				return this.#toolstack(body);
			case "end":
				if (this.#params.length > 0) this.#hold(C.HVM_PARAMS, params(this.#params));
				this.#params = [];
				return;
			case "magicPfns":
				return this.#hold(C.HVM_PARAMS, params(MAGIC_PFN_PARAMS.map((index, i) => [index, body.pfns[i] ?? 0n])));
			case "hvmContext":
				return this.#hold(C.HVM_CONTEXT, body.data);
			case "vcpuBasic":
				return this.#hold(C.X86_PV_VCPU_BASIC, u32(body.id, 0), body.data);
			case "vcpuExtended":
				return this.#hold(C.X86_PV_VCPU_EXTENDED, u32(body.id, 0), body.data);
			case "vcpuXsave":
				if (body.mask !== 0n) this.#drop("masks of the xsave areas", "X86_PV_VCPU_XSAVE has no place for them");
				return this.#hold(C.X86_PV_VCPU_XSAVE, u32(body.id, 0), body.data);
			case "sharedInfo":
				return this.#hold(C.SHARED_INFO, body.data);
			case "qemu":
				this.#qemu = { part, state: body.data };
				return;
			case "checkpoint":
				this.#checkpoints++;
				this.#drop("states of the checkpoints but the last one", "the last one counts");
				this.#state = [];
				this.#qemu = undefined;
				this.#regions = undefined;
				return;
			case "unmapped":
				if (body.frames.length > 0) this.#drop("the list of unmapped PFNs", "later formats have none");
				return;
			case "tail":
				if (!this.#isEnded) await this.end();
				this.#drop("octets behind the image", "they are no part of it");
				return;
			case "vcpuInfo":
			case "marker":
		}
	}

	/** After the last part. */
	async end(): Promise<ConvertLegacyResult> {
		if (!this.#isEnded) {
			this.#isEnded = true;
			for (const { type, body } of this.#state) await this.#record(type, ...body);
			await this.#record(C.END);
			if (this.#layers === "libxc") {
				if (this.#qemu?.part.octets) await this.#sink.write(this.#qemu.part.octets);
			} else {
				await this.#emulator();
				await this.#record(X.END);
			}
		}
		return {
			width: this.#width,
			guestType: this.#guestType,
			layers: this.#layers ?? "libxc",
			records: this.#records,
			checkpoints: this.#checkpoints,
			dropped: Array.from(this.#dropped, ([what, why]) => ({ what, why })),
		};
	}

	#drop(what: string, why: string): void {
		this.#dropped.set(what, why);
	}

	async #xlHeader(part: LegacyPart, body: PartBody & { kind: "xlHeader" }): Promise<void> {
		this.#layers ??= "xl";
		if (this.#layers !== "xl") {
			this.#drop("xl's header with the domain's configuration", `the output is for ${this.#layers}`);
			return;
		}
		const fields = {
			mandatoryFlags: (body.mandatory | XL_FLAG_STREAM_V2) >>> 0,
			optionalFlags: body.optional,
			optionalData: Buffer.from(body.data).toString("hex"),
		};
		const { kind, type, name } = part;
		await this.#sink.write(encodeLegacy({ layer: "legacy", kind, type, name, isLittle: true, fields }));
	}

	async #header(body: PartBody & { kind: "header" }): Promise<void> {
		this.#layers ??= "libxc";
		this.#width = body.width;
		this.#guestType = body.guestType;
		this.#p2mSize = Number(body.p2mSize);
		if (this.#layers !== "libxc") {
			await this.#sink.write(libxlHeader());
			await this.#record(X.LIBXC_CONTEXT);
		}
		const isPv = body.guestType === "pv";
		const type = isPv ? LIBXC_TYPE_X86_PV : LIBXC_TYPE_X86_HVM;
		await this.#sink.write(imageHeader(this.#isV3 ? 3 : 2));
		await this.#sink.write(u32(type, PAGE_SHIFT, XEN_MAJOR, XEN_MINOR));
		if (!isPv && this.#isV3) await this.#record(C.STATIC_DATA_END);
	}

	async #pages({ low, contents }: PagesBody): Promise<void> {
		const entries = new Uint32Array(low.length * 2);
		low.forEach((entry, i) => {
			entries[2 * i] = entry & PFN_MASK;
			entries[2 * i + 1] = (entry >>> TYPE_SHIFT) << 28;
		});
		await this.#record(C.PAGE_DATA, u32(low.length, 0), Buffer.from(entries.buffer), contents ?? new Uint8Array(0));
	}

	#toolstack({ data, width }: PartBody & { kind: "toolstack" }): void {
		if (this.#layers === "libxc") {
			if (data.length > 0) this.#drop("libxl's toolstack data", "a libxc image has no place for it");
			return;
		}
		const { regions } = readToolstack(data, width);
		this.#regions = regions.length > 0 ? physmapKeys(regions) : undefined;
	}

	async #emulator(): Promise<void> {
		if (this.#regions) await this.#record(X.EMULATOR_XENSTORE_DATA, EMULATOR_HEADER, this.#regions);
		if (this.#qemu) await this.#record(X.EMULATOR_CONTEXT, EMULATOR_HEADER, this.#qemu.state);
	}
}

/**
 * Converts a legacy image. What `verify` refuses is refused at the first finding: give a sink that appears whole or not at
 * all. Memory: one chunk of at most 1024 pages, the vCPUs, and the HVM context, device
 * model's state and toolstack data (at most 64 MiB each, as they are there).
 *
 * @throws XLU_E_IMAGE, XLU_E_VERSION, XLU_E_REFUSED with the rule (XLU-O0nn) that the image breaks
 */
export async function convertLegacy(
	reader: StreamReader,
	output: ByteSink,
	options: ConvertLegacyOptions,
): Promise<ConvertLegacyResult> {
	const findings = options.findings ?? new Findings();
	const converter = new Converter(output, options);
	let layers = options.layers;
	const refuse = () => {
		const [first] = findings.errors;
		if (first) throw findingError(first);
	};
	for await (const part of readLegacyParts(reader, { ...options, findings, pages: "keep" })) {
		const { body, name, offset } = part;
		const place = { layer: "legacy" as const, record: name, offset };
		refuse();
		if (body.kind === "xlHeader") layers ??= "xl";
		if (body.kind === "header" && layers === "xl" && offset === 0) {
			throw findings.fatal(legacyRules.xlHeader, place, "xl's header in front", "none");
		}
		if (body.kind === "toolstack" && (layers ?? "libxc") !== "libxc") {
			const { problem } = readToolstack(body.data, body.width);
			if (problem) throw findings.fatal(legacyRules.toolstack, place, problem.expected, problem.got);
		}
		if (body.kind === "qemu" && body.signature !== "DeviceModelRecord0002") {
			throw findings.fatal(legacyRules.qemuConvertible, place, "DeviceModelRecord0002", body.signature, "signature");
		}
		await converter.take(part);
	}
	refuse();
	const bare = findings.list.find(({ rule }) => rule === legacyRules.qemuThere);
	if (bare) throw findingError(bare);
	return converter.end();
}
