/** How many page tables a P2M needs: a table is needed while it has an entry, and a superpage is an entry one level up. */
import { P2M_BITS } from "../../format/enums.ts";

/** GFNs that one page table maps: of L1, L2 and L3 tables. The root is always there. */
const TABLE_GFNS = [2 ** 9, 2 ** 18, 2 ** 27] as const;

export class P2mTables {
	/** By level: entries of each table that has any. */
	readonly #entries = TABLE_GFNS.map(() => new Map<number, number>());

	constructor(p2m: BigUint64Array | undefined) {
		p2m?.forEach((entry, gfn) => {
			this.#count(gfn, entry, 1);
		});
	}

	#count(gfn: number, entry: bigint, step: 1 | -1): void {
		if (entry === 0n) return;
		const order = Number(entry >> BigInt(P2M_BITS.order)) & 63;
		TABLE_GFNS.forEach((span, level) => {
			if (2 ** order >= span) return;
			const entries = this.#entries[level] as Map<number, number>;
			const table = Math.floor(gfn / span);
			const left = (entries.get(table) ?? 0) + step;
			if (left > 0) entries.set(table, left);
			else entries.delete(table);
		});
	}

	change(gfn: number, before: bigint, after: bigint): void {
		this.#count(gfn, before, -1);
		this.#count(gfn, after, 1);
	}

	/** Tables that the entries need, the root included. */
	get needed(): number {
		return this.#entries.reduce((sum, { size }) => sum + size, 1);
	}
}
