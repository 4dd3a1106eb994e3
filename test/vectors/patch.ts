/** Vectors as edits of another file, and the manifest's text. docs/CONFORMANCE.md has the form. */

/** At an offset of the base: so many of its octets go, these (hexadecimal) come. Ascending. */
export type Edit = [at: number, remove: number, insert: string];

const WORD = 8;
/** Equal words that end a difference. */
const LONG_ENOUGH = 2;
/** How far apart the two may drift in one edit, in words. */
const REACH = 2048;

/** The octets of a file from its base. */
export function applyEdits(base: Uint8Array, edits: readonly Edit[]): Uint8Array {
	const pieces: Uint8Array[] = [];
	let from = 0;
	for (const [at, remove, insert] of edits) {
		pieces.push(base.subarray(from, at), new Uint8Array(Buffer.from(insert, "hex")));
		from = at + remove;
	}
	pieces.push(base.subarray(from));
	return new Uint8Array(Buffer.concat(pieces));
}

/** Edits that make `octets` of `base`: words of 8 octets are compared, since everything in a stream is aligned to them. */
export function editsBetween(base: Uint8Array, octets: Uint8Array): Edit[] {
	const word = (of: Uint8Array, i: number): string =>
		Buffer.from(of.subarray(i * WORD, i * WORD + WORD)).toString("hex");
	const a = Array.from({ length: Math.ceil(base.length / WORD) }, (_, i) => word(base, i));
	const b = Array.from({ length: Math.ceil(octets.length / WORD) }, (_, i) => word(octets, i));
	const meets = (i: number, j: number): boolean => {
		if (i === a.length && j === b.length) return true;
		for (let n = 0; n < LONG_ENOUGH; n++) if (a[i + n] === undefined || a[i + n] !== b[j + n]) return false;
		return true;
	};
	const edits: Edit[] = [];
	let i = 0;
	let j = 0;
	while (i < a.length || j < b.length) {
		if (a[i] !== undefined && a[i] === b[j]) {
			i++;
			j++;
			continue;
		}
		const [more, less] = nearest(a.length - i, b.length - j, (x, y) => meets(i + x, j + y));
		const insert = b.slice(j, j + less).join("");
		const end = Math.min(base.length, (i + more) * WORD);
		edits.push([i * WORD, end - i * WORD, insert]);
		i += more;
		j += less;
	}
	return edits;
}

/** The fewest words to leave out of both, so that what follows is the same; most likely as many of each. */
function nearest(leftA: number, leftB: number, meets: (x: number, y: number) => boolean): [number, number] {
	for (let drift = 0; drift <= Math.min(REACH, Math.max(leftA, leftB)); drift++) {
		for (let x = 0; x <= Math.min(drift, leftA); x++) if (drift <= leftB && meets(x, drift)) return [x, drift];
		for (let y = 0; y < Math.min(drift, leftB + 1); y++) if (drift <= leftA && meets(drift, y)) return [drift, y];
	}
	return [leftA, leftB];
}

/** The manifest with one vector to a line. */
export function vectorJson(manifest: Record<string, unknown>): string {
	const lines = (list: unknown[]) => list.map((item) => `    ${JSON.stringify(item)}`).join(",\n");
	const rows = Object.entries(manifest).map(([key, value]) => {
		if (Array.isArray(value)) return `  "${key}": [\n${lines(value)}\n  ]`;
		if (typeof value !== "object" || value === null) return `  "${key}": ${JSON.stringify(value)}`;
		const entries = Object.entries(value).map(([name, item]) => `    "${name}": ${JSON.stringify(item)}`);
		return `  "${key}": {\n${entries.join(",\n")}\n  }`;
	});
	return `{\n${rows.join(",\n")}\n}\n`;
}
