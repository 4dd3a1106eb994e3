/**
 * Runs a scenario twice at once: one machine goes through the updates, the other one has none.
 *
 *     host ─┬─> steps, with live updates ─┐
 *           └─> the same steps, without  ─┴─> the same results, one by one; the same image and memory in the end
 *
 * Each update is the whole one of ../update.ts, hand-over and a second instance of the core included. What the two machines
 * disagree in is a guest's chance to notice the update: the scenario fails by it, as it does by a result or a state that is
 * not the expected one. It ends at the first step that fails; the final states are compared all the same.
 */
import { resolve } from "node:path";
import { type Core, compileCore, type Difference, loadCore } from "../core/load.ts";
import { XluError } from "../errors.ts";
import { FRAME, PAGE_TYPE } from "../format/enums.ts";
import { loadHost } from "../host.ts";
import {
	emptyHost,
	Machine,
	type Operation,
	propose,
	type Result,
	resultText,
	runOperation,
} from "../machine/live/index.ts";
import { isSynthetic } from "../machine/synthetic/index.ts";
import { Random } from "../random.ts";
import { type UpdateOptions, type UpdateReport, updateMachine } from "../update.ts";
import {
	isCapture,
	type OperationStep,
	type Scenario,
	type StateStep,
	type Step,
	scenarioLimits,
	type UpdateStep,
	type Value,
} from "./form.ts";
import { subjects } from "./state.ts";

/** One step, done. */
export interface StepReport {
	/** From 0, as in the file. */
	index: number;
	/** `op`, `update`, `expect`, `find`, `random` or `remember`. */
	step: string;
	/** What was done, with the values that it was done with. */
	text: string;
	note: string | null;
	ok: boolean;
	/** What an operation returned, or the frame that was found; null for other steps. */
	result: Result | null;
	/** The result for people: `EBUSY`, `12`, `restored`, `187 done, 13 refused`. */
	resultText: string;
}

export interface Failure {
	/** The step's index; null for the comparison at the end. */
	step: number | null;
	/** What it is about: a step, or what was compared. */
	what: string;
	expected: string;
	got: string;
}

export interface ScenarioReport {
	scenario: string;
	description: string;
	steps: StepReport[];
	/** A report for each update that was done. */
	updates: UpdateReport[];
	/** Each update restored what was saved, counts included. */
	identical: boolean;
	/** All results, and state and memory at the end, are those of the machine without updates. */
	transparent: boolean;
	failures: Failure[];
}

/** What holds for each update, but for those that say it themselves. */
export interface ScenarioOptions
	extends Pick<UpdateOptions, "xen2Bytes" | "xen2Format" | "module" | "workers" | "audit" | "quiesceMs"> {
	/** Instead of the scenario's own seed. */
	seed?: number;
	/** Hears of each step when it is done; of updates with their report. */
	onStep?: (step: StepReport, update?: UpdateReport) => void;
	/** The live update, for those who want to see a scenario notice a broken one. */
	update?: typeof updateMachine;
}

/** The end of a scenario: a step has failed. */
class Failed extends Error {
	readonly failures: readonly Omit<Failure, "step">[];
	/** The operation disagrees with the machine without updates. */
	readonly isNoticed: boolean;
	constructor(failures: readonly Omit<Failure, "step">[], isNoticed = false) {
		super("a step has failed");
		this.failures = failures;
		this.isNoticed = isNoticed;
	}
}

const fail = (what: string, expected: string, got: string, isNoticed = false): never => {
	throw new Failed([{ what, expected, got }], isNoticed);
};

const textOf = (op: string, result: Result): string =>
	typeof result === "number" ? resultText(op, result) : `[${result.join(", ")}]`;
const isRefusal = (result: Result): boolean => typeof result === "number" && result < 0;
const wordsOf = (values: object): string =>
	Object.entries(values)
		.map(([key, value]) => ` ${key}=${Array.isArray(value) ? `[${value.join(",")}]` : value}`)
		.join("");

