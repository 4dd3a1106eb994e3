/** P3 within a section: every order that "after" leaves open, and each "after" broken once. */
import fc from "fast-check";
import { PASS, type PassName } from "../../../src/format/enums.ts";
import type { Restitched, StreamRecord, StreamSection } from "../../support/restitch.ts";
import { cutSlices, keepsAfter, mustFollow, type Pair, pairs, shuffle, vcpuOf } from "../after.ts";
import { isolated } from "../links.ts";
import {
	type Group,
	type HostName,
	hostNames,
	type Row,
	refusedStream,
	SAME,
	type SavedHost,
	type Stage,
	type Verdict,
} from "../table.ts";

const EITHER = "restored, same image, or refused XLU-R015";
const OUT_OF_ORDER = refusedStream("XLU-R015");

// --- orders that are left open ---

const KEYS = fc.array(fc.nat(100_000), { minLength: 64, maxLength: 64 });

/** Shuffles the sections of a pass, or all, `runs` times; most of the orders must be others than the stream's own. */
function shuffles(on: Stage, host: SavedHost, runs: number, seed: number, pass?: PassName): void {
	let moved = 0;
	fc.assert(
		fc.property(KEYS, (keys) => {
			const stream = cutSlices(on.parse(host));
			for (const section of stream.sections) {
				if (pass !== undefined && section.pass !== PASS[pass]) continue;
				const before = section.records;
				section.records = shuffle(before, keys);
				if (section.records.some((record, i) => record !== before[i])) moved++;
			}
			on.restores(host, stream);
		}),
		{ seed, numRuns: runs },
	);
	on.equal(moved > runs / 2, true, "orders that are not the stream's own");
}

const RUNS: Readonly<Record<HostName, number>> = { tiny: 200, second: 60, pv: 12, pvh: 12, hvm: 12, synthetic: 40 };
/** Sections 1d and 1h have nothing to shuffle: two records, one after the other; slices, and other slices behind them. */
const FREE: readonly (readonly [PassName, string])[] = [
	["H", "section H"],
	["0", "each domain's section 0"],
	["2", "each domain's section 2"],
];
const open: Row[] = [
	...FREE.map(
		([pass, what]): Row => ({
			rule: "P3",
			arrangement: `The records of ${what} of tiny in 50 random orders that keep to "after".`,
			outcome: SAME,
			run: (on) => shuffles(on, on.host("tiny"), 50, 7, pass),
		}),
	),
	...hostNames.map(
		(name, i): Row => ({
			rule: "P3",
			arrangement: `The records of every section of ${name} in ${RUNS[name]} random orders that keep to "after".`,
			outcome: SAME,
			run: (on) => shuffles(on, on.host(name), RUNS[name], 100 + i),
		}),
	),
	{
		rule: "P3",
		arrangement: `Every two neighbours of each section exchanged: refused exactly where that breaks an "after".`,
		outcome: EITHER,
		run: (on) => {
			const host = on.host("tiny");
			const seen = { restored: 0, refused: 0 };
			on.parse(host).sections.forEach(({ records: list }, which) => {
				for (let at = 0; at + 1 < list.length; at++) {
					const stream = on.parse(host);
					const section = stream.sections[which] as StreamSection;
					section.records = exchanged(section.records, at);
					seen[judged(on, host, stream, section)]++;
				}
			});
			on.equal(Math.min(seen.restored, seen.refused) > 10, true, `both outcomes: ${JSON.stringify(seen)}`);
		},
	},
	{
		rule: "P3",
		arrangement: `Any order at all of one section's records, 300 samples: refused exactly where it breaks an "after".`,
		outcome: EITHER,
		run: (on) => {
			const host = on.host("tiny");
			const seen = { restored: 0, refused: 0 };
			fc.assert(
				fc.property(fc.nat(100_000), fc.nat(64), KEYS, (which, moves, keys) => {
					const stream = on.parse(host);
					const all = stream.sections.filter((one) => one.records.length > 1);
					const section = all[which % all.length] as StreamSection;
					// From few moves to many, or hardly one order would keep to "after".
					for (const key of keys.slice(0, 1 + (moves % 8))) {
						section.records = exchanged(section.records, key % (section.records.length - 1));
					}
					seen[judged(on, host, stream, section)]++;
				}),
				{ seed: 19, numRuns: 300 },
			);
			on.equal(Math.min(seen.restored, seen.refused) > 50, true, `both outcomes: ${JSON.stringify(seen)}`);
		},
	},
];

