// What the tests of the codec and the checksum link: these functions alone, before and apart from the core.
export { xxh3_64 } from "../checksum";
export { checkChunks, decodeChunks, runsNext, runsOpen } from "../extent/decode";
export { encodeBound, encodeChunk, encodeTable } from "../extent/encode";
export { encodeP2m } from "../extent/superpages";
