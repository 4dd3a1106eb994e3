/**
 * Readers that need not know whether their octets are there: a reader is a generator that hands out what it has read and asks for
 * octets where it runs out of them. Driven by `drive` it reads a stream as it comes, by `driveNow` one that lies in memory.
 */
import type { StreamReader } from "./reader.ts";

/** Octets that nobody looks at. */
class PassOver {
	readonly lengthBytes: number;

	constructor(lengthBytes: number) {
		this.lengthBytes = lengthBytes;
	}
}

/** What a step asks for: so many octets, a negative number to see them only; or to pass over some. */
type Request = number | PassOver;

/** Steps towards a result. There may be fewer octets than one asks for, at the end. */
export type Steps<T> = Generator<Request, T, Uint8Array>;
/** Steps that hand out items on the way. */
export type ItemSteps<I> = Generator<Request | I, void, Uint8Array>;

const NOTHING = new Uint8Array(0);

/** The next `lengthBytes` octets, fewer at the end of the stream. Valid until the next one is taken. */
export function* take(reader: StreamReader, lengthBytes: number): Steps<Uint8Array> {
	return reader.takeNow(lengthBytes) ?? (yield lengthBytes);
}

/** The next octets, which stay the next ones. */
export function* look(reader: StreamReader, lengthBytes: number): Steps<Uint8Array> {
	return reader.available >= lengthBytes ? reader.peekNow(lengthBytes) : yield -lengthBytes;
}

/** Moves on without a look; returns how many octets there were. */
export function* passOver(reader: StreamReader, lengthBytes: number): Steps<number> {
	const before = reader.offset;
	yield new PassOver(lengthBytes);
	return reader.offset - before;
}

/** The items of a stream, as it comes. */
export async function* drive<I extends object>(reader: StreamReader, steps: ItemSteps<I>): AsyncGenerator<I> {
	for (let step = steps.next(NOTHING); !step.done; ) {
		const { value } = step;
		if (typeof value === "number") step = steps.next(value < 0 ? await reader.peek(-value) : await reader.take(value));
		else if (value instanceof PassOver) {
			await reader.skip(value.lengthBytes);
			step = steps.next(NOTHING);
		} else {
			yield value;
			step = steps.next(NOTHING);
		}
	}
}

/** The items of a stream that lies in memory (`StreamReader.over`). */
export function* driveNow<I extends object>(reader: StreamReader, steps: ItemSteps<I>): Generator<I> {
	for (let step = steps.next(NOTHING); !step.done; ) {
		const { value } = step;
		if (typeof value === "number" && value < 0) step = steps.next(reader.peekNow(-value));
		else if (typeof value === "number") step = steps.next(reader.takeNow(Math.min(value, reader.available)) ?? NOTHING);
		else if (value instanceof PassOver) {
			reader.takeNow(Math.min(value.lengthBytes, reader.available));
			step = steps.next(NOTHING);
		} else {
			yield value;
			step = steps.next(NOTHING);
		}
	}
}
