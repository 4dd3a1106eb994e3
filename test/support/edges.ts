/** Where a window may begin and where not, on both sides of each edge: of the memory and of the other windows. */
import type { Core, Window } from "../../src/core/load.ts";

export interface Edges {
	/** Beside an edge, without an octet between. */
	sound: [what: string, pointer: number][];
	/** 8 octets over one edge and over no other; or misaligned. `expected` and `got` are what isWindow and isApart say. */
	wrong: [what: string, pointer: number, fault: { expected: bigint; got: bigint }][];
}

/**
 * Hands out windows by their sizes, each with a gap before it and behind it that holds another window of `gap` octets: what
 * begins or ends in a gap meets one of them at most.
 */
export function withGaps<Name extends string>(core: Core, gap: number, sizes: Record<Name, number>) {
	core.allocate(gap);
	const windows = {} as Record<Name, Window>;
	for (const [name, length] of Object.entries(sizes) as [Name, number][]) {
		windows[name] = core.allocate(length);
		core.allocate(gap);
	}
	return windows;
}

/** The edges for a window of `bytes` octets, a multiple of 8, among others that stand with gaps as large as it. */
export function edgesOf(core: Core, heapBase: number, bytes: number, others: Record<string, Window>): Edges {
	const end = core.memoryBytes;
	const fault = (expected: number, got: number) => ({ expected: BigInt(expected), got: BigInt(got) });
	const sound: Edges["sound"] = [
		["at the heap's base", heapBase],
		["at the memory's end", end - bytes],
	];
	const wrong: Edges["wrong"] = [
		["misaligned", heapBase + 4, fault(8, 4)],
		["over the heap's base", heapBase - 8, fault(heapBase, heapBase - 8)],
		["over the memory's end", end - bytes + 8, fault(end, end + 8)],
	];
	for (const [name, { pointer, length }] of Object.entries(others)) {
		const behind = Math.ceil((pointer + length) / 8) * 8;
		sound.push([`before the ${name}`, pointer - bytes], [`behind the ${name}`, behind]);
		for (const at of [pointer - bytes + 8, behind - 8])
			wrong.push([`${at < pointer ? "before" : "behind"} the ${name} and into it`, at, fault(pointer + length, at)]);
	}
	return { sound, wrong };
}
