/** xlu run HOST|SCENARIO...: a live update of each host, end to end; scenarios are played (scenario.ts). */
import { EXIT, XluError } from "../errors.ts";
import { faultOf, faults, injectAll } from "../fault.ts";
import { type Host, loadHost } from "../host.ts";
import { liveUpdate, type UpdateOptions, type UpdateReport } from "../update.ts";
import { colors, print, printJson, progress, progressDone, report as reportError, table } from "./output.ts";
import { isScenario, play } from "./scenario.ts";

export interface RunOptions {
	json: boolean;
	/** MiB of xen#2's image. */
	xen2Size?: number;
	/** Newest version of the format that xen#2 knows. */
	xen2Format?: number;
	seed?: number;
	/** Threads that run the passes. */
	workers?: number;
	/** False: xen#1's state is not audited. */
	audit: boolean;
	/** Milliseconds that guests' requests are waited for. */
	quiesceTimeout?: number;
	/** Name of a fault, or "all" of them. */
	fault?: string;
}

/** Each host or scenario in turn: one that fails is reported, the others still run. The worst status is the command's. */
export async function run(paths: readonly string[], options: RunOptions): Promise<number> {
	let status: number = EXIT.done;
	for (const path of paths) {
		try {
			const isGood = isScenario(path) ? await play(path, options) : await runHost(path, options);
			if (!isGood) status = Math.max(status, EXIT.refused);
		} catch (error) {
			status = Math.max(status, reportError(error, options.json));
		}
	}
	return status;
}

async function runHost(path: string, options: RunOptions): Promise<boolean> {
	progress(`${path}: reading the host`);
	const host = loadHost(path);
	const common: UpdateOptions = { onStage: (name) => progress(`${path}: ${name}`), ...updateOptions(options) };
	if (options.fault === "all") return await runFaults(host, common, options.json);
	const report = await liveUpdate(host, { ...common, ...faultNamed(options.fault) });
	progressDone();
	if (options.json) printJson(report);
	else print(describe(report));
	return report.identical;
}

/** What the command's options say of an update. */
export function updateOptions({ audit, quiesceTimeout, xen2Size, xen2Format, seed, workers }: RunOptions) {
	return {
		audit,
		...(quiesceTimeout === undefined ? {} : { quiesceMs: quiesceTimeout }),
		...(xen2Size === undefined ? {} : { xen2Bytes: xen2Size * 1024 * 1024 }),
		...(xen2Format === undefined ? {} : { xen2Format }),
		...(seed === undefined ? {} : { seed }),
		...(workers === undefined ? {} : { workers }),
	};
}

function faultNamed(name: string | undefined): Pick<UpdateOptions, "fault"> {
	if (name === undefined) return {};
	const fault = faultOf(name);
	if (fault) return { fault };
	throw new XluError("XLU_E_USAGE", `There is no fault ${name}.`, {
		field: "--fault",
		expected: `all, or one of ${faults.map((one) => one.name).join(", ")}`,
		got: name,
	});
}

/** Every fault in turn. @returns whether each came out as it must */
async function runFaults(host: Host, options: UpdateOptions, json: boolean): Promise<boolean> {
	const results = await injectAll(host, options);
	progressDone();
	if (json) printJson({ host: host.name, faults: results });
	else {
		const rows = results.map(({ fault, outcome, stage, code, rule, ok }) => [
			fault,
			outcome ?? "restored",
			stage ?? "",
			code ?? "",
			rule ?? "",
			ok ? "as it must" : "WRONG",
		]);
		print(table(["fault", "outcome", "stage", "code", "rule", ""], rows));
	}
	return results.every(({ ok }) => ok);
}

const WIDTH = 40;

/** A bar per stage, to the scale of the pause, so that the eye finds what is long in it; the brown-out's may be cut. */
function timeline(report: UpdateReport): string {
	const longest = Math.max(...report.stages.filter(({ name }) => name !== "trigger").map(({ ms }) => ms));
	return report.stages
		.map(({ name, ms }) => {
			const bar = "█".repeat(Math.min(WIDTH, Math.max(1, Math.round((ms / longest) * WIDTH))));
			return `  ${name.padEnd(10)} ${ms.toFixed(3).padStart(10)} ms  ${name === "trigger" ? colors.dim(bar) : bar}`;
		})
		.join("\n");
}

/** A report for people. */
export function describe(report: UpdateReport): string {
	const rows = report.domains.map((domain) => [
		domain.domid,
		domain.kind,
		domain.vcpus,
		domain.frames,
		domain.ports,
		domain.grantMappings,
		...domain.passMs.map((ms) => ms.toFixed(3)),
	]);
	const names = ["domid", "kind", "vcpus", "frames", "ports", "grant mappings", "pass 0 ms", "pass 1 ms", "pass 2 ms"];
	const verdict = report.difference
		? colors.red(`different: ${differenceText(report.difference)}`)
		: colors.green("identical: every table of xen#1 and xen#2 agrees, counts included");
	return [
		colors.bold(`live update of ${report.host}`),
		timeline(report),
		"",
		table(names, rows),
		"",
		`blackout     ${report.blackoutMs.toFixed(3)} ms (the serializer's share, measured in a process; no hardware was paused)`,
		`stream size  ${report.streamBytes} octets`,
		...(report.workers > 1 ? [`workers      ${report.workers}`] : []),
		verdict,
		"",
	].join("\n");
}

export function differenceText(difference: NonNullable<UpdateReport["difference"]>): string {
	const { domid, table: name, index, field, expected, got } = difference;
	const where = `${domid === undefined ? "host" : `domain ${domid}`}, table ${name}`;
	return index === undefined
		? `${where}: ${expected} rows in xen#1, ${got} in xen#2`
		: `${where}, row ${index}, field ${field}: octet ${expected} in xen#1, ${got} in xen#2`;
}
