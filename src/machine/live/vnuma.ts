/**
 * A guest's virtual NUMA: what the toolstack says of it, and what the guest reads. Xen keeps it and makes nothing of it
 * itself: memory was populated by physical nodes before, which frames show.
 */
import { PAGE_BYTES } from "../guestPages.ts";
import { need, refuse } from "./errno.ts";
import type { Machine } from "./machine.ts";

/** Numbers of a stretch of memory in a list: its first frame, its frames, its virtual node. */
const RANGE_NUMBERS = 3;

export interface Vnuma {
	/** Physical node of each virtual one, all ones for none in particular. */
	readonly nodes: readonly number[];
	/** From node 0 to each, from node 1 to each, and so on. */
	readonly distances: readonly number[];
	/** Virtual node of each vCPU, those that do not exist yet included. */
	readonly vcpus: readonly number[];
	/** Of each stretch of memory three numbers. */
	readonly ranges: readonly number[];
}

/**
 * XEN_DOMCTL_setvnumainfo: all of it, in place of what there was. Nodes that there are not, and memory that does not ascend,
 * come of no toolstack and are refused here. @returns 0
 */
export function setVnuma(machine: Machine, domid: number, { nodes, distances, vcpus, ranges }: Vnuma): number {
	const { tables } = machine.living(domid);
	need(nodes.length > 0 && distances.length === nodes.length ** 2, "EINVAL");
	need(vcpus.length === tables.domain.maxVcpus && ranges.length % RANGE_NUMBERS === 0, "EINVAL");
	need(
		[...vcpus, ...ranges.filter((_, i) => i % RANGE_NUMBERS === 2)].every((node) => node < nodes.length),
		"EINVAL",
	);
	let next = 0;
	for (let i = 0; i < ranges.length; i += RANGE_NUMBERS) {
		const [first = 0, frames = 0] = ranges.slice(i, i + 2);
		need(first >= next && frames > 0, "EINVAL");
		next = first + frames;
	}
	tables.vnumaNodes = nodes.map((physicalNode) => ({ physicalNode }));
	tables.vnumaDistances = distances.map((distance) => ({ distance }));
	tables.vnumaVcpus = vcpus.map((node) => ({ node }));
	tables.vnumaRanges = [];
	for (let i = 0; i < ranges.length; i += RANGE_NUMBERS) {
		const [first = 0, frames = 0, node = 0] = ranges.slice(i, i + RANGE_NUMBERS);
		tables.vnumaRanges.push({
			start: BigInt(first) * BigInt(PAGE_BYTES),
			end: BigInt(first + frames) * BigInt(PAGE_BYTES),
			node,
			flags: 0,
		});
	}
	return 0;
}

/** XENMEM_get_vnumainfo, with room for all of it. @returns distances, virtual node of each vCPU, three numbers of each stretch */
export function getVnuma(machine: Machine, domid: number): number[] {
	const { tables } = machine.living(domid);
	if (tables.vnumaNodes.length === 0) refuse("EOPNOTSUPP");
	const frame = (address: bigint): number => Number(address / BigInt(PAGE_BYTES));
	return [
		...tables.vnumaDistances.map(({ distance }) => distance),
		...tables.vnumaVcpus.map(({ node }) => node),
		...tables.vnumaRanges.flatMap(({ start, end, node }) => [frame(start), frame(end - start), node]),
	];
}
