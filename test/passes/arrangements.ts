/**
 * The pass-ordering suite as one table: what order.ts, domains.ts, records.ts, crossing.ts and interleaving.ts list, in
 * the order of docs/PASSES.md, which is printed from here by tools/generate.mjs.
 */
import { crossing } from "./rows/crossing.ts";
import { domains } from "./rows/domains.ts";
import { interleaving } from "./rows/interleaving.ts";
import { order } from "./rows/order.ts";
import { records } from "./rows/records.ts";
import { cells, type Group, SYNTHETIC } from "./table.ts";

export { cells };
export const groups: readonly Group[] = [order, domains, records, crossing, interleaving];

/** What docs/PASSES.md begins with. */
export const introduction = `
# Order of passes: what is tried, and what comes of it

A restore is three passes over all domains ([FORMAT.md](FORMAT.md#order-within-a-section), [CORE.md](CORE.md)):

| pass | host-wide, first | then each domain | sections |
|---|---|---|---|
| 0 | creates the image, H | creates the domain, its P2M, its vCPUs | H, 0 |
| 1 | page ownership and types: a barrier | its grant table | 1h, 1d |
| 2 | | everything else, references | 2 |

- **P0, P1, P2**: a pass starts when the one before it has ended for every domain, and runs once for each.
- **P3**: within a domain, order between records is the column "after" and nothing else; within a pass, no domain depends
  on another.
- **P4**: what has an end in each of two domains may be restored in either order.

Each line below is a test of \`test/passes\`: a rule, an arrangement, its outcome. An implementation of the format should come
to the same outcomes. "Same image" is xen#1's: no difference in any table, the same digest, the same octets. "Nothing
changed" and "nothing written" are octets too. Rules with a number are in [RULES.md](RULES.md).

The hosts: \`tiny\` has every record of version 1 in 1024 frames, and a domain of each sort: dom0, a PV guest, an HVM guest, a
dead domain. \`second\` is the same with a 32-bit PV guest, and has every record of version 2. \`pv\`, \`pvh\` and \`hvm\` are captures of Xen 4.17 with one guest each. \`synthetic\` is
\`${SYNTHETIC}\`.
`;
