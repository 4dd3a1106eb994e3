/**
 * One broken thing per case: a change of the tiny host's model, of a record (framing and checksums made anew), or of the
 * stream's octets. Each breaks exactly the rule it is listed under.
 */
import {
	CREATE,
	DOMID,
	EVTCHN_STATE,
	FRAME,
	GRANT_MAP,
	NONE64,
	P2M_ACCESS,
	P2M_TYPE,
	PAGE_TYPE,
	PAGE_TYPE_FLAG,
	REGION,
	VCPU_FLAG,
} from "../../src/format/enums.ts";
import type { DomainModel, HostModel, PreservedPages } from "../../src/machine/model.ts";
import { memoryFor, saveModel } from "./core.ts";
import { deviceCases } from "./deviceCases.ts";
import { concatenate, frame, parse, type Restitched, StreamRecord } from "./restitch.ts";
import { p2mEntry, pte, tinyHost } from "./tinyHost.ts";

export interface RuleCase {
	/** Name of the rule. */
	rule: string;
	what: string;
	/** Section and domain, record and field; what was expected, what was found. Hashes are left out. */
	fault: string;
	model?: (model: HostModel, preserved: PreservedPages) => void;
	stream?: (stream: Restitched) => void;
	/** Changes of the finished stream; returns what to use in its place. */
	octets?: (stream: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer> | undefined;
	/** Changes of the preserved memory, before it is packed. */
	memory?: (preserved: PreservedPages) => void;
	/** Handed over without the preserved memory. */
	alone?: true;
}

/** The stream and the preserved memory of a case, in a version of the format. */
export function brokenStream(
	one: RuleCase,
	format = 1,
): { stream: Uint8Array<ArrayBuffer>; memory: Uint8Array<ArrayBuffer> } {
	const { model, preserved } = tinyHost();
	one.model?.(model, preserved);
	let { stream } = saveModel(model, preserved, format);
	if (one.stream) {
		const parsed = parse(stream);
		one.stream(parsed);
		stream = parsed.build();
	}
	stream = one.octets?.(stream) ?? stream;
	one.memory?.(preserved);
	return { stream, memory: memoryFor(stream, preserved) };
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
	{
		rule: "TRUNCATED",
		what: "the stream ends within its header",
		fault: "stream -: 24, not 20",
		octets: (s) => s.slice(0, 20),
	},
	{
		rule: "TRUNCATED",
		what: "the stream ends within section H",
		fault: "stream LU_SECTION.length: 40, not 512",
		octets: (s) => s.slice(0, 104),
	},
	{
		rule: "TRUNCATED",
		what: "the stream ends before END",
		fault: "stream LU_INDEX: 8, not 0",
		octets: (s) => s.slice(0, end(s)),
	},
	{
		rule: "MARKER",
		what: "the marker has a zero bit",
		fault: "stream -: 18446744073709551615, not 18446744069414584319",
		octets: (s) => {
			s[3] = 0xfe;
			return s;
		},
	},
	{
		rule: "MARKER",
		what: "the id is none that is known",
		fault: "stream -: 1481397587, not 1481397588",
		octets: (s) => {
			view(s).setUint32(8, 0x584c5554);
			return s;
		},
	},
	{
		rule: "VERSION",
		what: "version 3",
		fault: "stream -: 2, not 3",
		octets: (s) => {
			view(s).setUint32(12, 3);
			return s;
		},
	},
	{
		rule: "VERSION",
		what: "version 0",
		fault: "stream -: 2, not 0",
		octets: (s) => {
			view(s).setUint32(12, 0);
			return s;
		},
	},
	{
		rule: "OPTIONS",
		what: "an unknown option beside the byte order",
		fault: "stream -: 1, not 3",
		octets: (s) => {
			view(s).setUint16(16, 3);
			return s;
		},
	},
	{
		rule: "OPTIONS",
		what: "an unknown option",
		fault: "stream -: 1, not 2",
		octets: (s) => {
			view(s).setUint16(16, 2);
			return s;
		},
	},
	{
		rule: "RESERVED",
		what: "reserved octets of the image header",
		fault: "stream -: 0, not 1099511627776",
		octets: (s) => {
			s[23] = 1;
			return s;
		},
	},
	{
		rule: "RESERVED",
		what: "a reserved field of a head",
		fault: "H/host LU_M2P.reserved0: 0, not 7",
		stream: (s) => {
			s.record("LU_M2P").body[5] = 7;
		},
	},
	{
		rule: "RESERVED",
		what: "a reserved field of a row",
		fault: "2/1 LU_EVTCHN_PORTS.Ports[1].reserved0: 0, not 9",
		stream: (s) => {
			const record = s.record("LU_EVTCHN_PORTS", 1);
			// One run, then rows of 24 octets, of which the last three are reserved.
			record.body[record.partOffset("Ports") + 8 + 24 + 21] = 9;
		},
	},
	{
		rule: "RESERVED",
		what: "a record's padding",
		fault: "H/host LU_VERSION.octet 27: 0, not 3",
		stream: (s) => {
			s.record("LU_VERSION").padding = Uint8Array.of(0, 3);
		},
	},
	{
		rule: "BODY_LENGTH",
		what: "a count beyond the body",
		fault: "H/host LU_M2P: 56, not 24",
		stream: (s) => s.record("LU_M2P").set("rangeCount", 3),
	},
	{
		rule: "BODY_LENGTH",
		what: "a count less than the body",
		fault: "H/host LU_CPUPOOLS: 32, not 40",
		stream: (s) => s.record("LU_CPUPOOLS").set("cpuCount", 1),
	},
	{
		rule: "BODY_LENGTH",
		what: "a count whose octets wrap 32 bits",
		fault: "H/host LU_HOST: 4294967368, not 72",
		stream: (s) => s.record("LU_HOST").set("virqHandlerCount", 0x2000_0001),
	},
	{
		rule: "BODY_LENGTH",
		what: "a body shorter than its head",
		fault: "0/1 LU_DOMAIN: 96, not 64",
		stream: (s) => {
			const record = s.record("LU_DOMAIN", 1);
			record.body = record.body.slice(0, 64);
		},
	},
	{
		rule: "BODY_LENGTH",
		what: "half a row at the end of a body without a count",
		fault: "0/1 X86_CPUID_POLICY: 0, not 12",
		stream: (s) => {
			const record = s.record("X86_CPUID_POLICY", 1);
			record.body = record.body.slice(0, 12);
		},
	},
	{
		rule: "BODY_LENGTH",
		what: "a body of more than 128 MiB",
		fault: "stream LU_SECTION: 134217728, not 134217729",
		octets: (s) => {
			view(s).setUint32(24 + 4, 128 * 1024 * 1024 + 1, true);
			return s;
		},
	},
	{
		rule: "UNKNOWN_RECORD",
		what: "F3: an unknown mandatory record",
		fault: "2/1 0x400000aa: 0, not 1073741994",
		stream: (s) => void s.section("2", 1).records.push(new StreamRecord(0x400000aa, new Uint8Array(16))),
	},
	{
		rule: "UNKNOWN_RECORD",
		what: "F3: a libxc record that a live update does not have",
		fault: "2/1 0x00000001: 0, not 1",
		stream: (s) => void s.section("2", 1).records.push(new StreamRecord(1, new Uint8Array(8))),
	},
	{
		rule: "SECTION_EXPECTED",
		what: "a record before the first section",
		fault: "stream LU_VERSION: 1073741886, not 1073741825",
		octets: (s) => {
			view(s).setUint32(24, 0x40000001, true);
			return s;
		},
	},
	{
		rule: "SECTION_ORDER",
		what: "section 1h before a domain's section 0",
		fault: "stream LU_SECTION.pass: 2, not 1",
		stream: (s) => {
			const at = s.sections.findIndex(({ pass }) => pass === 2);
			s.sections.splice(at - 1, 0, ...s.sections.splice(at, 1));
		},
	},
	{
		rule: "SECTION_ORDER",
		what: "a section of an unknown pass",
		fault: "stream LU_SECTION.pass: 4, not 5",
		stream: (s) => {
			s.section("2", 5).pass = 5;
		},
	},
	{
		rule: "SECTION_ORDER",
		what: "section H of a domain",
		fault: "stream LU_SECTION.domid: 32754, not 0",
		stream: (s) => {
			s.section("H").domid = 0;
		},
	},
	{
		rule: "SECTION_ORDER",
		what: "section 1d of a domain that has no section 0",
		fault: "stream LU_INDEX.sectionCount: 14, not 15",
		stream: (s) => void s.sections.splice(7, 0, { pass: 3, domid: 77, records: [] }),
	},
	{
		rule: "SECTION_LENGTH",
		what: "a record count that is one too high",
		fault: "1d/1 LU_SECTION.recordCount: 3, not 2",
		stream: (s) => {
			const section = s.section("1d", 1);
			section.claims = { recordCount: section.records.length + 1 };
		},
	},
	{
		rule: "SECTION_LENGTH",
		what: "a length that is no multiple of 8",
		fault: "stream LU_SECTION.length: 16, not 20",
		stream: (s) => {
			s.section("1d", 0).claims = { length: 20 };
		},
	},
	{
		rule: "SECTION_LENGTH",
		what: "a record that goes beyond its section",
		fault: "2/0 LU_CAPS: 120, not 112",
		stream: (s) => {
			const record = s.record("LU_CAPS");
			record.claimedLength = record.body.length + 8;
		},
	},
	{
		rule: "CHECKSUM",
		what: "an octet of a record",
		fault: "H/host LU_SECTION.hash",
		octets: (s) => {
			const at = find(s, 0x40000002) + 8 + 50;
			s[at] = (s[at] as number) ^ 1;
			return s;
		},
	},
	{
		rule: "CHECKSUM",
		what: "an octet of the index",
		fault: "stream LU_INDEX.hash",
		octets: (s) => {
			const at = find(s, INDEX) + 8 + 16 + 8;
			s[at] = (s[at] as number) ^ 1;
			return s;
		},
	},
	{
		rule: "INDEX",
		what: "a section that the index does not list",
		fault: "stream LU_INDEX.sectionCount: 14, not 13",
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
		fault: "stream END: 0, not 8",
		octets: (s) => {
			const more = longer(s, 8);
			view(more).setUint32(end(s) + 4, 8, true);
			return more;
		},
	},
	{ rule: "END", what: "octets behind END", fault: "stream END: 0, not 8", octets: (s) => longer(s, 8) },
	{
		rule: "END",
		what: "a record between LU_INDEX and END",
		fault: "stream 0x80000001: 0, not 2147483649",
		octets: (s) => {
			const more = longer(s, 8);
			more.set(frame(0x8000_0001, new Uint8Array(0)), end(s));
			return more;
		},
	},
	{
		rule: "SPARSE",
		what: "two runs that touch",
		fault: "2/0 LU_GRANT_MAPS.runs[1]: 3, not 2",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).run(1, 2, 2),
	},
	{
		rule: "SPARSE",
		what: "a run before the one before it",
		fault: "2/0 LU_GRANT_MAPS.runs[1]: 3, not 0",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).run(1, 0, 2),
	},
	{
		rule: "SPARSE",
		what: "a run beyond the slots",
		fault: "2/0 LU_GRANT_MAPS.runs[1]: 5, not 6",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).run(1, 4, 2),
	},
	{
		rule: "SPARSE",
		what: "an empty run",
		fault: "2/0 LU_GRANT_MAPS.runs[1]: 4, not 4",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).run(1, 3, 4),
	},
	{
		rule: "SPARSE",
		what: "a used slot that is empty",
		fault: "2/0 LU_GRANT_MAPS.Maptrack[1].reference: 1, not 0",
		stream: (s) => {
			const record = s.record("LU_GRANT_MAPS", 0);
			const rows = record.partOffset("Maptrack") + 16;
			record.body.fill(0, rows + 16, rows + 32);
		},
	},
	{
		rule: "SPARSE",
		what: "rows before the first run",
		fault: "2/0 LU_GRANT_MAPS.runs[0]: 0, not 1",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).run(0, 0, 1),
	},
	{
		rule: "CHUNK",
		what: "a chunk of an unknown form",
		fault: "1h/host LU_FRAMES.FrameOwners chunk at octet 0: 0, not 3",
		stream: (s) => {
			const record = s.record("LU_FRAMES");
			record.body[record.partOffset("FrameOwners")] = 4;
		},
	},
	{
		rule: "CHUNK",
		what: "a slice that is shorter than its chunks",
		fault: "1h/host LU_PAGE_TYPES.FrameTypes chunk at octet 2: 0, not 5",
		stream: (s) => s.record("LU_PAGE_TYPES").set("entryCount", 1000),
	},
	{
		rule: "SLICE",
		what: "an empty slice",
		fault: "1h/host LU_PAGE_TYPES.entryCount: 1048576, not 0",
		stream: (s) => s.record("LU_PAGE_TYPES").set("entryCount", 0),
	},
	{
		rule: "SLICE",
		what: "a slice beyond 2^20 entries",
		fault: "0/2 LU_P2M.entryCount: 1048576, not 1048577",
		stream: (s) => s.record("LU_P2M", 2).set("entryCount", (1 << 20) + 1),
	},
	{
		rule: "SLICE",
		what: "page types beyond the host",
		fault: "1h/host LU_PAGE_TYPES.firstMfn: 0, not 1",
		stream: (s) => s.record("LU_PAGE_TYPES").set("firstMfn", 1),
	},
	{
		rule: "SLICE",
		what: "owners beyond the host",
		fault: "1h/host LU_FRAMES.firstMfn: 0, not 1",
		stream: (s) => s.record("LU_FRAMES").set("firstMfn", 1),
	},
	{
		rule: "SLICE",
		what: "two slices that overlap",
		fault: "1h/host LU_FRAMES.firstMfn: 1024, not 0",
		stream: (s) => void s.section("1h").records.splice(1, 0, s.record("LU_FRAMES").clone()),
	},
	{
		rule: "SLICE",
		what: "a P2M slice beyond the highest GFN",
		fault: "0/2 LU_P2M.firstGfn: 0, not 1",
		stream: (s) => s.record("LU_P2M", 2).set("firstGfn", 1),
	},
];

