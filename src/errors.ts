/**
 * The one error class of the project. A stable code says what went wrong, the fields say where: nothing less
 * than what was expected, what was found, and the place.
 */

/** How a command ends: 0 done, 1 refused or different, 2 usage, 3 damaged input. */
export const EXIT = { done: 0, refused: 1, usage: 2, damaged: 3 } as const;

/** Every error code of the library, with the exit status of a command that ends in it. docs/ERRORS.md lists them. */
export const errorCodes = {
	XLU_E_USAGE: { exit: EXIT.usage, doc: "The command line or a function's argument is not valid." },
	XLU_E_IO: { exit: EXIT.usage, doc: "A file cannot be read or written." },
	XLU_E_SCENARIO: { exit: EXIT.usage, doc: "A scenario is not valid: `problems` says what is wrong and where." },
	XLU_E_CAPTURE: { exit: EXIT.damaged, doc: "A captured host's file is missing, damaged or contradicts another one." },
	XLU_E_IMAGE: {
		exit: EXIT.damaged,
		doc: "One of Xen's own streams (libxc, libxl, xl, legacy, xenstore), or a stream as JSON, breaks its framing, or a file is no stream that is known.",
	},
	XLU_E_DAMAGED: { exit: EXIT.damaged, doc: "A live-update stream breaks its framing or a checksum." },
	XLU_E_VERSION: { exit: EXIT.refused, doc: "A stream's version or a feature in it is not supported." },
	XLU_E_REFUSED: { exit: EXIT.refused, doc: "A rule of the check refuses the stream." },
	XLU_E_PASS: {
		exit: EXIT.refused,
		doc: "A restore pass was called out of order, twice, or before its predecessor ended.",
	},
	XLU_E_SPACE: { exit: EXIT.refused, doc: "A window is too small; nothing was written." },
	XLU_E_MEMORY: { exit: EXIT.refused, doc: "The preserved memory is missing, damaged, or belongs to another stream." },
	XLU_E_HANDOVER: {
		exit: EXIT.refused,
		doc: "xen#2 cannot find or read the stream: breadcrumb, MFN array or placement.",
	},
	XLU_E_QUIESCE: {
		exit: EXIT.refused,
		doc: "A host cannot be stopped for an update: a request stays in flight, or Xen has begun what another Xen could not go on with. Nobody stays paused.",
	},
	XLU_E_WORKER: {
		exit: EXIT.refused,
		doc: "A worker thread died, failed or did not answer: nothing is restored.",
	},
	XLU_E_DIFFERENT: { exit: EXIT.refused, doc: "Two hosts that had to be identical are not." },
	XLU_E_INTERNAL: { exit: EXIT.refused, doc: "A defect of this program; please report it." },
} as const;

export type ErrorCode = keyof typeof errorCodes;

/** One of several things that are wrong with an input that people wrote. */
export interface Problem {
	/** Place in the input, such as `steps[3].port`. */
	readonly field: string;
	readonly expected: string;
	readonly got: string;
}

/** What became of the host of a live update that was refused. */
export type UpdateOutcome = "not paused" | "xen#1 resumed" | "refused at boot";

/** Where an error was found and what it was; every field is optional but the more the better. */
export interface ErrorDetail {
	/** Rule identifier, `XLU-Rnnn`. */
	rule?: string;
	domid?: number;
	/** Record type's name, or file's name for captured hosts. */
	record?: string;
	/** Octets from the start of the stream or file. */
	offset?: number;
	/** 1-based line of a text file. */
	line?: number;
	field?: string;
	expected?: string;
	got?: string;
	/** Of a live update: the stage that ended it. */
	stage?: string;
	/** Of a live update: what that means for the host. */
	outcome?: UpdateOutcome;
	/** All that is wrong, where the input is looked through to its end; the fields above are of the first. */
	problems?: readonly Problem[];
	cause?: unknown;
}

export class XluError extends Error implements ErrorDetail {
	readonly code: ErrorCode;
	readonly rule?: string;
	readonly domid?: number;
	readonly record?: string;
	readonly offset?: number;
	readonly line?: number;
	readonly field?: string;
	readonly expected?: string;
	readonly got?: string;
	readonly stage?: string;
	readonly outcome?: UpdateOutcome;
	readonly problems?: readonly Problem[];

	constructor(code: ErrorCode, message: string, detail: ErrorDetail = {}) {
		const { cause, ...fields } = detail;
		super(message, cause === undefined ? undefined : { cause });
		this.name = "XluError";
		this.code = code;
		Object.assign(this, fields);
	}

	/** The exit status of a command that ends in this error. */
	get exitStatus(): number {
		return errorCodes[this.code].exit;
	}
}

/** One broken rule. Fields that do not apply are null. */
export interface Finding {
	/** `XLU-Rnnn` */
	rule: string | null;
	domid: number | null;
	/** Record type's name. */
	record: string | null;
	/** Octets from the stream's start to the record. */
	offset: number | null;
	field: string | null;
	expected: string | null;
	got: string | null;
	/** All of it in one sentence. */
	message: string;
}

/** Codes that are a verdict on a stream or an image; all others are thrown. */
const verdicts: ReadonlySet<ErrorCode> = new Set(["XLU_E_DAMAGED", "XLU_E_VERSION", "XLU_E_REFUSED", "XLU_E_MEMORY"]);

/** Whether an error says what is wrong with a stream or an image, and not that it could not be looked at. */
export function isVerdict(error: unknown): error is XluError {
	return error instanceof XluError && verdicts.has(error.code);
}

/** A verdict as a finding. */
export function findingOf(error: XluError): Finding {
	return {
		rule: error.rule ?? null,
		domid: error.domid ?? null,
		record: error.record ?? null,
		offset: error.offset ?? null,
		field: error.field ?? null,
		expected: error.expected ?? null,
		got: error.got ?? null,
		message: error.message,
	};
}
