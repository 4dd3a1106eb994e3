/**
 * Of each rule: why it is one, that is the public fact, the document or the invariant of Xen that it stems from; and what
 * an operator can do where it is broken. docs/RULES.md and `xlu explain` show both. An advisory (XSA) is named only where it
 * is about the very thing.
 */
export interface RuleText {
	readonly why: string;
	readonly advice: string;
}

const text = (why: string, advice: string): RuleText => ({ why, advice });

/** What damages a file between writer and reader. */
const DAMAGED =
	"Take another copy, or save again: the host that wrote it still has its state. If a fresh stream is damaged as well, look at what carries it (memory, disk, the hand-over's frames).";
/** What a sound writer never makes of a host that is sound. */
const WRITER =
	"A writer that makes such a stream has a defect: report it with the refusal as it stands. xen#1 goes on meanwhile.";
/** What xen#1's state is to blame for. */
const AUDIT =
	"Run `xlu audit` on the host that was saved: it names the same rule. Restarting the domain that is named clears its state; then update again.";

export const ruleTexts: Readonly<Record<string, RuleText>> = {
	TRUNCATED: text(
		"A stream is read front to back, and each length leads to the next record: what ends early, or claims more than there is, cannot be walked. libxc's streams have the same framing (docs/specs/libxc-migration-stream of Xen).",
		DAMAGED,
	),
	MARKER: text(
		"The first 64 one bits are libxc's image marker, which no older format begins with; the id tells a live-update stream from a migration's.",
		`\`xlu inspect FILE\` names what the file is: a domain's image is none of a host. ${DAMAGED}`,
	),
	VERSION: text(
		"A reader knows the versions that there were when it was built. An old record is never changed, so that version N reads N and N-1.",
		"Use an xlu of the writer's version or the one after it, on the side of xen#2.",
	),
	OPTIONS: text(
		"Bit 0 of the options is libxc's endianness, and both orders are read. Any other bit would change the meaning of what follows.",
		"An unknown option needs the reader that knows it: an xlu of the writer's version.",
	),
	RESERVED: text(
		"What is reserved today may mean something tomorrow: a reader that let it pass would misread a later writer. Padding must not carry what nobody checks.",
		DAMAGED,
	),
	BODY_LENGTH: text(
		"Counts come from the stream. A body that is not exactly as long as its counts make it would let one record's rows be read as another's.",
		DAMAGED,
	),
	UNKNOWN_RECORD: text(
		"Bit 31 of a type says that a reader may skip it; without it the record is needed for the restore. libxc's streams have the same rule.",
		"Use the xlu that knows the record, which is the writer's version or a later one.",
	),
	SECTION_EXPECTED: text(
		"Sections are what checksums cover and what passes are handed: a record outside of them would be neither checked nor restored.",
		DAMAGED,
	),
	SECTION_ORDER: text(
		"A restore reads the stream once: pass 0 of every domain, then ownership, then grants, then the rest. A section out of its pass would be placed before what it rests on.",
		WRITER,
	),
	SECTION_LENGTH: text(
		"Length and number of records are said twice, here and by the records themselves, so that a record that is lost or added is noticed whatever its checksum says.",
		DAMAGED,
	),
	CHECKSUM: text(
		"XXH3-64 over a section finds any damage of it but for one in 2^64. It is no signature: whoever writes a stream is trusted as a hypervisor is.",
		DAMAGED,
	),
	INDEX: text(
		"The index lets a pass be shared out to several CPUs without a walk. One that disagreed with the sections would hand out something else than was checked.",
		DAMAGED,
	),
	END: text("END says that the writer came to its end; libxc's streams have the same record.", DAMAGED),
	WRONG_SECTION: text(
		"A record's pass follows from what it depends on: page ownership before grants, grants before their mappings. FORMAT.md gives each its section.",
		WRITER,
	),
	RECORD_ORDER: text(
		"Within a domain some state can only be placed on other state: the event-channel ABI before the ports, HVM_PARAMS before HVM_CONTEXT, a vCPU before its registers. libxc restores in the same order.",
		WRITER,
	),
	RECORD_TWICE: text(
		"Two records of one thing leave open which of them holds; readers that took the first and the last would restore different hosts.",
		WRITER,
	),
	RECORD_MISSING: text("Without it the domain, or the host, cannot be created as it was.", WRITER),
	SECTION_MISSING: text(
		"A domain is created in pass 0, has its grants restored in pass 1 and everything else in pass 2, if only to say that there is nothing.",
		WRITER,
	),
	SPARSE: text(
		"Runs are how empty stretches of ports and grants are left out. Overlapping ones would place two rows in one slot.",
		WRITER,
	),
	CHUNK: text(
		"Chunks decode to megabytes from few octets: their figures are checked before anything is decoded, so that nothing is written beyond its table, and each table has one coding for each form.",
		DAMAGED,
	),
	SLICE: text(
		"A slice is a part of the frame table or of a P2M: two that overlapped would give a frame two owners, depending on who is read last.",
		WRITER,
	),
	WINDOW: text(
		"The core has no memory of its own. It is handed windows, and writes nothing before it has seen that they lie apart.",
		'Give the windows the sizes that `plan` and `planSave` name; see CORE.md, "Windows". From a command it is a defect: report it.',
	),
	PASS_ORDER: text(
		"Domains need each other: one's grants rest on another's frames. A pass that began before the one before it had ended for all would find them missing.",
		'Call as CORE.md, "Sequence", has it. From a command it is a defect: report it.',
	),
	NOT_CHECKED: text(
		"Everything is checked before an octet of the target is written, so that a refusal leaves no trace.",
		"Call `check` first, and restore only what it accepted. From a command it is a defect: report it.",
	),
	IMAGE: text(
		"An image is a hypervisor's own memory. It is walked only after every table is known to lie in it, since what is audited may be broken.",
		"xen#1's tables are not what they should be: do not update this hypervisor live. Migrate its guests away and restart it.",
	),
	MEMORY: text(
		"Grant frames, shared_info, event words and page tables stay in place; references are counted from them. Pages of another moment would be counted wrongly, so that they are bound to their stream by its checksum.",
		`Keep FILE and FILE.mem together, both of one save. ${DAMAGED}`,
	),
	NEEDS_MEMORY: text(
		"The stream says who owns a frame; what a page table in it maps is only in the frame itself.",
		"Put FILE.mem, which was written with FILE, beside it.",
	),
	HOST_LIMIT: text(
		"All windows share 4 GiB of addresses, and each frame needs a fixed number of octets in them. Domain and CPU counts are said twice so that a lost one is noticed.",
		"A host beyond the limits of CORE.md cannot be updated by this core; where a count disagrees, save again.",
	),
	DOMID: text(
		"A domid is how every other record, and every guest, names a domain. Xen's public header reserves those from 0x7FF0 on (DOMID_SELF, DOMID_IO, DOMID_XEN, DOMID_COW, DOMID_INVALID).",
		WRITER,
	),
	DOMAIN_FIELD: text(
		"These are what XEN_DOMCTL_createdomain is called with: a value that Xen does not know, it refuses. There is one hardware domain at most in Xen.",
		WRITER,
	),
	DOMAIN_REFERENCE: text(
		"A reference to a domain is held for as long as it stands: Xen does not let the domain it names disappear. One that names nobody has been lost or was never there. Xen takes no domain as its own target (XEN_DOMCTL_set_target) or device model.",
		AUDIT,
	),
	VERSION1_REFUSES: text(
		"State that the version has no record for would be lost without a word. It is refused by name instead: 32-bit PV guests in version 1; sharing, paging, shadow page tables and unknown features in any.",
		"Shut down, or migrate away, the domain that uses it; for shared or paged memory turn off what uses it (xl's `mem-paging`, memory sharing); a guest on shadow paging gets `hap=1` with its next start. Then update again.",
	),
	FORMAT: text(
		"A rollback writes for an older xen#2, which knows no record that came later: what such a record carries would be lost. So the whole save is refused, before a guest is paused.",
		"Roll back to a version that knows the record, or shut down, or migrate away, the domain that needs it; `xlu save HOST --format N` says the same of another version.",
	),
	PV32: text(
		"A 32-bit PV guest shares its address space with Xen, whose part begins where the guest's kernel said when it was built (HYPERVISOR_VIRT_START; XEN_ELFNOTE_HV_START_LOW): the fourth entry of its L3 table and slots of that L2 table are Xen's from there on. Page tables cannot be walked without it.",
		WRITER,
	),
	DEAD_DOMAIN: text(
		"A domain in DOMDYING_dead has given up all but the frames that others still map: Xen has torn down its channels, its grant mappings and its shared_info by then.",
		"Wait until its teardown has ended (`xl list` shows no half-dead domain), then save again.",
	),
	REGION: text(
		"xen#2 boots in bootmem, and puts its own tables into what it may re-use: memory in two regions, or in none, would be used twice or not be found.",
		WRITER,
	),
	FRAME_ENTRY: text(
		"The frame table's flags follow from each other: what is xenheap is allocated, what nobody owns has no use.",
		AUDIT,
	),
	FRAME_OWNER: text(
		"Every frame that is not free has an owner, or the pseudo-owners DOMID_XEN and DOMID_IO: a frame of a domain that is gone could never be freed.",
		AUDIT,
	),
	FRAME_RESERVED: text(
		"Bootmem, xen#2's image and page tables that hardware walks must not be a guest's: it could write to the hypervisor's own memory.",
		AUDIT,
	),
	XENHEAP_COUNT: text(
		"Frames that Xen shares with a guest are named by the records that use them. One too many is one that nobody would free.",
		AUDIT,
	),
	FRAME_NOT_OWNED: text(
		"A record that names a frame takes a reference to it on behalf of a domain. Xen takes one only of a frame that belongs to whom the operation says (get_page); another's frame would be handed over.",
		AUDIT,
	),
	PAGE_TYPE: text(
		"Xen gives each frame one type at a time, and page-table types to PV guests alone: that is what keeps a PV guest from writing its own page tables.",
		AUDIT,
	),
	PAGE_TABLE: text(
		"No PV guest may have a writable mapping of a page table or a descriptor table. XSA-182 was such a mapping, made by a table that mapped itself read-write. Linear mappings, of the table itself or of another one of its level, are legal only read-only.",
		"Treat the domain as compromised until shown otherwise: shut it down, or pause it and look at it with `xl dump-core`. Then update again.",
	),
	WRITTEN: text(
		"Xen takes a frame's writable type for whatever it or another domain writes to, and a frame has one type at a time: while that lasts it cannot become a page table or a descriptor table. A host mapping by a grantee with page tables of its own is counted at its L1 entry, and may be gone though the grant is still pinned.",
		AUDIT,
	),
	P2M_ENTRY: text(
		"Types and access rights are those of Xen's p2m_type_t and p2m_access_t as they are public in its interfaces; populate-on-demand entries have no frame yet.",
		AUDIT,
	),
	P2M_SUPERPAGE: text(
		"The processor ignores, or faults on, the low bits of a superpage's frame number: one that is not aligned would map other memory than it names.",
		AUDIT,
	),
	P2M_FRAME: text(
		"What a guest sees as its RAM is its own: an entry to another's frame that no grant or foreign mapping accounts for would be a hole between guests.",
		AUDIT,
	),
	P2M_FOREIGN: text(
		"A foreign mapping (XENMAPSPACE_gmfn_foreign) holds a reference to another domain's frame. Xen makes them, and ioreq-server entries, of 4 KiB alone.",
		AUDIT,
	),
	P2M_HIGHEST: text(
		"Xen keeps the highest mapped GFN to end its walks, XENMEM_maximum_gpfn returns it. PV guests have no P2M of the hypervisor's.",
		WRITER,
	),
	P2M_TWICE: text(
		"The M2P has one entry for each frame, which says at which GFN it is: Xen takes a frame away from where it was before it maps it anew (XENMEM_add_to_physmap), and undoes a mapping by that entry. The M2P itself stays in place and is not in the stream; that frames are mapped once is what it needs.",
		AUDIT,
	),
	GRANT_TABLE: text(
		"Version 2 has status frames, as many as its entries need. XSA-255 was status frames freed while a guest still had them mapped, after a change from version 2 to 1.",
		AUDIT,
	),
	GRANT_ACTIVE: text(
		"Each of the four pin counters has 8 bits in Xen: mappings are refused before one wraps. The entry that the guest sees may say anything; this one is the hypervisor's.",
		AUDIT,
	),
	MAPTRACK: text(
		"A handle is an index into maptrack, which Xen grows up to the domain's limit, each entry on the free list of a vCPU.",
		AUDIT,
	),
	MAPTRACK_UNMATCHED: text(
		"A mapping and the grant that it maps are two ends of one thing. Xen refuses to unmap what it does not find, so that the frame would stay pinned for ever.",
		AUDIT,
	),
	PIN_SUM: text(
		"XSA-224 was counts that did not follow from mappings, where one handle mapped for host and device and only one of them was unmapped. Counts are compared with the sum of mappings here.",
		"Restart the mapping domain, or the granting one: one of them has been miscounted. Install the fix of XSA-224 if xen#1 lacks it.",
	),
	PORT_FIELD: text(
		"States and consumers are Xen's; port 0 is never bound. XSA-107 was a port moved to a vCPU whose queue was not there: vCPUs that a port names exist.",
		AUDIT,
	),
	PORT_LIMIT: text(
		"The 2-level ABI has room for 4096 or 1024 ports, the FIFO ABI for 131,072 (public/event_channel.h). XSA-338 was ports that had been valid and lay beyond the limit afterwards.",
		AUDIT,
	),
	INTERDOMAIN: text(
		"Xen binds both ends at once and closes both at once: an end that names nothing would send events to a port of somebody else.",
		AUDIT,
	),
	VIRQ: text(
		"Xen keeps one port for each VIRQ of a vCPU, and one for the domain of those that are global: a second one could not be reached. Only a global one is sent to another domain (XEN_DOMCTL_set_virq_handler).",
		AUDIT,
	),
	FIFO: text(
		"The hypervisor writes control blocks and event words through these frames: they lie inside one frame, and are the domain's. XSA-107 and XSA-358 were about control blocks used before they were there. A link is the guest's to write: Xen reads it with its bounds, so that none can be wrong enough to be refused; the same holds for a tail that is no longer linked.",
		AUDIT,
	),
	PIRQ: text("Xen keeps the port with the PIRQ and the PIRQ with the port; each is found through the other.", AUDIT),
	VCPU: text("vCPUs are made in the order of their numbers, below the domain's max_vcpus.", WRITER),
	VCPU_STATE: text(
		"vcpu_info is registered once (VCPUOP_register_vcpu_info), inside one frame of the domain; Xen writes to it for as long as the domain lives. A living domain of which no vCPU can run would never wake.",
		AUDIT,
	),
	VCPU_CONTEXT: text(
		"A PV vCPU that was initialised (VCPUOP_initialise) has registers, up or down; an HVM one has its registers in HVM_CONTEXT, from which Xen's hvm_save leaves out only vCPUs that are down: one that is up and has none would start from nothing. Of xen_domctl_ext_vcpucontext (public/domctl.h) Xen writes up to 128 octets, and the 32 before its machine checks at least; a segment selector has 13 bits for its index.",
		AUDIT,
	),
	XSAVE: text(
		"XRSTOR faults on a header with components that XCR0 lacks, or with reserved octets that are not zero (Intel SDM volume 1, 13.8). Xen refuses such an area of a migration as well.",
		WRITER,
	),
	HVM_CONTEXT: text(
		"public/hvm/save.h: the context is a row of entries between HEADER and END. Xen walks it by their lengths, and takes none whose HEADER has another magic.",
		WRITER,
	),
	HVM_ONLY: text(
		"A PV guest has no P2M and no virtual hardware, an HVM one no trap table of Xen's: the other kind's record has nowhere to go.",
		WRITER,
	),
	DOMAIN_STATE: text("These are flags and small enumerations of Xen's own struct domain.", WRITER),
	IOREQ: text(
		"Xen lets one server claim an address, keeps its ranges apart, and sends it requests over the ports and pages that it has.",
		"Restart the device model that is named by its domain, or the domain; then save again.",
	),
	CAPS: text(
		"Xen keeps permitted ports, memory and interrupts as sets of ranges that neither touch nor overlap.",
		WRITER,
	),
	SHARED_INFO: text(
		"Every living domain has its shared_info frame from its creation on; time and events go through it.",
		AUDIT,
	),
	COUNT_OVERFLOW: text(
		"XSA-299 is the reason why counts are rebuilt and not copied: versions count differently. A sum that does not fit its field would wrap to a frame that is free while it is mapped.",
		"Have the domains that are named unmap what they share, or restart them; then save again.",
	),
	COMPARE: text(
		"Two images of one host are the same in all that a live update must preserve.",
		"After a restore it is a defect: report it with the table and the row. Between two hosts it is the answer.",
	),
	HVM_ENTRY: text(
		"Xen changes an entry by making it longer, so that a length stands for a version (public/arch-x86/hvm/save.h). Xen refuses a context with a type that it does not know.",
		"Update to a Xen that knows the entry, or restart the guest on the older one.",
	),
	HVM_INSTANCE: text(
		"The instance of an entry is a vCPU, or which of two PICs. Xen refuses an entry of a vCPU that does not exist, and saves registers of vCPUs that are up alone. It writes each entry once: of two the later would undo the earlier.",
		WRITER,
	),
	XCR0: text(
		"XSETBV takes no XCR0 without x87, with AVX but not SSE, or with a part of MPX, AVX-512 or AMX (Intel SDM volume 1, 13.3). CPUID leaf 0xD of the guest's policy says which components it has and where they end: xen#2 could not save again what the policy does not allow.",
		"Start xen#2 on the same processor with the same features; where the policy disagrees with the guest's state, restart the guest.",
	),
	IRQ: text(
		"An IO-APIC pin and an MSI lead to one host interrupt and its vector; vectors below 16 cannot be delivered. A function has MSI or MSI-X enabled, never both (PCI 3.0, 6.8).",
		"Take the device that is named away from its guest (`xl pci-detach`) and give it back; then save again.",
	),
	IRQ_OWNER: text(
		"An interrupt goes to the domain that has bound it, or to all that share it. One with two owners that do not share it would be acknowledged by one and lost for the other.",
		"Detach the device that raises it (`xl pci-detach`), then save again.",
	),
	DEVICE: text(
		"A device that two domains had could be made by one to write to the other's memory. Xen keeps one owner for each function; DOMID_IO has those that are quarantined.",
		"Detach the device (`xl pci-detach`, `xl pci-assignable-remove`), then save again.",
	),
	IOMMU: text(
		"IOMMU tables stay in place and go on translating while no hypervisor runs: they lie in frames that nobody else may use, and a domain number leads to one domain's tables alone. XSA-386 was a device with a reserved region (RMRR) whose IOMMU entry outlived the tables that it named. An identity map and the P2M must agree, or device and guest see different memory at one address.",
		"Detach the devices of the domain that is named, then save again; after XSA-386, install its fix first.",
	),
	VNUMA: text(
		"Xen takes a guest's virtual NUMA once, when its domain is built (XEN_DOMCTL_setvnumainfo), and the guest reads it again at any time (XENMEM_get_vnumainfo): numbers of nodes, vCPUs and distances, and ranges, must hold together. What the distances are is the configuration's (vdistances of xl.cfg), as it stands.",
		AUDIT,
	),
	SCHEDULER: text(
		"Weights, caps and reservations have a meaning to one scheduler alone, that of the domain's CPU pool, and Xen refuses values out of their ranges (XEN_DOMCTL_scheduler_op): credit and credit2 weights of 1 to 65535, RTDS budgets within their periods.",
		"Set the domain's share anew on the host that was saved (`xl sched-credit2`, `xl sched-credit`, `xl sched-rtds`), and save again.",
	),
};
