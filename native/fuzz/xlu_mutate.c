/*
 * The structure-aware mutator: it knows records, rows, fields, chunks and page tables, from the tables that tools/fuzz.mjs
 * makes of the schema (xlu_fuzz_tables.h), and repairs what is around a change: lengths, counts, checksums, the index.
 *
 *     input ─ take apart ─▶ sections of records ─ a few changes ─▶ put together: sound framing, most of the time
 *
 * What cannot be taken apart is left to libFuzzer's own mutations of octets.
 */
#include <string.h>

#include "xlu_core.h"
#include "xlu_fuzz.h"
#include "xlu_fuzz_tables.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

#define MOST_SECTIONS 96u
#define MOST_RECORDS 2048u
#define ARENA_BYTES (4u << 20)
#define CHUNK_ENTRIES 4096u
#define CHUNK_HEADER_BYTES 8u
#define RECORD_HEADER_BYTES 8u
#define IMAGE_HEADER_BYTES 24u
#define OPENING_BYTES (RECORD_HEADER_BYTES + (uint32_t)sizeof(struct xlu_section))
/* Octets of head, runs, rows, that a change may add to one body. */
#define MOST_BODY (1u << 20)

struct record {
	uint32_t type;
	uint32_t at; /* in the arena */
	uint32_t bytes;
};

struct section {
	uint32_t pass;
	uint32_t domid;
	uint32_t count;
	struct record records[256];
};

static uint8_t arena[ARENA_BYTES];
static uint32_t arena_used;
static struct section sections[MOST_SECTIONS];
static uint32_t section_count;
static uint8_t image_header[IMAGE_HEADER_BYTES];
static uint8_t page_items[2u << 20];
static size_t page_items_bytes;
static uint32_t page_count;

/* --- chance: xorshift64*, seeded by libFuzzer --- */

static uint64_t state = 1;

static uint64_t random64(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 0x2545f4914f6cdd1dull;
}

static uint32_t below(uint32_t limit)
{
	return limit == 0 ? 0 : (uint32_t)(random64() >> 33) % limit;
}

static bool one_in(uint32_t n)
{
	return below(n) == 0;
}

/* --- numbers in little-endian memory --- */

static uint64_t get(const uint8_t *at, uint32_t width)
{
	uint64_t value = 0;
	memcpy(&value, at, width);
	return value;
}

static void put(uint8_t *at, uint32_t width, uint64_t value)
{
	memcpy(at, &value, width);
}

/* --- streams apart and together --- */

static const struct xf_record *record_of(uint32_t type)
{
	for (size_t i = 0; i < XF_RECORD_COUNT; i++)
		if (xf_records[i].type == type)
			return &xf_records[i];
	return NULL;
}

static uint8_t *body(const struct record *r)
{
	return arena + r->at;
}

/* Room for a body of another length; its octets up to the shorter of both stay. NULL where there is no room. */
static uint8_t *resize(struct record *r, uint32_t bytes)
{
	if (bytes <= r->bytes) {
		r->bytes = bytes;
		return body(r);
	}
	if (bytes > MOST_BODY || arena_used + xf_up8(bytes) > ARENA_BYTES)
		return NULL;
	memmove(arena + arena_used, body(r), r->bytes);
	memset(arena + arena_used + r->bytes, 0, bytes - r->bytes);
	r->at = arena_used;
	r->bytes = bytes;
	arena_used += (uint32_t)xf_up8(bytes);
	return body(r);
}

/* A copy with a body of its own. */
static bool copy_record(struct record *to, const struct record *from)
{
	if (arena_used + xf_up8(from->bytes) > ARENA_BYTES)
		return false;
	memcpy(arena + arena_used, body(from), from->bytes);
	*to = (struct record){ from->type, arena_used, from->bytes };
	arena_used += (uint32_t)xf_up8(from->bytes);
	return true;
}

/* Adds the sections of a stream behind those that are there. False where it cannot be taken apart. */
static bool take_stream(const uint8_t *stream, uint32_t bytes)
{
	if (bytes < IMAGE_HEADER_BYTES)
		return false;
	memcpy(image_header, stream, IMAGE_HEADER_BYTES);
	uint32_t at = IMAGE_HEADER_BYTES;
	while (bytes - at >= OPENING_BYTES && get(stream + at, 4) == XLU_TYPE_LU_SECTION) {
		struct xlu_section opening;
		memcpy(&opening, stream + at + RECORD_HEADER_BYTES, sizeof opening);
		at += OPENING_BYTES;
		if (opening.length > bytes - at || section_count == MOST_SECTIONS)
			return false;
		struct section *s = &sections[section_count++];
		*s = (struct section){ .pass = opening.pass, .domid = opening.domid };
		uint32_t end = at + (uint32_t)opening.length;
		while (end - at >= RECORD_HEADER_BYTES) {
			uint32_t length = (uint32_t)get(stream + at + 4, 4);
			if (length > end - at - RECORD_HEADER_BYTES || s->count == 256 ||
			    arena_used + xf_up8(length) > ARENA_BYTES)
				return false;
			struct record *r = &s->records[s->count++];
			*r = (struct record){ (uint32_t)get(stream + at, 4), arena_used, length };
			memcpy(arena + arena_used, stream + at + RECORD_HEADER_BYTES, length);
			arena_used += (uint32_t)xf_up8(length);
			size_t whole = RECORD_HEADER_BYTES + xf_up8(length);
			at = whole > end - at ? end : at + (uint32_t)whole;
		}
		at = end;
	}
	return section_count > 0;
}

