/**
 * A generator whose row of numbers depends on its seed alone (splitmix32): for places and contents that a later run must
 * find again. Never for secrets.
 */
export class Random {
	#state: number;

	/** @param seed any integer; its low 32 bits count */
	constructor(seed: number) {
		this.#state = seed >>> 0;
	}

	/** 32 bits. */
	word(): number {
		this.#state = (this.#state + 0x9e3779b9) >>> 0;
		let word = this.#state;
		word = Math.imul(word ^ (word >>> 16), 0x21f0aaad);
		word = Math.imul(word ^ (word >>> 15), 0x735a2d97);
		return (word ^ (word >>> 15)) >>> 0;
	}

	/** A number in [0, 1): two draws for 53 bits. */
	unit(): number {
		return (this.word() * 2 ** 21 + (this.word() >>> 11)) / 2 ** 53;
	}

	/** An integer in [0, limit). */
	below(limit: number): number {
		return Math.floor(this.unit() * limit);
	}

	/** True once in `1 / share` times. */
	chance(share: number): boolean {
		return this.unit() < share;
	}

	/** A length of at least 1, geometrically distributed. */
	geometric(mean: number): number {
		return mean <= 1 ? 1 : 1 + Math.floor(Math.log(1 - this.unit()) / Math.log(1 - 1 / mean));
	}

	/** 64 bits. */
	word64(): bigint {
		return (BigInt(this.word()) << 32n) | BigInt(this.word());
	}

	/** Puts a list into another order, in place. */
	shuffle<T extends Uint32Array | unknown[]>(list: T): T {
		for (let i = list.length - 1; i > 0; i--) {
			const other = this.below(i + 1);
			const kept = list[i];
			list[i] = list[other];
			list[other] = kept;
		}
		return list;
	}

	/** A generator of its own, so that what one part draws does not move what another one draws. */
	fork(): Random {
		return new Random(this.word());
	}
}
