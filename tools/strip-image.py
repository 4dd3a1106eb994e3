#!/usr/bin/env python3
"""Takes ordinary memory contents out of an image that `xl save` wrote.

    strip-image.py < guest.xlsave > stripped.xlsave
    strip-image.py guest.xlsave stripped.xlsave

Pages of type NOTAB in PAGE_DATA records become zero, except those that X86_PV_P2M_FRAMES names. Page tables, P2M
frames and every other octet stay as they are, so that the stripped image is still a valid image of the same guest. What the
other records hold (registers, device model state, the configuration) stays in it: see docs/CAPTURE.md.

The image is read and written as a stream, in bounded memory; both may be pipes. Formats: Xen's documents
libxl-migration-stream and libxc-migration-stream, with the header that xl puts in front. A libxl stream or a libxc image
without what usually precedes it is accepted as well. Exit status: 0 done, 2 usage, 3 the image is damaged or not supported.
"""

import os
import struct
import sys

XL_MAGIC = b"Xen saved domain, xl format\n \0 \r"
XL_BYTE_ORDER = 0x01020304
LIBXL_IDENT = b"LibxlFmt"
LIBXC_MARKER = b"\xff" * 8
LIBXC_IDENT = 0x58454E46

LIBXL_END = 0
LIBXL_LIBXC_CONTEXT = 1

LIBXC_END = 0x0
LIBXC_PAGE_DATA = 0x1
LIBXC_PV_P2M_FRAMES = 0x3
LIBXC_CHECKPOINT = 0xE

PAGE_BYTES = 4096
PFN_MASK = (1 << 52) - 1
TYPE_NOTAB = 0x0
# BROKEN, XALLOC and XTAB: named in the record, without page data.
TYPES_WITHOUT_DATA = (0xD, 0xE, 0xF)
# A record's list of PFNs is held in memory; the tool stack sends 1024 at a time.
MAX_PFNS_PER_RECORD = 1 << 20
COPY_BYTES = 1 << 20


class ImageError(Exception):
    pass


