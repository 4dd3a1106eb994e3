/**
 * The goals of the design, each with the figures of a run that it is held against and, for the case that one is
 * missed, the reason as far as it is known. A goal of which a run has no figure is listed as not measured.
 */
import { apart, standing } from "./harness.mjs";

/** Names of the layouts in the design: hosts have no layout of runs alone, half of `typical` is superpages. */
const hostLetters = { superpages: "(a) superpages", typical: "(c) typical", fragmented: "(b) fragmented" };
const tableLetters = { superpages: "(a) superpages", runs: "(c) runs", random: "(b) random" };

const exact = (value) => ({ n: 2, median: value, low: value, high: value });

/** The largest host of a layout. */
function hostOf(suites, layout) {
	return suites.hosts?.rows.filter((row) => row.layout === layout).at(-1);
}

function perHost(what, goals, figure) {
	return (suites) =>
		Object.entries(goals).map(([layout, goal]) => ({
			what: `${what}, ${hostLetters[layout]}`,
			goal,
			figure: figure(hostOf(suites, layout)),
		}));
}

/** The least of several figures, so that the best form and the best layout of a peer count for it. */
function least(figures) {
	return figures.filter(Boolean).sort((a, b) => a.median - b.median)[0];
}

function peerGoal(label, goal, isForm) {
	return (suites) => [
		{
			what: `${label} over the core, the least of all layouts`,
			goal,
			atLeast: true,
			figure: least(
				(suites.peers?.rows ?? []).flatMap(({ toCore }) =>
					Object.entries(toCore).flatMap(([peer, value]) => (isForm(peer) ? [value] : [])),
				),
			),
		},
	];
}

/** Per page, of the largest size that there is of both; not in the same turns. */
function hostsAgainstFragmented(suites) {
	const adversarial = hostOf(suites, "adversarial");
	const fragmented = suites.hosts?.rows.find(
		(row) => row.layout === "fragmented" && row.domains === adversarial?.domains && row.memory === adversarial?.memory,
	);
	return ["save", "check", "restore"].map((stage) => ({
		what: `${stage} of a whole host, per page`,
		goal: 2,
		figure: fragmented && apart(adversarial.nsPerPage[stage], fragmented.nsPerPage[stage]),
	}));
}

