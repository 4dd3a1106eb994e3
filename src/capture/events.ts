/** Parser of Xen's event channel dump (debug key `e`). */
import { type DumpLine, DumpText } from "./lines.ts";

/** Xen's ECS_ numbers; free ports (0) are never dumped. */
export const EVENT_STATE = { free: 0, reserved: 1, unbound: 2, interdomain: 3, pirq: 4, virq: 5, ipi: 6 } as const;

/** One port of a domain, as the dump prints it. */
export interface CapturedPort {
	port: number;
	pending: boolean;
	masked: boolean;
	/** 2-level: whether the selector bit of the port's word is set. */
	selector?: boolean;
	/** FIFO: the next port in the queue (0 at its end), if the port is linked into one. */
	link?: number;
	/** FIFO: the guest's BUSY bit. */
	busy?: boolean;
	/** FIFO: the guest has not mapped the array's page that holds this port's word. */
	noWord?: boolean;
	/** EVENT_STATE. */
	state: number;
	notifyVcpu: number;
	/** 0: the guest itself. Otherwise the index of the consumer inside Xen. */
	xenConsumer: number;
	/** Unbound and interdomain: the other domain. */
	remoteDomid?: number;
	/** Interdomain: the other domain's port. */
	remotePort?: number;
	virq?: number;
	pirq?: number;
	/** The PIRQ's IRQ on the host; 0 for an emulated PIRQ of an HVM guest, below 0 if it has none. */
	irq?: number;
}

/** Event channels of one domain. */
export interface CapturedEvents {
	domid: number;
	/** Told by how its ports are printed; undefined if it has none. */
	abi?: "2-level" | "fifo";
	pollingVcpus: number[];
	/** In ascending order. */
	ports: CapturedPort[];
}

const ROW_START = /^\s*\d+\s*\[/;
const ROW = /^\s*(\d{1,9})\s*\[([01])\/([01])\/([^\]]{1,16})\]:\s*s=(\d)\s+n=(\d{1,5})\s+x=(\d{1,5})(?:\s+(.*))?$/;
const ROW_SHAPE = "a port like `1 [0/1/  -   ]: s=3 n=0 x=0 d=0 p=26`";
/** Exactly one digit for 2-level; FIFO's column is padded: a B or blank, then the link, `-`, or `?`. */
const FIFO_COLUMN = /^(B?)\s*(-|\?|\d{1,6})?\s*$/;

function parseColumn(dump: DumpText, row: DumpLine, column: string): Partial<CapturedPort> {
	if (column === "0" || column === "1") {
		return { selector: column === "1" };
	}
	const match = FIFO_COLUMN.exec(column.trim());
	const word = match?.[2];
	if (match === null || word === undefined) {
		throw dump.badRow(row, ROW_SHAPE);
	}
	const fifo: Partial<CapturedPort> = { busy: match[1] === "B" };
	if (word === "?") {
		fifo.noWord = true;
	} else if (word !== "-") {
		fifo.link = Number(word);
	}
	return fifo;
}

/** `d=0 p=26` and the like; a security label (Z=...) and what else newer versions add is ignored. */
function parseBinding(dump: DumpText, row: DumpLine, state: number, rest: string): Partial<CapturedPort> {
	const fields = new Map<string, string>();
	for (const word of rest.split(/\s+/)) {
		const at = word.indexOf("=");
		if (at > 0) {
			fields.set(word.slice(0, at), word.slice(at + 1));
		}
	}
	const what = (key: string): string => `${key}= of a port in state ${state}`;
	const number = (key: string): number => dump.unsigned(fields.get(key), row, what(key));
	switch (state) {
		case EVENT_STATE.unbound:
			return { remoteDomid: dump.domid(fields.get("d"), row) };
		case EVENT_STATE.interdomain:
			return { remoteDomid: dump.domid(fields.get("d"), row), remotePort: number("p") };
		case EVENT_STATE.pirq:
			return { pirq: number("p"), irq: dump.decimal(fields.get("i"), row, what("i")) };
		case EVENT_STATE.virq:
			return { virq: number("v") };
		case EVENT_STATE.ipi:
		case EVENT_STATE.reserved:
			return {};
		default:
			throw dump.fail(row.line, "a state s= of 1 to 6", String(state));
	}
}

function parsePort(dump: DumpText, row: DumpLine): CapturedPort {
	const match = ROW.exec(row.text);
	if (match === null) {
		throw dump.badRow(row, ROW_SHAPE);
	}
	const [, port, pending, masked, column = "", state, vcpu, consumer, rest = ""] = match;
	return {
		port: Number(port),
		pending: pending === "1",
		masked: masked === "1",
		...parseColumn(dump, row, column),
		state: Number(state),
		notifyVcpu: Number(vcpu),
		xenConsumer: Number(consumer),
		...parseBinding(dump, row, Number(state), rest),
	};
}

function addPort(dump: DumpText, row: DumpLine, domain: CapturedEvents, port: CapturedPort): void {
	const abi = port.selector === undefined ? "fifo" : "2-level";
	if (domain.abi !== undefined && domain.abi !== abi) {
		throw dump.fail(row.line, `${domain.abi} ports, as before in domain ${domain.domid}`, abi);
	}
	const last = domain.ports.at(-1)?.port ?? -1;
	if (port.port <= last) {
		throw dump.fail(row.line, `a port above ${last}`, String(port.port));
	}
	domain.abi = abi;
	domain.ports.push(port);
}

/**
 * Parses the output of debug key `e`.
 *
 * @returns by domid, in the dump's order
 * @throws XluError XLU_E_CAPTURE with file, line, expected and got: a row that cannot be parsed, ports that are not
 * ascending, both ABIs in one domain, a domain twice, or no domain at all.
 */
export function parseEventDump(text: string, file = "debugkey-e.txt"): Map<number, CapturedEvents> {
	const dump = new DumpText(text, file);
	const domains = new Map<number, CapturedEvents>();
	let current: CapturedEvents | undefined;
	for (const row of dump.lines()) {
		if (row.text.startsWith("Event channel information for domain")) {
			const digits = /^Event channel information for domain (\d+):?\s*$/.exec(row.text)?.[1];
			const domid = dump.domid(digits, row);
			if (domains.has(domid)) {
				throw dump.fail(row.line, `domain ${domid} once`, "a second time");
			}
			current = { domid, pollingVcpus: [], ports: [] };
			domains.set(domid, current);
		} else if (current !== undefined && row.text.startsWith("Polling vCPUs:")) {
			const list = /^Polling vCPUs: \{([^}]*)\}/.exec(row.text)?.[1];
			if (list === undefined) {
				throw dump.badRow(row, "a set of vCPUs in braces");
			}
			current.pollingVcpus = dump.cpuSet(list, row);
		} else if (ROW_START.test(row.text)) {
			if (current === undefined) {
				throw dump.badRow(row, "`Event channel information for domain` before the first port");
			}
			addPort(dump, row, current, parsePort(dump, row));
		}
	}
	if (domains.size === 0) {
		throw dump.fail(dump.lastLine, "`Event channel information for domain N`", "none in the file");
	}
	return domains;
}
