/**
 * Reads a captured host: a directory with the hypervisor's own dumps, the images of its guests and what xl printed,
 * all taken while the guests were held. Yields plain facts; building a hypervisor's state from them is another step.
 *
 * The happy path: read the three dumps that must be there (e, g, q), the optional files, every image; check that the
 * dumps speak of the same domains; match images to domains by UUID.
 *
 * Unhappy paths: XLU_E_IO for what cannot be read, XLU_E_IMAGE for a damaged image, XLU_E_CAPTURE for a missing or
 * damaged dump, dumps that contradict each other or an image, a living guest without an image, an image without
 * its domain.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { XluError } from "../errors.ts";
import { type GuestImage, readGuestImage } from "../formats/guestImage.ts";
import { type CapturedDomainInfo, type DomainDump, parseDomainDump } from "./domains.ts";
import { type CapturedEvents, parseEventDump } from "./events.ts";
import { type CapturedGrantTable, parseGrantDump } from "./grants.ts";
import {
	type CapturedRegisters,
	type CapturedTsc,
	type FreeMemory,
	parseMemoryDump,
	parseRegisterDump,
	parseTscDump,
	parseVmcsDump,
	parseXlConfig,
	parseXlInfo,
	parseXlList,
	parseXlVcpuList,
	type XlInfo,
	type XlVcpu,
} from "./host.ts";

/** A domain of the captured host: all that its dumps and its image say. */
export interface CapturedDomain {
	domid: number;
	/** From the image's configuration or `xl list`. */
	name?: string;
	/** "dom0" is domain 0 whatever its type; "dead" has dying=2 and neither ports nor an image. */
	kind: "dom0" | "guest" | "dead";
	/** Debug key `q`. */
	info: CapturedDomainInfo;
	/** Debug key `e`. */
	events: CapturedEvents;
	/** Debug key `g`: the grants this domain gave. */
	grants: CapturedGrantTable;
	/** Debug key `s`. */
	tsc?: CapturedTsc;
	/** Debug key `v`: MFN of the P2M's root table. HVM and PVH with hardware-assisted paging only. */
	p2mRootMfn?: number;
	/** Every living guest has one; dom0 and dead domains have none. */
	image?: GuestImage;
	/** The image's file name. */
	imageFile?: string;
	/** Simple values of the guest's configuration file, if the capture holds it. */
	config?: Map<string, string>;
}

/** A file of the directory, or one that was looked for. */
export interface CaptureFile {
	name: string;
	/** What it is taken for. */
	kind: "events" | "grants" | "domains" | "dump" | "host" | "config" | "image" | "other";
	present: boolean;
	/** Whether its content went into the facts. */
	used: boolean;
}

/** A captured host. */
export interface CapturedHost {
	/** The directory's own name. */
	name: string;
	/** Absolute path. */
	directory: string;
	/** From `xl info`, or else from the images; undefined if neither says. */
	xenVersion: { major: number; minor: number; extra?: string } | undefined;
	/** Physical CPUs: from `xl info`, or else as many as the vCPUs of the dump show. */
	cpus: number;
	/** The machine's memory in 4 KiB frames, from `xl info` (which rounds to MiB). */
	totalFrames?: number;
	/** Xen's system time when the domains were dumped, nanoseconds. */
	systemTimeNs: bigint;
	/** Frames that domains share by memory sharing. */
	sharedFrames: number;
	/** Ascending by domid. */
	domains: CapturedDomain[];
	/** Registers of dom0's vCPUs (debug key `0`). */
	dom0Registers?: CapturedRegisters[];
	freeMemory?: FreeMemory;
	xlInfo?: XlInfo;
	xlVcpus?: XlVcpu[];
	/** What was found and what was looked for, by name. */
	files: CaptureFile[];
}

interface LoadedImage {
	file: string;
	image: GuestImage;
	uuid: string | undefined;
}

