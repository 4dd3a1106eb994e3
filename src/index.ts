export { XluError } from "./errors.ts";
export { loadCore } from "./core/load.ts";
export { buildImage } from "./machine/image.ts";
export { packPreserved } from "./machine/preserved.ts";
