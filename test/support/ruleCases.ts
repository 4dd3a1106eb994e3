/**
 * One broken thing per case: a change of the tiny host's model, of a record (framing and checksums made anew), or of the
 * stream's octets. Each breaks exactly the rule it is listed under.
 */
import {
	CREATE,
	DOMID,
	EVTCHN_STATE,
	FRAME,
	NONE64,
	P2M_ACCESS,
	P2M_TYPE,
	PAGE_TYPE,
	PAGE_TYPE_FLAG,
	REGION,
	VCPU_FLAG,
} from "../../src/format/enums.ts";
import type { DomainModel, HostModel, PreservedPages } from "../../src/machine/model.ts";
import { concatenate, frame, type Restitched, StreamRecord } from "./restitch.ts";
import { p2mEntry } from "./tinyHost.ts";

export interface RuleCase {
	/** Name of the rule. */
	rule: string;
	what: string;
	model?: (model: HostModel, preserved: PreservedPages) => void;
	stream?: (stream: Restitched) => void;
	/** Changes of the finished stream; returns what to use in its place. */
	octets?: (stream: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer> | undefined;
	/** Changes of the preserved memory, before it is packed. */
	memory?: (preserved: PreservedPages) => void;
	/** Handed over without the preserved memory. */
	alone?: true;
}

const owned = BigInt(FRAME.owned | FRAME.allocated);

function domain(model: HostModel, domid: number): DomainModel {
	return model.domains.find((one) => one.domain.domid === domid) as DomainModel;
}

function view(octets: Uint8Array): DataView {
	return new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
}

/** Offset of the n-th record of a type, by framing alone. */
function find(octets: Uint8Array, type: number, n = 0): number {
	let left = n;
	for (let at = 24; at < octets.length; ) {
		if (view(octets).getUint32(at, true) === type && left-- === 0) return at;
		at += 8 + Math.ceil(view(octets).getUint32(at + 4, true) / 8) * 8;
	}
	throw new Error(`no record 0x${type.toString(16)}`);
}

function end(octets: Uint8Array): number {
	return octets.length - 8;
}

function longer(octets: Uint8Array, more: number): Uint8Array<ArrayBuffer> {
	const copy = new Uint8Array(octets.length + more);
	copy.set(octets);
	return copy;
}

const INDEX = 0x4000003f;

const framing: RuleCase[] = [
	{ rule: "TRUNCATED", what: "the stream ends within its header", octets: (s) => s.slice(0, 20) },
	{ rule: "TRUNCATED", what: "the stream ends within section H", octets: (s) => s.slice(0, 104) },
	{ rule: "TRUNCATED", what: "the stream ends before END", octets: (s) => s.slice(0, end(s)) },
	{
		rule: "MARKER",
		what: "the marker has a zero bit",
		octets: (s) => {
			s[3] = 0xfe;
			return s;
		},
	},
	{
		rule: "MARKER",
		what: "the id is libxc's",
		octets: (s) => {
			view(s).setUint32(8, 0x58454e46);
			return s;
		},
	},
	{
		rule: "VERSION",
		what: "version 2",
		octets: (s) => {
			view(s).setUint32(12, 2);
			return s;
		},
	},
	{
		rule: "OPTIONS",
		what: "big-endian",
		octets: (s) => {
			view(s).setUint16(16, 1);
			return s;
		},
	},
	{
		rule: "OPTIONS",
		what: "an unknown option",
		octets: (s) => {
			view(s).setUint16(16, 2);
			return s;
		},
	},
	{
		rule: "RESERVED",
		what: "reserved octets of the image header",
		octets: (s) => {
			s[23] = 1;
			return s;
		},
	},
	{ rule: "RESERVED", what: "a reserved field of a head", stream: (s) => void (s.record("LU_M2P").body[5] = 7) },
	{
		rule: "RESERVED",
		what: "a reserved field of a row",
		stream: (s) => {
			const record = s.record("LU_EVTCHN_PORTS", 1);
			// One run, then rows of 24 octets, of which the last three are reserved.
			record.body[record.partOffset("Ports") + 8 + 24 + 21] = 9;
		},
	},
	{
		rule: "RESERVED",
		what: "a record's padding",
		stream: (s) => {
			s.record("LU_VERSION").padding = Uint8Array.of(0, 3);
		},
	},
	{ rule: "BODY_LENGTH", what: "a count beyond the body", stream: (s) => s.record("LU_M2P").set("rangeCount", 3) },
	{
		rule: "BODY_LENGTH",
		what: "a count less than the body",
		stream: (s) => s.record("LU_CPUPOOLS").set("cpuCount", 1),
	},
	{
		rule: "BODY_LENGTH",
		what: "a count whose octets wrap 32 bits",
		stream: (s) => s.record("LU_HOST").set("virqHandlerCount", 0x2000_0001),
	},
	{
		rule: "BODY_LENGTH",
		what: "a body shorter than its head",
		stream: (s) => {
			const record = s.record("LU_DOMAIN", 1);
			record.body = record.body.slice(0, 64);
		},
	},
	{
		rule: "BODY_LENGTH",
		what: "half a row at the end of a body without a count",
		stream: (s) => {
			const record = s.record("X86_CPUID_POLICY", 1);
			record.body = record.body.slice(0, 12);
		},
	},
	{
		rule: "BODY_LENGTH",
		what: "a body of more than 128 MiB",
		octets: (s) => {
			view(s).setUint32(24 + 4, 128 * 1024 * 1024 + 1, true);
			return s;
		},
	},
	{
		rule: "UNKNOWN_RECORD",
		what: "F3: an unknown mandatory record",
		stream: (s) => void s.section("2", 1).records.push(new StreamRecord(0x400000aa, new Uint8Array(16))),
	},
	{
		rule: "UNKNOWN_RECORD",
		what: "F3: a libxc record that a live update does not have",
		stream: (s) => void s.section("2", 1).records.push(new StreamRecord(1, new Uint8Array(8))),
	},
	{
		rule: "SECTION_EXPECTED",
		what: "a record before the first section",
		octets: (s) => {
			view(s).setUint32(24, 0x40000001, true);
			return s;
		},
	},
	{
		rule: "SECTION_ORDER",
		what: "section 1h before a domain's section 0",
		stream: (s) => {
			const at = s.sections.findIndex(({ pass }) => pass === 2);
			s.sections.splice(at - 1, 0, ...s.sections.splice(at, 1));
		},
	},
	{ rule: "SECTION_ORDER", what: "a section of an unknown pass", stream: (s) => void (s.section("2", 5).pass = 5) },
	{ rule: "SECTION_ORDER", what: "section H of a domain", stream: (s) => void (s.section("H").domid = 0) },
	{
		rule: "SECTION_ORDER",
		what: "section 1d of a domain that has no section 0",
		stream: (s) => void s.sections.splice(7, 0, { pass: 3, domid: 77, records: [] }),
	},
	{
		rule: "SECTION_LENGTH",
		what: "a record count that is one too high",
		stream: (s) => {
			const section = s.section("1d", 1);
			section.claims = { recordCount: section.records.length + 1 };
		},
	},
	{
		rule: "SECTION_LENGTH",
		what: "a length that is no multiple of 8",
		stream: (s) => void (s.section("1d", 0).claims = { length: 20 }),
	},
	{
		rule: "SECTION_LENGTH",
		what: "a record that goes beyond its section",
		stream: (s) => {
			const record = s.record("LU_CAPS");
			record.claimedLength = record.body.length + 8;
		},
	},
	{
		rule: "CHECKSUM",
		what: "an octet of a record",
		octets: (s) => {
			const at = find(s, 0x40000002) + 8 + 50;
			s[at] = (s[at] as number) ^ 1;
			return s;
		},
	},
	{
		rule: "CHECKSUM",
		what: "an octet of the index",
		octets: (s) => {
			const at = find(s, INDEX) + 8 + 16 + 8;
			s[at] = (s[at] as number) ^ 1;
			return s;
		},
	},
	{
		rule: "INDEX",
		what: "a section that the index does not list",
		octets: (s) => {
			const at = find(s, INDEX);
			view(s).setUint32(at + 8 + 8, 13, true);
			view(s).setUint32(at + 4, 16 + 13 * 40, true);
			return s;
		},
	},
	{
		rule: "END",
		what: "END with a body",
		octets: (s) => {
			const more = longer(s, 8);
			view(more).setUint32(end(s) + 4, 8, true);
			return more;
		},
	},
	{ rule: "END", what: "octets behind END", octets: (s) => longer(s, 8) },
	{
		rule: "END",
		what: "a record between LU_INDEX and END",
		octets: (s) => {
			const more = longer(s, 8);
			more.set(frame(0x8000_0001, new Uint8Array(0)), end(s));
			return more;
		},
	},
	{
		rule: "SPARSE",
		what: "two runs that touch",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).run(1, 2, 2),
	},
	{ rule: "SPARSE", what: "a run before the one before it", stream: (s) => s.record("LU_GRANT_MAPS", 0).run(1, 0, 2) },
	{ rule: "SPARSE", what: "a run beyond the slots", stream: (s) => s.record("LU_GRANT_MAPS", 0).run(1, 4, 2) },
	{ rule: "SPARSE", what: "an empty run", stream: (s) => s.record("LU_GRANT_MAPS", 0).run(1, 3, 4) },
	{
		rule: "SPARSE",
		what: "a used slot that is empty",
		stream: (s) => {
			const record = s.record("LU_GRANT_MAPS", 0);
			const rows = record.partOffset("Maptrack") + 16;
			record.body.fill(0, rows + 16, rows + 32);
		},
	},
	{ rule: "SPARSE", what: "rows before the first run", stream: (s) => s.record("LU_GRANT_MAPS", 0).run(0, 0, 1) },
	{
		rule: "CHUNK",
		what: "a chunk of an unknown form",
		stream: (s) => {
			const record = s.record("LU_FRAMES");
			record.body[record.partOffset("FrameOwners")] = 4;
		},
	},
	{
		rule: "CHUNK",
		what: "a slice that is shorter than its chunks",
		stream: (s) => s.record("LU_PAGE_TYPES").set("entryCount", 1000),
	},
	{ rule: "SLICE", what: "an empty slice", stream: (s) => s.record("LU_PAGE_TYPES").set("entryCount", 0) },
	{
		rule: "SLICE",
		what: "a slice beyond 2^20 entries",
		stream: (s) => s.record("LU_P2M", 2).set("entryCount", (1 << 20) + 1),
	},
	{ rule: "SLICE", what: "page types beyond the host", stream: (s) => s.record("LU_PAGE_TYPES").set("firstMfn", 1) },
	{ rule: "SLICE", what: "owners beyond the host", stream: (s) => s.record("LU_FRAMES").set("firstMfn", 1) },
	{
		rule: "SLICE",
		what: "two slices that overlap",
		stream: (s) => void s.section("1h").records.splice(1, 0, s.record("LU_FRAMES").clone()),
	},
	{
		rule: "SLICE",
		what: "a P2M slice beyond the highest GFN",
		stream: (s) => s.record("LU_P2M", 2).set("firstGfn", 1),
	},
];

