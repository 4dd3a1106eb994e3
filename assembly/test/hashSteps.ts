// What the tests of a checksum that is taken piece by piece link: these functions alone. Apart from codec.ts, whose
// instructions are counted.
import { HASH_STATE_BYTES } from "../checksum";

export { hashEnd, hashMore, hashStart } from "../checksum";

export function hashStateBytes(): u32 {
	return HASH_STATE_BYTES;
}
