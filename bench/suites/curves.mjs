/**
 * What a host costs against one figure of it at a time: domains, memory, vCPUs, ports, grants. All else stays as it is.
 * From the points of each curve a straight line: what one more costs.
 */
import { line } from "../harness.mjs";
import { HostBench } from "../hostBench.mjs";
import { measureHost } from "./hosts.mjs";

export const name = "curves";
export const title = "Curves";
export const weight = { quick: 16, full: 14 };

const base = { domains: 4, memory: "128M", vcpus: 2, ports: 8, grants: 16, layout: "typical" };
/** Values of each curve; domains with little memory each, so that the memory is not what grows. */
const curves = {
	tiny: { domains: { with: { memory: "4M" }, values: [1, 3] } },
	quick: {
		domains: { with: { memory: "16M" }, values: [4, 32, 128] },
		memory: { values: ["64M", "256M", "1G"] },
		vcpus: { values: [1, 16, 64] },
		ports: { values: [0, 256, 1024] },
		grants: { values: [0, 256, 1024] },
	},
	full: {
		domains: { with: { memory: "16M" }, values: [2, 8, 32, 128, 256] },
		memory: { values: ["64M", "256M", "1G", "4G", "8G"] },
		vcpus: { values: [1, 8, 32, 64, 128] },
		ports: { values: [0, 64, 256, 512, 1024] },
		grants: { values: [0, 64, 256, 512, 1024] },
	},
};
const stages = ["save", "check", "pass 0", "pass 1", "pass 2", "restore", "blackout"];

export async function run({ size, clock, log }) {
	const result = [];
	const jobs = Object.entries(curves[size]);
	let left = jobs.reduce((sum, [, { values }]) => sum + values.length, 0);
	for (const [of, { with: other, values }] of jobs) {
		const points = [];
		for (const value of values) {
			const keys = { ...base, ...other, [of]: value };
			log(`${of} ${value}`);
			const bench = new HostBench(
				`synthetic:${Object.entries(keys)
					.map((pair) => pair.join("="))
					.join(",")}`,
			);
			const { ms, turns, pages } = await measureHost(bench, clock.part(1, left--), { withLimits: false, most: 31 });
			points.push({ value: bench.spec[of], pages, turns, ms });
		}
		// Ports and grants are those of each guest, vCPUs dom0 has as well.
		const guests = { ...base, ...other }.domains;
		const each = of === "ports" || of === "grants" ? guests : of === "vcpus" || of === "memory" ? guests + 1 : 1;
		const unit = of === "memory" ? 2 ** 30 : 1;
		const slopes = Object.fromEntries(
			stages.map((stage) => {
				const { slope } = line(points.map(({ value, ms }) => [(value * each) / unit, ms[stage].median]));
				return [stage, slope * 1000];
			}),
		);
		result.push({ of, fixed: { ...base, ...other }, points, microsecondsPerUnit: slopes });
	}
	return { curves: result };
}
