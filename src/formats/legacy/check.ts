/**
 * What a legacy image is held against. Rules of the framing end the reading (read.ts throws them); the others are found
 * here, part by part, and reading goes on.
 */
import { type Findings, type FormatRule, formatRule, hex } from "../common/findings.ts";
import { pageTypeNames } from "../libxc/layout.ts";
import {
	EXTENDED_BLOCKS,
	LEGACY_CHUNK,
	LEGACY_VCPU_LIMIT,
	legacyParams,
	PFN_LIMIT,
	PFN_MASK,
	TYPE_SHIFT,
} from "./layout.ts";
import type { LegacyPart } from "./parts.ts";
import { readToolstack } from "./toolstack.ts";

const HEADER = "xg_save_restore.h of Xen 4.5, description of the protocol";
const PEER = "convert-legacy-stream of Xen 4.17, observed";

export const legacyRules = {
	told: formatRule(
		"XLU-O001",
		"refused",
		"libxc-migration-stream, 6.2",
		"Width and guest type follow from the first octets of the image, or are given.",
		"Say --width 32|64 (of the toolstack that saved it) and --guest-type pv|hvm; is it a legacy image at all?",
	),
	whole: formatRule(
		"XLU-O002",
		"damaged",
		HEADER,
		"The image holds what its counts and lengths say.",
		"It was cut off, or width or guest type are not what was given: look for a whole copy.",
	),
	xlHeader: formatRule(
		"XLU-O003",
		"version",
		"files of xl 4.5",
		"xl's header in front has a known byte order and flags, and does not announce a libxl stream.",
		"Use the tools of the version that wrote it.",
	),
	p2mSize: formatRule(
		"XLU-O004",
		"refused",
		HEADER,
		"p2m_size fits the 28 bits of a PFN, and is not 0 for a PV guest.",
		"Check --width: a size read with the other width is off by a factor of 2^32.",
	),
	extendedInfo: formatRule(
		"XLU-O005",
		"damaged",
		"libxc-migration-stream, 6.2",
		"A PV image has its extended info, which came with Xen 3.0, behind p2m_size.",
		"Check --width and --guest-type. Images older than that cannot be converted.",
	),
	blocks: formatRule(
		"XLU-O006",
		"damaged",
		HEADER,
		"The blocks of the extended info fill its length exactly, which is at most 64 KiB.",
		"The image is damaged: look for another copy.",
	),
	blockKnown: formatRule(
		"XLU-O007",
		"version",
		HEADER,
		"The blocks of the extended info are vcpu, extv and xcnt.",
		"A toolstack with extensions of its own wrote it: use that one's converter.",
	),
	vcpuBlock: formatRule(
		"XLU-O008",
		"damaged",
		HEADER,
		"The block vcpu is there, with the 2800 octets of a 32-bit context or the 5168 of a 64-bit one.",
		"Without it neither the guest's width nor the length of its contexts is known.",
	),
	blockOnce: formatRule(
		"XLU-O009",
		"refused",
		HEADER,
		"No block of the extended info comes twice.",
		"Which of the two holds nobody can say; the converter of Xen would write X86_PV_INFO twice.",
	),
	blockLength: formatRule(
		"XLU-O010",
		"strict",
		HEADER,
		"extv has no data, xcnt has 4 octets.",
		"What is surplus is ignored by every reader.",
	),
	xsaveLength: formatRule(
		"XLU-O011",
		"damaged",
		PEER,
		"xcnt says 0, or 16 and the octets of an xsave area, at most 1 MiB; each vCPU's area has just that size.",
		"The image is damaged: look for another copy.",
	),
	chunkKnown: formatRule(
		"XLU-O012",
		"version",
		HEADER,
		"Chunk types are those of Xen 4.5: a count, 0, or -1 to -20.",
		"Check --width and --guest-type; else the image is damaged or of a toolstack with extensions.",
	),
	batch: formatRule(
		"XLU-O013",
		"damaged",
		"xg_save_restore.h of Xen 4.5, MAX_BATCH_SIZE",
		"A chunk has at most 1024 pages.",
		"Check --width and --guest-type; else the image is damaged.",
	),
	supported: formatRule(
		"XLU-O014",
		"version",
		PEER,
		"No transcendent memory (TMEM) and no compressed pages.",
		"Restore it with Xen 4.5 and save it without Remus compression or tmem.",
	),
	pageType: formatRule(
		"XLU-O015",
		"refused",
		"libxc-migration-stream, 4.2",
		"Page types are known: none of 5 to 8.",
		"A receiver of the converted image would refuse it.",
	),
	entryBits: formatRule(
		"XLU-O016",
		"refused",
		HEADER,
		"Bits 63-32 of a page's entry are zero.",
		"Xen's converter drops them and would send the page to another frame: check --width.",
	),
	pfnBelow: formatRule(
		"XLU-O017",
		"warning",
		HEADER,
		"PFNs are below p2m_size.",
		"Frames may have been added while the guest was saved; else the image is damaged.",
	),
	vcpuLimit: formatRule(
		"XLU-O018",
		"damaged",
		"xg_save_restore.h of Xen 4.5, XC_SR_MAX_VCPUS",
		`The highest vCPU id of VCPU_INFO is below ${LEGACY_VCPU_LIMIT}.`,
		"The image is damaged: look for another copy.",
	),
	vcpuBits: formatRule(
		"XLU-O019",
		"refused",
		HEADER,
		"VCPU_INFO marks no vCPU above its highest id as online.",
		"Readers do not agree on how many contexts follow.",
	),
	vcpusKnown: formatRule(
		"XLU-O020",
		"refused",
		HEADER,
		"A PV image has VCPU_INFO, with at least one vCPU online.",
		"Xen's converter would take contexts for the shared info page and write a guest without vCPUs.",
	),
	hvmOnly: formatRule(
		"XLU-O021",
		"refused",
		PEER,
		"Chunks with HVM parameters stand in HVM images alone.",
		"Check --guest-type.",
	),
	chunkOnce: formatRule(
		"XLU-O022",
		"strict",
		HEADER,
		"Between two ends of chunks VCPU_INFO, TSC_INFO, TOOLSTACK and each HVM parameter come once.",
		"The last one counts.",
	),
	chunkPadding: formatRule(
		"XLU-O023",
		"strict",
		HEADER,
		"The padding in front of an HVM parameter's value is zero.",
		"Nobody reads it; it is lost when the image is converted.",
	),
	blobLimit: formatRule(
		"XLU-O024",
		"refused",
		"limit of this program",
		"HVM context, device model's state and toolstack data have at most 64 MiB each.",
		"No guest's are larger; the length is probably damaged.",
	),
	toolstack: formatRule(
		"XLU-O025",
		"warning",
		PEER,
		"TOOLSTACK holds libxl's physical map, version 1, each region with a name that ends in NUL.",
		"An image for libxc alone leaves it out; a libxl stream cannot be made of it.",
	),
	qemuKnown: formatRule(
		"XLU-O026",
		"damaged",
		HEADER,
		"The device model's record has a known signature.",
		"What follows the HVM context is something else: convert with skipQemu to leave it out.",
	),
	qemuConvertible: formatRule(
		"XLU-O027",
		"version",
		PEER,
		"A device model's record that is to be converted is DeviceModelRecord0002.",
		"QEMU traditional and Remus wrote the others: convert with skipQemu, or restore and save with Xen 4.5.",
	),
	qemuThere: formatRule(
		"XLU-O028",
		"strict",
		HEADER,
		"A device model's record follows an HVM guest's context.",
		"An image that libxc wrote alone has none: convert with skipQemu.",
	),
	trailing: formatRule(
		"XLU-O029",
		"warning",
		PEER,
		"Nothing follows the image.",
		"xl's own protocol, for instance, in a recorded migration. It is not converted.",
	),
	checkpoints: formatRule(
		"XLU-O030",
		"warning",
		HEADER,
		"The image holds one state of its guest, no row of checkpoints.",
		"The last one counts. Xen's converter takes the first one and drops the others; checkpoints: first does so too.",
	),
	unmapped: formatRule(
		"XLU-O031",
		"damaged",
		HEADER,
		"Not more unmapped PFNs than p2m_size.",
		"Check --width; else the image is damaged.",
	),
	ioreqPair: formatRule(
		"XLU-O032",
		"strict",
		"xg_save_restore.h of Xen 4.5, comment on the chunk types",
		"HVM_IOREQ_SERVER_PFN and HVM_NR_IOREQ_SERVER_PAGES come together.",
		"A receiver cannot set up I/O servers from one of them.",
	),
	verifyMode: formatRule(
		"XLU-O033",
		"warning",
		HEADER,
		"No pages are sent a second time for debugging (ENABLE_VERIFY_MODE).",
		"The converted image has them twice, which is harmless.",
	),
	contextThere: formatRule(
		"XLU-O034",
		"refused",
		"verify-stream-v2 of Xen 4.17, observed",
		"The HVM context is not empty.",
		"A guest without the state of its vCPUs cannot go on: look for another copy.",
	),
} as const satisfies Record<string, FormatRule>;

