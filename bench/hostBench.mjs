/**
 * A whole synthetic host through the core, its windows made once: save, check, the three passes, and the limits over the
 * same octets in the same memory. Each turn ends with the target image as it was, so that every turn does the same work.
 */
import { readFileSync } from "node:fs";
import { freemem } from "node:os";
import { join } from "node:path";
import { limitsModule, root } from "./build.mjs";
import { took } from "./harness.mjs";
import {
	buildImage,
	Core,
	describeHostDomains,
	packPreserved,
	parseSynthetic,
	syntheticHost,
	viewImage,
} from "./package.mjs";

const DOMID_XEN = 0x7ff2;

let modules;
function compiled() {
	modules ??= {
		core: new WebAssembly.Module(readFileSync(join(root, "dist/core.wasm"))),
		limits: new WebAssembly.Module(readFileSync(limitsModule())),
	};
	return modules;
}

/** Octets that a host takes in this process while it is made, about. */
export function bytesNeeded({ domains, memory }) {
	return (((domains + 1) * memory) / 4096) * 140;
}

/** What the machine can give: free, or a cache's. */
function availableBytes() {
	try {
		const [, kib] = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"));
		return Number(kib) * 1024;
	} catch {
		return freemem();
	}
}

/** Whether there is room for it, with some to spare for others. */
export function fitsMemory(spec) {
	return bytesNeeded(spec) * 1.25 < availableBytes();
}

export class HostBench {
	/** @param line a synthetic host */
	constructor(line) {
		this.spec = parseSynthetic(line);
		const host = syntheticHost(this.spec);
		const instance = new WebAssembly.Instance(compiled().core, {});
		const { memory } = instance.exports;
		this.limits = new WebAssembly.Instance(compiled().limits, { env: { memory } }).exports;
		const core = new Core(instance);
		this.core = core;
		this.image = core.place(buildImage(host.model, host.preserved));
		this.saving = core.createContext();
		this.out = core.allocate(this.saving.planSave(this.image));
		this.stream = this.saving.save(this.image, this.out);
		// A copy that stays: `out` is written anew with every save.
		this.received = core.place(core.bytes(this.stream).slice());
		this.memory = core.place(
			packPreserved(host.preserved, core.hash(this.stream), (octets) => core.hash(core.place(octets))),
		);
		this.restoring = core.createContext();
		this.restoring.open(this.received);
		const { workBytes, imageBytes } = this.restoring.plan(this.received);
		this.work = core.allocate(workBytes);
		this.target = core.allocate(imageBytes);
		this.restoring.check(this.received, this.work, this.memory);
		this.domids = this.restoring.domids();
		this.comparing = core.createContext();
		this.#findTables();
		this.domains = describeHostDomains(core.bytes(this.image));
		this.pages = this.domains.reduce((sum, { frames }) => sum + frames, 0);
		this.restore();
		this.mustBeIdentical();
	}

	/** The two big tables: P2Ms of all domains, page ownership. */
	#findTables() {
		const { host, domains } = viewImage(this.core.bytes(this.image));
		const owners = host.filter(({ table }) => table.name === "FrameOwners");
		const p2ms = domains.flatMap(({ tables }) => tables.filter(({ table }) => table.name === "P2m"));
		this.frames = owners[0].count;
		this.p2mEntries = p2ms.reduce((sum, { count }) => sum + count, 0);
		this.tables = [...owners, ...p2ms]
			.filter(({ count }) => count > 0)
			.map(({ offset, count }) => ({ offset, bytes: count * 8, entries: count }));
		this.tableBytes = this.tables.reduce((sum, { bytes }) => sum + bytes, 0);
	}

	save() {
		this.saving.save(this.image, this.out);
	}

	/** Open and plan, then every rule: their milliseconds. */
	check() {
		const start = performance.now();
		this.restoring.open(this.received);
		this.restoring.plan(this.received);
		const opened = performance.now();
		this.restoring.check(this.received, this.work, this.memory);
		return { open: opened - start, check: performance.now() - opened };
	}

	/** Needs a check before it. Milliseconds of each pass; taking over the target counts as part of the first. */
	restore() {
		const ms = {};
		for (const pass of [0, 1, 2]) {
			const start = performance.now();
			if (pass === 0) this.restoring.target(this.target);
			if (pass < 2) this.restoring.restore(pass, DOMID_XEN);
			for (const domid of this.domids) this.restoring.restore(pass, domid);
			if (pass === 2) this.restoring.finish();
			ms[`pass ${pass}`] = performance.now() - start;
		}
		return ms;
	}

	/** Check and restore, and their sums. */
	checkAndRestore() {
		const { open, check } = this.check();
		const passes = this.restore();
		const restore = passes["pass 0"] + passes["pass 1"] + passes["pass 2"];
		return { open, rules: check, check: open + check, ...passes, restore };
	}

	hash() {
		this.core.hash(this.received);
	}

	/** A copy of the two big tables over the target's; the next restore writes them again. */
	copy(how = "copyOnce") {
		const to = this.target.pointer;
		for (const { offset, bytes } of this.tables) this.limits[how](to + offset, this.image.pointer + offset, bytes);
	}

	read() {
		for (const { offset, bytes } of this.tables) this.limits.readAll(this.image.pointer + offset, bytes);
	}

	storeTables() {
		for (const { offset, bytes } of this.tables) this.limits.storeAll(this.target.pointer + offset, bytes, 1n);
	}

	/** As many octets as a restore writes: the whole image. */
	storeImage() {
		this.limits.storeAll(this.target.pointer, this.target.length, 1n);
	}

	/** @throws if what the last restore built is not what was saved */
	mustBeIdentical() {
		const difference = this.comparing.compare(this.image, this.target);
		if (difference) throw new Error(`the restored image differs: ${JSON.stringify(difference)}`);
	}

	/** Saves, restores and limits, for the harness. Restore comes with its check; what others left in the target is its to mend. */
	candidates(withLimits = true) {
		const main = { save: () => this.save(), restore: () => took(this.checkAndRestore()) };
		if (!withLimits) return main;
		return {
			...main,
			copy: () => this.copy(),
			copyBlocks: () => this.copy("copyBlocks"),
			read: () => this.read(),
			storeTables: () => this.storeTables(),
			storeImage: () => this.storeImage(),
			hash: () => this.hash(),
		};
	}

	/** Figures that are no times. */
	describe() {
		const { domains, memory, vcpus, layout, ports, grants } = this.spec;
		return {
			...{ layout, domains, memory, vcpus, ports, grants },
			pages: this.pages,
			frames: this.frames,
			p2mEntries: this.p2mEntries,
			streamBytes: this.received.length,
			imageBytes: this.image.length,
			tableBytes: this.tableBytes,
			octetsPerEntry: this.received.length / (this.frames + this.p2mEntries),
		};
	}
}
