/** The whole reader: octets in; the decoded stream and the broken rules out. The steps are those of RULES.md. */
import { checkDevices, checkIrqs } from "./checkDevices.ts";
import { checkChannels, checkPirqs, checkPorts } from "./checkEvents.ts";
import { checkKept, checkM2p, checkOwners, checkRegions, checkTypes } from "./checkFrames.ts";
import { checkGrantTable, checkMaptrack, checkPins, checkSums, type Sums } from "./checkGrants.ts";
import { checkDomain, checkHost, checkVcpuList } from "./checkHost.ts";
import { checkPageTables, checkPresent, type Memory, readMemory } from "./checkMemory.ts";
import { checkP2m } from "./checkP2m.ts";
import { checkCaps, checkServers } from "./checkServers.ts";
import { checkCounts, checkScheduler, checkState, checkVcpus } from "./checkState.ts";
import { readFraming } from "./framing.ts";
import { type Domain, Host, Refused } from "./host.ts";
import { Damaged, type Finding, type Stream } from "./stream.ts";
import { checkRecords, checkSections, checkSizes } from "./structure.ts";

export interface Read {
	/** Undefined where the framing is broken. */
	stream: Stream | undefined;
	/**
	 * The first broken rule of each step that found one, in the order of the steps: the first of them is the one that a
	 * reader reports. Empty for a sound stream. What cannot be looked at behind a broken rule is left out.
	 */
	findings: Finding[];
}

export interface ReadOptions {
	/** The preserved memory. Without it XLU-R034, and XLU-R057 as to entries of page tables, are not checked. */
	memory?: Uint8Array;
	/** Handed over in frames: zeros follow END up to the end of the last one. */
	isPadded?: boolean;
}

export function read(bytes: Uint8Array, { memory, isPadded }: ReadOptions = {}): Read {
	const findings: Finding[] = [];
	const step = (check: () => void): void => {
		try {
			check();
		} catch (error) {
			if (!(error instanceof Damaged || error instanceof Refused)) throw error;
			findings.push(error.finding);
		}
	};
	let stream: Stream | undefined;
	step(() => {
		stream = readFraming(bytes, isPadded);
	});
	if (!stream) return { stream, findings };
	checkStructure(stream, step);
	if (findings.length > 0) return { stream, findings };

	const host = new Host(stream);
	const each = (check: (domain: Domain) => void) => {
		for (const domain of host.inOrder) step(() => check(domain));
	};
	step(() => checkHost(host));
	each((domain) => checkDomain(host, domain));
	each(checkVcpuList);
	step(() => checkOwners(host));
	step(() => checkTypes(host));
	step(() => checkRegions(host));
	step(() => checkM2p(host));
	each((domain) => checkKept(host, domain));
	each((domain) => checkP2m(host, domain));
	each((domain) => checkGrantTable(host, domain));
	const sums: Sums = new Map();
	each((domain) => checkMaptrack(host, domain, sums));
	each((domain) => checkPins(host, domain, sums));
	step(() => checkSums(host));
	for (const domain of host.inOrder) {
		step(() => checkChannels(host, domain));
		step(() => checkPorts(host, domain));
		step(() => checkPirqs(domain));
	}
	step(() => checkIrqs(host));
	step(() => checkDevices(host));
	for (const domain of host.inOrder) {
		step(() => checkState(host, domain));
		step(() => checkVcpus(host, domain));
		step(() => checkServers(host, domain));
		step(() => checkCaps(domain));
		step(() => checkScheduler(host, domain));
		step(() => checkCounts(host, domain));
	}
	if (!memory || findings.length > 0) return { stream, findings };
	let pages: Memory | undefined;
	step(() => {
		pages = readMemory(memory, bytes, host);
		checkPresent(host, pages);
	});
	if (pages) step(() => checkPageTables(host, pages!));
	return { stream, findings };
}

function checkStructure(stream: Stream, step: (check: () => void) => void): void {
	step(() => checkSizes(stream));
	step(() => checkSections(stream));
	const sections = stream.sections;
	const rest = sections.filter((s) => s.pass % 2 === 1 || s.pass === 4);
	rest.sort((a, b) => a.domid - b.domid || a.pass - b.pass);
	for (const section of [...sections.filter((s) => s.pass === 0), ...rest, ...sections.filter((s) => s.pass === 2)])
		step(() => checkRecords(section));
}
