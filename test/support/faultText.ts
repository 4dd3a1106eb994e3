import type { Fault } from "../../src/core/load.ts";
import { DOMID } from "../../src/format/enums.ts";

/** A fault in one line: `2/1 LU_EVTCHN.abi: 1, not 2`. What a checksum says is left out: it changes with the stream. */
export function faultText(fault: Fault, rule: string): string {
	const domid = fault.domid === DOMID.XEN ? "host" : fault.domid;
	const place = fault.pass === undefined ? "stream" : `${fault.pass}/${domid}`;
	const field = fault.field ? `.${fault.field}` : "";
	const values = rule === "CHECKSUM" ? "" : `: ${fault.expected}, not ${fault.got}`;
	return `${place} ${fault.record ?? "-"}${field}${values}`;
}
