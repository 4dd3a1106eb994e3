/** The figures as markdown: one table for each suite, the goals first. */
import { machineText } from "./machine.mjs";

/** Three digits, as many as a spread of a few per cent leaves any meaning. */
export function digits(value) {
	if (value === 0) return "0";
	const size = Math.floor(Math.log10(Math.abs(value)));
	return size >= 2 ? String(Math.round(value)) : value.toFixed(Math.min(4, 2 - size));
}

/** Median and spread. */
export function withSpread(figure) {
	if (!figure) return "-";
	const { n, median, low, high } = figure;
	if (n === 1) return `${digits(median)} (one turn)`;
	const [shown, from, to] = [median, low, high].map(digits);
	return from === shown && to === shown ? shown : `${shown} (${from}-${to})`;
}

/** A ratio: where its spread holds 1, it says so. */
export function comparison(figure) {
	if (!figure) return "-";
	return `${withSpread(figure)}${figure.differs ? "" : ", no difference"}`;
}

export function table(head, rows) {
	const line = (cells) => `| ${cells.join(" | ")} |`;
	return [
		line(head),
		`|---|${head
			.slice(1)
			.map(() => "---:|")
			.join("")}`,
		...rows.map(line),
	].join("\n");
}

function sizeText(octets) {
	const units = ["", "Ki", "Mi", "Gi"];
	let unit = 0;
	let value = octets;
	while (value >= 1024 && unit < units.length - 1) {
		value /= 1024;
		unit++;
	}
	return `${digits(value).replace(/\.0+$/, "")} ${units[unit]}B`;
}

const skippedText = (skipped) =>
	skipped?.length
		? `\nLeft out:\n${skipped.map(({ peer, host, reason }) => `- ${peer ?? host}: ${reason}`).join("\n")}\n`
		: "";

function hostName({ layout, domains, memory }) {
	return `${layout}, ${domains} x ${sizeText(memory)}`;
}

export function goalTable(goals) {
	const rows = goals.map(({ group, what, goal, atLeast, figure, standing, why }) => [
		`${group}: ${what}`,
		`${atLeast ? ">=" : "<="} ${goal}`,
		withSpread(figure),
		why ? `${standing}: ${why}` : standing,
	]);
	const notes = [...new Set(goals.map(({ note }) => note).filter(Boolean))];
	const head = table(["what", "goal", "measured", "met, or why not"], rows).replace(/---:\|$/m, "---|");
	return [head, ...notes.map((note) => `\n${note}`)].join("\n");
}