const structure: RuleCase[] = [
	{
		rule: "WRONG_SECTION",
		what: "LU_VCPUS in section 2",
		stream: (s) => {
			const record = s.remove("LU_VCPUS", 1);
			s.section("2", 1).records.push(record);
		},
	},
	{
		rule: "RECORD_ORDER",
		what: "LU_VCPUS before the P2M",
		stream: (s) => {
			const record = s.remove("LU_VCPUS", 2);
			s.section("0", 2).records.splice(1, 0, record);
		},
	},
	{
		rule: "RECORD_ORDER",
		what: "a vCPU's registers before its state",
		stream: (s) => {
			const record = s.remove("LU_PV_VCPU", 1, 1);
			s.section("2", 1).records.splice(0, 0, record);
		},
	},
	{
		rule: "RECORD_TWICE",
		what: "two LU_SHARED_INFO",
		stream: (s) => void s.section("2", 1).records.push(s.record("LU_SHARED_INFO", 1).clone()),
	},
	{
		rule: "RECORD_TWICE",
		what: "a vCPU's MSRs twice",
		stream: (s) => void s.section("2", 1).records.push(s.record("X86_PV_VCPU_MSRS", 1).clone()),
	},
	{ rule: "RECORD_MISSING", what: "no LU_REGIONS", stream: (s) => void s.remove("LU_REGIONS") },
	{ rule: "RECORD_MISSING", what: "no LU_HOST", stream: (s) => void s.remove("LU_HOST") },
	{ rule: "RECORD_MISSING", what: "no LU_DOMAIN_STATE", stream: (s) => void s.remove("LU_DOMAIN_STATE", 2) },
	{ rule: "RECORD_MISSING", what: "ports without an ABI", stream: (s) => void s.remove("LU_EVTCHN", 1) },
	{
		rule: "RECORD_MISSING",
		what: "an HVM guest without its context",
		stream: (s) => void s.remove("HVM_CONTEXT", 2),
	},
	{
		rule: "SECTION_MISSING",
		what: "no section H",
		stream: (s) => {
			s.sections = s.sections.filter(({ pass }) => pass !== 0);
		},
	},
	{
		rule: "SECTION_MISSING",
		what: "no section 1h",
		stream: (s) => {
			s.sections = s.sections.filter(({ pass }) => pass !== 2);
		},
	},
	{
		rule: "SECTION_MISSING",
		what: "a domain without section 1d",
		stream: (s) => {
			s.sections = s.sections.filter(({ pass, domid }) => pass !== 3 || domid !== 2);
		},
	},
	{
		rule: "SECTION_MISSING",
		what: "a domain without section 2",
		stream: (s) => {
			s.sections = s.sections.filter(({ pass, domid }) => pass !== 4 || domid !== 5);
		},
	},
];

const memory: RuleCase[] = [
	{ rule: "MEMORY", what: "a grant frame that is not preserved", memory: (pages) => void pages.delete(305) },
	{ rule: "MEMORY", what: "a status frame that is not preserved", memory: (pages) => void pages.delete(306) },
	{ rule: "MEMORY", what: "a shared_info that is not preserved", memory: (pages) => void pages.delete(302) },
	{ rule: "MEMORY", what: "a control block that is not preserved", memory: (pages) => void pages.delete(211) },
	{ rule: "MEMORY", what: "an event array that is not preserved", memory: (pages) => void pages.delete(212) },
	{ rule: "MEMORY", what: "a frame beyond the host", memory: (pages) => void pages.set(1024, new Uint8Array(4096)) },
];

