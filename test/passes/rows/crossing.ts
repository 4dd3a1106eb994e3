/** P4: whatever has an end in each of two domains comes out the same, whichever of them is restored first. */
import { PASS } from "../../../src/format/enums.ts";
import type { Restitched } from "../../support/restitch.ts";
import { type Link, links, sum } from "../links.ts";
import { type Group, type Order, permutations, type Row, type Rule, refusedStream, type Stage } from "../table.ts";

const COUNTED = "restored, figures as listed";

/** Restores a host in an order and holds it to the figures, which the host without the link must not have. */
function counts(on: Stage, link: Link, order: Order): void {
	const look = (name: "without" | "linked") => {
		const restore = on.begin(on.save(link[name]()));
		for (const pass of [0, 1, 2] as const) restore.pass(pass, order(pass));
		const image = restore.finish();
		for (const figure of link.figures) on.equal(figure.read(image), figure[name], `${figure.what}, ${name}`);
	};
	look("without");
	look("linked");
	for (const { what, without, linked } of link.figures) on.equal(without === linked, false, `${what} shows the link`);
}

const ASCENDING = [1, 2] as const;
const DESCENDING = [2, 1] as const;

/** Both domain orders in pass 1, times both in pass 2. */
function rowsOf(link: Link): Row[] {
	const [one, two] = link.roles as [string, string];
	const sides = [ASCENDING, DESCENDING] as const;
	const first = (order: readonly number[]) => (order === ASCENDING ? one : two);
	return sides.flatMap((pass1) =>
		sides.map(
			(pass2): Row => ({
				rule: "P4",
				arrangement: `${link.name[0]?.toUpperCase()}${link.name.slice(1)}: ${first(pass1)} first in pass 1, ${first(pass2)} in pass 2.`,
				outcome: COUNTED,
				run: (on) => counts(on, link, (pass) => [pass1, pass1, pass2][pass] as readonly number[]),
			}),
		),
	);
}

/** Puts the domains' sections of every pass in descending order. */
function descending(stream: Restitched): Restitched {
	const isHostWide = (pass: number) => pass === PASS.H || pass === PASS["1h"];
	stream.sections.sort((a, b) => a.pass - b.pass || (isHostWide(a.pass) ? 0 : b.domid - a.domid));
	return stream;
}

const inStream: Row = {
	rule: "P4",
	arrangement:
		"Each of these hosts with the domains' sections in descending order in the stream, passes called in both orders.",
	outcome: "restored, same image",
	run: (on) => {
		for (const link of [...links, sum]) {
			const host = on.save(link.linked());
			const stream = on.parse(host);
			const before = stream.sections.map(({ domid }) => domid);
			descending(stream);
			on.equal(stream.sections.map(({ domid }) => domid).join() === before.join(), false, "another order");
			on.restores(host, stream);
			on.restores(host, stream, () => [...host.domids].reverse());
		}
	},
};

const sums: Row = {
	rule: "P4",
	arrangement: `${sum.name[0]?.toUpperCase()}${sum.name.slice(1)}: three domains, all 6 orders in pass 1 times all 6 in pass 2.`,
	outcome: COUNTED,
	run: (on) => {
		const orders = permutations([1, 2, 3]);
		for (const pass1 of orders) {
			for (const pass2 of orders) counts(on, sum, (pass) => [pass1, pass1, pass2][pass] as number[]);
		}
	},
};

/** Broken links are no matter of order: check sees both ends, whichever section comes first. */
function breaks(arrangement: string, rule: Rule, name: string, breakIt: (stream: Restitched) => void): Row {
	return {
		rule: "S1",
		arrangement,
		outcome: refusedStream(rule),
		run: (on) => {
			const link = links.find((one) => one.name === name) as Link;
			const host = on.save(link.linked());
			for (const arrange of [(stream: Restitched) => stream, descending]) {
				const stream = arrange(on.parse(host));
				breakIt(stream);
				on.refusesStream(host, stream);
			}
		},
	};
}

const oneSided: Row[] = [
	breaks(
		"A grant that only its mapper knows, with the sections of the domains in both orders.",
		"XLU-R073",
		"a PV domain's grant, mapped read-write",
		(stream) => stream.remove("LU_GRANT_ACTIVE", 1),
	),
	breaks(
		"A grant that only its granter knows, with the sections of the domains in both orders.",
		"XLU-R074",
		"a PV domain's grant, mapped read-write",
		(stream) => stream.remove("LU_GRANT_MAPS", 2),
	),
	breaks(
		"A channel of which one domain has no end, with the sections of the domains in both orders.",
		"XLU-R082",
		"an interdomain channel",
		(stream) => stream.remove("LU_EVTCHN_PORTS", 2),
	),
	breaks(
		"A foreign entry whose owner LU_FOREIGN_MAPS does not name, with the sections of the domains in both orders.",
		"XLU-R063",
		"a foreign entry of a P2M",
		(stream) => stream.remove("LU_FOREIGN_MAPS", 2),
	),
];

export const crossing: Group = {
	title: "What crosses domains",
	about: `Each link is made on a host that has little else, twice: with it and without it. The figures are read from the restored
image, and no figure may be the same without the link. In pass 2 counts are only added to, so neither order may show.`,
	figures: [
		["link", "figure", "without", "with it"],
		...[...links, sum].flatMap(({ name, figures }) =>
			figures.map(({ what, without, linked }) => [name, what, `${without}`, `${linked}`]),
		),
	],
	rows: [...links.flatMap(rowsOf), sums, inStream, ...oneSided],
};