static bool take_input(const struct xf_input *input)
{
	arena_used = 0;
	section_count = 0;
	if (!input->stream || !take_stream(input->stream, input->header.stream_bytes))
		return false;
	if (input->pages_bytes > sizeof page_items)
		return false;
	memcpy(page_items, input->pages, input->pages_bytes);
	page_items_bytes = input->pages_bytes;
	page_count = input->header.page_count;
	return true;
}

/* Where damage that repair would undo is left in: of one put together, at most one. */
enum damage { SOUND, DAMAGE_LENGTH, DAMAGE_COUNT, DAMAGE_HASH, DAMAGE_INDEX, DAMAGE_INDEX_HASH, DAMAGE_PADDING, DAMAGE_END,
	      DAMAGE_HEADER, DAMAGE_BODY_LENGTH, DAMAGES };

/* Writes all sections as a stream; 0 where it does not fit. */
static uint32_t put_stream(uint8_t *out, size_t most)
{
	enum damage damage = one_in(12) ? 1 + below(DAMAGES - 1) : SOUND;
	uint32_t hit = below(section_count);
	uint32_t at = IMAGE_HEADER_BYTES;
	uint32_t offsets[MOST_SECTIONS];
	if (most < IMAGE_HEADER_BYTES)
		return 0;
	memcpy(out, image_header, IMAGE_HEADER_BYTES);
	if (damage == DAMAGE_HEADER)
		out[below(IMAGE_HEADER_BYTES)] ^= 1u << below(8);
	for (uint32_t i = 0; i < section_count; i++) {
		struct section *s = &sections[i];
		offsets[i] = at;
		if (most - at < OPENING_BYTES)
			return 0;
		uint32_t first = at + OPENING_BYTES;
		uint32_t p = first;
		for (uint32_t r = 0; r < s->count; r++) {
			struct record *record = &s->records[r];
			size_t whole = RECORD_HEADER_BYTES + xf_up8(record->bytes);
			if (whole > most - p)
				return 0;
			put(out + p, 4, record->type);
			put(out + p + 4, 4, record->bytes);
			memset(out + p + whole - 8, 0, 8);
			memcpy(out + p + RECORD_HEADER_BYTES, body(record), record->bytes);
			if (record->bytes == 0)
				put(out + p + 4, 4, 0);
			if (i == hit && damage == DAMAGE_BODY_LENGTH && r == s->count / 2)
				put(out + p + 4, 4, one_in(2) ? random64() : record->bytes + 8);
			if (i == hit && damage == DAMAGE_PADDING && (record->bytes & 7) != 0)
				out[p + whole - 1] = 1;
			p += (uint32_t)whole;
		}
		struct xlu_section opening = { .pass = s->pass, .domid = (uint16_t)s->domid, .length = p - first,
					       .recordCount = s->count };
		opening.hash = xf_hash(out + first, p - first);
		if (i == hit && damage == DAMAGE_LENGTH)
			opening.length += one_in(2) ? 8 : random64();
		if (i == hit && damage == DAMAGE_COUNT)
			opening.recordCount++;
		if (i == hit && damage == DAMAGE_HASH)
			opening.hash ^= 1;
		put(out + at, 4, XLU_TYPE_LU_SECTION);
		put(out + at + 4, 4, sizeof opening);
		memcpy(out + at + RECORD_HEADER_BYTES, &opening, sizeof opening);
		at = p;
	}
	uint32_t head = (uint32_t)sizeof(struct xlu_index);
	uint32_t bytes = head + section_count * (uint32_t)sizeof(struct xlu_index_entry);
	if (most - at < RECORD_HEADER_BYTES * 2 + bytes)
		return 0;
	put(out + at, 4, XLU_TYPE_LU_INDEX);
	put(out + at + 4, 4, bytes);
	uint8_t *index = out + at + RECORD_HEADER_BYTES;
	for (uint32_t i = 0; i < section_count; i++) {
		struct xlu_section opening;
		memcpy(&opening, out + offsets[i] + RECORD_HEADER_BYTES, sizeof opening);
		struct xlu_index_entry entry = { .pass = opening.pass, .domid = opening.domid, .offset = offsets[i],
						 .length = opening.length, .hash = opening.hash,
						 .recordCount = opening.recordCount };
		memcpy(index + head + i * sizeof entry, &entry, sizeof entry);
	}
	if (damage == DAMAGE_INDEX)
		index[head + below(bytes - head)] ^= 1u << below(8);
	struct xlu_index header = { .hash = xf_hash(index + head, bytes - head), .sectionCount = section_count };
	if (damage == DAMAGE_INDEX_HASH)
		header.hash ^= 1;
	memcpy(index, &header, sizeof header);
	at += RECORD_HEADER_BYTES + bytes;
	memset(out + at, 0, RECORD_HEADER_BYTES);
	at += RECORD_HEADER_BYTES;
	if (damage == DAMAGE_END && most - at >= 8) {
		memset(out + at, one_in(2), 8);
		at += 8;
	}
	return at;
}

/* --- what is in a body --- */

