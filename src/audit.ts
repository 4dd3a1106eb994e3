/**
 * audit: would xen#1's state survive a live update? Asked while guests run, before the point of no return (X2).
 *
 *     image ─ save ─ check: every rule ─ three passes into a scratch image ─ counts held against counts rebuilt
 *
 * What an image holds either travels, and then check has looked at it; or it is a count of references, and then the passes
 * have rebuilt it from what holds them. So nothing in an image goes unseen, and the rules are the ones that xen#2 will
 * apply, not a second account of them. Nothing of the image is written.
 *
 * Unhappy paths: an image whose tables do not hold together is refused by save (XLU-R033); the first rule that does not
 * hold ends the audit; counts are all compared, and the first MOST_FINDINGS that differ are named.
 */
import { type Core, loadCore, type Window } from "./core/load.ts";
import { type Finding, findingOf, isVerdict, XluError } from "./errors.ts";
import { DOMID, FRAME, FRAME_OWNER_MASK, PAGE_TYPE } from "./format/enums.ts";
import { readStruct, type Struct } from "./format/layout.ts";
import { ruleId, rules } from "./format/rules.ts";
import type { Host } from "./host.ts";
import { buildImage, type ImageView, type TableView, viewImage } from "./machine/image.ts";
import type { PreservedPages } from "./machine/model.ts";
import { openAndCheck, placeMemory, restorePasses } from "./steps.ts";

/** One thing that is wrong with an image. */
export interface AuditFinding extends Finding {
	/** The frame whose counts differ. */
	mfn: number | null;
}

export interface AuditReport {
	host: string;
	/** Nothing was found. */
	clean: boolean;
	findings: AuditFinding[];
	/** Counts that differ beyond the findings. */
	moreFindings: number;
	frames: number;
	domains: number;
	/** Of the stream that a live update of it would take now. */
	streamBytes: number;
}

/** Counts that differ are named up to here, then only counted: one fault can throw off every frame of a domain. */
const MOST_FINDINGS = 100;

const compareRule = ruleId(rules.find(({ name }) => name === "COMPARE")?.id ?? 0);

/**
 * Audits a host.
 * @throws XLU_E_SPACE if its tables, twice, do not fit the core's 4 GiB of windows
 */
export async function auditHost(host: Host, core?: Core): Promise<AuditReport> {
	const { name, model, preserved, references } = host;
	return auditImage(core ?? (await loadCore()), name, buildImage(model, preserved, references), preserved);
}

/**
 * Audits a hypervisor's image.
 * @param core whose windows are used; what they held is gone
 * @param preserved the memory that goes with the image: pages whose content matters to the hypervisor's state
 * @param format version of the format that the update will save in, 0 for the newest
 * @throws XLU_E_SPACE if it does not fit the core's 4 GiB of windows
 */
export function auditImage(
	core: Core,
	host: string,
	image: Uint8Array,
	preserved: PreservedPages,
	format = 0,
): AuditReport {
	core.reset();
	const report: AuditReport = {
		host,
		clean: false,
		findings: [],
		moreFindings: 0,
		frames: 0,
		domains: 0,
		streamBytes: 0,
	};
	try {
		const window = core.place(image);
		const restored = rebuild(core, window, preserved, format, report);
		compareCounts(viewImage(core.bytes(window)), viewImage(core.bytes(restored)), report);
		// Whatever else would differ is a defect of save or restore, and no less a reason to stay.
		const difference = report.findings.length ? undefined : core.createContext().compare(window, restored);
		if (difference) {
			const { domid, table, index, field, expected, got } = difference;
			add(
				report,
				{ domid, field: `${table}[${index ?? ""}].${field ?? ""}`, expected: got, got: expected },
				"does not travel",
			);
		}
	} catch (error) {
		if (!isVerdict(error)) throw error;
		report.findings.push({ ...findingOf(error), mfn: null });
	}
	report.clean = report.findings.length === 0;
	return report;
}