const structure: RuleCase[] = [
	{
		rule: "WRONG_SECTION",
		what: "LU_VCPUS in section 2",
		fault: "2/1 LU_VCPUS: 1, not 4",
		stream: (s) => {
			const record = s.remove("LU_VCPUS", 1);
			s.section("2", 1).records.push(record);
		},
	},
	{
		rule: "RECORD_ORDER",
		what: "LU_VCPUS before the P2M",
		fault: "0/2 LU_P2M: 1073741841, not 1073741843",
		stream: (s) => {
			const record = s.remove("LU_VCPUS", 2);
			s.section("0", 2).records.splice(1, 0, record);
		},
	},
	{
		rule: "RECORD_ORDER",
		what: "a vCPU's registers before its state",
		fault: "2/1 LU_PV_VCPU: 1073741863, not 1",
		stream: (s) => {
			const record = s.remove("LU_PV_VCPU", 1, 1);
			s.section("2", 1).records.splice(0, 0, record);
		},
	},
	{
		rule: "RECORD_TWICE",
		what: "two LU_SHARED_INFO",
		fault: "2/1 LU_SHARED_INFO: 1, not 2",
		stream: (s) => void s.section("2", 1).records.push(s.record("LU_SHARED_INFO", 1).clone()),
	},
	{
		rule: "RECORD_TWICE",
		what: "a vCPU's MSRs twice",
		fault: "2/1 X86_PV_VCPU_MSRS.vcpuId: 1, not 2",
		stream: (s) => void s.section("2", 1).records.push(s.record("X86_PV_VCPU_MSRS", 1).clone()),
	},
	{
		rule: "RECORD_MISSING",
		what: "no LU_REGIONS",
		fault: "H/host LU_SECTION: 1073741828, not 0",
		stream: (s) => void s.remove("LU_REGIONS"),
	},
	{
		rule: "RECORD_MISSING",
		what: "no LU_HOST",
		fault: "H/host LU_SECTION: 1073741826, not 0",
		stream: (s) => void s.remove("LU_HOST"),
	},
	{
		rule: "RECORD_MISSING",
		what: "no LU_DOMAIN_STATE",
		fault: "2/2 LU_SECTION: 1073741856, not 0",
		stream: (s) => void s.remove("LU_DOMAIN_STATE", 2),
	},
	{
		rule: "RECORD_MISSING",
		what: "ports without an ABI",
		fault: "2/1 LU_EVTCHN_PORTS: 1073741859, not 0",
		stream: (s) => void s.remove("LU_EVTCHN", 1),
	},
	{
		rule: "RECORD_MISSING",
		what: "an HVM guest without its context",
		fault: "2/2 LU_DOMAIN_STATE: 9, not 0",
		stream: (s) => void s.remove("HVM_CONTEXT", 2),
	},
	{
		rule: "SECTION_MISSING",
		what: "no section H",
		fault: "stream -: 0, not 13",
		stream: (s) => {
			s.sections = s.sections.filter(({ pass }) => pass !== 0);
		},
	},
	{
		rule: "SECTION_MISSING",
		what: "no section 1h",
		fault: "1h/host LU_SECTION: 2, not 0",
		stream: (s) => {
			s.sections = s.sections.filter(({ pass }) => pass !== 2);
		},
	},
	{
		rule: "SECTION_MISSING",
		what: "a domain without section 1d",
		fault: "0/2 LU_SECTION: 3, not 0",
		stream: (s) => {
			s.sections = s.sections.filter(({ pass, domid }) => pass !== 3 || domid !== 2);
		},
	},
	{
		rule: "SECTION_MISSING",
		what: "a domain without section 2",
		fault: "0/5 LU_SECTION: 4, not 0",
		stream: (s) => {
			s.sections = s.sections.filter(({ pass, domid }) => pass !== 4 || domid !== 5);
		},
	},
];

const memory: RuleCase[] = [
	{
		rule: "MEMORY",
		what: "a grant frame that is not preserved",
		fault: "1d/2 LU_GRANT_TABLE.GrantFrames[0].mfn: 1, not 305",
		memory: (pages) => void pages.delete(305),
	},
	{
		rule: "MEMORY",
		what: "a status frame that is not preserved",
		fault: "1d/2 LU_GRANT_TABLE.StatusFrames[0].mfn: 1, not 306",
		memory: (pages) => void pages.delete(306),
	},
	{
		rule: "MEMORY",
		what: "a shared_info that is not preserved",
		fault: "2/1 LU_SHARED_INFO.mfn: 1, not 302",
		memory: (pages) => void pages.delete(302),
	},
	{
		rule: "MEMORY",
		what: "a control block that is not preserved",
		fault: "2/1 LU_EVTCHN.ControlBlocks[1].mfn: 1, not 211",
		memory: (pages) => void pages.delete(211),
	},
	{
		rule: "MEMORY",
		what: "an event array that is not preserved",
		fault: "2/1 LU_EVTCHN.EventArrays[0].mfn: 1, not 212",
		memory: (pages) => void pages.delete(212),
	},
	{
		rule: "MEMORY",
		what: "a page table that is not preserved",
		fault: "1h/1 LU_PAGE_TYPES.firstMfn: 1, not 204",
		memory: (pages) => void pages.delete(204),
	},
	{
		rule: "MEMORY",
		what: "a frame beyond the host",
		fault: "stream -: 307, not 1024",
		memory: (pages) => void pages.set(1024, new Uint8Array(4096)),
	},
];

