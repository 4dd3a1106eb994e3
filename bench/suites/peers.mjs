/**
 * General-purpose serializers on the same state: the P2M of one domain, encode and decode, as multiples of what the core's
 * codec takes for both. Every one of them has to give the table back before it is timed.
 */
import { CodecMemory, codingRoom } from "../codecMemory.mjs";
import { alternate, ratio, summaries, summary, took } from "../harness.mjs";
import { makeTable } from "../layouts.mjs";
import { serializers } from "../serializers.mjs";

export const name = "peers";
export const title = "Serializers";
export const weight = { quick: 24, full: 22 };

const layouts = ["superpages", "runs", "random"];
/** Pages of the domain: 4 GiB in full. */
const sizes = { tiny: 2 ** 13, quick: 2 ** 17, full: 2 ** 20 };

export async function run({ size, clock, log }) {
	const rows = [];
	for (const [i, layout] of layouts.entries()) {
		log(layout);
		rows.push(await measure(layout, sizes[size], clock.part(1, layouts.length - i)));
	}
	return { entries: sizes[size], rows };
}

async function measure(layout, entries, clock) {
	const table = makeTable(layout, entries);
	const expected = new Uint8Array(table.buffer);
	const memory = new CodecMemory();
	const source = memory.place(table);
	const out = memory.allocate(codingRoom(entries));
	const target = memory.allocate(entries * 8);
	const core = () => memory.decode(out, memory.encode(source, entries, out), entries, target);
	core();
	if (!memory.isSame(source, target, entries * 8)) throw new Error("core: another table came out");
	const octets = { core: memory.encode(source, entries, out) };

	// The engine has to know the module before. In a turn the median of three, since every ratio of the turn hangs on it.
	for (let i = 0; i < 20; i++) core();
	const times = Math.max(1, Math.floor(2 ** 17 / entries));
	const three = () => {
		const ms = [0, 1, 2].map(() => {
			const start = performance.now();
			for (let i = 0; i < times; i++) core();
			return (performance.now() - start) / times;
		});
		return took(summary(ms).median);
	};
	const candidates = {
		core: three,
	};
	for (const [name, { encode, decode }] of Object.entries(serializers())) {
		const made = encode(table);
		const got = decode(made);
		if (Buffer.compare(new Uint8Array(got.buffer, got.byteOffset, got.byteLength), expected) !== 0) {
			throw new Error(`${name}: another table came out`);
		}
		octets[name] = typeof made === "string" || made instanceof Uint8Array ? made.length : undefined;
		candidates[name] = () => {
			const start = performance.now();
			const encoded = encode(table);
			const middle = performance.now();
			decode(encoded);
			const end = performance.now();
			return took({ [name]: end - start, [`${name}: encode`]: middle - start });
		};
	}
	// All have run once by now, to give the table back.
	const { samples } = await alternate(candidates, { clock, warm: 0, least: 3, most: 15 });
	const peers = Object.keys(candidates).filter((peer) => peer !== "core");
	return {
		layout,
		ms: summaries(samples),
		octetsPerEntry: Object.fromEntries(
			Object.entries(octets).map(([peer, count]) => [peer, count === undefined ? null : count / entries]),
		),
		toCore: Object.fromEntries(peers.map((peer) => [peer, ratio(samples[peer], samples.core)])),
	};
}
