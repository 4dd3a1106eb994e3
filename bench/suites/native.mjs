/**
 * The core in this engine against native code that writes the same stream: C at -O3 -march=native, the same C as a
 * hypervisor is built, and the core itself through wasm2c. Each peer is a process that shows that it writes the same octets
 * before it is timed, and then takes turns with the others, one short run each.
 */
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildCodecPeer, buildHostPeer, codecPeers, output } from "../build.mjs";
import { CodecMemory, codingRoom } from "../codecMemory.mjs";
import { alternate, ratio, repeat, scaled, summaries, took } from "../harness.mjs";
import { HostBench } from "../hostBench.mjs";
import { makeTable } from "../layouts.mjs";
import { PeerProcess } from "../peerProcess.mjs";
import { removeTableFile, writeTableFile } from "../tableFile.mjs";

export const name = "native";
export const title = "Against native code";
export const weight = { quick: 22, full: 20 };

/** A P2M and as many frames' ownership: the two big tables of a host in each layout. */
const sets = { superpages: ["superpages", "own"], runs: ["runs", "own"], random: ["random", "own"] };
const sizes = {
	tiny: { cached: 2 ** 13 },
	quick: { large: 2 ** 21, cached: 2 ** 13 },
	full: { large: 2 ** 22, cached: 2 ** 13 },
};
const hosts = {
	tiny: ["domains=1,memory=4M,layout=typical"],
	quick: ["domains=4,memory=512M,layout=typical"],
	full: ["superpages", "typical", "fragmented"].map((layout) => `domains=10,memory=512M,layout=${layout}`),
};

export async function run({ size, clock, log }) {
	const { programs, skipped } = build(Object.keys(codecPeers), buildCodecPeer, log);
	const flavours = build(["simd", "plain"], buildHostPeer, log, (flavour) => `whole host through wasm2c, ${flavour}`);
	const jobs = Object.entries(sizes[size]).flatMap(([place, entries]) =>
		Object.keys(sets).map((layout) => ({ place, entries, layout })),
	);
	const hostJobs = hosts[size].map((line) => `synthetic:${line}`);
	let left = jobs.length + hostJobs.length;
	const rows = [];
	for (const job of jobs) {
		if (Object.keys(programs).length === 0) break;
		log(`${job.layout}, ${job.place}`);
		rows.push(await measureTables(job, programs, clock.part(1, left--)));
	}
	const hostRows = [];
	for (const line of hostJobs) {
		if (Object.keys(flavours.programs).length === 0) break;
		log(line.slice("synthetic:".length));
		hostRows.push(await measureHosts(line, flavours.programs, clock.part(1, left--)));
	}
	return { rows, hosts: hostRows, skipped: [...skipped, ...flavours.skipped] };
}

function build(names, make, log, describe = (name) => name) {
	const programs = {};
	const skipped = [];
	for (const peer of names) {
		const { program, reason } = make(peer);
		if (program) programs[peer] = program;
		else {
			skipped.push({ peer: describe(peer), reason });
			log(`${describe(peer)}: left out, ${reason}`);
		}
	}
	return { programs, skipped };
}

async function measureTables({ place, entries, layout }, programs, clock) {
	const memory = new CodecMemory();
	const out = memory.allocate(2 * codingRoom(entries));
	const tables = sets[layout].map((kind) => {
		const table = memory.place(makeTable(kind, entries));
		const bytes = memory.encode(table, entries, out);
		const coding = memory.place(memory.bytes(out, bytes).slice());
		return { table, bytes, coding, target: memory.allocate(entries * 8) };
	});
	const file = writeTableFile(
		`${layout}-${place}`,
		tables.map(({ table, bytes, coding }) => ({
			elementBytes: 8,
			table: memory.bytes(table, entries * 8),
			coding: memory.bytes(coding, bytes),
		})),
	);
	const peers = {};
	try {
		for (const [peer, program] of Object.entries(programs)) peers[peer] = await PeerProcess.start(program, [file]);
		const times = Math.max(1, Math.floor(2 ** 19 / entries));
		const candidates = {
			"core encode": repeat(times, () => {
				let at = out;
				for (const { table } of tables) at += memory.encode(table, entries, at);
			}),
			"core decode": repeat(times, () => {
				for (const { coding, bytes, target } of tables) memory.decode(coding, bytes, entries, target);
			}),
			"core copy": repeat(times, () => {
				for (const { table, target } of tables) memory.exports.copyOnce(target, table, entries * 8);
			}),
		};
		for (const [peer, running] of Object.entries(peers)) {
			for (const command of ["encode", "decode", "copy"]) {
				candidates[`${peer} ${command}`] = async () => took(await running.run(command, times));
			}
		}
		const { samples } = await alternate(candidates, { clock, warm: 2, least: 7, most: 61 });
		const octets = tables.reduce((sum, { bytes }) => sum + bytes, 0);
		return { place, layout, entries, octetsPerEntry: octets / (2 * entries), ...against(samples, Object.keys(peers)) };
	} finally {
		for (const running of Object.values(peers)) await running.stop();
		removeTableFile(file);
	}
}

/** The core's time over each peer's, and all times. */
function against(samples, peers, operations = ["encode", "decode"]) {
	const core = Object.fromEntries(
		peers.map((peer) => [
			peer,
			Object.fromEntries(operations.map((what) => [what, ratio(samples[`core ${what}`], samples[`${peer} ${what}`])])),
		]),
	);
	return { ms: summaries(samples), coreToPeer: core };
}

async function measureHosts(line, programs, clock) {
	const bench = new HostBench(line);
	const files = ["image", "received", "memory"].map((window) => {
		const file = join(output, `host.${process.pid}.${window}`);
		writeFileSync(file, bench.core.bytes(bench[window]));
		return file;
	});
	const peers = {};
	try {
		for (const [flavour, program] of Object.entries(programs)) {
			peers[`wasm2c ${flavour}`] = await PeerProcess.start(program, files);
		}
		const candidates = {
			"core save": () => bench.save(),
			core: () => {
				const { check, restore } = bench.checkAndRestore();
				return took({ "core check": check, "core restore": restore });
			},
		};
		for (const [peer, running] of Object.entries(peers)) {
			for (const command of ["save", "check", "restore"])
				candidates[`${peer} ${command}`] = async () => took(await running.run(command));
		}
		const { samples } = await alternate(candidates, { clock, warm: 2, least: 5, most: 41 });
		const { ms, coreToPeer } = against(samples, Object.keys(peers), ["save", "check", "restore"]);
		const nsPerPage = Object.fromEntries(Object.entries(ms).map(([key, row]) => [key, scaled(row, 1e6 / bench.pages)]));
		return { ...bench.describe(), ms, nsPerPage, coreToPeer };
	} finally {
		for (const running of Object.values(peers)) await running.stop();
		for (const file of files) rmSync(file, { force: true });
	}
}
