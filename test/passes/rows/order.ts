/** P0 to P2 and X1: which call may come when. */
import fc from "fast-check";
import { DOMID } from "../../../src/format/enums.ts";
import { type Group, type Pass, type Restore, type Row, refusedCall, SAME, type Stage } from "../table.ts";

const { XEN } = DOMID;
const OUT_OF_TURN = refusedCall("XLU-R031");
const UNCHECKED = refusedCall("XLU-R032");
/** dom0, a PV and an HVM guest, a dead domain. */
const DOMAINS = [0, 1, 2, 5] as const;
const PASSES = [0, 1, 2] as const;
/** Every step that there is, in one legal order. */
const STEPS = PASSES.flatMap((pass) => [XEN, ...DOMAINS].map((domid) => ({ pass, domid }))).filter(
	({ pass, domid }) => pass < 2 || domid !== XEN,
);

function row(
	rule: string,
	arrangement: string,
	run: (restore: Restore, on: Stage) => void,
	outcome = OUT_OF_TURN,
): Row {
	return { rule, arrangement, outcome, run: (on) => run(on.begin(on.host("tiny")), on) };
}

const others = (domid: number) => DOMAINS.filter((other) => other !== domid);

/** The same thing tried with each domain, every time in a restore of its own. */
function each(
	rule: string,
	arrangement: string,
	run: (restore: Restore, domid: number, rest: readonly number[]) => void,
): Row {
	return {
		rule,
		arrangement,
		outcome: OUT_OF_TURN,
		run: (on) => {
			for (const domid of DOMAINS) run(on.begin(on.host("tiny")), domid, others(domid));
		},
	};
}

const first: Row[] = [
	row(
		"X1",
		"The target is given: not an octet of it is written before the first pass.",
		(restore) => {
			restore.end();
		},
		SAME,
	),
	row("P0", "Any call but the host's pass 0 comes first: each pass of each domain, the host's pass 1.", (restore) => {
		for (const { pass, domid } of STEPS.slice(1)) restore.refuses(pass, domid);
		restore.refusesFinish();
	}),
];

const repeated: Row[] = [
	row("P0", "Pass 0 of the host is repeated.", (restore) => {
		restore.step(0, XEN);
		restore.refuses(0, XEN);
		restore.step(0, 1);
		restore.refuses(0, XEN);
	}),
	each("P0", "Pass 0 of a domain is repeated, at once and behind another one's.", (restore, domid, rest) => {
		restore.pass(0, [domid]);
		restore.refuses(0, domid);
		restore.step(0, rest[0] as number);
		restore.refuses(0, domid);
	}),
	row("P1", "Pass 1 of the host is repeated, at once, behind a domain's, in pass 2.", (restore) => {
		restore.pass(0);
		restore.step(1, XEN);
		restore.refuses(1, XEN);
		restore.step(1, 2);
		restore.refuses(1, XEN);
		restore.pass(1);
		restore.step(2, 5);
		restore.refuses(1, XEN);
	}),
	each("P1", "Pass 1 of a domain is repeated, at once and behind another one's.", (restore, domid, rest) => {
		restore.pass(0);
		restore.pass(1, [domid]);
		restore.refuses(1, domid);
		restore.step(1, rest[0] as number);
		restore.refuses(1, domid);
	}),
	each("P2", "Pass 2 of a domain is repeated, at once and when all have ended it.", (restore, domid, rest) => {
		restore.pass(0);
		restore.pass(1);
		restore.step(2, domid);
		restore.refuses(2, domid);
		restore.pass(2, rest);
		restore.refuses(2, domid);
	}),
	each("P0", "Pass 0 of a domain or of the host comes again when pass 1 or pass 2 has begun.", (restore, domid) => {
		restore.pass(0);
		restore.step(1, XEN);
		for (const again of [domid, XEN]) restore.refuses(0, again);
		restore.pass(1);
		for (const again of [domid, XEN]) restore.refuses(0, again);
		restore.step(2, domid);
		for (const again of [domid, XEN]) restore.refuses(0, again);
	}),
	each("P1", "Pass 1 of a domain comes again when pass 2 has begun.", (restore, domid, rest) => {
		restore.pass(0);
		restore.pass(1);
		restore.step(2, rest[0] as number);
		restore.refuses(1, domid);
		restore.step(2, domid);
		restore.refuses(1, domid);
	}),
];

