/** The whole reader: octets in, the decoded stream and the broken rules out. */
import { checkChannels, checkPirqs, checkPorts } from "./checkEvents.ts";
import { checkHeapFrames, checkM2p, checkNamedFrames, checkOwners, checkRegions, checkTypes } from "./checkFrames.ts";
import { checkActive, checkMaptrack, checkPins, checkTable } from "./checkGrants.ts";
import { checkDomains, checkHost, checkKind, checkLife, checkTarget } from "./checkHost.ts";
import { checkPageTables, checkPresent, checkRegisters, readMemory } from "./checkMemory.ts";
import { checkP2m } from "./checkP2m.ts";
import { checkCaps, checkServers } from "./checkServers.ts";
import { checkContexts, checkHvmContext, checkRuns, checkVcpus, checkXsave } from "./checkVcpus.ts";
import { readFraming } from "./framing.ts";
import { type Domain, Host, Refused } from "./host.ts";
import { Damaged, type Finding, type Stream } from "./stream.ts";
import { checkSection, checkSections } from "./structure.ts";

export interface Read {
	/** Undefined where the framing is broken. */
	stream: Stream | undefined;
	/** Of each check that failed the first broken rule, in the order of the checks; empty for a sound stream. */
	findings: Finding[];
}

/**
 * Reads and checks a stream.
 *
 * @param memory the preserved memory; without it XLU-R034 and the page tables of XLU-R057 are not checked
 */
export function read(bytes: Uint8Array, memory?: Uint8Array): Read {
	const findings: Finding[] = [];
	const check = (step: () => void): void => {
		try {
			step();
		} catch (error) {
			if (!(error instanceof Damaged || error instanceof Refused)) throw error;
			findings.push(error.finding);
		}
	};
	let stream: Stream | undefined;
	check(() => {
		stream = readFraming(bytes);
	});
	if (!stream) return { stream, findings };

	check(() => checkSections(stream!));
	for (const section of stream.sections) check(() => checkSection(section));
	if (findings.length > 0) return { stream, findings };

	const host = new Host(stream);
	const each = (step: (domain: Domain) => void) => {
		for (const domain of host.domains.values()) check(() => step(domain));
	};
	check(() => checkHost(host));
	check(() => checkDomains(host));
	each(checkKind);
	each(checkLife);
	check(() => checkOwners(host));
	check(() => checkTypes(host));
	check(() => checkRegions(host));
	check(() => checkM2p(host));
	each((domain) => checkHeapFrames(host, domain));
	each((domain) => checkP2m(host, domain));
	each(checkTable);
	each((domain) => checkActive(host, domain));
	const sums = new Map();
	each((domain) => checkMaptrack(host, domain, sums));
	each((domain) => checkPins(host, domain, sums));
	each((domain) => checkChannels(host, domain));
	each((domain) => checkPorts(host, domain));
	each(checkPirqs);
	each((domain) => checkTarget(host, domain));
	each((domain) => checkVcpus(host, domain));
	each((domain) => checkNamedFrames(host, domain));
	each(checkContexts);
	each(checkRuns);
	each(checkXsave);
	each(checkHvmContext);
	each((domain) => checkServers(host, domain));
	each(checkCaps);
	each((domain) => checkRegisters(host, domain));
	if (memory && findings.length === 0) {
		check(() => {
			const pages = readMemory(memory, bytes, host);
			checkPresent(host, pages);
			each((domain) => checkPageTables(host, domain, pages));
		});
	}
	return { stream, findings };
}