const host: RuleCase[] = [
	{
		rule: "HOST_LIMIT",
		what: "one domain more than there are",
		fault: "H/host LU_HOST.domainCount: 4, not 5",
		stream: (s) => s.record("LU_HOST").set("domainCount", 5),
	},
	{
		rule: "HOST_LIMIT",
		what: "more frames than 1 TiB",
		fault: "H/host LU_HOST.frameCount: 268435456, not 268435457",
		stream: (s) => s.record("LU_HOST").set("frameCount", (1n << 28n) + 1n),
	},
	{
		rule: "HOST_LIMIT",
		what: "no CPU",
		fault: "H/host LU_HOST.cpuCount: 8192, not 0",
		stream: (s) => s.record("LU_HOST").set("cpuCount", 0),
	},
	{
		rule: "VERSION1_REFUSES",
		what: "an unknown feature in use",
		fault: "H/host LU_HOST.features: 31, not 32",
		stream: (s) => s.record("LU_HOST").set("features", 32n),
	},
	{
		rule: "VIRQ",
		what: "a handler of a VIRQ that each vCPU binds",
		fault: "H/host LU_HOST.VirqHandlers[0].virq: 0, not 1",
		stream: (s) => s.record("LU_HOST").row("VirqHandlers", 0, "virq", 1),
	},
	{
		rule: "DOMAIN_REFERENCE",
		what: "a VIRQ handler that does not exist",
		fault: "H/host LU_HOST.VirqHandlers[0].domid: 0, not 9",
		stream: (s) => s.record("LU_HOST").row("VirqHandlers", 0, "domid", 9),
	},
	{
		rule: "VIRQ",
		what: "a handler of an unknown VIRQ",
		fault: "H/host LU_HOST.VirqHandlers[0].virq: 0, not 24",
		stream: (s) => s.record("LU_HOST").row("VirqHandlers", 0, "virq", 24),
	},
	{
		rule: "VIRQ",
		what: "two handlers of one VIRQ",
		fault: "H/host LU_HOST.VirqHandlers[1].virq: 4, not 3",
		model: (m) => {
			m.virqHandlers = [
				{ virq: 3, domid: 0 },
				{ virq: 3, domid: 1 },
			];
		},
	},
	{
		rule: "REGION",
		what: "an unknown kind",
		fault: "H/host LU_REGIONS.RegionList[2].kind: 3, not 4",
		stream: (s) => s.record("LU_REGIONS").row("RegionList", 2, "kind", 4),
	},
	{
		rule: "REGION",
		what: "an empty region",
		fault: "H/host LU_REGIONS.RegionList[1].frameCount: 1, not 0",
		stream: (s) => s.record("LU_REGIONS").row("RegionList", 1, "frameCount", 0n),
	},
	{
		rule: "REGION",
		what: "no bootmem",
		fault: "H/host LU_REGIONS.regionCount: 1, not 0",
		stream: (s) => s.record("LU_REGIONS").row("RegionList", 0, "kind", REGION.reusable),
	},
	{
		rule: "REGION",
		what: "two bootmems",
		fault: "H/host LU_REGIONS.regionCount: 1, not 2",
		stream: (s) => s.record("LU_REGIONS").row("RegionList", 1, "kind", REGION.bootmem),
	},
	{
		rule: "REGION",
		what: "regions that overlap",
		fault: "H/host LU_REGIONS.RegionList[1].firstMfn: 0, not 15",
		stream: (s) => s.record("LU_REGIONS").row("RegionList", 1, "firstMfn", 15n),
	},
	{
		rule: "REGION",
		what: "a region beyond the host",
		fault: "H/host LU_REGIONS.RegionList[2].frameCount: 64, not 65",
		stream: (s) => s.record("LU_REGIONS").row("RegionList", 2, "frameCount", 65n),
	},
	{
		rule: "REGION",
		what: "a region whose end wraps 64 bits",
		fault: "H/host LU_REGIONS.RegionList[2].frameCount: 64, not 18446744073709551615",
		stream: (s) => s.record("LU_REGIONS").row("RegionList", 2, "frameCount", NONE64),
	},
	{
		rule: "FRAME_RESERVED",
		what: "a guest's frame in bootmem",
		fault: "H/host LU_REGIONS.RegionList[0].firstMfn: 0, not 196609",
		model: (m) => {
			m.frameOwners[7] = owned | 1n;
		},
	},
	{
		rule: "FRAME_RESERVED",
		what: "the M2P in a guest's frame",
		fault: "H/host LU_M2P.M2pRanges[0].firstMfn: 32754, not 0",
		stream: (s) => s.record("LU_M2P").row("M2pRanges", 0, "firstMfn", 128n),
	},
	{
		rule: "FRAME_RESERVED",
		what: "a frame of the M2P twice",
		fault: "H/host LU_M2P.M2pRanges[1].firstMfn: 32754, not 32754",
		model: (m) => {
			m.m2pRanges = [...m.m2pRanges, { firstMfn: 65, frameCount: 1 }];
		},
	},
	{
		rule: "FRAME_RESERVED",
		what: "an IOMMU's table in a guest's frame",
		fault: "H/host LU_DEVICES.IommuRanges[0].firstMfn: 0, not 196608",
		stream: (s) => s.record("LU_DEVICES").row("IommuRanges", 0, "firstMfn", 128n),
	},
	{
		rule: "FRAME_RESERVED",
		what: "a root of an unknown purpose",
		fault: "0/2 LU_KEPT_FRAMES.KeptRoots[0].purpose: 2, not 3",
		stream: (s) => s.record("LU_KEPT_FRAMES").row("KeptRoots", 0, "purpose", 3),
	},
	{
		rule: "HOST_LIMIT",
		what: "more CPU pools than CPUs",
		fault: "H/host LU_CPUPOOLS.poolCount: 2, not 3",
		model: (m) => {
			m.poolList = [0, 1, 2].map((poolId) => ({ poolId, scheduler: 6, granularity: 1 }));
		},
	},
	{
		rule: "FRAME_RESERVED",
		what: "the M2P beyond the host",
		fault: "H/host LU_M2P.M2pRanges[0].frameCount: 960, not 18446744073709551615",
		stream: (s) => s.record("LU_M2P").row("M2pRanges", 0, "frameCount", NONE64),
	},
	{
		rule: "FRAME_RESERVED",
		what: "kept page tables in a guest's frame",
		fault: "0/2 LU_KEPT_FRAMES.KeptRanges[0].firstMfn: 0, not 196610",
		stream: (s) => s.record("LU_KEPT_FRAMES").row("KeptRanges", 0, "firstMfn", 512n),
	},
	{
		rule: "FRAME_RESERVED",
		what: "kept page tables in a re-usable region",
		fault: "0/2 LU_KEPT_FRAMES.KeptRanges[0].firstMfn: 0, not 960",
		stream: (s) => s.record("LU_KEPT_FRAMES").row("KeptRanges", 0, "firstMfn", 960n),
	},
	{
		rule: "FRAME_RESERVED",
		what: "a root of an unknown format",
		fault: "0/2 LU_KEPT_FRAMES.KeptRoots[0].format: 4, not 5",
		stream: (s) => s.record("LU_KEPT_FRAMES").row("KeptRoots", 0, "format", 5),
	},
	{
		rule: "FRAME_RESERVED",
		what: "a root of two levels",
		fault: "0/2 LU_KEPT_FRAMES.KeptRoots[0].levels: 5, not 2",
		stream: (s) => s.record("LU_KEPT_FRAMES").row("KeptRoots", 0, "levels", 2),
	},
	{
		rule: "FRAME_RESERVED",
		what: "a root beyond the host",
		fault: "0/2 LU_KEPT_FRAMES.KeptRoots[0].rootMfn: 1024, not 1024",
		stream: (s) => s.record("LU_KEPT_FRAMES").row("KeptRoots", 0, "rootMfn", 1024n),
	},
	{
		rule: "FRAME_RESERVED",
		what: "a machine frame of bootmem in a P2M",
		fault: "0/2 LU_P2M.firstGfn: 0, not 7",
		model: (m) => {
			(domain(m, 2).p2m as BigUint64Array)[599] = p2mEntry(7, P2M_TYPE.mmioDirect);
		},
	},
	{
		rule: "FRAME_RESERVED",
		what: "a kept page table in a P2M",
		fault: "0/2 LU_P2M.firstGfn: 0, not 451",
		model: (m) => {
			(domain(m, 2).p2m as BigUint64Array)[599] = p2mEntry(451, P2M_TYPE.mmioDirect);
		},
	},
];

const domains: RuleCase[] = [
	{
		rule: "DOMID",
		what: "a section's domid is not its LU_DOMAIN's",
		fault: "0/1 LU_DOMAIN.domid: 1, not 3",
		stream: (s) => s.record("LU_DOMAIN", 1).set("domid", 3),
	},
	{
		rule: "DOMID",
		what: "two domains of one number",
		fault: "0/5 LU_SECTION: 1, not 5",
		stream: (s) => {
			const at = s.sections.findIndex(({ pass, domid }) => pass === 1 && domid === 5);
			s.sections.splice(at, 0, { pass: 1, domid: 5, records: s.section("0", 5).records.map((r) => r.clone()) });
		},
	},
	{
		rule: "SECTION_ORDER",
		what: "a domid that Xen reserves",
		fault: "stream LU_SECTION.domid: 32754, not 32752",
		stream: (s) => {
			for (const section of s.sections) if (section.domid === 5) section.domid = DOMID.SELF;
		},
	},
	{
		rule: "DOMAIN_FIELD",
		what: "an unknown kind",
		fault: "0/1 LU_DOMAIN.kind: 3, not 4",
		stream: (s) => s.record("LU_DOMAIN", 1).set("kind", 4),
	},
	{
		rule: "DOMAIN_FIELD",
		what: "neither alive nor dead",
		fault: "0/1 LU_DOMAIN.life: 1, not 2",
		stream: (s) => s.record("LU_DOMAIN", 1).set("life", 2),
	},
	{
		rule: "DOMAIN_FIELD",
		what: "an unknown flag",
		fault: "0/1 LU_DOMAIN.createFlags: 127, not 128",
		stream: (s) => s.record("LU_DOMAIN", 1).set("createFlags", 128),
	},
	{
		rule: "DOMAIN_FIELD",
		what: "a second hardware domain",
		fault: "0/1 LU_DOMAIN.createFlags: 0, not 2",
		stream: (s) => s.record("LU_DOMAIN", 1).set("createFlags", CREATE.hardware),
	},
	{
		rule: "DOMAIN_FIELD",
		what: "a word of 3 octets",
		fault: "0/2 LU_DOMAIN.guestWidth: 8, not 3",
		stream: (s) => s.record("LU_DOMAIN", 2).set("guestWidth", 3),
	},
	{
		rule: "DOMAIN_FIELD",
		what: "too many vCPUs",
		fault: "0/1 LU_DOMAIN.maxVcpus: 8192, not 8193",
		stream: (s) => s.record("LU_DOMAIN", 1).set("maxVcpus", 8193),
	},
	{
		rule: "DOMAIN_FIELD",
		what: "grant tables of version 3",
		fault: "0/1 LU_DOMAIN.grantVersionLimit: 2, not 3",
		stream: (s) => s.record("LU_DOMAIN", 1).set("grantVersionLimit", 3),
	},
	{
		rule: "VERSION1_REFUSES",
		what: "a 32-bit PV guest",
		fault: "0/1 LU_DOMAIN.guestWidth: 8, not 4",
		stream: (s) => s.record("LU_DOMAIN", 1).set("guestWidth", 4),
	},
	{
		rule: "VERSION1_REFUSES",
		what: "an HVM guest on shadow paging",
		fault: "0/2 LU_DOMAIN.createFlags: 16, not 0",
		stream: (s) => s.record("LU_DOMAIN", 2).set("createFlags", 0),
	},
	{
		rule: "DOMAIN_REFERENCE",
		what: "a CPU pool that does not exist",
		fault: "0/1 LU_DOMAIN.cpupoolId: 0, not 3",
		stream: (s) => s.record("LU_DOMAIN", 1).set("cpupoolId", 3),
	},
	{
		rule: "DOMAIN_REFERENCE",
		what: "a target that does not exist",
		fault: "2/1 LU_DOMAIN_STATE.target: 32756, not 7",
		stream: (s) => s.record("LU_DOMAIN_STATE", 1).set("target", 7),
	},
	{
		rule: "DOMAIN_STATE",
		what: "an unknown shutdown state",
		fault: "2/1 LU_DOMAIN_STATE.shutdownState: 2, not 3",
		stream: (s) => s.record("LU_DOMAIN_STATE", 1).set("shutdownState", 3),
	},
	{
		rule: "DOMAIN_STATE",
		what: "half created",
		fault: "2/1 LU_DOMAIN_STATE.creationFinished: 1, not 2",
		stream: (s) => s.record("LU_DOMAIN_STATE", 1).set("creationFinished", 2),
	},
	{
		rule: "DOMAIN_STATE",
		what: "a callback asserted twice",
		fault: "2/2 LU_DOMAIN_STATE.callbackAsserted: 1, not 2",
		stream: (s) => s.record("LU_DOMAIN_STATE", 2).set("callbackAsserted", 2),
	},
	{
		rule: "DOMAIN_STATE",
		what: "an unknown sleep",
		fault: "2/2 LU_DOMAIN_STATE.suspendedS3: 1, not 2",
		stream: (s) => s.record("LU_DOMAIN_STATE", 2).set("suspendedS3", 2),
	},
	{
		rule: "DOMAIN_STATE",
		what: "an unknown EOI map",
		fault: "2/1 LU_DOMAIN_STATE.pirqEoiMode: 2, not 3",
		stream: (s) => s.record("LU_DOMAIN_STATE", 1).set("pirqEoiMode", 3),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "another's EOI map",
		fault: "2/1 LU_DOMAIN_STATE.pirqEoiMfn: 1, not 0",
		stream: (s) => s.record("LU_DOMAIN_STATE", 1).set("pirqEoiMfn", 128n),
	},
	{
		rule: "WRITTEN",
		what: "an EOI map in an L3 table",
		fault: "2/1 LU_DOMAIN_STATE.pirqEoiMfn: 7, not 3",
		stream: (s) => s.record("LU_DOMAIN_STATE", 1).set("pirqEoiMfn", 201n),
	},
	{
		rule: "DEAD_DOMAIN",
		what: "a dead domain with a shared_info",
		fault: "2/5 LU_SHARED_INFO: 0, not 1",
		model: (m) => {
			domain(m, 5).sharedInfo = { mfn: 300, gfn: NONE64 };
		},
	},
	{
		rule: "DEAD_DOMAIN",
		what: "a dead domain with ports, a shared_info and grant mappings",
		fault: "2/5 LU_EVTCHN_PORTS: 0, not 1",
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
		fault: "1d/5 LU_GRANT_TABLE.grantFrameCount: 0, not 1",
		model: (m) => {
			domain(m, 5).grantFrames = [{ mfn: 400, gfn: NONE64 }];
		},
	},
	{
		rule: "SHARED_INFO",
		what: "a living domain without one",
		fault: "2/1 LU_DOMAIN_STATE: 1073741858, not 0",
		stream: (s) => void s.remove("LU_SHARED_INFO", 1),
	},
];

