/**
 * A domain's state records as libxc writes them (libxc-migration-stream, revision 3), made from what a live update carries.
 * Where the live-update stream holds MFNs a libxc image holds PFNs: CR3, CR1, GDT frames (section 4.5), translated by the
 * guest's own P2M. PAGE_DATA is left out: memory moves by other means.
 *
 * A 32-bit guest's context is another structure, of 2800 octets: numbers of 32 bits, no CR1, since kernel and user share
 * their tables, and a CR3 that holds the frame's high bits below the low ones.
 */
import { XluError } from "../errors.ts";
import { NONE64, VCPU_FLAG } from "../format/enums.ts";
import { type Row, type Struct, writeStruct } from "../format/layout.ts";
import { heads as H, structs as S } from "../format/schema.ts";
import { libxcRecords } from "../formats/bundle/parts.ts";
import { frameRecord } from "../formats/common/framing.ts";
import type { Fields, Json } from "../formats/common/record.ts";
import { FieldReader } from "../formats/common/values.ts";
import { imageFormat } from "../formats/image.ts";
import { bodyFields, bodyOctets } from "../formats/libxc/bodies.ts";
import { GDT_ENTRIES_PER_FRAME, guestContext64, TRAP_COUNT, trapInfo, VGCF } from "../formats/libxc/guestContext.ts";
import { cr3OfPfn, guestContext32, trapInfo32 } from "../formats/libxc/guestContext32.ts";
import {
	LIBXC_TYPE_X86_HVM,
	LIBXC_TYPE_X86_PV,
	libxcRecordNames,
	PAGE_BYTES,
	PAGE_SHIFT,
	LIBXC_RECORD as R,
} from "../formats/libxc/layout.ts";
import type { DomainModel, PreservedPages, PvLayout } from "../machine/model.ts";
import { isNarrow, isPv } from "./solo.ts";

/** The body of a record, as libxc's codecs make it of fields. */
const bodyOf = (type: number, fields: Fields): Uint8Array =>
	bodyOctets(type, new FieldReader(fields, libxcRecordNames[type] ?? "record"), true);

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

interface Vcpu {
	readonly id: number;
	readonly domid: number;
	readonly pfns: PfnMap;
}

/** GDT frames of a context in either width, as PFNs. */
function gdtPfns(
	{ gdtEntries, gdtMfn }: { gdtEntries?: number | bigint; gdtMfn?: readonly (number | bigint)[] },
	{ id, pfns, domid }: Vcpu,
): bigint[] {
	const count = Math.ceil(Number(gdtEntries ?? 0) / GDT_ENTRIES_PER_FRAME);
	return Array.from({ length: 16 }, (_, i) =>
		i < count ? pfns.needPfn(BigInt(gdtMfn?.[i] ?? 0), `vCPU ${id}, GDT frame ${i}`, domid) : 0n,
	);
}

function registers64(domain: DomainModel, vcpu: Vcpu): object {
	const { id, domid, pfns } = vcpu;
	const registers = domain.pvVcpu?.[id] ?? {};
	const cr = Array.from({ length: 8 }, (_, i) => BigInt(registers.cr?.[i] ?? 0)).map((value, i) =>
		i === 3 || (i === 1 && value & 1n)
			? (pfns.needPfn(value >> FRAME_SHIFT, `vCPU ${id}, cr${i}`, domid) << FRAME_SHIFT) | (value & LOW_BITS)
			: value,
	);
	const flags = Number(registers.flags ?? 0) | VGCF.online;
	return { ...registers, flags, cr, gdtFrames: gdtPfns(registers, vcpu) };
}

function registers32(domain: DomainModel, vcpu: Vcpu): object {
	const { id, domid, pfns } = vcpu;
	const registers = domain.pv32Vcpu?.[id] ?? {};
	const { cr0, cr2, cr3, cr4, eventCallbackEip, failsafeCallbackEip } = registers;
	return {
		...registers,
		// Whose context libxc saves is online, and comes up again by this.
		flags: Number(registers.flags ?? 0) | VGCF.online,
		cr: [cr0, 0, cr2, cr3OfPfn(Number(pfns.needPfn(BigInt(cr3 ?? 0) >> FRAME_SHIFT, `vCPU ${id}, cr3`, domid))), cr4],
		gdtFrames: gdtPfns(registers, vcpu),
		eventCallback: eventCallbackEip,
		failsafeCallback: failsafeCallbackEip,
	};
}

