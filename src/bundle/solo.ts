/**
 * One domain of a host, cut out: a host model with that domain and its frames alone, from which the core saves the bundle's
 * live-update stream; and the way back, from that stream to the model. What crosses domains stands in the domain's own
 * records (S1), so nothing of the others is needed.
 */
import { XluError } from "../errors.ts";
import { decodeRecord } from "../format/decode.ts";
import { FRAME, FRAME_OWNER_MASK, KIND, NONE64 } from "../format/enums.ts";
import type { Row } from "../format/layout.ts";
import { recordByName, records } from "../format/schema.ts";
import { sliceRuns } from "../inspect/extents.ts";
import { walkRecords } from "../inspect/stream.ts";
import { affinityWords, type DomainModel, type HostModel, type PreservedPages } from "../machine/model.ts";

/** A domain without its host. */
export interface SoloDomain {
	/** The host's figures, and this domain as its only one. */
	readonly model: HostModel;
	readonly domain: DomainModel;
	/** Contents of the domain's frames that stay in place. */
	readonly preserved: PreservedPages;
}

/** MFNs that a domain owns, ascending. */
export function framesOf(frameOwners: BigUint64Array, domid: number): number[] {
	const halves = new Uint32Array(frameOwners.buffer, frameOwners.byteOffset, frameOwners.length * 2);
	const mfns: number[] = [];
	for (let mfn = 0; mfn < frameOwners.length; mfn++) {
		const bits = halves[2 * mfn] as number;
		if (bits & FRAME.owned && (bits & FRAME_OWNER_MASK) === domid) mfns.push(mfn);
	}
	return mfns;
}

const SPECIAL = FRAME.xenheap | FRAME.extra;

/** MFNs of a domain's memory, ascending: those that nr_pages counts. */
export function ordinaryFrames(frameOwners: BigUint64Array, domid: number): number[] {
	const halves = new Uint32Array(frameOwners.buffer, frameOwners.byteOffset, frameOwners.length * 2);
	return framesOf(frameOwners, domid).filter((mfn) => ((halves[2 * mfn] as number) & SPECIAL) === 0);
}

/** What INFO says of a domain. */
export function infoOf(host: HostModel, domain: DomainModel, flags: number) {
	return {
		domid: domain.domain.domid,
		kind: domain.domain.kind,
		guestWidth: Number(domain.domain.guestWidth ?? 8),
		vcpuCount: domain.vcpuIds.length,
		frameCount: BigInt(ordinaryFrames(host.frameOwners, domain.domain.domid).length),
		xenMajor: Number(host.version.xenMajor ?? 0),
		xenMinor: Number(host.version.xenMinor ?? 0),
		cpuKhz: Number(host.host.cpuKhz ?? 0),
		flags,
		systemTimeNs: BigInt(host.host.systemTimeNs ?? 0),
		handle: (domain.domain.handle ?? []).map(Number),
	};
}

/** Cuts a domain out of a host. What the host's rows say of others is left behind. */
export function cutOut(host: HostModel, preserved: PreservedPages, domain: DomainModel): SoloDomain {
	const { domid } = domain.domain;
	const mfns = framesOf(host.frameOwners, domid);
	const frameOwners = new BigUint64Array(host.frameOwners.length);
	const frameTypes = new Uint8Array(host.frameTypes.length);
	const kept: PreservedPages = new Map();
	for (const mfn of mfns) {
		frameOwners[mfn] = host.frameOwners[mfn] as bigint;
		frameTypes[mfn] = host.frameTypes[mfn] as number;
		const page = preserved.get(mfn);
		if (page) kept.set(mfn, page);
	}
	const ofDomain = <T extends { domid?: number | bigint | undefined }>(rows: readonly T[] | undefined): T[] =>
		(rows ?? []).filter((row) => Number(row.domid) === domid);
	const model: HostModel = {
		version: host.version,
		versionText: host.versionText,
		host: { ...host.host, domainCount: 1 },
		virqHandlers: ofDomain(host.virqHandlers),
		m2pRanges: [],
		regionList: [],
		poolList: host.poolList.filter(({ poolId }) => Number(poolId) === Number(domain.domain.cpupoolId ?? 0)),
		poolCpus: host.poolCpus.filter(({ poolId }) => Number(poolId) === Number(domain.domain.cpupoolId ?? 0)),
		irqOwners: ofDomain(host.irqOwners),
		deviceList: ofDomain(host.deviceList),
		identityMaps: ofDomain(host.identityMaps),
		frameOwners,
		frameTypes,
		domains: [domain],
	};
	return { model, domain, preserved: kept };
}

