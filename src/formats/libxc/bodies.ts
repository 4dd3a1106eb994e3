/**
 * Bodies of libxc's records as fields, and back (libxc-migration-stream section 4). PAGE_DATA is pages.ts's and read.ts's.
 *
 * Fields of a record are in the image's byte order. Contents that are the guest's or the hypervisor's own structures (vCPU
 * contexts, shared_info, HVM_CONTEXT) are x86's and little-endian whatever the image says.
 */
import type { Struct } from "../../format/layout.ts";
import type { Fields, Json } from "../common/record.ts";
import { type FieldReader, hexOf, OctetWriter, structFields, structOctets, viewOf, wide } from "../common/values.ts";
import { hvmContextFields, hvmContextOctets } from "../hvm/fields.ts";
import { guestContext64, TRAP_COUNT, trapInfo } from "./guestContext.ts";
import { guestContext32, trapInfo32 } from "./guestContext32.ts";
import { CPUID_LEAF_BYTES, hvmParamNames, LIBXC_RECORD, MSR_ENTRY_BYTES, VCPU_CONTEXT_BYTES } from "./layout.ts";

const R = LIBXC_RECORD;

interface BodyCodec {
	/** Octets below which a body says nothing; such a body is shown as octets. */
	readonly minimum: number;
	decode(body: Uint8Array, isLittle: boolean): Fields;
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

/** vcpu_id u32, reserved u32, then what `rest` says. */
function ofVcpu(rest: Pick<BodyCodec, "decode" | "encode">): BodyCodec {
	return {
		minimum: 8,
		decode(body, isLittle) {
			const view = viewOf(body);
			return {
				vcpu: view.getUint32(0, isLittle),
				...unlessZero("reserved", view.getUint32(4, isLittle)),
				...rest.decode(body.subarray(8), isLittle),
			};
		},
		encode: (fields, isLittle) =>
			new OctetWriter(isLittle)
				.number(fields.number("vcpu", 32), 4)
				.number(fields.number("reserved", 32, 0), 4)
				.octets(rest.encode(fields, isLittle))
				.done(),
	};
}

const isZero = (octets: Uint8Array) => octets.every((octet) => octet === 0);

/** A context with its trap table as rows; entries that are all zero are left out. */
function contextFields(struct: Struct, trap: Struct, octets: Uint8Array): Fields {
	const { traps: _, ...registers } = structFields(struct, octets);
	const from = struct.fields.find(({ name }) => name === "traps")?.offset ?? 0;
	const traps: Json[] = [];
	for (let slot = 0; slot < TRAP_COUNT; slot++) {
		const entry = octets.subarray(from + slot * trap.size, from + (slot + 1) * trap.size);
		if (!isZero(entry)) traps.push({ slot, ...structFields(trap, entry) });
	}
	return { registers, traps };
}

function contextOctets(struct: Struct, trap: Struct, fields: FieldReader): Uint8Array {
	const octets = structOctets(struct, fields.row("registers"));
	const from = struct.fields.find(({ name }) => name === "traps")?.offset ?? 0;
	for (const row of fields.rows("traps")) {
		octets.set(structOctets(trap, row), from + Number(row.number("slot", 8)) * trap.size);
	}
	return octets;
}

const vcpuBasic = ofVcpu({
	decode(octets) {
		if (octets.length === VCPU_CONTEXT_BYTES[8]) return contextFields(guestContext64, trapInfo, octets);
		if (octets.length === VCPU_CONTEXT_BYTES[4]) return contextFields(guestContext32, trapInfo32, octets);
		return { context: hexOf(octets) };
	},
	encode(fields) {
		if (fields.fields.registers === undefined) return fields.octets("context");
		return fields.row("registers").fields.eip === undefined
			? contextOctets(guestContext64, trapInfo, fields)
			: contextOctets(guestContext32, trapInfo32, fields);
	},
});

/** A structure of the hypervisor's, shown and kept as octets. */
const blob = {
	decode: (octets: Uint8Array) => ({ context: hexOf(octets) }),
	encode: (f: FieldReader) => f.octets("context"),
};

/** xcr0, the xcr0 that was ever set, then the XSAVE area: 512 octets of FXSAVE, its header. */
const vcpuXsave = ofVcpu({
	decode(octets) {
		if (octets.length < 16) return { area: hexOf(octets) };
		const view = viewOf(octets);
		const hex = (at: number) => `0x${view.getBigUint64(at, true).toString(16)}`;
		const header = octets.length >= 16 + 528 ? { xstateBv: hex(528), xcompBv: hex(536) } : {};
		return { xcr0: hex(0), xcr0Accum: hex(8), header, area: hexOf(octets.subarray(16)) };
	},
	encode(fields) {
		if (fields.fields.xcr0 === undefined) return fields.octets("area");
		const writer = new OctetWriter(true).number(fields.number("xcr0", 64), 8).number(fields.number("xcr0Accum", 64), 8);
		return writer.octets(fields.octets("area")).done();
	},
});

/** Rows of equal length with nothing before or after. */
function rowsCodec(
	name: string,
	bytes: number,
	decodeRow: (view: DataView, at: number, isLittle: boolean) => Fields,
	encodeRow: (writer: OctetWriter, row: FieldReader) => void,
): Pick<BodyCodec, "decode" | "encode"> {
	return {
		decode(body, isLittle) {
			const view = viewOf(body);
			const count = Math.floor(body.length / bytes);
			return { [name]: Array.from({ length: count }, (_, i) => decodeRow(view, i * bytes, isLittle)) as Json };
		},
		encode(fields, isLittle) {
			const writer = new OctetWriter(isLittle);
			for (const row of fields.rows(name)) encodeRow(writer, row);
			return writer.done();
		},
	};
}

const hexAt = (view: DataView, at: number, isLittle: boolean) => `0x${view.getUint32(at, isLittle).toString(16)}`;
const hex64At = (view: DataView, at: number, isLittle: boolean) => `0x${view.getBigUint64(at, isLittle).toString(16)}`;

const msrRows = rowsCodec(
	"msrs",
	MSR_ENTRY_BYTES,
	(view, at, isLittle) => ({
		msr: hexAt(view, at, isLittle),
		...unlessZero("flags", view.getUint32(at + 4, isLittle)),
		value: hex64At(view, at + 8, isLittle),
	}),
	(writer, row) => {
		writer
			.number(row.number("msr", 32), 4)
			.number(row.number("flags", 32, 0), 4)
			.number(row.number("value", 64), 8);
	},
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

/** What shared_info says besides its octets: 64-bit layout, public/xen.h. */
const WALLCLOCK_OFFSET = 0xc00;

const sharedInfo: BodyCodec = {
	minimum: 0,
	decode(body) {
		if (body.length < WALLCLOCK_OFFSET + 16) return { page: hexOf(body) };
		const view = viewOf(body);
		const [version, seconds, nanoseconds] = [0, 4, 8].map((at) => view.getUint32(WALLCLOCK_OFFSET + at, true));
		return { wallclock: { version, seconds, nanoseconds } as Json, page: hexOf(body) };
	},
	encode: (fields) => fields.octets("page"),
};

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
	[R.X86_PV_VCPU_BASIC]: vcpuBasic,
	[R.X86_PV_VCPU_EXTENDED]: ofVcpu(blob),
	[R.X86_PV_VCPU_XSAVE]: vcpuXsave,
	[R.SHARED_INFO]: sharedInfo,
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
export function bodyFields(type: number, body: Uint8Array, isLittle: boolean): Fields {
	const codec = codecs[type];
	return codec && body.length >= codec.minimum && (codec !== empty || body.length === 0)
		? codec.decode(body, isLittle)
		: raw.decode(body, isLittle);
}

export function bodyOctets(type: number, fields: FieldReader, isLittle: boolean): Uint8Array {
	const isRaw = typeof fields.fields.data === "string";
	return (isRaw ? raw : (codecs[type] ?? raw)).encode(fields, isLittle);
}
