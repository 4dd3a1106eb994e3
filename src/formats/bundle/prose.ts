/** The text of docs/BUNDLE.md around the tables that tools/generate.mjs makes from layout.ts. */

export const bundleIntroduction = `
# The bundle of one domain, version 1

Xen moves a guest with the guest's help: it suspends itself, and on the other side negotiates every device again. Without
that help ("Non-Cooperative Migration of Guests on Xen", in Xen's documents) the guest must find everything as it left it:
its domid, its event-channel ports, its grant references, its xenstore nodes, its watches. None of that is in Xen's
migration stream. A bundle holds it, for one domain, beside the guest's memory, which moves by other means.

    xlu extract HOST --domain 5 -o web.bundle     from a host to a bundle
    xlu inspect web.bundle                        its parts, and the records within them
    xlu verify web.bundle                         is it whole, do its parts agree?
    xlu verify web.bundle --onto HOST             would this host take it?

## What is in it

| part | what | why |
|---|---|---|
| the live-update stream of the domain alone | its sections, ownership and types of its frames, the host's figures | ports, grant table, vcpu_info placement, timers, limits |
| PFNs | of a PV guest, the frame of each PFN | machine frames change; the guest knows PFNs |
| pages | shared_info, grant and status frames, FIFO event pages, PV page tables | a live update leaves them in place: pending and mask bits, grant entries |
| libxc's state records | CPUID and MSR policies, vCPU contexts, TSC, HVM context and parameters | what libxc restores a guest from; X86_PV_VCPU_BASIC is what \`xl save\` would have written, octet for octet: 5168 of a 64-bit guest, 2800 of a 32-bit one |
| a xenstore stream | the domain's home, its /vm, its backend areas; its connection, watches, open transactions | values must not change: frontends and backends read them |

A backend area is one that a frontend of the domain names in its node \`backend\`, or that names the domain in \`frontend-id\`
and a node of its home in \`frontend\`; a node above it that is the domain's too (\`backend/vif/5\`) comes with it. What the
tool stack notes under /libxl stays behind.

Ordinary memory is not in it, nor a device model's state, which is libxl's EMULATOR_CONTEXT. A PV guest's own P2M lies in
its memory: who moves that writes the target's frames into it, as libxc does, 512 a page, or 1024 of a 32-bit guest.

## What happens where it is received

- **The domid must be free.** It is not changed: the guest has it in its nodes and uses it in hypercalls.
- **Backends have the domids that they had**, since these are in the guest's nodes, ports and grants.
- **Ports keep their numbers.** One that was bound to another domain becomes unbound, open to that same domain; the
  backend binds it again when it finds its own \`state\` at 4. Linux's block and network backends do so. VIRQs, IPIs and
  bindings of the guest to itself stay.
- **Grant references stay**, with the pages of the table; a PV guest's entries name machine frames, and get the new ones. That
  others had them mapped is not carried over: they map again, and until then no entry says that it is in use (GTF_reading,
  GTF_writing).
- **I/O request servers** are not carried over; a device model registers its own, with pages and ports.
- **Permissions** for I/O ports, I/O memory and interrupts are a machine's own: none is carried over.
- **Open transactions end with EAGAIN**, upon which every client of xenstore starts again. Their ids are in the bundle, what
  they changed is not: it could only be committed, which they cannot. Rolling back is OK.
- **Nodes have the values that they had.** Parents that the target lacks are made. A node that stands there with another
  value or other permissions refuses the bundle. A permission of a domain that is gone stays stale.
- **Deadlines** are as far ahead as they were. Machine frames are the target's free ones; 2 MiB pages stay whole as far as
  aligned frames are free. Page-table entries that led to frames of others are not present, as after any migration. Slots
  of Xen's own are empty, for the target's Xen to fill: 256 to 271 of an L4 table; of a 32-bit guest's L2 table with Xen's
  part in it, those from \`xenStart\` on.
- **A 32-bit PV guest** gets frames that its part of the M2P reaches: below (0xF6800000 - \`xenStart\`) / 4, which is 16 GiB of
  memory with the usual 0xF5800000. Its L3 tables lie below 4 GiB unless it has the VM assist pae_extended_cr3. Xen's part
  must begin where it has begun: the guest has learnt that address and keeps it.
- **Weight, cap and reservations** go with the domain where the pool that it comes into has the scheduler that they are of;
  elsewhere it has that scheduler's defaults.
- **Virtual NUMA** goes with it: the guest has read its nodes and distances. Nodes of the host are the host's own: its virtual
  nodes are on none in particular.

A domain that serves others does not move: one with grants of others mapped, with foreign entries, an emulator, a stub
domain. Neither do dom0, dead domains, and domains with hardware. What a live update refuses is refused by the same rule
when the bundle is extracted.

\`xlu verify --onto\` lists everything that stands against the move, and as warnings everything that will be different. If
nothing does, it puts the domain on the target's model and holds the result against every rule of the live update.
Rules are in [RULES.md](RULES.md), XLU-B001 on of the bundle itself, XLU-B040 on of the receiving side.

## Versions

The bundle's version is that of its framing: the header, the records of this document, their order. Each stream within it has
a version of its own, in its own header. A bundle whose live-update part is of a later version is of version 1 all the same:
a reader that does not know that version of the stream refuses it by the stream's rule, XLU-R003, whatever the bundle holds
besides.

The live-update part is written in the oldest version of the stream that every reader takes, today 1, where that holds the
domain, and in the newest one where it does not: version 2 of a 32-bit PV guest and of a domain with virtual NUMA. A live
update writes the newest version always, so that what xen#2 must know does not depend on the guests of the day. A bundle has
one guest and may go to any host of a fleet that is being updated; so a host that knows version 1 takes those that it can run,
and refuses the others before anything moves. LU_SCHEDULER is an optional record, and stands in either version: a reader that
does not know it leaves the defaults. Both versions are read.

## Layout

Header fields are big-endian; all others are little-endian, naturally aligned, reserved ones zero. A record is a type
(u32), the length of its body (u32, without padding), the body, and zeros up to a multiple of 8; a body has at most 128 MiB.
A type with bit 31 may be skipped by who does not know it; any other unknown type is refused.

LIVE_UPDATE, LIBXC and XENSTORE each announce a stream, which stands behind the record, padded with zeros to a multiple of
8: with its own header, up to its own END, as [FORMAT.md](FORMAT.md) and Xen's documents have it. Records stand in the order of the table.
`;

