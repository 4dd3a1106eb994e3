/** Streams with something wrong somewhere, the same for the same seed. */

/** xorshift32 */
function random(seed: number): (limit: number) => number {
	let state = (seed * 2654435761 + 1) >>> 0 || 1;
	return (limit) => {
		state ^= state << 13;
		state ^= state >>> 17;
		state ^= state << 5;
		state >>>= 0;
		return state % limit;
	};
}

const EXTREMES = [0, 1, 2, 3, 4, 5, 7, 8, 0xff, 0x100, 0x7fff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff];

export function mutated(base: Uint8Array, seed: number): Buffer {
	const next = random(seed);
	let octets = Buffer.from(base);
	for (let count = 1 + next(3); count > 0; count--) {
		// The head alone ends the reading at once.
		const at =
			next(10) === 0 ? next(octets.length) : Math.min(16, octets.length - 1) + next(Math.max(1, octets.length - 16));
		const place = Math.min(at, octets.length - 1);
		switch (next(6)) {
			case 0:
				octets[place] = next(256);
				break;
			case 1:
				octets[place] = (octets[place] as number) ^ (1 << next(8));
				break;
			case 2: {
				const aligned = place & ~3;
				if (aligned + 4 <= octets.length) octets.writeUInt32LE(EXTREMES[next(EXTREMES.length)] as number, aligned);
				break;
			}
			case 3: {
				const aligned = place & ~1;
				if (aligned + 2 <= octets.length)
					octets.writeUInt16LE((EXTREMES[next(EXTREMES.length)] as number) & 0xffff, aligned);
				break;
			}
			case 4: {
				const from = place & ~7;
				const piece = octets.subarray(from, from + 8 * (1 + next(6)));
				octets = Buffer.concat([octets.subarray(0, from), piece, octets.subarray(from)]);
				break;
			}
			default: {
				const from = next(2) === 0 ? place & ~7 : place;
				octets = Buffer.concat([octets.subarray(0, from), octets.subarray(from + 8 * (1 + next(4)))]);
				if (octets.length === 0) octets = Buffer.from(base.subarray(0, 1));
			}
		}
	}
	return octets;
}
