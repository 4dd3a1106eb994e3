/** The built command as people run it: a process of its own. */
import { type SpawnSyncOptionsWithBufferEncoding, spawnSync } from "node:child_process";
import { join } from "node:path";
import { root } from "../support/core.ts";

export const command = join(root, "dist/cli/main.js");
export const host = (name: string): string => join(root, "test/fixtures/xen-4.17", name);

export interface Ended {
	status: number | null;
	stdout: string;
	stderr: string;
	/** Standard output as octets. */
	raw: Buffer;
}

export interface RunOptions {
	input?: Uint8Array;
	cwd?: string;
	env?: Record<string, string>;
}

/** An environment without the variables that colours depend on. */
function environment(extra: Record<string, string> = {}): NodeJS.ProcessEnv {
	const { NO_COLOR: _n, FORCE_COLOR: _f, CI: _c, NODE_OPTIONS: _o, ...rest } = process.env;
	return { ...rest, ...extra };
}

function ended(program: string, args: readonly string[], options: RunOptions): Ended {
	const settings: SpawnSyncOptionsWithBufferEncoding = {
		env: environment(options.env),
		maxBuffer: 1 << 30,
		...(options.input ? { input: options.input } : {}),
		...(options.cwd ? { cwd: options.cwd } : {}),
	};
	const { status, stdout, stderr, error } = spawnSync(program, args, settings);
	if (error) throw error;
	return { status, stdout: stdout.toString("utf8"), stderr: stderr.toString("utf8"), raw: stdout };
}

export function xlu(args: readonly string[], options: RunOptions = {}): Ended {
	return ended(process.execPath, [command, ...args], options);
}

/** A line for bash, in which `$XLU` is the command. */
export function shell(line: string, options: RunOptions = {}): Ended {
	const env = { XLU: `${process.execPath} ${command}`, ...options.env };
	return ended("bash", ["-c", line], { ...options, env });
}
