/**
 * The coding of tables a second time, straight from its description (assembly/extent/chunk.ts) and built differently:
 * bigints, lists of runs, all three forms made in full and compared. It shares nothing with the core, so that a mistake
 * has to be made twice to pass.
 */

export type ElementBytes = 1 | 8;

export interface Run {
	first: number;
	length: number;
	value: bigint;
}

const CHUNK = 4096;
const RUNS = 1;
const PACKED = 2;
const LITERAL = 3;

/** One frame on for a present entry, else the same again; undefined where the MFN's 40 bits are used up. */
function successor(entry: bigint): bigint | undefined {
	if (entry >> 63n === 0n) {
		return entry;
	}
	const mfn = entry & 0xff_ffff_ffffn;
	return mfn === 0xff_ffff_ffffn ? undefined : entry + 1n;
}

function splitRuns(entries: readonly bigint[], base = 0): Run[] {
	const runs: Run[] = [];
	let expected: bigint | undefined;
	for (const [index, entry] of entries.entries()) {
		const last = runs.at(-1);
		if (last !== undefined && entry === expected) {
			last.length++;
		} else {
			runs.push({ first: base + index, length: 1, value: entry });
		}
		expected = successor(entry);
	}
	return runs;
}

/** The runs of a whole table, none across the chunks' bounds. */
export function referenceRuns(entries: readonly bigint[]): Run[] {
	const runs: Run[] = [];
	for (let first = 0; first < entries.length; first += CHUNK) {
		runs.push(...splitRuns(entries.slice(first, first + CHUNK), first));
	}
	return runs;
}

class Writer {
	private bytes = new Uint8Array(64);
	length = 0;

	put(value: bigint | number, octets: number): this {
		if (this.length + 8 > this.bytes.length) {
			const larger = new Uint8Array(this.bytes.length * 2);
			larger.set(this.bytes);
			this.bytes = larger;
		}
		new DataView(this.bytes.buffer).setBigUint64(this.length, BigInt(value), true);
		this.length += octets;
		return this;
	}

	putAll(values: readonly (bigint | number)[], octets: number): this {
		for (const value of values) {
			this.put(value, octets);
		}
		return this;
	}

	padTo8(): Uint8Array {
		while (this.length % 8 !== 0) {
			this.put(0, 1);
		}
		return this.bytes.subarray(0, this.length);
	}
}

function octetsNeeded(value: bigint): number {
	return Math.max(1, Math.ceil(value.toString(16).length / 2));
}

function encodeChunk(elementBytes: ElementBytes, entries: readonly bigint[]): Uint8Array {
	const forms: { form: number; width: number; payload: Uint8Array }[] = [];

	const runs = splitRuns(entries);
	const values = runs.map((run) => run.value);
	const lengths = runs.map((run) => run.length);
	const coded = new Writer().put(runs.length, 4).put(0, 4);
	if (elementBytes === 8) {
		coded.putAll(values, 8).putAll(lengths, 2);
	} else {
		coded.putAll(lengths, 2).putAll(values, 1);
	}
	forms.push({ form: RUNS, width: 0, payload: coded.padTo8() });

	if (elementBytes === 8) {
		const base = entries[0]!;
		const differences = entries.map((entry) => entry ^ base);
		const width = Math.max(...differences.map(octetsNeeded));
		if (width < 8) {
			forms.push({ form: PACKED, width, payload: new Writer().put(base, 8).putAll(differences, width).padTo8() });
		}
	}

	forms.push({ form: LITERAL, width: 0, payload: new Writer().putAll(entries, elementBytes).padTo8() });

	// A stable sort keeps the order of preference among equals.
	forms.sort((a, b) => a.payload.length - b.payload.length);
	const { form, width, payload } = forms[0]!;
	const header = new Writer().put(form, 1).put(width, 1).put(entries.length, 2).put(payload.length, 4).padTo8();
	return Buffer.concat([header, payload]);
}

