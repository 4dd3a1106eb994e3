/**
 * The built core (dist/core.wasm) for tests: compiled once, instances at will, and the tiny host saved, opened, checked.
 * Tests that make hundreds of thousands of calls use the raw exports and the raw fault record.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Context, Core, type Fault, type Window } from "../../src/core/load.ts";
import { DOMID } from "../../src/format/enums.ts";
import { imageStructs } from "../../src/format/schema.ts";
import { buildImage } from "../../src/machine/image.ts";
import type { HostModel, PreservedPages } from "../../src/machine/model.ts";
import { packPreserved } from "../../src/machine/preserved.ts";
import { tinyHost } from "./tinyHost.ts";

/** Repository root: test/support/../.. */
export const root = join(import.meta.dirname, "../..");

export const coreModule = new WebAssembly.Module(readFileSync(process.env.XLU_CORE ?? join(root, "dist/core.wasm")));

export interface RawExports {
	readonly memory: WebAssembly.Memory;
	heapBase(): number;
	contextBytes(): number;
	planSave(ctx: number, image: number, bytes: number): number;
	save(ctx: number, image: number, bytes: number, out: number, capacity: number): number;
	open(ctx: number, stream: number, bytes: number, flags: number): number;
	plan(ctx: number): number;
	check(ctx: number, work: number, workBytes: number, memory: number, memoryBytes: number): number;
	target(ctx: number, image: number, bytes: number): number;
	restore(ctx: number, pass: number, domid: number): number;
	finish(ctx: number): number;
	digest(ctx: number, image: number, bytes: number, out: number): number;
	compare(ctx: number, a: number, bytesA: number, b: number, bytesB: number): number;
	planSteps(ctx: number, image: number, bytes: number): number;
	saveStart(...parameters: number[]): number;
	saveStep(ctx: number, rows: number, bytes: number): number;
	digestStart(ctx: number, image: number, bytes: number): number;
	digestStep(ctx: number, rows: number, bytes: number): number;
	restoreRows(...parameters: number[]): number;
}

/** A new instance: as the library sees it, and its exports as they are. */
export function newInstance(): { core: Core; raw: RawExports } {
	const instance = new WebAssembly.Instance(coreModule, {});
	return { core: new Core(instance), raw: instance.exports as unknown as RawExports };
}

export function newCore(): Core {
	return newInstance().core;
}

export interface SavedStream {
	stream: Uint8Array<ArrayBuffer>;
	memory: Uint8Array<ArrayBuffer>;
	/** xen#1's image. */
	image: Uint8Array<ArrayBuffer>;
}

/** A core for the helpers below; what they return are copies. */
const helper = newCore();

export function hashOf(octets: Uint8Array): bigint {
	helper.reset();
	return helper.hash(helper.place(octets));
}

/** Saves a model: the stream, by default of the newest version, the preserved memory that goes with it, xen#1's image. */
export function saveModel(model: HostModel, preserved: PreservedPages, format = 0): SavedStream {
	helper.reset();
	const image = buildImage(model, preserved);
	const window = helper.place(image);
	const context = helper.createContext();
	context.saveAs(format);
	const saved = context.save(window, helper.allocate(context.planSave(window)));
	const stream = helper.bytes(saved).slice();
	return { stream, memory: memoryFor(stream, preserved), image };
}

/** Preserved memory bound to a stream, whatever its pages. */
export function memoryFor(stream: Uint8Array, preserved: PreservedPages): Uint8Array<ArrayBuffer> {
	return packPreserved(preserved, hashOf(stream), hashOf);
}

export function saveTiny(format = 0): SavedStream {
	const { model, preserved } = tinyHost();
	return saveModel(model, preserved, format);
}

export interface Checked {
	core: Core;
	context: Context;
	stream: Window;
	memory: Window | undefined;
	work: Window;
	imageBytes: number;
}

/** Opens, plans and checks in a core of its own. Throws where a call refuses. */
export function openCheck(stream: Uint8Array, memory?: Uint8Array, core = newCore()): Checked {
	const window = core.place(stream);
	const memoryWindow = memory && core.place(memory);
	const context = core.createContext();
	context.open(window);
	const { imageBytes, workBytes } = context.plan(window);
	const work = core.allocate(workBytes);
	context.check(window, work, memoryWindow);
	return { core, context, stream: window, memory: memoryWindow, work, imageBytes };
}

/** The three passes; `order` gives the domids of each pass, by default ascending. */
export function restoreAll(
	checked: Checked,
	order: (pass: 0 | 1 | 2) => readonly number[] = () => checked.context.domids(),
) {
	const { core, context, imageBytes } = checked;
	const target = core.allocate(imageBytes);
	// What a loader's window holds is no concern of the restore's.
	core.bytes(target).fill(0xa5);
	context.target(target);
	for (const pass of [0, 1, 2] as const) {
		if (pass < 2) context.restore(pass, DOMID.XEN);
		for (const domid of order(pass)) context.restore(pass, domid);
	}
	context.finish();
	return target;
}

/** Refusal of a stream: by which call, and the fault record. Undefined if check accepts it. */
export function refusal(stream: Uint8Array, memory?: Uint8Array, padded = false, core = newCore()) {
	const window = core.place(stream);
	const memoryWindow = memory && core.place(memory);
	const context = core.createContext();
	let call: "open" | "plan" | "check" = "open";
	try {
		context.open(window, { padded });
		call = "plan";
		const { workBytes } = context.plan(window);
		call = "check";
		context.check(window, core.allocate(workBytes), memoryWindow);
	} catch (error) {
		if (error instanceof WebAssembly.RuntimeError) throw error;
		return { call, error: error as Error & { code: string }, fault: context.fault(window) as Fault };
	}
	return undefined;
}

const faultOffset = (name: string) =>
	imageStructs.Context.size + (imageStructs.Fault.fields.find((field) => field.name === name)?.offset as number);
const RULE = faultOffset("rule");
const OFFSET = faultOffset("offset");
const TYPE = faultOffset("recordType");
const FIELD = faultOffset("field");

export interface RawFault {
	rule: number;
	offset: number;
	recordType: number;
	field: number;
}

/** The last refusal on a raw context. */
export function rawFault(raw: RawExports, ctx: number): RawFault {
	const view = new DataView(raw.memory.buffer);
	return {
		rule: view.getUint32(ctx + RULE, true),
		offset: Number(view.getBigUint64(ctx + OFFSET, true)),
		recordType: view.getUint32(ctx + TYPE, true),
		field: view.getUint32(ctx + FIELD, true),
	};
}