const host: RuleCase[] = [
	{
		rule: "HOST_LIMIT",
		what: "one domain more than there are",
		stream: (s) => s.record("LU_HOST").set("domainCount", 5),
	},
	{
		rule: "HOST_LIMIT",
		what: "more frames than 1 TiB",
		stream: (s) => s.record("LU_HOST").set("frameCount", (1n << 28n) + 1n),
	},
	{ rule: "HOST_LIMIT", what: "no CPU", stream: (s) => s.record("LU_HOST").set("cpuCount", 0) },
	{
		rule: "VERSION1_REFUSES",
		what: "an unknown feature in use",
		stream: (s) => s.record("LU_HOST").set("features", 32n),
	},
	{
		rule: "DOMAIN_REFERENCE",
		what: "a VIRQ handler that does not exist",
		stream: (s) => s.record("LU_HOST").row("VirqHandlers", 0, "domid", 9),
	},
	{
		rule: "VIRQ",
		what: "a handler of an unknown VIRQ",
		stream: (s) => s.record("LU_HOST").row("VirqHandlers", 0, "virq", 24),
	},
	{
		rule: "VIRQ",
		what: "two handlers of one VIRQ",
		model: (m) => {
			m.virqHandlers = [
				{ virq: 3, domid: 0 },
				{ virq: 3, domid: 1 },
			];
		},
	},
	{ rule: "REGION", what: "an unknown kind", stream: (s) => s.record("LU_REGIONS").row("RegionList", 2, "kind", 4) },
	{
		rule: "REGION",
		what: "an empty region",
		stream: (s) => s.record("LU_REGIONS").row("RegionList", 1, "frameCount", 0n),
	},
	{
		rule: "REGION",
		what: "no bootmem",
		stream: (s) => s.record("LU_REGIONS").row("RegionList", 0, "kind", REGION.reusable),
	},
	{
		rule: "REGION",
		what: "two bootmems",
		stream: (s) => s.record("LU_REGIONS").row("RegionList", 1, "kind", REGION.bootmem),
	},
	{
		rule: "REGION",
		what: "regions that overlap",
		stream: (s) => s.record("LU_REGIONS").row("RegionList", 1, "firstMfn", 15n),
	},
	{
		rule: "REGION",
		what: "a region beyond the host",
		stream: (s) => s.record("LU_REGIONS").row("RegionList", 2, "frameCount", 65n),
	},
	{
		rule: "REGION",
		what: "a region whose end wraps 64 bits",
		stream: (s) => s.record("LU_REGIONS").row("RegionList", 2, "frameCount", NONE64),
	},
	{
		rule: "FRAME_RESERVED",
		what: "a guest's frame in bootmem",
		model: (m) => {
			m.frameOwners[7] = owned | 1n;
		},
	},
	{
		rule: "FRAME_RESERVED",
		what: "the M2P in a guest's frame",
		stream: (s) => s.record("LU_M2P").row("M2pRanges", 0, "firstMfn", 128n),
	},
	{
		rule: "FRAME_RESERVED",
		what: "a frame of the M2P twice",
		model: (m) => {
			m.m2pRanges = [...m.m2pRanges, { firstMfn: 65, frameCount: 1 }];
		},
	},
	{
		rule: "FRAME_RESERVED",
		what: "an IOMMU's table in a guest's frame",
		stream: (s) => s.record("LU_DEVICES").row("IommuRanges", 0, "firstMfn", 128n),
	},
	{
		rule: "FRAME_RESERVED",
		what: "a root of an unknown purpose",
		stream: (s) => s.record("LU_KEPT_FRAMES").row("KeptRoots", 0, "purpose", 3),
	},
	{
		rule: "HOST_LIMIT",
		what: "more CPU pools than CPUs",
		model: (m) => {
			m.poolList = [0, 1, 2].map((poolId) => ({ poolId, scheduler: 6, granularity: 1 }));
		},
	},
	{
		rule: "FRAME_RESERVED",
		what: "the M2P beyond the host",
		stream: (s) => s.record("LU_M2P").row("M2pRanges", 0, "frameCount", NONE64),
	},
	{
		rule: "FRAME_RESERVED",
		what: "kept page tables in a guest's frame",
		stream: (s) => s.record("LU_KEPT_FRAMES").row("KeptRanges", 0, "firstMfn", 512n),
	},
	{
		rule: "FRAME_RESERVED",
		what: "kept page tables in a re-usable region",
		stream: (s) => s.record("LU_KEPT_FRAMES").row("KeptRanges", 0, "firstMfn", 960n),
	},
	{
		rule: "FRAME_RESERVED",
		what: "a root of an unknown format",
		stream: (s) => s.record("LU_KEPT_FRAMES").row("KeptRoots", 0, "format", 5),
	},
	{
		rule: "FRAME_RESERVED",
		what: "a root of two levels",
		stream: (s) => s.record("LU_KEPT_FRAMES").row("KeptRoots", 0, "levels", 2),
	},
	{
		rule: "FRAME_RESERVED",
		what: "a root beyond the host",
		stream: (s) => s.record("LU_KEPT_FRAMES").row("KeptRoots", 0, "rootMfn", 1024n),
	},
	{
		rule: "FRAME_RESERVED",
		what: "a machine frame of bootmem in a P2M",
		model: (m) => {
			(domain(m, 2).p2m as BigUint64Array)[599] = p2mEntry(7, P2M_TYPE.mmioDirect);
		},
	},
	{
		rule: "FRAME_RESERVED",
		what: "a kept page table in a P2M",
		model: (m) => {
			(domain(m, 2).p2m as BigUint64Array)[599] = p2mEntry(451, P2M_TYPE.mmioDirect);
		},
	},
];

