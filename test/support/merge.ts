/**
 * Several captured hosts made one: each keeps its guest, and dom0 gets the ports of all. Text edits of the dumps, so that
 * what is read is a capture like any other.
 */
import { cpSync, existsSync } from "node:fs";
import { join } from "node:path";
import { type EditedHost, fixtures, fixtureText } from "./hosts.ts";

/** Cuts a dump where a domain begins: what stands before the first, and the domains' blocks. */
function blocksOf(text: string, header: RegExp): { head: string; blocks: Map<number, string> } {
	const starts = [...text.matchAll(header)].map((match) => ({ at: match.index, domid: Number(match[1]) }));
	const blocks = new Map(
		starts.map(({ at, domid }, i) => [domid, text.slice(at, starts[i + 1]?.at ?? text.length)] as const),
	);
	return { head: text.slice(0, starts[0]?.at ?? text.length), blocks };
}

const EVENTS = /^\(XEN\) Event channel information for domain (\d+):/gm;
const GRANTS = /^\(XEN\) grant-table for remote d(\d+) /gm;
const DOMAINS = /^\(XEN\) General information for domain (\d+):/gm;

/** The dumps of one guest, as it is to appear in the merged host. */
export interface GuestDumps {
	domid: number;
	e: string;
	g: string;
	q: string;
	s: string;
	v: string;
	/** dom0's ports that lead to it. */
	dom0Ports: string;
}

/** Takes a guest out of a fixture, under another domid if need be. */
export function guestOf(host: string, domid: number, newDomid = domid): GuestDumps {
	const read = (key: string) => {
		const name = `${host}/debugkey-${key}.txt`;
		return existsSync(join(fixtures, name)) ? fixtureText(name) : "";
	};
	const block = (text: string, header: RegExp) => blocksOf(text, header).blocks.get(domid) ?? "";
	const events = read("e");
	const dom0 = blocksOf(events, EVENTS).blocks.get(0) ?? "";
	const renamed = (text: string) =>
		text
			.replace(new RegExp(String.raw`\bdomain ${domid}:`, "g"), `domain ${newDomid}:`)
			.replace(new RegExp(String.raw`\bd=${domid}\b`, "g"), `d=${newDomid}`)
			.replace(new RegExp(String.raw`remote d${domid}\b`, "g"), `remote d${newDomid}`)
			.replace(new RegExp(String.raw`\bdom${domid}([(:])`, "g"), `dom${newDomid}$1`)
			.replace(`>>> Domain ${domid} <<<`, `>>> Domain ${newDomid} <<<`);
	const vmcb = read("v");
	return {
		domid: newDomid,
		e: renamed(block(events, EVENTS)),
		g: renamed(block(read("g"), GRANTS)).replace(/^\(XEN\) gnttab_usage_print_all \].*\n/gm, ""),
		q: renamed(block(read("q"), DOMAINS)).replace(/^\(XEN\) (?:Notifying guest|Shared frames).*\n/gm, ""),
		s: renamed(/^\(XEN\) dom\d+.*\n/m.exec(read("s"))?.[0] ?? ""),
		v: renamed(/^\(XEN\) >>> Domain[\s\S]*?(?=^\(XEN\) \*+\n)/m.exec(vmcb)?.[0] ?? ""),
		dom0Ports: renamed((dom0.match(new RegExp(String.raw`^.* d=${domid}\b.*\n`, "gm")) ?? []).join("")),
	};
}

/** Moves a guest's peers in dom0 to ports from `first` on; returns the first port that is free after them. */
function moveDom0Ports(guest: GuestDumps, first: number): number {
	let next = first;
	for (const [, port] of guest.dom0Ports.matchAll(/^\(XEN\) +(\d+) \[/gm)) {
		const to = next++;
		guest.dom0Ports = guest.dom0Ports.replace(new RegExp(String.raw`^(\(XEN\)) +${port} \[`, "m"), `$1     @${to} [`);
		guest.e = guest.e.replace(new RegExp(String.raw`\bd=0 p=${port}$`, "m"), `d=0 p=@${to}`);
	}
	guest.dom0Ports = guest.dom0Ports.replaceAll("@", "");
	guest.e = guest.e.replaceAll("@", "");
	return next;
}

/** Adds guests to a host's dumps. dom0 is referred to once more by each that it emulates devices for. */
export function addGuests(host: EditedHost, guests: readonly GuestDumps[]): void {
	host.map("debugkey-e.txt", (text) => {
		const { head, blocks } = blocksOf(text, EVENTS);
		const dom0 = blocks.get(0) as string;
		let next = Math.max(...[...dom0.matchAll(/^\(XEN\) +(\d+) \[/gm)].map(([, port]) => Number(port))) + 1;
		let extra = "";
		for (const guest of guests) {
			next = moveDom0Ports(guest, next);
			extra += guest.dom0Ports;
			blocks.set(guest.domid, guest.e);
		}
		blocks.set(0, dom0 + extra);
		return head + sorted(blocks);
	});
	host.map("debugkey-g.txt", (text) => {
		const end = text.indexOf("(XEN) gnttab_usage_print_all ]");
		return text.slice(0, end) + guests.map(({ g }) => g).join("") + text.slice(end);
	});
	host.map("debugkey-q.txt", (text) => {
		const end = text.indexOf("(XEN) Notifying guest");
		const served = guests.filter(({ q }) => q.includes("ioreq_server")).length;
		const dom0 = text.slice(0, end).replace(/refcnt=(\d+)/, (_, count: string) => `refcnt=${Number(count) + served}`);
		return dom0 + guests.map(({ q }) => q).join("") + text.slice(end);
	});
	if (guests.some(({ s }) => s)) {
		host.map("debugkey-s.txt", (text) => text + guests.map(({ s }) => s).join(""));
	}
	if (guests.some(({ v }) => v)) {
		host.map("debugkey-v.txt", (text) => {
			const end = text.lastIndexOf("(XEN) ***");
			return text.slice(0, end) + guests.map(({ v }) => v).join("") + text.slice(end);
		});
	}
}

function sorted(blocks: ReadonlyMap<number, string>): string {
	return [...blocks]
		.sort(([a], [b]) => a - b)
		.map(([, block]) => block)
		.join("");
}

/** Copies another fixture's image and configuration beside a host's own. */
export function addImage(host: EditedHost, from: string): void {
	for (const name of [`${from}1.xlsave.gz`, `${from}1.cfg`]) cpSync(join(fixtures, from, name), host.file(name));
}

/** The zombie fixture without its living guest, which has no image. */
export function deadOnly(host: EditedHost): EditedHost {
	return host
		.map("debugkey-e.txt", (text) =>
			text
				.replace(/.* d=2 p=.*\n/g, "")
				.replace(/\(XEN\) Event channel information for domain 2:[\s\S]*?(?=\(XEN\) Event)/, ""),
		)
		.map("debugkey-g.txt", (text) =>
			text
				.replace(/\(XEN\) grant-table for remote d2 [\s\S]*?(?=\(XEN\) grant-table)/, "")
				.replace("2 0x0f493 0x00000100          2", "0 0x0f493 0x00000100          0"),
		)
		.map("debugkey-q.txt", (text) =>
			text.replace(/\(XEN\) General information for domain 2:[\s\S]*?(?=\(XEN\) General)/, ""),
		);
}
