/**
 * The image of libxc of Xen 4.5 and older. No specification; the layout is described in comments of that time's public
 * headers, and libxc-migration-stream section 6.2 says how its two widths are told apart. Little-endian; `ul` is the
 * toolstack's unsigned long, 4 or 8 octets:
 *
 *     p2m_size ul
 *     PV:  extended info   ~0 ul, length u32, blocks {id char[4], size u32, data}
 *          P2M frames      ul for each frame of the P2M
 *     chunks               type i32: a count of pages, a marker below zero, or 0, which ends them
 *          pages           entry ul for each (type in bits 31-28, PFN in bits 27-0), then 4096 octets for each with data
 *     HVM: magic PFNs      I/O requests u64, buffered I/O requests u64, store u64
 *          context         length u32, octets
 *          device model    signature char[21], length u32, octets
 *     PV:  unmapped PFNs   count u32, ul for each
 *          vCPUs           for each that is online: context, extended context, mask u64, size u64, xsave area
 *          shared info     4096 octets
 *
 * Chunks and what follows them come again for each further checkpoint, until a chunk LAST_CHECKPOINT was seen.
 */

export type LegacyWidth = 32 | 64;
export type LegacyGuestType = "pv" | "hvm";

/** Octets of an unsigned long. */
export const ulongBytes = (width: LegacyWidth): 4 | 8 => (width === 64 ? 8 : 4);

/** Chunk types below zero. */
export const LEGACY_CHUNK = {
	ENABLE_VERIFY_MODE: -1,
	VCPU_INFO: -2,
	HVM_IDENT_PT: -3,
	HVM_VM86_TSS: -4,
	TMEM: -5,
	TMEM_EXTRA: -6,
	TSC_INFO: -7,
	HVM_CONSOLE_PFN: -8,
	LAST_CHECKPOINT: -9,
	HVM_ACPI_IOPORTS_LOCATION: -10,
	HVM_VIRIDIAN: -11,
	COMPRESSED_DATA: -12,
	ENABLE_COMPRESSION: -13,
	HVM_GENERATION_ID_ADDR: -14,
	HVM_PAGING_RING_PFN: -15,
	HVM_MONITOR_RING_PFN: -16,
	HVM_SHARING_RING_PFN: -17,
	TOOLSTACK: -18,
	HVM_IOREQ_SERVER_PFN: -19,
	HVM_NR_IOREQ_SERVER_PAGES: -20,
} as const;

export const legacyChunkNames: Readonly<Record<number, string>> = Object.fromEntries(
	Object.entries(LEGACY_CHUNK).map(([name, type]) => [type, name]),
);

/** Chunks that hold one HVM parameter (padding u32, value u64), and that parameter's index (public/hvm/params.h). */
export const legacyParams: ReadonlyMap<number, number> = new Map([
	[LEGACY_CHUNK.HVM_IDENT_PT, 12],
	[LEGACY_CHUNK.HVM_VM86_TSS, 15],
	[LEGACY_CHUNK.HVM_CONSOLE_PFN, 17],
	[LEGACY_CHUNK.HVM_ACPI_IOPORTS_LOCATION, 19],
	[LEGACY_CHUNK.HVM_VIRIDIAN, 9],
	[LEGACY_CHUNK.HVM_GENERATION_ID_ADDR, 34],
	[LEGACY_CHUNK.HVM_PAGING_RING_PFN, 27],
	[LEGACY_CHUNK.HVM_MONITOR_RING_PFN, 28],
	[LEGACY_CHUNK.HVM_SHARING_RING_PFN, 29],
	[LEGACY_CHUNK.HVM_IOREQ_SERVER_PFN, 32],
	[LEGACY_CHUNK.HVM_NR_IOREQ_SERVER_PAGES, 33],
]);

/** HVM parameters of the magic PFNs, in their order. */
export const MAGIC_PFN_PARAMS = [5, 6, 1] as const;
export const MAGIC_PFN_NAMES = ["ioreqPfn", "bufferedIoreqPfn", "storePfn"] as const;

/** Pages of one chunk, at most. */
export const BATCH_LIMIT = 1024;
/** vCPUs that the format supports; ids are below. */
export const LEGACY_VCPU_LIMIT = 4096;
/** A page's entry has 28 bits for its PFN. */
export const PFN_LIMIT = 2 ** 28;
export const PFN_MASK = PFN_LIMIT - 1;
export const TYPE_SHIFT = 28;

/** Octets of the extended vCPU context. */
export const EXTENDED_VCPU_BYTES = 128;
/** Mask and size in front of a vCPU's xsave area; the size in `xcnt` counts them. */
export const XSAVE_HEADER_BYTES = 16;

export const EXTENDED_BLOCKS = ["vcpu", "extv", "xcnt"] as const;

/** Signatures of the device model's record, and whether a length follows: without one it goes on to the end of the file. */
export const QEMU_SIGNATURE_BYTES = 21;
export const qemuSignatures: Readonly<Record<string, { readonly hasLength: boolean }>> = {
	QemuDeviceModelRecord: { hasLength: false },
	DeviceModelRecord0002: { hasLength: true },
	RemusDeviceModelState: { hasLength: true },
};

/**
 * libxl's data in a TOOLSTACK chunk: version u32 (1), count u32, and for each region of the device model's physical map
 * offset u64, start u64, size u64, length u32 of the name with its NUL, name. A 64-bit toolstack's structure ends in 4 octets
 * of padding, which stand behind the name.
 */
export const TOOLSTACK_VERSION = 1;
export const TOOLSTACK_HEADER_BYTES = 8;
export const PHYSMAP_BYTES = 28;
export const physmapPaddingBytes = (width: LegacyWidth): number => (width === 64 ? 4 : 0);

/** Octets that nothing real comes near: they bound what a hostile image can make us keep. */
export const EXTENDED_INFO_LIMIT_BYTES = 1 << 16;
export const XSAVE_LIMIT_BYTES = 1 << 20;
export const BLOB_LIMIT_BYTES = 1 << 26;
