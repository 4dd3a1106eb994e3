/**
 * Hosts whose tables do not fit the core's memory: frame tables and P2Ms are detached from the image, and their rows come
 * and go through a window.
 *
 *     image (detached) ─ saveInSteps ─> pieces of the stream          rows are read
 *     stream ─ open, plan, check ─ restoreInWindows ─> image          rows are written
 *     image ─ digestInSteps ─> digest                                 rows are read
 *
 * Who has the rows is the host's affair: a RowSource reads them, a RowSink takes them; TablesInMemory is both. The core asks,
 * this file answers; a step that is answered wrongly is refused and says so.
 */
import { DOMID } from "../format/enums.ts";
import { domainTables, hostTables, type Table } from "../format/schema.ts";
import { type BulkContent, viewImage } from "../machine/image.ts";
import type { Context, Core, Wants, Window } from "./load.ts";

/** A table that is detached from its image. */
export interface BulkTable {
	/** Absent for the host's own. */
	readonly domid: number | undefined;
	/** FrameOwners, FrameTypes, FrameCounts; of a domain P2m. */
	readonly name: string;
	readonly rowBytes: number;
}

/** Who has the rows of detached tables. */
export interface RowSource {
	/** Fills `rows` with the table's octets from row `first` on. */
	read(table: BulkTable, first: number, rows: Uint8Array): void | Promise<void>;
}

/** Who takes rows that a restore has made, in order for each table. `rows` is the core's memory: valid during the call. */
export interface RowSink {
	write(table: BulkTable, first: number, rows: Uint8Array): void | Promise<void>;
}

/** A piece of a stream. `bytes` is the core's memory: valid until the next piece is asked for. */
export interface StreamPiece {
	/** Where it goes in the stream. */
	readonly offset: number;
	readonly bytes: Uint8Array;
}

export interface WindowOptions {
	/** Octets of the window that the stream goes through; by default the least that there can be. */
	windowBytes?: number;
	/** Version of the stream's format, by default the newest. */
	format?: number;
	/** Octets of the window for rows. */
	rowsBytes?: number;
}

/** Large enough that steps cost nothing, small beside everything else. */
const ROWS_BYTES = 1 << 23;
/** Rows of a coded chunk: but for a table's last ones, a step of a save takes a multiple of them. */
const CHUNK_ROWS = 4096;

/** A table by its number in the directory, as the core names it. */
function bulkTable(domid: number, table: number): BulkTable {
	const isHost = domid === DOMID.XEN;
	const { name, row } = (isHost ? hostTables : domainTables)[table] as Table;
	return { domid: isHost ? undefined : domid, name, rowBytes: row.size };
}

/** Brings rows that a step wants, as many as the window takes. */
async function bring(
	core: Core,
	wants: Extract<Wants, { kind: "rows" }>,
	window: Window,
	unit: number,
	source: RowSource,
): Promise<Window> {
	const table = bulkTable(wants.domid, wants.table);
	const room = Math.floor(window.length / table.rowBytes);
	// A window that is smaller than a unit is brought as it is: the core says what it should be.
	const most = room > unit ? room - (room % unit) : room;
	const rows = { pointer: window.pointer, length: Math.min(wants.count, most) * table.rowBytes };
	await source.read(table, wants.first, core.bytes(rows));
	return rows;
}

const NO_ROWS: RowSource = { read: () => {} };

/**
 * Saves an image in steps. The stream is `save`'s, octet for octet, once each piece stands at its offset: they come in order,
 * but for each section's first record, which may come a second time when the section has ended.
 *
 * @param image in the core's memory; left alone until the last piece
 * @param source of the rows, where the image is detached
 * @throws XLU_E_SPACE if a window is too small
 */
export async function* saveInSteps(
	core: Core,
	image: Window,
	source: RowSource = NO_ROWS,
	options: WindowOptions = {},
): AsyncGenerator<StreamPiece, void, void> {
	const context = core.createContext();
	context.saveAs(options.format ?? 0);
	const { windowBytes, indexBytes } = context.planSteps(image);
	const out = core.allocate(options.windowBytes ?? windowBytes);
	const index = core.allocate(indexBytes);
	const window = core.allocate(options.rowsBytes ?? ROWS_BYTES);
	let wants = context.saveStart(image, out, index);
	while (wants.kind !== "nothing") {
		if (wants.kind === "rows") {
			wants = context.saveStep(await bring(core, wants, window, CHUNK_ROWS, source));
		} else {
			yield { offset: wants.offset, bytes: core.bytes(wants.piece) };
			wants = context.saveStep();
		}
	}
}

