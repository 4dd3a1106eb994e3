/** A synthetic domain while it is made: its model, its frames, and what hands out ports, references and handles. */
import {
	CREATE,
	DOMID,
	EVTCHN_ABI,
	FRAME,
	KIND,
	LIFE,
	NO_SHUTDOWN_CODE,
	NONE32,
	NONE64,
	PAGE_TYPE,
	SHUTDOWN_STATE,
} from "../../format/enums.ts";
import { alignUp } from "../../format/layout.ts";
import type { Random } from "../../random.ts";
import { PAGE_BYTES } from "../guestPages.ts";
import type { DomainModel, PreservedPages } from "../model.ts";
import type { SyntheticFrames } from "./frames.ts";
import type { DomainFrames } from "./layouts.ts";
import type { SyntheticSpec } from "./spec.ts";

export type PortRow = NonNullable<NonNullable<DomainModel["ports"]>[number]>;
export type GrantRow = NonNullable<NonNullable<DomainModel["grantActive"]>[number]>;
export type MapRow = NonNullable<NonNullable<DomainModel["maptrack"]>[number]>;

/**
 * Parts of a domain's first small frames, by their place among them: entries of special types, frames that the
 * hypervisor has mapped, frames that others may have mapped. Every domain has as many frames as that.
 */
const SPECIAL_FIRST = 0x40;
const GRANTED = { first: 352, count: 112 } as const;
/** VGA's memory: an HVM guest has none of its own there. */
export const VGA_HOLE = { first: 0xa0, count: 0x20 } as const;

/** Octets of a guest's word. */
const WORD = { wide: 8, narrow: 4 } as const;
const GRANT_VERSION_LIMIT = 2;
const MAX_GRANT_FRAMES = 64;
const MAX_MAPTRACK_FRAMES = 4096;
/** XEN_X86_EMU bits that xl gives: all but the vPCI for HVM, the local APIC for PVH. */
const EMULATION_FLAGS: Readonly<Record<number, number>> = { [KIND.pv]: 0, [KIND.pvh]: 0x001, [KIND.hvm]: 0x3ff };
const PORT_STEP = 64;
/** Ports that a 32-bit guest's 2-level ABI has, less what closing and rounding leave out. */
const FEW_PORTS = 900;

/** Octets of the word of a guest of that role. */
function widthOf({ kind, index }: DomainRole, { width }: SyntheticSpec): number {
	if (kind !== KIND.pv || index < 0 || width === "64") return WORD.wide;
	// Every third guest is a PV one; each second one of these has FIFO channels.
	const turn = Math.floor(index / 3) % 4;
	return width === "32" || turn === 1 || turn === 2 ? WORD.narrow : WORD.wide;
}

/** Most ports that a guest binds: its channels, and what bindOwn gives each vCPU. */
const mostPorts = ({ ports, vcpus }: SyntheticSpec): number => 16 + ports + 6 * vcpus;

export interface DomainRole {
	domid: number;
	kind: number;
	/** Among the guests that live, from 0 up; -1 for dom0, -2 for the dead one. */
	index: number;
}

export class SyntheticDomain {
	readonly domid: number;
	readonly kind: number;
	readonly index: number;
	readonly isDead: boolean;
	/** Octets of its word. */
	readonly guestWidth: number;
	readonly isFifo: boolean;
	readonly grantVersion: 1 | 2;
	readonly memory: DomainFrames;
	readonly random: Random;
	readonly model: DomainModel;
	/** vCPUs that are not down. */
	readonly onlineVcpus: number;
	readonly vcpuCount: number;
	/** By number. */
	readonly ports: (PortRow | undefined)[] = [undefined];
	/** By reference. The first eight are the toolstack's. */
	readonly grants: (GrantRow | undefined)[] = [];
	/** GFN of each grant, by reference. */
	readonly grantGfns: number[] = [];
	readonly maps: MapRow[] = [];
	/** Frames of others that the host's tables map for it: one for each handle, and I/O pages acquired as a resource. */
	readonly mapped: { mfn: number; isWritable: boolean }[] = [];
	readonly #frames: SyntheticFrames;
	readonly #preserved: PreservedPages;
	readonly #stride: number;
	#sharedInfo: number | undefined;
	#special = SPECIAL_FIRST;
	#granted = 0;

	constructor(
		role: DomainRole,
		spec: SyntheticSpec,
		memory: DomainFrames,
		frames: SyntheticFrames,
		preserved: PreservedPages,
		random: Random,
	) {
		const { domid, kind, index } = role;
		this.domid = domid;
		this.kind = kind;
		this.index = index;
		this.isDead = index === -2;
		this.guestWidth = widthOf(role, spec);
		// dom0 has too many channels for bitmaps, as a rule, and so may a 32-bit guest, whose bitmaps are short; other guests take
		// turns, so that every kind has each of them.
		this.isFifo = domid === 0 || index % 2 === 0 || (this.isNarrow && 1.1 * mostPorts(spec) > FEW_PORTS);
		this.grantVersion = index > 0 && (index % 4 === 1 || index % 4 === 2) ? 2 : 1;
		this.vcpuCount = this.isDead ? 0 : spec.vcpus;
		this.onlineVcpus = index >= 0 && spec.vcpus > 1 ? spec.vcpus - 1 : this.vcpuCount;
		this.memory = memory;
		this.random = random;
		this.#frames = frames;
		this.#preserved = preserved;
		this.#stride = spec.layout === "adversarial" && kind !== KIND.pv ? 2 : 1;
		this.model = this.#identity(spec);
	}

