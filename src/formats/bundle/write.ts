/** Writes a bundle from its parts. */
import { createHash } from "node:crypto";
import { alignUp, type Row, type Struct, writeStruct } from "../../format/layout.ts";
import {
	bundleStructs as B,
	BUNDLE_HEADER_BYTES,
	BUNDLE_ID,
	BUNDLE_MARKER,
	BUNDLE_VERSION,
	bundleRecord,
	MAX_PAGES,
	MAX_PFNS,
} from "./layout.ts";

/** What a bundle is made of. */
export interface BundleParts {
	readonly info: Partial<Row>;
	readonly versionText: string;
	/** The live-update stream of the domain alone. */
	readonly stream: Uint8Array;
	/** Of a PV guest. */
	readonly pfns?: { readonly startPfn: number; readonly mfns: Float64Array } | undefined;
	/** MFN -> 4096 octets. */
	readonly pages: ReadonlyMap<number, Uint8Array>;
	readonly libxc: Uint8Array;
	readonly xenstore: Uint8Array;
}

function structOctets(struct: Struct, row: Partial<Row>, little = true): Uint8Array {
	const octets = new Uint8Array(struct.size);
	writeStruct(struct, new DataView(octets.buffer), 0, row, little);
	return octets;
}

function padded(octets: Uint8Array): Uint8Array {
	const whole = new Uint8Array(alignUp(octets.length, 8));
	whole.set(octets);
	return whole;
}

function record(name: string, ...parts: Uint8Array[]): Uint8Array[] {
	const length = parts.reduce((sum, part) => sum + part.length, 0);
	const { type } = bundleRecord(name);
	const padding = new Uint8Array(alignUp(length, 8) - length);
	return [structOctets(B.Record, { type, length }), ...parts, padding];
}

function stream(name: string, octets: Uint8Array): Uint8Array[] {
	return [...record(name, structOctets(B.Stream, { length: BigInt(octets.length) })), padded(octets)];
}

const mfnOctets = (mfns: readonly bigint[]): Uint8Array => {
	const octets = new Uint8Array(mfns.length * B.Mfn.size);
	const view = new DataView(octets.buffer);
	mfns.forEach((mfn, i) => {
		view.setBigUint64(8 * i, mfn, true);
	});
	return octets;
};

function pfnRecords({ startPfn, mfns }: NonNullable<BundleParts["pfns"]>): Uint8Array[] {
	const records: Uint8Array[] = [];
	for (let at = 0; at < mfns.length; at += MAX_PFNS) {
		const slice = [...mfns.subarray(at, at + MAX_PFNS)].map((mfn) => BigInt.asUintN(64, BigInt(mfn < 0 ? -1 : mfn)));
		const head = structOctets(B.Pfns, { firstPfn: BigInt(startPfn + at), count: slice.length });
		records.push(...record("PFNS", head, mfnOctets(slice)));
	}
	return records;
}

function pageRecords(pages: ReadonlyMap<number, Uint8Array>): Uint8Array[] {
	const mfns = [...pages.keys()].sort((a, b) => a - b);
	const records: Uint8Array[] = [];
	for (let at = 0; at < mfns.length; at += MAX_PAGES) {
		const some = mfns.slice(at, at + MAX_PAGES);
		const contents = some.map((mfn) => pages.get(mfn) as Uint8Array);
		const head = structOctets(B.Pages, { count: some.length });
		records.push(...record("PAGES", head, mfnOctets(some.map(BigInt)), ...contents));
	}
	return records;
}

/** The octets of a bundle. */
export function writeBundle(parts: BundleParts): Uint8Array {
	const header = structOctets(
		B.Header,
		{ marker: BUNDLE_MARKER, id: BUNDLE_ID, version: BUNDLE_VERSION, options: 0 },
		false,
	);
	if (header.length !== BUNDLE_HEADER_BYTES) throw new Error("the bundle's header has another length");
	const before = Buffer.concat([
		header,
		...record("INFO", structOctets(B.Info, parts.info), new TextEncoder().encode(parts.versionText)),
		...stream("LIVE_UPDATE", parts.stream),
		...(parts.pfns ? pfnRecords(parts.pfns) : []),
		...pageRecords(parts.pages),
		...stream("LIBXC", parts.libxc),
		...stream("XENSTORE", parts.xenstore),
	]);
	const sha256 = [...createHash("sha256").update(before).digest()];
	return new Uint8Array(Buffer.concat([before, ...record("END", structOctets(B.End, { sha256 }))]));
}
