/* What the core does in steps and in windows, held to what it does at once. */
#ifndef XLU_STEPS_H
#define XLU_STEPS_H

#include "xlu_windows.h"

/*
 * Of an input's image, which was restored from `stream` with the preserved memory `kept`, and has this digest: `saved` is the
 * stream that save makes of it, `older` that of version 1, with bytes 0 where save refuses. Saves and digests it in steps,
 * restores the stream with its bulk tables detached, twice, and does both again with that image, rows brought and made in
 * portions by chance. Then that image with the input's edits.
 */
void all_in_steps(const struct xf_input *input, struct window stream, bool is_padded, struct window kept,
		  struct window image, uint64_t digest, struct window saved, struct window older);

/*
 * Of an image that no hypervisor made: refused in steps if it is at once, and else the same digest (`digest`, NULL where
 * digest refuses) and the same stream (`saved`, bytes 0 where save refuses). Portions by chance: `seed`.
 */
void edited_in_steps(struct window image, const uint64_t *digest, struct window saved, uint64_t seed);

#endif
