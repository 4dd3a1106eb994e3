/**
 * A position in a stream that comes in chunks. Whoever reads says how many octets it needs; what lies within one chunk is
 * handed out as a view, what straddles two is put together. Bounded: a caller never asks for more than it has checked.
 */
import { type ByteSource, sourceOf } from "./source.ts";

const NOTHING = new Uint8Array(0);

export class StreamReader {
	readonly source: ByteSource;
	#chunk: Uint8Array = NOTHING;
	#at = 0;
	/** Offset in the stream of the chunk's first octet. */
	#base = 0;
	#isEnded = false;

	constructor(source: ByteSource) {
		this.source = source;
	}

	/** A stream that lies in memory: all of it can be had without waiting. */
	static over(octets: Uint8Array, name = "stream"): StreamReader {
		const reader = new StreamReader(sourceOf(octets, name));
		reader.#chunk = new Uint8Array(octets.buffer, octets.byteOffset, octets.byteLength);
		reader.#isEnded = true;
		return reader;
	}

	/** Octets from the start of the stream to the position. */
	get offset(): number {
		return this.#base + this.#at;
	}

	/** Octets that can be had without waiting. */
	get available(): number {
		return this.#chunk.length - this.#at;
	}

	/**
	 * The next `lengthBytes` octets without moving on; fewer at the end of the stream. Valid until the next call of any
	 * method.
	 */
	async peek(lengthBytes: number): Promise<Uint8Array> {
		if (this.available < lengthBytes) await this.#gather(lengthBytes);
		return this.peekNow(lengthBytes);
	}

	/** As `peek`, of what can be had without waiting. */
	peekNow(lengthBytes: number): Uint8Array {
		return this.#chunk.subarray(this.#at, this.#at + lengthBytes);
	}

	/**
	 * The next `lengthBytes` octets; fewer at the end of the stream, so that the caller can say what it expected. Valid
	 * until the next call of any method.
	 */
	async take(lengthBytes: number): Promise<Uint8Array> {
		const now = this.takeNow(lengthBytes);
		if (now) return now;
		// Grows as octets come, not as somebody claims.
		const parts: Uint8Array[] = [];
		let length = 0;
		while (length < lengthBytes) {
			const octets = await this.some(lengthBytes - length);
			if (!octets) break;
			parts.push(octets.slice());
			length += octets.length;
		}
		return concat(parts, length);
	}

	/** As `take`, without waiting: undefined where the octets do not lie within the chunk. */
	takeNow(lengthBytes: number): Uint8Array | undefined {
		if (this.available < lengthBytes) return undefined;
		this.#at += lengthBytes;
		return this.#chunk.subarray(this.#at - lengthBytes, this.#at);
	}

	/** At least one and at most `limitBytes` octets, as they come; undefined at the end. */
	async some(limitBytes: number): Promise<Uint8Array | undefined> {
		if (this.available === 0 && !(await this.#next())) return undefined;
		return this.takeNow(Math.min(limitBytes, this.available));
	}

	/** Moves on by `lengthBytes`, in a file without reading them; returns how many octets there were. */
	async skip(lengthBytes: number): Promise<number> {
		let left = lengthBytes;
		while (left > 0) {
			if (this.available === 0) {
				const passed = this.source.skip && !this.#isEnded ? await this.source.skip(left) : 0;
				if (passed > 0) {
					this.#base += this.#chunk.length + passed;
					this.#chunk = NOTHING;
					this.#at = 0;
					left -= passed;
					continue;
				}
				if (!(await this.#next())) break;
			}
			const now = Math.min(left, this.available);
			this.#at += now;
			left -= now;
		}
		return lengthBytes - left;
	}

	async isAtEnd(): Promise<boolean> {
		return this.available === 0 && !(await this.#next());
	}

	close(): Promise<void> {
		return this.source.close();
	}

	/** Drops the chunk, which has been read, for the next one. */
	async #next(): Promise<boolean> {
		if (this.#isEnded) return false;
		this.#base += this.#chunk.length;
		this.#at = 0;
		this.#chunk = NOTHING;
		const chunk = await this.source.read();
		if (chunk) this.#chunk = chunk;
		else this.#isEnded = true;
		return chunk !== undefined;
	}

	/** Makes one chunk of at least `lengthBytes` octets, or of what is left. */
	async #gather(lengthBytes: number): Promise<void> {
		const base = this.offset;
		const parts: Uint8Array[] = [];
		let length = 0;
		while (length < lengthBytes) {
			const octets = await this.some(Number.POSITIVE_INFINITY);
			if (!octets) break;
			parts.push(octets.slice());
			length += octets.length;
		}
		this.#chunk = concat(parts, length);
		this.#base = base;
		this.#at = 0;
	}
}

function concat(parts: readonly Uint8Array[], length: number): Uint8Array {
	const whole = new Uint8Array(length);
	let at = 0;
	for (const part of parts) {
		whole.set(part, at);
		at += part.length;
	}
	return whole;
}
