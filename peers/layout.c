/*
 * Prints, as JSON, where Xen's public headers place what this project relies on: sizes and offsets of guest-visible
 * structures, and constants. layout.sh compiles it against the headers of libxen-dev; every number is the compiler's.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The tool stack's view: HVM parameters and page types are not shown to guests. */
#define __XEN_TOOLS__ 1
#include <xen/xen.h>
#include <xen/domctl.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/sched.h>
#include <xen/hvm/params.h>
#include <xen/hvm/save.h>
#include <xen/foreign/x86_32.h>

static const char *separator;

static void open_object(const char *name)
{
	printf("%s\n  \"%s\": {", separator, name);
	separator = "";
}

static void close_object(void)
{
	printf("\n  },");
	separator = "";
}

static void open_struct(const char *name, size_t size)
{
	printf("%s\n    \"%s\": { \"size\": %zu, \"fields\": {", separator, name, size);
	separator = "";
}

static void close_struct(void)
{
	printf(" } }");
	separator = ",";
}

static void field(const char *name, size_t offset, size_t size)
{
	printf("%s\n      \"%s\": { \"offset\": %zu, \"size\": %zu }", separator, name, offset, size);
	separator = ",";
}

static void constant(const char *name, unsigned long long value)
{
	printf("%s\n    \"%s\": %llu", separator, name, value);
	separator = ",";
}

static void save_type(const char *name, size_t code, size_t length)
{
	printf("%s\n    \"%s\": { \"code\": %zu, \"length\": %zu }", separator, name, code, length);
	separator = ",";
}

/* Bits of a structure that make up a bit-field: those that are set where it alone is all ones. */
static void bit_field(const char *name, const unsigned char *octets, size_t size)
{
	size_t at = 0, bits = 0;

	for (size_t bit = 0; bit < 8 * size; bit++) {
		if (!(octets[bit / 8] >> (bit % 8) & 1))
			continue;
		if (bits++ == 0)
			at = bit;
	}
	printf("%s\n    \"%s\": { \"at\": %zu, \"bits\": %zu }", separator, name, at, bits);
	separator = ",";
}

