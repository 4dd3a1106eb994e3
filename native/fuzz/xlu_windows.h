/*
 * The fuzzing target's memory: all of the core's is poisoned for the address sanitizer but the windows of the call at hand,
 * to the octet. What the parts of the target share.
 */
#ifndef XLU_WINDOWS_H
#define XLU_WINDOWS_H

#include "xlu_fuzz.h"
#include "xlu_runtime.h"

/* What is larger than these is refused, as on a machine with little memory. */
#define MOST_WORK_BYTES (4u << 20)
#define MOST_IMAGE_BYTES (4u << 20)
#define MOST_STREAM_BYTES (2u << 20)
#define MOST_DOMAINS 64u

struct window {
	uint32_t at;
	uint32_t bytes;
};

extern w2c_xlu core;
/* All of the core's memory. */
extern uint8_t *memory;

/* Starts the core, with all of its memory poisoned. */
void start_core(void);

/* A window of its own: 8-aligned and no better unless `align` is 16, and poisoned from its last octet on. */
struct window window(uint64_t bytes, uint32_t align);

/* The first octets of a window, with all behind them poisoned. */
struct window part_of(struct window whole, uint32_t bytes);

/* Poisons a window. */
void guard(struct window w);

/* Where the next window goes; windows from there on are given back. */
uint32_t mark(void);
void give_back(uint32_t from);

/* Gives all windows back. */
void reset(void);

/* A context block, zeroed. */
uint32_t context(void);
struct xlu_context context_at(uint32_t ctx);
struct xlu_fault fault_at(uint32_t ctx);

/* Ends the program: the core did what it promises not to. */
_Noreturn void finding(const char *what, uint32_t ctx);
void must(bool holds, const char *what, uint32_t ctx);

/* XXH3-64 of a window. */
uint64_t hash_of(struct window w);

/* The domains of an opened stream, in the order of its sections 0; how many. */
uint32_t domains_of(uint32_t ctx, uint32_t *domids);

/* A workspace as check wants it, of no particular content. */
struct window workspace(uint32_t ctx);

/* Two images are the same, octet for octet: one that restore did not write would hold what the window held before. */
void must_equal(struct window a, struct window b, uint32_t ctx);

/*
 * XLU_FUZZ_BEYOND=WINDOW: the core reads one octet beyond that window. tools/fuzz.mjs asks for it before each run: guards
 * that do not hold would find nothing.
 */
void reach_beyond(const char *name, struct window w);

#endif
