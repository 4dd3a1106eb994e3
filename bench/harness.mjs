/**
 * What every suite measures with: candidates in turns, medians with spreads, ratios turn by turn, and a clock.
 *
 * A and B run alternately in one process, each turn beginning with another one, so that what slows the machine for a
 * while slows all of them. A ratio is formed within a turn and the median taken of the ratios: two medians of different
 * moments are never divided. Where the middle 80 % of the ratios hold 1, there is no difference to speak of.
 */
import { performance } from "node:perf_hooks";

/** Value below which `part` of a sorted list lies, between two entries in proportion. */
export function quantile(sorted, part) {
	const place = (sorted.length - 1) * part;
	const below = Math.floor(place);
	const above = Math.min(below + 1, sorted.length - 1);
	return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}

/** Median, and the points that 10 % and 90 % of the samples are below. */
export function summary(samples) {
	if (samples.length === 0) throw new Error("no samples");
	const sorted = [...samples].sort((a, b) => a - b);
	return { n: sorted.length, median: quantile(sorted, 0.5), low: quantile(sorted, 0.1), high: quantile(sorted, 0.9) };
}

/**
 * Numerator over denominator, turn by turn. `differs` is false where the spread holds 1, or where one turn alone
 * was run: then the figure says nothing about which one is faster.
 */
export function ratio(numerators, denominators) {
	if (numerators.length !== denominators.length) throw new Error("samples of different turns");
	const result = summary(numerators.map((value, turn) => value / denominators[turn]));
	return { ...result, differs: result.n > 1 && (result.low > 1 || result.high < 1) };
}

/** One summary over another where they were not taken in the same turns: the spread is the widest that they allow. */
export function apart(above, below) {
	const low = above.low / below.high;
	const high = above.high / below.low;
	const n = Math.min(above.n, below.n);
	return { n, median: above.median / below.median, low, high, differs: n > 1 && (low > 1 || high < 1) };
}

/** A summary times a constant: another unit, or a share of something. */
export function scaled({ n, median, low, high }, factor) {
	return { n, median: median * factor, low: low * factor, high: high * factor };
}

/**
 * How a figure stands to its goal.
 * @param goal the most that it may be, or with `atLeast` the least
 * @returns "met" or "missed"; with ", within the spread" where the spread holds the goal
 */
export function standing({ median, low, high, n }, goal, atLeast = false) {
	const isMet = atLeast ? median >= goal : median <= goal;
	const isClear = n > 1 && (low > goal || high < goal);
	return `${isMet ? "met" : "missed"}${isClear ? "" : ", within the spread"}`;
}

/** Straight line through points by least squares: what one more of x costs, and what is there without any. */
export function line(points) {
	const count = points.length;
	const meanX = points.reduce((sum, [x]) => sum + x, 0) / count;
	const meanY = points.reduce((sum, [, y]) => sum + y, 0) / count;
	const square = points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
	const slope = square === 0 ? 0 : points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0) / square;
	return { slope, intercept: meanY - slope * meanX };
}

/** The time that a run may take, dealt out to whoever asks next. */
export class Clock {
	#end;

	constructor(ms) {
		this.#end = performance.now() + ms;
	}

	get leftMs() {
		return Math.max(0, this.#end - performance.now());
	}

	/** A clock for a part of what is left: `weight` of `weights`, what is still to come included. */
	part(weight, weights) {
		return new Clock((this.leftMs * weight) / weights);
	}
}

class Took {
	constructor(rows) {
		this.rows = rows;
	}
}

/**
 * What a candidate returns that takes its own time: milliseconds, or several of them by name, each of which becomes a row
 * of its own. Whatever else a candidate returns is its own affair.
 */
export function took(ms) {
	return new Took(typeof ms === "number" ? { "": ms } : ms);
}

/** A candidate that is done `times` times over in a turn, where one time is too short for the clock. */
export function repeat(times, work) {
	return () => {
		const start = performance.now();
		for (let i = 0; i < times; i++) work();
		return took((performance.now() - start) / times);
	};
}

/**
 * Runs candidates in turns.
 *
 * @param candidates by name: functions that are timed, or that return what they `took`. May be asynchronous
 * @param clock what the turns may take. Once it has run out no turn begins, whatever `least` says
 * @param least turns at the least, if the clock allows; `most` at the most; `warm` turns before them that do not count
 * @returns samples in milliseconds by name, as many for each
 */
export async function alternate(candidates, { clock, least = 5, most = 41, warm = 1 }) {
	const names = Object.keys(candidates);
	const samples = {};
	const turn = async (number, isCounted) => {
		// Garbage of the turn before is nobody's to pay for. There only where Node has been given --expose-gc.
		globalThis.gc?.();
		for (let i = 0; i < names.length; i++) {
			const name = names[(i + number) % names.length];
			const start = performance.now();
			const pending = candidates[name]();
			const result = pending instanceof Promise ? await pending : pending;
			const wall = performance.now() - start;
			if (!isCounted) continue;
			const rows = result instanceof Took ? result.rows : { "": wall };
			for (const [row, ms] of Object.entries(rows)) {
				const key = row === "" ? name : row;
				samples[key] ??= [];
				samples[key].push(ms);
			}
		}
	};
	const start = performance.now();
	for (let i = 0; i < warm; i++) await turn(i, false);
	let turns = 0;
	let longest = 0;
	// The least number is kept for a little longer than the clock says, never for much longer.
	const patience = clock.leftMs / 2;
	while (turns < most) {
		const before = performance.now();
		const left = clock.leftMs - (turns === 0 ? 0 : longest);
		if (turns >= least && left <= 0) break;
		if (turns >= 1 && left + patience <= 0) break;
		await turn(turns, true);
		turns++;
		longest = Math.max(longest, performance.now() - before);
	}
	return { samples, turns, ms: performance.now() - start };
}

/** A summary of each row of samples. */
export function summaries(samples) {
	return Object.fromEntries(Object.entries(samples).map(([name, list]) => [name, summary(list)]));
}

/** A ratio of each row of samples to one of them. */
export function ratios(samples, to) {
	return Object.fromEntries(
		Object.entries(samples)
			.filter(([name]) => name !== to)
			.map(([name, list]) => [name, ratio(list, samples[to])]),
	);
}
