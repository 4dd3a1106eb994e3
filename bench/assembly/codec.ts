// The codecs as the core has them, and the limits, over one memory: what bench/suites/codecs.mjs links.
export { xxh3_64 } from "../../assembly/checksum";
export { checkChunks, decodeChunks } from "../../assembly/extent/decode";
export { encodeBound, encodeTable } from "../../assembly/extent/encode";
export { encodeP2m } from "../../assembly/extent/superpages";
export { copyBlocks, copyOnce, readAll, storeAll } from "./limits";
