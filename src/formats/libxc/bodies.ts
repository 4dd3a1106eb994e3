/**
 * Bodies of libxc's records as fields, and back (libxc-migration-stream section 4). PAGE_DATA is pages.ts's and read.ts's.
 *
 * Fields of a record are in the image's byte order. Contents that are the guest's or the hypervisor's own structures (vCPU
 * contexts, shared_info, HVM_CONTEXT) are x86's and little-endian whatever the image says.
 */
import type { Fields, Json } from "../common/record.ts";
import { type FieldReader, hexOf, OctetWriter, viewOf, wide } from "../common/values.ts";
import { hvmContextFields, hvmContextOctets } from "../hvm/fields.ts";
import { msrFields, msrOctets } from "../x86/msrs.ts";
import { CPUID_LEAF_BYTES, hvmParamNames, LIBXC_RECORD, MSR_ENTRY_BYTES, VCPU_HEADER_BYTES } from "./layout.ts";
import {
	contextFields,
	contextOctets,
	extendedFields,
	extendedOctets,
	sharedInfoFields,
	sharedInfoOctets,
	vcpuXsaveFields,
	vcpuXsaveOctets,
} from "./registers.ts";

const R = LIBXC_RECORD;

interface BodyCodec {
	/** Octets below which a body says nothing; such a body is shown as octets. */
	readonly minimum: number;
	decode(body: Uint8Array, isLittle: boolean, guestWidth: 4 | 8 | undefined): Fields;
	encode(fields: FieldReader, isLittle: boolean): Uint8Array;
}

const empty: BodyCodec = { minimum: 0, decode: () => ({}), encode: () => new Uint8Array(0) };

/** A field that has a value only where somebody wrote what ought to be zero. */
const unlessZero = (name: string, value: number): Fields => (value === 0 ? {} : { [name]: value });

const pvInfo: BodyCodec = {
	minimum: 8,
	decode: (body) => ({ guestWidth: body[0] ?? 0, ptLevels: body[1] ?? 0 }),
	encode: (fields, isLittle) =>
		new OctetWriter(isLittle)
			.number(fields.number("guestWidth", 8), 1)
			.number(fields.number("ptLevels", 8), 1)
			.octets(new Uint8Array(6))
			.done(),
};

const p2mFrames: BodyCodec = {
	minimum: 8,
	decode(body, isLittle) {
		const view = viewOf(body);
		const pfns = Array.from({ length: Math.floor((body.length - 8) / 8) }, (_, i) =>
			wide(view.getBigUint64(8 + 8 * i, isLittle)),
		);
		return { startPfn: view.getUint32(0, isLittle), endPfn: view.getUint32(4, isLittle), pfns };
	},
	encode(fields, isLittle) {
		const writer = new OctetWriter(isLittle)
			.number(fields.number("startPfn", 32), 4)
			.number(fields.number("endPfn", 32), 4);
		return numbersInto(writer, fields, "pfns").done();
	},
};

function numbersInto(writer: OctetWriter, fields: FieldReader, name: string): OctetWriter {
	for (let i = 0; i < fields.list(name).length; i++) writer.number(fields.element(name, i, 64), 8);
	return writer;
}

/** Whose a vCPU's record is, and what it holds. */
export function vcpuOf(body: Uint8Array, isLittle: boolean): { vcpu: number; reserved: number; content: Uint8Array } {
	const view = viewOf(body);
	const [vcpu, reserved] = [view.getUint32(0, isLittle), view.getUint32(4, isLittle)];
	return { vcpu, reserved, content: body.subarray(VCPU_HEADER_BYTES) };
}

/** vcpu_id u32, reserved u32, then what `rest` says. */
function ofVcpu(rest: Pick<BodyCodec, "decode" | "encode">): BodyCodec {
	return {
		minimum: VCPU_HEADER_BYTES,
		decode(body, isLittle, guestWidth) {
			const { vcpu, reserved, content } = vcpuOf(body, isLittle);
			return { vcpu, ...unlessZero("reserved", reserved), ...rest.decode(content, isLittle, guestWidth) };
		},
		encode: (fields, isLittle) =>
			new OctetWriter(isLittle)
				.number(fields.number("vcpu", 32), 4)
				.number(fields.number("reserved", 32, 0), 4)
				.octets(rest.encode(fields, isLittle))
				.done(),
	};
}

/** Rows of equal length with nothing before or after. */
function rowsCodec(
	name: string,
	bytes: number,
	decodeRow: (view: DataView, at: number, isLittle: boolean) => Fields,
	encodeRow: (writer: OctetWriter, row: FieldReader, isLittle: boolean) => void,
): Pick<BodyCodec, "decode" | "encode"> {
	return {
		decode(body, isLittle) {
			const view = viewOf(body);
			const count = Math.floor(body.length / bytes);
			return { [name]: Array.from({ length: count }, (_, i) => decodeRow(view, i * bytes, isLittle)) as Json };
		},
		encode(fields, isLittle) {
			const writer = new OctetWriter(isLittle);
			for (const row of fields.rows(name)) encodeRow(writer, row, isLittle);
			return writer.done();
		},
	};
}

const hexAt = (view: DataView, at: number, isLittle: boolean) => `0x${view.getUint32(at, isLittle).toString(16)}`;
const hex64At = (view: DataView, at: number, isLittle: boolean) => `0x${view.getBigUint64(at, isLittle).toString(16)}`;