const sections = {
	limits: ({ rows }) =>
		table(
			["octets", "memory.copy, ms", "blocks of 32 KiB / copy", "read / copy", "store / copy", "copy, GiB/s"],
			rows.map(({ bytes, ms, toCopy, gibPerSecond }) => [
				sizeText(bytes),
				withSpread(ms.copy),
				comparison(toCopy.copyBlocks),
				comparison(toCopy.read),
				comparison(toCopy.store),
				digits(gibPerSecond.copy),
			]),
		),

	hosts: ({ rows, skipped }) => {
		const stages = ["save", "open", "rules", "pass 0", "pass 1", "pass 2", "restore", "blackout"];
		const perPage = table(
			["ns per page", ...stages, "octets per entry"],
			rows.map((row) => [
				hostName(row),
				...stages.map((stage) => withSpread(row.nsPerPage[stage])),
				digits(row.octetsPerEntry),
			]),
		);
		const ratios = table(
			[
				"host",
				"save / copy",
				"save / read",
				"restore / copy",
				"restore / stores",
				"restore / stores of the two tables",
				"check / restore",
				"hash / save",
			],
			rows.map((row) => [
				hostName(row),
				comparison(row.toCopy.save),
				comparison(row.saveToRead),
				comparison(row.toCopy.restore),
				comparison(row.restoreToStoreImage),
				comparison(row.restoreToStoreTables),
				comparison(row.checkToRestore),
				comparison(row.integrity),
			]),
		);
		const times = table(
			["milliseconds", "save", "check", "restore", "blackout", "copy of the tables", "stream"],
			rows.map((row) => [
				hostName(row),
				...["save", "check", "restore", "blackout", "copy"].map((key) => withSpread(row.ms[key])),
				sizeText(row.streamBytes),
			]),
		);
		const limits = table(
			[
				"limits over the same octets",
				"blocks of 32 KiB / copy",
				"read / copy",
				"stores of the tables / copy",
				"copy, ns per page",
			],
			rows.map((row) => [
				hostName(row),
				...["copyBlocks", "read", "storeTables"].map((key) => comparison(row.toCopy[key])),
				withSpread(row.nsPerPage.copy),
			]),
		);
		return `${[perPage, ratios, times, limits].join("\n\n")}\n${skippedText(skipped)}`;
	},

	codecs: ({ rows, againstRandom }) => {
		const main = table(
			[
				"table",
				"encode / copy",
				"decode / copy",
				"decode / store",
				"check / decode",
				"hash / encode",
				"octets per entry",
			],
			rows.map((row) => [
				`${row.layout}, ${row.place}`,
				comparison(row.toCopy.encode),
				comparison(row.toCopy.decode),
				comparison(row.decodeToStore),
				comparison(row.checkToDecode),
				comparison(row.integrity),
				digits(row.octetsPerEntry),
			]),
		);
		const worst = table(
			["over random frames", "encode", "decode"],
			againstRandom.map(({ layout, encode, decode }) => [layout, comparison(encode), comparison(decode)]),
		);
		const trusted = rows.filter((row) => row.copyToTrusted);
		const reader = table(
			["superpage-aware encode of a P2M", "copy / it"],
			trusted.map((row) => [`${row.layout}, ${row.place}`, comparison(row.copyToTrusted)]),
		);
		return `${main}\n\n${worst}\n\n${reader}`;
	},

	native: ({ rows, hosts, skipped }) => {
		const peers = Object.keys(rows[0]?.coreToPeer ?? {});
		const codec = table(
			["the core's time over", ...peers.flatMap((peer) => [`${peer}, encode`, "decode"])],
			rows.map((row) => [
				`${row.layout}, ${row.place}`,
				...peers.flatMap((peer) => [comparison(row.coreToPeer[peer].encode), comparison(row.coreToPeer[peer].decode)]),
			]),
		);
		const flavours = Object.keys(hosts[0]?.coreToPeer ?? {});
		const whole = table(
			["the core's time over", ...flavours.flatMap((peer) => [`${peer}, save`, "check", "restore"])],
			hosts.map((row) => [
				hostName(row),
				...flavours.flatMap((peer) =>
					["save", "check", "restore"].map((what) => comparison(row.coreToPeer[peer][what])),
				),
			]),
		);
		return `${rows.length ? codec : ""}\n\n${hosts.length ? whole : ""}\n${skippedText(skipped)}`;
	},

	peers: ({ entries, rows }) => {
		const names = Object.keys(rows[0].toCore);
		const times = table(
			[`time over the core's, ${entries} pages`, ...rows.map(({ layout }) => layout)],
			[
				["core, ms", ...rows.map(({ ms }) => withSpread(ms.core))],
				...names.map((peer) => [peer, ...rows.map(({ toCore }) => comparison(toCore[peer]))]),
			],
		);
		const octets = table(
			["octets per entry", ...rows.map(({ layout }) => layout)],
			["core", ...names]
				.filter((peer) => rows[0].octetsPerEntry[peer] !== null)
				.map((peer) => [peer, ...rows.map(({ octetsPerEntry }) => digits(octetsPerEntry[peer]))]),
		);
		return `${times}\n\n${octets}`;
	},

	curves: ({ curves }) => {
		const stages = ["save", "check", "pass 0", "pass 1", "pass 2", "blackout"];
		const units = {
			domains: "a domain",
			memory: "a GiB",
			vcpus: "a vCPU",
			ports: "a port of a guest",
			grants: "a grant of a guest",
		};
		const slopes = table(
			["microseconds for one more", ...stages],
			curves.map(({ of, microsecondsPerUnit }) => [
				units[of],
				...stages.map((stage) => digits(microsecondsPerUnit[stage])),
			]),
		);
		const points = curves.map(({ of, points: list }) =>
			table(
				[`${of}, milliseconds`, ...stages],
				list.map(({ value, ms }) => [
					of === "memory" ? sizeText(value) : value,
					...stages.map((stage) => withSpread(ms[stage])),
				]),
			),
		);
		return [slopes, ...points].join("\n\n");
	},

	workers: ({ rows, skipped }) => {
		if (rows.length === 0) return skippedText(skipped).trim();
		const shown = ["save", "check", "pass 0", "pass 1", "pass 2", "restore", "blackout", "arithmetic"];
		const stages = shown.filter((stage) => rows[0].twoToOne[stage]);
		return table(
			["two workers over one", ...stages],
			rows.map(({ host, twoToOne }) => [host, ...stages.map((stage) => comparison(twoToOne[stage]))]),
		);
	},

	cold: ({ host, rows, skipped }) =>
		`${table(
			[`first over warm, ${host}`, "save", "check", "restore"],
			rows.map((row) => [
				row.variant,
				...["save", "check", "restore"].map((what) => comparison(row[what].firstToWarm)),
			]),
		)}\n${skippedText(skipped)}`,
};

const titles = {
	limits: "Limits of the machine",
	hosts: "Whole hosts",
	codecs: "Codecs",
	native: "Against native code",
	peers: "Serializers",
	curves: "Curves",
	workers: "Workers",
	cold: "Cold and warm",
};

export function markdown(results) {
	const parts = [
		"# Results",
		`Written by \`npm run bench -- --write\` on ${results.date}; ${results.mode} run of ${results.seconds} s. [How it measures](README.md).`,
		`${machineText(results.machine)}.`,
		"Medians, in parentheses the 10 % and 90 % points; `no difference` where they hold 1.",
		"## To reach",
		goalTable(results.goals),
	];
	for (const [name, section] of Object.entries(sections)) {
		if (results.suites[name]) parts.push(`## ${titles[name]}`, section(results.suites[name]));
	}
	return `${parts
		.join("\n\n")
		.replace(/\n{3,}/g, "\n\n")
		.trim()}\n`;
}
