/** Parser of Xen's domain dump (debug key `q`). */
import { type DumpLine, DumpText } from "./lines.ts";

/** A range of a rangeset, both ends inclusive. 64 bits: I/O memory may reach to the top. */
export interface CapturedRange {
	start: bigint;
	end: bigint;
}

/** A row of a page list. */
export interface CapturedPage {
	mfn: number;
	/** count_info: flags and the reference count, as Xen of that version lays it out. */
	caf: bigint;
	/** type_info: type, flags and the type count. */
	taf: bigint;
}

/** The ranges of one I/O request server. */
export interface CapturedIoreqServer {
	id: number;
	ports: CapturedRange[];
	memory: CapturedRange[];
	/** PCI: segment, bus, device and function as one number. */
	pci: CapturedRange[];
}

export interface CapturedVcpu {
	id: number;
	/** The CPU it runs on or ran on last. */
	cpu: number;
	/** Whether it was running at that moment. */
	running: boolean;
	/** CPUs it may run on and prefers; undefined if the dump does not say. */
	hardAffinity?: number[];
	softAffinity?: number[];
	/** 0, or 1 + the port it polls, or -1 for several. */
	poll: number;
	upcallPending: boolean;
	upcallMask: boolean;
	pauseCount: number;
	pauseFlags: number;
	/** Period of its periodic timer in nanoseconds; 0 for none. The dump rounds it to the unit that it prints. */
	periodicTimerNs: bigint;
	/** "hap, 4 levels" and the like; HVM and PVH only. */
	pagingMode?: string;
}

/** What the dump says of a domain. */
export interface CapturedDomainInfo {
	domid: number;
	refcnt: number;
	/** 0 alive, 1 being destroyed, 2 dead. */
	dying: number;
	pauseCount: number;
	/** Pages without xenheap and extra pages. */
	nrPages: number;
	xenheapPages: number;
	maxPages: number;
	/** CPUs that may hold state of the domain. */
	dirtyCpus: number[];
	/** UUID, lower case. */
	handle: string;
	vmAssist: bigint;
	/** Words of the paging assistance line ("hap refcounts translate external"); empty for a plain PV guest. */
	pagingAssistance: string[];
	/** Every rangeset by the name that the dump gives it. Interrupts are decimal in the dump, all else hexadecimal. */
	rangesets: Map<string, CapturedRange[]>;
	/** The three rangesets that grant access to hardware. */
	interrupts: CapturedRange[];
	ioMemory: CapturedRange[];
	ioPorts: CapturedRange[];
	ioreqServers: CapturedIoreqServer[];
	/** Ordinary pages; undefined if the list was too long to display. */
	domPages: CapturedPage[] | undefined;
	xenPages: CapturedPage[];
	/** Pages allocated for the domain but outside its nr_pages, such as those of an I/O request server. */
	extraPages: CapturedPage[];
	/** Populate on demand; HVM and PVH only. */
	pod?: { entries: number; cacheSize: number };
	nodeAffinity: number[];
	vcpus: CapturedVcpu[];
}

/** The whole dump. */
export interface DomainDump {
	/** Xen's system time in nanoseconds when the key was pressed. */
	systemTimeNs: bigint;
	/** By domid, in the dump's order. */
	domains: Map<number, CapturedDomainInfo>;
	/** Frames that domains share by memory sharing (mem_sharing); 0 if the dump does not say. */
	sharedFrames: number;
}

/** A domain under construction: what must not be missing is still allowed to be. */
interface Draft extends CapturedDomainInfo {
	headerLine: number;
	have: Set<string>;
}

const NEEDED = ["refcnt", "dying", "nr_pages", "max_pages", "handle", "VCPU information"];
const HANDLE = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const PAGE_START = /^\s*(?:DomPage|XenPage|ExtraPage|SharePage)\s/;
const PAGE = /^\s*(\w+)\s+((?:0x)?[0-9a-f]{1,16}):\s*caf=((?:0x)?[0-9a-f]{1,16}),\s*taf=((?:0x)?[0-9a-f]{1,16})\s*$/i;
/** No domain has as many vCPUs (Xen's MAX_VIRT_CPUS). */
const VCPU_LIMIT = 8192;
const VCPU = new RegExp(
	String.raw`^VCPU(\d{1,5}): CPU(\d{1,5}) \[has=([TF])\] poll=(-?\d{1,9}) ` +
		"upcall_pend=([0-9a-f]{1,2}) upcall_mask=([0-9a-f]{1,2})",
);
const TIMER = /periodic timer \(period (\d{1,15}) ?(ns|us|ms|s)\)/;
const UNITS: Readonly<Record<string, bigint>> = { ns: 1n, us: 1000n, ms: 1_000_000n, s: 1_000_000_000n };

