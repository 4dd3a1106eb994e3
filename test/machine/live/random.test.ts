/**
 * Operations at random: after each one the machine agrees with itself, and one that is refused has changed nothing. Now
 * and then a number of one is none that makes sense. Every operation succeeds, so that none of this holds for
 * want of trying.
 */
import { describe, expect, test } from "vitest";
import { IOREQ_FLAG } from "../../../src/format/enums.ts";
import {
	type Machine,
	type Operation,
	operations,
	propose,
	resultText,
	runOperation,
} from "../../../src/machine/live/index.ts";
import { continuationKinds } from "../../../src/machine/quiesce.ts";
import { baseMachine, machineWithNarrow } from "../../support/living.ts";
import { changeSince, checkInvariants, drawFor, holesOf, snapshot, succeeded } from "../../support/operations.ts";

/** How many sequences: XLU_SEQUENCES for a long run; XLU_SEED for other ones. */
const SEQUENCES = Number(process.env.XLU_SEQUENCES ?? 180);
const SEED = Number(process.env.XLU_SEED ?? 1);
const LENGTH = 50;
/** One operation in so many gets a number that makes no sense. */
const STRAY = 8;
/** One in so many is of what an update waits for. */
const OF_ACTIVITY = 8;
const STRAYS = [-1, 0, 66, 513, 5000, 2 ** 22, 2 ** 31, 2 ** 40];

function withStray(operation: Operation, draw: { below(limit: number): number }): Operation {
	const names = Object.entries(operations[operation.op]?.parameters ?? {}).flatMap(([name, { type }]) =>
		type === "integer" || type === "word" ? [name] : [],
	);
	const name = names[draw.below(names.length)] as string;
	return { ...operation, [name]: STRAYS[draw.below(STRAYS.length)] as number };
}

/**
 * What makes an update wait, or not begin, and so is no proposal of propose(), between whose operations others update: a
 * request to an emulator, a continuation, and their ends.
 */
function proposeActivity(machine: Machine, draw: { below(limit: number): number }): Operation | undefined {
	const pick = <T>(list: readonly T[]): T | undefined => list[draw.below(Math.max(list.length, 1))];
	const domids = [...machine.domains.keys()];
	switch (draw.below(4)) {
		case 0: {
			const kinds = Object.keys(continuationKinds);
			return { op: "continuation_begin", kind: pick(kinds) as string, domid: pick(domids) as number };
		}
		case 1: {
			const continuation = pick(machine.continuations);
			return continuation && { op: "continuation_end", ...continuation };
		}
		case 2: {
			const servers = [...machine.domains.values()].flatMap(({ domid, tables }) =>
				tables.ioreqServerList.map((server) => ({ domid, ...server })),
			);
			const server = pick(servers);
			if (server === undefined) return undefined;
			return (server.flags & IOREQ_FLAG.enabled) === 0
				? { op: "ioreq_set_state", domid: server.emulator, guest: server.domid, server: server.serverId, enabled: true }
				: { op: "ioreq_send", domid: server.domid, vcpu: 0, server: server.serverId, turns: 1 };
		}
		default: {
			const request = pick(machine.requests);
			return request && { op: "ioreq_answer", domid: request.emulator, guest: request.domid, vcpu: request.vcpu };
		}
	}
}

describe("random operations", () => {
	/** By name, the first one of those that succeeded. */
	const successes = new Map<string, Operation>();

	test(`${SEQUENCES} sequences: the machine agrees with itself after each operation, refusals change nothing`, () => {
		for (let sequence = 0; sequence < SEQUENCES; sequence++) {
			// Every other machine has a 32-bit guest from the start.
			const machine = sequence % 2 === 0 ? baseMachine() : machineWithNarrow();
			const draw = drawFor(SEED * 100_000 + sequence);
			const aside = drawFor(SEED * 100_000 + sequence + 50_000);
			const log: Operation[] = [];
			const failing = (error: unknown): Error =>
				new Error(`${error}\n${log.map((line) => JSON.stringify(line)).join("\n")}`);
			for (let i = 0; i < LENGTH; i++) {
				const proposal = i % OF_ACTIVITY === 0 ? proposeActivity(machine, aside) : propose(machine, draw);
				if (proposal === undefined) continue;
				const operation = draw.below(STRAY) === 0 ? withStray(proposal, draw) : proposal;
				log.push(operation);
				const before = snapshot(machine);
				const holes = holesOf(machine);
				try {
					const result = runOperation(machine, operation);
					if (succeeded(result)) {
						if (!successes.has(operation.op)) successes.set(operation.op, operation);
					} else {
						// As in Xen, a hole that a refused call has looked into is populated.
						const change = holesOf(machine) === holes ? changeSince(before, machine) : undefined;
						expect(change, `changed, though ${resultText(operation.op, result as number)}`).toBeUndefined();
					}
					checkInvariants(machine);
				} catch (error) {
					throw failing(error);
				}
			}
		}
	});

	test("every operation has succeeded, and is refused of a domain that is not there", () => {
		const machine = baseMachine();
		for (const op of Object.keys(operations)) {
			const operation = successes.get(op);
			expect([op, operation?.op]).toEqual([op, op]);
			const nobody: object = op === "time_advance" ? { nanoseconds: -1 } : { domid: op === "domain_create" ? -1 : 66 };
			const before = snapshot(machine);
			const result = runOperation(machine, { ...(operation as Operation), ...nobody } as Operation) as number;
			const name = op.startsWith("gnttab_")
				? "GNTST_bad_domain"
				: /^(domain_create|time_advance)$/.test(op)
					? "EINVAL"
					: "ESRCH";
			expect([op, resultText(op, result)]).toEqual([op, name]);
			expect([op, changeSince(before, machine)]).toEqual([op, undefined]);
		}
	});
});
