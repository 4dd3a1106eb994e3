/**
 * What PV page tables hold, for tests: read from page contents and registers by code that neither the core nor
 * src/machine has.
 */
import type { Updated } from "./hosts.ts";

/** All that a walked PV domain's page tables, pins and vCPUs hold in a restored image. */
export function heldByTables(updated: Updated, domid: number) {
	const held = new Map<number, { references: number; typeReferences: number }>();
	const hold = (mfn: number, typed: boolean) => {
		const { references, typeReferences } = held.get(mfn) ?? { references: 0, typeReferences: 0 };
		held.set(mfn, { references: references + 1, typeReferences: typeReferences + (typed ? 1 : 0) });
	};
	const entries: { table: number; level: number; target: number; writable: boolean }[] = [];
	const owners = new BigUint64Array(updated.octets("FrameOwners").buffer);
	const types = updated.octets("FrameTypes");
	const own = (mfn: number) => Number((owners[mfn] as bigint) & 0xffffn) === domid && (owners[mfn] as bigint) !== 0n;
	for (const [mfn, type] of types.entries()) {
		const level = type & 7;
		if (!own(mfn) || level < 1 || level > 4) continue;
		if (type & 8) hold(mfn, true);
		const page = updated.preserved(mfn);
		for (let slot = 0; slot < 512; slot++) {
			const entry = page.getBigUint64(8 * slot, true);
			if (entry % 2n === 0n || (level === 4 && slot >> 4 === 16)) continue;
			const target = Number(BigInt.asUintN(52, entry) >> 12n);
			const writable = (entry & 2n) === 2n;
			entries.push({ table: mfn, level, target, writable });
			hold(target, level > 1 || writable);
		}
	}
	for (const row of updated.bigRows("PvVcpu", domid)) {
		const registers = row as unknown as { cr: bigint[]; gdtMfn: bigint[]; gdtEntries: number };
		for (const root of [registers.cr[1], registers.cr[3]] as bigint[]) if (root > 0n) hold(Number(root / 4096n), true);
		for (const mfn of registers.gdtMfn.slice(0, (registers.gdtEntries + 511) / 512)) hold(Number(mfn), true);
	}
	for (const row of updated.bigRows("Pv32Vcpu", domid)) {
		const registers = row as unknown as { cr3: bigint; gdtMfn: bigint[]; gdtEntries: number };
		if (registers.cr3 > 0n) hold(Number(registers.cr3 / 4096n), true);
		for (const mfn of registers.gdtMfn.slice(0, (registers.gdtEntries + 511) / 512)) hold(Number(mfn), true);
	}
	const of = (mfn: number) => held.get(mfn) ?? { references: 0, typeReferences: 0 };
	const sum = { references: 0, typeReferences: 0 };
	for (const { references, typeReferences } of held.values()) {
		sum.references += references;
		sum.typeReferences += typeReferences;
	}
	return { of, sum, entries, owns: own };
}

/** Counts and some more. */
export const plus = (
	a: { references: number; typeReferences: number },
	references: number,
	typeReferences: number,
) => ({
	references: a.references + references,
	typeReferences: a.typeReferences + typeReferences,
});
