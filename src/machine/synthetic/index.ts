/** Hosts made to order, in one line: see spec.ts for the line, host.ts for what is in them. */
export { syntheticHost } from "./host.ts";
export {
	isSynthetic,
	type Layout,
	layouts,
	parseSynthetic,
	type SyntheticSpec,
	syntheticName,
	type Width,
	widths,
} from "./spec.ts";