const domains: RuleCase[] = [
	{
		rule: "DOMID",
		what: "a section's domid is not its LU_DOMAIN's",
		stream: (s) => s.record("LU_DOMAIN", 1).set("domid", 3),
	},
	{
		rule: "DOMID",
		what: "two domains of one number",
		stream: (s) => {
			const at = s.sections.findIndex(({ pass, domid }) => pass === 1 && domid === 5);
			s.sections.splice(at, 0, { pass: 1, domid: 5, records: s.section("0", 5).records.map((r) => r.clone()) });
		},
	},
	{
		rule: "SECTION_ORDER",
		what: "a domid that Xen reserves",
		stream: (s) => {
			for (const section of s.sections) if (section.domid === 5) section.domid = DOMID.SELF;
		},
	},
	{ rule: "DOMAIN_FIELD", what: "an unknown kind", stream: (s) => s.record("LU_DOMAIN", 1).set("kind", 4) },
	{ rule: "DOMAIN_FIELD", what: "neither alive nor dead", stream: (s) => s.record("LU_DOMAIN", 1).set("life", 2) },
	{ rule: "DOMAIN_FIELD", what: "an unknown flag", stream: (s) => s.record("LU_DOMAIN", 1).set("createFlags", 128) },
	{
		rule: "DOMAIN_FIELD",
		what: "a second hardware domain",
		stream: (s) => s.record("LU_DOMAIN", 1).set("createFlags", CREATE.hardware),
	},
	{ rule: "DOMAIN_FIELD", what: "a word of 3 octets", stream: (s) => s.record("LU_DOMAIN", 2).set("guestWidth", 3) },
	{ rule: "DOMAIN_FIELD", what: "too many vCPUs", stream: (s) => s.record("LU_DOMAIN", 1).set("maxVcpus", 8193) },
	{
		rule: "DOMAIN_FIELD",
		what: "grant tables of version 3",
		stream: (s) => s.record("LU_DOMAIN", 1).set("grantVersionLimit", 3),
	},
	{ rule: "VERSION1_REFUSES", what: "a 32-bit PV guest", stream: (s) => s.record("LU_DOMAIN", 1).set("guestWidth", 4) },
	{
		rule: "DOMAIN_REFERENCE",
		what: "a CPU pool that does not exist",
		stream: (s) => s.record("LU_DOMAIN", 1).set("cpupoolId", 3),
	},
	{
		rule: "DOMAIN_REFERENCE",
		what: "a target that does not exist",
		stream: (s) => s.record("LU_DOMAIN_STATE", 1).set("target", 7),
	},
	{
		rule: "DOMAIN_STATE",
		what: "an unknown shutdown state",
		stream: (s) => s.record("LU_DOMAIN_STATE", 1).set("shutdownState", 3),
	},
	{
		rule: "DOMAIN_STATE",
		what: "half created",
		stream: (s) => s.record("LU_DOMAIN_STATE", 1).set("creationFinished", 2),
	},
	{
		rule: "DOMAIN_STATE",
		what: "a callback asserted twice",
		stream: (s) => s.record("LU_DOMAIN_STATE", 2).set("callbackAsserted", 2),
	},
	{
		rule: "DOMAIN_STATE",
		what: "an unknown sleep",
		stream: (s) => s.record("LU_DOMAIN_STATE", 2).set("suspendedS3", 2),
	},
	{
		rule: "DOMAIN_STATE",
		what: "an unknown EOI map",
		stream: (s) => s.record("LU_DOMAIN_STATE", 1).set("pirqEoiMode", 3),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "another's EOI map",
		stream: (s) => s.record("LU_DOMAIN_STATE", 1).set("pirqEoiMfn", 128n),
	},
	{
		rule: "DEAD_DOMAIN",
		what: "a dead domain with a shared_info",
		model: (m) => {
			domain(m, 5).sharedInfo = { mfn: 300, gfn: NONE64 };
		},
	},
	{
		rule: "DEAD_DOMAIN",
		what: "a dead domain with ports, a shared_info and grant mappings",
		model: (m) => {
			const dead = domain(m, 5);
			dead.sharedInfo = { mfn: 300, gfn: NONE64 };
			dead.evtchn = { abi: 0 };
			dead.vcpuIds = [0];
			dead.domain.maxVcpus = 1;
			dead.vcpu = [{ flags: VCPU_FLAG.exists | VCPU_FLAG.down, vcpuInfoMfn: NONE64 }];
			dead.ports = [undefined, { state: EVTCHN_STATE.ipi }];
		},
	},
	{
		rule: "DEAD_DOMAIN",
		what: "a dead domain with grant frames",
		model: (m) => {
			domain(m, 5).grantFrames = [{ mfn: 400, gfn: NONE64 }];
		},
	},
	{ rule: "SHARED_INFO", what: "a living domain without one", stream: (s) => void s.remove("LU_SHARED_INFO", 1) },
];

const frames: RuleCase[] = [
	{
		rule: "FRAME_ENTRY",
		what: "an unknown flag",
		model: (m) => {
			m.frameOwners[130] = owned | (1n << 22n);
		},
	},
	{
		rule: "FRAME_ENTRY",
		what: "flags on a frame that nobody owns",
		model: (m) => {
			m.frameOwners[700] = BigInt(FRAME.broken);
		},
	},
	{
		rule: "FRAME_ENTRY",
		what: "a xenheap frame that is not allocated",
		model: (m) => {
			m.frameOwners[302] = BigInt(FRAME.owned | FRAME.xenheap) | 1n;
		},
	},
	{
		rule: "FRAME_OWNER",
		what: "an owner that does not exist",
		model: (m) => {
			m.frameOwners[131] = owned | 9n;
		},
	},
	{
		rule: "FRAME_OWNER",
		what: "DOMID_COW as an owner",
		model: (m) => {
			m.frameOwners[131] = owned | BigInt(DOMID.COW);
		},
	},
	{
		rule: "XENHEAP_COUNT",
		what: "a xenheap frame that no record names",
		model: (m) => {
			m.frameOwners[307] = owned | BigInt(FRAME.xenheap) | 1n;
		},
	},
	{
		rule: "XENHEAP_COUNT",
		what: "a shared_info in ordinary memory",
		stream: (s) => s.record("LU_SHARED_INFO", 1).set("mfn", 192n),
	},
	{
		rule: "XENHEAP_COUNT",
		what: "shared_info and grant frame in one",
		stream: (s) => s.record("LU_SHARED_INFO", 1).set("mfn", 303n),
	},
	{
		rule: "MAX_PAGES",
		what: "one frame more than allowed",
		stream: (s) => s.record("LU_DOMAIN", 1).set("maxPages", 47n),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a shared_info of another domain",
		stream: (s) => s.record("LU_SHARED_INFO", 1).set("mfn", 300n),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a shared_info beyond the host",
		stream: (s) => s.record("LU_SHARED_INFO", 1).set("mfn", 1024n),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a shared_info in a free frame",
		stream: (s) => s.record("LU_SHARED_INFO", 1).set("mfn", 600n << 1n),
	},
	{
		rule: "PAGE_TYPE",
		what: "an unknown type",
		model: (m) => {
			m.frameTypes[202] = 6;
		},
	},
	{
		rule: "PAGE_TYPE",
		what: "an unknown flag",
		model: (m) => {
			m.frameTypes[202] = PAGE_TYPE.l1 | 64;
		},
	},
	{
		rule: "PAGE_TYPE",
		what: "flags without a type",
		model: (m) => {
			m.frameTypes[202] = PAGE_TYPE_FLAG.validated;
		},
	},
	{
		rule: "PAGE_TYPE",
		what: "a pinned writable frame",
		model: (m) => {
			m.frameTypes[202] = PAGE_TYPE.writable | PAGE_TYPE_FLAG.pinned;
		},
	},
	{
		rule: "PAGE_TYPE",
		what: "a page table of an HVM guest",
		model: (m) => {
			m.frameTypes[600] = PAGE_TYPE.l1;
		},
	},
	{
		rule: "PAGE_TYPE",
		what: "a page table of Xen",
		model: (m) => {
			m.frameTypes[64] = PAGE_TYPE.l4;
		},
	},
	{
		rule: "PAGE_TYPE",
		what: "a type in use on a free frame",
		model: (m) => {
			m.frameTypes[700] = PAGE_TYPE.writable;
			m.frameOwners[700] = 0n;
		},
	},
	{
		rule: "VERSION1_REFUSES",
		what: "a PAE guest's L2",
		model: (m) => {
			m.frameTypes[202] = PAGE_TYPE.l2 | PAGE_TYPE_FLAG.paeXenL2;
		},
	},
];

