/**
 * The core as the host sees it: one instance of the module, windows handed out from its memory, and calls whose faults
 * become errors. The module imports nothing and keeps nothing: all state is in the windows.
 */
import { readFile } from "node:fs/promises";
import { XluError } from "../errors.ts";
import { fieldAt, slotAt } from "../format/decode.ts";
import { DOMID, KIND, PASS } from "../format/enums.ts";
import { readStruct, type Struct } from "../format/layout.ts";
import { ruleByNumber, ruleId } from "../format/rules.ts";
import {
	domainTables,
	hostTables,
	imageStructs,
	OPEN_FLAG,
	OPEN_VERSION_SHIFT,
	recordByType,
	structs,
	WANTS,
} from "../format/schema.ts";
import { faultValues } from "./faultValues.ts";

/** What the module exports; every u32 arrives signed and is brought back by `>>> 0`. */
interface Exports {
	readonly memory: WebAssembly.Memory;
	abi(): number;
	heapBase(): number;
	contextBytes(): number;
	hash(pointer: number, bytes: number): bigint;
	saveAs(ctx: number, version: number): number;
	planSave(ctx: number, image: number, bytes: number): number;
	save(ctx: number, image: number, bytes: number, out: number, capacity: number): number;
	open(ctx: number, stream: number, bytes: number, flags: number): number;
	plan(ctx: number): number;
	check(ctx: number, work: number, workBytes: number, memory: number, memoryBytes: number): number;
	target(ctx: number, image: number, bytes: number): number;
	restore(ctx: number, pass: number, domid: number): number;
	fork(ctx: number, worker: number, sums: number, bytes: number): number;
	frames(ctx: number, pass: number, block: number): number;
	finish(ctx: number): number;
	digest(ctx: number, image: number, bytes: number, out: number): number;
	compare(ctx: number, a: number, bytesA: number, b: number, bytesB: number): number;
	planSteps(ctx: number, image: number, bytes: number): number;
	saveStart(
		ctx: number,
		image: number,
		bytes: number,
		out: number,
		capacity: number,
		index: number,
		indexBytes: number,
	): number;
	saveStep(ctx: number, rows: number, bytes: number): number;
	digestStart(ctx: number, image: number, bytes: number): number;
	digestStep(ctx: number, rows: number, bytes: number): number;
	restoreRows(
		ctx: number,
		domid: number,
		table: number,
		first: number,
		count: number,
		out: number,
		capacity: number,
	): number;
}

/** The fault record of a refused call, as the core wrote it. */
export interface Fault {
	rule: number;
	/** `XLU-Rnnn` */
	ruleId: string;
	pass?: string;
	domid?: number;
	record?: string;
	offset: number;
	field?: string;
	/** Of a row of a sparse table: the port, reference or handle that it is of. */
	slot?: number;
	expected: bigint;
	got: bigint;
}

/** A stretch of the core's memory. */
export interface Window {
	readonly pointer: number;
	readonly length: number;
}

/** What a step wants before the next one: rows of a detached table, a piece of the stream drained, or nothing more. */
export type Wants =
	| { kind: "rows"; domid: number; table: number; first: number; count: number }
	| { kind: "drain"; piece: Window; offset: number }
	| { kind: "nothing" };

const PAGE = 65536;
/** A page of the machine's. */
const SMALL_PAGE = 4096;
/** How a stream is to be opened. */
export interface OpenOptions {
	/** Zeros may fill its last frame (H2). */
	readonly padded?: boolean;
	/** The target's bulk tables will be made window by window (windows.ts). */
	readonly detached?: boolean;
	/** Newest version of the format that the reader knows, where that is another hypervisor than this core's; 0: this core's. */
	readonly newest?: number;
}

/** What 32-bit addresses reach: all windows together. */
export const MOST_BYTES = 2 ** 32;
const passNames = Object.fromEntries(Object.entries(PASS).map(([name, code]) => [code, name]));
const NONE = 0xffff_ffff;
/** Sections of what the passes do domain by domain. */
const passSections: number[] = [PASS["0"], PASS["1d"], PASS["2"]];
const offsetIn = (struct: Struct, field: string): number =>
	struct.fields.find(({ name }) => name === field)?.offset as number;
const indexEntry = {
	pass: offsetIn(structs.IndexEntry, "pass"),
	domid: offsetIn(structs.IndexEntry, "domid"),
	length: offsetIn(structs.IndexEntry, "length"),
};
const domainEntryDomid = offsetIn(imageStructs.DomainEntry, "domid");
const tableRefBytes = imageStructs.TableRef.size;
const tableRefCount = offsetIn(imageStructs.TableRef, "count");
const p2mTable = domainTables.findIndex(({ name }) => name === "P2m");