/* Rows of a part: where, how many, how large. */
struct rows {
	const struct xf_part *part;
	const struct xf_struct *row;
	uint32_t at; /* in the body; of a sparse table its rows, not its runs */
	uint32_t count;
	uint32_t runs; /* of a sparse table */
};

/* Part `index` of a record; false where the body is too short for what it says. */
static bool find_rows(const struct record *r, const struct xf_record *def, uint32_t index, struct rows *rows)
{
	uint64_t at = def->head < 0 ? 0 : xf_structs[def->head].size;
	for (uint32_t i = 0; i <= index; i++) {
		const struct xf_part *part = &xf_parts[def->part_first + i];
		if (at > r->bytes)
			return false;
		*rows = (struct rows){ .part = part, .row = &xf_structs[part->row], .at = (uint32_t)at };
		uint64_t count = 0;
		if (part->kind == XF_SPARSE) {
			if (r->bytes < 12)
				return false;
			rows->runs = (uint32_t)get(body(r) + 4, 4);
			count = get(body(r) + 8, 4);
			uint64_t from = at + (uint64_t)rows->runs * 8;
			if (from > r->bytes)
				return false;
			rows->at = (uint32_t)from;
		} else if (part->count_mode == XF_COUNT_FIXED) {
			count = part->count;
		} else if (part->count_mode == XF_COUNT_FIELD && part->kind != XF_CHUNKS) {
			if (part->count + 4 > r->bytes)
				return false;
			count = get(body(r) + part->count, 4);
		} else {
			count = (r->bytes - at) / (part->kind == XF_CHUNKS ? 1 : rows->row->size);
		}
		uint64_t bytes = count * (part->kind == XF_CHUNKS ? 1 : rows->row->size);
		if (rows->at + bytes > r->bytes)
			return false;
		rows->count = (uint32_t)count;
		at = (rows->at + bytes + 7) & ~7ull;
	}
	return true;
}

static struct record *any_record(uint32_t *section)
{
	for (int tries = 0; tries < 8; tries++) {
		struct section *s = &sections[*section = below(section_count)];
		if (s->count)
			return &s->records[below(s->count)];
	}
	return NULL;
}

/* A record of one of the schema's types, each type as likely as any other: rare ones are not drowned by many vCPUs. */
static struct record *record_by_type(void)
{
	uint32_t section;
	for (int tries = 0; tries < 6; tries++) {
		uint32_t type = xf_records[below(XF_RECORD_COUNT)].type;
		uint32_t from = below(section_count);
		for (uint32_t i = 0; i < section_count; i++) {
			struct section *s = &sections[(from + i) % section_count];
			uint32_t start = below(s->count ? s->count : 1);
			for (uint32_t k = 0; k < s->count; k++)
				if (s->records[(start + k) % s->count].type == type)
					return &s->records[(start + k) % s->count];
		}
	}
	return any_record(&section);
}

/* A struct somewhere in a record: its head, or a row. */
static const struct xf_struct *any_struct(const struct record *r, uint32_t *at)
{
	const struct xf_record *def = record_of(r->type);
	if (!def)
		return NULL;
	if (def->part_count && (def->head < 0 || !one_in(3))) {
		struct rows rows;
		if (find_rows(r, def, below(def->part_count), &rows) && rows.part->kind != XF_CHUNKS && rows.count) {
			*at = rows.at + below(rows.count) * rows.row->size;
			return rows.row;
		}
	}
	if (def->head < 0 || xf_structs[def->head].size > r->bytes)
		return NULL;
	*at = 0;
	return &xf_structs[def->head];
}

/* --- values --- */

/* What a field of that name, or else of that width, holds somewhere else in the stream. */
static bool value_from_elsewhere(const struct xf_field *field, uint64_t *value)
{
	for (int tries = 0; tries < 24; tries++) {
		const struct record *r = record_by_type();
		uint32_t at;
		const struct xf_struct *s = r ? any_struct(r, &at) : NULL;
		if (!s)
			continue;
		for (uint32_t i = 0; i < s->field_count; i++) {
			const struct xf_field *other = &xf_fields[s->field_first + i];
			if (other->name != field->name && (tries < 18 || other->width != field->width))
				continue;
			*value = get(body(r) + at + other->offset + below(other->length) * other->width, other->width);
			return true;
		}
	}
	return false;
}

static uint64_t host_frames(void)
{
	for (uint32_t i = 0; i < section_count; i++)
		for (uint32_t k = 0; k < sections[i].count; k++)
			if (sections[i].records[k].type == XLU_TYPE_LU_HOST && sections[i].records[k].bytes >= 8)
				return get(body(&sections[i].records[k]), 8);
	return 1024;
}

static uint64_t interesting(uint32_t width)
{
	static const uint64_t values[] = {
		0, 1, 2, 3, 7, 8, 9, 10, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 511, 512, 1023, 1024, 2048, 4095, 4096, 4097,
		8191, 8192, 0x7fef, XLU_DOMID_SELF, XLU_DOMID_IO, XLU_DOMID_XEN, XLU_DOMID_COW, XLU_DOMID_INVALID, 0x7fff, 0x8000,
		0xfff0, 0xffff, 0x10000, 131071, 131072, 1u << 20, 1u << 28, 1u << 29, 0x7fffffff, 0x80000000, 0xfffffffe,
		0xffffffff, 1ull << 32, 1ull << 39, 1ull << 40, 1ull << 51, 1ull << 52, 1ull << 63, UINT64_MAX - 1, UINT64_MAX,
	};
	switch (below(5)) {
	case 0: return 1ull << below(width * 8);
	case 1: return (1ull << below(width * 8)) - 1;
	case 2: return host_frames() + below(3) - 1;
	default: return values[below(sizeof values / sizeof *values)];
	}
}

