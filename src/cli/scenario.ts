/** xlu run SCENARIO: each step with its result, each update's timeline, and whether anybody could have noticed it. */
import { closeSync, openSync, readSync } from "node:fs";
import { basename, dirname } from "node:path";
import { XluError } from "../errors.ts";
import { isHost, statOf } from "../host.ts";
import { readScenario, runScenario, type ScenarioReport, type StepReport, scenarioLimits } from "../scenario/index.ts";
import { colors, print, printJson, progress, progressDone, settings } from "./output.ts";
import { describe, type RunOptions, updateOptions } from "./run.ts";

const SUFFIX = ".json";
const isBlank = (octet: number): boolean => octet === 0x20 || (octet >= 0x09 && octet <= 0x0d);

/** Whether a path names a scenario: by its name, or as a file that begins as a JSON object. */
export function isScenario(path: string): boolean {
	if (isHost(path)) return false;
	if (path.endsWith(SUFFIX)) return true;
	if (!statOf(path)?.isFile()) return false;
	const start = readUpTo(path, 1024);
	const first = start.findIndex((octet, i) => !isBlank(octet) && !(i < 3 && [0xef, 0xbb, 0xbf][i] === octet));
	return start[first] === 0x7b;
}

/** The first octets of a file: one that never ends is read no further. */
function readUpTo(path: string, most: number): Uint8Array {
	let file: number | undefined;
	try {
		file = openSync(path, "r");
		const parts: Buffer[] = [];
		for (let left = most; left > 0; ) {
			const part = Buffer.allocUnsafe(Math.min(left, 65536));
			const count = readSync(file, part);
			if (count === 0) break;
			parts.push(part.subarray(0, count));
			left -= count;
		}
		return Buffer.concat(parts);
	} catch (cause) {
		throw new XluError("XLU_E_IO", `${path} cannot be read: ${(cause as Error).message}.`, {
			record: path,
			expected: "a scenario: a readable file in JSON",
			got: (cause as NodeJS.ErrnoException).code ?? "an error",
			cause,
		});
	} finally {
		if (file !== undefined) closeSync(file);
	}
}

/** Plays a scenario. Returns whether all came as expected and nobody could notice the updates. */
export async function play(path: string, options: RunOptions): Promise<boolean> {
	if (options.fault !== undefined) {
		throw new XluError("XLU_E_USAGE", "A fault strikes the update of a host; a scenario has updates of its own.", {
			field: "--fault",
			expected: "a HOST",
			got: path,
		});
	}
	const scenario = readScenario(readUpTo(path, scenarioLimits.octets + 1), basename(path, SUFFIX), dirname(path));
	const hasList = !options.json && !settings.quiet;
	if (!options.json) {
		const { name, description } = scenario;
		print(colors.bold(`scenario ${name}${description === "" ? "" : `: ${description}`}`));
	}
	progress(`${path}: reading the host`);
	const report = await runScenario(scenario, {
		onStep: (step, update) => {
			progressDone();
			if (hasList) print(stepLine(step));
			if (hasList && update) print(`\n${describe(update)}`);
			progress(`${path}: step ${step.index + 1} of ${scenario.steps.length}`);
		},
		...updateOptions(options),
	});
	progressDone();
	if (options.json) printJson(report);
	else print(verdict(report));
	return report.failures.length === 0;
}

function stepLine({ index, text, note, ok, resultText }: StepReport): string {
	const comment = note === null ? "" : `${colors.dim(`     # ${note}`)}\n`;
	const end = ok ? resultText && ` -> ${resultText}` : colors.red(resultText ? ` -> ${resultText}, failed` : " failed");
	return `${comment}${`${index}`.padStart(4)} ${text}${end}`;
}

function verdict({ steps, updates, failures, transparent }: ScenarioReport): string {
	const lines = failures.map(({ step, what, expected, got }) =>
		colors.red(`${step === null ? "" : `step ${step}: `}${what}: expected ${expected}, got ${got}`),
	);
	const count = (number: number, word: string): string => `${number} ${word}${number === 1 ? "" : "s"}`;
	const done = `${count(steps.length, "step")}, ${count(updates.length, "update")}`;
	if (!transparent) lines.push(colors.red(`${done}: an update could be noticed`));
	else if (failures.length > 0) lines.push(`${done}: nothing could be noticed, but not all came as expected`);
	else
		lines.push(
			colors.green(`${done}: nothing could be noticed, every result and the final state are those without updates`),
		);
	return `${lines.join("\n")}\n`;
}