const REQUIRED: Readonly<Record<string, CaptureFile["kind"]>> = {
	"debugkey-e.txt": "events",
	"debugkey-g.txt": "grants",
	"debugkey-q.txt": "domains",
};
const OPTIONAL: Readonly<Record<string, CaptureFile["kind"]>> = {
	"debugkey-0.txt": "dump",
	"debugkey-m.txt": "dump",
	"debugkey-s.txt": "dump",
	"debugkey-v.txt": "dump",
	"xl-info.txt": "host",
	"xl-list-l.json": "host",
	"xl-vcpu-list.txt": "host",
};
const IMAGE_NAME = /\.(?:xlsave|save)(?:\.gz)?$/;
const TEXT_LIMIT_BYTES = 64 << 20;

/** 4 KiB frames of a MiB. */
const FRAMES_PER_MIB = 256;

function captureError(expected: string, got: string, detail: { record?: string; domid?: number } = {}): XluError {
	const place = detail.record === undefined ? "captured host" : detail.record;
	return new XluError("XLU_E_CAPTURE", `${place}: expected ${expected}, got ${got}`, { ...detail, expected, got });
}

function ioError(path: string, cause: unknown): XluError {
	const reason = cause instanceof Error ? cause.message : String(cause);
	return new XluError("XLU_E_IO", `${path} cannot be read: ${reason}`, { record: basename(path), cause });
}

/** The files of a capture, read on demand and noted when they are. */
class CaptureDirectory {
	readonly path: string;
	readonly files = new Map<string, CaptureFile>();

	constructor(directory: string) {
		this.path = resolve(directory);
		for (const [name, kind] of Object.entries({ ...REQUIRED, ...OPTIONAL })) {
			this.files.set(name, { name, kind, present: false, used: false });
		}
		try {
			for (const name of readdirSync(this.path)) {
				// Reading a pipe could wait for ever; a dangling link is no file.
				if (statSync(join(this.path, name), { throwIfNoEntry: false })?.isFile() === true) {
					const kind = this.files.get(name)?.kind ?? CaptureDirectory.#kindOf(name);
					this.files.set(name, { name, kind, present: true, used: false });
				}
			}
		} catch (cause) {
			throw ioError(this.path, cause);
		}
	}

	static #kindOf(name: string): CaptureFile["kind"] {
		if (IMAGE_NAME.test(name)) {
			return "image";
		}
		return name.endsWith(".cfg") ? "config" : "other";
	}

	/** Names of the present files of a kind, sorted. */
	named(kind: CaptureFile["kind"]): string[] {
		const present = [...this.files.values()].filter((file) => file.kind === kind && file.present);
		return present.map((file) => file.name).sort();
	}

	bytes(name: string): Buffer {
		try {
			const data = readFileSync(join(this.path, name));
			const file = this.files.get(name);
			if (file !== undefined) {
				file.used = true;
			}
			return data;
		} catch (cause) {
			throw ioError(join(this.path, name), cause);
		}
	}

	text(name: string): string {
		let size: number;
		try {
			size = statSync(join(this.path, name)).size;
		} catch (cause) {
			throw ioError(join(this.path, name), cause);
		}
		if (size > TEXT_LIMIT_BYTES) {
			throw captureError(`at most ${TEXT_LIMIT_BYTES} octets`, String(size), { record: name });
		}
		return this.bytes(name).toString("utf8");
	}

	required(name: string): string {
		if (this.files.get(name)?.present !== true) {
			throw captureError(`the file ${name} in ${this.path}`, "none", { record: name });
		}
		return this.text(name);
	}

	/** Parses a file if it is there. */
	optional<T>(name: string, parse: (text: string, file: string) => T): T | undefined {
		return this.files.get(name)?.present === true ? parse(this.text(name), name) : undefined;
	}
}

/** The dumps were taken one after the other; they must still speak of the same domains. */
function checkSameDomains(q: DomainDump, e: Map<number, unknown>, g: Map<number, unknown>): void {
	const list = (domids: Iterable<number>): string => [...domids].sort((a, b) => a - b).join(", ");
	const expected = list(q.domains.keys());
	for (const [record, got] of [
		["debugkey-e.txt", list(e.keys())],
		["debugkey-g.txt", list(g.keys())],
	] as const) {
		if (got !== expected) {
			throw captureError(`the domains of debugkey-q.txt (${expected})`, got, { record });
		}
	}
}

