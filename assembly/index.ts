// The core's exports, nothing else. Status 0 is done; otherwise the fault record in the context block says all.
export { abi, contextBytes, hash, heapBase } from "./abi";
export { check } from "./check/index";
export { compare, digest } from "./compare";
export { openStream as open } from "./open";
export { plan } from "./plan";
export { finish, restore, target } from "./restore";
export { planSave, save, saveAs } from "./save";
export { fork, frames } from "./workers";
