/**
 * A host that lives: hypercalls, toolstack calls and guests' own writes change it, each with Xen's semantics and errno
 * (operations.ts lists them). Its state is what an image and memory hold, no more: a machine is made from any host or
 * image, and gives its host or image back at any time, so that what a live update must carry is all there is.
 *
 *     host or image ─ fromHost, fromImage ─> Machine ─ run(operation)... ─> host(), image()
 *
 * References are kept as history makes them, one operation after the other: never recounted from the tables. That is
 * what the counts that a restore rebuilds are compared with.
 */
import { DOMID, EVTCHN_ABI, FRAME, FRAME_OWNER_MASK, KIND, NONE64, PAGE_TYPE } from "../../format/enums.ts";
import type { Host } from "../../host.ts";
import { buildImage } from "../image.ts";
import type { HostModel, PreservedPages } from "../model.ts";
import type { Continuation, IoRequest } from "../quiesce.ts";
import { type ImageTables, readImage } from "../readImage.ts";
import type { DomainSums, References } from "../references.ts";
import { Domain } from "./domain.ts";
import { need, refuse } from "./errno.ts";
import { FrameTable } from "./frames.ts";
import { MachineMemory } from "./memory.ts";

const FIRST_USABLE = 0x100;

export class Machine {
	readonly name: string;
	readonly host: ImageTables["host"];
	readonly frames: FrameTable;
	readonly memory: MachineMemory;
	/** By ascending domid. */
	readonly domains: Map<number, Domain>;
	/** What goes on beside the state (activity.ts). */
	readonly requests: IoRequest[] = [];
	readonly continuations: Continuation[] = [];

	private constructor(name: string, tables: ImageTables, memory: MachineMemory) {
		this.name = name;
		this.host = tables.host;
		this.memory = memory;
		this.frames = new FrameTable(tables.owners, tables.types, tables.counts, (mfn, entry) => this.#release(mfn, entry));
		this.domains = new Map(tables.domains.map((entry) => [entry.domain.domid, new Domain(entry)]));
		this.#countFrames();
		this.#reserve();
	}

	/** A machine in the state of a captured, synthetic or saved host. */
	static fromHost({ name, model, preserved }: Host): Machine {
		return new Machine(name, readImage(buildImage(model, preserved)), new MachineMemory(preserved));
	}

	/**
	 * A machine in the state of an image: what xen#2 is after a restore.
	 * @param memory what stands in the machine's frames, which stays in place; the machine gets a copy
	 */
	static fromImage(name: string, image: Uint8Array, memory: MachineMemory): Machine {
		return new Machine(name, readImage(image), new MachineMemory(memory.pages));
	}

	#countFrames(): void {
		const { owners } = this.frames;
		for (let mfn = 0; mfn < owners.length; mfn++) {
			const entry = owners[mfn] as number;
			if (entry & FRAME.owned) this.domains.get(entry & FRAME_OWNER_MASK)?.count(entry, 1);
		}
	}