static uint64_t new_value(const struct xf_field *field, uint64_t old)
{
	uint64_t value;
	switch (below(field->named_count ? 10 : 6)) {
	case 0: return interesting(field->width);
	case 1: return old + 1 + below(one_in(3) ? 4096 : 4);
	case 2: return old - 1 - below(one_in(3) ? 4096 : 4);
	case 3: return old ^ (1ull << below(field->width * 8));
	case 4:
	case 5: return value_from_elsewhere(field, &value) ? value + (one_in(4) ? below(3) - 1 : 0) : interesting(field->width);
	default: break;
	}
	value = xf_values[field->named_first + below(field->named_count)];
	if (field->kind == XF_FLAGS)
		return old ^ value;
	return one_in(8) ? value + 1 : value;
}

/* --- changes; each is false where it found nothing to change --- */

static bool change_field(void)
{
	struct record *r = one_in(3) ? any_record(&(uint32_t){ 0 }) : record_by_type();
	uint32_t at;
	const struct xf_struct *s = r ? any_struct(r, &at) : NULL;
	if (!s || s->field_count == 0)
		return false;
	const struct xf_field *field = &xf_fields[s->field_first + below(s->field_count)];
	if (field->kind == XF_RESERVED && !one_in(8))
		return false;
	uint8_t *p = body(r) + at + field->offset + below(field->length) * field->width;
	put(p, field->width, new_value(field, get(p, field->width)));
	return true;
}

/* The same number in two places, or in all: what renames a domain, moves a frame, swaps two ports. */
static bool change_everywhere(void)
{
	struct record *r = record_by_type();
	uint32_t at;
	const struct xf_struct *s = r ? any_struct(r, &at) : NULL;
	if (!s || s->field_count == 0)
		return false;
	const struct xf_field *field = &xf_fields[s->field_first + below(s->field_count)];
	uint64_t old = get(body(r) + at + field->offset, field->width);
	uint64_t value = new_value(field, old);
	if (field->kind == XF_RESERVED || field->width < 2)
		return false;
	for (uint32_t i = 0; i < section_count; i++) {
		for (uint32_t k = 0; k < sections[i].count; k++) {
			const struct record *other = &sections[i].records[k];
			for (uint32_t p = 0; p + field->width <= other->bytes; p += field->width)
				if (get(body(other) + p, field->width) == old && !one_in(8))
					put(body(other) + p, field->width, value);
		}
		if (sections[i].domid == old && field->width == 2)
			sections[i].domid = (uint32_t)value & 0xffff;
	}
	return true;
}

/* Puts `bytes` octets of `from` into a body, or takes them out. */
static bool splice_body(struct record *r, uint32_t at, uint32_t out, const uint8_t *from, uint32_t bytes)
{
	uint32_t old = r->bytes;
	uint8_t row[4096];
	if (bytes > sizeof row || at + out > old)
		return false;
	if (bytes)
		memcpy(row, from, bytes);
	uint32_t longer = old - out + bytes;
	if (longer > old && !resize(r, longer))
		return false;
	memmove(body(r) + at + bytes, body(r) + at + out, old - at - out);
	if (bytes)
		memcpy(body(r) + at, row, bytes);
	r->bytes = longer;
	return true;
}

/* A row less, twice, or in another one's place; the head's count follows. */
static bool change_rows(void)
{
	struct record *r = record_by_type();
	const struct xf_record *def = r ? record_of(r->type) : NULL;
	struct rows rows;
	if (!def || def->part_count == 0 || !find_rows(r, def, below(def->part_count), &rows) ||
	    rows.part->kind == XF_CHUNKS || rows.row->size > 2048)
		return false;
	uint32_t size = rows.row->size;
	uint32_t change = below(4);
	if (rows.count == 0 && change != 3)
		return false;
	uint32_t row = rows.at + below(rows.count ? rows.count : 1) * size;
	int32_t more = 0;
	if (change == 0) {
		uint8_t first[2048];
		uint32_t other = rows.at + below(rows.count) * size;
		memcpy(first, body(r) + row, size);
		memcpy(body(r) + row, body(r) + other, size);
		memcpy(body(r) + other, first, size);
		return true;
	}
	if (rows.part->kind == XF_ROWS && (size & 7) != 0)
		return false;
	if (rows.part->kind == XF_SPARSE)
		row = rows.at + (rows.count ? rows.count - 1 : 0) * size;
	if (change == 1) {
		if (!splice_body(r, row, size, NULL, 0))
			return false;
		more = -1;
	} else if (change == 2) {
		if (!splice_body(r, row, 0, body(r) + row, size))
			return false;
		more = 1;
	} else {
		uint8_t empty[2048] = { 0 };
		for (uint32_t i = 0; i < rows.row->field_count; i++) {
			const struct xf_field *field = &xf_fields[rows.row->field_first + i];
			if (field->kind != XF_RESERVED)
				put(empty + field->offset, field->width, new_value(field, 0));
		}
		if (!splice_body(r, rows.count ? row : rows.at, 0, empty, size))
			return false;
		more = 1;
	}
	if (one_in(16))
		return true;
	if (rows.part->kind == XF_SPARSE) {
		put(body(r) + 8, 4, get(body(r) + 8, 4) + (uint64_t)more);
		if (more > 0)
			put(body(r), 4, get(body(r), 4) + 1);
	} else if (rows.part->count_mode == XF_COUNT_FIELD) {
		put(body(r) + rows.part->count, 4, rows.count + (uint32_t)more);
	}
	return true;
}

