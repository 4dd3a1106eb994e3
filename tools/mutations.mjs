// Breaks the rebuild of the core, one small patch at a time, and shows which tests notice: tests of the tests.
//
//   node tools/mutations.mjs [--quick] [--only N[,N...]] [--json FILE]
//
// Each mutant is compiled and given to the tests by XLU_CORE. A mutant that no test notices
// makes the command fail. With unmutated sources as mutant 0, which every test must pass. --quick, after `npm test`: mutant 0
// is left out, and of each other one the first test that fails is enough.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { compileCore, failingTests, root } from "./mutants/core.mjs";

const references = "assembly/references.ts";
const restore = "assembly/restore.ts";
const sums = "assembly/sums.ts";
const workers = "assembly/workers.ts";

const mutations = [
	{ what: "nothing: the core as it is", file: references, find: "", put: "" },
	{
		what: "pins: one host mapping too few is counted",
		file: references,
		find: "add(ctx, grant.mfn, <u32>grant.hostWrite + grant.hostRead, typed ? grant.hostWrite : 0);",
		put: "add(ctx, grant.mfn, <u32>grant.hostWrite + grant.hostRead - 1, typed ? grant.hostWrite : 0);",
	},
	{
		what: "a mapping of a PV domain is counted at its L1 entry and at the pins",
		file: references,
		find: "if (isWalked(ctx, grant.grantee)) continue;",
		put: "",
	},
	{
		what: "a device's writable mapping takes no type of an external guest's frame",
		file: references,
		find: "<u32>grant.deviceWrite + grant.deviceRead, grant.deviceWrite);",
		put: "<u32>grant.deviceWrite + grant.deviceRead, external ? 0 : grant.deviceWrite);",
	},
	{
		what: "a type reference too many: L1 entries take it of external guests' frames",
		file: references,
		find: "types = takesType(domid, owner, other ? domainOf(image, other).kind : 0) ? 1 : 0;",
		put: "types = 1;",
	},
	{
		what: "pins of page tables are not counted",
		file: references,
		find: "if ((type & L.PAGE_TYPE_FLAG_PINNED) != 0) add(ctx, mfn, 1, 1);",
		put: "",
	},
	{
		what: "a linear map of a table by itself is counted",
		file: references,
		find: "if (pte != 0 && pteFrame(pte) != mfn)",
		put: "if (pte != 0)",
	},
	{
		what: "Xen's own slots of an L4 table are counted",
		file: "assembly/pageTable.ts",
		find: "if (level == L.PAGE_TYPE_L4 && slot - XEN_FIRST_SLOT < XEN_SLOTS) return 0;",
		put: "",
	},
	{
		what: "the user's page table of a vCPU is not counted",
		file: references,
		find: "for (let i: u32 = 1; i <= 3; i += 2) {",
		put: "for (let i: u32 = 3; i <= 3; i += 2) {",
	},
	{
		what: "a lost FIFO tail: of priority 7, which guests mostly use",
		file: restore,
		find: "if (<u64>first + rows <= <u64>slots) memory.copy(table + first * rowBytes, from, rows * rowBytes);",
		put: `if (<u64>first + rows <= <u64>slots) memory.copy(table + first * rowBytes, from, rows * rowBytes);
		if (partTable(part) == L.DT_CONTROL_BLOCKS)
			for (let r: u32 = 0; r < rows; r++) store<u32>(table + r * rowBytes + 7 * 4, 0, L.CONTROL_BLOCK__TAIL);`,
	},
	{
		what: "free ports forget the queue that they were last linked on",
		file: restore,
		find: "memory.copy(table + runSlot(runs, i) * rowBytes, rows + first * rowBytes, count * rowBytes);",
		put: `memory.copy(table + runSlot(runs, i) * rowBytes, rows + first * rowBytes, count * rowBytes);
		if (rowBytes == L.EVTCHN_PORT_BYTES)
			for (let r: u32 = 0; r < count; r++) {
				const row = table + (runSlot(runs, i) + r) * rowBytes;
				if (load<u8>(row) == 0) memory.fill(row, 0, rowBytes);
			}`,
	},
	{
		what: "frames that are not allocated start with a reference all the same",
		file: references,
		find: "const references = v128.and(i64x2.shr_u(owners, <i32>ALLOCATED_SHIFT), i64x2.splat(1));",
		put: "const references = i64x2.splat(1);",
	},
	{
		what: "extra frames alone do not hold a domain",
		file: references,
		find: "sums.references += (sums.frames | sums.extraFrames) != 0 ? 1 : 0;",
		put: "sums.references += sums.frames != 0 ? 1 : 0;",
	},
	{
		what: "an I/O server does not hold its emulator",
		file: references,
		find: "addDomainReference(ctx, changetype<L.IoreqServer>(serverTable + i * L.IOREQ_SERVER_BYTES).emulator);",
		put: "",
	},
	{
		what: "workers: sums of a granule begin with what the window held",
		file: sums,
		find: "memory.fill(sums + granule * FRAMES_PER_GRANULE * L.FRAME_COUNT_BYTES, 0, granuleBytes(ctx, granule));",
		put: "",
	},
	{
		what: "workers: sums of untouched granules are added as well",
		file: sums,
		find: "if (load<u8>(granulesAt(worker) + granule) == 0) continue;",
		put: "",
	},
	{
		what: "workers: sums of domains are added twice",
		file: sums,
		find: "memory.fill(changetype<usize>(more), 0, L.DOMAIN_COUNTS_BYTES);",
		put: "",
		survives: "no thread counts a domain's frames before the first of the two sums any more",
	},
	{
		what: "a domain's tables are not cleared",
		file: restore,
		find: "clearTables(image, directory, false);",
		put: "",
	},
	{
		what: "counts that no slice covers are not cleared",
		file: restore,
		find: "t <= L.HT_FRAME_COUNTS",
		put: "t < L.HT_FRAME_COUNTS",
	},
	{
		what: "GFNs that no slice covers are not cleared",
		file: restore,
		find: "clearUncovered(ctx, plan.section0, L.RECORD_LU_P2M, p2m, domainRowBytes(L.DT_P2M), gfns, 0, gfns);",
		put: "",
	},
	{
		what: "workers: a chunk across two blocks is placed by both",
		file: restore,
		find: "if (first >= from) {",
		put: "if (next > from) {",
		survives: "two threads write the same octets, and counts are stored and no longer added",
	},
	{
		what: "workers: a block is placed before all are cleared",
		file: workers,
		find: "domainsEnded(ctx, 0) && blocksEnded(ctx, 1)",
		put: "domainsEnded(ctx, 0)",
	},
	{
		what: "workers: finish does not ask for the blocks",
		file: restore,
		find: "if (!blocksEnded(ctx, BLOCK_MERGED)) return refuse(ctx, L.RULE_PASS_ORDER, BLOCK_MERGED, c.blocksDone);",
		put: "",
	},
	{
		what: "workers: steps of an earlier restore are taken for this one's",
		file: workers,
		find: "if (c.workerPtr == 0) memory.fill(blockStepsAt(ctx), 0, c.blockCount);",
		put: "",
	},
	{
		what: "workers: the host's steps run on any context",
		file: restore,
		find: "if (c.parentPtr != 0) return false;",
		put: "",
	},
];

