/** xlu audit HOST: would xen#1's state survive a live update? Asked before the pause; nothing of the host is changed (X2). */
import { auditHost } from "../audit.ts";
import { EXIT } from "../errors.ts";
import { loadHost } from "../host.ts";
import { colors, print, printJson, progress, progressDone } from "./output.ts";

export async function audit(path: string, options: { json: boolean }): Promise<number> {
	progress(`${path}: reading the host`);
	const host = loadHost(path);
	progress(`${path}: audit`);
	const report = await auditHost(host);
	progressDone();
	if (options.json) printJson(report);
	else {
		for (const { message } of report.findings) print(message);
		if (report.moreFindings) print(`... and ${report.moreFindings} more counts that differ`);
		print(
			report.clean
				? colors.green(`${path}: clean: every rule holds, every reference is accounted for`)
				: colors.red(`${path}: not fit for a live update`),
		);
	}
	return report.clean ? EXIT.done : EXIT.refused;
}
