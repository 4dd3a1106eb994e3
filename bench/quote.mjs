#!/usr/bin/env node
/**
 * Quotes the last figures where they are quoted: README.md and docs/BENCHMARKS.md, between markers, from
 * bench/results/results.json alone. Nobody types a figure.
 *
 *   node bench/quote.mjs            writes both files
 *   node bench/quote.mjs --check    fails if one of them says something else
 *
 * Without results the places between the markers are empty.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { machineText } from "./machine.mjs";
import { digits, goalTable, withSpread } from "./report.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const results = "bench/results/results.json";

/** The smallest and the largest of medians, as text. */
function span(figures) {
	const medians = figures.map(({ median }) => median).sort((a, b) => a - b);
	const [from, to] = [medians[0], medians.at(-1)].map(digits);
	return from === to ? from : `${from} to ${to}`;
}

function hostText({ domains, memory, layout }) {
	const mib = memory / 2 ** 20;
	return `${domains} domains of ${mib >= 1024 ? `${mib / 1024} GiB` : `${mib} MiB`} (${layout})`;
}

/** The README's lines: one for each figure that the run has. */
export function readmeQuote({ date, machine, suites }) {
	const lines = [];
	const typical = suites.hosts?.rows.filter(({ layout }) => layout === "typical").at(-1);
	if (typical) {
		const { nsPerPage, ms, toCopy, streamBytes } = typical;
		lines.push(
			`- ${hostText(typical)}: save ${withSpread(nsPerPage.save)} ns, check ${withSpread(nsPerPage.check)} ns, restore ` +
				`${withSpread(nsPerPage.restore)} ns per page of 4 KiB; the serializer's share of the blackout, checked on both ` +
				`sides, is ${withSpread(ms.blackout)} ms, the stream ${digits(streamBytes / 2 ** 20)} MiB`,
			`- saving it takes ${withSpread(toCopy.save)} times as long as a copy of its two big tables`,
		);
	}
	const cached = suites.native?.rows.filter(({ place }) => place === "cached") ?? [];
	const native = cached.flatMap(({ coreToPeer }) => (coreToPeer["C -O3 native"] ? [coreToPeer["C -O3 native"]] : []));
	if (native.length > 0) {
		lines.push(
			`- coding tables, the module in Node takes ${span(native.map(({ encode }) => encode))} of the time of C at ` +
				`-O3 -march=native that writes the same stream, decoding ${span(native.map(({ decode }) => decode))}`,
		);
	}
	const large = suites.codecs?.rows.find(({ layout, place }) => layout === "random" && place === "large");
	if (large) {
		lines.push(
			`- the worst layout, every frame anywhere, is coded in ${digits(large.octetsPerEntry)} octets an entry, at ` +
				`${withSpread(large.nsPerEntry.encode)} ns`,
		);
	}
	const over = (peer) => span(suites.peers.rows.map(({ toCore }) => toCore[peer]));
	if (suites.peers) {
		lines.push(
			`- the P2M of one domain there and back, times the core: protobuf-es ${over("protobuf-es octets")} as plain octets ` +
				`and ${over("protobuf-es extents")} as extents, flatbuffers ${over("flatbuffers octets")} and ` +
				`${over("flatbuffers extents")}, JSON ${over("JSON words")} as words`,
		);
	}
	const cold = suites.cold?.rows.find(({ variant }) => variant === "cold");
	if (cold) {
		lines.push(`- the first save of a fresh process takes ${withSpread(cold.save.firstToWarm)} times a warm one`);
	}
	const plot = existsSync(join(root, "bench/results/blackout-memory.svg"))
		? "\n\n![Blackout against memory, by layout](bench/results/blackout-memory.svg)"
		: "";
	return `Medians, in parentheses the 10 % and 90 % points, ${date}: ${machineText(machine)}.\n\n${lines.join("\n")}${plot}`;
}

function goalsQuote({ date, machine, goals }) {
	const plots = ["blackout-memory", "blackout-domains", "stages", "peers"]
		.filter((name) => existsSync(join(root, `bench/results/${name}.svg`)))
		.map((name) => `![${name}](../bench/results/${name}.svg)`);
	return [`${date}: ${machineText(machine)}.`, goalTable(goals), ...plots].join("\n\n");
}

const places = [
	{ file: "README.md", quote: readmeQuote },
	{ file: "docs/BENCHMARKS.md", quote: goalsQuote },
];

/** A file's text with what stands between its markers replaced. */
export function quoted(text, block) {
	const pattern = /(<!-- bench:figures -->\n)[\s\S]*?(<!-- \/bench:figures -->)/;
	if (!pattern.test(text)) throw new Error("no place for figures: <!-- bench:figures --> and <!-- /bench:figures -->");
	return text.replace(pattern, (_, from, to) => `${from}${block === "" ? "" : `\n${block}\n\n`}${to}`);
}

function main() {
	const { values } = parseArgs({ options: { check: { type: "boolean" } } });
	const figures = existsSync(join(root, results)) ? JSON.parse(readFileSync(join(root, results), "utf8")) : undefined;
	for (const { file, quote } of places) {
		const path = join(root, file);
		const before = readFileSync(path, "utf8");
		const after = quoted(before, figures ? quote(figures) : "");
		if (after === before) continue;
		if (!values.check) writeFileSync(path, after);
		else {
			console.error(`${file} quotes other figures than ${results}: run node bench/quote.mjs`);
			process.exitCode = 1;
		}
	}
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
