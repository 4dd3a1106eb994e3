/*
 * A peer that codes tables: peer FILE
 *
 * FILE has the tables and what the core made of them, little-endian:
 *
 *     0           8                                          8 + 24 n
 *     | n u64     | n x (element octets, entries, coded) u64 | table, coding, each zero padded to 64 from here, n times ...
 *
 * Before it says "ready" it has coded every table and compared the octets with the core's, and decoded and compared the
 * table: what does not write the same stream is not timed.
 *
 *     encode N | decode N | copy N     all tables, N times over
 */
#include "commands.h"
#include "peer.h"

enum { MOST_TABLES = 256, ALIGN = 64 };

static struct table {
	uint32_t element_bytes, entries, coded;
	uint64_t bytes;
	uint8_t *table, *coding, *target;
} tables[MOST_TABLES];
static uint64_t table_count;
static uint8_t *out;

static uint64_t aligned(uint64_t bytes)
{
	return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Codings one after the other, as in a stream. */
static void encode_all(void)
{
	uint8_t *at = out;
	for (uint64_t i = 0; i < table_count; i++)
		at += peer_encode(tables[i].element_bytes, tables[i].table, tables[i].entries, at);
}

static void decode_all(void)
{
	for (uint64_t i = 0; i < table_count; i++) {
		struct table *t = &tables[i];
		peer_decode(t->element_bytes, t->coding, t->coded, t->entries, t->target);
	}
}

static void copy_all(void)
{
	for (uint64_t i = 0; i < table_count; i++)
		memcpy(tables[i].target, tables[i].table, tables[i].bytes);
}

static uint64_t run(const char *name, uint32_t times)
{
	void (*work)(void) = strcmp(name, "encode") == 0   ? encode_all
			     : strcmp(name, "decode") == 0 ? decode_all
			     : strcmp(name, "copy") == 0   ? copy_all
							   : NULL;
	if (work == NULL)
		return 0;
	uint64_t start = now_ns();
	for (uint32_t i = 0; i < times; i++)
		work();
	return now_ns() - start;
}

static void load(const char *path)
{
	uint64_t file_bytes, all = 0, room = 0;
	uint8_t *file = read_file(path, &file_bytes);
	const uint64_t *heads = (const uint64_t *)file;
	table_count = heads[0];
	if (table_count > MOST_TABLES) {
		fprintf(stderr, "peer: too many tables\n");
		exit(2);
	}
	for (uint64_t i = 0; i < table_count; i++) {
		const uint64_t *head = heads + 1 + 3 * i;
		struct table *t = &tables[i];
		t->element_bytes = (uint32_t)head[0];
		t->entries = (uint32_t)head[1];
		t->coded = (uint32_t)head[2];
		t->bytes = head[0] * head[1];
		all += 2 * aligned(t->bytes) + aligned(t->coded);
		/* Every chunk of 4096 entries as it is, with its header. */
		room += t->bytes + t->bytes / 512 + 64;
	}
	peer_start(all + aligned(room));
	const uint8_t *at = file + aligned(8 + 24 * table_count);
	for (uint64_t i = 0; i < table_count; i++) {
		struct table *t = &tables[i];
		t->table = peer_allocate(aligned(t->bytes));
		t->target = peer_allocate(aligned(t->bytes));
		t->coding = peer_allocate(aligned(t->coded));
		memcpy(t->table, at, t->bytes);
		at += aligned(t->bytes);
		memcpy(t->coding, at, t->coded);
		at += aligned(t->coded);
	}
	out = peer_allocate(aligned(room));
	free(file);
}

static void compare(void)
{
	encode_all();
	decode_all();
	const uint8_t *at = out;
	for (uint64_t i = 0; i < table_count; i++) {
		if (memcmp(at, tables[i].coding, tables[i].coded) != 0) {
			fprintf(stderr, "peer: table %llu: another stream than the core's\n", (unsigned long long)i);
			exit(1);
		}
		if (memcmp(tables[i].target, tables[i].table, tables[i].bytes) != 0) {
			fprintf(stderr, "peer: table %llu: another table came out\n", (unsigned long long)i);
			exit(1);
		}
		at += tables[i].coded;
	}
}

int main(int count, char **arguments)
{
	if (count != 2) {
		fputs("usage: peer FILE\n", stderr);
		return 2;
	}
	load(arguments[1]);
	compare();
	return serve(run);
}
