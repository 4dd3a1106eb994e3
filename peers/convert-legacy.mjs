// Run by convert-legacy.sh: node convert-legacy.mjs XEN_TOOLS SCRATCH MUTATIONS
import { spawn } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runnerImport } from "vite";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const load = async (path) => (await runnerImport(join(root, path), { configFile: false })).module;
const { legacyImage, legacyVariants, u32 } = await load("test/support/legacy.ts");
const { convertLegacy } = await load("src/formats/legacy/convert.ts");
const { legacyRules } = await load("src/formats/legacy/check.ts");
const { readLegacy } = await load("src/formats/legacy/read.ts");
const { Findings } = await load("src/formats/common/findings.ts");
const { StreamReader } = await load("src/formats/common/reader.ts");
const { sourceOf } = await load("src/formats/common/source.ts");
const { Random } = await load("src/random.ts");

const [tools, scratch, mutations] = process.argv.slice(2);
let failures = 0;
let jobs = 0;
/** Streams that verify-stream-v2 read without their EMULATOR_XENSTORE_DATA. */
let withoutKeys = 0;

function fail(what) {
	failures++;
	console.error(`convert-legacy: FAILED: ${what}`);
}

/** Xen's tools in a limited address space: some damaged counts make them ask for all there is. */
function run(tool, args) {
	return new Promise((resolve) => {
		const command = 'ulimit -v 2000000; exec timeout 60 python3 "$@"';
		const child = spawn("bash", ["-c", command, "bash", join(tools, "bin", tool), ...args]);
		let text = "";
		child.stdout.on("data", (part) => {
			text += part;
		});
		child.stderr.on("data", (part) => {
			text += part;
		});
		child.on("close", (status) => resolve({ status, text: text.trim() }));
	});
}

/** Runs `work` on each of a list, as many at a time as there are CPUs. */
async function each(list, work) {
	const waiting = list.values();
	await Promise.all(
		Array.from({ length: availableParallelism() }, async () => {
			for (const entry of waiting) await work(entry);
		}),
	);
}

async function theirs(image, { width, guestType, layers = "libxc", more = [] }) {
	const base = join(scratch, `job${jobs++}`);
	writeFileSync(`${base}.in`, image);
	writeFileSync(`${base}.out`, "");
	const args = ["-i", `${base}.in`, "-o", `${base}.out`, "-w", `${width}`, "-g", guestType, "-f", layers, ...more];
	const { status, text } = await run("convert-legacy-stream", args);
	const octets = readFileSync(`${base}.out`);
	rmSync(`${base}.in`);
	rmSync(`${base}.out`);
	return {
		octets,
		error: status === 0 ? undefined : `${text.split("\n").findLast((line) => /Error/.test(line)) ?? text}`,
	};
}

async function ours(image, options) {
	const parts = [];
	const sink = { length: 0, write: async (octets) => void parts.push(Buffer.from(octets)) };
	try {
		await convertLegacy(new StreamReader(sourceOf(image, "image", 10_007)), sink, options);
		return { octets: Buffer.concat(parts) };
	} catch (error) {
		if (error.name !== "XluError" || error.rule === undefined) throw error;
		return { octets: Buffer.concat(parts), error };
	}
}

async function verified(octets, layers) {
	const path = join(scratch, `job${jobs++}`);
	writeFileSync(path, octets);
	const { status, text } = await run("verify-stream-v2", ["-i", path, "-f", layers]);
	rmSync(path);
	if (status === 0) return undefined;
	const last = text.split("\n").at(-1);
	const from = xenstoreRecord(octets);
	// Under Python 3 it holds an octet against a text, and refuses every record of this kind, Xen's converter's too.
	if (!/Data not NUL terminated/.test(last) || from < 0 || octets[from + 7 + octets.readUInt32LE(from + 4)] !== 0)
		return last;
	withoutKeys++;
	const next = from + 8 + Math.ceil(octets.readUInt32LE(from + 4) / 8) * 8;
	return verified(Buffer.concat([octets.subarray(0, from), octets.subarray(next)]), layers);
}

/** Where EMULATOR_XENSTORE_DATA begins in a libxl stream, or -1. */
function xenstoreRecord(octets) {
	const key = octets.indexOf("physmap/");
	return key < 0 ? -1 : key - 16;
}

/** Xen's converter writes version 3 alone. Version 2 is the same without STATIC_DATA_END. */
function asVersion2(octets) {
	const header = octets.indexOf(Buffer.from("ffffffffffffffff58454e4600000003", "hex"));
	const copy = Buffer.from(octets);
	copy.writeUInt32BE(2, header + 12);
	let at = header + 40;
	while (copy.readUInt32LE(at) !== 0x10) at += 8 + Math.ceil(copy.readUInt32LE(at + 4) / 8) * 8;
	return Buffer.concat([copy.subarray(0, at), copy.subarray(at + 8)]);
}

