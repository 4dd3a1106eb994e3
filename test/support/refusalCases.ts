/**
 * What tools/check-mutations.mjs found that no other case would miss: for a place of the core that refuses, or one operand of
 * its condition, a stream that this place alone refuses so. As in ruleCases.ts, each breaks exactly the rule it is listed
 * under; those of the second host have `second`.
 */
import {
	DOMID,
	EVTCHN_ABI,
	FRAME,
	GRANT_MAP,
	IOREQ_RANGE,
	P2M_ACCESS,
	P2M_TYPE,
	PAGE_TYPE,
	PASS,
} from "../../src/format/enums.ts";
import { readStruct, writeStruct } from "../../src/format/layout.ts";
import { heads, IMAGE_HEADER_BYTES, RECORD_HEADER_BYTES, structs } from "../../src/format/schema.ts";
import type { DomainModel, HostModel, PreservedPages } from "../../src/machine/model.ts";
import { hashOf } from "./core.ts";
import { concatenate } from "./restitch.ts";
import { brokenStream, type RuleCase } from "./ruleCases.ts";
import { brokenSecond } from "./secondCases.ts";
import { NARROW } from "./secondHost.ts";
import { p2mEntry, pte } from "./tinyHost.ts";

export interface RefusalCase extends RuleCase {
	/** Of the second host, in version 2. */
	second?: true;
}

export function brokenRefusal(one: RefusalCase) {
	return one.second ? brokenSecond(one) : brokenStream(one);
}

const domain = ({ domains }: HostModel, domid: number): DomainModel =>
	domains.find((one) => one.domain.domid === domid) as DomainModel;

const view = (octets: Uint8Array) => new DataView(octets.buffer, octets.byteOffset, octets.byteLength);

const tableEntry = (preserved: PreservedPages, mfn: number, slot: number, value: bigint): void =>
	view(preserved.get(mfn) as Uint8Array).setBigUint64(8 * slot, value, true);

/** Offset of the n-th record of a type behind the image header, by framing alone. */
function find(octets: Uint8Array, type: number): number {
	for (let at = 24; at < octets.length; at += 8 + Math.ceil(view(octets).getUint32(at + 4, true) / 8) * 8)
		if (view(octets).getUint32(at, true) === type) return at;
	throw new Error(`no record 0x${type.toString(16)}`);
}

const INDEX = 0x4000_003f;

/** The second entry of LU_INDEX, changed, the hash made anew. */
const indexed = (change: Record<string, number | bigint>) => (stream: Uint8Array<ArrayBuffer>) => {
	const body = find(stream, INDEX) + RECORD_HEADER_BYTES;
	const entries = body + heads.Index.size;
	const { size } = structs.IndexEntry;
	const entry = readStruct(structs.IndexEntry, view(stream), entries + size);
	writeStruct(structs.IndexEntry, view(stream), entries + size, { ...entry, ...change });
	const { sectionCount } = readStruct(heads.Index, view(stream), body);
	const hash = hashOf(stream.slice(entries, entries + size * Number(sectionCount)));
	writeStruct(heads.Index, view(stream), body, { hash, sectionCount });
	return stream;
};

/** The stream with more octets, and the octets of one record's header changed. */
function withTail(stream: Uint8Array, more: number, change: (view: DataView) => void): Uint8Array<ArrayBuffer> {
	const octets = new Uint8Array(stream.length + more);
	octets.set(stream);
	change(view(octets));
	return octets;
}