const frames: RuleCase[] = [
	{
		rule: "FRAME_ENTRY",
		what: "an unknown flag",
		fault: "1h/host LU_FRAMES.firstMfn: 4194303, not 4390912",
		model: (m) => {
			m.frameOwners[130] = owned | (1n << 22n);
		},
	},
	{
		rule: "FRAME_ENTRY",
		what: "flags on a frame that nobody owns",
		fault: "1h/host LU_FRAMES.firstMfn: 3145728, not 131072",
		model: (m) => {
			m.frameOwners[900] = BigInt(FRAME.allocated);
		},
	},
	{
		rule: "FRAME_ENTRY",
		what: "a xenheap frame that is not allocated",
		fault: "1h/host LU_FRAMES.firstMfn: 131072, not 327681",
		model: (m) => {
			m.frameOwners[302] = BigInt(FRAME.owned | FRAME.xenheap) | 1n;
		},
	},
	{
		rule: "FRAME_OWNER",
		what: "an owner that does not exist",
		fault: "1h/host LU_FRAMES.firstMfn: 32754, not 9",
		model: (m) => {
			m.frameOwners[131] = owned | 9n;
		},
	},
	{
		rule: "FRAME_OWNER",
		what: "DOMID_COW as an owner",
		fault: "1h/host LU_FRAMES.firstMfn: 32754, not 32755",
		model: (m) => {
			m.frameOwners[131] = owned | BigInt(DOMID.COW);
		},
	},
	{
		rule: "XENHEAP_COUNT",
		what: "a xenheap frame that no record names",
		fault: "0/1 LU_DOMAIN: 2, not 3",
		model: (m) => {
			m.frameOwners[307] = owned | BigInt(FRAME.xenheap) | 1n;
		},
	},
	{
		rule: "XENHEAP_COUNT",
		what: "a shared_info in ordinary memory",
		fault: "2/1 LU_SHARED_INFO.mfn: 262144, not 196609",
		stream: (s) => s.record("LU_SHARED_INFO", 1).set("mfn", 192n),
	},
	{
		rule: "XENHEAP_COUNT",
		what: "shared_info and grant frame in one",
		fault: "2/1 LU_SHARED_INFO.mfn: 262144, not 8590393345",
		stream: (s) => s.record("LU_SHARED_INFO", 1).set("mfn", 303n),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a shared_info of another domain",
		fault: "2/1 LU_SHARED_INFO.mfn: 1, not 0",
		stream: (s) => s.record("LU_SHARED_INFO", 1).set("mfn", 300n),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a shared_info beyond the host",
		fault: "2/1 LU_SHARED_INFO.mfn: 1024, not 1024",
		stream: (s) => s.record("LU_SHARED_INFO", 1).set("mfn", 1024n),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a shared_info in a free frame",
		fault: "2/1 LU_SHARED_INFO.mfn: 1024, not 1200",
		stream: (s) => s.record("LU_SHARED_INFO", 1).set("mfn", 600n << 1n),
	},
	{
		rule: "PAGE_TYPE",
		what: "an unknown type",
		fault: "1h/host LU_PAGE_TYPES.firstMfn: 7, not 6",
		model: (m) => {
			m.frameTypes[202] = 6;
		},
	},
	{
		rule: "PAGE_TYPE",
		what: "an unknown flag",
		fault: "1h/host LU_PAGE_TYPES.firstMfn: 7, not 65",
		model: (m) => {
			m.frameTypes[202] = PAGE_TYPE.l1 | 64;
		},
	},
	{
		rule: "PAGE_TYPE",
		what: "flags without a type",
		fault: "1h/host LU_PAGE_TYPES.firstMfn: 7, not 16",
		model: (m) => {
			m.frameTypes[202] = PAGE_TYPE_FLAG.validated;
		},
	},
	{
		rule: "PAGE_TYPE",
		what: "a pinned writable frame",
		fault: "1h/host LU_PAGE_TYPES.firstMfn: 4, not 15",
		model: (m) => {
			m.frameTypes[202] = PAGE_TYPE.writable | PAGE_TYPE_FLAG.pinned;
		},
	},
	{
		rule: "PAGE_TYPE",
		what: "a page table of an HVM guest",
		fault: "1h/host LU_PAGE_TYPES.firstMfn: 1, not 600",
		model: (m) => {
			m.frameTypes[600] = PAGE_TYPE.l1;
		},
	},
	{
		rule: "PAGE_TYPE",
		what: "a page table of Xen",
		fault: "1h/host LU_PAGE_TYPES.firstMfn: 1, not 64",
		model: (m) => {
			m.frameTypes[64] = PAGE_TYPE.l4;
		},
	},
	{
		rule: "PAGE_TYPE",
		what: "a type in use on a free frame",
		fault: "1h/host LU_PAGE_TYPES.firstMfn: 65536, not 700",
		model: (m) => {
			m.frameTypes[700] = PAGE_TYPE.writable;
			m.frameOwners[700] = 0n;
		},
	},
	{
		rule: "VERSION1_REFUSES",
		what: "a PAE guest's L2",
		fault: "1h/host LU_PAGE_TYPES.firstMfn: 0, not 34",
		model: (m) => {
			m.frameTypes[202] = PAGE_TYPE.l2 | PAGE_TYPE_FLAG.paeXenL2;
		},
	},
];

/** One entry of the PV guest's page tables; `expected` is the type that the entry should name, or another entry. */
function entry(what: string, table: number, slot: number, value: bigint, expected: bigint | number): RuleCase {
	return {
		rule: "PAGE_TABLE",
		what,
		fault: `1h/1 LU_PAGE_TYPES: ${expected}, not ${value}`,
		memory: (pages) => view(pages.get(table) as Uint8Array).setBigUint64(8 * slot, value, true),
	};
}

const { l1, l2, l3, l4, segDesc } = PAGE_TYPE;
const tables: RuleCase[] = [
	entry("an L2 entry beyond the host", 202, 5, pte(1024, true), l1),
	entry("an L2 entry that names a frame of no type", 202, 5, pte(194, true), l1),
	entry("an L2 entry that names a writable frame", 202, 5, pte(192, true), l1),
	entry("an L2 entry that names an L3 table", 202, 5, pte(201, true), l1),
	entry("an L3 entry that names an L1 table", 201, 1, pte(203, true), l2),
	entry("an L4 entry that names an L2 table", 200, 255, pte(202, true), l3),
	entry("an L4 entry behind Xen's slots that names nobody's frame", 205, 272, pte(900, true), l3),
	entry("a table that maps itself read-write", 200, 300, pte(200, true), pte(200, false)),
	entry("a table that maps another one of its level read-write", 200, 301, pte(205, true), pte(205, false)),
	{
		...entry("an L3 entry that names another domain's table", 201, 1, pte(131, true), l2),
		model: (m, pages) => {
			m.frameTypes[131] = l2;
			pages.set(131, new Uint8Array(4096));
		},
	},
	entry("an L1 entry to bootmem", 203, 511, pte(15, false), 0),
	entry("an L1 entry to xen#1's image", 203, 511, pte(16, false), 0),
	entry("an L1 entry to a re-usable region", 203, 511, pte(991, true), 0),
	entry("an L1 entry to kept page tables", 203, 511, pte(453, false), 0),
	entry("an L1 entry to the IOMMU's tables", 203, 511, pte(460, false), 0),
	entry("an L1 table mapped read-write", 203, 0, pte(203, true), pte(203, false)),
	entry("an L4 table mapped read-write", 204, 5, pte(205, true), pte(205, false)),
	entry("a descriptor frame mapped read-write", 204, 5, pte(222, true), pte(222, false)),
	entry("a frame of no type mapped read-write", 203, 511, pte(194, true), pte(194, false)),
	entry("another PV domain's frame of no type mapped read-write", 204, 510, pte(141, true), pte(141, false)),
	entry("Xen's frame of no type mapped read-write", 203, 36, pte(65, true), pte(65, false)),
	{
		...entry("another PV domain's page table mapped read-write", 204, 5, pte(131, true), pte(131, false)),
		model: (m, pages) => {
			m.frameTypes[131] = l2;
			pages.set(131, new Uint8Array(4096));
		},
	},
	{
		rule: "PAGE_TABLE",
		what: "a CR3 that names an L3 table",
		fault: `2/1 LU_PV_VCPU.cr[3]: ${l4}, not ${l3}`,
		stream: (s) => s.record("LU_PV_VCPU", 1).set("cr", 201n << 12n, 3),
	},
	{
		rule: "PAGE_TABLE",
		what: "a user's root that names a frame of no type",
		fault: `2/1 LU_PV_VCPU.cr[1]: ${l4}, not 0`,
		stream: (s) => s.record("LU_PV_VCPU", 1).set("cr", 194n << 12n, 1),
	},
	{
		rule: "PAGE_TABLE",
		what: "a GDT in a writable frame",
		fault: `2/1 LU_PV_VCPU.gdtMfn[0]: ${segDesc}, not ${PAGE_TYPE.writable}`,
		stream: (s) => s.record("LU_PV_VCPU", 1).set("gdtMfn", 220n, 0),
	},
	{
		rule: "COUNT_OVERFLOW",
		what: "so many page tables that their entries are 2^31",
		// 513 references a table, and what little the domain has besides.
		fault: "0/1 LU_DOMAIN: 2147483648, not 2147490375",
		model: (m) => {
			const frames = 1024 + Math.ceil(2 ** 31 / 513);
			const owners = new BigUint64Array(frames).fill(owned | 1n, 1024);
			const types = new Uint8Array(frames).fill(l1, 1024);
			owners.set(m.frameOwners);
			types.set(m.frameTypes);
			// The HVM guest's MMIO.
			owners[0xfee00] = 0n;
			types[0xfee00] = 0;
			m.frameOwners = owners;
			m.frameTypes = types;
		},
	},
];

function p2m(gfn: number, entry: bigint, rule: string, what: string, fault: string): RuleCase {
	return {
		rule,
		what,
		fault,
		model: (m) => {
			(domain(m, 2).p2m as BigUint64Array)[gfn] = entry;
		},
	};
}

