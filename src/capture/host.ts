/**
 * Parsers of the smaller dumps of a host (debug keys m, 0, s, v) and of what the xl tool prints. All of these files
 * are optional in a capture.
 */
import { type DumpLine, DumpText } from "./lines.ts";

/** Debug key `m`: free memory in KiB. */
export interface FreeMemory {
	xenHeapKb?: number;
	domHeapKb?: number;
	/** By zone: frames of 2^zone octets and above. */
	zonesKb: Map<number, number>;
}

/** Registers of one vCPU of dom0 (debug key `0`). */
export interface CapturedRegisters {
	vcpu: number;
	/** "pv guest (d0v0)" or "hvm guest (d0v0)". */
	context?: string;
	/** Lower case: rax .. r15, rip, rflags, cr0, cr2, cr3, cr4, fsb, gsb, gss, cs, ds, es, fs, gs, ss. */
	registers: Map<string, bigint>;
}

/** TSC of a domain (debug key `s`); dom0's is not dumped unless it is special. */
export interface CapturedTsc {
	/** TSC_MODE_* */
	mode: number;
	/** Offset in TSC ticks or nanoseconds as Xen keeps it; 64 bits, may stand for a negative number. */
	offset: bigint;
	khz?: number;
	incarnation?: number;
}

/** `xl info`. */
export interface XlInfo {
	cpus?: number;
	/** MiB. */
	totalMemoryMb?: number;
	freeMemoryMb?: number;
	cpuMhz?: number;
	xenMajor?: number;
	xenMinor?: number;
	xenExtra?: string;
	xenCaps: string[];
	virtCaps: string[];
	/** Every line. */
	fields: Map<string, string>;
}

/** A row of `xl vcpu-list`. */
export interface XlVcpu {
	name: string;
	domid: number;
	vcpu: number;
	/** undefined for a vCPU that is not online. */
	cpu?: number;
	hard: string;
	soft: string;
}

/** Parses debug key `m`. */
export function parseMemoryDump(text: string, file = "debugkey-m.txt"): FreeMemory {
	const dump = new DumpText(text, file);
	const memory: FreeMemory = { zonesKb: new Map() };
	for (const row of dump.lines()) {
		const match = /^\s*(Xen heap|Dom heap|heap\[(\d{1,3})\])(?: *\([^)]*\))?: *(.*)$/.exec(row.text);
		if (match === null) {
			continue;
		}
		const freeKb = dump.decimal(/^(\d+)kB free/.exec(match[3] ?? "")?.[1], row, "kB free");
		if (match[2] !== undefined) {
			memory.zonesKb.set(Number(match[2]), freeKb);
		} else if (match[1] === "Xen heap") {
			memory.xenHeapKb = freeKb;
		} else {
			memory.domHeapKb = freeKb;
		}
	}
	return memory;
}

/** Xen is built for no more CPUs. */
const CPU_LIMIT = 16384;

