/** A live-update stream FILE and the preserved memory beside it, as verify, restore and inspect take them. */
import { existsSync } from "node:fs";
import { XluError } from "../errors.ts";
import { readStruct } from "../format/layout.ts";
import { imageStructs, MEMORY_MAGIC } from "../format/schema.ts";
import { StreamReader } from "../formats/common/reader.ts";
import { openSource } from "../formats/common/source.ts";
import { viewOf } from "../formats/common/values.ts";
import { openStream, readLiveUpdate, readWhole } from "../inspect/open.ts";
import { checkPreservedFrame, PAGE_BYTES } from "../machine/preserved.ts";
import { progress, progressDone } from "./output.ts";

export interface StreamFile {
	stream: Uint8Array;
	/** The preserved memory, absent if there is no FILE.mem. */
	memory: Uint8Array | undefined;
	memoryPath: string | undefined;
}

/** Reads FILE (`-`: standard input), packed by gzip or as JSON too, and FILE.mem, or the memory file that is named. */
export async function readStreamFile(path: string, memoryPath?: string): Promise<StreamFile> {
	const { reader } = await openStream(path, { orElse: "xlu" });
	try {
		return { stream: await readStream(reader), ...(await readMemory(path, memoryPath)) };
	} finally {
		await reader.close();
	}
}

/** The preserved memory beside FILE, or the file that is named. */
export async function readMemory(path: string, memoryPath?: string): Promise<Omit<StreamFile, "stream">> {
	const beside = memoryPath ?? (path === "-" ? undefined : `${path}.mem`);
	if (!beside || (memoryPath === undefined && !existsSync(beside))) return { memory: undefined, memoryPath: undefined };
	const reader = new StreamReader(await openSource(beside));
	try {
		const head = await reader.peek(imageStructs.MemoryHeader.size);
		// What is none is looked at no further: it may never end.
		const isKnown = head.length >= 8 && viewOf(head).getBigUint64(0, true) === MEMORY_MAGIC;
		const memory = isKnown ? await readWhole(reader) : head.slice();
		checkPreservedFrame(memory, beside);
		return { memory, memoryPath: beside };
	} finally {
		await reader.close();
	}
}

/** A live-update stream, whole; long ones with a line of progress. */
export async function readStream(reader: StreamReader): Promise<Uint8Array> {
	const stream = await readLiveUpdate(reader, (offset) => progress(progressText(reader, offset)));
	progressDone();
	return stream;
}

/** How far a stream is read. */
export function progressText({ source }: StreamReader, offset: number): string {
	const share = source.size ? `, ${Math.floor((100 * offset) / source.size)} %` : "";
	return `${source.name}: ${Math.floor(offset / 1048576)} MiB${share}`;
}

/** Content of preserved frames by MFN. */
export function pagesOf(memory: Uint8Array | undefined): (mfn: number) => Uint8Array | undefined {
	if (!memory) return () => undefined;
	const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
	const header = readStruct(imageStructs.MemoryHeader, view, 0);
	const places = new Map<number, number>();
	for (let i = 0; i < Number(header.pageCount); i++) {
		places.set(
			Number(view.getBigUint64(imageStructs.MemoryHeader.size + i * 8, true)),
			Number(header.pagesOffset) + i * PAGE_BYTES,
		);
	}
	return (mfn) => {
		const at = places.get(mfn);
		return at === undefined ? undefined : memory.subarray(at, at + PAGE_BYTES);
	};
}

export function needMemory(file: StreamFile, path: string): Uint8Array {
	if (file.memory) return file.memory;
	throw new XluError("XLU_E_MEMORY", `${path} alone cannot be restored: the preserved memory is missing (XLU-R035).`, {
		rule: "XLU-R035",
		record: path,
		expected: `${path}.mem beside it, or --memory FILE`,
		got: "the stream alone",
	});
}
