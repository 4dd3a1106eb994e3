/*
 * Fuzzing the core (docs/FUZZING.md): what the target and the mutator share, which is the form of an input.
 *
 *     0             4           8            12          16        16 + streamBytes, to 8
 *     | streamBytes | pageCount | editCount  | mode      | stream  | page items | edits |
 *
 * A page item is a page of the preserved memory by its octets that are not zero: most of such pages are empty, and an input
 * is to be small. Directory and hashes of the preserved memory are made from them, so that they are right unless the mode
 * says otherwise. An edit is a number that is put into the restored image before it is saved once more.
 *
 * Whatever an input says is clipped to its size: any octets are an input.
 */
#ifndef XLU_FUZZ_H
#define XLU_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XF_HEADER_BYTES 16u
#define XF_PAGE_BYTES 4096u

struct xf_input_header {
	uint32_t stream_bytes;
	uint32_t page_count;
	uint32_t edit_count;
	uint32_t mode;
};

struct xf_page_item {
	uint64_t mfn;
	/* Octets of the page from `first` on follow, padded to 8. */
	uint32_t first;
	uint32_t bytes;
};

struct xf_edit {
	uint32_t offset;
	uint32_t width;
	uint64_t value;
};

/* How the calls are made. */
enum xf_mode {
	XF_MODE_PADDED = 1u << 0, /* open may find zeros behind END */
	XF_MODE_NO_MEMORY = 1u << 1, /* no preserved memory */
	XF_MODE_CHECK_TWICE = 1u << 2, /* check without it first, then with it */
	XF_MODE_REVERSED = 1u << 3, /* domains in descending order, in each pass */
	XF_MODE_WORKERS = 1u << 4, /* on three contexts in turn */
	XF_MODE_OUT_OF_TURN = 1u << 5, /* calls whose turn it is not, in between */
	XF_MODE_STEPS = 1u << 6, /* what is restored once more in steps and windows */
	XF_MODE_DAMAGE_SHIFT = 8, /* which part of the preserved memory's header is wrong: XF_DAMAGES */
};
#define XF_MODES 7u
#define XF_DAMAGES 6u

/* An input, taken apart: pointers into its octets. */
struct xf_input {
	struct xf_input_header header;
	const uint8_t *stream;
	/* Items that are whole, up to page_count of the header. */
	const uint8_t *pages;
	size_t pages_bytes;
	const uint8_t *edits;
};

void xf_take_apart(const uint8_t *data, size_t size, struct xf_input *input);

/* Puts the input's edits into octets of its image; at least 8 of them. */
void xf_apply_edits(const struct xf_input *input, uint8_t *octets, uint32_t bytes);

/* XXH3-64 as the core computes it, of octets outside the core's memory. */
uint64_t xf_hash(const uint8_t *data, size_t bytes);

/*
 * Inputs that the core has accepted, a few of them: the mutator starts from one of these half of the time. Otherwise nearly
 * all that it makes would be changes of what is refused already. NULL if there is none yet.
 */
const uint8_t *xf_accepted(uint64_t chance, size_t *size);

static inline size_t xf_up8(size_t bytes)
{
	return (bytes + 7) & ~(size_t)7;
}

#endif
