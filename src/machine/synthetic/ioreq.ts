/**
 * I/O request servers of a synthetic HVM guest: one of dom0's emulator, which has acquired the server's pages as a
 * resource, and for some guests one of a PVH domain that serves them as a stub domain. That one reaches the pages by GFN,
 * as of old: it has them and some of the guest's memory in its own P2M as foreign entries.
 */
import {
	BUFIOREQ,
	CONSUMER,
	FRAME,
	IOREQ_FLAG,
	IOREQ_PAGE,
	IOREQ_PAGE_FLAG,
	IOREQ_RANGE,
	NONE64,
} from "../../format/enums.ts";
import type { DomainModel } from "../model.ts";
import type { SyntheticDomain } from "./domain.ts";
import { connect } from "./events.ts";
import { ioreqGfn } from "./p2m.ts";

/** Frames of the guest's memory that a stub domain has mapped, beside the server's pages. */
const FOREIGN_FRAMES = 6;
const LEGACY_PAGES = 8;

/** Ranges by server: ports, memory, PCI functions. */
const RANGES = [
	[
		[IOREQ_RANGE.port, 0x1f0, 0x1f7],
		[IOREQ_RANGE.port, 0x3c0, 0x3df],
		[IOREQ_RANGE.port, 0xc200, 0xc21f],
		[IOREQ_RANGE.memory, 0xa0000, 0xbffff],
		[IOREQ_RANGE.memory, 0xf000_0000, 0xf1ff_ffff],
		[IOREQ_RANGE.pci, 0x8, 0x8],
		[IOREQ_RANGE.pci, 0x10, 0x10],
	],
	[
		[IOREQ_RANGE.port, 0x400, 0x40f],
		[IOREQ_RANGE.memory, 0xf300_0000, 0xf300_0fff],
		[IOREQ_RANGE.pci, 0x18, 0x18],
	],
] as const;

/**
 * Gives `guest` its servers.
 * @returns the frames that the stub domain's P2M maps of it
 */
export function makeServers(
	guest: SyntheticDomain,
	dom0: SyntheticDomain,
	stub: SyntheticDomain | undefined,
): { mfn: number; owner: number }[] {
	const { model, domid } = guest;
	const emulators = stub ? [dom0, stub] : [dom0];
	const ports: NonNullable<DomainModel["ioreqPorts"]>[number][] = [];
	const pages: NonNullable<DomainModel["ioreqPages"]>[number][] = [];
	const channel = (emulator: SyntheticDomain, vcpu: number): number =>
		connect(guest, emulator, { consumer: CONSUMER.ioreq, notifyVcpu: vcpu }).portA;
	model.ioreqServerList = emulators.map((emulator, serverId) => {
		for (let vcpuId = 0; vcpuId < guest.vcpuCount; vcpuId++) {
			ports.push({ serverId, vcpuId, port: channel(emulator, vcpuId) });
		}
		const isStub = emulator === stub;
		const base = isStub ? ioreqGfn(guest) : 0;
		for (const role of [IOREQ_PAGE.synchronous, IOREQ_PAGE.buffered]) {
			const mfn = guest.takeFrame(isStub ? FRAME.allocated : FRAME.allocated | FRAME.extra);
			guest.writable(mfn);
			if (!isStub) emulator.mapped.push({ mfn, isWritable: true });
			pages.push(
				isStub
					? { serverId, mfn, gfn: base + role, role, flags: 0 }
					: { serverId, mfn, gfn: NONE64, role, flags: IOREQ_PAGE_FLAG.resource },
			);
		}
		return {
			serverId,
			emulator: emulator.domid,
			bufferedMode: isStub ? BUFIOREQ.legacy : BUFIOREQ.atomic,
			flags: IOREQ_FLAG.enabled | (isStub ? IOREQ_FLAG.claimsWrites : 0),
			bufferedPort: channel(emulator, 0),
		};
	});
	model.ioreqPorts = ports;
	model.ioreqPages = pages;
	model.ioreqRanges = emulators.flatMap((_, serverId) =>
		(RANGES[serverId] as (typeof RANGES)[number]).map(([type, first, last]) => ({ serverId, type, first, last })),
	);
	if (!stub) return [];
	stub.model.domainState.target = domid;
	model.domainState.ioreqGfnBase = ioreqGfn(guest);
	model.domainState.ioreqGfnMask = (1 << LEGACY_PAGES) - 1 - 0b11;
	return [
		...pages.filter(({ serverId }) => serverId === 1).map(({ mfn }) => ({ mfn: Number(mfn), owner: domid })),
		...Array.from({ length: FOREIGN_FRAMES }, () => ({ mfn: guest.sharedFrame().mfn, owner: domid })),
	];
}