/** A 2 MiB entry in a P2M of 600 entries. */
function superpage(
	rule: string,
	type: number,
	first: number,
	count: number,
	mfn: number,
	what: string,
	fault: string,
): RuleCase {
	return {
		rule,
		what,
		fault,
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
	p2m(
		10,
		p2mEntry(522) | (1n << 55n),
		"P2M_ENTRY",
		"an unknown bit",
		"0/2 LU_P2M.firstGfn: 0, not 9259523979176051210",
	),
	p2m(
		10,
		p2mEntry(522, P2M_TYPE.ramRw, 0, 11),
		"P2M_ENTRY",
		"an unknown access right",
		"0/2 LU_P2M.firstGfn: 10, not 9223565550901264906",
	),
	p2m(
		10,
		p2mEntry(522, P2M_TYPE.ramRw, 1),
		"P2M_ENTRY",
		"an unknown order",
		"0/2 LU_P2M.firstGfn: 18, not 9223776657133797898",
	),
	p2m(
		301,
		(BigInt(P2M_TYPE.populateOnDemand) << 40n) | 5n,
		"P2M_ENTRY",
		"an absent entry with a frame",
		"0/2 LU_P2M.firstGfn: 0, not 6597069766661",
	),
	p2m(
		301,
		BigInt(P2M_TYPE.ramRo) << 40n,
		"P2M_ENTRY",
		"an absent entry of RAM",
		"0/2 LU_P2M.firstGfn: 6, not 3298534883328",
	),
	p2m(
		301,
		p2mEntry(530, P2M_TYPE.populateOnDemand),
		"P2M_ENTRY",
		"a populate-on-demand entry with a frame",
		"0/2 LU_P2M.firstGfn: 0, not 9223501779226853906",
	),
	{
		rule: "P2M_ENTRY",
		what: "an unknown default access",
		fault: "0/2 LU_P2M.defaultAccess: 10, not 11",
		stream: (s) => s.record("LU_P2M", 2).set("defaultAccess", 11),
	},
	p2m(
		10,
		p2mEntry(522, P2M_TYPE.paged),
		"VERSION1_REFUSES",
		"a frame paged out",
		"0/2 LU_P2M.firstGfn: 0, not 9223506177273365002",
	),
	p2m(
		10,
		p2mEntry(522, P2M_TYPE.shared),
		"VERSION1_REFUSES",
		"a shared frame",
		"0/2 LU_P2M.firstGfn: 0, not 9223508376296620554",
	),
	p2m(
		10,
		p2mEntry(130, P2M_TYPE.mmioDirect),
		"P2M_FRAME",
		"another guest's memory as I/O memory",
		"0/2 LU_P2M.firstGfn: 2, not 130",
	),
	p2m(
		10,
		p2mEntry(522, P2M_TYPE.mmioDirect),
		"P2M_FRAME",
		"its own memory as I/O memory",
		"0/2 LU_P2M.firstGfn: 2, not 522",
	),
	p2m(10, p2mEntry(64, P2M_TYPE.grantMapRo), "P2M_FRAME", "Xen's memory as a grant", "0/2 LU_P2M.firstGfn: 2, not 64"),
	superpage(
		"P2M_SUPERPAGE",
		P2M_TYPE.mmioDirect,
		1,
		512,
		2048,
		"a 2 MiB entry at an odd GFN",
		"0/2 LU_P2M.firstGfn: 512, not 1",
	),
	superpage(
		"P2M_SUPERPAGE",
		P2M_TYPE.mmioDirect,
		0,
		511,
		2048,
		"a 2 MiB entry of 511 frames",
		"0/2 LU_P2M.firstGfn: 512, not 0",
	),
	superpage(
		"P2M_SUPERPAGE",
		P2M_TYPE.mmioDirect,
		0,
		512,
		2049,
		"a 2 MiB entry of odd frames",
		"0/2 LU_P2M.firstGfn: 512, not 2049",
	),
	{
		rule: "P2M_TWICE",
		what: "a frame at two GFNs",
		fault: "0/2 LU_P2M.firstGfn: 0, not 512",
		model: (m) => {
			const entries = domain(m, 2).p2m as BigUint64Array;
			entries[10] = entries[0] as bigint;
		},
	},
	{
		rule: "P2M_TWICE",
		what: "a frame at two GFNs, of entries of which none continues another",
		fault: "0/2 LU_P2M.firstGfn: 0, not 767",
		model: (m) => {
			const entries = domain(m, 2).p2m as BigUint64Array;
			entries.fill(0n, 256, 599);
			entries.subarray(0, 256).reverse();
			entries[200] = entries[0] as bigint;
			domain(m, 2).foreignMapList = [];
		},
	},
	p2m(10, p2mEntry(130), "P2M_FRAME", "RAM of another domain", "0/2 LU_P2M.firstGfn: 2, not 130"),
	p2m(10, p2mEntry(2000), "P2M_FRAME", "RAM beyond the host", "0/2 LU_P2M.firstGfn: 1024, not 2000"),
	p2m(10, p2mEntry(440), "P2M_FRAME", "RAM that nobody owns", "0/2 LU_P2M.firstGfn: 2, not 440"),
	superpage(
		"P2M_FOREIGN",
		P2M_TYPE.foreign,
		0,
		512,
		512,
		"a foreign 2 MiB entry",
		"0/2 LU_P2M.firstGfn: 0, not 9226043850110272000",
	),
	superpage(
		"P2M_FOREIGN",
		P2M_TYPE.ioreqServer,
		0,
		512,
		512,
		"an I/O server's 2 MiB entry",
		"0/2 LU_P2M.firstGfn: 0, not 9226044949621899776",
	),
	p2m(
		10,
		p2mEntry(191, P2M_TYPE.foreign),
		"P2M_FOREIGN",
		"a foreign entry that LU_FOREIGN_MAPS does not list",
		"0/2 LU_P2M.firstGfn: 400, not 10",
	),
	p2m(
		400,
		0n,
		"P2M_FOREIGN",
		"LU_FOREIGN_MAPS lists an entry that the P2M does not have",
		"2/2 LU_FOREIGN_MAPS.mapCount: 0, not 1",
	),
	{
		rule: "P2M_FOREIGN",
		what: "another frame than the P2M's",
		fault: "0/2 LU_P2M.firstGfn: 189, not 190",
		stream: (s) => s.record("LU_FOREIGN_MAPS").row("ForeignMapList", 0, "mfn", 189n),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a foreign frame of another owner",
		fault: "0/2 LU_P2M.firstGfn: 1, not 0",
		stream: (s) => s.record("LU_FOREIGN_MAPS").row("ForeignMapList", 0, "owner", 1),
	},
	{
		rule: "DOMAIN_REFERENCE",
		what: "a foreign frame of nobody",
		fault: "0/2 LU_P2M.firstGfn: 0, not 9",
		stream: (s) => s.record("LU_FOREIGN_MAPS").row("ForeignMapList", 0, "owner", 9),
	},
	{
		rule: "P2M_HIGHEST",
		what: "a highest GFN that is not mapped",
		fault: "0/2 LU_P2M.highestGfn: 599, not 600",
		stream: (s) => s.record("LU_P2M", 2).set("highestGfn", 600n),
	},
	{
		rule: "P2M_HIGHEST",
		what: "a highest GFN beyond the core's windows",
		fault: "0/2 LU_P2M.highestGfn: 536870912, not 536870912",
		stream: (s) => s.record("LU_P2M", 2).set("highestGfn", 1n << 29n),
	},
	{
		rule: "P2M_HIGHEST",
		what: "slices that do not agree on the highest GFN",
		fault: "0/2 LU_P2M.highestGfn: 599, not 8192",
		stream: (s) => twoSlices(s)[1].set("highestGfn", 8192n),
	},
	{
		rule: "P2M_HIGHEST",
		what: "slices that do not agree on the default access",
		fault: "0/2 LU_P2M.defaultAccess: 7, not 5",
		stream: (s) => twoSlices(s)[1].set("defaultAccess", P2M_ACCESS.rx),
	},
	{
		rule: "P2M_FOREIGN",
		what: "a foreign entry behind a run that would count into its type",
		fault: "0/2 LU_P2M.firstGfn: 9000, not 4096",
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
		fault: "0/2 LU_P2M.highestGfn: 0, not 18446744073709551615",
		stream: (s) => s.record("LU_P2M", 2).set("highestGfn", NONE64),
	},
	{
		rule: "HVM_ONLY",
		what: "a PV guest with a P2M",
		fault: "0/1 LU_P2M: 2, not 1",
		stream: (s) => void s.section("0", 1).records.splice(1, 0, s.record("LU_P2M", 2).clone()),
	},
];

const grants: RuleCase[] = [
	{
		rule: "GRANT_TABLE",
		what: "version 3",
		fault: "1d/1 LU_GRANT_TABLE.version: 2, not 3",
		stream: (s) => s.record("LU_GRANT_TABLE", 1).set("version", 3),
	},
	{
		rule: "GRANT_TABLE",
		what: "a version above the domain's limit",
		fault: "1d/2 LU_GRANT_TABLE.version: 1, not 2",
		stream: (s) => s.record("LU_DOMAIN", 2).set("grantVersionLimit", 1),
	},
	{
		rule: "GRANT_TABLE",
		what: "more grant frames than allowed",
		fault: "1d/1 LU_GRANT_TABLE.grantFrameCount: 0, not 1",
		stream: (s) => s.record("LU_DOMAIN", 1).set("maxGrantFrames", 0),
	},
	{
		rule: "GRANT_TABLE",
		what: "more maptrack frames than allowed",
		fault: "1d/0 LU_GRANT_TABLE.maptrackFrameCount: 1024, not 1025",
		stream: (s) => s.record("LU_GRANT_TABLE", 0).set("maptrackFrameCount", 1025),
	},
	{
		rule: "GRANT_TABLE",
		what: "version 2 without its status frame",
		fault: "1d/2 LU_GRANT_TABLE.statusFrameCount: 1, not 0",
		model: (m) => {
			domain(m, 2).statusFrames = [];
		},
	},
	{
		rule: "GRANT_TABLE",
		what: "a status frame in version 1",
		fault: "1d/2 LU_GRANT_TABLE.statusFrameCount: 0, not 1",
		model: (m) => {
			domain(m, 2).grantTable = { version: 1 };
		},
	},
	{
		rule: "GRANT_ACTIVE",
		what: "a reference beyond the table",
		fault: "1d/1 LU_GRANT_ACTIVE.slotCount: 512, not 513",
		model: (m) => {
			domain(m, 1).grantActive = Object.assign(new Array(513).fill(undefined), {
				512: { mfn: 220, grantee: 0, hostRead: 1 },
			});
		},
	},
	{
		rule: "GRANT_ACTIVE",
		what: "129 mappings of a kind",
		fault: "1d/1 LU_GRANT_ACTIVE.GrantActive[0].hostRead: 128, not 129",
		stream: (s) => s.record("LU_GRANT_ACTIVE", 1).row("GrantActive", 0, "hostRead", 129),
	},
	{
		rule: "GRANT_ACTIVE",
		what: "an entry that nobody has mapped",
		fault: "1d/1 LU_GRANT_ACTIVE.GrantActive[0].hostWrite: 1, not 0",
		stream: (s) =>
			s.record("LU_GRANT_ACTIVE", 1).row("GrantActive", 0, "hostRead", 0).row("GrantActive", 0, "hostWrite", 0),
	},
	{
		rule: "DOMAIN_REFERENCE",
		what: "a grantee that does not exist",
		fault: "1d/1 LU_GRANT_ACTIVE.GrantActive[0].grantee: 0, not 9",
		stream: (s) => s.record("LU_GRANT_ACTIVE", 1).row("GrantActive", 0, "grantee", 9),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a granted frame of another domain",
		fault: "1d/1 LU_GRANT_ACTIVE.GrantActive[0].mfn: 1, not 0",
		stream: (s) => s.record("LU_GRANT_ACTIVE", 1).row("GrantActive", 0, "mfn", 130n),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a granted frame of another domain, mapped read-only",
		fault: "1d/1 LU_GRANT_ACTIVE.GrantActive[0].mfn: 1, not 0",
		model: (m) => {
			Object.assign(domain(m, 1).grantActive?.[8] as object, { mfn: 130, hostWrite: 0, hostRead: 2 });
			Object.assign(domain(m, 0).maptrack?.[0] as object, { flags: GRANT_MAP.host | GRANT_MAP.readonly });
		},
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a grant frame of another domain",
		fault: "1d/1 LU_GRANT_TABLE.GrantFrames[0].mfn: 1, not 0",
		stream: (s) => s.record("LU_GRANT_TABLE", 1).row("GrantFrames", 0, "mfn", 301n),
	},
	{
		rule: "WRITTEN",
		what: "a page table mapped read-write by a domain without tables",
		fault: "1d/1 LU_GRANT_ACTIVE.GrantActive[0].mfn: 7, not 1",
		stream: (s) => s.record("LU_GRANT_ACTIVE", 1).row("GrantActive", 0, "mfn", 203n),
	},
	{
		rule: "WRITTEN",
		what: "a descriptor frame mapped read-write by a device",
		fault: "1d/0 LU_GRANT_ACTIVE.GrantActive[0].mfn: 7, not 5",
		model: (m) => {
			m.frameTypes[140] = PAGE_TYPE.segDesc;
			Object.assign(domain(m, 0).grantActive?.[1] as object, { mfn: 140, deviceWrite: 1, deviceRead: 0 });
			Object.assign(domain(m, 1).maptrack?.[2] as object, { flags: GRANT_MAP.device });
		},
	},
	{
		rule: "MAPTRACK",
		what: "no kind of mapping",
		fault: "2/0 LU_GRANT_MAPS.Maptrack[0].flags: 7, not 4",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).row("Maptrack", 0, "flags", 4),
	},
	{
		rule: "MAPTRACK",
		what: "an unknown flag",
		fault: "2/0 LU_GRANT_MAPS.Maptrack[0].flags: 7, not 10",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).row("Maptrack", 0, "flags", 10),
	},
	{
		rule: "MAPTRACK",
		what: "a vCPU beyond the limit",
		fault: "2/0 LU_GRANT_MAPS.Maptrack[0].vcpuId: 1, not 1",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).row("Maptrack", 0, "vcpuId", 1),
	},
	{
		rule: "MAPTRACK",
		what: "handles beyond the limit",
		fault: "2/0 LU_GRANT_MAPS.slotCount: 256, not 257",
		stream: (s) =>
			s.record("LU_DOMAIN", 0).set("maxMaptrackFrames", 1) && s.record("LU_GRANT_MAPS", 0).set("slotCount", 257),
	},
	{
		rule: "MAPTRACK_UNMATCHED",
		what: "a granting domain that does not exist",
		fault: "2/0 LU_GRANT_MAPS.Maptrack[0].domid: 0, not 9",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).row("Maptrack", 0, "domid", 9),
	},
	{
		rule: "MAPTRACK_UNMATCHED",
		what: "a granting domain without active grants",
		fault: "2/0 LU_GRANT_MAPS.Maptrack[0].reference: 0, not 8",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).row("Maptrack", 0, "domid", 0),
	},
	{
		rule: "MAPTRACK_UNMATCHED",
		what: "a reference that is not active",
		fault: "2/0 LU_GRANT_MAPS.Maptrack[0].reference: 0, not 9",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).row("Maptrack", 0, "reference", 9),
	},
	{
		rule: "MAPTRACK_UNMATCHED",
		what: "a grant of another grantee",
		fault: "2/0 LU_GRANT_MAPS.Maptrack[0].reference: 2, not 0",
		stream: (s) => s.record("LU_GRANT_ACTIVE", 1).row("GrantActive", 0, "grantee", 2),
	},
	{
		rule: "PIN_SUM",
		what: "one pin more than mappings",
		fault: "1d/1 LU_GRANT_ACTIVE.GrantActive[0].hostRead: 1, not 2",
		stream: (s) => s.record("LU_GRANT_ACTIVE", 1).row("GrantActive", 0, "hostRead", 2),
	},
	{
		rule: "PIN_SUM",
		what: "a mapping of the other kind",
		fault: "1d/1 LU_GRANT_ACTIVE.GrantActive[0].hostWrite: 0, not 1",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).row("Maptrack", 0, "flags", 1),
	},
	{
		rule: "PIN_SUM",
		what: "a pinned grant that nobody has mapped",
		fault: "1d/1 LU_GRANT_ACTIVE.GrantActive[0].hostWrite: 0, not 1",
		stream: (s) => void s.remove("LU_GRANT_MAPS", 0),
	},
];

