/**
 * Whole hosts, all layouts, from 10 domains of 512 MiB to the largest that fits: save, check, each pass; per page of the
 * domains' memory, and against a copy of the two big tables, the read limit and the store limit over the same octets.
 */
import { alternate, ratio, ratios, scaled, summaries } from "../harness.mjs";
import { bytesNeeded, fitsMemory, HostBench } from "../hostBench.mjs";
import { parseSynthetic } from "../package.mjs";

export const name = "hosts";
export const title = "Whole hosts";
export const weight = { quick: 26, full: 34 };

const layouts = ["superpages", "typical", "fragmented", "adversarial"];
/** Ascending: what there is no time or memory for is left out from the end. */
const sizes = {
	tiny: [{ domains: 1, memory: "4M" }],
	quick: [{ domains: 10, memory: "512M" }],
	full: [
		{ domains: 10, memory: "512M" },
		{ domains: 15, memory: "2G" },
		{ domains: 31, memory: "4G" },
	],
};

export async function run({ size, clock, log }) {
	const rows = [];
	const skipped = [];
	const jobs = sizes[size].flatMap(({ domains, memory }) =>
		layouts.map((layout) => `synthetic:domains=${domains},memory=${memory},layout=${layout}`),
	);
	// The larger the host, the longer a turn; small ones need some turns as well.
	const share = (line) => Math.sqrt(bytesNeeded(parseSynthetic(line)));
	const shareFrom = (index) => jobs.slice(index).reduce((sum, line) => sum + share(line), 0);
	/** Milliseconds to make an octet of a host, by layout, from the one that was made last. */
	const pace = {};
	for (const [i, line] of jobs.entries()) {
		const spec = parseSynthetic(line);
		const need = bytesNeeded(spec);
		const part = clock.part(share(line), shareFrom(i));
		const short = line.slice("synthetic:".length);
		if (size !== "tiny" && !fitsMemory(spec)) {
			skipped.push({ host: short, reason: `it needs about ${Math.round(need / 2 ** 30)} GiB, more than is free` });
			log(`${short}: left out, ${skipped.at(-1).reason}`);
			continue;
		}
		// It has to be made, and a few turns of it take as long again.
		if ((pace[spec.layout] ?? 0) * need * 2 > clock.leftMs) {
			skipped.push({ host: short, reason: "no time was left for it" });
			log(`${short}: left out, ${skipped.at(-1).reason}`);
			continue;
		}
		log(short);
		const start = performance.now();
		const bench = new HostBench(line);
		pace[spec.layout] = (performance.now() - start) / need;
		rows.push(await measureHost(bench, part));
	}
	return { rows, skipped };
}

/** All figures of one host. */
export async function measureHost(bench, clock, { withLimits = true, least = 5, most = 41 } = {}) {
	// On a large host one turn is enough to warm the module, and takes seconds.
	const warm = bench.pages > 2 ** 20 ? 1 : 2;
	const { samples, turns } = await alternate(bench.candidates(withLimits), { clock, warm, least, most });
	bench.checkAndRestore();
	bench.mustBeIdentical();
	// xen#1 checks before it jumps and xen#2 again; the hand-over itself is not the serializer's.
	samples.blackout = samples.save.map((ms, i) => ms + 2 * samples.check[i] + samples.restore[i]);
	const ms = summaries(samples);
	const result = {
		...bench.describe(),
		turns,
		ms,
		nsPerPage: Object.fromEntries(Object.entries(ms).map(([key, row]) => [key, scaled(row, 1e6 / bench.pages)])),
		checkToRestore: ratio(samples.check, samples.restore),
	};
	if (!withLimits) return result;
	const encoding = samples.save.map((value, i) => value - samples.hash[i]);
	return {
		...result,
		toCopy: ratios(samples, "copy"),
		saveToRead: ratio(samples.save, samples.read),
		restoreToStoreImage: ratio(samples.restore, samples.storeImage),
		restoreToStoreTables: ratio(samples.restore, samples.storeTables),
		/** What the checksum adds to a save without it. */
		integrity: ratio(samples.hash, encoding),
	};
}
