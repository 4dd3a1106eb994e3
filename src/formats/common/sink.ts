/** Where a stream goes, octets after octets: a file that appears whole or not at all, or an open descriptor. */
import { close, closeSync, fsync, openSync, realpathSync, renameSync, rmSync, statSync, write } from "node:fs";
import { promisify } from "node:util";
import { XluError } from "../../errors.ts";

export interface ByteSink {
	/** Octets written so far. */
	readonly length: number;
	write(octets: Uint8Array): Promise<void>;
}

const closeDescriptor = promisify(close);
const syncDescriptor = promisify(fsync);

/** Small writes are put together up to here. */
const BUFFER_BYTES = 1 << 18;

function cannotWrite(path: string, cause: NodeJS.ErrnoException): XluError {
	return new XluError("XLU_E_IO", `${path} cannot be written: ${cause.message}.`, {
		record: path,
		expected: "a file that can be written",
		got: cause.code ?? "an error",
		cause,
	});
}

function writeSome(descriptor: number, octets: Uint8Array): Promise<number> {
	return new Promise((resolve, reject) => {
		write(descriptor, octets, 0, octets.length, null, (error, length) => (error ? reject(error) : resolve(length)));
	});
}

/**
 * A file written beside its name and renamed by `commit`. What is there and no file (a device, a pipe, `-` for standard
 * output) is written to as it is, since it cannot be replaced.
 */
export class FileSink implements ByteSink {
	readonly path: string;
	readonly #descriptor: number;
	readonly #part: string | undefined;
	readonly #target: string;
	readonly #buffer = Buffer.allocUnsafe(BUFFER_BYTES);
	#held = 0;
	#length = 0;
	#isOpen = true;

	/** @throws XLU_E_IO if the file cannot be made */
	constructor(path: string) {
		this.path = path === "-" ? "standard output" : path;
		this.#target = path;
		if (path === "-") {
			this.#descriptor = 1;
			return;
		}
		try {
			const found = statSync(path, { throwIfNoEntry: false });
			if (found?.isDirectory()) throw Object.assign(new Error("it is a directory"), { code: "EISDIR" });
			if (found && !found.isFile()) {
				this.#descriptor = openSync(path, "w");
				return;
			}
			// A symbolic link stays one.
			if (found) this.#target = realpathSync(path);
			this.#part = `${this.#target}.${process.pid}.part`;
			this.#descriptor = openSync(this.#part, "wx");
		} catch (cause) {
			throw cannotWrite(path, cause as NodeJS.ErrnoException);
		}
	}

	get length(): number {
		return this.#length;
	}

	async write(octets: Uint8Array): Promise<void> {
		this.#length += octets.length;
		if (this.#held + octets.length > BUFFER_BYTES) await this.#flush();
		if (octets.length > BUFFER_BYTES) {
			await this.#put(octets);
			return;
		}
		this.#buffer.set(octets, this.#held);
		this.#held += octets.length;
	}

	/** Everything is written: the file takes its name. */
	async commit(): Promise<void> {
		await this.#flush();
		if (this.#descriptor === 1) return;
		try {
			if (this.#part) await syncDescriptor(this.#descriptor);
			await this.#close();
			if (this.#part) renameSync(this.#part, this.#target);
		} catch (cause) {
			throw cannotWrite(this.path, cause as NodeJS.ErrnoException);
		}
	}

	/** Nothing is to be kept. After `commit` it does nothing. */
	async abort(): Promise<void> {
		if (!this.#isOpen || this.#descriptor === 1) return;
		await this.#close().catch(() => {});
		if (this.#part) rmSync(this.#part, { force: true });
	}

	/** Where the process is about to end: as `abort`, at once. */
	discard(): void {
		if (!this.#isOpen || this.#descriptor === 1) return;
		this.#isOpen = false;
		closeSync(this.#descriptor);
		if (this.#part) rmSync(this.#part, { force: true });
	}

	async #close(): Promise<void> {
		this.#isOpen = false;
		await closeDescriptor(this.#descriptor);
	}

	async #flush(): Promise<void> {
		const held = this.#held;
		this.#held = 0;
		await this.#put(this.#buffer.subarray(0, held));
	}

	async #put(octets: Uint8Array): Promise<void> {
		for (let at = 0; at < octets.length; ) {
			try {
				at += await writeSome(this.#descriptor, octets.subarray(at));
			} catch (cause) {
				const { code } = cause as NodeJS.ErrnoException;
				// Standard output may be a pipe that does not block: its reader is slower than this.
				if (code !== "EAGAIN") throw cannotWrite(this.path, cause as NodeJS.ErrnoException);
				await new Promise((resolve) => setTimeout(resolve, 1));
			}
		}
	}
}

/** Octets kept in memory. */
export class MemorySink implements ByteSink {
	readonly #parts: Uint8Array[] = [];
	#length = 0;

	get length(): number {
		return this.#length;
	}

	async write(octets: Uint8Array): Promise<void> {
		this.#length += octets.length;
		this.#parts.push(Uint8Array.from(octets));
	}

	/** All that was written. */
	octets(): Uint8Array {
		return new Uint8Array(Buffer.concat(this.#parts));
	}
}
