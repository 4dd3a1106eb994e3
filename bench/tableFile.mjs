/** Tables and the core's codings of them in a file for the peers; bench/native/peer.c has its layout. */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { output } from "./build.mjs";

const ALIGN = 64;
const aligned = (bytes) => Math.ceil(bytes / ALIGN) * ALIGN;

/**
 * @param tables `{ elementBytes, table, coding }` each, table and coding as octets
 * @returns the file's name; `removeTableFile` when the peers have read it
 */
export function writeTableFile(name, tables) {
	const head = new BigUint64Array(aligned(8 + 24 * tables.length) / 8);
	head[0] = BigInt(tables.length);
	tables.forEach(({ elementBytes, table, coding }, i) => {
		head.set([BigInt(elementBytes), BigInt(table.length / elementBytes), BigInt(coding.length)], 1 + 3 * i);
	});
	const parts = [new Uint8Array(head.buffer)];
	for (const { table, coding } of tables) {
		for (const octets of [table, coding]) {
			parts.push(octets, new Uint8Array(aligned(octets.length) - octets.length));
		}
	}
	mkdirSync(output, { recursive: true });
	// Processes may run side by side, as tests do.
	const file = join(output, `${name}.${process.pid}.tables`);
	writeFileSync(file, parts[0]);
	for (const part of parts.slice(1)) writeFileSync(file, part, { flag: "a" });
	return file;
}

export function removeTableFile(file) {
	rmSync(file, { force: true });
}
