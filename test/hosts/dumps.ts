/**
 * The dumps of a captured host, read a second time: a regular expression per kind of row, sharing nothing with
 * src/capture, so that a mistake has to be made twice to pass.
 */

/** A port as `xlu inspect` shows it, without its bits. */
export interface Binding {
	port: number;
	state: number;
	vcpu: number;
	remoteDomid: number | null;
	remotePort: number | null;
	virq: number | null;
	pirq: number | null;
}

/** A port of debug key `e`. */
export interface DumpedPort extends Binding {
	domid: number;
	pending: boolean;
	masked: boolean;
}

export interface DumpedEvents {
	ports: DumpedPort[];
	/** Ports that Xen consumes, as "domid:port". */
	consumed: string[];
}

const PORT = /^(?:\(XEN\))?.*?(\d+) \[([01])\/([01])\/([^\]]+)\]: s=(\d) n=(\d+) x=(\d+)(.*)$/;

const value = (text: string, key: string): number | null => {
	const digits = new RegExp(String.raw`\b${key}=(-?\d+)`).exec(text)?.[1];
	return digits === undefined ? null : Number(digits);
};

export function dumpedEvents(text: string): DumpedEvents {
	const ports: DumpedPort[] = [];
	const consumed: string[] = [];
	let domid = -1;
	for (const line of text.split(/\r?\n/)) {
		domid = Number(/Event channel information for domain (\d+)/.exec(line)?.[1] ?? domid);
		const [, port, pending, masked, , s, vcpu, consumer, binding = ""] = PORT.exec(line) ?? [];
		const state = Number(s);
		if (port === undefined || state < 2) continue;
		const isRemote = state === 2 || state === 3;
		ports.push({
			domid,
			port: Number(port),
			state,
			vcpu: Number(vcpu),
			remoteDomid: isRemote ? value(binding, "d") : null,
			remotePort: state === 3 ? value(binding, "p") : null,
			virq: state === 5 ? value(binding, "v") : null,
			pirq: state === 4 ? value(binding, "p") : null,
			pending: pending === "1",
			masked: masked === "1",
		});
		if (consumer !== "0") consumed.push(`${domid}:${port}`);
	}
	return { ports, consumed };
}

/** What lsevtchn printed of one domain: it leaves out the ports that Xen consumes. */
export function listedPorts(text: string): Binding[] {
	const states: readonly [RegExp, number][] = [
		[/Interdomain \(Waiting connection\) - Remote Domain (?<d>\d+)/, 2],
		[/Interdomain \(Connected\) - Remote Domain (?<d>\d+), Port (?<p>\d+)/, 3],
		[/Physical IRQ (?<pirq>\d+)/, 4],
		[/Virtual IRQ (?<virq>\d+)/, 5],
		[/IPI/, 6],
	];
	return text
		.trim()
		.split("\n")
		.map((line) => {
			const [, port, vcpu, rest = ""] = /^\s*(\d+): VCPU (\d+): (.*)$/.exec(line) ?? [];
			const [found, state] = states.map(([shape, s]) => [shape.exec(rest), s] as const).find(([m]) => m) ?? [];
			if (!found || state === undefined) throw new Error(`lsevtchn: ${line}`);
			const group = (name: string) => (found.groups?.[name] === undefined ? null : Number(found.groups[name]));
			return {
				port: Number(port),
				state,
				vcpu: Number(vcpu),
				remoteDomid: group("d"),
				remotePort: group("p"),
				virq: group("virq"),
				pirq: group("pirq"),
			};
		});
}

export interface DumpedGrant {
	/** Who granted. */
	domid: number;
	ref: number;
	grantee: number;
	mfn: number;
	deviceRead: number;
	deviceWrite: number;
	hostRead: number;
	hostWrite: number;
	sharedDomid: number;
	gmfn: number;
	/** Flags, or on a version 2 table the status word. */
	last: number;
}

/** Active grants of debug key `g`. */
export function dumpedGrants(text: string): DumpedGrant[] {
	const grants: DumpedGrant[] = [];
	let domid = -1;
	for (const line of text.split(/\r?\n/)) {
		domid = Number(/grant-table for remote d(\d+)/.exec(line)?.[1] ?? domid);
		const row =
			/\[(0x\w+)\] +(\d+) (0x\w+) 0x(\w\w)(\w\w)(\w\w)(\w\w) +(\d+) (0x\w+) (0x\w+)/.exec(line)?.slice(1) ?? [];
		if (row.length === 0) continue;
		const hex = (index: number) => Number.parseInt(row[index] as string, 16);
		grants.push({
			domid,
			ref: hex(0),
			grantee: Number(row[1]),
			mfn: hex(2),
			deviceRead: hex(3),
			deviceWrite: hex(4),
			hostRead: hex(5),
			hostWrite: hex(6),
			sharedDomid: Number(row[7]),
			gmfn: hex(8),
			last: hex(9),
		});
	}
	return grants;
}

