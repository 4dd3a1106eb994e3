/** A peer in a process of its own, driven a command at a time (bench/native/commands.h). */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export class PeerProcess {
	#child;
	#closed;
	#lines;
	#errors = "";

	constructor(child) {
		this.#child = child;
		// Its output may end before its last words have come: only then is all of it there.
		this.#closed = once(child, "close");
		// A program that cannot be started is start's to report.
		this.#closed.catch(() => {});
		this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
		child.stderr.on("data", (part) => {
			this.#errors += part;
		});
	}

	/** Starts a peer and waits until it has shown that it writes the same stream. */
	static async start(program, args) {
		const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
		const peer = new PeerProcess(child);
		await once(child, "spawn");
		const first = await peer.#line();
		if (first !== "ready") throw new Error(`${program} said ${first}`);
		return peer;
	}

	async #line() {
		const { value, done } = await this.#lines.next();
		if (!done) return value;
		await this.#closed;
		throw new Error(this.#errors.trim() || "the peer ended without a word");
	}

	/** Runs a command `times` times over; resolves to the milliseconds of one. */
	async run(command, times = 1) {
		this.#child.stdin.write(`${command} ${times}\n`);
		return Number(await this.#line()) / 1e6 / times;
	}

	async stop() {
		this.#child.stdin.end("quit\n");
		await this.#closed;
	}
}
