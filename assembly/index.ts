// The core's exports, nothing else. Status 0 is done; otherwise the fault record in the context block says all.
export { abi, contextBytes, hash, heapBase } from "./abi";
export { check } from "./check/index";
export { compare, digest } from "./compare";
export { digestStart, digestStep } from "./digestSteps";
export { openStream as open } from "./open";
export { plan } from "./plan";
export { finish, restore, target } from "./restore";
export { restoreRows } from "./restoreRows";
export { planSave, save, saveAs } from "./save";
export { planSteps, saveStart, saveStep } from "./saveSteps";
export { fork, frames } from "./workers";
