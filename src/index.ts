/** The package's interface. */
export type { Assumption } from "./capture/import/index.ts";
export { Context, Core, type Difference, type Fault, type LoadOptions, loadCore, type Window } from "./core/load.ts";
export { type ErrorCode, type ErrorDetail, EXIT, errorCodes, XluError } from "./errors.ts";
export { FORMAT_VERSION } from "./format/schema.ts";
export { type Host, loadHost } from "./host.ts";
export {
	type InspectedPort,
	type InspectedRecord,
	type InspectedStream,
	inspectStream,
	walkRecords,
} from "./inspect/stream.ts";
export { type CheckResult, type Finding, LiveUpdate, load, type Restored, type Saved } from "./library.ts";
export { buildImage } from "./machine/image.ts";
export type { DomainModel, HostModel, PreservedPages } from "./machine/model.ts";
export { packPreserved } from "./machine/preserved.ts";
export { type Layout, layouts, parseSynthetic, type SyntheticSpec, syntheticHost } from "./machine/synthetic/index.ts";
export {
	type DomainReport,
	liveUpdate,
	type Stage,
	type StageName,
	type UpdateOptions,
	type UpdateReport,
} from "./update.ts";
