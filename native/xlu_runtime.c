/* What wasm2c's output calls; see wasm-rt.h. With XLU_FREESTANDING also the four functions that gcc itself calls. */
#include "xlu_runtime.h"

int xlu_core_start(w2c_xlu *instance, void *memory, uint64_t bytes)
{
	if (((uintptr_t)memory & 15) != 0 || bytes == 0 || bytes % XLU_WASM_PAGE != 0 || bytes > 1ull << 32)
		return -1;
	instance->w2c_memory.data = memory;
	instance->w2c_memory.size = bytes;
	instance->w2c_memory.pages = bytes / XLU_WASM_PAGE;
	instance->w2c_memory.max_pages = bytes / XLU_WASM_PAGE;
	wasm2c_xlu_instantiate(instance);
	return 0;
}

void wasm_rt_allocate_memory(wasm_rt_memory_t *memory, uint64_t pages, uint64_t max_pages, bool is64,
			     uint32_t page_bytes)
{
	(void)max_pages;
	if (is64 || page_bytes != XLU_WASM_PAGE || memory->data == NULL || memory->pages < pages)
		xlu_panic("the core's memory was not given by xlu_core_start, or is too small");
}

_Noreturn void wasm_rt_trap(wasm_rt_trap_t trap)
{
	static const char *const reasons[] = {
		[WASM_RT_TRAP_NONE] = "a trap without a reason",
		[WASM_RT_TRAP_OOB] = "an access beyond the core's memory",
		[WASM_RT_TRAP_INT_OVERFLOW] = "an integer overflow",
		[WASM_RT_TRAP_DIV_BY_ZERO] = "a division by zero",
		[WASM_RT_TRAP_INVALID_CONVERSION] = "a conversion that is not valid",
		[WASM_RT_TRAP_UNREACHABLE] = "a place that cannot be reached",
		[WASM_RT_TRAP_CALL_INDIRECT] = "an indirect call",
		[WASM_RT_TRAP_EXHAUSTION] = "the end of the stack",
	};
	xlu_panic(reasons[trap]);
}

#ifdef XLU_FREESTANDING
/*
 * x86-64's string instructions: no loop for gcc to turn back into a call of the function that it stands in, and fast on
 * every machine with ERMS.
 */
void *memcpy(void *to, const void *from, size_t bytes)
{
	void *start = to;
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
	return start;
}

void *memset(void *to, int octet, size_t bytes)
{
	void *start = to;
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(octet) : "memory");
	return start;
}

void *memmove(void *to, const void *from, size_t bytes)
{
	if ((uintptr_t)to - (uintptr_t)from >= bytes)
		return memcpy(to, from, bytes);
	/*
	 * The target begins inside the source: from the last octet down. Not by a string instruction, whose direction flag an
	 * interrupt handler might meet; and with a barrier, or gcc would make a call of memmove of it.
	 */
	char *target = to;
	const char *source = from;
	while (bytes-- > 0) {
		target[bytes] = source[bytes];
		__asm__ volatile("" : : : "memory");
	}
	return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
	const unsigned char *p = a, *q = b;
	for (size_t i = 0; i < bytes; i++)
		if (p[i] != q[i])
			return p[i] < q[i] ? -1 : 1;
	return 0;
}
#endif
