/** Rules of a libxl stream (libxl-migration-stream sections 3 to 5). */
import { type Findings, formatRule, hex } from "../common/findings.ts";
import { placeOf, type RecordHeader } from "../common/framing.ts";
import { viewOf } from "../common/values.ts";
import {
	EMULATOR_HEADER_BYTES,
	emulatorNames,
	LIBXL_OPTION_BIG_ENDIAN,
	LIBXL_OPTION_LEGACY,
	LIBXL_RECORD,
} from "./layout.ts";

const DOCUMENT = "libxl-migration-stream";

export const libxlRules = {
	ident: formatRule(
		"XLU-L001",
		"damaged",
		`${DOCUMENT} 3`,
		"The stream begins with LibxlFmt.",
		"What stands behind xl's header is no libxl stream: the file is damaged or put together wrongly.",
	),
	version: formatRule(
		"XLU-L002",
		"version",
		`${DOCUMENT} 3`,
		"The stream's version is 2.",
		"A sender newer than this tool, or damage.",
	),
	options: formatRule(
		"XLU-L003",
		"refused",
		`${DOCUMENT} 3`,
		"Options are the byte order and the mark of a legacy conversion alone.",
		"A sender newer than this tool, or damage.",
	),
	byteOrder: formatRule(
		"XLU-L004",
		"strict",
		`${DOCUMENT} 3`,
		"The stream of an x86 host is little-endian.",
		"Readers take both byte orders; convert --to little makes it what Xen writes.",
	),
	bodyForm: formatRule(
		"XLU-L010",
		"refused",
		`${DOCUMENT} 4`,
		"A body has the length that its kind makes.",
		"Compare with xlu inspect --record N. A writer that is wrong, or damage.",
	),
	order: formatRule(
		"XLU-L011",
		"refused",
		`${DOCUMENT} 5`,
		"One LIBXC_CONTEXT, before END; CHECKPOINT_END behind a libxc CHECKPOINT alone.",
		"The sender is wrong: a receiver would not find the libxc image.",
	),
	emulator: formatRule(
		"XLU-L012",
		"refused",
		`${DOCUMENT} 4.2`,
		"An emulator record names a known emulator, and comes once for each emulator and index between checkpoints.",
		"A sender newer than this tool, or damage.",
	),
	pairs: formatRule(
		"XLU-L013",
		"refused",
		`${DOCUMENT} 4.2`,
		"EMULATOR_XENSTORE_DATA is a row of keys and values, each ending in a NUL.",
		"libxl refuses it while it restores. A writer that is wrong, or damage.",
	),
	unknownEmulator: formatRule(
		"XLU-L014",
		"strict",
		`${DOCUMENT} 4.1`,
		"Emulator 0, unknown, occurs in streams alone that were made of legacy ones (bit 1 of the options).",
		"Readers take it for QEMU: nothing to do.",
	),
	keys: formatRule(
		"XLU-L015",
		"refused",
		`${DOCUMENT} 5.3`,
		"A key of EMULATOR_XENSTORE_DATA is a relative path of letters, digits and -/_@.",
		"xenstored refuses such a node while the guest is restored. A writer that is wrong, or damage.",
	),
	values: formatRule(
		"XLU-L016",
		"warning",
		`${DOCUMENT} 5.3`,
		"A value of EMULATOR_XENSTORE_DATA is readable ASCII.",
		"xenstored takes any octets; the emulator may not.",
	),
	checkpointState: formatRule(
		"XLU-L017",
		"refused",
		`${DOCUMENT} 5.6`,
		"CHECKPOINT_STATE says 0, a new checkpoint, and its padding is zero; 1 to 3 travel from the secondary to the primary alone.",
		"This is the back channel of COLO, or damage.",
	),
} as const;

/** Parts that are not empty, with single slashes between them. */
const RELATIVE_PATH = /^[0-9A-Za-z\-_@]+(?:\/[0-9A-Za-z\-_@]+)*$/;
/** As much as one message to xenstored holds: a longer key or value cannot be written. */
const XENSTORE_PAYLOAD_BYTES = 4096;
const EMULATOR_LIMIT = 1024;

const R = LIBXL_RECORD;
const X = libxlRules;

/** Holds a stream's records against the rules, one after the other. */
export class LibxlChecks {
	readonly #findings: Findings;
	readonly #isLittle: boolean;
	readonly #isLegacy: boolean;
	readonly #emulators = new Set<string>();
	#hasLibxc = false;
	#inner: "checkpoint" | "end" | undefined;

	/** @param options of the header */
	constructor(findings: Findings, options: number) {
		const isLittle = (options & LIBXL_OPTION_BIG_ENDIAN) === 0;
		this.#findings = findings;
		this.#isLegacy = (options & LIBXL_OPTION_LEGACY) !== 0;
		this.#isLittle = isLittle;
	}