class DomainParser {
	readonly #dump: DumpText;
	readonly domains = new Map<number, Draft>();
	#domain: Draft | undefined;
	#vcpu: CapturedVcpu | undefined;
	/** A UNIT's affinities hold for the vCPUs that follow it. */
	#affinity: { hard?: number[]; soft?: number[] } = {};
	#inRangesets = false;

	constructor(dump: DumpText) {
		this.#dump = dump;
	}

	read(row: DumpLine): void {
		const { text } = row;
		if (text.startsWith("General information for domain")) {
			this.#begin(row);
			return;
		}
		const domain = this.#domain;
		if (domain === undefined) {
			return;
		}
		if (/^(?:Rangesets|Memory pages) belonging to domain|^NODE affinity for domain|^VCPU information/.test(text)) {
			this.#section(row, domain);
			return;
		}
		if (this.#inRangesets && text.includes("{")) {
			this.#rangeset(row, domain);
			return;
		}
		const trimmed = text.trimStart();
		if (trimmed.startsWith("refcnt=") || trimmed.startsWith("nr_pages=") || trimmed.startsWith("handle=")) {
			this.#facts(row, domain);
			return;
		}
		if (PAGE_START.test(text)) {
			this.#page(row, domain);
			return;
		}
		if (trimmed.startsWith("PoD entries=")) {
			const match = /^PoD entries=(\d+) cachesize=(\d+)/.exec(trimmed);
			if (match === null) {
				throw this.#dump.badRow(row, "`PoD entries=N cachesize=N`");
			}
			const entries = this.#dump.decimal(match[1], row, "PoD entries");
			domain.pod = { entries, cacheSize: this.#dump.decimal(match[2], row, "cachesize") };
			return;
		}
		if (trimmed.startsWith("paging assistance:")) {
			this.#paging(trimmed, domain);
			return;
		}
		this.#vcpuLine(row, trimmed, domain);
	}

	#begin(row: DumpLine): void {
		const digits = /^General information for domain (\d+):?\s*$/.exec(row.text)?.[1];
		const domid = this.#dump.domid(digits, row);
		if (this.domains.has(domid)) {
			throw this.#dump.fail(row.line, `domain ${domid} once`, "a second time");
		}
		this.#domain = {
			domid,
			refcnt: 0,
			dying: 0,
			pauseCount: 0,
			nrPages: 0,
			xenheapPages: 0,
			maxPages: 0,
			dirtyCpus: [],
			handle: "",
			vmAssist: 0n,
			pagingAssistance: [],
			rangesets: new Map(),
			interrupts: [],
			ioMemory: [],
			ioPorts: [],
			ioreqServers: [],
			domPages: [],
			xenPages: [],
			extraPages: [],
			nodeAffinity: [],
			vcpus: [],
			headerLine: row.line,
			have: new Set(),
		};
		this.domains.set(domid, this.#domain);
		this.#vcpu = undefined;
		this.#affinity = {};
		this.#inRangesets = false;
	}

