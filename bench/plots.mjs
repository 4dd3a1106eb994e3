/** The plots of a run, as SVG that stands alone: labels stand at their lines, since a legend would be HTML. */
import * as Plot from "@observablehq/plot";
import { JSDOM } from "jsdom";

const WIDTH = 720;
const INK = "#222";
const colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f"];
const GIB = 2 ** 30;

function render(options) {
	const { document } = new JSDOM("").window;
	const svg = Plot.plot({
		document,
		width: WIDTH,
		height: 400,
		marginTop: 52,
		marginLeft: 64,
		marginRight: 96,
		marginBottom: 44,
		style: { background: "white", color: INK, fontSize: "12px" },
		...options,
	});
	svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
	return `${svg.outerHTML}\n`;
}

/** In the margin: the figure's own title would be HTML as well. */
function heading(text, note) {
	return [
		Plot.text([text], { frameAnchor: "top-left", dx: -52, dy: -46, fontSize: 15, fontWeight: "bold" }),
		Plot.text([note], { frameAnchor: "top-left", dx: -52, dy: -26, fontSize: 11, fill: "#666" }),
	];
}

/** Lines with their spreads and names at the end. Rows: `{ x, name, figure }`. */
function lines(rows, { title, note, x }) {
	const names = [...new Set(rows.map(({ name }) => name))];
	const points = rows.map(({ x: at, name, figure }) => ({ x: at, name, ...figure }));
	const channels = { x: "x", stroke: "name" };
	return render({
		x: { type: "log", label: x, tickFormat: (value) => String(Number(value.toPrecision(3))), ...ticksOf(points) },
		// The heading names the unit: a label would stand in it.
		y: { type: "log", label: null, grid: true, tickFormat: (value) => String(Number(value.toPrecision(3))) },
		color: { domain: names, range: colours.slice(0, names.length) },
		marks: [
			...heading(title, note),
			Plot.ruleX(points, { ...channels, y1: "low", y2: "high", strokeOpacity: 0.5 }),
			Plot.line(points, { ...channels, y: "median", strokeWidth: 2 }),
			Plot.dot(points, { x: "x", y: "median", fill: "name", r: 3 }),
			Plot.text(spaced(points), {
				x: "x",
				y: "at",
				text: "name",
				fill: "name",
				textAnchor: "start",
				dx: 8,
				fontSize: 12,
			}),
		],
	});
}

/** The axis has a tick at each measured value. */
function ticksOf(points) {
	return { ticks: [...new Set(points.map(({ x }) => x))] };
}

/** The last point of each line, moved apart where names would lie on each other. */
function spaced(points) {
	const last = new Map();
	for (const point of points) if (!(last.get(point.name)?.x > point.x)) last.set(point.name, point);
	const ends = [...last.values()].sort((a, b) => a.median - b.median);
	const medians = points.map(({ median }) => median);
	const range = Math.max(...medians) / Math.min(...medians);
	// A line of text is about a twentieth of the plot's height.
	const step = Math.max(1.01, range) ** 0.055;
	let least = 0;
	return ends.map((point) => {
		const at = Math.max(point.median, least);
		least = at * step;
		return { ...point, at };
	});
}

const hostMemory = ({ domains, memory }) => ((domains + 1) * memory) / GIB;

function blackoutAgainstMemory({ hosts, curves }) {
	const axes = { x: "memory of all domains, GiB" };
	const counts = grouped(hosts?.rows ?? []);
	if ([...counts.values()].some((rows) => rows.length > 1)) {
		const rows = hosts.rows.map((row) => ({ x: hostMemory(row), name: row.layout, figure: row.ms.blackout }));
		return lines(rows, { title: "Blackout against memory, milliseconds", note: BLACKOUT_NOTE, ...axes });
	}
	const curve = curves?.curves.find(({ of }) => of === "memory");
	if (!curve) return undefined;
	const rows = curve.points.flatMap(({ value, ms }) =>
		["blackout", "save", "check", "restore"].map((name) => ({
			x: ((curve.fixed.domains + 1) * value) / GIB,
			name,
			figure: ms[name],
		})),
	);
	return lines(rows, { title: "Blackout against memory, milliseconds", note: BLACKOUT_NOTE, ...axes });
}

const BLACKOUT_NOTE = "Serializer's share: save, check in xen#1, check in xen#2, three passes. Median, 10 % and 90 %.";

const STAGES_NOTE = "Serializer's share of the blackout, of the medians; the largest host of each layout.";

function grouped(rows) {
	const groups = new Map();
	for (const row of rows) groups.set(row.layout, [...(groups.get(row.layout) ?? []), row]);
	return groups;
}

function blackoutAgainstDomains({ curves }) {
	const curve = curves?.curves.find(({ of }) => of === "domains");
	if (!curve) return undefined;
	const rows = curve.points.flatMap(({ value, ms }) =>
		["blackout", "save", "check", "restore"].map((name) => ({ x: value, name, figure: ms[name] })),
	);
	return lines(rows, {
		title: "Blackout against domains, milliseconds",
		note: `Each with ${curve.fixed.memory.replace(/([MG])$/, " $1iB")}. ${BLACKOUT_NOTE}`,
		x: "domains",
	});
}