function p2m(gfn: number, entry: bigint, rule: string, what: string): RuleCase {
	return {
		rule,
		what,
		model: (m) => {
			(domain(m, 2).p2m as BigUint64Array)[gfn] = entry;
		},
	};
}

/** A 2 MiB entry in a P2M of 600 entries. */
function superpage(rule: string, type: number, first: number, count: number, mfn: number, what: string): RuleCase {
	return {
		rule,
		what,
		model: (m) => {
			const map = domain(m, 2).p2m as BigUint64Array;
			map.fill(0n, 0, 599);
			for (let i = 0; i < count; i++) map[first + i] = p2mEntry(mfn + i, type, 9);
			domain(m, 2).foreignMapList = [];
		},
	};
}

/** A chunk of one run of u64 entries. */
function runs(length: number, value: bigint): Uint8Array {
	const chunk = new Uint8Array(8 + 24);
	const data = view(chunk);
	data.setUint8(0, 1);
	data.setUint16(2, length, true);
	data.setUint32(4, 24, true);
	data.setUint32(8, 1, true);
	data.setBigUint64(16, value, true);
	data.setUint16(24, length, true);
	return chunk;
}

/** The HVM guest's P2M in two slices of 300 entries, all of them absent populate-on-demand ones. */
function twoSlices(s: Restitched): [StreamRecord, StreamRecord] {
	const { records } = s.section("0", 2);
	const first = s.record("LU_P2M", 2);
	const chunk = runs(300, (BigInt(P2M_TYPE.populateOnDemand) << 40n) | (BigInt(P2M_ACCESS.rwx) << 44n));
	first.body = concatenate([first.body.slice(0, 32), chunk]);
	first.set("entryCount", 300).set("chunkBytes", chunk.length);
	const second = first.clone().set("firstGfn", 300n);
	records.splice(records.indexOf(first) + 1, 0, second);
	return [first, second];
}

const p2mCases: RuleCase[] = [
	p2m(10, p2mEntry(522) | (1n << 55n), "P2M_ENTRY", "an unknown bit"),
	p2m(10, p2mEntry(522, P2M_TYPE.ramRw, 0, 11), "P2M_ENTRY", "an unknown access right"),
	p2m(10, p2mEntry(522, P2M_TYPE.ramRw, 1), "P2M_ENTRY", "an unknown order"),
	p2m(301, (BigInt(P2M_TYPE.populateOnDemand) << 40n) | 5n, "P2M_ENTRY", "an absent entry with a frame"),
	p2m(301, BigInt(P2M_TYPE.ramRo) << 40n, "P2M_ENTRY", "an absent entry of RAM"),
	p2m(301, p2mEntry(530, P2M_TYPE.populateOnDemand), "P2M_ENTRY", "a populate-on-demand entry with a frame"),
	{
		rule: "P2M_ENTRY",
		what: "an unknown default access",
		stream: (s) => s.record("LU_P2M", 2).set("defaultAccess", 11),
	},
	p2m(10, p2mEntry(522, P2M_TYPE.paged), "VERSION1_REFUSES", "a frame paged out"),
	p2m(10, p2mEntry(522, P2M_TYPE.shared), "VERSION1_REFUSES", "a shared frame"),
	superpage("P2M_SUPERPAGE", P2M_TYPE.mmioDirect, 1, 512, 2048, "a 2 MiB entry at an odd GFN"),
	superpage("P2M_SUPERPAGE", P2M_TYPE.mmioDirect, 0, 511, 2048, "a 2 MiB entry of 511 frames"),
	superpage("P2M_SUPERPAGE", P2M_TYPE.mmioDirect, 0, 512, 2049, "a 2 MiB entry of odd frames"),
	p2m(10, p2mEntry(130), "P2M_FRAME", "RAM of another domain"),
	p2m(10, p2mEntry(2000), "P2M_FRAME", "RAM beyond the host"),
	p2m(10, p2mEntry(440), "P2M_FRAME", "RAM that nobody owns"),
	superpage("P2M_FOREIGN", P2M_TYPE.foreign, 0, 512, 512, "a foreign 2 MiB entry"),
	superpage("P2M_FOREIGN", P2M_TYPE.ioreqServer, 0, 512, 512, "an I/O server's 2 MiB entry"),
	p2m(10, p2mEntry(191, P2M_TYPE.foreign), "P2M_FOREIGN", "a foreign entry that LU_FOREIGN_MAPS does not list"),
	p2m(400, 0n, "P2M_FOREIGN", "LU_FOREIGN_MAPS lists an entry that the P2M does not have"),
	{
		rule: "P2M_FOREIGN",
		what: "another frame than the P2M's",
		stream: (s) => s.record("LU_FOREIGN_MAPS").row("ForeignMapList", 0, "mfn", 189n),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a foreign frame of another owner",
		stream: (s) => s.record("LU_FOREIGN_MAPS").row("ForeignMapList", 0, "owner", 1),
	},
	{
		rule: "DOMAIN_REFERENCE",
		what: "a foreign frame of nobody",
		stream: (s) => s.record("LU_FOREIGN_MAPS").row("ForeignMapList", 0, "owner", 9),
	},
	{
		rule: "P2M_HIGHEST",
		what: "a highest GFN that is not mapped",
		stream: (s) => s.record("LU_P2M", 2).set("highestGfn", 600n),
	},
	{
		rule: "P2M_HIGHEST",
		what: "a highest GFN beyond the core's windows",
		stream: (s) => s.record("LU_P2M", 2).set("highestGfn", 1n << 29n),
	},
	{
		rule: "P2M_HIGHEST",
		what: "slices that do not agree on the highest GFN",
		stream: (s) => twoSlices(s)[1].set("highestGfn", 8192n),
	},
	{
		rule: "P2M_HIGHEST",
		what: "slices that do not agree on the default access",
		stream: (s) => twoSlices(s)[1].set("defaultAccess", P2M_ACCESS.rx),
	},
	{
		rule: "P2M_FOREIGN",
		what: "a foreign entry behind a run that would count into its type",
		stream: (s) => {
			const [first] = twoSlices(s);
			const entry = (1n << 63n) | (BigInt(P2M_ACCESS.rwx) << 44n) | (BigInt(P2M_TYPE.broken) << 40n);
			s.record("LU_FOREIGN_MAPS").row("ForeignMapList", 0, "gfn", 9000n);
			const chunks = [runs(4096, entry | ((1n << 40n) - 4096n)), runs(1, entry + (1n << 40n))];
			const body = concatenate([first.body.slice(0, 32), ...chunks]);
			first.body = body;
			first.set("entryCount", 4097).set("chunkBytes", body.length - 32);
			s.remove("LU_P2M", 2, 1);
			first.set("highestGfn", 4096n);
		},
	},
	{
		rule: "P2M_HIGHEST",
		what: "entries, and nothing mapped",
		stream: (s) => s.record("LU_P2M", 2).set("highestGfn", NONE64),
	},
	{
		rule: "HVM_ONLY",
		what: "a PV guest with a P2M",
		stream: (s) => void s.section("0", 1).records.splice(1, 0, s.record("LU_P2M", 2).clone()),
	},
];

