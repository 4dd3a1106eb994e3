// Run by verify-stream.sh: node verify-stream-mutations.mjs XEN_TOOLS SCRATCH MUTATIONS
//
// Small images, what is converted from them, mutations of all these, and the libxc parts of bundles, read by Xen's
// verify-stream-v2 and by this project: the peer accepts all that is whole; of what is damaged, all that the peer refuses is
// refused here. What is refused here alone is counted by rule. Little-endian streams alone: the peer reads records so whatever
// the options say.
import { spawn } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runnerImport } from "vite";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const load = async (path) => (await runnerImport(join(root, path), { configFile: false })).module;
const { capturedImage, errorsOf, imageNames, itemsOf, joined, mutate, smallImage, smallImageOf } =
	await load("test/support/images.ts");
const { narrowImage } = await load("test/support/narrowImage.ts");
const { checkpointed, verified } = await load("test/support/checkpoints.ts");
const { imageFormat } = await load("src/formats/image.ts");
const { convertImage } = await load("src/formats/libxc/convert.ts");
const { MemorySink } = await load("src/formats/common/sink.ts");
const { Random } = await load("src/random.ts");
const { libxcParts } = await load("test/bundle/libxcParts.ts");

const [tools, scratch, mutations] = process.argv.slice(2);
let failures = 0;
let jobs = 0;

function fail(what) {
	failures++;
	console.error(`verify-stream: FAILED: ${what}`);
}

/** In a limited address space: some damaged lengths make the peer ask for all there is. */
function peer(octets, format) {
	const file = join(scratch, `job${jobs++}`);
	writeFileSync(file, octets);
	return new Promise((resolve) => {
		const command = 'ulimit -v 2000000; exec timeout 60 python3 "$@"';
		const tool = join(tools, "bin", "verify-stream-v2");
		const child = spawn("bash", ["-c", command, "bash", tool, "-f", format, "-i", file]);
		let text = "";
		for (const stream of [child.stdout, child.stderr]) {
			stream.on("data", (part) => {
				text += part;
			});
		}
		child.on("close", (status) => {
			rmSync(file);
			resolve({ isAccepted: status === 0, text: text.trim().split("\n").at(-1) ?? "" });
		});
	});
}

async function each(list, work) {
	const waiting = list.values();
	await Promise.all(
		Array.from({ length: availableParallelism() }, async () => {
			for (const entry of waiting) await work(entry);
		}),
	);
}

/** A mutation may take a layer away; the peer has to be told what is left. */
function formatOf(octets) {
	const head = Buffer.from(octets.subarray(0, 8)).toString("latin1");
	return { "Xen save": "xl", LibxlFmt: "libxl", "\xff\xff\xff\xff\xff\xff\xff\xff": "libxc" }[head];
}

async function* stream(list) {
	yield* list;
}

async function converted(items, version) {
	const sink = new MemorySink();
	await convertImage(imageFormat, stream(items), version, sink);
	return itemsOf(sink.octets());
}

const withoutXl = (items) => items.filter(({ layer }) => layer !== "xl");
const libxcAlone = (items) => items.filter(({ layer }) => layer === "libxc");
/** Whole streams: name, peer's name of the format, items. */
const whole = [];
/** A 32-bit PV guest's is made of the captured one, whole and with few pages. */
const narrow = narrowImage(capturedImage("pv"));
const smallImages = [
	...(await Promise.all(imageNames.map(async (name) => [name, await smallImage(name)]))),
	["32-bit pv", await smallImageOf(narrow)],
];
for (const [name, items] of smallImages) {
	const second = await converted(items, 2);
	whole.push([`${name} xl`, "xl", items], [`${name} xl, version 2`, "xl", second]);
	whole.push([`${name} libxl`, "libxl", withoutXl(items)], [`${name} libxc`, "libxc", libxcAlone(items)]);
	whole.push([`${name} libxc, 2 and 3 again`, "libxc", libxcAlone(await converted(second, 3))]);
}
// Checkpoints without libxl alone: the peer does not hand back to libxl at a CHECKPOINT.
for (const name of imageNames) {
	const { pieces } = (await checkpointed(name, { checkpoints: 2 })).only("libxc");
	whole.push(
		[`${name} libxc, checkpoints`, "libxc", pieces],
		[`${name} verified`, "xl", (await verified(name)).pieces],
	);
}
await each(whole, async ([name, format, items]) => {
	const octets = joined(items);
	const theirs = await peer(octets, format);
	if (!theirs.isAccepted) fail(`${name}: the peer refuses it: ${theirs.text}`);
	const ours = await errorsOf(octets);
	if (ours.length > 0) fail(`${name}: refused here by ${ours[0].rule.code}`);
});
const all = await peer(narrow, "xl");
if (!all.isAccepted) fail(`32-bit pv with all pages: the peer refuses it: ${all.text}`);
console.log(`verify-stream: ${whole.length + 1} whole streams`);

const counts = { both: 0, neither: 0, oursOnly: new Map() };
const seeds = Array.from({ length: Number(mutations) }, (_, i) => i + 1);
await each(seeds, async (seed) => {
	const [name, format, items] = whole[seed % whole.length];
	const octets = mutate(items, new Random(seed));
	const theirs = await peer(octets, formatOf(octets) ?? format);
	const ours = await errorsOf(octets);
	if (!theirs.isAccepted && ours.length === 0)
		fail(`mutation ${seed} of ${name}: the peer alone refuses: ${theirs.text}`);
	else if (!theirs.isAccepted) counts.both++;
	else if (ours.length === 0) counts.neither++;
	else counts.oursOnly.set(ours[0].rule, (counts.oursOnly.get(ours[0].rule) ?? 0) + 1);
});
console.log(`verify-stream: ${seeds.length} mutations: ${counts.both} refused by both, ${counts.neither} by neither`);
console.log("refused here alone, by the first rule:");
for (const [rule, count] of [...counts.oursOnly].sort(([a], [b]) => a.code.localeCompare(b.code))) {
	console.log(`  ${rule.code}  ${String(count).padStart(4)}  ${rule.doc}`);
}
// Of bundles: state records alone, which is what this project says of them.
const parts = await libxcParts();
await each(parts, async ([name, octets]) => {
	const theirs = await peer(octets, "libxc");
	if (!theirs.isAccepted) fail(`${name}: the peer refuses it: ${theirs.text}`);
	const ours = await errorsOf(octets);
	const others = ours.filter(({ expected }) => expected !== "a PAGE_DATA before it");
	if (others.length > 0) fail(`${name}: refused here by ${others[0].rule.code}`);
});
console.log(`verify-stream: ${parts.length} libxc parts of bundles`);
console.log(`verify-stream: ${failures} failures`);
process.exit(failures === 0 ? 0 : 1);