	/** The libxc image has been read up to its next CHECKPOINT or END. */
	libxc(ended: "checkpoint" | "end" | undefined): void {
		this.#inner = ended;
	}

	record(record: RecordHeader, body: Uint8Array): void {
		const { type, length } = record;
		if (record.isSkipped) return;
		const report = (rule: (typeof X)[keyof typeof X], field: string, expected: string, got: string) =>
			this.#findings.report(rule, placeOf(record, field), expected, got);
		switch (type) {
			case R.END:
				if (length !== 0) report(X.bodyForm, "body_length", "0", `${length}`);
				if (!this.#hasLibxc) report(X.order, "type", "LIBXC_CONTEXT before it", "none");
				if (this.#inner === "checkpoint") report(X.order, "type", "CHECKPOINT_END before it", "none");
				return;
			case R.LIBXC_CONTEXT:
				if (length !== 0) report(X.bodyForm, "body_length", "0", `${length}`);
				if (this.#hasLibxc) report(X.order, "type", "one LIBXC_CONTEXT", "a second one");
				this.#hasLibxc = true;
				return;
			case R.CHECKPOINT_END:
				if (length !== 0) report(X.bodyForm, "body_length", "0", `${length}`);
				if (this.#inner !== "checkpoint") report(X.order, "type", "a libxc CHECKPOINT before it", "none");
				this.#emulators.clear();
				return;
			case R.CHECKPOINT_STATE:
				if (length !== 8) report(X.bodyForm, "body_length", "8", `${length}`);
				else this.#checkpointState(record, viewOf(body));
				return;
			default:
				this.#emulator(record, body);
		}
	}

	#checkpointState(record: RecordHeader, view: DataView): void {
		const id = view.getUint32(0, this.#isLittle);
		const padding = view.getUint32(4, this.#isLittle);
		const report = (field: string, got: string) =>
			this.#findings.report(X.checkpointState, placeOf(record, field), "0", got);
		if (id !== 0) report("control_id", `${id}`);
		if (padding !== 0) report("padding", hex(padding));
	}

	#emulator(record: RecordHeader, body: Uint8Array): void {
		const { type, name, length } = record;
		const report = (rule: (typeof X)[keyof typeof X], field: string, expected: string, got: string) =>
			this.#findings.report(rule, placeOf(record, field), expected, got);
		if (length < EMULATOR_HEADER_BYTES) {
			report(X.bodyForm, "body_length", `at least ${EMULATOR_HEADER_BYTES}`, `${length}`);
			return;
		}
		const id = viewOf(body).getUint32(0, this.#isLittle);
		const index = viewOf(body).getUint32(4, this.#isLittle);
		if (emulatorNames[id] === undefined) {
			report(X.emulator, "emulator_id", Object.keys(emulatorNames).join(", "), `${id}`);
		}
		if (id === 0 && !this.#isLegacy) report(X.unknownEmulator, "emulator_id", "1 or 2", "0");
		const key = `${name} ${id} ${index}`;
		if (this.#emulators.has(key)) report(X.emulator, "index", "once between checkpoints", "a second one");
		// No domain has more; a hostile stream has one a record.
		if (this.#emulators.size < EMULATOR_LIMIT) this.#emulators.add(key);
		if (type !== R.EMULATOR_XENSTORE_DATA) return;
		this.#pairs(record, body.subarray(EMULATOR_HEADER_BYTES));
	}

	#pairs(record: RecordHeader, data: Uint8Array): void {
		const report = (rule: (typeof X)[keyof typeof X], field: string, expected: string, got: string) =>
			this.#findings.report(rule, placeOf(record, field), expected, got);
		if (data.length > 0 && data.at(-1) !== 0) {
			report(X.pairs, "data", "a NUL at the end", "none");
			return;
		}
		const strings = data.reduce((count, octet) => count + (octet === 0 ? 1 : 0), 0);
		if (strings % 2 !== 0) {
			report(X.pairs, "data", "a value for each key", `${strings} strings`);
			return;
		}
		let at = 0;
		for (let index = 0; index < strings; index++) {
			const end = data.indexOf(0, at);
			const octets = Buffer.from(data.buffer, data.byteOffset + at, Math.min(end - at, XENSTORE_PAYLOAD_BYTES));
			const text = octets.toString("latin1");
			at = end + 1;
			const field = `pairs[${index >> 1}]`;
			const shown = JSON.stringify(text.slice(0, 60));
			if (index % 2 === 0 && !RELATIVE_PATH.test(text)) {
				report(X.keys, `${field}.key`, "a relative path of letters, digits and -/_@", shown);
			} else if (index % 2 !== 0 && !/^[\t\n\r\x20-\x7e]*$/.test(text)) {
				report(X.values, `${field}.value`, "readable ASCII", shown);
			}
		}
	}
}
