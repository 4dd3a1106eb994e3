/**
 * Captured hosts through the whole of the library: a fixture or an edited copy of one is read, updated live, saved and
 * restored; tests look at the stream and at the restored image, never at the model in between.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, expect } from "vitest";
import { XluError } from "../../src/errors.ts";
import { type Row, readStruct } from "../../src/format/layout.ts";
import { type Host, loadHost } from "../../src/host.ts";
import { type InspectedPort, portsOf, walkRecords } from "../../src/inspect/stream.ts";
import { load } from "../../src/library.ts";
import { viewImage } from "../../src/machine/image.ts";
import type { UpdateReport } from "../../src/update.ts";
import { coreModule } from "./core.ts";

/** The captured hosts in test/fixtures/xen-4.17. */
export const fixtures = join(import.meta.dirname, "../fixtures/xen-4.17");
export const fixtureText = (path: string): string => readFileSync(join(fixtures, path), "utf8");

const library = await load({ module: coreModule });

/** A directory of temporary files that goes away after the file's tests. */
export function scratchDirectory(): string {
	const scratch = mkdtempSync(join(tmpdir(), "xlu-hosts-"));
	afterAll(() => rmSync(scratch, { recursive: true, force: true }));
	return scratch;
}

/** A host's directory under edit. Every edit has to change something, or the test would prove nothing. */
export class EditedHost {
	readonly path: string;

	constructor(path: string) {
		this.path = path;
	}

	file(name: string): string {
		return join(this.path, name);
	}

	text(name: string): string {
		return readFileSync(this.file(name), "utf8");
	}

	write(name: string, content: string | Uint8Array): this {
		writeFileSync(this.file(name), content);
		return this;
	}

	remove(...names: string[]): this {
		for (const name of names) rmSync(this.file(name));
		return this;
	}

	map(name: string, change: (text: string) => string): this {
		const before = this.text(name);
		const after = change(before);
		expect(after, `${name} as before`).not.toBe(before);
		return this.write(name, after);
	}

	replace(name: string, from: string | RegExp, to: string): this {
		return this.map(name, (text) => text.replace(from, to));
	}

	/** Changes an image, which is left uncompressed. */
	image(name: string, change: (image: Buffer) => Buffer | undefined): this {
		const image = gunzipSync(readFileSync(this.file(`${name}.gz`)));
		const changed = change(image) ?? image;
		return this.remove(`${name}.gz`).write(name, changed);
	}
}

/** Makes copies of fixtures in a scratch directory. */
export function copies(): (host: string) => EditedHost {
	const scratch = scratchDirectory();
	let count = 0;
	return (host) => {
		const path = join(scratch, `${host}-${count++}`);
		cpSync(join(fixtures, host), path, { recursive: true });
		return new EditedHost(path);
	};
}

/** A table's row, numbers as numbers: nothing that tests look at is above 2^53, but for registers (`bigRows`). */
export type NumberRow = Record<string, number>;

/** A host after its live update: the report, the stream, and what xen#2 built. */
export interface Updated {
	host: Host;
	report: UpdateReport;
	stream: Uint8Array;
	/** The restored image. */
	image: Uint8Array;
	/** As `xlu inspect --json` lists them. */
	ports: InspectedPort[];
	/** Rows of a table of the restored image; of the host's own tables without a domid. */
	rows(table: string, domid?: number): NumberRow[];
	bigRows(table: string, domid?: number): Row[];
	/** Octets of a table of the restored image: for those with a row per frame. */
	octets(table: string, domid?: number): Uint8Array;
	domids: number[];
	/** Count of page and type references of a frame in the restored image. */
	counts(mfn: number): { references: number; typeReferences: number };
	/** Entry of a frame in the restored image's frame-owner and page-type tables. */
	owner(mfn: number): number;
	type(mfn: number): number;
	preserved(mfn: number): DataView;
}

function toNumbers(row: Row): NumberRow {
	return Object.fromEntries(Object.entries(row).map(([name, entry]) => [name, Number(entry)]));
}

/** Runs the live update of a directory, and for tests to look at saves and restores it as well. */
export async function update(path: string): Promise<Updated> {
	const host = loadHost(path);
	const report = await library.run(host);
	const { stream, memory } = library.save(host);
	const { image } = library.restore(stream, memory);
	const { view, host: tables, domains } = viewImage(image);
	const find = (name: string, domid?: number) => {
		const scope = domid === undefined ? tables : domains.find((domain) => domain.domid === domid)?.tables;
		const found = scope?.find(({ table }) => table.name === name);
		if (!found) throw new Error(`no table ${name} of ${domid ?? "the host"}`);
		return found;
	};
	const bigRows = (name: string, domid?: number): Row[] => {
		const { table, offset, count } = find(name, domid);
		return Array.from({ length: count }, (_, i) => readStruct(table.row, view, offset + i * table.row.size));
	};
	const frame = (name: string, mfn: number): NumberRow => {
		const { table, offset, count } = find(name);
		expect(mfn).toBeLessThan(count);
		return toNumbers(readStruct(table.row, view, offset + mfn * table.row.size));
	};
	return {
		host,
		report,
		stream,
		image,
		ports: portsOf(walkRecords(stream), (mfn) => host.preserved.get(mfn)),
		rows: (name, domid) => bigRows(name, domid).map(toNumbers),
		bigRows,
		octets: (name, domid) => {
			const { table, offset, count } = find(name, domid);
			return image.slice(offset, offset + count * table.row.size);
		},
		domids: domains.map(({ domid }) => domid),
		counts: (mfn) => frame("FrameCounts", mfn) as { references: number; typeReferences: number },
		owner: (mfn) => frame("FrameOwners", mfn).value as number,
		type: (mfn) => frame("FrameTypes", mfn).value as number,
		preserved: (mfn) => {
			const page = host.preserved.get(mfn);
			if (!page) throw new Error(`frame ${mfn} is not preserved`);
			return new DataView(page.buffer, page.byteOffset, page.byteLength);
		},
	};
}

const known = new Map<string, Promise<Updated>>();

/** A fixture as it is, updated once per test file. */
export function updatedFixture(name: string): Promise<Updated> {
	const found = known.get(name) ?? update(join(fixtures, name));
	known.set(name, found);
	return found;
}

/** The stream alone that a directory is saved as. */
export function savedStream(path: string): Uint8Array {
	return library.save(loadHost(path)).stream;
}

/**
 * The error in which reading and updating a directory ends, undefined if there is none. Whatever is no XluError fails
 * the test: a capture may be as bad as it likes, it never crashes the program.
 */
export async function refusalOf(path: string): Promise<XluError | undefined> {
	try {
		await library.run(loadHost(path));
		return undefined;
	} catch (error) {
		if (error instanceof XluError) return error;
		throw error;
	}
}
