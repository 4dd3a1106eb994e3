/** What the bench takes of the built package: its public functions, and those of its parts that tests look at as well. */
export {
	buildImage,
	Core,
	liveUpdate,
	loadCore,
	loadHost,
	packPreserved,
	parseSynthetic,
	syntheticHost,
} from "../dist/index.js";
export { viewImage } from "../dist/machine/image.js";
export { describeDomains as describeHostDomains } from "../dist/update.js";
