/** What two real daemons did with each probe, what this project says of it, and both as the table of docs/XENSTORE.md. */
import type { Daemon } from "../../src/formats/xenstore/daemons.ts";
import { addToXenstore, emptyXenstore, type XenstoreModel } from "../../src/formats/xenstore/model.ts";
import { fixture, type Reading, reading, type Verdict, verdictOf } from "./xenstore.ts";

export interface Probe {
	readonly file: string;
	readonly what: string;
	readonly did: Readonly<Record<Daemon, string>>;
}

export const probes: readonly Probe[] = fixture("probes/verdicts.tsv")
	.toString("utf8")
	.trimEnd()
	.split("\n")
	.slice(1)
	.map((line) => {
		const [file = "", what = "", old = "", recent = ""] = line.split("\t");
		return { file, what, did: { "xenstored-4.17": old, "xenstored-2026": recent } };
	});

/** As verdicts.tsv has values: octets that are no text as \xNN. */
const quoted = (value: Uint8Array): string =>
	Array.from(value, (octet) =>
		octet >= 0x20 && octet < 0x7f ? String.fromCharCode(octet) : `\\x${octet.toString(16).padStart(2, "0")}`,
	).join("");

/** The nodes of a stream as a daemon answers them: the root, then each node's children in their order. */
function answerOf({ nodes }: XenstoreModel): string {
	const all = nodes.has("/") ? nodes : new Map([["/", { value: new Uint8Array(0), perms: ["n0"] }], ...nodes]);
	const below = (parent: string): string[] =>
		[...all.keys()].filter((path) => path !== "/" && (path.slice(0, path.lastIndexOf("/")) || "/") === parent);
	const words: string[] = [];
	const add = (path: string) => {
		const { value, perms } = all.get(path) as { value: Uint8Array; perms: readonly string[] };
		const text = value.length > 0 ? `='${quoted(value)}'` : "";
		words.push(`${path}${text}${perms.join() === "n0" ? "" : `(${perms.join()})`}`);
		for (const child of below(path)) add(child);
	};
	add("/");
	return words.join(" ");
}

/**
 * `refuse`: it died. `accept`: it answers every node that the stream commits, and no other, and its log says of nothing that it
 * passed over it. `warn`: all else; so of a stream without END, of which a part was taken for the whole.
 */
export function whatItDid(did: string, { items }: Reading): Verdict {
	if (did.startsWith("DIED")) return "refuse";
	const [answered = "", log = ""] = did.split(" | ");
	const model = emptyXenstore();
	for (const item of items) addToXenstore(model, item);
	const isOther = [...model.nodes.keys()].some((path) => /^@(?!releaseDomain$|introduceDomain$)/.test(path));
	const isWhole = items.some(({ name }) => name === "END");
	const isEqual = answered === `answers: ${answerOf(model)}`;
	return isEqual && isWhole && !isOther && !/unknown|ignore/.test(log) ? "accept" : "warn";
}

export interface Judged {
	readonly probe: Probe;
	readonly daemon: Daemon;
	readonly verdict: Verdict;
	readonly did: Verdict;
	readonly rules: readonly string[];
}

export async function judge(probe: Probe, daemon: Daemon): Promise<Judged> {
	const read = await reading(fixture(`probes/${probe.file}`), { daemon });
	const rules = [...new Set(read.findings.map(({ rule }) => rule.code))];
	return { probe, daemon, verdict: verdictOf(read), did: whatItDid(probe.did[daemon], read), rules };
}

const shortened = (did: string): string => {
	const text = did.replace(/^DIED (exit|signal) (\d+).*$/, "died, $1 $2").replace(/ \| log: live-update: /, "; ");
	return text.replaceAll("|", "\\|").replaceAll("\\x00", "\\0").slice(0, 90);
};

/** The table, a line for each probe. */
export async function verdictTable(): Promise<string> {
	const lines = ["| probe | 4.17 did | verdict | the one of 2026 did | verdict |", "|---|---|---|---|---|"];
	for (const probe of probes) {
		const cells: string[] = [];
		for (const daemon of ["xenstored-4.17", "xenstored-2026"] as const) {
			const { verdict, rules } = await judge(probe, daemon);
			cells.push(`\`${shortened(probe.did[daemon])}\``, [verdict, ...rules].join(" "));
		}
		lines.push(`| ${probe.file.slice(0, 3)} ${probe.what.replaceAll("|", "\\|")} | ${cells.join(" | ")} |`);
	}
	return lines.join("\n");
}
