/**
 * Preserved memory: the frames whose content matters to the hypervisor's state and stays in place (S3). In a process it
 * travels as one window, on disk as FILE.mem: a header, a sorted directory of MFNs, then their pages.
 */
import { XluError } from "../errors.ts";
import { alignUp, readStruct, writeStruct } from "../format/layout.ts";
import { ruleId, rules } from "../format/rules.ts";
import { imageStructs, MEMORY_MAGIC } from "../format/schema.ts";
import type { PreservedPages } from "./model.ts";

export const PAGE_BYTES = 4096;
const { MemoryHeader } = imageStructs;
const memoryRule = ruleId(rules.find(({ name }) => name === "MEMORY")?.id ?? 0);

/** Hashes octets with XXH3-64; the core's function, so that both sides agree. */
export type Hash = (data: Uint8Array) => bigint;

/**
 * Makes the window.
 * @param pages MFN -> 4096 octets
 * @param streamHash XXH3-64 of the stream that it belongs to: a stream and its memory never part
 */
export function packPreserved(pages: PreservedPages, streamHash: bigint, hash: Hash): Uint8Array<ArrayBuffer> {
	const mfns = [...pages.keys()].sort((a, b) => a - b);
	const pagesOffset = alignUp(MemoryHeader.size + mfns.length * 8, PAGE_BYTES);
	const bytes = new Uint8Array(pagesOffset + mfns.length * PAGE_BYTES);
	const view = new DataView(bytes.buffer);
	mfns.forEach((mfn, i) => {
		view.setBigUint64(MemoryHeader.size + i * 8, BigInt(mfn), true);
		bytes.set(pages.get(mfn) as Uint8Array, pagesOffset + i * PAGE_BYTES);
	});
	const header = { magic: MEMORY_MAGIC, streamHash, pageCount: mfns.length, pagesOffset };
	writeStruct(MemoryHeader, view, 0, { ...header, hash: hash(bytes.subarray(MemoryHeader.size)) });
	return bytes;
}

/** Looks at a window's frame alone: is it preserved memory at all, and whole? The core checks the rest. */
export function checkPreservedFrame(bytes: Uint8Array, file: string): void {
	const fault = (expected: string, got: string) =>
		new XluError(
			"XLU_E_MEMORY",
			`${file} is not the preserved memory of a stream (${memoryRule}): expected ${expected}, found ${got}.`,
			{
				rule: memoryRule,
				record: file,
				offset: 0,
				expected,
				got,
			},
		);
	if (bytes.length < MemoryHeader.size) throw fault(`at least ${MemoryHeader.size} octets`, `${bytes.length}`);
	const header = readStruct(MemoryHeader, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0);
	if (header.magic !== MEMORY_MAGIC)
		throw fault(`magic 0x${MEMORY_MAGIC.toString(16)}`, `0x${(header.magic as bigint).toString(16)}`);
	const whole = Number(header.pagesOffset) + Number(header.pageCount) * PAGE_BYTES;
	if (whole !== bytes.length) throw fault(`${whole} octets`, `${bytes.length}`);
}
