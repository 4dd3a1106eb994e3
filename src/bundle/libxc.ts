/**
 * A domain's state records as libxc writes them (libxc-migration-stream, revision 3), made from what a live update carries.
 * Where the live-update stream holds MFNs a libxc image holds PFNs: CR3, CR1, GDT frames (section 4.5), translated by the
 * guest's own P2M. PAGE_DATA is left out: memory moves by other means.
 */
import { XluError } from "../errors.ts";
import { NONE64, VCPU_FLAG } from "../format/enums.ts";
import { array, u8, u16, u32, u64 } from "../format/fields.ts";
import { alignUp, layOut, type Row, type Struct, writeStruct } from "../format/layout.ts";
import { heads as H, structs as S } from "../format/schema.ts";
import { GDT_ENTRIES_PER_FRAME, guestContext64, trapInfo } from "../formats/libxc/guestContext.ts";
import {
	LIBXC_DOMAIN_HEADER_BYTES,
	LIBXC_HEADER_BYTES,
	LIBXC_ID,
	LIBXC_TYPE_X86_HVM,
	LIBXC_TYPE_X86_PV,
	PAGE_SHIFT,
	LIBXC_RECORD as R,
} from "../formats/libxc/layout.ts";
import type { DomainModel, PreservedPages, PvLayout } from "../machine/model.ts";
import { isPv } from "./solo.ts";

const pvInfo = layOut("X86_PV_INFO", "Section 4.3.", [
	u8("guestWidth", "Octets of a native word."),
	u8("ptLevels", "Levels of page tables."),
	u16("reserved1", "Zero."),
	u32("reserved2", "Zero."),
]);
const p2mFrames = layOut("X86_PV_P2M_FRAMES", "Section 4.4.", [
	u32("startPfn", "First PFN."),
	u32("endPfn", "Last PFN, included."),
]);
const vcpuHeader = layOut("X86_PV_VCPU_*", "Section 4.5.", [u32("vcpuId", "vCPU."), u32("reserved1", "Zero.")]);
const domainHeader = layOut("domain header", "Section 3.2.", [
	u32("type", "Kind of guest."),
	u16("pageShift", "Octets of a page, as a power of 2."),
	u16("reserved1", "Zero."),
	u32("xenMajor", "Xen that saved it."),
	u32("xenMinor", "Minor version."),
]);
const u64Entry = layOut("entry", "A PFN.", [array(1, u64("value", "Value."))]);

function structOctets(struct: Struct, row: object): Uint8Array {
	const octets = new Uint8Array(struct.size);
	writeStruct(struct, new DataView(octets.buffer), 0, row as Partial<Row>);
	return octets;
}

const rowsOctets = (struct: Struct, rows: readonly object[]): Uint8Array[] =>
	rows.map((row) => structOctets(struct, row));

/** The frames of a PV guest's P2M, from the other side. */
export class PfnMap {
	readonly #pfns = new Map<number, number>();

	constructor({ startPfn, mfns }: Pick<PvLayout, "startPfn" | "mfns">) {
		mfns.forEach((mfn, i) => {
			if (mfn >= 0) this.#pfns.set(mfn, startPfn + i);
		});
	}

	get size(): number {
		return this.#pfns.size;
	}

	pfnOf(mfn: number): number | undefined {
		return this.#pfns.get(mfn);
	}

	/** @throws XLU_E_REFUSED if the guest's P2M has no such frame */
	needPfn(mfn: bigint | number, what: string, domid: number): bigint {
		const pfn = this.#pfns.get(Number(mfn));
		if (pfn !== undefined) return BigInt(pfn);
		const [expected, got] = ["a frame of the guest's P2M", `MFN 0x${mfn.toString(16)}`];
		throw new XluError("XLU_E_REFUSED", `domain ${domid}: ${what}: expected ${expected}, got ${got}.`, {
			rule: "XLU-B016",
			domid,
			field: what,
			expected,
			got,
		});
	}
}

const FRAME_SHIFT = 12n;
const LOW_BITS = 0xfffn;

