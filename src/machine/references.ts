/**
 * References as history would have made them, counted from a host's model: an account of its own, made by other code
 * than the core's, so that comparing the two means something. Rules: docs/FORMAT.md, "References that a restore rebuilds".
 * What a PV domain's own page tables hold is not counted.
 */
import { DOMID, FRAME, FRAME_OWNER_MASK, IOREQ_PAGE_FLAG, KIND, LIFE, NONE64, VCPU_FLAG } from "../format/enums.ts";
import type { DomainModel, HostModel } from "./model.ts";

export interface DomainSums {
	references: number;
	/** nr_pages: frames without xenheap and extra ones. */
	frames: number;
	xenheapFrames: number;
	extraFrames: number;
}

export interface References {
	/** Per MFN: page references, then type references. */
	readonly frames: Uint32Array;
	/** By domid. */
	readonly domains: ReadonlyMap<number, DomainSums>;
}

const big = (value: number | bigint | undefined): bigint => BigInt(value ?? 0);

export function countReferences(model: HostModel): References {
	const counts = new Uint32Array(model.frameOwners.length * 2);
	const domains = new Map<number, DomainSums>();
	for (const { domain } of model.domains) {
		domains.set(domain.domid, { references: 0, frames: 0, xenheapFrames: 0, extraFrames: 0 });
	}
	const add = (mfn: number | bigint | undefined, pages: number, types: number): void => {
		const index = big(mfn);
		if (index >= BigInt(model.frameOwners.length)) return;
		const at = Number(index) * 2;
		counts[at] = (counts[at] ?? 0) + pages;
		counts[at + 1] = (counts[at + 1] ?? 0) + types;
	};
	// Low halves alone, which hold all of an entry: a BigInt for each frame of a large host takes seconds.
	const { frameOwners } = model;
	const halves = new Uint32Array(frameOwners.buffer, frameOwners.byteOffset, 2 * frameOwners.length);
	for (let mfn = 0; mfn < frameOwners.length; mfn++) {
		const bits = halves[2 * mfn] as number;
		if (!(bits & FRAME.owned)) continue;
		const owner = bits & FRAME_OWNER_MASK;
		const isGuest = owner < DOMID.FIRST_RESERVED;
		const isXenheap = (bits & FRAME.xenheap) !== 0;
		counts[2 * mfn] = bits & FRAME.allocated ? 1 : 0;
		counts[2 * mfn + 1] = isXenheap && isGuest ? 1 : 0;
		const sums = domains.get(owner);
		if (!sums) continue;
		if (isXenheap) sums.xenheapFrames++;
		else if (bits & FRAME.extra) sums.extraFrames++;
		else sums.frames++;
	}
	const point = (domid: number | bigint | undefined): void => {
		const sums = domains.get(Number(domid ?? DOMID.INVALID));
		if (sums) sums.references++;
	};
	for (const domain of model.domains) {
		const sums = domains.get(domain.domain.domid) as DomainSums;
		sums.references += (domain.domain.life ?? LIFE.alive) === LIFE.alive ? 1 : 0;
		sums.references += (sums.frames > 0 ? 1 : 0) + (sums.xenheapFrames > 0 ? 1 : 0);
		countGrants(model, domain, add);
		for (const map of domain.foreignMapList ?? []) add(map.mfn, 1, 0);
		for (const id of domain.vcpuIds) {
			const vcpu = domain.vcpu[id];
			if (Number(vcpu?.flags ?? 0) & VCPU_FLAG.exists) add(vcpu?.vcpuInfoMfn ?? NONE64, 1, 1);
		}
		for (const block of domain.controlBlocks ?? []) add(block.mfn, 1, 1);
		for (const array of domain.eventArrays ?? []) add(array.mfn, 1, 1);
		add(domain.domainState.pirqEoiMfn ?? NONE64, 1, 1);
		for (const page of domain.ioreqPages ?? []) {
			add(page.mfn, Number(page.flags ?? 0) & IOREQ_PAGE_FLAG.resource ? 2 : 1, 1);
		}
		for (const server of domain.ioreqServerList ?? []) point(server.emulator);
		point(domain.domainState.target);
	}
	for (const handler of model.virqHandlers ?? []) point(handler.domid);
	return { frames: counts, domains };
}

type Add = (mfn: number | bigint | undefined, pages: number, types: number) => void;

/** A dead PV domain's frames carry a writable-type reference per writable mapping, a dead PVH domain's none. */
function countGrants(model: HostModel, domain: DomainModel, add: Add): void {
	for (const grant of domain.grantActive ?? []) {
		if (!grant) continue;
		const writable = Number(grant.hostWrite ?? 0) + Number(grant.deviceWrite ?? 0);
		const all = writable + Number(grant.hostRead ?? 0) + Number(grant.deviceRead ?? 0);
		const owner = Number(model.frameOwners[Number(grant.mfn ?? 0)] ?? 0n) & FRAME_OWNER_MASK;
		if (owner === DOMID.IO) continue;
		const typed = domain.domain.kind === KIND.pv || Number(grant.grantee) === domain.domain.domid;
		add(grant.mfn, all, typed ? writable : 0);
	}
}