#define B(type, member)                                                              \
	do {                                                                         \
		union { type value; unsigned char octets[sizeof(type)]; } whole;     \
		memset(&whole, 0, sizeof(whole));                                    \
		whole.value.member = ~whole.value.member;                            \
		bit_field(#type "." #member, whole.octets, sizeof(whole));           \
	} while (0)
#define F(type, member) field(#member, offsetof(type, member), sizeof(((type *)0)->member))
#define C(name) constant(#name, (unsigned long long)(name))
#define H(name) save_type(#name, HVM_SAVE_CODE(name), HVM_SAVE_LENGTH(name))

static void structs(void)
{
	open_object("structs");

	open_struct("cpu_user_regs", sizeof(struct cpu_user_regs));
#define R(member) F(struct cpu_user_regs, member)
	R(r15); R(r14); R(r13); R(r12); R(rbp); R(rbx); R(r11); R(r10); R(r9); R(r8); R(rax); R(rcx); R(rdx); R(rsi);
	R(rdi); R(error_code); R(entry_vector); R(rip); R(cs); R(saved_upcall_mask); R(rflags); R(rsp); R(ss); R(es); R(ds); R(fs); R(gs);
#undef R
	close_struct();

	open_struct("trap_info", sizeof(struct trap_info));
#define T(member) F(struct trap_info, member)
	T(vector); T(flags); T(cs); T(address);
#undef T
	close_struct();

	open_struct("vcpu_guest_context", sizeof(struct vcpu_guest_context));
#define V(member) F(struct vcpu_guest_context, member)
	V(fpu_ctxt); V(flags); V(user_regs); V(trap_ctxt); V(ldt_base); V(ldt_ents); V(gdt_frames); V(gdt_ents); V(kernel_ss);
	V(kernel_sp); V(ctrlreg); V(debugreg); V(event_callback_eip); V(failsafe_callback_eip); V(syscall_callback_eip);
	V(vm_assist); V(fs_base); V(gs_base_kernel); V(gs_base_user);
#undef V
	close_struct();

	open_struct("arch_vcpu_info", sizeof(struct arch_vcpu_info));
	F(struct arch_vcpu_info, cr2);
	close_struct();

	open_struct("vcpu_time_info", sizeof(struct vcpu_time_info));
#define T(member) F(struct vcpu_time_info, member)
	T(version); T(tsc_timestamp); T(system_time); T(tsc_to_system_mul); T(tsc_shift); T(flags);
#undef T
	close_struct();

	open_struct("vcpu_info", sizeof(struct vcpu_info));
#define I(member) F(struct vcpu_info, member)
	I(evtchn_upcall_pending); I(evtchn_upcall_mask); I(evtchn_pending_sel); I(arch); I(time);
#undef I
	close_struct();

	open_struct("arch_shared_info", sizeof(struct arch_shared_info));
#define A(member) F(struct arch_shared_info, member)
	A(max_pfn); A(pfn_to_mfn_frame_list_list); A(nmi_reason); A(p2m_cr3); A(p2m_vaddr); A(p2m_generation);
#undef A
	close_struct();

	open_struct("shared_info", sizeof(struct shared_info));
#define S(member) F(struct shared_info, member)
	S(vcpu_info); S(evtchn_pending); S(evtchn_mask); S(wc_version); S(wc_sec); S(wc_nsec); S(wc_sec_hi); S(arch);
#undef S
	close_struct();

	open_struct("start_info", sizeof(struct start_info));
#define S(member) F(struct start_info, member)
	S(magic); S(nr_pages); S(shared_info); S(flags); S(store_mfn); S(store_evtchn); S(console.domU.mfn); S(console.domU.evtchn);
	S(pt_base); S(nr_pt_frames); S(mfn_list); S(mod_start); S(mod_len); S(cmd_line); S(first_p2m_pfn); S(nr_p2m_frames);
#undef S
	close_struct();

	open_struct("grant_entry_v1", sizeof(struct grant_entry_v1));
#define G(member) F(struct grant_entry_v1, member)
	G(flags); G(domid); G(frame);
#undef G
	close_struct();

	open_struct("grant_entry_v2", sizeof(union grant_entry_v2));
#define G(member) F(union grant_entry_v2, member)
	G(hdr.flags); G(hdr.domid); G(full_page.frame); G(sub_page.page_off); G(sub_page.length); G(sub_page.frame);
	G(transitive.trans_domid); G(transitive.gref);
#undef G
	close_struct();

	open_struct("grant_status", sizeof(grant_status_t));
	close_struct();

	open_struct("evtchn_fifo_control_block", sizeof(struct evtchn_fifo_control_block));
#define E(member) F(struct evtchn_fifo_control_block, member)
	E(ready); E(head);
#undef E
	close_struct();

	open_struct("event_word", sizeof(event_word_t));
	close_struct();

	open_struct("xen_cpuid_leaf", sizeof(xen_cpuid_leaf_t));
#define L(member) F(xen_cpuid_leaf_t, member)
	L(leaf); L(subleaf); L(a); L(b); L(c); L(d);
#undef L
	close_struct();

	open_struct("xen_msr_entry", sizeof(xen_msr_entry_t));
#define M(member) F(xen_msr_entry_t, member)
	M(idx); M(flags); M(val);
#undef M
	close_struct();

	open_struct("xen_domctl_vcpu_msr", sizeof(struct xen_domctl_vcpu_msr));
#define M(member) F(struct xen_domctl_vcpu_msr, member)
	M(index); M(value);
#undef M
	close_struct();

	open_struct("xen_domctl_ext_vcpucontext", sizeof(struct xen_domctl_ext_vcpucontext));
#define X(member) F(struct xen_domctl_ext_vcpucontext, member)
	X(vcpu); X(size); X(syscall32_callback_eip); X(sysenter_callback_eip); X(syscall32_callback_cs); X(sysenter_callback_cs);
	X(syscall32_disables_events); X(sysenter_disables_events); X(vmce);
#undef X
	close_struct();

	open_struct("cpu_user_regs_x86_32", sizeof(struct cpu_user_regs_x86_32));
#define R(member) F(struct cpu_user_regs_x86_32, member)
	R(ebx); R(ecx); R(edx); R(esi); R(edi); R(ebp); R(eax); R(error_code); R(entry_vector); R(eip); R(cs);
	R(saved_upcall_mask); R(eflags); R(esp); R(ss); R(es); R(ds); R(fs); R(gs);
#undef R
	close_struct();

	open_struct("trap_info_x86_32", sizeof(struct trap_info_x86_32));
#define T(member) F(struct trap_info_x86_32, member)
	T(vector); T(flags); T(cs); T(address);
#undef T
	close_struct();

	open_struct("vcpu_guest_context_x86_32", sizeof(struct vcpu_guest_context_x86_32));
#define V(member) F(struct vcpu_guest_context_x86_32, member)
	V(fpu_ctxt); V(flags); V(user_regs); V(trap_ctxt); V(ldt_base); V(ldt_ents); V(gdt_frames); V(gdt_ents); V(kernel_ss);
	V(kernel_sp); V(ctrlreg); V(debugreg); V(event_callback_cs); V(event_callback_eip); V(failsafe_callback_cs);
	V(failsafe_callback_eip); V(vm_assist);
#undef V
	close_struct();

	open_struct("arch_vcpu_info_x86_32", sizeof(struct arch_vcpu_info_x86_32));
	F(struct arch_vcpu_info_x86_32, cr2);
	close_struct();

	open_struct("vcpu_time_info_x86_32", sizeof(struct vcpu_time_info_x86_32));
#define T(member) F(struct vcpu_time_info_x86_32, member)
	T(version); T(tsc_timestamp); T(system_time); T(tsc_to_system_mul); T(tsc_shift); T(flags);
#undef T
	close_struct();

	open_struct("vcpu_info_x86_32", sizeof(struct vcpu_info_x86_32));
#define I(member) F(struct vcpu_info_x86_32, member)
	I(evtchn_upcall_pending); I(evtchn_upcall_mask); I(evtchn_pending_sel); I(arch); I(time);
#undef I
	close_struct();

	open_struct("arch_shared_info_x86_32", sizeof(struct arch_shared_info_x86_32));
#define A(member) F(struct arch_shared_info_x86_32, member)
	A(max_pfn); A(pfn_to_mfn_frame_list_list); A(nmi_reason); A(p2m_cr3); A(p2m_vaddr); A(p2m_generation); A(wc_sec_hi);
#undef A
	close_struct();

	open_struct("shared_info_x86_32", sizeof(struct shared_info_x86_32));
#define S(member) F(struct shared_info_x86_32, member)
	S(vcpu_info); S(evtchn_pending); S(evtchn_mask); S(wc_version); S(wc_sec); S(wc_nsec); S(arch);
#undef S
	close_struct();

	open_struct("hvm_save_descriptor", sizeof(struct hvm_save_descriptor));
#define D(member) F(struct hvm_save_descriptor, member)
	D(typecode); D(instance); D(length);
#undef D
	close_struct();

	open_struct("hvm_save_header", sizeof(struct hvm_save_header));
#define D(member) F(struct hvm_save_header, member)
	D(magic); D(version); D(changeset); D(cpuid); D(gtsc_khz);
#undef D
	close_struct();

	open_struct("hvm_hw_cpu", sizeof(struct hvm_hw_cpu));
#define U(member) F(struct hvm_hw_cpu, member)
	U(fpu_regs); U(rax); U(rbx); U(rcx); U(rdx); U(rbp); U(rsi); U(rdi); U(rsp); U(r8); U(r9); U(r10); U(r11); U(r12); U(r13);
	U(r14); U(r15); U(rip); U(rflags); U(cr0); U(cr2); U(cr3); U(cr4); U(dr0); U(dr1); U(dr2); U(dr3); U(dr6); U(dr7);
	U(cs_sel); U(ds_sel); U(es_sel); U(fs_sel); U(gs_sel); U(ss_sel); U(tr_sel); U(ldtr_sel);
	U(cs_limit); U(ds_limit); U(es_limit); U(fs_limit); U(gs_limit); U(ss_limit); U(tr_limit); U(ldtr_limit); U(idtr_limit);
	U(gdtr_limit); U(cs_base); U(ds_base); U(es_base); U(fs_base); U(gs_base); U(ss_base); U(tr_base); U(ldtr_base);
	U(idtr_base); U(gdtr_base); U(cs_arbytes); U(ds_arbytes); U(es_arbytes); U(fs_arbytes); U(gs_arbytes); U(ss_arbytes);
	U(tr_arbytes); U(ldtr_arbytes); U(sysenter_cs); U(sysenter_esp); U(sysenter_eip); U(shadow_gs); U(msr_lstar);
	U(msr_star); U(msr_cstar); U(msr_syscall_mask); U(msr_efer); U(msr_tsc_aux); U(tsc); U(pending_event); U(error_code);
	U(flags);
#undef U
	close_struct();

	open_struct("hvm_hw_cpu_compat", sizeof(struct hvm_hw_cpu_compat));
#define U(member) F(struct hvm_hw_cpu_compat, member)
	U(fpu_regs); U(rax); U(rbx); U(rcx); U(rdx); U(rbp); U(rsi); U(rdi); U(rsp); U(r8); U(r9); U(r10); U(r11); U(r12); U(r13);
	U(r14); U(r15); U(rip); U(rflags); U(cr0); U(cr2); U(cr3); U(cr4); U(dr0); U(dr1); U(dr2); U(dr3); U(dr6); U(dr7);
	U(cs_sel); U(ds_sel); U(es_sel); U(fs_sel); U(gs_sel); U(ss_sel); U(tr_sel); U(ldtr_sel);
	U(cs_limit); U(ds_limit); U(es_limit); U(fs_limit); U(gs_limit); U(ss_limit); U(tr_limit); U(ldtr_limit); U(idtr_limit);
	U(gdtr_limit); U(cs_base); U(ds_base); U(es_base); U(fs_base); U(gs_base); U(ss_base); U(tr_base); U(ldtr_base);
	U(idtr_base); U(gdtr_base); U(cs_arbytes); U(ds_arbytes); U(es_arbytes); U(fs_arbytes); U(gs_arbytes); U(ss_arbytes);
	U(tr_arbytes); U(ldtr_arbytes); U(sysenter_cs); U(sysenter_esp); U(sysenter_eip); U(shadow_gs); U(msr_lstar);
	U(msr_star); U(msr_cstar); U(msr_syscall_mask); U(msr_efer); U(tsc); U(pending_event); U(error_code);
#undef U
	close_struct();

	open_struct("hvm_hw_lapic", sizeof(struct hvm_hw_lapic));
#define P(member) F(struct hvm_hw_lapic, member)
	P(apic_base_msr); P(disabled); P(timer_divisor); P(tdt_msr);
#undef P
	close_struct();

	open_struct("hvm_hw_vpic", sizeof(struct hvm_hw_vpic));
#define P(member) F(struct hvm_hw_vpic, member)
	P(irr); P(imr); P(isr); P(irq_base); P(elcr); P(int_output);
#undef P
	close_struct();

	open_struct("hvm_hw_vioapic", sizeof(struct hvm_hw_vioapic));
#define I(member) F(struct hvm_hw_vioapic, member)
	I(base_address); I(ioregsel); I(id); I(redirtbl);
#undef I
	close_struct();

	open_struct("hvm_hw_lapic_regs", sizeof(struct hvm_hw_lapic_regs));
	F(struct hvm_hw_lapic_regs, data);
	close_struct();

	open_struct("hvm_hw_pci_irqs", sizeof(struct hvm_hw_pci_irqs));
	F(struct hvm_hw_pci_irqs, i);
	close_struct();

	open_struct("hvm_hw_isa_irqs", sizeof(struct hvm_hw_isa_irqs));
	F(struct hvm_hw_isa_irqs, i);
	close_struct();

	open_struct("hvm_hw_pci_link", sizeof(struct hvm_hw_pci_link));
	F(struct hvm_hw_pci_link, route);
	close_struct();

	open_struct("hvm_hw_pit_channel", sizeof(struct hvm_hw_pit_channel));
#define P(member) F(struct hvm_hw_pit_channel, member)
	P(count); P(latched_count); P(count_latched); P(status_latched); P(status); P(read_state); P(write_state);
	P(write_latch); P(rw_mode); P(mode); P(bcd); P(gate);
#undef P
	close_struct();

	open_struct("hvm_hw_pit", sizeof(struct hvm_hw_pit));
	F(struct hvm_hw_pit, channels); F(struct hvm_hw_pit, speaker_data_on);
	close_struct();

	open_struct("hvm_hw_rtc", sizeof(struct hvm_hw_rtc));
#define R(member) F(struct hvm_hw_rtc, member)
	R(cmos_data); R(cmos_index); R(rtc_offset);
#undef R
	close_struct();

	typedef __typeof__(((struct hvm_hw_hpet *)0)->timers[0]) hpet_timer;
	open_struct("hvm_hw_hpet_timer", sizeof(hpet_timer));
	F(hpet_timer, config); F(hpet_timer, cmp); F(hpet_timer, fsb);
	close_struct();

	open_struct("hvm_hw_hpet", sizeof(struct hvm_hw_hpet));
#define H_(member) F(struct hvm_hw_hpet, member)
	H_(capability); H_(config); H_(isr); H_(mc64); H_(timers); H_(period);
#undef H_
	close_struct();

	open_struct("hvm_hw_pmtimer", sizeof(struct hvm_hw_pmtimer));
#define P(member) F(struct hvm_hw_pmtimer, member)
	P(tmr_val); P(pm1a_sts); P(pm1a_en);
#undef P
	close_struct();

	open_struct("hvm_hw_mtrr", sizeof(struct hvm_hw_mtrr));
#define M(member) F(struct hvm_hw_mtrr, member)
	M(msr_pat_cr); M(msr_mtrr_var); M(msr_mtrr_fixed); M(msr_mtrr_cap); M(msr_mtrr_def_type);
#undef M
	close_struct();

	open_struct("hvm_viridian_domain_context", sizeof(struct hvm_viridian_domain_context));
#define V(member) F(struct hvm_viridian_domain_context, member)
	V(hypercall_gpa); V(guest_os_id); V(time_ref_count); V(reference_tsc);
#undef V
	close_struct();

	open_struct("hvm_viridian_vcpu_context", sizeof(struct hvm_viridian_vcpu_context));
#define V(member) F(struct hvm_viridian_vcpu_context, member)
	V(vp_assist_msr); V(apic_assist_pending); V(simp_msr); V(sint_msr); V(stimer_config_msr); V(stimer_count_msr);
#undef V
	close_struct();

	open_struct("hvm_vmce_vcpu", sizeof(struct hvm_vmce_vcpu));
#define V(member) F(struct hvm_vmce_vcpu, member)
	V(caps); V(mci_ctl2_bank0); V(mci_ctl2_bank1); V(mcg_ext_ctl);
#undef V
	close_struct();

	open_struct("hvm_tsc_adjust", sizeof(struct hvm_tsc_adjust));
	F(struct hvm_tsc_adjust, tsc_adjust);
	close_struct();

	open_struct("hvm_hw_cpu_xsave", sizeof(struct hvm_hw_cpu_xsave));
#define X(member) F(struct hvm_hw_cpu_xsave, member)
	X(xfeature_mask); X(xcr0); X(xcr0_accum); X(save_area);
#undef X
	close_struct();

	typedef __typeof__(((struct hvm_hw_cpu_xsave *)0)->save_area) save_area;
	open_struct("xsave_area", sizeof(save_area));
	F(save_area, fpu_sse); field("xstate_bv", offsetof(save_area, xsave_hdr.xstate_bv), 8);
	field("xcomp_bv", offsetof(save_area, xsave_hdr.xcomp_bv), 8);
	close_struct();

	open_struct("hvm_msr", sizeof(struct hvm_msr));
	F(struct hvm_msr, count);
	field("msr", offsetof(struct hvm_msr, msr), 0);
	close_struct();

	open_struct("hvm_one_msr", sizeof(struct hvm_one_msr));
#define M(member) F(struct hvm_one_msr, member)
	M(index); M(val);
#undef M
	close_struct();

	close_object();
}

static void hvm_save(void)
{
	open_object("hvmSave");
	H(END); H(HEADER); H(CPU); H(PIC); H(IOAPIC); H(LAPIC); H(LAPIC_REGS); H(PCI_IRQ); H(ISA_IRQ); H(PCI_LINK); H(PIT); H(RTC);
	H(HPET); H(PMTIMER); H(MTRR); H(VIRIDIAN_DOMAIN); H(VIRIDIAN_VCPU); H(VMCE_VCPU); H(TSC_ADJUST);
	/* Of these two the length varies: what is printed is that without any extended state or MSR. */
	save_type("CPU_XSAVE", CPU_XSAVE_CODE, sizeof(struct hvm_hw_cpu_xsave));
	save_type("CPU_MSR", CPU_MSR_CODE, offsetof(struct hvm_msr, msr));
	close_object();
}

static void bit_fields(void)
{
	open_object("bitFields");
#define P(member) B(struct hvm_hw_vpic, member)
	P(init_state); P(priority_add); P(readsel_isr); P(poll); P(auto_eoi); P(rotate_on_auto_eoi); P(special_fully_nested_mode);
	P(special_mask_mode); P(is_master);
#undef P
	close_object();
}

static void constants(void)
{
	open_object("constants");

	C(DOMID_FIRST_RESERVED); C(DOMID_SELF); C(DOMID_IO); C(DOMID_XEN); C(DOMID_COW); C(DOMID_INVALID); C(DOMID_IDLE);
	C(XEN_LEGACY_MAX_VCPUS);

	C(VGCF_i387_valid); C(VGCF_in_kernel); C(VGCF_failsafe_disables_events); C(VGCF_syscall_disables_events); C(VGCF_online);
	C(VGCF_in_syscall);
	C(VMASST_TYPE_4gb_segments); C(VMASST_TYPE_4gb_segments_notify); C(VMASST_TYPE_writable_pagetables);
	C(VMASST_TYPE_pae_extended_cr3); C(VMASST_TYPE_architectural_iopl); C(VMASST_TYPE_runstate_update_flag);
	C(VMASST_TYPE_m2p_strict);

	C(GNTTAB_NR_RESERVED_ENTRIES); C(GNTTAB_RESERVED_CONSOLE); C(GNTTAB_RESERVED_XENSTORE);
	C(GTF_invalid); C(GTF_permit_access); C(GTF_accept_transfer); C(GTF_transitive); C(GTF_type_mask); C(GTF_readonly);
	C(GTF_reading); C(GTF_writing); C(GTF_PWT); C(GTF_PCD); C(GTF_PAT); C(GTF_sub_page); C(GTF_transfer_committed); C(GTF_transfer_completed);
	C(GNTMAP_device_map); C(GNTMAP_host_map); C(GNTMAP_readonly); C(GNTMAP_application_map); C(GNTMAP_contains_pte);

	C(EVTCHNSTAT_closed); C(EVTCHNSTAT_unbound); C(EVTCHNSTAT_interdomain); C(EVTCHNSTAT_pirq); C(EVTCHNSTAT_virq);
	C(EVTCHNSTAT_ipi);
	C(EVTCHN_2L_NR_CHANNELS); C(EVTCHN_FIFO_PRIORITY_MAX); C(EVTCHN_FIFO_PRIORITY_DEFAULT); C(EVTCHN_FIFO_PRIORITY_MIN);
	C(EVTCHN_FIFO_MAX_QUEUES); C(EVTCHN_FIFO_PENDING); C(EVTCHN_FIFO_MASKED); C(EVTCHN_FIFO_LINKED); C(EVTCHN_FIFO_BUSY);
	C(EVTCHN_FIFO_LINK_BITS); C(EVTCHN_FIFO_LINK_MASK); C(EVTCHN_FIFO_NR_CHANNELS);

	C(VIRQ_TIMER); C(VIRQ_DEBUG); C(VIRQ_CONSOLE); C(VIRQ_DOM_EXC); C(VIRQ_TBUF); C(VIRQ_DEBUGGER); C(VIRQ_XENOPROF);
	C(VIRQ_CON_RING); C(VIRQ_PCPU_STATE); C(VIRQ_MEM_EVENT); C(VIRQ_ARGO); C(VIRQ_ENOMEM); C(VIRQ_XENPMU); C(VIRQ_ARCH_0);
	C(VIRQ_ARCH_1); C(VIRQ_ARCH_2); C(VIRQ_ARCH_3); C(VIRQ_ARCH_4); C(VIRQ_ARCH_5); C(VIRQ_ARCH_6); C(VIRQ_ARCH_7);
	C(NR_VIRQS);

	C(HVM_PARAM_CALLBACK_IRQ); C(HVM_PARAM_STORE_PFN); C(HVM_PARAM_STORE_EVTCHN); C(HVM_PARAM_PAE_ENABLED);
	C(HVM_PARAM_IOREQ_PFN); C(HVM_PARAM_BUFIOREQ_PFN); C(HVM_PARAM_VIRIDIAN); C(HVM_PARAM_TIMER_MODE);
	C(HVM_PARAM_HPET_ENABLED); C(HVM_PARAM_IDENT_PT); C(HVM_PARAM_DM_DOMAIN); C(HVM_PARAM_ACPI_S_STATE);
	C(HVM_PARAM_VM86_TSS); C(HVM_PARAM_VPT_ALIGN); C(HVM_PARAM_CONSOLE_PFN); C(HVM_PARAM_CONSOLE_EVTCHN);
	C(HVM_PARAM_ACPI_IOPORTS_LOCATION); C(HVM_PARAM_MEMORY_EVENT_CR0); C(HVM_PARAM_MEMORY_EVENT_CR3);
	C(HVM_PARAM_MEMORY_EVENT_CR4); C(HVM_PARAM_MEMORY_EVENT_INT3); C(HVM_PARAM_NESTEDHVM);
	C(HVM_PARAM_MEMORY_EVENT_SINGLE_STEP); C(HVM_PARAM_BUFIOREQ_EVTCHN); C(HVM_PARAM_PAGING_RING_PFN);
	C(HVM_PARAM_MONITOR_RING_PFN); C(HVM_PARAM_SHARING_RING_PFN); C(HVM_PARAM_MEMORY_EVENT_MSR);
	C(HVM_PARAM_TRIPLE_FAULT_REASON); C(HVM_PARAM_IOREQ_SERVER_PFN); C(HVM_PARAM_NR_IOREQ_SERVER_PAGES);
	C(HVM_PARAM_VM_GENERATION_ID_ADDR); C(HVM_PARAM_ALTP2M); C(HVM_PARAM_X87_FIP_WIDTH); C(HVM_PARAM_VM86_TSS_SIZED);
	C(HVM_PARAM_MCA_CAP); C(HVM_NR_PARAMS);
	C(HVM_FILE_MAGIC); C(HVM_FILE_VERSION); C(HVM_SAVE_CODE_MAX); C(XEN_X86_FPU_INITIALISED);

	C(XEN_CPUID_NO_SUBLEAF);
	C(SHUTDOWN_poweroff); C(SHUTDOWN_reboot); C(SHUTDOWN_suspend); C(SHUTDOWN_crash); C(SHUTDOWN_watchdog);
	C(SHUTDOWN_soft_reset);

	C(XEN_DOMCTL_PFINFO_NOTAB); C(XEN_DOMCTL_PFINFO_L1TAB); C(XEN_DOMCTL_PFINFO_L2TAB); C(XEN_DOMCTL_PFINFO_L3TAB);
	C(XEN_DOMCTL_PFINFO_L4TAB); C(XEN_DOMCTL_PFINFO_LPINTAB); C(XEN_DOMCTL_PFINFO_BROKEN); C(XEN_DOMCTL_PFINFO_XALLOC);
	C(XEN_DOMCTL_PFINFO_XTAB); C(XEN_DOMCTL_PFINFO_LTAB_MASK);

	close_object();
}

int main(int argc, char **argv)
{
	separator = "";
	printf("{\n  \"xen\": \"%s\",\n  \"abi\": \"x86_64\",", argc > 1 ? argv[1] : "unknown");
	structs();
	hvm_save();
	bit_fields();
	constants();
	/* The last object's comma: one more member, so that no special case is needed. */
	printf("\n  \"interfaceVersion\": %llu\n}\n", (unsigned long long)__XEN_LATEST_INTERFACE_VERSION__);
	return 0;
}