/** The first difference of what stands in the frames of two machines. */
function memoryDifference(expected: Machine, got: Machine): string | undefined {
	for (const mfn of new Set([...expected.memory.pages.keys(), ...got.memory.pages.keys()])) {
		const [a, b] = [expected.memory.look(mfn), got.memory.look(mfn)];
		const at = a.findIndex((octet, i) => octet !== b[i]);
		if (at >= 0) return `frame 0x${mfn.toString(16)}, octet ${at}: ${a[at]} without updates, ${b[at]} with them`;
	}
	return undefined;
}

const placeOf = ({ domid, table, index, field, expected, got }: Difference): string =>
	`${domid === undefined ? "host" : `domain ${domid}`}, table ${table}${
		index === undefined ? ", rows" : `, row ${index}, field ${field}`
	}: ${expected} became ${got}`;

class Run {
	readonly #scenario: Scenario;
	readonly #options: ScenarioOptions;
	readonly #core: Core;
	readonly #module: WebAssembly.Module;
	readonly #seed: number;
	/** Goes through the updates. */
	#machine: Machine;
	/** Does not. */
	readonly #plain: Machine;
	readonly #captures = new Map<string, number>();
	readonly #remembered = new Map<string, Uint8Array>();
	readonly #updates: UpdateReport[] = [];

	constructor(scenario: Scenario, options: ScenarioOptions, module: WebAssembly.Module, core: Core) {
		this.#scenario = scenario;
		this.#options = options;
		this.#module = module;
		this.#core = core;
		this.#seed = options.seed ?? scenario.seed;
		this.#plain = Machine.fromHost(hostOf(scenario));
		this.#machine = Machine.fromImage(this.#plain.name, this.#plain.image(), this.#plain.memory);
	}

	async all(): Promise<ScenarioReport> {
		const steps: StepReport[] = [];
		const failures: Failure[] = [];
		let isNoticed = false;
		for (const [index, step] of this.#scenario.steps.entries()) {
			const done: StepReport = {
				index,
				step: step.kind === "state" || step.kind === "same" ? "expect" : step.kind === "operation" ? "op" : step.kind,
				text: "",
				note: step.note ?? null,
				ok: true,
				result: null,
				resultText: "",
			};
			steps.push(done);
			const before = this.#updates.length;
			try {
				await this.#step(step, done);
			} catch (error) {
				const failed =
					error instanceof Failed
						? error
						: new Failed([{ what: done.text, expected: "a result", got: defectText(error) }]);
				done.ok = false;
				isNoticed ||= failed.isNoticed;
				failures.push(...failed.failures.map((entry) => ({ step: index, ...entry })));
			}
			this.#options.onStep?.(done, this.#updates[before]);
			if (!done.ok) break;
		}
		const difference = isNoticed ? undefined : this.#difference(this.#plain.image(), this.#machine.image());
		if (difference !== undefined) {
			failures.push({
				step: null,
				what: "the state at the end",
				expected: "that of the machine without updates",
				got: difference,
			});
		}
		return {
			scenario: this.#scenario.name,
			description: this.#scenario.description,
			steps,
			updates: this.#updates,
			identical: this.#updates.every(({ identical }) => identical),
			transparent: !isNoticed && difference === undefined,
			failures,
		};
	}

