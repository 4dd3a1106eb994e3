#!/usr/bin/env node
/** xlu: the commands, their options, and the exit status that each ends in. */
import { readFileSync } from "node:fs";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { loadCore, MOST_BYTES } from "../core/load.ts";
import { EXIT, XluError } from "../errors.ts";
import { FORMAT_VERSION, OLDEST_VERSION } from "../format/schema.ts";
import { daemons, dialects } from "../formats/xenstore/daemons.ts";
import { type ConvertOptions, forms } from "../inspect/convert.ts";
import { MAX_WORKERS } from "../parallel/pool.ts";
import { audit } from "./audit.ts";
import { convert } from "./convert.ts";
import { diff } from "./diff.ts";
import { explain } from "./explain.ts";
import { extract } from "./extract.ts";
import { inspect } from "./inspect.ts";
import { report, settings } from "./output.ts";
import { restore } from "./restore.ts";
import { run } from "./run.ts";
import { save } from "./save.ts";
import { verify } from "./verify.ts";

function whole(text: string): number {
	const value = Number(text);
	if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) throw new InvalidArgumentError("expected a whole number");
	return value;
}

function size(text: string): number {
	const [, digits, unit] = /^(\d+)([KMG]?)$/.exec(text) ?? [];
	const value = Number(digits) * 2 ** (10 * " KMG".indexOf(unit || " "));
	if (!(value > 0 && value < MOST_BYTES))
		throw new InvalidArgumentError("expected a size such as 16M (K, M or G), below 4G");
	return value;
}

function workerCount(text: string): number {
	const value = whole(text);
	if (value < 1 || value > MAX_WORKERS) throw new InvalidArgumentError(`expected 1 to ${MAX_WORKERS}`);
	return value;
}

function formatVersion(text: string): number {
	const value = whole(text);
	if (value < OLDEST_VERSION || value > FORMAT_VERSION)
		throw new InvalidArgumentError(`expected ${OLDEST_VERSION} to ${FORMAT_VERSION}`);
	return value;
}

/** Of any hypervisor: the image header has more room, the core's flags have an octet. */
function newestVersion(text: string): number {
	const value = whole(text);
	if (value < 1 || value > 255) throw new InvalidArgumentError("expected 1 to 255");
	return value;
}

const widthOption = () =>
	new Option("--width <bits>", "of a legacy image: the toolstack's, where the content does not tell").choices([
		"32",
		"64",
	]);
const guestTypeOption = () =>
	new Option("--guest-type <type>", "of a legacy image: the guest's kind, where the content does not tell").choices([
		"pv",
		"hvm",
	]);
const dialectOption = () =>
	new Option(
		"--dialect <draft>",
		"of a xenstore stream: the draft it is written in, which its content does not tell",
	).choices(dialects);
const daemonOption = (text: string) => new Option("--for <daemon>", text).choices(daemons);

/** Descriptors and ranges of them, such as 3,4,6-10. */
function descriptors(text: string): Set<number> {
	const set = new Set<number>();
	for (const part of text.split(",")) {
		const [, first, last = first] = /^(\d{1,6})(?:-(\d{1,6}))?$/.exec(part) ?? [];
		if (first === undefined) throw new InvalidArgumentError("expected descriptors such as 3,4,6-10");
		for (let fd = Number(first); fd <= Number(last); fd++) set.add(fd);
	}
	return set;
}

function useOf(text: string): NonNullable<ConvertOptions["use"]> {
	const [, domid] = /^migration:(\d{1,5})$/.exec(text) ?? [];
	if (domid !== undefined) return { kind: "migration", domid: Number(domid) };
	if (text === "documented") return { kind: "documented" };
	throw new InvalidArgumentError("expected migration:DOMID or documented");
}

async function versionText(): Promise<string> {
	const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
		version: string;
	};
	const core = await loadCore();
	return `xlu ${version}, core ABI ${core.abi}, stream format ${FORMAT_VERSION}`;
}