const framing: RefusalCase[] = [
	{
		rule: "TRUNCATED",
		what: "nothing but the image header",
		fault: "stream -: 8, not 0",
		octets: (s) => s.slice(0, 24),
	},
	{
		rule: "TRUNCATED",
		what: "the stream ends behind section H",
		fault: "H/host LU_SECTION: 8, not 0",
		octets: (s) => {
			const opening = IMAGE_HEADER_BYTES + RECORD_HEADER_BYTES;
			const { length } = readStruct(heads.Section, view(s), opening);
			return s.slice(0, opening + heads.Section.size + Number(length));
		},
	},
	{
		rule: "TRUNCATED",
		what: "the stream ends within END's header",
		fault: "stream LU_INDEX: 8, not 4",
		octets: (s) => s.slice(0, s.length - 4),
	},
	{
		rule: "TRUNCATED",
		what: "the stream ends within LU_INDEX",
		fault: "stream LU_INDEX: 584, not 64",
		octets: (s) => s.slice(0, find(s, INDEX) + 64),
	},
	{
		rule: "SECTION_LENGTH",
		what: "a body as long as any may be, in a section that is shorter",
		fault: "2/0 LU_CAPS: 134217736, not 112",
		stream: (s) => {
			s.record("LU_CAPS").claimedLength = 1 << 27;
		},
	},
	{
		rule: "BODY_LENGTH",
		what: "LU_SECTION with eight octets more",
		fault: "stream LU_SECTION: 32, not 40",
		octets: (s) => {
			const octets = concatenate([s.slice(0, 64), new Uint8Array(8), s.slice(64)]);
			view(octets).setUint32(28, 40, true);
			return octets;
		},
	},
	{
		rule: "BODY_LENGTH",
		what: "LU_INDEX with eight octets behind its entries",
		fault: "stream LU_INDEX: 576, not 584",
		octets: (s) => {
			const at = find(s, INDEX);
			const octets = concatenate([s.slice(0, s.length - 8), new Uint8Array(8), s.slice(s.length - 8)]);
			view(octets).setUint32(at + 4, view(s).getUint32(at + 4, true) + 8, true);
			const body = at + 8;
			view(octets).setBigUint64(body, hashOf(octets.slice(body + 16, octets.length - 8)), true);
			return octets;
		},
	},
	{
		rule: "INDEX",
		what: "an entry of another pass",
		fault: "stream LU_INDEX.Sections[1].pass: 1, not 2",
		octets: indexed({ pass: PASS["1h"] }),
	},
	{
		rule: "INDEX",
		what: "an entry of another domain",
		fault: "stream LU_INDEX.Sections[1].domid: 0, not 77",
		octets: indexed({ domid: 77 }),
	},
	{
		rule: "INDEX",
		what: "an entry of another length",
		fault: "stream LU_INDEX.Sections[1].length: 128, not 8",
		octets: indexed({ length: 8n }),
	},
	{
		rule: "INDEX",
		what: "an entry of another hash",
		fault: "stream LU_INDEX.Sections[1].hash: 9170260464291032498, not 1",
		octets: indexed({ hash: 1n }),
	},
	{
		rule: "INDEX",
		what: "an entry of another number of records",
		fault: "stream LU_INDEX.Sections[1].recordCount: 2, not 99",
		octets: indexed({ recordCount: 99 }),
	},
	{
		rule: "END",
		what: "END with half a word",
		fault: "stream END: 0, not 4",
		octets: (s) => withTail(s, 8, (v) => v.setUint32(s.length - 4, 4, true)),
	},
	{
		rule: "SECTION_MISSING",
		what: "no section at all",
		fault: "stream -: 0, not 0",
		stream: (s) => {
			s.sections = [];
		},
	},
	{
		rule: "SPARSE",
		what: "a run whose first row is behind the last one",
		fault: "2/0 LU_GRANT_MAPS.runs[0]: 4, not 9",
		stream: (s) => s.record("LU_GRANT_MAPS", 0).run(1, 3, 9),
	},
	{
		rule: "SPARSE",
		what: "rows without a run",
		fault: "2/0 LU_GRANT_MAPS.rowCount: 0, not 4",
		stream: (s) => {
			const maps = s.record("LU_GRANT_MAPS", 0);
			const from = maps.partOffset("Maptrack");
			maps.body = concatenate([maps.body.slice(0, from), maps.body.slice(from + 2 * 8)]);
			maps.set("runCount", 0);
		},
	},
	{
		rule: "RESERVED",
		what: "octets between two parts",
		second: true,
		fault: "0/2 LU_VNUMA.octet 20: 0, not 1",
		stream: (s) => {
			const vnuma = s.record("LU_VNUMA", 2);
			vnuma.body[vnuma.partOffset("VnumaNodes") + 4] = 1;
		},
	},
	{
		rule: "BODY_LENGTH",
		what: "a part without the octets up to the next one",
		second: true,
		fault: "0/2 LU_VNUMA: 24, not 20",
		stream: (s) => {
			const vnuma = s.record("LU_VNUMA", 2);
			vnuma.body = vnuma.body.slice(0, vnuma.partOffset("VnumaNodes") + 4);
		},
	},
	{
		rule: "RECORD_TWICE",
		what: "LU_HOST twice",
		fault: "H/host LU_HOST: 1, not 2",
		stream: (s) => void s.section("H").records.push(s.record("LU_HOST").clone()),
	},
	{
		rule: "RECORD_TWICE",
		what: "a grant table twice",
		fault: "1d/1 LU_GRANT_TABLE: 1, not 2",
		stream: (s) => void s.section("1d", 1).records.splice(1, 0, s.record("LU_GRANT_TABLE", 1).clone()),
	},
	{
		rule: "RECORD_ORDER",
		what: "page types before owners",
		fault: "1h/host LU_FRAMES: 1073741848, not 1073741849",
		stream: (s) => void s.section("1h").records.reverse(),
	},
];