/** A vCPU's context with PFNs, 5168 octets: struct vcpu_guest_context. */
function contextOctets(domain: DomainModel, id: number, pfns: PfnMap): Uint8Array {
	const registers = domain.pvVcpu?.[id] ?? {};
	const { domid } = domain.domain;
	const cr = Array.from({ length: 8 }, (_, i) => BigInt(registers.cr?.[i] ?? 0)).map((value, i) =>
		i === 3 || (i === 1 && value & 1n)
			? (pfns.needPfn(value >> FRAME_SHIFT, `vCPU ${id}, cr${i}`, domid) << FRAME_SHIFT) | (value & LOW_BITS)
			: value,
	);
	const gdtCount = Math.ceil(Number(registers.gdtEntries ?? 0) / GDT_ENTRIES_PER_FRAME);
	const gdtFrames = Array.from({ length: 16 }, (_, i) =>
		i < gdtCount ? pfns.needPfn(BigInt(registers.gdtMfn?.[i] ?? 0), `vCPU ${id}, GDT frame ${i}`, domid) : 0n,
	);
	const traps = new Uint8Array(256 * trapInfo.size);
	domain.pvTraps?.[id]?.forEach((trap, vector) => {
		traps.set(structOctets(trapInfo, trap), vector * trapInfo.size);
	});
	const octets = structOctets(guestContext64, { ...registers, cr, gdtFrames });
	const place = (name: string): number => guestContext64.fields.find((field) => field.name === name)?.offset ?? 0;
	octets.set(domain.pvFpu?.[id] ?? [], place("fpu"));
	octets.set(traps, place("traps"));
	return octets;
}

interface Record_ {
	readonly type: number;
	readonly body: Uint8Array;
}

