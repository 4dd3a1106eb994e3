/**
 * The library: the same steps as the commands, as typed functions over octets. One object wraps one instance of the
 * core; each call uses its memory anew, results are copies.
 */
import { type Core, compileCore, type Difference, type LoadOptions, loadCore } from "./core/load.ts";
import { type Finding, findingOf, isVerdict } from "./errors.ts";
import { ruleId, rules } from "./format/rules.ts";
import { FORMAT_VERSION } from "./format/schema.ts";
import type { Host } from "./host.ts";
import { buildImage } from "./machine/image.ts";
import { warmModule, windowBytes } from "./prepare.ts";
import { openAndCheck, restorePasses, saveHost } from "./steps.ts";
import { type DomainReport, describeDomains, liveUpdate, type UpdateOptions, type UpdateReport } from "./update.ts";

/** A saved host: the stream, and the preserved memory without which it cannot be restored. */
export interface Saved {
	stream: Uint8Array;
	memory: Uint8Array;
}

export interface CheckResult {
	ok: boolean;
	/** The first rule that is broken; empty if none is. */
	findings: Finding[];
	/** Rules that need the preserved memory where none was given. */
	notCheckable: string[];
	/** What a command ends in: 0, 1 (refused), 3 (damaged). */
	exitStatus: number;
}

export interface Restored {
	/** The hypervisor image that xen#2 built. */
	image: Uint8Array;
	/** Canonical digest of it. */
	digest: bigint;
	domains: Omit<DomainReport, "passMs">[];
}

/** What they say of page contents is not checkable without these. */
const memoryRules = rules.filter(({ name }) => name === "MEMORY" || name === "PAGE_TABLE").map(({ id }) => ruleId(id));

export class LiveUpdate {
	readonly #core: Core;
	readonly #options: LoadOptions;

	constructor(core: Core, options: LoadOptions = {}) {
		this.#core = core;
		this.#options = options;
	}

	/** Version of the core's interface. */
	get abi(): number {
		return this.#core.abi;
	}

	/**
	 * Warms the module, so that the first save, check and restore after it are as fast as any. To be called while guests
	 * still run.
	 * @param host where it is given, the memory that its windows will take is touched as well
	 */
	async prepare(host?: Host): Promise<void> {
		await warmModule(this.#options.module ?? (await compileCore()));
		if (!host) return;
		this.#core.reset();
		const image = this.#core.place(buildImage(host.model, host.preserved));
		const streamBytes = this.#core.createContext().planSave(image);
		this.#core.reset();
		this.#core.touch(2 * image.length + windowBytes(host, 0, streamBytes));
	}

	/**
	 * Saves a host.
	 * @param format version of the stream's format, by default the newest; an older one for a rollback
	 * @throws XLU_E_SPACE if it does not fit the core's 4 GiB of windows; XLU_E_VERSION if the format cannot hold it
	 */
	save(host: Host, { format = FORMAT_VERSION }: { format?: number } = {}): Saved {
		this.#core.reset();
		const { stream, memory } = saveHost(this.#core, host, format);
		return { stream: this.#core.bytes(stream).slice(), memory: this.#core.bytes(memory).slice() };
	}

	/**
	 * Opens and checks a stream. Never throws for what the stream holds: that is the result.
	 * @param newest the newest version of the format that its reader will know, where that is not this core
	 */
	check(stream: Uint8Array, memory?: Uint8Array, newest = 0): CheckResult {
		this.#core.reset();
		const notCheckable = memory ? [] : memoryRules;
		try {
			openAndCheck(this.#core, this.#core.place(stream), memory && this.#core.place(memory), { newest });
			return { ok: true, findings: [], notCheckable, exitStatus: 0 };
		} catch (error) {
			if (!isVerdict(error)) throw error;
			return { ok: false, findings: [findingOf(error)], notCheckable, exitStatus: error.exitStatus };
		}
	}

	/**
	 * Checks a stream and restores it in three passes.
	 * @throws XLU_E_DAMAGED, XLU_E_VERSION, XLU_E_REFUSED if check refuses it; XLU_E_MEMORY if the memory does not fit it
	 */
	restore(stream: Uint8Array, memory: Uint8Array): Restored {
		this.#core.reset();
		const opened = openAndCheck(this.#core, this.#core.place(stream), this.#core.place(memory));
		const target = this.#core.allocate(opened.imageBytes);
		opened.context.target(target);
		restorePasses(opened.context, opened.context.domids());
		const digest = this.#core.createContext().digest(target);
		const image = this.#core.bytes(target).slice();
		return { image, digest, domains: describeDomains(image).map(({ passMs: _, ...domain }) => domain) };
	}

	/** First difference of two images, null if there is none. */
	compare(expected: Uint8Array, got: Uint8Array): Difference | null {
		this.#core.reset();
		const context = this.#core.createContext();
		return context.compare(this.#core.place(expected), this.#core.place(got)) ?? null;
	}

	/** The image of a host, as xen#1 has it. */
	image(host: Host): Uint8Array {
		return buildImage(host.model, host.preserved, host.references);
	}

	/** A live update end to end, timed; xen#2 is a fresh instance of the core. */
	run(host: Host, options: UpdateOptions = {}): Promise<UpdateReport> {
		return liveUpdate(host, { ...this.#options, ...options });
	}
}

/** Loads the core that the package ships, or the module that is given. */
export async function load(options: LoadOptions = {}): Promise<LiveUpdate> {
	// Compiled once: what the engine learns of a module in one update serves the next.
	const module = options.module ?? (await compileCore());
	return new LiveUpdate(await loadCore({ module }), { module });
}