const slices: RefusalCase[] = [
	{
		rule: "SLICE",
		what: "owners whose end wraps 64 bits",
		fault: "1h/host LU_FRAMES.firstMfn: 0, not 18446744073709550592",
		stream: (s) => s.record("LU_FRAMES").set("firstMfn", 2n ** 64n - 1024n),
	},
	{
		rule: "SLICE",
		what: "page types whose end wraps 64 bits",
		fault: "1h/host LU_PAGE_TYPES.firstMfn: 0, not 18446744073709550592",
		stream: (s) => s.record("LU_PAGE_TYPES").set("firstMfn", 2n ** 64n - 1024n),
	},
	{
		rule: "SLICE",
		what: "two slices of page types that overlap",
		fault: "1h/host LU_PAGE_TYPES.firstMfn: 1024, not 0",
		stream: (s) => void s.section("1h").records.push(s.record("LU_PAGE_TYPES").clone()),
	},
	{
		rule: "SLICE",
		what: "two slices of a P2M that overlap",
		fault: "0/2 LU_P2M.firstGfn: 600, not 0",
		stream: (s) => {
			const { records } = s.section("0", 2);
			records.splice(records.indexOf(s.record("LU_P2M", 2)) + 1, 0, s.record("LU_P2M", 2).clone());
		},
		model: (m) => {
			// Nothing that a second slice would find taken.
			(domain(m, 2).p2m as BigUint64Array).fill(0n, 0, 599);
			domain(m, 2).foreignMapList = [];
		},
	},
	{
		rule: "SLICE",
		what: "a P2M slice whose end wraps 64 bits",
		fault: "0/2 LU_P2M.firstGfn: 0, not 18446744073709551615",
		stream: (s) => s.record("LU_P2M", 2).set("firstGfn", 2n ** 64n - 1n),
	},
];

/** Frames of the HVM guest's RAM at every other GFN, so that a chunk of them is no chunk of runs. */
function scattered(m: HostModel, length: number): BigUint64Array {
	const entries = new BigUint64Array(length);
	for (let i = 0; i < 256; i++) entries[2 * i] = p2mEntry(512 + ((37 * i) & 255));
	for (let i = 0; i < 32 && 512 + 2 * i < length; i++) entries[512 + 2 * i] = p2mEntry(768 + ((7 * i) & 31));
	domain(m, 2).p2m = entries;
	domain(m, 2).foreignMapList = [];
	return entries;
}

