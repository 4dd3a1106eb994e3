/** A host with nothing on it but Xen: what domains are created on. */
import { DOMID, FEATURE, FRAME, REGION, SCHEDULER } from "../../format/enums.ts";
import { alignUp } from "../../format/layout.ts";
import type { Host } from "../../host.ts";

const FRAMES_2M = 512;
const LOW_FRAMES = 256;
/** The least that a hand-over needs. */
const BOOTMEM_FRAMES = 512;
const IMAGE_FRAMES = 512;
const REUSABLE_FRAMES = 128;
const M2P_ENTRIES_PER_FRAME = 512;
const CPU_KHZ = 2_596_118;
/** What Xen itself takes of a host, beside one M2P frame for 512 frames. */
export const XEN_FRAMES = FRAMES_2M + BOOTMEM_FRAMES + IMAGE_FRAMES + REUSABLE_FRAMES;

/**
 * Makes a host without domains.
 * @param frameCount frames of the machine; the lowest 1 MiB is devices', 4.5 MiB above are Xen's
 * @param cpuCount CPUs, in one pool
 */
export function emptyHost(frameCount: number, cpuCount = 4): Host {
	const frameOwners = new BigUint64Array(frameCount);
	const own = (first: number, count: number, domid: number, flags: number): void => {
		frameOwners.fill(BigInt(domid | FRAME.owned | FRAME.allocated | flags), first, first + count);
	};
	own(0, LOW_FRAMES, DOMID.IO, FRAME.xenheap);
	const bootmem = alignUp(LOW_FRAMES, FRAMES_2M);
	const image = bootmem + BOOTMEM_FRAMES;
	const reusable = image + IMAGE_FRAMES;
	const m2pFrames = Math.ceil(frameCount / M2P_ENTRIES_PER_FRAME);
	own(frameCount - m2pFrames, m2pFrames, DOMID.XEN, 0);
	return {
		name: `empty host of ${frameCount} frames`,
		model: {
			version: { xenMajor: 4, xenMinor: 17, moduleVersion: 1 },
			versionText: "Xen 4.17, living host",
			host: {
				systemTimeNs: 1_000_000_000n,
				wallclockSec: 1_700_000_000n,
				cpuKhz: CPU_KHZ,
				nextUniqueId: 1,
				cpuCount,
				features: FEATURE.hap | FEATURE.ioreqServers,
			},
			m2pRanges: [{ firstMfn: frameCount - m2pFrames, frameCount: m2pFrames }],
			regionList: [
				{ firstMfn: bootmem, frameCount: BOOTMEM_FRAMES, kind: REGION.bootmem },
				{ firstMfn: image, frameCount: IMAGE_FRAMES, kind: REGION.xenImage },
				{ firstMfn: reusable, frameCount: REUSABLE_FRAMES, kind: REGION.reusable },
			],
			poolList: [{ poolId: 0, scheduler: SCHEDULER.credit2, granularity: 1 }],
			poolCpus: Array.from({ length: cpuCount }, (_, cpu) => ({ poolId: 0, cpu })),
			frameOwners,
			frameTypes: new Uint8Array(frameCount),
			domains: [],
		},
		preserved: new Map(),
		assumptions: [],
	};
}
