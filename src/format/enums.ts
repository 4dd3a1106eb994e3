/**
 * Enumerations and flags of the stream. Where the field has numbers that everybody knows (event-channel states, VIRQs,
 * grant-mapping flags, domids) they are Xen's public ones; the rest are the stream's own.
 */

/** Reserved domids, Xen public/xen.h. */
export const DOMID = {
	FIRST_RESERVED: 0x7ff0,
	SELF: 0x7ff0,
	IO: 0x7ff1,
	XEN: 0x7ff2,
	COW: 0x7ff3,
	INVALID: 0x7ff4,
} as const;

/** Sections in stream order. "1h" is the host-wide part of pass 1, "1d" the part of each domain. */
export const PASS = { H: 0, "0": 1, "1h": 2, "1d": 3, "2": 4 } as const;
export type PassName = keyof typeof PASS;

export const KIND = { pv: 1, pvh: 2, hvm: 3 } as const;
export const LIFE = { alive: 0, dead: 1 } as const;

export const CREATE = {
	privileged: 1,
	hardware: 2,
	console: 4,
	xenstore: 8,
	hap: 16,
	iommu: 32,
	has32BitSharedInfo: 64,
} as const;

export const REGION = { bootmem: 1, xenImage: 2, reusable: 3 } as const;
export const FEATURE = { hap: 1, iommu: 2, interruptRemapping: 4, xsave: 8, ioreqServers: 16 } as const;
export const SCHEDULER = { sedf: 4, credit: 5, credit2: 6, arinc653: 7, rtds: 8, null: 9 } as const;

export const RTDS_FLAG = { extraTime: 1 } as const;

/** Bits of a frame-owner entry (64 bits per MFN): owner in bits 0-15, these above; zero is a free frame. */
export const FRAME = {
	owned: 1 << 16,
	allocated: 1 << 17,
	xenheap: 1 << 18,
	extra: 1 << 19,
	broken: 1 << 20,
	offlined: 1 << 21,
} as const;
export const FRAME_OWNER_MASK = 0xffff;
export const FRAME_ENTRY_MASK = 0x3f_ffff;

/** Bits of a page-type entry (8 bits per MFN): type in bits 0-2, these above; zero is "no type in use". */
export const PAGE_TYPE = { none: 0, l1: 1, l2: 2, l3: 3, l4: 4, segDesc: 5, writable: 7 } as const;
export const PAGE_TYPE_FLAG = { pinned: 8, validated: 16, paeXenL2: 32 } as const;

/** P2M types: bits 40-43 of a P2M entry. */
export const P2M_TYPE = {
	ramRw: 0,
	invalid: 1,
	ramLogdirty: 2,
	ramRo: 3,
	mmioDm: 4,
	mmioDirect: 5,
	populateOnDemand: 6,
	grantMapRw: 7,
	grantMapRo: 8,
	pagingOut: 9,
	paged: 10,
	pagingIn: 11,
	shared: 12,
	broken: 13,
	foreign: 14,
	ioreqServer: 15,
} as const;
/** P2M access rights: bits 44-47 of a P2M entry. */
export const P2M_ACCESS = { n: 0, r: 1, w: 2, rw: 3, x: 4, rx: 5, wx: 6, rwx: 7, rx2rw: 8, n2rwx: 9, rPw: 10 } as const;
export const P2M_ORDER = { "4K": 0, "2M": 9, "1G": 18 } as const;
/** Where each part of a P2M entry stands, in bits. */
export const P2M_BITS = { mfn: 0, type: 40, access: 44, order: 48, present: 63 } as const;

export const KEPT_PURPOSE = { p2m: 1, iommu: 2 } as const;
export const KEPT_FORMAT = { npt: 1, ept: 2, vtd: 3, amdIommu: 4 } as const;

export const SHUTDOWN_STATE = { none: 0, shuttingDown: 1, shutDown: 2 } as const;
export const NO_SHUTDOWN_CODE = 0xff;

export const EVTCHN_ABI = { twoLevel: 0, fifo: 1 } as const;
/** Event-channel states, Xen's ECS numbers as its event-channel dump prints them. */
export const EVTCHN_STATE = { free: 0, reserved: 1, unbound: 2, interdomain: 3, pirq: 4, virq: 5, ipi: 6 } as const;
/** Who inside the hypervisor consumes the port. */
export const CONSUMER = { none: 0, ioreq: 1, monitor: 2, paging: 3, sharing: 4 } as const;

export const GRANT_MAP = { device: 1, host: 2, readonly: 4 } as const;
export const VCPU_FLAG = { exists: 1, initialised: 2, down: 4, blocked: 8, pollAny: 16 } as const;
export const PV_VCPU_FLAG = {
	i387Valid: 1,
	inKernel: 4,
	failsafeDisablesEvents: 8,
	syscallDisablesEvents: 16,
} as const;
export const PIRQ_FLAG = { masked: 1, level: 2, msi: 4, emulated: 8 } as const;
export const IOREQ_FLAG = { enabled: 1, claimsWrites: 2 } as const;
export const IOREQ_PAGE = { synchronous: 0, buffered: 1 } as const;
/** How the emulator reaches a server's page: by GFN (legacy), or acquired as a resource, which its P2M or page tables map. */
export const IOREQ_PAGE_FLAG = { resource: 1 } as const;
export const IOREQ_RANGE = { port: 0, memory: 1, pci: 2 } as const;
export const BUFIOREQ = { off: 0, legacy: 1, atomic: 2 } as const;
export const CAP = { ioPort: 1, ioMemory: 2, interrupt: 3 } as const;
export const TIME_AREA = { none: 0, guestAddress: 1, frame: 2 } as const;

/** Public VIRQ numbers that the rules name. */
export const VIRQ = { TIMER: 0, DEBUG: 1, XENOPROF: 7, ARGO: 11, XENPMU: 13 } as const;

/** "No value" of 32-bit and 64-bit fields whose zero means something. */
export const NONE32 = 0xffff_ffff;
export const NONE64 = 0xffff_ffff_ffff_ffffn;