/** The image as xen#2 would build it. */
function rebuild(core: Core, image: Window, preserved: PreservedPages, format: number, report: AuditReport): Window {
	const saving = core.createContext();
	saving.saveAs(format);
	const stream = saving.save(image, core.allocate(saving.planSave(image)));
	report.streamBytes = stream.length;
	const { context, imageBytes } = openAndCheck(core, stream, placeMemory(core, preserved, stream));
	report.frames = context.figure("frameCount");
	report.domains = context.figure("domainCount");
	const target = core.allocate(imageBytes);
	context.target(target);
	restorePasses(context, context.domids());
	return target;
}

type Place = Partial<Pick<AuditFinding, "domid" | "mfn" | "field">> & {
	expected: number | string;
	got: number | string;
};

function add(report: AuditReport, place: Place, what: string): void {
	if (report.findings.length >= MOST_FINDINGS) {
		report.moreFindings++;
		return;
	}
	const { domid = null, mfn = null, field = null } = place;
	const [expected, got] = [`${place.expected}`, `${place.got}`];
	const where = mfn === null ? (domid === null ? "The host" : `Domain ${domid}`) : `Frame 0x${mfn.toString(16)}`;
	const message = `${where}, ${field}: ${what}: ${expected} accounted for, ${got} found (${compareRule})`;
	report.findings.push({ rule: compareRule, domid, mfn, record: null, offset: null, field, expected, got, message });
}

const tableOf = (tables: readonly TableView[], name: string): TableView => {
	const found = tables.find(({ table }) => table.name === name);
	if (!found) throw new XluError("XLU_E_INTERNAL", `The image has no table ${name}.`);
	return found;
};

const valuesOf = ({ table: { row } }: TableView, view: DataView, offset: number) =>
	row.fields.map(({ name }) => [name, Number(readStruct(row as Struct, view, offset)[name])] as const);

const typeNames = Object.fromEntries(Object.entries(PAGE_TYPE).map(([name, type]) => [type, name]));

/** Whose a frame is, for people. */
function describeFrame(tables: ImageView, mfn: number): { domid: number | undefined; text: string } {
	const owners = tableOf(tables.host, "FrameOwners");
	const types = tableOf(tables.host, "FrameTypes");
	const bits = tables.view.getUint32(owners.offset + mfn * owners.table.row.size, true);
	if ((bits & FRAME.owned) === 0) return { domid: undefined, text: "a frame that nobody owns" };
	const owner = bits & FRAME_OWNER_MASK;
	const type = typeNames[tables.view.getUint8(types.offset + mfn) & 7] ?? "none";
	const kind = bits & FRAME.xenheap ? "xenheap" : bits & FRAME.extra ? "extra" : "ordinary";
	return {
		domid: owner < DOMID.FIRST_RESERVED ? owner : undefined,
		text: `${kind} frame of domain ${owner}, type ${type}`,
	};
}

/** Counts of frames and of domains: what xen#1 holds against what follows from all that holds them. */
function compareCounts(held: ImageView, rebuilt: ImageView, report: AuditReport): void {
	const counts = tableOf(held.host, "FrameCounts");
	const others = tableOf(rebuilt.host, "FrameCounts");
	const rowBytes = counts.table.row.size;
	const words = (image: ImageView, { offset, count }: TableView) =>
		new Uint32Array(image.view.buffer, image.view.byteOffset + offset, (count * rowBytes) / 4);
	const [a, b] = [words(held, counts), words(rebuilt, others)];
	for (let at = 0; at < a.length; at++) {
		if (a[at] === b[at]) continue;
		const mfn = Math.floor((at * 4) / rowBytes);
		const { domid, text } = describeFrame(held, mfn);
		const field = counts.table.row.fields.find(({ offset }) => offset === (at * 4) % rowBytes)?.name ?? "counts";
		add(report, { domid, mfn, field, expected: b[at] as number, got: a[at] as number }, text);
	}
	held.domains.forEach(({ domid, tables }, i) => {
		const mine = tableOf(tables, "DomainCounts");
		const rest = tableOf(rebuilt.domains[i]?.tables ?? [], "DomainCounts");
		const expected = valuesOf(rest, rebuilt.view, rest.offset);
		valuesOf(mine, held.view, mine.offset).forEach(([field, got], k) => {
			const wanted = expected[k]?.[1] as number;
			if (got !== wanted) add(report, { domid, field, expected: wanted, got }, "its count");
		});
	});
}