const grants: RuleCase[] = [
	{ rule: "GRANT_TABLE", what: "version 3", stream: (s) => s.record("LU_GRANT_TABLE", 1).set("version", 3) },
	{
		rule: "GRANT_TABLE",
		what: "more grant frames than allowed",
		stream: (s) => s.record("LU_DOMAIN", 1).set("maxGrantFrames", 0),
	},
	{
		rule: "GRANT_TABLE",
		what: "more maptrack frames than allowed",
		stream: (s) => s.record("LU_GRANT_TABLE", 0).set("maptrackFrameCount", 1025),
	},
	{
		rule: "GRANT_TABLE",
		what: "version 2 without its status frame",
		model: (m) => {
			domain(m, 2).statusFrames = [];
		},
	},
	{
		rule: "GRANT_TABLE",
		what: "a status frame in version 1",
		model: (m) => {
			domain(m, 2).grantTable = { version: 1 };
		},
	},
	{
		rule: "GRANT_ACTIVE",
		what: "a reference beyond the table",
		model: (m) => {
			domain(m, 1).grantActive = Object.assign(new Array(513).fill(undefined), {
				512: { mfn: 220, grantee: 0, hostRead: 1 },
			});
		},
	},
	{
		rule: "GRANT_ACTIVE",
		what: "129 mappings of a kind",
		stream: (s) => s.record("LU_GRANT_ACTIVE", 1).row("GrantActive", 0, "hostRead", 129),
	},
	{
		rule: "GRANT_ACTIVE",
		what: "an entry that nobody has mapped",
		stream: (s) =>
			s.record("LU_GRANT_ACTIVE", 1).row("GrantActive", 0, "hostRead", 0).row("GrantActive", 0, "hostWrite", 0),
	},
	{
		rule: "DOMAIN_REFERENCE",
		what: "a grantee that does not exist",
		stream: (s) => s.record("LU_GRANT_ACTIVE", 1).row("GrantActive", 0, "grantee", 9),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a granted frame of another domain",
		stream: (s) => s.record("LU_GRANT_ACTIVE", 1).row("GrantActive", 0, "mfn", 130n),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a grant frame of another domain",
		stream: (s) => s.record("LU_GRANT_TABLE", 1).row("GrantFrames", 0, "mfn", 301n),
	},
	{
		rule: "MAPTRACK",
		what: "no kind of mapping",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).row("Maptrack", 0, "flags", 4),
	},
	{
		rule: "MAPTRACK",
		what: "an unknown flag",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).row("Maptrack", 0, "flags", 10),
	},
	{
		rule: "MAPTRACK",
		what: "a vCPU beyond the limit",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).row("Maptrack", 0, "vcpuId", 1),
	},
	{
		rule: "MAPTRACK",
		what: "handles beyond the limit",
		stream: (s) =>
			s.record("LU_DOMAIN", 0).set("maxMaptrackFrames", 1) && s.record("LU_GRANT_MAPS", 0).set("slotCount", 257),
	},
	{
		rule: "MAPTRACK_UNMATCHED",
		what: "a granting domain that does not exist",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).row("Maptrack", 0, "domid", 9),
	},
	{
		rule: "MAPTRACK_UNMATCHED",
		what: "a granting domain without active grants",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).row("Maptrack", 0, "domid", 0),
	},
	{
		rule: "MAPTRACK_UNMATCHED",
		what: "a reference that is not active",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).row("Maptrack", 0, "reference", 9),
	},
	{
		rule: "MAPTRACK_UNMATCHED",
		what: "a grant of another grantee",
		stream: (s) => s.record("LU_GRANT_ACTIVE", 1).row("GrantActive", 0, "grantee", 2),
	},
	{
		rule: "PIN_SUM",
		what: "one pin more than mappings",
		stream: (s) => s.record("LU_GRANT_ACTIVE", 1).row("GrantActive", 0, "hostRead", 2),
	},
	{
		rule: "PIN_SUM",
		what: "a mapping of the other kind",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).row("Maptrack", 0, "flags", 1),
	},
	{
		rule: "PIN_SUM",
		what: "a pinned grant that nobody has mapped",
		stream: (s) => void s.remove("LU_GRANT_MAPS", 0),
	},
];

const port = (domid: number, row: number, field: string, value: number) => (s: Restitched) =>
	s.record("LU_EVTCHN_PORTS", domid).row("Ports", row, field, value);