static bool change_records(void)
{
	uint32_t section;
	struct record *r = any_record(&section);
	if (!r)
		return false;
	struct section *s = &sections[section];
	uint32_t index = (uint32_t)(r - s->records);
	struct section *to = one_in(2) ? s : &sections[below(section_count)];
	uint32_t change = below(5);
	struct record copy;
	if (change == 0 || change == 1) {
		/* Taken out; or put into another place, or another section. */
		copy = *r;
		memmove(r, r + 1, (s->count - index - 1) * sizeof *r);
		s->count--;
		if (change == 0)
			return true;
	} else if (change == 2) {
		if (!copy_record(&copy, r))
			return false;
	} else if (change == 3) {
		struct record *other = &s->records[below(s->count)];
		copy = *r;
		*r = *other;
		*other = copy;
		return true;
	} else {
		/* Another record of that type in its place: another domain's, another vCPU's. */
		struct section *from = &sections[below(section_count)];
		for (uint32_t i = 0; i < from->count; i++)
			if (from->records[i].type == r->type && &from->records[i] != r)
				return copy_record(r, &from->records[i]);
		r->type = one_in(2) ? xf_records[below(XF_RECORD_COUNT)].type : r->type ^ (1u << below(32));
		return true;
	}
	if (to->count == 256)
		return false;
	uint32_t place = below(to->count + 1);
	memmove(&to->records[place + 1], &to->records[place], (to->count - place) * sizeof *r);
	to->records[place] = copy;
	to->count++;
	return true;
}

static bool copy_section(struct section *to, const struct section *from)
{
	*to = *from;
	for (uint32_t i = 0; i < from->count; i++)
		if (!copy_record(&to->records[i], &from->records[i]))
			return false;
	return true;
}

static bool change_sections(void)
{
	static struct section swap;
	uint32_t a = below(section_count), b = below(section_count);
	switch (below(6)) {
	case 0:
		if (section_count == 1)
			return false;
		memmove(&sections[a], &sections[a + 1], (section_count - a - 1) * sizeof *sections);
		section_count--;
		return true;
	case 1:
		if (section_count == MOST_SECTIONS || !copy_section(&sections[section_count], &sections[a]))
			return false;
		swap = sections[section_count];
		memmove(&sections[b + 1], &sections[b], (section_count - b) * sizeof *sections);
		sections[b] = swap;
		section_count++;
		return true;
	case 2:
		sections[a].domid = one_in(2) ? sections[b].domid : (uint32_t)interesting(2) & 0xffff;
		return true;
	case 3:
		sections[a].pass = below(6);
		return true;
	case 4: {
		/* All sections of a domain go. */
		uint32_t domid = sections[a].domid, kept = 0;
		if (domid == XLU_DOMID_XEN)
			return false;
		for (uint32_t i = 0; i < section_count; i++)
			kept += sections[i].domid != domid;
		/* Without a section there is nothing to put together. */
		if (kept == 0)
			return false;
		section_count = 0;
		for (uint32_t i = 0; section_count < kept; i++)
			if (sections[i].domid != domid)
				sections[section_count++] = sections[i];
		return true;
	}
	default:
		/* Domains of one pass may come in any order. */
		if (one_in(8) || sections[a].pass == sections[b].pass) {
			swap = sections[a];
			sections[a] = sections[b];
			sections[b] = swap;
			return true;
		}
		return false;
	}
}

/* --- chunks: decoded to their entries, changed, coded anew --- */

static uint64_t entries[CHUNK_ENTRIES];

static uint64_t entry_at(const uint8_t *values, uint32_t i, uint32_t width)
{
	return get(values + i * width, width);
}

/* Decodes a chunk; false where it is not sound enough. */
static bool decode_chunk(const uint8_t *chunk, uint32_t left, uint32_t element, uint32_t *count, uint32_t *bytes)
{
	if (left < CHUNK_HEADER_BYTES)
		return false;
	uint32_t form = chunk[0], width = chunk[1];
	uint32_t payload = (uint32_t)get(chunk + 4, 4);
	const uint8_t *p = chunk + CHUNK_HEADER_BYTES;
	*count = (uint32_t)get(chunk + 2, 2);
	*bytes = CHUNK_HEADER_BYTES + payload;
	if (payload > left - CHUNK_HEADER_BYTES || *count == 0 || *count > CHUNK_ENTRIES)
		return false;
	if (form == 1) {
		uint32_t runs = payload >= 8 ? (uint32_t)get(p, 4) : 0;
		if (runs == 0 || runs > CHUNK_ENTRIES || 8 + runs * (element + 2) > payload)
			return false;
		const uint8_t *values = element == 8 ? p + 8 : p + 8 + runs * 2;
		const uint8_t *lengths = element == 8 ? p + 8 + runs * 8 : p + 8;
		uint32_t at = 0;
		for (uint32_t r = 0; r < runs; r++) {
			uint64_t value = entry_at(values, r, element);
			for (uint64_t n = get(lengths + r * 2, 2); n > 0; n--) {
				if (at == *count)
					return false;
				entries[at++] = value;
				value += element == 8 ? value >> 63 : 0;
			}
		}
		return at == *count;
	}
	if (form == 2 && element == 8) {
		if (width < 1 || width > 7 || 8 + *count * width > payload)
			return false;
		uint64_t base = get(p, 8);
		for (uint32_t i = 0; i < *count; i++)
			entries[i] = base ^ entry_at(p + 8, i, width);
		return true;
	}
	if (form != 3 || *count * element > payload)
		return false;
	for (uint32_t i = 0; i < *count; i++)
		entries[i] = entry_at(p, i, element);
	return true;
}

