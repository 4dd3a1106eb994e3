/** The package's interface. */
export { type AuditFinding, type AuditReport, auditHost, auditImage } from "./audit.ts";
export {
	type BundleVerdict,
	type Extracted,
	extract,
	receiveBundle,
	type Store,
	type StoreConnection,
	type StoreDomain,
	type StoreNode,
	type StoreTransaction,
	type StoreWatch,
	verifyBundle,
} from "./bundle/index.ts";
export type { Assumption } from "./capture/import/index.ts";
export {
	Context,
	Core,
	type Difference,
	type Fault,
	type LoadOptions,
	loadCore,
	type Wants,
	type Window,
} from "./core/load.ts";
export {
	type BulkTable,
	digestInSteps,
	gather,
	type RowSink,
	type RowSource,
	restoreInWindows,
	type StreamPiece,
	saveInSteps,
	TablesInMemory,
	type WindowOptions,
} from "./core/windows.ts";
export { type ErrorCode, type ErrorDetail, EXIT, errorCodes, type Finding, type Problem, XluError } from "./errors.ts";
export { FORMAT_VERSION } from "./format/schema.ts";
export {
	Findings,
	type FormatFinding,
	type FormatRule,
	findingText,
	type Severity,
} from "./formats/common/findings.ts";
export type { Format, ReadOptions } from "./formats/common/format.ts";
export { type JsonItem, readJson, writeJson } from "./formats/common/json.ts";
export { StreamReader } from "./formats/common/reader.ts";
export type { EncodableItem, Fields, Json, Layer, PageContents, StreamItem } from "./formats/common/record.ts";
export { type ByteSink, FileSink, MemorySink } from "./formats/common/sink.ts";
export { type ByteSource, openSource, sourceOf } from "./formats/common/source.ts";
export { formats, recognise } from "./formats/index.ts";
export { type ConvertLegacyOptions, type ConvertLegacyResult, convertLegacy } from "./formats/legacy/index.ts";
export { convertImage } from "./formats/libxc/convert.ts";
export {
	type ConvertedXenstore,
	type ConvertXenstoreOptions,
	convertXenstore,
} from "./formats/xenstore/convert.ts";
export { type Daemon, type Dialect, daemons } from "./formats/xenstore/daemons.ts";
export {
	readXenstore,
	type XenstoreConnection,
	type XenstoreDomain,
	type XenstoreModel,
	type XenstoreNode,
	type XenstorePendingNode,
	type XenstoreQuota,
	type XenstoreReadOptions,
	type XenstoreTransaction,
	type XenstoreWatch,
} from "./formats/xenstore/model.ts";
export {
	type WrittenXenstore,
	writeXenstore,
	type XenstoreDropped,
	type XenstoreUse,
	type XenstoreWriteOptions,
} from "./formats/xenstore/write.ts";
export { type Capabilities, type Host, loadHost } from "./host.ts";
export { type Converted, type ConvertOptions, convertStream, type Form } from "./inspect/convert.ts";
export { differences, FactCollector, type Facts, liveUpdateFacts, type StreamDifference } from "./inspect/diff.ts";
export { type Explanation, explain, explanations } from "./inspect/explain.ts";
export { type OpenOptions, type OpenStream, openReader, openStream, readWhole } from "./inspect/open.ts";
export {
	type InspectedPort,
	type InspectedRecord,
	type InspectedStream,
	inspectStream,
	walkRecords,
} from "./inspect/stream.ts";
export {
	diffStreams,
	type ItemOptions,
	readItems,
	type StreamFinding,
	type StreamVerdict,
	streamFacts,
	type VerifyStreamOptions,
	verifyStream,
} from "./inspect/streams.ts";
export { type CheckResult, LiveUpdate, load, type Restored, type Saved } from "./library.ts";
export { type BulkContent, buildDetachedImage, buildImage, type DetachedImage } from "./machine/image.ts";
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
