/*
 * What bench/instructions.mjs counts the instructions of: one call of one function of the codecs over one layout, in a
 * process of its own. The layout is made, and for decode and check coded, before the call; both are outside the count,
 * which takes in what the exported function alone executes.
 *
 *   instructions encode|decode|check|walk|hash|p2m LAYOUT  prints the octets of the coding, for decode after comparing the
 *                                                     table that it gives with the one that was coded
 *
 * Layouts, 2^20 entries each, the same in every run:
 *
 *     superpages   2 MiB pages anywhere, one in a hundred blocks broken into 4 KiB entries, pieces of mean length 8
 *     own          page ownership: runs of one owner of geometric length, mean 350
 *     runs         4 KiB entries in runs of geometric length, mean 64, anywhere
 *     random       4 KiB entries, every frame anywhere in 1 TiB
 *     alternating  page ownership: another owner with every frame
 *     holes        4 KiB entries anywhere in 1 TiB, every second one a hole
 *     descending   4 KiB entries, each frame below the one before it
 *     types        page types, an octet each: none in use, writable, a page table now and then; runs of mean 350
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "codec_module.h"

enum { ENTRIES = 1 << 20, BLOCK = 512, OWNERS = 41 };
/* Far above the module's constants, and apart from each other. */
enum { CURSOR = 0x80000, TABLE = 0x100000, CODED = TABLE + ENTRIES * 8, TARGET = CODED + ENTRIES * 8 + 0x100000 };
enum { MEMORY_BYTES = TARGET + ENTRIES * 8 + 0x100000 };

static const uint64_t present = 1ull << 63, order_2m = 9ull << 48, access_rwx = 7ull << 44;

static w2c_codec codec;
static uint8_t *memory;

_Noreturn void wasm_rt_trap(wasm_rt_trap_t trap)
{
	fprintf(stderr, "instructions: trap %d\n", trap);
	abort();
}

void wasm_rt_allocate_memory(wasm_rt_memory_t *given, uint64_t pages, uint64_t max_pages, bool is64, uint32_t page_bytes)
{
	(void)pages, (void)max_pages, (void)is64;
	given->data = memory;
	given->size = MEMORY_BYTES;
	given->pages = given->max_pages = MEMORY_BYTES / page_bytes;
}

/* xorshift64*: the same layouts on every machine. */
static uint64_t state = 0x9e3779b97f4a7c15;

static uint32_t below(uint32_t bound)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (uint32_t)(((state * 0x2545f4914f6cdd1d) >> 32) * bound >> 32);
}

/* By trials, not by logarithms: no rounding that a C library could do otherwise. */
static uint32_t geometric(uint32_t mean)
{
	uint32_t length = 1;
	while (below(mean) != 0)
		length++;
	return length;
}

static void shuffle(uint32_t *row, uint32_t count)
{
	for (uint32_t i = count; i > 1; i--) {
		uint32_t other = below(i), kept = row[i - 1];
		row[i - 1] = row[other];
		row[other] = kept;
	}
}

static uint32_t order[ENTRIES], starts[ENTRIES + 1];

/* Cuts [0, count) into pieces of mean length and writes them in another order. */
static void pieces(uint64_t *entries, uint32_t count, uint32_t mean, uint64_t bits)
{
	uint32_t number = 0, filled = 0;
	for (uint32_t at = 0; at < count; number++) {
		starts[number] = at;
		at += mean == 1 ? 1 : geometric(mean);
	}
	starts[number] = count;
	for (uint32_t i = 0; i < number; i++)
		order[i] = i;
	shuffle(order, number);
	for (uint32_t i = 0; i < number; i++)
		for (uint32_t frame = starts[order[i]]; frame < starts[order[i] + 1]; frame++)
			entries[filled++] = bits + frame;
}