const REGISTER =
	/\b(r[a-z0-9]{1,2}|cr[0-8]|fsb|gsb|gss|[c-gs]s|[RE]FLAGS|[RE]IP):\s+(?:([0-9a-f]{4}):\[<)?([0-9a-f]{4,16})\b/gi;
const NEEDED_REGISTERS = ["rip", "rflags", "rax", "rsp", "cr3", "cs", "ss"];

function registersOf(row: DumpLine, into: CapturedRegisters): void {
	for (const [, name = "", segment, digits = ""] of row.text.matchAll(REGISTER)) {
		into.registers.set(name.toLowerCase(), BigInt(`0x${digits}`));
		if (segment !== undefined && !into.registers.has("cs")) {
			into.registers.set("cs", BigInt(`0x${segment}`));
		}
	}
	const context = /CONTEXT: (.*)$/.exec(row.text)?.[1];
	if (context !== undefined) {
		into.context = context.trim();
	}
}

/**
 * Parses debug key `0`: one block per vCPU of dom0.
 *
 * @throws XluError XLU_E_CAPTURE if a vCPU lacks one of the registers that are always printed, or comes twice.
 */
export function parseRegisterDump(text: string, file = "debugkey-0.txt"): CapturedRegisters[] {
	const dump = new DumpText(text, file);
	const vcpus: (CapturedRegisters & { line: number })[] = [];
	let open = false;
	for (const row of dump.lines()) {
		if (/^\*+ Dumping Dom0 vcpu/i.test(row.text)) {
			const digits = /vcpu#(\d{1,5})/i.exec(row.text)?.[1];
			const vcpu = dump.decimal(digits, row, "a vCPU");
			if (vcpus.some((other) => other.vcpu === vcpu)) {
				throw dump.fail(row.line, `vCPU ${vcpu} once`, "a second time");
			}
			vcpus.push({ vcpu, registers: new Map(), line: row.line });
			open = true;
		} else if (/^\s*(?:Guest stack|Xen stack|Stack|Guest code|Xen code)/i.test(row.text)) {
			open = false;
		}
		const current = vcpus.at(-1);
		if (open && current !== undefined) {
			registersOf(row, current);
		}
	}
	for (const { vcpu, registers, line } of vcpus) {
		const missing = NEEDED_REGISTERS.filter((name) => !registers.has(name));
		if (missing.length > 0) {
			throw dump.fail(line, `${missing.join(", ")} of vCPU ${vcpu}`, "none");
		}
	}
	return vcpus.map(({ line: _line, ...vcpu }) => vcpu);
}

/** Parses debug key `s`: by domid. */
export function parseTscDump(text: string, file = "debugkey-s.txt"): Map<number, CapturedTsc> {
	const dump = new DumpText(text, file);
	const domains = new Map<number, CapturedTsc>();
	for (const row of dump.lines()) {
		if (!/^dom\d+/.test(row.text)) {
			continue;
		}
		const match =
			/^dom(\d{1,5})(?:\([a-z]+\))?: mode=(\d+)(?:\([^)]*\))?,\s*ofs=(0x[0-9a-f]{1,16}|0)(?:,\s*(.*))?$/i.exec(
				row.text,
			);
		if (match === null) {
			throw dump.badRow(row, "`domN: mode=N,ofs=0xN,khz=N,inc=N`");
		}
		const domid = dump.domid(match[1], row);
		if (domains.has(domid)) {
			throw dump.fail(row.line, `domain ${domid} once`, "a second time");
		}
		const rest = match[4] ?? "";
		const khz = /\bkhz=(\d+)/.exec(rest)?.[1];
		const incarnation = /\binc=(\d+)/.exec(rest)?.[1];
		domains.set(domid, {
			mode: dump.decimal(match[2], row, "mode"),
			offset: dump.hexadecimal(match[3], row, "ofs"),
			khz: khz === undefined ? undefined : dump.decimal(khz, row, "khz"),
			incarnation: incarnation === undefined ? undefined : dump.decimal(incarnation, row, "inc"),
		});
	}
	return domains;
}

/** Bits 51-12 of H_CR3 (SVM) or of the EPT pointer (VMX). */
const ROOT_MASK = 0x000ffffffffff000n;

/**
 * Parses debug key `v`: the MFN of each HVM domain's P2M root table, from H_CR3 (SVM) or the EPT pointer (VMX) of the
 * first vCPU that has one. Later ones may be on another view (altp2m), so they are not compared.
 */
export function parseVmcsDump(text: string, file = "debugkey-v.txt"): Map<number, number> {
	const dump = new DumpText(text, file);
	const roots = new Map<number, number>();
	let domid: number | undefined;
	for (const row of dump.lines()) {
		const header = /^>>> Domain (\d+) <<</.exec(row.text);
		if (header !== null) {
			domid = dump.domid(header[1], row);
		}
		const root = /(?:\bH_CR3\s*=|\bEPT pointer\s*=)\s*(\S+)/i.exec(row.text)?.[1];
		if (root === undefined) {
			continue;
		}
		if (domid === undefined) {
			throw dump.badRow(row, "`>>> Domain N <<<` before the first control block");
		}
		if (!roots.has(domid)) {
			roots.set(domid, Number((dump.hexadecimal(root, row, "a P2M root") & ROOT_MASK) >> 12n));
		}
	}
	return roots;
}