export interface DumpedPage {
	list: string;
	mfn: number;
	/** Count word: bit 63 allocated; the count is below bit 54. */
	isAllocated: boolean;
	references: number;
	/** Type word: type in bits 63-61, the count below bit 55. */
	type: number;
	typeReferences: number;
}

export interface DumpedDomain {
	domid: number;
	refcnt: number;
	dying: number;
	nrPages: number;
	xenheapPages: number;
	maxPages: number;
	pages: DumpedPage[];
}

/** Debug key `q`. */
export function dumpedDomains(text: string): DumpedDomain[] {
	const domains: DumpedDomain[] = [];
	for (const block of text.split(/General information for domain /).slice(1)) {
		const number = (key: string) => Number(new RegExp(`\\b${key}=(\\d+)`).exec(block)?.[1]);
		domains.push({
			domid: Number.parseInt(block, 10),
			refcnt: number("refcnt"),
			dying: number("dying"),
			nrPages: number("nr_pages"),
			xenheapPages: number("xenheap_pages"),
			maxPages: number("max_pages"),
			pages: [...block.matchAll(/(\w+Page) (\w{16}): caf=(\w+), taf=(\w{16})/g)].map(([, list, mfn, caf, taf]) => {
				const count = BigInt(`0x${caf}`);
				const type = BigInt(`0x${taf}`);
				return {
					list: list as string,
					mfn: Number.parseInt(mfn as string, 16),
					isAllocated: count >> 63n === 1n,
					references: Number(count & ((1n << 54n) - 1n)),
					type: Number(type >> 61n),
					typeReferences: Number(type & ((1n << 55n) - 1n)),
				};
			}),
		});
	}
	return domains;
}

/** Registers by name, of one block of xenctx, xen-hvmctx or debug key `0`. */
export type Registers = Map<string, bigint>;

/** xenctx: a block per vCPU, up to its code and stack. */
export function xenctxRegisters(text: string): Registers[] {
	return text
		.split(/^vcpu\d+:$/m)
		.slice(1)
		.map((block) => {
			const head = block.slice(0, block.indexOf("Code"));
			const found: Registers = new Map();
			for (const [, name, digits] of head.matchAll(/\b(r\w{1,2}|cr\d|dr\d|[c-gs]s): ([0-9a-f]+)/g)) {
				found.set(name as string, BigInt(`0x${digits}`));
			}
			const fs = /fs: \w+ @ (\w+)/.exec(head);
			const gs = /gs: \w+ @ (\w+)\/(\w+)/.exec(head);
			found.set("flags", BigInt(`0x${/flags: (\w+)/.exec(head)?.[1]}`));
			found.set("fs_base", BigInt(`0x${fs?.[1]}`));
			found.set("gs_base", BigInt(`0x${gs?.[1]}`));
			found.set("gs_other", BigInt(`0x${gs?.[2]}`));
			return found;
		});
}

/** xen-hvmctx: the CPU entries, general registers and MMX/XMM included. */
export function hvmctxRegisters(text: string): Registers[] {
	return text
		.split(/^Entry \d+: /m)
		.filter((entry) => entry.startsWith("type 2 "))
		.map((entry) => {
			const found: Registers = new Map();
			const shape =
				/\b(r\w{1,2}|rflags|cr\d|dr\d|tsc|efer|lstar|star|cstar|sfmask|xmm\d\d|fcw|fsw|mxcsr) +0x([0-9a-f]+)/g;
			for (const [, name, digits] of entry.matchAll(shape)) found.set(name as string, BigInt(`0x${digits}`));
			for (const [, name, sel, base, limit, attributes] of entry.matchAll(
				/^ +(cs|es|ds|fs|gs|ss|tr|ldtr) +(\w+) \( *(\w+) \+ +(\w+) \/ +(\w+)\)$/gm,
			)) {
				const parts = { sel, base, limit, arbytes: attributes };
				for (const [part, text] of Object.entries(parts)) {
					found.set(`${name}_${part}`, BigInt(`0x${(text as string).replace(/^0x/, "")}`));
				}
			}
			for (const [, name, base, limit] of entry.matchAll(/^ +(idtr|gdtr) +\((\w+) \+ +(\w+)\)$/gm)) {
				found.set(`${name}_base`, BigInt(base as string));
				found.set(`${name}_limit`, BigInt(limit as string));
			}
			return found;
		});
}

/** Debug key `0`: registers of dom0's vCPUs. */
export function dom0Registers(text: string): Registers[] {
	return text
		.split(/Dumping Dom0 vcpu#\d+ state/)
		.slice(1)
		.map((block) => {
			const head = block.slice(0, block.indexOf("Guest stack"));
			const found: Registers = new Map();
			for (const [, name, digits] of head.matchAll(/\b(r\w{1,2}|cr\d|fsb|gsb|gss|[c-gs]s|RFLAGS): +([0-9a-f]+)/g)) {
				found.set((name as string).toLowerCase(), BigInt(`0x${digits}`));
			}
			found.set("rip", BigInt(`0x${/RIP:.*<(\w+)>/.exec(head)?.[1]}`));
			return found;
		});
}