	/** What nobody owns and nobody may take. The first MiB is the firmware's and the devices', whether anybody said so or not. */
	#reserve(): void {
		for (let mfn = 0; mfn < FIRST_USABLE; mfn++) if (this.frames.isFree(mfn)) this.frames.reserved[mfn] = 1;
		const kept = [...this.domains.values()].flatMap(({ tables }) => tables.keptRanges);
		for (const range of [...this.host.regionList, ...(this.host.iommuRanges ?? []), ...kept]) {
			const first = Number(range.firstMfn);
			this.frames.reserved.fill(1, first, first + Number(range.frameCount));
		}
	}

	// --- state out ---

	/** The machine as a host; its own until the next operation. */
	toHost(): Host & { references: References } {
		const { owners, types, counts } = this.frames;
		const frameOwners = new BigUint64Array(owners.length);
		const halves = new Uint32Array(frameOwners.buffer);
		for (let mfn = 0; mfn < owners.length; mfn++) halves[2 * mfn] = owners[mfn] as number;
		const domains = [...this.domains.values()].sort((a, b) => a.domid - b.domid);
		const model: HostModel = {
			...this.host,
			frameOwners,
			frameTypes: types,
			domains: domains.map(({ tables }) => tables),
		};
		const sums = domains.map(({ domid, references, frames, xenheapFrames, extraFrames }): [number, DomainSums] => [
			domid,
			{ references, frames, xenheapFrames, extraFrames },
		]);
		return {
			name: this.name,
			model,
			preserved: this.preserved(),
			assumptions: [],
			references: { frames: counts, domains: new Map(sums) },
			activity: { requests: this.requests, continuations: this.continuations },
		};
	}

	/** Time passes until every emulator has answered: what an update waits for. */
	settle(): void {
		this.requests.length = 0;
	}

	/** The hypervisor's image, with the references that history made. */
	image(): Uint8Array<ArrayBuffer> {
		const { model, preserved, references } = this.toHost();
		return buildImage(model, preserved, references);
	}

	/** Pages whose content matters to the hypervisor's state: what a live update has to leave in place (S3). */
	preserved(): PreservedPages {
		const pages: PreservedPages = new Map();
		const keep = (mfn: bigint): void => {
			if (mfn !== NONE64) pages.set(Number(mfn), this.memory.page(Number(mfn)));
		};
		for (const { tables } of this.domains.values()) {
			for (const { mfn } of [...tables.grantFrames, ...tables.statusFrames]) keep(mfn);
			if (tables.sharedInfo) keep(tables.sharedInfo.mfn);
			for (const { mfn } of [...tables.controlBlocks, ...tables.eventArrays]) keep(mfn);
			for (const vcpu of tables.vcpu) if (vcpu) keep(vcpu.vcpuInfoMfn);
		}
		this.frames.types.forEach((entry, mfn) => {
			const type = entry & 7;
			if (type >= PAGE_TYPE.l1 && type <= PAGE_TYPE.l4) keep(BigInt(mfn));
		});
		return pages;
	}

	// --- domains ---

	/** A domain that exists, dead or alive. */
	domain(domid: number): Domain {
		const found = this.domains.get(domid);
		need(found !== undefined, "ESRCH");
		return found;
	}

	/** A domain that lives. */
	living(domid: number): Domain {
		const found = this.domain(domid);
		need(!found.isDead, "ESRCH");
		return found;
	}

	getDomain(domid: number): void {
		this.domain(domid).references++;
	}

	/** Drops a reference to a domain; the last one makes it vanish, and what it serves loses one in turn. */
	putDomain(domid: number): void {
		const domain = this.domains.get(domid);
		if (domain === undefined) throw new Error(`domain ${domid} has vanished while it was referred to`);
		if (--domain.references > 0) return;
		const { target } = domain.tables.domainState;
		this.domains.delete(domid);
		if (target !== DOMID.INVALID) this.putDomain(target);
	}

	// --- frames ---

	/** Gives a free frame to a domain: the first one of its kind takes a reference to the domain. */
	giveFrame(mfn: number, domain: Domain, flags = 0): void {
		this.frames.give(mfn, domain.domid, flags);
		if (domain.count(flags, 1) === 1) domain.references++;
	}

	/** Takes the lowest free frames for a domain. @returns the first MFN; ENOMEM if there are none */
	allocate(domain: Domain, flags = 0, order = 0): number {
		const first = this.frames.findFree(order);
		if (first === undefined) refuse("ENOMEM");
		for (let i = 0; i < 2 ** order; i++) this.giveFrame(first + i, domain, flags);
		return first;
	}

	/** A frame of Xen's heap that is shared with a domain: one reference, one to the type "writable". */
	allocateShared(domain: Domain): number {
		const mfn = this.allocate(domain, FRAME.xenheap);
		this.frames.startType(mfn, PAGE_TYPE.writable);
		return mfn;
	}

	/** Frees a frame of Xen's heap again. */
	freeShared(mfn: number): void {
		this.frames.dropType(mfn);
		this.frames.deallocate(mfn);
	}

	/** A frame has lost its last reference. */
	#release(mfn: number, entry: number): void {
		this.memory.scrub(mfn);
		const domid = entry & FRAME_OWNER_MASK;
		const domain = this.domains.get(domid);
		if (domain === undefined) return;
		if (domain.count(entry, -1) === 0) this.putDomain(domid);
	}

	/** Whether others' mappings of a frame take its writable type: not those of an external guest's. */
	isTypedFor(mfn: number, mapper: number): boolean {
		const owner = this.frames.ownerOf(mfn);
		if (owner === undefined || owner === mapper) return true;
		return !(this.domains.get(owner)?.isExternal ?? false);
	}

	// --- what every domain has ---

	/** A guest that lives and is PV. */
	pv(domid: number): Domain {
		const domain = this.living(domid);
		need(domain.kind === KIND.pv, "ENOSYS");
		return domain;
	}

	/** A guest that lives and has a P2M of Xen's. */
	external(domid: number): Domain {
		const domain = this.living(domid);
		need(domain.isExternal, "ENOSYS");
		return domain;
	}

	isFifo(domain: Domain): boolean {
		return domain.tables.evtchn?.abi === EVTCHN_ABI.fifo;
	}
}
