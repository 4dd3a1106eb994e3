/**
 * A PV guest's registers as fields, and back: contents of its vCPUs' records and its shared_info, x86's own and little-endian
 * whatever the stream is. Legacy images have the same. What is too short for its structure is octets.
 */
import type { Struct } from "../../format/layout.ts";
import type { Fields } from "../common/record.ts";
import { type FieldReader, hexOf, structFields, structOctets, viewOf } from "../common/values.ts";
import { xsaveArea } from "../x86/fpu.ts";
import { extVcpuContext, guestContext64 } from "./guestContext.ts";
import { guestContext32 } from "./guestContext32.ts";
import { PAGE_BYTES, VCPU_CONTEXT_BYTES } from "./layout.ts";
import { sharedInfo, sharedInfo32 } from "./sharedInfo.ts";

const isZero = (octets: Uint8Array) => octets.every((octet) => octet === 0);

/** vcpu_guest_context: `registers`, and `traps` beside them; its length says whose it is. */
export function contextFields(octets: Uint8Array): Fields {
	const struct =
		octets.length === VCPU_CONTEXT_BYTES[8]
			? guestContext64
			: octets.length === VCPU_CONTEXT_BYTES[4]
				? guestContext32
				: undefined;
	if (!struct) return { context: hexOf(octets) };
	const { traps, ...registers } = structFields(struct, octets);
	return { registers, traps };
}

export function contextOctets(fields: FieldReader): Uint8Array {
	if (fields.fields.registers === undefined) return fields.octets("context");
	const { fields: registers } = fields.row("registers");
	const struct = registers.eip === undefined ? guestContext64 : guestContext32;
	return structOctets(struct, fields.with({ ...registers, traps: fields.fields.traps ?? [] }));
}

/** A structure and what follows it as `rest`; as octets under `name` where it is not whole. */
function headFields(name: string, struct: Struct, rest: string, octets: Uint8Array): Fields {
	if (octets.length < struct.size) return { [name]: hexOf(octets) };
	const behind = octets.subarray(struct.size);
	return { [name]: structFields(struct, octets), ...(behind.length > 0 ? { [rest]: hexOf(behind) } : {}) };
}

function headOctets(name: string, struct: Struct, rest: string, fields: FieldReader): Uint8Array {
	if (typeof fields.fields[name] === "string") return fields.octets(name);
	return Buffer.concat([structOctets(struct, fields.row(name)), fields.octets(rest, "")]);
}

export const extendedFields = (octets: Uint8Array): Fields => headFields("context", extVcpuContext, "rest", octets);
export const extendedOctets = (fields: FieldReader): Uint8Array =>
	headOctets("context", extVcpuContext, "rest", fields);

/** An XSAVE area: `area` up to its header, the components that this announces as `extended`. */
export const xsaveFields = (octets: Uint8Array): Fields => headFields("area", xsaveArea, "extended", octets);
export const xsaveOctets = (fields: FieldReader): Uint8Array => headOctets("area", xsaveArea, "extended", fields);

/** Octets in front of the area in X86_PV_VCPU_XSAVE: xcr0, and all of it that was ever set. */
const XSAVE_HEAD_BYTES = 16;

export function vcpuXsaveFields(octets: Uint8Array): Fields {
	if (octets.length < XSAVE_HEAD_BYTES) return { context: hexOf(octets) };
	const hex = (at: number) => `0x${viewOf(octets).getBigUint64(at, true).toString(16)}`;
	const area = octets.subarray(XSAVE_HEAD_BYTES);
	return { xcr0: hex(0), xcr0Accum: hex(8), size: area.length, ...xsaveFields(area) };
}

export function vcpuXsaveOctets(fields: FieldReader): Uint8Array {
	if (fields.fields.xcr0 === undefined) return fields.octets("context");
	const head = new Uint8Array(XSAVE_HEAD_BYTES);
	viewOf(head).setBigUint64(0, fields.number("xcr0", 64), true);
	viewOf(head).setBigUint64(8, fields.number("xcr0Accum", 64), true);
	return Buffer.concat([head, xsaveOctets(fields)]);
}

/** The page as its structure; what follows that as `rest` unless it is zero. `page` where the guest's width is not known. */
export function sharedInfoFields(page: Uint8Array, guestWidth: 4 | 8 | undefined): Fields {
	const struct = guestWidth === 4 ? sharedInfo32 : sharedInfo;
	if (guestWidth === undefined || page.length < struct.size) return { page: hexOf(page) };
	const behind = page.subarray(struct.size);
	const rest = page.length === PAGE_BYTES && isZero(behind) ? {} : { rest: hexOf(behind) };
	return { guestWidth, ...structFields(struct, page), ...rest };
}

export function sharedInfoOctets(fields: FieldReader): Uint8Array {
	if (fields.fields.page !== undefined) return fields.octets("page");
	const head = structOctets(fields.number("guestWidth", 8) === 4n ? sharedInfo32 : sharedInfo, fields);
	if (fields.fields.rest !== undefined) return Buffer.concat([head, fields.octets("rest")]);
	const page = new Uint8Array(PAGE_BYTES);
	page.set(head);
	return page;
}
