/**
 * A scenario as people write it: a host, and steps from top to bottom. JSON comes in, and either a scenario goes out, every
 * part of the type and in the range that docs/SCENARIOS.md says, or XLU_E_SCENARIO with all that is wrong. The tables of
 * operations (../machine/live/operations.ts) and of states (state.ts) say what there is.
 *
 * Unhappy paths: no UTF-8, no JSON, another type at any place, unknown or missing keys, names that no step before has given.
 */
import { type ErrorCode, errorCodes, type Problem, XluError } from "../errors.ts";
import { PAGE_TYPE } from "../format/enums.ts";
import { ERRNO, GNTST } from "../machine/live/errno.ts";
import { type OperationDefinition, operations, type Parameter } from "../machine/live/operations.ts";
import { isSynthetic, parseSynthetic } from "../machine/synthetic/index.ts";
import { at, Checker, type JsonObject, oneOf, own } from "./checker.ts";
import { subjects } from "./state.ts";

/** Least and greatest numbers of a scenario; what a file costs is bounded by them. */
export const scenarioLimits = {
	octets: 16 * 2 ** 20,
	steps: 10_000,
	/** Of an empty host; 512 MiB. */
	frames: [2048, 2 ** 17],
	cpus: [1, 256],
	/** Of random operations, all steps together. */
	random: 100_000,
	updates: 1000,
	/** States that are remembered. */
	remembered: 16,
	/** Of a host that is read or made; 16 GiB. */
	hostFrames: 2 ** 22,
	seed: [0, 2 ** 32 - 1],
	/** MiB of xen#2. */
	xen2Size: [1, 4096],
	list: 16,
	text: 4096,
	name: 64,
} as const;

export const hostDefaults = { frames: 8192, cpus: 4 } as const;
export const defaultSeed = 1;
export const findTypes = Object.keys(PAGE_TYPE);

/** A number, or the name of one that an earlier step has given, "$port". */
export type Value = number | boolean | string | readonly (number | string)[];

/** What an operation must return: a number, a list, a refusal by its name, any refusal, or whatever. */
export type ExpectedResult = number | string | readonly (number | string)[];

interface AnyStep {
	/** What people want to say of it. */
	readonly note?: string;
}

export interface OperationStep extends AnyStep {
	readonly kind: "operation";
	readonly op: string;
	readonly parameters: Readonly<Record<string, Value>>;
	/** Without it the operation must not be refused. */
	readonly expect?: ExpectedResult;
	/** Name of the result for later steps. */
	readonly as?: string;
}
export interface FindStep extends AnyStep {
	readonly kind: "find";
	readonly domid: number | string;
	readonly type: string;
	readonly index: number;
	readonly as: string;
}
export interface RandomStep extends AnyStep {
	readonly kind: "random";
	readonly count: number;
	readonly seed?: number;
}
export interface UpdateStep extends AnyStep {
	readonly kind: "update";
	/** MiB. */
	readonly xen2Size?: number;
	readonly seed?: number;
	/** The error that must refuse it. */
	readonly expect?: ErrorCode;
}
export interface RememberStep extends AnyStep {
	readonly kind: "remember";
	readonly name: string;
}
export interface StateStep extends AnyStep {
	readonly kind: "state";
	/** One of `subjects`. */
	readonly subject: string;
	readonly target: Readonly<Record<string, number | string>>;
	readonly checks: Readonly<Record<string, number | boolean | string>>;
}
export interface SameStep extends AnyStep {
	readonly kind: "same";
	readonly name: string;
}
export type Step = OperationStep | FindStep | RandomStep | UpdateStep | RememberStep | StateStep | SameStep;

export interface Scenario {
	/** For reports: the file's name without .json. */
	readonly name: string;
	readonly description: string;
	/** A HOST, or the size of an empty one. */
	readonly host: string | { readonly frames: number; readonly cpus: number };
	/** Directory from which a captured host's path starts. */
	readonly folder: string;
	/** Of random operations and of the places that streams take, where a step has none of its own. */
	readonly seed: number;
	readonly steps: readonly Step[];
}

/** The keys of which every step has one, which says what it is. */
export const stepKeys = ["op", "update", "expect", "find", "random", "remember"] as const;