static void make(const char *layout, uint64_t *entries)
{
	static uint32_t blocks[ENTRIES / BLOCK];
	const uint64_t first = present | access_rwx;
	if (strcmp(layout, "superpages") == 0) {
		for (uint32_t i = 0; i < ENTRIES / BLOCK; i++)
			blocks[i] = i;
		shuffle(blocks, ENTRIES / BLOCK);
		for (uint32_t i = 0; i < ENTRIES / BLOCK; i++) {
			uint64_t bits = first + (uint64_t)blocks[i] * BLOCK;
			if (below(100) == 0)
				pieces(entries + i * BLOCK, BLOCK, 8, bits);
			else
				for (uint32_t frame = 0; frame < BLOCK; frame++)
					entries[i * BLOCK + frame] = (bits | order_2m) + frame;
		}
	} else if (strcmp(layout, "own") == 0) {
		for (uint32_t at = 0; at < ENTRIES;) {
			uint32_t end = at + geometric(350), owner = below(OWNERS);
			/* Free frames are zero; the others owned and allocated. */
			for (; at < end && at < ENTRIES; at++)
				entries[at] = owner == 0 ? 0 : 0x30000 | owner;
		}
	} else if (strcmp(layout, "runs") == 0) {
		pieces(entries, ENTRIES, 64, first);
	} else if (strcmp(layout, "random") == 0) {
		pieces(entries, ENTRIES, 1, 0);
		/* A frame in each MiB of a host of 1 TiB, whose MFNs have 28 bits. */
		for (uint32_t i = 0; i < ENTRIES; i++)
			entries[i] = first + entries[i] * 256 + below(256);
	} else if (strcmp(layout, "alternating") == 0) {
		for (uint32_t i = 0; i < ENTRIES; i++)
			entries[i] = 0x30001 + i % 2;
	} else if (strcmp(layout, "holes") == 0) {
		for (uint32_t i = 0; i < ENTRIES; i += 2)
			entries[i] = first + below(1 << 28);
	} else if (strcmp(layout, "descending") == 0) {
		for (uint32_t i = 0; i < ENTRIES; i++)
			entries[i] = first + ENTRIES - i;
	} else if (strcmp(layout, "types") == 0) {
		static const uint8_t types[8] = { 0, 7, 0, 7, 0, 7, 1, 2 };
		uint8_t *octets = (uint8_t *)entries;
		for (uint32_t at = 0; at < ENTRIES;) {
			uint32_t end = at + geometric(350), type = types[below(8)];
			for (; at < end && at < ENTRIES; at++)
				octets[at] = (uint8_t)type;
		}
	} else {
		fprintf(stderr, "instructions: unknown layout %s\n", layout);
		exit(2);
	}
}

int main(int count, char **arguments)
{
	if (count != 3) {
		fputs("usage: instructions encode|decode|check|walk|hash|p2m LAYOUT\n", stderr);
		return 2;
	}
	const char *what = arguments[1];
	const uint32_t entry_bytes = strcmp(arguments[2], "types") == 0 ? 1 : 8;
	memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return 2;
	wasm2c_codec_instantiate(&codec);
	make(arguments[2], (uint64_t *)(memory + TABLE));
	uint32_t bytes = w2c_codec_encodeTable(&codec, entry_bytes, TABLE, ENTRIES, UINT64_MAX, CODED);
	if (strcmp(what, "decode") == 0) {
		w2c_codec_decodeChunks(&codec, entry_bytes, CODED, bytes, ENTRIES, TARGET);
		if (memcmp(memory + TABLE, memory + TARGET, (size_t)ENTRIES * entry_bytes) != 0) {
			fputs("instructions: the table that came out is another one\n", stderr);
			return 1;
		}
	} else if (strcmp(what, "check") == 0) {
		if (w2c_codec_checkChunks(&codec, entry_bytes, CODED, bytes, ENTRIES) != 0) {
			fputs("instructions: the coding was refused\n", stderr);
			return 1;
		}
	} else if (strcmp(what, "walk") == 0) {
		w2c_codec_runsOpen(&codec, CURSOR, entry_bytes, CODED, bytes, ENTRIES);
		uint32_t walked = 0, length;
		while (w2c_codec_runsNext(&codec, CURSOR) != 0) {
			memcpy(&length, memory + CURSOR + 12, sizeof length);
			walked += length;
		}
		if (walked != ENTRIES) {
			fputs("instructions: the walk missed entries\n", stderr);
			return 1;
		}
	} else if (strcmp(what, "hash") == 0) {
		if (w2c_codec_xxh3_64(&codec, CODED, bytes) == 0)
			return 1;
	} else if (strcmp(what, "p2m") == 0) {
		if (w2c_codec_encodeP2m(&codec, TABLE, ENTRIES, TARGET) != bytes ||
		    memcmp(memory + CODED, memory + TARGET, bytes) != 0) {
			fputs("instructions: superpage-aware reading wrote another coding\n", stderr);
			return 1;
		}
	} else if (strcmp(what, "encode") != 0) {
		return 2;
	}
	printf("%u\n", bytes);
	return 0;
}
