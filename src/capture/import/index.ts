/** From a captured host's facts to a machine's state. */
export { describeImport } from "./describe.ts";
export { importCapture } from "./host.ts";
export type { Assumption, ImportedHost } from "./ledger.ts";
