/**
 * The lines of a captured text file: console prefixes taken off, numbered, with the errors that name file, line,
 * expected and got. Shared by the parsers of all dumps.
 */
import { XluError } from "../errors.ts";

/** A line without Xen's console prefix, with its number in the file. */
export interface DumpLine {
	text: string;
	/** 1-based. */
	line: number;
}

/** Dumps have some KiB; a rangeset's line, the longest, some hundreds of octets. */
const TEXT_LIMIT = 64 << 20;
const LINE_LIMIT = 1 << 18;

/** No machine has as many CPUs, no guest as many vCPUs. Bounds what `{0-4294967295}` can make us keep. */
const SET_MEMBER_LIMIT = 65536;
/** And not all of them in every set: for all sets of a file together. */
const SET_MEMBERS_IN_FILE = 1 << 22;

const XEN_PREFIX = /^\(XEN\) ?/;

/**
 * console_timestamps of Xen: date ([2026-11-21 01:02:03]), datems (with .123), boot ([   12.345678]), raw
 * ([0123456789abcdef]). A grant reference ([0x00a]) is none of these.
 */
const TIMESTAMP = /^\[(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?| *\d+\.\d+|[0-9a-f]{16})\] ?/;

/** A text file of a capture. */
export class DumpText {
	readonly file: string;
	/** Number of the line that was handed out last; behind the loop, the file's last. */
	lastLine = 0;
	readonly #text: string;
	#setMembers = 0;

	/**
	 * @param text the file's content
	 * @param file its name, for messages
	 * @throws XluError XLU_E_CAPTURE if the text is absurdly long
	 */
	constructor(text: string, file: string) {
		this.file = file;
		this.#text = text;
		if (text.length > TEXT_LIMIT) {
			throw this.fail(1, `at most ${TEXT_LIMIT} characters`, String(text.length));
		}
	}

	/** The lines, one at a time: a hostile file of nothing but line ends must not become millions of objects. */
	*lines(): Generator<DumpLine> {
		let start = 0;
		while (start <= this.#text.length) {
			const found = this.#text.indexOf("\n", start);
			const end = found < 0 ? this.#text.length : found;
			this.lastLine++;
			if (end - start > LINE_LIMIT) {
				throw this.fail(this.lastLine, `a line of at most ${LINE_LIMIT} characters`, String(end - start));
			}
			const raw = this.#text.slice(start, end);
			const bare = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
			yield { text: bare.replace(XEN_PREFIX, "").replace(TIMESTAMP, ""), line: this.lastLine };
			start = end + 1;
		}
	}

	/** An XLU_E_CAPTURE error; not thrown here, so that the compiler sees the `throw` at the call. */
	fail(line: number, expected: string, got: string, cause?: unknown): XluError {
		const shown = got.length > 120 ? `${got.slice(0, 117)}...` : got;
		return new XluError("XLU_E_CAPTURE", `${this.file}:${line}: expected ${expected}, got ${shown}`, {
			record: this.file,
			line,
			expected,
			got: shown,
			cause,
		});
	}

	/** A line that starts like a row of the dump and is none. */
	badRow(row: DumpLine, expected: string): XluError {
		return this.fail(row.line, expected, JSON.stringify(row.text.trim()));
	}

	/** A decimal number, exact. */
	decimal(digits: string | undefined, row: DumpLine, what: string): number {
		const value = digits !== undefined && /^-?\d{1,16}$/.test(digits) ? Number(digits) : Number.NaN;
		if (!Number.isSafeInteger(value)) {
			throw this.fail(row.line, `${what}, a decimal number`, JSON.stringify(digits ?? row.text.trim()));
		}
		return value;
	}

	/** A decimal number of 32 bits. */
	unsigned(digits: string | undefined, row: DumpLine, what: string): number {
		const value = this.decimal(digits, row, what);
		if (value < 0 || value > 0xffffffff) {
			throw this.fail(row.line, `${what}, 0 to 4294967295`, String(value));
		}
		return value;
	}

	/** A domain's number: 15 bits. */
	domid(digits: string | undefined, row: DumpLine): number {
		const value = this.decimal(digits, row, "a domid");
		if (value < 0 || value > 0x7fff) {
			throw this.fail(row.line, "a domid of 0 to 32767", String(value));
		}
		return value;
	}

	/** A hexadecimal number of at most 64 bits, with or without 0x. */
	hexadecimal(digits: string | undefined, row: DumpLine, what: string): bigint {
		const bare = digits?.replace(/^0x/i, "");
		if (bare === undefined || !/^[0-9a-f]{1,16}$/i.test(bare)) {
			throw this.fail(row.line, `${what}, a hexadecimal number`, JSON.stringify(digits ?? row.text.trim()));
		}
		return BigInt(`0x${bare}`);
	}

	/** A hexadecimal number that has to be exact as a number (frame numbers, flags). */
	hexNumber(digits: string | undefined, row: DumpLine, what: string): number {
		const value = this.hexadecimal(digits, row, what);
		if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
			throw this.fail(row.line, `${what} below 2^53`, `0x${value.toString(16)}`);
		}
		return Number(value);
	}

	/** The members of a bitmap as Xen prints it between its brackets: `0-3,8`. */
	cpuSet(list: string, row: DumpLine): number[] {
		const members: number[] = [];
		if (list.trim() === "") {
			return members;
		}
		for (const part of list.split(",")) {
			const match = /^\s*(\d{1,5})(?:-(\d{1,5}))?\s*$/.exec(part);
			const first = Number(match?.[1]);
			const last = Number(match?.[2] ?? match?.[1]);
			const bad = match === null || last < first || last >= SET_MEMBER_LIMIT;
			if (bad || first <= (members.at(-1) ?? -1)) {
				throw this.fail(row.line, "an ascending set like {0-3,8}", JSON.stringify(list));
			}
			this.#setMembers += last - first + 1;
			if (this.#setMembers > SET_MEMBERS_IN_FILE) {
				throw this.fail(row.line, `at most ${SET_MEMBERS_IN_FILE} set members in the file`, "more");
			}
			for (let member = first; member <= last; member++) {
				members.push(member);
			}
		}
		return members;
	}
}
