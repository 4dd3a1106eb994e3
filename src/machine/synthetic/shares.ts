/**
 * What a host with 32-bit guests has besides, so that it has every record of version 2: virtual NUMA of these guests, and every
 * domain's share of its CPU pool; among the pools a third one, of reservations.
 */
import { NONE32, RTDS_FLAG, SCHEDULER } from "../../format/enums.ts";
import type { HostModel } from "../model.ts";
import type { SyntheticDomain } from "./domain.ts";
import type { SyntheticSpec } from "./spec.ts";

/** The pool of reservations, for 32-bit guests with FIFO channels. */
const RESERVED_POOL = 2;
const DISTANCE = { own: 10, other: 20, back: 21 } as const;
const RESERVATION = { periodUs: 10_000, budgetUs: 4000 } as const;
const USUAL_WEIGHT = 256;
/** A cap in hundredths of a CPU, which one guest in three has. */
const CAP = 150;

/** Gives 32-bit guests virtual NUMA and puts some into the pool of reservations; then every living domain has its share. */
export function addShares(
	domains: readonly SyntheticDomain[],
	spec: SyntheticSpec,
	pools: HostModel["poolList"],
): void {
	for (const domain of domains.filter(({ isDead }) => !isDead)) {
		const { model, index, isNarrow, isFifo } = domain;
		if (isNarrow) addNuma(domain, spec.memory);
		if (isNarrow && isFifo && model.domain.cpupoolId === 0) model.domain.cpupoolId = RESERVED_POOL;
		const pool = pools.find(({ poolId }) => poolId === model.domain.cpupoolId);
		const scheduler = Number(pool?.scheduler);
		const isWeighted = scheduler === SCHEDULER.credit2;
		model.scheduler = isWeighted
			? { scheduler, weight: USUAL_WEIGHT * (2 + (index % 2)), cap: index % 3 === 1 ? CAP : 0 }
			: { scheduler };
		if (scheduler === SCHEDULER.rtds) {
			model.schedulerVcpus = model.vcpuIds.map((vcpuId) => ({
				vcpuId,
				...RESERVATION,
				flags: vcpuId % 2 === 0 ? 0 : RTDS_FLAG.extraTime,
			}));
		}
	}
}

/** Two nodes, of which the second may be anywhere, with half of the memory and every second vCPU each. */
function addNuma({ model }: SyntheticDomain, memory: number): void {
	const half = Math.floor(memory / 2 / 4096) * 4096;
	model.vnumaNodes = [{ physicalNode: 0 }, { physicalNode: NONE32 }];
	model.vnumaDistances = [DISTANCE.own, DISTANCE.other, DISTANCE.back, DISTANCE.own].map((distance) => ({ distance }));
	model.vnumaVcpus = Array.from({ length: Number(model.domain.maxVcpus) }, (_, id) => ({ node: id % 2 }));
	model.vnumaRanges = [
		{ start: 0, end: half, node: 0 },
		{ start: half, end: memory, node: 1 },
	];
}

/** The pool, and how many CPUs it has. */
export const reservedPool = {
	row: { poolId: RESERVED_POOL, scheduler: SCHEDULER.rtds, granularity: 1 },
	cpus: 2,
} as const;