const NAME = /^[A-Za-z_]\w*$/;
const anyRefusal = ["any", "refused"];

export function resultNames(op: string): string[] {
	const refusals = op.startsWith("gnttab_") ? Object.keys(GNTST).map((name) => `GNTST_${name}`) : Object.keys(ERRNO);
	return [...anyRefusal, ...refusals.filter((name) => name !== "GNTST_okay")];
}

/** Reads one scenario; what is known of the steps so far is its own. */
class Parser extends Checker {
	/** Names of results. */
	readonly #captures = new Set<string>();
	readonly #remembered = new Set<string>();
	#random = 0;
	#updates = 0;

	scenario(value: unknown, name: string, folder: string): Scenario | undefined {
		const what = "an object with host and steps";
		const object = this.object(value, "", what);
		if (object === undefined) return undefined;
		this.keys(object, "", ["$schema", "description", "host", "seed", "steps"], "a key of a scenario");
		const description = this.#optional(object, "description", "", (v, f) => this.text(v, f, scenarioLimits.text));
		const seed = this.#optional(object, "seed", "", (v, f) => this.integer(v, f, ...scenarioLimits.seed));
		const host = this.#host(own(object, "host"));
		const steps = this.#steps(own(object, "steps"));
		if (host === undefined) return undefined;
		return { name, folder, host, description: description ?? "", seed: seed ?? defaultSeed, steps };
	}

