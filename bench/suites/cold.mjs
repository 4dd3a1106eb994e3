/**
 * The first save, check and restore of a fresh process against warm ones in the same process. The engine compiles the
 * module in two steps, the second one between calls, and the destination's pages are not there before they are written.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { root } from "../build.mjs";
import { ratio, summary } from "../harness.mjs";

export const name = "cold";
export const title = "Cold and warm";
export const weight = { quick: 8, full: 6 };

const hosts = {
	tiny: "synthetic:domains=1,memory=4M,layout=typical",
	quick: "synthetic:domains=4,memory=256M,layout=typical",
	full: "synthetic:domains=4,memory=1G,layout=typical",
};

export async function run({ size, clock, log }) {
	const hasPrepare = existsSync(join(root, "dist/prepare.js"));
	const variants = ["cold", "touched", "toy", ...(hasPrepare ? ["prepare"] : [])];
	const skipped = hasPrepare ? [] : [{ peer: "prepare()", reason: "the package has none yet" }];
	if (!hasPrepare) log("prepare(): left out, the package has none yet");
	const turns = size === "tiny" ? 4 : 24;
	const results = Object.fromEntries(variants.map((variant) => [variant, []]));
	const most = { tiny: 1, quick: 5, full: 11 }[size];
	// Processes take turns as well.
	for (let i = 0; i < most && (i < 1 || clock.leftMs > 0); i++) {
		log(`process ${i + 1} of each kind`);
		for (const variant of variants) {
			const args = [join(root, "bench/cold.mjs"), variant, hosts[size], String(turns)];
			const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
			if (status !== 0) throw new Error(`${variant}: ${stderr}`);
			results[variant].push(JSON.parse(stdout));
		}
	}
	const rows = variants.map((variant) => ({
		variant,
		...Object.fromEntries(
			["save", "check", "restore"].map((what) => {
				const first = results[variant].map((result) => result.first[what]);
				const warm = results[variant].map((result) => result.warm[what]);
				return [what, { first: summary(first), warm: summary(warm), firstToWarm: ratio(first, warm) }];
			}),
		),
	}));
	return { host: hosts[size].slice("synthetic:".length), rows, skipped };
}