const port = (domid: number, row: number, field: string, value: number) => (s: Restitched) =>
	s.record("LU_EVTCHN_PORTS", domid).row("Ports", row, field, value);

const events: RuleCase[] = [
	{
		rule: "PORT_FIELD",
		what: "an unknown ABI",
		fault: "2/1 LU_EVTCHN.abi: 1, not 2",
		stream: (s) => s.record("LU_EVTCHN", 1).set("abi", 2),
	},
	{
		rule: "PORT_FIELD",
		what: "an unknown state",
		fault: "2/1 LU_EVTCHN_PORTS.Ports[1].state: 6, not 7",
		stream: port(1, 1, "state", 7),
	},
	{
		rule: "PORT_FIELD",
		what: "an unknown consumer",
		fault: "2/2 LU_EVTCHN_PORTS.Ports[1].consumer: 4, not 5",
		stream: port(2, 1, "consumer", 5),
	},
	{
		rule: "PORT_FIELD",
		what: "an unknown priority",
		fault: "2/1 LU_EVTCHN_PORTS.Ports[1].priority: 15, not 16",
		stream: port(1, 1, "priority", 16),
	},
	{
		rule: "PORT_FIELD",
		what: "an unknown last priority",
		fault: "2/1 LU_EVTCHN_PORTS.Ports[1].lastPriority: 15, not 16",
		stream: port(1, 1, "lastPriority", 16),
	},
	{
		rule: "PORT_FIELD",
		what: "a vCPU that does not exist",
		fault: "2/1 LU_EVTCHN_PORTS.Ports[1].notifyVcpu: 2, not 2",
		stream: port(1, 1, "notifyVcpu", 2),
	},
	{
		rule: "PORT_FIELD",
		what: "a port of Xen's own that is an IPI's",
		fault: "2/1 LU_EVTCHN_PORTS.Ports[1].consumer: 0, not 1",
		stream: port(1, 1, "consumer", 1),
	},
	{
		rule: "PORT_FIELD",
		what: "a number between two vCPUs",
		fault: "2/2 LU_EVTCHN_PORTS.Ports[0].notifyVcpu: 3, not 1",
		stream: port(2, 0, "notifyVcpu", 1),
	},
	{
		rule: "PORT_FIELD",
		what: "a last vCPU that does not exist",
		fault: "2/1 LU_EVTCHN_PORTS.Ports[1].lastVcpu: 2, not 2",
		stream: port(1, 1, "lastVcpu", 2),
	},
	{
		rule: "PORT_FIELD",
		what: "pending twice",
		fault: "2/1 LU_EVTCHN_PORTS.Ports[3].pending: 1, not 2",
		stream: port(1, 3, "pending", 2),
	},
	{
		rule: "PORT_FIELD",
		what: "port 0 in use",
		fault: "2/0 LU_EVTCHN_PORTS.Ports[0].state: 1, not 0",
		stream: (s) => s.record("LU_EVTCHN_PORTS", 0).run(0, 0, 0),
	},
	{
		rule: "PORT_LIMIT",
		what: "a port above the domain's limit",
		fault: "2/1 LU_EVTCHN_PORTS.Ports[3].state: 3, not 4",
		stream: (s) => s.record("LU_DOMAIN", 1).set("maxEvtchnPort", 3),
	},
	{
		rule: "PORT_LIMIT",
		what: "more ports than 2-level channels have",
		fault: "2/0 LU_EVTCHN_PORTS.slotCount: 4096, not 4097",
		stream: (s) => s.record("LU_EVTCHN_PORTS", 0).set("slotCount", 4097),
	},
	{
		rule: "PORT_LIMIT",
		what: "more ports than 2-level channels have for a 32-bit guest",
		fault: "2/2 LU_EVTCHN_PORTS.slotCount: 1024, not 1025",
		stream: (s) => {
			s.record("LU_DOMAIN", 2).set("guestWidth", 4);
			s.record("LU_EVTCHN_PORTS", 2).set("slotCount", 1025);
		},
	},
	{
		rule: "PORT_LIMIT",
		what: "more ports than FIFO channels have",
		fault: "2/1 LU_EVTCHN_PORTS.slotCount: 131072, not 131073",
		stream: (s) => s.record("LU_EVTCHN_PORTS", 1).set("slotCount", 131_073),
	},
	{
		rule: "INTERDOMAIN",
		what: "the other domain does not exist",
		fault: "2/0 LU_EVTCHN_PORTS.Ports[1].remoteDomid: 0, not 9",
		stream: port(0, 1, "remoteDomid", 9),
	},
	{
		rule: "INTERDOMAIN",
		what: "the other domain has no ports",
		fault: "2/0 LU_EVTCHN_PORTS.Ports[1].remotePort: 0, not 1",
		stream: port(0, 1, "remoteDomid", 5),
	},
	{
		rule: "INTERDOMAIN",
		what: "the other port is free",
		fault: "2/0 LU_EVTCHN_PORTS.Ports[1].remotePort: 0, not 9",
		stream: port(0, 1, "remotePort", 9),
	},
	{
		rule: "INTERDOMAIN",
		what: "the other port is a VIRQ's",
		fault: "2/0 LU_EVTCHN_PORTS.Ports[1].remotePort: 3, not 5",
		stream: port(0, 1, "remotePort", 3),
	},
	{
		rule: "INTERDOMAIN",
		what: "the other end names another port",
		fault: "2/0 LU_EVTCHN_PORTS.Ports[1].remotePort: 2, not 3",
		stream: port(1, 0, "remotePort", 3),
	},
	{
		rule: "INTERDOMAIN",
		what: "the other end names another domain",
		fault: "2/0 LU_EVTCHN_PORTS.Ports[1].remoteDomid: 0, not 2",
		stream: port(1, 0, "remoteDomid", 2),
	},
	{
		rule: "VIRQ",
		what: "an unknown VIRQ",
		fault: "2/1 LU_EVTCHN_PORTS.Ports[2].virq: 24, not 24",
		stream: port(1, 2, "virq", 24),
	},
	{
		rule: "VIRQ",
		what: "a vCPU's VIRQ bound twice",
		fault: "2/1 LU_EVTCHN_PORTS.Ports[2].virq: 1, not 0",
		stream: (s) => port(1, 1, "state", EVTCHN_STATE.virq)(s) && port(1, 2, "notifyVcpu", 1)(s),
	},
	{
		rule: "VIRQ",
		what: "a domain's VIRQ bound twice",
		fault: "2/1 LU_EVTCHN_PORTS.Ports[2].virq: 1, not 2",
		stream: (s) => port(1, 1, "state", EVTCHN_STATE.virq)(s) && port(1, 1, "virq", 2)(s) && port(1, 2, "virq", 2)(s),
	},
	{
		rule: "FIFO",
		what: "control blocks with 2-level channels",
		fault: "2/1 LU_EVTCHN.arrayFrameCount: 0, not 1",
		stream: (s) => s.record("LU_EVTCHN", 1).set("abi", 0),
	},
	{
		rule: "FIFO",
		what: "event arrays alone with 2-level channels",
		fault: "2/0 LU_EVTCHN.arrayFrameCount: 0, not 1",
		model: (m) => {
			domain(m, 0).eventArrays = [{ mfn: 130 }];
		},
	},
	{
		rule: "FIFO",
		what: "too many event arrays",
		fault: "2/1 LU_EVTCHN.arrayFrameCount: 128, not 129",
		model: (m) => {
			domain(m, 1).eventArrays = new Array(129).fill({ mfn: 212 });
		},
	},
	{
		rule: "FIFO",
		what: "a control block of a vCPU that does not exist",
		fault: "2/1 LU_EVTCHN.ControlBlocks[1].vcpuId: 2, not 2",
		stream: (s) => s.record("LU_EVTCHN", 1).row("ControlBlocks", 1, "vcpuId", 2),
	},
	{
		rule: "FIFO",
		what: "two control blocks of one vCPU",
		fault: "2/1 LU_EVTCHN.ControlBlocks[1].vcpuId: 2, not 0",
		stream: (s) => s.record("LU_EVTCHN", 1).row("ControlBlocks", 1, "vcpuId", 0),
	},
	{
		rule: "FIFO",
		what: "a control block that is not aligned",
		fault: "2/1 LU_EVTCHN.ControlBlocks[0].offset: 4024, not 4",
		stream: (s) => s.record("LU_EVTCHN", 1).row("ControlBlocks", 0, "offset", 4),
	},
	{
		rule: "FIFO",
		what: "a control block that goes beyond its frame",
		fault: "2/1 LU_EVTCHN.ControlBlocks[0].offset: 4024, not 4032",
		stream: (s) => s.record("LU_EVTCHN", 1).row("ControlBlocks", 0, "offset", 4032),
	},
	{
		rule: "FIFO",
		what: "a tail beyond the ports",
		fault: "2/1 LU_EVTCHN.ControlBlocks[0].tail[7]: 5, not 5",
		stream: (s) => s.record("LU_EVTCHN", 1).row("ControlBlocks", 0, "tail", 5, 7),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a control block of another domain",
		fault: "2/1 LU_EVTCHN.ControlBlocks[0].mfn: 1, not 0",
		stream: (s) => s.record("LU_EVTCHN", 1).row("ControlBlocks", 0, "mfn", 130n),
	},
	{
		rule: "WRITTEN",
		what: "a control block in an L4 table",
		fault: "2/1 LU_EVTCHN.ControlBlocks[1].mfn: 7, not 4",
		stream: (s) => s.record("LU_EVTCHN", 1).row("ControlBlocks", 1, "mfn", 205n),
	},
	{
		rule: "WRITTEN",
		what: "an event array in an L2 table",
		fault: "2/1 LU_EVTCHN.EventArrays[0].mfn: 7, not 2",
		stream: (s) => s.record("LU_EVTCHN", 1).row("EventArrays", 0, "mfn", 202n),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "an event array beyond the host",
		fault: "2/1 LU_EVTCHN.EventArrays[0].mfn: 1024, not 18446744073709551615",
		stream: (s) => s.record("LU_EVTCHN", 1).row("EventArrays", 0, "mfn", NONE64),
	},
	{
		rule: "PIRQ",
		what: "an unknown flag",
		fault: "2/0 LU_PIRQS.PirqList[0].flags: 15, not 16",
		stream: (s) => s.record("LU_PIRQS", 0).row("PirqList", 0, "flags", 16),
	},
	{
		rule: "PIRQ",
		what: "a port that is not a PIRQ's",
		fault: "2/0 LU_PIRQS.PirqList[0].port: 4, not 3",
		stream: (s) => s.record("LU_PIRQS", 0).row("PirqList", 0, "port", 2),
	},
	{
		rule: "PIRQ",
		what: "a port that is free",
		fault: "2/0 LU_PIRQS.PirqList[0].port: 4, not 0",
		stream: (s) => s.record("LU_PIRQS", 0).row("PirqList", 0, "port", 4),
	},
	{
		rule: "PIRQ",
		what: "a port of another PIRQ",
		fault: "2/0 LU_PIRQS.PirqList[0].pirq: 10, not 9",
		stream: port(0, 3, "pirq", 10),
	},
	{
		rule: "PIRQ",
		what: "a PIRQ's port that no PIRQ names",
		fault: "2/0 LU_EVTCHN_PORTS: 0, not 1",
		stream: (s) => s.record("LU_PIRQS", 0).row("PirqList", 0, "port", 0),
	},
	{
		rule: "PIRQ",
		what: "one PIRQ twice",
		fault: "2/0 LU_PIRQS.PirqList[1].pirq: 10, not 9",
		model: (m) => {
			const { pirqList } = domain(m, 0);
			domain(m, 0).pirqList = [...(pirqList ?? []), ...(pirqList ?? [])];
		},
	},
];

