/**
 * Ten thousand bundles that somebody damaged, by accident or on purpose: each has a finding, or nothing that matters
 * changed; nothing crashes, hangs, or takes memory that the bundle does not have.
 */
import { expect, it } from "vitest";
import { extractDomain } from "../../src/bundle/extract.ts";
import { XluError } from "../../src/errors.ts";
import { emptyHost, Machine } from "../../src/machine/live/index.ts";
import { baseOperations, mustRun } from "../support/living.ts";
import { parse } from "../support/restitch.ts";
import { core, read } from "./helpers.ts";
import { END, joined, LIBXC, LIVE_UPDATE, pieceOf, recordOf, recordsOf, sealed, XENSTORE } from "./octets.ts";
import { node, ring, storeStream, transaction, watch } from "./storeHost.ts";

/** Repeatable, and different in each run of a kind: xorshift32. */
function randomOf(seed: number): (below: number) => number {
	let state = seed;
	return (below) => {
		state ^= state << 13;
		state ^= state >>> 17;
		state ^= state << 5;
		return (state >>> 0) % below;
	};
}
type Random = ReturnType<typeof randomOf>;

const INTERESTING = [0, 1, 7, 8, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0xffff_fff8] as const;

const bundles = (() => {
	const machine = Machine.fromHost(emptyHost(4096));
	mustRun(machine, [
		...baseOperations.slice(0, 2),
		{ op: "domain_create", domid: 2, kind: "hvm", frames: 40, vcpus: 1 },
		{ op: "domain_create", domid: 3, kind: "pv", width: 32, frames: 30, vcpus: 1 },
		{ op: "domain_set_weight", domid: 3, weight: 300, cap: 0 },
	]);
	// Virtual NUMA, which no operation makes.
	Object.assign(machine.domain(3).tables, {
		vnumaNodes: [{ physicalNode: 0 }],
		vnumaDistances: [{ distance: 10 }],
		vnumaVcpus: [{ node: 0 }],
		vnumaRanges: [{ start: 0n, end: 0x1e000n, node: 0, flags: 0 }],
	});
	mustRun(
		machine,
		[1, 2, 3].map((domid) => ({ op: "domain_unpause", domid }) as const),
	);
	const nodes = new Map(
		["", "/name", "/device", "/device/vbd", "/device/vbd/1", "/device/vbd/1/backend", "/device/vbd/1/state"].map(
			(path) => [`/local/domain/2${path}`, { value: Buffer.from("4"), perms: ["n0", "r2"] }] as const,
		),
	);
	const store = { nodes, daemon: undefined };
	const host = machine.toHost();
	return [1, 2, 3].map((domid) => extractDomain(core, { ...host, store }, domid).bundle);
})();

const put = (octets: Uint8Array, offset: number, value: number): void => {
	if (offset + 4 <= octets.length) new DataView(octets.buffer, octets.byteOffset).setUint32(offset, value, true);
};

/** A change to any octets: a bit, an octet, a word. */
function scribble(octets: Uint8Array, random: Random, from: number, to: number): void {
	const at = from + random(Math.max(1, to - from));
	const kind = random(3);
	if (kind === 0) octets[at] = (octets[at] as number) ^ (1 << random(8));
	else if (kind === 1) octets[at] = random(256);
	else put(octets, at - (at % 4), INTERESTING[random(INTERESTING.length)] as number);
}