function loadImages(directory: CaptureDirectory, configs: Map<string, Map<string, string>>): LoadedImage[] {
	return directory.named("image").map((file) => {
		let image: GuestImage;
		try {
			image = readGuestImage(directory.bytes(file), { file });
		} catch (error) {
			if (error instanceof XluError && error.code === "XLU_E_IMAGE") {
				const { expected, got, field, offset, record } = error;
				const detail = { expected, got, field, offset, record, cause: error };
				throw new XluError("XLU_E_IMAGE", `${file}: ${error.message}`, detail);
			}
			throw error;
		}
		// An image without xl's header has no UUID of its own; the configuration of the same name may have it.
		const stem = file.replace(IMAGE_NAME, "");
		const uuid = image.config?.uuid ?? configs.get(`${stem}.cfg`)?.get("uuid")?.toLowerCase();
		return { file, image, uuid };
	});
}

/** Finds the domain of each image by UUID. */
function matchImages(images: LoadedImage[], domains: Map<number, CapturedDomainInfo>): Map<number, LoadedImage> {
	const matched = new Map<number, LoadedImage>();
	const living = [...domains.values()].filter((domain) => domain.domid !== 0 && domain.dying !== 2);
	const handles = living.map((domain) => `${domain.domid}: ${domain.handle}`).join(", ") || "none";
	for (const loaded of images) {
		const found = living.filter((domain) => domain.handle === loaded.uuid);
		const [domain, second] = found;
		const uuid = loaded.uuid ?? "no UUID";
		if (domain === undefined) {
			throw captureError(`the UUID of a living guest (${handles})`, uuid, { record: loaded.file });
		}
		if (second !== undefined) {
			const both = `domains ${domain.domid} and ${second.domid}`;
			throw captureError(`one domain with handle ${uuid}`, both, { record: loaded.file });
		}
		const other = matched.get(domain.domid);
		if (other !== undefined) {
			const both = `${other.file} and ${loaded.file}`;
			throw captureError(`one image of domain ${domain.domid} (${uuid})`, both, { domid: domain.domid });
		}
		matched.set(domain.domid, loaded);
	}
	for (const domain of living) {
		if (!matched.has(domain.domid)) {
			const wanted = `an image (*.xlsave, *.xlsave.gz) of domain ${domain.domid} with UUID ${domain.handle}`;
			const got = images.map((loaded) => loaded.file).join(", ") || "no image";
			throw captureError(wanted, got, { domid: domain.domid });
		}
	}
	return matched;
}

/** An image must be of the domain that it claims to be. */
function checkImage(info: CapturedDomainInfo, { file, image }: LoadedImage): void {
	const detail = { record: file, domid: info.domid };
	const type = info.pagingAssistance.includes("translate") ? "hvm" : "pv";
	if (image.guestType !== type) {
		throw captureError(`an x86 ${type} image, as debugkey-q.txt shows domain ${info.domid}`, image.guestType, detail);
	}
	const vcpus = image.config?.maxVcpus;
	if (vcpus !== undefined && vcpus !== info.vcpus.length) {
		throw captureError(`${info.vcpus.length} vCPUs, as in debugkey-q.txt`, String(vcpus), detail);
	}
	const stray = [...image.vcpuBasic.keys()].find((id) => !info.vcpus.some((vcpu) => vcpu.id === id));
	if (stray !== undefined) {
		throw captureError(`vCPUs of domain ${info.domid} only`, `vCPU ${stray}`, detail);
	}
}

function versionOf(info: XlInfo | undefined, images: LoadedImage[]): CapturedHost["xenVersion"] {
	let version: CapturedHost["xenVersion"];
	let source = "xl-info.txt";
	if (info?.xenMajor !== undefined && info.xenMinor !== undefined) {
		version = { major: info.xenMajor, minor: info.xenMinor, extra: info.xenExtra };
	}
	for (const { file, image } of images) {
		const { major, minor } = image.xenVersion;
		// Major 0 is a converter's mark, not Xen's version.
		if (major === 0) {
			continue;
		}
		if (version === undefined) {
			version = { major, minor };
			source = file;
		} else if (version.major !== major || version.minor !== minor) {
			const expected = `Xen ${version.major}.${version.minor}, as in ${source}`;
			throw captureError(expected, `Xen ${major}.${minor}`, { record: file });
		}
	}
	return version;
}