const memory: RefusalCase[] = [
	{
		rule: "REGION",
		what: "a region of no kind",
		fault: "H/host LU_REGIONS.RegionList[2].kind: 3, not 0",
		stream: (s) => s.record("LU_REGIONS").row("RegionList", 2, "kind", 0),
	},
	{
		rule: "REGION",
		what: "a region that begins at the host's end",
		fault: "H/host LU_REGIONS.RegionList[2].firstMfn: 1024, not 1024",
		stream: (s) => s.record("LU_REGIONS").row("RegionList", 2, "firstMfn", 1024n),
	},
	{
		rule: "REGION",
		what: "a region that begins far behind the host's end",
		fault: "H/host LU_REGIONS.RegionList[2].firstMfn: 1024, not 1099511627776",
		stream: (s) => s.record("LU_REGIONS").row("RegionList", 2, "firstMfn", 1n << 40n),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "domain 0's shared_info in a free frame",
		fault: "2/0 LU_SHARED_INFO.mfn: 0, not 32756",
		stream: (s) => s.record("LU_SHARED_INFO", 0).set("mfn", 440n),
	},
	{
		rule: "FRAME_RESERVED",
		what: "a root of no purpose",
		fault: "0/2 LU_KEPT_FRAMES.KeptRoots[0].purpose: 2, not 0",
		stream: (s) => s.record("LU_KEPT_FRAMES").row("KeptRoots", 0, "purpose", 0),
	},
	{
		rule: "FRAME_RESERVED",
		what: "a root of no format",
		fault: "0/2 LU_KEPT_FRAMES.KeptRoots[0].format: 4, not 0",
		stream: (s) => s.record("LU_KEPT_FRAMES").row("KeptRoots", 0, "format", 0),
	},
	{
		rule: "FRAME_RESERVED",
		what: "a root of six levels",
		fault: "0/2 LU_KEPT_FRAMES.KeptRoots[0].levels: 5, not 6",
		stream: (s) => s.record("LU_KEPT_FRAMES").row("KeptRoots", 0, "levels", 6),
	},
	{
		rule: "PAGE_TABLE",
		what: "an L4 entry far beyond the host",
		fault: "1h/1 LU_PAGE_TYPES: 3, not 4398046507111",
		memory: (preserved) => tableEntry(preserved, 200, 272, pte(0x3fff_ffff, true)),
	},
	{
		rule: "PAGE_TABLE",
		what: "an L3 entry of a 32-bit guest far beyond the host",
		second: true,
		fault: "1h/6 LU_PAGE_TYPES: 2, not 4398046507109",
		memory: (preserved) => tableEntry(preserved, 840, 0, pte(0x3fff_ffff, false)),
	},
	{
		rule: "P2M_ENTRY",
		what: "an emulated MMIO entry with a frame",
		fault: "0/2 LU_P2M.firstGfn: 0, not 9223499580203598354",
		model: (m) => {
			(domain(m, 2).p2m as BigUint64Array)[301] = p2mEntry(530, P2M_TYPE.mmioDm);
		},
	},
	{
		rule: "P2M_ENTRY",
		what: "an invalid entry with a frame",
		fault: "0/2 LU_P2M.firstGfn: 0, not 9223496281668715026",
		model: (m) => {
			(domain(m, 2).p2m as BigUint64Array)[301] = p2mEntry(530, P2M_TYPE.invalid);
		},
	},
	{
		rule: "P2M_FRAME",
		what: "RAM in the first frame beyond the host",
		fault: "0/2 LU_P2M.firstGfn: 1024, not 1024",
		model: (m) => {
			(domain(m, 2).p2m as BigUint64Array)[10] = p2mEntry(1024);
		},
	},
	{
		rule: "P2M_FRAME",
		what: "RAM of another domain among frames of which none continues another",
		fault: "0/2 LU_P2M.firstGfn: 2, not 130",
		model: (m) => {
			scattered(m, 512)[300] = p2mEntry(130);
		},
	},
	{
		rule: "P2M_FRAME",
		what: "RAM of another domain in front of 512 entries that are right",
		fault: "0/2 LU_P2M.firstGfn: 2, not 130",
		model: (m) => {
			scattered(m, 1023)[511] = p2mEntry(130);
			(domain(m, 2).p2m as BigUint64Array)[1022] = p2mEntry(811);
		},
	},
	{
		rule: "P2M_FOREIGN",
		what: "a foreign entry behind the last that LU_FOREIGN_MAPS lists",
		fault: "0/2 LU_P2M.firstGfn: 1, not 410",
		model: (m) => {
			(domain(m, 2).p2m as BigUint64Array)[410] = p2mEntry(191, P2M_TYPE.foreign);
		},
	},
	{
		rule: "P2M_HIGHEST",
		what: "a first slice with a highest GFN that the last does not have",
		fault: "0/2 LU_P2M.highestGfn: 599, not 700",
		stream: (s) => {
			const own = s.record("LU_P2M", 2);
			const { records } = s.section("0", 2);
			// One entry of device memory at GFN 700, in a chunk of one run.
			const chunk = new Uint8Array(8 + 24);
			view(chunk).setUint8(0, 1);
			view(chunk).setUint16(2, 1, true);
			view(chunk).setUint32(4, 24, true);
			view(chunk).setUint32(8, 1, true);
			view(chunk).setBigUint64(16, p2mEntry(0xfee01, P2M_TYPE.mmioDirect, 0, P2M_ACCESS.rwx), true);
			view(chunk).setUint16(24, 1, true);
			const last = own.clone();
			last.body = concatenate([own.body.slice(0, 32), chunk]);
			last.set("firstGfn", 700n).set("entryCount", 1).set("chunkBytes", 32).set("highestGfn", 700n);
			records.splice(records.indexOf(own) + 1, 0, last);
		},
	},
];