	#optional<T>(
		object: JsonObject,
		key: string,
		field: string,
		read: (value: unknown, field: string) => T | undefined,
	): T | undefined {
		return Object.hasOwn(object, key) ? read(object[key], at(field, key)) : undefined;
	}

	#host(value: unknown): Scenario["host"] | undefined {
		if (typeof value === "string") {
			if (value === "" || value.length > scenarioLimits.text || value.includes("\0")) {
				return this.add("host", "a captured host's directory, or synthetic:...", value);
			}
			if (!isSynthetic(value)) return value;
			try {
				parseSynthetic(value);
				return value;
			} catch (error) {
				if (!(error instanceof XluError)) throw error;
				return this.add("host", `${error.message} ${error.expected ?? ""}`.trim(), value);
			}
		}
		const object = this.object(
			value,
			"host",
			"a captured host's directory, \"synthetic:...\", or an empty host's size",
		);
		if (object === undefined) return undefined;
		this.keys(object, "host", ["frames", "cpus"], "a size of an empty host");
		const frames = this.#optional(object, "frames", "host", (v, f) => this.integer(v, f, ...scenarioLimits.frames));
		const cpus = this.#optional(object, "cpus", "host", (v, f) => this.integer(v, f, ...scenarioLimits.cpus));
		return { frames: frames ?? hostDefaults.frames, cpus: cpus ?? hostDefaults.cpus };
	}

	#steps(value: unknown): Step[] {
		if (!Array.isArray(value)) {
			this.add("steps", "a list of steps", value);
			return [];
		}
		if (value.length > scenarioLimits.steps) {
			this.add("steps", `at most ${scenarioLimits.steps} steps`, value);
			return [];
		}
		return value.flatMap((entry, i) => this.#step(entry, `steps[${i}]`) ?? []);
	}

	#step(value: unknown, field: string): Step | undefined {
		const object = this.object(value, field, `a step: an object with ${stepKeys.join(", ")}`);
		if (object === undefined) return undefined;
		const note = this.#optional(object, "note", field, (v, f) => this.text(v, f, scenarioLimits.text));
		const step = this.#known(object, field);
		return step && note !== undefined ? { ...step, note } : step;
	}

	#known(object: JsonObject, field: string): Step | undefined {
		// An operation and an update may have an "expect" of their own.
		const kind = stepKeys.filter((key) => key !== "expect").find((key) => Object.hasOwn(object, key));
		if (kind === "op") return this.#operation(object, field);
		if (kind === "update") return this.#update(object, field);
		if (kind === "find") return this.#find(object, field);
		if (kind === "random") return this.#randomStep(object, field);
		if (kind === "remember") return this.#remember(object, field);
		if (Object.hasOwn(object, "expect")) return this.#expect(object, field);
		const first = Object.keys(object)[0];
		return this.add(
			field,
			first === undefined
				? `a step: an object with ${stepKeys.join(", ")}`
				: oneOf(first, stepKeys, "a step with one of"),
			first ?? object,
		);
	}

	// --- operations ---

	#operation(object: JsonObject, field: string): Step | undefined {
		const op = this.name(own(object, "op"), at(field, "op"), Object.keys(operations), "an operation");
		if (op === undefined) return undefined;
		const definition = operations[op] as OperationDefinition;
		const names = Object.keys(definition.parameters);
		this.keys(object, field, ["op", "note", "expect", "as", ...names], `a parameter of ${op}`);
		const parameters: Record<string, Value> = {};
		for (const [name, parameter] of Object.entries(definition.parameters)) {
			const value = this.#optional(object, name, field, (v, f) => this.#parameter(v, f, parameter));
			if (value !== undefined) parameters[name] = value;
			else if (parameter.default === undefined && !Object.hasOwn(object, name)) {
				this.add(at(field, name), `${parameter.doc} (${op} needs it)`, undefined);
			}
		}
		const expect = this.#optional(object, "expect", field, (v, f) => this.#result(v, f, op, definition));
		const as = this.#optional(object, "as", field, (v, f) =>
			definition.returns !== undefined && definition.isList !== true
				? this.#newName(v, f)
				: this.add(f, `no name: ${op} returns ${definition.isList ? "a list" : "nothing"}`, v),
		);
		return {
			kind: "operation",
			op,
			parameters,
			...(expect === undefined ? {} : { expect }),
			...(as === undefined ? {} : { as }),
		};
	}

	#parameter(value: unknown, field: string, parameter: Parameter): Value | undefined {
		const max = parameter.max ?? Number.MAX_SAFE_INTEGER;
		switch (parameter.type) {
			case "integer":
				return this.#number(value, field, max);
			case "word":
				return this.#capture(value, field) ?? (isCapture(value) ? undefined : this.word(value, field));
			case "boolean":
				return this.boolean(value, field);
			case "name":
				return this.name(value, field, parameter.names ?? []);
			case "integers":
				return this.#list(value, field, max);
		}
	}

	/** A number, or a result's name. */
	#number(value: unknown, field: string, max: number, min = 0): number | string | undefined {
		return isCapture(value) ? this.#capture(value, field) : this.integer(value, field, min, max);
	}

	#list(value: unknown, field: string, max: number): (number | string)[] | undefined {
		if (!Array.isArray(value) || value.length > scenarioLimits.list) {
			return this.add(field, `a list of at most ${scenarioLimits.list} whole numbers`, value);
		}
		return value.flatMap((entry, i) => this.#number(entry, `${field}[${i}]`, max) ?? []);
	}

	/** "$port": a result that an earlier step has named. */
	#capture(value: unknown, field: string): string | undefined {
		if (!isCapture(value)) return undefined;
		if (this.#captures.has(value.slice(1))) return value;
		const names = [...this.#captures].map((name) => `$${name}`);
		return this.add(field, oneOf(value, names, "a result that an earlier step has named"), value);
	}

	#newName(value: unknown, field: string): string | undefined {
		if (typeof value !== "string" || !NAME.test(value) || value.length > scenarioLimits.name) {
			return this.add(field, `a name: letters, digits and _, up to ${scenarioLimits.name}`, value);
		}
		if (this.#captures.has(value)) return this.add(field, "a name that no other step has", value);
		this.#captures.add(value);
		return value;
	}

	#result(value: unknown, field: string, op: string, definition: OperationDefinition): ExpectedResult | undefined {
		if (Array.isArray(value)) {
			// A whole handler's run may be expected, whose length only the ABI limits.
			if (definition.isList !== true) return this.add(field, `a number or a refusal: ${op} returns no list`, value);
			if (value.length > scenarioLimits.steps) return this.add(field, `at most ${scenarioLimits.steps} numbers`, value);
			return value.flatMap((entry, i) => this.#number(entry, `${field}[${i}]`, 2 ** 32 - 1) ?? []);
		}
		if (typeof value === "string" && !isCapture(value) && !/^0x/i.test(value)) {
			return this.name(value, field, resultNames(op), "a number, or one of");
		}
		if (definition.isList) return this.add(field, "a list of numbers, or a refusal", value);
		return this.#number(value, field, Number.MAX_SAFE_INTEGER);
	}

	// --- the other steps ---

	/** The object under a step's key, whose step has no keys but it and a few more. */
	#inner(object: JsonObject, field: string, key: string, more: readonly string[] = []): JsonObject | undefined {
		this.keys(object, field, [key, "note", ...more], `a key of a step with ${key}`);
		return this.object(own(object, key), at(field, key));
	}

	#update(object: JsonObject, field: string): Step | undefined {
		const inner = this.#inner(object, field, "update", ["expect"]);
		if (inner === undefined) return undefined;
		const place = at(field, "update");
		this.keys(inner, place, ["xen2Size", "seed"], "an option of an update");
		if (++this.#updates === scenarioLimits.updates + 1) {
			this.add(field, `at most ${scenarioLimits.updates} updates`, "one more");
		}
		const xen2Size = this.#optional(inner, "xen2Size", place, (v, f) => this.integer(v, f, ...scenarioLimits.xen2Size));
		const seed = this.#optional(inner, "seed", place, (v, f) => this.integer(v, f, ...scenarioLimits.seed));
		const expect = this.#optional(object, "expect", field, (v, f) =>
			this.name(v, f, Object.keys(errorCodes), "an error code"),
		) as ErrorCode | undefined;
		return {
			kind: "update",
			...(xen2Size === undefined ? {} : { xen2Size }),
			...(seed === undefined ? {} : { seed }),
			...(expect === undefined ? {} : { expect }),
		};
	}

	#find(object: JsonObject, field: string): Step | undefined {
		const inner = this.#inner(object, field, "find", ["as"]);
		if (inner === undefined) return undefined;
		const place = at(field, "find");
		this.keys(inner, place, ["domid", "type", "index"], "what a frame is found by");
		const domid = this.#number(own(inner, "domid"), at(place, "domid"), 0xffff);
		const type = this.name(own(inner, "type"), at(place, "type"), findTypes);
		const index = this.#optional(inner, "index", place, (v, f) => this.integer(v, f, 0, 2 ** 32 - 1));
		const as = this.#newName(own(object, "as"), at(field, "as"));
		if (domid === undefined || type === undefined || as === undefined) return undefined;
		return { kind: "find", domid, type, index: index ?? 0, as };
	}

	#randomStep(object: JsonObject, field: string): Step | undefined {
		const inner = this.#inner(object, field, "random");
		if (inner === undefined) return undefined;
		const place = at(field, "random");
		this.keys(inner, place, ["count", "seed"], "an option of random operations");
		const count = this.integer(own(inner, "count"), at(place, "count"), 1, scenarioLimits.random);
		const seed = this.#optional(inner, "seed", place, (v, f) => this.integer(v, f, ...scenarioLimits.seed));
		const before = this.#random;
		this.#random += count ?? 0;
		if (before <= scenarioLimits.random && this.#random > scenarioLimits.random) {
			this.add(at(place, "count"), `at most ${scenarioLimits.random} random operations in all`, this.#random);
		}
		return count === undefined ? undefined : { kind: "random", count, ...(seed === undefined ? {} : { seed }) };
	}

	#remember(object: JsonObject, field: string): Step | undefined {
		this.keys(object, field, ["remember", "note"], "a key of a step with remember");
		const value = own(object, "remember");
		const place = at(field, "remember");
		if (typeof value !== "string" || !NAME.test(value) || value.length > scenarioLimits.name) {
			return this.add(place, `a name: letters, digits and _, up to ${scenarioLimits.name}`, value);
		}
		this.#remembered.add(value);
		if (this.#remembered.size > scenarioLimits.remembered) {
			return this.add(place, `at most ${scenarioLimits.remembered} states`, "one more");
		}
		return { kind: "remember", name: value };
	}

	#expect(object: JsonObject, field: string): Step | undefined {
		const inner = this.#inner(object, field, "expect");
		if (inner === undefined) return undefined;
		const place = at(field, "expect");
		if (Object.hasOwn(inner, "same")) {
			this.keys(inner, place, ["same"], "a key beside same");
			const names = [...this.#remembered];
			const name = this.name(inner.same, at(place, "same"), names, "a state that an earlier step remembers");
			return name === undefined ? undefined : { kind: "same", name };
		}
		const subject = Object.keys(subjects).find((key) => Object.hasOwn(inner, key));
		if (subject === undefined) {
			const first = Object.keys(inner)[0];
			return this.add(place, oneOf(first, [...Object.keys(subjects), "same"], "something to look at"), first);
		}
		const definition = subjects[subject] as (typeof subjects)[string];
		const keys = [...Object.keys(definition.target), ...Object.keys(definition.checks)];
		const what = subject === "domid" ? "a property of a domain" : `a property of a ${subject}`;
		this.keys(inner, place, keys, what);
		const target: Record<string, number | string> = {};
		for (const [key, parameter] of Object.entries(definition.target)) {
			const value = Object.hasOwn(inner, key)
				? this.#number(inner[key], at(place, key), parameter.max ?? 0)
				: this.add(at(place, key), parameter.doc, undefined);
			if (value !== undefined) target[key] = value;
		}
		const checks: Record<string, number | boolean | string> = {};
		for (const [key, check] of Object.entries(definition.checks)) {
			const value = this.#optional(inner, key, place, (v, f) => this.#parameter(v, f, check));
			if (value !== undefined) checks[key] = value as number | boolean | string;
		}
		// A misspelt property has been told of already.
		if (Object.keys(inner).length <= Object.keys(target).length) {
			this.add(place, `${what} that is expected`, undefined);
		}
		return { kind: "state", subject, target, checks };
	}
}

