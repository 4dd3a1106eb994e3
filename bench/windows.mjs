#!/usr/bin/env node
// A host whose tables do not fit 4 GiB of linear memory: saved in steps through a small window, its stream opened and
// checked, restored window by window into detached tables, saved again from these; digests and streams compared.
//
//   node bench/windows.mjs [--domains N] [--memory GiB] [--rows MiB] [--times N] [--json FILE]
//
// The host is a synthetic one of small guests, dom0 among them, whose PVH and HVM guests, N of them (96), have so much memory
// more (8 GiB each): 2 MiB pages dealt out in turn, so that neither owners nor P2Ms have a run beyond 2 MiB, and one in a
// hundred of them broken into pieces of 8 frames in another order. What they have more is not held anywhere: its rows are made
// as they are asked for. The restored tables are held, outside the core's memory.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { DOMID, FRAME, P2M_BITS, P2M_ORDER } from "../dist/format/enums.js";
import { readStruct, writeStruct } from "../dist/format/layout.js";
import { domainTables, hostTables, imageStructs } from "../dist/format/schema.js";
import { describeMachine, machineText } from "./machine.mjs";
import {
	buildDetachedImage,
	countReferences,
	digestInSteps,
	gather,
	loadCore,
	loadHost,
	packPreserved,
	restoreInWindows,
	saveInSteps,
	viewImage,
} from "./package.mjs";

const { values } = parseArgs({
	options: {
		domains: { type: "string", default: "96" },
		memory: { type: "string", default: "8" },
		rows: { type: "string", default: "8" },
		times: { type: "string", default: "3" },
		json: { type: "string" },
	},
});
const GIB = 2 ** 30;
const BLOCK = 512;
const rowsBytes = Number(values.rows) * 2 ** 20;
const moreFrames = (Number(values.memory) * GIB) / 4096;
const guests = Number(values.domains);
/** Pieces of a broken block, and by what its pieces are reordered: odd, so that each is hit once. */
const PIECE = 8;
const REORDER = 27;

/** One block in a hundred, always the same ones. */
const isBroken = (block) => Math.imul(block, 0x9e3779b1) >>> 0 < 2 ** 32 / 100;

/** The host: an image, detached, and rows on demand. */
function makeHost() {
	// Guests are PV, PVH and HVM in turn: two thirds of them have P2Ms.
	const { model, preserved } = loadHost(
		`synthetic:domains=${Math.ceil((guests * 3) / 2)},memory=16M,vcpus=2,layout=superpages,ports=16,grants=16,seed=1`,
	);
	const grown = model.domains.filter(({ p2m }) => p2m !== undefined).slice(0, guests);
	for (const { domain } of grown) domain.maxPages = Number(domain.maxPages) + moreFrames;
	const references = countReferences(model, preserved);
	for (const { domain } of grown) references.domains.get(domain.domid).frames += moreFrames;
	const { image, bulk } = buildDetachedImage(model, preserved, references);
	const places = new Map(grown.map(({ domain }, place) => [domain.domid, place]));
	// Above 4 GiB: below it stand the devices' frames.
	const firstFrame = Math.max(2 ** 20, Math.ceil(model.frameOwners.length / BLOCK) * BLOCK);
	const frames = firstFrame + grown.length * moreFrames;
	const known = new Map(bulk.map(({ domid, table, bytes }) => [`${domid ?? "host"} ${table.name}`, bytes]));
	const firstGfns = new Map(
		grown.map(({ domain: { domid } }) => [domid, Math.ceil(known.get(`${domid} P2m`).length / 8 / BLOCK) * BLOCK]),
	);
	setFigures(image, frames, (domid) => (places.has(domid) ? firstGfns.get(domid) + moreFrames : undefined));
	const ownerBits = FRAME.owned | FRAME.allocated;
	const domids = grown.map(({ domain }) => domain.domid);
	const entryBits = (order) => ((order << (P2M_BITS.order - 32)) | (1 << (P2M_BITS.present - 32)) | ramBits) >>> 0;
	/** Type and access of ordinary memory, from an entry of the first grown domain's own superpage-less memory. */
	const ramBits = new Uint32Array(known.get(`${domids[0]} P2m`).buffer.slice(0, 8))[1] & 0xffff;
	const [whole, broken] = [entryBits(P2M_ORDER["2M"]), entryBits(P2M_ORDER["4K"])];

	/** Block `block` of the guest at `place` lies at this frame. */
	const frameOf = (place, block) => firstFrame + (block * domids.length + place) * BLOCK;
	const makers = {
		P2m: (halves, at, gfn, { domid }) => {
			const own = gfn - firstGfns.get(domid);
			const block = Math.floor(own / BLOCK);
			const within = own % BLOCK;
			const first = frameOf(places.get(domid), block);
			if (!isBroken(block)) {
				halves[at] = first + within;
				halves[at + 1] = whole;
				return;
			}
			const piece = (Math.floor(within / PIECE) * REORDER) % (BLOCK / PIECE);
			halves[at] = first + piece * PIECE + (within % PIECE);
			halves[at + 1] = broken;
		},
		FrameOwners: (halves, at, mfn) => {
			halves[at] = ownerBits | domids[Math.floor((mfn - firstFrame) / BLOCK) % domids.length];
			halves[at + 1] = 0;
		},
		FrameCounts: (halves, at) => {
			halves[at] = 1;
			halves[at + 1] = 0;
		},
	};
	const source = {
		read(table, first, rows) {
			const have = known.get(`${table.domid ?? "host"} ${table.name}`);
			const from = first * table.rowBytes;
			const part = have.subarray(Math.min(from, have.length), Math.min(from + rows.length, have.length));
			rows.set(part);
			const start = table.domid === undefined ? firstFrame : (firstGfns.get(table.domid) ?? Number.POSITIVE_INFINITY);
			const end = first + rows.length / table.rowBytes;
			const made = Math.min(Math.max(first, start), end);
			rows.fill(0, part.length, (made - first) * table.rowBytes);
			const make = makers[table.name];
			if (!make) {
				rows.fill(0, (made - first) * table.rowBytes);
				return;
			}
			const halves = new Uint32Array(rows.buffer, rows.byteOffset, rows.length / 4);
			for (let row = made; row < end; row++) make(halves, 2 * (row - first), row, table);
		},
	};
	const p2mRows = [...firstGfns.values()].reduce((sum, first) => sum + first + moreFrames, 0);
	return { image, source, preserved, frames, p2mRows, domains: model.domains.length };
}

