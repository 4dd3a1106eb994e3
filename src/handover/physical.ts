/**
 * A machine's physical memory as the hand-over sees it: frames by MFN, words and frames by machine address. Both Xens
 * work on the same one, xen#2 through a restricted view, so that any access it has no right to is an error and not a
 * lucky read (H3).
 */
import { XluError } from "../errors.ts";
import { FRAME_BYTES, hex } from "./regions.ts";

/** What reads and writes machine memory: the whole memory, or a view that allows a part of it. */
export interface MachineMemory {
	/** Frames of the machine; machine addresses end at frameCount * 4096. */
	readonly frameCount: number;
	/**
	 * The 64-bit little-endian word at a machine address that is a multiple of 8.
	 *
	 * @throws XluError XLU_E_HANDOVER if the address is unaligned, beyond the memory, or not allowed in this view.
	 */
	readU64(address: number): bigint;
	/** Writes such a word; refuses as readU64 does. */
	writeU64(address: number, value: bigint): void;
	/** Copies a frame into `into` (4096 octets) and returns that. */
	readFrame(mfn: number, into?: Uint8Array): Uint8Array;
	/** Replaces a frame; what is short of 4096 octets is zero. */
	writeFrame(mfn: number, octets: Uint8Array): void;
	/** Zeroes frames [firstMfn, firstMfn + frameCount). */
	wipe(firstMfn: number, frameCount: number): void;
	/**
	 * A view on this memory, in which every access outside throws XLU_E_HANDOVER; a view of a view allows what both do.
	 *
	 * @param allowed Frames that may be read.
	 * @param writable Frames that may be written, as allowed if not given.
	 */
	restrict(allowed: (mfn: number) => boolean, writable?: (mfn: number) => boolean): MachineMemory;
}

/** The memory itself. Sparse: a frame that was never written, or was wiped, is not there and reads as zeros. */
export class PhysicalMemory implements MachineMemory {
	readonly frameCount: number;
	readonly #pages = new Map<number, Uint8Array>();

	/**
	 * @param frameCount Frames of 4 KiB.
	 * @param pages What the memory holds at first, by MFN; copied.
	 */
	constructor(frameCount: number, pages: Iterable<readonly [number, Uint8Array]> = []) {
		// Machine addresses are kept as numbers, exact up to 2^53; x86 has 52 bits.
		if (!Number.isInteger(frameCount) || frameCount < 1 || frameCount > 2 ** 40) {
			throw new XluError("XLU_E_USAGE", `memory: expected 1 to 2^40 frames, got ${frameCount}`, {
				expected: "1 to 2^40 frames",
				got: String(frameCount),
			});
		}
		this.frameCount = frameCount;
		for (const [mfn, page] of pages) {
			this.writeFrame(mfn, page);
		}
	}

	/** Frames that take room, that is those written since they were last wiped. */
	get populatedFrames(): number {
		return this.#pages.size;
	}

	readU64(address: number): bigint {
		const [mfn, octet] = this.#locate(address);
		const page = this.#pages.get(mfn);
		return page === undefined ? 0n : viewOf(page).getBigUint64(octet, true);
	}

	writeU64(address: number, value: bigint): void {
		const [mfn, octet] = this.#locate(address);
		let page = this.#pages.get(mfn);
		if (page === undefined) {
			page = new Uint8Array(FRAME_BYTES);
			this.#pages.set(mfn, page);
		}
		viewOf(page).setBigUint64(octet, value, true);
	}

	readFrame(mfn: number, into = new Uint8Array(FRAME_BYTES)): Uint8Array {
		this.#needFrames(mfn, 1);
		needOctets(into.byteLength === FRAME_BYTES, mfn, "4096 octets to read into", into.byteLength);
		const page = this.#pages.get(mfn);
		if (page === undefined) {
			into.fill(0);
		} else {
			into.set(page);
		}
		return into;
	}

	writeFrame(mfn: number, octets: Uint8Array): void {
		this.#needFrames(mfn, 1);
		needOctets(octets.byteLength <= FRAME_BYTES, mfn, "at most 4096 octets to write", octets.byteLength);
		const page = new Uint8Array(FRAME_BYTES);
		page.set(octets);
		this.#pages.set(mfn, page);
	}

