/** Rules of a libxl stream (libxl-migration-stream sections 3 to 5). */
import { type Findings, formatRule } from "../common/findings.ts";
import { placeOf, type RecordHeader } from "../common/framing.ts";
import { viewOf } from "../common/values.ts";
import { EMULATOR_HEADER_BYTES, emulatorNames, LIBXL_RECORD } from "./layout.ts";

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
} as const;

const R = LIBXL_RECORD;
const X = libxlRules;

/** Holds a stream's records against the rules, one after the other. */
export class LibxlChecks {
	readonly #findings: Findings;
	readonly #isLittle: boolean;
	readonly #emulators = new Set<string>();
	#hasLibxc = false;
	#inner: "checkpoint" | "end" | undefined;

	constructor(findings: Findings, isLittle: boolean) {
		this.#findings = findings;
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
				return;
			default:
				this.#emulator(record, body);
		}
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
		const key = `${name} ${id} ${index}`;
		if (this.#emulators.has(key)) report(X.emulator, "index", "once between checkpoints", "a second one");
		this.#emulators.add(key);
		if (type !== R.EMULATOR_XENSTORE_DATA) return;
		const data = body.subarray(EMULATOR_HEADER_BYTES);
		const strings = data.reduce((count, octet) => count + (octet === 0 ? 1 : 0), 0);
		if (data.length > 0 && data.at(-1) !== 0) report(X.pairs, "data", "a NUL at the end", "none");
		else if (strings % 2 !== 0) report(X.pairs, "data", "a value for each key", `${strings} strings`);
	}
}