export function referenceEncode(elementBytes: ElementBytes, entries: readonly bigint[]): Uint8Array {
	const chunks: Uint8Array[] = [];
	for (let first = 0; first < entries.length; first += CHUNK) {
		chunks.push(encodeChunk(elementBytes, entries.slice(first, first + CHUNK)));
	}
	return Buffer.concat(chunks);
}

class Reader {
	offset = 0;
	readonly bytes: Uint8Array;

	constructor(bytes: Uint8Array) {
		this.bytes = bytes;
	}

	get isAtEnd(): boolean {
		return this.offset === this.bytes.length;
	}

	take(octets: number): Uint8Array {
		if (octets > this.bytes.length - this.offset) {
			throw new Error(`expected ${octets} octets at ${this.offset}, got ${this.bytes.length - this.offset}`);
		}
		this.offset += octets;
		return this.bytes.subarray(this.offset - octets, this.offset);
	}

	unsigned(octets: number): bigint {
		return this.take(octets).reduceRight((value, octet) => (value << 8n) | BigInt(octet), 0n);
	}

	number(octets: number): number {
		return Number(this.unsigned(octets));
	}

	list(count: number, octets: number): bigint[] {
		return Array.from({ length: count }, () => this.unsigned(octets));
	}
}

function must(condition: boolean, what: string): asserts condition {
	if (!condition) {
		throw new Error(`expected ${what}`);
	}
}

function decodeRuns(elementBytes: ElementBytes, payload: Reader, entryCount: number): bigint[] {
	const runCount = payload.number(4);
	must(runCount >= 1 && runCount <= entryCount, "1 to entryCount runs");
	must(payload.number(4) === 0, "a reserved word of zero");
	let values: bigint[] = [];
	if (elementBytes === 8) {
		values = payload.list(runCount, 8);
	}
	const lengths = payload.list(runCount, 2).map(Number);
	if (elementBytes === 1) {
		values = payload.list(runCount, 1);
	}
	must(
		lengths.every((length) => length > 0),
		"no empty run",
	);
	must(lengths.reduce((sum, length) => sum + length, 0) === entryCount, "runs that sum to entryCount");
	const entries: bigint[] = [];
	for (const [run, value] of values.entries()) {
		let entry: bigint | undefined = value;
		for (let i = 0; i < lengths[run]!; i++) {
			must(entry !== undefined, "no carry out of the MFN");
			entries.push(entry);
			entry = successor(entry);
		}
	}
	must(splitRuns(entries).length === runCount, "maximal runs");
	return entries;
}

function decodePacked(payload: Reader, entryCount: number, width: number): bigint[] {
	const base = payload.unsigned(8);
	const differences = payload.list(entryCount, width);
	must(differences[0] === 0n, "the first entry as base");
	must(Math.max(...differences.map(octetsNeeded)) === width, "the smallest width");
	return differences.map((difference) => base ^ difference);
}

/** Decodes a table. Throws on anything that the format does not allow. */
export function referenceDecode(elementBytes: ElementBytes, bytes: Uint8Array, count: number): bigint[] {
	const entries: bigint[] = [];
	const stream = new Reader(bytes);
	while (entries.length < count) {
		const form = stream.number(1);
		const width = stream.number(1);
		const entryCount = stream.number(2);
		const payloadBytes = stream.number(4);
		must(entryCount === Math.min(CHUNK, count - entries.length), "4096 entries, or the rest");
		must(payloadBytes % 8 === 0, "a payload that is a multiple of 8");
		must(form === PACKED ? width >= 1 && width <= 7 : width === 0, "a width for PACKED alone");
		const payload = new Reader(stream.take(payloadBytes));
		if (form === RUNS) {
			entries.push(...decodeRuns(elementBytes, payload, entryCount));
		} else if (form === PACKED && elementBytes === 8) {
			entries.push(...decodePacked(payload, entryCount, width));
		} else {
			must(form === LITERAL, "a known form");
			entries.push(...payload.list(entryCount, elementBytes));
		}
		const padding = payload.take(payloadBytes - payload.offset);
		must(padding.length < 8 && padding.every((octet) => octet === 0), "fewer than 8 zeros as padding");
	}
	must(stream.isAtEnd, "nothing after the last chunk");
	return entries;
}
