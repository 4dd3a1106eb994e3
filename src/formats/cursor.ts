/**
 * Bounded reading of a saved guest image that lies in memory, and the framing that libxl's and libxc's records share:
 * type u32, body length u32, body, padding to 8 octets (libxc-migration-stream section 4, libxl-migration-stream
 * section 4). Knows framing only; what a record means is known by the reader of its layer.
 */
import { XluError } from "../errors.ts";
import { hex } from "./common/findings.ts";
import { RECORD_ALIGNMENT, RECORD_HEADER_BYTES } from "./common/framing.ts";

/** The three formats that lie within each other in a file of `xl save`. */
export type ImageLayer = "xl" | "libxl" | "libxc";

/** One record of an image, as found. */
export interface ImageRecord {
	layer: ImageLayer;
	type: number;
	/** The specification's name, or `optional 0x...` for an optional record that is not known. */
	name: string;
	/** Octets from the start of the (unpacked) image to the record's header; for the xl header, 0. */
	offset: number;
	/** The body's length in octets, without header and padding. */
	length: number;
}

/** No real image comes near: libxc puts 1024 pages into a record. Keeps the list of records small for hostile input. */
const RECORD_LIMIT = 1 << 20;

const OPTIONAL_BIT = 0x80000000;

/** A record whose header is read and whose body and padding are known to lie within the image. */
export interface RecordFrame extends ImageRecord {
	/** Octets from the start of the image to the body. */
	bodyOffset: number;
	/** Octets from the start of the image to what follows the padding. */
	nextOffset: number;
	/** Whether the type is an optional one that is not known; such a record is to be skipped. */
	skipped: boolean;
}

export { hex };

/** A position in an image; every read is checked against the image's end. */
export class ImageCursor {
	readonly data: Uint8Array;
	readonly records: ImageRecord[] = [];
	offset: number;
	readonly #view: DataView;

	constructor(data: Uint8Array, offset = 0) {
		// Not a Buffer, whose slice() and JSON form differ: what readers hand out are plain Uint8Arrays.
		this.data = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
		this.offset = offset;
		this.#view = new DataView(data.buffer, data.byteOffset, data.byteLength);
	}

	get remaining(): number {
		return this.data.byteLength - this.offset;
	}

	/** An XLU_E_IMAGE error; not thrown here, so that the compiler sees the `throw` at the call. */
	error(place: string, offset: number, field: string, expected: string, got: string, cause?: unknown): XluError {
		return new XluError("XLU_E_IMAGE", `${place} at ${hex(offset)}: ${field}: expected ${expected}, got ${got}`, {
			record: place,
			offset,
			field,
			expected,
			got,
			cause,
		});
	}

	/** Refuses a truncated image: `lengthBytes` octets must follow the position. */
	need(lengthBytes: number, place: string): void {
		if (lengthBytes > this.remaining) {
			throw this.error(place, this.offset, "length", `${lengthBytes} octets`, `${this.remaining} before the end`);
		}
	}

	// The readers below take absolute offsets of octets that `need` or `readRecord` has already covered.

	u8(offset: number): number {
		return this.#view.getUint8(offset);
	}

	u16(offset: number): number {
		return this.#view.getUint16(offset, true);
	}

	u32(offset: number): number {
		return this.#view.getUint32(offset, true);
	}

	u64(offset: number): bigint {
		return this.#view.getBigUint64(offset, true);
	}

	/** Image headers are big-endian whatever the records are. */
	u16be(offset: number): number {
		return this.#view.getUint16(offset, false);
	}

	u32be(offset: number): number {
		return this.#view.getUint32(offset, false);
	}

	/** A view, no copy. */
	bytes(offset: number, lengthBytes: number): Uint8Array {
		return this.data.subarray(offset, offset + lengthBytes);
	}

	/** Notes a record (or header) in the list of what the image holds. */
	note(record: ImageRecord): void {
		if (this.records.length >= RECORD_LIMIT) {
			throw this.error(record.layer, record.offset, "records", `at most ${RECORD_LIMIT}`, "more");
		}
		this.records.push(record);
	}

	/**
	 * Reads a record's header, checks that body and padding lie within the image, and notes the record. The position
	 * stays: the caller moves it to `nextOffset` when it is done.
	 */
	readRecord(layer: ImageLayer, names: Readonly<Record<number, string>>): RecordFrame {
		const offset = this.offset;
		this.need(RECORD_HEADER_BYTES, `${layer} record header`);
		const type = this.u32(offset);
		const length = this.u32(offset + 4);
		const known = names[type];
		const skipped = known === undefined;
		if (skipped && type < OPTIONAL_BIT) {
			throw this.error(`${layer} record`, offset, "type", "a known mandatory record", hex(type));
		}
		const name = known ?? `optional ${hex(type)}`;
		const bodyOffset = offset + RECORD_HEADER_BYTES;
		const padded = Math.ceil(length / RECORD_ALIGNMENT) * RECORD_ALIGNMENT;
		const available = this.data.byteLength - bodyOffset;
		if (padded > available) {
			throw this.error(`${layer} ${name}`, offset, "body_length", `at most ${available} with padding`, String(length));
		}
		const record: ImageRecord = { layer, type, name, offset, length };
		this.note(record);
		return { ...record, bodyOffset, nextOffset: bodyOffset + padded, skipped };
	}

	/** An error about a field of `record`. */
	recordError(record: RecordFrame, field: string, expected: string, got: string): XluError {
		return this.error(`${record.layer} ${record.name}`, record.offset, field, expected, got);
	}

	/** Refuses a body that is not exactly `lengthBytes` long. */
	exactLength(record: RecordFrame, lengthBytes: number): void {
		if (record.length !== lengthBytes) {
			throw this.recordError(record, "body_length", String(lengthBytes), String(record.length));
		}
	}

	/** Refuses a body shorter than `lengthBytes`. */
	minimumLength(record: RecordFrame, lengthBytes: number): void {
		if (record.length < lengthBytes) {
			throw this.recordError(record, "body_length", `at least ${lengthBytes}`, String(record.length));
		}
	}
}
