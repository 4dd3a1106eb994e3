/** Streams of several moments, of memory that comes twice, and of a recorded migration: read, judged, written again. */
import { describe, expect, test } from "vitest";
import { Findings } from "../../../src/formats/common/findings.ts";
import { readJson, writeJson } from "../../../src/formats/common/json.ts";
import { StreamReader } from "../../../src/formats/common/reader.ts";
import type { StreamItem } from "../../../src/formats/common/record.ts";
import { MemorySink } from "../../../src/formats/common/sink.ts";
import { sourceOf } from "../../../src/formats/common/source.ts";
import { readGuestImage } from "../../../src/formats/guestImage.ts";
import { imageFormat } from "../../../src/formats/image.ts";
import { convertImage } from "../../../src/formats/libxc/convert.ts";
import { octetsOf } from "../../../src/inspect/open.ts";
import { Random } from "../../../src/random.ts";
import { checkpointed, migrated, verified, withDirtyPfns } from "../../support/checkpoints.ts";
import { Draft, make, pageData, pageOf, u32, u64 } from "../../support/drafts.ts";
import { itemsOf, joined } from "../../support/images.ts";

async function* each<T>(list: readonly T[]): AsyncGenerator<T> {
	yield* list;
}

const inOrder = (items: readonly StreamItem[], isLittle: boolean) =>
	Buffer.concat(items.map((item) => imageFormat.encode({ ...item, isLittle })));

async function codesOf(octets: Uint8Array): Promise<string[]> {
	const findings = new Findings({ strict: true });
	await itemsOf(octets, { findings, pages: "summary" });
	return findings.list.map(({ rule }) => rule.code);
}

const streams: [string, () => Promise<Draft>, readonly string[]][] = [
	["Remus, HVM", () => checkpointed("hvm", { checkpoints: 3 }), []],
	["Remus, PVH", () => checkpointed("pvh", { checkpoints: 2 }), []],
	["Remus, PV", () => checkpointed("pv", { checkpoints: 3 }), []],
	["Remus, ended behind a checkpoint", () => checkpointed("pv", { checkpoints: 2, endsWithState: false }), []],
	["COLO", () => checkpointed("hvm", { checkpoints: 3, colo: true }), []],
	["COLO, PV", () => checkpointed("pv", { checkpoints: 1, colo: true }), []],
	["libxc alone", async () => (await checkpointed("hvm", { checkpoints: 3 })).only("libxc"), []],
	["the back channel's record", () => withDirtyPfns("hvm"), ["XLU-C018"]],
	["verified, PV", () => verified("pv"), []],
	["verified, HVM", () => verified("hvm"), []],
	["a recorded migration", () => migrated("hvm"), ["XLU-F005"]],
];

describe.each(streams)("%s", (_, build, codes) => {
	test("is read record by record and judged, in both byte orders", async () => {
		const draft = await build();
		const items = await itemsOf(draft.octets, { chunkBytes: 4099 });
		expect(items.map(({ layer, name, offset }) => [layer, name, offset])).toEqual(
			draft.pieces.map(({ layer, name }, i) => [
				layer,
				name,
				draft.pieces.slice(0, i).reduce((sum, { octets }) => sum + octets.length, 0),
			]),
		);
		expect(await codesOf(draft.octets)).toEqual(codes);
		const big = inOrder(items, false);
		const orders = (layer: string) => (items.some((item) => item.layer === layer) ? 1 : 0);
		const ofOrder = ["XLU-L004", "XLU-C006"].slice(1 - orders("libxl"));
		expect(await codesOf(big)).toEqual([...ofOrder, ...codes]);
	});

	test("comes back octet for octet: from its fields, from JSON, from the other byte order", async () => {
		const { octets } = await build();
		const items = await itemsOf(octets);
		for (const item of items)
			expect(Buffer.from(imageFormat.encode(item)).equals(item.octets as Uint8Array)).toBe(true);
		expect(Buffer.from(joined(items)).equals(octets)).toBe(true);
		const big = await itemsOf(inOrder(items, false));
		// A tail has no byte order.
		expect(big.every(({ isLittle, kind }) => !isLittle || kind === "tail")).toBe(true);
		expect(inOrder(big, true).equals(octets)).toBe(true);
		for (const list of [items, big]) {
			const sink = new MemorySink();
			await writeJson(imageFormat, each(list), sink);
			expect(Buffer.from(sink.octets()).includes('"octets":')).toBe(false);
			const back: Uint8Array[] = [];
			for await (const item of readJson(new StreamReader(sourceOf(sink.octets())))) back.push(octetsOf(item));
			expect(Buffer.concat(back).equals(joined(list))).toBe(true);
		}
	});

	test("is the same guest in version 2 and back", async () => {
		const { octets } = await build();
		const second = new MemorySink();
		await convertImage(imageFormat, each(await itemsOf(octets)), 2, second);
		expect(await codesOf(second.octets())).toEqual(codes);
		const third = new MemorySink();
		await convertImage(imageFormat, each(await itemsOf(second.octets())), 3, third);
		expect(await codesOf(third.octets())).toEqual(codes);
	});
});

describe("the image that a host is made of", () => {
	test.each([false, true])("has the last moment of a checkpointed stream, COLO %s", async (colo) => {
		const draft = await checkpointed("hvm", { checkpoints: 3, colo });
		const image = readGuestImage(draft.octets);
		expect(image.checkpoints).toBe(3);
		expect(Buffer.from(image.pages.content(3) ?? []).equals(pageOf(3))).toBe(true);
		const [store] = image.emulators;
		expect(Buffer.from(store?.data ?? []).toString()).toBe("physmap/4/size\x00800\x00");
	});
});