export const goals = [
	{
		group: "save of a whole host, time over a copy of the two big tables",
		rows: perHost("save", { superpages: 0.65, typical: 0.8, fragmented: 1 }, (host) => host?.toCopy.save),
		why: "save codes the page types and the domains' other tables besides, and hashes what it wrote; and where memory is fast, or the tables lie in the last cache, no copy waits for it, so that the coding itself shows: 3.6 instructions an entry on runs, 4.4 on random frames, four of them a cycle (encode / copy of cached tables, under Codecs)",
	},
	{
		group: "octets of the stream for each entry of the two tables",
		rows: (suites) => {
			const host = hostOf(suites, "fragmented");
			return [
				{
					what: `stream, ${hostLetters.fragmented}`,
					goal: 4.01,
					figure: host && exact(host.octetsPerEntry),
				},
			];
		},
		why: "page types, preserved ranges and the domains' other records are in the stream as well",
	},
	{
		group: "codec against C -O3 -march=native that writes the same stream, time over it",
		rows: (suites) =>
			[
				["large", 0.85],
				["cached", 0.5],
			].flatMap(([place, goal]) =>
				Object.entries(tableLetters).map(([layout, letter]) => ({
					what: `encode, ${place === "large" ? "tables of a host" : "cache-resident"}, ${letter}`,
					goal,
					figure: suites.native?.rows.find((row) => row.layout === layout && row.place === place)?.coreToPeer[
						"C -O3 native"
					]?.encode,
				})),
			),
		why: "the compiler turns the loops into vectors of 256 bits, of which WebAssembly has 128; packing random frames is such a loop and nothing else, and tables beyond the caches take the time of their memory in both",
	},
	{
		group: "superpage-aware P2M: how many times faster than a copy of the flat table",
		rows: (suites) => [
			{
				what: "encode of a P2M",
				goal: 10,
				atLeast: true,
				figure: suites.codecs?.rows.find((row) => row.layout === "superpages" && row.place === "large")?.copyToTrusted,
			},
		],
		why: "the eight entries of a chunk that are read lie in eight pages, each of them a miss in the caches and in the translation buffers; one block in a hundred is broken, and is read in full",
	},
	{
		group: "restore, three passes, time over the store limit",
		rows: perHost("restore", { superpages: 1.1, typical: 1.1, fragmented: 1.2 }, (host) => host?.restoreToStoreImage),
		why: "each octet of the image is written once, but in runs and by small tables; beside that a restore reads the stream",
	},
	{
		group: "check before load, time over the restore that it precedes",
		rows: perHost("check", { superpages: 0.5, typical: 0.5, fragmented: 0.5 }, (host) => host?.checkToRestore),
		why: "check writes owner and state of every frame, a quarter of what a restore writes, and then reads the owners of each run that a P2M maps: runs lie anywhere, so that each begins with misses; where single frames do, each is a miss, and the stream is long: it is hashed twice, by section when it is opened and as a whole for the preserved memory, which alone is half of a restore",
	},
	{
		group: "integrity: XXH3-64 of the stream over a save without it",
		rows: perHost("hash", { superpages: 0.05, typical: 0.05, fragmented: 0.2 }, (host) => host?.integrity),
		why: "random frames leave 4 octets an entry to hash, and XXH3 takes them in order, while the lengths at the head of a slice are known at its end: a slice of 4 MiB has left the second cache by then",
	},
	{
		group: "instructions per entry (bench/instructions.mjs, exact)",
		rows: (suites) =>
			["encode", "decode"].flatMap((operation) =>
				["superpages", "own", "runs", "random"].map((layout) => {
					const goal = instructionGoals[operation][layout];
					const count = suites.instructions?.[`simd ${operation}`]?.[layout];
					return { what: `${operation}, ${layout}`, goal, figure: count === undefined ? undefined : exact(count) };
				}),
			),
		why: "see bench/instructions.json",
	},
	{
		group: "first call after prepare(), time over a warm one",
		rows: (suites) => {
			const rows = suites.cold?.rows ?? [];
			const row = rows.find(({ variant }) => variant === "prepare") ?? rows.find(({ variant }) => variant === "toy");
			return ["save", "check", "restore"].map((what) => ({
				what: `first ${what}, ${row?.variant === "prepare" ? "prepare()" : "toy host and touched destination"}`,
				goal: 1.2,
				figure: row?.[what].firstToWarm,
			}));
		},
		why: "the first walk over large windows finds them in memory and a warm one in the last cache; more rounds of the toy hosts change little. The shorter the warm call, the more that is of it",
		note: "Where the package has no prepare() yet, what it would do is measured: a toy host through the same module, the destination written once.",
	},
	{
		group: "other serializers, encode and decode of one domain's P2M, time over the core's",
		rows: (suites) =>
			[
				peerGoal("protobuf-es, octets", 11, (peer) => peer === "protobuf-es octets"),
				peerGoal("flatbuffers, octets", 2.2, (peer) => peer === "flatbuffers octets"),
				peerGoal("msgpackr, its fastest form", 6, (peer) => /^msgpackr/.test(peer)),
				peerGoal("cbor-x, its fastest form", 6, (peer) => /^cbor-x/.test(peer)),
				peerGoal("JSON, words", 240, (peer) => peer === "JSON words"),
			].flatMap((rows) => rows(suites)),
		why: "the least is that of the layout that suits the peer best: a format that takes the table as octets is two copies and nothing else, and writes 8 octets for each entry",
	},
	{
		group: "adversarial layouts, time over random frames",
		rows: (suites) => [
			...(suites.codecs?.againstRandom ?? []).flatMap(({ layout, encode, decode }) => [
				{ what: `encode, ${layout}`, goal: 2, figure: encode },
				{ what: `decode, ${layout}`, goal: 2, figure: decode },
			]),
			...hostsAgainstFragmented(suites),
		],
		why: "every second entry a hole leaves no form but the literal: twice the octets of random frames have to be written",
	},
];

const instructionGoals = {
	encode: { superpages: 2.7, own: 2.9, runs: 3.8, random: 5.5 },
	decode: { superpages: 2.6, own: 2.7, runs: 3.1, random: 3.8 },
};

/** Every goal with its figure and how it stands. */
export function evaluate(suites) {
	return goals.flatMap(({ group, rows, why, note }) =>
		rows(suites).map(({ what, goal, atLeast = false, figure }) => {
			const result = { group, what, goal, atLeast, figure: figure ?? null, note: note ?? null };
			if (!figure) return { ...result, standing: "not measured", why: null };
			const how = standing(figure, goal, atLeast);
			return { ...result, standing: how, why: how.startsWith("missed") ? why : null };
		}),
	);
}