export const bundleEnding = `
## The streams within

- **LIVE_UPDATE**: sections H, 0, 1h, 1d and 2 of one domain. LU_M2P and LU_REGIONS are empty; LU_FRAMES and LU_PAGE_TYPES
  have that domain's frames and no others. Its records name other domains by domid alone, so that it opens by itself; all
  rules hold once it stands beside its peers.
- **LIBXC**: version 3, in the order in which libxc writes. PV: X86_PV_INFO, policies, STATIC_DATA_END, X86_PV_P2M_FRAMES,
  X86_TSC_INFO, SHARED_INFO, then each online vCPU's records. HVM and PVH: policies, STATIC_DATA_END, X86_TSC_INFO,
  HVM_CONTEXT, HVM_PARAMS. There is no PAGE_DATA. MFNs of the live-update part are PFNs here: CR3, CR1 where its bit 0 is
  set, GDT frames. A 32-bit guest has \`guest_width\` 4 and \`pt_levels\` 3, and a CR3 that is packed: bits 20 to 31 of the PFN
  stand in bits 0 to 11, the others above (\`xen_pfn_to_cr3\`). A vCPU whose context is here is online, and VGCF_online set.
- **XENSTORE**: version 1 (2 where a watch has a depth or the domain has features): the domain's CONNECTION_DATA, its watches and transactions, its DOMAIN_DATA (quotas,
  features), then its nodes, parents first. Lengths count the padding, as the daemons have it. \`evtchn\` is the daemon's port where the
  bundle comes from; the target's daemon binds its own. Where nothing is known of the store there is END alone.
`;