const msrRows = rowsCodec(
	"msrs",
	MSR_ENTRY_BYTES,
	(view, at, isLittle) => msrFields(new Uint8Array(view.buffer, view.byteOffset + at, MSR_ENTRY_BYTES), isLittle),
	(writer, row, isLittle) => writer.octets(msrOctets(row, isLittle)),
);

const leafRegisters = ["eax", "ebx", "ecx", "edx"] as const;
const cpuidLeaves = rowsCodec(
	"leaves",
	CPUID_LEAF_BYTES,
	(view, at, isLittle) => ({
		leaf: hexAt(view, at, isLittle),
		subleaf: hexAt(view, at + 4, isLittle),
		...Object.fromEntries(leafRegisters.map((name, i) => [name, hexAt(view, at + 8 + 4 * i, isLittle)])),
	}),
	(writer, row) => {
		for (const name of ["leaf", "subleaf", ...leafRegisters]) writer.number(row.number(name, 32), 4);
	},
);

const tscInfo: BodyCodec = {
	minimum: 24,
	decode(body, isLittle) {
		const view = viewOf(body);
		return {
			mode: view.getUint32(0, isLittle),
			khz: view.getUint32(4, isLittle),
			nsec: wide(view.getBigUint64(8, isLittle)),
			incarnation: view.getUint32(16, isLittle),
			...unlessZero("reserved", view.getUint32(20, isLittle)),
		};
	},
	encode: (fields, isLittle) =>
		new OctetWriter(isLittle)
			.number(fields.number("mode", 32), 4)
			.number(fields.number("khz", 32), 4)
			.number(fields.number("nsec", 64), 8)
			.number(fields.number("incarnation", 32), 4)
			.number(fields.number("reserved", 32, 0), 4)
			.done(),
};

const hvmParams: BodyCodec = {
	minimum: 8,
	decode(body, isLittle) {
		const view = viewOf(body);
		const params = Array.from({ length: Math.floor((body.length - 8) / 16) }, (_, i) => {
			const index = view.getBigUint64(8 + 16 * i, isLittle);
			const name = hvmParamNames[Number(index)];
			return { param: wide(index), ...(name ? { name } : {}), value: hex64At(view, 16 + 16 * i, isLittle) };
		});
		return {
			count: view.getUint32(0, isLittle),
			...unlessZero("reserved", view.getUint32(4, isLittle)),
			params: params as Json,
		};
	},
	encode(fields, isLittle) {
		const writer = new OctetWriter(isLittle)
			.number(fields.number("count", 32), 4)
			.number(fields.number("reserved", 32, 0), 4);
		for (const row of fields.rows("params"))
			writer.number(row.number("param", 64), 8).number(row.number("value", 64), 8);
		return writer.done();
	},
};

const dirtyPfns: BodyCodec = {
	minimum: 0,
	decode(body, isLittle) {
		const view = viewOf(body);
		return {
			pfns: Array.from({ length: Math.floor(body.length / 8) }, (_, i) => wide(view.getBigUint64(8 * i, isLittle))),
		};
	},
	encode: (fields, isLittle) => numbersInto(new OctetWriter(isLittle), fields, "pfns").done(),
};

const raw: BodyCodec = {
	minimum: 0,
	decode: (body) => ({ data: hexOf(body) }),
	encode: (fields) => fields.octets("data"),
};

const codecs: Readonly<Record<number, BodyCodec>> = {
	[R.END]: empty,
	[R.X86_PV_INFO]: pvInfo,
	[R.X86_PV_P2M_FRAMES]: p2mFrames,
	[R.X86_PV_VCPU_BASIC]: ofVcpu({ decode: contextFields, encode: contextOctets }),
	[R.X86_PV_VCPU_EXTENDED]: ofVcpu({ decode: extendedFields, encode: extendedOctets }),
	[R.X86_PV_VCPU_XSAVE]: ofVcpu({ decode: vcpuXsaveFields, encode: vcpuXsaveOctets }),
	[R.SHARED_INFO]: {
		minimum: 0,
		decode: (body, _isLittle, guestWidth) => sharedInfoFields(body, guestWidth),
		encode: sharedInfoOctets,
	},
	[R.X86_TSC_INFO]: tscInfo,
	[R.HVM_CONTEXT]: { minimum: 0, decode: hvmContextFields, encode: hvmContextOctets },
	[R.HVM_PARAMS]: hvmParams,
	[R.X86_PV_VCPU_MSRS]: ofVcpu(msrRows),
	[R.VERIFY]: empty,
	[R.CHECKPOINT]: empty,
	[R.CHECKPOINT_DIRTY_PFN_LIST]: dirtyPfns,
	[R.STATIC_DATA_END]: empty,
	[R.X86_CPUID_POLICY]: { minimum: 0, ...cpuidLeaves },
	[R.X86_MSR_POLICY]: { minimum: 0, ...msrRows },
};

/** A body as fields; one that is too short for them, or of a type without any, as `data`. */
export function bodyFields(
	type: number,
	body: Uint8Array,
	isLittle: boolean,
	/** Octets of a PV guest's word, as X86_PV_INFO says. */
	guestWidth: 4 | 8 | undefined,
): Fields {
	const codec = codecs[type];
	return codec && body.length >= codec.minimum && (codec !== empty || body.length === 0)
		? codec.decode(body, isLittle, guestWidth)
		: raw.decode(body, isLittle, guestWidth);
}

export function bodyOctets(type: number, fields: FieldReader, isLittle: boolean): Uint8Array {
	const isRaw = typeof fields.fields.data === "string";
	return (isRaw ? raw : (codecs[type] ?? raw)).encode(fields, isLittle);
}
