/** The HVM context of a living PVH or HVM guest: a CPU entry for each vCPU that is up, between HEADER and END. */
import {
	HVM_DESCRIPTOR_BYTES,
	type HvmEntry,
	hvmCpu,
	hvmEntryTypes,
	readHvmContext,
} from "../../formats/hvm/context.ts";
import type { Domain } from "./domain.ts";

const typeOf = (name: string): number =>
	Number(Object.keys(hvmEntryTypes).find((type) => hvmEntryTypes[Number(type)]?.name === name));
const HEADER = typeOf("HEADER");
const CPU = typeOf("CPU");
const END = typeOf("END");
const HVM_MAGIC = 0x5438_1286;
const MTRR_RESET_RIP = 0xfff0n;

type Entry = Pick<HvmEntry, "type" | "instance" | "body">;

function write(entries: readonly Entry[]): Uint8Array {
	const context = new Uint8Array(entries.reduce((sum, { body }) => sum + HVM_DESCRIPTOR_BYTES + body.length, 0));
	const view = new DataView(context.buffer);
	let at = 0;
	for (const { type, instance, body } of entries) {
		view.setUint16(at, type, true);
		view.setUint16(at + 2, instance, true);
		view.setUint32(at + 4, body.length, true);
		context.set(body, at + HVM_DESCRIPTOR_BYTES);
		at += HVM_DESCRIPTOR_BYTES + body.length;
	}
	return context;
}

const read = ({ tables }: Domain): HvmEntry[] => readHvmContext(tables.hvmContext ?? new Uint8Array(0));

/** A context without any vCPU. */
export function emptyHvmContext(): Uint8Array {
	const header = new Uint8Array(hvmEntryTypes[HEADER]?.length ?? 0);
	new DataView(header.buffer).setUint32(0, HVM_MAGIC, true);
	return write([
		{ type: HEADER, instance: 0, body: header },
		{ type: END, instance: 0, body: new Uint8Array(0) },
	]);
}

/** vCPUs that have a CPU entry. */
export function cpuEntries(domain: Domain): number[] {
	return read(domain)
		.filter(({ type }) => type === CPU)
		.map(({ instance }) => instance);
}

/** A vCPU comes up in its reset state. */
export function placeCpuEntry(domain: Domain, vcpu: number): void {
	const entries: Entry[] = read(domain);
	const body = new Uint8Array(hvmCpu.size);
	setField(body, "rip", MTRR_RESET_RIP);
	setField(body, "rflags", 2n);
	const behind = entries.findIndex(({ type, instance }) => type !== HEADER && (type !== CPU || instance > vcpu));
	entries.splice(behind, 0, { type: CPU, instance: vcpu, body });
	domain.tables.hvmContext = write(entries);
}

/** A vCPU that is down has no registers to save. */
export function removeCpuEntry(domain: Domain, vcpu: number): void {
	const entries = read(domain).filter(({ type, instance }) => type !== CPU || instance !== vcpu);
	domain.tables.hvmContext = write(entries);
}

function setField(body: Uint8Array, name: string, value: bigint): void {
	const field = hvmCpu.fields.find((entry) => entry.name === name);
	if (field === undefined) throw new Error(`hvm_hw_cpu has no ${name}`);
	new DataView(body.buffer, body.byteOffset).setBigUint64(field.offset, value, true);
}

export function setCpuRegister(domain: Domain, vcpu: number, name: string, value: bigint): void {
	const entry = read(domain).find(({ type, instance }) => type === CPU && instance === vcpu);
	if (entry) setField(entry.body, name, value);
}