/** What an image says of its size, where it is another one: rows of tables, figures in heads. */
function setFigures(image, frames, gfnsOf) {
	const { view, host, domains } = viewImage(image);
	const set = ({ table: { row }, offset }, change) =>
		writeStruct(row, view, offset, change(readStruct(row, view, offset)));
	const rows = imageStructs.TableRef.fields.find(({ name }) => name === "count").offset;
	const setCount = (domain, name, count) => view.setUint32(tableRefAt(domain, name) + rows, count, true);
	for (const name of ["FrameOwners", "FrameTypes", "FrameCounts"]) setCount(undefined, name, frames);
	set(
		host.find(({ table }) => table.name === "Host"),
		(row) => ({ ...row, frameCount: BigInt(frames) }),
	);
	domains.forEach(({ domid, tables }, i) => {
		const gfns = gfnsOf(domid);
		if (gfns === undefined) return;
		setCount(i, "P2m", gfns);
		set(
			tables.find(({ table }) => table.name === "P2mInfo"),
			(row) => ({ ...row, highestGfn: BigInt(gfns - 1) }),
		);
	});
}

/** Where a table's reference stands in an image: of the host, or of a domain by its place. */
function tableRefAt(domain, name) {
	const { ImageRoot, TableRef, DomainEntry } = imageStructs;
	if (domain === undefined) return ImageRoot.size + hostTables.findIndex((one) => one.name === name) * TableRef.size;
	const directories = ImageRoot.size + hostTables.length * TableRef.size;
	const entry = directories + domain * (DomainEntry.size + domainTables.length * TableRef.size);
	return entry + DomainEntry.size + domainTables.findIndex((one) => one.name === name) * TableRef.size;
}

/** Tables that are held whole, each in octets of its own, which are made beforehand. */
class HeldTables {
	#tables = new Map();

	constructor(image) {
		const { host, domains } = viewImage(image);
		for (const { table, count } of host) if (table.name.startsWith("Frame")) this.#make(undefined, table, count);
		for (const { domid, tables } of domains) {
			for (const { table, count } of tables) if (table.name === "P2m") this.#make(domid, table, count);
		}
	}

