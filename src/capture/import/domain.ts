/** What a domain is beside its memory, channels, grants and vCPUs: identity, limits, state, permissions, policies. */
import {
	CAP,
	CREATE,
	DOMID,
	KIND,
	LIFE,
	NO_SHUTDOWN_CODE,
	NONE32,
	NONE64,
	SHUTDOWN_STATE,
} from "../../format/enums.ts";
import type { DomainModel } from "../../machine/model.ts";
import { XEN_START_32 } from "../../machine/pae.ts";
import type { CapturedDomain } from "../read.ts";
import { contradiction, hex, type Ledger, refusedByFormat } from "./ledger.ts";
import { cpuidRows, msrRows } from "./rows.ts";

/** XEN_X86_EMU bits that xl gives: all but the vPCI for HVM, the local APIC for PVH. */
const EMULATION_FLAGS: Readonly<Record<number, number>> = { [KIND.pv]: 0, [KIND.pvh]: 0x001, [KIND.hvm]: 0x3ff };
const GRANT_VERSION_LIMIT = 2;
const GUEST_WIDTH = 8;
/** Of a 32-bit PV guest. */
const NARROW_WIDTH = 4;
const DYING_HALFWAY = 1;
const PAUSED_IN_XEN = 4;
const U32_MASK = 0xffff_ffffn;

/** Refuses what the stream cannot carry. */
export function refuseUnsupported({ domid, info }: CapturedDomain): void {
	if (info.dying === DYING_HALFWAY) {
		throw refusedByFormat(domid, "dying", "0 (alive) or 2 (dead)", "1: its teardown is half done");
	}
	const inXen = info.vcpus.find(({ pauseFlags }) => (pauseFlags & PAUSED_IN_XEN) !== 0);
	if (inXen !== undefined && info.dying === 0) {
		throw refusedByFormat(domid, `vCPU ${inXen.id}`, "a vCPU that is not blocked in Xen", "pause_flags with bit 2");
	}
	if (info.pagingAssistance.includes("shadow")) {
		throw refusedByFormat(domid, "paging assistance", "hap", "shadow");
	}
	if (info.pagingAssistance.includes("log_dirty")) {
		throw refusedByFormat(domid, "paging assistance", "no log_dirty", "log_dirty: a migration is running");
	}
}

/** PV, PVH or HVM: only the image's configuration tells the last two apart, or else a device model. */
export function kindOf({ domid, kind, info, image, config }: CapturedDomain, ledger: Ledger): number {
	if (!info.pagingAssistance.includes("translate")) {
		return KIND.pv;
	}
	const type = image?.config?.type ?? config?.get("type");
	if (type === "hvm" || type === "pvh") {
		return KIND[type];
	}
	const hasDeviceModel = info.ioreqServers.length > 0 || (image?.emulators.length ?? 0) > 0;
	if (kind !== "dom0") {
		ledger.note(domid, "kind of guest", `derived: ${hasDeviceModel ? "HVM, it has" : "PVH, it has no"} device model`);
	}
	return hasDeviceModel ? KIND.hvm : KIND.pvh;
}

function handleOctets({ domid, info }: CapturedDomain): number[] {
	const octets = [...Buffer.from(info.handle.replaceAll("-", ""), "hex")];
	if (octets.length !== 16) {
		throw contradiction(domid, "handle", "a UUID", info.handle, "debugkey-q.txt");
	}
	return octets;
}