/** Puts the pieces of a stream together, for whoever has room for all of it. */
export async function gather(pieces: AsyncIterable<StreamPiece>): Promise<Uint8Array<ArrayBuffer>> {
	let stream = new Uint8Array(1 << 16);
	let length = 0;
	for await (const { offset, bytes } of pieces) {
		const end = offset + bytes.length;
		if (end > stream.length) {
			const larger = new Uint8Array(Math.max(end, 2 * stream.length));
			larger.set(stream.subarray(0, length));
			stream = larger;
		}
		stream.set(bytes, offset);
		length = Math.max(length, end);
	}
	return stream.slice(0, length);
}

/** Canonical digest of an image that is detached: the same as `digest` of one that is not. */
export async function digestInSteps(
	core: Core,
	image: Window,
	source: RowSource = NO_ROWS,
	options: WindowOptions = {},
): Promise<bigint> {
	const context = core.createContext();
	const window = core.allocate(options.rowsBytes ?? ROWS_BYTES);
	let wants = context.digestStart(image);
	while (wants.kind === "rows") wants = context.digestStep(await bring(core, wants, window, 1, source));
	return context.stepsDigest;
}

/**
 * The three passes over all domains, with the rows of bulk tables window by window. A window of counts is made from all that
 * domains hold of its frames: where these are mixed, the larger it is the less often domains are gone through.
 *
 * @param context opened with `detached`, planned, checked, and given its target
 * @param target that target
 */
export async function restoreInWindows(
	core: Core,
	context: Context,
	target: Window,
	sink: RowSink,
	options: WindowOptions = {},
): Promise<void> {
	const window = core.allocate(options.rowsBytes ?? ROWS_BYTES);
	const domids = context.domids();
	const make = async (domid: number, name: string, rows: number) => {
		const number = (domid === DOMID.XEN ? hostTables : domainTables).findIndex((table) => table.name === name);
		const table = bulkTable(domid, number);
		const most = Math.max(1, Math.floor(window.length / table.rowBytes));
		for (let first = 0; first < rows; first += most) {
			const count = Math.min(most, rows - first);
			context.restoreRows(domid, number, first, count, window);
			await sink.write(table, first, core.bytes({ pointer: window.pointer, length: count * table.rowBytes }));
		}
	};
	context.restore(0, DOMID.XEN);
	const view = viewImage(core.bytes(target));
	const rowsOf = new Map(
		view.domains.map(({ domid, tables }) => [domid, tables.find(({ table }) => table.name === "P2m")?.count ?? 0]),
	);
	for (const domid of domids) {
		context.restore(0, domid);
		await make(domid, "P2m", rowsOf.get(domid) ?? 0);
	}
	const frames = context.figure("frameCount");
	await make(DOMID.XEN, "FrameOwners", frames);
	await make(DOMID.XEN, "FrameTypes", frames);
	context.restore(1, DOMID.XEN);
	for (const domid of domids) context.restore(1, domid);
	for (const domid of domids) context.restore(2, domid);
	await make(DOMID.XEN, "FrameCounts", frames);
	context.finish();
}

/** Detached tables in the host's own memory. */
export class TablesInMemory implements RowSource, RowSink {
	readonly #tables = new Map<string, Uint8Array>();

	/** @param bulk tables to begin with; others grow as they are written */
	constructor(bulk: readonly BulkContent[] = []) {
		for (const { domid, table, bytes } of bulk) this.#tables.set(keyOf({ domid, name: table.name }), bytes);
	}

	/** All rows of a table that are there. */
	table(domid: number | undefined, name: string): Uint8Array {
		return this.#tables.get(keyOf({ domid, name })) ?? new Uint8Array(0);
	}

	read(table: BulkTable, first: number, rows: Uint8Array): void {
		const from = first * table.rowBytes;
		rows.set(this.table(table.domid, table.name).subarray(from, from + rows.length));
	}

	write(table: BulkTable, first: number, rows: Uint8Array): void {
		const from = first * table.rowBytes;
		let octets = this.table(table.domid, table.name);
		if (from + rows.length > octets.length) {
			const larger = new Uint8Array(from + rows.length);
			larger.set(octets);
			octets = larger;
			this.#tables.set(keyOf(table), octets);
		}
		octets.set(rows, from);
	}
}

function keyOf({ domid, name }: Pick<BulkTable, "domid" | "name">): string {
	return `${domid ?? "host"} ${name}`;
}
