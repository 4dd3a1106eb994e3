/**
 * Quiesce: every vCPU at a boundary at which it can be restarted, no request in flight (T1); and nothing begun that xen#2
 * could not go on with (T2).
 *
 *     needNoContinuations: refused, nobody was paused
 *     quiesce: every vCPU that waits for no emulator stops ─┬─ emulators answer, turn by turn; whose request has ended stops ─┐
 *                                                  └─ too late: everybody goes on, refused ─────────────────────────┘
 *     the emulators stop: unprivileged ones first, dom0 last
 *
 * What is in flight and what has been begun is no part of an image: a live update waits until the first is gone, and does
 * not begin while there is any of the second. Time is counted in turns, of a millisecond each: in a turn every emulator
 * that still runs serves each of its requests once.
 */
import { type Problem, XluError } from "../errors.ts";

/** An access of a guest that waits for its emulator: an ioreq that is pending or in service. */
export interface IoRequest {
	/** The guest, and its vCPU, which is blocked in Xen until the answer comes. */
	readonly domid: number;
	readonly vcpu: number;
	/** I/O request server, and the domain that serves it. */
	readonly server: number;
	readonly emulator: number;
	/** Turns that the emulator still needs, at least 1. */
	turns: number;
}

/** What Xen does piece by piece, and cannot stop in the middle of for another Xen to go on (T2). */
export const continuationKinds = {
	"sysctl-tasklet": "a system-control tasklet (CPU hotplug, microcode, core parking) has not ended",
	"domain-teardown": "its teardown is half done (DOMDYING_dying)",
	"evtchn-reset": "a reset of its event channels is half done",
	"page-table": "an operation on its page tables is half done (partially validated type, old_guest_table)",
	"blocked-in-xen": "a vCPU is blocked in Xen, with what it waits for on a stack that does not travel",
} as const;
export type ContinuationKind = keyof typeof continuationKinds;

export interface Continuation {
	readonly kind: ContinuationKind;
	/** Absent for the host's own. */
	readonly domid?: number;
	readonly vcpu?: number;
}

/** What goes on in a host beside its state. */
export interface Activity {
	readonly requests: readonly IoRequest[];
	readonly continuations: readonly Continuation[];
}

/** What quiesce has to know of a domain. */
export interface RunningDomain {
	readonly domid: number;
	/** vCPUs that are up, if the domain lives. */
	readonly vcpus: readonly number[];
	/** It would not run if it were asked to: paused by the toolstack, shut down, dead. */
	readonly isStopped: boolean;
	readonly isPrivileged: boolean;
}

/** A vCPU that stopped, and in which turn: 0 at once. */
export interface Stop {
	readonly domid: number;
	readonly vcpu: number;
	readonly turn: number;
}

/** Turns after which a request is given up: a second, at which guests' own I/O has long timed out. */
export const QUIESCE_TURNS = 1000;

function refuse(requirement: "T1" | "T2", problems: readonly Problem[]): never {
	const [first] = problems as [Problem];
	const more = problems.length > 1 ? `, and ${problems.length - 1} more` : "";
	throw new XluError(
		"XLU_E_QUIESCE",
		`The host cannot be quiesced: ${first.field}: ${first.got}${more} (${requirement}).`,
		{
			field: first.field,
			expected: first.expected,
			got: first.got,
			problems,
		},
	);
}

const placeOf = ({ domid, vcpu }: { domid?: number; vcpu?: number }): string => {
	if (domid === undefined) return "host";
	return vcpu === undefined ? `domain ${domid}` : `domain ${domid}, vCPU ${vcpu}`;
};

/**
 * Refuses what another Xen could not go on with, before anybody is paused.
 * @throws XLU_E_QUIESCE: each of them by name
 */
export function needNoContinuations({ continuations }: Activity): void {
	if (continuations.length === 0) return;
	refuse(
		"T2",
		continuations.map((one) => ({
			field: placeOf(one),
			expected: "nothing that another hypervisor could not go on with",
			got: `${one.kind}: ${continuationKinds[one.kind]}`,
		})),
	);
}

/**
 * Stops all domains.
 * @param domains of the host, in any order
 * @param requests in flight; they are not changed
 * @param mostTurns that they are waited for
 * @returns every vCPU in the order in which it stopped
 * @throws XLU_E_QUIESCE, and then nobody stays paused: each request that no emulator has answered in time
 */
export function quiesce(
	domains: readonly RunningDomain[],
	requests: readonly IoRequest[],
	mostTurns: number = QUIESCE_TURNS,
): Stop[] {
	const stops: Stop[] = [];
	const running = new Map(
		domains.filter(({ isStopped }) => !isStopped).map((domain) => [domain.domid, new Set(domain.vcpus)]),
	);
	const stop = (domid: number, vcpu: number, turn: number): void => {
		if (running.get(domid)?.delete(vcpu)) stops.push({ domid, vcpu, turn });
	};
	let pending = requests.map((request) => ({ ...request }));
	// Whoever serves runs on, and so does whoever serves an emulator that waits itself.
	const servers = new Set(pending.map(({ emulator }) => emulator));
	const waits = (domid: number, vcpu: number): boolean =>
		pending.some((request) => request.domid === domid && request.vcpu === vcpu);
	for (const { domid, vcpus } of domains) {
		if (servers.has(domid)) continue;
		for (const vcpu of vcpus) if (!waits(domid, vcpu)) stop(domid, vcpu, 0);
	}
	let turn = 0;
	while (pending.length > 0 && turn < mostTurns) {
		turn++;
		for (const request of pending) {
			// An emulator all of whose vCPUs wait themselves cannot serve.
			const serving = running.get(request.emulator);
			if (serving && [...serving].some((vcpu) => !waits(request.emulator, vcpu))) request.turns--;
		}
		const answered = pending.filter(({ turns }) => turns <= 0);
		pending = pending.filter(({ turns }) => turns > 0);
		for (const { domid, vcpu } of answered) {
			if (!servers.has(domid) && !waits(domid, vcpu)) stop(domid, vcpu, turn);
		}
	}
	if (pending.length > 0) {
		refuse(
			"T1",
			pending.map((request) => ({
				field: placeOf(request),
				expected: `an answer of I/O server ${request.server} (domain ${request.emulator}) within ${mostTurns} ms`,
				got: `a request still in flight${running.has(request.emulator) ? "" : `, and domain ${request.emulator} does not run`}`,
			})),
		);
	}
	const last = domains.filter(({ domid }) => servers.has(domid));
	for (const { domid, vcpus } of last.sort((a, b) => Number(a.isPrivileged) - Number(b.isPrivileged))) {
		for (const vcpu of vcpus) stop(domid, vcpu, turn);
	}
	return stops;
}
