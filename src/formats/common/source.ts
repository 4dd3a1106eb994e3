/**
 * Where a stream comes from: a file, a pipe, standard input, octets in memory. Whatever its size, two buffers of it are
 * held, one being read while the other is looked at. What begins like gzip is unpacked on the way, since images are kept so.
 *
 * A chunk is valid until the next `read`: its buffer is used again.
 */
import { close, fstatSync, openSync, read } from "node:fs";
import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { XluError } from "../../errors.ts";

export interface ByteSource {
	/** A file's name, `standard input`, or what the caller called it. */
	readonly name: string;
	/** Octets in all, where that is known. */
	readonly size: number | undefined;
	/** The next octets, at least one; undefined at the end. Valid until the next call. */
	read(): Promise<Uint8Array | undefined>;
	/**
	 * Passes over at most `lengthBytes` octets without reading them, and says over how many: fewer at the end, or where it cannot
	 * at this place. A file can; a pipe has no such method.
	 */
	skip?(lengthBytes: number): Promise<number>;
	close(): Promise<void>;
}

/** A pipe gives 64 KiB at a time, whatever is asked for; a file fills it. */
const BUFFER_BYTES = 1 << 20;

const GZIP = [0x1f, 0x8b] as const;

/** Never a Buffer, whose slice() is no copy. */
function plain(octets: Uint8Array): Uint8Array {
	return new Uint8Array(octets.buffer, octets.byteOffset, octets.byteLength);
}

function cannotRead(name: string, cause: NodeJS.ErrnoException): XluError {
	return new XluError("XLU_E_IO", `${name} cannot be read: ${cause.message}.`, {
		record: name,
		expected: "a readable file",
		got: cause.code ?? "an error",
		cause,
	});
}

/** Reads ahead: while the caller looks at one buffer, the other one fills. */
class DescriptorSource implements ByteSource {
	readonly name: string;
	readonly size: number | undefined;
	readonly #descriptor: number;
	readonly #isOwned: boolean;
	readonly #buffers = [Buffer.allocUnsafeSlow(BUFFER_BYTES), Buffer.allocUnsafeSlow(BUFFER_BYTES)] as const;
	#turn = 0;
	#pending: Promise<Uint8Array | undefined> | undefined;
	#isEnded = false;
	/** Of a file: where the next read begins. A pipe has no place but its own. */
	#position: number | null;

	constructor(name: string, descriptor: number, isOwned: boolean) {
		this.name = name;
		this.#descriptor = descriptor;
		this.#isOwned = isOwned;
		const found = fstatSync(descriptor);
		this.size = found.isFile() ? found.size : undefined;
		// Standard input may be a file that somebody has read some of: it goes on from there.
		this.#position = this.size !== undefined && isOwned ? 0 : null;
	}