/** A vCPU's context with PFNs, struct vcpu_guest_context: 5168 octets, 2800 of a 32-bit guest. */
function contextOctets(domain: DomainModel, id: number, pfns: PfnMap): Uint8Array {
	const vcpu = { id, pfns, domid: domain.domain.domid };
	const [context, trap, registers] = isNarrow(domain)
		? [guestContext32, trapInfo32, registers32(domain, vcpu)]
		: [guestContext64, trapInfo, registers64(domain, vcpu)];
	const traps = new Uint8Array(TRAP_COUNT * trap.size);
	domain.pvTraps?.[id]?.forEach((row, vector) => {
		traps.set(structOctets(trap, row), vector * trap.size);
	});
	const octets = structOctets(context, registers);
	const place = (name: string): number => context.fields.find((field) => field.name === name)?.offset ?? 0;
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
		// The head is the same in all four.
		const ofVcpu = (type: number, ...content: Uint8Array[]) =>
			record(type, structOctets(H.VcpuExtended, { vcpuId: id }), ...content);
		const extended = domain.pvExtended?.[id];
		const xsave = domain.pvXsave?.[id];
		const msrs = domain.pvMsrs?.[id];
		return [
			ofVcpu(R.X86_PV_VCPU_BASIC, contextOctets(domain, id, pfns)),
			...(extended?.length ? [ofVcpu(R.X86_PV_VCPU_EXTENDED, extended)] : []),
			...(xsave?.length ? [ofVcpu(R.X86_PV_VCPU_XSAVE, xsave)] : []),
			...(msrs?.length ? [ofVcpu(R.X86_PV_VCPU_MSRS, ...rowsOctets(S.MsrEntry, msrs))] : []),
		];
	});
	const shared = preserved.get(Number(domain.sharedInfo?.mfn ?? NONE64));
	const { guestWidth, ptLevels, startPfn, mfns, p2mPfns } = layout;
	const endPfn = startPfn + mfns.length - 1;
	return [
		record(R.X86_PV_INFO, bodyOf(R.X86_PV_INFO, { guestWidth, ptLevels })),
		...policies(domain),
		record(R.X86_PV_P2M_FRAMES, bodyOf(R.X86_PV_P2M_FRAMES, { startPfn, endPfn, pfns: p2mPfns })),
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
	const type = isPv(domain) ? LIBXC_TYPE_X86_PV : LIBXC_TYPE_X86_HVM;
	const header = imageFormat.encode({
		layer: "libxc",
		kind: "header",
		type: null,
		name: "header",
		isLittle: true,
		fields: { version: 3, options: 0, type, pageShift: PAGE_SHIFT, xenMajor: xen.major, xenMinor: xen.minor },
	});
	return concat([header, ...[...records, record(R.END)].map(({ type, body }) => frameRecord(type, body, true))]);
}

/** Levels of a PV guest's page tables, by the octets of its word. */
export const PT_LEVELS: Readonly<Record<number, number>> = { 8: 4, 4: 3 };

/**
 * How a PV guest sees its memory: its width is the live-update part's, its P2M's frames are X86_PV_P2M_FRAMES's.
 * @returns undefined where there is no such record, or it is too short
 */
export function pvLayoutOf(
	image: Uint8Array,
	{ domain }: DomainModel,
	pfns: Pick<PvLayout, "startPfn" | "mfns">,
): PvLayout | undefined {
	const found = [...libxcRecords(image)].find(({ type }) => type === R.X86_PV_P2M_FRAMES);
	const fields: Fields = found ? bodyFields(R.X86_PV_P2M_FRAMES, found.body, true, undefined) : {};
	const p2mPfns = fields.pfns as readonly Json[] | undefined;
	if (p2mPfns === undefined) return undefined;
	const guestWidth = Number(domain.guestWidth ?? 8);
	return { ...pfns, guestWidth, ptLevels: PT_LEVELS[guestWidth] ?? 0, p2mPfns: p2mPfns.map(Number) };
}

/** How many frames the guest's P2M lies in, from the one with its first entry on. */
export function p2mFrameCount({ startPfn, mfns, guestWidth }: PvLayout): number {
	const perFrame = PAGE_BYTES / guestWidth;
	return Math.floor((startPfn + mfns.length - 1) / perFrame) - Math.floor(startPfn / perFrame) + 1;
}