/** The highest CPU that any vCPU ran on, plus one. */
function cpusSeen(domains: Map<number, CapturedDomainInfo>): number {
	let cpus = 1;
	for (const domain of domains.values()) {
		for (const vcpu of domain.vcpus) {
			cpus = Math.max(cpus, vcpu.cpu + 1);
		}
	}
	return cpus;
}

function kindOf(info: CapturedDomainInfo): CapturedDomain["kind"] {
	if (info.domid === 0) {
		return "dom0";
	}
	return info.dying === 2 ? "dead" : "guest";
}

/**
 * Reads a captured host.
 *
 * @param directory holds debugkey-e.txt, debugkey-g.txt and debugkey-q.txt, an image (`*.xlsave`, `*.save`, either
 * with `.gz`) of every living guest, and optionally debugkey-{0,m,s,v}.txt, xl-info.txt, xl-list-l.json,
 * xl-vcpu-list.txt and the guests' `*.cfg`
 * @throws XluError XLU_E_IO if something cannot be read; XLU_E_IMAGE if an image is damaged; XLU_E_CAPTURE if a
 * dump is missing or damaged, if e, g and q differ in their domains, if an image matches no living guest or two,
 * if a living guest has no image, or if an image contradicts the dumps (type, vCPUs, version of Xen).
 */
export function readCapture(directory: string): CapturedHost {
	const files = new CaptureDirectory(directory);
	const q = parseDomainDump(files.required("debugkey-q.txt"), "debugkey-q.txt");
	const events = parseEventDump(files.required("debugkey-e.txt"), "debugkey-e.txt");
	const grants = parseGrantDump(files.required("debugkey-g.txt"), "debugkey-g.txt");
	checkSameDomains(q, events, grants);
	if (!q.domains.has(0)) {
		throw captureError("domain 0", "none", { record: "debugkey-q.txt", domid: 0 });
	}
	const tscs = files.optional("debugkey-s.txt", parseTscDump);
	const roots = files.optional("debugkey-v.txt", parseVmcsDump);
	const xlInfo = files.optional("xl-info.txt", parseXlInfo);
	const names = files.optional("xl-list-l.json", parseXlList);
	const configs = new Map(files.named("config").map((name) => [name, parseXlConfig(files.text(name), name)]));
	const images = loadImages(files, configs);
	const matched = matchImages(images, q.domains);
	const domains: CapturedDomain[] = [];
	for (const info of [...q.domains.values()].sort((a, b) => a.domid - b.domid)) {
		const { domid } = info;
		const loaded = matched.get(domid);
		if (loaded !== undefined) {
			checkImage(info, loaded);
		}
		domains.push({
			domid,
			name: loaded?.image.config?.name ?? names?.get(domid)?.name,
			kind: kindOf(info),
			info,
			events: events.get(domid) as CapturedEvents,
			grants: grants.get(domid) as CapturedGrantTable,
			tsc: tscs?.get(domid),
			p2mRootMfn: roots?.get(domid),
			image: loaded?.image,
			imageFile: loaded?.file,
			config: [...configs.values()].find((config) => config.get("uuid")?.toLowerCase() === info.handle),
		});
	}
	const { totalMemoryMb } = xlInfo ?? {};
	return {
		name: basename(files.path),
		directory: files.path,
		xenVersion: versionOf(xlInfo, images),
		cpus: xlInfo?.cpus ?? cpusSeen(q.domains),
		totalFrames: totalMemoryMb === undefined ? undefined : totalMemoryMb * FRAMES_PER_MIB,
		systemTimeNs: q.systemTimeNs,
		sharedFrames: q.sharedFrames,
		domains,
		dom0Registers: files.optional("debugkey-0.txt", parseRegisterDump),
		freeMemory: files.optional("debugkey-m.txt", parseMemoryDump),
		xlInfo,
		xlVcpus: files.optional("xl-vcpu-list.txt", parseXlVcpuList),
		files: [...files.files.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
	};
}
