/**
 * The libxl domain image: names and numbers of libxl-migration-stream (revision 2).
 *
 *     header   ident u64 "LibxlFmt", version u32, options u32      (big-endian, always)
 *     records ... END
 *
 * LIBXC_CONTEXT has no body; a libxc image follows it, and libxl's records go on after that image's END, or CHECKPOINT. After
 * CHECKPOINT_END come the libxc records of the next checkpoint; COLO has libxl's CHECKPOINT_STATE in front of them.
 */

export const LIBXL_IDENT = "LibxlFmt";
export const LIBXL_HEADER_BYTES = 16;
export const LIBXL_VERSION = 2;
/** Section 3, bits 0 and 1 of options. The second one (made by the legacy converter) changes nothing for a reader. */
export const LIBXL_OPTION_BIG_ENDIAN = 1;
export const LIBXL_OPTION_LEGACY = 2;

/** Record types, section 4. */
export const LIBXL_RECORD = {
	END: 0x0,
	LIBXC_CONTEXT: 0x1,
	EMULATOR_XENSTORE_DATA: 0x2,
	EMULATOR_CONTEXT: 0x3,
	CHECKPOINT_END: 0x4,
	CHECKPOINT_STATE: 0x5,
} as const;

export const libxlRecordNames: Readonly<Record<number, string>> = Object.fromEntries(
	Object.entries(LIBXL_RECORD).map(([name, type]) => [type, name]),
);

/** Section 4.1: emulator_id u32, index u32 in front of every emulator record's data. */
export const EMULATOR_HEADER_BYTES = 8;

/** Octets of the body of CHECKPOINT_STATE: control_id u32, padding u32 (section 5.6). */
export const CHECKPOINT_STATE_BYTES = 8;

/**
 * Whether a record behind CHECKPOINT_END is libxl's CHECKPOINT_STATE: libxc's record of that type is a PV vCPU's extended
 * context, which says nothing where it has no content, and does not come before a checkpoint's memory.
 */
export const isCheckpointState = (type: number, lengthBytes: number): boolean =>
	type === LIBXL_RECORD.CHECKPOINT_STATE && lengthBytes === CHECKPOINT_STATE_BYTES;

export const emulatorNames: Readonly<Record<number, string>> = {
	0: "unknown",
	1: "QEMU traditional",
	2: "QEMU upstream",
};
