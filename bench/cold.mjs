/**
 * One fresh process of suites/cold.mjs: what the first save, check and restore take, and what they take once the engine
 * has learnt the module. Prints JSON.
 *
 *   node bench/cold.mjs VARIANT HOST TURNS
 *
 * Variants: cold; touched (the destinations written once before); toy (a toy host taken through another instance of the
 * same module besides); prepare (what the package does in the brown-out, where it has that).
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import * as api from "../dist/index.js";
import { root } from "./build.mjs";
import { summary } from "./harness.mjs";

const [variant, line, turnText] = process.argv.slice(2);
const turns = Number(turnText);
const DOMID_XEN = 0x7ff2;
const TOY = "synthetic:domains=3,memory=8M,layout=typical";

const compile = (file) => new WebAssembly.Module(readFileSync(join(root, "dist", file)));
const module = compile("core.wasm");

/** A host's windows in an instance of the module; nothing has been called but planSave. */
function make(host, from = module) {
	const core = new api.Core(new WebAssembly.Instance(from, {}));
	const image = core.place(api.buildImage(host.model, host.preserved));
	const saving = core.createContext();
	return { host, core, image, saving, out: core.allocate(saving.planSave(image)) };
}

const timed = (work) => {
	const start = performance.now();
	work();
	return performance.now() - start;
};

function save({ saving, image, out }) {
	return saving.save(image, out);
}

function check(made, stream) {
	const { core } = made;
	made.restoring ??= core.createContext();
	made.restoring.open(stream);
	const sizes = made.restoring.plan(stream);
	made.work ??= core.allocate(sizes.workBytes);
	made.target ??= core.allocate(sizes.imageBytes);
	made.memory ??= core.place(
		api.packPreserved(made.host.preserved, core.hash(stream), (octets) => core.hash(core.place(octets))),
	);
	made.restoring.check(stream, made.work, made.memory);
}

function restore({ restoring, target }) {
	const domids = restoring.domids();
	restoring.target(target);
	for (const pass of [0, 1, 2]) {
		if (pass < 2) restoring.restore(pass, DOMID_XEN);
		for (const domid of domids) restoring.restore(pass, domid);
	}
	restoring.finish();
}

/** Sizes of a restore's windows, from the build without SIMD: the one that is timed has not run by then. */
function sizesOf(host) {
	const plain = make(host, compile("core.plain.wasm"));
	const stream = save(plain);
	const context = plain.core.createContext();
	context.open(stream);
	return context.plan(stream);
}

async function warmWithToy() {
	const toy = make(api.loadHost(TOY));
	// As often as the engine needs to take note, with pauses in which its other threads compile.
	for (let i = 0; i < 20; i++) {
		const stream = save(toy);
		check(toy, stream);
		restore(toy);
		if (i % 5 === 4) await sleep(50);
	}
}

const host = api.loadHost(line);
const { workBytes, imageBytes } = sizesOf(host);
const made = make(host);
const isTouched = variant === "touched" || variant === "toy";
if (variant === "toy") await warmWithToy();
if (isTouched) made.core.bytes(made.out).fill(0);
if (variant === "prepare") {
	const { warmModule, windowBytes } = await import("../dist/prepare.js");
	await warmModule(module);
	made.core.bytes(made.out).fill(0);
	made.core.touch(windowBytes(host, made.image.length, made.out.length));
}
const result = { first: {}, warm: {} };
let stream;
result.first.save = timed(() => {
	stream = save(made);
});
// Windows that check needs are made outside its time: the caller has them by then.
const received = made.core.place(made.core.bytes(stream).slice());
made.restoring = made.core.createContext();
made.memory = made.core.place(
	api.packPreserved(host.preserved, made.core.hash(received), (octets) => made.core.hash(made.core.place(octets))),
);
made.work = made.core.allocate(workBytes);
made.target = made.core.allocate(imageBytes);
if (isTouched) {
	made.core.bytes(made.work).fill(0);
	made.core.bytes(made.target).fill(0);
}
result.first.check = timed(() => check(made, received));
result.first.restore = timed(() => restore(made));
const warm = { save: [], check: [], restore: [] };
for (let i = 0; i < turns; i++) {
	warm.save.push(timed(() => save(made)));
	warm.check.push(timed(() => check(made, received)));
	warm.restore.push(timed(() => restore(made)));
	await sleep(1);
}
for (const [name, list] of Object.entries(warm)) result.warm[name] = summary(list.slice(Math.floor(turns / 2))).median;
console.log(JSON.stringify(result));
