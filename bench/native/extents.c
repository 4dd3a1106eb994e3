/*
 * The coding of tables in C, from its description (assembly/extent/chunk.ts), for this comparison: what one writes who
 * knows the format and leaves the machine to the compiler. Same stream as the core's, octet for octet.
 *
 * A chunk of 4096 entries is read twice: a loop without branches that measures it, which a compiler can vectorize, and
 * one that writes the smallest form; the second time it comes from the first cache.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "peer.h"

enum { CHUNK_ENTRIES = 4096, FORM_RUNS = 1, FORM_PACKED = 2, FORM_LITERAL = 3, MFN_BITS = 40 };

struct chunk_header {
	uint8_t form;
	uint8_t width;
	uint16_t entry_count;
	uint32_t payload_bytes;
};

static uint32_t padded(uint32_t bytes)
{
	return (bytes + 7) & ~7u;
}

static bool continues(uint64_t previous, uint64_t next)
{
	return next == previous + (previous >> 63) && (previous ^ next) >> MFN_BITS == 0;
}

static uint32_t put_header(uint8_t *out, uint8_t form, uint8_t width, uint32_t count, uint32_t used)
{
	struct chunk_header header = { form, width, (uint16_t)count, padded(used) };
	memcpy(out, &header, sizeof header);
	memset(out + sizeof header + used, 0, header.payload_bytes - used);
	return sizeof header + header.payload_bytes;
}

static void put_runs(const uint64_t *restrict table, uint32_t count, uint32_t run_count, uint8_t *restrict payload)
{
	uint64_t prefix = run_count;
	memcpy(payload, &prefix, 8);
	uint8_t *values = payload + 8, *lengths = values + 8 * run_count;
	for (uint32_t first = 0; first < count;) {
		uint64_t value = table[first], stride = value >> 63;
		uint32_t end = first + 1;
		/* Eight at a time while they go on: no branch inside, and the stride known. A carry shows in the last one. */
		for (; end + 8 <= count; end += 8) {
			uint64_t different = 0, base = value + stride * (end - first);
			for (uint32_t i = 0; i < 8; i++)
				different |= table[end + i] ^ (base + stride * i);
			if ((different | (value ^ (base + 7 * stride)) >> MFN_BITS) != 0)
				break;
		}
		while (end < count && continues(table[end - 1], table[end]))
			end++;
		uint16_t length = (uint16_t)(end - first);
		memcpy(values, &value, 8);
		memcpy(lengths, &length, 2);
		values += 8;
		lengths += 2;
		first = end;
	}
}

/* Each store of 8 octets writes zeros or what the next one mends behind its entry; the last ones go one by one. */
static void put_packed(const uint64_t *restrict table, uint32_t count, uint32_t width, uint8_t *restrict payload)
{
	const uint64_t base = table[0];
	memcpy(payload, &base, 8);
	uint8_t *to = payload + 8;
	uint32_t i = 0;
	if (width == 4) {
		for (; i < count; i++, to += 4) {
			uint32_t low = (uint32_t)(table[i] ^ base);
			memcpy(to, &low, 4);
		}
		return;
	}
	for (; i + 8 <= count; i++, to += width) {
		uint64_t difference = table[i] ^ base;
		memcpy(to, &difference, 8);
	}
	for (; i < count; i++, to += width) {
		uint64_t difference = table[i] ^ base;
		memcpy(to, &difference, width);
	}
}

static uint32_t encode_wide(const uint64_t *restrict table, uint32_t count, uint8_t *restrict out)
{
	const uint64_t base = table[0];
	uint64_t different = 0;
	uint64_t runs = 1;
	for (uint32_t i = 1; i < count; i++) {
		uint64_t before = table[i - 1], next = table[i];
		different |= next ^ base;
		runs += (uint64_t)((next != before + (before >> 63)) | ((before ^ next) >> MFN_BITS != 0));
	}
	uint32_t width = different == 0 ? 1 : (71 - (uint32_t)__builtin_clzll(different)) / 8;
	uint32_t run_count = (uint32_t)runs;
	uint32_t runs_bytes = 8 + 10 * run_count, packed_bytes = 8 + count * width, literal_bytes = 8 * count;
	bool is_packed = width < 8 && padded(packed_bytes) <= literal_bytes;
	uint32_t other = is_packed ? padded(packed_bytes) : literal_bytes;
	uint8_t *payload = out + sizeof(struct chunk_header);
	if (padded(runs_bytes) <= other) {
		put_runs(table, count, run_count, payload);
		return put_header(out, FORM_RUNS, 0, count, runs_bytes);
	}
	if (is_packed) {
		put_packed(table, count, width, payload);
		return put_header(out, FORM_PACKED, (uint8_t)width, count, packed_bytes);
	}
	memcpy(payload, table, literal_bytes);
	return put_header(out, FORM_LITERAL, 0, count, literal_bytes);
}

