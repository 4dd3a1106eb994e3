/* How a loader takes the core into use. The functions of the core itself are in xlu_core.h. */
#ifndef XLU_RUNTIME_H
#define XLU_RUNTIME_H

#include "xlu_core.h"
#include "xlu_module.h"

/* A page of the core's memory; the memory is a whole number of them. */
#define XLU_WASM_PAGE 65536u

/*
 * Makes `instance` the core with `memory` as all of its memory, and places the core's constants there: below what
 * w2c_xlu_heapBase returns, the caller keeps out. Whatever stands above it stays as it is.
 *
 * memory   16-aligned
 * bytes    a multiple of 64 KiB, at most 4 GiB
 *
 * Returns 0, or -1 if memory or bytes is none of these; nothing was written then.
 */
int xlu_core_start(w2c_xlu *instance, void *memory, uint64_t bytes);

/*
 * The loader's own: says that the core broke its promise never to trap, and does not return. A defect; the guests are
 * still those of xen#1, since no pass gives a domain to the scheduler.
 */
_Noreturn void xlu_panic(const char *why);

#endif