export interface LoadOptions {
	/** A compiled module, for bundlers and workers; by default the one that the package ships. */
	module?: WebAssembly.Module;
	/** The most that the core's memory may grow to, in octets; by default the 4 GiB that 32-bit addresses reach. */
	memoryBytes?: number;
}

/** Compiles the module that the package ships, for those who load the core again and again. */
export async function compileCore(): Promise<WebAssembly.Module> {
	return WebAssembly.compile(await readFile(new URL("../core.wasm", import.meta.url)));
}

/** Loads the core. One instance serves any number of updates, one after the other. */
export async function loadCore(options: LoadOptions = {}): Promise<Core> {
	const module = options.module ?? (await compileCore());
	return new Core(new WebAssembly.Instance(module, {}), options.memoryBytes);
}

export class Core {
	readonly #exports: Exports;
	readonly #mostBytes: number;
	#next: number;

	constructor(instance: WebAssembly.Instance, mostBytes = MOST_BYTES) {
		this.#mostBytes = Math.min(mostBytes, MOST_BYTES);
		this.#exports = instance.exports as unknown as Exports;
		this.#next = this.#exports.heapBase() >>> 0;
	}

	/** Version of the core's interface. */
	get abi(): number {
		return this.#exports.abi() >>> 0;
	}

	/** Drops all windows; what they held is gone. */
	reset(): void {
		this.#next = this.#exports.heapBase() >>> 0;
	}

