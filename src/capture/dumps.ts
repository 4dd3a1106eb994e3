/**
 * Parsers of a captured host's text files. One file per dump; common to all: Xen's console prefix and timestamps may
 * be there or not, unknown lines are ignored, and a line that starts like a row and cannot be parsed is an
 * XLU_E_CAPTURE error with file, line, expected and got. The formats are observed (Xen 4.17), no document has them.
 */
export {
	type CapturedDomainInfo,
	type CapturedIoreqServer,
	type CapturedPage,
	type CapturedRange,
	type CapturedVcpu,
	type DomainDump,
	parseDomainDump,
} from "./domains.ts";
export { type CapturedEvents, type CapturedPort, EVENT_STATE, parseEventDump } from "./events.ts";
export { type CapturedGrant, type CapturedGrantTable, parseGrantDump, pinCounts } from "./grants.ts";
export {
	type CapturedRegisters,
	type CapturedTsc,
	type FreeMemory,
	parseMemoryDump,
	parseRegisterDump,
	parseTscDump,
	parseVmcsDump,
	parseXlConfig,
	parseXlInfo,
	parseXlList,
	parseXlVcpuList,
	type XlInfo,
	type XlVcpu,
} from "./host.ts";
