/** How commands speak: results on standard output, progress and errors on standard error, files whole or not at all. */
import { closeSync, existsSync, fsyncSync, openSync, realpathSync, renameSync, rmSync, writeSync } from "node:fs";
import pc from "picocolors";
import { type UpdateOutcome, XluError } from "../errors.ts";
import { isDirectory, statOf } from "../host.ts";

/** Set by --quiet: no progress. */
export const settings = { quiet: false };

const terminal = process.stderr.isTTY === true;

/** Colours for a stream: on a terminal alone, whatever CI says; NO_COLOR and FORCE_COLOR decide before that. */
function colorsFor(stream: { isTTY?: boolean }): ReturnType<typeof pc.createColors> {
	const { NO_COLOR, FORCE_COLOR, TERM } = process.env;
	const isForced = FORCE_COLOR !== undefined && FORCE_COLOR !== "" && FORCE_COLOR !== "0";
	return pc.createColors(!NO_COLOR && (isForced || (stream.isTTY === true && TERM !== "dumb")));
}

/** Colours of what goes to standard output. */
export const colors = colorsFor(process.stdout);
const errorColors = colorsFor(process.stderr);

/** A line of progress on a terminal; silent elsewhere. */
export function progress(text: string): void {
	if (terminal && !settings.quiet) process.stderr.write(`\r\u001b[K${errorColors.dim(text)}`);
}

/** Takes the line of progress away. */
export function progressDone(): void {
	if (terminal && !settings.quiet) process.stderr.write("\r\u001b[K");
}

export function print(text: string): void {
	process.stdout.write(`${text}\n`);
}

/** One JSON object on one line; 64-bit numbers beyond 2^53 become strings. */
export function printJson(value: unknown): void {
	print(JSON.stringify(value, (_key, entry) => (typeof entry === "bigint" ? `${entry}` : entry)));
}

/** Columns, the first line their names; numbers to the right. */
export function table(names: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
	const cells = [names, ...rows.map((row) => row.map(String))] as string[][];
	const widths = names.map((_, i) => Math.max(...cells.map((row) => (row[i] ?? "").length)));
	const isNumber = names.map(
		(_, i) => rows.length > 0 && rows.every((row) => typeof row[i] === "number" || /^[\d.]+$/.test(`${row[i]}`)),
	);
	return cells
		.map((row) =>
			row
				.map((cell, i) => (isNumber[i] ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
				.join("  ")
				.trimEnd(),
		)
		.join("\n");
}

/** Removes a file if it can be: what failed before is worth telling, not this. */
function remove(path: string): void {
	try {
		rmSync(path, { force: true });
	} catch {
		// Below a file, for one, there is nothing to remove.
	}
}

/** Whether a path names what is there and no file: a device, a pipe. It is written to, never replaced. */
export function isDevice(path: string): boolean {
	const found = statOf(path);
	return found !== undefined && !found.isFile() && !found.isDirectory();
}

/**
 * Writes files so that all of them appear whole, or none: beside their names first, renamed when all are written. Where a
 * rename fails after all, what had no file before has none afterwards. A symbolic link stays one.
 */
export function writeFiles(wanted: readonly { path: string; data: Uint8Array }[]): void {
	const files = wanted.map(({ path, data }) => {
		const isNew = !existsSync(path);
		const inPlace = isDevice(path);
		const target = isNew || inPlace ? path : realpathSync(path);
		return { path: target, data, isNew, part: inPlace ? undefined : `${target}.${process.pid}.part` };
	});
	const cannotWrite = (path: string, reason: string, code: string, cause?: unknown) =>
		new XluError("XLU_E_IO", `${path} cannot be written: ${reason}.`, {
			record: path,
			expected: "a file that can be written",
			got: code,
			cause,
		});
	for (const { path } of files) {
		if (isDirectory(path)) throw cannotWrite(path, "it is a directory", "EISDIR");
	}
	let current = "";
	let renamed = 0;
	try {
		for (const { path, data, part } of files) {
			current = path;
			const descriptor = openSync(part ?? path, part ? "wx" : "w");
			try {
				for (let at = 0; at < data.length; ) at += writeSync(descriptor, data, at);
				if (part) fsyncSync(descriptor);
			} finally {
				closeSync(descriptor);
			}
		}
		for (const { path, part } of files) {
			current = path;
			if (part) renameSync(part, path);
			renamed++;
		}
	} catch (cause) {
		for (const { part } of files) if (part) remove(part);
		for (const { path, isNew } of files.slice(0, renamed)) if (isNew) remove(path);
		throw cannotWrite(current, (cause as Error).message, (cause as NodeJS.ErrnoException).code ?? "an error", cause);
	}
}

/** What an update that ended early means for the host. */
export const outcomeTexts: Readonly<Record<UpdateOutcome, string>> = {
	"not paused": "no guest was paused: xen#1 runs on",
	"xen#1 resumed": "no jump: xen#1 resumed, its state unchanged",
	"refused at boot": "xen#2 refused at boot: it runs no guest",
};

/** Says what went wrong, with its code, and returns the exit status. */
export function report(error: unknown, json: boolean): number {
	progressDone();
	const known =
		error instanceof XluError ? error : new XluError("XLU_E_INTERNAL", `${(error as Error)?.stack ?? error}`);
	if (json) {
		const { code, rule, domid, record, offset, line, field, expected, got, stage, outcome, problems, message } = known;
		const error = { code, rule, domid, record, offset, line, field, expected, got, stage, outcome, problems, message };
		printJson({ error });
	}
	process.stderr.write(`${errorColors.bold(`xlu: ${known.code}`)}: ${known.message}\n`);
	const facts = (["record", "line", "offset", "domid", "field", "expected", "got"] as const)
		.filter((name) => known[name] !== undefined && !known.message.includes(`${known[name]}`))
		.map((name) => `${name} ${known[name]}`);
	if (facts.length) process.stderr.write(`     ${facts.join("; ")}\n`);
	if (known.outcome) process.stderr.write(`     ${outcomeTexts[known.outcome]} (stage: ${known.stage})\n`);
	// The first one stands in the message.
	for (const { field, expected, got } of known.problems?.slice(1) ?? []) {
		process.stderr.write(`     ${field}: expected ${expected}, got ${got}\n`);
	}
	return known.exitStatus;
}