	/**
	 * Hands out `length` octets, 16-aligned, growing the memory. Views of older windows die when the memory grows: take
	 * them anew with `bytes`.
	 * @throws XLU_E_SPACE beyond 4 GiB, or what `memoryBytes` allows
	 */
	allocate(length: number): Window {
		const pointer = Math.ceil(this.#next / 16) * 16;
		const end = pointer + length;
		if (end > this.#mostBytes) this.#noRoom(length, end);
		const missing = Math.ceil((end - this.#exports.memory.buffer.byteLength) / PAGE);
		if (missing > 0) {
			try {
				this.#exports.memory.grow(missing);
			} catch (cause) {
				this.#noRoom(length, end, cause);
			}
		}
		this.#next = end;
		return { pointer, length };
	}

	#noRoom(length: number, end: number, cause?: unknown): never {
		const most = this.#mostBytes === MOST_BYTES ? "4 GiB" : `${this.#mostBytes} octets`;
		throw new XluError("XLU_E_SPACE", `The core's memory cannot hold ${length} more octets.`, {
			expected: `at most ${most} in all windows`,
			got: `${end} octets`,
			cause,
		});
	}

	/** Octets that the memory has grown to. */
	get memoryBytes(): number {
		return this.#exports.memory.buffer.byteLength;
	}

	/**
	 * Grows the memory for windows of `length` octets in all and writes to each of their pages, so that the first to use
	 * them does not wait for the machine to find these. As far as 4 GiB allow; what does not fit is refused by `allocate`.
	 */
	touch(length: number): void {
		const next = this.#next;
		const octets = this.bytes(this.allocate(Math.min(length, this.#mostBytes - next - 16)));
		for (let at = 0; at < octets.length; at += SMALL_PAGE) octets[at] = 0;
		this.#next = next;
	}

	/** Copies octets into a window of their own. */
	place(data: Uint8Array): Window {
		const window = this.allocate(data.length);
		this.bytes(window).set(data);
		return window;
	}

	/** A live view of a window, valid until the next allocation; of shared memory where the core's is. */
	bytes(window: Window): Uint8Array<ArrayBuffer> {
		return new Uint8Array(this.#exports.memory.buffer as ArrayBuffer, window.pointer, window.length);
	}

	/** XXH3-64 (seed 0) of a window. */
	hash(window: Window): bigint {
		return BigInt.asUintN(64, this.#exports.hash(window.pointer, window.length));
	}

	/** A context block: one save, or one restore. */
	createContext(): Context {
		return new Context(this, this.#exports, this.allocate(this.#exports.contextBytes() >>> 0));
	}
}

/** One context block and the calls on it. Methods throw XluError with the fault's details. */
export class Context {
	readonly #core: Core;
	readonly #exports: Exports;
	readonly #window: Window;

	constructor(core: Core, exports: Exports, window: Window) {
		this.#core = core;
		this.#exports = exports;
		this.#window = window;
		core.bytes(window).fill(0);
	}

	/** Address of the context block, for threads that call the core on it. */
	get pointer(): number {
		return this.#window.pointer;
	}

	/** A field of the context block. */
	figure(name: string): number {
		return Number(this.#row()[name]);
	}

	/** The fault record as it stands. */
	fault(stream?: Window): Fault {
		const { buffer } = this.#core.bytes(this.#window);
		const row = readStruct(imageStructs.Fault, new DataView(buffer), this.#window.pointer + imageStructs.Context.size);
		const number = (name: string) => Number(row[name]);
		const type = number("recordType");
		const fault: Fault = {
			rule: number("rule"),
			ruleId: ruleId(number("rule")),
			offset: number("offset"),
			expected: row.expected as bigint,
			got: row.got as bigint,
		};
		if (number("pass") !== NONE) fault.pass = passNames[number("pass")] as string;
		if (number("domid") !== NONE) fault.domid = number("domid");
		if (type !== NONE) fault.record = recordByType(type)?.name ?? `0x${type.toString(16).padStart(8, "0")}`;
		if (number("field") !== NONE && stream) {
			fault.field = fieldAt(this.#core.bytes(stream), fault.offset, type, number("field"));
			const slot = slotAt(this.#core.bytes(stream), fault.offset, type, number("field"));
			if (slot !== undefined) fault.slot = slot;
		}
		return fault;
	}

	#throw(what: string, stream?: Window): never {
		throw faultError(this.fault(stream), what);
	}

	/**
	 * Which version of the format this context saves in, by default the newest.
	 * @throws XLU_E_VERSION for one that the core does not write
	 */
	saveAs(version: number): void {
		if (this.#exports.saveAs(this.#window.pointer, version)) this.#throw("save");
	}

	/** Most octets that the stream of an image can take. */
	planSave(image: Window): number {
		if (this.#exports.planSave(this.#window.pointer, image.pointer, image.length)) this.#throw("save");
		return this.figure("planStreamBytes");
	}

	/** Saves an image into a window; returns the stream's part of it. */
	save(image: Window, out: Window): Window {
		const { pointer } = this.#window;
		if (this.#exports.save(pointer, image.pointer, image.length, out.pointer, out.length)) this.#throw("save");
		return { pointer: out.pointer, length: this.figure("streamUsed") };
	}

	/** Opens a stream: framing, checksums, index. */
	open(stream: Window, { padded = false, detached = false, newest = 0 }: OpenOptions = {}): void {
		const flags =
			(padded ? OPEN_FLAG.padded : 0) |
			(detached ? OPEN_FLAG.detached : 0) |
			(Math.min(newest, 255) << OPEN_VERSION_SHIFT);
		if (this.#exports.open(this.#window.pointer, stream.pointer, stream.length, flags)) this.#throw("open", stream);
	}

	/** Sizes of the target image and of the workspace, in octets. */
	plan(stream: Window): { imageBytes: number; workBytes: number } {
		if (this.#exports.plan(this.#window.pointer)) this.#throw("plan", stream);
		return { imageBytes: this.figure("planImageBytes"), workBytes: this.figure("planWorkBytes") };
	}

	/** Checks every rule; writes nothing but the workspace. `memory` is the preserved memory, where there is one. */
	check(stream: Window, work: Window, memory?: Window): void {
		const { pointer } = this.#window;
		const { check } = this.#exports;
		if (check(pointer, work.pointer, work.length, memory?.pointer ?? 0, memory?.length ?? 0))
			this.#throw("check", stream);
	}

	/** Domids of the opened stream, ascending: those that have a section 0. */
	domids(): number[] {
		const { buffer } = this.#core.bytes(this.#window);
		const view = new DataView(buffer);
		const first = this.figure("indexPtr");
		const entries = Array.from({ length: this.figure("sectionCount") }, (_, i) =>
			readStruct(structs.IndexEntry, view, first + i * structs.IndexEntry.size),
		);
		return entries
			.filter((entry) => entry.pass === PASS["0"])
			.map((entry) => Number(entry.domid))
			.sort((a, b) => a - b);
	}

	/** Gives the restore its target window. */
	target(image: Window): void {
		if (this.#exports.target(this.#window.pointer, image.pointer, image.length)) this.#throw("restore");
	}

	/** One pass of one domain, or of the host (DOMID.XEN). */
	restore(pass: number, domid: number): void {
		if (this.#exports.restore(this.#window.pointer, pass, domid)) {
			const fault = this.fault();
			if (ruleByNumber(fault.rule)?.name !== "PASS_ORDER") throw faultError(fault, "restore");
			throw new XluError("XLU_E_PASS", `Pass ${pass} of domain ${domid} may not run now.`, {
				rule: fault.ruleId,
				domid,
				expected: `the passes before it done for every domain, and not yet this one`,
				got: `state ${fault.expected}`,
			});
		}
	}

	/** Makes a worker's context of this one, with a window for its sums, before the first pass. */
	fork(worker: Context, sums: Window): void {
		if (this.#exports.fork(this.#window.pointer, worker.pointer, sums.pointer, sums.length)) this.#throw("restore");
	}

	/**
	 * Domids for each pass, those with the largest part of it first: its section, and in pass 0 the P2M that it fills, which
	 * says more than the section that it comes from. After the host's step of pass 0, which has laid out the image.
	 */
	bySize(domids: readonly number[]): [number[], number[], number[]] {
		// In the pause, and of many domains: no object is made for a row.
		const view = new DataView(this.#core.bytes(this.#window).buffer);
		const sizes = passSections.map(() => new Map<number, number>());
		const entries = this.figure("indexPtr");
		const entriesEnd = entries + this.figure("sectionCount") * structs.IndexEntry.size;
		for (let at = entries; at < entriesEnd; at += structs.IndexEntry.size) {
			const pass = passSections.indexOf(view.getUint32(at + indexEntry.pass, true));
			sizes[pass]?.set(view.getUint16(at + indexEntry.domid, true), view.getUint32(at + indexEntry.length, true));
		}
		const entryBytes = imageStructs.DomainEntry.size + domainTables.length * tableRefBytes;
		const first = this.figure("imagePtr") + imageStructs.ImageRoot.size + hostTables.length * tableRefBytes;
		for (let i = 0; i < domids.length; i++) {
			const at = first + i * entryBytes;
			const domid = view.getUint32(at + domainEntryDomid, true);
			const rows = view.getUint32(at + imageStructs.DomainEntry.size + p2mTable * tableRefBytes + tableRefCount, true);
			sizes[0]?.set(domid, (sizes[0].get(domid) ?? 0) + 8 * rows);
		}
		const sorted = (of: ReadonlyMap<number, number> | undefined) =>
			[...domids].sort((a, b) => (of?.get(b) ?? 0) - (of?.get(a) ?? 0) || a - b);
		return [sorted(sizes[0]), sorted(sizes[1]), sorted(sizes[2])];
	}

	finish(): void {
		if (this.#exports.finish(this.#window.pointer)) {
			const fault = this.fault();
			throw new XluError("XLU_E_PASS", "The restore cannot be finished: passes are missing.", {
				rule: fault.ruleId,
				expected: `${fault.expected} domains through pass 2`,
				got: `${fault.got}`,
			});
		}
	}

	/** Canonical digest of an image. */
	digest(image: Window): bigint {
		const out = this.#core.allocate(32);
		if (this.#exports.digest(this.#window.pointer, image.pointer, image.length, out.pointer)) this.#throw("digest");
		return new DataView(this.#core.bytes(out).buffer).getBigUint64(out.pointer, true);
	}

	/** What a save of an image in steps takes: the least window for the stream, and the window of its index. */
	planSteps(image: Window): { windowBytes: number; indexBytes: number } {
		if (this.#exports.planSteps(this.#window.pointer, image.pointer, image.length)) this.#throw("save");
		return { windowBytes: this.figure("planWindowBytes"), indexBytes: this.figure("planIndexBytes") };
	}

	/** Begins a save in steps: what the next step is to bring. */
	saveStart(image: Window, out: Window, index: Window): Wants {
		const { pointer } = this.#window;
		const { saveStart } = this.#exports;
		if (saveStart(pointer, image.pointer, image.length, out.pointer, out.length, index.pointer, index.length))
			this.#throw("save");
		return this.#wants();
	}

	/** The next step, with the rows that were asked for, or nothing once a piece was drained. */
	saveStep(rows?: Window): Wants {
		if (this.#exports.saveStep(this.#window.pointer, rows?.pointer ?? 0, rows?.length ?? 0)) this.#throw("save");
		return this.#wants();
	}

	/** Begins a digest in steps: what the next step is to bring. */
	digestStart(image: Window): Wants {
		if (this.#exports.digestStart(this.#window.pointer, image.pointer, image.length)) this.#throw("digest");
		return this.#wants();
	}

	/** The next step, with the rows that were asked for. */
	digestStep(rows: Window): Wants {
		if (this.#exports.digestStep(this.#window.pointer, rows.pointer, rows.length)) this.#throw("digest");
		return this.#wants();
	}

	/** The digest that was taken in steps, once nothing more is wanted. */
	get stepsDigest(): bigint {
		return this.#row().digest as bigint;
	}

	/** Makes `count` rows of a detached table, of a domain's or the host's (DOMID.XEN), from `first` on. */
	restoreRows(domid: number, table: number, first: number, count: number, out: Window): void {
		const { pointer } = this.#window;
		if (this.#exports.restoreRows(pointer, domid, table, first, count, out.pointer, out.length)) this.#throw("restore");
	}

	#row(): ReturnType<typeof readStruct> {
		const { buffer } = this.#core.bytes(this.#window);
		return readStruct(imageStructs.Context, new DataView(buffer), this.#window.pointer);
	}

	#wants(): Wants {
		const row = this.#row();
		const number = (name: string) => Number(row[name]);
		if (number("stepWants") === WANTS.rows) {
			const [domid, table] = [number("wantDomid"), number("wantTable")];
			return { kind: "rows", domid, table, first: number("wantFirst"), count: number("wantCount") };
		}
		if (number("stepWants") !== WANTS.drain) return { kind: "nothing" };
		const piece = { pointer: number("piecePtr"), length: number("pieceBytes") };
		return { kind: "drain", piece, offset: number("pieceOffset") };
	}

	/** First difference of two images, undefined if there is none. */
	compare(a: Window, b: Window): Difference | undefined {
		const { compare } = this.#exports;
		if (!compare(this.#window.pointer, a.pointer, a.length, b.pointer, b.length)) return undefined;
		const fault = this.fault();
		if (ruleByNumber(fault.rule)?.name !== "COMPARE") this.#throw("compare");
		const { buffer } = this.#core.bytes(this.#window);
		const row = readStruct(imageStructs.Fault, new DataView(buffer), this.#window.pointer + imageStructs.Context.size);
		const domid = Number(row.domid);
		const table = (domid === DOMID.XEN ? hostTables : domainTables)[Number(row.recordType)];
		const index = Number(row.field);
		const octet = Number(row.offset);
		const field = table?.row.fields.findLast((entry) => entry.offset <= octet)?.name;
		return {
			domid: domid === DOMID.XEN ? undefined : domid,
			table: table?.name ?? "domains",
			index: index === NONE ? undefined : index,
			field: index === NONE ? undefined : field,
			expected: `${row.expected}`,
			got: `${row.got}`,
		};
	}
}

/** The first difference of two images. Without an index the tables' lengths differ. */
export interface Difference {
	/** Absent for the host's own tables. */
	domid: number | undefined;
	table: string;
	/** Row: MFN, GFN, port, handle, vCPU ..., by the table. */
	index: number | undefined;
	field: string | undefined;
	expected: string;
	got: string;
}

const severities = { damaged: "XLU_E_DAMAGED", version: "XLU_E_VERSION", refused: "XLU_E_REFUSED" } as const;
const codes: Record<string, "XLU_E_SPACE" | "XLU_E_MEMORY" | "XLU_E_PASS"> = {
	WINDOW: "XLU_E_SPACE",
	MEMORY: "XLU_E_MEMORY",
	NEEDS_MEMORY: "XLU_E_MEMORY",
	PASS_ORDER: "XLU_E_PASS",
	NOT_CHECKED: "XLU_E_PASS",
};

/** Turns a fault into the error that people read: what must hold, where, what was expected, what was found. */
export function faultError(fault: Fault, what: string): XluError {
	const rule = ruleByNumber(fault.rule);
	const code = (rule && codes[rule.name]) ?? (rule ? severities[rule.severity] : "XLU_E_INTERNAL");
	const place = [
		fault.record,
		fault.field && `field ${fault.field}${fault.slot === undefined ? "" : ` (slot ${fault.slot})`}`,
		fault.domid !== undefined && fault.domid < DOMID.FIRST_RESERVED && `domain ${fault.domid}`,
		fault.pass && `section ${fault.pass}`,
		`offset ${fault.offset}`,
	].filter(Boolean);
	const { expected, got } = faultValues(fault, rule?.name);
	const message = `${what} refused by ${fault.ruleId}: ${rule?.doc ?? "unknown rule"} At ${place.join(", ")}: expected ${expected}, found ${got}.`;
	return new XluError(code, message, {
		rule: fault.ruleId,
		domid: fault.domid,
		record: fault.record,
		offset: fault.offset,
		field: fault.field,
		expected,
		got,
	});
}

/** Names of the kinds of guest, by their code. */
export const kindNames = Object.fromEntries(Object.entries(KIND).map(([name, code]) => [code, name])) as Record<
	number,
	string
>;
