/**
 * From a host's model to the hypervisor image that the core saves: every table laid out as the core lays it out, so that
 * an image that was built here and one that was restored can be compared octet for octet.
 */
import { XluError } from "../errors.ts";
import { KIND, NONE64 } from "../format/enums.ts";
import { alignUp, type Row, type Struct, scalarBytes, writeStruct } from "../format/layout.ts";
import {
	ABI_VERSION,
	bulkTables,
	domainTables,
	hostTables,
	IMAGE_DETACHED,
	IMAGE_MAGIC,
	imageStructs,
	type RecordDef,
	records,
	structs as S,
	type Table,
} from "../format/schema.ts";
import { affinityWords, type DomainModel, type HostModel, type PreservedPages } from "./model.ts";
import { countReferences, type References } from "./references.ts";

/** A table ready to be placed: its rows as octets. */
interface Content {
	readonly count: number;
	readonly bytes: Uint8Array;
}

const EMPTY: Content = { count: 0, bytes: new Uint8Array(0) };
const { ImageRoot, TableRef, DomainEntry } = imageStructs;

function octets(view: ArrayBufferView): Uint8Array {
	return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function encodeRows(row: Struct, list: readonly (object | undefined)[]): Content {
	if (list.length === 0) return EMPTY;
	const bytes = new Uint8Array(list.length * row.size);
	const view = new DataView(bytes.buffer);
	list.forEach((entry, i) => {
		if (entry) writeStruct(row, view, i * row.size, entry as Partial<Row>);
	});
	return { count: list.length, bytes };
}

/** Used slots and stretches of them: what a sparse record's head says. */
function sparseHead(content: Content, rowBytes: number): Row {
	let runCount = 0;
	let rowCount = 0;
	let inside = false;
	for (let slot = 0; slot < content.count; slot++) {
		const used = content.bytes.subarray(slot * rowBytes, (slot + 1) * rowBytes).some((octet) => octet !== 0);
		if (used) {
			rowCount++;
			if (!inside) runCount++;
		}
		inside = used;
	}
	return { slotCount: content.count, runCount, rowCount };
}

/** Variable vCPU state, one vCPU after the other, and where each one's begins. */
function concatenate(parts: readonly (Uint8Array | undefined)[], slots: number, rowBytes: number) {
	const first: number[] = [];
	const count: number[] = [];
	let rows = 0;
	for (let v = 0; v < slots; v++) {
		first.push(rows);
		count.push((parts[v]?.length ?? 0) / rowBytes);
		rows += count[v] as number;
	}
	const bytes = new Uint8Array(rows * rowBytes);
	for (let v = 0; v < slots; v++) bytes.set(parts[v] ?? [], (first[v] as number) * rowBytes);
	return { first, count, content: { count: rows, bytes } };
}

function highestGfn(p2m: BigUint64Array): bigint {
	let last = p2m.length - 1;
	while (last >= 0 && p2m[last] === 0n) last--;
	return last < 0 ? NONE64 : BigInt(last);
}

function affinity(list: readonly bigint[] | undefined, slots: number, words: number): Content {
	const values = new BigUint64Array(slots * words);
	for (let v = 0; v < slots; v++) {
		for (let w = 0; w < words; w++) values[v * words + w] = BigInt.asUintN(64, (list?.[v] ?? 0n) >> BigInt(64 * w));
	}
	return { count: values.length, bytes: octets(values) };
}

/** A domain's tables that are not simply a list of rows. */
function specialTables(domain: DomainModel, slots: number, words: number, sums: Row): Map<string, Content> {
	const special = new Map<string, Content>();
	special.set("DomainCounts", encodeRows(S.DomainCounts, [sums]));
	special.set(
		"VcpuSlots",
		encodeRows(
			S.VcpuSlot,
			domain.vcpuIds.map((vcpuId) => ({ vcpuId })),
		),
	);
	special.set("Vcpus", encodeRows(imageHead("LU_VCPUS"), [{ vcpuCount: domain.vcpuIds.length }]));
	special.set("HardAffinity", affinity(domain.hardAffinity, slots, words));
	special.set("SoftAffinity", affinity(domain.softAffinity, slots, words));
	special.set("SavedAffinity", affinity(domain.savedAffinity ?? domain.hardAffinity, slots, words));
	special.set(
		"Vcpu",
		encodeRows(
			imageHead("LU_VCPU"),
			Array.from({ length: slots }, (_, v) => {
				const row = domain.vcpu[v];
				return row && { vcpuInfoMfn: NONE64, ...row, vcpuId: v, affinityWordCount: words };
			}),
		),
	);
	if (domain.p2m) {
		const highest = highestGfn(domain.p2m);
		const length = highest === NONE64 ? 0 : Number(highest) + 1;
		special.set("P2m", { count: length, bytes: octets(domain.p2m.subarray(0, length)) });
		if (length > 0) {
			special.set(
				"P2mInfo",
				encodeRows(S.P2mInfo, [{ highestGfn: highest, defaultAccess: domain.p2mDefaultAccess ?? 7 }]),
			);
		}
	}
	if (domain.domain.kind === KIND.pv && slots > 0) {
		const isNarrow = Number(domain.domain.guestWidth) === 4;
		special.set(isNarrow ? "PvVcpu" : "Pv32Vcpu", EMPTY);
		const registers: readonly (object | undefined)[] = (isNarrow ? domain.pv32Vcpu : domain.pvVcpu) ?? [];
		special.set(
			isNarrow ? "Pv32Vcpu" : "PvVcpu",
			encodeRows(
				imageHead(isNarrow ? "LU_PV32_VCPU" : "LU_PV_VCPU"),
				Array.from({ length: slots }, (_, v) => registers[v] && { ...registers[v], vcpuId: v }),
			),
		);
		const fpu = new Uint8Array(slots * 512);
		domain.pvFpu?.forEach((state, v) => {
			if (state) fpu.set(state, v * 512);
		});
		special.set("PvFpu", { count: fpu.length, bytes: fpu });
		const traps = Array.from({ length: slots }, (_, v) =>
			Array.from({ length: 256 }, (_unused, i) => domain.pvTraps?.[v]?.[i]),
		);
		special.set("PvTraps", encodeRows(S.PvTrap, traps.flat()));
		const extended = concatenate(domain.pvExtended ?? [], slots, 1);
		const xsave = concatenate(domain.pvXsave ?? [], slots, 1);
		const msrs = concatenate(
			Array.from({ length: slots }, (_, v) => encodeRows(S.MsrEntry, domain.pvMsrs?.[v] ?? []).bytes),
			slots,
			S.MsrEntry.size,
		);
		special.set("PvExtended", extended.content);
		special.set("PvXsave", xsave.content);
		special.set("PvMsrs", msrs.content);
		special.set(
			"VcpuBlobs",
			encodeRows(
				S.VcpuBlobs,
				Array.from({ length: slots }, (_, v) => ({
					extendedFirst: extended.first[v],
					extendedCount: extended.count[v],
					xsaveFirst: xsave.first[v],
					xsaveCount: xsave.count[v],
					msrFirst: msrs.first[v],
					msrCount: msrs.count[v],
				})),
			),
		);
	}
	return special;
}

function imageHead(record: string): Struct {
	return (records.find((def) => def.name === record) as RecordDef).head as Struct;
}

function camel(name: string): string {
	return (name[0] as string).toLowerCase() + name.slice(1);
}

/** Records whose absence means that nothing was there: they stand as soon as one of their parts has rows. */
function headIsImplied(def: RecordDef): boolean {
	const hasFactsOfItsOwn = ["LU_GRANT_TABLE", "LU_SHARED_INFO", "LU_SCHEDULER"].includes(def.name);
	return def.cardinality === "optional" && !hasFactsOfItsOwn;
}

/** All tables of one scope: rows from the model's properties, heads with the counts that follow from the parts. */
function tableContents(tables: readonly Table[], model: object, special: Map<string, Content>): Content[] {
	const properties = model as Record<string, unknown>;
	const contents = new Map<string, Content>();
	for (const table of tables) {
		const value = properties[camel(table.name)];
		if (special.has(table.name)) contents.set(table.name, special.get(table.name) as Content);
		else if (ArrayBuffer.isView(value)) {
			contents.set(table.name, { count: value.byteLength / table.row.size, bytes: octets(value) });
		} else if (Array.isArray(value)) contents.set(table.name, encodeRows(table.row, value));
	}
	for (const def of records) {
		const { head } = def;
		if (!head || def.cardinality === "vcpu" || contents.has(head.name)) continue;
		if (!tables.some((table) => table.name === head.name)) continue;
		const given = properties[camel(head.name)] as Row | undefined;
		const parts = def.parts.map((part) => contents.get(part.table) ?? EMPTY);
		const implied = headIsImplied(def) && parts.some((part) => part.count > 0);
		if (!given && !implied && def.cardinality === "optional") continue;
		const counts: Row = {};
		def.parts.forEach((part, i) => {
			const content = parts[i] as Content;
			if (part.kind === "sparse") Object.assign(counts, sparseHead(content, part.row.size));
			else if (typeof part.count === "string" && part.count !== "rest") counts[part.count] = content.count;
		});
		contents.set(head.name, encodeRows(head, [{ ...given, ...counts }]));
	}
	return tables.map((table) => contents.get(table.name) ?? EMPTY);
}

/**
 * Builds the image of a host.
 *
 * @param model the host; rows are checked by the core's own rules when the stream is checked, not here
 * @param preserved the memory that goes with it: PV page tables, of which references are counted
 * @param references the counts to put in, by default those that follow from the model
 * @returns the image: relocatable, 8-aligned tables
 * @throws XLU_E_SPACE if the image would not fit the core's 32-bit windows
 */
export function buildImage(
	model: HostModel,
	preserved: PreservedPages,
	references: References = countReferences(model, preserved),
): Uint8Array<ArrayBuffer> {
	return layOut(model, references).image;
}

/** A table that grows with memory, as its host has it: all rows, in octets. */
export interface BulkContent {
	/** Absent for the host's own. */
	readonly domid: number | undefined;
	readonly table: Table;
	readonly count: number;
	readonly bytes: Uint8Array;
}

/** An image without its bulk tables, and these. */
export interface DetachedImage {
	readonly image: Uint8Array<ArrayBuffer>;
	readonly bulk: readonly BulkContent[];
}

/**
 * The same image, detached: frame tables and P2Ms are not in it, only how many rows they have. For saves and digests in steps
 * (core/windows.ts), which ask for rows. Parameters as for `buildImage`.
 * @throws XLU_E_SPACE if the rest would not fit the core's 32-bit windows
 */
export function buildDetachedImage(
	model: HostModel,
	preserved: PreservedPages,
	references: References = countReferences(model, preserved),
): DetachedImage {
	return layOut(model, references, true);
}

function layOut(model: HostModel, references: References, isDetached = false): DetachedImage {
	const domains = [...model.domains].sort((a, b) => a.domain.domid - b.domain.domid);
	const words = affinityWords(Number(model.host.cpuCount ?? 1));
	const text = new TextEncoder().encode(model.versionText);
	const host = tableContents(
		hostTables,
		{ ...model, host: { ...model.host, domainCount: domains.length, frameCount: model.frameOwners.length } },
		new Map([
			["VersionText", { count: text.length, bytes: text }],
			["FrameCounts", { count: model.frameOwners.length, bytes: octets(references.frames) }],
		]),
	);
	const perDomain = domains.map((domain) => {
		const slots = domain.vcpuIds.length ? Math.max(...domain.vcpuIds) + 1 : 0;
		const sums = { ...references.domains.get(domain.domain.domid) } as Row;
		return { domain, slots, contents: tableContents(domainTables, domain, specialTables(domain, slots, words, sums)) };
	});
	const hostDirectory = ImageRoot.size;
	const domainsOffset = hostDirectory + hostTables.length * TableRef.size;
	const directoryBytes = DomainEntry.size + domainTables.length * TableRef.size;
	let end = domainsOffset + perDomain.length * directoryBytes;
	const bulk: BulkContent[] = [];
	const place = (contents: readonly Content[], tables: readonly Table[], domid?: number) =>
		contents.map((content, i) => {
			const table = tables[i] as Table;
			if (isDetached && bulkTables.includes(table.name)) {
				if (content.count) bulk.push({ domid, table, ...content });
				return { offset: 0, content: { count: content.count, bytes: EMPTY.bytes } };
			}
			const offset = content.count ? end : 0;
			end += alignUp(content.bytes.length, 8);
			return { offset, content };
		});
	const placedHost = place(host, hostTables);
	const placedDomains = perDomain.map((domain) => ({
		...domain,
		placed: place(domain.contents, domainTables, domain.domain.domain.domid),
	}));
	if (end > 0xffff_ffff) {
		throw new XluError("XLU_E_SPACE", "The host does not fit one image.", {
			expected: "at most 4 GiB",
			got: `${end} octets`,
		});
	}
	const image = new Uint8Array(end);
	const view = new DataView(image.buffer);
	writeStruct(ImageRoot, view, 0, {
		magic: IMAGE_MAGIC,
		abi: ABI_VERSION,
		size: end,
		domainCount: perDomain.length,
		domainsOffset,
		restoredPass: 0xffff_ffff,
		flags: isDetached ? IMAGE_DETACHED : 0,
	});
	const write = (directory: number, placed: readonly { offset: number; content: Content }[]) => {
		placed.forEach(({ offset, content }, i) => {
			writeStruct(TableRef, view, directory + i * TableRef.size, { offset, count: content.count });
			if (content.bytes.length) image.set(content.bytes, offset);
		});
	};
	write(hostDirectory, placedHost);
	placedDomains.forEach(({ domain, slots, placed }, i) => {
		const entry = domainsOffset + i * directoryBytes;
		writeStruct(DomainEntry, view, entry, { domid: domain.domain.domid, vcpuSlots: slots });
		write(entry + DomainEntry.size, placed);
	});
	return { image, bulk };
}

// --- reading an image --------------------------------------------------------------------------------------------

export interface TableView {
	readonly table: Table;
	readonly count: number;
	/** Octets from the image's start. */
	readonly offset: number;
}

export interface ImageView {
	readonly view: DataView;
	readonly host: readonly TableView[];
	readonly domains: readonly { domid: number; vcpuSlots: number; tables: readonly TableView[] }[];
}

/** The directories of an image, for those who want to look into it. Trusts the image: it is the core's or ours. */
export function viewImage(image: Uint8Array): ImageView {
	const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
	const directory = (at: number, tables: readonly Table[]): TableView[] =>
		tables.map((table, i) => ({
			table,
			offset: view.getUint32(at + i * TableRef.size, true),
			count: view.getUint32(at + i * TableRef.size + scalarBytes.u32, true),
		}));
	const domainsOffset = ImageRoot.size + hostTables.length * TableRef.size;
	const directoryBytes = DomainEntry.size + domainTables.length * TableRef.size;
	const domainCount = view.getUint32(16, true);
	return {
		view,
		host: directory(ImageRoot.size, hostTables),
		domains: Array.from({ length: domainCount }, (_, i) => {
			const entry = domainsOffset + i * directoryBytes;
			return {
				domid: view.getUint32(entry, true),
				vcpuSlots: view.getUint32(entry + 4, true),
				tables: directory(entry + DomainEntry.size, domainTables),
			};
		}),
	};
}
