/**
 * Rules of a libxc image: each record's form, which records a guest of its type and version needs, in what order
 * (libxc-migration-stream sections 3 to 8). What Xen's verify-stream-v2 refuses is refused here too.
 */
import { type Findings, type FormatRule, formatRule, hex } from "../common/findings.ts";
import { placeOf, type RecordHeader } from "../common/framing.ts";
import { hexOf, viewOf } from "../common/values.ts";
import { hvmEntryTypes, hvmLength } from "../hvm/layout.ts";
import {
	CPUID_LEAF_BYTES,
	HVM_ONLY,
	hvmParamNames,
	LIBXC_RECORD,
	libxcRecordNames,
	MAY_BE_EMPTY,
	MSR_ENTRY_BYTES,
	PAGE_BYTES,
	PV_ONLY,
	VCPU_CONTEXT_BYTES,
	VCPU_LIMIT,
} from "./layout.ts";

const DOCUMENT = "libxc-migration-stream";

export const libxcRules = {
	marker: formatRule(
		"XLU-C001",
		"damaged",
		`${DOCUMENT} 3.1`,
		"The image header begins with 64 one bits and the id XENF.",
		"If zeros stand here it is a legacy image, which convert --to libxc-v3 takes; else it is no image, or damaged.",
	),
	version: formatRule(
		"XLU-C002",
		"version",
		`${DOCUMENT} 3.1`,
		"The image's version is 2 or 3.",
		"A sender newer than this tool, or damage.",
	),
	options: formatRule(
		"XLU-C003",
		"refused",
		`${DOCUMENT} 3.1`,
		"Options but for the byte order, and reserved fields of the headers, are zero.",
		"A sender newer than this tool, or damage.",
	),
	domainHeader: formatRule(
		"XLU-C004",
		"refused",
		`${DOCUMENT} 3.2`,
		"The domain header names x86 PV or x86 HVM and pages of 4 KiB.",
		"Other architectures have no such images.",
	),
	xenVersion: formatRule(
		"XLU-C005",
		"warning",
		`${DOCUMENT} 3.2`,
		"The domain header says which Xen saved the image; a converter writes 0.",
		"Converted from a legacy image: nothing to do.",
	),
	byteOrder: formatRule(
		"XLU-C006",
		"strict",
		`${DOCUMENT} 3.1`,
		"The image of an x86 guest is little-endian.",
		"Readers take both byte orders; convert --to little makes it what Xen writes.",
	),
	bodyForm: formatRule(
		"XLU-C010",
		"refused",
		`${DOCUMENT} 4`,
		"A body has the length that its kind and its counts make, and its fields have known values.",
		"Compare with xlu inspect --record N. A writer that is wrong, or damage.",
	),
	reserved: formatRule(
		"XLU-C011",
		"refused",
		`${DOCUMENT} 4`,
		"Reserved fields of a body are zero.",
		"A sender newer than this tool, or damage.",
	),
	guestType: formatRule(
		"XLU-C012",
		"refused",
		`${DOCUMENT} 5`,
		"PV records stand in a PV guest's image alone, HVM records in an HVM guest's.",
		"The domain header or the record is wrong.",
	),
	staticData: formatRule(
		"XLU-C013",
		"refused",
		`${DOCUMENT} 6.1`,
		"Version 3 has STATIC_DATA_END before memory, frames and registers; policies come before it. Version 2 has none.",
		"convert --to libxc-v3 puts it in its place.",
	),
	order: formatRule(
		"XLU-C014",
		"refused",
		`${DOCUMENT} 5`,
		"X86_PV_INFO comes before what depends on it, X86_PV_P2M_FRAMES before PAGE_DATA, PAGE_DATA before VERIFY.",
		"The sender is wrong: a receiver cannot place what it does not know yet.",
	),
	hvmOrder: formatRule(
		"XLU-C015",
		"strict",
		`${DOCUMENT} 5; Xen 4.17 and 4.20 write HVM_CONTEXT first`,
		"HVM_PARAMS comes before HVM_CONTEXT.",
		"Real Xen writes the opposite and reads both: nothing to do.",
	),
	once: formatRule(
		"XLU-C016",
		"refused",
		`${DOCUMENT} 5`,
		"Between checkpoints a record comes once, a vCPU's once for each vCPU, an HVM parameter once; static data come once in all.",
		"The sender is wrong; a receiver would take the last one, or refuse.",
	),
	missing: formatRule(
		"XLU-C017",
		"refused",
		`${DOCUMENT} 5`,
		"An image has, at its END and at each CHECKPOINT, the records without which its guest cannot be rebuilt.",
		"The sender stopped early, or something took records out.",
	),
	backChannel: formatRule(
		"XLU-C018",
		"refused",
		`${DOCUMENT} 4.13`,
		"CHECKPOINT_DIRTY_PFN_LIST travels from the secondary to the primary alone.",
		"This is the back channel of COLO and no image.",
	),
	emptyRecord: formatRule(
		"XLU-C019",
		"strict",
		`${DOCUMENT} 8; Xen 4.6 to 4.8 wrote these`,
		"HVM_PARAMS and X86_PV_VCPU_EXTENDED, _XSAVE and _MSRS have content behind their first 8 octets.",
		"Receivers ignore empty ones: nothing to do.",
	),
	deprecated: formatRule(
		"XLU-C020",
		"refused",
		`${DOCUMENT} 4.10; verify-stream-v2, seen`,
		"There is no TOOLSTACK record: it is deprecated, and its content means nothing to libxc.",
		"libxl carries what it held in EMULATOR_XENSTORE_DATA. Take the record out with convert --to json and back.",
	),
	vcpuOrder: formatRule(
		"XLU-C021",
		"strict",
		`${DOCUMENT} 5.1`,
		"A PV guest's vCPU records come after X86_PV_P2M_FRAMES and PAGE_DATA.",
		"libxc's reader holds them back until all has come: nothing to do.",
	),
	verifyPages: formatRule(
		"XLU-C022",
		"strict",
		`${DOCUMENT} 4.11`,
		"Memory is sent again behind VERIFY.",
		"The sender stopped before it had anything compared; the memory in front of VERIFY is whole.",
	),
	staticInfo: formatRule(
		"XLU-C023",
		"strict",
		`${DOCUMENT} 4.14, 5.1`,
		"X86_PV_INFO is static data: in version 3 it comes before STATIC_DATA_END.",
		"libxc's reader takes it up to X86_PV_P2M_FRAMES: nothing to do.",
	),
	checkpointState: formatRule(
		"XLU-C024",
		"refused",
		`${DOCUMENT} 4.12`,
		"What a checkpoint sends is one moment of the guest: with memory come its registers, and a PV guest's SHARED_INFO.",
		"Stop at the checkpoint before: registers of one moment do not go with the memory of another.",
	),
	pageType: formatRule(
		"XLU-C030",
		"refused",
		`${DOCUMENT} 4.2`,
		"A PFN of PAGE_DATA has a known type, reserved bits zero, and lies within the guest's P2M.",
		"A sender that is wrong, or damage in the list of PFNs.",
	),
	pageLength: formatRule(
		"XLU-C031",
		"damaged",
		`${DOCUMENT} 4.2`,
		"PAGE_DATA has 4096 octets for each PFN but those that are BROKEN, XALLOC or XTAB, and nothing else.",
		"The count, a type or the length is damaged: contents cannot be told from each other.",
	),
	tables: formatRule(
		"XLU-C032",
		"warning",
		`${DOCUMENT} 4.2`,
		"Page-table types occur in PV guests alone.",
		"A receiver does not look at them in an HVM guest.",
	),
	hvmContext: formatRule(
		"XLU-C040",
		"refused",
		"public/arch-x86/hvm/save.h",
		"HVM_CONTEXT is a row of whole entries, HEADER first, END last.",
		"Xen refuses such a context when it is loaded.",
	),
	hvmEntry: formatRule(
		"XLU-C041",
		"warning",
		"public/arch-x86/hvm/save.h of Xen 4.17; 4.20, seen",
		"An entry of HVM_CONTEXT is of a known type, with a length that a known Xen gives it.",
		"A Xen newer than this tool, or damage: what is not known is kept as octets. Xen refuses types that it does not know.",
	),
} as const;

