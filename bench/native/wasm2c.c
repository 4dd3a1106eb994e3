/* The core's own codecs through wasm2c, for peer.c: all windows in one memory, with its guard pages behind it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "codec_module.h"
#include "peer.h"

/* What 32 bits and a constant offset of 32 bits reach. */
#define ADDRESS_SPACE (1ull << 33)
/* Far above the module's constants. */
#define FIRST_WINDOW 0x100000u

static w2c_codec codec;
static uint8_t *memory;
static uint64_t memory_bytes, next = FIRST_WINDOW;

_Noreturn void wasm_rt_trap(wasm_rt_trap_t trap)
{
	fprintf(stderr, "wasm2c: trap %d\n", trap);
	abort();
}

void wasm_rt_allocate_memory(wasm_rt_memory_t *given, uint64_t pages, uint64_t max_pages, bool is64, uint32_t page_bytes)
{
	(void)pages, (void)max_pages, (void)is64;
	given->data = memory;
	given->size = memory_bytes;
	given->pages = given->max_pages = memory_bytes / page_bytes;
}

void peer_start(uint64_t bytes)
{
	memory_bytes = (bytes + FIRST_WINDOW + 0x1ffff) & ~0xffffull;
	memory = mmap(NULL, ADDRESS_SPACE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED || memory_bytes > UINT32_MAX)
		abort();
	wasm2c_codec_instantiate(&codec);
}

uint8_t *peer_allocate(uint64_t bytes)
{
	uint8_t *window = memory + next;
	next += (bytes + 63) / 64 * 64;
	if (next > memory_bytes)
		abort();
	memset(window, 1, bytes);
	return window;
}

static uint32_t offset_of(const uint8_t *at)
{
	return (uint32_t)(at - memory);
}

uint32_t peer_encode(uint32_t element_bytes, const uint8_t *table, uint32_t count, uint8_t *coding)
{
	return w2c_codec_encodeTable(&codec, element_bytes, offset_of(table), count, UINT64_MAX, offset_of(coding));
}

void peer_decode(uint32_t element_bytes, const uint8_t *coding, uint32_t bytes, uint32_t count, uint8_t *table)
{
	w2c_codec_decodeChunks(&codec, element_bytes, offset_of(coding), bytes, count, offset_of(table));
}