static bool continues(uint64_t before, uint64_t entry, uint32_t element)
{
	if (element == 1)
		return entry == before;
	return entry == before + (before >> 63) && (before ^ entry) >> 40 == 0;
}

/* Codes `count` entries as RUNS where that is shorter, else as LITERAL, sometimes the other way round. */
static uint32_t encode_chunk(uint8_t *out, uint32_t most, uint32_t count, uint32_t element)
{
	uint32_t runs = 1;
	for (uint32_t i = 1; i < count; i++)
		runs += !continues(entries[i - 1], entries[i], element);
	uint32_t as_runs = (uint32_t)xf_up8(8 + runs * (element + 2));
	uint32_t as_literal = (uint32_t)xf_up8(count * element);
	bool is_literal = (as_literal < as_runs) != one_in(64);
	uint32_t payload = is_literal ? as_literal : as_runs;
	if (CHUNK_HEADER_BYTES + payload > most)
		return 0;
	memset(out, 0, CHUNK_HEADER_BYTES + payload);
	out[0] = is_literal ? 3 : 1;
	put(out + 2, 2, count);
	put(out + 4, 4, payload);
	uint8_t *p = out + CHUNK_HEADER_BYTES;
	if (is_literal) {
		for (uint32_t i = 0; i < count; i++)
			put(p + i * element, element, entries[i]);
		return CHUNK_HEADER_BYTES + payload;
	}
	put(p, 4, runs);
	uint8_t *values = element == 8 ? p + 8 : p + 8 + runs * 2;
	uint8_t *lengths = element == 8 ? p + 8 + runs * 8 : p + 8;
	uint32_t run = 0, first = 0;
	for (uint32_t i = 1; i <= count; i++) {
		if (i < count && continues(entries[i - 1], entries[i], element))
			continue;
		put(values + run * element, element, entries[first]);
		put(lengths + run * 2, 2, i - first);
		run++;
		first = i;
	}
	return CHUNK_HEADER_BYTES + payload;
}

/* Another entry: of frames its owner, flags; of a P2M its frame, type, access, order; of types the type and its flags. */
static uint64_t new_entry(uint64_t old, uint32_t element, uint32_t type)
{
	const struct xf_field domid = { .width = 2, .name = XF_NAME_DOMID };
	uint64_t value;
	switch (below(7)) {
	case 0: return 0;
	case 1: return old ^ (1ull << below(element * 8));
	case 2: return type == XLU_TYPE_LU_FRAMES ? old ^ (1ull << (16 + below(12))) : old ^ (1ull << (40 + below(24)));
	case 3: return type == XLU_TYPE_LU_FRAMES && value_from_elsewhere(&domid, &value) ? (old & ~0xffffull) | value : old + 1;
	case 4: return (old & ~0xffffffffffull) | below((uint32_t)host_frames() + 2);
	case 5: return old + (random64() & 0x1ff);
	default: return random64();
	}
}

