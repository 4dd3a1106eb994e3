/** The 2-level event-channel ABI: pending and mask bits in shared_info, a selector word in each vcpu_info. */
import { setSharedBit, sharedBit } from "../guestPages.ts";
import type { Domain } from "./domain.ts";
import type { Machine } from "./machine.ts";
import { markEventsPending, vcpuInfo } from "./vcpus.ts";

const PORTS_PER_WORD = 64;

const page = (machine: Machine, { tables }: Domain): Uint8Array | undefined =>
	tables.sharedInfo && machine.memory.page(Number(tables.sharedInfo.mfn));

export function setPending(machine: Machine, domain: Domain, port: number, vcpu: number): void {
	const shared = page(machine, domain);
	if (shared === undefined || setSharedBit(shared, "pending", port, true)) return;
	if (!sharedBit(shared, "mask", port)) select(machine, domain, port, vcpu);
}

function select(machine: Machine, domain: Domain, port: number, vcpu: number): void {
	const info = vcpuInfo(machine, domain, vcpu);
	if (info && !info.setSelector(Math.floor(port / PORTS_PER_WORD), true)) markEventsPending(machine, domain, vcpu);
}

export function clearPending(machine: Machine, domain: Domain, port: number): void {
	const shared = page(machine, domain);
	if (shared) setSharedBit(shared, "pending", port, false);
}

export function isPending(machine: Machine, domain: Domain, port: number): boolean {
	const shared = page(machine, domain);
	return shared !== undefined && sharedBit(shared, "pending", port);
}

export function mask(machine: Machine, domain: Domain, port: number): void {
	const shared = page(machine, domain);
	if (shared) setSharedBit(shared, "mask", port, true);
}

export function unmask(machine: Machine, domain: Domain, port: number, vcpu: number): void {
	const shared = page(machine, domain);
	if (shared && setSharedBit(shared, "mask", port, false) && sharedBit(shared, "pending", port))
		select(machine, domain, port, vcpu);
}

/** The guest's handler: the words that the selector names, lowest port first. Returns the ports that it handled. */
export function drain(machine: Machine, domain: Domain, vcpu: number): number[] {
	const shared = page(machine, domain);
	const info = vcpuInfo(machine, domain, vcpu);
	const handled: number[] = [];
	if (!shared || !info) return handled;
	info.pending.set(false);
	for (let word = 0; word < PORTS_PER_WORD; word++) {
		if (!info.setSelector(word, false)) continue;
		for (let port = word * PORTS_PER_WORD; port < (word + 1) * PORTS_PER_WORD; port++) {
			if (!sharedBit(shared, "pending", port) || sharedBit(shared, "mask", port)) continue;
			setSharedBit(shared, "pending", port, false);
			handled.push(port);
		}
	}
	return handled;
}
