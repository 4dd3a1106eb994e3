/** The libxc image that stands within a bundle, as items with offsets from its own start. */
import { alignUp, readStruct } from "../../format/layout.ts";
import { recordByType } from "../../format/schema.ts";
import { fieldsOf, namedRow } from "../../inspect/stream.ts";
import { RECORD_HEADER_BYTES } from "../common/framing.ts";
import type { Fields, Layer, StreamItem } from "../common/record.ts";
import { guestContext64 } from "../libxc/guestContext.ts";
import {
	LIBXC_DOMAIN_HEADER_BYTES,
	LIBXC_HEADER_BYTES,
	LIBXC_RECORD,
	libxcRecordNames,
	VCPU_CONTEXT_BYTES,
} from "../libxc/layout.ts";

/** What stands before the context in X86_PV_VCPU_BASIC: vcpu_id u32, reserved u32. */
const VCPU_HEADER_BYTES = 8;
const ALL_ROWS = Number.POSITIVE_INFINITY;

/** An item before it has a place in the bundle. */
export type NestedItem = Omit<StreamItem, "index" | "isLittle">;

const LAYER: Layer = "libxc";

function fieldsOfRecord(type: number, body: Uint8Array): Fields {
	const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
	if (type === LIBXC_RECORD.X86_PV_VCPU_BASIC && body.length === VCPU_HEADER_BYTES + VCPU_CONTEXT_BYTES[8]!) {
		const { fpu: _fpu, traps: _traps, ...row } = readStruct(guestContext64, view, VCPU_HEADER_BYTES);
		return { vcpuId: view.getUint32(0, true), ...namedRow(guestContext64, row) } as Fields;
	}
	// What the live-update stream shares with libxc is defined once.
	const def = type === LIBXC_RECORD.END ? undefined : recordByType(type);
	return def && body.length >= (def.head?.size ?? 0) ? (fieldsOf(def, body, ALL_ROWS) as Fields) : {};
}

/** Items of an image; one that is cut off ends the row. */
export function* libxcItems(image: Uint8Array): Generator<NestedItem> {
	const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
	const headers = LIBXC_HEADER_BYTES + LIBXC_DOMAIN_HEADER_BYTES;
	if (image.length < headers) return;
	yield {
		layer: LAYER,
		kind: "header",
		type: null,
		name: "header",
		offset: 0,
		length: headers,
		octets: image.subarray(0, headers),
		fields: { version: view.getUint32(12), type: view.getUint32(LIBXC_HEADER_BYTES, true) },
	};
	for (let at = headers; at + RECORD_HEADER_BYTES <= image.length; ) {
		const type = view.getUint32(at, true);
		const length = view.getUint32(at + 4, true);
		const end = at + RECORD_HEADER_BYTES + alignUp(length, 8);
		if (end > image.length) return;
		const body = image.subarray(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + length);
		yield {
			layer: LAYER,
			kind: "record",
			type,
			name: libxcRecordNames[type] ?? `unknown 0x${type.toString(16)}`,
			offset: at,
			length,
			octets: image.subarray(at, end),
			get fields() {
				return fieldsOfRecord(type, body);
			},
		};
		at = end;
	}
}
