/** A domain of a living machine: its tables, which operations change in place, and its counts, as history makes them. */
import { CREATE, FRAME, KIND, LIFE, PAGE_TYPE, VCPU_FLAG } from "../../format/enums.ts";
import type { DomainTables, Pv32VcpuRow, PvVcpuRow, VcpuRow } from "../readImage.ts";
import { need } from "./errno.ts";
import { P2mTables } from "./p2mTables.ts";

export class Domain {
	readonly tables: DomainTables;
	/** References to the domain itself; the last one lost, it is gone. */
	references: number;
	/** nr_pages, xenheap pages shared with it, extra pages. */
	frames = 0;
	xenheapFrames = 0;
	extraFrames = 0;
	#p2mTables: P2mTables | undefined;

	constructor(tables: DomainTables) {
		this.tables = tables;
		this.references = tables.references;
	}

	/** Page tables of its P2M, counted when they are first asked for. */
	get p2mTables(): P2mTables {
		this.#p2mTables ??= new P2mTables(this.tables.p2m);
		return this.#p2mTables;
	}

	forgetP2m(): void {
		this.#p2mTables = undefined;
	}

	get domid(): number {
		return this.tables.domain.domid;
	}

	get kind(): number {
		return this.tables.domain.kind;
	}

	/** Its frames are reached through a P2M of Xen's. */
	get isExternal(): boolean {
		return this.kind !== KIND.pv;
	}

	/** Octets of the guest's word: 4 or 8. */
	get guestWidth(): number {
		return this.tables.domain.guestWidth;
	}

	/** A 32-bit PV guest: page tables of three levels, contexts of their own. */
	get isNarrow(): boolean {
		return this.kind === KIND.pv && this.guestWidth === 4;
	}

	/** Level of the page tables that a PV guest's vCPUs run on. */
	get rootLevel(): number {
		return this.isNarrow ? PAGE_TYPE.l3 : PAGE_TYPE.l4;
	}

	get isDead(): boolean {
		return this.tables.domain.life === LIFE.dead;
	}

	get isPrivileged(): boolean {
		return (this.tables.domain.createFlags & CREATE.privileged) !== 0;
	}

	/**
	 * Counts one frame more or less of the kind that an owner entry tells.
	 * @returns how many there are now of those that hold a reference to the domain together: xenheap ones, or all others
	 */
	count(entry: number, step: 1 | -1): number {
		if (entry & FRAME.xenheap) {
			this.xenheapFrames += step;
			return this.xenheapFrames;
		}
		if (entry & FRAME.extra) this.extraFrames += step;
		else this.frames += step;
		return this.frames + this.extraFrames;
	}

	/** A vCPU that exists. */
	vcpu(id: number): VcpuRow {
		const row = this.tables.vcpu[id];
		need(row !== undefined, "ENOENT");
		return row;
	}

	/** Registers of an initialised vCPU of a 64-bit PV guest. */
	pvVcpu(id: number): PvVcpuRow {
		this.vcpu(id);
		const row = this.tables.pvVcpu[id];
		need(row !== undefined, "EINVAL");
		return row;
	}

	/** The same of a 32-bit one. */
	pv32Vcpu(id: number): Pv32VcpuRow {
		this.vcpu(id);
		const row = this.tables.pv32Vcpu[id];
		need(row !== undefined, "EINVAL");
		return row;
	}

	/** Registers of an initialised PV vCPU: what both widths have. */
	context(id: number): PvVcpuRow | Pv32VcpuRow {
		return this.isNarrow ? this.pv32Vcpu(id) : this.pvVcpu(id);
	}

	isOnline(id: number): boolean {
		const flags = this.tables.vcpu[id]?.flags ?? 0;
		return (flags & (VCPU_FLAG.exists | VCPU_FLAG.down)) === VCPU_FLAG.exists;
	}
}