	wipe(firstMfn: number, frameCount: number): void {
		this.#needFrames(firstMfn, frameCount);
		if (frameCount < this.#pages.size) {
			for (let mfn = firstMfn; mfn < firstMfn + frameCount; mfn++) {
				this.#pages.delete(mfn);
			}
			return;
		}
		for (const mfn of [...this.#pages.keys()]) {
			if (mfn >= firstMfn && mfn < firstMfn + frameCount) {
				this.#pages.delete(mfn);
			}
		}
	}

	restrict(allowed: (mfn: number) => boolean, writable = allowed): MachineMemory {
		return new RestrictedMemory(this, allowed, writable);
	}

	#locate(address: number): [mfn: number, octet: number] {
		if (!Number.isInteger(address) || address % 8 !== 0) {
			throw refusedAccess(`machine address ${hexOf(address)} is unaligned`, "a multiple of 8 octets", hexOf(address));
		}
		const mfn = Math.floor(address / FRAME_BYTES);
		this.#needFrames(mfn, 1);
		return [mfn, address % FRAME_BYTES];
	}

	#needFrames(firstMfn: number, count: number): void {
		const whole = Number.isInteger(firstMfn) && Number.isInteger(count);
		if (!whole || firstMfn < 0 || count < 0 || firstMfn + count > this.frameCount) {
			const last = hexOf(firstMfn + Math.max(count, 1) - 1);
			throw refusedAccess(
				`frame ${last} at machine address ${hexOf(firstMfn * FRAME_BYTES)} is beyond the memory`,
				`a frame below ${hex(this.frameCount)}`,
				last,
			);
		}
	}
}

/** A part of a memory. Which frames it allows is asked anew at each access, so that a predicate may grow. */
class RestrictedMemory implements MachineMemory {
	readonly #memory: MachineMemory;
	readonly #readable: (mfn: number) => boolean;
	readonly #writable: (mfn: number) => boolean;

	constructor(memory: MachineMemory, readable: (mfn: number) => boolean, writable: (mfn: number) => boolean) {
		this.#memory = memory;
		this.#readable = readable;
		this.#writable = writable;
	}

	get frameCount(): number {
		return this.#memory.frameCount;
	}

	readU64(address: number): bigint {
		this.#need("read", Math.floor(address / FRAME_BYTES), address);
		return this.#memory.readU64(address);
	}

	writeU64(address: number, value: bigint): void {
		this.#need("write", Math.floor(address / FRAME_BYTES), address);
		this.#memory.writeU64(address, value);
	}

	readFrame(mfn: number, into?: Uint8Array): Uint8Array {
		this.#need("read", mfn);
		return this.#memory.readFrame(mfn, into);
	}

	writeFrame(mfn: number, octets: Uint8Array): void {
		this.#need("write", mfn);
		this.#memory.writeFrame(mfn, octets);
	}

	wipe(firstMfn: number, frameCount: number): void {
		for (let mfn = firstMfn; mfn < firstMfn + frameCount; mfn++) {
			this.#need("write", mfn);
		}
		this.#memory.wipe(firstMfn, frameCount);
	}

	restrict(allowed: (mfn: number) => boolean, writable = allowed): MachineMemory {
		return new RestrictedMemory(this, allowed, writable);
	}

	#need(access: "read" | "write", mfn: number, address = mfn * FRAME_BYTES): void {
		if (!(access === "read" ? this.#readable : this.#writable)(mfn)) {
			throw refusedAccess(
				`${access} of machine address ${hexOf(address)} outside what this view allows (H3)`,
				`a frame that may be ${access === "read" ? "read" : "written"}`,
				`frame ${hexOf(mfn)}`,
			);
		}
	}
}

function viewOf(page: Uint8Array): DataView {
	return new DataView(page.buffer, page.byteOffset, FRAME_BYTES);
}

function needOctets(right: boolean, mfn: number, expected: string, got: number): void {
	if (!right) {
		throw refusedAccess(`frame ${hexOf(mfn)}: wrong length`, expected, `${got}`);
	}
}

function refusedAccess(what: string, expected: string, got: string): XluError {
	return new XluError("XLU_E_HANDOVER", `${what}: expected ${expected}, got ${got}`, {
		record: "physical memory",
		expected,
		got,
	});
}

/** Also of what is no integer, as a miscalculated address may be. */
function hexOf(value: number): string {
	return Number.isInteger(value) ? hex(value) : String(value);
}