const skipped: Row[] = [
	each("P1", "Skip: pass 1 of a domain that alone has not ended pass 0.", (restore, domid, rest) => {
		restore.pass(0, rest);
		restore.refuses(1, domid);
	}),
	each(
		"P2",
		"Skip: pass 2 of a domain straight after its pass 0, before and behind the host's pass 1.",
		(restore, domid) => {
			restore.pass(0);
			restore.refuses(2, domid);
			restore.step(1, XEN);
			restore.refuses(2, domid);
		},
	),
	each("P2", "Skip: pass 2 of a domain that alone has not ended pass 1.", (restore, domid, rest) => {
		restore.pass(0);
		restore.pass(1, rest);
		restore.refuses(2, domid);
	}),
	each("P2", "Skip: pass 2 of a domain of which no pass has run.", (restore, domid, rest) => {
		restore.pass(0, rest);
		restore.refuses(2, domid);
	}),
];

const overlapping: Row[] = [
	each(
		"P1",
		"Overlap: pass 1 of a domain begins while one other domain has not ended pass 0.",
		(restore, domid, rest) => {
			restore.pass(0, rest);
			for (const other of rest) restore.refuses(1, other);
			restore.step(0, domid);
		},
	),
	each("P1", "Overlap: the host's pass 1 begins while one domain has not ended pass 0.", (restore, domid, rest) => {
		restore.step(0, XEN);
		restore.refuses(1, XEN);
		restore.pass(0, rest);
		restore.refuses(1, XEN);
		restore.step(0, domid);
	}),
	each(
		"P1",
		"Barrier: pass 1 of a domain begins before page ownership, all domains having ended pass 0.",
		(restore, domid) => {
			restore.pass(0);
			restore.refuses(1, domid);
			restore.step(1, XEN);
			restore.step(1, domid);
		},
	),
	each(
		"P2",
		"Overlap: pass 2 of a domain begins while one other domain has not ended pass 1.",
		(restore, domid, rest) => {
			restore.pass(0);
			restore.pass(1, rest);
			for (const other of rest) restore.refuses(2, other);
			restore.step(1, domid);
		},
	),
	each("P1", "Overlap: two domains change places, one of them a pass ahead of the other.", (restore, domid, rest) => {
		restore.pass(0);
		restore.pass(1, [domid]);
		restore.refuses(2, domid);
		restore.step(1, rest[0] as number);
		restore.refuses(2, domid);
		restore.refuses(2, rest[0] as number);
	}),
];

const strangers: Row[] = [
	row("P2", "The host's pass 2, which there is none of: before, in and after pass 2 of the domains.", (restore) => {
		restore.pass(0);
		restore.pass(1);
		restore.refuses(2, XEN);
		restore.step(2, 0);
		restore.refuses(2, XEN);
		restore.pass(2);
		restore.refuses(2, XEN);
	}),
	row("P2", "Passes 3, 4, 255 and 2^32 - 1, of a domain and of the host.", (restore) => {
		restore.pass(0);
		restore.pass(1);
		for (const pass of [3, 4, 255, 0xffff_ffff]) for (const domid of [1, XEN]) restore.refuses(pass, domid);
	}),
	row(
		"P2",
		"Domids that no domain of the stream has: between, above, reserved, beyond 16 bits; DOMID_IO for DOMID_XEN.",
		(restore) => {
			const strange = [3, 4, 6, 0x7fef, DOMID.SELF, DOMID.IO, DOMID.INVALID, 0x7fff, 0xffff, 0xffff_ffff];
			restore.step(0, XEN);
			for (const pass of PASSES) for (const domid of strange) restore.refuses(pass, domid);
			restore.pass(0);
			restore.pass(1);
			for (const domid of strange) restore.refuses(2, domid);
		},
		refusedCall("XLU-R041"),
	),
];

