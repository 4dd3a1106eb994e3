/**
 * The page that a guest shares with the hypervisor: struct shared_info of Xen's public interface (public/xen.h,
 * arch-x86/xen.h), of 64-bit and of 32-bit guests. The one place with these layouts; names are the header's, in camel case.
 */
import { array, bitmap, nested, reserved, sparse, u8, u32, u64 } from "../../format/fields.ts";
import { layOut, type Struct } from "../../format/layout.ts";

/** vCPUs whose vcpu_info stands in shared_info unless they register another place (XEN_LEGACY_MAX_VCPUS). */
export const LEGACY_VCPUS = 32;

export const vcpuTimeInfo = layOut("vcpu_time_info", "How a vCPU makes time of its TSC.", [
	u32("version", "Odd while it is written."),
	reserved("pad0", 4),
	u64("tscTimestamp", "TSC at the last update."),
	u64("systemTime", "Nanoseconds since boot, then."),
	u32("tscToSystemMul", "Nanoseconds of a tick, shifted and in 2^-32."),
	u8("tscShift", "By how much a difference of the TSC is shifted first.", "signed"),
	u8("flags", "Bit 0: the TSC is stable.", "hex"),
	reserved("pad1", 2),
]);

/** Octets of the guest's word: what most of the two layouts' difference is. */
type GuestWidth = 4 | 8;

const suffix = (width: GuestWidth) => (width === 8 ? "" : "_x86_32");
const word = <N extends string>(width: GuestWidth, name: N, doc: string) =>
	width === 8 ? u64(name, doc, "hex") : u32(name, doc, "hex");
const words = <N extends string>(width: GuestWidth, count: number, name: N, doc: string) =>
	width === 8 ? bitmap(array(count, u64(name, doc))) : bitmap(array(count, u32(name, doc)));

function vcpuInfoOf(width: GuestWidth): Struct {
	const arch = layOut(`arch_vcpu_info${suffix(width)}`, "x86's part.", [
		word(width, "cr2", "Address of the last page fault."),
		reserved("pad", width === 8 ? 8 : 20),
	]);
	return layOut(`vcpu_info${suffix(width)}`, "A vCPU's part of shared_info.", [
		u8("evtchnUpcallPending", "An event waits."),
		u8("evtchnUpcallMask", "No upcalls, please."),
		reserved("pad", width - 2),
		word(width, "evtchnPendingSel", "Words of evtchn_pending that have news."),
		nested("arch", arch, "x86's part."),
		nested("time", vcpuTimeInfo, "Time."),
	]);
}

function archSharedInfoOf(width: GuestWidth): Struct {
	const wordsOf = (name: string) => word(width, name, `${name}.`);
	return layOut(`arch_shared_info${suffix(width)}`, "x86's part.", [
		...["maxPfn", "pfnToMfnFrameListList", "nmiReason", "p2mCr3", "p2mVaddr", "p2mGeneration"].map(wordsOf),
		...(width === 4 ? [u32("wcSecHi", "Seconds of the wall clock, bits 63-32.")] : []),
	]);
}

function sharedInfoOf(width: GuestWidth, vcpuInfo: Struct, arch: Struct): Struct {
	return layOut(`shared_info${suffix(width)}`, "What every guest shares with the hypervisor.", [
		sparse("vcpuInfo", vcpuInfo, "vcpu_info of the first vCPUs.", LEGACY_VCPUS),
		words(width, 8 * width, "evtchnPending", "Ports that are pending (2-level)."),
		words(width, 8 * width, "evtchnMask", "Ports that are masked (2-level)."),
		u32("wcVersion", "Odd while the wall clock is written."),
		u32("wcSec", "The wall clock at system time 0: seconds, bits 31-0."),
		u32("wcNsec", "Nanoseconds."),
		...(width === 8 ? [u32("wcSecHi", "Seconds, bits 63-32.")] : []),
		nested("arch", arch, "x86's part."),
	]);
}

export const vcpuInfo = vcpuInfoOf(8);
export const vcpuInfo32 = vcpuInfoOf(4);
export const archSharedInfo32 = archSharedInfoOf(4);
export const sharedInfo = sharedInfoOf(8, vcpuInfo, archSharedInfoOf(8));
export const sharedInfo32 = sharedInfoOf(4, vcpuInfo32, archSharedInfo32);
