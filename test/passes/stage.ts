/** What stands behind the table's rows: the built core, hosts that were saved once, and the assertions. */
import { join } from "node:path";
import { expect } from "vitest";
import type { Context, Core, Window } from "../../src/core/load.ts";
import { DOMID } from "../../src/format/enums.ts";
import { readStruct } from "../../src/format/layout.ts";
import { heads, IMAGE_HEADER_BYTES, imageStructs, RECORD_HEADER_BYTES } from "../../src/format/schema.ts";
import { loadHost } from "../../src/host.ts";
import { viewImage } from "../../src/machine/image.ts";
import { type Checked, hashOf, memoryFor, newCore, openCheck, root, saveModel } from "../support/core.ts";
import { frame, parse, type Restitched, type StreamRecord } from "../support/restitch.ts";
import { secondHost } from "../support/secondHost.ts";
import { tinyHost } from "../support/tinyHost.ts";
import {
	type HostName,
	type Image,
	type Order,
	type Pass,
	type Restore,
	type Row,
	type SavedHost,
	type SmallHost,
	type Stage,
	SYNTHETIC,
	type Verdict,
} from "./table.ts";

const { XEN } = DOMID;
const UNWRITTEN = 0xa5;
const OUT_OF_TURN = "XLU-R031";
const NOT_CHECKED = "XLU-R032";
const figures = imageStructs.Context.fields.map((field) => field.name);
const sectionBytes = RECORD_HEADER_BYTES + heads.Section.size;
const streamHash = imageStructs.MemoryHeader.fields.find((field) => field.name === "streamHash")?.offset as number;

const saved = new Map<HostName, SavedHost>();
/** Preserved memory of each host, packed once; only the hash of the stream differs from arrangement to arrangement. */
const packed = new WeakMap<SavedHost, Uint8Array<ArrayBuffer>>();

function save({ model, preserved }: SmallHost): SavedHost {
	const { stream, image } = saveModel(model, preserved);
	const domids = model.domains.map(({ domain }) => domain.domid).sort((a, b) => a - b);
	return { stream, preserved, image, domids, model };
}

function hostOf(name: HostName): SavedHost {
	const made = { tiny: tinyHost, second: secondHost } as Partial<Record<HostName, () => SmallHost>>;
	const found = saved.get(name) ?? save(made[name]?.() ?? loadHost(pathOf(name)));
	saved.set(name, found);
	return found;
}

function pathOf(name: HostName): string {
	return name === "synthetic" ? SYNTHETIC : join(root, "test/fixtures/xen-4.17", name);
}

function memoryOf(host: SavedHost, stream: Uint8Array): Uint8Array<ArrayBuffer> {
	const memory = packed.get(host) ?? memoryFor(stream, host.preserved);
	packed.set(host, memory);
	new DataView(memory.buffer).setBigUint64(streamHash, hashOf(stream), true);
	return memory;
}

/** Octets from the stream's start to a record, to a section's own record. */
function offsetOf(stream: Restitched, wanted: StreamRecord): number {
	let at = IMAGE_HEADER_BYTES;
	for (const section of stream.sections) {
		at += sectionBytes;
		for (const record of section.records) {
			if (record === wanted) return at;
			at += frame(record.type, record.body).length;
		}
	}
	throw new Error(`${wanted.name} is not in the stream`);
}

const ruleOf = (outcome: string): string | undefined => /XLU-R\d{3}/.exec(outcome)?.[0];

class CoreRestore implements Restore {
	readonly domids: readonly number[];
	readonly core: Core;
	readonly #context: Context;
	readonly #checked: Checked;
	readonly #target: Window;
	readonly #host: SavedHost;
	readonly #row: Row;
	readonly #done = new Set<string>();
	readonly #refused: () => void;
	isFinished = false;