const grants: RefusalCase[] = [
	{
		rule: "GRANT_TABLE",
		what: "version 0",
		fault: "1d/1 LU_GRANT_TABLE.version: 2, not 0",
		stream: (s) => s.record("LU_GRANT_TABLE", 1).set("version", 0),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a status frame of another domain",
		fault: "1d/2 LU_GRANT_TABLE.StatusFrames[0].mfn: 2, not 0",
		stream: (s) => s.record("LU_GRANT_TABLE", 2).row("StatusFrames", 0, "mfn", 301n),
	},
	{
		rule: "FRAME_NOT_OWNED",
		what: "a granted frame beyond the host that page tables alone hold",
		fault: "1d/2 LU_GRANT_ACTIVE.GrantActive[1].mfn: 1024, not 5000",
		stream: (s) => s.record("LU_GRANT_ACTIVE", 2).row("GrantActive", 1, "mfn", 5000n),
	},
	{
		rule: "PIN_SUM",
		what: "more mappings than a pin counts",
		fault: "2/0 LU_GRANT_MAPS.Maptrack[258].reference: 128, not 256",
		model: (m) => {
			const more = { reference: 8, domid: 1, flags: GRANT_MAP.host, vcpuId: 0 };
			domain(m, 0).maptrack = [...(domain(m, 0).maptrack ?? []), ...new Array(255).fill(more)];
		},
	},
	{
		rule: "PIN_SUM",
		what: "more devices' mappings than a pin counts",
		fault: "2/1 LU_GRANT_MAPS.Maptrack[257].reference: 128, not 256",
		model: (m) => {
			const more = { reference: 1, domid: 0, flags: GRANT_MAP.device | GRANT_MAP.readonly, vcpuId: 0 };
			domain(m, 1).maptrack = [...(domain(m, 1).maptrack ?? []), ...new Array(255).fill(more)];
		},
	},
];