const camel = (name: string): string => (name[0] as string).toLowerCase() + name.slice(1);

/** Frames of a machine or a guest of 512 GiB: a stream of a few octets can claim any number, and tables are held whole. */
export const MOST_FRAMES = 2 ** 27;

/** Rows by slot. */
function slotted(rows: readonly Row[], count: number): (Row | undefined)[] {
	const slots: (Row | undefined)[] = new Array(Math.min(count, 1 << 24)).fill(undefined);
	for (const { slot, ...row } of rows) if (Number(slot) < slots.length) slots[Number(slot)] = row;
	return slots;
}

type Draft = Record<string, unknown>;

interface Slice {
	first: number;
	count: number;
	chunks: Uint8Array;
}

/** Fills a bulk table from its slices; a run that leaves the table is cut. */
function fill<T extends BigUint64Array | Uint8Array>(table: T, slices: readonly Slice[], octets: 1 | 8): T {
	for (const { first, chunks } of slices) {
		for (const { first: at, length, value } of sliceRuns(chunks, first, octets)) {
			const steps = value >> 63n === 1n ? 1n : 0n;
			for (let i = 0; i < length && at + i < table.length; i++) {
				if (octets === 8) (table as BigUint64Array)[at + i] = value + steps * BigInt(i);
				else (table as Uint8Array)[at + i] = Number(value);
			}
		}
	}
	return table;
}

/** Entries of a bulk table: up to where its last slice ends. */
function lengthOf(slices: readonly Slice[]): number {
	const length = slices.reduce((most, { first, count }) => Math.max(most, first + count), 0);
	if (length <= MOST_FRAMES) return length;
	const expected = `tables of at most ${MOST_FRAMES} frames`;
	throw new XluError("XLU_E_IMAGE", `LIVE_UPDATE: expected ${expected}, got ${length}.`, {
		expected,
		got: `${length}`,
	});
}

const bitmapOf = (words: readonly Row[]): bigint =>
	words.reduceRight((bits, { value }) => (bits << 64n) | BigInt(value as bigint), 0n);

/**
 * The domain that a stream holds. The core has opened and planned the stream: framing, checksums, counts and sizes hold.
 * @param preserved the pages that go with it
 * @returns undefined if the stream holds no domain, or several
 * @throws XLU_E_IMAGE for tables of more frames than `MOST_FRAMES`; XLU_E_REFUSED (XLU-R017) without a mandatory record
 */
export function soloDomain(stream: Uint8Array, preserved: PreservedPages): SoloDomain | undefined {
	const host: Draft = {};
	const drafts = new Map<number, Draft>();
	const slices: Record<string, Slice[]> = { P2m: [], FrameOwners: [], FrameTypes: [] };
	const missing = new Set(records.filter(({ cardinality, section }) => cardinality === "one" && section !== "-"));
	for (const { def, body, domid, pass } of walkRecords(stream)) {
		if (!def || def.section === "-" || pass === undefined || domid === undefined) continue;
		missing.delete(def);
		const isHost = def.section === "H" || def.section === "1h";
		let draft = isHost ? host : drafts.get(domid);
		if (!draft) {
			draft = { vcpu: [], pvVcpu: [], pv32Vcpu: [], pvFpu: [], pvTraps: [], pvExtended: [], pvXsave: [], pvMsrs: [] };
			Object.assign(draft, { hardAffinity: [], softAffinity: [], savedAffinity: [] });
			drafts.set(domid, draft);
		}
		readInto(draft, def.name, body, slices);
	}
	const [entry] = drafts;
	if (drafts.size !== 1 || !entry) return undefined;
	for (const { name } of missing) {
		// The core finds that when it checks, which needs the domain's peers.
		throw new XluError("XLU_E_REFUSED", `expected ${name}, got none.`, {
			rule: "XLU-R017",
			record: name,
			expected: "one",
			got: "none",
		});
	}
	const domain = finish(entry[1], slices.P2m as Slice[]);
	const length = lengthOf([...(slices.FrameOwners as Slice[]), ...(slices.FrameTypes as Slice[])]);
	const model = {
		...host,
		m2pRanges: [],
		regionList: [],
		frameOwners: fill(new BigUint64Array(length), slices.FrameOwners as Slice[], 8),
		frameTypes: fill(new Uint8Array(length), slices.FrameTypes as Slice[], 1),
		domains: [domain],
	} as unknown as HostModel;
	return { model, domain, preserved };
}

