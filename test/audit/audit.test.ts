/**
 * audit: xen#1's own image before the pause (X2). A snapshot of a real host is clean; each corruption that is put into its
 * image, octet by octet, is named: the rule, whose, what was expected and what was found.
 */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { auditHost, auditImage } from "../../src/audit.ts";
import { EVTCHN_STATE, FRAME, FRAME_OWNER_MASK, PAGE_TYPE, PAGE_TYPE_FLAG } from "../../src/format/enums.ts";
import { type Row, readStruct, writeStruct } from "../../src/format/layout.ts";
import { type Host, loadHost } from "../../src/host.ts";
import { buildImage, type TableView, viewImage } from "../../src/machine/image.ts";
import { propose, runOperation } from "../../src/machine/live/index.ts";
import { Random } from "../../src/random.ts";
import { newCore, root } from "../support/core.ts";
import { fixtures } from "../support/hosts.ts";
import { baseMachine } from "../support/living.ts";

const core = newCore();
const pv = loadHost(join(root, "examples/pv"));
const hvm = loadHost(join(fixtures, "hvm"));

describe("a snapshot of a real host is clean", () => {
	test.each(["pv", "pvh", "hvm"])("captured: %s", async (name) => {
		const report = await auditHost(loadHost(join(fixtures, name)), core);
		expect(report).toMatchObject({ clean: true, findings: [], moreFindings: 0 });
		expect(report.frames).toBeGreaterThan(100_000);
	});

	test.each(["superpages", "typical", "fragmented", "adversarial"])("made to order: %s", async (layout) => {
		const host = loadHost(`synthetic:domains=4,memory=16M,vcpus=2,layout=${layout},ports=16,grants=16,seed=3`);
		expect(await auditHost(host, core)).toMatchObject({ clean: true, domains: host.model.domains.length });
	});

	test("a machine, after every hundred of 2,000 operations", async () => {
		const machine = baseMachine();
		const draw = new Random(11);
		for (let i = 0; i < 20; i++) {
			for (let k = 0; k < 100; k++) {
				const operation = propose(machine, draw);
				if (operation) runOperation(machine, operation);
			}
			expect((await auditHost(machine.toHost(), core)).findings).toEqual([]);
		}
	});
});

/** An image under corruption. */
class Corrupted {
	readonly image: Uint8Array<ArrayBuffer>;
	readonly #host: Host;

	constructor(host: Host) {
		this.#host = host;
		this.image = buildImage(host.model, host.preserved, host.references);
	}

	table(name: string, domid?: number): TableView {
		const { host, domains } = viewImage(this.image);
		const tables = domid === undefined ? host : domains.find((domain) => domain.domid === domid)?.tables;
		const found = tables?.find(({ table }) => table.name === name);
		if (!found) throw new Error(`no table ${name}`);
		return found;
	}

	rows(name: string, domid?: number): Row[] {
		const { table, count, offset } = this.table(name, domid);
		const { view } = viewImage(this.image);
		return Array.from({ length: count }, (_, i) => readStruct(table.row, view, offset + i * table.row.size));
	}

	/** Changes one row. */
	edit(name: string, domid: number | undefined, index: number, change: (row: Row) => Partial<Row>): void {
		const { table, offset } = this.table(name, domid);
		const { view } = viewImage(this.image);
		const at = offset + index * table.row.size;
		const row = readStruct(table.row, view, at);
		writeStruct(table.row, view, at, { ...row, ...change(row) });
	}

	/** First row that fits. */
	find(name: string, domid: number | undefined, fits: (row: Row, index: number) => boolean): number {
		const index = this.rows(name, domid).findIndex(fits);
		if (index < 0) throw new Error(`no such row in ${name}`);
		return index;
	}