const differences = [];

// 1. Whole images.
const variants = legacyVariants();
let compared = 0;
let accepted = 0;
await each(variants, async ({ name, spec }) => {
	const image = legacyImage(spec);
	for (const layers of ["libxc", "libxl"]) {
		const peer = await theirs(image, { ...spec, layers });
		if (peer.error) fail(`${name}, ${layers}: Xen's converter refuses: ${peer.error}`);
		for (const to of ["libxc-v3", "libxc-v2"]) {
			// Neither width nor guest type is told.
			const own = await ours(image, { to, layers });
			const expected = to === "libxc-v3" ? peer.octets : asVersion2(peer.octets);
			if (own.error) fail(`${name}, ${layers}, ${to}: ${own.error.message}`);
			if (Buffer.compare(own.octets, expected) !== 0) fail(`${name}, ${layers}, ${to}: the octets differ`);
			else compared++;
			const refusal = await verified(own.octets, layers);
			if (refusal) fail(`${name}, ${layers}, ${to}: verify-stream-v2: ${refusal}`);
			else accepted++;
		}
	}
});
console.log(
	`convert-legacy: ${variants.length} images, each for libxc and libxl, version 2 and 3: ${compared} of ${variants.length * 4} octet for octet as Xen's converter has them, ${accepted} accepted by verify-stream-v2, ${withoutKeys} of them without their EMULATOR_XENSTORE_DATA`,
);

// 2. Where we differ on purpose.
const REFUSALS = { width: 64, guestType: "hvm" };
for (const guestType of ["pv", "hvm"]) {
	for (const width of [32, 64]) {
		const spec = { width, guestType, states: 3, lastCheckpoint: true };
		const image = legacyImage(spec);
		for (const layers of ["libxc", "libxl"]) {
			const name = `${guestType} ${width}, three checkpoints, ${layers}`;
			const peer = await theirs(image, { ...spec, layers });
			const first = await ours(image, { to: "libxc-v3", layers, checkpoints: "first" });
			if (Buffer.compare(peer.octets, first.octets) !== 0) fail(`${name}: the first checkpoint differs`);
			const all = await ours(image, { to: "libxc-v3", layers });
			const refusal = all.error?.message ?? (await verified(all.octets, layers));
			if (refusal) fail(`${name}: ${refusal}`);
		}
		const configured = legacyImage({ ...spec, states: 1, xl: '{"c_info":{}}' });
		const bare = legacyImage({ ...spec, states: 1 });
		const broken = await theirs(configured, { ...spec, layers: "libxl", more: ["-x"] });
		if (broken.error === undefined) fail("convert-legacy-stream -x accepts xl's header: compare what it writes");
		const peer = await theirs(bare, { ...spec, layers: "libxl" });
		const own = await ours(configured, { to: "libxc-v3" });
		const length = configured.length - bare.length;
		if (own.error || Buffer.compare(own.octets.subarray(length), peer.octets) !== 0) {
			fail(`${guestType} ${width} behind xl's header: the octets differ`);
		}
		const refusal = await verified(own.octets, "xl");
		if (refusal) fail(`${guestType} ${width} behind xl's header: verify-stream-v2: ${refusal}`);
	}
}
differences.push(
	[
		"several checkpoints",
		"takes the first, drops the others",
		"all pages, the last one's state; `checkpoints: first`: as Xen's",
	],
	["xl's header (-x)", "refuses every one: compares octets with a text", "is read; flag for a libxl stream set"],
);
differences.push([
	"verify-stream-v2",
	"refuses every EMULATOR_XENSTORE_DATA, Xen's too",
	`octets as Xen's converter has them; ${withoutKeys} streams read without it`,
]);
const skip = legacyImage({ width: 64, guestType: "hvm", qemu: undefined });
const skipped = await ours(skip, { to: "libxc-v3", skipQemu: true });
if (Buffer.compare(skipped.octets, (await theirs(skip, { ...REFUSALS, more: ["--skip-qemu"] })).octets) !== 0) {
	fail("without a device model's record, skipQemu: the octets differ");
}
console.log("\ndifferent on purpose   | Xen's converter                                | ours");
for (const [what, xen, own] of differences) console.log(`${what.padEnd(22)} | ${xen.padEnd(46)} | ${own}`);

