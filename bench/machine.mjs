/** The machine that figures are of, without its name. */
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, freemem, loadavg, release, totalmem, type } from "node:os";
import { compilerVersion } from "./build.mjs";

const GIB = 2 ** 30;

function cacheSizes() {
	const sizes = {};
	for (let index = 0; index < 6; index++) {
		const read = (file) => readFileSync(`/sys/devices/system/cpu/cpu0/cache/index${index}/${file}`, "utf8").trim();
		try {
			const level = `L${read("level")}${read("type") === "Instruction" ? "i" : ""}`;
			sizes[level] = read("size");
		} catch {
			// Not Linux, or a virtual machine that does not say.
		}
	}
	return sizes;
}

export function describeMachine() {
	return {
		cpu: cpus()[0]?.model.trim() ?? "unknown",
		cores: availableParallelism(),
		caches: cacheSizes(),
		memoryGib: Math.round((totalmem() / GIB) * 10) / 10,
		freeGib: Math.round((freemem() / GIB) * 10) / 10,
		system: `${type()} ${release()}`,
		node: process.version,
		v8: process.versions.v8,
		gcc: compilerVersion() ?? "none",
		/** Of the minute before: what else the machine did. */
		load: Math.round(loadavg()[0] * 100) / 100,
	};
}

export function machineText({ cpu, cores, caches, memoryGib, system, node, v8, gcc, load }) {
	const sizes = Object.entries(caches).map(([level, size]) => `${level} ${size}`);
	return [
		`${cores} x ${cpu}`,
		...(sizes.length > 0 ? [`caches ${sizes.join(", ")}`] : []),
		`${memoryGib} GiB`,
		system,
		`Node ${node.slice(1)} (V8 ${v8})`,
		`gcc ${gcc}`,
		`load before the run ${load}`,
	].join("; ");
}
