/**
 * What goes on in a machine beside its state: accesses of guests that wait for an emulator, and what Xen has begun and
 * not ended. No image holds any of it: before a live update the first must have been answered, and of the second there
 * must be none (../quiesce.ts).
 */
import { IOREQ_FLAG } from "../../format/enums.ts";
import type { ContinuationKind } from "../quiesce.ts";
import { need } from "./errno.ts";
import type { Machine } from "./machine.ts";

/** A guest touches what an I/O request server has claimed: its vCPU waits in Xen until the emulator answers. */
export function sendRequest(machine: Machine, domid: number, vcpu: number, id: number, turns: number): number {
	const guest = machine.living(domid);
	need(guest.isOnline(vcpu), "EINVAL");
	const server = guest.tables.ioreqServerList.find(({ serverId }) => serverId === id);
	need(server !== undefined, "ENOENT");
	need((server.flags & IOREQ_FLAG.enabled) !== 0, "ENOENT");
	need(turns > 0, "EINVAL");
	need(!machine.requests.some((request) => request.domid === domid && request.vcpu === vcpu), "EBUSY");
	machine.requests.push({ domid, vcpu, server: id, emulator: server.emulator, turns });
	return 0;
}

/** The emulator answers a vCPU's request. */
export function answerRequest(machine: Machine, emulator: number, domid: number, vcpu: number): number {
	machine.living(emulator);
	const at = machine.requests.findIndex((request) => request.domid === domid && request.vcpu === vcpu);
	need(at >= 0, "ENOENT");
	need(machine.requests[at]?.emulator === emulator, "EPERM");
	machine.requests.splice(at, 1);
	return 0;
}

/** Requests that nobody will answer any more, or that nobody waits for. */
export function forgetRequests(machine: Machine, gone: (request: Machine["requests"][number]) => boolean): void {
	machine.requests.splice(0, machine.requests.length, ...machine.requests.filter((request) => !gone(request)));
}

/** Xen begins what it does piece by piece, of a domain or, with `domid` undefined, of the host. */
export function beginContinuation(machine: Machine, kind: ContinuationKind, domid?: number): number {
	if (domid !== undefined) machine.domain(domid);
	need(!machine.continuations.some((one) => one.kind === kind && one.domid === domid), "EBUSY");
	machine.continuations.push(domid === undefined ? { kind } : { kind, domid });
	return 0;
}

/** It has ended. */
export function endContinuation(machine: Machine, kind: ContinuationKind, domid?: number): number {
	if (domid !== undefined) machine.domain(domid);
	const at = machine.continuations.findIndex((one) => one.kind === kind && one.domid === domid);
	need(at >= 0, "ENOENT");
	machine.continuations.splice(at, 1);
	return 0;
}
