/**
 * Every rule that open, plan, check, restore and finish enforce. The number is the rule's identity: `XLU-R` and three
 * digits, never re-used. docs/RULES.md is generated from here, and so are the core's constants.
 */

import { ruleTexts } from "./ruleText.ts";

export interface Rule {
	readonly id: number;
	/** Name of the core's constant. */
	readonly name: string;
	/** damaged: framing or checksum (exit status 3); version: not supported; refused: a check refuses. */
	readonly severity: "damaged" | "version" | "refused";
	/** What must hold. */
	readonly doc: string;
	/** The part of the format, or of a host, that it is about. */
	readonly from: string;
	/** Why: the public fact or the invariant of Xen that it stems from. */
	readonly why: string;
	/** What can be done. */
	readonly advice: string;
}

/** @throws for a rule without its text */
function rule(id: number, name: string, severity: Rule["severity"], from: string, doc: string): Rule {
	const told = ruleTexts[name];
	if (!told) throw new Error(`ruleText.ts says nothing of ${name}`);
	return { id, name, severity, from, doc, ...told };
}

export const rules: readonly Rule[] = [
	// Framing
	rule(1, "TRUNCATED", "damaged", "framing", "The stream holds every record whole, up to END."),
	rule(2, "MARKER", "damaged", "framing", "The image header begins with 64 one bits and the id XLUS."),
	rule(
		3,
		"VERSION",
		"version",
		"framing",
		"The stream's version is one that the reader knows: its newest, or the one before.",
	),
	rule(4, "OPTIONS", "version", "framing", "No option is set but the byte order."),
	rule(5, "RESERVED", "damaged", "framing", "Reserved fields and padding are zero."),
	rule(
		6,
		"BODY_LENGTH",
		"damaged",
		"framing",
		"A body has exactly the length that its head and counts make, at most 128 MiB.",
	),
	rule(7, "UNKNOWN_RECORD", "version", "framing", "Every mandatory record is one of the stream's version."),
	rule(
		8,
		"SECTION_EXPECTED",
		"damaged",
		"framing",
		"Every record but LU_SECTION, LU_INDEX and END stands in a section.",
	),
	rule(
		9,
		"SECTION_ORDER",
		"damaged",
		"stream order",
		"Sections stand in the order H, 0, 1h, 1d, 2; within a pass domains come in any order, none twice.",
	),
	rule(
		10,
		"SECTION_LENGTH",
		"damaged",
		"framing",
		"A section's records fill its length exactly and are as many as it says.",
	),
	rule(
		11,
		"CHECKSUM",
		"damaged",
		"framing",
		"The XXH3-64 of a section's records and of the index agree with the stream.",
	),
	rule(12, "INDEX", "damaged", "framing", "LU_INDEX lists exactly the sections that stand in the stream."),
	rule(13, "END", "damaged", "framing", "One END, its body empty, nothing after it but the padding of the last frame."),
	rule(14, "WRONG_SECTION", "refused", "passes", "A record stands in the section that the format gives it."),
	rule(15, "RECORD_ORDER", "refused", "passes", "A record stands after those that it depends on."),
	rule(
		16,
		"RECORD_TWICE",
		"refused",
		"stream",
		"A record that stands once in its section (or once for a vCPU) is not repeated.",
	),
	rule(17, "RECORD_MISSING", "refused", "stream", "Every record that its section needs is there."),
	rule(
		18,
		"SECTION_MISSING",
		"refused",
		"stream",
		"The host has sections H and 1h, each domain its sections 0, 1d and 2.",
	),
	rule(
		19,
		"SPARSE",
		"damaged",
		"framing",
		"Runs of a sparse table ascend, do not touch, and cover its rows, none of which is empty.",
	),
	rule(20, "CHUNK", "damaged", "framing", "Chunks are well formed and cover their slice exactly."),
	rule(21, "SLICE", "refused", "stream", "Slices ascend without overlap and stay within their table."),
	// Windows and calls
	rule(30, "WINDOW", "refused", "core", "Windows are aligned, apart from each other and large enough."),
	rule(
		31,
		"PASS_ORDER",
		"refused",
		"passes",
		"A pass starts when the one before it has ended for every domain, and runs once for each domain.",
	),
	rule(32, "NOT_CHECKED", "refused", "core", "A restore follows a check that passed."),
	rule(33, "IMAGE", "refused", "core", "The hypervisor image is consistent: tables inside it, in order."),
	rule(34, "MEMORY", "refused", "preserved memory", "The preserved memory is whole and belongs to the stream."),
	rule(
		35,
		"NEEDS_MEMORY",
		"refused",
		"preserved memory",
		"A stream alone cannot be restored: the preserved memory is needed.",
	),
	// Host and domains
	rule(
		40,
		"HOST_LIMIT",
		"refused",
		"LU_HOST",
		"The host's figures are within the core's limits and agree with the stream.",
	),
	rule(
		41,
		"DOMID",
		"refused",
		"domains",
		"Domids are unique and below 0x7FF0, and a section's domid is its LU_DOMAIN's.",
	),
	rule(
		42,
		"DOMAIN_FIELD",
		"refused",
		"LU_DOMAIN",
		"Kind, life, width and flags are known values; at most one hardware domain.",
	),
	rule(
		43,
		"DOMAIN_REFERENCE",
		"refused",
		"domains",
		"Targets, emulators, grantees, CPU pools and VIRQ handlers exist; no domain is its own target or emulator.",
	),
	rule(
		44,
		"VERSION1_REFUSES",
		"version",
		"version 1",
		"Nothing that the version refuses by name: shared or paged memory, shadow paging, unknown features; in version 1 32-bit PV guests and their page types.",
	),
	rule(
		45,
		"DEAD_DOMAIN",
		"refused",
		"domains",
		"A dead domain has frames and grants alone: no vCPUs to run, no ports, no xenheap.",
	),
	rule(46, "REGION", "refused", "regions", "Regions lie in the host, do not overlap, and one is bootmem."),
	rule(
		47,
		"FORMAT",
		"version",
		"framing",
		"What is saved fits the version of the format that it is saved in; where a guest needs a later one, the record is named that has what it needs.",
	),
	rule(
		48,
		"PV32",
		"refused",
		"domains",
		"A living 32-bit PV guest says where Xen's part of its address space begins, a multiple of 2 MiB in the last GiB; no other guest does.",
	),
	// Frames
	rule(
		50,
		"FRAME_ENTRY",
		"refused",
		"LU_FRAMES",
		"A frame's entry has no unknown bit, and flags only where it is owned.",
	),
	rule(51, "FRAME_OWNER", "refused", "frames", "A frame's owner exists or is DOMID_XEN or DOMID_IO."),
	rule(52, "FRAME_RESERVED", "refused", "frames", "No frame of bootmem or kept page tables is owned by a guest."),
	rule(
		53,
		"XENHEAP_COUNT",
		"refused",
		"frames",
		"A domain's xenheap frames are its shared_info, grant and status frames.",
	),
	rule(
		55,
		"FRAME_NOT_OWNED",
		"refused",
		"frames",
		"A frame that a record names is in the host and belongs to whom the record says.",
	),
	rule(
		56,
		"PAGE_TYPE",
		"refused",
		"types",
		"Page types are known; pinned only L1 to L4; page tables only in PV guests, L4 in 64-bit ones, paeXenL2 on unpinned L2 tables of 32-bit ones; none in use on a free frame.",
	),
	rule(
		57,
		"PAGE_TABLE",
		"refused",
		"types",
		"Where a PV domain has L1 tables: an L2 to L4 entry names a table of the domain one level lower, or, read-only, a table of its own level, but for L3 tables of 32-bit guests; a read-write L1 entry names no page table or descriptor frame, and one that takes a writable type only a writable frame; no L1 entry names bootmem, another region or kept page tables; CR3 and CR1 name L4 tables, of a 32-bit guest L3 tables, a GDT descriptor frames. An L3 table of a 32-bit guest has four entries, of which the last, and it alone, names an L2 table with Xen's part, its own.",
	),
	rule(
		58,
		"WRITTEN",
		"refused",
		"types",
		"What is written to from elsewhere is no page table and no descriptor frame: vcpu_info, FIFO control blocks and event arrays, the PIRQ EOI map, and a frame that is granted, mapped read-write by a device, or by the host for a grantee whose page tables do not show it.",
	),
	// P2M
	rule(
		60,
		"P2M_ENTRY",
		"refused",
		"P2M",
		"A P2M entry has no unknown bit, a known order and access, and an MFN only where it is present.",
	),
	rule(61, "P2M_SUPERPAGE", "refused", "P2M", "Superpages are aligned and whole."),
	rule(62, "P2M_FRAME", "refused", "P2M", "A RAM entry names a frame of that domain."),
	rule(
		63,
		"P2M_FOREIGN",
		"refused",
		"P2M",
		"Foreign and I/O-server entries are 4 KiB, and LU_FOREIGN_MAPS lists exactly the foreign ones, with their owner.",
	),
	rule(
		64,
		"P2M_HIGHEST",
		"refused",
		"P2M",
		"The highest mapped GFN is that of the P2M, and every slice says the same; PV guests have none.",
	),
	rule(65, "P2M_TWICE", "refused", "P2M", "A frame is a domain's RAM at one GFN alone."),
	// Grants
	rule(
		70,
		"GRANT_TABLE",
		"refused",
		"grants",
		"Version 1 or 2, frames within the limits, status frames only in version 2.",
	),
	rule(
		71,
		"GRANT_ACTIVE",
		"refused",
		"grants",
		"An active grant lies in the table, is pinned, no counter above 128, its frame the domain's unless a PV grantee's L1 entries alone hold it.",
	),
	rule(72, "MAPTRACK", "refused", "grants", "A handle lies within the limit, its vCPU exists, its flags are known."),
	rule(
		73,
		"MAPTRACK_UNMATCHED",
		"refused",
		"grants",
		"A handle finds an active grant of that domain, with that grantee, unless a PV domain's L1 entry alone held it.",
	),
	rule(
		74,
		"PIN_SUM",
		"refused",
		"grants",
		"Pins equal the sum of the mappings; the host's of a PV grantee with page tables are at most that.",
	),
	// Events
	rule(
		80,
		"PORT_FIELD",
		"refused",
		"events",
		"A port's state, consumer, vCPU and priority are known; Xen's own ports are unbound or interdomain; port 0 is not used.",
	),
	rule(81, "PORT_LIMIT", "refused", "events", "Ports lie within the limits of the ABI and of the domain."),
	rule(82, "INTERDOMAIN", "refused", "events", "Interdomain ends name each other."),
	rule(
		83,
		"VIRQ",
		"refused",
		"events",
		"A VIRQ is bound once in a domain, a per-vCPU one once by each vCPU; a global one, and no other, has at most one other handler.",
	),
	rule(
		84,
		"FIFO",
		"refused",
		"events",
		"Control blocks are aligned inside one frame, one for a vCPU; queue tails are ports of the table; frames are the domain's. Links are the guest's to write and are not looked at.",
	),
	rule(85, "PIRQ", "refused", "events", "PIRQs are unique and their ports agree with LU_EVTCHN_PORTS."),
	// vCPUs
	rule(90, "VCPU", "refused", "vCPUs", "vCPUs ascend below the limit, and each has its record."),
	rule(91, "VCPU_STATE", "refused", "vCPUs", "A vCPU's flags, areas and vcpu_info are valid."),
	rule(
		92,
		"VCPU_CONTEXT",
		"refused",
		"vCPUs",
		"Every initialised PV vCPU has its context, of the guest's width, no other guest has one, and every initialised HVM or PVH vCPU that is up its CPU entry; an extended context has 32 to 128 octets; descriptor tables have at most 8192 entries; addresses of a 32-bit one have 32 bits.",
	),
	rule(93, "XSAVE", "refused", "vCPUs", "An XSAVE area's header and length agree."),
	rule(
		94,
		"HVM_CONTEXT",
		"refused",
		"HVM",
		"HVM_CONTEXT is a row of whole entries, HEADER with its magic first, END last; CPU entries name existing vCPUs.",
	),
	rule(95, "HVM_ONLY", "refused", "HVM", "HVM records stand for HVM and PVH domains alone, PV records for PV ones."),
	rule(96, "DOMAIN_STATE", "refused", "LU_DOMAIN_STATE", "A domain's state has known values."),
	// I/O servers and permissions
	rule(
		100,
		"IOREQ",
		"refused",
		"I/O servers",
		"Servers are unique, one claims writes; their pages, ports and ranges exist, ports once for a vCPU, pages once and no more than the vCPUs need; ranges of one server do not overlap.",
	),
	rule(101, "CAPS", "refused", "LU_CAPS", "Permitted ranges are of a known kind, ascending, not overlapping."),
	rule(102, "SHARED_INFO", "refused", "LU_SHARED_INFO", "A living domain has a shared_info frame of its own."),
	rule(
		103,
		"VNUMA",
		"refused",
		"LU_VNUMA",
		"Virtual NUMA has nodes, a distance from each to each, a node for each vCPU that may be, and memory that ascends without overlap.",
	),
	rule(
		104,
		"SCHEDULER",
		"refused",
		"LU_SCHEDULER",
		"A share is of the pool's scheduler: its weight, cap, or vCPUs' reservations, in their ranges.",
	),
	// Finish
	rule(110, "COUNT_OVERFLOW", "refused", "references", "No reference count overflows."),
	rule(111, "COMPARE", "refused", "compare", "The two images are identical."),
	// Entries of the HVM context, XSAVE areas
	rule(
		120,
		"HVM_ENTRY",
		"refused",
		"HVM",
		"An entry of HVM_CONTEXT is of a known type and has a length that its type has in some version of Xen; a CPU_MSR as many rows as it counts. A parameter of HVM_PARAMS is one that Xen has.",
	),
	rule(
		121,
		"HVM_INSTANCE",
		"refused",
		"HVM",
		"An entry's instance is one that its type has: a vCPU that exists, one of two PICs, 0 for all others; CPU entries are of vCPUs that are not down; a type has an instance once, and HVM_PARAMS a parameter.",
	),
	rule(
		122,
		"XCR0",
		"refused",
		"vCPUs",
		"XCR0, now and ever, is a value that a processor takes; where the domain's CPUID policy has leaf 0xD, it is within the policy's components and the area long enough for them.",
	),
	// Interrupts and devices
	rule(
		125,
		"IRQ",
		"refused",
		"LU_IRQS",
		"Pins and MSIs ascend, with known values; a host interrupt has one vector, an MSI one of its own; a device uses MSI or MSI-X.",
	),
	rule(
		126,
		"IRQ_OWNER",
		"refused",
		"LU_IRQS",
		"A bound interrupt is a pin's or an MSI's, and has one owner unless all of them share it; a PIRQ's host interrupt is bound to its domain.",
	),
	rule(
		127,
		"DEVICE",
		"refused",
		"LU_DEVICES",
		"Devices ascend, so that each has one owner; an MSI's device is one of them.",
	),
	rule(
		128,
		"IOMMU",
		"refused",
		"LU_DEVICES",
		"IOMMUs, contexts, identity maps and remapping entries ascend without conflict and name IOMMUs that exist; their tables are frames that stay; an identity map agrees with the P2M.",
	),
];

export function ruleId(id: number): string {
	return `XLU-R${String(id).padStart(3, "0")}`;
}

const byId = new Map(rules.map((entry) => [entry.id, entry]));
export function ruleByNumber(id: number): Rule | undefined {
	return byId.get(id);
}
