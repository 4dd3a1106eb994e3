/*
 * The runtime that wasm2c's output expects, as much of it as the core needs: one linear memory of a fixed size that the
 * loader provides, no table, no growth, no allocation, no libc.
 *
 * wasm2c (npm's wabt 1.0.39) decides on these names; what they mean here:
 *
 *     wasm_rt_allocate_memory   takes the memory that the loader put into the instance (xlu_core_start)
 *     wasm_rt_trap              cannot happen by the core's promise; if it does, xlu_panic, which does not return
 */
#ifndef WASM_RT_H
#define WASM_RT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Every access is held against the memory's size. A host that surrounds 4 GiB by guard pages may leave that to them. */
#ifndef WASM_RT_MEMCHECK_GUARD_PAGES
#define WASM_RT_MEMCHECK_GUARD_PAGES 0
#endif

/* The core does not recurse: its stack is bounded, see docs/NATIVE.md. */
#define WASM_RT_STACK_DEPTH_COUNT 0
#define WASM_RT_USE_SEGUE 0
#define WASM_RT_SEGUE_FREE_SEGMENT 0
#define WASM_RT_SANITY_CHECKS 0

/* Fixed lengths become plain moves, without a call. */
#define wasm_rt_memcpy(to, from, bytes) __builtin_memcpy(to, from, bytes)

typedef enum {
	WASM_RT_TRAP_NONE,
	WASM_RT_TRAP_OOB,
	WASM_RT_TRAP_INT_OVERFLOW,
	WASM_RT_TRAP_DIV_BY_ZERO,
	WASM_RT_TRAP_INVALID_CONVERSION,
	WASM_RT_TRAP_UNREACHABLE,
	WASM_RT_TRAP_CALL_INDIRECT,
	WASM_RT_TRAP_EXHAUSTION,
} wasm_rt_trap_t;

typedef enum {
	WASM_RT_I32,
	WASM_RT_I64,
	WASM_RT_F32,
	WASM_RT_F64,
	WASM_RT_V128,
	WASM_RT_FUNCREF,
	WASM_RT_EXTERNREF,
} wasm_rt_type_t;

typedef struct {
	uint8_t *data;
	uint64_t pages;
	uint64_t max_pages;
	uint64_t size;
} wasm_rt_memory_t;

_Noreturn void wasm_rt_trap(wasm_rt_trap_t);
void wasm_rt_allocate_memory(wasm_rt_memory_t *, uint64_t pages, uint64_t max_pages, bool is64, uint32_t page_bytes);
static inline void wasm_rt_free_memory(wasm_rt_memory_t *memory)
{
	(void)memory;
}
static inline bool wasm_rt_is_initialized(void)
{
	return true;
}

/* Tables: the core has none, but wasm2c's output names their types. */
typedef void (*wasm_rt_function_ptr_t)(void);
typedef const char *wasm_rt_func_type_t;
typedef struct wasm_rt_tailcallee_t {
	void (*fn)(void **, void *, struct wasm_rt_tailcallee_t *);
} wasm_rt_tailcallee_t;
typedef struct {
	wasm_rt_func_type_t func_type;
	wasm_rt_function_ptr_t func;
	wasm_rt_tailcallee_t func_tailcallee;
	void *module_instance;
} wasm_rt_funcref_t;
typedef void *wasm_rt_externref_t;
typedef struct {
	wasm_rt_funcref_t *data;
	uint32_t size;
} wasm_rt_funcref_table_t;
typedef struct {
	wasm_rt_externref_t *data;
	uint32_t size;
} wasm_rt_externref_table_t;
static const wasm_rt_funcref_t wasm_rt_funcref_null_value;
static const wasm_rt_externref_t wasm_rt_externref_null_value;

#endif
