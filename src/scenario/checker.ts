/**
 * Looks through JSON that people wrote and gathers what is wrong with it: place, what was expected, what is there. Values
 * come from strangers: nothing here follows their depth, and keys are compared as own ones alone ("__proto__" is a key
 * like any other).
 */
import type { Problem } from "../errors.ts";

/** So many problems are told; of those beyond only the number. */
export const MOST_PROBLEMS = 10;
const MOST_SHOWN = 40;
/** Beyond this length a name is no misspelt one. */
const MOST_COMPARED = 48;

/** A value in a message: short, whatever it is. */
export function shown(value: unknown): string {
	if (value === undefined) return "nothing";
	if (Array.isArray(value)) return `a list of ${value.length}`;
	if (typeof value === "object" && value !== null) return "an object";
	const text = typeof value === "bigint" ? `${value}` : (JSON.stringify(value) ?? typeof value);
	return text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}...` : text;
}

/** Steps from one name to the other: a letter more, less or changed. */
function distance(a: string, b: string): number {
	let before = Array.from({ length: b.length + 1 }, (_, i) => i);
	for (let i = 1; i <= a.length; i++) {
		const row = [i];
		for (let j = 1; j <= b.length; j++) {
			const changed = (before[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
			row.push(Math.min(changed, (before[j] as number) + 1, (row[j - 1] as number) + 1));
		}
		before = row;
	}
	return before[b.length] as number;
}

/** The name that was meant, if one is near. */
export function nearest(name: string, names: readonly string[]): string | undefined {
	if (name.length > MOST_COMPARED) return undefined;
	let [best, steps] = [undefined as string | undefined, Math.max(2, Math.floor(name.length / 3)) + 1];
	for (const candidate of names) {
		const found = distance(name.toLowerCase(), candidate.toLowerCase());
		if (found < steps) [best, steps] = [candidate, found];
	}
	return best;
}

const quoted = (names: readonly string[]): string => names.map((name) => `"${name}"`).join(", ");
/** Longer lists are in the documents. */
const MOST_LISTED = 12;

/** What was expected where a name is unknown: the names, if they are few, and the nearest one. */
export function oneOf(name: unknown, names: readonly string[], what: string): string {
	const near = typeof name === "string" ? nearest(name, names) : undefined;
	const list = names.length <= MOST_LISTED ? `${what}: ${quoted(names)}` : `${what} (docs/SCENARIOS.md)`;
	return near === undefined ? list : `${list}; nearest: "${near}"`;
}

/** The place of a property. */
export function at(field: string, key: string): string {
	if (!/^[A-Za-z_$][\w$]*$/.test(key) || key.length > MOST_SHOWN) return `${field}[${shown(key)}]`;
	return field === "" ? key : `${field}.${key}`;
}

export type JsonObject = Readonly<Record<string, unknown>>;

/** An own property's value. */
export const own = (object: JsonObject, key: string): unknown => (Object.hasOwn(object, key) ? object[key] : undefined);

export class Checker {
	readonly problems: Problem[] = [];
	/** Problems that are not in the list. */
	more = 0;

	add(field: string, expected: string, got: unknown): undefined {
		if (this.problems.length < MOST_PROBLEMS) {
			this.problems.push({ field: field === "" ? "the scenario" : field, expected, got: shown(got) });
		} else this.more++;
		return undefined;
	}

	object(value: unknown, field: string, what = "an object"): JsonObject | undefined {
		if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonObject;
		return this.add(field, what, value);
	}

	/** Tells of every key that is none of `names`. */
	keys(object: JsonObject, field: string, names: readonly string[], what: string): void {
		for (const key of Object.keys(object)) {
			if (!names.includes(key)) this.add(at(field, key), oneOf(key, names, what), key);
		}
	}

	/** A whole number from `min` to `max`, or a string "0x...". */
	integer(value: unknown, field: string, min: number, max: number): number | undefined {
		const number = typeof value === "string" && /^0x[0-9a-f]{1,14}$/i.test(value) ? Number(value) : value;
		if (Number.isSafeInteger(number) && (number as number) >= min && (number as number) <= max) return number as number;
		return this.add(field, `a whole number, ${min} to ${max}`, value);
	}

	/** Up to 64 bits; beyond 2^53 as a string "0x...". */
	word(value: unknown, field: string): number | string | undefined {
		if (typeof value === "string" && /^0x[0-9a-f]{1,16}$/i.test(value)) return value;
		if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
		return this.add(field, 'a whole number, 0 to 2^53 - 1, or a string "0x..." of up to 64 bits', value);
	}

	boolean(value: unknown, field: string): boolean | undefined {
		return typeof value === "boolean" ? value : this.add(field, "true or false", value);
	}

	name(value: unknown, field: string, names: readonly string[], what = "one of"): string | undefined {
		if (typeof value === "string" && names.includes(value)) return value;
		return this.add(field, oneOf(value, names, what), value);
	}

	text(value: unknown, field: string, longest: number): string | undefined {
		if (typeof value === "string" && value.length <= longest) return value;
		return this.add(field, `a text of up to ${longest} characters`, typeof value === "string" ? "a longer one" : value);
	}
}