	#section(row: DumpLine, domain: Draft): void {
		this.#inRangesets = row.text.startsWith("Rangesets");
		const digits = /domain (\d+):/.exec(row.text)?.[1];
		if (this.#dump.domid(digits, row) !== domain.domid) {
			throw this.#dump.badRow(row, `a section of domain ${domain.domid}`);
		}
		if (row.text.startsWith("NODE")) {
			const list = /: \[([^[\]]*)\]/.exec(row.text)?.[1];
			if (list === undefined) {
				throw this.#dump.badRow(row, "a set of nodes in brackets");
			}
			domain.nodeAffinity = this.#dump.cpuSet(list, row);
		} else if (row.text.startsWith("VCPU")) {
			domain.have.add("VCPU information");
		}
	}

	/** Lines of `key=value`, of which versions print more or fewer. */
	#facts(row: DumpLine, domain: Draft): void {
		const dump = this.#dump;
		for (const [, key = "", value = ""] of row.text.matchAll(/([a-z_]{1,32})=(\{[^{}]*\}|[^\s{]+)/g)) {
			domain.have.add(key);
			switch (key) {
				case "refcnt":
					domain.refcnt = dump.decimal(value, row, key);
					break;
				case "dying":
					domain.dying = dump.decimal(value, row, key);
					break;
				case "pause_count":
					domain.pauseCount = dump.unsigned(value, row, key);
					break;
				case "nr_pages":
					domain.nrPages = dump.decimal(value, row, key);
					break;
				case "xenheap_pages":
					domain.xenheapPages = dump.decimal(value, row, key);
					break;
				case "max_pages":
					// A guest without a limit prints 4294967295, its -1.
					domain.maxPages = dump.decimal(value, row, key);
					break;
				case "dirty_cpus":
					domain.dirtyCpus = dump.cpuSet(value.slice(1, -1), row);
					break;
				case "handle":
					if (!HANDLE.test(value)) {
						throw dump.badRow(row, "handle=, a UUID");
					}
					domain.handle = value.toLowerCase();
					break;
				case "vm_assist":
					domain.vmAssist = dump.hexadecimal(value, row, key);
					break;
				default:
			}
		}
	}

	#rangeset(row: DumpLine, domain: Draft): void {
		const dump = this.#dump;
		const open = row.text.indexOf("{");
		const close = row.text.lastIndexOf("}");
		const name = row.text.slice(0, open).trim();
		if (close < open || name === "") {
			throw dump.badRow(row, "a rangeset like `I/O Ports { 0-1f, 60 }`");
		}
		if (domain.rangesets.has(name)) {
			throw dump.fail(row.line, `the rangeset ${name} once`, "a second time");
		}
		const ranges: CapturedRange[] = [];
		const list = row.text.slice(open + 1, close).trim();
		for (const part of list === "" ? [] : list.split(",")) {
			const [first, last, ...more] = part.trim().split("-");
			const bound = (digits: string | undefined): bigint =>
				name === "Interrupts"
					? BigInt(dump.decimal(digits, row, "an interrupt"))
					: dump.hexadecimal(digits, row, "a bound of a range");
			const start = bound(first);
			const end = last === undefined ? start : bound(last);
			if (more.length > 0 || start < 0n || end < start || start <= (ranges.at(-1)?.end ?? -1n)) {
				throw dump.fail(row.line, "ascending ranges", JSON.stringify(part.trim()));
			}
			ranges.push({ start, end });
		}
		domain.rangesets.set(name, ranges);
		this.#nameRangeset(row, domain, name, ranges);
	}

	#nameRangeset(row: DumpLine, domain: Draft, name: string, ranges: CapturedRange[]): void {
		if (name === "Interrupts") {
			domain.interrupts = ranges;
		} else if (name === "I/O Memory") {
			domain.ioMemory = ranges;
		} else if (name === "I/O Ports") {
			domain.ioPorts = ranges;
		} else if (name.startsWith("ioreq_server")) {
			const match = /^ioreq_server (\d{1,5}) (port|memory|pci)$/.exec(name);
			if (match === null) {
				throw this.#dump.badRow(row, "`ioreq_server N port`, memory or pci");
			}
			const id = Number(match[1]);
			let server = domain.ioreqServers.find((candidate) => candidate.id === id);
			if (server === undefined) {
				server = { id, ports: [], memory: [], pci: [] };
				domain.ioreqServers.push(server);
			}
			server[match[2] === "port" ? "ports" : (match[2] as "memory" | "pci")] = ranges;
		}
	}

	#page(row: DumpLine, domain: Draft): void {
		if (/list too long to display/.test(row.text)) {
			domain.domPages = undefined;
			return;
		}
		const match = PAGE.exec(row.text);
		if (match === null) {
			throw this.#dump.badRow(row, "a page like `XenPage 00000000000b8e80: caf=c000000000000002, taf=e4...`");
		}
		const page: CapturedPage = {
			mfn: this.#dump.hexNumber(match[2], row, "an MFN"),
			caf: this.#dump.hexadecimal(match[3], row, "caf"),
			taf: this.#dump.hexadecimal(match[4], row, "taf"),
		};
		if (match[1] === "DomPage") {
			domain.domPages?.push(page);
		} else if (match[1] === "XenPage") {
			domain.xenPages.push(page);
		} else if (match[1] === "ExtraPage") {
			domain.extraPages.push(page);
		}
	}

	#paging(text: string, domain: Draft): void {
		const words = text.slice("paging assistance:".length).trim();
		if (this.#vcpu === undefined) {
			domain.pagingAssistance = words === "" ? [] : words.split(/\s+/);
		} else {
			this.#vcpu.pagingMode = words;
		}
	}

	#vcpuLine(row: DumpLine, text: string, domain: Draft): void {
		const dump = this.#dump;
		const hard = /(?:\bhard|cpu_hard_affinity)=\{([^{}]*)\}/.exec(text)?.[1];
		const soft = /(?:\bsoft|cpu_soft_affinity)=\{([^{}]*)\}/.exec(text)?.[1];
		if (/^UNIT\d/.test(text)) {
			if (hard === undefined || soft === undefined) {
				throw dump.badRow(row, "`UNITn affinities: hard={..} soft={..}`");
			}
			this.#affinity = { hard: dump.cpuSet(hard, row), soft: dump.cpuSet(soft, row) };
		} else if (/^VCPU\d/.test(text)) {
			this.#beginVcpu(row, text, domain);
		} else if (this.#vcpu !== undefined) {
			if (text.startsWith("pause_count=")) {
				const match = /^pause_count=(\d+) pause_flags=([0-9a-f]+)/.exec(text);
				this.#vcpu.pauseCount = dump.unsigned(match?.[1], row, "pause_count");
				this.#vcpu.pauseFlags = dump.hexNumber(match?.[2], row, "pause_flags");
			} else if (hard !== undefined) {
				// Before scheduling units (Xen 4.12 and older) each vCPU had its own line.
				this.#vcpu.hardAffinity = dump.cpuSet(hard, row);
				this.#vcpu.softAffinity = dump.cpuSet(soft ?? "", row);
			} else if (text.includes("periodic timer (")) {
				const match = TIMER.exec(text);
				if (match === null) {
					throw dump.badRow(row, "`periodic timer (period N ms)`");
				}
				this.#vcpu.periodicTimerNs = BigInt(match[1] ?? 0) * (UNITS[match[2] ?? "ns"] ?? 1n);
			}
		}
	}

	#beginVcpu(row: DumpLine, text: string, domain: Draft): void {
		const match = VCPU.exec(text);
		if (match === null) {
			throw this.#dump.badRow(row, "`VCPUn: CPUn [has=F] poll=N upcall_pend=NN upcall_mask=NN`");
		}
		const id = Number(match[1]);
		if (id >= VCPU_LIMIT) {
			throw this.#dump.fail(row.line, `a vCPU below ${VCPU_LIMIT}`, String(id));
		}
		if (id <= (domain.vcpus.at(-1)?.id ?? -1)) {
			throw this.#dump.fail(row.line, `a vCPU above ${domain.vcpus.at(-1)?.id}`, String(id));
		}
		this.#vcpu = {
			id,
			cpu: Number(match[2]),
			running: match[3] === "T",
			hardAffinity: this.#affinity.hard,
			softAffinity: this.#affinity.soft,
			poll: Number(match[4]),
			upcallPending: Number.parseInt(match[5] ?? "0", 16) !== 0,
			upcallMask: Number.parseInt(match[6] ?? "0", 16) !== 0,
			pauseCount: 0,
			pauseFlags: 0,
			periodicTimerNs: 0n,
		};
		domain.vcpus.push(this.#vcpu);
	}
}

