/**
 * The HVM context: a row of entries {type u16, instance u16, length u32, body}, HEADER first, END last
 * (public/hvm/save.h). layout.ts has what stands in them.
 */
import { hvmDescriptor, hvmEntryTypes } from "./layout.ts";

export { hvmCpu, hvmEntryTypes } from "./layout.ts";

export const HVM_DESCRIPTOR_BYTES = hvmDescriptor.size;

export interface HvmEntry {
	type: number;
	name: string;
	instance: number;
	/** Octets from the context's start to the entry's descriptor. */
	offset: number;
	/** Octets of the body. */
	length: number;
	body: Uint8Array;
}

/** The entries, as far as they are whole: what is damaged the check says, this shows what is there. */
export function readHvmContext(context: Uint8Array): HvmEntry[] {
	const view = new DataView(context.buffer, context.byteOffset, context.byteLength);
	const entries: HvmEntry[] = [];
	for (let offset = 0; offset + HVM_DESCRIPTOR_BYTES <= context.length; ) {
		const type = view.getUint16(offset, true);
		const length = view.getUint32(offset + 4, true);
		const from = offset + HVM_DESCRIPTOR_BYTES;
		if (length > context.length - from) break;
		const body = context.subarray(from, from + length);
		const name = hvmEntryTypes[type]?.name ?? `type ${type}`;
		entries.push({ type, name, instance: view.getUint16(offset + 2, true), offset, length, body });
		if (type === 0) break;
		offset = from + length;
	}
	return entries;
}
