/** Streams as text: what a record says in a few words, in full, and as octets. */
import type { Fields, Json } from "../formats/common/record.ts";

const BRIEF_LENGTH = 80;

function isScalar(value: Json | undefined): value is string | number | boolean | null {
	return value !== undefined && (typeof value !== "object" || value === null);
}

/** Text of a stream as a terminal may be shown it: control characters, which could command it, as `\\x1b`. */
export function visible(text: string): string {
	return text.replace(/\p{Cc}/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

/** A string on one line, and not much of it. */
function short(value: string): string {
	const line = visible(value.replace(/\s+/g, " "));
	return line.length > 24 ? `${line.slice(0, 21)}...` : line;
}

/**
 * The first scalar fields of a record, and how many rows its arrays have, on one short line. A record that is one object (what
 * libxc's END sums up) is told by what stands in that.
 */
export function brief(record: Fields): string {
	const [only, ...others] = Object.values(record);
	const fields = isRow(only) && others.length === 0 ? only : record;
	const words: string[] = [];
	let length = 0;
	for (const [name, value] of Object.entries(fields)) {
		const word = isScalar(value)
			? `${name} ${typeof value === "string" ? short(value) : value}`
			: Array.isArray(value)
				? `${name} (${value.length})`
				: "";
		if (word === "") continue;
		length += word.length + 2;
		if (length > BRIEF_LENGTH) break;
		words.push(word);
	}
	return words.join(", ");
}

function isRow(value: Json | undefined): value is Fields {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Fields line by line; objects and arrays of objects below their names. */
export function* fieldLines(fields: Fields, indent = "  "): Generator<string> {
	for (const [name, value] of Object.entries(fields)) {
		if (value === undefined) continue;
		if (isRow(value)) {
			yield `${indent}${name}`;
			yield* fieldLines(value, `${indent}  `);
		} else if (Array.isArray(value) && value.some((element) => isRow(element))) {
			yield `${indent}${name} (${value.length})`;
			for (const [index, element] of (value as readonly Json[]).entries()) {
				if (!isRow(element)) {
					yield `${indent}  ${index}: ${JSON.stringify(element)}`;
					continue;
				}
				const entries = Object.entries(element);
				if (entries.every(([, inner]) => isScalar(inner))) {
					yield `${indent}  ${index}: ${entries.map(([key, inner]) => visible(`${key} ${inner}`)).join(", ")}`;
				} else {
					yield `${indent}  ${index}:`;
					yield* fieldLines(element, `${indent}    `);
				}
			}
		} else {
			yield `${indent}${name.padEnd(22)} ${visible(Array.isArray(value) ? value.join(" ") : `${value}`)}`;
		}
	}
}

/** Sixteen octets a line, offset in front, text behind; equal lines as one `*`, as hexdump has it. */
export function* hexLines(octets: Uint8Array, base: number): Generator<string> {
	let previous = "";
	let isRepeating = false;
	for (let at = 0; at < octets.length; at += 16) {
		const row = octets.subarray(at, at + 16);
		const digits = Array.from(row, (octet) => octet.toString(16).padStart(2, "0"));
		const text = digits.join(" ");
		if (text === previous && at + 16 < octets.length) {
			if (!isRepeating) yield "*";
			isRepeating = true;
			continue;
		}
		isRepeating = false;
		previous = text;
		const halves = `${digits.slice(0, 8).join(" ")}  ${digits.slice(8).join(" ")}`.padEnd(48);
		const shown = Array.from(row, (octet) => (octet >= 0x20 && octet < 0x7f ? String.fromCharCode(octet) : "."));
		yield `${(base + at).toString(16).padStart(8, "0")}  ${halves}  |${shown.join("")}|`;
	}
}
