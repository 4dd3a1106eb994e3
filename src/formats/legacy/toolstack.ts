/** libxl's part of a legacy image: where the device model's memory regions lie, in a TOOLSTACK chunk. */
import {
	type LegacyWidth,
	PHYSMAP_BYTES,
	physmapPaddingBytes,
	TOOLSTACK_HEADER_BYTES,
	TOOLSTACK_VERSION,
} from "./layout.ts";

export interface PhysmapRegion {
	/** Offset of the region among the device model's memory. */
	readonly offset: bigint;
	/** Guest-physical address. */
	readonly start: bigint;
	/** Octets. */
	readonly size: bigint;
	/** Without its NUL. */
	readonly name: Uint8Array;
}

export interface Toolstack {
	readonly regions: readonly PhysmapRegion[];
	/** What keeps it from being read; the regions in front of that are there. */
	readonly problem?: { readonly expected: string; readonly got: string };
}

/** Reads the regions. Octets behind the last one are ignored. */
export function readToolstack(data: Uint8Array, width: LegacyWidth): Toolstack {
	const regions: PhysmapRegion[] = [];
	// A saver without regions to tell of wrote an empty chunk.
	if (data.length === 0) return { regions };
	const fail = (expected: string, got: string): Toolstack => ({ regions, problem: { expected, got } });
	if (data.length < TOOLSTACK_HEADER_BYTES) return fail(`${TOOLSTACK_HEADER_BYTES} octets`, `${data.length}`);
	const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
	const version = view.getUint32(0, true);
	if (version !== TOOLSTACK_VERSION) return fail(`version ${TOOLSTACK_VERSION}`, `${version}`);
	const count = view.getUint32(4, true);
	let at = TOOLSTACK_HEADER_BYTES;
	for (let region = 0; region < count; region++) {
		if (data.length - at < PHYSMAP_BYTES) return fail(`${count} regions`, `${region}`);
		const nameBytes = view.getUint32(at + 24, true);
		const nameAt = at + PHYSMAP_BYTES;
		const next = nameAt + nameBytes + physmapPaddingBytes(width);
		if (nameBytes === 0) return fail("a name", "none");
		if (next > data.length) return fail(`a name of ${nameBytes} octets`, `${data.length - nameAt} octets`);
		if (data[nameAt + nameBytes - 1] !== 0) return fail("a name that ends in NUL", "another octet");
		regions.push({
			offset: view.getBigUint64(at, true),
			start: view.getBigUint64(at + 8, true),
			size: view.getBigUint64(at + 16, true),
			name: data.slice(nameAt, nameAt + nameBytes - 1),
		});
		at = next;
	}
	return { regions };
}
