/**
 * What the suites need beside the package, compiled into build/bench: the bench's own modules, the C peers, and wasm2c's
 * builds of both. Nothing is compiled twice from the same sources. What cannot be built gives a reason instead.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { run, translate } from "../tools/build-native.mjs";

export const root = join(dirname(fileURLToPath(import.meta.url)), "..");
export const output = join(root, "build/bench");

function filesOf(path) {
	const full = join(root, path);
	if (/\.\w+$/.test(path)) return [full];
	return readdirSync(full, { recursive: true, withFileTypes: true })
		.filter((entry) => entry.isFile())
		.map((entry) => join(entry.parentPath, entry.name))
		.sort();
}

/** Makes `outputs` unless they are there and were made from these inputs; `make` must write all of them. */
function once(name, inputs, outputs, make) {
	const hash = createHash("sha256").update(make.toString());
	for (const file of inputs.flatMap(filesOf)) hash.update(file.slice(root.length)).update(readFileSync(file));
	const digest = hash.digest("hex");
	const stamp = join(output, `${name}.stamp`);
	const isThere = outputs.every((file) => existsSync(file)) && existsSync(stamp);
	if (isThere && readFileSync(stamp, "utf8") === digest) return;
	mkdirSync(output, { recursive: true });
	make();
	writeFileSync(stamp, digest);
}

const ascInputs = ["bench/assembly", "assembly/extent", "assembly/checksum.ts", "bench/build.mjs", "package-lock.json"];

function asc(entry, file, options) {
	run(process.execPath, [
		join(root, "node_modules/assemblyscript/bin/asc.js"),
		...[entry, "--outFile", file, "--config", "none"],
		...["--runtime", "stub", "-O3", "--noAssert", "--use", "abort=", "--memoryBase", "1024"],
		...options,
	]);
}

const simd = ["--enable", "simd,bulk-memory"];
const plain = ["--enable", "bulk-memory", "--disable", "simd"];

/** The codecs and the limits over a memory of their own; `build` is simd or plain. */
export function codecModule(build = "simd") {
	const [entry, options] = build === "simd" ? ["bench/assembly/codec.ts", simd] : ["assembly/test/codec.ts", plain];
	const file = join(output, `codec.${build}.wasm`);
	once(`codec.${build}`, [...ascInputs, "assembly/test/codec.ts"], [file], () => asc(entry, file, options));
	return file;
}

/** The limits over a memory that is imported: env.memory. */
export function limitsModule() {
	const file = join(output, "limits.wasm");
	once("limits", ["bench/assembly/limits.ts", "bench/build.mjs", "package-lock.json"], [file], () =>
		asc("bench/assembly/limits.ts", file, [...simd, "--importMemory"]),
	);
	return file;
}

/** What kept a peer from being built, for the report: the last thing that a program said, without this machine's paths. */
function reasonOf(error) {
	if (compilerVersion() === undefined) return "there is no gcc";
	const lines = String(error.message).trim().split("\n");
	return (lines.find((text) => /error/i.test(text)) ?? lines.at(-1))
		.replaceAll(`${root}/`, "")
		.replace(/(?<=^|\s)\/\S*\//g, "");
}

export function compilerVersion(cc = "gcc") {
	try {
		return run(cc, ["-dumpfullversion"]).trim();
	} catch {
		return undefined;
	}
}

const warnings = ["-Wall", "-Wextra", "-Werror"];
const ours = ["-std=gnu11", "-fno-strict-aliasing"];

/**
 * Programs that code tables and take commands (bench/native/peer.c). The flags are those of the codec itself; the
 * program around it has a C library and is built as any other.
 */
export const codecPeers = {
	"C -O3 native": { source: "extents", flags: ["-O3", "-march=native"] },
	"C as a hypervisor": { source: "extents", flags: ["-O2", "-mgeneral-regs-only", "-fno-stack-protector"] },
	"wasm2c SIMD": { source: "wasm2c", build: "simd", flags: ["-O2", "-march=x86-64-v3"] },
	"wasm2c plain": { source: "wasm2c", build: "plain", flags: ["-O2", "-mgeneral-regs-only", "-fno-stack-protector"] },
};

const fileName = (name) => name.replace(/\W+/g, "-").toLowerCase();

/** Builds a codec peer. Returns `{ program }` or `{ reason }`. */
export function buildCodecPeer(name) {
	const { source, build, flags } = codecPeers[name];
	const directory = join(output, fileName(name));
	const program = join(directory, "peer");
	const native = join(root, "bench/native");
	try {
		const wasm = build && codecModule(build);
		const inputs = ["bench/native", "native", "bench/build.mjs", "tools/build-native.mjs"];
		if (wasm) inputs.push(wasm.slice(root.length + 1));
		once(fileName(name), inputs, [program], () => {
			mkdirSync(directory, { recursive: true });
			const include = ["-I", native, "-I", join(root, "native"), "-I", directory];
			const objects = [];
			const compile = (file, object, more) => {
				run("gcc", [...ours, ...include, ...more, "-c", file, "-o", join(directory, object)]);
				objects.push(join(directory, object));
			};
			if (source === "wasm2c") {
				translate(wasm, directory, "codec");
				// Code that wasm2c wrote is not ours to keep free of warnings. Guard pages, as an engine has them.
				const module = [...flags, "-w", "-DWASM_RT_MEMCHECK_GUARD_PAGES=1"];
				compile(join(directory, "codec_module.c"), "codec.o", module);
				compile(join(native, "wasm2c.c"), "wasm2c.o", ["-O2", "-DWASM_RT_MEMCHECK_GUARD_PAGES=1"]);
			} else {
				compile(join(native, "extents.c"), "extents.o", [...warnings, ...flags]);
			}
			compile(join(native, "peer.c"), "peer.o", [...warnings, "-O2"]);
			run("gcc", [...objects, "-o", program]);
		});
		return { program };
	} catch (error) {
		return { reason: reasonOf(error) };
	}
}

/** Builds the program that takes a whole host through the core as a loader links it (tools/build-native.mjs). */
export function buildHostPeer(flavour) {
	const directory = join(root, "build/native", flavour);
	const program = join(output, `host-${flavour}`);
	const library = join(directory, "libxlu.a");
	try {
		// The library's own build keeps no stamp; it takes a minute, so it is made where the core is newer alone.
		const inputs = ["native", "bench/native", "tools/build-native.mjs", "dist/core.wasm", "dist/core.plain.wasm"];
		once("libxlu", inputs, [join(root, "build/native/simd/libxlu.a"), join(root, "build/native/plain/libxlu.a")], () =>
			run(process.execPath, [join(root, "tools/build-native.mjs")]),
		);
		once(
			`host-${flavour}`,
			["bench/native/host.c", "bench/native/commands.h", library.slice(root.length + 1)],
			[program],
			() =>
				run("gcc", [
					...[...ours, "-O2", ...warnings, "-I", join(root, "bench/native"), "-I", directory],
					...[join(root, "bench/native/host.c"), library, "-o", program],
				]),
		);
		return { program };
	} catch (error) {
		return { reason: reasonOf(error) };
	}
}