function exchanged(list: readonly StreamRecord[], at: number): StreamRecord[] {
	return list.map((_, i) => list[i === at ? at + 1 : i === at + 1 ? at : i] as StreamRecord);
}

/** Holds check to what the names say of a section's order. */
function judged(on: Stage, host: SavedHost, stream: Restitched, section: StreamSection): "restored" | "refused" {
	const keeps = keepsAfter(section.records);
	const what = section.records.map(({ name }) => name).join(" ");
	on.equal(on.restoresOrRefuses(host, stream, "XLU-R015"), keeps, what);
	return keeps ? "restored" : "refused";
}

// --- each "after" ---

/** The section of a host that has both records of a pair, for one vCPU where they are a vCPU's. */
function sectionWith(stream: Restitched, { later, earlier }: Pair): StreamSection {
	const found = stream.sections.find(({ records }) =>
		records.some(
			(one) => one.type === later.type && records.some((two) => two.type === earlier.type && mustFollow(one, two)),
		),
	);
	if (!found) throw new Error(`no section has both ${later.name} and ${earlier.name}`);
	return found;
}

/** Takes a record out of its section and puts it before another one. */
function putBefore(section: StreamSection, record: StreamRecord, other: StreamRecord): void {
	section.records = section.records.filter((one) => one !== record);
	section.records.splice(section.records.indexOf(other), 0, record);
}

function putBehind(section: StreamSection, record: StreamRecord, other: StreamRecord): void {
	section.records = section.records.filter((one) => one !== record);
	section.records.splice(section.records.indexOf(other) + 1, 0, record);
}

/**
 * What check says: it stops at the earlier type's record, which comes too late; of two records of one vCPU at the later
 * type's, which comes without what it extends, and names the vCPU.
 */
function verdictOf(pair: Pair, later: StreamRecord, earlier: StreamRecord): Verdict {
	if (pair.isPerVcpu) return { at: later, expected: pair.earlier.type, got: vcpuOf(later) as number };
	return { at: earlier, expected: pair.earlier.type, got: pair.later.type };
}

/** Domid of `second`'s 32-bit guest. */
const NARROW = 6;

/** The host that has both records of a pair. */
const hostWith = ({ later, earlier }: Pair): HostName => (later.since > 1 || earlier.since > 1 ? "second" : "tiny");

const broken: Row[] = pairs.map((pair): Row => {
	const { later, earlier } = pair;
	const stop = (pair.isPerVcpu ? later : earlier).name;
	return {
		rule: "XLU-R015",
		arrangement: `${later.name} stands before ${pair.isPerVcpu ? "the same vCPU's " : ""}${earlier.name}; found at ${stop}.`,
		outcome: OUT_OF_ORDER,
		run: (on) => {
			const host = on.host(hostWith(pair));
			const stream = on.parse(host);
			const section = sectionWith(stream, pair);
			const of = (type: number) => section.records.filter((record) => record.type === type);
			// The last of several: that one is enough.
			const [one] = of(later.type);
			const two = of(earlier.type).findLast((record) => mustFollow(one as StreamRecord, record));
			putBefore(section, one as StreamRecord, two as StreamRecord);
			on.refusesStream(host, stream, verdictOf(pair, one as StreamRecord, two as StreamRecord));
		},
	};
});

