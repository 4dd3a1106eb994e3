/** Whatever happens to a stream's octets: findings or an error with a code, never a crash; and it can be shown. */
import { expect, test } from "vitest";
import { daemons } from "../../../src/formats/xenstore/daemons.ts";
import { xenstoreFormat } from "../../../src/formats/xenstore/index.ts";
import { addToXenstore, emptyXenstore } from "../../../src/formats/xenstore/model.ts";
import { treeLines } from "../../../src/formats/xenstore/tree.ts";
import { fixture, reading } from "../../support/xenstore.ts";
import { mutated } from "../../support/xenstoreMutations.ts";
import { probes } from "../../support/xenstoreVerdicts.ts";

const COUNT = 10_000;

test(`${COUNT} mutated streams`, async () => {
	const bases = [...probes.map(({ file }) => fixture(`probes/${file}`)).filter(({ length }) => length < 1000)];
	const long = [fixture("busy.dump"), fixture("v2/plain.dump")];
	let refused = 0;
	for (let i = 0; i < COUNT; i++) {
		const base = i % 50 === 0 ? (long[(i / 50) % 2] as Buffer) : (bases[i % bases.length] as Buffer);
		const octets = mutated(base, i);
		const daemon = i % 3 === 0 ? undefined : daemons[i % 2];
		const dialect = i % 17 === 0 ? "draft-2020-04" : undefined;
		const how = { strict: i % 5 === 0, ...(daemon ? { daemon } : {}), ...(dialect ? { dialect } : {}) } as const;
		const { items, findings, error } = await reading(octets, how);
		if (error) expect(error.rule).toMatch(/^XLU-S/);
		if (findings.some(({ isError }) => isError)) refused++;
		const whole = Buffer.concat(items.map((item) => item.octets as Uint8Array));
		expect(whole.equals(octets.subarray(0, whole.length))).toBe(true);
		const model = emptyXenstore();
		for (const item of items) {
			addToXenstore(model, item);
			JSON.stringify(item.fields);
			try {
				xenstoreFormat.encode(item);
			} catch (cause) {
				expect((cause as { code?: string }).code).toBe("XLU_E_USAGE");
			}
		}
		expect([...treeLines(model)].length).toBeLessThan(10_000);
	}
	expect(refused).toBeGreaterThan(COUNT / 4);
});

test("every cut of a stream is refused, with its place", async () => {
	const octets = fixture("probes/102-pending-node-conn-id-2-without-transaction-data.bin");
	for (let length = 0; length < octets.length; length++) {
		const { error } = await reading(octets.subarray(0, length));
		expect([length, error?.rule, error?.exitStatus]).toEqual([length, "XLU-S001", 3]);
	}
});