export const isCapture = (value: unknown): value is string => typeof value === "string" && value.startsWith("$");

function refuse(name: string, problems: readonly Problem[], more: number): never {
	const [first] = problems as [Problem];
	const count = problems.length + more;
	const others = count === 1 ? "" : ` (the first of ${count} problems)`;
	throw new XluError(
		"XLU_E_SCENARIO",
		`${name} is not a valid scenario${others}: ${first.field}: expected ${first.expected}, got ${first.got}.`,
		{ record: name, ...first, problems },
	);
}

/**
 * Makes a scenario of a JSON value.
 * @param value what JSON.parse gives; anything else is told as a problem
 * @param name for reports
 * @param folder where the path of a captured host starts
 * @throws XLU_E_SCENARIO with all problems, up to ten
 */
export function parseScenario(value: unknown, name = "scenario", folder = "."): Scenario {
	const parser = new Parser();
	const scenario = parser.scenario(value, name, folder);
	if (scenario === undefined || parser.problems.length > 0) refuse(name, parser.problems, parser.more);
	return scenario;
}

/** Where JSON ends to be JSON, as far as the engine says it: line and column, or that it ends too early. */
function placeOfError(message: string, text: string): string {
	const position = /at position (\d+)/.exec(message)?.[1];
	if (position === undefined) return message;
	const before = text.slice(0, Number(position)).split("\n");
	return `line ${before.length}, column ${(before.at(-1) ?? "").length + 1}: ${message}`;
}

/**
 * Makes a scenario of a file's octets.
 * @throws XLU_E_SCENARIO if it is no UTF-8, no JSON, or no scenario
 */
export function readScenario(octets: Uint8Array, name = "scenario", folder = "."): Scenario {
	const one = (expected: string, got: string): never => refuse(name, [{ field: "the file", expected, got }], 0);
	if (octets.length > scenarioLimits.octets) return one(`at most ${scenarioLimits.octets} octets`, "more");
	let text: string;
	try {
		text = new TextDecoder("utf-8", { fatal: true }).decode(octets);
	} catch {
		return one("text in UTF-8", "other octets");
	}
	let value: unknown;
	try {
		value = JSON.parse(text);
	} catch (error) {
		return one("JSON", text.trim() === "" ? "an empty file" : placeOfError((error as Error).message, text));
	}
	return parseScenario(value, name, folder);
}
