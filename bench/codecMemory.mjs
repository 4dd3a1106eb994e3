/** The bench's module with the codecs and the limits, and windows in its memory. */
import { readFileSync } from "node:fs";
import { codecModule } from "./build.mjs";

const PAGE = 65536;
/** Every chunk of 4096 entries as it is, with its header. */
export const codingRoom = (entries) => entries * 8 + Math.ceil(entries / 4096) * 8 + 64;
const ALL = -1n;

export class CodecMemory {
	#next = PAGE;

	constructor() {
		this.exports = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(codecModule())), {}).exports;
	}

	allocate(bytes) {
		const pointer = Math.ceil(this.#next / 64) * 64;
		this.#next = pointer + bytes;
		const { memory } = this.exports;
		const missing = Math.ceil((this.#next + PAGE - memory.buffer.byteLength) / PAGE);
		if (missing > 0) memory.grow(missing);
		return pointer;
	}

	bytes(pointer, length) {
		return new Uint8Array(this.exports.memory.buffer, pointer, length);
	}

	place(view) {
		const pointer = this.allocate(view.byteLength);
		this.bytes(pointer, view.byteLength).set(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
		return pointer;
	}

	encode(table, count, out, elementBytes = 8) {
		return this.exports.encodeTable(elementBytes, table, count, ALL, out) >>> 0;
	}

	decode(coding, bytes, count, table, elementBytes = 8) {
		this.exports.decodeChunks(elementBytes, coding, bytes, count, table);
	}

	isSame(a, b, length) {
		return Buffer.compare(this.bytes(a, length), this.bytes(b, length)) === 0;
	}
}