const C = libxcRules;
const R = LIBXC_RECORD;

const nameOf = (type: number) => libxcRecordNames[type] as string;

/** Octets of a body that has no content: a vCPU's id, or a count of 0. */
const EMPTY_BYTES = 8;
const NO_BODY: ReadonlySet<number> = new Set([R.END, R.VERIFY, R.CHECKPOINT, R.STATIC_DATA_END]);
const PER_VCPU: ReadonlySet<number> = new Set([
	R.X86_PV_VCPU_BASIC,
	R.X86_PV_VCPU_EXTENDED,
	R.X86_PV_VCPU_XSAVE,
	R.X86_PV_VCPU_MSRS,
]);
const NEEDS_PV_INFO: ReadonlySet<number> = new Set([R.X86_PV_P2M_FRAMES, ...PER_VCPU]);
/** Once between checkpoints. */
const ONCE: ReadonlySet<number> = new Set([R.X86_PV_P2M_FRAMES, R.SHARED_INFO, R.X86_TSC_INFO, R.HVM_CONTEXT]);
/** Once in all: they do not change while the guest runs. */
const STATIC: ReadonlySet<number> = new Set([R.X86_PV_INFO, R.X86_CPUID_POLICY, R.X86_MSR_POLICY, R.STATIC_DATA_END]);
/** What version 3 has behind STATIC_DATA_END alone. */
const DYNAMIC: ReadonlySet<number> = new Set([
	R.PAGE_DATA,
	R.X86_PV_P2M_FRAMES,
	...PER_VCPU,
	R.SHARED_INFO,
	R.HVM_CONTEXT,
	R.HVM_PARAMS,
]);
/** What a guest cannot be rebuilt without; and what has to come again with each checkpoint's memory. */
const NEEDED = {
	// X86_PV_INFO and _P2M_FRAMES are asked for by what depends on them.
	pv: [R.PAGE_DATA, R.SHARED_INFO, R.X86_PV_VCPU_BASIC],
	hvm: [R.PAGE_DATA, R.HVM_CONTEXT],
} as const;
const MOMENT = { pv: [R.SHARED_INFO, R.X86_PV_VCPU_BASIC], hvm: [R.HVM_CONTEXT] } as const;
/** TSC_MODE_* of public/xen.h's time: default, emulated, native, and PVRDTSCP of old. */
const TSC_MODE_MAX = 3;
/** No Xen has as many HVM parameters. Bounds what a hostile image can make us keep. */
const PARAM_LIMIT = 4096n;
const POLICIES: ReadonlySet<number> = new Set([R.X86_CPUID_POLICY, R.X86_MSR_POLICY]);