/** The domain as the other stages fill it: everything that does not depend on frames. */
export function draftDomain(captured: CapturedDomain, kind: number, ledger: Ledger): DomainModel {
	const { domid, info, image } = captured;
	const isDead = captured.kind === "dead";
	const model: DomainModel = {
		domain: {
			domid,
			kind,
			uniqueId: domid + 1,
			handle: handleOctets(captured),
			maxPages: info.maxPages,
			nodeAffinity: info.nodeAffinity.reduce((bits, node) => bits | (1n << BigInt(node)), 0n) & NONE64,
			life: isDead ? LIFE.dead : LIFE.alive,
			createFlags:
				(captured.kind === "dom0" ? CREATE.privileged | CREATE.hardware | CREATE.console : 0) |
				(info.pagingAssistance.includes("hap") ? CREATE.hap : 0),
			maxVcpus: Math.max(1, (info.vcpus.at(-1)?.id ?? -1) + 1),
			maxEvtchnPort: NONE32,
			grantVersionLimit: GRANT_VERSION_LIMIT,
			emulationFlags: EMULATION_FLAGS[kind] ?? 0,
			guestWidth: image?.pvInfo?.guestWidth ?? GUEST_WIDTH,
		},
		vcpuIds: [],
		vcpu: [],
		domainState: {
			controllerPauseCount: info.pauseCount,
			vmAssist: info.vmAssist & U32_MASK,
			creationFinished: 1,
			shutdownState: isDead ? SHUTDOWN_STATE.shutDown : SHUTDOWN_STATE.none,
			shutdownCode: NO_SHUTDOWN_CODE,
			target: DOMID.INVALID,
			pirqEoiMfn: NONE64,
			ioreqGfnBase: NONE64,
		},
		capRanges: (
			[
				[CAP.ioPort, info.ioPorts],
				[CAP.ioMemory, info.ioMemory],
				[CAP.interrupt, info.interrupts],
			] as const
		).flatMap(([capKind, ranges]) => ranges.map(({ start, end }) => ({ kind: capKind, first: start, last: end }))),
	};
	if (image?.pvInfo?.guestWidth === NARROW_WIDTH) {
		model.pv32 = { xenStart: XEN_START_32 };
	}
	if (image?.cpuidPolicy !== undefined) {
		model.cpuidLeaves = cpuidRows(image.cpuidPolicy);
	}
	if (image?.msrPolicy !== undefined) {
		model.msrPolicy = msrRows(image.msrPolicy);
	}
	if (image?.tscInfo !== undefined) {
		model.tsc = { ...image.tscInfo };
	}
	noteDomain(captured, model, ledger);
	return model;
}

function noteDomain({ domid, kind, info, image }: CapturedDomain, model: DomainModel, ledger: Ledger): void {
	ledger.note(domid, "unique domain identifier", `assigned: ${domid + 1}`);
	ledger.note(domid, "limit of grant-table versions, CPU pool, security identifier", "defaulted to 2, Pool-0, 0");
	if (model.domain.kind !== KIND.pv) {
		ledger.note(
			domid,
			"emulated devices",
			`defaulted to ${hex(Number(model.domain.emulationFlags))}, as xl gives them`,
		);
		ledger.note(domid, "word width of the guest", "defaulted to 64 bits");
	}
	if (model.pv32 !== undefined) {
		const start = hex(XEN_START_32);
		ledger.note(domid, "where Xen's part of its address space begins", `defaulted to ${start}: no image says`);
	}
	if (kind === "dom0") {
		ledger.note(domid, "creation flags", "defaulted to privileged, hardware domain, console");
		ledger.note(domid, "CPUID and MSR policies, TSC, extended state", "defaulted to none: no dump has dom0's");
	}
	if (kind === "dead") {
		ledger.note(domid, "shutdown state", "defaulted to shut down, reason unknown");
	} else {
		ledger.note(
			domid,
			"time offset, watchdogs, suspend port, PIRQ EOI map, target domain, memory map",
			"defaulted to none",
		);
	}
	if (kind === "guest" && (image?.cpuidPolicy === undefined || image.msrPolicy === undefined)) {
		ledger.note(domid, "CPUID and MSR policies", "defaulted to what the image has: not all of them");
	}
	if (info.vmAssist > U32_MASK) {
		ledger.note(domid, "VM assists above bit 31", `dropped: ${hex(info.vmAssist)}`);
	}
}