const vcpu = (domid: number, n: number, field: string, value: number | bigint) => (s: Restitched) =>
	s.record("LU_VCPU", domid, n).set(field, value);

const vcpus: RuleCase[] = [
	{
		rule: "VCPU",
		what: "a vCPU above the limit",
		fault: "0/1 LU_VCPUS.VcpuSlots[1].vcpuId: 1, not 1",
		stream: (s) => s.record("LU_DOMAIN", 1).set("maxVcpus", 1),
	},
	{
		rule: "VCPU",
		what: "a vCPU number that no Xen has",
		fault: "0/1 LU_VCPUS.VcpuSlots[1].vcpuId: 8192, not 8192",
		stream: (s) => s.record("LU_VCPUS", 1).row("VcpuSlots", 1, "vcpuId", 8192),
	},
	{
		rule: "VCPU",
		what: "vCPUs that do not ascend",
		fault: "0/1 LU_VCPUS.VcpuSlots[1].vcpuId: 2, not 0",
		stream: (s) => s.record("LU_VCPUS", 1).row("VcpuSlots", 1, "vcpuId", 0),
	},
	{
		rule: "VCPU",
		what: "a vCPU without LU_VCPU",
		fault: "0/2 LU_VCPUS: 1, not 2",
		stream: (s) => void s.remove("LU_VCPU", 2, 1),
	},
	{
		rule: "VCPU",
		what: "LU_VCPU of a vCPU that does not exist",
		fault: "0/2 LU_VCPUS: 0, not 1",
		stream: (s) => {
			const { records } = s.section("2", 2);
			const at = records.findIndex((record) => record.name === "LU_VCPU");
			records.splice(at, 0, s.record("LU_VCPU", 2).clone().set("vcpuId", 1));
		},
	},
	{
		rule: "VCPU",
		what: "LU_VCPU of a number that no Xen has",
		fault: "2/2 LU_VCPU.vcpuId: 8192, not 8192",
		stream: vcpu(2, 1, "vcpuId", 8192),
	},
	{
		rule: "VCPU_STATE",
		what: "an unknown flag",
		fault: "2/1 LU_VCPU.flags: 31, not 35",
		stream: vcpu(1, 0, "flags", 35),
	},
	{
		rule: "VCPU_STATE",
		what: "a vCPU that says it does not exist",
		fault: "2/1 LU_VCPU.flags: 31, not 2",
		stream: vcpu(1, 0, "flags", 2),
	},
	{
		rule: "VCPU_STATE",
		what: "affinities of more CPUs than there are",
		fault: "2/1 LU_VCPU.affinityWordCount: 1, not 2",
		stream: (s) => {
			const record = s.record("LU_VCPU", 1).set("affinityWordCount", 2);
			const body = new Uint8Array(record.body.length + 24);
			body.set(record.body);
			record.body = body;
		},
	},
	{
		rule: "VCPU_STATE",
		what: "an unknown runstate",
		fault: "2/1 LU_VCPU.runstate: 3, not 4",
		stream: vcpu(1, 0, "runstate", 4),
	},
	{
		rule: "VCPU_STATE",
		what: "an unknown privilege level",
		fault: "2/1 LU_VCPU.ioPrivilege: 3, not 4",
		stream: vcpu(1, 0, "ioPrivilege", 4),
	},
	{
		rule: "VCPU_STATE",
		what: "an unknown kind of runstate area",
		fault: "2/1 LU_VCPU.runstateArea: 2, not 3",
		stream: vcpu(1, 0, "runstateArea", 3),
	},
	{
		rule: "VCPU_STATE",
		what: "an unknown kind of time area",
		fault: "2/1 LU_VCPU.timeArea: 2, not 3",
		stream: vcpu(1, 0, "timeArea", 3),
	},
	{
		rule: "VCPU_STATE",
		what: "a vcpu_info that goes beyond its frame",
		fault: "2/1 LU_VCPU.vcpuInfoOffset: 4032, not 4033",
		stream: vcpu(1, 0, "vcpuInfoOffset", 4033),
	},
	{
		rule: "VCPU_STATE",
		what: "an offset without a vcpu_info",
		fault: "2/1 LU_VCPU.vcpuInfoOffset: 0, not 64",
		stream: vcpu(1, 1, "vcpuInfoOffset", 64),
	},
	{
		rule: "VCPU_STATE",
		what: "no vCPU that runs in a domain that is not shut down",
		fault: "2/0 LU_DOMAIN_STATE: 1, not 0",
		stream: vcpu(0, 0, "flags", VCPU_FLAG.exists | VCPU_FLAG.initialised | VCPU_FLAG.down),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a vcpu_info of another domain",
		fault: "2/1 LU_VCPU.vcpuInfoMfn: 1, not 0",
		stream: vcpu(1, 0, "vcpuInfoMfn", 130n),
	},
	{
		rule: "WRITTEN",
		what: "a vcpu_info in a descriptor frame",
		fault: "2/1 LU_VCPU.vcpuInfoMfn: 7, not 5",
		stream: vcpu(1, 0, "vcpuInfoMfn", 222n),
	},
	{
		rule: "VCPU_CONTEXT",
		what: "an initialised vCPU without registers",
		fault: "2/1 LU_VCPU.flags: 1, not 0",
		stream: (s) => {
			for (const name of ["LU_PV_VCPU", "X86_PV_VCPU_EXTENDED", "X86_PV_VCPU_XSAVE"]) s.remove(name, 1, 1);
		},
	},
	{
		rule: "VCPU_CONTEXT",
		what: "registers of a vCPU that is not initialised",
		fault: "2/1 LU_VCPU.flags: 0, not 1",
		stream: vcpu(1, 1, "flags", VCPU_FLAG.exists | VCPU_FLAG.down),
	},
	{
		rule: "RECORD_ORDER",
		what: "an extended context of a vCPU that has no registers",
		fault: "2/1 X86_PV_VCPU_EXTENDED: 1073741864, not 1",
		stream: (s) => {
			vcpu(1, 1, "flags", VCPU_FLAG.exists | VCPU_FLAG.down)(s);
			s.remove("LU_PV_VCPU", 1, 1);
		},
	},
	{
		rule: "VCPU_CONTEXT",
		what: "a GDT of more than 16 frames",
		fault: "2/1 LU_PV_VCPU.gdtEntries: 8192, not 8193",
		stream: (s) => s.record("LU_PV_VCPU", 1).set("gdtEntries", 8193),
	},
	{
		rule: "VCPU_CONTEXT",
		what: "an LDT of more entries than selectors name",
		fault: "2/1 LU_PV_VCPU.ldtEntries: 8192, not 8193",
		stream: (s) => s.record("LU_PV_VCPU", 1).set("ldtEntries", 8193),
	},
	...[
		[31, 32],
		[129, 128],
	].map(([octets, expected]) => ({
		rule: "VCPU_CONTEXT",
		what: `an extended context of ${octets} octets`,
		fault: `2/1 X86_PV_VCPU_EXTENDED: ${expected}, not ${octets}`,
		stream: (s: Restitched) => {
			const record = s.record("X86_PV_VCPU_EXTENDED", 1);
			const body = new Uint8Array(8 + (octets as number));
			body.set(record.body.subarray(0, body.length));
			record.body = body;
		},
	})),
	{
		rule: "FRAME_NOT_OWNED",
		what: "a GDT in another domain's frame",
		fault: "2/1 LU_PV_VCPU.gdtMfn[0]: 1, not 0",
		stream: (s) => s.record("LU_PV_VCPU", 1).set("gdtMfn", 130n),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a CR3 in another domain's frame",
		fault: "2/1 LU_PV_VCPU.cr[3]: 1, not 0",
		stream: (s) => s.record("LU_PV_VCPU", 1).set("cr", BigInt(130 << 12), 3),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a user CR3 in another domain's frame",
		fault: "2/1 LU_PV_VCPU.cr[1]: 1, not 0",
		stream: (s) => s.record("LU_PV_VCPU", 1).set("cr", BigInt(130 << 12), 1),
	},
	{
		rule: "XSAVE",
		what: "an area without its header",
		fault: "2/1 X86_PV_VCPU_XSAVE.PvXsave[0]: 592, not 591",
		stream: (s) => {
			const record = s.record("X86_PV_VCPU_XSAVE", 1);
			record.body = record.body.slice(0, 8 + 16 + 512 + 63);
		},
	},
	{
		rule: "XSAVE",
		what: "a component that was never enabled",
		fault: "2/1 X86_PV_VCPU_XSAVE.PvXsave[0]: 3, not 7",
		stream: (s) => {
			s.record("X86_PV_VCPU_XSAVE", 1).body[8] = 7;
		},
	},
	{
		rule: "XSAVE",
		what: "x87 state not enabled",
		fault: "2/1 X86_PV_VCPU_XSAVE.PvXsave[0]: 3, not 2",
		stream: (s) => {
			s.record("X86_PV_VCPU_XSAVE", 1).body[8] = 2;
		},
	},
	{
		rule: "XSAVE",
		what: "a component in the header that was never enabled",
		fault: "2/1 X86_PV_VCPU_XSAVE.PvXsave[528]: 3, not 4",
		stream: (s) => {
			s.record("X86_PV_VCPU_XSAVE", 1).body[8 + 16 + 512] = 4;
		},
	},
	{
		rule: "HVM_CONTEXT",
		what: "HEADER is not first",
		fault: "2/2 HVM_CONTEXT.HvmContext[0]: 1, not 2",
		stream: (s) => {
			s.record("HVM_CONTEXT").body[0] = 2;
		},
	},
	{
		rule: "HVM_CONTEXT",
		what: "HEADER with another magic",
		fault: "2/2 HVM_CONTEXT.HvmContext[8]: 1412960902, not 1412960768",
		stream: (s) => {
			s.record("HVM_CONTEXT").body[8] = 0;
		},
	},
	{
		rule: "HVM_CONTEXT",
		what: "an entry beyond the body",
		fault: "2/2 HVM_CONTEXT.HvmContext[32]: 1040, not 66568",
		stream: (s) => {
			s.record("HVM_CONTEXT").body[36 + 2] = 1;
		},
	},
	{
		rule: "HVM_CONTEXT",
		what: "a CPU entry of a vCPU that does not exist",
		fault: "2/2 HVM_CONTEXT.HvmContext[32]: 3, not 3",
		stream: (s) => {
			s.record("HVM_CONTEXT").body[34] = 3;
		},
	},
	{
		rule: "HVM_CONTEXT",
		what: "a CPU entry of a number between two vCPUs",
		fault: "2/2 HVM_CONTEXT.HvmContext[32]: 3, not 1",
		stream: (s) => {
			s.record("HVM_CONTEXT").body[34] = 1;
		},
	},
	{
		rule: "HVM_CONTEXT",
		what: "no END",
		fault: "2/2 HVM_CONTEXT.HvmContext[0]: 8, not 0",
		stream: (s) => {
			const record = s.record("HVM_CONTEXT");
			record.body = record.body.slice(0, record.body.length - 8);
		},
	},
	{
		rule: "HVM_CONTEXT",
		what: "octets behind END",
		fault: "2/2 HVM_CONTEXT.HvmContext[0]: 1088, not 1080",
		stream: (s) => {
			const record = s.record("HVM_CONTEXT");
			const body = new Uint8Array(record.body.length + 8);
			body.set(record.body);
			record.body = body;
		},
	},
	{
		rule: "HVM_ENTRY",
		what: "an HVM parameter that Xen does not have",
		fault: "2/2 HVM_PARAMS.HvmParamList[1].index: 38, not 39",
		stream: (s) => s.record("HVM_PARAMS").row("HvmParamList", 1, "index", 39n),
	},
	{
		rule: "HVM_INSTANCE",
		what: "an HVM parameter twice",
		fault: "2/2 HVM_PARAMS.HvmParamList[1].index: 1, not 2",
		stream: (s) => s.record("HVM_PARAMS").row("HvmParamList", 1, "index", 1n),
	},
	{
		rule: "HVM_ONLY",
		what: "HVM parameters of a PV guest",
		fault: "2/1 HVM_PARAMS: 1, not 10",
		stream: (s) => void s.section("2", 1).records.push(s.record("HVM_PARAMS").clone()),
	},
	{
		rule: "HVM_ONLY",
		what: "PV registers of an HVM guest",
		fault: "2/2 LU_PV_VCPU: 3, not 1073741864",
		stream: (s) => void s.section("2", 2).records.push(s.record("LU_PV_VCPU", 1).clone()),
	},
];