describe("what END says of pages", () => {
	/** Counted from the records' own octets: PFN by PFN, with nothing of src/formats. */
	function counted(draft: Draft): Record<string, unknown> {
		const names = ["NOTAB", "L1TAB", "L2TAB", "L3TAB", "L4TAB", "", "", "", "", "L1TAB_PIN", "L2TAB_PIN", "L3TAB_PIN"];
		names.push("L4TAB_PIN", "BROKEN", "XALLOC", "XTAB");
		const seen = new Set<bigint>();
		const byType: Record<string, number> = {};
		const sums = { records: 0, frames: 0, distinct: 0, sentAgain: 0, withData: 0, zero: 0 };
		let verifiedFrames = 0;
		let isVerifying = false;
		for (const { layer, name, octets } of draft.pieces) {
			if (layer !== "libxc") continue;
			if (name === "VERIFY") isVerifying = true;
			if (name === "CHECKPOINT") isVerifying = false;
			if (name !== "PAGE_DATA") continue;
			const record = Buffer.from(octets);
			const count = record.readUInt32LE(8);
			sums.records++;
			let at = 16 + 8 * count;
			for (let i = 0; i < count; i++) {
				const entry = record.readBigUInt64LE(16 + 8 * i);
				const type = Number(entry >> 60n);
				const pfn = entry & 0xf_ffff_ffff_ffffn;
				sums.frames++;
				byType[names[type] as string] = (byType[names[type] as string] ?? 0) + 1;
				if (isVerifying) verifiedFrames++;
				else if (seen.has(pfn)) sums.sentAgain++;
				else seen.add(pfn);
				if (type >= 13) continue;
				sums.withData++;
				if (record.subarray(at, at + 4096).every((octet) => octet === 0)) sums.zero++;
				at += 4096;
			}
		}
		return { ...sums, distinct: seen.size, ...(verifiedFrames ? { verified: verifiedFrames } : {}), byType };
	}

	async function summed(octets: Uint8Array, pages: "summary" | "hash" | "keep"): Promise<unknown> {
		const items = await itemsOf(octets, { pages });
		return items.findLast(({ layer, name }) => layer === "libxc" && name === "END")?.fields.pages;
	}

	test.each(streams)("is what an independent count finds: %s", async (_, build) => {
		const draft = await build();
		for (const pages of ["summary", "hash", "keep"] as const) {
			expect(await summed(draft.octets, pages)).toEqual(counted(draft));
		}
	});

	test("of pages of every type, far apart, sent again, nearly zero", async () => {
		const base = await Draft.of("hvm");
		for (let seed = 0; seed < 20; seed++) {
			const random = new Random(seed);
			const types = [0, 0, 0, 1, 2, 3, 4, 9, 10, 11, 12, 13, 14, 15];
			const records = Array.from({ length: 3 }, () =>
				pageData(
					Array.from({ length: 1 + random.below(40) }, () => {
						const page = Buffer.alloc(4096);
						if (random.chance(0.5)) page[random.below(4096)] = 1;
						const pfn = random.below(8) * 2 ** (4 * random.below(9));
						return { pfn, type: types[random.below(types.length)] as number, page };
					}),
				),
			);
			const draft = base.before("libxc PAGE_DATA", ...records).before("libxc X86_TSC_INFO", make.verify(), ...records);
			for (const pages of ["summary", "keep"] as const) {
				expect(await summed(draft.octets, pages)).toEqual(counted(draft));
			}
		}
	});

	test("a hostile list of PFNs is counted as far as memory is bounded, and says so", async () => {
		const base = await Draft.of("hvm");
		const far = (from: number) =>
			pageData(Array.from({ length: 1024 }, (_, i) => ({ pfn: (from + i) * 2 ** 18, type: 15 })));
		const draft = base.before("libxc X86_TSC_INFO", ...[0, 1, 2, 3, 4].map((n) => far(1 + 1024 * n)));
		const before = process.memoryUsage().arrayBuffers;
		const pages = (await summed(draft.octets, "summary")) as Record<string, number>;
		expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(200 << 20);
		const captured = counted(base) as Record<string, number>;
		expect(pages).toMatchObject({ frames: (captured.frames as number) + 5120, sentAgain: 0 });
		// 4096 pieces of 2^18 PFNs are followed, of which the captured pages have the first ones.
		expect(pages.notFollowed).toBeGreaterThanOrEqual(1024);
		expect((pages.distinct as number) + (pages.notFollowed as number)).toBe(pages.frames);
	});

	test("a count of 2^24 in a record that claims 128 MiB takes no memory before octets come", async () => {
		const head = Buffer.concat([u32(1, 128 << 20), u32(0x0100_0000, 0), u64(...Array(16).fill(0))]);
		const draft = (await Draft.of("hvm")).cut("libxc PAGE_DATA");
		const before = process.memoryUsage().arrayBuffers;
		const octets = Buffer.concat([draft.octets, head]);
		await expect(itemsOf(octets)).rejects.toMatchObject({ rule: "XLU-C031" });
		head.writeUInt32LE(0x00ff_ffff, 8);
		const claim = Buffer.concat([draft.octets, head]);
		await expect(itemsOf(claim, { pages: "summary" })).rejects.toMatchObject({ rule: "XLU-F001" });
		expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 << 20);
	});
});