static uint32_t encode_octets(const uint8_t *restrict table, uint32_t count, uint8_t *restrict out)
{
	uint32_t run_count = 1;
	for (uint32_t i = 1; i < count; i++)
		run_count += table[i] != table[i - 1];
	uint8_t *payload = out + sizeof(struct chunk_header);
	uint32_t runs_bytes = 8 + 3 * run_count;
	if (padded(runs_bytes) > padded(count)) {
		memcpy(payload, table, count);
		return put_header(out, FORM_LITERAL, 0, count, count);
	}
	uint64_t prefix = run_count;
	memcpy(payload, &prefix, 8);
	uint8_t *lengths = payload + 8, *values = lengths + 2 * run_count;
	for (uint32_t first = 0; first < count;) {
		uint32_t end = first + 1;
		const uint64_t eight = table[first] * 0x0101010101010101u;
		for (uint64_t octets; end + 8 <= count; end += 8) {
			memcpy(&octets, table + end, 8);
			if (octets != eight)
				break;
		}
		while (end < count && table[end] == table[first])
			end++;
		uint16_t length = (uint16_t)(end - first);
		memcpy(lengths, &length, 2);
		lengths += 2;
		*values++ = table[first];
		first = end;
	}
	return put_header(out, FORM_RUNS, 0, count, runs_bytes);
}

static void decode_wide(const struct chunk_header *header, const uint8_t *restrict payload, uint64_t *restrict table)
{
	const uint32_t count = header->entry_count, width = header->width;
	if (header->form == FORM_RUNS) {
		uint32_t run_count;
		memcpy(&run_count, payload, 4);
		const uint8_t *values = payload + 8, *lengths = values + 8 * run_count;
		uint32_t left = count;
		for (uint32_t run = 0; run < run_count; run++) {
			uint64_t value;
			uint16_t length;
			memcpy(&value, values + 8 * run, 8);
			memcpy(&length, lengths + 2 * run, 2);
			const uint64_t stride = value >> 63;
			/* What nobody has checked must not leave the chunk: the core's decoder holds to that as well. */
			uint32_t entries = length < left ? length : left;
			for (uint32_t i = 0; i < entries; i++)
				table[i] = value + stride * i;
			table += entries;
			left -= entries;
		}
	} else if (header->form == FORM_PACKED) {
		uint64_t base;
		memcpy(&base, payload, 8);
		/* The 8 octets that END with an entry lie in the payload: the base stands before them. */
		const uint8_t *from = payload + width;
		const uint32_t shift = 64 - 8 * width;
		if (width == 4) {
			for (uint32_t i = 0; i < count; i++) {
				uint32_t low;
				memcpy(&low, payload + 8 + 4 * i, 4);
				table[i] = base ^ low;
			}
			return;
		}
		for (uint32_t i = 0; i < count; i++, from += width) {
			uint64_t octets;
			memcpy(&octets, from, 8);
			table[i] = base ^ octets >> shift;
		}
	} else {
		memcpy(table, payload, 8 * count);
	}
}

static void decode_octets(const struct chunk_header *header, const uint8_t *restrict payload, uint8_t *restrict table)
{
	if (header->form != FORM_RUNS) {
		memcpy(table, payload, header->entry_count);
		return;
	}
	uint32_t run_count, left = header->entry_count;
	memcpy(&run_count, payload, 4);
	const uint8_t *lengths = payload + 8, *values = lengths + 2 * run_count;
	for (uint32_t run = 0; run < run_count; run++) {
		uint16_t length;
		memcpy(&length, lengths + 2 * run, 2);
		uint32_t octets = length < left ? length : left;
		memset(table, values[run], octets);
		table += octets;
		left -= octets;
	}
}

uint32_t peer_encode(uint32_t element_bytes, const uint8_t *table, uint32_t count, uint8_t *coding)
{
	uint8_t *at = coding;
	for (uint32_t first = 0; first < count; first += CHUNK_ENTRIES) {
		uint32_t entries = count - first < CHUNK_ENTRIES ? count - first : CHUNK_ENTRIES;
		at += element_bytes == 8 ? encode_wide((const uint64_t *)table + first, entries, at)
					 : encode_octets(table + first, entries, at);
	}
	return (uint32_t)(at - coding);
}

void peer_decode(uint32_t element_bytes, const uint8_t *coding, uint32_t bytes, uint32_t count, uint8_t *table)
{
	(void)bytes;
	for (uint32_t first = 0; first < count; first += CHUNK_ENTRIES) {
		struct chunk_header header;
		memcpy(&header, coding, sizeof header);
		if (element_bytes == 8)
			decode_wide(&header, coding + sizeof header, (uint64_t *)table + first);
		else
			decode_octets(&header, coding + sizeof header, table + first);
		coding += sizeof header + header.payload_bytes;
	}
}

void peer_start(uint64_t bytes)
{
	(void)bytes;
}

uint8_t *peer_allocate(uint64_t bytes)
{
	uint8_t *memory = aligned_alloc(64, bytes + 64);
	if (memory == NULL)
		abort();
	/* Touched: a first write to a page is none of the codec's. */
	memset(memory, 1, bytes);
	return memory;
}