const ending: Row[] = [
	row("P2", "Finish early: after each step of a restore but the last.", (restore) => {
		for (const { pass, domid } of STEPS) {
			restore.refusesFinish();
			restore.step(pass, domid);
		}
		restore.finish();
	}),
	each("P2", "Finish early: one domain alone has not ended pass 2.", (restore, domid, rest) => {
		restore.pass(0);
		restore.pass(1);
		restore.pass(2, rest);
		restore.refusesFinish();
		restore.step(2, domid);
		restore.finish();
	}),
	row(
		"X1",
		"After finish: finish again, each pass of each domain and of the host, another target.",
		(restore) => {
			restore.end();
			restore.refusesFinish();
			for (const { pass, domid } of [...STEPS, { pass: 2, domid: XEN }]) restore.refuses(pass, domid);
			restore.refusesTarget();
		},
		UNCHECKED,
	),
	row(
		"X1",
		"Another target is given in the middle of a restore, in each pass.",
		(restore) => {
			for (const { pass, domid } of STEPS) {
				restore.step(pass, domid);
				restore.refusesTarget();
			}
		},
		UNCHECKED,
	),
	row("X1", "check is called again in the middle of a restore, in each pass.", (restore) => {
		for (const { pass, domid } of STEPS) {
			restore.step(pass, domid);
			restore.refusesCheck();
		}
	}),
];

const calls = ["open", "plan", "check", "target", "restore", "finish"] as const;
const before: Row[] = ([0, 1, 2, 3] as const).map((done) => ({
	rule: "X1",
	arrangement: `Before ${calls[done]} the calls that follow it: ${calls.slice(done + 1).join(", ")}.`,
	outcome: UNCHECKED,
	run: (on) => on.refusesCallsFrom(on.host("tiny"), done),
}));

const unready: Row[] = [
	...before,
	{
		rule: "S3",
		arrangement: "The preserved memory was not given to check: no target is taken.",
		outcome: refusedCall("XLU-R035"),
		run: (on) => on.refusesWithoutMemory(on.host("tiny")),
	},
	{
		rule: "X1",
		arrangement: "A check refused, though one before it had passed: no target is taken, no pass runs.",
		outcome: UNCHECKED,
		run: (on) => on.refusesAfterRefusal(on.host("tiny")),
	},
];

/** Every call out of turn in every state that one legal order goes through, and in states on random legal ways. */
const all: Row[] = [
	row("P0-P2", "In each state on one way through a restore, each of all calls whose turn it is not.", (restore) => {
		for (const next of STEPS) {
			for (const { pass, domid } of STEPS) if (!restore.mayRun(pass, domid)) restore.refuses(pass, domid);
			restore.step(next.pass, next.domid);
		}
		for (const { pass, domid } of STEPS) restore.refuses(pass, domid);
	}),
	{
		rule: "P0-P2",
		arrangement: "60 random rows of up to 120 calls: those whose turn it is are done, all others change nothing.",
		outcome: SAME,
		run: (on) => {
			fc.assert(
				fc.property(fc.array(fc.constantFrom(...STEPS), { minLength: 1, maxLength: 120 }), (list) => {
					const restore = on.begin(on.host("tiny"));
					for (const { pass, domid } of list) {
						if (restore.mayRun(pass, domid)) restore.step(pass, domid);
						else restore.refuses(pass, domid, "XLU-R031");
					}
					restore.end();
				}),
				{ seed: 3, numRuns: 60 },
			);
		},
	},
	{
		rule: "P0-P2",
		arrangement: "60 random legal ways through a restore, at each step one call out of turn.",
		outcome: SAME,
		run: (on) => {
			const draw = fc.array(fc.nat(10_000), { minLength: 2 * STEPS.length, maxLength: 2 * STEPS.length });
			fc.assert(
				fc.property(draw, (numbers) => {
					const restore = on.begin(on.host("tiny"));
					for (let i = 0; i < STEPS.length; i++) {
						const legal = restore.open();
						const illegal = STEPS.filter(({ pass, domid }) => !restore.mayRun(pass, domid));
						const wrong = illegal[(numbers[2 * i + 1] as number) % illegal.length];
						if (wrong) restore.refuses(wrong.pass, wrong.domid, "XLU-R031");
						const right = legal[(numbers[2 * i] as number) % legal.length] as { pass: Pass; domid: number };
						restore.step(right.pass, right.domid);
					}
					restore.finish();
				}),
				{ seed: 5, numRuns: 60 },
			);
		},
	},
];

export const order: Group = {
	title: "Order of the passes",
	about: `The host is \`tiny\`: domains 0, 1, 2 and a dead one, 5. A refused call leaves the target, the workspace, the stream,
the preserved memory and the context's figures as they were, and the restore goes on from there: each row ends it, and the
image is xen#1's. "Each domain" means the arrangement was made with every one of the four.`,
	rows: [...first, ...repeated, ...skipped, ...overlapping, ...strangers, ...ending, ...unready, ...all],
};