/** Page lists show themselves incomplete: the counts of the same dump say how long they are. */
function checkCounts(dump: DumpText, domain: Draft): void {
	const missing = NEEDED.filter((key) => !domain.have.has(key));
	if (missing.length > 0) {
		throw dump.fail(domain.headerLine, `${missing.join(", ")} of domain ${domain.domid}`, "none");
	}
	const lists: [string, number, CapturedPage[] | undefined][] = [
		["DomPage", domain.nrPages, domain.domPages],
		["XenPage", domain.xenheapPages, domain.xenPages],
	];
	for (const [name, count, pages] of lists) {
		if (pages !== undefined && pages.length !== count) {
			throw dump.fail(domain.headerLine, `${count} ${name} rows of domain ${domain.domid}`, String(pages.length));
		}
	}
}

/**
 * Parses the output of debug key `q`.
 *
 * @throws XluError XLU_E_CAPTURE with file, line, expected and got: a row that cannot be parsed, a domain twice or
 * without what every domain has, a page list that is not as long as its count, or no domain at all.
 */
export function parseDomainDump(text: string, file = "debugkey-q.txt"): DomainDump {
	const dump = new DumpText(text, file);
	const parser = new DomainParser(dump);
	let systemTimeNs: bigint | undefined;
	let sharedFrames = 0;
	for (const row of dump.lines()) {
		if (systemTimeNs === undefined && row.text.includes("dumping domain info")) {
			const digits = /\(now ?= ?(\d{1,18})\)|now=0x([0-9a-f]{1,16})/i.exec(row.text);
			if (digits === null) {
				throw dump.badRow(row, "`dumping domain info (now = NANOSECONDS)`");
			}
			systemTimeNs = BigInt(digits[1] ?? `0x${digits[2]}`);
			continue;
		}
		const shared = /^Shared frames (\d{1,15}) /.exec(row.text);
		if (shared !== null) {
			sharedFrames = dump.decimal(shared[1], row, "shared frames");
			continue;
		}
		parser.read(row);
	}
	if (parser.domains.size === 0 || systemTimeNs === undefined) {
		const expected =
			systemTimeNs === undefined ? "`dumping domain info (now = N)`" : "`General information for domain`";
		throw dump.fail(dump.lastLine, expected, "none in the file");
	}
	const domains = new Map<number, CapturedDomainInfo>();
	for (const draft of parser.domains.values()) {
		checkCounts(dump, draft);
		const { headerLine: _line, have: _have, ...domain } = draft;
		domains.set(domain.domid, domain);
	}
	return { systemTimeNs, domains, sharedFrames };
}
