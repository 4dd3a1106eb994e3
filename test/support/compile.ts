import { readFileSync } from "node:fs";
import { join, relative } from "node:path";
import asc from "assemblyscript/asc";

/** Repository root: test/support/../.. */
const root = join(import.meta.dirname, "../..");

export interface CompileOptions {
	/** Which of the two builds: the same source has to give the same results in both. */
	simd: boolean;
	optimize?: "-O2" | "-O3";
	/** Files in place of those of the repository, by path from its root. */
	changed?: Readonly<Record<string, string>>;
}

/** Both builds, for `describe.each`. */
export const builds = [
	{ name: "simd", simd: true },
	{ name: "plain", simd: false },
];

/**
 * Compiles an AssemblyScript entry of this repository in memory, without asconfig.json: a test sees its entry alone.
 *
 * @param entry path from the repository root
 * @throws with the compiler's diagnostics; a warning counts as an error
 */
export async function compileBinary(entry: string, options: CompileOptions): Promise<Uint8Array<ArrayBuffer>> {
	let binary: Uint8Array<ArrayBuffer> | undefined;
	const { error, stderr } = await asc.main(
		[
			entry,
			...["--outFile", "out.wasm"],
			...["--runtime", "stub"],
			options.optimize ?? "-O2",
			...["--use", "abort="],
			...["--enable", options.simd ? "bulk-memory,simd" : "bulk-memory"],
			...(options.simd ? [] : ["--disable", "simd"]),
		],
		{
			readFile(name, baseDir) {
				if (name.endsWith("asconfig.json")) {
					return null;
				}
				const changed = options.changed?.[relative(root, join(root, baseDir, name))];
				if (changed !== undefined) return changed;
				try {
					return readFileSync(join(root, baseDir, name), "utf8");
				} catch {
					return null;
				}
			},
			writeFile(name, contents) {
				if (name.endsWith(".wasm")) {
					binary = Uint8Array.from(contents as Uint8Array);
				}
			},
			listFiles: () => null,
		},
	);
	const diagnostics = stderr.toString();
	if (error || diagnostics !== "" || binary === undefined) {
		throw new Error(`${entry}: ${error?.message ?? "compiler diagnostics"}\n${diagnostics}`);
	}
	return binary;
}

/** Compiles and instantiates an entry that imports nothing, and gives its memory `pages` pages in all. */
export async function compile<Exports>(
	entry: string,
	options: CompileOptions,
	pages = 32,
): Promise<Exports & { memory: WebAssembly.Memory }> {
	const { instance } = await WebAssembly.instantiate(await compileBinary(entry, options), {});
	const exports = instance.exports as unknown as Exports & { memory: WebAssembly.Memory };
	exports.memory.grow(pages - exports.memory.buffer.byteLength / 65536);
	return exports;
}
