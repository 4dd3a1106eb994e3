/** xlu verify BUNDLE --onto HOST: would this host receive the domain? Everything that stands against it, in one list. */
import { readChecked } from "../bundle/format.ts";
import { reportOnto } from "../bundle/onto.ts";
import { loadCore } from "../core/load.ts";
import { EXIT, XluError } from "../errors.ts";
import { Findings } from "../formats/common/findings.ts";
import type { StreamReader } from "../formats/common/reader.ts";
import { loadHost } from "../host.ts";
import { streamFinding } from "../inspect/streams.ts";
import { findingLine } from "./formats.ts";
import { colors, print, printJson, progress, progressDone } from "./output.ts";

export async function verifyOnto(path: string, reader: StreamReader, onto: string, json: boolean): Promise<number> {
	progress(`${onto}: reading the host`);
	const target = loadHost(onto);
	const findings = new Findings();
	let domid: number | null = null;
	let notCheckable: readonly string[] = [];
	progress(`${path}: reading the bundle`);
	try {
		const items = readChecked(reader, { findings, pages: "keep" });
		let step = await items.next();
		while (!step.done) step = await items.next();
		if (step.value) {
			domid = step.value.domid;
			notCheckable = reportOnto(await loadCore(), target, step.value, findings).notCheckable;
		}
	} catch (error) {
		// What ends the reading is a finding as well; a file that cannot be read is none.
		if (!(error instanceof XluError) || findings.errors.length === 0) throw error;
	}
	progressDone();
	const { errors } = findings;
	const warnings = findings.list.filter(({ isError }) => !isError);
	const isDamaged = errors.some(({ rule }) => rule.severity === "damaged");
	const status = isDamaged ? EXIT.damaged : errors.length > 0 ? EXIT.refused : EXIT.done;
	if (json) {
		const shown = { findings: errors.map(streamFinding), warnings: warnings.map(streamFinding) };
		const rest = { notShown: findings.dropped, notCheckable };
		printJson({ ok: errors.length === 0, format: "bundle", domid, onto: target.name, ...shown, ...rest });
		return status;
	}
	for (const finding of findings.list) print(findingLine(finding));
	if (notCheckable.length > 0)
		print(`not checkable: ${notCheckable.join(", ")}; ${target.name} does not tell enough of itself`);
	if (errors.length === 0) {
		print(
			colors.green(
				`${path}: ${target.name} takes domain ${domid}${warnings.length > 0 ? `, ${warnings.length} warnings` : ""}`,
			),
		);
	} else {
		print(`${path}: ${target.name} does not take it; xlu explain ${errors[0]?.rule.code} says why`);
	}
	return status;
}
