/** P3: domains come in any order within a pass, in the calls and in the stream. */
import fc from "fast-check";
import { PASS } from "../../../src/format/enums.ts";
import type { Restitched, StreamSection } from "../../support/restitch.ts";
import { type Group, type Pass, permutations, type Row, refusedStream, SAME, type Stage } from "../table.ts";

const DOMAINS = [0, 1, 2, 5];
const ORDERS = permutations(DOMAINS);
const PASSES = [0, 1, 2] as const;
/** The section that a domain has in each pass. */
const SECTION: Readonly<Record<Pass, number>> = { 0: PASS["0"], 1: PASS["1d"], 2: PASS["2"] };

type Orders = readonly [readonly number[], readonly number[], readonly number[]];

/** Puts the domains' sections of each pass in an order of their own. */
function arrange(stream: Restitched, orders: Orders): Restitched {
	const rank = (pass: number, domid: number): number => {
		const found = PASSES.find((one) => SECTION[one] === pass);
		return found === undefined ? 0 : (orders[found] as readonly number[]).indexOf(domid);
	};
	stream.sections.sort((a, b) => a.pass - b.pass || rank(a.pass, a.domid) - rank(b.pass, b.domid));
	return stream;
}

const inOnePass = (pass: Pass, orderOfIt: readonly number[]): Orders =>
	PASSES.map((one) => (one === pass ? orderOfIt : DOMAINS)) as unknown as Orders;

const tiny = (on: Stage) => on.host("tiny");

const sampled = (numRuns: number, seed: number, run: (orders: Orders) => void): void => {
	const one = fc.constantFrom(...ORDERS);
	fc.assert(
		fc.property(fc.tuple(one, one, one), (orders) => run(orders)),
		{ seed, numRuns },
	);
};

const inCalls: Row[] = [
	...PASSES.map(
		(pass): Row => ({
			rule: "P3",
			arrangement: `Pass ${pass} in all 24 orders of the domains, the other passes ascending.`,
			outcome: SAME,
			run: (on) => {
				for (const one of ORDERS) {
					const orders = inOnePass(pass, one);
					on.restores(tiny(on), undefined, (of) => orders[of]);
				}
			},
		}),
	),
	{
		rule: "P3",
		arrangement: "All 24 orders of the domains, the same in all passes.",
		outcome: SAME,
		run: (on) => {
			for (const one of ORDERS) on.restores(tiny(on), undefined, () => one);
		},
	},
	{
		rule: "P3",
		arrangement: "An order of its own in each pass: 150 of the 13,824 there are.",
		outcome: SAME,
		run: (on) => sampled(150, 42, (orders) => on.restores(tiny(on), undefined, (pass) => orders[pass])),
	},
];

const inStream: Row[] = [
	...PASSES.map(
		(pass): Row => ({
			rule: "P3",
			arrangement: `Sections ${pass === 1 ? "1d" : pass} in all 24 orders of the domains in the stream, restored ascending.`,
			outcome: SAME,
			run: (on) => {
				for (const one of ORDERS) on.restores(tiny(on), arrange(on.parse(tiny(on)), inOnePass(pass, one)));
			},
		}),
	),
	{
		rule: "P3",
		arrangement: "Sections in an order of their own in each pass of the stream: 150 of 13,824.",
		outcome: SAME,
		run: (on) => sampled(150, 11, (orders) => on.restores(tiny(on), arrange(on.parse(tiny(on)), orders))),
	},
	{
		rule: "P3",
		arrangement: "Sections in one order in the stream, passes called in another: 100 samples.",
		outcome: SAME,
		run: (on) => {
			let next: Orders = [DOMAINS, DOMAINS, DOMAINS];
			sampled(100, 13, (orders) => {
				const called = next;
				on.restores(tiny(on), arrange(on.parse(tiny(on)), orders), (pass) => called[pass]);
				next = orders;
			});
		},
	},
	{
		rule: "P3",
		arrangement: "The host with three guests and a dead domain: 20 samples of both, stream and calls.",
		outcome: SAME,
		run: (on) => {
			const host = on.host("synthetic");
			const one = fc.shuffledSubarray([...host.domids], { minLength: host.domids.length });
			fc.assert(
				fc.property(fc.tuple(one, one, one), fc.tuple(one, one, one), (sections, called) => {
					on.restores(host, arrange(on.parse(host), sections), (pass) => called[pass] as number[]);
				}),
				{ seed: 17, numRuns: 20 },
			);
		},
	},
];