function program(done: (status: number) => void, version: string): Command {
	const xlu = new Command("xlu")
		.description("Save, check, hand over and restore a hypervisor's state across a live update.")
		.version(version, "-V, --version", "versions of the tool, the core and the format")
		.exitOverride()
		.configureHelp({ sortSubcommands: false, showGlobalOptions: true })
		.option("-q, --quiet", "no progress on the terminal, no list of a scenario's steps")
		.hook("preAction", (command) => {
			settings.quiet = command.opts().quiet === true;
		})
		.addHelpText(
			"after",
			`
A HOST is a directory with a host's capture (docs/CAPTURE.md), or a host made to order, such as
synthetic:domains=8,memory=256M,vcpus=2,layout=typical,seed=1 (docs/CLI.md). FILE is a live-update stream, - for
standard input or output; FILE.mem beside it holds the preserved memory. A SCENARIO is a file in JSON: a host, operations,
live updates, what is expected (docs/SCENARIOS.md).

Examples:
  xlu run examples/pv                       a live update, end to end: timeline, domains, identical or not
  xlu run examples/scenarios/backend.json   operations before and after an update, and what is expected
  xlu save examples/pv -o pv.xlu            pv.xlu and pv.xlu.mem
  xlu verify pv.xlu                         would xen#2 restore it?
  xlu restore pv.xlu --compare examples/pv  three passes, then the comparison
  xlu inspect pv.xlu --record 3             one record, field by field
  xlu run synthetic:domains=4,memory=64M    a host made to order

Exit status: 0 done; 1 a check or a version refuses, or a comparison differs; 2 usage; 3 damaged input.`,
		);
	const action =
		<A extends unknown[]>(command: (...args: A) => Promise<number>) =>
		async (...args: A) =>
			done(await command(...args));
	xlu
		.command("run")
		.description("a live update of each host, every stage timed; a scenario: operations, updates, expectations")
		.argument("<host|scenario...>", "captured directories, synthetic:..., or scenarios (files in JSON)")
		.option("--json", "one object a host or scenario", false)
		.option("--xen2-size <MiB>", "size of xen#2 (default: as large as xen#1)", whole)
		.option(
			"--xen2-format <version>",
			"newest version of the format that xen#2 knows (default: as xen#1)",
			newestVersion,
		)
		.option("--seed <n>", "seed of the stream frames' places; of a scenario instead of its own", whole)
		.option("--workers <n>", "threads that run the passes, 1 to 64 (default: 1)", workerCount)
		.option("--no-audit", "leave out the audit of xen#1's state before the pause")
		.option("--quiesce-timeout <ms>", "how long guests' I/O requests are waited for (default: 1000)", whole)
		.option("--fault <name>", "what is to go wrong, or all (docs/FAULTS.md)")
		.addHelpText(
			"after",
			"\nExamples:\n  xlu run examples/pv --json | jq .blackoutMs\n  xlu run examples/scenarios/*.json",
		)
		.action(action((hosts: string[], options) => run(hosts, options)));
	xlu
		.command("audit")
		.description("would this host's state survive a live update? Asked before any pause")
		.argument("<host>", "captured directory, or synthetic:...")
		.option("--json", "verdict and findings as one object", false)
		.action(action((host: string, options) => audit(host, options)));
	xlu
		.command("save")
		.description("save a host: the stream, and the preserved memory beside it")
		.argument("<host>", "captured directory, or synthetic:...")
		.requiredOption("-o, --output <file>", "the stream; - for standard output")
		.option("--memory <file>", "the preserved memory (default: FILE.mem)")
		.option("--format <version>", `version of the format (default: ${FORMAT_VERSION}, the newest)`, formatVersion)
		.option(
			"--window <size>",
			"write the stream in steps through a window of SIZE (K, M or G): tables may be beyond 4 GiB",
			size,
		)
		.option("--json", "sizes as one object", false)
		.action(action((host: string, options) => save(host, options)));
	xlu
		.command("verify")
		.description("would its reader take this stream? Nothing is restored")
		.argument("<file>", "stream of any format, - for standard input")
		.option("--memory <file>", "of a live-update stream: the preserved memory (default: FILE.mem if it is there)")
		.option("--onto <host>", "of a bundle: would this host receive the domain?")
		.option("--strict", "hold one of Xen's own streams to the document's letter (default: what real programs accept)")
		.addOption(daemonOption("of a xenstore stream: what would this daemon make of it?"))
		.option(
			"--fds <list>",
			"of a xenstore stream: descriptors that the daemon will find open, such as 3,6-10",
			descriptors,
		)
		.addOption(widthOption())
		.addOption(guestTypeOption())
		.addOption(dialectOption())
		.option("--json", "verdict and findings as one object", false)
		.action(action((file: string, options) => verify(file, options)));
	xlu
		.command("extract")
		.description("one domain of a host as a bundle, to be received elsewhere without its co-operation")
		.argument("<host>", "captured directory, or synthetic:...")
		.requiredOption("--domain <domid>", "the domain", whole)
		.requiredOption("-o, --output <file>", "the bundle; - for standard output")
		.option("--json", "size and assumptions as one object", false)
		.addHelpText("after", "\nExamples:\n  xlu extract examples/pv --domain 1 -o pv.bundle\n  xlu verify pv.bundle")
		.action(action((host: string, options) => extract(host, options)));
	xlu
		.command("restore")
		.description("restore a stream into a fresh image, in three passes")
		.argument("<file>", "stream, - for standard input")
		.option("--memory <file>", "the preserved memory (default: FILE.mem)")
		.option("--compare <host>", "compare the result with a host")
		.option("--json", "result as one object", false)
		.action(action((file: string, options) => restore(file, options)));
	xlu
		.command("inspect")
		.description("show sections, records and event channels of a host or a stream")
		.argument("<host|file>", "captured directory, synthetic:..., or stream of any format (- for standard input)")
		.option("--record <n>", "one record, field by field", whole)
		.option("--hex", "octets: of each record, or of the one that --record names")
		.option("--tree", "layers and records as a tree; of a xenstore stream, its nodes")
		.option("--memory <file>", "of a live-update stream: the preserved memory (default: FILE.mem if it is there)")
		.addOption(widthOption())
		.addOption(guestTypeOption())
		.addOption(dialectOption())
		.option("--json", "everything as one object", false)
		.action(action((what: string, options) => inspect(what, options)));
	xlu
		.command("diff")
		.description("what two streams of a format say differently: fields, registers, nodes; not octets")
		.argument("<a>", "stream, - for standard input")
		.argument("<b>", "stream")
		.addOption(widthOption())
		.addOption(guestTypeOption())
		.addOption(dialectOption())
		.option("--json", "all differences as one object", false)
		.action(action((a: string, b: string, options) => diff(a, b, options)));
	xlu
		.command("convert")
		.description("a stream in another version, byte order, or as JSON, and back from JSON")
		.argument("<in>", "stream, - for standard input")
		.requiredOption("-o, --output <file>", "the result; - for standard output")
		.addOption(
			new Option("--to <form>", "what to make of it (default: a stream as JSON becomes the stream)").choices(forms),
		)
		.addOption(daemonOption("of a xenstore stream: what this daemon starts from, in the order that it needs"))
		.option(
			"--use <use>",
			"of a xenstore stream: migration:DOMID, what is one domain's; documented, the document's form",
			useOf,
		)
		.addOption(widthOption())
		.addOption(guestTypeOption())
		.addOption(dialectOption())
		.option("--json", "what was written as one object", false)
		.action(action((file: string, options) => convert(file, options)));
	xlu
		.command("explain")
		.description("what a rule or an error code means, and what can be done")
		.argument("[code]", "XLU-R031, XLU_E_IMAGE, ... (default: list them)")
		.option("--json", "as one object", false)
		.action(action((code: string | undefined, options) => explain(code, options)));
	return xlu;
}

function isPipeClosed(error: unknown): boolean {
	if (!(error instanceof XluError) || error.record !== "standard output") return false;
	return (error.cause as NodeJS.ErrnoException | undefined)?.code === "EPIPE";
}

async function main(): Promise<number> {
	let status: number = EXIT.done;
	const json = process.argv.includes("--json");
	try {
		await program(
			(result) => {
				status = result;
			},
			await versionText(),
		).parseAsync();
		return status;
	} catch (error) {
		// A reader that closes the pipe early (head, less) is no error.
		if (isPipeClosed(error)) return EXIT.done;
		// commander has printed its own message; help and version end in 0.
		if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
		return report(error, json && !(error instanceof XluError && error.code === "XLU_E_USAGE"));
	}
}

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
	if (error.code === "EPIPE") process.exit(EXIT.done);
	const failure = new XluError("XLU_E_IO", `Standard output cannot be written: ${error.message}.`, {
		expected: "an output that takes what is written",
		got: error.code ?? "an error",
		cause: error,
	});
	process.exit(report(failure, false));
});
process.exitCode = await main();
