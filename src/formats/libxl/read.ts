/**
 * Reads a libxl stream (libxl-migration-stream, version 2) with the libxc image inside it. A checkpointed stream
 * alternates: libxc up to CHECKPOINT, libxl up to CHECKPOINT_END, libxc again, until both have had their END.
 * Every fault is an XLU_E_IMAGE with offset, expected and got.
 */
import { RECORD_HEADER_BYTES } from "../common/framing.ts";
import { hex, type ImageCursor, type RecordFrame } from "../cursor.ts";
import { type LibxcImage, LibxcReader } from "../libxc/read.ts";
import {
	EMULATOR_HEADER_BYTES,
	isCheckpointState,
	LIBXL_HEADER_BYTES,
	LIBXL_IDENT,
	LIBXL_OPTION_BIG_ENDIAN,
	LIBXL_RECORD,
	LIBXL_VERSION,
	libxlRecordNames,
} from "./layout.ts";

/** EMULATOR_XENSTORE_DATA or EMULATOR_CONTEXT; `data` is a view into the image. */
export interface EmulatorRecord {
	kind: "xenstore" | "context";
	/** 0 unknown, 1 QEMU traditional, 2 QEMU upstream. */
	emulatorId: number;
	/** Index of this emulator for the domain. */
	index: number;
	/** Key/value pairs, each NUL-terminated, or the emulator's own blob. */
	data: Uint8Array;
	/** Octets from the start of the image to the record. */
	offset: number;
}

export interface LibxlImage {
	libxc: LibxcImage;
	/** In the order of the stream; of a checkpointed one, the last checkpoint's. */
	emulators: EmulatorRecord[];
}

const R = LIBXL_RECORD;
const PLACE = "libxl header";

/** No domain has more device models. Bounds what a hostile image can make us keep. */
const EMULATOR_LIMIT = 1024;

/** Whether a libxl stream begins at the position. */
export function isLibxlImage(cursor: ImageCursor): boolean {
	return identAt(cursor) === LIBXL_IDENT;
}

function identAt(cursor: ImageCursor): string {
	return Buffer.from(cursor.bytes(cursor.offset, LIBXL_IDENT.length)).toString("latin1");
}

function readHeader(cursor: ImageCursor): void {
	const start = cursor.offset;
	cursor.need(LIBXL_HEADER_BYTES, PLACE);
	if (!isLibxlImage(cursor)) {
		throw cursor.error(PLACE, start, "ident", LIBXL_IDENT, JSON.stringify(identAt(cursor)));
	}
	const version = cursor.u32be(start + 8);
	if (version !== LIBXL_VERSION) {
		throw cursor.error(PLACE, start + 8, "version", String(LIBXL_VERSION), String(version));
	}
	const options = cursor.u32be(start + 12);
	if ((options & LIBXL_OPTION_BIG_ENDIAN) !== 0) {
		throw cursor.error(PLACE, start + 12, "options", "little-endian (big-endian is not supported)", hex(options));
	}
	cursor.offset = start + LIBXL_HEADER_BYTES;
}

class EmulatorList {
	#current = new Map<string, EmulatorRecord>();
	#replaced: EmulatorRecord[] = [];

	/** From here on, records replace those that came before. */
	nextCheckpoint(): void {
		this.#replaced = this.all;
		this.#current = new Map();
	}

	/** Those of the last checkpoint that has any. */
	get all(): EmulatorRecord[] {
		return this.#current.size > 0 ? [...this.#current.values()] : this.#replaced;
	}

	add(cursor: ImageCursor, record: RecordFrame): void {
		cursor.minimumLength(record, EMULATOR_HEADER_BYTES);
		const emulatorId = cursor.u32(record.bodyOffset);
		const index = cursor.u32(record.bodyOffset + 4);
		const kind = record.type === R.EMULATOR_CONTEXT ? "context" : "xenstore";
		const key = `${kind} ${emulatorId} ${index}`;
		if (this.#current.has(key)) {
			const one = `one ${record.name} of emulator ${emulatorId}, index ${index}`;
			throw cursor.recordError(record, "type", one, "a second one");
		}
		if (this.#current.size >= EMULATOR_LIMIT) {
			throw cursor.recordError(record, "type", `at most ${EMULATOR_LIMIT} emulator records`, "more");
		}
		const data = cursor.bytes(record.bodyOffset + EMULATOR_HEADER_BYTES, record.length - EMULATOR_HEADER_BYTES);
		this.#current.set(key, { kind, emulatorId, index, data, offset: record.offset });
	}
}

/** Reads a libxl stream at the cursor's position, up to and with its END. */
export function readLibxl(cursor: ImageCursor): LibxlImage {
	readHeader(cursor);
	const emulators = new EmulatorList();
	let libxc: LibxcReader | undefined;
	let inCheckpoint = false;
	for (;;) {
		const record = cursor.readRecord("libxl", libxlRecordNames);
		cursor.offset = record.nextOffset;
		switch (record.type) {
			case R.LIBXC_CONTEXT:
				cursor.exactLength(record, 0);
				if (libxc !== undefined) {
					throw cursor.recordError(record, "type", "one LIBXC_CONTEXT", "a second one");
				}
				libxc = new LibxcReader(cursor);
				inCheckpoint = libxc.run() === "checkpoint";
				break;
			case R.CHECKPOINT_END:
				cursor.exactLength(record, 0);
				if (libxc === undefined || !inCheckpoint) {
					throw cursor.recordError(record, "order", "a libxc CHECKPOINT before it", "none");
				}
				// COLO's own signalling (section 5.6) says nothing about the guest.
				while (
					cursor.remaining >= RECORD_HEADER_BYTES &&
					isCheckpointState(cursor.u32(cursor.offset), cursor.u32(cursor.offset + 4))
				) {
					cursor.offset = cursor.readRecord("libxl", libxlRecordNames).nextOffset;
				}
				inCheckpoint = libxc.run() === "checkpoint";
				emulators.nextCheckpoint();
				break;
			case R.CHECKPOINT_STATE:
				break;
			case R.EMULATOR_XENSTORE_DATA:
			case R.EMULATOR_CONTEXT:
				emulators.add(cursor, record);
				break;
			case R.END:
				cursor.exactLength(record, 0);
				if (libxc === undefined || inCheckpoint) {
					const expected = libxc === undefined ? "LIBXC_CONTEXT before it" : "CHECKPOINT_END before it";
					throw cursor.recordError(record, "order", expected, "none");
				}
				return { libxc: libxc.finish(), emulators: emulators.all };
			default:
			// An optional record that is not known: listed by the cursor, otherwise ignored.
		}
	}
}