	async skip(lengthBytes: number): Promise<number> {
		if (this.#position === null || this.size === undefined || this.#isEnded) return 0;
		// What was read ahead lies in front.
		const ahead = await this.#pending;
		this.#pending = undefined;
		if (ahead && ahead.length > lengthBytes) {
			this.#pending = Promise.resolve(ahead.subarray(lengthBytes));
			return lengthBytes;
		}
		const passed = ahead?.length ?? 0;
		const rest = Math.max(0, Math.min(lengthBytes - passed, this.size - this.#position));
		this.#position += rest;
		return passed + rest;
	}

	async read(): Promise<Uint8Array | undefined> {
		if (this.#isEnded) return undefined;
		const chunk = await (this.#pending ?? this.#fill());
		this.#pending = undefined;
		if (!chunk) {
			this.#isEnded = true;
			return undefined;
		}
		this.#pending = this.#fill();
		// A failure is told when its octets are asked for.
		this.#pending.catch(() => {});
		return chunk;
	}

	#fill(): Promise<Uint8Array | undefined> {
		const buffer = this.#buffers[this.#turn as 0 | 1];
		this.#turn ^= 1;
		return new Promise((resolve, reject) => {
			read(this.#descriptor, buffer, 0, buffer.length, this.#position, (error, length) => {
				if (error) reject(cannotRead(this.name, error));
				else {
					if (this.#position !== null) this.#position += length;
					resolve(length > 0 ? plain(buffer.subarray(0, length)) : undefined);
				}
			});
		});
	}

	async close(): Promise<void> {
		// A read in flight must not meet another file under the same number.
		await this.#pending?.catch(() => {});
		if (this.#isOwned) await new Promise<void>((resolve) => close(this.#descriptor, () => resolve()));
	}
}

/** A source with some of its octets read already. */
class PeekedSource implements ByteSource {
	readonly name: string;
	readonly size: number | undefined;
	readonly #inner: ByteSource;
	#first: Uint8Array | undefined;

	constructor(inner: ByteSource, first: Uint8Array | undefined) {
		this.name = inner.name;
		this.size = inner.size;
		this.#inner = inner;
		this.#first = first;
	}

	async read(): Promise<Uint8Array | undefined> {
		const first = this.#first;
		this.#first = undefined;
		return first ?? (await this.#inner.read());
	}

	async skip(lengthBytes: number): Promise<number> {
		return this.#first ? 0 : ((await this.#inner.skip?.(lengthBytes)) ?? 0);
	}

	close(): Promise<void> {
		return this.#inner.close();
	}
}

async function* chunksOf(source: ByteSource): AsyncGenerator<Uint8Array> {
	// The unpacker keeps what it is given, so it gets copies.
	for (let chunk = await source.read(); chunk; chunk = await source.read()) yield Uint8Array.from(chunk);
}

class GunzipSource implements ByteSource {
	readonly name: string;
	readonly size = undefined;
	readonly #inner: ByteSource;
	readonly #chunks: AsyncIterator<Uint8Array>;

	constructor(inner: ByteSource) {
		this.name = inner.name;
		this.#inner = inner;
		const input = Readable.from(chunksOf(inner), { objectMode: false });
		const gunzip = createGunzip({ chunkSize: BUFFER_BYTES });
		input.once("error", (error) => gunzip.destroy(error));
		this.#chunks = input.pipe(gunzip)[Symbol.asyncIterator]();
	}

	async read(): Promise<Uint8Array | undefined> {
		try {
			const { value, done } = await this.#chunks.next();
			return done ? undefined : plain(value as Uint8Array);
		} catch (cause) {
			if (cause instanceof XluError) throw cause;
			const { message, code } = cause as NodeJS.ErrnoException;
			throw new XluError("XLU_E_IMAGE", `${this.name} is damaged: ${message}.`, {
				record: this.name,
				expected: "a whole gzip file",
				got: code ?? message,
				cause,
			});
		}
	}

	async close(): Promise<void> {
		await this.#chunks.return?.();
		await this.#inner.close();
	}
}

async function unpacked(source: ByteSource): Promise<ByteSource> {
	const first = await source.read();
	const peeked = new PeekedSource(source, first);
	return first && GZIP.every((octet, i) => first[i] === octet) ? new GunzipSource(peeked) : peeked;
}

/**
 * Opens a file or a pipe by its name; `-` is standard input.
 * @throws XLU_E_IO if it cannot be opened or read
 */
export async function openSource(path: string): Promise<ByteSource> {
	const name = path === "-" ? "standard input" : path;
	let source: ByteSource | undefined;
	try {
		source = new DescriptorSource(name, path === "-" ? 0 : openSync(path, "r"), path !== "-");
	} catch (cause) {
		throw cannotRead(name, cause as NodeJS.ErrnoException);
	}
	try {
		return await unpacked(source);
	} catch (error) {
		await source.close();
		throw error;
	}
}

/** Octets in memory as a source, in chunks of at most `chunkBytes`. They are not copied. */
export function sourceOf(octets: Uint8Array, name = "stream", chunkBytes = BUFFER_BYTES): ByteSource {
	let at = 0;
	const whole = plain(octets);
	return {
		name,
		size: octets.length,
		async read() {
			if (at >= octets.length) return undefined;
			const chunk = whole.subarray(at, at + chunkBytes);
			at += chunk.length;
			return chunk;
		},
		async close() {},
	};
}
