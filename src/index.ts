/** The package's interface. */
export {
	type BundleVerdict,
	type Extracted,
	extract,
	receiveBundle,
	type Store,
	type StoreConnection,
	type StoreNode,
	type StoreWatch,
	verifyBundle,
} from "./bundle/index.ts";
export type { Assumption } from "./capture/import/index.ts";
export { Context, Core, type Difference, type Fault, type LoadOptions, loadCore, type Window } from "./core/load.ts";
export { type ErrorCode, type ErrorDetail, EXIT, errorCodes, type Problem, XluError } from "./errors.ts";
export { FORMAT_VERSION } from "./format/schema.ts";
export type { FormatFinding, FormatRule, Severity } from "./formats/common/findings.ts";
export { type Capabilities, type Host, loadHost } from "./host.ts";
export {
	type InspectedPort,
	type InspectedRecord,
	type InspectedStream,
	inspectStream,
	walkRecords,
} from "./inspect/stream.ts";
export { type CheckResult, type Finding, LiveUpdate, load, type Restored, type Saved } from "./library.ts";
export { buildImage } from "./machine/image.ts";
export {
	emptyHost,
	Machine,
	type Operation,
	operations,
	propose,
	type Result,
	resultText,
	runOperation,
} from "./machine/live/index.ts";
export type { DomainModel, HostModel, PreservedPages, PvLayout } from "./machine/model.ts";
export { packPreserved } from "./machine/preserved.ts";
export { type Layout, layouts, parseSynthetic, type SyntheticSpec, syntheticHost } from "./machine/synthetic/index.ts";
export { MAX_WORKERS, type PassReports, type PoolOptions, WorkerPool } from "./parallel/pool.ts";
export {
	type Failure,
	parseScenario,
	readScenario,
	runScenario,
	type Scenario,
	type ScenarioOptions,
	type ScenarioReport,
	type StepReport,
} from "./scenario/index.ts";
export {
	type DomainReport,
	liveUpdate,
	type Stage,
	type StageName,
	type UpdateOptions,
	type UpdateReport,
	updateMachine,
} from "./update.ts";
