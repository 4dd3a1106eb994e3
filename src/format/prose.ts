/** The text around the generated tables of docs/FORMAT.md, docs/RULES.md and docs/ERRORS.md. */

/** All of docs/FORMAT.md up to the table of record types. */
export const formatIntroduction = `
# The live-update stream, versions 1 and 2

A live update replaces a running hypervisor (xen#1) by another one (xen#2) while every guest stays in memory. The stream
carries what xen#1 knows of its domains to xen#2. Guest memory, device state and page tables stay in place: the stream
says where they are, and carries the rest. It is built like libxc's migration stream: the same framing, libxc's own
records where one already says what is needed, and new record types for what a migration leaves behind.

This document is generated from the one definition of the format, and holds all that is needed to read or write a stream
elsewhere. What a reader must refuse is listed, rule by rule, in [RULES.md](RULES.md).

Contents: [Terms](#terms) · [Notation](#notation) · [Image header](#image-header) · [Records](#records) ·
[Sections](#sections) · [Index and END](#index-and-end) · [Order within a section](#order-within-a-section) ·
[Bodies](#bodies) · [Chunks](#chunks) · [Slices](#slices) · [Entries of the bulk tables](#entries-of-the-bulk-tables) ·
[What records demand of each other](#what-records-demand-of-each-other) ·
[Where a fact lives, when it lives twice](#where-a-fact-lives-when-it-lives-twice) ·
[Preserved memory](#preserved-memory) · [References that restore rebuilds](#references-that-restore-rebuilds) ·
[Hand-over](#hand-over) · [Versions](#versions) · [Record types](#record-types) · [Rows](#rows) ·
[Enumerations and flags](#enumerations-and-flags)

## Terms

| term | meaning |
|---|---|
| frame | 4096 octets of machine memory, aligned |
| MFN, GFN | number of a machine frame; number of a frame as an HVM or PVH guest sees it |
| frame table | Xen's table of all machine frames: owner, flags, type and reference counts of each. xen#2 rebuilds it |
| P2M, M2P | a domain's map from GFN to MFN, with a type and an access right for each entry; the host-wide reverse map |
| xenheap frame | a frame that Xen allocated for itself; one may be shared with a guest, which then owns it |
| extra frame | a guest's frame that does not count among the pages that the guest may allocate |
| shared_info, vcpu_info | structures that Xen and a guest share: one for the domain, one for each vCPU |
| grant, grant table | a domain's permission for another one to map a frame; the guest's table of them. Version 1 has entries of 8 octets; version 2 of 16, and status frames |
| active entry, pins | Xen's own note of a grant that is mapped: four counters of mappings (host or device, read-write or read-only) |
| maptrack, handle | Xen's note, on the mapping side, of each grant that a domain has mapped; the index into it |
| foreign entry | a P2M entry that maps another domain's frame without a grant |
| event channel, port | a guest's interrupt line; its number. The ABI is 2-level (bitmaps in shared_info) or FIFO (event words in frames of the guest, queues linked through control blocks) |
| VIRQ, PIRQ | a virtual interrupt from Xen; a physical interrupt as a guest sees it |
| I/O request server | an emulator's connection to a domain, by which it serves the domain's trapped accesses |
| domid | number of a domain, below 0x7FF0. Reserved above: DOMID_IO 0x7FF1, DOMID_XEN 0x7FF2, DOMID_INVALID 0x7FF4 |
| dead domain | a destroyed domain whose frames others still map |
| bootmem | frames that xen#1 reserved for xen#2's boot allocator; no preserved state lies there |
| breadcrumb | the first words of bootmem, by which xen#2 finds the stream |

## Notation

An octet is 8 bits. u8, u16, u32 and u64 are unsigned numbers of 1, 2, 4 and 8 octets; every field is aligned to its own
size, counted from the start of the body. After the image header all numbers are little-endian, unless the header says
otherwise. "All ones" is the greatest number that a field holds; where it means "none", the field says so. Reserved
fields, drawn \`(0)\`, and padding are zero when written and checked when read. In diagrams a line is 8 octets, lowest
address first; the number at its left is the offset of its first octet. \`align8(n)\` is n rounded up to a multiple of 8.

XXH3-64 is the 64-bit variant of XXH3 with seed 0 and the default secret. A hash is stored as a u64, like any other
number.

A stream is a row of records behind an image header:

\`\`\`
image header | section H | section 0 of each domain | section 1h | section 1d of each domain | section 2 of each domain | LU_INDEX | END
\`\`\`

## Image header

24 octets. Its numbers are big-endian, whatever the options say.

\`\`\`
        0     1     2     3     4     5     6     7
     +-----+-----+-----+-----+-----+-----+-----+-----+
   0 | marker: 0xFFFFFFFFFFFFFFFF                    |
     +-----+-----+-----+-----+-----+-----+-----+-----+
   8 | id: 0x584C5553 "XLUS" | version: 1 or 2       |
     +-----+-----+-----+-----+-----+-----+-----+-----+
  16 | options   | (0)                               |
     +-----+-----+-----+-----+-----+-----+-----+-----+
\`\`\`

Bit 0 of \`options\` is the byte order of all that follows: 0 little-endian, 1 big-endian. The other bits are zero
(XLU-R004). A reader takes both orders; the writer of this project writes little-endian streams.

In a big-endian stream every number of more than one octet is big-endian: in headers of records, heads, rows, runs of
sparse tables, and of [chunks](#chunks) the header, \`runCount\`, lengths and entries. What is a string of octets is the same
in both orders: texts, UUIDs, FPU states, XSAVE areas, HVM contexts, and the differences of a PACKED chunk, which are
little-endian always. So are bodies of optional records that a reader skips. A checksum is of the octets as they stand in
the stream. The preserved memory is in place and has no byte order of its own: its header and directory are
little-endian, and \`streamHash\` is of the stream as it is.

## Records

\`\`\`
        0     1     2     3     4     5     6     7
     +-----+-----+-----+-----+-----+-----+-----+-----+
   0 | type                  | body_length           |
     +-----+-----+-----+-----+-----+-----+-----+-----+
   8 | body, body_length octets ...                  |
     +                       +-----+-----+-----+-----+
     | ... body              | padding: zero, to 8   |
     +-----+-----+-----+-----+-----+-----+-----+-----+
\`\`\`

\`body_length\` does not include the padding. It is at most 128 MiB (2^27). The next record begins at
\`8 + align8(body_length)\` from this one's start, so that every record, and every body, is 8-aligned in the stream.

| bit of type | set | clear |
|---|---|---|
| 31 | optional: a reader that does not know the type skips the record | mandatory: a reader that does not know the type refuses the stream |
| 30 | a live-update record, with a type of its own | libxc's record, with libxc's type and libxc's body |

A mandatory record is one of the stream's version: one that a later version has added is unknown to it, and refused. A
type that is unknown but optional may stand anywhere in a section; it counts among the section's records and in its
hash, and means nothing else. An optional record may stand in a stream of any version, also of one before it was added:
who knows it reads it. No type of version 1 has bit 31 set; version 2 has LU_SCHEDULER. Outside sections only LU_SECTION, LU_INDEX and END
stand.

## Sections

Records stand in sections, one for each pass of the restore and each domain. **LU_SECTION** opens a section: it says
which one it is, and how many octets and records follow that belong to it. The octets of the section are those directly
behind the LU_SECTION record: whole records with their headers and padding, so \`length\` is a multiple of 8. \`hash\` is
the XXH3-64 of exactly those octets. The section ends where they end; the next record is another LU_SECTION, or
LU_INDEX.

| pass | section | domid | holds |
|---|---|---|---|
| 0 | H | DOMID_XEN | the host |
| 1 | 0 | each domain | what creates the domain, its P2M, its vCPUs without their state |
| 2 | 1h | DOMID_XEN | page ownership and page types of the whole host |
| 3 | 1d | each domain | the granting side of the domain's grants |
| 4 | 2 | each domain | everything else |

Sections stand by ascending pass. Within a pass, domains may stand in any order; the writer of this project takes
ascending domids. Every stream has exactly one section H and one 1h, and every domain exactly one section 0, one 1d and
one 2: \`2 + 3 * domains\` in all.

That order is the order of the restore, which has three passes: pass 0 is sections H and 0, pass 1 is 1h and then 1d,
pass 2 is section 2. A pass, and within pass 1 the step from 1h to 1d, begins when what stands before it has ended for
every domain. So the stream is read once, front to back; restoring a record never needs one of a later section; and
within a pass no domain needs another.

Ownership and types are host-wide, in MFN order, since that is how the frame table lies: xen#1 reads it once and xen#2
writes it once, whoever owns the frames.

## Index and END

**LU_INDEX** stands once, behind the last section. It lists the sections in the order of the stream, each with the pass,
domid, length, hash and record count of its LU_SECTION, and with the offset of that LU_SECTION record from the start of
the stream (the first is at 24). \`hash\` in its head is the XXH3-64 of its entries, \`sectionCount * 40\` octets. It lets a
restore hand domains to several CPUs without walking the stream; it adds nothing, so a reader refuses one that differs
from the sections.

**END** (type 0, \`body_length\` 0) is the last record, directly behind LU_INDEX, and the stream ends with it. Only where
the stream was handed over in frames do zeros follow: fewer than 4096, up to the end of the last frame. The checksums
find damage, not forgery.

## Order within a section

The table of [record types](#record-types) says how often a type stands in its section:

| how often | meaning |
|---|---|
| once | exactly one in its section |
| at most once | none or one |
| at most once per vCPU | as above, for each vCPU that the record names |
| any number, ascending | slices of one table, see [Slices](#slices) |

Its column "after" names types that come first: where a section has both, no record of a type named there stands behind
this one. A type that is named but absent demands nothing, and the relation is not continued through it. In all other
respects the order within a section is free, and every permutation restores to the same state.

The per-vCPU types (LU_VCPU, LU_PV_VCPU, LU_PV32_VCPU, X86_PV_VCPU_EXTENDED, X86_PV_VCPU_XSAVE, X86_PV_VCPU_MSRS) depend on
each other only where they name the same vCPU: vCPU 1's LU_VCPU may stand behind vCPU 0's LU_PV_VCPU. A vCPU's other
records stand behind its own LU_VCPU, and the X86_PV_VCPU records behind its own LU_PV_VCPU or LU_PV32_VCPU, one of
which must be there (R015).
X86_TSC_INFO, which is the domain's, stands behind every LU_VCPU.

The writer of this project takes the order of the table of record types, and within a per-vCPU type ascending vCPUs.

## Bodies

A body is a **head**, one structure of fixed length, and then **parts**, in the order in which the record lists them.
Some records have no head, some no parts. A part begins at a multiple of 8 octets from the start of the body: zero
octets fill up what the part before it leaves. The last part is not padded inside the body; \`body_length\` ends with its
last octet, and the record's own padding follows.

\`\`\`
| head | part 1 | 0..7 zero octets | part 2 | 0..7 zero octets | ... | last part |        | the record's padding |
^ offset 0      ^ part 1 needs none of its own: heads are multiples of 8     ^ body_length
\`\`\`

A body has exactly the length that its head and counts make, no octet more. There are four kinds of parts.

**Rows**: structures of equal length, one after the other, without gaps. Their number is a field of the head, or a fixed
number, or follows from what is left of the body, which must then be a whole number of rows.

**Sparse table**: a table of which only some slots are used; the slot's number is a port, a grant reference or a handle.
A slot is unused if its row is all zero. The head has three counts: \`slotCount\`, the slots of the table as it stands in
xen#1; \`runCount\`, the stretches of used slots; and \`rowCount\`, the used slots. The part is \`runCount\` rows of Run, then
\`rowCount\` rows of the table, of the used slots by ascending slot:

\`\`\`
        0     1     2     3     4     5     6     7
     +-----+-----+-----+-----+-----+-----+-----+-----+
   0 | run 0: firstSlot      | run 0: firstRow (= 0) |
     +-----+-----+-----+-----+-----+-----+-----+-----+
   8 | run 1: firstSlot      | run 1: firstRow       |
     +-----+-----+-----+-----+-----+-----+-----+-----+
     | ... runCount runs, then rowCount rows ...     |
     +-----+-----+-----+-----+-----+-----+-----+-----+
\`\`\`

Run i covers the rows from its \`firstRow\` up to the next run's \`firstRow\`, the last run up to \`rowCount\`; their slots
count up from its \`firstSlot\`. The first run begins with row 0, no run is empty, slots ascend, at least one unused slot
lies between two runs, and no slot reaches \`slotCount\`. No row is all zero. Without runs there are no rows. Example: a table of 8 slots that
uses 1, 2 and 5 has the runs {1, 0}, {5, 2} and three rows.

**Chunks**: a slice of a large flat table, coded as below. The head says how many entries the slice has and how many
octets the chunks take.

**Rows of one vCPU** ("blob"): rows up to the end of the body, whose number differs from vCPU to vCPU. The head is the
vCPU's number. The record is left out where there are none.

## Chunks

Three tables are large and flat: P2M by GFN and page ownership by MFN, with entries of 8 octets, and page types by MFN,
with entries of 1 octet. A slice of such a table is cut into chunks of 4096 entries, only its last one may be shorter.
Each chunk stands alone, 8-aligned, one directly after the other:

\`\`\`
        0     1     2     3     4     5     6     7
     +-----+-----+-----+-----+-----+-----+-----+-----+
   0 |form |width|entryCount | payloadBytes          |
     +-----+-----+-----+-----+-----+-----+-----+-----+
   8 | payload, payloadBytes octets, a multiple of 8 |
     +-----+-----+-----+-----+-----+-----+-----+-----+
\`\`\`

| form | name | entries of | width |
|---|---|---|---|
| 1 | RUNS | 8 octets, 1 octet | 0 |
| 2 | PACKED | 8 octets | 1 to 7 |
| 3 | LITERAL | 8 octets, 1 octet | 0 |

\`entryCount\` is 4096, or in the last chunk the entries that are left. \`payloadBytes\` is exactly what form, width and
counts make it, the zero octets that fill the payload to a multiple of 8 included.

### Runs of entries

Whether an entry continues the run of the entry before it can be told from the two alone. Bit 63 of an entry of 8 octets
is the run's stride: entry \`b\` continues entry \`a\` if

\`\`\`
b == a + (a >> 63)     and     bits 40 to 63 of a and b are the same
\`\`\`

A present P2M entry thus counts its MFN up by one, and an absent one, like every entry of page ownership (whose bit 63
is zero), repeats. The second condition keeps the count within the 40 bits of the MFN. An entry of 1 octet continues a
run if it repeats.

### RUNS, 8-octet entries

\`\`\`
             0     1     2     3     4     5     6     7
          +-----+-----+-----+-----+-----+-----+-----+-----+
        0 | runCount, n           | (0)                   |
          +-----+-----+-----+-----+-----+-----+-----+-----+
        8 | first entry of run 0                          |
          +-----+-----+-----+-----+-----+-----+-----+-----+
          | ... n first entries, u64 each                 |
          +-----+-----+-----+-----+-----+-----+-----+-----+
   8 + 8n | length 0  | length 1  | ... n lengths, u16    |
          +-----+-----+-----+-----+-----+-----+-----+-----+
  8 + 10n | zero, to a multiple of 8                      |
          +-----+-----+-----+-----+-----+-----+-----+-----+
\`\`\`

### RUNS, 1-octet entries

The lengths come first, so that they are aligned.

\`\`\`
             0     1     2     3     4     5     6     7
          +-----+-----+-----+-----+-----+-----+-----+-----+
        0 | runCount, n           | (0)                   |
          +-----+-----+-----+-----+-----+-----+-----+-----+
        8 | length 0  | length 1  | ... n lengths, u16    |
          +-----+-----+-----+-----+-----+-----+-----+-----+
   8 + 2n | v0  | v1  | ... n first entries, u8           |
          +-----+-----+-----+-----+-----+-----+-----+-----+
   8 + 3n | zero, to a multiple of 8                      |
          +-----+-----+-----+-----+-----+-----+-----+-----+
\`\`\`

n is at least 1 and at most \`entryCount\`. Every length is at least 1, and together they are \`entryCount\`. Entry j of a
run is \`first + j * (first >> 63)\`, or \`first\` in a table of octets.

### PACKED

\`\`\`
                            0     1     2     3     4     5     6     7
                         +-----+-----+-----+-----+-----+-----+-----+-----+
                       0 | base: the first entry                         |
                         +-----+-----+-----+-----+-----+-----+-----+-----+
                       8 | d[0], width octets | d[1] | d[2] | ...        |
                         +-----+-----+-----+-----+-----+-----+-----+-----+
  8 + width * entryCount | zero, to a multiple of 8                      |
                         +-----+-----+-----+-----+-----+-----+-----+-----+
\`\`\`

Entry i is \`base XOR d[i]\`, where d[i] is the little-endian number of \`width\` octets at \`8 + i * width\`. d[0] is zero.

### LITERAL

\`entryCount\` entries as they are, then zero octets to a multiple of 8.

### Which form

A reader takes any form. The writer of this project takes, for each chunk, the form with the smallest payload; of equal
ones RUNS before PACKED before LITERAL. So the same table always gives the same octets. A reader refuses (XLU-R020) a
chunk

- with an unknown form, PACKED in a table of octets, or a width that is not the form's;
- whose \`entryCount\` is not 4096, or in the last chunk of the slice not what is left; whose \`payloadBytes\` is not what
  form and counts make; that ends beyond \`chunkBytes\`; or behind whose last one octets are left;
- in RUNS: without a run or with more runs than entries, with the reserved word not zero, with a run that is empty or
  goes beyond the entries, with lengths that do not add up; with a run that continues the one before it (runs are
  maximal); with a present run whose MFN would count beyond bit 39;
- in PACKED: whose base is not the first entry (d[0] not zero), or whose d all fit into fewer octets than \`width\` (the
  width is minimal, but at least 1);
- whose padding is not zero.

## Slices

LU_P2M, LU_FRAMES and LU_PAGE_TYPES carry slices of their table: \`entryCount\` entries, at least 1 and at most 2^20, from
\`firstGfn\` or \`firstMfn\` on. Slices ascend, do not overlap, and stay within their table, whose length is
\`highestGfn + 1\` for the P2M and LU_HOST's \`frameCount\` for the others. Entries that no slice covers are zero. The
writer of this project cuts a table at multiples of 2^20 entries and leaves out the slices in which every entry is zero;
no other entries may be left out. A superpage lies whole within one slice.

Every LU_P2M of a domain has the same \`highestGfn\` and the same \`defaultAccess\`. \`highestGfn\` is the last GFN whose
entry is not zero; a domain in whose P2M every entry is zero has no LU_P2M at all, so that it is never all ones.

## Entries of the bulk tables

### P2M entry, 8 octets

\`\`\`
  63  62             54 53       48 47       44 43       40 39                              0
 +---+-----------------+-----------+-----------+-----------+---------------------------------+
 | P |        0        |   order   |  access   |   type    |               MFN               |
 +---+-----------------+-----------+-----------+-----------+---------------------------------+
\`\`\`

P is 1 if the entry has a frame. \`type\` is one of [P2M_TYPE](#enumerations-and-flags), \`access\` one of P2M_ACCESS,
\`order\` is 0, 9 or 18: the mapping that the entry is part of has \`2^order\` frames. Each of a superpage's entries is
there, with its own MFN and the same order; GFN and MFN of the first one are multiples of \`2^order\`.

| entry | means |
|---|---|
| all zero | nothing is mapped |
| P 0, not all zero | type populateOnDemand or mmioDm, no frame: the MFN is 0. Aligned and whole like a superpage if its order says so |
| P 1, ramRw, ramLogdirty, ramRo, ioreqServer | memory of the domain: LU_FRAMES says that it owns the frame. ioreqServer only with order 0 |
| P 1, foreign | another domain's frame, order 0, listed in LU_FOREIGN_MAPS |
| P 1, mmioDirect, grantMapRw, grantMapRo, broken | device memory (the MFN may lie beyond the frame table), a mapped grant, a frame with an error |

P 1 never stands with populateOnDemand, mmioDm or invalid. pagingOut, paged, pagingIn and shared are refused in both
versions.

### Frame-owner entry, 8 octets

\`\`\`
  63                  22   21    20    19    18    17    16   15                0
 +----------------------+-----+-----+-----+-----+-----+-----+-------------------+
 |           0          | off | bro | ext | xhp | all | own |    owner (domid)  |
 +----------------------+-----+-----+-----+-----+-----+-----+-------------------+
\`\`\`

| bit | name | meaning |
|---|---|---|
| 16 | owned | set in the entry of every frame that somebody owns. All zero is a free frame, or one that the frame table says nothing of: bootmem, page tables that are kept in place. Without this bit only broken and offlined may be set, and the owner is zero |
| 17 | allocated | the owner itself holds a reference. Clear for a dead domain's frame that only mappings of others keep |
| 18 | xenheap | Xen's own, shared with its owner. A domain's are exactly its shared_info, grant and status frames, and are always allocated |
| 19 | extra | not among the pages that count against \`maxPages\` |
| 20, 21 | broken, offlined | has an error; is not to be allocated again |

The owner is a domain of the stream, DOMID_XEN or DOMID_IO.

### Page-type entry, 1 octet

\`\`\`
    7     6     5     4     3     2     1     0
 +-----------+-----+-----+-----+-----------------+
 |     0     | pae | val | pin |      type       |
 +-----------+-----+-----+-----+-----------------+
\`\`\`

\`type\` is one of PAGE_TYPE: 1 to 4 page table of that level, 5 descriptor table, 7 writable; the rest are
PAGE_TYPE_FLAG: pinned (by the guest's request, page tables only), validated, and paeXenL2, which version 1 refuses: the L2
table of a 32-bit PV guest that has Xen's part of the address space in it, from LU_PV32's \`xenStart\` on.
Only types in use stand in the table, that is those with a count that is not zero; all other frames have a zero octet.
Page tables and descriptor tables occur in PV domains alone. Nothing is said of a free frame.

## What records demand of each other

A reader checks all of this before it writes anything; a writer must hold to it. In brackets stands the rule that is
broken otherwise; [RULES.md](RULES.md) has them all, and in which order a reader looks. A field with an enumeration holds
one of its values, a field with flags no other bit. Exception: what LU_CPUPOOLS says is held to lengths, counts and
reserved fields alone in this release (a pool's identifier excepted). A PV domain is *walked* if it owns a page table
([References](#references-that-restore-rebuilds)). A field that is said to be 0 or 1 holds nothing else.

- **Host.** \`frameCount\` is at most 2^28, \`cpuCount\` 1 to 8192, \`domainCount\` the number of sections 0 (R040). No
  feature is unknown (R044). VirqHandlers ascend by VIRQ, below 24 and none of those that each vCPU binds (R083), and name domains that exist (R043).
- **CPU pools** are at most \`cpuCount\` (R040).
- **Domains.** LU_DOMAIN's domid is its section's (R041). Kind, life and flags are known, and of the domains with the flag
  \`hardware\` there is at most one (R042). \`guestWidth\` is 4 or 8 (R042); a PV guest with 4, a *32-bit PV guest* below, is refused in
  version 1 (R044). A living HVM or PVH domain has the flag \`hap\` (R044): Xen's shadow page tables are carried nowhere.
  \`maxVcpus\` is at most 8192, \`grantVersionLimit\` at most 2 (R042). The CPU pool is in LU_CPUPOOLS (R043).
- **32-bit PV guests.** A living one has LU_PV32, and no other guest has; \`xenStart\` is a multiple of 2 MiB, at least
  0xC0000000 (R048).
- **Virtual NUMA.** \`nodeCount\` is at least 1, \`distanceCount\` its square, \`vcpuCount\` LU_DOMAIN's \`maxVcpus\`. A vCPU's
  node is below \`nodeCount\`. Stretches of memory ascend without overlap: none begins before the one before it ends, nor ends
  where it begins or before; their node is below \`nodeCount\` (R103). Distances are any numbers.
- **LU_VCPUS** lists the vCPUs that exist, ascending, below \`maxVcpus\` (R090). Below, *the highest vCPU* is the last of
  them; in a domain without vCPUs no number is at most that.
- **Page ownership.** Slices are as said above (R021). An entry has no unknown bit; one that is not \`owned\` has none but
  \`broken\` and \`offlined\` (R050). The owner exists (R051). A domain's xenheap frame is allocated (R050).
- **Page types.** Slices (R021). An entry that is not zero has a known type other than none and no unknown flag, and
  \`pinned\` only as a page table (R056). In version 1 it has no \`paeXenL2\` (R044), in version 2 only as an L2 table that
  is not pinned (R056). Its frame is owned, and unless the type is \`writable\` by a PV domain; an L4 table by one with
  \`guestWidth\` 8, one with \`paeXenL2\` by one with 4 (R056).
- **Regions.** Of each: a known kind, at least one frame, all of them below \`frameCount\`, none in a region before it (R046),
  each of them free: its owner entry is zero (R052). Exactly one is bootmem (R046); for a hand-over there is one xenImage,
  directly above it.
- **Frames that stay.** LU_DEVICES' IommuRanges and the KeptRanges of LU_KEPT_FRAMES begin and end below \`frameCount\`, are
  free likewise, and no frame is in two of these or in a region (R052). A KeptRoot has a known purpose and format, 3 to 5
  levels, and lies below \`frameCount\` (R052). Regions and frames that stay are *reserved* below. Frames of the M2P belong to
  DOMID_XEN and are listed once (R052).
- **P2M.** LU_P2M and LU_FOREIGN_MAPS stand for HVM and PVH domains alone (R095). \`highestGfn\` is not all ones (R064).
  Slices (R021). \`defaultAccess\` is known (R060), \`highestGfn\` and \`defaultAccess\` are those of the first slice (R064).
  Entries that continue each other, in one chunk or in several of a slice, are looked at as one run. Of each run that is not
  zero: bits 54 to 62 are zero, access and order are known (R060); the type is not pagingOut, paged, pagingIn or shared
  (R044); the first GFN and the number of entries are multiples of the order's frames (R061). If absent: MFN 0, type
  populateOnDemand or mmioDm (R060). If present: the MFN is a multiple of the order's frames (R061); the type is not
  populateOnDemand, mmioDm or invalid (R060); foreign and ioreqServer have order 0 (R063); RAM is below \`frameCount\` and the
  domain's (R062), and at no GFN before (R065), frame by frame; foreign entries are as said below; an entry of another type names no reserved frame (R052). Of the frames
  below \`frameCount\`, mmioDirect names such as nobody or DOMID_IO owns, or an extra one of the domain itself; a mapped grant
  one that a domain or DOMID_IO owns; broken any (R062). The last entry of the last slice that is not zero is
  \`highestGfn\`'s (R064).
- **Foreign mappings.** LU_FOREIGN_MAPS lists the foreign entries of the P2M, all of them, by ascending GFN: the n-th row
  has GFN and MFN of the n-th foreign entry (R063), its owner is a domain that exists, DOMID_XEN or DOMID_IO (R043) and
  owns the frame (R055). There are no further rows (R063).
- **Grant tables.** \`version\` is 1 or 2, and at most \`grantVersionLimit\`. Frames are at most \`maxGrantFrames\`,
  \`maptrackFrameCount\` at most \`maxMaptrackFrames\`. Version 1 has no status frames; version 2 has one for each 8 grant
  frames, rounded up (R070). A dead domain has none (R045). Grant and status frames are the domain's (R055), xenheap
  frames, and in no other place of these two parts and LU_SHARED_INFO (R053).
- **Active grants.** \`slotCount\` is at most what the table holds: 512 entries a frame in version 1, 256 in version 2,
  none without LU_GRANT_TABLE; a dead domain's may lie anywhere below \`maxGrantFrames\` frames (R071). At least one of the
  four counters is not zero, none is above 128 (R071). The grantee exists (R043). The frame is the domain's or DOMID_IO's
  (R055), unless only the host's mappings of a walked grantee are counted: it may have overwritten its L1 entry, which held
  the frame, and not unmapped, and then the frame is whoever's, below \`frameCount\` (R055). A frame of the domain's that a
  device maps read-write, or the host for a grantee that is not walked, is *written* (R058, below).
- **Maptrack.** \`slotCount\` is at most 256 for each of \`maxMaptrackFrames\`. An entry has the flag \`host\` or \`device\` or
  both and no unknown one, and its vCPU is below \`maxVcpus\` (R072). It names an active grant of \`domid\` whose grantee is
  this domain (R073). Each entry counts once in that grant's host counter and once in its device counter, as its flags say,
  among the read-only ones if it is \`readonly\`; the 256th for one counter is refused (R074). The counters are exactly these
  sums (R074). But a PV domain may have written over the L1 entry of a mapping without unmapping, and the granting domain may
  be gone by now, or another one: a handle of a walked domain that maps for the host alone may find no such grant if \`domid\`
  is below 0x7FF0, or be the 256th, and the host's counters of a grant to a walked domain may be less than their sums.
- **Event channels.** LU_EVTCHN_PORTS comes with LU_EVTCHN (R017). The ABI is known (R080). Control blocks and event arrays
  stand in the FIFO ABI alone, at most 128 arrays of 1024 words each (R084). Blocks ascend by vCPU, one
  that exists, and lie at a multiple of 8, 72 octets within one frame (R084), which is the domain's (R055) and
  written (R058); a queue's tail is 0 or
  below \`slotCount\` of LU_EVTCHN_PORTS (R084). Frames of arrays are the domain's (R055) and written (R058).
- **Ports.** \`slotCount\` is at most 1024 with \`guestWidth\` 4 or 4096 with 8 in the 2-level ABI, 131,072 in the FIFO ABI
  (R081). Port 0 is never used; state and consumer are known, the consumer none but of a port that is unbound or
  interdomain; \`priority\` and \`lastPriority\` are below 16, \`notifyVcpu\` is a vCPU that exists, \`lastVcpu\` at most the highest vCPU, \`pending\` 0 or 1 (R080). No port is above \`maxEvtchnPort\` (R081). An interdomain
  port's other end is interdomain and names this one (R082). An unbound port's remote domain need not exist. A VIRQ is below
  24 and bound once: TIMER, DEBUG, XENOPROF and XENPMU once for each vCPU, all others once for the domain (R083).
- **PIRQs** ascend, with known flags. A \`port\` that is not 0 is a port in state pirq with the same PIRQ, and there are no
  other ports in that state (R085).
- **Interrupts** (LU_IRQS). IoapicPins ascend by IO-APIC and pin; \`trigger\`, \`polarity\` and \`masked\` are 0 or 1.
  \`irq\` is below 32,768, \`vector\` at least 16, or 0 if masked; pins of one interrupt have one vector (R125). Of an Msi
  \`msix\` and \`masked\` are 0 or 1, \`entry\` is below 2048 for MSI-X and 0 for MSI. Msis ascend by segment, bus and devfn;
  those of one function are of one kind, and ascend by entry for MSI-X, by interrupt for MSI. Interrupt and vector are as
  those of pins, but no pin and no other Msi has the interrupt (R125). Where there is LU_DEVICES, it lists the function
  (R127). An IrqOwner's domain exists (R043), \`shared\` is 0 or 1, its interrupt is a pin's or an Msi's; owners ascend by
  interrupt, then domain, and of several with one interrupt each is shared (R126). Where there is LU_IRQS, a PIRQ whose
  \`irq\` is not all ones has an IrqOwner with that interrupt and the PIRQ's domain (R126).
- **Devices** (LU_DEVICES) ascend by segment, bus and devfn (R127). Who has one, a context or an identity map exists, or is
  DOMID_IO or DOMID_XEN (R043). \`phantomStride\` is 0, 1, 2 or 4 (R127). IommuUnits ascend by \`unit\`, their format is vtd or
  amdIommu, \`rootMfn\` and, if not all ones, \`remapMfn\` are reserved frames (R128). IommuDomains ascend by unit, then
  \`hardwareId\`, which is below 65,536; the unit exists, \`levels\` is 2 to 6, \`rootMfn\` is reserved (R128). IdentityMaps
  ascend by domain, then frame, and do not overlap; \`writable\` is 0 or 1; there is at least one frame, all below 2^40
  (R128). Where the P2M of the domain has a present entry at a GFN of its map, the MFN is the GFN (R128). RemapEntries ascend
  by unit, then \`index\`, which is below 65,536; the unit exists and has a remapping table (R128).
- **Domain state.** \`shutdownState\` is known, \`creationFinished\`, \`callbackAsserted\` and \`suspendedS3\` are 0 or 1,
  \`pirqEoiMode\` at most 2 (R096). \`target\` is another domain that exists, or DOMID_INVALID (R043). The PIRQ EOI map is the
  domain's (R055) and written (R058).
- **Dead domains** have no LU_EVTCHN_PORTS, LU_SHARED_INFO or LU_GRANT_MAPS (R045). Every living domain has LU_SHARED_INFO
  (R102), whose frame is the domain's (R055), a xenheap frame, and not a grant or status frame as well (R053).
- **vCPUs.** Exactly the vCPUs of LU_VCPUS have an LU_VCPU (R090). Of the records of section 2, the X86_PV_VCPU records
  stand for PV domains alone, LU_PV32_VCPU for 32-bit PV guests, LU_PV_VCPU for the other PV ones, LU_FOREIGN_MAPS, HVM_PARAMS, HVM_CONTEXT and LU_IOREQ_SERVERS for HVM and
  PVH ones (R095). An LU_VCPU has the flag \`exists\` and no unknown one; its three affinities have \`affinityWordCount\` words
  each, which is LU_HOST's \`cpuCount\` divided by 64, rounded up; \`runstate\` and \`ioPrivilege\` are at most 3; the kinds of
  its two areas are known (R091). vcpu_info, 64 octets, lies within one frame (R091), which is the domain's (R055) and
  written (R058); where there is none its offset is 0 (R091). A PV vCPU has an LU_PV_VCPU, in a 32-bit guest an LU_PV32_VCPU, exactly if it
  is \`initialised\` (R092). A living HVM or
  PVH domain with an initialised vCPU has an HVM_CONTEXT (R017), and in it a CPU entry for each vCPU that is \`initialised\` and
  not \`down\` (R092). At least one vCPU of a living domain is not \`down\`, unless
  \`shutdownState\` is not none or \`creationFinished\` is 0 (R091).
- **PV registers.** \`gdtEntries\` and \`ldtEntries\` are at most 8192 (R092); the first \`gdtEntries / 512\`, rounded up, of \`gdtMfn\` are frames
  of the domain (R055), and of type segDesc if it has an L1 table (R057). CR1 and CR3 are machine addresses, 0 for none, in
  frames of the domain (R055), of type l4 if it has an L1 table (R057). Of a 32-bit guest the same is true of \`gdtEntries\`,
  \`ldtEntries\`, \`gdtMfn\` and \`cr3\`, whose frame is of type l3; and no \`address\` of its PvTraps is above 0xFFFFFFFF (R092).
  X86_PV_VCPU_EXTENDED has 32 to 128 octets behind its head (R092).
- **XSAVE areas.** In X86_PV_VCPU_XSAVE stands behind the head nothing, or XCR0 and the XCR0 bits ever set (u64 each) and
  then the area: 512 octets of legacy region, 64 of XSAVE header, the components. XCR0 has bit 0 and is within the second
  word, and so is the header's first word; the header's other octets, looked at by words, are zero (R093). Then XCR0 and
  after it the second word: bit 0 is set, bit 2 only with bit 1, bits 3 and 4 together, bits 5 to 7 together and only with
  bit 2, bits 17 and 18 together (R122). If X86_CPUID_POLICY has a row of leaf 0xD, subleaf 0, the first of them allows the
  bits of EDX:EAX, and no other is in the second word. Each bit in it from 2 on has a row of that subleaf with EAX or EBX not
  zero; of the first such one EBX + EAX is where the component ends, from the legacy region on, within the area (R122).
- **HVM_PARAMS.** An index is below 39 (R120), none stands twice (R121); they are in any order.
- **HVM_CONTEXT** is a row of entries: type u16, instance u16, length u32, then \`length\` octets. The first has type 1
  (HEADER), the last type 0 (END), where the body ends (R094). Type and length are those of
  [the table](#entries-of-the-hvm-context), and a CPU_MSR begins with the number of its rows, u32 (R120). HEADER begins with
  0x54381286, u32 (R094). The instance is the table's too (R121), but a CPU of a vCPU that does not exist breaks R094; and a CPU's vCPU is not \`down\` (R121). No entry before has
  the same type and instance (R121). CPU_XSAVE begins with
  the features of the host that saved it (u64), which the XCR0 bits ever set are within (R093); behind it stands what stands
  in X86_PV_VCPU_XSAVE behind the head.
- **I/O request servers** ascend by identifier, at most 8, below 65536 (R100). The emulator is another domain that exists (R043). Mode and flags are
  known, one server at most has \`claimsWrites\`; \`bufferedPort\` is 0 or a port of this domain that is unbound or interdomain (R100). What belongs to a server names
  one of the list. A vCPU's port is unbound or interdomain likewise, its vCPU exists and has no other port for that server (R100). There are at
  most 65 pages for each server, of known role and flags (R100), the domain's (R055), each in one place; of a server one is
  buffered, and at most \`maxVcpus / 128\`, rounded up, are synchronous (R100). Ranges are of a known kind, not empty,
  ascend by server, then kind, then address, and do not overlap (R100).
- **Permissions** (LU_CAPS) are of a known kind, not empty, ascend by kind, then by address, and do not overlap (R101).
- **Shares of a CPU pool.** LU_SCHEDULER's \`scheduler\` is that of the domain's pool. \`weight\` is 1 to 65535 and \`cap\` at most
  65535 with credit and credit2, both 0 with all others; \`vcpuCount\` is 0 but with RTDS. Its rows ascend by vCPU, at most the
  highest vCPU; \`periodUs\` is 10 to 10,000,000, \`budgetUs\` at least 10 and at most \`periodUs\`, flags are known (R104).
- **Sums of frames.** A domain owns as many xenheap frames as LU_SHARED_INFO, GrantFrames and StatusFrames name (R053).
  It may own more frames than \`maxPages\`: XEN_DOMCTL_max_mem may set that below what it has.
- **Written frames.** The type in use of a frame that is *written* is none or writable (R058).

## Where a fact lives, when it lives twice

- **A pinned grant**: LU_GRANT_ACTIVE is the truth. The guest's own entry in the grant frame stays writable by the guest
  and is not compared, so that a hostile guest cannot veto an update. Maptrack is checked against it.
- **Pending and mask bits** of event channels are in frames that stay in place: shared_info (or vcpu_info) in the
  2-level ABI, event words in the FIFO ABI. \`pending\` of a port stands in the stream only while the port has no event
  word yet. Tails and last queues are the hypervisor's own and travel; links are in guest-writable memory, and a walk
  over them must be bounded.
  Of a FIFO port the queue that it was last linked on (\`lastVcpu\`, \`lastPriority\`) travels also while it is free: a
  guest may not have taken the old event off that queue, and its tail may still name the port.
- **vcpu_info, control blocks, event arrays** are named by MFN, since Xen keeps no GFN for them.
- **The owner of a foreign frame** is in LU_FRAMES; LU_FOREIGN_MAPS repeats it and must agree.
- **Reference and type counts** are nowhere in the stream. They differ from version to version, and xen#2 rebuilds them.

## Preserved memory

Frames whose content matters to the hypervisor stay in place in machine memory. Outside of a live update (a stream in a
file, a test, a check on another machine) their contents travel beside the stream, as \`FILE.mem\` beside \`FILE\`.
Little-endian:

\`\`\`
        0     1     2     3     4     5     6     7
     +-----+-----+-----+-----+-----+-----+-----+-----+
   0 | magic: the octets "XLUMEM01"                  |
     +-----+-----+-----+-----+-----+-----+-----+-----+
   8 | streamHash                                    |
     +-----+-----+-----+-----+-----+-----+-----+-----+
  16 | hash                                          |
     +-----+-----+-----+-----+-----+-----+-----+-----+
  24 | pageCount             | pagesOffset           |
     +-----+-----+-----+-----+-----+-----+-----+-----+
  32 | MFN of page 0, u64; then the others, ascending|
     +-----+-----+-----+-----+-----+-----+-----+-----+
     | zero, to pagesOffset                          |
     +-----+-----+-----+-----+-----+-----+-----+-----+
     | page 0, 4096 octets; page 1; ...              |
     +-----+-----+-----+-----+-----+-----+-----+-----+
\`\`\`

\`pagesOffset\` is \`32 + 8 * pageCount\` rounded up to a multiple of 4096; the whole is \`pagesOffset + 4096 * pageCount\`
octets. \`streamHash\` is the XXH3-64 of the stream from its first octet to the end of END; \`hash\` is that of everything
behind the first 32 octets. MFNs are distinct and below LU_HOST's \`frameCount\`. Whatever of this does not hold breaks R034.

Every frame of these is among the pages: grant and status frames, shared_info, FIFO control blocks, event arrays, and
the page tables that LU_PAGE_TYPES lists. Others may be. A stream alone can be checked but for the rules about this
memory; it cannot be restored.

## References that restore rebuilds

The restored frame table has a page count and a type count for each frame, and each domain a reference count. None of
them travels. They are sums, and only ever added to after 1h, so that the order of domains in pass 2 does not matter.

After 1h:

- a frame has one page reference if it is allocated, else none; a xenheap frame of a guest has one type reference, any
  other frame none;
- a domain has one reference if it is alive, one if it owns frames other than xenheap ones (extra ones count here), one if it
  owns xenheap frames, and one for each global VIRQ that it handles.

A PV domain is *walked* if it owns a frame whose type is L1, L2, L3 or L4: then its page tables are in the preserved
memory, and what it has mapped is counted there, entry by entry. What a PV domain without tables has mapped (a capture has
no tables of dom0's) is counted at the other end. Which domains are walked follows from LU_FRAMES and LU_PAGE_TYPES, and
is known before pass 2 begins, so that the order of domains does not matter here either.

Pass 2 of a domain adds:

- for each active grant of its own, unless the frame is DOMID_IO's: a page reference for each mapping that the four
  counters count, and a writable-type reference for each read-write one. Two exceptions: the host's mappings of a grantee
  that is walked are counted at its L1 entries and not here; and the host's mappings of an HVM or PVH domain's frames
  take the type reference only where the grantee is the domain itself (a device's mapping takes it whoever granted);
- for each foreign entry of its P2M one page reference;
- one page and one writable-type reference for each vcpu_info that has a frame of its own, FIFO control block, event
  array, and for the PIRQ EOI map;
- for each page of an I/O request server one page and one writable-type reference, and one page reference more if the
  emulator has acquired it as a resource and is a living PV domain that is not walked. (A walked one has an L1 entry of it,
  any other a foreign entry; a dead one has given its own up);
- one reference to the emulator of each of its I/O request servers, and one to its \`target\`.

Pass 2 of a walked domain adds besides:

- for each present entry (bit 0) of its L1 tables: one page reference on the frame (bits 12 to 51 are its number), and one
  writable-type reference if the entry is read-write (bit 1) and the frame's owner is the domain itself or no HVM or PVH
  domain. A frame that nobody owns, that is DOMID_IO's, or that lies beyond the host is I/O memory and takes nothing;
- for each present entry of its L2, L3 and L4 tables: one page and one type reference on the table that it names. An
  entry that names its own table (a linear map) takes none. Slots 256 to 271 of an L4 table are Xen's own and no entries,
  and so are in an L2 table with \`paeXenL2\` the slots from \`(xenStart >> 21) % 512\` on. An L3 table of a 32-bit guest
  has four entries;
- for each of its tables that is pinned: one page and one type reference;
- for each of its vCPUs that is initialised, down or not: one page and one type reference on the tables in CR3 and CR1
  (the user's), in a 32-bit guest on that in \`cr3\`, which are machine addresses, 0 for none; and on each GDT frame that \`gdtEntries\` needs, 512 a frame.

No count may reach 2^31. A reader adds up an upper bound and refuses more than 2^31 (R110): over the domains by ascending
domid, 2048, its foreign entries, and four for each number up to its highest vCPU; if it is walked 513 for each of its
tables and 18 for each number up to its highest vCPU; then the counters of its active grants. It looks at the sum before
and after the active grants of each domain.

These entries are counted as they stand: grants, foreign frames and I/O memory are legal in them. XLU-R057 refuses those
that contradict the types in use, in domains that have an L1 table: without one a domain maps nothing. Of an L3 table of a
32-bit guest it refuses besides: an entry that names an L3 table; an entry from the fifth on that is not zero; a fourth one that is not present, or does not
name an L2 table with \`paeXenL2\`, or names one that an L3 table before it has named as its fourth; one before the fourth that
names an L2 table with \`paeXenL2\`, or a frame beyond the host.

## Hand-over

**H1.** The stream's frames may lie anywhere outside bootmem, in any order. An array of MFNs, contiguous in machine
memory, lists them in the order of the stream: one u64 for each frame. The last frame is filled with zeros.

**H2.** The breadcrumb is three u64, little-endian, at the start of bootmem:

\`\`\`
     bootmem                                array                           frames
     +--------------------------------+     +------------------------+     +-------------------+
   0 | 0x4c69766555706000             |  +->| MFN of octets 0..4095  |---->| 4096 octets       |
     +--------------------------------+  |  +------------------------+     +-------------------+
   8 | machine address of the array   |--+  | MFN of octets 4096..   |---->| 4096 octets       |
     +--------------------------------+     +------------------------+     +-------------------+
  16 | number of stream frames << 12  |     | ...                    |     | ..., zero at the  |
     +--------------------------------+     +------------------------+     | end of the last   |
                                                                           +-------------------+
\`\`\`

The array's address is a multiple of 4096. xen#1 writes the frames, the array, the second and third word, and the magic
last, so that a torn hand-over leaves no breadcrumb. xen#2 refuses another magic, a count of zero or with low bits set,
an array or a listed frame beyond the memory, in bootmem, in its own image, in the array, or listed twice. It clears the
breadcrumb when the stream is consumed; xen#1 does so when it resumes instead.

**H3.** Until the stream is consumed xen#2 uses nothing but bootmem and the regions of LU_REGIONS with kind \`reusable\`.
Neither the array nor a frame of the stream lies in a reusable region.

**H4.** xen#2 stands at the top of bootmem and xen#1's image taken together, its start aligned down to 2 MiB. What is
left below is the new bootmem, at least 2 MiB; the breadcrumb stays where it is. So xen#2 may be larger or smaller than
xen#1.

## Versions

The image header's version is a whole number. A reader of version N reads N and N-1; version 1 is the first. Once a
version is released, no record type of it ever changes: not its number, section, order, fields, their places or their
meaning. What a later release has to say beyond that becomes a new record type, optional (bit 31) if a reader may do
without it, and where it may not, a new version. \`src/format/schema.lock.json\` holds the layout of every released
version, and the build fails where the definition differs from it.

| version | new records | what guests have of it |
|---|---|---|
| 1 | | 64-bit PV, PVH and HVM guests |
| 2 | LU_PV32, LU_PV32_VCPU, paeXenL2 | 32-bit PV guests, with page tables of three levels |
| | LU_VNUMA | virtual NUMA |
| | LU_SCHEDULER (optional) | weights, caps, reservations |

The writer of this project writes version 2, whether a host needs it or not, so that what xen#2 must know does not depend on
the guests of the day. For a rollback it writes version 1 (\`xlu save --format 1\`): octet for octet what version 1 wrote, or,
where a domain needs a record that version 1 does not have, a refusal that names it (R047). Optional records it writes in
either version.

A reader refuses a version that it does not know (R003) before it looks at anything else. Which xen#2 there will be is known
before the pause: the check that runs before the jump is told the newest version that xen#2 knows.

Refused by name, in both versions: memory that is shared or paged out, HVM and PVH guests on shadow paging, features that LU_HOST does not name. In version 1
also 32-bit PV guests and the type flag paeXenL2.

Sub-page and transitive grants need no record. Xen lets a domain copy through them and never map them (public/grant_table.h says
so of GTF_sub_page and GTF_transitive), so that none is
pinned once domains are quiescent; what the guest has written stands in its grant frames, which stay in place.
`;

