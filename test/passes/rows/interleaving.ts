/** Two restores at once, in one core: contexts never meet. */
import fc from "fast-check";
import { DOMID } from "../../../src/format/enums.ts";
import { type Group, type HostName, type Restore, type Row, SAME, type Stage } from "../table.ts";

const { XEN } = DOMID;

/** Takes the next step of one restore or of the other, by numbers, until both are done; then ends both. */
function interleave(both: readonly [Restore, Restore], numbers: readonly number[]): void {
	for (let i = 0; ; i++) {
		const number = numbers[i % numbers.length] as number;
		const waiting = both.filter((restore) => restore.open().length > 0);
		if (waiting.length === 0) break;
		const restore = waiting[number % waiting.length] as Restore;
		const steps = restore.open();
		const { pass, domid } = steps[(number >> 1) % steps.length] as { pass: number; domid: number };
		restore.step(pass, domid);
	}
	for (const restore of both) restore.finish();
}

function two(on: Stage, a: HostName, b: HostName): [Restore, Restore] {
	const first = on.begin(on.host(a));
	return [first, on.begin(on.host(b), first)];
}

const NUMBERS = fc.array(fc.nat(1_000_000), { minLength: 40, maxLength: 40 });

function random(a: HostName, b: HostName, numRuns: number): Row {
	return {
		rule: "P0-P2",
		arrangement: `${a} and ${b === a ? `${b} once more` : b} restored at once: ${numRuns} random ways of taking turns, each legal for both.`,
		outcome: SAME,
		run: (on) => {
			fc.assert(
				fc.property(NUMBERS, (numbers) => interleave(two(on, a, b), numbers)),
				{ seed: 23, numRuns },
			);
		},
	};
}

const rows: Row[] = [
	{
		rule: "P0-P2",
		arrangement: "Two restores of one stream, step by step in turn.",
		outcome: SAME,
		run: (on) => {
			const [a, b] = two(on, "tiny", "tiny");
			for (const pass of [0, 1, 2] as const) {
				for (const domid of pass < 2 ? [XEN, ...a.domids] : a.domids) {
					a.step(pass, domid);
					b.step(pass, domid);
				}
			}
			a.finish();
			b.finish();
		},
	},
	{
		rule: "P0-P2",
		arrangement: "One restore is a whole pass ahead of the other, pass by pass.",
		outcome: SAME,
		run: (on) => {
			const [a, b] = two(on, "tiny", "synthetic");
			a.pass(0);
			a.pass(1);
			b.pass(0);
			a.pass(2);
			b.pass(1);
			a.finish();
			b.pass(2);
			b.finish();
		},
	},
	random("tiny", "tiny", 40),
	random("tiny", "synthetic", 25),
	random("pv", "tiny", 2),
	{
		rule: "P0-P2",
		arrangement:
			"One restore is finished while the other stands in each of its passes: that one goes on, the finished one does not.",
		outcome: "refused XLU-R032, nothing changed",
		run: (on) => {
			for (const pass of [0, 1, 2] as const) {
				const [a, b] = two(on, "tiny", "synthetic");
				for (const before of [0, 1, 2] as const) if (before < pass) b.pass(before);
				if (pass < 2) b.step(pass, XEN);
				b.step(pass, 1);
				a.end();
				a.refuses(0, XEN);
				a.refusesFinish();
				b.end();
			}
		},
	},
	{
		rule: "P0-P2",
		arrangement: "Calls out of turn in one restore while the other goes on, step by step.",
		outcome: "refused XLU-R031, nothing changed",
		run: (on) => {
			const [a, b] = two(on, "tiny", "tiny");
			a.pass(0, [0, 1]);
			while (b.open().length > 0) {
				const { pass, domid } = b.open()[0] as { pass: number; domid: number };
				b.step(pass, domid);
				a.refuses(1, 0);
				a.refuses(2, 1);
				a.refusesFinish();
			}
			b.finish();
		},
	},
	{
		rule: "P0-P2",
		arrangement: "A restore that is left half done, in each pass, while another one begins and ends.",
		outcome: SAME,
		run: (on) => {
			for (const pass of [0, 1, 2] as const) {
				const half = on.begin(on.host("tiny"));
				for (const before of [0, 1, 2] as const) if (before < pass) half.pass(before);
				half.pass(pass, [2, 0]);
				on.begin(on.host("tiny"), half).end();
				half.end();
			}
		},
	},
];

export const interleaving: Group = {
	title: "Interleaving, and two restores at once",
	about: `A restore's state is in its windows, so that one instance of the core serves any number of them. Both images are compared at
the end.`,
	rows,
};