const concat = (parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

const record = (type: number, ...parts: Uint8Array[]): Record_ => ({ type, body: concat(parts) });

function policies({ cpuidLeaves, msrPolicy }: DomainModel): Record_[] {
	return [
		...(cpuidLeaves?.length ? [record(R.X86_CPUID_POLICY, ...rowsOctets(S.CpuidLeaf, cpuidLeaves))] : []),
		...(msrPolicy?.length ? [record(R.X86_MSR_POLICY, ...rowsOctets(S.MsrEntry, msrPolicy))] : []),
		record(R.STATIC_DATA_END),
	];
}

const tscRecord = ({ tsc }: DomainModel): Record_[] => (tsc ? [record(R.X86_TSC_INFO, structOctets(H.Tsc, tsc))] : []);

/** vCPUs of which libxc saves a context: those that are online. */
export function onlineVcpus(domain: DomainModel): number[] {
	return domain.vcpuIds.filter((id) => {
		const flags = Number(domain.vcpu[id]?.flags ?? 0);
		return (flags & VCPU_FLAG.initialised) !== 0 && (flags & VCPU_FLAG.down) === 0;
	});
}

/** In the order in which libxc saves them: per vCPU basic, extended, XSAVE, MSRs. */
function pvRecords(domain: DomainModel, layout: PvLayout, preserved: PreservedPages): Record_[] {
	const pfns = new PfnMap(layout);
	const vcpus = onlineVcpus(domain).flatMap((id): Record_[] => {
		const header = structOctets(vcpuHeader, { vcpuId: id });
		const extended = domain.pvExtended?.[id];
		const xsave = domain.pvXsave?.[id];
		const msrs = domain.pvMsrs?.[id];
		return [
			record(R.X86_PV_VCPU_BASIC, header, contextOctets(domain, id, pfns)),
			...(extended?.length ? [record(R.X86_PV_VCPU_EXTENDED, header, extended)] : []),
			...(xsave?.length ? [record(R.X86_PV_VCPU_XSAVE, header, xsave)] : []),
			...(msrs?.length ? [record(R.X86_PV_VCPU_MSRS, header, ...rowsOctets(S.MsrEntry, msrs))] : []),
		];
	});
	const shared = preserved.get(Number(domain.sharedInfo?.mfn ?? NONE64));
	const { guestWidth, ptLevels, startPfn, mfns, p2mPfns } = layout;
	const frames = p2mPfns.map((value) => structOctets(u64Entry, { value }));
	return [
		record(R.X86_PV_INFO, structOctets(pvInfo, { guestWidth, ptLevels })),
		...policies(domain),
		record(R.X86_PV_P2M_FRAMES, structOctets(p2mFrames, { startPfn, endPfn: startPfn + mfns.length - 1 }), ...frames),
		...tscRecord(domain),
		...(shared ? [record(R.SHARED_INFO, shared)] : []),
		...vcpus,
	];
}

/** HVM_CONTEXT before HVM_PARAMS, as every Xen writes them. */
function hvmRecords(domain: DomainModel): Record_[] {
	const params = domain.hvmParamList ?? [];
	const head = structOctets(H.HvmParams, { count: params.length });
	return [
		...policies(domain),
		...tscRecord(domain),
		...(domain.hvmContext ? [record(R.HVM_CONTEXT, domain.hvmContext)] : []),
		...(params.length > 0 ? [record(R.HVM_PARAMS, head, ...rowsOctets(S.HvmParam, params))] : []),
	];
}

/**
 * The libxc image of a domain without its memory: header, domain header, state records, END.
 * @param layout of a PV guest
 * @throws XLU_E_REFUSED (XLU-B016) if a register names a frame that the guest's P2M does not have
 */
export function libxcImage(
	domain: DomainModel,
	layout: PvLayout | undefined,
	preserved: PreservedPages,
	xen: { major: number; minor: number },
): Uint8Array {
	const records = isPv(domain) && layout ? pvRecords(domain, layout, preserved) : hvmRecords(domain);
	const header = new Uint8Array(LIBXC_HEADER_BYTES);
	const view = new DataView(header.buffer);
	view.setBigUint64(0, NONE64);
	view.setUint32(8, LIBXC_ID);
	view.setUint32(12, 3);
	const type = isPv(domain) ? LIBXC_TYPE_X86_PV : LIBXC_TYPE_X86_HVM;
	const parts = [
		header,
		structOctets(domainHeader, { type, pageShift: PAGE_SHIFT, xenMajor: xen.major, xenMinor: xen.minor }),
	];
	for (const { type: recordType, body } of [...records, record(R.END)]) {
		const octets = new Uint8Array(8 + alignUp(body.length, 8));
		const head = new DataView(octets.buffer);
		head.setUint32(0, recordType, true);
		head.setUint32(4, body.length, true);
		octets.set(body, 8);
		parts.push(octets);
	}
	return concat(parts);
}

export interface LibxcRecord {
	readonly type: number;
	/** Octets from the start of the image. */
	readonly offset: number;
	readonly body: Uint8Array;
}

/** Records of an image whose framing has been read. */
export function libxcRecords(image: Uint8Array): LibxcRecord[] {
	const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
	const records: LibxcRecord[] = [];
	for (let at = LIBXC_HEADER_BYTES + LIBXC_DOMAIN_HEADER_BYTES; at + 8 <= image.length; ) {
		const length = view.getUint32(at + 4, true);
		const body = image.subarray(at + 8, at + 8 + length);
		records.push({ type: view.getUint32(at, true), offset: at, body });
		at += 8 + alignUp(length, 8);
	}
	return records;
}

/** What X86_PV_INFO and X86_PV_P2M_FRAMES say; undefined where they are not there or too short. */
export function pvLayoutOf(image: Uint8Array, pfns: Pick<PvLayout, "startPfn" | "mfns">): PvLayout | undefined {
	const records = libxcRecords(image);
	const info = records.find(({ type }) => type === R.X86_PV_INFO)?.body;
	const frames = records.find(({ type }) => type === R.X86_PV_P2M_FRAMES)?.body;
	if (!info || info.length < pvInfo.size || !frames || frames.length < p2mFrames.size) return undefined;
	const view = new DataView(frames.buffer, frames.byteOffset, frames.byteLength);
	const count = Math.floor((frames.length - p2mFrames.size) / u64Entry.size);
	return {
		...pfns,
		guestWidth: info[0] as number,
		ptLevels: info[1] as number,
		p2mPfns: Array.from({ length: count }, (_, i) => Number(view.getBigUint64(p2mFrames.size + 8 * i, true))),
	};
}