const devices: RefusalCase[] = [
	{
		rule: "IRQ",
		what: "a vector of an exception, masked",
		fault: "H/host LU_IRQS.IoapicPins[0].vector: 16, not 5",
		stream: (s) => s.record("LU_IRQS").row("IoapicPins", 0, "vector", 5).row("IoapicPins", 0, "masked", 1),
	},
	{
		rule: "IRQ_OWNER",
		what: "an interrupt beyond all",
		fault: "H/host LU_IRQS.IrqOwners[0].irq: 0, not 32768",
		stream: (s) => s.record("LU_IRQS").row("IrqOwners", 0, "irq", 32768),
	},
	{
		rule: "IRQ_OWNER",
		what: "an interrupt far beyond all",
		fault: "H/host LU_IRQS.IrqOwners[0].irq: 0, not 1073741823",
		stream: (s) => s.record("LU_IRQS").row("IrqOwners", 0, "irq", 0x3fff_ffff),
	},
	{
		rule: "IOMMU",
		what: "an identity map that meets the last frame of a run alone",
		fault: "H/host LU_DEVICES.IdentityMaps[1].firstMfn: 255, not 767",
		model: (m) => {
			m.identityMaps = [...(m.identityMaps ?? []), { firstMfn: 255, frameCount: 1, domid: 2, writable: 1 }];
		},
	},
	{
		rule: "VNUMA",
		what: "memory on the node behind the last",
		second: true,
		fault: "0/6 LU_VNUMA.VnumaRanges[1].node: 1, not 2",
		stream: (s) => s.record("LU_VNUMA", NARROW).row("VnumaRanges", 1, "node", 2),
	},
	{
		rule: "SCHEDULER",
		what: "a period of less than ten microseconds",
		second: true,
		fault: "2/6 LU_SCHEDULER.SchedulerVcpus[1].periodUs: 10000000, not 9",
		stream: (s) => s.record("LU_SCHEDULER", NARROW).row("SchedulerVcpus", 1, "periodUs", 9),
	},
	{
		rule: "SCHEDULER",
		what: "a budget of less than ten microseconds",
		second: true,
		fault: "2/6 LU_SCHEDULER.SchedulerVcpus[1].budgetUs: 10000, not 9",
		stream: (s) => s.record("LU_SCHEDULER", NARROW).row("SchedulerVcpus", 1, "budgetUs", 9),
	},
	{
		rule: "DOMAIN_FIELD",
		what: "no kind",
		fault: "0/5 LU_DOMAIN.kind: 3, not 0",
		stream: (s) => s.record("LU_DOMAIN", 5).set("kind", 0),
	},
	{
		rule: "HOST_LIMIT",
		what: "more CPUs than any Xen has",
		fault: "H/host LU_HOST.cpuCount: 8192, not 8193",
		stream: (s) => s.record("LU_HOST").set("cpuCount", 8193),
	},
	{
		rule: "VCPU_STATE",
		what: "affinities of fewer CPUs than there are, as many as there may be",
		fault: "2/0 LU_VCPU.affinityWordCount: 128, not 1",
		stream: (s) => s.record("LU_HOST").set("cpuCount", 8192),
	},
	{
		rule: "IOREQ",
		what: "a server of a number of more than 16 bits",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqServerList[0].serverId: 0, not 65536",
		stream: (s) => s.record("LU_IOREQ_SERVERS").row("IoreqServerList", 0, "serverId", 65536),
	},
	{
		rule: "IOREQ",
		what: "servers of ranges that do not ascend",
		fault: "2/2 LU_IOREQ_SERVERS.IoreqRanges[1].serverId: 1, not 0",
		model: (m) => {
			const guest = domain(m, 2);
			guest.ioreqServerList = [...(guest.ioreqServerList ?? []), { serverId: 1, emulator: 0 }];
			guest.ioreqRanges = [1, 0].map((serverId) => ({ serverId, type: IOREQ_RANGE.port, first: 0, last: 1 }));
		},
	},
	{
		rule: "CAPS",
		what: "a permission of no kind",
		fault: "2/0 LU_CAPS.CapRanges[0].kind: 3, not 0",
		stream: (s) => s.record("LU_CAPS").row("CapRanges", 0, "kind", 0),
	},
	{
		rule: "FIFO",
		what: "control blocks alone with 2-level channels",
		fault: "2/1 LU_EVTCHN.controlBlockCount: 0, not 2",
		model: (m) => {
			domain(m, 1).evtchn = { abi: EVTCHN_ABI.twoLevel };
			domain(m, 1).eventArrays = [];
		},
	},
];