/** Kinds of damage; each makes one bundle of a sound one. */
const kinds: Record<string, { runs: number; damage: (bundle: Uint8Array, random: Random) => Uint8Array }> = {
	"an octet anywhere": {
		runs: 3000,
		damage: (bundle, random) => {
			const copy = bundle.slice();
			scribble(copy, random, 0, copy.length);
			return copy;
		},
	},
	"an end that is missing": { runs: 2000, damage: (bundle, random) => bundle.slice(0, random(bundle.length)) },
	"a head or a body, sealed again": {
		runs: 1500,
		damage: (bundle, random) => {
			const copy = bundle.slice();
			const records = recordsOf(bundle).filter(({ type }) => type !== END);
			const { offset, stream } = records[random(records.length)] as (typeof records)[number];
			scribble(copy, random, offset, Math.min(stream, offset + 96));
			return sealed(copy);
		},
	},
	"records in another order, left out or doubled, sealed again": {
		runs: 500,
		damage: (bundle, random) => {
			const pieces = recordsOf(bundle).map((record) => pieceOf(bundle, record));
			const end = pieces.pop() as Uint8Array;
			const [from, to] = [random(pieces.length), random(pieces.length)];
			const [moved] = pieces.splice(from, 1) as [Uint8Array];
			const what = random(3);
			if (what !== 0) pieces.splice(to, 0, moved);
			if (what === 1) pieces.splice(to, 0, moved);
			return joined(bundle, [...pieces, end]);
		},
	},
	"the libxc or xenstore part, sealed again": {
		runs: 1500,
		damage: (bundle, random) => {
			const copy = bundle.slice();
			const { stream, end } = recordOf(bundle, random(2) === 0 ? LIBXC : XENSTORE);
			scribble(copy, random, stream, end);
			return sealed(copy);
		},
	},
	"another xenstore stream, sealed again": {
		runs: 500,
		damage: (bundle, random) => {
			const paths = ["/local/domain/2", "/local/domain/2/name", "/a//b", "x", "/local/domain/9", "@other"];
			const path = () => paths[random(paths.length)] as string;
			const stream = storeStream(
				Array.from({ length: random(12) }, () => {
					const kind = random(4);
					if (kind === 0) return ring(random(3), random(3));
					if (kind === 1) return watch(random(3), path(), "t", random(2) === 0 ? random(9) : undefined);
					if (kind === 2) return transaction(random(3), random(4));
					return node(path(), "4", [["n2", "x1", "r0"][random(3)] as string], { connId: random(2), txId: random(3) });
				}),
				random(9) !== 0,
			);
			if (random(3) === 0) scribble(stream, random, 0, stream.length);
			return withPart(bundle, XENSTORE, stream);
		},
	},
	"a record of the live-update part, all checksums made again": {
		runs: 500,
		damage: (bundle, random) => {
			const { stream, body } = recordOf(bundle, LIVE_UPDATE);
			const view = new DataView(bundle.buffer, bundle.byteOffset);
			const apart = parse(bundle.subarray(stream, stream + Number(view.getBigUint64(body, true))));
			const records = apart.sections.flatMap((section) => section.records).filter((record) => record.body.length > 0);
			const record = records[random(records.length)] as (typeof records)[number];
			scribble(record.body, random, 0, Math.min(record.body.length, 128));
			if (random(8) === 0) record.body = record.body.slice(0, random(record.body.length));
			return withPart(bundle, LIVE_UPDATE, apart.build());
		},
	},
	"chance alone behind a sound header": {
		runs: 500,
		damage: (bundle, random) => {
			const copy = bundle.slice(0, 24 + random(600));
			for (let at = 24; at < copy.length; at++) copy[at] = random(random(2) === 0 ? 8 : 256);
			return copy;
		},
	},
};

/** The bundle with another stream in a part, sealed. */
function withPart(bundle: Uint8Array, type: number, octets: Uint8Array): Uint8Array {
	const pieces = recordsOf(bundle).map((record) => {
		if (record.type !== type) return pieceOf(bundle, record);
		const piece = new Uint8Array(16 + Math.ceil(octets.length / 8) * 8);
		piece.set(bundle.subarray(record.offset, record.offset + 16));
		new DataView(piece.buffer).setBigUint64(8, BigInt(octets.length), true);
		piece.set(octets, 16);
		return piece;
	});
	return joined(bundle, pieces);
}

/** Milliseconds that one damaged bundle may take, on a machine that does other things too. */
const MOST_MS = 5000;
/** Octets that all of them may leave behind. */
const MOST_GROWTH = 400 << 20;

it("every damaged bundle ends in findings with codes, in time and in memory", async () => {
	const before = process.memoryUsage().rss;
	let [total, silent, slowest] = [0, 0, 0];
	const seen = new Set<string>();
	for (const [kind, { runs, damage }] of Object.entries(kinds)) {
		const random = randomOf(0x9e37_79b9 ^ kind.length);
		for (let run = 0; run < runs; run++) {
			const bundle = bundles[run % bundles.length] as Uint8Array;
			const damaged = damage(bundle, random);
			// Of the processor: others' work is not the bundle's.
			const started = process.cpuUsage();
			const found = await read(damaged).catch((cause: unknown) => {
				throw new Error(`${kind}, run ${run}`, { cause });
			});
			const { user, system } = process.cpuUsage(started);
			slowest = Math.max(slowest, (user + system) / 1000);
			total++;
			const { error, findings } = found;
			if (error) expect(error, `${kind}, run ${run}`).toBeInstanceOf(XluError);
			for (const { rule, isError } of findings.list) if (isError) seen.add(rule.code);
			const isSame = Buffer.compare(damaged, bundle) === 0;
			const { errors } = findings;
			expect(isSame && errors.length > 0, `${kind}, run ${run}`).toBe(false);
			if (errors.length === 0 && !isSame) silent++;
			// Without a new seal nothing passes unseen.
			if (kind === "an octet anywhere" || kind === "an end that is missing") {
				expect(isSame || errors.length > 0, `${kind}, run ${run}`).toBe(true);
			}
		}
	}
	expect(total).toBe(10_000);
	expect(slowest).toBeLessThan(MOST_MS);
	expect(process.memoryUsage().rss - before).toBeLessThan(MOST_GROWTH);
	// Many rules have been met, and few of those who made new seals were not noticed.
	expect(seen.size).toBeGreaterThan(25);
	expect(silent).toBeLessThan(total / 10);
});