// 3. Images that are wrong in a way that some reader passes over, and damaged ones: what Xen's converter refuses, we refuse.
const wrong = [
	{ name: "page type 5", width: 64, guestType: "hvm", batches: [[0x50000001]] },
	{ name: "entry above 32 bits", width: 64, guestType: "hvm", entryHigh: 1 },
	{ name: "no VCPU_INFO", width: 64, guestType: "pv", online: undefined },
	{ name: "no vCPU online", width: 32, guestType: "pv", online: [] },
	{ name: "p2m_size of 2^29", width: 64, guestType: "hvm", p2mSize: 2 ** 29 },
	{ name: "no HVM context", width: 32, guestType: "hvm", context: 0 },
	{ name: "tmem", width: 64, guestType: "hvm", extra: u32(-5, 1) },
	{ name: "compression", width: 64, guestType: "hvm", extra: u32(-13) },
	{ name: "QEMU traditional", width: 64, guestType: "hvm", qemu: { signature: "QemuDeviceModelRecord", state: 9 } },
	{ name: "Remus", width: 64, guestType: "hvm", qemu: { signature: "RemusDeviceModelState", state: 9 } },
	{ name: "toolstack version 7", width: 64, guestType: "hvm", toolstack: u32(7, 0) },
];

/** Damages fields rather than contents: an octet near the beginning of a part, a cut, a piece out or twice. */
async function damaged(count) {
	const random = new Random(5);
	const bases = [];
	for (const { spec } of variants) {
		const small = { ...spec, context: 24, batches: [[1], [0xf0000002, 0xe0000003]] };
		const image = legacyImage(small);
		const findings = new Findings();
		const starts = [];
		for await (const { offset } of readLegacy(new StreamReader(sourceOf(image)), { findings, pages: "summary" })) {
			starts.push(offset);
		}
		bases.push({ spec: small, image, starts });
	}
	return Array.from({ length: count }, (_, i) => {
		const { spec, image, starts } = bases[random.below(bases.length)];
		const at = Math.min(image.length - 1, starts[random.below(starts.length)] + random.below(24));
		const copy = Buffer.from(image);
		const name = `mutation ${i} at ${at}`;
		switch (random.below(6)) {
			case 0:
				return { name, spec, image: copy.subarray(0, at) };
			case 1:
				return { name, spec, image: Buffer.concat([copy.subarray(0, at), copy.subarray(at + 1 + random.below(8))]) };
			case 2:
				return { name, spec, image: Buffer.concat([copy.subarray(0, at + 4), copy.subarray(at)]) };
			default:
				copy[at] ^= 1 << random.below(8);
				return { name, spec, image: copy };
		}
	});
}

const cases = [
	...wrong.map((spec) => ({ name: spec.name, spec, image: legacyImage(spec) })),
	...(await damaged(Number(mutations))),
];
const onlyOurs = new Map();
const both = new Map();
let refusedByBoth = 0;
let same = 0;
let more = 0;
await each(cases, async ({ name, spec: { width, guestType }, image }) => {
	for (const layers of name.startsWith("mutation") ? ["libxl"] : ["libxc", "libxl"]) {
		const peer = await theirs(image, { width, guestType, layers });
		const own = await ours(image, { to: "libxc-v3", layers, width, guestType });
		const rule = own.error?.rule;
		if (peer.error && !own.error) fail(`${name}, ${layers}: Xen's converter refuses, we do not: ${peer.error}`);
		else if (peer.error) {
			refusedByBoth++;
			both.set(rule, (both.get(rule) ?? 0) + 1);
		} else if (own.error) onlyOurs.set(rule, (onlyOurs.get(rule) ?? 0) + 1);
		else if (Buffer.compare(peer.octets, own.octets) === 0) same++;
		else {
			// A damaged LAST_CHECKPOINT or octet behind the image can read as another checkpoint.
			const first = await ours(image, { to: "libxc-v3", layers, width, guestType, checkpoints: "first" });
			if (Buffer.compare(peer.octets, first.octets) === 0) more++;
			else fail(`${name}, ${layers}: the octets differ`);
		}
	}
});
const total = refusedByBoth + same + more + [...onlyOurs.values()].reduce((sum, count) => sum + count, 0);
console.log(
	`\nconvert-legacy: ${total} conversions of wrong and damaged images: ${refusedByBoth} refused by both, ${same} octet for octet the same, ${more} the same up to the first checkpoint`,
);
const docs = new Map(Object.values(legacyRules).map(({ code, doc }) => [code, doc]));
console.log("\nrefused by us alone    | times | what must hold");
for (const [rule, count] of [...onlyOurs].sort())
	console.log(`${rule.padEnd(22)} | ${`${count}`.padStart(5)} | ${docs.get(rule)}`);
console.log(
	`\nrefused by both, by our rule: ${[...both]
		.sort()
		.map(([rule, count]) => `${rule} ${count}`)
		.join(", ")}`,
);
console.log(`convert-legacy: ${failures} failures`);
process.exit(failures === 0 ? 0 : 1);
