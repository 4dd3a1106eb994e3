/**
 * The layout of a coded table, and what encoder, checker and decoder share.
 *
 * A table is a flat array: of u64 entries (P2M by GFN, page ownership by MFN) or of u8 entries (page types by MFN).
 *
 *     u64   63        62          54 53    48 47           40 39                     0
 *          | present | (the table's) | order | type, access  |          MFN           |
 *
 * 'Present' is also the run's stride: entry i continues the run of entry i-1 if it is v[i-1] + (v[i-1] >>> 63), so that
 * present entries count frames up and absent ones repeat. An octet continues a run if it repeats. A run never carries
 * out of the MFN's bits, even where the sum would say so: whoever walks runs may read one as a range of frames.
 *
 * The table is cut into chunks of 4096 entries, only the last may be shorter. Each stands alone, 8-aligned in the coding:
 *
 *     0      1       2              4                              8
 *     | form | width | entryCount   | payloadBytes                 | payload, zero padded to 8 ...
 *       u8     u8      u16, 1..4096   u32, a multiple of 8
 *
 *     RUNS      0          4          8             8+8n          8+10n
 *      (u64)    | runCount | zero     | n first u64 | n lengths u16 | zeros to 8 |
 *               0          4          8               8+2n        8+3n
 *      (u8)     | runCount | zero     | n lengths u16 | n first u8  | zeros to 8 |
 *               Runs are maximal: none continues the one before it. Lengths sum to entryCount.
 *
 *     PACKED    0                8                                8+entryCount*width
 *      (u64)    | base = v[0]    | entryCount x (v[i] ^ base), low `width` octets | zeros to 8 |
 *               width is 1..7, the fewest octets that hold all of them. It is 0 in the other forms.
 *
 *     LITERAL   | entryCount entries as they are | zeros to 8 |
 *
 * The writer takes the form with the smallest payload; of equal ones RUNS, then PACKED, then LITERAL. A reader takes any
 * form. Everything is little-endian; a big-endian stream is turned before it gets here.
 */

export const CHUNK_ENTRIES: u32 = 4096;
export const CHUNK_HEADER_BYTES: u32 = 8;

export const CHUNK_WIDTH_OFFSET: u32 = 1;
export const CHUNK_ENTRY_COUNT_OFFSET: u32 = 2;
export const CHUNK_PAYLOAD_BYTES_OFFSET: u32 = 4;

export const FORM_RUNS: u32 = 1;
export const FORM_PACKED: u32 = 2;
export const FORM_LITERAL: u32 = 3;

/** Octets of a RUNS payload before its arrays: runCount and the reserved word. */
export const RUNS_PREFIX_BYTES: u32 = 8;
/** Octets of a PACKED payload before its entries: the base. */
export const PACKED_PREFIX_BYTES: u32 = 8;
/** An entry of 8 octets is a LITERAL's. */
export const PACKED_WIDTH_MAX: u32 = 7;

export const MFN_BITS: u32 = 40;
export const MFN_MASK: u64 = 0xffffffffff;

/** Status: the coding is sound. */
export const CHUNK_OK: u32 = 0;
/** The element size is neither 1 nor 8. */
export const CHUNK_BAD_ELEMENT: u32 = 1;
/** A header or a payload ends beyond the window. */
export const CHUNK_TRUNCATED: u32 = 2;
/** The form is unknown, or PACKED in a table of octets. */
export const CHUNK_BAD_FORM: u32 = 3;
/** PACKED: the width is not 1..7. Others: it is not 0. */
export const CHUNK_BAD_WIDTH: u32 = 4;
/** The entry count is not 4096, or in the last chunk not what is left of the table. */
export const CHUNK_BAD_ENTRY_COUNT: u32 = 5;
/** The payload's length is not what the form, width and counts make it. */
export const CHUNK_BAD_PAYLOAD: u32 = 6;
/** RUNS: no run, or more runs than entries. */
export const CHUNK_BAD_RUN_COUNT: u32 = 7;
/** RUNS: the reserved word is not zero. */
export const CHUNK_BAD_RESERVED: u32 = 8;
/** RUNS: a run is empty, or goes beyond the chunk's entries. */
export const CHUNK_BAD_RUN_LENGTH: u32 = 9;
/** RUNS: all runs together are shorter than the chunk. */
export const CHUNK_BAD_RUN_SUM: u32 = 10;
/** RUNS: a present run counts its MFN beyond bit 39. */
export const CHUNK_RUN_CARRIES: u32 = 11;
/** RUNS: a run continues the one before it. */
export const CHUNK_RUN_NOT_MAXIMAL: u32 = 12;
/** PACKED: the base is not the first entry. */
export const CHUNK_BAD_BASE: u32 = 13;
/** PACKED: fewer octets would have held every entry. */
export const CHUNK_WIDTH_NOT_MINIMAL: u32 = 14;
/** The octets that pad a payload to 8 are not zero. */
export const CHUNK_BAD_PADDING: u32 = 15;
/** Octets follow the last chunk. */
export const CHUNK_TRAILING: u32 = 16;

/** A fault and its place in one value: status in the high half, offset from the window's start in the low half. */
export function chunkFault(status: u32, offset: u32): u64 {
	return ((<u64>status) << 32) | <u64>offset;
}