/** Index of the first one above `end`; the length if there is none. */
function indexBeyond(pfns: Float64Array, end: number): number {
	const at = pfns.findIndex((pfn) => pfn > end);
	return at < 0 ? pfns.length : at;
}

/** Index of one that has come before; the length if there is none. Sorted, not kept in a set: a list has millions. */
function indexOfRepeated(pfns: Float64Array): number {
	const sorted = pfns.slice().sort();
	const repeated = sorted.find((pfn, i) => pfn === sorted[i + 1]);
	return repeated === undefined ? pfns.length : pfns.indexOf(repeated, pfns.indexOf(repeated) + 1);
}

/** Holds an image's records against the rules, one after the other. */
export class LibxcChecks {
	readonly #findings: Findings;
	readonly #version: number;
	readonly #guestType: "pv" | "hvm" | undefined;
	readonly #isLittle: boolean;
	readonly #seen = new Set<string>();
	/** Types seen at all, and since the last CHECKPOINT. */
	readonly #types = new Set<number>();
	readonly #since = new Set<number>();
	readonly #missing = new Set<number>();
	#checkpoints = 0;
	/** VERIFY has come, and no memory behind it. */
	#verify: RecordHeader | undefined;
	#guestWidth: 4 | 8 | undefined;
	#isStaticEnded = false;
	endPfn: number | undefined;

	/** Octets of the guest's word, as X86_PV_INFO says. */
	get guestWidth(): 4 | 8 | undefined {
		return this.#guestWidth;
	}

	constructor(findings: Findings, version: number, guestType: "pv" | "hvm" | undefined, isLittle: boolean) {
		this.#findings = findings;
		this.#version = version;
		this.#guestType = guestType;
		this.#isLittle = isLittle;
	}