/** The HVM guest alone, as domain 0: what a free frame's entry has where another's has its owner. */
function hvmAsDomain0(m: HostModel): DomainModel {
	const hvm = domain(m, 2);
	const guest: DomainModel = {
		...hvm,
		domain: { ...hvm.domain, domid: 0 },
		grantActive: [],
		foreignMapList: [],
		ports: [undefined, ...(hvm.ports?.slice(1, 2) ?? [])],
		ioreqServerList: [],
		ioreqPorts: [],
		ioreqPages: [],
		ioreqRanges: [],
	};
	m.domains = [guest];
	// Owners of the others are gone with them; a type is only an owned frame's.
	m.frameOwners = m.frameOwners.map((entry) => {
		const owner = entry & 0x7fffn;
		return owner === 2n ? entry - 2n : owner === BigInt(DOMID.XEN) ? entry : 0n;
	});
	m.frameTypes = m.frameTypes.map((type, mfn) => (m.frameOwners[mfn] === 0n ? 0 : type));
	(guest.p2m as BigUint64Array)[400] = 0n;
	return guest;
}

/** Entries of a page table, and the pin. */
const PER_TABLE = 513;
/** What the domains up to the HVM guest, its foreign maps left out, may refer to besides page tables. */
const BESIDES_TABLES = 3 * 2048 + 4 * (1 + 2 + 3) + 18 * 2 + (2 + 2);
const MOST_REFERENCES = 2 ** 31;

/** So many references that up to the HVM guest's grants there are `sum`: page tables, and foreign maps for the rest. */
function references(m: HostModel, sum: number): void {
	const tables = Math.floor((sum - BESIDES_TABLES) / PER_TABLE);
	const foreign = sum - BESIDES_TABLES - tables * PER_TABLE;
	const present = m.frameTypes.filter((type) => (type & 7) >= 1 && (type & 7) <= 4).length;
	// One frame of the device memory that the P2M names is nobody's.
	const frames = 1024 + tables - present + 1;
	const owners = new BigUint64Array(frames).fill(BigInt(FRAME.owned | FRAME.allocated) | 1n, 1024);
	const types = new Uint8Array(frames).fill(PAGE_TYPE.l1, 1024);
	owners.set(m.frameOwners);
	types.set(m.frameTypes);
	owners[0xfee00] = 0n;
	types[0xfee00] = 0;
	m.frameOwners = owners;
	m.frameTypes = types;
	const p2m = domain(m, 2).p2m as BigUint64Array;
	const list = [];
	for (let gfn = 400; list.length < foreign; gfn++) {
		if (gfn < 599) p2m[gfn] = 0n;
		list.push({ gfn, mfn: 190, owner: 0 });
	}
	const longer = new BigUint64Array(Math.max(600, 400 + foreign + 1));
	longer.set(p2m);
	for (const { gfn, mfn } of list) longer[gfn] = p2mEntry(mfn, P2M_TYPE.foreign);
	longer[longer.length - 1] = p2mEntry(0xfee00, P2M_TYPE.mmioDirect);
	domain(m, 2).p2m = longer;
	domain(m, 2).foreignMapList = list;
}

const sums: RefusalCase[] = [
	{
		rule: "P2M_FRAME",
		what: "domain 0's RAM that nobody owns",
		fault: "0/0 LU_P2M.firstGfn: 0, not 440",
		model: (m) => {
			(hvmAsDomain0(m).p2m as BigUint64Array)[10] = p2mEntry(440);
		},
	},
	{
		rule: "COUNT_OVERFLOW",
		what: "2^31 references in front of a domain's grants",
		fault: "1d/2 LU_GRANT_ACTIVE: 2147483648, not 2147483651",
		model: (m) => references(m, MOST_REFERENCES),
	},
	{
		rule: "COUNT_OVERFLOW",
		what: "2^31 references with a domain's grants, and another domain",
		fault: "0/5 LU_DOMAIN: 2147483648, not 2147485696",
		model: (m) => references(m, MOST_REFERENCES - 3),
	},
];

export const refusalCases: readonly RefusalCase[] = [...framing, ...slices, ...memory, ...grants, ...devices, ...sums];