	/** The first frame of a domain whose owner entry and type fit. */
	frame(domid: number, fits: (entry: number, type: number) => boolean): number {
		const owners = this.table("FrameOwners");
		const types = this.table("FrameTypes");
		const { view } = viewImage(this.image);
		for (let mfn = 0; mfn < owners.count; mfn++) {
			const entry = view.getUint32(owners.offset + 8 * mfn, true);
			if ((entry & FRAME.owned) === 0 || (entry & FRAME_OWNER_MASK) !== domid) continue;
			if (fits(entry, view.getUint8(types.offset + mfn))) return mfn;
		}
		throw new Error("no such frame");
	}

	audit() {
		return auditImage(core, "corrupted", this.image, this.#host.preserved);
	}
}

const plain = (entry: number, type: number) =>
	(entry & (FRAME.xenheap | FRAME.extra)) === 0 && (type & 7) === PAGE_TYPE.none;
const inUse = (state: number) => (row: Row) => Number(row.state) === state;

interface Corruption {
	what: string;
	host: Host;
	corrupt: (image: Corrupted) => void;
	/** Of the first finding. */
	finding: Record<string, unknown>;
}

const corruptions: Corruption[] = [
	{
		what: "a page reference too many",
		host: pv,
		corrupt: (image) =>
			image.edit("FrameCounts", undefined, 0x1000, ({ references }) => ({ references: Number(references) + 1 })),
		finding: { rule: "XLU-R111", mfn: 0x1000, field: "references" },
	},
	{
		what: "a page reference too few",
		host: hvm,
		corrupt: (image) => {
			const mfn = image.frame(4, plain);
			image.edit("FrameCounts", undefined, mfn, ({ references }) => ({ references: Number(references) - 1 }));
		},
		finding: { rule: "XLU-R111", domid: 4, field: "references", expected: "1", got: "0" },
	},
	{
		what: "a type reference that nothing holds",
		host: pv,
		corrupt: (image) => {
			const mfn = image.frame(1, (_entry, type) => (type & 7) === PAGE_TYPE.l1);
			image.edit("FrameCounts", undefined, mfn, ({ typeReferences }) => ({
				typeReferences: Number(typeReferences) + 1,
			}));
		},
		finding: { rule: "XLU-R111", domid: 1, field: "typeReferences" },
	},
	{
		what: "a reference to a domain that nobody holds",
		host: pv,
		corrupt: (image) => image.edit("DomainCounts", 1, 0, ({ references }) => ({ references: Number(references) + 1 })),
		finding: { rule: "XLU-R111", domid: 1, field: "references" },
	},
	{
		what: "a domain's count of frames",
		host: hvm,
		corrupt: (image) => image.edit("DomainCounts", 4, 0, ({ frames }) => ({ frames: Number(frames) - 1 })),
		finding: { rule: "XLU-R111", domid: 4, field: "frames" },
	},
	{
		what: "a page owned by nobody that is mapped",
		host: hvm,
		corrupt: (image) => image.edit("FrameOwners", undefined, image.frame(4, plain), () => ({ value: 0n })),
		finding: { rule: "XLU-R062", domid: 4, record: "LU_P2M" },
	},
	{
		what: "a page of a domain that does not exist",
		host: pv,
		corrupt: (image) =>
			image.edit("FrameOwners", undefined, image.frame(1, plain), ({ value }) => ({
				value: (value as bigint) | 0x40n,
			})),
		finding: { rule: "XLU-R051", record: "LU_FRAMES" },
	},
	{
		what: "a pin nobody holds",
		host: pv,
		corrupt: (image) => {
			const ref = image.find("GrantActive", 1, ({ hostWrite }) => Number(hostWrite) > 0);
			image.edit("GrantActive", 1, ref, ({ deviceRead }) => ({ deviceRead: Number(deviceRead) + 1 }));
		},
		finding: { rule: "XLU-R074", domid: 1 },
	},
	{
		what: "a mapping of a grant that is not active",
		host: hvm,
		corrupt: (image) => {
			const handle = image.find("Maptrack", 0, ({ flags }) => flags !== 0);
			image.edit("Maptrack", 0, handle, ({ reference }) => ({ reference: Number(reference) + 300 }));
		},
		finding: { domid: 0 },
	},
	{
		what: "half an interdomain pair",
		host: pv,
		corrupt: (image) => {
			const port = image.find("Ports", 1, inUse(EVTCHN_STATE.interdomain));
			image.edit("Ports", 1, port, ({ remotePort }) => ({ remotePort: Number(remotePort) + 1 }));
		},
		finding: { rule: "XLU-R082" },
	},
	{
		what: "a VIRQ bound twice",
		host: pv,
		corrupt: (image) => {
			const bound = image.find("Ports", 1, inUse(EVTCHN_STATE.virq));
			const other = image.find("Ports", 1, (row, port) => port > bound && inUse(EVTCHN_STATE.ipi)(row));
			const row = image.rows("Ports", 1)[bound] as Row;
			image.edit("Ports", 1, other, () => row);
		},
		finding: { rule: "XLU-R083", domid: 1 },
	},
	{
		what: "a page table in a guest that has none",
		host: hvm,
		corrupt: (image) => image.edit("FrameTypes", undefined, image.frame(4, plain), () => ({ value: PAGE_TYPE.l4 })),
		finding: { rule: "XLU-R056" },
	},
	{
		what: "a pin on a type that cannot be pinned",
		host: pv,
		corrupt: (image) => {
			const mfn = image.frame(1, (_entry, type) => (type & 7) === PAGE_TYPE.writable);
			image.edit("FrameTypes", undefined, mfn, ({ value }) => ({ value: Number(value) | PAGE_TYPE_FLAG.pinned }));
		},
		finding: { rule: "XLU-R056" },
	},
	{
		what: "a xenheap page that is none of Xen's uses",
		host: pv,
		corrupt: (image) =>
			image.edit("FrameOwners", undefined, image.frame(1, plain), ({ value }) => ({
				value: (value as bigint) | BigInt(FRAME.xenheap),
			})),
		finding: { rule: "XLU-R053" },
	},
	{
		what: "two GFNs of a guest name one frame, of another guest",
		host: hvm,
		corrupt: (image) => {
			const theirs = image.frame(0, plain);
			const gfn = image.find(
				"P2m",
				4,
				({ value }) => (value as bigint) >> 63n === 1n && ((value as bigint) >> 40n) % 16n === 0n,
			);
			image.edit("P2m", 4, gfn, ({ value }) => ({ value: (((value as bigint) >> 40n) << 40n) | BigInt(theirs) }));
		},
		finding: { rule: "XLU-R062", domid: 4, record: "LU_P2M" },
	},
	{
		what: "tables that do not hold together",
		host: pv,
		corrupt: (image) => new DataView(image.image.buffer).setUint32(12, image.image.length + 8, true),
		finding: { rule: "XLU-R033" },
	},
];

describe("each corruption is named", () => {
	test.each(corruptions)("$what", ({ host, corrupt, finding }) => {
		const image = new Corrupted(host);
		const before = image.image.slice();
		corrupt(image);
		expect(Buffer.compare(before, image.image)).not.toBe(0);
		const { clean, findings } = image.audit();
		expect(clean).toBe(false);
		expect(findings[0]).toMatchObject(finding);
		expect(findings[0]?.message).toMatch(/XLU-R\d{3}/);
	});

	test("and nothing of the image is written", () => {
		const image = new Corrupted(pv);
		image.edit("FrameCounts", undefined, 7, () => ({ references: 5 }));
		const before = image.image.slice();
		image.audit();
		expect(Buffer.compare(before, image.image)).toBe(0);
	});

	test("a hundred counts by name, the others by their number", () => {
		const image = new Corrupted(hvm);
		for (let mfn = 0; mfn < 300; mfn++)
			image.edit("FrameCounts", undefined, mfn, () => ({ references: 9, typeReferences: 9 }));
		const { findings, moreFindings } = image.audit();
		expect(findings).toHaveLength(100);
		expect(moreFindings).toBeGreaterThanOrEqual(200);
	});
});