	#report(rule: FormatRule, record: RecordHeader, field: string | undefined, expected: string, got: string): void {
		this.#findings.report(rule, placeOf(record, field), expected, got);
	}

	/** Order, presence and guest type; PAGE_DATA as well, before its body is read. */
	begin(record: RecordHeader): void {
		const { type, name, length } = record;
		if (record.isSkipped) return;
		if (this.#guestType !== undefined) {
			const isForeign =
				(PV_ONLY.has(type) && this.#guestType !== "pv") || (HVM_ONLY.has(type) && this.#guestType !== "hvm");
			if (isForeign)
				this.#report(C.guestType, record, "type", `no such record of an x86 ${this.#guestType} guest`, name);
		}
		if (type === R.STATIC_DATA_END && this.#version < 3) {
			this.#report(C.staticData, record, "type", "no such record in version 2", name);
		}
		if (POLICIES.has(type) && this.#isStaticEnded) {
			this.#report(C.staticData, record, "type", "policies before STATIC_DATA_END", name);
		}
		if (DYNAMIC.has(type) && !this.#isStaticEnded) {
			if (this.#version >= 3) this.#report(C.staticData, record, "type", "STATIC_DATA_END before it", name);
			this.#isStaticEnded = true;
		}
		if (type === R.STATIC_DATA_END) this.#isStaticEnded = true;
		if (NEEDS_PV_INFO.has(type) && !this.#types.has(R.X86_PV_INFO) && this.#guestType === "pv") {
			this.#report(C.order, record, "type", "X86_PV_INFO before it", name);
		}
		if (type === R.PAGE_DATA && this.#guestType === "pv" && !this.#types.has(R.X86_PV_P2M_FRAMES)) {
			this.#report(C.order, record, "type", "X86_PV_P2M_FRAMES before it", name);
		}
		if (type === R.X86_PV_INFO && this.#types.has(R.STATIC_DATA_END)) {
			this.#report(C.staticInfo, record, "type", "X86_PV_INFO before STATIC_DATA_END", "STATIC_DATA_END first");
		}
		const isVcpusTurn = type === R.X86_PV_P2M_FRAMES || type === R.PAGE_DATA;
		if (isVcpusTurn && !this.#types.has(type) && [...PER_VCPU].some((other) => this.#types.has(other))) {
			this.#report(C.vcpuOrder, record, "type", `${name} before the vCPUs`, "a vCPU's record first");
		}
		if (type === R.VERIFY) {
			if (!this.#types.has(R.PAGE_DATA)) this.#report(C.order, record, "type", "PAGE_DATA before it", name);
			this.#verify = record;
		}
		if (type === R.PAGE_DATA) this.#verify = undefined;
		if (type === R.HVM_PARAMS && length > 8 && this.#since.has(R.HVM_CONTEXT)) {
			this.#report(C.hvmOrder, record, "type", "HVM_PARAMS before HVM_CONTEXT", "HVM_CONTEXT first");
		}
		if (type === R.CHECKPOINT_DIRTY_PFN_LIST) {
			this.#report(C.backChannel, record, "type", "no record of the back channel", name);
		}
		if (type === R.TOOLSTACK) this.#report(C.deprecated, record, "type", "no TOOLSTACK", name);
		if (ONCE.has(type)) this.#once(record, name);
		if (STATIC.has(type) && this.#types.has(type)) this.#report(C.once, record, "type", `one ${name}`, "a second one");
		this.#types.add(type);
		this.#since.add(type);
		if (type !== R.CHECKPOINT && type !== R.END) return;
		this.#moment(record);
		this.#seen.clear();
		this.#since.clear();
		this.#checkpoints++;
	}

	/** At CHECKPOINT and END: what has come is the guest at one moment. */
	#moment(record: RecordHeader): void {
		if (this.#verify) this.#report(C.verifyPages, this.#verify, undefined, "PAGE_DATA behind it", `${record.name}`);
		this.#verify = undefined;
		if (this.#guestType === undefined) return;
		for (const type of NEEDED[this.#guestType]) {
			if (this.#types.has(type) || this.#missing.has(type)) continue;
			this.#missing.add(type);
			this.#report(C.missing, record, undefined, `a ${nameOf(type)} before it`, "none");
		}
		if (this.#checkpoints === 0 || !this.#since.has(R.PAGE_DATA)) return;
		for (const type of MOMENT[this.#guestType]) {
			if (this.#since.has(type) || this.#missing.has(type)) continue;
			this.#report(C.checkpointState, record, undefined, `a ${nameOf(type)} with the memory`, "none");
		}
	}

	#once(record: RecordHeader, key: string): void {
		if (this.#seen.has(key)) this.#report(C.once, record, "type", `one ${key}`, "a second one");
		this.#seen.add(key);
	}

	/** A record's body, but for PAGE_DATA. */
	body(record: RecordHeader, body: Uint8Array): void {
		const { type, length } = record;
		if (record.isSkipped) return;
		if (NO_BODY.has(type)) {
			if (length !== 0) this.#report(C.bodyForm, record, "body_length", "0", `${length}`);
			return;
		}
		const isEmpty = length === EMPTY_BYTES || (length === 0 && this.#version === 2);
		if (isEmpty && MAY_BE_EMPTY.has(type)) {
			this.#report(C.emptyRecord, record, "body_length", "content", "none");
			if (length === 0) return;
			// All that is left to look at: a vCPU's id, or a count of parameters.
			if (type === R.HVM_PARAMS) this.#hvmParams(record, viewOf(body));
			else this.#vcpuId(record, viewOf(body));
			return;
		}
		const view = viewOf(body);
		switch (type) {
			case R.X86_PV_INFO:
				this.#pvInfo(record, body);
				break;
			case R.X86_PV_P2M_FRAMES:
				this.#p2mFrames(record, view);
				break;
			case R.SHARED_INFO:
				this.#length(record, PAGE_BYTES);
				break;
			case R.X86_TSC_INFO:
				this.#tscInfo(record, view);
				break;
			case R.CHECKPOINT_DIRTY_PFN_LIST:
				if (length % 8 !== 0) this.#report(C.bodyForm, record, "body_length", "a multiple of 8", `${length}`);
				break;
			case R.HVM_CONTEXT:
				this.#hvmContext(record, view);
				break;
			case R.HVM_PARAMS:
				this.#hvmParams(record, view);
				break;
			case R.X86_CPUID_POLICY:
				this.#multiple(record, CPUID_LEAF_BYTES);
				break;
			case R.X86_MSR_POLICY:
				this.#multiple(record, MSR_ENTRY_BYTES);
				break;
			default:
				if (PER_VCPU.has(type)) this.#vcpu(record, view);
		}
	}

	#length(record: RecordHeader, expected: number): boolean {
		if (record.length === expected) return true;
		this.#report(C.bodyForm, record, "body_length", `${expected}`, `${record.length}`);
		return false;
	}

	#zero(record: RecordHeader, field: string, value: number): void {
		if (value !== 0) this.#report(C.reserved, record, field, "0", hex(value));
	}

	#multiple(record: RecordHeader, rowBytes: number): void {
		if (record.length === 0 || record.length % rowBytes !== 0) {
			this.#report(C.bodyForm, record, "body_length", `a multiple of ${rowBytes}, not 0`, `${record.length}`);
		}
	}

	#tscInfo(record: RecordHeader, view: DataView): void {
		if (!this.#length(record, 24)) return;
		const mode = view.getUint32(0, this.#isLittle);
		if (mode > TSC_MODE_MAX) this.#report(C.bodyForm, record, "mode", `0 to ${TSC_MODE_MAX}`, `${mode}`);
		this.#zero(record, "reserved", view.getUint32(20, this.#isLittle));
	}

	#pvInfo(record: RecordHeader, body: Uint8Array): void {
		if (!this.#length(record, 8)) return;
		const [width, levels] = body;
		if (!((width === 8 && levels === 4) || (width === 4 && levels === 3))) {
			this.#report(C.bodyForm, record, "guest_width, pt_levels", "8 and 4, or 4 and 3", `${width} and ${levels}`);
		} else this.#guestWidth = width as 4 | 8;
		const reserved = body.subarray(2);
		if (reserved.some((octet) => octet !== 0)) this.#report(C.reserved, record, "reserved", "0", hexOf(reserved));
	}

	#p2mFrames(record: RecordHeader, view: DataView): void {
		if (record.length < 8 || record.length % 8 !== 0) {
			this.#report(C.bodyForm, record, "body_length", "a multiple of 8, at least 8", `${record.length}`);
			return;
		}
		const start = view.getUint32(0, this.#isLittle);
		const end = view.getUint32(4, this.#isLittle);
		this.endPfn = end;
		if (start > end) {
			this.#report(C.bodyForm, record, "p2m_end_pfn", `at least ${hex(start)}`, hex(end));
			return;
		}
		const perFrame = PAGE_BYTES / (this.#guestWidth ?? 8);
		const frames = Math.floor(end / perFrame) - Math.floor(start / perFrame) + 1;
		if (record.length !== 8 + 8 * frames) {
			this.#report(C.bodyForm, record, "body_length", `${8 + 8 * frames}`, `${record.length}`);
			return;
		}
		const pfns = new Float64Array(frames);
		for (let i = 0; i < frames; i++) pfns[i] = Number(view.getBigUint64(8 + 8 * i, this.#isLittle));
		const wrong = Math.min(indexBeyond(pfns, end), indexOfRepeated(pfns));
		if (wrong < frames) {
			const expected = `a PFN of its own, at most ${hex(end)}`;
			this.#report(C.bodyForm, record, `p2m_pfn[${wrong}]`, expected, hex(pfns[wrong] as number));
		}
	}

	#vcpuId(record: RecordHeader, view: DataView): void {
		const vcpu = view.getUint32(0, this.#isLittle);
		this.#zero(record, "reserved", view.getUint32(4, this.#isLittle));
		if (vcpu >= VCPU_LIMIT) this.#report(C.bodyForm, record, "vcpu_id", `below ${VCPU_LIMIT}`, `${vcpu}`);
		else this.#once(record, `${record.name} of vCPU ${vcpu}`);
	}

	#vcpu(record: RecordHeader, view: DataView): void {
		const { type, length } = record;
		if (length <= EMPTY_BYTES) {
			this.#report(C.bodyForm, record, "body_length", `more than ${EMPTY_BYTES}`, `${length}`);
			return;
		}
		this.#vcpuId(record, view);
		const content = length - 8;
		if (type === R.X86_PV_VCPU_BASIC && this.#guestWidth !== undefined) {
			const expected = VCPU_CONTEXT_BYTES[this.#guestWidth];
			if (content !== expected) this.#report(C.bodyForm, record, "context", `${expected} octets`, `${content}`);
		}
		if (type === R.X86_PV_VCPU_XSAVE && content < 16) {
			this.#report(C.bodyForm, record, "context", "at least 16 octets", `${content}`);
		}
		if (type === R.X86_PV_VCPU_MSRS && content % MSR_ENTRY_BYTES !== 0) {
			this.#report(C.bodyForm, record, "context", `a multiple of ${MSR_ENTRY_BYTES} octets`, `${content}`);
		}
	}

	#hvmParams(record: RecordHeader, view: DataView): void {
		if (record.length < 8) {
			this.#report(C.bodyForm, record, "body_length", "at least 8", `${record.length}`);
			return;
		}
		const count = view.getUint32(0, this.#isLittle);
		this.#zero(record, "reserved", view.getUint32(4, this.#isLittle));
		if (record.length !== 8 + 16 * count) {
			this.#report(C.bodyForm, record, "body_length", `${8 + 16 * count}`, `${record.length}`);
			return;
		}
		for (let i = 0; i < count; i++) {
			const index = view.getBigUint64(8 + 16 * i, this.#isLittle);
			if (index >= PARAM_LIMIT) continue;
			const param = `HVM parameter ${hvmParamNames[Number(index)] ?? index}`;
			if (this.#seen.has(param)) this.#report(C.once, record, `param[${i}].index`, `one ${param}`, "a second one");
			this.#seen.add(param);
		}
	}

	#hvmContext(record: RecordHeader, view: DataView): void {
		let offset = 0;
		for (let index = 0; ; index++) {
			const left = record.length - offset;
			const field = `entry ${index}`;
			if (left < 8) {
				this.#report(C.hvmContext, record, field, "8 octets of a descriptor, or END", `${left} left`);
				return;
			}
			const type = view.getUint16(offset, true);
			const length = view.getUint32(offset + 4, true);
			if (index === 0 && type !== 1) this.#report(C.hvmContext, record, field, "HEADER (type 1)", `type ${type}`);
			if (length > left - 8) {
				this.#report(C.hvmContext, record, field, `at most ${left - 8} octets`, `${length}`);
				return;
			}
			const known = hvmLength(type, length);
			if (!known) this.#report(C.hvmEntry, record, field, "a known type", `type ${type}, ${length} octets`);
			else if (!known.isKnown && type !== 0) {
				const got = `${length}`;
				this.#report(C.hvmEntry, record, `${field} (${hvmEntryTypes[type]?.name})`, known.expected, got);
			}
			offset += 8 + length;
			if (type === 0) {
				if (length !== 0) this.#report(C.hvmContext, record, field, "an END without content", `${length} octets`);
				if (offset !== record.length) {
					this.#report(C.hvmContext, record, field, "END last", `${record.length - offset} octets more`);
				}
				return;
			}
		}
	}
}