const events: RuleCase[] = [
	{ rule: "PORT_FIELD", what: "an unknown ABI", stream: (s) => s.record("LU_EVTCHN", 1).set("abi", 2) },
	{ rule: "PORT_FIELD", what: "an unknown state", stream: port(1, 1, "state", 7) },
	{ rule: "PORT_FIELD", what: "an unknown consumer", stream: port(2, 1, "consumer", 5) },
	{ rule: "PORT_FIELD", what: "an unknown priority", stream: port(1, 1, "priority", 16) },
	{ rule: "PORT_FIELD", what: "an unknown last priority", stream: port(1, 1, "lastPriority", 16) },
	{ rule: "PORT_FIELD", what: "a vCPU that does not exist", stream: port(1, 1, "notifyVcpu", 2) },
	{ rule: "PORT_FIELD", what: "a last vCPU that does not exist", stream: port(1, 1, "lastVcpu", 2) },
	{ rule: "PORT_FIELD", what: "pending twice", stream: port(1, 3, "pending", 2) },
	{
		rule: "PORT_FIELD",
		what: "port 0 in use",
		stream: (s) => s.record("LU_EVTCHN_PORTS", 0).run(0, 0, 0),
	},
	{
		rule: "PORT_LIMIT",
		what: "a port above the domain's limit",
		stream: (s) => s.record("LU_DOMAIN", 1).set("maxEvtchnPort", 3),
	},
	{
		rule: "PORT_LIMIT",
		what: "more ports than 2-level channels have",
		stream: (s) => s.record("LU_EVTCHN_PORTS", 0).set("slotCount", 4097),
	},
	{
		rule: "PORT_LIMIT",
		what: "more ports than 2-level channels have for a 32-bit guest",
		stream: (s) => {
			s.record("LU_DOMAIN", 2).set("guestWidth", 4);
			s.record("LU_EVTCHN_PORTS", 2).set("slotCount", 1025);
		},
	},
	{
		rule: "PORT_LIMIT",
		what: "more ports than FIFO channels have",
		stream: (s) => s.record("LU_EVTCHN_PORTS", 1).set("slotCount", 131_073),
	},
	{ rule: "INTERDOMAIN", what: "the other domain does not exist", stream: port(0, 1, "remoteDomid", 9) },
	{ rule: "INTERDOMAIN", what: "the other domain has no ports", stream: port(0, 1, "remoteDomid", 5) },
	{ rule: "INTERDOMAIN", what: "the other port is free", stream: port(0, 1, "remotePort", 9) },
	{ rule: "INTERDOMAIN", what: "the other port is a VIRQ's", stream: port(0, 1, "remotePort", 3) },
	{ rule: "INTERDOMAIN", what: "the other end names another port", stream: port(1, 0, "remotePort", 3) },
	{ rule: "INTERDOMAIN", what: "the other end names another domain", stream: port(1, 0, "remoteDomid", 2) },
	{ rule: "VIRQ", what: "an unknown VIRQ", stream: port(1, 2, "virq", 24) },
	{
		rule: "VIRQ",
		what: "a vCPU's VIRQ bound twice",
		stream: (s) => port(1, 1, "state", EVTCHN_STATE.virq)(s) && port(1, 2, "notifyVcpu", 1)(s),
	},
	{
		rule: "VIRQ",
		what: "a domain's VIRQ bound twice",
		stream: (s) => port(1, 1, "state", EVTCHN_STATE.virq)(s) && port(1, 1, "virq", 2)(s) && port(1, 2, "virq", 2)(s),
	},
	{ rule: "FIFO", what: "control blocks with 2-level channels", stream: (s) => s.record("LU_EVTCHN", 1).set("abi", 0) },
	{
		rule: "FIFO",
		what: "event arrays alone with 2-level channels",
		model: (m) => {
			domain(m, 0).eventArrays = [{ mfn: 130 }];
		},
	},
	{
		rule: "FIFO",
		what: "too many event arrays",
		model: (m) => {
			domain(m, 1).eventArrays = new Array(129).fill({ mfn: 212 });
		},
	},
	{
		rule: "FIFO",
		what: "a control block of a vCPU that does not exist",
		stream: (s) => s.record("LU_EVTCHN", 1).row("ControlBlocks", 1, "vcpuId", 2),
	},
	{
		rule: "FIFO",
		what: "two control blocks of one vCPU",
		stream: (s) => s.record("LU_EVTCHN", 1).row("ControlBlocks", 1, "vcpuId", 0),
	},
	{
		rule: "FIFO",
		what: "a control block that is not aligned",
		stream: (s) => s.record("LU_EVTCHN", 1).row("ControlBlocks", 0, "offset", 4),
	},
	{
		rule: "FIFO",
		what: "a control block that goes beyond its frame",
		stream: (s) => s.record("LU_EVTCHN", 1).row("ControlBlocks", 0, "offset", 4032),
	},
	{
		rule: "FIFO",
		what: "a tail beyond the ports",
		stream: (s) => s.record("LU_EVTCHN", 1).row("ControlBlocks", 0, "tail", 5, 7),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a control block of another domain",
		stream: (s) => s.record("LU_EVTCHN", 1).row("ControlBlocks", 0, "mfn", 130n),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "an event array beyond the host",
		stream: (s) => s.record("LU_EVTCHN", 1).row("EventArrays", 0, "mfn", NONE64),
	},
	{ rule: "PIRQ", what: "an unknown flag", stream: (s) => s.record("LU_PIRQS", 0).row("PirqList", 0, "flags", 16) },
	{
		rule: "PIRQ",
		what: "a port that is not a PIRQ's",
		stream: (s) => s.record("LU_PIRQS", 0).row("PirqList", 0, "port", 2),
	},
	{ rule: "PIRQ", what: "a port that is free", stream: (s) => s.record("LU_PIRQS", 0).row("PirqList", 0, "port", 4) },
	{ rule: "PIRQ", what: "a port of another PIRQ", stream: port(0, 3, "pirq", 10) },
	{
		rule: "PIRQ",
		what: "a PIRQ's port that no PIRQ names",
		stream: (s) => s.record("LU_PIRQS", 0).row("PirqList", 0, "port", 0),
	},
	{
		rule: "PIRQ",
		what: "one PIRQ twice",
		model: (m) => {
			const { pirqList } = domain(m, 0);
			domain(m, 0).pirqList = [...(pirqList ?? []), ...(pirqList ?? [])];
		},
	},
];

const vcpu = (domid: number, n: number, field: string, value: number | bigint) => (s: Restitched) =>
	s.record("LU_VCPU", domid, n).set(field, value);