/** What is run on each mutant. */
const suites = [
	"test/machine/transparency.test.ts",
	"test/core/references.test.ts",
	"test/hosts/counts.test.ts",
	"test/passes/passes.test.ts",
	"test/parallel/contexts.test.ts",
];
/** Sequences of the transparency property: enough to notice, not more. */
const SEQUENCES = "120";

const { values } = parseArgs({
	options: { quick: { type: "boolean", default: false }, only: { type: "string" }, json: { type: "string" } },
});
const only = values.only?.split(",").map(Number);

/** The core with one patch, as a module in a folder. */
async function compile(directory, { file, find, put, what }) {
	const source = readFileSync(join(root, file), "utf8");
	// A patch that no longer fits would test nothing.
	if (find !== "" && source.split(find).length !== 2) throw new Error(`${what}: ${file} does not have once: ${find}`);
	const core = join(directory, "core.wasm");
	writeFileSync(core, await compileCore(new Map([[file, source.replace(find, () => put)]])));
	return core;
}

const results = [];
for (const [number, mutation] of mutations.entries()) {
	if ((only && !only.includes(number)) || (values.quick && number === 0)) continue;
	if (mutation.survives && values.quick) {
		console.log(`${number}. ${mutation.what}: not run, known to pass unnoticed: ${mutation.survives}`);
		continue;
	}
	const directory = mkdtempSync(join(tmpdir(), "xlu-mutant-"));
	try {
		const core = await compile(directory, mutation);
		const env = { XLU_SEQUENCES: SEQUENCES };
		const tests = failingTests(core, join(directory, "report.json"), suites, { bail: values.quick, env });
		results.push({ number, what: mutation.what, file: mutation.file, tests });
		const isRight = (tests.length === 0) === (number === 0 || mutation.survives !== undefined);
		const byFile = suites.map((suite) => [suite, tests.filter((test) => test.startsWith(suite)).length]);
		const noticed = byFile.filter(([, count]) => count > 0).map(([suite, count]) => `${suite} (${count})`);
		console.log(
			`${isRight ? "" : "NOT AS IT SHOULD BE: "}${number}. ${mutation.what}: ${noticed.join(", ") || "no test fails"}`,
		);
		if (!isRight) process.exitCode = 1;
	} finally {
		rmSync(directory, { recursive: true, force: true });
	}
}
if (values.json) writeFileSync(values.json, `${JSON.stringify(results, null, "\t")}\n`);
