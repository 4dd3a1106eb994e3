/** libxc's policy and MSR records as rows of the schema. */
import { readStruct, type Struct } from "../../format/layout.ts";
import { structs } from "../../format/schema.ts";
import type { DomainModel } from "../../machine/model.ts";

function rowsOf(struct: Struct, octets: Uint8Array): object[] {
	const view = new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
	return Array.from({ length: Math.floor(octets.byteLength / struct.size) }, (_, index) =>
		readStruct(struct, view, index * struct.size),
	);
}

/** xen_cpuid_leaf_t, 24 octets each. */
export function cpuidRows(octets: Uint8Array): NonNullable<DomainModel["cpuidLeaves"]> {
	return rowsOf(structs.CpuidLeaf, octets);
}

/** xen_msr_entry_t and xen_domctl_vcpu_msr, 16 octets each. */
export function msrRows(octets: Uint8Array): NonNullable<DomainModel["msrPolicy"]> {
	return rowsOf(structs.MsrEntry, octets);
}
