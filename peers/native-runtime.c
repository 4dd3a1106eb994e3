/*
 * Holds the runtime of the native core against plain loops: the four functions that it brings for a loader without a C
 * library, and the memory that xlu_core_start takes. Linked with libxlu.a, so that they stand in for the C library's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "xlu_runtime.h"

enum { OCTETS = 96 };

static int failures;

_Noreturn void xlu_panic(const char *why)
{
	printf("native-runtime: panic: %s\n", why);
	exit(1);
}

static void expect(int holds, const char *what)
{
	if (holds)
		return;
	printf("native-runtime: FAILED: %s\n", what);
	failures++;
}

static void fill(unsigned char *octets)
{
	for (int i = 0; i < OCTETS; i++)
		octets[i] = (unsigned char)(i * 7 + 1);
}

static int same(const unsigned char *a, const unsigned char *b)
{
	for (int i = 0; i < OCTETS; i++)
		if (a[i] != b[i])
			return 0;
	return 1;
}

int main(void)
{
	/* Through pointers that the compiler does not see through: no built-in takes their place. */
	void *(*volatile copy)(void *, const void *, size_t) = memcpy;
	void *(*volatile move)(void *, const void *, size_t) = memmove;
	void *(*volatile set)(void *, int, size_t) = memset;
	int (*volatile compare)(const void *, const void *, size_t) = memcmp;
	unsigned char octets[OCTETS], expected[OCTETS], source[OCTETS];

	fill(source);
	for (int to = 0; to < 40; to++) {
		for (int from = 0; from < 40; from++) {
			for (int bytes = 0; bytes < 40; bytes++) {
				fill(octets);
				fill(expected);
				for (int i = 0; i < bytes; i++)
					expected[to + i] = source[from + i];
				expect(move(octets + to, octets + from, bytes) == octets + to && same(octets, expected),
				       "memmove within one stretch");
				fill(octets);
				expect(copy(octets + to, source + from, bytes) == octets + to && same(octets, expected),
				       "memcpy");
			}
		}
	}
	for (int bytes = 0; bytes < 40; bytes++) {
		fill(octets);
		fill(expected);
		for (int i = 0; i < bytes; i++)
			expected[3 + i] = 0xa5;
		expect(set(octets + 3, 0x1a5, bytes) == octets + 3 && same(octets, expected), "memset");
	}
	expect(compare("abc", "abd", 3) < 0 && compare("abd", "abc", 3) > 0 && compare("abc", "abd", 2) == 0 &&
		       compare("\x80", "\x7f", 1) > 0,
	       "memcmp");

	static w2c_xlu core;
	static _Alignas(16) unsigned char memory[2 * XLU_WASM_PAGE];
	expect(xlu_core_start(&core, memory + 8, XLU_WASM_PAGE) == -1, "memory that is not aligned is refused");
	expect(xlu_core_start(&core, memory, 0) == -1, "no memory is refused");
	expect(xlu_core_start(&core, memory, XLU_WASM_PAGE + 1) == -1, "memory of half a page is refused");
	expect(xlu_core_start(&core, memory, (1ull << 32) + XLU_WASM_PAGE) == -1, "more than 4 GiB are refused");
	memory[XLU_WASM_PAGE] = 0x5a;
	expect(xlu_core_start(&core, memory, sizeof memory) == 0, "memory is taken");
	expect(w2c_xlu_abi(&core) == XLU_ABI_VERSION, "the core answers");
	expect(memory[XLU_WASM_PAGE] == 0x5a, "what stands above the constants stays");
	expect(w2c_xlu_hash(&core, sizeof memory - 8, 9) == 0, "a window beyond the memory is refused");
	if (failures == 0)
		puts("native-runtime: everything holds");
	return failures != 0;
}
