/** xlu verify FILE: would xen#2 restore this stream? Open and check, nothing is restored. */
import { XluError } from "../errors.ts";
import { type CheckResult, findingOf, load } from "../library.ts";
import { colors, print, printJson } from "./output.ts";
import { readStreamFile } from "./stream.ts";

export async function verify(path: string, options: { memory?: string; json: boolean }): Promise<number> {
	const { exitStatus, ...result } = await check(path, options.memory);
	if (options.json) {
		printJson(result);
		return exitStatus;
	}
	for (const { message } of result.findings) print(message);
	if (result.ok) print(colors.green(`${path}: every rule holds`));
	if (result.notCheckable.length) {
		print(`not checkable without the preserved memory (${path}.mem): ${result.notCheckable.join(", ")}`);
	}
	return exitStatus;
}

async function check(path: string, memoryPath: string | undefined): Promise<CheckResult> {
	try {
		const { stream, memory } = readStreamFile(path, memoryPath);
		return (await load()).check(stream, memory);
	} catch (error) {
		// A damaged FILE.mem is a finding like any other.
		if (!(error instanceof XluError) || error.code !== "XLU_E_MEMORY") throw error;
		return { ok: false, findings: [findingOf(error)], notCheckable: [], exitStatus: error.exitStatus };
	}
}
