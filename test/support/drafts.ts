/**
 * Images of guests put together record by record, to break one thing at a time and to make what no capture holds:
 * checkpoints, verified memory. Records are framed here and nowhere in src/formats.
 */
import type { StreamItem } from "../../src/formats/common/record.ts";
import { type ImageName, smallImage } from "./images.ts";

export interface Piece {
	readonly layer: string;
	readonly name: string;
	readonly octets: Uint8Array;
}

export const u16 = (...values: number[]): Buffer => numbers(2, values);
export const u32 = (...values: number[]): Buffer => numbers(4, values);
export const u64 = (...values: (number | bigint)[]): Buffer => {
	const octets = Buffer.alloc(8 * values.length);
	for (const [i, value] of values.entries()) octets.writeBigUInt64LE(BigInt(value), 8 * i);
	return octets;
};
function numbers(bytes: 2 | 4, values: readonly number[]): Buffer {
	const octets = Buffer.alloc(bytes * values.length);
	for (const [i, value] of values.entries()) octets.writeUIntLE(value, bytes * i, bytes);
	return octets;
}
export const u32be = (value: number): Buffer => u32(value).reverse();

/** A record: header, body, zeros up to 8 octets. */
export function framed(type: number, body: Uint8Array = Buffer.alloc(0)): Buffer {
	const octets = Buffer.alloc(8 + Math.ceil(body.length / 8) * 8);
	octets.writeUInt32LE(type, 0);
	octets.writeUInt32LE(body.length, 4);
	octets.set(body, 8);
	return octets;
}

const libxc = (name: string, type: number) => (body?: Uint8Array) => ({
	layer: "libxc",
	name,
	octets: framed(type, body),
});
const libxl = (name: string, type: number) => (body?: Uint8Array) => ({
	layer: "libxl",
	name,
	octets: framed(type, body),
});

/** Records by their names; numbers are those of the specifications, typed here once more. */
export const make = {
	libxcEnd: libxc("END", 0),
	pages: libxc("PAGE_DATA", 1),
	pvInfo: libxc("X86_PV_INFO", 2),
	p2mFrames: libxc("X86_PV_P2M_FRAMES", 3),
	vcpuBasic: libxc("X86_PV_VCPU_BASIC", 4),
	vcpuExtended: libxc("X86_PV_VCPU_EXTENDED", 5),
	vcpuXsave: libxc("X86_PV_VCPU_XSAVE", 6),
	sharedInfo: libxc("SHARED_INFO", 7),
	tscInfo: libxc("X86_TSC_INFO", 8),
	hvmContext: libxc("HVM_CONTEXT", 9),
	hvmParams: libxc("HVM_PARAMS", 10),
	toolstack: libxc("TOOLSTACK", 11),
	vcpuMsrs: libxc("X86_PV_VCPU_MSRS", 12),
	verify: libxc("VERIFY", 13),
	checkpoint: libxc("CHECKPOINT", 14),
	dirtyPfns: libxc("CHECKPOINT_DIRTY_PFN_LIST", 15),
	staticDataEnd: libxc("STATIC_DATA_END", 16),
	cpuidPolicy: libxc("X86_CPUID_POLICY", 17),
	msrPolicy: libxc("X86_MSR_POLICY", 18),
	libxlEnd: libxl("END", 0),
	libxcContext: libxl("LIBXC_CONTEXT", 1),
	emulatorStore: (id: number, index: number, data: string): Piece =>
		libxl("EMULATOR_XENSTORE_DATA", 2)(Buffer.concat([u32(id, index), Buffer.from(data, "latin1")])),
	emulatorContext: (id: number, index: number, data: Uint8Array): Piece =>
		libxl("EMULATOR_CONTEXT", 3)(Buffer.concat([u32(id, index), data])),
	checkpointEnd: libxl("CHECKPOINT_END", 4),
	checkpointState: libxl("CHECKPOINT_STATE", 5),
} as const;

/** PAGE_DATA of pages: PFN, type, and contents where the type has any. */
export function pageData(pages: readonly { pfn: number; type?: number; page?: Uint8Array }[]): Piece {
	const entries = pages.map(({ pfn, type = 0 }) => (BigInt(type) << 60n) | BigInt(pfn));
	const contents = pages.filter(({ type = 0 }) => type < 13).map(({ page }) => page ?? Buffer.alloc(4096));
	return make.pages(Buffer.concat([u32(pages.length, 0), u64(...entries), ...contents]));
}