/** Chunks of which a second one replaces the first. */
const ONCE: readonly number[] = [
	LEGACY_CHUNK.VCPU_INFO,
	LEGACY_CHUNK.TSC_INFO,
	LEGACY_CHUNK.TOOLSTACK,
	...legacyParams.keys(),
];

const R = legacyRules;

/** Looks at each part as it comes; keeps what later parts are held against. */
export class LegacyChecks {
	readonly #findings: Findings;
	#p2mSize = 0;
	#isHvm = false;
	#hasVcpuInfo = false;
	#online = 0;
	#seen = new Set<number>();

	constructor(findings: Findings) {
		this.#findings = findings;
	}

	see(part: LegacyPart): void {
		const { body } = part;
		switch (body.kind) {
			case "header":
				this.#p2mSize = Number(body.p2mSize);
				this.#isHvm = body.guestType === "hvm";
				return;
			case "extendedInfo":
				this.#extendedInfo(part, body.blocks);
				return;
			case "pages":
				this.#pages(part, body.low, body.high);
				return;
			case "vcpuInfo":
				this.#vcpuInfo(part, body.maxId, body.online);
				break;
			case "param":
				if (!this.#isHvm) this.#report(R.hvmOnly, part, "no HVM parameter in a PV image", part.name);
				if (body.padding !== 0) this.#report(R.chunkPadding, part, "0", hex(body.padding), "padding");
				break;
			case "toolstack": {
				const { problem } = readToolstack(body.data, body.width);
				if (problem) this.#report(R.toolstack, part, problem.expected, problem.got);
				break;
			}
			case "hvmContext":
				if (body.data.length === 0) this.#report(R.contextThere, part, "a context", "no octets", "length");
				return;
			case "marker":
				if (part.name === "ENABLE_VERIFY_MODE")
					this.#report(R.verifyMode, part, "no debugging pages", "a second row of pages");
				return;
			case "end":
				this.#end(part);
				return;
			default:
		}
		if (part.type === null) return;
		const type = part.type | 0;
		if (this.#seen.has(type)) this.#report(R.chunkOnce, part, `one ${part.name}`, "a second one");
		if (ONCE.includes(type)) this.#seen.add(type);
	}

	#report(rule: FormatRule, part: LegacyPart, expected: string, got: string, field?: string): void {
		const place = { layer: "legacy" as const, record: part.name, offset: part.offset };
		this.#findings.report(rule, field === undefined ? place : { ...place, field }, expected, got);
	}

	#extendedInfo(part: LegacyPart, blocks: readonly { id: string; data: Uint8Array }[]): void {
		for (const id of EXTENDED_BLOCKS) {
			const found = blocks.filter((block) => block.id === id);
			if (found.length > 1) this.#report(R.blockOnce, part, `one ${id}`, `${found.length}`, id);
			const expected = { vcpu: undefined, extv: 0, xcnt: 4 }[id];
			const length = found[0]?.data.length;
			if (expected !== undefined && length !== undefined && length !== expected) {
				this.#report(R.blockLength, part, `${expected} octets`, `${length}`, id);
			}
		}
	}