	constructor(host: SavedHost, row: Row, core: Core, refused: () => void) {
		this.#host = host;
		this.#row = row;
		this.#refused = refused;
		this.#checked = openCheck(host.stream, memoryOf(host, host.stream), core);
		this.core = core;
		this.#context = this.#checked.context;
		this.domids = this.#context.domids();
		this.#target = core.allocate(this.#checked.imageBytes);
		core.bytes(this.#target).fill(UNWRITTEN);
		this.#context.target(this.#target);
		expect(core.bytes(this.#target).every((octet) => octet === UNWRITTEN)).toBe(true);
	}

	#has(pass: number, domid: number): boolean {
		return this.#done.has(`${pass}/${domid}`);
	}

	#all(pass: number): boolean {
		return this.domids.every((domid) => this.#has(pass, domid));
	}

	mayRun(pass: number, domid: number): boolean {
		if (this.isFinished || this.#has(pass, domid)) return false;
		if (domid === XEN) return pass === 0 || (pass === 1 && this.#has(0, XEN) && this.#all(0));
		if (!this.domids.includes(domid)) return false;
		if (pass === 0) return this.#has(0, XEN);
		if (pass === 1) return this.#has(1, XEN);
		return pass === 2 && this.#all(1);
	}

	open(): { pass: number; domid: number }[] {
		return [0, 1, 2].flatMap((pass) =>
			[XEN, ...this.domids].filter((domid) => this.mayRun(pass, domid)).map((domid) => ({ pass, domid })),
		);
	}

	step(pass: number, domid: number): void {
		expect(this.mayRun(pass, domid), `pass ${pass} of ${domid} is a legal step`).toBe(true);
		this.#context.restore(pass, domid);
		this.#done.add(`${pass}/${domid}`);
	}

	pass(pass: Pass, domids: readonly number[] = this.domids): void {
		if (pass < 2 && !this.#has(pass, XEN)) this.step(pass, XEN);
		for (const domid of domids) if (!this.#has(pass, domid)) this.step(pass, domid);
	}

	/** All that a refused call must leave alone. */
	#state() {
		const { core } = this;
		const { stream, work, memory } = this.#checked;
		const windows = [this.#target, stream, work, memory as Window];
		return {
			octets: windows.map((window) => core.bytes(window).slice()),
			figures: figures.map((name) => this.#context.figure(name)),
		};
	}

	#refuse(call: () => void, rule = ruleOf(this.#row.outcome)): void {
		const before = this.#state();
		const code = rule === OUT_OF_TURN || rule === NOT_CHECKED ? "XLU_E_PASS" : "XLU_E_REFUSED";
		expect(call).toThrow(expect.objectContaining({ code, rule }));
		const after = this.#state();
		expect(after.figures).toEqual(before.figures);
		after.octets.forEach((octets, i) => {
			expect(Buffer.compare(octets, before.octets[i] as Uint8Array)).toBe(0);
		});
		if (rule === ruleOf(this.#row.outcome)) this.#refused();
	}

	refuses(pass: number, domid: number, rule?: string): void {
		expect(this.mayRun(pass, domid), `pass ${pass} of ${domid} is no legal step`).toBe(false);
		this.#refuse(() => this.#context.restore(pass, domid), rule);
	}

	refusesFinish(rule?: string): void {
		this.#refuse(() => this.#context.finish(), rule);
	}

	refusesCheck(rule?: string): void {
		const { stream, work, memory } = this.#checked;
		this.#refuse(() => this.#context.check(stream, work, memory), rule);
	}

	refusesTarget(rule?: string): void {
		const other = this.core.allocate(this.#target.length);
		this.#refuse(() => this.#context.target(other), rule);
	}

	end(): Image {
		for (const pass of [0, 1, 2] as const) this.pass(pass);
		return this.finish();
	}

	finish(): Image {
		this.#context.finish();
		this.isFinished = true;
		return this.compare();
	}

	/** The target is xen#1's image: by the core's own comparison and digest, and octet for octet. */
	compare(): Image {
		const { core } = this;
		const image = core.bytes(this.#target).slice();
		const original = core.place(this.#host.image);
		const context = core.createContext();
		expect(context.compare(original, this.#target)).toBeUndefined();
		expect(context.digest(this.#target)).toBe(context.digest(original));
		expect(Buffer.compare(image, this.#host.image)).toBe(0);
		return imageOf(image);
	}
}

function imageOf(image: Uint8Array): Image {
	const { view, host, domains } = viewImage(image);
	const read = (tables: (typeof domains)[number]["tables"], name: string, index: number) => {
		const found = tables.find(({ table }) => table.name === name);
		if (!found) throw new Error(`no table ${name}`);
		expect(index, name).toBeLessThan(found.count);
		const row = readStruct(found.table.row, view, found.offset + index * found.table.row.size);
		return Object.fromEntries(Object.entries(row).map(([field, value]) => [field, Number(value)]));
	};
	return {
		frame: (mfn) => read(host, "FrameCounts", mfn) as { references: number; typeReferences: number },
		row: (domid, table, index) => read(domains.find((one) => one.domid === domid)?.tables ?? [], table, index),
	};
}

export class CoreStage implements Stage {
	readonly #row: Row;
	/** For whole streams, one after the other. */
	readonly #core = newCore();
	readonly #restores: CoreRestore[] = [];
	#refusals = 0;
	#images = 0;

	constructor(row: Row) {
		this.#row = row;
	}

	host(name: HostName): SavedHost {
		return hostOf(name);
	}

	save(host: SmallHost): SavedHost {
		return save(host);
	}

	parse(host: SavedHost): Restitched {
		return parse(host.stream);
	}

	begin(host: SavedHost, beside?: Restore): Restore {
		const core = (beside as CoreRestore | undefined)?.core ?? newCore();
		const restore = new CoreRestore(host, this.#row, core, () => this.#refusals++);
		this.#restores.push(restore);
		return restore;
	}

	restores(host: SavedHost, stream?: Restitched, order?: Order): void {
		const octets = stream?.build() ?? host.stream;
		const core = this.#core;
		core.reset();
		const original = core.place(host.image);
		const checked = openCheck(octets, memoryOf(host, octets), core);
		const { context } = checked;
		const target = core.allocate(checked.imageBytes);
		core.bytes(target).fill(UNWRITTEN);
		context.target(target);
		for (const pass of [0, 1, 2] as const) {
			if (pass < 2) context.restore(pass, XEN);
			for (const domid of order?.(pass) ?? host.domids) context.restore(pass, domid);
		}
		context.finish();
		expect(context.compare(original, target)).toBeUndefined();
		expect(context.digest(target)).toBe(context.digest(original));
		expect(Buffer.compare(core.bytes(target), core.bytes(original))).toBe(0);
		this.#images++;
	}

	/** The rule that open, plan or check refuses a stream with; undefined if none does. Nothing is written either way. */
	#verdict(host: SavedHost, octets: Uint8Array, stream: Restitched, verdict?: Verdict): string | undefined {
		const core = this.#core;
		core.reset();
		const memoryOctets = memoryOf(host, octets);
		const window = core.place(octets);
		const memory = core.place(memoryOctets);
		const target = core.allocate(host.image.length);
		core.bytes(target).fill(UNWRITTEN);
		const context = core.createContext();
		try {
			context.open(window);
			context.check(window, core.allocate(context.plan(window).workBytes), memory);
			return undefined;
		} catch (error) {
			if (error instanceof WebAssembly.RuntimeError) throw error;
		}
		const fault = context.fault(window);
		if (verdict) {
			expect({ record: fault.record, offset: fault.offset }).toEqual({
				record: verdict.at.name,
				offset: offsetOf(stream, verdict.at),
			});
			if (verdict.expected !== undefined) expect(Number(fault.expected), "expected").toBe(verdict.expected);
			if (verdict.got !== undefined) expect(Number(fault.got), "got").toBe(verdict.got);
		}
		for (const call of [() => context.target(target), () => context.restore(0, XEN), () => context.finish()]) {
			expect(call).toThrow(expect.objectContaining({ rule: NOT_CHECKED }));
		}
		expect(core.bytes(target).every((octet) => octet === UNWRITTEN)).toBe(true);
		expect(Buffer.compare(core.bytes(window), octets)).toBe(0);
		expect(Buffer.compare(core.bytes(memory), memoryOctets)).toBe(0);
		return fault.ruleId;
	}

	refusesStream(host: SavedHost, stream: Restitched, verdict?: Verdict): void {
		expect(this.#verdict(host, stream.build(), stream, verdict)).toBe(ruleOf(this.#row.outcome));
		this.#refusals++;
	}

	restoresOrRefuses(host: SavedHost, stream: Restitched, rule: string): boolean {
		const found = this.#verdict(host, stream.build(), stream);
		if (found === undefined) this.restores(host, stream);
		else expect(found).toBe(rule);
		return found === undefined;
	}

	refusesCallsFrom(host: SavedHost, done: 0 | 1 | 2 | 3): void {
		const core = newCore();
		const stream = core.place(host.stream);
		const memory = core.place(memoryOf(host, host.stream));
		const work = core.allocate(1 << 20);
		const target = core.allocate(1 << 20);
		core.bytes(target).fill(UNWRITTEN);
		const context = core.createContext();
		const calls = [
			() => context.open(stream),
			() => context.plan(stream),
			() => context.check(stream, work, memory),
			() => context.target(target),
			() => context.restore(0, XEN),
			() => context.finish(),
		];
		for (const call of calls.slice(0, done)) call();
		for (const call of calls.slice(done + 1)) {
			expect(call).toThrow(expect.objectContaining({ code: "XLU_E_PASS", rule: ruleOf(this.#row.outcome) }));
			this.#refusals++;
		}
		expect(core.bytes(target).every((octet) => octet === UNWRITTEN)).toBe(true);
		// The one whose turn it was is still taken.
		(calls[done] as () => void)();
	}

	refusesWithoutMemory(host: SavedHost): void {
		const { core, context, imageBytes } = openCheck(host.stream);
		const target = core.allocate(imageBytes);
		core.bytes(target).fill(UNWRITTEN);
		const rule = ruleOf(this.#row.outcome);
		expect(() => context.target(target)).toThrow(expect.objectContaining({ code: "XLU_E_MEMORY", rule }));
		expect(() => context.restore(0, XEN)).toThrow(expect.objectContaining({ rule: NOT_CHECKED }));
		expect(core.bytes(target).every((octet) => octet === UNWRITTEN)).toBe(true);
		this.#refusals++;
	}

	refusesAfterRefusal(host: SavedHost): void {
		const { core, context, stream, work, memory, imageBytes } = openCheck(host.stream, memoryOf(host, host.stream));
		const target = core.allocate(imageBytes);
		core.bytes(target).fill(UNWRITTEN);
		const octets = () => core.bytes(memory as Window);
		const [before] = octets().subarray(5000, 5001);
		octets()[5000] = (before as number) ^ 1;
		expect(() => context.check(stream, work, memory)).toThrow(expect.objectContaining({ rule: "XLU-R034" }));
		for (const call of [() => context.target(target), () => context.restore(0, XEN)]) {
			expect(call).toThrow(expect.objectContaining({ rule: ruleOf(this.#row.outcome) }));
			this.#refusals++;
		}
		expect(core.bytes(target).every((octet) => octet === UNWRITTEN)).toBe(true);
		octets()[5000] = before as number;
		context.check(stream, work, memory);
		context.target(target);
	}

	equal(got: unknown, expected: unknown, what: string): void {
		expect(got, what).toEqual(expected);
	}

	/** Ends what the row has left open, and holds the row to the kind of outcome that it has. */
	settle(): void {
		for (const restore of this.#restores) {
			if (!restore.isFinished) restore.end();
			else restore.compare();
			this.#images++;
		}
		if (this.#row.outcome.startsWith("restored")) expect(this.#images, "restores of the row").toBeGreaterThan(0);
		else expect(this.#refusals, "refusals of the row").toBeGreaterThan(0);
	}
}