/** A page that its number tells from all others. */
export const pageOf = (number: number): Buffer => Buffer.alloc(4096, u32(number + 1));

/** An image as a list of pieces. Every change makes a new one. */
export class Draft {
	readonly pieces: readonly Piece[];

	constructor(pieces: readonly Piece[]) {
		this.pieces = pieces;
	}

	/** A captured image with few of its pages, that --strict accepts as well: HVM_PARAMS stand before HVM_CONTEXT. */
	static async of(name: ImageName): Promise<Draft> {
		const items = (await smallImage(name)) as (StreamItem & Piece)[];
		const draft = new Draft(items.map(({ layer, name: record, octets }) => ({ layer, name: record, octets })));
		return name === "pv" ? draft : draft.move("libxc HVM_PARAMS", "libxc HVM_CONTEXT");
	}

	get octets(): Buffer {
		return Buffer.concat(this.pieces.map(({ octets }) => octets));
	}

	/** Index of a piece: `libxc PAGE_DATA`, or `libxc PAGE_DATA 1` for the second one. */
	find(which: string): number {
		const [layer, name, nth = "0"] = which.split(" ");
		const found = this.pieces.flatMap((piece, i) => (piece.layer === layer && piece.name === name ? [i] : []));
		const index = found[Number(nth)];
		if (index === undefined) throw new Error(`no ${which}`);
		return index;
	}

	/** Octets in front of a piece. */
	offset(which: string): number {
		return this.pieces.slice(0, this.find(which)).reduce((sum, { octets }) => sum + octets.length, 0);
	}

	piece(which: string): Piece {
		return this.pieces[this.find(which)] as Piece;
	}

	/** The body of a record, without padding. */
	body(which: string): Buffer {
		const octets = Buffer.from(this.piece(which).octets);
		return octets.subarray(8, 8 + octets.readUInt32LE(4));
	}

	replace(which: string, ...pieces: Piece[]): Draft {
		return new Draft(this.pieces.toSpliced(this.find(which), 1, ...pieces));
	}

	without(...which: string[]): Draft {
		return which.reduce((draft: Draft, name) => draft.replace(name), this);
	}

	before(which: string, ...pieces: Piece[]): Draft {
		return new Draft(this.pieces.toSpliced(this.find(which), 0, ...pieces));
	}

	after(which: string, ...pieces: Piece[]): Draft {
		return new Draft(this.pieces.toSpliced(this.find(which) + 1, 0, ...pieces));
	}

	move(which: string, to: string): Draft {
		const piece = this.piece(which);
		return this.without(which).before(to, piece);
	}

	/** Octets of a piece exchanged, from `at` on. */
	set(which: string, at: number, octets: Uint8Array): Draft {
		const piece = this.piece(which);
		const changed = Buffer.from(piece.octets);
		changed.set(octets, at < 0 ? changed.length + at : at);
		return this.replace(which, { ...piece, octets: changed });
	}

	/** One record's body exchanged for another. */
	withBody(which: string, body: Uint8Array): Draft {
		const piece = this.piece(which);
		return this.replace(which, { ...piece, octets: framed(Buffer.from(piece.octets).readUInt32LE(0), body) });
	}

	/** Up to a piece and `more` octets of it. */
	cut(which: string, more = 0): Draft {
		const index = this.find(which);
		const piece = this.pieces[index] as Piece;
		const rest = more === 0 ? [] : [{ ...piece, octets: piece.octets.subarray(0, more) }];
		return new Draft([...this.pieces.slice(0, index), ...rest]);
	}

	/** The pieces of one layer alone. */
	only(...layers: string[]): Draft {
		return new Draft(this.pieces.filter(({ layer }) => layers.includes(layer)));
	}

	/** As Xen 4.12 and older wrote it: version 2, without static data but X86_PV_INFO. */
	version2(): Draft {
		return this.without("libxc STATIC_DATA_END", "libxc X86_CPUID_POLICY", "libxc X86_MSR_POLICY").set(
			"libxc header",
			12,
			u32be(2),
		);
	}
}
