/**
 * The tiny host with bulk tables that take every form of chunk: runs, packed and literal entries, in the P2M, in page
 * ownership and in page types, and slices that are left out.
 */
import { FRAME, PAGE_TYPE, PAGE_TYPE_FLAG } from "../../src/format/enums.ts";
import { p2mEntry, type TinyHost, tinyHost } from "./tinyHost.ts";

const FRAMES = (1 << 20) + 16384;
/** Frames that alternate between owners and types in no order; then one long run beyond the first slice. */
const SCATTERED = { first: 8192, count: 16384 };
const FAR = { first: (1 << 20) + 4096, count: 4096 };

/** A small generator of its own, so that the stream is the same for ever (numbers of Numerical Recipes). */
function* sequence(seed: number): Generator<number> {
	for (let state = seed; ; ) {
		state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
		yield state >>> 8;
	}
}

export function formsHost(): TinyHost {
	const { model, preserved } = tinyHost();
	const random = sequence(42);
	const next = (): number => random.next().value as number;
	const frameOwners = new BigUint64Array(FRAMES);
	const frameTypes = new Uint8Array(FRAMES);
	frameOwners.set(model.frameOwners);
	frameTypes.set(model.frameTypes);
	const owned = BigInt(FRAME.owned | FRAME.allocated);
	const ofHvm: number[] = [];
	for (let mfn = SCATTERED.first; mfn < SCATTERED.first + SCATTERED.count; mfn++) {
		const domid = 1 + (next() & 1);
		frameOwners[mfn] = owned | BigInt(domid);
		if (domid === 2) ofHvm.push(mfn);
		if (domid === 1 && next() & 1) frameTypes[mfn] = PAGE_TYPE.writable | PAGE_TYPE_FLAG.validated;
	}
	for (let mfn = FAR.first; mfn < FAR.first + FAR.count; mfn++) frameOwners[mfn] = owned | 2n;
	for (let i = ofHvm.length - 1; i > 0; i--) {
		const other = next() % (i + 1);
		[ofHvm[i], ofHvm[other]] = [ofHvm[other] as number, ofHvm[i] as number];
	}
	// Present entries in no order are packed; every second one a hole, they are literal; the last slice is one run.
	const p2m = new BigUint64Array((1 << 20) * 2 + 8192);
	const hvm = model.domains[2];
	p2m.set(hvm?.p2m as BigUint64Array);
	ofHvm.slice(0, 4096).forEach((mfn, i) => {
		p2m[4096 + i] = p2mEntry(mfn);
	});
	ofHvm.slice(4096, 6144).forEach((mfn, i) => {
		p2m[8192 + i * 2] = p2mEntry(mfn);
	});
	for (let i = 0; i < FAR.count; i++) p2m[(1 << 20) * 2 + i] = p2mEntry(FAR.first + i, 0, 9);
	const domains = model.domains.map((domain) => ({
		...domain,
		domain: { ...domain.domain, maxPages: 16384 },
		...(domain === hvm ? { p2m } : {}),
	}));
	return { model: { ...model, frameOwners, frameTypes, domains }, preserved };
}