/** vCPU 0's later record before vCPU 1's earlier one. */
const acrossVcpus: Row[] = pairs
	.filter(({ isPerVcpu }) => isPerVcpu)
	.map(
		({ later, earlier, isPerVcpu }): Row => ({
			rule: "P3",
			arrangement: `vCPU 1's ${earlier.name} stands behind vCPU 0's ${later.name}.`,
			outcome: SAME,
			run: (on) => {
				const name = hostWith({ later, earlier, isPerVcpu });
				const host = on.host(name);
				const stream = on.parse(host);
				const section = stream.section("2", name === "second" ? NARROW : 1);
				const of = (type: number, vcpu: number) =>
					section.records.find((record) => record.type === type && vcpuOf(record) === vcpu) as StreamRecord;
				// All that belongs to vCPU 1 goes along in its own order, so that this pair is the only thing that is tried.
				const mine = section.records.filter((record) => vcpuOf(record) === 1);
				let last = of(later.type, 0);
				for (const record of mine) {
					putBehind(section, record, last);
					last = record;
				}
				const names = section.records.map((record) => record);
				on.equal(
					names.indexOf(of(earlier.type, 1)) > names.indexOf(of(later.type, 0)),
					true,
					"the order that is tried",
				);
				// The domain's records that stand behind every vCPU's.
				const tsc = section.records.find((record) => record.name === "X86_TSC_INFO") as StreamRecord;
				putBehind(section, tsc, last);
				on.restores(host, stream);
			},
		}),
	);

const vcpus: Row[] = [
	...acrossVcpus,
	{
		rule: "P3",
		arrangement: "All records of vCPU 1 stand before the first of vCPU 0.",
		outcome: SAME,
		run: (on) => {
			const host = on.host("tiny");
			const stream = on.parse(host);
			const section = stream.section("2", 1);
			const first = section.records.find((record) => vcpuOf(record) === 0) as StreamRecord;
			for (const record of section.records.filter((one) => vcpuOf(one) === 1)) putBefore(section, record, first);
			on.restores(host, stream);
		},
	},
	{
		rule: "XLU-R015",
		arrangement: "X86_TSC_INFO, which is the domain's, stands between LU_VCPU of vCPU 0 and of vCPU 1.",
		outcome: OUT_OF_ORDER,
		run: (on) => {
			const host = on.host("tiny");
			const stream = on.parse(host);
			const section = stream.section("2", 1);
			const [, second] = section.records.filter((record) => record.name === "LU_VCPU");
			const tsc = section.records.find((record) => record.name === "X86_TSC_INFO") as StreamRecord;
			putBefore(section, tsc, second as StreamRecord);
			on.refusesStream(host, stream, { at: second as StreamRecord, got: tsc.type });
		},
	},
	...["LU_VCPU", "LU_PV_VCPU"].map(
		(name): Row => ({
			rule: "XLU-R015",
			arrangement: `vCPU 0's X86_PV_VCPU_MSRS stands in a section in which vCPU 0 has no ${name}, vCPU 1 has one.`,
			outcome: OUT_OF_ORDER,
			run: (on) => {
				const host = on.host("tiny");
				const stream = on.parse(host);
				const section = stream.section("2", 1);
				const others = ["LU_PV_VCPU", "X86_PV_VCPU_EXTENDED", "X86_PV_VCPU_XSAVE"];
				section.records = section.records.filter(
					(record) => vcpuOf(record) !== 0 || (record.name !== name && !others.includes(record.name)),
				);
				const at = section.records.find((record) => record.name === "X86_PV_VCPU_MSRS") as StreamRecord;
				on.refusesStream(host, stream, { at, got: 0 });
			},
		}),
	),
];

// --- absent types, slices, unknown records ---

const absent: Row[] = [
	{
		rule: "P3",
		arrangement: "LU_IOREQ_SERVERS stands before LU_EVTCHN_PORTS, where there is no LU_PIRQS between them.",
		outcome: SAME,
		run: (on) => {
			const host = on.save(isolated());
			const stream = on.parse(host);
			const section = stream.section("2", 2);
			const of = (name: string) => stream.record(name, 2);
			on.equal(
				section.records.some((record) => record.name === "LU_PIRQS"),
				false,
				"LU_PIRQS is absent",
			);
			putBefore(section, of("LU_IOREQ_SERVERS"), of("LU_EVTCHN_PORTS"));
			on.restores(host, stream);
		},
	},
	{
		rule: "P3",
		arrangement: "HVM_CONTEXT stands before LU_VCPU, where there are no X86_TSC_INFO and HVM_PARAMS between them.",
		outcome: SAME,
		run: (on) => {
			const host = on.save(isolated());
			const stream = on.parse(host);
			putBefore(stream.section("2", 2), stream.record("HVM_CONTEXT", 2), stream.record("LU_VCPU", 2));
			on.restores(host, stream);
		},
	},
];