	/** A 32-bit PV guest. */
	get isNarrow(): boolean {
		return this.guestWidth === WORD.narrow;
	}

	#identity(spec: SyntheticSpec): DomainModel {
		const { domid, kind, index, random } = this;
		const isDom0 = domid === 0;
		const isCrashed = index % 8 === 6;
		return {
			domain: {
				domid,
				kind,
				uniqueId: domid + 1,
				handle: Array.from({ length: 16 }, () => (isDom0 ? 0 : random.below(256))),
				maxPages: spec.memory / PAGE_BYTES + 1024,
				nodeAffinity: 1,
				life: this.isDead ? LIFE.dead : LIFE.alive,
				createFlags:
					(isDom0 ? CREATE.privileged | CREATE.hardware | CREATE.console : CREATE.iommu) |
					(kind === KIND.pv ? 0 : CREATE.hap),
				maxVcpus: Math.max(1, this.vcpuCount),
				maxEvtchnPort: isDom0 ? NONE32 : index % 5 === 4 ? 8191 : NONE32,
				maxGrantFrames: MAX_GRANT_FRAMES,
				maxMaptrackFrames: MAX_MAPTRACK_FRAMES,
				grantVersionLimit: GRANT_VERSION_LIMIT,
				emulationFlags: EMULATION_FLAGS[kind] ?? 0,
				cpupoolId: index % 8 === 7 ? 1 : 0,
				guestWidth: this.guestWidth,
			},
			vcpuIds: [],
			vcpu: [],
			domainState: {
				controllerPauseCount: index % 8 === 5 ? 1 : 0,
				vmAssist: kind === KIND.pv ? 0x2d : 0,
				creationFinished: 1,
				shutdownState: this.isDead || isCrashed ? SHUTDOWN_STATE.shutDown : SHUTDOWN_STATE.none,
				shutdownCode: isCrashed ? 3 : NO_SHUTDOWN_CODE,
				timeOffsetSec: index > 0 && index % 3 === 0 ? 3600 : 0,
				target: DOMID.INVALID,
				pirqEoiMfn: NONE64,
				ioreqGfnBase: NONE64,
			},
		};
	}

	// --- frames ---

	/** GFN of a small frame by its place, below 480: PV guests have no P2M here, so it is the MFN itself. */
	#gfnOf(place: number): number {
		if (this.kind === KIND.pv) return this.memory.small[place] as number;
		const isBehindHole = this.kind === KIND.hvm && this.#stride === 1 && place >= VGA_HOLE.first;
		return this.#stride * place + (isBehindHole ? VGA_HOLE.count : 0);
	}

	/** GFNs from one memory entry to the next. */
	get stride(): number {
		return this.#stride;
	}

	/** The next frame of ordinary memory for a use of the hypervisor's or the guest's kernel. */
	specialFrame(): { mfn: number; gfn: number } {
		const place = this.#special++;
		if (place >= GRANTED.first) throw new Error(`domain ${this.domid} has no special frames left`);
		return { mfn: this.memory.small[place] as number, gfn: this.#gfnOf(place) };
	}

	/** The next frame to be granted or mapped by others; after the last one, the first again. */
	sharedFrame(): { mfn: number; gfn: number } {
		const count = Math.min(GRANTED.count, this.memory.small.length);
		const place = (this.isDead ? 0 : GRANTED.first) + (this.#granted++ % count);
		return { mfn: this.memory.small[place] as number, gfn: this.#gfnOf(place) };
	}

	/** A special frame with a page in preserved memory, mapped writable by the hypervisor. */
	sharedPage(): { mfn: number; page: Uint8Array } {
		const { mfn } = this.specialFrame();
		this.writable(mfn);
		return { mfn, page: this.preserve(mfn) };
	}

	/** A frame's content in preserved memory, zero at first. */
	preserve(mfn: number): Uint8Array {
		const page = this.#preserved.get(mfn) ?? new Uint8Array(PAGE_BYTES);
		this.#preserved.set(mfn, page);
		return page;
	}

	/** A frame beside the domain's memory: xenheap, extra, or out of its P2M. */
	takeFrame(flags: number): number {
		return this.#frames.take(1, this.domid, flags);
	}

	/** Its shared_info, which it maps as well. */
	sharedInfoMfn(): number {
		this.#sharedInfo ??= this.takeFrame(FRAME.allocated | FRAME.xenheap);
		return this.#sharedInfo;
	}

	/** A page table of its own, beside its memory. */
	takeTable(): number {
		const { domain } = this.model;
		domain.maxPages = Number(domain.maxPages) + 1;
		return this.takeFrame(FRAME.allocated);
	}

	/** Page tables that Xen keeps for it: nobody's. */
	takeTables(count: number): number {
		return this.#frames.take(count);
	}

	setType(mfn: number, type: number, flags?: number): void {
		this.#frames.setType(mfn, type, flags);
	}

	writable(mfn: number): void {
		this.setType(mfn, PAGE_TYPE.writable);
	}

	// --- channels and grants ---

	/** Binds the next free port; now and then one is left out, as if it had been closed again. */
	bind(row: PortRow): number {
		if (this.random.chance(0.05)) this.ports.push(undefined);
		this.ports.push(row);
		return this.ports.length - 1;
	}

	/** Port table: as long as a multiple of 64. */
	closePorts(): void {
		const { ports, model } = this;
		const length = alignUp(ports.length, PORT_STEP);
		while (ports.length < length) ports.push(undefined);
		model.ports = ports;
		model.evtchn = { abi: this.isFifo ? EVTCHN_ABI.fifo : EVTCHN_ABI.twoLevel };
	}
}