/** Parses `xl info`. Lines of another shape are ignored. */
export function parseXlInfo(text: string, file = "xl-info.txt"): XlInfo {
	const dump = new DumpText(text, file);
	const fields = new Map<string, string>();
	const rows = new Map<string, DumpLine>();
	for (const row of dump.lines()) {
		const at = row.text.indexOf(":");
		const key = row.text.slice(0, Math.max(at, 0)).trim();
		if (/^\w+$/.test(key) && !fields.has(key)) {
			fields.set(key, row.text.slice(at + 1).trim());
			rows.set(key, row);
		}
	}
	const number = (key: string): number | undefined => {
		const row = rows.get(key);
		const value = row === undefined ? undefined : dump.decimal(fields.get(key), row, key);
		if (row !== undefined && value !== undefined && value < 0) {
			throw dump.badRow(row, `${key}, not below 0`);
		}
		return value;
	};
	const words = (key: string): string[] => (fields.get(key) ?? "").split(/\s+/).filter((word) => word !== "");
	const cpuMhz = Number.parseFloat(fields.get("cpu_mhz") ?? "");
	const info: XlInfo = { xenCaps: words("xen_caps"), virtCaps: words("virt_caps"), fields };
	info.cpus = number("nr_cpus");
	if (info.cpus !== undefined && (info.cpus === 0 || info.cpus > CPU_LIMIT)) {
		throw dump.badRow(rows.get("nr_cpus") as DumpLine, `nr_cpus, 1 to ${CPU_LIMIT}`);
	}
	info.totalMemoryMb = number("total_memory");
	info.freeMemoryMb = number("free_memory");
	info.cpuMhz = Number.isFinite(cpuMhz) ? cpuMhz : undefined;
	info.xenMajor = number("xen_major");
	info.xenMinor = number("xen_minor");
	info.xenExtra = fields.get("xen_extra");
	return info;
}

/** Parses a domain's configuration file as far as it is simple: `key = number` and `key = "text"`. */
export function parseXlConfig(text: string, file = "domain.cfg"): Map<string, string> {
	const values = new Map<string, string>();
	for (const { text: line } of new DumpText(text, file).lines()) {
		const match = /^\s*(\w+)\s*=\s*(?:"([^"]*)"|'([^']*)'|(-?\w+))\s*(?:#.*)?$/.exec(line);
		const value = match?.[2] ?? match?.[3] ?? match?.[4];
		if (match?.[1] !== undefined && value !== undefined) {
			values.set(match[1], value);
		}
	}
	return values;
}

/** Parses `xl list -l`: names by domid. */
export function parseXlList(text: string, file = "xl-list-l.json"): Map<number, { name?: string; uuid?: string }> {
	const dump = new DumpText("", file);
	let parsed: unknown;
	try {
		parsed = JSON.parse(text);
	} catch (cause) {
		throw dump.fail(1, "JSON", cause instanceof Error ? cause.message : "something else", cause);
	}
	if (!Array.isArray(parsed)) {
		throw dump.fail(1, "a list of domains", "another value");
	}
	const domains = new Map<number, { name?: string; uuid?: string }>();
	for (const entry of parsed as unknown[]) {
		const { domid, config } = (entry ?? {}) as { domid?: unknown; config?: { c_info?: Record<string, unknown> } };
		const { name, uuid } = config?.c_info ?? {};
		if (typeof domid !== "number") {
			throw dump.fail(1, "a domid in every entry", JSON.stringify(domid) ?? "none");
		}
		domains.set(domid, {
			name: typeof name === "string" ? name : undefined,
			uuid: typeof uuid === "string" ? uuid.toLowerCase() : undefined,
		});
	}
	return domains;
}

/** Parses `xl vcpu-list`. Lines of another shape are ignored; a name may hold blanks, so columns count from the end. */
export function parseXlVcpuList(text: string, file = "xl-vcpu-list.txt"): XlVcpu[] {
	const dump = new DumpText(text, file);
	const vcpus: XlVcpu[] = [];
	for (const row of dump.lines()) {
		const words = row.text.trim().split(/\s+/);
		const [domid, vcpu, cpu, , , hard, slash, soft] = words.slice(-8);
		if (words.length < 9 || slash !== "/" || domid === undefined || !/^\d+$/.test(domid)) {
			continue;
		}
		vcpus.push({
			name: words.slice(0, -8).join(" "),
			domid: dump.domid(domid, row),
			vcpu: dump.decimal(vcpu, row, "a vCPU"),
			cpu: cpu === "-" ? undefined : dump.decimal(cpu, row, "a CPU"),
			hard: hard ?? "",
			soft: soft ?? "",
		});
	}
	return vcpus;
}