static bool change_chunks(void)
{
	static const uint32_t types[] = { XLU_TYPE_LU_P2M, XLU_TYPE_LU_FRAMES, XLU_TYPE_LU_PAGE_TYPES };
	static uint8_t coded[CHUNK_HEADER_BYTES + CHUNK_ENTRIES * 8 + 16];
	uint32_t type = types[below(3)];
	uint32_t from = below(section_count);
	struct record *r = NULL;
	for (uint32_t i = 0; i < section_count && !r; i++) {
		struct section *s = &sections[(from + i) % section_count];
		for (uint32_t k = 0; k < s->count; k++)
			if (s->records[k].type == type && (!r || one_in(3)))
				r = &s->records[k];
	}
	const struct xf_record *def = r ? record_of(type) : NULL;
	struct rows rows;
	if (!def || !find_rows(r, def, 0, &rows) || rows.count < CHUNK_HEADER_BYTES)
		return false;
	uint32_t element = rows.row->size;
	/* Which of the chunks. */
	uint32_t at = rows.at, count, bytes;
	for (uint32_t skip = below(3); skip > 0; skip--) {
		uint64_t next = at + CHUNK_HEADER_BYTES + get(body(r) + at + 4, 4);
		if (next + CHUNK_HEADER_BYTES >= r->bytes)
			break;
		at = (uint32_t)next;
	}
	if (!decode_chunk(body(r) + at, r->bytes - at, element, &count, &bytes))
		return false;
	for (uint32_t changes = 1 + below(3); changes > 0; changes--) {
		/* At the edge of a run more often than in it: there is where things are. */
		uint32_t first = below(count);
		if (!one_in(4))
			while (first > 0 && continues(entries[first - 1], entries[first], element))
				first--;
		uint32_t end = first + 1;
		if (one_in(3))
			end = first + 1 + below(count - first);
		else if (one_in(2))
			while (end < count && continues(entries[end - 1], entries[end], element))
				end++;
		uint64_t value = one_in(3) ? entries[below(count)] : new_entry(entries[first], element, type);
		for (uint32_t i = first; i < end; i++) {
			entries[i] = element == 1 ? value & 0xff : value;
			value += element == 8 ? value >> 63 : 0;
		}
	}
	uint32_t made = encode_chunk(coded, sizeof coded, count, element);
	uint32_t rest = r->bytes - at - bytes;
	uint32_t old = r->bytes;
	if (made > bytes && !resize(r, old - bytes + made))
		return false;
	memmove(body(r) + at + made, body(r) + at + bytes, rest);
	memcpy(body(r) + at, coded, made);
	r->bytes = old - bytes + made;
	/* The head says how many octets of chunks there are. */
	for (uint32_t i = 0; i < xf_structs[def->head].field_count; i++) {
		const struct xf_field *field = &xf_fields[xf_structs[def->head].field_first + i];
		if (field->name == XF_NAME_CHUNK_BYTES)
			put(body(r) + field->offset, 4, r->bytes - rows.at);
	}
	return true;
}

/* Octets of a body as libFuzzer likes: blobs are made of things that the schema does not know. */
static bool change_octets(void)
{
	struct record *r = record_by_type();
	const struct xf_record *def = r ? record_of(r->type) : NULL;
	if (!def)
		return false;
	uint32_t from = def->head < 0 ? 0 : xf_structs[def->head].size;
	if (from >= r->bytes || r->bytes - from > 65536)
		return false;
	if (one_in(2)) {
		uint32_t width = 1u << below(4);
		uint32_t at = from + below((r->bytes - from) / width) * width;
		if (at + width > r->bytes)
			return false;
		put(body(r) + at, width, one_in(2) ? interesting(width) : get(body(r) + at, width) ^ (1ull << below(width * 8)));
		return true;
	}
	uint32_t bytes = r->bytes - from, most = bytes + 64;
	if (!resize(r, from + most))
		return false;
	r->bytes = from + (uint32_t)LLVMFuzzerMutate(body(r) + from, bytes, most);
	return true;
}

/* The HVM context's entries: {type u16, instance u16, length u32, octets}, END behind the last. */
static bool change_hvm_context(void)
{
	struct record *found[16];
	uint32_t records = 0;
	for (uint32_t i = 0; i < section_count; i++)
		for (uint32_t k = 0; k < sections[i].count && records < 16; k++)
			if (sections[i].records[k].type == XLU_TYPE_HVM_CONTEXT)
				found[records++] = &sections[i].records[k];
	if (records == 0)
		return false;
	struct record *r = found[below(records)];
	uint32_t at[128], count = 0;
	for (uint32_t p = 0; p + 8 <= r->bytes && count < 128;) {
		uint32_t length = (uint32_t)get(body(r) + p + 4, 4);
		if (length > r->bytes - p - 8)
			break;
		at[count++] = p;
		p += 8 + length;
	}
	if (count == 0)
		return false;
	uint32_t p = at[below(count)];
	uint32_t length = 8 + (uint32_t)get(body(r) + p + 4, 4);
	switch (below(6)) {
	case 0: put(body(r) + p, 2, one_in(2) ? below(24) : interesting(2)); return true;
	case 1: put(body(r) + p + 2, 2, one_in(2) ? below(4) : interesting(2)); return true;
	case 2: put(body(r) + p + 4, 4, one_in(2) ? interesting(4) : get(body(r) + p + 4, 4) + below(17) - 8); return true;
	case 3: return splice_body(r, p, length, NULL, 0);
	case 4: return splice_body(r, at[below(count)], 0, body(r) + p, length);
	default: {
		/* Longer or shorter by a few octets, and its length says so. */
		uint32_t more = below(16);
		uint8_t zeros[16] = { 0 };
		put(body(r) + p + 4, 4, length - 8 + more);
		return splice_body(r, p + length, 0, zeros, more);
	}
	}
}

/* --- the preserved memory --- */

static uint32_t item_at(uint32_t index)
{
	uint32_t at = 0;
	for (uint32_t i = 0; i < index; i++)
		at += (uint32_t)(sizeof(struct xf_page_item) + xf_up8(get(page_items + at + 12, 4)));
	return at;
}