export const recordTypesIntroduction = `
## Record types

In the order in which the writer of this project puts them within a section. Types 0x40000000 and above are live-update
records; those below are libxc's.
`;

export const rowsIntroduction = `
## Rows

The structures that parts consist of. [P2M, frame-owner and page-type entries](#entries-of-the-bulk-tables) are drawn
above.
`;

export const formatEnding = `
## Enumerations and flags

Numbers are Xen's public ones where Xen has public ones (domids, event-channel states, VIRQs, grant-mapping flags,
schedulers); the rest are the stream's own. Names ending in FLAG, and CREATE, FEATURE, FRAME, GRANT_MAP, are bits that
may be combined. FRAME is drawn [above](#frame-owner-entry-8-octets) with the owner below its bits; P2M_BITS are the
lowest bits of the parts of a P2M entry.
`;

export const rulesIntroduction = `
# Rules

Everything that \`open\`, \`plan\`, \`check\`, \`restore\` and the calls around them enforce. A rule's number is its identity:
numbers are never used again for another rule.

## How a refusal reads

A refusal names the rule, the place, what was expected and what was found. As text:

\`\`\`
open refused by XLU-R001: The stream holds every record whole, up to END. At LU_SECTION, field length, offset 504: expected 456 (0x1c8), found 1432 (0x598).
\`\`\`

The place is, as far as it is known: the record's type, the field (of its head, or \`Part[row].field\`; in a sparse table
with the slot, which is the port, reference or handle), the domain, the section (H, 0, 1h, 1d, 2), and the offset in octets
from the start of the stream to the record's header. With \`--json\`,
and as properties of the library's \`XluError\`, the same facts stand apart: \`rule\`, \`domid\`, \`record\`, \`offset\`, \`field\`,
\`expected\`, \`got\` ([CLI.md](CLI.md), [ERRORS.md](ERRORS.md)). From the core itself they come as numbers in the fault
record ([CORE.md](CORE.md)). Where a rule is about names and not amounts, \`expected\` is the nearest value that would
have been accepted, such as the highest known number of an enumeration. A number that stands for something has it in
parentheses: a type of records its name, a chunk's fault what is wrong. \`other than N\` is a value that may come near N and
not be it.

Checking stops at the first rule that is broken ([The order of checks](#the-order-of-checks)). A refusal leaves the target
image as it was.

## The order of checks

Two readers name the same rule and the same place for a stream that breaks several only if they look in the same order.
It is this one. Domains are taken by ascending domid, records in the order of the stream, rows and entries ascending; of one
head, row or entry the demands stand in FORMAT.md in the order in which they are checked. The place is the record that is
looked at, unless another one is named here.

The whole stream first, front to back (\`open\`):

1. **Image header**: its 24 octets (R001), marker and id (R002), version (R003), options (R004), reserved octets (R005).
2. **Each record**: its header is whole, \`body_length\` at most 2^27 (R006), the body with its padding whole, the padding zero
   (R005). What is not whole breaks R001, within a section R010; without a whole header the place is the record before it.
3. **Outside sections**: END stands behind LU_INDEX (R012), nothing else does (R013), all else is LU_SECTION (R008).
   LU_INDEX must have come before the stream ends (R001).
4. **LU_SECTION**: its body; \`pass\` is known and not below the one before (R009); \`domid\` is DOMID_XEN, or below 0x7FF0 where
   the section is a domain's (R009); \`length\` lies in the stream (R001) and is a multiple of 8 (R010); \`hash\` (R011). Then the
   section's records. Last \`recordCount\` (R010).
5. **A record in a section**: 2; its type is one of the stream's version, or optional (R007); it stands in that section (R014), which LU_SECTION,
   LU_INDEX and END never do; its body.
6. **A body**: not shorter than the head (R006); the head's reserved fields (R005); then each part: the octets that it takes
   are there, and whole rows (R006); what is in it: runs and rows of a sparse table (R019), \`entryCount\` of a slice 1 to 2^20
   (R021) and its chunks (R020); reserved fields of its rows (R005); the octets up to the next part are there (R006) and zero
   (R005). Last, nothing follows the last part (R006).
7. **LU_INDEX**: its body, \`sectionCount\` (R012), \`hash\` (R011), entries (R012). **END**: its body is empty, and nothing
   follows it but, where the stream was handed over in frames, fewer than 4096 zero octets (R013).

Then sizes (\`plan\`):

8. Section H is the first one (R018, without a record). It has LU_HOST (R017, at its LU_SECTION), of which \`frameCount\` and
   \`cpuCount\` are looked at (R040). At LU_INDEX: at most 0x7FF0 sections 0 (R041), and in all at most two sections and three
   for each section 0 (R009): more are a section that stands twice, or one of a domain that has no section 0.
9. For each section 0 in the order of the stream: \`highestGfn\` of every LU_P2M is all ones or below 2^29 (R064), a limit of
   this core; vCPU numbers of the first LU_VCPUS are below 8192 (R090). Last, image and workspace have less than 4 GiB (R040 at
   LU_HOST), another limit of this core: other readers have their own. Where the target's bulk tables are detached
   (docs/CORE.md), the image counts without them, and \`frameCount\` may be up to 2^29.

Then what the records say (\`check\`). Where a record that is looked at is missing, its checks are left out.

10. **Sections**: no domain has two sections 0 (R041, at the second one's LU_SECTION). Each domain has its sections 1d and 2
    (R018, at its section 0), and there is a section 1h (R018, at the first LU_SECTION).
11. **Records**: of section H, of each domain's sections 0, 1d and 2, and of section 1h. Each record: one that names a vCPU
    names one below 8192 (R090); it is not repeated (R016); none of those that depend on it stands before it (R015); those of
    its vCPU that must stand before it are there (R015). Last, none that stands once is missing (R017, at LU_SECTION).
12. **The host**: \`domainCount\` and what follows it in FORMAT.md; CPU pools; of each domain LU_DOMAIN, LU_PV32 (its absence at
    LU_DOMAIN), LU_VNUMA; LU_VCPUS of each domain.
13. **Frames**: page ownership; page types; regions, IommuRanges, M2P; of each domain LU_KEPT_FRAMES; of each domain the P2M
    with LU_FOREIGN_MAPS. What is wrong with a run of the P2M has the LU_P2M as its place, the foreign rows of these entries
    included; a wrong last entry the last LU_P2M; rows that no entry has, LU_FOREIGN_MAPS.
14. **Grants**: of each domain LU_GRANT_TABLE, then LU_GRANT_ACTIVE; of each domain LU_GRANT_MAPS; of each domain the counters,
    at LU_GRANT_ACTIVE. Then the sums of references (R110, at LU_DOMAIN, or behind the counters at LU_GRANT_ACTIVE).
15. **Events**: of each domain LU_EVTCHN (its absence at LU_EVTCHN_PORTS), LU_EVTCHN_PORTS, LU_PIRQS (ports that no PIRQ names
    at LU_EVTCHN_PORTS).
16. **Interrupts and devices**: LU_IRQS: pins, MSIs, owners; of each domain LU_PIRQS against the owners. LU_DEVICES: devices,
    IOMMUs, contexts, identity maps, then all of these against the P2Ms, remapping entries.
17. **The rest of each domain**, all of it before the next one's: LU_DOMAIN_STATE; what a dead domain must not have, in the
    order in which FORMAT.md names it, or LU_SHARED_INFO (its absence at LU_DOMAIN_STATE); LU_VCPU records against LU_VCPUS, at
    the latter; the records of section 2 in their order, as to kind, vCPUs, registers, XSAVE areas and HVM context; a missing
    HVM_CONTEXT at LU_DOMAIN_STATE, vCPUs without a CPU entry at LU_VCPU, vCPUs that are all down at LU_DOMAIN_STATE; LU_IOREQ_SERVERS: servers, ports, pages, ranges; LU_CAPS;
    LU_SCHEDULER; sums of frames, at LU_DOMAIN.
18. **The preserved memory** (R034): of the window itself, without a record: length, magic, \`pagesOffset\`, length again,
    \`hash\`, \`streamHash\`, the zero octets, MFNs. Of each domain grant and status frames, shared_info, control blocks, event
    arrays. Then page tables in the order of LU_PAGE_TYPES, which is the place, and the owner the domain: that each is there
    (R034), and if its owner has an L1 table, its entries by ascending slot (R057); of a 32-bit guest's L3 table first what is
    said of its four entries.

## Exit status

A refusal is one of three kinds, which the last column of the table names:

- **damaged**, exit status 3: the stream is not what a writer wrote. A copy of it may be whole.
- **not supported**, exit status 1: the stream is sound, and this version cannot take it.
- **refused**, exit status 1: the stream is sound in form, and what it says cannot be restored.

## Without the preserved memory

A stream can be checked without the preserved memory (\`FILE.mem\`). Every rule is then enforced but XLU-R034, and
XLU-R057 where it is about entries of page tables: \`xlu verify\` lists both as not checkable; nothing can be restored
(XLU-R035).

## The rules
`;

