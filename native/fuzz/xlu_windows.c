/* The fuzzing target's memory (xlu_windows.h). */
#include "xlu_windows.h"

#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Enough for all windows of an input. */
#define MEMORY_BYTES (128u << 20)
/* Between two windows, always poisoned. */
#define GUARD_BYTES 256u

w2c_xlu core;
uint8_t *memory;
/* First octet above the module's constants, and where the next window may begin. */
static uint32_t heap, next;

_Noreturn void xlu_panic(const char *why)
{
	fprintf(stderr, "xlu-fuzz: the core trapped: %s\n", why);
	abort();
}

_Noreturn void finding(const char *what, uint32_t ctx)
{
	struct xlu_fault fault = { 0 };
	if (ctx)
		fault = fault_at(ctx);
	fprintf(stderr,
		"xlu-fuzz: %s; fault record: status %u, XLU-R%03u, section %u, domain %u, record 0x%08x, offset %llu, "
		"field %u, expected %llu, found %llu\n",
		what, fault.status, fault.rule, fault.pass, fault.domid, fault.recordType,
		(unsigned long long)fault.offset, fault.field, (unsigned long long)fault.expected,
		(unsigned long long)fault.got);
	abort();
}

void must(bool holds, const char *what, uint32_t ctx)
{
	if (!holds)
		finding(what, ctx);
}

void start_core(void)
{
	memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED || xlu_core_start(&core, memory, MEMORY_BYTES) != 0)
		xlu_panic("no memory");
	heap = (w2c_xlu_heapBase(&core) + 15) & ~15u;
	next = heap;
	ASAN_POISON_MEMORY_REGION(memory + heap, MEMORY_BYTES - heap);
	/* Offset 0 and what lies below the constants are no window either. */
	ASAN_POISON_MEMORY_REGION(memory, XLU_MEMORY_BASE);
}

struct window window(uint64_t bytes, uint32_t align)
{
	uint32_t at = (next + GUARD_BYTES + 15) & ~15u;
	if (align == 8)
		at += 8;
	if (bytes > MEMORY_BYTES || at + bytes + GUARD_BYTES > MEMORY_BYTES)
		finding("the target's own memory is too small", 0);
	next = at + (uint32_t)bytes;
	ASAN_UNPOISON_MEMORY_REGION(memory + at, bytes);
	return (struct window){ at, (uint32_t)bytes };
}

void guard(struct window w)
{
	ASAN_POISON_MEMORY_REGION(memory + w.at, xf_up8(w.bytes));
}

struct window part_of(struct window whole, uint32_t bytes)
{
	guard(whole);
	ASAN_UNPOISON_MEMORY_REGION(memory + whole.at, bytes);
	return (struct window){ whole.at, bytes };
}

uint32_t mark(void)
{
	return next;
}

void give_back(uint32_t from)
{
	/* Up to 8, since the last octets of the window below may share their 8 with the guard only. */
	uint32_t first = (uint32_t)xf_up8(from);
	if (next > first)
		ASAN_POISON_MEMORY_REGION(memory + first, xf_up8(next - first));
	next = from;
}

void reset(void)
{
	give_back(heap);
}

uint32_t context(void)
{
	struct window w = window(w2c_xlu_contextBytes(&core), 16);
	memset(memory + w.at, 0, w.bytes);
	return w.at;
}

struct xlu_context context_at(uint32_t ctx)
{
	struct xlu_context c;
	memcpy(&c, memory + ctx, sizeof c);
	return c;
}

struct xlu_fault fault_at(uint32_t ctx)
{
	struct xlu_fault fault;
	memcpy(&fault, memory + ctx + sizeof(struct xlu_context), sizeof fault);
	return fault;
}

uint64_t hash_of(struct window w)
{
	return w2c_xlu_hash(&core, w.at, w.bytes);
}

uint64_t xf_hash(const uint8_t *data, size_t bytes)
{
	uint32_t before = mark();
	struct window w = window(bytes, 8);
	memcpy(memory + w.at, data, bytes);
	uint64_t hash = hash_of(w);
	give_back(before);
	return hash;
}

uint32_t domains_of(uint32_t ctx, uint32_t *domids)
{
	struct xlu_context c = context_at(ctx);
	uint32_t count = 0;
	for (uint32_t i = 0; i < c.sectionCount; i++) {
		struct xlu_index_entry entry;
		memcpy(&entry, memory + c.indexPtr + i * sizeof entry, sizeof entry);
		if (entry.pass == XLU_PASS_0 && count < MOST_DOMAINS)
			domids[count++] = entry.domid;
	}
	return count;
}

struct window workspace(uint32_t ctx)
{
	struct window work = window(context_at(ctx).planWorkBytes, 8);
	memset(memory + work.at, 0xa5, work.bytes);
	return work;
}

void reach_beyond(const char *name, struct window w)
{
	const char *asked = getenv("XLU_FUZZ_BEYOND");
	if (asked && strcmp(asked, name) == 0)
		w2c_xlu_hash(&core, w.at, w.bytes + 1);
}

void must_equal(struct window a, struct window b, uint32_t ctx)
{
	must(a.bytes == b.bytes, "an image of another size after a second update", ctx);
	for (uint32_t i = 0; i < a.bytes; i++) {
		if (memory[a.at + i] == memory[b.at + i])
			continue;
		fprintf(stderr, "xlu-fuzz: octet %u of %u of the image: 0x%02x, then 0x%02x\n", i, a.bytes,
			memory[a.at + i], memory[b.at + i]);
		finding("another image after a second update", ctx);
	}
}