	#make(domid, table, count) {
		const bytes = new Uint8Array(count * table.row.size);
		// Touched, so that no restore waits for the machine to find it.
		for (let at = 0; at < bytes.length; at += 4096) bytes[at] = 0xa5;
		this.#tables.set(`${domid ?? "host"} ${table.name}`, bytes);
	}

	#of({ domid, name, rowBytes }, first, length) {
		const from = first * rowBytes;
		return this.#tables.get(`${domid ?? "host"} ${name}`).subarray(from, from + length);
	}

	read(table, first, rows) {
		rows.set(this.#of(table, first, rows.length));
	}

	write(table, first, rows) {
		this.#of(table, first, rows.length).set(rows);
	}

	bytes(names) {
		let sum = 0;
		for (const [key, { length }] of this.#tables) if (names.some((name) => key.endsWith(name))) sum += length;
		return sum;
	}

	/** A copy of tables, GiB by GiB, into memory that no cache holds. */
	copy(names, to) {
		for (const [key, bytes] of this.#tables) {
			if (!names.some((name) => key.endsWith(name))) continue;
			for (let at = 0; at < bytes.length; at += to.length) {
				to.set(bytes.subarray(at, Math.min(at + to.length, bytes.length)));
			}
		}
	}
}

async function timed(work) {
	const start = performance.now();
	const result = await work();
	return [performance.now() - start, result];
}

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

/** Several times over: the median, the least and the most. */
async function several(work) {
	const all = [];
	let result;
	for (let i = 0; i < Number(values.times); i++) {
		const [ms, value] = await timed(work);
		all.push(ms);
		result = value;
	}
	return { ms: median(all), low: Math.min(...all), high: Math.max(...all), result };
}

/** All of a stream but its octets: how long it is and what it hashes to, with pieces taken as they come. */
async function drain(pieces) {
	let octets = 0;
	for await (const { offset, bytes } of pieces) octets = Math.max(octets, offset + bytes.length);
	return octets;
}

const machine = describeMachine();
console.log(machineText(machine));
const host = makeHost();
const pages = guests * moreFrames;
const tableGib = (17 * host.frames + 8 * host.p2mRows) / GIB;
console.log(
	`host: ${host.domains} domains, ${guests} of them with ${values.memory} GiB more; ${((host.frames * 4096) / GIB).toFixed(1)} GiB of frames; tables ${tableGib.toFixed(2)} GiB`,
);

// xen#1: the stream, from rows that are made as they are asked for.
const saving = await loadCore();
const image = saving.place(host.image);
const stream = await gather(saveInSteps(saving, image, host.source, { rowsBytes }));
const savedDigest = await digestInSteps(saving, image, host.source, { rowsBytes });
const savingBytes = saving.memoryBytes;

// xen#2: check, then the passes.
const core = await loadCore();
const window = core.place(stream);
const packed = packPreserved(host.preserved, core.hash(window), (octets) => core.hash(core.place(octets)));
const memory = core.place(packed);
const context = core.createContext();
const opened = await several(() => {
	context.open(window, { detached: true });
	return context.plan(window);
});
const work = core.allocate(opened.result.workBytes);
const checked = await several(() => {
	context.open(window, { detached: true });
	context.plan(window);
	context.check(window, work, memory);
});
const target = core.allocate(opened.result.imageBytes);
context.target(target);
context.restore(0, DOMID.XEN);
const held = new HeldTables(core.bytes(target));
// Begins anew: what was laid out above was only to know how large the tables are.
const again = async () => {
	context.open(window, { detached: true });
	context.plan(window);
	context.check(window, work, memory);
	context.target(target);
};
const restored = [];
for (let i = 0; i < Number(values.times); i++) {
	await again();
	const next = core.memoryBytes;
	const [ms] = await timed(() => restoreInWindows(core, context, target, held, { rowsBytes }));
	restored.push(ms);
	if (i === 0) restored.grown = core.memoryBytes - next;
}
const restoredDigest = await digestInSteps(core, target, held, { rowsBytes });
const restoringBytes = core.memoryBytes;

// The same stream from tables that are held: what a save in steps takes.
const third = await loadCore();
const finished = third.place(core.bytes(target).slice());
const second = await gather(saveInSteps(third, finished, held, { rowsBytes }));
const isSame = Buffer.compare(second, stream) === 0;
const resaved = await several(() => drain(saveInSteps(third, finished, held, { rowsBytes })));
const scratch = new Uint8Array(GIB).fill(1);
const big = ["P2m", "FrameOwners"];
const all = [...big, "FrameTypes", "FrameCounts"];
const copyBig = await several(() => held.copy(big, scratch));
const copyAll = await several(() => held.copy(all, scratch));

const row = (name, { ms, low, high }, copy) => {
	const spread = `${(low / 1000).toFixed(2)}-${(high / 1000).toFixed(2)} s`;
	const ratio = copy
		? `, ${(ms / copy.ms).toFixed(2)} x copy of ${copy === copyBig ? "the two big" : "all"} tables`
		: "";
	console.log(
		`${name.padEnd(28)} ${(ms / 1000).toFixed(2)} s (${spread}), ${((ms * 1e6) / pages).toFixed(2)} ns/page${ratio}`,
	);
};
const restoreRow = { ms: median(restored), low: Math.min(...restored), high: Math.max(...restored) };
console.log(
	`stream: ${stream.length} octets, ${((stream.length * 8) / (host.frames + host.p2mRows)).toFixed(3)} bits an entry`,
);
row("copy of P2Ms and owners", copyBig);
row("copy of all tables", copyAll);
row("save in steps", resaved, copyBig);
row("open and plan", opened);
row("open, plan, check", checked);
row("restore in windows", restoreRow, copyAll);
console.log(
	`memory of the core: save ${(savingBytes / 2 ** 20).toFixed(1)} MiB, restore ${(restoringBytes / GIB).toFixed(2)} GiB`,
);
console.log(`memory of the process: ${(process.resourceUsage().maxRSS / 2 ** 20).toFixed(2)} GiB at the most`);
console.log(
	`digest ${savedDigest === restoredDigest ? "equal" : "DIFFERS"}, stream saved again ${isSame ? "equal" : "DIFFERS"}`,
);
if (savedDigest !== restoredDigest || !isSame) process.exitCode = 1;
if (values.json) {
	const figures = { copyBig, copyAll, save: resaved, opened, checked, restore: restoreRow };
	const sizes = { frames: host.frames, p2mRows: host.p2mRows, stream: stream.length, savingBytes, restoringBytes };
	writeFileSync(values.json, `${JSON.stringify({ machine, sizes, figures }, null, "\t")}\n`);
}
