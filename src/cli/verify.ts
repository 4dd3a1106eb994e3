/** xlu verify FILE: would its reader take this stream? A live-update stream is opened and checked as xen#2 would. */
import { bundleFormat } from "../bundle/format.ts";
import { findingOf, XluError } from "../errors.ts";
import { xenstoreFormat } from "../formats/xenstore/index.ts";
import { openStream } from "../inspect/open.ts";
import { type CheckResult, load } from "../library.ts";
import { verifyOnto } from "./bundle.ts";
import { type FormatOptions, verifyStreamFile } from "./formats.ts";
import { colors, print, printJson } from "./output.ts";
import { readMemory, readStream } from "./stream.ts";

export interface VerifyOptions extends FormatOptions {
	memory?: string;
	/** Of a bundle: the host that is to receive it. */
	onto?: string;
	json: boolean;
}

export async function verify(path: string, options: VerifyOptions): Promise<number> {
	// What is not recognised gets the core's verdict: its rules on the marker and the length.
	const opened = await openStream(path, { orElse: "xlu" });
	const { reader, format } = opened;
	try {
		if (options.onto !== undefined) {
			if (format !== bundleFormat) {
				throw new XluError("XLU_E_USAGE", `${path} is no bundle: only a bundle is received by a host.`, {
					field: "--onto",
					expected: "a bundle of xlu extract",
					got: format?.name ?? "a live-update stream",
				});
			}
			return await verifyOnto(path, reader, options.onto, options.json);
		}
		// A file that is told to be for a daemon is judged as one, whatever it begins with.
		if (options.for && !format) return await verifyStreamFile(path, { ...opened, format: xenstoreFormat }, options);
		if (format) return await verifyStreamFile(path, { ...opened, format }, options);
		return await verifyLiveUpdate(path, await readStream(reader), options);
	} finally {
		await reader.close();
	}
}

async function verifyLiveUpdate(path: string, stream: Uint8Array, options: VerifyOptions): Promise<number> {
	const { exitStatus, ...result } = await check(path, stream, options.memory);
	if (options.json) {
		printJson(result);
		return exitStatus;
	}
	for (const { message } of result.findings) print(message);
	if (result.ok) print(colors.green(`${path}: every rule holds`));
	if (result.notCheckable.length) {
		const where = path === "-" ? "--memory FILE" : `${path}.mem`;
		print(`not checkable without the preserved memory (${where}): ${result.notCheckable.join(", ")}`);
	}
	return exitStatus;
}

async function check(path: string, stream: Uint8Array, memoryPath: string | undefined): Promise<CheckResult> {
	try {
		const { memory } = await readMemory(path, memoryPath);
		return (await load()).check(stream, memory);
	} catch (error) {
		// A damaged FILE.mem is a finding like any other.
		if (!(error instanceof XluError) || error.code !== "XLU_E_MEMORY") throw error;
		return { ok: false, findings: [findingOf(error)], notCheckable: [], exitStatus: error.exitStatus };
	}
}