function readInto(draft: Draft, name: string, body: Uint8Array, slices: Record<string, Slice[]>): void {
	const def = recordByName(name);
	const { head, parts } = decodeRecord(def, body);
	if (def.cardinality === "slice") {
		const table = def.parts[0]?.table as string;
		slices[table]?.push({
			first: Number(head.firstGfn ?? head.firstMfn),
			count: Number(head.entryCount),
			chunks: body.subarray(def.head?.size ?? 0),
		});
		if (name === "LU_P2M") draft.p2mDefaultAccess = head.defaultAccess;
		return;
	}
	if (def.cardinality === "vcpu") {
		readVcpu(draft, name, head, parts, body);
		return;
	}
	if (def.head) draft[camel(def.head.name)] = head;
	for (const [i, part] of def.parts.entries()) {
		const { rows } = parts[i] as (typeof parts)[number];
		if (part.kind === "sparse") draft[camel(part.table)] = slotted(rows, Number(head.slotCount));
		else if (part.table === "HvmContext") draft.hvmContext = body.slice();
		else if (part.table === "VersionText") {
			draft.versionText = Buffer.from(rows.map(({ value }) => Number(value))).toString("utf8");
		} else draft[camel(part.table)] = rows;
	}
}

type Parts = ReturnType<typeof decodeRecord>["parts"];

function readVcpu(draft: Draft, name: string, head: Row, parts: Parts, body: Uint8Array): void {
	const id = Number(head.vcpuId);
	const put = (table: string, value: unknown): void => {
		(draft[table] as unknown[])[id] = value;
	};
	const rows = (i: number): readonly Row[] => parts[i]?.rows ?? [];
	switch (name) {
		case "LU_VCPU":
			put("vcpu", head);
			put("hardAffinity", bitmapOf(rows(0)));
			put("softAffinity", bitmapOf(rows(1)));
			put("savedAffinity", bitmapOf(rows(2)));
			break;
		case "LU_PV_VCPU":
		case "LU_PV32_VCPU":
			put(name === "LU_PV_VCPU" ? "pvVcpu" : "pv32Vcpu", head);
			put(
				"pvFpu",
				Uint8Array.from(rows(0), ({ value }) => Number(value)),
			);
			put("pvTraps", rows(1));
			break;
		case "X86_PV_VCPU_EXTENDED":
			put("pvExtended", body.slice(recordByName(name).head?.size));
			break;
		case "X86_PV_VCPU_XSAVE":
			put("pvXsave", body.slice(recordByName(name).head?.size));
			break;
		case "X86_PV_VCPU_MSRS":
			put("pvMsrs", rows(0));
			break;
		default:
			throw new Error(`no table of a bundle's domain for ${name}`);
	}
}

function finish(draft: Draft, p2m: readonly Slice[]): DomainModel {
	const { vcpuSlots, vcpus: _, ...rest } = draft;
	return {
		...rest,
		domainState: draft.domainState ?? {},
		vcpuIds: ((vcpuSlots ?? []) as Row[]).map(({ vcpuId }) => Number(vcpuId)),
		...(p2m.length > 0 ? { p2m: fill(new BigUint64Array(lengthOf(p2m)), p2m, 8) } : {}),
	} as unknown as DomainModel;
}

// --- what others have to do with it ---

/** MFNs that a domain's records name, but for the frames of its memory: what is to be renumbered with them. */
export function keptMfns({ keptRanges }: DomainModel): number[] {
	return (keptRanges ?? []).flatMap(({ firstMfn, frameCount }) =>
		Array.from({ length: Number(frameCount) }, (_, i) => Number(firstMfn) + i),
	);
}

export const isPv = ({ domain }: DomainModel): boolean => domain.kind === KIND.pv;

/** A 32-bit PV guest: contexts and page tables of its own form. */
export const isNarrow = ({ domain }: DomainModel): boolean =>
	domain.kind === KIND.pv && Number(domain.guestWidth) === 4;

export const isNone = (mfn: number | bigint | undefined): boolean => mfn === undefined || BigInt(mfn) === NONE64;

/** All CPUs of a host. */
export const allCpus = (cpuCount: number): bigint => (1n << BigInt(cpuCount)) - 1n;

export { affinityWords };
