#!/usr/bin/env node
// Part of peers/xenstored.sh: node peers/xenstored.mjs SCRATCH MUTATIONS, with XENSTORED in the environment.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runnerImport } from "vite";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const fixtures = join(root, "test/fixtures/xenstore");
const [scratch, mutations] = [process.argv[2], Number(process.argv[3])];
const { mutated } = (await runnerImport(join(root, "test/support/xenstoreMutations.ts"), { configFile: false })).module;

let failed = 0;
const say = (ok, text) => {
	if (!ok) failed++;
	console.log(`xenstored: ${ok ? "" : "FAILED "}${text}`);
};

function xlu(...args) {
	const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, "dist/cli/main.js"), ...args], {
		encoding: "utf8",
	});
	return { status, text: `${stdout}${stderr}` };
}

/** What the daemon makes of a stream. */
function accepts(stream, expected, ...options) {
	const { status, stdout } = spawnSync(
		"bash",
		[join(root, "peers/xenstored-accepts.sh"), ...options, stream, expected],
		{ encoding: "utf8" },
	);
	if (status === 2) throw new Error(stdout);
	return { ok: status === 0, text: stdout.trim().split("\n").at(-1) };
}

const out = join(scratch, "stream");
/** Converts, perhaps in several steps, and has the daemon read what comes. */
function check(what, name, steps, nodes, ...options) {
	let from = join(fixtures, name);
	for (const [i, step] of steps.entries()) {
		const to = i === steps.length - 1 ? out : join(scratch, `step${i}`);
		const { status, text } = xlu("convert", from, "-o", to, ...step);
		if (status !== 0) {
			say(false, `${name}: ${what}: ${text.trim()}`);
			return;
		}
		from = to;
	}
	const { ok, text } = accepts(out, nodes, ...options);
	say(ok, `${name}, ${what}: ${text}`);
}

const daemon = ["--to", "xenstore-v1", "--for", "xenstored-4.17"];
for (const name of ["plain", "large", "busy"]) {
	const nodes = join(fixtures, `${name}.nodes.json`);
	check("written for the daemon", `${name}.dump`, [daemon], nodes, "--exact", "--watches");
	check("as JSON and back", `${name}.dump`, [["--to", "json"], []], nodes, "--exact", "--watches");
}
const second = join(fixtures, "v2/plain.nodes.json");
check("version 2 as version 1", "v2/plain.dump", [daemon], second, "--exact", "--watches");

// One domain's part, spliced into a daemon that has nothing else: its nodes, and no others.
const all = JSON.parse(readFileSync(join(fixtures, "plain.nodes.json"), "utf8"));
const list = Array.isArray(all) ? all : all.nodes;
const owner = ({ perms }) => Number(perms[0].slice(1));
for (const domid of [5, 6]) {
	const mine = list.filter((node) => owner(node) === domid || node.path.startsWith(`/local/domain/${domid}/`));
	if (mine.length === 0) continue;
	const { status, text } = xlu(
		...["convert", join(fixtures, "plain.dump"), "-o", out, "--to", "xenstore-v1", "--use", `migration:${domid}`],
	);
	if (status !== 0) {
		say(false, `migration of domain ${domid}: ${text.trim()}`);
		continue;
	}
	const inspected = JSON.parse(xlu("inspect", "--json", out).text);
	const expected = join(scratch, "nodes.json");
	const nodes = inspected.nodes.map(({ path, value, perms }) => ({ path, value, perms }));
	writeFileSync(expected, JSON.stringify(nodes));
	const paths = new Set(nodes.map(({ path }) => path));
	const missing = mine.filter(({ path }) => !paths.has(path));
	say(
		missing.length === 0,
		`migration of domain ${domid}: ${nodes.length} nodes, ${missing.length} of its own missing`,
	);
	const { ok, text: verdict } = accepts(out, expected, "--splice");
	say(ok, `migration of domain ${domid}: ${verdict}`);
}

// Streams with something wrong. The daemon's word is whether it lives.
const tally = { both: 0, here: 0, neither: 0 };
const base = readFileSync(join(fixtures, "plain.dump"));
for (let seed = 1; seed <= mutations; seed++) {
	writeFileSync(out, mutated(base, seed));
	// It lives where the tree alone cannot be read back: a node's name is no legal path.
	const verdict = accepts(out, "-");
	const lives = verdict.ok || !verdict.text.includes("refused the stream");
	const { status } = xlu("verify", out, "--for", "xenstored-4.17");
	if (lives) tally[status === 0 ? "neither" : "here"]++;
	else if (status === 0) say(false, `mutation ${seed}: ${verdict.text}, and it is taken here`);
	else tally.both++;
}
console.log(
	`xenstored: ${mutations} mutations: ${tally.both} refused by both, ${tally.neither} by neither, ${tally.here} here alone`,
);
console.log(`xenstored: ${failed} failures`);
process.exit(failed === 0 ? 0 : 1);