	/** The first difference of two images, of memory too where they are the machines' own. */
	#difference(expected: Uint8Array, got: Uint8Array): string | undefined {
		return this.#imageDifference(expected, got) ?? memoryDifference(this.#plain, this.#machine);
	}

	#imageDifference(expected: Uint8Array, got: Uint8Array): string | undefined {
		if (Buffer.compare(expected, got) === 0) return undefined;
		this.#core.reset();
		const found = this.#core.createContext().compare(this.#core.place(expected), this.#core.place(got));
		return found && placeOf(found);
	}

	async #step(step: Step, done: StepReport): Promise<void> {
		switch (step.kind) {
			case "operation":
				return this.#operation(step, done);
			case "update":
				return this.#update(step, done);
			case "random":
				return this.#random(step.count, step.seed ?? this.#seed + done.index, done);
			case "state":
				return this.#state(step, done);
			case "find":
				done.text = `find ${step.type} frame ${step.index} of domain ${this.#value(step.domid)}`;
				done.result = this.#find(Number(this.#value(step.domid)), step.type, step.index, done.text);
				done.resultText = `${done.result}`;
				this.#captures.set(step.as, done.result);
				return;
			case "remember":
				done.text = `remember ${step.name}`;
				this.#remembered.set(step.name, this.#machine.image());
				return;
			case "same": {
				done.text = `expect the state of ${step.name}`;
				const difference = this.#imageDifference(this.#remembered.get(step.name) as Uint8Array, this.#machine.image());
				if (difference !== undefined) fail(done.text, "no difference", difference);
				return;
			}
		}
	}

	/** A value, or the result that it names. */
	#value(value: Value): Value {
		if (Array.isArray(value)) return value.map((entry) => this.#value(entry) as number);
		return isCapture(value) ? (this.#captures.get(value.slice(1)) as number) : value;
	}

	#values<T extends Value>(values: Readonly<Record<string, T>>): Record<string, Value> {
		return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, this.#value(value)]));
	}

	/** Does an operation on both machines. */
	#both(operation: Operation, text: string): Result {
		const expected = attempt(this.#plain, operation);
		const got = attempt(this.#machine, operation);
		if (JSON.stringify(expected) !== JSON.stringify(got)) {
			const [without, withThem] = [expected, got].map(({ result, defect }) => defect ?? textOf(operation.op, result));
			fail(text, `${without}, as without updates`, `${withThem}`, true);
		}
		if (got.defect !== undefined) fail(text, "a result", got.defect);
		return got.result;
	}

	#operation(step: OperationStep, done: StepReport): void {
		const { op, expect, as } = step;
		const parameters = this.#values(step.parameters) as Record<string, number>;
		done.text = `${op}${wordsOf(parameters)}`;
		const result = this.#both({ op, ...parameters }, done.text);
		done.result = result;
		done.resultText = textOf(op, result);
		const isExpected = (): boolean => {
			if (expect === "any") return true;
			if (expect === undefined) return !isRefusal(result);
			if (expect === "refused") return isRefusal(result);
			const wanted = this.#value(expect);
			if (typeof wanted === "string") return isRefusal(result) && done.resultText === wanted;
			return JSON.stringify(wanted) === JSON.stringify(result);
		};
		if (!isExpected())
			fail(done.text, expect === undefined ? "no refusal" : `${shownResult(this.#value(expect))}`, done.resultText);
		if (as === undefined) return;
		// "any" lets a refusal pass, which nothing can go on from.
		if (isRefusal(result)) fail(done.text, `a result to be called ${as}`, done.resultText);
		this.#captures.set(as, result as number);
	}

	#random(count: number, seed: number, done: StepReport): void {
		const draw = new Random(seed);
		const tally = { done: 0, refused: 0, nothing: 0 };
		done.text = `${count} random operations, seed ${seed}`;
		for (let i = 0; i < count; i++) {
			const operation = propose(this.#plain, draw);
			if (operation === undefined) {
				tally.nothing++;
				continue;
			}
			const { op, ...parameters } = operation;
			const text = `random operation ${i}, ${op}${wordsOf(parameters)}`;
			tally[isRefusal(this.#both(operation, text)) ? "refused" : "done"]++;
		}
		const none = tally.nothing ? `, ${tally.nothing} with nothing to work on` : "";
		done.resultText = `${tally.done} done, ${tally.refused} refused${none}`;
	}

	async #update(step: UpdateStep, done: StepReport): Promise<void> {
		const { expect, xen2Size, seed = this.#seed } = step;
		done.text = "live update";
		const { onStep: _, update = updateMachine, ...common } = this.#options;
		const options: UpdateOptions = {
			...common,
			module: this.#module,
			seed,
			...(xen2Size === undefined ? {} : { xen2Bytes: xen2Size * 2 ** 20 }),
		};
		let updated: Awaited<ReturnType<typeof updateMachine>>;
		try {
			updated = await update(this.#machine, options);
		} catch (error) {
			if (!(error instanceof XluError)) throw error;
			done.resultText = `refused: ${error.code}`;
			// xen#1 goes on, untouched.
			if (error.code === expect) return;
			return fail(done.text, expect ?? "an update", `${error.code}: ${error.message}`);
		}
		this.#machine = updated.machine;
		// The time that an update waits for emulators passes on the other machine as well.
		this.#plain.settle();
		this.#updates.push(updated.report);
		const { identical, difference, streamBytes } = updated.report;
		done.resultText = `${identical ? "identical" : "different"}, ${streamBytes} octets`;
		if (expect !== undefined) fail(done.text, expect, "an update that was not refused");
		if (difference) fail(done.text, "xen#2 as xen#1 was", placeOf(difference), true);
	}

	#state(step: StateStep, done: StepReport): void {
		const { checks } = subjects[step.subject] as (typeof subjects)[string];
		const target = this.#values(step.target) as Record<string, number>;
		const wanted = this.#values(step.checks);
		done.text = `expect${wordsOf(target)}:${wordsOf(wanted)}`;
		const failures = Object.entries(wanted).flatMap(([key, expected]) => {
			const got = checks[key]?.read(this.#machine, target);
			if (got === expected) return [];
			return [
				{ what: `${key} of${wordsOf(target)}`, expected: `${expected}`, got: got === undefined ? "none" : `${got}` },
			];
		});
		if (failures.length > 0) throw new Failed(failures);
	}

	/** The `index`-th frame of a type of the domain's own memory, from the lowest MFN on. */
	#find(domid: number, type: string, index: number, text: string): number {
		const { frames } = this.#machine;
		let left = index;
		for (let mfn = 0; mfn < frames.count; mfn++) {
			const fits = frames.ownerOf(mfn) === domid && frames.typeOf(mfn) === PAGE_TYPE[type as keyof typeof PAGE_TYPE];
			if (fits && !frames.has(mfn, FRAME.xenheap | FRAME.extra) && left-- === 0) return mfn;
		}
		return fail(text, "a frame", "none");
	}
}

const shownResult = (value: Value): string => (Array.isArray(value) ? `[${value.join(", ")}]` : `${value}`);

/** What no operation may come to is told as its result, so that the scenario ends in good order. */
function attempt(machine: Machine, operation: Operation): { result: Result; defect?: string } {
	try {
		return { result: runOperation(machine, operation) };
	} catch (error) {
		return { result: 0, defect: defectText(error) };
	}
}

const defectText = (error: unknown): string => `a defect of this program: ${(error as Error)?.message ?? error}`;

function hostOf({ host, folder }: Scenario) {
	if (typeof host !== "string") return emptyHost(host.frames, host.cpus);
	const loaded = loadHost(isSynthetic(host) ? host : resolve(folder, host));
	const frames = loaded.model.frameOwners.length;
	if (frames <= scenarioLimits.hostFrames) return loaded;
	throw new XluError("XLU_E_SCENARIO", `${host} is too large for a scenario.`, {
		field: "host",
		expected: `at most ${scenarioLimits.hostFrames} frames`,
		got: `${frames}`,
	});
}

/**
 * Runs a scenario, with its updates and without them.
 * @param scenario of `parseScenario` or `readScenario`, which have checked it
 * @returns what each step came to; the scenario has failed if `failures` is not empty
 * @throws as loadHost for its host; XLU_E_SCENARIO if that is too large
 */
export async function runScenario(scenario: Scenario, options: ScenarioOptions = {}): Promise<ScenarioReport> {
	const module = options.module ?? (await compileCore());
	return new Run(scenario, options, module, await loadCore({ module })).all();
}
