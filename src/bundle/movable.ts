/** Whether a domain can move at all: what is looked at before it is extracted, and again in its bundle. */
import { CREATE, DOMID, IOREQ_PAGE_FLAG, LIFE, NONE32, P2M_BITS, P2M_TYPE } from "../format/enums.ts";
import { bundleRules as rules } from "../formats/bundle/rules.ts";
import type { Findings, Place } from "../formats/common/findings.ts";
import type { DomainModel, HostModel } from "../machine/model.ts";

const PRESENT = BigInt(P2M_BITS.present);
const typeOf = (entry: bigint): number => Number((entry >> BigInt(P2M_BITS.type)) & 15n);

/** Grants of others that a domain has mapped; its own (a grant to itself) go with it. */
export const foreignGrants = ({ domain, maptrack }: DomainModel) =>
	(maptrack ?? []).filter((entry) => entry && Number(entry.flags ?? 0) !== 0 && Number(entry.domid) !== domain.domid);

/** Reports everything that keeps a domain where it is. */
export function reportImmovable(host: HostModel, domain: DomainModel, findings: Findings, place: Place): void {
	const { domid, life, createFlags } = domain.domain;
	const say = (rule: (typeof rules)[keyof typeof rules], field: string, expected: string, got: string): void =>
		findings.report(rule, { ...place, field }, expected, got);
	if (domid >= DOMID.FIRST_RESERVED) say(rules.movable, "domid", `below ${DOMID.FIRST_RESERVED}`, `${domid}`);
	if (domid === 0 || Number(createFlags ?? 0) & CREATE.privileged)
		say(rules.movable, "domid", "a guest", "the control domain");
	if (Number(life ?? LIFE.alive) !== LIFE.alive) say(rules.movable, "life", "alive", "dead");
	const granted = foreignGrants(domain);
	if (granted.length > 0) {
		const whose = [...new Set(granted.map((entry) => Number(entry?.domid)))].join(", ");
		say(rules.serves, "Maptrack", "no grants of others mapped", `${granted.length} of domain ${whose}`);
	}
	const foreign = domain.foreignMapList ?? [];
	if (foreign.length > 0) say(rules.serves, "ForeignMapList", "no foreign entries", `${foreign.length}`);
	const target = Number(domain.domainState.target ?? DOMID.INVALID);
	if (target < DOMID.FIRST_RESERVED) say(rules.serves, "target", "no domain that it serves", `domain ${target}`);
	for (const other of host.domains) {
		const served = other.ioreqServerList?.filter(({ emulator }) => Number(emulator) === domid) ?? [];
		if (other !== domain && served.length > 0) {
			say(rules.serves, "IoreqServerList", "no I/O request server for others", `one of domain ${other.domain.domid}`);
		}
	}
	if ((host.virqHandlers ?? []).some((row) => Number(row.domid) === domid)) {
		say(rules.serves, "VirqHandlers", "no global VIRQ that it handles", "one");
	}
	const devices = (host.deviceList ?? []).filter((row) => Number(row.domid) === domid);
	if (devices.length > 0) say(rules.devices, "DeviceList", "no PCI device", `${devices.length}`);
	const irqs = (host.irqOwners ?? []).filter((row) => Number(row.domid) === domid);
	const bound = (domain.pirqList ?? []).filter(({ irq }) => Number(irq ?? NONE32) !== NONE32);
	if (irqs.length + bound.length > 0) {
		say(rules.devices, "PirqList", "no host interrupt", `${irqs.length + bound.length}`);
	}
	const mapped = (domain.p2m ?? []).filter((entry) => entry >> PRESENT === 1n && typeOf(entry) === P2M_TYPE.mmioDirect);
	if (mapped.length > 0) say(rules.devices, "P2m", "no device memory mapped", `${mapped.length} frames`);
	if ((domain.g2mPorts ?? []).length > 0) {
		say(rules.devices, "G2mPorts", "no I/O port passed through", `${domain.g2mPorts?.length}`);
	}
}

/** Extra frames that a device model has as a resource: they are its server's, made anew where the domain is received. */
export const resourcePages = ({ ioreqPages }: DomainModel) =>
	(ioreqPages ?? []).filter(({ flags }) => (Number(flags ?? 0) & IOREQ_PAGE_FLAG.resource) !== 0);
