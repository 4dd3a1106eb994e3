import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { expect } from "vitest";
import { XluError } from "../../src/errors.ts";

/** The captured hosts in test/fixtures/xen-4.17. */
export const fixtures = join(import.meta.dirname, "../fixtures/xen-4.17");

export const fixtureText = (path: string): string => readFileSync(join(fixtures, path), "utf8");
export const fixtureImage = (path: string): Buffer => gunzipSync(readFileSync(join(fixtures, path)));

/** The XluError that `run` throws; anything else that it throws, or nothing, fails the test. */
export function errorOf(run: () => unknown): XluError {
	try {
		run();
	} catch (error) {
		if (error instanceof XluError) {
			return error;
		}
		throw error;
	}
	return expect.fail("expected an XluError, nothing was thrown");
}

/** Runs what may succeed or end in an XluError of `code`; says which. */
export function survives(run: () => unknown, code: XluError["code"]): boolean {
	try {
		run();
		return true;
	} catch (error) {
		if (error instanceof XluError && error.code === code) {
			expect(error.expected).not.toBe("");
			expect(error.got).toBeDefined();
			return false;
		}
		throw error;
	}
}

/** Deterministic numbers below `limit` (xorshift32). */
export function random(seed: number): (limit: number) => number {
	let state = seed;
	return (limit) => {
		state ^= state << 13;
		state ^= state >>> 17;
		state ^= state << 5;
		return (state >>> 0) % limit;
	};
}

interface Builder {
	u16(value: number): Builder;
	u32(value: number): Builder;
	u64(value: bigint): Builder;
	bytes(value: Uint8Array): Builder;
	done(): Buffer;
}

/** Little-endian octets. */
export function octets(): Builder {
	const parts: Buffer[] = [];
	const push = (lengthBytes: number, write: (buffer: Buffer) => void): Builder => {
		const buffer = Buffer.alloc(lengthBytes);
		write(buffer);
		parts.push(buffer);
		return builder;
	};
	const builder: Builder = {
		u16: (value) => push(2, (buffer) => buffer.writeUInt16LE(value)),
		u32: (value) => push(4, (buffer) => buffer.writeUInt32LE(value)),
		u64: (value) => push(8, (buffer) => buffer.writeBigUInt64LE(value)),
		bytes: (value) => {
			parts.push(Buffer.from(value));
			return builder;
		},
		done: () => Buffer.concat(parts),
	};
	return builder;
}

/** A libxc or libxl record with its padding. */
export function record(type: number, body: Uint8Array = Buffer.alloc(0)): Buffer {
	const padding = Buffer.alloc((8 - (body.length % 8)) % 8);
	return octets().u32(type).u32(body.length).bytes(body).bytes(padding).done();
}

/** The two headers of a libxc image. */
export function libxcHeaders(type: 1 | 2, version = 3, options = 0): Buffer {
	const image = Buffer.alloc(24);
	image.fill(0xff, 0, 8);
	image.writeUInt32BE(0x58454e46, 8);
	image.writeUInt32BE(version, 12);
	image.writeUInt16BE(options, 16);
	return Buffer.concat([image, octets().u32(type).u16(12).u16(0).u32(4).u32(17).done()]);
}

/** PAGE_DATA for [pfn, type, octet that fills the page]. */
export function pageData(pages: [number, number, number?][]): Buffer {
	const body = octets().u32(pages.length).u32(0);
	for (const [pfn, type] of pages) {
		body.u64((BigInt(type) << 60n) | BigInt(pfn));
	}
	for (const [, type, fill = 0] of pages) {
		if (type < 0xd) {
			body.bytes(Buffer.alloc(4096, fill));
		}
	}
	return record(1, body.done());
}

export const libxlHeader = (version = 2, options = 0): Buffer => {
	const header = Buffer.from("LibxlFmt\0\0\0\0\0\0\0\0", "latin1");
	header.writeUInt32BE(version, 8);
	header.writeUInt32BE(options, 12);
	return header;
};