class Stripper:
    def __init__(self, source, target):
        self.source = source
        self.target = target
        self.offset = 0
        self.zeroed = 0

    # Input: what is read is passed on unless `keep` says otherwise.

    def read(self, length, what):
        data = self.source.read(length)
        while len(data) < length:
            more = self.source.read(length - len(data))
            if not more:
                raise ImageError(
                    f"offset {self.offset}: expected {length} octets of {what}, got {len(data)} before the end"
                )
            data += more
        self.offset += length
        return data

    def keep(self, length, what):
        data = self.read(length, what)
        self.target.write(data)
        return data

    def copy(self, length, what):
        while length > 0:
            length -= len(self.keep(min(length, COPY_BYTES), what))

    def copy_rest(self):
        """After a live migration's END xl's own protocol goes on."""
        while True:
            data = self.source.read(COPY_BYTES)
            if not data:
                return
            self.target.write(data)

    # The layers, outermost first.

    def strip(self):
        start = self.keep(8, "the first header")
        if start == XL_MAGIC[:8]:
            self.xl_header()
            start = self.keep(8, "the libxl header")
        if start == LIBXL_IDENT:
            self.libxl_stream()
        elif start == LIBXC_MARKER:
            self.libxc_image()
        else:
            raise ImageError(f"offset 0: expected an xl, libxl or libxc header, got {start.hex()}")
        self.copy_rest()
        self.target.flush()

    def xl_header(self):
        if self.keep(len(XL_MAGIC) - 8, "xl's magic") != XL_MAGIC[8:]:
            raise ImageError("offset 8: expected xl's magic, got something else")
        header = self.keep(16, "xl's header")
        for order in "<>":
            byte_order, _, _, optional = struct.unpack(order + "IIII", header)
            if byte_order == XL_BYTE_ORDER:
                self.copy(optional, "xl's optional data")
                return
        raise ImageError(f"offset 32: expected byte order {XL_BYTE_ORDER:#x}, got {header[:4].hex()}")

    def libxl_stream(self):
        version, options = struct.unpack(">II", self.keep(8, "the libxl header"))
        if version != 2:
            raise ImageError(f"offset {self.offset - 8}: expected libxl stream version 2, got {version}")
        order = ">" if options & 1 else "<"
        while True:
            kind, length = struct.unpack(order + "II", self.keep(8, "a libxl record"))
            self.copy(length + -length % 8, "a libxl record")
            if kind == LIBXL_END:
                return
            if kind == LIBXL_LIBXC_CONTEXT:
                if self.keep(8, "the libxc header") != LIBXC_MARKER:
                    raise ImageError(f"offset {self.offset - 8}: expected the libxc image's marker of all ones")
                self.libxc_image()

    def libxc_image(self):
        ident, version, options = struct.unpack(">IIH6x", self.keep(16, "the libxc header"))
        if ident != LIBXC_IDENT:
            raise ImageError(f"offset {self.offset - 16}: expected libxc's identifier, got {ident:#x}")
        if version not in (2, 3):
            raise ImageError(f"offset {self.offset - 12}: expected libxc image version 2 or 3, got {version}")
        order = ">" if options & 1 else "<"
        _, page_shift, _, _, _ = struct.unpack(order + "IHHII", self.keep(16, "the domain header"))
        if 1 << page_shift != PAGE_BYTES:
            raise ImageError(f"offset {self.offset - 12}: expected page shift 12, got {page_shift}")
        p2m_frames = set()
        while True:
            at = self.offset
            kind, length = struct.unpack(order + "II", self.keep(8, "a libxc record"))
            if kind == LIBXC_PAGE_DATA and length > 0:
                self.page_data(at, length, order, p2m_frames)
            elif kind == LIBXC_PV_P2M_FRAMES and 8 <= length <= 8 * MAX_PFNS_PER_RECORD and length % 8 == 0:
                body = self.keep(length, "X86_PV_P2M_FRAMES")
                p2m_frames.update(struct.unpack(f"{order}{length // 8 - 1}Q", body[8:]))
                continue
            elif kind == LIBXC_CHECKPOINT:
                raise ImageError(f"offset {at}: a checkpointed stream (CHECKPOINT) is not supported")
            else:
                self.copy(length, "a libxc record")
            self.copy(-length % 8, "a libxc record's padding")
            if kind == LIBXC_END:
                return

    def page_data(self, at, length, order, p2m_frames):
        if length < 8:
            raise ImageError(f"offset {at}: PAGE_DATA: expected at least 8 octets, got {length}")
        (count, _) = struct.unpack(order + "II", self.keep(8, "PAGE_DATA"))
        if count > MAX_PFNS_PER_RECORD or 8 + 8 * count > length:
            raise ImageError(f"offset {at}: PAGE_DATA: {count} PFNs do not fit {length} octets")
        pfns = struct.unpack(f"{order}{count}Q", self.keep(8 * count, "PAGE_DATA's PFNs"))
        present = [pfn for pfn in pfns if pfn >> 60 not in TYPES_WITHOUT_DATA]
        expected = 8 + 8 * count + PAGE_BYTES * len(present)
        if length != expected:
            raise ImageError(f"offset {at}: PAGE_DATA: expected {expected} octets for its pages, got {length}")
        zero = bytes(PAGE_BYTES)
        for pfn in present:
            if pfn >> 60 == TYPE_NOTAB and pfn & PFN_MASK not in p2m_frames:
                if self.read(PAGE_BYTES, "a page") != zero:
                    self.zeroed += 1
                self.target.write(zero)
            else:
                self.keep(PAGE_BYTES, "a page")


def main(arguments):
    if "-h" in arguments or "--help" in arguments:
        print(__doc__.strip())
        return 0
    if len(arguments) not in (0, 2):
        print("usage: strip-image.py [INPUT OUTPUT]", file=sys.stderr)
        return 2
    try:
        if not arguments:
            stripper = Stripper(sys.stdin.buffer, sys.stdout.buffer)
            stripper.strip()
        else:
            with open(arguments[0], "rb") as source, open(arguments[1], "xb") as target:
                stripper = Stripper(source, target)
                try:
                    stripper.strip()
                except BaseException:
                    # Half an image is worse than none.
                    os.unlink(arguments[1])
                    raise
    except ImageError as error:
        print(f"strip-image: {error}", file=sys.stderr)
        return 3
    except OSError as error:
        print(f"strip-image: {error}", file=sys.stderr)
        return 2
    print(f"strip-image: {stripper.zeroed} pages set to zero", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