/** Moves the section of a pass and domain before the first one of another pass. */
function moveBefore(stream: Restitched, pass: number, domid: number, other: number): Restitched {
	const from = stream.sections.findIndex((section) => section.pass === pass && section.domid === domid);
	const [moved] = stream.sections.splice(from, 1);
	const to = stream.sections.findIndex((section) => section.pass === other);
	stream.sections.splice(to, 0, moved as StreamSection);
	return stream;
}

const OVERLAP: readonly (readonly [string, number, number])[] = [
	["Overlap in the stream: a domain's section 1d before the host's section 1h.", PASS["1d"], PASS["1h"]],
	["Overlap in the stream: a domain's section 1d before another domain's section 0.", PASS["1d"], PASS["0"]],
	["Overlap in the stream: a domain's section 2 before another domain's section 1d.", PASS["2"], PASS["1d"]],
];
const betweenPasses: Row[] = [
	...OVERLAP.map(
		([arrangement, pass, other]): Row => ({
			rule: "P1",
			arrangement,
			outcome: refusedStream("XLU-R009"),
			run: (on) => {
				for (const domid of DOMAINS) on.refusesStream(tiny(on), moveBefore(on.parse(tiny(on)), pass, domid, other));
			},
		}),
	),
	{
		rule: "P0-P2",
		arrangement: "Skip in the stream: one domain has no section 1d, or no section 2.",
		outcome: refusedStream("XLU-R018"),
		run: (on) => {
			for (const pass of [PASS["1d"], PASS["2"]]) {
				for (const domid of DOMAINS) {
					const stream = on.parse(tiny(on));
					stream.sections = stream.sections.filter((section) => section.pass !== pass || section.domid !== domid);
					on.refusesStream(tiny(on), stream);
				}
			}
		},
	},
	...(
		[
			["section 0", [PASS["0"]], "XLU-R041"],
			["section 1d, or section 2,", [PASS["1d"], PASS["2"]], "XLU-R009"],
		] as const
	).map(
		([what, passes, rule]): Row => ({
			rule: "P0-P2",
			arrangement: `Repeat in the stream: one domain has its ${what} twice.`,
			outcome: refusedStream(rule),
			run: (on) => {
				for (const pass of passes) {
					for (const domid of DOMAINS) {
						const stream = on.parse(tiny(on));
						const at = stream.sections.findIndex((section) => section.pass === pass && section.domid === domid);
						stream.sections.splice(at, 0, stream.sections[at] as StreamSection);
						on.refusesStream(tiny(on), stream);
					}
				}
			},
		}),
	),
	{
		rule: "P0-P2",
		arrangement:
			"Repeat and skip in the stream: one domain has its section 1d, or section 2, twice, another one has none.",
		outcome: refusedStream("XLU-R018"),
		run: (on) => {
			for (const pass of [PASS["1d"], PASS["2"]]) {
				for (const domid of DOMAINS) {
					const stream = on.parse(tiny(on));
					const at = stream.sections.findIndex((section) => section.pass === pass && section.domid === domid);
					const lacking = stream.sections.findIndex((section) => section.pass === pass && section.domid !== domid);
					stream.sections[lacking] = stream.sections[at] as StreamSection;
					on.refusesStream(tiny(on), stream);
				}
			}
		},
	},
];

export const domains: Group = {
	title: "Domains within a pass",
	about: `No domain depends on another within a pass: calls may come in any order, and so may the domains' sections of one pass in
the stream.`,
	rows: [...inCalls, ...inStream, ...betweenPasses],
};