const stages = [
	["save", (ms) => ms.save],
	["check, xen#1", (ms) => ms.check],
	["check, xen#2", (ms) => ms.check],
	["pass 0", (ms) => ms["pass 0"]],
	["pass 1", (ms) => ms["pass 1"]],
	["pass 2", (ms) => ms["pass 2"]],
];

function sharePerStage({ hosts }) {
	if (!hosts?.rows.length) return undefined;
	const largest = [...grouped(hosts.rows).values()].map((rows) => rows.at(-1));
	const bars = largest.flatMap((row) => {
		const all = stages.reduce((sum, [, of]) => sum + of(row.ms).median, 0);
		let from = 0;
		return stages.map(([stage, of]) => {
			const share = (of(row.ms).median / all) * 100;
			const bar = { host: hostText(row), stage, from, to: from + share, share };
			from += share;
			return bar;
		});
	});
	// Names over the first bar's parts do not fit where they are thin: a row of its own instead.
	let widths = 0;
	const key = stages.map(([stage]) => {
		const x = widths;
		widths += 5 + 1.5 * stage.length;
		return { stage, x };
	});
	return render({
		height: 96 + 56 * largest.length,
		marginLeft: 170,
		marginRight: 24,
		marginTop: 84,
		x: { domain: [0, 100], label: "share of the blackout, %" },
		y: { label: null, domain: largest.map(hostText) },
		color: { domain: stages.map(([stage]) => stage), range: colours },
		marks: [
			Plot.text(["Share per stage"], {
				...{ frameAnchor: "top-left", dx: -158, dy: -78, fontSize: 15, fontWeight: "bold" },
			}),
			Plot.text([STAGES_NOTE], { frameAnchor: "top-left", dx: -158, dy: -58, fontSize: 11, fill: "#666" }),
			Plot.text(key, {
				...{ x: "x", frameAnchor: "top", dy: -28, textAnchor: "start", text: (d) => `■ ${d.stage}` },
				...{ fill: "stage", fontWeight: "bold" },
			}),
			Plot.barX(bars, { x1: "from", x2: "to", y: "host", fill: "stage", insetTop: 6, insetBottom: 6 }),
			Plot.text(
				bars.filter(({ share }) => share >= 4),
				{ x: (d) => (d.from + d.to) / 2, y: "host", text: (d) => `${Math.round(d.share)} %`, fill: "white" },
			),
		],
	});
}

function hostText({ layout, domains, memory }) {
	const mib = memory / 2 ** 20;
	return `${layout}, ${domains} x ${mib >= 1024 ? `${mib / 1024} GiB` : `${mib} MiB`}`;
}

function peersOverCore({ peers }) {
	if (!peers) return undefined;
	const names = Object.keys(peers.rows[0].toCore);
	const best = (peer) => Math.min(...peers.rows.map(({ toCore }) => toCore[peer].median));
	names.sort((a, b) => best(a) - best(b));
	const points = peers.rows.flatMap(({ layout, toCore }) => names.map((peer) => ({ layout, peer, ...toCore[peer] })));
	const layouts = peers.rows.map(({ layout }) => layout);
	const gib = (peers.entries * 4096) / GIB;
	return render({
		height: 130 + 20 * names.length,
		marginLeft: 190,
		marginRight: 24,
		marginTop: 84,
		x: { type: "log", label: "time over the core's", grid: true, tickFormat: (value) => `${value}x` },
		y: { label: null, domain: names },
		color: { domain: layouts, range: colours },
		marks: [
			Plot.text(["Other serializers, time over the core's"], {
				...{ frameAnchor: "top-left", dx: -178, dy: -78, fontSize: 15, fontWeight: "bold" },
			}),
			Plot.text([`Encode and decode of the P2M of one domain of ${gib} GiB. Median, 10 % and 90 %; logarithmic.`], {
				...{ frameAnchor: "top-left", dx: -178, dy: -58, fontSize: 11, fill: "#666" },
			}),
			...layouts.map((layout, i) =>
				Plot.text([layout], {
					...{ frameAnchor: "top-left", dx: i * 120, dy: -32, text: (d) => `● ${d}` },
					...{ fill: colours[i], fontWeight: "bold" },
				}),
			),
			Plot.ruleY(points, { x1: "low", x2: "high", y: "peer", stroke: "layout", strokeOpacity: 0.5 }),
			Plot.dot(points, { x: "median", y: "peer", fill: "layout", r: 4 }),
		],
	});
}

/** SVG by name; what a run has no figures for is left out. */
export function plots({ suites }) {
	const all = {
		"blackout-memory": blackoutAgainstMemory(suites),
		"blackout-domains": blackoutAgainstDomains(suites),
		stages: sharePerStage(suites),
		peers: peersOverCore(suites),
	};
	return Object.fromEntries(Object.entries(all).filter(([, svg]) => svg !== undefined));
}
