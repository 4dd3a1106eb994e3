/** How commands speak: results on standard output, progress and errors on standard error, files whole or not at all. */
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from "node:fs";
import pc from "picocolors";
import { XluError } from "../errors.ts";
import { isDirectory } from "../host.ts";

/** Set by --quiet: no progress. */
export const settings = { quiet: false };

const terminal = process.stderr.isTTY === true;

/** A line of progress on a terminal; silent elsewhere. */
export function progress(text: string): void {
	if (terminal && !settings.quiet) process.stderr.write(`\r\u001b[K${pc.dim(text)}`);
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

/** Reads a file, or standard input for `-`. */
export function readInput(path: string): Uint8Array {
	try {
		return path === "-" ? readFileSync(0) : readFileSync(path);
	} catch (cause) {
		const reason = cause as NodeJS.ErrnoException;
		throw new XluError("XLU_E_IO", `${path === "-" ? "Standard input" : path} cannot be read: ${reason.message}.`, {
			record: path,
			expected: "a readable file of at most 2 GiB",
			got: reason.code ?? "an error",
			cause,
		});
	}
}

/**
 * Writes files so that all of them appear whole, or none: beside their names first, renamed when all are written. Where a
 * rename fails after all, what had no file before has none afterwards.
 */
export function writeFiles(files: readonly { path: string; data: Uint8Array }[]): void {
	const beside = files.map(({ path }) => `${path}.${process.pid}.part`);
	const before = files.map(({ path }) => existsSync(path));
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
		files.forEach(({ path, data }, i) => {
			current = path;
			const descriptor = openSync(beside[i] as string, "wx");
			try {
				for (let at = 0; at < data.length; ) at += writeSync(descriptor, data, at);
				fsyncSync(descriptor);
			} finally {
				closeSync(descriptor);
			}
		});
		for (const { path } of files) {
			current = path;
			renameSync(beside[renamed] as string, path);
			renamed++;
		}
	} catch (cause) {
		for (const path of beside) rmSync(path, { force: true });
		files.slice(0, renamed).forEach(({ path }, i) => {
			if (!before[i]) rmSync(path, { force: true });
		});
		throw cannotWrite(current, (cause as Error).message, (cause as NodeJS.ErrnoException).code ?? "an error", cause);
	}
}

/** Says what went wrong, with its code, and returns the exit status. */
export function report(error: unknown, json: boolean): number {
	progressDone();
	const known =
		error instanceof XluError ? error : new XluError("XLU_E_INTERNAL", `${(error as Error)?.stack ?? error}`);
	if (json) {
		const { code, rule, domid, record, offset, line, field, expected, got, message } = known;
		printJson({ error: { code, rule, domid, record, offset, line, field, expected, got, message } });
	}
	const bold = pc.createColors(pc.isColorSupported && terminal).bold;
	process.stderr.write(`${bold(`xlu: ${known.code}`)}: ${known.message}\n`);
	const facts = (["record", "line", "offset", "domid", "field", "expected", "got"] as const)
		.filter((name) => known[name] !== undefined && !known.message.includes(`${known[name]}`))
		.map((name) => `${name} ${known[name]}`);
	if (facts.length) process.stderr.write(`     ${facts.join("; ")}\n`);
	return known.exitStatus;
}
