/**
 * Living machines for tests: a small host with a dom0 and three guests, all of its counts made by operations; a live
 * update of it as the library does it, in one instance of the core; the first difference of two machines.
 */
import type { Core } from "../../src/core/load.ts";
import {
	emptyHost,
	Machine,
	type Operation,
	type Result,
	resultText,
	runOperation,
} from "../../src/machine/live/index.ts";
import { packPreserved } from "../../src/machine/preserved.ts";
import { openAndCheck, restorePasses } from "../../src/steps.ts";
import { newCore } from "./core.ts";

/** dom0 and a PV, an HVM, and a PVH guest, which is the HVM guest's stub domain. */
export const baseOperations: readonly Operation[] = [
	{ op: "domain_create", domid: 0, kind: "pv", frames: 120, vcpus: 2, privileged: true },
	{ op: "domain_create", domid: 1, kind: "pv", frames: 60, vcpus: 2 },
	{ op: "domain_create", domid: 2, kind: "hvm", frames: 540, vcpus: 2 },
	{ op: "domain_create", domid: 3, kind: "pvh", frames: 40, vcpus: 2, target: 2 },
	...[0, 1, 2, 3].map((domid): Operation => ({ op: "domain_unpause", domid })),
];

/** A 32-bit PV guest beside them, with some frames that nothing maps. */
export const NARROW = 4;
export const narrowOperations: readonly Operation[] = [
	{ op: "domain_create", domid: NARROW, kind: "pv", width: 32, frames: 40, vcpus: 2 },
	{ op: "domain_unpause", domid: NARROW },
	...Array.from({ length: 6 }, (): Operation => ({ op: "populate_physmap", domid: NARROW })),
];

/** Does operations that must not be refused. */
export function mustRun(machine: Machine, list: readonly Operation[]): Result[] {
	return list.map((operation) => {
		const result = runOperation(machine, operation);
		if (typeof result === "number" && result < 0) {
			throw new Error(`${JSON.stringify(operation)}: ${resultText(operation.op, result)}`);
		}
		return result;
	});
}

export const FRAMES = 4096;

export function baseMachine(): Machine {
	const machine = Machine.fromHost(emptyHost(FRAMES));
	mustRun(machine, baseOperations);
	return machine;
}

export function machineWithNarrow(): Machine {
	const machine = baseMachine();
	mustRun(machine, narrowOperations);
	return machine;
}

const shared: Core = newCore();

export interface UpdatedMachine {
	machine: Machine;
	stream: Uint8Array;
	/** xen#1's image, with the counts that history made, and xen#2's, with those that the restore rebuilt. */
	before: Uint8Array;
	after: Uint8Array;
}

/** Saves a machine into windows of a core: its image, and the stream. */
function save(core: Core, machine: Machine) {
	core.reset();
	const before = machine.image();
	const image = core.place(before);
	const saving = core.createContext();
	return { before, stream: saving.save(image, core.allocate(saving.planSave(image))) };
}

/** The stream of a machine as it is. */
export function streamOf(machine: Machine, core: Core = shared): Uint8Array {
	return core.bytes(save(core, machine).stream).slice();
}

/**
 * A live update: xen#1's image is saved, checked, and restored in three passes; xen#2 is a machine made of nothing but the
 * restored image and the memory that stayed in place.
 */
export function updateMachine(machine: Machine, core: Core = shared): UpdatedMachine {
	const { before, stream } = save(core, machine);
	const hash = (octets: Uint8Array): bigint => core.hash(core.place(octets));
	const memory = core.place(packPreserved(machine.preserved(), core.hash(stream), hash));
	const { context, imageBytes } = openAndCheck(core, stream, memory);
	const target = core.allocate(imageBytes);
	context.target(target);
	restorePasses(context, context.domids());
	const after = core.bytes(target).slice();
	return {
		machine: Machine.fromImage(machine.name, after, machine.memory),
		stream: core.bytes(stream).slice(),
		before,
		after,
	};
}

/** The first difference of two images, as text; undefined if there is none. */
export function imageDifference(expected: Uint8Array, got: Uint8Array): string | undefined {
	if (Buffer.compare(expected, got) === 0) return undefined;
	shared.reset();
	const found = shared.createContext().compare(shared.place(expected), shared.place(got));
	return found && JSON.stringify(found);
}

/** The first difference of what stands in the frames of two machines; undefined if there is none. */
export function memoryDifference(expected: Machine, got: Machine): string | undefined {
	const mfns = new Set([...expected.memory.pages.keys(), ...got.memory.pages.keys()]);
	for (const mfn of mfns) {
		if (Buffer.compare(expected.memory.look(mfn), got.memory.look(mfn)) !== 0) return `frame 0x${mfn.toString(16)}`;
	}
	return undefined;
}
