/** The 2-level event-channel ABI: pending and mask bits in shared_info, a selector word in each vcpu_info. */
import { portsPerWord, type SharedBitmap, setSharedBit, sharedBit } from "../guestPages.ts";
import type { Domain } from "./domain.ts";
import type { Machine } from "./machine.ts";
import { markEventsPending, vcpuInfo } from "./vcpus.ts";

/** Bits of a domain's shared_info, whose words are as wide as the guest's; undefined for a domain that has none. */
function bitmaps(machine: Machine, { tables, guestWidth }: Domain) {
	if (tables.sharedInfo === undefined) return undefined;
	const page = machine.memory.page(Number(tables.sharedInfo.mfn));
	return {
		get: (bitmap: SharedBitmap, port: number): boolean => sharedBit(page, bitmap, port, guestWidth),
		/** Returns what it was. */
		set: (bitmap: SharedBitmap, port: number, value: boolean): boolean =>
			setSharedBit(page, bitmap, port, value, guestWidth),
	};
}

export function setPending(machine: Machine, domain: Domain, port: number, vcpu: number): void {
	const shared = bitmaps(machine, domain);
	if (shared === undefined || shared.set("pending", port, true)) return;
	if (!shared.get("mask", port)) select(machine, domain, port, vcpu);
}

function select(machine: Machine, domain: Domain, port: number, vcpu: number): void {
	const info = vcpuInfo(machine, domain, vcpu);
	const word = Math.floor(port / portsPerWord(domain.guestWidth));
	if (info && !info.setSelector(word, true)) markEventsPending(machine, domain, vcpu);
}

export function clearPending(machine: Machine, domain: Domain, port: number): void {
	bitmaps(machine, domain)?.set("pending", port, false);
}

export function isPending(machine: Machine, domain: Domain, port: number): boolean {
	return bitmaps(machine, domain)?.get("pending", port) ?? false;
}

export function mask(machine: Machine, domain: Domain, port: number): void {
	bitmaps(machine, domain)?.set("mask", port, true);
}

export function unmask(machine: Machine, domain: Domain, port: number, vcpu: number): void {
	const shared = bitmaps(machine, domain);
	if (shared?.set("mask", port, false) && shared.get("pending", port)) select(machine, domain, port, vcpu);
}

/** The guest's handler: the words that the selector names, lowest port first. Returns the ports that it handled. */
export function drain(machine: Machine, domain: Domain, vcpu: number): number[] {
	const shared = bitmaps(machine, domain);
	const info = vcpuInfo(machine, domain, vcpu);
	const handled: number[] = [];
	if (!shared || !info) return handled;
	info.pending.set(false);
	// As many words as one has bits.
	const words = portsPerWord(domain.guestWidth);
	for (let word = 0; word < words; word++) {
		if (!info.setSelector(word, false)) continue;
		for (let port = word * words; port < (word + 1) * words; port++) {
			if (!shared.get("pending", port) || shared.get("mask", port)) continue;
			shared.set("pending", port, false);
			handled.push(port);
		}
	}
	return handled;
}