/** The sections that a host has with at least two slices of a type. */
function sliced(stream: Restitched, name: string): { section: StreamSection; slices: StreamRecord[] } {
	for (const section of cutSlices(stream).sections) {
		const slices = section.records.filter((record) => record.name === name);
		if (slices.length > 1) return { section, slices };
	}
	throw new Error(`no section has two slices of ${name}`);
}

const slices: Row[] = [
	...["LU_P2M", "LU_FRAMES", "LU_PAGE_TYPES"].flatMap((name): Row[] => [
		{
			rule: "XLU-R021",
			arrangement: `Two slices of ${name} are exchanged.`,
			outcome: refusedStream("XLU-R021"),
			run: (on) => {
				const host = on.host("hvm");
				const stream = on.parse(host);
				const { section, slices: list } = sliced(stream, name);
				putBefore(section, list[1] as StreamRecord, list[0] as StreamRecord);
				on.refusesStream(host, stream, { at: list[0] as StreamRecord });
			},
		},
		{
			rule: "XLU-R021",
			arrangement: `A slice of ${name} stands twice.`,
			outcome: refusedStream("XLU-R021"),
			run: (on) => {
				const host = on.host("hvm");
				const stream = on.parse(host);
				const { section, slices: list } = sliced(stream, name);
				const again = (list[0] as StreamRecord).clone();
				section.records.splice(section.records.indexOf(list[0] as StreamRecord) + 1, 0, again);
				on.refusesStream(host, stream, { at: again });
			},
		},
	]),
	...(
		[
			["LU_PAGE_TYPES", "LU_FRAMES"],
			["LU_VCPUS", "LU_P2M"],
		] as const
	).map(
		([later, earlier]): Row => ({
			rule: "XLU-R015",
			arrangement: `${later} stands between two slices of ${earlier}.`,
			outcome: OUT_OF_ORDER,
			run: (on) => {
				const host = on.host("hvm");
				const stream = on.parse(host);
				const { section, slices: list } = sliced(stream, earlier);
				const one = section.records.find((record) => record.name === later) as StreamRecord;
				putBefore(section, one, list[1] as StreamRecord);
				on.refusesStream(host, stream, {
					at: list[1] as StreamRecord,
					expected: list[1]?.type as number,
					got: one.type,
				});
			},
		}),
	),
	{
		rule: "P3",
		arrangement: "Section 0's other records stand between the slices of LU_P2M.",
		outcome: SAME,
		run: (on) => {
			const host = on.host("hvm");
			const stream = on.parse(host);
			const { section, slices: list } = sliced(stream, "LU_P2M");
			const free = section.records.filter((record) => !["LU_DOMAIN", "LU_P2M", "LU_VCPUS"].includes(record.name));
			on.equal(free.length > 0, true, "records that may stand there");
			for (const record of free) putBehind(section, record, list[0] as StreamRecord);
			on.restores(host, stream);
		},
	},
];

const UNKNOWN_OPTIONAL = 0xc0ff_ee00;
const unknown: Row[] = [
	{
		rule: "F3",
		arrangement: "An unknown optional record stands before, between and behind the records of each section.",
		outcome: SAME,
		run: (on) => {
			const host = on.host("tiny");
			const stream = on.parse(host);
			const stranger = () => {
				const record = stream.record("LU_VERSION").clone();
				record.type = UNKNOWN_OPTIONAL;
				return record;
			};
			for (const section of stream.sections) {
				section.records = [stranger(), ...section.records.flatMap((record) => [record, stranger()])];
			}
			on.restores(host, stream);
		},
	},
];

export const records: Group = {
	title: "Records within a section",
	about: `"after" is the column of [the table of record types](FORMAT.md#record-types): where a section has both types, no record of
the earlier one stands behind the later one. The rows of XLU-R015 are made from the schema, one for each pair. Lengths,
counts, checksums and index of every stream are right, so that order is all there is to refuse. Slices are cut into single
chunks, so that there are several.`,
	rows: [...open, ...broken, ...vcpus, ...absent, ...slices, ...unknown],
};
