/**
 * The envelope that `xl save` writes in front of the libxl stream; no document describes it, the facts are from files
 * (all integers in the byte order of the host that wrote it):
 *
 *     OFFSET SIZE
 *          0   32  magic
 *         32    4  byte order, 0x01020304
 *         36    4  mandatory flags: bit 0 the configuration is JSON, bit 1 a libxl stream follows (else a legacy image)
 *         40    4  optional flags
 *         44    4  length of the optional data
 *         48       optional data: u32 length of the configuration with its trailing NUL, configuration
 */

export const XL_MAGIC = "Xen saved domain, xl format\n \0 \r";
export const XL_HEADER_BYTES = 48;
export const XL_BYTE_ORDER = 0x01020304;
export const XL_BYTE_ORDER_SWAPPED = 0x04030201;
export const XL_FLAG_JSON = 1;
export const XL_FLAG_STREAM_V2 = 2;

/** Real configurations have a few KiB. */
export const XL_CONFIG_LIMIT_BYTES = 16 << 20;
