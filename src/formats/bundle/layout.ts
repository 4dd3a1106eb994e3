/**
 * The bundle of one domain (requirement F5): what non-cooperative migration moves of a guest beside its memory, in one
 * file. This is its definition; docs/BUNDLE.md is generated from here.
 *
 *     header    marker u64, id u32, version u32, options u16, reserved[6]     (big-endian, always)
 *     INFO      whose bundle it is
 *     LIVE_UPDATE, and behind it the live-update stream of that domain alone
 *     PFNS ...  of a PV guest: which of its frames is which PFN
 *     PAGES ... the pages that a live update leaves in place
 *     LIBXC, and behind it the records of a libxc image without PAGE_DATA
 *     XENSTORE, and behind it a xenstore stream for migration
 *     END       SHA-256 of all that stands before it
 *
 * Records are framed as libxc's and the live-update stream's are. A stream within the bundle stands behind the record that
 * says how long it is, so that it may be longer than a body; its own header says its version and byte order.
 */
import * as E from "../../format/enums.ts";
import { array, reserved, u8, u16, u32, u64 } from "../../format/fields.ts";
import { type Field, layOut, type Struct } from "../../format/layout.ts";

/** All ones, as in libxc's images and the live-update stream; what follows tells them apart. */
export const BUNDLE_MARKER = 0xffff_ffff_ffff_ffffn;
/** "XLUB" */
export const BUNDLE_ID = 0x584c5542;
export const BUNDLE_VERSION = 1;
export const BUNDLE_HEADER_BYTES = 24;
export const RECORD_HEADER_BYTES = 8;
export const RECORD_ALIGNMENT = 8;
export const MAX_BODY_BYTES = 128 * 1024 * 1024;
/** A reader may skip a record with this bit that it does not know. */
export const TYPE_OPTIONAL = 0x8000_0000;
/** Most pages of one PAGES record, most entries of one PFNS record. */
export const MAX_PAGES = 1024;
export const MAX_PFNS = 1 << 20;

const struct = <const F extends readonly Field[]>(name: string, doc: string, fields: F) => ({
	...layOut(name, doc, fields),
	source: fields,
});

export const INFO_FLAG = { storeKnown: 1, watchesKnown: 2, pfnsAssigned: 4 } as const;

export const bundleStructs = {
	Header: struct("Header", "What the bundle begins with, big-endian.", [
		u64("marker", "All ones.", "hex"),
		u32("id", "XLUB.", "hex"),
		u32("version", "1."),
		u16("options", "Bit 0: byte order of the records, 0 little; version 1 knows no other."),
		reserved("reserved0", 6),
	]),
	Record: struct("Record", "What every record begins with.", [
		u32("type", "Record type; bit 31: a reader that does not know it may skip it."),
		u32("length", "Octets of the body, without the padding to 8."),
	]),
	Info: struct("Info", "Whose bundle it is.", [
		u16("domid", "The domain, which must be free where it is received."),
		u8("kind", "Kind of guest.", { enum: E.KIND }),
		u8("guestWidth", "Octets of the guest's word."),
		u32("vcpuCount", "vCPUs that exist."),
		u64("frameCount", "Frames that it owns, without xenheap and extra ones."),
		u32("xenMajor", "Xen's major version, where it comes from."),
		u32("xenMinor", "Xen's minor version."),
		u32("cpuKhz", "TSC frequency there, kHz."),
		u32("flags", "What is known of it.", { flags: INFO_FLAG }),
		u64("systemTimeNs", "System time of the pause there, nanoseconds: timers count from it."),
		array(16, u8("handle", "Handle (UUID).", "uuid")),
	]),
	Stream: struct("Stream", "A stream that stands behind this record.", [
		u64("length", "Octets of it, without its padding to 8."),
	]),
	Pfns: struct("Pfns", "A slice of a PV guest's P2M table.", [
		u64("firstPfn", "PFN of the first entry.", "hex"),
		u32("count", "Entries, at most 2^20."),
		reserved("reserved0", 4),
	]),
	Pages: struct("Pages", "Pages that stay in place in a live update.", [
		u32("count", "Pages, at most 1024."),
		reserved("reserved0", 4),
	]),
	Mfn: struct("Mfn", "One frame.", [u64("mfn", "MFN where it comes from; all ones for none.", "hex")]),
	End: struct("End", "The end.", [array(32, u8("sha256", "SHA-256 of all octets before this record.", "hex"))]),
} as const;

export interface BundleRecordDef {
	readonly name: string;
	readonly type: number;
	/** one: exactly one; some: any number. */
	readonly cardinality: "one" | "some";
	readonly doc: string;
	readonly head: Struct;
	/** What follows the head in the body. */
	readonly rest: string;
	/** The layer of the stream that stands behind the record. */
	readonly stream?: "xlu" | "libxc" | "xenstore";
}

/** All records in the order in which they stand. */
export const bundleRecords: readonly BundleRecordDef[] = [
	{
		name: "INFO",
		type: 1,
		cardinality: "one",
		doc: "Whose bundle it is.",
		head: bundleStructs.Info,
		rest: "text: the source's version of Xen, UTF-8",
	},
	{
		name: "LIVE_UPDATE",
		type: 2,
		cardinality: "one",
		doc: "The live-update stream (docs/FORMAT.md) of the domain alone: its sections, its frames, the host's figures.",
		head: bundleStructs.Stream,
		rest: "",
		stream: "xlu",
	},
	{
		name: "PFNS",
		type: 3,
		cardinality: "some",
		doc: "Of a PV guest: the frame of each PFN, by which MFNs are translated.",
		head: bundleStructs.Pfns,
		rest: "count entries of one Mfn each",
	},
	{
		name: "PAGES",
		type: 4,
		cardinality: "some",
		doc: "Contents of the frames that a live update leaves in place: shared_info, grant and status frames, FIFO event pages, PV page tables.",
		head: bundleStructs.Pages,
		rest: "count MFNs, ascending through all PAGES records; then as many pages of 4096 octets",
	},
	{
		name: "LIBXC",
		type: 5,
		cardinality: "one",
		doc: "The guest's libxc image, version 3, without PAGE_DATA: its state records.",
		head: bundleStructs.Stream,
		rest: "",
		stream: "libxc",
	},
	{
		name: "XENSTORE",
		type: 6,
		cardinality: "one",
		doc: "A xenstore stream as for migration: the domain's nodes and backend areas, its connection, watches and open transactions.",
		head: bundleStructs.Stream,
		rest: "",
		stream: "xenstore",
	},
	{
		name: "END",
		type: 0,
		cardinality: "one",
		doc: "The last record.",
		head: bundleStructs.End,
		rest: "",
	},
];

export function bundleRecord(name: string): BundleRecordDef {
	const found = bundleRecords.find((def) => def.name === name);
	if (!found) throw new Error(`no bundle record ${name}`);
	return found;
}
