/**
 * The pass-ordering suite is a table: a rule, an arrangement, an outcome. The rows are data with the few lines that
 * arrange them; what the lines are written in is below, and stage.ts is what stands behind it. Nothing here needs the
 * built core, so that tools/generate.mjs can print the same rows as docs/PASSES.md.
 */
import type { HostModel, PreservedPages } from "../../src/machine/model.ts";
import type { Restitched, StreamRecord } from "../support/restitch.ts";

/** What an outcome begins with says what the suite holds the row to, whatever the row itself looks at. */
export type Rule = `XLU-R${string}`;
export type Outcome = `restored, ${string}` | `refused ${Rule}${string}`;

/** The image octet for octet: digest, comparison of every table, octets. */
export const SAME = "restored, same image";

export const refusedCall = (rule: Rule): Outcome => `refused ${rule}, nothing changed`;
export const refusedStream = (rule: Rule): Outcome => `refused ${rule}, nothing written`;

export interface Row {
	/** The requirement (P0 to P4, X1 ...) or the rule that the row is about. */
	readonly rule: string;
	/** One plain sentence. */
	readonly arrangement: string;
	readonly outcome: Outcome;
	readonly run: (on: Stage) => void;
}

export interface Group {
	readonly title: string;
	readonly about: string;
	/** A table of its own before the rows, for figures that many of them share: its head, then its lines. */
	readonly figures?: readonly (readonly string[])[];
	readonly rows: readonly Row[];
}

/**
 * The hosts of the suite. `tiny` has every record of version 1, four domains, and is the one of the golden streams; `second`
 * has those of version 2 as well, and a fifth; `pv`, `pvh` and `hvm` are captured; `synthetic` has three guests, of each
 * kind one, and a dead domain.
 */
export const hostNames = ["tiny", "second", "pv", "pvh", "hvm", "synthetic"] as const;
export type HostName = (typeof hostNames)[number];
export const SYNTHETIC = "synthetic:domains=3,memory=4M,vcpus=2,ports=4,grants=4";

export interface SmallHost {
	model: HostModel;
	preserved: PreservedPages;
}

export interface SavedHost {
	readonly stream: Uint8Array<ArrayBuffer>;
	readonly preserved: PreservedPages;
	/** xen#1's image, to which everything that is restored is held. */
	readonly image: Uint8Array<ArrayBuffer>;
	/** Ascending. */
	readonly domids: readonly number[];
	readonly model: HostModel;
}

export type Pass = 0 | 1 | 2;
/** The domids of each pass in the order of the calls. */
export type Order = (pass: Pass) => readonly number[];

/** What check has to say of a stream: which record it stops at, what it expected there and found. */
export interface Verdict {
	at: StreamRecord;
	expected?: number;
	got?: number;
}

/** A restored image, looked into. */
export interface Image {
	frame(mfn: number): { references: number; typeReferences: number };
	row(domid: number, table: string, index: number): Record<string, number>;
}

/**
 * A restore that has its target. Every call that is refused is looked at: the target, the workspace and the context's
 * figures are what they were. A row may leave a restore where it is; the stage goes on with it and ends it, and the
 * image is the same.
 */
export interface Restore {
	readonly domids: readonly number[];
	/** Whether it is this step's turn, by the rules of docs/FORMAT.md alone. */
	mayRun(pass: number, domid: number): boolean;
	/** A call whose turn it is. */
	step(pass: number, domid: number): void;
	/** The host's part of a pass, then the domains'. */
	pass(pass: Pass, domids?: readonly number[]): void;
	/** Every step whose turn it is now. */
	open(): { pass: number; domid: number }[];
	/** A call that is refused; by default with the rule of the row's outcome. */
	refuses(pass: number, domid: number, rule?: string): void;
	refusesFinish(rule?: string): void;
	/** A call of check, or of target with another window. */
	refusesCheck(rule?: string): void;
	refusesTarget(rule?: string): void;
	/** All steps that are left, finish, and the comparison with xen#1's image. */
	end(): Image;
	/** finish as the next step, every pass being done. */
	finish(): Image;
}

/** What rows are written in. */
export interface Stage {
	host(name: HostName): SavedHost;
	save(host: SmallHost): SavedHost;
	/** A host's stream taken apart, to be put together differently. */
	parse(host: SavedHost): Restitched;
	/** Opens, checks and gives a target, in a core of its own or in that of another restore. */
	begin(host: SavedHost, beside?: Restore): Restore;
	/** Restores a stream; it must end in the host's image. */
	restores(host: SavedHost, stream?: Restitched, order?: Order): void;
	/** check (or open) refuses a stream with the row's rule; no target is taken then, and none is written. */
	refusesStream(host: SavedHost, stream: Restitched, verdict?: Verdict): void;
	/** Whether check accepts a stream: if it does, it restores to the host's image; if not, the refusal has this rule. */
	restoresOrRefuses(host: SavedHost, stream: Restitched, rule: string): boolean;
	/** Calls in the order that they have, all but the first `done` of them refused. */
	refusesCallsFrom(host: SavedHost, done: 0 | 1 | 2 | 3): void;
	/** A restore without the preserved memory. */
	refusesWithoutMemory(host: SavedHost): void;
	/** A restore after a check that refused, though one before it had passed. */
	refusesAfterRefusal(host: SavedHost): void;
	equal(got: unknown, expected: unknown, what: string): void;
}

export function permutations<T>(items: readonly T[]): T[][] {
	if (items.length === 0) return [[]];
	return items.flatMap((item, i) => permutations(items.filter((_, j) => j !== i)).map((rest) => [item, ...rest]));
}

/** Title of a row as a test, and its line in the document. */
export const cells = (row: Row): [string, string, string] => [row.rule, row.arrangement, row.outcome];
