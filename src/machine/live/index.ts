/** The living machine: hosts that operations change. See machine.ts, and operations.ts for what can be done to one. */
export { emptyHost } from "./emptyHost.ts";
export { resultText } from "./errno.ts";
export { Machine } from "./machine.ts";
export { type Operation, operations, type Result, runOperation } from "./operations.ts";
export { propose } from "./propose.ts";