static bool change_pages(void)
{
	if (page_count == 0)
		return false;
	uint32_t index = below(page_count);
	uint32_t at = item_at(index);
	struct xf_page_item item;
	memcpy(&item, page_items + at, sizeof item);
	uint32_t whole = (uint32_t)(sizeof item + xf_up8(item.bytes));
	switch (below(8)) {
	case 0:
		memmove(page_items + at, page_items + at + whole, page_items_bytes - at - whole);
		page_items_bytes -= whole;
		page_count--;
		return true;
	case 1: {
		const struct xf_field mfn = { .width = 8, .name = XF_NAME_MFN };
		uint64_t value;
		item.mfn = value_from_elsewhere(&mfn, &value) && one_in(2) ? value : item.mfn + below(3) - 1;
		memcpy(page_items + at, &item, sizeof item);
		return true;
	}
	default:
		break;
	}
	/* An entry of a page table, or what stands in its place. */
	if (item.bytes < 8)
		return false;
	uint8_t *p = page_items + at + sizeof item + below(item.bytes / 8) * 8;
	switch (below(4)) {
	case 0: put(p, 8, interesting(8)); break;
	case 1: put(p, 8, get(p, 8) ^ (1ull << below(one_in(2) ? 12 : 64))); break;
	case 2: put(p, 8, (get(p, 8) & 0xfff) | (uint64_t)below((uint32_t)host_frames() + 2) << 12); break;
	default: put(p, 8, get(page_items + at + sizeof item + below(item.bytes / 8) * 8, 8)); break;
	}
	return true;
}

/* --- libFuzzer's entries --- */

static size_t put_input(struct xf_input_header header, const uint8_t *edits, uint8_t *data, size_t most)
{
	static uint8_t out[4u << 20];
	if (most > sizeof out)
		most = sizeof out;
	size_t at = XF_HEADER_BYTES;
	header.stream_bytes = put_stream(out + at, most > at ? most - at : 0);
	if (header.stream_bytes == 0)
		return 0;
	memset(out + at + header.stream_bytes, 0, xf_up8(header.stream_bytes) - header.stream_bytes);
	at += xf_up8(header.stream_bytes);
	size_t edit_bytes = header.edit_count * sizeof(struct xf_edit);
	if (page_items_bytes + edit_bytes > most - at)
		return 0;
	memcpy(out + at, page_items, page_items_bytes);
	at += page_items_bytes;
	memcpy(out + at, edits, edit_bytes);
	at += edit_bytes;
	header.page_count = page_count;
	memcpy(out, &header, sizeof header);
	memcpy(data, out, at);
	return at;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
	static bool (*const changes[])(void) = {
		change_field, change_field, change_field, change_field, change_everywhere, change_rows, change_rows,
		change_records, change_sections, change_chunks, change_chunks, change_octets, change_hvm_context, change_pages,
	};
	state = seed * 0x9e3779b97f4a7c15ull + 1;
	struct xf_input input;
	size_t accepted_size = 0;
	const uint8_t *accepted = one_in(2) ? xf_accepted(random64() >> 8, &accepted_size) : NULL;
	if (accepted && accepted_size <= most) {
		memcpy(data, accepted, accepted_size);
		size = accepted_size;
	}
	xf_take_apart(data, size, &input);
	if (one_in(32) || !take_input(&input))
		return LLVMFuzzerMutate(data, size, most);
	struct xf_edit edits[16];
	memcpy(edits, input.edits, input.header.edit_count * sizeof *edits);
	if (one_in(6)) {
		input.header.mode ^= 1u << below(XF_MODES);
		if (one_in(8))
			input.header.mode ^= (1 + below(XF_DAMAGES)) << XF_MODE_DAMAGE_SHIFT;
	}
	if (one_in(6)) {
		if (one_in(3) && input.header.edit_count)
			input.header.edit_count--;
		else if (input.header.edit_count < 16)
			/* Directories stand at the front. */
			edits[input.header.edit_count++] = (struct xf_edit){
				.offset = one_in(2) ? below(4096) & ~3u : (uint32_t)random64(), .width = below(4), .value = interesting(8)
			};
	}
	for (uint32_t n = 1 + (one_in(2) ? 0 : below(4)); n > 0; n--)
		for (int tries = 0; tries < 8 && !changes[below(sizeof changes / sizeof *changes)](); tries++)
			;
	size_t made = put_input(input.header, (const uint8_t *)edits, data, most);
	return made ? made : LLVMFuzzerMutate(data, size, most);
}

/* Sections, or the records of one type, from another input. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size, uint8_t *out,
				 size_t most, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size, uint8_t *out,
				 size_t most, unsigned seed)
{
	state = seed * 0x9e3779b97f4a7c15ull + 1;
	struct xf_input a, b;
	xf_take_apart(one, one_size, &a);
	xf_take_apart(other, other_size, &b);
	if (!b.stream || !take_input(&a))
		return 0;
	uint8_t header[IMAGE_HEADER_BYTES];
	memcpy(header, image_header, sizeof header);
	uint32_t mine = section_count;
	if (!take_stream(b.stream, b.header.stream_bytes) || section_count == mine)
		return 0;
	memcpy(image_header, header, sizeof header);
	uint32_t theirs = section_count - mine;
	for (uint32_t n = 1 + below(3); n > 0; n--) {
		struct section *from = &sections[mine + below(theirs)];
		for (uint32_t i = 0; i < mine; i++) {
			struct section *to = &sections[i];
			if (to->pass != from->pass || (to->domid != from->domid && !one_in(4)))
				continue;
			if (one_in(3)) {
				*to = *from;
				break;
			}
			if (from->count == 0)
				break;
			struct record *r = &from->records[below(from->count)];
			for (uint32_t k = 0; k < to->count; k++)
				if (to->records[k].type == r->type && (to->records[k] = *r, true))
					break;
			break;
		}
	}
	section_count = mine;
	return put_input(a.header, a.edits, out, most);
}
