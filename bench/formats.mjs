// node bench/formats.mjs [--gib N] [--turns N]
//
// A libxc image of N GiB (default 4), made here: how fast it is verified from a file and from a pipe, beside a loop that only
// reads the same source, in turn; how much memory that takes; and, where Xen's verify-stream-v2 is at hand (XEN_TOOLS, see
// peers/xen-tools.sh), the rate of that on the same file.
import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, read, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Findings, formats, openSource, StreamReader } from "../dist/index.js";

const PAGES = 1024;
const self = fileURLToPath(import.meta.url);

function makeImage(path, gib) {
	const file = openSync(path, "w");
	const record = (type, body) => {
		const head = Buffer.alloc(8);
		head.writeUInt32LE(type, 0);
		head.writeUInt32LE(body.length, 4);
		writeSync(file, Buffer.concat([head, body, Buffer.alloc(-body.length & 7)]));
	};
	const header = Buffer.alloc(40);
	header.fill(0xff, 0, 8);
	header.write("XENF", 8, "latin1");
	header.writeUInt32BE(3, 12);
	header.writeUInt32LE(2, 24);
	header.writeUInt16LE(12, 28);
	header.writeUInt32LE(4, 32);
	header.writeUInt32LE(17, 36);
	writeSync(file, header);
	record(0x10, Buffer.alloc(0));
	const body = Buffer.alloc(8 + PAGES * 8 + PAGES * 4096);
	body.writeUInt32LE(PAGES, 0);
	// Every eighth page is zero, as in many a guest; the others hold something.
	for (let page = 0; page < PAGES; page++)
		if (page % 8) body.fill(page | 1, 8 + PAGES * 8 + page * 4096, 8 + PAGES * 8 + (page + 1) * 4096);
	for (let batch = 0; batch < gib * 256; batch++) {
		for (let i = 0; i < PAGES; i++) body.writeBigUInt64LE(BigInt(batch * PAGES + i), 8 + 8 * i);
		record(1, body);
	}
	const context = Buffer.alloc(8 + 24 + 8);
	context.writeUInt16LE(1, 0);
	context.writeUInt32LE(24, 4);
	record(9, context);
	record(0, Buffer.alloc(0));
	closeSync(file);
}

/** In a process of its own: reads standard input or a file, and says how long that took and how much memory. */
async function measure(what, path) {
	const start = process.hrtime.bigint();
	let octets = 0;
	if (what === "loop") {
		const file = path === "-" ? 0 : openSync(path, "r");
		const buffer = Buffer.allocUnsafeSlow(1 << 20);
		const next = () =>
			new Promise((resolve, reject) =>
				read(file, buffer, 0, buffer.length, null, (error, length) => (error ? reject(error) : resolve(length))),
			);
		for (let length = await next(); length > 0; length = await next()) octets += length;
	} else {
		const reader = new StreamReader(await openSource(path));
		const findings = new Findings();
		for await (const item of formats
			.find(({ layers }) => layers.includes("libxc"))
			.read(reader, { findings, pages: "skip" }))
			void item;
		octets = reader.offset;
		if (findings.errors.length > 0) throw new Error(findings.errors[0].rule.code);
	}
	const seconds = Number(process.hrtime.bigint() - start) / 1e9;
	console.log(JSON.stringify({ octets, seconds, rssBytes: process.resourceUsage().maxRSS * 1024 }));
}

function child(line) {
	return new Promise((resolve, reject) => {
		const started = spawn("bash", ["-c", line], { stdio: ["ignore", "pipe", "inherit"] });
		let text = "";
		started.stdout.on("data", (part) => {
			text += part;
		});
		started.on("close", (status) => (status === 0 ? resolve(text) : reject(new Error(`${line}: ${status}`))));
	});
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const option = (name, otherwise) => {
	const at = process.argv.indexOf(name);
	return at < 0 ? otherwise : Number(process.argv[at + 1]);
};

async function main() {
	const gib = option("--gib", 4);
	const scratch = mkdtempSync(join(tmpdir(), "xlu-bench-"));
	const file = join(scratch, "image");
	try {
		makeImage(file, gib);
		const rows = [];
		for (const source of ["file", "pipe"]) {
			const line = (what) =>
				source === "file"
					? `${process.execPath} ${self} --measure ${what} ${file}`
					: `cat ${file} | ${process.execPath} ${self} --measure ${what} -`;
			const figures = { loop: [], verify: [] };
			let rssBytes = 0;
			// One turn of each that does not count: the file comes into the cache.
			for (let turn = 0; turn <= option("--turns", 5); turn++) {
				for (const what of ["loop", "verify"]) {
					const found = JSON.parse(await child(line(what)));
					if (turn > 0) figures[what].push(found.octets / found.seconds / 2 ** 30);
					if (what === "verify") rssBytes = Math.max(rssBytes, found.rssBytes);
				}
			}
			const ratios = figures.verify.map((rate, i) => rate / figures.loop[i]).toSorted((a, b) => a - b);
			rows.push([
				source,
				median(figures.loop),
				median(figures.verify),
				median(ratios),
				ratios[0],
				ratios.at(-1),
				rssBytes / 2 ** 20,
			]);
		}
		console.log(`libxc image of ${gib} GiB, one page in eight zero\n`);
		console.log("| source | read loop, GiB/s | verify, GiB/s | verify / loop | memory, MiB |");
		console.log("|---|---:|---:|---:|---:|");
		for (const [source, loop, verify, ratio, low, high, rss] of rows) {
			console.log(
				`| ${source} | ${loop.toFixed(2)} | ${verify.toFixed(2)} | ${ratio.toFixed(2)} (${low.toFixed(2)}-${high.toFixed(2)}) | ${rss.toFixed(0)} |`,
			);
		}
		if (process.env.XEN_TOOLS) {
			const start = process.hrtime.bigint();
			await child(`PYTHONPATH=$XEN_TOOLS/lib/python python3 $XEN_TOOLS/bin/verify-stream-v2 -f libxc -i ${file}`);
			const seconds = Number(process.hrtime.bigint() - start) / 1e9;
			console.log(`\nverify-stream-v2 on the file: ${(gib / seconds).toFixed(2)} GiB/s`);
		}
	} finally {
		rmSync(scratch, { recursive: true });
	}
}

const measured = process.argv.indexOf("--measure");
if (measured > 0) await measure(process.argv[measured + 1], process.argv[measured + 2]);
else await main();