/** Rounds up to 8. The caller's value is at most 32776, the largest payload: no overflow. */
export function padded(bytes: u32): u32 {
	return (bytes + 7) & ~7;
}

export function runsPayloadBytes(elementBytes: u32, runCount: u32): u32 {
	return padded(RUNS_PREFIX_BYTES + runCount * (elementBytes + 2));
}

export function packedPayloadBytes(entryCount: u32, width: u32): u32 {
	return padded(PACKED_PREFIX_BYTES + entryCount * width);
}

export function literalPayloadBytes(elementBytes: u32, entryCount: u32): u32 {
	return padded(entryCount * elementBytes);
}

/** Whether `next` continues the run of `previous`; see the top of this file. */
export function continuesRun(previous: u64, next: u64): bool {
	return next == previous + (previous >>> 63) && (previous ^ next) >>> MFN_BITS == 0;
}

/**
 * The low `width` octets at `ptr` as a number. Reads the 8 octets that END with them: a PACKED payload's base stands
 * before its entries, so that this never leaves the payload, while reading 8 octets onwards would.
 */
export function loadPacked(ptr: usize, width: u32): u64 {
	return load<u64>(ptr + width - 8) >>> (64 - (width << 3));
}

/** Entries of a chunk, from its header. */
export function chunkEntries(header: usize): u32 {
	return <u32>load<u16>(header, CHUNK_ENTRY_COUNT_OFFSET);
}

/** Octets from a chunk's header to the next one's. */
export function chunkBytes(header: usize): u32 {
	return CHUNK_HEADER_BYTES + load<u32>(header, CHUNK_PAYLOAD_BYTES_OFFSET);
}

/** Runs of a RUNS chunk of 8-octet entries; the value and the entries of one. */
export function codedRunCount(header: usize): u32 {
	return load<u32>(header, CHUNK_HEADER_BYTES);
}
export function codedRunValue(header: usize, run: u32): u64 {
	return load<u64>(header + (run << 3), CHUNK_HEADER_BYTES + RUNS_PREFIX_BYTES);
}
export function codedRunLength(header: usize, runCount: u32, run: u32): u32 {
	return <u32>load<u16>(header + (runCount << 3) + (run << 1), CHUNK_HEADER_BYTES + RUNS_PREFIX_BYTES);
}

/**
 * Checks one chunk's header, and that the payload has the length that header and run count call for: all that must hold
 * for the payload's arrays to lie in the window.
 *
 * @param offset of the header, at most `len`
 * @param remaining entries of the table from this chunk on, at least 1
 * @returns 0 or a fault
 */
export function frameFault(elementBytes: u32, ptr: usize, len: u32, offset: u32, remaining: u32): u64 {
	if (len - offset < CHUNK_HEADER_BYTES) {
		return chunkFault(CHUNK_TRUNCATED, offset);
	}
	const header = ptr + offset;
	const form = <u32>load<u8>(header);
	const width = <u32>load<u8>(header, CHUNK_WIDTH_OFFSET);
	const entryCount = <u32>load<u16>(header, CHUNK_ENTRY_COUNT_OFFSET);
	const payloadBytes = load<u32>(header, CHUNK_PAYLOAD_BYTES_OFFSET);
	const payloadOffset = offset + CHUNK_HEADER_BYTES;
	if (form < FORM_RUNS || form > FORM_LITERAL || (form == FORM_PACKED && elementBytes != 8)) {
		return chunkFault(CHUNK_BAD_FORM, offset);
	}
	if (form == FORM_PACKED ? width < 1 || width > PACKED_WIDTH_MAX : width != 0) {
		return chunkFault(CHUNK_BAD_WIDTH, offset + CHUNK_WIDTH_OFFSET);
	}
	if (entryCount != min<u32>(remaining, CHUNK_ENTRIES)) {
		return chunkFault(CHUNK_BAD_ENTRY_COUNT, offset + CHUNK_ENTRY_COUNT_OFFSET);
	}
	if (payloadBytes > len - payloadOffset) {
		return chunkFault(CHUNK_TRUNCATED, offset + CHUNK_PAYLOAD_BYTES_OFFSET);
	}
	let expected: u32;
	if (form == FORM_LITERAL) {
		expected = literalPayloadBytes(elementBytes, entryCount);
	} else if (form == FORM_PACKED) {
		expected = packedPayloadBytes(entryCount, width);
	} else {
		if (payloadBytes < RUNS_PREFIX_BYTES) {
			return chunkFault(CHUNK_BAD_PAYLOAD, offset + CHUNK_PAYLOAD_BYTES_OFFSET);
		}
		const runCount = load<u32>(ptr + payloadOffset);
		if (runCount == 0 || runCount > entryCount) {
			return chunkFault(CHUNK_BAD_RUN_COUNT, payloadOffset);
		}
		expected = runsPayloadBytes(elementBytes, runCount);
	}
	if (payloadBytes != expected) {
		return chunkFault(CHUNK_BAD_PAYLOAD, offset + CHUNK_PAYLOAD_BYTES_OFFSET);
	}
	return 0;
}
