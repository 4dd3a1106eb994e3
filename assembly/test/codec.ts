// What the tests of the codec and the checksum link: these functions alone, before and apart from the core.
import { HASH_STATE_BYTES } from "../checksum";

export { hashEnd, hashMore, hashStart, xxh3_64 } from "../checksum";
export { checkChunks, decodeChunks, runsNext, runsOpen } from "../extent/decode";
export { encodeBound, encodeChunk, encodeTable } from "../extent/encode";
export { encodeP2m } from "../extent/superpages";

export function hashStateBytes(): u32 {
	return HASH_STATE_BYTES;
}
