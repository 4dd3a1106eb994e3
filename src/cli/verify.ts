/** xlu verify FILE: would xen#2 restore this stream? Open and check, nothing is restored. */
import pc from "picocolors";
import { loadCore } from "../core/load.ts";
import { type ErrorCode, EXIT, XluError } from "../errors.ts";
import { rules, ruleId } from "../format/rules.ts";
import { openAndCheck } from "../update.ts";
import { print, printJson } from "./output.ts";
import { readStreamFile } from "./stream.ts";

export interface Finding {
	rule: string | null;
	domid: number | null;
	record: string | null;
	offset: number | null;
	field: string | null;
	expected: string | null;
	got: string | null;
	message: string;
}

/** Rules that need the contents of preserved memory: without it they are named, not checked. */
const memoryRules = rules.filter(({ name }) => name === "MEMORY").map(({ id }) => ruleId(id));
const verdicts: ReadonlySet<ErrorCode> = new Set(["XLU_E_DAMAGED", "XLU_E_VERSION", "XLU_E_REFUSED", "XLU_E_MEMORY"]);

export async function verify(path: string, options: { memory?: string; json: boolean }): Promise<number> {
	const findings: Finding[] = [];
	let status: number = EXIT.done;
	let checkedMemory = false;
	try {
		const { stream, memory } = readStreamFile(path, options.memory);
		checkedMemory = memory !== undefined;
		const core = await loadCore();
		openAndCheck(core, core.place(stream), memory && core.place(memory));
	} catch (error) {
		if (!(error instanceof XluError) || !verdicts.has(error.code)) throw error;
		findings.push({
			rule: error.rule ?? null,
			domid: error.domid ?? null,
			record: error.record ?? null,
			offset: error.offset ?? null,
			field: error.field ?? null,
			expected: error.expected ?? null,
			got: error.got ?? null,
			message: error.message,
		});
		status = error.exitStatus;
	}
	const notCheckable = checkedMemory ? [] : memoryRules;
	if (options.json) {
		printJson({ ok: findings.length === 0, findings, notCheckable });
	} else {
		for (const { message } of findings) print(message);
		if (findings.length === 0) print(pc.green(`${path}: every rule holds`));
		if (notCheckable.length) print(`not checkable without the preserved memory (${path}.mem): ${notCheckable.join(", ")}`);
	}
	return status;
}