	/** One finding a chunk and rule: a wrong width would fill the list with a thousand of each. */
	#pages(part: LegacyPart, low: Uint32Array, high: Uint32Array | undefined): void {
		const dirty = high?.findIndex((bits) => bits !== 0) ?? -1;
		if (dirty >= 0) this.#report(R.entryBits, part, "0 in bits 63-32", hex(high?.[dirty] ?? 0), `pfn[${dirty}]`);
		const unknown = low.findIndex((entry) => pageTypeNames[entry >>> TYPE_SHIFT] === undefined);
		if (unknown >= 0) {
			const type = (low[unknown] ?? 0) >>> TYPE_SHIFT;
			this.#report(R.pageType, part, "a known page type", hex(type), `pfn[${unknown}]`);
		}
		const beyond = low.findIndex((entry) => (entry & PFN_MASK) >= this.#p2mSize);
		if (beyond >= 0 && this.#p2mSize <= PFN_LIMIT) {
			const pfn = (low[beyond] ?? 0) & PFN_MASK;
			this.#report(R.pfnBelow, part, `below ${hex(this.#p2mSize)}`, hex(pfn), `pfn[${beyond}]`);
		}
	}

	#vcpuInfo(part: LegacyPart, maxId: number, online: readonly number[]): void {
		this.#hasVcpuInfo = true;
		this.#online = online.length;
		const last = online.at(-1) ?? 0;
		if (last > maxId) this.#report(R.vcpuBits, part, `none above ${maxId}`, `${last}`, "online");
	}

	#end(part: LegacyPart): void {
		if (!this.#isHvm && this.#online === 0) {
			const got = this.#hasVcpuInfo ? "no vCPU online" : "no VCPU_INFO";
			this.#report(R.vcpusKnown, part, "VCPU_INFO with a vCPU online", got);
		}
		const hasPfn = this.#seen.has(LEGACY_CHUNK.HVM_IOREQ_SERVER_PFN);
		const hasCount = this.#seen.has(LEGACY_CHUNK.HVM_NR_IOREQ_SERVER_PAGES);
		if (hasPfn !== hasCount) {
			this.#report(R.ioreqPair, part, "both or none", hasPfn ? "the PFN alone" : "the number of pages alone");
		}
		this.#seen = new Set();
	}
}