export const ruleTextsIntroduction = `
## Each rule

What must hold, why, and what can be done. \`xlu explain XLU-R001\` shows the same. An advisory of Xen's (XSA) is named where it
is about the very thing: what went wrong there is what the rule looks for.
`;

export const hvmEntriesIntroduction = `
## Entries of the HVM context

Xen's public/arch-x86/hvm/save.h. Xen changes an entry by making it longer, so that a length stands for a version: each of
those given is one that some Xen has written.
`;

export const formatRulesIntroduction = `
## Rules of Xen's own streams

What \`xlu verify\` holds libxc, libxl, xl, legacy and xenstore streams against, and bundles. Reading goes on behind a
finding wherever the framing allows it, so that one run names all of them. The letter says whose rule it is: F the framing
that libxl and libxc share, H xl's header, L libxl, C libxc, O legacy images, S xenstore, B bundles. By default a stream is
held to what real programs take; \`--strict\` holds it to the document's letter; \`--for DAEMON\` to what that xenstored
was seen to do. \`xlu explain CODE\` prints a row of this table.
`;

export const errorsIntroduction = `
# Errors

Every error of the library and of the command is an \`XluError\` with one of these codes, and, where they are known, the
fields \`rule\`, \`domid\`, \`record\`, \`offset\`, \`line\`, \`field\`, \`expected\`, \`got\` and \`cause\`. A command ends with the exit
status of the error that ended it; without an error it ends with 0, or with 1 where a comparison found a difference.
Codes are stable; messages are for people and may change.
`;
