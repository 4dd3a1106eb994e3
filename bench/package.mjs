/** What the bench takes of the built package: its public functions, and those of its parts that tests look at as well. */

export { digestInSteps, gather, restoreInWindows, saveInSteps } from "../dist/core/windows.js";
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
export { buildDetachedImage, viewImage } from "../dist/machine/image.js";
export { countReferences } from "../dist/machine/references.js";
export { describeDomains as describeHostDomains } from "../dist/update.js";