const io: RuleCase[] = [
	{
		rule: "IOREQ",
		what: "nine servers",
		fault: "2/2 LU_IOREQ_SERVERS.serverCount: 8, not 9",
		model: (m) => {
			domain(m, 2).ioreqServerList = Array.from({ length: 9 }, (_, serverId) => ({ serverId, emulator: 0 }));
		},
	},
	{
		rule: "IOREQ",
		what: "one server twice",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqServerList[1].serverId: 1, not 0",
		model: (m) => {
			const { ioreqServerList } = domain(m, 2);
			domain(m, 2).ioreqServerList = [...(ioreqServerList ?? []), ...(ioreqServerList ?? [])];
		},
	},
	{
		rule: "DOMAIN_REFERENCE",
		what: "an emulator that does not exist",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqServerList[0].emulator: 0, not 9",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqServerList", 0, "emulator", 9),
	},
	{
		rule: "DOMAIN_REFERENCE",
		what: "a domain that emulates for itself",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqServerList[0].emulator: 0, not 2",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqServerList", 0, "emulator", 2),
	},
	{
		rule: "DOMAIN_REFERENCE",
		what: "a domain that is its own target",
		fault: "2/2 LU_DOMAIN_STATE.target: 32756, not 2",
		stream: (s) => s.record("LU_DOMAIN_STATE", 2).set("target", 2),
	},
	{
		rule: "IOREQ",
		what: "two servers that claim writes",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqServerList[1].flags: 1, not 3",
		model: (m) => {
			domain(m, 2).ioreqServerList = [0, 1].map((serverId) => ({ serverId, emulator: 0, flags: 3 }));
		},
	},
	{
		rule: "IOREQ",
		what: "two ports of one vCPU",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqPorts[1].vcpuId: 1, not 2",
		model: (m) => {
			domain(m, 2).ioreqPorts = [0, 1].map(() => ({ serverId: 0, vcpuId: 0, port: 2 }));
		},
	},
	{
		rule: "IOREQ",
		what: "one page twice",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqPages[1].mfn: 1, not 2",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqPages", 1, "mfn", 820n),
	},
	{
		rule: "IOREQ",
		what: "two synchronous pages for fewer than 129 vCPUs",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqPages[1].role: 1, not 2",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqPages", 1, "role", 0),
	},
	{
		rule: "IOREQ",
		what: "two buffered pages",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqPages[1].role: 1, not 2",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqPages", 0, "role", 1),
	},
	{
		rule: "IOREQ",
		what: "an unknown buffered mode",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqServerList[0].bufferedMode: 2, not 3",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqServerList", 0, "bufferedMode", 3),
	},
	{
		rule: "IOREQ",
		what: "an unknown flag",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqServerList[0].flags: 3, not 4",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqServerList", 0, "flags", 4),
	},
	{
		rule: "IOREQ",
		what: "a buffered port that is not a channel",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqServerList[0].bufferedPort: 3, not 1",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqServerList", 0, "bufferedPort", 1),
	},
	{
		rule: "IOREQ",
		what: "a port of an unknown server",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqPorts[0].serverId: 0, not 1",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqPorts", 0, "serverId", 1),
	},
	{
		rule: "IOREQ",
		what: "a port of a vCPU that does not exist",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqPorts[0].vcpuId: 3, not 3",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqPorts", 0, "vcpuId", 3),
	},
	{
		rule: "IOREQ",
		what: "a port that is free",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqPorts[0].port: 3, not 9",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqPorts", 0, "port", 9),
	},
	{
		rule: "IOREQ",
		what: "more pages than the servers can have",
		fault: "2/2 LU_IOREQ_SERVERS.pageCount: 65, not 66",
		model: (m) => {
			domain(m, 2).ioreqPages = new Array(66).fill({ serverId: 0, mfn: 820, gfn: NONE64 });
		},
	},
	{
		rule: "IOREQ",
		what: "a page of an unknown server",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqPages[1].serverId: 0, not 1",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqPages", 1, "serverId", 1),
	},
	{
		rule: "IOREQ",
		what: "a page of an unknown role",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqPages[1].role: 1, not 2",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqPages", 1, "role", 2),
	},
	{
		rule: "IOREQ",
		what: "a page that is reached in an unknown way",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqPages[1].flags: 1, not 2",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqPages", 1, "flags", 2),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a server's page of another domain",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqPages[1].mfn: 2, not 0",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqPages", 1, "mfn", 130n),
	},
	{
		rule: "IOREQ",
		what: "a range of an unknown server",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqRanges[2].serverId: 0, not 1",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqRanges", 2, "serverId", 1),
	},
	{
		rule: "IOREQ",
		what: "a range of an unknown kind",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqRanges[2].type: 2, not 3",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqRanges", 2, "type", 3),
	},
	{
		rule: "IOREQ",
		what: "a range that ends before it begins",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqRanges[2].last: 8, not 7",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqRanges", 2, "last", 7n),
	},
	{
		rule: "IOREQ",
		what: "ranges that overlap",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqRanges[1].first: 32, not 31",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqRanges", 1, "type", 0).row("IoreqRanges", 1, "first", 0x1fn),
	},
	{
		rule: "IOREQ",
		what: "kinds that do not ascend",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqRanges[2].type: 1, not 0",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqRanges", 2, "type", 0),
	},
	{
		rule: "CAPS",
		what: "an unknown kind",
		fault: "2/0 LU_CAPS.CapRanges[3].kind: 3, not 4",
		stream: (s) => s.record("LU_CAPS").row("CapRanges", 3, "kind", 4),
	},
	{
		rule: "CAPS",
		what: "a range that ends before it begins",
		fault: "2/0 LU_CAPS.CapRanges[3].last: 1, not 0",
		stream: (s) => s.record("LU_CAPS").row("CapRanges", 3, "last", 0n),
	},
	{
		rule: "CAPS",
		what: "kinds that do not ascend",
		fault: "2/0 LU_CAPS.CapRanges[3].kind: 2, not 1",
		stream: (s) => s.record("LU_CAPS").row("CapRanges", 3, "kind", 1),
	},
	{
		rule: "CAPS",
		what: "ranges that overlap",
		fault: "2/0 LU_CAPS.CapRanges[1].first: 32, not 31",
		stream: (s) => s.record("LU_CAPS").row("CapRanges", 1, "first", 0x1fn),
	},
];

export const ruleCases: readonly RuleCase[] = [
	...framing,
	...structure,
	...memory,
	...host,
	...domains,
	...frames,
	...tables,
	...p2mCases,
	...grants,
	...events,
	...vcpus,
	...io,
	...deviceCases,
];