const vcpus: RuleCase[] = [
	{ rule: "VCPU", what: "a vCPU above the limit", stream: (s) => s.record("LU_DOMAIN", 1).set("maxVcpus", 1) },
	{
		rule: "VCPU",
		what: "a vCPU number that no Xen has",
		stream: (s) => s.record("LU_VCPUS", 1).row("VcpuSlots", 1, "vcpuId", 8192),
	},
	{
		rule: "VCPU",
		what: "vCPUs that do not ascend",
		stream: (s) => s.record("LU_VCPUS", 1).row("VcpuSlots", 1, "vcpuId", 0),
	},
	{ rule: "VCPU", what: "a vCPU without LU_VCPU", stream: (s) => void s.remove("LU_VCPU", 2, 1) },
	{
		rule: "VCPU",
		what: "LU_VCPU of a vCPU that does not exist",
		stream: (s) => {
			const { records } = s.section("2", 2);
			const at = records.findIndex((record) => record.name === "LU_VCPU");
			records.splice(at, 0, s.record("LU_VCPU", 2).clone().set("vcpuId", 1));
		},
	},
	{ rule: "VCPU", what: "LU_VCPU of a number that no Xen has", stream: vcpu(2, 1, "vcpuId", 8192) },
	{ rule: "VCPU_STATE", what: "an unknown flag", stream: vcpu(1, 0, "flags", 35) },
	{ rule: "VCPU_STATE", what: "a vCPU that says it does not exist", stream: vcpu(1, 0, "flags", 2) },
	{
		rule: "VCPU_STATE",
		what: "affinities of more CPUs than there are",
		stream: (s) => {
			const record = s.record("LU_VCPU", 1).set("affinityWordCount", 2);
			const body = new Uint8Array(record.body.length + 24);
			body.set(record.body);
			record.body = body;
		},
	},
	{ rule: "VCPU_STATE", what: "an unknown runstate", stream: vcpu(1, 0, "runstate", 4) },
	{ rule: "VCPU_STATE", what: "an unknown privilege level", stream: vcpu(1, 0, "ioPrivilege", 4) },
	{ rule: "VCPU_STATE", what: "an unknown kind of runstate area", stream: vcpu(1, 0, "runstateArea", 3) },
	{ rule: "VCPU_STATE", what: "an unknown kind of time area", stream: vcpu(1, 0, "timeArea", 3) },
	{ rule: "VCPU_STATE", what: "a vcpu_info that goes beyond its frame", stream: vcpu(1, 0, "vcpuInfoOffset", 4033) },
	{ rule: "VCPU_STATE", what: "an offset without a vcpu_info", stream: vcpu(1, 1, "vcpuInfoOffset", 64) },
	{
		rule: "VCPU_STATE",
		what: "no vCPU that runs in a domain that is not shut down",
		stream: vcpu(0, 0, "flags", VCPU_FLAG.exists | VCPU_FLAG.initialised | VCPU_FLAG.down),
	},
	{ rule: "FRAME_NOT_OWNED", what: "a vcpu_info of another domain", stream: vcpu(1, 0, "vcpuInfoMfn", 130n) },
	{
		rule: "VCPU_CONTEXT",
		what: "an initialised vCPU without registers",
		stream: (s) => {
			for (const name of ["LU_PV_VCPU", "X86_PV_VCPU_EXTENDED", "X86_PV_VCPU_XSAVE"]) s.remove(name, 1, 1);
		},
	},
	{
		rule: "VCPU_CONTEXT",
		what: "registers of a vCPU that is not initialised",
		stream: vcpu(1, 1, "flags", VCPU_FLAG.exists | VCPU_FLAG.down),
	},
	{
		rule: "VCPU_CONTEXT",
		what: "an XSAVE area of a vCPU that is not initialised",
		stream: (s) => {
			vcpu(1, 1, "flags", VCPU_FLAG.exists | VCPU_FLAG.down)(s);
			s.remove("LU_PV_VCPU", 1, 1);
		},
	},
	{
		rule: "VCPU_CONTEXT",
		what: "a GDT of more than 16 frames",
		stream: (s) => s.record("LU_PV_VCPU", 1).set("gdtEntries", 8193),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a GDT in another domain's frame",
		stream: (s) => s.record("LU_PV_VCPU", 1).set("gdtMfn", 130n),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a CR3 in another domain's frame",
		stream: (s) => s.record("LU_PV_VCPU", 1).set("cr", BigInt(130 << 12), 3),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a user CR3 in another domain's frame",
		stream: (s) => s.record("LU_PV_VCPU", 1).set("cr", BigInt(130 << 12), 1),
	},
	{
		rule: "XSAVE",
		what: "an area without its header",
		stream: (s) => {
			const record = s.record("X86_PV_VCPU_XSAVE", 1);
			record.body = record.body.slice(0, 8 + 16 + 512 + 63);
		},
	},
	{
		rule: "XSAVE",
		what: "a component that was never enabled",
		stream: (s) => void (s.record("X86_PV_VCPU_XSAVE", 1).body[8] = 7),
	},
	{ rule: "XSAVE", what: "x87 state not enabled", stream: (s) => void (s.record("X86_PV_VCPU_XSAVE", 1).body[8] = 2) },
	{
		rule: "XSAVE",
		what: "a component in the header that was never enabled",
		stream: (s) => void (s.record("X86_PV_VCPU_XSAVE", 1).body[8 + 16 + 512] = 4),
	},
	{ rule: "HVM_CONTEXT", what: "HEADER is not first", stream: (s) => void (s.record("HVM_CONTEXT").body[0] = 2) },
	{
		rule: "HVM_CONTEXT",
		what: "an entry beyond the body",
		stream: (s) => void (s.record("HVM_CONTEXT").body[36 + 2] = 1),
	},
	{
		rule: "HVM_CONTEXT",
		what: "a CPU entry of a vCPU that does not exist",
		stream: (s) => void (s.record("HVM_CONTEXT").body[34] = 3),
	},
	{
		rule: "HVM_CONTEXT",
		what: "no END",
		stream: (s) => {
			const record = s.record("HVM_CONTEXT");
			record.body = record.body.slice(0, record.body.length - 8);
		},
	},
	{
		rule: "HVM_CONTEXT",
		what: "octets behind END",
		stream: (s) => {
			const record = s.record("HVM_CONTEXT");
			const body = new Uint8Array(record.body.length + 8);
			body.set(record.body);
			record.body = body;
		},
	},
	{
		rule: "HVM_ONLY",
		what: "HVM parameters of a PV guest",
		stream: (s) => void s.section("2", 1).records.push(s.record("HVM_PARAMS").clone()),
	},
	{
		rule: "HVM_ONLY",
		what: "PV registers of an HVM guest",
		stream: (s) => void s.section("2", 2).records.push(s.record("LU_PV_VCPU", 1).clone()),
	},
];

const io: RuleCase[] = [
	{
		rule: "IOREQ",
		what: "nine servers",
		model: (m) =>
			void (domain(m, 2).ioreqServerList = Array.from({ length: 9 }, (_, serverId) => ({ serverId, emulator: 0 }))),
	},
	{
		rule: "IOREQ",
		what: "one server twice",
		model: (m) => {
			const { ioreqServerList } = domain(m, 2);
			domain(m, 2).ioreqServerList = [...(ioreqServerList ?? []), ...(ioreqServerList ?? [])];
		},
	},
	{
		rule: "DOMAIN_REFERENCE",
		what: "an emulator that does not exist",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqServerList", 0, "emulator", 9),
	},
	{
		rule: "IOREQ",
		what: "an unknown buffered mode",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqServerList", 0, "bufferedMode", 3),
	},
	{
		rule: "IOREQ",
		what: "an unknown flag",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqServerList", 0, "flags", 4),
	},
	{
		rule: "IOREQ",
		what: "a buffered port that is not a channel",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqServerList", 0, "bufferedPort", 1),
	},
	{
		rule: "IOREQ",
		what: "a port of an unknown server",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqPorts", 0, "serverId", 1),
	},
	{
		rule: "IOREQ",
		what: "a port of a vCPU that does not exist",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqPorts", 0, "vcpuId", 3),
	},
	{
		rule: "IOREQ",
		what: "a port that is free",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqPorts", 0, "port", 9),
	},
	{
		rule: "IOREQ",
		what: "a page of an unknown server",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqPages", 1, "serverId", 1),
	},
	{
		rule: "IOREQ",
		what: "a page of an unknown role",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqPages", 1, "role", 2),
	},
	{
		rule: "IOREQ",
		what: "a page that is reached in an unknown way",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqPages", 1, "flags", 2),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a server's page of another domain",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqPages", 1, "mfn", 130n),
	},
	{
		rule: "IOREQ",
		what: "a range of an unknown server",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqRanges", 2, "serverId", 1),
	},
	{
		rule: "IOREQ",
		what: "a range of an unknown kind",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqRanges", 2, "type", 3),
	},
	{
		rule: "IOREQ",
		what: "a range that ends before it begins",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqRanges", 2, "last", 7n),
	},
	{
		rule: "IOREQ",
		what: "ranges that overlap",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqRanges", 1, "type", 0).row("IoreqRanges", 1, "first", 0x1fn),
	},
	{
		rule: "IOREQ",
		what: "kinds that do not ascend",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqRanges", 2, "type", 0),
	},
	{ rule: "CAPS", what: "an unknown kind", stream: (s) => s.record("LU_CAPS").row("CapRanges", 3, "kind", 4) },
	{
		rule: "CAPS",
		what: "a range that ends before it begins",
		stream: (s) => s.record("LU_CAPS").row("CapRanges", 3, "last", 0n),
	},
	{ rule: "CAPS", what: "kinds that do not ascend", stream: (s) => s.record("LU_CAPS").row("CapRanges", 3, "kind", 1) },
	{ rule: "CAPS", what: "ranges that overlap", stream: (s) => s.record("LU_CAPS").row("CapRanges", 1, "first", 0x1fn) },
];

export const ruleCases: readonly RuleCase[] = [
	...framing,
	...structure,
	...memory,
	...host,
	...domains,
	...frames,
	...p2mCases,
	...grants,
	...events,
	...vcpus,
	...io,
];
